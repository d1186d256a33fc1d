//! STAND-IN until the gallery lands.
use std::path::Path;

use anyhow::{Result, bail};
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
}

impl Answer {
    pub fn is_known(&self) -> bool {
        self.label != "unknown"
    }
}

impl People {
    pub fn learn(learned: Learned, _embedder: Option<&Embedder>) -> Result<Self> {
        let mut means = Array2::zeros((learned.names.len(), learned.embeddings.ncols()));
        for (row, &label) in learned.embeddings.rows().into_iter().zip(&learned.labels) {
            let mut mean = means.row_mut(label);
            mean += &row;
        }
        for mut row in means.axis_iter_mut(Axis(0)) {
            let n = row.dot(&row).sqrt().max(1e-9);
            row /= n;
        }
        Ok(Self { learned, means })
    }

    pub fn open(path: &Path, _embedder: Option<&Embedder>) -> Result<Self> {
        let text = std::fs::read_to_string(path.with_extension("json"))?;
        let (names, labels, sources, dim, values): (
            Vec<String>,
            Vec<usize>,
            Vec<String>,
            usize,
            Vec<f32>,
        ) = serde_json::from_str(&text)?;
        let embeddings = Array2::from_shape_vec((values.len() / dim, dim), values)?;
        let learned = Learned {
            names,
            labels,
            sources,
            embeddings,
        };
        Self::learn(learned, None)
    }

    pub fn save(&self, path: &Path) -> Result<()> {
        let l = &self.learned;
        npz::write_file(path, |n| n.add("embeddings", &l.embeddings))?;
        let v: Vec<f32> = l.embeddings.iter().copied().collect();
        std::fs::write(
            path.with_extension("json"),
            serde_json::to_string(&(&l.names, &l.labels, &l.sources, l.embeddings.ncols(), v))?,
        )?;
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

#[allow(dead_code)]
fn nothing() -> Result<()> {
    bail!("")
}
