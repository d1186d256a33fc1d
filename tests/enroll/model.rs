//! `model`: the role of networks and the engine that runs them.

use crate::common::{flatten_network, models};
use crate::helpers::{Folder, command, ran, run, text};
use serde_json::Value;

#[test]
fn the_networks_are_told_with_what_runs_them() {
    let folder = Folder::new();
    let files = ["pnet", "rnet", "onet", "facenet", "mask"]
        .map(|name| text(&models().join(format!("{name}.onnx"))));
    let flat = text(&folder.write("flat.onnx", &flatten_network(&[-1, 160, 160, 3])));
    let mut args = vec!["model", "--json"];
    args.extend(files.iter().map(String::as_str));
    let told = run(&args).succeeds();
    let told: Vec<Value> = told
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let roles: Vec<_> = told.iter().map(|line| &line["role"]).collect();
    assert_eq!(
        roles,
        ["P-Net", "R-Net", "O-Net", "FaceNet", "mask network"]
    );
    for line in &told {
        assert_eq!(line["refusals"], Value::Array(Vec::new()), "{line}");
        assert!(
            line["engine"].is_string() && line["sha256"].is_string(),
            "{line}"
        );
    }

    // A network that the built-in kernels do not support, without ONNX Runtime; a text file; a missing file.
    let text_file = text(&folder.write("text.onnx", b"Dear Ana"));
    let gone = text(&folder.path("gone.onnx"));
    let mut model = command(&["model", "--json", &flat, &text_file, &gone]);
    let told = ran(model.env("ORT_DYLIB_PATH", "/gone/libonnxruntime.so"));
    assert_eq!((told.status, &*told.stderr), (1, ""));
    let told: Vec<Value> = told
        .stdout
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(told.len(), 3);
    assert!(told.iter().all(|line| line["engine"].is_null()));
    assert_eq!(told[0]["role"], "FaceNet");
    assert_eq!(told[0]["refusals"][0]["op"], "Flatten");
    let reasons: Vec<_> = told
        .iter()
        .map(|line| line["reason"].as_str().unwrap())
        .collect();
    assert!(reasons[1].contains("no whole ONNX file"), "{reasons:?}");
    assert!(reasons[2].contains("No such file"), "{reasons:?}");

    // In text each of the last two is an error, and nothing else is said of them.
    let out = run(&["model", &text_file, &gone]).fails(
        1,
        &[
            "mfr-enroll: model ",
            "text.onnx is not a network",
            "gone.onnx: No such file",
        ],
    );
    assert_eq!(out, "");
}
