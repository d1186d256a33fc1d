//! Cost and effect of not searching every frame in full and not re-embedding every face.
//!
//! ```sh
//! cargo bench --bench video -- [--ids] [--min-face-size N] [CLIP…]    # or the demo's clip
//! MFR_BENCH_DATABASE=g.npz cargo bench --bench video -- clip.mp4
//! cargo bench --bench video -- --live SECONDS [--min-face-size N] PICTURE…
//! ```
//!
//! Every clip is processed by `mfrdetect ! mfrrecognize` with several settings. The first one, every frame in full, is
//! the reference for the others: not a ground truth, but all that the networks can find. `--ids` lists the ids of every
//! setting, to be compared by hand with the people in the clip, and the faces of the first setting that the others
//! miss. Times are from the sink to the source pad of an element, for each frame the median over runs.
//!
//! With `--live` an image is shown by a live source, 1920×1080 at 30 frames per second, to measure how many frames
//! reach the sink, the latency of both elements, and the memory of the process over time.

mod shared;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use gst::prelude::*;
use gstmfr::detect::MIN_FACE_SIZES;
use gstmfr::frame::geometry::Rect;
use gstmfr::plugin::meta::{self, UNKNOWN};
use shared::{cpu, median, path};

const RUNS: usize = 3;
/// Minimum IoU of one face in the same frame of two settings.
const SAME_FACE: f32 = 0.5;
/// Names of the elements in the pipeline.
const ELEMENTS: [&str; 2] = ["mfrdetect", "mfrrecognize"];
/// Frames per second of the live source.
const LIVE_RATE: u32 = 30;
/// Interval between measurements of memory.
const MEMORY_EVERY: Duration = Duration::from_secs(10);

/// Names and values of properties. A property that does not exist in a version of the elements is skipped.
const SETTINGS: [(&str, &[(&str, &str)]); 3] = [
    (
        "every frame",
        &[("inference-interval", "1"), ("reclassify-interval", "1")],
    ),
    ("default", &[]),
    ("every 5th", &[("inference-interval", "5")]),
];

type Error = Box<dyn std::error::Error>;

/// A face in a frame.
struct Observation {
    id: i32,
    /// Box in pixels.
    rect: Rect,
    confidence: f64,
    /// Label of the face; `None` if identification has not been attempted yet.
    name: Option<String>,
}

#[derive(Default)]
struct Frame {
    /// Stream time in seconds.
    time: f64,
    faces: Vec<Observation>,
    /// Time in each of [`ELEMENTS`], in milliseconds.
    spent: [f64; 2],
}

struct Options {
    clips: Vec<PathBuf>,
    database: PathBuf,
    min_face_size: Option<u32>,
    lists_ids: bool,
    /// How long each image is shown by a live source; `None` for clips.
    live: Option<Duration>,
}

