use super::*;
use crate::frame::image::{Colorimetry, ImageInfo, PixelFormat, YuvMatrix};

fn resize(source: Rect, width: usize, height: usize, filter: Filter) -> Resize {
    Resize {
        source,
        width,
        height,
        filter,
        border: Border::Black,
    }
}

fn whole(view: &ImageView) -> Rect {
    Rect::new(0.0, 0.0, view.width() as f32, view.height() as f32)
}

fn gray(data: &[u8], width: usize, height: usize) -> ImageView<'_> {
    let info = ImageInfo {
        width,
        height,
        format: PixelFormat::Gray8,
        colorimetry: Colorimetry::default(),
    };
    let plane = Plane {
        data,
        stride: data.len() / height,
    };
    ImageView::new(info, &[plane]).unwrap()
}

fn reds(view: &ImageView, resize: &Resize) -> Vec<u8> {
    let mut out = Vec::new();
    Resizer::default().rgb8(view, resize, &mut out);
    out.chunks(3).map(|p| p[0]).collect()
}

#[test]
fn area_weighs_pixels_by_what_is_covered() {
    // The output cells cover 1.5 pixels each: (10 + ½·40) / 1.5 and (½·40 + 70) / 1.5.
    let view = gray(&[10, 40, 70], 3, 1);
    let plan = resize(whole(&view), 2, 1, Filter::Area);
    assert_eq!(reds(&view, &plan), [20, 60]);
}

#[test]
fn linear_enlarges_between_pixel_centres() {
    // The output centres are at −¼, ¼, ¾ and 1¼, relative to the pixel centres 0 and 1; the outside is black.
    let view = gray(&[0, 100], 2, 1);
    let mut plan = resize(whole(&view), 4, 1, Filter::Linear);
    assert_eq!(reds(&view, &plan), [0, 25, 75, 75]);
    plan.border = Border::Ignore;
    assert_eq!(reds(&view, &plan), [0, 25, 75, 100]);
}

#[test]
fn the_outside_is_black_or_does_not_count() {
    let view = gray(&[100; 4], 2, 2);
    let mut plan = resize(Rect::new(-2.0, 0.0, 4.0, 2.0), 2, 1, Filter::Area);
    assert_eq!(reds(&view, &plan), [0, 100]);
    plan.source = Rect::new(-1.0, 0.0, 2.0, 2.0);
    plan.width = 1;
    assert_eq!(reds(&view, &plan), [50]);
    plan.border = Border::Ignore;
    assert_eq!(reds(&view, &plan), [100]);
}

#[test]
fn the_outside_is_black_in_yuv_too() {
    let info = ImageInfo {
        width: 2,
        height: 2,
        format: PixelFormat::I420,
        colorimetry: Colorimetry::default(),
    };
    let plane = |data| Plane { data, stride: 2 };
    let planes = [
        plane(&[235u8; 4][..]),
        plane(&[128u8; 2][..]),
        plane(&[128u8; 2][..]),
    ];
    let view = ImageView::new(info, &planes).unwrap();
    let mut out = Vec::new();
    let plan = resize(Rect::new(-2.0, 0.0, 4.0, 2.0), 2, 1, Filter::Area);
    Resizer::default().rgb8(&view, &plan, &mut out);
    assert_eq!(out, [0, 0, 0, 255, 255, 255]);
}

#[test]
fn senseless_rectangles_read_as_black() {
    let view = gray(&[100; 4], 2, 2);
    for source in [
        Rect::new(f32::NAN, 0.0, 1.0, 1.0),
        Rect::new(0.0, 0.0, f32::INFINITY, 1.0),
        Rect::new(0.0, 0.0, -1.0, 0.0),
        Rect::new(1e30, -1e30, 1.0, 1.0),
    ] {
        assert_eq!(reds(&view, &resize(source, 2, 1, Filter::Area)), [0, 0]);
        assert_eq!(reds(&view, &resize(source, 2, 1, Filter::Linear)), [0, 0]);
    }
}

#[test]
fn columns_are_the_transpose_of_rows_and_values_are_normalised() {
    let data: Vec<u8> = (0..18).map(|i| i * 10).collect();
    let view = ImageView::rgb(&data, 3, 2).unwrap();
    let plan = resize(whole(&view), 3, 2, Filter::Area);
    let (mut rows, mut columns) = ([0.0; 18], [0.0; 18]);
    let mut resizer = Resizer::default();
    resizer.tensor(&view, &plan, Layout::Rows, &mut rows);
    resizer.tensor(&view, &plan, Layout::Columns, &mut columns);
    for y in 0..2 {
        for x in 0..3 {
            for c in 0..3 {
                let value = rows[(y * 3 + x) * 3 + c];
                assert_eq!(
                    value,
                    (f32::from(data[(y * 3 + x) * 3 + c]) - 127.5) / 128.0
                );
                assert_eq!(value, columns[(x * 2 + y) * 3 + c]);
            }
        }
    }
}

