//! Data about a face besides its embedding, and a thumbnail of it for reports.

use gstmfr::frame::geometry::Rect;
use gstmfr::frame::image::ImageView;
use gstmfr::frame::resize::{Border, Filter, Resize, Resizer};
use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;
use serde::{Deserialize, Serialize};

use crate::encoding;
use crate::vision::quality::Measures;
use crate::vision::reason::Reason;

/// Width and height of a thumbnail in pixels: it is sharp on most screens on a page that shows it 96 wide,
/// and takes 3 to 4 kB.
pub const THUMBNAIL_SIDE: usize = 120;
const JPEG_QUALITY: u8 = 78;

/// Size of the thumbnail relative to the face's box: hair and chin are included, so that people can be recognised.
const MARGIN: f32 = 1.45;

/// Data about a photo for the report.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Portrait {
    /// None if no face was found, or several.
    pub measures: Option<Measures>,
    /// A JPEG, if requested and if the photo could be read.
    #[serde(with = "encoding::bytes")]
    pub thumbnail: Option<Vec<u8>>,
    /// Rotation as in [`DecodedPhoto`](crate::input::photo::DecodedPhoto).
    #[serde(default)]
    pub rotated: u16,
}

impl Portrait {
    /// The measurements and the rotation, as text.
    pub fn in_words(&self) -> Option<String> {
        let measured = self.measures.map(|measures| measures.in_words());
        let rotated = (self.rotated > 0).then(|| format!("rotated by {}°", self.rotated));
        let words: Vec<_> = measured.into_iter().chain(rotated).collect();
        (!words.is_empty()).then(|| words.join(", "))
    }
}

/// A file that is not used, for the report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rejected {
    pub path: String,
    pub reason: Reason,
    pub detail: String,
    /// Index of the person it belongs to; none for a path that could not be listed.
    #[serde(skip)]
    pub person: Option<usize>,
    #[serde(skip)]
    pub portrait: Portrait,
}

/// A square thumbnail of one or more faces, or of the middle of the photo if there is none.
pub fn thumbnail(view: &ImageView, faces: &[Rect]) -> Option<Vec<u8>> {
    let photo = Rect::new(0.0, 0.0, view.width() as f32, view.height() as f32);
    let shown = faces.iter().copied().reduce(around);
    let source = square(shown.map_or(photo, |rect| rect.scaled(MARGIN)), &photo);
    let resize = Resize {
        source,
        width: THUMBNAIL_SIDE,
        height: THUMBNAIL_SIDE,
        filter: if source.width > THUMBNAIL_SIDE as f32 {
            Filter::Area
        } else {
            Filter::Linear
        },
        border: Border::Black,
    };
    let mut pixels = Vec::new();
    Resizer::default().rgb8(view, &resize, &mut pixels);
    jpeg(&pixels)
}

/// Encodes packed RGB of [`THUMBNAIL_SIDE`]² pixels as a JPEG.
fn jpeg(pixels: &[u8]) -> Option<Vec<u8>> {
    let side = THUMBNAIL_SIDE as u32;
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY)
        .encode(pixels, side, side, ExtendedColorType::Rgb8)
        .ok()?;
    Some(bytes)
}

/// The smallest rectangle around two others.
fn around(a: Rect, b: Rect) -> Rect {
    Rect::from_corners(
        a.x.min(b.x),
        a.y.min(b.y),
        a.right().max(b.right()),
        a.bottom().max(b.bottom()),
    )
}

/// A square with the longer side of a rectangle, moved and shrunk to fit into the photo.
fn square(rect: Rect, photo: &Rect) -> Rect {
    let side = rect.width.max(rect.height);
    let side = side.min(photo.width).min(photo.height);
    let center = rect.center();
    let start = |middle: f32, length: f32| (middle - side / 2.0).clamp(0.0, length - side);
    Rect::new(
        start(center.x, photo.width),
        start(center.y, photo.height),
        side,
        side,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thumbnail_is_a_square_inside_the_photo() {
        let photo = Rect::new(0.0, 0.0, 200.0, 100.0);
        let square = |rect| square(rect, &photo);
        let inside = Rect::new(50.0, 20.0, 40.0, 60.0);
        assert_eq!(square(inside), Rect::new(40.0, 20.0, 60.0, 60.0));
        let corner = Rect::new(180.0, -30.0, 60.0, 60.0);
        assert_eq!(square(corner), Rect::new(140.0, 0.0, 60.0, 60.0));
        assert_eq!(square(photo), Rect::new(50.0, 0.0, 100.0, 100.0));
    }

    #[test]
    fn thumbnails_are_small_jpegs() {
        let pixels: Vec<u8> = (0..300 * 200 * 3).map(|i| (i % 251) as u8).collect();
        let view = ImageView::rgb(&pixels, 300, 200).unwrap();
        for faces in [vec![], vec![Rect::new(100.0, 50.0, 60.0, 80.0); 2]] {
            let jpeg = thumbnail(&view, &faces).unwrap();
            let image = image::load_from_memory(&jpeg).unwrap();
            assert_eq!(image.width() as usize, THUMBNAIL_SIDE);
            assert_eq!(image.height() as usize, THUMBNAIL_SIDE);
        }
    }
}
