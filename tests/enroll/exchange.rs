//! `export` and `import`: galleries of other programs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::helpers::{Folder, encoded, run, sources, text};
use gstmfr::gallery::{Gallery, Kind};
use image::ImageFormat;
use serde_json::{Value, json};

const FORMATS: [(&str, &str); 4] = [
    ("json", "out.json"),
    ("dlstreamer", "out"),
    ("hailo", "hailo.json"),
    ("npz", "out.npz"),
];

fn export(gallery: &Path, format: &str, output: &Path) -> crate::helpers::Ran {
    let (gallery, output) = (text(gallery), text(output));
    run(&[
        "export",
        "--database",
        &gallery,
        "--format",
        format,
        "--output",
        &output,
    ])
}

fn import(format: &str, input: &Path, output: &Path, more: &[&str]) -> crate::helpers::Ran {
    let (input, output) = (text(input), text(output));
    let args = [
        "import", "--format", format, "--input", &input, "--output", &output,
    ];
    run(&[&args[..], more].concat())
}

fn read(path: &Path) -> Gallery {
    Gallery::load(path).unwrap()
}

fn parsed(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn every_format_comes_back_bit_for_bit() {
    let folder = Folder::new();
    let gallery = folder.gallery();
    let original = fs::read(&gallery).unwrap();
    for (format, name) in FORMATS {
        let output = folder.path(name);
        let said = export(&gallery, format, &output).succeeds();
        assert!(said.contains("3 people, 20 embeddings"), "{said}");
        let mode = fs::metadata(&output).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, if format == "dlstreamer" { 0o700 } else { 0o600 });
        let again = folder.path(&format!("{format}.npz"));
        let ran = import(format, &output, &again, &[]);
        assert!(
            ran.stderr
                .contains(&format!("{format}.npz is not there, and is made")),
            "{}",
            ran.stderr
        );
        ran.succeeds();
        assert!(fs::read(&again).unwrap() == original, "{format}");
    }
    // A gallery itself is an npz file as well.
    let again = folder.path("again.npz");
    import("npz", &gallery, &again, &[]).succeeds();
    assert!(fs::read(&again).unwrap() == original);
}

#[test]
fn exports_are_what_other_programs_read() {
    let folder = Folder::new();
    let gallery = folder.gallery();
    for (format, name) in FORMATS {
        export(&gallery, format, &folder.path(name)).succeeds();
    }
    let gallery = read(&gallery);
    let own = gallery.embeddings().row(0).to_vec();
    let hailo = parsed(&folder.path("hailo.json"));
    let face = &hailo[0]["FaceRecognition"];
    assert_eq!(face["Name"], "Barack Obama");
    assert_eq!(face["Embeddings"].as_array().unwrap().len(), 10);
    let matrix = &face["Embeddings"][0]["HailoMatrix"];
    assert_eq!(matrix["width"], 1);
    assert_eq!(matrix["height"], 1);
    assert_eq!(matrix["features"], 512);
    let numbers = matrix["data"].as_array().unwrap();
    let numbers: Vec<f32> = numbers.iter().map(|v| v.as_f64().unwrap() as f32).collect();
    assert_eq!(numbers, own);
    let index = parsed(&folder.path("out/gallery.json"));
    assert_eq!(index[0]["name"], "Barack Obama");
    let tensor = folder
        .path("out")
        .join(index[0]["features"][0].as_str().unwrap());
    let bytes: Vec<u8> = own.iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_eq!(fs::read(tensor).unwrap(), bytes);
    // The original scripts' arrays, of which the last two are of validation photos.
    let mut npz =
        ndarray_npy::NpzReader::new(fs::File::open(folder.path("out.npz")).unwrap()).unwrap();
    let rows: ndarray::Array2<f32> = npz.by_name("arr_0").unwrap();
    assert_eq!(rows, gallery.embeddings());
    let none: ndarray::Array2<f32> = npz.by_name("arr_2").unwrap();
    assert_eq!(none.dim(), (0, 512));
    // It can also be used as it is.
    assert_eq!(read(&folder.path("out.npz")).names(), gallery.names());
}

