//! Films somebody who puts a mask on and takes it off, out of a video of somebody who wears none: to
//! try what the elements make of such a change where no real video of it is at hand.
//!
//! ```text
//! cargo run --release -p mfr-tools --bin mask_change -- face.mp4 changing.mp4 --on 1.5 --off 4
//! ```
//!
//! Two hands come up from the lower edge of the picture and carry the mask. They cover the lower face
//! for a while and go. It looks best where the face is large and the head does not turn far away. All
//! is drawn: the mask by [`gstmfr::paint`], the hands here.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use gst::prelude::*;
use gst_video::VideoFrameExt;
use gstmfr::detect::{Detector, Face, Params};
use gstmfr::frame::geometry::{Landmarks, Point, Rect};
use gstmfr::frame::image::ImageView;
use gstmfr::nn::SessionOptions;
use gstmfr::paint::{self, MaskType};
use mfr_tools::mp4::{Error, Writer, ended, pipeline};

const USAGE: &str = "\
Usage: mask_change INPUT OUTPUT.mp4 [--on SECONDS] [--off SECONDS] … [OPTIONS]

  INPUT          a video with a face; the largest one is taken
  --on SECONDS   the hands bring a mask to the face at this time
  --off SECONDS  the hands come to take it away; before the first --off it is worn from the start

Options:
  --mask TYPE    surgical, kn95, n95, cloth, sponge or black [default: surgical]
  --seed N       another mask of the same kind [default: 1]
  --help         print this

Exit status: 0 done, 1 failed, 2 wrong usage.";

/// Of nearly constant quality.
const ENCODER: &str = "x264enc speed-preset=veryfast pass=quant quantizer=18";

/// Seconds that the hands take from the edge of the picture to the face, and back.
const MOVE: f32 = 0.35;
/// Seconds that they stay at the face.
const HOLD: f32 = 0.6;
/// Standard deviation, in seconds, of the bell over which faces are averaged: a mask that follows
/// every frame's landmarks shivers, one that follows later slips when the head turns.
const STEADY: f32 = 0.05;
/// A face that is not found for longer, in seconds, gets no mask: it is covered or gone.
const LONGEST_GAP: f32 = 0.7;
/// Least intersection over union of one face in two frames after each other.
const SAME_FACE: f32 = 0.3;
/// From the eyes to the mouth in distances between the eyes (mean of MTCNN's landmarks).
const EYES_TO_MOUTH: f32 = 1.04;

/// A mask is brought or taken away.
#[derive(Clone, Copy)]
struct Change {
    /// When the hands arrive at the face, in seconds.
    time: f32,
    puts_on: bool,
}

struct Options {
    input: PathBuf,
    output: PathBuf,
    /// In the order of time; what is put on is taken off and so on.
    changes: Vec<Change>,
    mask: MaskType,
    seed: u64,
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
            eprintln!("mask_change: {error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mask_change: {error}");
            ExitCode::FAILURE
        }
    }
}

/// None where help is asked for.
fn parse(arguments: &mut dyn Iterator<Item = String>) -> Result<Option<Options>, Error> {
    let (mut paths, mut changes) = (Vec::new(), Vec::new());
    let (mut mask, mut seed) = (MaskType::Surgical, 1);
    while let Some(argument) = arguments.next() {
        let mut value = || {
            let value = arguments.next();
            value.ok_or_else(|| Error::from(format!("{argument} needs a value")))
        };
        match argument.as_str() {
            "--help" | "-h" => return Ok(None),
            "--on" | "--off" => {
                let time = value()?.parse().ok().filter(|t| (0.0..1e6).contains(t));
                changes.push(Change {
                    time: time.ok_or_else(|| format!("{argument} needs a time in seconds"))?,
                    puts_on: argument == "--on",
                });
            }
            "--mask" => mask = value()?.parse()?,
            "--seed" => seed = value()?.parse().map_err(|_| "--seed needs a number")?,
            _ if argument.starts_with('-') => {
                return Err(format!("{argument} is not an option").into());
            }
            _ => paths.push(PathBuf::from(argument)),
        }
    }
    let [input, output] = <[PathBuf; 2]>::try_from(paths)
        .map_err(|paths| format!("INPUT and OUTPUT are needed, found {} paths", paths.len()))?;
    if let (Ok(from), Ok(to)) = (input.canonicalize(), output.canonicalize())
        && from == to
    {
        return Err("INPUT and OUTPUT are the same file".into());
    }
    changes.sort_by(|a, b| a.time.total_cmp(&b.time));
    if changes.is_empty() {
        return Err("--on or --off is missing".into());
    }
    for pair in changes.windows(2) {
        let [a, b] = [pair[0], pair[1]];
        if a.puts_on == b.puts_on {
            return Err("--on and --off must take turns".into());
        }
        let least = HOLD + 2.0 * MOVE;
        if b.time - a.time < least {
            return Err(format!("{} and {} are not {least} s apart", a.time, b.time).into());
        }
    }
    Ok(Some(Options {
        input,
        output,
        changes,
        mask,
        seed,
    }))
}

