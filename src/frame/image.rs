//! Views of pixels in memory, the common type of video frames and decoded photos for the rest of the crate.
//!
//! A view borrows its planes; nothing is copied. All seventeen formats are described by the same parameters
//! ([`Channel`]): plane, offset of the first sample, distance between samples, and subsampling of a component. Code
//! that reads or draws pixels works on channels and does not depend on the format.

use thiserror::Error;

use crate::frame::orientation::Orientation;

/// Pixel formats, named as in GStreamer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PixelFormat {
    Rgb,
    Bgr,
    Rgba,
    Bgra,
    Rgbx,
    Bgrx,
    Argb,
    Abgr,
    Xrgb,
    Xbgr,
    I420,
    Yv12,
    Nv12,
    Nv21,
    Yuy2,
    Uyvy,
    Gray8,
}

/// Meaning of the components of a format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ColorModel {
    /// Components are red, green, blue.
    Rgb,
    /// Components are luma, blue difference, red difference.
    Yuv,
    /// One component, luma, over the full range.
    Gray,
}

/// Memory layout of the samples of one component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Channel {
    /// Index of the plane.
    pub plane: usize,
    /// Byte offset of the first sample of a row.
    pub offset: usize,
    /// Bytes from one sample to the next.
    pub step: usize,
    /// log2 of the horizontal subsampling.
    pub shift_x: u32,
    /// log2 of the vertical subsampling.
    pub shift_y: u32,
}

const fn channel(plane: usize, offset: usize, step: usize, shift_x: u32, shift_y: u32) -> Channel {
    Channel {
        plane,
        offset,
        step,
        shift_x,
        shift_y,
    }
}

impl Channel {
    /// Number of samples of this component in a row of an image `width` pixels wide.
    pub fn width(&self, width: usize) -> usize {
        width.div_ceil(1 << self.shift_x)
    }

    /// Number of rows of this component in an image `height` pixels high.
    pub fn height(&self, height: usize) -> usize {
        height.div_ceil(1 << self.shift_y)
    }
}

impl PixelFormat {
    /// Every format, for tests and caps.
    pub const ALL: [Self; 17] = [
        Self::Rgb,
        Self::Bgr,
        Self::Rgba,
        Self::Bgra,
        Self::Rgbx,
        Self::Bgrx,
        Self::Argb,
        Self::Abgr,
        Self::Xrgb,
        Self::Xbgr,
        Self::I420,
        Self::Yv12,
        Self::Nv12,
        Self::Nv21,
        Self::Yuy2,
        Self::Uyvy,
        Self::Gray8,
    ];

    pub fn color_model(self) -> ColorModel {
        match self {
            Self::I420 | Self::Yv12 | Self::Nv12 | Self::Nv21 | Self::Yuy2 | Self::Uyvy => {
                ColorModel::Yuv
            }
            Self::Gray8 => ColorModel::Gray,
            _ => ColorModel::Rgb,
        }
    }

    pub fn planes(self) -> usize {
        match self {
            Self::I420 | Self::Yv12 => 3,
            Self::Nv12 | Self::Nv21 => 2,
            _ => 1,
        }
    }

