//! P-Net as one kernel: the layers run row by row through ring buffers of a few rows that stay in the cache, so that no
//! tensor of the size of the image is written. A layer-by-layer plan takes five times as long (docs/performance.md),
//! which justifies a separate kernel; like the planner, it takes the fused graph.

mod forms;
mod kernel;
mod pack;

use super::fused::Fused;
use super::simd::Isa;
use kernel::Sweep;
use pack::Weights;

/// Side length in pixels of the window (receptive field) of an output cell on a pyramid level.
pub const WINDOW: usize = 12;

/// P-Net, packed for an instruction set.
pub struct RowStream {
    isa: Isa,
    is_i16: bool,
    weights: Weights,
}

/// An output cell whose window may contain a face.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cell {
    pub column: usize,
    pub row: usize,
    /// Face probability, 0…1.
    pub score: f32,
    /// Bounding-box regression of left, top, right and bottom, relative to the side of the window.
    pub offsets: [f32; 4],
}

/// Ring buffers, one set per thread, reused from run to run.
#[derive(Debug, Default)]
pub struct Rings {
    /// Rows after the first and the second convolution, in float32.
    f32: [Vec<f32>; 2],
    /// Rows after the first and the second convolution, in i16 pairs.
    i16: [Vec<i32>; 2],
}

/// Columns and rows of the output for a level of `width` × `height` pixels.
pub fn output_size(width: usize, height: usize) -> (usize, usize) {
    // 3×3 convolution, 2×2 pooling that rounds an odd size up, 3×3, 3×3: a window of 12 pixels has one output.
    let side = |pixels: usize| {
        if pixels < WINDOW {
            0
        } else {
            (pixels - 2).div_ceil(2) - 4
        }
    };
    (side(width), side(height))
}

/// Rows of a level that the output rows `rows` depend on.
pub fn rows_seen(rows: std::ops::Range<usize>, height: usize) -> std::ops::Range<usize> {
    2 * rows.start..(2 * rows.end + WINDOW - 2).min(height)
}

impl RowStream {
    /// Packs the network; the error states why it is not P-Net.
    pub fn new(fused: &Fused, isa: Isa) -> Result<Self, String> {
        Ok(Self {
            isa,
            is_i16: isa.has_fast_i16(),
            weights: Weights::new(fused)?,
        })
    }

    /// Architecture, number type and instruction set of the kernel.
    pub fn kernel(&self) -> String {
        let types = if self.is_i16 { "i16" } else { "f32" };
        format!("{}-{types}-{}", std::env::consts::ARCH, self.isa.name())
    }

    /// Processes a strip of a level: planes of red, green and blue, 0…255, `width` pixels per row; `first` is the index
    /// of its first output row. Appends every cell with a score of `threshold` or more to `found`.
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
