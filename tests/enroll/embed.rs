//! `embed`: the embeddings of photos.

use std::fs;

use crate::common::demo_photos;
use crate::helpers::{Folder, command, encoded, ran, run, text};
use image::{ImageFormat, Rgb, RgbImage};

#[test]
fn embeddings_come_with_a_row_for_every_photo() {
    let folder = Folder::new();
    let photo = folder.photo("obama.jpg", "a.jpg");
    let grass = RgbImage::from_pixel(300, 300, Rgb([20, 120, 30]));
    let grass = folder.write("b.png", &encoded(grass, ImageFormat::Png));
    let output = folder.path("o.npz");
    let args = [
        "embed",
        "--output",
        &text(&output),
        &text(&photo),
        &text(&grass),
    ];
    let told = run(&args).succeeds();
    let told = told.strip_prefix(args[2]).unwrap();
    assert_eq!(told, ": a row for each of 2 photos, 1 with a face\n");
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
fn without_a_photo_that_can_be_read_no_embeddings_are_written() {
    let folder = Folder::new();
    let photo = text(&folder.photo("obama.jpg", "a.jpg"));
    let damaged = text(&folder.write("b.jpg", b"Dear Ana"));
    let output = folder.path("o.npz");
    let written = text(&output);
    let says = ["none of 1 photo could be read", "o.npz is not written"];
    run(&["embed", "--output", &written, &damaged]).fails(1, &says);
    assert!(!output.exists());
    let says = ["1 of 2 photos could not be read; the others are in "];
    run(&["embed", "--output", &written, &damaged, &photo]).fails(1, &says);
    assert!(output.exists());
}
