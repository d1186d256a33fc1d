//! Orientation of an image: how the stored pixels must be rotated or mirrored for display.
//!
//! Phones store the sensor's image together with its orientation. The elements process and draw on the image as it will
//! be displayed, without rotating its pixels.

use crate::frame::geometry::{Landmarks, Point, Rect};

/// Angle in degrees from which on a face does not tilt its head, but lies on its side.
const MOST_TILTED: f32 = 60.0;

/// One of the eight orientations of a stored image. The default is upright.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Orientation {
    /// Whether rows of the upright image are columns of the stored one.
    pub transpose: bool,
    /// Whether, after transposing, x runs from right to left in the stored image.
    pub flip_x: bool,
    /// Whether, after transposing, y runs from bottom to top in the stored image.
    pub flip_y: bool,
}

impl Orientation {
    pub const UPRIGHT: Self = Self::new(false, false, false);
    /// A rotation by 90° clockwise makes the image upright.
    pub const ROTATE_90: Self = Self::new(true, false, true);
    pub const ROTATE_180: Self = Self::new(false, true, true);
    /// A rotation by 90° counter-clockwise makes the image upright.
    pub const ROTATE_270: Self = Self::new(true, true, false);
    /// Left and right are swapped.
    pub const FLIP_HORIZONTAL: Self = Self::new(false, true, false);
    /// Top and bottom are swapped.
    pub const FLIP_VERTICAL: Self = Self::new(false, false, true);
    /// Mirrored along the diagonal from the upper left.
    pub const TRANSPOSE: Self = Self::new(true, false, false);
    /// Mirrored along the diagonal from the upper right.
    pub const TRANSVERSE: Self = Self::new(true, true, true);

    const fn new(transpose: bool, flip_x: bool, flip_y: bool) -> Self {
        Self {
            transpose,
            flip_x,
            flip_y,
        }
    }

    /// The rotation by quarters that makes a face upright, by the direction from its eyes to its mouth; none for a head that
    /// is only tilted.
    pub fn of_face(landmarks: &Landmarks) -> Self {
        let Landmarks([left, right, _, mouth_left, mouth_right]) = landmarks;
        // Twice the way from between the eyes to the mouth, and the direction in which the line of the eyes says that it is:
        // one is short in a face that looks down, the other in a profile.
        let down = Point {
            x: mouth_left.x + mouth_right.x - left.x - right.x - 2.0 * (right.y - left.y),
            y: mouth_left.y + mouth_right.y - left.y - right.y + 2.0 * (right.x - left.x),
        };
        let tilt = down.x.atan2(down.y).to_degrees();
        match tilt.abs() {
            MOST_TILTED..135.0 if tilt > 0.0 => Self::ROTATE_90,
            MOST_TILTED..135.0 => Self::ROTATE_270,
            135.0.. => Self::ROTATE_180,
            _ => Self::UPRIGHT,
        }
    }

    /// The orientation of an image that is turned once more after it has been made upright by this one.
    pub fn then(self, turn: Self) -> Self {
        let (x, y) = self.turn_size((turn.flip_x, turn.flip_y));
        Self::new(
            self.transpose != turn.transpose,
            self.flip_x != x,
            self.flip_y != y,
        )
    }

    /// Converts width and height between the stored and the upright image, in either direction.
    pub fn turn_size<T>(self, (width, height): (T, T)) -> (T, T) {
        if self.transpose {
            (height, width)
        } else {
            (width, height)
        }
    }

    /// Converts a point of the upright image to the stored image, whose size is given.
    pub fn to_stored(self, p: Point, (width, height): (f32, f32)) -> Point {
        let (x, y) = self.turn_size((p.x, p.y));
        Point {
            x: if self.flip_x { width - x } else { x },
            y: if self.flip_y { height - y } else { y },
        }
    }

    /// Converts a point of the stored image, whose size is given, to the upright image.
    pub fn to_upright(self, p: Point, (width, height): (f32, f32)) -> Point {
        let x = if self.flip_x { width - p.x } else { p.x };
        let y = if self.flip_y { height - p.y } else { p.y };
        let (x, y) = self.turn_size((x, y));
        Point { x, y }
    }

    /// Converts a rectangle of the upright image to the stored image, whose size is given.
    pub fn rect_to_stored(self, rect: Rect, size: (f32, f32)) -> Rect {
        turn_rect(rect, |p| self.to_stored(p, size))
    }

    /// Converts a rectangle of the stored image, whose size is given, to the upright image.
    pub fn rect_to_upright(self, rect: Rect, size: (f32, f32)) -> Rect {
        turn_rect(rect, |p| self.to_upright(p, size))
    }

    /// Converts landmarks to the stored image. Their order is kept: the eye that is left in the upright image comes
    /// first.
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
        // The stored image is 4 wide and 3 high, the upright one 3 wide and 4 high. The lower left corner becomes the
        // upper left one.
        let size = (4.0, 3.0);
        let o = Orientation::ROTATE_90;
        let p = o.to_upright(Point { x: 0.0, y: 3.0 }, size);
        assert_eq!(p, Point { x: 0.0, y: 0.0 });
        assert_eq!(o.turn_size((4, 3)), (3, 4));
        let rect = o.rect_to_upright(Rect::new(0.0, 0.0, 1.0, 2.0), size);
        assert_eq!(rect, Rect::new(1.0, 0.0, 2.0, 1.0));
    }

    #[test]
    fn one_turn_after_another_is_one_turn() {
        let stored = (40.0, 30.0);
        let p = Point { x: 3.0, y: 7.0 };
        for first in ALL {
            let between = first.turn_size(stored);
            for second in ALL {
                let expected = second.to_upright(first.to_upright(p, stored), between);
                assert_eq!(first.then(second).to_upright(p, stored), expected);
            }
        }
    }

    /// A face whose head is tilted to its right by an angle, in an image of 200×200 pixels.
    fn tilted(degrees: f32) -> Landmarks {
        let (sin, cos) = degrees.to_radians().sin_cos();
        let points = [(-20, -20), (20, -20), (0, 0), (-15, 20), (15, 20)];
        Landmarks(points.map(|(x, y)| Point {
            x: 100.0 + x as f32 * cos - y as f32 * sin,
            y: 100.0 + x as f32 * sin + y as f32 * cos,
        }))
    }

    #[test]
    fn a_face_is_turned_by_whole_quarters_only() {
        for (degrees, expected) in [
            (0.0, Orientation::UPRIGHT),
            (55.0, Orientation::UPRIGHT),
            (-55.0, Orientation::UPRIGHT),
            (65.0, Orientation::ROTATE_270),
            (130.0, Orientation::ROTATE_270),
            (-65.0, Orientation::ROTATE_90),
            (-130.0, Orientation::ROTATE_90),
            (140.0, Orientation::ROTATE_180),
            (-140.0, Orientation::ROTATE_180),
        ] {
            assert_eq!(
                Orientation::of_face(&tilted(degrees)),
                expected,
                "{degrees}"
            );
        }
        assert_eq!(
            Orientation::of_face(&Landmarks::default()),
            Orientation::UPRIGHT
        );
    }

    #[test]
    fn a_turned_face_is_made_upright() {
        let upright = tilted(0.0);
        for o in &ALL[..4] {
            let turned = o.landmarks_to_stored(&upright, (200.0, 200.0));
            assert_eq!(Orientation::of_face(&turned), *o);
        }
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
