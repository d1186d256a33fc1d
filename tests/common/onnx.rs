//! Writes small ONNX files with the fields of <https://github.com/onnx/onnx/blob/main/onnx/onnx.proto> that tests
//! need.

#![allow(dead_code, reason = "each test program uses a part of this")]

use std::collections::HashMap;

/// A protobuf message.
#[derive(Default, Clone)]
pub struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    pub fn int(mut self, field: u64, value: i64) -> Self {
        self.varint(field << 3);
        self.varint(value as u64);
        self
    }

    pub fn float(mut self, field: u64, value: f32) -> Self {
        self.varint(field << 3 | 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    pub fn bytes(mut self, field: u64, value: impl AsRef<[u8]>) -> Self {
        self.varint(field << 3 | 2);
        self.varint(value.as_ref().len() as u64);
        self.0.extend(value.as_ref());
        self
    }

    pub fn all<T>(self, values: &[T], add: impl Fn(Self, &T) -> Self) -> Self {
        values.iter().fold(self, add)
    }
}

impl AsRef<[u8]> for Message {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// The value of an attribute.
#[derive(Clone, Copy)]
pub enum Value<'a> {
    Float(f32),
    Int(i64),
    Text(&'a str),
    Ints(&'a [i64]),
}

pub type Attribute<'a> = (&'a str, Value<'a>);

fn attribute(&(name, value): &Attribute) -> Message {
    let message = Message::default().bytes(1, name);
    match value {
        Value::Float(value) => message.float(2, value).int(20, 1),
        Value::Int(value) => message.int(3, value).int(20, 2),
        Value::Text(value) => message.bytes(4, value).int(20, 3),
        Value::Ints(values) => message.all(values, |m, &n| m.int(8, n)).int(20, 7),
    }
}

/// The values of a tensor.
#[derive(Clone, Copy)]
pub enum Data<'a> {
    F32(&'a [f32]),
    U8(&'a [u8]),
    I8(&'a [i8]),
    I32(&'a [i32]),
    I64(&'a [i64]),
}

impl Data<'_> {
    /// The `TensorProto.DataType`, and the bytes in little-endian order.
    fn raw(self) -> (i64, Vec<u8>) {
        match self {
            Self::F32(all) => (1, all.iter().flat_map(|n| n.to_le_bytes()).collect()),
            Self::U8(all) => (2, all.to_vec()),
            Self::I8(all) => (3, all.iter().map(|&n| n as u8).collect()),
            Self::I32(all) => (6, all.iter().flat_map(|n| n.to_le_bytes()).collect()),
            Self::I64(all) => (7, all.iter().flat_map(|n| n.to_le_bytes()).collect()),
        }
    }
}

/// A tensor with its shape; `rest` are further fields.
pub fn tensor(name: &str, dims: &[usize], data: Data, rest: Message) -> Message {
    let (data_type, raw) = data.raw();
    let message = Message::default()
        .all(dims, |m, &n| m.int(1, n as i64))
        .int(2, data_type)
        .bytes(8, name)
        .bytes(9, raw);
    Message([message.0, rest.0].concat())
}

/// A model with the input `x`: `[N, height, width, channels]`, float32.
#[derive(Clone)]
pub struct Model {
    pub item: [usize; 3],
    /// Domain and version.
    pub opsets: Vec<(&'static str, i64)>,
    /// Further fields of the model.
    pub rest: Message,
    /// Nodes, initializers and outputs.
    pub graph: Message,
    pub outputs: usize,
    /// Number of values per operator, for names.
    count: HashMap<String, usize>,
}

impl Model {
    pub fn new(item: [usize; 3]) -> Self {
        Self {
            item,
            opsets: vec![("", 17)],
            rest: Message::default(),
            graph: Message::default(),
            outputs: 0,
            count: HashMap::new(),
        }
    }

    /// Returns `Conv_0`, `Conv_1` and so on.
    fn new_name(&mut self, kind: &str) -> String {
        let count = self.count.entry(kind.to_owned()).or_default();
        *count += 1;
        format!("{kind}_{}", *count - 1)
    }

    fn add(&mut self, field: u64, message: &Message) {
        self.graph = std::mem::take(&mut self.graph).bytes(field, message);
    }

    pub fn initializer(&mut self, tensor: &Message) {
        self.add(5, tensor);
    }

    /// Adds a constant; returns the name of the tensor.
    pub fn constant(&mut self, dims: &[usize], data: Data) -> String {
        let name = self.new_name("constant");
        self.initializer(&tensor(&name, dims, data, Message::default()));
        name
    }

    /// Adds a node; returns the name of its output, which is also that of the node.
    pub fn node(&mut self, op: &str, inputs: &[&str], attributes: &[Attribute]) -> String {
        self.node_of("", op, inputs, 1, attributes).remove(0)
    }

    /// Adds a node of a domain with any number of outputs; it has the name of the first one.
    pub fn node_of(
        &mut self,
        domain: &str,
        op: &str,
        inputs: &[&str],
        outputs: usize,
        attributes: &[Attribute],
    ) -> Vec<String> {
        let names: Vec<_> = (0..outputs).map(|_| self.new_name(op)).collect();
        let node = Message::default()
            .all(inputs, |m, input| m.bytes(1, input))
            .all(&names, |m, name| m.bytes(2, name))
            .bytes(3, &names[0])
            .bytes(4, op)
            .all(attributes, |m, a| m.bytes(5, attribute(a)))
            .bytes(7, domain);
        self.add(1, &node);
        names
    }

    /// Makes a value an output of the model.
    pub fn output(&mut self, name: &str) {
        let float = Message::default().bytes(1, Message::default().int(1, 1));
        self.add(12, &Message::default().bytes(1, name).bytes(2, float));
        self.outputs += 1;
    }

    pub fn file(&self) -> Vec<u8> {
        let batch = Message::default().bytes(1, Message::default().bytes(2, "N"));
        let shape = batch.all(&self.item, |m, &n| {
            m.bytes(1, Message::default().int(1, n as i64))
        });
        let float = Message::default().bytes(1, Message::default().int(1, 1).bytes(2, shape));
        let input = Message::default().bytes(1, "x").bytes(2, float);
        let graph = self.graph.clone().bytes(2, "test").bytes(11, input);
        let model = Message::default().int(1, 8).bytes(7, graph);
        let model = model.all(&self.opsets, |m, &(domain, version)| {
            m.bytes(8, Message::default().bytes(1, domain).int(2, version))
        });
        [model.0, self.rest.0.clone()].concat()
    }
}

/// Transposes the input to channels first.
pub fn channels_first(m: &mut Model) -> String {
    m.node("Transpose", &["x"], &[("perm", Value::Ints(&[0, 3, 1, 2]))])
}

/// Makes `[N, channels, height, width]` pixels an output.
pub fn output_pixels(m: &mut Model, from: &str) {
    let last = m.node(
        "Transpose",
        &[from],
        &[("perm", Value::Ints(&[0, 2, 3, 1]))],
    );
    m.output(&last);
}

#[derive(Debug, Clone, Copy)]
pub struct Quantization {
    pub scale: f32,
    pub zero_point: u8,
}

/// Quantises to u8 and dequantises.
pub fn quantized(m: &mut Model, from: &str, q: Quantization) -> String {
    let scale = m.constant(&[], Data::F32(&[q.scale]));
    let zero = m.constant(&[], Data::U8(&[q.zero_point]));
    let y = m.node("QuantizeLinear", &[from, &scale, &zero], &[]);
    m.node("DequantizeLinear", &[&y, &scale, &zero], &[])
}

/// Weights with one scale, or one per index of the first axis.
pub fn weights_i8(m: &mut Model, dims: &[usize], values: &[i8], scales: &[f32]) -> String {
    let values = m.constant(dims, Data::I8(values));
    dequantized(m, &values, scales)
}

pub fn dequantized(m: &mut Model, constant: &str, scales: &[f32]) -> String {
    let dims = [scales.len()];
    let dims = if scales.len() == 1 { &[][..] } else { &dims };
    let scales = m.constant(dims, Data::F32(scales));
    m.node(
        "DequantizeLinear",
        &[constant, &scales],
        &[("axis", Value::Int(0))],
    )
}

/// Makes every value of a quantised tensor an output of its own: a convolution with a kernel of the whole image
/// selects them one by one, exactly.
pub fn output_each(m: &mut Model, from: &str, [c, h, w]: [usize; 3], q: Quantization) {
    let count = c * h * w;
    let out = count.next_multiple_of(16);
    let mut picks = vec![0; out * count];
    (0..count).for_each(|i| picks[i * count + i] = 1);
    let picks = weights_i8(m, &[out, c, h, w], &picks, &[1.0]);
    let y = m.node("Conv", &[from, &picks], &[]);
    let y = quantized(m, &y, q);
    output_row(m, &y, out);
}

/// Makes a quantised tensor with one pixel an output.
pub fn output_row(m: &mut Model, from: &str, channels: usize) {
    let mut identity = vec![0.0; channels * channels];
    (0..channels).for_each(|i| identity[i * channels + i] = 1.0);
    let identity = m.constant(&[channels, channels], Data::F32(&identity));
    let flat = m.node("Flatten", &[from], &[]);
    let y = m.node("Gemm", &[&flat, &identity], &[]);
    m.output(&y);
}
