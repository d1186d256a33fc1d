//! Compares the networks with a plain Python implementation, which tests/golden.json describes.

use std::path::Path;
use std::time::Duration;

use gstmfr::detect::{Detector, Params, REFERENCE_OVERLAP};
use gstmfr::embed::{Embedder, INPUT_SIZE};
use gstmfr::frame::geometry::Rect;
use gstmfr::frame::image::ImageView;
use gstmfr::nn::SessionOptions;
use serde_json::Value;

mod common;

/// A decoded photo: packed RGB, width, height.
fn photo(name: &str) -> (Vec<u8>, usize, usize) {
    let path = common::demo_photos().join(name);
    let photo = image::open(&path).unwrap().to_rgb8();
    let (width, height) = (photo.width() as usize, photo.height() as usize);
    (photo.into_raw(), width, height)
}

fn golden() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f32> {
    let list = value.as_array().unwrap();
    list.iter().map(|v| v.as_f64().unwrap() as f32).collect()
}

#[test]
fn faces_are_found_where_the_reference_finds_them() {
    let mut detector = Detector::built_in(&SessionOptions::default()).unwrap();
    for golden in golden()["detections"].as_array().unwrap() {
        let name = golden["photo"].as_str().unwrap();
        let (data, width, height) = photo(name);
        assert_eq!(width as u64, golden["width"].as_u64().unwrap());
        let view = ImageView::rgb(&data, width, height).unwrap();
        let params = Params {
            min_face_size: golden["min_face_size"].as_u64().unwrap() as u32,
            // Settings of the reference: one threshold of P-Net, more boxes for O-Net, and a single O-Net pass.
            fine_odds: 1.0,
            overlap: REFERENCE_OVERLAP,
            settle: false,
            ..Params::default()
        };
        let found = detector.detect(&view, &params).unwrap();
        let expected = golden["faces"].as_array().unwrap();
        assert_eq!(found.len(), expected.len(), "{name}");
        for expected in expected {
            let b = numbers(&expected["box"]);
            let rect = Rect::from_corners(b[0], b[1], b[2], b[3]);
            let face = found
                .iter()
                .find(|f| f.rect.iou(&rect) > 0.95)
                .unwrap_or_else(|| panic!("{name}: {rect:?} not in {found:?}"));
            let landmarks = expected["landmarks"].as_array().unwrap();
            for (point, expected) in face.landmarks.0.iter().zip(landmarks) {
                let e = numbers(expected);
                let distance = (point.x - e[0]).hypot(point.y - e[1]);
                assert!(distance < 0.02 * rect.width, "{name}: {point:?} {e:?}");
            }
        }
    }
}

#[test]
fn where_a_face_is_found_it_is_seen_there_again() {
    let mut detector = Detector::built_in(&SessionOptions::default()).unwrap();
    let mut overlaps = |settle: bool| -> Vec<f32> {
        let params = Params {
            settle,
            ..Params::default()
        };
        let mut overlaps = Vec::new();
        for golden in golden()["detections"].as_array().unwrap() {
            let (data, width, height) = photo(golden["photo"].as_str().unwrap());
            let view = ImageView::rgb(&data, width, height).unwrap();
            let faces = detector.detect(&view, &params).unwrap();
            let places: Vec<_> = faces.iter().map(|face| face.rect).collect();
            let again = detector.follow(&view, &places).unwrap();
            overlaps.extend(
                places
                    .iter()
                    .zip(again)
                    .map(|(p, f)| f.unwrap().rect.iou(p)),
            );
        }
        overlaps
    };
    let [once, twice] = [false, true].map(|settle| overlaps(settle).iter().sum::<f32>());
    assert!(twice > once, "{twice} {once}");
}

