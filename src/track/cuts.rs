//! Scene cuts: when a picture has nothing to do with the one before.

use crate::frame::image::ImageView;

/// Cells of the thumbnail that pictures are compared by.
const COLUMNS: usize = 32;
const ROWS: usize = 18;
/// Samples of a cell, across and down: enough that fine texture in motion averages out.
const SAMPLES: usize = 4;

/// Correlation of the thumbnails below which a picture is a new scene. Neighbouring frames of the test
/// clips have .9 and more also in fast pans; pictures of different scenes mostly lie within ±.4.
const SAME_SCENE: f32 = 0.5;

/// Standard deviation of a thumbnail, 0…255, below which it shows nothing to compare.
const FLAT: f32 = 4.0;

/// Compares each picture with the one before.
#[derive(Debug, Default)]
pub struct Cuts {
    before: Vec<f32>,
    now: Vec<f32>,
}

impl Cuts {
    /// Whether this picture begins a new scene; never for the first one. Light that changes for the whole
    /// picture, as by a flash, is no cut.
    pub fn see(&mut self, view: &ImageView) -> bool {
        std::mem::swap(&mut self.before, &mut self.now);
        thumbnail(view, &mut self.now);
        self.before.len() == self.now.len() && !is_same(&self.before, &self.now)
    }

    /// Forgets the picture before.
    pub fn reset(&mut self) {
        self.now.clear();
    }
}

/// Mean brightness of the cells: luma, or green.
fn thumbnail(view: &ImageView, cells: &mut Vec<f32>) {
    let info = view.info();
    let channels = info.format.channels();
    // Of RGB, green says most about brightness; of YUV and grey, the first component is luma.
    let is_rgb = info.format.color_model() == crate::frame::image::ColorModel::Rgb;
    let channel = channels[usize::from(is_rgb)];
    let plane = view.plane(channel.plane);
    let place = |i: usize, of: usize, size: usize| (2 * i + 1) * size / (2 * of);
    cells.clear();
    cells.resize(COLUMNS * ROWS, 0.0);
    for row in 0..ROWS * SAMPLES {
        let line = place(row, ROWS * SAMPLES, info.height) * plane.stride + channel.offset;
        for column in 0..COLUMNS * SAMPLES {
            let x = place(column, COLUMNS * SAMPLES, info.width) * channel.step;
            cells[row / SAMPLES * COLUMNS + column / SAMPLES] += f32::from(plane.data[line + x]);
        }
    }
    for cell in cells {
        *cell /= (SAMPLES * SAMPLES) as f32;
    }
}

fn is_same(a: &[f32], b: &[f32]) -> bool {
    let count = a.len() as f32;
    let [mean_a, mean_b] = [a, b].map(|cells| cells.iter().sum::<f32>() / count);
    let (mut aa, mut bb, mut ab) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (a - mean_a, b - mean_b);
        aa += a * a;
        bb += b * b;
        ab += a * b;
    }
    let flat = FLAT * FLAT * count;
    match (aa < flat, bb < flat) {
        (false, false) => ab >= SAME_SCENE * (aa * bb).sqrt(),
        // Both show nothing, as before the first picture of a camera or while it is covered.
        (true, true) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDTH: usize = 160;
    const HEIGHT: usize = 90;

    fn see(cuts: &mut Cuts, pixel: impl Fn(usize, usize) -> u8) -> bool {
        let data: Vec<u8> = (0..HEIGHT * WIDTH)
            .flat_map(|i| [pixel(i % WIDTH, i / WIDTH); 3])
            .collect();
        cuts.see(&ImageView::rgb(&data, WIDTH, HEIGHT).unwrap())
    }

    /// Some scene: smooth shapes, another one for each number.
    fn scene(number: usize, shift: usize) -> impl Fn(usize, usize) -> u8 {
        move |x, y| {
            let (x, y) = ((x + shift) as f32, y as f32);
            let [a, b] = [0.05, 0.083].map(|f| f * (1.0 + number as f32));
            (128.0 + 60.0 * (x * a).sin() + 50.0 * (y * b + number as f32).cos()) as u8
        }
    }

    #[test]
    fn another_scene_is_a_cut_and_motion_is_none() {
        let mut cuts = Cuts::default();
        assert!(!see(&mut cuts, scene(0, 0)));
        for shift in 1..10 {
            assert!(!see(&mut cuts, scene(0, 3 * shift)));
        }
        assert!(see(&mut cuts, scene(2, 0)));
        assert!(!see(&mut cuts, scene(2, 1)));
    }

    #[test]
    fn a_flash_is_no_cut_and_darkness_begins_and_ends_with_one() {
        let mut cuts = Cuts::default();
        see(&mut cuts, scene(0, 0));
        assert!(!see(&mut cuts, |x, y| scene(0, 0)(x, y) / 2 + 120));
        assert!(see(&mut cuts, |_, _| 16));
        assert!(!see(&mut cuts, |x, _| 16 + (x % 2) as u8));
        assert!(see(&mut cuts, scene(0, 0)));
    }

    #[test]
    fn after_a_reset_nothing_is_compared() {
        let mut cuts = Cuts::default();
        see(&mut cuts, scene(0, 0));
        cuts.reset();
        assert!(!see(&mut cuts, scene(2, 0)));
    }

    #[test]
    fn the_smallest_pictures_have_thumbnails() {
        let mut cuts = Cuts::default();
        for _ in 0..2 {
            assert!(!cuts.see(&ImageView::rgb(&[1, 2, 3], 1, 1).unwrap()));
        }
    }
}
