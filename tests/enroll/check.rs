//! `check`: problems of photos and of galleries, and the HTML report.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::helpers::{Folder, build, json, odd_dataset, rejected, run, text, texts};
use serde_json::Value;

#[test]
fn a_check_says_what_is_wrong_with_photos_and_writes_nothing() {
    let folder = Folder::new();
    let dataset = text(&odd_dataset(&folder));
    let before = fs::read_dir(folder.path("")).unwrap().count();
    let table = run(&["check", "--dataset", &dataset]).succeeds();
    for line in [
        "Barack Obama       4     3",
        "  Barack Obama/wrong.png: outlier (similarity ",
        "the same person under two names?\n  Joe Biden and Joseph Biden: similarity ",
        "most like each other",
        "fewer than 3 photos: Joe Biden, Joseph Biden",
        "3 people, 5 of 6 photos usable, 0 suspicious",
    ] {
        assert!(table.contains(line), "{line:?} in {table}");
    }
    let strict = ["check", "--strict", "--json", "--dataset", &dataset];
    let report = json(&run(&strict).fails(3, &[]));
    assert!(report["nearest"][0]["similarity"].as_f64().unwrap() > 0.9);
    assert_eq!(fs::read_dir(folder.path("")).unwrap().count(), before);
    assert_eq!(texts(&report["few_photos"]), ["Joe Biden", "Joseph Biden"]);
    assert_eq!(report["no_photo"].as_array().unwrap().len(), 0);
    assert_eq!(report["nearest"].as_array().unwrap().len(), 3);
    let files = report["files"].as_array().unwrap();
    assert_eq!(files.len(), 6);
    assert_eq!(files[0]["status"], "used");
    assert!(files[0]["own"].as_f64().unwrap() > 0.5);
    assert!(files[0]["measured"]["size"].as_f64().unwrap() > 100.0);
    assert_eq!(files[3]["path"], "Barack Obama/wrong.png");
    assert_eq!(files[3]["status"], "rejected");
    assert_eq!(files[3]["reason"], "outlier");
    assert!(files[3]["measured"]["yaw"].is_number());
}

#[test]
fn a_report_shows_every_photo_and_is_for_its_owner_alone() {
    let folder = Folder::new();
    let dataset = text(&odd_dataset(&folder));
    let page = folder.path("report.html");
    let [checked, built] = ["check", "build"].map(|command| {
        let output = text(&folder.path("o.npz"));
        let mut args = vec![command, "--dataset", &dataset, "--report"];
        let page = text(&page);
        args.push(&page);
        if command == "build" {
            args.extend(["--output", &output]);
        }
        run(&args).succeeds();
        fs::read_to_string(&page).unwrap()
    });
    let mode = fs::metadata(&page).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for html in [&checked, &built] {
        // There are six photos, and two for each of the pairs: one that looks the same, three that are near.
        let photos = 6 + 2 * (1 + 3);
        let pictures = html.matches("src=\"data:image/jpeg;base64,").count();
        // The build report also has the four masked copies of the five used photos.
        let copies = if html == &built { 4 * 5 } else { 0 };
        assert_eq!(pictures, photos + copies);
        assert!(html.contains("somebody else"));
        assert!(html.contains("<svg"));
        assert!(!html.contains("http"));
    }
    let gallery = text(&folder.path("o.npz"));
    let args = ["check", "--database", &gallery, "--report", &text(&page)];
    run(&args).succeeds();
    let html = fs::read_to_string(&page).unwrap();
    assert!(html.contains("Joseph Biden") && html.contains("<svg") && !html.contains("<img"));

    let args = [
        "--dataset",
        &dataset,
        "--output",
        &gallery,
        "--report",
        &gallery,
    ];
    run(&args).fails(1, &["--output and --report both name"]);
    let nowhere = text(&folder.path("none/report.html"));
    run(&["check", "--dataset", &dataset, "--report", &nowhere]).fails(1, &["there is no folder"]);
}

#[test]
fn a_dataset_without_a_usable_photo_can_be_checked() {
    let folder = Folder::new();
    folder.write("p/Ana/1.jpg", b"Dear Ana");
    let dataset = text(&folder.path("p"));
    let page = folder.path("report.html");
    let args = [
        "check",
        "--json",
        "--dataset",
        &dataset,
        "--report",
        &text(&page),
    ];
    let report = json(&run(&args).succeeds());
    assert!(
        fs::read_to_string(page)
            .unwrap()
            .contains("the file is text")
    );
    assert_eq!(rejected(&report), [("Ana/1.jpg", "unreadable")]);
    assert_eq!(texts(&report["no_photo"]), ["Ana"]);
    assert_eq!(report["files"][0]["person"], "Ana");
    assert_eq!(report["files"][0]["measured"], Value::Null);
}

#[test]
fn a_gallery_is_checked_without_its_photos() {
    let folder = Folder::new();
    let gallery = text(&folder.gallery());
    let table = run(&["check", "--database", &gallery]).succeeds();
    for line in [
        "3 people, 4 photos, 16 masked copies",
        "by mfr-enroll ",
        "detector mtcnn",
        "fewer than 3 photos: Barack Obama, Eileen Collins, Joe Biden",
    ] {
        assert!(table.contains(line), "{line:?} in {table}");
    }
    let strict = ["check", "--strict", "--json", "--database", &gallery];
    let report = json(&run(&strict).succeeds());
    assert_eq!(report["people"][0]["photos"], 2);
    assert_eq!(report["contract"]["format"], "mfr-gallery/1");
    assert_eq!(report["suspicious"].as_array().unwrap().len(), 0);

    folder.photo("astronaut.png", "two/Ben/1.png");
    folder.photo("biden.jpg", "two/Ben/2.jpg");
    let odd = folder.path("odd.npz");
    build(&folder.path("two"), &odd).succeeds();
    let strict = ["check", "--strict", "--database", &text(&odd)];
    let table = run(&strict).fails(3, &[]);
    assert!(table.contains("  Ben/1.png: similarity "), "{table}");
}
