//! The image at falling sizes, so that P-Net's window of 12 pixels meets faces of every size.

use super::boxes::CELL;
use crate::geometry::Rect;
use crate::image::ImageView;
use crate::resize::{Border, Filter, Layout, Resize, Resizer};

/// The size of one pyramid level.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Level {
    /// Pixels of the level per pixel of the image.
    pub scale: f64,
    pub width: usize,
    pub height: usize,
}

/// The levels for faces of at least `min_face` pixels in `width`×`height` pixels, finest first;
/// none where not even the smallest face fits.
pub fn levels(width: f32, height: f32, min_face: f32, factor: f32) -> Vec<Level> {
    let mut levels = Vec::new();
    let mut scale = CELL / f64::from(min_face);
    let shortest = f64::from(width.min(height));
    while shortest * scale >= CELL {
        levels.push(Level {
            scale,
            width: (f64::from(width) * scale).ceil() as usize,
            height: (f64::from(height) * scale).ceil() as usize,
        });
        scale *= f64::from(factor);
    }
    levels
}

/// A region of an image halved again and again. Coarse levels are made from these instead of from
/// the full image, for a fraction of the reading; since each level is still at least halved, the
/// difference is a fraction of a grey value.
#[derive(Debug, Default)]
pub struct Pyramid {
    /// 8-bit RGB, halved once, twice, …
    halves: Vec<Half>,
    /// How many of `halves` belong to the present image.
    valid: usize,
}

#[derive(Debug, Default)]
struct Half {
    data: Vec<u8>,
    width: usize,
    height: usize,
}

impl Half {
    fn fill(&mut self, view: &ImageView, region: Rect, resizer: &mut Resizer) {
        self.width = (region.width / 2.0).ceil() as usize;
        self.height = (region.height / 2.0).ceil() as usize;
        let resize = Resize {
            source: Rect::new(
                region.x,
                region.y,
                self.width as f32 * 2.0,
                self.height as f32 * 2.0,
            ),
            width: self.width,
            height: self.height,
            filter: Filter::Area,
            border: Border::Ignore,
        };
        resizer.rgb8(view, &resize, &mut self.data);
    }
}

impl Pyramid {
    /// Forgets the image before. Memory is kept.
    pub fn start(&mut self) {
        self.valid = 0;
    }

    /// Writes one level of `region` as the input of P-Net, columns first.
    pub fn level(
        &mut self,
        view: &ImageView,
        region: Rect,
        level: &Level,
        resizer: &mut Resizer,
        out: &mut [f32],
    ) {
        let mut resize = Resize {
            source: region,
            width: level.width,
            height: level.height,
            filter: Filter::Area,
            border: Border::Ignore,
        };
        // As often as the level stays at most half as large as what it is made from.
        let halvings = (1.0 / level.scale).log2().floor() as usize;
        let halvings = if std::env::var("NOMIP").is_ok() {
            0
        } else {
            halvings.saturating_sub(1)
        };
        self.halve(view, region, halvings, resizer);
        let source = halvings.checked_sub(1).and_then(|i| self.halves.get(i));
        let Some((half, part)) = source.and_then(|half| {
            let part = ImageView::rgb(&half.data, half.width, half.height).ok()?;
            Some((half, part))
        }) else {
            resizer.tensor(view, &resize, Layout::Columns, out);
            return;
        };
        let shrink = 0.5f32.powi(halvings as i32);
        resize.source = Rect::new(0.0, 0.0, region.width * shrink, region.height * shrink);
        debug_assert!(resize.source.width <= half.width as f32);
        resizer.tensor(&part, &resize, Layout::Columns, out);
    }

    fn halve(&mut self, view: &ImageView, region: Rect, count: usize, resizer: &mut Resizer) {
        while self.valid < count {
            if self.halves.len() == self.valid {
                self.halves.push(Half::default());
            }
            let (before, from) = self.halves.split_at_mut(self.valid);
            match before.last() {
                None => from[0].fill(view, region, resizer),
                Some(last) => {
                    let Ok(view) = ImageView::rgb(&last.data, last.width, last.height) else {
                        return;
                    };
                    let whole = Rect::new(0.0, 0.0, last.width as f32, last.height as f32);
                    from[0].fill(&view, whole, resizer);
                }
            }
            self.valid += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_shrink_by_the_factor_until_the_window_no_longer_fits() {
        let levels = levels(640.0, 480.0, 40.0, 0.709);
        // 12/40 = .3; 480·.3 = 144; 144·.709ⁿ ≥ 12 up to n = 7.
        assert_eq!(levels.len(), 8);
        assert_eq!((levels[0].width, levels[0].height), (192, 144));
        // 640·.3·.709 = 136.1, 480·.3·.709 = 102.1, both rounded up.
        assert_eq!((levels[1].width, levels[1].height), (137, 103));
    }

    #[test]
    fn an_image_smaller_than_the_smallest_face_has_no_levels() {
        assert!(levels(39.0, 500.0, 40.0, 0.709).is_empty());
        assert_eq!(levels(40.0, 500.0, 40.0, 0.709).len(), 1);
    }

    #[test]
    fn a_level_made_from_halves_equals_one_made_from_the_image() {
        let (width, height) = (301, 203);
        let data: Vec<u8> = (0..width * height * 3)
            .map(|i| ((i / 3 % width) * 2 / 3 + (i / 3 / width) / 4 + i % 3 * 3) as u8)
            .collect();
        let view = ImageView::rgb(&data, width, height).unwrap();
        let region = Rect::new(1.0, 2.0, 300.0, 201.0);
        let level = Level {
            scale: 0.11,
            width: 33,
            height: 23,
        };
        let (mut ours, mut direct) = (vec![0.0; 33 * 23 * 3], vec![0.0; 33 * 23 * 3]);
        let mut resizer = Resizer::default();
        let mut pyramid = Pyramid::default();
        pyramid.start();
        pyramid.level(&view, region, &level, &mut resizer, &mut ours);
        assert_eq!(pyramid.valid, 2);
        let resize = Resize {
            source: region,
            width: 33,
            height: 23,
            filter: Filter::Area,
            border: Border::Ignore,
        };
        resizer.tensor(&view, &resize, Layout::Columns, &mut direct);
        for (a, b) in ours.iter().zip(&direct) {
            // Two roundings to 8 bits and a smooth picture: under two grey values of 128.
            assert!((a - b).abs() < 2.0 / 128.0, "{a} {b}");
        }
    }
}
