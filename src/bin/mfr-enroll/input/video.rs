//! Frames of videos, decoded by GStreamer: upright 8-bit RGB with square pixels, evenly distributed.
//!
//! filesrc ! decodebin ! (selection of frames) ! videoconvert ! videoflip ! videoscale ! appsink
//!
//! Frames are selected directly after the decoder, so that the others cost no conversion. The sink
//! holds one frame; until it is taken, the decoder is blocked.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::Result;
use gst::prelude::*;
use gst_video::prelude::*;
use thiserror::Error;

use crate::input::error::MAX_PIXELS;
use crate::input::photo::DecodedPhoto;

/// Maximum number of frames of a video to enrol. More frames of the same minute hardly differ, and detection
/// is expensive: 20 frames cost as much as 20 photos.
pub const MAX_FRAMES: usize = 20;
/// Minimum time between two frames: within half a second a head hardly turns.
const MIN_INTERVAL: Duration = Duration::from_millis(500);
/// Maximum duration of a video; a file with a longer one is wrong.
const MAX_DURATION: Duration = Duration::from_secs(24 * 3600);
/// Duration of a frame if neither it nor its format states one: 25 frames per second.
const FRAME_DURATION: gst::ClockTime = gst::ClockTime::from_mseconds(40);
/// Interval of checking the bus while waiting for a frame.
const POLL: gst::ClockTime = gst::ClockTime::from_mseconds(50);

/// Limits of reading a video.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// Maximum number of frames to analyse.
    frames: usize,
    /// Maximum time without a decoded frame.
    stall: Duration,
    /// Maximum time in total, without the time in which frames are analysed.
    total: Duration,
}

/// An image of 100 megapixels is decoded within the first limit; a 1080p film of half an hour,
/// which is not a short video, within the second: two cores decode some 300 frames per second.
const PATIENCE: Patience = Patience {
    frames: MAX_FRAMES,
    stall: Duration::from_secs(15),
    total: Duration::from_secs(180),
};

/// Why a video cannot be read, or not to its end.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum VideoError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("not a regular file")]
    NotAFile,
    #[error("GStreamer cannot be used: {0}")]
    GStreamer(String),
    #[error("GStreamer lacks its element {0}; install the package with its base and good plugins")]
    Element(&'static str),
    #[error("GStreamer has no plugin for {0}")]
    Decoder(String),
    #[error("there is no video in it")]
    NoVideo,
    #[error("there is no frame in it")]
    NoFrame,
    #[error("the video is damaged: {0}")]
    Damaged(String),
    #[error("{width}×{height} pixels are too many: at most {} megapixels", MAX_PIXELS / 1_000_000)]
    TooManyPixels { width: u32, height: u32 },
    #[error("no frame came for {} s", .0.as_secs_f32())]
    Stalled(Duration),
    #[error("decoding it takes more than {} s; cut it to a few minutes", .0.as_secs_f32())]
    TooLong(Duration),
}

/// Results for a video.
#[derive(Debug)]
pub struct Watched<R> {
    /// Time from the start, and result for the frame; never empty without an error.
    pub frames: Vec<(Duration, R)>,
    /// Why the rest could not be read.
    pub error: Option<VideoError>,
}

/// Calls `look` for up to `frames` frames from all over a video file, one after another, with the time of each. A
/// few more are processed and discarded if the file does not state its duration. The same file has the same frames each time.
pub fn watch<R>(
    path: &Path,
    frames: usize,
    look: impl FnMut(Duration, &DecodedPhoto) -> Result<R>,
) -> Result<Watched<R>> {
    let patience = Patience { frames, ..PATIENCE };
    match source(path) {
        Ok(source) => collect(Frames::start(&[source], patience), look),
        Err(error) => collect(Err(error), look),
    }
}

fn source(path: &Path) -> Result<gst::Element, VideoError> {
    // Checked before opening, because opening a pipe would wait for a writer indefinitely.
    if !std::fs::metadata(path)?.is_file() {
        return Err(VideoError::NotAFile);
    }
    gst::init().map_err(|error| VideoError::GStreamer(error.to_string()))?;
    let source = element("filesrc")?;
    source.set_property("location", path);
    Ok(source)
}

fn collect<R>(
    frames: Result<Frames, VideoError>,
    mut look: impl FnMut(Duration, &DecodedPhoto) -> Result<R>,
) -> Result<Watched<R>> {
    let mut watched = Watched {
        frames: Vec::new(),
        error: None,
    };
    let mut frames = match frames {
        Ok(frames) => frames,
        Err(error) => {
            watched.error = Some(error);
            return Ok(watched);
        }
    };
    loop {
        match frames.next() {
            Ok(Some((time, photo))) => {
                watched.frames.push((time, look(time, &photo)?));
                if watched.frames.len() > frames.patience.frames {
                    keep_every_other(&mut watched.frames);
                }
            }
            Ok(None) => break,
            Err(error) => {
                watched.error = Some(error);
                break;
            }
        }
    }
    if watched.frames.is_empty() && watched.error.is_none() {
        watched.error = Some(VideoError::NoFrame);
    }
    Ok(watched)
}

