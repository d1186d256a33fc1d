//! Mipmap of an image: small outputs are resampled from an image that is already scaled down.
//!
//! Each half-size level has the format of the image and is computed from the level before as means of 2 × 2 samples, so
//! that a 4K frame is read once, however many sizes of it are needed.

use std::sync::Mutex;

use crate::frame::image::{Channel, ImageInfo, ImageView, Plane};
use crate::threads::{lock, share};

/// Minimum number of level pixels per output pixel, along each side. With 1.5 the detector missed one face in a
/// hundred, with 4 it finds the same faces as without a mipmap (Face Mask Detection, WIDER FACE).
const LEAST_CELL: f32 = 4.0;

/// Number of bands into which each plane of a level is divided between threads.
const BANDS: usize = 4;
/// Maximum number of planes of a format.
const PLANES: usize = 3;
/// Minimum number of pixels of a level for more than one thread: smaller ones are hardly worth waking a thread.
const SHARED: usize = 200_000;

/// The half-size levels of one image. The memory is reused for the next image.
#[derive(Debug, Default)]
pub struct Mipmap {
    halves: Vec<Half>,
    /// Number of levels that belong to the current image.
    made: usize,
}

#[derive(Debug, Default)]
struct Half {
    info: Option<ImageInfo>,
    planes: [Vec<u8>; PLANES],
}

/// Rows of a plane, from `first` on, that are to be computed.
#[derive(Default)]
struct Band<'a> {
    plane: usize,
    first: usize,
    out: &'a mut [u8],
}

impl Mipmap {
    /// Discards the levels, for a new image.
    pub fn reset(&mut self) {
        self.made = 0;
    }

    /// Computes the levels that [`smallest`](Self::smallest) returns for cells of up to `cell` pixels, on up to
    /// `threads` threads.
    pub fn make(&mut self, view: &ImageView, cell: f32, threads: usize) {
        for number in self.made..halvings(view, cell) {
            if self.halves.len() == number {
                self.halves.push(Half::default());
            }
            let (before, rest) = self.halves.split_at_mut(number);
            let source = before.last().and_then(|h| h.view(view));
            rest[0].fill(&source.unwrap_or(*view), threads);
            self.made = number + 1;
        }
    }

    /// The smallest computed level with enough detail for output pixels of `cell` × `cell` image pixels, and its scale
    /// relative to the image.
    pub fn smallest<'a>(&'a self, view: &ImageView<'a>, cell: f32) -> (ImageView<'a>, f32) {
        let number = halvings(view, cell).min(self.made);
        let half = number
            .checked_sub(1)
            .and_then(|i| self.halves[i].view(view));
        half.map_or((*view, 1.0), |half| (half, 0.5f32.powi(number as i32)))
    }
}

/// How often an image may be halved for output pixels of `cell` × `cell` image pixels.
fn halvings(view: &ImageView, cell: f32) -> usize {
    let side = view.width().min(view.height());
    let mut number = 0;
    while cell >= LEAST_CELL * (2 << number) as f32 && side >> number > 1 {
        number += 1;
    }
    number
}

impl Half {
    /// A view of the level with the orientation of `picture`, the image that it was computed from.
    fn view<'a>(&'a self, picture: &ImageView) -> Option<ImageView<'a>> {
        let info = self.info?;
        let planes = [0, 1, 2].map(|i| Plane {
            data: &self.planes[i],
            stride: info.format.row_bytes(i, info.width),
        });
        let view = ImageView::new(info, &planes[..info.format.planes()]).ok()?;
        Some(view.oriented(picture.orientation()))
    }

    fn fill(&mut self, source: &ImageView, threads: usize) {
        let from = *source.info();
        let info = ImageInfo {
            width: from.width.div_ceil(2),
            height: from.height.div_ceil(2),
            ..from
        };
        let stride = |plane| info.format.row_bytes(plane, info.width);
        let bands: [Mutex<Band>; PLANES * BANDS] = Default::default();
        let mut count = 0;
        let planes = self.planes.iter_mut().enumerate();
        for (plane, out) in planes.take(info.format.planes()) {
            let rows = info.format.rows(plane, info.height);
            out.resize(stride(plane) * rows, 0);
            let each = rows.div_ceil(BANDS).max(1);
            for (number, out) in out.chunks_mut(each * stride(plane)).enumerate() {
                let first = number * each;
                *lock(&bands[count]) = Band { plane, first, out };
                count += 1;
            }
        }
        let is_large = info.width * info.height >= SHARED;
        share(if is_large { threads } else { 1 }, count, |number| {
            let Band { plane, first, out } = &mut *lock(&bands[number]);
            let channels = info.format.channels().iter();
            for channel in channels.filter(|c| c.plane == *plane) {
                let size = (channel.width(from.width), channel.height(from.height));
                halve(
                    source.plane(*plane),
                    size,
                    channel,
                    *first,
                    out,
                    stride(*plane),
                );
            }
        });
        self.info = Some(info);
    }
}

