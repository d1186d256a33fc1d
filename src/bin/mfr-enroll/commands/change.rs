//! `remove`, `rename` and `merge`: galleries are changed by their embeddings, without the photos that these were made from.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use gstmfr::gallery::{Contract, Entry, Gallery, Kind, file_of};
use gstmfr::io::files::{self, write_atomically};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::enrol::existing::unique;
use crate::enrol::partial::OutputLock;
use crate::npz;
use crate::options::{MergeOptions, RemoveOptions, RenameOptions, shown};
use crate::output::{Output, counted, plain};
use crate::people;

/// Exit status of wrong usage, as clap has it.
const USAGE: u8 = 2;

/// What a person has in a gallery.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
struct Removed {
    name: String,
    /// Files, each of which counts once, however many frames of it are enrolled.
    photos: usize,
    embeddings: usize,
}

/// A gallery file at one moment, without what is biometric.
#[derive(Debug, Serialize)]
struct FileState {
    sha256: String,
    people: usize,
    embeddings: usize,
}

/// The record of a removal.
#[derive(Debug, Serialize)]
struct Proof<'a> {
    database: String,
    time: String,
    removed: &'a [Removed],
    before: FileState,
    after: FileState,
}

pub fn remove(options: &RemoveOptions) -> Result<ExitCode> {
    let path = &options.database;
    if let Some(proof) = &options.proof {
        npz::check_writable(proof)?;
    }
    let lock = OutputLock::of(path)?;
    let gallery = Gallery::load(path)?;
    let contract = contract_of(&gallery, path)?;
    for name in &options.names {
        check_present(&gallery, name, path)?;
    }
    people::warn_of_the_clock(&gallery, path);
    let expired = gallery.names().iter().enumerate();
    let expired = expired.filter(|&(person, _)| options.expired && gallery.has_expired(person));
    let gone = expired.map(|(_, name)| name).chain(&options.names);
    let gone: BTreeSet<&str> = gone.map(String::as_str).collect();
    if gone.is_empty() {
        let mut out = Output::stdout();
        out.line(format_args!("nobody in {} has expired", shown(path)))?;
        out.finish()?;
        return Ok(ExitCode::SUCCESS);
    }
    ensure!(
        gone.len() < gallery.names().len(),
        "nobody would be left in {}; to delete everybody, delete the file",
        path.display()
    );
    let (removed, kept): (Vec<Entry>, Vec<Entry>) = gallery
        .entries()
        .into_iter()
        .partition(|entry| gone.contains(entry.name.as_str()));
    let removed = counts(&removed);
    if !options.yes && !confirm(&removed, path)? {
        return Ok(ExitCode::from(USAGE));
    }
    // Whole files are read for it.
    let before = match &options.proof {
        Some(_) => Some(state(&gallery, path)?),
        None => None,
    };
    let (smaller, _) = gallery.remade(kept, without(changed(contract), &gone))?;
    smaller.save(path)?;
    // An interrupted run may have left embeddings of anybody.
    lock.discard();
    let mut out = Output::stdout();
    for person in &removed {
        out.line(format_args!(
            "removed {}: {}, {}",
            plain(&person.name),
            counted(person.photos, "photo"),
            counted(person.embeddings, "embedding")
        ))?;
    }
    say_gallery(&mut out, path, &smaller)?;
    if let (Some(file), Some(before)) = (&options.proof, before) {
        let proof = Proof {
            database: shown(path),
            time: people::now_text(),
            removed: &removed,
            before,
            after: state(&smaller, path)?,
        };
        let text = serde_json::to_string_pretty(&proof)?;
        write_atomically(file, |out| writeln!(out, "{text}"))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    out.finish()?;
    Ok(ExitCode::SUCCESS)
}

pub fn rename(options: &RenameOptions) -> Result<ExitCode> {
    let path = &options.database;
    let _lock = OutputLock::of(path)?;
    let gallery = Gallery::load(path)?;
    let contract = contract_of(&gallery, path)?;
    check_present(&gallery, &options.old, path)?;
    ensure!(
        !gallery.names().contains(&options.new),
        "{} is in {} already; two people cannot have one name",
        plain(&options.new),
        path.display()
    );
    let mut entries = gallery.entries();
    for entry in &mut entries {
        if entry.name == options.old {
            entry.name.clone_from(&options.new);
        }
    }
    let mut contract = changed(contract);
    if let Some(day) = contract.expires.remove(&options.old) {
        contract.expires.insert(options.new.clone(), day);
    }
    let (renamed, _) = gallery.remade(entries, contract)?;
    renamed.save(path)?;
    let mut out = Output::stdout();
    out.line(format_args!(
        "{}: {} is {} now",
        shown(path),
        plain(&options.old),
        plain(&options.new)
    ))?;
    out.finish()?;
    Ok(ExitCode::SUCCESS)
}

pub fn merge(options: &MergeOptions) -> Result<ExitCode> {
    npz::check_writable(&options.output)?;
    let _lock = OutputLock::of(&options.output)?;
    let mut galleries = Vec::new();
    for path in &options.galleries {
        let gallery = Gallery::load(path)?;
        let contract = contract_of(&gallery, path)?;
        galleries.push((path, gallery, contract));
    }
    let Some(((first_path, first, contract), others)) = galleries.split_first() else {
        bail!("expected two galleries or more");
    };
    for (path, _, other) in others {
        if let Some(difference) = contract.difference(other) {
            bail!(
                "{} and {} cannot be merged: {difference}",
                first_path.display(),
                path.display()
            );
        }
    }
    let mut merged: Vec<Entry> = Vec::new();
    let mut taken = BTreeSet::new();
    for (_, gallery, _) in &galleries {
        merged.extend(with_unique_sources(gallery.entries(), &mut taken));
    }
    let made = Contract {
        created: people::now_text(),
        tool_version: people::TOOL.to_owned(),
        changed: None,
        expires: earliest(galleries.iter().map(|(_, _, contract)| contract)),
        ..contract.clone()
    };
    let (gallery, _) = first.remade(merged, made)?;
    gallery.save(&options.output)?;
    let mut out = Output::stdout();
    say_gallery(&mut out, &options.output, &gallery)?;
    out.finish()?;
    Ok(ExitCode::SUCCESS)
}

/// Numbers the files whose names files of other galleries have. A photo and its masked copies keep a name together.
pub fn with_unique_sources(entries: Vec<Entry>, taken: &mut BTreeSet<String>) -> Vec<Entry> {
    let mut new: BTreeMap<String, String> = BTreeMap::new();
    let entries = entries.into_iter().map(|entry| {
        let file = file_of(&entry.source).to_owned();
        let rest = &entry.source[file.len()..];
        let name = new
            .entry(file.clone())
            .or_insert_with(|| unique(file.clone(), taken));
        let source = format!("{name}{rest}");
        Entry { source, ..entry }
    });
    let entries = entries.collect();
    taken.extend(new.into_values());
    entries
}

/// The last day of each person. The earliest one holds where galleries name several.
pub fn earliest<'a>(contracts: impl Iterator<Item = &'a Contract>) -> BTreeMap<String, String> {
    let mut days: BTreeMap<String, String> = BTreeMap::new();
    for (name, day) in contracts.flat_map(|contract| &contract.expires) {
        let own = days.entry(name.clone()).or_insert_with(|| day.clone());
        if *day < *own {
            own.clone_from(day);
        }
    }
    days
}

