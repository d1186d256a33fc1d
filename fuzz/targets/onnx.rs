//! ONNX files: the reader, the planner, and the kernels on what the planner accepts.
//!
//! The mutator changes the messages of a file and not its bytes, nearly all changes of which end in the decoder.
#![no_main]

#[allow(dead_code, reason = "no target reads every field")]
#[path = "../../src/nn/onnx/proto.rs"]
mod proto;

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use fuzz_targets::Chance;
use fuzz_targets::networks::options;
use fuzz_targets::writer::{self, Data, Model, Value};
use gstmfr::detect::{Detector, Params};
use gstmfr::frame::image::ImageView;
use gstmfr::nn::testing::{Arithmetic, Kernels};
use gstmfr::nn::{Inspection, Isa, Role};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use prost::Message;
use proto::{AttributeProto, GraphProto, ModelProto, NodeProto, attribute, data_type};

/// Side of the images that networks of this target take, for speed; a file says what it takes.
const LARGEST_SIDE: i64 = 24;

/// Every operator that our kernels have, and one that they have not.
const OPS: [&str; 18] = [
    "Add",
    "Concat",
    "Conv",
    "DequantizeLinear",
    "Div",
    "Flatten",
    "Gemm",
    "GlobalAveragePool",
    "Max",
    "MaxPool",
    "PRelu",
    "QuantizeLinear",
    "ReduceL2",
    "Relu",
    "Softmax",
    "Split",
    "Transpose",
    "LSTM",
];

const ATTRIBUTES: [&str; 14] = [
    "axis",
    "axes",
    "perm",
    "kernel_shape",
    "strides",
    "dilations",
    "pads",
    "auto_pad",
    "group",
    "transB",
    "alpha",
    "keepdims",
    "ceil_mode",
    "epsilon",
];

fn number(chance: &mut Chance) -> i64 {
    const ODD: [i64; 12] = [-1, 0, 1, 2, 3, 64, 65, 255, -4, i64::MAX, i64::MIN, 1 << 32];
    match chance.below(2) {
        0 => ODD[chance.below(ODD.len())],
        _ => chance.below(12) as i64 - 2,
    }
}

fn float(chance: &mut Chance) -> f32 {
    const ODD: [f32; 10] = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        1e-30,
        1e30,
        f32::MAX,
        f32::INFINITY,
        f32::NAN,
        1.0 / 255.0,
    ];
    ODD[chance.below(ODD.len())]
}

/// A value of the graph.
fn any_name(graph: &GraphProto, chance: &mut Chance) -> String {
    let outputs = graph.node.iter().flat_map(|node| &node.output);
    let constants = graph.initializer.iter().map(|tensor| &tensor.name);
    let inputs = graph.input.iter().map(|input| &input.name);
    let names: Vec<_> = outputs.chain(constants).chain(inputs).collect();
    match chance.below(20) {
        0 => String::new(),
        _ => names
            .get(chance.below(names.len()))
            .map_or_else(String::new, |name| (*name).clone()),
    }
}

fn any<'a, T>(all: &'a mut [T], chance: &mut Chance) -> Option<&'a mut T> {
    let number = chance.below(all.len());
    all.get_mut(number)
}

/// The messages of the reader cannot be cloned; nothing but this needs it.
fn copied<M: Message + Default>(message: &M) -> M {
    M::decode(&message.encode_to_vec()[..]).expect("what was encoded can be decoded")
}

