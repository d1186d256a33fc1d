//! The `.partial` file that an interrupted mfr-enroll leaves behind, and what the next run makes of it, to the gallery.
//!
//! An input is the JSON of the file's lines: the hashes before them, which no fuzzer guesses, are added here, save before
//! lines that begin with an exclamation mark. The networks are as small as networks of these inputs and outputs can be.
#![no_main]
#![allow(dead_code, reason = "the program uses all of the modules")]

#[path = "../../src/bin/mfr-enroll/encoding.rs"]
mod encoding;
#[path = "../../src/bin/mfr-enroll/enrol/mod.rs"]
mod enrol;
#[allow(unused_imports, reason = "the program uses all of the modules")]
#[path = "../../src/bin/mfr-enroll/input"]
mod input {
    mod converter;
    pub mod dataset;
    pub mod error;
    mod jpeg;
    pub mod names;
    pub mod peers;
    pub mod photo;
    pub mod source;
}
#[path = "../../src/bin/mfr-enroll/options.rs"]
mod options;
#[path = "../../src/bin/mfr-enroll/vision/mod.rs"]
mod vision;
#[path = "../../src/bin/mfr-enroll/workers.rs"]
mod workers;

/// Messages would be as many as inputs.
mod output {
    use indicatif::{ProgressBar, ProgressDrawTarget};

    pub fn warning(_: &str) {}

    pub fn note(_: &str) {}

    pub fn progress(_: &str, _: usize) -> ProgressBar {
        ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden())
    }

    pub fn counted(count: usize, what: &str) -> String {
        format!("{count} {what}")
    }
}

/// What the program calls itself.
mod people {
    pub const TOOL: &str = "fuzz";
}

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fuzz_targets::Chance;
use fuzz_targets::networks::{self, DIM, network};
use gstmfr::detect::Params;
use gstmfr::gallery::{Entry, Gallery, Kind};
use gstmfr::paint::MaskType;
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use enrol::existing::Outcomes;
use enrol::partial::{FileStamp, Partial, RunSettings};
use enrol::{Keep, enrol};
use input::dataset::{Collection, Item};
use input::source::SourceFile;
use options::{Masks, MinFace, Vision};
use vision::batch::Embedders;

/// Files of the dataset: names, and whose they are.
const FILES: [(&str, usize); 6] = [
    ("Ana/1.jpg", 0),
    ("Ana/2.jpg", 0),
    ("Ana/3.jpg", 0),
    ("Ana/clip.mp4", 0),
    ("Bo/1.jpg", 1),
    ("Bo/2.jpg", 1),
];

/// A dataset whose files nobody can read, so that all that is learned is what the partial file says.
struct Fixture {
    folder: tempfile::TempDir,
    collection: Collection,
    vision: &'static Vision,
    embedders: Embedders<'static>,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("room in memory");
        let models = folder.path().join("models");
        fs::create_dir(&models).expect("room in memory");
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/pnet.onnx");
        fs::copy(own, models.join("pnet.onnx")).expect("a model of this project");
        for (name, side, widths) in [
            ("rnet.onnx", 24, &[4, 2][..]),
            ("onet.onnx", 48, &[4, 10, 2]),
            ("facenet.onnx", 160, &[DIM]),
        ] {
            fs::write(models.join(name), network(side, widths)).expect("room in memory");
        }
        let items = FILES.map(|(name, person)| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a person's folder")).expect("room in memory");
            fs::write(&path, "no photo").expect("room in memory");
            // Part of what is known of a file: the same in every run.
            let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
            File::options()
                .write(true)
                .open(&path)
                .and_then(|file| file.set_modified(then))
                .expect("a file of our own");
            let source = SourceFile::of(&path).expect("a photo or a video by its name");
            Item {
                person,
                name: name.to_owned(),
                source,
                is_enrolled: false,
            }
        });
        let vision: &'static Vision = Box::leak(Box::new(Vision {
            min_face: MinFace::Relative,
            params: Params::default(),
            model: Some(models.join("facenet.onnx")),
            model_path: Some(models),
            session: networks::options(),
            jobs: 1,
        }));
        let embedders = Embedders::load(vision).expect("sound networks");
        assert_eq!(embedders.dim(), DIM);
        Self {
            folder,
            collection: Collection {
                people: ["Ana", "Bo"].map(str::to_owned).into(),
                items: items.into(),
                ..Collection::default()
            },
            vision,
            embedders,
        }
    }

    fn output(&self) -> PathBuf {
        self.folder.path().join("gallery.npz")
    }

    fn partial(&self) -> PathBuf {
        self.folder.path().join("gallery.npz.partial")
    }
}

