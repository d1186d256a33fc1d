//! Networks and engines that commands refuse, and ONNX Runtime.

use std::fs;
use std::path::Path;

use crate::common::{self, demo_photos, flatten_network, models};
use crate::helpers::{Folder, command, ran, run, text};
use assert_cmd::Command;

#[test]
fn models_that_are_missing_or_something_else_are_named() {
    let folder = Folder::new();
    let photo = text(&folder.photo("obama.jpg", "a.jpg"));
    let output = text(&folder.path("o.npz"));
    let embed = |model: &Path| {
        let args = [
            "embed",
            "--model",
            &text(model),
            "--output",
            &output,
            &photo,
        ];
        run(&args)
    };
    embed(&folder.path("gone.onnx")).fails(1, &["gone.onnx", "No such file"]);
    let facenet = fs::read(models().join("facenet.onnx")).unwrap();
    let cut = folder.write("cut.onnx", &facenet[..facenet.len() / 2]);
    embed(&cut).fails(1, &["cut.onnx is not a network that can be loaded"]);
    embed(&folder.write("text.onnx", b"Dear Ana")).fails(1, &["text.onnx is not a network"]);
    let says = ["rnet.onnx is not FaceNet", "[-1, 24, 24, 3]"];
    embed(&models().join("rnet.onnx")).fails(1, &says);
    // One has channels first, the other a batch size fixed to one.
    for shape in [[-1, 3, 160, 160], [1, 160, 160, 3]] {
        let wrong = folder.write("wrong.onnx", &flatten_network(&shape));
        let found = format!("{shape:?}");
        let says = ["wrong.onnx is not FaceNet", "it has the inputs", &found];
        embed(&wrong).fails(1, &says);
    }
    assert!(!folder.path("o.npz").exists());

    let args = ["identify", "--model-path", &text(folder.0.path()), &photo];
    run(&args).fails(1, &["pnet.onnx", "No such file"]);
    let pnet = text(&folder.photo("obama.jpg", "pnet.onnx"));
    run(&args).fails(1, &[&pnet, "is not a network"]);
    run(&["identify", "--device", "cuda:0", &photo]).fails(1, &["cuda:0"]);
}

#[test]
fn without_onnx_runtime_the_message_says_what_to_do() {
    let photo = text(&demo_photos().join("obama.jpg"));
    let folder = Folder::new();
    let output = text(&folder.path("o.npz"));
    // Only ONNX Runtime can run this network.
    let model = text(&folder.write("flat.onnx", &flatten_network(&[-1, 160, 160, 3])));
    let embed = || command(&["embed", "--output", &output, "--model", &model, &photo]);
    let gone = ran(embed().env("ORT_DYLIB_PATH", "/gone/libonnxruntime.so"));
    gone.fails(
        1,
        &["ORT_DYLIB_PATH names /gone/libonnxruntime.so", "unset it"],
    );
    let text_file = folder.write("libonnxruntime.so", b"Dear Ana");
    let says = ["libonnxruntime.so cannot be used as ONNX Runtime 1.17 or newer"];
    ran(embed().env("ORT_DYLIB_PATH", text_file)).fails(1, &says);

    // ONNX Runtime is not required either where it would be of no use.
    let cut = text(&folder.write("cut.onnx", b"Dear Ana"));
    let mut embed = command(&["embed", "--output", &output, "--model", &cut, &photo]);
    let ran = ran(embed.env("ORT_DYLIB_PATH", "/gone/libonnxruntime.so"));
    ran.fails(1, &["cut.onnx is not a network", "no whole ONNX file"]);
}

#[test]
fn an_instruction_set_or_engine_that_is_not_known_is_named() {
    let photo = text(&demo_photos().join("obama.jpg"));
    let identify =
        |variable: &str, value: &str| ran(command(&["identify", &photo]).env(variable, value));
    identify("MFR_CPU", "mmx").fails(1, &["MFR_CPU is \"mmx\"; expected one of scalar, "]);
    let says = ["MFR_ENGINE is \"tpu\"; expected own or onnxruntime"];
    identify("MFR_ENGINE", "tpu").fails(1, &says);
    identify("MFR_CPU", "scalar").succeeds();
}