#[test]
fn a_picture_that_lies_on_its_side_is_read_upright() {
    // Stored:  1 2 3      upright after a quarter turn clockwise:  4 1
    //          4 5 6                                               5 2
    //                                                              6 3
    let data = [1, 2, 3, 4, 5, 6];
    let view = gray(&data, 3, 2);
    for (orientation, expected) in [
        (Orientation::ROTATE_90, [4, 1, 5, 2, 6, 3]),
        (Orientation::ROTATE_270, [3, 6, 2, 5, 1, 4]),
        (Orientation::TRANSPOSE, [1, 4, 2, 5, 3, 6]),
        (Orientation::TRANSVERSE, [6, 3, 5, 2, 4, 1]),
    ] {
        let view = view.oriented(orientation);
        assert_eq!((view.width(), view.height()), (2, 3));
        let plan = resize(whole(&view), 2, 3, Filter::Area);
        assert_eq!(reds(&view, &plan), expected, "{orientation:?}");
        // The part of the image is the lower right pixel.
        let part = resize(Rect::new(1.0, 2.0, 1.0, 1.0), 1, 1, Filter::Area);
        assert_eq!(reds(&view, &part), expected[5..], "{orientation:?}");
        let mut columns = [0.0; 18];
        Resizer::default().tensor(&view, &plan, Layout::Columns, &mut columns);
        let found: Vec<_> = (0..6)
            .map(|i| columns[(i % 2 * 3 + i / 2) * 3] * 128.0 + 127.5)
            .collect();
        assert_eq!(found, expected.map(f32::from), "{orientation:?}");
    }
    for (orientation, expected) in [
        (Orientation::ROTATE_180, [6, 5, 4, 3, 2, 1]),
        (Orientation::FLIP_HORIZONTAL, [3, 2, 1, 6, 5, 4]),
        (Orientation::FLIP_VERTICAL, [4, 5, 6, 1, 2, 3]),
    ] {
        let view = view.oriented(orientation);
        let plan = resize(whole(&view), 3, 2, Filter::Area);
        assert_eq!(reds(&view, &plan), expected, "{orientation:?}");
    }
}

#[test]
fn planes_are_turned_as_single_pixels_are() {
    let data: Vec<u8> = (0..37 * 21).map(|i| (i * 7 % 251) as u8).collect();
    let stored = gray(&data, 37, 21);
    for flags in 0..8 {
        let orientation = Orientation {
            transpose: flags & 1 > 0,
            flip_x: flags & 2 > 0,
            flip_y: flags & 4 > 0,
        };
        let view = stored.oriented(orientation);
        let (width, height) = (view.width(), view.height());
        let plan = resize(whole(&view), width, height, Filter::Area);
        let expected = reds(&view, &plan);
        let mut resizer = Resizer::default();
        for rows in [0..height, 3..height - 2, 5..6, 4..4] {
            let found = resizer.planes(&view, &plan, rows.clone())[0];
            let found: Vec<u8> = found.iter().map(|&v| v as u8).collect();
            let expected = &expected[rows.start * width..rows.end * width];
            assert_eq!(found, expected, "{orientation:?}, {rows:?}");
        }
    }
}

/// A uniform colour written in each format is read as that colour, whatever the stride.
#[test]
fn every_format_reads_the_same_colour() {
    let rgb = [200, 60, 30];
    for format in PixelFormat::ALL {
        let colorimetry = Colorimetry {
            matrix: YuvMatrix::Bt709,
            full_range: false,
            chroma_left: true,
        };
        let info = ImageInfo {
            width: 7,
            height: 5,
            format,
            colorimetry,
        };
        let samples = match format.color_model() {
            ColorModel::Rgb => rgb,
            ColorModel::Yuv => colorimetry.from_rgb(rgb),
            ColorModel::Gray => [90; 3],
        };
        let mut planes = vec![vec![77u8; 64 * 5]; format.planes()];
        for (c, channel) in format.channels().iter().enumerate() {
            for y in 0..channel.height(5) {
                for x in 0..channel.width(7) {
                    let at = y * 64 + channel.offset + x * channel.step;
                    planes[channel.plane][at] = samples[c];
                }
            }
        }
        let planes: Vec<_> = planes
            .iter()
            .map(|data| Plane { data, stride: 64 })
            .collect();
        let view = ImageView::new(info, &planes).unwrap();
        let mut out = Vec::new();
        let mut plan = resize(whole(&view), 3, 2, Filter::Area);
        plan.border = Border::Ignore;
        Resizer::default().rgb8(&view, &plan, &mut out);
        let expected = if format == PixelFormat::Gray8 {
            [90; 3]
        } else {
            rgb
        };
        for pixel in out.chunks(3) {
            for (found, expected) in pixel.iter().zip(expected) {
                // Rounding to limited-range YUV and back costs up to two steps.
                assert!(found.abs_diff(expected) <= 2, "{format:?} {pixel:?}");
            }
        }
    }
}
