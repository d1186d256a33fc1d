use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use gst::glib;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::BaseTransformMode;
use gst_base::subclass::prelude::*;
use gst_video::subclass::prelude::*;
use ndarray::Array2;

use super::PostMessages;
use super::database::{Database, Model};
use super::presence::{Moment, Presence};
use crate::embed::{self, DEFAULT_BATCH_SIZE, Embedder};
use crate::frame::image::ImageView;
use crate::gallery::GalleryError;
use crate::nn::RuntimeError;
use crate::plugin::frame::{self, Input, StreamTime};
use crate::plugin::load::Pressure;
use crate::plugin::message::{FaceNews, Message};
use crate::plugin::meta::{self, Face, Identity};
use crate::plugin::models::{self, ModelSettings, Worker};
use crate::plugin::stream::Stream;
use crate::threads::{at_work, lock};
use crate::track::{self, Answer, Observation, People, ReembedPolicy};

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
/// Below 0: adaptive.
const DEFAULT_RECLASSIFY_INTERVAL: i32 = -1;

/// Seconds of a frame of a live stream that may go into embedding, if more faces than fit are worth it.
const LIVE_BUDGET: f64 = 0.015;

/// Faces that may be looked at for a mask where one may be embedded: it takes so much less.
const MASK_CHECKS: usize = 4;

/// How long at most no face is embedded when there is too little time.
const EMBED_ANYWAY: Duration = Duration::from_millis(500);

/// Share of the newest measurement in what embedding a face is thought to take.
const FACE_TAKES_SHARE: f64 = 0.1;

#[derive(Debug, Clone)]
struct Settings {
    database: Option<PathBuf>,
    threshold: f64,
    reclassify_interval: i32,
    post_messages: PostMessages,
    attach_embedding: bool,
    model: ModelSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            database: None,
            threshold: DEFAULT_THRESHOLD,
            reclassify_interval: DEFAULT_RECLASSIFY_INTERVAL,
            post_messages: PostMessages::default(),
            attach_embedding: DEFAULT_ATTACH_EMBEDDING,
            model: ModelSettings {
                batch_size: DEFAULT_BATCH_SIZE as u32,
                ..Default::default()
            },
        }
    }
}

impl Settings {
    fn policy(&self) -> ReembedPolicy {
        match u32::try_from(self.reclassify_interval) {
            Err(_) => ReembedPolicy::Adaptive,
            Ok(0) => ReembedPolicy::Once,
            Ok(n) => ReembedPolicy::Frames(n),
        }
    }
}

struct State {
    embedder: Worker<Embedder>,
    database: Database,
    people: People,
    presence: Presence,
    time: StreamTime,
    /// What embedding a face takes, in seconds.
    face_takes: f64,
    /// When a face was last embedded.
    embedded: Option<Duration>,
}

#[derive(Default)]
pub struct MfrRecognize {
    settings: Mutex<Arc<Settings>>,
    state: Mutex<Option<State>>,
    stream: Stream,
    reload: AtomicBool,
    /// What runs the networks.
    engine: Mutex<Option<String>>,
}

