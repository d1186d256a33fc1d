//! What an element knows of its stream: caps and orientation, and how far behind it is.
//!
//! Events, queries and the streaming thread share it behind one lock, under which nothing waits: no inference, no query
//! upstream, no message. The streaming thread works on a snapshot ([`Stream::input`]) and notes afterwards how long that
//! took. What a frame is worked on with (networks, tracks) belongs to the streaming thread, and only serialised events
//! touch it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gst::prelude::*;

use crate::plugin::frame::Input;
use crate::plugin::load::{self, Load, Pressure};
use crate::threads::lock;

#[derive(Debug, Default)]
pub struct Stream(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    input: Arc<Input>,
    load: Load,
}

impl Stream {
    /// Nothing is known any more: the element has stopped.
    pub fn clear(&self) {
        *lock(&self.0) = State::default();
    }

    /// The stream begins anew, or goes on elsewhere.
    pub fn restart(&self) {
        lock(&self.0).load.reset();
    }

    /// The video as it comes in now.
    pub fn input(&self) -> Arc<Input> {
        Arc::clone(&lock(&self.0).input)
    }

    /// New caps; true if the frames have another size.
    pub fn set_info(&self, info: &gst_video::VideoInfo) -> Result<bool, gst::LoggableError> {
        let mut state = lock(&self.0);
        let is_other = state.input.size().ok() != Some((info.width(), info.height()));
        Arc::make_mut(&mut state.input).set_info(info)?;
        Ok(is_other)
    }

    /// Takes notice of an event from upstream.
    pub fn notice_sink_event(&self, event: &gst::Event) {
        if Input::concerns(event) {
            Arc::make_mut(&mut lock(&self.0).input).notice(event);
        }
    }

    /// Takes notice of an event from downstream.
    pub fn notice_src_event(&self, event: &gst::Event) {
        lock(&self.0).load.notice(event);
    }

    /// How late a buffer is, and whether the stream is live.
    pub fn pressure(
        &self,
        element: &gst_base::BaseTransform,
        running_time: Option<gst::ClockTime>,
    ) -> (Pressure, bool) {
        let known = lock(&self.0).load.known_live();
        let is_live = known.unwrap_or_else(|| load::asks_live(element));
        let now = element.current_running_time();
        let load = &mut lock(&self.0).load;
        let is_live = load.set_live(is_live);
        (load.pressure(now, running_time), is_live)
    }

    /// Notes how long a frame took that was begun at this time.
    pub fn finish_frame(&self, element: &gst_base::BaseTransform, began: Instant) {
        let is_more = {
            let mut state = lock(&self.0);
            let frame: Duration = state.input.frame_duration();
            state.load.took(began.elapsed(), frame)
        };
        if is_more {
            load::post_latency(element);
        }
    }

    /// Adds what this element takes to the answer of a latency query.
    pub fn answer(&self, query: &mut gst::QueryRef) {
        lock(&self.0).load.answer(query);
    }
}
