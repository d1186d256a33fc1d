//! Gallery files: `.npz` that numpy opens with `allow_pickle=False`.

use std::fs::File;
use std::io::{BufReader, Read, Seek, Write};
use std::path::Path;

use ndarray::{Array1, Array2};

use super::npz::{MOST_BUDGET, NpzReader, NpzWriter, column, cost_of_texts};
use super::{
    Contract, FORMAT, Gallery, GalleryError, Kind, Logistic, MOST_SVM_PEOPLE, Parts, Statistics,
    SvmPart, legacy,
};
use crate::gallery::svm::LinearSvm;
use crate::io::files::{open_regular, write_atomically};

/// Maximum of people × embeddings × embedding length for which an SVM is trained when a gallery is opened: about five
/// seconds on one core. Embeddings shorter than `LEAST_DIM` count as that long, because a step has costs besides the
/// dot product.
const MOST_TRAINING: u64 = 20_000_000_000;
const LEAST_DIM: usize = 64;

/// Opens a gallery file that is not empty.
fn opened(path: &Path) -> Result<BufReader<File>, GalleryError> {
    let unreadable = |reason| GalleryError::Read {
        path: path.to_owned(),
        reason,
    };
    let file = open_regular(path).map_err(unreadable)?;
    if file.metadata().map_err(unreadable)?.len() == 0 {
        return Err(GalleryError::format("an empty file".into()).at(path));
    }
    Ok(BufReader::new(file))
}

impl Gallery {
    /// Reads a gallery file, or the `embedd.npz` of the original scripts, for which an SVM is then trained.
    pub fn load(path: &Path) -> Result<Self, GalleryError> {
        Self::read(opened(path)?).map_err(|e| e.at(path))
    }

    /// Reads the contract of a gallery file alone, which tells the network that the file needs; None if it has none.
    pub fn contract_in(path: &Path) -> Result<Option<Contract>, GalleryError> {
        let file = opened(path)?;
        let contract = || contract(&mut NpzReader::new(file)?);
        contract().map_err(|e| e.at(path))
    }

    /// Reads a gallery from any reader.
    pub fn read(reader: impl Read + Seek) -> Result<Self, GalleryError> {
        let mut npz = NpzReader::new(reader)?;
        let parts = if npz.contains("embeddings") && npz.contains("names") {
            parts(&mut npz)?
        } else if npz.contains("arr_0") && npz.contains("arr_1") {
            let mut parts = legacy::parts(&mut npz)?;
            // Files of the original scripts have none of these, those of `mfr-enroll export` do.
            let rows = parts.embeddings.nrows();
            parts.sources = sources(&mut npz, rows)?;
            parts.kinds = kinds(&mut npz, rows)?;
            parts.contract = contract(&mut npz)?;
            if let Some(contract) = &parts.contract {
                parts.statistics = Statistics::built_in(&contract.model_sha256)?
                    .filter(|statistics| statistics.dim() == parts.embeddings.ncols())
                    .cloned();
            }
            parts
        } else {
            let names = npz.names().join(", ");
            return Err(GalleryError::format(format!("an archive with: {names}")));
        };
        check_training(&parts)?;
        Self::assemble(parts)
    }

    /// Writes the file atomically, so that a reader finds either the old one or the new one, and readable
    /// by its owner only, because it holds biometric data.
    pub fn save(&self, path: &Path) -> Result<(), GalleryError> {
        write_atomically(path, |file| self.write(file)).map_err(|reason| GalleryError::Write {
            path: path.to_owned(),
            reason,
        })
    }

