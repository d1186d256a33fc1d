use std::path::Path;

use super::*;
use crate::embed::{INPUT_SIZE, MODEL_FILE};
use crate::runtime::{RuntimeError, Session, SessionOptions, Signature};

fn file() -> Bytes {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    Bytes::from(std::fs::read(path.join(MODEL_FILE)).unwrap())
}

/// Numbers from 0 to 1 that look like chance.
fn noise() -> impl FnMut() -> f32 {
    let mut state = 1u32;
    move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32
    }
}

/// Pictures with edges, slopes and noise at all scales.
fn pictures(count: usize) -> Vec<f32> {
    let mut noise = noise();
    let mut all = Vec::new();
    for picture in 0..count {
        let waves = [0; 6].map(|_| [noise() * 0.3, noise() * 0.3, noise() * 6.0]);
        for y in 0..INPUT_SIZE {
            for x in 0..INPUT_SIZE {
                for colour in 0..3 {
                    let wave = |(i, [a, b, c]): (usize, &[f32; 3])| {
                        let tint = ((i + colour + picture) % 3) as f32 / 3.0;
                        tint * (a * x as f32 + b * y as f32 + c).sin()
                    };
                    let value: f32 = waves.iter().enumerate().map(wave).sum();
                    all.push((value * 0.6 + noise() * 0.2 - 0.1).clamp(-1.0, 1.0));
                }
            }
        }
    }
    all
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn it_says_what_onnx_runtime_makes_of_the_file() {
    let Some(net) = Network::from_onnx(file(), INPUT_SIZE) else {
        eprintln!("skipped: this CPU has no instructions for it");
        return;
    };
    let signature = Signature {
        name: "FaceNet",
        input: &[-1, INPUT_SIZE as i64, INPUT_SIZE as i64, 3],
        outputs: &[&[-1, -1]],
    };
    let session = Session::from_bytes("FaceNet", &file(), &signature, &SessionOptions::default());
    let mut session = match session {
        Err(RuntimeError::LibraryMissing { .. }) => {
            eprintln!("skipped: no ONNX Runtime here");
            return;
        }
        session => session.unwrap(),
    };
    let pictures = pictures(5);
    let own = net.run(1, &pictures);
    let outputs = session
        .run([5, INPUT_SIZE, INPUT_SIZE, 3], &pictures)
        .unwrap();
    let (_, theirs) = outputs.get(0).unwrap();
    for (own, theirs) in own.chunks(net.width()).zip(theirs.chunks(net.width())) {
        let cosine = cosine(own, theirs);
        assert!(cosine > 0.999_99, "{cosine}");
    }
}

#[test]
fn all_instructions_give_the_same() {
    let pictures = pictures(2);
    let mut results = Cpu::all().into_iter().map(|(cpu, _)| {
        let net = Network::for_cpu(file(), INPUT_SIZE, cpu).unwrap();
        net.run(1, &pictures)
    });
    let first = results.next();
    assert!(results.all(|result| Some(&result) == first.as_ref()));
}

#[test]
fn a_face_does_not_depend_on_those_beside_it() {
    let Some(net) = Network::from_onnx(file(), INPUT_SIZE) else {
        return;
    };
    let pictures = pictures(9);
    let singles = |threads: usize| -> Vec<f32> {
        let pictures = pictures.chunks(INPUT_SIZE * INPUT_SIZE * 3);
        pictures.flat_map(|p| net.run(threads, p)).collect()
    };
    let alone = singles(1);
    // From two threads on they share the steps of a picture, unless they have one each.
    assert_eq!(singles(2), alone);
    assert_eq!(singles(5), alone);
    for threads in [1, 2, 5, 20] {
        assert_eq!(net.run(threads, &pictures), alone);
    }
    assert!(net.run(2, &[]).is_empty());
}

#[test]
fn other_networks_are_not_taken() {
    let others: [&[u8]; 3] = [
        b"no ONNX file",
        include_bytes!("../../models/onet.onnx"),
        &file()[..1_000_000],
    ];
    for other in others {
        assert!(Network::from_onnx(Bytes::copy_from_slice(other), INPUT_SIZE).is_none());
    }
}

/// Most are refused; the others are other networks.
#[test]
fn files_with_wrong_bytes_do_no_harm() {
    let whole = file().to_vec();
    let pictures = pictures(1);
    let mut noise = noise();
    let mut below = |limit: usize| (noise() * limit as f32) as usize;
    for _ in 0..200 {
        let mut bytes = whole.clone();
        // Operators come before weights.
        for _ in 0..=below(3) {
            bytes[below(120_000)] = below(256) as u8;
        }
        if let Some(net) = Network::from_onnx(Bytes::from(bytes), INPUT_SIZE) {
            net.run(1, &pictures);
        }
    }
}
