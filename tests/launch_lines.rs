//! Checks the documentation: every gst-launch-1.0 line of README.md and of the elements' own
//! documentation works, and README.md's tables of properties match the elements.

#![cfg(feature = "plugin")]

use std::fmt::Display;
use std::path::{Path, PathBuf};

use gst::glib;
use gst::prelude::*;

mod common;

const ELEMENTS: [&str; 3] = ["mfrdetect", "mfrrecognize", "mfroverlay"];

/// Number of frames of the clip that replaces a user's video, and of the source that replaces a camera.
const FRAMES: u32 = 5;

fn source(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The commands of a text that start with gst-launch-1.0, without comment signs and line breaks.
fn launch_lines(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = false;
    for line in text.lines() {
        let line = line.trim().trim_start_matches("//!").trim();
        let begins = line.starts_with("gst-launch-1.0 ");
        if !begins && !open {
            continue;
        }
        let (line, continued) = match line.strip_suffix('\\') {
            Some(line) => (line, true),
            None => (line, false),
        };
        if begins {
            found.push(String::new());
        }
        let command = found.last_mut().unwrap();
        command.push(' ');
        command.push_str(line.trim());
        open = continued;
    }
    found
}

/// The words of a command as a shell splits them, up to a pipe into another program.
fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut quote) = (None::<String>, None);
    for c in command.chars() {
        match quote {
            Some(q) if c == q => quote = None,
            Some(_) => word.get_or_insert_default().push(c),
            None if c == '"' || c == '\'' => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None if c == '|' => break,
            None if c.is_whitespace() => words.extend(word.take()),
            None => word.get_or_insert_default().push(c),
        }
    }
    assert_eq!(quote, None, "a quote is open: {command}");
    words.extend(word);
    words
}

/// Input files of the lines, and a folder for their output.
struct Stage {
    folder: tempfile::TempDir,
    clip: PathBuf,
}

impl Stage {
    /// Makes a clip of a man in the gallery, from a photo that is not in the gallery.
    fn new() -> Self {
        common::init();
        let folder = tempfile::tempdir().unwrap();
        let clip = folder.path().join("clip.mp4");
        let film = format!(
            "filesrc location=\"{}\" ! jpegdec ! videoconvert ! videoscale \
             ! video/x-raw,format=I420,width=334,height=640,pixel-aspect-ratio=1/1 \
             ! imagefreeze num-buffers={FRAMES} ! video/x-raw,framerate=25/1 \
             ! x264enc speed-preset=ultrafast ! mp4mux ! filesink location=\"{}\"",
            common::photo("obama2.jpg"),
            clip.display()
        );
        play(&gst::parse::launch(&film).unwrap()).unwrap();
        Self { folder, clip }
    }

    /// Replaces cameras, screens and a user's files by what is available here.
    fn replace(&self, words: &[String]) -> Vec<String> {
        let mut replaced = Vec::new();
        let mut element = "";
        for (i, word) in words.iter().enumerate() {
            let is_first = i == 0 || words[i - 1] == "!";
            if is_first {
                element = word;
            }
            let word = match word.split_once('=') {
                None if is_first && word == "v4l2src" => {
                    replaced.push("videotestsrc".into());
                    format!("num-buffers={FRAMES}")
                }
                None if is_first && word == "autovideosink" => "fakesink".into(),
                Some(("device", _)) if element == "v4l2src" => continue,
                Some(("location", _)) if element == "filesrc" => {
                    format!("location={}", self.clip.display())
                }
                Some(("location", file)) if element == "filesink" => {
                    format!("location={}", self.folder.path().join(file).display())
                }
                Some(("uri", uri)) if uri.starts_with("file:") => {
                    format!("uri=file://{}", self.clip.display())
                }
                Some(("database", _)) => format!("database={}", common::gallery().display()),
                _ => word.clone(),
            };
            replaced.push(word);
        }
        replaced
    }

    /// Parses a line and, unless it needs the network, runs it to its end.
    fn try_line(&self, line: &str) -> Result<(), String> {
        let words: Vec<String> = words(line)
            .into_iter()
            .skip(1)
            .skip_while(|word| word.starts_with('-'))
            .collect();
        let arguments = self.replace(&words);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        // Like gst-launch-1.0, a missing element is an error.
        let pipeline = gst::parse::launchv_full(&arguments, None, gst::ParseFlags::FATAL_ERRORS)
            .map_err(|e| e.to_string())?;
        if words.iter().any(|word| word.contains("rtsp://")) {
            return Ok(());
        }
        let labels = play(&pipeline)?;
        let has = |name: &str| words.iter().any(|word| word == name);
        // The source that replaces a camera shows no person.
        if has("mfrrecognize") && !has("v4l2src") && !labels.iter().any(|l| l == "Barack Obama") {
            return Err(format!("the man in the clip was not named, but {labels:?}"));
        }
        for word in &words {
            if let Some(file) = word.strip_prefix("location=")
                && has("filesink")
                && let Ok(data) = std::fs::metadata(self.folder.path().join(file))
                && data.len() < 1000
            {
                return Err(format!("{file} has {} bytes", data.len()));
            }
        }
        Ok(())
    }
}

