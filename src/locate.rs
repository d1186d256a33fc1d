//! Finds the files the project brings along (the FaceNet model, ONNX Runtime) with no variable set.
//!
//! One rule serves an installed plugin, a program in `target/` and a copied folder alike: starting
//! at the folder of the plugin or program and going up, each folder itself and its `gst-plugin-mfr`,
//! `lib/gst-plugin-mfr` and `share/gst-plugin-mfr` are looked into, then the source tree that the
//! library was built from.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Name of the folder that an installation puts the project's files into.
const DATA_FOLDER: &str = "gst-plugin-mfr";

/// Folders of the source tree that hold such files: committed models, what `make` fetched.
const SOURCE_FOLDERS: [&str; 2] = ["models", "target/onnxruntime"];

/// `~/.local/share/gstreamer-1.0/plugins` lies four below the folder that holds `lib` and `share`.
const LEVELS_UP: usize = 5;

static START_FOLDERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Adds a folder to start from; the plugin says where its own file lies.
pub fn add_start_folder(folder: &Path) {
    let mut folders = START_FOLDERS.lock().unwrap_or_else(|e| e.into_inner());
    if !folders.iter().any(|f| f == folder) {
        folders.push(folder.to_owned());
    }
}

/// Every folder that may hold a file of the project, best first.
pub fn folders() -> Vec<PathBuf> {
    let mut starts = START_FOLDERS
        .lock()
        .unwrap_or_else(|e| e.into_inner())
        .clone();
    if let Ok(exe) = std::env::current_exe().and_then(|p| p.canonicalize())
        && let Some(folder) = exe.parent()
    {
        starts.push(folder.to_owned());
    }
    folders_from(&starts, Path::new(env!("CARGO_MANIFEST_DIR")))
}

fn folders_from(starts: &[PathBuf], source_tree: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut add = |folder: PathBuf| {
        if !found.contains(&folder) {
            found.push(folder);
        }
    };
    for start in starts {
        add(start.clone());
        for folder in start.ancestors().take(LEVELS_UP) {
            for below in ["", "lib", "share"] {
                add(folder.join(below).join(DATA_FOLDER));
            }
            // A program or plugin inside a source tree, wherever that tree has been moved.
            for below in SOURCE_FOLDERS {
                add(folder.join(below));
            }
        }
    }
    for below in SOURCE_FOLDERS {
        add(source_tree.join(below));
    }
    found
}

/// The first file of this name in [`folders`].
pub fn find(name: &str) -> Option<PathBuf> {
    folders()
        .into_iter()
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installed_plugin_finds_its_data_folder() {
        for (plugin, data) in [
            (
                "/usr/lib/x86_64-linux-gnu/gstreamer-1.0",
                "/usr/lib/x86_64-linux-gnu/gst-plugin-mfr",
            ),
            (
                "/usr/lib/x86_64-linux-gnu/gstreamer-1.0",
                "/usr/share/gst-plugin-mfr",
            ),
            (
                "/home/ana/.local/share/gstreamer-1.0/plugins",
                "/home/ana/.local/share/gst-plugin-mfr",
            ),
            ("/opt/mfr/bin", "/opt/mfr/lib/gst-plugin-mfr"),
        ] {
            let folders = folders_from(&[plugin.into()], Path::new("/src"));
            assert!(
                folders.contains(&PathBuf::from(data)),
                "{plugin} {folders:?}"
            );
        }
    }

    #[test]
    fn a_program_in_the_target_folder_finds_the_models_of_its_tree() {
        let folders = folders_from(&["/tree/target/release".into()], Path::new("/elsewhere"));
        assert!(folders.contains(&"/tree/models".into()));
        assert!(folders.contains(&"/tree/target/onnxruntime".into()));
        // The tree it was built from comes last.
        assert_eq!(
            folders.last(),
            Some(&"/elsewhere/target/onnxruntime".into())
        );
    }
}
