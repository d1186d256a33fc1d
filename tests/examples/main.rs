//! Runs the programs and scripts of `examples/` as users do: in processes of their own, with
//! the plugin as a file that GStreamer has to find.
#![cfg(feature = "plugin")]

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{LazyLock, mpsc};
use std::time::Duration;

use gst::prelude::*;
use gstmfr::detect::Params;
use gstmfr::frame::image::ImageView;
use gstmfr::gallery::{Contract, Entry, Gallery, Kind};
use gstmfr::nn::SessionOptions;
use gstmfr::pipeline::Pipeline;
use serde_json::Value;

#[path = "../common/mod.rs"]
mod common;
mod mfr_watch;
// Parts of mfr-watch, for their own tests: an example with its tests enabled would not be built as a program.
#[path = "../../examples/mfr_watch/secrets.rs"]
mod secrets;
#[allow(dead_code, reason = "only its tests are of use here")]
#[path = "../../examples/mfr_watch/source.rs"]
mod source;

/// Number of frames of the clip.
const FRAMES: u32 = 30;

/// A name with a space and a non-ASCII letter, which must be printed correctly.
const PERSON: &str = "Barack Ōbama";

/// Files that the examples process, made once. The clip shows a person in a photo that is not in
/// the gallery; the paths contain spaces.
struct Stage {
    folder: tempfile::TempDir,
}

static STAGE: LazyLock<Stage> = LazyLock::new(Stage::build);

fn source_tree() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

impl Stage {
    fn build() -> Self {
        gst::init().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let stage = Self { folder };
        std::fs::create_dir(stage.path("plugins")).unwrap();
        std::fs::copy(plugin(), stage.path("plugins").join("libgstmfr.so")).unwrap();
        enrol(PERSON, &["obama.jpg", "obama3.jpg"], &stage.gallery());
        film(&photo("obama2.jpg"), &stage.clip());
        stage
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn gallery(&self) -> PathBuf {
        self.path("the gallery.npz")
    }

    fn clip(&self) -> PathBuf {
        self.path("the clip.mp4")
    }

    fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command
            .env("GST_PLUGIN_PATH", self.path("plugins"))
            .env("GST_REGISTRY", self.path("registry"))
            .env("PYTHONIOENCODING", "utf-8")
            // A video window is replaced by fakevideosink, so no display is needed.
            .env("GST_PLUGIN_FEATURE_RANK", "fakevideosink:MAX")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, program: impl AsRef<Path>, arguments: &[&Path]) -> Output {
        self.command(program.as_ref())
            .args(arguments)
            .output()
            .unwrap_or_else(|e| panic!("{}: {e}", program.as_ref().display()))
    }
}

/// The library that cargo has built for this test.
fn plugin() -> PathBuf {
    let deps = std::env::current_exe().unwrap();
    deps.parent().unwrap().join("libgstmfr.so")
}

fn photo(name: &str) -> PathBuf {
    let folder = match std::env::var_os("MFR_DEMO_PHOTOS") {
        Some(folder) => PathBuf::from(folder),
        None => source_tree().join("target/demo/photos"),
    };
    let path = folder.join(name);
    assert!(
        path.is_file(),
        "{} is missing: run `make photos`",
        path.display()
    );
    path
}

fn enrol(person: &str, photos: &[&str], gallery: &Path) {
    let mut pipeline = Pipeline::new(None, &SessionOptions::default()).unwrap();
    let mut entries = Vec::new();
    for name in photos {
        let photo = image::open(photo(name)).unwrap().into_rgb8();
        let (width, height) = (photo.width() as usize, photo.height() as usize);
        let view = ImageView::rgb(photo.as_raw(), width, height).unwrap();
        let (_, found) = pipeline.faces(&view, &Params::default()).unwrap();
        entries.push(Entry {
            name: person.into(),
            source: (*name).into(),
            kind: Kind::Photo,
            // The most confident face comes first.
            embedding: found.embeddings.row(0).to_owned(),
        });
    }
    let contract = Contract::new(pipeline.embedder.model_sha256(), pipeline.embedder.dim());
    Gallery::train(entries, contract)
        .unwrap()
        .save(gallery)
        .unwrap();
}

/// A clip that shows a photo for [`FRAMES`] frames; the face in it is about 150 pixels wide.
fn film(photo: &Path, clip: &Path) {
    film_through(photo, "x264enc speed-preset=ultrafast ! mp4mux", clip);
}

