//! Face detection with MTCNN (Zhang, Zhang, Li, Qiao 2016, <https://arxiv.org/abs/1604.02878>):
//! P-Net proposes on a pyramid, R-Net sorts out, O-Net decides and gives the landmarks.

mod boxes;
mod clock;
mod propose;
mod pyramid;
mod region;
mod stage;

use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::frame::geometry::{Landmarks, Rect};
use crate::frame::image::ImageView;
use crate::nn::{Network, Role, RuntimeError, SessionOptions, Source};
use boxes::{Candidate, Overlap, suppress};
use propose::Proposer;
pub use region::{RegionError, parse_regions};
use stage::Stage;

/// What the metadata and the gallery call this detector.
pub const NAME: &str = "mtcnn";

/// Candidates that R-Net and O-Net look at, the likeliest of those there are: settings that let everything pass take no more
/// than a second a frame. Scenes of WIDER FACE and photos of masked people have at most 314 and 98 by default (508 photos),
/// 2,556 and 518 with faces from 12 pixels on.
pub const MAX_CANDIDATES: [usize; 2] = [6_000, 800];

/// Stage thresholds of the reference ports.
pub const DEFAULT_THRESHOLDS: [f32; 3] = [0.6, 0.7, 0.7];
/// Of 925 masked faces of Face Mask Detection, from 20 pixels on, 819 are found instead of 822 with odds of 1, of 617 of WIDER
/// FACE 532 instead of 531; 3 and 14 % fewer false ones, in up to a seventh less time (docs/accuracy.md).
pub const DEFAULT_FINE_ODDS: f32 = 2.0;
/// Pyramid step of the reference ports: about half the area each.
pub const DEFAULT_SCALE_FACTOR: f32 = 0.709;
/// Shortest side in pixels of the smallest face looked for.
pub const DEFAULT_MIN_FACE_SIZE: u32 = 40;
/// Below P-Net's window of 12 pixels a level would enlarge the image, and find nothing more.
pub const MIN_FACE_SIZES: std::ops::RangeInclusive<u32> = 12..=10_000;
/// From hardly any levels to dozens.
pub const SCALE_FACTORS: std::ops::RangeInclusive<f32> = 0.1..=0.95;

/// Overlap at which boxes count as one face in the reference ports: between levels of the pyramid, after R-Net, after O-Net.
pub const REFERENCE_OVERLAP: f64 = 0.7;
/// The same after R-Net. As many faces are found as with [`REFERENCE_OVERLAP`], 6 and 13 % fewer false ones, in 6 to 20 % less
/// time for the whole search (docs/accuracy.md).
pub const DEFAULT_OVERLAP: f64 = 0.6;

/// R-Net's and O-Net's thresholds where a face was a moment ago: those who turn, look up or put a mask
/// on score low for some frames. Elsewhere so little evidence is mostly wrong.
const KNOWN_THRESHOLDS: [f32; 2] = [0.3, KNOWN_THRESHOLD];

/// The least confidence of a face where one was a moment ago.
pub const KNOWN_THRESHOLD: f32 = 0.2;

/// Least intersection over union of a face and what O-Net sees in its place, anything less is another face; and least
/// confidence there: who is not seen clearly stays where he was found.
const SETTLED: (f32, f32) = (0.5, DEFAULT_THRESHOLDS[2]);

/// Least intersection over union of a candidate, which is square and as P-Net guesses it, and a known
/// face.
const SAME_PLACE: f32 = 0.3;

/// A face found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Face {
    /// Pixels of the image; may reach a little outside.
    pub rect: Rect,
    /// O-Net's probability, 0…1.
    pub confidence: f32,
    pub landmarks: Landmarks,
}