fn main() -> ExitCode {
    match parse().and_then(|options| run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("video: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse() -> Result<Options, Error> {
    let mut options = Options {
        clips: Vec::new(),
        database: path("MFR_BENCH_DATABASE", "target/demo/gallery.npz"),
        min_face_size: None,
        lists_ids: false,
        live: None,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            // The argument is added by cargo.
            "--bench" => {}
            "--ids" => options.lists_ids = true,
            "--live" => {
                let seconds = arguments.next().and_then(|n| n.parse().ok());
                let seconds = seconds.filter(|n| *n > 0).ok_or("--live needs seconds")?;
                options.live = Some(Duration::from_secs(seconds));
            }
            "--min-face-size" => {
                let size = arguments.next().and_then(|n| n.parse().ok());
                let size = size.filter(|n| MIN_FACE_SIZES.contains(n));
                let (least, most) = (MIN_FACE_SIZES.start(), MIN_FACE_SIZES.end());
                let expected = || format!("--min-face-size needs {least} to {most} pixels");
                options.min_face_size = Some(size.ok_or_else(expected)?);
            }
            _ if argument.starts_with('-') => {
                return Err(format!("{argument} is not an option").into());
            }
            _ => options.clips.push(argument.into()),
        }
    }
    if options.clips.is_empty() {
        options
            .clips
            .push(path("MFR_BENCH_CLIP", "target/demo/clip.mp4"));
    }
    let all = options.clips.iter().chain([&options.database]);
    if let Some(missing) = all.into_iter().find(|p| !p.is_file()) {
        let missing = missing.display();
        return Err(format!("{missing} is missing; `make demo` makes the demo's files").into());
    }
    Ok(options)
}

fn run(options: &Options) -> Result<(), Error> {
    gst::init()?;
    gstmfr::plugin_register_static()?;
    println!("{}", cpu());
    if let Some(time) = options.live {
        return options
            .clips
            .iter()
            .try_for_each(|picture| live(picture, options, time));
    }
    for clip in &options.clips {
        let films: Vec<_> = SETTINGS
            .iter()
            .map(|(_, properties)| repeat(clip, options, properties))
            .collect::<Result<_, _>>()?;
        println!("\n{}: {} frames", clip.display(), films[0].len());
        let mut rows = vec![Row(
            String::new(),
            SETTINGS.map(|(name, _)| name.to_owned()).into(),
        )];
        rows.extend(about_ids(&films));
        rows.extend(about_times(&films));
        rows.extend(about_agreement(&films));
        for Row(label, cells) in rows {
            let cells: String = cells.iter().map(|c| format!("{c:>24}")).collect();
            println!("{label:40}{cells}");
        }
        if options.lists_ids {
            for ((name, _), film) in SETTINGS.iter().zip(&films) {
                println!("\n{name}");
                list_ids(film);
                list_missing(film, &films[0]);
            }
        }
    }
    Ok(())
}

/// Runs a clip several times; returns the faces of the first run and the medians of the times.
fn repeat(
    clip: &Path,
    options: &Options,
    properties: &[(&str, &str)],
) -> Result<Vec<Frame>, Error> {
    let runs: Vec<_> = (0..RUNS)
        .map(|_| film(clip, options, properties))
        .collect::<Result<_, _>>()?;
    let spent = |i: usize, element: usize| {
        let times = runs.iter().filter_map(|run: &Vec<Frame>| run.get(i));
        median(times.map(|frame| frame.spent[element]).collect())
    };
    let medians: Vec<_> = (0..runs[0].len())
        .map(|i| [spent(i, 0), spent(i, 1)])
        .collect();
    let mut first = runs.into_iter().next().unwrap_or_default();
    for (frame, spent) in first.iter_mut().zip(medians) {
        frame.spent = spent;
    }
    Ok(first)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The data is consistent even if a thread has panicked while holding the lock.
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

/// A pipeline that reads a file, with both elements and these properties.
fn pipeline(
    file: &Path,
    options: &Options,
    properties: &[(&str, &str)],
    line: &str,
) -> Result<gst::Pipeline, Error> {
    let pipeline = gst::parse::launch(line)?
        .downcast::<gst::Pipeline>()
        .map_err(|_| "the launch line is no pipeline")?;
    let by_name = |name| pipeline.by_name(name).ok_or("element is missing");
    // Paths are set as properties, because in the launch line they would need quoting.
    by_name("source")?.set_property("location", file.to_str().ok_or("path is not UTF-8")?);
    let [detect, recognize] = ELEMENTS;
    let database = options.database.to_str().ok_or("path is not UTF-8")?;
    by_name(recognize)?.set_property("database", database);
    if let Some(size) = options.min_face_size {
        by_name(detect)?.set_property("min-face-size", size);
    }
    for element in ELEMENTS {
        let element = by_name(element)?;
        for (name, value) in properties {
            if element.has_property(name) {
                element.set_property_from_str(name, value);
            }
        }
    }
    Ok(pipeline)
}

fn pad(pipeline: &gst::Pipeline, element: &str, name: &str) -> Result<gst::Pad, Error> {
    let element = pipeline.by_name(element).ok_or("element is missing")?;
    Ok(element.static_pad(name).ok_or("pad is missing")?)
}

/// Runs a clip once.
fn film(clip: &Path, options: &Options, properties: &[(&str, &str)]) -> Result<Vec<Frame>, Error> {
    let [detect, recognize] = ELEMENTS;
    let line = format!(
        "filesrc name=source ! decodebin ! {detect} name={detect} \
         ! {recognize} name={recognize} ! fakesink sync=false"
    );
    let pipeline = pipeline(clip, options, properties, &line)?;
    let frames = Arc::new(Mutex::new(Vec::<Frame>::new()));
    for (i, element) in ELEMENTS.into_iter().enumerate() {
        // There is no queue in between, so each frame leaves an element in the thread in which it arrived.
        let came = Arc::new(Mutex::new(Instant::now()));
        let pad = |name| pad(&pipeline, element, name);
        let (entry, exit) = (pad("sink")?, pad("src")?);
        let clock = Arc::clone(&came);
        entry.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            *lock(&clock) = Instant::now();
            gst::PadProbeReturn::Ok
        });
        let frames = Arc::clone(&frames);
        exit.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            let spent = lock(&came).elapsed().as_secs_f64() * 1e3;
            let mut frames = lock(&frames);
            if i == 0 {
                frames.push(Frame::default());
            }
            if let (Some(frame), Some(buffer)) = (frames.last_mut(), info.buffer()) {
                frame.spent[i] = spent;
                if i == 1 {
                    (frame.time, frame.faces) = read(pad, buffer);
                }
            }
            gst::PadProbeReturn::Ok
        });
    }

    play(&pipeline, clip, None)?;
    let frames = std::mem::take(&mut *lock(&frames));
    if frames.is_empty() {
        return Err(format!("{}: there is no frame in it", clip.display()).into());
    }
    Ok(frames)
}

