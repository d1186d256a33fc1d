//! The elements in real pipelines, on real photos.

#![cfg(feature = "plugin")]

use std::path::Path;
use std::sync::{Arc, Mutex};

use gst::prelude::*;
use gstmfr::gallery::{Contract, Entry, Gallery, Kind};
use gstmfr::plugin::meta::{self, Face};

mod common;
use common::{gallery, init, masked_photo, photo};

/// Results of a pipeline whose last element is called `sink`.
#[derive(Debug, Default)]
struct Outcome {
    /// The faces of each buffer.
    frames: Vec<Vec<Face>>,
    /// Text of the error that ended the pipeline, including the part in parentheses.
    error: Option<String>,
    warnings: Vec<String>,
    /// Structures of mfrrecognize's element messages.
    messages: Vec<gst::Structure>,
}

/// Runs a pipeline to its end, which must not take more than a minute.
fn run(description: &str) -> Outcome {
    init();
    let pipeline = gst::parse::launch(description)
        .unwrap_or_else(|e| panic!("{description}: {e}"))
        .downcast::<gst::Pipeline>()
        .unwrap();
    run_pipeline(&pipeline)
}

fn run_pipeline(pipeline: &gst::Pipeline) -> Outcome {
    let frames = Arc::new(Mutex::new(Vec::new()));
    if let Some(sink) = pipeline.by_name("sink") {
        let frames = Arc::clone(&frames);
        let pad = sink.static_pad("sink").unwrap();
        pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            let caps = pad.current_caps().unwrap();
            let video = gst_video::VideoInfo::from_caps(&caps).unwrap();
            let buffer = info.buffer().unwrap();
            let faces = meta::faces(buffer, (video.width(), video.height()));
            frames.lock().unwrap().push(faces);
            gst::PadProbeReturn::Ok
        });
    }
    let bus = pipeline.bus().unwrap();
    let mut outcome = Outcome::default();
    let started = pipeline.set_state(gst::State::Playing);
    loop {
        let timeout = if started.is_ok() { 60 } else { 1 };
        let message = bus.timed_pop(gst::ClockTime::from_seconds(timeout));
        let Some(message) = message else {
            assert!(started.is_err(), "the pipeline hangs");
            break;
        };
        match message.view() {
            gst::MessageView::Eos(_) => break,
            gst::MessageView::Error(e) => {
                let debug = e.debug().unwrap_or_default();
                outcome.error = Some(format!("{} ({debug})", e.error()));
                break;
            }
            gst::MessageView::Warning(w) => outcome.warnings.push(w.error().to_string()),
            gst::MessageView::Element(e) => {
                if let Some(s) = e.structure()
                    && s.name() == "mfrrecognize"
                {
                    outcome.messages.push(s.to_owned());
                }
            }
            _ => {}
        }
    }
    pipeline.set_state(gst::State::Null).unwrap();
    outcome.frames = std::mem::take(&mut frames.lock().unwrap());
    outcome
}

/// A photo as a video of one frame in this format.
fn photo_as(name: &str, caps: &str) -> String {
    format!(
        "filesrc location=\"{}\" ! decodebin ! videoconvert ! videoscale ! video/x-raw,{caps}",
        photo(name)
    )
}

fn recognize() -> String {
    format!(
        "mfrdetect ! mfrrecognize name=r database=\"{}\"",
        gallery().display()
    )
}

fn label(face: &Face) -> &str {
    face.identity.as_ref().map_or("", |i| &i.label)
}

const FORMATS: [&str; 17] = [
    "RGB", "BGR", "RGBA", "BGRA", "RGBx", "BGRx", "ARGB", "ABGR", "xRGB", "xBGR", "I420", "YV12",
    "NV12", "NV21", "YUY2", "UYVY", "GRAY8",
];

