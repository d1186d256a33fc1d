//! `check`: reports problems of photos, or of a gallery, without writing a gallery.

use std::collections::HashMap;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use gstmfr::gallery::{Contract, DEFAULT_TARGET_FPIR, Enrolment, Gallery, Kind, file_of};
use serde::Serialize;

use super::REJECTED;
use super::build::learn;
use crate::enrol::agreement::{self, Agreement, FaceSample, Likeness, Pair, Verdict};
use crate::enrol::existing::Outcomes;
use crate::enrol::{Enrolled, Keep, enrol};
use crate::input::dataset::{Collection, Dataset};
use crate::npz::check_writable;
use crate::options::{CheckOptions, Masks, Subject, shown};
use crate::output::{Output, counted, plain};
use crate::people;
use crate::people::made_now;
use crate::report::findings::{
    FEW_PHOTOS, Findings, NEAREST, Similar, Suspicion, nearest, say_alike, say_pairs,
    say_suspicious,
};
use crate::report::scores::GalleryScores;
use crate::report::{Couple, HtmlReport, Note, PersonSheet, PhotoEntry};
use crate::vision::batch::Embedders;
use crate::vision::quality::Measures;
use crate::vision::reason::Reason;

pub fn run(options: &CheckOptions) -> Result<ExitCode> {
    if let Some(path) = &options.report {
        check_writable(path)?;
    }
    let is_clean = match &options.subject {
        Subject::Dataset(dataset) => check_dataset(options, dataset)?,
        Subject::Database(database) => check_gallery(options, database)?,
    };
    Ok(if options.strict && !is_clean {
        ExitCode::from(REJECTED)
    } else {
        ExitCode::SUCCESS
    })
}

#[derive(Debug, Serialize)]
struct DatasetReport<'a> {
    dataset: String,
    #[serde(flatten)]
    findings: Findings<'a>,
    nearest: Vec<Similar>,
    /// People with at least one photo, but fewer than [`FEW_PHOTOS`].
    few_photos: Vec<&'a str>,
    no_photo: Vec<&'a str>,
    files: Vec<FileReport<'a>>,
}

/// A photo, or a used frame of a video.
#[derive(Debug, Serialize)]
struct FileReport<'a> {
    path: String,
    person: Option<&'a str>,
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    measured: Option<Measures>,
    /// Cosine to the most similar of the person's other photos.
    own: Option<f32>,
    other: Option<Other<'a>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Used,
    Suspicious,
    Rejected,
}

/// The other person most similar to a photo.
#[derive(Debug, Serialize)]
struct Other<'a> {
    name: &'a str,
    similarity: f32,
}

/// Checks a dataset; returns whether there are no problems.
fn check_dataset(options: &CheckOptions, dataset: &Path) -> Result<bool> {
    let Dataset { train, .. } = Dataset::open(dataset)?;
    let embedders = Embedders::load(&options.vision)?;
    let keep = Keep {
        crops: false,
        thumbnails: options.report.is_some(),
    };
    let enrolled = enrol(
        &train,
        &embedders,
        &Masks::default(),
        keep,
        None,
        Outcomes::default(),
    )?;
    if let Some(path) = &options.report {
        // Without a person there is nothing to measure.
        let measured = match enrolled.learned.is_empty() {
            true => None,
            false => Some(measure(&learn(
                &train,
                &enrolled,
                people::contract(&embedders, Enrolment::default()),
            )?)?),
        };
        HtmlReport::of_dataset(shown(dataset), &train, &enrolled, measured).write(path)?;
    }
    let findings = Findings::of(&train, &enrolled);
    let people = |is_listed: fn(usize) -> bool| {
        let listed = findings.people.iter().filter(|p| is_listed(p.used));
        listed.map(|p| p.name).collect()
    };
    let report = DatasetReport {
        dataset: shown(dataset),
        nearest: nearest(&train, &enrolled),
        few_photos: people(|used| (1..FEW_PHOTOS).contains(&used)),
        no_photo: people(|used| used == 0),
        files: files(&train, &enrolled),
        findings,
    };
    let mut out = Output::stdout();
    if options.json {
        out.json(&report)?;
    } else {
        say_dataset(&mut out, &report)?;
    }
    out.finish()?;
    let findings = &report.findings;
    Ok(findings.rejected.is_empty() && findings.suspicious.is_empty() && findings.alike.is_empty())
}

