//! Blends colours into pixels of any format: the only part of the drawing code that knows their memory
//! layout.
//!
//! Everything to draw is passed as rows of coverage (0 = unchanged, 255 = full colour). Components
//! of full resolution are blended by the coverage of their pixel, subsampled ones by the mean
//! coverage of the pixels that share them.

use crate::frame::geometry::Rect;
use crate::frame::image::{Channel, ColorModel, Colorimetry, ImageViewMut};
use crate::frame::orientation::Orientation;

/// Red, green, blue, 0…255.
pub type Rgb = [u8; 3];

/// Pixels `x0 ≤ x < x1`, `y0 ≤ y < y1`; may reach beyond the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Area {
    pub x0: i64,
    pub y0: i64,
    pub x1: i64,
    pub y1: i64,
}

impl Area {
    /// A coordinate far outside of any frame, but without risk of overflow.
    const LIMIT: f32 = 1e7;

    pub fn new(x0: i64, y0: i64, width: i64, height: i64) -> Self {
        Self {
            x0,
            y0,
            x1: x0 + width,
            y1: y0 + height,
        }
    }

    /// The pixels nearest to a rectangle, at least one; `None` if it is not finite or has no
    /// size.
    pub fn from_rect(rect: &Rect) -> Option<Self> {
        let (right, bottom) = (rect.right(), rect.bottom());
        // A NaN fails each of these comparisons.
        let real = rect.is_finite() && right > rect.x && bottom > rect.y;
        if !real {
            return None;
        }
        let pixel = |v: f32| v.clamp(-Self::LIMIT, Self::LIMIT).round() as i64;
        let (x0, y0) = (pixel(rect.x), pixel(rect.y));
        Some(Self {
            x0,
            y0,
            x1: pixel(right).max(x0 + 1),
            y1: pixel(bottom).max(y0 + 1),
        })
    }

    pub fn width(&self) -> i64 {
        self.x1 - self.x0
    }

    pub fn height(&self) -> i64 {
        self.y1 - self.y0
    }

    pub fn is_empty(&self) -> bool {
        self.x0 >= self.x1 || self.y0 >= self.y1
    }

    pub fn intersection(&self, other: &Self) -> Self {
        Self {
            x0: self.x0.max(other.x0),
            y0: self.y0.max(other.y0),
            x1: self.x1.min(other.x1),
            y1: self.y1.min(other.y1),
        }
    }

    /// Number of pixels in both areas.
    pub fn overlap(&self, other: &Self) -> i64 {
        let both = self.intersection(other);
        both.width().max(0) * both.height().max(0)
    }

    /// The smallest area that contains both.
    pub fn union(&self, other: &Self) -> Self {
        Self {
            x0: self.x0.min(other.x0),
            y0: self.y0.min(other.y0),
            x1: self.x1.max(other.x1),
            y1: self.y1.max(other.y1),
        }
    }

    pub fn translated(&self, dx: i64, dy: i64) -> Self {
        Self {
            x0: self.x0 + dx,
            y0: self.y0 + dy,
            x1: self.x1 + dx,
            y1: self.y1 + dy,
        }
    }

    /// Converts an area of the upright image to the stored image, which has this size.
    pub fn stored(&self, orientation: Orientation, (width, height): (i64, i64)) -> Self {
        let (x, y) = orientation.turn_size((self.x0, self.y0));
        let (w, h) = orientation.turn_size((self.width(), self.height()));
        let x = if orientation.flip_x { width - x - w } else { x };
        let y = if orientation.flip_y {
            height - y - h
        } else {
            y
        };
        Self::new(x, y, w, h)
    }

    /// The area smaller by `by` pixels on each side; its centre if nothing would be left.
    pub fn shrunk(&self, by: i64) -> Self {
        let (x, y) = ((self.x0 + self.x1) / 2, (self.y0 + self.y1) / 2);
        Self {
            x0: (self.x0 + by).min(x),
            y0: (self.y0 + by).min(y),
            x1: (self.x1 - by).max(x),
            y1: (self.y1 - by).max(y),
        }
    }

