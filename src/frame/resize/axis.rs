//! Resampling weights along one axis: which samples contribute to each output, and how much.

use std::ops::Range;

use super::{Border, Filter, Resize};
use crate::frame::image::{Channel, ImageView};

/// A rectangle larger than this, or not finite, is treated as outside the image.
const MAX_SOURCE: f32 = 1e6;

/// The samples that contribute to one output.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// First sample.
    pub first: usize,
    /// Index of the first sample's weight in [`Axis::weights`].
    pub weights: usize,
    /// Number of samples.
    pub count: usize,
    /// Sum of the weights: 1, or less if the span is partly outside the image and black there.
    pub sum: f32,
}

/// The spans and weights of one axis.
#[derive(Debug, Default)]
pub struct Axis {
    pub spans: Vec<Span>,
    pub weights: Vec<f32>,
    /// The weights with each span zero-padded to [`width`](Self::width).
    even: Vec<f32>,
    /// Number of weights of the longest span, rounded up to a multiple of 4.
    pub width: usize,
    /// Index of the first sample of each span, relative to the [`samples`](Self::samples) that are read.
    pub starts: Vec<usize>,
    /// Whether any span is partly outside the image and black there.
    outside: bool,
    /// Parameters of the current plan, which is reused for successive strips of an image.
    planned: Option<Planned>,
}

/// Parameters: the outputs `part` of `count`, over `start .. start + length` of `size` samples.
#[derive(Debug, Clone, PartialEq)]
struct Planned {
    start: f32,
    length: f32,
    size: usize,
    count: usize,
    part: Range<usize>,
    filter: Filter,
    border: Border,
}

/// Tolerance of the sum of weights for rounding.
const ROUNDING: f32 = 1e-5;

impl Axis {
    pub fn plan_rows(
        &mut self,
        view: &ImageView,
        resize: &Resize,
        channel: &Channel,
        part: &Range<usize>,
    ) {
        let scale = 1.0 / (1 << channel.shift_y) as f32;
        self.plan(Planned {
            start: resize.source.y * scale,
            length: resize.source.height * scale,
            size: channel.height(view.info().height),
            count: resize.height,
            part: part.clone(),
            filter: resize.filter,
            border: resize.border,
        });
    }

    pub fn plan_columns(
        &mut self,
        view: &ImageView,
        resize: &Resize,
        channel: &Channel,
        part: &Range<usize>,
    ) {
        let scale = 1.0 / (1 << channel.shift_x) as f32;
        // A chroma sample co-sited with the left one of its two columns is a quarter of its width further left than
        // one centred between them.
        let shift = if channel.shift_x > 0 && view.info().colorimetry.chroma_left {
            0.25
        } else {
            0.0
        };
        self.plan(Planned {
            start: resize.source.x * scale + shift,
            length: resize.source.width * scale,
            size: channel.width(view.info().width),
            count: resize.width,
            part: part.clone(),
            filter: resize.filter,
            border: resize.border,
        });
    }

    fn plan(&mut self, wanted: Planned) {
        if self.planned.as_ref() == Some(&wanted) {
            return;
        }
        self.spans.clear();
        self.weights.clear();
        let Planned { start, length, .. } = wanted;
        let usable = length > 0.0 && length <= MAX_SOURCE && start.abs() <= MAX_SOURCE;
        let step = f64::from(length) / wanted.count as f64;
        for i in wanted.part.clone() {
            let from = f64::from(start) + i as f64 * step;
            let weights = self.weights.len();
            let mut span = Span {
                first: 0,
                weights,
                count: 0,
                sum: 0.0,
            };
            if usable {
                self.weigh(from, step, &wanted, &mut span);
            }
            self.spans.push(span);
        }
        let most = self.spans.iter().map(|s| s.count).max().unwrap_or(0);
        self.width = most.next_multiple_of(4).max(4);
        self.even.clear();
        for span in &self.spans {
            let weights = &self.weights[span.weights..][..span.count];
            self.even.extend_from_slice(weights);
            let filled = self.even.len() + self.width - span.count;
            self.even.resize(filled, 0.0);
        }
        let begin = self.samples().start;
        let starts = self.spans.iter().map(|s| s.first.saturating_sub(begin));
        self.starts.clear();
        // Spans without weights may start anywhere, hence `saturating_sub`.
        self.starts.extend(starts);
        self.outside = self.spans.iter().any(|s| (s.sum - 1.0).abs() > ROUNDING);
        self.planned = Some(wanted);
    }

