//! Builds the clip that `make demo` recognises people in, from the photos that
//! `scripts/fetch.py photos` fetches.
//!
//! ```text
//! cargo run --release -p mfr-tools --bin demo_clip -- target/demo/photos target/demo/clip.mp4
//! ```
//!
//! Photos become shots: the camera pans and zooms over them, light fades and changes colour, a bad
//! camera blurs and adds noise. `SCENES` is the script.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;
use std::process::ExitCode;

use gst::prelude::*;
use gstmfr::detect::{Detector, Params};
use gstmfr::frame::geometry::Rect;
use gstmfr::frame::image::ImageView;
use gstmfr::frame::resize::{Border, Filter, Resize, Resizer};
use gstmfr::nn::SessionOptions;
use gstmfr::paint::{self, MaskType};
use mfr_tools::mp4::{Error, Writer};

const WIDTH: usize = 1280;
const HEIGHT: usize = 720;
const FRAMES_PER_SECOND: usize = 25;
/// Any; always the same, so that the clip is too.
const MASK_SEED: u64 = 1;

/// What the camera sees: a part of a photo, in pixels of the photo. Its height follows from the
/// shape of the panel.
#[derive(Clone, Copy)]
struct View {
    center: [f32; 2],
    width: f32,
}

/// The part of the picture that a shot fills.
#[derive(Clone, Copy)]
enum Panel {
    Whole,
    Left,
    Right,
}

/// One photo as a camera would film it.
#[derive(Clone, Copy)]
struct Shot {
    photo: &'static str,
    panel: Panel,
    from: View,
    to: View,
    mirrored: bool,
    /// Painted onto the face.
    mask: Option<MaskType>,
    /// Brightness at the beginning and at the end; 1 leaves the photo as it is.
    light: [f32; 2],
    /// Above 0 the light is warm (more red, less blue), below it is cold.
    warmth: f32,
    /// Resolution of the camera as a share of the picture's; below 1 the picture is blurred.
    detail: f32,
    /// Standard deviation of the camera's noise in grey values.
    noise: f32,
}

struct Scene {
    seconds: f32,
    /// One shot for the whole picture, or one for each half.
    shots: &'static [Shot],
}

const fn view(x: f32, y: f32, width: f32) -> View {
    View {
        center: [x, y],
        width,
    }
}

/// A shot without effects.
const fn shot(photo: &'static str, from: View, to: View) -> Shot {
    Shot {
        photo,
        panel: Panel::Whole,
        from,
        to,
        mirrored: false,
        mask: None,
        light: [1.0, 1.0],
        warmth: 0.0,
        detail: 1.0,
        noise: 0.0,
    }
}

