//! `add`, `remove`, `rename` and `merge`: galleries change without the photos that they were made from.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::common::demo_photos;
use crate::helpers::{Folder, json, rejected, run, sources, text};
use gstmfr::gallery::{Gallery, NpzWriter};
use serde_json::Value;

const FEW_MASKS: [&str; 2] = ["--mask-copies", "1"];

/// The photos of two people in X, and of two others in Y.
const X: [(&str, &str); 3] = [
    ("obama.jpg", "Barack Obama/1.jpg"),
    ("obama2.jpg", "Barack Obama/2.jpg"),
    ("astronaut.png", "Eileen Collins/1.png"),
];
const Y: [(&str, &str); 1] = [("biden.jpg", "Joe Biden/1.jpg")];

/// A gallery of these photos.
fn built(folder: &Folder, name: &str, photos: &[(&str, &str)]) -> String {
    for (photo, path) in photos {
        folder.photo(photo, &format!("{name}/{path}"));
    }
    let output = text(&folder.path(&format!("{name}.npz")));
    let dataset = text(&folder.path(name));
    let args = ["--dataset", &dataset, "--output", &output];
    run(&[&args, &FEW_MASKS[..]].concat()).succeeds();
    output
}

/// The arrays of a gallery file other than its contract, as they are stored.
fn arrays(path: &str) -> Vec<(String, Vec<u8>)> {
    let mut archive = zip::ZipArchive::new(fs::File::open(path).unwrap()).unwrap();
    let names: Vec<String> = archive.file_names().map(str::to_owned).collect();
    let mut arrays: Vec<_> = names
        .into_iter()
        .filter(|name| name != "contract.npy")
        .map(|name| {
            let mut bytes = Vec::new();
            std::io::copy(&mut archive.by_name(&name).unwrap(), &mut bytes).unwrap();
            (name, bytes)
        })
        .collect();
    arrays.sort();
    assert!(arrays.len() > 8, "{arrays:?}");
    arrays
}

#[track_caller]
fn assert_same(a: &str, b: &str) {
    for ((name, a), (other, b)) in arrays(a).iter().zip(arrays(b)) {
        assert_eq!((name, a), (&other, &b), "{name}");
    }
    assert_eq!(arrays(a).len(), arrays(b).len());
}

#[test]
fn adding_merging_and_removing_give_what_building_gives() {
    let folder = Folder::new();
    let x = built(&folder, "x", &X);
    let y = built(&folder, "y", &Y);
    let both = built(&folder, "both", &[&X[..], &Y].concat());
    let original = fs::read(&x).unwrap();

    let merged = text(&folder.path("merged.npz"));
    let said = run(&["merge", &y, &x, "--output", &merged]).succeeds();
    assert!(said.contains("3 people, 4 photos"), "{said}");
    assert_same(&merged, &both);

    let added = text(&folder.path("added.npz"));
    fs::copy(&x, &added).unwrap();
    let dataset = text(&folder.path("y"));
    let said = run(&["add", "--database", &added, "--dataset", &dataset]).succeeds();
    assert!(said.contains("Joe Biden"), "{said}");
    assert!(!said.contains("Barack Obama"), "{said}");
    assert!(
        said.contains("3 people now, 1 of 1 new photo used"),
        "{said}"
    );
    assert_same(&added, &both);
    let mode = fs::metadata(&added).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let proof = text(&folder.path("proof.json"));
    let args = ["remove", "--database", &added, "--yes", "--proof", &proof];
    let said = run(&[&args[..], &["Joe Biden"]].concat()).succeeds();
    assert!(
        said.contains("removed Joe Biden: 1 photo, 2 embeddings"),
        "{said}"
    );
    assert_same(&added, &x);
    let proof: Value = serde_json::from_slice(&fs::read(proof).unwrap()).unwrap();
    assert_eq!(proof["removed"][0]["name"], "Joe Biden");
    assert_eq!(proof["before"]["people"], 3);
    assert_eq!(proof["after"]["people"], 2);
    assert_ne!(proof["before"]["sha256"], proof["after"]["sha256"]);
    // Nothing else is left beside the gallery.
    let left = fs::read_dir(folder.0.path()).unwrap();
    let left = left.map(|entry| entry.unwrap().file_name());
    let partial = left.filter(|name| name.to_string_lossy().contains("partial"));
    assert_eq!(partial.count(), 0);
    assert_eq!(fs::read(&x).unwrap(), original);
}

