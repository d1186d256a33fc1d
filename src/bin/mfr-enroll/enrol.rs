//! From the photos and videos of a dataset to embeddings of known people, the unusable ones sorted out.

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
use ndarray::{Array1, ArrayView1};
use serde::Serialize;

use crate::agreement::{self, Agreement, Likeness, Pair, Sample, Verdict};
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

/// Cosine above which two photos of a person are one: stored twice, or saved again.
const SAME_PHOTO: f32 = 0.9999;

/// Where several people are in a photo, the one who is as similar as this to the person's other
/// photos, and by so much more than anybody else, is the person. On LFW the cosine of two photos of
/// one person is .69 on average, that of two people below .41 in 99 % and .53 in 99.9 %. Settles 23
/// of the 24 photos of several people there.
const OWN_FACE: f32 = 0.5;
const OWN_FACE_LEAD: f32 = 0.2;

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

/// What became of the frames of a video.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Video {
    pub path: String,
    /// Frames looked at.
    pub frames: usize,
    pub used: usize,
    pub rejected: BTreeMap<Reason, usize>,
    /// Why there was nothing after these frames.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Video {
    fn new(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            frames: 0,
            used: 0,
            rejected: BTreeMap::new(),
            error: None,
        }
    }

    /// What was wrong with the frames that are not used: `2 no_face, 5 blurred`.
    pub fn reasons(&self) -> String {
        let counts = self.rejected.iter();
        let counts = counts.map(|(reason, count)| format!("{count} {}", reason.name()));
        counts.collect::<Vec<_>>().join(", ")
    }

    /// A video without a frame to use is rejected for what most frames are.
    fn refusal(&self) -> Option<Refusal> {
        if self.used > 0 {
            return None;
        }
        // Of equals the first.
        let (&reason, _) = self
            .rejected
            .iter()
            .rev()
            .max_by_key(|(_, count)| **count)?;
        let frames = output::counted(self.frames, "frame");
        let detail = format!("nothing to use in {frames}: {}", self.reasons());
        Some((reason, detail))
    }
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

