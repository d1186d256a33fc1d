//! `mfroverlay` in pipelines: over time, and upstream of elements that blend overlay compositions.

#![cfg(feature = "plugin")]

use std::sync::{Arc, Mutex};

use gst::prelude::*;
use gst_video::{VideoOverlayComposition, VideoOverlayCompositionMeta};

mod common;
use common::{assert_leaves_nothing, init};

const WIDTH: u32 = 320;
const HEIGHT: u32 = 240;
const FACE: (u32, u32, u32, u32) = (120, 90, 60, 70);
/// Value of every byte of a frame without annotations.
const GREY: u8 = 90;

/// An input to send.
enum Input {
    /// A frame at this time in milliseconds with a face at each position; ids count from 1.
    Frame(Option<u64>, &'static [(u32, u32, u32, u32)]),
    Event(gst::Event),
}
use Input::{Event, Frame};

/// The output for a frame.
struct Output {
    buffer: gst::Buffer,
    caps: gst::Caps,
}

impl Output {
    fn is_drawn_on(&self) -> bool {
        let map = self.buffer.map_readable().unwrap();
        map.iter().any(|&b| b != GREY)
    }

    fn composition(&self) -> Option<VideoOverlayComposition> {
        let meta = self.buffer.meta::<VideoOverlayCompositionMeta>()?;
        Some(meta.overlay_owned())
    }
}

fn has_feature(caps: &gst::Caps) -> bool {
    caps.features(0)
        .is_some_and(|f| f.contains(gst_video::CAPS_FEATURE_META_GST_VIDEO_OVERLAY_COMPOSITION))
}

fn caps(format: &str) -> gst::Caps {
    format!("video/x-raw,format={format},width={WIDTH},height={HEIGHT},framerate=25/1")
        .parse()
        .unwrap()
}

/// A fake downstream element.
#[derive(Clone, Copy)]
struct Downstream {
    /// Whether it accepts caps with the feature for compositions.
    takes_caps: bool,
    /// Whether its answer to ALLOCATION queries states that it blends them over frames.
    lays_over: bool,
}

const PLAIN: Downstream = Downstream {
    takes_caps: false,
    lays_over: false,
};
const LAYS_OVER: Downstream = Downstream {
    takes_caps: true,
    lays_over: true,
};

/// Sends inputs through elements, the last of which is linked to the downstream element.
fn send(elements: &str, format: &str, downstream: Downstream, inputs: Vec<Input>) -> Vec<Output> {
    init();
    let outputs = Arc::new(Mutex::new(Vec::new()));
    let collected = Arc::clone(&outputs);
    let plain = "video/x-raw";
    let template = match downstream.takes_caps {
        true => format!("{plain};{plain}(memory:SystemMemory,meta:GstVideoOverlayComposition)"),
        false => plain.to_owned(),
    };
    let template = gst::PadTemplate::new(
        "sink",
        gst::PadDirection::Sink,
        gst::PadPresence::Always,
        &template.parse().unwrap(),
    );
    let sink = gst::Pad::builder_from_template(&template.unwrap())
        .chain_function(move |pad, _, buffer| {
            let caps = pad.current_caps().unwrap();
            collected.lock().unwrap().push(Output { buffer, caps });
            Ok(gst::FlowSuccess::Ok)
        })
        .query_function(move |pad, parent, query| match query.view_mut() {
            gst::QueryViewMut::Allocation(query) if downstream.lays_over => {
                query.add_allocation_meta::<VideoOverlayCompositionMeta>(None);
                true
            }
            _ => gst::Pad::query_default(pad, parent, query),
        })
        .build();
    let bin = gst::parse::bin_from_description(elements, true).unwrap();
    let (input, output) = (
        bin.static_pad("sink").unwrap(),
        bin.static_pad("src").unwrap(),
    );
    output.link(&sink).unwrap();
    sink.set_active(true).unwrap();
    bin.set_state(gst::State::Playing).unwrap();
    let segment = gst::FormattedSegment::<gst::ClockTime>::new();
    for event in [
        gst::event::StreamStart::new("test"),
        gst::event::Caps::new(&caps(format)),
        gst::event::Segment::new(&segment),
    ] {
        assert!(input.send_event(event));
    }
    let info = gst_video::VideoInfo::from_caps(&caps(format)).unwrap();
    for one in inputs {
        match one {
            Frame(time, faces) => {
                let mut buffer = gst::Buffer::from_mut_slice(vec![GREY; info.size()]);
                let frame = buffer.make_mut();
                frame.set_pts(time.map(gst::ClockTime::from_mseconds));
                for (id, face) in (1..).zip(faces) {
                    gst_video::VideoRegionOfInterestMeta::add(frame, "face", *face).set_id(id);
                }
                input.chain(buffer).unwrap();
            }
            Event(event) => assert!(input.send_event(event)),
        }
    }
    bin.set_state(gst::State::Null).unwrap();
    std::mem::take(&mut outputs.lock().unwrap())
}

fn one_face() -> Vec<Input> {
    vec![Frame(Some(0), &[FACE])]
}

#[test]
fn pixels_are_drawn_where_nobody_lays_compositions_over() {
    let taken_without_a_word = Downstream {
        lays_over: false,
        ..LAYS_OVER
    };
    // Without the caps feature, elements in between may drop compositions.
    let said_without_caps = Downstream {
        takes_caps: false,
        ..LAYS_OVER
    };
    for downstream in [PLAIN, taken_without_a_word, said_without_caps] {
        let output = &send("mfroverlay", "I420", downstream, one_face())[0];
        assert!(output.is_drawn_on());
        assert!(output.composition().is_none());
        assert!(!has_feature(&output.caps), "{}", output.caps);
    }
}

#[test]
fn a_composition_goes_with_untouched_pixels_to_who_lays_it_over() {
    // The second case has an element in between that cannot answer before its caps are set.
    for elements in ["mfroverlay", "mfroverlay ! videoconvert"] {
        for format in ["I420", "YUY2", "RGB", "BGRA", "GRAY8"] {
            let output = &send(elements, format, LAYS_OVER, one_face())[0];
            assert!(!output.is_drawn_on(), "{elements} {format}");
            assert!(has_feature(&output.caps), "{}", output.caps);
            let composition = output.composition().unwrap();
            let (x, y, w, h) = composition.rectangle(0).unwrap().render_rectangle();
            let (x, y) = (u32::try_from(x).unwrap(), u32::try_from(y).unwrap());
            assert_eq!(composition.n_rectangles(), 1);
            // The rectangle is that of the box, because a pending face has no label.
            assert!(x < FACE.0 && x + w > FACE.0 + FACE.2, "{x} {w}");
            assert!(y < FACE.1 && y + h > FACE.1 + FACE.3, "{y} {h}");
            assert!(w < FACE.2 + 12 && h < FACE.3 + 12);
        }
    }
}

#[test]
fn a_composition_laid_over_is_what_would_have_been_drawn() {
    for format in ["BGRA", "RGB", "I420", "NV12"] {
        for legend in ["", " show-legend=true"] {
            let overlay = format!("mfroverlay{legend}");
            let drawn = &send(&overlay, format, PLAIN, one_face())[0];
            let sent = send(&overlay, format, LAYS_OVER, one_face()).remove(0);
            let composition = sent.composition().unwrap();
            let info = gst_video::VideoInfo::from_caps(&caps(format)).unwrap();
            let mut buffer = sent.buffer;
            let mut frame =
                gst_video::VideoFrameRef::from_buffer_ref_writable(buffer.make_mut(), &info)
                    .unwrap();
            composition.blend(&mut frame).unwrap();
            drop(frame);
            let (a, b) = (
                buffer.map_readable().unwrap(),
                drawn.buffer.map_readable().unwrap(),
            );
            // At edges, GStreamer uses the chroma of one of two pixels, and the painter their mean; all else is
            // rounding.
            let differs = |tolerance| {
                let pairs = a.iter().zip(b.iter());
                pairs.filter(|(a, b)| a.abs_diff(**b) > tolerance).count()
            };
            let (edges, pixels) = (differs(4), a.len());
            assert!(edges * 100 < pixels, "{format}: {edges} of {pixels}");
            if ["BGRA", "RGB"].contains(&format) {
                assert_eq!(edges, 0, "{format}");
            }
        }
    }
}

#[test]
fn a_face_missing_in_a_frame_is_still_drawn_and_then_no_more() {
    let inputs = [
        (0, &[FACE] as &[_]),
        (40, &[FACE]),
        (80, &[]),
        (120, &[]),
        (240, &[]),
    ];
    let frames = inputs.map(|(time, faces)| Frame(Some(time), faces));
    let drawn: Vec<_> = send("mfroverlay", "I420", PLAIN, frames.into())
        .iter()
        .map(Output::is_drawn_on)
        .collect();
    assert_eq!(drawn, [true, true, true, true, false]);
}

#[test]
fn nothing_is_drawn_from_before_a_break() {
    let caps = caps("GRAY8");
    let segment = gst::FormattedSegment::<gst::ClockTime>::new();
    let time_back = vec![];
    let breaks = [
        vec![
            Event(gst::event::FlushStart::new()),
            Event(gst::event::FlushStop::new(true)),
            Event(gst::event::Segment::new(&segment)),
        ],
        vec![Event(gst::event::StreamStart::new("another"))],
        vec![Event(gst::event::Caps::new(&caps))],
        time_back,
    ];
    for (number, events) in breaks.into_iter().enumerate() {
        let time = if events.is_empty() { 20 } else { 80 };
        let mut inputs = vec![Frame(Some(0), &[FACE]), Frame(Some(40), &[FACE])];
        inputs.extend(events);
        inputs.push(Frame(Some(time), &[]));
        // I420 is the smallest format: after new caps, frames are still large enough.
        let outputs = send("mfroverlay", "I420", PLAIN, inputs);
        assert!(outputs[1].is_drawn_on(), "{number}");
        assert!(!outputs[2].is_drawn_on(), "{number}");
    }
}

#[test]
fn a_new_segment_and_missing_timestamps_are_no_break() {
    let segment = gst::FormattedSegment::<gst::ClockTime>::new();
    let frames = vec![
        Frame(Some(0), &[FACE]),
        Frame(Some(40), &[FACE]),
        Event(gst::event::Segment::new(&segment)),
        Frame(Some(80), &[]),
    ];
    let timeless = [&[FACE] as &[_], &[FACE], &[]].map(|faces| Frame(None, faces));
    for inputs in [frames, timeless.into()] {
        let outputs = send("mfroverlay", "I420", PLAIN, inputs);
        assert!(outputs.iter().all(Output::is_drawn_on));
    }
}

#[test]
fn a_trembling_box_holds_still() {
    const TREMBLED: (u32, u32, u32, u32) = (121, 91, 60, 70);
    let frames: Vec<_> = (0..40)
        .map(|n| Frame(Some(40 * n), if n % 2 == 0 { &[FACE] } else { &[TREMBLED] }))
        .collect();
    let outputs = send("mfroverlay", "GRAY8", PLAIN, frames);
    let map = |n: usize| outputs[n].buffer.map_readable().unwrap();
    assert_eq!(*map(38), *map(39));
    assert_eq!(*map(0), *map(39));
}

#[test]
fn the_legend_is_drawn_without_any_face() {
    let frames = vec![Frame(Some(0), &[])];
    let output = &send("mfroverlay show-legend=true", "NV12", PLAIN, frames)[0];
    assert!(output.is_drawn_on());
    let frames = vec![Frame(Some(0), &[])];
    let output = &send("mfroverlay", "NV12", LAYS_OVER, frames)[0];
    assert!(output.composition().is_none());
}

#[test]
fn compositions_are_freed_with_their_frames() {
    assert_leaves_nothing("compositions_of_some_frames");
}

#[test]
#[ignore = "a part of another test"]
fn compositions_of_some_frames() {
    let frames = (0..5).map(|i| Frame(Some(40 * i), &[FACE])).collect();
    let outputs = send("mfroverlay", "I420", LAYS_OVER, frames);
    let rectangles = outputs.iter().map(|output| {
        let composition = output.composition().unwrap();
        composition.n_rectangles()
    });
    assert_eq!(rectangles.collect::<Vec<_>>(), [1; 5]);
    drop(outputs);
    // SAFETY: no GStreamer function is called after this, because the process runs this test only.
    unsafe { gst::deinit() };
}