    /// The colour components in the order of [`ColorModel`]: three, or one for grey.
    pub fn channels(self) -> &'static [Channel] {
        const fn packed(step: usize, r: usize, g: usize, b: usize) -> [Channel; 3] {
            [
                channel(0, r, step, 0, 0),
                channel(0, g, step, 0, 0),
                channel(0, b, step, 0, 0),
            ]
        }
        const fn biplanar(u: usize, v: usize) -> [Channel; 3] {
            [
                channel(0, 0, 1, 0, 0),
                channel(1, u, 2, 1, 1),
                channel(1, v, 2, 1, 1),
            ]
        }
        const fn planar(u: usize, v: usize) -> [Channel; 3] {
            [
                channel(0, 0, 1, 0, 0),
                channel(u, 0, 1, 1, 1),
                channel(v, 0, 1, 1, 1),
            ]
        }
        const fn yuv422(y: usize, u: usize, v: usize) -> [Channel; 3] {
            [
                channel(0, y, 2, 0, 0),
                channel(0, u, 4, 1, 0),
                channel(0, v, 4, 1, 0),
            ]
        }
        const RGB: [Channel; 3] = packed(3, 0, 1, 2);
        const BGR: [Channel; 3] = packed(3, 2, 1, 0);
        const RGBX: [Channel; 3] = packed(4, 0, 1, 2);
        const BGRX: [Channel; 3] = packed(4, 2, 1, 0);
        const XRGB: [Channel; 3] = packed(4, 1, 2, 3);
        const XBGR: [Channel; 3] = packed(4, 3, 2, 1);
        const I420: [Channel; 3] = planar(1, 2);
        // GStreamer numbers planes in memory order, so V comes first in YV12.
        const YV12: [Channel; 3] = planar(2, 1);
        const NV12: [Channel; 3] = biplanar(0, 1);
        const NV21: [Channel; 3] = biplanar(1, 0);
        const YUY2: [Channel; 3] = yuv422(0, 1, 3);
        const UYVY: [Channel; 3] = yuv422(1, 0, 2);
        const GRAY8: [Channel; 1] = [channel(0, 0, 1, 0, 0)];
        match self {
            Self::Rgb => &RGB,
            Self::Bgr => &BGR,
            Self::Rgba | Self::Rgbx => &RGBX,
            Self::Bgra | Self::Bgrx => &BGRX,
            Self::Argb | Self::Xrgb => &XRGB,
            Self::Abgr | Self::Xbgr => &XBGR,
            Self::I420 => &I420,
            Self::Yv12 => &YV12,
            Self::Nv12 => &NV12,
            Self::Nv21 => &NV21,
            Self::Yuy2 => &YUY2,
            Self::Uyvy => &UYVY,
            Self::Gray8 => &GRAY8,
        }
    }

    /// The alpha component of the formats that have one.
    pub fn alpha(self) -> Option<Channel> {
        match self {
            Self::Rgba | Self::Bgra => Some(channel(0, 3, 4, 0, 0)),
            Self::Argb | Self::Abgr => Some(channel(0, 0, 4, 0, 0)),
            _ => None,
        }
    }

    /// Number of bytes of a row of plane `plane` in an image `width` pixels wide, without padding.
    pub fn row_bytes(self, plane: usize, width: usize) -> usize {
        match self {
            // Two pixels share four bytes; if the width is odd, the last pixel has four bytes of its own.
            Self::Yuy2 | Self::Uyvy => width.div_ceil(2).saturating_mul(4),
            Self::Nv12 | Self::Nv21 if plane == 1 => width.div_ceil(2) * 2,
            Self::I420 | Self::Yv12 if plane > 0 => width.div_ceil(2),
            _ => width.saturating_mul(self.channels()[0].step),
        }
    }

    /// Number of rows of plane `plane` in an image `height` pixels high.
    pub fn rows(self, plane: usize, height: usize) -> usize {
        match self {
            Self::I420 | Self::Yv12 | Self::Nv12 | Self::Nv21 if plane > 0 => height.div_ceil(2),
            _ => height,
        }
    }
}

/// The video standard that defines the luma coefficients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum YuvMatrix {
    #[default]
    Bt601,
    Bt709,
    Bt2020,
}

/// How YUV samples represent colours. Ignored for RGB and grey.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Colorimetry {
    pub matrix: YuvMatrix,
    /// Whether samples are 0…255 instead of 16…235 (luma) and 16…240 (chroma).
    pub full_range: bool,
    /// Whether chroma samples are co-sited with the left one of the two luma columns that they cover (MPEG-2, H.264)
    /// instead of centred between them (JPEG, MPEG-1).
    pub chroma_left: bool,
}

impl Colorimetry {
    /// (Kr, Kb) of ITU-R BT.601, BT.709, BT.2020.
    fn coefficients(self) -> (f32, f32) {
        match self.matrix {
            YuvMatrix::Bt601 => (0.299, 0.114),
            YuvMatrix::Bt709 => (0.2126, 0.0722),
            YuvMatrix::Bt2020 => (0.2627, 0.0593),
        }
    }

    /// Scales and offset that convert samples to y in 0…255 and u, v about 0: (luma scale, luma offset, chroma scale).
    fn range(self) -> (f32, f32, f32) {
        if self.full_range {
            (1.0, 0.0, 1.0)
        } else {
            (255.0 / 219.0, 16.0, 255.0 / 224.0)
        }
    }

