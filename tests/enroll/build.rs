//! `build`: photos become a gallery, or are rejected with a reason.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use crate::common::demo_photos;
use crate::helpers::{
    Folder, astronaut, build, encoded, identify, json, odd_dataset, rejected, run, sources, text,
    texts,
};
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use serde_json::Value;

#[test]
fn a_dataset_becomes_a_gallery_that_names_other_photos() {
    let folder = Folder::new();
    let output = folder.path("gallery.npz");
    let report = json(&build(&folder.dataset(), &output).succeeds());
    assert_eq!(report["photos"]["used"], 4);
    assert_eq!(rejected(&report), []);
    assert_eq!(report["people"][0]["name"], "Barack Obama");
    assert_eq!(report["people"][0]["used"], 2);
    let mode = fs::metadata(&output).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let photo = demo_photos().join("obama3.jpg");
    let lines = identify(&["--database", &text(&output), &text(&photo)]);
    let face = &lines[0]["faces"][0];
    assert_eq!(face["candidates"][0]["label"], "Barack Obama");
    assert_eq!(face["candidates"].as_array().unwrap().len(), 3);
    assert_eq!(face["similarity"], face["candidates"][0]["similarity"]);
    assert!(face["confidence_identity"].is_number());
    assert_eq!(face["mask"]["label"], "without_mask");
}

#[test]
fn flags_alone_build_and_the_result_does_not_depend_on_the_number_of_jobs() {
    let folder = Folder::new();
    let dataset = text(&folder.dataset());
    let embeddings = |jobs: &str| {
        let output = folder.path(&format!("{jobs}.npz"));
        let args = [
            "--dataset",
            &dataset,
            "--output",
            &text(&output),
            "--jobs",
            jobs,
        ];
        let table = run(&args).succeeds();
        assert!(table.contains("3 people, 4 of 4 photos used"), "{table}");
        let mut npz = ndarray_npy::NpzReader::new(fs::File::open(output).unwrap()).unwrap();
        let embeddings: ndarray::Array2<f32> = npz.by_name("embeddings").unwrap();
        embeddings
    };
    assert_eq!(embeddings("1"), embeddings("3"));
}

#[test]
fn a_missing_dataset_is_named() {
    let folder = Folder::new();
    build(&folder.path("gone"), &folder.path("o.npz")).fails(1, &["gone", "No such file"]);
    let file = folder.write("file", b"");
    build(&file, &folder.path("o.npz")).fails(1, &["file", "Not a directory"]);
}

#[test]
fn an_empty_dataset_says_what_was_expected() {
    let folder = Folder::new();
    let dataset = folder.path("empty");
    fs::create_dir(&dataset).unwrap();
    let says = ["empty holds no photo", "expected DIR/<name>/<photos>"];
    build(&dataset, &folder.path("o.npz")).fails(1, &says);
    fs::create_dir(dataset.join("Ana")).unwrap();
    build(&dataset, &folder.path("o.npz")).fails(1, &says);
    assert!(!folder.path("o.npz").exists());
}

#[test]
fn one_person_alone_is_enrolled_with_a_word_of_warning() {
    let folder = Folder::new();
    folder.photo("obama.jpg", "people/Obama/1.jpg");
    let args = [
        "--dataset",
        &text(&folder.path("people")),
        "--output",
        &text(&folder.path("o.npz")),
    ];
    let table = run(&args).fails(0, &["one person alone"]);
    assert!(table.contains("1 person, 1 of 1 photo used"), "{table}");
}

#[test]
fn names_with_spaces_dots_and_other_scripts_are_kept() {
    let folder = Folder::new();
    let names = ["Dr. B. O'Bama jr.", "Жо Байден 拜登", "Éileen ..Collins"];
    folder.photo("obama.jpg", &format!("p/{}/my photo.1.JPG", names[0]));
    folder.photo("biden.jpg", &format!("p/{}/ö.jpeg", names[1]));
    folder.photo("astronaut.png", &format!("p/{}/1.png", names[2]));
    let not_text = folder
        .path("p")
        .join(std::ffi::OsStr::from_bytes(b"J\xf6rg"));
    fs::create_dir(&not_text).unwrap();
    let output = folder.path("o.npz");
    let report = json(&build(&folder.path("p"), &output).succeeds());
    assert_eq!(rejected(&report), [("J\u{fffd}rg", "unreadable")]);
    let list = run(&["list", "--json", "--database", &text(&output)]).succeeds();
    let list = json(&list);
    let people = list["people"].as_array().unwrap();
    let mut listed: Vec<_> = people.iter().map(|p| p["name"].as_str().unwrap()).collect();
    let mut names = names;
    names.sort();
    listed.sort();
    assert_eq!(listed, names);
}

