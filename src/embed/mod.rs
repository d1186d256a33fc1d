//! Embedding of faces: the crop rule, and FaceNet. The mask network uses the same crop.

mod exposure;
pub mod mask;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ndarray::{Array2, ArrayViewMut1};

use crate::embed::mask::{Mask, MaskNet};
use crate::frame::geometry::Rect;
use crate::frame::image::ImageView;
use crate::frame::orientation::Orientation;
use crate::frame::resize::{Border, Filter, Layout, Resize, Resizer};
use crate::io::locate;
use crate::nn::{self, Network, Role, RuntimeError, SessionOptions, Source};

/// Name of this network in metadata.
pub const NAME: &str = "facenet";
/// Name of the model file that is searched for if none is specified.
pub const MODEL_FILE: &str = "facenet.onnx";

/// Side of the network's square input in pixels.
pub const INPUT_SIZE: usize = 160;

/// Width and height of the crop relative to the face box. Measured on LFW and MFR2: rank-1 .992 without and .740 with
/// masks, against .911–.943 and .18–.21 with the tight box.
const CROP_SCALE: f32 = 1.32;

/// Name of crop and normalisation in a gallery's contract. A change of either needs a new name, or galleries would
/// silently stop matching.
pub const PREPROCESSING: &str = "mtcnn-box-x1.32-squeezed-160-rgb-(x-127.5)/128";

/// Default number of faces in one run: larger batches gain little on a CPU and cost memory.
pub const DEFAULT_BATCH_SIZE: usize = 8;

/// The crop rule of both enrolment and recognition: the detector's box, width and height each ×1.32 about the centre,
/// black outside the image, resized to 160×160 without keeping the aspect ratio.
fn crop(face: Rect) -> Resize {
    let source = face.scaled(CROP_SCALE);
    Resize {
        source,
        width: INPUT_SIZE,
        height: INPUT_SIZE,
        filter: if source.width > INPUT_SIZE as f32 {
            Filter::Area
        } else {
            Filter::Linear
        },
        border: Border::Black,
    }
}

/// A face that is to be cropped: its box in an image, and the rotation that makes it upright.
pub type Turned = (Rect, Orientation);

/// The image and the box as they are when the face is upright.
fn upright<'a>(view: &ImageView<'a>, (face, turn): Turned) -> (ImageView<'a>, Rect) {
    let size = (view.width() as f32, view.height() as f32);
    (view.turned(turn), turn.rect_to_upright(face, size))
}

/// The crop of a face as packed 8-bit RGB, 160×160: the input of the network, for display.
pub fn crop_rgb8(view: &ImageView, face: Rect) -> Vec<u8> {
    let mut out = Vec::new();
    Resizer::default().rgb8(view, &crop(face), &mut out);
    out
}

/// Result of embedding faces.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedded {
    /// Embeddings, `[faces, dim]`, each of unit length.
    pub embeddings: Array2<f32>,
    /// Whether each face wears a mask, one for each row.
    pub masks: Vec<Mask>,
}

/// FaceNet, the mask network, and their scratch memory.
pub struct Embedder {
    net: Arc<Network>,
    threads: usize,
    masks: MaskNet,
    resizer: Resizer,
    tensor: Vec<f32>,
    /// The embeddings of a batch.
    outputs: [Vec<f32>; 1],
    batch_size: usize,
    dim: usize,
}

impl fmt::Debug for Embedder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedder")
            .field("model", &self.net.name())
            .finish_non_exhaustive()
    }
}

impl Embedder {
    /// The model file that is used if none is specified.
    pub fn default_model() -> Result<PathBuf, RuntimeError> {
        locate::find(MODEL_FILE).ok_or(RuntimeError::ModelMissing { name: MODEL_FILE })
    }

    /// The installed model files: the one that is used if none is specified, and those that updates have kept beside it
    /// (`facenet-VERSION.onnx`).
    fn installed_models() -> Vec<PathBuf> {
        let name = MODEL_FILE.split_once('.');
        name.map_or(Vec::new(), |(stem, extension)| {
            locate::find_versions(stem, extension)
        })
    }

    /// The installed model file with this SHA-256, in hexadecimal. None if it is not installed.
    pub fn installed_model(sha256: &str) -> Option<PathBuf> {
        let is_it = |file: &PathBuf| nn::sha256_of(file).is_ok_and(|found| found == sha256);
        Self::installed_models().into_iter().find(is_it)
    }

    /// The model file for a gallery with this contract: the installed one that it names, else the one that is used if none is
    /// specified. A single one is not hashed, because loading it does so.
    pub fn model_for(sha256: Option<&str>) -> Result<PathBuf, RuntimeError> {
        let is_choice = Self::installed_models().len() > 1;
        match sha256.filter(|_| is_choice).and_then(Self::installed_model) {
            Some(file) => Ok(file),
            None => Self::default_model(),
        }
    }