    /// Coefficients for [`YuvToRgb::apply`].
    pub fn to_rgb(self) -> YuvToRgb {
        let (kr, kb) = self.coefficients();
        let kg = 1.0 - kr - kb;
        let (y_scale, y_offset, c_scale) = self.range();
        YuvToRgb {
            y_scale,
            y_offset,
            r_v: 2.0 * (1.0 - kr) * c_scale,
            g_u: -2.0 * (1.0 - kb) * kb / kg * c_scale,
            g_v: -2.0 * (1.0 - kr) * kr / kg * c_scale,
            b_u: 2.0 * (1.0 - kb) * c_scale,
        }
    }

    /// The YUV samples of an RGB colour (0…255 each), rounded.
    pub fn from_rgb(self, [r, g, b]: [u8; 3]) -> [u8; 3] {
        let (kr, kb) = self.coefficients();
        let (y_scale, y_offset, c_scale) = self.range();
        let [r, g, b] = [r, g, b].map(f32::from);
        let y = kr * r + (1.0 - kr - kb) * g + kb * b;
        let u = (b - y) / (2.0 * (1.0 - kb));
        let v = (r - y) / (2.0 * (1.0 - kr));
        // `as` clamps to 0…255.
        [
            (y / y_scale + y_offset).round() as u8,
            (u / c_scale + 128.0).round() as u8,
            (v / c_scale + 128.0).round() as u8,
        ]
    }
}

/// Coefficients of a colour conversion, computed once for many samples.
#[derive(Debug, Clone, Copy)]
pub struct YuvToRgb {
    y_scale: f32,
    y_offset: f32,
    r_v: f32,
    g_u: f32,
    g_v: f32,
    b_u: f32,
}

impl YuvToRgb {
    /// Converts samples of 0…255 to red, green and blue, clamped to 0…255.
    #[inline(always)]
    pub fn apply(&self, y: f32, u: f32, v: f32) -> [f32; 3] {
        let y = (y - self.y_offset) * self.y_scale;
        let (u, v) = (u - 128.0, v - 128.0);
        [
            (y + self.r_v * v).clamp(0.0, 255.0),
            (y + self.g_u * u + self.g_v * v).clamp(0.0, 255.0),
            (y + self.b_u * u).clamp(0.0, 255.0),
        ]
    }
}

/// Why pixels in memory cannot be an image.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImageError {
    #[error("an image needs at least one pixel, got {width}×{height}")]
    Empty { width: usize, height: usize },
    #[error("{format:?} has {expected} planes, got {found}")]
    Planes {
        format: PixelFormat,
        expected: usize,
        found: usize,
    },
    #[error(
        "plane {plane} of {format:?}: a row of {width} pixels needs {expected} bytes, the stride is {found}"
    )]
    Stride {
        format: PixelFormat,
        plane: usize,
        width: usize,
        expected: usize,
        found: usize,
    },
    #[error(
        "plane {plane} of {format:?}: {width}×{height} pixels need {expected} bytes, the buffer has {found}"
    )]
    TooSmall {
        format: PixelFormat,
        plane: usize,
        width: usize,
        height: usize,
        expected: usize,
        found: usize,
    },
}

/// Size, format and colorimetry of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageInfo {
    pub width: usize,
    pub height: usize,
    pub format: PixelFormat,
    pub colorimetry: Colorimetry,
}

impl ImageInfo {
    /// Checks that planes of these (length, stride) in bytes can hold the image.
    fn check(
        &self,
        planes: impl ExactSizeIterator<Item = (usize, usize)>,
    ) -> Result<(), ImageError> {
        let Self {
            width,
            height,
            format,
            ..
        } = *self;
        if width == 0 || height == 0 {
            return Err(ImageError::Empty { width, height });
        }
        if planes.len() != format.planes() {
            return Err(ImageError::Planes {
                format,
                expected: format.planes(),
                found: planes.len(),
            });
        }
        for (plane, (length, stride)) in planes.enumerate() {
            let row = format.row_bytes(plane, width);
            if stride < row {
                return Err(ImageError::Stride {
                    format,
                    plane,
                    width,
                    expected: row,
                    found: stride,
                });
            }
            // The last row need not be padded. The arithmetic saturates because a hostile stride must not overflow.
            let expected = stride
                .saturating_mul(format.rows(plane, height) - 1)
                .saturating_add(row);
            if length < expected {
                return Err(ImageError::TooSmall {
                    format,
                    plane,
                    width,
                    height,
                    expected,
                    found: length,
                });
            }
        }
        Ok(())
    }
}

