//! Who is in the picture, from frame to frame: what the messages about changes are made from.

use std::time::Duration;

use gst::ClockTime;

use crate::plugin::message::{Event, FaceNews};
use crate::plugin::meta::Face;

/// How long a face may be turned away or hidden before somebody counts as gone.
pub const GONE_AFTER: Duration = Duration::from_secs(1);

/// Frames in a row that a new name or mask state must be seen in before it replaces another: one frame of
/// a wrong one is a slip, not a change.
const FRAMES_TO_CHANGE: u32 = 3;

/// How long a face must be nobody's before its name is taken back.
const NAMELESS_FOR: Duration = Duration::from_secs(1);

/// Least overlap of the boxes of one face in two frames.
const SAME_FACE: f32 = 0.3;

/// When a frame is: a time that does not run backwards, and the position in the stream.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment {
    pub now: Duration,
    pub stream_time: Option<ClockTime>,
}

/// A state that may be about to change.
#[derive(Debug, Clone)]
struct Steady<T> {
    value: T,
    /// What is seen instead, in how many frames in a row, and since when.
    other: Option<(T, u32, Duration)>,
}

impl<T: PartialEq + Clone> Steady<T> {
    fn new(value: T) -> Self {
        Self { value, other: None }
    }

    /// Sees a value; gives the one before if this one has replaced it, once it was seen in `frames` frames and
    /// for `long`.
    fn see(&mut self, value: T, now: Duration, frames: u32, long: Duration) -> Option<T> {
        if value == self.value {
            self.other = None;
            return None;
        }
        let (seen, since) = match &self.other {
            Some((other, seen, since)) if *other == value => (seen + 1, *since),
            _ => (1, now),
        };
        if seen >= frames && now.saturating_sub(since) >= long {
            self.other = None;
            return Some(std::mem::replace(&mut self.value, value));
        }
        self.other = Some((value, seen, since));
        None
    }
}

/// Somebody in the picture.
#[derive(Debug, Clone)]
struct Person {
    face: Face,
    seen: Duration,
    first_seen: Option<ClockTime>,
    last_seen: Option<ClockTime>,
    /// The name that was reported; None while unknown.
    label: Steady<Option<String>>,
    /// The mask state, once it is known.
    mask: Steady<Option<String>>,
}

/// Everybody in the picture.
#[derive(Debug, Default)]
pub struct Presence {
    people: Vec<Person>,
}

impl Presence {
    /// Takes in the faces of a frame; tells what has changed.
    pub fn update(&mut self, faces: &[Face], at: Moment) -> Vec<FaceNews> {
        let mut news = Vec::new();
        let mut taken = vec![false; self.people.len()];
        for face in faces {
            match self.find(face, &taken) {
                Some(index) => {
                    taken[index] = true;
                    news.extend(self.people[index].see(face, at));
                }
                None => {
                    let person = Person::new(face, at);
                    let event = match person.label.value {
                        Some(_) => Event::Identified,
                        None => Event::Appeared,
                    };
                    news.push(person.news(event));
                    self.people.push(person);
                    taken.push(true);
                }
            }
        }
        self.people.retain(|person| {
            // A time before the last one: the stream has been seeked.
            let gone = at.now.saturating_sub(person.seen) >= GONE_AFTER
                || at.now + GONE_AFTER < person.seen;
            if gone {
                news.push(person.news(Event::Left));
            }
            !gone
        });
        news
    }

    /// Everybody leaves: the stream has ended, or goes on elsewhere.
    pub fn clear(&mut self) -> Vec<FaceNews> {
        let people = self.people.drain(..);
        people.map(|person| person.news(Event::Left)).collect()
    }

    /// The person that a face belongs to: the same track, the same name, or the same place.
    fn find(&self, face: &Face, taken: &[bool]) -> Option<usize> {
        let name = name_of(face);
        let free = || (0..self.people.len()).filter(|&i| !taken[i]);
        let by_id = || free().find(|&i| face.id > 0 && self.people[i].face.id == face.id);
        let by_name = || free().find(|&i| name.is_some() && self.people[i].label.value == name);
        let by_place = || {
            let overlap = |i: usize| self.people[i].face.rect.iou(&face.rect);
            free()
                .filter(|&i| overlap(i) >= SAME_FACE)
                .max_by(|&a, &b| overlap(a).total_cmp(&overlap(b)))
        };
        by_id().or_else(by_name).or_else(by_place)
    }
}