#[test]
fn every_format_gives_the_faces_and_identities_of_rgb() {
    // An odd width and height have padded rows, and chroma samples for a single pixel.
    let size = "width=411,height=511,pixel-aspect-ratio=1/1";
    let run = |format: &str, saturation: f32| {
        let source = photo_as("obama2.jpg", size);
        let mut outcome = run(&format!(
            "{source} ! videobalance saturation={saturation} ! videoconvert \
             ! video/x-raw,format={format} ! {} ! mfroverlay ! fakesink name=sink",
            recognize()
        ));
        assert_eq!(outcome.error, None, "{format}");
        outcome.frames.remove(0)
    };
    let (colour, grey) = (run("RGB", 1.0), run("RGB", 0.0));
    for rgb in [&colour, &grey] {
        assert_eq!(rgb.len(), 1);
        assert_eq!(label(&rgb[0]), "Barack Obama");
    }
    for format in FORMATS {
        // Without saturation, the RGB image is grey as well.
        let rgb = if format == "GRAY8" { &grey } else { &colour };
        let faces = run(format, 1.0);
        assert_eq!(faces.len(), 1, "{format}");
        let iou = faces[0].rect.iou(&rgb[0].rect);
        assert!(iou > 0.9, "{format}: {iou}");
        assert_eq!(label(&faces[0]), "Barack Obama", "{format}");
        let similarity = |f: &Face| f.identity.as_ref().unwrap().similarity;
        let difference = (similarity(&faces[0]) - similarity(&rgb[0])).abs();
        assert!(difference < 0.05, "{format}: {difference}");
    }
}

#[test]
fn a_photo_that_was_not_enrolled_is_named_and_a_stranger_is_not() {
    let source = photo_as("obama3.jpg", "format=I420");
    let outcome = run(&format!("{source} ! {} ! fakesink name=sink", recognize()));
    assert_eq!(outcome.error, None);
    let named: Vec<_> = outcome.frames[0].iter().map(label).collect();
    assert!(named.contains(&"Barack Obama"), "{named:?}");

    // The gallery does not contain the astronaut, so she must be unknown.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("two.npz");
    let all = Gallery::load(gallery()).unwrap();
    let entries = (0..3)
        .filter(|&i| all.names()[all.labels()[i]] != "Eileen Collins")
        .map(|i| Entry {
            name: all.names()[all.labels()[i]].clone(),
            source: String::new(),
            kind: Kind::Photo,
            embedding: all.embeddings().row(i).to_owned(),
        })
        .collect();
    let two = Gallery::train(entries, all.contract().unwrap().clone()).unwrap();
    two.save(&path).unwrap();
    let source = photo_as("astronaut.png", "format=RGB");
    let outcome = run(&format!(
        "{source} ! mfrdetect ! mfrrecognize database=\"{}\" ! fakesink name=sink",
        path.display()
    ));
    let identity = outcome.frames[0][0].identity.as_ref().unwrap();
    assert_eq!(
        (identity.label.as_str(), identity.label_id),
        ("unknown", -1)
    );
}

#[test]
fn whether_a_mask_is_worn_is_told_with_every_face() {
    let folder = tempfile::tempdir().unwrap();
    let masked = masked_photo("obama2.jpg", folder.path());
    for (photo, label) in [(photo("obama2.jpg"), "without_mask"), (masked, "with_mask")] {
        let mut outcome = run(&format!(
            "filesrc location=\"{photo}\" ! decodebin ! videoconvert ! {} ! fakesink name=sink",
            recognize()
        ));
        assert_eq!(outcome.error, None, "{label}");
        let face = outcome.frames.remove(0).remove(0);
        let mask = face.mask.unwrap();
        assert_eq!(mask.label, label);
        assert!(mask.confidence > 0.9, "{label}: {}", mask.confidence);
        let told = outcome.messages[0].get::<gst::ArrayRef>("faces").unwrap();
        let told = told.as_slice()[0].get::<gst::Structure>().unwrap();
        assert_eq!(told.get("mask"), Ok(label));
        assert_eq!(told.get("mask_confidence"), Ok(mask.confidence));
    }
}

