//! Times of training and calibrating a gallery, and of identifying a face with it.
//!
//! ```text
//! cargo bench --bench gallery [PEOPLE [PHOTOS]]
//! ```
//!
//! Embeddings are random: each person is a direction, and each photo the sum of that and a random part, such that
//! photos of a person differ as much as in LFW.

use std::time::Instant;

use gstmfr::gallery::{Contract, Entry, FORMAT, Gallery, Kind};
use ndarray::Array1;

const DIM: usize = 512;

fn main() {
    let numbers: Vec<usize> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    let people = numbers.first().copied().unwrap_or(1000);
    let photos = numbers.get(1).copied().unwrap_or(10);
    let mut state = 1;
    let mut entries = Vec::new();
    for k in 0..people {
        let person = direction(&mut state);
        for i in 0..photos {
            let noise = direction(&mut state);
            entries.push(Entry {
                name: format!("person {k:05}"),
                source: format!("{k}/{i}.jpg"),
                kind: Kind::Photo,
                embedding: &person + &(noise * 0.7),
            });
        }
    }
    let face = entries[0].embedding.clone();
    let contract = Contract {
        format: FORMAT.to_owned(),
        model_sha256: String::new(),
        embedding_dim: DIM,
        preprocessing: String::new(),
        detector: String::new(),
        created: String::new(),
        tool_version: String::new(),
        changed: None,
        enrolment: None,
    };
    println!("{people} people, {photos} photos each");
    let start = Instant::now();
    let mut gallery = Gallery::train(entries, contract).expect("embeddings are sound");
    println!("training      {:8.2} s", start.elapsed().as_secs_f64());
    let start = Instant::now();
    gallery.calibrate(0.01).expect("embeddings are sound");
    println!("calibration   {:8.2} s", start.elapsed().as_secs_f64());
    let mut times: Vec<f64> = (0..101)
        .map(|_| {
            let start = Instant::now();
            std::hint::black_box(gallery.identify(face.view(), false, None));
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!("naming a face {:8.3} ms (median of 101)", times[50]);
}

/// A random direction of unit length (SplitMix64; sums of uniform numbers are close enough to normal).
fn direction(state: &mut u64) -> Array1<f32> {
    let mut uniform = || {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    let values = Array1::from_shape_simple_fn(DIM, || uniform() + uniform() + uniform());
    let length = values.dot(&values).sqrt();
    values / length
}
