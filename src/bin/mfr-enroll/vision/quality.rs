//! Checks whether a photo is good enough for enrolment.

use gstmfr::detect::Face;
use gstmfr::embed::INPUT_SIZE;
use gstmfr::frame::geometry::Rect;
use serde::{Deserialize, Serialize};

use crate::vision::pose::HeadPose;
use crate::vision::reason::{Reason, Refusal};

// The limits are where recognition fails, measured on 182 photos of LFW against the class
// means of 150 people; without degradation, rank-1 is .995. Of 3,515 photos of LFW, CelebA and RMFRD all but two
// blurred ones are within the limits of brightness and sharpness.

/// Minimum shorter side of a face in pixels: rank-1 is .995 with crops of 24 pixels per face, .91 with 18, and
/// .75 with 15.
const MIN_SIDE: f32 = 24.0;

/// Bounds of the face's mean luma, 0…255. Rank-1 is .978 darkened to 19, .45 darkened to 13, .93 overexposed to 212,
/// and .70 overexposed to 235.
const MIN_LUMA: f32 = 20.0;
const MAX_LUMA: f32 = 225.0;

/// Minimum [`Measures::sharpness`]. Rank-1 is .989 blurred to .066, .90 to .034, and .50 to .020.
const MIN_SHARPNESS: f32 = 0.04;

/// Maximum yaw in degrees. Rank-1 of 7,797 photos of LFW and CelebA against the means of
/// their people's frontal photos: .93 to 20°, .90 to 30°, .83 to 40°, .72 for the 47 beyond. Up to
/// this limit a turned photo helps to recognise the person when turned; a photo estimated beyond it is a profile,
/// with one eye and half a mouth: 22 of 11,387 photos.
const MAX_YAW: f32 = 45.0;

/// Maximum roll in degrees. Rank-1 of 250 photos of LFW rotated by 25°: .996, by 35°: .97, by 45°: .93, by 60°: .54.
const MAX_ROLL: f32 = 50.0;

/// Side of the face in a crop that is 1.32 faces wide.
const FACE_SIDE: usize = 120;
/// Pixels of the crop, in both directions, that are averaged before sharpness is measured: 40 blocks across the
/// face, so that a small face does not count as blurred.
const BLOCK: usize = 3;
const BLOCKS: usize = FACE_SIDE / BLOCK;

/// Measurements of a face.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Measures {
    /// Shorter side of the face in pixels of the photo.
    pub size: f32,
    /// Mean luma of the face, 0…255.
    pub brightness: f32,
    /// Variance of the Laplacian divided by that of the luma, both at 40×40 pixels per face, which is independent of
    /// contrast and brightness.
    pub sharpness: f32,
    /// Angles as in [`HeadPose`].
    pub yaw: f32,
    pub roll: f32,
}

impl Measures {
    /// Measures a face and its crop, as returned by `embed::crop_rgb8`.
    pub fn of(face: &Face, crop: &[u8]) -> Self {
        let blocks = blocks(crop);
        let at = |x: usize, y: usize| blocks[y * BLOCKS + x];
        let laplacian: Vec<f32> = (1..BLOCKS - 1)
            .flat_map(|y| (1..BLOCKS - 1).map(move |x| (x, y)))
            .map(|(x, y)| {
                at(x - 1, y) + at(x + 1, y) + at(x, y - 1) + at(x, y + 1) - 4.0 * at(x, y)
            })
            .collect();
        let (luma, contrast) = mean_and_variance(&blocks);
        let (_, detail) = mean_and_variance(&laplacian);
        let HeadPose { yaw, roll } = HeadPose::of(&face.landmarks);
        Self {
            size: face.rect.width.min(face.rect.height),
            brightness: luma,
            // A plain surface is neither sharp nor blurred; the lower bound prevents a division by zero.
            sharpness: detail / contrast.max(1.0),
            yaw,
            roll,
        }
    }

    /// The measurements as text.
    pub fn in_words(&self) -> String {
        format!(
            "{:.0} pixels, brightness {:.0}, sharpness {:.2}, turned {:.0}°, tilted {:.0}°",
            self.size,
            self.brightness,
            self.sharpness,
            self.yaw.abs(),
            self.roll.abs()
        )
    }

