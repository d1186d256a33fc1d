use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex};

use gst::glib;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::BaseTransformMode;
use gst_base::subclass::prelude::*;
use gst_video::subclass::prelude::*;

use crate::draw::{
    Annotation, DEFAULT_FONT_SIZE, DEFAULT_LINE_WIDTH, IdentityState, Overlay, Painter, Steady,
    Style,
};
use crate::embed::mask;
use crate::frame::image::PixelFormat;
use crate::frame::orientation::Orientation;
use crate::plugin::filter::{self, FrameFilter};
use crate::plugin::frame::{self, FrameError};
use crate::plugin::meta::{self, Face};
use crate::plugin::stream::{Frame, Stream};
use crate::threads::lock;

pub(super) static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "mfroverlay",
        gst::DebugColorFlags::empty(),
        Some("Drawing of faces and names"),
    )
});

const DEFAULT_SHOW_IDENTITY: bool = true;
const DEFAULT_SHOW_MASK: bool = true;
const DEFAULT_SHOW_LANDMARKS: bool = true;
const DEFAULT_SHOW_LEGEND: bool = false;

/// Format of overlay rectangles, which may be AYUV or native-endian ARGB.
const OVERLAY_FORMAT: (gst_video::VideoFormat, PixelFormat) = if cfg!(target_endian = "little") {
    (gst_video::VideoFormat::Bgra, PixelFormat::Bgra)
} else {
    (gst_video::VideoFormat::Argb, PixelFormat::Argb)
};

#[derive(Default)]
pub struct MfrOverlay {
    style: Mutex<Style>,
    drawing: Mutex<Option<Drawing>>,
    stream: Stream,
    /// Whether annotations are attached as an overlay composition instead of drawn into the pixels.
    attach: AtomicBool,
}

/// State that is kept from frame to frame.
#[derive(Default)]
struct Drawing {
    painter: Painter,
    steady: Steady,
    orientation: Orientation,
}

impl Drawing {
    fn forget(&mut self) {
        self.painter.forget();
        self.steady.forget();
    }
}

impl MfrOverlay {
    /// Announces the caps downstream, and queries whether an element there blends overlay compositions.
    fn is_laid_over_downstream(&self, caps: &gst::Caps) -> bool {
        let obj = self.obj();
        // Converters cannot answer before their caps are set.
        obj.src_pad().push_event(gst::event::Caps::new(caps));
        let mut query = gst::query::Allocation::new(Some(caps), false);
        obj.src_pad().peer_query(&mut query)
            && query
                .find_allocation_meta::<gst_video::VideoOverlayCompositionMeta>()
                .is_some()
    }
}

impl FrameFilter for MfrOverlay {
    const HAS_INFERENCE: bool = false;
    const NEEDS_FACES: bool = true;

    fn category(&self) -> gst::DebugCategory {
        *CAT
    }

    fn stream(&self) -> &Stream {
        &self.stream
    }

    fn process(
        &self,
        frame: &Frame,
        buffer: &mut gst::BufferRef,
    ) -> Result<Vec<gst::Message>, FrameError> {
        let style = *lock(&self.style);
        let input = &frame.input;
        let (orientation, stored) = input.turn()?;
        let mut faces = meta::faces(buffer, input.size()?);
        for face in &mut faces {
            face.rect = orientation.rect_to_upright(face.rect, stored);
            face.landmarks = face
                .landmarks
                .map(|l| orientation.landmarks_to_upright(&l, stored));
        }
        let mut drawing = lock(&self.drawing);
        let drawing = drawing.as_mut().ok_or_else(frame::not_started)?;
        let is_turned = std::mem::replace(&mut drawing.orientation, orientation) != orientation;
        if is_turned || frame.is_discontinuous {
            drawing.forget();
        }
        let found: Vec<_> = faces.iter().map(annotation).collect();
        let annotations = drawing.steady.update(Some(frame.now), &found);
        gst::log!(
            CAT,
            imp = self,
            "{} faces, {} drawn",
            found.len(),
            annotations.len()
        );
        if annotations.is_empty() && !style.show_legend {
            // Mapping a shared buffer for writing would copy it for nothing.
            return Ok(Vec::new());
        }
        let painter = &mut drawing.painter;
        if !self.attach.load(Ordering::Relaxed) {
            input.write(buffer, |image| painter.draw(image, &annotations, &style))?;
            return Ok(Vec::new());
        }
        let (width, height) = input.size()?;
        let size = (width as usize, height as usize);
        let overlays = painter
            .overlays(size, orientation, OVERLAY_FORMAT.1, &annotations, &style)
            .map_err(|e| gst::error_msg!(gst::StreamError::Format, ("{e}")))?;
        attach(buffer, overlays)?;
        Ok(Vec::new())
    }

    fn reset(&self) -> Vec<gst::Message> {
        if let Some(drawing) = lock(&self.drawing).as_mut() {
            drawing.forget();
        }
        Vec::new()
    }
}

