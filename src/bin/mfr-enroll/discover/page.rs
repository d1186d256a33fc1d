//! The page of what was found: a sheet of faces for each person.

use std::collections::BTreeMap;

use super::{Fate, LocatedFace, crops::folder_name};
use crate::input::dataset::Item;
use crate::options::shown;
use crate::people::made_now;
use crate::report::{HtmlReport, PersonSheet, PhotoEntry, Subject};

/// The names of the sheets, which the page refers to.
pub struct Sheets {
    names: Vec<(String, Vec<usize>)>,
    counts: [usize; 4],
}

impl Sheets {
    pub fn of(fates: &[Fate]) -> Self {
        let mut people: BTreeMap<(u8, String), Vec<usize>> = BTreeMap::new();
        let mut counts = [0; 4];
        for (face, fate) in fates.iter().enumerate() {
            let key = match fate {
                Fate::Person(person) => (0, folder_name(*person)),
                Fate::Known(name) => (1, format!("{name} (known)")),
                Fate::Alone => (2, "Alone".to_owned()),
                Fate::Unusable => {
                    counts[3] += 1;
                    continue;
                }
            };
            counts[usize::from(key.0)] += 1;
            people.entry(key).or_default().push(face);
        }
        Self {
            names: people
                .into_iter()
                .map(|((_, name), faces)| (name, faces))
                .collect(),
            counts,
        }
    }

    /// The page of these faces.
    pub fn report<'a>(
        &'a self,
        subject: String,
        faces: &'a [LocatedFace],
        items: &[Item],
        people: usize,
    ) -> HtmlReport<'a> {
        let entry = |&face: &usize| {
            let LocatedFace {
                file, time, face, ..
            } = &faces[face];
            let path = shown(items[*file].source.path());
            PhotoEntry {
                path: match time {
                    Some(time) => format!("{path}#t={:.2}", time.as_secs_f64()),
                    None => path,
                },
                picture: face.portrait.thumbnail.as_deref(),
                measured: face.portrait.in_words(),
                ..PhotoEntry::default()
            }
        };
        let sheets = self.names.iter().map(|(name, faces)| PersonSheet {
            name,
            used: faces.iter().map(entry).collect(),
            rejected: Vec::new(),
        });
        let [in_groups, known, alone, unusable] = self.counts;
        HtmlReport {
            about: Subject::Discovery,
            subject,
            made: made_now(),
            tiles: vec![
                (people.to_string(), "people"),
                (in_groups.to_string(), "faces of them"),
                (known.to_string(), "faces of known people"),
                (alone.to_string(), "alone"),
                (unusable.to_string(), "not usable"),
            ],
            people: sheets.collect(),
            ..HtmlReport::default()
        }
    }
}
