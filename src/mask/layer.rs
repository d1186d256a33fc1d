//! The painted mask on its way into the photo: shaded, blurred as the photo is, with its shadow.

use super::fabric::Fabric;
use super::fit::Pose;
use super::light::{Light, luminance};
use super::maths::{Random, Vec3, add, cell, dot, lerp, mix, scale, smoothstep, subtract, unit};
use super::photo::{Photo, intensity};
use super::raster::{Facing, Raster, Seen};

/// Cells of the layer along its longer side at most: a face in a photo of 20 megapixels gets a mask
/// that is drawn this fine and enlarged.
const MAX_SIDE: f32 = 720.0;
/// Samples along each side of a cell: the more, the fewer cells there are.
const SAMPLES: [(usize, usize); 2] = [(90, 4), (240, 3)];
const LEAST_SAMPLES: usize = 2;

/// A cell: intensities times coverage, and coverage.
#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    colour: Vec3,
    coverage: f32,
    /// Part of the light that the mask takes from what is under it.
    shadow: f32,
}

/// The mask over a part of the photo.
#[derive(Debug)]
pub struct Layer {
    /// Pixels of the photo that are touched: left, top, right, bottom.
    area: [usize; 4],
    /// Cells in a pixel of the photo, 1 at most.
    factor: f32,
    columns: usize,
    rows: usize,
    cells: Vec<Cell>,
    grain: f32,
    floor_seed: u64,
}

