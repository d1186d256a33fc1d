use super::*;

const FRAME: FrameSize = (640, 480);

fn detected(rect: Rect) -> detect::Face {
    detect::Face {
        rect,
        confidence: 0.75,
        landmarks: Landmarks(std::array::from_fn(|i| Point {
            x: rect.x + 10.0 * i as f32,
            y: rect.y + 5.0,
        })),
    }
}

fn identity(label: &str) -> Identity {
    Identity {
        label: label.into(),
        label_id: 3,
        confidence: 0.9,
        similarity: 0.8,
        model_name: "facenet".into(),
        model_version: "x".into(),
        gallery: "g.npz".into(),
        frames_ago: 0,
    }
}

fn close(a: &Face, b: &detect::Face) {
    let near = |a: f32, b: f32| assert!((a - b).abs() < 1e-3, "{a} {b}");
    near(a.rect.x, b.rect.x);
    near(a.rect.y, b.rect.y);
    near(a.rect.width, b.rect.width);
    near(a.rect.height, b.rect.height);
    for (p, q) in a.landmarks.unwrap().0.iter().zip(b.landmarks.0) {
        near(p.x, q.x);
        near(p.y, q.y);
    }
}

#[test]
fn a_face_comes_back_as_it_was_added_also_beyond_the_frame() {
    gst::init().unwrap();
    register();
    for rect in [
        Rect::new(100.25, 50.5, 80.5, 90.25),
        Rect::new(-10.5, 440.0, 60.0, 70.0),
    ] {
        let mut buffer = gst::Buffer::new();
        let buffer = buffer.get_mut().unwrap();
        let face = detected(rect);
        add_face(buffer, &face, 7, FRAME);
        let found = faces(buffer, FRAME);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].id, found[0].confidence), (7, Some(0.75)));
        close(&found[0], &face);
    }
}

#[test]
fn regions_lie_inside_the_frame_in_whole_pixels() {
    assert_eq!(
        clip(Rect::new(-10.6, 5.4, 30.0, 10.0), FRAME),
        (0, 5, 19, 10)
    );
    assert_eq!(
        clip(Rect::new(700.0, 500.0, 9.0, 9.0), FRAME),
        (639, 479, 1, 1)
    );
    assert_eq!(
        clip(Rect::new(f32::NAN, 0.0, 1.0, 1.0), FRAME),
        (0, 0, 1, 1)
    );
    assert_eq!(clip(Rect::new(0.0, 0.0, 1e9, 1e9), FRAME), (0, 0, 640, 480));
}

#[test]
fn a_moved_region_counts_more_than_the_box_it_was_made_with() {
    gst::init().unwrap();
    let mut buffer = gst::Buffer::new();
    let buffer = buffer.get_mut().unwrap();
    add_face(
        buffer,
        &detected(Rect::new(10.2, 10.2, 50.0, 50.0)),
        1,
        FRAME,
    );
    for mut meta in buffer.iter_meta_mut::<VideoRegionOfInterestMeta>() {
        meta.set_rect((20, 20, 40, 40));
    }
    assert_eq!(
        faces(buffer, FRAME)[0].rect,
        Rect::new(20.0, 20.0, 40.0, 40.0)
    );
}

#[test]
fn identities_go_to_their_faces_and_the_first_one_stays() {
    gst::init().unwrap();
    let mut buffer = gst::Buffer::new();
    let buffer = buffer.get_mut().unwrap();
    for i in 0..2 {
        add_face(
            buffer,
            &detected(Rect::new(60.0 * i as f32, 0.0, 50.0, 50.0)),
            i + 1,
            FRAME,
        );
    }
    set_identities(buffer, &[None, Some(identity("Zoë"))]);
    set_identities(buffer, &[None, Some(identity("Bob"))]);
    let found = faces(buffer, FRAME);
    assert_eq!(found[0].identity, None);
    assert_eq!(found[1].identity, Some(identity("Zoë")));
}

