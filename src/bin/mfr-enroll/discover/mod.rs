//! Discovery: the faces in unsorted photos and videos, grouped by person.

pub mod crops;
mod look;
pub mod page;
mod tracks;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use gstmfr::frame::geometry::Rect;
use gstmfr::gallery::{Gallery, LooseFace, Statistics, group};
use ndarray::{Array1, Array2};
use serde::{Deserialize, Serialize};

use crate::encoding;
use crate::enrol::partial::{FileStamp, Partial};
use crate::input::dataset::Item;
use crate::output;
use crate::vision::batch::{Embedders, embed_in_order};
use crate::vision::portrait::Portrait;
use look::look_at;

/// Frames of a video to analyse: two a second for 100 seconds, fewer a second of longer videos.
#[cfg(feature = "plugin")]
pub const VIDEO_FRAMES: usize = 200;

/// A face that was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FoundFace {
    /// x, y, width and height in pixels of the upright photo.
    rect: [f32; 4],
    is_masked: bool,
    portrait: Portrait,
    /// None for a face that is not good enough to be enrolled, and is not grouped.
    embedding: Option<Embedding>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Embedding(#[serde(with = "encoding::floats")] Array1<f32>);

impl FoundFace {
    pub fn rect(&self) -> Rect {
        let [x, y, width, height] = self.rect;
        Rect::new(x, y, width, height)
    }

    /// Whether data that was read from a file can be what a run has written.
    fn fits(&self, dim: usize) -> bool {
        let is_sound = |e: &Embedding| e.0.len() == dim && e.0.iter().all(|v| v.is_finite());
        self.rect.iter().all(|v| v.is_finite()) && self.embedding.as_ref().is_none_or(is_sound)
    }
}

/// A photo, or a frame of a video, with its faces.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct FoundImage<F> {
    /// Time of a frame from the start of the video.
    time: Option<Duration>,
    faces: Vec<F>,
}

/// The faces of a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct FoundFile<F> {
    images: Vec<FoundImage<F>>,
    /// Why the file, or the rest of a video, could not be read.
    error: Option<String>,
}

/// A face and where it is.
#[derive(Debug)]
pub struct LocatedFace {
    /// Index of the file.
    pub file: usize,
    /// Number of the photo or frame.
    image: usize,
    pub time: Option<Duration>,
    /// Number of the track in a video.
    track: Option<usize>,
    pub face: FoundFace,
}

/// All faces, in the order of the files, and the files that could not be read, or not to their end.
#[derive(Debug, Default)]
pub struct Found {
    pub faces: Vec<LocatedFace>,
    pub failed: Vec<(usize, String)>,
}

/// What became of a face.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It is one of the faces of a person who is not known.
    Person(usize),
    /// A person of the gallery.
    Known(String),
    /// There is no other face like it.
    Alone,
    /// It is too small, too dark, blurred or turned too far.
    Unusable,
}

/// Finds and embeds the faces of all files, except for those of which an interrupted run has kept the faces.
pub fn find(
    items: &[Item],
    embedders: &Embedders,
    thumbnails: bool,
    partial: &mut Partial,
) -> Result<Found> {
    let dim = embedders.dim();
    let mut known: BTreeMap<usize, FoundFile<FoundFace>> =
        partial.take_known(items, |file: &FoundFile<FoundFace>| {
            let mut faces = file.images.iter().flat_map(|image| &image.faces);
            faces.all(|face| face.fits(dim))
        });
    let missing: Vec<usize> = (0..items.len())
        .filter(|item| !known.contains_key(item))
        .collect();
    let bar = output::progress("looking for faces", items.len());
    bar.inc(known.len() as u64);
    embed_in_order(
        &missing,
        embedders,
        1,
        |finder, &item| {
            let source = &items[item].source;
            let stamp = FileStamp::of(source.path());
            let mut crops = Vec::new();
            let found = look_at(finder, source, thumbnails)?;
            let found = found.map(|(face, crop)| {
                let is_usable = crop.is_some();
                crops.extend(crop);
                (face, is_usable)
            });
            Ok(((stamp, found), crops))
        },
        |index, (stamp, found), embedded| {
            let item = missing[index];
            let mut rows = embedded
                .embeddings
                .rows()
                .into_iter()
                .map(|row| row.to_owned());
            let found = found.map(|(face, is_usable)| FoundFace {
                embedding: is_usable.then(|| rows.next()).flatten().map(Embedding),
                ..face
            });
            // A file that could not be read may be readable in the next run.
            if let (Some(stamp), None) = (stamp, &found.error) {
                partial.add(&items[item].name, stamp, &found);
            }
            known.insert(item, found);
            bar.inc(1);
            Ok(())
        },
    )?;
    bar.finish_and_clear();
    Ok(located(known))
}