#[test]
fn a_picture_stored_on_its_side_gives_the_same_faces_on_its_side() {
    let upright = photo_as(
        "obama2.jpg",
        "format=I420,width=400,height=600,pixel-aspect-ratio=1/1",
    );
    let expected = run(&format!("{upright} ! {} ! fakesink name=sink", recognize()));
    let expected = &expected.frames[0][0];
    // Like a phone, the pipeline rotates the image and adds a tag with the orientation.
    for (turn, note) in [
        ("90l", "rotate-90"),
        ("180", "rotate-180"),
        ("90r", "rotate-270"),
        ("horiz", "flip-rotate-0"),
    ] {
        let lying = run(&format!(
            "{upright} ! videoflip video-direction={turn} ! taginject tags=\"image-orientation={note}\" \
             ! {} ! mfroverlay ! fakesink name=sink",
            recognize()
        ));
        let face = &lying.frames[0][0];
        assert_eq!(label(face), "Barack Obama", "{note}");
        let (a, b) = (face.rect, expected.rect);
        let back = match note {
            "rotate-90" => (400.0 - a.bottom(), a.x),
            "rotate-180" => (400.0 - a.right(), 600.0 - a.bottom()),
            "rotate-270" => (a.y, 600.0 - a.right()),
            _ => (400.0 - a.right(), a.y),
        };
        // videoflip moves chroma by a fraction of a pixel, which moves the box slightly.
        assert!(
            (back.0 - b.x).abs() < 6.0 && (back.1 - b.y).abs() < 6.0,
            "{note}: {a:?} {b:?}"
        );
        // In the upright image, the left eye is above the mouth, as before.
        let eye = face.landmarks.unwrap().0[0];
        let mouth = face.landmarks.unwrap().0[3];
        let up = match note {
            "rotate-90" => eye.x < mouth.x,
            "rotate-180" => eye.y > mouth.y,
            "rotate-270" => eye.x > mouth.x,
            _ => eye.y < mouth.y,
        };
        assert!(up, "{note}");
    }
}

#[test]
fn names_survive_a_converter_and_a_scaler_on_the_way_to_the_overlay() {
    let source = photo_as(
        "obama2.jpg",
        "format=I420,width=400,height=600,pixel-aspect-ratio=1/1",
    );
    let outcome = run(&format!(
        "{source} ! {} ! videoconvert ! videoscale ! video/x-raw,format=RGB,width=200,height=300 \
         ! mfroverlay ! fakesink name=sink",
        recognize()
    ));
    assert_eq!(outcome.error, None);
    let face = &outcome.frames[0][0];
    assert_eq!(label(face), "Barack Obama");
    assert!(face.rect.right() <= 200.0 && face.landmarks.is_some());
}

#[test]
fn frames_of_any_size_pass_through_also_when_it_changes() {
    let source = |w: u32, h: u32, format: &str| {
        format!(
            "videotestsrc num-buffers=2 ! video/x-raw,format={format},width={w},height={h} ! c. "
        )
    };
    let outcome = run(&format!(
        "concat name=c ! {} ! mfroverlay ! fakesink name=sink {}{}{}{}{}",
        recognize(),
        source(1, 1, "RGB"),
        source(39, 500, "I420"),
        source(640, 360, "NV12"),
        source(1, 1, "YUY2"),
        source(3, 2000, "GRAY8"),
    ));
    assert_eq!(outcome.error, None);
    assert_eq!(outcome.frames.len(), 10);
}

/// Two hundred faces of 64 pixels or more, side by side.
fn crowd() -> (tempfile::TempDir, String) {
    let photo = image::open(photo("astronaut.png")).unwrap().to_rgb8();
    let face = image::imageops::crop_imm(&photo, 130, 20, 190, 190).to_image();
    let tile = image::imageops::resize(&face, 96, 96, image::imageops::FilterType::Triangle);
    let mut crowd = image::RgbImage::new(96 * 20, 96 * 10);
    for i in 0..200 {
        image::imageops::replace(&mut crowd, &tile, i % 20 * 96, i / 20 * 96);
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("crowd.png");
    crowd.save(&path).unwrap();
    (folder, path.display().to_string())
}

#[test]
fn two_hundred_faces_are_found_and_one_of_them_is_the_person() {
    let (_folder, path) = crowd();
    let outcome = run(&format!(
        "filesrc location=\"{path}\" ! decodebin ! videoconvert ! {} ! mfroverlay \
         ! fakesink name=sink",
        recognize()
    ));
    assert_eq!(outcome.error, None);
    let faces = &outcome.frames[0];
    assert!(faces.len() >= 190, "{}", faces.len());
    // A person can be at most once in an image.
    let named = faces
        .iter()
        .filter(|f| label(f) == "Eileen Collins")
        .count();
    assert_eq!(named, 1);
    let mut ids: Vec<_> = faces.iter().map(|f| f.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), faces.len());
    assert!(ids[0] > 0);
}