thread_local! {
    static FIXTURE: Fixture = Fixture::new();
}

fn settings() -> RunSettings {
    RunSettings::from([("masks".to_owned(), "all".to_owned())])
}

const HASH_DIGITS: usize = 16;

/// The file of an input.
fn with_hashes(input: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    for line in input.split(|&b| b == b'\n').filter(|line| !line.is_empty()) {
        match line.strip_prefix(b"!") {
            Some(raw) => file.extend(raw),
            None => {
                let hash = Sha256::digest(line);
                let digits: String = hash
                    .iter()
                    .take(HASH_DIGITS / 2)
                    .map(|b| format!("{b:02x}"))
                    .collect();
                file.extend(digits.as_bytes());
                file.push(b' ');
                file.extend(line);
            }
        }
        file.push(b'\n');
    }
    file
}

/// The input of a file.
fn without_hashes(file: &[u8]) -> Vec<u8> {
    let lines = file
        .split(|&b| b == b'\n')
        .filter_map(|line| line.get(HASH_DIGITS + 1..));
    lines.collect::<Vec<_>>().join(&b'\n')
}

/// What a run would note of a file; there are no photos of people here that it could be found in.
fn seen(embeddings: &[[f32; DIM]], masks: &[&str], thumbnail: bool) -> Value {
    let base64 = |numbers: &[f32; DIM]| {
        let bytes: Vec<u8> = numbers.iter().flat_map(|v| v.to_le_bytes()).collect();
        STANDARD.encode(bytes)
    };
    let thumbnail = thumbnail.then(|| STANDARD.encode(b"a JPEG"));
    let measures =
        json!({"size": 80.5, "brightness": 120.0, "sharpness": 0.3, "yaw": -4.0, "roll": 1.5});
    let faces: Vec<_> = embeddings
        .iter()
        .map(|embedding| {
            let copies: Vec<_> = masks
                .iter()
                .map(|mask| json!({"mask": mask, "embedding": base64(embedding), "thumbnail": thumbnail}))
                .collect();
            json!({
                "is_masked": masks.is_empty(), "embedding": base64(embedding), "copies": copies, "crop": null,
                "portrait": {"measures": measures, "thumbnail": thumbnail},
            })
        })
        .collect();
    let sha256: Vec<u8> = embeddings
        .iter()
        .flatten()
        .flat_map(|v| v.to_le_bytes())
        .chain([7; 32])
        .take(32)
        .collect();
    json!({"Ok": {"faces": faces, "sha256": sha256}})
}

fn refused(reason: &str) -> Value {
    json!({"Err": {"refusal": [reason, "what was found"], "portrait": {"measures": null, "thumbnail": null}}})
}

fn seeds() -> Vec<Vec<u8>> {
    let mask = MaskType::ALL[0].name();
    let photo = |outcome: Value| json!({"shots": [[null, outcome]], "error": null});
    let [ana, like_ana, bo] = [
        [0.9, 0.1, 0.3, 0.3],
        [0.9, 0.2, 0.3, 0.2],
        [0.1, 0.9, -0.3, 0.3],
    ];
    let clip = json!({
        "shots": [
            [{"secs": 1, "nanos": 500_000_000}, seen(&[ana], &[mask], false)],
            [{"secs": 2, "nanos": 0}, refused("blurred")],
            [{"secs": 3, "nanos": 0}, seen(&[bo], &[], false)],
        ],
        "error": "it ends too early",
    });
    let runs = [
        vec![
            (0, photo(seen(&[ana], &[mask, mask], true))),
            (1, photo(seen(&[like_ana], &[mask], false))),
        ],
        vec![
            (2, photo(refused("no_face"))),
            (3, clip),
            (4, photo(seen(&[bo], &[], true))),
        ],
        vec![
            (0, photo(seen(&[ana], &[], false))),
            (1, photo(seen(&[ana, bo], &[mask], false))),
            (4, photo(seen(&[ana], &[], false))),
            (5, photo(refused("several_faces"))),
        ],
    ];
    FIXTURE.with(|fixture| {
        let written = runs.into_iter().map(|run| {
            let mut partial =
                Partial::open(&fixture.output(), settings(), true).expect("room in memory");
            for (number, seen) in run {
                let item = &fixture.collection.items[number];
                let stamp = FileStamp::of(item.source.path()).expect("a file of our own");
                partial.add(&item.name, stamp, &seen);
            }
            let file = fs::read(fixture.partial()).expect("a file that was written");
            partial.remove();
            without_hashes(&file)
        });
        written.collect()
    })
}

