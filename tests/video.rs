//! Faces over time: ids, names and messages, in pipelines that play videos made from photos.

#![cfg(feature = "plugin")]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gst::prelude::*;
use gstmfr::detect::{self, Detector};
use gstmfr::frame::image::ImageView;
use gstmfr::frame::orientation::Orientation;
use gstmfr::nn::SessionOptions;
use gstmfr::paint::{self, MaskType};
use gstmfr::plugin::message::Event;
use gstmfr::track::{Effort, Finder, Interval, Plan};
use gstmfr::{Face, Message};
use image::imageops;

mod common;
use common::{assert_leaves_nothing, gallery, init, photo};

const WIDTH: u32 = 400;
const HEIGHT: u32 = 400;
const FRAMES_PER_SECOND: u64 = 25;

/// A photo with one face, and the detected face.
#[derive(Clone)]
struct Portrait {
    rgb: image::RgbImage,
    face: detect::Face,
}

impl Portrait {
    /// A photo with its face in the middle of the frame, 160 pixels wide.
    fn new(name: &str) -> Self {
        let image = image::open(photo(name)).unwrap().to_rgb8();
        let face = found(&image);
        let scale = 160.0 / face.rect.width;
        let side = WIDTH as f32 / scale;
        let at = |v: f32| (v - side / 2.0).max(0.0) as u32;
        let center = face.rect.center();
        let (x, y) = (at(center.x), at(center.y));
        let part = image::imageops::crop_imm(&image, x, y, side as u32, side as u32).to_image();
        let filter = image::imageops::FilterType::Triangle;
        let rgb = image::imageops::resize(&part, WIDTH, HEIGHT, filter);
        let face = found(&rgb);
        Self { rgb, face }
    }

    fn masked(mut self) -> Self {
        let (width, height) = (WIDTH as usize, HEIGHT as usize);
        paint::paint(
            &mut self.rgb,
            width,
            height,
            &self.face,
            MaskType::Surgical,
            1,
        )
        .unwrap();
        self
    }

    /// The photo with a hand, or something like it, in front of mouth and nose.
    fn hidden(mut self) -> Self {
        let rect = self.face.rect;
        for (x, y, pixel) in self.rgb.enumerate_pixels_mut() {
            let (x, y) = (x as f32, y as f32);
            let is_hand = (rect.x..rect.right()).contains(&x) && y > rect.y + 0.3 * rect.height;
            if is_hand {
                let shade = 30.0 * ((x - rect.x) / 25.0).sin().abs();
                pixel.0 = [200.0, 150.0, 120.0].map(|c| (c - shade) as u8);
            }
        }
        self
    }

    /// The photo moved to the right on grey.
    fn at(&self, x: u32) -> Vec<u8> {
        let mut frame = image::RgbImage::from_pixel(WIDTH, HEIGHT, image::Rgb([128; 3]));
        image::imageops::overlay(&mut frame, &self.rgb, x.into(), 0);
        frame.into_raw()
    }
}

fn found(image: &image::RgbImage) -> detect::Face {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let view = ImageView::rgb(image, width, height).unwrap();
    let mut detector = Detector::built_in(&SessionOptions::default()).unwrap();
    detector.detect(&view, &Default::default()).unwrap()[0]
}

/// The output of a video.
struct Seen {
    /// The faces of each frame.
    frames: Vec<Vec<Face>>,
    messages: Vec<Message>,
}

impl Seen {
    fn ids(&self, frames: std::ops::Range<usize>) -> BTreeSet<i32> {
        self.frames[frames].iter().flatten().map(|f| f.id).collect()
    }

    /// The names in these frames; "-" for a face without identity.
    fn names(&self, frames: std::ops::Range<usize>) -> BTreeSet<String> {
        let faces = self.frames[frames].iter().flatten();
        let name = |f: &Face| f.identity.as_ref().map_or("-".into(), |i| i.label.clone());
        faces.map(name).collect()
    }

    fn events(&self) -> Vec<(Event, String)> {
        let news = self.messages.iter().flat_map(|m| &m.faces);
        news.map(|n| (n.event.unwrap(), n.label.clone())).collect()
    }
}

