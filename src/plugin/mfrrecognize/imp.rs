use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use gst::glib;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::BaseTransformMode;
use gst_base::subclass::prelude::*;
use gst_video::subclass::prelude::*;

use super::PostMessages;
use super::database::{Change, Database, Model};
use super::presence::{LEFT_AFTER, Moment};
use super::recognizer::Recognizer;
use super::settings::{
    DEFAULT_ATTACH_EMBEDDING, DEFAULT_RECLASSIFY_INTERVAL, DEFAULT_THRESHOLD, Settings,
};
use crate::embed::{DEFAULT_BATCH_SIZE, Embedder};
use crate::gallery::{Gallery, GalleryError};
use crate::plugin::filter::{self, FrameFilter};
use crate::plugin::frame::{self, FrameError};
use crate::plugin::gallery_message::{GalleryMessage, GalleryState};
use crate::plugin::message::{FaceNews, Message};
use crate::plugin::models::{self, ModelSettings};
use crate::plugin::stream::{Frame, Stream};
use crate::threads::linger::linger;
use crate::threads::lock;

pub(super) static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "mfrrecognize",
        gst::DebugColorFlags::empty(),
        Some("Face recognition"),
    )
});

/// Interval of the check whether a live stream still delivers frames.
const CHECK_FROZEN_EVERY: gst::ClockTime = gst::ClockTime::from_mseconds(500);

/// A live stream is frozen after a pause of this many frame intervals more than the time a person may be hidden.
const FROZEN_INTERVALS: u32 = 2;

#[derive(Default)]
pub struct MfrRecognize {
    settings: Mutex<Arc<Settings>>,
    state: Mutex<Option<Recognizer>>,
    stream: Stream,
    reload: AtomicBool,
    /// The time from which a live stream without a frame counts as frozen.
    deadline: Mutex<Option<Instant>>,
    watch: Mutex<Option<gst::PeriodicClockId>>,
    /// Text of the property `engine`.
    engine: Mutex<Option<String>>,
}

impl MfrRecognize {
    /// Switches to a gallery that has been replaced; returns the messages about it.
    fn update_gallery(
        &self,
        recognizer: &mut Recognizer,
        wanted: Option<&Path>,
    ) -> Vec<gst::Message> {
        let reload = self.reload.swap(false, Ordering::Relaxed);
        let wanted = wanted.unwrap_or(recognizer.database.path()).to_owned();
        let changes = recognizer.database.poll(&wanted, reload);
        let mut messages = Vec::new();
        for change in changes {
            if change.state == GalleryState::Loaded {
                recognizer.people.forget_names();
            }
            if let Some(error) = &change.error {
                let text = format!("the gallery before stays in use: {error}");
                let warning = gst::message::Warning::builder(gallery_error_code(error), &text);
                messages.push(warning.src(&*self.obj()).build());
                self.keep_database(&change.path, recognizer.database.path());
            }
            messages.push(self.gallery_message(&change, &recognizer.database));
        }
        messages
    }

    /// Of the models that are installed the one that the gallery was made with; if it is not among them, the default one, which
    /// the gallery is then checked against.
    fn model_of_gallery(&self, gallery: &Path) -> Result<PathBuf, gst::ErrorMessage> {
        let contract = Gallery::contract_in(gallery).map_err(|e| gallery_error(&e))?;
        let sha256 = contract.as_ref().map(|c| c.model_sha256.as_str());
        let model = Embedder::model_for(sha256).map_err(|e| models::error_message(&e))?;
        gst::info!(
            CAT,
            imp = self,
            "{} is compared with by the network {}",
            gallery.display(),
            model.display()
        );
        Ok(model)
    }

    /// Resets the property to the gallery in use after another file could not be used.
    fn keep_database(&self, refused: &Path, in_use: &Path) {
        if refused == in_use {
            return;
        }
        let mut settings = lock(&self.settings);
        if settings.database.as_deref() == Some(refused) {
            Arc::make_mut(&mut settings).database = Some(in_use.to_owned());
        }
    }

    fn gallery_message(&self, change: &Change, database: &Database) -> gst::Message {
        let gallery = database.gallery();
        let message = GalleryMessage {
            state: change.state,
            gallery: change.path.display().to_string(),
            version: gallery
                .contract()
                .map_or_else(String::new, |c| c.version().to_owned()),
            people: gallery.names().len().try_into().unwrap_or(u32::MAX),
            reason: change.error.as_ref().map(ToString::to_string),
        };
        gst::info!(CAT, imp = self, "{message:?}");
        let builder = gst::message::Element::builder((&message).into());
        builder.src(&*self.obj()).build()
    }

    fn faces_message(
        &self,
        faces: Vec<FaceNews>,
        pts: Option<gst::ClockTime>,
        duration: Option<gst::ClockTime>,
    ) -> gst::Message {
        let segment = self.obj().segment();
        let segment = segment.downcast_ref::<gst::ClockTime>();
        let message = Message {
            timestamp: pts,
            stream_time: segment.and_then(|s| s.to_stream_time(pts)),
            running_time: segment.and_then(|s| s.to_running_time(pts)),
            duration,
            faces,
        };
        let builder = gst::message::Element::builder((&message).into());
        builder.src(&*self.obj()).build()
    }

