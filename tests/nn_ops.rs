//! Single operators: generated graphs, run by the built-in kernels at every instruction set of the CPU and by
//! ONNX Runtime.

use std::fmt::Debug;

use gstmfr::nn::Isa;
use gstmfr::nn::testing::{Arithmetic, Kernels, onnx_runtime};

#[path = "common/onnx.rs"]
mod onnx;
#[path = "common/skip.rs"]
mod skip;
use onnx::Value::{Float, Int, Ints, Text};
use onnx::*;

/// Tolerance between two ways to compute the same integers.
const EXACT: f32 = 0.0;
/// A step of u8, relative to a result of at least a hundred: ONNX Runtime rounds some sums of two tensors that lie
/// half way between two steps to the other one.
const ONE_UNIT: f32 = 0.01;
/// Tolerance for sums of float32 in another order, relative to the largest result.
const REORDERED: f32 = 1e-5;
/// Tolerance for inputs and weights rounded to i16, relative to the largest result: 400 weights of −1…1 have steps of
/// 1/655, so that their sum fits 31 bits.
const ROUNDED: f32 = 2e-3;

/// Pseudo-random numbers.
struct Noise(u32);

impl Noise {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((self.0 >> 8) as usize * limit) >> 24
    }

    /// Numbers in −1…1.
    fn floats(&mut self, count: usize) -> Vec<f32> {
        let mut float = |_| self.below(1 << 20) as f32 / (1 << 19) as f32 - 1.0;
        (0..count).map(&mut float).collect()
    }

    /// Integers from −`most` to `most`, or to one less.
    fn weights(&mut self, count: usize, most: i32, has_most: bool) -> Vec<i8> {
        let range = 2 * most + i32::from(has_most);
        let mut weight = |_| (self.below(range as usize) as i32 - most) as i8;
        (0..count).map(&mut weight).collect()
    }
}

fn assert_near(what: impl Debug, found: &[Vec<f32>], expected: &[Vec<f32>], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what:?}: outputs");
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found.len(), expected.len(), "{what:?}: numbers");
        let largest = expected.iter().fold(0f32, |most, x| most.max(x.abs()));
        for (i, (f, e)) in found.iter().zip(expected).enumerate() {
            let is_near = f == e || (f - e).abs() <= tolerance * largest;
            assert!(is_near, "{what:?}: number {i} is {f}; expected {e}");
        }
    }
}

fn load(model: &Model, isa: Isa, arithmetic: Arithmetic) -> Kernels {
    Kernels::load(&model.file(), model.item, isa, arithmetic).unwrap()
}

/// Runs a model in every way and compares the outputs, relative to the largest value: those of each instruction set
/// with the scalar ones, which are returned, and those of ONNX Runtime.
fn check(
    what: impl Debug,
    model: &Model,
    input: &[f32],
    between_levels: f32,
    to_runtime: f32,
) -> Vec<Vec<f32>> {
    let file = model.file();
    let kernels = |isa| match Kernels::load(&file, model.item, isa, Arithmetic::F32) {
        Ok(kernels) => kernels,
        Err(refusal) => panic!("{what:?}: {refusal}"),
    };
    let scalar = kernels(Isa::Scalar).run(1, input);
    for isa in Isa::available() {
        let kernels = kernels(isa);
        let found = kernels.run(1, input);
        assert_near((&what, isa), &found, &scalar, between_levels);
        assert_eq!(kernels.run(3, input), found, "{what:?} {isa:?}: 3 threads");
    }
    let [height, width, channels] = model.item;
    let shape = [
        input.len() / (height * width * channels),
        height,
        width,
        channels,
    ];
    match onnx_runtime(&file, shape, input, model.outputs) {
        Ok(expected) => assert_near((&what, "ONNX Runtime"), &scalar, &expected, to_runtime),
        Err(e) if e.is_missing_file() => skip::skip("no ONNX Runtime to compare operators with"),
        Err(e) => panic!("{what:?}: {e}"),
    }
    scalar
}

/// Runs the model with sums of i16 pairs, where an instruction set supports it, and compares the outputs.
fn check_i16(what: impl Debug, model: &Model, input: &[f32], expected: &[Vec<f32>]) {
    let mut first = None;
    for isa in Isa::available()
        .into_iter()
        .filter(|isa| isa.has_fast_i16())
    {
        let found = load(model, isa, Arithmetic::I16).run(1, input);
        assert_near((&what, isa, "i16"), &found, expected, ROUNDED);
        // The sums are the same integers, but they are scaled in float32.
        let first = first.get_or_insert_with(|| found.clone());
        assert_near((&what, isa, "i16 sums"), &found, first, 1e-6);
    }
}

/// Two random items of a model's input.
fn two_items(model: &Model, noise: &mut Noise) -> Vec<f32> {
    noise.floats(2 * model.item.iter().product::<usize>())
}

/// The window of a convolution or a pooling.
#[derive(Debug, Clone)]
struct Window {
    kernel: [i64; 2],
    strides: [i64; 2],
    pads: Option<[i64; 4]>,
    auto_pad: Option<&'static str>,
}

