//! The kernel of P-Net, for vectors of any length.
//!
//! Output channels are contiguous in vectors; a tile of adjacent columns is accumulated in registers, one input value
//! after another. PReLU is applied to the accumulators while they are in registers.

use pulp::Simd;

use super::forms::{Acc, F32Form, Form, I16Form, Value};
use super::pack::{Activation, BLOCK, FIRST, SECOND, Weights};
use super::{Cell, Rings, output_size};
use crate::nn::simd::{Isa, Kernel, Level, Products};

/// Arguments of one run on a strip of a pyramid level.
pub struct Sweep<'a> {
    pub weights: &'a Weights,
    pub pixels: [&'a [f32]; 3],
    pub width: usize,
    pub height: usize,
    /// Index of the first output row.
    pub first: usize,
    pub threshold: f32,
    pub rings: &'a mut Rings,
    pub found: &'a mut Vec<Cell>,
}

/// Rows in a ring buffer: those that a 3×3 convolution reads.
const RING: usize = 3;

impl Sweep<'_> {
    /// Runs the kernel. Each kind of arithmetic is a separate function, because the loops of one large function compile
    /// to slower code.
    pub fn dispatch(self, isa: Isa, is_i16: bool) {
        match is_i16 {
            true => isa.dispatch(I16Sweep(self)),
            false => isa.dispatch(F32Sweep(self)),
        }
    }
}

struct F32Sweep<'a>(Sweep<'a>);

impl Kernel for F32Sweep<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Level>(self, simd: L::Simd) {
        let form = F32Form(self.0.weights);
        self.0.tiled(simd, form);
    }
}

struct I16Sweep<'a>(Sweep<'a>);

impl Kernel for I16Sweep<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Level>(self, simd: L::Simd) {
        let form = I16Form(self.0.weights);
        self.0.tiled(simd, form);
    }
}

impl Sweep<'_> {
    #[inline(always)]
    fn tiled<S: Simd, F: Form<S>>(self, simd: S, form: F) {
        // Register tiles are as large as the instruction set allows: vectors in a block, vectors in the third
        // convolution's output, columns in a tile of the first, second and third convolution.
        match S::F32_LANES {
            16 => self.sweep::<S, F, 1, 2, 8, 24, 12>(simd, form),
            8 => self.sweep::<S, F, 2, 4, 2, 6, 3>(simd, form),
            4 => self.sweep::<S, F, 4, 8, 2, 4, 2>(simd, form),
            _ => self.sweep::<S, F, 16, 32, 2, 1, 1>(simd, form),
        }
    }

    #[inline(always)]
    fn sweep<
        S: Simd,
        F: Form<S>,
        const V: usize,
        const W: usize,
        const A: usize,
        const B: usize,
        const C: usize,
    >(
        self,
        simd: S,
        form: F,
    ) {
        let Self {
            weights,
            pixels,
            width,
            height,
            ..
        } = self;
        let (columns, rows) = output_size(width, height);
        let pooled_width = columns + 4;
        // Vectors are stored whole: the next column overwrites the padding channels of the one before it.
        let pooled_row = pooled_width * FIRST / F::CHANNELS + BLOCK;
        let convolved_row = (columns + 2) * SECOND / F::CHANNELS + BLOCK;
        let [pooled, convolved] = F::rings(self.rings);
        pooled.resize(RING * pooled_row, Default::default());
        convolved.resize(RING * convolved_row, Default::default());
        let cut = Cut::new(self.threshold);
        for y in 0..rows + 4 {
            let row = |colour: usize, dy: usize| {
                // If the height is odd, the last row is pooled with itself.
                let y = if 2 * y + 3 < height {
                    2 * y + dy
                } else {
                    2 * y + dy.min(2)
                };
                &pixels[colour][y * width..][..width]
            };
            let single = 2 * y + 3 >= height;
            let out = &mut pooled[y % RING * pooled_row..][..pooled_row];
            first::<S, F, V, A>(simd, form, weights, row, single, width, out);
            if y < 2 {
                continue;
            }
            let ring = [y - 2, y - 1, y].map(|y| &pooled[y % RING * pooled_row..][..pooled_row]);
            let out = &mut convolved[y % RING * convolved_row..][..convolved_row];
            second::<S, F, V, B>(simd, form, weights, ring, columns + 2, out);
            if y < 4 {
                continue;
            }
            let ring =
                [y - 2, y - 1, y].map(|y| &convolved[y % RING * convolved_row..][..convolved_row]);
            let row = self.first + y - 4;
            third::<S, F, W, C>(
                simd,
                form,
                weights,
                ring,
                columns,
                cut,
                |column, score, offsets| {
                    self.found.push(Cell {
                        column,
                        row,
                        score,
                        offsets,
                    });
                },
            );
        }
    }
}

