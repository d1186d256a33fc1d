//! NEON, without and with SDOT. Besides `x86.rs` and `memory.rs`, this is the only file of `nn` with `unsafe`.
#![allow(unsafe_code)]

use std::arch::aarch64::*;
use std::arch::asm;
use std::mem::transmute;

use pulp::aarch64::Neon as Simd128;
use pulp::i32x4;

use super::{DotU8I8, IntSimd, Kernel, Level};

#[derive(Clone, Copy)]
pub struct Neon;

impl Level for Neon {
    type Simd = Simd128;
    type Narrow = PairsIn16;
    type Wide = PairsIn32;
}

#[derive(Clone, Copy)]
pub struct NeonDot;

impl Level for NeonDot {
    type Simd = Simd128;
    type Narrow = Sdot;
    type Wide = Sdot;
}

#[target_feature(enable = "neon")]
fn run_neon<K: Kernel>(kernel: K, simd: Simd128) -> K::Output {
    kernel.run::<Neon>(simd)
}

#[target_feature(enable = "neon,dotprod")]
fn run_neon_dot<K: Kernel>(kernel: K, simd: Simd128) -> K::Output {
    kernel.run::<NeonDot>(simd)
}

pub fn neon<K: Kernel>(kernel: K, simd: Simd128) -> K::Output {
    // SAFETY: `simd` proves that the CPU has NEON.
    unsafe { run_neon(kernel, simd) }
}

pub fn neon_dot<K: Kernel>(kernel: K, simd: Simd128) -> K::Output {
    // SAFETY: `simd` proves that the CPU has NEON, and `Isa::available` returns SDOT only if the CPU has it.
    unsafe { run_neon_dot(kernel, simd) }
}

// SAFETY of all blocks below: every vector has 128 bits, any bit pattern is a valid value, and the token that is needed
// to call these functions proves that the CPU has NEON.

impl IntSimd for Simd128 {
    #[inline(always)]
    fn dot_i16(self, acc: i32x4, a: i32x4, b: i32x4) -> i32x4 {
        unsafe {
            let (a, b): (int16x8_t, int16x8_t) = (transmute(a), transmute(b));
            let low = vmull_s16(vget_low_s16(a), vget_low_s16(b));
            let high = vmull_high_s16(a, b);
            transmute(vaddq_s32(transmute(acc), vpaddq_s32(low, high)))
        }
    }

    #[inline(always)]
    fn i32_to_f32(self, values: i32x4) -> Self::f32s {
        unsafe { transmute(vcvtq_f32_s32(transmute(values))) }
    }

    #[inline(always)]
    fn pack_i16(self, first: Self::f32s, second: Self::f32s) -> i32x4 {
        unsafe {
            let first = vcvtnq_s32_f32(transmute(first));
            let second = vcvtnq_s32_f32(transmute(second));
            transmute(vqmovn_high_s32(vqmovn_s32(first), second))
        }
    }

    #[inline(always)]
    fn store_u8(self, values: Self::f32s, zero_point: i32, out: &mut [u8]) {
        let bytes: [u8; 8] = unsafe {
            let values = vcvtnq_s32_f32(transmute(values));
            let values = vqaddq_s32(values, vdupq_n_s32(zero_point));
            let words = vqmovn_s32(values);
            transmute(vqmovun_s16(vcombine_s16(words, words)))
        };
        out[..4].copy_from_slice(&bytes[..4]);
    }
}

/// Adds pairs of products in 16 bits, exact for weights of at most 7 bits, since 2 × 128 × 64 fits.
pub struct PairsIn16;

impl DotU8I8<Simd128> for PairsIn16 {
    const SIGNED_ACTIVATIONS: bool = true;

    #[inline(always)]
    fn dot(_: Simd128, acc: i32x4, activations: i32x4, weights: i32x4) -> i32x4 {
        unsafe {
            let (a, w): (int8x16_t, int8x16_t) = (transmute(activations), transmute(weights));
            let low = vmull_s8(vget_low_s8(a), vget_low_s8(w));
            let high = vmull_high_s8(a, w);
            transmute(vpadalq_s16(transmute(acc), vpaddq_s16(low, high)))
        }
    }
}

/// Adds products in 32 bits, exact for all weights: 16 bits hold every product of two i8, but not the sum of two
/// (−128)².
pub struct PairsIn32;

impl DotU8I8<Simd128> for PairsIn32 {
    const SIGNED_ACTIVATIONS: bool = true;

    #[inline(always)]
    fn dot(_: Simd128, acc: i32x4, activations: i32x4, weights: i32x4) -> i32x4 {
        unsafe {
            let (a, w): (int8x16_t, int8x16_t) = (transmute(activations), transmute(weights));
            let low = vpaddlq_s16(vmull_s8(vget_low_s8(a), vget_low_s8(w)));
            let high = vpaddlq_s16(vmull_high_s8(a, w));
            transmute(vaddq_s32(transmute(acc), vpaddq_s32(low, high)))
        }
    }
}

/// The `sdot` instruction. Only `NeonDot` names this type.
pub struct Sdot;

impl DotU8I8<Simd128> for Sdot {
    const SIGNED_ACTIVATIONS: bool = true;

    // Assembly is used because `vdotq_s32` is stable only from Rust 1.98 on.
    #[inline(always)]
    fn dot(_: Simd128, acc: i32x4, activations: i32x4, weights: i32x4) -> i32x4 {
        unsafe {
            let mut acc: int32x4_t = transmute(acc);
            let (a, w): (int8x16_t, int8x16_t) = (transmute(activations), transmute(weights));
            // The directive is needed because `asm!` is assembled for the target features of the whole crate.
            asm!(
                ".arch_extension dotprod",
                "sdot {acc:v}.4s, {a:v}.16b, {w:v}.16b",
                acc = inout(vreg) acc,
                a = in(vreg) a,
                w = in(vreg) w,
                options(pure, nomem, nostack, preserves_flags),
            );
            transmute(acc)
        }
    }
}