#[test]
fn only_the_smallest_faces_must_be_surer() {
    let mut detector = Detector::built_in(&SessionOptions::default()).unwrap();
    let (data, width, height) = photo("astronaut.png");
    let view = ImageView::rgb(&data, width, height).unwrap();
    let face = detector.detect(&view, &Params::default()).unwrap()[0].rect;
    let mut is_found = |smallest: f32, fine_odds: f32| {
        let params = Params {
            min_face_size: smallest as u32,
            fine_odds,
            ..Params::default()
        };
        !detector.detect(&view, &params).unwrap().is_empty()
    };
    // No network reaches the larger odds.
    assert!(is_found(face.width * 1.5, 1.0) && !is_found(face.width * 1.5, 1e30));
    assert!(is_found(face.width * 0.5, 1e30));
}

#[test]
fn with_little_time_the_likeliest_candidates_are_looked_at() {
    let mut detector = Detector::built_in(&SessionOptions::default()).unwrap();
    let (data, width, height) = photo("astronaut.png");
    let view = ImageView::rgb(&data, width, height).unwrap();
    let all = detector.detect(&view, &Params::default()).unwrap();
    assert_eq!((all.len(), detector.reach()), (1, 1.0));
    let hurried = Params {
        stage_time: Some(Duration::ZERO),
        ..Params::default()
    };
    let mut search = || {
        let found = detector.detect(&view, &hurried).unwrap();
        let reach = detector.reach();
        assert!(reach > 0.0 && reach < 0.5, "{reach}");
        found.iter().any(|face| face.rect.iou(&all[0].rect) > 0.7)
    };
    assert!(search());
    // Other candidates have their turn as well, so the face is not found every time.
    let found = (0..100).filter(|_| search()).count();
    assert!((1..100).contains(&found), "{found}");
}

#[test]
fn embeddings_of_given_crops_are_those_of_the_reference() {
    let side = INPUT_SIZE as i64;
    // Integers computed from integers, so that the pattern is the same in every language.
    let mut pattern = Vec::new();
    for y in 0..side {
        for x in 0..side {
            let ring = ((x - 80).pow(2) + (y - 80).pow(2)) / 40;
            pattern.extend([x * 3 + y, x * y / 8, ring].map(|v| (v % 256) as u8));
        }
    }
    let (data, width, _) = photo("astronaut.png");
    let mut astronaut = Vec::new();
    for y in 40..200 {
        astronaut.extend_from_slice(&data[(y * width + 145) * 3..(y * width + 305) * 3]);
    }
    let model = common::models().join("facenet.onnx");
    let mut embedder = Embedder::from_file(&model, &SessionOptions::default(), 0).unwrap();
    let found = embedder.embed_crops(&[&pattern, &astronaut]).unwrap();
    let found = found.embeddings;
    let golden = golden();
    for (found, golden) in found
        .rows()
        .into_iter()
        .zip(golden["embeddings"].as_array().unwrap())
    {
        let expected = numbers(&golden["embedding"]);
        let cosine: f32 = found.iter().zip(&expected).map(|(a, b)| a * b).sum();
        assert!(cosine >= 0.9999, "{}: {cosine}", golden["crop"]);
    }
}

#[test]
fn a_batch_gives_what_single_faces_give() {
    let (data, width, height) = photo("astronaut.png");
    let view = ImageView::rgb(&data, width, height).unwrap();
    let rects: Vec<_> = (0..5)
        .map(|i| Rect::new(170.0 + i as f32 * 5.0, 50.0, 100.0, 120.0))
        .collect();
    let model = common::models().join("facenet.onnx");
    // With a batch size of two there are three runs, the last one not full.
    let mut embedder = Embedder::from_file(&model, &SessionOptions::default(), 2).unwrap();
    let together = embedder.embed(&view, &rects).unwrap().embeddings;
    for (row, rect) in together.rows().into_iter().zip(&rects) {
        let alone = embedder.embed(&view, &[*rect]).unwrap().embeddings;
        assert!(alone.row(0).dot(&row) > 0.99999);
    }
    assert_eq!(embedder.embed(&view, &[]).unwrap().embeddings.nrows(), 0);
}
