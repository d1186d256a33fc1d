//! Arithmetic on candidate boxes, as in the widely used ports of MTCNN.
//!
//! Boxes count pixels from 1 and include both ends, a convention of the MATLAB original that the weights were trained
//! with; hence the `+ 1` and `− 1` below. Corners are f64 as in those ports: where they are truncated to integers, f32
//! rounding would move one box in ten by a pixel.

use crate::frame::geometry::{Landmarks, Point, Rect};

/// Size of P-Net's receptive field, and its stride, in pixels of a pyramid level.
pub const CELL: f64 = 12.0;
const STRIDE: f64 = 2.0;

/// A candidate box of a face.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Left, top, right and bottom.
    pub corners: [f64; 4],
    pub score: f32,
    /// Bounding-box regression: offsets of the corners, relative to width and height.
    pub offsets: [f32; 4],
}

/// Area that an intersection is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// Area of the union: intersection over union.
    Union,
    /// Area of the smaller box, so that a box within another one counts as the same face.
    Smaller,
}

impl Candidate {
    /// The window of an output cell of P-Net, in pixels of the image.
    pub fn from_cell(x: usize, y: usize, scale: f64, score: f32, offsets: [f32; 4]) -> Self {
        let place = |v: usize, end: f64| ((STRIDE * v as f64 + end) / scale).trunc();
        Self {
            corners: [place(x, 1.0), place(y, 1.0), place(x, CELL), place(y, CELL)],
            score,
            offsets,
        }
    }

    /// A candidate at the box of a face that was found before.
    pub fn around(rect: &Rect) -> Self {
        Self {
            corners: [rect.x, rect.y, rect.right(), rect.bottom()].map(f64::from),
            score: 0.0,
            offsets: [0.0; 4],
        }
    }

    pub fn is_finite(&self) -> bool {
        self.score.is_finite()
            && self.corners.iter().all(|v| v.is_finite())
            && self.offsets.iter().all(|v| v.is_finite())
    }

    fn width(&self) -> f64 {
        self.corners[2] - self.corners[0] + 1.0
    }

    fn height(&self) -> f64 {
        self.corners[3] - self.corners[1] + 1.0
    }

    fn overlap(&self, other: &Self, kind: Overlap) -> f64 {
        let [a, b] = [self.corners, other.corners];
        let width = (a[2].min(b[2]) - a[0].max(b[0]) + 1.0).max(0.0);
        let height = (a[3].min(b[3]) - a[1].max(b[1]) + 1.0).max(0.0);
        let shared = width * height;
        let [area, other] = [self, other].map(|c| c.width() * c.height());
        shared
            / match kind {
                Overlap::Union => area + other - shared,
                Overlap::Smaller => area.min(other),
            }
    }

    /// Moves the corners by the offsets. P-Net's are relative to right − left, those of the later networks to the width
    /// with both ends (`inclusive`).
    pub fn refine(mut self, inclusive: bool) -> Self {
        let extra = if inclusive { 0.0 } else { 1.0 };
        let (width, height) = (self.width() - extra, self.height() - extra);
        for (i, (corner, offset)) in self.corners.iter_mut().zip(self.offsets).enumerate() {
            *corner += f64::from(offset) * if i % 2 == 0 { width } else { height };
        }
        self
    }

    pub fn translate(mut self, dx: f64, dy: f64) -> Self {
        for (corner, by) in self.corners.iter_mut().zip([dx, dy, dx, dy]) {
            *corner += by;
        }
        self
    }

    /// The square about the same centre with the longer side, in integer pixels.
    pub fn square(mut self) -> Self {
        let [x1, y1, x2, y2] = self.corners;
        let (width, height) = (x2 - x1, y2 - y1);
        let side = width.max(height);
        let (x, y) = (x1 + (width - side) / 2.0, y1 + (height - side) / 2.0);
        self.corners = [x, y, x + side, y + side].map(f64::trunc);
        self
    }

    /// The pixels that a later network processes.
    pub fn crop(&self) -> Rect {
        let [x1, y1, x2, y2] = self.corners;
        Rect::new(
            (x1 - 1.0) as f32,
            (y1 - 1.0) as f32,
            (x2 - x1 + 1.0).max(1.0) as f32,
            (y2 - y1 + 1.0).max(1.0) as f32,
        )
    }

    pub fn rect(&self) -> Rect {
        let [x1, y1, x2, y2] = self.corners;
        Rect::from_corners(x1 as f32, y1 as f32, x2 as f32, y2 as f32)
    }

