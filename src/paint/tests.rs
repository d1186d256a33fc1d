//! Masks on synthetic faces: a head of skin colour at a given yaw and roll.

use super::maths::{Vec3, sin, sin_cos, solve};
use super::*;
use crate::frame::geometry::{Landmarks, Point, Rect};

const SIDE: usize = 200;
/// Interocular distance in pixels.
const UNIT: f32 = 36.0;
const SKIN: [u8; 3] = [205, 160, 135];

/// Projects a point of the head that is turned by `yaw`, in an image turned by `roll`.
fn seen(p: Vec3, yaw: f32, roll: f32) -> Point {
    let ((sin_yaw, cos_yaw), (sin_roll, cos_roll)) = (sin_cos(yaw), sin_cos(roll));
    let (x, y) = (p[0] * cos_yaw + p[2] * sin_yaw, p[1] - 0.6);
    Point {
        x: SIDE as f32 / 2.0 + UNIT * (x * cos_roll - y * sin_roll),
        y: SIDE as f32 / 2.0 + UNIT * (x * sin_roll + y * cos_roll),
    }
}

const EYES: [Vec3; 2] = [[-0.5, 0.0, 0.0], [0.5, 0.0, 0.0]];
const MOUTH: Vec3 = [0.0, 1.05, 0.2];
const CHIN: Vec3 = [0.0, 1.6, 0.18];

fn face(yaw: f32, roll: f32) -> Face {
    let points = [
        EYES[0],
        EYES[1],
        [0.0, 0.6, 0.44],
        [-0.43, 1.05, 0.08],
        [0.43, 1.05, 0.08],
    ];
    Face {
        rect: Rect::new(61.0, 30.0, 78.0, 113.0),
        confidence: 1.0,
        landmarks: Landmarks(points.map(|p| seen(p, yaw, roll))),
    }
}

/// A photo of skin whose pixels have this illumination.
fn photo(light: impl Fn(usize, usize) -> f32) -> Vec<u8> {
    (0..SIDE * SIDE)
        .flat_map(|i| SKIN.map(|v| (f32::from(v) * light(i % SIDE, i / SIDE)) as u8))
        .collect()
}

fn flat() -> Vec<u8> {
    photo(|_, _| 1.0)
}

fn painted(mut rgb: Vec<u8>, face: &Face, mask: MaskType, seed: u64) -> Vec<u8> {
    paint(&mut rgb, SIDE, SIDE, face, mask, seed).unwrap();
    rgb
}

fn pixel(rgb: &[u8], at: Point) -> [u8; 3] {
    let i = (at.y as usize * SIDE + at.x as usize) * 3;
    rgb[i..i + 3].try_into().unwrap()
}

/// Largest difference of a component.
fn difference(a: [u8; 3], b: [u8; 3]) -> u8 {
    a.iter().zip(b).map(|(a, b)| a.abs_diff(b)).max().unwrap()
}

/// Mean, 0…255, of the pixels that the mask changed in the columns for which `counts` is true.
fn mean_of_mask(before: &[u8], after: &[u8], counts: impl Fn(usize) -> bool) -> f32 {
    let changed: Vec<f32> = before
        .chunks_exact(3)
        .zip(after.chunks_exact(3))
        .enumerate()
        .filter(|(i, (a, b))| counts(i % SIDE) && a != b)
        .map(|(_, (_, b))| b.iter().map(|&v| f32::from(v)).sum::<f32>() / 3.0)
        .collect();
    changed.iter().sum::<f32>() / changed.len() as f32
}

#[test]
fn the_same_seed_paints_the_same_pixels_and_another_seed_others() {
    let face = face(0.2, 0.0);
    for mask in MaskType::ALL {
        let first = painted(flat(), &face, mask, 7);
        assert_eq!(first, painted(flat(), &face, mask, 7), "{mask}");
        assert_ne!(first, painted(flat(), &face, mask, 8), "{mask}");
    }
}

#[test]
fn kinds_differ() {
    let face = face(0.0, 0.0);
    let all = MaskType::ALL.map(|mask| painted(flat(), &face, mask, 1));
    for (i, a) in all.iter().enumerate() {
        for b in &all[i + 1..] {
            assert_ne!(a, b);
        }
    }
}

