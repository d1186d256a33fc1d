//! Galleries of many people: the times of training, calibrating, writing, changing and reading one, its memory, the time of naming a
//! face, and in how many faces the first candidate is the one of the full score over everybody.
//!
//! ```text
//! cargo bench --bench gallery [PEOPLE [EMBEDDINGS [PROBES]]]
//! ```
//!
//! Faces are synthetic, drawn from the statistics of `models/facenet.onnx`: one bare embedding of each person, the others of
//! the mask. Half the probes show people of the gallery, half strangers, half of each with a mask. Naming a face is timed by
//! the mean CPU time of the thread, so that other work of the computer counts for little.

use std::path::Path;
use std::time::Instant;

use gstmfr::gallery::{
    Contract, Entry, Gallery, Kind, MOST_SVM_PEOPLE, Statistics, SyntheticFaces,
};
use ndarray::Array2;
use sha2::{Digest, Sha256};

/// Faces of a person that no gallery here has so many of.
const PROBE: u64 = 1000;

/// Most people of a gallery that is calibrated and changed here: with more of them that takes minutes.
const MOST_CHANGED: usize = 200_000;

/// Faces that are drawn at once.
const BLOCK: usize = 2000;

fn main() {
    let numbers: Vec<usize> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    let number = |i: usize, default| numbers.get(i).copied().unwrap_or(default);
    let (people, embeddings, probes) = (number(0, 10_000), number(1, 5), number(2, 1000));
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/facenet.onnx");
    let model = Sha256::digest(std::fs::read(model).expect("the model is in the tree"));
    let sha256: String = model.iter().map(|b| format!("{b:02x}")).collect();
    let statistics = Statistics::built_in(&sha256).expect("they are sound");
    let statistics = statistics.expect("they are of this network");
    let faces = SyntheticFaces::of(statistics).expect("they can be inverted");
    let contract = Contract::new(&sha256, faces.draw(0, 1, 0, false).ncols());
    println!("{people} people, {embeddings} embeddings each, SVM up to {MOST_SVM_PEOPLE} people");
    let entries = enrolled(&faces, people, embeddings);
    let start = Since::now();
    let mut gallery = Gallery::train(entries, contract).expect("embeddings are sound");
    start.say("training");
    let is_changed = people <= MOST_CHANGED;
    if is_changed {
        let start = Since::now();
        gallery.calibrate(0.01).expect("embeddings are sound");
        start.say("calibration");
    }
    let file = std::env::temp_dir().join(format!("mfr-bench-{}.npz", std::process::id()));
    let start = Since::now();
    gallery.save(&file).expect("the folder is writable");
    start.say("writing");
    let bytes = std::fs::metadata(&file).map_or(0, |file| file.len());
    drop(gallery);
    if is_changed {
        change(&file, &faces, people as u64);
    }
    let before = resident();
    let start = Since::now();
    let gallery = Gallery::load(&file);
    start.say("reading");
    let _ = std::fs::remove_file(&file);
    let gallery = gallery.expect("it was just written");
    println!("file          {:8.1} MB", bytes as f64 / 1e6);
    println!("memory        {:8.1} MB", (resident() - before) / 1e3);
    println!("thresholds    {:?}", gallery.thresholds());
    for masked in [false, true] {
        for is_known in [true, false] {
            let first = if is_known { 0 } else { people as u64 };
            let probes = (probes / 4).min(people);
            let shown = faces.draw(first, probes, PROBE, masked);
            name(&gallery, &shown, masked, is_known);
        }
    }
}

/// Removes a person from a gallery file and adds another one, without the work on photos.
fn change(file: &Path, faces: &SyntheticFaces, person: u64) {
    for what in ["removing", "adding"] {
        let start = Since::now();
        let gallery = Gallery::load(file).expect("it was just written");
        let mut entries = gallery.entries();
        match what {
            "removing" => entries.retain(|entry| !entry.name.ends_with("0000001")),
            _ => entries.push(Entry {
                name: "somebody new".to_owned(),
                source: "new/1.jpg".to_owned(),
                kind: Kind::Photo,
                embedding: faces.draw(person, 1, 0, false).row(0).to_owned(),
            }),
        }
        let contract = gallery.contract().cloned().expect("it has one");
        let (changed, _) = gallery.remade(entries, contract).expect("they are sound");
        let changed_file = file.with_extension("changed.npz");
        changed.save(&changed_file).expect("the folder is writable");
        let _ = std::fs::remove_file(&changed_file);
        start.say(what);
    }
}

/// One bare embedding of each person, and masked ones.
fn enrolled(faces: &SyntheticFaces, people: usize, embeddings: usize) -> Vec<Entry> {
    let mut entries = Vec::with_capacity(people * embeddings);
    for first in (0..people).step_by(BLOCK) {
        let count = BLOCK.min(people - first);
        for image in 0..embeddings {
            let drawn = faces.draw(first as u64, count, image as u64, image > 0);
            entries.extend(drawn.rows().into_iter().enumerate().map(|(i, row)| {
                let photo = format!("{:07}/1.jpg", first + i);
                let (kind, end) = match image {
                    0 => (Kind::Photo, String::new()),
                    _ => (Kind::SyntheticMask, format!("#mask:{image}")),
                };
                Entry {
                    name: format!("person {:07}", first + i),
                    source: photo + &end,
                    kind,
                    embedding: row.to_owned(),
                }
            }));
        }
    }
    entries
}

/// Names each face, and compares the first candidate with that of the full score over everybody.
fn name(gallery: &Gallery, shown: &Array2<f32>, masked: bool, is_known: bool) {
    let faces: Vec<_> = shown.rows().into_iter().collect();
    let (start, mut named) = (cpu_time(), 0);
    // The time of a thread is known to some milliseconds only.
    while cpu_time() - start < 0.5 {
        for &face in &faces {
            std::hint::black_box(gallery.identify(face, masked, None));
        }
        named += faces.len();
    }
    let milliseconds = (cpu_time() - start) * 1e3 / named as f64;
    let (mut same, mut right) = (0, 0);
    for (i, &face) in faces.iter().enumerate() {
        let found = gallery.identify(face, masked, None);
        let all = gallery.scores(face, masked);
        let best = (0..all.len()).max_by(|&a, &b| all[a].total_cmp(&all[b]).then(b.cmp(&a)));
        same += usize::from(best == Some(found.candidates[0].label));
        right += usize::from(found.label == is_known.then_some(i));
    }
    println!(
        "{} {:9}  {milliseconds:.3} ms, first candidate the same in {same} of {}, answer right in {right}",
        if masked { "masked" } else { "bare  " },
        if is_known { "people" } else { "strangers" },
        faces.len(),
    );
}

/// The time by the clock and the CPU time of all threads.
struct Since {
    start: Instant,
    cpu: f64,
}

impl Since {
    fn now() -> Self {
        Self {
            start: Instant::now(),
            cpu: process_cpu_time(),
        }
    }

    fn say(&self, what: &str) {
        let (time, cpu) = (self.start.elapsed(), process_cpu_time() - self.cpu);
        println!("{what:<13} {:8.2} s, CPU {cpu:.2} s", time.as_secs_f64());
    }
}

/// Seconds of CPU time that all threads have used, at the usual 100 ticks a second.
fn process_cpu_time() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program may contain spaces.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2);
    ticks.filter_map(|t| t.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// Seconds of CPU time that this thread has used.
fn cpu_time() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split_whitespace().next().and_then(|t| t.parse().ok());
    nanoseconds.unwrap_or(0.0) * 1e-9
}

/// Kilobytes of memory in use.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kilobytes.unwrap_or(0.0)
}
