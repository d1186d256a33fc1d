//! Faces drawn on an image of any format, in place: box, landmarks, name, similarity, mask state.
//!
//! Nothing is converted and nothing but the drawn pixels is touched, so the cost does not depend on
//! the size of the frame. Names may be in any script: Latin, Greek, Cyrillic, Armenian, Georgian,
//! Hebrew and Arabic are in the embedded font (DejaVu Sans 2.37, Bitstream Vera licence); for others
//! the fonts of the system are looked through the first time that they are needed.

mod canvas;
mod label;
mod place;
mod style;
mod text;

use crate::geometry::{Landmarks, Point, Rect};
use crate::image::ImageViewMut;

pub use canvas::Rgb;
pub use label::{MASK_TEXT, NO_MASK_TEXT, UNKNOWN_TEXT};
pub use style::{
    DEFAULT_FONT_SIZE, DEFAULT_KNOWN_COLOR, DEFAULT_LINE_WIDTH, DEFAULT_PENDING_COLOR,
    DEFAULT_UNKNOWN_COLOR, Style,
};

use canvas::{Area, Canvas, Scratch};
use label::{Label, RIM_OPACITY};
use place::Placer;
use style::DARK;
use text::Typesetter;

/// More faces than these get boxes and landmarks but no label: each label looks at all others, and
/// nobody could read them.
const MAX_LABELS: usize = 256;
/// Radius of a landmark's dot as a part of the shorter side of its face.
const DOT_PER_FACE: f32 = 0.018;
/// Smallest radius of a dot in pixels.
const MIN_DOT: f32 = 1.0;
/// Width of the dark rim of a dot in pixels.
const DOT_RIM: f32 = 1.0;

/// What is known of who a face is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum IdentityState {
    /// Not tried yet.
    #[default]
    Pending,
    /// Tried, and nobody of the gallery.
    Unknown,
    /// Somebody of the gallery.
    Known,
}

/// One face and what to say about it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Annotation<'a> {
    /// In pixels of the image; may reach beyond it. A face whose rectangle has no size, is not
    /// finite or lies outside of the image is not drawn.
    pub rect: Rect,
    /// In pixels of the image.
    pub landmarks: Option<Landmarks>,
    pub state: IdentityState,
    /// Any Unicode text; shortened with "…" where too long, control characters are blanks. Empty:
    /// [`UNKNOWN_TEXT`] for [`IdentityState::Unknown`], nothing for the others.
    pub name: &'a str,
    /// 0…1, drawn with two decimals.
    pub similarity: Option<f32>,
    /// Whether a mask is worn: [`MASK_TEXT`] or [`NO_MASK_TEXT`].
    pub masked: Option<bool>,
}

/// Draws on frame after frame. It owns fonts, rasterised texts and scratch: from the second frame
/// with the same texts on, nothing is allocated.
///
/// ```
/// use gstmfr::draw::{Annotation, IdentityState, Painter, Style};
/// use gstmfr::geometry::Rect;
/// use gstmfr::image::{Colorimetry, ImageInfo, ImageViewMut, PixelFormat, PlaneMut};
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
///     landmarks: None,
/// };
/// Painter::new().draw(&mut image, &[face], &Style::default());
/// assert!(luma.iter().any(|&y| y != 16));
/// # Ok::<_, gstmfr::image::ImageError>(())
/// ```
#[derive(Debug)]
pub struct Painter {
    texts: Typesetter,
    placer: Placer,
    scratch: Scratch,
    /// The boxes of the frame's faces in pixels; `None` for those that cannot be seen.
    areas: Vec<Option<Area>>,
    digits: String,
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
            placer: Placer::default(),
            scratch: Scratch::default(),
            areas: Vec::new(),
            digits: String::new(),
        }
    }

    /// Draws `faces` on `image`: all boxes and landmarks first, then the labels, so that no box
    /// crosses a name. Where labels compete for a place, the earlier face has the better one; in a
    /// crowd a label is reduced to the name, or left out where it would hide others.
    pub fn draw(&mut self, image: &mut ImageViewMut<'_>, faces: &[Annotation<'_>], style: &Style) {
        let mut canvas = Canvas::new(image, &mut self.scratch);
        let frame = canvas.frame();
        self.areas.clear();
        self.areas.extend(faces.iter().map(|face| {
            let area = Area::from_rect(&face.rect)?;
            (area.overlap(&frame) > 0).then_some(area)
        }));
        for (face, area) in faces.iter().zip(&self.areas) {
            if let Some(area) = area {
                draw_box(&mut canvas, area, style.line_for(&frame, area), style, face);
            }
        }
        for (face, area) in faces.iter().zip(&self.areas) {
            if let (Some(area), Some(landmarks), true) =
                (area, &face.landmarks, style.show_landmarks)
            {
                draw_landmarks(&mut canvas, area, landmarks, style.color(face.state));
            }
        }
        self.draw_labels(image, faces, style);
    }

    fn draw_labels(
        &mut self,
        image: &mut ImageViewMut<'_>,
        faces: &[Annotation<'_>],
        style: &Style,
    ) {
        let mut canvas = Canvas::new(image, &mut self.scratch);
        let frame = canvas.frame();
        let size = style.font_for(&frame, faces.len());
        let areas = &self.areas[..self.areas.len().min(MAX_LABELS)];
        self.placer.clear();
        for (face, area) in faces.iter().zip(areas) {
            let Some(area) = area else { continue };
            let (texts, digits) = (&mut self.texts, &mut self.digits);
            let mut label = Label::new(face, style, size, frame.width(), texts, digits);
            let outer = area.grown(style.line_for(&frame, area) / 2);
            // In a crowd the name alone, or else nothing.
            while let Some(current) = label {
                let place = self.placer.place(&frame, &outer, areas, current.size());
                if let Some(place) = place {
                    current.draw(&mut canvas, &place, style.color(face.state));
                    break;
                }
                label = current.shortened();
            }
        }
    }
}

/// A coloured line along the edge of the face, half inside and half outside, between two dark ones.
fn draw_box(
    canvas: &mut Canvas<'_, '_>,
    area: &Area,
    line: i64,
    style: &Style,
    face: &Annotation<'_>,
) {
    let rim = (line / 3).max(1);
    let inside = (line + 1) / 2;
    let dark = area.shrunk(inside + rim);
    canvas.frame_around(&dark, line + 2 * rim, DARK, RIM_OPACITY);
    canvas.frame_around(&area.shrunk(inside), line, style.color(face.state), 255);
}

fn draw_landmarks(canvas: &mut Canvas<'_, '_>, area: &Area, landmarks: &Landmarks, color: Rgb) {
    let side = area.width().min(area.height()) as f32;
    // The largest keeps dots from growing into discs on a face that fills a large frame.
    let largest = canvas.frame().height().max(1) as f32 / 150.0;
    let radius = (side * DOT_PER_FACE).min(largest).max(MIN_DOT);
    for point in landmarks.0 {
        draw_dot(canvas, point, radius + DOT_RIM, DARK);
        draw_dot(canvas, point, radius, color);
    }
}

/// A filled circle; nothing where the point is not finite.
fn draw_dot(canvas: &mut Canvas<'_, '_>, center: Point, radius: f32, color: Rgb) {
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
    // Pixel (0, 0) covers 0…1 in x and y, its centre is (0.5, 0.5).
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
