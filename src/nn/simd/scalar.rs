//! Scalar reference implementation of every primitive. It runs on CPUs without a supported SIMD instruction set, and
//! all others are tested against it.

use pulp::Scalar;

use super::{DotU8I8, IntSimd, Level, pair};

#[derive(Clone, Copy)]
pub struct ScalarLevel;

impl Level for ScalarLevel {
    type Simd = Scalar;
    type Narrow = Plain;
    type Wide = Plain;
}

impl IntSimd for Scalar {
    #[inline(always)]
    fn dot_i16(self, acc: i32, a: i32, b: i32) -> i32 {
        let halves = |pair: i32| (i32::from(pair as i16), pair >> 16);
        let ((a, c), (b, d)) = (halves(a), halves(b));
        acc.wrapping_add(a * b).wrapping_add((c).wrapping_mul(d))
    }

    #[inline(always)]
    fn i32_to_f32(self, value: i32) -> f32 {
        value as f32
    }

    #[inline(always)]
    fn pack_i16(self, first: f32, second: f32) -> i32 {
        let [a, b] = [first, second].map(|x| x.round_ties_even() as i16);
        pair(a, b)
    }

    #[inline(always)]
    fn store_u8(self, value: f32, zero_point: i32, out: &mut [u8]) {
        let value = (value.round_ties_even() as i32).saturating_add(zero_point);
        out[0] = value.clamp(0, 255) as u8;
    }
}

pub struct Plain;

impl DotU8I8<Scalar> for Plain {
    #[inline(always)]
    fn dot(_: Scalar, acc: i32, activations: i32, weights: i32) -> i32 {
        let products = activations
            .to_le_bytes()
            .into_iter()
            .zip(weights.to_le_bytes());
        products.fold(acc, |acc, (a, w)| {
            acc.wrapping_add(i32::from(a) * i32::from(w as i8))
        })
    }
}