#[test]
fn a_stream_without_face_metadata_is_reported_once_by_each_element_that_needs_it() {
    let stream = |detect: &str| {
        let source = "videotestsrc num-buffers=200 ! video/x-raw,width=64,height=64,framerate=25/1";
        let database = gallery().display();
        run(&format!(
            "{source} {detect} ! mfrrecognize database={database} ! mfroverlay ! fakesink"
        ))
        .warnings
    };
    let without = stream("");
    assert_eq!(without.len(), 2, "{without:?}");
    for warning in without {
        assert!(warning.starts_with("no face metadata so far"), "{warning}");
    }
    // No frame of this stream shows a face, but each has been searched.
    assert_eq!(stream("! mfrdetect"), [] as [&str; 0]);
}

#[test]
fn only_the_largest_faces_and_only_those_in_the_region_on_request() {
    let (_folder, path) = crowd();
    let run = |properties: &str| {
        let outcome = run(&format!(
            "filesrc location=\"{path}\" ! decodebin ! videoconvert ! mfrdetect {properties} \
             ! fakesink name=sink"
        ));
        assert_eq!(outcome.error, None);
        outcome.frames.into_iter().next().unwrap()
    };
    assert_eq!(run("max-faces=7").len(), 7);
    let faces = run("inference-region=\"0,0,192,192;96,0,192,192\"");
    // There are three by two faces, and overlapping detections are merged.
    assert_eq!(faces.len(), 6);
    assert!(
        faces
            .iter()
            .all(|f| f.rect.right() < 300.0 && f.rect.bottom() < 200.0)
    );
    assert_eq!(run("min-face-size=200").len(), 0);
    assert_eq!(run("onet-threshold=1.0").len(), 0);
}

#[test]
fn buffers_that_a_tee_shares_are_analysed_and_drawn_on_in_one_branch_only() {
    let source = photo_as(
        "obama2.jpg",
        "format=I420,width=400,height=600,pixel-aspect-ratio=1/1",
    );
    let outcome = run(&format!(
        "{source} ! tee name=t t. ! queue ! {} ! mfroverlay ! fakesink name=sink \
         t. ! queue ! mfrdetect ! fakesink",
        recognize()
    ));
    assert_eq!(outcome.error, None);
    assert_eq!(label(&outcome.frames[0][0]), "Barack Obama");
}

fn event(structure: &gst::StructureRef) -> Option<(String, String)> {
    let faces = structure.get::<gst::ArrayRef>("faces").unwrap();
    let face = faces.as_slice().first()?.get::<gst::Structure>().unwrap();
    Some((
        face.get("event").unwrap_or_default(),
        face.get("label").unwrap(),
    ))
}

#[test]
fn messages_tell_of_changes_of_every_frame_or_of_nothing() {
    let description = |post: &str| {
        format!(
            "filesrc location=\"{}\" ! decodebin ! videoconvert ! videoscale \
             ! video/x-raw,width=300,height=400 ! imagefreeze num-buffers=5 \
             ! {} post-messages={post} ! fakesink",
            photo("obama2.jpg"),
            recognize()
        )
    };
    let events = |post: &str| -> Vec<_> {
        let messages = run(&description(post)).messages;
        for message in &messages {
            assert!(message.get::<gst::ClockTime>("timestamp").is_ok());
            assert!(message.get::<gst::ClockTime>("stream-time").is_ok());
            assert!(message.get::<gst::ClockTime>("running-time").is_ok());
        }
        messages.iter().filter_map(|m| event(m)).collect()
    };
    let obama = |event: &str| (event.to_owned(), "Barack Obama".to_owned());
    assert_eq!(events("changes"), [obama("identified"), obama("left")]);
    assert_eq!(events("all"), vec![obama(""); 5]);
    assert_eq!(events("none"), []);
}

/// Shows a photo of Barack Obama repeatedly; after ten frames, changes the gallery at `path` and
/// emits the signal to reload it.
fn run_and_reload(path: &Path, frames: u32, change: impl Fn() + Send + Sync + 'static) -> Outcome {
    init();
    let pipeline = gst::parse::launch(&format!(
        "filesrc location=\"{}\" ! decodebin ! videoconvert ! videoscale \
         ! video/x-raw,width=300,height=400 ! imagefreeze num-buffers={frames} \
         ! mfrdetect ! mfrrecognize name=r database=\"{}\" ! fakesink name=sink",
        photo("obama2.jpg"),
        path.display()
    ))
    .unwrap()
    .downcast::<gst::Pipeline>()
    .unwrap();
    let pad = pipeline.by_name("r").unwrap().static_pad("sink").unwrap();
    let seen = Mutex::new(0);
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, _| {
        let mut seen = seen.lock().unwrap();
        *seen += 1;
        if *seen == 10 {
            change();
            let element = pad.parent_element().unwrap();
            element.emit_by_name::<()>("reload", &[]);
        }
        gst::PadProbeReturn::Ok
    });
    run_pipeline(&pipeline)
}

