//! The operators that the engine supports: parsing of their attributes, and inference of their output shapes.
//!
//! The specification of each is <https://onnx.ai/onnx/operators/>. Anything that it does not define, or that is not
//! implemented here, is refused with the reason; nothing is guessed.

use super::fact::{Constant, Element, Fact};
use super::onnx::attributes::Attributes;
use super::window::Window;

/// Opset versions in which the supported operators have the same semantics. The newer ones add types and attributes,
/// which are refused where they are used.
pub const OPSETS: std::ops::RangeInclusive<i64> = 13..=20;

#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    Add,
    Concat {
        axis: i64,
    },
    Conv {
        window: Window,
        group: usize,
    },
    DequantizeLinear {
        axis: i64,
    },
    Div,
    Flatten {
        axis: i64,
    },
    Gemm(Gemm),
    GlobalAveragePool,
    Max,
    MaxPool(Window),
    PRelu,
    QuantizeLinear {
        axis: i64,
    },
    ReduceL2 {
        axes: Option<Vec<i64>>,
        keepdims: bool,
    },
    Relu,
    Softmax {
        axis: i64,
    },
    Split {
        axis: i64,
    },
    Transpose {
        perm: Vec<i64>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gemm {
    pub alpha: f32,
    pub beta: f32,
    pub trans_a: bool,
    pub trans_b: bool,
}

/// Maximum number of elements of a tensor, or of one item if it is batched; FaceNet's largest has 400,000.
pub const LARGEST_TENSOR: usize = 1 << 22;

/// An input for shape inference.
pub struct Input<'a> {
    pub fact: &'a Fact,
    pub constant: Option<&'a Constant>,
}

impl Op {
    /// Reads the attributes of a node of the standard ONNX domain. The caller must refuse attributes that remain
    /// unread.
    pub fn read(name: &str, opset: i64, attributes: &mut Attributes) -> Result<Self, String> {
        Ok(match name {
            "Add" => Self::Add,
            "Concat" => Self::Concat {
                axis: attributes.int("axis")?.ok_or("axis is missing")?,
            },
            "Conv" => Self::Conv {
                window: Window::read(attributes)?,
                group: match attributes.int("group")?.unwrap_or(1) {
                    group @ 1..=65_536 => group as usize,
                    group => return Err(format!("group is {group}")),
                },
            },
            "DequantizeLinear" => Self::DequantizeLinear {
                axis: attributes.int("axis")?.unwrap_or(1),
            },
            "Div" => Self::Div,
            "Flatten" => Self::Flatten {
                axis: attributes.int("axis")?.unwrap_or(1),
            },
            "Gemm" => Self::Gemm(Gemm {
                alpha: attributes.float("alpha")?.unwrap_or(1.0),
                beta: attributes.float("beta")?.unwrap_or(1.0),
                trans_a: attributes.flag("transA", false)?,
                trans_b: attributes.flag("transB", false)?,
            }),
            "GlobalAveragePool" => Self::GlobalAveragePool,
            "Max" => Self::Max,
            "MaxPool" => {
                let window = Window::read(attributes)?;
                attributes.expect("ceil_mode", 0)?;
                attributes.expect("storage_order", 0)?;
                if window.kernel.is_none() {
                    return Err("kernel_shape is missing".to_owned());
                }
                Self::MaxPool(window)
            }
            "PRelu" => Self::PRelu,
            "QuantizeLinear" => {
                // This attribute affects only float8.
                attributes.expect("saturate", 1)?;
                Self::QuantizeLinear {
                    axis: attributes.int("axis")?.unwrap_or(1),
                }
            }
            "ReduceL2" => {
                attributes.expect("noop_with_empty_axes", 0)?;
                Self::ReduceL2 {
                    // From opset 18 on, the axes are an input.
                    axes: if opset < 18 {
                        attributes.ints("axes")?
                    } else {
                        None
                    },
                    keepdims: attributes.flag("keepdims", true)?,
                }
            }
            "Relu" => Self::Relu,
            "Softmax" => Self::Softmax {
                axis: attributes.int("axis")?.unwrap_or(-1),
            },
            "Split" => Self::Split {
                axis: attributes.int("axis")?.unwrap_or(0),
            },
            "Transpose" => Self::Transpose {
                perm: attributes.ints("perm")?.ok_or("perm is missing")?,
            },
            _ => return Err("our kernels have no such operator".to_owned()),
        })
    }

