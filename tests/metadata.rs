//! Faces downstream of third-party elements: the metadata is either correct or absent.

#![cfg(feature = "plugin")]

use std::sync::{Arc, Mutex};

use gst::prelude::*;
use gstmfr::frame::geometry::Rect;
use gstmfr::plugin::meta::{self, Face, MIRROR, MIRROR_FIELD};

mod common;
use common::{gallery, init, photo};

const WIDTH: f32 = 640.0;
const HEIGHT: f32 = 480.0;

/// The faces of a buffer by each way of reading them, and the size of the frame.
#[derive(Debug, Default)]
struct Read {
    size: (u32, u32),
    by_elements: Vec<Face>,
    by_applications: Vec<Face>,
    by_json: Vec<Rect>,
    /// Boxes as read by a Python or DL Streamer program, which does not know the mirror.
    by_regions: Vec<Rect>,
}

fn read(pad: &gst::Pad, buffer: &gst::BufferRef) -> Read {
    let caps = pad.current_caps().unwrap();
    let video = gst_video::VideoInfo::from_caps(&caps).unwrap();
    let size = (video.width(), video.height());
    let json = gst::meta::CustomMeta::from_buffer(buffer, MIRROR).ok();
    let json = json.map(|m| m.structure().get::<String>(MIRROR_FIELD).unwrap());
    let json: serde_json::Value = json.map_or(serde_json::Value::Null, |json| {
        serde_json::from_str(&json).unwrap()
    });
    let faces = json["faces"].as_array().cloned().unwrap_or_default();
    let rect = |face: &serde_json::Value| {
        let value = |name: &str| face[name].as_f64().unwrap() as f32;
        let (width, height) = (size.0 as f32, size.1 as f32);
        Rect::new(
            value("x") * width,
            value("y") * height,
            value("w") * width,
            value("h") * height,
        )
    };
    Read {
        size,
        by_elements: meta::faces(buffer, size),
        by_applications: Face::iter(buffer).collect(),
        by_json: faces.iter().map(rect).collect(),
        by_regions: buffer
            .iter_meta::<gst_video::VideoRegionOfInterestMeta>()
            .map(|region| {
                let (x, y, w, h) = region.rect();
                Rect::new(x as f32, y as f32, w as f32, h as f32)
            })
            .collect(),
    }
}

/// A photo as a frame of 640×480 pixels with the faces of mfrdetect and mfrrecognize, upstream and downstream of
/// `elements`.
fn before_and_behind(elements: &str) -> Option<[Read; 2]> {
    init();
    let factories = elements.split(" ! ").filter_map(|e| e.split(' ').next());
    for factory in factories.filter(|f| !f.contains('/')) {
        if gst::ElementFactory::find(factory).is_none() {
            common::skip(format_args!("no element {factory}"));
            return None;
        }
    }
    let pipeline = gst::parse::launch(&format!(
        "filesrc location=\"{}\" ! decodebin ! videoconvert ! videoscale \
         ! video/x-raw,format=I420,width=640,height=480,pixel-aspect-ratio=1/1 \
         ! mfrdetect ! mfrrecognize database=\"{}\" ! identity name=before ! {elements} \
         ! fakesink name=behind",
        photo("obama2.jpg"),
        gallery().display()
    ))
    .unwrap()
    .downcast::<gst::Pipeline>()
    .unwrap();
    let seen: Arc<Mutex<[Option<Read>; 2]>> = Arc::default();
    for (index, name) in ["before", "behind"].into_iter().enumerate() {
        let seen = Arc::clone(&seen);
        let pad = pipeline.by_name(name).unwrap().static_pad("sink").unwrap();
        pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            let read = read(pad, info.buffer().unwrap());
            seen.lock().unwrap()[index].get_or_insert(read);
            gst::PadProbeReturn::Ok
        });
    }
    pipeline.set_state(gst::State::Playing).unwrap();
    let bus = pipeline.bus().unwrap();
    let ends = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = bus.timed_pop_filtered(gst::ClockTime::from_seconds(60), &ends);
    pipeline.set_state(gst::State::Null).unwrap();
    let message = message.unwrap_or_else(|| panic!("{elements} hangs"));
    if let gst::MessageView::Error(e) = message.view() {
        panic!("{elements}: {}", e.error());
    }
    let [before, behind] = std::mem::take(&mut *seen.lock().unwrap());
    Some([before.unwrap(), behind.unwrap()])
}

