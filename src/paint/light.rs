//! The illumination of a photo, estimated from the skin of the face that gets the mask.
//!
//! Intensities are squares of the stored values, 0…1: close to linear light, and computed exactly.

use super::fit::Pose;
use super::maths::{Curve, Vec3, bell, curve, dot, scale, smoothstep, solve};
use super::photo::Photo;
use super::shape::skin;

/// The appearance of a white cloth in the photo.
#[derive(Debug, Clone)]
pub struct Light {
    /// Intensity of white cloth that faces the camera.
    white: Vec3,
    /// Intensity of the deepest black.
    floor: Vec3,
    /// Fraction of ambient light.
    ambient: f32,
    /// Directional light: a surface is brighter the more it faces this way.
    from: Vec3,
    /// 0 where the photo is black and white.
    saturation: f32,
    /// Mean intensity of the skin.
    pub skin: Vec3,
    /// Deviations of brightness from the model of ambient and directional light: cast shadows, lamps nearby.
    patches: Vec<Patch>,
    /// Radius of a patch in pixels.
    reach: f32,
    /// Standard deviation of the photo's noise, in stored values 0…1.
    pub grain: f32,
    /// Standard deviation in pixels of the photo's blur.
    pub blur: f32,
}

/// Measured light on a spot of skin relative to the model.
#[derive(Debug, Clone, Copy)]
struct Patch {
    at: [f32; 2],
    ratio: f32,
}

/// Bounds of the brightness of a surface relative to one that faces the camera.
const LEAST_SHADE: f32 = 0.22;
const MOST_SHADE: f32 = 1.7;
/// Factor of contrast: subsurface scattering evens out the light on skin, but not on cloth.
const CONTRAST: f32 = 1.3;
/// Upper bound of the black level relative to the skin, because a photo may contain nothing dark.
const MOST_HAZE: f32 = 0.06;

impl Light {
    /// Reads the light off the face.
    pub fn measure(photo: &Photo, pose: &Pose) -> Self {
        let spots = spots(photo, pose);
        let mut brightness: Vec<f32> = spots.iter().map(|s| s.luminance()).collect();
        brightness.sort_by(f32::total_cmp);
        let middle = quantile(&brightness, 0.55).unwrap_or(0.25).max(1e-4);
        let is_skin = |s: &&Spot| (0.3..3.0).contains(&(s.luminance() / middle));
        let lit: Vec<&Spot> = spots.iter().filter(is_skin).collect();
        let count = lit.len().max(1) as f32;
        let mut mean = [0.0; 3];
        for spot in &lit {
            for (sum, c) in mean.iter_mut().zip(spot.colour) {
                *sum += c / count;
            }
        }
        if lit.is_empty() {
            mean = [middle; 3];
        }
        let (ambient, from) = directions(&lit, middle);
        let around = photo.around(pose.project([0.0, 0.6, 0.0]), pose.scale * 2.2);
        let tones = Tones::of(&around);
        let grain = grain(photo, pose);
        let saturation = saturation(mean, &around);
        let mut light = Self {
            white: white(mean, middle, &tones, saturation),
            floor: [(tones.dark * 0.6).min(middle * MOST_HAZE); 3],
            ambient,
            from,
            saturation,
            skin: mean,
            patches: Vec::new(),
            reach: pose.scale * 0.3,
            grain,
            blur: blur(photo, pose),
        };
        let patch = |spot: &&Spot| {
            // The ratio counts only as far as the spot has the colour of skin.
            let expected = light.lit(spot.normal) * middle;
            let ratio = (spot.luminance() / expected.max(1e-4)).clamp(0.45, 1.4);
            Patch {
                at: spot.at,
                ratio: 1.0 + (ratio - 1.0) * light.likeness(spot.colour),
            }
        };
        light.patches = lit.iter().map(patch).collect();
        light
    }

    /// Brightness at a point of the photo relative to the model of ambient and directional light.
    pub fn patch(&self, at: [f32; 2]) -> f32 {
        // The prior is a ratio of 1 with the weight of two spots.
        let (mut sum, mut weights) = (2.0, 2.0);
        for patch in &self.patches {
            let (x, y) = (
                (patch.at[0] - at[0]) / self.reach,
                (patch.at[1] - at[1]) / self.reach,
            );
            let weight = bell((x * x + y * y).sqrt(), 1.0);
            sum += weight * patch.ratio;
            weights += weight;
        }
        sum / weights
    }

    /// Similarity of a colour of the photo to the skin of the face, 0…1: high for shaded skin and make-up,
    /// low for hair and most backgrounds.
    pub fn likeness(&self, colour: Vec3) -> f32 {
        let (own, other) = (luminance(self.skin).max(1e-4), luminance(colour).max(1e-4));
        let brightness = smoothstep(0.16, 0.32, other / own) * smoothstep(3.5, 2.2, other / own);
        // Colours are normalised by brightness, so that shade does not count.
        let off: f32 = (0..3)
            .map(|i| (colour[i] / other - self.skin[i] / own).abs())
            .sum();
        brightness * smoothstep(1.3, 0.8, off)
    }

