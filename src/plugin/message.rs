//! The element messages of `mfrrecognize` about faces, as types.
//!
//! ```no_run
//! use gstmfr::Message;
//! use gstmfr::plugin::message::Event;
//!
//! fn watch(bus: &gst::Bus) {
//!     for message in bus.iter_timed(gst::ClockTime::NONE) {
//!         let Some(Ok(news)) = message.structure().map(Message::try_from) else { continue };
//!         for face in news.faces.iter().filter(|f| f.event == Some(Event::Identified)) {
//!             println!("{} is here", face.label);
//!         }
//!     }
//! }
//! ```

use gst::{ClockTime, Structure, StructureRef};
use thiserror::Error;

use crate::plugin::meta::{self, Face};

/// Name of the structure of the element messages.
pub const NAME: &str = "mfrrecognize";
/// Name of the structure of each face in them.
pub const FACE: &str = "face";

/// The kind of change of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A new face is in view, and it is unknown.
    Appeared,
    /// A face has been identified for the first time.
    Identified,
    /// A face has another name, or none any more, or a mask was put on or taken off.
    Changed,
    /// A person has not been seen for a second, or the stream has ended, stopped or frozen.
    Left,
}

impl Event {
    const ALL: [Self; 4] = [Self::Appeared, Self::Identified, Self::Changed, Self::Left];

    pub fn name(self) -> &'static str {
        match self {
            Self::Appeared => "appeared",
            Self::Identified => "identified",
            Self::Changed => "changed",
            Self::Left => "left",
        }
    }
}

/// A message about the changes in a frame, or about all faces of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Timestamp of the frame's buffer.
    pub timestamp: Option<ClockTime>,
    /// Position in the stream.
    pub stream_time: Option<ClockTime>,
    pub running_time: Option<ClockTime>,
    pub duration: Option<ClockTime>,
    pub faces: Vec<FaceNews>,
}

/// A face in a message.
#[derive(Debug, Clone, PartialEq)]
pub struct FaceNews {
    /// None in messages about every frame.
    pub event: Option<Event>,
    /// Id of the face in the stream, above 0; it stays with the face while it is tracked.
    pub id: i32,
    /// Name of the person, or [`meta::UNKNOWN`].
    pub label: String,
    /// Index of the person in the gallery, −1 for unknown.
    pub label_id: i32,
    /// Probability that the identity is right, 0…1.
    pub confidence: f64,
    /// Similarity, 0…1, higher is more certain.
    pub similarity: f64,
    /// `with_mask` or `without_mask` and its probability, 0…1; None without a mask check.
    pub mask: Option<(String, f64)>,
    /// x, y, width, height in pixels of the frame; may extend outside it.
    pub rect: [i32; 4],
    /// First and last stream time of the face, in messages about changes.
    pub first_seen: Option<ClockTime>,
    pub last_seen: Option<ClockTime>,
    /// With [`Event::Changed`]: the previous value of what has changed.
    pub previous_label: Option<String>,
    pub previous_mask: Option<String>,
}

/// Why a structure cannot be read as a message of `mfrrecognize`.
#[derive(Debug, Error, PartialEq)]
pub enum MessageError {
    #[error("expected a structure {NAME}, found {found}")]
    OtherName { found: String },
    #[error("{structure}: expected a field {field} ({expected})")]
    Field {
        structure: &'static str,
        field: &'static str,
        expected: &'static str,
    },
}

impl TryFrom<&StructureRef> for Message {
    type Error = MessageError;

    fn try_from(s: &StructureRef) -> Result<Self, MessageError> {
        if s.name() != NAME {
            return Err(MessageError::OtherName {
                found: s.name().to_string(),
            });
        }
        let faces = s.get::<gst::ArrayRef>("faces");
        let faces = faces.map_err(|_| missing(NAME, "faces", "an array of structures"))?;
        let face = |value: &gst::glib::SendValue| {
            let structure = value.get::<&StructureRef>();
            structure
                .map_err(|_| missing(NAME, "faces", "an array of structures"))
                .and_then(FaceNews::try_from)
        };
        Ok(Self {
            timestamp: time(s, "timestamp"),
            stream_time: time(s, "stream-time"),
            running_time: time(s, "running-time"),
            duration: time(s, "duration"),
            faces: faces
                .as_slice()
                .iter()
                .map(face)
                .collect::<Result<_, _>>()?,
        })
    }
}

impl TryFrom<&StructureRef> for FaceNews {
    type Error = MessageError;

