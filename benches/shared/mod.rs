//! Functions shared by several benchmarks.
#![allow(dead_code, reason = "each bench uses a part of this")]

pub mod frames;
#[cfg(feature = "plugin")]
pub mod pipeline;

use std::path::{Path, PathBuf};

pub type Error = Box<dyn std::error::Error>;

/// A path in the source tree, found also from `benches/kernels`, which is a separate package.
pub fn tree(path: &str) -> PathBuf {
    let mut folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let root = folders.find(|folder| folder.join("models").is_dir());
    root.unwrap_or(Path::new("")).join(path)
}

/// The path in an environment variable, or else one in the source tree.
pub fn path(variable: &str, default: &str) -> PathBuf {
    std::env::var_os(variable).map_or_else(|| tree(default), PathBuf::from)
}

/// The median; the upper one of the two middle values if their number is even. `values` must not be empty.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

pub fn cpu() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|l| l.strip_prefix("model name"));
    let model = model.map_or("unknown CPU", |m| m.trim_start_matches([' ', '\t', ':']));
    let cores = std::thread::available_parallelism().map_or(0, |n| n.get());
    format!("{model}, {cores} cores")
}

/// The arguments that are not options, or else the demo's clip. These files and `others` must exist.
pub fn clips<const N: usize>(others: [&PathBuf; N]) -> Result<Vec<PathBuf>, Error> {
    let arguments = std::env::args_os().skip(1).map(PathBuf::from);
    // The argument --bench is added by cargo.
    let mut clips: Vec<_> = arguments.filter(|a| !a.starts_with("--bench")).collect();
    if clips.is_empty() {
        clips.push(path("MFR_BENCH_CLIP", "target/demo/clip.mp4"));
    }
    let missing = clips.iter().chain(others).find(|p| !p.is_file());
    if let Some(missing) = missing {
        let missing = missing.display();
        return Err(format!("{missing} is missing; `make demo` makes the demo's files").into());
    }
    Ok(clips)
}
