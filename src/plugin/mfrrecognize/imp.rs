use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Instant;

use gst::glib;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::BaseTransformMode;
use gst_base::subclass::prelude::*;
use gst_video::subclass::prelude::*;

use super::PostMessages;
use super::database::{Database, Model};
use super::presence::{Event, Presence};
use crate::embed::{self, DEFAULT_BATCH_SIZE, Embedded, Embedder};
use crate::gallery::GalleryError;
use crate::plugin::frame::{self, Input};
use crate::plugin::meta::{self, Face, Identity};
use crate::plugin::models::{self, ModelSettings, lock};
use crate::track::Tracks;

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "mfrrecognize",
        gst::DebugColorFlags::empty(),
        Some("Face recognition"),
    )
});

/// Below 0: the threshold that the gallery was calibrated with.
const DEFAULT_THRESHOLD: f64 = -1.0;
const DEFAULT_ATTACH_EMBEDDING: bool = false;

#[derive(Debug, Clone)]
struct Settings {
    database: Option<PathBuf>,
    threshold: f64,
    post_messages: PostMessages,
    attach_embedding: bool,
    model: ModelSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            database: None,
            threshold: DEFAULT_THRESHOLD,
            post_messages: PostMessages::default(),
            attach_embedding: DEFAULT_ATTACH_EMBEDDING,
            model: ModelSettings {
                batch_size: DEFAULT_BATCH_SIZE as u32,
                ..Default::default()
            },
        }
    }
}

struct State {
    embedder: Arc<Mutex<Embedder>>,
    database: Database,
    tracks: Tracks,
    presence: Presence,
    started: Instant,
}

#[derive(Default)]
pub struct MfrRecognize {
    settings: Mutex<Settings>,
    state: Mutex<Option<State>>,
    input: Mutex<Input>,
    reload: AtomicBool,
}

impl MfrRecognize {
    fn recognize(&self, buffer: &mut gst::BufferRef) -> Result<(), gst::ErrorMessage> {
        let settings = lock(&self.settings).clone();
        let (reload_error, structures) = {
            let mut state = lock(&self.state);
            let state = state.as_mut().ok_or_else(frame::not_started)?;
            let reload_error = self.follow_database(&mut state.database);
            let now = self.now(state, buffer);
            let faces = name_faces(state, &lock(&self.input), &settings, buffer, now)?;
            (reload_error, news(state, &settings, &faces, now))
        };
        // No lock is held: a synchronous handler may call back into the element.
        if let Some(error) = reload_error {
            gst::element_imp_warning!(
                self,
                gst::ResourceError::Read,
                ("the gallery before stays in use: {error}")
            );
        }
        if !structures.is_empty() {
            self.post_faces(structures, buffer.pts(), buffer.duration());
        }
        Ok(())
    }

    /// Takes over a gallery that has been replaced; the error if it cannot be used.
    fn follow_database(&self, database: &mut Database) -> Option<GalleryError> {
        let reload = self.reload.swap(false, Ordering::Relaxed);
        let outcome = database.poll(reload)?;
        if outcome.is_ok() {
            gst::info!(CAT, imp = self, "{} read anew", database.name());
        }
        outcome.err()
    }

    /// The time of a frame: one that does not stand still, also in a stream without timestamps.
    fn now(&self, state: &State, buffer: &gst::BufferRef) -> gst::ClockTime {
        self.running_time(buffer.pts()).unwrap_or_else(|| {
            gst::ClockTime::from_useconds(state.started.elapsed().as_micros() as u64)
        })
    }

    fn post_faces(
        &self,
        faces: Vec<gst::Structure>,
        pts: Option<gst::ClockTime>,
        duration: Option<gst::ClockTime>,
    ) {
        let segment = self.obj().segment();
        let segment = segment.downcast_ref::<gst::ClockTime>();
        let structure = gst::Structure::builder("mfrrecognize")
            .field("timestamp", pts)
            .field("stream-time", segment.and_then(|s| s.to_stream_time(pts)))
            .field("running-time", segment.and_then(|s| s.to_running_time(pts)))
            .field("duration", duration)
            .field("faces", gst::Array::new(faces))
            .build();
        let element = self.obj();
        let message = gst::message::Element::builder(structure).src(&*element);
        // Fails only while the pipeline is being taken down, when nobody listens.
        let _ = element.post_message(message.build());
    }