fn run(options: &Options) -> Result<(), Error> {
    gst::init()?;
    let scene = Scene::watch(&options.input)?;
    let mut reader = Reader::open(&options.input)?;
    let mut writer = None;
    let mut index = 0;
    while let Some(mut frame) = reader.next()? {
        if let Some(Some(face)) = scene.faces.get(index) {
            dress(&mut frame, face, scene.times[index], scene.skin, options)?;
        }
        index += 1;
        let writer = match &mut writer {
            Some(writer) => writer,
            none => none.insert(Writer::create(&options.output, &frame.info, ENCODER)?),
        };
        if !writer.write(frame.buffer()?) {
            // The bus says why.
            break;
        }
    }
    writer.ok_or("there is no frame in it")?.finish()
}

/// What the first of two readings tells.
struct Scene {
    /// Of each frame, in seconds since the first one.
    times: Vec<f32>,
    /// The face of each frame, averaged over time.
    faces: Vec<Option<Face>>,
    /// Mean colour of the face's skin.
    skin: [f32; 3],
}

impl Scene {
    fn watch(video: &Path) -> Result<Self, Error> {
        let mut detector = Detector::built_in(&SessionOptions::default())?;
        let mut reader = Reader::open(video)?;
        let (mut times, mut seen) = (Vec::new(), Vec::<Option<Face>>::new());
        let (mut sum, mut count) = ([0.0; 3], 0.0);
        let mut last: Option<Face> = None;
        while let Some(frame) = reader.next()? {
            let view = ImageView::rgb(&frame.pixels, frame.width(), frame.height())?;
            let params = Params {
                known: last.iter().map(|f| f.rect).collect(),
                ..Params::default()
            };
            let found = detector.detect(&view, &params)?;
            let nearest = last.and_then(|last| {
                let overlaps = found.iter().map(|f| (f, f.rect.iou(&last.rect)));
                let best = overlaps.max_by(|a, b| a.1.total_cmp(&b.1));
                best.filter(|(_, iou)| *iou >= SAME_FACE)
            });
            let largest = || {
                let area = |f: &&Face| f.rect.area();
                found.iter().max_by(|a, b| area(a).total_cmp(&area(b)))
            };
            let face = nearest.map(|(f, _)| f).or_else(largest).copied();
            last = face.or(last);
            if let Some(face) = face {
                // The bridge of the nose: neither hair nor a mask is there.
                let [left, right, nose, ..] = face.landmarks.0;
                if let Some(pixel) = frame.pixel(mix(middle(left, right), nose, 0.25)) {
                    sum = [0, 1, 2].map(|i| sum[i] + f32::from(pixel[i]));
                    count += 1.0;
                }
            }
            times.push(frame.seconds);
            seen.push(face);
        }
        if count == 0.0 {
            return Err(format!("{}: there is no face in it", video.display()).into());
        }
        Ok(Self {
            faces: steady(&times, &seen),
            times,
            skin: sum.map(|v| v / count),
        })
    }
}

fn middle(a: Point, b: Point) -> Point {
    mix(a, b, 0.5)
}

fn mix(a: Point, b: Point, part: f32) -> Point {
    Point {
        x: a.x + (b.x - a.x) * part,
        y: a.y + (b.y - a.y) * part,
    }
}

/// Box and landmarks: x, y, width, height, then x and y of five points.
fn numbers(face: &Face) -> [f32; 14] {
    let Rect {
        x,
        y,
        width,
        height,
    } = face.rect;
    let [a, b, c, d, e] = face.landmarks.0;
    [
        x, y, width, height, a.x, a.y, b.x, b.y, c.x, c.y, d.x, d.y, e.x, e.y,
    ]
}