fn launch(description: &str) -> gst::Pipeline {
    init();
    let pipeline = gst::parse::launch(description);
    let pipeline = pipeline.unwrap_or_else(|e| panic!("{description}: {e}"));
    pipeline.downcast().unwrap()
}

fn elements(detect: &str, recognize: &str) -> String {
    let database = gallery().display();
    format!("mfrdetect name=detect {detect} ! mfrrecognize database=\"{database}\" {recognize}")
}

/// Plays RGB frames.
fn play(frames: &[Vec<u8>], detect: &str, recognize: &str) -> Seen {
    let elements = elements(detect, recognize);
    let pipeline = launch(&format!(
        "appsrc name=source format=time caps=video/x-raw,format=RGB,width={WIDTH},height={HEIGHT},\
         framerate={FRAMES_PER_SECOND}/1 ! {elements} ! fakesink name=sink sync=false"
    ));
    let source: gst_app::AppSrc = pipeline.by_name("source").unwrap().downcast().unwrap();
    let seen = watch(&pipeline);
    pipeline.set_state(gst::State::Playing).unwrap();
    for (number, frame) in (0..).zip(frames) {
        let mut buffer = gst::Buffer::from_slice(frame.clone());
        let duration = gst::ClockTime::SECOND / FRAMES_PER_SECOND;
        let buffer_ref = buffer.get_mut().unwrap();
        buffer_ref.set_pts(duration * number);
        buffer_ref.set_duration(duration);
        source.push_buffer(buffer).unwrap();
    }
    source.end_of_stream().unwrap();
    let messages = until_end(&pipeline);
    pipeline.set_state(gst::State::Null).unwrap();
    let frames = std::mem::take(&mut *seen.lock().unwrap());
    Seen { frames, messages }
}

/// The faces of the frames that reach the sink.
fn watch(pipeline: &gst::Pipeline) -> Arc<Mutex<Vec<Vec<Face>>>> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let frames = Arc::clone(&seen);
    let pad = pipeline.by_name("sink").unwrap().static_pad("sink");
    pad.unwrap()
        .add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let faces = Face::iter(info.buffer().unwrap()).collect();
            frames.lock().unwrap().push(faces);
            gst::PadProbeReturn::Ok
        });
    seen
}

fn until_end(pipeline: &gst::Pipeline) -> Vec<Message> {
    let bus = pipeline.bus().unwrap();
    let mut messages = Vec::new();
    loop {
        let message = bus.timed_pop(gst::ClockTime::from_seconds(60));
        let message = message.expect("the pipeline hangs");
        match message.view() {
            gst::MessageView::Eos(_) => return messages,
            gst::MessageView::Error(e) => panic!("{} ({:?})", e.error(), e.debug()),
            gst::MessageView::Element(_) => {
                messages.extend(message.structure().and_then(|s| Message::try_from(s).ok()));
            }
            _ => {}
        }
    }
}

/// A face that moves to the right and back.
fn walk(portrait: &Portrait, frames: u32) -> Vec<Vec<u8>> {
    let x = |frame: u32| 3 * frame.min(frames - frame);
    (0..frames).map(|frame| portrait.at(x(frame))).collect()
}

#[test]
fn a_face_keeps_its_id_and_its_name_however_often_the_picture_is_searched() {
    let film = walk(&Portrait::new("obama2.jpg"), 50);
    for (detect, recognize) in [
        ("", ""),
        ("inference-interval=1", "reclassify-interval=1"),
        ("inference-interval=5", "reclassify-interval=7"),
        ("inference-interval=10", "reclassify-interval=0"),
    ] {
        let seen = play(&film, detect, recognize);
        let faces: Vec<_> = seen.frames.iter().map(Vec::len).collect();
        assert_eq!(faces, [1; 50], "{detect}");
        assert_eq!(seen.ids(0..50), [1].into(), "{detect}");
        assert_eq!(
            seen.names(0..50),
            ["Barack Obama".into()].into(),
            "{detect}"
        );
        // The face is followed, so its position is the current one.
        let way = seen.frames[25][0].rect.x - seen.frames[0][0].rect.x;
        assert!((way - 75.0).abs() < 8.0, "{detect}: {way}");
        let obama = |event| (event, "Barack Obama".to_owned());
        assert_eq!(
            seen.events(),
            [obama(Event::Identified), obama(Event::Left)],
            "{detect}"
        );
        let left = &seen.messages[1].faces[0];
        assert_eq!(left.first_seen, Some(gst::ClockTime::ZERO));
        assert_eq!(left.last_seen, Some(gst::ClockTime::from_mseconds(49 * 40)));
    }
}