    fn running_time(&self, pts: Option<gst::ClockTime>) -> Option<gst::ClockTime> {
        let segment = self.obj().segment();
        segment
            .downcast_ref::<gst::ClockTime>()?
            .to_running_time(pts?)
    }
}

/// What there is to post about a frame.
fn news(
    state: &mut State,
    settings: &Settings,
    faces: &[Face],
    now: gst::ClockTime,
) -> Vec<gst::Structure> {
    // Kept up to date whatever is posted: the property may change while playing.
    let events = state.presence.update(faces, now);
    match settings.post_messages {
        PostMessages::None => Vec::new(),
        PostMessages::All => faces.iter().map(|f| face_structure(f, None)).collect(),
        PostMessages::Changes => events
            .iter()
            .map(|(event, face)| face_structure(face, Some(*event)))
            .collect(),
    }
}

/// Embeds the faces of a frame that have no identity yet, in one batch, and writes who they are and
/// whether they wear a mask.
fn name_faces(
    state: &mut State,
    input: &Input,
    settings: &Settings,
    buffer: &mut gst::BufferRef,
    now: gst::ClockTime,
) -> Result<Vec<Face>, gst::ErrorMessage> {
    let size = input.size()?;
    let (orientation, stored) = input.turn()?;
    let mut faces = meta::faces(buffer, size);
    let open: Vec<usize> = (0..faces.len())
        .filter(|&i| faces[i].identity.is_none() && faces[i].rect.area() > 0.0)
        .collect();
    if open.is_empty() {
        return Ok(faces);
    }
    let rects: Vec<_> = open
        .iter()
        .map(|&i| orientation.rect_to_upright(faces[i].rect, stored))
        .collect();
    let seen = input
        .read(buffer, |view| lock(&state.embedder).embed(view, &rects))?
        .map_err(|e| models::error_message(&e))?;
    let mut steady = seen.clone();
    state.tracks.average(&rects, &mut steady, now.into());
    let mut identities = vec![None; faces.len()];
    let mut masks = vec![None; faces.len()];
    let found = identify(&state.database, &steady, settings.threshold);
    for ((&i, identity), mask) in open.iter().zip(found).zip(steady.masks) {
        faces[i].identity = Some(identity.clone());
        identities[i] = Some(identity);
        let mask = faces[i].mask.get_or_insert_with(|| mask.into());
        masks[i] = Some(mask.clone());
    }
    meta::set_identities(buffer, &identities);
    meta::set_masks(buffer, &masks);
    if settings.attach_embedding {
        meta::set_embeddings(buffer, &open, &seen.embeddings);
    }
    meta::update_mirror(buffer, &faces, size);
    Ok(faces)
}

/// Compares the faces of one frame with the gallery.
fn identify(database: &Database, faces: &Embedded, threshold: f64) -> Vec<Identity> {
    let gallery = database.gallery();
    let masked: Vec<bool> = faces.masks.iter().map(|mask| mask.is_worn()).collect();
    let threshold = (threshold >= 0.0).then_some(threshold as f32);
    gallery
        .identify_frame(faces.embeddings.view(), &masked, threshold)
        .into_iter()
        .map(|found| {
            let person = found.label.and_then(|i| Some((i, gallery.names().get(i)?)));
            Identity {
                label: person.map_or(meta::UNKNOWN, |(_, name)| name).to_owned(),
                label_id: person.map_or(-1, |(i, _)| i32::try_from(i).unwrap_or(i32::MAX)),
                confidence: f64::from(found.confidence),
                similarity: f64::from(found.similarity),
                model_name: embed::NAME.to_owned(),
                model_version: database.model_version().to_owned(),
                gallery: database.name(),
                frames_ago: 0,
            }
        })
        .collect()
}