/// The first convolution, PReLU, and 2×2 max pooling: computes a row of columns of [`FIRST`] channels.
#[inline(always)]
fn first<'a, S: Simd, F: Form<S>, const V: usize, const A: usize>(
    simd: S,
    form: F,
    weights: &Weights,
    row: impl Fn(usize, usize) -> &'a [f32],
    single: bool,
    width: usize,
    out: &mut [Value<S, F>],
) {
    let rows: [[&[f32]; 4]; 3] =
        std::array::from_fn(|colour| std::array::from_fn(|dy| row(colour, dy)));
    let activation = &weights.activations[0];
    let sums = width - 2;
    let even = sums & !1;
    if even >= A {
        for x in starts(even, A) {
            let both = first_tile::<S, V, A>(simd, weights, &rows, x);
            for pair in 0..A / 2 {
                let mut pooled = [simd.splat_f32s(0.0); V];
                for v in 0..V {
                    let (a, b) = (2 * pair, 2 * pair + 1);
                    let upper = simd.max_f32s(
                        prelu(simd, both[0][a][v], activation, v),
                        prelu(simd, both[0][b][v], activation, v),
                    );
                    let lower = simd.max_f32s(
                        prelu(simd, both[1][a][v], activation, v),
                        prelu(simd, both[1][b][v], activation, v),
                    );
                    pooled[v] = if single {
                        upper
                    } else {
                        simd.max_f32s(upper, lower)
                    };
                }
                let out = &mut out[(x / 2 + pair) * FIRST / F::CHANNELS..];
                form.store(simd, 0, pooled, out);
            }
        }
    }
    let rest = if even >= A { even } else { 0 };
    for x in (rest..sums).step_by(2) {
        let pooled = one_pool::<S, V>(simd, weights, &rows, x, (x + 1).min(sums - 1), single);
        form.store(simd, 0, pooled, &mut out[x / 2 * FIRST / F::CHANNELS..]);
    }
}

/// Computes one column of the pooled row, from columns `left` and `right` of the convolution.
#[inline(always)]
fn one_pool<S: Simd, const V: usize>(
    simd: S,
    weights: &Weights,
    rows: &[[&[f32]; 4]; 3],
    left: usize,
    right: usize,
    single: bool,
) -> [S::f32s; V] {
    let activation = &weights.activations[0];
    let a = first_tile::<S, V, 1>(simd, weights, rows, left);
    let b = first_tile::<S, V, 1>(simd, weights, rows, right);
    let mut pooled = [simd.splat_f32s(0.0); V];
    for v in 0..V {
        let upper = simd.max_f32s(
            prelu(simd, a[0][0][v], activation, v),
            prelu(simd, b[0][0][v], activation, v),
        );
        let lower = simd.max_f32s(
            prelu(simd, a[1][0][v], activation, v),
            prelu(simd, b[1][0][v], activation, v),
        );
        pooled[v] = if single {
            upper
        } else {
            simd.max_f32s(upper, lower)
        };
    }
    pooled
}