impl Window {
    const PLAIN: Self = Self {
        kernel: [1, 1],
        strides: [1, 1],
        pads: None,
        auto_pad: None,
    };

    /// Every kernel size with every stride and every padding that it can have.
    fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for kernel in [[1, 1], [1, 3], [3, 1], [3, 3], [5, 5]] {
            for strides in [[1, 1], [2, 2], [3, 3], [1, 2]] {
                let pads = [
                    [0, 0, 0, 0],
                    [1, 0, 0, 0],
                    [0, 1, 0, 0],
                    [0, 0, 1, 0],
                    [0, 0, 0, 1],
                    [1, 1, 1, 1],
                    [0, 2, 1, 0],
                    [4, 0, 3, 2],
                ];
                let can_have = |pads: &[i64; 4]| (0..4).all(|i| pads[i] < kernel[i % 2]);
                let plain = Self {
                    kernel,
                    strides,
                    ..Self::PLAIN
                };
                let explicit = pads.into_iter().filter(can_have).map(|pads| Self {
                    pads: Some(pads),
                    ..plain.clone()
                });
                all.extend(explicit);
                // With strides of 3 and kernels of 1, SAME padding is negative, and crops the input.
                let cuts = (0..2).any(|axis| strides[axis] > kernel[axis] + 1);
                let auto = ["VALID", "SAME_UPPER", "SAME_LOWER"];
                let auto = auto.into_iter().filter(|auto| *auto == "VALID" || !cuts);
                all.extend(auto.map(|auto| Self {
                    auto_pad: Some(auto),
                    ..plain.clone()
                }));
            }
        }
        all
    }

    fn attributes(&self) -> Vec<Attribute<'_>> {
        let mut all = vec![
            ("kernel_shape", Ints(&self.kernel)),
            ("strides", Ints(&self.strides)),
        ];
        all.extend(self.pads.as_ref().map(|pads| ("pads", Ints(pads))));
        all.extend(self.auto_pad.map(|auto| ("auto_pad", Text(auto))));
        all
    }

    fn area(&self) -> usize {
        (self.kernel[0] * self.kernel[1]) as usize
    }

    /// Height and width of the output for an input, according to the ONNX specification.
    fn output(&self, input: [usize; 2]) -> [usize; 2] {
        [0, 1].map(|axis| {
            let (kernel, stride) = (self.kernel[axis] as usize, self.strides[axis] as usize);
            match (self.auto_pad, self.pads) {
                (Some("SAME_UPPER" | "SAME_LOWER"), _) => input[axis].div_ceil(stride),
                (_, pads) => {
                    let pads = pads.unwrap_or_default();
                    let padded = input[axis] + (pads[axis] + pads[axis + 2]) as usize;
                    (padded - kernel) / stride + 1
                }
            }
        })
    }
}

fn float_conv(
    m: &mut Model,
    noise: &mut Noise,
    from: &str,
    [into, out]: [usize; 2],
    window: &Window,
    has_bias: bool,
) -> String {
    let [rows, columns] = window.kernel.map(|n| n as usize);
    let weights = noise.floats(out * into * window.area());
    let weights = m.constant(&[out, into, rows, columns], Data::F32(&weights));
    let bias = has_bias.then(|| m.constant(&[out], Data::F32(&noise.floats(out))));
    let mut inputs = vec![from, &weights];
    inputs.extend(bias.as_deref());
    m.node("Conv", &inputs, &window.attributes())
}

/// One of: no activation, Relu, PRelu with one slope, PRelu with one slope per channel.
fn activation(
    m: &mut Model,
    noise: &mut Noise,
    from: &str,
    kind: usize,
    channels: &[usize],
) -> String {
    match kind % 5 {
        0 => from.to_owned(),
        1 => m.node("Relu", &[from], &[]),
        2 => {
            let slope = m.constant(&[1], Data::F32(&[0.3]));
            m.node("PRelu", &[from, &slope], &[])
        }
        kind => {
            let mut dims = channels.to_vec();
            // The slopes may have a leading axis for the batch.
            dims.splice(0..0, vec![1; kind - 3]);
            let slopes = noise.floats(dims.iter().product());
            let slopes = m.constant(&dims, Data::F32(&slopes));
            m.node("PRelu", &[from, &slopes], &[])
        }
    }
}

/// Prints which instruction sets a passing run covers.
#[test]
fn every_instruction_set_of_this_cpu_is_covered() {
    let covered = Isa::available();
    let missing: Vec<_> = Isa::NAMES
        .iter()
        .filter(|name| !covered.iter().any(|isa| isa.name() == **name))
        .collect();
    println!("covered: {covered:?}; not on this CPU: {missing:?}");
    assert!(covered.contains(&Isa::Scalar));
}

// --- float32

