//! Galleries of more people than an SVM is trained for.

use ndarray::{Array1, Array2, arr1};

use super::score::{LargeScorer, Samples, Scorer};
use super::*;

/// SHA-256 of the network that the built-in statistics are of.
fn model_sha256() -> String {
    use sha2::{Digest, Sha256};
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/models/facenet.onnx");
    let hash = Sha256::digest(std::fs::read(model).unwrap());
    hash.iter().map(|b| format!("{b:02x}")).collect()
}

fn statistics() -> &'static Statistics {
    Statistics::built_in(&model_sha256()).unwrap().unwrap()
}

fn contract() -> Contract {
    Contract::new(&model_sha256(), statistics().dim())
}

/// One photo of each of these people; of every tenth two more, and masked copies of every fifth.
fn entries(people: std::ops::Range<usize>) -> Vec<Entry> {
    let faces = SyntheticFaces::of(statistics()).unwrap();
    let mut entries = Vec::new();
    for person in people {
        let mut images = vec![(0, false)];
        if person % 10 == 0 {
            images.extend([(1, false), (2, false)]);
        }
        if person % 5 == 0 {
            images.push((0, true));
        }
        for (image, masked) in images {
            let end = if masked { "#mask:cloth" } else { "" };
            let face = faces.draw(person as u64, 1, image, masked);
            entries.push(Entry {
                name: format!("person {person:05}"),
                source: format!("{person}/{image}.jpg{end}"),
                kind: if masked {
                    Kind::SyntheticMask
                } else {
                    Kind::Photo
                },
                embedding: face.row(0).to_owned(),
            });
        }
    }
    entries
}

/// A gallery as `build` makes it.
fn built(entries: Vec<Entry>) -> Gallery {
    let mut gallery = Gallery::train(entries, contract()).unwrap();
    gallery.calibrate(DEFAULT_TARGET_FPIR).unwrap();
    gallery
}

const X: usize = MOST_SVM_PEOPLE + 5;

#[test]
fn without_an_svm_every_way_to_a_gallery_gives_the_same_too() {
    let (x, y) = (entries(0..X), entries(X..X + 10));
    let small = built(x.clone());
    assert!(!small.has_svm());
    let all = built([x.clone(), y.clone()].concat());
    assert_ne!(small.thresholds(), all.thresholds());
    let (added, _) = small
        .remade([x.clone(), y.clone()].concat(), contract())
        .unwrap();
    assert!(added == all);
    // As a merge with the other gallery first.
    let (merged, _) = all.remade([y, x.clone()].concat(), contract()).unwrap();
    assert!(merged == all);
    let (removed, _) = all.remade(x, contract()).unwrap();
    assert!(removed == small);
    let mut file = std::io::Cursor::new(Vec::new());
    small.write(&mut file).unwrap();
    let mut npz = npz::NpzReader::new(&mut file).unwrap();
    assert_eq!(npz.shape("svm_weights").unwrap(), [0, 512]);
    assert_eq!(npz.shape("svm_bias").unwrap(), [0]);
    assert!(Gallery::read(file).unwrap() == small);
}

#[test]
fn people_of_a_large_gallery_are_named_and_strangers_are_not() {
    let gallery = built(entries(0..X));
    let faces = SyntheticFaces::of(statistics()).unwrap();
    for masked in [false, true] {
        // People with a masked copy, and strangers.
        let known: Vec<usize> = (0..X).step_by(5).collect();
        let right = known.iter().filter(|&&person| {
            let face = faces.draw(person as u64, 1, 9, masked);
            let found = gallery.identify(face.row(0), masked, None);
            found.label == Some(person)
        });
        let right = right.count() as f64 / known.len() as f64;
        let strangers = faces.draw(1_000_000, 400, 9, masked);
        let named = strangers
            .rows()
            .into_iter()
            .filter(|face| gallery.identify(*face, masked, None).label.is_some());
        let named = named.count();
        // Thresholds allow for close neighbours, whom drawn people do not have.
        assert!(
            right > 0.4 && named < 20,
            "masked {masked}: {right}, {named}"
        );
    }
}

#[test]
fn the_first_candidate_is_that_of_the_full_score_and_a_given_person_is_scored_too() {
    let gallery = built(entries(0..X));
    let faces = SyntheticFaces::of(statistics()).unwrap();
    for masked in [false, true] {
        for face in faces.draw(X as u64 - 100, 200, 9, masked).rows() {
            let all = gallery.scores(face, masked);
            let found = gallery.similarities(face, masked, Some(3));
            let best = all.iter().copied().fold(0.0, f32::max);
            assert!((found.best() - best).abs() < 1e-5);
            for (label, score) in found.iter() {
                assert!((score - all[label]).abs() < 1e-5);
            }
            assert!((found.get(3).unwrap() - all[3]).abs() < 1e-5);
            assert!(found.iter().count() < 300);
        }
    }
}

