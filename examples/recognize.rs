//! An application with the elements in a pipeline of its own: prints who appears and leaves in a video,
//! and shows or writes the video with boxes and names.
//!
//! ```text
//! cargo run --release --example recognize -- video.mp4 --database gallery.npz --output named.mp4
//! cargo run --release --example recognize -- /dev/video0 --database gallery.npz --window
//! ```
//!
//! Identities are read in both ways: from messages on the bus, for events, and from the metadata of every buffer, for the
//! faces of each frame.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use anyhow::{Context, anyhow, bail};
use clap::Parser;
use gst::prelude::*;
use gst::{ClockTime, glib};
use gstmfr::detect::{DEFAULT_MIN_FACE_SIZE, MIN_FACE_SIZES};
use gstmfr::io::text::printable;

#[path = "mfr_watch/secrets.rs"]
#[allow(dead_code, reason = "only mfr-watch prints names of sources")]
mod secrets;

/// A person who is not seen for this long has left; the next appearance begins a new interval.
const GAP: ClockTime = ClockTime::from_mseconds(1000);

/// Milliseconds of a network stream that may come out of order; rtspsrc's own 2 s are for films.
const JITTER: u32 = 200;

const PLUGINS: &str = "GStreamer's own plugins are needed; on Debian: apt install \
    gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad \
    gstreamer1.0-plugins-ugly gstreamer1.0-libav";

/// Say who comes and goes in a video; show it or write it with boxes and names.
///
/// Ctrl-C ends the recording properly. Exit status: 0 done, 1 failed, 2 wrong usage.
#[derive(Parser)]
#[command(name = "recognize", version)]
struct Options {
    /// A video file, a URI (rtsp://…, https://…) or a camera (/dev/video0)
    input: String,

    /// The gallery that mfr-enroll has made
    #[arg(long, value_name = "FILE.npz")]
    database: PathBuf,

    /// Write the video with boxes and names
    #[arg(long, value_name = "FILE.mp4", value_parser = mp4)]
    output: Option<PathBuf>,

    /// Show the video with boxes and names
    #[arg(long)]
    window: bool,

    /// Shorter side of the smallest face looked for, in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = DEFAULT_MIN_FACE_SIZE, value_parser = min_face_size)]
    min_face_size: u32,

    /// Similarity from which a face is named, instead of the gallery's
    #[arg(long, value_name = "0…1", value_parser = similarity)]
    threshold: Option<f64>,
}

// Checked here: `set_property` panics on a value that the property does not take.
fn min_face_size(text: &str) -> Result<u32, String> {
    let size = text.parse().ok().filter(|n| MIN_FACE_SIZES.contains(n));
    let (least, most) = (MIN_FACE_SIZES.start(), MIN_FACE_SIZES.end());
    size.ok_or_else(|| format!("expected {least} to {most} pixels"))
}

fn similarity(text: &str) -> Result<f64, String> {
    let similarity = text.parse().ok().filter(|s| (0.0..=1.0).contains(s));
    similarity.ok_or_else(|| "expected a number from 0 to 1".into())
}

