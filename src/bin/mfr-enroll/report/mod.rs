//! The report as an HTML page: a single file without external resources.

mod chart;
pub mod findings;
mod html;
mod page;
pub mod scores;

use std::collections::HashSet;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use gstmfr::gallery::file_of;
use gstmfr::io::files::write_atomically;

use crate::enrol::agreement::{Pair, Verdict};
use crate::enrol::{Enrolled, Learned};
use crate::input::dataset::Collection;
use crate::people::made_now;
use crate::report::findings::NEAREST;
use crate::vision::portrait::Rejected;
use crate::vision::reason::Reason;
use scores::GalleryScores;

/// What a page is about.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Photos for a gallery, or a gallery.
    #[default]
    Enrolment,
    /// People who were found in unsorted photos.
    Discovery,
}

/// Content of a page. Images are JPEG files.
#[derive(Debug, Default)]
pub struct HtmlReport<'a> {
    pub about: Subject,
    /// The folder or the gallery that the report is about.
    pub subject: String,
    /// Time and program.
    pub made: String,
    /// Numbers and their labels.
    pub tiles: Vec<(String, &'static str)>,
    pub people: Vec<PersonSheet<'a>>,
    /// Unusable files that belong to no person.
    pub strays: Vec<PhotoEntry<'a>>,
    /// Pairs of people who may be the same person.
    pub alike: Vec<Couple<'a>>,
    /// The most similar pairs of people.
    pub nearest: Vec<Couple<'a>>,
    /// Measurements of a gallery; none if none was made.
    pub measured: Option<GalleryScores>,
}

/// The photos of a person.
#[derive(Debug, Default)]
pub struct PersonSheet<'a> {
    pub name: &'a str,
    pub used: Vec<PhotoEntry<'a>>,
    pub rejected: Vec<PhotoEntry<'a>>,
}

/// A photo.
#[derive(Debug, Default)]
pub struct PhotoEntry<'a> {
    pub path: String,
    /// The thumbnail; none for files that cannot be read, and if the photos are not available.
    pub picture: Option<&'a [u8]>,
    /// The measurements in a few words.
    pub measured: Option<String>,
    pub note: Note,
    /// Copies of the photo with a synthetic mask.
    pub masked: Vec<MaskedThumbnail<'a>>,
}

/// A copy of a photo with a synthetic mask.
#[derive(Debug)]
pub struct MaskedThumbnail<'a> {
    /// Kind of the mask.
    pub kind: &'a str,
    pub picture: &'a [u8],
}

/// A remark on a photo.
#[derive(Debug, Default)]
pub enum Note {
    #[default]
    None,
    Suspicious(String),
    Rejected(Reason, String),
}

