//! Linear support vector machines, one-vs-rest: the only file that names linfa.
//!
//! For every class k this module solves the L2-regularised L1-loss problem
//!
//! ```text
//! min ½|w|² + Σ Cᵢ max(0, 1 − yᵢ(w·xᵢ + b))
//! ```
//!
//! where `Cᵢ` is [`C`] weighted inversely to the size of the two sides, so that a person
//! with fifty photos has no advantage over one with two. The result is only the hyperplane:
//! a decision value is `w·x + b`.
//!
//! linfa's sequential minimal optimisation holds a dense N×N kernel matrix per class. Beyond
//! [`DENSE_LIMIT`] samples, coordinate descent in the dual of the same problem is used, which
//! needs memory for the samples only. Few samples of other people are near a given person: the descent
//! visits only those, and one matrix product for many classes at once finds the ones it missed.

use linfa::ParamGuard;
use linfa::dataset::DatasetBase;
use linfa::traits::Fit;
use linfa_svm::Svm;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};
use rayon::prelude::*;
use thiserror::Error;

/// Penalty of a sample on the wrong side of the margin. Measured on LFW (150 people, 5 photos each,
/// 500 strangers) with FaceNet for C = 0.1, 1, 10, 100: TPIR at 1 % FPIR of the fused score is best
/// at 1 for bare probes (.974) and, with masked copies, over both kinds (.864).
pub const C: f64 = 1.0;

/// Maximum number of samples for linfa's solver: 8·N² bytes for the kernel (8 MB), 0.2 s per class.
pub const DENSE_LIMIT: usize = 1000;

/// Maximum work for linfa's solver, in samples² × classes: about a second. On LFW (750 samples,
/// 150 classes) decision values of coordinate descent differ from its values by .001 at most.
const DENSE_WORK_LIMIT: usize = 1_000_000;

/// The stopping tolerance of linfa: the sum of the gradients of the most violating pair. It is ten times
/// the crate's default; a smaller one does not change the first five digits of decision values.
const DENSE_EPS: f64 = 1e-6;

/// Weight of the squared violation of Σ αᵢyᵢ = 0 in coordinate descent. It is of the size of |xᵢ|², which
/// is 1, so that neither term slows down the convergence of the other.
const PENALTY: f64 = 1.0;

/// Coordinate descent stops when no projected gradient of a pass is larger. LIBLINEAR's default is
/// 0.1; with 0.001 decision values are accurate to three digits.
const DESCENT_EPS: f64 = 1e-3;

/// Maximum number of passes over all samples, after which coordinate descent returns what it has.
const DESCENT_PASSES: usize = 300;

/// Classes whose decision values are computed in one matrix product.
const BLOCK: usize = 32;
/// Samples in one matrix product, few enough that its result stays in the cache.
const TILE: usize = 1024;

/// Initial number of samples of other classes that a class is separated from: those most similar to it. With more
/// of them every pass takes longer; with fewer, more relevant samples are missed at first.
const NEAREST: usize = 128;

/// Maximum number of rounds of looking for missed samples. Two to four are needed; after the last one all take part.
const ROUNDS: usize = 12;

/// Why no SVM could be trained.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SvmError {
    #[error("training needs at least one embedding and one class, got {samples} and {classes}")]
    Empty { samples: usize, classes: usize },
    #[error("every embedding needs a label: got {samples} embeddings and {labels} labels")]
    Labels { samples: usize, labels: usize },
    #[error("label {label} of embedding {sample} is not one of the {classes} classes")]
    UnknownClass {
        sample: usize,
        label: usize,
        classes: usize,
    },
    #[error("class {class} has no embedding; every class needs at least one")]
    EmptyClass { class: usize },
    #[error("embedding {sample} has values that are not finite")]
    NotFinite { sample: usize },
    #[error("the solver failed for class {class}: {reason}")]
    Solver { class: usize, reason: String },
}

