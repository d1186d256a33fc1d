//! `model`: shows the role of ONNX files, and which engine runs them.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use gstmfr::nn::{Inspection, RuntimeError, SessionOptions, Unsupported};
use serde::Serialize;

use crate::options::ModelOptions;
use crate::output::{self, Output, plain};

/// A line of `--json` about a file.
#[derive(Serialize)]
struct NetworkLine<'a> {
    path: String,
    /// Role of the network; `null` if its inputs and outputs match none.
    role: Option<&'a str>,
    /// The built-in kernels, or `onnxruntime`; `null` if neither can run it.
    engine: Option<String>,
    reason: String,
    sha256: Option<&'a str>,
    /// The operations that the built-in kernels do not support.
    refusals: Vec<RefusalLine<'a>>,
}

#[derive(Serialize)]
struct RefusalLine<'a> {
    node: &'a str,
    op: &'a str,
    reason: &'a str,
}

impl<'a> From<&'a Unsupported> for RefusalLine<'a> {
    fn from(refusal: &'a Unsupported) -> Self {
        Self {
            node: &refusal.node,
            op: &refusal.op,
            reason: &refusal.reason,
        }
    }
}

pub fn run(options: &ModelOptions) -> Result<ExitCode> {
    let mut out = Output::stdout();
    let mut is_good = true;
    for path in &options.files {
        let inspection = Inspection::of(path, &SessionOptions::default());
        is_good &= inspection.network.is_ok();
        if options.json {
            out.json(&line(path, &inspection))?;
        } else {
            describe(&mut out, path, &inspection)?;
        }
    }
    out.finish()?;
    Ok(if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn line<'a>(path: &Path, inspection: &'a Inspection) -> NetworkLine<'a> {
    let network = inspection.network.as_ref();
    NetworkLine {
        path: path.display().to_string(),
        role: inspection.role.map(|role| role.name()),
        engine: network.ok().map(|network| network.kernel()),
        reason: match network {
            Ok(network) => network.chosen().reason.to_owned(),
            Err(error) => error.to_string(),
        },
        sha256: network.ok().map(|network| network.sha256()),
        refusals: inspection
            .refusals()
            .iter()
            .map(RefusalLine::from)
            .collect(),
    }
}

fn describe(out: &mut Output, path: &Path, inspection: &Inspection) -> Result<()> {
    // Nothing can be said of a file that is missing or no network.
    if inspection.role.is_none()
        && let Err(error @ (RuntimeError::Unreadable { .. } | RuntimeError::NotAModel { .. })) =
            &inspection.network
    {
        output::error(&error.to_string());
        return Ok(());
    }
    let path = plain(&path.display().to_string());
    match inspection.role {
        Some(role) => out.line(format_args!("{path}: {}", role.name()))?,
        None => out.line(format_args!("{path}: of unknown kind"))?,
    }
    match &inspection.network {
        Ok(network) => out.line(format_args!(
            "  runs by {}: {}",
            network.kernel(),
            network.chosen().reason
        ))?,
        Err(error) => out.line(format_args!(
            "  cannot be run: {}",
            plain(&error.to_string())
        ))?,
    }
    for refusal in inspection.refusals() {
        out.line(format_args!(
            "  refused by our kernels: {}",
            plain(&refusal.to_string())
        ))?;
    }
    Ok(())
}
