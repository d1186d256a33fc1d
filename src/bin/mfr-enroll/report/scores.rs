//! Scores of the photos of a gallery, and the error rates of a threshold.

use gstmfr::gallery::{self, Calibration};

/// Similarities of faces to identify, 0…1.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scores {
    /// Similarities of left-out photos to the right person.
    pub genuine: Vec<f32>,
    /// Similarities of photos of left-out people to the most similar person.
    pub impostor: Vec<f32>,
}

/// Scores of bare and of masked faces, with their thresholds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GalleryScores {
    pub bare: Scores,
    /// Scores of masked faces, empty if the gallery has neither masked copies nor photos with masks.
    pub masked: Scores,
    /// For bare and for masked faces.
    pub thresholds: [f32; 2],
}

impl Scores {
    /// Whether there are too few scores for error rates.
    pub fn is_empty(&self) -> bool {
        self.genuine.is_empty() || self.impostor.is_empty()
    }

    /// Share of strangers whose similarity reaches the threshold, 0…1.
    pub fn accepted_falsely(&self, threshold: f32) -> f64 {
        share(&self.impostor, |score| score >= threshold)
    }

    /// Share of the gallery's people whose similarity is below the threshold, 0…1.
    pub fn rejected_falsely(&self, threshold: f32) -> f64 {
        share(&self.genuine, |score| score < threshold)
    }
}

fn share(scores: &[f32], is_counted: impl Fn(f32) -> bool) -> f64 {
    let counted = scores.iter().filter(|&&score| is_counted(score)).count();
    counted as f64 / scores.len().max(1) as f64
}

impl GalleryScores {
    /// The scores of a calibration, with the thresholds in use.
    pub fn of(calibration: &Calibration, thresholds: [f32; 2]) -> Self {
        let scores = |side: &gallery::Measured| Scores {
            // A person to whom another is preferred is missed at any threshold.
            genuine: side
                .right
                .iter()
                .copied()
                .chain(side.wrong.iter().map(|_| 0.0))
                .collect(),
            impostor: side.strangers.clone(),
        };
        Self {
            bare: scores(&calibration.bare),
            masked: scores(&calibration.masked),
            thresholds,
        }
    }
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
