//! Resamples a rectangle of an image, in any pixel format, to the RGB input of a network in one step.
//!
//! The planes are resampled in their own format, and only the few pixels of the result are converted to RGB. The
//! vertical pass comes first, because it reads memory in order whatever the format interleaves, and leaves little for
//! the second.

mod axis;

use std::ops::Range;

use axis::Axis;
use pulp::{Arch, Simd, WithSimd};

use crate::frame::geometry::Rect;
use crate::frame::image::{Channel, ColorModel, ImageView, Plane};
use crate::frame::orientation::Orientation;

/// How the source pixels of an output pixel are weighted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// Weights each pixel by its covered area, like OpenCV's `INTER_AREA`.
    Area,
    /// Bilinear between pixel centres; when downscaling, a triangle filter two output pixels wide, which avoids
    /// aliasing.
    Linear,
}

/// Number of columns that are transposed together.
const TURNED: usize = 8;

/// Treatment of the area outside the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Border {
    /// Pixels outside are black.
    Black,
    /// Only the pixels of the image are weighted.
    Ignore,
}

/// Order of the dimensions of a tensor. The channels, red, green and blue, come last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Row-major, `[height, width, 3]`.
    Rows,
    /// Column-major, `[width, height, 3]`, which the MTCNN networks of this project expect.
    Columns,
}

/// Parameters of a resampling.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Resize {
    /// Source rectangle in pixels, which may extend beyond the image.
    pub source: Rect,
    /// Width of the result in pixels.
    pub width: usize,
    /// Height of the result in pixels.
    pub height: usize,
    pub filter: Filter,
    pub border: Border,
}

/// 1.5 · 2²³: adding and subtracting it rounds a small f32 to an integer, and unlike a call of `round` takes two
/// instructions on every CPU.
const ROUND: f32 = 12_582_912.0;

/// Rounds to integer values, like the pixels of training images and the 8-bit crops of enrolment.
#[inline(always)]
fn round(value: f32) -> f32 {
    value + ROUND - ROUND
}

/// Normalises 0…255 to about −1…1.
#[inline(always)]
fn normalise(value: f32) -> f32 {
    (value - 127.5) * (1.0 / 128.0)
}

/// Resamples images; owns scratch memory, which is reused from call to call.
#[derive(Debug, Default)]
pub struct Resizer {
    /// Horizontal weights for each component.
    columns: [Axis; 3],
    /// Vertical weights for each component.
    rows: [Axis; 3],
    /// One output row of a plane after the vertical pass, interleaved like the plane.
    blended: Vec<f32>,
    /// One output row after the vertical pass, by component.
    lines: [Vec<f32>; 3],
    /// The result in the stored orientation, by component.
    components: [Vec<f32>; 3],
    /// The result in upright orientation, if the image is not stored upright.
    upright: [Vec<f32>; 3],
}

impl Resizer {
    /// Writes `(value − 127.5) / 128`, value in 0…255, in RGB order: the normalisation of both MTCNN and FaceNet (their
    /// model cards). `out` must have width·height·3 elements.
    pub fn tensor(&mut self, view: &ImageView, resize: &Resize, layout: Layout, out: &mut [f32]) {
        debug_assert_eq!(out.len(), resize.width * resize.height * 3);
        let walk = self.sample(view, resize, 0..resize.height);
        let [r, g, b] = &self.components;
        let rgb = |i: usize| [r[i], g[i], b[i]].map(normalise);
        // Size of the inner dimension of the layout, and index steps along both dimensions.
        let (inner, along, across) = match layout {
            Layout::Rows => (resize.width, walk.x, walk.y),
            Layout::Columns => (resize.height, walk.y, walk.x),
        };
        for (i, line) in out.chunks_exact_mut(inner * 3).enumerate() {
            let start = walk.start.wrapping_add_signed(across * i as isize);
            for (k, pixel) in line.chunks_exact_mut(3).enumerate() {
                pixel.copy_from_slice(&rgb(start.wrapping_add_signed(along * k as isize)));
            }
        }
    }

