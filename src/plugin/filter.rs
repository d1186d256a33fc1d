//! The common part of the elements: how a filter that processes frames in place handles buffers, events and queries,
//! without ending a stream because of a damaged buffer.

use std::time::Duration;

use gst::format::Buffers;
use gst::glib;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::prelude::*;

use crate::plugin::frame::{self, FrameError};
use crate::plugin::load::Pressure;
use crate::plugin::meta;
use crate::plugin::stream::{Frame, Skip, Stream};
use crate::threads::at_work;

/// The author that gst-inspect-1.0 shows.
pub const AUTHOR: &str = "The gst-plugin-mfr authors";

/// An element that processes frames in place.
pub trait FrameFilter: BaseTransformImpl {
    /// Whether it skips inference under time pressure.
    const HAS_INFERENCE: bool = true;

    /// Whether it works on the metadata of a face detector before it.
    const NEEDS_FACES: bool = false;

    fn category(&self) -> gst::DebugCategory;

    fn stream(&self) -> &Stream;

    /// Processes a frame and its metadata; returns the messages to post. They are posted after the time that the
    /// frame took has been measured and when no lock is held, because a synchronous handler may call back into the
    /// element.
    fn process(
        &self,
        frame: &Frame,
        buffer: &mut gst::BufferRef,
    ) -> Result<Vec<gst::Message>, FrameError>;

    /// Handles time without a frame until `now`, as during a gap; returns the messages to post.
    fn pass(&self, now: Duration) -> Vec<gst::Message> {
        let _ = now;
        Vec::new()
    }

    /// Resets the state when the stream has ended or continues elsewhere; returns the messages to post.
    fn reset(&self) -> Vec<gst::Message>;
}

/// Processes a buffer, or passes it on unchanged if it cannot be analysed.
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
        // This fails only for a control binding whose source has no value at this time.
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
            report_no_metadata(this, &frame, buffer);
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

/// Passes on a buffer that cannot be analysed.
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

/// Handles an event from upstream.
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

/// Handles an event from downstream.
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

/// Warns and returns true if a property cannot be set now, because it only takes effect when the element starts.
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

/// Posts messages on the bus. This fails only while the pipeline is shut down, when nothing receives them.
pub fn post(element: &gst_base::BaseTransform, messages: Vec<gst::Message>) {
    for message in messages {
        let _ = element.post_message(message);
    }
}

/// Warns once in a stream if no buffer has face metadata, since the element can do nothing then.
fn report_no_metadata<T: FrameFilter>(this: &T, frame: &Frame, buffer: &gst::BufferRef) {
    let is_reported = T::NEEDS_FACES
        && this
            .stream()
            .lacks_metadata(frame, || meta::has_detection(buffer));
    if !is_reported {
        return;
    }
    const TEXT: &str = "no face metadata so far: if there is no mfrdetect or other face detector before this element, add \
                        one; elements in between that crop, flip or add borders remove the metadata";
    let element = this.obj();
    let element: &gst_base::BaseTransform = element.upcast_ref();
    gst::warning!(this.category(), obj = element, "{TEXT}");
    gst::element_warning!(element, gst::StreamError::Failed, ("{TEXT}"));
}

/// Posts a QoS message about skipped inference, as elements do that drop frames.
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
