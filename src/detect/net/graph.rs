//! From the operators of an ONNX file to steps.

use super::{BLOCK, Network, Operation, Pool, Shape, Step, Sum, Taps};
use crate::onnx::{Graph, Node};

/// Reads one file.
struct Reader {
    /// Numbers of a vector of this CPU.
    lanes: usize,
    shapes: Vec<Shape>,
    steps: Vec<Step>,
    /// The buffer that each node ends in, and how many of its channels, or numbers, there are in the file.
    results: Vec<Option<(usize, usize)>>,
    /// The step with which the dense layers begin, and the shape of what they begin with, as it was.
    flat: Option<(usize, Shape, usize)>,
}

/// Takes square windows of `side` pixels, for vectors of so many `lanes`.
pub fn network(bytes: &[u8], side: usize, lanes: usize) -> Option<Network> {
    let Graph { nodes, outputs, .. } = Graph::read(bytes)?;
    let input = Shape {
        width: side,
        height: side,
        channels: 3,
    };
    let mut reader = Reader {
        lanes,
        shapes: vec![input],
        steps: Vec::new(),
        results: vec![None; nodes.len()],
        flat: None,
    };
    for (number, node) in nodes.iter().enumerate() {
        reader.results[number] = Some(reader.add(node)?);
    }
    let outputs: Vec<_> = outputs
        .into_iter()
        .map(|node| reader.results[node])
        .collect::<Option<_>>()?;
    reader.fuse_slopes();
    reader.fuse_bends(&outputs);
    let (dense, shape, _) = reader.flat?;
    // What nothing reads needs no memory.
    for number in 0..reader.shapes.len() {
        let is_flat = reader.steps[dense..]
            .first()
            .is_some_and(|s| s.from == number);
        if number > 0 && !is_flat && reader.steps.iter().all(|s| s.to != number) {
            reader.shapes[number].channels = 0;
        }
    }
    let dense = reader.steps.split_off(dense);
    Some(Network {
        side,
        spatial: reader.steps,
        features: shape.len(),
        dense,
        sizes: reader.shapes.iter().map(Shape::len).collect(),
        groups: reader.shapes.iter().map(|s| s.channels).collect(),
        outputs,
    })
}

impl Reader {
    /// The buffer that a node ends in, and its channels.
    fn add(&mut self, node: &Node) -> Option<(usize, usize)> {
        let from = match node.sources.first() {
            Some(&source) => self.results[source]?,
            None => (0, 3),
        };
        let (buffer, channels) = from;
        let shape = self.shapes[buffer];
        let number = |name: &str| node.numbers.get(name).and_then(|n| n.first()).copied();
        match node.operator.as_str() {
            // To channels first, as ONNX wants them; here they stay last.
            "Transpose" if node.sources.is_empty() => Some(from),
            "Conv" if number("group").unwrap_or(1) == 1 => self.convolution(node, from),
            // Each channel times a factor.
            "Conv" => {
                let weights = node.constants.first()?;
                let is_factor = weights.shape == [channels, 1, 1, 1] && node.constants.len() == 1;
                let factors = filled(&weights.values, shape.channels);
                is_factor.then(|| {
                    let bend = Operation::Bend(factors.clone(), factors);
                    self.push(bend, buffer, shape, channels)
                })
            }
            "Relu" => {
                let (above, below) = (vec![1.0; shape.channels], vec![0.0; shape.channels]);
                Some(self.push(Operation::Bend(above, below), buffer, shape, channels))
            }
            "PRelu" => {
                let slopes = &node.constants.first()?.values;
                (slopes.len() == channels).then(|| {
                    let above = vec![1.0; shape.channels];
                    let bend = Operation::Bend(above, filled(slopes, shape.channels));
                    self.push(bend, buffer, shape, channels)
                })
            }
            "Add" => {
                let other = self.results[*node.sources.get(1)?]?;
                let fits = self.shapes[other.0] == shape && other.1 == channels;
                fits.then(|| self.push(Operation::Add(other.0), buffer, shape, channels))
            }
            "MaxPool" => self.pool(node, from),
            // From here on a window is a row of numbers. It is copied there from the buffer before.
            "Flatten" => {
                let is_last = buffer + 1 == self.shapes.len() && self.flat.is_none();
                is_last.then(|| {
                    self.flat = Some((self.steps.len(), shape, channels));
                    let row = Shape {
                        width: 1,
                        height: 1,
                        channels: shape.len(),
                    };
                    self.shapes.push(row);
                    (buffer + 1, shape.width * shape.height * channels)
                })
            }
            "Gemm" => self.dense(node, from),
            "Softmax" => Some(self.push(Operation::Softmax(channels), buffer, shape, channels)),
            _ => None,
        }
    }

    fn push(
        &mut self,
        operation: Operation,
        from: usize,
        to: Shape,
        channels: usize,
    ) -> (usize, usize) {
        self.shapes.push(to);
        let to = self.shapes.len() - 1;
        self.steps.push(Step {
            operation,
            from,
            to,
        });
        (to, channels)
    }