    /// Writes the gallery to any writer. One that could not be read again is an error.
    pub fn write(&self, writer: impl Write + Seek) -> std::io::Result<()> {
        let cost = self.reading_cost();
        if cost > MOST_BUDGET {
            return Err(std::io::Error::new(
                std::io::ErrorKind::FileTooLarge,
                format!(
                    "reading it would take {cost} bytes of memory, of {MOST_BUDGET}: it has too many embeddings, or the paths of its photos are too long"
                ),
            ));
        }
        let mut npz = NpzWriter::new(writer);
        let labels: Vec<i64> = self.labels.iter().map(|&l| l as i64).collect();
        let kinds: Vec<u8> = self.kinds.iter().map(|&k| k as u8).collect();
        npz.numbers("embeddings", &*self.embeddings)?;
        npz.numbers("labels", &column(&labels))?;
        npz.texts("names", &self.names)?;
        npz.texts("sources", &self.sources)?;
        npz.numbers("kinds", &column(&kinds))?;
        match self.scorer.svm() {
            Some(svm) => {
                npz.numbers("svm_weights", &svm.weights)?;
                npz.numbers("svm_bias", &svm.bias)?;
            }
            None => {
                let dim = self.embeddings.ncols();
                npz.numbers("svm_weights", &Array2::<f32>::zeros((0, dim)))?;
                npz.numbers("svm_bias", &Array1::<f32>::zeros(0))?;
            }
        }
        let [bare, masked] = self.calibration;
        let calibration = [bare.slope, bare.offset, masked.slope, masked.offset];
        npz.numbers("calibration", &column(&calibration))?;
        npz.numbers("thresholds", &column(&self.thresholds))?;
        if let Some(statistics) = self.scorer.statistics() {
            npz.numbers("face_centres", &statistics.centres)?;
            npz.numbers("face_projection", &statistics.projection)?;
            npz.numbers("face_between", &statistics.between)?;
        }
        if let Some(contract) = &self.contract {
            let json = serde_json::to_vec(contract)?;
            npz.numbers("contract", &column(&json))?;
        }
        npz.finish()?.flush()
    }
}

impl Gallery {
    /// Bytes of memory that are charged when the file is read.
    fn reading_cost(&self) -> u64 {
        let svm = self.scorer.svm().map_or(0, |svm| svm.weights.len());
        let values = 4 * (self.embeddings.len() + svm) as u64;
        let each = 8 + 24 + 2;
        values
            + each * self.labels.len() as u64
            + cost_of_texts(&self.names)
            + cost_of_texts(&self.sources)
    }
}

/// Rejects a file without an SVM if training one would take more than seconds.
fn check_training(parts: &Parts) -> Result<(), GalleryError> {
    let (rows, dim) = parts.embeddings.dim();
    let people = parts.names.len();
    let work = [rows, people, dim.max(LEAST_DIM)]
        .iter()
        .try_fold(1u64, |work, &n| work.checked_mul(n as u64));
    let is_trained = matches!(parts.svm, SvmPart::Untrained) && people <= MOST_SVM_PEOPLE;
    if !is_trained || work.is_some_and(|work| work <= MOST_TRAINING) {
        return Ok(());
    }
    Err(GalleryError::contents(format!(
        "it has no SVM, and training one for {people} people from {rows} embeddings takes too long while it is opened"
    )))
}

fn parts<R: Read + Seek>(npz: &mut NpzReader<R>) -> Result<Parts, GalleryError> {
    let embeddings = npz.floats("embeddings", "float32 [N, D], one embedding a row")?;
    let rows = embeddings.nrows();
    let labels = npz.array("labels")?;
    let labels = npz.indices(&labels, "int64 [N], indices into names")?;
    let names = npz.array("names")?;
    let names = npz.texts(&names, "text [K], names of people")?;
    let sources = sources(npz, rows)?;
    let kinds = kinds(npz, rows)?;
    let svm = if npz.contains("svm_weights") && npz.contains("svm_bias") {
        let svm = LinearSvm {
            weights: npz.floats("svm_weights", "float32 [K, D], or [0, D] for none")?,
            bias: npz.floats("svm_bias", "float32 [K], or [0] for none")?,
        };
        // Both are checked against the people, unless both are empty.
        match svm.weights.nrows() == 0 && svm.bias.is_empty() {
            true => SvmPart::Absent,
            false => SvmPart::Given(svm),
        }
    } else {
        SvmPart::Untrained
    };
    Ok(Parts {
        names,
        embeddings,
        labels,
        sources,
        kinds,
        svm,
        statistics: statistics(npz)?,
        calibration: calibration(npz)?,
        thresholds: match values(npz, "thresholds", "float32 [2]")?.as_deref() {
            None => None,
            Some(&[bare, masked]) => Some([bare, masked]),
            Some(other) => return Err(wrong_length("thresholds", "2", other)),
        },
        contract: contract(npz)?,
    })
}