// Another ending would promise a format that is not written.
fn mp4(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    let ending = path.extension().map(|ending| ending.to_ascii_lowercase());
    let is_mp4 = ending.is_some_and(|ending| ending == "mp4" || ending == "m4v");
    is_mp4
        .then_some(path)
        .ok_or_else(|| "expected a name that ends in .mp4, the format that is written".into())
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&format!("recognize: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Prints on standard error. Texts from outside, as names in a gallery and errors of GStreamer, must neither control the
/// terminal nor give away the password of a camera.
fn tell(message: &str) {
    eprintln!("{}", printable(&secrets::redact_text(message)));
}

fn run(options: &Options) -> anyhow::Result<()> {
    gst::init()?;
    // The plugin is in this program. Where it is installed, this line and the crate are not needed.
    gstmfr::plugin_register_static()?;

    let places = [Some(Path::new(&options.input)), options.output.as_deref()];
    if let [Some(Ok(from)), Some(Ok(to))] = places.map(|path| path.map(Path::canonicalize))
        && from == to
    {
        bail!("INPUT and --output are the same file");
    }
    let pipeline = build(options)?;
    let log = Arc::new(Mutex::new(Log::default()));
    read_metadata(&pipeline, &log)?;

    let ended = play(&pipeline);
    // Also after an error, for the frames before it.
    let log = log.lock().unwrap_or_else(|e| e.into_inner());
    if log.frames > 0 {
        println!("\n{log}");
    }
    if let (Err(_), Some(output)) = (&ended, &options.output) {
        remove_empty(output);
    }
    ended
}

/// Removes what a sink leaves that has received nothing. That this fails is of less interest than the error before it.
fn remove_empty(output: &Path) {
    let is_empty = |data: std::fs::Metadata| data.is_file() && data.len() == 0;
    if output.metadata().is_ok_and(is_empty) {
        let _ = std::fs::remove_file(output);
    }
}

/// source → mfrdetect → mfrrecognize → mfroverlay → window and file, or nothing. A queue starts a
/// thread, so that decoding, detection, recognition and encoding run at the same time.
fn build(options: &Options) -> anyhow::Result<gst::Pipeline> {
    let uri = uri(&options.input)?;
    // A leaky queue drops frames of a camera that arrive faster than they are processed, which bounds the latency.
    let queue = match uri.starts_with("file:") {
        true => "queue",
        false => "queue leaky=downstream max-size-buffers=1",
    };
    let mut line = format!(
        "uridecodebin name=source ! videoconvert ! {queue} ! mfrdetect name=mfrdetect \
         ! queue max-size-buffers=1 ! mfrrecognize name=mfrrecognize ! "
    );
    // Phones record in landscape and write the orientation into a tag, which neither sink applies. videoflip
    // rotates the pixels, at the end, since it does not update the tag or the regions of interest.
    line += match options.window || options.output.is_some() {
        true => {
            "queue max-size-buffers=1 ! mfroverlay ! videoflip video-direction=auto ! tee name=drawn"
        }
        false => "fakesink sync=false",
    };
    if options.window {
        // clocksync waits for the time of each frame; a sink with sync=true would also drop the late ones.
        line += " drawn. ! queue ! videoconvert ! clocksync ! autovideosink sync=false";
    }
    if options.output.is_some() {
        // With async=true the window would not show a frame before the encoder's first.
        line += " drawn. ! queue ! videoconvert ! video/x-raw,format=I420 \
                 ! x264enc speed-preset=veryfast ! queue ! mp4mux ! filesink name=sink async=false";
    }
    let pipeline = gst::parse::launch(&line).context(PLUGINS)?;
    let pipeline = pipeline
        .downcast::<gst::Pipeline>()
        .map_err(|_| anyhow!("the launch line is no pipeline"))?;

    // Paths that are set as properties, not in the launch line, need no quoting.
    let source = element(&pipeline, "source")?;
    source.set_property("uri", uri);
    source.connect("source-setup", false, |values| {
        let source = values.get(1)?.get::<gst::Element>().ok()?;
        if source.has_property_with_type("latency", u32::static_type()) {
            source.set_property("latency", JITTER);
        }
        None
    });
    let recognize = element(&pipeline, "mfrrecognize")?;
    recognize.set_property("database", text(&options.database)?);
    if let Some(threshold) = options.threshold {
        recognize.set_property("threshold", threshold);
    }
    element(&pipeline, "mfrdetect")?.set_property("min-face-size", options.min_face_size);
    if let Some(output) = &options.output {
        element(&pipeline, "sink")?.set_property("location", text(output)?);
    }
    Ok(pipeline)
}

fn element(pipeline: &gst::Pipeline, name: &str) -> anyhow::Result<gst::Element> {
    let element = pipeline.by_name(name);
    element.with_context(|| format!("the pipeline has no element {name}"))
}

fn text(path: &Path) -> anyhow::Result<&str> {
    let text = path.to_str();
    text.with_context(|| format!("{} is not UTF-8", path.display()))
}

fn uri(input: &str) -> anyhow::Result<String> {
    if input.starts_with("/dev/video") {
        return Ok(format!("v4l2://{input}"));
    }
    if input.contains("://") {
        return Ok(input.to_owned());
    }
    // GStreamer's own message for a missing file names a URI, with every space as %20.
    let path = Path::new(input).canonicalize();
    let path = path.with_context(|| input.to_owned())?;
    Ok(glib::filename_to_uri(&path, None)?.to_string())
}

/// Reads who is in each frame from the metadata behind `mfrrecognize`.
fn read_metadata(pipeline: &gst::Pipeline, log: &Arc<Mutex<Log>>) -> anyhow::Result<()> {
    let pad = element(pipeline, "mfrrecognize")?
        .static_pad("src")
        .context("mfrrecognize has no source pad")?;
    let log = Arc::clone(log);
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let caps = pad.current_caps();
        let frame = caps.and_then(|caps| gst_video::VideoInfo::from_caps(&caps).ok());
        if let (Some(buffer), Some(frame)) = (info.buffer(), frame) {
            let faces = gstmfr::plugin::meta::faces(buffer, (frame.width(), frame.height()));
            let time = stream_time(pad, buffer.pts());
            let mut log = log.lock().unwrap_or_else(|e| e.into_inner());
            log.add_frame(&faces, time);
        }
        gst::PadProbeReturn::Ok
    });
    Ok(())
}