/// Writes a clip of a photo through other elements.
fn film_through(photo: &Path, elements: &str, clip: &Path) {
    run_pipeline(
        &format!(
            "filesrc name=from ! jpegdec ! videoconvert ! videoscale \
             ! video/x-raw,format=I420,width=334,height=640,pixel-aspect-ratio=1/1 \
             ! imagefreeze num-buffers={FRAMES} ! video/x-raw,framerate=25/1 \
             ! {elements} ! filesink name=to"
        ),
        &[("from", photo), ("to", clip)],
    );
}

/// Runs a pipeline to its end; `locations` are set on the elements with these names.
fn run_pipeline(description: &str, locations: &[(&str, &Path)]) {
    let pipeline = gst::parse::launch(description).unwrap();
    let pipeline = pipeline.downcast::<gst::Pipeline>().unwrap();
    for (name, path) in locations {
        let element = pipeline.by_name(name).unwrap();
        element.set_property("location", path.to_str().unwrap());
    }
    pipeline.set_state(gst::State::Playing).unwrap();
    let end = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = pipeline
        .bus()
        .unwrap()
        .timed_pop_filtered(gst::ClockTime::from_seconds(60), &end)
        .expect("the pipeline neither ended nor failed");
    pipeline.set_state(gst::State::Null).unwrap();
    if let gst::MessageView::Error(error) = message.view() {
        panic!("{} {:?}", error.error(), error.debug());
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Writes every decoded frame to a file of its own and counts the files.
fn count_frames(video: &Path) -> u32 {
    let folder = tempfile::tempdir().unwrap();
    run_pipeline(
        "filesrc name=from ! decodebin ! multifilesink name=to",
        &[("from", video), ("to", &folder.path().join("%05d"))],
    );
    std::fs::read_dir(folder.path()).unwrap().count() as u32
}

fn example(name: &str) -> PathBuf {
    source_tree().join("examples").join(name)
}

/// A Rust application that `cargo test` builds along with the tests; None if the enabled features do not allow it.
fn application(name: &str) -> Option<PathBuf> {
    let path = plugin().parent()?.parent()?.join("examples").join(name);
    if !path.is_file() {
        // `cargo test` builds all examples that the features allow; `--test examples` builds none.
        if cfg!(feature = "cli") {
            panic!(
                "{} has not been built: run cargo build --examples with the profile of this test",
                path.display()
            );
        }
        common::skip(format_args!("{name} needs the feature cli"));
        return None;
    }
    Some(path)
}

/// A Python with a GObject module, which Debian installs for the system's Python only, whichever comes first
/// in PATH.
fn python_with(module: &str, package: &str) -> Option<&'static str> {
    let check = format!(
        "import gi; gi.require_version('{module}', '1.0'); from gi.repository import {module}"
    );
    let has_module = |python: &&str| {
        let output = Command::new(python).args(["-c", &check]).output();
        output.is_ok_and(|o| o.status.success())
    };
    let python = ["python3", "/usr/bin/python3"].into_iter().find(has_module);
    if python.is_none() {
        common::skip(format_args!(
            "no python3 has {module} (apt install python3-gi {package})"
        ));
    }
    python
}

fn python() -> Option<&'static str> {
    python_with("GstVideo", "gir1.2-gst-plugins-base-1.0")
}

/// A program that is killed at the end of its test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The lines from a pipe, as they arrive.
fn lines(pipe: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    receiver
}

/// Waits for a line that contains a text.
fn await_line(lines: &mpsc::Receiver<String>, wanted: &str) -> String {
    let mut before = Vec::new();
    while let Ok(line) = lines.recv_timeout(Duration::from_secs(60)) {
        if line.contains(wanted) {
            return line;
        }
        before.push(line);
    }
    panic!("no line with {wanted:?}, but {before:#?}");
}

fn json_lines(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", text(output));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let stdout = String::from_utf8(output.stdout.clone()).unwrap();
    stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect()
}

/// Asserts the output about the clip, which both applications print.
fn assert_tells_of_the_person(output: &Output) {
    let text = text(output);
    assert!(output.status.success(), "{text}");
    let lines: Vec<_> = text.lines().collect();
    let event = |event: &str| {
        let wanted = format!("{PERSON} {event}");
        lines.iter().filter(|l| l.contains(&wanted)).count()
    };
    assert_eq!((event("identified"), event("left")), (1, 1), "{text}");
    // The table counts the person in every frame and nobody else.
    let row = lines.iter().find(|l| l.starts_with(PERSON));
    let row = row.unwrap_or_else(|| panic!("no table: {text}"));
    let frames: u32 = row[PERSON.len()..]
        .split_whitespace()
        .next()
        .and_then(|n| n.parse().ok())
        .unwrap();
    assert_eq!(frames, FRAMES, "{text}");
    assert!(!text.contains("unknown"), "{text}");
}

