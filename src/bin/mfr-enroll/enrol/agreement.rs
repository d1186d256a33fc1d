//! Checks whether the photos of a person match each other, and whether two people are the same.
//!
//! Similarities are cosines of embeddings, −1…1. A photo of the wrong person has two signs:
//! it is not similar to the person's other photos, or it is similar to those of another person. A weak sign
//! alone is not enough to reject a photo: a face with sunglasses is similar to nobody. Measured with
//! photos of LFW put into wrong folders, each person with 5 photos: of photos of people without
//! a folder 81 % are rejected and 16 % reported as suspicious, of people with a folder of their own 99
//! and 1 %; with 3 photos 81 and 17 %, 92 and 8 %; with two wrong photos of five 84 and 14 %, 92 and
//! 7 %. Of two photos the wrong one cannot be determined: 99 % are reported. On unchanged LFW, .13 % are
//! rejected (the one photo in 749, which indeed shows another person) and .4 % are suspicious.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use gstmfr::gallery::Kind;
use ndarray::{Array2, ArrayView1, Axis};

/// Similarity from which photos of a person belong to the same group. It is exceeded by .2 % of pairs of photos of
/// two people, and by 90 % of pairs of one person (LFW).
const TOGETHER: f32 = 0.5;

/// A photo whose similarity is below this to every photo that it should match is suspicious: 97
/// to 99 % of photos in wrong folders, .5 % of unchanged LFW.
const SUSPICIOUS: f32 = 0.4;
/// A similarity below this is sufficient to reject a photo: .1 % of unchanged LFW. With .3, photos with sunglasses
/// are rejected.
const NOT_LIKE_OWN: f32 = 0.25;
/// A similarity to another person's photos from this on, with this lead over that to the person's own, is sufficient
/// as well: none of unchanged LFW.
const LIKE_ANOTHER: f32 = 0.6;
const LIKE_ANOTHER_LEAD: f32 = 0.2;

/// Mean similarity between the photos of two people from which on they may be the same person: 79 % of halves of one
/// person's photos, 76 % of single photos; of pairs of two people in LFW 2 of 100,000 with one
/// photo each and none with more. Groups of people whom the network distinguishes less well come near: of the
/// 1,770 pairs of RMFRD 7 reach .6, none this value.
const SAME_PERSON: f32 = 0.63;

/// Number of photos, or people, that are compared with all people in one matrix product.
const TILE: usize = 64;

/// Maximum number of pairs of people that are kept, most similar first.
const MAX_PAIRS: usize = 100;

/// A photo of a person.
#[derive(Debug, Clone, Copy)]
pub struct FaceSample<'a> {
    pub person: usize,
    /// Frames of one video have the same number, because they are not independent evidence.
    pub file: usize,
    /// The kind of image. Copies with synthetic masks depend on their photo, and must be left out. Too little of a
    /// face with a real mask is visible to reject it; it is suspicious at most.
    pub kind: Kind,
    /// The embedding, of unit length.
    pub embedding: ArrayView1<'a, f32>,
}

/// The decision about a photo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verdict {
    #[default]
    Fits,
    /// It may be another person, an unusual photo, or the others may be wrong.
    Suspicious,
    /// It shows another person.
    Outlier,
}

/// How a photo compares with others.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Likeness {
    pub verdict: Verdict,
    /// Similarity to the most similar of the person's other photos that it should match: those that
    /// are certainly the person's, or those in other groups; none without such photos.
    pub own: Option<f32>,
    /// The other person most similar to the photo, and the similarity to the most similar of their
    /// photos; none without other people.
    pub other: Option<(usize, f32)>,
}

impl Likeness {
    /// The verdict's reason as text; `name` is called with the number of the other person.
    pub fn detail<N: AsRef<str>>(&self, name: impl Fn(usize) -> N) -> String {
        let own = self.own.unwrap_or_default();
        let mut text = format!("similarity {own:.2} at best to the person's other photos");
        if let Some((person, similarity)) = self.other
            && similarity >= LIKE_ANOTHER
        {
            text += &format!(", {similarity:.2} to one of {}", name(person).as_ref());
        }
        text += match self.verdict {
            Verdict::Fits => "",
            Verdict::Suspicious => ": somebody else, or an unusual photo",
            Verdict::Outlier => ": somebody else",
        };
        text
    }
}

