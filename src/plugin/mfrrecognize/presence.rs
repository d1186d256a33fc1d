//! The people in view, from frame to frame: the state from which messages about changes are made.

use std::time::Duration;

use gst::ClockTime;

use crate::frame::geometry::Rect;
use crate::plugin::message::{Event, FaceNews};
use crate::plugin::meta::Face;
use crate::track::matching::{Basis, Key, associate, stretched};

/// How long a face may be turned away or hidden before its person has left.
pub const LEFT_AFTER: Duration = Duration::from_secs(1);

/// Consecutive frames with another name or mask state that count as a change: a single one is noise.
const FRAMES_TO_CHANGE: u32 = 3;

/// How long a face must be without a name before its person is reported as unknown, or before a face with another id
/// in the same place counts as another person.
const NAMELESS_FOR: Duration = Duration::from_secs(1);

/// Time of a frame: a monotonic one, and the stream time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment {
    pub now: Duration,
    pub stream_time: Option<ClockTime>,
}

/// A value with hysteresis.
#[derive(Debug, Clone)]
struct Steady<T> {
    value: T,
    /// Another value, the number of consecutive frames in which it was seen, and since when.
    other: Option<(T, u32, Duration)>,
}

impl<T: PartialEq + Clone> Steady<T> {
    fn new(value: T) -> Self {
        Self { value, other: None }
    }

    /// Updates with a value; returns the previous one if the new one has replaced it, which takes `frames`
    /// consecutive frames and the time `long`.
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

/// A person in view.
#[derive(Debug, Clone)]
struct Person {
    face: Face,
    /// Number of the recogniser's track of the face, if the recogniser names it.
    track: Option<u64>,
    /// Whether an id has been seen twice, unlike those of a detector that assigns new ones in every frame.
    has_lasting_id: bool,
    seen: Duration,
    first_seen: Option<ClockTime>,
    last_seen: Option<ClockTime>,
    /// The name that was reported; None for unknown.
    label: Steady<Option<String>>,
    /// The mask state; None until it is known.
    mask: Steady<Option<String>>,
    rival: Option<Rival>,
}

/// A face with another id in the place of a person, which has not been verified yet.
#[derive(Debug, Clone, Copy)]
struct Rival {
    rect: Rect,
    since: Duration,
    first_seen: Option<ClockTime>,
}

/// How a face relates to the person in view with whom it was matched.
enum Relation {
    /// The face belongs to the person.
    Same,
    /// The face is in the place of the person with another id, and has not been verified as the same person yet.
    Perhaps,
    /// The face is in the place of the person, but belongs to another one.
    InPlaceOf,
}

/// All people in view.
#[derive(Debug, Default)]
pub struct Presence {
    people: Vec<Person>,
}

impl Presence {
    /// Updates with the faces of a frame, each with the number of the recogniser's track; returns the changes.
    ///
    /// A face belongs to the person of the same track, id or name, or else to the one who was in the same place. A
    /// face whose id and name both change is another person: the previous one has left, and none of that person's
    /// state is kept.
    pub fn update(&mut self, faces: &[(&Face, Option<u64>)], at: Moment) -> Vec<FaceNews> {
        let names: Vec<_> = faces.iter().map(|(face, _)| name_of(face)).collect();
        let keys = faces.iter().zip(&names).map(|(&(face, track), name)| Key {
            track,
            id: face.id,
            name: name.as_deref(),
            rect: face.rect,
        });
        let keys: Vec<_> = keys.collect();
        let known: Vec<_> = self.people.iter().map(Person::key).collect();
        let found = associate(&keys, &known);
        let mut news = Vec::new();
        let mut replaced = Vec::new();
        for ((&(face, track), key), found) in faces.iter().zip(&keys).zip(found) {
            let Some((index, basis)) = found else {
                self.add(Person::new(face, track, at), &mut news);
                continue;
            };
            let person = &mut self.people[index];
            match person.relation(key, basis) {
                Relation::Same => news.extend(person.see(face, track, at)),
                Relation::Perhaps if !person.is_outlasted(at.now) => person.wait(face, at),
                Relation::Perhaps | Relation::InPlaceOf => {
                    let mut new = Person::new(face, track, at);
                    if let Some(rival) = person.rival {
                        new.first_seen = rival.first_seen;
                    }
                    replaced.push(index);
                    self.add(new, &mut news);
                }
            }
        }
        let is_replaced = |index: usize| replaced.contains(&index);
        let mut left = Vec::new();
        let mut index = 0;
        self.people.retain(|person| {
            // A time before the last one is due to a seek.
            let is_gone = at.now.saturating_sub(person.seen) >= LEFT_AFTER
                || at.now + LEFT_AFTER < person.seen
                || is_replaced(index);
            if is_gone {
                left.push((is_replaced(index), person.news(Event::Left)));
            }
            index += 1;
            !is_gone
        });
        let (replaced, gone): (Vec<_>, Vec<_>) = left.into_iter().partition(|(first, _)| *first);
        let told = |(_, news)| news;
        let replaced = replaced.into_iter().map(told);
        replaced
            .chain(news)
            .chain(gone.into_iter().map(told))
            .collect()
    }