    /// The area larger by `by` pixels on each side.
    pub fn grown(&self, by: i64) -> Self {
        Self {
            x0: self.x0 - by,
            y0: self.y0 - by,
            x1: self.x1 + by,
            y1: self.y1 + by,
        }
    }
}

/// Buffers of coverage, reused from frame to frame.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// Two adjacent rows, the upper one on an even line.
    rows: [Vec<u8>; 2],
    /// Means over the pixels that share a chroma sample.
    shared: Vec<u8>,
    /// Coverage of an area of an image that is not stored upright.
    upright: Vec<u8>,
}

/// A target to draw on.
pub(super) trait Surface {
    /// Blends a colour into `area`. `coverage(x, y, row)` writes the coverage of the pixels from
    /// (x, y) on, relative to the corner of `area`; it is called for pixels of the surface only.
    fn paint(&mut self, area: &Area, rgb: Rgb, coverage: impl FnMut(usize, usize, &mut [u8]));

    /// Blends a colour into the whole of `area`; `opacity` 255 replaces the previous colour.
    fn fill(&mut self, area: &Area, rgb: Rgb, opacity: u8) {
        self.paint(area, rgb, |_, _, row| row.fill(opacity));
    }

    /// Blends the band between `area` and `area` grown by `width` pixels.
    fn frame_around(&mut self, area: &Area, width: i64, rgb: Rgb, opacity: u8) {
        let (inner, outer) = (*area, area.grown(width));
        // Four strips that do not overlap: a translucent corner must not be blended twice.
        let top = Area {
            y1: inner.y0,
            ..outer
        };
        let bottom = Area {
            y0: inner.y1,
            ..outer
        };
        let left = Area {
            x0: outer.x0,
            x1: inner.x0,
            ..inner
        };
        let right = Area {
            x0: inner.x1,
            x1: outer.x1,
            ..inner
        };
        for strip in [top, bottom, left, right] {
            self.fill(&strip, rgb, opacity);
        }
    }
}

/// An image being drawn on.
pub(super) struct Canvas<'c, 'i> {
    image: &'c mut ImageViewMut<'i>,
    scratch: &'c mut Scratch,
    /// All pixels of the image, in upright coordinates.
    extent: Area,
    /// Position of the image in the frame that is drawn.
    origin: (i64, i64),
}

impl<'c, 'i> Canvas<'c, 'i> {
    /// `image` is the part of a frame whose upper left corner, in upright coordinates, is `origin`.
    pub fn new(
        image: &'c mut ImageViewMut<'i>,
        origin: (i64, i64),
        scratch: &'c mut Scratch,
    ) -> Self {
        let (width, height) = upright_size(image);
        Self {
            extent: Area::new(0, 0, width, height),
            image,
            scratch,
            origin,
        }
    }

    /// The samples of a colour, in the order of the format's components.
    fn samples(&self, rgb: Rgb) -> [u8; 3] {
        let info = self.image.info();
        match info.format.color_model() {
            ColorModel::Rgb => rgb,
            ColorModel::Yuv => info.colorimetry.from_rgb(rgb),
            ColorModel::Gray => Colorimetry {
                full_range: true,
                ..Colorimetry::default()
            }
            .from_rgb(rgb),
        }
    }

    /// Implements `paint` for pixels in stored orientation; `clip` is the part of `area` inside the image.
    fn paint_stored(
        &mut self,
        area: &Area,
        clip: &Area,
        rgb: Rgb,
        mut coverage: impl FnMut(usize, usize, &mut [u8]),
    ) {
        let samples = self.samples(rgb);
        // Subsampled components start on even columns and rows.
        let (left, top) = (clip.x0 & !1, clip.y0 & !1);
        let columns = (clip.x1 - left) as usize;
        let first = (clip.x0 - left) as usize;
        for row in &mut self.scratch.rows {
            row.resize(columns, 0);
        }
        for y in (top..clip.y1).step_by(2) {
            let mut blank = true;
            for (row, y) in self.scratch.rows.iter_mut().zip(y..) {
                row.fill(0);
                if (clip.y0..clip.y1).contains(&y) {
                    let (x, y) = (clip.x0 - area.x0, y - area.y0);
                    coverage(x as usize, y as usize, &mut row[first..]);
                    blank &= row.iter().all(|&c| c == 0);
                }
            }
            if !blank {
                self.blend_pair(left as usize, y as usize, samples);
            }
        }
    }

