use std::io::{Cursor, Write};

use ndarray::{Array1, Array2, arr1, arr2};

use super::*;

fn contract(dim: usize) -> Contract {
    Contract::new(&"ab".repeat(32), dim)
}

fn entry(name: &str, embedding: [f32; 4]) -> Entry {
    Entry {
        name: name.into(),
        source: format!("{name}/{}.jpg", embedding[0]),
        kind: Kind::Photo,
        embedding: arr1(&embedding),
    }
}

/// Three people whose embeddings lie near three of four axes.
fn gallery() -> Gallery {
    let entries = vec![
        entry("Zoë 张", [0.0, 0.0, 1.0, 0.1]),
        entry("Ana", [1.0, 0.0, 0.1, 0.0]),
        entry("Ana", [2.0, 0.2, 0.0, 0.0]),
        entry("Bo", [0.0, 1.0, 0.0, 0.0]),
    ];
    Gallery::train(entries, contract(4)).unwrap()
}

fn bytes(gallery: &Gallery) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    gallery.write(&mut out).unwrap();
    out.into_inner()
}

fn read_error(bytes: &[u8]) -> String {
    Gallery::read(Cursor::new(bytes)).unwrap_err().to_string()
}

/// A zip archive with the given members.
fn archive(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        let options = zip::write::SimpleFileOptions::default();
        zip.start_file(format!("{name}.npy"), options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// An npy file, format version 1.
fn npy(descr: &str, order: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn utf32(texts: &[&str], width: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for text in texts {
        let mut one: Vec<u8> = text
            .chars()
            .flat_map(|c| (c as u32).to_le_bytes())
            .collect();
        one.resize(width * 4, 0);
        out.extend(one);
    }
    out
}

#[test]
fn frames_and_masked_copies_come_from_their_file() {
    assert_eq!(file_of("Ana/1.jpg"), "Ana/1.jpg");
    assert_eq!(file_of("Ana/#1.jpg"), "Ana/#1.jpg");
    assert_eq!(file_of("Ana/clip.mp4#t=1.50"), "Ana/clip.mp4");
    assert_eq!(file_of("Ana/1.jpg#mask:surgical"), "Ana/1.jpg");
    assert_eq!(file_of("Ana/clip.mp4#t=1.50#mask:cloth"), "Ana/clip.mp4");
    assert_eq!(file_of(""), "");
}

#[test]
fn people_are_sorted_and_counted() {
    let gallery = gallery();
    let people: Vec<_> = gallery.people().collect();
    assert_eq!(people, [("Ana", 2), ("Bo", 1), ("Zoë 张", 1)]);
    assert_eq!(gallery.labels(), [0, 0, 1, 2]);
}

#[test]
fn a_gallery_comes_back_from_its_file_as_it_was() {
    let gallery = gallery();
    let back = Gallery::read(Cursor::new(bytes(&gallery))).unwrap();
    assert_eq!(back, gallery);
}

#[test]
fn files_are_written_for_the_owner_alone_and_leave_nothing_behind() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("g.npz");
    gallery().save(&path).unwrap();
    gallery().save(&path).unwrap();
    assert_eq!(Gallery::load(&path).unwrap(), gallery());
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
    let error = gallery().save(&folder.path().join("no/g.npz")).unwrap_err();
    assert!(
        error.to_string().contains("no/g.npz cannot be written"),
        "{error}"
    );
}

#[test]
fn each_face_is_named_after_the_person_it_is_near() {
    let gallery = gallery();
    for (face, label) in [([1.0, 0.1, 0.0, 0.0], 0), ([0.0, 0.9, 0.1, 0.0], 1)] {
        let face: Array1<f32> = arr1(&face);
        let found = gallery.identify(face.view(), false, None);
        assert_eq!(found.label, Some(label));
        assert!(found.confidence > 0.99, "{found:?}");
        assert_eq!(found.candidates.len(), 3);
        assert_eq!(found.candidates[0].label, label);
        assert_eq!(found.candidates[0].similarity, found.similarity);
        assert!(
            found
                .candidates
                .is_sorted_by(|a, b| a.similarity >= b.similarity)
        );
    }
}

#[test]
fn a_face_like_nobody_is_unknown_and_has_candidates_all_the_same() {
    let found = gallery().identify(arr1(&[0.0, 0.0, 0.0, 1.0]).view(), false, None);
    assert_eq!(found.label, None);
    assert!(
        found.similarity < 0.2 && found.confidence > 0.9,
        "{found:?}"
    );
    assert_eq!(found.candidates.len(), 3);
    // The threshold passed by the caller overrides the gallery's own.
    let face = arr1(&[1.0, 0.1, 0.0, 0.0]);
    assert_eq!(
        gallery().identify(face.view(), false, Some(1.1)).label,
        None
    );
}

#[test]
fn an_embedding_without_direction_or_of_another_size_is_unknown() {
    for face in [arr1(&[0.0; 4]), arr1(&[f32::NAN; 4]), arr1(&[1.0, 0.0])] {
        let found = gallery().identify(face.view(), false, None);
        assert_eq!(found.label, None, "{face}");
        assert!((0.0..=1.0).contains(&found.similarity) && found.confidence.is_finite());
    }
}

#[test]
fn nobody_is_in_a_picture_twice() {
    let faces = arr2(&[
        [1.0, 0.3, 0.0, 0.0],
        [1.0, 0.1, 0.0, 0.0],
        [0.1, 1.0, 0.0, 0.0],
    ]);
    let labels = |threshold| -> Vec<_> {
        let found = gallery().identify_frame(faces.view(), &[], threshold);
        found.iter().map(|f| f.label).collect()
    };
    assert_eq!(labels(None), [None, Some(0), Some(1)]);
    // With every person above the threshold, the face with the lower score gets the person that remains.
    assert_eq!(labels(Some(0.0)), [Some(2), Some(0), Some(1)]);
}

#[test]
fn one_person_alone_is_known_from_others() {
    let gallery = Gallery::train(vec![entry("Ana", [1.0, 0.0, 0.0, 0.0])], contract(4)).unwrap();
    assert_eq!(
        gallery
            .identify(arr1(&[0.9, 0.3, 0.0, 0.0]).view(), false, None)
            .label,
        Some(0)
    );
    assert_eq!(
        gallery
            .identify(arr1(&[0.1, 0.9, 0.0, 0.0]).view(), false, None)
            .label,
        None
    );
}

#[test]
fn a_gallery_of_another_model_is_refused_with_both_sides() {
    let gallery = gallery();
    gallery.check_model(&"ab".repeat(32), 4).unwrap();
    let error = gallery
        .check_model(&"cd".repeat(32), 4)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("abababababab") && error.contains("cdcdcdcdcdcd"),
        "{error}"
    );
    let error = gallery
        .check_model(&"ab".repeat(32), 512)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("have 4 numbers, the model's have 512"),
        "{error}"
    );
}

