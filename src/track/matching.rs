//! Association of faces between frames by the overlap of their boxes.

use crate::frame::geometry::Rect;

/// Least intersection over union of the boxes of one face in two frames.
pub const SAME_PLACE: f32 = 0.3;

/// The index of the box that overlaps most with `rect`, if it is in the [same place](SAME_PLACE).
pub fn in_same_place(rect: &Rect, boxes: impl Iterator<Item = (usize, Rect)>) -> Option<usize> {
    boxes
        .map(|(index, other)| (index, other.iou(rect)))
        .filter(|(_, overlap)| *overlap >= SAME_PLACE)
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .map(|(index, _)| index)
}

/// A box in a picture that was made wider and higher by these factors.
pub fn stretched(rect: Rect, [x, y]: [f32; 2]) -> Rect {
    Rect::new(rect.x * x, rect.y * y, rect.width * x, rect.height * y)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_box_that_overlaps_most_is_in_the_same_place() {
        let at = |x| Rect::new(x, 0.0, 100.0, 100.0);
        let boxes = [at(-60.0), at(20.0), at(10.0), at(200.0)];
        let found = |rect| in_same_place(&rect, boxes.into_iter().enumerate());
        assert_eq!(found(at(0.0)), Some(2));
        assert_eq!(found(at(200.0)), Some(3));
        // Half of each box is a third of both.
        assert_eq!(found(at(250.0)), Some(3));
        assert_eq!(found(at(260.0)), None);
    }
}
