//! The colours of a mask under the illumination of its photo.

use super::fabric::Fabric;
use super::light::Light;
use super::maths::{Vec3, add, lerp, mix, scale, smoothstep, subtract, unit};
use super::raster::{Facing, Sample, Seen};
use super::relief::Relief;

/// Computes the colour of each point of a mask.
pub struct Shader<'a> {
    sheets: &'a [Seen],
    fabric: &'a Fabric,
    light: &'a Light,
    relief: Relief,
    patches: Patches,
    /// Width of a cell in interocular distances.
    cell: f32,
}

impl<'a> Shader<'a> {
    /// A shader for sheets of which the first is the cloth and the others are straps, over an area of the
    /// photo (left, top, right, bottom). `unit` is the interocular distance in cells.
    pub fn new(
        sheets: &'a [Seen],
        fabric: &'a Fabric,
        light: &'a Light,
        area: [usize; 4],
        unit: f32,
    ) -> Self {
        Self {
            sheets,
            fabric,
            light,
            relief: Relief::new(&fabric.extent, unit, |places| fabric.lifts(places)),
            patches: Patches::new(light, area),
            cell: 1.0 / unit,
        }
    }

    /// Intensities at a sample, and its visibility. `at` is its position in the area, 0…1.
    pub fn colour(&self, sample: &Sample, at: [f32; 2]) -> (Vec3, f32) {
        let Some(seen) = self.sheets.get(usize::from(sample.sheet)) else {
            return ([0.0; 3], 0.0);
        };
        let facing = seen.facing(sample.s, sample.t);
        let patch = self.patches.at(at);
        let colour = if sample.sheet == 0 {
            self.cloth(&facing, sample.s, sample.t, patch)
        } else {
            self.strap(&facing, sample.t, patch)
        };
        (colour, seen.visible(sample.s))
    }

    fn cloth(&self, facing: &Facing, s: f32, t: f32, patch: f32) -> Vec3 {
        let extent = &self.fabric.extent;
        let (slope_s, slope_t, fold) = self.relief.at(s, t);
        let normal = unit(subtract(
            facing.normal,
            add(scale(facing.along, slope_s), scale(facing.down, slope_t)),
        ));
        let place = ((s * 2.0 - 1.0) * extent.half_width, t * extent.height);
        let albedo = self.fabric.albedo(place.0, place.1, self.cell);
        // Light that leaves the cloth at a grazing angle has travelled a longer way through it.
        let grazing = smoothstep(0.5, 0.0, facing.normal[2]);
        let shade = self.light.shade(normal) * (1.0 - 0.35 * fold) * (1.0 - 0.25 * grazing);
        self.light.on(albedo, shade * patch)
    }

    fn strap(&self, facing: &Facing, t: f32, patch: f32) -> Vec3 {
        // Straps are shaded as round cords.
        let across = t * 2.0 - 1.0;
        let normal = unit(add(facing.normal, scale(facing.down, across * 0.8)));
        let shade = self.light.shade(normal) * 0.9;
        let cloth = self.light.on(self.fabric.strap, shade * patch);
        // A strap thinner than a cell shows the skin beside it.
        let thick = (self.fabric.strap_width / self.cell).min(1.0);
        mix(self.light.skin, cloth, 0.5 + 0.5 * thick)
    }
}

/// The illumination's patches on a coarse grid over the area.
#[derive(Debug)]
struct Patches(Vec<f32>);

impl Patches {
    const SIDE: usize = 16;

    fn new(light: &Light, area: [usize; 4]) -> Self {
        let [left, top, right, bottom] = area.map(|v| v as f32);
        let part = |i: usize| i as f32 / (Self::SIDE - 1) as f32;
        let place = |i: usize| {
            [
                lerp(left, right, part(i % Self::SIDE)),
                lerp(top, bottom, part(i / Self::SIDE)),
            ]
        };
        let count = Self::SIDE * Self::SIDE;
        Self((0..count).map(|i| light.patch(place(i))).collect())
    }

    /// The ratio at a point of the area, both coordinates 0…1.
    fn at(&self, [x, y]: [f32; 2]) -> f32 {
        let last = Self::SIDE - 1;
        let (x, y) = (x * last as f32, y * last as f32);
        let (column, row) = (x as usize, y as usize);
        let get = |dx: usize, dy: usize| {
            let index = (row + dy).min(last) * Self::SIDE + (column + dx).min(last);
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
