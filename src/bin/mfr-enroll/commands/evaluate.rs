//! `evaluate`: how well a gallery tells its people apart, and from strangers.

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use gstmfr::gallery::Gallery;

use crate::dataset::{self, Collection};
use crate::options::Evaluate;
use crate::output::{self, Output, counted, plain};
use crate::people;
use crate::trial::{self, Figures};

pub fn run(options: &Evaluate) -> Result<ExitCode> {
    let mut embedder = options.vision.embedder()?;
    let gallery = people::open(&options.database, &embedder)?;
    let probes = Collection::open(&options.probes, &options.probes).context("probes")?;
    ensure!(
        !probes.items.is_empty(),
        "the folder of probes {} holds no photo of anybody; expected {}/<name>/<photos>",
        options.probes.display(),
        options.probes.display()
    );
    for rejected in &probes.rejected {
        output::warning(&format!("{}: {}; left out", rejected.path, rejected.detail));
    }
    let strangers = match &options.unknown {
        Some(folder) => {
            let listed = dataset::photos(std::slice::from_ref(folder))?;
            listed.warn_of_videos();
            trial::warn_of(&listed.failed);
            Some(listed.sources)
        }
        None => None,
    };
    warn_of_unenrolled(&probes, &gallery);
    let figures = trial::figures(
        &probes,
        strangers.as_deref(),
        &gallery,
        &mut embedder,
        &options.vision,
    )?;
    let mut out = Output::stdout();
    if options.json {
        out.line(serde_json::to_string(&figures)?)?;
    } else {
        say(&mut out, &figures)?;
    }
    out.finish()?;
    Ok(ExitCode::SUCCESS)
}

/// Names the people with probes whom the gallery does not know.
pub fn warn_of_unenrolled(probes: &Collection, gallery: &Gallery) {
    let missing = trial::not_enrolled(probes, gallery);
    if !missing.is_empty() {
        let names: Vec<_> = missing.iter().map(|name| plain(name)).collect();
        output::warning(&format!(
            "not in the gallery, so wrong whatever is answered: {}",
            names.join(", ")
        ));
    }
}

/// The figures for people.
pub fn say(out: &mut Output, figures: &Figures) -> Result<()> {
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    out.line(format_args!(
        "{}, a face found in {}",
        counted(figures.probes, "probe"),
        figures.detected
    ))?;
    out.line(format_args!(
        "  first candidate right (rank-1)  {}",
        percent(figures.rank1)
    ))?;
    // The rate most people mean first.
    for (rate, share) in figures.tpir_at_fpir.iter().rev() {
        if let (Ok(rate), Some(share)) = (rate.parse::<f64>(), share) {
            out.line(format_args!(
                "  right, where the threshold lets {} of strangers be named  {}",
                percent(rate),
                percent(*share)
            ))?;
        }
    }
    let at = &figures.at_threshold;
    out.line(format_args!(
        "  at the threshold {:.3}: {} right, {} wrong, {} unknown",
        at.threshold, at.right, at.wrong, at.unknown
    ))?;
    if let Some(named) = at.strangers_named {
        out.line(format_args!(
            "  strangers named at the threshold: {named} of {}",
            figures.strangers
        ))?;
    }
    for confusion in &figures.confusions {
        out.line(format_args!(
            "  {} taken for {}: {}",
            plain(&confusion.name),
            plain(&confusion.label),
            counted(confusion.count, "time")
        ))?;
    }
    Ok(())
}
