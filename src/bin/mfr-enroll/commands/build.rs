//! `build` and `add`: make a gallery from photos, or add photos to one.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use gstmfr::embed::INPUT_SIZE;
use gstmfr::gallery::{Contract, Crops, Entry, Gallery, GalleryError, Kind, NpzWriter};
use ndarray::Array1;
use serde::Serialize;

use super::REJECTED;
use super::before::Before;
use super::change::changed;
use super::evaluate::{say as say_figures, warn_of_unenrolled};
use crate::enrol::partial::{self, Partial};
use crate::enrol::{EmbeddedCopy, Enrolled, Keep, Learned, enrol};
use crate::evaluate::calibration::CalibrationTable;
use crate::evaluate::trial::{self, Figures, Tried};
use crate::input::dataset::{Collection, Dataset};
use crate::npz;
use crate::options::{BuildOptions, Masks, NewPhotos, shown};
use crate::output::{self, Output, counted, plain};
use crate::people;
use crate::report::findings::Findings;
use crate::report::{self, scores::GalleryScores};
use crate::vision::batch::Embedders;
use crate::vision::portrait::Rejected;

#[derive(Debug, Serialize)]
struct BuildReport<'a> {
    output: String,
    /// Whether photos were added to a gallery that was there.
    #[serde(skip)]
    is_addition: bool,
    /// Number of people in the gallery.
    enrolled: usize,
    #[serde(flatten)]
    findings: Findings<'a>,
    calibration: CalibrationTable,
    #[serde(skip_serializing_if = "Option::is_none")]
    val: Option<Figures>,
    seconds: f64,
}

pub fn run(options: &BuildOptions) -> Result<ExitCode> {
    let start = Instant::now();
    let outputs = [&options.faces_output, &options.report];
    for path in outputs.into_iter().flatten().chain([&options.output]) {
        npz::check_writable(path)?;
    }
    let Dataset { train, val } = match &options.photos {
        NewPhotos::Dataset(dataset) => Dataset::open(dataset)?,
        NewPhotos::Person { name, photos } => Dataset {
            train: Collection::of_person(name, photos)?,
            val: None,
        },
        NewPhotos::Files { root, files } => Dataset {
            train: Collection::of_files(root, files)?,
            val: None,
        },
    };
    let val = match &options.val {
        Some(folder) => Some(Collection::open(folder, folder).context("val")?),
        None => val,
    };
    let before = Before::of(options)?;
    let enrolment = before.enrolment(&options.given, &options.output)?;
    let masks = Masks::of(&enrolment)?;
    let vision = options.vision.enrolling(&enrolment);
    let vision = vision.of_gallery(before.contract())?;
    let embedders = Embedders::load(&vision)?;
    before.check_model(&embedders, &options.output)?;
    let keep = Keep {
        crops: options.faces_output.is_some(),
        thumbnails: options.report.is_some(),
    };
    let settings = partial::settings(&vision, &masks, keep, &embedders);
    let mut partial = Partial::open(&options.output, settings, options.fresh)?;
    // The lock of the partial file is held by now, so nobody else changes the gallery.
    before.check_unchanged(&options.output)?;
    let (train, existing) = before.beside(train);
    let enrolled = enrol(
        &train,
        &embedders,
        &masks,
        keep,
        Some(&mut partial),
        existing,
    )?;
    let is_new = |learned: &&Learned| !train.items[learned.shot.item].is_enrolled;
    if !enrolled.learned.iter().any(|learned| is_new(&learned)) {
        partial.remove();
        bail!("{}", nothing_usable(options, &enrolled));
    }
    let target_fpir = enrolment.target_fpir;
    let (gallery, calibration) = match &before.gallery {
        None => {
            let contract = people::contract(&embedders, enrolment);
            let contract = expiring(contract, options, &train, &enrolled);
            let mut gallery = learn(&train, &enrolled, contract)?;
            let calibration = gallery.calibrate(target_fpir)?;
            (gallery, calibration)
        }
        Some((gallery, contract)) => {
            let mut entries = gallery.entries();
            entries.extend(new_entries(&train, &enrolled));
            let contract = expiring(contract.clone(), options, &train, &enrolled);
            gallery.remade(entries, changed(contract))?
        }
    };
    gallery.save(&options.output)?;

    let (figures, tried) = match &val {
        Some(val) => {
            let (figures, tried) = try_out(options, val, &gallery, &embedders)?;
            (Some(figures), tried)
        }
        None => (None, Vec::new()),
    };
    if let Some(path) = &options.faces_output {
        let learned = Faces::new(enrolled.learned.iter().filter_map(|l| {
            let crop = l.crop.as_ref()?;
            Some((person_of(&train, l.shot.item), crop))
        }));
        let tried = val.as_ref().map_or_else(Faces::default, |val| {
            Faces::new(tried.iter().filter_map(|t| {
                let crop = t.crop.as_ref()?;
                Some((person_of(val, t.source), crop))
            }))
        });
        let sources = CropSources::of(&train, &enrolled);
        npz::write_file(path, |npz| {
            learned.write(npz, ["arr_0", "arr_1"])?;
            tried.write(npz, ["arr_2", "arr_3"])?;
            sources.write(npz)
        })?;
    }

    if let Some(path) = &options.report {
        let measured = Some(GalleryScores::of(&calibration, gallery.thresholds()));
        report::HtmlReport::of_dataset(subject(&options.photos), &train, &enrolled, measured)
            .write(path)?;
    }

    // The partial file is not needed any more, because everything is written.
    partial.remove();

    let report = BuildReport {
        output: shown(&options.output),
        is_addition: before.gallery.is_some(),
        enrolled: gallery.names().len(),
        findings: Findings::of(&train, &enrolled),
        calibration: CalibrationTable::of(&calibration),
        val: figures,
        seconds: start.elapsed().as_secs_f64(),
    };
    let mut out = Output::stdout();
    if options.json {
        out.json(&report)?;
    } else {
        say(&mut out, &report)?;
    }
    out.finish()?;
    Ok(if options.strict && !enrolled.rejected.is_empty() {
        ExitCode::from(REJECTED)
    } else {
        ExitCode::SUCCESS
    })
}