    /// Scales positions when the frame size changes by these factors of width and height.
    pub fn rescale(&mut self, scale: [f32; 2]) {
        for person in &mut self.people {
            person.face.rect = stretched(person.face.rect, scale);
            if let Some(rival) = &mut person.rival {
                rival.rect = stretched(rival.rect, scale);
            }
        }
    }

    fn add(&mut self, person: Person, news: &mut Vec<FaceNews>) {
        let event = match person.label.value {
            Some(_) => Event::Identified,
            None => Event::Appeared,
        };
        news.push(person.news(event));
        self.people.push(person);
    }

    /// Reports everybody as left when the stream has ended, or continues elsewhere.
    pub fn clear(&mut self) -> Vec<FaceNews> {
        let people = self.people.drain(..);
        people.map(|person| person.news(Event::Left)).collect()
    }
}

impl Person {
    fn new(face: &Face, track: Option<u64>, at: Moment) -> Self {
        Self {
            face: face.clone(),
            track,
            has_lasting_id: false,
            seen: at.now,
            first_seen: at.stream_time,
            last_seen: at.stream_time,
            label: Steady::new(name_of(face)),
            mask: Steady::new(mask_of(face)),
            rival: None,
        }
    }

    /// What the person's face is matched by in the next frame.
    fn key(&self) -> Key<'_> {
        Key {
            track: self.track,
            id: self.face.id,
            name: self.label.value.as_deref(),
            rect: self.rival.map_or(self.face.rect, |rival| rival.rect),
        }
    }

    fn relation(&self, face: &Key, basis: Basis) -> Relation {
        let own = self.key();
        let is_another = face.is_another_track(&own);
        let has_other_id = self.has_lasting_id && face.id > 0 && own.id > 0 && face.id != own.id;
        let is_unverified = face.track.is_none() && own.track.is_some();
        match (face.name, own.name) {
            _ if basis != Basis::Place => Relation::Same,
            (Some(_), _) if is_another => Relation::InPlaceOf,
            (Some(_), Some(_)) if has_other_id => Relation::InPlaceOf,
            (None, _) if is_another || has_other_id || is_unverified => Relation::Perhaps,
            _ => Relation::Same,
        }
    }

    /// Records a face in the place of the person that may belong to another one.
    fn wait(&mut self, face: &Face, at: Moment) {
        self.seen = at.now;
        let rival = self.rival.get_or_insert(Rival {
            rect: face.rect,
            since: at.now,
            first_seen: at.stream_time,
        });
        rival.rect = face.rect;
    }

    /// Whether a rival has been in the place for so long that it counts as another person.
    fn is_outlasted(&self, now: Duration) -> bool {
        let since = self.rival.map(|rival| rival.since);
        since.is_some_and(|since| now.saturating_sub(since) >= NAMELESS_FOR)
    }

