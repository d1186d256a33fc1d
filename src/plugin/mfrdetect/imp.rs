use std::sync::{Arc, LazyLock, Mutex};

use gst::glib;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::BaseTransformMode;
use gst_base::subclass::prelude::*;
use gst_video::subclass::prelude::*;

use crate::detect::{
    self, DEFAULT_MIN_FACE_SIZE, DEFAULT_SCALE_FACTOR, DEFAULT_THRESHOLDS, Detector, Face,
    MIN_FACE_SIZES, Params, SCALE_FACTORS, parse_regions,
};
use crate::geometry::Rect;
use crate::plugin::frame::{self, Input};
use crate::plugin::meta;
use crate::plugin::models::{self, ModelSettings, lock};
use crate::runtime::RuntimeError;

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "mfrdetect",
        gst::DebugColorFlags::empty(),
        Some("Face detection"),
    )
});

const DEFAULT_MAX_FACES: u32 = 0;

#[derive(Debug, Clone, Default)]
struct Settings {
    params: Params,
    /// As set; `params.regions` holds what it means.
    inference_region: String,
    model: ModelSettings,
}

/// How long a face is looked for with less evidence where it was last seen clearly.
const REMEMBERED: gst::ClockTime = gst::ClockTime::from_seconds(1);

/// How long a face must have been clear to be remembered: what is none is seldom taken for one so long.
const STEADY: gst::ClockTime = gst::ClockTime::from_mseconds(300);

/// Least intersection over union of a face in two frames.
const SAME_FACE: f32 = 0.3;

struct State {
    detector: Arc<Mutex<Detector>>,
    last_id: i32,
    recent: Recent,
}

/// The faces of the frames before.
#[derive(Debug, Default)]
struct Recent {
    faces: Vec<Seen>,
}

/// A face, upright, and when it was first and last clear.
#[derive(Debug, Clone, Copy)]
struct Seen {
    rect: Rect,
    first: gst::ClockTime,
    clear: gst::ClockTime,
}

impl Seen {
    fn is_recent(&self, now: gst::ClockTime) -> bool {
        self.clear <= now && now - self.clear <= REMEMBERED
    }
}

impl Recent {
    /// Where faces are to be expected at a time; nowhere where there is none, or it runs backwards.
    fn known(&self, now: Option<gst::ClockTime>) -> Vec<Rect> {
        let Some(now) = now else { return Vec::new() };
        self.faces
            .iter()
            .filter(|seen| seen.is_recent(now) && seen.clear - seen.first >= STEADY)
            .map(|seen| seen.rect)
            .collect()
    }

    /// Remembers what was found, and what was not but may come back; `confidence` is that of a clear
    /// face.
    fn update(&mut self, found: &[detect::Face], confidence: f32, now: Option<gst::ClockTime>) {
        let mut before = std::mem::take(&mut self.faces);
        let Some(now) = now else { return };
        before.retain(|seen| seen.is_recent(now));
        for face in found {
            let same = before
                .iter()
                .filter(|seen| seen.rect.iou(&face.rect) >= SAME_FACE)
                .max_by_key(|seen| seen.clear);
            let seen = if face.confidence >= confidence {
                Some((same.map_or(now, |seen| seen.first), now))
            } else {
                same.map(|seen| (seen.first, seen.clear))
            };
            self.faces.extend(seen.map(|(first, clear)| Seen {
                rect: face.rect,
                first,
                clear,
            }));
        }
        let is_lost = |rect: &Rect| found.iter().all(|f| f.rect.iou(rect) < SAME_FACE);
        before.retain(|seen| is_lost(&seen.rect));
        self.faces.extend(before);
    }
}

#[derive(Default)]
pub struct MfrDetect {
    settings: Mutex<Settings>,
    state: Mutex<Option<State>>,
    input: Mutex<Input>,
}

impl MfrDetect {
    fn detect(&self, buffer: &mut gst::BufferRef) -> Result<(), gst::ErrorMessage> {
        let params = lock(&self.settings).params.clone();
        let input = lock(&self.input);
        let size = input.size()?;
        let (orientation, stored) = input.turn()?;
        let mut state = lock(&self.state);
        let state = state.as_mut().ok_or_else(frame::not_started)?;
        let now = buffer.pts();
        let params = Params {
            known: state.recent.known(now),
            ..upright(params, |r| orientation.rect_to_upright(r, stored))
        };
        let faces = input
            .read(buffer, |view| lock(&state.detector).detect(view, &params))?
            .map_err(|e| models::error_message(&e))?;
        gst::log!(CAT, imp = self, "{} faces", faces.len());
        state.recent.update(&faces, params.thresholds[2], now);
        for face in faces {
            // Ids stay above 0 however long the stream runs.
            state.last_id = state.last_id.checked_add(1).unwrap_or(1);
            let face = Face {
                rect: orientation.rect_to_stored(face.rect, stored),
                landmarks: orientation.landmarks_to_stored(&face.landmarks, stored),
                ..face
            };
            meta::add_face(buffer, &face, state.last_id, size);
        }
        let faces = meta::faces(buffer, size);
        meta::update_mirror(buffer, &faces, size);
        Ok(())
    }
}

