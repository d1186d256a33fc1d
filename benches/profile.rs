//! Profile of a frame that is searched in full: time of each part.
//!
//! ```sh
//! make photos
//! cargo bench --bench profile                            # prints the tables
//! cargo bench --bench profile -- --svg docs/profile.svg  # and draws the chart of docs/performance.md
//! ```
//!
//! The frames have four sizes, 0, 1, 8 and 60 faces, and four formats, and are composed of the demo's photos. They are
//! processed on one thread, so that the parts add up. Times are in milliseconds, from the run with the median total.

mod shared;

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use gstmfr::detect::{Detector, Params};
use gstmfr::draw::{Annotation, IdentityState, Painter, Style};
use gstmfr::embed::Embedder;
use gstmfr::frame::geometry::Rect;
use gstmfr::frame::image::{ImageViewMut, PixelFormat, PlaneMut};
use gstmfr::gallery::{Contract, Entry, Gallery, Kind};
use gstmfr::nn::SessionOptions;
use image::imageops::{self, FilterType};
use ndarray::Array1;
use shared::frames::{Frame, Photos};
use shared::{Error, cpu, median};

const SIZES: [(&str, usize, usize); 4] = [
    ("640×640", 640, 640),
    ("720p", 1280, 720),
    ("1080p", 1920, 1080),
    ("4K", 3840, 2160),
];
const FACES: [usize; 4] = [0, 1, 8, 60];
/// The first format is that of H.264 decoders, for which the tables and the chart are.
const FORMATS: [(&str, PixelFormat); 4] = [
    ("NV12", PixelFormat::Nv12),
    ("I420", PixelFormat::I420),
    ("RGB", PixelFormat::Rgb),
    ("BGRx", PixelFormat::Bgrx),
];
const RUNS: usize = 5;

/// The parts of a frame's time, in order of execution.
const PARTS: [&str; 9] = [
    "pyramid", "P-Net", "crops", "R-Net", "O-Net", "boxes", "FaceNet", "naming", "drawing",
];
const COLORS: [&str; 9] = [
    "#4e79a7", "#f28e2b", "#76b7b2", "#e15759", "#b07aa1", "#bab0ac", "#59a14f", "#edc948",
    "#9c755f",
];

/// Number of people in the gallery that faces are identified with.
const PEOPLE: usize = 100;
/// Number of embeddings of each person.
const EMBEDDINGS: usize = 5;

/// Time of each part, in milliseconds.
type Times = [f64; PARTS.len()];

struct Tools {
    detector: Detector,
    embedder: Embedder,
    gallery: Gallery,
    painter: Painter,
}

/// Times of a frame.
struct Cost {
    found: usize,
    times: Times,
    /// Wall-clock time of detection and embedding, on all threads.
    search: f64,
    /// Time of `follow` at the boxes of the faces, instead of a search.
    follow: f64,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("profile: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let mut svg = None;
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--bench" => {}
            "--svg" => svg = Some(PathBuf::from(arguments.next().ok_or("--svg needs a file")?)),
            _ => return Err(format!("{argument} is not an option").into()),
        }
    }
    println!("{}, one thread, min-face-size 40", cpu());
    let photos = Photos::load()?;
    let mut tools = Tools::load(1)?;
    let mut bars = Vec::new();
    let mut formats = Vec::new();
    let columns = PARTS.into_iter().chain(["whole", "follow"]);
    println!("\n{}", heading("NV12", columns));
    for (size, width, height) in SIZES {
        for count in FACES {
            let picture = photos.frame(width, height, count);
            for (format, pixels) in FORMATS {
                let frame = Frame::new(&picture, pixels);
                let cost = tools.measure(frame, 40)?;
                let faces = if cost.found == 1 { "face" } else { "faces" };
                let label = format!("{size}, {} {faces}", cost.found);
                let [pyramid, _, crops, ..] = cost.times;
                if format == FORMATS[0].0 {
                    let whole = cost.times.iter().sum();
                    let cells = cost.times.into_iter().chain([whole, cost.follow]);
                    println!("{label:20}{}", cells.map(cell).collect::<String>());
                    formats.push((label.clone(), Vec::new()));
                    bars.push((label, cost.times));
                }
                if let Some((_, row)) = formats.last_mut() {
                    row.push(pyramid + crops);
                }
            }
        }
    }
    let names = FORMATS.map(|(name, _)| name);
    println!("\n{}", heading("pyramid and crops", names));
    for (label, row) in formats {
        println!(
            "{label:20}{}",
            row.into_iter().map(cell).collect::<String>()
        );
    }
    fourfold(&photos)?;
    if let Some(file) = svg {
        std::fs::write(&file, picture(&bars))?;
        println!("\n{} written", file.display());
    }
    Ok(())
}

