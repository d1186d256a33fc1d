//! The thread pool that shares the work of a frame: one for the process, however many elements run in it.
//!
//! The calling thread does the work itself, and idle threads of the pool help it. Many streams thus run each in its own
//! thread, while a single stream uses all cores.

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

/// Time that a thread spins while it waits for another one, before it sleeps.
const SPIN: Duration = Duration::from_micros(50);

/// Primitives used by [`StepQueue`]. `tests/loom` checks it with a module of the same name that has those of loom.
mod sync {
    pub use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
    pub use std::sync::{Condvar, Mutex};

    pub use super::lock;
    pub(super) use super::spin;
}

/// The pool of helper threads, and the number of idle ones.
struct Helpers {
    pool: ThreadPool,
    idle: AtomicUsize,
}

static HELPERS: OnceCell<Helpers> = OnceCell::new();

/// Number of threads with work of their own, as counted by [`at_work`].
static AT_WORK: AtomicUsize = AtomicUsize::new(0);

/// Reserves a core for the thread that created it until it is dropped: helpers of other threads leave that core free.
#[cfg(any(test, feature = "plugin"))]
pub struct AtWork(());

/// Counts the calling thread as one with work of its own. It must be called before locking a model that streams share:
/// a stream that waits for the model needs its core as soon as the model is free, so it counts while it waits.
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

/// Locks, ignoring poisoning: models, settings and scratch memory remain usable after a panic with the lock held.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

/// Spins for a short time; returns true as soon as `is_ready` does.
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

/// Calls `work` once with each number below `count`, on the calling thread and on up to `threads` − 1 helpers.
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
/// call `work` with a step and one of its parts.
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

/// Runs `lead` on the calling thread and `join` on up to `threads` − 1 helpers, whose number is passed to `lead`.
fn with_help(threads: usize, lead: impl FnOnce(usize), join: impl Fn(&Helpers) + Sync) {
    let wanted = threads.saturating_sub(1);
    // If no threads can be created, the calling thread does all the work.
    match HELPERS.get_or_try_init(Helpers::new) {
        Ok(helpers) if wanted > 0 => helpers.help(wanted, lead, join),
        _ => lead(0),
    }
}

impl Helpers {
    /// Creates one helper for each core, except that of the calling thread.
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

    /// Whether the busy helpers leave a core for each thread with work of its own.
    fn have_a_core(&self) -> bool {
        AT_WORK.load(Ordering::Relaxed) <= self.idle.load(Ordering::Relaxed) + 1
    }

    /// Runs `lead` on the calling thread and `join` on up to `wanted` idle helpers, as far as cores are free. Busy
    /// helpers are not used, because the caller would have to wait until they begin.
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

/// Marks a helper as idle again, also if its work panics.
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
        // The barrier ensures that neither thread can do both parts.
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