/// One hyperplane per class.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearSvm {
    /// \[K, D\]
    pub weights: Array2<f32>,
    /// \[K\]
    pub bias: Array1<f32>,
}

impl LinearSvm {
    /// Decision value of every class for one embedding of D values: 1 at the margin of the class,
    /// −1 at that of the rest, 0 half way between. `None` if the embedding does not have D values.
    pub fn decide(&self, embedding: ArrayView1<f32>) -> Option<Array1<f32>> {
        (embedding.len() == self.weights.ncols()).then(|| self.weights.dot(&embedding) + &self.bias)
    }
}

/// Trains a one-vs-rest SVM for each of `classes` classes.
///
/// `embeddings` is \[N, D\], rows of unit length; `labels` has N entries below `classes`, each of
/// must occur. The result depends on nothing but the arguments. A single class has nothing to be separated
/// from: its decision value is then that of a margin between its mean and everything orthogonal
/// to it, 2·cos − 1.
pub fn train(
    embeddings: ArrayView2<f32>,
    labels: &[usize],
    classes: usize,
) -> Result<LinearSvm, SvmError> {
    check(embeddings, labels, classes)?;
    if classes == 1 {
        return Ok(about_the_mean(embeddings));
    }
    let samples = embeddings.nrows();
    let dim = embeddings.ncols();
    let work = samples.saturating_mul(samples).saturating_mul(classes);
    if samples <= DENSE_LIMIT && work <= DENSE_WORK_LIMIT {
        let records = embeddings.mapv(f64::from);
        one_vs_rest(dim, classes, labels, |is_class, weights| {
            fit_dense(records.view(), is_class, weights)
        })
    } else {
        descend_together(embeddings, labels, classes)
    }
}

fn check(embeddings: ArrayView2<f32>, labels: &[usize], classes: usize) -> Result<(), SvmError> {
    let samples = embeddings.nrows();
    if samples == 0 || classes == 0 || embeddings.ncols() == 0 {
        return Err(SvmError::Empty { samples, classes });
    }
    if labels.len() != samples {
        return Err(SvmError::Labels {
            samples,
            labels: labels.len(),
        });
    }
    // With more classes than samples one is empty; this is reported before anything of that size is allocated.
    let mut seen = vec![false; classes.min(samples + 1)];
    for (sample, &label) in labels.iter().enumerate() {
        if label >= classes {
            return Err(SvmError::UnknownClass {
                sample,
                label,
                classes,
            });
        }
        if let Some(seen) = seen.get_mut(label) {
            *seen = true;
        }
    }
    if let Some(class) = seen.iter().position(|seen| !seen) {
        return Err(SvmError::EmptyClass { class });
    }
    for (sample, row) in embeddings.outer_iter().enumerate() {
        if !row.iter().all(|v| v.is_finite()) {
            return Err(SvmError::NotFinite { sample });
        }
    }
    Ok(())
}

fn about_the_mean(embeddings: ArrayView2<f32>) -> LinearSvm {
    let sum = embeddings.sum_axis(Axis(0));
    let length = sum.dot(&sum).sqrt();
    let mean = if length > 0.0 { sum / length } else { sum };
    LinearSvm {
        weights: (mean * 2.0).insert_axis(Axis(0)),
        bias: Array1::from_elem(1, -1.0),
    }
}

/// C of the samples of the class and of the rest, given the number of samples of the class and in all.
/// Both sides together weigh N·[`C`], each half of it (scikit-learn's "balanced").
fn balanced(class: usize, all: usize) -> (f64, f64) {
    let (class, all) = (class as f64, all as f64);
    (C * all / (2.0 * class), C * all / (2.0 * (all - class)))
}

