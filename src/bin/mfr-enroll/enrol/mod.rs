//! Enrolment: from the photos and videos of a dataset to embeddings of known people, without the unusable files.

pub mod agreement;
pub mod disguise;
pub mod existing;
mod look;
pub mod partial;
#[cfg(test)]
mod samples;
mod settle;
mod videos;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use anyhow::Result;
use gstmfr::embed::INPUT_SIZE;
use gstmfr::gallery::Kind;
use gstmfr::paint::MaskType;
use ndarray::Array1;
use serde::{Deserialize, Serialize};

use crate::encoding;
use crate::enrol::agreement::{Likeness, Pair};
use crate::enrol::disguise::Disguise;
use crate::enrol::partial::{FileStamp, Partial};
use crate::input::dataset::{Collection, Item};
use crate::options::Masks;
use crate::output;
use crate::vision::batch::{Embedders, embed_in_order};
use crate::vision::portrait::{Portrait, Rejected};
use crate::vision::reason::{Reason, Refusal};
use look::look_at;
use settle::{drop_copies, drop_outliers, drop_shared, enrolled_elsewhere, resolve, same_file};
pub use videos::Video;
use videos::videos;

/// A photo, or a frame of a video. The sort order is that of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shot {
    /// Index of the file in the collection.
    pub item: usize,
    /// Time of a frame from the start of the video.
    pub time: Option<Duration>,
}

impl Shot {
    /// The name in reports and in the gallery: frames have a media fragment
    /// (`Ana/clip.mp4#t=1.50`).
    pub fn name(self, items: &[Item]) -> String {
        let file = &items[self.item].name;
        match self.time {
            Some(time) => format!("{file}#t={:.2}", time.as_secs_f64()),
            None => file.clone(),
        }
    }
}

/// An enrolled face.
#[derive(Debug, Clone, PartialEq)]
pub struct Learned {
    pub shot: Shot,
    /// A photo, or one of a face with a real mask.
    pub kind: Kind,
    pub embedding: Array1<f32>,
    /// The same face with synthetic masks.
    pub copies: Vec<EmbeddedCopy>,
    /// The crop, if requested.
    pub crop: Option<Vec<u8>>,
    pub portrait: Portrait,
    /// Similarity to the person's other photos and to those of other people.
    pub likeness: Likeness,
}

/// A masked copy of a face.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EmbeddedCopy {
    #[serde(with = "encoding::mask")]
    pub mask: MaskType,
    #[serde(with = "encoding::floats")]
    pub embedding: Array1<f32>,
    /// A JPEG, if requested.
    #[serde(with = "encoding::bytes")]
    pub thumbnail: Option<Vec<u8>>,
    /// The crop, if requested.
    #[serde(with = "encoding::bytes")]
    pub crop: Option<Vec<u8>>,
}

impl Learned {
    /// Converts to a photo that is not used after all.
    fn refused(self, refusal: Refusal) -> Refused {
        Refused {
            refusal,
            portrait: self.portrait,
        }
    }
}

/// Result of enrolling a dataset, all in the order of the files.
#[derive(Debug)]
pub struct Enrolled {
    pub learned: Vec<Learned>,
    pub rejected: Vec<Rejected>,
    /// Photos in the gallery that is added to which would be rejected if it were built anew. They stay.
    pub doubted: Vec<Rejected>,
    /// The most similar pairs of people, whose samples are indices into `learned`.
    pub pairs: Vec<Pair>,
    /// Videos with at least one decoded frame, including rejected ones.
    pub videos: Vec<Video>,
}

/// Data that is kept besides embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Keep {
    /// The crops of faces that are used.
    pub crops: bool,
    /// Thumbnails of all photos, for a report.
    pub thumbnails: bool,
}

/// A photo that is not used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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

/// Result for a shot.
type ShotOutcome<F> = Result<Usable<F>, Refused>;

/// Result for a file: a photo has one shot, a video one per analysed frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct FileOutcome<F> {
    shots: Vec<(Option<Duration>, ShotOutcome<F>)>,
    /// Why the rest of a video could not be read.
    error: Option<String>,
}

impl<F> From<Result<Usable<F>, Refused>> for FileOutcome<F> {
    fn from(outcome: Result<Usable<F>, Refused>) -> Self {
        Self {
            shots: vec![(None, outcome)],
            error: None,
        }
    }
}

impl<F> FileOutcome<F> {
    fn is_unreadable(&self) -> bool {
        let refused = |(_, shot): &(_, Result<_, Refused>)| {
            shot.as_ref()
                .is_err_and(|refused| refused.refusal.0 == Reason::Unreadable)
        };
        self.shots.iter().any(refused)
    }

    fn faces(&self) -> impl Iterator<Item = &F> {
        let usable = self.shots.iter().filter_map(|(_, shot)| shot.as_ref().ok());
        usable.flat_map(|usable| &usable.faces)
    }