/// The mean of faces by weight. The weights need not sum to 1.
fn mean(faces: impl Iterator<Item = (Face, f32)>) -> Option<Face> {
    let (mut sum, mut weights) = ([0.0; 14], 0.0);
    for (face, weight) in faces {
        for (sum, value) in sum.iter_mut().zip(numbers(&face)) {
            *sum += weight * value;
        }
        weights += weight;
    }
    let n = sum.map(|v| v / weights);
    let point = |i: usize| Point {
        x: n[4 + 2 * i],
        y: n[5 + 2 * i],
    };
    (weights > 0.0).then(|| Face {
        rect: Rect::new(n[0], n[1], n[2], n[3]),
        confidence: 1.0,
        landmarks: Landmarks([0, 1, 2, 3, 4].map(point)),
    })
}

/// Fills short gaps and averages over time, never over a cut.
fn steady(times: &[f32], seen: &[Option<Face>]) -> Vec<Option<Face>> {
    let same = |a: &Face, b: &Face| a.rect.iou(&b.rect) >= SAME_FACE;
    let fill = |i: usize| {
        let before = (0..=i).rev().find_map(|j| seen[j].map(|f| (j, f)))?;
        let after = (i..seen.len()).find_map(|j| seen[j].map(|f| (j, f)))?;
        let gap = times[after.0] - times[before.0];
        if gap <= 0.0 {
            return Some(before.1);
        }
        let part = (times[i] - times[before.0]) / gap;
        let blend = [(before.1, 1.0 - part), (after.1, part)];
        (gap <= LONGEST_GAP && same(&before.1, &after.1)).then(|| mean(blend.into_iter()))?
    };
    let filled: Vec<_> = (0..seen.len()).map(fill).collect();
    let follows = |a: usize, b: usize| {
        let (a, b) = (filled.get(a)?.as_ref()?, filled.get(b)?.as_ref()?);
        same(a, b).then_some(())
    };
    let weigh = |i: usize, j: usize| {
        let away = (times[j] - times[i]) / STEADY;
        (filled[j].map(|f| (f, (-away * away / 2.0).exp()))).filter(|_| away.abs() <= 3.0)
    };
    (0..seen.len())
        .map(|i| {
            let here = weigh(i, i)?;
            let back = (0..i).rev().map_while(|j| {
                follows(j, j + 1)?;
                weigh(i, j)
            });
            let on = (i + 1..seen.len()).map_while(|j| {
                follows(j - 1, j)?;
                weigh(i, j)
            });
            mean(std::iter::once(here).chain(back).chain(on))
        })
        .collect()
}

/// Slow at both ends, as hands move; 0…1 for 0…1.
fn ease(part: f32) -> f32 {
    let part = part.clamp(0.0, 1.0);
    part * part * (3.0 - 2.0 * part)
}

/// Where hands and mask are at a time. Drops are 0 at the face and 1 below the picture.
#[derive(Default)]
struct Moment {
    hands: Option<f32>,
    /// How far the hands, at the face, have gone aside to the ears, 0…1.
    aside: f32,
    mask: Option<f32>,
}

impl Moment {
    fn at(time: f32, changes: &[Change]) -> Self {
        // The mask is as the last change left it, or as the first one will find it.
        let mut moment = Self {
            mask: changes.first().filter(|c| !c.puts_on).map(|_| 0.0),
            ..Self::default()
        };
        for change in changes {
            let since = time - change.time;
            if since < -MOVE {
                break;
            }
            let drop = ease((-since).max(since - HOLD) / MOVE);
            if since <= HOLD + MOVE {
                moment.hands = Some(drop);
                let held = (since / HOLD).clamp(0.0, 1.0);
                moment.aside = (held * std::f32::consts::PI).sin();
            }
            moment.mask = match (change.puts_on, since) {
                (true, ..0.0) => Some(drop),
                (true, _) => Some(0.0),
                (false, ..=HOLD) => Some(0.0),
                (false, _) => moment.hands,
            };
        }
        moment
    }
}