/// A mask covers mouth and chin but no eye at a yaw of up to 60° to either side and at any roll of the
/// image.
#[test]
fn mouth_and_chin_are_covered_and_eyes_are_not() {
    for mask in MaskType::ALL {
        for seed in 0..12 {
            for (yaw, roll) in [
                (0.0, 0.0),
                (0.5, 0.0),
                (-0.5, 0.0),
                (1.05, 0.0),
                (-1.05, 0.0),
                (0.0, 0.6),
                (0.3, -1.5),
                (0.0, 3.1),
            ] {
                let after = painted(flat(), &face(yaw, roll), mask, seed);
                // Some masks are skin-coloured, so a point only counts as bare if a few pixels around it all have
                // the skin's colour.
                let is_bare = |p: Vec3| {
                    [[0.0, 0.0], [0.06, 0.03], [-0.06, -0.03], [0.03, -0.06]]
                        .into_iter()
                        .all(|d| {
                            let at = seen([p[0] + d[0], p[1] + d[1], p[2]], yaw, roll);
                            difference(pixel(&after, at), SKIN) < 6
                        })
                };
                let what = format!("{mask}, seed {seed}, yaw {yaw}, roll {roll}");
                assert!(!is_bare(MOUTH), "bare mouth: {what}");
                assert!(!is_bare(CHIN), "bare chin: {what}");
                for eye in EYES {
                    assert!(is_bare(eye), "covered eye: {what}");
                }
            }
        }
    }
}

#[test]
fn pixels_away_from_the_face_are_left_alone() {
    let small = |p: Point| Point {
        x: p.x * 0.4,
        y: p.y * 0.4,
    };
    let mut face = face(0.3, 0.0);
    face.landmarks = Landmarks(face.landmarks.0.map(small));
    face.rect = Rect::new(24.0, 12.0, 32.0, 46.0);
    for mask in MaskType::ALL {
        let after = painted(flat(), &face, mask, 3);
        for (i, pixel) in after.chunks_exact(3).enumerate() {
            let is_far = i % SIDE > 90 || i / SIDE > 95;
            assert!(!is_far || pixel == SKIN, "{mask}: pixel {i} has changed");
        }
    }
}

#[test]
fn a_mask_is_as_dark_as_its_photo() {
    let face = face(0.0, 0.0);
    for mask in [MaskType::Surgical, MaskType::Kn95, MaskType::N95] {
        for seed in 0..4 {
            let dark = photo(|_, _| 0.25);
            let in_light = mean_of_mask(&flat(), &painted(flat(), &face, mask, seed), |_| true);
            let in_dark = mean_of_mask(&dark, &painted(dark.clone(), &face, mask, seed), |_| true);
            assert!(
                in_dark < in_light * 0.6,
                "{mask}, seed {seed}: {in_light} and {in_dark}"
            );
        }
    }
}

#[test]
fn light_from_one_side_falls_on_that_side_of_the_mask() {
    let face = face(0.0, 0.0);
    let before = photo(|x, _| 1.0 - 0.6 * x as f32 / SIDE as f32);
    for mask in MaskType::ALL {
        let after = painted(before.clone(), &face, mask, 5);
        let left = mean_of_mask(&before, &after, |x| x < SIDE / 2);
        let right = mean_of_mask(&before, &after, |x| x > SIDE / 2);
        assert!(
            left > right * 1.1,
            "{mask}: {left} on the left and {right} on the right"
        );
    }
}

#[test]
fn a_photo_in_black_and_white_stays_so() {
    let grey: Vec<u8> = flat().chunks_exact(3).flat_map(|p| [p[1]; 3]).collect();
    for mask in MaskType::ALL {
        for seed in 0..4 {
            let after = painted(grey.clone(), &face(0.0, 0.0), mask, seed);
            for p in after.chunks_exact(3) {
                assert!(
                    p.iter().all(|v| v.abs_diff(p[1]) <= 3),
                    "{mask}, seed {seed}: {p:?}"
                );
            }
        }
    }
}

/// The face is larger than the maximum number of cells of a layer.
#[test]
fn a_large_face_is_covered_as_a_small_one_is() {
    let factor = 8.0;
    let side = SIDE * 8;
    let mut face = face(0.0, 0.0);
    face.landmarks = Landmarks(face.landmarks.0.map(|p| Point {
        x: p.x * factor,
        y: p.y * factor,
    }));
    face.rect = Rect::new(488.0, 240.0, 624.0, 904.0);
    let mut rgb = SKIN.repeat(side * side);
    paint(&mut rgb, side, side, &face, MaskType::Black, 1).unwrap();
    let at = |p: Point| {
        let i = ((p.y * factor) as usize * side + (p.x * factor) as usize) * 3;
        rgb[i]
    };
    assert!(at(seen(MOUTH, 0.0, 0.0)) < 90);
    assert_eq!(at(seen(EYES[0], 0.0, 0.0)), SKIN[0]);
}