/// The contract without what it says of these people.
fn without(mut contract: Contract, gone: &BTreeSet<&str>) -> Contract {
    contract
        .expires
        .retain(|name, _| !gone.contains(name.as_str()));
    contract
}

/// The contract of a gallery that is to be changed.
pub fn contract_of(gallery: &Gallery, path: &Path) -> Result<Contract> {
    gallery.contract().cloned().with_context(|| {
        format!(
            "{} does not say which network and crop it was made with, so it cannot be changed; build it anew from the photos",
            path.display()
        )
    })
}

/// The contract of the gallery after a change.
pub fn changed(contract: Contract) -> Contract {
    Contract {
        changed: Some(people::now_text()),
        tool_version: people::TOOL.to_owned(),
        ..contract
    }
}

/// The index of a person of the gallery.
pub fn check_present(gallery: &Gallery, name: &str, path: &Path) -> Result<usize> {
    if let Some(person) = gallery.names().iter().position(|known| known == name) {
        return Ok(person);
    }
    let alike = |known: &&String| known.to_lowercase() == name.trim().to_lowercase();
    match gallery.names().iter().find(alike) {
        Some(known) => bail!(
            "{:?} is not in {}; did you mean {known:?}?",
            name,
            path.display()
        ),
        None => bail!(
            "{:?} is not in {}; mfr-enroll list shows who is",
            name,
            path.display()
        ),
    }
}