#[test]
fn between_searches_faces_are_followed_and_embedded_when_it_is_worth_it() {
    let film = walk(&Portrait::new("obama2.jpg"), 50);
    let embedded = |recognize| {
        let seen = play(&film, "", recognize);
        let age = |faces: &Vec<Face>| faces[0].identity.as_ref().unwrap().frames_ago;
        seen.frames.iter().map(age).filter(|&age| age == 0).count()
    };
    assert_eq!(embedded("reclassify-interval=1"), 50);
    assert_eq!(embedded("reclassify-interval=10"), 5);
    assert_eq!(embedded("reclassify-interval=0"), 1);
    let adaptive = embedded("");
    // There are three embeddings at first, then one per second, and further ones of better views.
    assert!((4..12).contains(&adaptive), "{adaptive}");
}

#[test]
fn without_tracking_every_frame_stands_alone() {
    let film = walk(&Portrait::new("obama2.jpg"), 12);
    let seen = play(&film, "tracking=false", "");
    assert_eq!(seen.ids(0..12), (1..=12).collect());
    let seen = play(&film, "tracking=false inference-interval=4", "");
    let faces: Vec<_> = seen.frames.iter().map(Vec::len).collect();
    assert_eq!(faces, [1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]);
}

#[test]
fn a_scene_cut_ends_faces_and_names() {
    // Later than tracks are kept, so that the time of the new scene counts.
    const CUT: usize = 60;
    const END: usize = CUT + 20;
    let obama = walk(&Portrait::new("obama2.jpg"), CUT as u32);
    // At the cut both faces are in the same place: no state of one man may be attributed to the other, not even his
    // mask state.
    let biden = walk(&Portrait::new("biden.jpg").masked(), 20);
    let film = [obama, biden].concat();
    for detect in ["", "tracking=false"] {
        let seen = play(&film, detect, "");
        assert!(
            seen.ids(0..CUT).is_disjoint(&seen.ids(CUT..END)),
            "{detect}"
        );
        if detect.is_empty() {
            assert_eq!(seen.ids(CUT..END).len(), 1);
        }
        assert_eq!(seen.names(0..CUT), ["Barack Obama".into()].into());
        assert_eq!(
            seen.names(CUT..END),
            ["Joe Biden".into()].into(),
            "{detect}"
        );
        assert!(seen.frames.iter().all(|faces| faces.len() == 1));
        let masks = seen.frames[CUT..].iter().flatten().map(|face| {
            let mask = face.mask.as_ref().unwrap();
            mask.label.as_str()
        });
        assert_eq!(masks.collect::<BTreeSet<_>>(), ["with_mask"].into());
        let [obama, biden] = ["Barack Obama", "Joe Biden"];
        let events = [
            (Event::Identified, obama),
            (Event::Left, obama),
            (Event::Identified, biden),
            (Event::Left, biden),
        ];
        let events = events.map(|(event, name)| (event, name.to_owned()));
        assert_eq!(seen.events(), events, "{detect}");
        let news: Vec<_> = seen.messages.iter().flat_map(|m| &m.faces).collect();
        let frame = |number: u64| Some(gst::ClockTime::from_mseconds(number * 40));
        assert_eq!(news[1].last_seen, frame(CUT as u64 - 1), "{detect}");
        assert_eq!(news[2].first_seen, frame(CUT as u64), "{detect}");
    }
}