/// Attaches the overlays as a composition, which an element downstream blends over the frame.
fn attach(buffer: &mut gst::BufferRef, overlays: Vec<Overlay>) -> Result<(), gst::ErrorMessage> {
    let rectangles = overlays.into_iter().map(|overlay| {
        let [width, height] = [overlay.width, overlay.height].map(|v| v as u32);
        let mut pixels = gst::Buffer::from_mut_slice(overlay.pixels);
        let format = OVERLAY_FORMAT.0;
        gst_video::VideoMeta::add(
            pixels.make_mut(),
            gst_video::VideoFrameFlags::empty(),
            format,
            width,
            height,
        )?;
        Ok(gst_video::VideoOverlayRectangle::new_raw(
            &pixels,
            overlay.x as i32,
            overlay.y as i32,
            width,
            height,
            // Alpha is straight, not premultiplied.
            gst_video::VideoOverlayFormatFlags::empty(),
        ))
    });
    let rectangles: Vec<_> = rectangles
        .collect::<Result<_, glib::BoolError>>()
        .map_err(|e| gst::error_msg!(gst::StreamError::Format, ("{e}")))?;
    // Collected from references: `gst_video_overlay_composition_add_rectangle` takes a reference of its own, and
    // collecting owned rectangles (gstreamer-video 0.25.4) would leak another.
    let composition: gst_video::VideoOverlayComposition = rectangles.iter().collect();
    gst_video::VideoOverlayCompositionMeta::add(buffer, &composition);
    Ok(())
}

/// The caps with the feature for overlay compositions.
fn with_composition(caps: &gst::Caps) -> gst::Caps {
    map_features(caps, |features| {
        features.add(gst_video::CAPS_FEATURE_META_GST_VIDEO_OVERLAY_COMPOSITION);
    })
}

fn without_composition(caps: &gst::Caps) -> gst::Caps {
    map_features(caps, |features| {
        features.remove(gst_video::CAPS_FEATURE_META_GST_VIDEO_OVERLAY_COMPOSITION);
    })
}

fn map_features(caps: &gst::Caps, change: impl Fn(&mut gst::CapsFeatures)) -> gst::Caps {
    let structures = caps.iter_with_features().map(|(structure, features)| {
        let mut features = features.to_owned();
        // ANY caps features cannot be changed and match with and without the feature.
        if !features.is_any() {
            change(&mut features);
        }
        (structure.to_owned(), features)
    });
    structures.collect()
}

/// The annotation of a face.
fn annotation(face: &Face) -> Annotation<'_> {
    let identity = face.identity.as_ref();
    let known = identity.filter(|i| i.is_known());
    Annotation {
        id: face.id,
        rect: face.rect,
        landmarks: face.landmarks,
        state: match (identity, known) {
            (None, _) => IdentityState::Pending,
            (Some(_), None) => IdentityState::Unknown,
            (Some(_), Some(_)) => IdentityState::Known,
        },
        name: known.map_or("", |i| &i.label),
        similarity: identity.map(|i| i.similarity as f32),
        masked: face.mask.as_ref().map(|m| m.label == mask::WITH_MASK),
    }
}

#[glib::object_subclass]
impl ObjectSubclass for MfrOverlay {
    const NAME: &'static str = "GstMfrOverlay";
    type Type = super::MfrOverlay;
    type ParentType = gst_video::VideoFilter;
}

impl ObjectImpl for MfrOverlay {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            let show = |name: &str, nick: &str, blurb: &str, default: bool| {
                glib::ParamSpecBoolean::builder(name)
                    .nick(nick)
                    .blurb(blurb)
                    .default_value(default)
                    .mutable_playing()
                    .controllable()
                    .build()
            };
            vec![
                show(
                    "show-identity",
                    "Show identity",
                    "Draw name and similarity",
                    DEFAULT_SHOW_IDENTITY,
                ),
                show(
                    "show-mask",
                    "Show mask state",
                    "Draw whether a mask is worn, where it is known",
                    DEFAULT_SHOW_MASK,
                ),
                show(
                    "show-landmarks",
                    "Show landmarks",
                    "Draw eyes, nose and corners of the mouth",
                    DEFAULT_SHOW_LANDMARKS,
                ),
                show(
                    "show-legend",
                    "Show legend",
                    "Draw a key of the colours in the lower left corner",
                    DEFAULT_SHOW_LEGEND,
                ),
                glib::ParamSpecUInt::builder("line-width")
                    .nick("Line width")
                    .blurb("Width of the box's line in pixels; 0 = by the size of frame and face")
                    .maximum(64)
                    .default_value(DEFAULT_LINE_WIDTH)
                    .mutable_playing()
                    .controllable()
                    .build(),
                glib::ParamSpecUInt::builder("font-size")
                    .nick("Font size")
                    .blurb("Height of the text in pixels; 0 = by the size of frame and face")
                    .maximum(256)
                    .default_value(DEFAULT_FONT_SIZE)
                    .mutable_playing()
                    .controllable()
                    .build(),
            ]
        });
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        let mut style = lock(&self.style);
        let flag = || value.get::<bool>().expect("type checked upstream");
        let uint = || value.get::<u32>().expect("type checked upstream");
        match pspec.name() {
            "show-identity" => style.show_identity = flag(),
            "show-mask" => style.show_mask = flag(),
            "show-landmarks" => style.show_landmarks = flag(),
            "show-legend" => style.show_legend = flag(),
            "line-width" => style.line_width = uint(),
            "font-size" => style.font_size = uint(),
            _ => {}
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        let style = lock(&self.style);
        match pspec.name() {
            "show-identity" => style.show_identity.to_value(),
            "show-mask" => style.show_mask.to_value(),
            "show-landmarks" => style.show_landmarks.to_value(),
            "show-legend" => style.show_legend.to_value(),
            "line-width" => style.line_width.to_value(),
            "font-size" => style.font_size.to_value(),
            _ => pspec.default_value().clone(),
        }
    }
}

