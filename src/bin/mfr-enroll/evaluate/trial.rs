//! Measures how well a gallery identifies photos of known people.

use std::collections::BTreeMap;

use anyhow::Result;
use gstmfr::embed::crop_rgb8;
use gstmfr::embed::mask::{WITH_MASK, WITHOUT_MASK};
use gstmfr::gallery::Gallery;
use serde::Serialize;

use crate::input::dataset::{Collection, Failed};
use crate::input::photo::DecodedPhoto;
use crate::input::source::SourceFile;
use crate::options::shown;
use crate::output;
use crate::people::{self, NamedAnswer};
use crate::vision::batch::{Embedders, embed_in_order};
use crate::vision::finder::PhotoDetector;
use crate::vision::quality::most_prominent;

/// False positive identification rates at which the true positive identification rate is
/// reported.
const FALSE_POSITIVE_RATES: [(&str, f64); 3] = [("0.01", 0.01), ("0.002", 0.002), ("0.001", 0.001)];

/// A photo and the gallery's answer.
#[derive(Debug)]
pub struct Tried {
    /// Index into the sources.
    pub source: usize,
    /// `None` if the photo has no face.
    pub answer: Option<NamedAnswer>,
    /// The crop of the face, if requested.
    pub crop: Option<Vec<u8>>,
}

/// Identifies the most prominent face of every photo. Photos that cannot be read are left out, with a warning
/// on standard error.
pub fn recognise(
    sources: &[&SourceFile],
    gallery: &Gallery,
    embedders: &Embedders,
    keep_crops: bool,
) -> Result<Vec<Tried>> {
    let bar = output::progress("recognising", sources.len());
    let mut tried = Vec::new();
    embed_in_order(
        sources,
        embedders,
        1,
        |finder, source| {
            let crop = prominent_face(finder, source)?;
            let kept = crop.clone().map(|crop| crop.filter(|_| keep_crops));
            let embedded = crop.ok().flatten().into_iter().collect();
            Ok((kept, embedded))
        },
        |index, crop, seen| {
            bar.inc(1);
            match crop {
                Ok(crop) => tried.push(Tried {
                    source: index,
                    answer: people::each_by_itself(gallery, &seen).pop(),
                    crop,
                }),
                Err(detail) => {
                    let path = sources[index].path().display();
                    bar.suspend(|| output::warning(&format!("{path}: {detail}; left out")));
                }
            }
            Ok(())
        },
    )?;
    bar.finish_and_clear();
    Ok(tried)
}

/// The crop of the most prominent face of a photo, `None` if there is none, or why the photo
/// cannot be read.
fn prominent_face(
    finder: &mut PhotoDetector,
    source: &SourceFile,
) -> Result<Result<Option<Vec<u8>>, String>> {
    let photo = match DecodedPhoto::of(source) {
        Ok(photo) => photo,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let view = photo.view()?;
    let faces = finder.find(&view)?;
    let best = most_prominent(&faces, photo.width, photo.height);
    Ok(Ok(best.map(|i| crop_rgb8(&view, faces[i].rect))))
}

/// A person taken for another, and how often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Confusion {
    pub name: String,
    pub label: String,
    pub count: usize,
}

/// What the gallery said of one photo: for whoever counts in another way, or over other photos.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PhotoAnswer {
    pub path: String,
    /// The person on the photo; `None` for a stranger.
    pub person: Option<String>,
    /// The first candidate; `None` where no face was found.
    pub first: Option<String>,
    /// Similarity to the first candidate.
    pub similarity: Option<f32>,
    /// Whether the similarity was high enough for a name to be given.
    pub named: bool,
    pub masked: bool,
}

impl PhotoAnswer {
    fn of(source: &SourceFile, person: Option<&str>, answer: Option<&NamedAnswer>) -> Self {
        let candidate = answer.and_then(|a| a.candidates.first());
        Self {
            path: shown(source.path()),
            person: person.map(str::to_owned),
            first: candidate.map(|c| c.label.clone()),
            similarity: candidate.map(|c| c.similarity),
            named: answer.is_some_and(|a| a.name.is_some()),
            masked: answer.is_some_and(|a| a.masked),
        }
    }
}

/// Results with the gallery's own thresholds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AtThreshold {
    /// For bare and for masked faces.
    pub thresholds: [f32; 2],
    pub right: usize,
    pub wrong: usize,
    pub unknown: usize,
    /// Strangers that were named; `None` without strangers.
    pub strangers_named: Option<usize>,
}