#[test]
fn a_stream_that_is_turned_shows_the_same_faces_after_its_first_second() {
    const FRAMES: usize = 75;
    const FROM: usize = 30;
    let film = walk(&Portrait::new("obama2.jpg"), FRAMES as u32);
    let expected = play(&film, "", "");
    let turns: [(fn(&_) -> image::RgbImage, _); 3] = [
        (imageops::rotate90, Orientation::ROTATE_270),
        (imageops::rotate180, Orientation::ROTATE_180),
        (imageops::rotate270, Orientation::ROTATE_90),
    ];
    let size = (WIDTH as f32, HEIGHT as f32);
    for (turn, back) in turns {
        let turned = |frame: &Vec<u8>| {
            let frame = image::RgbImage::from_raw(WIDTH, HEIGHT, frame.clone());
            turn(&frame.unwrap()).into_raw()
        };
        let film: Vec<_> = film.iter().map(turned).collect();
        for detect in ["", "inference-interval=5", "tracking=false"] {
            let seen = play(&film, detect, "");
            for (number, faces) in seen.frames.iter().enumerate().skip(FROM) {
                assert_eq!(faces.len(), 1, "{back:?} {detect} frame {number}");
                let upright = &expected.frames[number][0];
                let place = back.rect_to_stored(upright.rect, size);
                let overlap = faces[0].rect.iou(&place);
                assert!(
                    overlap > 0.75,
                    "{back:?} {detect} frame {number}: {overlap}"
                );
                let landmarks = faces[0].landmarks.as_ref().unwrap();
                assert_eq!(Orientation::of_face(landmarks), back);
            }
            let names = seen.names(FROM..FRAMES);
            assert_eq!(names, ["Barack Obama".into()].into(), "{back:?} {detect}");
            if detect.is_empty() {
                assert_eq!(seen.ids(FROM..FRAMES).len(), 1);
            }
        }
    }
}

#[test]
fn a_seek_keeps_the_orientation_and_another_stream_does_not() {
    let photo = image::open(photo("obama2.jpg")).unwrap().to_rgb8();
    let photo = imageops::thumbnail(&photo, 320, 400);
    let turned = imageops::rotate90(&photo);
    let view = ImageView::rgb(&turned, 400, 320).unwrap();
    let place = Orientation::ROTATE_270.rect_to_stored(found(&photo).rect, (400.0, 320.0));
    let mut detector = Detector::built_in(&SessionOptions::default()).unwrap();
    let mut finder = Finder::default();
    let mut is_seen = |finder: &mut Finder, regions, frame: u64| {
        let plan = Plan {
            frame_interval: Duration::from_millis(40),
            now: Duration::from_millis(40 * frame),
            interval: Interval::Automatic,
            tracking: true,
            effort: Effort::Search,
            budget: None,
        };
        let params = detect::Params {
            regions,
            ..Default::default()
        };
        let faces = finder.find(&mut detector, &view, &params, plan).unwrap();
        matches!(faces[..], [(_, face)] if face.rect.iou(&place) > 0.75)
    };
    for frame in 0..30 {
        is_seen(&mut finder, Vec::new(), frame);
    }
    assert!(is_seen(&mut finder, Vec::new(), 30));
    finder.reset();
    assert!(is_seen(&mut finder, Vec::new(), 0));
    // Regions are those of the stream.
    finder.reset();
    assert!(is_seen(&mut finder, vec![place.scaled(1.5)], 0));
    finder.forget_turn();
    assert!(!is_seen(&mut finder, Vec::new(), 1));
}

/// Two portraits side by side, each of half the size.
fn beside(left: &Portrait, right: &Portrait) -> Vec<u8> {
    let mut frame = image::RgbImage::from_pixel(WIDTH, HEIGHT, image::Rgb([128; 3]));
    for (x, portrait) in [(0, left), (WIDTH / 2, right)] {
        let filter = image::imageops::FilterType::Triangle;
        let half = image::imageops::resize(&portrait.rgb, WIDTH / 2, HEIGHT / 2, filter);
        image::imageops::overlay(&mut frame, &half, x.into(), i64::from(HEIGHT / 4));
    }
    frame.into_raw()
}

