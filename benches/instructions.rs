//! Runs a network a given number of times on one thread and does nothing else, for programs that count instructions:
//! `scripts/count-instructions.sh`. The cost of a run is the difference of two counts, divided by that of the runs.
//!
//! ```sh
//! MFR_CPU=neon cargo bench --bench instructions -- NETWORK RUNS    # facenet, rnet or onet
//! ```

use std::process::ExitCode;

use gstmfr::nn::Isa;
use gstmfr::nn::testing::{Arithmetic, Kernels};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    let [network, runs] = &arguments[..] else {
        return Err("expected a network and a number of runs".into());
    };
    let side = match network.as_str() {
        "facenet" => 160,
        "rnet" => 24,
        "onet" => 48,
        other => return Err(format!("network \"{other}\"; expected facenet, rnet or onet").into()),
    };
    let isa = match std::env::var("MFR_CPU") {
        Ok(name) => Isa::capped(&name).ok_or(format!("MFR_CPU is \"{name}\""))?,
        Err(_) => Isa::best(),
    };
    let path = format!("{}/models/{network}.onnx", env!("CARGO_MANIFEST_DIR"));
    let file = std::fs::read(&path).map_err(|e| format!("{path}: {e}"))?;
    let kernels = Kernels::load(&file, [side, side, 3], isa, Arithmetic::I16)?;
    let image: Vec<f32> = (0..side * side * 3)
        .map(|at| (at % 251) as f32 / 125.0 - 1.0)
        .collect();
    let mut sum = 0.0;
    for _ in 0..runs.parse::<usize>()? {
        sum += kernels.run(1, &image).iter().flatten().sum::<f32>();
    }
    println!("{network} by {}: {sum}", isa.name());
    Ok(())
}
