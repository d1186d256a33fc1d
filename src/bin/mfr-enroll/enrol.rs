//! From the photos of a dataset to embeddings of known people, the unusable ones sorted out.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use anyhow::Result;
use gstmfr::embed::{Embedder, crop_rgb8};
use ndarray::{Array2, Axis};

use crate::batch::Batch;
use crate::dataset::{Collection, Item};
use crate::finder::Finder;
use crate::options::Vision;
use crate::output;
use crate::photo::Photo;
use crate::quality::{Reason, Refusal, Rejected, check, dominant};
use crate::workers;

/// Cosine above which two photos of a person are one: stored twice, or saved again.
const SAME_PHOTO: f32 = 0.9999;

/// What a dataset gave.
#[derive(Debug)]
pub struct Enrolled {
    /// For each row of the embeddings the index of its file in the collection.
    pub used: Vec<usize>,
    /// `[used, dim]`
    pub embeddings: Array2<f32>,
    /// The crops of the rows, if they were asked for.
    pub crops: Vec<Vec<u8>>,
    /// In the order of the files.
    pub rejected: Vec<Rejected>,
}

/// A face good enough to learn from.
struct Usable {
    crop: Vec<u8>,
    sha256: [u8; 32],
}

/// Embeds every usable photo. The result does not depend on the number of workers.
pub fn enrol(
    collection: &Collection,
    embedder: &mut Embedder,
    vision: &Vision,
    keep_crops: bool,
) -> Result<Enrolled> {
    let items = &collection.items;
    let bar = output::progress("enrolling", items.len());
    let mut batch = Batch::new(embedder);
    let mut seen = HashMap::new();
    let mut refused: Vec<(usize, Refusal)> = Vec::new();
    let mut used = Vec::new();
    let mut crops = Vec::new();
    workers::in_order(
        items,
        vision.jobs,
        || Ok(Finder::new(vision)?),
        usable_face,
        |index, outcome| {
            bar.inc(1);
            let fresh = outcome.and_then(|usable| match seen.entry(usable.sha256) {
                Entry::Occupied(first) => Err(same_file(collection, *first.get(), index)),
                Entry::Vacant(place) => {
                    place.insert(index);
                    Ok(usable.crop)
                }
            });
            match fresh {
                Ok(crop) => {
                    used.push(index);
                    if keep_crops {
                        crops.push(crop.clone());
                    }
                    batch.push(crop)?;
                }
                Err(refusal) => refused.push((index, refusal)),
            }
            Ok(())
        },
    )?;
    bar.finish_and_clear();
    let mut enrolled = Enrolled {
        embeddings: batch.finish()?,
        used,
        crops,
        rejected: Vec::new(),
    };
    enrolled.drop_copies(items, &mut refused);
    refused.sort_by_key(|(index, _)| *index);
    enrolled.rejected = collection.rejected.clone();
    enrolled.rejected.extend(
        refused
            .into_iter()
            .map(|(index, (reason, detail))| Rejected {
                path: items[index].name.clone(),
                reason,
                detail,
            }),
    );
    Ok(enrolled)
}

/// The face of a photo, or why there is none to learn from.
fn usable_face(finder: &mut Finder, item: &Item) -> Result<Result<Usable, Refusal>> {
    let photo = match Photo::of(&item.source) {
        Ok(photo) => photo,
        Err(error) => return Ok(Err((Reason::Unreadable, error.to_string()))),
    };
    let view = photo.view()?;
    let faces = finder.find(&view)?;
    Ok(
        dominant(&faces, photo.width, photo.height).and_then(|face| {
            let crop = crop_rgb8(&view, face.rect);
            check(&face, &crop)?;
            Ok(Usable {
                crop,
                sha256: photo.sha256,
            })
        }),
    )
}

fn same_file(collection: &Collection, first: usize, second: usize) -> Refusal {
    let [first, second] = [first, second].map(|i| &collection.items[i]);
    let whose = if first.person == second.person {
        String::new()
    } else {
        format!(", a photo of {}", collection.people[first.person])
    };
    (
        Reason::Duplicate,
        format!("the same file as {}{whose}", first.name),
    )
}

impl Enrolled {
    /// Drops photos of a person that show the same picture as an earlier one: the same counted
    /// twice would weigh twice.
    fn drop_copies(&mut self, items: &[Item], refused: &mut Vec<(usize, Refusal)>) {
        let mut kept = Vec::new();
        let mut first_of_person = 0;
        for row in 0..self.used.len() {
            let item = &items[self.used[row]];
            // The rows of a person follow one another.
            while kept
                .get(first_of_person)
                .is_some_and(|&k: &usize| items[self.used[k]].person != item.person)
            {
                first_of_person += 1;
            }
            let embedding = self.embeddings.row(row);
            let original = kept[first_of_person..]
                .iter()
                .find(|&&k| self.embeddings.row(k).dot(&embedding) > SAME_PHOTO);
            match original {
                Some(&k) => {
                    let name = &items[self.used[k]].name;
                    let detail = format!("the same picture as {name}");
                    refused.push((self.used[row], (Reason::Duplicate, detail)));
                }
                None => kept.push(row),
            }
        }
        if kept.len() == self.used.len() {
            return;
        }
        self.embeddings = self.embeddings.select(Axis(0), &kept);
        self.used = kept.iter().map(|&k| self.used[k]).collect();
        if !self.crops.is_empty() {
            self.crops = kept
                .iter()
                .map(|&k| std::mem::take(&mut self.crops[k]))
                .collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Source;
    use ndarray::arr2;

    fn item(person: usize, name: &str) -> Item {
        Item {
            person,
            name: name.to_owned(),
            source: Source::Photo(name.into()),
        }
    }

    #[test]
    fn a_picture_saved_twice_counts_once_for_its_person() {
        let items = [
            item(0, "a/1"),
            item(0, "a/bad"),
            item(0, "a/2"),
            item(0, "a/3"),
            item(1, "b/1"),
        ];
        let mut enrolled = Enrolled {
            used: vec![0, 2, 3, 4],
            embeddings: arr2(&[[1.0, 0.0], [0.0, 1.0], [1.0, 0.001], [1.0, 0.0]]),
            crops: vec![vec![0], vec![2], vec![3], vec![4]],
            rejected: Vec::new(),
        };
        let mut refused = Vec::new();
        enrolled.drop_copies(&items, &mut refused);
        // b/1 looks like a/1 as well, but under another name that is not for us to settle.
        assert_eq!(enrolled.used, [0, 2, 4]);
        assert_eq!(enrolled.crops, [[0], [2], [4]]);
        assert_eq!(enrolled.embeddings.nrows(), 3);
        let detail = "the same picture as a/1".to_owned();
        assert_eq!(refused, [(3, (Reason::Duplicate, detail))]);
    }
}
