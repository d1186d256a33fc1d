//! Says who is in front of any number of cameras, as lines of JSON.
//!
//! ```text
//! cargo run --release --example mfr-watch -- --database gallery.npz rtsp://192.168.1.20/stream \
//!     /dev/video0 | jq 'select(.event == "identified") | .identity.label'
//! ```
//!
//! A line is printed whenever somebody appears, is identified, changes or leaves; with `--frames`
//! for each frame. Keys are those of DL Streamer's `gvametaconvert`, and `event`, `time`. Each source
//! has a pipeline of its own, so that one may fail and come back; all share the models.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use clap::Parser;
use gst::prelude::*;
use gst::{ClockTime, glib};
use gstmfr::Message;
use gstmfr::detect::{DEFAULT_MIN_FACE_SIZE, MIN_FACE_SIZES};
use gstmfr::plugin::message::FaceNews;
use gstmfr::plugin::meta::{self, Face};
use serde_json::{Map, Value, json};

/// How often a waiting thread looks whether it is to stop.
const POLL: ClockTime = ClockTime::from_mseconds(100);

/// The wait before a lost source is connected again; doubles up to the last until it gives frames.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(30);

/// How long the frames that are under way may take to their end.
const DRAIN: ClockTime = ClockTime::from_seconds(2);

/// Milliseconds of a network stream that may come out of order; rtspsrc's own 2 s are for films.
const JITTER: u32 = 200;

/// Say who is in front of cameras or in videos, as lines of JSON on standard output.
///
/// Network sources and cameras are watched in real time: frames that come faster than they are
/// worked on are dropped. When they fail, end or stall they are connected again. Files are read from
/// end to end.
///
/// Exit status: 0 done or interrupted, 1 failed, 2 wrong usage.
#[derive(Parser)]
#[command(name = "mfr-watch", version)]
struct Options {
    /// Video files, URIs (rtsp://…, https://…) and cameras (/dev/video0)
    #[arg(value_name = "SOURCE", required = true)]
    sources: Vec<String>,

    /// The gallery that mfr-enroll has made
    #[arg(long, value_name = "FILE.npz")]
    database: String,

    /// Print every frame in place of events
    #[arg(long)]
    frames: bool,

    /// Shortest side of the smallest face looked for, in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = DEFAULT_MIN_FACE_SIZE, value_parser = min_face_size)]
    min_face_size: u32,

    /// Similarity from which a face is named, instead of the gallery's
    #[arg(long, value_name = "0…1", value_parser = similarity)]
    threshold: Option<f64>,

    /// A network source or camera without a frame for so long has stalled
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    stall: u64,
}

fn min_face_size(text: &str) -> Result<u32, String> {
    let size = text.parse().ok().filter(|n| MIN_FACE_SIZES.contains(n));
    let (least, most) = (MIN_FACE_SIZES.start(), MIN_FACE_SIZES.end());
    size.ok_or_else(|| format!("expected {least} to {most} pixels"))
}