    /// Landmarks from O-Net's ten outputs: five x, five y, relative to the box.
    pub fn landmarks(&self, points: &[f32]) -> Landmarks {
        Landmarks(std::array::from_fn(|i| Point {
            x: (self.corners[0] + self.width() * f64::from(points[i]) - 1.0) as f32,
            y: (self.corners[1] + self.height() * f64::from(points[i + 5]) - 1.0) as f32,
        }))
    }
}

/// Non-maximum suppression: of boxes that overlap by more than `limit`, the one with the highest score is kept. The
/// result is sorted by descending score; equal scores keep their order.
pub fn suppress<T>(
    mut items: Vec<T>,
    limit: f64,
    kind: Overlap,
    candidate: impl Fn(&T) -> &Candidate,
) -> Vec<T> {
    items.sort_by(|a, b| candidate(b).score.total_cmp(&candidate(a).score));
    let mut kept: Vec<T> = Vec::new();
    for item in items {
        let own = candidate(&item);
        if kept
            .iter()
            .all(|k| candidate(k).overlap(own, kind) <= limit)
        {
            kept.push(item);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(corners: [f64; 4], score: f32) -> Candidate {
        Candidate {
            corners,
            score,
            offsets: [0.0; 4],
        }
    }

    #[test]
    fn the_first_cell_at_half_size_covers_the_first_24_pixels() {
        // (2·0 + 1) / ½ = 2 and (2·0 + 12) / ½ = 24; the next cell starts 2 / ½ = 4 further on.
        let c = Candidate::from_cell(0, 1, 0.5, 0.9, [0.0; 4]);
        assert_eq!(c.corners, [2.0, 6.0, 24.0, 28.0]);
    }

    #[test]
    fn refining_moves_corners_in_parts_of_the_size() {
        let mut c = candidate([10.0, 20.0, 19.0, 39.0], 1.0);
        c.offsets = [0.1, -0.1, 0.2, 0.0];
        // The box has 10 × 20 pixels with both ends, 9 × 19 without.
        for (inclusive, expected) in [
            (true, [11.0, 18.0, 21.0, 39.0]),
            (false, [10.9, 18.1, 20.8, 39.0]),
        ] {
            for (found, expected) in c.refine(inclusive).corners.iter().zip(expected) {
                // The tolerance is for the offsets, which are f32.
                assert!((found - expected).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn squares_keep_the_centre_and_whole_pixels() {
        let c = candidate([10.0, 20.0, 20.0, 41.0], 1.0).square();
        // The side is 21: left 10 + (10 − 21)/2 = 4.5, right 25.5, both truncated to integers.
        assert_eq!(c.corners, [4.0, 20.0, 25.0, 41.0]);
        assert_eq!(c.crop(), Rect::new(3.0, 19.0, 22.0, 22.0));
    }

    #[test]
    fn suppression_keeps_the_best_of_each_place() {
        let items = vec![
            candidate([0.0, 0.0, 9.0, 9.0], 0.6),
            candidate([1.0, 0.0, 10.0, 9.0], 0.9),
            candidate([50.0, 50.0, 59.0, 59.0], 0.7),
        ];
        // The IoU of the first two is 90 / 110 pixels: .82.
        let kept = suppress(items.clone(), 0.7, Overlap::Union, |c| c);
        assert_eq!(kept.iter().map(|c| c.score).collect::<Vec<_>>(), [0.9, 0.7]);
        let kept = suppress(items, 0.85, Overlap::Union, |c| c);
        assert_eq!(kept.len(), 3);
    }

    #[test]
    fn a_box_within_another_overlaps_the_smaller_one_whole() {
        let big = candidate([0.0, 0.0, 99.0, 99.0], 0.9);
        let small = candidate([10.0, 10.0, 19.0, 19.0], 0.8);
        assert_eq!(big.overlap(&small, Overlap::Union), 0.01);
        assert_eq!(big.overlap(&small, Overlap::Smaller), 1.0);
    }

    #[test]
    fn landmarks_are_parts_of_the_box() {
        let c = candidate([11.0, 21.0, 20.0, 40.0], 1.0);
        let points = [0.0, 1.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.5, 0.0, 0.0];
        let Landmarks(p) = c.landmarks(&points);
        assert_eq!((p[0].x, p[0].y), (10.0, 20.0));
        assert_eq!((p[1].x, p[2].x, p[2].y), (20.0, 15.0, 30.0));
    }
}