/// Two people and how similar they are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    pub people: [usize; 2],
    /// Mean over their photos.
    pub similarity: f32,
    /// For each person the sample that is most similar to the other person.
    pub samples: [usize; 2],
}

impl Pair {
    /// Whether the two are probably one person enrolled under two names.
    pub fn is_same_person(&self) -> bool {
        self.similarity >= SAME_PERSON
    }
}

/// Result of comparing all photos.
#[derive(Debug, Default)]
pub struct Agreement {
    /// For each sample.
    pub likeness: Vec<Likeness>,
    /// The most similar pairs of people, at most [`MAX_PAIRS`], most similar first.
    pub pairs: Vec<Pair>,
}

/// Compares every photo with those of the same person and of others.
pub fn compare(samples: &[FaceSample]) -> Agreement {
    compare_changed(samples, |_| true)
}

/// Compares photos where the others were compared before: of the people for whom `is_changed` holds every photo, and of the
/// others each with these people, which takes time in proportion to their number.
pub fn compare_changed(samples: &[FaceSample], is_changed: impl Fn(usize) -> bool) -> Agreement {
    let mut people: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (i, sample) in samples.iter().enumerate() {
        people.entry(sample.person).or_default().push(i);
    }
    let people: Vec<PersonSamples> = people
        .into_iter()
        .map(|(number, own)| PersonSamples::new(samples, number, own))
        .collect();
    let dim = samples.first().map_or(0, |s| s.embedding.len());
    let mut means = Array2::zeros((people.len(), dim));
    for (mut mean, person) in means.rows_mut().into_iter().zip(&people) {
        for &i in person.main() {
            mean += &samples[i].embedding;
        }
        mean /= person.main().len().max(1) as f32;
    }
    let mut likeness = vec![Likeness::default(); samples.len()];
    let all: Vec<usize> = (0..people.len()).collect();
    let (changed, rest): (Vec<usize>, Vec<usize>) =
        all.iter().partition(|&&k| is_changed(people[k].number));
    let own = |people: &[PersonSamples], of: &[usize]| -> Vec<(usize, usize)> {
        let own = of.iter().map(|&k| (k, &people[k].samples));
        own.flat_map(|(k, own)| own.iter().map(move |&i| (k, i)))
            .collect()
    };
    let mut others = vec![None; samples.len()];
    nearest(
        samples,
        &people,
        &means,
        &own(&people, &changed),
        &all,
        &mut others,
    );
    let unchanged = own(&people, &rest);
    nearest(samples, &people, &means, &unchanged, &changed, &mut others);
    // Where somebody who has changed decides, everybody is compared with.
    let decided = unchanged.into_iter().filter(|&(k, i)| {
        let verdict = |other| people[k].likeness(samples, i, other).verdict;
        verdict(others[i]) != verdict(None)
    });
    let decided: Vec<_> = decided.collect();
    nearest(samples, &people, &means, &decided, &all, &mut others);
    for person in &people {
        for &i in &person.samples {
            likeness[i] = person.likeness(samples, i, others[i]);
        }
    }
    Agreement {
        likeness,
        pairs: pairs(samples, &people, &means, &changed),
    }
}

/// The photos of a person.
struct PersonSamples {
    number: usize,
    samples: Vec<usize>,
    /// Groups of similar photos, the largest group first.
    groups: Vec<Vec<usize>>,
    /// Whether the first group certainly shows the person, because most files are in it.
    is_decided: bool,
}

impl PersonSamples {
    fn new(samples: &[FaceSample], number: usize, own: Vec<usize>) -> Self {
        let files = |group: &[usize]| {
            let files: BTreeSet<_> = group.iter().map(|&i| samples[i].file).collect();
            files.len()
        };
        let mut groups = groups(samples, &own);
        groups.sort_by_key(|group| Reverse(files(group)));
        let counts: Vec<usize> = groups.iter().map(|group| files(group)).collect();
        // Two groups may contain frames of the same video, so both conditions are needed.
        let is_decided = match counts[..] {
            [first, second, ..] => first * 2 > files(&own) && first > second,
            _ => true,
        };
        Self {
            number,
            samples: own,
            groups,
            is_decided,
        }
    }

    /// The photos that show the person; all of them if that is undecided.
    fn main(&self) -> &[usize] {
        match self.groups.first() {
            Some(first) if self.is_decided => first,
            _ => &self.samples,
        }
    }

