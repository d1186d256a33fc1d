//! Blur of planes of cells.

/// Blurs cells of several values, row by row in `plane`; `sigma` is the standard deviation in
/// cells. Outside there is nothing.
pub fn blur<const N: usize>(plane: &mut [[f32; N]], columns: usize, rows: usize, sigma: f32) {
    let kernel = kernel(sigma);
    let reach = kernel.len() / 2;
    let mut line: Vec<[f32; N]> = Vec::new();
    let mut along = |start: usize, step: usize, count: usize| {
        line.clear();
        line.extend(plane.iter().skip(start).step_by(step).take(count));
        let outs = plane.iter_mut().skip(start).step_by(step).take(count);
        for (i, out) in outs.enumerate() {
            let first = i.saturating_sub(reach);
            let weights = kernel.iter().skip(reach - (i - first));
            *out = [0.0; N];
            for (cell, weight) in line.iter().skip(first).zip(weights) {
                for (sum, value) in out.iter_mut().zip(cell) {
                    *sum += value * weight;
                }
            }
        }
    };
    for y in 0..rows {
        along(y * columns, 1, columns);
    }
    for x in 0..columns {
        along(x, columns, rows);
    }
}

/// Weights of a blur: (1 − t²)² over ±r, which has a variance of r²/7 and is as good as a bell.
fn kernel(sigma: f32) -> Vec<f32> {
    let reach = (sigma * 2.646).max(1e-3);
    let last = (reach.ceil() as i32 - 1).max(0);
    let weights: Vec<f32> = (-last..=last)
        .map(|i| {
            let t = i as f32 / reach;
            let w = (1.0 - t * t).max(0.0);
            w * w
        })
        .collect();
    let sum: f32 = weights.iter().sum();
    weights.into_iter().map(|w| w / sum).collect()
}
