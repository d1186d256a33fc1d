//! Open-set identification with people drawn from a model of faces: properties that hold for any network.

use ndarray::{Array1, Array2, arr1};

use super::score::{Samples, Scorer};
use super::strangers::{Normal, invert};
use super::*;

const DIM: usize = 24;
const RANK: usize = 20;

/// Orthogonal directions, with bare and masked faces about two centres.
fn statistics() -> Statistics {
    let mut projection = Array2::zeros((DIM, RANK));
    for i in 0..RANK {
        // Images of one person differ by this much, as a fraction of an embedding's length.
        projection[[i, i]] = 1.0 / 0.12;
    }
    let mut centres = Array2::zeros((2, DIM));
    centres[[0, RANK]] = 0.3;
    centres[[1, RANK + 1]] = 0.3;
    let between = Array1::from_shape_fn(RANK, |i| 30.0 / (1.0 + i as f32 / 6.0));
    Statistics::new(centres, projection, between).unwrap()
}

/// A source of people and of images of them, drawn from the model.
struct World {
    statistics: Statistics,
    normal: Normal,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            statistics: statistics(),
            normal: Normal::new(seed),
        }
    }

    fn person(&mut self) -> Array1<f32> {
        self.statistics
            .between
            .mapv(|variance| variance.sqrt() * self.normal.next())
    }

    /// An embedding of an image of a person.
    fn face(&mut self, person: &Array1<f32>, masked: bool) -> Array1<f32> {
        let noise = person.mapv(|_| self.normal.next());
        let mut embedding = Array1::zeros(DIM);
        for (i, value) in ((person + &noise) * 0.12).into_iter().enumerate() {
            embedding[i] = value;
        }
        let length = embedding.dot(&embedding).sqrt();
        embedding /= length;
        embedding * 0.9 + self.statistics.centres.row(usize::from(masked))
    }

    /// A gallery of people with `photos(k)` photos of person k, each with a masked copy.
    fn gallery(&mut self, people: &[Array1<f32>], photos: impl Fn(usize) -> usize) -> Gallery {
        let mut parts = Parts {
            names: (0..people.len())
                .map(|k| format!("person {k:04}"))
                .collect(),
            embeddings: Array2::zeros((0, DIM)),
            labels: Vec::new(),
            sources: Vec::new(),
            kinds: Vec::new(),
            svm: SvmPart::Untrained,
            statistics: Some(self.statistics.clone()),
            calibration: None,
            thresholds: None,
            contract: None,
        };
        for (k, person) in people.iter().enumerate() {
            for photo in 0..photos(k) {
                for (kind, end) in [(Kind::Photo, ""), (Kind::SyntheticMask, "#mask:cloth")] {
                    let face = self.face(person, kind.is_masked());
                    parts.embeddings.push_row(face.view()).unwrap();
                    parts.labels.push(k);
                    parts.kinds.push(kind);
                    parts.sources.push(format!("{k}/{photo}.jpg{end}"));
                }
            }
        }
        Gallery::assemble(parts).unwrap()
    }

    /// Share of `count` strangers that are named.
    fn strangers_named(&mut self, gallery: &Gallery, masked: bool, count: usize) -> f64 {
        let named = (0..count).filter(|_| {
            let stranger = self.person();
            let face = self.face(&stranger, masked);
            gallery.identify(face.view(), masked, None).label.is_some()
        });
        named.count() as f64 / count as f64
    }
}

#[test]
fn strangers_are_unknown_to_galleries_of_any_size() {
    for count in [1, 2, 30] {
        let mut world = World::new(count as u64);
        let people: Vec<_> = (0..count).map(|_| world.person()).collect();
        let gallery = world.gallery(&people, |_| 1);
        for masked in [false, true] {
            let named = world.strangers_named(&gallery, masked, 1000);
            assert!(named <= 0.02, "{count} people, masked {masked}: {named}");
        }
    }
}

#[test]
fn people_are_known_by_one_photo_with_and_without_a_mask() {
    // Few people: more need thresholds for close neighbours, whom drawn people do not have.
    let mut world = World::new(7);
    let people: Vec<_> = (0..5).map(|_| world.person()).collect();
    let gallery = world.gallery(&people, |_| 1);
    for masked in [false, true] {
        let right = (0..20).filter(|i| {
            let face = world.face(&people[i % 5], masked);
            gallery.identify(face.view(), masked, None).label == Some(i % 5)
        });
        let right = right.count();
        assert!(right >= 16, "masked {masked}: {right} of 20");
    }
}

#[test]
fn fifty_photos_are_no_advantage_over_two() {
    let mut world = World::new(11);
    let people: Vec<_> = (0..6).map(|_| world.person()).collect();
    let gallery = world.gallery(&people, |k| if k == 0 { 50 } else { 2 });
    let mut first = [0; 6];
    for _ in 0..1200 {
        let stranger = world.person();
        let face = world.face(&stranger, false);
        first[gallery.identify(face.view(), false, None).candidates[0].label] += 1;
    }
    // An equal share of the six people would be 200.
    assert!(first[0] <= 400, "{first:?}");
}

