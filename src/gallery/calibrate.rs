//! Calibration: the threshold of similarity for naming a face, and the probability that a similarity stands for.
//!
//! Two sources are combined. The *expected* scores of strangers follow from the general statistics
//! of faces: strangers are drawn from the model, and their scores with the gallery at hand show where
//! the rare best ones lie; this works for a gallery of one person as well. The *measured* scores come
//! from the gallery by cross-validation: photos and people are left out of it in turn, each photo with its masked
//! copies, and are identified with the rest. The more people a gallery has, the more the measurement counts. Of a gallery
//! without an SVM a sample is tried.

use std::collections::HashMap;

use ndarray::{Array1, Axis};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::score::{LargeScorer, Samples, Scorer};
use super::{
    DEFAULT_CALIBRATION, DEFAULT_THRESHOLDS, Gallery, GalleryError, Logistic, Statistics, file_of,
    strangers, train_svm,
};

/// Share of strangers that may be named (false positive identification rate).
pub const DEFAULT_TARGET_FPIR: f64 = 0.01;

/// How far above their mean the highest share f of the strangers starts, in standard deviations of drawn strangers' best
/// scores among K people: `TAIL + TAIL_PEOPLE·ln K + TAIL_RARITY·ln(1/f) + TAIL_BOTH·ln K·ln(1/f)`. Real faces have more
/// close neighbours than drawn ones. Fitted to what galleries of 1 to 60 people with 1 to 5 photos need, bare and masked,
/// for f of .1, 1 and 5 %: people and strangers of three collections, none of whom the statistics in use were learned from
/// (docs/notebook/accuracy.md).
const TAIL: f64 = 0.77;
const TAIL_PEOPLE: f64 = 0.33;
const TAIL_RARITY: f64 = 0.47;
const TAIL_BOTH: f64 = 0.06;

/// Number of cross-validation folds of people and photos.
const FOLDS: usize = 5;

/// Above this number of embeddings times people a single fold is tried: each further training takes
/// long, and one fold has enough people.
const ONE_FOLD: usize = 2_000_000;

/// Embeddings, bare or masked, of a large gallery that are tried, and how many of a person.
const SAMPLE: usize = 2500;
const SAMPLE_EACH: usize = 5;

/// Number of the gallery's strangers above the threshold at which the measurement gets half of the weight.
const HALF_TRUST: f64 = 5.0;

/// The probability of being right at the threshold, and the slope of the logistic function, where too
/// little can be measured. Both were fitted on LFW.
const PROBABILITY_AT_THRESHOLD: f32 = 0.8;
const USUAL_SLOPE: f32 = 14.0;

/// Least number of right and of other answers that a logistic function is fitted to.
const FEWEST: usize = 50;

/// Calibration of bare, or of masked, faces.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// Least similarity at which a face is named.
    pub threshold: f32,
    pub logistic: Logistic,
    /// Similarities of left-out photos to their own person, where that was the first candidate.
    pub right: Vec<f32>,
    /// Similarities to the first candidate, where that was another person.
    pub wrong: Vec<f32>,
    /// Similarities of left-out people to their first candidate.
    pub strangers: Vec<f32>,
}

impl Measured {
    fn of(expected: f32) -> Self {
        Self {
            threshold: expected,
            logistic: usual_logistic(expected),
            right: Vec::new(),
            wrong: Vec::new(),
            strangers: Vec::new(),
        }
    }

    fn above(&self, similarities: &[f32]) -> usize {
        let above = similarities.iter().filter(|&&s| s >= self.threshold);
        above.count()
    }

    /// Number of tried photos of people in the gallery.
    pub fn known(&self) -> usize {
        self.right.len() + self.wrong.len()
    }

    /// Numbers of those named correctly and incorrectly.
    pub fn named(&self) -> (usize, usize) {
        (self.above(&self.right), self.above(&self.wrong))
    }

    /// Number of photos of left-out people that were named.
    pub fn strangers_named(&self) -> usize {
        self.above(&self.strangers)
    }