/// Plays until end of stream, or for the given time.
fn play(pipeline: &gst::Pipeline, file: &Path, time: Option<Duration>) -> Result<(), Error> {
    // The reason for a failed start is posted on the bus.
    let _ = pipeline.set_state(gst::State::Playing);
    let bus = pipeline.bus().ok_or("the pipeline has no bus")?;
    let wanted = [
        gst::MessageType::Eos,
        gst::MessageType::Error,
        gst::MessageType::Latency,
    ];
    let end = time.map(|time| Instant::now() + time);
    let mut reported = Instant::now();
    let outcome = loop {
        let now = Instant::now();
        if end.is_some_and(|end| now >= end) {
            break Ok(());
        }
        if end.is_some() && now >= reported {
            println!("  {} MB of memory", memory());
            reported += MEMORY_EVERY;
        }
        let wait = end.map(|end| end.min(reported).saturating_duration_since(now));
        let wait = wait.and_then(|wait| gst::ClockTime::try_from(wait).ok());
        match bus
            .timed_pop_filtered(wait, &wanted)
            .as_ref()
            .map(|m| m.view())
        {
            Some(gst::MessageView::Eos(_)) => break Ok(()),
            Some(gst::MessageView::Error(e)) => {
                break Err(format!("{}: {}", file.display(), e.error()).into());
            }
            // Applications recalculate the latency too, so that the sink waits for elements that take longer.
            Some(gst::MessageView::Latency(_)) => {
                let _ = pipeline.recalculate_latency();
            }
            _ => {}
        }
    };
    pipeline.set_state(gst::State::Null)?;
    outcome
}

/// Resident memory of this process in MB; 0 if the system does not report it.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or_default() / 1024
}

