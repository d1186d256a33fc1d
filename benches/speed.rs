//! Frames per second of whole pipelines, from file to `fakesink sync=false`: decoding alone, the original recipe,
//! OpenCV's Haar cascade, and our elements.
//!
//! ```sh
//! cargo bench --bench speed                                        # the demo's clip and gallery
//! MFR_BENCH_DATABASE=g.npz cargo bench --bench speed -- CLIP…
//! MFR_BENCH_PYTHON=venv/bin/python cargo bench --bench speed       # with the original recipe
//! ```
//!
//! All run alternately, round after round, so that other load on the computer affects all of them; each figure is the
//! median of the rounds. The rate of a pipeline is frames divided by the time from the first frame at the sink to the
//! last: it includes decoding and drawing, but not loading. The original recipe is `benches/original.py`, which
//! documents itself and its requirements; it processes every fifth frame in each round, others each time. Haar is the
//! element `facedetect` (Debian package gstreamer1.0-opencv), on the first frames of the clip only. What is not
//! installed is skipped.

mod shared;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gst::prelude::*;
use shared::pipeline::{launch, quoted, until_end};
use shared::{Error, clips, cpu, median, path, tree};

const ROUNDS: usize = 5;

/// Number of frames for the Haar cascade, which processes only a few per second.
const HAAR_FRAMES: usize = 40;

const PYTHON: &str = "MFR_BENCH_PYTHON";

/// How frames are processed.
enum Recipe {
    /// Elements between the decoder and the sink.
    Elements(String),
    Original(Original),
}