#[test]
fn float_convolutions_of_every_window_sum_up_what_it_sees() {
    let channels = [
        [3, 16],
        [1, 1],
        [5, 7],
        [16, 32],
        [17, 33],
        [4, 64],
        [2, 48],
    ];
    let mut noise = Noise(1);
    for (number, window) in Window::all().into_iter().enumerate() {
        let [into, out] = channels[number % channels.len()];
        let mut m = Model::new([7, 9, into]);
        let x = channels_first(&mut m);
        let y = float_conv(
            &mut m,
            &mut noise,
            &x,
            [into, out],
            &window,
            number % 2 == 0,
        );
        let y = activation(&mut m, &mut noise, &y, number, &[out, 1, 1]);
        output_pixels(&mut m, &y);
        let input = two_items(&m, &mut noise);
        let what = (&window, into, out);
        let found = check(what, &m, &input, REORDERED, REORDERED);
        check_i16(what, &m, &input, &found);
    }
}

#[test]
fn float_max_pools_of_every_window_give_the_largest_that_it_sees() {
    let mut noise = Noise(2);
    for (number, window) in Window::all().into_iter().enumerate() {
        let channels = [16, 5, 32, 48, 64][number % 5];
        let mut m = Model::new([7, 9, 3]);
        let x = channels_first(&mut m);
        let y = float_conv(&mut m, &mut noise, &x, [3, channels], &Window::PLAIN, false);
        let y = m.node("MaxPool", &[&y], &window.attributes());
        output_pixels(&mut m, &y);
        let input = two_items(&m, &mut noise);
        check((&window, channels), &m, &input, REORDERED, REORDERED);
    }
}

#[test]
fn activations_stand_alone_where_something_else_reads_the_layer() {
    let mut noise = Noise(3);
    for kind in 1..5 {
        let mut m = Model::new([3, 4, 3]);
        let x = channels_first(&mut m);
        let y = float_conv(&mut m, &mut noise, &x, [3, 10], &Window::PLAIN, true);
        let z = activation(&mut m, &mut noise, &y, kind, &[10, 1, 1]);
        output_pixels(&mut m, &y);
        output_pixels(&mut m, &z);
        let input = two_items(&m, &mut noise);
        check(kind, &m, &input, REORDERED, REORDERED);
    }
}

#[test]
fn a_convolution_with_a_group_for_each_channel_is_a_factor() {
    let mut noise = Noise(4);
    for is_fused in [false, true] {
        let mut m = Model::new([3, 4, 3]);
        let x = channels_first(&mut m);
        let y = float_conv(&mut m, &mut noise, &x, [3, 10], &Window::PLAIN, true);
        let factors = m.constant(&[10, 1, 1, 1], Data::F32(&noise.floats(10)));
        let z = m.node("Conv", &[&y, &factors], &[("group", Int(10))]);
        if !is_fused {
            output_pixels(&mut m, &y);
        }
        output_pixels(&mut m, &z);
        let input = two_items(&m, &mut noise);
        check(is_fused, &m, &input, REORDERED, REORDERED);
    }
}

/// A PReLU as converters from Keras write it, below · y + factor · relu(y), in either order.
#[test]
fn a_prelu_of_four_operators_is_one_activation() {
    let mut noise = Noise(5);
    for is_exchanged in [false, true] {
        let mut m = Model::new([3, 4, 3]);
        let x = channels_first(&mut m);
        let y = float_conv(&mut m, &mut noise, &x, [3, 10], &Window::PLAIN, true);
        let mut factor = |m: &mut Model, from: &str| {
            let factors = m.constant(&[10, 1, 1, 1], Data::F32(&noise.floats(10)));
            m.node("Conv", &[from, &factors], &[("group", Int(10))])
        };
        let relu = m.node("Relu", &[&y], &[]);
        let (above, below) = (factor(&mut m, &relu), factor(&mut m, &y));
        let both = match is_exchanged {
            false => [&above[..], &below],
            true => [&below[..], &above],
        };
        let z = m.node("Add", &both, &[]);
        output_pixels(&mut m, &z);
        assert_eq!(load(&m, Isa::Scalar, Arithmetic::F32).kernels().len(), 1);
        let input = two_items(&m, &mut noise);
        check(is_exchanged, &m, &input, REORDERED, REORDERED);
    }
}

#[test]
fn additions_of_float32_are_those_of_pixels_and_of_rows() {
    let mut noise = Noise(6);
    let mut m = Model::new([2, 3, 4]);
    let x = channels_first(&mut m);
    let [a, b] = [0, 1].map(|_| float_conv(&mut m, &mut noise, &x, [4, 18], &Window::PLAIN, true));
    let sum = m.node("Add", &[&a, &b], &[]);
    let flat = m.node("Flatten", &[&sum], &[]);
    let mut gemm = |m: &mut Model| {
        let weights = m.constant(&[108, 5], Data::F32(&noise.floats(540)));
        m.node("Gemm", &[&flat, &weights], &[])
    };
    let (a, b) = (gemm(&mut m), gemm(&mut m));
    let y = m.node("Add", &[&a, &b], &[]);
    output_pixels(&mut m, &sum);
    m.output(&y);
    let input = two_items(&m, &mut noise);
    check("Add", &m, &input, REORDERED, REORDERED);
}

