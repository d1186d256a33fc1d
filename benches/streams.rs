//! Time to the first frame, latency of frames, and memory of many streams in one process.
//!
//! ```sh
//! cargo build --release
//! MFR_BENCH_DATABASE=g.npz cargo bench --bench streams -- CLIP…    # or the demo's clip and gallery
//! ```
//!
//! Start: from the start of `gst-launch-1.0` to the first byte of the first frame after `mfroverlay`, with an existing
//! plugin registry. Latency: at 1280×720, from the sink pad of `mfrdetect` to the source pad of `mfroverlay`, without
//! the first frame; at the clip's own pace, where cores are woken for each frame, and one frame after the other.
//! Memory: peak resident memory of a process that plays several copies of the clip at once, as fast as possible.

mod shared;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use gst::prelude::*;
use shared::pipeline::{launch, quoted, until_end};
use shared::{Error, clips, cpu, median, path};

const STARTS: usize = 11;
const LATENCY_RUNS: usize = 3;
const MEMORY_RUNS: usize = 3;
const STREAMS: [usize; 4] = [1, 2, 4, 8];

/// First argument of a child process that plays streams and prints what they needed. It is followed by the number of
/// streams, the kind of pipeline, and the clip.
const CHILD: &str = "--play";

const DETECT: &str = "mfrdetect name=first";
const IN_FULL: [&str; 2] = [" inference-interval=1", " reclassify-interval=1"];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("streams: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Error> {
    let database = path("MFR_BENCH_DATABASE", "target/demo/gallery.npz");
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, count, kind, clip] = arguments.as_slice()
        && mode == CHILD
    {
        return play(count.parse()?, kind, Path::new(clip), &database);
    }
    println!("{}", cpu());
    for clip in clips([&database])? {
        println!("\n{}", clip.display());
        start(&clip, &database)?;
        latency(&clip, &database)?;
        memory(&clip)?;
    }
    Ok(())
}

/// Launch line of our elements in a row.
fn elements(database: &Path, [detect, recognize]: [&str; 2]) -> Result<String, Error> {
    let database = quoted(database)?;
    Ok(format!(
        "{DETECT}{detect} ! mfrrecognize database={database}{recognize} ! mfroverlay name=last"
    ))
}

fn start(clip: &Path, database: &Path) -> Result<(), Error> {
    // The benchmark is in target/release/deps, the plugin one folder above.
    let own = std::env::current_exe()?;
    let folder = own.ancestors().nth(2).ok_or("the bench has no folder")?;
    if !folder.join("libgstmfr.so").is_file() {
        return Err(format!("{} has no plugin; cargo build --release", folder.display()).into());
    }
    for (what, elements) in [
        ("decoder alone", "identity".to_owned()),
        ("ours", elements(database, [""; 2])?),
    ] {
        let line = format!(
            "filesrc location={} ! decodebin ! {elements} ! fdsink",
            quoted(clip)?
        );
        let mut times = Vec::new();
        // The first run creates the registry.
        for _ in 0..=STARTS {
            let begin = Instant::now();
            let mut process = Command::new("sh")
                .args(["-c", &format!("exec gst-launch-1.0 -q {line}")])
                .env("GST_PLUGIN_PATH", folder)
                .env("GST_REGISTRY", folder.join("streams-bench-registry.bin"))
                .stdout(Stdio::piped())
                .spawn()?;
            let mut frames = process.stdout.take().ok_or("no standard output")?;
            let read = frames.read_exact(&mut [0]);
            times.push(begin.elapsed().as_secs_f64() * 1e3);
            process.kill()?;
            process.wait()?;
            read.map_err(|e| format!("gst-launch-1.0 gave no frame: {e}"))?;
        }
        times.remove(0);
        let (ms, slowest) = (median(times.clone()), quantile(&times, 1.0));
        println!("first frame, {what}: {ms:.0} ms after the start, at most {slowest:.0}");
    }
    Ok(())
}

fn latency(clip: &Path, database: &Path) -> Result<(), Error> {
    init()?;
    for (how, extra) in [("in full", IN_FULL), ("by default", [""; 2])] {
        for (pace, sync) in [("at the clip's pace", true), ("one after the other", false)] {
            let mut times = Vec::new();
            for _ in 0..LATENCY_RUNS {
                times.extend(pass(clip, &elements(database, extra)?, sync)?);
            }
            println!(
                "added to a 720p frame {how}, {pace}: median {:.2} ms, 99th percentile {:.2} ms",
                median(times.clone()),
                quantile(&times, 0.99)
            );
        }
    }
    Ok(())
}

