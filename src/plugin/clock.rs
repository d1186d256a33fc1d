//! The time base of tracking: timestamps, corrected where they are implausible.
//!
//! Cameras announce frame rates that they do not keep, adjust their clocks while streaming, and produce single
//! timestamps that are seconds or hours off. Tracks, hysteresis and deadlines need a time that advances with the
//! frames, so [`PictureClock`] uses the difference of consecutive timestamps where it is plausible, and the typical
//! frame interval where it is not.

use std::time::{Duration, Instant};

/// How much more than the elapsed time a timestamp of a live stream may advance. Frames that were queued while
/// this thread was blocked are covered by the elapsed time.
const JUMP: Duration = Duration::from_secs(1);

/// Number of intervals whose median is the typical one.
const INTERVALS: usize = 5;

/// Frame interval where neither timestamps nor caps determine it.
const DEFAULT_INTERVAL: Duration = Duration::from_millis(40);

/// Announced frame intervals outside this range come from time scales (90000/1) and placeholders (0/1).
const PLAUSIBLE: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(4)..=Duration::from_secs(60);

/// The time of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tick {
    /// Monotonic time, which starts at the first running time.
    pub now: Duration,
    /// The typical time between frames.
    pub interval: Duration,
    /// The timestamp does not follow the previous one, so any offset between timestamps and a clock is invalid.
    pub is_discontinuous: bool,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    running_time: Option<Duration>,
    arrival: Instant,
}

/// Converts running times and arrival times of frames to a time that advances with the frames.
#[derive(Debug, Default)]
pub struct PictureClock {
    now: Duration,
    last: Option<Last>,
    /// The newest plausible differences of timestamps, a ring buffer whose next entry to be replaced is at `count %
    /// INTERVALS`.
    intervals: [Duration; INTERVALS],
    count: usize,
}

impl PictureClock {
    /// Advances to a frame. `announced` is the frame interval of the caps.
    pub fn tick(
        &mut self,
        running_time: Option<Duration>,
        arrival: Instant,
        is_live: bool,
        announced: Option<Duration>,
    ) -> Tick {
        let interval = self.interval(announced);
        let last = self.last.replace(Last {
            running_time,
            arrival,
        });
        let Some(last) = last else {
            self.now = self.now.max(running_time.unwrap_or_default());
            return self.ticked(interval, false);
        };
        let waited = arrival.saturating_duration_since(last.arrival);
        let without_timestamps = if is_live { waited } else { interval };
        let (step, is_discontinuous) = match (running_time, last.running_time) {
            (Some(time), Some(before)) if time > before => {
                let step = time - before;
                let is_jump = is_live && step > waited + JUMP;
                if !is_jump {
                    self.intervals[self.count % INTERVALS] = step;
                    self.count += 1;
                }
                (if is_jump { interval } else { step }, is_jump)
            }
            // Two frames with the same timestamp are as implausible as a decreasing timestamp.
            (Some(_), Some(_)) => (interval, true),
            _ => (without_timestamps, false),
        };
        self.now += step;
        self.ticked(self.interval(announced), is_discontinuous)
    }

    fn ticked(&self, interval: Duration, is_discontinuous: bool) -> Tick {
        Tick {
            now: self.now,
            interval,
            is_discontinuous,
        }
    }

    /// The median of the newest intervals; before the first one, that of the caps.
    fn interval(&self, announced: Option<Duration>) -> Duration {
        let known = self.count.min(INTERVALS);
        if known == 0 {
            return announced
                .filter(|interval| PLAUSIBLE.contains(interval))
                .unwrap_or(DEFAULT_INTERVAL);
        }
        let mut intervals = self.intervals;
        let intervals = &mut intervals[..known];
        intervals.sort_unstable();
        intervals[(known - 1) / 2]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Feeds frames with these running times in ms, one every 100 ms; returns the differences of the ticks in ms.
    fn steps(is_live: bool, times: &[Option<u64>], announced: Option<Duration>) -> Vec<u128> {
        let mut clock = PictureClock::default();
        let start = Instant::now();
        let ticks: Vec<_> = times
            .iter()
            .enumerate()
            .map(|(frame, time)| {
                let arrival = start + ms(100) * frame as u32;
                clock.tick(time.map(ms), arrival, is_live, announced)
            })
            .collect();
        let pairs = ticks.windows(2);
        pairs
            .map(|pair| (pair[1].now - pair[0].now).as_millis())
            .collect()
    }

    #[test]
    fn plausible_timestamps_are_the_time() {
        let times = [500, 600, 701, 1900].map(Some);
        assert_eq!(steps(false, &times, None), [100, 101, 1199]);
        // A timestamp of a live stream may advance by the elapsed time plus a second.
        assert_eq!(steps(true, &[0, 100, 1100].map(Some), None), [100, 1000]);
    }

    #[test]
    fn a_wild_timestamp_of_a_live_stream_is_one_frame() {
        let once = [0, 100, 200, 10_300, 400, 500].map(Some);
        assert_eq!(steps(true, &once, None), [100; 5]);
        let from_now_on = [0, 100, 200, 3_600_300, 3_600_400].map(Some);
        assert_eq!(steps(true, &from_now_on, None), [100; 4]);
    }

    #[test]
    fn time_that_steps_back_goes_on_at_the_usual_pace() {
        for is_live in [true, false] {
            let times = [5000, 5100, 5200, 3300, 3400].map(Some);
            assert_eq!(steps(is_live, &times, None), [100; 4]);
        }
        let mut clock = PictureClock::default();
        let now = Instant::now();
        let mut tick = |time| clock.tick(Some(ms(time)), now, false, None);
        assert!(!tick(100).is_discontinuous);
        assert!(!tick(140).is_discontinuous);
        assert!(tick(20).is_discontinuous);
        assert!(!tick(60).is_discontinuous);
    }

    #[test]
    fn caps_are_a_first_guess_and_only_if_plausible() {
        let interval = |announced, times: &[u64]| {
            let mut clock = PictureClock::default();
            let now = Instant::now();
            let ticks = times
                .iter()
                .map(|&time| clock.tick(Some(ms(time)), now, false, announced));
            ticks.last().unwrap().interval
        };
        let announced = Some(ms(33));
        assert_eq!(interval(announced, &[0]), ms(33));
        assert_eq!(interval(announced, &[0, 500, 1000]), ms(500));
        // A single gap does not change the typical interval.
        assert_eq!(interval(announced, &[0, 100, 200, 5000, 5100]), ms(100));
        // Frame rates of 90000/1 and 0/1 are implausible.
        assert_eq!(
            interval(Some(Duration::from_micros(11)), &[0]),
            DEFAULT_INTERVAL
        );
        assert_eq!(interval(None, &[0]), DEFAULT_INTERVAL);
    }

    #[test]
    fn without_timestamps_live_time_is_that_of_the_arrival() {
        let none = [None; 4];
        assert_eq!(
            steps(true, &none, Some(Duration::from_micros(11))),
            [100; 3]
        );
        assert_eq!(steps(false, &none, Some(ms(40))), [40; 3]);
    }
}