/// Regions are set in pixels of the incoming frame, and looked at upright.
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
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            let threshold = |name: &str, nick: &str, default: f32| {
                glib::ParamSpecDouble::builder(name)
                    .nick(nick)
                    .blurb("Least probability that lets a candidate pass this stage")
                    .minimum(0.0)
                    .maximum(1.0)
                    .default_value(shortest(default))
                    .mutable_playing()
                    .build()
            };
            let mut properties = vec![
                glib::ParamSpecUInt::builder("min-face-size")
                    .nick("Least face size")
                    .blurb("Shortest side of the smallest face looked for, in pixels of the incoming frame")
                    .minimum(*MIN_FACE_SIZES.start())
                    .maximum(*MIN_FACE_SIZES.end())
                    .default_value(DEFAULT_MIN_FACE_SIZE)
                    .mutable_playing()
                    .build(),
                threshold("pnet-threshold", "P-Net threshold", DEFAULT_THRESHOLDS[0]),
                threshold("rnet-threshold", "R-Net threshold", DEFAULT_THRESHOLDS[1]),
                threshold("onet-threshold", "O-Net threshold", DEFAULT_THRESHOLDS[2]),
                glib::ParamSpecDouble::builder("scale-factor")
                    .nick("Scale factor")
                    .blurb("Size of a pyramid level in sizes of the level before; smaller is faster and finds less")
                    .minimum(shortest(*SCALE_FACTORS.start()))
                    .maximum(shortest(*SCALE_FACTORS.end()))
                    .default_value(shortest(DEFAULT_SCALE_FACTOR))
                    .mutable_playing()
                    .build(),
                glib::ParamSpecUInt::builder("max-faces")
                    .nick("Most faces")
                    .blurb("Keep only so many of the largest faces; 0 = no limit")
                    .default_value(DEFAULT_MAX_FACES)
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
            properties
        });
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        let mut settings = lock(&self.settings);
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
            "inference-region" => {
                settings.inference_region = text().unwrap_or_default();
                match parse_regions(&settings.inference_region) {
                    Ok(regions) => settings.params.regions = regions,
                    // A property cannot fail: start() does, and a running stream is warned.
                    Err(error) => {
                        drop(settings);
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

/// A float as the double that is written with the same few digits: .7 and not .699999988.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

impl GstObjectImpl for MfrDetect {}

impl ElementImpl for MfrDetect {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Face detector",
                "Filter/Analyzer/Video",
                "Finds faces (MTCNN) and attaches them as regions of interest of type face",
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

impl BaseTransformImpl for MfrDetect {
    const MODE: BaseTransformMode = BaseTransformMode::AlwaysInPlace;
    const PASSTHROUGH_ON_SAME_CAPS: bool = false;
    const TRANSFORM_IP_ON_PASSTHROUGH: bool = false;

    fn start(&self) -> Result<(), gst::ErrorMessage> {
        let settings = lock(&self.settings).clone();
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
        *lock(&self.state) = Some(State {
            detector,
            last_id: 0,
            recent: Recent::default(),
        });
        gst::debug!(CAT, imp = self, "{} started", detect::NAME);
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        *lock(&self.state) = None;
        *lock(&self.input) = Input::default();
        Ok(())
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        lock(&self.input).notice(&event);
        self.parent_sink_event(event)
    }

    // Not transform_frame_ip: metas cannot be added safely while a frame is mapped.
    fn transform_ip(
        &self,
        buffer: &mut gst::BufferRef,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        self.detect(buffer).map_err(|error| {
            gst::error!(CAT, imp = self, "{error}");
            self.post_error_message(error);
            gst::FlowError::Error
        })?;
        Ok(gst::FlowSuccess::Ok)
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
        if let Some(state) = lock(&self.state).as_mut() {
            state.recent = Recent::default();
        }
        lock(&self.input).set_info(in_info)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Landmarks;

    const HERE: Rect = Rect::new(100.0, 100.0, 80.0, 100.0);

    fn face(rect: Rect, confidence: f32) -> detect::Face {
        detect::Face {
            rect,
            confidence,
            landmarks: Landmarks::default(),
        }
    }

    fn at(ms: u64) -> Option<gst::ClockTime> {
        Some(gst::ClockTime::from_mseconds(ms))
    }

    /// A face that was clear for so long, from the beginning.
    fn seen_for(ms: u64) -> Recent {
        let mut recent = Recent::default();
        for ms in (0..=ms).step_by(50) {
            recent.update(&[face(HERE, 0.9)], 0.7, at(ms));
        }
        recent
    }

    #[test]
    fn a_face_is_remembered_for_a_second_after_it_was_clear() {
        let mut recent = seen_for(300);
        for ms in [340, 800, 1260] {
            assert_eq!(recent.known(at(ms)), [HERE], "{ms}");
            recent.update(&[face(HERE, 0.4)], 0.7, at(ms));
        }
        // Faint evidence alone does not keep it.
        assert_eq!(recent.known(at(1340)), []);
    }

    #[test]
    fn what_was_clear_for_a_few_frames_is_not_remembered() {
        assert_eq!(seen_for(250).known(at(300)), []);
    }

    #[test]
    fn a_face_that_is_lost_for_some_frames_is_expected_back() {
        let mut recent = seen_for(500);
        let elsewhere = Rect::new(400.0, 100.0, 80.0, 100.0);
        for ms in (550..=900).step_by(50) {
            recent.update(&[face(elsewhere, 0.9)], 0.7, at(ms));
        }
        assert_eq!(recent.known(at(950)), [elsewhere, HERE]);
        recent.update(&[], 0.7, at(1520));
        assert_eq!(recent.known(at(1550)), [elsewhere]);
    }

    #[test]
    fn nothing_is_remembered_without_time_or_of_the_future() {
        let mut recent = seen_for(500);
        assert_eq!(recent.known(at(400)), []);
        assert_eq!(recent.known(None), []);
        recent.update(&[face(HERE, 0.9)], 0.7, None);
        assert_eq!(recent.known(at(550)), []);
        // Something faint where there was nothing.
        recent.update(&[face(HERE, 0.4)], 0.7, at(6000));
        assert_eq!(recent.known(at(6040)), []);
    }
}
