use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use gst::glib;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::BaseTransformMode;
use gst_base::subclass::prelude::*;
use gst_video::subclass::prelude::*;

use crate::detect::{
    self, DEFAULT_MIN_FACE_SIZE, DEFAULT_SCALE_FACTOR, DEFAULT_THRESHOLDS, Detector, Face,
    MAX_CANDIDATES, MIN_FACE_SIZES, Params, SCALE_FACTORS, parse_regions,
};
use crate::frame::geometry::Rect;
use crate::frame::orientation::Orientation;
use crate::nn::RuntimeError;
use crate::plugin::filter::{self, FrameFilter};
use crate::plugin::frame::{self, FrameError};
use crate::plugin::load::Pressure;
use crate::plugin::meta;
use crate::plugin::models::{self, ModelSettings, Worker};
use crate::plugin::stream::{Frame, Stream};
use crate::threads::linger::linger;
use crate::threads::lock;
use crate::track::{Effort, Finder, Interval, Plan};

pub(super) static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "mfrdetect",
        gst::DebugColorFlags::empty(),
        Some("Face detection"),
    )
});

const DEFAULT_MAX_FACES: u32 = 0;

/// Time that a search in a frame of a live stream may take, so that all processing fits within a frame interval.
const LIVE_BUDGET: Duration = Duration::from_millis(15);

/// The value 0 means automatic.
const DEFAULT_INFERENCE_INTERVAL: u32 = 0;
const DEFAULT_TRACKING: bool = true;

#[derive(Debug, Clone)]
struct Settings {
    params: Params,
    inference_interval: u32,
    tracking: bool,
    /// The property's text; `params.regions` has the parsed regions.
    inference_region: String,
    model: ModelSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            params: Params::default(),
            inference_interval: DEFAULT_INFERENCE_INTERVAL,
            tracking: DEFAULT_TRACKING,
            inference_region: String::new(),
            model: ModelSettings::default(),
        }
    }
}

struct State {
    detector: Worker<Detector>,
    finder: Finder,
    /// By the tag of the stream.
    orientation: Orientation,
    /// Whether it has been reported that some candidates are skipped.
    is_reported: bool,
}

#[derive(Default)]
pub struct MfrDetect {
    settings: Mutex<Arc<Settings>>,
    state: Mutex<Option<State>>,
    stream: Stream,
    /// Text of the property `engine`.
    engine: Mutex<Option<String>>,
}

impl MfrDetect {
    /// Warns of a region without a pixel in the frame, in which no face can be found.
    fn check_regions(&self) {
        let Ok((width, height)) = self.stream.input().size() else {
            return;
        };
        let frame = Rect::new(0.0, 0.0, width as f32, height as f32);
        let regions = lock(&self.settings).params.regions.clone();
        for region in regions {
            if region.intersection(&frame).area() <= 0.0 {
                let Rect { x, y, .. } = region;
                gst::element_imp_warning!(
                    self,
                    gst::LibraryError::Settings,
                    (
                        "inference-region: {x},{y},{},{} lies outside the frame of {width}×{height} pixels",
                        region.width,
                        region.height
                    )
                );
            }
        }
    }
}

impl MfrDetect {
    fn too_many_candidates(&self) -> gst::Message {
        let [rnet, onet] = MAX_CANDIDATES;
        let text = format!(
            "more places that may be faces than are looked at ({rnet} by R-Net, {onet} by O-Net): the likeliest are. Higher \
             thresholds, a larger min-face-size or a smaller scale-factor leave fewer"
        );
        let warning = gst::message::Warning::builder(gst::LibraryError::Settings, &text);
        warning.src(&*self.obj()).build()
    }
}