/// Latency of each frame except the first, in milliseconds.
fn pass(clip: &Path, elements: &str, sync: bool) -> Result<Vec<f64>, Error> {
    let pipeline = launch(&format!(
        "filesrc location={} ! decodebin ! videoscale ! video/x-raw,width=1280,height=720,pixel-aspect-ratio=1/1 \
         ! identity sync={sync} ! {elements} ! fakesink sync=false",
        quoted(clip)?
    ))?;
    let pad = |name: &str, pad: &str| {
        let element = pipeline.by_name(name);
        element
            .and_then(|e| e.static_pad(pad))
            .ok_or("a pad is missing")
    };
    // There is no queue in between, so each frame leaves in the thread in which it arrived, before the next one
    // arrives.
    let came = Arc::new(Mutex::new(Instant::now()));
    let times: Arc<Mutex<Vec<f64>>> = Arc::default();
    let clock = Arc::clone(&came);
    pad("first", "sink")?.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        *clock.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        gst::PadProbeReturn::Ok
    });
    let taken = Arc::clone(&times);
    pad("last", "src")?.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        let came = came.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.push(came.elapsed().as_secs_f64() * 1e3);
        gst::PadProbeReturn::Ok
    });
    until_end(&pipeline)?;
    let mut times = times.lock().unwrap_or_else(PoisonError::into_inner);
    if times.len() < 2 {
        return Err("the clip is too short".into());
    }
    Ok(times.split_off(1))
}

fn memory(clip: &Path) -> Result<(), Error> {
    println!(
        "{:36}{:>12}{:>12}{:>24}",
        "streams at once", "frames/s", "peak MB", "MB for each further one"
    );
    for kind in ["decoder alone", "by default", "in full"] {
        let mut first = 0.0;
        for count in STREAMS {
            let (rate, peak) = play_apart(clip, count, kind)?;
            let further = if count == 1 {
                first = peak;
                String::new()
            } else {
                format!("{:.1}", (peak - first) / (count - 1) as f64)
            };
            println!(
                "{:36}{rate:>12.0}{peak:>12.0}{further:>24}",
                format!("{count}, {kind}")
            );
        }
    }
    Ok(())
}

/// Medians of the frames per second of all streams together, and of the peak memory in MB.
fn play_apart(clip: &Path, count: usize, kind: &str) -> Result<(f64, f64), Error> {
    let own: PathBuf = std::env::current_exe()?;
    let (mut rates, mut peaks) = (Vec::new(), Vec::new());
    for _ in 0..MEMORY_RUNS {
        let output = Command::new(&own)
            .args([CHILD, &count.to_string(), kind])
            .arg(clip)
            .stderr(Stdio::inherit())
            .output()?;
        let text = String::from_utf8(output.stdout)?;
        let numbers: Vec<f64> = text
            .split_whitespace()
            .filter_map(|w| w.parse().ok())
            .collect();
        let [rate, peak] = numbers[..] else {
            return Err("a process that played streams failed".into());
        };
        rates.push(rate);
        peaks.push(peak);
    }
    Ok((median(rates), median(peaks)))
}

/// Plays streams, and prints frames per second and peak memory.
fn play(count: usize, kind: &str, clip: &Path, database: &Path) -> Result<(), Error> {
    init()?;
    let ours = match kind {
        "decoder alone" => "identity".to_owned(),
        "in full" => elements(database, IN_FULL)?,
        _ => elements(database, [""; 2])?,
    };
    let clip = quoted(clip)?;
    let line =
        format!("filesrc location={clip} ! decodebin ! {ours} ! fakesink sync=false name=sink");
    let frames = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let begin = Instant::now();
    let play = || -> Result<(), String> {
        let say = |e: Error| e.to_string();
        let pipeline = launch(&line).map_err(say)?;
        let sink = pipeline.by_name("sink").and_then(|s| s.static_pad("sink"));
        let frames = Arc::clone(&frames);
        sink.ok_or("the sink has no pad")?
            .add_probe(gst::PadProbeType::BUFFER, move |_, _| {
                frames.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                gst::PadProbeReturn::Ok
            });
        until_end(&pipeline).map_err(say)
    };
    std::thread::scope(|scope| {
        let streams: Vec<_> = (0..count).map(|_| scope.spawn(play)).collect();
        let end = |stream: std::thread::ScopedJoinHandle<Result<(), String>>| {
            stream
                .join()
                .unwrap_or_else(|_| Err("a stream panicked".into()))
        };
        streams.into_iter().try_for_each(end)
    })?;
    let seconds = begin.elapsed().as_secs_f64();
    let frames = frames.load(std::sync::atomic::Ordering::Relaxed);
    println!("{} {}", frames as f64 / seconds, peak()?);
    Ok(())
}

/// Peak resident memory of this process in MB.
fn peak() -> Result<f64, Error> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let words = line.and_then(|l| l.split_whitespace().next());
    let kilobytes: f64 = words.ok_or("/proc/self/status has no VmHWM")?.parse()?;
    Ok(kilobytes * 1024.0 / 1e6)
}

fn init() -> Result<(), Error> {
    gst::init()?;
    Ok(gstmfr::plugin_register_static()?)
}

/// The quantile for a fraction `part`: the smallest value that this part of all values do not exceed.
fn quantile(values: &[f64], part: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let number = (values.len() as f64 * part).ceil() as usize;
    values[number.clamp(1, values.len()) - 1]
}
