//! The latency that an element of a live stream adds in reply to a LATENCY query.
//!
//! It is a high percentile of the processing times of the newest frames, so that a single stall neither raises it
//! permanently nor delays every sink. It changes rarely, because each change makes the application redistribute
//! latency.

use std::time::{Duration, Instant};

/// Number of the newest frames that are taken into account.
const WINDOW: usize = 64;

/// Fraction of the frames that must finish within the latency.
const PERCENTILE: f64 = 0.95;

/// The latency is a multiple of this.
const STEP: Duration = Duration::from_millis(10);

/// Number of frames before the latency is first stated, and interval at which it is updated from then on.
const FIRST_AFTER: usize = 4;
const EVERY: Duration = Duration::from_secs(3);

/// Maximum latency in frame intervals: a filter that takes longer falls behind however long the sink waits,
/// and skips inference instead.
const MOST_INTERVALS: u32 = 2;

/// The processing times of the newest frames, and the latency in use.
#[derive(Debug, Default)]
pub struct Latency {
    /// A ring buffer whose next entry to be replaced is at `count % WINDOW`.
    times: Vec<Duration>,
    count: usize,
    stated: Duration,
    stated_at: Option<Instant>,
}

impl Latency {
    /// The latency to reply to a query.
    pub fn stated(&self) -> Duration {
        self.stated
    }

    /// Adds the processing time of a frame that was finished at `now`, in a stream with this frame interval; returns
    /// true if the latency has changed.
    pub fn add(&mut self, took: Duration, interval: Duration, now: Instant) -> bool {
        // The first frame includes one-time initialisation.
        self.count += 1;
        if self.count == 1 {
            return false;
        }
        let index = (self.count - 2) % WINDOW;
        if index < self.times.len() {
            self.times[index] = took;
        } else {
            self.times.push(took);
        }
        let is_due = match self.stated_at {
            None => self.times.len() >= FIRST_AFTER,
            Some(then) => now.saturating_duration_since(then) >= EVERY,
        };
        if !is_due {
            return false;
        }
        self.stated_at = Some(now);
        let wanted = round_up(self.percentile().min(interval * MOST_INTERVALS));
        // Lowered only if the difference is worth a redistribution.
        let is_other = wanted > self.stated || 2 * wanted <= self.stated;
        if is_other {
            self.stated = wanted;
        }
        is_other
    }

    fn percentile(&self) -> Duration {
        let mut times = self.times.clone();
        times.sort_unstable();
        let index = (PERCENTILE * times.len() as f64).ceil() as usize;
        times[index.saturating_sub(1).min(times.len() - 1)]
    }
}

fn round_up(time: Duration) -> Duration {
    let steps = time.as_nanos().div_ceil(STEP.as_nanos());
    STEP * u32::try_from(steps).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Feeds processing times in ms, a frame every 100 ms; returns the indices and values, in ms, of stated
    /// latencies.
    fn statements(times: impl IntoIterator<Item = u64>) -> Vec<(usize, u128)> {
        let mut latency = Latency::default();
        let start = Instant::now();
        times
            .into_iter()
            .enumerate()
            .filter_map(|(frame, time)| {
                let now = start + ms(100) * frame as u32;
                let is_other = latency.add(ms(time), ms(100), now);
                is_other.then(|| (frame, latency.stated().as_millis()))
            })
            .collect()
    }

    #[test]
    fn it_is_stated_once_and_one_stall_does_not_change_it() {
        let mut times = vec![900, 12, 15, 11, 14];
        times.extend([13; 200]);
        times[60] = 800;
        assert_eq!(statements(times), [(4, 20)]);
    }

    #[test]
    fn it_follows_what_frames_take_from_now_on_in_either_direction() {
        let slow = [12; 10].into_iter().chain([48; 100]);
        assert_eq!(
            statements(slow.chain([12; 150])),
            [(4, 20), (34, 50), (184, 20)]
        );
    }

    #[test]
    fn it_is_bounded_by_two_frames() {
        assert_eq!(statements([700; 6]), [(4, 200)]);
    }
}