    /// Name of the operator in ONNX.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Add => "Add",
            Self::Concat { .. } => "Concat",
            Self::Conv { .. } => "Conv",
            Self::DequantizeLinear { .. } => "DequantizeLinear",
            Self::Div => "Div",
            Self::Flatten { .. } => "Flatten",
            Self::Gemm(_) => "Gemm",
            Self::GlobalAveragePool => "GlobalAveragePool",
            Self::Max => "Max",
            Self::MaxPool(_) => "MaxPool",
            Self::PRelu => "PRelu",
            Self::QuantizeLinear { .. } => "QuantizeLinear",
            Self::ReduceL2 { .. } => "ReduceL2",
            Self::Relu => "Relu",
            Self::Softmax { .. } => "Softmax",
            Self::Split { .. } => "Split",
            Self::Transpose { .. } => "Transpose",
        }
    }

    /// Minimum and maximum number of inputs.
    fn arity(&self) -> (usize, usize) {
        match self {
            Self::Relu | Self::Flatten { .. } | Self::GlobalAveragePool => (1, 1),
            Self::MaxPool(_) | Self::Softmax { .. } | Self::Transpose { .. } => (1, 1),
            Self::ReduceL2 { .. } => (1, 2),
            Self::Add | Self::Div | Self::PRelu | Self::Max | Self::Split { .. } => (2, 2),
            Self::Conv { .. } | Self::Gemm(_) => (2, 3),
            Self::DequantizeLinear { .. } | Self::QuantizeLinear { .. } => (2, 3),
            Self::Concat { .. } => (1, 64),
        }
    }

    /// The element type and shape of each of `outputs` outputs.
    pub fn infer(&self, inputs: &[Option<Input>], outputs: usize) -> Result<Vec<Fact>, String> {
        let (least, most) = self.arity();
        let given = inputs.iter().take_while(|i| i.is_some()).count();
        let is_optional_left_out = inputs.iter().skip(given).all(Option::is_none);
        if given < least || inputs.len() > most || !is_optional_left_out {
            return Err(format!(
                "{} inputs, of which the first {given} are given; expected {least} to {most}",
                inputs.len()
            ));
        }
        if outputs != 1 && !matches!(self, Self::Split { .. }) {
            return Err(format!(
                "{outputs} outputs; only the first is computed here"
            ));
        }
        let inputs: Vec<_> = inputs.iter().flatten().collect();
        let facts = self.infer_given(&inputs, outputs)?;
        match facts.iter().find(|fact| fact.len() > LARGEST_TENSOR) {
            Some(fact) => Err(format!(
                "an output of {:?} is larger than {LARGEST_TENSOR} numbers",
                fact.dims
            )),
            None => Ok(facts),
        }
    }

    fn infer_given(&self, inputs: &[&Input], outputs: usize) -> Result<Vec<Fact>, String> {
        let x = inputs[0].fact;
        let one = |fact: Fact| Ok(vec![fact]);
        let same = || one(x.clone());
        let with_dims = |dims: Vec<usize>| one(Fact { dims, ..x.clone() });
        match self {
            Self::DequantizeLinear { .. } => {
                let scale = inputs[1].fact;
                let is_integer = matches!(x.element, Element::U8 | Element::I8 | Element::I32);
                if !is_integer || scale.element != Element::F32 {
                    return Err(format!(
                        "{} with a scale of {}",
                        x.element.name(),
                        scale.element.name()
                    ));
                }
                if let Some(zero) = inputs.get(2) {
                    check_zero_point(zero.fact, x.element, scale)?;
                }
                return one(Fact {
                    element: Element::F32,
                    ..x.clone()
                });
            }
            Self::QuantizeLinear { .. } => {
                need_f32(inputs[..2].iter())?;
                let zero = inputs.get(2);
                let element = zero.map_or(Element::U8, |zero| zero.fact.element);
                if !matches!(element, Element::U8 | Element::I8) {
                    return Err(format!("a zero point of {}", element.name()));
                }
                if let Some(zero) = zero {
                    check_zero_point(zero.fact, element, inputs[1].fact)?;
                }
                return one(Fact {
                    element,
                    ..x.clone()
                });
            }
            Self::Split { .. } => need_f32(inputs[..1].iter())?,
            Self::ReduceL2 { .. } => need_f32(inputs[..1].iter())?,
            _ => need_f32(inputs.iter())?,
        }
        if !x.is_batched {
            return Err("the first input does not depend on the network's input".to_owned());
        }
        match self {
            Self::Relu => same(),
            Self::PRelu => {
                let channels = *x.dims.first().ok_or("an input without channels")?;
                let slope = inputs[1].fact;
                let significant: Vec<_> = slope.dims.iter().skip_while(|&&n| n == 1).collect();
                // NumPy broadcasting aligns trailing axes, so a slope per channel needs axes of 1 behind it.
                let fits = slope.len() == 1
                    || significant.len() == x.dims.len()
                        && *significant[0] == channels
                        && significant[1..].iter().all(|&&n| n == 1);
                if slope.is_batched || !fits {
                    return Err(format!(
                        "a slope of {:?} for channels of {:?}",
                        slope.dims, x.dims
                    ));
                }
                same()
            }
            Self::Add => {
                if inputs[1].fact != x {
                    return Err(format!(
                        "{:?} and {:?} of different shape",
                        x.dims, inputs[1].fact.dims
                    ));
                }
                same()
            }
            Self::Div | Self::Max => {
                let other = inputs[1].fact;
                // The second operand is a scalar constant, or one value for each item of a batch.
                if other.len() != 1 || !(other.is_batched || other.dims.len() <= 2) {
                    return Err(format!("{:?} with {:?}", x.dims, other.dims));
                }
                same()
            }
            Self::Concat { axis } => {
                let axis = feature_axis(*axis, x)?;
                let mut dims = x.dims.clone();
                dims[axis] = 0;
                for input in inputs {
                    let mut other = input.fact.dims.clone();
                    let fits = input.fact.is_batched && other.len() == dims.len();
                    if !fits {
                        return Err(format!("{:?} beside {:?}", other, x.dims));
                    }
                    dims[axis] += std::mem::replace(&mut other[axis], dims[axis]);
                    other[axis] = dims[axis];
                    if other != dims {
                        return Err(format!("{:?} beside {:?}", input.fact.dims, x.dims));
                    }
                }
                with_dims(dims)
            }
            Self::Conv { window, group } => {
                let [channels, height, width] = spatial(x)?;
                let weights = inputs[1].fact;
                let [out, into, rows, columns] = weights.dims[..] else {
                    return Err(format!("weights of {:?}; expected four axes", weights.dims));
                };
                let kernel = [rows, columns];
                if weights.is_batched || weights.len() == 0 {
                    return Err(format!("weights of {:?}", weights.dims));
                }
                if let Some(stated) = window.kernel
                    && stated != kernel
                {
                    return Err(format!(
                        "kernel_shape is {stated:?} with weights of {:?}",
                        weights.dims
                    ));
                }
                if into * group != channels || out % group != 0 {
                    return Err(format!(
                        "weights of {:?} in {group} groups for {channels} channels",
                        weights.dims
                    ));
                }
                if let Some(bias) = inputs.get(2)
                    && (bias.fact.is_batched || bias.fact.dims != [out])
                {
                    return Err(format!("a bias of {:?} for {out} channels", bias.fact.dims));
                }
                let ([height, width], _) = window.output(kernel, [height, width])?;
                with_dims(vec![out, height, width])
            }
            Self::MaxPool(window) => {
                let [channels, height, width] = spatial(x)?;
                let kernel = window.kernel.ok_or("kernel_shape is missing")?;
                let ([height, width], _) = window.output(kernel, [height, width])?;
                with_dims(vec![channels, height, width])
            }
            Self::GlobalAveragePool => {
                let [channels, ..] = spatial(x)?;
                with_dims(vec![channels, 1, 1])
            }
            Self::Flatten { axis } => {
                let rank = x.dims.len() as i64 + 1;
                if *axis != 1 && *axis != 1 - rank {
                    return Err(format!("axis is {axis}; expected 1"));
                }
                with_dims(vec![x.len()])
            }
            Self::Gemm(gemm) => {
                let [features] = x.dims[..] else {
                    return Err(format!("an input of {:?} for each item", x.dims));
                };
                let weights = inputs[1].fact;
                let [a, b] = weights.dims[..] else {
                    return Err(format!("weights of {:?}; expected two axes", weights.dims));
                };
                let [into, out] = if gemm.trans_b { [b, a] } else { [a, b] };
                if gemm.trans_a {
                    return Err("transA is 1: the batch would be summed up".to_owned());
                }
                if weights.is_batched || into != features || out == 0 {
                    return Err(format!(
                        "weights of {:?} for {features} features",
                        weights.dims
                    ));
                }
                if let Some(bias) = inputs.get(2) {
                    let dims = &bias.fact.dims[..];
                    if bias.fact.is_batched || dims != [out] && dims != [1, out] {
                        return Err(format!("a bias of {dims:?} for {out} numbers"));
                    }
                }
                with_dims(vec![out])
            }
            Self::ReduceL2 { axes, keepdims } => {
                let axes = match inputs.get(1).map(|i| (i.fact.element, i.constant)) {
                    Some((Element::I64, Some(constant))) => Some(constant.i64s()),
                    Some(_) => return Err("axes that are no int64 constant".to_owned()),
                    None => axes.clone(),
                };
                // Without axes, ReduceL2 reduces over all of them, which is refused.
                let axes = axes.unwrap_or_default();
                let is_last = matches!(axes[..], [1 | -1]);
                if !is_last || !keepdims || x.dims.len() != 1 {
                    return Err(format!(
                        "axes {axes:?}, keepdims {keepdims} of {:?}; expected the last one, kept",
                        x.dims
                    ));
                }
                with_dims(vec![1])
            }
            Self::Softmax { axis } => {
                feature_axis(*axis, x)?;
                same()
            }
            Self::Split { axis } => {
                let axis = feature_axis(*axis, x)?;
                let sizes = inputs[1]
                    .constant
                    .filter(|_| inputs[1].fact.element == Element::I64);
                let sizes = sizes.ok_or("sizes that are no int64 constant")?.i64s();
                let whole: i64 = sizes.iter().fold(0, |all, n| all.saturating_add(*n));
                let fits = sizes.len() == outputs
                    && sizes.iter().all(|&n| n > 0)
                    && usize::try_from(whole) == Ok(x.dims[axis]);
                if !fits {
                    return Err(format!(
                        "sizes {sizes:?} for {outputs} outputs of {:?}",
                        x.dims
                    ));
                }
                let part = |&size: &i64| {
                    let mut dims = x.dims.clone();
                    dims[axis] = size as usize;
                    Fact { dims, ..x.clone() }
                };
                Ok(sizes.iter().map(part).collect())
            }
            Self::Transpose { perm } => {
                let rank = x.dims.len() as i64 + 1;
                let mut sorted = perm.clone();
                sorted.sort_unstable();
                if perm.first() != Some(&0) || !sorted.into_iter().eq(0..rank) {
                    return Err(format!("perm is {perm:?} for {rank} axes, the batch first"));
                }
                with_dims(perm[1..].iter().map(|&p| x.dims[p as usize - 1]).collect())
            }
            Self::DequantizeLinear { .. } | Self::QuantizeLinear { .. } => {
                Err("quantisation has a shape rule of its own".to_owned())
            }
        }
    }
}

