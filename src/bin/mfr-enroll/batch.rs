//! Crops gathered over photos, so that the network sees full batches.

use anyhow::Result;
use gstmfr::attribute::Mask;
use gstmfr::embed::{DEFAULT_BATCH_SIZE, Embedded, Embedder};
use gstmfr::runtime::RuntimeError;
use ndarray::Array2;

/// Embeds crops in the order in which they come.
#[derive(Debug)]
pub struct Batch<'e> {
    embedder: &'e mut Embedder,
    waiting: Vec<Vec<u8>>,
    values: Vec<f32>,
    masks: Vec<Mask>,
}

impl<'e> Batch<'e> {
    pub fn new(embedder: &'e mut Embedder) -> Self {
        Self {
            embedder,
            waiting: Vec::new(),
            values: Vec::new(),
            masks: Vec::new(),
        }
    }

    /// A crop as `embed::crop_rgb8` gives it.
    pub fn push(&mut self, crop: Vec<u8>) -> Result<(), RuntimeError> {
        self.waiting.push(crop);
        if self.waiting.len() >= DEFAULT_BATCH_SIZE {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), RuntimeError> {
        let crops: Vec<&[u8]> = self.waiting.iter().map(Vec::as_slice).collect();
        let seen = self.embedder.embed_crops(&crops)?;
        self.values.extend(seen.embeddings);
        self.masks.extend(seen.masks);
        self.waiting.clear();
        Ok(())
    }

    /// What was seen of all crops.
    pub fn finish(mut self) -> Result<Embedded> {
        self.flush()?;
        let dim = self.embedder.dim();
        let rows = self.values.len() / dim.max(1);
        Ok(Embedded {
            embeddings: Array2::from_shape_vec((rows, dim), self.values)?,
            masks: self.masks,
        })
    }
}
