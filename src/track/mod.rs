//! Faces from frame to frame.
//!
//! [`Tracker`] gives every face an id that stays with it; [`cuts::Cuts`] says when another scene begins, [`turns::Turns`]
//! which way up the picture is; [`Finder`] searches whole pictures now and then, and follows what it knows in between;
//! [`People`] gathers what is seen of a face over time until it is known whose it is. By what faces of two frames are matched is
//! in [`matching`].

mod cuts;
mod finder;
pub(crate) mod matching;
mod people;
mod tracker;
mod turns;

pub use finder::{Effort, Finder, Interval, Plan};
pub use people::{Answer, Observation, People, ReembedPolicy, quality};
pub use tracker::{Expected, Tracker};

use std::time::Duration;

/// Whether `then` is `age` ago, or in the future because the stream has been seeked.
fn is_older(then: Option<Duration>, age: Duration, now: Duration) -> bool {
    // Half a millisecond for times that are rounded.
    let slack = Duration::from_micros(500);
    then.is_none_or(|then| then > now || now - then + slack >= age)
}
