//! What to do when there is too little time: a live stream goes on, whoever keeps up or not. Inference is
//! left out then, never frames.

use gst::prelude::*;
use gst_base::prelude::*;
use std::time::Duration;

/// Later than this behind the stream, less is done; later than that, next to nothing.
const LATE: Duration = Duration::from_millis(30);
const TOO_LATE: Duration = Duration::from_millis(60);

/// How fast the notion of what is on time follows a stream that falls behind for good, as a part of its time.
const DRIFT: f64 = 0.02;

/// Part of a frame's duration that an element of a live stream may take on average: there are two of them, and
/// others. A source that is kept waiting leaves out frames instead of sending them late.
const SHARE: f64 = 0.45;

/// What is owed at most: after that long a hold-up it is as if it had been no longer.
const MOST_DEBT: Duration = Duration::from_millis(250);

/// Steps that the latency is told in, so that it is not told anew for every frame.
const STEP: Duration = Duration::from_millis(10);

/// How far behind its stream an element is.
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

/// Where an element stands in its stream.
#[derive(Debug, Default)]
pub struct Load {
    /// None until upstream was asked.
    is_live: Option<bool>,
    /// How long after its running time, in seconds, a frame comes that is on time, and when that was found.
    on_time: Option<(f64, f64)>,
    /// From the sink: earlier frames come too late to be shown.
    earliest: Option<gst::ClockTime>,
    /// Seconds by which frames took longer than their share.
    debt: f64,
    is_warm: bool,
    /// What the latency query is answered.
    latency: Duration,
}

impl Load {
    /// A stream begins anew: after a seek, with other caps, in another state.
    pub fn reset(&mut self) {
        self.is_live = None;
        self.on_time = None;
        self.earliest = None;
        self.debt = 0.0;
    }

    /// Takes notice of what the sink says of frames that came too late.
    pub fn notice(&mut self, event: &gst::Event) {
        if let gst::EventView::Qos(qos) = event.view() {
            let (_, _, jitter, timestamp) = qos.get();
            // As GstBaseTransform does it: what is as late again is not to be saved.
            self.earliest = timestamp
                .filter(|_| jitter > 0)
                .map(|t| t + gst::ClockTime::from_nseconds(jitter.unsigned_abs()) * 2);
        }
    }

    /// How late a buffer of this running time is; `now` is the element's own.
    pub fn pressure(
        &mut self,
        now: Option<gst::ClockTime>,
        running_time: Option<gst::ClockTime>,
    ) -> Pressure {
        let Some(time) = running_time else {
            return Pressure::None;
        };
        let by_sink = match self.earliest {
            Some(earliest) if time < earliest => Pressure::Late,
            _ => Pressure::None,
        };
        let now = now.filter(|_| self.is_live());
        let lateness = now.map_or(Pressure::None, |now| self.lateness(now, time));
        by_sink.max(lateness).max(Pressure::of(self.debt))
    }

    /// Against frames that came on time, for clocks and cameras differ in what they call on time.
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

    fn is_live(&self) -> bool {
        self.is_live == Some(true)
    }

    /// Whether the stream is live, as far as upstream was asked.
    pub fn known_live(&self) -> Option<bool> {
        self.is_live
    }

    /// What upstream says, if it has not said so before; gives what holds.
    pub fn set_live(&mut self, is_live: bool) -> bool {
        *self.is_live.get_or_insert(is_live)
    }

    /// Takes notice of how long a frame took, of a stream whose frames last so long; true if it took more than the
    /// latency query has been told, of a live stream.
    pub fn took(&mut self, took: Duration, frame: Duration) -> bool {
        if !self.is_live() {
            return false;
        }
        let more = took.as_secs_f64() - SHARE * frame.as_secs_f64();
        self.debt = (self.debt + more).clamp(0.0, MOST_DEBT.as_secs_f64());
        // The first frame pays for what is made once.
        let is_first = !std::mem::replace(&mut self.is_warm, true);
        let is_more = !is_first && took > self.latency;
        if is_more {
            let steps = took.as_nanos().div_ceil(STEP.as_nanos());
            self.latency = STEP * u32::try_from(steps).unwrap_or(u32::MAX);
        }
        is_more
    }

    /// Adds what this element takes to the answer of a latency query.
    pub fn answer(&mut self, query: &mut gst::QueryRef) {
        if let gst::QueryViewMut::Latency(latency) = query.view_mut() {
            let (is_live, min, max) = latency.result();
            self.is_live = Some(is_live);
            if is_live {
                let own = gst::ClockTime::try_from(self.latency).unwrap_or_default();
                latency.set(is_live, min + own, max.opt_add(own));
            }
        }
    }
}

/// Asks the application to find out anew how long frames take on their way.
pub fn post_latency(element: &gst_base::BaseTransform) {
    // Fails only while the pipeline is being taken down, when nobody listens.
    let _ = element.post_message(gst::message::Latency::builder().src(element).build());
}

/// Whether what comes from upstream is live.
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
        // A camera whose frames always come 300 ms after their time.
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
    fn who_takes_more_than_a_share_of_a_live_stream_has_to_do_less_for_a_while() {
        let mut load = Load::default();
        let [frame, long] = [40, 100].map(Duration::from_millis);
        assert!(!load.took(long, frame));
        assert_eq!(load.debt, 0.0);
        load.is_live = Some(true);
        load.is_warm = true;
        assert!(load.took(long, frame));
        // 100 ms taken, 18 allowed in each frame: 82, 64, 46, 28.
        let pressures: Vec<_> = (0..4)
            .map(|_| {
                let pressure = Pressure::of(load.debt);
                assert!(!load.took(Duration::ZERO, frame));
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
        load.notice(&late.timestamp(ms(1000)).build());
        assert_eq!(load.earliest, Some(ms(1080)));
        let early = gst::event::Qos::builder(gst::QOSType::Overflow, 0.5, -1_000_000);
        load.notice(&early.timestamp(ms(1100)).build());
        assert_eq!(load.earliest, None);
    }
}