/// Compares frames with four times the pixels, where the smallest face has the same size relative to the frame.
fn fourfold(photos: &Photos) -> Result<(), Error> {
    println!("\n4K at min-face-size 80 against 1080p at 40, detection and embedding, ms");
    for threads in [1, 0] {
        let mut tools = Tools::load(threads)?;
        for count in FACES {
            let scene = photos.frame(3840, 2160, count);
            let half = imageops::resize(&scene, 1920, 1080, FilterType::Triangle);
            let large = (tools.measure(Frame::new(&scene, PixelFormat::Nv12), 80)?).search;
            let small = (tools.measure(Frame::new(&half, PixelFormat::Nv12), 40)?).search;
            let how = if threads == 1 {
                "one thread"
            } else {
                "all cores"
            };
            println!(
                "{how}, faces {count}: {large:.2} against {small:.2}, × {:.2}",
                large / small
            );
        }
    }
    Ok(())
}

impl Tools {
    fn load(threads: usize) -> Result<Self, Error> {
        let options = SessionOptions {
            threads,
            ..SessionOptions::default()
        };
        let embedder = Embedder::from_file(&Embedder::default_model()?, &options, 0)?;
        Ok(Self {
            detector: Detector::built_in(&options)?,
            gallery: gallery(embedder.dim())?,
            embedder,
            painter: Painter::new(),
        })
    }

    fn measure(&mut self, frame: Frame, min_face_size: u32) -> Result<Cost, Error> {
        // A copy is drawn on, so that the searched frame does not change.
        let mut canvas = frame.clone();
        let params = Params {
            min_face_size,
            ..Params::default()
        };
        let mut runs = Vec::new();
        let (mut searches, mut follows) = (Vec::new(), Vec::new());
        for _ in 0..=RUNS {
            let view = frame.view()?;
            let begin = Instant::now();
            let faces = self.detector.detect(&view, &params)?;
            let detect = ms(begin);
            let stages = self.detector.stages();
            let parts = [
                stages.pyramid,
                stages.pnet,
                stages.crops,
                stages.rnet,
                stages.onet,
            ];
            let parts = parts.map(|part| part.as_secs_f64() * 1e3);
            let rects: Vec<Rect> = faces.iter().map(|f| f.rect).collect();
            let begin = Instant::now();
            let embedded = self.embedder.embed(&view, &rects)?;
            let embed = ms(begin);
            searches.push(detect + embed);
            let masked: Vec<_> = embedded.masks.iter().map(|mask| mask.is_worn()).collect();
            let begin = Instant::now();
            let people = (self.gallery).identify_frame(embedded.embeddings.view(), &masked, None);
            let name = ms(begin);
            let begin = Instant::now();
            self.detector.follow(&view, &rects)?;
            follows.push(ms(begin));
            let annotations: Vec<_> = (faces.iter().zip(&people).enumerate())
                .map(|(i, (face, person))| Annotation {
                    id: i as i32 + 1,
                    rect: face.rect,
                    landmarks: Some(face.landmarks),
                    state: IdentityState::Known,
                    name: "Somebody Known",
                    similarity: Some(person.similarity),
                    masked: Some(false),
                })
                .collect();
            let info = canvas.info();
            let planes = canvas.planes_mut();
            let planes = planes.map(|(data, stride)| PlaneMut { data, stride });
            let mut image = ImageViewMut::new(info, planes.collect())?;
            let begin = Instant::now();
            (self.painter).draw(&mut image, &annotations, &Style::default());
            let draw = ms(begin);
            let [pyramid, pnet, crops, rnet, onet] = parts;
            let boxes = (detect - parts.iter().sum::<f64>()).max(0.0);
            let times: Times = [pyramid, pnet, crops, rnet, onet, boxes, embed, name, draw];
            runs.push((faces.len(), times));
        }
        // The first run warms up: it allocates what the others reuse.
        runs.remove(0);
        searches.remove(0);
        follows.remove(0);
        let whole = |(_, times): &(usize, Times)| times.iter().sum::<f64>();
        runs.sort_by(|a, b| whole(a).total_cmp(&whole(b)));
        let (found, times) = runs[runs.len() / 2];
        Ok(Cost {
            found,
            times,
            search: median(searches),
            follow: median(follows),
        })
    }
}

