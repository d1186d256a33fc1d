//! The threads that share the work of a frame: one set for the process, however many elements run in it.
//!
//! Whoever has work does it, and is helped by those of the set who are idle then. With many streams each goes on in
//! its own thread and waits for nobody; with one, all cores are used.

mod steps;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use once_cell::sync::OnceCell;
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

pub use steps::{Board, share_steps};

/// Threads that help, and how many of them are idle.
struct Helpers {
    pool: ThreadPool,
    idle: AtomicUsize,
}

static HELPERS: OnceCell<Helpers> = OnceCell::new();

/// Threads that have work of their own; those of elements say so.
static AT_WORK: AtomicUsize = AtomicUsize::new(0);

/// From now until it is dropped the thread needs a core of its own: nobody helps others on that.
#[cfg(any(test, feature = "plugin"))]
pub struct AtWork(());

#[cfg(any(test, feature = "plugin"))]
pub fn at_work() -> AtWork {
    AT_WORK.fetch_add(1, Ordering::Relaxed);
    AtWork(())
}

#[cfg(any(test, feature = "plugin"))]
impl Drop for AtWork {
    fn drop(&mut self) {
        AT_WORK.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Locks; a thread that panicked with the lock held leaves models, settings and scratch memory usable.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

/// Calls `work` with each number below `count` once, on the thread that calls and on up to `threads` − 1 others.
pub fn share(threads: usize, count: usize, work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    let work_on_one = || {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let is_one = number < count;
        if is_one {
            work(number);
        }
        is_one
    };
    let lead = |_| while work_on_one() {};
    let join = |helpers: &Helpers| while helpers.have_a_core() && work_on_one() {};
    with_help(threads.min(count), lead, join);
}

/// Runs `lead` on the thread that calls, with how many others there are: up to `threads` − 1 that run `join`.
fn with_help(threads: usize, lead: impl FnOnce(usize), join: impl Fn(&Helpers) + Sync) {
    let wanted = threads.saturating_sub(1);
    // Where no threads can be had the work is done all the same.
    match HELPERS.get_or_try_init(Helpers::new) {
        Ok(helpers) if wanted > 0 => helpers.help(wanted, lead, join),
        _ => lead(0),
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

    /// Whether those who help leave a core to each thread at work.
    fn have_a_core(&self) -> bool {
        AT_WORK.load(Ordering::Relaxed) <= self.idle.load(Ordering::Relaxed) + 1
    }

    /// Runs `lead` here and `join` on up to `wanted` idle threads, as far as there are cores. Not on more: it would end
    /// here only when they had come round to it.
    fn help(&self, wanted: usize, lead: impl FnOnce(usize), join: impl Fn(&Self) + Sync) {
        let others = AT_WORK.load(Ordering::Relaxed).saturating_sub(1);
        let wanted = |idle: usize| wanted.min(idle.saturating_sub(others));
        let (order, now) = (Ordering::AcqRel, Ordering::Acquire);
        let take = |idle: usize| Some(idle - wanted(idle));
        let before = self.idle.fetch_update(order, now, take).unwrap_or(0);
        let count = wanted(before);
        self.pool.in_place_scope(|scope| {
            for _ in 0..count {
                scope.spawn(|_| {
                    let _back = Back(&self.idle);
                    join(self);
                });
            }
            lead(count);
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
    fn nobody_helps_where_all_cores_have_work() {
        let helpers = Helpers::new().unwrap();
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let _all: Vec<_> = (0..cores).map(|_| at_work()).collect();
        helpers.help(3, |count| assert_eq!(count, 0), |_| {});
    }

    #[test]
    fn helpers_come_back() {
        let helpers = Helpers::new().unwrap();
        let idle = helpers.idle.load(Ordering::Relaxed);
        for _ in 0..100 {
            helpers.help(3, |_| {}, |_| {});
        }
        assert_eq!(helpers.idle.load(Ordering::Relaxed), idle);
    }
}
