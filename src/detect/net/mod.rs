//! R-Net and O-Net on the CPU without ONNX Runtime: window after window, so that all that lies between two layers
//! stays in the cache.

mod graph;
mod kernel;
mod rounded;

use crate::simd::cpu::Cpu;
use kernel::Run;
use rounded::{PairTaps, Rounded};

/// Vectors of every CPU fit into so many channels.
const BLOCK: usize = 16;

/// A network that takes square windows.
#[derive(Debug)]
pub struct Network {
    /// Pixels along each side of a window.
    side: usize,
    /// What is done for each window: convolutions, poolings, …
    spatial: Vec<Step>,
    /// Numbers of the buffer that the spatial steps end in.
    features: usize,
    /// What is done for all windows at once: dense layers.
    dense: Vec<Step>,
    /// Numbers in each buffer: for one window.
    sizes: Vec<usize>,
    /// Channels of each buffer that lie side by side.
    groups: Vec<usize>,
    /// The buffers of the outputs, and how many of their numbers count.
    outputs: Vec<(usize, usize)>,
}

/// From buffers to a buffer.
#[derive(Debug)]
struct Step {
    operation: Operation,
    from: usize,
    to: usize,
}

#[derive(Debug)]
enum Operation {
    /// Weighted sums, and what becomes of them.
    Sum(Sum),
    /// The largest of squares.
    Pool(Pool),
    /// Into the middle of zeros: the width in numbers of a row, rows, and pixels on each side.
    Pad(Shape, usize),
    /// Slopes above and below 0 of each channel.
    Bend(Vec<f32>, Vec<f32>),
    /// Adds another buffer.
    Add(usize),
    /// Of the first so many numbers.
    Softmax(usize),
}

/// Of a buffer. Channels, filled up to a multiple of [`BLOCK`] but in the first, lie side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    width: usize,
    height: usize,
    channels: usize,
}

impl Shape {
    fn len(&self) -> usize {
        self.width * self.height * self.channels
    }

    fn row(&self) -> usize {
        self.width * self.channels
    }
}

/// A convolution; a dense layer is one of a single place.
#[derive(Debug)]
struct Sum {
    taps: Taps,
    bias: Vec<f32>,
    /// Slopes above and below 0.
    bend: (Vec<f32>, Vec<f32>),
    /// Where in the input the places begin; this and the following in numbers, or in pairs of them.
    places: Vec<usize>,
    /// Where from there on the inputs lie, and how far the last one reaches.
    steps: Vec<u32>,
    span: usize,
    /// Channels of the output, and those worked on together.
    channels: usize,
    block: usize,
}

/// The weights of a sum.
#[derive(Debug)]
enum Taps {
    /// `[block of channels, step, channels of a block]`
    Numbers(Vec<f32>),
    Pairs(PairTaps),
}

/// Stride 2.
#[derive(Debug)]
struct Pool {
    size: usize,
    from: Shape,
    to: Shape,
}

/// Memory that serves one run of a network after another. One per thread and network: what no layer writes has to
/// stay zero.
#[derive(Debug, Default)]
pub struct Buffers {
    numbers: Vec<Vec<f32>>,
    rounded: Rounded,
}

impl Network {
    /// The network of an ONNX file `[N, x, y, colour]` → `[N, …]…`, if it has just operators that are known here.
    pub fn from_onnx(bytes: &[u8], side: usize) -> Option<Self> {
        let mut network = graph::network(bytes, side, Cpu::lanes())?;
        if Cpu::new().has_pairs() {
            network.round();
        }
        Some(network)
    }

    /// How many numbers each output has for a window.
    pub fn widths(&self) -> impl Iterator<Item = usize> {
        self.outputs.iter().map(|(_, width)| *width)
    }

    /// Runs on windows `[N, y, x, colour]` of −1…1. Every output is called with its number, that of the window and
    /// the numbers.
    pub fn run(
        &self,
        windows: &[f32],
        buffers: &mut Buffers,
        give: impl FnMut(usize, usize, &[f32]),
    ) {
        let cpu = Cpu::new();
        self.run_by(windows, buffers, |run| cpu.run(run), give);
    }

    /// Makes integers of the weights.
    fn round(&mut self) {
        for step in self.spatial.iter_mut().chain(&mut self.dense) {
            if let Operation::Sum(sum) = &mut step.operation {
                sum.round(self.groups[step.from]);
            }
        }
    }

