//! `upgrade`: embeds the faces of a gallery anew by another network, from the crops that `--faces-output` kept.

use std::collections::HashMap;
use std::process::ExitCode;

use anyhow::{Result, bail, ensure};
use gstmfr::embed::{Embedder, PREPROCESSING};
use gstmfr::gallery::{Contract, Crops, Entry, Gallery};
use rayon::prelude::*;

use super::change::{changed, contract_of};
use crate::enrol::partial::OutputLock;
use crate::options::{UpgradeOptions, shown};
use crate::output::{Output, counted, plain};
use crate::vision::batch::Embedders;

/// Crops that are embedded at once.
const BATCH: usize = 8;

/// Most sources without a crop that are named.
const NAMED: usize = 5;

pub fn run(options: &UpgradeOptions) -> Result<ExitCode> {
    let path = &options.database;
    let _lock = OutputLock::of(path)?;
    let gallery = Gallery::load(path)?;
    let contract = contract_of(&gallery, path)?;
    let embedders = Embedders::load(&options.vision)?;
    let mut out = Output::stdout();
    if contract.model_sha256 == embedders.model_sha256() {
        out.line(format_args!("{} is of this network already", shown(path)))?;
        out.finish()?;
        return Ok(ExitCode::SUCCESS);
    }
    if options.faces.is_empty() {
        let former = match Embedder::installed_model(&contract.model_sha256) {
            Some(file) => format!("{}, with which it works on", file.display()),
            None => format!("{}, which is not installed", plain(&contract.model_sha256)),
        };
        bail!(
            "{} was made with another network: {former}; to embed its faces anew, name the file of crops that \
             --faces-output has written by --faces, or build it again from the photos",
            path.display()
        );
    }
    ensure!(
        contract.preprocessing == PREPROCESSING,
        "the faces of {} were cropped by the rule {:?}, this version's is {PREPROCESSING:?}; build it again from the photos",
        path.display(),
        contract.preprocessing
    );
    let mut crops = Crops::default();
    for file in &options.faces {
        crops.add(file)?;
    }
    let entries = embedded_anew(gallery.entries(), &crops, &embedders)?;
    let target_fpir = contract.enrolment().target_fpir;
    let contract = Contract {
        model_sha256: embedders.model_sha256().to_owned(),
        embedding_dim: embedders.dim(),
        ..changed(contract)
    };
    let mut upgraded = Gallery::train(entries, contract)?;
    upgraded.calibrate(target_fpir)?;
    upgraded.save(path)?;
    out.line(format_args!(
        "{}: {}, {} embedded anew",
        shown(path),
        counted(upgraded.names().len(), "person"),
        counted(upgraded.labels().len(), "crop")
    ))?;
    out.finish()?;
    Ok(ExitCode::SUCCESS)
}

/// The entries with embeddings of this network. Who is not in the gallery stays out of it, whatever crops there are.
fn embedded_anew(
    mut entries: Vec<Entry>,
    crops: &Crops,
    embedders: &Embedders,
) -> Result<Vec<Entry>> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    let own: Vec<Option<&[u8]>> = entries
        .iter()
        .map(|entry| {
            let count = counts.entry(&entry.source).or_default();
            *count += 1;
            crops.get(&entry.source, *count - 1)
        })
        .collect();
    let missing = entries.iter().zip(&own).filter(|(_, crop)| crop.is_none());
    let missing: Vec<&str> = missing.map(|(entry, _)| entry.source.as_str()).collect();
    if !missing.is_empty() {
        let named: Vec<_> = missing.iter().take(NAMED).map(|s| plain(s)).collect();
        let more = if missing.len() > NAMED { ", …" } else { "" };
        bail!(
            "{} of {} embeddings have no crop in the files of --faces: {}{more}; nothing was written",
            missing.len(),
            entries.len(),
            named.join(", ")
        );
    }
    let own: Vec<&[u8]> = own.into_iter().flatten().collect();
    let batches = entries.par_chunks_mut(BATCH).zip(own.par_chunks(BATCH));
    batches.try_for_each(|(batch, crops)| {
        let embedded = embedders.embed(crops)?;
        for (entry, row) in batch.iter_mut().zip(embedded.embeddings.rows()) {
            entry.embedding = row.to_owned();
        }
        anyhow::Ok(())
    })?;
    Ok(entries)
}