    /// The messages about changes that are not due to a frame.
    fn changes(&self, news: Vec<FaceNews>) -> Vec<gst::Message> {
        let is_wanted = lock(&self.settings).post_messages == PostMessages::Changes;
        if news.is_empty() || !is_wanted {
            return Vec::new();
        }
        let segment = self.obj().segment();
        let segment = segment.downcast_ref::<gst::ClockTime>();
        let position = segment.and_then(gst::FormattedSegment::position);
        vec![self.faces_message(news, position, None)]
    }

    /// Reports everybody as left if a playing live stream has delivered no frame for long: the camera is frozen or
    /// gone.
    fn check_frozen(&self) {
        let element = self.obj();
        let is_frozen = lock(&self.deadline).is_some_and(|deadline| Instant::now() >= deadline);
        if !is_frozen || element.current_state() != gst::State::Playing {
            return;
        }
        // The lock is held while a frame is processed, so the stream is not frozen.
        let Ok(mut state) = self.state.try_lock() else {
            return;
        };
        *lock(&self.deadline) = None;
        let left = state.as_mut().map_or_else(Vec::new, Recognizer::reset);
        drop(state);
        filter::post(element.upcast_ref(), self.changes(left));
    }

    /// Starts the periodic check whether frames still arrive.
    fn watch(&self) {
        let clock = gst::SystemClock::obtain();
        let id = clock.new_periodic_id(clock.time(), CHECK_FROZEN_EVERY);
        let element = self.obj().downgrade();
        let watched = id.wait_async(move |_, _, _| {
            if let Some(element) = element.upgrade() {
                element.imp().check_frozen();
            }
        });
        if watched.is_ok() {
            *lock(&self.watch) = Some(id);
        }
    }
}

impl FrameFilter for MfrRecognize {
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
        let settings = Arc::clone(&lock(&self.settings));
        let stream_time = filter::stream_time(self.obj().upcast_ref(), buffer);
        if frame.is_live {
            let longest = LEFT_AFTER + FROZEN_INTERVALS * frame.interval;
            *lock(&self.deadline) = Some(Instant::now() + longest);
        }
        let mut state = lock(&self.state);
        let recognizer = state.as_mut().ok_or_else(frame::not_started)?;
        let mut messages = self.update_gallery(recognizer, settings.database.as_deref());
        let (faces, changes) = recognizer.analyze(frame, &settings, buffer, stream_time)?;
        let news = match settings.post_messages {
            PostMessages::None => Vec::new(),
            PostMessages::All => faces.iter().map(FaceNews::from).collect(),
            PostMessages::Changes => changes,
        };
        if !news.is_empty() {
            messages.push(self.faces_message(news, buffer.pts(), buffer.duration()));
        }
        Ok(messages)
    }

    fn pass(&self, now: Duration) -> Vec<gst::Message> {
        let at = Moment {
            now,
            stream_time: None,
        };
        let mut state = lock(&self.state);
        let update = |recognizer: &mut Recognizer| recognizer.presence.update(&[], at);
        let left = state.as_mut().map_or_else(Vec::new, update);
        drop(state);
        self.changes(left)
    }

    fn reset(&self) -> Vec<gst::Message> {
        let left = lock(&self.state)
            .as_mut()
            .map_or_else(Vec::new, Recognizer::reset);
        self.changes(left)
    }
}

/// GStreamer's error code for a gallery that cannot be used.
fn gallery_error_code(error: &GalleryError) -> gst::ResourceError {
    match error {
        GalleryError::Read { reason, .. } => models::resource_error(reason),
        _ => gst::ResourceError::Read,
    }
}

/// Converts the error to the one that GStreamer posts on the bus.
fn gallery_error(error: &GalleryError) -> gst::ErrorMessage {
    gst::error_msg!(gallery_error_code(error), ("{error}"))
}

#[glib::object_subclass]
impl ObjectSubclass for MfrRecognize {
    const NAME: &'static str = "GstMfrRecognize";
    type Type = super::MfrRecognize;
    type ParentType = gst_video::VideoFilter;
}

