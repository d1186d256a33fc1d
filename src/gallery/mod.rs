//! The gallery: people, their embeddings, and the identification of new embeddings.

mod calibrate;
mod cluster;
mod contract;
mod crops;
mod error;
pub mod expiry;
mod file;
mod identify;
mod legacy;
mod npz;
mod score;
mod statistics;
mod strangers;
pub mod svm;

use std::collections::HashSet;
use std::sync::Arc;

use expiry::Expiry;
use ndarray::{Array1, Array2};
use svm::LinearSvm;

pub use calibrate::{Calibration, DEFAULT_TARGET_FPIR, Measured};
pub use cluster::{LooseFace, group};
pub use contract::{Contract, Enrolment};
pub use crops::Crops;
pub use error::GalleryError;
pub use identify::{Candidate, Identification, MAX_CANDIDATES};
pub use npz::NpzWriter;
pub use score::Similarities;
use score::{Samples, Scorer};
pub use statistics::Statistics;
pub use strangers::SyntheticFaces;

/// Value of `format` in the contract of galleries that this version writes.
pub const FORMAT: &str = "mfr-gallery/1";

/// Least similarity of a bare and of a masked face at which it is named, where there are no general statistics
/// of faces and nothing was measured: files of the original scripts, other networks. On LFW,
/// over galleries of 1, 2, 5, 20, 60 and 150 people with 1 to 5 photos each, with and without masked
/// copies, .7 % of bare and .9 % of masked strangers score higher.
pub const DEFAULT_THRESHOLDS: [f32; 2] = [0.41, 0.41];

/// The logistic function that belongs to these thresholds, fitted to the same measurement.
pub const DEFAULT_CALIBRATION: Logistic = Logistic {
    slope: 20.3,
    offset: -6.4,
};

/// Maps a similarity s to the probability `1 / (1 + exp(−(slope·s + offset)))` that the best
/// candidate is right, given as many strangers as people of the gallery.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Logistic {
    pub slope: f32,
    pub offset: f32,
}

impl Logistic {
    pub fn probability(self, similarity: f32) -> f32 {
        1.0 / (1.0 + (-(self.slope * similarity + self.offset)).exp())
    }
}

/// Most people of a gallery with an SVM. Training one takes time in proportion to people × embeddings, and it is trained anew
/// whenever somebody comes or goes; docs/galleries.md states what it costs and what it gives.
pub const MOST_SVM_PEOPLE: usize = 2000;

/// Most numbers of all embeddings together: 1,000,000 embeddings of 512, which are 100,000 people with ten of them or 200,000
/// with five. A gallery's file, and what is read of it, take 4 GiB at most.
pub const MOST_VALUES: usize = 512_000_000;

/// Deviation of a vector's length from 1 that is attributed to rounding.
const UNIT_TOLERANCE: f32 = 1e-5;

/// The kind of image that an embedding was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Kind {
    #[default]
    Photo = 0,
    /// A photo with a synthetic mask.
    SyntheticMask = 1,
    /// A photo of a face with a real mask.
    MaskedPhoto = 2,
}

impl Kind {
    /// Whether the face wears a mask, real or synthetic.
    pub fn is_masked(self) -> bool {
        self != Self::Photo
    }

    fn from_number(number: i64) -> Option<Self> {
        match number {
            0 => Some(Self::Photo),
            1 => Some(Self::SyntheticMask),
            2 => Some(Self::MaskedPhoto),
            _ => None,
        }
    }
}

/// One embedding of a person, for [`Gallery::train`].
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Name of the person.
    pub name: String,
    /// Path of the photo in its dataset; for a masked copy with `#mask:TYPE` appended.
    pub source: String,
    pub kind: Kind,
    /// The embedding, which `train` scales to unit length.
    pub embedding: Array1<f32>,
}

/// The file that a gallery's embedding comes from; a source may end in a `#` with the time of a frame or the
/// mask of a copy.
pub fn file_of(source: &str) -> &str {
    // File names may contain a # themselves.
    let ends = ["#mask:", "#t="]
        .into_iter()
        .filter_map(|end| source.rfind(end));
    ends.min().map_or(source, |end| &source[..end])
}

