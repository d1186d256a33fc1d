//! What the program is asked to do, checked and typed. Commands see these, never the arguments.

use std::path::{Path, PathBuf};

use gstmfr::detect::{Detector, Params};
use gstmfr::embed::Embedder;
use gstmfr::nn::{Device, RuntimeError, SessionOptions};
use gstmfr::paint::MaskType;

/// One run of the program.
#[derive(Debug)]
pub enum Command {
    Build(Build),
    Check(Check),
    List(List),
    Identify(Identify),
    Embed(Embed),
    Evaluate(Evaluate),
    Mask(Mask),
    Model(Model),
}

/// Makes a gallery of a dataset.
#[derive(Debug)]
pub struct Build {
    pub dataset: PathBuf,
    pub output: PathBuf,
    pub val: Option<PathBuf>,
    pub faces_output: Option<PathBuf>,
    pub masks: Masks,
    /// Share of strangers that may be named.
    pub target_fpir: f64,
    /// Whatever an interrupted run had done is done again.
    pub fresh: bool,
    pub report: Option<PathBuf>,
    pub strict: bool,
    pub json: bool,
    pub vision: Vision,
}

/// Looks at what a gallery would be made of, or is.
#[derive(Debug)]
pub struct Check {
    pub subject: Subject,
    pub report: Option<PathBuf>,
    pub strict: bool,
    pub json: bool,
    pub vision: Vision,
}

#[derive(Debug)]
pub enum Subject {
    Dataset(PathBuf),
    Database(PathBuf),
}

/// Lists the people of a gallery.
#[derive(Debug)]
pub struct List {
    pub database: PathBuf,
    pub json: bool,
}

/// Finds faces in photos and names them.
#[derive(Debug)]
pub struct Identify {
    pub inputs: Vec<PathBuf>,
    pub database: Option<PathBuf>,
    pub json: bool,
    pub vision: Vision,
}

/// Writes the embeddings of photos.
#[derive(Debug)]
pub struct Embed {
    pub inputs: Vec<PathBuf>,
    pub output: PathBuf,
    pub vision: Vision,
}

/// Measures a gallery on photos of known and unknown people.
#[derive(Debug)]
pub struct Evaluate {
    pub database: PathBuf,
    pub probes: PathBuf,
    pub unknown: Option<PathBuf>,
    pub json: bool,
    pub vision: Vision,
}

/// Paints masks onto the faces of photos.
#[derive(Debug)]
pub struct Mask {
    pub inputs: Vec<PathBuf>,
    pub output: PathBuf,
    pub masks: Masks,
    pub json: bool,
    pub vision: Vision,
}

/// Tells what ONNX files are and which engine runs them.
#[derive(Debug)]
pub struct Model {
    pub files: Vec<PathBuf>,
    pub json: bool,
}

/// Masked copies of a photo that is learned from, unless told otherwise: with more of them hardly
/// anything is gained, and every one takes the time of a photo.
pub const MASK_COPIES: usize = 4;

/// Which masks are painted, and how many copies of a photo.
#[derive(Debug, Clone, Default)]
pub struct Masks {
    /// The kinds, taken in turn; with none of them there are no copies.
    pub types: Vec<MaskType>,
    pub copies: usize,
    pub seed: u64,
}

/// One masked copy of a photo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaskedCopy {
    pub mask: MaskType,
    pub seed: u64,
}

impl Masks {
    /// The copies of the photo with this hash. They depend on nothing else, so that a photo gets the
    /// same masks wherever it lies; which kind comes first differs from photo to photo, so that few
    /// copies of each use all kinds.
    pub fn copies(&self, sha256: &[u8; 32]) -> impl Iterator<Item = MaskedCopy> {
        let [a, b, c, d, e, f, g, h, ..] = *sha256;
        let own = u64::from_le_bytes([a, b, c, d, e, f, g, h]) ^ self.seed;
        let first = (own % self.types.len().max(1) as u64) as usize;
        let turns = self.types.iter().cycle().skip(first).take(self.copies);
        turns.enumerate().map(move |(i, &mask)| MaskedCopy {
            mask,
            // Far from the seeds of the photo's other copies, whose faces count on from theirs.
            seed: own.wrapping_add((i as u64) << 32),
        })
    }
}