    /// Returns planes of red, green and blue, 0…255 and rounded, row-major, for the rows `rows` of the result.
    pub fn planes(&mut self, view: &ImageView, resize: &Resize, rows: Range<usize>) -> [&[f32]; 3] {
        let (width, height) = (resize.width, rows.len());
        let walk = self.sample(view, resize, rows);
        if walk == Walk::new(Orientation::UPRIGHT, width, height) {
            return self.components.each_ref().map(Vec::as_slice);
        }
        for (upright, stored) in self.upright.iter_mut().zip(&self.components) {
            upright.resize(width * height, 0.0);
            walk.follow(stored, width, upright);
        }
        self.upright.each_ref().map(Vec::as_slice)
    }

    /// Writes packed 8-bit RGB, rounded.
    pub fn rgb8(&mut self, view: &ImageView, resize: &Resize, out: &mut Vec<u8>) {
        let walk = self.sample(view, resize, 0..resize.height);
        let [r, g, b] = &self.components;
        out.resize(resize.width * resize.height * 3, 0);
        for (y, line) in out.chunks_exact_mut(resize.width * 3).enumerate() {
            let start = walk.start.wrapping_add_signed(walk.y * y as isize);
            for (x, pixel) in line.chunks_exact_mut(3).enumerate() {
                let i = start.wrapping_add_signed(walk.x * x as isize);
                pixel.copy_from_slice(&[r[i], g[i], b[i]].map(|v| v as u8));
            }
        }
    }

    /// Fills `components` with red, green and blue, 0…255 and rounded, in the stored orientation, for the rows `part`
    /// of the upright image. Returns the index steps for reading them in upright orientation.
    fn sample(&mut self, view: &ImageView, resize: &Resize, part: Range<usize>) -> Walk {
        let info = view.info();
        let orientation = view.orientation();
        let size = (info.width as f32, info.height as f32);
        let (width, height) = orientation.turn_size((resize.width, resize.height));
        let stored = Resize {
            source: orientation.rect_to_stored(resize.source, size),
            width,
            height,
            ..*resize
        };
        let window = Window::of(&part, resize, orientation);
        let black = match (info.format.color_model(), info.colorimetry.full_range) {
            (ColorModel::Yuv, true) => [0.0, 128.0, 128.0],
            (ColorModel::Yuv, false) => [16.0, 128.0, 128.0],
            _ => [0.0; 3],
        };
        for component in &mut self.components {
            component.resize(window.columns.len() * window.rows.len(), 0.0);
        }
        // Channels of one plane are adjacent in the list and read together.
        let mut from = 0;
        for channels in info.format.channels().chunk_by(|a, b| a.plane == b.plane) {
            self.sample_plane(view, &stored, &window, channels, from, &black[from..]);
            from += channels.len();
        }
        Arch::new().dispatch(ToRgb {
            components: &mut self.components,
            view,
        });
        Walk::new(orientation, window.columns.len(), window.rows.len())
    }

    /// Resamples the channels of one plane into the components from index `first` on.
    fn sample_plane(
        &mut self,
        view: &ImageView,
        resize: &Resize,
        window: &Window,
        channels: &[Channel],
        first: usize,
        black: &[f32],
    ) {
        let Self {
            columns,
            rows,
            blended,
            lines,
            components,
            ..
        } = self;
        let Some(leader) = channels.first() else {
            return;
        };
        let plane = view.plane(leader.plane);
        let rows = &mut rows[first];
        rows.plan_rows(view, resize, leader, &window.rows);
        let width = window.columns.len();
        for (i, channel) in channels.iter().enumerate() {
            // Y of YUY2 has other columns than U and V; channels with the same subsampling share one pass over
            // the rows.
            if i > 0 && channel.shift_x == channels[i - 1].shift_x {
                continue;
            }
            let alike = channels[i..]
                .iter()
                .take_while(|c| c.shift_x == channel.shift_x)
                .count();
            let group = &channels[i..i + alike];
            let columns = &mut columns[first + i];
            columns.plan_columns(view, resize, channel, &window.columns);
            let samples = columns.samples();
            let bytes = bytes_of(group, &samples);
            // One more sample ensures that the last one is complete for every component.
            blended.resize((samples.len() + 1) * channel.step, 0.0);
            // The padding is read with a weight of 0.
            for line in &mut lines[..alike] {
                line.clear();
                line.resize(samples.len() + columns.width, 0.0);
            }
            for y in 0..window.rows.len() {
                Arch::new().dispatch(BlendRows {
                    axis: rows,
                    y,
                    plane,
                    bytes: &bytes,
                    channels: group,
                    blended,
                    lines: &mut lines[..alike],
                });
                for (k, line) in lines[..alike].iter().enumerate() {
                    columns.blend_columns(
                        line,
                        rows.spans[y].sum,
                        black[i + k],
                        &mut components[first + i + k][y * width..][..width],
                    );
                }
            }
        }
    }
}