/// Results for some probes. Probes without a detected face count as wrong.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PartFigures {
    pub probes: usize,
    pub detected: usize,
    /// Share of the probes whose first candidate is right, regardless of the threshold.
    pub rank1: f64,
    /// Share of the probes whose first candidate is right and more similar than all but this share
    /// of the strangers; `None` without strangers.
    pub tpir_at_fpir: BTreeMap<&'static str, Option<f64>>,
    /// Number of photos of strangers with a face.
    pub strangers: usize,
    pub at_threshold: AtThreshold,
}

/// Results for all probes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    #[serde(flatten)]
    pub all: PartFigures,
    /// Results for detected faces, by whether a mask was recognised.
    pub by_mask: BTreeMap<&'static str, PartFigures>,
    /// Wrong first candidates, most frequent first.
    pub confusions: Vec<Confusion>,
}

/// Results for all probes, and every answer behind them, the probes' first.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answered {
    #[serde(flatten)]
    pub figures: Figures,
    pub photos: Vec<PhotoAnswer>,
}

/// A probe: its true name, and the answer if a face was found.
type Probe<'a> = (&'a str, Option<&'a NamedAnswer>);

impl Figures {
    /// `known` are the probes, `strangers` the answers to faces of people who are not in the gallery.
    pub fn of(known: &[Probe], strangers: Option<&[&NamedAnswer]>, thresholds: [f32; 2]) -> Self {
        let mut confusions = BTreeMap::<(String, String), usize>::new();
        for &(name, answer) in known {
            if let Some(label) = answer.and_then(first).filter(|label| *label != name) {
                *confusions
                    .entry((name.to_owned(), label.to_owned()))
                    .or_default() += 1;
            }
        }
        let mut confusions: Vec<_> = confusions
            .into_iter()
            .map(|((name, label), count)| Confusion { name, label, count })
            .collect();
        confusions.sort_by_key(|c| std::cmp::Reverse(c.count));
        let by_mask = [(WITHOUT_MASK, false), (WITH_MASK, true)].map(|(label, masked)| {
            let known: Vec<Probe> = known
                .iter()
                .filter(|(_, answer)| answer.is_some_and(|a| a.masked == masked))
                .copied()
                .collect();
            let strangers: Option<Vec<&NamedAnswer>> = strangers.map(|strangers| {
                let such = strangers.iter().filter(|a| a.masked == masked);
                such.copied().collect()
            });
            (
                label,
                PartFigures::of(&known, strangers.as_deref(), thresholds),
            )
        });
        Self {
            all: PartFigures::of(known, strangers, thresholds),
            by_mask: by_mask.into(),
            confusions,
        }
    }
}

impl PartFigures {
    fn of(known: &[Probe], strangers: Option<&[&NamedAnswer]>, thresholds: [f32; 2]) -> Self {
        let mut rights = Vec::new();
        let mut at_threshold = AtThreshold {
            thresholds,
            right: 0,
            wrong: 0,
            unknown: 0,
            strangers_named: strangers.map(|s| s.iter().filter(|a| a.name.is_some()).count()),
        };
        for &(name, answer) in known {
            let Some(answer) = answer else { continue };
            match &answer.name {
                None => at_threshold.unknown += 1,
                Some(named) if named == name => at_threshold.right += 1,
                Some(_) => at_threshold.wrong += 1,
            }
            if first(answer) == Some(name) {
                rights.push(answer.similarity);
            }
        }
        let share = |count: usize| count as f64 / known.len().max(1) as f64;
        let tpir = |rate| {
            let threshold = threshold_at(strangers?, rate)?;
            Some(share(rights.iter().filter(|&&s| s > threshold).count()))
        };
        Self {
            probes: known.len(),
            detected: known.iter().filter(|(_, answer)| answer.is_some()).count(),
            rank1: share(rights.len()),
            tpir_at_fpir: FALSE_POSITIVE_RATES
                .map(|(name, rate)| (name, tpir(rate)))
                .into(),
            strangers: strangers.map_or(0, <[_]>::len),
            at_threshold,
        }
    }
}

/// Name of the first candidate.
fn first(answer: &NamedAnswer) -> Option<&str> {
    answer.candidates.first().map(|c| c.label.as_str())
}

/// The similarity that at most this share of the strangers exceeds.
fn threshold_at(strangers: &[&NamedAnswer], rate: f64) -> Option<f32> {
    let mut similarities: Vec<f32> = strangers.iter().map(|a| a.similarity).collect();
    similarities.sort_by(|a, b| b.total_cmp(a));
    let may_pass = (rate * similarities.len() as f64).floor() as usize;
    similarities.get(may_pass).copied()
}

