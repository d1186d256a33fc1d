//! Selects the photos to use, once all of them are embedded.

use std::collections::{BTreeMap, BTreeSet};

use ndarray::ArrayView1;

use super::{Learned, Refused, Several, Shot, most_prominent};
use crate::enrol::agreement::{self, Agreement, FaceSample, Pair, Verdict};
use crate::input::dataset::{Collection, Item};
use crate::vision::portrait::Portrait;
use crate::vision::reason::{Reason, Refusal};

/// Cosine above which two photos of a person count as the same image, stored twice or saved again.
const SAME_PHOTO: f32 = 0.9999;

/// If several people are in a photo, the face that is at least this similar to the person's other
/// photos, with this lead over any other face, is the person's. On LFW the cosine of two photos of
/// one person is .69 on average, that of two people below .41 in 99 % and .53 in 99.9 %. This resolves 23
/// of the 24 photos of several people there.
const OWN_FACE: f32 = 0.5;
const OWN_FACE_LEAD: f32 = 0.2;

pub fn too_many(faces: usize) -> Refusal {
    let detail = format!("{faces} faces, none of which stands out");
    (Reason::SeveralFaces, detail)
}

pub fn same_file(collection: &Collection, first: Shot, second: Shot) -> Refusal {
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

/// Identifies the person in photos of several people by the person's other photos.
pub fn resolve(
    items: &[Item],
    several: Vec<Several>,
    learned: &mut Vec<Learned>,
    refused: &mut Vec<(Shot, Refused)>,
) {
    // Only photos with a single face are evidence, not those that are resolved here.
    let clear = learned.len();
    for Several { shot, mut faces } in several {
        let person = items[shot.item].person;
        let own: Vec<_> = learned[..clear]
            .iter()
            .filter(|l| items[l.shot.item].person == person)
            .map(|l| l.embedding.view())
            .collect();
        let similarities: Vec<f32> = faces
            .iter()
            .map(|face| mean_similarity(face.embedding.view(), &own))
            .collect();
        match standing_out(&similarities) {
            Some(face) => learned.push(faces.swap_remove(face).learned(shot)),
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
}

/// Mean cosine to the photos of a person; −1 if there are none.
fn mean_similarity(face: ArrayView1<f32>, photos: &[ArrayView1<f32>]) -> f32 {
    if photos.is_empty() {
        return -1.0;
    }
    photos.iter().map(|photo| photo.dot(&face)).sum::<f32>() / photos.len() as f32
}

/// The index of the only face that is certainly the person's.
fn standing_out(similarities: &[f32]) -> Option<usize> {
    let mut order: Vec<usize> = (0..similarities.len()).collect();
    order.sort_by(|&a, &b| similarities[b].total_cmp(&similarities[a]));
    let best = *order.first()?;
    let next = order.get(1).map_or(-1.0, |&i| similarities[i]);
    let stands_out = similarities[best] >= OWN_FACE && similarities[best] - next >= OWN_FACE_LEAD;
    stands_out.then_some(best)
}

/// Drops photos of a person that show the same image as an earlier one, because duplicates
/// would weigh twice. `learned` must be sorted, so that the photos of a person are adjacent.
pub fn drop_copies(items: &[Item], learned: &mut Vec<Learned>, refused: &mut Vec<(Shot, Refused)>) {
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

/// New photos that show the same picture as one with which another person is enrolled already. The files of the gallery are
/// not at hand, so embeddings tell.
pub fn enrolled_elsewhere(items: &[Item], learned: &[Learned]) -> Vec<Vec<Shot>> {
    let item = |l: &Learned| &items[l.shot.item];
    let (enrolled, new): (Vec<&Learned>, Vec<&Learned>) =
        learned.iter().partition(|l| item(l).is_enrolled);
    let mut pairs = Vec::new();
    for next in new {
        let same = enrolled.iter().filter(|other| {
            item(other).person != item(next).person
                && other.embedding.dot(&next.embedding) > SAME_PHOTO
        });
        pairs.extend(same.map(|other| vec![other.shot, next.shot]));
    }
    pairs
}

/// Drops photos of the wrong person, by comparing them with the person's other photos and with other people's.
/// Returns the most similar pairs of people.
pub fn drop_outliers(
    collection: &Collection,
    learned: &mut Vec<Learned>,
    refused: &mut Vec<(Shot, Refused)>,
) -> Vec<Pair> {
    let samples: Vec<FaceSample> = learned
        .iter()
        .map(|l| FaceSample {
            person: collection.items[l.shot.item].person,
            file: l.shot.item,
            kind: l.kind,
            embedding: l.embedding.view(),
        })
        .collect();
    // What is in a gallery already was compared when it came.
    let new = learned.iter().map(|l| &collection.items[l.shot.item]);
    let new = new.filter(|item| !item.is_enrolled);
    let changed: BTreeSet<usize> = new.map(|item| item.person).collect();
    let Agreement {
        likeness,
        mut pairs,
    } = agreement::compare_changed(&samples, |person| changed.contains(&person));
    // New positions of the photos that stay.
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

/// Drops files that several people share, except for the person whose other photos are most similar to
/// the face. A file with several faces, from which each person was resolved to a different one, stays. Returns
/// whether a file was dropped.
pub fn drop_shared<'a>(
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
        // Ties go to who is enrolled already, then to the first.
        let rank = |l: &Learned| (!collection.items[l.shot.item].is_enrolled, l.shot);
        owners.sort_by(|a, b| own(b).total_cmp(&own(a)).then(rank(a).cmp(&rank(b))));
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
    use super::super::samples::{item, learned, photo};
    use super::*;
    use ndarray::arr1;

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
        // b/1 is the same as a/1 as well, but drop_copies only compares photos of one person.
        let kept: Vec<_> = all.iter().map(|l| l.shot.item).collect();
        assert_eq!(kept, [0, 2, 4]);
        let detail = "the same picture as a/1".to_owned();
        assert_eq!(
            refused,
            [(photo(3), Refused::from((Reason::Duplicate, detail)))]
        );
    }

    #[test]
    fn of_several_faces_the_one_that_is_clearly_the_persons_is_taken() {
        assert_eq!(standing_out(&[0.1, 0.8, -0.2]), Some(1));
        // Two faces are too similar to the person, none is similar enough, and the person has no other photo.
        assert_eq!(standing_out(&[0.8, 0.7]), None);
        assert_eq!(standing_out(&[0.4, 0.0]), None);
        assert_eq!(standing_out(&[-1.0, -1.0]), None);
        assert_eq!(standing_out(&[]), None);
        assert_eq!(mean_similarity(arr1(&[1.0, 0.0]).view(), &[]), -1.0);
    }
}
