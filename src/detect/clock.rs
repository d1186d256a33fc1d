//! Time measurement of the stages of detection.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Time spent, summed over all threads.
#[derive(Debug, Default)]
pub struct Clock {
    /// Time for resampling, in nanoseconds.
    pixels: AtomicU64,
    /// Time for the network, in nanoseconds.
    network: AtomicU64,
}

impl Clock {
    pub fn now() -> Instant {
        Instant::now()
    }

    /// Adds the time since `begin` to that for resampling; returns the current time.
    pub fn pixels(&self, begin: Instant) -> Instant {
        add(&self.pixels, begin)
    }

    /// Adds the time since `begin` to that for the network; returns the current time.
    pub fn network(&self, begin: Instant) -> Instant {
        add(&self.network, begin)
    }

    /// Returns the times for resampling and for the network, and resets both.
    pub fn take(&mut self) -> (Duration, Duration) {
        let take = |spent: &mut AtomicU64| Duration::from_nanos(std::mem::take(spent.get_mut()));
        (take(&mut self.pixels), take(&mut self.network))
    }
}

fn add(spent: &AtomicU64, begin: Instant) -> Instant {
    let now = Instant::now();
    let passed = now.duration_since(begin).as_nanos() as u64;
    spent.fetch_add(passed, Ordering::Relaxed);
    now
}