/// The faces of the files in order, those of videos with their tracks.
fn located(files: BTreeMap<usize, FoundFile<FoundFace>>) -> Found {
    let mut found = Found::default();
    let (mut image, mut track) = (0, 0);
    for (file, content) in files {
        found
            .failed
            .extend(content.error.map(|error| (file, error)));
        let tracks = tracks::tracks(&content.images);
        let count = tracks
            .iter()
            .flatten()
            .flatten()
            .max()
            .map_or(0, |last| last + 1);
        for (frame, own) in content.images.into_iter().zip(tracks) {
            for (face, own) in frame.faces.into_iter().zip(own) {
                found.faces.push(LocatedFace {
                    file,
                    image,
                    time: frame.time,
                    track: own.map(|own| track + own),
                    face,
                });
            }
            image += 1;
        }
        track += count;
    }
    found
}

/// Groups the faces by person, and sets those aside who are in the gallery. People are numbered by the number of their faces,
/// beginning with the most.
pub fn sort(
    faces: &[LocatedFace],
    statistics: Option<&Statistics>,
    gallery: Option<&Gallery>,
) -> Vec<Fate> {
    let usable: Vec<usize> = (0..faces.len())
        .filter(|&i| faces[i].face.embedding.is_some())
        .collect();
    let loose: Vec<LooseFace> = usable
        .iter()
        .filter_map(|&i| {
            let LocatedFace {
                image, track, face, ..
            } = &faces[i];
            Some(LooseFace {
                embedding: face.embedding.as_ref()?.0.clone(),
                masked: face.is_masked,
                image: *image,
                track: *track,
            })
        })
        .collect();
    let labels = group(&loose, statistics);
    let names = gallery.map(|gallery| names(&loose, gallery));
    let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (at, &label) in labels.iter().enumerate() {
        groups.entry(label).or_default().push(at);
    }
    let mut fates = vec![Fate::Unusable; faces.len()];
    let mut strangers = Vec::new();
    for members in groups.into_values() {
        let name = names.as_ref().and_then(|names| majority(&members, names));
        let fate = match name {
            Some(name) => Fate::Known(name.to_owned()),
            None if members.len() == 1 => Fate::Alone,
            None => {
                strangers.push(members);
                continue;
            }
        };
        for at in members {
            fates[usable[at]] = fate.clone();
        }
    }
    // The sort is stable, so that ties stay in the order of the files.
    strangers.sort_by_key(|members| std::cmp::Reverse(members.len()));
    for (person, members) in strangers.into_iter().enumerate() {
        for at in members {
            fates[usable[at]] = Fate::Person(person);
        }
    }
    fates
}

/// The name that the gallery gives to each face; a person is at most once in an image.
fn names<'g>(faces: &[LooseFace], gallery: &'g Gallery) -> Vec<Option<&'g str>> {
    let mut names = Vec::with_capacity(faces.len());
    // The faces of an image follow each other.
    for image in faces.chunk_by(|a, b| a.image == b.image) {
        let mut rows = Array2::zeros((image.len(), gallery.embeddings().ncols()));
        for (mut row, face) in rows.rows_mut().into_iter().zip(image) {
            row.assign(&face.embedding);
        }
        let masked: Vec<bool> = image.iter().map(|face| face.masked).collect();
        let found = gallery.identify_frame(rows.view(), &masked, None);
        let name = |label: usize| gallery.names()[label].as_str();
        names.extend(found.into_iter().map(|found| found.label.map(name)));
    }
    names
}

/// The name that at least half of a group's faces have.
fn majority<'n>(members: &[usize], names: &[Option<&'n str>]) -> Option<&'n str> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for name in members.iter().filter_map(|&at| names[at]) {
        *counts.entry(name).or_default() += 1;
    }
    let (name, count) = counts.into_iter().rev().max_by_key(|&(_, count)| count)?;
    (count * 2 >= members.len()).then_some(name)
}

impl<F> FoundFile<F> {
    fn failed(error: String) -> Self {
        Self {
            images: Vec::new(),
            error: Some(error),
        }
    }

    fn map<G>(self, mut face: impl FnMut(F) -> G) -> FoundFile<G> {
        let images = self.images.into_iter().map(|image| FoundImage {
            time: image.time,
            faces: image.faces.into_iter().map(&mut face).collect(),
        });
        FoundFile {
            images: images.collect(),
            error: self.error,
        }
    }
}

#[cfg(test)]
mod tests;
