//! P-Net on the CPU without ONNX Runtime: the layers run row after row through rings of a few rows that stay in the
//! cache, so that no tensor of a picture's size is ever written.

mod forms;
mod kernel;
mod weights;

use crate::simd::cpu::Cpu;
use kernel::Sweep;
use weights::Weights;

/// Pixels of a level that one place of the output sees, along each side.
const WINDOW: usize = 12;

/// The network.
#[derive(Debug)]
pub struct ProposalNet {
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
    numbers: [Vec<f32>; 2],
    pairs: [Vec<i32>; 2],
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

impl ProposalNet {
    /// The weights of an ONNX file, if its graph is that of `models/pnet.onnx`.
    pub fn from_onnx(bytes: &[u8]) -> Option<Self> {
        let weights = Weights::from_onnx(bytes)?;
        Some(Self { weights })
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
        Cpu::new().run(Sweep {
            weights: &self.weights,
            pixels,
            width,
            height,
            first,
            threshold,
            rings,
            found,
        });
    }
}

#[cfg(test)]
mod tests {
    use pulp::Scalar;

    use super::*;
    use crate::runtime::{Session, SessionOptions, Signature};
    use crate::simd::cpu::Task;

    const FILE: &[u8] = include_bytes!("../../../models/pnet.onnx");

    /// Numbers 0…255 that look like noise, `count` for each colour.
    fn pixels(count: usize) -> [Vec<f32>; 3] {
        [1u32, 2, 3].map(|seed| {
            let mut state = seed;
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as f32
            };
            (0..count).map(|_| next()).collect()
        })
    }

    fn cells(pixels: &[Vec<f32>; 3], width: usize, dispatch: impl FnOnce(Sweep)) -> Vec<Cell> {
        let net = ProposalNet::from_onnx(FILE).unwrap();
        let (mut rings, mut found) = (Rings::default(), Vec::new());
        dispatch(Sweep {
            weights: &net.weights,
            pixels: pixels.each_ref().map(Vec::as_slice),
            width,
            height: pixels[0].len() / width,
            first: 0,
            threshold: 0.0,
            rings: &mut rings,
            found: &mut found,
        });
        found
    }

    /// Sizes: one place alone, odd and even ones, narrower and wider than the tiles.
    const SIZES: [(usize, usize); 6] =
        [(12, 12), (13, 12), (12, 31), (24, 13), (47, 20), (100, 35)];

    #[test]
    fn it_says_what_onnx_runtime_makes_of_the_file() {
        let signature = Signature {
            name: "P-Net",
            input: &[-1, -1, -1, 3],
            outputs: &[&[-1, -1, -1, 4], &[-1, -1, -1, 2]],
        };
        let options = SessionOptions::default();
        let mut session = Session::from_bytes("P-Net", FILE, &signature, &options).unwrap();
        for (width, height) in SIZES {
            let pixels = pixels(width * height);
            let found = cells(&pixels, width, |sweep| Cpu::run_by_numbers(sweep));
            let (columns, rows) = output_size(width, height);
            assert_eq!(found.len(), columns * rows);
            // Columns first.
            let tensor: Vec<f32> = (0..width * height)
                .flat_map(|i| {
                    let at = i % height * width + i / height;
                    pixels.each_ref().map(|colour| (colour[at] - 127.5) / 128.0)
                })
                .collect();
            let outputs = session.run([1, width, height, 3], &tensor).unwrap();
            let (shape, offsets) = outputs.get(0).unwrap();
            assert_eq!(shape, [1, columns as i64, rows as i64, 4]);
            let (_, scores) = outputs.get(1).unwrap();
            for cell in found {
                let at = cell.column * rows + cell.row;
                // Sums of a hundred numbers in another order.
                assert!(
                    (cell.score - scores[2 * at + 1]).abs() < 1e-5,
                    "{width}x{height} {cell:?}"
                );
                for (found, expected) in cell.offsets.iter().zip(&offsets[4 * at..]) {
                    assert!((found - expected).abs() < 1e-5, "{width}x{height} {cell:?}");
                }
            }
        }
    }

    #[test]
    fn vectors_of_every_length_give_the_same() {
        for (width, height) in SIZES {
            let pixels = pixels(width * height);
            let found = cells(&pixels, width, |sweep| Cpu::run_by_numbers(sweep));
            let expected = cells(&pixels, width, |sweep| sweep.by_numbers(Scalar::new()));
            assert_eq!(found.len(), expected.len());
            for (f, e) in found.iter().zip(&expected) {
                assert_eq!((f.column, f.row), (e.column, e.row));
                assert!((f.score - e.score).abs() < 1e-5, "{f:?} {e:?}");
            }
        }
    }

    #[test]
    fn pairs_of_integers_say_what_numbers_do() {
        for (width, height) in SIZES {
            let mut pixels = pixels(width * height);
            // Not only noise, of which nothing becomes large: black and white.
            for (i, pixel) in pixels.iter_mut().flatten().enumerate() {
                if i % width < width / 2 {
                    *pixel = if i / width % 8 < 4 { 0.0 } else { 255.0 };
                }
            }
            let expected = cells(&pixels, width, |sweep| Cpu::run_by_numbers(sweep));
            let twin = cells(&pixels, width, |sweep| sweep.by_pairs(Scalar::new()));
            for (t, e) in twin.iter().zip(&expected) {
                assert!((t.score - e.score).abs() < 5e-3, "{t:?} {e:?}");
                for (t, e) in t.offsets.iter().zip(e.offsets) {
                    assert!((t - e).abs() < 5e-3, "{t} {e}");
                }
            }
            for (cpu, _) in Cpu::all() {
                let found = cells(&pixels, width, |sweep| cpu.run(sweep));
                assert_eq!(found.len(), twin.len());
                for (f, t) in found.iter().zip(&twin) {
                    assert_eq!((f.column, f.row), (t.column, t.row));
                    // Sums are the same by the bit; what is made of them is rounded here and there.
                    assert!((f.score - t.score).abs() < 1e-3, "{cpu:?} {f:?} {t:?}");
                }
            }
        }
    }

    #[test]
    fn strips_of_a_picture_give_what_the_whole_gives() {
        let (width, height) = (40, 61);
        let pixels = pixels(width * height);
        let net = ProposalNet::from_onnx(FILE).unwrap();
        let (mut rings, mut whole, mut strips) = (Rings::default(), Vec::new(), Vec::new());
        let colours = |rows: std::ops::Range<usize>| {
            pixels
                .each_ref()
                .map(|c| &c[rows.start * width..rows.end * width])
        };
        net.propose(colours(0..height), width, 0, 0.0, &mut rings, &mut whole);
        let rows = output_size(width, height).1;
        for start in (0..rows).step_by(7) {
            let seen = rows_seen(start..(start + 7).min(rows), height);
            net.propose(colours(seen), width, start, 0.0, &mut rings, &mut strips);
        }
        assert!(!whole.is_empty());
        assert_eq!(whole, strips);
    }

    #[test]
    fn other_files_are_left_to_others() {
        assert!(ProposalNet::from_onnx(b"no ONNX file").is_none());
        assert!(ProposalNet::from_onnx(include_bytes!("../../../models/rnet.onnx")).is_none());
    }
}
