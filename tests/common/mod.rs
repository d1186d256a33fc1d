//! Code shared by several tests.

#![allow(
    dead_code,
    unused_imports,
    reason = "each test program uses a part of this"
)]

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

pub mod skip;
pub use skip::skip;

use gstmfr::detect::Detector;
use gstmfr::frame::geometry::Point;
use gstmfr::frame::image::ImageView;
use gstmfr::gallery::{Contract, Entry, Gallery, Kind};
use gstmfr::nn::SessionOptions;
use gstmfr::pipeline::Pipeline;

/// Initialises GStreamer and registers the elements that were built for this test.
#[cfg(feature = "plugin")]
pub fn init() {
    static ONCE: LazyLock<()> = LazyLock::new(|| {
        gst::init().unwrap();
        gstmfr::plugin_register_static().unwrap();
    });
    LazyLock::force(&ONCE);
}

/// Folder of the photos that `make photos` fetches; the project includes no photo of a person.
pub fn demo_photos() -> PathBuf {
    let folder = match std::env::var_os("MFR_DEMO_PHOTOS") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("target/demo/photos"),
    };
    assert!(
        folder.join("obama.jpg").is_file() && folder.join("astronaut.png").is_file(),
        "no demo photos in {}: run `make photos` (or scripts/fetch.py photos), or set MFR_DEMO_PHOTOS",
        folder.display()
    );
    folder
}

/// Path of a demo photo.
pub fn photo(name: &str) -> String {
    demo_photos().join(name).display().to_string()
}

/// Writes a copy of a demo photo whose only face wears a plain mask; returns the path of the file.
pub fn masked_photo(name: &str, folder: &Path) -> String {
    let mut image = image::open(photo(name)).unwrap().to_rgb8();
    let (width, height) = (image.width() as usize, image.height() as usize);
    let view = ImageView::rgb(&image, width, height).unwrap();
    let mut detector = Detector::built_in(&SessionOptions::default()).unwrap();
    let face = detector.detect(&view, &Default::default()).unwrap()[0];
    let [left, right, _, mouth_left, mouth_right] = face.landmarks.0;
    let middle = |a: Point, b: Point| ((a.x + b.x) / 2.0, (a.y + b.y) / 2.0);
    let (eyes, mouth) = (middle(left, right), middle(mouth_left, mouth_right));
    let down = (mouth.0 - eyes.0, mouth.1 - eyes.1);
    let length = down.0.hypot(down.1);
    for (x, y, pixel) in image.enumerate_pixels_mut() {
        let (x, y) = (x as f32 - eyes.0, y as f32 - eyes.1);
        // In units of the distance from eyes to mouth, and of half the width of the face.
        let v = (x * down.0 + y * down.1) / length.powi(2);
        let u = (x * down.1 - y * down.0) / length / (face.rect.width / 2.0);
        if u.abs() < 0.95 && v > 0.4 + 0.3 * u * u && v < 1.8 - 0.6 * u * u {
            let pleat = (v * 20.0).sin() * 12.0;
            pixel.0 = [150.0, 195.0, 225.0].map(|c| (c + pleat) as u8);
        }
    }
    let path = folder.join("masked.png");
    image.save(&path).unwrap();
    path.display().to_string()
}

/// A gallery of the three people in the demo photos, with one photo each, which is made once.
pub fn gallery() -> &'static Path {
    static GALLERY: LazyLock<(tempfile::TempDir, PathBuf)> = LazyLock::new(|| {
        let mut pipeline = Pipeline::new(None, &SessionOptions::default()).unwrap();
        let people = [
            ("Barack Obama", "obama.jpg"),
            ("Joe Biden", "biden.jpg"),
            ("Eileen Collins", "astronaut.png"),
        ];
        let entries = people.map(|(name, file)| {
            let photo = image::open(photo(file)).unwrap().to_rgb8();
            let (w, h) = (photo.width() as usize, photo.height() as usize);
            let view = ImageView::rgb(&photo, w, h).unwrap();
            let (_, found) = pipeline.faces(&view, &Default::default()).unwrap();
            Entry {
                name: name.into(),
                source: file.into(),
                kind: Kind::Photo,
                embedding: found.embeddings.row(0).to_owned(),
            }
        });
        let contract = Contract::new(pipeline.embedder.model_sha256(), pipeline.embedder.dim());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gallery.npz");
        Gallery::train(entries.into(), contract)
            .unwrap()
            .save(&path)
            .unwrap();
        (folder, path)
    });
    &GALLERY.1
}