    /// Combines the measured with the expected threshold, and fits the logistic function.
    fn settle(&mut self, target_fpir: f64) {
        let may_pass = self.strangers.len() as f64 * target_fpir;
        let mut sorted = self.strangers.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        if let Some(&own) = sorted.get(may_pass as usize) {
            let trust = (may_pass / (may_pass + HALF_TRUST)) as f32;
            self.threshold += (own - self.threshold) * trust;
        }
        let not_right: Vec<f32> = self.strangers.iter().chain(&self.wrong).copied().collect();
        self.logistic = fit(&self.right, &not_right).unwrap_or(usual_logistic(self.threshold));
    }
}

/// Calibration of bare and of masked faces.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibration {
    /// Share of strangers that may be named.
    pub target_fpir: f64,
    pub bare: Measured,
    pub masked: Measured,
}

impl Calibration {
    pub(super) fn thresholds(&self) -> [f32; 2] {
        [self.bare.threshold, self.masked.threshold]
    }

    pub(super) fn logistics(&self) -> [Logistic; 2] {
        [self.bare.logistic, self.masked.logistic]
    }

    fn side(&mut self, masked: bool) -> &mut Measured {
        if masked {
            &mut self.masked
        } else {
            &mut self.bare
        }
    }
}

impl Gallery {
    /// Sets thresholds and probabilities so that the share `target_fpir`, 0…1, of strangers is named,
    /// and returns what was measured.
    pub fn calibrate(&mut self, target_fpir: f64) -> Result<Calibration, GalleryError> {
        let mut calibration = expected(&self.scorer, target_fpir);
        let photos = self.photos();
        if let Scorer::Large(scorer) = &self.scorer {
            for masked in [false, true] {
                self.try_sample(scorer, masked, &photos, calibration.side(masked));
            }
        } else {
            self.leave_out_in_turn(&photos, &mut calibration)?;
        }
        calibration.bare.settle(target_fpir);
        calibration.masked.settle(target_fpir);
        self.thresholds = calibration.thresholds();
        self.calibration = calibration.logistics();
        Ok(calibration)
    }

    /// The calibration that follows from the statistics of faces alone, before anything of the gallery is measured.
    pub fn expected(&self, target_fpir: f64) -> Calibration {
        expected(&self.scorer, target_fpir)
    }

    /// Compares the embeddings of some people with everybody: as those of strangers without the people themselves, and as
    /// those of known people without the photo itself. Without an SVM nobody's score depends on others, so nothing is trained
    /// again. The hash of their names decides who is tried.
    fn try_sample(
        &self,
        scorer: &LargeScorer,
        masked: bool,
        photos: &[usize],
        side: &mut Measured,
    ) {
        let mut rows = Vec::new();
        for (_, person) in self.hashed() {
            let own = scorer.rows(person).iter().map(|&row| row as usize);
            let own = own.filter(|&row| self.kinds[row].is_masked() == masked);
            rows.extend(own.take(SAMPLE_EACH));
            if rows.len() >= SAMPLE {
                break;
            }
        }
        rows.truncate(SAMPLE);
        let best = scorer.best_sums(self.embeddings.select(Axis(0), &rows).view(), masked);
        let tried: Vec<(Option<(bool, f32)>, f32)> = rows
            .par_iter()
            .zip(best)
            .map(|(&row, best)| {
                let person = self.labels[row];
                let others = best.iter().filter(|(label, _)| *label != person);
                let mut others: Vec<f32> = others.map(|(_, sum)| *sum).collect();
                let stranger = scorer.first_score(masked, &mut others);
                let is_other = |other: &&u32| photos[**other as usize] != photos[row];
                let left = scorer.rows(person).iter().filter(is_other).copied();
                let left: Vec<u32> = left.collect();
                let first = others.first().copied().unwrap_or(f32::NEG_INFINITY);
                let known = (!left.is_empty()).then(|| {
                    let own = scorer.sum_with(self.embeddings.row(row), masked, &left);
                    others.push(own);
                    (own >= first, scorer.first_score(masked, &mut others))
                });
                (known, stranger)
            })
            .collect();
        for (known, stranger) in tried {
            side.strangers.push(stranger);
            match known {
                Some((true, score)) => side.right.push(score),
                Some((false, score)) => side.wrong.push(score),
                None => {}
            }
        }
    }