impl ObjectImpl for MfrRecognize {
    fn constructed(&self) {
        self.parent_constructed();
        // With QoS, GstVideoFilter would drop late frames; this element skips inference instead.
        self.obj().set_property("qos", false);
    }

    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            let mut properties = vec![
                glib::ParamSpecString::builder("database")
                    .nick("Database")
                    .blurb("The gallery, a file that mfr-enroll has written; required. While playing another one replaces it as soon as it has been read")
                    .mutable_playing()
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
                    .controllable()
                    .build(),
                glib::ParamSpecUInt::builder("batch-size")
                    .nick("Batch size")
                    .blurb("Most faces in one inference; more cost memory")
                    .minimum(1)
                    .maximum(256)
                    .default_value(DEFAULT_BATCH_SIZE as u32)
                    .mutable_ready()
                    .build(),
                glib::ParamSpecInt::builder("reclassify-interval")
                    .nick("Reclassify interval")
                    .blurb("Embed a followed face in every n-th frame at most; 1 = every frame, 0 = once, -1 = adaptive: when that may change the answer")
                    .minimum(-1)
                    .default_value(DEFAULT_RECLASSIFY_INTERVAL)
                    .mutable_playing()
                    .controllable()
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
            properties.push(models::engine_property());
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
        if filter::refuses(self, pspec) {
            return;
        }
        let mut settings = lock(&self.settings);
        let settings = Arc::make_mut(&mut settings);
        let path = || -> Option<PathBuf> {
            let text: Option<String> = value.get().expect("type checked upstream");
            text.map(Into::into)
        };
        match pspec.name() {
            "database" => settings.database = path(),
            "model" => settings.model.path = path(),
            "threshold" => settings.threshold = value.get().expect("type checked upstream"),
            "batch-size" => settings.model.batch_size = value.get().expect("type checked upstream"),
            "reclassify-interval" => {
                settings.reclassify_interval = value.get().expect("type checked upstream");
            }
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
            "reclassify-interval" => settings.reclassify_interval.to_value(),
            "post-messages" => settings.post_messages.to_value(),
            "attach-embedding" => settings.attach_embedding.to_value(),
            "engine" => lock(&self.engine).to_value(),
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
                "Filter/FrameFilter/Video",
                "Compares the faces of regions of interest with a gallery (FaceNet, SVM) and says who they are",
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

impl BaseTransformImpl for MfrRecognize {
    const MODE: BaseTransformMode = BaseTransformMode::AlwaysInPlace;
    const PASSTHROUGH_ON_SAME_CAPS: bool = false;
    const TRANSFORM_IP_ON_PASSTHROUGH: bool = false;

    fn start(&self) -> Result<(), gst::ErrorMessage> {
        let settings = Arc::clone(&lock(&self.settings));
        let path = settings.database.clone().ok_or_else(|| {
            gst::error_msg!(
                gst::LibraryError::Settings,
                ("the property database is not set: name the gallery file that mfr-enroll has written")
            )
        })?;
        // Checked before the model is loaded, so that a mistyped path is reported at once.
        if let Err(reason) = std::fs::metadata(&path) {
            let is_missing = reason.kind() == std::io::ErrorKind::NotFound;
            let advice = if is_missing {
                "; make one with mfr-enroll"
            } else {
                ""
            };
            let error = GalleryError::Read { path, reason };
            return Err(gst::error_msg!(
                gallery_error_code(&error),
                ("{error}{advice}")
            ));
        }
        let model = match &settings.model.path {
            Some(model) => model.clone(),
            None => self.model_of_gallery(&path)?,
        };
        // FaceNet is large, so elements without an id share it too.
        let shared = ModelSettings {
            path: Some(model.clone()),
            instance_id: Some(settings.model.instance_id.clone().unwrap_or_default()),
            ..settings.model.clone()
        };
        let embedder = models::get(&shared, |shared, options| {
            Embedder::from_file(&model, options, shared.batch_size as usize)
        })
        .map_err(|e| models::error_message(&e))?;
        let engines = models::log_engines(*CAT, self.obj().upcast_ref(), &embedder.model);
        *lock(&self.engine) = Some(engines);
        let model = Model {
            sha256: embedder.model.model_sha256().to_owned(),
            dim: embedder.model.dim(),
            version: embedder.model.version(),
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
        if database.gallery().expires_by_a_wrong_clock() {
            gst::warning!(
                CAT,
                imp = self,
                "the clock of this computer shows a time before 2020; people of {} who have expired are named",
                database.name()
            );
        }
        let loaded = Change {
            state: GalleryState::Loaded,
            path,
            error: None,
        };
        let message = self.gallery_message(&loaded, &database);
        *lock(&self.state) = Some(Recognizer::new(embedder, database));
        self.stream.set_started(true);
        self.watch();
        filter::post(self.obj().upcast_ref(), vec![message]);
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        let watch = lock(&self.watch).take();
        if let Some(watch) = watch {
            watch.unschedule();
        }
        *lock(&self.deadline) = None;
        let recognizer = lock(&self.state).take();
        *lock(&self.engine) = None;
        self.stream.set_started(false);
        if let Some(mut recognizer) = recognizer {
            let left = recognizer.reset();
            filter::post(self.obj().upcast_ref(), self.changes(left));
            linger((recognizer.embedder, recognizer.database));
        }
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

    // transform_ip and not transform_frame_ip, because metas cannot be written safely while a frame is mapped.
    fn transform_ip(
        &self,
        buffer: &mut gst::BufferRef,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        filter::transform_ip(self, buffer)
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
        if let Some(before) = self.stream.set_info(in_info)? {
            let input = self.stream.input();
            if let Some(recognizer) = lock(&self.state).as_mut() {
                recognizer.people.rescale(input.upright_scale(before));
                recognizer
                    .presence
                    .rescale(input.stored_scale(before).into());
            }
        }
        Ok(())
    }
}
