//! The instruction sets that the kernels are compiled for, and the primitives that each provides.
//!
//! A kernel is written once, generic over [`Level`]; [`Isa::dispatch`] calls the copy that was compiled for the
//! instruction set at hand. Everything that a kernel calls must be `#[inline(always)]`, or it is compiled for the
//! baseline of the target instead.

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::fmt;

use pulp::{Scalar, Simd};

pub use scalar::ScalarLevel;

/// The environment variable that caps the instruction set of the kernels, and of nothing else.
pub const CPU_VARIABLE: &str = "MFR_CPU";

/// Packs two i16, the first one in the lower half.
pub fn pair(first: i16, second: i16) -> i32 {
    i32::from(second) << 16 | i32::from(first) & 0xffff
}

/// Vectors with integer dot products.
pub trait IntSimd: Simd {
    /// `acc` + the dot products of two i16 in each 32-bit lane.
    fn dot_i16(self, acc: Self::i32s, a: Self::i32s, b: Self::i32s) -> Self::i32s;
    fn i32_to_f32(self, values: Self::i32s) -> Self::f32s;
    /// Rounds two vectors, ties to even, and packs adjacent elements: lane `i` holds the elements `2i` (low half) and
    /// `2i + 1` of the concatenated vectors.
    fn pack_i16(self, first: Self::f32s, second: Self::f32s) -> Self::i32s;
    /// Rounds, ties to even, adds `zero_point`, clamps to 0…255 and writes one byte per lane.
    fn store_u8(self, values: Self::f32s, zero_point: i32, out: &mut [u8]);
}

/// An implementation of the dot product of four u8 and four i8, added to each 32-bit lane.
pub trait DotU8I8<S: Simd> {
    /// Whether activations are converted to i8 by subtracting 128; the packer then adds 128 × the sum of the weights to
    /// the bias.
    const SIGNED_ACTIVATIONS: bool = false;

    fn dot(simd: S, acc: S::i32s, activations: S::i32s, weights: S::i32s) -> S::i32s;

    /// Broadcasts four activations to every lane.
    #[inline(always)]
    fn broadcast(simd: S, activations: i32) -> S::i32s {
        const SIGN_BITS: i32 = 0x8080_8080u32 as i32;
        simd.splat_i32s(if Self::SIGNED_ACTIVATIONS {
            activations ^ SIGN_BITS
        } else {
            activations
        })
    }
}

/// An instruction set as a type parameter of kernels.
pub trait Level: Copy + 'static {
    type Simd: IntSimd;
    /// Dot product for weights of at most 7 bits, −64…64.
    type Narrow: DotU8I8<Self::Simd>;
    /// Dot product for weights of 8 bits.
    type Wide: DotU8I8<Self::Simd>;
}

/// Code that is compiled for every instruction set.
pub trait Kernel {
    type Output;
    fn run<L: Level>(self, simd: L::Simd) -> Self::Output;
}

/// An instruction set that this CPU has.
#[derive(Clone, Copy)]
pub enum Isa {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2(pulp::x86::V3),
    #[cfg(target_arch = "x86_64")]
    AvxVnni(pulp::x86::V3),
    #[cfg(target_arch = "x86_64")]
    Avx512(pulp::x86::V4),
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni(pulp::x86::V4),
    #[cfg(target_arch = "aarch64")]
    Neon(pulp::aarch64::Neon),
    #[cfg(target_arch = "aarch64")]
    NeonDot(pulp::aarch64::Neon),
}

impl fmt::Debug for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl PartialEq for Isa {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Isa {
    /// Values that [`CPU_VARIABLE`] accepts on this architecture, from the least to the most capable instruction set.
    #[cfg(target_arch = "x86_64")]
    pub const NAMES: &[&str] = &["scalar", "avx2", "avx-vnni", "avx512", "avx512-vnni"];
    #[cfg(target_arch = "aarch64")]
    pub const NAMES: &[&str] = &["scalar", "neon", "neon-dotprod"];
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    pub const NAMES: &[&str] = &["scalar"];