/// What to look for.
#[derive(Debug, Clone, PartialEq)]
pub struct Params {
    /// Shortest side in pixels of the smallest face looked for, [`MIN_FACE_SIZES`].
    pub min_face_size: u32,
    /// Least probabilities of P-Net, R-Net and O-Net, 0…1.
    pub thresholds: [f32; 3],
    /// Odds that P-Net must give candidates of the finest levels, up to 1.7 times the smallest face, in those of its
    /// threshold; 1 in the reference ports. There lie most of the candidates, and hardly a face hangs on the faint ones.
    pub fine_odds: f32,
    /// Overlap at which two boxes of R-Net count as one face, so that O-Net looks at the better one only.
    pub overlap: f64,
    /// From one pyramid level to the next, [`SCALE_FACTORS`].
    pub scale_factor: f32,
    /// The largest faces only; 0 for all.
    pub max_faces: usize,
    /// Where to look, in pixels; everywhere if empty. A face is reported once where regions overlap.
    pub regions: Vec<Rect>,
    /// Where faces were a moment ago: there less evidence is enough. The confidence of faces found by it
    /// may be below the last threshold.
    pub known: Vec<Rect>,
    /// Faces found already: nothing is looked for in their places, unless nearer to one of `known`.
    pub except: Vec<Rect>,
    /// O-Net looks at each face once more, at the place where it found it: box and landmarks depend less on where P-Net
    /// proposed it. Between a face and its copy with a painted mask edges differ by 1.9 % of the face then, instead of
    /// 2.6 % (678 faces of LFW).
    pub settle: bool,
    /// What R-Net and O-Net may take each; None for all candidates. The likeliest come first, but begin elsewhere in
    /// each search that follows one which was not finished: whoever is left out has a turn then.
    pub stage_time: Option<Duration>,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            min_face_size: DEFAULT_MIN_FACE_SIZE,
            thresholds: DEFAULT_THRESHOLDS,
            fine_odds: DEFAULT_FINE_ODDS,
            overlap: DEFAULT_OVERLAP,
            scale_factor: DEFAULT_SCALE_FACTOR,
            max_faces: 0,
            regions: Vec::new(),
            known: Vec::new(),
            except: Vec::new(),
            settle: true,
            stage_time: None,
        }
    }
}

impl Params {
    /// The least score of a candidate after R-Net (stage 1) or O-Net (stage 2).
    fn threshold(&self, stage: usize, candidate: &Candidate) -> f32 {
        let usual = self.thresholds[stage];
        let place = candidate.rect();
        let is_known = self.known.iter().any(|face| face.iou(&place) >= SAME_PLACE);
        if is_known {
            usual.min(KNOWN_THRESHOLDS[stage - 1])
        } else {
            usual
        }
    }
}

/// The three networks and their scratch memory. One per thread.
pub struct Detector {
    proposer: Proposer,
    rnet: Stage,
    onet: Stage,
    stages: Stages,
    reach: f32,
    /// Whether the last search had more candidates than [`MAX_CANDIDATES`].
    is_capped: bool,
    /// Searches one after the other that had not time for all their candidates.
    unfinished: u32,
}

/// Where the time of the last search or look went; of all threads together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stages {
    /// Levels of the pyramid from the picture's planes.
    pub pyramid: Duration,
    /// P-Net on all levels.
    pub pnet: Duration,
    /// Crops for R-Net and O-Net from the picture's planes.
    pub crops: Duration,
    pub rnet: Duration,
    pub onet: Duration,
}

impl fmt::Debug for Detector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Detector").finish_non_exhaustive()
    }
}

impl Detector {
    /// The networks that are part of this library.
    pub fn built_in(options: &SessionOptions) -> Result<Self, RuntimeError> {
        let pnet = Source::Bytes("pnet (built in)", include_bytes!("../../models/pnet.onnx"));
        let rnet = Source::Bytes("rnet (built in)", include_bytes!("../../models/rnet.onnx"));
        let onet = Source::Bytes("onet (built in)", include_bytes!("../../models/onet.onnx"));
        Self::new([pnet, rnet, onet], options)
    }

    /// `pnet.onnx`, `rnet.onnx` and `onet.onnx` in a folder; inputs and outputs as those in
    /// `models/`.
    pub fn from_folder(folder: &Path, options: &SessionOptions) -> Result<Self, RuntimeError> {
        let files = ["pnet.onnx", "rnet.onnx", "onet.onnx"].map(|name| folder.join(name));
        Self::new(files.each_ref().map(|file| Source::File(file)), options)
    }

