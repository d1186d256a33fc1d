//! Face detection with MTCNN (Zhang, Zhang, Li, Qiao 2016, <https://arxiv.org/abs/1604.02878>):
//! P-Net proposes candidates on an image pyramid, R-Net rejects most of them, O-Net decides and locates the landmarks.

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

/// Name of this detector in metadata and galleries.
pub const NAME: &str = "mtcnn";

/// Maximum number of candidates, those of the highest scores, that R-Net and O-Net process: even settings that let
/// everything pass take no more than a second per frame. Scenes of WIDER FACE and photos of masked people have at most
/// 314 and 98 by default (508 photos), 2,556 and 518 with faces from 12 pixels on.
pub const MAX_CANDIDATES: [usize; 2] = [6_000, 800];

/// Stage thresholds of the reference ports.
pub const DEFAULT_THRESHOLDS: [f32; 3] = [0.6, 0.7, 0.7];
/// Default of [`Params::fine_odds`]. Compared with 1, 819 instead of 822 of 925 masked faces of Face Mask Detection
/// (from 20 pixels on) and 532 instead of 531 of 617 faces of WIDER FACE are found, with 3 and 14 % fewer false
/// positives, in up to a seventh less time (docs/accuracy.md).
pub const DEFAULT_FINE_ODDS: f32 = 2.0;
/// Scale factor between pyramid levels in the reference ports, which about halves the area.
pub const DEFAULT_SCALE_FACTOR: f32 = 0.709;
/// Shorter side in pixels of the smallest face to detect.
pub const DEFAULT_MIN_FACE_SIZE: u32 = 40;
/// Range of the minimum face size. Below P-Net's window of 12 pixels, a level would upscale the image and find no
/// further faces.
pub const MIN_FACE_SIZES: std::ops::RangeInclusive<u32> = 12..=10_000;
/// Range of the scale factor, from hardly any pyramid levels to dozens.
pub const SCALE_FACTORS: std::ops::RangeInclusive<f32> = 0.1..=0.95;

/// NMS threshold of the reference ports: between pyramid levels, after R-Net and after O-Net.
pub const REFERENCE_OVERLAP: f64 = 0.7;
/// Default NMS threshold after R-Net. As many faces are found as with [`REFERENCE_OVERLAP`], with 6 and 13 % fewer
/// false positives, in 6 to 20 % less time for the whole search (docs/accuracy.md).
pub const DEFAULT_OVERLAP: f64 = 0.6;

/// Thresholds of R-Net and O-Net where a face was found recently: faces that turn, look up or put a mask on have low
/// scores for some frames. Elsewhere such low scores are mostly false positives.
const KNOWN_THRESHOLDS: [f32; 2] = [0.3, KNOWN_THRESHOLD];

/// Minimum confidence of a face where one was found recently.
pub const KNOWN_THRESHOLD: f32 = 0.2;

/// Minimum IoU of a face and the result of its second O-Net pass, below which the result is another face; and minimum
/// confidence of that result, below which the face keeps its first box.
const SETTLED: (f32, f32) = (0.5, DEFAULT_THRESHOLDS[2]);

/// Minimum IoU of the boxes of one face: in two frames, and of a known face and a candidate at its place, which is square and
/// only P-Net's estimate.
pub(crate) const SAME_PLACE: f32 = 0.3;

/// A detected face.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Face {
    /// Box in pixels of the image, which may extend slightly beyond it.
    pub rect: Rect,
    /// O-Net's probability, 0…1.
    pub confidence: f32,
    pub landmarks: Landmarks,
}

