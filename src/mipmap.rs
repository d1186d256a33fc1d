//! A picture and its halves: what is seen small is read from a small picture.
//!
//! Each half is of the same format as the picture and made from the one before by means of two by two
//! samples, so that a 4K frame is read once however many sizes of it are wanted.

use crate::image::{Channel, ImageInfo, ImageView, Plane};

/// Pixels of a half, along each side, that a pixel wanted is made of at least. With 1.5 the detector lost one face in a
/// hundred, with 4 it finds the same ones as without halves (Face Mask Detection, WIDER FACE).
const LEAST_CELL: f32 = 4.0;

/// The halves of one picture. Its memory serves the next one.
#[derive(Debug, Default)]
pub struct Mipmap {
    halves: Vec<Half>,
    /// How many of them are of the present picture.
    made: usize,
}

#[derive(Debug, Default)]
struct Half {
    info: Option<ImageInfo>,
    planes: [Vec<u8>; 3],
}

impl Mipmap {
    /// A new picture.
    pub fn reset(&mut self) {
        self.made = 0;
    }

    /// Makes what [`smallest`](Self::smallest) gives for cells of up to this many pixels.
    pub fn make(&mut self, view: &ImageView, cell: f32) {
        for number in self.made..halvings(view, cell) {
            if self.halves.len() == number {
                self.halves.push(Half::default());
            }
            let (before, rest) = self.halves.split_at_mut(number);
            let source = before.last().and_then(|h| h.view(view));
            rest[0].fill(&source.unwrap_or(*view));
            self.made = number + 1;
        }
    }

    /// The smallest picture made that shows enough for pixels made of cells of `cell` × `cell` pixels, and
    /// its size in proportion to the whole one.
    pub fn smallest<'a>(&'a self, view: &ImageView<'a>, cell: f32) -> (ImageView<'a>, f32) {
        let number = halvings(view, cell).min(self.made);
        let half = number
            .checked_sub(1)
            .and_then(|i| self.halves[i].view(view));
        half.map_or((*view, 1.0), |half| (half, 0.5f32.powi(number as i32)))
    }
}

/// How often a picture may be halved where cells of so many pixels are wanted.
fn halvings(view: &ImageView, cell: f32) -> usize {
    let side = view.width().min(view.height());
    let mut number = 0;
    while cell >= LEAST_CELL * (2 << number) as f32 && side >> number > 1 {
        number += 1;
    }
    number
}

impl Half {
    /// As it is to be seen: `picture` is what it was made from.
    fn view<'a>(&'a self, picture: &ImageView) -> Option<ImageView<'a>> {
        let info = self.info?;
        let planes = [0, 1, 2].map(|i| Plane {
            data: &self.planes[i],
            stride: info.format.row_bytes(i, info.width),
        });
        let view = ImageView::new(info, &planes[..info.format.planes()]).ok()?;
        Some(view.oriented(picture.orientation()))
    }

    fn fill(&mut self, source: &ImageView) {
        let from = *source.info();
        let info = ImageInfo {
            width: from.width.div_ceil(2),
            height: from.height.div_ceil(2),
            ..from
        };
        for number in 0..info.format.planes() {
            let stride = info.format.row_bytes(number, info.width);
            let plane = &mut self.planes[number];
            plane.resize(stride * info.format.rows(number, info.height), 0);
            for channel in info.format.channels().iter().filter(|c| c.plane == number) {
                let size = (channel.width(from.width), channel.height(from.height));
                halve(source.plane(number), size, channel, plane, stride);
            }
        }
        self.info = Some(info);
    }
}

/// One component, `width` × `height` samples, to half of it each way. The odd sample at an edge stands for two.
fn halve(
    source: Plane,
    (width, height): (usize, usize),
    channel: &Channel,
    out: &mut [u8],
    stride: usize,
) {
    for (y, out) in out.chunks_mut(stride).enumerate() {
        let row = |y: usize| &source.data[y.min(height - 1) * source.stride + channel.offset..];
        let (upper, lower) = (row(2 * y), row(2 * y + 1));
        let out = &mut out[channel.offset..];
        // With the distance known samples are sorted by shuffles.
        match channel.step {
            1 => halve_row::<1, 2>(upper, lower, width, out),
            2 => halve_row::<2, 4>(upper, lower, width, out),
            3 => halve_row::<3, 6>(upper, lower, width, out),
            _ => halve_row::<4, 8>(upper, lower, width, out),
        }
    }
}

/// Means of 2 × 2 samples that lie `STEP` bytes apart; `PAIR` is twice that.
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
    // The last ones, of which the second may be missing, or the bytes between them.
    for x in whole..width.div_ceil(2) {
        let (left, right) = (2 * x * STEP, (2 * x + 1).min(width - 1) * STEP);
        out[x * STEP] = mean(upper[left], upper[right], lower[left], lower[right]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Colorimetry, PixelFormat};

    fn info(format: PixelFormat, width: usize, height: usize) -> ImageInfo {
        ImageInfo {
            width,
            height,
            format,
            colorimetry: Colorimetry::default(),
        }
    }

    /// Every sample of every format is the mean of its four, of those that there are at odd edges.
    #[test]
    fn halves_are_means_of_four() {
        let (width, height) = (7, 5);
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
            mipmap.make(&view, 8.0);
            let (half, scale) = mipmap.smallest(&view, 8.0);
            assert_eq!((half.width(), half.height(), scale), (4, 3, 0.5));
            for c in format.channels() {
                let (w, h) = (c.width(width), c.height(height));
                let sample = |x: usize, y: usize| {
                    let at = y.min(h - 1) * stride + c.offset + x.min(w - 1) * c.step;
                    f32::from(planes[c.plane][at])
                };
                for y in 0..c.height(4 - 1) {
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
        mipmap.make(&view, 17.0);
        assert_eq!(size(&mipmap, 7.9), 64);
        assert_eq!(size(&mipmap, 8.0), 32);
        assert_eq!(size(&mipmap, 100.0), 16);
        mipmap.reset();
        assert_eq!(size(&mipmap, 100.0), 64);
    }
}
