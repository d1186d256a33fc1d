//! Search from another side, for streams that lie on their side or head without saying so.

use std::borrow::Cow;

use super::{Finder, Plan, limits};
use crate::detect::{Detector, Face, Params};
use crate::frame::geometry::Rect;
use crate::frame::image::ImageView;
use crate::frame::orientation::Orientation;
use crate::nn::RuntimeError;
use crate::track::turns::{SIDES, Turns, upright_confidence};

/// Factor by which faces must be larger at most, in a search from another side of the picture for which there is little time.
const MUCH_LARGER: f32 = 4.0;

impl Finder {
    /// The rotation that makes the pictures of the stream upright, as far as their faces tell.
    pub fn turn(&self) -> Orientation {
        self.turns.turn()
    }

    /// Forgets which way up the stream is: another one begins.
    pub fn forget_turn(&mut self) {
        let before = std::mem::take(&mut self.turns);
        if before.turn() != self.turn() {
            self.begin_anew();
        }
    }

    /// Forgets all places in the picture, which is from now on turned in another way.
    pub(super) fn begin_anew(&mut self) {
        self.cuts.reset();
        self.tracker = self.tracker.successor();
        self.searched = None;
        self.searches = 0;
        self.last.clear();
        self.interrupted = None;
    }

    /// Searches the picture from another side if that is due; if the stream is from now on seen from there, gives the faces
    /// that are found.
    pub(super) fn try_other(
        &mut self,
        detector: &mut Detector,
        view: &ImageView,
        params: &Params,
        plan: Plan,
    ) -> Result<Option<Vec<(i32, Face)>>, RuntimeError> {
        let Some(side) = self.turns.due(plan.now) else {
            return Ok(None);
        };
        let turn = SIDES[side];
        let mut params = seen_from(turn, params, view).into_owned();
        // Where a search takes too long for a frame, there is time for large faces only: its time is as that part of the pixels
        // that it looks at.
        let time = plan.budget.filter(|time| !time.is_zero());
        let takes = time.map_or(0.0, |time| self.search_takes.div_duration_f32(time));
        let larger = takes.sqrt().clamp(1.0, MUCH_LARGER);
        params.min_face_size = (params.min_face_size as f32 * larger) as u32;
        let faces = detector.detect(&view.turned(turn), &params)?;
        let mut confidence = [0.0; SIDES.len()];
        if let Some(face) = Turns::clear_face(&faces) {
            let place = turn.rect_to_stored(face.rect, size(view));
            confidence = seen_from_all_sides(detector, view, place)?;
            confidence[side] = confidence[side].max(face.confidence);
        }
        if !self.turns.judge(side, &faces, confidence, plan.now) {
            return Ok(None);
        }
        self.begin_anew();
        if !plan.tracking {
            return Ok(Some(self.numbered(faces)));
        }
        let mut found = Vec::new();
        self.tracker.begin(plan.now, plan.frame_interval);
        self.add(faces, limits(&params), &mut found);
        self.tracker.end();
        self.last.clone_from(&found);
        Ok(Some(found))
    }
}

/// Width and height of a picture.
pub(super) fn size(view: &ImageView) -> (f32, f32) {
    (view.width() as f32, view.height() as f32)
}

/// The parameters for a picture that is turned.
pub(super) fn seen_from<'a>(
    turn: Orientation,
    params: &'a Params,
    view: &ImageView,
) -> Cow<'a, Params> {
    if turn == Orientation::UPRIGHT || params.regions.is_empty() {
        return Cow::Borrowed(params);
    }
    let mut params = params.clone();
    for region in &mut params.regions {
        *region = turn.rect_to_upright(*region, size(view));
    }
    Cow::Owned(params)
}

/// How sure O-Net is of a face, whose box is given, from each side of the picture.
fn seen_from_all_sides(
    detector: &mut Detector,
    view: &ImageView,
    face: Rect,
) -> Result<[f32; SIDES.len()], RuntimeError> {
    let mut confidence = [0.0_f32; SIDES.len()];
    for (turn, confidence) in SIDES.into_iter().zip(&mut confidence) {
        let mut place = turn.rect_to_upright(face, size(view));
        // The second time, the crop is centred on the face as it is seen from this side.
        for _ in 0..2 {
            let seen = detector.follow(&view.turned(turn), &[place])?;
            let Some(&Some(face)) = seen.first() else {
                break;
            };
            *confidence = confidence.max(upright_confidence(&face));
            place = face.rect;
        }
    }
    Ok(confidence)
}
