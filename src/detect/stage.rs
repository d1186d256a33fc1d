//! R-Net and O-Net: a network that looks at squares of the picture.
//!
//! On the CPU our own kernels do it, as long as the network has only operators that they know. Any other network, and a
//! GPU, is ONNX Runtime's.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::boxes::Candidate;
use super::clock::Clock;
use super::net::{Buffers, Network};
use crate::image::ImageView;
use crate::resize::{Border, Filter, Layout, Resize, Resizer};
use crate::runtime::{Device, RuntimeError, Session, SessionOptions, Signature};
use crate::shared::Shared;
use crate::workers::{lock, share};

/// Squares in one run of ONNX Runtime: enough to fill the machine, 3.5 MB at most.
const BATCH: usize = 128;

/// Squares that a thread takes at a time.
const SHARE: usize = 6;

/// Where a network comes from.
pub enum Source<'a> {
    /// Its name in messages, and an ONNX file.
    Bytes(&'static str, &'a [u8]),
    File(&'a Path),
}

static NETWORKS: Shared<Network> = Shared::new();

impl Source<'_> {
    /// For our own kernels, if they are to run it and can. What is wrong with a file, ONNX Runtime will tell.
    pub fn own<T>(
        &self,
        options: &SessionOptions,
        shared: &Shared<T>,
        load: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Option<Arc<T>> {
        match self {
            _ if options.device != Device::Cpu => None,
            Self::Bytes(name, bytes) => shared.get(name, || load(bytes)),
            Self::File(path) => load(&std::fs::read(path).ok()?).map(Arc::new),
        }
    }

    pub fn session(
        &self,
        signature: &Signature,
        options: &SessionOptions,
    ) -> Result<Session, RuntimeError> {
        match self {
            Self::Bytes(name, bytes) => Session::from_bytes(name, bytes, signature, options),
            Self::File(path) => Session::from_file(path, signature, options),
        }
    }
}

/// A network and the memory that it works in.
pub struct Stage {
    net: Net,
    /// Pixels along each side of what the network sees.
    side: usize,
    threads: usize,
    /// What each share of the squares gave, output by output.
    shares: Vec<Mutex<Vec<Vec<f32>>>>,
    /// The same for all squares.
    outputs: Vec<Vec<f32>>,
    /// One for each thread that has helped.
    desks: Mutex<Vec<Desk>>,
    clock: Clock,
}

enum Net {
    Own(Arc<Network>),
    Runtime(Session, Box<Desk>),
}

/// What one thread works with.
#[derive(Default)]
struct Desk {
    resizer: Resizer,
    tensor: Vec<f32>,
    buffers: Buffers,
}

impl Stage {
    pub fn new(
        source: Source,
        signature: &Signature,
        options: &SessionOptions,
    ) -> Result<Self, RuntimeError> {
        let side = signature.input[1] as usize;
        let fits = |net: &Arc<Network>| {
            let widths = signature.outputs.iter().map(|o| o[1] as usize);
            net.widths().eq(widths)
        };
        let own = source.own(options, &NETWORKS, |bytes| Network::from_onnx(bytes, side));
        let net = match own.filter(fits) {
            Some(net) => Net::Own(net),
            None => Net::Runtime(source.session(signature, options)?, Box::default()),
        };
        Ok(Self {
            net,
            side,
            threads: options.thread_count(),
            shares: Vec::new(),
            outputs: vec![Vec::new(); signature.outputs.len()],
            desks: Mutex::default(),
            clock: Clock::default(),
        })
    }

    /// Time for crops and for the network.
    pub fn clock(&mut self) -> &mut Clock {
        &mut self.clock
    }

    /// How many squares the last run has come to.
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
        let end = time.map(|time| Instant::now() + time);
        match &mut self.net {
            Net::Own(_) => self.run_own(view, squares, end),
            Net::Runtime(session, desk) => {
                for (number, batch) in squares.chunks(BATCH).enumerate() {
                    if number > 0 && is_past(end) {
                        break;
                    }
                    let begin = Clock::now();
                    desk.cut(view, batch, self.side, Layout::Columns);
                    let begin = self.clock.pixels(begin);
                    let given =
                        session.run([batch.len(), self.side, self.side, 3], &desk.tensor)?;
                    for (i, output) in self.outputs.iter_mut().enumerate() {
                        output.extend_from_slice(given.get(i)?.1);
                    }
                    self.clock.network(begin);
                }
            }
        }
        Ok(&self.outputs)
    }

    fn run_own(&mut self, view: &ImageView, squares: &[Candidate], end: Option<Instant>) {
        let Net::Own(net) = &self.net else {
            return;
        };
        let count = squares.len().div_ceil(SHARE);
        if self.shares.len() < count {
            self.shares.resize_with(count, Mutex::default);
        }
        share(self.threads, count, |number| {
            let mut given = lock(&self.shares[number]);
            given.resize_with(self.outputs.len(), Vec::new);
            given.iter_mut().for_each(Vec::clear);
            if number > 0 && is_past(end) {
                return;
            }
            let squares = &squares[number * SHARE..];
            let squares = &squares[..SHARE.min(squares.len())];
            let mut desk = lock(&self.desks).pop().unwrap_or_default();
            let begin = Clock::now();
            desk.cut(view, squares, self.side, Layout::Rows);
            let begin = self.clock.pixels(begin);
            let Desk {
                tensor, buffers, ..
            } = &mut desk;
            net.run(tensor, buffers, |output, _, values| {
                given[output].extend_from_slice(values);
            });
            self.clock.network(begin);
            lock(&self.desks).push(desk);
        });
        for given in &self.shares[..count] {
            let given = lock(given);
            if given.iter().all(Vec::is_empty) {
                break;
            }
            for (all, given) in self.outputs.iter_mut().zip(given.iter()) {
                all.extend_from_slice(given);
            }
        }
    }
}

fn is_past(end: Option<Instant>) -> bool {
    end.is_some_and(|end| Instant::now() > end)
}

impl Desk {
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
    fn detectors_share_what_is_built_in_while_one_of_them_lives() {
        let shared = Shared::new();
        let options = SessionOptions::default();
        let own =
            |name, number: Option<u8>| Source::Bytes(name, b"").own(&options, &shared, |_| number);
        let first = own("one", Some(1)).unwrap();
        assert!(Arc::ptr_eq(&first, &own("one", Some(2)).unwrap()));
        assert_eq!(own("other", Some(3)).as_deref(), Some(&3));
        assert_eq!(own("none", None), None);
        drop(first);
        assert_eq!(own("one", Some(4)).as_deref(), Some(&4));
        let cuda = SessionOptions {
            device: Device::Cuda(0),
            ..options.clone()
        };
        let source = Source::Bytes("one", b"");
        assert_eq!(source.own(&cuda, &shared, |_| Some(5)), None);
    }
}
