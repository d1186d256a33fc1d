//! Frames with any number of faces, composed of the photos that `make photos` downloads.

use gstmfr::detect::{DEFAULT_SCALE_FACTOR, Detector, Params};
use gstmfr::frame::image::{
    Channel, ColorModel, Colorimetry, ImageError, ImageInfo, ImageView, PixelFormat, Plane,
};
use gstmfr::nn::SessionOptions;
use image::RgbImage;
use image::imageops::{self, FilterType};

use super::{Error, tree};

/// Photos of one face each; the first one also has a background scene.
const PHOTOS: [&str; 4] = ["astronaut.png", "obama.jpg", "obama2.jpg", "biden.jpg"];

/// Side of the square crop relative to the face.
const MARGIN: f32 = 1.5;

/// Maximum height of a face as a fraction of the frame: one in this number.
const LARGEST: usize = 3;

pub struct Photos {
    /// Square crops with a face in the centre.
    faces: Vec<RgbImage>,
    /// Background without a face.
    scene: RgbImage,
}

impl Photos {
    pub fn load() -> Result<Self, Error> {
        let mut detector = Detector::built_in(&SessionOptions::default())?;
        let mut faces = Vec::new();
        let mut scene = None;
        for name in PHOTOS {
            let file = tree("target/demo/photos").join(name);
            let photo = image::open(&file);
            let photo = photo.map_err(|e| format!("{}: {e}; `make photos`", file.display()))?;
            let photo = photo.to_rgb8();
            let (width, height) = photo.dimensions();
            let view = ImageView::rgb(&photo, width as usize, height as usize)?;
            let found = detector.detect(&view, &Params::default())?;
            let face = found.first().ok_or("a demo photo has no face")?.rect;
            let side = face.height * MARGIN;
            let (x, y) = (face.x + face.width / 2.0, face.y + face.height / 2.0);
            let (x, y) = ((x - side / 2.0).max(0.0), (y - side / 2.0).max(0.0));
            let side = side.min(width as f32 - x).min(height as f32 - y) as u32;
            faces.push(imageops::crop_imm(&photo, x as u32, y as u32, side, side).to_image());
            scene.get_or_insert_with(|| {
                // The scene is the part to the right of the face and the hair.
                let left = (face.right() + face.width * 0.5) as u32;
                imageops::crop_imm(&photo, left, 0, width - left, height).to_image()
            });
        }
        let scene = scene.ok_or("there are no photos")?;
        Ok(Self { faces, scene })
    }

    /// A frame of the scene, in mirrored tiles at its original size, with `count` faces side by side.
    pub fn frame(&self, width: usize, height: usize, count: usize) -> RgbImage {
        let (w, h) = self.scene.dimensions();
        let mirrored = |v: u32, n: u32| {
            if (v / n).is_multiple_of(2) {
                v % n
            } else {
                n - 1 - v % n
            }
        };
        let mut frame = RgbImage::from_fn(width as u32, height as u32, |x, y| {
            *self.scene.get_pixel(mirrored(x, w), mirrored(y, h))
        });
        let columns = (1..=count)
            .find(|columns| columns * (columns * height / width).max(1) >= count)
            .unwrap_or(1);
        let rows = count.div_ceil(columns).max(1);
        let cell = (width / columns).min(height / rows);
        let side = (cell * 9 / 10).min((height / LARGEST) * 3 / 2);
        for number in 0..count {
            let face = &self.faces[number % self.faces.len()];
            let face = imageops::resize(face, side as u32, side as u32, FilterType::Triangle);
            let (column, row) = (number % columns, number / columns);
            let x = width * (2 * column + 1) / (2 * columns) - side / 2;
            let y = height * (2 * row + 1) / (2 * rows) - side / 2;
            imageops::replace(&mut frame, &face, x as i64, y as i64);
        }
        frame
    }
}

/// A frame in the memory layout of GStreamer.
#[derive(Clone)]
pub struct Frame {
    info: ImageInfo,
    planes: Vec<Vec<u8>>,
}

impl Frame {
    pub fn new(picture: &RgbImage, format: PixelFormat) -> Self {
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        let info = ImageInfo {
            width,
            height,
            format,
            colorimetry: Colorimetry::default(),
        };
        let plane = |p| vec![0; format.row_bytes(p, width) * format.rows(p, height)];
        let mut planes: Vec<_> = (0..format.planes()).map(plane).collect();
        for (component, channel) in format.channels().iter().enumerate() {
            let Channel {
                plane,
                offset,
                step,
                shift_x,
                shift_y,
            } = *channel;
            let stride = format.row_bytes(plane, width);
            for y in 0..channel.height(height) {
                for x in 0..channel.width(width) {
                    let (x0, y0) = ((x << shift_x) as u32, (y << shift_y) as u32);
                    let rgb = picture.get_pixel(x0, y0).0;
                    let samples = match format.color_model() {
                        ColorModel::Yuv => info.colorimetry.from_rgb(rgb),
                        _ => rgb,
                    };
                    planes[plane][y * stride + offset + x * step] = samples[component];
                }
            }
        }
        Self { info, planes }
    }

    pub fn info(&self) -> ImageInfo {
        self.info
    }

    pub fn view(&self) -> Result<ImageView<'_>, ImageError> {
        let planes = self.planes.iter().enumerate().map(|(p, data)| Plane {
            data,
            stride: self.info.format.row_bytes(p, self.info.width),
        });
        ImageView::new(self.info, &planes.collect::<Vec<_>>())
    }

    /// Bytes and stride of each plane.
    pub fn planes_mut(&mut self) -> impl Iterator<Item = (&mut [u8], usize)> {
        let info = self.info;
        let planes = self.planes.iter_mut().enumerate();
        planes.map(move |(p, data)| (data.as_mut_slice(), info.format.row_bytes(p, info.width)))
    }
}

/// Number of pixels of all levels of MTCNN's pyramid, with the scale factor of the reference.
pub fn pyramid_pixels(width: usize, height: usize, min_face: u32) -> usize {
    let scales = std::iter::successors(Some(12.0 / f64::from(min_face)), |scale| {
        Some(scale * f64::from(DEFAULT_SCALE_FACTOR))
    });
    let scales = scales.take_while(|scale| width.min(height) as f64 * scale >= 12.0);
    let extent = |side: usize, scale: f64| (side as f64 * scale).ceil() as usize;
    scales
        .map(|scale| extent(width, scale) * extent(height, scale))
        .sum()
}