    fn run_by(
        &self,
        windows: &[f32],
        buffers: &mut Buffers,
        dispatch: impl Fn(Run),
        mut give: impl FnMut(usize, usize, &[f32]),
    ) {
        let length = self.side * self.side * 3;
        let count = windows.len() / length;
        let Buffers {
            numbers: buffers,
            rounded,
        } = buffers;
        buffers.resize_with(self.sizes.len(), Vec::new);
        let spatial = self.spatial.last().map_or(0, |step| step.to);
        for (number, (buffer, size)) in buffers.iter_mut().zip(&self.sizes).enumerate() {
            let windows = if number > spatial { count } else { 1 };
            // Whatever is not written is zero: channels that fill up a block, borders.
            if buffer.len() < size * windows {
                buffer.resize(size * windows, 0.0);
            }
        }
        for (number, window) in windows.chunks_exact(length).enumerate() {
            buffers[0].copy_from_slice(window);
            for step in &self.spatial {
                dispatch(self.prepare(step, buffers, rounded, 1));
            }
            let at = number * self.features;
            let (before, after) = buffers.split_at_mut(spatial + 1);
            after[0][at..at + self.features].copy_from_slice(&before[spatial][..self.features]);
        }
        for step in &self.dense {
            dispatch(self.prepare(step, buffers, rounded, count));
        }
        for (number, &(buffer, width)) in self.outputs.iter().enumerate() {
            let size = self.sizes[buffer];
            for (window, values) in buffers[buffer].chunks_exact(size).take(count).enumerate() {
                give(number, window, &values[..width]);
            }
        }
    }

    fn prepare<'a>(
        &self,
        step: &'a Step,
        buffers: &'a mut [Vec<f32>],
        rounded: &'a mut Rounded,
        count: usize,
    ) -> Run<'a> {
        // A step reads from buffers before its own.
        let (before, after) = buffers.split_at_mut(step.to);
        let (size_from, size_to) = (self.sizes[step.from] * count, self.sizes[step.to] * count);
        let other = match &step.operation {
            Operation::Add(other) => &before[*other][..size_from],
            _ => &[],
        };
        Run {
            operation: &step.operation,
            from: &before[step.from][..size_from],
            other,
            to: &mut after[0][..size_to],
            count,
            rounded,
        }
    }
}

#[cfg(test)]
mod tests {
    use pulp::Scalar;

    use super::*;
    use crate::runtime::{Session, SessionOptions, Signature};
    use crate::simd::cpu::Task;