/// People and their embeddings, ready to identify.
#[derive(Debug, Clone, PartialEq)]
pub struct Gallery {
    names: Vec<String>,
    /// `[N, D]`, rows of unit length
    embeddings: Arc<Array2<f32>>,
    /// For each row, the index into `names`.
    labels: Vec<usize>,
    sources: Vec<String>,
    kinds: Vec<Kind>,
    scorer: Scorer,
    /// For bare and for masked faces.
    calibration: [Logistic; 2],
    thresholds: [f32; 2],
    contract: Option<Contract>,
    expiry: Expiry,
}

impl Gallery {
    /// Makes a gallery of at least one person. People are sorted by name, embeddings by person and
    /// otherwise kept in order.
    pub fn train(entries: Vec<Entry>, contract: Contract) -> Result<Self, GalleryError> {
        let statistics = Statistics::built_in(&contract.model_sha256)?
            .filter(|statistics| statistics.dim() == contract.embedding_dim)
            .cloned();
        Self::train_with(entries, contract, statistics, None)
    }

    fn train_with(
        mut entries: Vec<Entry>,
        contract: Contract,
        statistics: Option<Statistics>,
        calibrated: Option<([f32; 2], [Logistic; 2])>,
    ) -> Result<Self, GalleryError> {
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        let dim = contract.embedding_dim;
        let mut names: Vec<String> = Vec::new();
        let mut labels = Vec::new();
        let mut embeddings = Array2::zeros((entries.len(), dim));
        for (entry, mut row) in entries.iter().zip(embeddings.rows_mut()) {
            if entry.embedding.len() != dim {
                return Err(GalleryError::contents(format!(
                    "the embedding of {} has {} numbers, expected {dim}",
                    entry.source,
                    entry.embedding.len()
                )));
            }
            row.assign(&entry.embedding);
            if names.last() != Some(&entry.name) {
                names.push(entry.name.clone());
            }
            labels.push(names.len() - 1);
        }
        // The embeddings are moved rather than copied, since their entries are no longer needed.
        let (sources, kinds) = entries.into_iter().map(|e| (e.source, e.kind)).unzip();
        Self::assemble(Parts {
            names,
            embeddings,
            labels,
            sources,
            kinds,
            svm: SvmPart::Untrained,
            statistics,
            calibration: calibrated.map(|(_, calibration)| calibration),
            thresholds: calibrated.map(|(thresholds, _)| thresholds),
            contract: Some(contract),
        })
    }

    /// Checks the consistency of the parts, and trains the SVM if there is none.
    fn assemble(mut parts: Parts) -> Result<Self, GalleryError> {
        parts.check()?;
        for (i, mut row) in parts.embeddings.rows_mut().into_iter().enumerate() {
            let length = row.dot(&row).sqrt();
            if !length.is_finite() || length <= 0.0 {
                return Err(GalleryError::contents(format!(
                    "embedding {i} is zero or not finite"
                )));
            }
            // Rows that are already of unit length stay the same bit by bit.
            if (length - 1.0).abs() > UNIT_TOLERANCE {
                row /= length;
            }
        }
        let embeddings = Arc::new(parts.embeddings);
        let samples = Samples {
            embeddings: embeddings.view(),
            labels: &parts.labels,
            kinds: &parts.kinds,
            people: parts.names.len(),
        };
        let statistics = parts.statistics.as_ref();
        let svm = match parts.svm {
            SvmPart::Given(svm) => Some(svm),
            SvmPart::Untrained if samples.people <= MOST_SVM_PEOPLE => Some(train_svm(samples)?),
            SvmPart::Untrained | SvmPart::Absent => None,
        };
        let scorer = match svm {
            Some(svm) => Scorer::fused(samples, svm, statistics),
            None => {
                let Samples {
                    labels,
                    kinds,
                    people,
                    ..
                } = samples;
                Scorer::large(Arc::clone(&embeddings), labels, kinds, people, statistics)
            }
        };
        let (thresholds, calibration) = match (parts.thresholds, parts.calibration) {
            (Some(thresholds), Some(calibration)) => (thresholds, calibration),
            (thresholds, calibration) => {
                let expected = calibrate::expected(&scorer, DEFAULT_TARGET_FPIR);
                (
                    thresholds.unwrap_or(expected.thresholds()),
                    calibration.unwrap_or(expected.logistics()),
                )
            }
        };
        let expiry = match &parts.contract {
            Some(contract) => Expiry::of(&contract.expires, &parts.names)?,
            None => Expiry::default(),
        };
        Ok(Self {
            expiry,
            thresholds,
            calibration,
            names: parts.names,
            embeddings,
            labels: parts.labels,
            sources: parts.sources,
            kinds: parts.kinds,
            scorer,
            contract: parts.contract,
        })
    }

