//! Association of the faces of a frame with those of the frames before it: by track, id, name, place and embedding.
//!
//! Tracker, people and presence match by these rules alone; the overlay is told by the id which face is which.

use std::time::Duration;

pub(crate) use crate::detect::SAME_PLACE;
use crate::frame::geometry::Rect;

/// How long a face may be lost before its embeddings are forgotten. A person who comes back with the same id is known at
/// once until then.
pub const FORGOTTEN_AFTER: Duration = Duration::from_millis(2500);

/// Least cosine between an embedding and the average of a track for both to be one person: with the same mask state, and
/// across a mask.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Likeness {
    pub same_mask: f32,
    pub across: f32,
}

/// For a face with another id in the same place: neighbouring frames of one clear face have .8 and more, two people hardly
/// ever .4.
pub const LIKE_WITH_ANOTHER_ID: Likeness = Likeness {
    same_mask: 0.5,
    across: 0.35,
};

/// For a face that kept its id: blurred or turned away, a face may be hardly similar to itself.
pub const LIKE_WITH_THE_SAME_ID: Likeness = Likeness {
    same_mask: 0.3,
    across: 0.3,
};

impl Likeness {
    /// Whether both are one person, by the cosines to the averages with the same mask state and with the other one; None where
    /// there is no average. Without any there is nothing to doubt.
    pub fn accepts(self, same_mask: Option<f32>, across: Option<f32>) -> bool {
        let by_same = same_mask.map(|cosine| cosine >= self.same_mask);
        by_same
            .or_else(|| across.map(|cosine| cosine >= self.across))
            .unwrap_or(true)
    }
}

/// What a face is matched by.
#[derive(Debug, Clone, Copy, Default)]
pub struct Key<'a> {
    /// Number of the recogniser's track, which embeddings have verified.
    pub track: Option<u64>,
    /// The id in the stream; 0 where there is none.
    pub id: i32,
    /// None for unknown.
    pub name: Option<&'a str>,
    pub rect: Rect,
}

/// By what two faces were matched, the surest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    Track,
    Id,
    Name,
    /// One of them is in the place of the other, or has its id although embeddings and names tell them apart: they may be two
    /// people.
    Place,
}

impl Key<'_> {
    /// Whether embeddings have verified that these are two people.
    pub fn is_another_track(&self, other: &Self) -> bool {
        let both = self.track.zip(other.track);
        both.is_some_and(|(a, b)| a != b)
    }

    fn has_same_id(&self, other: &Self) -> bool {
        self.id > 0 && self.id == other.id
    }

    fn matches_by(&self, known: &Self, basis: Basis) -> bool {
        match basis {
            Basis::Track => self.track.is_some() && self.track == known.track,
            // An id that two people had one after the other.
            Basis::Id => {
                let is_contradicted =
                    self.is_another_track(known) && self.name.is_some() && self.name != known.name;
                self.has_same_id(known) && !is_contradicted
            }
            Basis::Name => self.name.is_some() && self.name == known.name,
            Basis::Place => self.has_same_id(known),
        }
    }
}

/// The index of the known face that each face of a frame belongs to, and by what. What is surer goes first for all faces, so
/// that none takes the place of a face that another one is known to be.
pub fn associate(faces: &[Key], known: &[Key]) -> Vec<Option<(usize, Basis)>> {
    let mut found = vec![None; faces.len()];
    let mut is_free = vec![true; known.len()];
    for basis in [Basis::Track, Basis::Id, Basis::Name, Basis::Place] {
        for (face, found) in faces.iter().zip(&mut found) {
            if found.is_some() {
                continue;
            }
            let matching =
                (0..known.len()).find(|&i| is_free[i] && face.matches_by(&known[i], basis));
            if let Some(index) = matching {
                is_free[index] = false;
                *found = Some((index, basis));
            }
        }
    }
    let overlaps = pairs(faces.len(), known.len(), |face, index| {
        let is_open = found[face].is_none() && is_free[index];
        is_open
            .then(|| faces[face].rect.iou(&known[index].rect))
            .filter(|overlap| *overlap >= SAME_PLACE)
    });
    for (face, index) in assign(&overlaps) {
        found[face] = Some((index, Basis::Place));
    }
    found
}

/// A pair for [`assign`]: how well both match, and their indices.
pub type Pair = (f32, usize, usize);

