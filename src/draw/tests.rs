//! Drawing on whole frames, in every pixel format.

use super::*;
use crate::frame::image::ColorModel;

/// An owned frame whose rows are followed by padding.
#[derive(Clone)]
struct Frame {
    info: ImageInfo,
    planes: Vec<(Vec<u8>, usize)>,
}

/// The value of padding bytes.
const PADDING: u8 = 0xa5;
const PADDING_BYTES: usize = 5;

impl Frame {
    /// A frame whose samples are all `value`, alpha included.
    fn new(format: PixelFormat, width: usize, height: usize, value: u8) -> Self {
        let info = ImageInfo {
            width,
            height,
            format,
            colorimetry: Colorimetry::default(),
        };
        let plane = |plane| {
            let row = format.row_bytes(plane, width);
            let mut line = vec![value; row];
            line.resize(row + PADDING_BYTES, PADDING);
            (line.repeat(format.rows(plane, height)), line.len())
        };
        let planes = (0..format.planes()).map(plane).collect();
        Self { info, planes }
    }

    fn view(&mut self) -> ImageViewMut<'_> {
        let planes = self.planes.iter_mut();
        let planes = planes.map(|(data, stride)| PlaneMut {
            data,
            stride: *stride,
        });
        ImageViewMut::new(self.info, planes.collect()).unwrap()
    }

    fn draw(&mut self, faces: &[Annotation<'_>], style: &Style) {
        Painter::new().draw(&mut self.view(), faces, style);
    }

    /// Sample (x, y) of component `component`, in samples of that component.
    fn sample(&self, component: usize, x: usize, y: usize) -> u8 {
        let c = self.info.format.channels()[component];
        let (data, stride) = &self.planes[c.plane];
        data[y * stride + c.offset + x * c.step]
    }

    fn alpha(&self, x: usize, y: usize) -> Option<u8> {
        let c = self.info.format.alpha()?;
        let (data, stride) = &self.planes[c.plane];
        Some(data[y * stride + c.offset + x * c.step])
    }

    /// Pixels whose samples differ, in components of full resolution.
    fn changed(&self, other: &Self) -> Vec<(usize, usize)> {
        let components: &[usize] = match self.info.format.color_model() {
            ColorModel::Rgb => &[0, 1, 2],
            _ => &[0],
        };
        let mut found = Vec::new();
        for y in 0..self.info.height {
            for x in 0..self.info.width {
                let differs = |&c: &usize| self.sample(c, x, y) != other.sample(c, x, y);
                if components.iter().any(differs) {
                    found.push((x, y));
                }
            }
        }
        found
    }

    fn padding_is_untouched(&self) -> bool {
        self.planes.iter().all(|(data, stride)| {
            let mut rows = data.chunks(*stride);
            rows.all(|row| row[stride - PADDING_BYTES..].iter().all(|&b| b == PADDING))
        })
    }
}

const FACE: Rect = Rect::new(30.0, 40.0, 61.0, 67.0);

fn annotation(rect: Rect) -> Annotation<'static> {
    let point = |x: f32, y: f32| Point {
        x: rect.x + rect.width * x,
        y: rect.y + rect.height * y,
    };
    Annotation {
        id: 0,
        rect,
        landmarks: Some(Landmarks([
            point(0.3, 0.4),
            point(0.7, 0.4),
            point(0.5, 0.6),
            point(0.35, 0.8),
            point(0.65, 0.8),
        ])),
        state: IdentityState::Known,
        name: "Ana Müller",
        similarity: Some(0.83),
        masked: Some(true),
    }
}

