use super::*;
use crate::frame::geometry::Point;
use crate::gallery::{Contract, Entry, Kind};

const HERE: Rect = Rect::new(0.0, 0.0, 100.0, 100.0);
const THERE: Rect = Rect::new(500.0, 0.0, 100.0, 100.0);

const ANA: [f32; 4] = [1.0, 0.0, 0.0, 0.0];
const BO: [f32; 4] = [0.0, 1.0, 0.0, 0.0];
const NOBODY: [f32; 4] = [0.0, 0.0, 0.0, 1.0];

fn gallery() -> Gallery {
    let entry = |(name, embedding): (&str, [f32; 4])| Entry {
        name: name.into(),
        embedding: ndarray::arr1(&embedding),
        source: format!("{name}.jpg"),
        kind: Kind::Photo,
    };
    let contract = Contract::new(&"ab".repeat(32), 4);
    let entries = [("Ana", ANA), ("Bo", BO)].map(entry).into();
    Gallery::train(entries, contract).unwrap()
}

/// Like `a` with a cosine, and otherwise like nobody.
fn like(a: [f32; 4], cosine: f32) -> [f32; 4] {
    let mut v = a.map(|x| x * cosine);
    v[3] += (1.0 - cosine * cosine).sqrt();
    v
}

struct Stream {
    people: People,
    gallery: Gallery,
    threshold: Option<f32>,
    ms: u64,
    embedded: usize,
}

/// A face: its number, place, embedding and the log-odds of a mask.
type Shown = (i32, Rect, [f32; 4], f32);

impl Stream {
    fn new() -> Self {
        Self {
            people: People::default(),
            gallery: gallery(),
            threshold: Some(0.6),
            ms: 0,
            embedded: 0,
        }
    }

    /// One frame, 40 ms after the one before: the names of the faces.
    fn frame(&mut self, policy: ReembedPolicy, faces: &[Shown]) -> Vec<Option<Option<usize>>> {
        self.ms += 40;
        let observations: Vec<_> = faces
            .iter()
            .map(|&(id, rect, ..)| Observation {
                id,
                rect,
                quality: 1.0,
            })
            .collect();
        self.people.begin(
            &observations,
            Duration::from_millis(self.ms),
            Duration::from_millis(40),
        );
        for face in self.people.due_for_mask_check(policy) {
            self.people
                .observe_mask(face, Mask::from_log_odds(faces[face].3));
        }
        for face in self.people.to_embed(policy) {
            let embedding = ndarray::arr1(&faces[face].2);
            self.people.add_embedding(face, embedding.view());
            self.embedded += 1;
        }
        let answers = self.people.answers(&self.gallery, self.threshold);
        answers.into_iter().map(|a| a.map(|a| a.label)).collect()
    }

    /// So many frames of one face: how many named it so.
    fn frames(
        &mut self,
        policy: ReembedPolicy,
        count: usize,
        face: Shown,
        label: Option<usize>,
    ) -> usize {
        (0..count)
            .filter(|_| self.frame(policy, &[face]) == [Some(label)])
            .count()
    }
}

const EVERY: ReembedPolicy = ReembedPolicy::Frames(1);

#[test]
fn evidence_of_noisy_frames_adds_up() {
    let mut stream = Stream::new();
    stream.threshold = Some(0.85);
    // Each frame is off in another direction: a single one, .8 like her, does not reach the threshold.
    let noisy = |frame: usize| {
        let mut v = ANA.map(|x| x * 0.8);
        v[2 + frame % 2] = if frame % 4 < 2 { 0.6 } else { -0.6 };
        v
    };
    let named: Vec<_> = (0..20)
        .map(|frame| stream.frame(EVERY, &[(1, HERE, noisy(frame), -5.0)])[0])
        .collect();
    assert_eq!(named[0], Some(None));
    assert!(named[4..].iter().all(|n| *n == Some(Some(0))), "{named:?}");
}

