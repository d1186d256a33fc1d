//! Which parts of a frame are drawn on.

use super::canvas::{Area, Rgb, Surface};

/// Records what is painted, as areas that cover all of it and do not overlap.
#[derive(Debug)]
pub(super) struct Extent {
    frame: Area,
    areas: Vec<Area>,
}

impl Extent {
    pub fn new(frame: Area) -> Self {
        Self {
            frame,
            areas: Vec::new(),
        }
    }

    pub fn areas(&self) -> &[Area] {
        &self.areas
    }
}

impl Surface for Extent {
    fn paint(&mut self, area: &Area, _: Rgb, _: impl FnMut(usize, usize, &mut [u8])) {
        let mut whole = area.intersection(&self.frame);
        if whole.is_empty() {
            return;
        }
        // The strips of a box touch each other and are merged.
        let touches = |a: &Area, b: &Area| a.grown(1).overlap(b) > 0;
        // The merged area may touch others that were checked before.
        while let Some(i) = self.areas.iter().position(|a| touches(a, &whole)) {
            whole = whole.union(&self.areas.swap_remove(i));
        }
        self.areas.push(whole);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_hold_all_that_is_painted_in_the_frame_and_do_not_overlap() {
        let mut extent = Extent::new(Area::new(0, 0, 100, 100));
        extent.fill(&Area::new(-10, -10, 20, 20), [0; 3], 255);
        extent.fill(&Area::new(200, 0, 20, 20), [0; 3], 255);
        extent.frame_around(&Area::new(30, 30, 20, 20), 2, [0; 3], 255);
        let mut areas = extent.areas().to_vec();
        areas.sort_by_key(|a| a.x0);
        assert_eq!(areas, [Area::new(0, 0, 10, 10), Area::new(28, 28, 24, 24)]);
        // This area touches both and merges them.
        extent.fill(&Area::new(9, 9, 20, 20), [0; 3], 255);
        assert_eq!(extent.areas(), [Area::new(0, 0, 52, 52)]);
    }
}