/// Keeps the first, third, fifth … item.
fn keep_every_other<T>(items: &mut Vec<T>) {
    let mut index = 0;
    items.retain(|_| {
        index += 1;
        index % 2 == 1
    });
}

/// Selects frames by their time.
#[derive(Debug)]
struct Chooser {
    /// Maximum number of frames.
    most: usize,
    interval: Duration,
    /// Number of frames to select, if the duration is known.
    limit: Option<usize>,
    /// Number of frames selected so far, including discarded ones.
    passed: usize,
    /// Times of the frames that are kept, in step with the list in [`collect`].
    chosen: Vec<Duration>,
}

impl Chooser {
    /// For a video with this duration, if it is known.
    fn new(duration: Option<Duration>, most: usize) -> Self {
        let duration = duration.filter(|d| !d.is_zero() && *d <= MAX_DURATION);
        let count = duration.map(|duration| {
            let fit = duration.as_secs_f64() / MIN_INTERVAL.as_secs_f64();
            (fit.ceil() as usize).clamp(1, most)
        });
        let interval = match (duration, count) {
            (Some(duration), Some(count)) => (duration / count as u32).max(MIN_INTERVAL),
            _ => MIN_INTERVAL,
        };
        Self {
            most,
            interval,
            limit: count,
            passed: 0,
            chosen: Vec::new(),
        }
    }

    /// Whether the frame with this time is selected.
    fn wants(&mut self, time: Duration) -> bool {
        let is_due = self
            .chosen
            .first()
            .is_none_or(|first| time >= *first + self.interval * self.steps());
        if !is_due || self.is_done() {
            return false;
        }
        self.passed += 1;
        self.chosen.push(time);
        if self.chosen.len() > self.most {
            keep_every_other(&mut self.chosen);
            self.interval *= 2;
        }
        true
    }

    /// Number of intervals from the first frame to the next one that is due, independent of gaps.
    fn steps(&self) -> u32 {
        match (self.chosen.first(), self.chosen.last()) {
            (Some(first), Some(last)) => {
                let passed = last.saturating_sub(*first).as_nanos() / self.interval.as_nanos();
                u32::try_from(passed).unwrap_or(u32::MAX - 1) + 1
            }
            _ => 0,
        }
    }

    /// Whether the rest of the video is not needed.
    fn is_done(&self) -> bool {
        self.limit == Some(self.passed)
    }
}

