//! How fast detection, embedding and the whole pipeline are, on the machine this runs on.
//!
//! ```sh
//! cargo bench --bench speed                             # on the demo's photo and clip
//! MFR_BENCH_CLIP=clip.mp4 MFR_BENCH_DATABASE=g.npz cargo bench --bench speed
//! ```
//!
//! Every figure is the median over runs, after a warm-up. The pipeline's is frames of the clip
//! divided by the time from its first frame to its end, decoding and drawing included, loading not.

mod shared;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gst::prelude::*;
use gstmfr::attribute::MaskNet;
use gstmfr::detect::{Detector, Params};
use gstmfr::embed::{Embedder, crop_rgb8};
use gstmfr::geometry::Rect;
use gstmfr::image::ImageView;
use gstmfr::runtime::SessionOptions;
use shared::{cpu, median, path, tree};

const RUNS: usize = 41;
const PIPELINE_RUNS: usize = 5;
/// Frames a second of the original scripts on the same kind of machine, 640×640.
const ORIGINAL_RECIPE: f64 = 6.0;

/// Median milliseconds of a call.
fn time(mut work: impl FnMut()) -> f64 {
    for _ in 0..3 {
        work();
    }
    let runs = (0..RUNS).map(|_| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64() * 1e3
    });
    median(runs.collect())
}

fn networks() {
    let photo = image::open(tree("target/demo/photos/obama2.jpg")).expect("make photos first");
    let photo = photo.resize_exact(640, 640, image::imageops::FilterType::Triangle);
    let photo = photo.to_rgb8();
    let view = ImageView::rgb(&photo, 640, 640).unwrap();
    let crop = crop_rgb8(&view, Rect::new(200.0, 120.0, 280.0, 230.0));
    let mut masks = MaskNet::default();
    let ms = time(|| {
        masks.see_rgb8(&crop);
    });
    println!("mask or none: {ms:.2} ms a face");
    for threads in [1, 2] {
        let options = SessionOptions {
            threads,
            ..Default::default()
        };
        let mut detector = Detector::built_in(&options).unwrap();
        for min_face_size in [20, 40, 80] {
            let params = Params {
                min_face_size,
                ..Params::default()
            };
            let ms = time(|| {
                detector.detect(&view, &params).unwrap();
            });
            println!(
                "detect 640×640, min-face-size {min_face_size}, threads {threads}: {ms:.2} ms"
            );
        }
        let model = tree("models/facenet.onnx");
        let mut embedder = Embedder::from_file(&model, &options, 8).unwrap();
        for faces in [1, 8] {
            let rects = vec![Rect::new(200.0, 120.0, 280.0, 230.0); faces];
            let ms = time(|| {
                embedder.embed(&view, &rects).unwrap();
            });
            let each = ms / faces as f64;
            println!("embed {faces} faces, threads {threads}: {each:.2} ms a face");
        }
    }
}

/// Frames a second of a pipeline between decoder and sink.
fn frames_per_second(clip: &Path, elements: &str) -> f64 {
    let pipeline = gst::parse::launch(&format!(
        "filesrc location=\"{}\" ! decodebin ! {elements} ! fakesink name=sink sync=false",
        clip.display()
    ))
    .unwrap()
    .downcast::<gst::Pipeline>()
    .unwrap();
    let seen: Arc<Mutex<(usize, Option<Instant>, Duration)>> = Arc::default();
    let counter = Arc::clone(&seen);
    let pad = pipeline
        .by_name("sink")
        .unwrap()
        .static_pad("sink")
        .unwrap();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        let (frames, first, last) = &mut *counter.lock().unwrap();
        let start = *first.get_or_insert_with(Instant::now);
        *frames += 1;
        *last = start.elapsed();
        gst::PadProbeReturn::Ok
    });
    pipeline.set_state(gst::State::Playing).unwrap();
    let bus = pipeline.bus().unwrap();
    for message in bus.iter_timed(gst::ClockTime::NONE) {
        match message.view() {
            gst::MessageView::Eos(_) => break,
            gst::MessageView::Error(e) => panic!("{}", e.error()),
            _ => {}
        }
    }
    pipeline.set_state(gst::State::Null).unwrap();
    let (frames, _, last) = &*seen.lock().unwrap();
    (*frames as f64 - 1.0) / last.as_secs_f64()
}

fn pipelines() {
    gst::init().unwrap();
    gstmfr::plugin_register_static().unwrap();
    let clip = path("MFR_BENCH_CLIP", "target/demo/clip.mp4");
    let database = path("MFR_BENCH_DATABASE", "target/demo/gallery.npz");
    if !clip.is_file() || !database.is_file() {
        println!("pipeline: not measured, run `make demo` first");
        return;
    }
    let recognize = format!("mfrrecognize database=\"{}\"", database.display());
    let full = format!("{recognize} reclassify-interval=1");
    for (name, elements) in [
        ("decoder alone", "identity".to_owned()),
        (
            "by default",
            format!("mfrdetect ! {recognize} ! mfroverlay"),
        ),
        (
            "by default, a queue before each",
            format!("queue ! mfrdetect ! queue ! {recognize} ! queue ! mfroverlay"),
        ),
        (
            "mfrdetect in full",
            "mfrdetect inference-interval=1".to_owned(),
        ),
        (
            "every frame in full",
            format!("mfrdetect inference-interval=1 ! {full} ! mfroverlay"),
        ),
        (
            "every frame in full, a queue before each, threads=1",
            format!(
                "queue ! mfrdetect inference-interval=1 threads=1 ! queue ! {full} threads=1 \
                 ! queue ! mfroverlay"
            ),
        ),
    ] {
        let runs = (0..PIPELINE_RUNS).map(|_| frames_per_second(&clip, &elements));
        let rate = median(runs.collect());
        println!(
            "{name}: {rate:.1} frames/s, {:.1} × the original",
            rate / ORIGINAL_RECIPE
        );
    }
}

fn main() {
    // cargo passes --bench; anything else is a filter that this has no use for.
    println!("{}", cpu());
    networks();
    pipelines();
}
