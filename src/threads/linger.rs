//! Keeps values for some seconds after their last use, so that an application that takes a pipeline to READY and back,
//! or plays the next item of a playlist, finds networks and gallery still loaded.

use std::any::Any;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::threads::lock;

/// How long a value is kept.
const KEPT_FOR: Duration = Duration::from_secs(5);

/// Maximum number of values that are kept; the oldest are dropped first.
const MOST: usize = 8;

#[derive(Default)]
struct Kept {
    /// Values, the oldest first, each with the time at which it expires.
    values: Vec<(Instant, Box<dyn Any + Send>)>,
    /// Whether a thread is waiting to drop expired values.
    is_watched: bool,
}

static KEPT: Mutex<Kept> = Mutex::new(Kept {
    values: Vec::new(),
    is_watched: false,
});

/// Keeps a value for some seconds instead of dropping it.
pub fn linger<T: Send + 'static>(value: T) {
    let superseded = {
        let mut kept = lock(&KEPT);
        kept.values
            .push((Instant::now() + KEPT_FOR, Box::new(value)));
        let excess = kept.values.len().saturating_sub(MOST);
        let superseded: Vec<_> = kept.values.drain(..excess).collect();
        if !kept.is_watched {
            let thread = std::thread::Builder::new().name("mfr-linger".into());
            kept.is_watched = thread.spawn(drop_in_time).is_ok();
            if !kept.is_watched {
                kept.values.clear();
            }
        }
        superseded
    };
    // Values are dropped without the lock, because dropping a large one takes a while.
    drop(superseded);
}

/// Drops each value when it expires, and returns when none is left.
fn drop_in_time() {
    loop {
        let now = Instant::now();
        let (expired, next) = {
            let mut kept = lock(&KEPT);
            let count = kept
                .values
                .iter()
                .take_while(|(end, _)| *end <= now)
                .count();
            let expired: Vec<_> = kept.values.drain(..count).collect();
            let next = kept.values.first().map(|(end, _)| *end);
            kept.is_watched = next.is_some();
            (expired, next)
        };
        drop(expired);
        let Some(next) = next else {
            return;
        };
        std::thread::sleep(next.saturating_duration_since(now));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn the_newest_values_are_kept_for_a_moment() {
        let values: Vec<_> = (0..MOST + 2).map(Arc::new).collect();
        for value in &values {
            linger(Arc::clone(value));
        }
        let count = || values.iter().map(Arc::strong_count).collect::<Vec<_>>();
        let kept = count();
        assert_eq!(kept[..2], [1; 2]);
        assert_eq!(kept[2..], [2; MOST]);
        let end = Instant::now() + 6 * KEPT_FOR;
        while count() != [1; MOST + 2] {
            assert!(Instant::now() < end, "values are never dropped");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
