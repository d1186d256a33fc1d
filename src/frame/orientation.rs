//! How a picture must be turned to stand upright.
//!
//! Phones store what the sensor saw and a note of how they were held. The elements look at and
//! draw on the picture as a viewer will see it, without turning its pixels.

use crate::frame::geometry::{Landmarks, Point, Rect};

/// The eight ways a stored picture can lie. Default: it stands upright.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Orientation {
    /// Rows of the upright picture are columns of the stored one.
    pub transpose: bool,
    /// Then, x runs from right to left in the stored picture.
    pub flip_x: bool,
    /// Then, y runs from bottom to top in the stored picture.
    pub flip_y: bool,
}

impl Orientation {
    pub const UPRIGHT: Self = Self::new(false, false, false);
    /// A quarter turn clockwise makes it upright.
    pub const ROTATE_90: Self = Self::new(true, false, true);
    pub const ROTATE_180: Self = Self::new(false, true, true);
    /// A quarter turn counter-clockwise makes it upright.
    pub const ROTATE_270: Self = Self::new(true, true, false);
    /// Left and right are swapped.
    pub const FLIP_HORIZONTAL: Self = Self::new(false, true, false);
    /// Top and bottom are swapped.
    pub const FLIP_VERTICAL: Self = Self::new(false, false, true);
    /// Swapped along the diagonal from the upper left.
    pub const TRANSPOSE: Self = Self::new(true, false, false);
    /// Swapped along the diagonal from the upper right.
    pub const TRANSVERSE: Self = Self::new(true, true, true);

    const fn new(transpose: bool, flip_x: bool, flip_y: bool) -> Self {
        Self {
            transpose,
            flip_x,
            flip_y,
        }
    }

    /// Width and height after turning; turning back is the same.
    pub fn turn_size<T>(self, (width, height): (T, T)) -> (T, T) {
        if self.transpose {
            (height, width)
        } else {
            (width, height)
        }
    }

    /// Where a point of the upright picture is stored, in a stored picture of this size.
    pub fn to_stored(self, p: Point, (width, height): (f32, f32)) -> Point {
        let (x, y) = self.turn_size((p.x, p.y));
        Point {
            x: if self.flip_x { width - x } else { x },
            y: if self.flip_y { height - y } else { y },
        }
    }

    /// Where a stored point is in the upright picture; `size` is that of the stored one.
    pub fn to_upright(self, p: Point, (width, height): (f32, f32)) -> Point {
        let x = if self.flip_x { width - p.x } else { p.x };
        let y = if self.flip_y { height - p.y } else { p.y };
        let (x, y) = self.turn_size((x, y));
        Point { x, y }
    }

    /// A rectangle of the upright picture in the stored one.
    pub fn rect_to_stored(self, rect: Rect, size: (f32, f32)) -> Rect {
        turn_rect(rect, |p| self.to_stored(p, size))
    }

    /// A stored rectangle in the upright picture.
    pub fn rect_to_upright(self, rect: Rect, size: (f32, f32)) -> Rect {
        turn_rect(rect, |p| self.to_upright(p, size))
    }

    /// Landmarks keep their order: the eye that is left in the upright picture comes first.
    pub fn landmarks_to_stored(self, landmarks: &Landmarks, size: (f32, f32)) -> Landmarks {
        Landmarks(landmarks.0.map(|p| self.to_stored(p, size)))
    }

    pub fn landmarks_to_upright(self, landmarks: &Landmarks, size: (f32, f32)) -> Landmarks {
        Landmarks(landmarks.0.map(|p| self.to_upright(p, size)))
    }
}

fn turn_rect(rect: Rect, turn: impl Fn(Point) -> Point) -> Rect {
    let corner = |x, y| turn(Point { x, y });
    let (a, b) = (corner(rect.x, rect.y), corner(rect.right(), rect.bottom()));
    Rect::new(
        a.x.min(b.x),
        a.y.min(b.y),
        (a.x - b.x).abs(),
        (a.y - b.y).abs(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Orientation; 8] = [
        Orientation::UPRIGHT,
        Orientation::ROTATE_90,
        Orientation::ROTATE_180,
        Orientation::ROTATE_270,
        Orientation::FLIP_HORIZONTAL,
        Orientation::FLIP_VERTICAL,
        Orientation::TRANSPOSE,
        Orientation::TRANSVERSE,
    ];

    #[test]
    fn a_quarter_turn_clockwise_brings_the_left_edge_to_the_top() {
        // Stored 4 wide, 3 high; upright 3 wide, 4 high. The lower left corner goes to the upper
        // left one.
        let size = (4.0, 3.0);
        let o = Orientation::ROTATE_90;
        let p = o.to_upright(Point { x: 0.0, y: 3.0 }, size);
        assert_eq!(p, Point { x: 0.0, y: 0.0 });
        assert_eq!(o.turn_size((4, 3)), (3, 4));
        let rect = o.rect_to_upright(Rect::new(0.0, 0.0, 1.0, 2.0), size);
        assert_eq!(rect, Rect::new(1.0, 0.0, 2.0, 1.0));
    }

    #[test]
    fn there_and_back_is_where_it_was() {
        let size = (40.0, 30.0);
        let rect = Rect::new(3.0, 7.0, 11.0, 5.0);
        for o in ALL {
            assert_eq!(o.rect_to_stored(o.rect_to_upright(rect, size), size), rect);
        }
    }
}