#[test]
fn masks_go_to_their_faces_and_into_the_mirror_and_the_first_one_stays() {
    gst::init().unwrap();
    register();
    let mut buffer = gst::Buffer::new();
    let buffer = buffer.get_mut().unwrap();
    for i in 0..2 {
        let rect = Rect::new(60.0 * i as f32, 0.0, 50.0, 50.0);
        add_face(buffer, &detected(rect), i + 1, FRAME);
    }
    let mask = |log_odds| Mask::from(mask::Mask::from_log_odds(log_odds));
    set_masks(buffer, &[None, Some(mask(2.0))]);
    set_masks(buffer, &[None, Some(mask(-2.0))]);
    let found = faces(buffer, FRAME);
    assert_eq!(found[0].mask, None);
    assert_eq!(found[1].mask, Some(mask(2.0)));
    assert_eq!(mask(2.0).label, "with_mask");
    update_mirror(buffer, &found, FRAME);
    assert_eq!(mirror::read(buffer, FRAME)[1].mask, Some(mask(2.0)));
}

#[test]
fn the_mirror_gives_back_what_a_scaler_dropped() {
    gst::init().unwrap();
    register();
    let mut buffer = gst::Buffer::new();
    let buffer = buffer.get_mut().unwrap();
    add_face(
        buffer,
        &detected(Rect::new(100.0, 50.0, 80.0, 90.0)),
        7,
        FRAME,
    );
    set_identities(buffer, &[Some(identity("Ana"))]);
    let found = faces(buffer, FRAME);
    update_mirror(buffer, &found, FRAME);
    // This is what videoscale leaves at half the size: a new region without params, with the same id.
    let mut scaled = gst::Buffer::new();
    let scaled = scaled.get_mut().unwrap();
    VideoRegionOfInterestMeta::add(scaled, ROI_TYPE, (50, 25, 40, 45)).set_id(7);
    let half = (320, 240);
    assert_eq!(faces(scaled, half)[0].identity, None);
    let mut mirror = gst::meta::CustomMeta::add(scaled, MIRROR).unwrap();
    let json = gst::meta::CustomMeta::from_buffer(buffer, MIRROR)
        .unwrap()
        .structure()
        .get::<String>(MIRROR_FIELD)
        .unwrap();
    mirror.mut_structure().set(MIRROR_FIELD, json);
    let found = &faces(scaled, half)[0];
    assert_eq!(found.identity, Some(identity("Ana")));
    assert_eq!(found.rect, Rect::new(50.0, 25.0, 40.0, 45.0));
}

#[test]
fn applications_need_not_know_the_size_of_the_frame() {
    gst::init().unwrap();
    register();
    let mut buffer = gst::Buffer::new();
    let buffer = buffer.get_mut().unwrap();
    let face = detected(Rect::new(100.25, 50.5, 80.5, 90.25));
    add_face(buffer, &face, 7, FRAME);
    set_identities(buffer, &[Some(identity("Ana"))]);
    let all = faces(buffer, FRAME);
    update_mirror(buffer, &all, FRAME);
    let found: Vec<_> = Face::iter(buffer).collect();
    assert_eq!(found[0].rect, Rect::new(100.0, 51.0, 81.0, 90.0));
    assert_eq!(found[0].identity, Some(identity("Ana")));
    let format = gst_video::VideoFormat::Gray8;
    let flags = gst_video::VideoFrameFlags::empty();
    buffer.append_memory(gst::Memory::with_size(640 * 480));
    gst_video::VideoMeta::add(buffer, flags, format, FRAME.0, FRAME.1).unwrap();
    close(&Face::iter(buffer).next().unwrap(), &face);
    // This is what a converter leaves: the region without its params, and the mirror.
    let mut bare = gst::Buffer::new();
    let bare = bare.get_mut().unwrap();
    VideoRegionOfInterestMeta::add(bare, ROI_TYPE, (50, 25, 40, 45)).set_id(7);
    update_mirror(bare, &all, FRAME);
    let found: Vec<_> = Face::iter(bare).collect();
    assert_eq!(found[0].rect, Rect::new(50.0, 25.0, 40.0, 45.0));
    assert_eq!(found[0].identity, Some(identity("Ana")));
}

#[test]
fn a_damaged_mirror_is_no_mirror() {
    gst::init().unwrap();
    register();
    let mut buffer = gst::Buffer::new();
    let buffer = buffer.get_mut().unwrap();
    VideoRegionOfInterestMeta::add(buffer, ROI_TYPE, (1, 2, 3, 4)).set_id(5);
    let mut mirror = gst::meta::CustomMeta::add(buffer, MIRROR).unwrap();
    mirror.mut_structure().set(MIRROR_FIELD, "{\"faces\": [{");
    assert_eq!(faces(buffer, FRAME)[0].confidence, None);
}
