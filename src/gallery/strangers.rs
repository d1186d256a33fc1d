//! Synthetic strangers: embeddings drawn from the general statistics of faces.

use ndarray::{Array1, Array2, s};

use super::Statistics;

/// Number of strangers that are drawn.
const DRAWN: usize = 2000;

/// Embeddings of synthetic people, `[DRAWN, D]`, the same in each call. None if the model
/// cannot be inverted.
pub fn draw(statistics: &Statistics, masked: bool) -> Option<Array2<f32>> {
    let spread = statistics.between.mapv(|b| (b + 1.0).sqrt());
    let mut normal = Normal::new(u64::from(masked) + 1);
    let mut drawn = Array2::from_shape_simple_fn((DRAWN, statistics.rank()), || normal.next());
    drawn *= &spread;
    SyntheticFaces::of(statistics).map(|faces| faces.embeddings(&drawn, masked))
}

/// Faces of people who do not exist, by the general statistics of faces: for measurements and tests with more people than
/// there are photos of.
#[derive(Debug)]
pub struct SyntheticFaces<'a> {
    statistics: &'a Statistics,
    /// `[R, D]`, the pseudo-inverse of the projection.
    back: Array2<f32>,
}

impl<'a> SyntheticFaces<'a> {
    /// None if the model cannot be inverted.
    pub fn of(statistics: &'a Statistics) -> Option<Self> {
        // (P'P)⁻¹P'
        let projection = &statistics.projection;
        let back = invert(&projection.t().dot(projection))?.dot(&projection.t());
        Some(Self { statistics, back })
    }

    /// One image, bare or masked, of each of `count` people from the `first` on: embeddings `[count, D]`, which are the same
    /// whenever they are asked for. `image` is the number of the image of each person.
    pub fn draw(&self, first: u64, count: usize, image: u64, masked: bool) -> Array2<f32> {
        let rank = self.statistics.rank();
        let spread = self.statistics.between.mapv(f32::sqrt);
        let mut drawn = Array2::zeros((count, rank));
        for (person, mut row) in (first..).zip(drawn.rows_mut()) {
            let seed = person.wrapping_mul(0xd134_2543_de82_ef95);
            let mut own = Normal::new(seed);
            row.assign(&(Array1::from_shape_simple_fn(rank, || own.next()) * &spread));
            let kind = 2 * image + u64::from(masked) + 1;
            let mut noise = Normal::new(seed ^ kind.wrapping_mul(0x9e6c_63d0_876a_3f6b));
            row.mapv_inplace(|value| value + noise.next());
        }
        self.embeddings(&drawn, masked)
    }

    /// Embeddings, `[N, D]`, of faces with these coordinates, `[N, R]`.
    fn embeddings(&self, drawn: &Array2<f32>, masked: bool) -> Array2<f32> {
        let centre = self.statistics.centres.row(usize::from(masked));
        let mut drawn = drawn.dot(&self.back);
        for mut row in drawn.rows_mut() {
            // The embedding is where the ray from the centre in this direction meets the unit sphere.
            let length = row.dot(&row).sqrt().max(f32::MIN_POSITIVE);
            row /= length;
            let along = row.dot(&centre);
            let way = (along * along + 1.0 - centre.dot(&centre)).max(0.0).sqrt() - along;
            row *= way;
            row += &centre;
        }
        drawn
    }
}

/// The inverse of a square matrix by Gauss-Jordan elimination; None for a singular one.
pub fn invert(matrix: &Array2<f32>) -> Option<Array2<f32>> {
    let n = matrix.nrows();
    let mut work = Array2::<f64>::zeros((n, 2 * n));
    work.slice_mut(s![.., ..n]).assign(&matrix.mapv(f64::from));
    work.slice_mut(s![.., n..]).diag_mut().fill(1.0);
    for column in 0..n {
        let size = |&row: &usize| work[[row, column]].abs();
        let pivot = (column..n).max_by(|a, b| size(a).total_cmp(&size(b)))?;
        let value = work[[pivot, column]];
        if !value.is_finite() || value.abs() < 1e-12 {
            return None;
        }
        if pivot != column {
            let (mut a, mut b) = work.multi_slice_mut((s![column, ..], s![pivot, ..]));
            ndarray::Zip::from(&mut a)
                .and(&mut b)
                .for_each(std::mem::swap);
        }
        work.row_mut(column).mapv_inplace(|v| v / value);
        let pivot_row = work.row(column).to_owned();
        for row in (0..n).filter(|&row| row != column) {
            let factor = work[[row, column]];
            if factor != 0.0 {
                work.row_mut(row).scaled_add(-factor, &pivot_row);
            }
        }
    }
    Some(work.slice(s![.., n..]).mapv(|v| v as f32))
}

/// Normally distributed numbers, the same for the same seed: SplitMix64 (Steele, Lea, Flood 2014)
/// and Box and Muller's transformation.
pub struct Normal {
    state: u64,
    spare: Option<f64>,
}

impl Normal {
    pub fn new(seed: u64) -> Self {
        Self {
            state: seed,
            spare: None,
        }
    }

    pub fn next(&mut self) -> f32 {
        if let Some(spare) = self.spare.take() {
            return spare as f32;
        }
        // Above 0, so that the logarithm is finite.
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * self.uniform()).sin_cos();
        self.spare = Some(radius * sin);
        (radius * cos) as f32
    }

    /// From 0 to just below 1.
    fn uniform(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}
