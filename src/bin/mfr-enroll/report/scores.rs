//! How well the photos of a gallery are recognised, and what a threshold does to them.

use gstmfr::gallery::{self, Calibration};

/// Similarities of faces to be recognised, 0…1.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scores {
    /// Photos left out of the gallery, against the right person.
    pub genuine: Vec<f32>,
    /// Photos of people left out of it, against the most similar person.
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

impl Measured {
    /// What a calibration measured, with the thresholds in use.
    pub fn of(calibration: &Calibration, thresholds: [f32; 2]) -> Self {
        let scores = |side: &gallery::Measured| Scores {
            // Whom another is more like is missed at any threshold.
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
