//! Exposure of a face crop: an underexposed face is brightened before the networks see it.
//!
//! FaceNet was trained on well-lit photos and takes pixels as they are. In a twelfth of the light, a gallery of 150 people of
//! LFW names nobody of the 304 photos in which a face is found, and 286 of them rightly with brightened crops
//! (docs/accuracy.md). The face is measured and not the image, so that a face before a bright window counts as dark.

use crate::embed::INPUT_SIZE;

/// Level, 0…255, that the bright part of a dark face is raised to. The 872 probes of LFW have 112 or more, so that well-lit faces
/// stay as they are; 96, 128 and 180 name within 2 % as many dark faces.
const TARGET: f32 = 112.0;

/// Share of the pixels of a face that are darker than its bright part.
const PERCENTILE: f32 = 0.95;

/// Level below which there is nothing but noise: limits the gain to 28.
const DARKEST: f32 = 4.0;

/// Margin of the crop that is not measured, at each side: hair and what is behind the head.
const MARGIN: usize = INPUT_SIZE / 8;

/// Every pixel so many columns and rows apart is measured.
const STEP: usize = 2;

/// Brightens a crop, `[160, 160, 3]`, RGB, −1…1 for 0…255, in place if the face is dark: all levels are multiplied by one gain.
pub(super) fn correct(crop: &mut [f32]) {
    let gain = TARGET / bright_level(crop).max(DARKEST);
    if gain <= 1.0 {
        return;
    }
    for value in crop {
        let level = (*value * 128.0 + 127.5) * gain;
        *value = (level.min(255.0) - 127.5) / 128.0;
    }
}

/// The luma, 0…255, that [`PERCENTILE`] of the pixels in the middle of a crop do not exceed.
fn bright_level(crop: &[f32]) -> f32 {
    let inner = MARGIN..INPUT_SIZE - MARGIN;
    let mut counts = [0u32; 256];
    let rows = crop.chunks_exact(INPUT_SIZE * 3);
    for row in rows.take(inner.end).skip(inner.start).step_by(STEP) {
        let pixels = row[inner.start * 3..inner.end * 3].chunks_exact(3);
        for pixel in pixels.step_by(STEP) {
            let luma = 0.299 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2];
            // The cast saturates.
            counts[usize::from((luma * 128.0 + 127.5) as u8)] += 1;
        }
    }
    let most = counts.iter().sum::<u32>() as f32 * PERCENTILE;
    let mut darker = 0;
    let level = counts.iter().position(|count| {
        darker += count;
        darker as f32 >= most
    });
    level.unwrap_or(255) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A crop of a bright and a dark half, levels 0…255.
    fn crop(bright: f32, dark: f32) -> Vec<f32> {
        let level = |i: usize| {
            if i / 3 % INPUT_SIZE < INPUT_SIZE / 2 {
                bright
            } else {
                dark
            }
        };
        let values = (0..INPUT_SIZE * INPUT_SIZE * 3).map(|i| (level(i) - 127.5) / 128.0);
        values.collect()
    }

    fn level(value: f32) -> f32 {
        (value * 128.0 + 127.5).round()
    }

    #[test]
    fn a_dark_face_is_brightened_and_keeps_its_contrast() {
        let mut dark = crop(20.0, 5.0);
        correct(&mut dark);
        assert_eq!(level(dark[0]), 112.0);
        assert_eq!(level(dark[INPUT_SIZE * 3 - 1]), 28.0);
    }

    #[test]
    fn a_well_lit_face_stays_as_it_is_bit_by_bit() {
        let bright = crop(112.0, 10.0);
        let mut corrected = bright.clone();
        correct(&mut corrected);
        assert_eq!(corrected, bright);
    }

    #[test]
    fn what_is_bright_at_the_margin_does_not_count() {
        let mut framed = crop(20.0, 20.0);
        let width = INPUT_SIZE * 3;
        framed[..MARGIN * width].fill(1.0);
        correct(&mut framed);
        assert_eq!(level(framed[INPUT_SIZE / 2 * width]), 112.0);
        assert!(framed.iter().all(|value| *value <= 1.0));
    }

    #[test]
    fn black_stays_black_and_the_noise_of_darkness_dark() {
        let mut black = crop(0.0, 0.0);
        correct(&mut black);
        assert_eq!(level(black[0]), 0.0);
        let mut noise = crop(1.0, 0.0);
        correct(&mut noise);
        assert_eq!(level(noise[0]), 28.0);
    }
}
