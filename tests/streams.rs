//! Streams as cameras send them: dark and damaged frames, gaps, size changes, and timestamps and rows in any order.

#![cfg(feature = "plugin")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gst::prelude::*;
use gst_app::AppSrc;
use gstmfr::Message;
use gstmfr::plugin::message::{Event, FaceNews};
use gstmfr::plugin::meta::{self, Face};

mod common;
use common::{gallery, init, photo};

const WIDTH: u32 = 320;
const HEIGHT: u32 = 400;

/// Frame interval at 25 frames per second.
const INTERVAL: gst::ClockTime = gst::ClockTime::from_mseconds(40);

/// A demo photo in grey, of the size of the frames here.
fn picture(name: &str) -> Vec<u8> {
    let photo = image::open(photo(name)).unwrap();
    let filter = image::imageops::FilterType::Triangle;
    photo
        .resize_exact(WIDTH, HEIGHT, filter)
        .to_luma8()
        .into_raw()
}

/// An image without a face that differs from all others.
fn no_face(number: usize) -> Vec<u8> {
    let pixel = |i: usize| {
        let (x, y) = ((i % WIDTH as usize) as f32, (i / WIDTH as usize) as f32);
        let a = 0.02 * (1 + number) as f32;
        (128.0 + 60.0 * (x * a).sin() + 50.0 * (y * 0.7 * a + number as f32).cos()) as u8
    };
    (0..(WIDTH * HEIGHT) as usize).map(pixel).collect()
}

fn caps(width: u32, height: u32) -> gst::Caps {
    gst_video::VideoCapsBuilder::new()
        .format(gst_video::VideoFormat::Gray8)
        .width(width as i32)
        .height(height as i32)
        .framerate(gst::Fraction::new(25, 1))
        .build()
}

fn recognize() -> String {
    let gallery = gallery().display();
    format!("mfrdetect ! mfrrecognize name=r database=\"{gallery}\"")
}

/// A pipeline that a test feeds frame by frame, and its output.
struct Stream {
    pipeline: gst::Pipeline,
    source: AppSrc,
    frames: Arc<Mutex<Vec<Vec<Face>>>>,
    count: u64,
    warnings: Vec<String>,
    error: Option<String>,
    news: Vec<FaceNews>,
    /// States in the messages about the gallery.
    galleries: Vec<String>,
}

impl Stream {
    fn new(elements: &str) -> Self {
        Self::with_source("", elements)
    }

