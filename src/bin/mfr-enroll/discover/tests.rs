use super::*;
use crate::vision::portrait::Portrait;
use ndarray::arr1;

fn face(embedding: [f32; 2], x: f32) -> FoundFace {
    FoundFace {
        rect: [x, 0.0, 100.0, 100.0],
        is_masked: false,
        portrait: Portrait::default(),
        embedding: Some(Embedding(arr1(&embedding))),
    }
}

fn frame(time: Option<f64>, faces: Vec<FoundFace>) -> FoundImage<FoundFace> {
    FoundImage {
        time: time.map(Duration::from_secs_f64),
        faces,
    }
}

const ANA: [f32; 2] = [1.0, 0.0];
const BO: [f32; 2] = [0.0, 1.0];

#[test]
fn faces_of_consecutive_frames_in_one_place_are_a_track() {
    let images = [
        frame(Some(0.0), vec![face(ANA, 0.0), face(BO, 300.0)]),
        frame(Some(0.5), vec![face(BO, 310.0), face(ANA, 20.0)]),
        // Somebody else is in the place of the first face.
        frame(Some(1.0), vec![face(BO, 20.0)]),
        // Too long after, and too far away.
        frame(Some(3.0), vec![face(BO, 20.0)]),
        frame(Some(3.5), vec![face(BO, 200.0)]),
    ];
    let tracks = tracks::tracks(&images);
    let expected: [&[usize]; 5] = [&[0, 1], &[1, 0], &[2], &[3], &[4]];
    for (tracks, expected) in tracks.iter().zip(expected) {
        let tracks: Vec<usize> = tracks.iter().map(|track| track.unwrap()).collect();
        assert_eq!(tracks, expected);
    }
    // Photos have no tracks, and neither has a face that is not grouped.
    let mut blurred = face(ANA, 0.0);
    blurred.embedding = None;
    let images = [
        frame(None, vec![face(ANA, 0.0)]),
        frame(Some(0.0), vec![blurred]),
    ];
    assert_eq!(tracks::tracks(&images), [[None], [None]]);
}

#[test]
fn people_are_numbered_by_their_faces_and_who_is_alone_is_nobody() {
    let mut unusable = face(ANA, 0.0);
    unusable.embedding = None;
    let photos = [
        face(BO, 0.0),
        face(ANA, 0.0),
        unusable,
        face(ANA, 0.0),
        face([-1.0, 0.0], 0.0),
        face(BO, 0.0),
        face(ANA, 0.0),
    ];
    let files = photos.into_iter().enumerate().map(|(file, face)| {
        let images = vec![frame(None, vec![face])];
        (
            file,
            FoundFile {
                images,
                error: None,
            },
        )
    });
    let found = located(files.collect());
    let expected = [
        Fate::Person(1),
        Fate::Person(0),
        Fate::Unusable,
        Fate::Person(0),
        Fate::Alone,
        Fate::Person(1),
        Fate::Person(0),
    ];
    assert_eq!(sort(&found.faces, None, None), expected);
}

#[test]
fn a_group_has_the_name_that_half_of_it_has() {
    let names = [Some("Ana"), None, Some("Ana"), Some("Bo"), None];
    assert_eq!(majority(&[0, 1], &names), Some("Ana"));
    assert_eq!(majority(&[0, 2, 3], &names), Some("Ana"));
    assert_eq!(majority(&[0, 1, 4], &names), None);
    // Ties go to the first name.
    assert_eq!(majority(&[0, 3], &names), Some("Ana"));
    assert_eq!(majority(&[1, 4], &names), None);
}

#[test]
fn results_of_another_network_do_not_fit() {
    assert!(face(ANA, 0.0).fits(2));
    assert!(!face(ANA, 0.0).fits(3));
    assert!(!face([f32::NAN, 0.0], 0.0).fits(2));
    assert!(!face(ANA, f32::INFINITY).fits(2));
}