/// Position of a box downstream of an element; None if it is not in the frame any more, or not a rectangle.
type Way = fn(Rect) -> Option<Rect>;

/// Whether the element must keep the faces.
#[derive(Clone, Copy, PartialEq)]
enum Faces {
    Kept,
    MayBeGone,
}
use Faces::{Kept, MayBeGone};

fn moved(x: f32, y: f32, r: Rect) -> Option<Rect> {
    Some(r.translated(x, y))
}

const ELEMENTS: &[(&str, Faces, Way)] = &[
    ("videoconvert ! video/x-raw,format=RGB", Kept, Some),
    ("videorate ! video/x-raw,framerate=30/1", Kept, Some),
    ("tee ! queue", Kept, Some),
    ("videobalance saturation=0.5", Kept, Some),
    ("gamma gamma=1.2", Kept, Some),
    ("deinterlace", Kept, Some),
    ("mfroverlay", Kept, Some),
    ("alpha", MayBeGone, Some),
    ("compositor", MayBeGone, Some),
    ("videoscale ! video/x-raw,width=320,height=240", Kept, |r| {
        Some(Rect::new(
            r.x / 2.0,
            r.y / 2.0,
            r.width / 2.0,
            r.height / 2.0,
        ))
    }),
    // Non-square pixels keep the aspect ratio without borders.
    (
        "videoscale ! video/x-raw,width=640,height=640,pixel-aspect-ratio=4/3",
        Kept,
        |r| {
            Some(Rect::new(
                r.x,
                r.y * 4.0 / 3.0,
                r.width,
                r.height * 4.0 / 3.0,
            ))
        },
    ),
    // The scaler adds borders of 80 pixels above and below.
    (
        "videoscale ! video/x-raw,width=640,height=640,pixel-aspect-ratio=1/1",
        MayBeGone,
        |r| moved(0.0, 80.0, r),
    ),
    (
        "videoconvertscale ! video/x-raw,format=RGB,width=320,height=320,pixel-aspect-ratio=1/1",
        MayBeGone,
        |r| {
            Some(Rect::new(
                r.x / 2.0,
                r.y / 2.0 + 40.0,
                r.width / 2.0,
                r.height / 2.0,
            ))
        },
    ),
    (
        "videoscale add-borders=false ! video/x-raw,width=640,height=640,pixel-aspect-ratio=1/1",
        MayBeGone,
        |r| {
            Some(Rect::new(
                r.x,
                r.y * 4.0 / 3.0,
                r.width,
                r.height * 4.0 / 3.0,
            ))
        },
    ),
    ("videocrop left=100", MayBeGone, |r| moved(-100.0, 0.0, r)),
    ("videocrop top=20 right=60", MayBeGone, |r| {
        moved(0.0, -20.0, r)
    }),
    ("videobox left=-50 top=-30", MayBeGone, |r| {
        moved(50.0, 30.0, r)
    }),
    ("videobox left=50", MayBeGone, |r| moved(-50.0, 0.0, r)),
    ("aspectratiocrop aspect-ratio=1/1", MayBeGone, |r| {
        moved(-80.0, 0.0, r)
    }),
    ("videoflip video-direction=horiz", MayBeGone, |r| {
        Some(Rect::new(WIDTH - r.right(), r.y, r.width, r.height))
    }),
    ("videoflip video-direction=180", MayBeGone, |r| {
        Some(Rect::new(
            WIDTH - r.right(),
            HEIGHT - r.bottom(),
            r.width,
            r.height,
        ))
    }),
    ("videoflip video-direction=90r", MayBeGone, |r| {
        Some(Rect::new(HEIGHT - r.bottom(), r.x, r.height, r.width))
    }),
    ("videoflip video-direction=90l", MayBeGone, |r| {
        Some(Rect::new(r.y, WIDTH - r.right(), r.height, r.width))
    }),
    ("videoflip video-direction=vert", MayBeGone, |r| {
        Some(Rect::new(r.x, HEIGHT - r.bottom(), r.width, r.height))
    }),
    ("videoflip video-direction=ul-lr", MayBeGone, |r| {
        Some(Rect::new(r.y, r.x, r.height, r.width))
    }),
    ("videoflip video-direction=ur-ll", MayBeGone, |r| {
        Some(Rect::new(
            HEIGHT - r.bottom(),
            WIDTH - r.right(),
            r.height,
            r.width,
        ))
    }),
    ("autovideoflip video-direction=90r", MayBeGone, |r| {
        Some(Rect::new(HEIGHT - r.bottom(), r.x, r.height, r.width))
    }),
    // Metas of a copy downstream of `tee` must pass a scaler as well.
    (
        "tee ! queue ! videobalance ! videoscale ! video/x-raw,width=640,height=640,pixel-aspect-ratio=1/1 \
         ! videoscale ! video/x-raw,width=320,height=320",
        MayBeGone,
        |r| {
            Some(Rect::new(
                r.x / 2.0,
                r.y / 2.0 + 40.0,
                r.width / 2.0,
                r.height / 2.0,
            ))
        },
    ),
    ("videoconvert ! rotate angle=0.5", MayBeGone, |_| None),
    ("videoconvert ! fisheye", MayBeGone, |_| None),
    ("videoconvert ! mirror", MayBeGone, |_| None),
    ("jpegenc ! jpegdec", Kept, Some),
    ("x264enc tune=zerolatency ! avdec_h264", MayBeGone, Some),
];

