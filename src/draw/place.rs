//! Where labels go: at their face, inside the frame and clear of each other where that is possible.

use super::canvas::Area;

/// Weights of what a label may cover, and of being far from the usual place, per pixel of label.
/// Two labels on each other cannot be read; a label on a face is only a pity.
const COVERS_LABEL: i64 = 2048;
const COVERS_FACE: i64 = 32;
const PER_STEP_AWAY: i64 = 6;
/// A label that hides more than one of so many parts is left out: two heaps of letters on each other
/// say less than one name.
const MAX_COVERED_PART: i64 = 12;
/// A label that hides more than one of so many parts of a face is left out: a small face says more
/// than its name.
const MAX_HIDDEN_PART: i64 = 2;
/// A long label yields to the name alone where it would hide more than one of so many parts of a
/// face, or lie away from its own from this step on.
const MAX_HIDDEN_PART_BY_LONG: i64 = 6;
const FIRST_STEP_AWAY: usize = 6;
/// A label moves, or comes back, only to where so much of its height is free all round.
const MARGIN: i64 = 4;

/// How the label of a face lay in the last frame, so that it does not jump to and fro.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    /// There was none of this face.
    New,
    /// It was left out, or was another one.
    Elsewhere,
    /// At this step of the places to try.
    At(usize),
}

/// Finds places for the labels of one frame, one after the other.
#[derive(Debug, Default)]
pub(super) struct Placer {
    labels: Vec<Area>,
}

impl Placer {
    /// Forgets the labels of the last frame. Where `taken` lies something else that is read.
    pub fn clear(&mut self, taken: Option<Area>) {
        self.labels.clear();
        self.labels.extend(taken);
    }

    /// A place of `width`×`height` pixels for the label of `face`, and its step; `None` where the
    /// frame is too small or the best place would hide a good part of an earlier label or most of
    /// a face. `faces` are all faces of the frame, this one too. Of a `long` label there is a
    /// shorter form, for places that are not as good.
    pub fn place(
        &mut self,
        frame: &Area,
        face: &Area,
        faces: &[Option<Area>],
        (width, height): (i64, i64),
        long: bool,
        last: Last,
    ) -> Option<(usize, Area)> {
        if width > frame.width() || height > frame.height() {
            return None;
        }
        let face = face.intersection(frame);
        let (_, step, place, needed) = candidates(&face, width, height)
            .into_iter()
            .enumerate()
            .map(|(step, (x, y))| {
                let x = x.clamp(frame.x0, frame.x1 - width);
                let inside = y.clamp(frame.y0, frame.y1 - height);
                // Pushed back into the frame it lies on its face: the overlap below says so.
                let place = Area::new(x, inside, width, height);
                let stays = matches!(last, Last::New) || last == Last::At(step);
                let needed = place.grown(if stays { 0 } else { height / MARGIN });
                let away = step as i64 * PER_STEP_AWAY * width * height;
                (self.cost(&needed, faces) + away, step, place, needed)
            })
            // The first one of equal cost.
            .min_by_key(|(cost, ..)| *cost)?;
        let hides = |area: &Area, part: i64| {
            let hidden = |f: &Area| area.overlap(f) * part > f.width() * f.height();
            faces.iter().flatten().any(hidden)
        };
        if self.covered(&needed) * MAX_COVERED_PART > width * height
            || hides(&place, MAX_HIDDEN_PART)
            || long && (step >= FIRST_STEP_AWAY || hides(&needed, MAX_HIDDEN_PART_BY_LONG))
        {
            return None;
        }
        self.labels.push(place);
        Some((step, place))
    }

    /// Pixels of earlier labels that a label here would hide.
    fn covered(&self, place: &Area) -> i64 {
        self.labels.iter().map(|l| l.overlap(place)).sum()
    }

    fn cost(&self, place: &Area, faces: &[Option<Area>]) -> i64 {
        let faces: i64 = faces.iter().flatten().map(|f| f.overlap(place)).sum();
        self.covered(place) * COVERS_LABEL + faces * COVERS_FACE
    }
}

