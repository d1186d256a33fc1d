//! From the photos and videos of a dataset to embeddings of known people, the unusable ones sorted out.

mod settle;
mod videos;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use gstmfr::attribute::Mask;
use gstmfr::embed::{Embedded, Embedder, crop_rgb8};
use gstmfr::gallery::Kind;
use gstmfr::geometry::Rect;
use gstmfr::image::ImageView;
use gstmfr::mask::MaskType;
use ndarray::Array1;

use crate::agreement::{Likeness, Pair};
use crate::batch::Batch;
use crate::dataset::{Collection, Item, Source};
use crate::disguise::{Disguise, disguises};
use crate::finder::Finder;
use crate::options::{Masks, Vision};
use crate::output;
use crate::photo::Photo;
use crate::portrait::{Portrait, thumbnail};
use crate::quality::{Measures, Reason, Refusal, Rejected, prominent};
use crate::workers;
use settle::{drop_copies, drop_outliers, drop_shared, resolve, same_file, too_many};
pub use videos::Video;
use videos::videos;

/// Least probability of a mask from which on a photo is one of a masked face.
const SURELY_MASKED: f32 = 0.9;

/// More people than this in a photo, and nobody says whose it is.
const MAX_RIVALS: usize = 8;

/// A photo, or a frame of a video. Sorted, they are in the order of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shot {
    /// Index of the file in the collection.
    pub item: usize,
    /// Of a frame, from the beginning of the video.
    pub time: Option<Duration>,
}

impl Shot {
    /// What it is called in reports and in the gallery: frames with a media fragment
    /// (`Ana/clip.mp4#t=1.50`).
    pub fn name(self, items: &[Item]) -> String {
        let file = &items[self.item].name;
        match self.time {
            Some(time) => format!("{file}#t={:.2}", time.as_secs_f64()),
            None => file.clone(),
        }
    }
}

/// A face that was learned.
#[derive(Debug, Clone, PartialEq)]
pub struct Learned {
    pub shot: Shot,
    /// A photo, or one of a face with a mask.
    pub kind: Kind,
    pub embedding: Array1<f32>,
    /// The same face with masks painted on.
    pub copies: Vec<Copy>,
    /// If it was asked for.
    pub crop: Option<Vec<u8>>,
    pub portrait: Portrait,
    /// To the person's other photos and to other people's.
    pub likeness: Likeness,
}

/// A masked copy of a face.
#[derive(Debug, Clone, PartialEq)]
pub struct Copy {
    pub mask: MaskType,
    pub embedding: Array1<f32>,
    /// A JPEG, if it was asked for.
    pub thumbnail: Option<Vec<u8>>,
}

impl Learned {
    /// The same as a photo that is not used after all.
    fn refused(self, refusal: Refusal) -> Refused {
        Refused {
            refusal,
            portrait: self.portrait,
        }
    }
}

/// What a dataset gave, all in the order of the files.
#[derive(Debug)]
pub struct Enrolled {
    pub learned: Vec<Learned>,
    pub rejected: Vec<Rejected>,
    /// The most similar pairs of people, whose samples are indices into `learned`.
    pub pairs: Vec<Pair>,
    /// Videos of which a frame could be read, rejected ones included.
    pub videos: Vec<Video>,
}

/// What is kept of photos besides embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Keep {
    /// The crops of faces that are used.
    pub crops: bool,
    /// Thumbnails of all photos, for a report.
    pub thumbnails: bool,
}

/// A photo that is not used.
#[derive(Debug, Clone, PartialEq)]
struct Refused {
    refusal: Refusal,
    portrait: Portrait,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let portrait = Portrait::default();
        Self { refusal, portrait }
    }
}

/// What there is in a file: a photo has one shot, a video as many as were looked at.
#[derive(Debug)]
struct Seen {
    shots: Vec<(Option<Duration>, Result<Usable, Refused>)>,
    /// Why there are not more of a video.
    error: Option<String>,
}