/// The byte range of a row that contains these samples of the channels.
fn bytes_of(channels: &[Channel], samples: &Range<usize>) -> Range<usize> {
    if samples.is_empty() {
        return 0..0;
    }
    let low = channels.iter().map(|c| c.offset + samples.start * c.step);
    let high = channels
        .iter()
        .map(|c| c.offset + (samples.end - 1) * c.step + 1);
    low.min().unwrap_or(0)..high.max().unwrap_or(0)
}

/// Converts components in the stored format to rounded red, green and blue, with the widest vectors of the CPU.
struct ToRgb<'a> {
    components: &'a mut [Vec<f32>; 3],
    view: &'a ImageView<'a>,
}

impl WithSimd for ToRgb<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let info = self.view.info();
        let [a, b, c] = self.components;
        match info.format.color_model() {
            ColorModel::Rgb => {
                for component in [a, b, c] {
                    for value in component {
                        *value = round(*value);
                    }
                }
            }
            ColorModel::Gray => {
                for value in &mut *a {
                    *value = round(*value);
                }
                b.copy_from_slice(a);
                c.copy_from_slice(a);
            }
            ColorModel::Yuv => {
                let matrix = info.colorimetry.to_rgb();
                for ((y, u), v) in a.iter_mut().zip(b).zip(c) {
                    let [red, green, blue] = matrix.apply(*y, *u, *v);
                    (*y, *u, *v) = (round(red), round(green), round(blue));
                }
            }
        }
    }
}

/// The requested part of the result, in the stored orientation.
struct Window {
    columns: Range<usize>,
    rows: Range<usize>,
}

impl Window {
    /// Converts the rows `part` of the upright result.
    fn of(part: &Range<usize>, resize: &Resize, orientation: Orientation) -> Self {
        let (width, height) = (resize.width, resize.height);
        let all = Rect::new(0.0, part.start as f32, width as f32, part.len() as f32);
        let size = orientation.turn_size((width as f32, height as f32));
        let stored = orientation.rect_to_stored(all, size);
        let range = |start: f32, length: f32| start as usize..(start + length) as usize;
        Self {
            columns: range(stored.x, stored.width),
            rows: range(stored.y, stored.height),
        }
    }
}

/// Index steps from one pixel of the upright image to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Walk {
    /// Index of the upper left pixel.
    start: usize,
    /// Step of one pixel to the right.
    x: isize,
    /// Step of one pixel down.
    y: isize,
}

impl Walk {
    /// Steps through `width`×`height` stored pixels.
    fn new(orientation: Orientation, width: usize, height: usize) -> Self {
        let row = width as isize;
        let (x, y) = (
            if orientation.flip_x { -1 } else { 1 },
            if orientation.flip_y { -row } else { row },
        );
        let right = if orientation.flip_x {
            width.saturating_sub(1)
        } else {
            0
        };
        let bottom = if orientation.flip_y {
            height.saturating_sub(1)
        } else {
            0
        };
        let (x, y) = orientation.turn_size((x, y));
        Self {
            start: bottom * width + right,
            x,
            y,
        }
    }
}

