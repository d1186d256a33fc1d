//! The options of the program, checked and typed, which commands use instead of arguments.

use std::path::{Path, PathBuf};

use gstmfr::detect::{Detector, Params};
use gstmfr::embed::{Embedder, MODEL_FILE};
use gstmfr::gallery::{Contract, Enrolment};
use gstmfr::nn::{Device, RuntimeError, SessionOptions};
use gstmfr::paint::{MaskType, UnknownMask};

use crate::input::peers::Program;
use crate::output;

/// One run of the program.
#[derive(Debug)]
pub enum Command {
    Build(BuildOptions),
    Remove(RemoveOptions),
    Rename(RenameOptions),
    Merge(MergeOptions),
    Check(CheckOptions),
    List(ListOptions),
    Identify(IdentifyOptions),
    Embed(EmbedOptions),
    Evaluate(EvaluateOptions),
    Mask(MaskOptions),
    Model(ModelOptions),
    Show(ShowOptions),
    Upgrade(UpgradeOptions),
    Discover(DiscoverOptions),
    Export(ExportOptions),
    Import(ImportOptions),
}

/// Makes a gallery from photos, or adds photos to one.
#[derive(Debug)]
pub struct BuildOptions {
    pub photos: NewPhotos,
    pub output: PathBuf,
    /// Whether people who are in the output already stay.
    pub adds: bool,
    /// The last day, `YYYY-MM-DD`, on which the people in the photos are named.
    pub expires: Option<String>,
    pub val: Option<PathBuf>,
    pub faces_output: Option<PathBuf>,
    pub given: GivenEnrolment,
    /// Whether results of an interrupted run are ignored.
    pub fresh: bool,
    pub report: Option<PathBuf>,
    pub strict: bool,
    pub json: bool,
    pub vision: Vision,
}

/// Photos to enrol.
#[derive(Debug)]
pub enum NewPhotos {
    /// A folder of photos for each person.
    Dataset(PathBuf),
    /// Photos of one person.
    Person { name: String, photos: Vec<PathBuf> },
    /// Photos of several people below a folder, with the names of these.
    Files {
        root: PathBuf,
        files: Vec<(String, PathBuf)>,
    },
}

/// The options of enrolment that were given; the others are those of the gallery that is added to, or the default ones.
#[derive(Debug, Clone, Default)]
pub struct GivenEnrolment {
    pub target_fpir: Option<f64>,
    pub masks: Option<Vec<MaskType>>,
    pub mask_copies: Option<usize>,
    pub min_face_size: Option<u32>,
    pub detection_thresholds: [Option<f32>; 3],
    pub scale_factor: Option<f32>,
}

impl GivenEnrolment {
    /// All options of enrolment.
    pub fn complete(&self, others: Enrolment) -> Enrolment {
        let names = |masks: &Vec<MaskType>| masks.iter().map(|m| m.name().to_owned()).collect();
        let [p, r, o] = others.detection_thresholds;
        let [pnet, rnet, onet] = self.detection_thresholds;
        Enrolment {
            target_fpir: self.target_fpir.unwrap_or(others.target_fpir),
            masks: self.masks.as_ref().map_or(others.masks, names),
            mask_copies: self.mask_copies.unwrap_or(others.mask_copies),
            min_face_size: self.min_face_size.or(others.min_face_size),
            detection_thresholds: [pnet.unwrap_or(p), rnet.unwrap_or(r), onet.unwrap_or(o)],
            scale_factor: self.scale_factor.unwrap_or(others.scale_factor),
        }
    }
}

/// Removes people from a gallery.
#[derive(Debug)]
pub struct RemoveOptions {
    pub database: PathBuf,
    pub names: Vec<String>,
    /// Whether everybody goes whose last day is over, instead of `names`.
    pub expired: bool,
    /// Whether nobody need be asked.
    pub yes: bool,
    /// Where what was removed is recorded.
    pub proof: Option<PathBuf>,
}

/// Gives a person of a gallery another name.
#[derive(Debug)]
pub struct RenameOptions {
    pub database: PathBuf,
    pub old: String,
    pub new: String,
}

