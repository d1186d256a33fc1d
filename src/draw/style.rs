//! Colours and sizes of what is drawn.

use super::canvas::Rgb;
use super::{IdentityState, canvas::Area};

/// Somebody of the gallery. Bluish green of Okabe and Ito's palette for colour-blind readers
/// (Color Universal Design, 2008), lightened for dark text on it.
pub const DEFAULT_KNOWN_COLOR: Rgb = [40, 190, 140];
/// Tried, and nobody of the gallery: orange of the same palette. Also lighter than
/// [`DEFAULT_KNOWN_COLOR`] by 20 of 255 in luma, so that grey frames tell them apart.
pub const DEFAULT_UNKNOWN_COLOR: Rgb = [255, 165, 30];
/// Not tried yet: no opinion, no colour.
pub const DEFAULT_PENDING_COLOR: Rgb = [225, 225, 225];
/// 0 = from the size of the frame.
pub const DEFAULT_LINE_WIDTH: u32 = 0;
/// 0 = from the size of the frame.
pub const DEFAULT_FONT_SIZE: u32 = 0;

/// Text on light colours, and outlines.
pub(super) const DARK: Rgb = [18, 18, 18];
/// Text on dark colours.
pub(super) const LIGHT: Rgb = [245, 245, 245];

/// Behind the mask state: says nothing about who it is.
pub(super) const MASK_PLATE: Rgb = [48, 52, 58];

/// Larger values asked for are drawn as this, in pixels.
const MAX_FONT_SIZE: u32 = 256;
const MAX_LINE_WIDTH: u32 = 64;
/// Up to so many faces, and up to so many more, labels find room at full size, and at four fifths.
const FEW_FACES: usize = 12;
const MANY_FACES: usize = 40;
/// Smaller text cannot be read, in pixels.
const MIN_FONT_SIZE: u32 = 9;

/// How annotations look. `Style::default()` suits every size of frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Pixels of the coloured line of a box, without its dark outline; 0 = from the size of the
    /// frame (4 at 1080p), 64 at most. Small faces get thinner lines.
    pub line_width: u32,
    /// Pixels of the font's em; 0 = from the size of the frame (24 at 1080p, less
    /// where there are more than a dozen faces), 256 at most.
    pub font_size: u32,
    pub show_landmarks: bool,
    /// Name and similarity.
    pub show_identity: bool,
    /// Whether a mask is worn.
    pub show_mask: bool,
    /// Box and plate of [`IdentityState::Known`].
    pub known_color: Rgb,
    /// Box and plate of [`IdentityState::Unknown`].
    pub unknown_color: Rgb,
    /// Box and plate of [`IdentityState::Pending`].
    pub pending_color: Rgb,
}

impl Default for Style {
    fn default() -> Self {
        Self {
            line_width: DEFAULT_LINE_WIDTH,
            font_size: DEFAULT_FONT_SIZE,
            show_landmarks: true,
            show_identity: true,
            show_mask: true,
            known_color: DEFAULT_KNOWN_COLOR,
            unknown_color: DEFAULT_UNKNOWN_COLOR,
            pending_color: DEFAULT_PENDING_COLOR,
        }
    }
}

impl Style {
    pub(super) fn color(&self, state: IdentityState) -> Rgb {
        match state {
            IdentityState::Known => self.known_color,
            IdentityState::Unknown => self.unknown_color,
            IdentityState::Pending => self.pending_color,
        }
    }

    /// Pixels of a line round a box in this frame.
    pub(super) fn line_for(&self, frame: &Area, face: &Area) -> i64 {
        let side = frame.width().min(frame.height());
        let line = match self.line_width {
            // 4 at 1080p, 3 at 720p, 2 at 480p, never less than 1.
            0 => (side + 135) / 270,
            width => i64::from(width.min(MAX_LINE_WIDTH)),
        };
        // A twelfth of the face, or the frame hides it.
        let thinnest = face.width().min(face.height()) / 12;
        line.min(thinnest.max(1)).max(1)
    }

    /// Pixels of the font's em in a frame with this many faces.
    pub(super) fn font_for(&self, frame: &Area, faces: usize) -> u32 {
        if self.font_size > 0 {
            return self.font_size.min(MAX_FONT_SIZE);
        }
        // 24 at 1080p, 18 at 720p, 14 at 480p, 10 at 240p, 42 at 2160p.
        let side = frame.width().min(frame.height());
        let size = 6 + u32::try_from(side / 60).unwrap_or(MAX_FONT_SIZE);
        // Not by the size of the face: it changes with every frame, and so would the text.
        let size = match faces {
            0..=FEW_FACES => size,
            _ if faces <= MANY_FACES => size * 4 / 5,
            _ => size * 3 / 5,
        };
        size.clamp(MIN_FONT_SIZE, MAX_FONT_SIZE)
    }
}

/// Dark or light, whatever is read better on `background`.
pub(super) fn text_color(background: Rgb) -> Rgb {
    let contrast = |text| {
        let (a, b) = (luminance(text), luminance(background));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    };
    if contrast(DARK) >= contrast(LIGHT) {
        DARK
    } else {
        LIGHT
    }
}

/// Relative luminance 0…1 of WCAG 2.1, gamma taken as 2.2.
fn luminance(rgb: Rgb) -> f32 {
    let [r, g, b] = rgb.map(|v| (f32::from(v) / 255.0).powf(2.2));
    0.2126 * r + 0.7152 * g + 0.0722 * b
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_on_every_default_colour_has_the_contrast_that_wcag_asks_for() {
        for plate in [
            DEFAULT_KNOWN_COLOR,
            DEFAULT_UNKNOWN_COLOR,
            DEFAULT_PENDING_COLOR,
            MASK_PLATE,
        ] {
            let (a, b) = (luminance(text_color(plate)), luminance(plate));
            // WCAG 2.1, level AAA: 7 to 1.
            assert!((a.max(b) + 0.05) / (a.min(b) + 0.05) >= 7.0, "{plate:?}");
        }
    }

    #[test]
    fn automatic_sizes_follow_the_shorter_side_of_the_frame() {
        let style = Style::default();
        let face = Area::new(0, 0, 500, 500);
        for (width, height, line, font) in [
            (1920, 1080, 4, 24),
            (1080, 1920, 4, 24),
            (640, 480, 2, 14),
            (160, 120, 1, 9),
            (1, 1, 1, 9),
        ] {
            let frame = Area::new(0, 0, width, height);
            assert_eq!(style.line_for(&frame, &face), line);
            assert_eq!(style.font_for(&frame, 1), font);
        }
    }
}
