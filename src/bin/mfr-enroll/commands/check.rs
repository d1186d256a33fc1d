//! `check`: reports problems of photos, or of a gallery, without writing a gallery.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use gstmfr::embed::{Embedder, PREPROCESSING};
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
    /// What else is wrong with the file or with its entries.
    problems: Vec<String>,
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
    let compared = agreement::compare(&photos.samples);
    if let Some(path) = &options.report {
        let measured = measure(&gallery)?;
        page(database, &gallery, &photos, &compared, Some(measured)).write(path)?;
    }
    let problems = problems(&gallery, database, &photos, &compared.likeness);
    let Agreement { likeness, pairs } = compared;
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
        problems,
    };
    let mut out = Output::stdout();
    if options.json {
        out.json(&report)?;
    } else {
        say_gallery(&mut out, &report)?;
    }
    out.finish()?;
    let is_clean = report.suspicious.is_empty() && report.alike.is_empty();
    Ok(is_clean && report.problems.is_empty())
}

/// Cosine above which two photos count as the same image.
const SAME_PHOTO: f32 = 0.9999;

/// What is wrong besides photos that do not fit: with the file, its contract, and its entries.
fn problems(
    gallery: &Gallery,
    path: &Path,
    photos: &PhotoRows,
    likeness: &[Likeness],
) -> Vec<String> {
    let mut problems = of_the_file(path);
    problems.extend(of_the_contract(gallery));
    let sources = gallery.sources();
    let mut seen = HashSet::new();
    // Two copies of a photo may have the same kind of mask.
    let twice = photos.rows.iter().map(|&row| sources[row].as_str());
    let twice = twice.filter(|source| !source.is_empty() && !seen.insert(*source));
    problems.extend(twice.map(|source| format!("{source} stands twice in it")));
    let files: HashSet<(usize, &str)> = photos
        .rows
        .iter()
        .map(|&row| (gallery.labels()[row], file_of(&sources[row])))
        .collect();
    let rows = (0..sources.len()).filter(|&row| gallery.kinds()[row] == Kind::SyntheticMask);
    let alone =
        rows.filter(|&row| !files.contains(&(gallery.labels()[row], file_of(&sources[row]))));
    problems
        .extend(alone.map(|row| format!("{} is a masked copy without its photo", sources[row])));
    for (likeness, &row) in likeness.iter().zip(&photos.rows) {
        if likeness.own.is_some_and(|own| own > SAME_PHOTO) {
            let source = &sources[row];
            problems.push(format!(
                "{source} is the same picture as another photo of the person"
            ));
        }
        if let Some((other, similarity)) = likeness.other
            && similarity > SAME_PHOTO
        {
            let (source, name) = (&sources[row], &gallery.names()[other]);
            problems.push(format!("{source} is the same picture as a photo of {name}"));
        }
    }
    let expired = (0..gallery.names().len()).filter(|&person| gallery.has_expired(person));
    problems.extend(expired.map(|person| {
        let name = &gallery.names()[person];
        format!("{name} has expired; mfr-enroll remove --expired takes everybody out who has")
    }));
    problems
}

fn of_the_file(path: &Path) -> Vec<String> {
    let mut problems = Vec::new();
    if let Ok(file) = std::fs::metadata(path)
        && file.permissions().mode() & 0o077 != 0
    {
        problems.push(
            "others than the owner of the file may read or write it; chmod 600 is right for it"
                .to_owned(),
        );
    }
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    if Path::new(&partial).exists() {
        problems.push(format!(
            "{} beside it holds embeddings of an interrupted run; the same command resumes it",
            Path::new(&partial).display()
        ));
    }
    problems
}

fn of_the_contract(gallery: &Gallery) -> Vec<String> {
    let Some(contract) = gallery.contract() else {
        return vec!["it does not say which network and crop it was made with".to_owned()];
    };
    let mut problems = Vec::new();
    if contract.enrolment.is_none() {
        problems.push("it does not say by which options of enrolment it was made".to_owned());
    }
    if Embedder::installed_model(&contract.model_sha256).is_none() {
        problems.push("the network that it was made with is not installed".to_owned());
    }
    if contract.preprocessing != PREPROCESSING {
        problems.push(format!(
            "its faces were cropped by the rule {:?}, this version's is {PREPROCESSING:?}",
            contract.preprocessing
        ));
    }
    problems
}

/// The rows of a gallery that are photos, not copies with synthetic masks.
pub struct PhotoRows<'a> {
    pub rows: Vec<usize>,
    pub samples: Vec<FaceSample<'a>>,
}

pub fn photos(gallery: &Gallery) -> PhotoRows<'_> {
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
pub fn page<'a>(
    database: &Path,
    gallery: &'a Gallery,
    photos: &PhotoRows,
    compared: &Agreement,
    measured: Option<GalleryScores>,
) -> HtmlReport<'a> {
    let Agreement { likeness, pairs } = compared;
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
        measured,
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
    if !report.problems.is_empty() {
        out.line("\nproblems")?;
    }
    for problem in &report.problems {
        out.line(format_args!("  {}", plain(problem)))?;
    }
    say_suspicious(out, &report.suspicious)?;
    say_alike(out, &report.alike)?;
    say_nearest(out, &report.nearest)?;
    say_few(out, &report.few_photos)
}