/// Shows an image by a live source for the given time, and prints rates, latency and memory.
fn live(picture: &Path, options: &Options, time: Duration) -> Result<(), Error> {
    println!("\n{}, live", picture.display());
    let [detect, recognize] = ELEMENTS;
    let line = format!(
        "filesrc name=source ! decodebin ! videoconvert ! videoscale \
         ! video/x-raw,format=I420,width=1920,height=1080,pixel-aspect-ratio=1/1 \
         ! imagefreeze is-live=true ! video/x-raw,framerate={LIVE_RATE}/1 \
         ! {detect} name={detect} ! {recognize} name={recognize} \
         ! queue max-size-bytes=0 ! fakesink name=sink sync=true"
    );
    let pipeline = pipeline(picture, options, &[], &line)?;
    let came = Arc::new(Mutex::new(Instant::now()));
    let clock = Arc::clone(&came);
    pad(&pipeline, detect, "sink")?.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        *lock(&clock) = Instant::now();
        gst::PadProbeReturn::Ok
    });
    let spent = Arc::new(Mutex::new(Vec::<f64>::new()));
    let detecting = Arc::new(Mutex::new(Vec::<f64>::new()));
    let (times, clock) = (Arc::clone(&detecting), Arc::clone(&came));
    pad(&pipeline, detect, "src")?.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        lock(&times).push(lock(&clock).elapsed().as_secs_f64() * 1e3);
        gst::PadProbeReturn::Ok
    });
    let faces = Arc::new(Mutex::new(0));
    let (times, most) = (Arc::clone(&spent), Arc::clone(&faces));
    let exit = pad(&pipeline, recognize, "src")?;
    exit.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        lock(&times).push(lock(&came).elapsed().as_secs_f64() * 1e3);
        if let Some(buffer) = info.buffer() {
            let mut most = lock(&most);
            *most = meta::Face::iter(buffer).count().max(*most);
        }
        gst::PadProbeReturn::Ok
    });
    // Times at which frames leave the sink, with their presentation timestamps.
    let left = Arc::new(Mutex::new(Vec::<(Instant, gst::ClockTime)>::new()));
    let times = Arc::clone(&left);
    let sink = pipeline.by_name("sink").ok_or("element is missing")?;
    sink.set_property("signal-handoffs", true);
    sink.connect("handoff", false, move |values| {
        let pts = values.get(1)?.get::<gst::Buffer>().ok()?.pts()?;
        lock(&times).push((Instant::now(), pts));
        None
    });
    play(&pipeline, picture, Some(time))?;

    let left = std::mem::take(&mut *lock(&left));
    let (Some(first), Some(last)) = (left.first(), left.last()) else {
        return Err(format!("{}: no frame came out", picture.display()).into());
    };
    let between = last.0.duration_since(first.0).as_secs_f64();
    let due = (last.1 - first.1).nseconds() as f64 / 1e9 * f64::from(LIVE_RATE) + 1.0;
    println!(
        "  {} frames of {due:.0} in {between:.2} s: {:.2} a second",
        left.len(),
        (left.len() - 1) as f64 / between
    );
    println!("  {} faces at most", lock(&faces));
    for (name, spent) in [("mfrdetect", detecting), ("both elements", spent)] {
        let mut spent = std::mem::take(&mut *lock(&spent));
        spent.sort_by(f64::total_cmp);
        let part = |percent: usize| spent[(spent.len() * percent).div_ceil(100).max(1) - 1];
        let [middle, p99, most] = [50, 99, 100].map(part);
        println!("  {name}, ms: median {middle:.1}, p99 {p99:.1}, most {most:.1}");
    }
    Ok(())
}

/// Reads the stream time in seconds and the faces of a buffer.
fn read(pad: &gst::Pad, buffer: &gst::BufferRef) -> (f64, Vec<Observation>) {
    let segment = pad.sticky_event::<gst::event::Segment>(0);
    let time = segment.and_then(|event| {
        let segment = event.segment().downcast_ref::<gst::ClockTime>()?;
        segment.to_stream_time(buffer.pts())
    });
    let caps = pad.current_caps();
    let info = caps.and_then(|caps| gst_video::VideoInfo::from_caps(&caps).ok());
    let faces = info.map_or_else(Vec::new, |info| {
        meta::faces(buffer, (info.width(), info.height()))
    });
    let observations = faces.into_iter().map(|face| Observation {
        id: face.id,
        rect: face.rect,
        confidence: face.confidence.unwrap_or_default(),
        name: face.identity.map(|identity| identity.label),
    });
    let time = time.unwrap_or_default();
    (time.nseconds() as f64 / 1e9, observations.collect())
}

/// A row of the table: a label, and a cell for each setting.
struct Row(String, Vec<String>);

fn row(label: &str, films: &[Vec<Frame>], cell: impl Fn(&[Frame]) -> String) -> Row {
    Row(label.into(), films.iter().map(|film| cell(film)).collect())
}

/// Summary of all faces with one id.
struct Life {
    first: f64,
    last: f64,
    frames: usize,
    /// Number of frames with each name.
    names: BTreeMap<String, usize>,
    /// Times and boxes, about one per second.
    samples: Vec<(f64, Rect)>,
}

