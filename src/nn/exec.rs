//! Runs a plan: each step for all items of a batch, or item by item, alone or shared out to threads. Nothing is allocated
//! once a workspace has been used.

use std::cell::Cell;
use std::ops::Range;
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use pulp::bytemuck::{cast_slice, cast_slice_mut};

use super::fused::TensorId;
use super::kernels::{Input, Run, Stage, Staged, needs_staging};
use super::pack::U8_BLOCK;
use super::plan::{Items, Plan, Step, StepOp};
use crate::threads::{StepQueue, lock, share_steps};

/// Products and bytes that a part of a step has at least: microseconds.
const PRODUCTS: usize = 1 << 20;
const BYTES: usize = 1 << 15;

/// Pixels are shared out in whole tiles of these,
const TILE: usize = 8;
/// channels of a convolution where there are fewer pixels than that.
const PIXELS: usize = 32;

/// The memory that one run works in.
#[derive(Debug, Default)]
pub struct Workspace {
    slots: Vec<Vec<i32>>,
    staged: Staged,
}

thread_local! {
    /// Where a part is made before it is put in its place. One for each thread: it stays near its core.
    static PART: Cell<Vec<i32>> = const { Cell::new(Vec::new()) };
}

impl Workspace {
    /// Makes room for so many items.
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

/// From `[count, height, width, channels]` to the outputs of the plan, each given pixel by pixel with its number and that
/// of the pixel, counted through all items.
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

/// What each step on pixels and each dense step gives, by its name, for one item or all of a plan that takes them at once.
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

/// Some items that go through steps together.
struct Pass<'a> {
    plan: &'a Plan,
    /// Of these items.
    input: &'a [i32],
    count: usize,
    /// Where their rows of features lie among those of all items.
    first_item: usize,
}

impl Pass<'_> {
    fn run_alone(&self, steps: Range<usize>, workspace: &mut Workspace) {
        for (number, step) in steps.clone().zip(&self.plan.steps[steps]) {
            let result = &self.plan.buffers[step.output];
            self.stage(step, workspace);
            // Its slot is none of those that it reads.
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

    /// Makes of the first input what the step's kernel reads.
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
        // No list, which would be made anew for each part. Where there are fewer, the first one fills it up.
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

/// A pass whose steps threads share.
struct Shared<'a> {
    pass: &'a Pass<'a>,
    threads: usize,
    workspace: RwLock<Workspace>,
    /// Of the step that is shared out.
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

    /// Channels to share out, in blocks, if not pixels.
    fn blocks(&self, step: &Step) -> Option<usize> {
        let result = &self.pass.plan.buffers[step.output];
        let has_channels = matches!(step.op, StepOp::U8Conv(_));
        let has_pixels = self.pass.count * result.pixels() >= PIXELS;
        (has_channels && !has_pixels).then(|| result.stride.div_ceil(U8_BLOCK))
    }

    /// In how many parts a step is shared out. Steps on float32 are too short.
    fn parts(&self, step: &Step) -> usize {
        let result = &self.pass.plan.buffers[step.output];
        let pixels = self.pass.count * result.pixels();
        let parts = match &step.op {
            _ if result.quantization.is_none() => return 1,
            StepOp::Quantize | StepOp::GlobalAveragePool => return 1,
            StepOp::U8Conv(conv) => pixels * conv.weights.len() * 4 / PRODUCTS,
            _ => pixels * result.stride / BYTES,
        };
        // Blocks go in twos, since a line of the cache holds so many and is to be of one core.
        let most = self.blocks(step).map_or(pixels / TILE, |blocks| blocks / 2);
        parts.min(most).min(2 * self.threads)
    }

    /// Pixels of all items, and channels.
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

    /// Beside others, who may be at other parts of the step.
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