impl Layer {
    /// Draws a mask, its first sheet being the cloth and the others straps; `None` where it is not
    /// in the photo.
    pub fn draw(
        photo: &Photo,
        pose: &Pose,
        mut sheets: Vec<Seen>,
        fabric: &Fabric,
        extent: (f32, f32),
        light: &Light,
        random: &mut Random,
    ) -> Option<Self> {
        let bounds = sheets.iter().map(Seen::bounds).reduce(|a, b| {
            [
                a[0].min(b[0]),
                a[1].min(b[1]),
                a[2].max(b[2]),
                a[3].max(b[3]),
            ]
        })?;
        let margin = pose.scale * 0.12 + light.blur * 3.0 + 1.0;
        let inside = |v: f32, size: usize| (v.max(0.0) as usize).min(size);
        let area = [
            inside(bounds[0] - margin, photo.width),
            inside(bounds[1] - margin, photo.height),
            inside((bounds[2] + margin).ceil(), photo.width),
            inside((bounds[3] + margin).ceil(), photo.height),
        ];
        let (width, height) = (area[2] - area[0], area[3] - area[1]);
        if width == 0 || height == 0 {
            return None;
        }
        let factor = (MAX_SIDE / width.max(height) as f32).min(1.0);
        let (columns, rows) = (
            (width as f32 * factor).ceil() as usize,
            (height as f32 * factor).ceil() as usize,
        );
        let side = SAMPLES
            .into_iter()
            .find(|&(most, _)| columns.max(rows) <= most)
            .map_or(LEAST_SAMPLES, |(_, side)| side);
        for sheet in &mut sheets {
            sheet.place([area[0] as f32, area[1] as f32], factor * side as f32);
        }
        let mut raster = Raster::new(columns * side, rows * side);
        for (i, sheet) in sheets.iter().enumerate() {
            raster.draw(sheet, i as u8);
        }
        let relief = Relief::new(fabric, extent, pose.scale * factor);
        let shader = Shader {
            sheets: &sheets,
            fabric,
            extent,
            light,
            relief,
            pixel: 1.0 / (pose.scale * factor),
        };
        let patches = Patches::new(light, area);
        let mut cells = vec![Cell::default(); columns * rows];
        for (y, row) in cells.chunks_exact_mut(columns).enumerate() {
            for (x, out) in row.iter_mut().enumerate() {
                if let Some((coverage, sample)) = raster.cell(x, y, side) {
                    let sheet = usize::from(sample.sheet);
                    let patch = patches.at(
                        (x as f32 + 0.5) / columns as f32,
                        (y as f32 + 0.5) / rows as f32,
                    );
                    let colour = scale(shader.colour(sheet, sample.s, sample.t), patch);
                    let coverage =
                        coverage * sheets.get(sheet).map_or(1.0, |s| s.visible(sample.s));
                    *out = Cell {
                        colour: scale(colour, coverage),
                        coverage,
                        shadow: 0.0,
                    };
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
            floor_seed: random.bits(),
        };
        layer.cast_shadow(pose.scale * factor, random.range(0.1, 0.45));
        // Samples of a cell are a blur of a third of it already.
        layer.soften((light.blur * factor - 0.3).max(0.0));
        Some(layer)
    }

    /// Darkens what lies round the mask, below it above all.
    fn cast_shadow(&mut self, unit: f32, strength: f32) {
        let mut shadow: Vec<f32> = self.cells.iter().map(|c| c.coverage).collect();
        let kernel = kernel(unit * 0.035);
        blur_plane(
            &mut shadow,
            self.columns,
            self.rows,
            &kernel,
            |v, w| v * w,
            |a, b| a + b,
        );
        let down = (unit * 0.03) as usize;
        for y in (0..self.rows).rev() {
            for x in 0..self.columns {
                let from = y.saturating_sub(down) * self.columns + x;
                let value = shadow.get(from).copied().unwrap_or(0.0);
                if let Some(cell) = self.cells.get_mut(y * self.columns + x) {
                    cell.shadow = strength * value;
                }
            }
        }
    }

    fn soften(&mut self, sigma: f32) {
        if sigma < 0.15 {
            return;
        }
        let kernel = kernel(sigma);
        blur_plane(
            &mut self.cells,
            self.columns,
            self.rows,
            &kernel,
            |c, w| Cell {
                colour: scale(c.colour, w),
                coverage: c.coverage * w,
                shadow: c.shadow * w,
            },
            |a, b| Cell {
                colour: add(a.colour, b.colour),
                coverage: a.coverage + b.coverage,
                shadow: a.shadow + b.shadow,
            },
        );
    }

    /// Puts the mask over the pixels of the photo that it was drawn for.
    pub fn blend(&self, rgb: &mut [u8], width: usize) {
        let [left, top, right, bottom] = self.area;
        let rows = rgb.chunks_exact_mut(width * 3).enumerate();
        for (y, row) in rows.take(bottom).skip(top) {
            let Some(pixels) = row.get_mut(left * 3..right * 3) else {
                continue;
            };
            for (x, pixel) in pixels.as_chunks_mut::<3>().0.iter_mut().enumerate() {
                let cell = self.at(x, y - top);
                if cell.coverage <= 1e-4 && cell.shadow <= 1e-3 {
                    continue;
                }
                let under = 1.0 - cell.coverage.min(1.0);
                let lit = 1.0 - cell.shadow;
                let noise = self.grain * cell.coverage * self.noise(x, y - top);
                for (value, colour) in pixel.iter_mut().zip(cell.colour) {
                    let mixed = intensity(*value) * lit * under + colour;
                    let stored = mixed.max(0.0).sqrt();
                    // Dark parts of photos are quieter.
                    let stored = stored + noise * (0.4 + 0.6 * stored);
                    *value = (stored * 255.0 + 0.5).clamp(0.0, 255.0) as u8;
                }
            }
        }
    }

    /// About a normal distribution: the sum of three.
    fn noise(&self, x: usize, y: usize) -> f32 {
        let (x, y) = (x as i32, y as i32);
        (0..3)
            .map(|i| cell(x, y, self.floor_seed.wrapping_add(i)))
            .sum()
    }

    /// The cell of a pixel of the area, between the cells where there are fewer than pixels.
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
            let cell = get(x + dx, y + dy);
            sum.colour = add(sum.colour, scale(cell.colour, weight));
            sum.coverage += cell.coverage * weight;
            sum.shadow += cell.shadow * weight;
        }
        sum
    }
}