    /// Loads a model file. `batch_size` is the maximum number of faces in one run; 0 for the default.
    pub fn from_file(
        path: &Path,
        options: &SessionOptions,
        batch_size: usize,
    ) -> Result<Self, RuntimeError> {
        let net = Network::load(Role::FaceNet, Source::File(path), options)?;
        let batch_size = match batch_size {
            0 => DEFAULT_BATCH_SIZE,
            size => size,
        };
        let mut embedder = Self {
            net: Arc::new(net),
            threads: options.thread_count(),
            masks: MaskNet::load()?,
            resizer: Resizer::default(),
            tensor: Vec::new(),
            outputs: [Vec::new()],
            batch_size,
            dim: 0,
        };
        // A first run checks that the network runs at all, determines the length of an embedding, and saves the first
        // frame the time for warming up.
        embedder.tensor.resize(INPUT_SIZE * INPUT_SIZE * 3, 0.0);
        embedder.dim = embedder.run(1)?.ncols();
        Ok(embedder)
    }

    /// Another embedder with the same networks and scratch memory of its own: both may run at the same time.
    pub fn fork(&self) -> Self {
        Self {
            net: Arc::clone(&self.net),
            threads: self.threads,
            masks: self.masks.fork(),
            resizer: Resizer::default(),
            tensor: Vec::new(),
            outputs: [Vec::new()],
            batch_size: self.batch_size,
            dim: self.dim,
        }
    }

    /// FaceNet, and the mask network.
    pub fn networks(&self) -> [&Network; 2] {
        [&self.net, self.masks.network()]
    }

    /// Number of elements of an embedding.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// SHA-256 of the model file, in hexadecimal: the identity of the network.
    pub fn model_sha256(&self) -> &str {
        self.net.sha256()
    }

    /// Version of the weights as stated in the file (key `version` of its metadata), else the beginning of its SHA-256.
    pub fn version(&self) -> String {
        let named = self.net.property("version").map(str::to_owned);
        named.unwrap_or_else(|| self.net.sha256().chars().take(12).collect())
    }

    /// Classifies whether the faces in an image wear masks, without embedding them, in a hundredth of the time.
    pub fn check_masks(
        &mut self,
        view: &ImageView,
        faces: &[Turned],
    ) -> Result<Vec<Mask>, RuntimeError> {
        self.tensor.resize(INPUT_SIZE * INPUT_SIZE * 3, 0.0);
        let look = |face: &Turned| {
            let (view, face) = upright(view, *face);
            self.resizer
                .tensor(&view, &crop(face), Layout::Rows, &mut self.tensor);
            exposure::correct(&mut self.tensor);
            self.masks.see_tensor(&self.tensor)
        };
        faces.iter().map(look).collect()
    }

    /// Embeds the faces in an image.
    pub fn embed(&mut self, view: &ImageView, faces: &[Rect]) -> Result<Embedded, RuntimeError> {
        self.embed_with(faces.len(), |resizer, i, out| {
            resizer.tensor(view, &crop(faces[i]), Layout::Rows, out);
        })
    }

    /// Embeds faces that are upright only when the image is rotated, each in its own way.
    pub fn embed_turned(
        &mut self,
        view: &ImageView,
        faces: &[Turned],
    ) -> Result<Embedded, RuntimeError> {
        self.embed_with(faces.len(), |resizer, i, out| {
            let (view, face) = upright(view, faces[i]);
            resizer.tensor(&view, &crop(face), Layout::Rows, out);
        })
    }

    /// Embeds ready-made crops: packed 8-bit RGB, 160×160 each; a crop of another length is an error.
    pub fn embed_crops(&mut self, crops: &[&[u8]]) -> Result<Embedded, RuntimeError> {
        let expected = INPUT_SIZE * INPUT_SIZE * 3;
        if let Some(crop) = crops.iter().find(|crop| crop.len() != expected) {
            return Err(RuntimeError::Run {
                model: self.net.name().to_owned(),
                reason: format!(
                    "a crop of {} bytes was given where {expected} are expected (RGB, {INPUT_SIZE}×{INPUT_SIZE})",
                    crop.len()
                ),
            });
        }
        self.embed_with(crops.len(), |_, i, out| {
            for (out, &value) in out.iter_mut().zip(crops[i]) {
                *out = (f32::from(value) - 127.5) / 128.0;
            }
        })
    }

    fn embed_with(
        &mut self,
        count: usize,
        fill: impl Fn(&mut Resizer, usize, &mut [f32]),
    ) -> Result<Embedded, RuntimeError> {
        let length = INPUT_SIZE * INPUT_SIZE * 3;
        let mut all = Array2::zeros((count, self.dim));
        let mut masks = Vec::with_capacity(count);
        let mut done = 0;
        while done < count {
            let batch = self.batch_size.min(count - done);
            self.tensor.resize(batch * length, 0.0);
            for (i, out) in self.tensor.chunks_exact_mut(length).enumerate() {
                fill(&mut self.resizer, done + i, out);
                exposure::correct(out);
                masks.push(self.masks.see_tensor(out)?);
            }
            let embeddings = self.run(batch)?;
            all.slice_mut(ndarray::s![done..done + batch, ..])
                .assign(&embeddings);
            done += batch;
        }
        Ok(Embedded {
            embeddings: all,
            masks,
        })
    }