#[test]
fn a_face_that_is_known_is_hardly_ever_embedded_and_keeps_its_name() {
    let mut stream = Stream::new();
    let ana = (1, HERE, ANA, -5.0);
    assert_eq!(
        stream.frames(ReembedPolicy::Adaptive, 100, ana, Some(0)),
        100
    );
    // 4 s: three at first, then one a second.
    assert!((5..9).contains(&stream.embedded), "{}", stream.embedded);
    let mut stream = Stream::new();
    stream.frames(ReembedPolicy::Frames(10), 100, ana, Some(0));
    assert_eq!(stream.embedded, 10);
    let mut stream = Stream::new();
    assert_eq!(stream.frames(ReembedPolicy::Once, 100, ana, Some(0)), 100);
    assert_eq!(stream.embedded, 1);
}

#[test]
fn a_stranger_is_looked_at_ever_more_seldom_but_every_three_seconds() {
    let mut stream = Stream::new();
    let stranger = (1, HERE, NOBODY, -5.0);
    // A minute, ten, and one more.
    let embedded = [1500, 15_000, 1500].map(|frames| {
        let before = stream.embedded;
        stream.frames(ReembedPolicy::Adaptive, frames, stranger, None);
        stream.embedded - before
    });
    assert!((19..40).contains(&embedded[0]), "{embedded:?}");
    assert!((18..21).contains(&embedded[2]), "{embedded:?}");
}

#[test]
fn a_name_outlives_a_mask_that_is_put_on_and_faint_frames() {
    let mut stream = Stream::new();
    stream.frames(ReembedPolicy::Adaptive, 20, (1, HERE, ANA, -5.0), Some(0));
    let masked = (1, HERE, like(ANA, 0.55), 5.0);
    assert_eq!(
        stream.frames(ReembedPolicy::Adaptive, 50, masked, Some(0)),
        50
    );
    // One who comes like this has no name.
    let mut stream = Stream::new();
    assert_eq!(
        stream.frames(ReembedPolicy::Adaptive, 50, masked, Some(0)),
        0
    );
}

#[test]
fn a_name_is_revised_when_somebody_else_has_come() {
    let mut stream = Stream::new();
    stream.frames(ReembedPolicy::Adaptive, 20, (1, HERE, ANA, -5.0), Some(0));
    let bo = stream.frames(ReembedPolicy::Adaptive, 75, (1, HERE, BO, -5.0), Some(1));
    // Within a second and two embeddings.
    assert!(bo >= 45, "{bo}");
    let nobody = stream.frames(ReembedPolicy::Adaptive, 75, (1, HERE, NOBODY, -5.0), None);
    assert!(nobody >= 45, "{nobody}");
}

#[test]
fn another_number_in_the_same_place_is_the_same_face_if_it_looks_like_it() {
    let mut stream = Stream::new();
    stream.frames(ReembedPolicy::Adaptive, 20, (1, HERE, ANA, -5.0), Some(0));
    let before = stream.embedded;
    stream.frame(ReembedPolicy::Adaptive, &[(2, HERE, like(ANA, 0.6), -5.0)]);
    assert_eq!(stream.embedded, before + 1);
    assert_eq!(
        stream.frame(ReembedPolicy::Adaptive, &[(2, HERE, ANA, -5.0)]),
        [Some(Some(0))]
    );
    assert_eq!(
        stream.frame(ReembedPolicy::Adaptive, &[(3, HERE, BO, -5.0)]),
        [Some(Some(1))]
    );
}

#[test]
fn nobody_is_in_a_frame_twice_and_who_had_the_name_keeps_it() {
    let mut stream = Stream::new();
    let her = (1, HERE, like(ANA, 0.9), -5.0);
    stream.frames(EVERY, 5, her, Some(0));
    let twin = (2, THERE, like(ANA, 0.91), -5.0);
    for _ in 0..10 {
        let names = stream.frame(EVERY, &[twin, her]);
        assert_eq!(names, [Some(None), Some(Some(0))]);
    }
}