    /// Computes the weights of the samples of the output cell `from .. from + step`.
    fn weigh(&mut self, from: f64, step: f64, wanted: &Planned, span: &mut Span) {
        let (center, reach) = (from + step / 2.0, step.max(1.0));
        let (low, high) = match wanted.filter {
            Filter::Area => (from, from + step),
            // The centre of a sample is half a sample after its start.
            Filter::Linear => (center - reach - 0.5, center + reach + 0.5),
        };
        let (mut inside, mut all) = (0.0, 0.0);
        for sample in low.floor() as i64..high.ceil() as i64 {
            let at = sample as f64;
            let weight = match wanted.filter {
                Filter::Area => (at + 1.0).min(from + step) - at.max(from),
                Filter::Linear => 1.0 - (at + 0.5 - center).abs() / reach,
            };
            if weight <= 0.0 {
                continue;
            }
            all += weight;
            if (0..wanted.size as i64).contains(&sample) {
                if span.count == 0 {
                    span.first = sample as usize;
                }
                span.count += 1;
                inside += weight;
                self.weights.push(weight as f32);
            }
        }
        let total = match wanted.border {
            Border::Black => all,
            Border::Ignore => inside,
        };
        if total > 0.0 {
            for weight in &mut self.weights[span.weights..] {
                *weight = (f64::from(*weight) / total) as f32;
            }
            span.sum = (inside / total) as f32;
        }
    }

    /// Range of the samples that are read.
    pub fn samples(&self) -> Range<usize> {
        let used = || self.spans.iter().filter(|s| s.count > 0);
        let first = used().map(|s| s.first).min().unwrap_or(0);
        let end = used().map(|s| s.first + s.count).max().unwrap_or(first);
        first..end
    }

    /// Computes one output row from the blended samples of one component; the part outside the image counts as black.
    ///
    /// It is compiled for the baseline CPU, because the compiler would use gather instructions if available, which
    /// takes four times as long.
    pub fn blend_columns(&self, line: &[f32], row_sum: f32, black: f32, out: &mut [f32]) {
        match self.width {
            4 => contiguous::<4>(&self.even, line, &self.starts, out),
            8 => contiguous::<8>(&self.even, line, &self.starts, out),
            12 => contiguous::<12>(&self.even, line, &self.starts, out),
            width => {
                let weights = self.even.chunks_exact(width);
                for ((sum, &start), weights) in out.iter_mut().zip(&self.starts).zip(weights) {
                    let samples = line.get(start..start + width).unwrap_or_default();
                    *sum = weights.iter().zip(samples).map(|(w, s)| w * s).sum();
                }
            }
        }
        if self.outside || (row_sum - 1.0).abs() > ROUNDING {
            for (value, span) in out.iter_mut().zip(&self.spans) {
                *value += (1.0 - span.sum * row_sum) * black;
            }
        }
    }
}

/// Computes weighted sums of `WIDTH` contiguous samples each.
fn contiguous<const WIDTH: usize>(
    weights: &[f32],
    line: &[f32],
    starts: &[usize],
    out: &mut [f32],
) {
    let weights = weights.as_chunks::<WIDTH>().0;
    for ((sum, &start), w) in out.iter_mut().zip(starts).zip(weights) {
        let samples = line.get(start..).and_then(|l| l.first_chunk::<WIDTH>());
        let mut lanes = [0.0; 4];
        for (w, s) in w
            .chunks_exact(4)
            .zip(samples.iter().flat_map(|s| s.chunks_exact(4)))
        {
            for i in 0..4 {
                lanes[i] += w[i] * s[i];
            }
        }
        *sum = (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
    }
}
