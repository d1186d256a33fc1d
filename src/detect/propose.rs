//! The first stage: P-Net on the levels of a pyramid, in strips that are split between threads, or level by level with
//! ONNX Runtime.

use std::sync::{Arc, Mutex};

use super::Params;
use super::boxes::{CELL, Candidate, Overlap, suppress};
use super::clock::Clock;
use super::pyramid::{Level, levels};
use super::{MIN_FACE_SIZES, SCALE_FACTORS};
use crate::frame::geometry::Rect;
use crate::frame::image::ImageView;
use crate::frame::mipmap::Mipmap;
use crate::frame::resize::{Layout, Resizer};
use crate::nn::row_stream::{Cell, Rings, RowStream, output_size, rows_seen};
use crate::nn::{Engine, Network, Role, RuntimeError, SessionOptions, Source};
use crate::threads::{lock, share};

/// NMS threshold within one level (reference ports).
const NMS_LEVEL: f64 = 0.5;

/// Minimum scale of the finest levels, relative to the first level.
const FINE_SCALES: f64 = 0.6;

/// Maximum number of candidates of one level, those of the highest scores, for NMS: half of what the next stage
/// processes.
const MOST_OF_A_LEVEL: usize = super::MAX_CANDIDATES[0] / 2;

/// Output rows of a strip. Each strip starts four further rows that have no output, but its pixels stay in the cache,
/// and there are several strips to split between threads.
const STRIP: usize = 32;

/// P-Net and its scratch memory.
pub struct Proposer {
    net: Arc<Network>,
    threads: usize,
    mipmap: Mipmap,
    strips: Vec<Strip>,
    /// Cells found in each strip.
    found: Vec<Mutex<Vec<Cell>>>,
    /// Idle workspaces, as many as threads have worked at the same time.
    workspaces: Mutex<Vec<Workspace>>,
    clock: Clock,
}

/// Scratch memory of one thread.
#[derive(Default)]
struct Workspace {
    resizer: Resizer,
    rings: Rings,
    /// A level as input of ONNX Runtime.
    tensor: Vec<f32>,
    /// Outputs of ONNX Runtime for that level.
    outputs: [Vec<f32>; 2],
}

/// A range of output rows of one level.
#[derive(Clone, Copy)]
struct Strip {
    level: Level,
    start: usize,
    end: usize,
}

impl Proposer {
    pub fn new(source: Source, options: &SessionOptions) -> Result<Self, RuntimeError> {
        let net = Arc::new(Network::load(Role::PNet, source, options)?);
        Ok(Self::with(net, options.thread_count()))
    }

    fn with(net: Arc<Network>, threads: usize) -> Self {
        Self {
            net,
            threads,
            mipmap: Mipmap::default(),
            strips: Vec::new(),
            found: Vec::new(),
            workspaces: Mutex::default(),
            clock: Clock::default(),
        }
    }

    /// The same network with scratch memory of its own.
    pub fn fork(&self) -> Self {
        Self::with(Arc::clone(&self.net), self.threads)
    }

    pub fn network(&self) -> &Network {
        &self.net
    }

    /// Starts with a new image.
    pub fn begin(&mut self) {
        self.mipmap.reset();
    }

    /// Time for the pyramid and for P-Net.
    pub fn clock(&mut self) -> &mut Clock {
        &mut self.clock
    }

    /// Appends the face candidates of a region of the image.
    pub fn propose(
        &mut self,
        view: &ImageView,
        region: Rect,
        params: &Params,
        candidates: &mut Vec<Candidate>,
    ) -> Result<(), RuntimeError> {
        let min_face = params.min_face_size.max(*MIN_FACE_SIZES.start()) as f32;
        let (least, most) = (*SCALE_FACTORS.start(), *SCALE_FACTORS.end());
        let factor = params.scale_factor.clamp(least, most);
        let levels = levels(region.width, region.height, min_face, factor);
        let threshold = |level: &Level| {
            let is_fine = level.scale > CELL / f64::from(min_face) * FINE_SCALES;
            if is_fine {
                with_odds(params.fine_odds, params.thresholds[0])
            } else {
                params.thresholds[0]
            }
        };
        let mut add = |level: Level, found: Vec<Cell>| {
            candidates.extend(settle(found, &level, region));
        };
        let net = Arc::clone(&self.net);
        if let Engine::Rows(rows) = net.engine() {
            self.sweep(rows, view, region, levels, threshold, add);
            return Ok(());
        }
        for level in levels {
            let least = threshold(&level);
            add(level, self.run_level(&net, view, region, &level, least)?);
        }
        Ok(())
    }

