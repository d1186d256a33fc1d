//! The threads that share the work of a frame: one set for the process, however many elements run in it.
//!
//! A thread that has work does it itself, and idle threads of the set help it. Many streams thus run each in its own
//! thread, and one stream uses all cores.

pub mod cache;
#[cfg(feature = "plugin")]
pub mod linger;
mod steps;

use std::sync::MutexGuard;
use std::time::{Duration, Instant};

use once_cell::sync::OnceCell;
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

pub use steps::StepQueue;
use sync::{AtomicUsize, Mutex, Ordering};

/// How long a thread that waits for another one spins before it sleeps.
const SPIN: Duration = Duration::from_micros(50);

/// What [`StepQueue`] is made of. `tests/loom`, which checks it, has a module of this name with the primitives of loom.
mod sync {
    pub use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
    pub use std::sync::{Condvar, Mutex};

    pub use super::lock;
    pub(super) use super::spin;
}

/// Threads that help, and how many of them are idle.
struct Helpers {
    pool: ThreadPool,
    idle: AtomicUsize,
}

static HELPERS: OnceCell<Helpers> = OnceCell::new();

/// Threads that have work of their own, as [`at_work`] counts them.
static AT_WORK: AtomicUsize = AtomicUsize::new(0);

/// Keeps a core for the thread that made it until it is dropped: helpers of other threads leave that core.
#[cfg(any(test, feature = "plugin"))]
pub struct AtWork(());

/// Called by a thread before it locks a model that streams share, not after: a stream that waits for the model will need
/// its core at once when the model is free, and counts until then.
#[cfg(any(test, feature = "plugin"))]
#[must_use]
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

/// Waits for a short time without sleeping; true if the thread needs to wait no longer.
fn spin(is_ready: impl Fn() -> bool) -> bool {
    let began = Instant::now();
    loop {
        if is_ready() {
            return true;
        } else if began.elapsed() >= SPIN {
            return false;
        }
        std::hint::spin_loop();
    }
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

/// Runs `lead`, which shares steps one after the other. Up to `threads` − 1 helpers are woken once for all steps, and
/// call `work` with a step and a part of it.
pub fn share_steps(
    threads: usize,
    lead: impl FnOnce(&StepQueue),
    work: impl Fn(usize, usize) + Sync,
) {
    let queue = StepQueue::new();
    let lead = |helpers| queue.lead(helpers, lead);
    let join = |helpers: &Helpers| queue.help(|| helpers.have_a_core(), &work);
    with_help(threads, lead, join);
}

/// Runs `lead` on the thread that calls, with the number of helpers: up to `threads` − 1 threads that run `join`.
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

    /// Whether the helpers leave a core to each thread at work.
    fn have_a_core(&self) -> bool {
        AT_WORK.load(Ordering::Relaxed) <= self.idle.load(Ordering::Relaxed) + 1
    }

    /// Runs `lead` here and `join` on up to `wanted` idle threads, as far as there are cores. Not on busy threads: the
    /// caller would have to wait until they begin.
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
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Barrier;
    use std::thread;

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
    fn no_thread_helps_where_all_cores_have_work() {
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

    #[test]
    fn a_step_begins_when_the_one_before_is_done() {
        for threads in [1, 2, 7] {
            let done: Vec<_> = (0..300).map(|_| AtomicUsize::new(0)).collect();
            let work = |step: usize, _: usize| {
                let before = step.checked_sub(1).map(|s| done[s].load(Ordering::Relaxed));
                assert!(before.is_none_or(|parts| parts == (step - 1) % 9));
                done[step].fetch_add(1, Ordering::Relaxed);
            };
            let lead = |queue: &StepQueue| {
                for (step, parts) in done.iter().enumerate() {
                    queue.share(step, step % 9, work);
                    assert_eq!(parts.load(Ordering::Relaxed), step % 9);
                }
            };
            share_steps(threads, lead, work);
        }
    }

    #[test]
    fn helpers_go_when_the_caller_panics() {
        let lead = |queue: &StepQueue| {
            queue.share(1, 100, |_, _| {});
            panic!("as it may happen");
        };
        let run = || share_steps(2, lead, |_, _| {});
        assert!(catch_unwind(run).is_err());
        share(2, 2, |_| {});
    }

    #[test]
    fn a_panic_of_a_helper_reaches_the_caller_after_the_last_step() {
        let helpers = Helpers::new().unwrap();
        if helpers.idle.load(Ordering::Relaxed) == 0 {
            return;
        }
        let queue = StepQueue::new();
        let both_work = Barrier::new(2);
        let lead = |helpers| {
            queue.lead(helpers, |queue| {
                queue.share(0, 2, |_, _| {
                    both_work.wait();
                });
                wait_until(|| !queue.has_helpers());
            });
        };
        let join = |_: &Helpers| {
            let work = |_, _| {
                both_work.wait();
                panic!("as it may happen");
            };
            queue.help(|| true, work);
        };
        let run = || helpers.help(1, lead, join);
        assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
    }

    #[test]
    fn helpers_that_wait_for_a_step_sleep_and_are_woken_by_it() {
        let queue = StepQueue::new();
        // Neither thread can do both parts.
        let both_work = Barrier::new(2);
        let work = |_, _| {
            both_work.wait();
        };
        thread::scope(|scope| {
            scope.spawn(|| queue.help(|| true, work));
            queue.lead(1, |queue| {
                for step in 0..5 {
                    wait_until(|| queue.helpers_sleep());
                    queue.share(step, 2, work);
                }
                wait_until(|| queue.helpers_sleep());
            });
        });
    }

    #[test]
    fn a_caller_that_waits_for_a_helper_sleeps_and_is_woken_by_the_last_part() {
        let queue = StepQueue::new();
        let both_work = Barrier::new(2);
        let done = AtomicUsize::new(0);
        let long_work = |_, _| {
            both_work.wait();
            wait_until(|| queue.caller_sleeps());
            done.fetch_add(1, Ordering::Relaxed);
        };
        thread::scope(|scope| {
            scope.spawn(|| queue.help(|| true, long_work));
            queue.lead(1, |queue| {
                for step in 0..5 {
                    queue.share(step, 2, |_, _| {
                        both_work.wait();
                    });
                    assert_eq!(done.load(Ordering::Relaxed), step + 1);
                }
            });
        });
    }

    #[test]
    fn steps_of_too_many_parts_are_done_by_the_caller() {
        let parts = AtomicUsize::new(0);
        let work = |_, _| {
            parts.fetch_add(1, Ordering::Relaxed);
        };
        share_steps(2, |queue| queue.share(0, 1 << 20, work), work);
        assert_eq!(parts.load(Ordering::Relaxed), 1 << 20);
    }

    fn wait_until(is_so: impl Fn() -> bool) {
        while !is_so() {
            thread::sleep(Duration::from_millis(1));
        }
    }
}
