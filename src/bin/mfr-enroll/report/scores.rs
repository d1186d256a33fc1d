//! How well the photos of a gallery are recognised, and what a threshold does to them.

use std::collections::BTreeMap;

use gstmfr::gallery::{Gallery, Kind};
use ndarray::{Array1, Array2};

use gstmfr::gallery::file_of;

/// Similarities of faces to be recognised, 0…1.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scores {
    /// Each photo against the right person, as if it were not in the gallery.
    pub genuine: Vec<f32>,
    /// Each photo against the most similar of the other people, as if its person were not.
    pub impostor: Vec<f32>,
}

/// Scores of bare and of masked faces, with their thresholds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Measured {
    pub bare: Scores,
    /// Empty where the gallery has neither masked copies nor photos with masks.
    pub masked: Scores,
    /// Of bare and of masked faces.
    pub thresholds: [f32; 2],
}

impl Scores {
    /// Whether there is anything to say of thresholds.
    pub fn is_empty(&self) -> bool {
        self.genuine.is_empty() || self.impostor.is_empty()
    }

    /// Share of strangers whose similarity reaches the threshold, 0…1.
    pub fn accepted_falsely(&self, threshold: f32) -> f64 {
        share(&self.impostor, |score| score >= threshold)
    }

    /// Share of the gallery's people whose similarity does not, 0…1.
    pub fn rejected_falsely(&self, threshold: f32) -> f64 {
        share(&self.genuine, |score| score < threshold)
    }
}

fn share(scores: &[f32], is_counted: impl Fn(f32) -> bool) -> f64 {
    let counted = scores.iter().filter(|&&score| is_counted(score)).count();
    counted as f64 / scores.len().max(1) as f64
}

/// Compares every embedding with the mean of each person, what comes from the same photo left out.
pub fn leave_one_out(gallery: &Gallery) -> Measured {
    let embeddings = gallery.embeddings();
    let mut sums: Array2<f32> = Array2::zeros((gallery.names().len(), embeddings.ncols()));
    let mut counts = vec![0usize; gallery.names().len()];
    // Rows that come from one photo: of a person, for two may have files of one name.
    let mut photos: BTreeMap<(usize, &str), Vec<usize>> = BTreeMap::new();
    for (row, (&label, source)) in gallery.labels().iter().zip(gallery.sources()).enumerate() {
        sums.row_mut(label).scaled_add(1.0, &embeddings.row(row));
        counts[label] += 1;
        photos
            .entry((label, file_of(source)))
            .or_default()
            .push(row);
    }
    let mut means = sums.clone();
    for (mut mean, &count) in means.rows_mut().into_iter().zip(&counts) {
        mean /= count.max(1) as f32;
    }
    let mut measured = Measured {
        thresholds: gallery.thresholds(),
        ..Measured::default()
    };
    for ((label, _), rows) in photos {
        let mut rest: Array1<f32> = sums.row(label).to_owned();
        for &row in &rows {
            rest.scaled_add(-1.0, &embeddings.row(row));
        }
        let left = counts[label] - rows.len();
        rest /= left.max(1) as f32;
        for row in rows {
            let scores = match gallery.kinds()[row] {
                Kind::Photo => &mut measured.bare,
                Kind::SyntheticMask | Kind::MaskedPhoto => &mut measured.masked,
            };
            let embedding = embeddings.row(row);
            if left > 0 {
                scores.genuine.push(rest.dot(&embedding).clamp(0.0, 1.0));
            }
            let others = means.dot(&embedding).into_iter().enumerate();
            let others = others.filter(|&(other, _)| other != label);
            let nearest = others
                .map(|(_, similarity)| similarity)
                .max_by(f32::total_cmp);
            scores.impostor.extend(nearest.map(|s| s.clamp(0.0, 1.0)));
        }
    }
    measured
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_divides_strangers_and_people() {
        let scores = Scores {
            genuine: vec![0.3, 0.6, 0.7, 0.9],
            impostor: vec![0.1, 0.4],
        };
        assert_eq!(scores.accepted_falsely(0.4), 0.5);
        assert_eq!(scores.accepted_falsely(0.41), 0.0);
        assert_eq!(scores.rejected_falsely(0.4), 0.25);
        assert_eq!(Scores::default().rejected_falsely(0.4), 0.0);
    }
}