/// Makes one gallery from several.
#[derive(Debug)]
pub struct MergeOptions {
    pub galleries: Vec<PathBuf>,
    pub output: PathBuf,
}

/// Checks the photos for a gallery, or a gallery.
#[derive(Debug)]
pub struct CheckOptions {
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
pub struct ListOptions {
    pub database: PathBuf,
    pub json: bool,
}

/// Shows a person of a gallery.
#[derive(Debug)]
pub struct ShowOptions {
    pub database: PathBuf,
    pub name: String,
    pub report: Option<PathBuf>,
}

/// Embeds the faces of a gallery anew.
#[derive(Debug)]
pub struct UpgradeOptions {
    pub database: PathBuf,
    /// Files with crops of its faces.
    pub faces: Vec<PathBuf>,
    pub vision: Vision,
}

/// Detects and identifies faces in photos.
#[derive(Debug)]
pub struct IdentifyOptions {
    pub inputs: Vec<PathBuf>,
    pub database: Option<PathBuf>,
    pub json: bool,
    pub vision: Vision,
}

/// Writes the embeddings of photos.
#[derive(Debug)]
pub struct EmbedOptions {
    pub inputs: Vec<PathBuf>,
    pub output: PathBuf,
    pub vision: Vision,
}

/// Measures a gallery on photos of known and unknown people.
#[derive(Debug)]
pub struct EvaluateOptions {
    pub database: PathBuf,
    pub probes: PathBuf,
    pub unknown: Option<PathBuf>,
    pub json: bool,
    pub vision: Vision,
}

/// Paints masks onto the faces of photos.
#[derive(Debug)]
pub struct MaskOptions {
    pub inputs: Vec<PathBuf>,
    pub output: PathBuf,
    pub masks: Masks,
    pub json: bool,
    pub vision: Vision,
}

/// Finds the people in unsorted photos and videos.
#[derive(Debug)]
pub struct DiscoverOptions {
    pub inputs: Vec<PathBuf>,
    /// The folder to make.
    pub output: PathBuf,
    /// The gallery of people who are set aside.
    pub database: Option<PathBuf>,
    /// Whether results of an interrupted run are ignored.
    pub fresh: bool,
    pub report: Option<PathBuf>,
    pub json: bool,
    pub vision: Vision,
}

/// Writes the embeddings of a gallery for other programs.
#[derive(Debug)]
pub struct ExportOptions {
    pub database: PathBuf,
    pub format: EmbeddingFormat,
    /// The file or folder to write.
    pub output: PathBuf,
}

/// Formats of embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmbeddingFormat {
    Json,
    DlStreamer,
    Hailo,
    Npz,
}

/// Takes people over from other programs.
#[derive(Debug)]
pub struct ImportOptions {
    pub input: PathBuf,
    pub format: ImportFormat,
    /// The gallery that they are added to.
    pub output: PathBuf,
    /// Whether embeddings without a contract are of this network.
    pub trust_embeddings: bool,
    pub vision: Vision,
}

/// What is imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportFormat {
    Embeddings(EmbeddingFormat),
    /// Photos, which are embedded.
    Photos(Program),
}

/// Shows the role of ONNX files and which engine runs them.
#[derive(Debug)]
pub struct ModelOptions {
    pub files: Vec<PathBuf>,
    pub json: bool,
}

/// Kinds of synthetic masks, and number of copies of a photo.
#[derive(Debug, Clone, Default)]
pub struct Masks {
    /// The kinds, used in rotation; without any there are no copies.
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
    /// The masks with which photos of this gallery are copied. An error names a kind that this version does not know.
    pub fn of(enrolment: &Enrolment) -> Result<Self, UnknownMask> {
        let types = enrolment.masks.iter().map(|name| name.parse());
        Ok(Self {
            types: types.collect::<Result<_, _>>()?,
            copies: enrolment.mask_copies,
            seed: 0,
        })
    }

