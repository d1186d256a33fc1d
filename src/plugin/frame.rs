//! Video frames as images, and the caps that every element takes.

use gst_video::{VideoColorRange, VideoFormat, VideoFrameExt, VideoFrameRef, VideoInfo};

use crate::image::{
    Colorimetry, ImageError, ImageInfo, ImageView, ImageViewMut, PixelFormat, Plane, PlaneMut,
    YuvMatrix,
};

/// Every format that the elements work on without a converter.
const FORMATS: [(VideoFormat, PixelFormat); 17] = [
    (VideoFormat::I420, PixelFormat::I420),
    (VideoFormat::Nv12, PixelFormat::Nv12),
    (VideoFormat::Yv12, PixelFormat::Yv12),
    (VideoFormat::Nv21, PixelFormat::Nv21),
    (VideoFormat::Yuy2, PixelFormat::Yuy2),
    (VideoFormat::Uyvy, PixelFormat::Uyvy),
    (VideoFormat::Rgb, PixelFormat::Rgb),
    (VideoFormat::Bgr, PixelFormat::Bgr),
    (VideoFormat::Rgba, PixelFormat::Rgba),
    (VideoFormat::Bgra, PixelFormat::Bgra),
    (VideoFormat::Rgbx, PixelFormat::Rgbx),
    (VideoFormat::Bgrx, PixelFormat::Bgrx),
    (VideoFormat::Argb, PixelFormat::Argb),
    (VideoFormat::Abgr, PixelFormat::Abgr),
    (VideoFormat::Xrgb, PixelFormat::Xrgb),
    (VideoFormat::Xbgr, PixelFormat::Xbgr),
    (VideoFormat::Gray8, PixelFormat::Gray8),
];

/// Sink and source pad, alike: the elements work in place.
pub fn pad_templates() -> Vec<gst::PadTemplate> {
    let caps = gst_video::VideoCapsBuilder::new()
        .format_list(FORMATS.map(|(format, _)| format))
        .build();
    [
        ("sink", gst::PadDirection::Sink),
        ("src", gst::PadDirection::Src),
    ]
    .map(|(name, direction)| {
        gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &caps)
            .expect("a static template with fixed names")
    })
    .into()
}

/// Negotiated video: how its buffers are mapped, and what an image of it is.
#[derive(Debug, Clone)]
pub struct Video {
    info: VideoInfo,
    image: ImageInfo,
}

impl Video {
    pub fn new(info: &VideoInfo) -> Result<Self, gst::LoggableError> {
        let image = image_info(info).ok_or_else(|| {
            gst::loggable_error!(gst::CAT_RUST, "no support for {:?}", info.format())
        })?;
        Ok(Self {
            info: info.clone(),
            image,
        })
    }

    /// Width and height in pixels.
    pub fn size(&self) -> (u32, u32) {
        (self.info.width(), self.info.height())
    }

    /// Maps a buffer for reading and works on it as an image.
    pub fn read<T>(
        &self,
        buffer: &gst::BufferRef,
        work: impl FnOnce(&ImageView) -> T,
    ) -> Result<T, gst::ErrorMessage> {
        let frame = VideoFrameRef::from_buffer_ref_readable(buffer, &self.info)
            .map_err(|_| self.too_small(buffer.size()))?;
        let planes: Vec<_> = frame
            .planes_data()
            .into_iter()
            .zip(frame.plane_stride())
            .take(self.image.format.planes())
            .map(|(data, &s)| Plane {
                data,
                stride: stride(s),
            })
            .collect();
        let view = ImageView::new(self.image, &planes).map_err(|e| not_an_image(&e))?;
        Ok(work(&view))
    }

    /// Maps a buffer for writing and works on it as an image. Pixels that another buffer shares
    /// are copied first, by GStreamer.
    pub fn write(
        &self,
        buffer: &mut gst::BufferRef,
        work: impl FnOnce(&mut ImageViewMut),
    ) -> Result<(), gst::ErrorMessage> {
        let size = buffer.size();
        let mut frame = VideoFrameRef::from_buffer_ref_writable(buffer, &self.info)
            .map_err(|_| self.too_small(size))?;
        let strides: Vec<_> = frame.plane_stride().iter().map(|&s| stride(s)).collect();
        let planes = frame
            .planes_data_mut()
            .into_iter()
            .zip(strides)
            .take(self.image.format.planes())
            .map(|(data, stride)| PlaneMut { data, stride })
            .collect();
        let mut view = ImageViewMut::new(self.image, planes).map_err(|e| not_an_image(&e))?;
        work(&mut view);
        Ok(())
    }

    fn too_small(&self, size: usize) -> gst::ErrorMessage {
        gst::error_msg!(
            gst::StreamError::Format,
            [
                "a buffer of {size} bytes cannot be mapped as {} {}×{}, which needs {} bytes",
                self.info.format(),
                self.info.width(),
                self.info.height(),
                self.info.size()
            ]
        )
    }
}

/// A buffer came before caps, or while the element is stopped.
pub fn not_negotiated() -> gst::ErrorMessage {
    gst::error_msg!(
        gst::CoreError::Negotiation,
        ["a buffer came before its caps, or while the element was stopped"]
    )
}

fn not_an_image(error: &ImageError) -> gst::ErrorMessage {
    gst::error_msg!(gst::StreamError::Format, ["{error}"])
}

fn image_info(info: &VideoInfo) -> Option<ImageInfo> {
    let (_, format) = FORMATS.iter().find(|(f, _)| *f == info.format())?;
    let colorimetry = info.colorimetry();
    Some(ImageInfo {
        width: info.width() as usize,
        height: info.height() as usize,
        format: *format,
        colorimetry: Colorimetry {
            matrix: match colorimetry.matrix() {
                gst_video::VideoColorMatrix::Bt709 => YuvMatrix::Bt709,
                gst_video::VideoColorMatrix::Bt2020 => YuvMatrix::Bt2020,
                _ => YuvMatrix::Bt601,
            },
            full_range: colorimetry.range() == VideoColorRange::Range0_255,
            chroma_left: info
                .chroma_site()
                .contains(gst_video::VideoChromaSite::H_COSITED),
        },
    })
}

/// A negative stride (a picture stored upside down) becomes 0, which no image accepts.
fn stride(stride: i32) -> usize {
    usize::try_from(stride).unwrap_or(0)
}
