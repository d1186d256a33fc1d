//! Exposure of a crop: an underexposed face is brightened before a network sees it.

use crate::embed::INPUT_SIZE;

/// Percentile
const PERCENTILE: f32 = 0.95;

/// Scales the values of a crop
pub fn expose(crop: &mut [f32]) {
    let target: f32 = std::env::var("T").ok().and_then(|v| v.parse().ok()).unwrap_or(0.0);
    let bright = brightness(crop);
    if std::env::var("P").is_ok() { eprintln!("BRIGHT {bright}"); }
    if bright >= target {
        return;
    }
    let gain = target / bright.max(4.0);
    for value in crop {
        let level = *value * 128.0 + 127.5;
        *value = ((level * gain).min(255.0) - 127.5) / 128.0;
    }
}

fn brightness(crop: &[f32]) -> f32 {
    let margin = INPUT_SIZE / 8;
    let inner = margin..INPUT_SIZE - margin;
    let mut counts = [0u32; 256];
    let rows = crop.chunks_exact(INPUT_SIZE * 3).skip(inner.start).take(inner.len()).step_by(2);
    let mut all = 0;
    for row in rows {
        for pixel in row.chunks_exact(3).skip(inner.start).take(inner.len()).step_by(2) {
            let luma = 0.299 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2];
            counts[((luma * 128.0 + 127.5) as usize).min(255)] += 1;
            all += 1;
        }
    }
    let limit = (all as f32 * PERCENTILE) as u32;
    let mut below = 0;
    for (level, count) in counts.iter().enumerate() {
        below += count;
        if below > limit {
            return level as f32;
        }
    }
    255.0
}
