//! Files of other programs with embeddings, and what `mfr-enroll import` makes of them.
//!
//! The first byte of an input chooses the format: plain JSON, Hailo's, or the index of DL Streamer.
#![no_main]
#![allow(dead_code, reason = "the program uses all of the modules")]

#[path = "../../src/bin/mfr-enroll/exchange/mod.rs"]
mod exchange;
#[path = "../../src/bin/mfr-enroll/new_folder.rs"]
mod new_folder;

use std::path::Component;

use anyhow::Result;
use fuzz_targets::networks;
use gstmfr::gallery::{Contract, Entry, Kind};
use libfuzzer_sys::fuzz_target;
use ndarray::arr1;

use exchange::{Exchanged, dlstreamer, hailo, json};

/// Numbers in an embedding of the first inputs.
const DIM: usize = 3;

fn entries() -> Vec<Entry> {
    let entry = |name: &str, source: &str, kind, embedding: [f32; DIM]| Entry {
        name: name.into(),
        source: source.into(),
        kind,
        embedding: arr1(&embedding),
    };
    vec![
        entry("Ana", "Ana/1.jpg", Kind::Photo, [0.6, 0.8, 0.0]),
        entry("Ana", "Ana/1.jpg#mask:n95", Kind::SyntheticMask, [0.5, 0.7, 0.1]),
        entry("Bo", "Bo/2.mp4#t=0.50", Kind::MaskedPhoto, [-0.1, 0.2, 0.9]),
    ]
}

type Write = fn(&mut Vec<u8>, &[Entry], &Contract) -> std::io::Result<()>;

fn written(write: Write, entries: &[Entry], contract: &Contract) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes, entries, contract).expect("memory to write to");
    bytes
}

fn seeds() -> Vec<Vec<u8>> {
    let contract = networks::contract(&"0".repeat(64), DIM);
    let seed = |format: u8, bytes: &[u8]| [&[format], bytes].concat();
    vec![
        seed(0, &written(json::write, &entries(), &contract)),
        seed(0, br#"{"Ana": [[0.6, 0.8, 0.0], [0.5, 0.7, 0.1]], "Bo": [1, 0, 0]}"#),
        seed(1, &written(hailo::write, &entries(), &contract)),
        seed(2, br#"{"Ana": {"features": ["features/Ana_0.tensor", "a/../b"]}}"#),
        seed(2, br#"[{"name": "Ana", "features": ["features/0_0.tensor", "/etc/b"]}]"#),
    ]
}

/// What can be read and is sound is the same after it was written and read.
fn text(read: fn(&[u8]) -> Result<Exchanged>, write: Write, input: &[u8]) {
    let Ok(found) = read(input) else { return };
    let Ok(dim) = found.check() else { return };
    let contract = found.contract.clone();
    let contract = contract.unwrap_or(networks::contract(&"0".repeat(64), dim));
    // A gallery has the embeddings of a person one after another.
    let mut entries = found.entries;
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let again = read(&written(write, &entries, &contract)).expect("what was written can be read");
    assert!(again.entries == entries, "embeddings change when they are written and read");
    assert!(again.contract == Some(contract), "the contract changes");
}

fn index(input: &[u8]) {
    let people = dlstreamer::parse_index(input).unwrap_or_default();
    for path in people.iter().flat_map(|(_, features)| features) {
        if let Ok(inside) = dlstreamer::inside(path) {
            let is_plain = |part: Component| matches!(part, Component::Normal(_) | Component::CurDir);
            assert!(inside.components().all(is_plain), "{path:?}");
            assert!(!inside.as_os_str().is_empty());
        }
    }
}

fuzz_target!(
    init: fuzz_targets::begin(seeds),
    |input: &[u8]| {
        let Some((format, input)) = input.split_first() else { return };
        match format % 3 {
            0 => text(json::read, json::write, input),
            1 => text(hailo::read, hailo::write, input),
            _ => index(input),
        }
    }
);
