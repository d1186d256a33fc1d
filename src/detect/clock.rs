//! How long the parts of detection take.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What threads have spent, together.
#[derive(Debug, Default)]
pub struct Clock {
    /// Nanoseconds.
    pixels: AtomicU64,
    network: AtomicU64,
}

impl Clock {
    pub fn now() -> Instant {
        Instant::now()
    }

    /// Adds the time since `begin` to that for pixels; gives the time now.
    pub fn pixels(&self, begin: Instant) -> Instant {
        add(&self.pixels, begin)
    }

    /// Adds the time since `begin` to that for the network; gives the time now.
    pub fn network(&self, begin: Instant) -> Instant {
        add(&self.network, begin)
    }

    /// What was spent for pixels and for the network; from now on counted from 0.
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
