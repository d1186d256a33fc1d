//! Answers of the gallery by name, and the contract of a new one.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gstmfr::detect;
use gstmfr::embed::{Embedded, PREPROCESSING};
use gstmfr::gallery::{Contract, FORMAT, Gallery, GalleryError, Identification};
use serde::Serialize;

use crate::input::names::UNKNOWN;
use crate::output;
use crate::vision::batch::Embedders;

/// A person a face may belong to.
#[derive(Debug, Clone, Serialize)]
pub struct NamedCandidate {
    pub label: String,
    pub similarity: f32,
}

/// The identity of a face.
#[derive(Debug, Clone)]
pub struct NamedAnswer {
    /// `None` for a stranger.
    pub name: Option<String>,
    /// Similarity to the person named, or to the first candidate.
    pub similarity: f32,
    /// Probability that the answer is right.
    pub confidence: f32,
    /// Candidates, best first, also for a stranger.
    pub candidates: Vec<NamedCandidate>,
    /// Whether a mask was recognised, which determined the threshold.
    pub masked: bool,
}

impl NamedAnswer {
    fn of(gallery: &Gallery, found: &Identification, masked: bool) -> Self {
        let name = |label: usize| gallery.names()[label].clone();
        Self {
            name: found.label.map(name),
            similarity: found.similarity,
            confidence: found.confidence,
            candidates: found
                .candidates
                .iter()
                .map(|candidate| NamedCandidate {
                    label: name(candidate.label),
                    similarity: candidate.similarity,
                })
                .collect(),
            masked,
        }
    }

    /// The name, or the label for strangers.
    pub fn label(&self) -> &str {
        self.name.as_deref().unwrap_or(UNKNOWN)
    }
}

/// Reads a gallery for use with this network.
pub fn open(path: &Path, embedders: &Embedders) -> Result<Gallery, GalleryError> {
    let gallery = Gallery::load(path)?;
    gallery
        .check_model(embedders.model_sha256(), embedders.dim())
        .map_err(|error| error.at(path))?;
    if gallery.contract().is_none() {
        output::warning(&format!(
            "{} does not say which network and crop it was made with; if not with these, it matches badly",
            path.display()
        ));
    }
    Ok(gallery)
}

/// Identifies the faces of one photo, in which each person can be at most once.
pub fn in_one_photo(gallery: &Gallery, seen: &Embedded) -> Vec<NamedAnswer> {
    let masked: Vec<bool> = seen.masks.iter().map(|mask| mask.is_worn()).collect();
    let found = gallery.identify_frame(seen.embeddings.view(), &masked, None);
    let answers = found.iter().zip(masked);
    answers
        .map(|(found, masked)| NamedAnswer::of(gallery, found, masked))
        .collect()
}

/// Identifies faces of which each comes from a photo of its own.
pub fn each_by_itself(gallery: &Gallery, seen: &Embedded) -> Vec<NamedAnswer> {
    let rows = seen.embeddings.rows().into_iter();
    rows.zip(&seen.masks)
        .map(|(row, mask)| {
            let masked = mask.is_worn();
            NamedAnswer::of(gallery, &gallery.identify(row, masked, None), masked)
        })
        .collect()
}

/// Program and version.
pub const TOOL: &str = concat!("mfr-enroll ", env!("CARGO_PKG_VERSION"));

/// Time and program of a report.
pub fn made_now() -> String {
    let time = rfc3339(now()).replace('T', " ").replace('Z', " UTC");
    format!("{time}, {TOOL}")
}

/// The contract of embeddings made by this run.
pub fn contract(embedders: &Embedders) -> Contract {
    Contract {
        format: FORMAT.to_owned(),
        model_sha256: embedders.model_sha256().to_owned(),
        embedding_dim: embedders.dim(),
        preprocessing: PREPROCESSING.to_owned(),
        detector: detect::NAME.to_owned(),
        created: rfc3339(now()),
        tool_version: TOOL.to_owned(),
    }
}

/// Time since 1970, or that of SOURCE_DATE_EPOCH, which makes builds reproducible.
fn now() -> Duration {
    let given = std::env::var("SOURCE_DATE_EPOCH")
        .ok()
        .and_then(|seconds| seconds.parse().ok());
    match given {
        Some(seconds) => Duration::from_secs(seconds),
        None => SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default(),
    }
}

/// Date and time in UTC.
fn rfc3339(since_1970: Duration) -> String {
    let seconds = since_1970.as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Year, month and day of the Gregorian calendar at this number of days after 1970-01-01. Years start in
/// March here, so that the leap day is the last (Howard Hinnant, "chrono-compatible
/// low-level date algorithms").
fn date(days: u64) -> (u64, u64, u64) {
    // There are 719,468 days from 0000-03-01 to 1970-01-01, and 146,097 days in 400 years.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let written = |seconds| rfc3339(Duration::from_secs(seconds));
        assert_eq!(written(0), "1970-01-01T00:00:00Z");
        // The expected values are from date -u -d @….
        assert_eq!(written(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(written(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(written(4_107_542_400), "2100-03-01T00:00:00Z");
        assert_eq!(written(1_700_000_000), "2023-11-14T22:13:20Z");
    }
}