    fn convolution(
        &mut self,
        node: &Node,
        (mut buffer, channels): (usize, usize),
    ) -> Option<(usize, usize)> {
        let weights = node.constants.first()?;
        let &[out, into, size, columns] = &weights.shape[..] else {
            return None;
        };
        let all = |name: &str, value: i64| {
            let numbers = node.numbers.get(name);
            numbers.is_none_or(|n| n.iter().all(|&n| n == value))
        };
        let auto = node.texts.get("auto_pad").map(String::as_str);
        let plain = matches!(auto, None | Some("" | "NOTSET" | "VALID"));
        let by = node
            .numbers
            .get("pads")
            .and_then(|p| p.first())
            .copied()
            .unwrap_or(0);
        let fits = into == channels && size == columns && plain && self.flat.is_none();
        if !fits || !all("pads", by) || !all("strides", 1) || !all("dilations", 1) {
            return None;
        }
        let by = usize::try_from(by).ok().filter(|by| *by < size)?;
        let mut shape = self.shapes[buffer];
        if by > 0 {
            let wide = Shape {
                width: shape.width + 2 * by,
                height: shape.height + 2 * by,
                ..shape
            };
            buffer = self
                .push(Operation::Pad(shape, by), buffer, wide, channels)
                .0;
            shape = wide;
        }
        let to = Shape {
            width: (shape.width + 1).checked_sub(size).filter(|n| *n > 0)?,
            height: (shape.height + 1).checked_sub(size).filter(|n| *n > 0)?,
            channels: out.next_multiple_of(BLOCK),
        };
        let run = size * shape.channels;
        let mut sum = Sum {
            places: (0..to.height)
                .flat_map(|y| (0..to.width).map(move |x| y * shape.row() + x * shape.channels))
                .collect(),
            ..self.empty(
                to.channels,
                (0..size).flat_map(|y| (0..run).map(move |at| y * shape.row() + at)),
            )
        };
        if let Some(bias) = node.constants.get(1) {
            sum.bias = filled(&bias.values, to.channels);
        }
        sum.fill(|set| {
            // In the file columns come before rows.
            for (i, &w) in weights.values.iter().enumerate() {
                let (y, x) = (i % size, i / size % size);
                let (o, c) = (i / (size * size * into), i / (size * size) % into);
                set(o, y * run + x * shape.channels + c, w);
            }
        });
        Some(self.push(Operation::Sum(sum), buffer, to, out))
    }

    fn dense(&mut self, node: &Node, (buffer, numbers): (usize, usize)) -> Option<(usize, usize)> {
        let (_, spatial, channels) = self.flat?;
        let (weights, bias) = (node.constants.first()?, node.constants.get(1)?);
        let &[into, out] = &weights.shape[..] else {
            return None;
        };
        let turned = ["transA", "transB"].iter().any(|name| {
            let value = node.numbers.get(*name).and_then(|n| n.first());
            value.is_some_and(|&n| n != 0)
        });
        if turned || into != numbers || bias.values.len() != out {
            return None;
        }
        let shape = self.shapes[buffer];
        let to = Shape {
            width: 1,
            height: 1,
            channels: out.next_multiple_of(BLOCK),
        };
        let mut sum = Sum {
            places: vec![0],
            ..self.empty(to.channels, 0..shape.channels)
        };
        sum.bias = filled(&bias.values, to.channels);
        // The first one reads what was flattened channel after channel, column after column.
        let is_first =
            shape.channels == spatial.len() && numbers == spatial.width * spatial.height * channels;
        let at = |i: usize| {
            if !is_first {
                return i;
            }
            let (y, x) = (i % spatial.height, i / spatial.height % spatial.width);
            let c = i / (spatial.height * spatial.width);
            (y * spatial.width + x) * spatial.channels + c
        };
        sum.fill(|set| {
            for (i, &w) in weights.values.iter().enumerate() {
                set(i % out, at(i / out), w);
            }
        });
        Some(self.push(Operation::Sum(sum), buffer, to, out))
    }

    fn pool(&mut self, node: &Node, (buffer, channels): (usize, usize)) -> Option<(usize, usize)> {
        let from = self.shapes[buffer];
        let numbers = |name: &str| node.numbers.get(name).map(Vec::as_slice);
        let Some(&[size, columns]) = numbers("kernel_shape") else {
            return None;
        };
        let zero = |name: &str| numbers(name).is_none_or(|n| n.iter().all(|&n| n == 0));
        let fits = size == columns && size >= 2 && numbers("strides") == Some(&[2, 2]);
        if !fits || !zero("pads") || !zero("ceil_mode") {
            return None;
        }
        let size = usize::try_from(size).ok()?;
        let side = |pixels: usize| match node.texts.get("auto_pad").map(String::as_str) {
            // With squares of three, the pixel that is missing is one at the end only where sides are even.
            Some("SAME_UPPER") if size == 2 || pixels.is_multiple_of(2) => Some(pixels.div_ceil(2)),
            Some("SAME_UPPER") => None,
            None | Some("" | "NOTSET" | "VALID") => Some(pixels.checked_sub(size)? / 2 + 1),
            _ => None,
        };
        let to = Shape {
            width: side(from.width)?,
            height: side(from.height)?,
            channels: from.channels,
        };
        let whole = self.flat.is_none() && from.channels.is_multiple_of(BLOCK);
        let pool = Pool { size, from, to };
        whole.then(|| self.push(Operation::Pool(pool), buffer, to, channels))
    }