/// The stream time: timestamps may begin at any value.
fn stream_time(pad: &gst::Pad, time: Option<ClockTime>) -> ClockTime {
    pad.sticky_event::<gst::event::Segment>(0)
        .and_then(|event| {
            let segment = event.segment().downcast_ref::<ClockTime>();
            segment.and_then(|segment| segment.to_stream_time(time))
        })
        .or(time)
        .unwrap_or(ClockTime::ZERO)
}

/// Runs until the end, an error or Ctrl-C.
fn play(pipeline: &gst::Pipeline) -> anyhow::Result<()> {
    let main_loop = glib::MainLoop::new(None, false);
    let failure = Arc::new(Mutex::new(None));
    let bus = pipeline.bus().context("the pipeline has no bus")?;
    let _watch = bus.add_watch({
        let (main_loop, failure) = (main_loop.clone(), Arc::clone(&failure));
        move |_, message| {
            match message.view() {
                gst::MessageView::Eos(_) => main_loop.quit(),
                gst::MessageView::Error(error) => {
                    *failure.lock().unwrap_or_else(|e| e.into_inner()) = Some(describe(error));
                    main_loop.quit();
                }
                gst::MessageView::Warning(warning) => {
                    tell(&format!("warning: {}", warning.error()));
                }
                gst::MessageView::Element(message) => {
                    if let Some(structure) = message.structure()
                        && structure.name() == "mfrrecognize"
                    {
                        print_events(structure);
                    }
                }
                _ => {}
            }
            glib::ControlFlow::Continue
        }
    })?;

    // The end of stream lets the muxer complete the file. A second Ctrl-C does not wait for that.
    const SIGINT: i32 = 2;
    let interrupted = glib_unix::unix_signal_add(SIGINT, {
        let (pipeline, main_loop) = (pipeline.clone(), main_loop.clone());
        let mut times = 0;
        move || {
            times += 1;
            if times > 1 || !pipeline.send_event(gst::event::Eos::new()) {
                main_loop.quit();
            }
            glib::ControlFlow::Continue
        }
    });

    // Where the state change fails, the reason is a message on the bus, which the loop reads.
    let _ = pipeline.set_state(gst::State::Playing);
    main_loop.run();
    interrupted.remove();
    let stopped = pipeline.set_state(gst::State::Null);
    match failure.lock().unwrap_or_else(|e| e.into_inner()).take() {
        Some(failure) => bail!(failure),
        None => Ok(stopped.map(|_| ())?),
    }
}

