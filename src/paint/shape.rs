//! The cut of a mask: its sheet of cloth and its straps as surfaces around the head.
//!
//! Head coordinates are as in [`super::fit`]. A mask is a grid of points: `u` runs from the edge
//! that is left in the image (−1) over the nose (0) to the right edge (1), `v` from the upper edge
//! (0) to the lower one (1).

use super::maths::{
    Curve, Random, Vec3, add, bell, cross, curve, dot, lerp, noise, scale, sin_cos, subtract, unit,
};

/// Half the width of a face by height.
const HALF_WIDTH: &Curve = &[
    (-0.6, 1.06),
    (0.2, 1.08),
    (0.6, 1.04),
    (0.95, 0.98),
    (1.2, 0.92),
    (1.45, 0.80),
    (1.65, 0.68),
    (1.85, 0.56),
    (2.1, 0.45),
];
/// Depth of a face along its vertical midline by height, without the nose.
const FRONT: &Curve = &[
    (-0.6, 0.10),
    (0.0, 0.04),
    (0.4, 0.05),
    (0.75, 0.14),
    (1.0, 0.21),
    (1.3, 0.18),
    (1.56, 0.20),
    (1.76, 0.08),
    (1.9, -0.15),
    (2.1, -0.5),
];
/// Distance of a mask from that midline by height: over the bridge of the nose, then straight from
/// its tip to the chin like a tent.
const TENT: &Curve = &[
    (0.0, 0.10),
    (0.2, 0.17),
    (0.45, 0.34),
    (0.62, 0.42),
    (0.8, 0.30),
    (1.05, 0.19),
    (1.3, 0.15),
    (1.55, 0.07),
    (1.8, 0.04),
    (2.1, 0.0),
];
/// Width of that tent by height.
const TENT_WIDTH: &Curve = &[
    (0.0, 0.16),
    (0.3, 0.2),
    (0.6, 0.34),
    (0.9, 0.55),
    (1.5, 0.6),
];

/// Depth of the vertical axis about which the face is curved.
const AXIS: f32 = -0.95;
/// Position of the ears as an angle about that axis from the front, and height of their top.
const EAR: f32 = 1.78;
const EAR_TOP: f32 = 0.12;
const EAR_BOTTOM: f32 = 0.82;

/// A point of the bare face, and the outward normal there.
pub fn skin(angle: f32, y: f32) -> (Vec3, Vec3) {
    let at = |angle: f32, y: f32| -> Vec3 {
        let (sin, cos) = sin_cos(angle);
        let front = curve(FRONT, y) - AXIS;
        [curve(HALF_WIDTH, y) * sin, y, AXIS + front * cos]
    };
    let d = 0.03;
    let across = subtract(at(angle + d, y), at(angle - d, y));
    let down = subtract(at(angle, y + d), at(angle, y - d));
    (at(angle, y), unit(cross(across, down)))
}

/// The size of a cloth, measured along its surface.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    pub half_width: f32,
    pub height: f32,
}

/// The construction of a mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A pleated rectangle.
    Pleated,
    /// Two halves welded along the middle, folding flat.
    Folded,
    /// A stiff cup.
    Cup,
    /// Two or more pieces sewn to fit.
    Sewn,
    /// A piece of foam.
    Moulded,
}

/// The parameters of a cut. Heights are head coordinates; [`Cut::at`] defines the effect of the others.
#[derive(Debug, Clone)]
pub struct Cut {
    top: f32,
    top_side: f32,
    /// Additional rise of the upper edge to the bridge of the nose.
    peak: f32,
    bottom: f32,
    bottom_side: f32,
    /// Angle of the side edges about the axis of the face.
    turn: f32,
    /// How much nearer to the front the corners are than the middle of the side edges.
    round: f32,
    /// Width relative to the mean face.
    width: f32,
    /// How far the mask protrudes like a beak, and the width of that beak.
    beak: f32,
    beak_width: f32,
    /// 0 for a round beak, 1 for one with an edge down the middle.
    ridge: f32,
    /// Degree to which the mask keeps its own width at the chin instead of the face's.
    stiff: f32,
    /// Degree to which cheeks and front bulge.
    bulge: f32,
    tent: f32,
    tent_width: f32,
    /// Tilt: one side is higher than the other.
    tilt: f32,
    /// Irregularity of surface and edges.
    uneven: f32,
    seed: u64,
}