/// Runs a pipeline to its end; returns the names that mfrrecognize has reported.
fn play(pipeline: &gst::Element) -> Result<Vec<String>, String> {
    let bus = pipeline.bus().unwrap();
    let mut labels = Vec::new();
    // If this fails, the error is on the bus.
    let _ = pipeline.set_state(gst::State::Playing);
    let end = loop {
        let Some(message) = bus.timed_pop(gst::ClockTime::from_seconds(60)) else {
            break Err("neither ended nor failed".into());
        };
        match message.view() {
            gst::MessageView::Eos(_) => break Ok(labels),
            gst::MessageView::Error(e) => break Err(format!("{} {:?}", e.error(), e.debug())),
            gst::MessageView::Element(e) => labels.extend(
                e.structure()
                    .filter(|s| s.name() == "mfrrecognize")
                    .and_then(|s| s.get::<gst::Array>("faces").ok())
                    .iter()
                    .flat_map(|faces| faces.as_slice())
                    .filter_map(|face| face.get::<gst::Structure>().ok()?.get("label").ok()),
            ),
            _ => {}
        }
    };
    pipeline.set_state(gst::State::Null).unwrap();
    end
}

#[test]
fn launch_lines_of_the_documentation_work() {
    let stage = Stage::new();
    let mut failures = Vec::new();
    let files = ELEMENTS.map(|element| format!("src/plugin/{element}/mod.rs"));
    for file in files.iter().map(String::as_str).chain(["README.md"]) {
        let lines = launch_lines(&source(file));
        assert!(!lines.is_empty(), "{file} has no launch line");
        for line in lines {
            if let Err(error) = stage.try_line(&line) {
                failures.push(format!("{file}:{line}\n    {error}"));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn lines_that_are_wrong_do_not_pass() {
    let stage = Stage::new();
    for line in [
        "gst-launch-1.0 filesrc location=in.mp4 ! decodebin ! mfrdetct ! fakesink",
        "gst-launch-1.0 filesrc location=in.mp4 ! decodebin ! mfrdetect min-size=3 ! fakesink",
        // No face is detected, so none is named.
        "gst-launch-1.0 filesrc location=in.mp4 ! decodebin ! mfrrecognize database=g.npz ! fakesink",
        "gst-launch-1.0 uridecodebin uri=rtsp://host/ ! mfrdetect ! mfrdtect ! fakesink",
    ] {
        assert!(stage.try_line(line).is_err(), "{line}");
    }
}

#[test]
fn lines_are_joined_and_cut_into_words_as_a_shell_does() {
    let text = "text\n//!   gst-launch-1.0 -e a b=\"c d\" \\\n//!     ! e | grep gst\n//! more";
    let lines = launch_lines(text);
    assert_eq!(lines, [" gst-launch-1.0 -e a b=\"c d\" ! e | grep gst"]);
    assert_eq!(
        words(&lines[0]),
        ["gst-launch-1.0", "-e", "a", "b=c d", "!", "e"]
    );
}

/// A row of a table of properties: name, type, range, default.
type Row = [String; 4];

/// The rows below the heading of an element, sorted, without the description.
fn documented(readme: &str, element: &str) -> Vec<Row> {
    let heading = format!("### {element}");
    let mut rows: Vec<Row> = readme
        .lines()
        .skip_while(|line| *line != heading)
        .skip(1)
        .take_while(|line| !line.starts_with('#'))
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let mut cells = line.trim_matches('|').split('|');
            std::array::from_fn(|_| cells.next().unwrap_or("").trim().replace('`', ""))
        })
        .collect();
    rows.sort();
    rows
}

/// The rows for the element's own properties, without inherited ones.
fn actual(element: &str) -> Vec<Row> {
    let element = gst::ElementFactory::make(element).build().unwrap();
    let mut rows: Vec<Row> = element
        .list_properties()
        .iter()
        .filter(|pspec| pspec.owner_type() == element.type_())
        .map(row)
        .collect();
    rows.sort();
    rows
}

fn row(pspec: &glib::ParamSpec) -> Row {
    fn numbers<T: Display>(kind: &str, least: T, most: T, default: T) -> (String, String, String) {
        let range = format!("{least} to {most}");
        (kind.into(), range, default.to_string())
    }
    let (kind, range, default) = if let Some(p) = pspec.downcast_ref::<glib::ParamSpecUInt>() {
        numbers("uint", p.minimum(), p.maximum(), p.default_value())
    } else if let Some(p) = pspec.downcast_ref::<glib::ParamSpecInt>() {
        numbers("int", p.minimum(), p.maximum(), p.default_value())
    } else if let Some(p) = pspec.downcast_ref::<glib::ParamSpecDouble>() {
        numbers("double", p.minimum(), p.maximum(), p.default_value())
    } else if let Some(p) = pspec.downcast_ref::<glib::ParamSpecBoolean>() {
        ("bool".into(), String::new(), p.default_value().to_string())
    } else if let Some(p) = pspec.downcast_ref::<glib::ParamSpecEnum>() {
        let class = p.enum_class();
        let values = class.values();
        let nicks: Vec<_> = values.iter().map(|value| value.nick()).collect();
        let default = glib::EnumValue::from_value(pspec.default_value());
        (
            "enum".into(),
            nicks.join(", "),
            default.map_or("?", |(_, value)| value.nick()).into(),
        )
    } else {
        let default: Option<String> = pspec.default_value().get().unwrap();
        let default = match default.as_deref() {
            None => "null",
            Some("") => "\"\"",
            Some(text) => text,
        };
        ("string".into(), String::new(), default.into())
    };
    [pspec.name().into(), kind, range, default]
}

#[test]
fn the_tables_of_properties_say_what_the_elements_say() {
    common::init();
    let readme = source("README.md");
    for element in ELEMENTS {
        let (documented, actual) = (documented(&readme, element), actual(element));
        for row in &actual {
            assert!(
                documented.contains(row),
                "{element}: README.md lacks {row:?}"
            );
        }
        for row in &documented {
            assert!(
                actual.contains(row),
                "{element}: README.md has {row:?}, the element has not"
            );
        }
        assert_eq!(documented, actual, "{element}: a row stands twice");
    }
}
