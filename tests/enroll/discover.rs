//! `discover`: people in unsorted photos, as folders that can be enrolled.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::helpers::{Folder, encoded, identify, json, run, text};
use image::ImageFormat;
use serde_json::Value;

/// Three photos of one person and one of each of two others, in a folder that says nothing about who is where.
fn unsorted(folder: &Folder) -> String {
    for (photo, name) in [
        ("obama.jpg", "1.jpg"),
        ("biden.jpg", "2.jpg"),
        ("obama2.jpg", "below/3.jpg"),
        ("astronaut.png", "below/4.png"),
        ("obama3.jpg", "5.jpg"),
    ] {
        folder.photo(photo, &format!("unsorted/{name}"));
    }
    text(&folder.path("unsorted"))
}

fn discover(args: &[&str]) -> Vec<Value> {
    let args = [&["discover", "--json"], args].concat();
    run(&args).succeeds().lines().map(json).collect()
}

/// The value of this key for the largest face of each photo, by the name of its file.
fn by_photo(faces: &[Value], key: &str) -> BTreeMap<String, Value> {
    let area = |face: &Value| face["w"].as_f64().unwrap() * face["h"].as_f64().unwrap();
    let mut largest: BTreeMap<String, &Value> = BTreeMap::new();
    for face in faces {
        let path = Path::new(face["path"].as_str().unwrap());
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let known = largest.entry(name).or_insert(face);
        if area(face) > area(known) {
            *known = face;
        }
    }
    let values = largest.into_iter();
    values
        .map(|(name, face)| (name, face[key].clone()))
        .collect()
}

