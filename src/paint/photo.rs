//! Reads a photo's pixels: spots, neighbourhoods and rows.

use super::fit::Pose;
use super::maths::Vec3;

/// Packed 8-bit RGB.
#[derive(Debug, Clone, Copy)]
pub struct Photo<'p> {
    pub rgb: &'p [u8],
    pub width: usize,
    pub height: usize,
}

/// Square of a stored value; see [`super::light`].
pub fn intensity(v: u8) -> f32 {
    let v = f32::from(v) / 255.0;
    v * v
}

impl Photo<'_> {
    fn pixel(&self, x: usize, y: usize) -> Option<[u8; 3]> {
        if x >= self.width {
            return None;
        }
        let at = (y.checked_mul(self.width)?.checked_add(x)?).checked_mul(3)?;
        self.rgb.get(at..at + 3)?.try_into().ok()
    }

    /// Mean intensity of a few pixels within `radius` of a point; `None` outside the photo.
    pub fn mean(&self, at: [f32; 2], radius: f32) -> Option<Vec3> {
        const STEPS: i32 = 2;
        let mut sum = [0.0; 3];
        let mut count = 0.0;
        for dy in -STEPS..=STEPS {
            for dx in -STEPS..=STEPS {
                let x = at[0] + radius * dx as f32 / STEPS as f32;
                let y = at[1] + radius * dy as f32 / STEPS as f32;
                if x < 0.0 || y < 0.0 {
                    continue;
                }
                if let Some(pixel) = self.pixel(x as usize, y as usize) {
                    for (sum, v) in sum.iter_mut().zip(pixel) {
                        *sum += intensity(v);
                    }
                    count += 1.0;
                }
            }
        }
        (count > 0.0).then(|| sum.map(|v| v / count))
    }

    /// Intensities on a grid within `radius` of a point, at most 1,024 of them.
    pub fn around(&self, at: Vec3, radius: f32) -> Vec<Vec3> {
        const STEPS: i32 = 16;
        let mut colours = Vec::new();
        for dy in -STEPS..STEPS {
            for dx in -STEPS..STEPS {
                let x = at[0] + radius * (dx as f32 + 0.5) / STEPS as f32;
                let y = at[1] + radius * (dy as f32 + 0.5) / STEPS as f32;
                if x >= 0.0
                    && y >= 0.0
                    && let Some(pixel) = self.pixel(x as usize, y as usize)
                {
                    colours.push(pixel.map(intensity));
                }
            }
        }
        colours
    }

    /// Up to 64 rows of the face from the brows to the mouth, as stored green values 0…1, each of
    /// at most 256 pixels.
    pub fn rows_of_face(&self, pose: &Pose, mut look: impl FnMut(&[f32])) {
        let [x, y, _] = pose.project([0.0, 0.45, 0.2]);
        let reach = pose.scale * 0.75;
        let first = (x - reach.min(128.0)).max(0.0) as usize;
        let end = ((x + reach.min(128.0)).max(0.0) as usize).min(self.width);
        let mut row = Vec::with_capacity(256);
        for i in 0..64 {
            let line = y + reach * (i as f32 / 32.0 - 1.0);
            // In small faces several of these lines fall on the same row, which is used once.
            if line < 0.0 || (i > 0 && line as usize == (line - reach / 32.0).max(0.0) as usize) {
                continue;
            }
            row.clear();
            row.extend(
                (first..end)
                    .map_while(|x| self.pixel(x, line as usize))
                    .map(|p| f32::from(p[1]) / 255.0),
            );
            look(&row);
        }
    }
}
