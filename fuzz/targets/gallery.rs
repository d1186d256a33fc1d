//! Gallery files, those of the original scripts included.
//!
//! A zip file holds checksums, which no fuzzer guesses: the mutator takes the archive apart, changes an array in it and
//! puts it together again.
#![no_main]

use std::io::{Cursor, Read, Write};

use fuzz_targets::{Chance, networks};
use gstmfr::gallery::{Entry, Gallery, Kind, NpzWriter};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use ndarray::{Array1, Array2};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

/// Numbers in an embedding of the first inputs.
const DIM: usize = 8;

/// What an archive may unpack to when it is mutated.
const MOST_BYTES: u64 = 1 << 16;

/// Every array that the reader asks for.
const NAMES: [&str; 16] = [
    "embeddings",
    "labels",
    "names",
    "sources",
    "kinds",
    "svm_weights",
    "svm_bias",
    "calibration",
    "thresholds",
    "face_centres",
    "face_projection",
    "face_between",
    "contract",
    "arr_0",
    "arr_1",
    "arr_2",
];

type Members = Vec<(String, Vec<u8>)>;

fn unpack(file: &[u8]) -> Option<Members> {
    let mut archive = ZipArchive::new(Cursor::new(file)).ok()?;
    let mut members = Vec::new();
    for number in 0..archive.len() {
        let Ok(mut member) = archive.by_index(number) else {
            continue;
        };
        let mut bytes = Vec::new();
        // What is read before an error is good enough.
        let _ = (&mut member).take(MOST_BYTES).read_to_end(&mut bytes);
        members.push((member.name().to_owned(), bytes));
    }
    Some(members)
}

fn pack(members: &Members, method: CompressionMethod) -> Option<Vec<u8>> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    for (name, bytes) in members {
        zip.start_file(name, options).ok()?;
        zip.write_all(bytes).ok()?;
    }
    Some(zip.finish().ok()?.into_inner())
}

/// Changes one array, its name, or which there are.
fn mutate(members: &mut Members, chance: &mut Chance) {
    let number = chance.below(members.len());
    let other = chance.below(members.len());
    let name = format!("{}.npy", NAMES[chance.below(NAMES.len())]);
    let kind = chance.below(12);
    let Some((old_name, bytes)) = members.get_mut(number) else {
        members.push((name, Vec::new()));
        return;
    };
    match kind {
        0 => {
            members.remove(number);
        }
        1 => *old_name = name,
        2 => {
            let bytes = bytes.clone();
            members.push((name, bytes));
        }
        3 => {
            let copy = members[other].1.clone();
            members[number].1 = copy;
        }
        // The header alone, which is text.
        4..=7 => {
            let end = bytes
                .iter()
                .position(|&b| b == b'\n')
                .map_or(0, |at| at + 1);
            let mut header = bytes[..end].to_vec();
            header.resize(end + 16, b' ');
            let size = fuzzer_mutate(&mut header, end, end + 16);
            header.truncate(size);
            bytes.splice(..end, header);
        }
        _ => {
            let size = bytes.len();
            bytes.resize(size + 64, 0);
            let size = fuzzer_mutate(bytes, size, size + 64);
            bytes.truncate(size);
        }
    }
}

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut chance = Chance::new(seed);
    if chance.below(16) > 0
        && let Some(mut members) = unpack(&data[..size])
    {
        mutate(&mut members, &mut chance);
        let method = match chance.below(4) {
            0 => CompressionMethod::Deflated,
            _ => CompressionMethod::Stored,
        };
        if let Some(file) = pack(&members, method)
            && file.len() <= max_size
        {
            data[..file.len()].copy_from_slice(&file);
            return file.len();
        }
    }
    fuzzer_mutate(data, size, max_size)
});

fn embedding(person: usize, photo: usize) -> Array1<f32> {
    Array1::from_shape_fn(DIM, |i| {
        f32::from(u8::from(i == person)) + ((i * 7 + photo * 3) % 5) as f32 * 0.05
    })
}

fn seeds() -> Vec<Vec<u8>> {
    let contract = networks::contract(&"0".repeat(64), DIM);
    let kinds = [Kind::Photo, Kind::SyntheticMask, Kind::MaskedPhoto];
    let written = |people: usize, photos: usize| {
        let entries = (0..people * photos).map(|i| Entry {
            name: format!("person {}", i / photos),
            source: format!("{i}.jpg"),
            kind: kinds[i % photos % kinds.len()],
            embedding: embedding(i / photos, i % photos),
        });
        let gallery = Gallery::train(entries.collect(), contract.clone()).expect("a sound gallery");
        let mut file = Cursor::new(Vec::new());
        gallery.write(&mut file).expect("memory to write to");
        file.into_inner()
    };
    // As the original scripts write it.
    let legacy = {
        let mut npz = NpzWriter::new(Cursor::new(Vec::new()));
        let rows = Array2::from_shape_fn((4, DIM), |(row, i)| embedding(row / 2, row % 2)[i]);
        npz.numbers("arr_0", &rows)
            .and_then(|()| npz.texts("arr_1", &["Ana", "Ana", "Bo", "Bo"]))
            .and_then(|()| npz.numbers("arr_2", &rows))
            .and_then(|()| npz.texts("arr_3", &["Ana", "Ana", "Bo", "Bo"]))
            .expect("memory to write to");
        npz.finish().expect("memory to write to").into_inner()
    };
    // Without an SVM, which is trained when the file is opened, and with statistics of faces.
    let mut bare = unpack(&written(3, 2)).expect("a sound archive");
    bare.retain(|(name, _)| !name.starts_with("svm"));
    let mut rich = unpack(&written(2, 3)).expect("a sound archive");
    let statistics = {
        let mut npz = NpzWriter::new(Cursor::new(Vec::new()));
        let projection = Array2::from_shape_fn((DIM, 3), |(i, j)| f32::from(u8::from(i == j)));
        npz.numbers("face_centres", &Array2::<f32>::zeros((2, DIM)))
            .and_then(|()| npz.numbers("face_projection", &projection))
            .and_then(|()| npz.numbers("face_between", &Array1::from_elem(3, 0.5f32)))
            .expect("memory to write to");
        npz.finish().expect("memory to write to").into_inner()
    };
    rich.extend(unpack(&statistics).expect("a sound archive"));
    vec![
        written(1, 1),
        written(2, 3),
        written(5, 1),
        legacy,
        pack(&bare, CompressionMethod::Deflated).expect("memory to write to"),
        pack(&rich, CompressionMethod::Stored).expect("memory to write to"),
    ]
}

fuzz_target!(
    init: fuzz_targets::begin(seeds),
    |input: &[u8]| {
        let gallery = match Gallery::read(Cursor::new(input)) {
            Ok(gallery) => gallery,
            Err(error) => {
                // What goes to a terminal.
                assert!(!error.to_string().contains('\u{1b}'), "{error:?}");
                return;
            }
        };
        let dim = gallery.embeddings().ncols();
        let probe = Array1::from_elem(dim, 1.0 / (dim as f32).sqrt());
        for masked in [false, true] {
            let found = gallery.identify(probe.view(), masked, None);
            assert!((0.0..=1.0).contains(&found.similarity), "{found:?}");
            assert!((0.0..=1.0).contains(&found.confidence), "{found:?}");
        }
        let mut file = Cursor::new(Vec::new());
        gallery.write(&mut file).expect("memory to write to");
        file.set_position(0);
        let again = Gallery::read(file).expect("what was written can be read");
        assert!(again == gallery, "a gallery changes when it is written and read");
    }
);