#[test]
fn fully_connected_layers_take_factors_layouts_and_activations() {
    let mut noise = Noise(7);
    let mut number = 0;
    for alpha in [None, Some(0.25), Some(-2.0)] {
        for beta in [None, Some(0.5), Some(0.0)] {
            for trans_b in [None, Some(0), Some(1)] {
                number += 1;
                let (into, out) = (2 * 3 * 5, [7, 16, 40, 128][number % 4]);
                let mut m = Model::new([2, 3, 5]);
                let x = channels_first(&mut m);
                let axis = [1, -3][number % 2];
                let mut flat = m.node("Flatten", &[&x], &[("axis", Int(axis))]);
                if number % 3 == 0 {
                    // The channels of these pixels are padded.
                    let y = float_conv(&mut m, &mut noise, &x, [5, 5], &Window::PLAIN, false);
                    flat = m.node("Flatten", &[&y], &[]);
                }
                let dims = match trans_b {
                    Some(1) => [out, into],
                    _ => [into, out],
                };
                let weights = m.constant(&dims, Data::F32(&noise.floats(into * out)));
                let bias = &[vec![], vec![out], vec![1, out]][number / 3 % 3];
                let bias =
                    (!bias.is_empty()).then(|| m.constant(bias, Data::F32(&noise.floats(out))));
                let mut inputs = vec![&flat[..], &weights];
                inputs.extend(bias.as_deref());
                let mut attributes = Vec::new();
                attributes.extend(alpha.map(|a| ("alpha", Float(a))));
                attributes.extend(beta.map(|b| ("beta", Float(b))));
                attributes.extend(trans_b.map(|t| ("transB", Int(t))));
                let y = m.node("Gemm", &inputs, &attributes);
                let y = activation(&mut m, &mut noise, &y, number, &[out]);
                m.output(&y);
                let input = two_items(&m, &mut noise);
                let what = (alpha, beta, trans_b, number);
                let found = check(what, &m, &input, REORDERED, REORDERED);
                check_i16(what, &m, &input, &found);
            }
        }
    }
}

/// A vector of features: the output of a Gemm on the input.
fn features(m: &mut Model, noise: &mut Noise, out: usize) -> String {
    let into: usize = m.item.iter().product();
    let x = channels_first(m);
    let flat = m.node("Flatten", &[&x], &[]);
    let weights = m.constant(&[into, out], Data::F32(&noise.floats(into * out)));
    m.node("Gemm", &[&flat, &weights], &[])
}

#[test]
fn weights_in_integers_are_read_back_for_float_layers() {
    let mut noise = Noise(8);
    for (trans_b, by_row) in [(0, false), (0, true), (1, false), (1, true)] {
        let mut m = Model::new([1, 1, 6]);
        let x = channels_first(&mut m);
        let flat = m.node("Flatten", &[&x], &[]);
        let dims = if trans_b == 1 { [5, 6] } else { [6, 5] };
        let weights = noise.weights(30, 128, false);
        let scales = vec![0.01; if by_row { dims[0] } else { 1 }];
        let weights = weights_i8(&mut m, &dims, &weights, &scales);
        let y = m.node("Gemm", &[&flat, &weights], &[("transB", Int(trans_b))]);
        m.output(&y);
        let input = two_items(&m, &mut noise);
        // ONNX Runtime quantises the inputs of such layers to 8 bits.
        check((trans_b, by_row), &m, &input, REORDERED, 1e-2);
    }
}

#[test]
fn softmax_is_that_of_the_channels_wherever_they_are() {
    let mut noise = Noise(9);
    for (axis, is_last) in [(Some(3), true), (Some(-1), true), (None, true)]
        .into_iter()
        .chain([(Some(1), false), (Some(-3), false)])
    {
        let mut m = Model::new([3, 4, 3]);
        let x = channels_first(&mut m);
        let mut y = float_conv(&mut m, &mut noise, &x, [3, 5], &Window::PLAIN, true);
        let attributes: Vec<_> = axis.map(|axis| ("axis", Int(axis))).into_iter().collect();
        if is_last {
            y = m.node("Transpose", &[&y], &[("perm", Ints(&[0, 2, 3, 1]))]);
            let y = m.node("Softmax", &[&y], &attributes);
            m.output(&y);
        } else {
            let y = m.node("Softmax", &[&y], &attributes);
            output_pixels(&mut m, &y);
        }
        let input = two_items(&m, &mut noise);
        let found = check((axis, is_last), &m, &input, REORDERED, REORDERED);
        let sums = found[0].chunks_exact(5).map(|p| p.iter().sum::<f32>());
        sums.for_each(|sum| assert!((sum - 1.0).abs() < 1e-6));
    }
    for axis in [1, -1] {
        let mut m = Model::new([1, 2, 3]);
        let y = features(&mut m, &mut noise, 21);
        let y = m.node("Softmax", &[&y], &[("axis", Int(axis))]);
        m.output(&y);
        let input = two_items(&m, &mut noise);
        check(axis, &m, &input, REORDERED, REORDERED);
    }
}

