//! Vectors, random numbers and noise. Nothing here calls the platform's libm, whose last digits differ between
//! platforms, so that the same seed results in the same pixels everywhere.

use std::f32::consts::{FRAC_PI_2, PI, TAU};

pub type Vec3 = [f32; 3];

pub fn add(a: Vec3, b: Vec3) -> Vec3 {
    [a[0] + b[0], a[1] + b[1], a[2] + b[2]]
}

pub fn subtract(a: Vec3, b: Vec3) -> Vec3 {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}

pub fn scale(a: Vec3, by: f32) -> Vec3 {
    a.map(|v| v * by)
}

pub fn dot(a: Vec3, b: Vec3) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

pub fn cross(a: Vec3, b: Vec3) -> Vec3 {
    [
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    ]
}

/// Scales to length 1; a vector without a direction is returned as it is.
pub fn unit(a: Vec3) -> Vec3 {
    let length = dot(a, a).sqrt();
    if length > 1e-12 {
        scale(a, 1.0 / length)
    } else {
        a
    }
}

/// Linear interpolation of vectors, and of colours, which are vectors too.
pub fn mix(a: Vec3, b: Vec3, t: f32) -> Vec3 {
    add(scale(a, 1.0 - t), scale(b, t))
}

pub fn lerp(a: f32, b: f32, t: f32) -> f32 {
    a + (b - a) * t
}

/// 0 below `from`, 1 above `to`, smooth between; `to` may be the smaller one.
pub fn smoothstep(from: f32, to: f32, x: f32) -> f32 {
    let width = to - from;
    if width == 0.0 {
        return if x < from { 0.0 } else { 1.0 };
    }
    let t = ((x - from) / width).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// A bell curve: 1 at 0, falling to 0 over about `width` on each side.
pub fn bell(x: f32, width: f32) -> f32 {
    let t = x / width;
    let q = 1.0 / (1.0 + t * t);
    q * q
}

/// Points (x, y) of a curve, sorted by x.
pub type Curve = [(f32, f32)];

/// The value of a curve at `x`, smooth between points and constant beyond its ends.
pub fn curve(points: &Curve, x: f32) -> f32 {
    let get = |i: usize| {
        let last = points.len().saturating_sub(1);
        points.get(i.min(last)).copied().unwrap_or_default()
    };
    let after = points.partition_point(|p| p.0 <= x);
    let (a, b) = (get(after.saturating_sub(1)), get(after));
    if b.0 <= a.0 {
        return a.1;
    }
    let (before, beyond) = (get(after.saturating_sub(2)), get(after + 1));
    let slope = |p: (f32, f32), q: (f32, f32)| (q.1 - p.1) / (q.0 - p.0);
    let width = b.0 - a.0;
    let (m0, m1) = (slope(before, b) * width, slope(a, beyond) * width);
    let t = (x - a.0) / width;
    // Cubic Hermite interpolation.
    let (t2, t3) = (t * t, t * t * t);
    a.1 * (2.0 * t3 - 3.0 * t2 + 1.0)
        + m0 * (t3 - 2.0 * t2 + t)
        + b.1 * (3.0 * t2 - 2.0 * t3)
        + m1 * (t3 - t2)
}

/// Sine and cosine to 1e-5, from the Taylor series.
pub fn sin_cos(angle: f32) -> (f32, f32) {
    (sin(angle), sin(angle + FRAC_PI_2))
}

pub fn sin(angle: f32) -> f32 {
    let turned = angle - floor(angle / TAU + 0.5) as f32 * TAU;
    // The angle is mirrored into ±90°, where the series is accurate enough.
    let x = if turned > FRAC_PI_2 {
        PI - turned
    } else if turned < -FRAC_PI_2 {
        -PI - turned
    } else {
        turned
    };
    let q = x * x;
    x * (1.0 - q / 6.0 * (1.0 - q / 20.0 * (1.0 - q / 42.0 * (1.0 - q / 72.0))))
}

/// Pseudo-random numbers from a seed (SplitMix64, Steele, Lea and Flood 2014).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        scramble(self.0)
    }

    /// A number from 0 to below 1.
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 24) as f32
    }

    pub fn range(&mut self, least: f32, most: f32) -> f32 {
        lerp(least, most, self.unit())
    }

    /// A number near `centre`, seldom more than `spread` away: the mean of three uniform ones.
    pub fn about(&mut self, centre: f32, spread: f32) -> f32 {
        let mean = (self.unit() + self.unit() + self.unit()) / 3.0;
        centre + (mean * 2.0 - 1.0) * spread * 1.5
    }

    pub fn chance(&mut self, probability: f32) -> bool {
        self.unit() < probability
    }

    /// An integer from 0 to count − 1; 0 where there is nothing to choose from.
    pub fn below(&mut self, count: usize) -> usize {
        (self.bits() % count.max(1) as u64) as usize
    }

    /// One of `first` and `others` with equal probability.
    pub fn pick<T: Copy>(&mut self, first: T, others: &[T]) -> T {
        let index = self.below(others.len() + 1);
        index
            .checked_sub(1)
            .and_then(|i| others.get(i).copied())
            .unwrap_or(first)
    }
}

fn scramble(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Rounds down without calling libm, as `f32::floor` does on older processors.
pub fn floor(x: f32) -> i32 {
    let towards_zero = x as i32;
    towards_zero.saturating_sub(i32::from(towards_zero as f32 > x))
}

/// A hash of a grid cell as a number −1…1.
pub fn cell(x: i32, y: i32, seed: u64) -> f32 {
    let key = (u64::from(x as u32) << 32) | u64::from(y as u32);
    let bits = scramble(key.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ seed);
    (bits >> 40) as f32 / (1u64 << 23) as f32 - 1.0
}

/// Smooth noise −1…1 that changes over about one unit.
pub fn noise(x: f32, y: f32, seed: u64) -> f32 {
    let (ix, iy) = (floor(x), floor(y));
    let smooth = |t: f32| t * t * (3.0 - 2.0 * t);
    let (tx, ty) = (smooth(x - ix as f32), smooth(y - iy as f32));
    let (jx, jy) = (ix.wrapping_add(1), iy.wrapping_add(1));
    lerp(
        lerp(cell(ix, iy, seed), cell(jx, iy, seed), tx),
        lerp(cell(ix, jy, seed), cell(jx, jy, seed), tx),
        ty,
    )
}

/// Solves `a·x = b` by Gaussian elimination with pivoting; `None` if there is no unique solution.
pub fn solve<const N: usize>(mut a: [[f32; N]; N], mut b: [f32; N]) -> Option<[f32; N]> {
    for column in 0..N {
        let pivot =
            (column..N).max_by(|&i, &j| a[i][column].abs().total_cmp(&a[j][column].abs()))?;
        a.swap(column, pivot);
        b.swap(column, pivot);
        let lead = a[column];
        let lead_b = b[column];
        if lead[column].abs() < 1e-12 {
            return None;
        }
        for row in column + 1..N {
            let factor = a[row][column] / lead[column];
            for (value, of_lead) in a[row].iter_mut().zip(lead) {
                *value -= factor * of_lead;
            }
            b[row] -= factor * lead_b;
        }
    }
    let mut x = [0.0; N];
    for row in (0..N).rev() {
        let known: f32 = (row + 1..N).map(|i| a[row][i] * x[i]).sum();
        x[row] = (b[row] - known) / a[row][row];
    }
    x.iter().all(|v| v.is_finite()).then_some(x)
}