fn similarity(text: &str) -> Result<f64, String> {
    let similarity = text.parse().ok().filter(|s| (0.0..=1.0).contains(s));
    similarity.ok_or_else(|| "expected a number from 0 to 1".into())
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        // Each source has told its reason when it failed.
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            tell(format_args!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Prints on standard error, unless that is closed too, over which `eprintln!` would panic.
fn tell(message: std::fmt::Arguments) {
    let _ = writeln!(io::stderr(), "mfr-watch: {message}");
}

/// Whether all sources went well.
fn run(options: &Options) -> anyhow::Result<bool> {
    gst::init()?;
    // The plugin is in this program. Where it is installed, this line and the crate are not needed.
    gstmfr::plugin_register_static()?;
    let sources: Vec<_> = options
        .sources
        .iter()
        .map(|source| Source::parse(source))
        .collect::<Result<_, _>>()?;

    let output = Arc::new(Output::default());
    const SIGINT: i32 = 2;
    const SIGTERM: i32 = 15;
    for signal in [SIGINT, SIGTERM] {
        let output = Arc::clone(&output);
        glib_unix::unix_signal_add(signal, move || {
            // Who presses Ctrl-C again means it: a reader that is stuck is not waited for.
            if output.is_stopped() {
                std::process::exit(1);
            }
            output.stop();
            glib::ControlFlow::Continue
        });
    }
    let all_well = thread::scope(|scope| {
        let watch = |source| watch(source, options, &output);
        let watchers: Vec<_> = sources
            .iter()
            .map(|source| {
                scope.spawn(move || {
                    let end = watch(source);
                    end.map_err(|error| tell(format_args!("{}: {error:#}", source.name)))
                })
            })
            .collect();
        // Signals are delivered by the main context.
        while watchers.iter().any(|watcher| !watcher.is_finished()) {
            while glib::MainContext::default().iteration(false) {}
            thread::sleep(POLL.into());
        }
        let mut ends = watchers.into_iter().map(|watcher| watcher.join());
        ends.all(|end| matches!(end, Ok(Ok(()))))
    });
    output.finish()?;
    Ok(all_well)
}

/// Where a video comes from.
struct Source {
    uri: String,
    /// What is shown of it: what the user wrote, without a password.
    name: String,
    /// Ends of its own; anything else goes on for ever, if need be after another attempt.
    is_file: bool,
}

impl Source {
    fn parse(source: &str) -> anyhow::Result<Self> {
        let is_uri = source.contains("://");
        let uri = if is_uri {
            source.to_owned()
        } else {
            // GStreamer's own message for a missing file names a URI, with every space as %20.
            let path = Path::new(source).canonicalize();
            let path = path.with_context(|| source.to_owned())?;
            match path.to_str() {
                Some(path) if path.starts_with("/dev/") => format!("v4l2://{path}"),
                _ => glib::filename_to_uri(&path, None)?.into(),
            }
        };
        Ok(Self {
            is_file: uri.starts_with("file:"),
            name: without_password(source),
            uri,
        })
    }

    /// An error as GStreamer tells it, in one line.
    fn describe(&self, error: &gst::message::Error) -> String {
        // The last line of the debug text is the element's; the others say where in GStreamer.
        let detail = error.debug().unwrap_or_default();
        let detail = detail.lines().skip(1).last().unwrap_or_default();
        let text = format!("{} {detail}", error.error());
        text.trim_end().replace(&self.uri, &self.name)
    }
}

fn without_password(uri: &str) -> String {
    let Some((scheme, rest)) = uri.split_once("://") else {
        return uri.to_owned();
    };
    let host = rest.find('/').unwrap_or(rest.len());
    match rest[..host].rfind('@') {
        Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
        None => uri.to_owned(),
    }
}

/// Standard output, which several threads write to, and whether all are to stop.
#[derive(Default)]
struct Output {
    stopped: AtomicBool,
    failure: Mutex<Option<io::Error>>,
}

impl Output {
    fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Prints a line that a reader behind a pipe sees at once. Who reads no more, as `head`, ends
    /// everything.
    fn print(&self, line: &Value) {
        let mut stdout = io::stdout().lock();
        let written = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
        if let Err(error) = written {
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            self.stop();
        }
    }

    fn finish(&self) -> anyhow::Result<()> {
        let failure = self.failure.lock();
        match failure.unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(error).context("standard output")
            }
            _ => Ok(()),
        }
    }
}

/// How a connection ended.
enum End {
    Stopped,
    /// The source had no more.
    Finished,
    /// Another attempt may go better.
    Lost(String),
}

/// Watches a source to its end; one that has none, until told to stop. An error is one that no other
/// attempt mends.
fn watch(source: &Source, options: &Options, output: &Arc<Output>) -> anyhow::Result<()> {
    let mut pause = FIRST_PAUSE;
    loop {
        let frames = Arc::new(AtomicU64::new(0));
        let reason = match connect(source, options, output, &frames)? {
            End::Stopped => return Ok(()),
            End::Finished if source.is_file => return Ok(()),
            End::Finished => "the stream has ended".to_owned(),
            End::Lost(reason) if source.is_file => bail!(reason),
            End::Lost(reason) => reason,
        };
        if frames.load(Ordering::Relaxed) > 0 {
            pause = FIRST_PAUSE;
        }
        tell(format_args!(
            "{}: {reason}; trying again in {pause:?}",
            source.name
        ));
        let begin = Instant::now();
        while begin.elapsed() < pause {
            if output.is_stopped() {
                return Ok(());
            }
            thread::sleep(POLL.into());
        }
        pause = LAST_PAUSE.min(pause * 2);
    }
}

/// A pipeline that is stopped when it is no longer needed, for whatever reason.
struct Running(gst::Pipeline);

impl Drop for Running {
    fn drop(&mut self) {
        // There is nothing to be done about a source that does not stop.
        let _ = self.0.set_state(gst::State::Null);
    }
}