fn mutate_attribute(all: &mut Vec<AttributeProto>, chance: &mut Chance) {
    let at = chance.below(all.len() + 1);
    let Some(attribute) = all.get_mut(at) else {
        all.push(AttributeProto {
            name: ATTRIBUTES[chance.below(ATTRIBUTES.len())].to_owned(),
            i: number(chance),
            ints: (0..chance.below(5)).map(|_| number(chance)).collect(),
            r#type: [attribute::INT, attribute::INTS][chance.below(2)],
            ..AttributeProto::default()
        });
        return;
    };
    match chance.below(8) {
        0 => {
            all.remove(at);
        }
        1 => attribute.name = ATTRIBUTES[chance.below(ATTRIBUTES.len())].to_owned(),
        2 => attribute.r#type = chance.below(9) as i32,
        3 => attribute.f = float(chance),
        4 => {
            let texts: [&[u8]; 4] = [b"SAME_UPPER", b"SAME_LOWER", b"VALID", b"\xff"];
            attribute.s = texts[chance.below(texts.len())].to_vec();
        }
        5 => attribute.ints.push(number(chance)),
        _ => {
            attribute.i = number(chance);
            let value = number(chance);
            if let Some(other) = any(&mut attribute.ints, chance) {
                *other = value;
            }
        }
    }
}

/// Puts a node of one input behind a value, and lets one of its readers read that instead.
fn insert(graph: &mut GraphProto, chance: &mut Chance) {
    const UNARY: [&str; 6] = [
        "Relu",
        "MaxPool",
        "Flatten",
        "Softmax",
        "GlobalAveragePool",
        "Transpose",
    ];
    let reader = chance.below(graph.node.len());
    let Some(node) = graph.node.get_mut(reader) else {
        return;
    };
    let name = format!("inserted_{}", chance.below(1 << 20));
    let Some(first) = node.input.first_mut() else {
        return;
    };
    let input = std::mem::replace(first, name.clone());
    let op = UNARY[chance.below(UNARY.len())];
    let mut attributes = Vec::new();
    let mut ints = |name: &str, ints: &[i64]| {
        attributes.push(AttributeProto {
            name: name.to_owned(),
            ints: ints.to_vec(),
            r#type: attribute::INTS,
            ..AttributeProto::default()
        });
    };
    match op {
        "MaxPool" => {
            ints("kernel_shape", &[2, 2]);
            ints("strides", &[1 + chance.below(3) as i64, 2]);
        }
        "Transpose" => ints("perm", [&[0, 2, 3, 1], &[0, 3, 1, 2]][chance.below(2)]),
        _ => {}
    }
    let inserted = NodeProto {
        input: vec![input],
        output: vec![name],
        op_type: op.to_owned(),
        attribute: attributes,
        ..NodeProto::default()
    };
    graph.node.insert(reader, inserted);
}

fn mutate_node(graph: &mut GraphProto, chance: &mut Chance) {
    let number = chance.below(graph.node.len());
    let name = any_name(graph, chance);
    let Some(node) = graph.node.get_mut(number) else {
        return;
    };
    match chance.below(10) {
        0 => {
            graph.node.remove(number);
        }
        1 => {
            let mut copy: NodeProto = copied(node);
            for output in &mut copy.output {
                output.push('_');
            }
            graph.node.insert(number + 1, copy);
        }
        2 => {
            let other = chance.below(graph.node.len());
            graph.node.swap(number, other);
        }
        3 => node.op_type = OPS[chance.below(OPS.len())].to_owned(),
        4 => node.input.push(name),
        5 => {
            node.input.pop();
        }
        6 => node.output.push(name),
        7 => mutate_attribute(&mut node.attribute, chance),
        _ => {
            if let Some(input) = any(&mut node.input, chance) {
                *input = name;
            }
        }
    }
}

fn mutate_constant(graph: &mut GraphProto, chance: &mut Chance) {
    let Some(tensor) = any(&mut graph.initializer, chance) else {
        return;
    };
    let mut raw = tensor
        .raw_data
        .as_ref()
        .map_or_else(Vec::new, |raw| raw.to_vec());
    match chance.below(6) {
        // Another shape, and as many bytes as it needs: those that there were, again and again.
        0 | 1 => {
            let size = i64::from(u8::from(tensor.data_type == data_type::FLOAT)) * 3 + 1;
            let value = 1 + chance.below(20) as i64;
            match any(&mut tensor.dims, chance) {
                Some(dim) => *dim = value,
                None => tensor.dims.push(value),
            }
            let count = tensor.dims.iter().fold(size, |n, &d| n.saturating_mul(d));
            if (1..1 << 14).contains(&count) && !raw.is_empty() {
                raw = raw.iter().copied().cycle().take(count as usize).collect();
            }
        }
        2 => {
            let value = number(chance);
            if let Some(dim) = any(&mut tensor.dims, chance) {
                *dim = value;
            }
        }
        3 => tensor.data_type = chance.below(12) as i32,
        4 if raw.len() >= 4 => {
            let at = chance.below(raw.len() / 4) * 4;
            raw[at..at + 4].copy_from_slice(&float(chance).to_le_bytes());
        }
        _ => {
            let size = raw.len();
            let room = size.max(1);
            raw.resize(room, 0);
            let size = fuzzer_mutate(&mut raw, size, room);
            // As long as before: another length is refused at once.
            raw.resize(size.max(room), 0);
        }
    }
    tensor.raw_data = Some(raw.into());
}

