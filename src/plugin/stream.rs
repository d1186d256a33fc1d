//! State of an element's stream: caps and orientation, the time of its frames, and how far the element is behind.
//!
//! Events, queries and the streaming thread share it behind one lock, under which nothing blocks: no inference, no
//! query upstream, no message. The streaming thread works on a snapshot ([`Frame`]) and reports afterwards how long
//! it took. The state that processes frames (networks, tracks) belongs to the streaming thread; only serialised
//! events access it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gst::prelude::*;

use crate::plugin::clock::PictureClock;
use crate::plugin::frame::{self, Input};
use crate::plugin::latency::Latency;
use crate::plugin::load::{self, Load, Pressure};
use crate::threads::lock;

/// Minimum interval of warnings on the bus about the same problem.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// How long a stream may consist of unusable buffers only.
const UNUSABLE_FOR: Duration = Duration::from_secs(10);

/// How long, and for how many frames, a stream has no face metadata before that is reported.
const NO_METADATA_FOR: Duration = Duration::from_secs(5);
const NO_METADATA_FRAMES: u64 = 30;

/// Minimum interval of QoS messages about skipped inference.
const QOS_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub struct Stream(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    is_started: bool,
    input: Arc<Input>,
    /// None until upstream has been queried.
    is_live: Option<bool>,
    clock: PictureClock,
    load: Load,
    latency: Latency,
    unusable: Unusable,
    quality: Quality,
    detection: Detection,
}

/// Whether the frames of a stream have passed a face detector.
#[derive(Debug, Default)]
struct Detection {
    /// There was metadata, or its absence has been reported.
    is_settled: bool,
    /// Frames without metadata, and the time of the first.
    count: u64,
    since: Duration,
}

/// Buffers that could not be analysed since the last one that could.
#[derive(Debug, Default)]
struct Unusable {
    count: u64,
    since: Duration,
    reported: Option<Duration>,
}

/// Counts of frames for QoS messages.
#[derive(Debug, Default)]
struct Quality {
    processed: u64,
    skipped: u64,
    reported: Option<Instant>,
}

/// A frame to process, with the state of the stream when it arrived.
#[derive(Debug, Clone)]
pub struct Frame {
    pub input: Arc<Input>,
    /// Monotonic time, see [`PictureClock`].
    pub now: Duration,
    /// The typical time between frames.
    pub interval: Duration,
    /// The timestamp does not follow the previous one.
    pub is_discontinuous: bool,
    pub pressure: Pressure,
    /// Whether data is missing or was lost, so that the image is unreliable.
    pub is_corrupted: bool,
    pub is_live: bool,
    began: Instant,
}

/// How to handle a buffer that cannot be analysed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
    Silently,
    /// With a warning that names the number of such buffers in a row.
    WithWarning(u64),
    /// Only unusable buffers have arrived for long, so the problem is not damage of single frames.
    Fail,
}

impl Stream {
    /// Sets whether the element has started, and discards the state of the stream.
    pub fn set_started(&self, is_started: bool) {
        *lock(&self.0) = State {
            is_started,
            ..State::default()
        };
    }

    /// Whether the element is between start and stop, while models and galleries are loaded.
    pub fn is_started(&self) -> bool {
        lock(&self.0).is_started
    }

    /// Resets the state because the stream starts again, or continues elsewhere.
    pub fn restart(&self) {
        let mut state = lock(&self.0);
        state.is_live = None;
        state.clock = PictureClock::default();
        state.load = Load::default();
        state.unusable = Unusable::default();
        // The time begins anew. What is settled stays so, as a seek does not change which elements there are.
        if !state.detection.is_settled {
            state.detection = Detection::default();
        }
    }

    /// Sets new caps; returns the previous size of frames if it has changed.
    pub fn set_info(
        &self,
        info: &gst_video::VideoInfo,
    ) -> Result<Option<(u32, u32)>, gst::LoggableError> {
        let mut state = lock(&self.0);
        let before = state.input.size().ok();
        Arc::make_mut(&mut state.input).set_info(info)?;
        Ok(before.filter(|size| *size != (info.width(), info.height())))
    }

