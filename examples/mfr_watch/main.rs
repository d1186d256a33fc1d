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

mod connection;
mod lines;
mod secrets;
mod source;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use gst::glib;
use gstmfr::detect::{DEFAULT_MIN_FACE_SIZE, MIN_FACE_SIZES};
use gstmfr::io::text;

use crate::lines::Output;
use crate::source::Source;

/// How often a waiting thread checks whether it is to stop.
const POLL: Duration = Duration::from_millis(100);

/// How long sources may take to stop. One that hangs is left behind when the program ends.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// Say who is in front of cameras or in videos, as lines of JSON on standard output.
///
/// Network sources and cameras are watched in real time: frames that arrive faster than they are
/// processed are dropped. When they fail, end, stall or are not there yet they are connected again, and
/// none of them affects the others. Files are read from end to end.
///
/// Exit status: 0 done or interrupted, 1 failed, 2 wrong usage.
#[derive(Clone, Parser)]
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

    /// Shorter side of the smallest face looked for, in pixels
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
        // The reason was printed when the source failed.
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            tell(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Prints on standard error, without what would control the terminal. Unlike `eprintln!` it does not panic where standard
/// error is closed.
fn tell(message: &str) {
    let _ = writeln!(io::stderr(), "mfr-watch: {}", text::printable(message));
}

/// Loads what sources from the network need while there is no other thread.
///
/// GLib 2.74 waits for ever where one thread registers the type GSocketAddress, which holds its once-lock and needs the lock of
/// type classes to add an interface, while another one makes a GSocketClient, which holds these locks in the other order. The
/// plugin soup does the former when it is loaded, and rtspsrc the latter.
fn load_network_sources() {
    // A plugin that is not installed is missed where a source needs it.
    let _ = gst::Plugin::load_by_name("soup");
}

/// Whether all sources went well.
fn run(options: &Options) -> anyhow::Result<bool> {
    gst::init()?;
    // The plugin is in this program. Where it is installed, this line and the crate are not needed.
    gstmfr::plugin_register_static()?;
    load_network_sources();
    let output = Arc::new(Output::default());
    const SIGINT: i32 = 2;
    const SIGTERM: i32 = 15;
    for signal in [SIGINT, SIGTERM] {
        let output = Arc::clone(&output);
        glib_unix::unix_signal_add(signal, move || {
            // A second Ctrl-C does not wait for anything.
            if output.is_stopped() {
                std::process::exit(1);
            }
            output.stop();
            glib::ControlFlow::Continue
        });
    }
    // Not scoped: a thread whose source hangs for ever must not keep the program.
    let watchers: Vec<_> = options
        .sources
        .iter()
        .map(|source| {
            let source = Source::new(source);
            let (options, output) = (options.clone(), Arc::clone(&output));
            thread::spawn(move || {
                let end = connection::watch(&source, &options, &output);
                end.map_err(|error| tell(&source.describe(&format!("{error:#}"))))
            })
        })
        .collect();
    let mut stopping: Option<Instant> = None;
    // Signals are delivered by the main context.
    while watchers.iter().any(|watcher| !watcher.is_finished()) {
        while glib::MainContext::default().iteration(false) {}
        thread::sleep(POLL);
        if output.is_stopped() {
            let since = stopping.get_or_insert_with(Instant::now);
            if since.elapsed() >= STOP_WITHIN {
                tell("a source that does not stop is left behind");
                break;
            }
        }
    }
    let mut ends = watchers
        .into_iter()
        .filter(thread::JoinHandle::is_finished)
        .map(thread::JoinHandle::join);
    let all_well = ends.all(|end| matches!(end, Ok(Ok(()))));
    output.finish()?;
    Ok(all_well)
}
