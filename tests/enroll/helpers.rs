//! Runs the program, and makes the files that it is run on.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use crate::common::demo_photos;
use assert_cmd::Command;
use image::{DynamicImage, ImageFormat};
use serde_json::Value;
use tempfile::TempDir;

/// A folder that is deleted after the test.
pub struct Folder(pub TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Writes a demo photo under another name.
    pub fn photo(&self, photo: &str, name: &str) -> PathBuf {
        self.write(name, &fs::read(demo_photos().join(photo)).unwrap())
    }

    /// Writes photos of three people, one of whom has two.
    pub fn dataset(&self) -> PathBuf {
        self.photo("obama.jpg", "people/Barack Obama/1.jpg");
        self.photo("obama2.jpg", "people/Barack Obama/2.jpg");
        self.photo("biden.jpg", "people/Joe Biden/1.jpg");
        self.photo("astronaut.png", "people/Eileen Collins/1.png");
        self.path("people")
    }

    /// Makes a gallery of [`Folder::dataset`].
    pub fn gallery(&self) -> PathBuf {
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

pub fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// Result of a run of the program.
pub struct Ran {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    #[track_caller]
    pub fn succeeds(self) -> String {
        assert_eq!(self.status, 0, "{}\n{}", self.stdout, self.stderr);
        self.stdout
    }

    /// Asserts this exit status, and that standard error contains all of these texts.
    #[track_caller]
    pub fn fails(self, status: i32, says: &[&str]) -> String {
        assert_eq!(self.status, status, "{}\n{}", self.stdout, self.stderr);
        for said in says {
            assert!(self.stderr.contains(said), "{said:?} in: {}", self.stderr);
        }
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self.stdout
    }
}

pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mfr-enroll"));
    command.args(args);
    command
}

pub fn ran(command: &mut Command) -> Ran {
    let output = command.output().unwrap();
    Ran {
        status: output.status.code().expect("ended by a signal"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

pub fn run(args: &[&str]) -> Ran {
    ran(&mut command(args))
}

pub fn build(dataset: &Path, output: &Path) -> Ran {
    run(&[
        "build",
        "--json",
        "--dataset",
        &text(dataset),
        "--output",
        &text(output),
    ])
}

pub fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap()
}

/// The objects that `identify --json` prints for these files.
pub fn identify(args: &[&str]) -> Vec<Value> {
    let args = [&["identify", "--json"], args].concat();
    run(&args).succeeds().lines().map(json).collect()
}

/// Path and reason of every rejected file in a report.
pub fn rejected(report: &Value) -> Vec<(&str, &str)> {
    let list = report["rejected"].as_array().unwrap();
    list.iter()
        .map(|r| (r["path"].as_str().unwrap(), r["reason"].as_str().unwrap()))
        .collect()
}

pub fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

pub fn astronaut() -> DynamicImage {
    image::open(demo_photos().join("astronaut.png")).unwrap()
}

/// A dataset with three photos of a person and one of another person, and a person under two names.
pub fn odd_dataset(folder: &Folder) -> PathBuf {
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
pub fn texts(list: &Value) -> Vec<&str> {
    let list = list.as_array().unwrap();
    list.iter().map(|text| text.as_str().unwrap()).collect()
}

pub fn sources(gallery: &Path) -> Vec<String> {
    let file = std::io::BufReader::new(fs::File::open(gallery).unwrap());
    let gallery = gstmfr::gallery::Gallery::read(file).unwrap();
    gallery.sources().to_vec()
}