impl Walk {
    /// Copies pixels in upright order to rows of `width`.
    fn follow(&self, stored: &[f32], width: usize, upright: &mut [f32]) {
        if upright.is_empty() {
            return;
        }
        let height = upright.len() / width;
        let at = |x: usize, y: usize| {
            let steps = self.x * x as isize + self.y * y as isize;
            self.start.wrapping_add_signed(steps)
        };
        if self.x.abs() == 1 {
            for (y, to) in upright.chunks_exact_mut(width).enumerate() {
                let first = at(0, y).min(at(width - 1, y));
                to.copy_from_slice(&stored[first..][..width]);
                if self.x < 0 {
                    to.reverse();
                }
            }
            return;
        }
        // Columns of the upright image are stored as rows. Several adjacent ones are copied together so that whole
        // cache lines are written.
        for left in (0..width).step_by(TURNED) {
            let columns = TURNED.min(width - left);
            let runs: [&[f32]; TURNED] = std::array::from_fn(|i| {
                let x = left + i.min(columns - 1);
                &stored[at(x, 0).min(at(x, height - 1))..][..height]
            });
            for y in 0..height {
                let from = if self.y < 0 { height - 1 - y } else { y };
                let to = &mut upright[y * width + left..][..columns];
                match <&mut [f32; TURNED]>::try_from(&mut *to) {
                    Ok(to) => *to = std::array::from_fn(|i| runs[i][from]),
                    Err(_) => to
                        .iter_mut()
                        .zip(runs)
                        .for_each(|(to, run)| *to = run[from]),
                }
            }
        }
    }
}

/// Computes the weighted sum of the source rows of output row `y`, by component, with the widest vectors of the CPU.
struct BlendRows<'a> {
    axis: &'a Axis,
    y: usize,
    plane: Plane<'a>,
    bytes: &'a Range<usize>,
    channels: &'a [Channel],
    blended: &'a mut [f32],
    lines: &'a mut [Vec<f32>],
}

impl WithSimd for BlendRows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Some(step) = self.channels.first().map(|c| c.step) else {
            return;
        };
        let blended = match &mut *self.lines {
            [line] if step == 1 => &mut line[..self.bytes.len()],
            _ => &mut self.blended[..self.bytes.len()],
        };
        let span = self.axis.spans[self.y];
        let plane = self.plane;
        let row = |i: usize| &plane.data[(span.first + i) * plane.stride..][self.bytes.clone()];
        let weights = &self.axis.weights[span.weights..][..span.count];
        blended.fill(0.0);
        // Four rows at a time, so that the sums are read and written only a quarter as often.
        let mut i = 0;
        for w in weights.chunks_exact(4) {
            let rows = row(i)
                .iter()
                .zip(row(i + 1))
                .zip(row(i + 2))
                .zip(row(i + 3));
            for (sum, (((a, b), c), d)) in blended.iter_mut().zip(rows) {
                *sum += w[0] * f32::from(*a)
                    + w[1] * f32::from(*b)
                    + w[2] * f32::from(*c)
                    + w[3] * f32::from(*d);
            }
            i += 4;
        }
        for (w, i) in weights.chunks_exact(4).remainder().iter().zip(i..) {
            for (sum, sample) in blended.iter_mut().zip(row(i)) {
                *sum += w * f32::from(*sample);
            }
        }
        let first = self.channels.iter().map(|c| c.offset).min().unwrap_or(0);
        for (channel, line) in self.channels.iter().zip(self.lines) {
            let samples = &self.blended[(channel.offset - first).min(self.blended.len())..];
            // With a constant step the compiler deinterleaves the samples by shuffles.
            match step {
                1 => {}
                2 => every::<2>(samples, line),
                3 => every::<3>(samples, line),
                _ => every::<4>(samples, line),
            }
        }
    }
}

/// Copies the first of every `STEP` samples.
#[inline(always)]
fn every<const STEP: usize>(samples: &[f32], out: &mut [f32]) {
    for (out, sample) in out.iter_mut().zip(samples.as_chunks::<STEP>().0) {
        *out = sample[0];
    }
}

#[cfg(test)]
mod tests;