#[test]
fn a_single_frame_names_only_who_is_clearly_meant() {
    // Without statistics and with two people, similarity is the cosine.
    let threshold = gallery().threshold(false);
    for (more, named) in [(0.12, [true; 3]), (0.03, [false, false, true])] {
        let mut stream = Stream::new();
        stream.threshold = None;
        let face = (1, HERE, like(ANA, threshold + more), -5.0);
        let names = [0; 3].map(|_| stream.frame(EVERY, &[face]) == [Some(Some(0))]);
        assert_eq!(names, named, "{more} more than {threshold}");
    }
}

#[test]
fn a_mask_put_on_counts_within_half_a_second_and_a_single_frame_never() {
    let mut stream = Stream::new();
    let mut worn = |log_odds: f32, frames: usize| -> Vec<bool> {
        let masked = |_| {
            stream.frame(EVERY, &[(1, HERE, ANA, log_odds)]);
            stream.people.track(0).is_masked()
        };
        (0..frames).map(masked).collect()
    };
    assert_eq!(worn(-6.0, 50), [false; 50]);
    assert_eq!(worn(6.0, 1), [false]);
    worn(-6.0, 50);
    // From as sure as can be to odds of e² = 7: (6 + 2)·e^(−t / 250 ms) = 2 at 347 ms, 9 frames.
    let worn = worn(2.0, 13);
    let turn = worn.iter().position(|&worn| worn);
    assert!(matches!(turn, Some(7..=9)), "{worn:?}");
    assert!(worn[9..].iter().all(|&worn| worn), "{worn:?}");
}

#[test]
fn a_face_is_embedded_anew_once_it_is_clear_that_a_mask_was_put_on() {
    let mut stream = Stream::new();
    let mut embedded = |log_odds: f32, frames: usize| {
        let before = stream.embedded;
        let face = (1, HERE, ANA, log_odds);
        stream.frames(ReembedPolicy::Adaptive, frames, face, Some(0));
        (stream.people.track(0).is_masked(), stream.embedded - before)
    };
    assert_eq!(embedded(-5.0, 4), (false, CONFIRMED));
    // Perhaps: not before the answer is a second old.
    assert_eq!(embedded(0.5, 16), (true, 0));
    assert_eq!(embedded(5.0, 8), (true, CONFIRMED));
}

#[test]
fn faces_whose_answers_grow_old_are_embedded_together() {
    let mut stream = Stream::new();
    let [ana, bo] = [(1, HERE, ANA, -5.0), (2, THERE, BO, -5.0)];
    // Ana is there .28 s before Bo: her answer is old first.
    (0..7).for_each(|_| drop(stream.frame(ReembedPolicy::Adaptive, &[ana])));
    let runs: Vec<_> = (0..100)
        .map(|_| {
            let before = stream.embedded;
            stream.frame(ReembedPolicy::Adaptive, &[ana, bo]);
            stream.embedded - before
        })
        .filter(|&embedded| embedded > 0)
        .collect();
    assert_eq!(runs, [1, 1, 1, 2, 2, 2, 2]);
}

#[test]
fn a_long_pause_and_a_seek_have_no_past() {
    for (ms, label) in [(1440, Some(0)), (5000, None), (10, None)] {
        let mut stream = Stream::new();
        stream.ms = 1000;
        stream.frames(EVERY, 10, (1, HERE, ANA, -5.0), Some(0));
        stream.ms = ms;
        let names = stream.frame(EVERY, &[(1, HERE, like(ANA, 0.55), -5.0)]);
        assert_eq!(names, [Some(label)], "{ms}");
    }
}

#[test]
fn faces_from_the_front_and_large_ones_are_seen_well() {
    let face = |nose: f32| {
        let at = |x, y| Point { x, y };
        Landmarks([
            at(30.0, 40.0),
            at(70.0, 40.0),
            at(nose, 60.0),
            at(35.0, 80.0),
            at(65.0, 80.0),
        ])
    };
    assert_eq!(quality(&HERE, Some(&face(50.0))), 1.0);
    assert!(quality(&HERE, Some(&face(68.0))) < 0.7);
    assert!(quality(&HERE.scaled(0.4), Some(&face(50.0))) < 0.6);
    assert_eq!(quality(&HERE, None), 1.0);
}