    /// Without weights, from so many inputs.
    fn empty(&self, channels: usize, steps: impl Iterator<Item = usize>) -> Sum {
        let steps: Vec<_> = steps.map(|step| step as u32).collect();
        // As many vectors as leave registers for a tile of sums.
        let most = match self.lanes {
            16 => 4,
            8 => 2,
            4 => 4,
            _ => 16,
        };
        let vectors = (1..=most)
            .rev()
            .find(|v| channels.is_multiple_of(v * self.lanes));
        Sum {
            taps: Taps::Numbers(Vec::new()),
            bias: vec![0.0; channels],
            bend: (vec![1.0; channels], vec![1.0; channels]),
            places: Vec::new(),
            span: steps.last().map_or(0, |last| *last as usize + 1),
            steps,
            channels,
            block: vectors.unwrap_or(1) * self.lanes,
        }
    }

    /// How many steps read a buffer.
    fn readers(&self, buffer: usize) -> usize {
        let reads = |s: &&Step| {
            s.from == buffer || matches!(s.operation, Operation::Add(other) if other == buffer)
        };
        self.steps.iter().filter(reads).count()
    }

    /// Bends what is summed up before it is stored, where nothing else reads it.
    fn fuse_bends(&mut self, outputs: &[(usize, usize)]) {
        for number in (1..self.steps.len()).rev() {
            let made = self.steps[number - 1].to;
            let is_read =
                self.readers(made) > 1 || outputs.iter().any(|(buffer, _)| *buffer == made);
            let (before, after) = self.steps.split_at_mut(number);
            let (sum, step) = (&mut before[number - 1], &after[0]);
            if let (Operation::Sum(summed), Operation::Bend(above, below)) =
                (&mut sum.operation, &step.operation)
                && step.from == made
                && !is_read
                && !summed.is_bent()
            {
                summed.bend = (above.clone(), below.clone());
                sum.to = step.to;
                self.remove(number);
            }
        }
    }

    /// Makes one bend of what some files write as four operators: below · y + factor · relu(y).
    fn fuse_slopes(&mut self) {
        for last in (3..self.steps.len()).rev() {
            if let Some(step) = self.slopes(last) {
                self.steps[last - 3] = step;
                for _ in 0..3 {
                    self.remove(last - 2);
                }
            }
        }
    }

    /// The bend that the four steps up to this one are.
    fn slopes(&self, last: usize) -> Option<Step> {
        let [a, b, c, add] = self.steps.get(last.checked_sub(3)?..=last)? else {
            return None;
        };
        // The branch of two steps comes after or before the other one.
        let (relu, factor, below) = if b.to == c.from { (b, c, a) } else { (a, b, c) };
        let Operation::Add(other) = add.operation else {
            return None;
        };
        let bend = |step: &Step| match &step.operation {
            Operation::Bend(above, below) => Some((above.clone(), below.clone())),
            _ => None,
        };
        let ((up, down), (factors, _), (slopes, same)) = (bend(relu)?, bend(factor)?, bend(below)?);
        let is_relu = up.iter().all(|&s| s == 1.0) && down.iter().all(|&s| s == 0.0);
        let ends = [add.from, other];
        let joined = ends == [factor.to, below.to] || ends == [below.to, factor.to];
        let alone = [relu.to, factor.to, below.to]
            .iter()
            .all(|&b| self.readers(b) == 1);
        if !is_relu || slopes != same || !joined || !alone {
            return None;
        }
        (factor.from == relu.to && relu.from == below.from).then(|| Step {
            operation: Operation::Bend(
                factors.iter().zip(&slopes).map(|(f, s)| f + s).collect(),
                slopes,
            ),
            from: relu.from,
            to: add.to,
        })
    }

    fn remove(&mut self, number: usize) {
        self.steps.remove(number);
        if let Some((flat, ..)) = &mut self.flat
            && *flat > number
        {
            *flat -= 1;
        }
    }
}

impl Sum {
    fn is_bent(&self) -> bool {
        let (above, below) = &self.bend;
        above.iter().chain(below).any(|slope| *slope != 1.0)
    }

    /// Takes the weights: channel of the output, step, weight.
    fn fill(&mut self, weights: impl FnOnce(&mut dyn FnMut(usize, usize, f32))) {
        let (block, steps) = (self.block, self.steps.len());
        let mut taps = vec![0.0; self.channels * steps];
        weights(&mut |channel, step, weight| {
            let (number, lane) = (channel / block, channel % block);
            taps[(number * steps + step) * block + lane] = weight;
        });
        self.taps = Taps::Numbers(taps);
    }
}

/// With zeros to a length.
fn filled(values: &[f32], length: usize) -> Vec<f32> {
    let mut values = values.to_vec();
    values.resize(length, 0.0);
    values
}