fn mutate(model: &mut ModelProto, chance: &mut Chance) {
    let version = number(chance);
    let Some(graph) = &mut model.graph else {
        return;
    };
    match chance.below(16) {
        0 => {
            if let Some(set) = any(&mut model.opset_import, chance) {
                set.version = 13 + version.rem_euclid(9);
            }
        }
        1 => {
            let name = any_name(graph, chance);
            if let Some(output) = any(&mut graph.output, chance) {
                output.name = name;
            }
        }
        2 => {
            let output = graph.output.first().map(copied);
            let name = any_name(graph, chance);
            graph
                .output
                .extend(output.map(|output| proto::ValueInfoProto { name, ..output }));
        }
        3 => {
            let side = 1 + chance.below(LARGEST_SIDE as usize) as i64;
            let shape = graph
                .input
                .first_mut()
                .and_then(|input| input.r#type.as_mut()?.tensor_type.as_mut()?.shape.as_mut());
            if let Some(dim) = shape.and_then(|shape| any(&mut shape.dim, chance)) {
                dim.dim_value = side;
            }
        }
        4..=7 => mutate_constant(graph, chance),
        8 | 9 => insert(graph, chance),
        _ => mutate_node(graph, chance),
    }
}

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut chance = Chance::new(seed);
    if chance.below(16) > 0
        && let Ok(mut model) = ModelProto::decode(&data[..size])
    {
        for _ in 0..=chance.below(3) {
            mutate(&mut model, &mut chance);
        }
        let file = model.encode_to_vec();
        if file.len() <= max_size {
            data[..file.len()].copy_from_slice(&file);
            return file.len();
        }
    }
    fuzzer_mutate(data, size, max_size)
});

/// Height, width and channels of the input as the file says them, made small.
fn item(model: &ModelProto) -> Option<[usize; 3]> {
    let input = model.graph.as_ref()?.input.first()?;
    let shape = input
        .r#type
        .as_ref()?
        .tensor_type
        .as_ref()?
        .shape
        .as_ref()?;
    let dims = shape.dim.get(1..4)?.iter();
    let dims: Vec<_> = dims
        .map(|dim| dim.dim_value.clamp(1, LARGEST_SIDE) as usize)
        .collect();
    dims.try_into().ok()
}

/// Numbers that look like chance, −1…1.
fn noise(count: usize) -> Vec<f32> {
    let mut chance = Chance::new(1);
    (0..count)
        .map(|_| chance.below(1 << 20) as f32 / (1 << 19) as f32 - 1.0)
        .collect()
}

/// A folder in memory with the detector's networks, of which P-Net is the file under test.
struct Folder {
    path: tempfile::TempDir,
    /// Keeps the other networks, which every other detector shares.
    _detector: Detector,
}

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models")
}

thread_local! {
    static FOLDER: RefCell<Folder> = RefCell::new({
        let path = tempfile::tempdir().expect("room in memory");
        for name in ["pnet.onnx", "rnet.onnx", "onet.onnx"] {
            std::fs::copy(models().join(name), path.path().join(name)).expect("room in memory");
        }
        let _detector = Detector::from_folder(path.path(), &options()).expect("sound networks");
        Folder { path, _detector }
    });
}