fn person_of(collection: &Collection, item: usize) -> &str {
    &collection.people[collection.items[item].person]
}

/// The error message if no photo can be used, with the reasons.
fn nothing_usable(options: &BuildOptions, enrolled: &Enrolled) -> String {
    let mut text = format!("no photo of {} can be used", subject(&options.photos));
    for Rejected {
        path,
        reason,
        detail,
        ..
    } in &enrolled.rejected
    {
        text += &format!("\n  {}: {} ({detail})", plain(path), reason.name());
    }
    text
}

/// The contract with the last day of everybody of whom a new photo is used, if one was given.
fn expiring(
    contract: Contract,
    options: &BuildOptions,
    collection: &Collection,
    enrolled: &Enrolled,
) -> Contract {
    let mut expires = contract.expires;
    if let Some(day) = &options.expires {
        let new = new_entries(collection, enrolled);
        expires.extend(new.map(|entry| (entry.name, day.clone())));
    }
    Contract {
        expires,
        ..contract
    }
}

/// The gallery of the people who have at least one usable photo.
pub fn learn(
    collection: &Collection,
    enrolled: &Enrolled,
    contract: Contract,
) -> Result<Gallery, GalleryError> {
    Gallery::train(new_entries(collection, enrolled).collect(), contract)
}

/// The entries of photos that no gallery has yet.
fn new_entries<'a>(
    collection: &'a Collection,
    enrolled: &'a Enrolled,
) -> impl Iterator<Item = Entry> + 'a {
    let new = enrolled.learned.iter();
    let new = new.filter(|learned| !collection.items[learned.shot.item].is_enrolled);
    new.flat_map(|learned| {
        let name = person_of(collection, learned.shot.item);
        let source = learned.shot.name(&collection.items);
        let entry = |source: String, kind, embedding: &Array1<f32>| Entry {
            name: name.to_owned(),
            source,
            kind,
            embedding: embedding.clone(),
        };
        let photo = entry(source.clone(), learned.kind, &learned.embedding);
        let copies = learned.copies.iter().map(move |copy| {
            let source = masked_source(&source, copy);
            entry(source, Kind::SyntheticMask, &copy.embedding)
        });
        std::iter::once(photo).chain(copies)
    })
}