#[test]
fn galleries_of_nobody_or_of_broken_embeddings_are_not_made() {
    let error = |entries| {
        Gallery::train(entries, contract(4))
            .unwrap_err()
            .to_string()
    };
    assert!(error(vec![]).contains("holds nobody"));
    assert!(error(vec![entry("A", [0.0; 4])]).contains("zero or not finite"));
    assert!(error(vec![entry("A", [f32::NAN; 4])]).contains("zero or not finite"));
}

#[test]
fn foreign_empty_and_cut_files_say_what_was_found() {
    assert!(read_error(b"").contains("no zip archive"));
    assert!(read_error(&[7; 4096]).contains("no zip archive"));
    let foreign = archive(&[("weights", vec![1, 2]), ("x", vec![])]);
    assert!(read_error(&foreign).contains("an archive with: weights, x"));
    let whole = bytes(&gallery());
    for part in 1..64 {
        let cut = &whole[..whole.len() * part / 64];
        assert!(Gallery::read(Cursor::new(cut)).is_err(), "{part}/64");
    }
}

#[test]
fn an_archive_that_claims_many_files_is_refused_before_room_is_made_for_them() {
    let mut many = bytes(&gallery());
    let end = many.len() - 22;
    many[end + 8..end + 12].fill(0xff);
    assert!(read_error(&many).contains("an archive of 65535 files"));
}

#[test]
fn damaged_bytes_are_an_error_or_harmless_but_never_a_panic() {
    let whole = bytes(&gallery());
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0xff;
        if let Ok(gallery) = Gallery::read(Cursor::new(damaged)) {
            gallery.identify(arr1(&[1.0, 0.0, 0.0, 0.0]).view(), false, None);
        }
    }
}

