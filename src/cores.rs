//! Arithmetic on all cores.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Calls `work` for 0…count − 1, as many at a time as there are cores; the results in order.
pub fn on_all_cores<R: Send>(count: usize, work: impl Fn(usize) -> R + Sync) -> Vec<R> {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let next = AtomicUsize::new(0);
    let work = || {
        std::iter::from_fn(|| Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&i| i < count))
            .map(|i| (i, work(i)))
            .collect::<Vec<_>>()
    };
    let mut done = std::thread::scope(|scope| {
        let others: Vec<_> = (1..cores.min(count)).map(|_| scope.spawn(work)).collect();
        let mut done = work();
        for thread in others {
            match thread.join() {
                Ok(part) => done.extend(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    });
    done.sort_by_key(|(i, _)| *i);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_order_and_nothing_to_do_is_done() {
        let squares: Vec<usize> = (0..100).map(|i| i * i).collect();
        assert_eq!(on_all_cores(100, |i| i * i), squares);
        assert!(on_all_cores(0, |i| i).is_empty());
    }
}