    /// The instruction sets of this CPU, from the least to the most capable.
    pub fn available() -> Vec<Self> {
        let mut all = vec![Self::Scalar];
        #[cfg(target_arch = "x86_64")]
        {
            if let Some(simd) = pulp::x86::V3::try_new() {
                all.push(Self::Avx2(simd));
                if is_x86_feature_detected!("avxvnni") {
                    all.push(Self::AvxVnni(simd));
                }
            }
            if let Some(simd) = pulp::x86::V4::try_new() {
                all.push(Self::Avx512(simd));
                if is_x86_feature_detected!("avx512vnni") {
                    all.push(Self::Avx512Vnni(simd));
                }
            }
        }
        #[cfg(target_arch = "aarch64")]
        if let Some(simd) = pulp::aarch64::Neon::try_new() {
            all.push(Self::Neon(simd));
            if std::arch::is_aarch64_feature_detected!("dotprod") {
                all.push(Self::NeonDot(simd));
            }
        }
        all
    }

    /// The most capable instruction set of this CPU.
    pub fn best() -> Self {
        Self::available().pop().unwrap_or(Self::Scalar)
    }

    /// The most capable instruction set up to `cap`; `None` if there is no instruction set of this name.
    pub fn capped(cap: &str) -> Option<Self> {
        let rank = |name: &str| Self::NAMES.iter().position(|n| *n == name);
        let cap = rank(cap)?;
        let mut all = Self::available();
        all.retain(|isa| rank(isa.name()).is_some_and(|rank| rank <= cap));
        all.pop()
    }

    /// Name as accepted by [`CPU_VARIABLE`].
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni(_) => "avx-vnni",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => "avx512",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni(_) => "avx512-vnni",
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => "neon",
            #[cfg(target_arch = "aarch64")]
            Self::NeonDot(_) => "neon-dotprod",
        }
    }

    /// Whether i16 dot products take fewer instructions than float32, because a vector holds twice as many products.
    pub fn has_fast_i16(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return !matches!(self, Self::Scalar);
        #[cfg(not(target_arch = "x86_64"))]
        false
    }

    /// Number of float32 lanes in a vector.
    pub fn lanes(self) -> usize {
        struct Lanes;
        impl Kernel for Lanes {
            type Output = usize;
            #[inline(always)]
            fn run<L: Level>(self, _: L::Simd) -> usize {
                <L::Simd as Simd>::F32_LANES
            }
        }
        self.dispatch(Lanes)
    }

    /// See [`DotU8I8::SIGNED_ACTIVATIONS`].
    pub fn signed_activations(self) -> bool {
        struct Signed;
        impl Kernel for Signed {
            type Output = bool;
            #[inline(always)]
            fn run<L: Level>(self, _: L::Simd) -> bool {
                L::Wide::SIGNED_ACTIVATIONS
            }
        }
        self.dispatch(Signed)
    }

    pub fn dispatch<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            Self::Scalar => kernel.run::<ScalarLevel>(Scalar::new()),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(simd) => x86::avx2(kernel, simd),
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni(simd) => x86::avx_vnni(kernel, simd),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(simd) => x86::avx512(kernel, simd),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni(simd) => x86::avx512_vnni(kernel, simd),
            #[cfg(target_arch = "aarch64")]
            Self::Neon(simd) => aarch64::neon(kernel, simd),
            #[cfg(target_arch = "aarch64")]
            Self::NeonDot(simd) => aarch64::neon_dot(kernel, simd),
        }
    }
}

