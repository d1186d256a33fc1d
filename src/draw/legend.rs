//! A small legend of the colours.

use std::sync::Arc;

use super::canvas::{Area, Surface};
use super::label::{RIM, corner_radius, draw_rim, draw_text, fill_rounded};
use super::style::{MASK_PLATE, Style, text_color};
use super::text::{TextMask, Typesetter};
use super::{IdentityState, UNKNOWN_TEXT};

/// The identity states in the order of the lines, with their texts.
const STATES: [(IdentityState, &str); 3] = [
    (IdentityState::Known, "known"),
    (IdentityState::Unknown, UNKNOWN_TEXT),
    (IdentityState::Pending, "not yet compared"),
];

/// The legend and its position.
#[derive(Debug)]
pub(super) struct Legend {
    lines: [Arc<TextMask>; 3],
    place: Area,
    line_height: i64,
}

impl Legend {
    /// A legend in the lower left corner; `None` if with its margin it would be wider or higher than half of the frame.
    pub fn new(style: &Style, frame: &Area, texts: &mut Typesetter) -> Option<Self> {
        let size = style.font_for_frame(frame);
        let line_height = i64::from(Typesetter::line_height(size));
        let room = u32::try_from(frame.width() / 2).ok()?;
        let lines = STATES.map(|(_, text)| texts.set(text, size, room));
        let widest = lines.iter().map(|l| l.width as i64).max()?;
        // From left to right, in line heights: ½ of space, 1 for the square of colour, ½, the text, ½.
        let width = widest + line_height * 5 / 2 + 2 * RIM;
        let height = line_height * lines.len() as i64 + 2 * RIM;
        let margin = line_height / 2;
        let place = Area::new(frame.x0 + margin, frame.y1 - margin - height, width, height);
        let fits = 2 * (width + margin) <= frame.width() && 2 * (height + margin) <= frame.height();
        fits.then_some(Self {
            lines,
            place,
            line_height,
        })
    }

    /// Its area in pixels of the upright frame.
    pub fn place(&self) -> Area {
        self.place
    }

    /// Draws the legend onto `canvas`, opaque.
    pub fn draw(&self, canvas: &mut impl Surface, style: &Style) {
        let plate = self.place.grown(-RIM);
        let radius = corner_radius(self.line_height);
        draw_rim(canvas, &self.place, radius + RIM as f32);
        fill_rounded(canvas, &plate, &plate, radius, MASK_PLATE, 255);
        let mut y = plate.y0;
        for ((state, _), text) in STATES.iter().zip(&self.lines) {
            let cell = Area::new(
                plate.x0 + self.line_height / 2,
                y,
                self.line_height,
                self.line_height,
            );
            canvas.fill(&cell.shrunk(self.line_height / 5), style.color(*state), 255);
            draw_text(
                canvas,
                text,
                cell.x1 + self.line_height / 2,
                y,
                text_color(MASK_PLATE),
            );
            y += self.line_height;
        }
    }
}
