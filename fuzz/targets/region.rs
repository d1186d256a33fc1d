//! The text of the property `inference-region`, and a search in the regions that it names.
#![no_main]

use std::cell::RefCell;

use fuzz_targets::networks::options;
use gstmfr::detect::{Detector, Params, parse_regions};
use gstmfr::frame::image::ImageView;
use libfuzzer_sys::fuzz_target;

const WIDTH: usize = 64;
const HEIGHT: usize = 48;

/// A search takes a thousand times as long as reading the text.
const MOST_REGIONS: usize = 8;

thread_local! {
    static DETECTOR: RefCell<Detector> = RefCell::new(
        Detector::built_in(&options())
            .expect("the networks are built in"),
    );
}

fuzz_target!(
    init: fuzz_targets::begin(|| {
        let texts = ["", "0,0,64,48", "1,2,30,40; -5 , 8, 6,7;", "10,10,40,30;20,20,44,28"];
        texts.map(|text| text.as_bytes().to_vec()).into()
    }),
    |input: &[u8]| {
        let Ok(text) = std::str::from_utf8(input) else { return };
        let Ok(regions) = parse_regions(text) else { return };
        for region in &regions {
            assert!(region.is_finite() && region.area() > 0.0, "{region:?}");
        }
        if regions.len() > MOST_REGIONS {
            return;
        }
        let pixels: Vec<u8> = (0..WIDTH * HEIGHT * 3).map(|i| (i * 7 % 251) as u8).collect();
        let view = ImageView::rgb(&pixels, WIDTH, HEIGHT).expect("as many bytes as pixels");
        let params = Params { regions, min_face_size: 20, ..Params::default() };
        DETECTOR
            .with_borrow_mut(|detector| detector.detect(&view, &params).map(|_| ()))
            .expect("nothing fails on the CPU");
    }
);