    /// Rejects a face that is too small, too dark, too bright, blurred or turned too far.
    pub fn check(&self) -> Result<(), Refusal> {
        let light = || {
            format!(
                "the face has a brightness of {:.0}, {MIN_LUMA} to {MAX_LUMA} is usable",
                self.brightness
            )
        };
        let turned = |how: &str, angle: f32, most: f32| {
            format!(
                "the head is {how} by about {:.0}°, up to {most}° is usable",
                angle.abs()
            )
        };
        Err(if self.size < MIN_SIDE {
            let size = self.size;
            let detail = format!("the face is {size:.0} pixels wide, {MIN_SIDE} are needed");
            (Reason::TooSmall, detail)
        } else if self.brightness < MIN_LUMA {
            (Reason::TooDark, light())
        } else if self.brightness > MAX_LUMA {
            (Reason::TooBright, light())
        } else if self.sharpness < MIN_SHARPNESS {
            let sharpness = self.sharpness;
            let detail =
                format!("the face has a sharpness of {sharpness:.3}, {MIN_SHARPNESS} is needed");
            (Reason::Blurred, detail)
        } else if self.yaw.abs() > MAX_YAW {
            (Reason::Pose, turned("turned", self.yaw, MAX_YAW))
        } else if self.roll.abs() > MAX_ROLL {
            (Reason::Pose, turned("tilted", self.roll, MAX_ROLL))
        } else {
            return Ok(());
        })
    }
}

/// Luma of the centre of a crop in blocks, row by row.
fn blocks(crop: &[u8]) -> Vec<f32> {
    let first = (INPUT_SIZE - FACE_SIDE) / 2;
    let mut sums = vec![0u32; BLOCKS * BLOCKS];
    for y in 0..FACE_SIDE {
        let row = &crop[((first + y) * INPUT_SIZE + first) * 3..][..FACE_SIDE * 3];
        for (x, &[r, g, b]) in row.as_chunks::<3>().0.iter().enumerate() {
            // BT.601 weights, in thousandths.
            let luma = 299 * u32::from(r) + 587 * u32::from(g) + 114 * u32::from(b);
            sums[y / BLOCK * BLOCKS + x / BLOCK] += luma;
        }
    }
    let scale = 1.0 / (1000 * BLOCK * BLOCK) as f32;
    sums.into_iter().map(|sum| sum as f32 * scale).collect()
}

fn mean_and_variance(values: &[f32]) -> (f32, f32) {
    let count = values.len() as f32;
    let mean = values.iter().sum::<f32>() / count;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / count;
    (mean, variance)
}

/// How many times as prominent as the next face the main face of a photo must be: with half the
/// area in the same place the other face is clearly secondary.
const DOMINANCE: f32 = 2.0;

/// The index of the most prominent face in a photo of this size: the one with the largest visible area,
/// weighted lower at the edge than in the centre.
pub fn most_prominent(faces: &[Face], width: usize, height: usize) -> Option<usize> {
    (0..faces.len()).max_by(|&a, &b| {
        let of = |i: usize| prominence(&faces[i], width, height);
        // Ties go to the first, which is the most confident.
        of(a).total_cmp(&of(b)).then(b.cmp(&a))
    })
}

/// The candidate faces for a photo's person, most prominent first: only one if it is clear.
pub fn prominent(faces: &[Face], width: usize, height: usize) -> Vec<Face> {
    let mut rated: Vec<(f32, Face)> = faces
        .iter()
        .map(|face| (prominence(face, width, height), *face))
        .collect();
    rated.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    let least = rated.first().map_or(0.0, |(best, _)| best / DOMINANCE);
    rated.retain(|&(prominence, _)| prominence >= least);
    rated.into_iter().map(|(_, face)| face).collect()
}

