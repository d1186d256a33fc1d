//! Image pyramid: decreasing sizes, so that P-Net's window of 12 pixels matches faces of every size.

use super::boxes::CELL;
use crate::frame::geometry::Rect;
use crate::frame::resize::{Border, Filter, Resize};

/// The size of one pyramid level.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Level {
    /// Pixels of the level per pixel of the image.
    pub scale: f64,
    pub width: usize,
    pub height: usize,
}

/// The levels for faces of at least `min_face` pixels in an image of `width`×`height` pixels, finest first; none if not
/// even the smallest face fits.
pub fn levels(
    width: f32,
    height: f32,
    min_face: f32,
    factor: f32,
) -> impl Iterator<Item = Level> + Clone {
    let shortest = f64::from(width.min(height));
    let finest = CELL / f64::from(min_face);
    std::iter::successors(Some(finest), move |scale| Some(scale * f64::from(factor)))
        .take_while(move |scale| shortest * scale >= CELL)
        .map(move |scale| Level {
            scale,
            width: (f64::from(width) * scale).ceil() as usize,
            height: (f64::from(height) * scale).ceil() as usize,
        })
}

impl Level {
    /// Resampling parameters of this level, from a region of the image or of a mipmap level with this scale.
    pub fn resize(&self, region: Rect, size: f32) -> Resize {
        Resize {
            source: region.resized(size),
            width: self.width,
            height: self.height,
            filter: Filter::Area,
            border: Border::Ignore,
        }
    }

    /// Pixels of the image per pixel of this level, along each side.
    pub fn cell(&self) -> f32 {
        (1.0 / self.scale) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_shrink_by_the_factor_until_the_window_no_longer_fits() {
        let levels: Vec<_> = levels(640.0, 480.0, 40.0, 0.709).collect();
        // 12/40 = .3; 480·.3 = 144; 144·.709ⁿ ≥ 12 up to n = 7.
        assert_eq!(levels.len(), 8);
        assert_eq!((levels[0].width, levels[0].height), (192, 144));
        // 640·.3·.709 = 136.1, 480·.3·.709 = 102.1, both rounded up.
        assert_eq!((levels[1].width, levels[1].height), (137, 103));
    }

    #[test]
    fn an_image_smaller_than_the_smallest_face_has_no_levels() {
        assert_eq!(levels(39.0, 500.0, 40.0, 0.709).count(), 0);
        assert_eq!(levels(40.0, 500.0, 40.0, 0.709).count(), 1);
    }
}