impl Cut {
    pub fn new(style: Style, random: &mut Random) -> Self {
        let seed = random.bits();
        let r = random;
        // This is a general fit; each type of mask changes its own parameters below.
        let cut = Self {
            top: r.about(0.33, 0.13),
            top_side: r.about(0.66, 0.09),
            peak: r.range(0.02, 0.08),
            bottom: r.about(1.86, 0.08),
            bottom_side: r.about(1.42, 0.1),
            turn: r.about(1.23, 0.13),
            round: 0.0,
            width: r.about(1.0, 0.05),
            beak: r.range(0.0, 0.06),
            beak_width: 0.5,
            ridge: 0.0,
            stiff: r.range(0.25, 0.55),
            bulge: r.range(0.01, 0.05),
            tent: r.about(1.0, 0.12),
            tent_width: r.about(1.0, 0.25),
            tilt: r.about(0.0, 0.05),
            uneven: 0.02,
            seed,
        };
        match style {
            Style::Pleated => cut,
            Style::Folded => Self {
                top: r.about(0.27, 0.1),
                top_side: r.about(0.8, 0.08),
                bottom: r.about(1.84, 0.07),
                bottom_side: r.about(1.22, 0.08),
                turn: r.about(1.13, 0.1),
                round: r.range(0.0, 0.1),
                beak: r.range(0.1, 0.2),
                beak_width: r.range(0.4, 0.6),
                ridge: r.range(0.5, 1.0),
                stiff: r.range(0.3, 0.55),
                bulge: r.range(0.02, 0.06),
                uneven: 0.012,
                ..cut
            },
            Style::Cup => Self {
                top: r.about(0.3, 0.1),
                top_side: r.about(0.88, 0.07),
                bottom: r.about(1.82, 0.07),
                bottom_side: r.about(1.27, 0.08),
                turn: r.about(1.0, 0.08),
                round: r.range(0.05, 0.2),
                beak: r.range(0.16, 0.28),
                beak_width: r.range(0.55, 0.8),
                stiff: r.range(0.35, 0.6),
                bulge: r.range(0.04, 0.09),
                uneven: 0.006,
                ..cut
            },
            Style::Sewn => Self {
                top_side: r.about(0.7, 0.1),
                bottom_side: r.about(1.33, 0.12),
                turn: r.about(1.26, 0.13),
                beak: r.range(0.0, 0.14),
                beak_width: r.range(0.3, 0.6),
                ridge: r.unit(),
                stiff: r.range(0.1, 0.45),
                uneven: r.range(0.015, 0.035),
                ..cut
            },
            Style::Moulded => Self {
                top: r.about(0.36, 0.1),
                top_side: r.about(0.74, 0.07),
                bottom: r.about(1.82, 0.06),
                bottom_side: r.about(1.25, 0.08),
                turn: r.about(1.28, 0.08),
                beak: r.range(0.04, 0.1),
                beak_width: r.range(0.3, 0.5),
                ridge: r.unit(),
                stiff: r.range(0.05, 0.3),
                bulge: r.range(0.0, 0.03),
                uneven: 0.006,
                ..cut
            },
        }
    }

    /// The point of the mask at (u, v).
    fn at(&self, u: f32, v: f32) -> Vec3 {
        let side = u * u;
        let wave = self.uneven * noise(u * 2.5 + 9.0, v * 2.5, self.seed);
        let top = lerp(
            self.top,
            self.top_side,
            side.sqrt() * (0.35 + 0.65 * u.abs()),
        ) - self.peak * bell(u, 0.16)
            + self.tilt * u;
        let bottom = lerp(self.bottom, self.bottom_side, side * (0.4 + 0.6 * side)) + self.tilt * u;
        let y = lerp(top, bottom, v) + wave * 0.6;
        let far = 2.0 * v - 1.0;
        let (sin, cos) = sin_cos(u * self.turn * (1.0 - self.round * far * far));
        let blown = 1.0 + (self.bulge * 4.0 * v * (1.0 - v) + 0.02) + wave;
        let face = curve(HALF_WIDTH, y);
        let own = lerp(face, curve(HALF_WIDTH, y.min(1.2)), self.stiff);
        let x = own * self.width * blown * sin;
        let tent =
            curve(TENT, y) * self.tent * bell(x, curve(TENT_WIDTH, y) * self.tent_width * 1.5);
        let round = bell(x, self.beak_width * 1.5);
        let sharp = (1.0 - x.abs() / (self.beak_width * 1.6)).max(0.0);
        let beak = self.beak * bell(y - 0.9, 0.6) * lerp(round, sharp, self.ridge);
        let front = curve(FRONT, y) - AXIS;
        [x, y, AXIS + front * blown * cos + tent + beak]
    }