/// The files of another program with embeddings of a gallery.
fn foreign(folder: &Folder, gallery: &Path) -> Vec<(&'static str, std::path::PathBuf)> {
    let gallery = read(gallery);
    let mut loose = serde_json::Map::new();
    let mut index = serde_json::Map::new();
    let mut hailo = Vec::new();
    for (i, entry) in gallery.entries().into_iter().enumerate() {
        if entry.kind == Kind::SyntheticMask {
            continue;
        }
        let numbers = entry.embedding.to_vec();
        let bytes: Vec<u8> = numbers.iter().flat_map(|v| v.to_le_bytes()).collect();
        folder.write(&format!("foreign/f/{i}.tensor"), &bytes);
        let features = index.entry(&entry.name).or_insert(json!({"features": []}));
        features["features"]
            .as_array_mut()
            .unwrap()
            .push(json!(format!("f/{i}.tensor")));
        let list = loose.entry(&entry.name).or_insert(json!([]));
        list.as_array_mut().unwrap().push(json!(numbers));
        let matrix = json!({"width": 1, "height": 1, "features": 512, "data": numbers});
        hailo.push(json!({"FaceRecognition": {"Name": entry.name, "Embeddings": [{"HailoMatrix": matrix}]}}));
    }
    let write = |name: &str, value: Value| folder.write(name, value.to_string().as_bytes());
    vec![
        ("json", write("foreign.json", loose.into())),
        ("dlstreamer", write("foreign/gallery.json", index.into())),
        ("hailo", write("hailo.json", hailo.into())),
    ]
}

#[test]
fn embeddings_of_an_unknown_network_are_taken_only_when_they_are_trusted() {
    let folder = Folder::new();
    let gallery = folder.gallery();
    for (format, input) in foreign(&folder, &gallery) {
        let output = folder.path(&format!("{format}.npz"));
        import(format, &input, &output, &[])
            .fails(1, &["does not say which network", "--trust-embeddings"]);
        assert!(!output.exists());
        let ran = import(format, &input, &output, &["--trust-embeddings"]);
        assert!(
            !ran.stderr.contains("look like those of another network"),
            "{}",
            ran.stderr
        );
        ran.succeeds();
        let imported = read(&output);
        assert_eq!(imported.names(), read(&gallery).names());
        assert_eq!(imported.labels().len(), 4);
        assert!(imported.contract().is_some());
        // Into a gallery with other options of enrolment, which are kept.
        let few = folder.path(&format!("{format}-few.npz"));
        let photo = text(&folder.photo("astronaut.png", "a.png"));
        let args = [
            "add",
            "--mask-copies",
            "1",
            "--name",
            "Zoe",
            &photo,
            "--database",
            &text(&few),
        ];
        run(&args).succeeds();
        import(format, &input, &few, &["--trust-embeddings"]).succeeds();
        assert_eq!(read(&few).names().len(), 4);
        assert_eq!(read(&few).contract().unwrap().enrolment().mask_copies, 1);
    }
    // Four photos that have nothing to do with each other under one name.
    let axis = |i: usize| {
        (0..512)
            .map(|at| f32::from(u8::from(at == i)))
            .collect::<Vec<_>>()
    };
    let odd = json!({"Ana": [axis(0), axis(1)], "Bo": [axis(2), axis(3)]}).to_string();
    let odd = folder.write("odd.json", odd.as_bytes());
    let ran = import(
        "json",
        &odd,
        &folder.path("odd.npz"),
        &["--trust-embeddings"],
    );
    assert!(
        ran.stderr.contains("look like those of another network"),
        "{}",
        ran.stderr
    );
    ran.succeeds();
    let short = folder.write(
        "short.json",
        json!({"Ana": [[0.6, 0.8]]}).to_string().as_bytes(),
    );
    import(
        "json",
        &short,
        &folder.path("short.npz"),
        &["--trust-embeddings"],
    )
    .fails(1, &["have 2 numbers, this network's have 512"]);
}

