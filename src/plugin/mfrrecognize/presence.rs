//! Who is in the picture, from frame to frame: what the messages about changes are made from.

use crate::geometry::Rect;
use crate::plugin::meta::Face;

/// What has happened to somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A face is there that nobody in the picture accounts for, and it is not known.
    Appeared,
    /// A face has got a name for the first time.
    Identified,
    /// A face that had a name has another one.
    Changed,
    /// Somebody has not been seen for [`GONE_AFTER`].
    Left,
}

impl Event {
    pub fn name(self) -> &'static str {
        match self {
            Self::Appeared => "appeared",
            Self::Identified => "identified",
            Self::Changed => "changed",
            Self::Left => "left",
        }
    }
}

/// How long a face may be turned away or hidden before somebody counts as gone.
pub const GONE_AFTER: gst::ClockTime = gst::ClockTime::from_seconds(1);

/// Frames in a row that a new name must be seen in before it replaces another: one frame of a
/// wrong name is a slip, not a change.
const FRAMES_TO_CHANGE: u32 = 3;

/// Least overlap of the boxes of one face in two frames.
const SAME_FACE: f32 = 0.3;

/// Somebody in the picture.
#[derive(Debug, Clone)]
struct Person {
    face: Face,
    last_seen: gst::ClockTime,
    /// The name that was reported; None while unknown.
    label: Option<String>,
    /// Another name that is being seen, and for how many frames.
    candidate: Option<(String, u32)>,
}

/// Everybody in the picture.
#[derive(Debug, Default)]
pub struct Presence {
    people: Vec<Person>,
}

impl Presence {
    /// Takes in the faces of a frame; tells what has changed and whom it is about. `now` is a time
    /// that does not run backwards within a stream.
    pub fn update(&mut self, faces: &[Face], now: gst::ClockTime) -> Vec<(Event, Face)> {
        let mut events = Vec::new();
        let mut taken = vec![false; self.people.len()];
        for face in faces {
            match self.find(face, &taken) {
                Some(index) => {
                    taken[index] = true;
                    events.extend(self.people[index].see(face, now));
                }
                None => {
                    let label = name_of(face);
                    let event = match label {
                        Some(_) => Event::Identified,
                        None => Event::Appeared,
                    };
                    events.push((event, face.clone()));
                    self.people.push(Person {
                        face: face.clone(),
                        last_seen: now,
                        label,
                        candidate: None,
                    });
                    taken.push(true);
                }
            }
        }
        self.people.retain(|person| {
            // A time before the last one: the stream has been seeked.
            let gone = now.saturating_sub(person.last_seen) >= GONE_AFTER
                || now + GONE_AFTER < person.last_seen;
            if gone {
                events.push((Event::Left, person.face.clone()));
            }
            !gone
        });
        events
    }

    /// Everybody leaves: the stream has ended.
    pub fn clear(&mut self) -> Vec<(Event, Face)> {
        self.people
            .drain(..)
            .map(|person| (Event::Left, person.face))
            .collect()
    }

    /// The person that a face belongs to: the same track, the same name, or the same place.
    fn find(&self, face: &Face, taken: &[bool]) -> Option<usize> {
        let name = name_of(face);
        let free = || (0..self.people.len()).filter(|&i| !taken[i]);
        let by_id = || free().find(|&i| face.id > 0 && self.people[i].face.id == face.id);
        let by_name = || free().find(|&i| name.is_some() && self.people[i].label == name);
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
    /// Sees the person again; the event, if it is one.
    fn see(&mut self, face: &Face, now: gst::ClockTime) -> Option<(Event, Face)> {
        self.last_seen = now;
        let name = name_of(face);
        let place: Rect = face.rect;
        // A frame without a name takes nobody's name away; of the face before, the place is new.
        if name.is_none() || name == self.label {
            if name == self.label {
                self.face = face.clone();
                self.candidate = None;
            } else {
                self.face.rect = place;
                self.face.id = face.id;
            }
            return None;
        }
        let seen = match &self.candidate {
            Some((candidate, seen)) if Some(candidate) == name.as_ref() => seen + 1,
            _ => 1,
        };
        self.face.rect = place;
        self.face.id = face.id;
        if self.label.is_some() && seen < FRAMES_TO_CHANGE {
            self.candidate = name.map(|n| (n, seen));
            return None;
        }
        let event = match self.label {
            None => Event::Identified,
            Some(_) => Event::Changed,
        };
        self.face = face.clone();
        self.label = name;
        self.candidate = None;
        Some((event, face.clone()))
    }
}

fn name_of(face: &Face) -> Option<String> {
    let identity = face.identity.as_ref().filter(|i| i.is_known())?;
    Some(identity.label.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::meta::Identity;

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

    fn ms(ms: u64) -> gst::ClockTime {
        gst::ClockTime::from_mseconds(ms)
    }

    fn events(presence: &mut Presence, faces: &[Face], at: u64) -> Vec<(Event, String)> {
        presence
            .update(faces, ms(at))
            .into_iter()
            .map(|(e, f)| (e, f.identity.map(|i| i.label).unwrap_or_default()))
            .collect()
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
}