/// Trains every class. `fit` returns the hyperplane (w, b) that separates the samples marked
/// true, given C for them and for the others.
fn one_vs_rest(
    dim: usize,
    classes: usize,
    labels: &[usize],
    fit: impl Fn(&[bool], (f64, f64)) -> Result<(Array1<f64>, f64), String> + Sync,
) -> Result<LinearSvm, SvmError> {
    let train = |class: usize| {
        let is_class: Vec<bool> = labels.iter().map(|&label| label == class).collect();
        let failed = |reason: String| SvmError::Solver { class, reason };
        let members = is_class.iter().filter(|&&p| p).count();
        let c = balanced(members, labels.len());
        let (w, b) = fit(&is_class, c).map_err(failed)?;
        Ok((w.mapv(|v| v as f32), b as f32))
    };
    let parts: Vec<_> = (0..classes).into_par_iter().map(train).collect();
    assembled(dim, parts.into_iter().enumerate())
}

/// Stacks the hyperplanes of all classes.
fn assembled(
    dim: usize,
    machines: impl ExactSizeIterator<Item = (usize, Result<(Array1<f32>, f32), SvmError>)>,
) -> Result<LinearSvm, SvmError> {
    let classes = machines.len();
    let mut weights = Array2::zeros((classes, dim));
    let mut bias = Array1::zeros(classes);
    for (class, machine) in machines {
        let (w, b) = machine?;
        if !b.is_finite() || !w.iter().all(|v| v.is_finite()) {
            return Err(SvmError::Solver {
                class,
                reason: "the hyperplane is not finite".into(),
            });
        }
        weights.row_mut(class).assign(&w);
        bias[class] = b;
    }
    Ok(LinearSvm { weights, bias })
}

/// Trains with linfa's solver. Both sides must have samples, or rho is −∞.
fn fit_dense(
    x: ArrayView2<f64>,
    is_class: &[bool],
    (c_class, c_rest): (f64, f64),
) -> Result<(Array1<f64>, f64), String> {
    // f64 because f32 does not reach the tolerance; no shrinking, which is incorrect in linfa-svm 0.8.1.
    let params = Svm::<f64, bool>::params()
        .pos_neg_weights(c_class, c_rest)
        .eps(DENSE_EPS)
        .shrinking(false)
        .linear_kernel()
        .check()
        .map_err(|e| e.to_string())?;
    let targets = Array1::from(is_class.to_vec());
    let data = DatasetBase::new(x, targets.view());
    let machine = params.fit(&data).map_err(|e| e.to_string())?;
    // w is the sum of alpha times sample; calling weighted_sum(e_k) D times would cost D².
    let alpha = Array1::from(machine.alpha);
    if alpha.len() != x.nrows() {
        return Err(format!("{} alphas for {} samples", alpha.len(), x.nrows()));
    }
    Ok((alpha.dot(&x), -machine.rho))
}

/// Coordinate descent for all classes, block by block.
fn descend_together(
    x: ArrayView2<f32>,
    labels: &[usize],
    classes: usize,
) -> Result<LinearSvm, SvmError> {
    let mut members = vec![Vec::new(); classes];
    for (sample, &label) in labels.iter().enumerate() {
        members[label].push(sample);
    }
    let machines: Vec<_> = members
        .par_chunks(BLOCK)
        .flat_map_iter(|classes| descend_block(x, classes))
        .map(Ok)
        .collect();
    assembled(x.ncols(), machines.into_iter().enumerate())
}

