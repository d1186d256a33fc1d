//! `build` that was interrupted and is started again.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::common::demo_photos;
use crate::helpers::{Folder, build, encoded, json, run, sources, text};
use image::ImageFormat;

/// Ten people with a photo each, and the files left by a run that was killed in the middle.
fn interrupted(folder: &Folder) -> (PathBuf, PathBuf, PathBuf) {
    let photo = image::open(demo_photos().join("obama.jpg")).unwrap();
    let photo = photo.resize(320, 320, image::imageops::FilterType::Triangle);
    for i in 0..10 {
        let photo = encoded(photo.brighten(3 * i), ImageFormat::Png);
        folder.write(&format!("people/{i}/1.png"), &photo);
    }
    let (dataset, output) = (folder.path("people"), folder.path("gallery.npz"));
    let partial = folder.path("gallery.npz.partial");
    let lines =
        || fs::read(&partial).map_or(0, |text| text.iter().filter(|b| **b == b'\n').count());
    // On a computer under load, a run may finish before its progress is checked.
    for _ in 0..10 {
        let mut run = std::process::Command::new(env!("CARGO_BIN_EXE_mfr-enroll"))
            .args(["--jobs", "1", "--dataset", &text(&dataset), "--output"])
            .arg(&output)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // These lines are the settings and three photos.
        while lines() < 4 && run.try_wait().unwrap().is_none() {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        run.kill().unwrap();
        run.wait().unwrap();
        if lines() >= 4 {
            assert!(!output.exists());
            return (dataset, output, partial);
        }
    }
    panic!("no run could be interrupted");
}

/// The contents of a gallery without its creation time.
fn arrays(gallery: &Path) -> (Vec<ndarray::ArrayD<f32>>, Vec<String>) {
    let mut npz = ndarray_npy::NpzReader::new(fs::File::open(gallery).unwrap()).unwrap();
    let names = [
        "embeddings",
        "svm_weights",
        "svm_bias",
        "calibration",
        "thresholds",
    ];
    let arrays = names.map(|name| npz.by_name(name).unwrap());
    (arrays.to_vec(), sources(gallery))
}

#[test]
fn an_interrupted_enrolment_goes_on_and_ends_as_if_nothing_had_been() {
    let folder = Folder::new();
    let (dataset, output, partial) = interrupted(&folder);
    // The file holds biometric data.
    let mode = fs::metadata(&partial).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // The last line did not reach the disk completely, and a photo has been replaced.
    let mut torn = fs::read(&partial).unwrap();
    torn.extend(&torn[..300].to_vec());
    fs::write(&partial, torn).unwrap();
    folder.photo("biden.jpg", "people/0/1.png");
    let ran = build(&dataset, &output);
    assert!(
        ran.stderr
            .contains("of 10 files are known from an interrupted run"),
        "{}",
        ran.stderr
    );
    let resumed = json(&ran.succeeds());
    assert!(!partial.exists());
    let whole = folder.path("whole.npz");
    let at_once = json(&build(&dataset, &whole).succeeds());
    assert_eq!(arrays(&output), arrays(&whole));
    assert_eq!(resumed["photos"], at_once["photos"]);
    assert_eq!(resumed["calibration"], at_once["calibration"]);
}

#[test]
fn what_an_interrupted_enrolment_left_is_used_only_where_it_fits() {
    let folder = Folder::new();
    let (dataset, output, partial) = interrupted(&folder);
    let left = fs::read(&partial).unwrap();
    let run = |more: &[&str]| {
        let args = ["--dataset", &text(&dataset), "--output", &text(&output)];
        run(&[args.as_slice(), more].concat())
    };
    let other = run(&["--masks", "none"]);
    assert!(
        other
            .stderr
            .contains("other settings (masks); beginning anew"),
        "{}",
        other.stderr
    );
    other.succeeds();
    assert!(!partial.exists());

    let owner_only = |bytes: &[u8]| {
        fs::write(&partial, bytes).unwrap();
        fs::set_permissions(&partial, fs::Permissions::from_mode(0o600)).unwrap();
    };
    owner_only(&left);
    let fresh = run(&["--masks", "none", "--fresh"]);
    assert!(!fresh.stderr.contains("interrupted"), "{}", fresh.stderr);
    fresh.succeeds();

    owner_only(b"a file of somebody else");
    run(&[]).fails(
        1,
        &["gallery.npz.partial is damaged or no file of mfr-enroll"],
    );
    assert_eq!(fs::read(&partial).unwrap(), b"a file of somebody else");
    run(&["--masks", "none", "--fresh"]).succeeds();

    owner_only(&left);
    let other_run = fs::File::open(&partial).unwrap();
    other_run.lock().unwrap();
    run(&["--fresh"]).fails(1, &["another mfr-enroll is at work on this output"]);
    drop(other_run);
    assert_eq!(fs::read(&partial).unwrap(), left);

    fs::set_permissions(&partial, fs::Permissions::from_mode(0o640)).unwrap();
    run(&[]).fails(1, &["others than its owner may read it"]);
}
