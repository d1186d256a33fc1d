//! Rectangles, points and landmarks in pixels, with the operations that detection needs.

use serde::{Deserialize, Serialize};

/// A position in pixels; x grows to the right, y downwards, (0, 0) is the upper left corner.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Point {
    pub x: f32,
    pub y: f32,
}

/// An axis-aligned rectangle in pixels, which may extend beyond the image.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Rect {
    pub x: f32,
    pub y: f32,
    pub width: f32,
    pub height: f32,
}

impl Rect {
    pub const fn new(x: f32, y: f32, width: f32, height: f32) -> Self {
        Self {
            x,
            y,
            width,
            height,
        }
    }

    /// The rectangle between two opposite corners (left, top) and (right, bottom).
    pub fn from_corners(x1: f32, y1: f32, x2: f32, y2: f32) -> Self {
        Self::new(x1, y1, x2 - x1, y2 - y1)
    }

    pub fn right(&self) -> f32 {
        self.x + self.width
    }

    pub fn bottom(&self) -> f32 {
        self.y + self.height
    }

    pub fn center(&self) -> Point {
        Point {
            x: self.x + self.width / 2.0,
            y: self.y + self.height / 2.0,
        }
    }

    pub fn contains(&self, point: Point) -> bool {
        (self.x..self.right()).contains(&point.x) && (self.y..self.bottom()).contains(&point.y)
    }

    /// Area in square pixels; zero if width or height is negative.
    pub fn area(&self) -> f32 {
        self.width.max(0.0) * self.height.max(0.0)
    }

    /// Scales width and height by `factor` about the centre.
    pub fn scaled(&self, factor: f32) -> Self {
        let (width, height) = (self.width * factor, self.height * factor);
        let center = self.center();
        Self::new(
            center.x - width / 2.0,
            center.y - height / 2.0,
            width,
            height,
        )
    }

    /// Converts the rectangle to an image that is scaled by `size`.
    pub fn resized(&self, size: f32) -> Self {
        let Self {
            x,
            y,
            width,
            height,
        } = *self;
        Self::new(x * size, y * size, width * size, height * size)
    }

    pub fn translated(&self, dx: f32, dy: f32) -> Self {
        Self::new(self.x + dx, self.y + dy, self.width, self.height)
    }

    /// The intersection of both rectangles; its area is zero if they do not overlap.
    pub fn intersection(&self, other: &Self) -> Self {
        let (x1, y1) = (self.x.max(other.x), self.y.max(other.y));
        let x2 = self.right().min(other.right()).max(x1);
        let y2 = self.bottom().min(other.bottom()).max(y1);
        Self::from_corners(x1, y1, x2, y2)
    }

    /// Intersection over union, 0…1.
    pub fn iou(&self, other: &Self) -> f32 {
        let shared = self.intersection(other).area();
        let union = self.area() + other.area() - shared;
        if union > 0.0 { shared / union } else { 0.0 }
    }

    pub fn is_finite(&self) -> bool {
        [self.x, self.y, self.width, self.height]
            .iter()
            .all(|v| v.is_finite())
    }
}

/// Five points of a face in pixels, in the order of MTCNN: the eye that is left in the image, the
/// eye that is right in the image, tip of the nose, left and right corner of the mouth.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Landmarks(pub [Point; 5]);

impl Landmarks {
    pub fn translated(&self, dx: f32, dy: f32) -> Self {
        Self(self.0.map(|p| Point {
            x: p.x + dx,
            y: p.y + dy,
        }))
    }

    pub fn is_finite(&self) -> bool {
        self.0.iter().all(|p| p.x.is_finite() && p.y.is_finite())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iou_of_half_overlapping_squares_is_one_third() {
        // The intersection is 2 of 4 + 4 − 2 = 6 unit squares.
        let a = Rect::new(0.0, 0.0, 2.0, 2.0);
        let b = Rect::new(1.0, 0.0, 2.0, 2.0);
        assert_eq!(a.iou(&b), 2.0 / 6.0);
        assert_eq!(a.iou(&a), 1.0);
    }

    #[test]
    fn iou_of_apart_or_empty_rectangles_is_zero() {
        let a = Rect::new(0.0, 0.0, 2.0, 2.0);
        assert_eq!(a.iou(&Rect::new(5.0, 5.0, 2.0, 2.0)), 0.0);
        assert_eq!(Rect::default().iou(&Rect::default()), 0.0);
        assert_eq!(a.iou(&Rect::new(0.0, 0.0, -2.0, 2.0)), 0.0);
    }

    #[test]
    fn scaling_keeps_the_centre() {
        let r = Rect::new(10.0, 20.0, 10.0, 20.0).scaled(1.5);
        assert_eq!(r, Rect::new(7.5, 15.0, 15.0, 30.0));
    }
}
