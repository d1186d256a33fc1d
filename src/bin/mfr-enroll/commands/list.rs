//! `list`: lists the people of a gallery.

use std::process::ExitCode;

use anyhow::Result;
use gstmfr::gallery::Gallery;
use serde::Serialize;

use crate::options::ListOptions;
use crate::output::{Output, counted, plain};

/// A person of a gallery.
#[derive(Debug, Serialize)]
struct ListedPerson<'a> {
    name: &'a str,
    photos: usize,
    /// Of photos, frames and masked copies.
    embeddings: usize,
}

pub fn run(options: &ListOptions) -> Result<ExitCode> {
    let gallery = Gallery::load(&options.database)?;
    let mut embeddings = vec![0; gallery.names().len()];
    for &person in gallery.labels() {
        embeddings[person] += 1;
    }
    let people = gallery.people().zip(embeddings);
    let people: Vec<_> = people
        .map(|((name, photos), embeddings)| ListedPerson {
            name,
            photos,
            embeddings,
        })
        .collect();
    let created = gallery.contract().map(|contract| &contract.created);
    let changed = gallery.contract().and_then(|c| c.changed.as_ref());
    let mut out = Output::stdout();
    if options.json {
        out.json(&serde_json::json!({
            "people": people, "created": created, "changed": changed,
        }))?;
    } else {
        for person in &people {
            out.line(format_args!("{:6}  {}", person.photos, plain(person.name)))?;
        }
        let total = people.iter().map(|person| person.photos).sum();
        let dates = [("made", created), ("changed", changed)];
        let dates = dates.map(|(what, date)| date.map(|d| format!(", {what} {}", plain(d))));
        out.line(format_args!(
            "{}, {}{}",
            counted(people.len(), "person"),
            counted(total, "photo"),
            dates.into_iter().flatten().collect::<String>()
        ))?;
    }
    out.finish()?;
    Ok(ExitCode::SUCCESS)
}