    fn with_source(properties: &str, elements: &str) -> Self {
        init();
        let pipeline = gst::parse::launch(&format!(
            "appsrc name=src format=time max-bytes=0 {properties} \
             ! {elements} ! fakesink name=sink sync=false"
        ))
        .unwrap()
        .downcast::<gst::Pipeline>()
        .unwrap();
        let source = pipeline.by_name("src").unwrap();
        let source = source.downcast::<AppSrc>().unwrap();
        source.set_caps(Some(&caps(WIDTH, HEIGHT)));
        let frames = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&frames);
        let pad = pipeline
            .by_name("sink")
            .unwrap()
            .static_pad("sink")
            .unwrap();
        pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            let caps = pad.current_caps().unwrap();
            let video = gst_video::VideoInfo::from_caps(&caps).unwrap();
            let faces = meta::faces(info.buffer().unwrap(), (video.width(), video.height()));
            seen.lock().unwrap().push(faces);
            gst::PadProbeReturn::Ok
        });
        pipeline.set_state(gst::State::Playing).unwrap();
        Self {
            pipeline,
            source,
            frames,
            count: 0,
            warnings: Vec::new(),
            error: None,
            news: Vec::new(),
            galleries: Vec::new(),
        }
    }

    fn recognizing() -> Self {
        let gallery = gallery().display();
        Self::new(&format!(
            "mfrdetect ! mfrrecognize name=r database=\"{gallery}\""
        ))
    }

    /// The buffer of the next frame.
    fn buffer(&mut self, pixels: &[u8]) -> gst::Buffer {
        let mut buffer = gst::Buffer::from_mut_slice(pixels.to_vec());
        let frame = buffer.get_mut().unwrap();
        frame.set_pts(INTERVAL * self.count);
        frame.set_duration(INTERVAL);
        self.count += 1;
        buffer
    }

    fn push(&mut self, pixels: &[u8]) {
        let buffer = self.buffer(pixels);
        // This fails after an error, which `end` returns.
        let _ = self.source.push_buffer(buffer);
    }

    fn push_flagged(&mut self, pixels: &[u8], flags: gst::BufferFlags) {
        let mut buffer = self.buffer(pixels);
        buffer.get_mut().unwrap().set_flags(flags);
        let _ = self.source.push_buffer(buffer);
    }

    /// Waits until every frame that was pushed has been output.
    fn wait(&self) {
        let end = Instant::now() + Duration::from_secs(60);
        while (self.frames.lock().unwrap().len() as u64) < self.count {
            assert!(Instant::now() < end, "the pipeline hangs");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn note(&mut self, message: &gst::Message) {
        match message.view() {
            gst::MessageView::Error(e) => self.error = Some(e.error().to_string()),
            gst::MessageView::Warning(w) => self.warnings.push(w.error().to_string()),
            gst::MessageView::Element(e) => {
                let structure = e.structure().unwrap();
                if let Ok(message) = Message::try_from(structure) {
                    self.news.extend(message.faces);
                } else if structure.name() == "mfr-gallery" {
                    self.galleries.push(structure.get("state").unwrap());
                }
            }
            _ => {}
        }
    }

    fn take_messages(&mut self) {
        let bus = self.pipeline.bus().unwrap();
        while let Some(message) = bus.pop() {
            self.note(&message);
        }
    }

    fn is_done(message: &gst::Message) -> bool {
        use gst::MessageView::{Eos, Error};
        matches!(message.view(), Eos(_) | Error(_))
    }

    /// Ends the stream.
    fn end(mut self) -> Self {
        let _ = self.source.end_of_stream();
        let bus = self.pipeline.bus().unwrap();
        loop {
            let message = bus.timed_pop(gst::ClockTime::from_seconds(60));
            let message = message.expect("the pipeline hangs");
            self.note(&message);
            if Self::is_done(&message) {
                break;
            }
        }
        self.pipeline.set_state(gst::State::Null).unwrap();
        self
    }

    fn frames(&self) -> Vec<Vec<Face>> {
        self.frames.lock().unwrap().clone()
    }

    fn ids(&self) -> Vec<i32> {
        let mut ids: Vec<_> = self.frames().iter().flatten().map(|f| f.id).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    fn names(&self) -> Vec<String> {
        let frames = self.frames();
        let identities = frames.iter().flatten().filter_map(|f| f.identity.as_ref());
        let mut names: Vec<_> = identities.map(|i| i.label.clone()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn events(&self) -> Vec<(Event, &str)> {
        let events = self.news.iter();
        events.map(|f| (f.event.unwrap(), &*f.label)).collect()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

const OBAMA: &str = "Barack Obama";

#[test]
fn a_lamp_that_lights_every_other_frame_leaves_one_face_with_one_name() {
    let face = picture("obama2.jpg");
    let darkened = |by: u8| face.iter().map(|p| p / by).collect::<Vec<_>>();
    for between in [vec![0; face.len()], darkened(12), darkened(3), no_face(3)] {
        let mut stream = Stream::recognizing();
        for frame in 0..60 {
            stream.push(if frame % 2 == 0 { &face } else { &between });
        }
        let stream = stream.end();
        let level = between[0];
        assert_eq!(stream.ids().len(), 1, "{level}: {:?}", stream.ids());
        assert_eq!(stream.names(), [OBAMA], "{level}");
        let expected = [(Event::Identified, OBAMA), (Event::Left, OBAMA)];
        assert_eq!(stream.events(), expected, "{level}");
        let frames = stream.frames();
        let lit = frames.iter().step_by(2).filter(|faces| !faces.is_empty());
        assert!(lit.count() >= 26, "{level}");
    }
}

#[test]
fn a_bright_face_in_the_dark_and_an_underexposed_one_are_found() {
    let small = image::GrayImage::from_raw(WIDTH, HEIGHT, picture("obama2.jpg")).unwrap();
    let small = image::imageops::thumbnail(&small, 120, 150);
    let mut dark = image::GrayImage::from_pixel(WIDTH * 4, HEIGHT * 2, image::Luma([9]));
    image::imageops::replace(&mut dark, &small, 700, 300);
    let underexposed = picture("obama2.jpg").iter().map(|p| p / 8).collect();
    for (pixels, (width, height)) in [
        (dark.clone().into_raw(), dark.dimensions()),
        (underexposed, (WIDTH, HEIGHT)),
    ] {
        let mut stream = Stream::new("mfrdetect");
        stream.source.set_caps(Some(&caps(width, height)));
        for _ in 0..3 {
            stream.push(&pixels);
        }
        let stream = stream.end();
        assert!(stream.frames().iter().all(|faces| faces.len() == 1));
    }
}

#[test]
fn in_gaps_time_passes_and_people_leave() {
    let face = picture("obama2.jpg");
    // These are buffers with the flag GAP, with pixels and without.
    for pixels in [&face[..], &[]] {
        let mut stream = Stream::recognizing();
        for _ in 0..8 {
            stream.push(&face);
        }
        for _ in 0..40 {
            stream.push_flagged(pixels, gst::BufferFlags::GAP);
        }
        stream.wait();
        stream.take_messages();
        let expected = [(Event::Identified, OBAMA), (Event::Left, OBAMA)];
        assert_eq!(stream.events(), expected);
        assert!(stream.frames()[8..].iter().all(Vec::is_empty));
        stream.push(&face);
        let stream = stream.end();
        assert_eq!(stream.error, None);
        assert_eq!(stream.warnings, [""; 0]);
        assert_eq!(stream.news.len(), 4);
    }
    // This is a GAP event instead of buffers.
    let mut stream = Stream::recognizing();
    for _ in 0..8 {
        stream.push(&face);
    }
    stream.wait();
    let gap = gst::event::Gap::builder(INTERVAL * 8).duration(gst::ClockTime::from_seconds(2));
    assert!(stream.source.send_event(gap.build()));
    stream.count += 50;
    stream.push(&face);
    stream.count = 9;
    stream.wait();
    stream.take_messages();
    let (identified, left) = ((Event::Identified, OBAMA), (Event::Left, OBAMA));
    assert_eq!(stream.events(), [identified, left, identified]);
}

#[test]
fn a_buffer_shorter_than_its_caps_is_passed_with_a_warning() {
    let face = picture("obama2.jpg");
    for elements in [
        "mfrdetect".to_owned(),
        recognize(),
        "mfroverlay show-legend=true".to_owned(),
    ] {
        let mut stream = Stream::new(&elements);
        for frame in 0..20 {
            match frame {
                5 | 6 => stream.push(&face[..face.len() / 2]),
                7 => stream.push(&[]),
                _ => stream.push(&face),
            }
        }
        let stream = stream.end();
        assert_eq!(stream.error, None, "{elements}");
        assert_eq!(stream.frames().len(), 20, "{elements}");
        let is_right = |w: &String| {
            w.contains(&format!("{} bytes", face.len() / 2))
                && w.contains("GRAY8 320×400")
                && w.contains("128000 bytes")
        };
        assert!(
            stream.warnings.iter().all(is_right),
            "{:?}",
            stream.warnings
        );
        assert!(!stream.warnings.is_empty(), "{elements}");
    }
}

#[test]
fn a_buffer_shorter_than_its_video_meta_is_passed_with_a_warning() {
    let face = picture("obama2.jpg");
    for elements in ["mfrdetect", "mfroverlay show-legend=true"] {
        let mut stream = Stream::new(elements);
        for frame in 0..8 {
            let mut buffer = stream.buffer(&face);
            let frame_buffer = buffer.get_mut().unwrap();
            let format = gst_video::VideoFormat::Gray8;
            let flags = gst_video::VideoFrameFlags::empty();
            let height = if frame == 6 { HEIGHT / 2 } else { HEIGHT };
            gst_video::VideoMeta::add(frame_buffer, flags, format, WIDTH, height).unwrap();
            match frame {
                // All but the first row, and all but a byte of the last one.
                4 => frame_buffer.set_size(WIDTH as usize),
                5 => frame_buffer.set_size(face.len() - 1),
                _ => {}
            }
            let _ = stream.source.push_buffer(buffer);
        }
        let stream = stream.end();
        assert_eq!(stream.error, None, "{elements}");
        assert_eq!(stream.frames().len(), 8, "{elements}");
        let warning =
            "plane 0 of a buffer has 320 bytes; 320×400 pixels in rows of 320 bytes take 128000";
        assert!(
            stream.warnings.iter().any(|w| w.contains(warning)),
            "{:?}",
            stream.warnings
        );
    }
}

#[test]
fn a_gap_without_an_end_ends_no_stream() {
    let mut stream = Stream::new("mfrdetect ! mfroverlay");
    let face = picture("obama2.jpg");
    stream.push(&face);
    stream.wait();
    let gap = gst::event::Gap::builder(gst::ClockTime::from_seconds(1));
    let gap = gap.duration(gst::ClockTime::MAX).build();
    let pad = stream.source.static_pad("src").unwrap();
    assert!(pad.push_event(gap));
    stream.push(&face);
    let stream = stream.end();
    assert_eq!((stream.error.as_deref(), stream.frames().len()), (None, 2));
}

#[test]
fn short_buffers_alone_are_an_error_after_ten_seconds() {
    let mut stream = Stream::new("mfrdetect");
    for _ in 0..300 {
        stream.push(&[0; 100]);
    }
    let stream = stream.end();
    assert!(stream.error.as_ref().unwrap().contains("100 bytes"));
    assert_eq!(stream.frames().len(), 250);
}

#[test]
fn corrupted_frames_invent_nobody() {
    let (face, other) = (picture("obama2.jpg"), picture("biden.jpg"));
    let mut stream = Stream::recognizing();
    for frame in 0..40 {
        match frame % 8 {
            5.. if frame > 8 => stream.push_flagged(&other, gst::BufferFlags::CORRUPTED),
            _ => stream.push(&face),
        }
    }
    let stream = stream.end();
    assert_eq!(stream.ids().len(), 1);
    assert_eq!(stream.names(), [OBAMA]);
}

#[test]
fn nobody_leaves_when_the_stream_goes_on_in_another_size() {
    let face = image::GrayImage::from_raw(WIDTH, HEIGHT, picture("obama2.jpg")).unwrap();
    let mut stream = Stream::recognizing();
    for (width, height) in [(WIDTH, HEIGHT), (512, 640), (160, 200), (320, 320)] {
        stream.wait();
        stream.source.set_caps(Some(&caps(width, height)));
        let filter = image::imageops::FilterType::Triangle;
        let pixels = image::imageops::resize(&face, width, height, filter).into_raw();
        for _ in 0..10 {
            stream.push(&pixels);
        }
    }
    let stream = stream.end();
    assert_eq!(stream.ids().len(), 1);
    let expected = [(Event::Identified, OBAMA), (Event::Left, OBAMA)];
    assert_eq!(stream.events(), expected);
}

#[test]
fn everybody_leaves_when_the_pipeline_stops() {
    let face = picture("obama2.jpg");
    let mut stream = Stream::recognizing();
    for _ in 0..5 {
        stream.push(&face);
    }
    stream.wait();
    stream.pipeline.set_state(gst::State::Ready).unwrap();
    stream.take_messages();
    let expected = [(Event::Identified, OBAMA), (Event::Left, OBAMA)];
    assert_eq!(stream.events(), expected);
}

#[test]
fn everybody_leaves_when_a_live_stream_freezes() {
    let face = picture("obama2.jpg");
    let mut stream = Stream::with_source("is-live=true", &recognize());
    for _ in 0..5 {
        stream.push(&face);
    }
    let end = Instant::now() + Duration::from_secs(60);
    while stream.news.len() < 2 {
        assert!(Instant::now() < end, "nobody has left");
        std::thread::sleep(Duration::from_millis(50));
        stream.take_messages();
    }
    let expected = [(Event::Identified, OBAMA), (Event::Left, OBAMA)];
    assert_eq!(stream.events(), expected);
}

/// A buffer with bottom-up rows and a VideoMeta that states so.
fn bottom_up(pixels: &[u8]) -> gst::Buffer {
    let rows = pixels.chunks_exact(WIDTH as usize).rev();
    let flipped: Vec<u8> = rows.flatten().copied().collect();
    let mut buffer = gst::Buffer::from_mut_slice(flipped);
    gst_video::VideoMeta::add_full(
        buffer.get_mut().unwrap(),
        gst_video::VideoFrameFlags::empty(),
        gst_video::VideoFormat::Gray8,
        WIDTH,
        HEIGHT,
        &[((HEIGHT - 1) * WIDTH) as usize],
        &[-(WIDTH as i32)],
    )
    .unwrap();
    buffer
}

#[test]
fn rows_from_the_bottom_to_the_top_give_the_same_faces() {
    let face = picture("obama2.jpg");
    let mut stream = Stream::new(&format!("{} ! mfroverlay", recognize()));
    stream.push(&face);
    let mut buffer = bottom_up(&face);
    buffer.get_mut().unwrap().set_pts(INTERVAL);
    stream.count = 2;
    stream.source.push_buffer(buffer).unwrap();
    let stream = stream.end();
    assert_eq!((stream.error.as_ref(), stream.warnings.len()), (None, 0));
    let frames = stream.frames();
    assert!(frames[0][0].rect.iou(&frames[1][0].rect) > 0.95);
    assert_eq!(stream.names(), [OBAMA]);
}

#[test]
fn a_property_that_cannot_take_effect_is_refused_with_a_warning() {
    let face = picture("obama2.jpg");
    let mut stream = Stream::recognizing();
    stream.push(&face);
    stream.wait();
    let element = stream.pipeline.by_name("r").unwrap();
    element.set_property("batch-size", 16u32);
    assert_eq!(element.property::<u32>("batch-size"), 8);
    stream.take_messages();
    let [warning] = &stream.warnings[..] else {
        panic!("{:?}", stream.warnings)
    };
    assert!(warning.contains("batch-size"), "{warning}");
}

#[test]
fn settings_that_let_everything_pass_are_reported_once_and_the_face_is_found() {
    let face = picture("obama2.jpg");
    let mut stream = Stream::new(
        "mfrdetect inference-interval=1 tracking=false min-face-size=12 scale-factor=0.95 \
         pnet-threshold=0 rnet-threshold=0 onet-threshold=0",
    );
    stream.push(&face);
    stream.push(&face);
    let stream = stream.end();
    let [warning] = &stream.warnings[..] else {
        panic!("{:?}", stream.warnings)
    };
    assert!(warning.contains("min-face-size"), "{warning}");
    // Of all candidates the most confident ones must be processed.
    let frames = stream.frames();
    let surest = |frame: &Vec<Face>| {
        let confidences = frame.iter().filter_map(|face| face.confidence);
        confidences.fold(0.0, f64::max)
    };
    assert!(frames.len() == 2 && frames.iter().all(|f| surest(f) > 0.99));
}

#[test]
fn another_gallery_replaces_the_one_in_use_and_one_that_cannot_be_used_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let [other, bad] = ["other.npz", "bad.npz"].map(|name| folder.path().join(name));
    std::fs::copy(gallery(), &other).unwrap();
    std::fs::write(&bad, "no gallery").unwrap();
    let face = picture("obama2.jpg");
    let mut stream = Stream::recognizing();
    stream.push(&face);
    stream.wait();
    let element = stream.pipeline.by_name("r").unwrap();
    let until = |stream: &mut Stream, states: usize| {
        let end = Instant::now() + Duration::from_secs(60);
        while stream.galleries.len() < states {
            assert!(Instant::now() < end, "{:?}", stream.galleries);
            stream.push(&face);
            stream.wait();
            stream.take_messages();
        }
    };
    for (path, state) in [
        ("/no/such.npz".to_owned(), "unreachable"),
        (bad.display().to_string(), "refused"),
    ] {
        element.set_property("database", &path);
        let before = stream.galleries.len().max(1);
        until(&mut stream, before + 1);
        assert_eq!(stream.galleries.last().unwrap(), state);
        assert!(stream.warnings.pop().unwrap().contains(&path));
        assert_eq!(
            element.property::<String>("database"),
            gallery().display().to_string()
        );
    }
    let path = other.display().to_string();
    element.set_property("database", &path);
    until(&mut stream, 4);
    assert_eq!(
        stream.galleries,
        ["loaded", "unreachable", "refused", "loaded"]
    );
    assert_eq!(element.property::<String>("database"), path);
    let stream = stream.end();
    let frames = stream.frames();
    let face = frames.last().unwrap().first().unwrap();
    assert_eq!(face.identity.as_ref().unwrap().gallery, "other.npz");
}

#[test]
fn regions_in_fractions_are_an_error_and_those_outside_the_frame_a_warning() {
    let mut stream = Stream::new("mfrdetect name=d inference-region=1000,1000,50,50");
    stream.push(&picture("obama2.jpg"));
    stream.wait();
    let element = stream.pipeline.by_name("d").unwrap();
    element.set_property("inference-region", "0.1,0.1,0.5,0.5");
    let stream = stream.end();
    let [outside, fractions] = &stream.warnings[..] else {
        panic!("{:?}", stream.warnings)
    };
    assert!(
        outside.contains("1000,1000,50,50") && outside.contains("320×400"),
        "{outside}"
    );
    assert!(fractions.contains("whole number of pixels"), "{fractions}");
}