    /// Converts the faces; those for which `face` returns none are left out.
    fn map<G>(self, mut face: impl FnMut(F) -> Option<G>) -> FileOutcome<G> {
        let shots = self.shots.into_iter().map(|(time, outcome)| {
            let outcome = outcome.map(|usable| Usable {
                faces: usable.faces.into_iter().filter_map(&mut face).collect(),
                sha256: usable.sha256,
            });
            (time, outcome)
        });
        FileOutcome {
            shots: shots.collect(),
            error: self.error,
        }
    }
}

/// The candidate faces of a photo for its person, each good enough to enrol.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Usable<F> {
    faces: Vec<F>,
    sha256: [u8; 32],
}

/// A face that may be enrolled.
#[derive(Debug)]
struct FaceCandidate {
    crop: Vec<u8>,
    portrait: Portrait,
    is_masked: bool,
    disguises: Vec<Disguise>,
}

/// Data of a candidate that is kept while its crops are embedded.
#[derive(Debug)]
struct PendingFace {
    /// The crop, if requested.
    crop: Option<Vec<u8>>,
    portrait: Portrait,
    is_masked: bool,
    /// The masked copies, not embedded yet.
    copies: Vec<EmbeddedCopy>,
}

impl FaceCandidate {
    /// Moves the crops of the face and of its masked copies to `crops`, and returns the rest.
    fn take(self, keep: Keep, crops: &mut Vec<Vec<u8>>) -> PendingFace {
        let crop = keep.crops.then(|| self.crop.clone());
        crops.push(self.crop);
        let copies = self.disguises.into_iter().map(|disguise| {
            let crop = keep.crops.then(|| disguise.crop.clone());
            crops.push(disguise.crop);
            EmbeddedCopy {
                mask: disguise.mask,
                embedding: Array1::default(0),
                thumbnail: disguise.thumbnail,
                crop,
            }
        });
        PendingFace {
            crop,
            portrait: self.portrait,
            is_masked: self.is_masked,
            copies: copies.collect(),
        }
    }
}

impl PendingFace {
    /// Adds the embedding of the face and then of each copy.
    fn embedded(self, mut embeddings: impl Iterator<Item = Array1<f32>>) -> Option<EmbeddedFace> {
        let embedding = embeddings.next()?;
        let copies = self.copies.into_iter().zip(embeddings);
        let copies = copies.map(|(copy, embedding)| EmbeddedCopy { embedding, ..copy });
        Some(EmbeddedFace {
            is_masked: self.is_masked,
            embedding,
            copies: copies.collect(),
            crop: self.crop,
            portrait: self.portrait,
        })
    }
}

/// An embedded face.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct EmbeddedFace {
    /// Whether it wears a real mask.
    is_masked: bool,
    #[serde(with = "encoding::floats")]
    embedding: Array1<f32>,
    copies: Vec<EmbeddedCopy>,
    #[serde(with = "encoding::bytes")]
    crop: Option<Vec<u8>>,
    portrait: Portrait,
}

impl EmbeddedFace {
    fn learned(self, shot: Shot) -> Learned {
        Learned {
            shot,
            kind: if self.is_masked {
                Kind::MaskedPhoto
            } else {
                Kind::Photo
            },
            embedding: self.embedding,
            copies: self.copies,
            crop: self.crop,
            portrait: self.portrait,
            likeness: Likeness::default(),
        }
    }

    /// Whether this run could have written it, because data read from a file cannot be trusted.
    fn fits(&self, dim: usize, keep: Keep) -> bool {
        let copies = self.copies.iter().map(|copy| &copy.embedding);
        let mut embeddings = std::iter::once(&self.embedding).chain(copies);
        let crop = keep.crops.then_some(INPUT_SIZE * INPUT_SIZE * 3);
        let mut crops = self
            .copies
            .iter()
            .map(|copy| &copy.crop)
            .chain([&self.crop]);
        crops.all(|own| own.as_ref().map(Vec::len) == crop)
            && embeddings.all(|e| e.len() == dim && e.iter().all(|v| v.is_finite()))
    }
}

/// A photo of several people.
#[derive(Debug)]
struct Several {
    shot: Shot,
    faces: Vec<EmbeddedFace>,
}

/// Photos sorted by how they are used.
#[derive(Debug, Default)]
struct Sorted {
    learned: Vec<Learned>,
    several: Vec<Several>,
    refused: Vec<(Shot, Refused)>,
    /// Files with the same content, each person's first.
    same: HashMap<[u8; 32], Vec<Shot>>,
    /// Why the rest of a video could not be read.
    errors: BTreeMap<usize, String>,
}

impl Sorted {
    /// Adds the result for a file of the collection.
    fn add(&mut self, collection: &Collection, item: usize, seen: FileOutcome<EmbeddedFace>) {
        for (time, outcome) in seen.shots {
            self.add_shot(collection, Shot { item, time }, outcome);
        }
        self.errors.extend(seen.error.map(|error| (item, error)));
    }