    /// Updates with a face of the person; returns the event, if there is one.
    fn see(&mut self, face: &Face, track: Option<u64>, at: Moment) -> Option<FaceNews> {
        self.seen = at.now;
        self.last_seen = at.stream_time;
        self.track = track.or(self.track);
        self.has_lasting_id |= face.id == self.face.id;
        self.rival = None;
        let name = name_of(face);
        let (frames, long) = match (&self.label.value, &name) {
            // The first name is reported at once.
            (None, _) => (1, Duration::ZERO),
            (Some(_), Some(_)) => (FRAMES_TO_CHANGE, Duration::ZERO),
            // This includes faces that are not compared with the gallery.
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
            // A frame without a name does not remove the person's name; only position, id and mask are taken over.
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
        let tracked: Vec<_> = faces.iter().map(|face| (face, None)).collect();
        tracked_events(presence, &tracked, ms)
    }

    /// The events for faces with the numbers of their tracks.
    fn tracked_events(
        presence: &mut Presence,
        faces: &[(&Face, Option<u64>)],
        ms: u64,
    ) -> Vec<(Event, String)> {
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
        // A frame without a name, or half a second without a face, changes nothing.
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
        // An unknown face elsewhere is a new person.
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
        p.update(&[(&masked("without_mask"), None)], at(1000));
        let news: Vec<_> = (1..6)
            .flat_map(|frame| p.update(&[(&masked("with_mask"), None)], at(1000 + 40 * frame)))
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

    fn with_id(id: i32, face: Face) -> Face {
        Face { id, ..face }
    }

    /// A face that has not been compared with the gallery yet.
    fn not_compared(id: i32, x: f32) -> Face {
        Face {
            identity: None,
            ..with_id(id, face(x, None))
        }
    }

    #[test]
    fn an_id_that_changes_together_with_the_name_is_another_person() {
        let mut p = Presence::default();
        let ana = with_id(1, face(0.0, Some("Ana")));
        let bo = with_id(2, face(0.0, Some("Bo")));
        for ms in [0, 40] {
            tracked_events(&mut p, &[(&ana, Some(1))], ms);
        }
        // The first frames show another person who has not been embedded yet.
        let next = not_compared(2, 0.0);
        for ms in [80, 120] {
            assert_eq!(tracked_events(&mut p, &[(&next, None)], ms), []);
        }
        let news = p.update(&[(&bo, Some(2))], at(160));
        let [left, identified] = news.as_slice() else {
            panic!("{news:?}")
        };
        assert_eq!((left.event, &*left.label), (Some(Event::Left), "Ana"));
        assert_eq!(left.last_seen, Some(ClockTime::from_mseconds(40)));
        let event = (identified.event, &*identified.label);
        assert_eq!(event, (Some(Event::Identified), "Bo"));
        assert_eq!(identified.first_seen, Some(ClockTime::from_mseconds(80)));
        assert_eq!(identified.previous_label, None);
    }

    #[test]
    fn names_of_another_element_and_lasting_ids_tell_people_apart_as_well() {
        let mut p = Presence::default();
        for ms in [0, 40] {
            events(&mut p, &[with_id(1, face(0.0, Some("Ana")))], ms);
        }
        let [left, identified] = [(Event::Left, "Ana"), (Event::Identified, "Bo")];
        let expected = [left, identified].map(|(event, name)| (event, name.to_owned()));
        let bo = with_id(2, face(0.0, Some("Bo")));
        assert_eq!(events(&mut p, &[bo], 80), expected);
    }

    #[test]
    fn another_id_of_the_same_person_is_no_news() {
        let mut p = Presence::default();
        let ana = |id| with_id(id, face(0.0, Some("Ana")));
        for ms in [0, 40] {
            tracked_events(&mut p, &[(&ana(1), Some(1))], ms);
        }
        // The recogniser has verified the new id by an embedding and kept the track.
        assert_eq!(tracked_events(&mut p, &[(&ana(2), Some(1))], 80), []);
        // A new track soon gets the same name.
        let next = with_id(3, face(0.0, None));
        for ms in [120, 160] {
            assert_eq!(tracked_events(&mut p, &[(&next, Some(2))], ms), []);
        }
        assert_eq!(tracked_events(&mut p, &[(&ana(3), Some(2))], 200), []);
        // The id changes in every frame.
        for (id, ms) in (4..40).zip((240..).step_by(40)) {
            assert_eq!(tracked_events(&mut p, &[(&ana(id), Some(2))], ms), []);
        }
    }

    #[test]
    fn people_who_change_places_stay() {
        for has_ids in [true, false] {
            let mut p = Presence::default();
            let faces = |left: (u64, Option<&str>), right: (u64, Option<&str>)| {
                [(0.0, left), (400.0, right)].map(|(x, (track, name))| {
                    let id = if has_ids { track as i32 } else { 0 };
                    (with_id(id, face(x, name)), Some(track))
                })
            };
            let mut events = |faces: [(Face, Option<u64>); 2], ms| {
                let faces: Vec<_> = faces.iter().map(|(face, track)| (face, *track)).collect();
                tracked_events(&mut p, &faces, ms)
            };
            let (ana, bo) = (Some("Ana"), Some("Bo"));
            assert_eq!(events(faces((1, ana), (2, bo)), 0).len(), 2);
            assert_eq!(events(faces((1, ana), (2, bo)), 40), []);
            // Embeddings in both places have changed, which starts new tracks.
            assert_eq!(events(faces((3, bo), (4, ana)), 80), []);
            assert_eq!(events(faces((3, bo), (4, ana)), 120), []);
        }
    }

    #[test]
    fn a_stranger_in_the_place_of_a_person_is_told_of_after_a_second() {
        let mut p = Presence::default();
        for ms in [0, 40] {
            let ana = with_id(1, face(0.0, Some("Ana")));
            tracked_events(&mut p, &[(&ana, Some(1))], ms);
        }
        let stranger = with_id(2, face(0.0, None));
        for ms in (80..1080).step_by(40) {
            assert_eq!(
                tracked_events(&mut p, &[(&stranger, Some(2))], ms),
                [],
                "{ms}"
            );
        }
        let expected = [(Event::Left, "Ana"), (Event::Appeared, "unknown")];
        let expected = expected.map(|(event, name)| (event, name.to_owned()));
        assert_eq!(
            tracked_events(&mut p, &[(&stranger, Some(2))], 1080),
            expected
        );
    }
}
