//! Which way up a stream is, where nothing says so: phones' videos that have lost their orientation, and cameras that are
//! mounted on their side or upside down.
//!
//! MTCNN finds upright faces. In pictures that are turned by quarters it finds few, and is hardly ever sure of one. So while
//! no face is sure, a search now and then looks at the picture from another side, and what it finds has to be found twice.

use std::time::Duration;

use super::is_older;
use crate::detect::Face;
use crate::frame::orientation::Orientation;

/// Confidence of a face from which on the picture certainly is upright. Of nine clips of people, upright and turned by
/// quarters, the surest face of a second has .99 and more in nearly all seconds of the upright ones, and in hardly any of
/// the others.
const SURE: f32 = 0.99;

/// Least confidence of a face in a picture that is looked at from another side, and by what factor it must be less likely to
/// be an error than the surest one seen so far. Of 1,046 photos of people (LFW, WIDER FACE, two sets of masked faces), each
/// looked at from the other three sides, that leaves four, in at least three of which heads do lie on their side or hang down.
const CLEAR: f32 = 0.98;
const ODDS: f32 = 3.0;

/// How long a sure face confirms the orientation of the picture.
const SURE_FOR: Duration = Duration::from_secs(1);

/// Searches without a sure face before the first try, and how many tries follow at once when a stream begins: one from each
/// of the other sides.
const FIRST_SEARCHES: u32 = 2;
const AT_ONCE: u32 = 3;

/// Least time and number of searches from one try to the next, and after how many tries without success they become rare. A try costs
/// what a search costs.
const OFTEN: (Duration, u32) = (Duration::from_secs(1), 5);
const MANY_FRUITLESS: u32 = 10;
const RARELY: (Duration, u32) = (Duration::from_secs(5), 25);

/// Searches with a clear face that make another orientation lasting; before, it ends with the first pause of this length.
const LASTING: u32 = 10;
const EXPIRES_AFTER: Duration = Duration::from_secs(3);

/// The four sides from which a picture may be looked at, as rotations that make it upright; the first one is that of the stream
/// itself.
pub const SIDES: [Orientation; 4] = [
    Orientation::UPRIGHT,
    Orientation::ROTATE_90,
    Orientation::ROTATE_180,
    Orientation::ROTATE_270,
];

/// The orientation of a stream, and what speaks for it.
#[derive(Debug, Default)]
pub struct Turns {
    /// Index in [`SIDES`].
    side: usize,
    /// When a sure face was last seen from this side, and searches since.
    sure: Option<Duration>,
    unsure: u32,
    /// Searches that found a sure face.
    confirmations: u32,
    /// Confidence and time of the surest face of the last second, and the number of clear faces in the last frame.
    surest: (f32, Duration),
    clear: usize,
    /// When another side was last tried, searches since, tries in all, and those without success since a face was sure.
    tried: Option<Duration>,
    searches: u32,
    tries: usize,
    fruitless: u32,
    /// The side from which the last try found a clear face.
    candidate: Option<usize>,
}

impl Turns {
    /// The rotation that makes the pictures of the stream upright.
    pub fn turn(&self) -> Orientation {
        SIDES[self.side]
    }

    /// The stream goes on elsewhere: its orientation is kept.
    pub fn restart(&mut self) {
        *self = Self {
            side: self.side,
            confirmations: self.confirmations,
            tries: self.tries,
            fruitless: self.fruitless,
            ..Self::default()
        };
    }

