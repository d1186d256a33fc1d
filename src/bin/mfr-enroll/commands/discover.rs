//! `discover`: finds the people in unsorted photos and videos, as folders to be named and enrolled.

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use gstmfr::gallery::{Gallery, Statistics};
use serde::Serialize;

use crate::discover::{self, Fate, Found, LocatedFace, crops, page::Sheets};
use crate::enrol::Keep;
use crate::enrol::partial::{self, Partial};
use crate::input::dataset::{self, Item};
use crate::input::source::SourceFile;
use crate::new_folder::NewFolder;
use crate::npz;
use crate::options::{DiscoverOptions, Masks, shown};
use crate::output::{self, Output, counted, plain};
use crate::people;
use crate::vision::batch::Embedders;

/// One line of the JSON output, whose field names are a public interface; coordinates are pixels of the upright photo.
#[derive(Debug, Serialize)]
struct FaceLine<'a> {
    path: &'a str,
    x: f32,
    y: f32,
    w: f32,
    h: f32,
    /// Seconds from the start of a video.
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<f64>,
    person: Option<String>,
    known: Option<&'a str>,
}

pub fn run(options: &DiscoverOptions) -> Result<ExitCode> {
    NewFolder::check(&options.output)?;
    if let Some(report) = &options.report {
        npz::check_writable(report)?;
    }
    let gallery = match &options.database {
        Some(database) => Some(Gallery::load(database)?),
        None => None,
    };
    let vision = match &gallery {
        Some(gallery) => options.vision.of_gallery(gallery.contract())?,
        None => options.vision.clone(),
    };
    let embedders = Embedders::load(&vision)?;
    if let (Some(gallery), Some(database)) = (&gallery, &options.database) {
        people::check(gallery, database, &embedders)?;
    }
    let own = gallery.as_ref().and_then(Gallery::statistics);
    let statistics = match own {
        Some(own) => Some(own),
        None => Statistics::built_in(embedders.model_sha256())?,
    };
    let (items, mut failures) = listed(options)?;
    let keep = Keep {
        crops: false,
        thumbnails: options.report.is_some(),
    };
    let mut settings = partial::settings(&vision, &Masks::default(), keep, &embedders);
    settings.insert("command".to_owned(), "discover".to_owned());
    let mut partial = Partial::open(&options.output, settings, options.fresh)?;
    let found = discover::find(&items, &embedders, keep.thumbnails, &mut partial)?;
    for (file, error) in &found.failed {
        failures += 1;
        output::warning(&format!(
            "{}: {error}",
            items[*file].source.path().display()
        ));
    }
    let faces = &found.faces;
    let fates = discover::sort(faces, statistics, gallery.as_ref());
    let best = crops::best(faces, &fates, &items);
    // The lock of the partial file is held, so no other run fills the folder.
    NewFolder::check(&options.output)?;
    let mut written = 0;
    if !best.is_empty() {
        let folder = NewFolder::begin(&options.output)?;
        written = crops::write(&best, faces, &items, vision.jobs, &folder)?;
        folder.finish()?;
    }
    if let Some(report) = &options.report {
        let sheets = Sheets::of(&fates);
        let subject = options.inputs.iter().map(|input| shown(input));
        let subject = subject.collect::<Vec<_>>().join(", ");
        sheets
            .report(subject, faces, &items, best.len())
            .write(report)?;
    }
    partial.remove();
    let mut out = Output::stdout();
    if options.json {
        for (face, fate) in faces.iter().zip(&fates) {
            out.json(&line(face, fate, &items))?;
        }
    } else {
        say(&mut out, options, &found, &fates, &items, written)?;
    }
    out.finish()?;
    ensure!(
        failures < items.len().max(1),
        "none of {} could be read",
        counted(items.len(), "file")
    );
    Ok(ExitCode::SUCCESS)
}

/// The photos and videos, each once, and the number of paths that could not be listed.
fn listed(options: &DiscoverOptions) -> Result<(Vec<Item>, usize)> {
    let listed = dataset::photos_and_videos(&options.inputs)?;
    for (path, detail) in &listed.failed {
        output::warning(&format!("{}: {detail}", path.display()));
    }
    let mut taken = BTreeSet::new();
    let videos = listed.videos.into_iter().map(SourceFile::Video);
    let sources = listed.sources.into_iter().chain(videos);
    let items = sources.filter_map(|source| {
        let name = shown(source.path());
        taken.insert(name.clone()).then_some(Item {
            person: 0,
            name,
            source,
            is_enrolled: false,
        })
    });
    Ok((items.collect(), listed.failed.len()))
}

fn line<'a>(found: &LocatedFace, fate: &'a Fate, items: &'a [Item]) -> FaceLine<'a> {
    let rect = found.face.rect();
    FaceLine {
        path: &items[found.file].name,
        x: rect.x,
        y: rect.y,
        w: rect.width,
        h: rect.height,
        time: found.time.map(|time| time.as_secs_f64()),
        person: match fate {
            Fate::Person(person) => Some(crops::folder_name(*person)),
            _ => None,
        },
        known: match fate {
            Fate::Known(name) => Some(name),
            _ => None,
        },
    }
}

/// Prints the result as text.
fn say(
    out: &mut Output,
    options: &DiscoverOptions,
    found: &Found,
    fates: &[Fate],
    items: &[Item],
    written: usize,
) -> Result<()> {
    let mut people: Vec<(usize, BTreeSet<usize>)> = Vec::new();
    let mut known: std::collections::BTreeMap<&str, usize> = Default::default();
    let (mut alone, mut unusable) = (0, 0);
    for (face, fate) in found.faces.iter().zip(fates) {
        match fate {
            Fate::Person(person) => {
                if people.len() <= *person {
                    people.resize(person + 1, Default::default());
                }
                people[*person].0 += 1;
                people[*person].1.insert(face.file);
            }
            Fate::Known(name) => *known.entry(name).or_default() += 1,
            Fate::Alone => alone += 1,
            Fate::Unusable => unusable += 1,
        }
    }
    for (person, (faces, files)) in people.iter().enumerate() {
        out.line(format_args!(
            "{}: {} in {}",
            crops::folder_name(person),
            counted(*faces, "face"),
            counted(files.len(), "file")
        ))?;
    }
    for (name, faces) in &known {
        out.line(format_args!(
            "known: {}, {}",
            plain(name),
            counted(*faces, "face")
        ))?;
    }
    out.line(format_args!(
        "{} in {}: {alone} alone, {unusable} not usable",
        counted(fates.len(), "face"),
        counted(items.len(), "file"),
    ))?;
    if people.is_empty() {
        out.line(format_args!(
            "no two faces of a person who is not known; {} is not made",
            options.output.display()
        ))?;
    } else {
        let output = shown(&options.output);
        out.line(format_args!(
            "{output}: {}, {}; rename the folders, delete those of people who are not to be enrolled, then: \
             mfr-enroll --dataset {output} --output gallery.npz",
            counted(people.len(), "person"),
            counted(written, "crop"),
        ))?;
    }
    Ok(())
}
