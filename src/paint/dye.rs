//! The colours of masks.

use super::MaskType;
use super::maths::{Random, Vec3, lerp, sin_cos};
use super::photo::intensity;

/// Fraction of red, green and blue light that is reflected.
pub type Albedo = Vec3;

/// Albedo of an 8-bit sRGB colour.
pub fn paint(rgb: [u8; 3]) -> Albedo {
    rgb.map(|v| intensity(v).max(0.004))
}

/// Any colour: of every hue, from pale to strong and from dark to light.
pub fn any_colour(random: &mut Random) -> Albedo {
    let hue = random.unit() * std::f32::consts::TAU;
    let strength = random.unit() * random.unit().sqrt();
    let light = random.range(0.12, 0.95);
    let value = [0.0, 2.1, 4.2].map(|offset| {
        let wave = 0.5 + 0.5 * sin_cos(hue + offset).0;
        light * lerp(1.0, wave, strength)
    });
    value.map(|v| (v * v).max(0.004))
}

/// The colour of a mask of a type, varied a little: usually a common one, sometimes another.
pub fn ground(mask: MaskType, random: &mut Random) -> Albedo {
    type Colours = &'static [[u8; 3]];
    let (share, common, others): (f32, Colours, Colours) = match mask {
        MaskType::Surgical => (
            0.8,
            &[
                [246, 247, 247],
                [238, 241, 243],
                [180, 222, 243],
                [160, 212, 240],
                [130, 195, 235],
                [200, 230, 243],
                [150, 225, 220],
                [182, 230, 215],
                [115, 208, 200],
            ],
            &[
                [90, 165, 215],
                [70, 160, 150],
                [215, 235, 225],
                [240, 200, 210],
                [200, 195, 225],
                [130, 130, 135],
                [235, 225, 160],
            ],
        ),
        MaskType::Kn95 => (
            0.7,
            &[
                [242, 242, 240],
                [246, 246, 243],
                [236, 238, 240],
                [240, 238, 232],
            ],
            &[
                [40, 40, 44],
                [30, 30, 34],
                [120, 124, 130],
                [190, 192, 195],
                [60, 80, 120],
                [225, 180, 185],
                [185, 205, 220],
                [205, 190, 165],
            ],
        ),
        MaskType::N95 => (
            0.75,
            &[
                [244, 243, 238],
                [240, 238, 228],
                [246, 246, 244],
                [236, 237, 234],
            ],
            &[
                [150, 195, 225],
                [165, 215, 200],
                [205, 208, 205],
                [125, 128, 132],
                [45, 46, 50],
            ],
        ),
        MaskType::Sponge => (
            0.55,
            &[
                [45, 46, 50],
                [60, 62, 66],
                [85, 87, 92],
                [28, 28, 30],
                [130, 132, 136],
            ],
            &[
                [175, 177, 180],
                [230, 165, 175],
                [215, 140, 150],
                [235, 232, 228],
                [60, 75, 110],
                [125, 115, 75],
                [180, 160, 130],
                [160, 190, 215],
                [150, 40, 50],
            ],
        ),
        MaskType::Cloth => (
            0.4,
            &[
                [242, 242, 240],
                [240, 238, 230],
                [30, 40, 70],
                [45, 60, 100],
                [120, 45, 60],
                [90, 95, 105],
                [200, 190, 170],
            ],
            &[],
        ),
        MaskType::Black => (
            1.0,
            &[
                [22, 22, 24],
                [18, 18, 20],
                [24, 24, 30],
                [30, 29, 30],
                [40, 40, 46],
            ],
            &[],
        ),
    };
    let list = if random.chance(share) { common } else { others };
    let rgb = match list.get(random.below(list.len())) {
        Some(&rgb) if !random.chance(0.04) || mask == MaskType::Black => rgb,
        _ => return any_colour(random),
    };
    let strength = random.about(1.0, 0.1);
    paint(rgb).map(|c| (c * strength * random.about(1.0, 0.05)).clamp(0.004, 0.95))
}