/// Computes two rows of the first convolution, `P` columns from `x` on.
#[inline(always)]
fn first_tile<S: Simd, const V: usize, const P: usize>(
    simd: S,
    weights: &Weights,
    rows: &[[&[f32]; 4]; 3],
    x: usize,
) -> [[[S::f32s; V]; P]; 2] {
    let bias = S::as_simd_f32s(&weights.activations[0].bias).0;
    let mut sums = [[[simd.splat_f32s(0.0); V]; P]; 2];
    for sums in sums.as_flattened_mut() {
        sums.copy_from_slice(&bias[..V]);
    }
    let first = S::as_simd_f32s(&weights.first).0;
    for (colour, rows) in rows.iter().enumerate() {
        for (dy, row) in rows.iter().enumerate() {
            let row = &row[x..x + P + 2];
            for dx in 0..3 {
                for p in 0..P {
                    let pixel = simd.splat_f32s(row[p + dx]);
                    for v in 0..V {
                        let weight = |y: usize| first[((colour * 3 + y) * 3 + dx) * V + v];
                        if dy < 3 {
                            sums[0][p][v] = simd.mul_add_e_f32s(pixel, weight(dy), sums[0][p][v]);
                        }
                        if dy > 0 {
                            sums[1][p][v] =
                                simd.mul_add_e_f32s(pixel, weight(dy - 1), sums[1][p][v]);
                        }
                    }
                }
            }
        }
    }
    sums
}

/// The second convolution and PReLU: computes a row of columns of [`SECOND`] channels.
#[inline(always)]
fn second<S: Simd, F: Form<S>, const V: usize, const B: usize>(
    simd: S,
    form: F,
    weights: &Weights,
    rows: [&[Value<S, F>]; 3],
    columns: usize,
    out: &mut [Value<S, F>],
) {
    if columns >= B {
        second_tiles::<S, F, V, B>(simd, form, weights, rows, columns, out);
    } else if columns >= FEW {
        second_tiles::<S, F, V, FEW>(simd, form, weights, rows, columns, out);
    } else {
        second_tiles::<S, F, V, 1>(simd, form, weights, rows, columns, out);
    }
}

#[inline(always)]
fn second_tiles<S: Simd, F: Form<S>, const V: usize, const P: usize>(
    simd: S,
    form: F,
    weights: &Weights,
    rows: [&[Value<S, F>]; 3],
    columns: usize,
    out: &mut [Value<S, F>],
) {
    for x in starts(columns, P) {
        let sums = conv_tile::<S, F, V, P>(simd, form, 1, FIRST / F::CHANNELS, rows, x);
        for p in 0..P {
            let mut features = [simd.splat_f32s(0.0); V];
            for v in 0..V {
                let sum = form.end(simd, 1, sums[p][v], v);
                features[v] = prelu(simd, sum, &weights.activations[1], v);
            }
            let out = &mut out[(x + p) * SECOND / F::CHANNELS..];
            form.store(simd, 1, features, out);
        }
    }
}

/// The third convolution, PReLU, and the heads: reports every cell of the row that reaches the threshold.
#[inline(always)]
fn third<S: Simd, F: Form<S>, const W: usize, const C: usize>(
    simd: S,
    form: F,
    weights: &Weights,
    rows: [&[Value<S, F>]; 3],
    columns: usize,
    cut: Cut,
    found: impl FnMut(usize, f32, [f32; 4]),
) {
    if columns >= C {
        third_tiles::<S, F, W, C>(simd, form, weights, rows, columns, cut, found);
    } else if columns >= FEW {
        third_tiles::<S, F, W, FEW>(simd, form, weights, rows, columns, cut, found);
    } else {
        third_tiles::<S, F, W, 1>(simd, form, weights, rows, columns, cut, found);
    }
}