    fn new(
        [pnet, rnet, onet]: [Source; 3],
        options: &SessionOptions,
    ) -> Result<Self, RuntimeError> {
        Ok(Self {
            proposer: Proposer::new(pnet, options)?,
            rnet: Stage::new(Role::RNet, rnet, options)?,
            onet: Stage::new(Role::ONet, onet, options)?,
            stages: Stages::default(),
            reach: 1.0,
            is_capped: false,
            unfinished: 0,
        })
    }

    /// Another detector with the same networks and memory of its own: both may run at the same time.
    pub fn fork(&self) -> Self {
        Self {
            proposer: self.proposer.fork(),
            rnet: self.rnet.fork(),
            onet: self.onet.fork(),
            stages: Stages::default(),
            reach: 1.0,
            is_capped: false,
            unfinished: 0,
        }
    }

    /// P-Net, R-Net and O-Net.
    pub fn networks(&self) -> [&Network; 3] {
        [
            self.proposer.network(),
            self.rnet.network(),
            self.onet.network(),
        ]
    }

    /// Where the time of the last call of [`detect`](Self::detect) or [`follow`](Self::follow) went.
    pub fn stages(&self) -> Stages {
        self.stages
    }

    /// Which part of its candidates the last [`detect`](Self::detect) had [time](Params::stage_time) for; 1 for all.
    pub fn reach(&self) -> f32 {
        self.reach
    }

    /// Whether the last [`detect`](Self::detect) had more candidates than [`MAX_CANDIDATES`], of which the likeliest were
    /// looked at.
    pub fn is_capped(&self) -> bool {
        self.is_capped
    }

    /// The faces of an image, surest first.
    pub fn detect(&mut self, view: &ImageView, params: &Params) -> Result<Vec<Face>, RuntimeError> {
        self.proposer.begin();
        self.reach = 1.0;
        self.is_capped = false;
        let whole = Rect::new(0.0, 0.0, view.width() as f32, view.height() as f32);
        let mut candidates = Vec::new();
        let proposer = &mut self.proposer;
        if params.regions.is_empty() {
            proposer.propose(view, whole, params, &mut candidates)?;
        }
        for region in &params.regions {
            let region = region.intersection(&whole);
            let region = Rect::from_corners(
                region.x.floor(),
                region.y.floor(),
                region.right().ceil(),
                region.bottom().ceil(),
            );
            proposer.propose(view, region, params, &mut candidates)?;
        }
        self.is_capped |= keep_likeliest(&mut candidates, MAX_CANDIDATES[0]);
        let candidates = suppress(candidates, REFERENCE_OVERLAP, Overlap::Union, |c| c)
            .into_iter()
            .map(|c| c.refine(false).square())
            .filter(|c| {
                let place = c.rect();
                let nearest = |faces: &[Rect]| {
                    let overlaps = faces.iter().map(|face| face.iou(&place));
                    overlaps.fold(0.0, f32::max)
                };
                let found = nearest(&params.except);
                found < SAME_PLACE || found < nearest(&params.known)
            })
            .collect();
        let candidates = self.sort_out(view, params, candidates)?;
        let mut faces = self.decide(view, params, candidates)?;
        self.unfinished = match self.reach {
            1.0 => 0,
            _ => self.unfinished.wrapping_add(1),
        };
        if !params.known.is_empty() {
            drop_faint_copies(&mut faces, params.thresholds[2]);
        }
        if params.max_faces > 0 && faces.len() > params.max_faces {
            faces.sort_by(|a, b| b.rect.area().total_cmp(&a.rect.area()));
            faces.truncate(params.max_faces);
            faces.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
        }
        if params.settle {
            self.settle(view, params, &mut faces)?;
        }
        self.note_stages();
        Ok(faces)
    }

    fn note_stages(&mut self) {
        let (pyramid, pnet) = self.proposer.clock().take();
        let (first, rnet) = self.rnet.clock().take();
        let (second, onet) = self.onet.clock().take();
        self.stages = Stages {
            pyramid,
            pnet,
            crops: first + second,
            rnet,
            onet,
        };
    }

