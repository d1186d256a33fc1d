//! The mask as a layer to blend into the photo: shaded, blurred like the photo, with its shadow.

use super::blur::blur;
use super::fabric::Fabric;
use super::fit::Pose;
use super::light::Light;
use super::maths::{Random, cell};
use super::photo::{Photo, intensity};
use super::raster::{Raster, Seen};
use super::shade::Shader;

/// Maximum number of cells along the layer's longer side: on a face in a photo of 20 megapixels the mask
/// is drawn at this resolution and enlarged.
const MAX_SIDE: f32 = 720.0;
/// Largest number of cells along the layer's longer side, and samples along each side of a cell up to it: the fewer
/// cells, the more samples.
const SAMPLES: [(usize, usize); 2] = [(90, 4), (240, 3)];
const LEAST_SAMPLES: usize = 2;

/// A cell: red, green and blue intensities times coverage, coverage, and the fraction of the light that
/// the mask takes from what is under it.
type Cell = [f32; 5];

/// The mask over a part of the photo.
#[derive(Debug)]
pub struct Layer {
    /// Pixels of the photo that are changed: left, top, right, bottom.
    area: [usize; 4],
    /// Cells per pixel of the photo, at most 1.
    factor: f32,
    columns: usize,
    rows: usize,
    cells: Vec<Cell>,
    grain: f32,
    grain_seed: u64,
}

impl Layer {
    /// Draws a mask whose first sheet is the cloth and whose other sheets are straps; `None` if it is
    /// outside the photo.
    pub fn draw(
        photo: &Photo,
        pose: &Pose,
        mut sheets: Vec<Seen>,
        fabric: &Fabric,
        light: &Light,
        random: &mut Random,
    ) -> Option<Self> {
        let margin = pose.scale * 0.12 + light.blur * 3.0 + 1.0;
        let area = area(&sheets, photo, margin)?;
        let (width, height) = (area[2] - area[0], area[3] - area[1]);
        let factor = (MAX_SIDE / width.max(height) as f32).min(1.0);
        let (columns, rows) = (
            (width as f32 * factor).ceil() as usize,
            (height as f32 * factor).ceil() as usize,
        );
        let side = SAMPLES
            .into_iter()
            .find(|&(most, _)| columns.max(rows) <= most)
            .map_or(LEAST_SAMPLES, |(_, side)| side);
        let mut raster = Raster::new(columns * side, rows * side);
        for (i, sheet) in sheets.iter_mut().enumerate() {
            sheet.place([area[0] as f32, area[1] as f32], factor * side as f32);
            raster.draw(sheet, i as u8);
        }
        let unit = pose.scale * factor;
        let shader = Shader::new(&sheets, fabric, light, area, unit);
        let mut cells = vec![Cell::default(); columns * rows];
        for (y, row) in cells.chunks_exact_mut(columns).enumerate() {
            for (x, out) in row.iter_mut().enumerate() {
                if let Some((coverage, sample)) = raster.cell(x, y, side) {
                    let part = |v: usize, count: usize| (v as f32 + 0.5) / count as f32;
                    let ([r, g, b], visible) =
                        shader.colour(&sample, [part(x, columns), part(y, rows)]);
                    let c = coverage * visible;
                    *out = [r * c, g * c, b * c, c, 0.0];
                }
            }
        }
        let mut layer = Self {
            area,
            factor,
            columns,
            rows,
            cells,
            grain: light.grain,
            grain_seed: random.bits(),
        };
        layer.cast_shadow(unit, random.range(0.1, 0.45));
        // Averaging the samples of a cell already blurs by a third of it.
        let sigma = light.blur * factor - 0.3;
        if sigma > 0.15 {
            blur(&mut layer.cells, columns, rows, sigma);
        }
        Some(layer)
    }

