//! Faces from frame to frame.
//!
//! [`Tracker`] gives every face a number that stays with it; [`Cuts`] says when a picture has nothing to do
//! with the one before; [`Finder`] searches whole pictures now and then, and follows what it knows in between; [`People`] gathers what is seen of a face over time until it is known whose it is.

mod cuts;
mod finder;
mod people;
mod tracker;

pub use cuts::Cuts;
pub use finder::{Effort, Finder, Interval, Plan};
pub use people::{Answer, Pace, People, Sight, quality};
pub use tracker::{Expected, Tracker};
