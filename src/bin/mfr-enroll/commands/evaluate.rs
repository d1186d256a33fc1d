//! `evaluate`: measures how well a gallery distinguishes its people from each other and from strangers.

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use gstmfr::embed::mask::{WITH_MASK, WITHOUT_MASK};
use gstmfr::gallery::Gallery;

use crate::evaluate::trial::{self, Figures, PartFigures};
use crate::input::dataset::{self, Collection};
use crate::options::EvaluateOptions;
use crate::output::{self, Output, counted, plain};
use crate::people;
use crate::vision::batch::Embedders;

/// Maximum number of confusions in the text report.
const CONFUSIONS: usize = 10;

pub fn run(options: &EvaluateOptions) -> Result<ExitCode> {
    let gallery = Gallery::load(&options.database)?;
    let vision = options.vision.of_gallery(gallery.contract())?;
    let embedders = Embedders::load(&vision)?;
    people::check(&gallery, &options.database, &embedders)?;
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
    let answered = trial::figures(&probes, strangers.as_deref(), &gallery, &embedders)?;
    let mut out = Output::stdout();
    if options.json {
        out.json(&answered)?;
    } else {
        say(&mut out, &answered.figures)?;
    }
    out.finish()?;
    Ok(ExitCode::SUCCESS)
}

/// Warns of people who have probes but are not in the gallery.
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

/// Prints the figures as text.
pub fn say(out: &mut Output, figures: &Figures) -> Result<()> {
    let all = &figures.all;
    out.line(format_args!(
        "{}, a face found in {}",
        counted(all.probes, "probe"),
        all.detected
    ))?;
    say_part(out, all)?;
    let parts = [(WITHOUT_MASK, "without a mask"), (WITH_MASK, "with a mask")];
    let parts = parts.map(|(label, words)| Some((figures.by_mask.get(label)?, words)));
    let parts = || parts.iter().flatten().filter(|(part, _)| part.probes > 0);
    if parts().count() > 1 {
        for (part, words) in parts() {
            out.line(format_args!("{} {words}", counted(part.probes, "face")))?;
            say_part(out, part)?;
        }
    }
    for confusion in figures.confusions.iter().take(CONFUSIONS) {
        out.line(format_args!(
            "  {} taken for {}: {}",
            plain(&confusion.name),
            plain(&confusion.label),
            counted(confusion.count, "time")
        ))?;
    }
    let others = figures.confusions.len().saturating_sub(CONFUSIONS);
    if others > 0 {
        out.line(format_args!(
            "  and {others} more, all of which --json lists"
        ))?;
    }
    Ok(())
}

fn say_part(out: &mut Output, part: &PartFigures) -> Result<()> {
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    out.line(format_args!(
        "  first candidate right (rank-1)  {}",
        percent(part.rank1)
    ))?;
    // The most common rate is printed first.
    for (rate, share) in part.tpir_at_fpir.iter().rev() {
        if let (Ok(rate), Some(share)) = (rate.parse::<f64>(), share) {
            out.line(format_args!(
                "  right, where the threshold lets {} of strangers be named  {}",
                percent(rate),
                percent(*share)
            ))?;
        }
    }
    let at = &part.at_threshold;
    let [bare, masked] = at.thresholds;
    out.line(format_args!(
        "  at the thresholds (bare {bare:.3}, masked {masked:.3}): {} right, {} wrong, {} unknown",
        at.right, at.wrong, at.unknown
    ))?;
    if let Some(named) = at.strangers_named {
        out.line(format_args!(
            "  strangers named at the thresholds: {named} of {}",
            part.strangers
        ))?;
    }
    Ok(())
}
