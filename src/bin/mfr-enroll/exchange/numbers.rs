//! Single-precision numbers as decimal text, without loss.

use ndarray::Array1;

/// The numbers rounded to nine significant digits, from which every single-precision number can be restored, whichever way
/// the reader rounds.
pub fn decimals(embedding: &Array1<f32>) -> Vec<f64> {
    let nine = |&value: &f32| format!("{value:.8e}").parse().unwrap_or(f64::from(value));
    embedding.iter().map(nine).collect()
}