#[test]
fn two_people_who_change_places_from_one_frame_to_the_next_stay_who_they_are() {
    let [obama, biden] = ["obama2.jpg", "biden.jpg"].map(Portrait::new);
    let film = [
        vec![beside(&obama, &biden); 20],
        vec![beside(&biden, &obama); 20],
    ]
    .concat();
    let [obama, biden] = ["Barack Obama", "Joe Biden"];
    for detect in ["", "tracking=false"] {
        let seen = play(&film, detect, "");
        for (number, faces) in seen.frames.iter().enumerate() {
            assert_eq!(faces.len(), 2, "{detect} frame {number}");
            for face in faces {
                let is_left = face.rect.x < WIDTH as f32 / 2.0;
                let expected = if is_left == (number < 20) {
                    obama
                } else {
                    biden
                };
                let name = face.identity.as_ref().map(|i| i.label.as_str());
                // A name may take a frame or two, but must never be that of the other.
                let is_new = [0, 1, 20, 21].contains(&number);
                let is_right =
                    name == Some(expected) || is_new && name.is_none_or(|n| n == "unknown");
                assert!(is_right, "{detect} frame {number}: {name:?} for {expected}");
            }
        }
        let events = seen.events();
        assert_eq!(events.len(), 4, "{detect}: {events:?}");
        let (arrivals, departures) = events.split_at(2);
        let everybody = |event| [obama, biden].map(|name| (event, name.to_owned()));
        let sorted = |events: &[(Event, String)]| {
            let mut events = events.to_vec();
            events.sort_by(|a, b| a.1.cmp(&b.1));
            events
        };
        assert_eq!(sorted(arrivals), everybody(Event::Identified), "{detect}");
        assert_eq!(sorted(departures), everybody(Event::Left), "{detect}");
    }
}

#[test]
fn a_name_outlives_a_mask_that_is_put_on_and_taken_off_behind_a_hand() {
    let bare = Portrait::new("obama2.jpg");
    let (masked, hidden) = (bare.clone().masked(), bare.clone().hidden());
    let film: Vec<_> = [
        (&bare, 30),
        (&hidden, 12),
        (&masked, 40),
        (&hidden, 12),
        (&bare, 30),
    ]
    .into_iter()
    .flat_map(|(portrait, frames)| (0..frames).map(|frame| portrait.at(frame % 4)))
    .collect();
    let seen = play(&film, "", "");
    assert_eq!(seen.names(0..film.len()), ["Barack Obama".into()].into());
    assert_eq!(seen.ids(0..film.len()), [1].into());
    let masks: Vec<_> = seen
        .messages
        .iter()
        .flat_map(|m| &m.faces)
        .filter(|n| n.event == Some(Event::Changed))
        .map(|n| (n.label.as_str(), n.previous_mask.as_deref().unwrap_or("-")))
        .collect();
    let changes = [
        ("Barack Obama", "without_mask"),
        ("Barack Obama", "with_mask"),
    ];
    assert_eq!(masks, changes);
}

#[test]
fn a_seek_begins_anew() {
    let elements = elements("", "");
    let pipeline = launch(&format!(
        "filesrc location=\"{}\" ! decodebin ! videoconvert ! videoscale \
         ! video/x-raw,format=I420,width=400,height=500 ! imagefreeze \
         ! video/x-raw,framerate=25/1 ! {elements} ! fakesink name=sink sync=false",
        photo("obama2.jpg")
    ));
    let seen = watch(&pipeline);
    pipeline.set_state(gst::State::Paused).unwrap();
    pipeline.state(gst::ClockTime::from_seconds(30)).0.unwrap();
    let seconds = gst::ClockTime::from_seconds;
    for (round, from) in [(1, 3), (2, 8), (3, 0)] {
        seen.lock().unwrap().clear();
        pipeline
            .seek(
                1.0,
                gst::SeekFlags::FLUSH | gst::SeekFlags::ACCURATE,
                gst::SeekType::Set,
                seconds(from),
                gst::SeekType::Set,
                seconds(from) + gst::ClockTime::SECOND / 2,
            )
            .unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let messages = until_end(&pipeline);
        let frames = std::mem::take(&mut *seen.lock().unwrap());
        let ids: BTreeSet<_> = frames.iter().flatten().map(|f| f.id).collect();
        // There is one face, with a new id.
        assert_eq!(ids, [round + 1].into());
        let events: Vec<_> = messages.iter().flat_map(|m| &m.faces).collect();
        let last = events.iter().rev().find(|n| n.event != Some(Event::Left));
        assert_eq!(last.map(|n| n.first_seen), Some(Some(seconds(from))));
    }
    pipeline.set_state(gst::State::Null).unwrap();
}

