//! Networks that are as small as networks of these inputs and outputs can be: what is under test is what happens around
//! them.

use std::path::Path;

use gstmfr::embed::{Embedder, INPUT_SIZE};
use gstmfr::gallery::{Contract, Entry, Gallery, Kind};
use gstmfr::nn::SessionOptions;
use ndarray::Array1;

use crate::writer::{self, Data, Model, Value};

/// Numbers in an embedding of [`facenet`].
pub const DIM: usize = 4;

/// Images of `side`×`side` pixels, and a fully connected layer for each output.
pub fn network(side: usize, widths: &[usize]) -> Vec<u8> {
    let mut m = Model::new([side, side, 3]);
    let x = writer::channels_first(&mut m);
    let identity: Vec<f32> = (0..9).map(|i| f32::from(u8::from(i % 4 == 0))).collect();
    let weights = m.constant(&[3, 3, 1, 1], Data::F32(&identity));
    let x = m.node("Conv", &[&x, &weights], &[]);
    let kernel = [side.min(40) as i64; 2];
    let window = [
        ("kernel_shape", Value::Ints(&kernel)),
        ("strides", Value::Ints(&kernel)),
    ];
    let x = m.node("MaxPool", &[&x], &window);
    let x = m.node("Flatten", &[&x], &[]);
    let features = (side / side.min(40)).pow(2) * 3;
    for &width in widths {
        let weights: Vec<f32> = (0..width * features)
            .map(|i| (i % 7) as f32 * 0.1)
            .collect();
        let weights = m.constant(&[features, width], Data::F32(&weights));
        let y = m.node("Gemm", &[&x, &weights], &[]);
        m.output(&y);
    }
    m.file()
}

/// What stands for FaceNet.
pub fn facenet() -> Vec<u8> {
    network(INPUT_SIZE, &[DIM])
}

pub fn options() -> SessionOptions {
    SessionOptions {
        threads: 1,
        ..SessionOptions::default()
    }
}

/// A contract of galleries that were made with a network of `dim` numbers.
pub fn contract(model_sha256: &str, dim: usize) -> Contract {
    Contract::new(model_sha256, dim)
}

/// Leaves [`facenet`] as `facenet.onnx` in a folder, and beside it a `gallery.npz` of two people.
pub fn with_gallery(folder: &Path) {
    let model = folder.join("facenet.onnx");
    std::fs::write(&model, facenet()).expect("room in memory");
    let embedder = Embedder::from_file(&model, &options(), 0).expect("a sound network");
    let entries = ["Ana", "Bo"]
        .into_iter()
        .enumerate()
        .map(|(person, name)| Entry {
            name: name.into(),
            source: format!("{name}.jpg"),
            kind: Kind::Photo,
            embedding: Array1::from_shape_fn(DIM, |i| if i % 2 == person { 1.0 } else { 0.2 }),
        });
    Gallery::train(entries.collect(), contract(embedder.model_sha256(), DIM))
        .and_then(|gallery| gallery.save(&folder.join("gallery.npz")))
        .expect("a sound gallery");
}
