//! The threads that share the work of a frame: one set for the process, however many elements run in it.
//!
//! Whoever has work does it, and is helped by those of the set who are idle then. With many streams each goes on in
//! its own thread and waits for nobody; with one, all cores are used.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use once_cell::sync::OnceCell;
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

/// Threads that help, and how many of them are idle.
struct Helpers {
    pool: ThreadPool,
    idle: AtomicUsize,
}

static HELPERS: OnceCell<Helpers> = OnceCell::new();

/// Locks; a thread that panicked with the lock held leaves models, settings and scratch memory usable.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

/// Calls `work` with each number below `count` once, on the thread that calls and on up to `threads` − 1 others.
pub fn share(threads: usize, count: usize, work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    let run = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                break;
            }
            work(number);
        }
    };
    let wanted = threads.min(count).saturating_sub(1);
    // Where no threads can be had the work is done all the same.
    match HELPERS.get_or_try_init(Helpers::new) {
        Ok(helpers) if wanted > 0 => helpers.help(wanted, run),
        _ => run(),
    }
}

impl Helpers {
    /// One for each core but that of the thread that asks for help.
    fn new() -> Result<Self, ThreadPoolBuildError> {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let count = (cores - 1).max(1);
        Ok(Self {
            pool: ThreadPoolBuilder::new()
                .num_threads(count)
                .thread_name(|i| format!("mfr-{i}"))
                .build()?,
            idle: AtomicUsize::new(if cores > 1 { count } else { 0 }),
        })
    }

    /// Runs `run` here and on up to `wanted` idle threads. Not on more: it would end here only when they had come
    /// round to it.
    fn help(&self, wanted: usize, run: impl Fn() + Sync) {
        let idle = &self.idle;
        let take = |idle: usize| Some(idle.saturating_sub(wanted));
        let (order, now) = (Ordering::AcqRel, Ordering::Acquire);
        let before = idle.fetch_update(order, now, take).unwrap_or(0);
        self.pool.in_place_scope(|scope| {
            for _ in 0..before.min(wanted) {
                scope.spawn(|_| {
                    let _back = Back(idle);
                    run();
                });
            }
            run();
        });
    }
}

/// Gives a helper back, also when its work panics.
struct Back<'a>(&'a AtomicUsize);

impl Drop for Back<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_worked_on_once_however_many_threads_there_are() {
        for threads in [0, 1, 2, 7] {
            let seen: Vec<_> = (0..100).map(|_| AtomicUsize::new(0)).collect();
            share(threads, seen.len(), |i| {
                seen[i].fetch_add(1, Ordering::Relaxed);
            });
            assert!(seen.iter().all(|n| n.load(Ordering::Relaxed) == 1));
        }
        share(2, 0, |_| panic!("there is nothing to do"));
    }

    #[test]
    fn helpers_come_back() {
        let helpers = Helpers::new().unwrap();
        let idle = helpers.idle.load(Ordering::Relaxed);
        for _ in 0..100 {
            helpers.help(3, || {});
        }
        assert_eq!(helpers.idle.load(Ordering::Relaxed), idle);
    }
}
