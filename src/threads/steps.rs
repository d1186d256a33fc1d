//! A queue of successive steps that are too short to wake threads for each of them.
//!
//! The caller shares one step at a time and helpers take parts of it. Threads that wait spin for a short time and then
//! sleep, because a thread that merely yields takes CPU time, and under a real-time policy starves the thread that it
//! waits for.
//!
//! The shared state is a single word, [`State`], so that every change is atomic. A thread sets a flag in the word
//! before it sleeps, and the thread that ends its wait reads that flag in the same operation that changes the word: no
//! wake-up is lost, and none is sent to a thread that is awake. `tests/loom` includes this file with the primitives of
//! loom instead of those of std, and checks the protocol for every interleaving of the threads.

use super::sync::{AtomicU64, AtomicUsize, Condvar, Mutex, Ordering, lock, spin};

/// The queue from which the caller and helpers take the parts of the current step.
pub struct StepQueue {
    /// The bits of a [`State`].
    state: AtomicU64,
    /// Index of the step that the parts belong to. It is written only while no part is open, and published with the
    /// parts.
    step: AtomicUsize,
    /// Number of helpers that were requested and have not left.
    helpers: AtomicUsize,
    /// Held by a thread from before it sets its sleep flag until it sleeps.
    sleep: Mutex<()>,
    shared: Condvar,
    done: Condvar,
}

/// Parts of the current step and flags of the threads, from the lowest bit: the first part that has not been taken, the
/// end of these parts, the number of parts that are not done, in [`COUNT_BITS`] each, and the flags.
#[derive(Clone, Copy)]
struct State(u64);

const COUNT_BITS: u32 = 20;
const MAX_PARTS: usize = (1 << COUNT_BITS) - 1;

const FIRST: u64 = 1;
const END: u64 = 1 << COUNT_BITS;
const OPEN: u64 = 1 << (2 * COUNT_BITS);
/// Helpers sleep until a step is shared or the queue ends.
const HELPERS_SLEEP: u64 = 1 << (3 * COUNT_BITS);
/// The caller sleeps until no part is open.
const CALLER_SLEEPS: u64 = HELPERS_SLEEP << 1;
/// No step will follow.
const ENDED: u64 = HELPERS_SLEEP << 2;

impl State {
    /// State of a step of which no part has been taken.
    fn of_step(parts: usize) -> Self {
        Self(parts as u64 * (END + OPEN))
    }

    fn count(self, unit: u64) -> usize {
        (self.0 / unit) as usize & MAX_PARTS
    }

    fn has(self, flag: u64) -> bool {
        self.0 & flag != 0
    }

    fn has_parts(self) -> bool {
        self.count(FIRST) < self.count(END) && !self.has(ENDED)
    }
}

/// End of the queue from which a part is taken: the caller takes the first part and helpers the last one, so that in
/// the next step each core finds in its cache what it has written.
#[derive(Clone, Copy)]
enum Side {
    Front,
    Back,
}

impl StepQueue {
    pub(super) fn new() -> Self {
        Self {
            state: AtomicU64::new(State::of_step(0).0),
            step: AtomicUsize::new(0),
            helpers: AtomicUsize::new(0),
            sleep: Mutex::new(()),
            shared: Condvar::new(),
            done: Condvar::new(),
        }
    }

    /// Runs `lead`, which shares steps with the requested helpers, and releases them when it returns or panics.
    pub(super) fn lead(&self, helpers: usize, lead: impl FnOnce(&Self)) {
        let _end = EndGuard(self);
        // The number is added instead of stored, because a helper may already have joined and left.
        self.helpers.fetch_add(helpers, Ordering::Relaxed);
        lead(self);
    }

    /// Whether helpers were requested and at least one of them has not left.
    pub fn has_helpers(&self) -> bool {
        self.helpers.load(Ordering::Relaxed) > 0
    }

    /// Calls `work` with the step and each of its parts, on this thread and on helpers, and returns when all parts are
    /// done. Only the caller of [`share_steps`](super::share_steps) may share steps, one at a time.
    pub fn share(&self, step: usize, parts: usize, work: impl Fn(usize, usize)) {
        if parts > MAX_PARTS {
            return (0..parts).for_each(|part| work(step, part));
        }
        self.publish(step, parts);
        while let Ok(part) = self.take(Side::Front) {
            self.work_on(part, &work);
        }
        self.wait(CALLER_SLEEPS, &self.done, |state| state.count(OPEN) > 0);
    }

