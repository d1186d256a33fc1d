//! Malicious files: a gallery of a few kilobytes must exhaust neither the memory nor the time of the process that
//! opens it.

use std::io::{Cursor, Write};
use std::time::{Duration, Instant};

use gstmfr::gallery::Gallery;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// An array with an arbitrary header.
struct Array {
    name: &'static str,
    descr: &'static str,
    shape: &'static str,
    /// A byte, and its number of repetitions.
    data: (u8, usize),
}

const fn array(
    name: &'static str,
    descr: &'static str,
    shape: &'static str,
    data: (u8, usize),
) -> Array {
    Array {
        name,
        descr,
        shape,
        data,
    }
}

/// The arrays as an .npz file with maximum compression.
fn npz(arrays: &[Array]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    for array in arrays {
        zip.start_file(format!("{}.npy", array.name), options.large_file(true))
            .unwrap();
        let header = format!(
            "{{'descr': '{}', 'fortran_order': False, 'shape': {}, }}\n",
            array.descr, array.shape
        );
        zip.write_all(b"\x93NUMPY\x01\x00").unwrap();
        let length = u16::try_from(header.len()).unwrap();
        zip.write_all(&length.to_le_bytes()).unwrap();
        zip.write_all(header.as_bytes()).unwrap();
        let (byte, mut left) = array.data;
        let block = vec![byte; 1 << 20];
        while left > 0 {
            let part = left.min(block.len());
            zip.write_all(&block[..part]).unwrap();
            left -= part;
        }
    }
    zip.finish().unwrap().into_inner()
}

const ONE_PERSON: [Array; 2] = [
    // The bytes 0x3f3f3f3f are .747 as float32.
    array("embeddings", "<f4", "(1, 4)", (0x3f, 16)),
    array("labels", "|u1", "(1,)", (0, 1)),
];

/// A gallery of these arrays and those of one person.
fn with(arrays: impl IntoIterator<Item = Array>) -> Vec<u8> {
    let mut all: Vec<_> = arrays.into_iter().collect();
    for array in ONE_PERSON {
        if !all.iter().any(|a| a.name == array.name) {
            all.push(array);
        }
    }
    if !all.iter().any(|a| a.name == "names") {
        // "A" in UTF-32 would need different bytes; four zeros are an empty name.
        all.push(array("names", "<U1", "(1,)", (0, 4)));
    }
    npz(&all)
}

/// Peak memory of this process in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM")).unwrap();
    let kilobytes = line.split_whitespace().nth(1).unwrap();
    kilobytes.parse::<u64>().unwrap() * 1024
}

/// Opens all files in one test, one after another, because the peak is that of the process.
#[test]
fn small_files_take_neither_memory_nor_time() {
    Gallery::read(Cursor::new(with([]))).unwrap();
    let files = [
        (
            "text of no length",
            with([array("names", "<U0", "(99999999999,)", (0, 0))]),
        ),
        (
            "text of no length",
            with([array("names", "<U0", "(3000000000,)", (0, 0))]),
        ),
        (
            "rows of no length",
            npz(&[
                array("embeddings", "<f4", "(2000000000, 0)", (0, 0)),
                array("labels", "|u1", "(1,)", (0, 1)),
                array("names", "<U1", "(1,)", (0, 4)),
            ]),
        ),
        (
            "rows of no length, original scripts",
            npz(&[
                array("arr_0", "<f4", "(1000000000000, 0)", (0, 0)),
                array("arr_1", "<U1", "(1,)", (0, 4)),
            ]),
        ),
        (
            "2^60 rows",
            npz(&[
                array("arr_0", "<f4", "(1152921504606846976, 0)", (0, 0)),
                array("arr_1", "<U1", "(1,)", (0, 4)),
            ]),
        ),
        (
            "sizes that overflow",
            with([array(
                "embeddings",
                "<f4",
                "(4294967296, 4294967296)",
                (0, 0),
            )]),
        ),
        (
            "many names",
            with([array("names", "<U1", "(200000000,)", (0, 800_000_000))]),
        ),
        (
            "a long contract",
            with([array(
                "contract",
                "|u1",
                "(900000000,)",
                (b'1', 900_000_000),
            )]),
        ),
        (
            "many kinds",
            with([array("kinds", "|u1", "(900000000,)", (0, 900_000_000))]),
        ),
        (
            "many labels",
            with([array("labels", "|i1", "(900000000,)", (0, 900_000_000))]),
        ),
        (
            "large embeddings",
            with([array(
                "embeddings",
                "<f8",
                "(1, 110000000)",
                (0x3f, 880_000_000),
            )]),
        ),
        (
            "less than promised",
            with([array("contract", "|u1", "(900000000,)", (b'1', 1000))]),
        ),
        (
            "more than promised",
            with([array("contract", "|u1", "(10,)", (b'1', 900_000_000))]),
        ),
        (
            "many people of the original scripts",
            npz(&[
                array("arr_0", "<f4", "(20000, 512)", (0x3f, 20_000 * 512 * 4)),
                array("arr_1", "<U1", "(20000,)", (0, 80_000)),
            ]),
        ),
    ];
    for (what, file) in files {
        assert!(file.len() < 2_000_000, "{what}: {} bytes", file.len());
        let begin = Instant::now();
        let outcome = Gallery::read(Cursor::new(file));
        // The limit is many seconds less than without limits, and sufficient on a computer under load.
        assert!(begin.elapsed() < Duration::from_secs(10), "{what}");
        // A gallery of one person with 20,000 photos may be opened.
        if what != "many people of the original scripts" {
            let error = outcome.unwrap_err().to_string();
            assert!(error.len() < 1000, "{what}: {error}");
        }
        assert!(peak() < 700_000_000, "{what}: {} bytes", peak());
    }
}

#[test]
fn names_of_arrays_reach_no_terminal_as_they_are() {
    let file = npz(&[array("a\u{1b}[31m\nb", "<f4", "(1,)", (0, 4))]);
    let error = Gallery::read(Cursor::new(file)).unwrap_err().to_string();
    assert!(!error.contains(|c: char| c.is_control()), "{error:?}");
    // Nor do what a header says, of which its parser shows a line, and what a contract says.
    let header = "(1, 4), 'a': \u{1b}c";
    let file = with([array("embeddings", "<f4", header, (0x3f, 16))]);
    let error = Gallery::read(Cursor::new(file)).unwrap_err().to_string();
    assert!(error.contains("u{1b}c"), "{error}");
    assert!(!error.contains(|c: char| c.is_control()), "{error:?}");
    let descr = array("labels", "\u{1b}f4", "(1,)", (0, 4));
    let error = Gallery::read(Cursor::new(with([descr])))
        .unwrap_err()
        .to_string();
    assert!(error.contains("u{1b}f4"), "{error}");
    assert!(!error.contains(|c: char| c.is_control()), "{error:?}");
}
