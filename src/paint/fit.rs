//! Fits the pose of the head to five landmarks.
//!
//! The unit of length is the interocular distance. The origin is half way between the eyes; x points to the
//! right of the image, y down, z towards the viewer. The projection is orthographic.

use super::PaintError;
use super::maths::{Vec3, dot, lerp, sin_cos, smoothstep, solve};
use crate::detect::Face;
use crate::frame::geometry::{Landmarks, Point, Rect};

/// The landmarks of a mean face: x and y are means of MTCNN's over 964 frontal faces of LFW and
/// CelebA; z is from anthropometry: the tip of the nose protrudes by 28 mm, the eyes are 63 mm apart.
const MEAN_FACE: [Vec3; 5] = [
    [-0.5, 0.0, 0.0],
    [0.5, 0.0, 0.0],
    [0.0, NOSE, 0.44],
    [-0.44, EYES_TO_MOUTH, 0.08],
    [0.44, EYES_TO_MOUTH, 0.08],
];
const EYES_TO_MOUTH: f32 = 1.04;
const NOSE: f32 = 0.6;
/// Width of MTCNN's box, and distance of its lower edge below the mouth: means over the same faces.
const BOX_WIDTH: f32 = 2.17;
const BOX_BELOW_MOUTH: f32 = 0.72;
/// Weight of the box's measurements against the mean face, and their bounds: boxes are cut off at the edges of
/// photos and grow with hats and beards.
const BELIEF: f32 = 0.75;
const WIDTHS: std::ops::RangeInclusive<f32> = 0.88..=1.18;
const CHINS: std::ops::RangeInclusive<f32> = 0.75..=1.5;

/// Deviation of MTCNN's landmarks and of individual faces from the mean face, in eyes-to-mouth distances.
const SPREAD: f32 = 0.04;
/// Standard deviations of the pitch, in radians, and of the relative length of a face. A nod and a
/// short face look alike in five points.
const NOD: f32 = 0.25;
const LENGTH_SPREAD: f32 = 0.07;
/// A weak prior on the yaw, so that unusable landmarks result in a nearly frontal pose.
const TURN: f32 = 1.5;
/// Maximum yaw: no landmarks are detected on a head that is turned further.
const MAX_TURN: f32 = 1.45;
const MAX_NOD: f32 = 0.8;

/// Smallest and largest size in pixels, and the coordinate beyond which landmarks cannot be in an image.
const SIZES: std::ops::RangeInclusive<f32> = 2.0..=50_000.0;
const FAR: f32 = 1e6;

const ITERATIONS: usize = 12;
/// Yaw, pitch, roll, scale, x, y, length.
const UNKNOWNS: usize = 7;

/// Rotation of a head, and its position in the image.
#[derive(Debug, Clone)]
pub struct Pose {
    /// Rows of the rotation matrix from head to camera coordinates.
    rotation: [Vec3; 3],
    /// Pixels per interocular distance.
    pub scale: f32,
    origin: Point,
    /// Length of the face relative to the mean face.
    length: f32,
    /// Offsets, in pixels, of nose and mouth from where the pose alone puts them.
    nose_off: Point,
    mouth_off: Point,
    /// Width, and length from mouth to chin, relative to the mean face.
    width: f32,
    chin: f32,
}

impl Pose {
    /// The pose that fits the landmarks best. The box, if there is one, determines the width of the
    /// face and the length of the chin.
    pub fn fit(face: &Face) -> Result<Self, PaintError> {
        let landmarks = &face.landmarks;
        let frame = Frame::of(landmarks)?;
        let seen = landmarks.0.map(|p| frame.inwards(p));
        let found = best(&seen);
        let pose = Self::in_frame(&found, &frame);
        let [_, _, nose, left, right] = landmarks.0;
        let off = |p: Point, of_mean: Vec3| {
            let at = pose.project(of_mean);
            Point {
                x: p.x - at[0],
                y: p.y - at[1],
            }
        };
        let (left, right) = (off(left, MEAN_FACE[3]), off(right, MEAN_FACE[4]));
        let mut pose = Self {
            nose_off: off(nose, MEAN_FACE[2]),
            mouth_off: Point {
                x: (left.x + right.x) / 2.0,
                y: (left.y + right.y) / 2.0,
            },
            ..pose.clone()
        };
        pose.measure(&face.rect, &frame);
        Ok(pose)
    }