/// As a network of the role that its inputs and outputs say.
fn run_as_role(input: &[u8]) {
    FOLDER.with_borrow(|folder| {
        let folder = folder.path.path();
        let file = folder.join("pnet.onnx");
        std::fs::write(&file, input).expect("room in memory");
        let Inspection { role, network } = Inspection::of(&file, &options());
        let Ok(network) = network else { return };
        match role {
            Some(Role::PNet) => {
                let mut detector = Detector::from_folder(folder, &options()).expect("as before");
                let pixels: Vec<u8> = (0..64 * 48 * 3).map(|i| (i * 7 % 251) as u8).collect();
                let view = ImageView::rgb(&pixels, 64, 48).expect("as many bytes as pixels");
                let params = Params {
                    min_face_size: 20,
                    ..Params::default()
                };
                for face in detector
                    .detect(&view, &params)
                    .expect("nothing fails on the CPU")
                {
                    assert!(
                        face.rect.is_finite() && face.landmarks.is_finite(),
                        "{face:?}"
                    );
                }
            }
            Some(role) => {
                let dims: Vec<usize> = role.signature().input[1..]
                    .iter()
                    .map(|&n| n.max(1) as usize)
                    .collect();
                let [height, width, channels] = dims[..] else {
                    return;
                };
                let numbers = noise(height * width * channels);
                let mut outputs = vec![Vec::new(); role.signature().outputs.len()];
                let _ = network.run(1, [1, height, width, channels], &numbers, &mut outputs);
            }
            None => {}
        }
    });
}

/// As any graph, at every instruction set of this CPU.
fn run_as_graph(input: &[u8]) {
    let Ok(model) = ModelProto::decode(input) else {
        return;
    };
    let Some(item) = item(&model) else { return };
    let mut before: Option<Vec<usize>> = None;
    for isa in Isa::available() {
        for arithmetic in [Arithmetic::F32, Arithmetic::I16] {
            let Ok(kernels) = Kernels::load(input, item, isa, arithmetic) else {
                continue;
            };
            let numbers = noise(2 * item.iter().product::<usize>());
            let lengths: Vec<_> = kernels.run(1, &numbers).iter().map(Vec::len).collect();
            assert_eq!(
                *before.get_or_insert_with(|| lengths.clone()),
                lengths,
                "{isa:?}"
            );
        }
    }
}