impl GstObjectImpl for MfrOverlay {}

impl ElementImpl for MfrOverlay {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Face overlay",
                "Filter/Editor/Video",
                "Draws boxes, names, similarities, mask states and landmarks of faces",
                filter::AUTHOR,
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let mut templates = frame::pad_templates();
            for template in &mut templates {
                if template.direction() == gst::PadDirection::Src {
                    let mut caps = with_composition(template.caps());
                    caps.merge(template.caps().clone());
                    *template = gst::PadTemplate::new(
                        template.name_template(),
                        template.direction(),
                        template.presence(),
                        &caps,
                    )
                    .expect("made from a template");
                }
            }
            templates
        });
        &TEMPLATES
    }
}

impl BaseTransformImpl for MfrOverlay {
    const MODE: BaseTransformMode = BaseTransformMode::AlwaysInPlace;
    const PASSTHROUGH_ON_SAME_CAPS: bool = false;
    const TRANSFORM_IP_ON_PASSTHROUGH: bool = false;

    fn start(&self) -> Result<(), gst::ErrorMessage> {
        *lock(&self.drawing) = Some(Drawing::default());
        self.stream.set_started(true);
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        *lock(&self.drawing) = None;
        self.stream.set_started(false);
        Ok(())
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        filter::sink_event(self, event)
    }

    fn src_event(&self, event: gst::Event) -> bool {
        filter::src_event(self, event)
    }

    fn query(&self, direction: gst::PadDirection, query: &mut gst::QueryRef) -> bool {
        filter::query(self, direction, query)
    }

    fn transform_caps(
        &self,
        direction: gst::PadDirection,
        caps: &gst::Caps,
        filter: Option<&gst::Caps>,
    ) -> Option<gst::Caps> {
        // A composition can be added; frames that already have one are not accepted.
        let mut other = match direction {
            _ if caps.is_any() => caps.clone(),
            gst::PadDirection::Sink => with_composition(caps),
            _ => without_composition(caps),
        };
        other.merge(caps.clone());
        Some(match filter {
            Some(filter) => filter.intersect_with_mode(&other, gst::CapsIntersectMode::First),
            None => other,
        })
    }

    // Like GStreamer's own overlay elements: the caps announce compositions only if elements
    // downstream accept such caps and answer that compositions are blended over the frames.
    fn fixate_caps(
        &self,
        direction: gst::PadDirection,
        caps: &gst::Caps,
        others: gst::Caps,
    ) -> gst::Caps {
        let composed = with_composition(caps);
        let can_draw = others.can_intersect(caps);
        if direction != gst::PadDirection::Sink {
            self.parent_fixate_caps(direction, caps, others)
        } else if others.can_intersect(&composed)
            && (!can_draw || self.is_laid_over_downstream(&composed))
        {
            composed
        } else {
            caps.clone()
        }
    }

    // transform_ip and not transform_frame_ip, because the metas are read before the frame is mapped.
    fn transform_ip(
        &self,
        buffer: &mut gst::BufferRef,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        filter::transform_ip(self, buffer)
    }
}

impl VideoFilterImpl for MfrOverlay {
    fn set_info(
        &self,
        _incaps: &gst::Caps,
        in_info: &gst_video::VideoInfo,
        outcaps: &gst::Caps,
        _out_info: &gst_video::VideoInfo,
    ) -> Result<(), gst::LoggableError> {
        let attach = outcaps.features(0).is_some_and(|features| {
            features.contains(gst_video::CAPS_FEATURE_META_GST_VIDEO_OVERLAY_COMPOSITION)
        });
        gst::debug!(CAT, imp = self, "attaches a composition: {attach}");
        self.attach.store(attach, Ordering::Relaxed);
        self.reset();
        self.stream.set_info(in_info)?;
        Ok(())
    }
}