/// Changes one value of a line's JSON.
fn mutate(value: &mut Value, chance: &mut Chance) {
    let children = match value {
        Value::Array(all) => all.len(),
        Value::Object(all) => all.len(),
        _ => 0,
    };
    // Mostly further down.
    if children > 0 && chance.below(5) > 0 {
        let number = chance.below(children);
        let child = match value {
            Value::Array(all) => all.get_mut(number),
            Value::Object(all) => all.values_mut().nth(number),
            _ => None,
        };
        if let Some(child) = child {
            return mutate(child, chance);
        }
    }
    match value {
        Value::Array(all) if chance.below(4) > 0 => {
            let number = chance.below(all.len());
            match chance.below(2) {
                0 if !all.is_empty() => drop(all.remove(number)),
                _ => all.extend(all.get(number).cloned()),
            }
        }
        Value::Object(all) if chance.below(4) > 0 => {
            let name = all.keys().nth(chance.below(all.len())).cloned();
            if let Some(name) = name {
                all.remove(&name);
            }
        }
        Value::String(text) if chance.below(2) > 0 => {
            // Numbers of embeddings are mutated as numbers.
            if let Ok(mut bytes) = STANDARD.decode(&*text)
                && bytes.len() >= 4
                && bytes.len() % 4 == 0
            {
                const ODD: [f32; 8] = [0.0, -1.0, 1.0, 1e38, 1e-38, f32::NAN, f32::INFINITY, 0.5];
                let at = chance.below(bytes.len() / 4) * 4;
                bytes[at..at + 4].copy_from_slice(&ODD[chance.below(ODD.len())].to_le_bytes());
                *text = STANDARD.encode(bytes);
            } else {
                let names = FILES.map(|(name, _)| name);
                *text = names[chance.below(names.len())].to_owned();
            }
        }
        _ => {
            *value = match chance.below(8) {
                0 => Value::Null,
                1 => json!(0),
                2 => json!(-1),
                3 => json!(u64::MAX),
                4 => json!(1e300),
                5 => json!(""),
                6 => json!([]),
                _ => json!(chance.below(1 << 20)),
            }
        }
    }
}

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut chance = Chance::new(seed);
    let mut lines: Vec<Vec<u8>> = data[..size]
        .split(|&b| b == b'\n')
        .map(<[u8]>::to_vec)
        .collect();
    let number = chance.below(lines.len());
    let is_changed = match chance.below(10) {
        0 => false,
        1 => {
            lines.push(lines[number].clone());
            true
        }
        2 => {
            lines.remove(number);
            true
        }
        _ => match serde_json::from_slice::<Value>(&lines[number]) {
            Ok(mut value) => {
                mutate(&mut value, &mut chance);
                lines[number] = value.to_string().into_bytes();
                true
            }
            Err(_) => false,
        },
    };
    let changed = lines.join(&b'\n');
    if is_changed && changed.len() <= max_size {
        data[..changed.len()].copy_from_slice(&changed);
        return changed.len();
    }
    fuzzer_mutate(data, size, max_size)
});

/// The gallery of what was learned, as the program makes it.
fn build(fixture: &Fixture, enrolled: enrol::Enrolled) {
    let items = &fixture.collection.items;
    let mut entries = Vec::new();
    for learned in enrolled.learned {
        let name = fixture.collection.people[items[learned.shot.item].person].clone();
        let source = learned.shot.name(items);
        for copy in learned.copies {
            entries.push(Entry {
                name: name.clone(),
                source: format!("{source}#mask:{}", copy.mask.name()),
                kind: Kind::SyntheticMask,
                embedding: copy.embedding,
            });
        }
        entries.push(Entry {
            name,
            source,
            kind: learned.kind,
            embedding: learned.embedding,
        });
    }
    let contract = networks::contract(fixture.embedders.model_sha256(), DIM);
    // Embeddings of nothing but zeros are an error, and so is nobody at all.
    let _ = Gallery::train(entries, contract);
}

fuzz_target!(
    init: fuzz_targets::begin(seeds),
    |input: &[u8]| {
        FIXTURE.with(|fixture| {
            let path = fixture.partial();
            fs::write(&path, with_hashes(input)).expect("room in memory");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a file of our own");
            if let Ok(mut partial) = Partial::open(&fixture.output(), settings(), false) {
                let masks = Masks::default();
                let keep = Keep::default();
                let known = Outcomes::default();
                let enrolled = enrol(&fixture.collection, &fixture.embedders, &masks, keep, Some(&mut partial), known);
                build(fixture, enrolled.expect("files that cannot be read end no run"));
                // What is left can be gone on from.
                drop(partial);
                Partial::open(&fixture.output(), settings(), false).expect("a file that this program wrote");
            }
            fs::remove_file(&path).expect("a file of our own");
        });
    }
);