fn lives(film: &[Frame]) -> BTreeMap<i32, Life> {
    let mut lives = BTreeMap::new();
    for frame in film {
        for face in &frame.faces {
            let life = lives.entry(face.id).or_insert_with(|| Life {
                first: frame.time,
                last: frame.time,
                frames: 0,
                names: BTreeMap::new(),
                samples: Vec::new(),
            });
            life.last = frame.time;
            life.frames += 1;
            *life.names.entry(label(&face.name).to_owned()).or_default() += 1;
            if life
                .samples
                .last()
                .is_none_or(|(t, _)| frame.time - t >= 1.0)
            {
                life.samples.push((frame.time, face.rect));
            }
        }
    }
    lives
}

fn label(name: &Option<String>) -> &str {
    name.as_deref().unwrap_or("(not tried)")
}

fn list_ids(film: &[Frame]) {
    for (id, life) in lives(film) {
        let name = life.names.iter().max_by_key(|(_, count)| **count);
        let name = name.map_or("", |(name, _)| name);
        println!(
            "  id {id}: {:.2} to {:.2} s, {} frames, {name}",
            life.first, life.last, life.frames
        );
        let samples = life.samples.iter().map(|(time, r)| {
            let Rect {
                x,
                y,
                width,
                height,
            } = r;
            format!("{time:.1} s {x:.0},{y:.0} {width:.0}×{height:.0}")
        });
        println!("    {}", samples.collect::<Vec<_>>().join("; "));
    }
}

fn about_ids(films: &[Vec<Frame>]) -> Vec<Row> {
    let is_twice = |frame: &&Frame| {
        let mut names: Vec<_> = frame
            .faces
            .iter()
            .filter_map(|f| f.name.as_deref())
            .collect();
        names.retain(|name| *name != UNKNOWN);
        names.sort_unstable();
        names.windows(2).any(|pair| pair[0] == pair[1])
    };
    vec![
        row("faces in all frames", films, |film| faces(film).to_string()),
        row("ids", films, |film| lives(film).len().to_string()),
        row("shortest / longest life of an id, s", films, |film| {
            let lives = lives(film);
            let lengths = lives.values().map(|life| life.last - life.first);
            let shortest = lengths.clone().min_by(f64::total_cmp).unwrap_or(0.0);
            let longest = lengths.max_by(f64::total_cmp).unwrap_or(0.0);
            format!("{shortest:.2} / {longest:.2}")
        }),
        row("frames with a name on two faces", films, |film| {
            film.iter().filter(is_twice).count().to_string()
        }),
    ]
}