/// All pairs of two lists that may match.
pub fn pairs(
    left: usize,
    right: usize,
    likeness: impl Fn(usize, usize) -> Option<f32>,
) -> Vec<Pair> {
    (0..left)
        .flat_map(|a| (0..right).map(move |b| (a, b)))
        .filter_map(|(a, b)| Some((likeness(a, b)?, a, b)))
        .collect()
}

/// Greedy assignment: the pairs that match best, each index in one of them at most.
pub fn assign(pairs: &[Pair]) -> Vec<(usize, usize)> {
    let mut sorted = pairs.to_vec();
    sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut assigned: Vec<(usize, usize)> = Vec::new();
    for (_, a, b) in sorted {
        if assigned
            .iter()
            .all(|&(left, right)| left != a && right != b)
        {
            assigned.push((a, b));
        }
    }
    assigned
}

/// A box in a picture that was made wider and higher by these factors.
pub fn stretched(rect: Rect, [x, y]: [f32; 2]) -> Rect {
    Rect::new(rect.x * x, rect.y * y, rect.width * x, rect.height * y)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(x: f32) -> Key<'static> {
        Key {
            rect: Rect::new(x, 0.0, 100.0, 100.0),
            ..Key::default()
        }
    }

    #[test]
    fn the_box_that_overlaps_most_is_in_the_same_place() {
        let known = [-60.0, 20.0, 10.0, 200.0].map(at);
        let found = |x| associate(&[at(x)], &known)[0].map(|(index, _)| index);
        assert_eq!(found(0.0), Some(2));
        assert_eq!(found(200.0), Some(3));
        // Half of each box is a third of both.
        assert_eq!(found(250.0), Some(3));
        assert_eq!(found(260.0), None);
    }

    #[test]
    fn places_go_to_the_pairs_that_overlap_most_in_any_order() {
        let known = [at(0.0), at(100.0)];
        let mut faces = [at(45.0), at(10.0)];
        let expected = [None, Some((0, Basis::Place))];
        assert_eq!(associate(&faces, &known), expected);
        faces.reverse();
        assert_eq!(associate(&faces, &known), [expected[1], expected[0]]);
    }

    #[test]
    fn what_is_surer_goes_before_the_place_of_an_earlier_face() {
        let known = [
            Key { id: 1, ..at(0.0) },
            Key {
                name: Some("Bo"),
                ..at(300.0)
            },
        ];
        // Both faces are in the place of another one, which the second face is known to be.
        let faces = [
            Key { id: 7, ..at(0.0) },
            Key { id: 1, ..at(300.0) },
            Key {
                name: Some("Bo"),
                ..at(600.0)
            },
        ];
        let expected = [None, Some((0, Basis::Id)), Some((1, Basis::Name))];
        assert_eq!(associate(&faces, &known), expected);
    }

    #[test]
    fn an_id_with_another_track_and_name_is_a_match_by_place_only() {
        let ana = Key {
            track: Some(1),
            id: 5,
            name: Some("Ana"),
            ..at(0.0)
        };
        let bo = Key {
            track: Some(2),
            name: Some("Bo"),
            ..ana
        };
        let elsewhere = Key { id: 0, ..at(900.0) };
        let found = |face, known: &[Key]| associate(&[face], known)[0];
        assert_eq!(found(bo, &[ana]), Some((0, Basis::Place)));
        // His own track is found before.
        let moved = Key {
            rect: elsewhere.rect,
            ..bo
        };
        assert_eq!(found(bo, &[ana, moved]), Some((1, Basis::Track)));
        // Without a name the id decides.
        let nameless = Key { name: None, ..bo };
        assert_eq!(found(nameless, &[ana]), Some((0, Basis::Id)));
    }

    #[test]
    fn faces_without_an_id_are_not_matched_by_it() {
        let far = [at(500.0)];
        assert_eq!(associate(&[at(0.0)], &far), [None]);
        let negative = Key { id: -3, ..at(0.0) };
        let known = Key {
            id: -3,
            ..at(500.0)
        };
        assert_eq!(associate(&[negative], &[known]), [None]);
    }

    #[test]
    fn without_an_average_of_the_same_mask_state_the_other_one_decides() {
        let like = LIKE_WITH_ANOTHER_ID;
        assert!(like.accepts(Some(0.5), Some(0.0)));
        assert!(!like.accepts(Some(0.49), Some(0.9)));
        assert!(like.accepts(None, Some(0.35)));
        assert!(!like.accepts(None, Some(0.34)));
        assert!(like.accepts(None, None));
    }
}