#[inline(always)]
fn third_tiles<S: Simd, F: Form<S>, const W: usize, const P: usize>(
    simd: S,
    form: F,
    weights: &Weights,
    rows: [&[Value<S, F>]; 3],
    columns: usize,
    cut: Cut,
    mut found: impl FnMut(usize, f32, [f32; 4]),
) {
    let activation = &weights.activations[2];
    let face = S::as_simd_f32s(&weights.score.0).0;
    let offsets = S::as_simd_f32s(&weights.offsets.0).0;
    // Columns before `done` have been reported, because the last tile may overlap the one before.
    let mut done = 0;
    for x in starts(columns, P) {
        let sums = conv_tile::<S, F, W, P>(simd, form, 2, SECOND / F::CHANNELS, rows, x);
        for (p, sums) in sums.iter().enumerate() {
            let mut features = [simd.splat_f32s(0.0); W];
            for v in 0..W {
                let sum = form.end(simd, 2, sums[v], v);
                features[v] = prelu(simd, sum, activation, v);
            }
            let likelier = dot(simd, &features, face) + weights.score.1;
            if cut.keeps(likelier) && x + p >= done {
                let mut moved = weights.offsets.1;
                for (i, moved) in moved.iter_mut().enumerate() {
                    *moved += dot(simd, &features, &offsets[i * W..]);
                }
                found(x + p, Cut::probability(likelier), moved);
            }
        }
        done = x + P;
    }
}

#[inline(always)]
fn dot<S: Simd, const W: usize>(simd: S, a: &[S::f32s; W], b: &[S::f32s]) -> f32 {
    let mut sum = simd.mul_f32s(a[0], b[0]);
    for (a, b) in a.iter().zip(b).skip(1) {
        sum = simd.mul_add_e_f32s(*a, *b, sum);
    }
    simd.reduce_sum_f32s(sum)
}

/// Columns of a tile if the row is narrower than the widest tile.
const FEW: usize = 4;

/// First columns of the tiles of `width` columns that cover `columns`; the last one may overlap the one before.
#[inline(always)]
fn starts(columns: usize, width: usize) -> impl Iterator<Item = usize> {
    (0..columns.div_ceil(width)).map(move |i| (i * width).min(columns - width))
}

/// Computes `P` columns from `x` on of the second or third convolution, with `values` input values per column.
#[inline(always)]
fn conv_tile<S: Simd, F: Form<S>, const V: usize, const P: usize>(
    simd: S,
    form: F,
    layer: usize,
    values: usize,
    rows: [&[Value<S, F>]; 3],
    x: usize,
) -> [[Acc<S, F>; V]; P] {
    let mut sums = [[F::By::zero(simd); V]; P];
    let weights = form.weights(layer);
    for (y, row) in rows.into_iter().enumerate() {
        let weights = &weights[y * 3 * values * V..][..3 * values * V];
        let row = &row[x * values..][..(P + 2) * values];
        // Adjacent columns are contiguous, so the three columns of a window are one run of values.
        for at in 0..3 * values {
            for p in 0..P {
                let value = F::By::splat(simd, row[p * values + at]);
                for v in 0..V {
                    sums[p][v] = F::By::mul_add(simd, value, weights[at * V + v], sums[p][v]);
                }
            }
        }
    }
    sums
}

/// Returns `value` above 0 and slope · `value` below.
#[inline(always)]
fn prelu<S: Simd>(simd: S, value: S::f32s, activation: &Activation, v: usize) -> S::f32s {
    let zero = simd.splat_f32s(0.0);
    let slope = S::as_simd_f32s(&activation.slope).0[v];
    let below = simd.min_f32s(value, zero);
    simd.mul_add_e_f32s(slope, below, simd.max_f32s(value, zero))
}

/// A probability threshold that is compared as a logit, before the exponential is computed.
#[derive(Clone, Copy)]
struct Cut {
    probability: f32,
    /// Logit of the threshold, reduced by 0.001 so that rounding loses no cell.
    odds: f32,
}

impl Cut {
    fn new(probability: f32) -> Self {
        let odds = (probability / (1.0 - probability)).ln();
        Self {
            probability,
            odds: if odds.is_nan() {
                f32::NEG_INFINITY
            } else {
                odds - 1e-3
            },
        }
    }

    fn probability(odds: f32) -> f32 {
        1.0 / (1.0 + (-odds).exp())
    }

    #[inline(always)]
    fn keeps(self, odds: f32) -> bool {
        odds >= self.odds && Self::probability(odds) >= self.probability
    }
}
