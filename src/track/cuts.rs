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

/// How many pictures may lie between two of the same scene, or be blank in a row before they are taken for a dark scene.
const MOST_BETWEEN: u32 = 2;

/// Part of the standard deviation of the last picture that a blank one has at most.
const COLLAPSED: f32 = 0.25;

/// How a picture relates to those before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scene {
    /// It shows next to nothing where the last one showed something, as between the flashes of an infrared lamp.
    Blank,
    /// It goes on.
    Same,
    /// Another one begins.
    New,
    /// The one before the last cut goes on, at most two pictures after it.
    Back,
}

/// Compares each picture with those before.
#[derive(Debug, Default)]
pub struct Cuts {
    /// Of the last picture that is not flat; empty before the first one.
    last: Vec<f32>,
    now: Vec<f32>,
    /// Blank pictures in a row.
    blank: u32,
    /// Of the last picture before the last cut, and how many pictures of the new scene there have been.
    before_cut: Vec<f32>,
    since_cut: u32,
}

impl Cuts {
    /// How this picture relates to those before; the first one is the same scene. Light that changes for the whole
    /// picture, as by a flash, is no cut. Flat pictures are compared with no other: a face in the dark may be all that
    /// they show, and what was lit before may be lit again.
    pub fn compare(&mut self, view: &ImageView) -> Scene {
        thumbnail(view, &mut self.now);
        let flat = FLAT * FLAT * self.now.len() as f32;
        let deviation = deviation(&self.now).0;
        if deviation < flat {
            let is_collapsed = !self.last.is_empty()
                && deviation < COLLAPSED * COLLAPSED * self::deviation(&self.last).0;
            self.blank = self.blank.saturating_add(1);
            return if is_collapsed && self.blank <= MOST_BETWEEN {
                Scene::Blank
            } else {
                Scene::Same
            };
        }
        self.blank = 0;
        let scene = if self.last.is_empty() || is_same(&self.last, &self.now) {
            Scene::Same
        } else if !self.before_cut.is_empty()
            && self.since_cut <= MOST_BETWEEN
            && is_same(&self.before_cut, &self.now)
        {
            Scene::Back
        } else {
            Scene::New
        };
        if scene == Scene::Same {
            self.since_cut = self.since_cut.saturating_add(1);
        } else {
            std::mem::swap(&mut self.before_cut, &mut self.last);
            self.since_cut = 1;
        }
        std::mem::swap(&mut self.last, &mut self.now);
        scene
    }

    /// Forgets all pictures.
    pub fn reset(&mut self) {
        self.last.clear();
        self.before_cut.clear();
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

/// Sum of the squared differences from the mean, and the mean.
fn deviation(cells: &[f32]) -> (f32, f32) {
    let mean = cells.iter().sum::<f32>() / cells.len() as f32;
    let squares = cells.iter().map(|cell| (cell - mean) * (cell - mean));
    (squares.sum(), mean)
}

/// Whether two thumbnails correlate.
fn is_same(a: &[f32], b: &[f32]) -> bool {
    let ((aa, mean_a), (bb, mean_b)) = (deviation(a), deviation(b));
    let products = a.iter().zip(b).map(|(a, b)| (a - mean_a) * (b - mean_b));
    products.sum::<f32>() >= SAME_SCENE * (aa * bb).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDTH: usize = 160;
    const HEIGHT: usize = 90;

    fn compare(cuts: &mut Cuts, pixel: impl Fn(usize, usize) -> u8) -> Scene {
        let data: Vec<u8> = (0..HEIGHT * WIDTH)
            .flat_map(|i| [pixel(i % WIDTH, i / WIDTH); 3])
            .collect();
        cuts.compare(&ImageView::rgb(&data, WIDTH, HEIGHT).unwrap())
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
        for shift in 0..10 {
            assert_eq!(compare(&mut cuts, scene(0, 3 * shift)), Scene::Same);
        }
        assert_eq!(compare(&mut cuts, scene(2, 0)), Scene::New);
        assert_eq!(compare(&mut cuts, scene(2, 1)), Scene::Same);
    }

    #[test]
    fn a_flash_or_a_dark_picture_is_no_cut() {
        let mut cuts = Cuts::default();
        compare(&mut cuts, scene(0, 0));
        assert_eq!(
            compare(&mut cuts, |x, y| scene(0, 0)(x, y) / 2 + 120),
            Scene::Same
        );
        let dark = |x: usize, _: usize| 16 + (x % 2) as u8;
        for _ in 0..3 {
            assert_eq!(compare(&mut cuts, dark), Scene::Blank);
            assert_eq!(compare(&mut cuts, scene(0, 0)), Scene::Same);
        }
        // Darkness that lasts is looked at, for there may be faces in it.
        let scenes = [(); 4].map(|()| compare(&mut cuts, dark));
        assert_eq!(scenes[..2], [Scene::Blank; 2]);
        assert_eq!(scenes[2..], [Scene::Same; 2]);
        assert_eq!(compare(&mut cuts, scene(2, 0)), Scene::New);
    }

    #[test]
    fn a_scene_that_was_interrupted_is_back() {
        let mut cuts = Cuts::default();
        compare(&mut cuts, scene(0, 0));
        assert_eq!(compare(&mut cuts, scene(2, 0)), Scene::New);
        for _ in 0..4 {
            assert_eq!(compare(&mut cuts, scene(0, 0)), Scene::Back);
            assert_eq!(compare(&mut cuts, scene(2, 0)), Scene::Back);
        }
        // After a while it is a cut as any other.
        for _ in 0..3 {
            assert_eq!(compare(&mut cuts, scene(2, 0)), Scene::Same);
        }
        assert_eq!(compare(&mut cuts, scene(0, 0)), Scene::New);
    }

    #[test]
    fn after_a_reset_nothing_is_compared() {
        let mut cuts = Cuts::default();
        compare(&mut cuts, scene(0, 0));
        cuts.reset();
        assert_eq!(compare(&mut cuts, scene(2, 0)), Scene::Same);
    }

    #[test]
    fn the_smallest_pictures_have_thumbnails() {
        let mut cuts = Cuts::default();
        let view = ImageView::rgb(&[1, 2, 3], 1, 1).unwrap();
        assert_eq!(cuts.compare(&view), Scene::Same);
    }
}