/// Asserts that the leaks tracer, whose output this is, found no object left: it first prints the format of its
/// entries, and at the end the objects that are left.
pub fn assert_nothing_left(stderr: &str) {
    let mut lines = stderr
        .lines()
        .filter(|line| line.contains("object-alive, "));
    assert!(lines.next().is_some_and(|line| line.contains("format")));
    assert_eq!(lines.next(), None);
}

/// Folder of the models that are included in the project.
pub fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models")
}

/// Sets the matrix of a QuickTime file to that of a phone held upright, which means a clockwise rotation.
pub fn turned_by_90(file: &[u8]) -> Vec<u8> {
    const ONE: u32 = 1 << 16;
    const MATRIX: [u32; 9] = [0, ONE, 0, ONE.wrapping_neg(), 0, 0, 0, 0, 1 << 30];
    let mut file = file.to_vec();
    let box_name = file.windows(4).position(|w| w == b"tkhd").unwrap();
    // The matrix follows name, version, two dates, track, reserved, duration; reserved, layer, group, volume.
    let matrix = box_name + 4 + 4 + 5 * 4 + 16;
    let values = MATRIX.iter().flat_map(|value| value.to_be_bytes());
    file.splice(matrix..matrix + 36, values);
    file
}

/// A network that only flattens its input, as an ONNX file, whose validity depends on its shape only.
/// A dimension below 0 is dynamic.
pub fn flatten_network(input: &[i64]) -> Vec<u8> {
    let output = [-1, -1];
    let node = [field(1, b"x"), field(2, b"y"), field(4, b"Flatten")].concat();
    let graph = [
        field(1, &node),
        field(2, b"g"),
        field(11, &value(b"x", input)),
        field(12, &value(b"y", &output)),
    ]
    .concat();
    // IR version 8; opset 17 of the default domain.
    [vec![0x08, 8], field(7, &graph), field(8, &[0x10, 17])].concat()
}

/// Bytes that only change the hash of an ONNX file when they are appended: an unknown field.
pub fn unknown_field() -> Vec<u8> {
    field(1000, b"another file")
}

/// A ValueInfoProto: a float32 tensor with these dimensions.
fn value(name: &[u8], dims: &[i64]) -> Vec<u8> {
    let dims: Vec<u8> = dims
        .iter()
        .flat_map(|&dim| match dim {
            ..0 => field(1, &field(2, b"n")),
            _ => field(1, &[vec![0x08], varint(dim as u64)].concat()),
        })
        .collect();
    let tensor = [vec![0x08, 1], field(2, &dims)].concat();
    [field(1, name), field(2, &field(1, &tensor))].concat()
}

/// A protobuf field of bytes.
fn field(number: u64, bytes: &[u8]) -> Vec<u8> {
    [
        varint(number << 3 | 2),
        varint(bytes.len() as u64),
        bytes.to_vec(),
    ]
    .concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// Runs an ignored test of this file in a process of its own, and asserts that GStreamer's tracer reports no object
/// left at the end.
pub fn assert_leaves_nothing(test: &str) {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored"])
        .env("GST_TRACERS", "leaks")
        .env("GST_DEBUG", "GST_TRACER:7")
        .env("GST_DEBUG_NO_COLOR", "1")
        .output()
        .unwrap();
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|o| String::from_utf8_lossy(o));
    assert!(output.status.success(), "{stdout}{stderr}");
    assert!(stdout.contains("1 passed"), "{stdout}");
    assert_nothing_left(&stderr);
}