/// The photo of each embedding, without a name if the file does not state it.
fn sources<R: Read + Seek>(
    npz: &mut NpzReader<R>,
    rows: usize,
) -> Result<Vec<String>, GalleryError> {
    if !npz.contains("sources") {
        return npz.repeated("sources", String::new(), rows);
    }
    let sources = npz.array("sources")?;
    npz.texts(&sources, "text [N], paths of photos")
}

/// The kind of each embedding, a photo if the file does not state it.
fn kinds<R: Read + Seek>(npz: &mut NpzReader<R>, rows: usize) -> Result<Vec<Kind>, GalleryError> {
    if !npz.contains("kinds") {
        return npz.repeated("kinds", Kind::Photo, rows);
    }
    let kinds = npz.array("kinds")?;
    let kinds = npz.bytes(&kinds, "uint8 [N], kinds")?.into_iter();
    kinds
        .map(|kind| {
            Kind::from_number(kind.into())
                .ok_or_else(|| GalleryError::contents(format!("kind {kind} is not 0, 1 or 2")))
        })
        .collect()
}

/// Slope and offset for bare and for masked faces, or one pair for both.
fn calibration<R: Read + Seek>(
    npz: &mut NpzReader<R>,
) -> Result<Option<[Logistic; 2]>, GalleryError> {
    let logistic = |slope, offset| Logistic { slope, offset };
    match values(npz, "calibration", "float32 [4]")?.as_deref() {
        None => Ok(None),
        Some(&[a, b]) => Ok(Some([logistic(a, b); 2])),
        Some(&[a, b, c, d]) => Ok(Some([logistic(a, b), logistic(c, d)])),
        Some(other) => Err(wrong_length("calibration", "2 or 4", other)),
    }
}

fn statistics<R: Read + Seek>(npz: &mut NpzReader<R>) -> Result<Option<Statistics>, GalleryError> {
    if !npz.contains("face_projection") {
        return Ok(None);
    }
    let centres = npz.floats("face_centres", "float32 [2, D]")?;
    let projection = npz.floats("face_projection", "float32 [D, R]")?;
    let between = npz.floats("face_between", "float32 [R]")?;
    Statistics::new(centres, projection, between).map(Some)
}

/// A short row of numbers; None if the file has none of this name.
fn values<R: Read + Seek>(
    npz: &mut NpzReader<R>,
    name: &str,
    expected: &str,
) -> Result<Option<Vec<f32>>, GalleryError> {
    if !npz.contains(name) {
        return Ok(None);
    }
    let values = npz.floats::<ndarray::Ix1>(name, expected)?;
    Ok(Some(values.to_vec()))
}

fn wrong_length(name: &str, expected: &str, found: &[f32]) -> GalleryError {
    GalleryError::contents(format!(
        "array {name}: expected {expected} numbers, found {}",
        found.len()
    ))
}

fn contract<R: Read + Seek>(npz: &mut NpzReader<R>) -> Result<Option<Contract>, GalleryError> {
    if !npz.contains("contract") {
        return Ok(None);
    }
    let bytes = npz.array("contract")?;
    let bytes = npz.bytes(&bytes, "uint8, JSON text")?;
    let contract: Contract = serde_json::from_slice(&bytes)
        .map_err(|e| GalleryError::contents(format!("array contract: {e}")))?;
    if contract.format != FORMAT {
        return Err(GalleryError::format(format!(
            "the format \"{}\", this version reads \"{FORMAT}\"",
            contract.format
        )));
    }
    Ok(Some(contract))
}