/// Pseudo-random numbers, the same ones in every run.
fn random(state: &mut u64, below: u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1);
    (*state >> 33) % below
}

/// Variable with the number of changes in [`changes_in_any_order`]; the default of 40 takes seconds.
const CHANGES: &str = "MFR_TEST_CHANGES";

#[test]
fn states_seeks_and_caps_in_any_order_leave_nothing_behind() {
    assert_leaves_nothing("changes_in_any_order");
}

#[test]
#[ignore = "a part of another test"]
fn changes_in_any_order() {
    let changes = std::env::var(CHANGES).ok().and_then(|n| n.parse().ok());
    let elements = elements("threads=1", "threads=1");
    let pipeline = launch(&format!(
        "filesrc location=\"{}\" ! jpegdec ! videoconvert ! videoscale \
         ! video/x-raw,format=I420,width=320,height=400 ! imagefreeze \
         ! video/x-raw,framerate=25/1 ! jpegenc ! jpegdec ! videoconvert ! videoscale \
         ! capsfilter name=size ! {elements} ! mfroverlay ! fakesink name=sink sync=false",
        photo("obama2.jpg")
    ));
    let pad = pipeline
        .by_name("sink")
        .unwrap()
        .static_pad("sink")
        .unwrap();
    // The highest id of a face, and the highest one before the last flush.
    let numbers = Arc::new(Mutex::new((0, 0)));
    let seen = Arc::clone(&numbers);
    let wanted = gst::PadProbeType::BUFFER
        | gst::PadProbeType::EVENT_DOWNSTREAM
        | gst::PadProbeType::EVENT_FLUSH;
    pad.add_probe(wanted, move |_, info| {
        let mut seen = seen.lock().unwrap();
        if let Some(buffer) = info.buffer() {
            for face in Face::iter(buffer) {
                assert!(face.id > seen.1, "{} is of before", face.id);
                seen.0 = seen.0.max(face.id);
            }
        }
        match info.event().map(|event| event.type_()) {
            Some(gst::EventType::FlushStop) => seen.1 = seen.0,
            // Elements that were stopped count from 1 again.
            Some(gst::EventType::StreamStart) => *seen = (0, 0),
            _ => {}
        }
        gst::PadProbeReturn::Ok
    });
    let mut faces = 0;
    let mut state = 1;
    let states = [
        gst::State::Null,
        gst::State::Ready,
        gst::State::Paused,
        gst::State::Playing,
    ];
    for _ in 0..changes.unwrap_or(40) {
        match random(&mut state, 6) {
            5 => {
                let size = 160 + 80 * random(&mut state, 3) as i32;
                let format = ["I420", "RGB", "NV12"][random(&mut state, 3) as usize];
                let caps = gst::Caps::builder("video/x-raw")
                    .field("format", format)
                    .field("width", size)
                    .field("height", size * 5 / 4);
                let filter = pipeline.by_name("size").unwrap();
                let wait = || pipeline.state(gst::ClockTime::from_seconds(30));
                // A frame that is being processed in videoscale would have the wrong size.
                let is_playing = wait().1 == gst::State::Playing;
                if is_playing {
                    pipeline.set_state(gst::State::Paused).unwrap();
                    wait().0.unwrap();
                }
                filter.set_property("caps", caps.build());
                if is_playing {
                    pipeline.set_state(gst::State::Playing).unwrap();
                }
            }
            4 => {
                let _ = pipeline.seek_simple(
                    gst::SeekFlags::FLUSH,
                    gst::ClockTime::from_seconds(random(&mut state, 60)),
                );
            }
            i => {
                pipeline.set_state(states[i as usize]).unwrap();
                pipeline.state(gst::ClockTime::from_seconds(30)).0.unwrap();
            }
        }
        // Some frames pass in the meantime, if the pipeline is playing.
        std::thread::sleep(std::time::Duration::from_millis(20));
        faces = faces.max(numbers.lock().unwrap().0);
        let bus = pipeline.bus().unwrap();
        while let Some(message) = bus.pop() {
            if let gst::MessageView::Error(e) = message.view() {
                panic!("{} ({:?})", e.error(), e.debug());
            }
        }
    }
    assert!(faces > 0);
    pipeline.set_state(gst::State::Null).unwrap();
    drop((pad, pipeline));
    // SAFETY: no GStreamer function is called after this, because the process runs this test only.
    unsafe { gst::deinit() };
}

