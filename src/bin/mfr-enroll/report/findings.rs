//! Findings about a dataset: photos per person, unused photos with their reasons, suspicious
//! photos, and people who look alike.

use std::collections::BTreeSet;

use anyhow::Result;
use serde::Serialize;

use crate::enrol::agreement::{Pair, Verdict};
use crate::enrol::{Enrolled, Video};
use crate::input::dataset::{Collection, Skipped};
use crate::output::{Output, counted, plain};
use crate::vision::portrait::Rejected;

/// Maximum number of pairs of people in a report.
pub const NEAREST: usize = 10;

/// With fewer photos a person is recognised less reliably, and a wrong photo is not detected.
pub const FEW_PHOTOS: usize = 3;

/// Maximum number of skipped files and folders that are listed.
const MOST_SKIPPED: usize = 20;

/// The findings for the reports of `build` and `check`.
#[derive(Debug, Serialize)]
pub struct Findings<'a> {
    pub people: Vec<PersonCounts<'a>>,
    pub photos: PhotoCounts,
    pub videos: &'a [Video],
    pub rejected: &'a [Rejected],
    /// Photos in the gallery already that would be rejected beside the new ones.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub doubted: &'a [Rejected],
    pub skipped: &'a [Skipped],
    /// Photos that were rotated in addition to their files' orientation.
    pub rotated: Vec<Rotated>,
    /// Photos that are suspicious, but used.
    pub suspicious: Vec<Suspicion>,
    /// People who look like one person enrolled under two names.
    pub alike: Vec<Similar>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PersonCounts<'a> {
    pub name: &'a str,
    /// Number of files, including videos, each of which counts once.
    pub photos: usize,
    pub used: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PhotoCounts {
    /// Number of files, including videos.
    pub found: usize,
    pub used: usize,
    /// Number of files of other types, and of files and folders that belong to no person.
    pub ignored: usize,
}

/// A photo that was rotated because a face is clearly visible only then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rotated {
    pub path: String,
    /// Degrees clockwise.
    pub degrees: u16,
}

/// A photo that may show another person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Suspicion {
    pub path: String,
    pub person: String,
    pub detail: String,
}

/// Two people, and for each the photo most similar to the other person.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Similar {
    pub people: [String; 2],
    /// Mean cosine between their photos.
    pub similarity: f32,
    pub photos: [String; 2],
}

impl<'a> Findings<'a> {
    pub fn of(train: &'a Collection, enrolled: &'a Enrolled) -> Self {
        let mut people: Vec<PersonCounts> = train
            .people
            .iter()
            .map(|name| PersonCounts {
                name,
                photos: 0,
                used: 0,
            })
            .collect();
        let mut is_new = vec![true; people.len()];
        for item in &train.items {
            is_new[item.person] &= !item.is_enrolled;
            people[item.person].photos += usize::from(!item.is_enrolled);
        }
        // A video counts once, however many of its frames are used.
        let items = enrolled.learned.iter().map(|l| l.shot.item);
        let used: BTreeSet<usize> = items.filter(|&i| !train.items[i].is_enrolled).collect();
        for &item in &used {
            people[train.items[item].person].used += 1;
        }
        let concerns_new = |person: &usize| is_new[*person] || people[*person].photos > 0;
        let alike = enrolled.pairs.iter();
        let alike = alike.filter(|p| p.is_same_person() && p.people.iter().any(concerns_new));
        let alike = alike.map(|pair| similar(train, enrolled, pair)).collect();
        let found = people.iter().map(|person| person.photos).sum::<usize>();
        let people = people.into_iter().zip(is_new);
        let people = people.filter(|(person, is_new)| *is_new || person.photos > 0);
        let people = people.map(|(person, _)| person).collect();
        Self {
            people,
            photos: PhotoCounts {
                found: found + train.rejected.len(),
                used: used.len(),
                ignored: train.skipped.len(),
            },
            videos: &enrolled.videos,
            rejected: &enrolled.rejected,
            doubted: &enrolled.doubted,
            skipped: &train.skipped,
            rotated: rotated(train, enrolled),
            suspicious: suspicious(train, enrolled),
            alike,
        }
    }

    /// Number of people with a usable photo.
    pub fn enrolled(&self) -> usize {
        self.people.iter().filter(|p| p.used > 0).count()
    }

    /// Prints the findings as text.
    pub fn say(&self, out: &mut Output) -> Result<()> {
        let names = self.people.iter().map(|p| p.name.chars().count());
        let width = names.max().unwrap_or(0).clamp("person".len(), 40);
        out.line(format_args!("{:width$}  photos  used", "person"))?;
        for person in &self.people {
            let note = match person.used {
                0 => "  (not in the gallery)",
                _ => "",
            };
            out.line(format_args!(
                "{:width$}  {:6}  {:4}{note}",
                plain(person.name),
                person.photos,
                person.used
            ))?;
        }
        self.say_videos(out)?;
        say_photos(out, "rejected", self.rejected)?;
        let doubted = "in the gallery already, and would be rejected if it were built anew";
        say_photos(out, doubted, self.doubted)?;
        self.say_skipped(out)?;
        if !self.rotated.is_empty() {
            out.line("\nrotated, as no face is upright in them")?;
        }
        for rotated in &self.rotated {
            out.line(format_args!(
                "  {}: by {}° clockwise",
                plain(&rotated.path),
                rotated.degrees
            ))?;
        }
        say_suspicious(out, &self.suspicious)?;
        say_alike(out, &self.alike)
    }