/// Draws on a mid-grey frame: the same colour in RGB and in limited-range YUV (126 = 16 + 219/2).
fn drawn(format: PixelFormat, width: usize, height: usize) -> Frame {
    let grey = match format.color_model() {
        ColorModel::Yuv => Colorimetry::default().from_rgb([128; 3])[0],
        _ => 128,
    };
    let mut frame = Frame::new(format, width, height, 128);
    if format.color_model() == ColorModel::Yuv {
        let luma = format.channels()[0];
        let (data, stride) = &mut frame.planes[luma.plane];
        for row in data.chunks_mut(*stride) {
            let row = &mut row[luma.offset..];
            let samples = row.iter_mut().step_by(luma.step).take(width);
            samples.for_each(|s| *s = grey);
        }
    }
    frame.draw(&[annotation(FACE)], &Style::default());
    frame
}

#[test]
fn rgb_formats_get_the_same_pixels_in_whatever_order() {
    let reference = drawn(PixelFormat::Rgb, 161, 121);
    for format in PixelFormat::ALL {
        let same_model = format.color_model() == ColorModel::Rgb;
        // A translucent rim weighs more on half-transparent pixels, which another test covers.
        if same_model && format.alpha().is_none() {
            assert!(drawn(format, 161, 121).changed(&reference).is_empty());
        }
    }
}

#[test]
fn luma_is_the_luma_of_the_rgb_drawing() {
    let reference = drawn(PixelFormat::Rgb, 161, 121);
    for format in PixelFormat::ALL {
        let colorimetry = Colorimetry {
            full_range: format.color_model() == ColorModel::Gray,
            ..Colorimetry::default()
        };
        if format.color_model() == ColorModel::Rgb {
            continue;
        }
        let frame = drawn(format, 161, 121);
        for y in 0..121 {
            for x in 0..161 {
                let rgb = std::array::from_fn(|c| reference.sample(c, x, y));
                let expected = colorimetry.from_rgb(rgb)[0];
                // Each drawing blends three layers, each of which rounds by up to half a step.
                let found = frame.sample(0, x, y);
                assert!(found.abs_diff(expected) <= 3, "{format:?} ({x}, {y})");
            }
        }
    }
}

#[test]
fn chroma_is_the_mean_of_the_rgb_drawing_under_it() {
    let reference = drawn(PixelFormat::Rgb, 161, 121);
    for format in PixelFormat::ALL {
        if format.color_model() != ColorModel::Yuv {
            continue;
        }
        let frame = drawn(format, 161, 121);
        for component in [1, 2] {
            let c = format.channels()[component];
            let (mut sum, mut count) = (0.0, 0.0);
            for y in 0..c.height(121) {
                for x in 0..c.width(161) {
                    let xs = x << c.shift_x..((x + 1) << c.shift_x).min(161);
                    let ys = y << c.shift_y..((y + 1) << c.shift_y).min(121);
                    let pixels: Vec<f32> = ys
                        .flat_map(|y| xs.clone().map(move |x| (x, y)))
                        .map(|(x, y)| std::array::from_fn(|c| reference.sample(c, x, y)))
                        .map(|rgb| f32::from(Colorimetry::default().from_rgb(rgb)[component]))
                        .collect();
                    let mean = pixels.iter().sum::<f32>() / pixels.len() as f32;
                    let error = (f32::from(frame.sample(component, x, y)) - mean).abs();
                    let flat = pixels.iter().all(|p| *p == pixels[0]);
                    // Where the pixels under a sample are equal, only rounding differs.
                    assert!(!flat || error <= 3.0, "{format:?} ({x}, {y}) {error}");
                    if mean != 128.0 {
                        sum += error;
                        count += 1.0;
                    }
                }
            }
            // At edges, blending layers at chroma resolution only approximates the mean of the blended pixels.
            assert!(sum / count < 4.0, "{format:?} {}", sum / count);
        }
    }
}

#[test]
fn drawn_pixels_of_formats_with_alpha_become_opaque() {
    for format in PixelFormat::ALL {
        let mut frame = Frame::new(format, 160, 120, 0);
        frame.draw(&[annotation(FACE)], &Style::default());
        // The first pixel is on the line, the second outside of everything drawn.
        assert!(
            [None, Some(255)].contains(&frame.alpha(30, 70)),
            "{format:?}"
        );
        assert!([None, Some(0)].contains(&frame.alpha(0, 119)), "{format:?}");
    }
}

