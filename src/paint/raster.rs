//! Rasterises surfaces: triangles with a depth buffer, several samples per pixel.

use super::fit::Pose;
use super::maths::{Vec3, cross, subtract, unit};
use super::shape::Sheet;

/// A vertex in camera coordinates.
#[derive(Debug, Clone, Copy)]
struct Vertex {
    /// Position in samples from the corner of the raster; depth in pixels, nearer is larger.
    at: Vec3,
    normal: Vec3,
    /// Direction along the rows of the sheet.
    along: Vec3,
}

/// A sheet in camera coordinates.
#[derive(Debug)]
pub struct Seen {
    columns: usize,
    rows: usize,
    vertices: Vec<Vertex>,
    /// Visibility of each column, 0…1; all columns are visible if this is empty.
    visible: Vec<f32>,
    starts_left: bool,
}

/// Directions at a point of a sheet: outwards, along its rows, down its columns.
#[derive(Debug, Clone, Copy)]
pub struct Facing {
    pub normal: Vec3,
    pub along: Vec3,
    pub down: Vec3,
}

impl Seen {
    pub fn new(sheet: &Sheet, pose: &Pose) -> Self {
        let (columns, rows) = (sheet.columns, sheet.rows);
        let point = |column: usize, row: usize| {
            let index = row.min(rows - 1) * columns + column.min(columns - 1);
            sheet.points.get(index).copied().unwrap_or_default()
        };
        let mut vertices = Vec::with_capacity(columns * rows);
        for row in 0..rows {
            for column in 0..columns {
                let along = subtract(point(column + 1, row), point(column.saturating_sub(1), row));
                let down = subtract(point(column, row + 1), point(column, row.saturating_sub(1)));
                vertices.push(Vertex {
                    at: pose.project(point(column, row)),
                    normal: unit(pose.turn(cross(along, down))),
                    along: unit(pose.turn(along)),
                });
            }
        }
        Self {
            columns,
            rows,
            vertices,
            visible: Vec::new(),
            starts_left: sheet.starts_left,
        }
    }

    /// Ends a strap where it leaves the skin, which is usually under hair. `is_skin` returns 0…1
    /// for a point of the photo.
    pub fn end_off_skin(&mut self, is_skin: impl Fn([f32; 2]) -> f32) {
        let middle = self.rows / 2 * self.columns;
        let mut visible = vec![0.0; self.columns];
        let mut seen = 1.0f32;
        for i in 0..self.columns {
            let column = if self.starts_left {
                i
            } else {
                self.columns - 1 - i
            };
            if let Some(vertex) = self.vertices.get(middle + column) {
                seen = seen.min(is_skin([vertex.at[0], vertex.at[1]]));
            }
            if let Some(out) = visible.get_mut(column) {
                *out = seen;
            }
        }
        self.visible = visible;
    }

    /// Visibility at a position along the rows, 0…1.
    pub fn visible(&self, s: f32) -> f32 {
        let x = s.clamp(0.0, 1.0) * (self.columns - 1) as f32;
        let column = x as usize;
        let get = |i: usize| {
            self.visible
                .get(i.min(self.columns - 1))
                .copied()
                .unwrap_or(1.0)
        };
        get(column) + (get(column + 1) - get(column)) * (x - column as f32)
    }

    /// Bounding box in pixels: left, top, right, bottom.
    pub fn bounds(&self) -> [f32; 4] {
        self.vertices.iter().fold(
            [f32::MAX, f32::MAX, f32::MIN, f32::MIN],
            |[x0, y0, x1, y1], v| {
                let [x, y, _] = v.at;
                [x0.min(x), y0.min(y), x1.max(x), y1.max(y)]
            },
        )
    }

    /// Converts pixels of the image to samples.
    pub fn place(&mut self, corner: [f32; 2], factor: f32) {
        for vertex in &mut self.vertices {
            let [x, y, z] = vertex.at;
            vertex.at = [(x - corner[0]) * factor, (y - corner[1]) * factor, z];
        }
    }

    /// Directions at a point of the sheet, both coordinates 0…1.
    pub fn facing(&self, s: f32, t: f32) -> Facing {
        let (x, y) = (
            s.clamp(0.0, 1.0) * (self.columns - 1) as f32,
            t.clamp(0.0, 1.0) * (self.rows - 1) as f32,
        );
        let (column, row) = (
            (x as usize).min(self.columns.saturating_sub(2)),
            (y as usize).min(self.rows.saturating_sub(2)),
        );
        let (tx, ty) = (x - column as f32, y - row as f32);
        let mut normal = [0.0; 3];
        let mut along = [0.0; 3];
        for (dx, dy, weight) in [
            (0, 0, (1.0 - tx) * (1.0 - ty)),
            (1, 0, tx * (1.0 - ty)),
            (0, 1, (1.0 - tx) * ty),
            (1, 1, tx * ty),
        ] {
            if let Some(v) = self.vertices.get((row + dy) * self.columns + column + dx) {
                for i in 0..3 {
                    normal[i] += v.normal[i] * weight;
                    along[i] += v.along[i] * weight;
                }
            }
        }
        let normal = unit(normal);
        Facing {
            normal,
            along,
            down: cross(normal, along),
        }
    }
}