    fn windows(count: usize, side: usize) -> Vec<f32> {
        let mut state = 7u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count * side * side * 3).map(|_| next()).collect()
    }

    fn outputs(net: &Network, windows: &[f32], dispatch: impl Fn(Run)) -> Vec<Vec<f32>> {
        let mut outputs = vec![Vec::new(); net.outputs.len()];
        let mut buffers = Buffers::default();
        // What an earlier run leaves behind must not matter.
        net.run_by(windows, &mut buffers, &dispatch, |_, _, _| {});
        net.run_by(
            windows,
            &mut buffers,
            &dispatch,
            |output, window, values| {
                assert_eq!(outputs[output].len(), window * values.len());
                outputs[output].extend_from_slice(values);
            },
        );
        outputs
    }

    /// Name, file, input and outputs.
    type Case = (
        &'static str,
        &'static [u8],
        &'static [i64],
        &'static [&'static [i64]],
    );

    const NETWORKS: [Case; 2] = [
        (
            "R-Net",
            include_bytes!("../../../models/rnet.onnx"),
            &[-1, 24, 24, 3],
            &[&[-1, 4], &[-1, 2]],
        ),
        (
            "O-Net",
            include_bytes!("../../../models/onet.onnx"),
            &[-1, 48, 48, 3],
            &[&[-1, 4], &[-1, 10], &[-1, 2]],
        ),
    ];

    #[test]
    fn the_networks_say_what_onnx_runtime_makes_of_them() {
        for (name, bytes, input, shapes) in NETWORKS {
            let side = input[1] as usize;
            let net = numbers(bytes, side).expect(name);
            let upright = windows(7, side);
            let turned: Vec<f32> = (0..7 * side * side)
                .flat_map(|i| {
                    let (window, x, y) = (i / (side * side), i / side % side, i % side);
                    let at = ((window * side + y) * side + x) * 3;
                    [upright[at], upright[at + 1], upright[at + 2]]
                })
                .collect();
            let found = outputs(&net, &upright, |run| Cpu::run_by_numbers(run));
            let signature = Signature {
                name,
                input,
                outputs: shapes,
            };
            let options = SessionOptions::default();
            let mut session = Session::from_bytes(name, bytes, &signature, &options).unwrap();
            let expected = session.run([7, side, side, 3], &turned).unwrap();
            for (i, found) in found.iter().enumerate() {
                let (_, expected) = expected.get(i).unwrap();
                assert_eq!(found.len(), expected.len());
                for (f, e) in found.iter().zip(expected) {
                    // Sums of a thousand numbers in another order.
                    assert!((f - e).abs() < 1e-5, "{name} output {i}: {f} {e}");
                }
            }
        }
    }

    #[test]
    fn vectors_of_every_length_give_the_same() {
        for (name, bytes, input, _) in NETWORKS {
            let side = input[1] as usize;
            let windows = windows(2, side);
            let net = numbers(bytes, side).expect(name);
            let found = outputs(&net, &windows, |run| Cpu::run_by_numbers(run));
            let net = graph::network(bytes, side, 1).expect(name);
            let expected = outputs(&net, &windows, |run| run.by_numbers(Scalar::new()));
            assert!(difference(&found, &expected) < 1e-5, "{name}");
        }
    }

    #[test]
    fn pairs_of_integers_say_what_numbers_do() {
        for (name, bytes, input, _) in NETWORKS {
            let side = input[1] as usize;
            let mut windows = windows(8, side);
            // The second is dark: windows are rounded each by itself.
            let dark = side * side * 3..side * side * 6;
            windows[dark].iter_mut().for_each(|x| *x *= 0.01);
            let net = numbers(bytes, side).expect(name);
            let expected = outputs(&net, &windows, |run| Cpu::run_by_numbers(run));
            let mut net = graph::network(bytes, side, 1).expect(name);
            net.round();
            let twin = outputs(&net, &windows, |run| run.by_pairs(Scalar::new()));
            let found = difference(&twin, &expected);
            assert!(found < 2e-3, "{name}: {found}");
            for (cpu, lanes) in Cpu::all() {
                let mut net = graph::network(bytes, side, lanes).expect(name);
                net.round();
                let found = outputs(&net, &windows, |run| cpu.run(run));
                let found = difference(&found, &twin);
                // Sums are the same by the bit; what is made of them is rounded here and there.
                assert!(found < 1e-3, "{name}: {cpu:?} {found}");
            }
        }
    }

    #[test]
    fn windows_of_zeros_and_of_no_numbers_do_no_harm() {
        for (name, bytes, input, _) in NETWORKS {
            let side = input[1] as usize;
            let net = Network::from_onnx(bytes, side).expect(name);
            let mut windows = vec![0.0; 3 * side * side * 3];
            windows[side * side * 3] = f32::NAN;
            windows[side * side * 6] = f32::INFINITY;
            let cpu = Cpu::new();
            let found = outputs(&net, &windows, |run| cpu.run(run));
            for output in found {
                let first = &output[..output.len() / 3];
                assert!(first.iter().all(|x| x.is_finite()), "{name}: {first:?}");
            }
        }
    }

    /// Without integers.
    fn numbers(bytes: &[u8], side: usize) -> Option<Network> {
        graph::network(bytes, side, Cpu::lanes())
    }

    /// The largest.
    fn difference(a: &[Vec<f32>], b: &[Vec<f32>]) -> f32 {
        let pairs = a.iter().flatten().zip(b.iter().flatten());
        pairs.fold(0.0, |most, (a, b)| (a - b).abs().max(most))
    }

    #[test]
    fn other_files_are_left_to_others() {
        assert!(Network::from_onnx(b"no ONNX file", 24).is_none());
        let pnet = include_bytes!("../../../models/pnet.onnx");
        assert!(Network::from_onnx(pnet, 24).is_none());
        // A window of another size does not fit the dense layer.
        assert!(Network::from_onnx(NETWORKS[0].1, 48).is_none());
    }
}