    /// Blends the two scratch rows into the lines `y` (even) and `y + 1`, from column `x` (even) on.
    fn blend_pair(&mut self, x: usize, y: usize, samples: [u8; 3]) {
        match self.image.info().format.color_model() {
            ColorModel::Rgb => self.blend_packed(x, y, samples),
            ColorModel::Yuv | ColorModel::Gray => self.blend_channels(x, y, samples),
        }
    }

    /// Blends into formats whose pixels interleave all components in one plane.
    fn blend_packed(&mut self, x: usize, y: usize, samples: [u8; 3]) {
        let info = *self.image.info();
        let channels = info.format.channels();
        // Bytes that hold no colour get a coverage of zero.
        let (mut color, mut lanes) = ([0; 4], [0; 4]);
        for (channel, sample) in channels.iter().zip(samples) {
            color[channel.offset] = sample;
            lanes[channel.offset] = 255;
        }
        let step = channels[0].step;
        let pixels = Channel {
            offset: 0,
            ..channels[0]
        };
        for (row, y) in self.scratch.rows.iter_mut().zip(y..info.height) {
            if let Some(alpha) = info.format.alpha() {
                cover_alpha(line(self.image, &alpha, x, y), step, row);
            }
            let line = line(self.image, &pixels, x, y);
            if step == 3 {
                let [a, b, c, _] = color;
                blend_pixels(line, row, [a, b, c], [255; 3]);
            } else {
                blend_pixels(line, row, color, lanes);
            }
        }
    }

    /// Blends into formats whose components are in separate planes or subsampled.
    fn blend_channels(&mut self, x: usize, y: usize, samples: [u8; 3]) {
        let info = *self.image.info();
        let Scratch { rows, shared, .. } = &mut *self.scratch;
        let channels = || info.format.channels().iter().zip(samples);
        for (row, y) in rows.iter().zip(y..info.height) {
            if channels().any(|(c, _)| c.shift_x > 0 && c.shift_y == 0) {
                share(&[row], info.width - x, shared);
            }
            for (channel, sample) in channels().filter(|(c, _)| c.shift_y == 0) {
                let coverage = if channel.shift_x > 0 { &*shared } else { row };
                let line = line(self.image, channel, x, y);
                blend(line, channel.step, coverage, sample);
            }
        }
        if channels().any(|(c, _)| c.shift_y > 0) {
            let [upper, lower] = &*rows;
            let both: [&[u8]; 2] = [upper, lower];
            // The last line of an odd height does not share its chroma.
            share(&both[..(info.height - y).min(2)], info.width - x, shared);
        }
        for (channel, sample) in channels().filter(|(c, _)| c.shift_y > 0) {
            let line = line(self.image, channel, x, y);
            blend(line, channel.step, shared, sample);
        }
    }
}

