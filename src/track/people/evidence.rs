//! Embeddings of a face, gathered over time.

use std::time::Duration;

use ndarray::{Array1, ArrayView1};

/// How fast the past fades: what was seen so long ago weighs a third of what is seen now.
const MEMORY: Duration = Duration::from_secs(4);

/// What was seen of a face in one mask state.
#[derive(Debug, Default)]
pub struct Evidence {
    /// The weighted mean of the embeddings, scaled to unit length.
    pub mean: Array1<f32>,
    /// What all that was seen weighs together; a good view weighs 1.
    pub weight: f32,
    pub count: usize,
    /// Of the best view.
    pub quality: f32,
    pub at: Duration,
}

impl Evidence {
    /// Adds an embedding of a view of this quality.
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