#[test]
fn a_gallery_that_is_replaced_is_read_anew_on_request() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("g.npz");
    let all = Gallery::load(gallery()).unwrap();
    let only = |name: &str| {
        let i = (0..3)
            .find(|&i| all.names()[all.labels()[i]] == name)
            .unwrap();
        let entry = Entry {
            name: name.into(),
            source: String::new(),
            kind: Kind::Photo,
            embedding: all.embeddings().row(i).to_owned(),
        };
        Gallery::train(vec![entry], all.contract().unwrap().clone()).unwrap()
    };
    only("Joe Biden").save(&path).unwrap();
    let (new, replaced) = (only("Barack Obama"), path.clone());
    let outcome = run_and_reload(&path, 150, move || new.save(&replaced).unwrap());
    assert_eq!(outcome.error, None);
    assert_eq!(label(&outcome.frames[0][0]), "unknown");
    assert_eq!(label(&outcome.frames.last().unwrap()[0]), "Barack Obama");
}

#[test]
fn a_gallery_that_is_damaged_while_running_is_a_warning_and_the_old_one_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("g.npz");
    std::fs::copy(gallery(), &path).unwrap();
    let damaged = path.clone();
    let outcome = run_and_reload(&path, 100, move || {
        std::fs::write(&damaged, "no gallery").unwrap();
    });
    assert_eq!(outcome.error, None);
    assert_eq!(outcome.warnings.len(), 1);
    assert!(
        outcome.warnings[0].contains("g.npz"),
        "{:?}",
        outcome.warnings
    );
    assert_eq!(label(&outcome.frames.last().unwrap()[0]), "Barack Obama");
}

#[test]
fn embeddings_leave_the_element_only_when_asked() {
    for (property, expected) in [("", 0), ("attach-embedding=true", 512)] {
        init();
        let source = photo_as(
            "obama2.jpg",
            "format=RGB,width=300,height=400,pixel-aspect-ratio=1/1",
        );
        let pipeline = gst::parse::launch(&format!(
            "{source} ! {} {property} ! fakesink name=sink",
            recognize()
        ))
        .unwrap()
        .downcast::<gst::Pipeline>()
        .unwrap();
        let found = Arc::new(Mutex::new(None));
        let pad = pipeline
            .by_name("sink")
            .unwrap()
            .static_pad("sink")
            .unwrap();
        let sent = Arc::clone(&found);
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let roi = info
                .buffer()
                .unwrap()
                .meta::<gst_video::VideoRegionOfInterestMeta>()
                .unwrap();
            let length = roi.param("embedding").map_or(0, |s| {
                s.get::<gst::ArrayRef>("data").unwrap().as_slice().len()
            });
            *sent.lock().unwrap() = Some(length);
            gst::PadProbeReturn::Ok
        });
        run_pipeline(&pipeline);
        assert_eq!(*found.lock().unwrap(), Some(expected));
    }
}

#[test]
fn elements_that_share_a_model_work_side_by_side() {
    let source = photo_as(
        "obama2.jpg",
        "format=I420,width=300,height=400,pixel-aspect-ratio=1/1",
    );
    let branch = format!(
        "mfrdetect model-instance-id=d ! mfrrecognize model-instance-id=f database=\"{}\"",
        gallery().display()
    );
    let outcome = run(&format!(
        "{source} ! tee name=t t. ! queue ! {branch} ! fakesink name=sink t. ! queue ! {branch} \
         ! fakesink"
    ));
    assert_eq!(outcome.error, None);
    assert_eq!(label(&outcome.frames[0][0]), "Barack Obama");
}

/// Runs one element on a test image and returns the error.
fn error_of(element: &str) -> String {
    let outcome = run(&format!(
        "videotestsrc num-buffers=1 ! video/x-raw,format=RGB,width=64,height=64 ! {element} ! fakesink"
    ));
    outcome
        .error
        .unwrap_or_else(|| panic!("no error from {element}"))
}