/// Upper left corners to try, the usual one first.
fn candidates(face: &Area, width: i64, height: i64) -> [(i64, i64); 9] {
    let (left, right) = (face.x0, face.x1 - width);
    let (above, below) = (face.y0 - height, face.y1);
    [
        (left, above),
        (right, above),
        (left, below),
        (right, below),
        // Within the box, for faces as large as the frame.
        (left, face.y0),
        (left, face.y1 - height),
        // Past a neighbour's label.
        (left, below + height),
        (left, above - height),
        (left, below + 2 * height),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Area = Area {
        x0: 0,
        y0: 0,
        x1: 640,
        y1: 480,
    };
    const SIZE: (i64, i64) = (100, 20);

    fn place(face: Area) -> Option<Area> {
        let mut placer = Placer::default();
        let place = placer.place(&FRAME, &face, &[Some(face)], SIZE, false, Last::New);
        place.map(|(_, area)| area)
    }

    #[test]
    fn a_label_stands_above_its_face_where_there_is_room() {
        let place = place(Area::new(200, 100, 80, 80)).unwrap();
        assert_eq!(place, Area::new(200, 80, 100, 20));
    }

    #[test]
    fn a_label_goes_below_a_face_at_the_top_edge() {
        let place = place(Area::new(200, 5, 80, 80)).unwrap();
        assert_eq!(place, Area::new(200, 85, 100, 20));
    }

    #[test]
    fn a_label_lies_inside_a_face_as_large_as_the_frame() {
        let place = place(Area::new(-50, -50, 900, 900)).unwrap();
        assert_eq!(place, Area::new(0, 0, 100, 20));
    }

    #[test]
    fn a_label_is_pushed_into_the_frame_at_the_right_edge() {
        let place = place(Area::new(600, 100, 80, 80)).unwrap();
        assert_eq!(place, Area::new(540, 80, 100, 20));
    }

    #[test]
    fn labels_of_neighbouring_faces_do_not_cover_each_other() {
        let faces: Vec<_> = (0..6)
            .map(|i| Some(Area::new(100 + 45 * i, 200, 40, 40)))
            .collect();
        let mut placer = Placer::default();
        for face in faces.iter().flatten() {
            placer
                .place(&FRAME, face, &faces, SIZE, false, Last::New)
                .unwrap();
        }
        for (i, a) in placer.labels.iter().enumerate() {
            for b in &placer.labels[..i] {
                assert_eq!(a.overlap(b), 0, "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn a_frame_smaller_than_the_label_gets_none() {
        let tiny = Area::new(0, 0, 50, 50);
        let place = Placer::default().place(&tiny, &tiny, &[], SIZE, false, Last::New);
        assert_eq!(place, None);
    }

    #[test]
    fn a_label_stays_on_its_side_of_a_face_that_trembles_at_the_edge() {
        // The label of 20 pixels is pushed onto the face by what lacks above: from 10 pixels on,
        // below is the better place.
        let tremble = [10, 12, 10, 12, 10];
        let steps = |mut last: Last| {
            tremble.map(|y| {
                let face = Area::new(200, y, 80, 80);
                let mut placer = Placer::default();
                let place = placer.place(&FRAME, &face, &[Some(face)], SIZE, false, last);
                let (step, _) = place.unwrap();
                if last != Last::New {
                    last = Last::At(step);
                }
                step
            })
        };
        assert_eq!(steps(Last::New), [2, 0, 2, 0, 2]);
        assert_eq!(steps(Last::At(0)), [0; 5]);
        assert_eq!(steps(Last::At(2)), [2; 5]);
    }

    #[test]
    fn a_label_comes_back_only_where_there_is_air_round_it() {
        // There is one row for labels, and a label in it this far from the face.
        let frame = Area::new(0, 0, 640, 40);
        let face = Area::new(200, 20, 100, 20);
        let place = |gap: i64, last| {
            let mut placer = Placer::default();
            placer.clear(Some(Area::new(300 + gap, 0, 100, 20)));
            let place = placer.place(&frame, &face, &[Some(face)], SIZE, false, last);
            place.map(|(step, _)| step)
        };
        assert_eq!(place(0, Last::New), Some(0));
        assert_eq!(place(0, Last::At(0)), Some(0));
        assert_eq!(place(0, Last::Elsewhere), None);
        // A quarter of its height.
        assert_eq!(place(5, Last::Elsewhere), Some(0));
    }

    #[test]
    fn a_label_that_would_hide_a_small_face_is_left_out() {
        // As high as the frame: within the box is the only place.
        let frame = Area::new(0, 0, 200, 24);
        let face = Area::new(50, 1, 22, 22);
        let mut placer = Placer::default();
        assert_eq!(
            placer.place(&frame, &face, &[Some(face)], SIZE, false, Last::New),
            None
        );
    }

    #[test]
    fn a_long_label_yields_where_it_would_hide_a_face_or_lie_away_from_its_own() {
        let place = |frame: &Area, faces: &[Option<Area>], labels: &[Area], long| {
            let mut placer = Placer::default();
            placer.labels.extend(labels);
            let face = faces[0].unwrap();
            let place = placer.place(frame, &face, faces, SIZE, long, Last::New);
            place.map(|(step, _)| step)
        };
        // One row for labels, into which a quarter of another face reaches.
        let low = Area::new(0, 0, 640, 40);
        let faces = [Area::new(200, 20, 40, 20), Area::new(250, 15, 40, 20)].map(Some);
        assert_eq!(place(&low, &faces, &[], false), Some(0));
        assert_eq!(place(&low, &faces, &[], true), None);
        assert_eq!(place(&low, &faces[..1], &[], true), Some(0));
        // Labels of others above and below.
        let faces = [Some(Area::new(200, 200, 80, 80))];
        let labels = [180, 280].map(|y| Area::new(100, y, 300, 20));
        assert_eq!(place(&FRAME, &faces, &labels, false), Some(FIRST_STEP_AWAY));
        assert_eq!(place(&FRAME, &faces, &labels, true), None);
    }
}
