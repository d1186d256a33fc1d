//! Sums of pairs of integers.
//!
//! What goes into a layer is rounded window by window, in steps of 1 / 16,383 of the largest there, weights channel by
//! channel. What it changes is in docs/accuracy.md: hardly anything.

use super::kernel::Arithmetic;
use super::{Sum, Taps};
use crate::simd::pairs::{Integers, Pairs, pair, weight_scale};

/// What the largest input of a window is rounded to.
const MOST: f32 = 16383.0;

/// The weights of a [`Sum`], two inputs in each number.
#[derive(Debug)]
pub struct PairTaps {
    /// `[block of channels, step, channels of a block]`
    taps: Vec<i32>,
    /// What a sum of one is worth, channel by channel of the output, but for the input's part.
    worth: Vec<f32>,
    /// Channels of the input that lie side by side.
    group: usize,
}

/// Inputs in pairs. One for each thread.
#[derive(Debug, Default)]
pub struct Rounded {
    pairs: Vec<i32>,
    /// What one is worth, window by window.
    worth: Vec<f32>,
}

impl Rounded {
    /// Rounds what `count` windows hold.
    #[inline(always)]
    pub fn round<'a, S: Pairs>(
        &'a mut self,
        simd: S,
        from: &[f32],
        taps: &'a PairTaps,
        count: usize,
    ) -> RoundedSum<'a> {
        let length = from.len() / taps.group * taps.group.div_ceil(2);
        self.pairs.resize(length, 0);
        self.worth.clear();
        let windows = from.chunks_exact((from.len() / count.max(1)).max(1));
        let pairs = self.pairs.chunks_exact_mut((length / count.max(1)).max(1));
        for (from, pairs) in windows.zip(pairs) {
            let worth = round(simd, from, taps.group, pairs);
            self.worth.push(worth);
        }
        RoundedSum {
            from: &self.pairs,
            worth: &self.worth,
            taps,
        }
    }
}

/// Neighbours of a group of channels make a pair, the last of three one with 0. Gives what one is worth.
#[inline(always)]
fn round<S: Pairs>(simd: S, from: &[f32], group: usize, pairs: &mut [i32]) -> f32 {
    let (vectors, rest) = S::as_simd_f32s(from);
    let mut most = simd.splat_f32s(0.0);
    for vector in vectors {
        most = simd.max_f32s(simd.abs_f32s(*vector), most);
    }
    let mut most = simd.reduce_max_f32s(most);
    for x in rest {
        most = most.max(x.abs());
    }
    let scale = if most > 0.0 { MOST / most } else { 0.0 };
    let whole = |x: f32| (x * scale).round_ties_even() as i16;
    if group == 3 {
        let pixels = from.as_chunks::<3>().0.iter();
        for ([red, green, blue], pairs) in pixels.zip(pairs.as_chunks_mut::<2>().0) {
            *pairs = [pair(whole(*red), whole(*green)), pair(whole(*blue), 0)];
        }
    } else {
        let scale = simd.splat_f32s(scale);
        let two = vectors.as_chunks::<2>().0;
        let (vectors, left) = S::as_mut_simd_i32s(pairs);
        for ([first, second], pairs) in two.iter().zip(vectors) {
            *pairs = simd.pairs(simd.mul_f32s(*first, scale), simd.mul_f32s(*second, scale));
        }
        // Half a vector of pairs.
        let numbers = &from[two.len() * 2 * S::F32_LANES..];
        for ([first, second], pairs) in numbers.as_chunks::<2>().0.iter().zip(left) {
            *pairs = pair(whole(*first), whole(*second));
        }
    }
    most / MOST
}

/// Inputs and weights in pairs.
#[derive(Clone, Copy)]
pub struct RoundedSum<'a> {
    from: &'a [i32],
    worth: &'a [f32],
    taps: &'a PairTaps,
}

impl<S: Pairs> Arithmetic<S> for RoundedSum<'_> {
    type By = Integers;

    #[inline(always)]
    fn from(&self) -> &[i32] {
        self.from
    }

    #[inline(always)]
    fn taps(&self) -> &[i32] {
        &self.taps.taps
    }

    #[inline(always)]
    fn end(self, simd: S, sums: S::i32s, window: usize, channels: usize, bias: S::f32s) -> S::f32s {
        let worth = S::as_simd_f32s(&self.taps.worth).0[channels];
        let worth = simd.mul_f32s(worth, simd.splat_f32s(self.worth[window]));
        simd.mul_add_e_f32s(simd.numbers(sums), worth, bias)
    }
}

impl Sum {
    /// With rounded weights, for inputs of which `group` channels lie side by side.
    pub fn round(&mut self, group: usize) {
        let Taps::Numbers(numbers) = &self.taps else {
            return;
        };
        let half = group.div_ceil(2);
        // Steps go through whole groups.
        let groups = self.steps.chunks(group);
        let fits = groups
            .clone()
            .all(|g| g.len() == group && (g[0] as usize).is_multiple_of(group))
            && self.places.iter().all(|place| place.is_multiple_of(group));
        if !fits || group != 3 && !group.is_multiple_of(2) {
            return;
        }
        let length = self.steps.len();
        let number = |channel: usize, step: usize| {
            let (block, lane) = (channel / self.block, channel % self.block);
            numbers[(block * length + step) * self.block + lane]
        };
        let scales: Vec<f64> = (0..self.channels)
            .map(|channel| weight_scale((0..length).map(|step| number(channel, step)), MOST))
            .collect();
        let steps = length / group * half;
        let mut taps = vec![0; self.channels * steps];
        for (at, tap) in taps.iter_mut().enumerate() {
            let (lane, at) = (at % self.block, at / self.block);
            let (block, step) = (at / steps, at % steps);
            let channel = block * self.block + lane;
            let part = |c: usize| {
                let at = step / half * group + c;
                let weight = if c < group { number(channel, at) } else { 0.0 };
                (f64::from(weight) * scales[channel]).round() as i16
            };
            let c = step % half * 2;
            *tap = pair(part(c), part(c + 1));
        }
        let to_pairs = |at: usize| at / group * half;
        self.steps = groups
            .flat_map(|g| (0..half).map(move |i| (to_pairs(g[0] as usize) + i) as u32))
            .collect();
        self.span = self.steps.last().map_or(0, |last| *last as usize + 1);
        self.places.iter_mut().for_each(|at| *at = to_pairs(*at));
        self.taps = Taps::Pairs(PairTaps {
            taps,
            worth: scales.iter().map(|s| (1.0 / s) as f32).collect(),
            group,
        });
    }
}