impl From<Result<Usable, Refused>> for Seen {
    fn from(outcome: Result<Usable, Refused>) -> Self {
        Self {
            shots: vec![(None, outcome)],
            error: None,
        }
    }
}

/// The faces of a photo that it may be about, each good enough to learn from.
#[derive(Debug)]
struct Usable {
    faces: Vec<Candidate>,
    sha256: [u8; 32],
}

/// A face that may be learned.
#[derive(Debug, Clone)]
struct Candidate {
    crop: Vec<u8>,
    portrait: Portrait,
    disguises: Vec<Disguise>,
}

impl Candidate {
    /// What is kept of it, and what is to be embedded: the face and its masked copies.
    fn take(self, shot: Shot, keep: Keep) -> (Used, Vec<Vec<u8>>) {
        let used = Used {
            shot,
            crop: keep.crops.then(|| self.crop.clone()),
            portrait: self.portrait,
            copies: Vec::new(),
        };
        let mut crops = vec![self.crop];
        let mut copies = Vec::new();
        for disguise in self.disguises {
            crops.push(disguise.crop);
            copies.push((disguise.mask, disguise.thumbnail));
        }
        (Used { copies, ..used }, crops)
    }
}

/// A photo of several people.
#[derive(Debug)]
struct Several {
    shot: Shot,
    faces: Vec<Candidate>,
}

/// A photo of one person, all but its embedding.
#[derive(Debug)]
struct Used {
    shot: Shot,
    /// If it is to be kept.
    crop: Option<Vec<u8>>,
    portrait: Portrait,
    /// Of the masked copies, the kinds and thumbnails.
    copies: Vec<(MaskType, Option<Vec<u8>>)>,
}

impl Used {
    /// With what was seen of the photo and then of each copy. A face that wears a mask needs no
    /// painted ones.
    fn learned(self, mut seen: impl Iterator<Item = (Array1<f32>, Mask)>) -> Option<Learned> {
        let (embedding, mask) = seen.next()?;
        let is_masked = mask.is_worn() && mask.confidence() >= SURELY_MASKED;
        let copy = |((mask, thumbnail), (embedding, _))| Copy {
            mask,
            embedding,
            thumbnail,
        };
        // What was seen of this photo's copies is taken in any case.
        let copies: Vec<Copy> = self.copies.into_iter().zip(seen).map(copy).collect();
        Some(Learned {
            shot: self.shot,
            kind: if is_masked {
                Kind::MaskedPhoto
            } else {
                Kind::Photo
            },
            embedding,
            copies: if is_masked { Vec::new() } else { copies },
            crop: self.crop,
            portrait: self.portrait,
            likeness: Likeness::default(),
        })
    }
}

/// Photos sorted by what is to become of them.
#[derive(Debug, Default)]
struct Sorted {
    used: Vec<Used>,
    several: Vec<Several>,
    refused: Vec<(Shot, Refused)>,
    /// Files with the same content, each person's first.
    seen: HashMap<[u8; 32], Vec<Shot>>,
}

impl Sorted {
    /// Files a photo, and returns the crops of the one face of one that is used: the face, then its
    /// masked copies.
    fn add(
        &mut self,
        collection: &Collection,
        shot: Shot,
        outcome: Result<Usable, Refused>,
        keep: Keep,
    ) -> Vec<Vec<u8>> {
        let items = &collection.items;
        let fresh = outcome.and_then(|usable| {
            let same = self.seen.entry(usable.sha256).or_default();
            let person = |shot: &Shot| items[shot.item].person;
            match same.iter().find(|first| person(first) == person(&shot)) {
                Some(&first) => Err(Refused {
                    refusal: same_file(collection, first, shot),
                    portrait: most_prominent(usable.faces),
                }),
                None => {
                    same.push(shot);
                    Ok(usable.faces)
                }
            }
        });
        match fresh {
            Ok(mut faces) if faces.len() == 1 => {
                if let Some(face) = faces.pop() {
                    let (used, crops) = face.take(shot, keep);
                    self.used.push(used);
                    return crops;
                }
            }
            Ok(faces) => self.several.push(Several { shot, faces }),
            Err(refused) => self.refused.push((shot, refused)),
        }
        Vec::new()
    }
}