    /// Darkens the surroundings of the mask, most of all below it.
    fn cast_shadow(&mut self, unit: f32, strength: f32) {
        let mut shadow: Vec<[f32; 1]> = self.cells.iter().map(|c| [c[3]]).collect();
        blur(&mut shadow, self.columns, self.rows, unit * 0.035);
        // The shadow is shifted down; the rows at the top repeat that of the first.
        let down = ((unit * 0.03) as usize).min(self.rows - 1) * self.columns;
        let above = shadow.iter().take(self.columns).cycle().take(down);
        for (cell, [value]) in self.cells.iter_mut().zip(above.chain(&shadow)) {
            cell[4] = strength * value;
        }
    }

    /// Blends the mask into the pixels of the photo that it was drawn for.
    pub fn blend(&self, rgb: &mut [u8], width: usize) {
        let [left, top, right, bottom] = self.area;
        let rows = rgb.chunks_exact_mut(width * 3).enumerate();
        for (y, row) in rows.take(bottom).skip(top) {
            let Some(pixels) = row.get_mut(left * 3..right * 3) else {
                continue;
            };
            for (x, pixel) in pixels.as_chunks_mut::<3>().0.iter_mut().enumerate() {
                let [r, g, b, coverage, shadow] = self.at(x, y - top);
                if coverage <= 1e-4 && shadow <= 1e-3 {
                    continue;
                }
                let left = (1.0 - coverage.min(1.0)) * (1.0 - shadow);
                let noise = self.grain * coverage * self.noise(x, y - top);
                for (value, colour) in pixel.iter_mut().zip([r, g, b]) {
                    let mixed = intensity(*value) * left + colour;
                    let stored = mixed.max(0.0).sqrt();
                    // Dark parts of photos have less noise.
                    let stored = stored + noise * (0.4 + 0.6 * stored);
                    *value = (stored * 255.0 + 0.5).clamp(0.0, 255.0) as u8;
                }
            }
        }
    }

    /// Approximates a normal distribution by the sum of three uniform ones.
    fn noise(&self, x: usize, y: usize) -> f32 {
        let (x, y) = (x as i32, y as i32);
        (0..3)
            .map(|i| cell(x, y, self.grain_seed.wrapping_add(i)))
            .sum()
    }

    /// The cell of a pixel of the area, interpolated where there are fewer cells than pixels.
    fn at(&self, x: usize, y: usize) -> Cell {
        let get = |x: usize, y: usize| {
            let index = y.min(self.rows - 1) * self.columns + x.min(self.columns - 1);
            self.cells.get(index).copied().unwrap_or_default()
        };
        if self.factor >= 1.0 {
            return get(x, y);
        }
        let (fx, fy) = (
            ((x as f32 + 0.5) * self.factor - 0.5).max(0.0),
            ((y as f32 + 0.5) * self.factor - 0.5).max(0.0),
        );
        let (x, y) = (fx as usize, fy as usize);
        let (tx, ty) = (fx - x as f32, fy - y as f32);
        let mut sum = Cell::default();
        for (dx, dy, weight) in [
            (0, 0, (1.0 - tx) * (1.0 - ty)),
            (1, 0, tx * (1.0 - ty)),
            (0, 1, (1.0 - tx) * ty),
            (1, 1, tx * ty),
        ] {
            for (sum, value) in sum.iter_mut().zip(get(x + dx, y + dy)) {
                *sum += value * weight;
            }
        }
        sum
    }
}

/// The pixels of a photo that the sheets and a margin around them cover; `None` for none.
fn area(sheets: &[Seen], photo: &Photo, margin: f32) -> Option<[usize; 4]> {
    let [x0, y0, x1, y1] = sheets.iter().map(Seen::bounds).reduce(|a, b| {
        [
            a[0].min(b[0]),
            a[1].min(b[1]),
            a[2].max(b[2]),
            a[3].max(b[3]),
        ]
    })?;
    let inside = |v: f32, size: usize| (v.max(0.0) as usize).min(size);
    let area = [
        inside(x0 - margin, photo.width),
        inside(y0 - margin, photo.height),
        inside((x1 + margin).ceil(), photo.width),
        inside((y1 + margin).ceil(), photo.height),
    ];
    (area[0] < area[2] && area[1] < area[3]).then_some(area)
}