#[test]
fn calibration_leaves_a_photo_out_together_with_its_copies() {
    let mut world = World::new(3);
    let people: Vec<_> = (0..60).map(|_| world.person()).collect();
    let mut gallery = world.gallery(&people, |_| 4);
    let calibration = gallery.calibrate(0.05).unwrap();
    for side in [&calibration.bare, &calibration.masked] {
        // Each photo is tried once as one of a known person, while another fifth of the people is left out.
        assert_eq!(side.strangers.len(), 60 * 4);
        assert!(side.known() >= 60 * 3, "{}", side.known());
        let named = side.strangers_named() as f64 / side.strangers.len() as f64;
        assert!(named <= 0.1, "{named}");
        let (right, wrong) = side.named();
        assert!(
            right >= side.known() * 3 / 4 && wrong <= 2,
            "{right} {wrong}"
        );
    }
    assert_eq!(gallery.thresholds(), calibration.thresholds());
    for masked in [false, true] {
        let named = world.strangers_named(&gallery, masked, 1000);
        // Drawn strangers have no close neighbours, so fewer score high than the calibration allows for.
        assert!(named > 0.0 && named < 0.1, "masked {masked}: {named}");
    }
}

#[test]
fn fewer_strangers_are_named_where_fewer_may_be() {
    let mut world = World::new(5);
    let people: Vec<_> = (0..10).map(|_| world.person()).collect();
    let mut gallery = world.gallery(&people, |_| 2);
    let mut at = |target| gallery.calibrate(target).unwrap().bare.threshold;
    let thresholds = [at(0.2), at(0.01), at(0.0001)];
    assert!(thresholds.is_sorted(), "{thresholds:?}");
}

#[test]
fn confidence_is_the_share_of_answers_that_are_right() {
    let mut world = World::new(13);
    let people: Vec<_> = (0..60).map(|_| world.person()).collect();
    let mut gallery = world.gallery(&people, |_| 4);
    gallery.calibrate(0.01).unwrap();
    // As many strangers as known people; the first candidate counts as the name at any similarity.
    let (mut promised, mut right) = (0.0, 0);
    for i in 0..1200 {
        let known = i % 2 == 0;
        let person = if known {
            people[i % 60].clone()
        } else {
            world.person()
        };
        let face = world.face(&person, false);
        let found = gallery.identify(face.view(), false, Some(0.0));
        promised += f64::from(found.confidence);
        right += usize::from(known && found.label == Some(i % 60));
    }
    let difference = (promised - right as f64) / 1200.0;
    assert!(
        difference.abs() < 0.05,
        "{promised} promised, {right} right"
    );
}

#[test]
fn the_evidence_is_the_logarithm_of_the_likelihood_ratio() {
    // One dimension, calculated by hand: W = 1, B = 3, two photos at x = 2 and 4 (mean 3).
    let statistics = Statistics::new(
        Array2::zeros((2, 2)),
        ndarray::arr2(&[[5.0], [0.0]]),
        arr1(&[3.0]),
    )
    .unwrap();
    let on_circle = |x: f32| arr1(&[x / 5.0, (1.0 - x * x / 25.0).sqrt()]);
    let mut embeddings = Array2::zeros((0, 2));
    for x in [2.0, 4.0] {
        embeddings.push_row(on_circle(x).view()).unwrap();
    }
    let samples = Samples {
        embeddings: embeddings.view(),
        labels: &[0, 0],
        kinds: &[Kind::Photo; 2],
        people: 1,
    };
    let svm = train_svm(samples).unwrap();
    let scorer = Scorer::fused(samples, svm, Some(&statistics));
    let face = on_circle(1.0);
    // The person: mean 3·3/(3 + 1/2), a new image with variance 3/(1 + 2·3) + 1; anyone: mean 0, variance 4.
    let (mean, variance) = (9.0 / 3.5, 3.0 / 7.0 + 1.0f32);
    let density = |d: f32, variance: f32| -0.5 * (d * d / variance + variance.ln());
    let expected = density(1.0 - mean, variance) - density(1.0, 4.0);
    let found = scorer.evidence(face.view(), false).unwrap()[0];
    assert!((found - expected).abs() < 1e-4, "{found} {expected}");
}

#[test]
fn the_statistics_that_come_along_are_of_the_network_that_comes_along() {
    use sha2::{Digest, Sha256};
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/models/facenet.onnx");
    let hash = Sha256::digest(std::fs::read(model).unwrap());
    let hash: String = hash.iter().map(|b| format!("{b:02x}")).collect();
    let statistics = Statistics::built_in(&hash).unwrap().unwrap();
    assert_eq!(statistics.dim(), 512);
    assert!(statistics.between.iter().is_sorted_by(|a, b| a >= b));
    assert_eq!(Statistics::built_in(&"0".repeat(64)).unwrap(), None);
}

#[test]
fn a_gallery_keeps_its_statistics_in_its_file() {
    let mut world = World::new(17);
    let people: Vec<_> = (0..3).map(|_| world.person()).collect();
    let mut gallery = world.gallery(&people, |_| 2);
    gallery.calibrate(0.02).unwrap();
    let mut file = std::io::Cursor::new(Vec::new());
    gallery.write(&mut file).unwrap();
    assert_eq!(Gallery::read(file).unwrap(), gallery);
}

#[test]
fn matrices_are_inverted_where_they_can_be() {
    let matrix = ndarray::arr2(&[[0.0, 2.0, 1.0], [1.0, 1.0, 0.0], [3.0, 0.0, 1.0]]);
    let product = matrix.dot(&invert(&matrix).unwrap());
    let difference = product - Array2::<f32>::eye(3);
    assert!(difference.iter().all(|v| v.abs() < 1e-6));
    assert_eq!(invert(&ndarray::arr2(&[[1.0, 2.0], [2.0, 4.0]])), None);
}