/// All photos and all used frames, sorted by path.
fn files<'a>(train: &'a Collection, enrolled: &Enrolled) -> Vec<FileReport<'a>> {
    let name = |person: usize| train.people[person].as_str();
    let used = enrolled.learned.iter().map(|l| {
        let is_suspicious = l.likeness.verdict == Verdict::Suspicious;
        FileReport {
            path: l.shot.name(&train.items),
            person: Some(name(train.items[l.shot.item].person)),
            status: if is_suspicious {
                Status::Suspicious
            } else {
                Status::Used
            },
            reason: None,
            detail: is_suspicious.then(|| l.likeness.detail(name)),
            measured: l.portrait.measures,
            own: l.likeness.own,
            other: l.likeness.other.map(|(person, similarity)| Other {
                name: name(person),
                similarity,
            }),
        }
    });
    let rejected = enrolled.rejected.iter().map(|r| FileReport {
        path: r.path.clone(),
        person: r.person.map(name),
        status: Status::Rejected,
        reason: Some(r.reason),
        detail: Some(r.detail.clone()),
        measured: r.portrait.measures,
        own: None,
        other: None,
    });
    let mut files: Vec<_> = used.chain(rejected).collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

fn say_dataset(out: &mut Output, report: &DatasetReport) -> Result<()> {
    let findings = &report.findings;
    findings.say(out)?;
    say_nearest(out, &report.nearest)?;
    say_few(out, &report.few_photos)?;
    out.line(format_args!(
        "\n{}: {}, {} of {} usable, {} suspicious",
        report.dataset,
        counted(findings.enrolled(), "person"),
        findings.photos.used,
        counted(findings.photos.found, "photo"),
        findings.suspicious.len()
    ))?;
    Ok(())
}

fn say_nearest(out: &mut Output, nearest: &[Similar]) -> Result<()> {
    if !nearest.is_empty() {
        out.line("\nmost like each other")?;
    }
    say_pairs(out, nearest)
}

fn say_few(out: &mut Output, names: &[&str]) -> Result<()> {
    if !names.is_empty() {
        let names: Vec<_> = names.iter().map(|name| plain(name)).collect();
        out.line(format_args!(
            "\nfewer than {FEW_PHOTOS} photos: {}",
            names.join(", ")
        ))?;
    }
    Ok(())
}

#[derive(Debug, Serialize)]
struct GalleryReport<'a> {
    database: String,
    people: Vec<PersonReport<'a>>,
    photos: usize,
    masked_copies: usize,
    /// For bare and for masked faces.
    thresholds: [f32; 2],
    contract: Option<&'a Contract>,
    suspicious: Vec<Suspicion>,
    alike: Vec<Similar>,
    nearest: Vec<Similar>,
    few_photos: Vec<&'a str>,
}

#[derive(Debug, Serialize)]
struct PersonReport<'a> {
    name: &'a str,
    photos: usize,
}

/// Checks a gallery; returns whether there are no problems.
fn check_gallery(options: &CheckOptions, database: &Path) -> Result<bool> {
    let gallery = Gallery::load(database)?;
    let photos = photos(&gallery);
    let Agreement { likeness, pairs } = agreement::compare(&photos.samples);
    if let Some(path) = &options.report {
        let measured = measure(&gallery)?;
        page(database, &gallery, &photos, &likeness, &pairs, measured).write(path)?;
    }
    let name = |person: usize| gallery.names()[person].as_str();
    let source = |sample: usize| gallery.sources()[photos.rows[sample]].clone();
    let odd = likeness.iter().enumerate();
    let suspicious: Vec<_> = odd
        .filter(|(_, likeness)| likeness.verdict != Verdict::Fits)
        .map(|(sample, likeness)| Suspicion {
            path: source(sample),
            person: name(photos.samples[sample].person).to_owned(),
            detail: likeness.detail(name),
        })
        .collect();
    let similar = |pair: &Pair| Similar {
        people: pair.people.map(|person| name(person).to_owned()),
        similarity: pair.similarity,
        photos: pair.samples.map(source),
    };
    let people: Vec<_> = gallery
        .people()
        .map(|(name, photos)| PersonReport { name, photos })
        .collect();
    let few = people.iter().filter(|p| p.photos < FEW_PHOTOS);
    let report = GalleryReport {
        database: shown(database),
        photos: people.iter().map(|person| person.photos).sum(),
        masked_copies: gallery.labels().len() - photos.samples.len(),
        thresholds: gallery.thresholds(),
        contract: gallery.contract(),
        suspicious,
        alike: pairs
            .iter()
            .filter(|p| p.is_same_person())
            .map(similar)
            .collect(),
        nearest: pairs.iter().take(NEAREST).map(similar).collect(),
        few_photos: few.map(|p| p.name).collect(),
        people,
    };
    let mut out = Output::stdout();
    if options.json {
        out.json(&report)?;
    } else {
        say_gallery(&mut out, &report)?;
    }
    out.finish()?;
    Ok(report.suspicious.is_empty() && report.alike.is_empty())
}