#[test]
fn symlinks_are_followed_and_loops_end() {
    let folder = Folder::new();
    let dataset = folder.dataset();
    symlink(&dataset, dataset.join("Joe Biden/all")).unwrap();
    symlink("2.jpg", dataset.join("Joe Biden/2.jpg")).unwrap();
    symlink(
        demo_photos().join("obama3.jpg"),
        dataset.join("Barack Obama/3.jpg"),
    )
    .unwrap();
    let report = json(&build(&dataset, &folder.path("o.npz")).succeeds());
    assert_eq!(report["photos"]["used"], 5);
    assert_eq!(
        rejected(&report),
        [
            ("Joe Biden/2.jpg", "unreadable"),
            ("Joe Biden/all", "unreadable")
        ]
    );
}

/// Writes files without a usable photo; returns each with the expected reason for rejection.
fn bad_photos(folder: &Folder, dir: &str) -> Vec<(&'static str, &'static str)> {
    let png = |image: DynamicImage| encoded(image, ImageFormat::Png);
    let write = |name: &str, bytes: &[u8]| folder.write(&format!("{dir}/{name}"), bytes);
    write("b0 empty.jpg", b"");
    write("b1 text.jpg", b"Dear Ana");
    write("b2 dot.png", &png(RgbImage::new(1, 1).into()));
    write("b3 line.png", &png(RgbImage::new(20_000, 1).into()));
    write(
        "b4 grass.png",
        &png(RgbImage::from_pixel(300, 300, Rgb([20, 120, 30])).into()),
    );
    let photo = fs::read(demo_photos().join("biden.jpg")).unwrap();
    write("b5 cut.jpg", &photo[..photo.len() / 3]);
    write("b6 film.mp4", b"\0\0\0\x18ftypmp42");
    let face = astronaut().crop_imm(150, 0, 180, 220);
    write("b7 dark.png", &png(darkened(&face)));
    write("b8 far.png", &png(far_away(&face)));
    write("b9 blurred.png", &png(face.blur(7.0)));
    let pipe = folder.path(&format!("{dir}/c0 pipe.jpg"));
    let made = std::process::Command::new("mkfifo")
        .arg(&pipe)
        .status()
        .unwrap();
    assert!(made.success());
    vec![
        ("b0 empty.jpg", "unreadable"),
        ("b1 text.jpg", "unreadable"),
        ("b2 dot.png", "no_face"),
        ("b3 line.png", "no_face"),
        ("b4 grass.png", "no_face"),
        ("b5 cut.jpg", "unreadable"),
        ("b6 film.mp4", "unreadable"),
        ("b7 dark.png", "too_dark"),
        ("b8 far.png", "too_small"),
        ("b9 blurred.png", "blurred"),
        ("c0 pipe.jpg", "unreadable"),
    ]
}

fn darkened(image: &DynamicImage) -> DynamicImage {
    let mut image = image.to_rgb8();
    image.pixels_mut().for_each(|p| p.0 = p.0.map(|v| v / 10));
    image.into()
}

/// The image with a face of some 21 pixels.
fn far_away(face: &DynamicImage) -> DynamicImage {
    let small = face
        .resize_exact(40, 49, image::imageops::FilterType::Triangle)
        .to_rgb8();
    let mut scene = RgbImage::from_pixel(160, 160, Rgb([120, 130, 140]));
    image::imageops::replace(&mut scene, &small, 60, 50);
    scene.into()
}

#[test]
fn every_rejected_photo_is_listed_with_a_reason_and_stops_nothing() {
    let folder = Folder::new();
    let dataset = folder.dataset();
    let mut expected = bad_photos(&folder, "people/Eileen Collins");
    // The same file is repeated, and also under another person's name.
    folder.photo("astronaut.png", "people/Eileen Collins/d0 copy.png");
    folder.photo("astronaut.png", "people/Zoe/d1.png");
    expected.push(("d0 copy.png", "duplicate"));
    let report = json(&build(&dataset, &folder.path("o.npz")).succeeds());
    let found = rejected(&report);
    let (zoe, found) = found.split_last().unwrap();
    assert_eq!(*zoe, ("Zoe/d1.png", "duplicate"));
    let found: Vec<_> = found
        .iter()
        .map(|(path, reason)| (path.strip_prefix("Eileen Collins/").unwrap(), *reason))
        .collect();
    assert_eq!(found, expected);
    assert_eq!(report["photos"]["used"], 4);

    let args = [
        "--strict",
        "--dataset",
        &text(&dataset),
        "--output",
        &text(&folder.path("o.npz")),
    ];
    let table = run(&args).fails(3, &[]);
    assert!(
        table.contains("b1 text.jpg: unreadable (the file is text; expected a JPEG"),
        "{table}"
    );
}