    pub fn input(&self) -> Arc<Input> {
        Arc::clone(&lock(&self.0).input)
    }

    /// Updates from an event from upstream.
    pub fn update_from_sink_event(&self, event: &gst::Event) {
        if Input::concerns(event) {
            Arc::make_mut(&mut lock(&self.0).input).update_from_event(event);
        }
        if event.type_() == gst::EventType::StreamStart {
            lock(&self.0).detection = Detection::default();
        }
    }

    /// Updates from an event from downstream.
    pub fn update_from_src_event(&self, event: &gst::Event) {
        lock(&self.0).load.update_from_event(event);
    }

    /// Starts a frame.
    pub fn begin(&self, element: &gst_base::BaseTransform, buffer: &gst::BufferRef) -> Frame {
        let began = Instant::now();
        let known = lock(&self.0).is_live;
        let is_live = known.unwrap_or_else(|| load::asks_live(element));
        let running_time = frame::running_time(element, buffer.pts());
        let clock_time = element.current_running_time().filter(|_| is_live);
        let frame = self.begin_at(began, is_live, running_time, clock_time);
        Frame {
            is_corrupted: buffer.flags().contains(gst::BufferFlags::CORRUPTED),
            ..frame
        }
    }

    /// Starts a frame with this running time; `clock_time` is the running time of the clock.
    fn begin_at(
        &self,
        began: Instant,
        is_live: bool,
        running_time: Option<gst::ClockTime>,
        clock_time: Option<gst::ClockTime>,
    ) -> Frame {
        let mut state = lock(&self.0);
        state.is_live = Some(is_live);
        let announced = state.input.announced_interval();
        let tick = state
            .clock
            .tick(running_time.map(Into::into), began, is_live, announced);
        if tick.is_discontinuous {
            state.load.forget_timestamps();
        }
        Frame {
            input: Arc::clone(&state.input),
            now: tick.now,
            interval: tick.interval,
            is_discontinuous: tick.is_discontinuous,
            pressure: state.load.pressure(clock_time, running_time),
            is_corrupted: false,
            is_live,
            began,
        }
    }

    /// Ends a frame; the messages that are posted afterwards do not count as its processing time.
    pub fn end(&self, element: &gst_base::BaseTransform, frame: &Frame, is_analysed: bool) {
        if self.end_at(Instant::now(), frame, is_analysed) {
            load::post_latency(element);
        }
    }

    /// Ends a frame; returns true if the latency has changed.
    fn end_at(&self, now: Instant, frame: &Frame, is_analysed: bool) -> bool {
        let took = now.saturating_duration_since(frame.began);
        let mut state = lock(&self.0);
        if is_analysed {
            state.unusable = Unusable::default();
        }
        if !frame.is_live {
            return false;
        }
        state.load.add(took, frame.interval);
        state.latency.add(took, frame.interval, now)
    }

    /// Advances the time without a frame, as during a gap; returns the new time.
    pub fn pass(&self, until: Option<gst::ClockTime>) -> Duration {
        let mut state = lock(&self.0);
        let is_live = state.is_live == Some(true);
        let announced = state.input.announced_interval();
        let tick = state
            .clock
            .tick(until.map(Into::into), Instant::now(), is_live, announced);
        tick.now
    }

    /// Decides how to handle the buffer of this frame, which cannot be analysed.
    pub fn skip(&self, frame: &Frame) -> Skip {
        let unusable = &mut lock(&self.0).unusable;
        if unusable.count == 0 {
            unusable.since = frame.now;
        }
        unusable.count += 1;
        if frame.now.saturating_sub(unusable.since) >= UNUSABLE_FOR {
            return Skip::Fail;
        }
        let is_due = |then| frame.now.saturating_sub(then) >= REPORT_EVERY;
        if unusable.reported.is_none_or(is_due) {
            unusable.reported = Some(frame.now);
            return Skip::WithWarning(unusable.count);
        }
        Skip::Silently
    }