#[test]
fn a_person_gets_further_photos_and_each_photo_counts_once() {
    let folder = Folder::new();
    let gallery = built(&folder, "x", &[&X[..], &Y].concat());
    let photo = |name: &str| text(&demo_photos().join(name));
    let add = |photos: &[&str]| {
        let args = ["add", "--json", "--database", &gallery, "--name"];
        json(&run(&[&args[..], photos].concat()).succeeds())
    };
    let report = add(&["Barack Obama", &photo("obama3.jpg"), &photo("obama.jpg")]);
    assert_eq!(report["photos"]["found"], 2);
    assert_eq!(report["photos"]["used"], 1);
    assert_eq!(rejected(&report), [("Barack Obama/obama.jpg", "duplicate")]);
    let people = report["people"].as_array().unwrap();
    assert_eq!(people.len(), 1, "{people:?}");
    // The gallery has a file of that name.
    let another = folder.photo("obama3.jpg", "again/1.jpg");
    let biden = folder.photo("biden.jpg", "again/biden.jpg");
    let args = ["add", "--database", &gallery, "--name", "Barack Obama"];
    let said = run(&[&args[..], &[&text(&another), &text(&biden)]].concat());
    // Neither the picture that is enrolled already nor that of another person is learned.
    said.fails(1, &["duplicate", "Joe Biden"]);
    let sources = sources(Path::new(&gallery));
    let own = sources.iter().filter(|s| s.starts_with("Barack Obama/"));
    assert_eq!(own.count(), 6, "{sources:?}");
}

#[test]
fn add_makes_a_gallery_where_there_is_none_and_says_so() {
    let folder = Folder::new();
    let gallery = text(&folder.path("new.npz"));
    let photo = text(&demo_photos().join("obama.jpg"));
    let args = ["add", "--database", &gallery, "--name", "Ana", &photo];
    let ran = run(&[&args[..], &FEW_MASKS].concat());
    assert!(
        ran.stderr.contains("new.npz is not there, and is made"),
        "{}",
        ran.stderr
    );
    ran.succeeds();
    assert_eq!(sources(Path::new(&gallery))[0], "Ana/obama.jpg");
}

#[test]
fn add_repeats_the_options_of_the_gallery_and_refuses_those_that_concern_everybody() {
    let folder = Folder::new();
    let gallery = built(&folder, "x", &X);
    let before = fs::read(&gallery).unwrap();
    let dataset = text(&folder.path("x"));
    let add = |args: &[&str]| {
        let common = ["add", "--database", &gallery, "--dataset", &dataset];
        run(&[&common[..], args].concat())
    };
    add(&["--target-fpir", "0.001"]).fails(1, &[&gallery, "--target-fpir 0.01"]);
    assert_eq!(fs::read(&gallery).unwrap(), before);
    for name in Y {
        folder.photo(name.0, &format!("y/{}", name.1));
    }
    let dataset = text(&folder.path("y"));
    let args = ["add", "--database", &gallery, "--dataset", &dataset];
    run(&args).succeeds();
    let masks = sources(Path::new(&gallery));
    let masks = masks
        .iter()
        .filter(|s| s.starts_with("Joe") && s.contains("#mask:"));
    assert_eq!(masks.count(), 1);
    let gallery = Gallery::load(Path::new(&gallery)).unwrap();
    let contract = gallery.contract().unwrap();
    assert_eq!(contract.enrolment().mask_copies, 1);
    assert!(contract.changed.is_some());
}