    /// Sets width and chin from the box.
    fn measure(&mut self, rect: &Rect, frame: &Frame) {
        let upright = frame.down.y;
        // Boxes are axis-aligned, so the box of a face that lies on its side has little information.
        if !rect.is_finite() || rect.area() <= 0.0 || upright < 0.8 {
            return;
        }
        let believed = |ratio: f32, bounds: std::ops::RangeInclusive<f32>| {
            (1.0 + (ratio - 1.0) * BELIEF).clamp(*bounds.start(), *bounds.end())
        };
        self.width = believed(rect.width / (BOX_WIDTH * self.scale), WIDTHS);
        let mouth = self.project([0.0, EYES_TO_MOUTH, 0.1]);
        let chin = self.project([0.0, EYES_TO_MOUTH + BOX_BELOW_MOUTH, 0.1]);
        let expected = chin[1] - mouth[1];
        if expected > 0.2 * self.scale {
            self.chin = believed((rect.bottom() - mouth[1]) / expected, CHINS);
        }
    }

    fn in_frame(found: &[f32; UNKNOWNS], frame: &Frame) -> Self {
        let [yaw, pitch, roll, scale, x, y, length] = *found;
        let [right, down, near] = rotation(yaw, pitch, roll);
        // Converts axes of the frame to axes of the image.
        let turned = |axis: [f32; 2]| [0, 1, 2].map(|i| axis[0] * right[i] + axis[1] * down[i]);
        Self {
            rotation: [
                turned([frame.right.x, frame.down.x]),
                turned([frame.right.y, frame.down.y]),
                near,
            ],
            scale: scale * frame.size,
            origin: frame.outwards(Point { x, y }),
            length,
            nose_off: Point::default(),
            mouth_off: Point::default(),
            width: 1.0,
            chin: 1.0,
        }
    }

    /// Projects a point of the head: x and y in pixels of the image, and depth in pixels, nearer is larger.
    pub fn project(&self, p: Vec3) -> Vec3 {
        let off = self.off(p[1]);
        let below = (p[1] - EYES_TO_MOUTH).max(0.0);
        let y = p[1] + below * (self.chin - 1.0);
        let p = [p[0] * self.width, y * self.length, p[2]];
        [
            self.origin.x + off.x + self.scale * dot(self.rotation[0], p),
            self.origin.y + off.y + self.scale * dot(self.rotation[1], p),
            self.scale * dot(self.rotation[2], p),
        ]
    }

    /// Offset of this face's landmarks from the pose, at a height of the head.
    fn off(&self, y: f32) -> Point {
        let (nose, mouth) = (self.nose_off, self.mouth_off);
        if y < NOSE {
            let t = smoothstep(0.0, NOSE, y);
            Point {
                x: nose.x * t,
                y: nose.y * t,
            }
        } else {
            let t = smoothstep(NOSE, EYES_TO_MOUTH, y);
            Point {
                x: lerp(nose.x, mouth.x, t),
                y: lerp(nose.y, mouth.y, t),
            }
        }
    }

    /// Rotates a direction from head to camera coordinates: right, down, towards the viewer.
    pub fn turn(&self, direction: Vec3) -> Vec3 {
        self.rotation.map(|row| dot(row, direction))
    }
}

/// Coordinates in which a face is upright and its mouth is one unit below its eyes.
#[derive(Debug)]
struct Frame {
    centre: Point,
    right: Point,
    down: Point,
    size: f32,
}

impl Frame {
    fn of(landmarks: &Landmarks) -> Result<Self, PaintError> {
        let p = &landmarks.0;
        let is_near = |p: &Point| p.x.abs() <= FAR && p.y.abs() <= FAR;
        // A NaN counts as not near.
        if !p.iter().all(is_near) {
            return Err(PaintError::Landmarks("they are not in any image"));
        }
        let middle = |a: Point, b: Point| Point {
            x: (a.x + b.x) / 2.0,
            y: (a.y + b.y) / 2.0,
        };
        let (eyes, mouth) = (middle(p[0], p[1]), middle(p[3], p[4]));
        // Yaw moves eyes and mouth equally, so the line between their midpoints stays the vertical of the
        // head; the line between the eyes is short and noisy in a profile.
        let down = Point {
            x: mouth.x - eyes.x,
            y: mouth.y - eyes.y,
        };
        let size = (down.x * down.x + down.y * down.y).sqrt();
        if !SIZES.contains(&size) {
            return Err(PaintError::Landmarks(
                "eyes and mouth are in the same place",
            ));
        }
        let down = Point {
            x: down.x / size,
            y: down.y / size,
        };
        Ok(Self {
            centre: middle(eyes, mouth),
            right: Point {
                x: down.y,
                y: -down.x,
            },
            down,
            size,
        })
    }

    fn inwards(&self, p: Point) -> Point {
        let (x, y) = (p.x - self.centre.x, p.y - self.centre.y);
        Point {
            x: (x * self.right.x + y * self.right.y) / self.size,
            y: (x * self.down.x + y * self.down.y) / self.size,
        }
    }

