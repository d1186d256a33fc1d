//! Files that every command refuses as galleries.

use std::fs;

use crate::common::{self, demo_photos, flatten_network, models};
use crate::helpers::{Folder, run, text};

#[test]
fn a_gallery_that_is_none_is_named_by_every_command_that_reads_one() {
    let folder = Folder::new();
    let photo = text(&demo_photos().join("obama.jpg"));
    let whole = fs::read(folder.gallery()).unwrap();
    let noise: Vec<u8> = (0u32..4096)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    folder.write("empty.npz", b"");
    folder.write("cut.npz", &whole[..whole.len() / 2]);
    folder.write("noise.npz", &noise);
    folder.write("photo.npz", &fs::read(&photo).unwrap());
    let probes = text(&folder.path("people"));
    for name in ["gone.npz", "empty.npz", "cut.npz", "noise.npz", "photo.npz"] {
        let database = text(&folder.path(name));
        let says = [database.as_str()];
        let out = run(&["identify", "--database", &database, &photo]).fails(1, &says);
        assert_eq!(out, "", "{name}");
        run(&["list", "--database", &database]).fails(1, &says);
        run(&["check", "--database", &database]).fails(1, &says);
        run(&["evaluate", "--database", &database, "--probes", &probes]).fails(1, &says);
    }
}

#[test]
fn a_gallery_of_another_model_is_refused() {
    let folder = Folder::new();
    let photo = text(&demo_photos().join("obama.jpg"));
    let dataset = text(&folder.dataset());
    // The same network in another file, and a network whose embedding is the image itself.
    let mut facenet = fs::read(models().join("facenet.onnx")).unwrap();
    facenet.extend(common::unknown_field());
    let others = [
        folder.write("retrained.onnx", &facenet),
        folder.write("flat.onnx", &flatten_network(&[-1, 160, 160, 3])),
    ];
    for model in others {
        let database = text(&model.with_extension("npz"));
        let model = text(&model);
        run(&[
            "--dataset",
            &dataset,
            "--output",
            &database,
            "--model",
            &model,
        ])
        .succeeds();
        run(&[
            "identify",
            "--database",
            &database,
            "--model",
            &model,
            &photo,
        ])
        .succeeds();
        run(&["identify", "--database", &database, &photo]).fails(1, &[&database, "model"]);
    }
}
