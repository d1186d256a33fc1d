//! Reaction to time pressure: a live stream continues whether or not an element keeps up. Inference is
//! skipped then, but never a frame.

use gst::prelude::*;
use gst_base::prelude::*;
use std::time::Duration;

/// Delays from which known faces are only followed, and from which inference is skipped.
const LATE: Duration = Duration::from_millis(30);
const TOO_LATE: Duration = Duration::from_millis(60);

/// Adaptation rate of the on-time estimate to a stream that is permanently late, in seconds per second.
const DRIFT: f64 = 0.02;

/// Fraction of the frame interval that an element of a live stream may take on average, because there are two of
/// them, and other elements. A source that is blocked drops frames instead of sending them late.
const SHARE: f64 = 0.45;

/// Upper limit of the debt, so that one long stall does not switch inference off for long.
const MOST_DEBT: Duration = Duration::from_millis(250);

/// How far an element is behind its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    None,
    Late,
    TooLate,
}

impl Pressure {
    fn of(seconds: f64) -> Self {
        match seconds {
            late if late > TOO_LATE.as_secs_f64() => Self::TooLate,
            late if late > LATE.as_secs_f64() => Self::Late,
            _ => Self::None,
        }
    }
}

/// The load of an element relative to its stream.
#[derive(Debug, Default)]
pub struct Load {
    /// Delay after its running time, in seconds, with which a frame arrives on time, and when this was measured.
    on_time: Option<(f64, f64)>,
    /// Time from the sink's QoS events before which frames arrive too late to be shown.
    earliest: Option<gst::ClockTime>,
    /// Seconds by which frames exceeded their share.
    debt: f64,
}

impl Load {
    /// Updates from the sink's QoS events about frames that arrived too late.
    pub fn update_from_event(&mut self, event: &gst::Event) {
        if let gst::EventView::Qos(qos) = event.view() {
            let (_, _, jitter, timestamp) = qos.get();
            // Like GstBaseTransform: frames up to this time would arrive too late again.
            self.earliest = timestamp.filter(|_| jitter > 0).map(|timestamp| {
                let jitter = gst::ClockTime::from_nseconds(jitter.unsigned_abs());
                timestamp.saturating_add(jitter).saturating_add(jitter)
            });
        }
    }

    /// Discards what is known about on-time frames, because timestamps do not continue the previous ones.
    pub fn forget_timestamps(&mut self) {
        self.on_time = None;
        self.earliest = None;
    }

    /// The lateness of a buffer with this running time. `now` is the running time of the element's clock, for a live
    /// stream.
    pub fn pressure(
        &mut self,
        now: Option<gst::ClockTime>,
        running_time: Option<gst::ClockTime>,
    ) -> Pressure {
        let Some(time) = running_time else {
            return Pressure::of(self.debt);
        };
        let by_sink = match self.earliest {
            Some(earliest) if time < earliest => Pressure::Late,
            _ => Pressure::None,
        };
        let lateness = now.map_or(Pressure::None, |now| self.lateness(now, time));
        by_sink.max(lateness).max(Pressure::of(self.debt))
    }

    /// Lateness relative to frames that were on time, because clocks and cameras have different offsets.
    fn lateness(&mut self, now: gst::ClockTime, time: gst::ClockTime) -> Pressure {
        let now = now.nseconds() as f64 / 1e9;
        let behind = now - time.nseconds() as f64 / 1e9;
        let on_time = match self.on_time {
            Some((on_time, then)) => behind.min(on_time + DRIFT * (now - then).max(0.0)),
            None => behind,
        };
        self.on_time = Some((on_time, now));
        Pressure::of(behind - on_time)
    }

    /// Adds the processing time of a frame of a live stream with this frame interval.
    pub fn add(&mut self, took: Duration, interval: Duration) {
        let more = took.as_secs_f64() - SHARE * interval.as_secs_f64();
        self.debt = (self.debt + more).clamp(0.0, MOST_DEBT.as_secs_f64());
    }
}

/// Asks the application to redistribute the latency.
pub fn post_latency(element: &gst_base::BaseTransform) {
    // This fails only while the pipeline is shut down, when nothing receives the message.
    let _ = element.post_message(gst::message::Latency::builder().src(element).build());
}

/// Whether upstream is live; false if upstream cannot answer yet.
pub fn asks_live(element: &gst_base::BaseTransform) -> bool {
    let mut query = gst::query::Latency::new();
    element.sink_pad().peer_query(&mut query) && query.result().0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> gst::ClockTime {
        gst::ClockTime::from_mseconds(ms)
    }

    #[test]
    fn frames_are_late_against_those_that_came_on_time() {
        let mut load = Load::default();
        // The frames of this camera always arrive 300 ms after their time.
        for frame in 0..30 {
            let time = ms(33 * frame);
            assert_eq!(load.lateness(time + ms(300), time), Pressure::None);
        }
        assert_eq!(load.lateness(ms(1000 + 345), ms(1000)), Pressure::Late);
        assert_eq!(load.lateness(ms(1040 + 380), ms(1040)), Pressure::TooLate);
        assert_eq!(load.lateness(ms(1100 + 300), ms(1100)), Pressure::None);
    }

    #[test]
    fn a_stream_that_stays_behind_is_on_time_after_some_seconds() {
        let mut load = Load::default();
        load.lateness(ms(0), ms(0));
        let pressures: Vec<_> = (1..150)
            .map(|frame| load.lateness(ms(33 * frame + 90), ms(33 * frame)))
            .collect();
        assert_eq!(pressures[0], Pressure::TooLate);
        assert_eq!(pressures[148], Pressure::None);
    }

    #[test]
    fn an_element_that_exceeds_its_share_of_the_time_does_less_for_a_while() {
        let mut load = Load::default();
        let [interval, long] = [40, 100].map(Duration::from_millis);
        load.add(long, interval);
        // The frame took 100 ms, and each frame reduces the debt by its share of 18: 82, 64, 46, 28.
        let pressures: Vec<_> = (0..4)
            .map(|_| {
                let pressure = Pressure::of(load.debt);
                load.add(Duration::ZERO, interval);
                pressure
            })
            .collect();
        use Pressure::{Late, TooLate};
        assert_eq!(pressures, [TooLate, TooLate, Late, Pressure::None]);
    }

    #[test]
    fn what_the_sink_calls_late_counts_until_twice_as_late() {
        gst::init().unwrap();
        let mut load = Load::default();
        let late = gst::event::Qos::builder(gst::QOSType::Underflow, 1.5, 40_000_000);
        load.update_from_event(&late.timestamp(ms(1000)).build());
        assert_eq!(load.earliest, Some(ms(1080)));
        let early = gst::event::Qos::builder(gst::QOSType::Overflow, 0.5, -1_000_000);
        load.update_from_event(&early.timestamp(ms(1100)).build());
        assert_eq!(load.earliest, None);
        let wild = gst::event::Qos::builder(gst::QOSType::Underflow, 1.5, i64::MAX);
        load.update_from_event(&wild.timestamp(ms(1000)).build());
        assert_eq!(load.earliest, Some(gst::ClockTime::MAX));
    }
}