/// Weights of a blur, which is as wide as its standard deviation says.
fn kernel(sigma: f32) -> Vec<f32> {
    // (1 − t²)² over ±r has a variance of r²/7.
    let reach = sigma * 2.646;
    let last = (reach.ceil() as i32 - 1).max(0);
    let weights: Vec<f32> = (-last..=last)
        .map(|i| {
            let t = i as f32 / reach.max(1e-3);
            let w = (1.0 - t * t).max(0.0);
            w * w
        })
        .collect();
    let sum: f32 = weights.iter().sum();
    weights.into_iter().map(|w| w / sum).collect()
}

/// Blurs along rows, then along columns. Outside there is nothing.
fn blur_plane<T: Copy + Default>(
    plane: &mut [T],
    columns: usize,
    rows: usize,
    kernel: &[f32],
    times: impl Fn(T, f32) -> T,
    plus: impl Fn(T, T) -> T,
) {
    let reach = kernel.len() / 2;
    let mut line: Vec<T> = Vec::new();
    let mut pass = |start: usize, step: usize, count: usize| {
        line.clear();
        line.extend(plane.iter().skip(start).step_by(step).take(count));
        for (i, out) in plane
            .iter_mut()
            .skip(start)
            .step_by(step)
            .take(count)
            .enumerate()
        {
            let first = i.saturating_sub(reach);
            let weights = kernel.iter().skip(reach - (i - first));
            *out = line
                .iter()
                .skip(first)
                .zip(weights)
                .fold(T::default(), |sum, (&v, &w)| plus(sum, times(v, w)));
        }
    };
    for y in 0..rows {
        pass(y * columns, 1, columns);
    }
    for x in 0..columns {
        pass(x, columns, rows);
    }
}

/// The relief of a cloth on a grid, so that it is worked out once for each place.
#[derive(Debug)]
struct Relief {
    columns: usize,
    rows: usize,
    step: (f32, f32),
    /// Height and depth of fold.
    grid: Vec<(f32, f32)>,
}

impl Relief {
    /// About three points for four cells, `unit` cells being in a distance between the eyes.
    fn new(fabric: &Fabric, (half_width, height): (f32, f32), unit: f32) -> Self {
        let count = |length: f32| ((length * unit * 0.75) as usize).clamp(24, 300);
        let (columns, rows) = (count(half_width * 2.0), count(height));
        let step = (
            2.0 * half_width / (columns - 1) as f32,
            height / (rows - 1) as f32,
        );
        let mut grid = Vec::with_capacity(columns * rows);
        for row in 0..rows {
            for column in 0..columns {
                grid.push(fabric.relief(column as f32 * step.0 - half_width, row as f32 * step.1));
            }
        }
        Self {
            columns,
            rows,
            step,
            grid,
        }
    }

    /// Slopes along `s` and `t` and depth of fold at a place, both coordinates 0…1.
    fn at(&self, s: f32, t: f32) -> (f32, f32, f32) {
        let x = s.clamp(0.0, 1.0) * (self.columns - 1) as f32;
        let y = t.clamp(0.0, 1.0) * (self.rows - 1) as f32;
        let (column, row) = (
            (x as usize).min(self.columns - 2),
            (y as usize).min(self.rows - 2),
        );
        let (tx, ty) = (x - column as f32, y - row as f32);
        let get = |dx: usize, dy: usize| {
            self.grid
                .get((row + dy) * self.columns + column + dx)
                .copied()
                .unwrap_or_default()
        };
        let [a, b, c, d] = [get(0, 0), get(1, 0), get(0, 1), get(1, 1)];
        (
            ((b.0 - a.0) * (1.0 - ty) + (d.0 - c.0) * ty) / self.step.0,
            ((c.0 - a.0) * (1.0 - tx) + (d.0 - b.0) * tx) / self.step.1,
            (a.1 * (1.0 - tx) + b.1 * tx) * (1.0 - ty) + (c.1 * (1.0 - tx) + d.1 * tx) * ty,
        )
    }
}

