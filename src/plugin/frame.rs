//! Video frames as images, and the caps that every element accepts.

use std::time::Duration;

use gst_base::prelude::*;
use gst_video::{VideoColorRange, VideoFormat, VideoFrameExt, VideoFrameRef, VideoInfo};

use crate::frame::image::{
    Colorimetry, ImageError, ImageInfo, ImageView, ImageViewMut, PixelFormat, Plane, PlaneMut,
    YuvMatrix,
};
use crate::frame::orientation::Orientation;

mod bottom_up;

use bottom_up::Layout;

/// The formats that the elements process without a converter.
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

/// Sink and source pad templates with the same caps, because the elements work in place.
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

/// Why a frame is not analysed.
#[derive(Debug)]
pub enum FrameError {
    /// The buffer does not match its caps. The stream continues without it.
    Unusable(String),
    /// The element cannot continue.
    Fatal(gst::ErrorMessage),
}

impl From<gst::ErrorMessage> for FrameError {
    fn from(error: gst::ErrorMessage) -> Self {
        Self::Fatal(error)
    }
}

impl From<ImageError> for FrameError {
    fn from(error: ImageError) -> Self {
        Self::Unusable(error.to_string())
    }
}

/// The running time of a timestamp in an element.
pub fn running_time(
    element: &gst_base::BaseTransform,
    timestamp: Option<gst::ClockTime>,
) -> Option<gst::ClockTime> {
    let segment = element.segment();
    let segment = segment.downcast_ref::<gst::ClockTime>()?;
    segment.to_running_time(timestamp?)
}

/// The incoming video: how its buffers are mapped, and how they are turned upright.
#[derive(Debug, Clone, Default)]
pub struct Input {
    format: Option<(VideoInfo, ImageInfo)>,
    orientation: Orientation,
}

impl Input {
    /// Sets new caps.
    pub fn set_info(&mut self, info: &VideoInfo) -> Result<(), gst::LoggableError> {
        let image = image_info(info).ok_or_else(|| {
            gst::loggable_error!(gst::CAT_RUST, "no support for {}", info.format())
        })?;
        self.format = Some((info.clone(), image));
        Ok(())
    }

    /// Whether an event may affect the video's orientation.
    pub fn concerns(event: &gst::Event) -> bool {
        matches!(
            event.type_(),
            gst::EventType::StreamStart | gst::EventType::Tag
        )
    }