#[test]
fn only_a_band_along_the_edge_is_touched_by_a_box() {
    let style = Style {
        show_landmarks: false,
        show_identity: false,
        show_mask: false,
        ..Style::default()
    };
    for format in PixelFormat::ALL {
        let before = Frame::new(format, 160, 120, 100);
        let mut after = before.clone();
        after.draw(&[annotation(FACE)], &style);
        let changed = after.changed(&before);
        assert!(!changed.is_empty());
        for (x, y) in changed {
            let (x, y) = (x as f32 + 0.5, y as f32 + 0.5);
            // The line is one pixel wide, with a rim of one pixel on both sides.
            let outside = FACE.x - x > 2.0
                || x - FACE.right() > 2.0
                || FACE.y - y > 2.0
                || y - FACE.bottom() > 2.0;
            let within = (x - FACE.x).min(FACE.right() - x) > 3.0
                && (y - FACE.y).min(FACE.bottom() - y) > 3.0;
            assert!(!outside && !within, "{format:?} ({x}, {y})");
        }
    }
}

#[test]
fn the_line_has_the_colour_of_the_state() {
    let style = Style::default();
    for state in [
        IdentityState::Pending,
        IdentityState::Unknown,
        IdentityState::Known,
    ] {
        let mut frame = Frame::new(PixelFormat::Bgr, 160, 120, 0);
        let face = Annotation {
            state,
            ..annotation(FACE)
        };
        frame.draw(&[face], &style);
        let found: [u8; 3] = std::array::from_fn(|c| frame.sample(c, 30, 70));
        assert_eq!(found, style.color(state));
    }
}

#[test]
fn padding_between_rows_stays_as_it_was_at_any_odd_size() {
    for format in PixelFormat::ALL {
        for (width, height) in [(1, 1), (2, 1), (1, 7), (3, 3), (17, 15), (161, 33)] {
            let mut frame = Frame::new(format, width, height, 60);
            let (w, h) = (width as f32, height as f32);
            let faces = [
                annotation(Rect::new(0.0, 0.0, w, h)),
                annotation(Rect::new(-3.0, -2.0, w, h)),
                annotation(Rect::new(w / 2.0, h / 2.0, 9.0, 9.0)),
            ];
            frame.draw(&faces, &Style::default());
            assert!(frame.padding_is_untouched(), "{format:?} {width}×{height}");
            // The box of the first face covers the first pixel.
            assert_ne!(frame.sample(0, 0, 0), 60, "{format:?} {width}×{height}");
        }
    }
}

#[test]
fn the_unused_luma_of_an_odd_row_of_yuy2_stays_as_it_was() {
    let mut frame = Frame::new(PixelFormat::Yuy2, 3, 1, 60);
    frame.draw(
        &[annotation(Rect::new(0.0, 0.0, 3.0, 1.0))],
        &Style::default(),
    );
    // Y0 U Y1 V, Y2 U — V.
    assert_eq!(frame.planes[0].0[6], 60);
    assert_ne!(frame.planes[0].0[4], 60);
}

#[test]
fn rectangles_that_are_not_real_leave_the_frame_alone() {
    let before = Frame::new(PixelFormat::I420, 64, 48, 90);
    let values = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MIN, -1e30];
    for bad in values {
        let mut after = before.clone();
        let faces = [
            Rect::new(bad, 1.0, 10.0, 10.0),
            Rect::new(1.0, bad, 10.0, 10.0),
            Rect::new(1.0, 1.0, bad, 10.0),
            Rect::new(1.0, 1.0, 10.0, bad),
        ]
        .map(annotation);
        after.draw(&faces, &Style::default());
        assert!(after.changed(&before).is_empty(), "{bad}");
    }
}