impl FrameFilter for MfrDetect {
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
        let settings = Arc::clone(&lock(&self.settings));
        let input = &frame.input;
        let size = input.size()?;
        let (orientation, stored) = input.turn()?;
        let params = upright(settings.params.clone(), |r| {
            orientation.rect_to_upright(r, stored)
        });
        let mut state = lock(&self.state);
        let state = state.as_mut().ok_or_else(frame::not_started)?;
        if std::mem::replace(&mut state.orientation, orientation) != orientation {
            state.finder.forget_turn();
        }
        let turn = state.finder.turn();
        let plan = Plan {
            now: frame.now,
            frame_interval: frame.interval,
            interval: match settings.inference_interval {
                0 => Interval::Automatic,
                n => Interval::Frames(n),
            },
            tracking: settings.tracking,
            effort: match frame.pressure {
                // Wrongly decoded macroblocks can lead to false detections.
                _ if frame.is_corrupted => Effort::Ignore,
                Pressure::None => Effort::Search,
                Pressure::Late => Effort::Follow,
                Pressure::TooLate => Effort::Predict,
            },
            budget: frame.is_live.then_some(LIVE_BUDGET),
        };
        let faces = input
            .read(buffer, |view| {
                let detector = &mut state.detector.model;
                state.finder.find(detector, view, &params, plan)
            })?
            .map_err(|e| models::error_message(&e))?;
        gst::log!(CAT, imp = self, "{:?}: {} faces", plan.effort, faces.len());
        if state.finder.turn() != turn {
            let turn = state.finder.turn();
            gst::info!(CAT, imp = self, "people are upright by {turn:?}");
        }
        for (id, face) in faces {
            let face = Face {
                rect: orientation.rect_to_stored(face.rect, stored),
                landmarks: orientation.landmarks_to_stored(&face.landmarks, stored),
                ..face
            };
            meta::add_face(buffer, &face, id, size);
        }
        let faces = meta::faces(buffer, size);
        meta::update_mirror(buffer, &faces, size);
        let is_capped = state.detector.model.is_capped();
        let is_news = is_capped && !std::mem::replace(&mut state.is_reported, is_capped);
        Ok(is_news
            .then(|| self.too_many_candidates())
            .into_iter()
            .collect())
    }

    fn reset(&self) -> Vec<gst::Message> {
        if let Some(state) = lock(&self.state).as_mut() {
            state.finder.reset();
        }
        Vec::new()
    }
}

/// Converts regions from pixels of the incoming frame to upright coordinates.
fn upright(mut params: Params, turn: impl Fn(Rect) -> Rect) -> Params {
    for region in &mut params.regions {
        *region = turn(*region);
    }
    params
}

#[glib::object_subclass]
impl ObjectSubclass for MfrDetect {
    const NAME: &'static str = "GstMfrDetect";
    type Type = super::MfrDetect;
    type ParentType = gst_video::VideoFilter;
}