    /// Notes the faces of a frame, as seen from the present side.
    pub fn see<'a>(
        &mut self,
        faces: impl Iterator<Item = &'a Face>,
        is_search: bool,
        now: Duration,
    ) {
        let mut surest = 0.0_f32;
        self.clear = 0;
        for face in faces {
            surest = surest.max(upright_confidence(face));
            self.clear += usize::from(is_clear(face));
        }
        let (before, since) = self.surest;
        if surest >= before || is_older(Some(since), SURE_FOR, now) {
            self.surest = (surest, now);
        }
        let counts = u32::from(is_search);
        self.searches = self.searches.saturating_add(counts);
        // Another side has been chosen for faces that are at least clear.
        if surest >= if self.side == 0 { SURE } else { CLEAR } {
            self.sure = Some(now);
            self.unsure = 0;
            self.confirmations = self.confirmations.saturating_add(counts);
            self.fruitless = AT_ONCE;
        } else {
            self.unsure = self.unsure.saturating_add(counts);
        }
    }

    /// Whether an orientation for which little speaks is given up.
    pub fn expire(&mut self, now: Duration) -> bool {
        let is_over = self.side != 0
            && self.confirmations < LASTING
            && self
                .sure
                .is_some_and(|sure| is_older(Some(sure), EXPIRES_AFTER, now));
        if is_over {
            self.choose(0, now);
            // What was taken for a face may be so again.
            self.fruitless = MANY_FRUITLESS;
        }
        is_over
    }

    /// Whether a face confirms the present side.
    fn is_sure(&self, now: Duration) -> bool {
        !is_older(self.sure, SURE_FOR, now)
    }

    /// The side from which to search this frame as well.
    pub fn due(&self, now: Duration) -> Option<usize> {
        if self.candidate.is_some() {
            return self.candidate;
        }
        let is_sure = self.is_sure(now);
        let (time, searches) = match self.fruitless {
            // From another side, upright people would not be found.
            _ if is_sure && self.side == 0 => return None,
            _ if is_sure => RARELY,
            _ if self.unsure < FIRST_SEARCHES => return None,
            ..AT_ONCE => (Duration::ZERO, 1),
            AT_ONCE..MANY_FRUITLESS => OFTEN,
            _ => RARELY,
        };
        let is_due = is_older(self.tried, time, now) && self.searches >= searches;
        is_due.then(|| self.next(is_sure))
    }

    /// The side that is tried next: all others in turn, every other time that of the stream itself.
    fn next(&self, is_sure: bool) -> usize {
        let others = [1, 2, 3].into_iter().filter(|&side| side != self.side);
        let is_back = self.side != 0 && (is_sure || self.fruitless % 2 == AT_ONCE % 2);
        let count = others.clone().count();
        others
            .cycle()
            .nth(self.tries % count)
            .filter(|_| !is_back)
            .unwrap_or(0)
    }

    /// The surest of the faces that a search from another side has found, if it is clear.
    pub fn clear_face(faces: &[Face]) -> Option<&Face> {
        let clear = faces.iter().filter(|face| is_clear(face));
        clear.max_by(|a, b| a.confidence.total_cmp(&b.confidence))
    }

    /// Notes what a search from another side has found, and how sure its [clear face](Self::clear_face) is as seen from each
    /// side; whether the stream is from now on seen from there.
    pub fn judge(
        &mut self,
        side: usize,
        faces: &[Face],
        confidence: [f32; SIDES.len()],
        now: Duration,
    ) -> bool {
        self.tried = Some(now);
        self.searches = 0;
        let before = self.candidate.take();
        let sides = 0..SIDES.len();
        let best = sides.max_by(|&a, &b| confidence[a].total_cmp(&confidence[b]));
        let best = best.unwrap_or(side);
        let surest = confidence[best];
        let count = faces.iter().filter(|face| is_clear(face)).count();
        // While a face is sure, others may be surer by chance.
        let is_surer = !self.is_sure(now) && (1.0 - surest) * ODDS <= 1.0 - self.surest.0;
        let is_fuller = best == 0 && side == 0 && count > self.clear;
        // A face between two sides would be found from both in turn, for ever.
        let is_undecided = before.is_some_and(|before| before != best);
        let is_better = best != self.side && (is_surer || is_fuller);
        if surest < CLEAR || is_undecided || !is_better {
            self.tries = self.tries.wrapping_add(usize::from(side != 0));
            self.fruitless = self.fruitless.saturating_add(1);
            return false;
        }
        let is_confirmed = before == Some(side);
        if is_confirmed {
            self.choose(side, now);
        } else {
            self.candidate = Some(best);
        }
        is_confirmed
    }

    fn choose(&mut self, side: usize, now: Duration) {
        *self = Self {
            side,
            sure: Some(now),
            tried: self.tried,
            fruitless: AT_ONCE,
            ..Self::default()
        };
    }
}