#[test]
fn hostile_headers_allocate_nothing_and_are_named() {
    let names = || ("names", npy("<U1", "False", "(1,)", &utf32(&["A"], 1)));
    let labels = || ("labels", npy("<i8", "False", "(1,)", &0i64.to_le_bytes()));
    for (descr, shape, reason) in [
        ("<f4", "(1000000000, 512)", "needs 2048000000000 bytes"),
        (
            "<f4",
            "(18446744073709551615, 18446744073709551615)",
            "not supported",
        ),
        ("<f4", "(-1, 4)", "its header is"),
        ("<f4", "(2, 4)", "needs 32 bytes, found 16"),
        ("|O", "(1, 4)", "its header is"),
        ("<c8", "(1, 2)", "not supported"),
        ("<i4", "(1, 4)", "expected float32 [N, D]"),
        ("<f4", "(4,)", "expected float32 [N, D]"),
        ("<f4", "(1, 4", "its header is"),
    ] {
        let embeddings = npy(descr, "False", shape, &f32s(&[1.0, 0.0, 0.0, 0.0]));
        let error = read_error(&archive(&[("embeddings", embeddings), names(), labels()]));
        assert!(
            error.contains("array embeddings") && error.contains(reason),
            "{descr} {shape}: {error}"
        );
    }
    // Parsing this header recursively would overflow the stack.
    let deep = format!("(4,), 'x': {}", "[".repeat(9000));
    let embeddings = npy("<f4", "False", &deep, &f32s(&[1.0; 4]));
    let error = read_error(&archive(&[("embeddings", embeddings), names(), labels()]));
    assert!(error.contains("expected a numpy array"), "{error}");
    // The header states its own length as four gigabytes.
    let mut long = b"\x93NUMPY\x02\x00".to_vec();
    long.extend(u32::MAX.to_le_bytes());
    let error = read_error(&archive(&[("embeddings", long), names(), labels()]));
    assert!(error.contains("expected a numpy array"), "{error}");
}

#[test]
fn contents_that_do_not_belong_together_are_named() {
    let file = |embeddings: &[f32], labels: &[i64], names: &[&str]| {
        let shape = format!("({}, 4)", embeddings.len() / 4);
        let numbers: Vec<u8> = labels.iter().flat_map(|l| l.to_le_bytes()).collect();
        read_error(&archive(&[
            ("embeddings", npy("<f4", "False", &shape, &f32s(embeddings))),
            (
                "labels",
                npy("<i8", "False", &format!("({},)", labels.len()), &numbers),
            ),
            (
                "names",
                npy(
                    "<U2",
                    "False",
                    &format!("({},)", names.len()),
                    &utf32(names, 2),
                ),
            ),
        ]))
    };
    let one = [1.0, 0.0, 0.0, 0.0];
    assert!(file(&one, &[1], &["A"]).contains("label 1 is not one of the 1 names"));
    assert!(file(&one, &[-1], &["A"]).contains("is not one of the 1 names"));
    assert!(file(&one, &[0, 0], &["A"]).contains("1 embeddings have 2 labels"));
    assert!(file(&one, &[0], &["A", "B"]).contains("\"B\" has no embedding"));
    assert!(file(&[one, one].concat(), &[0, 1], &["A", "A"]).contains("\"A\" stands twice"));
    assert!(file(&[f32::NAN; 4], &[0], &["A"]).contains("not finite"));
    assert!(file(&[], &[], &[]).contains("holds nobody"));
}

#[test]
fn what_numpy_users_write_by_hand_is_read() {
    // float64 in Fortran order, int32 labels, neither SVM nor contract: two people, two columns.
    let doubles: Vec<u8> = [1.0f64, 0.0, 0.0, 2.0]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    let labels: Vec<u8> = [1i32, 0].iter().flat_map(|v| v.to_le_bytes()).collect();
    let file = archive(&[
        ("embeddings", npy("<f8", "True", "(2, 2)", &doubles)),
        ("labels", npy("<i4", "False", "(2,)", &labels)),
        (
            "names",
            npy("<U3", "False", "(2,)", &utf32(&["Zoë", "Bo"], 3)),
        ),
    ]);
    let gallery = Gallery::read(Cursor::new(file)).unwrap();
    assert_eq!(gallery.names(), ["Zoë", "Bo"]);
    assert_eq!(gallery.embeddings(), Array2::<f32>::eye(2));
    assert_eq!(
        gallery
            .identify(arr1(&[1.0, 0.0]).view(), false, None)
            .label,
        Some(1)
    );
    // The file does not name its model, so only the embedding size can be checked.
    gallery.check_model("anything", 2).unwrap();
}