    /// The copies of the photo with this hash. They depend on nothing else, so a photo gets the
    /// same masks wherever it is stored; the first kind differs from photo to photo, so that few
    /// copies of each use all kinds.
    pub fn copies(&self, sha256: &[u8; 32]) -> impl Iterator<Item = MaskedCopy> {
        let [a, b, c, d, e, f, g, h, ..] = *sha256;
        let own = u64::from_le_bytes([a, b, c, d, e, f, g, h]) ^ self.seed;
        let first = (own % self.types.len().max(1) as u64) as usize;
        let turns = self.types.iter().cycle().skip(first).take(self.copies);
        turns.enumerate().map(move |(i, &mask)| MaskedCopy {
            mask,
            // The seeds of a photo's copies are far apart, because those of further faces are consecutive.
            seed: own.wrapping_add((i as u64) << 32),
        })
    }
}

/// Size of the smallest face to detect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MinFace {
    /// Pixels, regardless of the photo's size.
    Pixels(u32),
    /// The larger of [`ENROLMENT_MIN_FACE`] and a fiftieth of the photo's longer side: the main person
    /// of a photo is larger than that, and for large photos this takes a tenth of the time and
    /// memory.
    Relative,
}

/// Smallest face in pixels to detect in photos of known people: half of mfrdetect's default,
/// so that a face in a photo 160 pixels wide is found with a margin.
pub const ENROLMENT_MIN_FACE: u32 = 20;

/// Fraction of the photo's longer side that is the smallest face with [`MinFace::Relative`].
const RELATIVE_MIN_FACE: f32 = 0.02;

impl MinFace {
    /// Minimum size in pixels for a photo of this size.
    pub fn pixels(self, width: usize, height: usize) -> u32 {
        match self {
            Self::Pixels(pixels) => pixels,
            Self::Relative => {
                ENROLMENT_MIN_FACE.max((width.max(height) as f32 * RELATIVE_MIN_FACE) as u32)
            }
        }
    }
}

/// Options of detection and embedding: networks, devices and parameters.
#[derive(Debug, Clone)]
pub struct Vision {
    pub min_face: MinFace,
    /// Detection parameters, of which `min_face_size` is set by `min_face`.
    pub params: Params,
    /// Folder of the detector's networks; the built-in ones if none.
    pub model_path: Option<PathBuf>,
    /// FaceNet; the installed one if none.
    pub model: Option<PathBuf>,
    pub session: SessionOptions,
    /// Number of photos processed in parallel.
    pub jobs: usize,
}

impl Vision {
    /// With the detection that photos of this gallery are enrolled with.
    pub fn enrolling(&self, enrolment: &Enrolment) -> Self {
        let mut vision = self.clone();
        vision.params.thresholds = enrolment.detection_thresholds;
        vision.params.scale_factor = enrolment.scale_factor;
        vision.min_face = enrolment
            .min_face_size
            .map_or(MinFace::Relative, MinFace::Pixels);
        vision
    }

    /// With the network that a gallery with this contract was made with, if it is installed and no other one is named.
    pub fn of_gallery(&self, contract: Option<&Contract>) -> Result<Self, RuntimeError> {
        let mut vision = self.clone();
        if vision.model.is_none() {
            let sha256 = contract.map(|contract| contract.model_sha256.as_str());
            let file = Embedder::model_for(sha256)?;
            if file.file_name() != Some(MODEL_FILE.as_ref()) {
                output::note(&format!(
                    "the network of the gallery is used: {}",
                    file.display()
                ));
            }
            vision.model = Some(file);
        }
        Ok(vision)
    }

    /// A detector for one of several workers, which runs on a single thread.
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

    /// An embedder, on one thread by default.
    pub fn embedder(&self) -> Result<Embedder, RuntimeError> {
        let options = SessionOptions {
            threads: self.session.threads.max(1),
            ..self.session.clone()
        };
        Embedder::from_file(&self.model_file()?, &options, 0)
    }

    /// Number of embedders that keep all jobs busy: together they have as many threads as there are jobs. A GPU is
    /// shared.
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

/// A path as text for display.
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
