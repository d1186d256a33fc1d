use std::sync::{LazyLock, Mutex};

use gst::glib;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::BaseTransformMode;
use gst_base::subclass::prelude::*;
use gst_video::subclass::prelude::*;

use crate::attribute;
use crate::draw::{
    Annotation, DEFAULT_FONT_SIZE, DEFAULT_LINE_WIDTH, IdentityState, Painter, Style,
};
use crate::plugin::frame::{self, Input};
use crate::plugin::meta::{self, Face};
use crate::plugin::models::lock;

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "mfroverlay",
        gst::DebugColorFlags::empty(),
        Some("Drawing of faces and names"),
    )
});

const DEFAULT_SHOW_IDENTITY: bool = true;
const DEFAULT_SHOW_MASK: bool = true;
const DEFAULT_SHOW_LANDMARKS: bool = true;

#[derive(Default)]
pub struct MfrOverlay {
    style: Mutex<Style>,
    painter: Mutex<Option<Painter>>,
    input: Mutex<Input>,
}

impl MfrOverlay {
    fn draw(&self, buffer: &mut gst::BufferRef) -> Result<(), gst::ErrorMessage> {
        let style = *lock(&self.style);
        let input = lock(&self.input);
        let mut faces = meta::faces(buffer, input.size()?);
        if faces.is_empty() {
            // Mapping for writing would copy a shared picture for nothing.
            return Ok(());
        }
        gst::log!(CAT, imp = self, "{} faces", faces.len());
        let (orientation, stored) = input.turn()?;
        for face in &mut faces {
            face.rect = orientation.rect_to_upright(face.rect, stored);
            face.landmarks = face
                .landmarks
                .map(|l| orientation.landmarks_to_upright(&l, stored));
        }
        let annotations: Vec<_> = faces.iter().map(annotation).collect();
        let mut painter = lock(&self.painter);
        let painter = painter.as_mut().ok_or_else(frame::not_started)?;
        input.write(buffer, |image| painter.draw(image, &annotations, &style))
    }
}

/// What to say about a face.
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
        masked: face.mask.as_ref().map(|m| m.label == attribute::WITH_MASK),
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
                glib::ParamSpecUInt::builder("line-width")
                    .nick("Line width")
                    .blurb("Width of the box's line in pixels; 0 = by the size of the frame")
                    .maximum(64)
                    .default_value(DEFAULT_LINE_WIDTH)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecUInt::builder("font-size")
                    .nick("Font size")
                    .blurb("Height of the text in pixels; 0 = by the size of the frame")
                    .maximum(256)
                    .default_value(DEFAULT_FONT_SIZE)
                    .mutable_playing()
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
                crate::plugin::AUTHOR,
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(frame::pad_templates);
        &TEMPLATES
    }
}

impl BaseTransformImpl for MfrOverlay {
    const MODE: BaseTransformMode = BaseTransformMode::AlwaysInPlace;
    const PASSTHROUGH_ON_SAME_CAPS: bool = false;
    const TRANSFORM_IP_ON_PASSTHROUGH: bool = false;

    fn start(&self) -> Result<(), gst::ErrorMessage> {
        *lock(&self.painter) = Some(Painter::new());
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        *lock(&self.painter) = None;
        *lock(&self.input) = Input::default();
        Ok(())
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        lock(&self.input).notice(&event);
        self.parent_sink_event(event)
    }

    // Not transform_frame_ip: the metas are read before the frame is mapped.
    fn transform_ip(
        &self,
        buffer: &mut gst::BufferRef,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        self.draw(buffer).map_err(|error| {
            gst::error!(CAT, imp = self, "{error}");
            self.post_error_message(error);
            gst::FlowError::Error
        })?;
        Ok(gst::FlowSuccess::Ok)
    }
}

impl VideoFilterImpl for MfrOverlay {
    fn set_info(
        &self,
        _incaps: &gst::Caps,
        in_info: &gst_video::VideoInfo,
        _outcaps: &gst::Caps,
        _out_info: &gst_video::VideoInfo,
    ) -> Result<(), gst::LoggableError> {
        lock(&self.input).set_info(in_info)
    }
}