impl ObjectImpl for MfrDetect {
    fn constructed(&self) {
        self.parent_constructed();
        // With QoS, GstVideoFilter would drop late frames; this element skips inference instead.
        self.obj().set_property("qos", false);
    }

    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            const PASS: &str = "Least probability that lets a candidate pass this stage";
            let threshold = |name: &str, nick: &str, blurb: &str, default: f32| {
                glib::ParamSpecDouble::builder(name)
                    .nick(nick)
                    .blurb(blurb)
                    .minimum(0.0)
                    .maximum(1.0)
                    .default_value(shortest(default))
                    .mutable_playing()
                    .controllable()
                    .build()
            };
            let mut properties = vec![
                glib::ParamSpecUInt::builder("min-face-size")
                    .nick("Least face size")
                    .blurb("Shorter side of the smallest face looked for, in pixels of the incoming frame")
                    .minimum(*MIN_FACE_SIZES.start())
                    .maximum(*MIN_FACE_SIZES.end())
                    .default_value(DEFAULT_MIN_FACE_SIZE)
                    .mutable_playing()
                    .controllable()
                    .build(),
                threshold("pnet-threshold", "P-Net threshold", "Least probability that lets a candidate pass this stage; twice its odds for faces up to 1.7 times min-face-size", DEFAULT_THRESHOLDS[0]),
                threshold("rnet-threshold", "R-Net threshold", PASS, DEFAULT_THRESHOLDS[1]),
                threshold("onet-threshold", "O-Net threshold", PASS, DEFAULT_THRESHOLDS[2]),
                glib::ParamSpecDouble::builder("scale-factor")
                    .nick("Scale factor")
                    .blurb("Size of a pyramid level in sizes of the level before; smaller is faster and finds less")
                    .minimum(shortest(*SCALE_FACTORS.start()))
                    .maximum(shortest(*SCALE_FACTORS.end()))
                    .default_value(shortest(DEFAULT_SCALE_FACTOR))
                    .mutable_playing()
                    .controllable()
                    .build(),
                glib::ParamSpecUInt::builder("max-faces")
                    .nick("Most faces")
                    .blurb("Keep only so many of the largest faces; 0 = no limit")
                    .default_value(DEFAULT_MAX_FACES)
                    .mutable_playing()
                    .controllable()
                    .build(),
                glib::ParamSpecUInt::builder("inference-interval")
                    .nick("Inference interval")
                    .blurb("Search the whole picture in every n-th frame and follow faces in between; 0 = automatic: every 200 ms, and lost faces where they should be; 1 = every frame")
                    .default_value(DEFAULT_INFERENCE_INTERVAL)
                    .mutable_playing()
                    .controllable()
                    .build(),
                glib::ParamSpecBoolean::builder("tracking")
                    .nick("Tracking")
                    .blurb("Follow faces: each keeps its id from frame to frame. Without, ids are new in every frame, and so is the search with inference-interval=0")
                    .default_value(DEFAULT_TRACKING)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecString::builder("inference-region")
                    .nick("Inference region")
                    .blurb("Where to look: \"x,y,w,h[;x,y,w,h...]\" in pixels; empty = whole frame")
                    .default_value("")
                    .mutable_playing()
                    .build(),
                glib::ParamSpecString::builder("model-path")
                    .nick("Model path")
                    .blurb("Folder with pnet.onnx, rnet.onnx and onet.onnx; null = those built in")
                    .mutable_ready()
                    .build(),
            ];
            properties.extend(ModelSettings::properties());
            properties.push(models::engine_property());
            properties
        });
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        if filter::refuses(self, pspec) {
            return;
        }
        let mut guard = lock(&self.settings);
        let settings = Arc::make_mut(&mut guard);
        let double = || value.get::<f64>().expect("type checked upstream") as f32;
        let uint = || value.get::<u32>().expect("type checked upstream");
        let text = || {
            value
                .get::<Option<String>>()
                .expect("type checked upstream")
        };
        match pspec.name() {
            "min-face-size" => settings.params.min_face_size = uint(),
            "pnet-threshold" => settings.params.thresholds[0] = double(),
            "rnet-threshold" => settings.params.thresholds[1] = double(),
            "onet-threshold" => settings.params.thresholds[2] = double(),
            "scale-factor" => settings.params.scale_factor = double(),
            "max-faces" => settings.params.max_faces = uint() as usize,
            "inference-interval" => settings.inference_interval = uint(),
            "tracking" => settings.tracking = value.get().expect("type checked upstream"),
            "inference-region" => {
                settings.inference_region = text().unwrap_or_default();
                match parse_regions(&settings.inference_region) {
                    Ok(regions) => {
                        settings.params.regions = regions;
                        drop(guard);
                        self.check_regions();
                    }
                    // Setting a property cannot fail, so start() fails instead, and a running stream gets a warning.
                    Err(error) => {
                        drop(guard);
                        gst::element_imp_warning!(
                            self,
                            gst::LibraryError::Settings,
                            ("inference-region is not used: {error}")
                        );
                    }
                }
            }
            "model-path" => settings.model.path = text().map(Into::into),
            name => {
                settings.model.set_property(name, value);
            }
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        let settings = lock(&self.settings);
        let params = &settings.params;
        match pspec.name() {
            "min-face-size" => params.min_face_size.to_value(),
            "pnet-threshold" => shortest(params.thresholds[0]).to_value(),
            "rnet-threshold" => shortest(params.thresholds[1]).to_value(),
            "onet-threshold" => shortest(params.thresholds[2]).to_value(),
            "scale-factor" => shortest(params.scale_factor).to_value(),
            "max-faces" => u32::try_from(params.max_faces)
                .unwrap_or(u32::MAX)
                .to_value(),
            "inference-interval" => settings.inference_interval.to_value(),
            "tracking" => settings.tracking.to_value(),
            "engine" => lock(&self.engine).to_value(),
            "inference-region" => settings.inference_region.to_value(),
            "model-path" => {
                let path = settings.model.path.as_ref();
                path.and_then(|p| p.to_str()).to_value()
            }
            name => settings
                .model
                .property(name)
                .unwrap_or_else(|| pspec.default_value().clone()),
        }
    }
}

