//! `identify`: faces of photos of every kind.

use std::fs;

use crate::common::{self, demo_photos};
use crate::helpers::{Folder, astronaut, build, command, encoded, identify, json, ran, run, text};
use image::{DynamicImage, ImageFormat};

#[test]
fn photos_tell_whether_a_mask_is_worn_also_without_a_gallery() {
    let folder = Folder::new();
    let masked = common::masked_photo("obama3.jpg", folder.0.path());
    let photo = text(&demo_photos().join("obama3.jpg"));
    for (path, label) in [(&photo, "without_mask"), (&masked, "with_mask")] {
        let face = &identify(&[path])[0]["faces"][0];
        assert_eq!(face["mask"]["label"], label);
        assert!(face["mask"]["confidence"].as_f64().unwrap() > 0.9, "{face}");
        assert!(face["label"].is_null());
    }
    let line = run(&["identify", &masked]).succeeds();
    assert!(line.contains(": face masked, "), "{line}");
}

#[test]
fn a_photo_that_is_nothing_but_a_masked_face_shows_one() {
    let folder = Folder::new();
    let output = folder.path("masked");
    let kinds = ["surgical", "kn95"];
    run(&[
        "mask",
        &text(&demo_photos().join("astronaut.png")),
        "--output",
        &text(&output),
        "--masks",
        &kinds.join(","),
        "--mask-copies",
        "2",
    ])
    .succeeds();
    for kind in kinds {
        let copy = image::open(output.join(format!("astronaut-{kind}.png"))).unwrap();
        // The face is at 178, 59 and has 90×114 pixels; the crop cuts off ears, hair and chin.
        let (width, height) = (54, 62);
        let crop = encoded(copy.crop_imm(195, 93, width, height), ImageFormat::Png);
        let path = folder.write(&format!("{kind}.png"), &crop);
        let found = identify(&["--min-face-size", "20", &text(&path)]);
        let faces = found[0]["faces"].as_array().unwrap();
        assert_eq!(faces.len(), 1, "{kind}");
        let side = |name: &str| faces[0][name].as_f64().unwrap();
        assert!(side("w") > 0.8 * f64::from(width), "{kind}: {}", faces[0]);
        assert!(side("h") > 0.8 * f64::from(height), "{kind}: {}", faces[0]);
        assert_eq!(faces[0]["mask"]["label"], "with_mask", "{kind}");
    }
}

#[test]
fn photos_that_lie_on_their_side_or_head_are_rotated_and_named() {
    let folder = Folder::new();
    let photo = image::open(demo_photos().join("obama.jpg")).unwrap();
    let rotations: [(&str, DynamicImage, u64); 4] = [
        ("upright", photo.clone(), 0),
        ("left", photo.rotate270(), 90),
        ("head", photo.rotate180(), 180),
        ("right", photo.rotate90(), 270),
    ];
    let mut faces = Vec::new();
    for (name, rotated, degrees) in rotations {
        let path = folder.write(
            &format!("{name}.png"),
            &encoded(rotated.to_rgb8(), ImageFormat::Png),
        );
        let line = json(&run(&["identify", "--json", &text(&path)]).succeeds());
        assert_eq!(line["rotated"].as_u64().unwrap_or(0), degrees, "{line}");
        faces.push(line["faces"].clone());
    }
    // The pixels are the same for all files.
    assert!(faces.iter().all(|face| *face == faces[0]), "{faces:?}");

    // The demo photos of other people are added, because a dataset of one person allows no comparison.
    let dataset = folder.path("people");
    folder.write(
        "people/Ana/1.png",
        &encoded(photo.rotate180().to_rgb8(), ImageFormat::Png),
    );
    for (name, file) in [("Obama", "obama2.jpg"), ("Biden", "biden.jpg")] {
        let bytes = fs::read(demo_photos().join(file)).unwrap();
        folder.write(&format!("people/{name}/1.jpg"), &bytes);
    }
    folder.write("people/Ana/notes.txt", b"x");
    folder.write("people/$RECYCLE.BIN/1.jpg", b"x");
    let output = build(&dataset, &folder.path("o.npz")).succeeds();
    let report = json(&output);
    assert_eq!(report["rotated"][0]["path"], "Ana/1.png", "{report}");
    assert_eq!(report["rotated"][0]["degrees"], 180);
    let skipped: Vec<_> = report["skipped"].as_array().unwrap().iter().collect();
    assert_eq!(skipped[0]["path"], "$RECYCLE.BIN");
    assert_eq!(skipped[1]["path"], "Ana/notes.txt");
    let readable = run(&["check", "--dataset", &text(&dataset)]);
    for part in [
        "Ana/1.png: by 180° clockwise",
        "$RECYCLE.BIN (made by a system or a photo program)",
        "Ana/notes.txt (neither a photo nor a video)",
    ] {
        assert!(readable.stdout.contains(part), "{}", readable.stdout);
    }
}