/// Draws mask and hands as they are at a time.
fn dress(
    frame: &mut Frame,
    face: &Face,
    time: f32,
    skin: [f32; 3],
    options: &Options,
) -> Result<(), Error> {
    let moment = Moment::at(time, &options.changes);
    let place = Place::of(face, frame.height() as f32);
    if let Some(drop) = moment.mask {
        let (width, height) = (frame.width(), frame.height());
        let mut worn = frame.pixels.clone();
        paint::paint(&mut worn, width, height, face, options.mask, options.seed)?;
        if drop > 0.0 {
            frame.put_lower(&worn, place.pixels(drop) as usize);
        } else {
            frame.pixels = worn;
        }
    }
    if let Some(drop) = moment.hands {
        for side in [-1.0, 1.0] {
            for limb in HAND {
                place.draw(frame, &limb, side, drop, moment.aside, skin);
            }
        }
    }
    Ok(())
}

/// A part of a hand: a bone with flesh about it. Measured from the middle between the eyes in
/// distances between the eyes, y downwards. It fades in over the first quarter if `fades`.
#[derive(Clone, Copy)]
struct Limb {
    ends: [[f32; 2]; 2],
    radii: [f32; 2],
    fades: bool,
}

const fn limb(from: [f32; 2], to: [f32; 2], radii: [f32; 2], fades: bool) -> Limb {
    Limb {
        ends: [from, to],
        radii,
        fades,
    }
}

/// The hand that is left in the picture, its back to the camera, the fingers up and inwards over
/// cheek and mouth; sizes as in anthropometry (eyes 63 mm apart, palm 85 mm wide, middle finger
/// 80 mm long). In the order in which one lies over the other.
const HAND: [Limb; 7] = [
    limb([-3.4, 7.9], [-1.55, 2.5], [0.62, 0.4], false),
    limb([-1.5, 2.4], [-0.98, 1.75], [0.43, 0.53], false),
    limb([-1.38, 2.0], [-1.38, 0.85], [0.24, 0.14], true),
    limb([-0.46, 1.83], [0.06, 1.3], [0.15, 0.11], true),
    limb([-0.68, 1.66], [0.0, 0.92], [0.16, 0.12], true),
    limb([-0.9, 1.5], [-0.2, 0.66], [0.165, 0.12], true),
    limb([-1.14, 1.32], [-0.54, 0.5], [0.16, 0.12], true),
];

/// Where the light on the hands comes from: above, a little from the left, in front.
const LIGHT: [f32; 3] = [-0.25, -0.5, 0.83];

/// The system of coordinates of a head.
struct Place {
    /// Between the eyes, in the middle of the box from left to right.
    origin: Point,
    /// Pixels in a distance between the eyes, seen from the front.
    scale: f32,
    /// Unit vector from the left to the right eye.
    right: Point,
    /// How far below the eyes the picture ends, in distances between the eyes.
    reach: f32,
}

impl Place {
    fn of(face: &Face, height: f32) -> Self {
        let [left, right, _, mouth_left, mouth_right] = face.landmarks.0;
        let (eyes, mouth) = (middle(left, right), middle(mouth_left, mouth_right));
        let between = |a: Point, b: Point| (b.x - a.x).hypot(b.y - a.y);
        let apart = between(left, right).max(f32::MIN_POSITIVE);
        // A head that turns away has its eyes nearer to each other, but no shorter face.
        let scale = apart.max(between(eyes, mouth) / EYES_TO_MOUTH);
        Self {
            origin: Point {
                x: face.rect.center().x,
                y: eyes.y,
            },
            scale,
            right: Point {
                x: (right.x - left.x) / apart,
                y: (right.y - left.y) / apart,
            },
            reach: ((height - eyes.y) / scale).max(0.0),
        }
    }

    /// Pixels that a drop is.
    fn pixels(&self, drop: f32) -> f32 {
        drop * self.reach * self.scale
    }

    fn point(&self, [x, y]: [f32; 2]) -> Point {
        let Point { x: cos, y: sin } = self.right;
        Point {
            x: self.origin.x + (x * cos - y * sin) * self.scale,
            y: self.origin.y + (x * sin + y * cos) * self.scale,
        }
    }

