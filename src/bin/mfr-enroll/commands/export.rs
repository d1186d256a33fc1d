//! `export`: writes the embeddings of a gallery for other programs.

use std::process::ExitCode;

use anyhow::{Context, Result};
use gstmfr::gallery::Gallery;
use gstmfr::io::files::write_atomically;

use super::change::contract_of;
use crate::exchange::{dlstreamer, hailo, json, npz};
use crate::new_folder::NewFolder;
use crate::options::{EmbeddingFormat, ExportOptions, shown};
use crate::output::{Output, counted};

pub fn run(options: &ExportOptions) -> Result<ExitCode> {
    let path = &options.output;
    let gallery = Gallery::load(&options.database)?;
    let contract = contract_of(&gallery, &options.database)?;
    let entries = gallery.entries();
    let unwritable = || format!("cannot write {}", path.display());
    match options.format {
        EmbeddingFormat::DlStreamer => {
            NewFolder::check(path)?;
            let folder = NewFolder::begin(path)?;
            dlstreamer::write(&folder, &entries, &contract)?;
            folder.finish()?;
        }
        EmbeddingFormat::Json => {
            write_atomically(path, |out| json::write(out, &entries, &contract))
                .with_context(unwritable)?;
        }
        EmbeddingFormat::Hailo => {
            write_atomically(path, |out| hailo::write(out, &entries, &contract))
                .with_context(unwritable)?;
        }
        EmbeddingFormat::Npz => {
            write_atomically(path, |out| npz::write(out, &entries, &contract))
                .with_context(unwritable)?;
        }
    }
    let mut out = Output::stdout();
    out.line(format_args!(
        "{}: {}, {}; this is biometric data, as the gallery is",
        shown(path),
        counted(gallery.names().len(), "person"),
        counted(entries.len(), "embedding")
    ))?;
    out.finish()?;
    Ok(ExitCode::SUCCESS)
}
