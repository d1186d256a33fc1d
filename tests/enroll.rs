//! End-to-end tests of `mfr-enroll`: exit status, standard output and standard error.

mod common;

use std::fs;
use std::io::Cursor;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use common::{demo_photos, flatten_network, models};
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use serde_json::Value;
use tempfile::TempDir;

/// A folder that is deleted after the test.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Writes a demo photo under another name.
    fn photo(&self, photo: &str, name: &str) -> PathBuf {
        self.write(name, &fs::read(demo_photos().join(photo)).unwrap())
    }

    /// Writes photos of three people, one of whom has two.
    fn dataset(&self) -> PathBuf {
        self.photo("obama.jpg", "people/Barack Obama/1.jpg");
        self.photo("obama2.jpg", "people/Barack Obama/2.jpg");
        self.photo("biden.jpg", "people/Joe Biden/1.jpg");
        self.photo("astronaut.png", "people/Eileen Collins/1.png");
        self.path("people")
    }

    /// Makes a gallery of [`Folder::dataset`].
    fn gallery(&self) -> PathBuf {
        let output = self.path("gallery.npz");
        run(&[
            "--dataset",
            &text(&self.dataset()),
            "--output",
            &text(&output),
        ])
        .succeeds();
        output
    }
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// Result of a run of the program.
struct Ran {
    status: i32,
    stdout: String,
    stderr: String,
}

impl Ran {
    #[track_caller]
    fn succeeds(self) -> String {
        assert_eq!(self.status, 0, "{}\n{}", self.stdout, self.stderr);
        self.stdout
    }

    /// Asserts this exit status, and that standard error contains all of these texts.
    #[track_caller]
    fn fails(self, status: i32, says: &[&str]) -> String {
        assert_eq!(self.status, status, "{}\n{}", self.stdout, self.stderr);
        for said in says {
            assert!(self.stderr.contains(said), "{said:?} in: {}", self.stderr);
        }
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self.stdout
    }
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mfr-enroll"));
    command.args(args);
    command
}

