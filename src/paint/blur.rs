//! Blur of planes of cells.

/// Blurs cells of several values, row by row in `plane`; `sigma` is the standard deviation in
/// cells. Cells outside the plane count as zero.
pub fn blur<const N: usize>(plane: &mut [[f32; N]], columns: usize, rows: usize, sigma: f32) {
    let kernel = kernel(sigma);
    let reach = kernel.len() / 2;
    let mut source = Vec::new();
    // Convolves lines whose neighbours are `step` numbers apart. Adding one weight at a time over a whole line can be
    // vectorised, and results in the same sums as one cell at a time.
    let mut along = |line: &mut [f32], step: usize| {
        source.clear();
        source.extend_from_slice(line);
        line.fill(0.0);
        for (i, weight) in kernel.iter().enumerate() {
            let shift = (i.abs_diff(reach) * step).min(line.len());
            let inside = line.len() - shift;
            let (out, from) = if i < reach {
                (&mut line[shift..], &source[..inside])
            } else {
                (&mut line[..inside], &source[shift..])
            };
            for (sum, value) in out.iter_mut().zip(from) {
                *sum += value * weight;
            }
        }
    };
    let plane = plane.as_flattened_mut();
    for row in plane.chunks_exact_mut((columns * N).max(1)).take(rows) {
        along(row, N);
    }
    along(plane, columns * N);
}

/// Weights of a blur: (1 − t²)² over ±r, which has a variance of r²/7 and approximates a Gaussian.
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
