//! Windows of convolution and pooling: attributes, padding, and output size.

use super::onnx::attributes::Attributes;

/// The window of a convolution or pooling, along height and width.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// `None` if the shape of the weights defines it.
    pub kernel: Option<[usize; 2]>,
    pub strides: [usize; 2],
    pub dilations: [usize; 2],
    pub padding: Padding,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Padding {
    /// Top, left, bottom, right.
    Explicit([usize; 4]),
    SameUpper,
    SameLower,
}

/// Maximum size of a window, beyond that of any known network.
const LARGEST_WINDOW: i64 = 64;

impl Window {
    pub fn read(attributes: &mut Attributes) -> Result<Self, String> {
        let mut pair = |name: &str| -> Result<Option<[usize; 2]>, String> {
            let Some(numbers) = attributes.ints(name)? else {
                return Ok(None);
            };
            match numbers[..] {
                [y, x] if [y, x].iter().all(|n| (1..=LARGEST_WINDOW).contains(n)) => {
                    Ok(Some([y as usize, x as usize]))
                }
                _ => Err(format!(
                    "{name} is {numbers:?}; expected two numbers of 1…{LARGEST_WINDOW}, for height and width"
                )),
            }
        };
        let kernel = pair("kernel_shape")?;
        let strides = pair("strides")?.unwrap_or([1, 1]);
        let dilations = pair("dilations")?.unwrap_or([1, 1]);
        let pads = attributes.ints("pads")?;
        let padding = match attributes.text("auto_pad")?.as_deref() {
            None | Some("" | "NOTSET") => match pads.as_deref() {
                None => Padding::Explicit([0; 4]),
                Some(pads @ &[top, left, bottom, right]) => {
                    if !pads.iter().all(|n| (0..=LARGEST_WINDOW).contains(n)) {
                        return Err(format!("pads are {pads:?}; expected 0…{LARGEST_WINDOW}"));
                    }
                    Padding::Explicit([top, left, bottom, right].map(|n| n as usize))
                }
                Some(pads) => {
                    return Err(format!("pads are {pads:?}; expected four numbers"));
                }
            },
            Some(auto) => {
                // The specification forbids both at once, but some exporters write zeros.
                if pads.is_some_and(|pads| pads.iter().any(|&n| n != 0)) {
                    return Err(format!("both pads and auto_pad {auto} are given"));
                }
                match auto {
                    "VALID" => Padding::Explicit([0; 4]),
                    "SAME_UPPER" => Padding::SameUpper,
                    "SAME_LOWER" => Padding::SameLower,
                    _ => return Err(format!("auto_pad is \"{auto}\"")),
                }
            }
        };
        Ok(Self {
            kernel,
            strides,
            dilations,
            padding,
        })
    }

    /// Height and width of the output, and the explicit padding, for an input of this height and width.
    pub fn output(
        &self,
        kernel: [usize; 2],
        input: [usize; 2],
    ) -> Result<([usize; 2], [usize; 4]), String> {
        let mut out = [0; 2];
        let mut pads = [0; 4];
        for axis in 0..2 {
            let (input, stride) = (input[axis], self.strides[axis]);
            let span = self.dilations[axis] * (kernel[axis] - 1) + 1;
            let [before, after] = match self.padding {
                Padding::Explicit(pads) => [pads[axis], pads[axis + 2]],
                same => {
                    let out = input.div_ceil(stride);
                    let needed = (out.max(1) - 1) * stride + span;
                    // The padding would be negative: ONNX Runtime crops both sides for MaxPool, and neither for Conv.
                    if needed + 1 < input {
                        return Err(format!(
                            "auto_pad for a window of {span} in steps of {stride} over {input}: it would cut the input"
                        ));
                    }
                    let all = needed.saturating_sub(input);
                    match same {
                        Padding::SameUpper => [all / 2, all - all / 2],
                        _ => [all - all / 2, all / 2],
                    }
                }
            };
            if before >= span || after >= span {
                return Err(format!(
                    "padding of {before} and {after} for a window of {span}: some windows see nothing else"
                ));
            }
            let padded = input + before + after;
            let Some(room) = padded.checked_sub(span) else {
                return Err(format!(
                    "a window of {span} is larger than the input of {padded}"
                ));
            };
            out[axis] = room / stride + 1;
            pads[axis] = before;
            pads[axis + 2] = after;
        }
        Ok((out, pads))
    }
}