fn need_f32<'a>(inputs: impl Iterator<Item = &'a &'a Input<'a>>) -> Result<(), String> {
    for input in inputs {
        if input.fact.element != Element::F32 {
            return Err(format!(
                "an input of {}; expected float32",
                input.fact.element.name()
            ));
        }
    }
    Ok(())
}

fn check_zero_point(zero: &Fact, element: Element, scale: &Fact) -> Result<(), String> {
    if zero.element != element || zero.dims != scale.dims {
        return Err(format!(
            "a zero point of {} {:?} for {} with a scale of {:?}",
            zero.element.name(),
            zero.dims,
            element.name(),
            scale.dims
        ));
    }
    Ok(())
}

fn spatial(fact: &Fact) -> Result<[usize; 3], String> {
    match fact.dims[..] {
        [channels, height, width] if fact.len() > 0 => Ok([channels, height, width]),
        _ => Err(format!(
            "an input of {:?} for each item; expected channels, height and width",
            fact.dims
        )),
    }
}

/// An axis that is not the batch, counted in `dims`.
fn feature_axis(axis: i64, fact: &Fact) -> Result<usize, String> {
    let rank = fact.dims.len() as i64 + 1;
    let from_front = if axis < 0 { axis + rank } else { axis };
    if (1..rank).contains(&from_front) {
        Ok(from_front as usize - 1)
    } else {
        Err(format!("axis is {axis} of {rank} axes"))
    }
}