/// How small a face is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MinFace {
    /// Pixels, whatever the size of the photo.
    Pixels(u32),
    /// The larger of [`ENROLMENT_MIN_FACE`] and a fiftieth of the photo's longer side: the person
    /// that a photo is kept for is larger than that, and large photos cost a tenth of the time and
    /// memory.
    Relative,
}

/// Smallest face in pixels looked for in photos of known people: half of what mfrdetect looks for,
/// so that a face of a photo 160 pixels wide is found with room to spare.
pub const ENROLMENT_MIN_FACE: u32 = 20;

/// Part of the photo's longer side below which [`MinFace::Relative`] does not look.
const RELATIVE_MIN_FACE: f32 = 0.02;

impl MinFace {
    /// Pixels for a photo of this size.
    pub fn pixels(self, width: usize, height: usize) -> u32 {
        match self {
            Self::Pixels(pixels) => pixels,
            Self::Relative => {
                ENROLMENT_MIN_FACE.max((width.max(height) as f32 * RELATIVE_MIN_FACE) as u32)
            }
        }
    }
}

/// Detection and embedding: which networks, where they run, and what they look for.
#[derive(Debug, Clone)]
pub struct Vision {
    pub min_face: MinFace,
    /// `min_face_size` of these is left to `min_face`.
    pub params: Params,
    /// Folder of the detector's networks; those built in if none.
    pub model_path: Option<PathBuf>,
    /// FaceNet; the installed one if none.
    pub model: Option<PathBuf>,
    pub session: SessionOptions,
    /// Photos that are worked on at once.
    pub jobs: usize,
}

impl Vision {
    /// A detector for one of several workers: it runs on one thread of its own.
    pub fn detector(&self) -> Result<Detector, RuntimeError> {
        let options = SessionOptions {
            threads: 1,
            ..self.session.clone()
        };
        match &self.model_path {
            Some(folder) => Detector::from_folder(folder, &options),
            None => Detector::built_in(&options),
        }
    }

    /// An embedder, on one thread unless told otherwise.
    pub fn embedder(&self) -> Result<Embedder, RuntimeError> {
        let options = SessionOptions {
            threads: self.session.threads.max(1),
            ..self.session.clone()
        };
        Embedder::from_file(&self.model_file()?, &options, 0)
    }

    /// Embedders that keep all jobs busy: their threads are as many as the jobs. A GPU is shared.
    pub fn networks(&self) -> usize {
        match self.session.device {
            Device::Cpu => (self.jobs / self.session.threads.max(1)).max(1),
            _ => 1,
        }
    }

    fn model_file(&self) -> Result<PathBuf, RuntimeError> {
        match &self.model {
            Some(path) => Ok(path.clone()),
            None => Embedder::default_model(),
        }
    }
}

/// A path as a person reads it.
pub fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_masks_take_turns_and_begin_with_another_for_another_photo() {
        let masks = Masks {
            types: MaskType::ALL.to_vec(),
            copies: 7,
            seed: 0,
        };
        let kinds = |first: u8| -> Vec<MaskType> {
            let mut sha256 = [0; 32];
            sha256[0] = first;
            masks.copies(&sha256).map(|copy| copy.mask).collect()
        };
        assert_eq!(kinds(0)[..6], MaskType::ALL);
        assert_eq!(kinds(0)[6], MaskType::Surgical);
        assert_eq!(kinds(2)[0], MaskType::N95);
        let mut seeds: Vec<u64> = masks.copies(&[9; 32]).map(|copy| copy.seed).collect();
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!(seeds.len(), 7);
    }

    #[test]
    fn without_kinds_there_are_no_copies() {
        let masks = Masks {
            types: Vec::new(),
            copies: 3,
            seed: 0,
        };
        assert_eq!(masks.copies(&[1; 32]).count(), 0);
    }
}
