use super::*;
use crate::frame::geometry::Landmarks;

const THRESHOLD: f32 = 0.7;
const LIMITS: Limits = Limits {
    confidence: THRESHOLD,
    min_face_size: 40,
};

/// Of 25 frames a second.
const INTERVAL: Duration = Duration::from_millis(40);

fn face(x: f32, confidence: f32) -> Face {
    Face {
        rect: Rect::new(x, 100.0, 80.0, 100.0),
        confidence,
        landmarks: Landmarks::default(),
    }
}

/// Searches a frame that shows clear faces at these places.
fn find(tracker: &mut Tracker, at: u64, places: &[f32]) -> Vec<i32> {
    tracker.begin(Duration::from_millis(at), INTERVAL);
    let faces: Vec<_> = places.iter().map(|&x| face(x, 0.9)).collect();
    let found = tracker.find(&faces, LIMITS);
    tracker.end();
    found.into_iter().flatten().collect()
}

#[test]
fn faces_keep_their_ids_whatever_their_order() {
    let mut tracker = Tracker::default();
    assert_eq!(find(&mut tracker, 0, &[100.0, 400.0]), [1, 2]);
    assert_eq!(find(&mut tracker, 40, &[405.0, 700.0, 110.0]), [2, 3, 1]);
}

#[test]
fn faces_that_pass_each_other_keep_their_ids() {
    let mut tracker = Tracker::default();
    // 12 pixels a frame towards each other; from frame 15 on their boxes overlap.
    for frame in 0..50 {
        let way = 12.0 * frame as f32;
        let found = find(&mut tracker, 40 * frame, &[100.0 + way, 700.0 - way]);
        if (way - 300.0).abs() > 20.0 {
            assert_eq!(found, [1, 2], "frame {frame}");
        }
    }
}

#[test]
fn a_face_hidden_for_a_second_keeps_its_id_and_later_gets_another() {
    let mut tracker = Tracker::default();
    find(&mut tracker, 0, &[100.0]);
    for ms in [40, 500, 1000] {
        assert!(find(&mut tracker, ms, &[]).is_empty());
    }
    assert_eq!(find(&mut tracker, 1040, &[150.0]), [1]);
    assert_eq!(find(&mut tracker, 3100, &[150.0]), [2]);
}

#[test]
fn a_jump_is_followed_where_the_association_is_unambiguous() {
    let mut tracker = Tracker::default();
    find(&mut tracker, 0, &[100.0]);
    assert_eq!(find(&mut tracker, 40, &[160.0]), [1]);
    // Two faces, either of which may be the one of before.
    let mut tracker = Tracker::default();
    find(&mut tracker, 0, &[100.0]);
    assert_eq!(find(&mut tracker, 40, &[40.0, 165.0]), [2, 3]);
}

#[test]
fn seeks_back_and_resets_give_new_ids() {
    let mut tracker = Tracker::default();
    find(&mut tracker, 5000, &[100.0]);
    assert_eq!(find(&mut tracker, 100, &[100.0]), [2]);
    tracker.reset();
    assert_eq!(find(&mut tracker, 140, &[100.0]), [3]);
}

/// A face that was clear for so long, from the beginning.
fn seen_for(ms: u64) -> Tracker {
    let mut tracker = Tracker::default();
    for ms in (0..=ms).step_by(50) {
        find(&mut tracker, ms, &[100.0]);
    }
    tracker
}

#[test]
fn a_lower_threshold_holds_for_a_second_after_a_clear_detection() {
    let mut tracker = seen_for(300);
    for ms in [340, 800, 1260] {
        tracker.begin(Duration::from_millis(ms), INTERVAL);
        assert_eq!(tracker.known(&[]).len(), 1, "{ms}");
        tracker.find(&[face(100.0, 0.4)], LIMITS);
        tracker.end();
    }
    // Faint evidence alone does not keep it.
    tracker.begin(Duration::from_millis(1340), INTERVAL);
    assert_eq!(tracker.known(&[]), []);
    assert_eq!(tracker.expected(THRESHOLD)[0].threshold, THRESHOLD);
    let mut tracker = seen_for(250);
    tracker.begin(Duration::from_millis(300), INTERVAL);
    assert_eq!(tracker.known(&[]), []);
}

#[test]
fn a_deferred_face_goes_on_as_predicted() {
    let mut tracker = Tracker::default();
    find(&mut tracker, 0, &[100.0, 400.0]);
    for ms in (40..=480).step_by(40) {
        tracker.begin(Duration::from_millis(ms), INTERVAL);
        tracker.defer(&[2]);
        tracker.follow(1, &face(100.0, 0.9), LIMITS);
        assert_eq!(tracker.deferred_places().count(), 1);
        assert_eq!(tracker.lost(Duration::from_secs(1)), []);
        tracker.end();
    }
    tracker.begin(Duration::from_millis(520), INTERVAL);
    let expected = tracker.expected(THRESHOLD);
    assert!(expected.iter().all(|e| e.is_present), "{expected:?}");
    // Not looked for and found by a search all the same.
    tracker.defer(&[2]);
    tracker.find(&[face(400.0, 0.9)], LIMITS);
    assert!(!tracker.is_deferred(2));
    assert!(tracker.is_confirmed(2));
    tracker.end();
    // Looked for, and not seen.
    tracker.begin(Duration::from_millis(560), INTERVAL);
    assert_eq!(tracker.lost(Duration::from_secs(1)).len(), 2);
    tracker.end();
    tracker.begin(Duration::from_millis(600), INTERVAL);
    assert!(!tracker.expected(THRESHOLD)[1].is_present);
}

