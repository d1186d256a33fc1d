use super::*;

const HASTE: Patience = Patience {
    frames: MAX_FRAMES,
    stall: Duration::from_millis(300),
    total: Duration::from_secs(20),
};

/// Elements that output a file, or data that decodebin accepts as one.
fn elements(description: &[&str]) -> Vec<gst::Element> {
    gst::init().unwrap();
    let launch = |text: &&str| gst::parse::launch(text).unwrap();
    description.iter().map(launch).collect()
}

fn looked_at(source: &[&str], patience: Patience) -> Watched<(usize, usize, Vec<u8>)> {
    let frames = Frames::start(&elements(source), patience);
    collect(frames, |_, photo| {
        let view = photo.view().unwrap();
        let plane = view.plane(0);
        let middle = plane.data[photo.height / 2 * plane.stride..][..3].to_vec();
        Ok((photo.width, photo.height, middle))
    })
    .unwrap()
}

fn times<R>(watched: &Watched<R>) -> Vec<f64> {
    watched
        .frames
        .iter()
        .map(|(t, _)| t.as_secs_f64())
        .collect()
}

/// Times selected from a video of this number of frames, at 25 per second.
fn chosen(duration: Option<f64>, frames: u32) -> Vec<f64> {
    let mut chooser = Chooser::new(duration.map(Duration::from_secs_f64), MAX_FRAMES);
    let mut chosen = Vec::new();
    for i in 0..frames {
        let time = Duration::from_millis(40) * i;
        if chooser.wants(time) {
            chosen.push(time.as_secs_f64());
            if chosen.len() > MAX_FRAMES {
                keep_every_other(&mut chosen);
            }
        }
    }
    chosen
}

#[test]
fn frames_are_spread_over_the_whole_video() {
    // Two per second, each at the next of 25 frames per second.
    assert_eq!(chosen(Some(2.0), 50), [0.0, 0.52, 1.0, 1.52]);
    // A single image, and a clip shorter than the interval.
    assert_eq!(chosen(Some(0.04), 1), [0.0]);
    assert_eq!(chosen(Some(0.4), 10), [0.0]);
    // A minute results in 20 frames, one every three seconds.
    let minute = chosen(Some(60.0), 1500);
    assert_eq!(minute.len(), MAX_FRAMES);
    assert_eq!(minute[19], 57.0);
    // The file is slightly longer than its stated duration.
    assert_eq!(chosen(Some(60.0), 1510), minute);
}

#[test]
fn without_a_duration_frames_are_thinned_out_as_more_come() {
    assert_eq!(chosen(None, 50), [0.0, 0.52, 1.0, 1.52]);
    for seconds in [9, 11, 31, 100, 1000] {
        let times = chosen(None, seconds * 25);
        assert!(
            (10..=MAX_FRAMES).contains(&times.len()),
            "{seconds} s: {times:?}"
        );
        let gaps: Vec<f64> = times.windows(2).map(|t| t[1] - t[0]).collect();
        let (least, most) = (
            gaps.iter().copied().fold(f64::MAX, f64::min),
            gaps.iter().copied().fold(0.0, f64::max),
        );
        // The gaps are even up to the grid of the frames.
        assert!(most - least < 0.081, "{seconds} s: {gaps:?}");
        assert!(times[times.len() - 1] + most + 0.04 >= f64::from(seconds));
    }
    // An implausible duration counts as unknown.
    assert_eq!(chosen(Some(1e9), 50), chosen(None, 50));
    assert_eq!(chosen(Some(0.0), 50), chosen(None, 50));
}

#[test]
fn frames_are_upright_with_square_pixels() {
    let source = |tag: &'static str| {
        let watched = looked_at(
            &[
                "videotestsrc num-buffers=3 pattern=red",
                "capsfilter caps=video/x-raw,format=I420,width=66,height=40,\
                 pixel-aspect-ratio=2/1,framerate=1/1",
                tag,
            ],
            HASTE,
        );
        assert!(watched.error.is_none(), "{:?}", watched.error);
        assert_eq!(times(&watched), [0.0, 1.0, 2.0]);
        watched.frames[2].1.clone()
    };
    // 66 pixels, each twice as wide as high; a row of RGB is padded to a multiple of four bytes.
    let (width, height, pixel) = source("identity");
    assert_eq!((width, height), (132, 40));
    assert!(
        pixel[0] > 200 && pixel[1] < 30 && pixel[2] < 30,
        "{pixel:?}"
    );
    let (width, height, _) = source("taginject tags=image-orientation=rotate-90");
    // After rotation, pixels are twice as high as wide.
    assert_eq!(height / width, 3, "{width}×{height}");
}

#[test]
fn a_turned_video_is_turned_back() {
    let watched = looked_at(
        &[
            "videotestsrc num-buffers=1 pattern=smpte",
            "capsfilter caps=video/x-raw,width=64,height=32,framerate=1/1",
            "taginject tags=image-orientation=rotate-180",
        ],
        HASTE,
    );
    let (width, height, left) = &watched.frames[0].1;
    assert_eq!((*width, *height), (64, 32));
    // The bars end with blue on the right, which is on the left after rotation.
    assert!(left[2] > 150 && left[0] < 60, "{left:?}");
}

#[test]
fn a_video_that_stalls_is_given_up() {
    // This source never outputs data.
    let watched = looked_at(&["appsrc"], HASTE);
    let error = watched.error.unwrap();
    assert_eq!(error.to_string(), "no frame came for 0.3 s");
    assert!(watched.frames.is_empty());
}

#[test]
fn a_video_without_end_is_given_up_and_its_frames_are_few() {
    let patience = Patience {
        frames: MAX_FRAMES,
        stall: Duration::from_secs(20),
        total: Duration::from_millis(300),
    };
    let watched = looked_at(
        &[
            "videotestsrc pattern=black",
            "capsfilter caps=video/x-raw,width=16,height=16,framerate=10/1",
        ],
        patience,
    );
    let error = watched.error.as_ref().unwrap().to_string();
    assert_eq!(
        error,
        "decoding it takes more than 0.3 s; cut it to a few minutes"
    );
    assert!((1..=MAX_FRAMES).contains(&watched.frames.len()));
}

#[test]
fn an_error_of_the_one_who_looks_ends_it() {
    let frames = Frames::start(&elements(&["videotestsrc"]), HASTE);
    let error = collect(frames, |_, _| -> Result<()> { anyhow::bail!("enough") });
    assert_eq!(error.unwrap_err().to_string(), "enough");
}