    /// Names of the people; a label is an index into them.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// `[N, D]`, rows of unit length.
    pub fn embeddings(&self) -> &Array2<f32> {
        &self.embeddings
    }

    /// The person of each embedding, an index into the names.
    pub fn labels(&self) -> &[usize] {
        &self.labels
    }

    /// The source of each embedding.
    pub fn sources(&self) -> &[String] {
        &self.sources
    }

    pub fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// Least similarity of a bare and of a masked face at which it is named.
    pub fn thresholds(&self) -> [f32; 2] {
        self.thresholds
    }

    /// The threshold of a face, with or without a mask.
    pub fn threshold(&self, masked: bool) -> f32 {
        self.thresholds[usize::from(masked)]
    }

    /// The embeddings with their people, sources and kinds, in order.
    pub fn entries(&self) -> Vec<Entry> {
        (0..self.labels.len())
            .map(|row| Entry {
                name: self.names[self.labels[row]].clone(),
                source: self.sources[row].clone(),
                kind: self.kinds[row],
                embedding: self.embeddings.row(row).to_owned(),
            })
            .collect()
    }

    /// A gallery of other embeddings of the same network, made as this one: with its statistics of faces and its share of
    /// strangers that may be named. The same embeddings give the same gallery, whatever was in this one before.
    pub fn remade(
        &self,
        entries: Vec<Entry>,
        contract: Contract,
    ) -> Result<(Self, Calibration), GalleryError> {
        let target_fpir = contract.enrolment().target_fpir;
        let statistics = self.scorer.statistics().cloned();
        // What is expected before anything has been measured need not be known, since it is measured next.
        let unmeasured = Some((DEFAULT_THRESHOLDS, [DEFAULT_CALIBRATION; 2]));
        let mut gallery = Self::train_with(entries, contract, statistics, unmeasured)?;
        let calibration = gallery.calibrate(target_fpir)?;
        Ok((gallery, calibration))
    }

    /// The contract; None for files without one.
    pub fn contract(&self) -> Option<&Contract> {
        self.contract.as_ref()
    }

    /// The statistics of faces that belong to its network; None for files without them.
    pub fn statistics(&self) -> Option<&Statistics> {
        self.scorer.statistics()
    }

    /// Whether the gallery has an SVM, which larger ones do without.
    pub fn has_svm(&self) -> bool {
        self.scorer.svm().is_some()
    }

    /// Whether a person, an index into the names, is not named any more, because their last day is over.
    pub fn has_expired(&self, person: usize) -> bool {
        self.expiry.has_expired(person)
    }

    /// Whether people of the gallery expire, but the clock of the computer shows a time at which nobody can have.
    pub fn expires_by_a_wrong_clock(&self) -> bool {
        !self.expiry.is_empty() && expiry::is_clock_wrong()
    }

    /// Each person with the number of their photos, not counting masked copies. A video counts once, however many of its
    /// frames are in the gallery; without a source each row counts as a photo of its own.
    pub fn people(&self) -> impl Iterator<Item = (&str, usize)> {
        let mut photos = vec![0; self.names.len()];
        let mut files = HashSet::new();
        let rows = self.labels.iter().zip(&self.kinds).zip(&self.sources);
        for ((&label, &kind), source) in rows {
            let file = file_of(source);
            let is_counted =
                kind != Kind::SyntheticMask && (file.is_empty() || files.insert((label, file)));
            photos[label] += usize::from(is_counted);
        }
        self.names.iter().map(String::as_str).zip(photos)
    }