#[test]
fn a_live_source_loses_no_frame_and_its_latency_is_told() {
    let elements = elements("min-face-size=12 threads=1", "threads=1");
    // No CPU can search frames of this size at this rate, so inference is skipped.
    let pipeline = launch(&format!(
        "videotestsrc is-live=true num-buffers=90 pattern=smpte \
         ! video/x-raw,format=I420,width=1920,height=1080,framerate=60/1 ! {elements} \
         ! fakesink name=sink sync=true"
    ));
    let seen = watch(&pipeline);
    pipeline.set_state(gst::State::Playing).unwrap();
    pipeline.state(gst::ClockTime::from_seconds(30)).0.unwrap();
    let bus = pipeline.bus().unwrap();
    let message = bus.timed_pop_filtered(
        gst::ClockTime::from_seconds(30),
        &[gst::MessageType::Latency, gst::MessageType::Eos],
    );
    assert_eq!(message.unwrap().type_(), gst::MessageType::Latency);
    pipeline.recalculate_latency().unwrap();
    let mut query = gst::query::Latency::new();
    assert!(pipeline.query(&mut query));
    let (is_live, least, _) = query.result();
    assert!(
        is_live && least >= gst::ClockTime::from_mseconds(10),
        "{least}"
    );
    until_end(&pipeline);
    pipeline.set_state(gst::State::Null).unwrap();
    assert_eq!(seen.lock().unwrap().len(), 90);
}

/// Per frame hardly any region may be searched, but in the end all faces are found, and none is lost.
#[test]
fn with_hardly_any_time_a_crowd_is_found_bit_by_bit() {
    let portrait = Portrait::new("obama.jpg").rgb;
    let mut crowd = image::RgbImage::new(4 * WIDTH, 2 * HEIGHT);
    for i in 0..8 {
        let (x, y) = (i % 4 * WIDTH, i / 4 * HEIGHT);
        image::imageops::replace(&mut crowd, &portrait, x.into(), y.into());
    }
    let view = ImageView::rgb(&crowd, crowd.width() as usize, crowd.height() as usize).unwrap();
    let mut detector = Detector::built_in(&SessionOptions::default()).unwrap();
    let mut finder = Finder::default();
    let mut counts = Vec::new();
    let mut ids = BTreeSet::new();
    for frame in 0..90 {
        let plan = Plan {
            frame_interval: Duration::from_millis(40),
            now: Duration::from_millis(33 * frame),
            interval: Interval::Automatic,
            tracking: true,
            effort: Effort::Search,
            budget: Some(Duration::from_nanos(1)),
        };
        let faces = finder
            .find(&mut detector, &view, &Default::default(), plan)
            .unwrap();
        ids.extend(faces.iter().map(|(id, _)| *id));
        counts.push(faces.len());
    }
    assert!(counts[0] < 8, "{counts:?}");
    assert!(counts[30..].iter().all(|&n| n == 8), "{counts:?}");
    assert_eq!(ids.len(), 8);
}