    /// The people in the order of the hash of their names.
    fn hashed(&self) -> Vec<([u8; 32], usize)> {
        let hash = |name: &String| Sha256::digest(name).into();
        let mut people: Vec<([u8; 32], usize)> = self.names.iter().map(hash).zip(0..).collect();
        people.sort_unstable();
        people
    }

    fn leave_out_in_turn(
        &self,
        photos: &[usize],
        calibration: &mut Calibration,
    ) -> Result<(), GalleryError> {
        let folds = match self.names.len() {
            people if people * self.labels.len() > ONE_FOLD => 1,
            _ => FOLDS,
        };
        for fold in 0..folds {
            self.leave_out(fold, photos, calibration)?;
        }
        Ok(())
    }

    /// For each embedding, the ordinal number of its file among the person's files. Masked copies belong to the
    /// photo that they were made from; the frames of a video are too much alike to be tested against each
    /// other.
    fn photos(&self) -> Vec<usize> {
        let mut seen: HashMap<(usize, &str), usize> = HashMap::new();
        let mut counts = vec![0; self.names.len()];
        let rows = self.labels.iter().zip(&self.sources);
        rows.map(|(&person, source)| {
            *seen.entry((person, file_of(source))).or_insert_with(|| {
                counts[person] += 1;
                counts[person] - 1
            })
        })
        .collect()
    }

    /// Trains without a fold of the people and without a fold of the photos of the others, and identifies
    /// both with the result. A person with a single photo keeps it.
    fn leave_out(
        &self,
        fold: usize,
        photos: &[usize],
        calibration: &mut Calibration,
    ) -> Result<(), GalleryError> {
        let mut counts = vec![0; self.names.len()];
        for (&person, &photo) in self.labels.iter().zip(photos) {
            counts[person] = counts[person].max(photo + 1);
        }
        let is_stranger = |person: usize| self.names.len() > 1 && person % FOLDS == fold;
        let is_probe = |row: usize| {
            let count = counts[self.labels[row]];
            count > 1 && photos[row] % FOLDS.min(count) == fold
        };
        let mut numbers = HashMap::new();
        let (mut kept, mut labels, mut kinds, mut people) = (vec![], vec![], vec![], vec![]);
        for row in 0..self.labels.len() {
            let person = self.labels[row];
            if !is_stranger(person) && !is_probe(row) {
                let number = *numbers.entry(person).or_insert_with(|| {
                    people.push(person);
                    people.len() - 1
                });
                kept.push(row);
                labels.push(number);
                kinds.push(self.kinds[row]);
            }
        }
        if kept.is_empty() {
            return Ok(());
        }
        let embeddings = self.embeddings.select(Axis(0), &kept);
        let samples = Samples {
            embeddings: embeddings.view(),
            labels: &labels,
            kinds: &kinds,
            people: people.len(),
        };
        let scorer = Scorer::fused(samples, train_svm(samples)?, self.scorer.statistics());
        for masked in [false, true] {
            let tried: Vec<usize> = (0..self.labels.len())
                .filter(|&row| is_stranger(self.labels[row]) || is_probe(row))
                .filter(|&row| self.kinds[row].is_masked() == masked)
                .collect();
            let best = scorer.best(self.embeddings.select(Axis(0), &tried).view(), masked);
            let side = calibration.side(masked);
            for (row, best) in tried.into_iter().zip(best) {
                let person = self.labels[row];
                let Some((first, score)) = best else { continue };
                let list = if is_stranger(person) {
                    &mut side.strangers
                } else if people[first] == person {
                    &mut side.right
                } else {
                    &mut side.wrong
                };
                list.push(score);
            }
        }
        Ok(())
    }
}

/// The expected calibration, before anything has been measured.
pub fn expected(scorer: &Scorer, target_fpir: f64) -> Calibration {
    let thresholds = match scorer.statistics() {
        Some(statistics) => {
            [false, true].map(|masked| expected_threshold(scorer, statistics, masked, target_fpir))
        }
        None => [None; 2],
    };
    let [bare, masked] = [0, 1].map(|i| match thresholds[i] {
        Some(threshold) => Measured::of(threshold),
        None => Measured {
            logistic: DEFAULT_CALIBRATION,
            ..Measured::of(DEFAULT_THRESHOLDS[i])
        },
    });
    Calibration {
        target_fpir,
        bare,
        masked,
    }
}