#[test]
fn split_gives_channels_wherever_they_are() {
    let mut noise = Noise(10);
    let sizes = [2, 4, 15];
    for axis in [1, -1] {
        let mut m = Model::new([1, 2, 3]);
        let y = features(&mut m, &mut noise, 21);
        let by = m.constant(&[3], Data::I64(&sizes));
        let parts = m.node_of("", "Split", &[&y, &by], 3, &[("axis", Int(axis))]);
        parts.iter().for_each(|part| m.output(part));
        let input = two_items(&m, &mut noise);
        check(axis, &m, &input, REORDERED, REORDERED);
    }
    for (axis, is_last) in [(3, true), (-1, true), (1, false), (-3, false)] {
        let mut m = Model::new([3, 2, 3]);
        let x = channels_first(&mut m);
        let mut y = float_conv(&mut m, &mut noise, &x, [3, 21], &Window::PLAIN, true);
        if is_last {
            y = m.node("Transpose", &[&y], &[("perm", Ints(&[0, 2, 3, 1]))]);
        }
        let by = m.constant(&[3], Data::I64(&sizes));
        let parts = m.node_of("", "Split", &[&y, &by], 3, &[("axis", Int(axis))]);
        for part in parts {
            match is_last {
                true => m.output(&part),
                false => output_pixels(&mut m, &part),
            }
        }
        let input = two_items(&m, &mut noise);
        check((axis, is_last), &m, &input, REORDERED, REORDERED);
    }
}

#[test]
fn rows_are_divided_by_their_length_or_by_the_least_that_it_counts_as() {
    let mut noise = Noise(11);
    for (opset, axis, floor) in [
        (13, 1, 1e-12),
        (17, -1, 1e-12),
        (18, -1, 0.5),
        (20, 1, 10.0),
    ] {
        let mut m = Model::new([1, 2, 3]);
        m.opsets = vec![("", opset)];
        let y = features(&mut m, &mut noise, 21);
        let length = if opset < 18 {
            m.node("ReduceL2", &[&y], &[("axes", Ints(&[axis]))])
        } else {
            let axes = m.constant(&[1], Data::I64(&[axis]));
            m.node("ReduceL2", &[&y, &axes], &[("keepdims", Int(1))])
        };
        let floor = m.constant(&[], Data::F32(&[floor]));
        let length = m.node("Max", &[&length, &floor], &[]);
        let y = m.node("Div", &[&y, &length], &[]);
        m.output(&y);
        let mut input = two_items(&m, &mut noise);
        input[..6].fill(0.0);
        let found = check((opset, axis), &m, &input, REORDERED, REORDERED);
        assert!(found[0][..21].iter().all(|&x| x == 0.0));
    }
}

/// The tensors of a file may also be in the fields of their type.
#[test]
fn constants_are_read_from_raw_bytes_and_from_lists_of_numbers() {
    let values = [0.5, -1.0, 2.0];
    let outputs = [false, true].map(|is_list| {
        let mut m = Model::new([2, 2, 3]);
        let x = channels_first(&mut m);
        let weights = match is_list {
            false => tensor("w", &[1, 3, 1, 1], Data::F32(&values), Message::default()),
            true => Message::default()
                .all(&[1, 3, 1, 1], |m, &n| m.int(1, n))
                .int(2, 1)
                .bytes(8, "w")
                .all(&values, |m, &n| m.float(4, n)),
        };
        m.initializer(&weights);
        let y = m.node("Conv", &[&x, "w"], &[]);
        output_pixels(&mut m, &y);
        let input = two_items(&m, &mut Noise(12));
        check(is_list, &m, &input, REORDERED, REORDERED)
    });
    assert_eq!(outputs[0], outputs[1]);
}

#[test]
fn every_opset_from_13_to_20_means_the_same() {
    let outputs: Vec<_> = (13..=20)
        .map(|opset| {
            let mut noise = Noise(13);
            let mut m = Model::new([5, 5, 3]);
            m.opsets = vec![("", opset), ("com.microsoft", 1)];
            let x = channels_first(&mut m);
            let y = float_conv(&mut m, &mut noise, &x, [3, 8], &Window::PLAIN, true);
            let y = activation(&mut m, &mut noise, &y, 3, &[8, 1, 1]);
            let y = m.node("MaxPool", &[&y], &[("kernel_shape", Ints(&[2, 2]))]);
            let y = m.node("Softmax", &[&y], &[("axis", Int(1))]);
            output_pixels(&mut m, &y);
            let input = two_items(&m, &mut noise);
            check(opset, &m, &input, REORDERED, REORDERED)
        })
        .collect();
    assert!(outputs.iter().all(|o| *o == outputs[0]));
}

// --- known faults

