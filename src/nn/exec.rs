//! Executes a plan: each step for all items of a batch or item by item, on one thread or split between threads. A
//! workspace that has been used is reused without allocation.

use std::cell::Cell;
use std::ops::Range;
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use pulp::bytemuck::{cast_slice, cast_slice_mut};

use super::fused::TensorId;
use super::kernels::{Input, Run, Stage, Staged, needs_staging};
use super::pack::U8_BLOCK;
use super::plan::{Items, Plan, Step, StepOp};
use crate::threads::{StepQueue, lock, share_steps};

/// Minimum number of multiply-accumulates in a part of a convolution, which takes microseconds.
const PRODUCTS: usize = 1 << 20;
/// Minimum number of output bytes in a part of any other step, which takes microseconds.
const BYTES: usize = 1 << 15;

/// Steps are split between threads in multiples of this number of pixels.
const TILE: usize = 8;
/// Quantised convolutions with fewer output pixels than this are split by channels instead.
const PIXELS: usize = 32;

/// Scratch memory of one run.
#[derive(Debug, Default)]
pub struct Workspace {
    slots: Vec<Vec<i32>>,
    staged: Staged,
}

thread_local! {
    /// Staging buffer of a part before it is copied to the result; thread-local so that it stays in the core's cache.
    static PART: Cell<Vec<i32>> = const { Cell::new(Vec::new()) };
}

impl Workspace {
    /// Grows the slots to hold `count` items.
    fn reserve(&mut self, plan: &Plan, count: usize) {
        let at_once = match plan.items {
            Items::One => 1,
            Items::All => count,
        };
        if self.slots.len() < plan.slots {
            self.slots.resize_with(plan.slots, Vec::new);
        }
        for step in &plan.steps {
            let buffer = &plan.buffers[step.output];
            let items = if buffer.is_flat { count } else { at_once };
            let slot = &mut self.slots[buffer.slot];
            if slot.len() < items * buffer.words() {
                slot.resize(items * buffer.words(), 0);
            }
        }
    }
}

/// Runs a plan on `[count, height, width, channels]` (NHWC). `give` is called for each pixel of each output with the
/// index of the output, the index of the pixel across all items, and the values of its channels.
pub fn run(
    plan: &Plan,
    threads: usize,
    workspace: &mut Workspace,
    input: &[f32],
    mut give: impl FnMut(usize, usize, &[f32]),
) {
    let item_len = plan.buffers[0].len();
    let count = input.len() / item_len;
    workspace.reserve(plan, count);
    let whole = Pass {
        plan,
        input: cast_slice(input),
        count,
        first_item: 0,
    };
    match plan.items {
        Items::All if threads > 1 => whole.run_shared(threads, 0..plan.steps.len(), workspace),
        Items::All => whole.run_alone(0..plan.steps.len(), workspace),
        Items::One => {
            for (first_item, item) in input.chunks_exact(item_len).enumerate() {
                let one = Pass {
                    plan,
                    input: cast_slice(item),
                    count: 1,
                    first_item,
                };
                one.run_alone(0..plan.first_dense, workspace);
            }
            whole.run_alone(plan.first_dense..plan.steps.len(), workspace);
        }
    }
    for (number, &output) in plan.outputs.iter().enumerate() {
        let buffer = &plan.buffers[output];
        let values: &[f32] = cast_slice(&workspace.slots[buffer.slot][..count * buffer.words()]);
        for (pixel, values) in values.chunks_exact(buffer.stride).enumerate() {
            give(number, pixel, &values[..buffer.channels]);
        }
    }
}

/// Name and result of every step, for one item, or for all items of a plan with `Items::All`.
#[cfg(test)]
pub fn trace(plan: &Plan, input: &[f32]) -> Vec<(String, Vec<i32>)> {
    let mut workspace = Workspace::default();
    let count = input.len() / plan.buffers[0].len();
    workspace.reserve(plan, count);
    let pass = Pass {
        plan,
        input: cast_slice(input),
        count,
        first_item: 0,
    };
    let steps = plan.steps.iter().enumerate();
    steps
        .map(|(number, step)| {
            pass.run_alone(number..number + 1, &mut workspace);
            let result = &plan.buffers[step.output];
            let words = &workspace.slots[result.slot][..count * result.words()];
            (step.name.clone(), words.to_vec())
        })
        .collect()
}

/// A group of items that is run through the steps together.
struct Pass<'a> {
    plan: &'a Plan,
    /// Input of these items.
    input: &'a [i32],
    count: usize,
    /// Index of the first of these items in the batch, where their feature rows are written.
    first_item: usize,
}