impl Person {
    fn new(face: &Face, at: Moment) -> Self {
        Self {
            face: face.clone(),
            seen: at.now,
            first_seen: at.stream_time,
            last_seen: at.stream_time,
            label: Steady::new(name_of(face)),
            mask: Steady::new(mask_of(face)),
        }
    }

    /// Sees the person again; the news, if there are any.
    fn see(&mut self, face: &Face, at: Moment) -> Option<FaceNews> {
        self.seen = at.now;
        self.last_seen = at.stream_time;
        let name = name_of(face);
        let (frames, long) = match (&self.label.value, &name) {
            // The first name is news at once.
            (None, _) => (1, Duration::ZERO),
            (Some(_), Some(_)) => (FRAMES_TO_CHANGE, Duration::ZERO),
            // Also while the face is not compared with anybody.
            (Some(_), None) => (FRAMES_TO_CHANGE, NAMELESS_FOR),
        };
        let is_named_alike = name == self.label.value;
        let label = self.label.see(name, at.now, frames, long);
        let mask = match mask_of(face) {
            None => None,
            state if self.mask.value.is_none() => {
                self.mask = Steady::new(state);
                None
            }
            state => self
                .mask
                .see(state, at.now, FRAMES_TO_CHANGE, Duration::ZERO),
        };
        if is_named_alike || label.is_some() {
            self.face = face.clone();
        } else {
            // A frame without a name takes nobody's name away; of the face before, the place is new.
            self.face.rect = face.rect;
            self.face.id = face.id;
            self.face.mask.clone_from(&face.mask);
        }
        let event = match &label {
            Some(None) => Event::Identified,
            Some(Some(_)) => Event::Changed,
            None if mask.is_some() => Event::Changed,
            None => return None,
        };
        Some(FaceNews {
            previous_label: label.flatten(),
            previous_mask: mask.flatten(),
            ..self.news(event)
        })
    }

    fn news(&self, event: Event) -> FaceNews {
        FaceNews {
            event: Some(event),
            first_seen: self.first_seen,
            last_seen: self.last_seen,
            ..FaceNews::from(&self.face)
        }
    }
}

fn name_of(face: &Face) -> Option<String> {
    let identity = face.identity.as_ref().filter(|i| i.is_known())?;
    Some(identity.label.clone())
}