impl Surface for Canvas<'_, '_> {
    fn paint(&mut self, area: &Area, rgb: Rgb, mut coverage: impl FnMut(usize, usize, &mut [u8])) {
        let area = &area.translated(-self.origin.0, -self.origin.1);
        let clip = area.intersection(&self.extent);
        if clip.is_empty() {
            return;
        }
        let orientation = self.image.orientation();
        if orientation == Orientation::UPRIGHT {
            self.paint_stored(area, &clip, rgb, coverage);
            return;
        }
        // Coverage is computed upright first and then turned to the stored orientation.
        let (width, height) = (clip.width() as usize, clip.height() as usize);
        let mut upright = std::mem::take(&mut self.scratch.upright);
        upright.resize(width * height, 0);
        let (x, y) = ((clip.x0 - area.x0) as usize, (clip.y0 - area.y0) as usize);
        for (i, row) in upright.chunks_exact_mut(width).enumerate() {
            row.fill(0);
            coverage(x, y + i, row);
        }
        let info = self.image.info();
        let stored = clip.stored(orientation, (info.width as i64, info.height as i64));
        self.paint_stored(&stored, &stored, rgb, |x, y, row| {
            let (columns, rows) = orientation.turn_size((width, height));
            let y = if orientation.flip_y { rows - 1 - y } else { y };
            for (x, c) in (x..).zip(row) {
                let x = if orientation.flip_x {
                    columns - 1 - x
                } else {
                    x
                };
                let (x, y) = orientation.turn_size((x, y));
                *c = upright[y * width + x];
            }
        });
        self.scratch.upright = upright;
    }
}

/// Width and height of the upright image.
pub(super) fn upright_size(image: &ImageViewMut<'_>) -> (i64, i64) {
    let extent = |v: usize| i64::try_from(v).unwrap_or(i64::MAX);
    let info = image.info();
    image
        .orientation()
        .turn_size((extent(info.width), extent(info.height)))
}

/// The samples of one component, from pixel (x, y) on.
fn line<'a>(
    image: &'a mut ImageViewMut<'_>,
    channel: &Channel,
    x: usize,
    y: usize,
) -> &'a mut [u8] {
    let (data, stride) = image.plane_mut(channel.plane);
    let start = (y >> channel.shift_y) * stride + channel.offset;
    &mut data[start + (x >> channel.shift_x) * channel.step..]
}

/// `a·(255 − coverage)/255 + b·coverage/255`, rounded to the nearest.
#[inline(always)]
fn mix(a: u8, b: u8, coverage: u8) -> u8 {
    let c = u16::from(coverage);
    let t = u16::from(a) * (255 - c) + u16::from(b) * c + 128;
    // This equals t / 255 for every t that can occur, and is faster.
    ((t + (t >> 8)) >> 8) as u8
}

/// Blends `sample` into every `step`-th byte.
fn blend(line: &mut [u8], step: usize, coverage: &[u8], sample: u8) {
    let pixels = coverage.len();
    // Most drawn areas are plates and lines: checking for full coverage first avoids the arithmetic.
    let solid = coverage.iter().all(|&c| c == 255);
    match (step, solid) {
        (1, true) => line[..pixels].fill(sample),
        (_, true) => {
            let samples = line.iter_mut().step_by(step).take(pixels);
            samples.for_each(|d| *d = sample);
        }
        // A separate loop, which the compiler can vectorise.
        (1, false) => {
            for (d, &c) in line.iter_mut().zip(coverage) {
                *d = mix(*d, sample, c);
            }
        }
        (_, false) => {
            for (d, &c) in line.iter_mut().step_by(step).zip(coverage) {
                *d = mix(*d, sample, c);
            }
        }
    }
}

/// Blends `color` into pixels of N bytes. `lanes` is 255 for the bytes that hold colour, 0 for others.
fn blend_pixels<const N: usize>(line: &mut [u8], coverage: &[u8], color: [u8; N], lanes: [u8; N]) {
    let (pixels, _) = line.as_chunks_mut::<N>();
    for (pixel, &c) in pixels.iter_mut().zip(coverage) {
        if c > 0 {
            for ((d, &color), &lane) in pixel.iter_mut().zip(&color).zip(&lanes) {
                *d = mix(*d, color, c & lane);
            }
        }
    }
}