/// The rows of a gallery that are photos, not copies with synthetic masks.
struct PhotoRows<'a> {
    rows: Vec<usize>,
    samples: Vec<FaceSample<'a>>,
}

fn photos(gallery: &Gallery) -> PhotoRows<'_> {
    let rows: Vec<usize> = (0..gallery.labels().len())
        .filter(|&row| gallery.kinds()[row] != Kind::SyntheticMask)
        .collect();
    let mut files = HashMap::new();
    let samples = rows
        .iter()
        .map(|&row| {
            let (person, next) = (gallery.labels()[row], files.len());
            let file = match file_of(&gallery.sources()[row]) {
                // Without a source each row counts as a photo of its own.
                "" => usize::MAX - row,
                file => *files.entry((person, file)).or_insert(next),
            };
            FaceSample {
                person,
                file,
                kind: gallery.kinds()[row],
                embedding: gallery.embeddings().row(row),
            }
        })
        .collect();
    PhotoRows { rows, samples }
}

/// Measures how well left-out photos are distinguished with the gallery's own thresholds.
fn measure(gallery: &Gallery) -> Result<GalleryScores> {
    let calibration = gallery.clone().calibrate(DEFAULT_TARGET_FPIR)?;
    Ok(GalleryScores::of(&calibration, gallery.thresholds()))
}

/// The page of a gallery, which has names and numbers only, because a gallery holds no photos.
fn page<'a>(
    database: &Path,
    gallery: &'a Gallery,
    photos: &PhotoRows,
    likeness: &[Likeness],
    pairs: &[Pair],
    measured: GalleryScores,
) -> HtmlReport<'a> {
    let name = |person: usize| gallery.names()[person].as_str();
    let face = |sample: usize| PhotoEntry {
        path: gallery.sources()[photos.rows[sample]].clone(),
        note: match likeness[sample].verdict {
            Verdict::Fits => Note::None,
            _ => Note::Suspicious(likeness[sample].detail(name)),
        },
        ..PhotoEntry::default()
    };
    let mut people: Vec<PersonSheet> = gallery
        .names()
        .iter()
        .map(|name| PersonSheet {
            name,
            ..PersonSheet::default()
        })
        .collect();
    for (i, sample) in photos.samples.iter().enumerate() {
        people[sample.person].used.push(face(i));
    }
    let couple = |pair: &Pair| Couple {
        similarity: pair.similarity,
        people: pair.people.map(name),
        faces: pair.samples.map(face),
    };
    let mut report = HtmlReport {
        subject: shown(database),
        made: made_now(),
        people,
        alike: pairs
            .iter()
            .filter(|p| p.is_same_person())
            .map(couple)
            .collect(),
        nearest: pairs.iter().take(NEAREST).map(couple).collect(),
        measured: Some(measured),
        ..HtmlReport::default()
    };
    report.count();
    report
}

fn say_gallery(out: &mut Output, report: &GalleryReport) -> Result<()> {
    out.line(format_args!(
        "{}: {}, {}, {}",
        report.database,
        counted(report.people.len(), "person"),
        counted(report.photos, "photo"),
        match report.masked_copies {
            1 => "1 masked copy".to_owned(),
            copies => format!("{copies} masked copies"),
        }
    ))?;
    let [bare, masked] = report.thresholds;
    out.line(format_args!(
        "  threshold {bare:.3}, of masked faces {masked:.3}"
    ))?;
    match report.contract {
        Some(contract) => out.line(format_args!(
            "  made {}{} by {}, network {}, detector {}, crop {}",
            plain(&contract.created),
            contract
                .changed
                .as_ref()
                .map_or_else(String::new, |date| format!(", changed {}", plain(date))),
            plain(&contract.tool_version),
            plain(&contract.model_sha256),
            plain(&contract.detector),
            plain(&contract.preprocessing)
        ))?,
        None => out.line("  it does not say which network and crop it was made with")?,
    }
    say_suspicious(out, &report.suspicious)?;
    say_alike(out, &report.alike)?;
    say_nearest(out, &report.nearest)?;
    say_few(out, &report.few_photos)
}
