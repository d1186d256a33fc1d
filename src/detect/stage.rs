//! R-Net and O-Net: a network that looks at squares of the image.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::boxes::Candidate;
use super::clock::Clock;
use crate::frame::image::ImageView;
use crate::frame::resize::{Border, Filter, Layout, Resize, Resizer};
use crate::nn::{Axes, Network, Role, RuntimeError, SessionOptions, Source};
use crate::threads::{lock, share};

/// Squares in one run of ONNX Runtime, which has threads of its own: enough to fill the machine, 3.5 MB at most.
const BATCH: usize = 128;

/// Squares that a thread takes at a time.
const SHARE: usize = 6;

/// A network and the memory that it works in.
pub struct Stage {
    net: Arc<Network>,
    /// Pixels along each side of what the network sees.
    side: usize,
    threads: usize,
    /// What each share of the squares gave, output by output.
    shares: Vec<Mutex<Result<Vec<Vec<f32>>, RuntimeError>>>,
    /// The same for all squares.
    outputs: Vec<Vec<f32>>,
    /// One for each thread that has helped.
    workspaces: Mutex<Vec<Workspace>>,
    clock: Clock,
}

/// What one thread cuts squares with.
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

    /// The same network with memory of its own.
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

    /// How many squares the last run had time for.
    pub fn squares(&self) -> usize {
        // The scores come last: no face, face.
        self.outputs.last().map_or(0, |scores| scores.len() / 2)
    }

    /// What the network says of each square: its outputs, each `[squares, width]`. After `time` no more squares are
    /// begun: the last ones are missing then.
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
                // Leaves an empty share for the next run.
                Err(_) => std::mem::replace(&mut *given, Ok(Vec::new())).map(|_| ())?,
            }
        }
        Ok(&self.outputs)
    }

    /// Some of the squares, on the thread that calls.
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

/// `None` if it is beyond what the clock can tell.
fn deadline(time: Duration) -> Option<Instant> {
    Instant::now().checked_add(time)
}

fn is_past(end: Option<Instant>) -> bool {
    end.is_some_and(|end| Instant::now() > end)
}

impl Workspace {
    /// The squares as one tensor `[n, side, side, 3]`. Not from halves of the picture: boxes would move.
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
