//! Runs mask_change on a clip of a demo photo.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use gst::prelude::*;
use gstmfr::detect::Params;
use gstmfr::frame::image::ImageView;
use gstmfr::nn::SessionOptions;
use gstmfr::pipeline::Pipeline;

/// Frames of the clip, 25 a second.
const FRAMES: u32 = 30;

/// A clip that shows a demo photo; the face in it is about 150 pixels wide.
fn film(folder: &Path) -> PathBuf {
    let photos = match std::env::var_os("MFR_DEMO_PHOTOS") {
        Some(photos) => PathBuf::from(photos),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/demo/photos"),
    };
    let photo = photos.join("obama2.jpg");
    assert!(photo.is_file(), "{}: run `make photos`", photo.display());
    let clip = folder.join("the clip.mp4");
    run_pipeline(
        &format!(
            "filesrc name=from ! jpegdec ! videoconvert ! videoscale \
             ! video/x-raw,format=I420,width=334,height=640,pixel-aspect-ratio=1/1 \
             ! imagefreeze num-buffers={FRAMES} ! video/x-raw,framerate=25/1 \
             ! x264enc speed-preset=ultrafast ! mp4mux ! filesink name=to"
        ),
        &[("from", &photo), ("to", &clip)],
    );
    clip
}

/// Runs a pipeline to its end; `locations` are set on the elements of these names.
fn run_pipeline(description: &str, locations: &[(&str, &Path)]) {
    gst::init().unwrap();
    let pipeline = gst::parse::launch(description).unwrap();
    let pipeline = pipeline.downcast::<gst::Pipeline>().unwrap();
    for (name, path) in locations {
        let element = pipeline.by_name(name).unwrap();
        element.set_property("location", path.to_str().unwrap());
    }
    pipeline.set_state(gst::State::Playing).unwrap();
    let end = [gst::MessageType::Eos, gst::MessageType::Error];
    let timeout = gst::ClockTime::from_seconds(60);
    let message = pipeline.bus().unwrap().timed_pop_filtered(timeout, &end);
    pipeline.set_state(gst::State::Null).unwrap();
    let message = message.expect("the pipeline neither ended nor failed");
    if let gst::MessageView::Error(error) = message.view() {
        panic!("{} {:?}", error.error(), error.debug());
    }
}

fn mask_change(arguments: &[&Path]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mask_change"));
    command.args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Whether the largest face of each frame wears a mask; None where there is none.
fn masks(video: &Path) -> Vec<Option<bool>> {
    let folder = tempfile::tempdir().unwrap();
    run_pipeline(
        "filesrc name=from ! decodebin ! videoconvert ! jpegenc quality=95 ! multifilesink name=to",
        &[("from", video), ("to", &folder.path().join("%05d.jpg"))],
    );
    let frames = std::fs::read_dir(folder.path()).unwrap();
    let mut frames: Vec<_> = frames.map(|f| f.unwrap().path()).collect();
    frames.sort();
    let mut pipeline = Pipeline::new(None, &SessionOptions::default()).unwrap();
    let params = Params {
        max_faces: 1,
        ..Params::default()
    };
    let mut worn = |frame| {
        let frame = image::open(frame).unwrap().into_rgb8();
        let (width, height) = (frame.width() as usize, frame.height() as usize);
        let view = ImageView::rgb(frame.as_raw(), width, height).unwrap();
        let (_, found) = pipeline.faces(&view, &params).unwrap();
        found.masks.first().map(|m| m.is_worn())
    };
    frames.into_iter().map(&mut worn).collect()
}

#[test]
fn mask_change_takes_a_mask_off_once_the_hands_have_come() {
    let folder = tempfile::tempdir().unwrap();
    let clip = film(folder.path());
    let out = folder.path().join("taken off.mp4");
    let arguments: [&Path; 4] = [&clip, &out, "--off".as_ref(), "0.36".as_ref()];
    let output = mask_change(&arguments);
    assert!(output.status.success(), "{}", text(&output));
    let masks = masks(&out);
    assert_eq!(masks.len(), FRAMES as usize);
    // The hands come in the 0.35 s before that time and stay for 0.6 s. In the last frame, at 1.16 s,
    // they and the mask are below the chin.
    assert_eq!(masks[0], Some(true), "{masks:?}");
    assert_eq!(masks[FRAMES as usize - 1], Some(false), "{masks:?}");
}

#[test]
fn mask_change_says_what_is_wrong_with_its_arguments_and_files() {
    let folder = tempfile::tempdir().unwrap();
    let clip = film(folder.path());
    let path = |name: &str| folder.path().join(name);
    let (out, text_file, nowhere) = (
        path("never made.mp4"),
        path("text.mp4"),
        path("nowhere.mp4"),
    );
    std::fs::write(&text_file, "no video").unwrap();
    for (input, times, status, message) in [
        (&clip, ["--on", "1", "--on", "3"], 2, "take turns"),
        (&clip, ["--on", "1", "--off", "2"], 2, "apart"),
        (
            &clip,
            ["--on", "1", "--off", "soon"],
            2,
            "--off needs a time",
        ),
        (&clip, ["--on", "1", "--mask", "iron"], 2, "\"iron\""),
        (&nowhere, ["--on", "1", "--off", "3"], 1, "nowhere.mp4"),
        // No video.
        (&text_file, ["--on", "1", "--off", "3"], 1, "mask_change: "),
    ] {
        let mut arguments: Vec<&Path> = vec![input, &out];
        arguments.extend(times.map(Path::new));
        let output = mask_change(&arguments);
        assert_eq!(output.status.code(), Some(status), "{}", text(&output));
        assert!(text(&output).contains(message), "{}", text(&output));
    }
}
