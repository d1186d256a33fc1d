//! The steps of a network, each for all pictures, shared out to threads.

use std::cell::Cell;
use std::ops::Range;
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use pulp::bytemuck::{cast_slice, cast_slice_mut};

use super::kernel::{First, Input, Last, Run, surround};
use super::{BLOCK, Conv, Dense, INPUTS, Network, Operation, Step};
use crate::workers::{Board, lock, share_steps};

/// Products and bytes that a part of a step has at least: microseconds.
const PRODUCTS: usize = 1 << 20;
const BYTES: usize = 1 << 15;

/// Pixels are shared out in whole tiles of these,
const TILE: usize = 8;
/// channels of a convolution where there are fewer pixels than that.
const PIXELS: usize = 32;

/// What a thread works in.
#[derive(Default)]
pub struct Buffers {
    /// Fours of bytes.
    tensors: Vec<Vec<i32>>,
    bordered: Vec<i32>,
    /// Of the picture.
    bytes: Vec<u8>,
    features: Vec<f32>,
}

thread_local! {
    /// Where a part is made before it is put in its place. One for each thread: it stays near its core.
    static CORNER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// From pictures `[count, side, side, 3]` to `[count, width]`.
pub fn run(net: &Network, threads: usize, pictures: &[f32], output: &mut [f32]) {
    let running = Running::begin(net, threads, pictures, output.len() / net.width());
    let work = |step, part| running.work_on_part(step, part);
    share_steps(threads, |board| running.lead(board, work), work);
    running.end(output);
}

struct Running<'a> {
    net: &'a Network,
    threads: usize,
    /// Of pictures.
    count: usize,
    buffers: RwLock<Buffers>,
    /// Of the step that is shared out.
    result: Mutex<Vec<i32>>,
}

impl<'a> Running<'a> {
    fn begin(net: &'a Network, threads: usize, pictures: &[f32], count: usize) -> Self {
        debug_assert_eq!(pictures.len(), count * net.side * net.side * 3);
        let mut buffers = lock(&net.desks).pop().unwrap_or_default();
        for tensor in &net.tensors {
            if buffers.tensors.len() <= tensor.buffer {
                buffers.tensors.resize_with(tensor.buffer + 1, Vec::new);
            }
            let buffer = &mut buffers.tensors[tensor.buffer];
            buffer.resize(buffer.len().max(count * tensor.len() / 4), 0);
        }
        let input = &net.tensors[0];
        net.cpu.run_quads(First {
            pictures,
            tensor: input,
            to: &mut buffers.tensors[input.buffer],
            bytes: &mut buffers.bytes,
        });
        Self {
            net,
            threads,
            count,
            buffers: RwLock::new(buffers),
            result: Mutex::default(),
        }
    }

    fn lead(&self, board: &Board, work: impl Fn(usize, usize)) {
        for (number, step) in self.net.steps.iter().enumerate() {
            let result = &self.net.tensors[step.to];
            let mut buffers = write(&self.buffers);
            self.surround(step, &mut buffers);
            // Its buffer is none of those that it reads.
            let mut to = std::mem::take(&mut buffers.tensors[result.buffer]);
            let parts = self.parts(step);
            if parts > 1 && board.has_helpers() {
                *lock(&self.result) = to;
                drop(buffers);
                board.share(number, parts, &work);
                to = std::mem::take(&mut lock(&self.result));
                buffers = write(&self.buffers);
            } else {
                let pixels = 0..self.count * result.pixels();
                let to = &mut cast_slice_mut(&mut to)[..self.count * result.len()];
                self.work(step, &buffers, pixels, 0..result.channels, to);
            }
            buffers.tensors[result.buffer] = to;
        }
    }

    /// Makes the border of a convolution that has one.
    fn surround(&self, step: &Step, buffers: &mut Buffers) {
        if let Operation::Conv(Conv {
            border: Some(border),
            ..
        }) = &step.operation
        {
            let mut bordered = std::mem::take(&mut buffers.bordered);
            surround(&self.input(step.from[0], buffers), border, &mut bordered);
            buffers.bordered = bordered;
        }
    }

    fn input<'b>(&'b self, tensor: usize, buffers: &'b Buffers) -> Input<'b> {
        let tensor = &self.net.tensors[tensor];
        Input {
            tensor,
            quads: &buffers.tensors[tensor.buffer][..self.count * tensor.len() / 4],
            count: self.count,
        }
    }