#[test]
fn a_dataset_without_a_usable_photo_fails_and_says_why() {
    let folder = Folder::new();
    folder.write("p/Ana/1.jpg", b"no photo");
    let output = folder.path("o.npz");
    let says = [
        "no photo of the dataset",
        "Ana/1.jpg: unreadable (the file is text",
    ];
    build(&folder.path("p"), &output).fails(1, &says);
    assert!(!output.exists());
}

#[test]
fn a_photo_of_several_people_is_settled_by_the_other_photos_or_rejected() {
    let folder = Folder::new();
    let side = |name: &str| image::open(demo_photos().join(name)).unwrap().to_rgb8();
    let (left, right) = (side("obama3.jpg"), side("biden.jpg"));
    let height = 400;
    let fit = |photo: &RgbImage| {
        let width = photo.width() * height / photo.height();
        image::imageops::thumbnail(photo, width, height)
    };
    let (left, right) = (fit(&left), fit(&right));
    let mut both = RgbImage::new(left.width() + right.width(), height);
    image::imageops::replace(&mut both, &left, 0, 0);
    image::imageops::replace(&mut both, &right, i64::from(left.width()), 0);
    let both = encoded(both, ImageFormat::Png);
    let faces = identify(&[&text(&folder.write("both.png", &both))]);
    assert_eq!(faces[0]["faces"].as_array().unwrap().len(), 2);

    let dataset = folder.dataset();
    folder.write("people/Barack Obama/both.png", &both);
    let report = json(&build(&dataset, &folder.path("o.npz")).succeeds());
    assert_eq!(report["people"][0]["used"], 3, "{report}");

    fs::remove_file(dataset.join("Barack Obama/both.png")).unwrap();
    folder.write("people/Nobody else/both.png", &both);
    let report = json(&build(&dataset, &folder.path("o.npz")).succeeds());
    assert_eq!(
        rejected(&report),
        [("Nobody else/both.png", "several_faces")]
    );
}

#[test]
fn a_photo_of_somebody_else_is_rejected_and_two_that_disagree_are_reported() {
    let folder = Folder::new();
    let report = json(&build(&odd_dataset(&folder), &folder.path("o.npz")).succeeds());
    assert_eq!(rejected(&report), [("Barack Obama/wrong.png", "outlier")]);
    assert_eq!(report["suspicious"], Value::Array(vec![]));
    assert_eq!(report["alike"].as_array().unwrap().len(), 1);
    let names = texts(&report["alike"][0]["people"]);
    assert_eq!(names, ["Joe Biden", "Joseph Biden"]);

    folder.photo("astronaut.png", "two/Ben/1.png");
    folder.photo("biden.jpg", "two/Ben/2.jpg");
    let report = json(&build(&folder.path("two"), &folder.path("o.npz")).succeeds());
    assert_eq!(rejected(&report), []);
    let suspicious = report["suspicious"].as_array().unwrap();
    let paths: Vec<_> = suspicious.iter().map(|s| &s["path"]).collect();
    assert_eq!(paths, ["Ben/1.png", "Ben/2.jpg"]);
}

#[test]
fn a_file_that_two_people_have_stays_with_the_one_it_shows() {
    let folder = Folder::new();
    for (photo, name) in [
        ("obama.jpg", "Barack Obama/1.jpg"),
        ("obama2.jpg", "Barack Obama/2.jpg"),
        ("obama3.jpg", "Barack Obama/3.jpg"),
        ("astronaut.png", "Barack Obama/wrong.png"),
        ("astronaut.png", "Eileen Collins/1.png"),
        // No other photo shows whose these are, so the first person keeps the photo.
        ("biden.jpg", "Joe Biden/1.jpg"),
        ("biden.jpg", "Joseph Biden/1.jpg"),
    ] {
        folder.photo(photo, &format!("p/{name}"));
    }
    let report = json(&build(&folder.path("p"), &folder.path("o.npz")).succeeds());
    assert_eq!(
        rejected(&report),
        [
            ("Barack Obama/wrong.png", "outlier"),
            ("Joseph Biden/1.jpg", "duplicate")
        ]
    );
    assert_eq!(
        report["rejected"][1]["detail"],
        "the same file as Joe Biden/1.jpg, a photo of Joe Biden"
    );
}