impl Pass<'_> {
    fn run_alone(&self, steps: Range<usize>, workspace: &mut Workspace) {
        for (number, step) in steps.clone().zip(&self.plan.steps[steps]) {
            let result = &self.plan.buffers[step.output];
            self.stage(step, workspace);
            // The slot can be taken out because no input of the step shares it.
            let mut slot = std::mem::take(&mut workspace.slots[result.slot]);
            let first = match result.is_flat && number < self.plan.first_dense {
                true => self.first_item * result.words(),
                false => 0,
            };
            let out = &mut slot[first..][..self.count * result.words()];
            let pixels = 0..self.count * result.pixels();
            self.work(step, workspace, pixels, 0..result.stride, out);
            workspace.slots[result.slot] = slot;
        }
    }

    /// Converts the first input to the layout that the step's kernel reads, if that differs.
    fn stage(&self, step: &Step, workspace: &mut Workspace) {
        if needs_staging(&step.op) {
            let mut staged = std::mem::take(&mut workspace.staged);
            self.plan.isa.dispatch(Stage {
                op: &step.op,
                input: self.input(step.inputs[0], workspace),
                staged: &mut staged,
            });
            workspace.staged = staged;
        }
    }

    fn input<'b>(&'b self, tensor: TensorId, workspace: &'b Workspace) -> Input<'b> {
        let buffer = &self.plan.buffers[tensor];
        let words = match tensor {
            0 => self.input,
            _ => &workspace.slots[buffer.slot][..self.count * buffer.words()],
        };
        Input {
            buffer,
            words,
            count: self.count,
        }
    }

    fn work(
        &self,
        step: &Step,
        workspace: &Workspace,
        pixels: Range<usize>,
        channels: Range<usize>,
        out: &mut [i32],
    ) {
        // An array instead of a `Vec`, which would be allocated for each part. Unused elements repeat the first input.
        let inputs = std::array::from_fn(|number| {
            let tensor = step.inputs.get(number).unwrap_or(&step.inputs[0]);
            self.input(*tensor, workspace)
        });
        let run = Run {
            op: &step.op,
            inputs,
            staged: &workspace.staged,
            result: &self.plan.buffers[step.output],
            pixels,
            channels,
            out,
        };
        run.dispatch(self.plan.isa);
    }

    fn run_shared(&self, threads: usize, steps: Range<usize>, workspace: &mut Workspace) {
        let shared = Shared {
            pass: self,
            threads,
            workspace: RwLock::new(std::mem::take(workspace)),
            result: Mutex::default(),
        };
        let work = |step, part| shared.work_on_part(step, part);
        share_steps(threads, |queue| shared.lead(steps, queue, work), work);
        *workspace = shared
            .workspace
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
    }
}

/// A pass whose steps are split between threads.
struct Shared<'a> {
    pass: &'a Pass<'a>,
    threads: usize,
    workspace: RwLock<Workspace>,
    /// Result of the step that is being split.
    result: Mutex<Vec<i32>>,
}

impl Shared<'_> {
    fn lead(&self, steps: Range<usize>, queue: &StepQueue, work: impl Fn(usize, usize)) {
        let plan = self.pass.plan;
        for number in steps {
            let step = &plan.steps[number];
            let parts = self.parts(step);
            let mut workspace = write(&self.workspace);
            if parts > 1 && queue.has_helpers() {
                let slot = plan.buffers[step.output].slot;
                self.pass.stage(step, &mut workspace);
                *lock(&self.result) = std::mem::take(&mut workspace.slots[slot]);
                drop(workspace);
                queue.share(number, parts, &work);
                write(&self.workspace).slots[slot] = std::mem::take(&mut lock(&self.result));
            } else {
                self.pass.run_alone(number..number + 1, &mut workspace);
            }
        }
    }

    /// Number of channel blocks if a step is split by channels; `None` if it is split by pixels.
    fn blocks(&self, step: &Step) -> Option<usize> {
        let result = &self.pass.plan.buffers[step.output];
        let has_channels = matches!(step.op, StepOp::U8Conv(_));
        let has_pixels = self.pass.count * result.pixels() >= PIXELS;
        (has_channels && !has_pixels).then(|| result.stride.div_ceil(U8_BLOCK))
    }

    /// Number of parts that a step is split into: 1 for steps on float32, which are too short.
    fn parts(&self, step: &Step) -> usize {
        let result = &self.pass.plan.buffers[step.output];
        let pixels = self.pass.count * result.pixels();
        let parts = match &step.op {
            _ if result.quantization.is_none() => return 1,
            StepOp::Quantize | StepOp::GlobalAveragePool => return 1,
            StepOp::U8Conv(conv) => pixels * conv.weights.len() * 4 / PRODUCTS,
            _ => pixels * result.stride / BYTES,
        };
        // A part has two blocks or more: they fill a cache line, which only one core should write.
        let most = self.blocks(step).map_or(pixels / TILE, |blocks| blocks / 2);
        parts.min(most).min(2 * self.threads)
    }

    /// Pixels, counted across all items, and channels of a part.
    fn part(&self, step: &Step, part: usize) -> (Range<usize>, Range<usize>) {
        let result = &self.pass.plan.buffers[step.output];
        let pixels = self.pass.count * result.pixels();
        let parts = self.parts(step);
        let share = |units: usize, size: usize, most: usize| {
            let bound = |part: usize| (part * units / parts * size).min(most);
            bound(part)..bound(part + 1)
        };
        match self.blocks(step) {
            Some(blocks) => (0..pixels, share(blocks, U8_BLOCK, result.stride)),
            None => {
                let tiles = pixels.div_ceil(TILE);
                (share(tiles, TILE, pixels), 0..result.stride)
            }
        }
    }

    /// Computes a part of a step, while other threads may compute other parts.
    fn work_on_part(&self, step: usize, part: usize) {
        let plan = self.pass.plan;
        let step = &plan.steps[step];
        let (pixels, channels) = self.part(step, part);
        let mut made = PART.take();
        made.resize(pixels.len() * channels.len() / 4, 0);
        let workspace = read(&self.workspace);
        self.pass.work(
            step,
            &workspace,
            pixels.clone(),
            channels.clone(),
            &mut made,
        );
        let all = plan.buffers[step.output].stride;
        let mut result = lock(&self.result);
        let to = cast_slice_mut::<_, u8>(&mut result)[pixels.start * all..].chunks_exact_mut(all);
        let from: &[u8] = cast_slice(&made);
        for (from, to) in from.chunks_exact(channels.len()).zip(to) {
            to[channels.clone()].copy_from_slice(from);
        }
        drop(result);
        PART.set(made);
    }
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