    /// Runs the network on the first `batch` crops of `tensor`.
    fn run(&mut self, batch: usize) -> Result<Array2<f32>, RuntimeError> {
        let shape = [batch, INPUT_SIZE, INPUT_SIZE, 3];
        let wrong = |found: String| RuntimeError::WrongModel {
            model: self.net.name().to_owned(),
            expected: "FaceNet (one embedding a face)".to_owned(),
            found,
        };
        let [values] = &mut self.outputs;
        values.clear();
        let outputs = std::slice::from_mut(values);
        self.net.run(self.threads, shape, &self.tensor, outputs)?;
        let [values] = &mut self.outputs;
        let width = values.len() / batch.max(1);
        if width == 0 || width * batch != values.len() {
            return Err(wrong(format!(
                "{batch} faces gave {} numbers",
                values.len()
            )));
        }
        if self.dim != 0 && width != self.dim {
            return Err(wrong(format!(
                "an embedding of {width} numbers after one of {}",
                self.dim
            )));
        }
        let mut embeddings = Array2::from_shape_vec((batch, width), std::mem::take(values))
            .map_err(|e| wrong(e.to_string()))?;
        embeddings.rows_mut().into_iter().for_each(normalise);
        Ok(embeddings)
    }
}

/// Scales an embedding to unit length; if that is impossible (zero, not finite) it becomes zero, which matches nobody.
fn normalise(mut embedding: ArrayViewMut1<f32>) {
    let length = embedding.iter().map(|v| v * v).sum::<f32>().sqrt();
    if length.is_finite() && length > 0.0 {
        embedding /= length;
    } else {
        embedding.fill(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crop_is_the_box_grown_by_a_third_about_its_centre() {
        let source = crop(Rect::new(100.0, 100.0, 100.0, 200.0)).source;
        // The box grows by 16 % on each side.
        assert_eq!(source, Rect::new(84.0, 68.0, 132.0, 264.0));
    }

    #[test]
    fn embeddings_without_direction_become_zero() {
        for bad in [[0.0, 0.0], [f32::NAN, 1.0], [f32::INFINITY, 0.0]] {
            let mut v = ndarray::arr1(&bad);
            normalise(v.view_mut());
            assert_eq!(v, ndarray::arr1(&[0.0, 0.0]));
        }
        let mut v = ndarray::arr1(&[3.0, 4.0]);
        normalise(v.view_mut());
        assert_eq!(v, ndarray::arr1(&[0.6, 0.8]));
    }

    fn embedder() -> Embedder {
        let model = Embedder::default_model().unwrap();
        Embedder::from_file(&model, &SessionOptions::default(), 0).unwrap()
    }

    #[test]
    fn a_crop_of_another_length_is_an_error_that_names_both_lengths() {
        let crop = vec![0; INPUT_SIZE * INPUT_SIZE * 3];
        let mut embedder = embedder();
        assert!(embedder.embed_crops(&[&crop]).is_ok());
        let error = embedder.embed_crops(&[&crop, &crop[3..]]).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("76797 bytes") && text.contains("76800"),
            "{text}"
        );
    }

    #[test]
    fn dark_faces_have_the_same_embedding_in_half_the_light() {
        let ring = |x: i32, y: i32| ((x - 80).pow(2) + (y - 70).pow(2)) / 60;
        let dark: Vec<u8> = (0..INPUT_SIZE as i32 * INPUT_SIZE as i32 * 3)
            .map(|i| ((220 - ring(i / 3 % 160, i / 480) % 200) / 12) as u8)
            .collect();
        let twice: Vec<u8> = dark.iter().map(|value| value * 2).collect();
        let found = embedder().embed_crops(&[&dark, &twice]).unwrap();
        let cosine = found.embeddings.row(0).dot(&found.embeddings.row(1));
        assert!(cosine > 0.9999, "{cosine}");
        let odds = [0, 1].map(|i| found.masks[i].log_odds());
        assert!((odds[0] - odds[1]).abs() < 1e-3, "{odds:?}");
    }

    #[test]
    fn forks_embed_at_the_same_time_what_one_embeds() {
        let crop: Vec<u8> = (0..INPUT_SIZE * INPUT_SIZE * 3)
            .map(|i| (i * 7 % 251) as u8)
            .collect();
        let mut first = embedder();
        let mut forks = [first.fork(), first.fork()];
        let expected = first.embed_crops(&[&crop]).unwrap();
        std::thread::scope(|scope| {
            for fork in &mut forks {
                scope.spawn(|| assert_eq!(fork.embed_crops(&[&crop]).unwrap(), expected));
            }
        });
    }
}