    /// Checks that embeddings of this network can be compared with those of the gallery.
    pub fn check_model(&self, sha256: &str, dim: usize) -> Result<(), GalleryError> {
        if self.embeddings.ncols() != dim {
            return Err(GalleryError::model(format!(
                "its embeddings have {} numbers, the model's have {dim}",
                self.embeddings.ncols()
            )));
        }
        let Some(contract) = &self.contract else {
            return Ok(());
        };
        if contract.model_sha256 != sha256 {
            return Err(GalleryError::model(format!(
                "it was made with the model of sha256 {}…, this one is {}…",
                head(&contract.model_sha256),
                head(sha256)
            )));
        }
        if contract.preprocessing != crate::embed::PREPROCESSING {
            return Err(GalleryError::model(format!(
                "its faces were cropped by the rule \"{}\", this version's is \"{}\"",
                contract.preprocessing,
                crate::embed::PREPROCESSING
            )));
        }
        Ok(())
    }
}

fn train_svm(samples: Samples) -> Result<LinearSvm, GalleryError> {
    svm::train(samples.embeddings, samples.labels, samples.people)
        .map_err(|e| GalleryError::contents(e.to_string()))
}

/// The first digits of a hash, because the whole would clutter the message.
fn head(hash: &str) -> String {
    hash.chars().take(12).collect()
}

/// The parts of a gallery before they are checked.
struct Parts {
    names: Vec<String>,
    embeddings: Array2<f32>,
    labels: Vec<usize>,
    sources: Vec<String>,
    kinds: Vec<Kind>,
    svm: SvmPart,
    statistics: Option<Statistics>,
    /// The calibration; the expected one is used if these are None.
    calibration: Option<[Logistic; 2]>,
    thresholds: Option<[f32; 2]>,
    contract: Option<Contract>,
}

/// The SVM of a gallery before it is checked.
enum SvmPart {
    Given(LinearSvm),
    /// One is trained, unless there are too many people.
    Untrained,
    /// The gallery does without.
    Absent,
}

impl Parts {
    fn check(&self) -> Result<(), GalleryError> {
        let fail = |text: String| Err(GalleryError::contents(text));
        let (rows, dim) = self.embeddings.dim();
        if rows == 0 || dim == 0 || self.names.is_empty() {
            return fail("it holds nobody: at least one embedding is expected".into());
        }
        if rows.saturating_mul(dim) > MOST_VALUES {
            return fail(format!(
                "it has {rows} embeddings of {dim} numbers, {MOST_VALUES} numbers are the most"
            ));
        }
        for (name, found) in [
            ("labels", self.labels.len()),
            ("sources", self.sources.len()),
            ("kinds", self.kinds.len()),
        ] {
            if found != rows {
                return fail(format!("{rows} embeddings have {found} {name}"));
            }
        }
        let mut people = vec![false; self.names.len()];
        for &label in &self.labels {
            match people.get_mut(label) {
                Some(person) => *person = true,
                None => {
                    return fail(format!(
                        "label {label} is not one of the {} names",
                        people.len()
                    ));
                }
            }
        }
        if let Some(nobody) = people.iter().position(|&seen| !seen) {
            return fail(format!("{:?} has no embedding", self.names[nobody]));
        }
        let mut sorted: Vec<_> = self.names.iter().collect();
        sorted.sort_unstable();
        if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            return fail(format!("the name {:?} stands twice", twice[0]));
        }
        if let SvmPart::Given(svm) = &self.svm {
            let expected = (self.names.len(), dim);
            if svm.weights.dim() != expected || svm.bias.len() != expected.0 {
                return fail(format!(
                    "svm_weights and svm_bias have the shapes {:?} and [{}], expected {expected:?} and [{}]",
                    svm.weights.dim(),
                    svm.bias.len(),
                    expected.0
                ));
            }
            if !svm.weights.iter().chain(&svm.bias).all(|v| v.is_finite()) {
                return fail("svm_weights or svm_bias are not finite".into());
            }
        }
        if let Some(statistics) = &self.statistics
            && statistics.dim() != dim
        {
            return fail(format!(
                "its statistics of faces are of {} numbers, its embeddings have {dim}",
                statistics.dim()
            ));
        }
        let logistics = self.calibration.iter().flatten();
        let numbers = logistics.flat_map(|l| [l.slope, l.offset]);
        if !numbers
            .chain(self.thresholds.into_iter().flatten())
            .all(f32::is_finite)
        {
            return fail("calibration or thresholds are not finite".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod large_tests;
#[cfg(test)]
mod open_set_tests;
#[cfg(test)]
mod tests;
