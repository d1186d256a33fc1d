//! Galleries as files: `.npz` that numpy opens with `allow_pickle=False`.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, Write};
use std::path::Path;

use super::npz::{NpzReader, NpzWriter, column};
use super::{Contract, FORMAT, Gallery, GalleryError, Kind, Logistic, Parts, Statistics, legacy};
use crate::gallery::svm::LinearSvm;

impl Gallery {
    /// Reads a gallery file, or the `embedd.npz` of the original scripts, whose SVM is then trained.
    pub fn load(path: &Path) -> Result<Self, GalleryError> {
        let unreadable = |reason| GalleryError::Read {
            path: path.to_owned(),
            reason,
        };
        let file = File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(GalleryError::format("something that is no file".into()).at(path));
        }
        if metadata.len() == 0 {
            return Err(GalleryError::format("an empty file".into()).at(path));
        }
        Self::read(BufReader::new(file)).map_err(|e| e.at(path))
    }

    /// The same from any reader.
    pub fn read(reader: impl Read + Seek) -> Result<Self, GalleryError> {
        let mut npz = NpzReader::new(reader)?;
        let parts = if npz.contains("embeddings") && npz.contains("names") {
            parts(&mut npz)?
        } else if npz.contains("arr_0") && npz.contains("arr_1") {
            legacy::parts(&mut npz)?
        } else {
            let names = npz.names().join(", ");
            return Err(GalleryError::format(format!("an archive with: {names}")));
        };
        Self::assemble(parts)
    }

    /// Writes the file so that a reader finds the old one or the new one, never half of it, and
    /// so that nobody but the owner may read it: it holds biometric data.
    pub fn save(&self, path: &Path) -> Result<(), GalleryError> {
        write_atomically(path, |file| self.write(file)).map_err(|reason| GalleryError::Write {
            path: path.to_owned(),
            reason,
        })
    }

    /// The same to any writer.
    pub fn write(&self, writer: impl Write + Seek) -> std::io::Result<()> {
        let mut npz = NpzWriter::new(writer);
        let labels: Vec<i64> = self.labels.iter().map(|&l| l as i64).collect();
        let kinds: Vec<u8> = self.kinds.iter().map(|&k| k as u8).collect();
        npz.numbers("embeddings", &self.embeddings)?;
        npz.numbers("labels", &column(&labels))?;
        npz.texts("names", &self.names)?;
        npz.texts("sources", &self.sources)?;
        npz.numbers("kinds", &column(&kinds))?;
        let svm = self.scorer.svm();
        npz.numbers("svm_weights", &svm.weights)?;
        npz.numbers("svm_bias", &svm.bias)?;
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

/// Writes a file under another name beside `path`, mode 0600, makes it safe on the disk, then gives
/// it the name.
pub fn write_atomically(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let name = path.file_name().ok_or(std::io::ErrorKind::IsADirectory)?;
    // Of mode 0600, and removed if anything fails before it has its name.
    let temporary = tempfile::Builder::new()
        .prefix(&format!(".{}.", name.to_string_lossy()))
        .suffix(".tmp")
        .tempfile_in(folder)?;
    let mut file = BufWriter::new(temporary.as_file().try_clone()?);
    write(&mut file)?;
    file.flush()?;
    file.get_ref().sync_all()?;
    temporary.persist(path)?;
    File::open(folder)?.sync_all()
}

fn parts<R: Read + Seek>(npz: &mut NpzReader<R>) -> Result<Parts, GalleryError> {
    let embeddings = npz
        .array("embeddings")?
        .floats("float32 [N, D], one embedding a row")?;
    let rows = embeddings.nrows();
    let labels = npz
        .array("labels")?
        .integers("int64 [N], indices into names")?;
    let names = npz.array("names")?.texts("text [K], names of people")?;
    let sources = if npz.contains("sources") {
        npz.array("sources")?.texts("text [N], paths of photos")?
    } else {
        vec![String::new(); rows]
    };
    let kinds = if npz.contains("kinds") {
        npz.array("kinds")?.integers("uint8 [N], kinds")?
    } else {
        vec![0; rows]
    };
    let svm = if npz.contains("svm_weights") && npz.contains("svm_bias") {
        Some(LinearSvm {
            weights: npz.array("svm_weights")?.floats("float32 [K, D]")?,
            bias: npz.array("svm_bias")?.floats("float32 [K]")?,
        })
    } else {
        None
    };
    Ok(Parts {
        names,
        embeddings,
        labels: labels
            .into_iter()
            // A negative label becomes one that is certainly not a name's.
            .map(|l| usize::try_from(l).unwrap_or(usize::MAX))
            .collect(),
        sources,
        kinds: kinds
            .into_iter()
            .map(|k| {
                Kind::from_number(k)
                    .ok_or_else(|| GalleryError::contents(format!("kind {k} is not 0, 1 or 2")))
            })
            .collect::<Result<_, _>>()?,
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
    let centres = npz.array("face_centres")?.floats("float32 [2, D]")?;
    let projection = npz.array("face_projection")?.floats("float32 [D, R]")?;
    let between = npz.array("face_between")?.floats("float32 [R]")?;
    Statistics::new(centres, projection, between).map(Some)
}

/// A short row of numbers, None where the file has none of this name.
fn values<R: Read + Seek>(
    npz: &mut NpzReader<R>,
    name: &str,
    expected: &str,
) -> Result<Option<Vec<f32>>, GalleryError> {
    if !npz.contains(name) {
        return Ok(None);
    }
    let values = npz.array(name)?.floats::<ndarray::Ix1>(expected)?;
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
    let bytes = npz.array("contract")?.integers("uint8, JSON text")?;
    let bytes: Vec<u8> = bytes
        .into_iter()
        .map(|b| u8::try_from(b).unwrap_or(b'?'))
        .collect();
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