    fn draw(
        &self,
        frame: &mut Frame,
        limb: &Limb,
        side: f32,
        drop: f32,
        aside: f32,
        skin: [f32; 3],
    ) {
        let lower = self.pixels(drop);
        let [from, to] = limb.ends.map(|[x, y]| {
            let p = self.point([-side * (x - 0.3 * aside), y - 0.15 * aside]);
            Point {
                y: p.y + lower,
                ..p
            }
        });
        let radii = limb.radii.map(|r| r * self.scale);
        let widest = radii[0].max(radii[1]);
        // Cameras do not see edges sharper than this.
        let soft = (0.035 * self.scale).max(1.0);
        let margin = widest + 0.15 * self.scale;
        let span = |a: f32, b: f32, size: usize| {
            // `as` clamps to 0.
            let first = (a.min(b) - margin) as usize;
            first..((a.max(b) + margin) as usize).min(size)
        };
        let (axis_x, axis_y) = (to.x - from.x, to.y - from.y);
        let length = (axis_x * axis_x + axis_y * axis_y).max(f32::MIN_POSITIVE);
        for y in span(from.y, to.y, frame.height()) {
            for x in span(from.x, to.x, frame.width()) {
                let (px, py) = (x as f32 + 0.5 - from.x, y as f32 + 0.5 - from.y);
                let along = ((px * axis_x + py * axis_y) / length).clamp(0.0, 1.0);
                let radius = radii[0] + (radii[1] - radii[0]) * along;
                let (nx, ny) = (
                    (px - along * axis_x) / radius,
                    (py - along * axis_y) / radius,
                );
                let off = nx.hypot(ny);
                let outside = (off - 1.0) * radius;
                let shown = if limb.fades { ease(along * 4.0) } else { 1.0 };
                // Each part darkens what it lies on.
                let shadow = 0.22 * shown * (1.0 - ease(outside / (0.09 * self.scale)));
                let cover = shown * ease(0.5 - outside / soft);
                if shadow <= 0.0 && cover <= 0.0 {
                    continue;
                }
                let nz = (1.0 - off * off).max(0.0).sqrt();
                let lit = (nx * LIGHT[0] + ny * LIGHT[1] + nz * LIGHT[2]).max(0.0);
                // In the hand's own coordinates, so that the skin moves with it.
                let grain = [7.0, 23.0].map(|f| {
                    let at = [px / self.scale * f, py / self.scale * f];
                    noise([at[0] + side * 50.0, at[1] + limb.radii[0] * 900.0])
                });
                let light = 0.62 + 0.42 * lit + 0.04 * grain[0] + 0.025 * grain[1];
                // Fingers are redder towards their ends.
                let red = if limb.fades { 0.05 * along } else { 0.0 };
                let colour = [light * (1.0 + red), light, light * (1.0 - red)];
                let Some(pixel) = frame.pixel_mut(x, y) else {
                    continue;
                };
                for channel in 0..3 {
                    let below = f32::from(pixel[channel]) * (1.0 - shadow);
                    let above = skin[channel] * colour[channel];
                    // `as` clamps to 0…255.
                    pixel[channel] = (below + (above - below) * cover).round() as u8;
                }
            }
        }
    }
}

/// Smooth noise of −1…1 with waves about 2 long.
fn noise([x, y]: [f32; 2]) -> f32 {
    let at = |x: f32, y: f32| {
        // Any mixing will do: xorshift and two large odd factors.
        let mut n = (x as i32 as u32).wrapping_mul(0x9e37_79b1);
        n ^= (y as i32 as u32).wrapping_mul(0x85eb_ca6b);
        n ^= n >> 15;
        n = n.wrapping_mul(0x2c1b_3c6d);
        n ^= n >> 13;
        (n & 0xffff) as f32 / 32767.5 - 1.0
    };
    let (left, top) = (x.floor(), y.floor());
    let (u, v) = (ease(x - left), ease(y - top));
    let row = |y: f32| at(left, y) * (1.0 - u) + at(left + 1.0, y) * u;
    row(top) * (1.0 - v) + row(top + 1.0) * v
}

/// A picture of a video.
struct Frame {
    /// Packed RGB.
    pixels: Vec<u8>,
    info: gst_video::VideoInfo,
    pts: Option<gst::ClockTime>,
    duration: Option<gst::ClockTime>,
    /// Since the first frame.
    seconds: f32,
}