impl MfrRecognize {
    fn recognize(&self, buffer: &mut gst::BufferRef) -> Result<(), gst::ErrorMessage> {
        let settings = Arc::clone(&lock(&self.settings));
        let (reload_error, structures) = {
            // Not for the messages below, whose handlers may take their time.
            let _at_work = at_work();
            let element = self.obj();
            let input = self.stream.input();
            let mut state = lock(&self.state);
            let state = state.as_mut().ok_or_else(frame::not_started)?;
            let reload_error = self.follow_database(state);
            let running_time = frame::running_time(element.upcast_ref(), buffer);
            let now = state.time.of(running_time, &input);
            let (pressure, is_live) = self.stream.pressure(element.upcast_ref(), running_time);
            let most = state.most_faces(now, pressure, is_live);
            let (faces, tracks) = state.name_faces(&input, &settings, buffer, now, most)?;
            let at = self.moment(buffer.pts(), now);
            (reload_error, news(state, &settings, &faces, &tracks, at))
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
    fn follow_database(&self, state: &mut State) -> Option<GalleryError> {
        let reload = self.reload.swap(false, Ordering::Relaxed);
        let outcome = state.database.poll(reload)?;
        if outcome.is_ok() {
            gst::info!(CAT, imp = self, "{} read anew", state.database.name());
            state.people.forget_names();
        }
        outcome.err()
    }

    fn moment(&self, pts: Option<gst::ClockTime>, now: Duration) -> Moment {
        let segment = self.obj().segment();
        let segment = segment.downcast_ref::<gst::ClockTime>();
        Moment {
            now,
            stream_time: segment.and_then(|s| s.to_stream_time(pts)),
        }
    }

    fn post_faces(
        &self,
        faces: Vec<FaceNews>,
        pts: Option<gst::ClockTime>,
        duration: Option<gst::ClockTime>,
    ) {
        let segment = self.obj().segment();
        let segment = segment.downcast_ref::<gst::ClockTime>();
        let message = Message {
            timestamp: pts,
            stream_time: segment.and_then(|s| s.to_stream_time(pts)),
            running_time: segment.and_then(|s| s.to_running_time(pts)),
            duration,
            faces,
        };
        let element = self.obj();
        let message = gst::message::Element::builder((&message).into()).src(&*element);
        // Fails only while the pipeline is being taken down, when nobody listens.
        let _ = element.post_message(message.build());
    }

    /// Everybody leaves: the stream has ended, or goes on elsewhere.
    fn forget(&self) {
        let left = lock(&self.state).as_mut().map_or_else(Vec::new, |state| {
            state.people.reset();
            state.embedded = None;
            state.time = StreamTime::default();
            state.presence.clear()
        });
        self.stream.restart();
        let wanted = lock(&self.settings).post_messages == PostMessages::Changes;
        if wanted && !left.is_empty() {
            let segment = self.obj().segment();
            let end = segment.downcast_ref::<gst::ClockTime>();
            self.post_faces(left, end.and_then(|s| s.position()), None);
        }
    }
}

impl State {
    /// How many faces may be embedded in a frame: all, unless a live stream leaves too little time.
    fn most_faces(&self, now: Duration, pressure: Pressure, is_live: bool) -> usize {
        let waits = |then| now.saturating_sub(then) >= EMBED_ANYWAY;
        match pressure {
            _ if self.face_takes == 0.0 && is_live => 1,
            Pressure::None if is_live => (LIVE_BUDGET / self.face_takes).max(1.0) as usize,
            Pressure::None => usize::MAX,
            _ => usize::from(self.embedded.is_none_or(waits)),
        }
    }

    /// Writes who the faces of a frame are that have no identity yet, and whether they wear a mask. At most `most` of them
    /// are embedded, in one batch. Gives all faces, and the tracks of those that it names.
    fn name_faces(
        &mut self,
        input: &Input,
        settings: &Settings,
        buffer: &mut gst::BufferRef,
        now: Duration,
        most: usize,
    ) -> Result<(Vec<Face>, Vec<Option<u64>>), gst::ErrorMessage> {
        let size = input.size()?;
        let (orientation, stored) = input.turn()?;
        let mut faces = meta::faces(buffer, size);
        let mut tracks = vec![None; faces.len()];
        let open: Vec<usize> = (0..faces.len())
            .filter(|&i| faces[i].identity.is_none() && faces[i].rect.area() > 0.0)
            .collect();
        let observations: Vec<Observation> = open
            .iter()
            .map(|&i| Observation {
                id: faces[i].id,
                rect: orientation.rect_to_upright(faces[i].rect, stored),
                quality: track::quality(
                    &faces[i].rect,
                    faces[i]
                        .landmarks
                        .as_ref()
                        .map(|l| orientation.landmarks_to_upright(l, stored))
                        .as_ref(),
                ),
            })
            .collect();
        self.people.begin(&observations, now);
        if open.is_empty() {
            return Ok((faces, tracks));
        }
        let (embedded, embeddings) = input
            .read(buffer, |view| {
                self.look(view, &observations, settings.policy(), most)
            })?
            .map_err(|e| models::error_message(&e))?;
        if !embedded.is_empty() {
            self.embedded = Some(now);
        }
        let mut identities = vec![None; faces.len()];
        let mut masks = vec![None; faces.len()];
        let threshold = (settings.threshold >= 0.0).then_some(settings.threshold as f32);
        let answers = self.people.answers(self.database.gallery(), threshold);
        for (&i, answer) in open.iter().zip(answers) {
            let Some(answer) = answer else { continue };
            let identity = identity(&self.database, &answer);
            faces[i].identity = Some(identity.clone());
            identities[i] = Some(identity);
            let mask = faces[i].mask.get_or_insert_with(|| answer.mask.into());
            masks[i] = Some(mask.clone());
        }
        meta::set_identities(buffer, &identities);
        meta::set_masks(buffer, &masks);
        if settings.attach_embedding {
            let embedded: Vec<usize> = embedded.into_iter().map(|face| open[face]).collect();
            meta::set_embeddings(buffer, &embedded, &embeddings);
        }
        meta::update_mirror(buffer, &faces, size);
        for (&i, track) in open.iter().zip(self.people.tracks()) {
            tracks[i] = track;
        }
        Ok((faces, tracks))
    }

    /// Looks for masks where that is due, and embeds the faces that are worth it; tells which those were, and row by row
    /// their embeddings.
    fn look(
        &mut self,
        view: &ImageView,
        observations: &[Observation],
        policy: ReembedPolicy,
        most: usize,
    ) -> Result<(Vec<usize>, Array2<f32>), RuntimeError> {
        let rects =
            |faces: &[usize]| -> Vec<_> { faces.iter().map(|&f| observations[f].rect).collect() };
        let embedder = &mut self.embedder.model;
        let mut checked = self.people.due_for_mask_check(policy);
        checked.truncate(most.max(1).saturating_mul(MASK_CHECKS));
        let masks = embedder.check_masks(view, &rects(&checked))?;
        for (&face, mask) in checked.iter().zip(masks) {
            self.people.observe_mask(face, mask);
        }
        let mut wanted = self.people.to_embed(policy);
        wanted.truncate(most);
        let began = Instant::now();
        let seen = embedder.embed(view, &rects(&wanted))?;
        if !wanted.is_empty() {
            let took = began.elapsed().as_secs_f64() / wanted.len() as f64;
            self.face_takes = if self.face_takes > 0.0 {
                self.face_takes + (took - self.face_takes) * FACE_TAKES_SHARE
            } else {
                took
            };
        }
        for (&face, embedding) in wanted.iter().zip(seen.embeddings.rows()) {
            self.people.add_embedding(face, embedding);
        }
        Ok((wanted, seen.embeddings))
    }
}

/// What there is to post about a frame.
fn news(
    state: &mut State,
    settings: &Settings,
    faces: &[Face],
    tracks: &[Option<u64>],
    at: Moment,
) -> Vec<FaceNews> {
    let tracked: Vec<_> = faces.iter().zip(tracks.iter().copied()).collect();
    // Kept up to date whatever is posted: the property may change while playing.
    let changes = state.presence.update(&tracked, at);
    match settings.post_messages {
        PostMessages::None => Vec::new(),
        PostMessages::All => faces.iter().map(FaceNews::from).collect(),
        PostMessages::Changes => changes,
    }
}

/// The answer in the words of the metadata.
fn identity(database: &Database, answer: &Answer) -> Identity {
    let names = database.gallery().names();
    let person = answer.label.and_then(|i| Some((i, names.get(i)?)));
    Identity {
        label: person.map_or(meta::UNKNOWN, |(_, name)| name).to_owned(),
        label_id: person.map_or(-1, |(i, _)| i32::try_from(i).unwrap_or(i32::MAX)),
        confidence: f64::from(answer.confidence),
        similarity: f64::from(answer.similarity),
        model_name: embed::NAME.to_owned(),
        model_version: database.model_version().to_owned(),
        gallery: database.name(),
        frames_ago: i32::try_from(answer.frames_ago).unwrap_or(i32::MAX),
    }
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
    fn constructed(&self) {
        self.parent_constructed();
        // GstVideoFilter would drop frames that come too late; here inference is left out instead.
        self.obj().set_property("qos", false);
    }

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
                glib::ParamSpecInt::builder("reclassify-interval")
                    .nick("Reclassify interval")
                    .blurb("Embed a followed face in every n-th frame at most; 1 = every frame, 0 = once, -1 = adaptive: when that may change the answer")
                    .minimum(-1)
                    .default_value(DEFAULT_RECLASSIFY_INTERVAL)
                    .mutable_playing()
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
        let settings = Arc::clone(&lock(&self.settings));
        let path = settings.database.clone().ok_or_else(|| {
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
        // FaceNet is large: without an id all elements share it, too.
        let shared = ModelSettings {
            instance_id: Some(settings.model.instance_id.clone().unwrap_or_default()),
            ..settings.model.clone()
        };
        let embedder = models::get(&shared, |model, options| {
            let path = match &model.path {
                Some(path) => path.clone(),
                None => Embedder::default_model()?,
            };
            Embedder::from_file(&path, options, model.batch_size as usize)
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
        *lock(&self.state) = Some(State {
            embedder,
            database,
            people: People::default(),
            presence: Presence::default(),
            time: StreamTime::default(),
            face_takes: 0.0,
            embedded: None,
        });
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        *lock(&self.state) = None;
        *lock(&self.engine) = None;
        self.stream.clear();
        Ok(())
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        self.stream.notice_sink_event(&event);
        if matches!(
            event.type_(),
            gst::EventType::Eos | gst::EventType::FlushStop | gst::EventType::StreamStart
        ) {
            self.forget();
        }
        self.parent_sink_event(event)
    }

    fn src_event(&self, event: gst::Event) -> bool {
        self.stream.notice_src_event(&event);
        self.parent_src_event(event)
    }

    fn query(&self, direction: gst::PadDirection, query: &mut gst::QueryRef) -> bool {
        let is_answered = BaseTransformImplExt::parent_query(self, direction, query);
        if is_answered {
            self.stream.answer(query);
        }
        is_answered
    }

    // Not transform_frame_ip: metas cannot be written safely while a frame is mapped.
    fn transform_ip(
        &self,
        buffer: &mut gst::BufferRef,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        let began = Instant::now();
        let outcome = self.recognize(buffer);
        self.stream.finish_frame(self.obj().upcast_ref(), began);
        outcome.map_err(|error| {
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
        self.stream.set_info(in_info).map(|_| ())
    }
}
