//! Placement of labels: at their face, inside the frame and, if possible, without overlap.

use super::canvas::Area;

/// Costs, per pixel of label, of what a label may cover and of the distance from its usual place.
/// Overlapping labels are illegible; a label on a face is merely undesirable.
const COVERS_LABEL: i64 = 2048;
const COVERS_FACE: i64 = 32;
const PER_STEP_AWAY: i64 = 6;
/// Reciprocal of the largest fraction of its own area that a label may cover of other labels. Beyond it the label is
/// left out: two overlapping labels tell less than one legible name.
const MAX_COVERED_PART: i64 = 12;
/// Reciprocal of the largest fraction of a face that a label may hide. Beyond it the label is left out: a small face
/// tells more than its name.
const MAX_HIDDEN_PART: i64 = 2;
/// Reciprocal of the largest fraction of a face that a long label may hide, and the first step that is away from its
/// own face. Beyond either the label is reduced to the name.
const MAX_HIDDEN_PART_BY_LONG: i64 = 6;
const FIRST_STEP_AWAY: usize = 6;
/// Reciprocal of the fraction of a label's height that must be free all around it before it moves or reappears.
const MARGIN: i64 = 4;

/// Placement of a face's label in the last frame, used as hysteresis so that labels do not jump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    /// The face had no label before.
    New,
    /// The label was left out, or had another form.
    Elsewhere,
    /// The label was at this step of the candidate places.
    At(usize),
}

/// Finds places for the labels of one frame, one after another.
#[derive(Debug, Default)]
pub(super) struct Placer {
    labels: Vec<Area>,
}

impl Placer {
    /// Starts a new frame without labels. `taken` is an area that labels must not cover, such as the legend.
    pub fn clear(&mut self, taken: Option<Area>) {
        self.labels.clear();
        self.labels.extend(taken);
    }

    /// A place of `width`×`height` pixels for the label of `face`, and its step; `None` if the
    /// frame is too small or the best place would hide a good part of an earlier label or most of
    /// a face. `faces` are all faces of the frame, including this one. A `long` label has a
    /// shorter form, so it is not put in a poor place.
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
                // A place that is pushed back into the frame covers its face, which the cost below accounts for.
                let place = Area::new(x, inside, width, height);
                let stays = matches!(last, Last::New) || last == Last::At(step);
                let needed = place.grown(if stays { 0 } else { height / MARGIN });
                let away = step as i64 * PER_STEP_AWAY * width * height;
                (self.cost(&needed, faces) + away, step, place, needed)
            })
            // Ties go to the first candidate.
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

/// Candidate upper left corners, the usual one first.
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
        // Beyond the label of a neighbouring face.
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
        // The label of 20 pixels is pushed onto the face by the height that is missing above: from 10 pixels on,
        // the place below is better.
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
        // There is space for one row of labels, and another label in it at distance `gap` from the face.
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
        // The distance is a quarter of the label's height.
        assert_eq!(place(5, Last::Elsewhere), Some(0));
    }

    #[test]
    fn a_label_that_would_hide_a_small_face_is_left_out() {
        // The face is as high as the frame, so the only place is within the box.
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
        // There is space for one row of labels, of which another face covers a quarter.
        let low = Area::new(0, 0, 640, 40);
        let faces = [Area::new(200, 20, 40, 20), Area::new(250, 15, 40, 20)].map(Some);
        assert_eq!(place(&low, &faces, &[], false), Some(0));
        assert_eq!(place(&low, &faces, &[], true), None);
        assert_eq!(place(&low, &faces[..1], &[], true), Some(0));
        // Labels of other faces are above and below.
        let faces = [Some(Area::new(200, 200, 80, 80))];
        let labels = [180, 280].map(|y| Area::new(100, y, 300, 20));
        assert_eq!(place(&FRAME, &faces, &labels, false), Some(FIRST_STEP_AWAY));
        assert_eq!(place(&FRAME, &faces, &labels, true), None);
    }
}