    fn group_of(&self, i: usize) -> &[usize] {
        let group = self.groups.iter().find(|group| group.contains(&i));
        group.map_or(&[], Vec::as_slice)
    }

    /// Compares one of the person's photos with the others.
    fn likeness(&self, samples: &[FaceSample], i: usize, other: Option<(usize, f32)>) -> Likeness {
        let sample = &samples[i];
        let group = self.group_of(i);
        let has_one_file = self.samples.iter().all(|&j| samples[j].file == sample.file);
        // Frames of a video are not evidence for each other unless there is no other file; nor are the photos of
        // a group while another group is as large.
        let is_evidence = |j: &&usize| {
            **j != i
                && (has_one_file || samples[**j].file != sample.file)
                && (self.is_decided || !group.contains(j))
        };
        let own = self
            .main()
            .iter()
            .filter(is_evidence)
            .map(|&j| samples[j].embedding.dot(&sample.embedding))
            .max_by(f32::total_cmp);
        let like_another = |own: f32| {
            other.is_some_and(|(_, s)| s >= LIKE_ANOTHER && s - own >= LIKE_ANOTHER_LEAD)
        };
        let is_exception = self.is_decided && !self.main().contains(&i);
        let verdict = match own {
            Some(own) if own >= SUSPICIOUS && !like_another(own) => Verdict::Fits,
            Some(own)
                if is_exception
                    && sample.kind != Kind::MaskedPhoto
                    && (own < NOT_LIKE_OWN || like_another(own)) =>
            {
                Verdict::Outlier
            }
            Some(_) => Verdict::Suspicious,
            None => Verdict::Fits,
        };
        Likeness {
            verdict,
            own,
            other,
        }
    }
}

/// Sorts photos of a person into groups in which each photo is similar to another.
fn groups(samples: &[FaceSample], own: &[usize]) -> Vec<Vec<usize>> {
    let mut left = own.to_vec();
    let mut groups = Vec::new();
    while let Some(first) = left.pop() {
        let mut group = vec![first];
        let mut next = 0;
        while let Some(&i) = group.get(next) {
            let like = |j: &usize| samples[i].embedding.dot(&samples[*j].embedding) >= TOGETHER;
            group.extend(left.extract_if(.., |j| like(j)));
            next += 1;
        }
        groups.push(group);
    }
    groups
}

/// For each photo of `own`, pairs of person and sample, the person among `others` most similar on average, and the
/// similarity to the most similar of their photos.
fn nearest(
    samples: &[FaceSample],
    people: &[PersonSamples],
    means: &Array2<f32>,
    own: &[(usize, usize)],
    others: &[usize],
    nearest: &mut [Option<(usize, f32)>],
) {
    let others_means = means.select(Axis(0), others);
    for tile in own.chunks(TILE) {
        let mut embeddings = Array2::zeros((tile.len(), means.ncols()));
        for (mut to, &(_, i)) in embeddings.rows_mut().into_iter().zip(tile) {
            to.assign(&samples[i].embedding);
        }
        let similarities = embeddings.dot(&others_means.t());
        for (&(k, i), row) in tile.iter().zip(similarities.rows()) {
            let others = others.iter().zip(row).filter(|&(&other, _)| other != k);
            let other = others.max_by(|(_, a), (_, b)| a.total_cmp(b));
            let Some((&other, _)) = other else { continue };
            let other = &people[other];
            let similarities = other.main().iter();
            let similarities =
                similarities.map(|&j| samples[j].embedding.dot(&samples[i].embedding));
            let similarity = similarities.max_by(f32::total_cmp);
            nearest[i] = similarity.map(|similarity| (other.number, similarity));
        }
    }
}

