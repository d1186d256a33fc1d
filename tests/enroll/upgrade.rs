//! Galleries and the networks that they were made with.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use gstmfr::gallery::Gallery;

use crate::common::{self, demo_photos, models};
use crate::helpers::{Folder, Ran, ran, run, text};

/// A prefix with the program and the network, as `make install` makes it.
struct Installed(PathBuf);

impl Installed {
    fn new(folder: &Folder) -> Self {
        let prefix = Self(folder.path("prefix"));
        fs::create_dir_all(prefix.0.join("bin")).unwrap();
        fs::create_dir_all(prefix.data()).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_mfr-enroll"), prefix.program()).unwrap();
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(prefix.program(), executable).unwrap();
        prefix
    }

    fn program(&self) -> PathBuf {
        self.0.join("bin/mfr-enroll")
    }

    fn data(&self) -> PathBuf {
        self.0.join("share/gst-plugin-mfr")
    }

    /// Installs a network as `make install` does.
    fn install(&self, model: &Path) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/install-model.sh");
        let mut install = Command::new(script);
        assert!(
            install
                .arg(model)
                .arg(self.data())
                .status()
                .unwrap()
                .success()
        );
    }

    fn run(&self, args: &[&str]) -> Ran {
        let mut command = assert_cmd::Command::new(self.program());
        ran(command.args(args))
    }
}

/// A network that computes the same as the present one, in another file.
fn another_network(folder: &Folder) -> PathBuf {
    let mut facenet = fs::read(models().join("facenet.onnx")).unwrap();
    facenet.extend(common::unknown_field());
    folder.write("another.onnx", &facenet)
}

#[test]
fn a_gallery_of_the_former_network_goes_on_naming_people_and_can_be_upgraded() {
    let folder = Folder::new();
    let dataset = text(&folder.dataset());
    let [gallery, faces, new] =
        ["g.npz", "faces.npz", "new.npz"].map(|name| text(&folder.path(name)));
    let photo = text(&demo_photos().join("obama3.jpg"));
    let prefix = Installed::new(&folder);
    prefix.install(&another_network(&folder));
    let args = [
        "--dataset",
        &dataset,
        "--output",
        &gallery,
        "--mask-copies",
        "1",
    ];
    let kept = ["--faces-output", &faces];
    prefix.run(&[&args[..], &kept].concat()).succeeds();
    let identify = ["identify", "--database", &gallery, &photo];
    let before = prefix.run(&identify).succeeds();
    assert!(before.contains("Barack Obama (similarity"), "{before}");

    prefix.install(&models().join("facenet.onnx"));
    // Another time nothing changes.
    prefix.install(&models().join("facenet.onnx"));
    let files = fs::read_dir(prefix.data()).unwrap();
    assert_eq!(files.count(), 2);
    let after = prefix.run(&identify);
    assert!(
        after.stderr.contains("the network of the gallery is used"),
        "{}",
        after.stderr
    );
    assert_eq!(after.succeeds(), before);
    let biden = text(&demo_photos().join("biden.jpg"));
    let add = ["add", "--database", &gallery, "--name", "Joe", &biden];
    prefix.run(&add).fails(1, &["duplicate"]);
    // New galleries are of the new network.
    let args = [
        "--dataset",
        &dataset,
        "--output",
        &new,
        "--mask-copies",
        "1",
    ];
    prefix.run(&args).succeeds();

    let upgrade = ["upgrade", "--database", &gallery];
    let says = ["--faces", "with which it works on"];
    prefix.run(&upgrade).fails(1, &says);
    let said = prefix.run(&[&upgrade[..], &["--faces", &faces]].concat());
    let said = said.succeeds();
    assert!(said.contains("8 crops embedded anew"), "{said}");
    let [upgraded, new] = [&gallery, &new].map(|path| Gallery::load(Path::new(path)).unwrap());
    assert_eq!(upgraded.embeddings(), new.embeddings());
    assert_eq!(upgraded.thresholds(), new.thresholds());
    assert_eq!(upgraded.sources(), new.sources());
    let sha256 = |gallery: &Gallery| gallery.contract().unwrap().model_sha256.clone();
    assert_eq!(sha256(&upgraded), sha256(&new));
    let said = prefix.run(&upgrade).succeeds();
    assert!(said.contains("of this network already"), "{said}");
}

#[test]
fn upgrade_takes_nobody_back_in_and_leaves_nobody_out() {
    let folder = Folder::new();
    let dataset = text(&folder.dataset());
    let [gallery, faces] = ["g.npz", "faces.npz"].map(|name| text(&folder.path(name)));
    let model = text(&another_network(&folder));
    let args = [
        "--dataset",
        &dataset,
        "--output",
        &gallery,
        "--masks",
        "none",
    ];
    run(&[&args[..], &["--faces-output", &faces, "--model", &model]].concat()).succeeds();
    let upgrade = ["upgrade", "--database", &gallery, "--faces", &faces];
    run(&["remove", "--database", &gallery, "--yes", "Joe Biden"]).succeeds();
    let smaller = fs::read(&gallery).unwrap();
    let obama3 = text(&demo_photos().join("obama3.jpg"));
    let add = [
        "add",
        "--database",
        &gallery,
        "--name",
        "Barack Obama",
        &obama3,
    ];
    run(&[&add[..], &["--model", &model]].concat()).succeeds();
    let before = fs::read(&gallery).unwrap();
    let says = ["1 of 4 embeddings have no crop", "Barack Obama/obama3.jpg"];
    run(&upgrade).fails(1, &says);
    // A gallery holds no crops, and photos are none either.
    let wrong = ["upgrade", "--database", &gallery, "--faces", &gallery];
    run(&wrong).fails(1, &[&gallery, "arr_0 and sources"]);
    assert_eq!(fs::read(&gallery).unwrap(), before);
    fs::write(&gallery, smaller).unwrap();
    run(&upgrade).succeeds();
    let list = run(&["list", "--database", &gallery]).succeeds();
    assert!(list.contains("2 people, 3 photos"), "{list}");
}
