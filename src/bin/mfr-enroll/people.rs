//! The gallery as the commands see it.
//!
//! A stand-in until `gstmfr::gallery` is there: class means, cosines, and a JSON file beside the
//! `.npz`. The public names of this file are all that the commands use.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use gstmfr::embed::Embedder;
use ndarray::{Array2, ArrayView2, Axis};
use serde::Serialize;

use crate::npz;

#[derive(Debug, Clone, Serialize)]
pub struct Candidate {
    pub label: String,
    pub similarity: f32,
}

#[derive(Debug, Clone)]
pub struct Answer {
    pub label: String,
    pub similarity: f32,
    pub confidence: f32,
    pub candidates: Vec<Candidate>,
}

#[derive(Debug)]
pub struct Learned {
    pub names: Vec<String>,
    pub labels: Vec<usize>,
    pub sources: Vec<String>,
    pub embeddings: Array2<f32>,
}

#[derive(Debug)]
pub struct People {
    learned: Learned,
    means: Array2<f32>,
    model: String,
}

/// Model, names, labels, sources, dimension, embeddings.
type Stored = (
    String,
    Vec<String>,
    Vec<usize>,
    Vec<String>,
    usize,
    Vec<f32>,
);

impl Answer {
    pub fn is_known(&self) -> bool {
        self.label != "unknown"
    }
}

impl People {
    /// A gallery of these faces, made with this network.
    pub fn learn(learned: Learned, embedder: &Embedder) -> Result<Self> {
        Ok(Self::new(learned, embedder.model_sha256()))
    }

    fn new(learned: Learned, model: &str) -> Self {
        let mut means = Array2::zeros((learned.names.len(), learned.embeddings.ncols()));
        for (row, &label) in learned.embeddings.rows().into_iter().zip(&learned.labels) {
            let mut mean = means.row_mut(label);
            mean += &row;
        }
        for mut row in means.axis_iter_mut(Axis(0)) {
            let n = row.dot(&row).sqrt().max(1e-9);
            row /= n;
        }
        Self {
            learned,
            means,
            model: model.to_owned(),
        }
    }

    /// Reads a gallery; one that is to be used with a network must have been made with it.
    pub fn open(path: &Path, embedder: Option<&Embedder>) -> Result<Self> {
        let people = Self::read(path).with_context(|| format!("gallery {}", path.display()))?;
        if let Some(embedder) = embedder {
            ensure!(
                people.model == embedder.model_sha256(),
                "gallery {} was made with another model: expected {}, found {}",
                path.display(),
                embedder.model_sha256(),
                people.model
            );
        }
        Ok(people)
    }

    fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path.with_extension("json"))?;
        let (model, names, labels, sources, dim, values): Stored = serde_json::from_str(&text)?;
        let embeddings = Array2::from_shape_vec((values.len() / dim.max(1), dim), values)?;
        let learned = Learned {
            names,
            labels,
            sources,
            embeddings,
        };
        Ok(Self::new(learned, &model))
    }

    pub fn save(&self, path: &Path) -> Result<()> {
        let l = &self.learned;
        npz::write_file(path, |n| n.add("embeddings", &l.embeddings))?;
        let values: Vec<f32> = l.embeddings.iter().copied().collect();
        let dim = l.embeddings.ncols();
        let stored = (&self.model, &l.names, &l.labels, &l.sources, dim, values);
        let text = serde_json::to_string(&stored)?;
        std::fs::write(path.with_extension("json"), text)?;
        Ok(())
    }

    pub fn threshold(&self) -> f32 {
        0.5
    }

    pub fn photos(&self) -> Vec<(String, usize)> {
        let count = |i| self.learned.labels.iter().filter(|&&l| l == i).count();
        (0..self.learned.names.len())
            .map(|i| (self.learned.names[i].clone(), count(i)))
            .collect()
    }

    pub fn identify(&self, embeddings: ArrayView2<f32>) -> Vec<Answer> {
        embeddings
            .rows()
            .into_iter()
            .map(|row| {
                let scores = self.means.dot(&row);
                let mut order: Vec<usize> = (0..scores.len()).collect();
                order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
                let candidates: Vec<_> = order
                    .iter()
                    .take(5)
                    .map(|&i| Candidate {
                        label: self.learned.names[i].clone(),
                        similarity: scores[i],
                    })
                    .collect();
                let best = candidates[0].clone();
                Answer {
                    label: if best.similarity >= 0.5 {
                        best.label
                    } else {
                        "unknown".into()
                    },
                    similarity: best.similarity,
                    confidence: best.similarity,
                    candidates,
                }
            })
            .collect()
    }
}
