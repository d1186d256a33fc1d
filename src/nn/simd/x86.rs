//! AVX2, AVX-VNNI, AVX-512 and AVX-512 VNNI. Besides `aarch64.rs` and `memory.rs`, this is the only file of `nn` with
//! `unsafe`.
#![allow(unsafe_code)]

use std::arch::x86_64 as intrinsics;

use pulp::x86::{V3, V4};
use pulp::{Simd, cast};

use super::{DotU8I8, IntSimd, Kernel, Level};

/// Defines an instruction set: its [`Level`], and the function that is compiled for its features.
macro_rules! level {
    ($level:ident, $dispatch:ident, $feature_run:ident, $simd:ty, $narrow:ty, $wide:ty, $features:literal) => {
        #[derive(Clone, Copy)]
        pub struct $level;

        impl Level for $level {
            type Simd = $simd;
            type Narrow = $narrow;
            type Wide = $wide;
        }

        #[target_feature(enable = $features)]
        fn $feature_run<K: Kernel>(kernel: K, simd: $simd) -> K::Output {
            kernel.run::<$level>(simd)
        }

        pub fn $dispatch<K: Kernel>(kernel: K, simd: $simd) -> K::Output {
            // SAFETY: `simd` proves that the CPU has its features, and `Isa::available` returns VNNI only if the CPU
            // has it.
            unsafe { $feature_run(kernel, simd) }
        }
    };
}

level!(
    Avx2,
    avx2,
    run_avx2,
    V3,
    Maddubs,
    Widened,
    "avx2,fma,bmi1,bmi2,lzcnt,popcnt"
);
level!(
    AvxVnni,
    avx_vnni,
    run_avx_vnni,
    V3,
    Vnni,
    Vnni,
    "avx2,fma,bmi1,bmi2,lzcnt,popcnt,avxvnni"
);
level!(
    Avx512,
    avx512,
    run_avx512,
    V4,
    Maddubs,
    Widened,
    "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,bmi1,bmi2,lzcnt,popcnt"
);
level!(
    Avx512Vnni,
    avx512_vnni,
    run_avx512_vnni,
    V4,
    Vnni,
    Vnni,
    "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vnni,bmi1,bmi2,lzcnt,popcnt"
);

/// Reads AMX-TILE and AMX-INT8 from CPUID leaf 7, because the standard library's detection of AMX is not stable.
pub fn has_amx() -> bool {
    const AMX: u32 = 1 << 24 | 1 << 25;
    // SAFETY: every x86-64 CPU has the instruction; leaf 0 reports the highest leaf.
    #[allow(unused_unsafe)]
    unsafe {
        intrinsics::__cpuid(0).eax >= 7 && intrinsics::__cpuid_count(7, 0).edx & AMX == AMX
    }
}

impl IntSimd for V3 {
    // With VNNI the compiler fuses the product and the sum into one instruction.
    #[inline(always)]
    fn dot_i16(self, acc: Self::i32s, a: Self::i32s, b: Self::i32s) -> Self::i32s {
        let products = self.avx2._mm256_madd_epi16(cast(a), cast(b));
        cast(self.avx2._mm256_add_epi32(cast(acc), products))
    }

    #[inline(always)]
    fn i32_to_f32(self, values: Self::i32s) -> Self::f32s {
        cast(self.avx._mm256_cvtepi32_ps(cast(values)))
    }

    #[inline(always)]
    fn pack_i16(self, first: Self::f32s, second: Self::f32s) -> Self::i32s {
        let (first, second) = (
            self.avx._mm256_cvtps_epi32(cast(first)),
            self.avx._mm256_cvtps_epi32(cast(second)),
        );
        // The instruction interleaves quarters of both vectors, which the permutation undoes.
        let packed = self.avx2._mm256_packs_epi32(first, second);
        cast(self.avx2._mm256_permute4x64_epi64::<0b11_01_10_00>(packed))
    }

    #[inline(always)]
    fn store_u8(self, values: Self::f32s, zero_point: i32, out: &mut [u8]) {
        let values = self.avx._mm256_cvtps_epi32(cast(values));
        let values = self
            .avx2
            ._mm256_add_epi32(values, self.avx._mm256_set1_epi32(zero_point));
        let words = self.avx2._mm256_packs_epi32(values, values);
        let bytes = self.avx2._mm256_packus_epi16(words, words);
        // Each half of the vector holds four of the bytes.
        let [low, _, _, _, high, ..]: [u32; 8] = cast(bytes);
        out[..4].copy_from_slice(&low.to_le_bytes());
        out[4..8].copy_from_slice(&high.to_le_bytes());
    }
}

impl IntSimd for V4 {
    #[inline(always)]
    fn dot_i16(self, acc: Self::i32s, a: Self::i32s, b: Self::i32s) -> Self::i32s {
        let products = self.avx512bw._mm512_madd_epi16(cast(a), cast(b));
        cast(self.avx512f._mm512_add_epi32(cast(acc), products))
    }

    #[inline(always)]
    fn i32_to_f32(self, values: Self::i32s) -> Self::f32s {
        cast(self.avx512f._mm512_cvtepi32_ps(cast(values)))
    }