#[test]
fn the_embeddings_of_the_original_scripts_are_read_and_trained() {
    let embeddings = f32s(&[1.0, 0.0, 0.0, 0.9, 0.1, 0.0, 0.0, 0.0, 5.0]);
    let file = archive(&[
        ("arr_0", npy("<f4", "False", "(3, 3)", &embeddings)),
        (
            "arr_1",
            npy("<U3", "False", "(3,)", &utf32(&["Zoë", "Zoë", "Bo"], 3)),
        ),
        ("arr_2", npy("<f4", "False", "(0, 3)", &[])),
        ("arr_3", npy("<U1", "False", "(0,)", &[])),
    ]);
    let gallery = Gallery::read(Cursor::new(file)).unwrap();
    assert_eq!(gallery.names(), ["Bo", "Zoë"]);
    assert_eq!(
        gallery
            .identify(arr1(&[0.0, 0.1, 1.0]).view(), false, None)
            .label,
        Some(0)
    );
    assert_eq!(
        gallery
            .identify(arr1(&[1.0, 0.1, 0.0]).view(), false, None)
            .label,
        Some(1)
    );
}

#[test]
fn what_exports_add_to_the_arrays_of_the_original_scripts_is_read() {
    let original = gallery();
    let entries = original.entries();
    let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    let sources: Vec<&str> = entries.iter().map(|entry| entry.source.as_str()).collect();
    let mut npz = NpzWriter::new(Cursor::new(Vec::new()));
    npz.numbers("arr_0", original.embeddings()).unwrap();
    npz.texts("arr_1", &names).unwrap();
    npz.texts("sources", &sources).unwrap();
    npz.numbers("kinds", &arr1(&[0u8, 1, 2, 0])).unwrap();
    let json = serde_json::to_vec(&contract(4)).unwrap();
    npz.numbers("contract", &Array1::from(json)).unwrap();
    let file = npz.finish().unwrap().into_inner();
    let read = Gallery::read(Cursor::new(file)).unwrap();
    assert_eq!(read.sources(), original.sources());
    let kinds = [
        Kind::Photo,
        Kind::SyntheticMask,
        Kind::MaskedPhoto,
        Kind::Photo,
    ];
    assert_eq!(read.kinds(), kinds);
    assert_eq!(read.contract(), Some(&contract(4)));
    assert_eq!(read.embeddings(), original.embeddings());
}

#[test]
fn a_file_of_a_later_format_is_refused_by_name() {
    let mut gallery = gallery();
    gallery.contract.as_mut().unwrap().format = "mfr-gallery/9".into();
    assert!(read_error(&bytes(&gallery)).contains("mfr-gallery/9"));
}

/// Reads the file with numpy itself, where it is installed.
#[test]
fn numpy_reads_the_file_without_pickle() {
    // The user's Python may precede on the PATH the system's, for which `make test` installs numpy.
    let named = std::env::var("MFR_PYTHON").unwrap_or_else(|_| "python3".into());
    let pythons = [named.as_str(), "/usr/bin/python3"];
    let Some(python) = pythons.into_iter().find(|python| {
        let numpy = std::process::Command::new(python)
            .args(["-c", "import numpy"])
            .output();
        numpy.is_ok_and(|o| o.status.success())
    }) else {
        crate::skip::skip(format_args!(
            "no numpy in {pythons:?} to read galleries with"
        ));
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("g.npz");
    gallery().save(&path).unwrap();
    let script = r#"
import json, sys, numpy
z = numpy.load(sys.argv[1], allow_pickle=False)
for k in ["embeddings", "labels", "names", "sources", "kinds", "svm_weights", "svm_bias", "calibration", "thresholds"]:
    print(k, z[k].dtype.str, list(z[k].shape))
print(z["names"][2], json.loads(bytes(z["contract"]).decode())["format"])
"#;
    let output = std::process::Command::new(python)
        .args(["-c", script])
        .arg(&path)
        .env("PYTHONIOENCODING", "utf-8")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .collect::<Vec<_>>(),
        [
            "embeddings <f4 [4, 4]",
            "labels <i8 [4]",
            "names <U5 [3]",
            "sources <U11 [4]",
            "kinds |u1 [4]",
            "svm_weights <f4 [3, 4]",
            "svm_bias <f4 [3]",
            "calibration <f4 [4]",
            "thresholds <f4 [2]",
            "Zoë 张 mfr-gallery/1",
        ]
    );
}