#[test]
fn faces_are_right_or_absent_behind_every_element() {
    for &(elements, faces, way) in ELEMENTS {
        let Some([before, behind]) = before_and_behind(elements) else {
            continue;
        };
        let [face] = &before.by_elements[..] else {
            panic!("{elements}: {before:?}");
        };
        let expected = way(face.rect);
        let is_right = |rect: Rect| {
            let Some(expected) = expected else {
                return false;
            };
            [
                rect.x - expected.x,
                rect.y - expected.y,
                rect.right() - expected.right(),
                rect.bottom() - expected.bottom(),
            ]
            .iter()
            .all(|difference| difference.abs() <= 2.0)
        };
        let rects = [
            behind.by_elements.iter().map(|f| f.rect).collect(),
            behind.by_applications.iter().map(|f| f.rect).collect(),
            behind.by_json.clone(),
            behind.by_regions.clone(),
        ];
        let readers = ["elements", "applications", "JSON", "regions"];
        for (reader, rects) in readers.iter().zip(&rects) {
            let rects: &Vec<Rect> = rects;
            let is_as_asked = rects.len() == 1 || rects.is_empty() && faces == MayBeGone;
            assert!(is_as_asked, "{elements}, {reader}: {behind:?}");
            let are_right = rects.iter().all(|rect| is_right(*rect));
            assert!(
                are_right,
                "{elements}, {reader}: {rects:?}, not {expected:?}"
            );
        }
        // Identity and mask state of a face are kept as well.
        for face in &behind.by_elements {
            assert_eq!(
                face.identity.as_ref().unwrap().label,
                "Barack Obama",
                "{elements}"
            );
            assert!(
                face.landmarks.is_some() && face.mask.is_some(),
                "{elements}"
            );
        }
        assert!(behind.size.0 > 0);
    }
}

#[test]
fn a_name_stays_with_its_face_where_another_detector_adds_regions_behind_borders() {
    init();
    let elements = "videoscale ! video/x-raw,width=640,height=640,pixel-aspect-ratio=1/1 \
                    ! mfrdetect ! mfroverlay";
    let Some([before, behind]) = before_and_behind(elements) else {
        return;
    };
    let expected = before.by_elements[0].rect.translated(0.0, 80.0);
    let [face] = &behind.by_elements[..] else {
        panic!("{behind:?}");
    };
    // The face is detected again at its position, without an identity, because the name belonged to the other region.
    assert!(
        face.rect.iou(&expected) > 0.8,
        "{:?} {expected:?}",
        face.rect
    );
    assert_eq!(face.identity, None);
    assert_eq!(behind.by_json.len(), 1);
}