/// Trains the classes of one block, given the samples of each.
fn descend_block(x: ArrayView2<f32>, classes: &[Vec<usize>]) -> Vec<(Array1<f32>, f32)> {
    let mut descents: Vec<Descent> = classes
        .iter()
        .map(|members| Descent::new(x, members))
        .collect();
    // Each class starts against the samples of other classes that are most similar to it.
    let mut nearest: Vec<Vec<(f32, usize)>> = vec![Vec::new(); classes.len()];
    let means = classes.iter().map(|members| mean(x, members));
    for_all_values(x, &stacked(means, x.ncols()), |k, sample, value| {
        if !descents[k].takes_part[sample] {
            let list = &mut nearest[k];
            list.push((value, sample));
            // The list is pruned now and then, so that it stays short.
            if list.len() >= 4 * NEAREST {
                keep_nearest(list);
            }
        }
    });
    for (descent, mut list) in descents.iter_mut().zip(nearest) {
        keep_nearest(&mut list);
        list.sort_unstable_by_key(|(_, sample)| *sample);
        list.into_iter()
            .for_each(|(_, sample)| descent.take(x, sample, -1.0));
    }
    let mut left: Vec<usize> = (0..classes.len()).collect();
    for _ in 0..ROUNDS {
        left.iter().for_each(|&k| descents[k].run());
        let weights = left.iter().map(|&k| descents[k].w.clone());
        let weights = stacked(weights, x.ncols());
        let mut missed = vec![Vec::new(); left.len()];
        for_all_values(x, &weights, |i, sample, value| {
            let descent = &descents[left[i]];
            // The gradient of a sample of another class whose alpha is still 0.
            let gradient = -(f64::from(value) + descent.bias()) - 1.0;
            if gradient < -DESCENT_EPS && !descent.takes_part[sample] {
                missed[i].push(sample);
            }
        });
        for (&k, missed) in left.iter().zip(&missed) {
            missed
                .iter()
                .for_each(|&sample| descents[k].take(x, sample, -1.0));
        }
        let mut missed = missed.iter();
        left.retain(|_| missed.next().is_some_and(|missed| !missed.is_empty()));
        if left.is_empty() {
            break;
        }
    }
    for k in left {
        for sample in 0..x.nrows() {
            if !descents[k].takes_part[sample] {
                descents[k].take(x, sample, -1.0);
            }
        }
        descents[k].run();
    }
    let machine = |descent: Descent| (descent.w, descent.bias as f32);
    descents.into_iter().map(machine).collect()
}

