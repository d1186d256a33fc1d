//! The first stage: P-Net on the levels of a pyramid, in strips that threads share.
//!
//! On the CPU our own kernels do it. A GPU, or a network of another graph than `models/pnet.onnx`, is ONNX Runtime's.

use std::sync::{Arc, Mutex};

use super::Params;
use super::boxes::{CELL, Candidate, Overlap, suppress};
use super::clock::Clock;
use super::pnet::{Cell, ProposalNet, Rings, output_size, rows_seen};
use super::pyramid::{Level, levels};
use super::stage::Source;
use super::{MIN_FACE_SIZES, SCALE_FACTORS};
use crate::geometry::Rect;
use crate::image::ImageView;
use crate::mipmap::Mipmap;
use crate::resize::{Layout, Resizer};
use crate::runtime::{RuntimeError, Session, SessionOptions, Signature};
use crate::shared::Shared;
use crate::workers::{lock, share};

const SIGNATURE: Signature = Signature {
    name: "MTCNN's P-Net",
    input: &[-1, -1, -1, 3],
    outputs: &[&[-1, -1, -1, 4], &[-1, -1, -1, 2]],
};

/// Overlap at which boxes of one level count as one face (reference ports).
const NMS_LEVEL: f64 = 0.5;

/// Scale of the finest levels, in that of the first.
const FINE_SCALES: f64 = 0.6;

/// Candidates of one level that are looked at, best first. Real scenes stay far below; the limit
/// keeps a threshold of 0 from taking minutes.
const MAX_CANDIDATES: usize = 5_000;

/// Rows of the output that are made at a time. Four more are begun for them in vain, but what is read stays in the
/// cache, and threads have something to share.
const STRIP: usize = 32;

static NETWORKS: Shared<ProposalNet> = Shared::new();

/// P-Net and the memory that it works in.
pub struct Proposer {
    net: Net,
    threads: usize,
    mipmap: Mipmap,
    strips: Vec<Strip>,
    /// What each strip gave.
    found: Vec<Mutex<Vec<Cell>>>,
    /// One for each thread that has helped.
    desks: Mutex<Vec<Desk>>,
    clock: Clock,
}

enum Net {
    Own(Arc<ProposalNet>),
    Runtime(Session, Box<Desk>),
}

/// What one thread works with.
#[derive(Default)]
struct Desk {
    resizer: Resizer,
    rings: Rings,
    tensor: Vec<f32>,
}

/// Rows of the output for one level.
#[derive(Clone, Copy)]
struct Strip {
    level: Level,
    start: usize,
    end: usize,
}

impl Proposer {
    pub fn new(source: Source, options: &SessionOptions) -> Result<Self, RuntimeError> {
        let own = source.own(options, &NETWORKS, ProposalNet::from_onnx);
        let net = match own {
            Some(net) => Net::Own(net),
            None => Net::Runtime(source.session(&SIGNATURE, options)?, Box::default()),
        };
        Ok(Self {
            net,
            threads: options.thread_count(),
            mipmap: Mipmap::default(),
            strips: Vec::new(),
            found: Vec::new(),
            desks: Mutex::default(),
            clock: Clock::default(),
        })
    }

    /// A new picture.
    pub fn begin(&mut self) {
        self.mipmap.reset();
    }

    /// Time for the pyramid and for P-Net.
    pub fn clock(&mut self) -> &mut Clock {
        &mut self.clock
    }

    /// Adds where in a region of the picture faces may be.
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
        match &mut self.net {
            Net::Own(_) => {
                self.sweep(view, region, levels, threshold, add);
                Ok(())
            }
            Net::Runtime(session, desk) => {
                for level in levels {
                    let least = threshold(&level);
                    add(
                        level,
                        run_level(session, desk, view, region, &level, least)?,
                    );
                }
                Ok(())
            }
        }
    }

    /// By our own kernels.
    fn sweep(
        &mut self,
        view: &ImageView,
        region: Rect,
        levels: impl Iterator<Item = Level> + Clone,
        threshold: impl Fn(&Level) -> f32 + Sync,
        mut add: impl FnMut(Level, Vec<Cell>),
    ) {
        let Net::Own(net) = &self.net else {
            return;
        };
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
            let mut desk = lock(&self.desks).pop().unwrap_or_default();
            let begin = Clock::now();
            let cell = strip.level.cell();
            let (source, size) = self.mipmap.smallest(view, cell);
            let resize = strip.level.resize(region, size);
            let rows = rows_seen(strip.start..strip.end, strip.level.height);
            let pixels = desk.resizer.planes(&source, &resize, rows);
            let begin = self.clock.pixels(begin);
            let mut found = lock(&self.found[number]);
            found.clear();
            let width = strip.level.width;
            net.propose(
                pixels,
                width,
                strip.start,
                threshold(&strip.level),
                &mut desk.rings,
                &mut found,
            );
            self.clock.network(begin);
            lock(&self.desks).push(desk);
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
}

/// A probability of so many times the odds. 0 and 1 stay what they are: let all pass, let nothing pass.
fn with_odds(times: f32, probability: f32) -> f32 {
    if probability >= 1.0 {
        return probability;
    }
    let odds = times * probability / (1.0 - probability);
    odds / (1.0 + odds)
}

/// By ONNX Runtime: one level.
fn run_level(
    session: &mut Session,
    desk: &mut Desk,
    view: &ImageView,
    region: Rect,
    level: &Level,
    threshold: f32,
) -> Result<Vec<Cell>, RuntimeError> {
    let Desk {
        tensor, resizer, ..
    } = desk;
    tensor.resize(level.width * level.height * 3, 0.0);
    resizer.tensor(view, &level.resize(region, 1.0), Layout::Columns, tensor);
    let outputs = session.run([1, level.width, level.height, 3], tensor)?;
    let (_, offsets) = outputs.get(0)?;
    let (shape, scores) = outputs.get(1)?;
    // Columns first, as the input.
    let rows = shape.get(2).map_or(1, |&rows| rows.max(1) as usize);
    let cells = scores
        .as_chunks::<2>()
        .0
        .iter()
        .zip(offsets.as_chunks::<4>().0);
    Ok(cells
        .enumerate()
        .filter(|(_, (score, _))| score[1] >= threshold)
        .map(|(i, (score, offsets))| Cell {
            column: i / rows,
            row: i % rows,
            score: score[1],
            offsets: *offsets,
        })
        .collect())
}

/// The cells of a level that stand for faces of their own, in the picture.
fn settle(found: Vec<Cell>, level: &Level, region: Rect) -> impl Iterator<Item = Candidate> {
    let candidate =
        |c: Cell| Candidate::from_cell(c.column, c.row, level.scale, c.score, c.offsets);
    let mut found: Vec<_> = found
        .into_iter()
        .map(candidate)
        .filter(Candidate::is_finite)
        .collect();
    if found.len() > MAX_CANDIDATES {
        found.sort_by(|a, b| b.score.total_cmp(&a.score));
        found.truncate(MAX_CANDIDATES);
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