fn ms(begin: Instant) -> f64 {
    begin.elapsed().as_secs_f64() * 1e3
}

fn cell(value: f64) -> String {
    format!("{value:>9.2}")
}

fn heading<'a>(first: &str, columns: impl IntoIterator<Item = &'a str>) -> String {
    let columns = columns.into_iter().map(|name| format!("{name:>9}"));
    format!("{first:20}{}", columns.collect::<String>())
}

/// A gallery of random embeddings, because the time of identification does not depend on them.
fn gallery(dim: usize) -> Result<Gallery, Error> {
    let mut state = 1u32;
    let mut entries = Vec::new();
    for person in 0..PEOPLE {
        for photo in 0..EMBEDDINGS {
            let values = Array1::from_shape_simple_fn(dim, || {
                // The generator is that of Numerical Recipes.
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 24) as f32 - 0.5
            });
            let length = values.dot(&values).sqrt();
            entries.push(Entry {
                name: format!("person {person}"),
                source: format!("{person}/{photo}"),
                kind: Kind::Photo,
                embedding: values / length,
            });
        }
    }
    let contract = Contract::new("", dim);
    Ok(Gallery::train(entries, contract)?)
}

/// A chart with a bar for each frame, all of the same length, divided in proportion to the times, and the total beside
/// it.
fn picture(bars: &[(String, Times)]) -> String {
    const ROW: usize = 18;
    const TOP: usize = 44;
    const LEFT: usize = 130;
    const WIDTH: f64 = 480.0;
    let height = TOP + bars.len() * ROW + 8;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 700 {height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    let mut text = |x: usize, y: usize, anchor: &str, text: &str| {
        let _ = writeln!(svg, "<text x=\"{x}\" y=\"{y}\"{anchor}>{text}</text>");
    };
    for (i, part) in PARTS.iter().enumerate() {
        text(28 + 76 * i, 22, "", part);
    }
    for (i, (label, times)) in bars.iter().enumerate() {
        let y = TOP + i * ROW + 12;
        text(LEFT - 8, y, " text-anchor=\"end\"", label);
        let whole = format!("{:.1} ms", times.iter().sum::<f64>());
        text(690, y, " text-anchor=\"end\"", &whole);
    }
    for (part, color) in COLORS.iter().enumerate() {
        let mut path = format!("M{} 13h10v10h-10z", 14 + 76 * part);
        for (i, (_, times)) in bars.iter().enumerate() {
            let scale = WIDTH / times.iter().sum::<f64>();
            let before = times[..part].iter().sum::<f64>() * scale;
            let (x, width) = (LEFT as f64 + before, times[part] * scale);
            // Smaller widths would not be visible.
            if width >= 0.2 {
                let y = TOP + i * ROW + 1;
                let _ = write!(path, "M{x:.1} {y}h{width:.1}v14h-{width:.1}z");
            }
        }
        let _ = writeln!(svg, "<path fill=\"{color}\" d=\"{path}\"/>");
    }
    svg + "</svg>\n"
}