impl Frame {
    /// With its time, in rows as GStreamer wants them.
    fn buffer(&self) -> Result<gst::Buffer, Error> {
        let mut buffer = gst::Buffer::with_size(self.info.size())?;
        let target = buffer.get_mut().ok_or("a new buffer is shared")?;
        target.set_pts(self.pts);
        target.set_duration(self.duration);
        let mut target = gst_video::VideoFrameRef::from_buffer_ref_writable(target, &self.info)?;
        let stride = target.plane_stride()[0] as usize;
        let rows = target.plane_data_mut(0)?.chunks_mut(stride);
        for (row, from) in rows.zip(self.pixels.chunks_exact(self.width() * 3)) {
            row[..from.len()].copy_from_slice(from);
        }
        drop(target);
        Ok(buffer)
    }

    fn width(&self) -> usize {
        self.info.width() as usize
    }

    fn height(&self) -> usize {
        self.info.height() as usize
    }

    fn pixel_mut(&mut self, x: usize, y: usize) -> Option<&mut [u8]> {
        let at = (y * self.width() + x) * 3;
        self.pixels.get_mut(at..at + 3)
    }

    fn pixel(&self, p: Point) -> Option<[u8; 3]> {
        let is_inside =
            (0.0..self.width() as f32).contains(&p.x) && (0.0..self.height() as f32).contains(&p.y);
        let at = (p.y as usize * self.width() + p.x as usize) * 3;
        is_inside.then(|| [self.pixels[at], self.pixels[at + 1], self.pixels[at + 2]])
    }

    /// Takes over where `worn` differs clearly from this picture, some rows further down. The rim of a
    /// mask is mixed with the skin under it and its shade lies on the skin: neither goes along.
    fn put_lower(&mut self, worn: &[u8], rows: usize) {
        /// Sum over the channels.
        const CLEAR: u32 = 60;

        let width = self.width();
        let bare = self.pixels.clone();
        let pairs = bare.chunks_exact(3).zip(worn.chunks_exact(3)).enumerate();
        for (i, (bare, worn)) in pairs {
            let differs = bare
                .iter()
                .zip(worn)
                .map(|(a, b)| u32::from(a.abs_diff(*b)));
            if differs.sum::<u32>() >= CLEAR
                && let Some(pixel) = self.pixel_mut(i % width, i / width + rows)
            {
                pixel.copy_from_slice(worn);
            }
        }
    }
}

/// Decodes a video file into upright RGB frames.
struct Reader {
    pipeline: gst::Pipeline,
    sink: gst_app::AppSink,
    start: Option<gst::ClockTime>,
}

impl Reader {
    fn open(path: &Path) -> Result<Self, Error> {
        let (pipeline, sink) = pipeline(
            "filesrc name=file ! decodebin ! videoconvert ! videoflip video-direction=auto \
             ! videoconvert ! video/x-raw,format=RGB ! appsink name=end sync=false max-buffers=2",
            path,
        )?;
        // Why it cannot be opened is on the bus.
        let _ = pipeline.set_state(gst::State::Playing);
        Ok(Self {
            pipeline,
            sink,
            start: None,
        })
    }

    /// None after the last frame.
    fn next(&mut self) -> Result<Option<Frame>, Error> {
        let sample = loop {
            if let Some(sample) = self
                .sink
                .try_pull_sample(gst::ClockTime::from_mseconds(100))
            {
                break sample;
            }
            // A file that is no video ends in an error before there is anything to pull.
            if let Some(error) = ended(&self.pipeline, false) {
                error?;
            }
            if self.sink.is_eos() {
                return Ok(None);
            }
        };
        let (buffer, caps) = (sample.buffer(), sample.caps());
        let (buffer, caps) = buffer.zip(caps).ok_or("a frame came without caps")?;
        let info = gst_video::VideoInfo::from_caps(caps)?;
        let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &info)?;
        let row = info.width() as usize * 3;
        let rows = frame
            .plane_data(0)?
            .chunks(frame.plane_stride()[0] as usize);
        // The last row may lack its padding, and there may be more rows than are shown.
        let pixels = rows.take(info.height() as usize).flat_map(|r| &r[..row]);
        let start = *self.start.get_or_insert(buffer.pts().unwrap_or_default());
        let since = buffer.pts().unwrap_or_default().saturating_sub(start);
        Ok(Some(Frame {
            pixels: pixels.copied().collect(),
            pts: buffer.pts(),
            duration: buffer.duration(),
            seconds: since.seconds_f32(),
            info,
        }))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // Stopping cannot fail in a way that matters to anybody now.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}
