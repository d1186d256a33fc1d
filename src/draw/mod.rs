//! Faces drawn on an image of any format, in place: box, landmarks, name, similarity, mask state.
//!
//! Nothing is converted and only the drawn pixels are changed, so the cost does not depend on
//! the size of the frame. [`Painter::overlays`] draws separate overlay images instead, for programs that
//! blend them later. [`Steady`] stabilises boxes and texts of a video.
//!
//! Names may be in any script: Latin, Greek, Cyrillic, Armenian, Georgian,
//! Hebrew and Arabic are in the embedded font (DejaVu Sans 2.37, Bitstream Vera licence); for others
//! the fonts of the system are loaded when they are first needed.

mod canvas;
mod extent;
mod label;
mod legend;
mod place;
mod steady;
mod style;
mod text;

use std::collections::HashMap;

use crate::frame::geometry::{Landmarks, Point, Rect};
use crate::frame::image::{
    Colorimetry, ImageError, ImageInfo, ImageViewMut, PixelFormat, PlaneMut,
};
use crate::frame::orientation::Orientation;

pub use canvas::Rgb;
pub use label::{MASK_TEXT, NO_MASK_TEXT, UNKNOWN_TEXT};
pub use steady::Steady;
pub use style::{
    DEFAULT_FONT_SIZE, DEFAULT_KNOWN_COLOR, DEFAULT_LINE_WIDTH, DEFAULT_PENDING_COLOR,
    DEFAULT_UNKNOWN_COLOR, Style,
};

use canvas::{Area, Canvas, Scratch, Surface, upright_size};
use extent::Extent;
use label::{Label, RIM_OPACITY};
use legend::Legend;
use place::{Last, Placer};
use style::DARK;
use text::Typesetter;

/// In frames with more faces than this, faces get boxes and landmarks but no label: the placement of each label
/// compares it with all others, and so many would be illegible.
const MAX_LABELS: usize = 256;
/// Radius of a landmark's dot as a fraction of the shorter side of its face.
const DOT_PER_FACE: f32 = 0.018;
/// Smallest radius of a dot in pixels.
const MIN_DOT: f32 = 1.0;
/// Width of the dark rim of a dot in pixels.
const DOT_RIM: f32 = 1.0;
/// Faces whose shorter side is less than this, in pixels, get no dots: five dots of the smallest size would hide
/// more than they show.
const MIN_FACE_WITH_DOTS: f32 = 32.0;

/// State of the identification of a face.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum IdentityState {
    /// Not identified yet.
    #[default]
    Pending,
    /// Not a person of the gallery.
    Unknown,
    /// A person of the gallery.
    Known,
}

/// One face and the texts of its label.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Annotation<'a> {
    /// Id of the face, above 0, that stays the same in successive frames; 0 or less if it is unknown which
    /// face of the last frame this one is.
    pub id: i32,
    /// In pixels of the image; may reach beyond it. A face whose rectangle has no size, is not
    /// finite or lies outside of the image is not drawn.
    pub rect: Rect,
    /// In pixels of the image.
    pub landmarks: Option<Landmarks>,
    pub state: IdentityState,
    /// Any Unicode text, shortened with "…" if too long; control characters are drawn as spaces. If empty, the label
    /// has [`UNKNOWN_TEXT`] for [`IdentityState::Unknown`], and no name for the others.
    pub name: &'a str,
    /// 0…1, drawn with two decimals.
    pub similarity: Option<f32>,
    /// Whether a mask is worn: [`MASK_TEXT`] or [`NO_MASK_TEXT`].
    pub masked: Option<bool>,
}

/// A drawn part of a frame, to be blended over it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlay {
    /// Position of its upper left pixel in the frame as it is stored.
    pub x: usize,
    pub y: usize,
    /// In pixels.
    pub width: usize,
    pub height: usize,
    /// Rows without padding. Alpha is straight, not premultiplied.
    pub pixels: Vec<u8>,
}

/// Draws on frame after frame. It owns fonts, rasterised texts and scratch buffers: from the second frame
/// with the same texts on, drawing in place allocates nothing. Labels of faces with an id keep their
/// place and size from frame to frame, unless there is a clear reason to change.
///
/// ```
/// use gstmfr::draw::{Annotation, IdentityState, Painter, Style};
/// use gstmfr::frame::geometry::Rect;
/// use gstmfr::frame::image::{Colorimetry, ImageInfo, ImageViewMut, PixelFormat, PlaneMut};
///
/// let (mut luma, mut chroma) = (vec![16; 320 * 240], vec![128; 320 * 120]);
/// let info = ImageInfo {
///     width: 320,
///     height: 240,
///     format: PixelFormat::Nv12,
///     colorimetry: Colorimetry::default(),
/// };
/// let planes = [&mut luma, &mut chroma].map(|data| PlaneMut { data, stride: 320 });
/// let mut image = ImageViewMut::new(info, planes.into())?;
/// let face = Annotation {
///     rect: Rect::new(100.0, 80.0, 90.0, 110.0),
///     state: IdentityState::Known,
///     name: "Ana Müller",
///     similarity: Some(0.83),
///     masked: Some(true),
///     ..Annotation::default()
/// };
/// Painter::new().draw(&mut image, &[face], &Style::default());
/// assert!(luma.iter().any(|&y| y != 16));
/// # Ok::<_, gstmfr::frame::image::ImageError>(())
/// ```
#[derive(Debug)]
pub struct Painter {
    texts: Typesetter,
    scratch: Scratch,
    digits: String,
    placer: Placer,
    scene: Scene,
    labels: Labels,
    labels_before: Labels,
}