/// Keeps the [`NEAREST`] largest, in any order.
fn keep_nearest(list: &mut Vec<(f32, usize)>) {
    if list.len() > NEAREST {
        // Ties go to the lower index, so that the result does not depend on the order of arrival.
        list.select_nth_unstable_by(NEAREST, |a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        list.truncate(NEAREST);
    }
}

fn mean(x: ArrayView2<f32>, members: &[usize]) -> Array1<f32> {
    let mut mean = Array1::zeros(x.ncols());
    members.iter().for_each(|&sample| mean += &x.row(sample));
    mean / members.len().max(1) as f32
}

fn stacked(rows: impl ExactSizeIterator<Item = Array1<f32>>, dim: usize) -> Array2<f32> {
    let mut all = Array2::zeros((rows.len(), dim));
    for (mut to, row) in all.rows_mut().into_iter().zip(rows) {
        to.assign(&row);
    }
    all
}

/// Calls `see` with the index of every row of `weights`, that of every sample, and their product.
fn for_all_values(
    x: ArrayView2<f32>,
    weights: &Array2<f32>,
    mut see: impl FnMut(usize, usize, f32),
) {
    for (tile, samples) in x.axis_chunks_iter(Axis(0), TILE).enumerate() {
        let values = samples.dot(&weights.t());
        for (sample, row) in (tile * TILE..).zip(values.rows()) {
            for (k, &value) in row.iter().enumerate() {
                see(k, sample, value);
            }
        }
    }
}

/// Dual coordinate descent (Hsieh et al. 2008, algorithm 3). The constraint Σ αᵢyᵢ = 0, which comes from the
/// unregularised bias, is enforced by the method of multipliers: the multiplier is the bias. Samples
/// and w are f32, because reading them takes most of the time and f32 halves the memory; it is still three digits
/// more precise than [`DESCENT_EPS`] requires.
struct Descent {
    /// For each of all samples, whether it is one of `samples`.
    takes_part: Vec<bool>,
    c_class: f64,
    c_rest: f64,
    /// The samples' values, row by row.
    rows: Vec<f32>,
    samples: Vec<Sample>,
    w: Array1<f32>,
    bias: f64,
    /// Σ αᵢyᵢ
    balance: f64,
    random: Xorshift,
}

/// A sample that takes part in the descent.
struct Sample {
    /// 1 or −1
    y: f64,
    alpha: f64,
    /// Squared length of the sample.
    norm: f64,
}

impl Descent {
    /// A descent for the class with these members, in which no sample of another class takes part yet.
    fn new(x: ArrayView2<f32>, members: &[usize]) -> Self {
        let (c_class, c_rest) = balanced(members.len(), x.nrows());
        let mut descent = Self {
            takes_part: vec![false; x.nrows()],
            c_class,
            c_rest,
            rows: Vec::new(),
            samples: Vec::new(),
            w: Array1::zeros(x.ncols()),
            bias: 0.0,
            balance: 0.0,
            random: Xorshift(0x9E37_79B9_7F4A_7C15),
        };
        members.iter().for_each(|&i| descent.take(x, i, 1.0));
        descent
    }

    fn take(&mut self, x: ArrayView2<f32>, sample: usize, y: f64) {
        let row = x.row(sample);
        self.takes_part[sample] = true;
        self.rows.extend(&row);
        self.samples.push(Sample {
            y,
            alpha: 0.0,
            norm: row.iter().map(|&v| f64::from(v) * f64::from(v)).sum(),
        });
    }

    /// Current estimate of the bias.
    fn bias(&self) -> f64 {
        self.bias + PENALTY * self.balance
    }

    /// Runs until the participating samples have converged.
    fn run(&mut self) {
        let dim = self.w.len();
        let mut active: Vec<usize> = (0..self.samples.len()).collect();
        // How far the last pass was from the optimum; samples that lie further than that inside their bound
        // are skipped (shrinking).
        let mut worst_before = f64::INFINITY;
        for _ in 0..DESCENT_PASSES {
            // A fresh order in each pass converges much faster than a fixed one.
            self.random.shuffle(&mut active);
            let mut worst = 0.0_f64;
            active.retain(|&i| {
                let row = ArrayView1::from(&self.rows[i * dim..][..dim]);
                let sample = &mut self.samples[i];
                let (y, before) = (sample.y, sample.alpha);
                let c = if y > 0.0 { self.c_class } else { self.c_rest };
                let value = f64::from(row.dot(&self.w)) + self.bias + PENALTY * self.balance;
                let gradient = y * value - 1.0;
                let projected = if before <= 0.0 {
                    if gradient > worst_before {
                        return false;
                    }
                    gradient.min(0.0)
                } else if before >= c {
                    if gradient < -worst_before {
                        return false;
                    }
                    gradient.max(0.0)
                } else {
                    gradient
                };
                worst = worst.max(projected.abs());
                sample.alpha = (before - gradient / (sample.norm + PENALTY)).clamp(0.0, c);
                let step = (sample.alpha - before) * y;
                if step != 0.0 {
                    self.w.scaled_add(step as f32, &row);
                    self.balance += step;
                }
                true
            });
            self.bias += PENALTY * self.balance;
            worst = worst.max(self.balance.abs());
            if worst >= DESCENT_EPS {
                worst_before = worst;
            } else if active.len() == self.samples.len() {
                break;
            } else {
                // The final check includes the samples that were skipped.
                active = (0..self.samples.len()).collect();
                worst_before = f64::INFINITY;
            }
        }
    }
}

/// Marsaglia's xorshift64: a shuffle of the samples that is the same in every run.
struct Xorshift(u64);

impl Xorshift {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn shuffle(&mut self, order: &mut [usize]) {
        for i in (1..order.len()).rev() {
            // The remainder is below i + 1, which is a usize.
            let j = (self.next() % (i as u64 + 1)) as usize;
            order.swap(i, j);
        }
    }
}

#[cfg(test)]
mod tests;