    fn say_skipped(&self, out: &mut Output) -> Result<()> {
        if !self.skipped.is_empty() {
            out.line("\nskipped")?;
        }
        for skipped in self.skipped.iter().take(MOST_SKIPPED) {
            out.line(format_args!(
                "  {} ({})",
                plain(&skipped.path),
                skipped.detail
            ))?;
        }
        if let Some(more) = self.skipped.len().checked_sub(MOST_SKIPPED + 1) {
            out.line(format_args!("  and {} more", more + 1))?;
        }
        Ok(())
    }

    fn say_videos(&self, out: &mut Output) -> Result<()> {
        if !self.videos.is_empty() {
            out.line("\nvideos")?;
        }
        for video in self.videos {
            let reasons = match video.reasons() {
                reasons if reasons.is_empty() => reasons,
                reasons => format!(" ({reasons})"),
            };
            let end = match &video.error {
                Some(error) => format!("; then: {}", plain(error)),
                None => String::new(),
            };
            out.line(format_args!(
                "  {}: {} of {} used{reasons}{end}",
                plain(&video.path),
                video.used,
                counted(video.frames, "frame")
            ))?;
        }
        Ok(())
    }
}

fn say_photos(out: &mut Output, heading: &str, photos: &[Rejected]) -> Result<()> {
    if !photos.is_empty() {
        out.line(format_args!("\n{heading}"))?;
    }
    for photo in photos {
        out.line(format_args!(
            "  {}: {} ({})",
            plain(&photo.path),
            photo.reason.name(),
            plain(&photo.detail)
        ))?;
    }
    Ok(())
}

fn rotated(train: &Collection, enrolled: &Enrolled) -> Vec<Rotated> {
    let used = enrolled
        .learned
        .iter()
        .map(|l| (l.shot.name(&train.items), l.portrait.rotated));
    let rejected = enrolled.rejected.iter();
    let rejected = rejected.map(|r| (r.path.clone(), r.portrait.rotated));
    let mut rotated: Vec<_> = used
        .chain(rejected)
        .filter(|&(_, degrees)| degrees > 0)
        .map(|(path, degrees)| Rotated { path, degrees })
        .collect();
    rotated.sort_by(|a, b| a.path.cmp(&b.path));
    rotated
}

fn suspicious(train: &Collection, enrolled: &Enrolled) -> Vec<Suspicion> {
    let suspicious = enrolled
        .learned
        .iter()
        .filter(|l| l.likeness.verdict == Verdict::Suspicious)
        .filter(|l| !train.items[l.shot.item].is_enrolled);
    suspicious
        .map(|l| Suspicion {
            path: l.shot.name(&train.items),
            person: train.people[train.items[l.shot.item].person].clone(),
            detail: l.likeness.detail(|person| &train.people[person]),
        })
        .collect()
}

/// The most similar pairs of people, most similar first.
pub fn nearest(train: &Collection, enrolled: &Enrolled) -> Vec<Similar> {
    let nearest = enrolled.pairs.iter().take(NEAREST);
    nearest.map(|pair| similar(train, enrolled, pair)).collect()
}

/// Converts a pair to names.
fn similar(train: &Collection, enrolled: &Enrolled, pair: &Pair) -> Similar {
    Similar {
        people: pair.people.map(|person| train.people[person].clone()),
        similarity: pair.similarity,
        photos: pair
            .samples
            .map(|sample| enrolled.learned[sample].shot.name(&train.items)),
    }
}

/// Prints the suspicious photos.
pub fn say_suspicious(out: &mut Output, suspicious: &[Suspicion]) -> Result<()> {
    if !suspicious.is_empty() {
        out.line("\nsuspicious, look at them")?;
    }
    for Suspicion { path, detail, .. } in suspicious {
        out.line(format_args!("  {}: {}", plain(path), plain(detail)))?;
    }
    Ok(())
}

/// Prints people who may be the same person.
pub fn say_alike(out: &mut Output, alike: &[Similar]) -> Result<()> {
    if !alike.is_empty() {
        out.line("\nthe same person under two names?")?;
    }
    say_pairs(out, alike)
}

/// Prints pairs of people, one per line.
pub fn say_pairs(out: &mut Output, pairs: &[Similar]) -> Result<()> {
    for pair in pairs {
        let [a, b] = [&pair.people[0], &pair.people[1]].map(|name| plain(name));
        let [first, second] = [&pair.photos[0], &pair.photos[1]].map(|path| plain(path));
        out.line(format_args!(
            "  {a} and {b}: similarity {:.2}, most in {first} and {second}",
            pair.similarity
        ))?;
    }
    Ok(())
}