#[test]
fn a_renamed_person_is_known_by_the_new_name_alone() {
    let folder = Folder::new();
    let gallery = built(&folder, "x", &X);
    let rename = |old: &str, new: &str| run(&["rename", "--database", &gallery, old, new]);
    rename("Barack Obama", "President Obama").succeeds();
    let list = run(&["list", "--database", &gallery]).succeeds();
    assert!(list.contains("2  President Obama"), "{list}");
    assert!(!list.contains("Barack"), "{list}");
    let before = fs::read(&gallery).unwrap();
    rename("eileen collins", "E").fails(1, &["did you mean \"Eileen Collins\"?"]);
    rename("Nobody", "E").fails(1, &["\"Nobody\" is not in", "mfr-enroll list"]);
    rename("Eileen Collins", "President Obama").fails(1, &["in", "already"]);
    rename("Eileen Collins", "Unknown").fails(1, &["strangers"]);
    assert_eq!(fs::read(&gallery).unwrap(), before);
}

#[test]
fn nobody_is_removed_unasked_or_by_half() {
    let folder = Folder::new();
    let gallery = built(&folder, "x", &X);
    let before = fs::read(&gallery).unwrap();
    let remove = |args: &[&str]| run(&[&["remove", "--database", &gallery], args].concat());
    // Standard input is no terminal.
    remove(&["Eileen Collins"]).fails(2, &["Eileen Collins", "--yes"]);
    remove(&["--yes", "Eileen Collins", "Nobody"]).fails(1, &["\"Nobody\" is not in"]);
    remove(&["--yes", "Eileen Collins", "Barack Obama"]).fails(1, &["nobody would be left"]);
    let proof = text(&folder.path("no such folder/proof.json"));
    remove(&["--yes", "--proof", &proof, "Eileen Collins"]).fails(1, &[&proof]);
    assert_eq!(fs::read(&gallery).unwrap(), before);
}

#[test]
fn galleries_made_in_different_ways_are_not_merged() {
    let folder = Folder::new();
    let x = built(&folder, "x", &X);
    folder.photo(Y[0].0, &format!("y/{}", Y[0].1));
    let (dataset, y) = (text(&folder.path("y")), text(&folder.path("y.npz")));
    let args = ["--dataset", &dataset, "--output", &y, "--masks", "none"];
    run(&args).succeeds();
    let merged = folder.path("merged.npz");
    let says = [x.as_str(), y.as_str(), "masks is"];
    run(&["merge", &x, &y, "--output", &text(&merged)]).fails(1, &says);
    assert!(!merged.exists());
    // A gallery of the original scripts does not say how it was made.
    let old = folder.path("old.npz");
    let mut npz = NpzWriter::new(fs::File::create(&old).unwrap());
    let embeddings = ndarray::arr2(&[[1.0f32, 0.0], [0.0, 1.0]]);
    npz.numbers("arr_0", &embeddings).unwrap();
    npz.texts("arr_1", &["Ana", "Bo"]).unwrap();
    npz.finish().unwrap();
    for args in [
        vec!["rename", "--database", &text(&old), "Ana", "Bo"],
        vec!["merge", &x, &text(&old), "--output", &text(&merged)],
    ] {
        run(&args).fails(1, &["old.npz", "cannot be changed"]);
    }
}

#[test]
fn an_output_on_which_another_run_is_at_work_is_left_alone() {
    let folder = Folder::new();
    let gallery = built(&folder, "x", &X);
    let partial = fs::File::create(format!("{gallery}.partial")).unwrap();
    let private = fs::Permissions::from_mode(0o600);
    partial.set_permissions(private).unwrap();
    partial.lock().unwrap();
    let at_work = ["another mfr-enroll is at work"];
    run(&["rename", "--database", &gallery, "Barack Obama", "B"]).fails(1, &at_work);
    let args = ["remove", "--yes", "--database", &gallery, "Barack Obama"];
    run(&args).fails(1, &at_work);
    let photo = text(&demo_photos().join("biden.jpg"));
    run(&["add", "--database", &gallery, "--name", "Joe", &photo]).fails(1, &at_work);
}