fn face_structure(face: &Face, event: Option<Event>) -> gst::Structure {
    let identity = face.identity.as_ref();
    let mask = face.mask.as_ref();
    gst::Structure::builder("face")
        .field_if_some("event", event.map(Event::name))
        .field("id", face.id)
        .field("label", identity.map_or(meta::UNKNOWN, |i| &i.label))
        .field("label_id", identity.map_or(-1, |i| i.label_id))
        .field("confidence", identity.map_or(0.0, |i| i.confidence))
        .field("similarity", identity.map_or(0.0, |i| i.similarity))
        .field_if_some("mask", mask.map(|m| &m.label))
        .field_if_some("mask_confidence", mask.map(|m| m.confidence))
        .field("x", face.rect.x.round() as i32)
        .field("y", face.rect.y.round() as i32)
        .field("w", face.rect.width.round() as i32)
        .field("h", face.rect.height.round() as i32)
        .build()
}

/// The error as GStreamer posts it on the bus.
fn gallery_error(error: &GalleryError) -> gst::ErrorMessage {
    let text = error.to_string();
    if error.is_missing_file() {
        gst::error_msg!(gst::ResourceError::NotFound, ("{text}"))
    } else {
        gst::error_msg!(gst::ResourceError::Read, ("{text}"))
    }
}

#[glib::object_subclass]
impl ObjectSubclass for MfrRecognize {
    const NAME: &'static str = "GstMfrRecognize";
    type Type = super::MfrRecognize;
    type ParentType = gst_video::VideoFilter;
}

impl ObjectImpl for MfrRecognize {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            let mut properties = vec![
                glib::ParamSpecString::builder("database")
                    .nick("Database")
                    .blurb("The gallery, a file that mfr-enroll has written; required")
                    .mutable_ready()
                    .build(),
                glib::ParamSpecString::builder("model")
                    .nick("Model")
                    .blurb("The FaceNet network (ONNX); null = the installed facenet.onnx")
                    .mutable_ready()
                    .build(),
                glib::ParamSpecDouble::builder("threshold")
                    .nick("Threshold")
                    .blurb("Least similarity, 0...1, higher is surer, below which a face is unknown; below 0 = as calibrated in the gallery")
                    .minimum(-1.0)
                    .maximum(1.0)
                    .default_value(DEFAULT_THRESHOLD)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecUInt::builder("batch-size")
                    .nick("Batch size")
                    .blurb("Most faces in one inference; more cost memory")
                    .minimum(1)
                    .maximum(256)
                    .default_value(DEFAULT_BATCH_SIZE as u32)
                    .mutable_ready()
                    .build(),
                glib::ParamSpecEnum::builder_with_default("post-messages", PostMessages::default())
                    .nick("Post messages")
                    .blurb("Which element messages are posted on the bus")
                    .mutable_playing()
                    .build(),
                glib::ParamSpecBoolean::builder("attach-embedding")
                    .nick("Attach embedding")
                    .blurb("Attach each face's embedding, which is biometric data, to its region of interest")
                    .default_value(DEFAULT_ATTACH_EMBEDDING)
                    .mutable_playing()
                    .build(),
            ];
            properties.extend(ModelSettings::properties());
            properties
        });
        &PROPERTIES
    }

    fn signals() -> &'static [glib::subclass::Signal] {
        static SIGNALS: LazyLock<Vec<glib::subclass::Signal>> = LazyLock::new(|| {
            vec![
                glib::subclass::Signal::builder("reload")
                    .action()
                    .class_handler(|values| {
                        if let Ok(element) = values[0].get::<super::MfrRecognize>() {
                            element.imp().reload.store(true, Ordering::Relaxed);
                        }
                        None
                    })
                    .build(),
            ]
        });
        &SIGNALS
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        let mut settings = lock(&self.settings);
        let path = || -> Option<PathBuf> {
            let text: Option<String> = value.get().expect("type checked upstream");
            text.map(Into::into)
        };
        match pspec.name() {
            "database" => settings.database = path(),
            "model" => settings.model.path = path(),
            "threshold" => settings.threshold = value.get().expect("type checked upstream"),
            "batch-size" => settings.model.batch_size = value.get().expect("type checked upstream"),
            "post-messages" => settings.post_messages = value.get().expect("type checked upstream"),
            "attach-embedding" => {
                settings.attach_embedding = value.get().expect("type checked upstream");
            }
            name => {
                settings.model.set_property(name, value);
            }
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        let settings = lock(&self.settings);
        let text = |path: &Option<PathBuf>| {
            let path = path.as_ref();
            path.and_then(|p| p.to_str()).to_value()
        };
        match pspec.name() {
            "database" => text(&settings.database),
            "model" => text(&settings.model.path),
            "threshold" => settings.threshold.to_value(),
            "batch-size" => settings.model.batch_size.to_value(),
            "post-messages" => settings.post_messages.to_value(),
            "attach-embedding" => settings.attach_embedding.to_value(),
            name => settings
                .model
                .property(name)
                .unwrap_or_else(|| pspec.default_value().clone()),
        }
    }
}

