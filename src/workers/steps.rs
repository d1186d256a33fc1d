//! Steps that follow each other and are too short to wake a thread for each.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::{Helpers, with_help};

/// Runs `lead`, which shares steps out. Up to `threads` − 1 others are woken once, wait for the next step without going to
/// sleep, and call `work` with the numbers of a step and of a part of it.
pub fn share_steps(threads: usize, lead: impl FnOnce(&Board), work: impl Fn(usize, usize) + Sync) {
    let board = Board::default();
    let lead = |helpers| {
        let _end = End(&board);
        board.helpers.store(helpers, Ordering::Relaxed);
        lead(&board);
    };
    with_help(threads, lead, |helpers| board.join(helpers, &work));
}

/// Where the parts of the present step are taken from.
#[derive(Default)]
pub struct Board {
    /// The step, the first part that nobody has taken, and the end of those, [`FIELD`] bits each: what is taken is of the
    /// step that was seen.
    next: AtomicU64,
    /// Parts that are not done.
    open: AtomicUsize,
    /// Threads that were asked to help.
    helpers: AtomicUsize,
}

const FIELD: u32 = 21;
const ENDED: u64 = u64::MAX;

impl Board {
    /// Whether sharing a step is of any use.
    pub fn has_helpers(&self) -> bool {
        self.helpers.load(Ordering::Relaxed) > 0
    }

    /// Calls `work` with each part of a step, here and on those that help, and returns when all are done. Steps must
    /// have different numbers; those and parts are below a million.
    pub fn share(&self, step: usize, parts: usize, work: impl Fn(usize, usize)) {
        self.open.store(parts, Ordering::Relaxed);
        let next = (step as u64) << (2 * FIELD) | parts as u64;
        self.next.store(next, Ordering::Release);
        while let Next::Part(step, part) = self.take(true) {
            let _done = Done(&self.open);
            work(step, part);
        }
        let mut patience = Patience::default();
        while self.open.load(Ordering::Acquire) > 0 {
            patience.wait();
        }
    }

    fn join(&self, helpers: &Helpers, work: impl Fn(usize, usize)) {
        let mut patience = Patience::default();
        while helpers.have_a_core() {
            match self.take(false) {
                Next::Part(step, part) => {
                    let _done = Done(&self.open);
                    work(step, part);
                    patience = Patience::default();
                }
                Next::Nothing => patience.wait(),
                Next::End => break,
            }
        }
        self.helpers.fetch_sub(1, Ordering::Relaxed);
    }

    /// The lead takes them from the front, others from the end: what a core has just made is near it in the next step.
    fn take(&self, from_front: bool) -> Next {
        let mask = (1 << FIELD) - 1;
        let mut next = self.next.load(Ordering::Acquire);
        loop {
            let (first, end) = (next >> FIELD & mask, next & mask);
            if next == ENDED {
                return Next::End;
            } else if first >= end {
                return Next::Nothing;
            }
            let (part, rest) = match from_front {
                true => (first, next + (1 << FIELD)),
                false => (end - 1, next - 1),
            };
            let (taken, seen) = (Ordering::AcqRel, Ordering::Acquire);
            match self.next.compare_exchange_weak(next, rest, taken, seen) {
                Ok(_) => return Next::Part((next >> (2 * FIELD)) as usize, part as usize),
                Err(now) => next = now,
            }
        }
    }
}

enum Next {
    /// A step and a part of it.
    Part(usize, usize),
    /// All parts are taken.
    Nothing,
    End,
}

/// Marks a part as done, also when its work panics.
struct Done<'a>(&'a AtomicUsize);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

/// Sends helpers away, also when who leads panics.
struct End<'a>(&'a Board);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.next.store(ENDED, Ordering::Release);
    }
}

/// Waits for microseconds without sleeping, and lets others have the core from then on.
#[derive(Default)]
struct Patience(u32);

impl Patience {
    fn wait(&mut self) {
        if self.0 < 200 {
            self.0 += 1;
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workers::share;

    #[test]
    fn a_step_begins_when_the_one_before_is_done() {
        for threads in [1, 2, 7] {
            let done: Vec<_> = (0..300).map(|_| AtomicUsize::new(0)).collect();
            let work = |step: usize, _: usize| {
                let before = step.checked_sub(1).map(|s| done[s].load(Ordering::Relaxed));
                assert!(before.is_none_or(|parts| parts == (step - 1) % 9));
                done[step].fetch_add(1, Ordering::Relaxed);
            };
            let lead = |board: &Board| {
                for (step, parts) in done.iter().enumerate() {
                    board.share(step, step % 9, work);
                    assert_eq!(parts.load(Ordering::Relaxed), step % 9);
                }
            };
            share_steps(threads, lead, work);
        }
    }

    #[test]
    fn who_helps_goes_when_the_lead_panics() {
        let lead = |board: &Board| {
            board.share(1, 100, |_, _| {});
            panic!("as it may happen");
        };
        let run = || share_steps(2, lead, |_, _| {});
        assert!(std::panic::catch_unwind(run).is_err());
        share(2, 2, |_| {});
    }
}
