//! Videos in datasets and among photos; GStreamer makes the clips from the demo photos.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{self, demo_photos};
use crate::helpers::{Folder, build, encoded, identify, json, rejected, run, sources, text};
use gst::prelude::*;
use image::{ImageFormat, Rgb, RgbImage};

/// Runs a pipeline to its end.
fn launch(description: &str) {
    gst::init().unwrap();
    let pipeline = gst::parse::launch(description).unwrap();
    let bus = pipeline.bus().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let end = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = bus.timed_pop_filtered(gst::ClockTime::from_seconds(60), &end);
    let is_end = matches!(
        message.as_deref().map(|m| m.view()),
        Some(gst::MessageView::Eos(_))
    );
    assert!(is_end, "{description}: {message:?}");
    pipeline.set_state(gst::State::Null).unwrap();
}

/// Writes a clip that shows each photo for a second, in ten frames. `each` are elements that process the frames.
fn clip(photos: &[PathBuf], each: &str, muxer: &str, output: &Path) {
    fs::create_dir_all(output.parent().unwrap()).unwrap();
    let shots = photos.iter().map(|photo| {
        format!(
            "filesrc location=\"{}\" ! decodebin ! imagefreeze num-buffers=10 \
             ! videoconvert ! videoscale add-borders=true \
             ! video/x-raw,format=I420,width=640,height=480,framerate=10/1,pixel-aspect-ratio=1/1 \
             ! shots. ",
            photo.display()
        )
    });
    launch(&format!(
        "concat name=shots ! {each} ! jpegenc ! {muxer} name=mux ! filesink location=\"{}\" {} \
         audiotestsrc num-buffers=20 ! audio/x-raw,format=S16LE,rate=8000 ! mux.",
        output.display(),
        shots.collect::<String>(),
    ));
}

fn demo(photos: &[&str]) -> Vec<PathBuf> {
    photos
        .iter()
        .map(|photo| demo_photos().join(photo))
        .collect()
}

#[test]
fn a_video_is_learned_from_like_photos() {
    let folder = Folder::new();
    folder.photo("biden.jpg", "people/Joe Biden/1.jpg");
    let photos = demo(&["obama.jpg", "obama2.jpg"]);
    let video = folder.path("people/Barack Obama/clip.avi");
    clip(&photos, "identity", "avimux", &video);
    let output = folder.path("o.npz");
    let report = json(&build(&folder.path("people"), &output).succeeds());
    assert_eq!(rejected(&report), []);
    // The clip has two seconds with two frames each; the second frame of each shows the same image again.
    let video = &report["videos"][0];
    assert_eq!(video["path"], "Barack Obama/clip.avi");
    assert_eq!((&video["frames"], &video["used"]), (&4.into(), &2.into()));
    assert_eq!(video["rejected"]["duplicate"], 2);
    assert!(video.get("error").is_none());
    // A video counts as one file, however many frames are used.
    assert_eq!(report["people"][0]["photos"], 1);
    assert_eq!(report["people"][0]["used"], 1);
    assert_eq!(report["photos"]["used"], 2);
    // A gallery counts in the same way.
    let gallery = text(&output);
    let listed = json(&run(&["list", "--json", "--database", &gallery]).succeeds());
    assert_eq!(listed["people"][0]["photos"], 1);
    let checked = run(&["check", "--database", &gallery]).succeeds();
    assert!(
        checked.contains("2 people, 2 photos, 12 masked copies"),
        "{checked}"
    );
    let page = text(&folder.path("report.html"));
    run(&["check", "--database", &gallery, "--report", &page]).succeeds();
    let html = fs::read_to_string(&page).unwrap();
    assert!(html.contains("<b>2</b><span>photos used</span>"));
    let mut sources = sources(&output);
    // Each used frame has masked copies as well.
    let copies: Vec<_> = sources.extract_if(.., |s| s.contains("#mask:")).collect();
    assert_eq!(copies.len(), 3 * 4);
    assert_eq!(
        sources,
        [
            "Barack Obama/clip.avi#t=0.00",
            "Barack Obama/clip.avi#t=1.00",
            "Joe Biden/1.jpg"
        ]
    );

    let photo = text(&demo_photos().join("obama3.jpg"));
    let lines = identify(&["--database", &text(&output), &photo]);
    assert_eq!(
        lines[0]["faces"][0]["candidates"][0]["label"],
        "Barack Obama"
    );
}

#[test]
fn a_video_that_was_turned_while_filming_is_upright() {
    let folder = Folder::new();
    let photos = demo(&["obama.jpg"]);
    let file = folder.path("turned.mov");
    clip(&photos, "videoflip video-direction=90l", "qtmux", &file);
    let lying = fs::read(&file).unwrap();
    folder.write("lying/Obama/1.mov", &lying);
    folder.write("turned/Obama/1.mov", &common::turned_by_90(&lying));
    let output = folder.path("o.npz");
    let used = |dataset: &str| {
        let ran = build(&folder.path(dataset), &output);
        (ran.status, ran.stderr)
    };
    let (status, stderr) = used("turned");
    assert_eq!(status, 0, "{stderr}");
    // The detector does not find a face that lies on its side, so the tag makes the difference.
    let (status, stderr) = used("lying");
    assert_eq!(status, 1, "{stderr}");
    assert!(
        stderr.contains("1.mov: no_face (nothing to use in 2 frames: "),
        "{stderr}"
    );
}

