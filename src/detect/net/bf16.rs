//! Weighted sums in bfloat16 with sums in float32, twice as fast, on CPUs that have AVX-512 BF16 (AMD since Zen 4, Intel
//! since Cooper Lake).
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::Sum;

/// Places that are worked on together.
const TILE: usize = 6;
const LANES: usize = 16;

/// The taps of a [`Sum`]: `[block of channels, row, pair of taps, vector]`, two taps of each channel side by side.
#[derive(Debug)]
pub struct Taps {
    vectors: Vec<__m512bh>,
}

impl Taps {
    /// None where the CPU cannot.
    pub fn new(sum: &Sum) -> Option<Self> {
        let has = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512bf16");
        let fits = sum.block % LANES == 0 && sum.block / LANES <= 4;
        (has && fits).then(|| {
            let rows = sum.taps.chunks_exact(sum.run * sum.block);
            let vectors = rows.flat_map(|row| {
                row.chunks(2 * sum.block).flat_map(|pair| {
                    let (first, second) = pair.split_at(sum.block);
                    (0..sum.block).step_by(LANES).map(move |v| {
                        let tap = |i: usize| {
                            let taps = if i % 2 == 0 { first } else { second };
                            // A tap that is missing at the end of a row weighs nothing.
                            round(taps.get(v + i / 2).copied().unwrap_or(0.0))
                        };
                        bits(std::array::from_fn(tap))
                    })
                })
            });
            Self {
                vectors: vectors.collect(),
            }
        })
    }

    /// Does what the sum says, for `count` windows. `halves` is scratch memory.
    pub fn run(
        &self,
        sum: &Sum,
        from: &[f32],
        halves: &mut Vec<u16>,
        to: &mut [f32],
        count: usize,
    ) {
        // SAFETY: `new` has seen that the CPU has all of these features.
        unsafe {
            match sum.block / LANES {
                1 => sums::<1>(sum, &self.vectors, from, halves, to, count),
                2 => sums::<2>(sum, &self.vectors, from, halves, to, count),
                3 => sums::<3>(sum, &self.vectors, from, halves, to, count),
                _ => sums::<4>(sum, &self.vectors, from, halves, to, count),
            }
        }
    }
}

/// To the nearest number with eight bits, ties to even. Not for infinities.
#[inline(always)]
fn round(value: f32) -> u16 {
    let bits = value.to_bits();
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

#[inline(always)]
fn bits(values: [u16; 32]) -> __m512bh {
    // SAFETY: both are 64 bytes for which every value is valid.
    unsafe { std::mem::transmute(values) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn sums<const V: usize>(
    sum: &Sum,
    taps: &[__m512bh],
    from: &[f32],
    halves: &mut Vec<u16>,
    to: &mut [f32],
    count: usize,
) {
    halves.clear();
    halves.extend(from.iter().map(|v| round(*v)));
    // Rows of an odd number of taps read one more.
    halves.push(0);
    let window = from.len() / count.max(1);
    let total = if sum.places.len() == 1 {
        count
    } else {
        sum.places.len()
    };
    let place = |number: usize| match sum.places[..] {
        [place] => place + number.min(total - 1) * window,
        ref places => places[number.min(total - 1)],
    };
    let pairs = sum.run.div_ceil(2);
    for block in 0..sum.channels / sum.block {
        let taps = &taps[block * sum.rows * pairs * V..][..sum.rows * pairs * V];
        let channels = block * sum.block..(block + 1) * sum.block;
        let vectors = |values: &[f32]| -> [__m512; V] {
            let values = values[channels.clone()].as_chunks::<LANES>().0;
            std::array::from_fn(|v| floats(values[v]))
        };
        let bias = vectors(&sum.bias);
        let bend = sum
            .bend
            .as_ref()
            .map(|(above, below)| (vectors(above), vectors(below)));
        for first in (0..total).step_by(TILE) {
            // The last tile sums its last place up several times.
            let places: [usize; TILE] = std::array::from_fn(|i| place(first + i));
            let mut tile = [bias; TILE];
            for row in 0..sum.rows {
                let [a, b, c, d, e, f] = places.map(|p| {
                    let taps = &halves[p + row * sum.stride..][..2 * pairs];
                    taps.as_chunks::<2>().0
                });
                let taps = taps[row * pairs * V..][..pairs * V].as_chunks::<V>().0;
                let values = a.iter().zip(b).zip(c.iter().zip(d)).zip(e.iter().zip(f));
                for (taps, (((a, b), (c, d)), (e, f))) in taps.iter().zip(values) {
                    let values = [a, b, c, d, e, f];
                    for i in 0..TILE {
                        let [low, high] = *values[i];
                        let pair = i32::from(low) | i32::from(high) << 16;
                        // SAFETY: both are 64 bytes for which every value is valid.
                        let pair: __m512bh =
                            unsafe { std::mem::transmute(_mm512_set1_epi32(pair)) };
                        for v in 0..V {
                            tile[i][v] = _mm512_dpbf16_ps(tile[i][v], pair, taps[v]);
                        }
                    }
                }
            }
            // Unrolled, or the tile would live in memory.
            for i in 0..TILE {
                let at = (first + i) * sum.channels;
                let Some(to) = to.get_mut(at + channels.start..at + channels.end) else {
                    break;
                };
                for (v, to) in to.as_chunks_mut::<LANES>().0.iter_mut().enumerate().take(V) {
                    let mut value = tile[i][v];
                    if let Some((above, below)) = &bend {
                        let zero = _mm512_setzero_ps();
                        let low = _mm512_mul_ps(below[v], _mm512_min_ps(value, zero));
                        value = _mm512_fmadd_ps(above[v], _mm512_max_ps(value, zero), low);
                    }
                    // SAFETY: both are 64 bytes for which every value is valid.
                    *to = unsafe { std::mem::transmute::<__m512, [f32; LANES]>(value) };
                }
            }
        }
    }
}

#[inline(always)]
fn floats(values: [f32; LANES]) -> __m512 {
    // SAFETY: both are 64 bytes for which every value is valid.
    unsafe { std::mem::transmute(values) }
}