/// The layout of one frame.
#[derive(Debug, Default)]
struct Scene {
    frame: Area,
    /// The boxes of the frame's faces in pixels; `None` for those that are not visible.
    areas: Vec<Option<Area>>,
    /// Labels with their place and colour.
    labels: Vec<(Label, Area, Rgb)>,
    legend: Option<Legend>,
}

/// State of labels by the ids of their faces.
type Labels = HashMap<i32, LabelState>;

/// The state of a label that should not change without need.
#[derive(Debug, Clone, Copy)]
struct LabelState {
    font_size: u32,
    /// Whether it was a short one, and the step of its place; `None` if it was left out.
    place: Option<(bool, usize)>,
}

impl LabelState {
    fn last_place(&self, short: bool) -> Last {
        match self.place {
            Some((was_short, step)) if was_short == short => Last::At(step),
            _ => Last::Elsewhere,
        }
    }
}

impl Default for Painter {
    fn default() -> Self {
        Self::new()
    }
}

impl Painter {
    pub fn new() -> Self {
        Self {
            texts: Typesetter::new(),
            scratch: Scratch::default(),
            digits: String::new(),
            placer: Placer::default(),
            scene: Scene::default(),
            labels: Labels::new(),
            labels_before: Labels::new(),
        }
    }

    /// Discards the places of labels, at a discontinuity of the video.
    pub fn forget(&mut self) {
        self.labels.clear();
    }