    /// Brightness of a surface with this normal relative to one that faces the camera.
    pub fn shade(&self, normal: Vec3) -> f32 {
        // Whatever the illumination, little light comes from below, where the chest is.
        let below = 1.0 - 0.3 * smoothstep(0.0, 1.0, normal[1]);
        (1.0 + (self.lit(normal) - 1.0) * CONTRAST).clamp(LEAST_SHADE, MOST_SHADE) * below
    }

    fn lit(&self, normal: Vec3) -> f32 {
        (self.ambient + dot(self.from, normal)).max(LEAST_SHADE)
    }

    /// Intensity of a cloth with `albedo`, illuminated by `shade` of the light.
    pub fn on(&self, albedo: Vec3, shade: f32) -> Vec3 {
        let grey = luminance(albedo);
        let mut out = [0.0; 3];
        for (i, value) in out.iter_mut().enumerate() {
            let albedo = grey + (albedo[i] - grey) * self.saturation;
            *value = shoulder(self.floor[i] + albedo * self.white[i] * shade);
        }
        out
    }
}

/// Compresses highlights gradually towards white, as film does, instead of clipping them.
fn shoulder(v: f32) -> f32 {
    const KNEE: f32 = 0.7;
    if v <= KNEE {
        return v;
    }
    let over = (v - KNEE) / (1.0 - KNEE);
    KNEE + (1.0 - KNEE) * over / (1.0 + over)
}

pub fn luminance(c: Vec3) -> f32 {
    0.25 * c[0] + 0.65 * c[1] + 0.1 * c[2]
}

/// A spot of the face in the photo.
struct Spot {
    at: [f32; 2],
    normal: Vec3,
    colour: Vec3,
}

impl Spot {
    fn luminance(&self) -> f32 {
        luminance(self.colour)
    }
}

/// Spots all over the visible part of the face, without eyes and mouth.
fn spots(photo: &Photo, pose: &Pose) -> Vec<Spot> {
    let mut spots = Vec::new();
    for row in 0..12 {
        let y = -0.55 + row as f32 * 0.18;
        for column in 0..13 {
            let angle = (column as f32 - 6.0) * 0.19;
            let (at, normal) = skin(angle, y);
            let near_eye = (at[0].abs() - 0.5).abs() < 0.32 && (-0.25..0.16).contains(&y);
            let near_mouth = at[0].abs() < 0.42 && (0.98..1.34).contains(&y);
            let normal = pose.turn(normal);
            if near_eye || near_mouth || normal[2] < 0.25 {
                continue;
            }
            let p = pose.project(at);
            let at = [p[0], p[1]];
            if let Some(colour) = photo.mean(at, pose.scale * 0.06) {
                spots.push(Spot { at, normal, colour });
            }
        }
    }
    spots
}

/// Fits ambient and directional light to the skin by least squares. Outliers of the first
/// fit (hair, beards, glasses) get little weight in the next.
fn directions(spots: &[&Spot], middle: f32) -> (f32, Vec3) {
    let mut weights: Vec<f32> = vec![1.0; spots.len()];
    // The prior is an average face: lit from above and in front.
    let (mut ambient, mut from) = (0.65, [0.0, -0.22, 0.35]);
    for _ in 0..3 {
        let mut a = [[0.0; 4]; 4];
        let mut b = [0.0; 4];
        // The prior weighs as much as a few spots, so that three spots of skin cannot determine the result.
        for (i, prior) in [0.65, 0.0, -0.22, 0.35].into_iter().enumerate() {
            let hold = if i == 0 { 1.0 } else { 4.0 };
            a[i][i] = hold;
            b[i] = hold * prior;
        }
        for (spot, weight) in spots.iter().zip(&weights) {
            let n = spot.normal;
            let terms = [1.0, n[0], n[1], n[2]];
            for i in 0..4 {
                for j in 0..4 {
                    a[i][j] += weight * terms[i] * terms[j];
                }
                b[i] += weight * terms[i] * spot.luminance() / middle;
            }
        }
        let Some([all, x, y, z]) = solve(a, b) else {
            break;
        };
        (ambient, from) = (all, [x, y, z]);
        for (spot, weight) in spots.iter().zip(&mut weights) {
            let off = (spot.luminance() / middle - ambient - dot(from, spot.normal)) / 0.2;
            *weight = 1.0 / (1.0 + off * off);
        }
    }
    // Scaled so that a surface facing the camera has brightness 1.
    let frontal = (ambient + from[2]).max(0.2);
    (ambient / frontal, scale(from, 1.0 / frontal))
}