#[test]
fn the_two_steps_agree_with_the_evidence_and_the_cosine_computed_for_everybody() {
    let entries = entries(0..200);
    let labels: Vec<usize> = entries
        .iter()
        .map(|e| e.name[7..].parse().unwrap())
        .collect();
    let kinds: Vec<Kind> = entries.iter().map(|e| e.kind).collect();
    let mut embeddings = Array2::zeros((entries.len(), 512));
    for (mut row, entry) in embeddings.rows_mut().into_iter().zip(&entries) {
        row.assign(&entry.embedding);
    }
    let samples = Samples {
        embeddings: embeddings.view(),
        labels: &labels,
        kinds: &kinds,
        people: 200,
    };
    let svm = LinearSvm {
        weights: Array2::zeros((200, 512)),
        bias: Array1::zeros(200),
    };
    let fused = Scorer::fused(samples, svm, Some(statistics()));
    let large = LargeScorer::new(
        embeddings.clone().into(),
        &labels,
        &kinds,
        200,
        Some(statistics()),
    );
    let faces = SyntheticFaces::of(statistics()).unwrap();
    let logit = |score: f32| (score / (1.0 - score)).ln();
    for masked in [false, true] {
        let face = faces.draw(10, 1, 9, masked);
        let face = face.row(0);
        let evidence = fused.evidence(face, masked).unwrap();
        let cosine = |person: usize| {
            let is_own = |&row: &usize| labels[row] == person && kinds[row].is_masked() == masked;
            let mut own: Vec<usize> = (0..labels.len()).filter(is_own).collect();
            if own.is_empty() {
                own = (0..labels.len())
                    .filter(|&row| labels[row] == person)
                    .collect();
            }
            let mean: Array1<f32> = embeddings
                .select(ndarray::Axis(0), &own)
                .sum_axis(ndarray::Axis(0));
            mean.dot(&face) / mean.dot(&mean).sqrt()
        };
        let scores = large.scores(face, masked);
        // The score is the logistic function of a weighted sum: any two people give its two unknown numbers.
        let sum = |person: usize| 0.0005 * evidence[person] + 0.3 * cosine(person);
        let slope = (logit(scores[10]) - logit(scores[20])) / (sum(10) - sum(20));
        for person in 0..200 {
            let expected = logit(scores[10]) + slope * (sum(person) - sum(10));
            let found = logit(scores[person].max(1e-7));
            assert!(
                (found - expected).abs() < 0.02 * (1.0 + expected.abs()),
                "{person}: {found} {expected}"
            );
        }
        // A person with all their embeddings is scored as when the gallery was made.
        for person in [10, 11, 15] {
            let own = large.sum_with(face, masked, large.rows(person));
            assert!((own - sum(person)).abs() < 1e-3, "{own} {}", sum(person));
        }
    }
}

#[test]
fn a_large_gallery_of_another_network_does_without_statistics() {
    let direction = |person: usize| {
        let mut normal = strangers::Normal::new(person as u64);
        let values = Array1::from_shape_simple_fn(16, || normal.next());
        let length = values.dot(&values).sqrt();
        values / length
    };
    let entries = (0..X).map(|person| Entry {
        name: format!("person {person:05}"),
        source: String::new(),
        kind: Kind::Photo,
        embedding: direction(person),
    });
    let contract = Contract {
        model_sha256: "ab".repeat(32),
        embedding_dim: 16,
        ..contract()
    };
    let gallery = Gallery::train(entries.collect(), contract).unwrap();
    assert!(!gallery.has_svm());
    let found = gallery.identify(direction(700).view(), false, Some(0.5));
    assert_eq!(found.candidates[0].label, 700);
    // Neither another size nor a zero is like anybody.
    for face in [arr1(&[0.0; 16]), arr1(&[1.0, 0.0])] {
        assert_eq!(gallery.identify(face.view(), false, None).label, None);
    }
}

#[test]
fn a_file_without_an_svm_may_hold_few_people() {
    let gallery = Gallery::assemble(Parts {
        names: vec!["Ana".into(), "Bo".into()],
        embeddings: SyntheticFaces::of(statistics())
            .unwrap()
            .draw(0, 2, 0, false),
        labels: vec![0, 1],
        sources: vec![String::new(); 2],
        kinds: vec![Kind::Photo; 2],
        svm: SvmPart::Absent,
        statistics: Some(statistics().clone()),
        calibration: None,
        thresholds: None,
        contract: None,
    })
    .unwrap();
    let mut file = std::io::Cursor::new(Vec::new());
    gallery.write(&mut file).unwrap();
    let back = Gallery::read(file).unwrap();
    assert!(!back.has_svm());
    assert!(back == gallery);
}