/// Parameters of face detection.
#[derive(Debug, Clone, PartialEq)]
pub struct Params {
    /// Shorter side in pixels of the smallest face to detect, [`MIN_FACE_SIZES`].
    pub min_face_size: u32,
    /// Score thresholds of P-Net, R-Net and O-Net, 0…1.
    pub thresholds: [f32; 3],
    /// Threshold ratio of P-Net for the finest levels (faces up to 1.7 times the smallest size), by which the odds of
    /// its threshold are multiplied; 1 in the reference ports. Most candidates are on these levels, and those of low
    /// score are hardly ever the only ones of a face.
    pub fine_odds: f32,
    /// NMS threshold after R-Net: O-Net processes only the better one of two boxes that overlap more.
    pub overlap: f64,
    /// Scale factor from one pyramid level to the next, [`SCALE_FACTORS`].
    pub scale_factor: f32,
    /// Maximum number of faces, of which the largest are returned; 0 for all.
    pub max_faces: usize,
    /// Regions to search, in pixels; the whole image if empty. A face is reported once where regions overlap.
    pub regions: Vec<Rect>,
    /// Boxes of recently found faces, near which lower thresholds apply. The confidence of faces found there may be
    /// below the last threshold.
    pub known: Vec<Rect>,
    /// Boxes of faces that need no detection: candidates there are dropped, unless they are nearer to one of `known`.
    pub except: Vec<Rect>,
    /// Whether O-Net processes each face a second time, at the box that it returned: box and landmarks then depend less
    /// on P-Net's candidate. Edges of a face and of its copy with a painted mask then differ by 1.9 % of the face
    /// instead of 2.6 % (678 faces of LFW).
    pub settle: bool,
    /// Time budget of R-Net and of O-Net each; `None` for no limit. Candidates are processed in order of score, but
    /// after an unfinished search the next one starts at another position, so that each candidate is processed
    /// eventually.
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
    /// Score threshold of a candidate after R-Net (stage 1) or O-Net (stage 2).
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

/// The three networks and their scratch memory. Each thread uses its own.
pub struct Detector {
    proposer: Proposer,
    rnet: Stage,
    onet: Stage,
    stages: Stages,
    reach: f32,
    /// Whether the last search had more candidates than [`MAX_CANDIDATES`].
    is_capped: bool,
    /// Number of consecutive searches that ran out of time before they had processed all candidates.
    unfinished: u32,
}

/// Time spent in the stages of the last call, summed over all threads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stages {
    /// Resampling of the image to pyramid levels.
    pub pyramid: Duration,
    /// P-Net on all levels.
    pub pnet: Duration,
    /// Resampling of the image to crops for R-Net and O-Net.
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
    /// Loads the networks that are built into this library.
    pub fn built_in(options: &SessionOptions) -> Result<Self, RuntimeError> {
        let pnet = Source::Bytes("pnet (built in)", include_bytes!("../../models/pnet.onnx"));
        let rnet = Source::Bytes("rnet (built in)", include_bytes!("../../models/rnet.onnx"));
        let onet = Source::Bytes("onet (built in)", include_bytes!("../../models/onet.onnx"));
        Self::new([pnet, rnet, onet], options)
    }

    /// Loads `pnet.onnx`, `rnet.onnx` and `onet.onnx` from a folder. Their inputs and outputs must be those of the
    /// files in `models/`.
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

    /// Another detector with the same networks and scratch memory of its own: both may run at the same time.
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

    /// Time spent in the stages of the last call of [`detect`](Self::detect) or [`follow`](Self::follow).
    pub fn stages(&self) -> Stages {
        self.stages
    }

    /// Fraction of the candidates that the last [`detect`](Self::detect) processed [in time](Params::stage_time); 1 for
    /// all.
    pub fn reach(&self) -> f32 {
        self.reach
    }

    /// Whether the last [`detect`](Self::detect) had more candidates than [`MAX_CANDIDATES`] and processed only those
    /// of the highest scores.
    pub fn is_capped(&self) -> bool {
        self.is_capped
    }

    /// Detects the faces in an image, sorted by descending confidence.
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

    /// Runs O-Net at each of these boxes, where a face was recently or is expected, without searching the image. The
    /// caller decides by the confidence whether a face is there. `None` if an output of O-Net is not finite.
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

    /// Rotates the candidates by multiples of the golden ratio, so that successive searches soon start everywhere.
    fn take_turns(&self, candidates: &mut [Candidate]) {
        const GOLDEN: f64 = 0.618_034;
        let start = (f64::from(self.unfinished) * GOLDEN).fract();
        candidates.rotate_left((start * candidates.len() as f64) as usize);
    }

    /// R-Net: drops candidates that are not faces and refines the others.
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

    /// O-Net: the final decision, and the landmarks.
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

    /// Second O-Net pass, on crops that are centred on the faces: updates boxes and landmarks. The confidence remains
    /// that of the first pass.
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

    /// Runs O-Net on square crops and returns those that score above the threshold: index of the crop, box and
    /// landmarks.
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

/// Keeps the `most` candidates of the highest scores; returns whether there were more.
fn keep_likeliest(candidates: &mut Vec<Candidate>, most: usize) -> bool {
    if candidates.len() <= most {
        return false;
    }
    candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
    candidates.truncate(most);
    true
}

/// Fraction of the candidates that were processed; 1 if there were none.
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

/// Drops faces below a confidence that overlap a face of higher confidence and at least their size, because they are
/// parts of it. Faces must be sorted by descending confidence.
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
            // This face is kept for its high confidence, although it is part of one of low confidence.
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