/// An error as GStreamer reports it, in one line.
fn describe(error: &gst::message::Error) -> String {
    let source = error
        .src()
        .map_or("pipeline".into(), |source| source.name());
    // The last line of the debug text is the element's; the others are places in GStreamer's code.
    let debug = error.debug().unwrap_or_default();
    let detail = debug.lines().skip(1).last().unwrap_or_default();
    let text = format!("{source}: {} {detail}", error.error());
    text.trim_end().to_owned()
}

/// Prints an element message of `mfrrecognize`, a line for each face.
fn print_events(message: &gst::StructureRef) {
    let time = message.get::<ClockTime>("stream-time").ok();
    let Ok(faces) = message.get::<gst::Array>("faces") else {
        return;
    };
    for face in faces.iter().filter_map(|f| f.get::<gst::Structure>().ok()) {
        let label = face.get::<&str>("label").unwrap_or_default();
        let event = face.get::<&str>("event").unwrap_or_default();
        let who = match face.get::<i32>("label_id") {
            Ok(0..) => label,
            _ => "somebody unknown",
        };
        let detail = match face.get::<f64>("similarity") {
            Ok(similarity) if event == "identified" || event == "changed" => {
                format!(" (similarity {similarity:.2})")
            }
            _ => String::new(),
        };
        let change = match (event, face.get::<&str>("previous_label")) {
            ("changed", Ok(before)) => format!(": was {before}"),
            // Without a previous name, the mask has changed.
            ("changed", _) => match face.get::<&str>("mask") {
                Ok("with_mask") => ": mask on".to_owned(),
                _ => ": mask off".to_owned(),
            },
            _ => String::new(),
        };
        let line = format!("{}  {who} {event}{change}{detail}", seconds(time));
        println!("{}", printable(&line));
    }
}

fn seconds(time: Option<ClockTime>) -> String {
    match time {
        Some(time) => format!("{:7.2} s", time.nseconds() as f64 / 1e9),
        None => "      ? s".into(),
    }
}

/// When each person was seen.
#[derive(Default)]
struct Log {
    frames: u64,
    /// By name, as it is printed.
    people: BTreeMap<String, Sightings>,
}

#[derive(Default)]
struct Sightings {
    /// Times of the first and of the last frame of each.
    intervals: Vec<(ClockTime, ClockTime)>,
    frames: u64,
    similarity: f64,
}

impl Log {
    fn add_frame(&mut self, faces: &[gstmfr::plugin::meta::Face], time: ClockTime) {
        self.frames += 1;
        for identity in faces.iter().filter_map(|face| face.identity.as_ref()) {
            let person = self.people.entry(printable(&identity.label)).or_default();
            person.frames += 1;
            person.similarity += identity.similarity;
            match person.intervals.last_mut() {
                Some((_, last)) if time <= *last + GAP => *last = time,
                _ => person.intervals.push((time, time)),
            }
        }
    }
}

impl std::fmt::Display for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let width = self.people.keys().map(|n| n.chars().count()).max();
        let width = width.unwrap_or(0).max("name".len());
        writeln!(f, "{:width$}  frames  similarity  seen, in seconds", "name")?;
        for (name, person) in &self.people {
            let mean = person.similarity / person.frames as f64;
            let intervals: Vec<_> = person
                .intervals
                .iter()
                .map(|(first, last)| {
                    let [first, last] = [first, last].map(|t| t.nseconds() as f64 / 1e9);
                    format!("{first:.2}–{last:.2}")
                })
                .collect();
            writeln!(
                f,
                "{name:width$}  {:6}  {mean:10.2}  {}",
                person.frames,
                intervals.join(", ")
            )?;
        }
        write!(f, "{} frames in all", self.frames)
    }
}
