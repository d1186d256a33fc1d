//! The element message of `mfrrecognize` about its gallery, as a type.

use gst::{Structure, StructureRef};

/// Name of the structure of the element messages.
pub const NAME: &str = "mfr-gallery";

/// State of a gallery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GalleryState {
    /// The gallery is in use from now on.
    Loaded,
    /// The file has been replaced; the previous gallery is in use until the new one has been read.
    Stale,
    /// The file cannot be opened; the previous gallery stays in use.
    Unreachable,
    /// The file was read but cannot be used; the previous gallery stays in use.
    Refused,
}

impl GalleryState {
    const ALL: [Self; 4] = [Self::Loaded, Self::Stale, Self::Unreachable, Self::Refused];

    pub fn name(self) -> &'static str {
        match self {
            Self::Loaded => "loaded",
            Self::Stale => "stale",
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
        }
    }
}

/// A message about a gallery.
#[derive(Debug, Clone, PartialEq)]
pub struct GalleryMessage {
    pub state: GalleryState,
    /// Path of the file.
    pub gallery: String,
    /// Creation time of the gallery in use, RFC 3339; empty if the gallery does not have it.
    pub version: String,
    /// Number of people in the gallery in use.
    pub people: u32,
    /// Why a file is unreachable or refused.
    pub reason: Option<String>,
}

impl From<&GalleryMessage> for Structure {
    fn from(message: &GalleryMessage) -> Self {
        Self::builder(NAME)
            .field("state", message.state.name())
            .field("gallery", &message.gallery)
            .field("version", &message.version)
            .field("people", message.people)
            .field_if_some("reason", message.reason.as_ref())
            .build()
    }
}

impl GalleryMessage {
    /// Reads a message; None for a structure of another kind.
    pub fn from_structure(structure: &StructureRef) -> Option<Self> {
        if structure.name() != NAME {
            return None;
        }
        let state = structure.get::<&str>("state").ok()?;
        Some(Self {
            state: GalleryState::ALL.into_iter().find(|s| s.name() == state)?,
            gallery: structure.get("gallery").ok()?,
            version: structure.get("version").ok()?,
            people: structure.get("people").ok()?,
            reason: structure.get("reason").ok(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_back_as_it_was_sent() {
        gst::init().unwrap();
        for reason in [None, Some("it is damaged".to_owned())] {
            let message = GalleryMessage {
                state: GalleryState::Refused,
                gallery: "/var/lib/g.npz".into(),
                version: "2026-01-02T03:04:05Z".into(),
                people: 3,
                reason,
            };
            let structure = Structure::from(&message);
            assert_eq!(GalleryMessage::from_structure(&structure), Some(message));
        }
        let other = Structure::new_empty("mfrrecognize");
        assert_eq!(GalleryMessage::from_structure(&other), None);
    }
}
