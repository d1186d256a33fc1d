//! Synthetic masks: photos of a person as they would look with a mask on.
//!
//! The data flow: landmarks → pose of the head (`fit`) → cut of the mask around that head
//! (`shape`) → its cloth (`fabric`: `dye`, `pattern`, `relief`) → triangles to samples (`raster`) →
//! shaded (`shade`) in the light of the photo (`light`) → blended into it (`layer`). All masks are
//! procedural; no image of a mask is included.

mod blur;
mod dye;
mod fabric;
mod fit;
mod layer;
mod light;
mod maths;
mod pattern;
mod photo;
mod raster;
mod relief;
mod shade;
mod shape;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::detect::Face;
use fabric::Fabric;
use fit::Pose;
use layer::Layer;
use light::Light;
use maths::Random;
use photo::Photo;
use raster::Seen;
use shape::{Cut, Straps, Style};

/// Kinds of masks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MaskType {
    /// Pleated, in white, blue or green, with ear loops.
    Surgical,
    /// Folded along the middle, with a beak.
    Kn95,
    /// A stiff cup with straps around the head, with or without a valve.
    N95,
    /// Sewn or pleated, of any colour and pattern.
    Cloth,
    /// Moulded foam with openings for the ears.
    Sponge,
    /// Any cut, in black.
    Black,
}

impl MaskType {
    pub const ALL: [Self; 6] = [
        Self::Surgical,
        Self::Kn95,
        Self::N95,
        Self::Cloth,
        Self::Sponge,
        Self::Black,
    ];

    /// The name used on the command line and in the gallery.
    pub fn name(self) -> &'static str {
        match self {
            Self::Surgical => "surgical",
            Self::Kn95 => "kn95",
            Self::N95 => "n95",
            Self::Cloth => "cloth",
            Self::Sponge => "sponge",
            Self::Black => "black",
        }
    }

    fn style(self, random: &mut Random) -> Style {
        let part = random.unit();
        match self {
            Self::Surgical => Style::Pleated,
            Self::Kn95 => Style::Folded,
            Self::N95 => Style::Cup,
            Self::Cloth if part < 0.25 => Style::Pleated,
            Self::Cloth => Style::Sewn,
            Self::Sponge => Style::Moulded,
            Self::Black if part < 0.4 => Style::Pleated,
            Self::Black if part < 0.5 => Style::Folded,
            Self::Black => Style::Sewn,
        }
    }
}

impl fmt::Display for MaskType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An unknown name of a mask type.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("no mask is called {0:?}; expected one of {names}", names = MaskType::ALL.map(MaskType::name).join(", "))]
pub struct UnknownMask(String);

impl FromStr for MaskType {
    type Err = UnknownMask;

    fn from_str(name: &str) -> Result<Self, UnknownMask> {
        Self::ALL
            .into_iter()
            .find(|mask| mask.name() == name)
            .ok_or_else(|| UnknownMask(name.to_owned()))
    }
}

/// Why a face cannot get a mask.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PaintError {
    #[error("{width}×{height} pixels of RGB take {expected} bytes, found {found}")]
    Size {
        width: usize,
        height: usize,
        expected: usize,
        found: usize,
    },
    #[error("the landmarks are not those of a face: {0}")]
    Landmarks(&'static str),
}

/// Paints a mask onto a face.
///
/// `rgb` holds packed 8-bit RGB rows, `width`·`height`·3 bytes; landmarks are in pixels of that image
/// and may lie outside of it, where nothing is painted. The same photo, face, kind and seed result in the
/// same pixels on every platform; another seed results in another mask of the kind, worn differently.
/// Pixels further from the face than about its own width are not changed. The landmarks determine the pose; the box
/// determines the width of the face and the length of its chin, unless it is empty or not finite.
pub fn paint(
    rgb: &mut [u8],
    width: usize,
    height: usize,
    face: &Face,
    mask: MaskType,
    seed: u64,
) -> Result<(), PaintError> {
    let expected = width.saturating_mul(height).saturating_mul(3);
    if expected != rgb.len() {
        return Err(PaintError::Size {
            width,
            height,
            expected,
            found: rgb.len(),
        });
    }
    let pose = Pose::fit(face)?;
    let mut random = Random::new(seed.wrapping_mul(8).wrapping_add(mask as u64));
    let style = mask.style(&mut random);
    let cut = Cut::new(style, &mut random);
    let fabric = Fabric::new(mask, style, cut.extent(), &mut random);
    let photo = Photo { rgb, width, height };
    let light = Light::measure(&photo, &pose);
    let mut sheets = vec![Seen::new(&cut.body(), &pose)];
    // A strap around the back of the head lies over the hair, an ear loop under it.
    let over_hair = random.chance(if style == Style::Cup { 0.7 } else { 0.08 });
    for (i, strap) in straps(style, &cut, &fabric, &mut random).iter().enumerate() {
        let mut strap = Seen::new(strap, &pose);
        let is_upper = i % 2 == 0;
        if !over_hair || !is_upper {
            strap.end_off_skin(|at| {
                photo
                    .mean(at, pose.scale * 0.04)
                    .map_or(0.0, |colour| light.likeness(colour))
            });
        }
        sheets.push(strap);
    }
    if let Some(layer) = Layer::draw(&photo, &pose, sheets, &fabric, &light, &mut random) {
        layer.blend(rgb, width);
    }
    Ok(())
}

fn straps(style: Style, cut: &Cut, fabric: &Fabric, random: &mut Random) -> Vec<shape::Sheet> {
    let kind = match style {
        Style::Cup => Straps::Head,
        Style::Folded if random.chance(0.15) => Straps::Head,
        _ => Straps::Loops,
    };
    let ends = kind.ends(random);
    let width = fabric.strap_width;
    let starts = match style {
        Style::Moulded => [0.25, 0.75],
        Style::Cup => [0.3, 0.75],
        _ => [0.03, 0.97],
    };
    [false, true]
        .into_iter()
        .flat_map(|is_right| {
            starts
                .into_iter()
                .zip(ends)
                .map(move |(v, end)| (is_right, v, end))
        })
        .map(|(is_right, v, end)| {
            // Foam continues to the ears in one piece, with an opening for them.
            let is_piece = style == Style::Moulded;
            let start_width = if is_piece { cut.side() * 0.5 } else { width };
            cut.strap(is_right, v, end, (start_width, width))
        })
        .collect()
}