/// Bytes of one plane, and the stride from one row to the next.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plane<'a> {
    pub data: &'a [u8],
    pub stride: usize,
}

/// A borrowed image. `new` has checked that the planes hold every row and sample.
#[derive(Debug, Clone, Copy)]
pub struct ImageView<'a> {
    info: ImageInfo,
    planes: [Plane<'a>; 3],
    orientation: Orientation,
}

impl<'a> ImageView<'a> {
    /// Checks and wraps `planes`, which are in memory order, as many as the format has.
    pub fn new(info: ImageInfo, planes: &[Plane<'a>]) -> Result<Self, ImageError> {
        info.check(planes.iter().map(|p| (p.data.len(), p.stride)))?;
        let mut own = [Plane::default(); 3];
        own[..planes.len()].copy_from_slice(planes);
        Ok(Self {
            info,
            planes: own,
            orientation: Orientation::UPRIGHT,
        })
    }

    /// The same pixels with an orientation: the image is then read as displayed.
    pub fn oriented(mut self, orientation: Orientation) -> Self {
        self.orientation = orientation;
        self
    }

    /// The same image, turned once more after it has been made upright.
    pub fn turned(self, turn: Orientation) -> Self {
        self.oriented(self.orientation.then(turn))
    }

    /// A view of tightly packed RGB, 3·width·height bytes, as returned by image decoders.
    pub fn rgb(data: &'a [u8], width: usize, height: usize) -> Result<Self, ImageError> {
        let info = ImageInfo {
            width,
            height,
            format: PixelFormat::Rgb,
            colorimetry: Colorimetry::default(),
        };
        let stride = width.saturating_mul(3);
        Self::new(info, &[Plane { data, stride }])
    }

    /// Size and format as stored.
    pub fn info(&self) -> &ImageInfo {
        &self.info
    }

    pub fn orientation(&self) -> Orientation {
        self.orientation
    }

    /// Width of the upright image.
    pub fn width(&self) -> usize {
        self.upright_size().0
    }

    /// Height of the upright image.
    pub fn height(&self) -> usize {
        self.upright_size().1
    }

    fn upright_size(&self) -> (usize, usize) {
        self.orientation
            .turn_size((self.info.width, self.info.height))
    }

    pub fn plane(&self, index: usize) -> Plane<'a> {
        self.planes[index]
    }
}

/// Mutable bytes of one plane, and the stride from one row to the next.
#[derive(Debug, Default)]
pub struct PlaneMut<'a> {
    pub data: &'a mut [u8],
    pub stride: usize,
}

/// A mutably borrowed image to draw on, checked like [`ImageView`].
#[derive(Debug)]
pub struct ImageViewMut<'a> {
    info: ImageInfo,
    planes: [PlaneMut<'a>; 3],
    orientation: Orientation,
}

impl<'a> ImageViewMut<'a> {
    /// Checks and wraps `planes`, which are in memory order, as many as the format has.
    pub fn new(info: ImageInfo, planes: Vec<PlaneMut<'a>>) -> Result<Self, ImageError> {
        info.check(planes.iter().map(|p| (p.data.len(), p.stride)))?;
        let mut own: [PlaneMut<'a>; 3] = Default::default();
        for (to, from) in own.iter_mut().zip(planes) {
            *to = from;
        }
        Ok(Self {
            info,
            planes: own,
            orientation: Orientation::UPRIGHT,
        })
    }

    /// The same pixels with an orientation: the image is then drawn on as displayed.
    pub fn oriented(mut self, orientation: Orientation) -> Self {
        self.orientation = orientation;
        self
    }

    pub fn orientation(&self) -> Orientation {
        self.orientation
    }

    /// Size and format as stored.
    pub fn info(&self) -> &ImageInfo {
        &self.info
    }

    /// A read-only view of the same image.
    pub fn as_view(&self) -> ImageView<'_> {
        ImageView {
            info: self.info,
            planes: std::array::from_fn(|i| Plane {
                data: &*self.planes[i].data,
                stride: self.planes[i].stride,
            }),
            orientation: self.orientation,
        }
    }

    pub fn plane_mut(&mut self, index: usize) -> (&mut [u8], usize) {
        let plane = &mut self.planes[index];
        (plane.data, plane.stride)
    }
}

#[cfg(test)]
mod tests;