    pub fn body(&self) -> Sheet {
        const COLUMNS: usize = 33;
        const ROWS: usize = 23;
        Sheet::new(COLUMNS, ROWS, |u, v| self.at(u * 2.0 - 1.0, v))
    }

    /// Half the width of the cloth and its height, measured along its surface.
    pub fn extent(&self) -> Extent {
        let length = |a: Vec3, b: Vec3| {
            let d = subtract(a, b);
            dot(d, d).sqrt()
        };
        let steps = 12;
        let along = |at: &dyn Fn(f32) -> Vec3| -> f32 {
            (0..steps)
                .map(|i| {
                    let t = i as f32 / steps as f32;
                    length(at(t), at(t + 1.0 / steps as f32))
                })
                .sum()
        };
        Extent {
            half_width: along(&|t| self.at(t, 0.5)),
            height: along(&|t| self.at(0.0, t)),
        }
    }

    /// A band on the skin from the edge of the mask at `v` to a point at or behind the ear;
    /// `widths` are its widths at these two ends.
    pub fn strap(&self, is_right: bool, v: f32, to: (f32, f32), widths: (f32, f32)) -> Sheet {
        const STEPS: usize = 13;
        let side = if is_right { 1.0 } else { -1.0 };
        // The strap is attached slightly inside the edge.
        let start = self.at(side * 0.97, v);
        let far = 2.0 * v - 1.0;
        let from = 0.97 * self.turn * (1.0 - self.round * far * far);
        let lies = |t: f32, across: f32| -> Vec3 {
            let angle = lerp(from, to.0, t);
            let y = lerp(start[1], to.1, t) + across * lerp(widths.0, widths.1, t);
            let (sin, cos) = sin_cos(angle);
            let lifted = 1.02 + 0.03 * t;
            let front = curve(FRONT, y) - AXIS;
            [
                side * curve(HALF_WIDTH, y) * lifted * sin,
                y,
                AXIS + front * cos,
            ]
        };
        let off = subtract(start, lies(0.0, 0.0));
        let sheet = Sheet::new(STEPS, 3, |along, across| {
            // Columns run to the right of the image when either cheek is seen from outside.
            let t = if is_right { along } else { 1.0 - along };
            // The strap starts on the mask, off the skin, and gradually comes to lie on the skin.
            let left = (1.0 - t) * (1.0 - t);
            add(lies(t, across - 0.5), scale(off, left))
        });
        Sheet {
            starts_left: is_right,
            ..sheet
        }
    }

    /// Height of the edges at the sides.
    pub fn side(&self) -> f32 {
        self.bottom_side - self.top_side
    }
}

/// Course of a mask's straps: to a loop around each ear, or around the head.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Straps {
    Loops,
    Head,
}

impl Straps {
    /// The ends, at the ear or above and below it, of the upper and the lower strap.
    pub fn ends(self, random: &mut Random) -> [(f32, f32); 2] {
        match self {
            Self::Loops => [
                (
                    EAR + random.about(0.0, 0.06),
                    EAR_TOP + random.about(0.0, 0.1),
                ),
                (
                    EAR + random.about(0.0, 0.06),
                    EAR_BOTTOM + random.about(0.0, 0.1),
                ),
            ],
            Self::Head => [
                (EAR + random.range(0.1, 0.4), random.range(-0.9, -0.3)),
                (EAR + 0.4, random.range(1.0, 1.3)),
            ],
        }
    }
}

/// A grid of points of the head.
#[derive(Debug, Clone)]
pub struct Sheet {
    pub columns: usize,
    pub rows: usize,
    /// The points, row by row.
    pub points: Vec<Vec3>,
    /// Whether the strap starts at the mask with its first column.
    pub starts_left: bool,
}

impl Sheet {
    /// A sheet whose points `at` returns for column and row as 0…1.
    fn new(columns: usize, rows: usize, at: impl Fn(f32, f32) -> Vec3) -> Self {
        let step = |i: usize, count: usize| i as f32 / (count - 1) as f32;
        Self {
            columns,
            rows,
            points: (0..rows)
                .flat_map(|row| (0..columns).map(move |column| (column, row)))
                .map(|(column, row)| at(step(column, columns), step(row, rows)))
                .collect(),
            starts_left: true,
        }
    }
}
