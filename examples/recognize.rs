//! An application with the elements in a pipeline of its own: says who comes and goes in a video,
//! and writes the video with boxes and names.
//!
//! ```text
//! cargo run --release --example recognize -- video.mp4 --database gallery.npz --output named.mp4
//! ```
//!
//! It shows both ways to the identities: messages on the bus, for what happens, and the metadata
//! of every buffer, for what each frame shows.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use gst::prelude::*;
use gst::{ClockTime, glib};
use gstmfr::detect::MIN_FACE_SIZES;

const USAGE: &str = "\
Usage: recognize INPUT --database FILE.npz [OPTIONS]

  INPUT                a video file, a URI (rtsp://…, https://…) or a camera (/dev/video0)
  --database FILE.npz  the gallery that mfr-enroll has made

Options:
  --output FILE.mp4    write the video with boxes and names
  --min-face-size N    shortest side of the smallest face looked for, in pixels [default: 40]
  --threshold S        similarity from which a face is named, 0…1 [default: as in the gallery]
  --help               print this

Ctrl-C ends the recording properly. Exit status: 0 done, 1 failed, 2 wrong usage.";

/// Somebody who is not seen for this long has gone; the next sight begins a new line.
const GAP: ClockTime = ClockTime::from_mseconds(1000);

type Error = Box<dyn std::error::Error>;

struct Options {
    input: String,
    database: PathBuf,
    output: Option<PathBuf>,
    min_face_size: Option<u32>,
    threshold: Option<f64>,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let options = match parse(&mut arguments) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("recognize: {error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("recognize: {error}");
            ExitCode::FAILURE
        }
    }
}

/// None where help is asked for.
fn parse(arguments: &mut dyn Iterator<Item = String>) -> Result<Option<Options>, Error> {
    let (mut input, mut database, mut output) = (None, None, None);
    let (mut min_face_size, mut threshold) = (None, None);
    while let Some(argument) = arguments.next() {
        let mut value = || {
            let value = arguments.next();
            value.ok_or_else(|| Error::from(format!("{argument} needs a value")))
        };
        match argument.as_str() {
            "--help" | "-h" => return Ok(None),
            "--database" => database = Some(PathBuf::from(value()?)),
            "--output" => output = Some(PathBuf::from(value()?)),
            // Checked here: `set_property` panics on a value that the property does not take.
            "--min-face-size" => {
                let size = value()?.parse().ok().filter(|n| MIN_FACE_SIZES.contains(n));
                let (least, most) = (MIN_FACE_SIZES.start(), MIN_FACE_SIZES.end());
                let expected = || format!("--min-face-size needs {least} to {most} pixels");
                min_face_size = Some(size.ok_or_else(expected)?);
            }
            "--threshold" => {
                let similarity = value()?.parse().ok().filter(|s| (0.0..=1.0).contains(s));
                threshold = Some(similarity.ok_or("--threshold needs a number from 0 to 1")?);
            }
            _ if argument.starts_with('-') => {
                return Err(format!("{argument} is not an option").into());
            }
            _ if input.is_some() => return Err("there is more than one INPUT".into()),
            _ => input = Some(argument),
        }
    }
    let options = Options {
        input: input.ok_or("INPUT is missing")?,
        database: database.ok_or("--database is missing")?,
        output,
        min_face_size,
        threshold,
    };
    if let Some(output) = &options.output
        && let (Ok(from), Ok(to)) = (
            Path::new(&options.input).canonicalize(),
            output.canonicalize(),
        )
        && from == to
    {
        return Err("INPUT and --output are the same file".into());
    }
    Ok(Some(options))
}

fn run(options: &Options) -> Result<(), Error> {
    gst::init()?;
    // The plugin is in this program. Where it is installed, this line and the crate are not needed.
    gstmfr::plugin_register_static()?;

    let pipeline = build(options)?;
    let log = Arc::new(Mutex::new(Log::default()));
    read_metadata(&pipeline, &log)?;

    let ended = play(&pipeline);
    // Also after an error: whatever was seen was seen.
    let log = log.lock().unwrap_or_else(|e| e.into_inner());
    if log.frames > 0 {
        println!("\n{log}");
    }
    ended
}