/// `obama2.jpg` is not enrolled. `biden.jpg` is, and therefore comes only mirrored, in another
/// light and through a worse camera. Nobody in `astronaut.png` is enrolled.
const SCENES: &[Scene] = &[
    // One person, a photo that the gallery has never seen; the camera comes nearer.
    Scene {
        seconds: 3.0,
        shots: &[Shot {
            noise: 4.0,
            ..shot(
                "obama2.jpg",
                view(360.0, 520.0, 1900.0),
                view(320.0, 440.0, 1250.0),
            )
        }],
    },
    // Another one, mirrored; the lights go down.
    Scene {
        seconds: 2.6,
        shots: &[Shot {
            mirrored: true,
            light: [1.15, 0.45],
            noise: 6.0,
            ..shot(
                "biden.jpg",
                view(380.0, 520.0, 2300.0),
                view(560.0, 420.0, 1500.0),
            )
        }],
    },
    // The first one with a mask on.
    Scene {
        seconds: 2.6,
        shots: &[Shot {
            mask: Some(MaskType::Surgical),
            light: [0.9, 1.05],
            noise: 4.0,
            ..shot(
                "obama2.jpg",
                view(330.0, 450.0, 1300.0),
                view(350.0, 500.0, 1700.0),
            )
        }],
    },
    // Nobody.
    Scene {
        seconds: 1.4,
        shots: &[shot(
            "astronaut.png",
            view(400.0, 150.0, 180.0),
            view(415.0, 200.0, 200.0),
        )],
    },
    // Both, side by side, in evening light.
    Scene {
        seconds: 3.0,
        shots: &[
            Shot {
                panel: Panel::Left,
                warmth: 0.18,
                light: [0.75, 0.95],
                noise: 5.0,
                ..shot(
                    "obama2.jpg",
                    view(300.0, 470.0, 760.0),
                    view(350.0, 430.0, 900.0),
                )
            },
            Shot {
                panel: Panel::Right,
                mirrored: true,
                warmth: 0.12,
                light: [0.7, 0.9],
                detail: 0.6,
                noise: 5.0,
                ..shot(
                    "biden.jpg",
                    view(500.0, 480.0, 1000.0),
                    view(570.0, 430.0, 850.0),
                )
            },
        ],
    },
    // Somebody who is not enrolled.
    Scene {
        seconds: 2.4,
        shots: &[Shot {
            light: [0.9, 1.1],
            noise: 3.0,
            ..shot(
                "astronaut.png",
                view(260.0, 170.0, 560.0),
                view(235.0, 140.0, 420.0),
            )
        }],
    },
    // Three masks: both of them, and then somebody who is not enrolled.
    Scene {
        seconds: 2.6,
        shots: &[
            Shot {
                panel: Panel::Left,
                mirrored: true,
                mask: Some(MaskType::Black),
                warmth: 0.1,
                noise: 4.0,
                ..shot(
                    "biden.jpg",
                    view(520.0, 460.0, 1050.0),
                    view(570.0, 430.0, 850.0),
                )
            },
            Shot {
                panel: Panel::Right,
                mask: Some(MaskType::Kn95),
                light: [0.8, 0.95],
                noise: 5.0,
                ..shot(
                    "obama2.jpg",
                    view(350.0, 430.0, 900.0),
                    view(300.0, 470.0, 780.0),
                )
            },
        ],
    },
    Scene {
        seconds: 2.0,
        shots: &[Shot {
            mask: Some(MaskType::Cloth),
            noise: 3.0,
            ..shot(
                "astronaut.png",
                view(230.0, 140.0, 420.0),
                view(250.0, 165.0, 520.0),
            )
        }],
    },
    // A poor camera at night: few pixels, little and cold light, much noise. A stranger beside.
    Scene {
        seconds: 3.0,
        shots: &[
            Shot {
                panel: Panel::Left,
                warmth: -0.1,
                light: [0.8, 0.8],
                detail: 0.35,
                noise: 8.0,
                ..shot(
                    "astronaut.png",
                    view(225.0, 150.0, 230.0),
                    view(235.0, 135.0, 260.0),
                )
            },
            Shot {
                panel: Panel::Right,
                warmth: -0.12,
                light: [0.7, 0.5],
                detail: 0.35,
                noise: 9.0,
                ..shot(
                    "obama2.jpg",
                    view(340.0, 520.0, 1100.0),
                    view(310.0, 440.0, 950.0),
                )
            },
        ],
    },
];

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [photos, output] = arguments.as_slice() else {
        eprintln!("Usage: demo_clip PHOTOS-FOLDER OUTPUT.mp4");
        return ExitCode::from(2);
    };
    match build(Path::new(photos), Path::new(output)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo_clip: {error}");
            ExitCode::FAILURE
        }
    }
}

fn build(photos: &Path, output: &Path) -> Result<(), Error> {
    let mut studio = Studio::open(photos)?;
    gst::init()?;
    let info =
        gst_video::VideoInfo::builder(gst_video::VideoFormat::Rgb, WIDTH as u32, HEIGHT as u32)
            .fps(gst::Fraction::new(FRAMES_PER_SECOND as i32, 1))
            .build()?;
    let mut writer = Writer::create(output, &info, "x264enc speed-preset=veryfast bitrate=6000")?;
    let mut written = 0;
    for scene in SCENES {
        let count = (scene.seconds * FRAMES_PER_SECOND as f32).round() as usize;
        for index in 0..count {
            // 0 at the first frame of the scene, 1 at the last.
            let time = index as f32 / (count - 1).max(1) as f32;
            let mut frame = vec![0; WIDTH * HEIGHT * 3];
            for shot in scene.shots {
                studio.film(shot, time, &mut frame)?;
            }
            written += 1;
            if !writer.write(buffer(frame, written - 1)) {
                // The bus says why.
                return writer.finish();
            }
        }
    }
    writer.finish()
}

