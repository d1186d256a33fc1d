//! P-Net as one kernel: the layers run row after row through rings of a few rows that stay in the cache, so that no tensor
//! of an image's size is ever written. A plan of one layer after the other takes five times as long
//! (docs/performance.md), so this stays a kernel of its own; it takes the fused graph like the planner does.

mod forms;
mod kernel;
mod pack;

use super::fused::Fused;
use super::simd::Isa;
use kernel::Sweep;
use pack::Weights;

/// Pixels of a level that one place of the output sees, along each side.
pub const WINDOW: usize = 12;

/// The network.
pub struct RowStream {
    isa: Isa,
    is_i16: bool,
    weights: Weights,
}

/// A place of the output where a face may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cell {
    pub column: usize,
    pub row: usize,
    /// Probability, 0…1.
    pub score: f32,
    /// Left, top, right and bottom, in parts of the window.
    pub offsets: [f32; 4],
}

/// Memory that serves one run after another. One per thread.
#[derive(Debug, Default)]
pub struct Rings {
    /// After the first and the second convolution, in the one form or the other.
    f32: [Vec<f32>; 2],
    i16: [Vec<i32>; 2],
}

/// Columns and rows of the output for a level of so many pixels.
pub fn output_size(width: usize, height: usize) -> (usize, usize) {
    // 3×3, 2×2 pooled where an odd pixel counts alone, 3×3, 3×3; a window of 12 gives one.
    let side = |pixels: usize| {
        if pixels < WINDOW {
            0
        } else {
            (pixels - 2).div_ceil(2) - 4
        }
    };
    (side(width), side(height))
}

/// Rows of a level that rows `rows` of the output see.
pub fn rows_seen(rows: std::ops::Range<usize>, height: usize) -> std::ops::Range<usize> {
    2 * rows.start..(2 * rows.end + WINDOW - 2).min(height)
}

impl RowStream {
    /// The reason if the network is not P-Net.
    pub fn new(fused: &Fused, isa: Isa) -> Result<Self, String> {
        Ok(Self {
            isa,
            is_i16: isa.has_fast_i16(),
            weights: Weights::new(fused)?,
        })
    }

    /// What the kernel computes with.
    pub fn kernel(&self) -> String {
        let types = if self.is_i16 { "i16" } else { "f32" };
        format!("{}-{types}-{}", std::env::consts::ARCH, self.isa.name())
    }

    /// Looks at a part of a level: red, green and blue, 0…255, `width` to a row, of which rows `first` and so on
    /// of the output are made. Gives every place that scores `threshold` or more.
    pub fn propose(
        &self,
        pixels: [&[f32]; 3],
        width: usize,
        first: usize,
        threshold: f32,
        rings: &mut Rings,
        found: &mut Vec<Cell>,
    ) {
        let height = pixels[0].len() / width.max(1);
        let (columns, rows) = output_size(width, height);
        if columns == 0 || rows == 0 {
            return;
        }
        let sweep = Sweep {
            weights: &self.weights,
            pixels,
            width,
            height,
            first,
            threshold,
            rings,
            found,
        };
        sweep.dispatch(self.isa, self.is_i16);
    }
}