/// One connection to a source, from its beginning to its end. `frames` counts what came of it.
fn connect(
    source: &Source,
    options: &Options,
    output: &Arc<Output>,
    frames: &Arc<AtomicU64>,
) -> anyhow::Result<End> {
    let pipeline = Running(build(source, options)?);
    let element = |name: &str| pipeline.0.by_name(name).context(name.to_owned());
    let input = element("source")?;
    let entrance = element("entrance")?.static_pad("sink").context("sink")?;
    entrance.add_probe(gst::PadProbeType::BUFFER, {
        let frames = Arc::clone(frames);
        move |_, _| {
            frames.fetch_add(1, Ordering::Relaxed);
            gst::PadProbeReturn::Ok
        }
    });
    if options.frames {
        let exit = element("recognize")?.static_pad("src").context("src")?;
        print_frames(&exit, &source.name, output);
    }
    let bus = pipeline.0.bus().context("the pipeline has no bus")?;
    // Where the state change fails, the reason is a message on the bus.
    let _ = pipeline.0.set_state(gst::State::Playing);

    let stall = Duration::from_secs(options.stall);
    let (mut seen, mut seen_at) = (0, Instant::now());
    let end = loop {
        let message = bus.timed_pop(POLL);
        match message.as_ref().map(|message| message.view()) {
            Some(gst::MessageView::Eos(_)) => return Ok(End::Finished),
            Some(gst::MessageView::Error(error)) => {
                let reason = source.describe(error);
                let is_ours = error.src().is_some_and(|src| !src.has_as_ancestor(&input));
                if is_ours || is_lasting(&error.error()) {
                    bail!(reason);
                }
                break End::Lost(reason);
            }
            Some(gst::MessageView::Element(message)) => {
                print_events(message.structure(), &source.name, output);
            }
            _ => {}
        }
        if output.is_stopped() {
            break End::Stopped;
        }
        let count = frames.load(Ordering::Relaxed);
        if count != seen {
            (seen, seen_at) = (count, Instant::now());
        } else if !source.is_file && seen_at.elapsed() >= stall {
            break End::Lost(format!("no frame for {} s", stall.as_secs()));
        }
    };
    // The end of the stream lets everybody leave; without a frame there is nobody.
    if seen > 0 && entrance.send_event(gst::event::Eos::new()) {
        let begin = Instant::now();
        while begin.elapsed() < DRAIN.into()
            && let Some(message) = bus.timed_pop(DRAIN)
        {
            match message.view() {
                gst::MessageView::Eos(_) => break,
                gst::MessageView::Element(message) => {
                    print_events(message.structure(), &source.name, output);
                }
                _ => {}
            }
        }
    }
    Ok(end)
}

/// Whether a source's error stays when it is asked again; a wrong password, asked for ever, would
/// lock the user out of some cameras.
fn is_lasting(error: &glib::Error) -> bool {
    error.matches(gst::ResourceError::NotAuthorized)
        || error.matches(gst::CoreError::MissingPlugin)
        || error.matches(gst::StreamError::CodecNotFound)
}

/// source → mfrdetect → mfrrecognize → nothing. A queue starts a thread, so that decoding, detection
/// and recognition run at the same time.
fn build(source: &Source, options: &Options) -> anyhow::Result<gst::Pipeline> {
    // The clock holds back a recording that comes over the network, the leaky queue what is late.
    let queues = match source.is_file {
        true => ["queue name=entrance", "queue"],
        false => [
            "clocksync ! queue name=entrance leaky=downstream max-size-buffers=1",
            "queue max-size-buffers=1",
        ],
    };
    // No other streams than video are decoded, nor is a decoder asked for.
    let line = format!(
        "uridecodebin name=source expose-all-streams=false caps=video/x-raw(ANY) ! videoconvert \
         ! {} ! mfrdetect name=detect ! {} ! mfrrecognize name=recognize ! fakesink sync=false",
        queues[0], queues[1]
    );
    let pipeline = gst::parse::launch(&line).context("are GStreamer's own plugins installed?")?;
    let pipeline = pipeline
        .downcast::<gst::Pipeline>()
        .map_err(|_| anyhow!("the launch line is no pipeline"))?;
    let element = |name: &str| pipeline.by_name(name).context(name.to_owned());

    let input = element("source")?;
    // As a property, and not in the launch line, a URI needs no quoting.
    input.set_property("uri", &source.uri);
    input.connect("source-setup", false, |values| {
        let source = values.get(1)?.get::<gst::Element>().ok()?;
        if source.has_property_with_type("latency", u32::static_type()) {
            source.set_property("latency", JITTER);
        }
        None
    });
    let (detect, recognize) = (element("detect")?, element("recognize")?);
    for model in [&detect, &recognize] {
        model.set_property("model-instance-id", "mfr-watch");
    }
    detect.set_property("min-face-size", options.min_face_size);
    recognize.set_property("database", &options.database);
    if let Some(threshold) = options.threshold {
        recognize.set_property("threshold", threshold);
    }
    if options.frames {
        recognize.set_property_from_str("post-messages", "none");
    }
    Ok(pipeline)
}