/// The engine for networks on faces once ignored `alpha`.
#[test]
fn gemm_with_alpha_of_a_quarter_gives_a_quarter() {
    let mut m = Model::new([1, 1, 2]);
    let x = channels_first(&mut m);
    let flat = m.node("Flatten", &[&x], &[]);
    let identity = m.constant(&[2, 2], Data::F32(&[1.0, 0.0, 0.0, 1.0]));
    let bias = m.constant(&[2], Data::F32(&[1.0, 2.0]));
    let attributes = [("alpha", Float(0.25)), ("beta", Float(3.0))];
    let y = m.node("Gemm", &[&flat, &identity, &bias], &attributes);
    m.output(&y);
    let found = check("alpha", &m, &[4.0, 8.0], EXACT, EXACT);
    assert_eq!(found, [[4.0, 8.0]]);
}

/// A 4×4 image of 1…16 with kernels of 3×3 and strides of 2: one row and one column of padding result in two by two
/// outputs.
#[test]
fn max_pool_with_auto_pad_pads_on_the_side_that_it_says() {
    let input: Vec<_> = (1..=16).map(|n| n as f32).collect();
    for (auto_pad, expected) in [
        ("VALID", &[11.0][..]),
        // Windows cover rows and columns 0…2 and 2…3.
        ("SAME_UPPER", &[11.0, 12.0, 15.0, 16.0]),
        // Windows cover rows and columns 0…1 and 1…3.
        ("SAME_LOWER", &[6.0, 8.0, 14.0, 16.0]),
    ] {
        let mut m = Model::new([4, 4, 1]);
        let x = channels_first(&mut m);
        let one = m.constant(&[1, 1, 1, 1], Data::F32(&[1.0]));
        let y = m.node("Conv", &[&x, &one], &[]);
        let window = Window {
            kernel: [3, 3],
            strides: [2, 2],
            auto_pad: Some(auto_pad),
            ..Window::PLAIN
        };
        let y = m.node("MaxPool", &[&y], &window.attributes());
        output_pixels(&mut m, &y);
        assert_eq!(check(auto_pad, &m, &input, EXACT, EXACT), [expected]);
    }
}

#[test]
fn softmax_of_equal_numbers_is_even_however_large_they_are() {
    let mut m = Model::new([1, 1, 1]);
    let x = channels_first(&mut m);
    let ones = m.constant(&[4, 1, 1, 1], Data::F32(&[1.0; 4]));
    let y = m.node("Conv", &[&x, &ones], &[]);
    let y = m.node("Softmax", &[&y], &[("axis", Int(1))]);
    output_pixels(&mut m, &y);
    let found = check("softmax", &m, &[1e30, -1e30, 0.0], EXACT, EXACT);
    assert_eq!(found, [[0.25; 12]]);
}

// --- quantised

const ZERO_POINTS: [u8; 4] = [0, 100, 128, 255];

/// Scale of inputs; integer multiples of it are exact in float32.
const STEP: f32 = 1.0 / 64.0;

/// Random u8 values including the extremes, dequantised.
fn bytes(m: &Model, noise: &mut Noise, q: Quantization) -> Vec<f32> {
    let count = 2 * m.item.iter().product::<usize>();
    let mut byte = |i: usize| match i % 16 {
        0 => 0,
        1 => 255,
        _ => noise.below(256),
    };
    let worth = |byte: usize| (byte as f32 - f32::from(q.zero_point)) * q.scale;
    (0..count).map(|i| worth(byte(i))).collect()
}

/// A convolution of u8 with random weights.
struct U8Conv<'a> {
    channels: [usize; 2],
    window: &'a Window,
    /// Weights are from −this value on.
    largest_weight: i32,
    is_by_channel: bool,
    has_bias: bool,
}

impl U8Conv<'_> {
    /// Adds the convolution; its output is quantised so that most values are within 0…255.
    fn add(
        &self,
        m: &mut Model,
        noise: &mut Noise,
        from: &str,
        input: Quantization,
        zero_point: u8,
    ) -> (String, Quantization) {
        let [into, out] = self.channels;
        let [rows, columns] = self.window.kernel.map(|n| n as usize);
        let products = into * self.window.area();
        let has_most = self.largest_weight < 128;
        let values = noise.weights(out * products, self.largest_weight, has_most);
        let scales: Vec<f32> = match self.is_by_channel {
            false => vec![0.003],
            true => (0..out)
                .map(|_| 0.001 * (1 + noise.below(5)) as f32)
                .collect(),
        };
        let weights = weights_i8(m, &[out, into, rows, columns], &values, &scales);
        // Standard deviation of a sum of products of uniformly distributed bytes and weights.
        let spread = 256.0 * 2.0 * self.largest_weight as f32 / 12.0 * (products as f32).sqrt();
        let bias = self.has_bias.then(|| {
            let bias = noise.floats(out).into_iter();
            let bias: Vec<_> = bias.map(|b| (b * spread) as i32).collect();
            let bias = m.constant(&[out], Data::I32(&bias));
            let scales: Vec<_> = scales.iter().map(|s| s * input.scale).collect();
            dequantized(m, &bias, &scales)
        });
        let mut inputs = vec![from, &weights];
        inputs.extend(bias.as_deref());
        let y = m.node("Conv", &inputs, &self.window.attributes());
        let q = Quantization {
            scale: input.scale * 0.003 * spread / 40.0,
            zero_point,
        };
        (quantized(m, &y, q), q)
    }
}