fn small_networks() -> Vec<Vec<u8>> {
    let q = writer::Quantization {
        scale: 1.0 / 127.5,
        zero_point: 128,
    };
    let mut all = Vec::new();
    // In float32: convolution, slopes, pooling, a row, and what comes behind it.
    for pads in [&[0, 0, 0, 0], &[1, 1, 1, 1]] {
        let mut m = Model::new([9, 8, 3]);
        let x = writer::channels_first(&mut m);
        let w = m.constant(&[4, 3, 3, 3], Data::F32(&noise(108)));
        let b = m.constant(&[4], Data::F32(&noise(4)));
        let y = m.node(
            "Conv",
            &[&x, &w, &b],
            &[
                ("pads", Value::Ints(pads)),
                ("strides", Value::Ints(&[1, 1])),
            ],
        );
        let slope = m.constant(&[4, 1, 1], Data::F32(&noise(4)));
        let y = m.node("PRelu", &[&y, &slope], &[]);
        let sum = m.node("Add", &[&y, &y], &[]);
        let y = m.node(
            "MaxPool",
            &[&sum],
            &[
                ("kernel_shape", Value::Ints(&[2, 2])),
                ("strides", Value::Ints(&[2, 2])),
                ("auto_pad", Value::Text("SAME_UPPER")),
            ],
        );
        writer::output_pixels(&mut m, &y);
        all.push(m.file());
        let y = m.node("Flatten", &[&y], &[("axis", Value::Int(1))]);
        let features = if pads[0] == 0 { 4 * 4 * 3 } else { 4 * 5 * 4 };
        let w = m.constant(&[5, features], Data::F32(&noise(5 * features)));
        let y = m.node(
            "Gemm",
            &[&y, &w],
            &[("transB", Value::Int(1)), ("alpha", Value::Float(0.5))],
        );
        let y = m.node("Relu", &[&y], &[]);
        let w = m.constant(&[5, 6], Data::F32(&noise(30)));
        let y = m.node("Gemm", &[&y, &w], &[]);
        let s = m.node("Softmax", &[&y], &[("axis", Value::Int(-1))]);
        let sizes = m.constant(&[2], Data::I64(&[2, 4]));
        let parts = m.node_of("", "Split", &[&y, &sizes], 2, &[("axis", Value::Int(1))]);
        let length = m.node("ReduceL2", &[&y], &[("axes", Value::Ints(&[1]))]);
        let floor = m.constant(&[], Data::F32(&[1e-6]));
        let length = m.node("Max", &[&length, &floor], &[]);
        let unit = m.node("Div", &[&y, &length], &[]);
        for output in [&s, &parts[0], &parts[1], &unit] {
            m.output(output);
        }
        all.push(m.file());
    }
    // In integers: as FaceNet is.
    let mut m = Model::new([6, 7, 4]);
    let x = writer::channels_first(&mut m);
    let x = writer::quantized(&mut m, &x, q);
    let values: Vec<i8> = (0..16 * 4 * 9)
        .map(|i| (i * 37 % 255 - 127) as i8)
        .collect();
    let w = writer::weights_i8(&mut m, &[16, 4, 3, 3], &values, &[0.01]);
    let conv = m.node("Conv", &[&x, &w], &[("pads", Value::Ints(&[1, 1, 1, 1]))]);
    let y = m.node("Relu", &[&conv], &[]);
    let y = writer::quantized(
        &mut m,
        &y,
        writer::Quantization {
            scale: 0.05,
            zero_point: 0,
        },
    );
    let pool = m.node(
        "MaxPool",
        &[&y],
        &[
            ("kernel_shape", Value::Ints(&[3, 3])),
            ("pads", Value::Ints(&[1, 1, 1, 1])),
        ],
    );
    let pool = writer::quantized(
        &mut m,
        &pool,
        writer::Quantization {
            scale: 0.05,
            zero_point: 0,
        },
    );
    let both = m.node("Concat", &[&y, &pool], &[("axis", Value::Int(1))]);
    let both = writer::quantized(
        &mut m,
        &both,
        writer::Quantization {
            scale: 0.06,
            zero_point: 3,
        },
    );
    let mean = m.node("GlobalAveragePool", &[&both], &[]);
    let mean = writer::quantized(
        &mut m,
        &mean,
        writer::Quantization {
            scale: 0.02,
            zero_point: 0,
        },
    );
    writer::output_row(&mut m, &mean, 32);
    all.push(m.file());
    // A sum of two tensors in integers.
    let mut m = Model::new([3, 3, 8]);
    let x = writer::channels_first(&mut m);
    let x = writer::quantized(&mut m, &x, q);
    let values: Vec<i8> = (0..64).map(|i| (i * 37 % 127) as i8).collect();
    let w = writer::weights_i8(
        &mut m,
        &[8, 8, 1, 1],
        &values,
        &[0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08],
    );
    let y = m.node("Conv", &[&x, &w], &[]);
    let y = writer::quantized(
        &mut m,
        &y,
        writer::Quantization {
            scale: 0.03,
            zero_point: 90,
        },
    );
    let y = m.node("Add", &[&y, &x], &[]);
    let y = writer::quantized(
        &mut m,
        &y,
        writer::Quantization {
            scale: 0.04,
            zero_point: 100,
        },
    );
    writer::output_each(&mut m, &y, [8, 3, 3], q);
    all.push(m.file());
    all
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = small_networks();
    // Those that are small enough to be changed at random.
    for name in ["pnet.onnx", "mask.onnx"] {
        seeds.push(std::fs::read(models().join(name)).expect("a model of this project"));
    }
    seeds
}

fuzz_target!(
    init: fuzz_targets::begin(seeds),
    |input: &[u8]| {
        run_as_role(input);
        run_as_graph(input);
    }
);