/// The similarity above which a share of `target_fpir` of all strangers is expected.
fn expected_threshold(
    scorer: &Scorer,
    statistics: &Statistics,
    masked: bool,
    target_fpir: f64,
) -> Option<f32> {
    let strangers = strangers::draw(statistics, masked)?;
    let best = scorer.best(strangers.view(), masked).into_iter();
    let best: Vec<f64> = best
        .map(|best| logit(best.map_or(0.0, |(_, score)| score)))
        .collect();
    let count = best.len() as f64;
    let mean = best.iter().sum::<f64>() / count;
    let variance = best.iter().map(|b| (b - mean).powi(2)).sum::<f64>() / count;
    let people = (scorer.people() as f64).ln();
    let rarity = -target_fpir.clamp(1e-6, 0.5).ln();
    let tail = TAIL + TAIL_PEOPLE * people + (TAIL_RARITY + TAIL_BOTH * people) * rarity;
    let threshold = mean + tail * variance.sqrt();
    Some((1.0 / (1.0 + (-threshold).exp())) as f32)
}

fn logit(similarity: f32) -> f64 {
    let p = f64::from(similarity).clamp(1e-6, 1.0 - 1e-6);
    (p / (1.0 - p)).ln()
}

fn usual_logistic(threshold: f32) -> Logistic {
    let p = PROBABILITY_AT_THRESHOLD;
    Logistic {
        slope: USUAL_SLOPE,
        offset: (p / (1.0 - p)).ln() - USUAL_SLOPE * threshold,
    }
}

/// The best fit of a logistic function, with equal weight for both sides; None where there is too little
/// to fit it to.
fn fit(right: &[f32], not_right: &[f32]) -> Option<Logistic> {
    if right.len() < FEWEST || not_right.len() < FEWEST {
        return None;
    }
    let side = |similarities: &[f32], target: f64| {
        let weight = 1.0 / similarities.len() as f64;
        let values: Vec<_> = similarities.iter().map(|&s| f64::from(s)).collect();
        values.into_iter().map(move |s| (s, target, weight))
    };
    let answers: Vec<_> = side(right, 1.0).chain(side(not_right, 0.0)).collect();
    // Newton's method; a small regularisation keeps the slope finite where the two sides do not overlap.
    let resistance = 1e-6;
    let mut at = Array1::from(vec![f64::from(USUAL_SLOPE), -0.5 * f64::from(USUAL_SLOPE)]);
    for _ in 0..50 {
        let (mut g0, mut g1) = (-resistance * at[0], 0.0);
        let (mut h00, mut h01, mut h11) = (resistance, 0.0, 1e-12);
        for &(s, target, weight) in &answers {
            let p = 1.0 / (1.0 + (-(at[0] * s + at[1])).exp());
            let (error, curve) = (weight * (target - p), weight * p * (1.0 - p));
            g0 += error * s;
            g1 += error;
            h00 += curve * s * s;
            h01 += curve * s;
            h11 += curve;
        }
        let determinant = h00 * h11 - h01 * h01;
        if determinant <= 0.0 {
            break;
        }
        let step = [
            (h11 * g0 - h01 * g1) / determinant,
            (h00 * g1 - h01 * g0) / determinant,
        ];
        // Far from the solution full steps may overshoot, so they are shortened.
        let shorten = (20.0 / step[0].abs().max(step[1].abs())).min(1.0);
        at[0] += step[0] * shorten;
        at[1] += step[1] * shorten;
        if step[0].abs().max(step[1].abs()) < 1e-6 {
            break;
        }
    }
    let logistic = Logistic {
        slope: at[0] as f32,
        offset: at[1] as f32,
    };
    (logistic.slope > 0.0 && logistic.slope.is_finite() && logistic.offset.is_finite())
        .then_some(logistic)
}