/// Whether ONNX Runtime has exact sums for weights of 8 bits: without VNNI it adds pairs in 16 bits, which overflow.
fn runtime_is_exact() -> bool {
    let levels = Isa::available();
    cfg!(not(target_arch = "x86_64")) || levels.iter().any(|isa| isa.name().ends_with("vnni"))
}

#[test]
fn quantised_convolutions_of_every_window_are_exact() {
    let mut noise = Noise(20);
    for (number, window) in Window::all().into_iter().enumerate() {
        let into = [4, 3, 8, 20][number % 4];
        let [height, width] = window.output([5, 6]);
        let out = match height * width {
            0..7 => [16, 48, 80][number % 3],
            7..13 => [32, 48][number % 2],
            _ => 16,
        };
        let input = Quantization {
            scale: STEP,
            zero_point: ZERO_POINTS[number / 2 % 4],
        };
        let mut m = Model::new([5, 6, into]);
        let x = channels_first(&mut m);
        let x = quantized(&mut m, &x, input);
        let conv = U8Conv {
            channels: [into, out],
            window: &window,
            largest_weight: if number % 3 == 0 { 128 } else { 64 },
            is_by_channel: number % 5 < 3,
            has_bias: number % 2 == 0,
        };
        let zero_point = ZERO_POINTS[number / 3 % 4];
        let (y, q) = conv.add(&mut m, &mut noise, &x, input, zero_point);
        output_each(&mut m, &y, [out, height, width], q);
        let wide = conv.largest_weight > 64;
        let kernel = load(&m, Isa::best(), Arithmetic::F32).kernels()[1].clone();
        assert_eq!(kernel.contains("wide"), wide, "{kernel}");
        let to_runtime = match wide && !runtime_is_exact() {
            true => f32::INFINITY,
            false => EXACT,
        };
        let items = bytes(&m, &mut noise, input);
        let what = (&window, into, out, input, q, conv.is_by_channel, wide);
        check(what, &m, &items, EXACT, to_runtime);
    }
}

/// Pairs of products in 16 bits would overflow with 8-bit weights, and nearly do with 7-bit ones.
#[test]
fn sums_of_the_largest_products_do_not_overflow() {
    for weight in [-128, -127, 127, -64, 64] {
        for byte in [255.0, 0.0] {
            let zero_point = if byte > 0.0 { 0 } else { 255 };
            let input = Quantization {
                scale: 1.0,
                zero_point,
            };
            let mut m = Model::new([3, 3, 8]);
            let x = channels_first(&mut m);
            let x = quantized(&mut m, &x, input);
            // The first weight of every other channel differs, so that the results differ.
            let mut weights = vec![weight; 16 * 72];
            weights.iter_mut().step_by(144).for_each(|w| *w = 1);
            let weights = weights_i8(&mut m, &[16, 8, 3, 3], &weights, &[1.0]);
            let y = m.node("Conv", &[&x, &weights], &[]);
            let q = Quantization {
                scale: 72.0 * 128.0,
                zero_point: 128,
            };
            let y = quantized(&mut m, &y, q);
            output_row(&mut m, &y, 16);
            let worth = byte - f32::from(zero_point);
            let items = vec![worth; 2 * 72];
            let to_runtime = if runtime_is_exact() {
                EXACT
            } else {
                f32::INFINITY
            };
            let found = check((weight, byte), &m, &items, EXACT, to_runtime);
            let sum = |ones: f32| (72.0 - ones) * f32::from(weight) * worth + ones * worth;
            let rounded =
                |sum: f32| (sum / q.scale).round_ties_even().clamp(-128.0, 127.0) * q.scale;
            assert_eq!(found[0][0], rounded(sum(1.0)), "{weight} {byte}");
            assert_eq!(found[0][1], rounded(sum(0.0)), "{weight} {byte}");
        }
    }
}

/// The convolutions are large enough to be shared among threads, by pixels and by channels.
#[test]
fn quantised_convolutions_are_shared_among_threads_without_a_difference() {
    let mut noise = Noise(22);
    for (side, channels) in [(40, [16, 64]), (4, [256, 512])] {
        let input = Quantization {
            scale: STEP,
            zero_point: 128,
        };
        let window = Window {
            kernel: [3, 3],
            pads: Some([1, 1, 1, 1]),
            ..Window::PLAIN
        };
        let mut m = Model::new([side, side, channels[0]]);
        let x = channels_first(&mut m);
        let x = quantized(&mut m, &x, input);
        let conv = U8Conv {
            channels,
            window: &window,
            largest_weight: 64,
            is_by_channel: true,
            has_bias: true,
        };
        let (y, _) = conv.add(&mut m, &mut noise, &x, input, 100);
        let y = m.node("GlobalAveragePool", &[&y], &[]);
        let q = Quantization {
            scale: 0.01,
            zero_point: 128,
        };
        let y = quantized(&mut m, &y, q);
        output_row(&mut m, &y, channels[1]);
        let items = bytes(&m, &mut noise, input);
        check((side, channels), &m, &items, EXACT, EXACT);
    }
}