#[test]
fn file_sh_writes_a_video_of_the_same_length() {
    let out = STAGE.path("named by file.mp4");
    let output = STAGE.run(example("file.sh"), &[&STAGE.clip(), &STAGE.gallery(), &out]);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(count_frames(&out), FRAMES);
}

#[test]
fn the_rust_application_tells_who_is_there_and_writes_the_video() {
    let Some(application) = application("recognize") else {
        return;
    };
    let out = STAGE.path("named by the application.mp4");
    let output = STAGE.run(
        application,
        &[
            &STAGE.clip(),
            "--database".as_ref(),
            &STAGE.gallery(),
            "--output".as_ref(),
            &out,
        ],
    );
    assert_tells_of_the_person(&output);
    assert_eq!(count_frames(&out), FRAMES);
}

#[test]
fn the_rust_application_shows_a_window_and_writes_the_video_at_once() {
    let Some(application) = application("recognize") else {
        return;
    };
    let out = STAGE.path("shown and named.mp4");
    let output = STAGE.run(
        application,
        &[
            &STAGE.clip(),
            "--database".as_ref(),
            &STAGE.gallery(),
            "--window".as_ref(),
            "--output".as_ref(),
            &out,
        ],
    );
    assert_tells_of_the_person(&output);
    assert_eq!(count_frames(&out), FRAMES);
}

#[test]
fn the_rust_application_writes_the_video_of_a_phone_upright() {
    let (Some(application), Some(watch)) = (application("recognize"), application("mfr-watch"))
    else {
        return;
    };
    let lying = STAGE.path("lying.mov");
    film_through(
        &photo("obama2.jpg"),
        "videoflip video-direction=90l ! x264enc speed-preset=ultrafast ! qtmux",
        &lying,
    );
    let tagged = common::turned_by_90(&std::fs::read(&lying).unwrap());
    std::fs::write(&lying, tagged).unwrap();
    let upright = STAGE.path("upright.mp4");
    let database = STAGE.gallery();
    let gallery: [&Path; 2] = ["--database".as_ref(), &database];
    let output = STAGE.run(
        application,
        &[
            gallery[0],
            gallery[1],
            "--output".as_ref(),
            &upright,
            &lying,
        ],
    );
    assert!(output.status.success(), "{}", text(&output));
    let arguments = [gallery[0], gallery[1], "--frames".as_ref()];
    // The frame and the face are higher than wide only if the video is upright.
    for (video, width) in [(&lying, 640), (&upright, 334)] {
        let output = STAGE.run(&watch, &[&arguments[..], &[video]].concat());
        let line = &json_lines(&output)[FRAMES as usize / 2];
        assert_eq!(line["resolution"]["width"], width, "{line}");
        assert_eq!(line["objects"][0]["identity"]["label"], PERSON, "{line}");
        let [w, h] = ["w", "h"].map(|side| line["objects"][0][side].as_i64());
        assert_eq!(w < h, width == 334, "{line}");
    }
}

/// examples/c/who, built by the first test that needs it.
fn c_application() -> &'static Path {
    static WHO: LazyLock<PathBuf> = LazyLock::new(|| {
        let output = Command::new("make")
            .arg("-C")
            .arg(example("c"))
            .arg(format!("OUT={}", STAGE.folder.path().display()))
            .env("CFLAGS", "-Werror")
            // MAKEFLAGS of the make that runs this test must not affect another project.
            .env_remove("MAKEFLAGS")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output));
        STAGE.path("who")
    });
    &WHO
}

