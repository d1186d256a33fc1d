//! Classifies whether a face wears a mask, from the crop that is embedded.
//!
//! The classifier is a small convolutional network, `models/mask.onnx`: 160×160 RGB → means of 5×5 pixels →
//! standardisation of the crop → three 3×3 convolutions of stride 2 → the log-odds of a mask. It does not use the
//! embedding, so it works with every FaceNet. The weights are trained on painted masks by `models/mask_attribute.py`.
//!
//! Means and standardisation are computed here, because they depend on the crop alone, and a model file that takes a
//! standardised image can be used by any program.

use std::fmt;
use std::sync::Arc;

use crate::embed::{INPUT_SIZE, exposure};
use crate::nn::{Network, Role, RuntimeError, SessionOptions, Source};

/// Label of a face with a mask, in metadata and output.
pub const WITH_MASK: &str = "with_mask";
/// Label of a face without a mask, in metadata and output.
pub const WITHOUT_MASK: &str = "without_mask";

/// Name of this network in metadata.
pub const NAME: &str = "mask-cnn";

/// Side of the network's input in pixels.
const SIDE: usize = 32;
/// Pixels of the crop per pixel of the input, along each side.
const BLOCK: usize = INPUT_SIZE / SIDE;
/// Minimum standard deviation by which a crop is divided, 10 of 255 in units of the tensor, so that the noise of a
/// uniform surface is not amplified.
const LEAST_CONTRAST: f32 = 10.0 / 128.0;

/// The built-in network.
const FILE: Source = Source::Bytes("mask (built in)", include_bytes!("../../models/mask.onnx"));

/// Maximum log-odds returned, probability .9975: the real faces on which the network was measured support no claim
/// beyond one error in 400. The limit also keeps one frame of high confidence from outweighing the next ones.
const LIMIT: f32 = 6.0;

/// Whether a mask is worn, with the confidence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mask {
    log_odds: f32,
}

impl Mask {
    /// From the logarithm of the odds that a mask is worn, above 0 if it is; NaN counts as 0.
    pub fn from_log_odds(log_odds: f32) -> Self {
        let log_odds = if log_odds.is_nan() { 0.0 } else { log_odds };
        Self {
            log_odds: log_odds.clamp(-LIMIT, LIMIT),
        }
    }

    pub fn log_odds(self) -> f32 {
        self.log_odds
    }

    pub fn is_worn(self) -> bool {
        self.log_odds > 0.0
    }

    /// Probability, 0.5…1, that [`Self::is_worn`] is right.
    pub fn confidence(self) -> f32 {
        1.0 / (1.0 + (-self.log_odds.abs()).exp())
    }

    /// Label of the result: [`WITH_MASK`] or [`WITHOUT_MASK`].
    pub fn label(self) -> &'static str {
        if self.is_worn() {
            WITH_MASK
        } else {
            WITHOUT_MASK
        }
    }
}

/// The network and its scratch memory.
pub struct MaskNet {
    net: Arc<Network>,
    /// A crop of 8 bits as a tensor.
    tensor: Vec<f32>,
    input: Vec<f32>,
    output: [Vec<f32>; 1],
}

impl fmt::Debug for MaskNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MaskNet").finish_non_exhaustive()
    }
}

impl MaskNet {
    /// The built-in network.
    pub fn load() -> Result<Self, RuntimeError> {
        // The network is too small for more than one thread, or another device.
        let options = SessionOptions {
            threads: 1,
            ..SessionOptions::default()
        };
        let net = Network::load(Role::MaskNet, FILE, &options)?;
        Ok(Self::with(Arc::new(net)))
    }

    fn with(net: Arc<Network>) -> Self {
        Self {
            net,
            tensor: Vec::new(),
            input: Vec::new(),
            output: [Vec::new()],
        }
    }

    /// The same network with scratch memory of its own.
    pub fn fork(&self) -> Self {
        Self::with(Arc::clone(&self.net))
    }

    pub fn network(&self) -> &Network {
        &self.net
    }

    /// Classifies a crop as returned by [`crate::embed::crop_rgb8`]: packed 8-bit RGB, 160×160.
    pub fn see_rgb8(&mut self, crop: &[u8]) -> Result<Mask, RuntimeError> {
        let mut tensor = std::mem::take(&mut self.tensor);
        tensor.clear();
        tensor.extend(crop.iter().map(|&value| (f32::from(value) - 127.5) / 128.0));
        exposure::correct(&mut tensor);
        let mask = self.see_tensor(&tensor);
        self.tensor = tensor;
        mask
    }

    /// Classifies a crop in the input format of FaceNet: packed RGB, 160×160, −1…1, exposure corrected.
    pub(crate) fn see_tensor(&mut self, crop: &[f32]) -> Result<Mask, RuntimeError> {
        self.shrink(crop);
        self.run()
    }