#[test]
fn quantised_max_pools_of_every_window_are_exact() {
    let mut noise = Noise(23);
    for (number, window) in Window::all().into_iter().enumerate() {
        let q = Quantization {
            scale: STEP,
            zero_point: ZERO_POINTS[number % 4],
        };
        let channels = [4, 8, 16][number % 3];
        let mut m = Model::new([5, 6, channels]);
        let x = channels_first(&mut m);
        let x = quantized(&mut m, &x, q);
        let y = m.node("MaxPool", &[&x], &window.attributes());
        let y = quantized(&mut m, &y, q);
        let [height, width] = window.output([5, 6]);
        output_each(&mut m, &y, [channels, height, width], q);
        let items = bytes(&m, &mut noise, q);
        check((&window, channels, q), &m, &items, EXACT, EXACT);
    }
}

/// Two to four layers on one image, each quantised differently.
fn branches(m: &mut Model, noise: &mut Noise, count: usize) -> Vec<(String, Quantization)> {
    let input = Quantization {
        scale: STEP,
        zero_point: 128,
    };
    let x = channels_first(m);
    let x = quantized(m, &x, input);
    (0..count)
        .map(|i| {
            let conv = U8Conv {
                channels: [m.item[2], 16],
                window: &Window::PLAIN,
                largest_weight: [64, 30, 20, 50][i],
                is_by_channel: i % 2 == 0,
                has_bias: true,
            };
            conv.add(m, noise, &x, input, ZERO_POINTS[(i + count) % 4])
        })
        .collect()
}

#[test]
fn concatenations_of_two_to_four_inputs_are_exact() {
    let mut noise = Noise(24);
    for count in 1..=4 {
        for axis in [1, -3] {
            let mut m = Model::new([2, 3, 3]);
            let inputs = branches(&mut m, &mut noise, count);
            let names: Vec<_> = inputs.iter().map(|(name, _)| &name[..]).collect();
            let y = m.node("Concat", &names, &[("axis", Int(axis))]);
            let q = Quantization {
                scale: inputs[0].1.scale * 1.3,
                zero_point: 90,
            };
            let y = quantized(&mut m, &y, q);
            output_each(&mut m, &y, [16 * count, 2, 3], q);
            let items = two_items(&m, &mut noise);
            check((count, axis), &m, &items, EXACT, EXACT);
        }
    }
}

#[test]
fn additions_of_quantised_tensors_are_those_of_the_scalar_kernels() {
    let mut noise = Noise(25);
    for zero_point in ZERO_POINTS {
        let mut m = Model::new([2, 3, 3]);
        let inputs = branches(&mut m, &mut noise, 2);
        let y = m.node("Add", &[&inputs[0].0, &inputs[1].0], &[]);
        let q = Quantization {
            scale: inputs[0].1.scale * 1.7,
            zero_point,
        };
        let y = quantized(&mut m, &y, q);
        output_each(&mut m, &y, [16, 2, 3], q);
        let items = two_items(&m, &mut noise);
        check(zero_point, &m, &items, EXACT, ONE_UNIT);
    }
}

#[test]
fn averages_of_quantised_pixels_are_exact() {
    let mut noise = Noise(26);
    for (number, zero_point) in ZERO_POINTS.into_iter().enumerate() {
        let mut m = Model::new([2 + number, 3, 3]);
        let (y, input) = branches(&mut m, &mut noise, 1).remove(0);
        let y = m.node("GlobalAveragePool", &[&y], &[]);
        let q = Quantization {
            scale: input.scale * 0.7,
            zero_point,
        };
        let y = quantized(&mut m, &y, q);
        output_row(&mut m, &y, 16);
        let items = two_items(&m, &mut noise);
        check(zero_point, &m, &items, EXACT, EXACT);
    }
}

/// The inputs include halves, numbers beyond 0…255, and infinite ones.
#[test]
fn images_are_rounded_to_even_and_clamped() {
    for zero_point in ZERO_POINTS {
        for channels in [3, 4] {
            let q = Quantization {
                scale: 0.5,
                zero_point,
            };
            let mut m = Model::new([2, 6, channels]);
            let x = channels_first(&mut m);
            let y = quantized(&mut m, &x, q);
            output_each(&mut m, &y, [channels, 2, 6], q);
            let count = 12 * channels;
            let mut items: Vec<_> = (0..count).map(|i| i as f32 / 4.0 - 4.0).collect();
            items[..4].copy_from_slice(&[f32::INFINITY, f32::NEG_INFINITY, 1e9, -1e9]);
            check((zero_point, channels), &m, &items, EXACT, EXACT);
        }
    }
}
