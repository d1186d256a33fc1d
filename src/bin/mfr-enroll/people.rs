//! Answers of the gallery by name, and the contract of a new one.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gstmfr::embed::Embedded;
use gstmfr::gallery::{Contract, Enrolment, Gallery, GalleryError, Identification};
use humantime::format_rfc3339_seconds;
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

/// Checks that a gallery can be used with this network.
pub fn check(gallery: &Gallery, path: &Path, embedders: &Embedders) -> Result<(), GalleryError> {
    gallery
        .check_model(embedders.model_sha256(), embedders.dim())
        .map_err(|error| error.at(path))?;
    if gallery.contract().is_none() {
        output::warning(&format!(
            "{} does not say which network and crop it was made with; if not with these, it matches badly",
            path.display()
        ));
    }
    warn_of_the_clock(gallery, path);
    Ok(())
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

/// The present time in seconds since 1970.
pub fn seconds_now() -> u64 {
    let since = now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// Says so where a clock that was not set keeps people from expiring.
pub fn warn_of_the_clock(gallery: &Gallery, path: &Path) {
    if gallery.expires_by_a_wrong_clock() {
        output::warning(&format!(
            "the clock of this computer shows a time before 2020; people of {} who have expired are named",
            path.display()
        ));
    }
}

/// The present time as it is written to galleries.
pub fn now_text() -> String {
    rfc3339(now())
}

/// Time and program of a report.
pub fn made_now() -> String {
    let time = rfc3339(now()).replace('T', " ").replace('Z', " UTC");
    format!("{time}, {TOOL}")
}

/// The contract of embeddings made by this run.
pub fn contract(embedders: &Embedders, enrolment: Enrolment) -> Contract {
    Contract {
        created: now_text(),
        tool_version: TOOL.to_owned(),
        enrolment: Some(enrolment),
        ..Contract::new(embedders.model_sha256(), embedders.dim())
    }
}

/// The present time, or that of SOURCE_DATE_EPOCH, which makes builds reproducible.
fn now() -> SystemTime {
    std::env::var("SOURCE_DATE_EPOCH")
        .ok()
        .and_then(|seconds| since_1970(seconds.parse().ok()?))
        .unwrap_or_else(SystemTime::now)
}

/// The time at this number of seconds after 1970; none after the year 9999, which RFC 3339 cannot write.
fn since_1970(seconds: u64) -> Option<SystemTime> {
    let is_written = seconds < 253_402_300_800;
    is_written.then(|| UNIX_EPOCH + Duration::from_secs(seconds))
}

/// Date and time in UTC.
fn rfc3339(time: SystemTime) -> String {
    format_rfc3339_seconds(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_seconds_up_to_the_year_9999() {
        let written = |seconds| since_1970(seconds).map(rfc3339);
        assert_eq!(written(0).unwrap(), "1970-01-01T00:00:00Z");
        assert_eq!(written(951_782_400).unwrap(), "2000-02-29T00:00:00Z");
        assert_eq!(written(253_402_300_799).unwrap(), "9999-12-31T23:59:59Z");
        assert_eq!(written(253_402_300_800), None);
    }
}