#[test]
fn a_contract_of_another_network_is_refused_and_people_are_added_to_a_gallery() {
    let folder = Folder::new();
    let gallery = folder.gallery();
    let exported = folder.path("out.json");
    export(&gallery, "json", &exported).succeeds();
    let mut other = parsed(&exported);
    other["contract"]["model_sha256"] = "ab".repeat(32).into();
    let other = folder.write("other.json", other.to_string().as_bytes());
    import(
        "json",
        &other,
        &folder.path("other.npz"),
        &["--trust-embeddings"],
    )
    .fails(1, &["made with the network of sha256 \"abab", "--model"]);
    // The same people again: their photos get names of their own.
    let both = folder.path("both.npz");
    fs::copy(&gallery, &both).unwrap();
    import("json", &exported, &both, &[]).succeeds();
    let sources = sources(&both);
    assert_eq!(sources.len(), 40);
    assert!(
        sources
            .iter()
            .any(|s| s.starts_with("Joe Biden/1.jpg~2#mask:"))
    );
    // Galleries that were made in different ways do not mix.
    let mut few = parsed(&exported);
    few["contract"]["enrolment"]["mask_copies"] = 1.into();
    let few = folder.write("few.json", few.to_string().as_bytes());
    let before = fs::read(&both).unwrap();
    import("json", &few, &both, &[]).fails(1, &["cannot be in one gallery: mask-copies"]);
    assert!(fs::read(&both).unwrap() == before);
}

#[test]
fn nothing_outside_of_the_folder_is_read() {
    let folder = Folder::new();
    let secret = folder.write("secret.tensor", &[0; 2048]);
    folder.write("in/here.tensor", &[0; 2048]);
    std::os::unix::fs::symlink(&secret, folder.path("in/link.tensor")).unwrap();
    std::os::unix::fs::symlink(folder.0.path(), folder.path("in/up")).unwrap();
    let output = folder.path("o.npz");
    let paths = [
        ("../secret.tensor", "is not in the folder of the gallery"),
        (
            "here/../../secret.tensor",
            "is not in the folder of the gallery",
        ),
        (&text(&secret), "is not in the folder of the gallery"),
        ("link.tensor", "is a symbolic link that leaves the folder"),
        (
            "up/secret.tensor",
            "is a symbolic link that leaves the folder",
        ),
        ("absent.tensor", "absent.tensor"),
        ("", "is not in the folder"),
    ];
    for (path, said) in paths {
        let index = json!({"Ana": {"features": [path]}}).to_string();
        folder.write("in/gallery.json", index.as_bytes());
        import(
            "dlstreamer",
            &folder.path("in"),
            &output,
            &["--trust-embeddings"],
        )
        .fails(1, &[said]);
    }
    // Zeros are no embedding.
    folder.write(
        "in/gallery.json",
        br#"[{"name": "Ana", "features": ["here.tensor"]}]"#,
    );
    import(
        "dlstreamer",
        &folder.path("in"),
        &output,
        &["--trust-embeddings"],
    )
    .fails(1, &["zero or not finite"]);
    folder.photo("obama.jpg", "Ana.jpg");
    fs::create_dir(folder.path("photos")).unwrap();
    std::os::unix::fs::symlink(folder.path("Ana.jpg"), folder.path("photos/Ana.jpg")).unwrap();
    import("face_recognition", &folder.path("photos"), &output, &[])
        .fails(1, &["is a symbolic link that leaves"]);
    assert!(!output.exists());
}