/// The most similar pairs of people of whom one at least is `changed`, indices in rising order.
fn pairs(
    samples: &[FaceSample],
    people: &[PersonSamples],
    means: &Array2<f32>,
    changed: &[usize],
) -> Vec<Pair> {
    let mut best: Vec<(usize, usize, f32)> = Vec::new();
    let mut least = f32::NEG_INFINITY;
    for tile in changed.chunks(TILE) {
        let similarities = means.select(Axis(0), tile).dot(&means.t());
        for (&a, row) in tile.iter().zip(similarities.rows()) {
            // A pair of two changed people is found from the first one.
            let is_pair = |b: usize| b > a || (b < a && changed.binary_search(&b).is_err());
            let found = row.iter().enumerate();
            let found = found.filter(|&(b, &similarity)| similarity > least && is_pair(b));
            best.extend(found.map(|(b, &similarity)| (a.min(b), a.max(b), similarity)));
            // The list is pruned as it grows, so that it never exceeds the limit by more than a row.
            if best.len() > MAX_PAIRS {
                best.sort_by(|(_, _, x), (_, _, y)| y.total_cmp(x));
                best.truncate(MAX_PAIRS);
                least = best.last().map_or(least, |&(_, _, similarity)| similarity);
            }
        }
    }
    best.sort_by(|(_, _, x), (_, _, y)| y.total_cmp(x));
    best.into_iter()
        .filter_map(|(a, b, similarity)| {
            let most_like = |of: usize, other: usize| {
                let to_other = |i: &usize| samples[*i].embedding.dot(&means.row(other));
                let by_similarity = |i: &&usize, j: &&usize| to_other(i).total_cmp(&to_other(j));
                people[of]
                    .main()
                    .iter()
                    .copied()
                    .max_by(|i, j| by_similarity(&i, &j))
            };
            Some(Pair {
                people: [people[a].number, people[b].number],
                similarity,
                samples: [most_like(a, b)?, most_like(b, a)?],
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array1, arr1};

    /// A point of the unit circle: the cosine between two points is that of the angle between them.
    fn at(degrees: f32) -> Array1<f32> {
        let (sin, cos) = degrees.to_radians().sin_cos();
        arr1(&[cos, sin])
    }

    fn embeddings(photos: &[(usize, usize, f32)]) -> Vec<Array1<f32>> {
        photos.iter().map(|&(_, _, angle)| at(angle)).collect()
    }

    /// Photos given as person, file and direction, with these embeddings.
    fn samples<'a>(
        photos: &[(usize, usize, f32)],
        embeddings: &'a [Array1<f32>],
        kind: Kind,
    ) -> Vec<FaceSample<'a>> {
        let photos = photos.iter().zip(embeddings);
        let sample =
            |(&(person, file, _), embedding): (&(usize, usize, f32), &'a Array1<f32>)| FaceSample {
                person,
                file,
                kind,
                embedding: embedding.view(),
            };
        photos.map(sample).collect()
    }

    /// The verdicts about photos given as person, file and direction.
    fn verdicts(photos: &[(usize, usize, f32)]) -> Vec<Verdict> {
        let likeness = agreement(photos, Kind::Photo).likeness;
        likeness.into_iter().map(|l| l.verdict).collect()
    }

    fn agreement(photos: &[(usize, usize, f32)], kind: Kind) -> Agreement {
        let embeddings = embeddings(photos);
        let samples = samples(photos, &embeddings, kind);
        compare(&samples)
    }

    use Verdict::{Fits, Outlier, Suspicious};

    #[test]
    fn whoever_has_not_changed_is_compared_with_whoever_has() {
        // Person 0 has a photo that is like person 2, and one that is like person 1.
        let photos = [
            (0, 0, 0.0),
            (0, 1, 0.0),
            (0, 2, 0.0),
            (0, 3, 100.0),
            (0, 4, 200.0),
            (1, 5, 100.0),
            (1, 6, 100.0),
            (2, 7, 200.0),
            (2, 8, 205.0),
        ];
        let embeddings = embeddings(&photos);
        let samples = samples(&photos, &embeddings, Kind::Photo);
        let others = |changed: &[usize]| -> Vec<Option<usize>> {
            let compared = compare_changed(&samples, |person| changed.contains(&person));
            let likeness = compared.likeness.iter();
            likeness
                .map(|l| l.other.map(|(person, _)| person))
                .collect()
        };
        let all = others(&[0, 1, 2]);
        assert_eq!(all[3..5], [Some(1), Some(2)]);
        let second = others(&[2]);
        assert_eq!(second[4], Some(2));
        assert_eq!(second[7..], all[7..]);
        let pairs = |changed: &[usize]| -> Vec<[usize; 2]> {
            let compared = compare_changed(&samples, |person| changed.contains(&person));
            let mut pairs: Vec<_> = compared.pairs.iter().map(|pair| pair.people).collect();
            pairs.sort();
            pairs
        };
        assert_eq!(pairs(&[0, 1, 2]), [[0, 1], [0, 2], [1, 2]]);
        assert_eq!(pairs(&[1]), [[0, 1], [1, 2]]);
        assert_eq!(pairs(&[]), [[0usize; 2]; 0]);
    }

    #[test]
    fn a_photo_unlike_two_that_agree_is_somebody_else() {
        // cos 80° = .17, cos 70° = .34, cos 60° = .5.
        let with = |angle| verdicts(&[(0, 0, 0.0), (0, 1, 0.0), (0, 2, angle)]);
        assert_eq!(with(80.0), [Fits, Fits, Outlier]);
        assert_eq!(with(70.0), [Fits, Fits, Suspicious]);
        assert_eq!(with(59.0), [Fits; 3]);
    }

    #[test]
    fn of_two_photos_that_disagree_neither_is_rejected() {
        assert_eq!(
            verdicts(&[(0, 0, 0.0), (0, 1, 90.0)]),
            [Suspicious, Suspicious]
        );
        // Two photos agree, and two others agree.
        let photos = [(0, 0, 0.0), (0, 1, 0.0), (0, 2, 90.0), (0, 3, 90.0)];
        assert_eq!(verdicts(&photos), [Suspicious; 4]);
        assert_eq!(verdicts(&[(0, 0, 0.0)]), [Fits]);
        assert_eq!(verdicts(&[]), []);
    }

    #[test]
    fn a_photo_that_is_more_like_another_person_is_theirs() {
        let own = [(0, 0, 0.0), (0, 1, 0.0), (0, 2, 70.0)];
        let other = [(1, 3, 85.0), (1, 4, 90.0)];
        let found = agreement(&[own.as_slice(), &other].concat(), Kind::Photo);
        let last = found.likeness[2];
        assert_eq!(last.verdict, Outlier);
        assert_eq!(
            last.detail(|person| format!("person {person}")),
            "similarity 0.34 at best to the person's other photos, 0.97 to one of person 1: \
             somebody else"
        );
        assert_eq!(found.likeness[3].verdict, Fits);
        // With cos 62° = .47 the photo is not quite in the group; with cos 58° = .53 it is.
        let with = |angle| {
            let own = [(0, 0, 0.0), (0, 1, 0.0), (0, 2, angle)];
            let other = [(1, 3, angle + 5.0), (1, 4, angle)];
            verdicts(&[own.as_slice(), &other].concat())
        };
        assert_eq!(with(62.0), [Fits, Fits, Outlier, Fits, Fits]);
        assert_eq!(with(58.0)[..3], [Fits, Fits, Suspicious]);
    }

    #[test]
    fn a_photo_with_a_real_mask_is_never_rejected() {
        let photos = [(0, 0, 0.0), (0, 1, 0.0), (0, 2, 80.0)];
        let found = agreement(&photos, Kind::MaskedPhoto);
        assert_eq!(found.likeness[2].verdict, Suspicious);
    }

    #[test]
    fn the_frames_of_a_video_are_one_voice() {
        // One video of another person does not outvote two photos.
        let video = [(0, 2, 90.0); 5];
        let photos = [[(0, 0, 0.0), (0, 1, 0.0)].as_slice(), &video].concat();
        let found = verdicts(&photos);
        assert_eq!(found[..2], [Fits, Fits]);
        assert_eq!(found[2..], [Outlier; 5]);
        // The video's frames are not evidence for each other against a photo.
        let found = verdicts(&[[(0, 0, 0.0)].as_slice(), &video].concat());
        assert_eq!(found, [Suspicious; 6]);
        // Without other files they are.
        assert_eq!(verdicts(&video), [Fits; 5]);
    }

    #[test]
    fn one_person_under_two_names_is_a_pair_that_looks_the_same() {
        let photos = [
            (0, 0, 0.0),
            (0, 1, 40.0),
            (3, 2, 45.0),
            (3, 3, 50.0),
            (7, 4, 170.0),
        ];
        let pairs = agreement(&photos, Kind::Photo).pairs;
        assert_eq!(pairs.len(), 3);
        assert_eq!(pairs[0].people, [0, 3]);
        // The directions 40° and 45° are nearest to each other.
        assert_eq!(pairs[0].samples, [1, 2]);
        // The mean is that of cos 45°, 50°, 5° and 10°.
        assert!((pairs[0].similarity - 0.8327).abs() < 1e-3, "{pairs:?}");
        assert!(pairs[0].is_same_person());
        assert!(!pairs[1].is_same_person());
    }
}