/// The program on this day.
fn run_on(day: &str, args: &[&str]) -> crate::helpers::Ran {
    let midday = gstmfr::gallery::expiry::end_of_day(day).unwrap() - 43_200;
    let mut command = crate::helpers::command(args);
    crate::helpers::ran(command.env("SOURCE_DATE_EPOCH", midday.to_string()))
}

#[test]
fn people_who_have_expired_are_listed_but_not_named_until_they_are_removed() {
    let folder = Folder::new();
    let gallery = built(&folder, "x", &X);
    let biden = text(&demo_photos().join("biden.jpg"));
    let add = |day: &str| {
        let args = [
            "add",
            "--database",
            &gallery,
            "--name",
            "Joe",
            "--expires",
            day,
        ];
        run_on("2020-06-01", &[&args[..], &[&biden]].concat())
    };
    add("2020-05-31").fails(2, &["this day is over"]);
    add("tomorrow").fails(2, &["2027-01-31"]);
    add("2020-06-30").succeeds();
    let list = ["list", "--json", "--database", &gallery];
    let list = json(&run(&list).succeeds());
    let joe = &list["people"][2];
    assert_eq!(
        (&joe["name"], &joe["expires"]),
        (&"Joe".into(), &"2020-06-30".into())
    );
    assert_eq!(
        (&joe["expired"], &joe["masked_copies"]),
        (&true.into(), &1.into())
    );
    assert_eq!(list["people"][0]["expired"], false);
    let found = &crate::helpers::identify(&["--database", &gallery, &biden])[0]["faces"][0];
    assert_eq!(found["label"], "unknown", "{found}");
    let candidates = found["candidates"].as_array().unwrap();
    assert!(candidates.iter().all(|c| c["label"] != "Joe"), "{found}");
    run(&["rename", "--database", &gallery, "Joe", "Joe Biden"]).succeeds();
    let text = run(&["list", "--database", &gallery]).succeeds();
    assert!(
        text.contains("Joe Biden, expired after 2020-06-30"),
        "{text}"
    );
    let check = run(&["check", "--strict", "--database", &gallery]).fails(3, &[]);
    assert!(check.contains("Joe Biden has expired"), "{check}");
    let remove = ["remove", "--database", &gallery, "--yes", "--expired"];
    let said = run(&remove).succeeds();
    assert!(said.contains("removed Joe Biden"), "{said}");
    let contract = Gallery::load(Path::new(&gallery)).unwrap();
    assert!(contract.contract().unwrap().expires.is_empty());
    let before = fs::read(&gallery).unwrap();
    let said = run(&remove).succeeds();
    assert!(said.contains("nobody in"), "{said}");
    assert_eq!(fs::read(&gallery).unwrap(), before);
}

#[test]
fn a_person_is_shown_with_photos_and_whom_they_look_like() {
    let folder = Folder::new();
    let gallery = built(&folder, "x", &[&X[..], &Y].concat());
    let report = folder.path("show.html");
    let args = ["show", "--database", &gallery, "Barack Obama", "--report"];
    let said = run(&[&args[..], &[&text(&report)]].concat()).succeeds();
    assert!(
        said.starts_with("Barack Obama: 2 photos, 2 masked copies"),
        "{said}"
    );
    assert!(said.contains("like the nearest other photo"), "{said}");
    assert!(
        said.contains("Joe Biden") && said.contains("Eileen Collins"),
        "{said}"
    );
    let page = fs::read_to_string(report).unwrap();
    assert!(page.contains("Barack Obama"), "{page}");
    run(&["show", "--database", &gallery, "Nobody"]).fails(1, &["mfr-enroll list"]);
}