/// The light's patches on a coarse grid over the area.
#[derive(Debug)]
struct Patches(Vec<f32>);

impl Patches {
    const SIDE: usize = 16;

    fn new(light: &Light, area: [usize; 4]) -> Self {
        let [left, top, right, bottom] = area.map(|v| v as f32);
        let last = (Self::SIDE - 1) as f32;
        let place = |i: usize| {
            let (x, y) = (
                (i % Self::SIDE) as f32 / last,
                (i / Self::SIDE) as f32 / last,
            );
            [lerp(left, right, x), lerp(top, bottom, y)]
        };
        Self(
            (0..Self::SIDE * Self::SIDE)
                .map(|i| light.patch(place(i)))
                .collect(),
        )
    }

    /// At a place of the area, both coordinates 0…1.
    fn at(&self, x: f32, y: f32) -> f32 {
        let last = (Self::SIDE - 1) as f32;
        let (x, y) = (x * last, y * last);
        let (column, row) = (x as usize, y as usize);
        let get = |dx: usize, dy: usize| {
            let (column, row) = (column + dx, row + dy);
            let index = row.min(Self::SIDE - 1) * Self::SIDE + column.min(Self::SIDE - 1);
            self.0.get(index).copied().unwrap_or(1.0)
        };
        let (tx, ty) = (x - column as f32, y - row as f32);
        lerp(
            lerp(get(0, 0), get(1, 0), tx),
            lerp(get(0, 1), get(1, 1), tx),
            ty,
        )
    }
}

/// The colours of a mask in the light of its photo.
struct Shader<'a> {
    sheets: &'a [Seen],
    fabric: &'a Fabric,
    extent: (f32, f32),
    light: &'a Light,
    relief: Relief,
    /// Width of a cell in distances between the eyes.
    pixel: f32,
}

impl Shader<'_> {
    fn colour(&self, sheet: usize, s: f32, t: f32) -> Vec3 {
        let Some(seen) = self.sheets.get(sheet) else {
            return [0.0; 3];
        };
        let facing = seen.facing(s, t);
        if sheet == 0 {
            self.cloth(&facing, s, t)
        } else {
            self.strap(&facing, t)
        }
    }

    fn cloth(&self, facing: &Facing, s: f32, t: f32) -> Vec3 {
        let (half_width, height) = self.extent;
        let (slope_s, slope_t, fold) = self.relief.at(s, t);
        let normal = unit(subtract(
            facing.normal,
            add(scale(facing.along, slope_s), scale(facing.down, slope_t)),
        ));
        let albedo = self
            .fabric
            .albedo((s * 2.0 - 1.0) * half_width, t * height, self.pixel);
        // Light that leaves the cloth at a grazing angle has come a longer way through it.
        let grazing = smoothstep(0.5, 0.0, dot(facing.normal, [0.0, 0.0, 1.0]));
        let shade = self.light.shade(normal) * (1.0 - 0.35 * fold) * (1.0 - 0.25 * grazing);
        self.light.on(albedo, shade)
    }

    fn strap(&self, facing: &Facing, t: f32) -> Vec3 {
        // Round like a cord.
        let across = t * 2.0 - 1.0;
        let normal = unit(add(facing.normal, scale(facing.down, across * 0.8)));
        let shade = self.light.shade(normal) * 0.9;
        let cloth = self.light.on(self.fabric.strap, shade);
        // Thinner than a cell it lets the skin through.
        let thin = (self.fabric.strap_width / self.pixel).min(1.0);
        mix(
            self.light.skin,
            cloth,
            0.5 + 0.5 * thin * luminance([1.0; 3]),
        )
    }
}
