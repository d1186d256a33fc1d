//! The relief of a mask's cloth: pleats, seams, wrinkles. Coordinates as in [`super::fabric`].

use std::f32::consts::TAU;

use super::dye::{Albedo, paint};
use super::maths::{Random, bell, noise, sin_cos, smoothstep};
use super::shape::Extent;

/// An element of a mask's relief.
#[derive(Debug, Clone)]
pub enum Feature {
    /// A pleat across the mask at a height 0…1; it opens in the middle.
    Pleat { at: f32, depth: f32, sag: f32 },
    /// A wrinkle between two points.
    Fold {
        from: (f32, f32),
        to: (f32, f32),
        curvature: f32,
        width: f32,
        depth: f32,
    },
    /// A line along the middle from edge to edge.
    Seam { width: f32, depth: f32 },
    /// A line along the upper edge at this distance; if negative, along the lower edge.
    Hem {
        distance: f32,
        width: f32,
        depth: f32,
    },
    /// A line along either side, at this distance from its edge.
    Side { distance: f32, depth: f32 },
    /// The wire in the upper edge.
    Wire { length: f32, at: f32, depth: f32 },
    /// Rings or ribs across a cup.
    Ribs { period: f32, depth: f32 },
    /// Unevenness of hanging cloth, with its lengths across and down.
    Slack { lengths: (f32, f32), depth: f32 },
    /// Small folds at the sides, where the cloth is gathered.
    Gather { period: f32, depth: f32 },
    /// Lines pressed into each half, from the nose down to the corner.
    Weld { slope: f32, at: f32, depth: f32 },
}

/// Height of the cloth at a point, and depth in a fold, 0…1.
type Lift = (f32, f32);

impl Feature {
    /// The relief that this feature adds to the cloth at a point.
    pub fn lift(&self, s: f32, t: f32, extent: &Extent, seed: u64) -> Lift {
        let Extent { half_width, height } = *extent;
        let u = s / half_width;
        match *self {
            Self::Pleat { at, depth, sag } => {
                let line = at + sag * u * u + 0.01 * noise(u * 1.8, at * 9.0, seed);
                let d = t - line * height;
                // A pleat is closed at the sides, where it is welded, and here and there between.
                let closed = 0.6 * u * u;
                let open =
                    depth * (1.0 - closed) * (1.0 + 0.5 * noise(u * 2.0 + 3.0, at * 5.0, seed));
                // The cloth rises slowly to the edge of the pleat and steps back under it.
                (
                    open * smoothstep(-0.3, -0.01, d) * smoothstep(0.08, 0.0, d),
                    bell(d - 0.03, 0.035) * (open / 0.1).clamp(0.0, 0.7),
                )
            }
            Self::Fold {
                from,
                to,
                curvature,
                width,
                depth,
            } => wrinkle(
                (s - from.0, t - from.1),
                (to.0 - from.0, to.1 - from.1),
                curvature,
                width,
                depth,
            ),
            Self::Seam { width, depth } => (
                depth * (bell(s, width * 4.0) - 0.6 * bell(s, width * 0.8)),
                0.6 * bell(s, width * 0.6),
            ),
            Self::Hem {
                distance,
                width,
                depth,
            } => {
                let edge = if distance > 0.0 { t } else { t - height };
                let d = edge - distance;
                (-depth * bell(d, width), 0.35 * bell(d, width * 0.7))
            }
            Self::Side { distance, depth } => {
                let d = half_width - s.abs() - distance;
                (-depth * bell(d, 0.018), 0.4 * bell(d, 0.012))
            }
            Self::Wire { length, at, depth } => (
                depth * bell(t - at, 0.035) * smoothstep(length, length - 0.1, s.abs()),
                0.0,
            ),
            Self::Ribs { period, depth } => {
                (depth * sin_cos((t + 0.15 * u * u) / period * TAU).0, 0.0)
            }
            Self::Slack { lengths, depth } => {
                (depth * noise(s / lengths.0 + 7.0, t / lengths.1, seed), 0.0)
            }
            Self::Gather { period, depth } => {
                let at_side = smoothstep(0.55, 1.0, u.abs());
                if at_side == 0.0 {
                    return (0.0, 0.0);
                }
                (depth * at_side * noise(u * 3.0, t / period, seed), 0.0)
            }
            Self::Weld { slope, at, depth } => {
                let d = t - height * at - slope * s.abs();
                (-depth * bell(d, 0.03), 0.3 * bell(d, 0.02))
            }
        }
    }
}