/// Area of the face inside the photo, with full weight in the centre and falling to 0 beyond the corners.
fn prominence(face: &Face, width: usize, height: usize) -> f32 {
    let (width, height) = (width as f32, height as f32);
    let visible = face.rect.intersection(&Rect::new(0.0, 0.0, width, height));
    let center = face.rect.center();
    // The offset is 0 in the centre, and 1 at the middle of each edge.
    let (dx, dy) = (
        (center.x / width - 0.5) * 2.0,
        (center.y / height - 0.5) * 2.0,
    );
    visible.area() * (1.0 - (dx * dx + dy * dy) / 2.0).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gstmfr::frame::geometry::Landmarks;

    fn face(x: f32, y: f32, side: f32) -> Face {
        Face {
            rect: Rect::new(x, y, side, side),
            confidence: 1.0,
            landmarks: Landmarks::default(),
        }
    }

    fn crop(pixel: impl Fn(usize, usize) -> u8) -> Vec<u8> {
        (0..INPUT_SIZE * INPUT_SIZE)
            .flat_map(|i| [pixel(i % INPUT_SIZE, i / INPUT_SIZE); 3])
            .collect()
    }

    #[test]
    fn a_large_face_in_the_middle_dominates_small_ones_at_the_edge() {
        let main = face(75.0, 75.0, 100.0);
        let faces = [face(0.0, 0.0, 80.0), main, face(200.0, 10.0, 40.0)];
        assert_eq!(prominent(&faces, 250, 250), [main]);
        assert_eq!(most_prominent(&faces, 250, 250), Some(1));
    }

    #[test]
    fn of_a_face_that_the_edge_cuts_only_the_rest_counts() {
        let cut = Face {
            rect: Rect::new(177.0, 78.0, 103.0, 157.0),
            ..face(0.0, 0.0, 0.0)
        };
        let faces = [cut, face(79.0, 80.0, 95.0)];
        assert_eq!(most_prominent(&faces, 250, 250), Some(1));
        // The same face in a photo that contains all of it.
        assert_eq!(most_prominent(&faces, 300, 250), Some(0));
    }

    #[test]
    fn two_faces_side_by_side_are_several() {
        let faces = [face(20.0, 75.0, 100.0), face(130.0, 75.0, 95.0)];
        assert_eq!(prominent(&faces, 250, 250).len(), 2);
        assert_eq!(prominent(&[], 250, 250), []);
    }

    #[test]
    fn light_and_focus_are_judged_on_the_face_alone() {
        let good = face(0.0, 0.0, 100.0);
        // Stripes of 12 pixels, and black outside the face.
        let inside = |v: usize| (20..140).contains(&v);
        let stripes = crop(|x, y| match (inside(x) && inside(y), x / 12 % 2) {
            (false, _) => 0,
            (true, 0) => 80,
            (true, _) => 180,
        });
        let check = |face, crop: &[u8]| Measures::of(face, crop).check();
        assert_eq!(check(&good, &stripes), Ok(()));
        let reason = |face, crop: &[u8]| check(face, crop).unwrap_err().0;
        assert_eq!(reason(&good, &crop(|_, _| 5)), Reason::TooDark);
        assert_eq!(reason(&good, &crop(|_, _| 250)), Reason::TooBright);
        // A smooth ramp has no detail at all.
        assert_eq!(reason(&good, &crop(|x, _| x as u8 + 50)), Reason::Blurred);
        assert_eq!(reason(&face(0.0, 0.0, 20.0), &stripes), Reason::TooSmall);
    }

    #[test]
    fn a_profile_is_refused_and_a_head_that_leans_a_little_is_not() {
        let good = Measures {
            size: 100.0,
            brightness: 120.0,
            sharpness: 1.0,
            yaw: -44.0,
            roll: 30.0,
        };
        assert_eq!(good.check(), Ok(()));
        let refused = |measures: Measures| measures.check().unwrap_err();
        let (reason, detail) = refused(Measures { yaw: -56.8, ..good });
        assert_eq!(reason, Reason::Pose);
        assert_eq!(
            detail,
            "the head is turned by about 57°, up to 45° is usable"
        );
        let (reason, detail) = refused(Measures { roll: 80.0, ..good });
        assert_eq!(reason, Reason::Pose);
        assert!(detail.starts_with("the head is tilted by about 80°"));
    }
}