    /// Fills `input` with the means of blocks of pixels.
    fn shrink(&mut self, crop: &[f32]) {
        self.input.clear();
        self.input.resize(SIDE * SIDE * 3, 0.0);
        let share = 1.0 / (BLOCK * BLOCK) as f32;
        for (y, row) in crop.chunks_exact(INPUT_SIZE * 3).enumerate() {
            let sums = self.input.chunks_exact_mut(SIDE * 3).nth(y / BLOCK);
            let Some(sums) = sums else { break };
            for (block, sums) in row.chunks_exact(BLOCK * 3).zip(sums.chunks_exact_mut(3)) {
                for (value, channel) in block.iter().zip((0..3).cycle()) {
                    sums[channel] += value * share;
                }
            }
        }
    }

    fn run(&mut self) -> Result<Mask, RuntimeError> {
        standardise(&mut self.input);
        let [odds] = &mut self.output;
        odds.clear();
        self.net.run(
            1,
            [1, SIDE, SIDE, 3],
            &self.input,
            std::slice::from_mut(odds),
        )?;
        Ok(Mask::from_log_odds(odds.first().copied().unwrap_or(0.0)))
    }
}

/// Standardises values to mean 0 and standard deviation 1, because the result must not depend on the lighting.
fn standardise(values: &mut [f32]) {
    let count = values.len() as f32;
    let mean = values.iter().sum::<f32>() / count;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / count;
    let contrast = variance.sqrt().max(LEAST_CONTRAST);
    for value in values {
        *value = (*value - mean) / contrast;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The patterns of `golden()` in models/mask_attribute.py, in integer arithmetic to be identical.
    fn patterns() -> [Vec<u8>; 2] {
        let side = INPUT_SIZE as i64;
        let mut patterns = [Vec::new(), Vec::new()];
        for (y, x) in (0..side).flat_map(|y| (0..side).map(move |x| (y, x))) {
            let ring = ((x - 80).pow(2) + (y - 80).pow(2)) / 40;
            let half = if y > 90 {
                [200, 220, 240]
            } else {
                [150, 110, 90]
            };
            let values = [
                [x * 3 + y, x * y / 8, ring],
                half.map(|value| value - ring / 8),
            ];
            for (pattern, values) in patterns.iter_mut().zip(values) {
                pattern.extend(values.map(|v| v.rem_euclid(256) as u8));
            }
        }
        patterns
    }

    #[test]
    fn log_odds_are_those_of_the_network_in_python() {
        let mut net = MaskNet::load().unwrap();
        // The expected values are printed by models/mask_attribute.py.
        for (pattern, expected) in patterns().iter().zip([-1.965_89, 1.841_535_4]) {
            let found = net.see_rgb8(pattern).unwrap().log_odds();
            assert!((found - expected).abs() < 1e-4, "{found} {expected}");
        }
    }

    #[test]
    fn the_tensor_of_a_crop_is_seen_like_the_crop_and_dim_light_changes_nothing() {
        let mut net = MaskNet::load().unwrap();
        let [_, pattern] = patterns();
        let seen = net.see_rgb8(&pattern).unwrap().log_odds();
        let tensor = |gain: f32| -> Vec<f32> {
            let values = pattern.iter().map(|&v| (f32::from(v) - 127.5) / 128.0);
            values.map(|v| v * gain - 0.1).collect()
        };
        for gain in [1.0, 0.5] {
            let found = net.see_tensor(&tensor(gain)).unwrap().log_odds();
            assert!((found - seen).abs() < 1e-3, "{gain}: {found} {seen}");
        }
    }

    #[test]
    fn a_face_in_the_dark_is_seen_like_the_same_face_in_good_light() {
        let mut net = MaskNet::load().unwrap();
        let [_, pattern] = patterns();
        let seen = net.see_rgb8(&pattern).unwrap();
        let dark: Vec<u8> = pattern.iter().map(|value| value / 12).collect();
        let found = net.see_rgb8(&dark).unwrap();
        assert_eq!(found.label(), seen.label());
        let difference = found.log_odds() - seen.log_odds();
        assert!(difference.abs() < 0.5, "{found:?} {seen:?}");
    }

    #[test]
    fn odds_are_told_as_a_word_and_a_probability() {
        let told = |log_odds| {
            let mask = Mask::from_log_odds(log_odds);
            (mask.label(), mask.confidence())
        };
        assert_eq!(told(0.0), (WITHOUT_MASK, 0.5));
        assert_eq!(told(f32::NAN), (WITHOUT_MASK, 0.5));
        // Odds of 3 to 1 are a probability of .75.
        for (log_odds, label) in [(3f32.ln(), WITH_MASK), (-(3f32.ln()), WITHOUT_MASK)] {
            let (said, confidence) = told(log_odds);
            assert_eq!(said, label);
            assert!((confidence - 0.75).abs() < 1e-6, "{confidence}");
        }
        assert_eq!(told(f32::INFINITY), told(LIMIT));
    }
}
