//! One label: name, similarity and mask state on a plate.

use std::fmt::Write;
use std::sync::Arc;

use super::canvas::{Area, Rgb, Surface};
use super::style::{DARK, MASK_PLATE, Style, text_color};
use super::text::{TextMask, Typesetter};
use super::{Annotation, IdentityState};

/// Text for a face that is not a person of the gallery, unless it has another name.
pub const UNKNOWN_TEXT: &str = "unknown";
/// Text for a face that wears a mask.
pub const MASK_TEXT: &str = "mask";
/// Text for a face without a mask.
pub const NO_MASK_TEXT: &str = "no mask";

/// Maximum width of a name in ems, about 24 letters; longer ones are shortened.
const MAX_NAME_EMS: u32 = 13;
/// Minimum width of a shortened name in ems: mask state and similarity are left out first.
const MIN_NAME_EMS: u32 = 5;
/// Opacity of the dark rim that sets plates and lines off against any background.
pub(super) const RIM_OPACITY: u8 = 180;
/// Thickness of that rim around a plate in pixels.
pub(super) const RIM: i64 = 1;

/// The texts of one label and their sizes in pixels.
#[derive(Debug)]
pub(super) struct Label {
    name: Option<Arc<TextMask>>,
    similarity: Option<Arc<TextMask>>,
    mask: Option<Arc<TextMask>>,
    height: i64,
    /// Space between the edge of a plate and its text.
    pad: i64,
    /// Space between name and similarity.
    gap: i64,
}

impl Label {
    /// Renders the texts of a face in at most `room` pixels; `None` if there is no text or no
    /// room for it. `digits` is a scratch buffer.
    pub fn new(
        face: &Annotation<'_>,
        style: &Style,
        size: u32,
        room: i64,
        texts: &mut Typesetter,
        digits: &mut String,
    ) -> Option<Self> {
        let pad = i64::from(size.div_ceil(3));
        let mut label = Self {
            name: None,
            similarity: None,
            mask: None,
            height: i64::from(Typesetter::line_height(size)),
            pad,
            gap: pad,
        };
        let mut word = |text: &str| texts.set(text, size, size * MAX_NAME_EMS);
        let name = match face.state {
            _ if !style.show_identity => "",
            IdentityState::Unknown if face.name.is_empty() => UNKNOWN_TEXT,
            _ => face.name,
        };
        if !name.is_empty() {
            label.name = Some(word(name));
        }
        let similarity = face.similarity.filter(|s| s.is_finite());
        if let Some(similarity) = similarity.filter(|_| style.show_identity) {
            digits.clear();
            // Writing to a String cannot fail.
            let _ = write!(digits, "{:.2}", similarity.clamp(0.0, 1.0));
            label.similarity = Some(word(digits));
        }
        if let Some(masked) = face.masked.filter(|_| style.show_mask) {
            label.mask = Some(word(if masked { MASK_TEXT } else { NO_MASK_TEXT }));
        }
        label.fit(name, size, room - 2 * RIM, texts);
        (label.width() > 0 && label.width() <= room - 2 * RIM).then_some(label)
    }

    /// Leaves out and shortens texts until the label is at most `room` pixels wide.
    fn fit(&mut self, name: &str, size: u32, room: i64, texts: &mut Typesetter) {
        let shortest = i64::from(size * MIN_NAME_EMS).min(width(&self.name));
        let excess = |label: &Self| label.width() - width(&label.name) + shortest - room;
        if self.identity_width() > 0 && excess(self) > 0 {
            self.mask = None;
        }
        if self.name.is_some() && excess(self) > 0 {
            self.similarity = None;
        }
        if self.name.is_some() && self.width() > room {
            let left = room - (self.width() - width(&self.name));
            // A name shortened to only "…" has no information.
            let enough = left >= i64::from(size);
            let limit = u32::try_from(left).ok().filter(|_| enough);
            self.name = limit.map(|limit| texts.set(name, size, limit));
        }
    }

    /// Width of the coloured part of the plate in pixels; 0 without name and similarity.
    fn identity_width(&self) -> i64 {
        match (width(&self.name), width(&self.similarity)) {
            (0, 0) => 0,
            (0, one) | (one, 0) => one + 2 * self.pad,
            (name, similarity) => name + self.gap + similarity + 2 * self.pad,
        }
    }

    /// Width of the dark part of the plate in pixels; 0 without mask state.
    fn mask_width(&self) -> i64 {
        match width(&self.mask) {
            0 => 0,
            mask => mask + 2 * self.pad,
        }
    }

