//! Video frames as images, and the caps that every element takes.

use std::time::Duration;

use gst_base::prelude::*;
use gst_video::{VideoColorRange, VideoFormat, VideoFrameExt, VideoFrameRef, VideoInfo};

use crate::frame::image::{
    Colorimetry, ImageError, ImageInfo, ImageView, ImageViewMut, PixelFormat, Plane, PlaneMut,
    YuvMatrix,
};
use crate::frame::orientation::Orientation;

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

/// The time of frames, as it is needed to follow what is in them: it does not stand still, also in a stream
/// without timestamps.
#[derive(Debug, Default)]
pub struct StreamTime {
    last: Option<Duration>,
}

/// Of a frame where neither timestamps nor caps say it.
const FRAME_DURATION: Duration = Duration::from_millis(40);

impl StreamTime {
    /// `running_time` is that of the buffer.
    pub fn of(&mut self, running_time: Option<gst::ClockTime>, input: &Input) -> Duration {
        let next = || {
            self.last
                .map_or(Duration::ZERO, |last| last + input.frame_duration())
        };
        let time = running_time.map_or_else(next, Duration::from);
        self.last = Some(time);
        time
    }
}

/// The running time of a buffer in an element.
pub fn running_time(
    element: &gst_base::BaseTransform,
    buffer: &gst::BufferRef,
) -> Option<gst::ClockTime> {
    let segment = element.segment();
    let segment = segment.downcast_ref::<gst::ClockTime>()?;
    segment.to_running_time(buffer.pts()?)
}

/// The video that comes in: how its buffers are mapped, and how they are seen upright.
#[derive(Debug, Clone, Default)]
pub struct Input {
    format: Option<(VideoInfo, ImageInfo)>,
    orientation: Orientation,
}

impl Input {
    /// New caps.
    pub fn set_info(&mut self, info: &VideoInfo) -> Result<(), gst::LoggableError> {
        let image = image_info(info).ok_or_else(|| {
            gst::loggable_error!(gst::CAT_RUST, "no support for {}", info.format())
        })?;
        self.format = Some((info.clone(), image));
        Ok(())
    }

    /// Whether an event may say something of the video.
    pub fn concerns(event: &gst::Event) -> bool {
        matches!(
            event.type_(),
            gst::EventType::StreamStart | gst::EventType::Tag
        )
    }

    /// Takes notice of the tag that says how the camera was held.
    pub fn notice(&mut self, event: &gst::Event) {
        match event.view() {
            gst::EventView::StreamStart(_) => self.orientation = Orientation::UPRIGHT,
            gst::EventView::Tag(tag) => {
                if let Some(value) = tag.tag().get::<gst::tags::ImageOrientation>() {
                    self.orientation = orientation(value.get());
                }
            }
            _ => {}
        }
    }

    fn format(&self) -> Result<&(VideoInfo, ImageInfo), gst::ErrorMessage> {
        self.format.as_ref().ok_or_else(not_negotiated)
    }

    /// By the caps.
    pub fn frame_duration(&self) -> Duration {
        let rate = self.format.as_ref().map(|(info, _)| info.fps());
        match rate.filter(|rate| rate.numer() > 0 && rate.denom() > 0) {
            Some(rate) => Duration::from_secs(1) * rate.denom() as u32 / rate.numer() as u32,
            None => FRAME_DURATION,
        }
    }

    /// Width and height in pixels, as stored.
    pub fn size(&self) -> Result<(u32, u32), gst::ErrorMessage> {
        self.format().map(|(info, _)| (info.width(), info.height()))
    }

    /// How what is stored becomes upright, and its stored size.
    pub fn turn(&self) -> Result<(Orientation, (f32, f32)), gst::ErrorMessage> {
        let (width, height) = self.size()?;
        Ok((self.orientation, (width as f32, height as f32)))
    }

    /// Maps a buffer for reading and works on it as an upright image.
    pub fn read<T>(
        &self,
        buffer: &gst::BufferRef,
        work: impl FnOnce(&ImageView) -> T,
    ) -> Result<T, gst::ErrorMessage> {
        let (info, image) = self.format()?;
        let frame = VideoFrameRef::from_buffer_ref_readable(buffer, info)
            .map_err(|_| too_small(info, buffer.size()))?;
        let planes: Vec<_> = frame
            .planes_data()
            .into_iter()
            .zip(frame.plane_stride())
            .take(image.format.planes())
            .map(|(data, &s)| Plane {
                data,
                stride: stride(s),
            })
            .collect();
        let view = ImageView::new(*image, &planes).map_err(|e| not_an_image(&e))?;
        Ok(work(&view.oriented(self.orientation)))
    }

    /// Maps a buffer for writing and works on it as an upright image. Pixels that another buffer
    /// shares are copied first, by GStreamer.
    pub fn write(
        &self,
        buffer: &mut gst::BufferRef,
        work: impl FnOnce(&mut ImageViewMut),
    ) -> Result<(), gst::ErrorMessage> {
        let (info, image) = self.format()?;
        let size = buffer.size();
        let mut frame = VideoFrameRef::from_buffer_ref_writable(buffer, info)
            .map_err(|_| too_small(info, size))?;
        let strides: Vec<_> = frame.plane_stride().iter().map(|&s| stride(s)).collect();
        let planes = frame
            .planes_data_mut()
            .into_iter()
            .zip(strides)
            .take(image.format.planes())
            .map(|(data, stride)| PlaneMut { data, stride })
            .collect();
        let view = ImageViewMut::new(*image, planes).map_err(|e| not_an_image(&e))?;
        work(&mut view.oriented(self.orientation));
        Ok(())
    }
}

fn too_small(info: &VideoInfo, size: usize) -> gst::ErrorMessage {
    gst::error_msg!(
        gst::StreamError::Format,
        (
            "a buffer of {size} bytes cannot be mapped as {} {}×{}, which needs {} bytes",
            info.format(),
            info.width(),
            info.height(),
            info.size()
        )
    )
}

/// The value of the tag image-orientation: what is to be done to make the picture upright.
fn orientation(tag: &str) -> Orientation {
    match tag {
        "rotate-90" => Orientation::ROTATE_90,
        "rotate-180" => Orientation::ROTATE_180,
        "rotate-270" => Orientation::ROTATE_270,
        "flip-rotate-0" => Orientation::FLIP_HORIZONTAL,
        "flip-rotate-90" => Orientation::TRANSVERSE,
        "flip-rotate-180" => Orientation::FLIP_VERTICAL,
        "flip-rotate-270" => Orientation::TRANSPOSE,
        _ => Orientation::UPRIGHT,
    }
}

fn not_negotiated() -> gst::ErrorMessage {
    gst::error_msg!(
        gst::CoreError::Negotiation,
        ("a buffer came before its caps")
    )
}

/// A buffer came while the element was stopped.
pub fn not_started() -> gst::ErrorMessage {
    gst::error_msg!(
        gst::CoreError::StateChange,
        ("a buffer came while the element was stopped")
    )
}

fn not_an_image(error: &ImageError) -> gst::ErrorMessage {
    gst::error_msg!(gst::StreamError::Format, ("{error}"))
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