    /// Looks for one face at each of these places, where it was a moment ago or is expected to be, without
    /// searching the picture; whether it is there, the caller decides by its confidence. None where O-Net gives
    /// no numbers.
    pub fn follow(
        &mut self,
        view: &ImageView,
        places: &[Rect],
    ) -> Result<Vec<Option<Face>>, RuntimeError> {
        let squares: Vec<_> = places
            .iter()
            .map(|p| Candidate::around(p).square())
            .collect();
        let mut found = vec![None; places.len()];
        for (number, face) in self.look(view, &squares, None, |_| f32::NEG_INFINITY)? {
            found[number] = Some(face.into());
        }
        self.note_stages();
        Ok(found)
    }

    /// Steps of the golden section, which come everywhere soon.
    fn take_turns(&self, candidates: &mut [Candidate]) {
        const GOLDEN: f64 = 0.618_034;
        let start = (f64::from(self.unfinished) * GOLDEN).fract();
        candidates.rotate_left((start * candidates.len() as f64) as usize);
    }

    /// R-Net: drops what is no face and refines the rest.
    fn sort_out(
        &mut self,
        view: &ImageView,
        params: &Params,
        mut candidates: Vec<Candidate>,
    ) -> Result<Vec<Candidate>, RuntimeError> {
        self.take_turns(&mut candidates);
        let outputs = self.rnet.run(view, &candidates, params.stage_time)?;
        let [offsets, scores] = outputs else {
            return Ok(Vec::new());
        };
        let threshold = |c: &Candidate| params.threshold(1, c);
        let kept = update(&candidates, offsets, scores, threshold).map(|(_, c)| c);
        let kept = kept.collect();
        self.reach *= part(self.rnet.squares(), candidates.len());
        let mut kept = suppress(kept, params.overlap, Overlap::Union, |c| c);
        self.is_capped |= keep_likeliest(&mut kept, MAX_CANDIDATES[1]);
        let kept = kept.into_iter();
        Ok(kept.map(|c| c.refine(true).square()).collect())
    }

    /// O-Net: the last word, and the landmarks.
    fn decide(
        &mut self,
        view: &ImageView,
        params: &Params,
        mut candidates: Vec<Candidate>,
    ) -> Result<Vec<Face>, RuntimeError> {
        self.take_turns(&mut candidates);
        let time = params.stage_time;
        let found = self.look(view, &candidates, time, |c| params.threshold(2, c))?;
        self.reach *= part(self.onet.squares(), candidates.len());
        let found = found.into_iter().map(|(_, face)| face).collect();
        Ok(
            suppress(found, REFERENCE_OVERLAP, Overlap::Smaller, |(c, _)| c)
                .into_iter()
                .map(Face::from)
                .collect(),
        )
    }

    /// Moves faces to where O-Net sees them from straight ahead. How sure it is of one stays what it was when it chose.
    fn settle(
        &mut self,
        view: &ImageView,
        params: &Params,
        faces: &mut [Face],
    ) -> Result<(), RuntimeError> {
        let square = |face: &Face| Candidate::around(&face.rect).square();
        let squares: Vec<_> = faces.iter().map(square).collect();
        for (number, seen) in self.look(view, &squares, params.stage_time, |_| f32::NEG_INFINITY)? {
            let (face, seen) = (&mut faces[number], Face::from(seen));
            if seen.rect.iou(&face.rect) >= SETTLED.0 && seen.confidence >= SETTLED.1 {
                (face.rect, face.landmarks) = (seen.rect, seen.landmarks);
            }
        }
        Ok(())
    }

    /// What O-Net sees in squares, where it scores above the threshold: the number of the square, the box and the landmarks.
    fn look(
        &mut self,
        view: &ImageView,
        squares: &[Candidate],
        time: Option<Duration>,
        threshold: impl Fn(&Candidate) -> f32 + Copy,
    ) -> Result<Vec<(usize, Decided)>, RuntimeError> {
        let outputs = self.onet.run(view, squares, time)?;
        let [offsets, points, scores] = outputs else {
            return Ok(Vec::new());
        };
        Ok(update(squares, offsets, scores, threshold)
            .filter_map(|(i, c)| {
                let landmarks = c.landmarks(points.get(i * 10..i * 10 + 10)?);
                Some((i, (c.refine(true), landmarks)))
            })
            .filter(|(_, (c, landmarks))| c.is_finite() && landmarks.is_finite())
            .collect())
    }
}

