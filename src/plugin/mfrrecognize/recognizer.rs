//! Identification of the faces of a frame: how `mfrrecognize` processes the metadata of a buffer.

use std::time::{Duration, Instant};

use ndarray::Array2;

use super::database::Database;
use super::presence::{Moment, Presence};
use super::settings::Settings;
use crate::embed::{self, Embedder};
use crate::frame::image::ImageView;
use crate::frame::orientation::Orientation;
use crate::nn::RuntimeError;
use crate::plugin::frame::FrameError;
use crate::plugin::load::Pressure;
use crate::plugin::message::FaceNews;
use crate::plugin::meta::{self, Face, Identity};
use crate::plugin::models::{self, Worker};
use crate::plugin::stream::Frame;
use crate::track::{self, Answer, Observation, People, ReembedPolicy};

/// Seconds per frame of a live stream that may be spent on embedding, if more faces should be embedded than fit.
const LIVE_BUDGET: f64 = 0.015;

/// Number of mask checks that take as long as one embedding.
const MASK_CHECKS: usize = 4;

/// Longest time without embedding a face under time pressure.
const EMBED_ANYWAY: Duration = Duration::from_millis(500);

/// Weight of the newest measurement in the estimate of how long embedding a face takes.
const FACE_TAKES_SHARE: f64 = 0.1;

/// The state of the streaming thread.
pub struct Recognizer {
    pub embedder: Worker<Embedder>,
    pub database: Database,
    pub people: People,
    pub presence: Presence,
    /// Estimated time of embedding a face, in seconds; 0 before the first one.
    face_takes: f64,
    /// Time of the last frame in which a face was embedded.
    embedded: Option<Duration>,
}

impl Recognizer {
    pub fn new(embedder: Worker<Embedder>, database: Database) -> Self {
        Self {
            embedder,
            database,
            people: People::default(),
            presence: Presence::default(),
            face_takes: 0.0,
            embedded: None,
        }
    }

    /// Resets the state of the stream; returns the events that everybody has left.
    pub fn reset(&mut self) -> Vec<FaceNews> {
        self.people.reset();
        self.embedded = None;
        self.presence.clear()
    }

    /// Identifies the faces of a buffer; returns all of them, and the changes since the previous frame.
    pub fn analyze(
        &mut self,
        frame: &Frame,
        settings: &Settings,
        buffer: &mut gst::BufferRef,
        stream_time: Option<gst::ClockTime>,
    ) -> Result<(Vec<Face>, Vec<FaceNews>), FrameError> {
        let (faces, tracks) = self.name_faces(frame, settings, buffer)?;
        let tracked: Vec<_> = faces.iter().zip(tracks).collect();
        let at = Moment {
            now: frame.now,
            stream_time,
        };
        // Updated regardless of the property `post-messages`, which may change while playing.
        let changes = self.presence.update(&tracked, at);
        Ok((faces, changes))
    }

    /// Maximum number of faces to embed in a frame: all, unless a live stream leaves too little time.
    fn most_faces(&self, frame: &Frame) -> usize {
        let waits = |then| frame.now.saturating_sub(then) >= EMBED_ANYWAY;
        match frame.pressure {
            // A face in a corrupted frame would be embedded from wrong pixels.
            _ if frame.is_corrupted => 0,
            _ if self.face_takes == 0.0 && frame.is_live => 1,
            Pressure::None if frame.is_live => (LIVE_BUDGET / self.face_takes).max(1.0) as usize,
            Pressure::None => usize::MAX,
            _ => usize::from(self.embedded.is_none_or(waits)),
        }
    }

    /// Writes identity and mask state of the faces of a frame that have no identity yet; the faces that are embedded
    /// form one batch. Returns all faces, and the tracks of those that it names.
    fn name_faces(
        &mut self,
        frame: &Frame,
        settings: &Settings,
        buffer: &mut gst::BufferRef,
    ) -> Result<(Vec<Face>, Vec<Option<u64>>), FrameError> {
        let (input, most) = (&frame.input, self.most_faces(frame));
        let size = input.size()?;
        let (orientation, stored) = input.turn()?;
        let mut faces = meta::faces(buffer, size);
        let mut tracks = vec![None; faces.len()];
        let open: Vec<usize> = (0..faces.len())
            .filter(|&i| faces[i].identity.is_none() && faces[i].rect.area() > 0.0)
            .collect();
        let (observations, turns): (Vec<_>, Vec<_>) = open
            .iter()
            .map(|&i| {
                let landmarks = faces[i].landmarks.as_ref();
                let landmarks = landmarks.map(|l| orientation.landmarks_to_upright(l, stored));
                let observation = Observation {
                    id: faces[i].id,
                    rect: orientation.rect_to_upright(faces[i].rect, stored),
                    quality: track::quality(&faces[i].rect, landmarks.as_ref()),
                };
                // Whoever lies on the side is compared as if standing.
                let turn = landmarks.map_or(Orientation::UPRIGHT, |l| Orientation::of_face(&l));
                (observation, turn)
            })
            .unzip();
        self.people.begin(&observations, frame.now, frame.interval);
        if open.is_empty() {
            return Ok((faces, tracks));
        }
        let (embedded, embeddings) = input
            .read(buffer, |view| {
                self.embed(view, (&observations, &turns), settings.policy(), most)
            })?
            .map_err(|e| models::error_message(&e))?;
        if !embedded.is_empty() {
            self.embedded = Some(frame.now);
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

    /// Checks masks where that is due, and embeds the most urgent faces; returns the indices of these and
    /// their embeddings, of shape `[faces, dim]`.
    fn embed(
        &mut self,
        view: &ImageView,
        (observations, turns): (&[Observation], &[Orientation]),
        policy: ReembedPolicy,
        most: usize,
    ) -> Result<(Vec<usize>, Array2<f32>), RuntimeError> {
        let places = |faces: &[usize]| -> Vec<_> {
            let place = |&face: &usize| (observations[face].rect, turns[face]);
            faces.iter().map(place).collect()
        };
        let embedder = &mut self.embedder.model;
        let mut checked = self.people.due_for_mask_check(policy);
        checked.truncate(most.max(1).saturating_mul(MASK_CHECKS));
        let masks = embedder.check_masks(view, &places(&checked))?;
        for (&face, mask) in checked.iter().zip(masks) {
            self.people.observe_mask(face, mask);
        }
        let mut wanted = self.people.to_embed(policy);
        wanted.truncate(most);
        let began = Instant::now();
        let seen = embedder.embed_turned(view, &places(&wanted))?;
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

/// Converts the answer to metadata.
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