    fn add_shot(
        &mut self,
        collection: &Collection,
        shot: Shot,
        outcome: Result<Usable<EmbeddedFace>, Refused>,
    ) {
        let items = &collection.items;
        let fresh = outcome.and_then(|usable| {
            let same = self.same.entry(usable.sha256).or_default();
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
            Ok(faces) if faces.len() == 1 => {
                let faces = faces.into_iter().map(|face| face.learned(shot));
                self.learned.extend(faces);
            }
            Ok(faces) => self.several.push(Several { shot, faces }),
            Err(refused) => self.refused.push((shot, refused)),
        }
    }
}

/// Embeds every usable photo, except those that an earlier run has embedded. The result depends neither
/// on the number of workers nor on the earlier run. `existing` are the results for files of a gallery.
pub fn enrol(
    collection: &Collection,
    embedders: &Embedders,
    masks: &Masks,
    keep: Keep,
    mut partial: Option<&mut Partial>,
    existing: existing::Outcomes,
) -> Result<Enrolled> {
    let items = &collection.items;
    let mut known: BTreeMap<usize, FileOutcome<EmbeddedFace>> = BTreeMap::new();
    if let Some(partial) = &mut partial {
        known = partial.take_known(items, |seen: &FileOutcome<EmbeddedFace>| {
            seen.faces().all(|face| face.fits(embedders.dim(), keep))
        });
    }
    known.extend(existing.0);
    let missing: Vec<usize> = (0..items.len())
        .filter(|i| !known.contains_key(i))
        .collect();
    let bar = output::progress("enrolling", items.len());
    let mut sorted = Sorted::default();
    let copies = masks.copies(&[0; 32]).count();
    embed_in_order(
        &missing,
        embedders,
        1 + copies,
        |finder, &item| {
            let item = &items[item];
            let stamp = FileStamp::of(item.source.path());
            let mut crops = Vec::new();
            let seen = look_at(finder, item, masks, keep)?;
            let seen = seen.map(|face| Some(face.take(keep, &mut crops)));
            Ok(((stamp, seen), crops))
        },
        |i, (stamp, seen), embedded| {
            let item = missing[i];
            while let Some(earlier) = known.first_entry().filter(|e| *e.key() < item) {
                let (item, seen) = earlier.remove_entry();
                sorted.add(collection, item, seen);
                bar.inc(1);
            }
            let mut rows = embedded.embeddings.rows().into_iter();
            let mut rows = rows.by_ref().map(|row| row.to_owned());
            let seen = seen.map(|face: PendingFace| {
                let own = 1 + face.copies.len();
                face.embedded(rows.by_ref().take(own))
            });
            // An unreadable file is not recorded, because it may be readable in the next run.
            if let (Some(partial), Some(stamp)) = (&mut partial, stamp)
                && !seen.is_unreadable()
            {
                partial.add(&items[item].name, stamp, &seen);
            }
            sorted.add(collection, item, seen);
            bar.inc(1);
            Ok(())
        },
    )?;
    for (item, seen) in known {
        sorted.add(collection, item, seen);
    }
    bar.finish_and_clear();
    Ok(settled(collection, sorted))
}

/// Decides which photos are used.
fn settled(collection: &Collection, sorted: Sorted) -> Enrolled {
    let items = &collection.items;
    let Sorted {
        mut learned,
        several,
        mut refused,
        same,
        errors,
    } = sorted;
    resolve(items, several, &mut learned, &mut refused);
    learned.sort_by_key(|l| l.shot);
    drop_copies(items, &mut learned, &mut refused);
    let enrolled_elsewhere = enrolled_elsewhere(items, &learned);
    let pairs = loop {
        let pairs = drop_outliers(collection, &mut learned, &mut refused);
        let shared = same.values().filter(|shots| shots.len() > 1);
        let shared = shared.chain(&enrolled_elsewhere);
        if !drop_shared(collection, shared, &mut learned, &mut refused) {
            break pairs;
        }
    };
    let mut videos = videos(items, &learned, &refused, errors);
    videos.retain(|&item, _| !items[item].is_enrolled);
    // For videos the report counts frames, and lists only files.
    refused.retain(|(shot, _)| shot.time.is_none());
    for (&item, video) in &videos {
        let shot = Shot { item, time: None };
        refused.extend(video.refusal().map(|refusal| (shot, refusal.into())));
    }
    refused.sort_by_key(|(shot, _)| *shot);
    let (doubted, refused): (Vec<_>, Vec<_>) = refused
        .into_iter()
        .partition(|(shot, _)| items[shot.item].is_enrolled);
    let rejected = |(shot, refused): (Shot, Refused)| {
        let (reason, detail) = refused.refusal;
        Rejected {
            path: shot.name(items),
            reason,
            detail,
            person: Some(items[shot.item].person),
            portrait: refused.portrait,
        }
    };
    let unlisted = collection.rejected.iter().cloned();
    Enrolled {
        learned,
        rejected: unlisted.chain(refused.into_iter().map(rejected)).collect(),
        doubted: doubted.into_iter().map(rejected).collect(),
        pairs,
        videos: videos.into_values().collect(),
    }
}

/// The portrait that represents all faces of a photo.
fn most_prominent(faces: Vec<EmbeddedFace>) -> Portrait {
    let first = faces.into_iter().next();
    first.map(|face| face.portrait).unwrap_or_default()
}