/// Darkest and brightest tones around the face.
struct Tones {
    dark: f32,
    bright: f32,
}

impl Tones {
    fn of(colours: &[Vec3]) -> Self {
        let mut all: Vec<f32> = colours.iter().map(|c| luminance(*c)).collect();
        all.sort_by(f32::total_cmp);
        Self {
            dark: quantile(&all, 0.01).unwrap_or(0.0),
            bright: quantile(&all, 0.97).unwrap_or(0.8),
        }
    }
}

fn quantile(sorted: &[f32], part: f32) -> Option<f32> {
    let last = sorted.len().checked_sub(1)?;
    sorted.get((last as f32 * part) as usize).copied()
}

/// Intensity of white cloth beside this skin. Dark skin in good light and fair skin in dim light
/// look alike, so half of the difference from average skin is attributed to each; the rest of the photo
/// bounds the brightness.
fn white(skin: Vec3, middle: f32, tones: &Tones, saturation: f32) -> Vec3 {
    /// Median intensity of skin in 1,400 photos of LFW and CelebA, and of white cloth beside it.
    const SKIN: f32 = 0.42;
    const WHITE: f32 = 1.05;
    let exposure = (middle / SKIN).sqrt();
    let guess = WHITE * exposure;
    let level = guess
        .min(middle * 4.5)
        .min((tones.bright * 1.5).max(middle * 1.6))
        .max(middle * 1.3);
    // Mean tint of skin in those photos; half of the deviation is attributed to the light, half to the person.
    const TINT: Vec3 = [1.56, 0.85, 0.6];
    let brightness = luminance(skin).max(1e-4);
    let mut cast = [1.0; 3];
    for (i, value) in cast.iter_mut().enumerate() {
        let ratio = (skin[i] / brightness / TINT[i]).clamp(0.5, 2.0);
        *value = 1.0 + (ratio - 1.0) * 0.5 * saturation;
    }
    let norm = luminance(cast).max(1e-3);
    cast.map(|c| level * c / norm)
}

/// 0 for a black-and-white photo, 1 for a colour one.
fn saturation(skin: Vec3, around: &[Vec3]) -> f32 {
    let chroma = |colours: &[Vec3]| {
        let (mut spread, mut sum) = (0.0, 1e-3);
        for c in colours {
            let most = c.iter().copied().fold(0.0, f32::max);
            spread += most - c.iter().copied().fold(f32::MAX, f32::min);
            sum += most;
        }
        spread / sum
    };
    // The first percentile of the chroma of skin in colour photos is 0.23.
    smoothstep(0.1, 0.3, chroma(&[skin]).max(chroma(around)))
}

/// Estimates the noise from second differences along rows in the smoother half of the face.
fn grain(photo: &Photo, pose: &Pose) -> f32 {
    let mut curvatures: Vec<f32> = Vec::new();
    photo.rows_of_face(pose, |row| {
        curvatures.extend(row.windows(3).map(|w| (w[0] - 2.0 * w[1] + w[2]).abs()));
    });
    curvatures.sort_by(f32::total_cmp);
    // A quarter of a normal distribution lies within 0.32 standard deviations, and a second
    // difference has √6 times the standard deviation of a sample: 1.28; a third less, because skin is not flat.
    (quantile(&curvatures, 0.25).unwrap_or(0.0) * 0.8).min(0.04)
}

/// Estimates the blur: an edge rises over as many pixels as it is blurred, so the ratio of differences over four
/// pixels to those over two depends on its width. Fourth powers make edges count rather than skin.
fn blur(photo: &Photo, pose: &Pose) -> f32 {
    /// Computed ratios of differences over two pixels to those over one, and over four to those over two, across an
    /// edge with a blur of this standard deviation.
    const BY_TWO: &Curve = &[
        (4.9, 0.3),
        (7.15, 0.5),
        (9.36, 0.7),
        (11.72, 1.0),
        (13.45, 1.4),
        (14.63, 2.0),
        (15.36, 3.0),
    ];
    const BY_FOUR: &Curve = &[
        (2.75, 0.3),
        (3.38, 0.5),
        (4.4, 0.7),
        (6.36, 1.0),
        (8.88, 1.4),
        (11.52, 2.0),
        (13.68, 3.0),
        (14.61, 4.0),
        (15.36, 6.0),
    ];
    let mut sums = [0.0f32; 3];
    photo.rows_of_face(pose, |row| {
        for w in row.windows(5) {
            let [from, one, two, _, four] = w else {
                continue;
            };
            for (sum, to) in sums.iter_mut().zip([one, two, four]) {
                let d = (to - from) * (to - from);
                *sum += d * d;
            }
        }
    });
    let [one, two, four] = sums;
    if one <= 1e-6 {
        return 0.5;
    }
    0.5 * (curve(BY_TWO, two / one) + curve(BY_FOUR, four / two.max(1e-6)))
}
