//! `mfr-enroll`: makes the gallery from folders of photos, and identifies people in other photos.

mod cli;
mod commands;
mod discover;
mod encoding;
mod enrol;
mod evaluate;
mod exchange;
mod input;
mod new_folder;
mod npz;
mod options;
mod output;
mod people;
mod report;
#[cfg(test)]
#[path = "../../../tests/common/skip.rs"]
mod skip;
#[cfg(test)]
mod testdata;
mod vision;
mod workers;

use std::io;
use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        // The reader of the output has closed the pipe (`| head`), which is not an error.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<ExitCode> {
    match cli::command()? {
        options::Command::Build(build) => commands::build::run(&build),
        options::Command::Remove(remove) => commands::change::remove(&remove),
        options::Command::Rename(rename) => commands::change::rename(&rename),
        options::Command::Merge(merge) => commands::change::merge(&merge),
        options::Command::Check(check) => commands::check::run(&check),
        options::Command::List(list) => commands::list::run(&list),
        options::Command::Identify(identify) => commands::identify::run(&identify),
        options::Command::Embed(embed) => commands::embed::run(&embed),
        options::Command::Evaluate(evaluate) => commands::evaluate::run(&evaluate),
        options::Command::Mask(mask) => commands::mask::run(&mask),
        options::Command::Show(show) => commands::show::run(&show),
        options::Command::Upgrade(upgrade) => commands::upgrade::run(&upgrade),
        options::Command::Export(export) => commands::export::run(&export),
        options::Command::Import(import) => commands::import::run(&import),
        options::Command::Discover(discover) => commands::discover::run(&discover),
        options::Command::Model(model) => commands::model::run(&model),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}
