//! What share of strangers galleries name, against the share that they were asked for (docs/accuracy.md).
//!
//! ```text
//! cargo run --release -p mfr-tools --bin asked_given -- FACES.npz GALLERY.npz PEOPLE PHOTOS GALLERIES
//! ```
//!
//! FACES.npz holds `embeddings` [N, D] (float32), `labels` [N] (int64, the person), `photos` [N] (int64, the photo of the
//! person) and `kinds` [N] (uint8, 0 bare, 1 a masked copy), from which GALLERIES galleries of PEOPLE people with up to PHOTOS
//! photos each are drawn, and `bare` and `masked` [M, D], strangers. The statistics of faces are those of GALLERY.npz, any gallery
//! of the same network. For each gallery, kind of face and share asked for it prints a line: people, photos, kind, share asked for, share of the strangers
//! named, the logits of the thresholds that the statistics alone give for shares of .1 % and 10 %, and the logit above which
//! the share of these strangers lies.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::ExitCode;

use gstmfr::gallery::{Entry, Gallery, Kind};
use ndarray::{Array1, Array2, ArrayView2, Axis};
use ndarray_npy::NpzReader;

/// Shares of strangers that are asked for.
const ASKED: [f64; 3] = [0.001, 0.01, 0.05];

type Error = Box<dyn std::error::Error>;

struct Faces {
    embeddings: Array2<f32>,
    labels: Array1<i64>,
    photos: Array1<i64>,
    kinds: Array1<u8>,
    /// Bare and masked.
    strangers: [Array2<f32>; 2],
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [faces, like, people, photos, galleries] = &arguments[..] else {
        eprintln!("usage: asked_given FACES.npz GALLERY.npz PEOPLE PHOTOS GALLERIES");
        return ExitCode::from(2);
    };
    match run(faces, like, [people, photos, galleries]) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("asked_given: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(faces: &str, like: &str, numbers: [&String; 3]) -> Result<(), Error> {
    let mut parsed = [0usize; 3];
    for (to, text) in parsed.iter_mut().zip(numbers) {
        let error = |e| format!("{text}: expected a number of people, photos or galleries ({e})");
        *to = text.parse().map_err(error)?;
    }
    let [people, photos, galleries] = parsed;
    let faces = Faces::read(faces).map_err(|error| format!("{faces}: {error}"))?;
    let like = Gallery::load(Path::new(like))?;
    let mut state = (people * 1000 + photos) as u64;
    for _ in 0..galleries {
        let entries = faces.draw(people, photos, &mut state);
        let contract = like.contract().ok_or("the gallery has no contract")?;
        let (mut gallery, _) = like.remade(entries, contract.clone())?;
        for asked in ASKED {
            gallery.calibrate(asked)?;
            for (masked, strangers) in [false, true].into_iter().zip(&faces.strangers) {
                let row = measure(&gallery, asked, masked, strangers.view());
                let [named, rare, common, needed] = row;
                println!(
                    "{people} {photos} {} {asked} {named:.5} {rare:.4} {common:.4} {needed:.4}",
                    u8::from(masked)
                );
            }
        }
    }
    Ok(())
}

/// Share of the strangers named, the thresholds that the statistics give, and the one that would be right, as logits.
fn measure(gallery: &Gallery, asked: f64, masked: bool, strangers: ArrayView2<f32>) -> [f64; 4] {
    let mut best: Vec<f32> = strangers
        .axis_iter(Axis(0))
        .map(|row| gallery.scores(row, masked).into_iter().fold(0.0, f32::max))
        .collect();
    best.sort_by(|a, b| b.total_cmp(a));
    let named = best.partition_point(|&s| s >= gallery.threshold(masked));
    let needed = best[((asked * best.len() as f64) as usize).min(best.len() - 1)];
    // The calibration is a line in what it adds for the share: two points give it.
    let at = |share: f64| {
        let side = gallery.expected(share);
        logit(if masked {
            side.masked.threshold
        } else {
            side.bare.threshold
        })
    };
    let (rare, common) = (at(0.001), at(0.1));
    [
        named as f64 / best.len() as f64,
        rare,
        common,
        logit(needed),
    ]
}

fn logit(similarity: f32) -> f64 {
    let p = f64::from(similarity).clamp(1e-6, 1.0 - 1e-6);
    (p / (1.0 - p)).ln()
}

impl Faces {
    fn read(path: &str) -> Result<Self, Error> {
        let mut npz = NpzReader::new(File::open(path)?)?;
        let faces = Self {
            embeddings: npz.by_name("embeddings")?,
            labels: npz.by_name("labels")?,
            photos: npz.by_name("photos")?,
            kinds: npz.by_name("kinds")?,
            strangers: [npz.by_name("bare")?, npz.by_name("masked")?],
        };
        let rows = faces.embeddings.nrows();
        let dim = faces.embeddings.ncols();
        let fits = [faces.labels.len(), faces.photos.len(), faces.kinds.len()] == [rows; 3]
            && faces
                .strangers
                .iter()
                .all(|s| s.ncols() == dim && s.nrows() > 0);
        if !fits {
            return Err("arrays whose lengths do not belong together".into());
        }
        Ok(faces)
    }

    /// The entries of some people drawn at random, each with some of its photos.
    fn draw(&self, people: usize, photos: usize, state: &mut u64) -> Vec<Entry> {
        let mut rows: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
        for (row, &label) in self.labels.iter().enumerate() {
            rows.entry(label).or_default().push(row);
        }
        let mut everybody: Vec<i64> = rows.keys().copied().collect();
        shuffle(&mut everybody, state);
        let mut entries = Vec::new();
        for label in everybody.into_iter().take(people) {
            let mut own: Vec<i64> = rows[&label].iter().map(|&row| self.photos[row]).collect();
            own.dedup();
            shuffle(&mut own, state);
            own.truncate(photos);
            for &row in rows[&label]
                .iter()
                .filter(|&&row| own.contains(&self.photos[row]))
            {
                let copy = self.kinds[row] != 0;
                entries.push(Entry {
                    name: format!("{label:06}"),
                    source: format!(
                        "{label}/{}{}",
                        self.photos[row],
                        if copy { "#mask:cloth" } else { "" }
                    ),
                    kind: if copy {
                        Kind::SyntheticMask
                    } else {
                        Kind::Photo
                    },
                    embedding: self.embeddings.row(row).to_owned(),
                });
            }
        }
        entries
    }
}

/// Fisher and Yates' shuffle with SplitMix64.
fn shuffle<T>(items: &mut [T], state: &mut u64) {
    for last in (1..items.len()).rev() {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        items.swap(last, ((z ^ (z >> 31)) % (last as u64 + 1)) as usize);
    }
}