#[test]
fn huge_rectangles_landmarks_and_styles_are_clipped_first() {
    let mut frame = Frame::new(PixelFormat::Nv21, 64, 48, 90);
    let style = Style {
        line_width: u32::MAX,
        font_size: u32::MAX,
        ..Style::default()
    };
    for huge in [1e5, 1e9, 1e30, f32::MAX / 4.0] {
        let mut face = annotation(Rect::new(-huge, -huge, huge * 2.0, huge * 2.0));
        face.landmarks = Some(Landmarks(
            [f32::NAN, huge, -huge, f32::INFINITY, 1.0].map(|x| Point { x, y: 20.0 }),
        ));
        frame.draw(&[face], &style);
        frame.draw(&[face], &Style::default());
    }
    assert!(frame.padding_is_untouched());
}

#[test]
fn a_frame_drawn_by_a_painter_with_a_past_looks_the_same() {
    let faces = [annotation(FACE), annotation(FACE.translated(40.0, 20.0))];
    let mut painter = Painter::new();
    let mut frames = [(); 3].map(|()| Frame::new(PixelFormat::I420, 320, 240, 90));
    for frame in &mut frames {
        painter.draw(&mut frame.view(), &faces, &Style::default());
        // Another frame is drawn in between.
        let mut other = Frame::new(PixelFormat::Argb, 99, 77, 9);
        painter.draw(&mut other.view(), &faces[..1], &Style::default());
    }
    assert!(frames[0].changed(&frames[1]).is_empty());
    assert!(frames[0].changed(&frames[2]).is_empty());
}

/// Number of pixels that the labels of a face change.
fn label_pixels(face: &Annotation<'_>, style: &Style) -> usize {
    let mut with = Frame::new(PixelFormat::Rgb, 320, 240, 90);
    let mut without = with.clone();
    with.draw(&[*face], style);
    let bare = Style {
        show_identity: false,
        show_mask: false,
        ..*style
    };
    without.draw(&[*face], &bare);
    with.changed(&without).len()
}

#[test]
fn a_face_not_tried_yet_has_no_label_and_a_stranger_has_one() {
    let style = Style::default();
    let face = Annotation {
        name: "",
        similarity: None,
        masked: None,
        ..annotation(FACE)
    };
    let labelled = |state| label_pixels(&Annotation { state, ..face }, &style) > 0;
    assert!(!labelled(IdentityState::Pending));
    assert!(!labelled(IdentityState::Known));
    assert!(labelled(IdentityState::Unknown));
}

#[test]
fn name_similarity_and_mask_state_each_widen_the_label() {
    let style = Style::default();
    let pixels = |name, similarity, masked| {
        let face = Annotation {
            name,
            similarity,
            masked,
            ..annotation(FACE)
        };
        label_pixels(&face, &style)
    };
    let name = pixels("Ana", None, None);
    assert!(name > 0);
    assert!(pixels("Ana", Some(0.5), None) > name);
    assert!(pixels("Ana", None, Some(true)) > name);
    assert!(pixels("Ana", None, Some(false)) > pixels("Ana", None, Some(true)));
    assert_eq!(pixels("Ana", Some(f32::NAN), None), name);
}

#[test]
fn two_hundred_faces_are_drawn_and_remembered() {
    let names: Vec<_> = (0..200).map(|i| format!("Person {i}")).collect();
    let faces: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(i, name)| Annotation {
            name,
            similarity: Some(i as f32 / 200.0),
            ..annotation(Rect::new(
                (i % 20) as f32 * 30.0,
                (i / 20) as f32 * 45.0,
                24.0,
                30.0,
            ))
        })
        .collect();
    let mut painter = Painter::new();
    let mut frame = Frame::new(PixelFormat::Uyvy, 640, 480, 90);
    painter.draw(&mut frame.view(), &faces, &Style::default());
    painter.draw(&mut frame.view(), &faces, &Style::default());
    assert!(frame.padding_is_untouched());
}

