//! Products of integers, two of 16 bits or four of 8 at a time: half the instructions that numbers take, or a quarter, in
//! CPUs with AVX2 or better (docs/performance.md).

use pulp::{Scalar, Simd, cast};

/// Vectors with an instruction for pairs.
pub trait Pairs: Simd {
    /// `sums` + the products of both halves.
    fn add_pairs(self, a: Self::i32s, b: Self::i32s, sums: Self::i32s) -> Self::i32s;
    fn numbers(self, sums: Self::i32s) -> Self::f32s;
    /// Rounds two vectors, one behind the other, to pairs of neighbours.
    fn pairs(self, first: Self::f32s, second: Self::f32s) -> Self::i32s;
    /// `sums` + the products of all quarters, of unsigned `a` and signed `b`; for no more than 7 bits of `b`, sign
    /// included, since two products are added in 16 bits.
    fn add_quads(self, a: Self::i32s, b: Self::i32s, sums: Self::i32s) -> Self::i32s;
    /// Rounds a vector, ties to even, adds `zero`, and keeps to 0…255.
    fn bytes(self, values: Self::f32s, zero: i32, to: &mut [u8]);
}

/// The twin of the others, for tests.
impl Pairs for Scalar {
    #[inline(always)]
    fn add_pairs(self, a: i32, b: i32, sums: i32) -> i32 {
        let halves = |pair: i32| (i32::from(pair as i16), pair >> 16);
        let ((a, c), (b, d)) = (halves(a), halves(b));
        sums + a * b + c * d
    }

    #[inline(always)]
    fn numbers(self, sums: i32) -> f32 {
        sums as f32
    }

    #[inline(always)]
    fn pairs(self, first: f32, second: f32) -> i32 {
        pair(
            first.round_ties_even() as i16,
            second.round_ties_even() as i16,
        )
    }

    #[inline(always)]
    fn add_quads(self, a: i32, b: i32, sums: i32) -> i32 {
        let quads = a.to_le_bytes().into_iter().zip(b.to_le_bytes());
        quads.fold(sums, |sums, (a, b)| {
            sums + i32::from(a) * i32::from(b as i8)
        })
    }

    #[inline(always)]
    fn bytes(self, value: f32, zero: i32, to: &mut [u8]) {
        to[0] = (value.round_ties_even() as i32 + zero).clamp(0, 255) as u8;
    }
}

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
impl Pairs for pulp::x86::V3 {
    #[inline(always)]
    fn add_pairs(self, a: Self::i32s, b: Self::i32s, sums: Self::i32s) -> Self::i32s {
        let products = self.avx2._mm256_madd_epi16(cast(a), cast(b));
        cast(self.avx2._mm256_add_epi32(cast(sums), products))
    }

    #[inline(always)]
    fn numbers(self, sums: Self::i32s) -> Self::f32s {
        cast(self.avx._mm256_cvtepi32_ps(cast(sums)))
    }

    #[inline(always)]
    fn pairs(self, first: Self::f32s, second: Self::f32s) -> Self::i32s {
        let (first, second) = (
            self.avx._mm256_cvtps_epi32(cast(first)),
            self.avx._mm256_cvtps_epi32(cast(second)),
        );
        // Quarters of both in turn.
        let packed = self.avx2._mm256_packs_epi32(first, second);
        cast(self.avx2._mm256_permute4x64_epi64::<0b11_01_10_00>(packed))
    }

    #[inline(always)]
    fn add_quads(self, a: Self::i32s, b: Self::i32s, sums: Self::i32s) -> Self::i32s {
        let pairs = self.avx2._mm256_maddubs_epi16(cast(a), cast(b));
        let ones = self.avx._mm256_set1_epi16(1);
        let products = self.avx2._mm256_madd_epi16(pairs, ones);
        cast(self.avx2._mm256_add_epi32(cast(sums), products))
    }

    #[inline(always)]
    fn bytes(self, values: Self::f32s, zero: i32, to: &mut [u8]) {
        let values = self.avx._mm256_cvtps_epi32(cast(values));
        let values = self
            .avx2
            ._mm256_add_epi32(values, self.avx._mm256_set1_epi32(zero));
        let words = self.avx2._mm256_packs_epi32(values, values);
        let bytes = self.avx2._mm256_packus_epi16(words, words);
        // Each half of the vector holds its own four.
        let [low, _, _, _, high, ..]: [u32; 8] = cast(bytes);
        to[..4].copy_from_slice(&low.to_le_bytes());
        to[4..8].copy_from_slice(&high.to_le_bytes());
    }
}

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
impl Pairs for pulp::x86::V4 {
    #[inline(always)]
    fn add_pairs(self, a: Self::i32s, b: Self::i32s, sums: Self::i32s) -> Self::i32s {
        let products = self.avx512bw._mm512_madd_epi16(cast(a), cast(b));
        cast(self.avx512f._mm512_add_epi32(cast(sums), products))
    }

    #[inline(always)]
    fn numbers(self, sums: Self::i32s) -> Self::f32s {
        cast(self.avx512f._mm512_cvtepi32_ps(cast(sums)))
    }