    fn try_from(s: &StructureRef) -> Result<Self, MessageError> {
        let text = |name: &str| s.get::<String>(name).ok();
        let int = |name| s.get::<i32>(name).map_err(|_| missing(FACE, name, "int"));
        let double = |name| {
            s.get::<f64>(name)
                .map_err(|_| missing(FACE, name, "double"))
        };
        let event = match text("event") {
            None => None,
            Some(name) => Some(
                Event::ALL
                    .into_iter()
                    .find(|event| event.name() == name)
                    .ok_or(missing(
                        FACE,
                        "event",
                        "appeared, identified, changed or left",
                    ))?,
            ),
        };
        Ok(Self {
            event,
            id: int("id")?,
            label: text("label").ok_or(missing(FACE, "label", "string"))?,
            label_id: int("label_id")?,
            confidence: double("confidence")?,
            similarity: double("similarity")?,
            mask: text("mask").zip(double("mask_confidence").ok()),
            rect: [int("x")?, int("y")?, int("w")?, int("h")?],
            first_seen: time(s, "first_seen"),
            last_seen: time(s, "last_seen"),
            previous_label: text("previous_label"),
            previous_mask: text("previous_mask"),
        })
    }
}

fn missing(structure: &'static str, field: &'static str, expected: &'static str) -> MessageError {
    MessageError::Field {
        structure,
        field,
        expected,
    }
}

fn time(s: &StructureRef, name: &str) -> Option<ClockTime> {
    s.get::<Option<ClockTime>>(name).ok().flatten()
}

impl From<&Message> for Structure {
    fn from(message: &Message) -> Self {
        Self::builder(NAME)
            .field("timestamp", message.timestamp)
            .field("stream-time", message.stream_time)
            .field("running-time", message.running_time)
            .field("duration", message.duration)
            .field(
                "faces",
                gst::Array::new(message.faces.iter().map(Self::from)),
            )
            .build()
    }
}

impl From<&FaceNews> for Structure {
    fn from(face: &FaceNews) -> Self {
        let [x, y, w, h] = face.rect;
        let mask = face.mask.as_ref();
        Self::builder(FACE)
            .field_if_some("event", face.event.map(Event::name))
            .field("id", face.id)
            .field("label", &face.label)
            .field("label_id", face.label_id)
            .field("confidence", face.confidence)
            .field("similarity", face.similarity)
            .field_if_some("mask", mask.map(|(label, _)| label))
            .field_if_some("mask_confidence", mask.map(|(_, confidence)| *confidence))
            .field("x", x)
            .field("y", y)
            .field("w", w)
            .field("h", h)
            .field_if_some("first_seen", face.first_seen)
            .field_if_some("last_seen", face.last_seen)
            .field_if_some("previous_label", face.previous_label.as_ref())
            .field_if_some("previous_mask", face.previous_mask.as_ref())
            .build()
    }
}

impl From<&Face> for FaceNews {
    fn from(face: &Face) -> Self {
        let identity = face.identity.as_ref();
        let rect = face.rect;
        Self {
            event: None,
            id: face.id,
            label: identity.map_or(meta::UNKNOWN, |i| &i.label).to_owned(),
            label_id: identity.map_or(-1, |i| i.label_id),
            confidence: identity.map_or(0.0, |i| i.confidence),
            similarity: identity.map_or(0.0, |i| i.similarity),
            mask: face.mask.as_ref().map(|m| (m.label.clone(), m.confidence)),
            rect: [rect.x, rect.y, rect.width, rect.height].map(|v| v.round() as i32),
            first_seen: None,
            last_seen: None,
            previous_label: None,
            previous_mask: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        let face = FaceNews {
            event: Some(Event::Changed),
            id: 7,
            label: "Zoë".into(),
            label_id: 3,
            confidence: 0.9,
            similarity: 0.8,
            mask: Some(("with_mask".into(), 0.75)),
            rect: [-4, 5, 60, 70],
            first_seen: Some(ClockTime::from_mseconds(40)),
            last_seen: Some(ClockTime::from_mseconds(80)),
            previous_label: None,
            previous_mask: Some("without_mask".into()),
        };
        let plain = FaceNews {
            event: None,
            mask: None,
            first_seen: None,
            last_seen: None,
            previous_mask: None,
            ..face.clone()
        };
        Message {
            timestamp: Some(ClockTime::from_mseconds(80)),
            stream_time: None,
            running_time: Some(ClockTime::from_mseconds(81)),
            duration: None,
            faces: vec![face, plain],
        }
    }

    #[test]
    fn a_message_comes_back_as_it_was_sent() {
        gst::init().unwrap();
        let structure = Structure::from(&message());
        assert_eq!(Message::try_from(structure.as_ref()), Ok(message()));
    }

    #[test]
    fn other_structures_are_refused_and_told_apart() {
        gst::init().unwrap();
        let other = Structure::new_empty("level");
        let error = Message::try_from(other.as_ref()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "expected a structure mfrrecognize, found level"
        );
        let mut structure = Structure::from(&message());
        structure.set("faces", 3);
        let error = Message::try_from(structure.as_ref()).unwrap_err();
        let expected = "mfrrecognize: expected a field faces (an array of structures)";
        assert_eq!(error.to_string(), expected);
        let mut face = Structure::from(&message().faces[0]);
        face.set("event", "danced");
        let error = FaceNews::try_from(face.as_ref()).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("face: expected a field event"),
            "{error}"
        );
    }
}