/// The confidence of a face, of which nothing is left where the face lies on its side.
pub fn upright_confidence(face: &Face) -> f32 {
    match Orientation::of_face(&face.landmarks) {
        Orientation::UPRIGHT => face.confidence,
        _ => 0.0,
    }
}

fn is_clear(face: &Face) -> bool {
    upright_confidence(face) >= CLEAR
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::geometry::{Landmarks, Point, Rect};

    /// Time from one search to the next.
    const STEP: Duration = Duration::from_millis(200);

    fn face(confidence: f32) -> Face {
        let points = [(30, 40), (70, 40), (50, 60), (35, 80), (65, 80)];
        let landmarks = Landmarks(points.map(|(x, y)| Point {
            x: x as f32,
            y: y as f32,
        }));
        Face {
            rect: Rect::new(0.0, 0.0, 100.0, 120.0),
            confidence,
            landmarks,
        }
    }

    /// A stream in which each search takes place in its own frame.
    #[derive(Default)]
    struct Stream {
        turns: Turns,
        now: Duration,
    }

    impl Stream {
        /// Searches for some seconds; `scene` gives the faces that are seen from a side. Returns the number of tries.
        fn watch(&mut self, seconds: u32, scene: impl Fn(usize) -> Vec<Face>) -> u32 {
            let mut tries = 0;
            for _ in 0..5 * seconds {
                self.now += STEP;
                self.turns.expire(self.now);
                let seen = scene(self.turns.side);
                self.turns.see(seen.iter(), true, self.now);
                if let Some(side) = self.turns.due(self.now) {
                    tries += 1;
                    let found = scene(side);
                    let mut confidence = [0.0; SIDES.len()];
                    if Turns::clear_face(&found).is_some() {
                        let surest = |side| {
                            scene(side)
                                .iter()
                                .map(upright_confidence)
                                .fold(0.0, f32::max)
                        };
                        confidence = std::array::from_fn(surest);
                    }
                    self.turns.judge(side, &found, confidence, self.now);
                }
            }
            tries
        }
    }

    /// A scene whose people are upright from one side, and hardly seen from the others.
    fn people(upright: usize) -> impl Fn(usize) -> Vec<Face> {
        move |side| vec![face(if side == upright { 0.995 } else { 0.9 })]
    }

    fn nobody(_: usize) -> Vec<Face> {
        Vec::new()
    }

    #[test]
    fn a_turned_stream_is_seen_upright_within_its_first_second() {
        for (side, turn) in SIDES.into_iter().enumerate().skip(1) {
            let mut stream = Stream::default();
            stream.watch(1, people(side));
            assert_eq!(stream.turns.side, side);
            assert_eq!(stream.turns.turn(), turn);
        }
    }

    #[test]
    fn an_upright_stream_is_never_tried_and_a_blink_changes_nothing() {
        let mut stream = Stream::default();
        for second in 0..20 {
            let blinks = |side| {
                vec![face(if second % 2 == 1 {
                    0.5
                } else {
                    0.992 - 0.1 * side as f32
                })]
            };
            // A second without a sure face is no longer than one vouches.
            let tries = stream.watch(1, blinks);
            assert!(tries <= u32::from(second % 2 == 1), "{second}: {tries}");
        }
        assert_eq!(stream.watch(60, people(0)), 0);
        assert_eq!(stream.turns.side, 0);
    }

    #[test]
    fn an_empty_scene_is_tried_from_each_side_and_then_ever_more_rarely() {
        let mut stream = Stream::default();
        // Three at once, then one each second until there are ten.
        assert_eq!(stream.watch(8, nobody), 10);
        assert_eq!(stream.watch(60, nobody), 12);
        assert_eq!(stream.turns.side, 0);
        // Somebody who comes later is found all the same.
        stream.watch(16, people(3));
        assert_eq!(stream.turns.side, 3);
    }

    #[test]
    fn a_face_has_to_be_found_twice_and_much_surer_than_from_the_present_side() {
        let mut stream = Stream::default();
        stream.watch(1, nobody);
        let mut judge = |side, confidence| {
            stream.now += STEP;
            let mut sides = [0.9; SIDES.len()];
            sides[side] = confidence;
            stream
                .turns
                .judge(side, &[face(confidence)], sides, stream.now)
        };
        assert!(!judge(1, 0.99));
        assert!(!judge(1, 0.9));
        assert!(!judge(2, 0.99));
        assert!(judge(2, 0.98));
        let mut stream = Stream::default();
        // From one side an error is twice as likely as from the other.
        let doubtful = |side| vec![face(if side == 1 { 0.993 } else { 0.986 })];
        stream.watch(60, doubtful);
        assert_eq!(stream.turns.side, 0);
    }

    #[test]
    fn a_face_that_is_clear_upside_down_is_clearer_upright() {
        let masked = |side| vec![face([0.9, 0.985, 0.5, 0.995][side])];
        let mut stream = Stream::default();
        stream.watch(1, masked);
        assert_eq!(stream.turns.side, 3);
    }

    #[test]
    fn a_face_between_two_sides_is_not_looked_at_all_the_time() {
        let mut turns = Turns::default();
        let mut tries = 0;
        for search in 1..=50 {
            let now = STEP * search;
            turns.see([].iter(), true, now);
            if let Some(side) = turns.due(now) {
                tries += 1;
                // The view from the next side is always the surer one.
                let mut confidence = [0.99; SIDES.len()];
                confidence[1 + side % 3] = 0.995;
                assert!(!turns.judge(side, &[face(0.99)], confidence, now));
            }
        }
        // Two for each time that one is due.
        assert!(tries < 25, "{tries}");
    }

    #[test]
    fn a_face_that_lies_on_its_side_says_nothing_of_where_it_was_found() {
        let lying = |_| {
            let face = face(0.999);
            let landmarks =
                Orientation::ROTATE_90.landmarks_to_stored(&face.landmarks, (100.0, 100.0));
            vec![Face { landmarks, ..face }]
        };
        let mut stream = Stream::default();
        assert!(stream.watch(10, lying) >= 10);
        assert_eq!(stream.turns.side, 0);
    }

    #[test]
    fn a_lasting_orientation_outlives_an_empty_scene_and_a_chance_find_does_not() {
        let mut stream = Stream::default();
        stream.watch(10, people(1));
        stream.watch(60, nobody);
        assert_eq!(stream.turns.side, 1);
        stream.watch(1, people(1));
        assert_eq!(stream.turns.side, 1);

        let mut stream = Stream::default();
        stream.watch(2, people(1));
        assert_eq!(stream.turns.side, 1);
        stream.watch(4, nobody);
        assert_eq!(stream.turns.side, 0);
        // It is not taken up again soon.
        assert_eq!(stream.watch(2, people(1)), 0);
    }

    #[test]
    fn a_sleeper_does_not_hide_upright_people_for_long() {
        let mut stream = Stream::default();
        stream.watch(10, people(3));
        assert_eq!(stream.turns.side, 3);
        // One visitor is no more than the sleeper; two are.
        let with = |visitors: usize| {
            move |side| match side {
                0 => vec![face(0.999); visitors],
                3 => vec![face(0.995)],
                _ => Vec::new(),
            }
        };
        stream.watch(20, with(1));
        assert_eq!(stream.turns.side, 3);
        stream.watch(6, with(2));
        assert_eq!(stream.turns.side, 0);
        // They stay in view, so that nothing else is tried.
        assert_eq!(stream.watch(60, with(1)), 0);
        // The sleeper gets up.
        let mut stream = Stream::default();
        stream.watch(10, people(3));
        stream.watch(3, people(0));
        assert_eq!(stream.turns.side, 0);
    }

    #[test]
    fn after_a_seek_the_orientation_is_the_same() {
        let mut stream = Stream::default();
        stream.watch(10, people(2));
        stream.turns.restart();
        stream.now = Duration::ZERO;
        stream.watch(3, nobody);
        assert_eq!(stream.turns.side, 2);
        assert_eq!(stream.watch(4, people(2)), 0);
    }
}
