//! A chain of the project's elements between two pads of a target, driven by one thread.

use std::sync::{Arc, Mutex};

use gst::prelude::*;

/// `(is live, minimum, maximum)` of upstream.
pub type Latency = (bool, u64, Option<u64>);

/// Elements in state PLAYING, linked to one another and to a pad at each end.
pub struct Chain {
    bin: gst::Bin,
    pub source: gst::Pad,
    pub sink: gst::Pad,
    /// What upstream answers to latency queries.
    pub latency: Arc<Mutex<Latency>>,
}

impl Chain {
    /// Names of elements, with their properties.
    pub fn new(elements: &str) -> Self {
        let bin =
            gst::parse::bin_from_description(elements, true).expect("elements of this project");
        let latency = Arc::new(Mutex::new((false, 0, None)));
        let answer = Arc::clone(&latency);
        let source = gst::Pad::builder(gst::PadDirection::Src)
            .name("source")
            .query_function(move |pad, parent, query| match query.view_mut() {
                gst::QueryViewMut::Latency(query) => {
                    let (is_live, min, max) = *answer.lock().expect("no panic before");
                    let time = |time| gst::ClockTime::try_from(time).unwrap_or_default();
                    query.set(is_live, time(min), max.map(time));
                    true
                }
                _ => gst::Pad::query_default(pad, parent, query),
            })
            .event_function(|_, _, _| true)
            .build();
        let sink = gst::Pad::builder(gst::PadDirection::Sink)
            .name("sink")
            .chain_function(|_, _, _| Ok(gst::FlowSuccess::Ok))
            .event_function(|_, _, _| true)
            .build();
        source.set_active(true).expect("a pad of its own");
        sink.set_active(true).expect("a pad of its own");
        let own = |name| {
            bin.static_pad(name)
                .expect("a pad that nothing is linked to")
        };
        source
            .link(&own("sink"))
            .expect("the caps of the templates agree");
        own("src")
            .link(&sink)
            .expect("the caps of the templates agree");
        bin.set_state(gst::State::Playing)
            .expect("the networks are built in");
        Self {
            bin,
            source,
            sink,
            latency,
        }
    }

    /// The elements in their order.
    pub fn elements(&self) -> Vec<gst::Element> {
        self.bin.iterate_sorted().into_iter().flatten().collect()
    }

    pub fn send(&self, event: impl Into<gst::Event>) -> bool {
        self.source.push_event(event.into())
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        self.source.set_active(false).expect("a pad of its own");
        self.bin
            .set_state(gst::State::Null)
            .expect("an element can be stopped");
        self.sink.set_active(false).expect("a pad of its own");
    }
}

/// GStreamer, and the elements of this library.
pub fn init() {
    gst::init().expect("GStreamer");
    gstmfr::plugin_register_static().expect("the elements of this library");
}