fn mask_of(face: &Face) -> Option<String> {
    face.mask.as_ref().map(|mask| mask.label.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Rect;
    use crate::plugin::meta::{Identity, Mask};

    fn face(x: f32, name: Option<&str>) -> Face {
        Face {
            id: 0,
            rect: Rect::new(x, 0.0, 100.0, 100.0),
            confidence: Some(0.9),
            landmarks: None,
            identity: Some(Identity {
                label: name.unwrap_or("unknown").into(),
                label_id: if name.is_some() { 1 } else { -1 },
                confidence: 0.9,
                similarity: 0.8,
                model_name: String::new(),
                model_version: String::new(),
                gallery: String::new(),
                frames_ago: 0,
            }),
            mask: None,
        }
    }

    fn at(ms: u64) -> Moment {
        Moment {
            now: Duration::from_millis(ms),
            stream_time: Some(ClockTime::from_mseconds(ms)),
        }
    }

    fn events(presence: &mut Presence, faces: &[Face], ms: u64) -> Vec<(Event, String)> {
        let news = presence.update(faces, at(ms)).into_iter();
        news.map(|n| (n.event.unwrap(), n.label)).collect()
    }

    #[test]
    fn somebody_appears_is_identified_and_leaves_once_each() {
        let mut p = Presence::default();
        let unknown = |e| vec![(e, "unknown".to_owned())];
        let ana = |e| vec![(e, "Ana".to_owned())];
        assert_eq!(
            events(&mut p, &[face(0.0, None)], 0),
            unknown(Event::Appeared)
        );
        assert_eq!(events(&mut p, &[face(5.0, None)], 40), []);
        assert_eq!(
            events(&mut p, &[face(9.0, Some("Ana"))], 80),
            ana(Event::Identified)
        );
        // A frame without a name, and half a second without a face, change nothing.
        assert_eq!(events(&mut p, &[face(9.0, None)], 120), []);
        assert_eq!(events(&mut p, &[], 600), []);
        assert_eq!(events(&mut p, &[face(9.0, Some("Ana"))], 640), []);
        assert_eq!(events(&mut p, &[], 1639), []);
        assert_eq!(events(&mut p, &[], 1640), ana(Event::Left));
        assert_eq!(events(&mut p, &[], 9000), []);
    }

    #[test]
    fn another_name_counts_after_three_frames() {
        let mut p = Presence::default();
        events(&mut p, &[face(0.0, Some("Ana"))], 0);
        assert_eq!(events(&mut p, &[face(0.0, Some("Bo"))], 40), []);
        assert_eq!(events(&mut p, &[face(0.0, Some("Ana"))], 80), []);
        assert_eq!(events(&mut p, &[face(0.0, Some("Bo"))], 120), []);
        assert_eq!(events(&mut p, &[face(0.0, Some("Bo"))], 160), []);
        let changed = vec![(Event::Changed, "Bo".to_owned())];
        assert_eq!(events(&mut p, &[face(0.0, Some("Bo"))], 200), changed);
    }

    #[test]
    fn a_person_who_moves_far_is_known_by_name() {
        let mut p = Presence::default();
        events(&mut p, &[face(0.0, Some("Ana"))], 0);
        assert_eq!(events(&mut p, &[face(900.0, Some("Ana"))], 40), []);
        // An unknown face elsewhere is somebody new.
        let appeared = vec![(Event::Appeared, "unknown".to_owned())];
        assert_eq!(
            events(&mut p, &[face(900.0, Some("Ana")), face(0.0, None)], 80),
            appeared
        );
    }

    #[test]
    fn the_end_of_the_stream_and_a_seek_back_make_everybody_leave() {
        let mut p = Presence::default();
        events(&mut p, &[face(0.0, Some("Ana")), face(300.0, None)], 5000);
        assert_eq!(p.clear().len(), 2);
        events(&mut p, &[face(0.0, Some("Ana"))], 5000);
        assert_eq!(events(&mut p, &[], 0), [(Event::Left, "Ana".to_owned())]);
    }

    #[test]
    fn a_mask_put_on_is_news_that_tell_the_times() {
        let mut p = Presence::default();
        let masked = |label: &str| Face {
            mask: Some(Mask {
                label: label.into(),
                confidence: 0.9,
                model_name: String::new(),
            }),
            ..face(0.0, Some("Ana"))
        };
        p.update(&[masked("without_mask")], at(1000));
        let news: Vec<_> = (1..6)
            .flat_map(|frame| p.update(&[masked("with_mask")], at(1000 + 40 * frame)))
            .collect();
        let [changed] = news.as_slice() else {
            panic!("{news:?}")
        };
        assert_eq!(changed.event, Some(Event::Changed));
        assert_eq!(changed.label, "Ana");
        assert_eq!(changed.previous_label, None);
        assert_eq!(changed.previous_mask.as_deref(), Some("without_mask"));
        assert_eq!(changed.first_seen, Some(ClockTime::from_mseconds(1000)));
        assert_eq!(changed.last_seen, Some(ClockTime::from_mseconds(1120)));
    }

    #[test]
    fn a_name_is_taken_back_after_a_second_without_it() {
        let mut p = Presence::default();
        events(&mut p, &[face(0.0, Some("Ana"))], 0);
        for ms in (40..=1000).step_by(40) {
            assert_eq!(events(&mut p, &[face(0.0, None)], ms), [], "{ms}");
        }
        let nobody = vec![(Event::Changed, "unknown".to_owned())];
        assert_eq!(events(&mut p, &[face(0.0, None)], 1040), nobody);
    }
}
