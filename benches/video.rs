//! What it costs and what it changes that not every frame is searched in full and not every face is
//! embedded anew.
//!
//! ```sh
//! cargo bench --bench video -- [--ids] [--min-face-size N] [CLIP…]    # or the demo's clip
//! MFR_BENCH_DATABASE=g.npz cargo bench --bench video -- clip.mp4
//! ```
//!
//! Every clip goes through `mfrdetect ! mfrrecognize` with several settings. The first, every frame in
//! full, is what the others are compared with: it is no truth, only all that the networks see. `--ids`
//! lists the ids of every setting, for people to compare with who is in the clip. Times are those
//! between the sink and the source pad of an element, of each frame the median over runs.

mod shared;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use gst::prelude::*;
use gstmfr::detect::MIN_FACE_SIZES;
use gstmfr::geometry::Rect;
use gstmfr::plugin::meta::{self, UNKNOWN};
use shared::{cpu, median, path};

const RUNS: usize = 3;
/// Least intersection over union of one face in the same frame of two settings.
const SAME_FACE: f32 = 0.5;
/// The elements, as they are called in the pipeline.
const ELEMENTS: [&str; 2] = ["mfrdetect", "mfrrecognize"];

/// Names and values of properties. A version that lacks one is measured as it is.
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
struct Sight {
    id: i32,
    /// Pixels.
    rect: Rect,
    /// None where nobody has tried yet.
    name: Option<String>,
}

#[derive(Default)]
struct Frame {
    /// Seconds of stream time.
    time: f64,
    faces: Vec<Sight>,
    /// Milliseconds in each of [`ELEMENTS`].
    spent: [f64; 2],
}

struct Options {
    clips: Vec<PathBuf>,
    database: PathBuf,
    min_face_size: Option<u32>,
    lists_ids: bool,
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
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            // cargo's own.
            "--bench" => {}
            "--ids" => options.lists_ids = true,
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
            }
        }
    }
    Ok(())
}

/// Runs a clip several times: the faces of the first run, the medians of the times.
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
    // Whatever a thread has written before it panicked is whole.
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

/// Runs a clip once.
fn film(clip: &Path, options: &Options, properties: &[(&str, &str)]) -> Result<Vec<Frame>, Error> {
    let [detect, recognize] = ELEMENTS;
    let pipeline = gst::parse::launch(&format!(
        "filesrc name=source ! decodebin ! {detect} name={detect} \
         ! {recognize} name={recognize} ! fakesink sync=false"
    ))?
    .downcast::<gst::Pipeline>()
    .map_err(|_| "the launch line is no pipeline")?;
    let by_name = |name| pipeline.by_name(name).ok_or("element is missing");
    // As properties, and not in the launch line, paths need no quoting.
    by_name("source")?.set_property("location", clip.to_str().ok_or("path is not UTF-8")?);
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

    let frames = Arc::new(Mutex::new(Vec::<Frame>::new()));
    for (i, element) in ELEMENTS.into_iter().enumerate() {
        // No queue between: a frame leaves an element in the thread in which it came.
        let came = Arc::new(Mutex::new(Instant::now()));
        let pad = |name| by_name(element)?.static_pad(name).ok_or("pad is missing");
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

    // Why it cannot start is on the bus.
    let _ = pipeline.set_state(gst::State::Playing);
    let bus = pipeline.bus().ok_or("the pipeline has no bus")?;
    let end = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = bus.timed_pop_filtered(gst::ClockTime::NONE, &end);
    pipeline.set_state(gst::State::Null)?;
    if let Some(gst::MessageView::Error(e)) = message.as_ref().map(|m| m.view()) {
        return Err(format!("{}: {}", clip.display(), e.error()).into());
    }
    let frames = std::mem::take(&mut *lock(&frames));
    if frames.is_empty() {
        return Err(format!("{}: there is no frame in it", clip.display()).into());
    }
    Ok(frames)
}

/// Stream time in seconds, and the faces.
fn read(pad: &gst::Pad, buffer: &gst::BufferRef) -> (f64, Vec<Sight>) {
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
    let sights = faces.into_iter().map(|face| Sight {
        id: face.id,
        rect: face.rect,
        name: face.identity.map(|identity| identity.label),
    });
    let time = time.unwrap_or_default();
    (time.nseconds() as f64 / 1e9, sights.collect())
}

/// A label and a cell for each setting.
struct Row(String, Vec<String>);

fn row(label: &str, films: &[Vec<Frame>], cell: impl Fn(&[Frame]) -> String) -> Row {
    Row(label.into(), films.iter().map(|film| cell(film)).collect())
}

/// What is known of an id.
struct Life {
    first: f64,
    last: f64,
    frames: usize,
    /// How often it had each name.
    names: BTreeMap<String, usize>,
    /// Time and box, about one each second.
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

/// How a setting compares with the first one, in faces.
#[derive(Default)]
struct Agreement {
    /// Found in the same place of the same frame.
    matched: usize,
    /// Of these, with the same label.
    same_label: usize,
}

impl Agreement {
    fn of(film: &[Frame], first: &[Frame]) -> Self {
        let mut agreement = Self::default();
        for (frame, first) in film.iter().zip(first) {
            let mut pairs: Vec<_> = (first.faces.iter().enumerate())
                .flat_map(|(i, a)| {
                    let faces = frame.faces.iter().enumerate();
                    faces.map(move |(j, b)| (a.rect.iou(&b.rect), i, j))
                })
                .filter(|(iou, ..)| *iou >= SAME_FACE)
                .collect();
            // The best pair first; each face once.
            pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
            let (mut taken, mut given) = (Vec::new(), Vec::new());
            for (_, i, j) in pairs {
                if taken.contains(&i) || given.contains(&j) {
                    continue;
                }
                taken.push(i);
                given.push(j);
                agreement.matched += 1;
                let is_same = first.faces[i].name == frame.faces[j].name;
                agreement.same_label += usize::from(is_same);
            }
        }
        agreement
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
        row("labelled the same among those found", films, |film| {
            let agreement = Agreement::of(film, first);
            share(agreement.same_label, agreement.matched)
        }),
        row("faces that it does not have", films, |film| {
            (faces(film) - Agreement::of(film, first).matched).to_string()
        }),
    ]
}
