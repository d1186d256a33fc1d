//! Colours and sizes of annotations.

use super::canvas::Rgb;
use super::{IdentityState, canvas::Area};

/// Colour of a person of the gallery: bluish green of Okabe and Ito's palette for colour-blind readers
/// (Color Universal Design, 2008), lightened for dark text on it.
pub const DEFAULT_KNOWN_COLOR: Rgb = [40, 190, 140];
/// Colour of a face that is not in the gallery: orange of the same palette. It is also lighter than
/// [`DEFAULT_KNOWN_COLOR`] by 20 of 255 in luma, so that the two differ in grey frames.
pub const DEFAULT_UNKNOWN_COLOR: Rgb = [255, 165, 30];
/// Colour of a face that is not identified yet: a neutral grey.
pub const DEFAULT_PENDING_COLOR: Rgb = [225, 225, 225];
/// Line width; 0 = chosen by the size of the frame.
pub const DEFAULT_LINE_WIDTH: u32 = 0;
/// Font size; 0 = chosen by the size of the frame.
pub const DEFAULT_FONT_SIZE: u32 = 0;

/// Colour of text on light colours, and of outlines.
pub(super) const DARK: Rgb = [18, 18, 18];
/// Colour of text on dark colours.
pub(super) const LIGHT: Rgb = [245, 245, 245];

/// Background of the mask state, neutral because it does not depend on the identity.
pub(super) const MASK_PLATE: Rgb = [48, 52, 58];

/// Upper limits in pixels, to which larger requested values are reduced.
const MAX_FONT_SIZE: u32 = 256;
const MAX_LINE_WIDTH: u32 = 64;
/// Lower limit in pixels, because smaller text is illegible.
const MIN_FONT_SIZE: u32 = 9;
/// Ratio of a face's shorter side to its font size: a name of eight letters is about as wide as its face.
const FACE_PER_FONT: i64 = 5;
/// Reciprocal of the relative change up to which text keeps its size.
const FONT_TOLERANCE: u32 = 5;
/// Least ratios of a face's shorter side to the part that each side of its box hides, and to the width of the line.
const FACE_PER_EDGE: i64 = 16;
const FACE_PER_LINE: i64 = 12;

/// Appearance of annotations. `Style::default()` suits every size of frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Width in pixels of the coloured line of a box, without its dark outline; 0 = chosen by the size of the
    /// frame (4 at 1080p), 64 at most. Small faces get thinner lines.
    pub line_width: u32,
    /// Pixels per em of the font; 0 = chosen by the size of the frame and of the face (12 to 24 at
    /// 1080p), 256 at most.
    pub font_size: u32,
    pub show_landmarks: bool,
    /// Whether name and similarity are drawn.
    pub show_identity: bool,
    /// Whether the mask state is drawn.
    pub show_mask: bool,
    /// Whether a legend of the colours is drawn in the lower left corner.
    pub show_legend: bool,
    /// Colour of box and plate for [`IdentityState::Known`].
    pub known_color: Rgb,
    /// Colour of box and plate for [`IdentityState::Unknown`].
    pub unknown_color: Rgb,
    /// Colour of box and plate for [`IdentityState::Pending`].
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
            show_legend: false,
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

    /// Width in pixels of the line of a box in this frame.
    pub(super) fn line_for(&self, frame: &Area, face: &Area) -> i64 {
        let side = frame.width().min(frame.height());
        let line = match self.line_width {
            // 4 at 1080p, 3 at 720p, 2 at 480p, never less than 1.
            0 => (side + 135) / 270,
            width => i64::from(width.min(MAX_LINE_WIDTH)),
        };
        let thinnest = face.width().min(face.height()) / FACE_PER_LINE;
        line.min(thinnest.max(1)).max(1)
    }

    /// Number of pixels by which line and dark rim together extend into a face.
    pub(super) fn inside_for(&self, line: i64, rim: i64, face: &Area) -> i64 {
        let most = face.width().min(face.height()) / FACE_PER_EDGE;
        ((line + 1) / 2 + rim).min(most.max(1))
    }

    /// Pixels per em of the font in a frame: 24 at 1080p, 18 at 720p, 14 at 480p, 10 at 240p, 42 at
    /// 2160p.
    pub(super) fn font_for_frame(&self, frame: &Area) -> u32 {
        let side = frame.width().min(frame.height());
        match self.font_size {
            0 => (6 + u32::try_from(side / 60).unwrap_or(MAX_FONT_SIZE))
                .clamp(MIN_FONT_SIZE, MAX_FONT_SIZE),
            size => size.min(MAX_FONT_SIZE),
        }
    }

    /// Pixels per em of the font for the label of a face, whose text had the size `last` in the last frame.
    pub(super) fn font_for(&self, frame: &Area, face: &Area, last: Option<u32>) -> u32 {
        let full = self.font_for_frame(frame);
        if self.font_size > 0 {
            return full;
        }
        let side = face.width().min(face.height()) / FACE_PER_FONT;
        let sizes = (full / 2).max(MIN_FONT_SIZE)..=full;
        let size = u32::try_from(side)
            .unwrap_or(full)
            .clamp(*sizes.start(), full);
        // The size of a face varies a little from frame to frame; that of the text must not.
        last.filter(|l| sizes.contains(l) && size.abs_diff(*l) * FONT_TOLERANCE <= *l)
            .unwrap_or(size)
    }
}

