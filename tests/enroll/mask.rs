//! `mask`: copies of photos with painted masks.

use crate::helpers::{Folder, astronaut, encoded, identify, json, run, text};
use image::{ImageFormat, Rgb, RgbImage};
use serde_json::Value;

#[test]
fn masked_copies_keep_the_eyes_and_are_called_like_their_photo() {
    let folder = Folder::new();
    let face = astronaut().crop_imm(120, 0, 220, 220);
    folder.write("photos/a.jpg", &encoded(face.clone(), ImageFormat::Jpeg));
    folder.write("photos/a.png", &encoded(face.clone(), ImageFormat::Png));
    folder.write("photos/x/a.png", &encoded(face.clone(), ImageFormat::Png));
    let output = folder.path("masked");
    let (photos, masked) = (text(&folder.path("photos")), text(&output));
    let kinds = ["--masks", "black,n95", "--mask-copies", "3", "--json"];
    let args = [&["mask", &photos, "--output", &masked], &kinds[..]].concat();
    let lines: Vec<Value> = run(&args).succeeds().lines().map(json).collect();
    assert_eq!(lines.len(), 3);
    assert!(lines.iter().all(|line| line["faces"] == 1));
    // Kinds are used in rotation: two copies of one, one of the other.
    let mut kinds: Vec<_> = (0..3)
        .map(|i| lines[1]["copies"][i]["mask"].as_str())
        .collect();
    assert_eq!(kinds[0], kinds[2]);
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds, [Some("black"), Some("n95")]);
    // The second photo of the same name keeps its extension in the names of its copies.
    for name in [
        "a-black.png",
        "a-n95.png",
        "a.png-black.png",
        "x/a-black.png",
    ] {
        assert!(output.join(name).is_file(), "{name}");
    }
    let before = face.to_rgb8();
    let after = image::open(output.join("a.png-black.png"))
        .unwrap()
        .to_rgb8();
    let original = folder.path("photos/a.png");
    let landmarks = identify(&[&text(&original)])[0]["faces"][0]["landmarks"].clone();
    let at = |image: &RgbImage, i: usize| {
        let place = |j: usize| landmarks[i][j].as_f64().unwrap() as u32;
        *image.get_pixel(place(0), place(1))
    };
    assert_eq!(at(&before, 0), at(&after, 0));
    assert_eq!(at(&before, 1), at(&after, 1));
    assert!(
        at(&after, 3)[0] < 90 && at(&after, 4)[0] < 90,
        "{:?}",
        at(&after, 3)
    );
    // Existing files are not overwritten; the same photo gets the same masks elsewhere.
    run(&args).fails(
        1,
        &["a-black.png: the file is there already", "3 of 3 photos"],
    );
    let again = text(&folder.path("again"));
    run(&[
        "mask",
        &photos,
        "--output",
        &again,
        "--masks",
        "black,n95",
        "--mask-copies",
        "3",
    ])
    .succeeds();
    let same = image::open(folder.path("again/a.png-black.png"))
        .unwrap()
        .to_rgb8();
    assert_eq!(after, same);
}

#[test]
fn a_photo_without_a_face_has_no_masked_copy() {
    let folder = Folder::new();
    let empty = RgbImage::from_pixel(100, 100, Rgb([90, 120, 90]));
    let photo = folder.write("wall.png", &encoded(empty, ImageFormat::Png));
    let output = folder.path("masked");
    let ran = run(&["mask", &text(&photo), "--output", &text(&output)]);
    assert!(
        ran.stderr.contains("wall.png: no face was found"),
        "{}",
        ran.stderr
    );
    assert_eq!(ran.succeeds(), "");
    assert!(!output.exists());
}
