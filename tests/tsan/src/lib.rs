//! `src/threads` alone, so that nothing but it, rayon and the standard library is compiled for ThreadSanitizer
//! (`scripts/test-tsan.sh`). Beyond the module's own tests, whose threads share atomic numbers, here they share plain
//! memory as the kernels do.

// What the rest of the project uses of it is not here.
#![allow(dead_code)]

#[path = "../../../src/threads/mod.rs"]
mod threads;

#[cfg(test)]
mod tests {
    use std::cell::UnsafeCell;

    use crate::threads::{StepQueue, share, share_steps};

    const PARTS: usize = 16;
    const STEPS: usize = 20_000;

    /// Numbers that threads read and write without any order but that of the steps.
    struct Plain([UnsafeCell<usize>; PARTS]);

    // SAFETY: that no two threads use a number at once is what the tests are about.
    unsafe impl Sync for Plain {}

    impl Plain {
        fn new() -> Self {
            Self(std::array::from_fn(|_| UnsafeCell::new(0)))
        }

        fn get(&self, part: usize) -> usize {
            // SAFETY: as above.
            unsafe { *self.0[part].get() }
        }

        fn set(&self, part: usize, value: usize) {
            // SAFETY: as above.
            unsafe { *self.0[part].get() = value }
        }
    }

    #[test]
    fn a_step_reads_what_the_parts_of_the_one_before_have_written() {
        for threads in [1, 2, 7] {
            let layers = [Plain::new(), Plain::new()];
            let work = |step: usize, part: usize| {
                let (from, to) = (&layers[step % 2], &layers[(step + 1) % 2]);
                // The numbers of other parts are read, like the rows above and below by a convolution.
                let (left, right) = ((part + PARTS - 1) % PARTS, (part + 1) % PARTS);
                assert_eq!((from.get(left), from.get(right)), (step, step));
                to.set(part, step + 1);
            };
            let lead = |queue: &StepQueue| {
                for step in 0..STEPS {
                    queue.share(step, PARTS, work);
                    // The caller reads and writes between two steps.
                    let done = &layers[(step + 1) % 2];
                    assert!((0..PARTS).all(|part| done.get(part) == step + 1));
                    layers[step % 2].set(step % PARTS, 0);
                }
            };
            share_steps(threads, lead, work);
        }
    }

    #[test]
    fn the_caller_reads_what_all_threads_have_written() {
        for round in 0..STEPS {
            let numbers = Plain::new();
            share(7, PARTS, |part| numbers.set(part, round));
            assert!((0..PARTS).all(|part| numbers.get(part) == round));
        }
    }
}
