//! Checks the protocol of [`steps`], which is the library's own file, with every order in which its threads may run
//! and every value that the memory model allows them to read.
//!
//! A model fails if a thread is never woken, a part is processed twice, or results are read while they may still be
//! written.
#![cfg(test)]

#[path = "../../../src/threads/steps.rs"]
#[expect(dead_code, reason = "some methods are for tests of the library")]
mod steps;

mod sync {
    use std::sync::PoisonError;

    use loom::sync::MutexGuard;
    pub use loom::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
    pub use loom::sync::{Condvar, Mutex};

    pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Spinning more than once would not help, because loom tries all that a thread can observe.
    pub fn spin(is_ready: impl Fn() -> bool) -> bool {
        is_ready()
    }
}

/// Stands in for `share_steps`, to which the docs of `steps` refer.
mod models {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use loom::cell::UnsafeCell;
    use loom::model::Builder;
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicBool;
    use loom::thread;

    use crate::steps::StepQueue;
    use crate::sync::Ordering;

    const PARTS: usize = 2;

    /// The result of a part; loom detects unsynchronised accesses.
    #[derive(Default)]
    struct Written(UnsafeCell<()>);

    impl Written {
        fn write(&self) {
            self.0.with_mut(|_| ());
        }

        fn read(&self) {
            self.0.with(|_| ());
        }
    }

    struct Run {
        queue: StepQueue,
        /// Results by step and part, with the number of times each was processed.
        parts: Vec<[(Written, std::sync::atomic::AtomicUsize); PARTS]>,
    }

    impl Run {
        fn new(steps: usize) -> Arc<Self> {
            Arc::new(Self {
                queue: StepQueue::new(),
                parts: (0..steps).map(|_| Default::default()).collect(),
            })
        }

        /// Reads everything that the previous step has written.
        fn work(&self, step: usize, part: usize) {
            for (written, _) in step.checked_sub(1).iter().flat_map(|&s| &self.parts[s]) {
                written.read();
            }
            let (written, times) = &self.parts[step][part];
            written.write();
            times.fetch_add(1, Ordering::Relaxed);
        }

        fn lead(&self, helpers: usize) {
            self.queue.lead(helpers, |queue| {
                for (step, parts) in self.parts.iter().enumerate() {
                    queue.share(step, PARTS, |step, part| self.work(step, part));
                    for (written, times) in parts {
                        written.read();
                        assert_eq!(times.load(Ordering::Relaxed), 1);
                    }
                }
            });
        }

        fn help(&self) {
            self.queue.help(|| true, |step, part| self.work(step, part));
        }
    }

    fn spawn(run: &Arc<Run>, work: impl FnOnce(&Run) + 'static) -> thread::JoinHandle<()> {
        let run = run.clone();
        thread::spawn(move || work(&run))
    }

    /// Checks a model with at most this many preemptions per thread; without a bound most models would take hours.
    fn check(preemptions: Option<usize>, model: impl Fn() + Sync + Send + 'static) {
        let mut builder = Builder::new();
        builder.preemption_bound = preemptions;
        builder.check(model);
    }

    #[test]
    fn each_part_is_done_once_and_a_step_begins_when_the_one_before_is_done() {
        check(Some(3), || {
            let run = Run::new(2);
            let helper = spawn(&run, Run::help);
            run.lead(1);
            helper.join().unwrap();
            assert!(!run.queue.has_helpers());
        });
    }

    #[test]
    fn two_helpers_are_woken_by_a_step() {
        check(Some(2), || {
            let run = Run::new(1);
            let helpers = [spawn(&run, Run::help), spawn(&run, Run::help)];
            run.queue.lead(2, |queue| queue.publish(0, PARTS));
            for helper in helpers {
                helper.join().unwrap();
            }
        });
    }

    #[test]
    fn two_helpers_share_a_step_with_the_caller() {
        check(Some(1), || {
            let run = Run::new(1);
            let helpers = [spawn(&run, Run::help), spawn(&run, Run::help)];
            run.lead(2);
            for helper in helpers {
                helper.join().unwrap();
            }
        });
    }

    #[test]
    fn a_queue_ends_while_helpers_go_to_sleep() {
        check(Some(4), || {
            let run = Run::new(0);
            let helpers = [spawn(&run, Run::help), spawn(&run, Run::help)];
            run.lead(2);
            for helper in helpers {
                helper.join().unwrap();
            }
        });
    }

    /// This is the case of a caller that panics. Loom itself cannot switch threads while one panics and a mutex is in
    /// use.
    #[test]
    fn a_queue_ends_in_the_middle_of_a_step() {
        check(None, || {
            let run = Run::new(1);
            let helper = spawn(&run, Run::help);
            run.queue.lead(1, |queue| queue.publish(0, PARTS));
            helper.join().unwrap();
        });
    }

    #[test]
    fn a_helper_leaves_between_steps() {
        check(Some(2), || {
            let run = Run::new(2);
            let may_stay = Arc::new(AtomicBool::new(true));
            let stay = may_stay.clone();
            let helper = spawn(&run, move |run| {
                let may_stay = || stay.load(Ordering::Relaxed);
                run.queue.help(may_stay, |step, part| run.work(step, part));
            });
            run.queue.lead(1, |queue| {
                let work = |step, part| run.work(step, part);
                queue.share(0, PARTS, work);
                may_stay.store(false, Ordering::Relaxed);
                queue.share(1, PARTS, work);
            });
            helper.join().unwrap();
        });
    }

    #[test]
    fn a_part_that_panics_on_a_helper_is_done() {
        check(Some(2), || {
            let run = Run::new(0);
            let helper = spawn(&run, |run| {
                let work = |_, _| std::panic::resume_unwind(Box::new(()));
                let help = || run.queue.help(|| true, work);
                let _ = catch_unwind(AssertUnwindSafe(help));
            });
            run.queue.lead(1, |queue| {
                queue.share(0, PARTS, |_, _| {});
                queue.share(1, PARTS, |_, _| {});
            });
            helper.join().unwrap();
            assert!(!run.queue.has_helpers());
        });
    }
}
