//! R-Net and O-Net: networks that process square crops of the image.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::boxes::Candidate;
use super::clock::Clock;
use crate::frame::image::ImageView;
use crate::frame::resize::{Border, Filter, Layout, Resize, Resizer};
use crate::nn::{Axes, Network, Role, RuntimeError, SessionOptions, Source};
use crate::threads::{lock, share};

/// Crops in one run of ONNX Runtime, which has threads of its own: enough to use all cores, 3.5 MB at most.
const BATCH: usize = 128;

/// Crops that a thread processes at a time.
const SHARE: usize = 6;

/// A network and its scratch memory.
pub struct Stage {
    net: Arc<Network>,
    /// Side of the network's input in pixels.
    side: usize,
    threads: usize,
    /// Outputs of the network for each share of the crops.
    shares: Vec<Mutex<Result<Vec<Vec<f32>>, RuntimeError>>>,
    /// Outputs of the network for all crops.
    outputs: Vec<Vec<f32>>,
    /// Idle workspaces, as many as threads have worked at the same time.
    workspaces: Mutex<Vec<Workspace>>,
    clock: Clock,
}

/// Scratch memory of one thread.
#[derive(Default)]
struct Workspace {
    resizer: Resizer,
    tensor: Vec<f32>,
}

impl Stage {
    pub fn new(role: Role, source: Source, options: &SessionOptions) -> Result<Self, RuntimeError> {
        let net = Arc::new(Network::load(role, source, options)?);
        Ok(Self::with(net, options.thread_count()))
    }

    fn with(net: Arc<Network>, threads: usize) -> Self {
        let signature = net.role().signature();
        Self {
            side: signature.input[1] as usize,
            threads,
            shares: Vec::new(),
            outputs: vec![Vec::new(); signature.outputs.len()],
            workspaces: Mutex::default(),
            clock: Clock::default(),
            net,
        }
    }

    /// The same network with scratch memory of its own.
    pub fn fork(&self) -> Self {
        Self::with(Arc::clone(&self.net), self.threads)
    }

    pub fn network(&self) -> &Network {
        &self.net
    }

    /// Time for crops and for the network.
    pub fn clock(&mut self) -> &mut Clock {
        &mut self.clock
    }

    /// Number of crops that the last run processed in time.
    pub fn squares(&self) -> usize {
        // The last output has two scores per crop: no face, face.
        self.outputs.last().map_or(0, |scores| scores.len() / 2)
    }

    /// Runs the network on crops and returns its outputs, each `[squares, width]`. No further crops are started after
    /// `time`, so outputs of the last ones may be missing.
    pub fn run(
        &mut self,
        view: &ImageView,
        squares: &[Candidate],
        time: Option<Duration>,
    ) -> Result<&[Vec<f32>], RuntimeError> {
        self.outputs.iter_mut().for_each(Vec::clear);
        let end = time.and_then(deadline);
        let (threads, each) = match self.net.is_own() {
            true => (self.threads, SHARE),
            false => (1, BATCH),
        };
        let count = squares.len().div_ceil(each);
        if self.shares.len() < count {
            self.shares
                .resize_with(count, || Mutex::new(Ok(Vec::new())));
        }
        share(threads, count, |number| {
            let mut given = lock(&self.shares[number]);
            let mut outputs = std::mem::replace(&mut *given, Ok(Vec::new())).unwrap_or_default();
            outputs.resize_with(self.outputs.len(), Vec::new);
            outputs.iter_mut().for_each(Vec::clear);
            if number == 0 || !is_past(end) {
                let squares = &squares[number * each..];
                let squares = &squares[..each.min(squares.len())];
                *given = self.look(view, squares, &mut outputs).map(|()| outputs);
            } else {
                *given = Ok(outputs);
            }
        });
        for given in &self.shares[..count] {
            let mut given = lock(given);
            match &*given {
                Ok(given) if given.iter().all(Vec::is_empty) => break,
                Ok(given) => {
                    for (all, given) in self.outputs.iter_mut().zip(given.iter()) {
                        all.extend_from_slice(given);
                    }
                }
                // The error is replaced by an empty share for the next run.
                Err(_) => std::mem::replace(&mut *given, Ok(Vec::new())).map(|_| ())?,
            }
        }
        Ok(&self.outputs)
    }

    /// Processes some of the crops on the calling thread.
    fn look(
        &self,
        view: &ImageView,
        squares: &[Candidate],
        outputs: &mut [Vec<f32>],
    ) -> Result<(), RuntimeError> {
        let mut workspace = lock(&self.workspaces).pop().unwrap_or_default();
        let begin = Clock::now();
        let layout = match self.net.axes() {
            Axes::RowsFirst => Layout::Rows,
            Axes::ColumnsFirst => Layout::Columns,
        };
        workspace.cut(view, squares, self.side, layout);
        let begin = self.clock.pixels(begin);
        let shape = [squares.len(), self.side, self.side, 3];
        let ran = self.net.run(1, shape, &workspace.tensor, outputs);
        self.clock.network(begin);
        lock(&self.workspaces).push(workspace);
        ran
    }
}

/// The end of a time budget; `None` if it is beyond the range of the clock.
fn deadline(time: Duration) -> Option<Instant> {
    Instant::now().checked_add(time)
}

fn is_past(end: Option<Instant>) -> bool {
    end.is_some_and(|end| Instant::now() > end)
}

impl Workspace {
    /// Resamples the crops to one tensor, `[n, side, side, 3]`. Mipmap levels are not used, because boxes would shift.
    fn cut(&mut self, view: &ImageView, squares: &[Candidate], side: usize, layout: Layout) {
        let length = side * side * 3;
        self.tensor.resize(squares.len() * length, 0.0);
        for (square, out) in squares.iter().zip(self.tensor.chunks_exact_mut(length)) {
            let resize = Resize {
                source: square.crop(),
                width: side,
                height: side,
                filter: Filter::Area,
                border: Border::Black,
            };
            self.resizer.tensor(view, &resize, layout, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_beyond_what_the_clock_can_tell_is_no_limit() {
        assert_eq!(deadline(Duration::MAX), None);
        assert!(deadline(Duration::ZERO).is_some());
        assert!(!is_past(None));
    }
}