/// Embeds every usable photo. The result does not depend on the number of workers.
pub fn enrol(
    collection: &Collection,
    embedder: &mut Embedder,
    vision: &Vision,
    masks: &Masks,
    keep: Keep,
) -> Result<Enrolled> {
    let items = &collection.items;
    let bar = output::progress("enrolling", items.len());
    let mut batch = Batch::new(embedder);
    let mut sorted = Sorted::default();
    let mut errors = BTreeMap::new();
    workers::in_order(
        items,
        vision.jobs,
        || Ok(Finder::new(vision)?),
        |finder, item| look_at(finder, item, masks, keep),
        |item, seen| {
            bar.inc(1);
            for (time, outcome) in seen.shots {
                let shot = Shot { item, time };
                for crop in sorted.add(collection, shot, outcome, keep) {
                    batch.push(crop)?;
                }
            }
            errors.extend(seen.error.map(|error| (item, error)));
            Ok(())
        },
    )?;
    bar.finish_and_clear();
    let seen = batch.finish()?;
    let mut rows = rows(&seen);
    let mut learned = Vec::with_capacity(sorted.used.len());
    for used in sorted.used {
        let own = 1 + used.copies.len();
        learned.extend(used.learned(rows.by_ref().take(own)));
    }
    let mut refused = sorted.refused;
    resolve(
        items,
        sorted.several,
        embedder,
        keep,
        &mut learned,
        &mut refused,
    )?;
    learned.sort_by_key(|l| l.shot);
    drop_copies(items, &mut learned, &mut refused);
    let pairs = loop {
        let pairs = drop_outliers(collection, &mut learned, &mut refused);
        let shared = sorted.seen.values().filter(|shots| shots.len() > 1);
        if !drop_shared(collection, shared, &mut learned, &mut refused) {
            break pairs;
        }
    };
    let videos = videos(items, &learned, &refused, errors);
    // Frames are counted; files are listed.
    refused.retain(|(shot, _)| shot.time.is_none());
    for (&item, video) in &videos {
        let shot = Shot { item, time: None };
        refused.extend(video.refusal().map(|refusal| (shot, refusal.into())));
    }
    refused.sort_by_key(|(shot, _)| *shot);
    let refused = refused.into_iter().map(|(shot, refused)| {
        let (reason, detail) = refused.refusal;
        Rejected {
            path: shot.name(items),
            reason,
            detail,
            person: Some(items[shot.item].person),
            portrait: refused.portrait,
        }
    });
    Ok(Enrolled {
        learned,
        rejected: collection.rejected.iter().cloned().chain(refused).collect(),
        pairs,
        videos: videos.into_values().collect(),
    })
}

/// Each embedding with whether a mask was seen.
fn rows(seen: &Embedded) -> impl Iterator<Item = (Array1<f32>, Mask)> {
    let rows = seen.embeddings.rows().into_iter();
    rows.map(|row| row.to_owned())
        .zip(seen.masks.iter().copied())
}

/// What there is to learn from in a file.
fn look_at(finder: &mut Finder, item: &Item, masks: &Masks, keep: Keep) -> Result<Seen> {
    match &item.source {
        Source::Photo(path) => Ok(match Photo::load(path) {
            Ok(photo) => usable_faces(finder, &photo, masks, keep)?.into(),
            Err(error) => unreadable(&error).into(),
        }),
        Source::Video(path) => watch(finder, path, masks, keep),
    }
}

fn unreadable(error: &dyn Display) -> Result<Usable, Refused> {
    Err((Reason::Unreadable, error.to_string()).into())
}