struct Row {
    name: String,
    recipe: Recipe,
    /// Frames per second of each round.
    rates: Vec<f64>,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("speed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Error> {
    gst::init()?;
    gstmfr::plugin_register_static()?;
    let database = path("MFR_BENCH_DATABASE", "target/demo/gallery.npz");
    println!("{}", cpu());
    for clip in clips([&database])? {
        side_by_side(&clip, &database)?;
    }
    Ok(())
}

fn side_by_side(clip: &Path, database: &Path) -> Result<(), Error> {
    let mut rows = rows(clip, database)?;
    let mut frames = 0;
    for round in 0..ROUNDS {
        for row in &mut rows {
            let (count, seconds) = match &mut row.recipe {
                Recipe::Elements(elements) => play(clip, elements)?,
                Recipe::Original(original) => original.watch(round)?,
            };
            frames = frames.max(count);
            row.rates.push(count as f64 / seconds);
        }
    }
    println!("\n{}: {} frames", clip.display(), frames + 1);
    let rate = |name: &str| {
        let row = rows.iter().find(|row| row.name == name)?;
        Some(median(row.rates.clone()))
    };
    let measures = [ORIGINAL, HAAR, DECODING].map(rate);
    println!(
        "{:48}{:>10}{:>12}{:>12}{:>12}",
        "", "frames/s", "× original", "× Haar", "× decoding"
    );
    for row in &rows {
        let own = median(row.rates.clone());
        let ratio = |measure: &Option<f64>| match measure {
            Some(measure) => format!("{:>12.2}", own / measure),
            None => format!("{:>12}", "–"),
        };
        let ratios: String = measures.iter().map(ratio).collect();
        println!("{:48}{own:>10.1}{ratios}", row.name);
    }
    Ok(())
}

const DECODING: &str = "decoding alone";
const ORIGINAL: &str = "original recipe";
const HAAR: &str = "Haar cascade (facedetect)";

fn rows(clip: &Path, database: &Path) -> Result<Vec<Row>, Error> {
    let mut rows = Vec::new();
    let mut add = |name: &str, recipe| {
        rows.push(Row {
            name: name.to_owned(),
            recipe,
            rates: Vec::new(),
        })
    };
    add(DECODING, Recipe::Elements("identity".to_owned()));
    match std::env::var_os(PYTHON) {
        Some(python) => add(
            ORIGINAL,
            Recipe::Original(Original::start(Path::new(&python), clip, database)?),
        ),
        None => println!(
            "{ORIGINAL} left out: {PYTHON} names no Python with the packages of \
             benches/original-requirements.txt"
        ),
    }
    if gst::ElementFactory::find("facedetect").is_some() {
        // The element accepts only RGB, and drawing is switched off.
        let elements =
            format!("identity eos-after={HAAR_FRAMES} ! videoconvert ! facedetect display=false");
        add(HAAR, Recipe::Elements(elements));
    } else {
        println!("{HAAR} left out: Debian has the element in gstreamer1.0-opencv");
    }
    let recognize = format!("mfrrecognize database={}", quoted(database)?);
    let full = "inference-interval=1";
    let anew = format!("{recognize} reclassify-interval=1");
    for (how, detect, recognize) in [
        ("by default", String::new(), &recognize),
        ("every frame in full", full.to_owned(), &anew),
        (
            "the same, min-face-size=20",
            format!("{full} min-face-size=20"),
            &anew,
        ),
    ] {
        for (queues, queue) in [("", ""), (", a queue before each", "queue ! ")] {
            let elements =
                format!("{queue}mfrdetect {detect} ! {queue}{recognize} ! {queue}mfroverlay");
            add(&format!("{how}{queues}"), Recipe::Elements(elements));
        }
    }
    Ok(rows)
}

/// Plays a clip; returns the number of frames after the first one, and their time in seconds.
fn play(clip: &Path, elements: &str) -> Result<(usize, f64), Error> {
    let pipeline = launch(&format!(
        "filesrc location={} ! decodebin ! {elements} ! fakesink name=sink sync=false",
        quoted(clip)?
    ))?;
    let sink = pipeline.by_name("sink").and_then(|s| s.static_pad("sink"));
    let seen: Arc<Mutex<(usize, Option<Instant>, Duration)>> = Arc::default();
    let counter = Arc::clone(&seen);
    sink.ok_or("the sink has no pad")?
        .add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            let mut counter = counter.lock().unwrap_or_else(PoisonError::into_inner);
            let (frames, first, last) = &mut *counter;
            let start = *first.get_or_insert_with(Instant::now);
            *frames += 1;
            *last = start.elapsed();
            gst::PadProbeReturn::Ok
        });
    until_end(&pipeline)?;
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    let (frames, _, last) = *seen;
    if frames < 2 {
        return Err(format!("{}: {frames} frames are too few", clip.display()).into());
    }
    Ok((frames - 1, last.as_secs_f64()))
}

/// The original recipe in a separate process, loaded once for all rounds.
struct Original {
    process: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Original {
    fn start(python: &Path, clip: &Path, gallery: &Path) -> Result<Self, Error> {
        let mut process = Command::new(python)
            .args(["-W", "ignore"])
            .args([&tree("benches/original.py"), clip, gallery])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("{PYTHON}, {}: {e}", python.display()))?;
        let orders = process.stdin.take().ok_or("no standard input")?;
        let answers = process.stdout.take().ok_or("no standard output")?;
        let mut original = Self {
            process,
            orders,
            answers: BufReader::new(answers),
        };
        original.answer()?;
        Ok(original)
    }

    /// Processes the frames of a round; returns their number, and their time in seconds.
    fn watch(&mut self, round: usize) -> Result<(usize, f64), Error> {
        writeln!(self.orders, "{round} {ROUNDS}")?;
        let answer = self.answer()?;
        let mut words = answer.split_whitespace();
        let mut word = || words.next().ok_or("original.py says too little");
        Ok((word()?.parse()?, word()?.parse()?))
    }

    fn answer(&mut self) -> Result<String, Error> {
        let mut line = String::new();
        match self.answers.read_line(&mut line)? {
            0 => Err("original.py has ended; above is why".into()),
            _ => Ok(line),
        }
    }
}

impl Drop for Original {
    fn drop(&mut self) {
        // The process exits when its input ends; it is killed in case it hangs.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