/// The nearest surface at one sample.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    depth: f32,
    /// Position on the sheet, 0…1.
    pub s: f32,
    pub t: f32,
    /// Index of the sheet.
    pub sheet: u8,
}

impl Sample {
    /// An uncovered sample, further away than any surface.
    const NOTHING: Self = Self {
        depth: f32::NEG_INFINITY,
        s: 0.0,
        t: 0.0,
        sheet: 0,
    };
}

/// Samples of an area, row by row.
#[derive(Debug)]
pub struct Raster {
    width: usize,
    height: usize,
    samples: Vec<Sample>,
}

impl Raster {
    pub fn new(width: usize, height: usize) -> Self {
        Self {
            width,
            height,
            samples: vec![Sample::NOTHING; width * height],
        }
    }

    /// Draws the front faces of a sheet that has been placed.
    pub fn draw(&mut self, seen: &Seen, sheet: u8) {
        let (columns, rows) = (seen.columns, seen.rows);
        let place = |column: usize, row: usize| {
            let s = column as f32 / (columns - 1) as f32;
            let t = row as f32 / (rows - 1) as f32;
            seen.vertices
                .get(row * columns + column)
                .map(|v| (v.at, [s, t]))
        };
        for row in 1..rows {
            for column in 1..columns {
                let corners = [
                    place(column - 1, row - 1),
                    place(column, row - 1),
                    place(column, row),
                    place(column - 1, row),
                ];
                if let [Some(a), Some(b), Some(c), Some(d)] = corners {
                    self.triangle([a, b, c], sheet);
                    self.triangle([a, c, d], sheet);
                }
            }
        }
    }

    fn triangle(&mut self, corners: [(Vec3, [f32; 2]); 3], sheet: u8) {
        let [(a, pa), (b, pb), (c, pc)] = corners;
        let area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]);
        // Back faces are inside the head.
        if area.is_nan() || area <= 0.0 {
            return;
        }
        let span = |values: [f32; 3], size: usize| {
            let least = values.iter().copied().fold(f32::MAX, f32::min);
            let most = values.iter().copied().fold(f32::MIN, f32::max);
            // Samples lie in the middle of their cells; the casts saturate.
            let first = (least - 0.5).max(0.0) as usize;
            let end = (most + 0.5).max(0.0) as usize;
            first..end.min(size)
        };
        let (xs, ys) = (
            span([a[0], b[0], c[0]], self.width),
            span([a[1], b[1], c[1]], self.height),
        );
        let inverse = 1.0 / area;
        for y in ys {
            let py = y as f32 + 0.5;
            let (first, end) = (y * self.width + xs.start, y * self.width + xs.end);
            let Some(row) = self.samples.get_mut(first..end) else {
                continue;
            };
            for (x, seen) in (xs.start..).zip(row) {
                let px = x as f32 + 0.5;
                let kb = ((px - a[0]) * (c[1] - a[1]) - (py - a[1]) * (c[0] - a[0])) * inverse;
                let kc = ((b[0] - a[0]) * (py - a[1]) - (b[1] - a[1]) * (px - a[0])) * inverse;
                let ka = 1.0 - kb - kc;
                if ka < 0.0 || kb < 0.0 || kc < 0.0 {
                    continue;
                }
                let depth = a[2] * ka + b[2] * kb + c[2] * kc;
                if seen.depth < depth {
                    *seen = Sample {
                        depth,
                        s: pa[0] * ka + pb[0] * kb + pc[0] * kc,
                        t: pa[1] * ka + pb[1] * kb + pc[1] * kc,
                        sheet,
                    };
                }
            }
        }
    }

    /// The fraction of a square of samples that is covered, and the covered sample nearest to its middle.
    pub fn cell(&self, x: usize, y: usize, side: usize) -> Option<(f32, Sample)> {
        let middle = (side - 1) as f32 / 2.0;
        let mut count = 0;
        let mut nearest: Option<(f32, Sample)> = None;
        for dy in 0..side {
            let start = (y * side + dy) * self.width + x * side;
            let row = self.samples.get(start..start + side)?;
            for (dx, sample) in row.iter().enumerate() {
                if sample.depth == Sample::NOTHING.depth {
                    continue;
                }
                count += 1;
                let (ox, oy) = (dx as f32 - middle, dy as f32 - middle);
                let distance = ox * ox + oy * oy;
                if nearest.is_none_or(|(least, _)| distance < least) {
                    nearest = Some((distance, *sample));
                }
            }
        }
        nearest.map(|(_, sample)| (count as f32 / (side * side) as f32, sample))
    }
}