/// What the photos are, in messages.
fn subject(photos: &NewPhotos) -> String {
    match photos {
        NewPhotos::Dataset(dataset) => format!("the dataset {}", dataset.display()),
        NewPhotos::Person { name, .. } => plain(name),
        NewPhotos::Files { root, .. } => format!("the photos of {}", root.display()),
    }
}

fn try_out(
    options: &BuildOptions,
    val: &Collection,
    gallery: &Gallery,
    embedders: &Embedders,
) -> Result<(Figures, Vec<Tried>)> {
    warn_of_unenrolled(val, gallery);
    let sources: Vec<_> = val.items.iter().map(|item| &item.source).collect();
    let keep_crops = options.faces_output.is_some();
    let tried = trial::recognise(&sources, gallery, embedders, keep_crops)?;
    let known = trial::with_names(val, &tried);
    let figures = Figures::of(&known, None, gallery.thresholds());
    Ok((figures, tried))
}

/// What `upgrade` needs besides: the sources of the crops of photos, and the crops of their masked copies.
#[derive(Debug, Default)]
struct CropSources<'a> {
    photos: Vec<String>,
    copies: Vec<(String, &'a [u8])>,
}

impl<'a> CropSources<'a> {
    fn of(collection: &Collection, enrolled: &'a Enrolled) -> Self {
        let mut all = Self::default();
        for learned in enrolled.learned.iter().filter(|l| l.crop.is_some()) {
            let source = learned.shot.name(&collection.items);
            for copy in &learned.copies {
                if let Some(crop) = &copy.crop {
                    all.copies.push((masked_source(&source, copy), crop));
                }
            }
            all.photos.push(source);
        }
        all
    }

    fn write<W: std::io::Write + std::io::Seek>(
        &self,
        npz: &mut NpzWriter<W>,
    ) -> std::io::Result<()> {
        let [[_, sources], [copies, copy_sources]] = Crops::arrays();
        npz.texts(sources, &self.photos)?;
        let shape = [self.copies.len(), INPUT_SIZE, INPUT_SIZE, 3];
        npz.bytes(copies, &shape, self.copies.iter().map(|(_, crop)| *crop))?;
        let names: Vec<&str> = self.copies.iter().map(|(name, _)| name.as_str()).collect();
        npz.texts(copy_sources, &names)
    }
}

/// The source of a masked copy in the gallery.
fn masked_source(source: &str, copy: &EmbeddedCopy) -> String {
    format!("{source}#mask:{}", copy.mask)
}

/// Crops and names in the format of the original scripts.
#[derive(Debug, Default)]
struct Faces<'a> {
    names: Vec<&'a str>,
    crops: Vec<&'a [u8]>,
}

impl<'a> Faces<'a> {
    fn new(faces: impl Iterator<Item = (&'a str, &'a Vec<u8>)>) -> Self {
        let (names, crops) = faces.map(|(name, crop)| (name, crop.as_slice())).unzip();
        Self { names, crops }
    }

    fn write<W: std::io::Write + std::io::Seek>(
        &self,
        npz: &mut NpzWriter<W>,
        [crops, names]: [&str; 2],
    ) -> std::io::Result<()> {
        let shape = [self.crops.len(), INPUT_SIZE, INPUT_SIZE, 3];
        npz.bytes(crops, &shape, self.crops.iter().copied())?;
        npz.texts(names, &self.names)
    }
}

/// Prints the report as text.
fn say(out: &mut Output, report: &BuildReport) -> Result<()> {
    let findings = &report.findings;
    findings.say(out)?;
    report.calibration.say(out)?;
    if let Some(figures) = &report.val {
        out.line("\ntried on the val photos")?;
        say_figures(out, figures)?;
    }
    let [now, new] = match report.is_addition {
        true => [" now", "new photo"],
        false => ["", "photo"],
    };
    out.line(format_args!(
        "\n{}: {}{now}, {} of {} used, {:.1} s",
        report.output,
        counted(report.enrolled, "person"),
        findings.photos.used,
        counted(findings.photos.found, new),
        report.seconds
    ))?;
    if report.enrolled == 1 {
        output::warning(
            "one person alone gives nothing to tell them apart from; with other people's photos \
             in the dataset strangers are known better",
        );
    }
    Ok(())
}