fn ran(command: &mut Command) -> Ran {
    let output = command.output().unwrap();
    Ran {
        status: output.status.code().expect("ended by a signal"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn run(args: &[&str]) -> Ran {
    ran(&mut command(args))
}

fn build(dataset: &Path, output: &Path) -> Ran {
    run(&[
        "build",
        "--json",
        "--dataset",
        &text(dataset),
        "--output",
        &text(output),
    ])
}

fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap()
}

/// The objects that `identify --json` prints for these files.
fn identify(args: &[&str]) -> Vec<Value> {
    let args = [&["identify", "--json"], args].concat();
    run(&args).succeeds().lines().map(json).collect()
}

/// Path and reason of every rejected file in a report.
fn rejected(report: &Value) -> Vec<(&str, &str)> {
    let list = report["rejected"].as_array().unwrap();
    list.iter()
        .map(|r| (r["path"].as_str().unwrap(), r["reason"].as_str().unwrap()))
        .collect()
}

fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn astronaut() -> DynamicImage {
    image::open(demo_photos().join("astronaut.png")).unwrap()
}

// Building

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

/// A dataset with three photos of a person and one of another person, and a person under two names.
fn odd_dataset(folder: &Folder) -> PathBuf {
    for (photo, name) in [
        ("obama.jpg", "Barack Obama/1.jpg"),
        ("obama2.jpg", "Barack Obama/2.jpg"),
        ("obama3.jpg", "Barack Obama/3.jpg"),
        ("astronaut.png", "Barack Obama/wrong.png"),
        ("biden.jpg", "Joe Biden/1.jpg"),
    ] {
        folder.photo(photo, &format!("odd/{name}"));
    }
    // Brightened, so that it is not the same file.
    let biden = image::open(demo_photos().join("biden.jpg")).unwrap();
    let copy = encoded(biden.brighten(5), ImageFormat::Png);
    folder.write("odd/Joseph Biden/copy.png", &copy);
    folder.path("odd")
}

/// The strings of an array in a report.
fn texts(list: &Value) -> Vec<&str> {
    let list = list.as_array().unwrap();
    list.iter().map(|text| text.as_str().unwrap()).collect()
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

// Checking

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
}

#[test]
fn an_output_that_cannot_be_written_is_said_before_the_work() {
    let folder = Folder::new();
    let dataset = folder.path("gone");
    build(&dataset, &folder.path("no/o.npz")).fails(1, &["cannot write", "no/o.npz"]);
    build(&dataset, folder.0.path()).fails(1, &["cannot write", "expected a file, found a folder"]);
}

// Photos

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
fn embeddings_come_with_a_row_for_every_photo() {
    let folder = Folder::new();
    let photo = folder.photo("obama.jpg", "a.jpg");
    let grass = RgbImage::from_pixel(300, 300, Rgb([20, 120, 30]));
    let grass = folder.write("b.png", &encoded(grass, ImageFormat::Png));
    let output = folder.path("o.npz");
    run(&[
        "embed",
        "--output",
        &text(&output),
        &text(&photo),
        &text(&grass),
    ])
    .succeeds();
    let mut npz = ndarray_npy::NpzReader::new(fs::File::open(output).unwrap()).unwrap();
    let embeddings: ndarray::Array2<f32> = npz.by_name("embeddings").unwrap();
    let length: f32 = embeddings.row(0).iter().map(|v| v * v).sum();
    // The tolerance covers float32 rounding of 512 squares.
    assert!((length - 1.0).abs() < 1e-4);
    assert!(embeddings.row(1).iter().all(|v| v.is_nan()));
    let boxes: ndarray::Array2<f32> = npz.by_name("boxes").unwrap();
    assert_eq!(boxes.shape(), [2, 4]);
    assert!(boxes[[0, 2]] > 40.0 && boxes[[1, 2]] == 0.0);
    let confidences: ndarray::Array1<f32> = npz.by_name("confidences").unwrap();
    assert!(confidences[0] > 0.9);
}

// Videos

/// Clips that GStreamer makes from the demo photos.
#[cfg(feature = "plugin")]
mod videos {
    use super::*;
    use gst::prelude::*;

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
        run(&["identify", &text(&video)]).fails(1, &["b.mp4: it is a video"]);
    }
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

// Masks

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

// Masked copies and thresholds

fn sources(gallery: &Path) -> Vec<String> {
    let file = std::io::BufReader::new(fs::File::open(gallery).unwrap());
    let gallery = gstmfr::gallery::Gallery::read(file).unwrap();
    gallery.sources().to_vec()
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

// Evaluation

#[test]
fn an_evaluation_counts_the_known_and_the_unknown() {
    let folder = Folder::new();
    let gallery = folder.gallery();
    folder.photo("obama3.jpg", "probes/Barack Obama/3.jpg");
    let grass = RgbImage::from_pixel(300, 300, Rgb([20, 120, 30]));
    folder.write(
        "probes/Joe Biden/none.png",
        &encoded(grass, ImageFormat::Png),
    );
    folder.photo("astronaut.png", "strangers/1.png");
    let args = [
        "evaluate",
        "--json",
        "--database",
        &text(&gallery),
        "--probes",
        &text(&folder.path("probes")),
        "--unknown",
        &text(&folder.path("strangers")),
    ];
    let figures = json(&run(&args).succeeds());
    assert_eq!(figures["probes"], 2);
    assert_eq!(figures["detected"], 1);
    assert_eq!(figures["rank1"], 0.5);
    // The "stranger" is enrolled, with this very photo, so no probe is more similar.
    assert_eq!(figures["tpir_at_fpir"]["0.01"], 0.0);
    let by_mask = &figures["by_mask"];
    assert_eq!(by_mask["without_mask"]["detected"], 1);
    assert_eq!(by_mask["without_mask"]["rank1"], 1.0);
    assert_eq!(by_mask["with_mask"]["probes"], 0);
    assert_eq!(figures["confusions"].as_array().unwrap().len(), 0);
    let table = run(&args[..4]).fails(2, &["--probes"]);
    assert_eq!(table, "");
}

// Galleries

#[test]
fn a_gallery_that_is_none_is_named_by_every_command_that_reads_one() {
    let folder = Folder::new();
    let photo = text(&demo_photos().join("obama.jpg"));
    let whole = fs::read(folder.gallery()).unwrap();
    let noise: Vec<u8> = (0u32..4096)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    folder.write("empty.npz", b"");
    folder.write("cut.npz", &whole[..whole.len() / 2]);
    folder.write("noise.npz", &noise);
    folder.write("photo.npz", &fs::read(&photo).unwrap());
    let probes = text(&folder.path("people"));
    for name in ["gone.npz", "empty.npz", "cut.npz", "noise.npz", "photo.npz"] {
        let database = text(&folder.path(name));
        let says = [database.as_str()];
        let out = run(&["identify", "--database", &database, &photo]).fails(1, &says);
        assert_eq!(out, "", "{name}");
        run(&["list", "--database", &database]).fails(1, &says);
        run(&["check", "--database", &database]).fails(1, &says);
        run(&["evaluate", "--database", &database, "--probes", &probes]).fails(1, &says);
    }
}

#[test]
fn a_gallery_of_another_model_is_refused() {
    let folder = Folder::new();
    let photo = text(&demo_photos().join("obama.jpg"));
    let dataset = text(&folder.dataset());
    // The same network in another file, and a network whose embedding is the image itself.
    let mut facenet = fs::read(models().join("facenet.onnx")).unwrap();
    facenet.extend(common::unknown_field());
    let others = [
        folder.write("retrained.onnx", &facenet),
        folder.write("flat.onnx", &flatten_network(&[-1, 160, 160, 3])),
    ];
    for model in others {
        let database = text(&model.with_extension("npz"));
        let model = text(&model);
        run(&[
            "--dataset",
            &dataset,
            "--output",
            &database,
            "--model",
            &model,
        ])
        .succeeds();
        run(&[
            "identify",
            "--database",
            &database,
            "--model",
            &model,
            &photo,
        ])
        .succeeds();
        run(&["identify", "--database", &database, &photo]).fails(1, &[&database, "model"]);
    }
}

// Models

#[test]
fn models_that_are_missing_or_something_else_are_named() {
    let folder = Folder::new();
    let photo = text(&folder.photo("obama.jpg", "a.jpg"));
    let output = text(&folder.path("o.npz"));
    let embed = |model: &Path| {
        let args = [
            "embed",
            "--model",
            &text(model),
            "--output",
            &output,
            &photo,
        ];
        run(&args)
    };
    embed(&folder.path("gone.onnx")).fails(1, &["gone.onnx", "No such file"]);
    let facenet = fs::read(models().join("facenet.onnx")).unwrap();
    let cut = folder.write("cut.onnx", &facenet[..facenet.len() / 2]);
    embed(&cut).fails(1, &["cut.onnx is not a network that can be loaded"]);
    embed(&folder.write("text.onnx", b"Dear Ana")).fails(1, &["text.onnx is not a network"]);
    let says = ["rnet.onnx is not FaceNet", "[-1, 24, 24, 3]"];
    embed(&models().join("rnet.onnx")).fails(1, &says);
    // One has channels first, the other a batch size fixed to one.
    for shape in [[-1, 3, 160, 160], [1, 160, 160, 3]] {
        let wrong = folder.write("wrong.onnx", &flatten_network(&shape));
        let found = format!("{shape:?}");
        let says = ["wrong.onnx is not FaceNet", "it has the inputs", &found];
        embed(&wrong).fails(1, &says);
    }
    assert!(!folder.path("o.npz").exists());

    let args = ["identify", "--model-path", &text(folder.0.path()), &photo];
    run(&args).fails(1, &["pnet.onnx", "No such file"]);
    let pnet = text(&folder.photo("obama.jpg", "pnet.onnx"));
    run(&args).fails(1, &[&pnet, "is not a network"]);
    run(&["identify", "--device", "cuda:0", &photo]).fails(1, &["cuda:0"]);
}

#[test]
fn without_onnx_runtime_the_message_says_what_to_do() {
    let photo = text(&demo_photos().join("obama.jpg"));
    let folder = Folder::new();
    let output = text(&folder.path("o.npz"));
    // Only ONNX Runtime can run this network.
    let model = text(&folder.write("flat.onnx", &flatten_network(&[-1, 160, 160, 3])));
    let embed = || command(&["embed", "--output", &output, "--model", &model, &photo]);
    let gone = ran(embed().env("ORT_DYLIB_PATH", "/gone/libonnxruntime.so"));
    gone.fails(
        1,
        &["ORT_DYLIB_PATH names /gone/libonnxruntime.so", "unset it"],
    );
    let text_file = folder.write("libonnxruntime.so", b"Dear Ana");
    let says = ["libonnxruntime.so cannot be used as ONNX Runtime 1.17 or newer"];
    ran(embed().env("ORT_DYLIB_PATH", text_file)).fails(1, &says);

    // ONNX Runtime is not required either where it would be of no use.
    let cut = text(&folder.write("cut.onnx", b"Dear Ana"));
    let mut embed = command(&["embed", "--output", &output, "--model", &cut, &photo]);
    let ran = ran(embed.env("ORT_DYLIB_PATH", "/gone/libonnxruntime.so"));
    ran.fails(1, &["cut.onnx is not a network", "no whole ONNX file"]);
}

#[test]
fn faces_are_embedded_without_onnx_runtime_on_every_cpu() {
    let folder = Folder::new();
    let photo = text(&demo_photos().join("obama.jpg"));
    for cpu in ["", "scalar"] {
        let output = folder.path(&format!("{cpu}.npz"));
        let mut embed = command(&["embed", "--output", &text(&output), &photo]);
        embed.env("ORT_DYLIB_PATH", "/gone/libonnxruntime.so");
        ran(embed.env("MFR_CPU", cpu)).succeeds();
        assert!(output.exists());
    }
}

#[test]
fn an_instruction_set_or_engine_that_is_not_known_is_named() {
    let photo = text(&demo_photos().join("obama.jpg"));
    let identify =
        |variable: &str, value: &str| ran(command(&["identify", &photo]).env(variable, value));
    identify("MFR_CPU", "mmx").fails(1, &["MFR_CPU is \"mmx\"; expected one of scalar, "]);
    let says = ["MFR_ENGINE is \"tpu\"; expected own or onnxruntime"];
    identify("MFR_ENGINE", "tpu").fails(1, &says);
    identify("MFR_CPU", "scalar").succeeds();
}

#[test]
fn an_engine_that_is_asked_for_and_cannot_run_a_network_is_an_error() {
    let folder = Folder::new();
    let photo = text(&demo_photos().join("obama.jpg"));
    let output = text(&folder.path("o.npz"));
    let model = text(&folder.write("flat.onnx", &flatten_network(&[-1, 160, 160, 3])));
    let embed = || command(&["embed", "--output", &output, "--model", &model, &photo]);
    let says = [
        "MFR_ENGINE is \"own\"",
        "flat.onnx",
        "Flatten",
        "channels come last",
    ];
    ran(embed().env("MFR_ENGINE", "own")).fails(1, &says);
    let mut forced = command(&["identify", &photo]);
    forced.env("ORT_DYLIB_PATH", "/gone/libonnxruntime.so");
    let says = ["ORT_DYLIB_PATH names /gone/libonnxruntime.so"];
    ran(forced.env("MFR_ENGINE", "onnxruntime")).fails(1, &says);
}

#[test]
fn the_networks_are_told_with_what_runs_them() {
    let folder = Folder::new();
    let files = ["pnet", "rnet", "onet", "facenet", "mask"]
        .map(|name| text(&models().join(format!("{name}.onnx"))));
    let flat = text(&folder.write("flat.onnx", &flatten_network(&[-1, 160, 160, 3])));
    let mut args = vec!["model", "--json"];
    args.extend(files.iter().map(String::as_str));
    let told = run(&args).succeeds();
    let told: Vec<Value> = told
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let roles: Vec<_> = told.iter().map(|line| &line["role"]).collect();
    assert_eq!(
        roles,
        ["P-Net", "R-Net", "O-Net", "FaceNet", "mask network"]
    );
    for line in &told {
        assert_eq!(line["refusals"], Value::Array(Vec::new()), "{line}");
        assert!(
            line["engine"].is_string() && line["sha256"].is_string(),
            "{line}"
        );
    }

    // A network that the built-in kernels do not support, without ONNX Runtime; a text file; a missing file.
    let text_file = text(&folder.write("text.onnx", b"Dear Ana"));
    let gone = text(&folder.path("gone.onnx"));
    let mut model = command(&["model", "--json", &flat, &text_file, &gone]);
    let told = ran(model.env("ORT_DYLIB_PATH", "/gone/libonnxruntime.so"));
    assert_eq!((told.status, &*told.stderr), (1, ""));
    let told: Vec<Value> = told
        .stdout
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(told.len(), 3);
    assert!(told.iter().all(|line| line["engine"].is_null()));
    assert_eq!(told[0]["role"], "FaceNet");
    assert_eq!(told[0]["refusals"][0]["op"], "Flatten");
    let reasons: Vec<_> = told
        .iter()
        .map(|line| line["reason"].as_str().unwrap())
        .collect();
    assert!(reasons[1].contains("no whole ONNX file"), "{reasons:?}");
    assert!(reasons[2].contains("No such file"), "{reasons:?}");
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
fn a_library_planted_in_a_folder_above_the_program_is_not_loaded() {
    // The folder is in the target folder, because a hard link cannot refer to another file system. A symbolic link
    // would be followed, and a copy might still be open for writing in a child process of another test.
    let folder = Folder(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap());
    for planted in ["tools", "target/onnxruntime", "lib/gst-plugin-mfr"] {
        folder.write(&format!("{planted}/libonnxruntime.so.99"), b"Dear Ana");
    }
    let program = folder.path("tools/mfr-enroll");
    fs::hard_link(env!("CARGO_BIN_EXE_mfr-enroll"), &program).unwrap();

    let photo = text(&demo_photos().join("obama.jpg"));
    let output = text(&folder.path("o.npz"));
    // Only ONNX Runtime can run this network. The source tree's library is loaded, if there is one.
    let model = text(&folder.write("flat.onnx", &flatten_network(&[-1, 160, 160, 3])));
    let mut embed = Command::new(&program);
    embed.args(["embed", "--output", &output, "--model", &model, &photo]);
    let ran = ran(embed.env_remove("ORT_DYLIB_PATH"));
    assert!(
        !ran.stderr.contains("libonnxruntime.so.99"),
        "{}",
        ran.stderr
    );
    assert!(
        ran.status == 0 || ran.stderr.contains("was not found"),
        "{}",
        ran.stderr
    );
}

#[test]
fn an_onnx_runtime_that_is_too_old_is_refused_with_its_version() {
    let folder = Folder::new();
    let source = folder.write("old.c", OLD_RUNTIME.as_bytes());
    let library = folder.path("libonnxruntime.so.1.10.0");
    let compiler = std::process::Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .status();
    if !compiler.is_ok_and(|status| status.success()) {
        common::skip("no C compiler `cc` to make an old ONNX Runtime with");
        return;
    }
    let photo = text(&demo_photos().join("obama.jpg"));
    let output = text(&folder.path("o.npz"));
    let model = text(&folder.write("flat.onnx", &flatten_network(&[-1, 160, 160, 3])));
    let mut embed = command(&["embed", "--output", &output, "--model", &model, &photo]);
    let ran = ran(embed.env("ORT_DYLIB_PATH", &library));
    ran.fails(1, &["1.10.0", "1.17 or newer"]);
}

/// A library that answers like ONNX Runtime 1.10 if a later API is requested.
const OLD_RUNTIME: &str = r#"
    struct base { const void *(*api)(unsigned); const char *(*version)(void); };
    static const void *api(unsigned version) { return 0; }
    static const char *version(void) { return "1.10.0"; }
    static const struct base base = { api, version };
    const struct base *OrtGetApiBase(void) { return &base; }
"#;

// Usage

#[test]
fn wrong_usage_ends_with_status_2_and_names_the_argument() {
    run(&["--dataset", "d"]).fails(2, &["--output"]);
    run(&["identify"]).fails(2, &["<IMAGE|DIR>"]);
    run(&["check"]).fails(2, &["--dataset"]);
    run(&["check", "--dataset", "d", "--database", "g.npz"]).fails(2, &["--database"]);
    let wrong = |flag: &str, value: &str, says: &str| {
        run(&["identify", flag, value, "a.jpg"]).fails(2, &[flag, says]);
    };
    wrong("--min-face-size", "5", "expected 12 to 10000 pixels");
    wrong("--onet-threshold", "1.5", "expected a number from 0 to 1");
    wrong(
        "--scale-factor",
        "NaN",
        "expected a number from 0.1 to 0.95",
    );
    wrong(
        "--inference-region",
        "1,2,3",
        "has 3 numbers, expected four",
    );
    wrong("--device", "gpu", "expected cpu, cuda");
    wrong("--jobs", "9999", "a whole number from 0 to 1024");
    run(&["mask", "a.jpg", "--output", "o", "--masks", "black,scarf"]).fails(
        2,
        &[
            "--masks",
            "no mask is called \"scarf\"; expected one of surgical",
        ],
    );
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