/// Counts the frames of every video by what became of them.
fn videos(
    items: &[Item],
    learned: &[Learned],
    refused: &[(Shot, Refused)],
    mut errors: BTreeMap<usize, String>,
) -> BTreeMap<usize, Video> {
    let used = learned.iter().map(|l| (l.shot, None));
    let unused = refused
        .iter()
        .map(|(shot, refused)| (*shot, Some(refused.refusal.0)));
    let mut videos = BTreeMap::new();
    for (shot, reason) in used.chain(unused).filter(|(shot, _)| shot.time.is_some()) {
        let video = videos.entry(shot.item).or_insert_with(|| Video {
            error: errors.remove(&shot.item),
            ..Video::new(&items[shot.item].name)
        });
        video.frames += 1;
        match reason {
            Some(reason) => *video.rejected.entry(reason).or_default() += 1,
            None => video.used += 1,
        }
    }
    videos
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

fn too_many(faces: usize) -> Refusal {
    let detail = format!("{faces} faces, none of which stands out");
    (Reason::SeveralFaces, detail)
}

fn same_file(collection: &Collection, first: Shot, second: Shot) -> Refusal {
    let items = &collection.items;
    let [person, other] = [first, second].map(|shot| items[shot.item].person);
    let whose = if person == other {
        String::new()
    } else {
        format!(", a photo of {}", collection.people[person])
    };
    (
        Reason::Duplicate,
        format!("the same file as {}{whose}", first.name(items)),
    )
}

/// Finds out who is the person in photos of several people, by the person's other photos.
fn resolve(
    items: &[Item],
    several: Vec<Several>,
    embedder: &mut Embedder,
    keep: Keep,
    learned: &mut Vec<Learned>,
    refused: &mut Vec<(Shot, Refused)>,
) -> Result<()> {
    // Photos with one face alone are evidence; what is resolved here is not.
    let clear = learned.len();
    for Several { shot, mut faces } in several {
        let views: Vec<&[u8]> = faces.iter().map(|face| face.crop.as_slice()).collect();
        let embeddings = embedder.embed_crops(&views)?.embeddings;
        let person = items[shot.item].person;
        let own: Vec<_> = learned[..clear]
            .iter()
            .filter(|l| items[l.shot.item].person == person)
            .map(|l| l.embedding.view())
            .collect();
        let similarities: Vec<f32> = embeddings
            .rows()
            .into_iter()
            .map(|face| mean_similarity(face, &own))
            .collect();
        match standing_out(&similarities) {
            Some(face) => {
                let (used, crops) = faces.swap_remove(face).take(shot, keep);
                let views: Vec<&[u8]> = crops.iter().map(Vec::as_slice).collect();
                let seen = embedder.embed_crops(&views)?;
                learned.extend(used.learned(rows(&seen)));
            }
            None => {
                let refusal = too_many(faces.len());
                let portrait = Portrait {
                    measures: None,
                    ..most_prominent(faces)
                };
                refused.push((shot, Refused { refusal, portrait }));
            }
        }
    }
    Ok(())
}

/// Mean cosine to the photos of a person; −1 where there is none.
fn mean_similarity(face: ArrayView1<f32>, photos: &[ArrayView1<f32>]) -> f32 {
    if photos.is_empty() {
        return -1.0;
    }
    photos.iter().map(|photo| photo.dot(&face)).sum::<f32>() / photos.len() as f32
}

/// The index of the one face that is surely the person's.
fn standing_out(similarities: &[f32]) -> Option<usize> {
    let mut order: Vec<usize> = (0..similarities.len()).collect();
    order.sort_by(|&a, &b| similarities[b].total_cmp(&similarities[a]));
    let best = *order.first()?;
    let next = order.get(1).map_or(-1.0, |&i| similarities[i]);
    let stands_out = similarities[best] >= OWN_FACE && similarities[best] - next >= OWN_FACE_LEAD;
    stands_out.then_some(best)
}

/// Drops photos of a person that show the same picture as an earlier one: the same counted twice
/// would weigh twice. `learned` is sorted, so that the photos of a person follow one another.
fn drop_copies(items: &[Item], learned: &mut Vec<Learned>, refused: &mut Vec<(Shot, Refused)>) {
    let mut kept: Vec<Learned> = Vec::with_capacity(learned.len());
    let mut person_start = 0;
    for next in learned.drain(..) {
        let person = items[next.shot.item].person;
        if kept
            .last()
            .is_some_and(|l| items[l.shot.item].person != person)
        {
            person_start = kept.len();
        }
        let original = kept[person_start..]
            .iter()
            .find(|l| l.embedding.dot(&next.embedding) > SAME_PHOTO);
        match original {
            Some(original) => {
                let detail = format!("the same picture as {}", original.shot.name(items));
                refused.push((next.shot, next.refused((Reason::Duplicate, detail))));
            }
            None => kept.push(next),
        }
    }
    *learned = kept;
}

/// Drops photos of somebody else, by the person's other photos and by other people's. Returns the
/// pairs of people who are most like each other.
fn drop_outliers(
    collection: &Collection,
    learned: &mut Vec<Learned>,
    refused: &mut Vec<(Shot, Refused)>,
) -> Vec<Pair> {
    let samples: Vec<Sample> = learned
        .iter()
        .map(|l| Sample {
            person: collection.items[l.shot.item].person,
            file: l.shot.item,
            kind: l.kind,
            embedding: l.embedding.view(),
        })
        .collect();
    let Agreement {
        likeness,
        mut pairs,
    } = agreement::compare(&samples);
    // Where each that stays comes to stand.
    let mut places = Vec::with_capacity(learned.len());
    let mut kept = Vec::with_capacity(learned.len());
    for (mut next, likeness) in learned.drain(..).zip(likeness) {
        places.push(kept.len());
        if likeness.verdict == Verdict::Outlier {
            let detail = likeness.detail(|person| &collection.people[person]);
            refused.push((next.shot, next.refused((Reason::Outlier, detail))));
        } else {
            next.likeness = likeness;
            kept.push(next);
        }
    }
    *learned = kept;
    for pair in &mut pairs {
        pair.samples = pair.samples.map(|sample| places[sample]);
    }
    pairs
}

/// Drops files that several people have, save where the face in it is most like the person's other
/// photos. One with different faces of theirs, found by their other photos, stays with each. Returns
/// whether there was one to drop.
fn drop_shared<'a>(
    collection: &Collection,
    shared: impl Iterator<Item = &'a Vec<Shot>>,
    learned: &mut Vec<Learned>,
    refused: &mut Vec<(Shot, Refused)>,
) -> bool {
    let mut dropped = BTreeMap::new();
    for shots in shared {
        let mut owners: Vec<&Learned> =
            learned.iter().filter(|l| shots.contains(&l.shot)).collect();
        let own = |l: &Learned| l.likeness.own.unwrap_or(-1.0);
        // Of equals the first.
        owners.sort_by(|a, b| own(b).total_cmp(&own(a)).then(a.shot.cmp(&b.shot)));
        let Some((owner, others)) = owners.split_first() else {
            continue;
        };
        for other in others {
            if other.embedding.dot(&owner.embedding) > SAME_PHOTO {
                dropped.insert(other.shot, owner.shot);
            }
        }
    }
    for gone in learned.extract_if(.., |l| dropped.contains_key(&l.shot)) {
        let owner = dropped.get(&gone.shot).copied().unwrap_or(gone.shot);
        let refusal = same_file(collection, owner, gone.shot);
        refused.push((gone.shot, gone.refused(refusal)));
    }
    !dropped.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::arr1;

    fn item(person: usize, name: &str) -> Item {
        Item {
            person,
            name: name.to_owned(),
            source: Source::Photo(name.into()),
        }
    }

    fn photo(item: usize) -> Shot {
        Shot { item, time: None }
    }

    fn frame(item: usize, seconds: u64) -> Shot {
        let time = Some(Duration::from_secs(seconds));
        Shot { item, time }
    }

    fn learned(item: usize, embedding: [f32; 2]) -> Learned {
        Learned {
            shot: photo(item),
            kind: Kind::Photo,
            embedding: arr1(&embedding),
            copies: Vec::new(),
            crop: None,
            portrait: Portrait::default(),
            likeness: Likeness::default(),
        }
    }

    #[test]
    fn a_picture_saved_twice_counts_once_for_its_person() {
        let names = ["a/1", "a/bad", "a/2", "a/3"];
        let mut items = names.map(|name| item(0, name)).to_vec();
        items.push(item(1, "b/1"));
        let mut all = vec![
            learned(0, [1.0, 0.0]),
            learned(2, [0.0, 1.0]),
            learned(3, [1.0, 0.001]),
            learned(4, [1.0, 0.0]),
        ];
        let mut refused = Vec::new();
        drop_copies(&items, &mut all, &mut refused);
        // b/1 looks like a/1 as well, but under another name that is not for us to settle.
        let kept: Vec<_> = all.iter().map(|l| l.shot.item).collect();
        assert_eq!(kept, [0, 2, 4]);
        let detail = "the same picture as a/1".to_owned();
        assert_eq!(
            refused,
            [(photo(3), Refused::from((Reason::Duplicate, detail)))]
        );
    }

    #[test]
    fn frames_are_counted_by_what_became_of_them() {
        let items = ["a/1.jpg", "a/clip.mp4", "a/dark.mp4"].map(|name| item(0, name));
        assert_eq!(photo(0).name(&items), "a/1.jpg");
        assert_eq!(frame(1, 3).name(&items), "a/clip.mp4#t=3.00");
        let mut used = vec![learned(0, [1.0, 0.0]), learned(1, [0.0, 1.0])];
        used[1].shot = frame(1, 0);
        let refused = |shot, reason| (shot, Refused::from((reason, String::new())));
        let refused = [
            refused(frame(1, 1), Reason::Blurred),
            refused(frame(2, 0), Reason::TooDark),
            refused(frame(2, 1), Reason::NoFace),
            refused(frame(2, 2), Reason::TooDark),
        ];
        let errors = BTreeMap::from([(2, "cut".to_owned())]);
        let videos = videos(&items, &used, &refused, errors);
        assert_eq!(videos.keys().copied().collect::<Vec<_>>(), [1, 2]);
        assert_eq!((videos[&1].frames, videos[&1].used), (2, 1));
        assert_eq!(videos[&1].refusal(), None);
        assert_eq!(videos[&2].error.as_deref(), Some("cut"));
        let detail = "nothing to use in 3 frames: 1 no_face, 2 too_dark".to_owned();
        assert_eq!(videos[&2].refusal(), Some((Reason::TooDark, detail)));
    }

    #[test]
    fn of_several_faces_the_one_that_is_clearly_the_persons_is_taken() {
        assert_eq!(standing_out(&[0.1, 0.8, -0.2]), Some(1));
        // Brothers, nobody, and a person without another photo.
        assert_eq!(standing_out(&[0.8, 0.7]), None);
        assert_eq!(standing_out(&[0.4, 0.0]), None);
        assert_eq!(standing_out(&[-1.0, -1.0]), None);
        assert_eq!(standing_out(&[]), None);
        assert_eq!(mean_similarity(arr1(&[1.0, 0.0]).view(), &[]), -1.0);
    }
}