    /// Channels to share out, in blocks, if not pixels.
    fn blocks(&self, step: &Step) -> Option<usize> {
        let result = &self.net.tensors[step.to];
        let has_channels = matches!(step.operation, Operation::Conv(_));
        let has_pixels = self.count * result.pixels() >= PIXELS;
        (has_channels && !has_pixels).then(|| result.channels.div_ceil(BLOCK))
    }

    /// In how many parts a step is shared out.
    fn parts(&self, step: &Step) -> usize {
        let result = &self.net.tensors[step.to];
        let pixels = self.count * result.pixels();
        let parts = match &step.operation {
            Operation::Conv(conv) => pixels * conv.taps.len() * 4 / PRODUCTS,
            _ => pixels * result.channels / BYTES,
        };
        // Blocks go in twos, since a line of the cache holds so many and is to be of one core.
        let most = self.blocks(step).map_or(pixels / TILE, |blocks| blocks / 2);
        parts.min(most).min(2 * self.threads)
    }

    /// Pixels of all pictures, and channels.
    fn part(&self, step: &Step, part: usize) -> (Range<usize>, Range<usize>) {
        let result = &self.net.tensors[step.to];
        let pixels = self.count * result.pixels();
        let parts = self.parts(step);
        let share = |units: usize, size: usize, most: usize| {
            let bound = |part: usize| (part * units / parts * size).min(most);
            bound(part)..bound(part + 1)
        };
        match self.blocks(step) {
            Some(blocks) => (0..pixels, share(blocks, BLOCK, result.channels)),
            None => {
                let tiles = pixels.div_ceil(TILE);
                (share(tiles, TILE, pixels), 0..result.channels)
            }
        }
    }

    /// Beside others, who may be at other parts of the step.
    fn work_on_part(&self, step: usize, part: usize) {
        let step = &self.net.steps[step];
        let (pixels, channels) = self.part(step, part);
        let mut corner = CORNER.take();
        corner.resize(pixels.len() * channels.len(), 0);
        let buffers = read(&self.buffers);
        self.work(
            step,
            &buffers,
            pixels.clone(),
            channels.clone(),
            &mut corner,
        );
        let all = self.net.tensors[step.to].channels;
        let mut result = lock(&self.result);
        let to = cast_slice_mut::<_, u8>(&mut result)[pixels.start * all..].chunks_exact_mut(all);
        for (from, to) in corner.chunks_exact(channels.len()).zip(to) {
            to[channels.clone()].copy_from_slice(from);
        }
        drop(result);
        CORNER.set(corner);
    }

    fn work(
        &self,
        step: &Step,
        buffers: &Buffers,
        pixels: Range<usize>,
        channels: Range<usize>,
        to: &mut [u8],
    ) {
        // No list, which would be made anew for each part. Where there are fewer, the first one fills it up.
        let mut inputs: [Input; INPUTS] = std::array::from_fn(|number| {
            let from = step.from.get(number).unwrap_or(&step.from[0]);
            self.input(*from, buffers)
        });
        if let Operation::Conv(Conv {
            border: Some(_), ..
        }) = step.operation
        {
            inputs[0].quads = &buffers.bordered;
        }
        self.net.cpu.run_quads(Run {
            operation: &step.operation,
            inputs: &inputs,
            result: &self.net.tensors[step.to],
            pixels,
            channels,
            to,
        });
    }

    /// The last layer.
    fn end(self, output: &mut [f32]) {
        let Self {
            net,
            count,
            buffers,
            ..
        } = self;
        let mut buffers = buffers.into_inner().unwrap_or_else(PoisonError::into_inner);
        let Dense {
            from,
            weights,
            bias,
        } = &net.dense;
        let tensor = &net.tensors[*from];
        let bytes: &[u8] = cast_slice(&buffers.tensors[tensor.buffer]);
        let worth = |&byte: &u8| (f32::from(byte) - f32::from(tensor.zero)) * tensor.scale;
        buffers.features.clear();
        let bytes = &bytes[..count * tensor.len()];
        buffers.features.extend(bytes.iter().map(worth));
        net.cpu.run_quads(Last {
            features: &buffers.features,
            weights,
            bias,
            output,
        });
        lock(&net.desks).push(buffers);
    }
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