    #[inline(always)]
    fn pairs(self, first: Self::f32s, second: Self::f32s) -> Self::i32s {
        let (first, second) = (
            self.avx512f._mm512_cvtps_epi32(cast(first)),
            self.avx512f._mm512_cvtps_epi32(cast(second)),
        );
        // Eighths of both in turn.
        let packed = self.avx512bw._mm512_packs_epi32(first, second);
        let order = cast([0u64, 2, 4, 6, 1, 3, 5, 7]);
        cast(self.avx512f._mm512_permutexvar_epi64(order, packed))
    }

    #[inline(always)]
    fn add_quads(self, a: Self::i32s, b: Self::i32s, sums: Self::i32s) -> Self::i32s {
        let pairs = self.avx512bw._mm512_maddubs_epi16(cast(a), cast(b));
        let ones = self.avx512f._mm512_set1_epi16(1);
        let products = self.avx512bw._mm512_madd_epi16(pairs, ones);
        cast(self.avx512f._mm512_add_epi32(cast(sums), products))
    }

    #[inline(always)]
    fn bytes(self, values: Self::f32s, zero: i32, to: &mut [u8]) {
        let values = self.avx512f._mm512_cvtps_epi32(cast(values));
        let values = self
            .avx512f
            ._mm512_add_epi32(values, self.avx512f._mm512_set1_epi32(zero));
        let none = self.avx512f._mm512_setzero_si512();
        let values = self.avx512f._mm512_max_epi32(values, none);
        let bytes: [u8; 16] = cast(self.avx512f._mm512_cvtusepi32_epi8(values));
        to[..16].copy_from_slice(&bytes);
    }
}

/// How a layer sums products up, in vectors of its output's channels.
pub trait Products<S: Simd> {
    /// One channel of the input, or more side by side.
    type Value: Copy + Default;
    type Sums: Copy;

    fn vectors(values: &[Self::Value]) -> &[Self::Sums];
    fn splat(simd: S, value: Self::Value) -> Self::Sums;
    fn add(simd: S, value: Self::Sums, taps: Self::Sums, sums: Self::Sums) -> Self::Sums;

    #[inline(always)]
    fn zero(simd: S) -> Self::Sums {
        Self::splat(simd, Self::Value::default())
    }
}

/// In float32.
pub struct Floats;

impl<S: Simd> Products<S> for Floats {
    type Value = f32;
    type Sums = S::f32s;

    #[inline(always)]
    fn vectors(values: &[f32]) -> &[S::f32s] {
        S::as_simd_f32s(values).0
    }

    #[inline(always)]
    fn splat(simd: S, value: f32) -> S::f32s {
        simd.splat_f32s(value)
    }

    #[inline(always)]
    fn add(simd: S, value: S::f32s, taps: S::f32s, sums: S::f32s) -> S::f32s {
        simd.mul_add_e_f32s(value, taps, sums)
    }
}

/// In pairs of integers.
pub struct Integers;

impl<S: Pairs> Products<S> for Integers {
    type Value = i32;
    type Sums = S::i32s;

    #[inline(always)]
    fn vectors(values: &[i32]) -> &[S::i32s] {
        S::as_simd_i32s(values).0
    }

    #[inline(always)]
    fn splat(simd: S, value: i32) -> S::i32s {
        simd.splat_i32s(value)
    }

    #[inline(always)]
    fn add(simd: S, value: S::i32s, taps: S::i32s, sums: S::i32s) -> S::i32s {
        simd.add_pairs(value, taps, sums)
    }
}

/// How products of bytes are summed up, four at a time: see [`Pairs::add_quads`].
pub trait Quads<S: Simd> {
    fn add(simd: S, value: S::i32s, taps: S::i32s, sums: S::i32s) -> S::i32s;
}

/// By what every CPU with pairs has.
pub struct ByPairs;

impl<S: Pairs> Quads<S> for ByPairs {
    #[inline(always)]
    fn add(simd: S, value: S::i32s, taps: S::i32s, sums: S::i32s) -> S::i32s {
        simd.add_quads(value, taps, sums)
    }
}

/// Two integers, the first one in the lower half.
pub fn pair(first: i16, second: i16) -> i32 {
    i32::from(second) << 16 | i32::from(first) & 0xffff
}

/// By what the weights of a sum are multiplied before they are rounded, so that no input up to `most` takes it beyond
/// 31 bits.
pub fn weight_scale(weights: impl Iterator<Item = f32>, most: f32) -> f64 {
    let (mut count, mut sum, mut largest) = (0.0, 0.0, 0.0f64);
    for weight in weights.map(|w| f64::from(w.abs())) {
        count += 1.0;
        sum += weight;
        largest = largest.max(weight);
    }
    // Halves are rounded up: a little less, so that the sum keeps its limit.
    let limit = f64::from(i32::MAX) / f64::from(most) - count;
    let scale = (limit / sum).min(f64::from(i16::MAX) / largest);
    if scale.is_finite() { scale } else { 1.0 }
}