/// The people of these entries.
fn counts(entries: &[Entry]) -> Vec<Removed> {
    let mut people: BTreeMap<&str, (BTreeSet<&str>, usize)> = BTreeMap::new();
    for entry in entries {
        let (files, embeddings) = people.entry(&entry.name).or_default();
        if entry.kind != Kind::SyntheticMask {
            files.insert(file_of(&entry.source));
        }
        *embeddings += 1;
    }
    let people = people.into_iter();
    people
        .map(|(name, (files, embeddings))| Removed {
            name: name.to_owned(),
            photos: files.len(),
            embeddings,
        })
        .collect()
}

/// Asks on the terminal; without one nothing is removed.
fn confirm(removed: &[Removed], path: &Path) -> Result<bool> {
    let names: Vec<_> = removed.iter().map(|person| plain(&person.name)).collect();
    let names = names.join(", ");
    if !io::stdin().is_terminal() {
        crate::output::error(&format!(
            "{names} would be removed from {}; confirm it by --yes",
            path.display()
        ));
        return Ok(false);
    }
    let mut stderr = io::stderr();
    write!(stderr, "Remove {names} from {}? [y/N] ", path.display())?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn state(gallery: &Gallery, path: &Path) -> Result<FileState> {
    let mut file = files::open_regular(path).with_context(|| path.display().to_string())?;
    let mut hash = Sha256::new();
    io::copy(&mut file, &mut hash)?;
    Ok(FileState {
        sha256: hash.finalize().iter().map(|b| format!("{b:02x}")).collect(),
        people: gallery.names().len(),
        embeddings: gallery.labels().len(),
    })
}

fn say_gallery(out: &mut Output, path: &Path, gallery: &Gallery) -> io::Result<()> {
    let photos = gallery.people().map(|(_, photos)| photos).sum();
    out.line(format_args!(
        "{}: {}, {}",
        shown(path),
        counted(gallery.names().len(), "person"),
        counted(photos, "photo")
    ))
}

/// Whether the gallery that photos are added to is there.
pub fn existing(path: &Path) -> Result<Option<Gallery>> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        _ => Ok(Some(Gallery::load(path)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::arr1;

    fn entry(name: &str, source: &str) -> Entry {
        let kind = match source.contains("#mask:") {
            true => Kind::SyntheticMask,
            false => Kind::Photo,
        };
        Entry {
            name: name.into(),
            source: source.into(),
            kind,
            embedding: arr1(&[1.0]),
        }
    }

    #[test]
    fn sources_of_several_galleries_stay_unique_with_their_copies() {
        let mut taken = BTreeSet::new();
        let sources = |entries: Vec<Entry>, taken: &mut BTreeSet<String>| -> Vec<String> {
            let entries = with_unique_sources(entries, taken).into_iter();
            entries.map(|entry| entry.source).collect()
        };
        let entries = || vec![entry("a", "a/1.jpg"), entry("a", "a/1.jpg#mask:n95")];
        assert_eq!(
            sources(entries(), &mut taken),
            ["a/1.jpg", "a/1.jpg#mask:n95"]
        );
        assert_eq!(
            sources(entries(), &mut taken),
            ["a/1.jpg~2", "a/1.jpg~2#mask:n95"]
        );
        assert_eq!(
            sources(vec![entry("a", "a/1.jpg#t=0.50")], &mut taken),
            ["a/1.jpg~3#t=0.50"]
        );
    }

    #[test]
    fn of_several_last_days_the_earliest_one_holds() {
        let contract = |days: &[(&str, &str)]| Contract {
            expires: days
                .iter()
                .map(|&(name, day)| (name.to_owned(), day.to_owned()))
                .collect(),
            ..Contract::new("", 0)
        };
        let both = [
            contract(&[("Ana", "2030-01-31"), ("Bo", "2031-01-01")]),
            contract(&[("Ana", "2029-12-31")]),
        ];
        let days = earliest(both.iter());
        assert_eq!(
            (&days["Ana"][..], &days["Bo"][..]),
            ("2029-12-31", "2031-01-01")
        );
        let left = without(both[0].clone(), &["Ana"].into());
        assert_eq!(left.expires.keys().collect::<Vec<_>>(), ["Bo"]);
    }

    #[test]
    fn photos_are_counted_by_file_and_embeddings_with_copies() {
        let entries = [
            entry("b", "b/1.jpg"),
            entry("b", "b/1.jpg#mask:n95"),
            entry("a", "a/1.mp4#t=0.50"),
            entry("a", "a/1.mp4#t=1.00"),
        ];
        let person = |name: &str, photos, embeddings| Removed {
            name: name.into(),
            photos,
            embeddings,
        };
        assert_eq!(counts(&entries), [person("a", 1, 2), person("b", 1, 2)]);
    }
}
