//! The average of a face's embeddings, which fades with time.

use std::time::Duration;

use ndarray::{Array1, ArrayView1};

/// Time constant of the fading: after it an embedding has a third of its weight.
const MEMORY: Duration = Duration::from_secs(4);

/// The average of a face in one mask state.
#[derive(Debug, Default)]
pub struct Evidence {
    /// Weighted mean of the embeddings, `[dim]`, scaled to unit length.
    pub mean: Array1<f32>,
    /// Sum of the weights; an embedding of the best quality has 1.
    pub weight: f32,
    pub count: usize,
    /// Best quality so far.
    pub quality: f32,
    pub at: Duration,
}

impl Evidence {
    /// Adds an embedding of a face of this quality.
    pub fn add(&mut self, embedding: ArrayView1<f32>, quality: f32, now: Duration) {
        let age = now.saturating_sub(self.at).as_secs_f32();
        let past = self.weight * (-age / MEMORY.as_secs_f32()).exp();
        let quality = quality.max(0.05);
        if self.count == 0 {
            self.mean = embedding.to_owned();
        } else {
            self.mean *= past;
            self.mean.scaled_add(quality, &embedding);
            let length = self.mean.dot(&self.mean).sqrt();
            if length > 0.0 {
                self.mean /= length;
            }
        }
        self.weight = past + quality;
        self.count = self.count.saturating_add(1);
        self.quality = self.quality.max(quality);
        self.at = now;
    }
}