/// A wrinkle from the origin to `to`, bent sideways in its middle.
fn wrinkle(at: (f32, f32), to: (f32, f32), curvature: f32, width: f32, depth: f32) -> Lift {
    let length = (to.0 * to.0 + to.1 * to.1).sqrt().max(1e-3);
    let (dx, dy) = (to.0 / length, to.1 / length);
    let along = (at.0 * dx + at.1 * dy) / length;
    if !(-0.1..1.1).contains(&along) {
        return (0.0, 0.0);
    }
    let bow = curvature * length * along * (1.0 - along) * 4.0;
    let aside = at.1 * dx - at.0 * dy - bow;
    let fade = smoothstep(-0.1, 0.15, along) * smoothstep(1.1, 0.6, along);
    let deep = (-depth / 0.03).max(0.0);
    (
        depth * fade * bell(aside, width * 1.5),
        0.6 * deep * fade * bell(aside, width),
    )
}

/// An exhalation valve, which is a disc.
#[derive(Debug, Clone)]
pub struct Valve {
    at: (f32, f32),
    radius: f32,
    pub colour: Albedo,
}

impl Valve {
    pub fn new(ground: Albedo, extent: &Extent, random: &mut Random) -> Self {
        let side = if random.chance(0.5) { 1.0 } else { -1.0 };
        let aside = if random.chance(0.4) {
            0.0
        } else {
            random.range(0.25, 0.5)
        };
        let colours = [
            [240, 240, 238],
            [225, 228, 230],
            [190, 192, 196],
            [20, 130, 80],
            [40, 42, 46],
        ];
        let colour = paint(random.pick([235, 235, 235], &colours));
        Self {
            at: (
                side * extent.half_width * aside,
                extent.height * random.range(0.45, 0.65),
            ),
            radius: random.range(0.15, 0.22),
            colour: if random.chance(0.4) { ground } else { colour },
        }
    }

    /// Distance from the centre, in radii.
    fn distance(&self, s: f32, t: f32) -> f32 {
        let (x, y) = (s - self.at.0, t - self.at.1);
        (x * x + y * y).sqrt() / self.radius
    }

    /// Fraction of the valve at a point, 0…1.
    pub fn coverage(&self, s: f32, t: f32, pixel: f32) -> f32 {
        let soft = pixel / self.radius;
        smoothstep(1.0 + soft, 1.0 - soft, self.distance(s, t))
    }

    pub fn lift(&self, s: f32, t: f32) -> Lift {
        let d = self.distance(s, t);
        let rim = 0.07 * smoothstep(1.0, 0.8, d) - 0.03 * smoothstep(0.62, 0.5, d);
        let gap = (0.8 * bell(d - 1.02, 0.07)).max(0.5 * bell(d - 0.56, 0.05));
        (rim + 0.015 * bell(d, 0.18), gap)
    }
}

/// The relief of a cloth on a grid, so that it is computed once per grid point.
#[derive(Debug)]
pub struct Relief {
    columns: usize,
    rows: usize,
    step: (f32, f32),
    grid: Vec<Lift>,
}

impl Relief {
    /// A grid of about three points per four cells; `unit` is the interocular distance in cells. `lifts`
    /// returns the relief at points (s, t).
    pub fn new(extent: &Extent, unit: f32, lifts: impl Fn(&[(f32, f32)]) -> Vec<Lift>) -> Self {
        let Extent { half_width, height } = *extent;
        let count = |length: f32| ((length * unit * 0.75) as usize).clamp(24, 300);
        let (columns, rows) = (count(half_width * 2.0), count(height));
        let step = (
            2.0 * half_width / (columns - 1) as f32,
            height / (rows - 1) as f32,
        );
        let mut places = Vec::with_capacity(columns * rows);
        for row in 0..rows {
            for column in 0..columns {
                places.push((column as f32 * step.0 - half_width, row as f32 * step.1));
            }
        }
        Self {
            columns,
            rows,
            step,
            grid: lifts(&places),
        }
    }

    /// Slopes along `s` and `t`, and depth in a fold, at a point of the sheet, both coordinates 0…1.
    pub fn at(&self, s: f32, t: f32) -> (f32, f32, f32) {
        let x = s.clamp(0.0, 1.0) * (self.columns - 1) as f32;
        let y = t.clamp(0.0, 1.0) * (self.rows - 1) as f32;
        let (column, row) = (
            (x as usize).min(self.columns - 2),
            (y as usize).min(self.rows - 2),
        );
        let (tx, ty) = (x - column as f32, y - row as f32);
        let get = |dx: usize, dy: usize| {
            let index = (row + dy) * self.columns + column + dx;
            self.grid.get(index).copied().unwrap_or_default()
        };
        let [a, b, c, d] = [get(0, 0), get(1, 0), get(0, 1), get(1, 1)];
        (
            ((b.0 - a.0) * (1.0 - ty) + (d.0 - c.0) * ty) / self.step.0,
            ((c.0 - a.0) * (1.0 - tx) + (d.0 - b.0) * tx) / self.step.1,
            (a.1 * (1.0 - tx) + b.1 * tx) * (1.0 - ty) + (c.1 * (1.0 - tx) + d.1 * tx) * ty,
        )
    }
}