/// Whether the CPU has AMX-INT8.
pub fn has_amx() -> bool {
    #[cfg(target_arch = "x86_64")]
    return x86::has_amx();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Arithmetic of a layer with float32 inputs, in vectors of output channels: float32, or i16 pairs.
pub trait Products<S: Simd> {
    /// One input channel, or a pair of them.
    type Value: Copy + Default;
    type Acc: Copy;

    fn vectors(values: &[Self::Value]) -> &[Self::Acc];
    fn splat(simd: S, value: Self::Value) -> Self::Acc;
    fn mul_add(simd: S, value: Self::Acc, weights: Self::Acc, acc: Self::Acc) -> Self::Acc;

    #[inline(always)]
    fn zero(simd: S) -> Self::Acc {
        Self::splat(simd, Self::Value::default())
    }
}

/// Float32 arithmetic.
pub struct F32;

impl<S: Simd> Products<S> for F32 {
    type Value = f32;
    type Acc = S::f32s;

    #[inline(always)]
    fn vectors(values: &[f32]) -> &[S::f32s] {
        S::as_simd_f32s(values).0
    }

    #[inline(always)]
    fn splat(simd: S, value: f32) -> S::f32s {
        simd.splat_f32s(value)
    }

    #[inline(always)]
    fn mul_add(simd: S, value: S::f32s, weights: S::f32s, acc: S::f32s) -> S::f32s {
        simd.mul_add_e_f32s(value, weights, acc)
    }
}

/// Arithmetic on i16 pairs, accumulated exactly in i32.
pub struct I16;

impl<S: IntSimd> Products<S> for I16 {
    type Value = i32;
    type Acc = S::i32s;

    #[inline(always)]
    fn vectors(values: &[i32]) -> &[S::i32s] {
        S::as_simd_i32s(values).0
    }

    #[inline(always)]
    fn splat(simd: S, value: i32) -> S::i32s {
        simd.splat_i32s(value)
    }

    #[inline(always)]
    fn mul_add(simd: S, value: S::i32s, weights: S::i32s, acc: S::i32s) -> S::i32s {
        simd.dot_i16(acc, value, weights)
    }
}

#[cfg(test)]
mod tests {
    use pulp::bytemuck::{cast_slice, cast_slice_mut};

    use super::*;

    /// Applies each primitive to whole vectors.
    struct All<'a> {
        acc: &'a [i32],
        a: &'a [i32],
        b: &'a [i32],
        floats: &'a [f32],
        out: &'a mut Vec<Vec<i32>>,
    }

    impl Kernel for All<'_> {
        type Output = ();

        #[inline(always)]
        fn run<L: Level>(self, simd: L::Simd) {
            let (acc, a, b) = (
                L::Simd::as_simd_i32s(self.acc).0,
                L::Simd::as_simd_i32s(self.a).0,
                L::Simd::as_simd_i32s(self.b).0,
            );
            let narrow: Vec<i32> = self.b.iter().map(|b| b & 0x3f3f_3f3f).collect();
            let narrow = L::Simd::as_simd_i32s(&narrow).0;
            let floats = L::Simd::as_simd_f32s(self.floats).0;
            let lanes = <L::Simd as Simd>::F32_LANES;
            let mut out = [(); 5].map(|()| vec![0; self.acc.len()]);
            {
                let [dot, wide, small, float, _] = &mut out;
                let dot = L::Simd::as_mut_simd_i32s(dot).0;
                let wide = L::Simd::as_mut_simd_i32s(wide).0;
                let small = L::Simd::as_mut_simd_i32s(small).0;
                let float: &mut [f32] = cast_slice_mut(float);
                let float = L::Simd::as_mut_simd_f32s(float).0;
                for i in 0..acc.len() {
                    dot[i] = simd.dot_i16(acc[i], a[i], b[i]);
                    wide[i] = L::Wide::dot(simd, acc[i], a[i], b[i]);
                    small[i] = L::Narrow::dot(simd, acc[i], a[i], narrow[i]);
                    float[i] = simd.i32_to_f32(acc[i]);
                }
            }
            out[4].clear();
            for zero_point in [0, 100, 255] {
                let mut bytes = vec![0; self.floats.len()];
                for (floats, bytes) in floats.iter().zip(bytes.chunks_exact_mut(lanes)) {
                    simd.store_u8(*floats, zero_point, bytes);
                }
                out[4].extend_from_slice(cast_slice::<u8, i32>(&bytes));
            }
            let mut pairs = vec![0; self.floats.len() / 2];
            let packed = L::Simd::as_mut_simd_i32s(&mut pairs).0;
            for (two, packed) in floats.chunks_exact(2).zip(packed) {
                *packed = simd.pack_i16(two[0], two[1]);
            }
            *self.out = out.into_iter().chain([pairs]).collect();
        }
    }

    #[test]
    fn every_primitive_of_every_instruction_set_does_what_the_scalar_one_does() {
        let extremes = [0, -1, 0x7f80_ff00, -0x7f01_0080, i32::MIN, 0x0101_0101];
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state ^ state >> 13) as i32
        };
        let mut numbers = |count: usize| -> Vec<i32> {
            let random = std::iter::repeat_with(&mut next).take(count - extremes.len() * 6);
            let extremes = (0..36).map(|i| extremes[i % 6].rotate_left(8 * (i as u32 / 6)));
            extremes.chain(random).collect()
        };
        let (a, b) = (numbers(256), numbers(256));
        // The values are small enough that no sum overflows 32 bits, as in the networks.
        let acc: Vec<i32> = numbers(256).iter().map(|n| n >> 8).collect();
        let a: Vec<i32> = a.iter().map(|n| n & 0x7fff_ffff).collect();
        let floats: Vec<f32> = (0..256)
            .map(|i| match i {
                0..64 => i as f32 * 0.5 - 16.0,
                64..128 => (i as f32 - 96.0) * 1000.25,
                _ => (acc[i] >> 16) as f32 * 0.37,
            })
            .map(|x| x.clamp(-32_000.0, 32_000.0))
            .collect();
        let run = |isa: Isa, signed: bool| {
            let flip = if signed { 0x8080_8080u32 as i32 } else { 0 };
            let a: Vec<i32> = a.iter().map(|n| n ^ flip).collect();
            let mut out = Vec::new();
            isa.dispatch(All {
                acc: &acc,
                a: &a,
                b: &b,
                floats: &floats,
                out: &mut out,
            });
            out
        };
        for isa in Isa::available() {
            let (found, expected) = (run(isa, false), run(Isa::Scalar, false));
            for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
                // Signed activations have other results, which are compared below.
                if !(isa.signed_activations() && (i == 1 || i == 2)) {
                    assert_eq!(found, expected, "{isa:?} primitive {i}");
                }
            }
            if isa.signed_activations() {
                let signed = run(isa, true);
                for i in 0..256 {
                    let sums = |b: i32| {
                        b.to_le_bytes()
                            .iter()
                            .map(|&b| i32::from(b as i8))
                            .sum::<i32>()
                    };
                    assert_eq!(signed[1][i] + 128 * sums(b[i]), expected[1][i], "{isa:?}");
                    let narrow = b[i] & 0x3f3f_3f3f;
                    assert_eq!(signed[2][i] + 128 * sums(narrow), expected[2][i], "{isa:?}");
                }
            }
        }
    }

    /// Dot products of all combinations of two of the activations with two of the weights, four of them in each lane.
    struct Extremes<'a> {
        activations: &'a [u8],
        weights: &'a [i8],
        is_narrow: bool,
    }

    impl Kernel for Extremes<'_> {
        type Output = Vec<i32>;

        #[inline(always)]
        fn run<L: Level>(self, simd: L::Simd) -> Vec<i32> {
            let mut sums = Vec::new();
            for &a in self.activations {
                for &b in self.activations {
                    let four = i32::from_le_bytes([a, b, b, a]);
                    for &v in self.weights {
                        for &w in self.weights {
                            let weights = [v, w, w, v].map(|w| w as u8);
                            let weights = simd.splat_i32s(i32::from_le_bytes(weights));
                            let zero = simd.splat_i32s(0);
                            let sum = if self.is_narrow {
                                L::Narrow::dot(
                                    simd,
                                    zero,
                                    L::Narrow::broadcast(simd, four),
                                    weights,
                                )
                            } else {
                                L::Wide::dot(simd, zero, L::Wide::broadcast(simd, four), weights)
                            };
                            let lanes: &[i32] = cast_slice(std::slice::from_ref(&sum));
                            assert!(lanes.iter().all(|&lane| lane == lanes[0]));
                            // Compensates the subtraction of 128 from signed activations.
                            let offset = if L::Wide::SIGNED_ACTIVATIONS { 128 } else { 0 };
                            sums.push(lanes[0] + 2 * offset * (i32::from(v) + i32::from(w)));
                        }
                    }
                }
            }
            sums
        }
    }

    fn assert_that_extremes_are_exact(weights: &[i8], is_narrow: bool) {
        let activations = &[0, 1, 127, 128, 129, 254, 255];
        let extremes = || Extremes {
            activations,
            weights,
            is_narrow,
        };
        let expected = Isa::Scalar.dispatch(extremes());
        // The last result has four products of the last activation and weight.
        let last = i32::from(weights[weights.len() - 1]);
        assert_eq!(expected.last(), Some(&(4 * 255 * last)));
        for isa in Isa::available() {
            assert_eq!(isa.dispatch(extremes()), expected, "{isa:?}");
        }
    }

    #[test]
    fn sums_of_the_extremes_of_narrow_weights_are_exact() {
        assert_that_extremes_are_exact(&[-64, -63, -1, 0, 1, 63, 64], true);
    }

    #[test]
    fn sums_of_the_extremes_of_all_weights_are_exact() {
        assert_that_extremes_are_exact(&[-128, -127, -1, 0, 1, 126, 127], false);
    }

    #[test]
    fn a_cap_takes_the_best_instruction_set_that_is_not_beyond_it() {
        assert_eq!(Isa::capped("scalar"), Some(Isa::Scalar));
        assert_eq!(Isa::capped("mmx"), None);
        let best = Isa::best();
        assert_eq!(Isa::capped(best.name()), Some(best));
        assert!(Isa::NAMES.iter().all(|name| Isa::capped(name).is_some()));
    }
}