#[test]
fn photos_of_every_kind_show_the_same_face() {
    let folder = Folder::new();
    let photo = astronaut();
    let rgb = photo.to_rgb8();
    let deep = DynamicImage::ImageRgb16(photo.to_rgb16());
    let upright = photo.crop_imm(100, 0, 300, 400);
    let turned = encoded(upright.rotate270(), ImageFormat::Jpeg);
    let files = [
        folder.write("8.png", &encoded(rgb.clone(), ImageFormat::Png)),
        folder.write("16.jpg", &encoded(deep, ImageFormat::Png)),
        folder.write("a.bmp", &encoded(rgb.clone(), ImageFormat::Bmp)),
        folder.write("a.webp", &encoded(rgb.clone(), ImageFormat::WebP)),
        folder.write("a.gif", &encoded(rgb.clone(), ImageFormat::Gif)),
        folder.write("a.jpg", &encoded(rgb, ImageFormat::Jpeg)),
        folder.write("grey.png", &encoded(photo.to_luma8(), ImageFormat::Png)),
        folder.write("alpha.png", &encoded(photo.to_rgba8(), ImageFormat::Png)),
        // The photo is stored on its side; orientation 6 means a rotation by 90° clockwise.
        folder.write("turned.jpg", &with_orientation(&turned, 6)),
    ];
    let paths: Vec<_> = files.iter().map(|f| text(f)).collect();
    let paths: Vec<_> = paths.iter().map(String::as_str).collect();
    let lines = identify(&paths);
    let first = lines[0]["faces"][0].clone();
    for (line, path) in lines.iter().zip(&paths) {
        assert_eq!(line["path"], *path);
        let is_turned = path.ends_with("turned.jpg");
        let (width, height, left) = if is_turned {
            (300, 400, 100.0)
        } else {
            (512, 512, 0.0)
        };
        assert_eq!(
            (&line["width"], &line["height"]),
            (&width.into(), &height.into())
        );
        let face = &line["faces"][0];
        for key in ["x", "y", "w", "h"] {
            let offset = if key == "x" { left } else { 0.0 };
            let (a, b) = (
                first[key].as_f64().unwrap(),
                face[key].as_f64().unwrap() + offset,
            );
            // Colour, compression and surroundings change the box of a face 110 pixels wide.
            assert!((a - b).abs() < 12.0, "{path}: {key} {a} {b}");
        }
        assert_eq!(face["landmarks"].as_array().unwrap().len(), 5);
        assert!(face.get("label").is_none(), "no gallery, no name: {face}");
    }
}

/// The JPEG file with an Exif segment that contains only the orientation.
fn with_orientation(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let exif = [
        b"\xff\xe1\x00\x22Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".as_slice(),
        &[orientation],
        b"\0\0\0\0\0\0",
    ]
    .concat();
    [&jpeg[..2], &exif, &jpeg[2..]].concat()
}

#[test]
fn a_photo_that_cannot_be_read_is_named_and_the_others_go_on() {
    let folder = Folder::new();
    let photo = folder.photo("obama.jpg", "photos/z.jpg");
    folder.write("photos/a.jpg", b"Dear Ana");
    folder.write("photos/readme.txt", b"not even looked at");
    let args = [
        "identify",
        "--json",
        &text(&folder.path("photos")),
        "gone.jpg",
    ];
    let says = [
        "photos/a.jpg: the file is text",
        "gone.jpg: No such file",
        "2 of 3 photos",
    ];
    let lines = run(&args).fails(1, &says);
    assert_eq!(lines.lines().count(), 1);
    assert_eq!(json(&lines)["path"], text(&photo));
    let empty = folder.path("empty");
    fs::create_dir(&empty).unwrap();
    run(&["identify", &text(&empty)]).fails(1, &["no photo in the folder", "empty"]);
}

#[test]
fn a_region_keeps_faces_outside_it_from_being_found() {
    let photo = text(&demo_photos().join("astronaut.png"));
    let faces = |region: &str| {
        let lines = identify(&["--inference-region", region, &photo]);
        lines[0]["faces"].as_array().unwrap().len()
    };
    assert_eq!(faces("150,0,200,250"), 1);
    assert_eq!(faces("-5,300,512,212; 0,0,100,100"), 0);
}

#[test]
fn faces_are_found_without_onnx_runtime() {
    let photo = text(&demo_photos().join("obama.jpg"));
    let mut identify = command(&["identify", &photo]);
    let found = ran(identify.env("ORT_DYLIB_PATH", "/gone/libonnxruntime.so"));
    let found = found.succeeds();
    // The box is 239×320, or a pixel more or less depending on the CPU's instruction set.
    let size = found.split_once("face ").and_then(|(_, rest)| {
        let (width, rest) = rest.split_once('×')?;
        let height = rest.split_once(' ')?.0;
        Some((width.parse::<i32>().ok()?, height.parse::<i32>().ok()?))
    });
    let is_near = size.is_some_and(|(w, h)| (w - 239).abs() <= 2 && (h - 320).abs() <= 2);
    assert!(is_near, "{found}");
}

#[test]
fn a_reader_that_stops_reading_is_no_error() {
    let photo = text(&demo_photos().join("obama.jpg"));
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_mfr-enroll"))
        .args(["identify", "--json", &photo])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    assert_eq!(stderr, "");
}