fn faces(film: &[Frame]) -> usize {
    film.iter().map(|frame| frame.faces.len()).sum()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn about_times(films: &[Vec<Frame>]) -> Vec<Row> {
    let times = |film: &[Frame], element: usize| -> Vec<f64> {
        film.iter().map(|frame| frame.spent[element]).collect()
    };
    let both = |film: &[Frame]| mean(&times(film, 0)) + mean(&times(film, 1));
    let mut rows: Vec<_> = ELEMENTS
        .iter()
        .enumerate()
        .map(|(i, element)| {
            let label = format!("{element}, ms: mean / median / p99");
            row(&label, films, |film| {
                let mut times = times(film, i);
                times.sort_by(f64::total_cmp);
                let p99 = times[(times.len() * 99).div_ceil(100) - 1];
                format!(
                    "{:.2} / {:.2} / {p99:.2}",
                    mean(&times),
                    median(times.clone())
                )
            })
        })
        .collect();
    rows.push(row("both, ms: mean, share of the first", films, |film| {
        let share = 100.0 * both(film) / both(&films[0]);
        format!("{:.2}, {share:.0} %", both(film))
    }));
    rows
}

/// Matches the faces of a frame with those of the same frame with another setting: greedily by IoU, each face once.
fn pairs(first: &Frame, frame: &Frame) -> Vec<(usize, usize)> {
    let mut pairs: Vec<_> = (first.faces.iter().enumerate())
        .flat_map(|(i, a)| {
            let faces = frame.faces.iter().enumerate();
            faces.map(move |(j, b)| (a.rect.iou(&b.rect), i, j))
        })
        .filter(|(iou, ..)| *iou >= SAME_FACE)
        .collect();
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut best: Vec<(usize, usize)> = Vec::new();
    for (_, i, j) in pairs {
        if best.iter().all(|&(a, b)| a != i && b != j) {
            best.push((i, j));
        }
    }
    best
}

/// Agreement of a setting with the first one, in faces.
#[derive(Default)]
struct Agreement {
    /// Number of faces found at the same place in the same frame.
    matched: usize,
    /// Number of matched faces with the same label.
    same_label: usize,
}

impl Agreement {
    fn of(film: &[Frame], first: &[Frame]) -> Self {
        let mut agreement = Self::default();
        for (frame, first) in film.iter().zip(first) {
            for (i, j) in pairs(first, frame) {
                agreement.matched += 1;
                let is_same = first.faces[i].name == frame.faces[j].name;
                agreement.same_label += usize::from(is_same);
            }
        }
        agreement
    }
}

/// Observations of one id, and which of them a setting misses.
#[derive(Debug, Default)]
struct Missing {
    /// Stream time of each frame in which the first setting has the face, its confidence, and whether it is found.
    observations: Vec<(f64, f64, bool)>,
}

impl Missing {
    /// Collects the observations of each id of the first setting.
    fn of(film: &[Frame], first: &[Frame]) -> BTreeMap<i32, Self> {
        let mut ids: BTreeMap<i32, Self> = BTreeMap::new();
        for (frame, first) in film.iter().zip(first) {
            let pairs = pairs(first, frame);
            for (i, face) in first.faces.iter().enumerate() {
                let is_found = pairs.iter().any(|pair| pair.0 == i);
                let observations = &mut ids.entry(face.id).or_default().observations;
                observations.push((first.time, face.confidence, is_found));
            }
        }
        ids
    }

    /// Numbers of missed faces: all if the id is never found, else those before the first one found, in between, and
    /// after the last one.
    fn counts(&self) -> [usize; 4] {
        let all = self.observations.len();
        let Some(before) = self.observations.iter().position(|s| s.2) else {
            return [all, 0, 0, 0];
        };
        let after = self.observations.iter().rev().take_while(|s| !s.2).count();
        let missed = self.observations.iter().filter(|s| !s.2).count();
        [0, before, missed - before - after, after]
    }
}

fn list_missing(film: &[Frame], first: &[Frame]) {
    for (id, missing) in Missing::of(film, first) {
        let [never, before, between, after] = missing.counts();
        if never + before + between + after == 0 {
            continue;
        }
        let missed = missing.observations.iter().filter(|s| !s.2);
        println!(
            "  misses of id {id}: never {never}, before {before}, between {between}, after {after} \
             of {}; confidence {:.2}, of all its faces {:.2}",
            missing.observations.len(),
            mean(&missed.clone().map(|s| s.1).collect::<Vec<_>>()),
            mean(&missing.observations.iter().map(|s| s.1).collect::<Vec<_>>()),
        );
        let times: Vec<_> = missed.map(|s| format!("{:.2}", s.0)).collect();
        println!("    {}", times.join(" "));
    }
}

fn about_agreement(films: &[Vec<Frame>]) -> Vec<Row> {
    let first = &films[0];
    let share = |part: usize, whole: usize| {
        let share = 100.0 * part as f64 / whole.max(1) as f64;
        format!("{share:.1} % ({part} of {whole})")
    };
    vec![
        row("its faces found here too", films, |film| {
            share(Agreement::of(film, first).matched, faces(first))
        }),
        row("… and labelled the same", films, |film| {
            share(Agreement::of(film, first).same_label, faces(first))
        }),
        row("missed: never, before, between, after", films, |film| {
            let mut sums = [0; 4];
            for missing in Missing::of(film, first).values() {
                for (sum, count) in sums.iter_mut().zip(missing.counts()) {
                    *sum += count;
                }
            }
            sums.map(|sum| sum.to_string()).join(", ")
        }),
        row("labelled the same among those found", films, |film| {
            let agreement = Agreement::of(film, first);
            share(agreement.same_label, agreement.matched)
        }),
        row("faces that it does not have", films, |film| {
            (faces(film) - Agreement::of(film, first).matched).to_string()
        }),
    ]
}