#[test]
fn val_photos_and_face_crops_come_with_the_gallery() {
    let folder = Folder::new();
    folder.photo("obama.jpg", "d/train/Obama/1.jpg");
    folder.photo("biden.jpg", "d/train/Biden/1.jpg");
    folder.photo("obama2.jpg", "d/val/Obama/2.jpg");
    folder.photo("astronaut.png", "d/val/Collins/1.png");
    let faces = folder.path("faces.npz");
    let args = [
        "--json",
        "--dataset",
        &text(&folder.path("d")),
        "--output",
        &text(&folder.path("o.npz")),
        "--faces-output",
        &text(&faces),
    ];
    let report = json(&run(&args).fails(0, &["not in the gallery", "Collins"]));
    assert_eq!(report["val"]["probes"], 2);
    assert_eq!(report["val"]["rank1"], 0.5);
    assert_eq!(report["val"]["confusions"][0]["name"], "Collins");
    let mut npz = ndarray_npy::NpzReader::new(fs::File::open(faces).unwrap()).unwrap();
    for crops in ["arr_0", "arr_2"] {
        let crops: ndarray::Array4<u8> = npz.by_name(crops).unwrap();
        assert_eq!(crops.shape(), [2, 160, 160, 3]);
    }
    let says = ["found crops of faces", "beside the gallery of --output"];
    run(&["list", "--database", args[6]]).fails(1, &says);
}

#[test]
fn an_output_that_cannot_be_written_is_said_before_the_work() {
    let folder = Folder::new();
    let dataset = folder.path("gone");
    build(&dataset, &folder.path("no/o.npz")).fails(1, &["cannot write", "no/o.npz"]);
    build(&dataset, folder.0.path()).fails(1, &["cannot write", "expected a file, found a folder"]);
}

#[cfg(not(feature = "plugin"))]
#[test]
fn without_gstreamer_a_video_is_rejected() {
    let folder = Folder::new();
    let dataset = folder.dataset();
    folder.write("people/Zoe/clip.mp4", b"never opened");
    let report = json(&build(&dataset, &folder.path("o.npz")).succeeds());
    assert_eq!(rejected(&report), [("Zoe/clip.mp4", "unreadable")]);
    let detail = report["rejected"][0]["detail"].as_str().unwrap();
    assert!(detail.contains("this build has no GStreamer"), "{detail}");
}

#[test]
fn people_enrolled_bare_are_known_with_a_mask_on() {
    let folder = Folder::new();
    let output = folder.gallery();
    let masked = folder.path("masked");
    let photo = text(&demo_photos().join("obama3.jpg"));
    // The mask has another seed than the copies in the gallery, and the photo is not in the gallery.
    let args = ["mask", "--output", &text(&masked), "--seed", "77", &photo];
    run(&args).succeeds();
    let lines = identify(&["--database", &text(&output), &text(&masked)]);
    assert_eq!(lines.len(), 6);
    let named = lines.iter().filter(|line| {
        let face = &line["faces"][0];
        face["label"] == "Barack Obama" && face["mask"]["label"] == "with_mask"
    });
    assert!(named.count() >= 5, "{lines:?}");
}

#[test]
fn masks_are_chosen_and_left_out_by_name() {
    let folder = Folder::new();
    let dataset = text(&folder.dataset());
    let output = text(&folder.path("o.npz"));
    let masked = |more: &[&str]| {
        let mut args = vec!["--dataset", &dataset, "--output", &output];
        args.extend(more);
        run(&args).succeeds();
        let mut sources = sources(Path::new(&output));
        sources.retain(|source| source.contains("#mask:"));
        sources
    };
    assert_eq!(masked(&["--masks", "none"]), [] as [&str; 0]);
    assert_eq!(masked(&["--mask-copies", "0"]), [] as [&str; 0]);
    let two = masked(&["--masks", "cloth,black", "--mask-copies", "2"]);
    assert_eq!(two.len(), 8);
    assert!(two[0].starts_with("Barack Obama/1.jpg#mask:"), "{two:?}");
    let cloth = two.iter().filter(|source| source.ends_with("#mask:cloth"));
    assert_eq!(cloth.count(), 4);
    let args = ["--dataset", &dataset, "--output", &output];
    let wrong = [&args[..], &["--masks", "cloth,hat"]].concat();
    run(&wrong).fails(2, &["\"hat\"", "surgical, kn95, n95, cloth, sponge, black"]);
}

#[test]
fn thresholds_rise_where_fewer_strangers_may_be_named() {
    let folder = Folder::new();
    let dataset = text(&folder.dataset());
    let output = text(&folder.path("o.npz"));
    let args = ["--json", "--dataset", &dataset, "--output", &output];
    let thresholds = |fpir: &str| {
        let report = json(&run(&[&args[..], &["--target-fpir", fpir]].concat()).succeeds());
        let of = |kind: &str| report["calibration"][kind]["threshold"].as_f64().unwrap();
        [of("bare"), of("masked")]
    };
    let ([bare, masked], [strict_bare, strict_masked]) = (thresholds("0.05"), thresholds("0.001"));
    assert!(bare < strict_bare && masked < strict_masked);
    for wrong in ["0", "0.7", "-1", "x"] {
        let flag = format!("--target-fpir={wrong}");
        run(&[&args[..], &[&flag]].concat()).fails(2, &["a share above 0 and up to 0.5"]);
    }
}