/// Halves one component of `width` × `height` samples along each axis, for output rows from `first` on. An odd sample
/// at an edge counts twice.
fn halve(
    source: Plane,
    (width, height): (usize, usize),
    channel: &Channel,
    first: usize,
    out: &mut [u8],
    stride: usize,
) {
    for (y, out) in (first..).zip(out.chunks_mut(stride)) {
        let row = |y: usize| &source.data[y.min(height - 1) * source.stride + channel.offset..];
        let (upper, lower) = (row(2 * y), row(2 * y + 1));
        let out = &mut out[channel.offset..];
        // With a constant step the compiler deinterleaves samples by shuffles.
        match channel.step {
            1 => halve_row::<1, 2>(upper, lower, width, out),
            2 => halve_row::<2, 4>(upper, lower, width, out),
            3 => halve_row::<3, 6>(upper, lower, width, out),
            _ => halve_row::<4, 8>(upper, lower, width, out),
        }
    }
}

/// Computes means of 2 × 2 samples that are `STEP` bytes apart; `PAIR` is twice that.
fn halve_row<const STEP: usize, const PAIR: usize>(
    upper: &[u8],
    lower: &[u8],
    width: usize,
    out: &mut [u8],
) {
    let mean =
        |a, b, c, d| ((u16::from(a) + u16::from(b) + u16::from(c) + u16::from(d) + 2) / 4) as u8;
    let (above, below) = (upper.as_chunks::<PAIR>().0, lower.as_chunks::<PAIR>().0);
    let whole = (width / 2).min(above.len()).min(below.len());
    for (out, (a, b)) in out
        .chunks_mut(STEP)
        .zip(above[..whole].iter().zip(&below[..whole]))
    {
        out[0] = mean(a[0], a[STEP], b[0], b[STEP]);
    }
    // The last samples are separate, because the second sample of a pair or the bytes after it may be missing.
    for x in whole..width.div_ceil(2) {
        let (left, right) = (2 * x * STEP, (2 * x + 1).min(width - 1) * STEP);
        out[x * STEP] = mean(upper[left], upper[right], lower[left], lower[right]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::image::{Colorimetry, PixelFormat};

    fn info(format: PixelFormat, width: usize, height: usize) -> ImageInfo {
        ImageInfo {
            width,
            height,
            format,
            colorimetry: Colorimetry::default(),
        }
    }

    /// Every sample of every format is the mean of four; at odd edges the last sample is repeated.
    #[test]
    fn halves_are_means_of_four() {
        let (width, height) = (7, 19);
        for format in PixelFormat::ALL {
            let stride = 40;
            let planes: Vec<Vec<u8>> = (0..format.planes())
                .map(|p| {
                    (0..stride * height)
                        .map(|i| (i * 37 + p * 11) as u8)
                        .collect()
                })
                .collect();
            let views: Vec<_> = planes.iter().map(|data| Plane { data, stride }).collect();
            let view = ImageView::new(info(format, width, height), &views).unwrap();
            let mut mipmap = Mipmap::default();
            mipmap.make(&view, 8.0, 1);
            let (half, scale) = mipmap.smallest(&view, 8.0);
            assert_eq!((half.width(), half.height(), scale), (4, 10, 0.5));
            for c in format.channels() {
                let (w, h) = (c.width(width), c.height(height));
                let sample = |x: usize, y: usize| {
                    let at = y.min(h - 1) * stride + c.offset + x.min(w - 1) * c.step;
                    f32::from(planes[c.plane][at])
                };
                for y in 0..c.height(10) {
                    for x in 0..c.width(4) {
                        let plane = half.plane(c.plane);
                        let found = plane.data[y * plane.stride + c.offset + x * c.step];
                        let sum = sample(2 * x, 2 * y)
                            + sample(2 * x + 1, 2 * y)
                            + sample(2 * x, 2 * y + 1)
                            + sample(2 * x + 1, 2 * y + 1);
                        let off = (f32::from(found) - sum / 4.0).abs();
                        assert!(
                            off <= 0.5,
                            "{format:?} {c:?} {x} {y}: {found} {}",
                            sum / 4.0
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn threads_make_what_one_does() {
        let (width, height) = (1300, 861);
        for format in [PixelFormat::Nv12, PixelFormat::I420, PixelFormat::Rgb] {
            let stride = 3 * width;
            let data: Vec<u8> = (0..stride * height).map(|i| (i * 37 % 251) as u8).collect();
            let planes = vec![
                Plane {
                    data: &data,
                    stride
                };
                format.planes()
            ];
            let view = ImageView::new(info(format, width, height), &planes).unwrap();
            let [one, three] = [1, 3].map(|threads| {
                let mut mipmap = Mipmap::default();
                mipmap.make(&view, 8.0, threads);
                mipmap.halves.remove(0).planes
            });
            assert!(one == three, "{format:?}");
        }
    }

    #[test]
    fn the_picture_itself_serves_where_halves_would_be_too_coarse_or_were_not_made() {
        let data = [0; 64 * 64];
        let plane = Plane {
            data: &data,
            stride: 64,
        };
        let view = ImageView::new(info(PixelFormat::Gray8, 64, 64), &[plane]).unwrap();
        let mut mipmap = Mipmap::default();
        let size = |mipmap: &Mipmap, cell| mipmap.smallest(&view, cell).0.width();
        assert_eq!(size(&mipmap, 100.0), 64);
        mipmap.make(&view, 17.0, 2);
        assert_eq!(size(&mipmap, 7.9), 64);
        assert_eq!(size(&mipmap, 8.0), 32);
        assert_eq!(size(&mipmap, 100.0), 16);
        mipmap.reset();
        assert_eq!(size(&mipmap, 100.0), 64);
    }
}