#[test]
fn galleries_that_cannot_be_used_are_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        format!("mfrrecognize database=\"{}\"", path.display())
    };
    let good = std::fs::read(gallery()).unwrap();
    for (element, name, reason) in [
        ("mfrrecognize".to_owned(), "", "database is not set"),
        (
            "mfrrecognize database=/no/such.npz".to_owned(),
            "/no/such.npz",
            "No such file",
        ),
        (file("empty.npz", &[]), "empty.npz", "an empty file"),
        (
            file("random.npz", &[0x5a; 3000]),
            "random.npz",
            "no zip archive",
        ),
        (
            file("cut.npz", &good[..good.len() / 2]),
            "cut.npz",
            "no zip archive",
        ),
        (
            format!("mfrrecognize database=\"{}\"", folder.path().display()),
            "",
            "expected a regular file, found a folder",
        ),
    ] {
        let error = error_of(&element);
        assert!(
            error.contains(name) && error.contains(reason),
            "{element}: {error}"
        );
    }
}

#[test]
fn galleries_of_another_model_or_size_are_errors() {
    let all = Gallery::load(gallery()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let save = |name: &str, dim: usize, sha256: &str| {
        let entry = Entry {
            name: "Ana".into(),
            source: String::new(),
            kind: Kind::Photo,
            embedding: ndarray::Array1::ones(dim),
        };
        let contract = Contract {
            model_sha256: sha256.into(),
            embedding_dim: dim,
            ..all.contract().unwrap().clone()
        };
        let path = folder.path().join(name);
        Gallery::train(vec![entry], contract)
            .unwrap()
            .save(&path)
            .unwrap();
        format!("mfrrecognize database=\"{}\"", path.display())
    };
    let own = &all.contract().unwrap().model_sha256;
    let error = error_of(&save("small.npz", 128, own));
    assert!(
        error.contains("small.npz") && error.contains("128"),
        "{error}"
    );
    let error = error_of(&save("other.npz", 512, &"0".repeat(64)));
    assert!(
        error.contains("other.npz") && error.contains("000000000000"),
        "{error}"
    );
}

#[test]
fn models_that_cannot_be_used_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let models = common::models();
    let whole = std::fs::read(models.join("facenet.onnx")).unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let another = models.join("onet.onnx").display().to_string();
    let fixed = common::flatten_network(&[1, 160, 160, 3]);
    for (model, reason) in [
        ("/no/such.onnx".to_owned(), "No such file"),
        (write("cut.onnx", &whole[..1_000_000]), "ONNX file"),
        (write("empty.onnx", &[]), "ONNX file"),
        (another, "is not FaceNet"),
        (write("fixed.onnx", &fixed), "is not FaceNet"),
    ] {
        let element = format!(
            "mfrrecognize database=\"{}\" model=\"{model}\"",
            gallery().display()
        );
        let error = error_of(&element);
        assert!(
            error.contains(&model) && error.contains(reason),
            "{model}: {error}"
        );
    }
    // Detectors: a folder without files, and one whose networks are mixed up.
    let error = error_of("mfrdetect model-path=/no/such/folder");
    assert!(error.contains("/no/such/folder/pnet.onnx"), "{error}");
    let mixed = tempfile::tempdir().unwrap();
    for (from, to) in [("rnet", "pnet"), ("pnet", "rnet"), ("onet", "onet")] {
        let from = models.join(format!("{from}.onnx"));
        std::fs::copy(from, mixed.path().join(format!("{to}.onnx"))).unwrap();
    }
    let error = error_of(&format!(
        "mfrdetect model-path=\"{}\"",
        mixed.path().display()
    ));
    assert!(error.contains("is not MTCNN's P-Net"), "{error}");
}

#[test]
fn wrong_settings_are_errors_before_the_first_frame() {
    let error = error_of("mfrdetect inference-region=1,2,3");
    assert!(error.contains("x,y,w,h"), "{error}");
    let error = error_of("mfrdetect device=gpu");
    assert!(
        error.contains("\"gpu\"") && error.contains("cpu, cuda"),
        "{error}"
    );
    // A build without CUDA reports that, and a build with CUDA the missing GPU.
    let error = error_of("mfrdetect device=cuda:7");
    assert!(error.contains("cuda:7"), "{error}");
}

