//! A source as a pipeline of its own, so that one may fail and come back without the others.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use gst::prelude::*;
use gst::{ClockTime, glib};

use crate::lines::{Output, print_events, print_frames};
use crate::source::Source;
use crate::{Options, POLL, STOP_WITHIN, tell};

/// The pause before a lost source is connected again. It doubles up to the last one until there are frames.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(30);

/// How long the frames that are under way may take to the end of the pipeline.
const DRAIN: ClockTime = ClockTime::from_seconds(2);

/// Jitter buffer of a network stream in milliseconds; the 2 s of rtspsrc are meant for films.
const JITTER: u32 = 200;

/// How often a pipeline is told to stop, and the pause between.
const STOP_ATTEMPTS: usize = 20;
const STOP_PAUSE: Duration = Duration::from_millis(50);

/// Pipelines of one source that may be left behind because they do not stop. Each has threads and memory of its own.
const MOST_LEFT_BEHIND: usize = 4;

/// How a connection ended.
enum End {
    Stopped,
    /// The source had no more.
    Finished,
    /// Another attempt may go better.
    Lost(String),
}

/// Watches a source to its end; one without an end, until the program is to stop. Gives errors that another attempt would
/// not mend.
pub fn watch(source: &Source, options: &Options, output: &Arc<Output>) -> anyhow::Result<()> {
    let mut pause = FIRST_PAUSE;
    // Its other owners are the pipelines that have not stopped yet.
    let pipelines = Arc::new(());
    loop {
        let begin = Instant::now();
        let frames = Arc::new(AtomicU64::new(0));
        let reason = match connect(source, options, output, &frames, &pipelines)? {
            End::Stopped => return Ok(()),
            End::Finished if source.is_file() => return Ok(()),
            End::Finished => "the stream has ended".to_owned(),
            End::Lost(reason) if source.is_file() => bail!(reason),
            End::Lost(reason) => reason,
        };
        if frames.load(Ordering::Relaxed) > 0 {
            pause = FIRST_PAUSE;
        }
        let reason = source.describe(&reason);
        tell(&format!("{reason}; trying again in {pause:?}"));
        let (lost, pause_now) = (Instant::now(), jittered(pause, begin));
        while lost.elapsed() < pause_now || Arc::strong_count(&pipelines) > MOST_LEFT_BEHIND {
            if output.is_stopped() {
                return Ok(());
            }
            thread::sleep(POLL);
        }
        pause = LAST_PAUSE.min(pause * 2);
    }
}

/// A little more than the pause, so that cameras lost together do not come back together.
fn jittered(pause: Duration, begin: Instant) -> Duration {
    // The nanoseconds that an attempt took are as good as random.
    pause + pause.mul_f64(f64::from(begin.elapsed().subsec_nanos() % 1000) / 4000.0)
}

/// A pipeline that plays, and is stopped when it is no longer needed, for whatever reason.
struct Playing {
    /// Dropped to stop the pipeline.
    stop: Option<mpsc::Sender<()>>,
    /// Disconnected once the pipeline has stopped.
    stopped: mpsc::Receiver<()>,
}

impl Playing {
    /// Changes states in a thread of its own, which owns a share of `pipelines` until the pipeline has stopped: a driver or
    /// a server that hangs must delay neither the check for stalls nor the end of the program.
    fn start(pipeline: gst::Pipeline, pipelines: &Arc<()>) -> io::Result<Self> {
        let (stop, until_stop) = mpsc::channel::<()>();
        let (until_stopped, stopped) = mpsc::channel();
        let share = Arc::clone(pipelines);
        thread::Builder::new().spawn(move || {
            // Where the state change fails, the reason is a message on the bus.
            let _ = pipeline.set_state(gst::State::Playing);
            // Returns when the sender is dropped.
            let _ = until_stop.recv();
            stop_pipeline(&pipeline);
            drop((pipeline, share, until_stopped));
        })?;
        Ok(Self {
            stop: Some(stop),
            stopped,
        })
    }
}

impl Drop for Playing {
    fn drop(&mut self) {
        self.stop = None;
        // A pipeline that hangs is left behind.
        let _ = self.stopped.recv_timeout(STOP_WITHIN);
    }
}

fn stop_pipeline(pipeline: &gst::Pipeline) {
    for _ in 0..STOP_ATTEMPTS {
        // Fails where an element posts an error meanwhile, which aborts the state change of its bin (gst_bin_handle_message).
        if pipeline.set_state(gst::State::Null).is_ok() {
            return;
        }
        thread::sleep(STOP_PAUSE);
    }
}

/// One connection to a source, from its beginning to its end. `frames` counts what came of it.
fn connect(
    source: &Source,
    options: &Options,
    output: &Arc<Output>,
    frames: &Arc<AtomicU64>,
    pipelines: &Arc<()>,
) -> anyhow::Result<End> {
    let uri = match source.uri()? {
        Ok(uri) => uri,
        Err(missing) => return Ok(End::Lost(missing)),
    };
    let pipeline = build(&uri, source.is_file(), options)?;
    let element = |name: &str| pipeline.by_name(name).context(name.to_owned());
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
    let bus = pipeline.bus().context("the pipeline has no bus")?;
    let _playing = match Playing::start(pipeline, pipelines) {
        Ok(playing) => playing,
        Err(error) => return Ok(End::Lost(format!("cannot start a thread: {error}"))),
    };

    let stall = Duration::from_secs(options.stall);
    let (mut seen, mut seen_at) = (0, Instant::now());
    let end = loop {
        let message = bus.timed_pop(ClockTime::try_from(POLL).ok());
        match message.as_ref().map(|message| message.view()) {
            Some(gst::MessageView::Eos(_)) => return Ok(End::Finished),
            Some(gst::MessageView::Error(error)) => {
                let reason = describe(error);
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
        } else if !source.is_file() && seen_at.elapsed() >= stall {
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

/// An error as GStreamer reports it, in one line.
fn describe(error: &gst::message::Error) -> String {
    // The last line of the debug text is the element's; the others say where in GStreamer.
    let detail = error.debug().unwrap_or_default();
    let detail = detail.lines().skip(1).last().unwrap_or_default();
    format!("{} {detail}", error.error()).trim_end().to_owned()
}

/// Whether another attempt would give the same error. Some cameras lock out a user who sends a wrong password again and
/// again.
fn is_lasting(error: &glib::Error) -> bool {
    error.matches(gst::ResourceError::NotAuthorized)
        || error.matches(gst::CoreError::MissingPlugin)
        || error.matches(gst::StreamError::CodecNotFound)
}

/// Source, mfrdetect, mfrrecognize, and a sink that drops the frames. A queue starts a thread, so that decoding, detection
/// and recognition run at the same time.
fn build(uri: &str, is_file: bool, options: &Options) -> anyhow::Result<gst::Pipeline> {
    // The clock holds back a recording that comes over the network; the leaky queue drops what is late.
    let queues = match is_file {
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
    input.set_property("uri", uri);
    input.connect("source-setup", false, |values| {
        let source = values.get(1)?.get::<gst::Element>().ok()?;
        if source.has_property_with_type("latency", u32::static_type()) {
            source.set_property("latency", JITTER);
        }
        None
    });
    // MJPEG over HTTP has one stream: the demuxer need not wait for others, which would never come.
    let decoder = input.clone().downcast::<gst::Bin>();
    let decoder = decoder.map_err(|_| anyhow!("uridecodebin is no bin"))?;
    decoder.connect_deep_element_added(|_, _, element| {
        if element
            .factory()
            .is_some_and(|f| f.name() == "multipartdemux")
        {
            element.set_property("single-stream", true);
        }
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