    fn width(&self) -> i64 {
        self.identity_width() + self.mask_width()
    }

    /// Whether the label has at most the name.
    pub fn is_short(&self) -> bool {
        self.similarity.is_none() && self.mask.is_none()
    }

    /// The label reduced to the name; `None` if it is already.
    pub fn shortened(self) -> Option<Self> {
        (!self.is_short() && self.name.is_some()).then_some(Self {
            similarity: None,
            mask: None,
            ..self
        })
    }

    /// Width and height in pixels, including the rim.
    pub fn size(&self) -> (i64, i64) {
        (self.width() + 2 * RIM, self.height + 2 * RIM)
    }

    /// Draws the label; `place` has its [`size`](Self::size).
    pub fn draw(&self, canvas: &mut impl Surface, place: &Area, color: Rgb) {
        let plate = place.grown(-RIM);
        let identity = Area {
            x1: plate.x0 + self.identity_width(),
            ..plate
        };
        let mask = Area {
            x0: identity.x1,
            ..plate
        };
        let radius = corner_radius(self.height);
        draw_rim(canvas, place, radius + RIM as f32);
        fill_rounded(canvas, &identity, &plate, radius, color, 255);
        fill_rounded(canvas, &mask, &plate, radius, MASK_PLATE, 255);

        let mut x = plate.x0 + self.pad;
        for text in [&self.name, &self.similarity].into_iter().flatten() {
            draw_text(canvas, text, x, plate.y0, text_color(color));
            x += text.width as i64 + self.gap;
        }
        if let Some(text) = &self.mask {
            draw_text(
                canvas,
                text,
                mask.x0 + self.pad,
                plate.y0,
                text_color(MASK_PLATE),
            );
        }
    }
}

/// Radius of a plate's corners.
pub(super) fn corner_radius(line_height: i64) -> f32 {
    (line_height as f32 / 6.0).max(2.0)
}

fn width(text: &Option<Arc<TextMask>>) -> i64 {
    text.as_ref().map_or(0, |t| t.width as i64)
}

pub(super) fn draw_text(canvas: &mut impl Surface, text: &TextMask, x: i64, y: i64, color: Rgb) {
    let area = Area::new(x, y, text.width as i64, text.height as i64);
    canvas.paint(&area, color, |x, y, row| text.row(x, y, row));
}

/// Draws the dark rim: a band as wide as the corner radius, of which the plate hides the inner part.
pub(super) fn draw_rim(canvas: &mut impl Surface, place: &Area, radius: f32) {
    let band = radius.ceil() as i64;
    // On a low plate the upper and lower bands would overlap, so they are clipped.
    let (upper, lower) = (
        (place.y0 + band).min(place.y1),
        (place.y1 - band).max(place.y0 + band).min(place.y1),
    );
    let top = Area {
        y1: upper,
        ..*place
    };
    let bottom = Area {
        y0: lower,
        ..*place
    };
    let left = Area {
        y0: upper,
        y1: lower,
        x1: (place.x0 + band).min(place.x1),
        ..*place
    };
    let right = Area {
        x0: (place.x1 - band).max(left.x1),
        x1: place.x1,
        ..left
    };
    for part in [top, bottom, left, right] {
        fill_rounded(canvas, &part, place, radius, DARK, RIM_OPACITY);
    }
}

/// Fills `part` of a plate with rounded corners.
pub(super) fn fill_rounded(
    canvas: &mut impl Surface,
    part: &Area,
    plate: &Area,
    radius: f32,
    color: Rgb,
    opacity: u8,
) {
    let (width, height) = (plate.width(), plate.height());
    let (left, top) = (part.x0 - plate.x0, part.y0 - plate.y0);
    let reach = radius.ceil() as i64;
    // Distance of a pixel's centre beyond the centres of the corner circles.
    let beyond = |v: i64, length: i64| {
        let v = v as f32 + 0.5;
        (radius - v).max(v - (length as f32 - radius)).max(0.0)
    };
    canvas.paint(part, color, |x, y, row| {
        row.fill(opacity);
        let dy = beyond(top + y as i64, height);
        if dy == 0.0 {
            return;
        }
        let columns = left + x as i64..;
        for (x, c) in columns.zip(row) {
            if (reach..width - reach).contains(&x) {
                continue;
            }
            let dx = beyond(x, width);
            let inside = (radius - (dx * dx + dy * dy).sqrt() + 0.5).clamp(0.0, 1.0);
            *c = (inside * f32::from(opacity)).round() as u8;
        }
    });
}