#[test]
fn a_face_outside_of_the_photo_changes_nothing() {
    let mut face = face(0.0, 0.0);
    for (dx, dy) in [(5000.0, 0.0), (-5000.0, -5000.0), (0.0, 400_000.0)] {
        face.landmarks = self::face(0.0, 0.0).landmarks.translated(dx, dy);
        assert_eq!(painted(flat(), &face, MaskType::Cloth, 1), flat());
    }
    paint(&mut [], 0, 0, &face, MaskType::Cloth, 1).unwrap();
    paint(&mut [], 0, 100, &face, MaskType::Cloth, 1).unwrap();
}

#[test]
fn a_buffer_of_another_size_is_an_error_that_says_so() {
    let error = paint(&mut [0; 10], 2, 2, &face(0.0, 0.0), MaskType::N95, 0).unwrap_err();
    assert_eq!(
        error.to_string(),
        "2×2 pixels of RGB take 12 bytes, found 10"
    );
    let huge = paint(&mut [], usize::MAX, 2, &face(0.0, 0.0), MaskType::N95, 0);
    assert!(matches!(huge, Err(PaintError::Size { .. })));
}

#[test]
fn landmarks_that_are_no_face_are_an_error() {
    let with = |points: [(f32, f32); 5]| Face {
        landmarks: Landmarks(points.map(|(x, y)| Point { x, y })),
        ..face(0.0, 0.0)
    };
    for points in [
        [(50.0, 50.0); 5],
        [
            (f32::NAN, 1.0),
            (2.0, 1.0),
            (1.5, 2.0),
            (1.0, 3.0),
            (2.0, 3.0),
        ],
        [
            (0.0, 0.0),
            (f32::INFINITY, 0.0),
            (5.0, 5.0),
            (0.0, 9.0),
            (9.0, 9.0),
        ],
        [
            (-1e30, -1e30),
            (1e30, -1e30),
            (0.0, 0.0),
            (-1e30, 1e30),
            (1e30, 1e30),
        ],
    ] {
        let mut rgb = flat();
        let result = paint(&mut rgb, SIDE, SIDE, &with(points), MaskType::Sponge, 1);
        assert!(
            matches!(result, Err(PaintError::Landmarks(_))),
            "{points:?}"
        );
        assert_eq!(rgb, flat());
    }
}

/// Any landmarks and any box return soon, without touching pixels outside the photo.
#[test]
fn odd_landmarks_are_survived() {
    let mut random = Random::new(1);
    for i in 0..300 {
        let size = [1.0, 60.0, 3_000.0, 200_000.0][i % 4];
        let mut any = || random.range(-size, size);
        let face = Face {
            rect: Rect::new(any(), any(), any(), any()),
            confidence: 1.0,
            landmarks: Landmarks(std::array::from_fn(|_| Point { x: any(), y: any() })),
        };
        let mut rgb = flat();
        let _ = paint(&mut rgb, SIDE, SIDE, &face, MaskType::ALL[i % 6], i as u64);
    }
    let boxes = [f32::NAN, f32::INFINITY, 1e38, -1e38, 0.0];
    for v in boxes {
        let odd = Face {
            rect: Rect::new(v, v, v, v),
            ..face(0.0, 0.0)
        };
        painted(flat(), &odd, MaskType::Surgical, 1);
    }
    let mut one = vec![9; 3];
    paint(&mut one, 1, 1, &face(0.0, 0.0), MaskType::Surgical, 1).unwrap();
}

#[test]
fn names_are_read_as_they_are_written() {
    for mask in MaskType::ALL {
        assert_eq!(mask.to_string().parse(), Ok(mask));
    }
    assert_eq!(
        "Surgical".parse::<MaskType>().unwrap_err().to_string(),
        "no mask is called \"Surgical\"; expected one of surgical, kn95, n95, cloth, sponge, black"
    );
}

#[test]
fn the_pose_of_a_turned_head_is_found() {
    for yaw in [-1.0, -0.5, 0.0, 0.4, 0.9] {
        let pose = Pose::fit(&face(yaw, 0.0)).unwrap();
        // The nose points in the direction of the yaw.
        let nose = pose.turn([0.0, 0.0, 1.0]);
        assert!((nose[0] - sin(yaw)).abs() < 0.1, "{yaw}: {nose:?}");
        assert!(nose[1].abs() < 0.15, "{yaw}: {nose:?}");
    }
}

#[test]
fn sines_are_those_of_the_platform() {
    for i in -200..200 {
        let angle = i as f32 * 0.1;
        assert!((sin(angle) - angle.sin()).abs() < 2e-5, "{angle}");
    }
}

#[test]
fn equations_are_solved() {
    // The equations are x + y = 3 and x − y = 1.
    assert_eq!(
        solve([[1.0, 1.0], [1.0, -1.0]], [3.0, 1.0]),
        Some([2.0, 1.0])
    );
    assert_eq!(solve([[1.0, 1.0], [2.0, 2.0]], [3.0, 6.0]), None);
}
