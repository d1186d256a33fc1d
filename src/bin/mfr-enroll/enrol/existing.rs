//! People who are in a gallery already, beside whom new photos are judged.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gstmfr::gallery::{Gallery, Kind, file_of};
use sha2::{Digest, Sha256};

use super::{EmbeddedFace, FileOutcome, Usable};
use crate::input::dataset::{Collection, Item};
use crate::input::source::SourceFile;
use crate::vision::portrait::Portrait;

/// Results for files of which a gallery holds the embeddings, by their index in a collection.
#[derive(Debug, Default)]
pub struct Outcomes(pub(super) BTreeMap<usize, FileOutcome<EmbeddedFace>>);

/// The photos of a gallery and a collection of new ones together: for each person first those in the gallery. The name of a
/// new photo that a photo in the gallery has is made unique.
pub fn beside(gallery: &Gallery, mut new: Collection) -> (Collection, Outcomes) {
    let mut enrolled = files(gallery);
    let taken: BTreeSet<String> = enrolled.values().flatten().map(|f| f.0.clone()).collect();
    let mut added: BTreeMap<String, Vec<Item>> = BTreeMap::new();
    for mut item in new.items.drain(..) {
        item.name = unique(item.name, &taken);
        let name = new.people[item.person].clone();
        added.entry(name).or_default().push(item);
    }
    let names: BTreeSet<String> = enrolled.keys().cloned().chain(new.people).collect();
    let mut outcomes = BTreeMap::new();
    new.people = names.into_iter().collect();
    for (person, name) in new.people.iter().enumerate() {
        for (file, outcome) in enrolled.remove(name).unwrap_or_default() {
            outcomes.insert(new.items.len(), outcome);
            new.items.push(Item {
                person,
                source: SourceFile::Photo((&file).into()),
                name: file,
                is_enrolled: true,
            });
        }
        let added = added.remove(name).unwrap_or_default().into_iter();
        new.items.extend(added.map(|item| Item { person, ..item }));
    }
    (new, Outcomes(outcomes))
}

/// The name, or the first of `name~2`, `name~3`, … that is not taken.
pub fn unique(name: String, taken: &BTreeSet<String>) -> String {
    if !taken.contains(&name) {
        return name;
    }
    let mut names = (2u64..).map(|n| format!("{name}~{n}"));
    names.find(|name| !taken.contains(name)).unwrap_or(name)
}

/// The files of each person and what is known of their faces. Masked copies are left out: nothing is decided by them.
fn files(gallery: &Gallery) -> BTreeMap<String, Vec<(String, FileOutcome<EmbeddedFace>)>> {
    let mut people: BTreeMap<String, Vec<(String, FileOutcome<EmbeddedFace>)>> = BTreeMap::new();
    for entry in gallery.entries() {
        if entry.kind == Kind::SyntheticMask {
            continue;
        }
        let time = entry.source.rsplit_once("#t=").and_then(|(_, time)| {
            let seconds = time.parse().ok()?;
            Duration::try_from_secs_f64(seconds).ok()
        });
        // The hash stands for that of the file, which is unknown, so that it equals no other.
        let sha256 = Sha256::digest(format!("{}\n{}", entry.name, entry.source)).into();
        let face = EmbeddedFace {
            is_masked: entry.kind.is_masked(),
            embedding: entry.embedding,
            copies: Vec::new(),
            crop: None,
            portrait: Portrait::default(),
        };
        let faces = vec![face];
        let shot = (time, Ok(Usable { faces, sha256 }));
        let files = people.entry(entry.name).or_default();
        let file = file_of(&entry.source);
        match files.iter_mut().find(|(name, _)| name == file) {
            Some((_, outcome)) => outcome.shots.push(shot),
            None => {
                let (shots, error) = (vec![shot], None);
                files.push((file.to_owned(), FileOutcome { shots, error }));
            }
        }
    }
    people
}

#[cfg(test)]
mod tests {
    use super::super::samples::item;
    use super::*;
    use gstmfr::gallery::{Contract, Entry};
    use ndarray::arr1;

    fn gallery() -> Gallery {
        let entry = |name: &str, source: &str, kind, embedding: [f32; 2]| Entry {
            name: name.into(),
            source: source.into(),
            kind,
            embedding: arr1(&embedding),
        };
        let contract = Contract::new(&"ab".repeat(32), 2);
        let entries = vec![
            entry("b", "b/1.jpg", Kind::Photo, [1.0, 0.0]),
            entry("b", "b/1.jpg#mask:n95", Kind::SyntheticMask, [0.9, 0.1]),
            entry("b", "b/2.mp4#t=0.50", Kind::MaskedPhoto, [0.0, 1.0]),
            entry("b", "b/2.mp4#t=1.50", Kind::Photo, [0.6, 0.8]),
        ];
        Gallery::train(entries, contract).unwrap()
    }

    #[test]
    fn new_photos_follow_those_of_the_gallery_person_by_person() {
        let new = Collection {
            people: vec!["a".into(), "b".into(), "c".into()],
            items: vec![item(0, "a/1.jpg"), item(1, "b/1.jpg"), item(2, "c/1.jpg")],
            ..Collection::default()
        };
        let (all, Outcomes(outcomes)) = beside(&gallery(), new);
        assert_eq!(all.people, ["a", "b", "c"]);
        let items = all.items.iter().map(|item| {
            let name = item.name.as_str();
            (all.people[item.person].as_str(), name, item.is_enrolled)
        });
        let expected = [
            ("a", "a/1.jpg", false),
            ("b", "b/1.jpg", true),
            ("b", "b/2.mp4", true),
            ("b", "b/1.jpg~2", false),
            ("c", "c/1.jpg", false),
        ];
        assert_eq!(items.collect::<Vec<_>>(), expected);
        assert_eq!(outcomes.keys().copied().collect::<Vec<_>>(), [1, 2]);
        let frames: Vec<_> = outcomes[&2].shots.iter().map(|(time, _)| *time).collect();
        let times = [500, 1500].map(|ms| Some(Duration::from_millis(ms)));
        assert_eq!(frames, times);
        let masked: Vec<_> = outcomes[&2].faces().map(|face| face.is_masked).collect();
        assert_eq!(masked, [true, false]);
    }

    #[test]
    fn a_taken_name_is_numbered() {
        let taken = ["a".to_owned(), "a~2".to_owned()].into();
        assert_eq!(unique("a".into(), &taken), "a~3");
        assert_eq!(unique("b".into(), &taken), "b");
    }
}
