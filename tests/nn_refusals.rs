//! Networks that the built-in kernels cannot run exactly are refused, with operator, node and reason: generated
//! graphs.

use gstmfr::nn::Isa;
use gstmfr::nn::testing::{Arithmetic, ImportError, Kernels};

#[path = "common/onnx.rs"]
mod onnx;
use onnx::Value::{Float, Int, Ints, Text};
use onnx::*;

fn refusal(model: &Model) -> ImportError {
    match Kernels::load(&model.file(), model.item, Isa::best(), Arithmetic::F32) {
        Err(refusal) => refusal,
        Ok(_) => panic!("it was not refused"),
    }
}

/// The refusals of a model, each as a text with operator, node and reason.
fn refused(model: &Model) -> Vec<String> {
    match refusal(model) {
        ImportError::Unsupported(all) => all.iter().map(|one| one.to_string()).collect(),
        other => panic!("{other:?}"),
    }
}

/// A node that must be refused, and the reason.
type Refusal = (fn(&mut Model) -> String, &'static str);

fn assert_refused(cases: &[Refusal]) {
    for (add, reason) in cases {
        let mut m = Model::new([6, 6, 4]);
        let node = add(&mut m);
        if m.outputs == 0 {
            m.output(&node);
        }
        let op = node.split('_').next().unwrap();
        assert_eq!(refused(&m), [format!("{op} \"{node}\": {reason}")]);
    }
}

/// A convolution of the input to 16 channels of float32.
fn conv_with(m: &mut Model, attributes: &[Attribute]) -> String {
    let x = channels_first(m);
    let weights = m.constant(&[16, 4, 1, 1], Data::F32(&[0.5; 64]));
    m.node("Conv", &[&x, &weights], attributes)
}

fn max_pool_with(m: &mut Model, attributes: &[Attribute]) -> String {
    let y = conv_with(m, &[]);
    let kernel = ("kernel_shape", Ints(&[1, 1]));
    m.node("MaxPool", &[&y], &[&[kernel], attributes].concat())
}

fn gemm_with(m: &mut Model, attributes: &[Attribute]) -> String {
    let x = channels_first(m);
    let flat = m.node("Flatten", &[&x], &[]);
    let weights = m.constant(&[144, 2], Data::F32(&[0.0; 288]));
    m.node("Gemm", &[&flat, &weights], attributes)
}

#[test]
fn operators_and_attributes_that_are_unknown_are_refused() {
    assert_refused(&[
        (
            |m| m.node("Sigmoid", &["x"], &[]),
            "our kernels have no such operator",
        ),
        (
            |m| m.node_of("com.microsoft", "Relu", &["x"], 1, &[]).remove(0),
            "an operator of the domain \"com.microsoft\"",
        ),
        (
            |m| m.node("Relu", &["x"], &[("alpha", Float(0.1)), ("beta", Int(1))]),
            "unknown attributes: alpha, beta",
        ),
        (
            |m| gemm_with(m, &[("alpha", Int(1))]),
            "attribute alpha is of type 2; expected 1",
        ),
        (
            |m| gemm_with(m, &[("alpha", Float(1.0)), ("alpha", Float(1.0))]),
            "attribute alpha is given twice",
        ),
        (
            |m| gemm_with(m, &[("transB", Int(2))]),
            "transB is 2; expected 0 or 1",
        ),
        (
            |m| gemm_with(m, &[("transA", Int(1))]),
            "transA is 1: the batch would be summed up",
        ),
        (
            |m| max_pool_with(m, &[("ceil_mode", Int(1))]),
            "ceil_mode is 1; expected 0",
        ),
        (
            |m| max_pool_with(m, &[("storage_order", Int(1))]),
            "storage_order is 1; expected 0",
        ),
        (|m| m.node("Transpose", &["x"], &[]), "perm is missing"),
        (|m| m.node("Concat", &["x"], &[]), "axis is missing"),
    ]);
}

#[test]
fn windows_that_are_not_computed_are_refused() {
    assert_refused(&[
        (
            |m| conv_with(m, &[("dilations", Ints(&[2, 2]))]),
            "dilations are [2, 2]; expected 1",
        ),
        (
            |m| conv_with(m, &[("strides", Ints(&[0, 1]))]),
            "strides is [0, 1]; expected two numbers of 1…64, for height and width",
        ),
        (
            |m| conv_with(m, &[("kernel_shape", Ints(&[3, 3]))]),
            "kernel_shape is [3, 3] with weights of [16, 4, 1, 1]",
        ),
        (
            |m| conv_with(m, &[("pads", Ints(&[0, 0, 1, 0]))]),
            "padding of 0 and 1 for a window of 1: some windows see nothing else",
        ),
        (
            |m| conv_with(m, &[("pads", Ints(&[0, -1, 0, 0]))]),
            "pads are [0, -1, 0, 0]; expected 0…64",
        ),
        (
            |m| conv_with(m, &[("auto_pad", Text("SAME"))]),
            "auto_pad is \"SAME\"",
        ),
        (
            |m| {
                let both = [
                    ("auto_pad", Text("SAME_UPPER")),
                    ("pads", Ints(&[0, 0, 1, 1])),
                ];
                conv_with(m, &both)
            },
            "both pads and auto_pad SAME_UPPER are given",
        ),
        (
            |m| {
                let steps = ("strides", Ints(&[3, 3]));
                max_pool_with(m, &[("auto_pad", Text("SAME_UPPER")), steps])
            },
            "auto_pad for a window of 1 in steps of 3 over 6: it would cut the input",
        ),
        (
            |m| {
                let y = conv_with(m, &[]);
                m.node("MaxPool", &[&y], &[("kernel_shape", Ints(&[7, 1]))])
            },
            "a window of 7 is larger than the input of 6",
        ),
        (
            |m| {
                let y = conv_with(m, &[]);
                m.node("MaxPool", &[&y], &[])
            },
            "kernel_shape is missing",
        ),
        (
            |m| {
                let y = conv_with(m, &[]);
                let kernel = ("kernel_shape", Ints(&[2, 2]));
                m.node_of("", "MaxPool", &[&y], 2, &[kernel]).remove(0)
            },
            "2 outputs; only the first is computed here",
        ),
        (
            |m| {
                let x = channels_first(m);
                let y = m.node("MaxPool", &[&x], &[("kernel_shape", Ints(&[2, 2]))]);
                output_pixels(m, &y);
                y
            },
            "a pooling of the input itself",
        ),
    ]);
}

#[test]
fn weights_of_other_shapes_are_refused() {
    assert_refused(&[
        (
            |m| {
                let x = channels_first(m);
                let weights = m.constant(&[0, 4, 1, 1], Data::F32(&[]));
                let y = m.node("Conv", &[&x, &weights], &[]);
                m.node("MaxPool", &[&y], &[("kernel_shape", Ints(&[1, 1]))]);
                y
            },
            "weights of [0, 4, 1, 1]",
        ),
        (
            |m| conv_with(m, &[("group", Int(2))]),
            "weights of [16, 4, 1, 1] in 2 groups for 4 channels",
        ),
        (
            |m| {
                let x = channels_first(m);
                let weights = m.constant(&[4, 2, 1, 1], Data::F32(&[0.5; 8]));
                m.node("Conv", &[&x, &weights], &[("group", Int(2))])
            },
            "2 groups with weights of [4, 2, 1, 1]; expected one group, or a factor for each channel",
        ),
        (
            |m| {
                let x = channels_first(m);
                let weights = m.constant(&[4, 1, 3, 3], Data::F32(&[0.5; 36]));
                m.node("Conv", &[&x, &weights], &[("group", Int(4))])
            },
            "4 groups with weights of [4, 1, 3, 3]; expected one group, or a factor for each channel",
        ),
        (
            |m| {
                let x = channels_first(m);
                let weights = m.constant(&[8, 4, 1, 1], Data::F32(&[0.5; 32]));
                let bias = m.constant(&[1, 8], Data::F32(&[0.5; 8]));
                m.node("Conv", &[&x, &weights, &bias], &[])
            },
            "a bias of [1, 8] for 8 channels",
        ),
        (
            |m| {
                let y = conv_with(m, &[]);
                let slopes = m.constant(&[6], Data::F32(&[0.5; 6]));
                m.node("PRelu", &[&y, &slopes], &[])
            },
            "a slope of [6] for channels of [16, 6, 6]",
        ),
        (
            |m| {
                let y = conv_with(m, &[]);
                let one = m.constant(&[], Data::F32(&[1.0]));
                m.node("Add", &[&y, &one], &[])
            },
            "[16, 6, 6] and [] of different shape",
        ),
        (
            |m| {
                let row = gemm_with(m, &[]);
                let sizes = m.constant(&[2], Data::I64(&[1, 2]));
                m.node_of("", "Split", &[&row, &sizes], 2, &[("axis", Int(1))])
                    .remove(0)
            },
            "sizes [1, 2] for 2 outputs of [2]",
        ),
        (
            |m| {
                let row = gemm_with(m, &[]);
                m.node_of("", "Split", &[&row], 2, &[("axis", Int(1))])
                    .remove(0)
            },
            "1 inputs, of which the first 1 are given; expected 2 to 2",
        ),
        // Each layer has four times as many channels as the previous one.
        (
            |m| {
                let mut y = quantized_input(m);
                for _ in 0..10 {
                    y = m.node("Concat", &[&y[..]; 4], &[("axis", Int(1))]);
                    y = quantized(m, &y, PLAIN);
                }
                "Concat_7".to_owned()
            },
            "an output of [262144, 6, 6] is larger than 4194304 numbers",
        ),
    ]);
}

#[test]
fn axes_other_than_those_of_channels_are_refused() {
    assert_refused(&[
        (
            |m| m.node("Transpose", &["x"], &[("perm", Ints(&[0, 2, 1, 3]))]),
            "perm [0, 2, 1, 3] here; expected channels first before and last after",
        ),
        (
            |m| m.node("Transpose", &["x"], &[("perm", Ints(&[3, 0, 1, 2]))]),
            "perm is [3, 0, 1, 2] for 4 axes, the batch first",
        ),
        (
            |m| m.node("Relu", &["x"], &[]),
            "channels come last here; expected a Transpose to [0, 3, 1, 2] before",
        ),
        (
            |m| {
                let y = conv_with(m, &[]);
                m.node("Softmax", &[&y], &[])
            },
            "axis is -1; expected that of the channels, 1",
        ),
        (
            |m| {
                let y = conv_with(m, &[]);
                m.node("Flatten", &[&y], &[("axis", Int(2))])
            },
            "axis is 2; expected 1",
        ),
        (
            |m| {
                let row = gemm_with(m, &[]);
                m.node("ReduceL2", &[&row], &[("axes", Ints(&[0]))])
            },
            "axes [0], keepdims true of [2]; expected the last one, kept",
        ),
        (
            |m| {
                let row = gemm_with(m, &[]);
                m.node("Div", &[&row, &row], &[])
            },
            "[2] with [2]",
        ),
        (
            |m| {
                let row = gemm_with(m, &[]);
                let length = m.node("ReduceL2", &[&row], &[("axes", Ints(&[1]))]);
                let floor = m.constant(&[], Data::F32(&[0.0]));
                m.node("Max", &[&length, &floor], &[])
            },
            "expected a constant above 0 as the second input",
        ),
    ]);
}

/// Flattened pixels are stored with interleaved channels, whatever the file states; only Gemm supports that.
#[test]
fn flattened_pixels_are_read_by_nothing_but_gemm() {
    assert_refused(&[
        (
            |m| {
                let y = conv_with(m, &[]);
                m.node("Flatten", &[&y], &[])
            },
            "several pixels are an output; expected a Gemm there",
        ),
        (
            |m| {
                let y = conv_with(m, &[]);
                let flat = m.node("Flatten", &[&y], &[]);
                let weights = m.constant(&[576, 576], Data::F32(&vec![0.0; 576 * 576]));
                let y = m.node("Gemm", &[&flat, &weights], &[]);
                m.node("Add", &[&y, &flat], &[])
            },
            "it reads what Flatten gives; expected a Gemm there",
        ),
    ]);
}

#[test]
fn a_softmax_of_the_input_itself_is_refused() {
    assert_refused(&[(
        |m| m.node("Softmax", &["x"], &[]),
        "a softmax of the input itself",
    )]);
}

/// Quantises the input with a value for each input of `QuantizeLinear` that must be refused.
fn quantized_by(m: &mut Model, scale: f32, zero: Data) -> String {
    let x = channels_first(m);
    let scale = m.constant(&[], Data::F32(&[scale]));
    let zero = m.constant(&[], zero);
    m.node("QuantizeLinear", &[&x, &scale, &zero], &[])
}

/// Quantisation of inputs in u8.
const PLAIN: Quantization = Quantization {
    scale: 1.0 / 64.0,
    zero_point: 128,
};

fn quantized_input(m: &mut Model) -> String {
    let x = channels_first(m);
    quantized(m, &x, PLAIN)
}

/// A constant of 16 × 4 weights, dequantised with this scale and zero point.
fn weights_by(m: &mut Model, scale: f32, zero: i8) -> String {
    let values = m.constant(&[16, 4, 1, 1], Data::I8(&[1; 64]));
    let scale = m.constant(&[], Data::F32(&[scale]));
    let zero = m.constant(&[], Data::I8(&[zero]));
    m.node("DequantizeLinear", &[&values, &scale, &zero], &[])
}

#[test]
fn quantisation_that_is_not_computed_exactly_is_refused() {
    assert_refused(&[
        (
            |m| quantized_by(m, PLAIN.scale, Data::I8(&[0])),
            "a zero point of int8; activations are uint8 here",
        ),
        (|m| quantized_by(m, 0.0, Data::U8(&[0])), "a scale of 0"),
        (|m| quantized_by(m, -1.0, Data::U8(&[0])), "a scale of -1"),
        (
            |m| quantized_by(m, f32::NAN, Data::U8(&[0])),
            "a scale of NaN",
        ),
        (
            |m| weights_by(m, 0.0, 0),
            "a scale that is no number above 0",
        ),
        (
            |m| weights_by(m, f32::NAN, 0),
            "a scale that is no number above 0",
        ),
        (
            |m| weights_by(m, 1.0, 1),
            "weights or biases with a zero point other than 0",
        ),
        (
            |m| {
                let x = quantized_input(m);
                let weights = weights_by(m, 0.5, 0);
                let bias = m.constant(&[16], Data::I32(&[1; 16]));
                let bias = dequantized(m, &bias, &[0.4 * PLAIN.scale]);
                m.node("Conv", &[&x, &weights, &bias], &[])
            },
            "a bias whose scale is not that of input and weights",
        ),
        (
            |m| {
                let x = quantized_input(m);
                let weights = weights_i8(m, &[4, 1, 1, 1], &[1; 4], &[1.0]);
                m.node("Conv", &[&x, &weights], &[("group", Int(4))])
            },
            "4 groups; expected one",
        ),
        (
            |m| {
                let x = quantized_input(m);
                m.node("Concat", &[&x, &x], &[("axis", Int(2))])
            },
            "axis 2 of 2 inputs; expected 1, of at most 4",
        ),
        (
            |m| {
                let x = quantized_input(m);
                m.node("Concat", &[&x[..]; 5], &[("axis", Int(1))])
            },
            "axis 1 of 5 inputs; expected 1, of at most 4",
        ),
        (
            |m| {
                let x = quantized_input(m);
                m.node("Relu", &[&x], &[])
            },
            "not of quantised inputs",
        ),
        (
            |m| {
                let x = quantized_input(m);
                m.node("Flatten", &[&x], &[])
            },
            "6×6 quantised pixels; expected one",
        ),
        (
            |m| {
                let x = quantized_input(m);
                let y = m.node("GlobalAveragePool", &[&x], &[]);
                m.node("Flatten", &[&y], &[])
            },
            "it reads the result of a quantised operator before that is rounded",
        ),
        (
            |m| {
                let x = quantized_input(m);
                quantized(
                    m,
                    &x,
                    Quantization {
                        zero_point: 0,
                        ..PLAIN
                    },
                );
                "QuantizeLinear_1".to_owned()
            },
            "it rounds what is rounded already, with another scale or zero point",
        ),
        (
            |m| {
                let x = quantized_input(m);
                let y = m.node("MaxPool", &[&x], &[("kernel_shape", Ints(&[2, 2]))]);
                quantized(
                    m,
                    &y,
                    Quantization {
                        zero_point: 0,
                        ..PLAIN
                    },
                );
                "QuantizeLinear_1".to_owned()
            },
            "a MaxPool whose output has another scale or zero point than its input",
        ),
        (
            |m| {
                let x = quantized_input(m);
                let weights = weights_i8(m, &[8, 4, 6, 6], &[1; 8 * 144], &[1.0]);
                let y = m.node("Conv", &[&x, &weights], &[]);
                let z = quantized(m, &y, PLAIN);
                output_row(m, &z, 8);
                y
            },
            "8 channels of a quantised output; expected a multiple of 16",
        ),
        (
            |m| {
                m.item = [6, 6, 3];
                let x = quantized_input(m);
                let y = m.node("MaxPool", &[&x], &[("kernel_shape", Ints(&[2, 2]))]);
                let z = quantized(m, &y, PLAIN);
                output_each(m, &z, [3, 5, 5], PLAIN);
                y
            },
            "3 quantised channels; expected a multiple of 4",
        ),
        (
            |m| {
                m.item = [6, 6, 5];
                let x = quantized_input(m);
                output_each(m, &x, [5, 6, 6], PLAIN);
                "QuantizeLinear_0".to_owned()
            },
            "5 channels; expected three, or a multiple of 4",
        ),
    ]);
}

#[test]
fn outputs_that_are_no_result_in_float32_are_refused() {
    for (add, expected) in [
        (
            quantized_input as fn(&mut Model) -> String,
            "DequantizeLinear_0: an output that is no result in float32",
        ),
        (
            channels_first,
            "Transpose_0: an output that is no result in float32",
        ),
        (
            |m| conv_with(m, &[]),
            "Conv_0: an output of several pixels whose channels come first",
        ),
    ] {
        let mut m = Model::new([6, 6, 4]);
        let output = add(&mut m);
        m.output(&output);
        assert_eq!(refused(&m), [expected]);
    }
}

#[test]
fn all_that_is_refused_is_listed_at_once_and_what_depends_on_it_is_not() {
    let mut m = Model::new([6, 6, 4]);
    let a = m.node("Sigmoid", &["x"], &[]);
    let b = m.node("Relu", &[&a], &[("alpha", Float(1.0))]);
    let c = m.node("Relu", &[&b], &[]);
    let d = conv_with(&mut m, &[("dilations", Ints(&[2, 2]))]);
    let e = m.node("Relu", &[&d], &[]);
    let f = gemm_with(&mut m, &[("transA", Int(1))]);
    for output in [c, e, f] {
        m.output(&output);
    }
    let expected = [
        "Sigmoid \"Sigmoid_0\": our kernels have no such operator",
        "Relu \"Relu_0\": unknown attributes: alpha",
        "Conv \"Conv_0\": dilations are [2, 2]; expected 1",
        "Gemm \"Gemm_0\": transA is 1: the batch would be summed up",
    ];
    assert_eq!(refused(&m), expected);
    assert_eq!(refusal(&m).to_string(), expected.join("; "));
}

#[test]
fn versions_and_parts_of_models_that_are_unknown_are_refused() {
    let plain = || {
        let mut m = Model::new([6, 6, 4]);
        let y = conv_with(&mut m, &[]);
        output_pixels(&mut m, &y);
        m
    };
    for opset in [11, 12, 21, 99] {
        let mut m = plain();
        m.opsets = vec![("", opset)];
        assert_eq!(refused(&m), [format!("opset {opset}; expected 13…20")]);
    }
    let mut m = plain();
    m.rest = Message::default().bytes(25, "a function");
    assert_eq!(refused(&m), ["it has functions of its own"]);
    let mut m = plain();
    m.graph = m.graph.bytes(15, "a sparse tensor");
    assert_eq!(refused(&m), ["it has sparse tensors"]);
    let mut m = plain();
    m.graph = m.graph.bytes(11, Message::default().bytes(1, "y"));
    assert_eq!(refused(&m), ["2 inputs; expected one"]);
}

#[test]
fn models_that_contradict_themselves_are_invalid() {
    type Change = fn(&mut Model);
    let cases: [(Change, &str); 8] = [
        (|m| m.opsets.clear(), "it names no opset"),
        (
            |m| m.opsets.push(("ai.onnx", 17)),
            "it names more than one opset",
        ),
        (
            |m| {
                let external = Message::default().int(14, 1);
                m.initializer(&tensor("far", &[1], Data::F32(&[]), external));
            },
            "its tensor \"far\" lies in another file, which the SHA-256 of this one would not name; save the model in \
             one file",
        ),
        (
            |m| {
                m.initializer(&tensor(
                    "short",
                    &[3],
                    Data::F32(&[1.0; 2]),
                    Message::default(),
                ))
            },
            "tensor \"short\": it has 8 bytes; float32 of [3] take 12",
        ),
        (
            |m| {
                m.initializer(&tensor(
                    "vast",
                    &[1 << 40; 2],
                    Data::F32(&[]),
                    Message::default(),
                ))
            },
            "tensor \"vast\": its shape [1099511627776, 1099511627776] is larger than 16777216 numbers",
        ),
        (
            |m| {
                m.initializer(&tensor(
                    "Conv_0",
                    &[],
                    Data::F32(&[1.0]),
                    Message::default(),
                ))
            },
            "two values have the name \"Conv_0\"",
        ),
        (
            |m| drop(m.node("Relu", &["nothing"], &[])),
            "an input of Relu \"Relu_0\" is \"nothing\", which no earlier node gives",
        ),
        (
            |m| m.output("nothing"),
            "the graph's output is \"nothing\", which no earlier node gives",
        ),
    ];
    for (change, reason) in cases {
        let mut m = Model::new([6, 6, 4]);
        let y = conv_with(&mut m, &[]);
        output_pixels(&mut m, &y);
        change(&mut m);
        assert_eq!(refusal(&m), ImportError::Invalid(reason.to_owned()));
    }
}
