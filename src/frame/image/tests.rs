use super::*;

fn info(format: PixelFormat, width: usize, height: usize) -> ImageInfo {
    ImageInfo {
        width,
        height,
        format,
        colorimetry: Colorimetry::default(),
    }
}

#[test]
fn every_sample_of_every_format_lies_inside_its_row() {
    for format in PixelFormat::ALL {
        for width in 1..6 {
            for c in format.channels().iter().chain(&format.alpha()) {
                let last = c.offset + (c.width(width) - 1) * c.step;
                assert!(
                    last < format.row_bytes(c.plane, width),
                    "{format:?} {width} {c:?}"
                );
                assert!(c.plane < format.planes());
                assert_eq!(c.height(3), format.rows(c.plane, 3));
            }
        }
    }
}

#[test]
fn buffers_smaller_than_the_size_says_are_refused() {
    let data = [0u8; 11];
    // 2×2 RGB tightly packed needs 12 bytes.
    let error = ImageView::rgb(&data, 2, 2).unwrap_err();
    assert_eq!(
        error.to_string(),
        "plane 0 of Rgb: 2×2 pixels need 12 bytes, the buffer has 11"
    );
    assert!(ImageView::rgb(&data, 0, 2).is_err());
    assert!(ImageView::rgb(&data, usize::MAX, usize::MAX).is_err());
    let planes = [Plane {
        data: &data,
        stride: 1,
    }];
    assert!(ImageView::new(info(PixelFormat::Gray8, 2, 2), &planes).is_err());
    assert!(ImageView::new(info(PixelFormat::Nv12, 1, 1), &planes).is_err());
}

#[test]
fn the_last_row_needs_no_padding() {
    // With a stride of 8, the data is one padded row and the 6 bytes of the second one.
    let data = [0u8; 14];
    let planes = [Plane {
        data: &data,
        stride: 8,
    }];
    assert!(ImageView::new(info(PixelFormat::Rgb, 2, 2), &planes).is_ok());
}

#[test]
fn colours_survive_the_way_to_yuv_and_back() {
    for matrix in [YuvMatrix::Bt601, YuvMatrix::Bt709, YuvMatrix::Bt2020] {
        for full_range in [false, true] {
            let c = Colorimetry {
                matrix,
                full_range,
                chroma_left: false,
            };
            for rgb in [[0, 0, 0], [255, 255, 255], [200, 30, 90], [10, 250, 128]] {
                let [y, u, v] = c.from_rgb(rgb).map(f32::from);
                let back = c.to_rgb().apply(y, u, v);
                for (a, b) in back.iter().zip(rgb) {
                    // Each of three samples is rounded by up to ½, which the conversion multiplies by at most 2.1.
                    assert!((a - f32::from(b)).abs() < 2.2, "{c:?} {rgb:?} {back:?}");
                }
            }
        }
    }
}

#[test]
fn red_in_limited_bt601_has_the_samples_of_the_standard() {
    // ITU-R BT.601: Y = 16 + 65.5, Cb = 128 − 37.8, Cr = 128 + 112.
    assert_eq!(Colorimetry::default().from_rgb([255, 0, 0]), [81, 90, 240]);
}