/// Leaves so many candidates; says whether there were more.
fn keep_likeliest(candidates: &mut Vec<Candidate>, most: usize) -> bool {
    if candidates.len() <= most {
        return false;
    }
    candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
    candidates.truncate(most);
    true
}

/// Of candidates, 1 where there were none.
fn part(some: usize, all: usize) -> f32 {
    if some < all {
        some as f32 / all as f32
    } else {
        1.0
    }
}

/// O-Net's box and landmarks.
type Decided = (Candidate, Landmarks);

impl From<Decided> for Face {
    fn from((candidate, landmarks): Decided) -> Self {
        Self {
            rect: candidate.rect(),
            confidence: candidate.score,
            landmarks,
        }
    }
}

/// Drops faces below a confidence that overlap with a surer one, not smaller than they are: they are a
/// part of it. Faces come surest first.
fn drop_faint_copies(faces: &mut Vec<Face>, confidence: f32) {
    let mut kept: Vec<Face> = Vec::with_capacity(faces.len());
    for face in faces.drain(..) {
        let is_part = |other: &Face| {
            let (own, others) = (face.rect.area(), other.rect.area());
            own <= others && face.rect.intersection(&other.rect).area() > SAME_PLACE * own
        };
        if face.confidence >= confidence || !kept.iter().any(is_part) {
            kept.push(face);
        }
    }
    *faces = kept;
}

/// The candidates that score above their threshold, with their new scores and offsets.
fn update<'a>(
    batch: &'a [Candidate],
    offsets: &'a [f32],
    scores: &'a [f32],
    threshold: impl Fn(&Candidate) -> f32 + 'a,
) -> impl Iterator<Item = (usize, Candidate)> + 'a {
    batch
        .iter()
        .zip(offsets.chunks_exact(4).zip(scores.chunks_exact(2)))
        .enumerate()
        .filter(move |(_, (candidate, (_, score)))| score[1] > threshold(candidate))
        .map(|(i, (candidate, (o, score)))| {
            let candidate = Candidate {
                corners: candidate.corners,
                score: score[1],
                offsets: [o[0], o[1], o[2], o[3]],
            };
            (i, candidate)
        })
        .filter(|(_, candidate)| candidate.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn face(x: f32, side: f32, confidence: f32) -> Face {
        Face {
            rect: Rect::new(x, 0.0, side, side),
            confidence,
            landmarks: Landmarks::default(),
        }
    }

    #[test]
    fn what_is_faint_is_dropped_beside_what_is_clear() {
        let mut faces = vec![
            face(0.0, 100.0, 0.99),
            face(60.0, 100.0, 0.9),
            face(10.0, 50.0, 0.5),
            face(300.0, 100.0, 0.4),
            face(310.0, 90.0, 0.3),
            // Clear, but a part of what is faint.
            face(500.0, 40.0, 0.8),
            face(480.0, 100.0, 0.3),
        ];
        drop_faint_copies(&mut faces, 0.7);
        let kept: Vec<_> = faces.iter().map(|f| f.confidence).collect();
        assert_eq!(kept, [0.99, 0.9, 0.4, 0.8, 0.3]);
    }

    #[test]
    fn less_is_asked_only_where_a_face_was() {
        let params = Params {
            known: vec![Rect::new(100.0, 100.0, 80.0, 100.0)],
            ..Params::default()
        };
        let candidate = |x: f64| Candidate {
            corners: [x, 100.0, x + 100.0, 200.0],
            score: 1.0,
            offsets: [0.0; 4],
        };
        assert_eq!(params.threshold(1, &candidate(90.0)), KNOWN_THRESHOLDS[0]);
        assert_eq!(params.threshold(2, &candidate(90.0)), KNOWN_THRESHOLDS[1]);
        assert_eq!(
            params.threshold(2, &candidate(300.0)),
            DEFAULT_THRESHOLDS[2]
        );
    }
}