/// Converts a float to the double with the same shortest decimal form: .7 and not .699999988.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

impl GstObjectImpl for MfrDetect {}

impl ElementImpl for MfrDetect {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Face detector",
                "Filter/FrameFilter/Video",
                "Finds faces (MTCNN) and attaches them as regions of interest of type face",
                filter::AUTHOR,
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(frame::pad_templates);
        &TEMPLATES
    }
}

impl BaseTransformImpl for MfrDetect {
    const MODE: BaseTransformMode = BaseTransformMode::AlwaysInPlace;
    const PASSTHROUGH_ON_SAME_CAPS: bool = false;
    const TRANSFORM_IP_ON_PASSTHROUGH: bool = false;

    fn start(&self) -> Result<(), gst::ErrorMessage> {
        let settings = Arc::clone(&lock(&self.settings));
        parse_regions(&settings.inference_region)
            .map_err(|e| gst::error_msg!(gst::LibraryError::Settings, ("inference-region: {e}")))?;
        let detector = models::get(&settings.model, |model, options| match &model.path {
            None => Detector::built_in(options),
            Some(folder) => Detector::from_folder(folder, options),
        })
        .map_err(|e: RuntimeError| {
            gst::error!(CAT, imp = self, "{e}");
            models::error_message(&e)
        })?;
        let engines = models::log_engines(*CAT, self.obj().upcast_ref(), &detector.model);
        *lock(&self.engine) = Some(engines);
        *lock(&self.state) = Some(State {
            detector,
            finder: Finder::default(),
            orientation: Orientation::default(),
            is_reported: false,
        });
        self.stream.set_started(true);
        gst::debug!(CAT, imp = self, "{} started", detect::NAME);
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        let state = lock(&self.state).take();
        *lock(&self.engine) = None;
        self.stream.set_started(false);
        if let Some(state) = state {
            linger(state.detector);
        }
        Ok(())
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        if event.type_() == gst::EventType::StreamStart
            && let Some(state) = lock(&self.state).as_mut()
        {
            state.finder.forget_turn();
        }
        filter::sink_event(self, event)
    }

    fn src_event(&self, event: gst::Event) -> bool {
        filter::src_event(self, event)
    }

    fn query(&self, direction: gst::PadDirection, query: &mut gst::QueryRef) -> bool {
        filter::query(self, direction, query)
    }

    // transform_ip and not transform_frame_ip, because metas cannot be added safely while a frame is mapped.
    fn transform_ip(
        &self,
        buffer: &mut gst::BufferRef,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        filter::transform_ip(self, buffer)
    }
}

impl VideoFilterImpl for MfrDetect {
    fn set_info(
        &self,
        _incaps: &gst::Caps,
        in_info: &gst_video::VideoInfo,
        _outcaps: &gst::Caps,
        _out_info: &gst_video::VideoInfo,
    ) -> Result<(), gst::LoggableError> {
        if let Some(before) = self.stream.set_info(in_info)? {
            let scale = self.stream.input().upright_scale(before);
            if let Some(state) = lock(&self.state).as_mut() {
                state.finder.rescale(scale);
            }
        }
        self.check_regions();
        Ok(())
    }
}