#[test]
fn a_video_that_cannot_be_used_is_listed_with_a_reason_and_stops_nothing() {
    let folder = Folder::new();
    let dataset = folder.dataset();
    let whole = folder.path("whole.mov");
    clip(&demo(&["obama3.jpg"]), "identity", "qtmux", &whole);
    let whole = fs::read(&whole).unwrap();
    let write = |name: &str, bytes: &[u8]| folder.write(&format!("people/Zoe/{name}"), bytes);
    // This file has its index at the end, so it is unreadable without it.
    write("a cut.mov", &whole[..whole.len() / 2]);
    write("b empty.mp4", b"");
    write(
        "c text.mp4",
        b"Dear Ana, the film is in the other folder.\n",
    );
    write(
        "d list.mov",
        b"#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
    );
    let noise: Vec<u8> = (0u32..65536)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    write("e noise.webm", &noise);
    let grass = RgbImage::from_pixel(300, 300, Rgb([20, 120, 30]));
    let grass = folder.write("grass.png", &encoded(grass, ImageFormat::Png));
    clip(
        &[grass],
        "identity",
        "matroskamux",
        &folder.path("people/Zoe/f grass.mkv"),
    );
    launch(&format!(
        "audiotestsrc num-buffers=20 ! audio/x-raw,format=S16LE ! matroskamux \
         ! filesink location=\"{}\"",
        folder.path("people/Zoe/g sound.mkv").display()
    ));
    let pipe = folder.path("people/Zoe/h pipe.mp4");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());

    let report = json(&build(&dataset, &folder.path("o.npz")).succeeds());
    assert_eq!(report["photos"]["used"], 4, "{report}");
    assert_eq!(
        rejected(&report),
        [
            ("Zoe/a cut.mov", "unreadable"),
            ("Zoe/b empty.mp4", "unreadable"),
            ("Zoe/c text.mp4", "unreadable"),
            ("Zoe/d list.mov", "unreadable"),
            ("Zoe/e noise.webm", "unreadable"),
            ("Zoe/f grass.mkv", "no_face"),
            ("Zoe/g sound.mkv", "unreadable"),
            ("Zoe/h pipe.mp4", "unreadable"),
        ]
    );
    let detail = |i: usize| report["rejected"][i]["detail"].as_str().unwrap();
    assert_eq!(detail(3), "there is no video in it");
    assert_eq!(detail(5), "nothing to use in 2 frames: 2 no_face");
    assert_eq!(detail(6), "there is no video in it");
    assert_eq!(detail(7), "not a regular file");
}

#[test]
fn what_there_is_of_a_cut_video_is_used() {
    let folder = Folder::new();
    let whole = folder.path("whole.avi");
    clip(
        &demo(&["obama.jpg", "biden.jpg"]),
        "identity",
        "avimux",
        &whole,
    );
    let whole = fs::read(&whole).unwrap();
    folder.write("people/Obama/cut.avi", &whole[..whole.len() / 4]);
    let report = json(&build(&folder.path("people"), &folder.path("o.npz")).succeeds());
    assert_eq!(report["videos"][0]["used"], 1, "{report}");
}

#[test]
fn commands_for_photos_leave_videos_out() {
    let folder = Folder::new();
    let photo = folder.photo("obama.jpg", "photos/a.jpg");
    let video = folder.write("photos/b.mp4", b"never opened");
    let photos = text(&folder.path("photos"));
    let says = ["warning", "b.mp4: it is a video", "left out"];
    let lines = run(&["identify", "--json", &photos]).fails(0, &says);
    assert_eq!(json(&lines)["path"], text(&photo));
    let output = text(&folder.path("o.npz"));
    run(&["embed", "--output", &output, &photos]).fails(0, &says);
    // A video passed explicitly is an error.
    let says = ["b.mp4: it is a video", "mfrdetect and mfrrecognize"];
    run(&["identify", &text(&video)]).fails(1, &says);
}

#[test]
fn people_in_videos_are_discovered_with_the_times_of_their_faces() {
    let folder = Folder::new();
    let video = folder.path("unsorted/clip.avi");
    let photos = demo(&["obama.jpg", "obama2.jpg", "biden.jpg"]);
    clip(&photos, "identity", "avimux", &video);
    let (unsorted, output) = (text(&folder.path("unsorted")), folder.path("people"));
    let args = ["discover", "--json", &unsorted, "--output", &text(&output)];
    let said = run(&args).succeeds();
    let faces: Vec<_> = said.lines().map(json).collect();
    // Two frames of each second, which show one photo.
    let found: Vec<_> = faces
        .iter()
        .map(|face| (face["time"].as_f64().unwrap(), &face["person"]))
        .collect();
    let (first, second) = ("person-001".into(), "person-002".into());
    let expected = [
        (0.0, &first),
        (0.5, &first),
        (1.0, &first),
        (1.5, &first),
        (2.0, &second),
        (2.5, &second),
    ];
    assert_eq!(found, expected);
    // Frames that are alike are written once.
    let crops = |person: &str| {
        let files = fs::read_dir(output.join(person)).unwrap();
        let mut names: Vec<_> = files.map(|file| file.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(crops("person-001").len(), 2);
    assert_eq!(crops("person-002").len(), 1);
    assert!(
        crops("person-002")[0]
            .to_str()
            .unwrap()
            .starts_with("01-clip-2.")
    );
    let report = json(&build(&output, &folder.path("o.npz")).succeeds());
    assert_eq!(rejected(&report), []);
    assert_eq!(report["photos"]["used"], 3);
}