#[cfg(feature = "plugin")]
fn watch(finder: &mut Finder, path: &Path, masks: &Masks, keep: Keep) -> Result<Seen> {
    let watched = crate::video::watch(path, |photo| usable_faces(finder, photo, masks, keep))?;
    let error = watched.error.map(|error| error.to_string());
    Ok(match error {
        Some(error) if watched.frames.is_empty() => unreadable(&error).into(),
        error => Seen {
            shots: watched
                .frames
                .into_iter()
                .map(|(time, outcome)| (Some(time), outcome))
                .collect(),
            error,
        },
    })
}

#[cfg(not(feature = "plugin"))]
fn watch(_: &mut Finder, path: &Path, _: &Masks, _: Keep) -> Result<Seen> {
    let error = match std::fs::metadata(path) {
        Ok(_) => crate::photo::PhotoError::NoGStreamer,
        Err(error) => error.into(),
    };
    Ok(unreadable(&error).into())
}

/// The faces that a photo may be about, or why there is none to learn from.
fn usable_faces(
    finder: &mut Finder,
    photo: &Photo,
    masks: &Masks,
    keep: Keep,
) -> Result<Result<Usable, Refused>> {
    let view = photo.view()?;
    let faces = prominent(&finder.find(&view)?, photo.width, photo.height);
    let refused = |refusal, measures| {
        let rects: Vec<_> = faces.iter().map(|face| face.rect).collect();
        let portrait = portrait(&view, &rects, measures, keep);
        Err(Refused { refusal, portrait })
    };
    if faces.is_empty() {
        let detail = format!("no face in {}×{} pixels", photo.width, photo.height);
        return Ok(refused((Reason::NoFace, detail), None));
    }
    if faces.len() > MAX_RIVALS {
        return Ok(refused(too_many(faces.len()), None));
    }
    let mut usable = Vec::new();
    for face in &faces {
        let crop = crop_rgb8(&view, face.rect);
        let measures = Measures::of(face, &crop);
        match measures.check() {
            Ok(()) => usable.push(Candidate {
                crop,
                portrait: portrait(&view, &[face.rect], Some(measures), keep),
                disguises: disguises(finder, photo, face, masks, keep.thumbnails)?,
            }),
            Err(refusal) if faces.len() == 1 => return Ok(refused(refusal, Some(measures))),
            // One of several who cannot be learned may be the one.
            Err(_) => return Ok(refused(too_many(faces.len()), None)),
        }
    }
    Ok(Ok(Usable {
        faces: usable,
        sha256: photo.sha256,
    }))
}

fn portrait(view: &ImageView, faces: &[Rect], measures: Option<Measures>, keep: Keep) -> Portrait {
    let thumbnail = keep.thumbnails.then(|| thumbnail(view, faces)).flatten();
    Portrait {
        measures,
        thumbnail,
    }
}

/// The one that stands for all faces of a photo.
fn most_prominent(faces: Vec<Candidate>) -> Portrait {
    let first = faces.into_iter().next();
    first.map(|face| face.portrait).unwrap_or_default()
}

#[cfg(test)]
mod samples {
    use super::*;

    pub fn item(person: usize, name: &str) -> Item {
        Item {
            person,
            name: name.to_owned(),
            source: Source::Photo(name.into()),
        }
    }

    pub fn photo(item: usize) -> Shot {
        Shot { item, time: None }
    }

    pub fn frame(item: usize, seconds: u64) -> Shot {
        let time = Some(Duration::from_secs(seconds));
        Shot { item, time }
    }

    pub fn learned(item: usize, embedding: [f32; 2]) -> Learned {
        Learned {
            shot: photo(item),
            kind: Kind::Photo,
            embedding: ndarray::arr1(&embedding),
            copies: Vec::new(),
            crop: None,
            portrait: Portrait::default(),
            likeness: Likeness::default(),
        }
    }
}