/// source → mfrdetect → mfrrecognize → mfroverlay → file or nothing. A queue starts a thread, so
/// that decoding, detection, recognition and encoding run at the same time.
fn build(options: &Options) -> Result<gst::Pipeline, Error> {
    let tail = match options.output {
        Some(_) => {
            "queue ! mfroverlay ! videoconvert ! video/x-raw,format=I420 \
             ! x264enc speed-preset=veryfast ! queue ! mp4mux ! filesink name=sink"
        }
        None => "fakesink sync=false",
    };
    let pipeline = gst::parse::launch(&format!(
        "uridecodebin name=source ! videoconvert ! queue ! mfrdetect name=detect \
         ! queue ! mfrrecognize name=recognize ! {tail}"
    ))
    .map_err(|e| {
        format!(
            "{e}\nGStreamer's own plugins are needed; on Debian: apt install \
             gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad \
             gstreamer1.0-plugins-ugly gstreamer1.0-libav"
        )
    })?
    .downcast::<gst::Pipeline>()
    .map_err(|_| "the launch line is no pipeline")?;

    // As properties, and not in the launch line, paths need no quoting.
    element(&pipeline, "source")?.set_property("uri", uri(&options.input)?);
    let recognize = element(&pipeline, "recognize")?;
    recognize.set_property("database", text(&options.database)?);
    if let Some(threshold) = options.threshold {
        recognize.set_property("threshold", threshold);
    }
    if let Some(size) = options.min_face_size {
        element(&pipeline, "detect")?.set_property("min-face-size", size);
    }
    if let Some(output) = &options.output {
        element(&pipeline, "sink")?.set_property("location", text(output)?);
    }
    Ok(pipeline)
}

fn element(pipeline: &gst::Pipeline, name: &str) -> Result<gst::Element, Error> {
    let element = pipeline.by_name(name);
    element.ok_or_else(|| format!("the pipeline has no element {name}").into())
}

fn text(path: &Path) -> Result<&str, Error> {
    let text = path.to_str();
    text.ok_or_else(|| format!("{} is not UTF-8", path.display()).into())
}

fn uri(input: &str) -> Result<String, Error> {
    if input.starts_with("/dev/video") {
        return Ok(format!("v4l2://{input}"));
    }
    if input.contains("://") {
        return Ok(input.to_owned());
    }
    // GStreamer's own message for a missing file names a URI, with every space as %20.
    let path = Path::new(input).canonicalize();
    let path = path.map_err(|e| format!("{input}: {e}"))?;
    Ok(glib::filename_to_uri(&path, None)?.to_string())
}

/// Reads who is in each frame from the metadata behind `mfrrecognize`.
fn read_metadata(pipeline: &gst::Pipeline, log: &Arc<Mutex<Log>>) -> Result<(), Error> {
    let pad = element(pipeline, "recognize")?
        .static_pad("src")
        .ok_or("mfrrecognize has no source pad")?;
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

/// The position in the video: time stamps may begin anywhere.
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
fn play(pipeline: &gst::Pipeline) -> Result<(), Error> {
    let main_loop = glib::MainLoop::new(None, false);
    let failure = Arc::new(Mutex::new(None));
    let bus = pipeline.bus().ok_or("the pipeline has no bus")?;
    let _watch = bus.add_watch({
        let (main_loop, failure) = (main_loop.clone(), Arc::clone(&failure));
        move |_, message| {
            match message.view() {
                gst::MessageView::Eos(_) => main_loop.quit(),
                gst::MessageView::Error(error) => {
                    *failure.lock().unwrap_or_else(|e| e.into_inner()) = Some(describe(error));
                    main_loop.quit();
                }
                gst::MessageView::Warning(warning) => eprintln!("warning: {}", warning.error()),
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

    // With an end of stream the muxer completes the file. Who presses Ctrl-C again means it.
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
    pipeline.set_state(gst::State::Null)?;
    match failure.lock().unwrap_or_else(|e| e.into_inner()).take() {
        Some(failure) => Err(failure.into()),
        None => Ok(()),
    }
}

fn describe(error: &gst::message::Error) -> String {
    let source = error
        .src()
        .map_or("pipeline".into(), |source| source.name());
    match error.debug() {
        Some(debug) => format!("{source}: {}\n{debug}", error.error()),
        None => format!("{source}: {}", error.error()),
    }
}

/// What an element message of `mfrrecognize` tells: one line for each face that it is about.
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
        println!("{}  {who} {event}{detail}", seconds(time));
    }
}

fn seconds(time: Option<ClockTime>) -> String {
    match time {
        Some(time) => format!("{:7.2} s", time.nseconds() as f64 / 1e9),
        None => "      ? s".into(),
    }
}

/// Who was seen from when to when.
#[derive(Default)]
struct Log {
    frames: u64,
    people: BTreeMap<String, Sightings>,
}

#[derive(Default)]
struct Sightings {
    /// First and last time of each.
    intervals: Vec<(ClockTime, ClockTime)>,
    frames: u64,
    similarity: f64,
}

impl Log {
    fn add_frame(&mut self, faces: &[gstmfr::plugin::meta::Face], time: ClockTime) {
        self.frames += 1;
        for identity in faces.iter().filter_map(|face| face.identity.as_ref()) {
            let person = self.people.entry(identity.label.clone()).or_default();
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