#[test]
fn the_c_application_tells_who_is_in_each_frame_and_leaks_nothing() {
    let output = STAGE
        .command(c_application())
        .args([STAGE.clip(), STAGE.gallery()])
        .env("GST_TRACERS", "leaks")
        .env("GST_DEBUG", "GST_TRACER:7")
        .env("GST_DEBUG_NO_COLOR", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let stdout = String::from_utf8_lossy(&output.stdout);
    let count = |wanted: &str| stdout.lines().filter(|line| line.contains(wanted)).count();
    let in_frames = format!("{PERSON} (similarity 0.");
    assert_eq!(count(&in_frames), FRAMES as usize, "{stdout}");
    assert_eq!(count(&format!("{PERSON} identified")), 1, "{stdout}");
    assert_eq!(count(&format!("{PERSON} left")), 1, "{stdout}");
    common::assert_nothing_left(&String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_python_application_tells_who_is_there() {
    let Some(python) = python() else {
        return;
    };
    let output = STAGE.run(
        python,
        &[
            &example("recognize.py"),
            &STAGE.clip(),
            "--database".as_ref(),
            &STAGE.gallery(),
        ],
    );
    assert_tells_of_the_person(&output);
}

#[test]
fn the_door_opens_once_to_the_right_person_and_is_closed_in_the_end() {
    let Some(python) = python() else {
        return;
    };
    let run = |options: &[&str]| {
        STAGE
            .command(python)
            .arg(example("door.py"))
            .arg(STAGE.clip())
            .arg("--database")
            .arg(STAGE.gallery())
            .args(["--command", "echo 'relay on'", "--close-command"])
            .args(["echo 'relay off'", "--allow"])
            .args(options)
            .output()
            .unwrap()
    };
    let told = |options: &[&str]| {
        let output = run(options);
        assert!(output.status.success(), "{}", text(&output));
        text(&output)
    };
    // The clip lasts slightly longer than the second for which a face must be seen before the door opens.
    let opened = format!("relay on\n   1.00 s  open to {PERSON}\nrelay off\n           close\n");
    assert_eq!(told(&[PERSON]), opened);
    assert_eq!(told(&[PERSON, "--mask", "off"]), opened);
    // One requires another mask state, the other a longer time than the clip has.
    assert_eq!(told(&[PERSON, "--mask", "on"]), "");
    assert_eq!(told(&[PERSON, "--seen-for", "1.5"]), "");
    // A misspelt name would keep the door shut forever.
    let misspelt = run(&[PERSON, "--allow", "Barak"]);
    assert_eq!(misspelt.status.code(), Some(2));
    let says = format!("found: Barak; did you mean {PERSON}?");
    assert!(text(&misspelt).contains(&says), "{}", text(&misspelt));
    let stranger = text(&run(&[PERSON, "--allow", "Zoe"]));
    let says = format!("found: Zoe; it holds {PERSON}\n");
    assert!(stranger.contains(&says), "{stranger}");
    // A door whose command fails is not open, and is closed at once, because the command may have done half of it.
    let failed = told(&[PERSON, "--command", "false"]);
    let (stdout, stderr) = failed.split_once("door.py: ").unwrap();
    assert_eq!(stdout, "relay off\n");
    assert!(stderr.starts_with("cannot open the door: "), "{failed}");
}

#[test]
fn the_door_opens_after_a_second() {
    let Some(python) = python() else {
        return;
    };
    let output = STAGE.run(python, &[&source_tree().join("tests/access_control.py")]);
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn unknown_faces_are_kept_where_they_can_be_discovered() {
    let Some(python) = python() else {
        return;
    };
    let rules = STAGE.run(python, &[&source_tree().join("tests/strangers.py")]);
    assert!(rules.status.success(), "{}", text(&rules));
    let others = STAGE.path("others.npz");
    enrol("Joe", &["biden.jpg"], &others);
    let kept = |gallery: &Path, folder: &Path| {
        let mut command = STAGE.command(python);
        command.arg(example("strangers.py")).arg(STAGE.clip());
        command.arg("--database").arg(gallery);
        let output = command.args(["--days", "2", "--keep"]).arg(folder).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", text(&output));
        let files = std::fs::read_dir(folder).unwrap();
        let files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
        (text(&output), files)
    };
    // The person of the clip is in one of the galleries.
    let (said, files) = kept(&STAGE.gallery(), &STAGE.path("nobody"));
    assert_eq!((said.as_str(), files.len()), ("", 0));
    let (said, files) = kept(&others, &STAGE.path("strangers"));
    assert!(said.contains("kept a face that is not known"), "{said}");
    assert_eq!(files.len(), 1, "{files:?}");
    let crop = image::open(&files[0]).unwrap();
    let (faces, _) = Pipeline::new(None, &SessionOptions::default())
        .unwrap()
        .faces(
            &ImageView::rgb(
                &crop.to_rgb8(),
                crop.width() as usize,
                crop.height() as usize,
            )
            .unwrap(),
            &Params::default(),
        )
        .unwrap();
    assert_eq!(faces.len(), 1);
}

#[test]
fn a_missing_gallery_is_named_by_every_example() {
    let nowhere = STAGE.path("nowhere.npz");
    let clip = STAGE.clip();
    let arguments: [&Path; 3] = [&clip, "--database".as_ref(), &nowhere];
    let mut outputs = vec![
        STAGE.run(
            example("file.sh"),
            &[&clip, &nowhere, &STAGE.path("never.mp4")],
        ),
        STAGE.run(c_application(), &[&clip, &nowhere]),
    ];
    let applications = ["recognize", "mfr-watch"]
        .into_iter()
        .filter_map(application);
    outputs.extend(applications.map(|application| STAGE.run(application, &arguments)));
    outputs.extend(application("recognize").map(|application| {
        let output = STAGE.path("nor this.mp4");
        let arguments = [&arguments[..], &["--output".as_ref(), output.as_path()]].concat();
        STAGE.run(application, &arguments)
    }));
    if let Some(python) = python() {
        let nobody: [&Path; 2] = ["--allow".as_ref(), "nobody".as_ref()];
        let keep = STAGE.path("kept of nobody");
        let keep: [&Path; 4] = ["--days".as_ref(), "1".as_ref(), "--keep".as_ref(), &keep];
        for (script, more) in [
            ("recognize.py", &nobody[..0]),
            ("door.py", &nobody),
            ("strangers.py", &keep),
        ] {
            let script = example(script);
            let arguments = [&[script.as_path()], &arguments[..], more].concat();
            outputs.push(STAGE.run(python, &arguments));
        }
    }
    for output in outputs {
        assert!(!output.status.success(), "{}", text(&output));
        assert!(text(&output).contains("nowhere.npz"), "{}", text(&output));
        assert!(!text(&output).contains("frames"), "{}", text(&output));
        assert!(!text(&output).contains("recognize: recognize"));
    }
    assert!(!STAGE.path("never.mp4").exists());
    assert!(!STAGE.path("nor this.mp4").exists());
}

#[test]
fn the_rust_application_writes_no_other_format_than_its_ending_says() {
    let Some(application) = application("recognize") else {
        return;
    };
    let film = STAGE.path("film.avi");
    let arguments: [&Path; 5] = [
        &STAGE.clip(),
        "--database".as_ref(),
        &STAGE.gallery(),
        "--output".as_ref(),
        &film,
    ];
    let output = STAGE.run(application, &arguments);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("expected a name that ends in .mp4"));
    assert!(!film.exists());
}

/// Names of the examples that print, with commands that run them on a source; the door opens for `person`.
fn printing_examples(source: &Path, gallery: &Path, person: &str) -> Vec<(&'static str, Command)> {
    let mut who = STAGE.command(c_application());
    who.args([source, gallery]);
    let mut examples = vec![("who", who)];
    let with_options = |mut command: Command| {
        command.arg(source).arg("--database").arg(gallery);
        command
    };
    for name in ["recognize", "mfr-watch"] {
        let program = application(name);
        examples.extend(program.map(|path| (name, with_options(STAGE.command(path)))));
    }
    if let Some(python) = python() {
        for (name, options) in [
            ("recognize.py", None),
            ("door.py", Some(["--allow", person])),
        ] {
            let mut command = STAGE.command(python);
            command.arg(example(name));
            let mut command = with_options(command);
            command.args(options.into_iter().flatten());
            examples.push((name, command));
        }
    }
    examples
}

#[test]
fn no_example_prints_a_name_that_controls_the_terminal() {
    let person = "Ana\u{1b}[31m\u{9b}2J\u{202e}\u{2066}";
    let gallery = STAGE.path("hostile.npz");
    enrol(person, &["obama.jpg", "obama3.jpg"], &gallery);
    for (name, mut command) in printing_examples(&STAGE.clip(), &gallery, person) {
        let output = command.output().unwrap();
        let text = text(&output);
        assert!(output.status.success(), "{name}: {text:?}");
        // The name is printed, and the rest of the escape sequence has no effect.
        assert!(
            text.contains("Ana") && text.contains("[31m"),
            "{name}: {text:?}"
        );
        let controls = ['\u{1b}', '\u{9b}', '\u{202e}', '\u{2066}'];
        assert!(!text.contains(controls), "{name}: {text:?}");
    }
}

#[test]
fn no_example_prints_the_password_of_a_camera() {
    let source = "http://ana:s3cret/s3cret@127.0.0.1:9/live?x=1&token=s3cret";
    for (name, mut command) in printing_examples(source.as_ref(), &STAGE.gallery(), PERSON) {
        let process = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        // It is killed at the end, because mfr-watch would try again.
        let mut process = Process(process.unwrap());
        let stderr = lines(process.0.stderr.take().unwrap());
        let told = await_line(&stderr, "token=***");
        assert!(!told.contains("s3cret"), "{name}: {told}");
    }
}

#[test]
fn scripts_without_arguments_print_their_usage() {
    for name in ["file.sh", "webcam.sh"] {
        let output = Command::new(example(name)).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{name}");
        assert!(text(&output).starts_with("Usage: "), "{name}");
    }
}