/// Paints a mask onto the largest face of a photo.
fn put_on(mask: MaskType, photo: &mut image::RgbImage) -> Result<(), Error> {
    let (width, height) = (photo.width() as usize, photo.height() as usize);
    let params = Params {
        min_face_size: (width.min(height) / 10) as u32,
        max_faces: 1,
        ..Params::default()
    };
    let view = ImageView::rgb(photo, width, height)?;
    let mut detector = Detector::built_in(&SessionOptions::default())?;
    let faces = detector.detect(&view, &params)?;
    let face = faces.first().ok_or("no face to put a mask on")?;
    Ok(paint::paint(photo, width, height, face, mask, MASK_SEED)?)
}

/// The photos and what is needed to film them.
struct Studio {
    /// By name and mask.
    photos: HashMap<(&'static str, Option<MaskType>), image::RgbImage>,
    resizer: Resizer,
    random: u32,
}

impl Studio {
    fn open(folder: &Path) -> Result<Self, Error> {
        let mut photos = HashMap::new();
        for shot in SCENES.iter().flat_map(|scene| scene.shots) {
            let Entry::Vacant(place) = photos.entry((shot.photo, shot.mask)) else {
                continue;
            };
            let path = folder.join(shot.photo);
            let photo = image::open(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            let mut photo = photo.into_rgb8();
            if let Some(mask) = shot.mask {
                put_on(mask, &mut photo)?;
            }
            place.insert(photo);
        }
        Ok(Self {
            photos,
            resizer: Resizer::default(),
            // Any start but 0; always the same, so that the clip is too.
            random: 20_180_408,
        })
    }

    /// Draws a shot at a time of 0…1 into its panel of an RGB frame.
    fn film(&mut self, shot: &Shot, time: f32, frame: &mut [u8]) -> Result<(), Error> {
        let (left, width) = match shot.panel {
            Panel::Whole => (0, WIDTH),
            Panel::Left => (0, WIDTH / 2),
            Panel::Right => (WIDTH / 2, WIDTH / 2),
        };
        // Slow at both ends, as a hand moves a camera.
        let eased = time * time * (3.0 - 2.0 * time);
        let mix = |from: f32, to: f32| from + (to - from) * eased;
        let view_width = mix(shot.from.width, shot.to.width);
        let view_height = view_width * HEIGHT as f32 / width as f32;
        let [x, y] = [0, 1].map(|i| mix(shot.from.center[i], shot.to.center[i]));
        let source = Rect::new(
            x - view_width / 2.0,
            y - view_height / 2.0,
            view_width,
            view_height,
        );
        let size = [width, HEIGHT].map(|v| ((v as f32 * shot.detail) as usize).max(1));
        let small = self.look((shot.photo, shot.mask), source, size)?;
        let picture = self.scale(&small, size, [width, HEIGHT])?;

        let light = shot.light[0] + (shot.light[1] - shot.light[0]) * time;
        let gains = [
            light * (1.0 + shot.warmth),
            light,
            light * (1.0 - shot.warmth),
        ];
        for (row, target) in picture
            .chunks_exact(width * 3)
            .zip(frame.chunks_exact_mut(WIDTH * 3))
        {
            let target = &mut target[left * 3..][..width * 3];
            for x in 0..width {
                let from = if shot.mirrored { width - 1 - x } else { x };
                let noise = shot.noise * self.normal();
                for channel in 0..3 {
                    let value = f32::from(row[from * 3 + channel]) * gains[channel] + noise;
                    // `as` clamps to 0…255.
                    target[x * 3 + channel] = value.round() as u8;
                }
            }
        }
        Ok(())
    }

    /// A part of a photo at some size; where it reaches beyond the photo, a blurred copy of the
    /// photo fills the picture, as television does with upright videos.
    fn look(
        &mut self,
        photo: (&'static str, Option<MaskType>),
        source: Rect,
        size: [usize; 2],
    ) -> Result<Vec<u8>, Error> {
        /// Pixels in each direction of the copy, few enough that nothing can be made out.
        const BACKDROP: usize = 12;

        let photo = &self.photos[&photo];
        let (photo_width, photo_height) = (photo.width() as f32, photo.height() as f32);
        let view = ImageView::rgb(
            photo.as_raw(),
            photo.width() as usize,
            photo.height() as usize,
        )?;
        let resize = |source, [width, height]: [usize; 2]| Resize {
            source,
            width,
            height,
            filter: Filter::Linear,
            border: Border::Ignore,
        };

        let scale = [
            size[0] as f32 / source.width,
            size[1] as f32 / source.height,
        ];
        // The pixels of the picture whose middle lies inside the photo.
        let inside = |begin: f32, photo: f32, scale: f32, size: usize| {
            let first = (-begin * scale).round().max(0.0) as usize;
            let last = ((photo - begin) * scale).round().max(0.0) as usize;
            first.min(size)..last.min(size)
        };
        let columns = inside(source.x, photo_width, scale[0], size[0]);
        let rows = inside(source.y, photo_height, scale[1], size[1]);

        let mut picture = Vec::new();
        if columns.len() < size[0] || rows.len() < size[1] {
            let whole = Rect::new(0.0, 0.0, photo_width, photo_height);
            let mut backdrop = Vec::new();
            self.resizer
                .rgb8(&view, &resize(whole, [BACKDROP; 2]), &mut backdrop);
            // Darker, so that the photo stands out.
            backdrop.iter_mut().for_each(|v| *v /= 2);
            let backdrop_view = ImageView::rgb(&backdrop, BACKDROP, BACKDROP)?;
            let whole = Rect::new(0.0, 0.0, BACKDROP as f32, BACKDROP as f32);
            self.resizer
                .rgb8(&backdrop_view, &resize(whole, size), &mut picture);
        } else {
            picture.resize(size[0] * size[1] * 3, 0);
        }
        if columns.is_empty() || rows.is_empty() {
            return Ok(picture);
        }

        let part = Rect::new(
            source.x + columns.start as f32 / scale[0],
            source.y + rows.start as f32 / scale[1],
            columns.len() as f32 / scale[0],
            rows.len() as f32 / scale[1],
        );
        let mut sharp = Vec::new();
        self.resizer.rgb8(
            &view,
            &resize(part, [columns.len(), rows.len()]),
            &mut sharp,
        );
        for (row, line) in rows.zip(sharp.chunks_exact(columns.len() * 3)) {
            let at = (row * size[0] + columns.start) * 3;
            picture[at..at + line.len()].copy_from_slice(line);
        }
        Ok(picture)
    }

    fn scale(
        &mut self,
        picture: &[u8],
        [width, height]: [usize; 2],
        to: [usize; 2],
    ) -> Result<Vec<u8>, Error> {
        if to == [width, height] {
            return Ok(picture.to_vec());
        }
        let resize = Resize {
            source: Rect::new(0.0, 0.0, width as f32, height as f32),
            width: to[0],
            height: to[1],
            filter: Filter::Linear,
            border: Border::Ignore,
        };
        let mut scaled = Vec::new();
        self.resizer.rgb8(
            &ImageView::rgb(picture, width, height)?,
            &resize,
            &mut scaled,
        );
        Ok(scaled)
    }

    /// About normally distributed, mean 0, standard deviation 1.
    fn normal(&mut self) -> f32 {
        // Marsaglia's xorshift; the sum of its four bytes is bell-shaped enough for noise.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        let sum: u32 = self.random.to_le_bytes().map(u32::from).iter().sum();
        // The sum of four numbers evenly spread over 0…255 has this mean and deviation.
        (sum as f32 - 510.0) / 147.8
    }
}

/// A frame of the clip as a buffer with its time.
fn buffer(frame: Vec<u8>, number: u64) -> gst::Buffer {
    let time = |frame: u64| {
        gst::ClockTime::SECOND
            .mul_div_floor(frame, FRAMES_PER_SECOND as u64)
            .unwrap_or(gst::ClockTime::ZERO)
    };
    let mut buffer = gst::Buffer::from_mut_slice(frame);
    if let Some(buffer) = buffer.get_mut() {
        buffer.set_pts(time(number));
        buffer.set_duration(time(1));
    }
    buffer
}