    /// Updates from an event: the tag image-orientation tells how the camera was held.
    pub fn update_from_event(&mut self, event: &gst::Event) {
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

    /// The frame interval that the caps announce.
    pub fn announced_interval(&self) -> Option<Duration> {
        let rate = self.format.as_ref()?.0.fps();
        let (frames, seconds) = (rate.numer(), rate.denom());
        (frames > 0 && seconds > 0).then(|| Duration::from_secs(1) * seconds as u32 / frames as u32)
    }

    /// Width and height in pixels, as stored.
    pub fn size(&self) -> Result<(u32, u32), gst::ErrorMessage> {
        self.format().map(|(info, _)| (info.width(), info.height()))
    }

    /// The orientation that turns the stored image upright, and its stored size.
    pub fn turn(&self) -> Result<(Orientation, (f32, f32)), gst::ErrorMessage> {
        let (width, height) = self.size()?;
        Ok((self.orientation, (width as f32, height as f32)))
    }

    /// Factors of width and height from stored frames of the size `before` to those of the current size.
    pub fn stored_scale(&self, before: (u32, u32)) -> (f32, f32) {
        let now = self.size().unwrap_or(before);
        let ratio = |now: u32, before: u32| now as f32 / before.max(1) as f32;
        (ratio(now.0, before.0), ratio(now.1, before.1))
    }

    /// Factors of width and height for upright frames.
    pub fn upright_scale(&self, before: (u32, u32)) -> [f32; 2] {
        self.orientation.turn_size(self.stored_scale(before)).into()
    }

    /// Maps a buffer for reading and calls a function with it as an upright image.
    pub fn read<T>(
        &self,
        buffer: &gst::BufferRef,
        work: impl FnOnce(&ImageView) -> T,
    ) -> Result<T, FrameError> {
        let (info, image) = self.format()?;
        if let Some(layout) = Layout::of(buffer) {
            let map = buffer
                .map_readable()
                .map_err(|_| not_mapped(info, buffer.size()))?;
            let planes = layout.gather(&map, image)?;
            let planes: Vec<_> = planes
                .iter()
                .enumerate()
                .map(|(plane, data)| Plane {
                    data,
                    stride: image.format.row_bytes(plane, image.width),
                })
                .collect();
            let view = ImageView::new(*image, &planes)?;
            return Ok(work(&view.oriented(self.orientation)));
        }
        check_meta(buffer, info, image)?;
        let frame = VideoFrameRef::from_buffer_ref_readable(buffer, info)
            .map_err(|_| not_mapped(info, buffer.size()))?;
        let planes: Vec<_> = frame
            .planes_data()
            .into_iter()
            .zip(frame.plane_stride())
            .take(image.format.planes())
            .map(|(data, &stride)| Plane {
                data,
                stride: stride as usize,
            })
            .collect();
        let view = ImageView::new(*image, &planes)?;
        Ok(work(&view.oriented(self.orientation)))
    }

    /// Maps a buffer for writing and calls a function with it as an upright image. GStreamer first copies memory
    /// that is shared with another buffer.
    pub fn write(
        &self,
        buffer: &mut gst::BufferRef,
        work: impl FnOnce(&mut ImageViewMut),
    ) -> Result<(), FrameError> {
        let (info, image) = self.format()?;
        let size = buffer.size();
        if let Some(layout) = Layout::of(buffer) {
            let mut map = buffer.map_writable().map_err(|_| not_mapped(info, size))?;
            let mut planes = layout.gather(&map, image)?;
            let views = planes
                .iter_mut()
                .enumerate()
                .map(|(plane, data)| PlaneMut {
                    data,
                    stride: image.format.row_bytes(plane, image.width),
                })
                .collect();
            let view = ImageViewMut::new(*image, views)?;
            work(&mut view.oriented(self.orientation));
            return layout.scatter(&planes, &mut map, image);
        }
        check_meta(buffer, info, image)?;
        let mut frame = VideoFrameRef::from_buffer_ref_writable(buffer, info)
            .map_err(|_| not_mapped(info, size))?;
        let strides: Vec<_> = frame.plane_stride().iter().map(|&s| s as usize).collect();
        let planes = frame
            .planes_data_mut()
            .into_iter()
            .zip(strides)
            .take(image.format.planes())
            .map(|(data, stride)| PlaneMut { data, stride })
            .collect();
        let view = ImageViewMut::new(*image, planes)?;
        work(&mut view.oriented(self.orientation));
        Ok(())
    }
}

/// Checks what GStreamer takes for granted of a `GstVideoMeta` (1.22): that it is of the format of the caps and no smaller
/// than they are, and that the memory of the buffer holds all rows that it names. To be mapped, a plane needs no more there
/// than its first byte.
fn check_meta(
    buffer: &gst::BufferRef,
    info: &VideoInfo,
    image: &ImageInfo,
) -> Result<(), FrameError> {
    let Some(meta) = buffer.meta::<gst_video::VideoMeta>() else {
        return Ok(());
    };
    let is_large_enough = meta.width() >= info.width() && meta.height() >= info.height();
    if meta.format() != info.format() || !is_large_enough {
        return Err(FrameError::Unusable(format!(
            "a buffer of {} {}×{} by its GstVideoMeta, in a stream of {} {}×{}",
            meta.format(),
            meta.width(),
            meta.height(),
            info.format(),
            info.width(),
            info.height()
        )));
    }
    for (plane, (&offset, &stride)) in meta.offset().iter().zip(meta.stride()).enumerate() {
        if plane >= image.format.planes() {
            break;
        }
        let before_last = image.format.rows(plane, image.height).saturating_sub(1);
        let expected = usize::try_from(stride)
            .unwrap_or_default()
            .saturating_mul(before_last)
            .saturating_add(image.format.row_bytes(plane, image.width));
        let end = offset.saturating_add(1);
        let found = buffer
            .find_memory(offset..end)
            .map_or(0, |(memories, skip)| {
                buffer
                    .peek_memory(memories.start)
                    .size()
                    .saturating_sub(skip)
            });
        if found < expected {
            return Err(FrameError::Unusable(format!(
                "plane {plane} of a buffer has {found} bytes; {}×{} pixels in rows of {stride} bytes take {expected}",
                image.width, image.height
            )));
        }
    }
    Ok(())
}

fn not_mapped(info: &VideoInfo, size: usize) -> FrameError {
    FrameError::Unusable(format!(
        "a buffer of {size} bytes cannot be mapped as {} {}×{}, which needs {} bytes",
        info.format(),
        info.width(),
        info.height(),
        info.size()
    ))
}

/// Parses the tag image-orientation: the transformation that turns the image upright.
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

/// The error for a buffer that arrives while the element is stopped.
pub fn not_started() -> gst::ErrorMessage {
    gst::error_msg!(
        gst::CoreError::StateChange,
        ("a buffer came while the element was stopped")
    )
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