#[test]
fn an_engine_that_is_asked_for_and_cannot_run_a_network_is_an_error() {
    let folder = Folder::new();
    let photo = text(&demo_photos().join("obama.jpg"));
    let output = text(&folder.path("o.npz"));
    let model = text(&folder.write("flat.onnx", &flatten_network(&[-1, 160, 160, 3])));
    let embed = || command(&["embed", "--output", &output, "--model", &model, &photo]);
    let says = [
        "MFR_ENGINE is \"own\"",
        "flat.onnx",
        "Flatten",
        "channels come last",
    ];
    ran(embed().env("MFR_ENGINE", "own")).fails(1, &says);
    let mut forced = command(&["identify", &photo]);
    forced.env("ORT_DYLIB_PATH", "/gone/libonnxruntime.so");
    let says = ["ORT_DYLIB_PATH names /gone/libonnxruntime.so"];
    ran(forced.env("MFR_ENGINE", "onnxruntime")).fails(1, &says);
}

#[test]
fn a_library_planted_in_a_folder_above_the_program_is_not_loaded() {
    // The folder is in the target folder, because a hard link cannot refer to another file system. A symbolic link
    // would be followed, and a copy might still be open for writing in a child process of another test.
    let folder = Folder(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap());
    for planted in ["tools", "target/onnxruntime", "lib/gst-plugin-mfr"] {
        folder.write(&format!("{planted}/libonnxruntime.so.99"), b"Dear Ana");
    }
    let program = folder.path("tools/mfr-enroll");
    fs::hard_link(env!("CARGO_BIN_EXE_mfr-enroll"), &program).unwrap();

    let photo = text(&demo_photos().join("obama.jpg"));
    let output = text(&folder.path("o.npz"));
    // Only ONNX Runtime can run this network. The source tree's library is loaded, if there is one.
    let model = text(&folder.write("flat.onnx", &flatten_network(&[-1, 160, 160, 3])));
    let mut embed = Command::new(&program);
    embed.args(["embed", "--output", &output, "--model", &model, &photo]);
    let ran = ran(embed.env_remove("ORT_DYLIB_PATH"));
    assert!(
        !ran.stderr.contains("libonnxruntime.so.99"),
        "{}",
        ran.stderr
    );
    assert!(
        ran.status == 0 || ran.stderr.contains("was not found"),
        "{}",
        ran.stderr
    );
}

#[test]
fn an_onnx_runtime_that_is_too_old_is_refused_with_its_version() {
    let folder = Folder::new();
    let source = folder.write("old.c", OLD_RUNTIME.as_bytes());
    let library = folder.path("libonnxruntime.so.1.10.0");
    let compiler = std::process::Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .status();
    if !compiler.is_ok_and(|status| status.success()) {
        common::skip("no C compiler `cc` to make an old ONNX Runtime with");
        return;
    }
    let photo = text(&demo_photos().join("obama.jpg"));
    let output = text(&folder.path("o.npz"));
    let model = text(&folder.write("flat.onnx", &flatten_network(&[-1, 160, 160, 3])));
    let mut embed = command(&["embed", "--output", &output, "--model", &model, &photo]);
    let ran = ran(embed.env("ORT_DYLIB_PATH", &library));
    ran.fails(1, &["1.10.0", "1.17 or newer"]);
}

/// A library that answers like ONNX Runtime 1.10 if a later API is requested.
const OLD_RUNTIME: &str = r#"
    struct base { const void *(*api)(unsigned); const char *(*version)(void); };
    static const void *api(unsigned version) { return 0; }
    static const char *version(void) { return "1.10.0"; }
    static const struct base base = { api, version };
    const struct base *OrtGetApiBase(void) { return &base; }
"#;