    fn outwards(&self, p: Point) -> Point {
        Point {
            x: self.centre.x + self.size * (p.x * self.right.x + p.y * self.down.x),
            y: self.centre.y + self.size * (p.x * self.right.y + p.y * self.down.y),
        }
    }
}

/// Rotation by `yaw` to the right of the image, then by `pitch` down, then clockwise by `roll`.
fn rotation(yaw: f32, pitch: f32, roll: f32) -> [Vec3; 3] {
    let ((sy, cy), (sp, cp), (sr, cr)) = (sin_cos(yaw), sin_cos(pitch), sin_cos(roll));
    let right = [cy, 0.0, sy];
    let down = [-sy * sp, cp, cy * sp];
    let near = [-sy * cp, -sp, cy * cp];
    [
        [0, 1, 2].map(|i| cr * right[i] - sr * down[i]),
        [0, 1, 2].map(|i| sr * right[i] + cr * down[i]),
        near,
    ]
}

/// Residuals of ten coordinates and of the priors, each in standard deviations.
fn residuals(unknowns: &[f32; UNKNOWNS], seen: &[Point; 5]) -> [f32; 14] {
    let [yaw, pitch, roll, scale, x, y, length] = *unknowns;
    let [right, down, _] = rotation(yaw, pitch, roll);
    let mut off = [0.0; 14];
    for ((pair, p), seen) in off.chunks_exact_mut(2).zip(MEAN_FACE).zip(seen) {
        let p = [p[0], p[1] * length, p[2]];
        pair[0] = (x + scale * dot(right, p) - seen.x) / SPREAD;
        pair[1] = (y + scale * dot(down, p) - seen.y) / SPREAD;
    }
    off[10] = pitch / NOD;
    off[11] = (length - 1.0) / LENGTH_SPREAD;
    off[12] = yaw / TURN;
    // The prior of the roll is 0, because the frame is already upright.
    off[13] = roll / NOD;
    off
}

/// Least squares by the Gauss-Newton method with Levenberg's damping.
fn best(seen: &[Point; 5]) -> [f32; UNKNOWNS] {
    let scale = 1.0 / EYES_TO_MOUTH;
    // The iteration starts with eyes and mouth in the middle of the frame, and the yaw from the offset of the nose.
    let turn = (seen[2].x / (scale * MEAN_FACE[2][2])).clamp(-1.0, 1.0);
    let mut unknowns = [turn, 0.0, 0.0, scale, 0.0, -0.5, 1.0];
    let cost = |unknowns: &[f32; UNKNOWNS]| -> f32 {
        residuals(unknowns, seen).iter().map(|r| r * r).sum()
    };
    let mut least = cost(&unknowns);
    let mut damping = 1e-3;
    for _ in 0..ITERATIONS {
        let Some(step) = step(&unknowns, seen, damping) else {
            break;
        };
        let mut next = unknowns;
        for (value, step) in next.iter_mut().zip(step) {
            *value -= step;
        }
        next[0] = next[0].clamp(-MAX_TURN, MAX_TURN);
        next[1] = next[1].clamp(-MAX_NOD, MAX_NOD);
        next[3] = next[3].clamp(scale * 0.5, scale * 2.0);
        next[6] = next[6].clamp(0.8, 1.25);
        let reached = cost(&next);
        if reached < least {
            (unknowns, least) = (next, reached);
            damping *= 0.3;
        } else {
            damping *= 10.0;
        }
    }
    unknowns
}

fn step(unknowns: &[f32; UNKNOWNS], seen: &[Point; 5], damping: f32) -> Option<[f32; UNKNOWNS]> {
    const DELTA: f32 = 1e-3;
    let here = residuals(unknowns, seen);
    let slopes: [[f32; 14]; UNKNOWNS] = std::array::from_fn(|i| {
        let mut moved = *unknowns;
        moved[i] += DELTA;
        let there = residuals(&moved, seen);
        std::array::from_fn(|j| (there[j] - here[j]) / DELTA)
    });
    let product = |a: &[f32; 14], b: &[f32; 14]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
    let mut normal = [[0.0; UNKNOWNS]; UNKNOWNS];
    let mut right = [0.0; UNKNOWNS];
    for (i, row) in normal.iter_mut().enumerate() {
        for (j, value) in row.iter_mut().enumerate() {
            *value = product(&slopes[i], &slopes[j]);
        }
        row[i] *= 1.0 + damping;
        right[i] = product(&slopes[i], &here);
    }
    solve(normal, right)
}
