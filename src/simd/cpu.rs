//! Which instructions the CPU at hand has for what the networks do. Beside `memory.rs` the only file with `unsafe`.
#![allow(unsafe_code)]

use pulp::{Arch, Simd, WithSimd};

use super::pairs::{Pairs, Quads};

/// What can be done with vectors of any length.
pub trait Task {
    /// Without pairs of integers.
    fn by_numbers<S: Simd>(self, simd: S);
    fn by_pairs<S: Pairs>(self, simd: S);
}

/// What can be done with bytes four at a time.
pub trait QuadTask {
    fn by_quads<S: Pairs, Q: Quads<S>>(self, simd: S);
}

struct ByNumbers<T>(T);

impl<T: Task> WithSimd for ByNumbers<T> {
    type Output = ();

    // All that is called from here must be inlined to be compiled for the vectors of `S`.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.0.by_numbers(simd);
    }
}

/// Instructions, as far as the networks tell them apart.
#[derive(Debug, Clone, Copy)]
pub enum Cpu {
    /// None for pairs of integers.
    Numbers(Arch),
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    V3(pulp::x86::V3),
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    V3Vnni(pulp::x86::V3),
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    V4(pulp::x86::V4),
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    V4Vnni(pulp::x86::V4),
}

impl Cpu {
    /// The best that there is.
    pub fn new() -> Self {
        match Arch::new() {
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Arch::V4(simd) if is_x86_feature_detected!("avx512vnni") => Self::V4Vnni(simd),
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Arch::V4(simd) => Self::V4(simd),
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Arch::V3(simd) if is_x86_feature_detected!("avxvnni") => Self::V3Vnni(simd),
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Arch::V3(simd) => Self::V3(simd),
            arch => Self::Numbers(arch),
        }
    }

    /// All that have pairs and run here, and the numbers of their vectors.
    #[cfg(all(test, any(target_arch = "x86", target_arch = "x86_64")))]
    pub fn all() -> Vec<(Self, usize)> {
        use pulp::x86::{V3, V4};
        let mut all = Vec::new();
        if let Some(simd) = V3::try_new() {
            all.push((Self::V3(simd), 8));
            if is_x86_feature_detected!("avxvnni") {
                all.push((Self::V3Vnni(simd), 8));
            }
        }
        if let Some(simd) = V4::try_new() {
            all.push((Self::V4(simd), 16));
            if is_x86_feature_detected!("avx512vnni") {
                all.push((Self::V4Vnni(simd), 16));
            }
        }
        all
    }

    #[cfg(all(test, not(any(target_arch = "x86", target_arch = "x86_64"))))]
    pub fn all() -> Vec<(Self, usize)> {
        Vec::new()
    }

    pub fn has_pairs(self) -> bool {
        !matches!(self, Self::Numbers(_))
    }

    /// Numbers in a vector.
    pub fn lanes() -> usize {
        Arch::new().dispatch(Lanes)
    }

    /// Without pairs, with the same vectors.
    #[cfg(test)]
    pub fn run_by_numbers(task: impl Task) {
        Arch::new().dispatch(ByNumbers(task));
    }

    pub fn run(self, task: impl Task) {
        match self {
            Self::Numbers(arch) => arch.dispatch(ByNumbers(task)),
            // SAFETY, of all four: the token says that the CPU has the features of its level, and no value with VNNI
            // is made without asking for that.
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Self::V3(simd) => unsafe { x86::v3(task, simd) },
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Self::V3Vnni(simd) => unsafe { x86::v3_vnni(task, simd) },
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Self::V4(simd) => unsafe { x86::v4(task, simd) },
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Self::V4Vnni(simd) => unsafe { x86::v4_vnni(task, simd) },
        }
    }
}

impl Cpu {
    /// Does nothing without pairs.
    pub fn run_quads(self, task: impl QuadTask) {
        match self {
            Self::Numbers(_) => {}
            // SAFETY: as in `run`.
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Self::V3(simd) => unsafe { x86::quads_v3(task, simd) },
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Self::V3Vnni(simd) => unsafe { x86::quads_v3_vnni(task, simd) },
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Self::V4(simd) => unsafe { x86::quads_v4(task, simd) },
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Self::V4Vnni(simd) => unsafe { x86::quads_v4_vnni(task, simd) },
        }
    }
}

struct Lanes;

impl WithSimd for Lanes {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        S::F32_LANES
    }
}

/// The same code compiled for each: with VNNI the compiler makes one instruction of product and sum.
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
mod x86 {
    #[cfg(target_arch = "x86")]
    use std::arch::x86 as intrinsics;
    #[cfg(target_arch = "x86_64")]
    use std::arch::x86_64 as intrinsics;

    use pulp::x86::{V3, V4};
    use pulp::{Simd, cast};

    use super::{QuadTask, Task};
    use crate::simd::pairs::{ByPairs, Quads};

    #[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt")]
    pub fn v3(task: impl Task, simd: V3) {
        task.by_pairs(simd);
    }

    #[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt,avxvnni")]
    pub fn v3_vnni(task: impl Task, simd: V3) {
        task.by_pairs(simd);
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,bmi1,bmi2,lzcnt,popcnt")]
    pub fn v4(task: impl Task, simd: V4) {
        task.by_pairs(simd);
    }

    #[target_feature(
        enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vnni,bmi1,bmi2,lzcnt,popcnt"
    )]
    pub fn v4_vnni(task: impl Task, simd: V4) {
        task.by_pairs(simd);
    }

    /// With the one instruction of VNNI, which no other code becomes. Used in `quads_v3_vnni` and `quads_v4_vnni` alone.
    struct Vnni;

    type Sums<S> = <S as Simd>::i32s;

    impl Quads<V3> for Vnni {
        #[inline(always)]
        fn add(_: V3, value: Sums<V3>, taps: Sums<V3>, sums: Sums<V3>) -> Sums<V3> {
            // SAFETY: who names this type has asked for the feature.
            cast(unsafe {
                intrinsics::_mm256_dpbusd_avx_epi32(cast(sums), cast(value), cast(taps))
            })
        }
    }

    impl Quads<V4> for Vnni {
        #[inline(always)]
        fn add(_: V4, value: Sums<V4>, taps: Sums<V4>, sums: Sums<V4>) -> Sums<V4> {
            // SAFETY: as above.
            cast(unsafe { intrinsics::_mm512_dpbusd_epi32(cast(sums), cast(value), cast(taps)) })
        }
    }

    #[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt")]
    pub fn quads_v3(task: impl QuadTask, simd: V3) {
        task.by_quads::<V3, ByPairs>(simd);
    }

    #[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt,avxvnni")]
    pub fn quads_v3_vnni(task: impl QuadTask, simd: V3) {
        task.by_quads::<V3, Vnni>(simd);
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,bmi1,bmi2,lzcnt,popcnt")]
    pub fn quads_v4(task: impl QuadTask, simd: V4) {
        task.by_quads::<V4, ByPairs>(simd);
    }

    #[target_feature(
        enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vnni,bmi1,bmi2,lzcnt,popcnt"
    )]
    pub fn quads_v4_vnni(task: impl QuadTask, simd: V4) {
        task.by_quads::<V4, Vnni>(simd);
    }
}
