//! `list`: lists the people of a gallery.

use std::process::ExitCode;

use anyhow::Result;
use gstmfr::gallery::{Gallery, Kind};
use serde::Serialize;

use crate::options::ListOptions;
use crate::output::{Output, counted, plain};
use crate::people;

/// A person of a gallery.
#[derive(Debug, Serialize)]
struct ListedPerson<'a> {
    name: &'a str,
    photos: usize,
    /// Embeddings of photos, and of frames of videos, with a real mask.
    masked: usize,
    /// Embeddings of copies with a synthetic mask.
    masked_copies: usize,
    /// All embeddings.
    embeddings: usize,
    /// The last day on which the person is named.
    expires: Option<&'a str>,
    /// Whether that day is over.
    expired: bool,
}

impl ListedPerson<'_> {
    fn note(&self) -> String {
        let masks = match self.masked {
            0 => String::new(),
            masked => format!(", {masked} with a mask"),
        };
        match self.expires {
            Some(day) if self.expired => format!("{masks}, expired after {}", plain(day)),
            Some(day) => format!("{masks}, expires after {}", plain(day)),
            None => masks,
        }
    }
}

pub fn run(options: &ListOptions) -> Result<ExitCode> {
    let gallery = Gallery::load(&options.database)?;
    people::warn_of_the_clock(&gallery, &options.database);
    let contract = gallery.contract();
    let mut people: Vec<ListedPerson> = gallery
        .people()
        .enumerate()
        .map(|(person, (name, photos))| ListedPerson {
            name,
            photos,
            masked: 0,
            masked_copies: 0,
            embeddings: 0,
            expires: contract.and_then(|c| c.expires.get(name).map(String::as_str)),
            expired: gallery.has_expired(person),
        })
        .collect();
    for (&person, kind) in gallery.labels().iter().zip(gallery.kinds()) {
        let person = &mut people[person];
        person.embeddings += 1;
        person.masked += usize::from(*kind == Kind::MaskedPhoto);
        person.masked_copies += usize::from(*kind == Kind::SyntheticMask);
    }
    let created = contract.map(|contract| &contract.created);
    let changed = contract.and_then(|c| c.changed.as_ref());
    let total: usize = people.iter().map(|person| person.photos).sum();
    let mut out = Output::stdout();
    if options.json {
        out.json(&serde_json::json!({
            "people": people, "photos": total, "embeddings": gallery.labels().len(),
            "masked_copies": people.iter().map(|person| person.masked_copies).sum::<usize>(),
            "created": created, "changed": changed, "has_svm": gallery.has_svm(),
            "thresholds": gallery.thresholds(), "contract": contract,
        }))?;
    } else {
        for person in &people {
            let name = plain(person.name);
            out.line(format_args!("{:6}  {name}{}", person.photos, person.note()))?;
        }
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
