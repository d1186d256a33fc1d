//! Access from applications and tools: controlled properties, and debug categories.

#![cfg(feature = "plugin")]

use std::sync::{Arc, LazyLock, Mutex};

use gst::prelude::*;
use gst_controller::prelude::*;

mod common;
use common::photo;

const ELEMENTS: [&str; 3] = ["mfrdetect", "mfrrecognize", "mfroverlay"];

const CONTROLLABLE: [(&str, &[&str]); 3] = [
    (
        "mfrdetect",
        &[
            "min-face-size",
            "pnet-threshold",
            "rnet-threshold",
            "onet-threshold",
            "scale-factor",
            "max-faces",
            "inference-interval",
        ],
    ),
    ("mfrrecognize", &["threshold", "reclassify-interval"]),
    (
        "mfroverlay",
        &[
            "show-identity",
            "show-mask",
            "show-landmarks",
            "show-legend",
            "line-width",
            "font-size",
        ],
    ),
];

/// The debug categories of the elements after the plugin was registered and before the first element was created.
static CATEGORIES: LazyLock<Vec<Option<gst::DebugCategory>>> = LazyLock::new(|| {
    common::init();
    ELEMENTS.map(gst::DebugCategory::get).to_vec()
});

/// Initialises the test; every test starts with this, so that none creates an element before.
fn init() {
    LazyLock::force(&CATEGORIES);
}

/// Sets control points of a property at these stream times; values are fractions of its range, as in GES.
fn control(
    object: &impl IsA<gst::Object>,
    property: &str,
    keyframes: &[(u64, f64)],
    absolute: bool,
) {
    let source = gst_controller::InterpolationControlSource::new();
    source.set_mode(gst_controller::InterpolationMode::None);
    for &(seconds, value) in keyframes {
        assert!(source.set(gst::ClockTime::from_seconds(seconds), value));
    }
    let binding = match absolute {
        true => gst_controller::DirectControlBinding::new_absolute(object, property, &source),
        false => gst_controller::DirectControlBinding::new(object, property, &source),
    };
    object.add_control_binding(&binding).unwrap();
}

#[test]
fn thresholds_sizes_intervals_and_what_is_drawn_are_controllable() {
    init();
    for (factory, properties) in CONTROLLABLE {
        let element = gst::ElementFactory::make(factory).build().unwrap();
        for property in properties {
            let pspec = element.find_property(property).unwrap();
            assert!(
                pspec.flags().contains(gst::PARAM_FLAG_CONTROLLABLE),
                "{factory} {property}"
            );
            control(&element, property, &[(0, 1.0)], false);
            // All ranges end with a value other than the default, except that of a switch that is on by default.
            let is_switch = pspec.value_type() == bool::static_type();
            if is_switch {
                element.set_property(property, false);
            }
            let before = element.property_value(property);
            element.sync_values(gst::ClockTime::ZERO).unwrap();
            let after = element.property_value(property);
            assert_ne!(
                before.serialize().unwrap(),
                after.serialize().unwrap(),
                "{factory} {property}"
            );
        }
    }
}

#[test]
fn a_controlled_property_takes_effect_at_its_frame() {
    init();
    // The stream has twenty frames, ten per second.
    let pipeline = gst::parse::launch(&format!(
        "filesrc location=\"{}\" ! decodebin ! imagefreeze num-buffers=20 ! video/x-raw,framerate=10/1 ! videoconvert \
         ! videoscale ! video/x-raw,format=I420,width=320,height=400 \
         ! mfrdetect name=detect tracking=false inference-interval=1 ! fakesink name=sink",
        photo("obama2.jpg")
    ));
    let pipeline = pipeline.unwrap().downcast::<gst::Pipeline>().unwrap();
    let detect = pipeline.by_name("detect").unwrap();
    // In the second second, the minimum size is larger than any face.
    control(&detect, "min-face-size", &[(0, 40.0), (1, 390.0)], true);
    let faces = Arc::new(Mutex::new(Vec::new()));
    let pad = pipeline.by_name("sink").unwrap().static_pad("sink");
    pad.unwrap().add_probe(gst::PadProbeType::BUFFER, {
        let faces = Arc::clone(&faces);
        move |_, info| {
            let count = gstmfr::Face::iter(info.buffer().unwrap()).count();
            faces.lock().unwrap().push(count);
            gst::PadProbeReturn::Ok
        }
    });
    pipeline.set_state(gst::State::Playing).unwrap();
    let ends = [gst::MessageType::Eos, gst::MessageType::Error];
    let timeout = gst::ClockTime::from_seconds(60);
    let message = pipeline.bus().unwrap().timed_pop_filtered(timeout, &ends);
    pipeline.set_state(gst::State::Null).unwrap();
    assert_eq!(message.unwrap().type_(), gst::MessageType::Eos);
    let expected = [[1; 10], [0; 10]].concat();
    assert_eq!(*faces.lock().unwrap(), expected);
}

#[test]
fn debug_categories_are_listed_before_an_element_is_made() {
    init();
    for (name, category) in ELEMENTS.iter().zip(CATEGORIES.iter()) {
        let category = category.unwrap_or_else(|| panic!("no debug category {name}"));
        assert!(!category.description().unwrap_or_default().is_empty());
    }
}
