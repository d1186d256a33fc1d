//! Bottom-up frames, whose `GstVideoMeta` has negative strides.
//!
//! They are rare (some screen grabbers and Windows bitmaps), and a slice that starts at the first row cannot contain
//! them, so they are processed as a top-down copy.

use crate::frame::image::ImageInfo;
use crate::plugin::frame::FrameError;

/// Offset of the first row and stride of each plane in the memory of a buffer, in bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Layout {
    offsets: [usize; 4],
    strides: [i32; 4],
}

impl Layout {
    /// The layout of a buffer with a negative stride; None for all others.
    pub fn of(buffer: &gst::BufferRef) -> Option<Self> {
        let meta = buffer.meta::<gst_video::VideoMeta>()?;
        let mut layout = Self {
            offsets: [0; 4],
            strides: [0; 4],
        };
        let planes = meta.offset().iter().zip(meta.stride());
        for (plane, (offset, stride)) in planes.enumerate() {
            layout.offsets[plane] = *offset;
            layout.strides[plane] = *stride;
        }
        layout.strides.iter().any(|&s| s < 0).then_some(layout)
    }

    /// Copies the planes of a frame to top-down rows without padding.
    pub fn gather(&self, data: &[u8], image: &ImageInfo) -> Result<Vec<Vec<u8>>, FrameError> {
        let planes = 0..image.format.planes();
        let gathered = planes.map(|plane| {
            let mut rows = Vec::new();
            for range in self.rows(plane, image) {
                let row = range.and_then(|range| data.get(range));
                rows.extend_from_slice(row.ok_or_else(|| outside(plane, data.len()))?);
            }
            Ok(rows)
        });
        gathered.collect()
    }

    /// Writes back what [`gather`](Self::gather) returned.
    pub fn scatter(
        &self,
        planes: &[Vec<u8>],
        data: &mut [u8],
        image: &ImageInfo,
    ) -> Result<(), FrameError> {
        let size = data.len();
        for (plane, rows) in planes.iter().enumerate() {
            let bytes = image.format.row_bytes(plane, image.width);
            for (range, row) in self.rows(plane, image).zip(rows.chunks_exact(bytes)) {
                let target = range.and_then(|range| data.get_mut(range));
                let target = target.ok_or_else(|| outside(plane, size))?;
                target.copy_from_slice(row);
            }
        }
        Ok(())
    }

    /// Byte ranges of the rows of a plane; None if one starts before the memory.
    fn rows(
        &self,
        plane: usize,
        image: &ImageInfo,
    ) -> impl Iterator<Item = Option<std::ops::Range<usize>>> {
        let bytes = image.format.row_bytes(plane, image.width);
        let (offset, stride) = (self.offsets[plane], self.strides[plane] as isize);
        (0..image.format.rows(plane, image.height)).map(move |row| {
            let way = stride.checked_mul(isize::try_from(row).ok()?)?;
            let start = offset.checked_add_signed(way)?;
            Some(start..start.checked_add(bytes)?)
        })
    }
}

fn outside(plane: usize, size: usize) -> FrameError {
    FrameError::Unusable(format!(
        "plane {plane} reaches outside the {size} bytes of the buffer"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::image::{Colorimetry, PixelFormat};

    #[test]
    fn rows_in_reverse_order_are_gathered_and_written_back() {
        let image = ImageInfo {
            width: 2,
            height: 3,
            format: PixelFormat::Gray8,
            colorimetry: Colorimetry::default(),
        };
        let layout = Layout {
            offsets: [8, 0, 0, 0],
            strides: [-4, 0, 0, 0],
        };
        let mut data = *b"ef..cd..ab..";
        let mut planes = layout.gather(&data, &image).unwrap();
        assert_eq!(planes, [b"abcdef"]);
        planes[0].make_ascii_uppercase();
        layout.scatter(&planes, &mut data, &image).unwrap();
        assert_eq!(&data, b"EF..CD..AB..");
        // With the first offset a row ends beyond the memory, with the second one the last row starts before it.
        for offset in [11, 4] {
            let layout = Layout {
                offsets: [offset, 0, 0, 0],
                ..layout
            };
            assert!(layout.gather(&data, &image).is_err());
            assert!(layout.scatter(&planes, &mut data, &image).is_err());
        }
    }
}