impl GstObjectImpl for MfrRecognize {}

impl ElementImpl for MfrRecognize {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Face recognizer",
                "Filter/Analyzer/Video",
                "Compares the faces of regions of interest with a gallery (FaceNet, SVM) and says who they are",
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

impl BaseTransformImpl for MfrRecognize {
    const MODE: BaseTransformMode = BaseTransformMode::AlwaysInPlace;
    const PASSTHROUGH_ON_SAME_CAPS: bool = false;
    const TRANSFORM_IP_ON_PASSTHROUGH: bool = false;

    fn start(&self) -> Result<(), gst::ErrorMessage> {
        let settings = lock(&self.settings).clone();
        let path = settings.database.ok_or_else(|| {
            gst::error_msg!(
                gst::LibraryError::Settings,
                ("the property database is not set: name the gallery file that mfr-enroll has written")
            )
        })?;
        // Before the model: a mistyped path is told at once.
        if let Err(error) = std::fs::File::open(&path) {
            return Err(gst::error_msg!(
                gst::ResourceError::NotFound,
                (
                    "gallery {}: {error}; make one with mfr-enroll",
                    path.display()
                )
            ));
        }
        let embedder = models::get(&settings.model, |model, options| {
            let path = match &model.path {
                Some(path) => path.clone(),
                None => Embedder::default_model()?,
            };
            Embedder::from_file(&path, options, model.batch_size as usize)
        })
        .map_err(|e| models::error_message(&e))?;
        let model = {
            let embedder = lock(&embedder);
            Model {
                sha256: embedder.model_sha256().to_owned(),
                dim: embedder.dim(),
                version: embedder.version(),
            }
        };
        let database = Database::open(&path, model).map_err(|e| gallery_error(&e))?;
        gst::debug!(
            CAT,
            imp = self,
            "{} people in {}",
            database.gallery().names().len(),
            database.name()
        );
        if database.gallery().contract().is_none() {
            gst::warning!(
                CAT,
                imp = self,
                "{} does not say which network and crop it was made with; if not with these, it matches badly",
                database.name()
            );
        }
        *lock(&self.state) = Some(State {
            embedder,
            database,
            tracks: Tracks::default(),
            presence: Presence::default(),
            started: Instant::now(),
        });
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        *lock(&self.state) = None;
        *lock(&self.input) = Input::default();
        Ok(())
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        lock(&self.input).notice(&event);
        if let gst::EventView::Eos(_) = event.view() {
            let left = lock(&self.state)
                .as_mut()
                .map_or_else(Vec::new, |state| state.presence.clear());
            let wanted = lock(&self.settings).post_messages == PostMessages::Changes;
            let faces: Vec<_> = left
                .iter()
                .map(|(event, face)| face_structure(face, Some(*event)))
                .collect();
            if wanted && !faces.is_empty() {
                let segment = self.obj().segment();
                let end = segment.downcast_ref::<gst::ClockTime>();
                self.post_faces(faces, end.and_then(|s| s.position()), None);
            }
        }
        self.parent_sink_event(event)
    }

    // Not transform_frame_ip: metas cannot be written safely while a frame is mapped.
    fn transform_ip(
        &self,
        buffer: &mut gst::BufferRef,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        self.recognize(buffer).map_err(|error| {
            gst::error!(CAT, imp = self, "{error}");
            self.post_error_message(error);
            gst::FlowError::Error
        })?;
        Ok(gst::FlowSuccess::Ok)
    }
}

impl VideoFilterImpl for MfrRecognize {
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