fn people(faces: &[Value]) -> BTreeMap<String, Value> {
    by_photo(faces, "person")
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn what_is_discovered_can_be_named_enrolled_and_recognised() {
    let folder = Folder::new();
    let unsorted = unsorted(&folder);
    let output = folder.path("people");
    let report = folder.path("report.html");
    // A slash at the end is no part of the name.
    let args = [
        &unsorted,
        "--output",
        &format!("{}/", text(&output)),
        "--report",
        &text(&report),
    ];
    let faces = discover(&args);
    let found = people(&faces);
    let person: Value = "person-001".into();
    let expected = [
        ("1", &person),
        ("2", &Value::Null),
        ("3", &person),
        ("4", &Value::Null),
        ("5", &person),
    ];
    for (photo, expected) in expected {
        assert_eq!(&found[photo], expected, "{photo}: {faces:?}");
    }
    assert!(
        faces
            .iter()
            .all(|face| face.get("time").is_none() && face["known"].is_null())
    );
    assert_eq!(files(&output), ["person-001"]);
    let own = output.join("person-001");
    assert_eq!(files(&own).len(), 3);
    assert_eq!([mode(&output), mode(&own)], [0o700; 2]);
    for crop in files(&own) {
        assert_eq!(mode(&own.join(&crop)), 0o600);
    }
    assert_eq!(
        files(folder.0.path()),
        ["people", "report.html", "unsorted"]
    );
    let page = fs::read_to_string(&report).unwrap();
    assert!(page.contains("<h1>People found</h1>") && page.contains("person-001"));
    assert!(page.matches("data:image/jpeg").count() >= 5);
    assert_eq!(mode(&report), 0o600);

    fs::rename(&own, output.join("Barack Obama")).unwrap();
    let gallery = text(&folder.path("gallery.npz"));
    let args = [
        "--strict",
        "--mask-copies",
        "1",
        "--dataset",
        &text(&output),
        "--output",
        &gallery,
    ];
    run(&args).succeeds();
    let line = &identify(&["--database", &gallery, &unsorted])[0];
    assert_eq!(line["faces"][0]["label"], "Barack Obama", "{line}");

    // With the gallery, nobody is left to be discovered.
    let again = text(&folder.path("again"));
    let faces = discover(&[&unsorted, "--output", &again, "--database", &gallery]);
    let known = by_photo(&faces, "known");
    for photo in ["1", "3", "5"] {
        assert_eq!(known[photo], "Barack Obama", "{photo}");
    }
    assert!(
        faces.iter().all(|face| face["person"].is_null()),
        "{faces:?}"
    );
    assert!(known["2"].is_null() && known["4"].is_null());
    assert!(!folder.path("again").exists());
}

#[test]
fn a_person_with_a_mask_is_in_the_group_of_the_bare_face() {
    let folder = Folder::new();
    let unsorted = unsorted(&folder);
    let args = [
        "mask",
        "--masks",
        "surgical",
        "--output",
        &unsorted,
        &format!("{unsorted}/5.jpg"),
    ];
    run(&args).succeeds();
    fs::remove_file(folder.path("unsorted/5.jpg")).unwrap();
    let found = people(&discover(&[
        &unsorted,
        "--output",
        &text(&folder.path("people")),
    ]));
    assert_eq!(found["5-surgical"], "person-001", "{found:?}");
    assert_eq!(found["1"], "person-001", "{found:?}");
}

#[test]
fn nothing_that_is_there_is_overwritten() {
    let folder = Folder::new();
    let photo = text(&folder.photo("obama.jpg", "1.jpg"));
    folder.write("people/note.txt", b"mine");
    let people = text(&folder.path("people"));
    run(&["discover", &photo, "--output", &people]).fails(1, &["is not empty"]);
    run(&["discover", &photo, "--output", &photo]).fails(1, &["1.jpg"]);
    let nowhere = text(&folder.path("a/b"));
    run(&["discover", &photo, "--output", &nowhere]).fails(1, &["there is no folder"]);
    run(&["discover", &photo, "--output", "/"]).fails(1, &["no name of a folder"]);
    assert_eq!(files(&folder.path("people")), ["note.txt"]);
    // A folder that an interrupted run has begun is filled anew, one that somebody else has made is not touched.
    let unsorted = unsorted(&folder);
    let new = text(&folder.path("new"));
    folder.write("new.unfinished/person-001/half.jpg", b"half");
    let args = ["discover", &unsorted, "--output", &new];
    run(&args).fails(1, &["new.unfinished", "was not made by mfr-enroll"]);
    folder.write("new.unfinished/.mfr-enroll-unfinished", b"");
    run(&args).succeeds();
    let crops = files(&folder.path("new/person-001"));
    assert!(
        crops.len() == 3 && !crops.contains(&"half.jpg".to_owned()),
        "{crops:?}"
    );
    assert!(!folder.path("new.unfinished").exists());
    // The work of the first attempt was kept until the second one was done.
    assert!(!folder.path("new.partial").exists());
}

#[test]
fn an_interrupted_search_goes_on() {
    let folder = Folder::new();
    let unsorted = unsorted(&folder);
    let new = text(&folder.path("new"));
    folder.write("new.unfinished/other.txt", b"");
    // All files are processed before the folder is made, which fails.
    run(&["discover", &unsorted, "--output", &new]).fails(1, &["new.unfinished"]);
    let partial = folder.path("new.partial");
    assert_eq!(mode(&partial), 0o600);
    fs::remove_dir_all(folder.path("new.unfinished")).unwrap();
    let ran = run(&["discover", &unsorted, "--output", &new]);
    assert!(
        ran.stderr
            .contains("5 of 5 files are known from an interrupted run"),
        "{}",
        ran.stderr
    );
    let said = ran.succeeds();
    assert!(said.contains("person-001: 3 faces in 3 files"), "{said}");
    assert!(said.contains("1 person, 3 crops"), "{said}");
    assert!(!partial.exists());
}

#[test]
fn files_that_cannot_be_read_are_named_and_do_not_stop_the_search() {
    let folder = Folder::new();
    let unsorted = unsorted(&folder);
    folder.write("unsorted/broken.jpg", b"no photo");
    let new = text(&folder.path("new"));
    let ran = run(&["discover", &unsorted, "--output", &new]);
    assert!(ran.stderr.contains("broken.jpg: "), "{}", ran.stderr);
    assert!(ran.succeeds().contains("person-001"));
    let broken = text(&folder.path("unsorted/broken.jpg"));
    let other = text(&folder.path("other"));
    run(&["discover", &broken, "--output", &other]).fails(1, &["none of 1 file could be read"]);
}

#[test]
fn of_several_people_in_a_photo_each_is_cut_out() {
    let folder = Folder::new();
    let unsorted = unsorted(&folder);
    // A photo of two people side by side, each of whom is in another photo too.
    let [left, right] = ["1.jpg", "2.jpg"].map(|name| {
        let photo = image::open(folder.path("unsorted").join(name)).unwrap();
        photo
            .resize_exact(400, 400, image::imageops::FilterType::Triangle)
            .to_rgb8()
    });
    let mut both = image::RgbImage::new(800, 400);
    image::imageops::replace(&mut both, &left, 0, 0);
    image::imageops::replace(&mut both, &right, 400, 0);
    folder.write("unsorted/both.png", &encoded(both, ImageFormat::Png));
    let output = folder.path("people");
    let faces = discover(&[&unsorted, "--output", &text(&output)]);
    let of_both = faces
        .iter()
        .filter(|face| face["path"].as_str().unwrap().ends_with("both.png"));
    let found: Vec<&Value> = of_both
        .map(|face| &face["person"])
        .filter(|p| !p.is_null())
        .collect();
    assert_eq!(found.len(), 2, "{faces:?}");
    assert_ne!(found[0], found[1]);
    let gallery = text(&folder.path("gallery.npz"));
    let args = [
        "--json",
        "--masks",
        "none",
        "--dataset",
        &text(&output),
        "--output",
        &gallery,
    ];
    let report = json(&run(&args).succeeds());
    // Copies of one photo may be duplicates, but no crop has several faces or none.
    for rejected in report["rejected"].as_array().unwrap() {
        assert_eq!(rejected["reason"], "duplicate", "{rejected}");
    }
}
