//! Faces from frame to frame.
//!
//! [`Tracker`] gives every face an id that stays with it; [`cuts::Cuts`] says when another scene begins; [`Finder`] searches
//! whole pictures now and then, and follows what it knows in between; [`People`] gathers what is seen of a face over time
//! until it is known whose it is. By what faces of two frames are matched is in [`matching`].

mod cuts;
mod finder;
pub(crate) mod matching;
mod people;
mod tracker;

pub use finder::{Effort, Finder, Interval, Plan};
pub use people::{Answer, Observation, People, ReembedPolicy, quality};
pub use tracker::{Expected, Tracker};