    /// Whether to report that the frames so far have no face metadata, which is true once in a stream.
    pub fn lacks_metadata(&self, frame: &Frame, has_metadata: impl FnOnce() -> bool) -> bool {
        let detection = &mut lock(&self.0).detection;
        if detection.is_settled {
            return false;
        }
        if has_metadata() {
            detection.is_settled = true;
            return false;
        }
        if detection.count == 0 {
            detection.since = frame.now;
        }
        detection.count += 1;
        detection.is_settled = detection.count >= NO_METADATA_FRAMES
            && frame.now.saturating_sub(detection.since) >= NO_METADATA_FOR;
        detection.is_settled
    }

    /// Counts a frame that was analysed, or for which inference was skipped; returns both counts if a report
    /// is due.
    pub fn count(&self, is_skipped: bool) -> Option<(u64, u64)> {
        let quality = &mut lock(&self.0).quality;
        if !is_skipped {
            quality.processed += 1;
            return None;
        }
        quality.skipped += 1;
        let is_due = quality
            .reported
            .is_none_or(|then| then.elapsed() >= QOS_EVERY);
        is_due.then(|| {
            quality.reported = Some(Instant::now());
            (quality.processed, quality.skipped)
        })
    }

    /// Adds this element's latency to the answer of a latency query. The maximum stays, because nothing is buffered
    /// here.
    pub fn answer(&self, query: &mut gst::QueryRef) {
        let gst::QueryViewMut::Latency(latency) = query.view_mut() else {
            return;
        };
        let (is_live, min, max) = latency.result();
        let mut state = lock(&self.0);
        state.is_live = Some(is_live);
        if is_live {
            let own = gst::ClockTime::try_from(state.latency.stated()).unwrap_or_default();
            // A minimum above the maximum would prevent the pipeline from being configured.
            let own = max.map_or(own, |max| own.min(max.saturating_sub(min)));
            latency.set(is_live, min.saturating_add(own), max);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(now: Duration) -> Frame {
        Frame {
            input: Arc::default(),
            now,
            interval: Duration::from_millis(40),
            is_discontinuous: false,
            pressure: Pressure::None,
            is_corrupted: false,
            is_live: false,
            began: Instant::now(),
        }
    }

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Caps that announce a frame rate.
    fn announcing(rate: gst::Fraction) -> Stream {
        gst::init().unwrap();
        let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::Gray8, 640, 480);
        let stream = Stream::default();
        stream.set_info(&info.fps(rate).build().unwrap()).unwrap();
        stream
    }

    /// Feeds a live stream with a frame every `interval` ms that takes `took` ms to process, with `timestamp(n)` in
    /// ms instead of `n * interval`; returns the frames with reduced inference.
    fn under_pressure(
        stream: &Stream,
        interval: u64,
        took: u64,
        timestamp: impl Fn(u64) -> u64,
    ) -> Vec<u64> {
        let start = Instant::now();
        let time = |ms| gst::ClockTime::from_mseconds(ms);
        (0..50)
            .filter(|&n| {
                let arrival = n * interval;
                let frame = stream.begin_at(
                    start + ms(arrival),
                    true,
                    Some(time(timestamp(n))),
                    Some(time(arrival + 5)),
                );
                stream.end_at(start + ms(arrival + took), &frame, true);
                frame.pressure > Pressure::None
            })
            .collect()
    }

    #[test]
    fn the_pace_of_the_timestamps_counts_and_not_that_of_the_caps() {
        for rate in [(90_000, 1), (0, 1), (30, 1), (1, 1)] {
            let stream = announcing(rate.into());
            // Ten frames per second take 25 ms each, then two per second take 150 ms each.
            assert_eq!(
                under_pressure(&stream, 100, 25, |n| 100 * n).len(),
                0,
                "{rate:?}"
            );
            let stream = announcing(rate.into());
            let late = under_pressure(&stream, 500, 150, |n| 500 * n);
            assert!(late.iter().all(|&n| n < 3), "{rate:?}: {late:?}");
        }
    }

    #[test]
    fn wild_timestamps_make_no_frame_late() {
        let rate = gst::Fraction::new(10, 1);
        let once = |n| 100 * n + if n == 20 { 10_000 } else { 0 };
        assert_eq!(under_pressure(&announcing(rate), 100, 20, once).len(), 0);
        let hours = |n| 100 * n + if n == 20 { 36_000_000 } else { 0 };
        assert_eq!(under_pressure(&announcing(rate), 100, 20, hours).len(), 0);
        let from_now_on = |n| 100 * n + if n >= 20 { 3_600_000 } else { 0 };
        assert_eq!(
            under_pressure(&announcing(rate), 100, 20, from_now_on).len(),
            0
        );
        let back = |n: u64| {
            if n >= 20 {
                (100 * n).saturating_sub(2000)
            } else {
                100 * n
            }
        };
        assert_eq!(under_pressure(&announcing(rate), 100, 20, back).len(), 0);
        let back_an_hour = |n| 100 * n + if n < 20 { 3_600_000 } else { 0 };
        assert_eq!(
            under_pressure(&announcing(rate), 100, 20, back_an_hour).len(),
            0
        );
    }

    #[test]
    fn frames_that_take_longer_than_there_is_time_for_put_a_stream_under_pressure() {
        let stream = announcing(gst::Fraction::new(10, 1));
        let late = under_pressure(&stream, 100, 90, |n| 100 * n);
        assert!(late.len() > 30, "{late:?}");
    }

    #[test]
    fn the_maximum_latency_stays_and_is_never_exceeded() {
        let stream = announcing(gst::Fraction::new(10, 1));
        under_pressure(&stream, 100, 25, |n| 100 * n);
        let answer = |max: Option<u64>| {
            let mut query = gst::query::Latency::new();
            let time = gst::ClockTime::from_mseconds;
            query.set(true, time(100), max.map(time));
            stream.answer(&mut query);
            let (_, min, max) = query.result();
            (min.mseconds(), max.map(gst::ClockTime::mseconds))
        };
        assert_eq!(answer(None), (130, None));
        assert_eq!(answer(Some(500)), (130, Some(500)));
        assert_eq!(answer(Some(110)), (110, Some(110)));
        let mut query = gst::query::Latency::new();
        query.set(true, gst::ClockTime::MAX, gst::ClockTime::NONE);
        stream.answer(&mut query);
        assert_eq!(query.result().1, gst::ClockTime::MAX);
    }

    #[test]
    fn unusable_buffers_are_reported_now_and_then_and_fail_only_if_nothing_else_comes() {
        let stream = Stream::default();
        let skip = |ms| stream.skip(&frame(Duration::from_millis(ms)));
        assert_eq!(skip(0), Skip::WithWarning(1));
        assert_eq!(skip(40), Skip::Silently);
        assert_eq!(skip(9_999), Skip::Silently);
        assert_eq!(skip(10_000), Skip::Fail);
    }

    #[test]
    fn missing_metadata_is_reported_once_after_seconds_and_frames_without_any() {
        gst::init().unwrap();
        let reported = |stream: &Stream, interval: u64, has: &dyn Fn(u64) -> bool| -> Vec<u64> {
            let is_reported = |n: &u64| stream.lacks_metadata(&frame(ms(interval * n)), || has(*n));
            (0..400).filter(is_reported).collect()
        };
        let stream = Stream::default();
        assert_eq!(reported(&stream, 40, &|_| false), [125]);
        // A seek begins the time anew; another stream may come through other elements.
        stream.restart();
        assert_eq!(reported(&stream, 40, &|_| false), [] as [u64; 0]);
        stream.update_from_sink_event(&gst::event::StreamStart::new("another"));
        assert_eq!(reported(&stream, 1000, &|_| false), [29]);
        // An early face of a detector that leaves nothing on frames without one.
        assert_eq!(
            reported(&Stream::default(), 40, &|n| n == 100),
            [] as [u64; 0]
        );
    }

    #[test]
    fn skipped_inference_is_reported_once_a_second_with_what_was_done() {
        let stream = Stream::default();
        assert_eq!(stream.count(false), None);
        assert_eq!(stream.count(true), Some((1, 1)));
        assert_eq!(stream.count(true), None);
        assert_eq!(stream.count(false), None);
    }
}