/// Prints every frame that comes to a pad, from its metadata.
fn print_frames(pad: &gst::Pad, source: &str, output: &Arc<Output>) {
    let (source, output) = (source.to_owned(), Arc::clone(output));
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let caps = pad.current_caps();
        let frame = caps.and_then(|caps| gst_video::VideoInfo::from_caps(&caps).ok());
        if let (Some(buffer), Some(frame)) = (info.buffer(), frame) {
            let size = (frame.width(), frame.height());
            let faces = meta::faces(buffer, size);
            let objects: Vec<_> = faces.iter().map(|face| object(face, size)).collect();
            let segment = pad.sticky_event::<gst::event::Segment>(0);
            let time = segment.and_then(|event| {
                let segment = event.segment().downcast_ref::<ClockTime>()?;
                segment.to_stream_time(buffer.pts())
            });
            let mut line = heading(&source, time);
            line.insert("objects".into(), objects.into());
            let resolution = json!({"width": size.0, "height": size.1});
            line.insert("resolution".into(), resolution);
            output.print(&line.into());
        }
        gst::PadProbeReturn::Ok
    });
}

/// What every line has: where, when in the stream (nanoseconds), and when by the clock on the wall.
fn heading(source: &str, time: Option<ClockTime>) -> Map<String, Value> {
    let mut line = Map::new();
    line.insert("source".into(), source.into());
    if let Some(time) = time {
        line.insert("timestamp".into(), time.nseconds().into());
    }
    let now = glib::DateTime::now_utc().and_then(|now| now.format("%Y-%m-%dT%H:%M:%S.%fZ"));
    if let Ok(now) = now {
        line.insert("time".into(), now.as_str().into());
    }
    line
}

/// A face of a frame; the bounding box in 0…1 of the frame, the rest in pixels.
fn object(face: &Face, (width, height): meta::FrameSize) -> Value {
    let rect = &face.rect;
    let share = |value: f32, whole: u32| (f64::from(value) / f64::from(whole)).clamp(0.0, 1.0);
    let mut object = json!({
        "roi_type": meta::ROI_TYPE,
        "id": face.id,
        "x": rect.x.round() as i32,
        "y": rect.y.round() as i32,
        "w": rect.width.round() as i32,
        "h": rect.height.round() as i32,
        "detection": {
            "label": meta::ROI_TYPE,
            "label_id": 0,
            "confidence": face.confidence,
            "bounding_box": {
                "x_min": share(rect.x, width),
                "y_min": share(rect.y, height),
                "x_max": share(rect.right(), width),
                "y_max": share(rect.bottom(), height),
            },
        },
    });
    if let Some(identity) = &face.identity {
        object["identity"] = json!({
            "label": identity.label,
            "label_id": identity.label_id,
            "confidence": identity.confidence,
            "similarity": identity.similarity,
            "model": {"name": identity.model_name},
        });
    }
    if let Some(mask) = &face.mask {
        object["mask"] = json!({
            "label": mask.label,
            "confidence": mask.confidence,
            "model": {"name": mask.model_name},
        });
    }
    object
}

/// Prints what a message of `mfrrecognize` tells, a line for each face.
fn print_events(message: Option<&gst::StructureRef>, source: &str, output: &Output) {
    // Other elements post messages too.
    let Some(Ok(message)) = message.map(Message::try_from) else {
        return;
    };
    for face in &message.faces {
        let mut line = heading(source, message.stream_time);
        line.extend(event(face));
        output.print(&line.into());
    }
}

/// A face of a message with the keys that it has in frames; pixels and nanoseconds.
fn event(face: &FaceNews) -> Map<String, Value> {
    let [x, y, w, h] = face.rect;
    let nanoseconds = |time: Option<ClockTime>| time.map(|time| time.nseconds().into());
    let mask = |(label, confidence)| json!({"label": label, "confidence": confidence});
    fields([
        ("event", face.event.map(|event| event.name().into())),
        ("roi_type", Some(meta::ROI_TYPE.into())),
        ("id", Some(face.id.into())),
        ("x", Some(x.into())),
        ("y", Some(y.into())),
        ("w", Some(w.into())),
        ("h", Some(h.into())),
        (
            "identity",
            Some(json!({
                "label": face.label,
                "label_id": face.label_id,
                "confidence": face.confidence,
                "similarity": face.similarity,
            })),
        ),
        ("mask", face.mask.clone().map(mask)),
        (
            "previous_label",
            face.previous_label.clone().map(Value::from),
        ),
        ("previous_mask", face.previous_mask.clone().map(Value::from)),
        ("first_seen", nanoseconds(face.first_seen)),
        ("last_seen", nanoseconds(face.last_seen)),
    ])
}

/// The fields that are there.
fn fields<const N: usize>(fields: [(&str, Option<Value>); N]) -> Map<String, Value> {
    let there = |(key, value): (&str, Option<Value>)| Some((key.to_owned(), value?));
    fields.into_iter().filter_map(there).collect()
}