/// State shared between the threads of a pipeline and the one that waits for frames.
#[derive(Debug, Default)]
struct Progress {
    /// Maximum number of frames to select.
    most: usize,
    /// Number of frames decoded so far.
    decoded: AtomicU64,
    has_video: AtomicBool,
    /// Whether all streams of the file are known.
    is_listed: AtomicBool,
    /// Created with the first frame, because demuxers do not know the duration before it.
    chooser: Mutex<Option<Chooser>>,
    /// Time for the next frame if it has none.
    next_time: Mutex<Option<gst::ClockTime>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Progress {
    /// Whether a frame from the decoder is passed on. A frame without a time gets one.
    fn lets_pass(&self, pad: &gst::Pad, info: &mut gst::PadProbeInfo) -> bool {
        let Some(buffer) = info.buffer_mut() else {
            return true;
        };
        self.decoded.fetch_add(1, Ordering::Relaxed);
        let mut next_time = locked(&self.next_time);
        let pts = match (buffer.pts(), *next_time) {
            (Some(pts), _) => pts,
            (None, next) => {
                let pts = next.unwrap_or(gst::ClockTime::ZERO);
                buffer.make_mut().set_pts(pts);
                pts
            }
        };
        let duration = buffer.duration().unwrap_or(FRAME_DURATION);
        *next_time = Some(pts.saturating_add(duration));
        drop(next_time);
        // A corrupted frame may show a damaged face, which must not be enrolled.
        if buffer.flags().contains(gst::BufferFlags::CORRUPTED) {
            return false;
        }
        let segment = pad
            .sticky_event::<gst::event::Segment>(0)
            .map(|event| event.segment().clone());
        // Frames outside the segment are decoded only because others depend on them.
        let Some(time) = stream_time(segment.as_ref(), pts) else {
            return false;
        };
        locked(&self.chooser)
            .get_or_insert_with(|| {
                let duration = pad.query_duration::<gst::ClockTime>();
                Chooser::new(duration.map(Duration::from), self.most)
            })
            .wants(time)
    }
}

/// Time from the start of the file.
fn stream_time(segment: Option<&gst::Segment>, pts: gst::ClockTime) -> Option<Duration> {
    let time = match segment.and_then(|s| s.downcast_ref::<gst::ClockTime>()) {
        Some(segment) => segment.to_stream_time(pts)?,
        None => pts,
    };
    Some(time.into())
}

/// The frames of a video, one after another.
#[derive(Debug)]
struct Frames {
    pipeline: gst::Pipeline,
    bus: gst::Bus,
    sink: gst::Element,
    progress: Arc<Progress>,
    patience: Patience,
    waited: Duration,
    /// Number of frames returned so far.
    taken: usize,
}

impl Frames {
    /// `source` are elements that output the bytes of a file.
    fn start(source: &[gst::Element], patience: Patience) -> Result<Self, VideoError> {
        let pipeline = gst::Pipeline::new();
        let decoder = element("decodebin")?;
        let convert = element("videoconvert")?;
        let flip = element("videoflip")?;
        let scale = element("videoscale")?;
        let sink = element("appsink")?;
        // Software decoders result in the same frames on every computer, in memory that every element can map.
        decoder.set_property("force-sw-decoders", true);
        // Applies the image-orientation tag.
        flip.set_property_from_str("video-direction", "auto");
        sink.set_property("sync", false);
        sink.set_property("max-buffers", 1u32);
        sink.set_property(
            "caps",
            gst_video::VideoCapsBuilder::new()
                .format(gst_video::VideoFormat::Rgb)
                .pixel_aspect_ratio(gst::Fraction::new(1, 1))
                .build(),
        );
        let tail = [&convert, &flip, &scale, &sink];
        let head: Vec<_> = source.iter().chain([&decoder]).collect();
        let build = || {
            pipeline.add_many(head.iter().copied().chain(tail))?;
            gst::Element::link_many(&head)?;
            gst::Element::link_many(tail)
        };
        build().map_err(|error: gst::glib::BoolError| VideoError::GStreamer(error.to_string()))?;
        let progress = Arc::new(Progress {
            most: patience.frames,
            ..Progress::default()
        });
        // Only containers and video are plugged: audio is not needed, and a playlist
        // with the extension of a video must not be fetched from where it points to.
        decoder.connect("autoplug-continue", false, |values| {
            let caps = values.get(2).and_then(|v| v.get::<gst::Caps>().ok());
            Some(caps.is_some_and(|caps| is_picture(&caps)).to_value())
        });
        let shared = Arc::clone(&progress);
        decoder.connect_pad_added(move |_, pad| {
            let is_video = pad
                .current_caps()
                .and_then(|caps| Some(caps.structure(0)?.name() == "video/x-raw"));
            let input = convert.static_pad("sink").filter(|pad| !pad.is_linked());
            if is_video == Some(true)
                && let Some(input) = input
            {
                let choosing = Arc::clone(&shared);
                pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
                    match choosing.lets_pass(pad, info) {
                        true => gst::PadProbeReturn::Ok,
                        false => gst::PadProbeReturn::Drop,
                    }
                });
                // An error here concerns the stream, and is posted on the bus when data flows.
                if pad.link(&input).is_ok() {
                    shared.has_video.store(true, Ordering::Release);
                }
            }
        });
        let shared = Arc::clone(&progress);
        decoder.connect_no_more_pads(move |_| shared.is_listed.store(true, Ordering::Release));
        let bus = pipeline
            .bus()
            .ok_or_else(|| VideoError::GStreamer("a pipeline without a bus".to_owned()))?;
        // Created before the state changes, so that dropping it on an error stops the pipeline.
        let frames = Self {
            pipeline,
            bus,
            sink,
            progress,
            patience,
            waited: Duration::ZERO,
            taken: 0,
        };
        // The reason of the failure is on the bus.
        if frames.pipeline.set_state(gst::State::Playing).is_err() {
            frames.check_bus()?;
            return Err(VideoError::Damaged("it cannot be opened".to_owned()));
        }
        Ok(frames)
    }

    /// The next frame and its time; `None` at the end.
    fn next(&mut self) -> Result<Option<(Duration, DecodedPhoto)>, VideoError> {
        let mut decoded = self.progress.decoded.load(Ordering::Relaxed);
        let mut last_decoded = Instant::now();
        loop {
            if self.is_done() {
                return Ok(None);
            }
            let before = Instant::now();
            let sample = self
                .sink
                .emit_by_name::<Option<gst::Sample>>("try-pull-sample", &[&POLL.nseconds()]);
            self.waited += before.elapsed();
            if let Some(sample) = sample {
                self.taken += 1;
                return photo(&sample).map(Some);
            }
            if self.sink.property::<bool>("eos") {
                self.check_bus()?;
                return Ok(None);
            }
            self.check_bus()?;
            if self.has_no_video() {
                return Err(VideoError::NoVideo);
            }
            let now = self.progress.decoded.load(Ordering::Relaxed);
            if now != decoded {
                decoded = now;
                last_decoded = Instant::now();
            }
            if last_decoded.elapsed() > self.patience.stall {
                return Err(VideoError::Stalled(self.patience.stall));
            }
            if self.waited > self.patience.total {
                return Err(VideoError::TooLong(self.patience.total));
            }
        }
    }

    /// Whether all wanted frames have been returned.
    fn is_done(&self) -> bool {
        locked(&self.progress.chooser)
            .as_ref()
            .is_some_and(|chooser| chooser.limit == Some(self.taken))
    }

    /// Whether all streams of the file are known, and none is a video.
    fn has_no_video(&self) -> bool {
        self.progress.is_listed.load(Ordering::Acquire)
            && !self.progress.has_video.load(Ordering::Acquire)
    }

    /// The first error on the bus.
    fn check_bus(&self) -> Result<(), VideoError> {
        let mut missing = None;
        while let Some(message) = self
            .bus
            .pop_filtered(&[gst::MessageType::Error, gst::MessageType::Element])
        {
            match message.view() {
                gst::MessageView::Error(error) => {
                    // A stream that is not linked also leads to an error, which is less specific.
                    let other = match self.has_no_video() {
                        true => VideoError::NoVideo,
                        false => VideoError::Damaged(error.error().to_string()),
                    };
                    return Err(missing.unwrap_or(other));
                }
                _ => missing = missing.or_else(|| missing_plugin(&message)),
            }
        }
        // Returned only if the plugin is missing for the video.
        match missing {
            Some(error) if !self.progress.has_video.load(Ordering::Acquire) => Err(error),
            _ => Ok(()),
        }
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        // A decoder that hangs cannot be stopped, and waiting for it would hang as well.
        let pipeline = self.pipeline.clone();
        let stopping = std::thread::Builder::new()
            .name("stop".to_owned())
            .spawn(move || pipeline.set_state(gst::State::Null));
        let Ok(stopping) = stopping else { return };
        let start = Instant::now();
        while !stopping.is_finished() && start.elapsed() < self.patience.stall {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn is_picture(caps: &gst::Caps) -> bool {
    caps.structure(0).is_some_and(|s| {
        let name = s.name();
        ["video/", "image/"]
            .iter()
            .any(|kind| name.starts_with(kind))
            || ["application/ogg", "application/x-3gp"].contains(&name.as_str())
    })
}

/// The error for a message about a missing plugin.
fn missing_plugin(message: &gst::MessageRef) -> Option<VideoError> {
    let structure = message.structure()?;
    if structure.name() != "missing-plugin" {
        return None;
    }
    let what = structure.get::<String>("name").ok()?;
    Some(VideoError::Decoder(what))
}

fn element(name: &'static str) -> Result<gst::Element, VideoError> {
    gst::ElementFactory::make(name)
        .build()
        .map_err(|_| VideoError::Element(name))
}

fn photo(sample: &gst::Sample) -> Result<(Duration, DecodedPhoto), VideoError> {
    let damaged = || VideoError::Damaged("a frame without a format".to_owned());
    let caps = sample.caps().ok_or_else(damaged)?;
    let info = gst_video::VideoInfo::from_caps(caps).map_err(|_| damaged())?;
    let (width, height) = (info.width(), info.height());
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(VideoError::TooManyPixels { width, height });
    }
    let buffer = sample.buffer().ok_or_else(damaged)?;
    let time = buffer
        .pts()
        .and_then(|pts| stream_time(sample.segment(), pts))
        .unwrap_or_default();
    let frame =
        gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &info).map_err(|_| damaged())?;
    let data = frame.plane_data(0).map_err(|_| damaged())?;
    let stride = usize::try_from(frame.plane_stride()[0]).map_err(|_| damaged())?;
    let row = width as usize * 3;
    let mut pixels = Vec::with_capacity(row * height as usize);
    for y in 0..height as usize {
        let start = y * stride;
        pixels.extend_from_slice(data.get(start..start + row).ok_or_else(damaged)?);
    }
    Ok((
        time,
        DecodedPhoto::from_rgb(pixels, width as usize, height as usize),
    ))
}

#[cfg(test)]
mod tests;