    /// Opens a step to helpers. The previous step must be done.
    pub(super) fn publish(&self, step: usize, parts: usize) {
        self.step.store(step, Ordering::Relaxed);
        let before = State(self.state.swap(State::of_step(parts).0, Ordering::Release));
        if before.has(HELPERS_SLEEP) {
            self.wake(&self.shared);
        }
    }

    /// Works on parts until the queue ends or `may_stay` returns false.
    pub(super) fn help(&self, may_stay: impl Fn() -> bool, work: impl Fn(usize, usize)) {
        let _leave = LeaveGuard(self);
        let waits = |state: State| !state.has_parts() && !state.has(ENDED) && may_stay();
        while may_stay() {
            match self.take(Side::Back) {
                Ok(part) => self.work_on(part, &work),
                Err(state) if state.has(ENDED) => break,
                Err(_) => self.wait(HELPERS_SLEEP, &self.shared, waits),
            }
        }
    }

    /// Takes a part of the current step, or returns the state in which none was available.
    fn take(&self, side: Side) -> Result<usize, State> {
        let take = |state: u64| {
            State(state).has_parts().then(|| match side {
                Side::Front => state + FIRST,
                Side::Back => state - END,
            })
        };
        let (acquire, relaxed) = (Ordering::Acquire, Ordering::Relaxed);
        match self.state.fetch_update(acquire, relaxed, take) {
            Ok(before) => Ok(match side {
                Side::Front => State(before).count(FIRST),
                Side::Back => State(before).count(END) - 1,
            }),
            Err(state) => Err(State(state)),
        }
    }

    fn work_on(&self, part: usize, work: impl Fn(usize, usize)) {
        let _done = DoneGuard(self);
        work(self.step.load(Ordering::Relaxed), part);
    }

    /// Returns as soon as `waits` is false; writes made before the change of state are then visible to this thread.
    fn wait(&self, sleeps: u64, woken: &Condvar, waits: impl Fn(State) -> bool) {
        let acquire = Ordering::Acquire;
        if spin(|| !waits(State(self.state.load(acquire)))) {
            return;
        }
        let mut guard = lock(&self.sleep);
        let note = |state: u64| waits(State(state)).then_some(state | sleeps);
        while self.state.fetch_update(acquire, acquire, note).is_ok() {
            guard = woken.wait(guard).unwrap_or_else(|e| e.into_inner());
        }
    }

    /// Wakes the threads whose sleep flag was set, after the change of state that they wait for.
    fn wake(&self, sleepers: &Condvar) {
        // A thread that has set its sleep flag but does not sleep yet holds the lock.
        drop(lock(&self.sleep));
        sleepers.notify_all();
    }
}

/// Marks a part as done, also if its work panics.
struct DoneGuard<'a>(&'a StepQueue);

impl Drop for DoneGuard<'_> {
    fn drop(&mut self) {
        let before = State(self.0.state.fetch_sub(OPEN, Ordering::Release));
        if before.count(OPEN) == 1 && before.has(CALLER_SLEEPS) {
            self.0.wake(&self.0.done);
        }
    }
}

/// Ends the queue, also if the caller panics.
struct EndGuard<'a>(&'a StepQueue);

impl Drop for EndGuard<'_> {
    fn drop(&mut self) {
        let before = State(self.0.state.fetch_or(ENDED, Ordering::Relaxed));
        if before.has(HELPERS_SLEEP) {
            self.0.wake(&self.0.shared);
        }
    }
}

/// Marks a helper as gone, also if its work panics.
struct LeaveGuard<'a>(&'a StepQueue);

impl Drop for LeaveGuard<'_> {
    fn drop(&mut self) {
        self.0.helpers.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
impl StepQueue {
    pub(super) fn helpers_sleep(&self) -> bool {
        State(self.state.load(Ordering::Relaxed)).has(HELPERS_SLEEP)
    }

    pub(super) fn caller_sleeps(&self) -> bool {
        State(self.state.load(Ordering::Relaxed)).has(CALLER_SLEEPS)
    }
}
