use super::*;
use ndarray::arr1;

fn contract(dim: usize) -> Contract {
    Contract::new(&"ab".repeat(32), dim)
}

/// Two people, with names and numbers that are hard to write.
fn exchanged() -> Exchanged {
    let entry = |name: &str, source: &str, kind, embedding: [f32; 4]| Entry {
        name: name.into(),
        source: source.into(),
        kind,
        embedding: arr1(&embedding),
    };
    let odd = [f32::MIN_POSITIVE, -0.1, 0.3333333, 16_777_217.0];
    Exchanged {
        entries: vec![
            entry("A\"\n\u{1f600}", "a/1.jpg", Kind::Photo, odd),
            entry(
                "A\"\n\u{1f600}",
                "a/1.jpg#mask:n95",
                Kind::SyntheticMask,
                [1.0, 0.0, 0.0, 0.5],
            ),
            entry(
                "../b",
                "b/2.mp4#t=0.50",
                Kind::MaskedPhoto,
                [0.1, 0.2, 0.7, -0.9],
            ),
        ],
        contract: Some(contract(4)),
    }
}

#[test]
fn text_formats_come_back_bit_for_bit() {
    let original = exchanged();
    let contract = original.contract.clone().unwrap();
    let mut text = Vec::new();
    json::write(&mut text, &original.entries, &contract).unwrap();
    assert_eq!(json::read(&text).unwrap(), original);
    let mut text = Vec::new();
    hailo::write(&mut text, &original.entries, &contract).unwrap();
    assert_eq!(hailo::read(&text).unwrap(), original);
}

#[test]
fn every_number_of_single_precision_is_restored() {
    // Bit patterns from all over the range, without those that are not finite.
    let bits = (0..200_000u32).map(|i| i.wrapping_mul(2_654_435_761));
    let values: Array1<f32> = bits.map(f32::from_bits).filter(|v| v.is_finite()).collect();
    let text = serde_json::to_string(&numbers::decimals(&values)).unwrap();
    let read: Vec<f32> = serde_json::from_str(&text).unwrap();
    assert_eq!(read, values.to_vec());
}

#[test]
fn a_file_with_contents_that_cannot_be_a_gallery_is_refused() {
    let refused = |change: fn(&mut Exchanged)| {
        let mut exchanged = exchanged();
        change(&mut exchanged);
        exchanged.check().unwrap_err().to_string()
    };
    assert_eq!(exchanged().check().unwrap(), 4);
    assert!(refused(|e| e.entries.clear()).contains("nobody"));
    assert!(
        refused(|e| e.entries[1].embedding = arr1(&[1.0])).contains("has 1 numbers, others have 4")
    );
    assert!(refused(|e| e.entries[2].embedding[0] = f32::NAN).contains("not finite"));
    assert!(refused(|e| e.contract = Some(contract(5))).contains("by its contract they have 5"));
}

#[test]
fn paths_that_leave_the_folder_are_refused() {
    for path in ["../a", "a/../../b", "/etc/passwd", "", ".", "a/.."] {
        assert!(dlstreamer::inside(path).is_err(), "{path:?}");
    }
    for path in ["a.tensor", "./features/a.tensor", "features/..a"] {
        assert!(dlstreamer::inside(path).is_ok(), "{path:?}");
    }
}

#[test]
fn both_forms_of_an_index_are_read() {
    let expected = vec![("Ana".to_owned(), vec!["f/0".to_owned()])];
    for index in [
        r#"{"Ana":{"features":["f/0"]}}"#,
        r#"[{"name":"Ana","features":["f/0"]}]"#,
    ] {
        assert_eq!(dlstreamer::parse_index(index.as_bytes()).unwrap(), expected);
    }
}