#[test]
fn properties_have_the_names_ranges_and_defaults_that_are_promised() {
    init();
    let expected = [
        ("mfrdetect", "min-face-size", "40"),
        ("mfrdetect", "pnet-threshold", "0.6"),
        ("mfrdetect", "rnet-threshold", "0.7"),
        ("mfrdetect", "onet-threshold", "0.7"),
        ("mfrdetect", "scale-factor", "0.709"),
        ("mfrdetect", "max-faces", "0"),
        ("mfrdetect", "inference-interval", "0"),
        ("mfrdetect", "tracking", "true"),
        ("mfrdetect", "inference-region", "\"\""),
        ("mfrdetect", "model-path", "NULL"),
        ("mfrdetect", "device", "cpu"),
        ("mfrdetect", "threads", "0"),
        ("mfrdetect", "model-instance-id", "NULL"),
        ("mfrrecognize", "database", "NULL"),
        ("mfrrecognize", "model", "NULL"),
        ("mfrrecognize", "threshold", "-1"),
        ("mfrrecognize", "reclassify-interval", "-1"),
        ("mfrrecognize", "batch-size", "8"),
        ("mfrrecognize", "device", "cpu"),
        ("mfrrecognize", "threads", "0"),
        ("mfrrecognize", "model-instance-id", "NULL"),
        ("mfrrecognize", "post-messages", "changes"),
        ("mfrrecognize", "attach-embedding", "false"),
        ("mfroverlay", "show-identity", "true"),
        ("mfroverlay", "show-mask", "true"),
        ("mfroverlay", "show-landmarks", "true"),
        ("mfroverlay", "show-legend", "false"),
        ("mfroverlay", "line-width", "0"),
        ("mfroverlay", "font-size", "0"),
    ];
    for (factory, property, default) in expected {
        let element = gst::ElementFactory::make(factory).build().unwrap();
        let pspec = element
            .find_property(property)
            .unwrap_or_else(|| panic!("{factory} has no {property}"));
        assert!(pspec.blurb().is_some_and(|b| b.len() > 20), "{property}");
        for value in [&element.property_value(property), pspec.default_value()] {
            let text = match value.get::<f64>() {
                Ok(number) => number.to_string(),
                Err(_) => value.serialize().map_or("NULL".into(), String::from),
            };
            assert_eq!(text, default, "{factory} {property}");
        }
    }
}

/// Pads of an element outside a pipeline, after the initial events of a stream.
fn started(description: &str, caps: &str) -> (gst::Element, gst::Pad, gst::Pad) {
    init();
    let bin = gst::parse::bin_from_description(description, true).unwrap();
    let [sink, src] = ["sink", "src"].map(|name| bin.static_pad(name).unwrap());
    bin.set_state(gst::State::Playing).unwrap();
    let segment = gst::FormattedSegment::<gst::ClockTime>::new();
    for event in [
        gst::event::StreamStart::new("test"),
        gst::event::Caps::new(&caps.parse().unwrap()),
        gst::event::Segment::new(&segment),
    ] {
        assert!(sink.send_event(event));
    }
    (bin.upcast(), sink, src)
}

#[test]
fn events_queries_and_properties_are_answered_while_a_frame_is_worked_on() {
    // Noise in which P-Net finds faces of 12 pixels everywhere takes a single thread seconds.
    let (width, height) = (640, 360);
    let (bin, sink, src) = started(
        "mfrdetect name=detect threads=1 min-face-size=12 pnet-threshold=0.05 rnet-threshold=0.01",
        &format!("video/x-raw,format=GRAY8,width={width},height={height},framerate=25/1"),
    );
    let detect = bin
        .downcast_ref::<gst::Bin>()
        .unwrap()
        .by_name("detect")
        .unwrap();
    let mut state = 1u32;
    let noise = (0..width * height).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    let mut buffer = gst::Buffer::from_mut_slice(noise.collect::<Vec<u8>>());
    buffer.make_mut().set_pts(gst::ClockTime::ZERO);
    let begun = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        let frame = scope.spawn(|| {
            begun.wait();
            sink.chain(buffer)
        });
        begun.wait();
        std::thread::sleep(std::time::Duration::from_millis(100));
        let mut latency = gst::query::Latency::new();
        src.query(&mut latency);
        detect.set_property("max-faces", 3u32);
        assert_eq!(detect.property::<u32>("max-faces"), 3);
        assert!(detect.property::<Option<String>>("engine").is_some());
        // The source pad is not linked, so the event fails downstream, but it must return while the frame is
        // processed.
        sink.send_event(gst::event::FlushStart::new());
        assert!(!frame.is_finished(), "the frame was too easy for this test");
        let _ = frame.join().unwrap();
    });
    bin.set_state(gst::State::Null).unwrap();
}