/// Dark or light, whichever is more legible on `background`.
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

/// Relative luminance 0…1 of WCAG 2.1, with gamma approximated as 2.2.
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
            // WCAG 2.1, level AAA, requires 7 to 1.
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
            assert_eq!(style.font_for(&frame, &face, None), font);
        }
    }

    #[test]
    fn text_shrinks_with_the_face_to_half_and_holds_still_meanwhile() {
        let style = Style::default();
        let frame = Area::new(0, 0, 1920, 1080);
        let font = |side, last| style.font_for(&frame, &Area::new(0, 0, side, side + 9), last);
        for (side, size) in [
            (300, 24),
            (120, 24),
            (100, 20),
            (70, 14),
            (60, 12),
            (20, 12),
        ] {
            assert_eq!(font(side, None), size);
        }
        // A size of 20 stays instead of 17, but not instead of 15: the tolerance is a fifth of 20, which is 4.
        assert_eq!(font(85, Some(20)), 20);
        assert_eq!(font(75, Some(20)), 15);
        let asked = Style {
            font_size: 30,
            ..style
        };
        assert_eq!(
            asked.font_for(&frame, &Area::new(0, 0, 20, 20), Some(24)),
            30
        );
    }

    #[test]
    fn small_faces_have_thin_boxes() {
        let style = Style::default();
        let frame = Area::new(0, 0, 1920, 1080);
        // Side, line, and how far the line and a rim of a third of it extend into the face.
        for (side, line, inside) in [(400, 4, 3), (48, 4, 3), (36, 3, 2), (20, 1, 1), (9, 1, 1)] {
            let face = Area::new(0, 0, side, side);
            assert_eq!(style.line_for(&frame, &face), line);
            assert_eq!(style.inside_for(line, (line / 3).max(1), &face), inside);
        }
    }

    /// Linear RGB as perceived without one type of cone: Machado, Oliveira and Fernandes, "A
    /// physiologically-based model for simulation of color vision deficiency", 2009, severity 1.
    const DICHROMATS: [[[f32; 3]; 3]; 3] = [
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ],
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ],
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ],
    ];

    fn times(matrix: &[[f32; 3]; 3], v: [f32; 3]) -> [f32; 3] {
        matrix.map(|row| row.iter().zip(v).map(|(m, v)| m * v).sum())
    }

    /// CIE L*a*b* (D65) of linear RGB.
    fn lab(rgb: [f32; 3]) -> [f32; 3] {
        const XYZ: [[f32; 3]; 3] = [
            [0.4339, 0.3762, 0.1899],
            [0.2126, 0.7152, 0.0722],
            [0.0177, 0.1095, 0.8728],
        ];
        let [x, y, z] = times(&XYZ, rgb.map(|v| v.clamp(0.0, 1.0))).map(f32::cbrt);
        [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
    }

    #[test]
    fn colour_blind_people_tell_the_states_apart() {
        let states = [
            DEFAULT_KNOWN_COLOR,
            DEFAULT_UNKNOWN_COLOR,
            DEFAULT_PENDING_COLOR,
        ];
        for (a, b) in [(0, 1), (0, 2), (1, 2)] {
            for eyes in &DICHROMATS {
                let seen = [states[a], states[b]].map(|rgb| {
                    let linear = rgb.map(|v| (f32::from(v) / 255.0).powf(2.2));
                    lab(times(eyes, linear))
                });
                let squares = seen[0].iter().zip(seen[1]).map(|(a, b)| (a - b).powi(2));
                // ΔE*ab: 2.3 is just noticeable, ten times that is obvious.
                let distance = squares.sum::<f32>().sqrt();
                assert!(distance > 23.0, "{a} {b}: {distance}");
            }
        }
    }
}
