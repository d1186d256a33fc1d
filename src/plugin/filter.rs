//! What the elements have in common: the way of a buffer, an event and a query through a filter that works on frames in
//! place and never ends a stream for a damaged one.

use std::time::Duration;

use gst::format::Buffers;
use gst::glib;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::prelude::*;

use crate::plugin::frame::{self, FrameError};
use crate::plugin::load::Pressure;
use crate::plugin::stream::{Frame, Skip, Stream};
use crate::threads::at_work;

/// An element that works on frames in place.
pub trait FrameFilter: BaseTransformImpl {
    /// Whether it skips inference when there is too little time.
    const HAS_INFERENCE: bool = true;

    fn category(&self) -> gst::DebugCategory;

    fn stream(&self) -> &Stream;

    /// Works on a frame and its metadata; gives the messages to be posted. They are posted when the time that the frame
    /// took has been measured and no lock is held: a synchronous handler may call back into the element.
    fn process(
        &self,
        frame: &Frame,
        buffer: &mut gst::BufferRef,
    ) -> Result<Vec<gst::Message>, FrameError>;

    /// Time has passed without a picture until `now`, as during a gap; gives the messages to be posted.
    fn pass(&self, now: Duration) -> Vec<gst::Message> {
        let _ = now;
        Vec::new()
    }

    /// The stream has ended or goes on elsewhere, so that nothing before it counts; gives the messages to be posted.
    fn reset(&self) -> Vec<gst::Message>;
}

/// Works on a buffer, or lets it pass where it holds no picture.
pub fn transform_ip(
    this: &impl FrameFilter,
    buffer: &mut gst::BufferRef,
) -> Result<gst::FlowSuccess, gst::FlowError> {
    let element = this.obj();
    let element: &gst_base::BaseTransform = element.upcast_ref();
    if buffer.flags().contains(gst::BufferFlags::GAP) {
        pass(this, frame::running_time(element, buffer.pts()));
        return Ok(gst::FlowSuccess::Ok);
    }
    if let Some(time) = stream_time(element, buffer) {
        // Fails only for a binding whose source has no value at this time.
        let _ = element.sync_values(time);
    }
    let frame = this.stream().begin(element, buffer);
    let outcome = {
        let _at_work = at_work();
        this.process(&frame, buffer)
    };
    this.stream().end(element, &frame, outcome.is_ok());
    match outcome {
        Ok(messages) => {
            post(element, messages);
            report_quality(this, &frame, buffer);
            Ok(gst::FlowSuccess::Ok)
        }
        Err(FrameError::Unusable(reason)) => skip(this, &frame, &reason),
        Err(FrameError::Fatal(error)) => {
            gst::error!(this.category(), obj = element, "{error}");
            element.post_error_message(error);
            Err(gst::FlowError::Error)
        }
    }
}

/// The stream time of a buffer in an element.
pub fn stream_time(
    element: &gst_base::BaseTransform,
    buffer: &gst::BufferRef,
) -> Option<gst::ClockTime> {
    let segment = element.segment();
    let segment = segment.downcast_ref::<gst::ClockTime>()?;
    segment.to_stream_time(buffer.pts()?)
}

/// Lets a buffer pass that cannot be analysed.
fn skip(
    this: &impl FrameFilter,
    frame: &Frame,
    reason: &str,
) -> Result<gst::FlowSuccess, gst::FlowError> {
    let element = this.obj();
    let element: &gst_base::BaseTransform = element.upcast_ref();
    gst::warning!(this.category(), obj = element, "frame skipped: {reason}");
    match this.stream().skip(frame) {
        Skip::Silently => {}
        Skip::WithWarning(count) => {
            gst::element_warning!(
                element,
                gst::StreamError::Format,
                ("frame skipped: {reason} ({count} in a row)")
            );
        }
        Skip::Fail => {
            gst::element_error!(
                element,
                gst::StreamError::Format,
                ("no usable frame for 10 s: {reason}")
            );
            return Err(gst::FlowError::Error);
        }
    }
    Ok(gst::FlowSuccess::Ok)
}

/// Handles an event of upstream.
pub fn sink_event(this: &impl FrameFilter, event: gst::Event) -> bool {
    this.stream().update_from_sink_event(&event);
    let element = this.obj();
    let element: &gst_base::BaseTransform = element.upcast_ref();
    match event.view() {
        gst::EventView::Eos(_) | gst::EventView::FlushStop(_) | gst::EventView::StreamStart(_) => {
            let messages = this.reset();
            this.stream().restart();
            post(element, messages);
        }
        gst::EventView::Gap(gap) => {
            let (start, duration) = gap.get();
            let end = start.saturating_add(duration.unwrap_or_default());
            pass(this, frame::running_time(element, Some(end)));
        }
        _ => {}
    }
    this.parent_sink_event(event)
}

fn pass(this: &impl FrameFilter, until: Option<gst::ClockTime>) {
    let now = this.stream().pass(until);
    post(this.obj().upcast_ref(), this.pass(now));
}

/// Handles an event of downstream.
pub fn src_event(this: &impl FrameFilter, event: gst::Event) -> bool {
    this.stream().update_from_src_event(&event);
    this.parent_src_event(event)
}

/// Answers a query.
pub fn query(
    this: &impl FrameFilter,
    direction: gst::PadDirection,
    query: &mut gst::QueryRef,
) -> bool {
    let is_answered = BaseTransformImplExt::parent_query(this, direction, query);
    if is_answered {
        this.stream().answer(query);
    }
    is_answered
}

/// Whether a property cannot be set now, since what it decides was loaded when the element started; warns if so.
pub fn refuses(this: &impl FrameFilter, pspec: &glib::ParamSpec) -> bool {
    let is_refused =
        !pspec.flags().contains(gst::PARAM_FLAG_MUTABLE_PLAYING) && this.stream().is_started();
    if is_refused {
        let element = this.obj();
        let element: &gst_base::BaseTransform = element.upcast_ref();
        gst::element_warning!(
            element,
            gst::LibraryError::Settings,
            (
                "{} cannot be changed before the element is in state READY or NULL: it stays as it was",
                pspec.name()
            )
        );
    }
    is_refused
}

/// Posts messages on the bus. Fails only while the pipeline is being taken down, when nobody listens.
pub fn post(element: &gst_base::BaseTransform, messages: Vec<gst::Message>) {
    for message in messages {
        let _ = element.post_message(message);
    }
}

/// Reports frames for which there was no time for inference, as elements do that drop frames.
fn report_quality<T: FrameFilter>(this: &T, frame: &Frame, buffer: &gst::BufferRef) {
    let is_skipped = T::HAS_INFERENCE && frame.pressure == Pressure::TooLate;
    let Some((processed, skipped)) = this.stream().count(is_skipped) else {
        return;
    };
    let element = this.obj();
    let element: &gst_base::BaseTransform = element.upcast_ref();
    let message = gst::message::Qos::builder(frame.is_live)
        .src(element)
        .running_time(frame::running_time(element, buffer.pts()))
        .stream_time(stream_time(element, buffer))
        .timestamp(buffer.pts())
        .duration(buffer.duration())
        .stats(Buffers::from_u64(processed), Buffers::from_u64(skipped));
    post(element, vec![message.build()]);
}