/// Makes pixels opaque by `coverage`, and converts the coverage to the weight of the drawn colour
/// in the result, so that the invisible colour of a transparent pixel does not show through.
fn cover_alpha(line: &mut [u8], step: usize, coverage: &mut [u8]) {
    for (alpha, c) in line.iter_mut().step_by(step).zip(coverage) {
        // Uncovered or already opaque pixels, which are by far the most, need no change.
        if *c == 0 || *alpha == 255 {
            continue;
        }
        let result = mix(*alpha, 255, *c);
        *alpha = result;
        // The weight is at least the coverage itself, since `result` ≤ 255.
        let weight = (u16::from(*c) * 255 + u16::from(result) / 2) / u16::from(result).max(1);
        *c = weight.min(255) as u8;
    }
}

/// Mean coverage of one or two rows by pairs of columns. `existing` is the number of columns up to the end of
/// the image: the last column of an odd width forms a pair of its own.
fn share(rows: &[&[u8]], existing: usize, out: &mut Vec<u8>) {
    let sum = |pair: &[u8]| pair.iter().map(|&c| u16::from(c)).sum::<u16>();
    out.clear();
    match rows {
        [one] => {
            let pairs = one.chunks_exact(2);
            out.extend(pairs.map(|p| sum(p).div_ceil(2) as u8));
        }
        [upper, lower] => {
            let pairs = upper.chunks_exact(2).zip(lower.chunks_exact(2));
            out.extend(pairs.map(|(p, q)| ((sum(p) + sum(q) + 2) / 4) as u8));
        }
        _ => {}
    }
    // The neighbour of the last column is either not drawn on or outside the image.
    let whole = 2 * out.len();
    let rest: u16 = rows.iter().map(|row| sum(&row[whole..])).sum();
    if rows.iter().any(|row| row.len() > whole) {
        let pixels = (rows.len() * (existing - whole).min(2)) as u16;
        out.push(((rest + pixels / 2) / pixels) as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixing_is_exact_at_the_ends_and_rounded_between() {
        for a in 0..=255u8 {
            for c in 0..=255u8 {
                let exact = f64::from(a) + (77.0 - f64::from(a)) * f64::from(c) / 255.0;
                // Ties cannot occur, because 255 is odd.
                assert_eq!(f64::from(mix(a, 77, c)), exact.round(), "{a} {c}");
            }
        }
    }

    #[test]
    fn shared_coverage_is_the_mean_of_the_pixels_that_exist() {
        let mut out = Vec::new();
        // (200 + 100 + 0 + 100) / 4; the third column has no neighbour: (40 + 60) / 2.
        share(&[&[200, 100, 40], &[0, 100, 60]], 3, &mut out);
        assert_eq!(out, [100, 50]);
        // With a fourth, uncovered column in the image: (40 + 60) / 4.
        share(&[&[200, 100, 40], &[0, 100, 60]], 4, &mut out);
        assert_eq!(out, [100, 25]);
    }

    #[test]
    fn half_covered_transparent_pixels_take_the_colour_unmixed() {
        // With alpha 0 nothing was visible, so the weight is full and alpha is the coverage.
        let (mut alpha, mut coverage) = ([0u8, 255, 0], [100u8, 100, 0]);
        cover_alpha(&mut alpha, 1, &mut coverage);
        assert_eq!(alpha, [100, 255, 0]);
        assert_eq!(coverage, [255, 100, 0]);
    }

    #[test]
    fn rectangles_that_are_not_real_are_no_area() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(Area::from_rect(&Rect::new(bad, 0.0, 1.0, 1.0)), None);
            assert_eq!(Area::from_rect(&Rect::new(0.0, 0.0, bad, 1.0)), None);
        }
        assert_eq!(Area::from_rect(&Rect::new(5.0, 5.0, -3.0, 3.0)), None);
        assert_eq!(Area::from_rect(&Rect::new(5.0, 5.0, 0.0, 3.0)), None);
        assert_eq!(
            Area::from_rect(&Rect::new(1.4, 1.6, 2.0, 0.1)),
            Some(Area::new(1, 2, 2, 1))
        );
        assert!(Area::from_rect(&Rect::new(-3e38, 0.0, 3e38, 3e38)).is_some());
    }
}