    /// Draws `faces` on `image`: all boxes and landmarks first, then the labels, so that no box
    /// crosses a name. Where labels compete for a place, the earlier face gets the better one; in a
    /// crowd a label is reduced to the name, or left out if it would hide others.
    pub fn draw(&mut self, image: &mut ImageViewMut<'_>, faces: &[Annotation<'_>], style: &Style) {
        self.arrange(upright_size(image), faces, style);
        let mut canvas = Canvas::new(image, (0, 0), &mut self.scratch);
        self.scene.paint(&mut canvas, faces, style);
    }

    /// Draws what [`draw`](Self::draw) would draw on a frame of this stored size and orientation,
    /// as images that do not overlap. `format` must have alpha.
    pub fn overlays(
        &mut self,
        (width, height): (usize, usize),
        orientation: Orientation,
        format: PixelFormat,
        faces: &[Annotation<'_>],
        style: &Style,
    ) -> Result<Vec<Overlay>, ImageError> {
        let extent = |v: usize| i64::try_from(v).unwrap_or(i64::MAX);
        let size = (extent(width), extent(height));
        self.arrange(orientation.turn_size(size), faces, style);
        let frame = self.scene.frame;
        let mut parts = Extent::new(frame);
        if faces.len() > MAX_LABELS {
            // With so many faces, looking for gaps between them would take too long.
            parts.fill(&frame, DARK, 255);
        } else {
            self.scene.paint(&mut parts, faces, style);
        }
        let part = |area: &Area| {
            let stored = area.stored(orientation, size);
            let (width, height) = (stored.width() as usize, stored.height() as usize);
            let info = ImageInfo {
                width,
                height,
                format,
                colorimetry: Colorimetry::default(),
            };
            let stride = format.row_bytes(0, width);
            let mut pixels = vec![0; stride * height];
            let plane = PlaneMut {
                data: &mut pixels,
                stride,
            };
            let mut image = ImageViewMut::new(info, vec![plane])?.oriented(orientation);
            let mut canvas = Canvas::new(&mut image, (area.x0, area.y0), &mut self.scratch);
            self.scene.paint(&mut canvas, faces, style);
            Ok(Overlay {
                x: stored.x0 as usize,
                y: stored.y0 as usize,
                width,
                height,
                pixels,
            })
        };
        parts.areas().iter().map(part).collect()
    }

    /// Lays out a frame of this size, in upright coordinates.
    fn arrange(&mut self, (width, height): (i64, i64), faces: &[Annotation<'_>], style: &Style) {
        let frame = Area::new(0, 0, width, height);
        let scene = &mut self.scene;
        scene.frame = frame;
        scene.areas.clear();
        scene.areas.extend(faces.iter().map(|face| {
            let area = Area::from_rect(&face.rect)?;
            (area.overlap(&frame) > 0).then_some(area)
        }));
        let legend = || Legend::new(style, &frame, &mut self.texts);
        scene.legend = style.show_legend.then(legend).flatten();
        self.placer.clear(scene.legend.as_ref().map(Legend::place));
        std::mem::swap(&mut self.labels, &mut self.labels_before);
        self.labels.clear();
        scene.labels.clear();
        let areas = &scene.areas[..scene.areas.len().min(MAX_LABELS)];
        for (face, area) in faces.iter().zip(areas) {
            let Some(area) = area else { continue };
            let before = self.labels_before.get(&face.id);
            let font_size = style.font_for(&frame, area, before.map(|b| b.font_size));
            let (texts, digits) = (&mut self.texts, &mut self.digits);
            let mut label = Label::new(face, style, font_size, width, texts, digits);
            let outer = area.grown(style.line_for(&frame, area) / 2);
            let mut now = LabelState {
                font_size,
                place: None,
            };
            // Without a good place the label is reduced to the name, and else left out.
            while let Some(current) = label {
                let short = current.is_short();
                let last = before.map_or(Last::New, |b| b.last_place(short));
                let size = current.size();
                let place = self.placer.place(&frame, &outer, areas, size, !short, last);
                label = match place {
                    Some((step, place)) => {
                        now.place = Some((short, step));
                        let color = style.color(face.state);
                        scene.labels.push((current, place, color));
                        None
                    }
                    None => current.shortened(),
                };
            }
            if face.id > 0 {
                self.labels.insert(face.id, now);
            }
        }
    }
}

impl Scene {
    /// Draws the layout; `faces` and `style` must be those that it was made for.
    fn paint(&self, canvas: &mut impl Surface, faces: &[Annotation<'_>], style: &Style) {
        let seen = || {
            let faces = faces.iter().zip(&self.areas);
            faces.filter_map(|(face, area)| Some((face, area.as_ref()?)))
        };
        for (face, area) in seen() {
            draw_box(canvas, &self.frame, area, style, face);
        }
        for (face, area) in seen().filter(|_| style.show_landmarks) {
            if let Some(landmarks) = &face.landmarks {
                let color = style.color(face.state);
                draw_landmarks(canvas, &self.frame, area, landmarks, color);
            }
        }
        if let Some(legend) = &self.legend {
            legend.draw(canvas, style);
        }
        for (label, place, color) in &self.labels {
            label.draw(canvas, place, *color);
        }
    }
}

/// A coloured line along the edge of the face, half inside and half outside, between two dark ones;
/// for a small face it is mostly outside.
fn draw_box(
    canvas: &mut impl Surface,
    frame: &Area,
    area: &Area,
    style: &Style,
    face: &Annotation<'_>,
) {
    let line = style.line_for(frame, area);
    let rim = (line / 3).max(1);
    let inner = area.shrunk(style.inside_for(line, rim, area));
    canvas.frame_around(&inner, line + 2 * rim, DARK, RIM_OPACITY);
    canvas.frame_around(&inner.grown(rim), line, style.color(face.state), 255);
}

fn draw_landmarks(
    canvas: &mut impl Surface,
    frame: &Area,
    area: &Area,
    landmarks: &Landmarks,
    color: Rgb,
) {
    let side = area.width().min(area.height()) as f32;
    if side < MIN_FACE_WITH_DOTS {
        return;
    }
    // The upper bound keeps dots from growing into discs on a face that fills a large frame.
    let largest = frame.height().max(1) as f32 / 150.0;
    let radius = (side * DOT_PER_FACE).min(largest).max(MIN_DOT);
    for point in landmarks.0 {
        draw_dot(canvas, point, radius + DOT_RIM, DARK);
        draw_dot(canvas, point, radius, color);
    }
}

/// Draws a filled circle, or nothing if the point is not finite.
fn draw_dot(canvas: &mut impl Surface, center: Point, radius: f32, color: Rgb) {
    let reach = radius.ceil() + 1.0;
    let rect = Rect::new(
        center.x.floor() - reach,
        center.y.floor() - reach,
        2.0 * reach + 1.0,
        2.0 * reach + 1.0,
    );
    let Some(area) = Area::from_rect(&rect) else {
        return;
    };
    // Pixel (0, 0) covers 0…1 in x and y, and its centre is (0.5, 0.5).
    let (cx, cy) = (center.x - area.x0 as f32, center.y - area.y0 as f32);
    canvas.paint(&area, color, |x, y, row| {
        let dy = y as f32 + 0.5 - cy;
        for (i, c) in row.iter_mut().enumerate() {
            let dx = (x + i) as f32 + 0.5 - cx;
            let inside = (radius - (dx * dx + dy * dy).sqrt() + 0.5).clamp(0.0, 1.0);
            *c = (inside * 255.0).round() as u8;
        }
    });
}

#[cfg(test)]
mod tests;