/// Two people side by side.
#[derive(Debug)]
pub struct Couple<'a> {
    /// Similarity, −1…1.
    pub similarity: f32,
    pub people: [&'a str; 2],
    /// For each person the photo most similar to the other person.
    pub faces: [PhotoEntry<'a>; 2],
}

impl<'a> HtmlReport<'a> {
    /// Leaves out everybody but one person and those who look like them.
    pub fn keep_person(&mut self, name: &str) {
        self.people.retain(|person| person.name == name);
        let is_own = |couple: &Couple| couple.people.contains(&name);
        self.alike.retain(is_own);
        self.nearest.retain(is_own);
        self.tiles.clear();
        self.count();
    }

    /// The report of a dataset, with the gallery's figures if one was made from it.
    pub fn of_dataset(
        subject: String,
        train: &'a Collection,
        enrolled: &'a Enrolled,
        measured: Option<GalleryScores>,
    ) -> Self {
        let mut people: Vec<PersonSheet> = train
            .people
            .iter()
            .map(|name| PersonSheet {
                name,
                ..PersonSheet::default()
            })
            .collect();
        for learned in &enrolled.learned {
            let person = train.items[learned.shot.item].person;
            people[person].used.push(used_face(train, learned));
        }
        let mut strays = Vec::new();
        for rejected in &enrolled.rejected {
            let list = match rejected.person {
                Some(person) => &mut people[person].rejected,
                None => &mut strays,
            };
            list.push(rejected_face(rejected));
        }
        let couple = |pair: &Pair| Couple {
            similarity: pair.similarity,
            people: pair.people.map(|person| train.people[person].as_str()),
            faces: pair
                .samples
                .map(|sample| used_face(train, &enrolled.learned[sample])),
        };
        let pairs = enrolled.pairs.iter();
        let mut report = Self {
            subject,
            made: made_now(),
            alike: pairs
                .clone()
                .filter(|p| p.is_same_person())
                .map(couple)
                .collect(),
            nearest: pairs.take(NEAREST).map(couple).collect(),
            people,
            strays,
            measured,
            ..Self::default()
        };
        report.count();
        report
    }

    /// Sets the tiles from the other fields.
    pub fn count(&mut self) {
        let faces = || self.people.iter().flat_map(|person| &person.used);
        let used: usize = self.people.iter().map(|p| photos(&p.used)).sum();
        let enrolled = self.people.iter().filter(|p| !p.used.is_empty()).count();
        let suspicious = faces()
            .filter(|face| matches!(face.note, Note::Suspicious(_)))
            .count();
        let rejected = self.people.iter().map(|p| p.rejected.len()).sum::<usize>();
        let mut tiles = vec![
            (enrolled.to_string(), "people"),
            (used.to_string(), "photos used"),
        ];
        // A gallery does not record what was rejected.
        if rejected > 0 || self.has_pictures() {
            let rejected = rejected + self.strays.len();
            tiles.push((rejected.to_string(), "rejected"));
        }
        tiles.push((suspicious.to_string(), "suspicious"));
        if let Some(measured) = &self.measured {
            tiles.push((format!("{:.2}", measured.thresholds[0]), "threshold"));
        }
        self.tiles = tiles;
    }

    /// Whether there are any images, which a gallery does not have.
    fn has_pictures(&self) -> bool {
        let of_people = |sheet: &PersonSheet| {
            let mut faces = sheet.used.iter().chain(&sheet.rejected);
            faces.any(|face| face.picture.is_some())
        };
        self.people.iter().any(of_people)
    }

    /// Writes the page atomically, readable by its owner only, because it shows faces.
    pub fn write(&self, path: &Path) -> Result<()> {
        let html = page::html(self);
        write_atomically(path, |file| file.write_all(html.as_bytes()))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Number of photos that faces are from; the frames of a video count once.
pub fn photos(faces: &[PhotoEntry]) -> usize {
    let mut files = HashSet::new();
    let is_new = |face: &&PhotoEntry| {
        let file = file_of(&face.path);
        // Without a path each face counts as a photo of its own.
        file.is_empty() || files.insert(file.to_owned())
    };
    faces.iter().filter(is_new).count()
}

fn used_face<'a>(train: &Collection, learned: &'a Learned) -> PhotoEntry<'a> {
    let likeness = &learned.likeness;
    PhotoEntry {
        path: learned.shot.name(&train.items),
        picture: learned.portrait.thumbnail.as_deref(),
        measured: learned.portrait.in_words(),
        note: match likeness.verdict {
            Verdict::Fits => Note::None,
            Verdict::Suspicious | Verdict::Outlier => {
                Note::Suspicious(likeness.detail(|person| &train.people[person]))
            }
        },
        masked: learned
            .copies
            .iter()
            .filter_map(|copy| {
                Some(MaskedThumbnail {
                    kind: copy.mask.name(),
                    picture: copy.thumbnail.as_deref()?,
                })
            })
            .collect(),
    }
}

fn rejected_face(rejected: &Rejected) -> PhotoEntry<'_> {
    PhotoEntry {
        path: rejected.path.clone(),
        picture: rejected.portrait.thumbnail.as_deref(),
        measured: rejected.portrait.in_words(),
        note: Note::Rejected(rejected.reason, rejected.detail.clone()),
        masked: Vec::new(),
    }
}