#[test]
fn damaged_files_give_errors_that_name_them() {
    let folder = Folder::new();
    let cases: [(&str, &[u8], &str); 9] = [
        ("json", b"", "expected a JSON object"),
        ("json", b"{\"people\": 3}", "expected"),
        ("json", b"{\"Ana\": \"x\"}", "expected {\"people\""),
        ("json", b"{}", "it holds nobody"),
        ("json", b"{\"Ana\": [[0.6, 0.8], [1]]}", "has 1 numbers, others have 2"),
        ("hailo", b"[{}]", "expected [{\"FaceRecognition\""),
        (
            "hailo",
            br#"[{"FaceRecognition":{"Name":"A","Embeddings":[{"HailoMatrix":{"width":1,"height":9,"features":2,"data":[1]}}]}}]"#,
            "is 1×9×2 and has 1 numbers",
        ),
        ("npz", b"PK", "no zip archive"),
        ("dlstreamer", b"[1]", "expected {\"name\""),
    ];
    for (format, bytes, said) in cases {
        let input = folder.write(&format!("in.{format}"), bytes);
        let output = folder.path("o.npz");
        import(format, &input, &output, &["--trust-embeddings"])
            .fails(1, &[&format!("in.{format}"), said]);
        assert!(!output.exists());
    }
    let unknown = folder.write(
        "u.json",
        json!({"unknown": [vec![1.0; 512]]}).to_string().as_bytes(),
    );
    import(
        "json",
        &unknown,
        &folder.path("o.npz"),
        &["--trust-embeddings"],
    )
    .fails(1, &["nobody can be called"]);
    import(
        "dlstreamer",
        &folder.path("nowhere"),
        &folder.path("o.npz"),
        &[],
    )
    .fails(1, &["nowhere"]);
    run(&["import", "--format", "odd", "--input", "a", "--output", "b"])
        .fails(2, &["face_recognition"]);
}

#[test]
fn photos_of_other_programs_are_embedded() {
    let folder = Folder::new();
    let names = |gallery: &Path| read(gallery).names().to_vec();
    folder.photo("obama.jpg", "flat/Barack Obama.jpg");
    folder.photo("biden.jpg", "flat/Joe Biden.jpg");
    folder.write("flat/notes.txt", b"");
    let flat = folder.path("flat.npz");
    let ran = import("face_recognition", &folder.path("flat"), &flat, &[]);
    assert!(
        ran.stderr.contains("flat.npz is not there, and is made"),
        "{}",
        ran.stderr
    );
    ran.succeeds();
    assert_eq!(names(&flat), ["Barack Obama", "Joe Biden"]);

    let webp = |photo: &str| {
        let photo = image::open(crate::common::demo_photos().join(photo)).unwrap();
        encoded(photo.to_rgb8(), ImageFormat::WebP)
    };
    folder.write("clips/faces/Barack Obama/a-1.webp", &webp("obama.jpg"));
    folder.write(
        "clips/faces/Eileen Collins/b-1.webp",
        &webp("astronaut.png"),
    );
    folder.write("clips/faces/train/c-1.webp", &webp("biden.jpg"));
    let frigate = folder.path("frigate.npz");
    let ran = import("frigate", &folder.path("clips"), &frigate, &[]);
    assert!(
        ran.stderr.contains("faces that nobody has named; left out"),
        "{}",
        ran.stderr
    );
    ran.succeeds();
    assert_eq!(names(&frigate), ["Barack Obama", "Eileen Collins"]);

    folder.photo("obama2.jpg", "compreface/images/id-1.jpg");
    folder.photo("biden.jpg", "compreface/images/id-2.jpg");
    let list = json!({"faces": [
        {"image_id": "id-1", "subject": "Barack Obama"},
        {"image_id": "id-2", "subject": "Joe Biden"},
        {"image_id": "id-3", "subject": "Nobody"},
    ]});
    folder.write("compreface/faces.json", list.to_string().as_bytes());
    // Into the gallery of the first import.
    let ran = import("compreface", &folder.path("compreface"), &flat, &[]);
    assert!(
        ran.stderr.contains("there is no photo \"id-3\""),
        "{}",
        ran.stderr
    );
    assert!(!ran.stderr.contains("is made"), "{}", ran.stderr);
    ran.succeeds();
    assert_eq!(names(&flat), ["Barack Obama", "Joe Biden"]);
    assert!(sources(&flat).contains(&"images/id-1.jpg".to_owned()));
    // The photo of Joe Biden was enrolled already.
    assert!(!sources(&flat).contains(&"images/id-2.jpg".to_owned()));
}

#[test]
fn an_export_does_not_fill_a_folder_that_has_something_in_it() {
    let folder = Folder::new();
    let gallery = folder.gallery();
    folder.write("out/mine.txt", b"mine");
    export(&gallery, "dlstreamer", &folder.path("out")).fails(1, &["is not empty"]);
    assert_eq!(fs::read_dir(folder.path("out")).unwrap().count(), 1);
}
