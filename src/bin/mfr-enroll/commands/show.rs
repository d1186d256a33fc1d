//! `show`: what a gallery knows of one person.

use std::process::ExitCode;

use anyhow::Result;
use gstmfr::gallery::{Gallery, Kind, file_of};

use super::change::check_present;
use super::check::{page, photos};
use crate::enrol::agreement::{self, Agreement, Verdict};
use crate::npz::check_writable;
use crate::options::ShowOptions;
use crate::output::{Output, counted, plain};
use crate::people;
use crate::report::findings::NEAREST;

pub fn run(options: &ShowOptions) -> Result<ExitCode> {
    if let Some(path) = &options.report {
        check_writable(path)?;
    }
    let path = &options.database;
    let gallery = Gallery::load(path)?;
    people::warn_of_the_clock(&gallery, path);
    let person = check_present(&gallery, &options.name, path)?;
    let photos = photos(&gallery);
    let compared = agreement::compare_changed(&photos.samples, |other| other == person);
    if let Some(report) = &options.report {
        let mut page = page(path, &gallery, &photos, &compared, None);
        page.keep_person(&options.name);
        page.write(report)?;
    }
    let mut out = Output::stdout();
    say(&mut out, &gallery, person, &photos.rows, &compared)?;
    out.finish()?;
    Ok(ExitCode::SUCCESS)
}

fn say(
    out: &mut Output,
    gallery: &Gallery,
    person: usize,
    rows: &[usize],
    compared: &Agreement,
) -> Result<()> {
    let name = |person: usize| plain(&gallery.names()[person]);
    let own = |row: &usize| gallery.labels()[*row] == person;
    let copies: Vec<&str> = (0..gallery.labels().len())
        .filter(|row| own(row) && gallery.kinds()[*row] == Kind::SyntheticMask)
        .map(|row| file_of(&gallery.sources()[row]))
        .collect();
    let count = gallery.people().nth(person).map_or(0, |(_, photos)| photos);
    let copied = match copies.len() {
        1 => "1 masked copy".to_owned(),
        copies => format!("{copies} masked copies"),
    };
    out.line(format_args!(
        "{}: {}, {copied}",
        name(person),
        counted(count, "photo")
    ))?;
    let days = gallery.contract().map(|contract| &contract.expires);
    if let Some(day) = days.and_then(|days| days.get(&gallery.names()[person])) {
        let (day, verb) = (plain(day), gallery.has_expired(person));
        let verb = if verb { "expired" } else { "expires" };
        out.line(format_args!("  {verb} after {day}"))?;
    }
    for (sample, row) in rows.iter().enumerate().filter(|(_, row)| own(row)) {
        let likeness = &compared.likeness[sample];
        let masked = match gallery.kinds()[*row] {
            Kind::MaskedPhoto => ", with a mask",
            _ => "",
        };
        let source = &gallery.sources()[*row];
        let file = file_of(source);
        let own_copies = copies.iter().filter(|&&copy| copy == file).count();
        let like = match likeness.own {
            Some(similarity) => format!(", {similarity:.2} like the nearest other photo"),
            None => String::new(),
        };
        let verdict = match likeness.verdict {
            Verdict::Fits => String::new(),
            _ => {
                let detail = likeness.detail(|person| gallery.names()[person].as_str());
                format!("; {}", plain(&detail))
            }
        };
        out.line(format_args!(
            "  {}{masked}, {own_copies} masked{like}{verdict}",
            plain(source)
        ))?;
    }
    if !compared.pairs.is_empty() {
        out.line("most like")?;
    }
    for pair in compared.pairs.iter().take(NEAREST) {
        let other = pair.people.into_iter().find(|&other| other != person);
        let note = match pair.is_same_person() {
            true => "  the same person?",
            false => "",
        };
        out.line(format_args!(
            "  {:.2}  {}{note}",
            pair.similarity,
            other.map_or_else(String::new, name)
        ))?;
    }
    Ok(())
}