#[test]
fn a_face_that_no_search_verifies_is_not_followed_for_long() {
    let mut tracker = seen_for(0);
    for ms in (40..1600).step_by(40) {
        tracker.begin(Duration::from_millis(ms), INTERVAL);
        assert_eq!(tracker.expected(THRESHOLD).len(), 1, "{ms}");
        tracker.follow(1, &face(100.0, 0.9), LIMITS);
        let due = tracker.due_for_verification(&[1]);
        assert_eq!(due.is_empty(), ms < 700, "{ms}");
        tracker.reject_unverified(&due);
        tracker.end();
        if ms == 1520 {
            break;
        }
    }
    tracker.begin(Duration::from_millis(1560), INTERVAL);
    assert_eq!(tracker.expected(THRESHOLD), []);
}

#[test]
fn of_many_faces_a_search_verifies_a_part() {
    let mut tracker = Tracker::default();
    let places: Vec<_> = (0..40).map(|i| 200.0 * i as f32).collect();
    let ids = find(&mut tracker, 0, &places);
    tracker.begin(Duration::from_millis(800), INTERVAL);
    let due = tracker.due_for_verification(&ids);
    assert_eq!(due, (1..=10).collect::<Vec<_>>());
    tracker.verify(&due);
    assert_eq!(
        tracker.due_for_verification(&ids),
        (11..=20).collect::<Vec<_>>()
    );
    assert!(tracker.due_for_verification(&[]).is_empty());
}

#[test]
fn a_new_face_is_confirmed_by_four_clear_detections_and_at_once_in_a_new_scene() {
    let mut tracker = Tracker::default();
    find(&mut tracker, 0, &[100.0]);
    assert!(tracker.is_confirmed(1));
    for frame in 1..=6 {
        // Too uncertain in the second frame: counted anew.
        let confidence = if frame == 2 { 0.5 } else { 0.9 };
        tracker.begin(Duration::from_millis(20 * frame), INTERVAL);
        tracker.find(&[face(100.0, 0.9), face(500.0, confidence)], LIMITS);
        tracker.end();
        assert_eq!(tracker.is_confirmed(2), frame == 6, "{frame}");
    }
}

#[test]
fn an_uncertain_new_face_is_neither_tracked_with_a_lower_threshold_nor_reported() {
    let mut tracker = Tracker::default();
    find(&mut tracker, 0, &[100.0]);
    for (ms, confidence) in [(40, 0.9), (80, 0.3), (120, 0.3)] {
        tracker.begin(Duration::from_millis(ms), INTERVAL);
        tracker.find(&[face(500.0, confidence)], LIMITS);
        tracker.end();
    }
    tracker.begin(Duration::from_millis(160), INTERVAL);
    assert_eq!(tracker.known(&[]), []);
    assert!(!tracker.is_confirmed(2));
}

#[test]
fn a_face_found_late_is_confirmed_sooner() {
    let mut tracker = seen_for(300);
    let mut told = |gap, begin: u64| -> Vec<_> {
        let x = 300.0 + begin as f32;
        (0..4)
            .map(|frame| {
                tracker.begin(Duration::from_millis(begin + 30 * frame), INTERVAL);
                if frame == 0 {
                    tracker.search_after(Duration::from_millis(gap));
                }
                let ids = tracker.find(&[face(100.0, 0.9), face(x, 0.9)], LIMITS);
                tracker.end();
                tracker.is_confirmed(ids[1].unwrap())
            })
            .collect()
    };
    assert_eq!(told(30, 330), [false, false, false, true]);
    assert_eq!(told(200, 540), [false, true, true, true]);
    assert_eq!(told(2000, 750), [false, true, true, true]);
}

#[test]
fn a_face_that_was_lost_is_confirmed_anew() {
    let mut tracker = seen_for(300);
    for ms in (320..700).step_by(20) {
        find(&mut tracker, ms, &[]);
    }
    let told: Vec<_> = (0..6)
        .map(|frame| {
            assert_eq!(find(&mut tracker, 700 + 20 * frame, &[100.0]), [1]);
            tracker.is_confirmed(1)
        })
        .collect();
    assert_eq!(told, [false, false, false, true, true, true]);
}

#[test]
fn a_second_box_of_a_face_and_a_tiny_one_begin_no_track() {
    let mut tracker = Tracker::default();
    find(&mut tracker, 0, &[100.0]);
    tracker.begin(Duration::from_millis(40), INTERVAL);
    let tiny = Face {
        rect: Rect::new(500.0, 100.0, 25.0, 35.0),
        ..face(0.0, 0.9)
    };
    let found = tracker.find(&[face(100.0, 0.9), face(145.0, 0.8), tiny], LIMITS);
    assert_eq!(found, [Some(1), None, None]);
}

#[test]
fn a_face_is_predicted_further_on_its_way() {
    let mut tracker = Tracker::default();
    for frame in 0..20 {
        find(&mut tracker, 40 * frame, &[100.0 + 8.0 * frame as f32]);
    }
    tracker.begin(Duration::from_millis(800), INTERVAL);
    let x = tracker.expected(THRESHOLD)[0].rect.x;
    // 260 would be as fast as before; a little less, for it may stop.
    assert!((258.0..260.0).contains(&x), "{x}");
}