/// Without a limit, 20,000² comparisons with nine places each would take minutes.
#[test]
fn absurdly_many_faces_are_drawn_as_boxes_alone() {
    let faces = vec![annotation(FACE); 20_000];
    let mut frame = Frame::new(PixelFormat::Gray8, 160, 120, 90);
    frame.draw(&faces, &Style::default());
    assert!(frame.padding_is_untouched());
}

#[test]
fn a_painter_may_move_to_another_thread() {
    fn check<T: Send>() {}
    check::<Painter>();
}

#[test]
fn what_is_drawn_on_a_lying_frame_is_that_of_an_upright_one_turned() {
    let face = Annotation {
        rect: Rect::new(20.0, 60.0, 50.0, 60.0),
        name: "Ana",
        state: IdentityState::Known,
        similarity: Some(0.8),
        ..Annotation::default()
    };
    let (width, height) = (120, 160);
    let mut upright = Frame::new(PixelFormat::Gray8, width, height, 0);
    upright.draw(&[face], &Style::default());
    for orientation in [
        Orientation::ROTATE_90,
        Orientation::ROTATE_180,
        Orientation::ROTATE_270,
        Orientation::TRANSVERSE,
    ] {
        let (w, h) = orientation.turn_size((width, height));
        let mut stored = Frame::new(PixelFormat::Gray8, w, h, 0);
        let mut view = stored.view().oriented(orientation);
        Painter::new().draw(&mut view, &[face], &Style::default());
        for y in 0..height {
            for x in 0..width {
                let (a, b) = orientation.turn_size((x, y));
                let a = if orientation.flip_x { w - 1 - a } else { a };
                let b = if orientation.flip_y { h - 1 - b } else { b };
                assert_eq!(stored.sample(0, a, b), upright.sample(0, x, y), "{x} {y}");
            }
        }
    }
}

/// Blends an overlay in BGRA over a frame in RGB, as a compositor does.
fn lay_over(frame: &mut Frame, overlay: &Overlay) {
    let (data, stride) = &mut frame.planes[0];
    let rows = overlay.pixels.chunks_exact(4 * overlay.width);
    for (y, row) in rows.enumerate() {
        let start = (overlay.y + y) * *stride + 3 * overlay.x;
        let below = data[start..].chunks_exact_mut(3);
        for (below, &[b, g, r, a]) in below.zip(row.as_chunks().0) {
            for (below, c) in below.iter_mut().zip([r, g, b]) {
                let alpha = f32::from(a) / 255.0;
                let mixed = f32::from(*below) * (1.0 - alpha) + f32::from(c) * alpha;
                *below = mixed.round() as u8;
            }
        }
    }
}

#[test]
fn overlays_laid_over_a_frame_look_like_what_is_drawn_on_it() {
    let style = Style {
        show_legend: true,
        ..Style::default()
    };
    // Two faces overlap, one is apart, and one is beyond the edge.
    let faces = [(30.0, 40.0), (60.0, 70.0), (240.0, 100.0), (370.0, 200.0)]
        .map(|(x, y)| annotation(Rect::new(x, y, 61.0, 67.0)));
    for orientation in [Orientation::UPRIGHT, Orientation::ROTATE_90] {
        let (width, height) = orientation.turn_size((400, 300));
        let mut drawn = Frame::new(PixelFormat::Rgb, width, height, 90);
        let before = drawn.clone();
        let mut laid = drawn.clone();
        let mut painter = Painter::new();
        painter.draw(&mut drawn.view().oriented(orientation), &faces, &style);
        let overlays = painter
            .overlays(
                (width, height),
                orientation,
                PixelFormat::Bgra,
                &faces,
                &style,
            )
            .unwrap();
        assert_eq!(overlays.len(), 4, "the key, two faces in one, two faces");
        for overlay in &overlays {
            lay_over(&mut laid, overlay);
        }
        assert!(laid.padding_is_untouched());
        assert!(!laid.changed(&before).is_empty());
        for (x, y) in laid.changed(&drawn) {
            for c in 0..3 {
                // Three layers are blended, each rounded by half a step in colour and in alpha.
                let (a, b) = (laid.sample(c, x, y), drawn.sample(c, x, y));
                assert!(a.abs_diff(b) <= 3, "({x}, {y}) {a} {b}");
            }
        }
    }
}