    /// Processes all levels with our own kernel.
    fn sweep(
        &mut self,
        net: &RowStream,
        view: &ImageView,
        region: Rect,
        levels: impl Iterator<Item = Level> + Clone,
        threshold: impl Fn(&Level) -> f32 + Sync,
        mut add: impl FnMut(Level, Vec<Cell>),
    ) {
        let begin = Clock::now();
        let coarsest = levels.clone().last().map_or(0.0, |level| level.cell());
        self.mipmap.make(view, coarsest, self.threads);
        self.clock.pixels(begin);
        self.strips.clear();
        for level in levels.clone() {
            let rows = output_size(level.width, level.height).1;
            let starts = (0..rows).step_by(STRIP);
            self.strips.extend(starts.map(|start| Strip {
                level,
                start,
                end: (start + STRIP).min(rows),
            }));
        }
        if self.found.len() < self.strips.len() {
            self.found.resize_with(self.strips.len(), Mutex::default);
        }
        share(self.threads, self.strips.len(), |number| {
            let strip = self.strips[number];
            let mut workspace = lock(&self.workspaces).pop().unwrap_or_default();
            let begin = Clock::now();
            let cell = strip.level.cell();
            let (source, size) = self.mipmap.smallest(view, cell);
            let resize = strip.level.resize(region, size);
            let rows = rows_seen(strip.start..strip.end, strip.level.height);
            let pixels = workspace.resizer.planes(&source, &resize, rows);
            let begin = self.clock.pixels(begin);
            let mut found = lock(&self.found[number]);
            found.clear();
            let width = strip.level.width;
            net.propose(
                pixels,
                width,
                strip.start,
                threshold(&strip.level),
                &mut workspace.rings,
                &mut found,
            );
            self.clock.network(begin);
            lock(&self.workspaces).push(workspace);
        });
        let mut number = 0;
        for level in levels {
            let strips = self.strips[number..].iter();
            let end = number + strips.take_while(|s| s.level == level).count();
            let all = self.found[number..end].iter().flat_map(|found| {
                let found = lock(found);
                (0..found.len()).map(move |i| found[i])
            });
            add(level, all.collect());
            number = end;
        }
    }

    /// Processes one level with ONNX Runtime.
    fn run_level(
        &mut self,
        net: &Network,
        view: &ImageView,
        region: Rect,
        level: &Level,
        threshold: f32,
    ) -> Result<Vec<Cell>, RuntimeError> {
        let mut workspace = lock(&self.workspaces).pop().unwrap_or_default();
        let Workspace {
            tensor,
            resizer,
            outputs,
            ..
        } = &mut workspace;
        tensor.resize(level.width * level.height * 3, 0.0);
        outputs.iter_mut().for_each(Vec::clear);
        resizer.tensor(view, &level.resize(region, 1.0), Layout::Columns, tensor);
        let ran = net.run(1, [1, level.width, level.height, 3], tensor, outputs);
        let [offsets, scores] = &*outputs;
        // The outputs have columns as the first axis, like the input.
        let rows = output_size(level.width, level.height).1.max(1);
        let cells = scores
            .as_chunks::<2>()
            .0
            .iter()
            .zip(offsets.as_chunks::<4>().0);
        let cells = cells
            .enumerate()
            .filter(|(_, (score, _))| score[1] >= threshold)
            .map(|(i, (score, offsets))| Cell {
                column: i / rows,
                row: i % rows,
                score: score[1],
                offsets: *offsets,
            })
            .collect();
        lock(&self.workspaces).push(workspace);
        ran.map(|()| cells)
    }
}

/// The probability whose odds are `times` those of the given one. The thresholds 0 and 1 are not changed: they let all
/// or nothing pass.
fn with_odds(times: f32, probability: f32) -> f32 {
    if probability >= 1.0 {
        return probability;
    }
    let odds = times * probability / (1.0 - probability);
    odds / (1.0 + odds)
}

/// Applies NMS to the cells of a level, and returns the rest as candidates in pixels of the image.
fn settle(found: Vec<Cell>, level: &Level, region: Rect) -> impl Iterator<Item = Candidate> {
    let candidate =
        |c: Cell| Candidate::from_cell(c.column, c.row, level.scale, c.score, c.offsets);
    let mut found: Vec<_> = found
        .into_iter()
        .map(candidate)
        .filter(Candidate::is_finite)
        .collect();
    if found.len() > MOST_OF_A_LEVEL {
        found.sort_by(|a, b| b.score.total_cmp(&a.score));
        found.truncate(MOST_OF_A_LEVEL);
    }
    let [x, y] = [region.x, region.y].map(f64::from);
    suppress(found, NMS_LEVEL, Overlap::Union, |c| c)
        .into_iter()
        .map(move |c| c.translate(x, y))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_keep_their_order_and_their_ends() {
        assert!((with_odds(2.0, 0.6) - 0.75).abs() < 1e-6);
        for end in [0.0, 1.0] {
            assert_eq!(with_odds(2.0, end), end);
        }
        let high = with_odds(2.0, 0.99);
        assert!(0.99 < high && high < 1.0);
    }
}
