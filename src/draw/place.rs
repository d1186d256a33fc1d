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

/// Finds places for the labels of one frame, one after the other.
#[derive(Debug, Default)]
pub(super) struct Placer {
    labels: Vec<Area>,
}

impl Placer {
    /// Forgets the labels of the last frame.
    pub fn clear(&mut self) {
        self.labels.clear();
    }

    /// A place of `width`×`height` pixels for the label of `face`, or `None` where the frame is too
    /// small or each place would hide a good part of an earlier label. `faces` are all faces of the frame, this one too.
    pub fn place(
        &mut self,
        frame: &Area,
        face: &Area,
        faces: &[Option<Area>],
        (width, height): (i64, i64),
    ) -> Option<Area> {
        if width > frame.width() || height > frame.height() {
            return None;
        }
        let face = face.intersection(frame);
        let best = candidates(&face, width, height)
            .into_iter()
            .enumerate()
            .map(|(step, (x, y))| {
                let x = x.clamp(frame.x0, frame.x1 - width);
                let inside = y.clamp(frame.y0, frame.y1 - height);
                // Pushed back into the frame it lies on its face: the overlap below says so.
                let place = Area::new(x, inside, width, height);
                let away = step as i64 * PER_STEP_AWAY * width * height;
                (self.cost(&place, faces) + away, place)
            })
            // The first one of equal cost.
            .min_by_key(|(cost, _)| *cost)?
            .1;
        if self.covered(&best) * MAX_COVERED_PART > width * height {
            return None;
        }
        self.labels.push(best);
        Some(best)
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
        Placer::default().place(&FRAME, &face, &[Some(face)], SIZE)
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
            placer.place(&FRAME, face, &faces, SIZE).unwrap();
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
        assert_eq!(Placer::default().place(&tiny, &tiny, &[], SIZE), None);
    }
}