/// Tests a gallery with a collection and with photos of strangers.
pub fn figures(
    probes: &Collection,
    strangers: Option<&[SourceFile]>,
    gallery: &Gallery,
    embedders: &Embedders,
) -> Result<Answered> {
    let sources: Vec<&SourceFile> = probes.items.iter().map(|item| &item.source).collect();
    let tried = recognise(&sources, gallery, embedders, false)?;
    let known = with_names(probes, &tried);
    let answers = known.iter().zip(&tried);
    let answers = answers
        .map(|((person, answer), t)| PhotoAnswer::of(sources[t.source], Some(person), *answer));
    let mut photos: Vec<PhotoAnswer> = answers.collect();
    let strangers = match strangers {
        Some(sources) => {
            let sources: Vec<&SourceFile> = sources.iter().collect();
            let tried = recognise(&sources, gallery, embedders, false)?;
            let answers = tried.iter();
            photos.extend(
                answers.map(|t| PhotoAnswer::of(sources[t.source], None, t.answer.as_ref())),
            );
            Some(tried)
        }
        None => None,
    };
    let answers: Option<Vec<&NamedAnswer>> = strangers
        .as_ref()
        .map(|tried| tried.iter().filter_map(|t| t.answer.as_ref()).collect());
    let figures = Figures::of(&known, answers.as_deref(), gallery.thresholds());
    Ok(Answered { figures, photos })
}

/// The true name and the answer for every tried photo of a collection.
pub fn with_names<'a>(
    collection: &'a Collection,
    tried: &'a [Tried],
) -> Vec<(&'a str, Option<&'a NamedAnswer>)> {
    tried
        .iter()
        .map(|t| {
            let person = collection.items[t.source].person;
            (collection.people[person].as_str(), t.answer.as_ref())
        })
        .collect()
}

/// People with probes who are not in the gallery, for whom no answer can be right.
pub fn not_enrolled<'a>(probes: &'a Collection, gallery: &Gallery) -> Vec<&'a str> {
    probes
        .people
        .iter()
        .map(String::as_str)
        .filter(|name| !gallery.names().iter().any(|known| known == name))
        .collect()
}

/// Warns of paths that could not be listed.
pub fn warn_of(failed: &[Failed]) {
    for (path, detail) in failed {
        output::warning(&format!("{}: {detail}; left out", path.display()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::people::NamedCandidate;

    fn answer(label: &str, similarity: f32) -> NamedAnswer {
        NamedAnswer {
            name: (similarity >= 0.5).then(|| label.to_owned()),
            similarity,
            confidence: similarity,
            candidates: vec![NamedCandidate {
                label: label.to_owned(),
                similarity,
            }],
            masked: false,
        }
    }

    #[test]
    fn figures_count_every_probe() {
        let [a, b, c] = [answer("Ana", 0.9), answer("Ana", 0.6), answer("Ben", 0.4)];
        let strangers = [answer("Ana", 0.7), answer("Ben", 0.1)];
        let known = [
            ("Ana", Some(&a)),
            ("Ben", Some(&b)),
            ("Ben", Some(&c)),
            ("Ben", None),
        ];
        let figures = Figures::of(&known, Some(&[&strangers[0], &strangers[1]]), [0.5; 2]);
        let all = &figures.all;
        assert_eq!((all.probes, all.detected), (4, 3));
        // The first and the third are right, although the third is below the threshold.
        assert_eq!(all.rank1, 0.5);
        // No stranger may pass, so only similarities above 0.7 count, which is the first.
        assert_eq!(all.tpir_at_fpir["0.01"], Some(0.25));
        let expected = [Confusion {
            name: "Ben".to_owned(),
            label: "Ana".to_owned(),
            count: 1,
        }];
        assert_eq!(figures.confusions, expected);
        let at = figures.all.at_threshold;
        assert_eq!((at.right, at.wrong, at.unknown), (1, 1, 1));
        assert_eq!(at.strangers_named, Some(1));
    }

    #[test]
    fn a_hundredth_of_a_hundred_strangers_is_one() {
        let strangers: Vec<_> = (0..100).map(|i| answer("Ana", i as f32 / 100.0)).collect();
        let strangers: Vec<_> = strangers.iter().collect();
        // Only .99 is above .98.
        assert_eq!(threshold_at(&strangers, 0.01), Some(0.98));
        assert_eq!(threshold_at(&strangers, 0.001), Some(0.99));
        assert_eq!(threshold_at(&[], 0.01), None);
    }

    #[test]
    fn without_strangers_there_is_no_open_set_figure() {
        let figures = Figures::of(&[], None, [0.5; 2]);
        assert_eq!(figures.all.tpir_at_fpir["0.001"], None);
        assert_eq!(figures.all.rank1, 0.0);
    }
}