#[test]
fn absurdly_many_faces_make_one_overlay_and_none_makes_none() {
    let faces = vec![annotation(FACE); 20_000];
    let mut painter = Painter::new();
    let mut overlays = |faces: &[Annotation<'_>]| {
        let orientation = Orientation::ROTATE_180;
        let format = PixelFormat::Argb;
        let style = Style::default();
        painter.overlays((160, 120), orientation, format, faces, &style)
    };
    let all = overlays(&faces).unwrap();
    assert_eq!((all.len(), all[0].width, all[0].height), (1, 160, 120));
    assert_eq!(overlays(&[]), Ok(vec![]));
}

#[test]
fn a_small_face_is_not_hidden_by_what_is_said_of_it() {
    let face = Rect::new(100.0, 80.0, 20.0, 24.0);
    let mut with = Frame::new(PixelFormat::Rgb, 640, 360, 90);
    let before = with.clone();
    with.draw(&[annotation(face)], &Style::default());
    let inside = with
        .changed(&before)
        .into_iter()
        .filter(|&(x, y)| (101..119).contains(&x) && (81..103).contains(&y));
    assert_eq!(inside.count(), 0);
}

#[test]
fn the_legend_has_the_three_colours_and_no_label_lies_on_it() {
    let style = Style {
        show_legend: true,
        ..Style::default()
    };
    let mut frame = Frame::new(PixelFormat::Rgb, 640, 480, 90);
    let mut painter = Painter::new();
    painter.draw(&mut frame.view(), &[], &style);
    for state in [
        IdentityState::Known,
        IdentityState::Unknown,
        IdentityState::Pending,
    ] {
        let mut pixels = (0..640 * 480).map(|i| (i % 640, i / 640));
        let is_color =
            |(x, y)| std::array::from_fn(|c| frame.sample(c, x, y)) == style.color(state);
        assert!(pixels.any(is_color), "{state:?}");
    }
    let legend = painter.scene.legend.as_ref().unwrap().place();
    let face = annotation(Rect::new(20.0, 430.0, 80.0, 80.0));
    let mut overlap = |show_legend| {
        let style = Style {
            show_legend,
            ..style
        };
        painter.arrange((640, 480), &[face], &style);
        painter.scene.labels[0].1.overlap(&legend)
    };
    assert!(overlap(false) > 0);
    assert_eq!(overlap(true), 0);
    let mut tiny = Frame::new(PixelFormat::Rgb, 64, 48, 90);
    let before = tiny.clone();
    tiny.draw(&[], &style);
    assert!(tiny.changed(&before).is_empty());
}

/// Labels do not alternate between two sizes or places when a face jitters.
#[test]
fn labels_of_faces_with_an_id_hold_still() {
    let style = Style {
        show_landmarks: false,
        ..Style::default()
    };
    let labels = |id: i32| {
        let mut painter = Painter::new();
        (0..20)
            .map(|n| {
                let tremble = f32::from(n % 2 == 0) * 2.0;
                let face = Annotation {
                    id,
                    // Sizes near the step from font size 12 to 13, and from a label above to one below.
                    ..annotation(Rect::new(100.0, 7.0 + tremble, 64.0 + tremble, 80.0))
                };
                painter.arrange((720, 480), &[face], &style);
                let (label, place, _) = &painter.scene.labels[0];
                (label.size(), place.y0 > 40)
            })
            .collect::<Vec<_>>()
    };
    let jumps = |id| labels(id).windows(2).filter(|w| w[0] != w[1]).count();
    assert_eq!(jumps(1), 0);
    assert_eq!(jumps(0), 19);
}