    #[inline(always)]
    fn pack_i16(self, first: Self::f32s, second: Self::f32s) -> Self::i32s {
        let (first, second) = (
            self.avx512f._mm512_cvtps_epi32(cast(first)),
            self.avx512f._mm512_cvtps_epi32(cast(second)),
        );
        // The instruction interleaves eighths of both vectors, which the permutation undoes.
        let packed = self.avx512bw._mm512_packs_epi32(first, second);
        let order = cast([0u64, 2, 4, 6, 1, 3, 5, 7]);
        cast(self.avx512f._mm512_permutexvar_epi64(order, packed))
    }

    #[inline(always)]
    fn store_u8(self, values: Self::f32s, zero_point: i32, out: &mut [u8]) {
        let values = self.avx512f._mm512_cvtps_epi32(cast(values));
        let values = self
            .avx512f
            ._mm512_add_epi32(values, self.avx512f._mm512_set1_epi32(zero_point));
        let none = self.avx512f._mm512_setzero_si512();
        let values = self.avx512f._mm512_max_epi32(values, none);
        let bytes: [u8; 16] = cast(self.avx512f._mm512_cvtusepi32_epi8(values));
        out[..16].copy_from_slice(&bytes);
    }
}

/// Operations on bytes in 16-bit lanes, for CPUs without VNNI.
trait Bytes: IntSimd {
    /// Saturated sums of two adjacent products of u8 and i8.
    fn maddubs(self, a: Self::i32s, b: Self::i32s) -> Self::i32s;
    /// Upper byte of each 16-bit lane, zero-extended.
    fn odd_u8(self, bytes: Self::i32s) -> Self::i32s;
    /// Upper byte of each 16-bit lane, sign-extended.
    fn odd_i8(self, bytes: Self::i32s) -> Self::i32s;
    /// Lower byte of each 16-bit lane, sign-extended.
    fn even_i8(self, bytes: Self::i32s) -> Self::i32s;
}

macro_rules! bytes {
    ($simd:ty, $field:ident, $maddubs:ident, $srli:ident, $srai:ident, $slli:ident) => {
        impl Bytes for $simd {
            #[inline(always)]
            fn maddubs(self, a: Self::i32s, b: Self::i32s) -> Self::i32s {
                cast(self.$field.$maddubs(cast(a), cast(b)))
            }

            #[inline(always)]
            fn odd_u8(self, bytes: Self::i32s) -> Self::i32s {
                cast(self.$field.$srli::<8>(cast(bytes)))
            }

            #[inline(always)]
            fn odd_i8(self, bytes: Self::i32s) -> Self::i32s {
                cast(self.$field.$srai::<8>(cast(bytes)))
            }

            #[inline(always)]
            fn even_i8(self, bytes: Self::i32s) -> Self::i32s {
                self.odd_i8(cast(self.$field.$slli::<8>(cast(bytes))))
            }
        }
    };
}

bytes!(
    V3,
    avx2,
    _mm256_maddubs_epi16,
    _mm256_srli_epi16,
    _mm256_srai_epi16,
    _mm256_slli_epi16
);
bytes!(
    V4,
    avx512bw,
    _mm512_maddubs_epi16,
    _mm512_srli_epi16,
    _mm512_srai_epi16,
    _mm512_slli_epi16
);

/// `vpmaddubsw` adds two products in 16 bits, which is exact for weights of at most 7 bits and saturates with larger
/// ones.
pub struct Maddubs;

impl<S: Bytes> DotU8I8<S> for Maddubs {
    #[inline(always)]
    fn dot(simd: S, acc: I32s<S>, activations: I32s<S>, weights: I32s<S>) -> I32s<S> {
        let ones = simd.splat_i32s(0x0001_0001);
        simd.dot_i16(acc, simd.maddubs(activations, weights), ones)
    }
}

/// Exact for all weights, at less than half the rate: bytes at even and odd positions are widened to 16 bits, as in ruy
/// and XNNPACK.
pub struct Widened;

impl<S: Bytes> DotU8I8<S> for Widened {
    #[inline(always)]
    fn dot(simd: S, acc: I32s<S>, activations: I32s<S>, weights: I32s<S>) -> I32s<S> {
        let even = simd.and_i32s(activations, simd.splat_i32s(0x00ff_00ff));
        let acc = simd.dot_i16(acc, even, simd.even_i8(weights));
        simd.dot_i16(acc, simd.odd_u8(activations), simd.odd_i8(weights))
    }
}

/// The `vpdpbusd` instruction of VNNI, which the compiler does not generate from other code. Only levels with this
/// feature name this type.
pub struct Vnni;

type I32s<S> = <S as Simd>::i32s;

impl DotU8I8<V3> for Vnni {
    #[inline(always)]
    fn dot(_: V3, acc: I32s<V3>, activations: I32s<V3>, weights: I32s<V3>) -> I32s<V3> {
        // SAFETY: only `AvxVnni` names this type, and no kernel runs at that level on a CPU without AVX-VNNI.
        cast(unsafe {
            intrinsics::_mm256_dpbusd_avx_epi32(cast(acc), cast(activations), cast(weights))
        })
    }
}

impl DotU8I8<V4> for Vnni {
    #[inline(always)]
    fn dot(_: V4, acc: I32s<V4>, activations: I32s<V4>, weights: I32s<V4>) -> I32s<V4> {
        // SAFETY: only `Avx512Vnni` names this type, and no kernel runs at that level on a CPU without AVX-512 VNNI.
        cast(unsafe {
            intrinsics::_mm512_dpbusd_epi32(cast(acc), cast(activations), cast(weights))
        })
    }
}
