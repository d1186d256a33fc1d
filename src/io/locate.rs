//! Finds the files of the project (the FaceNet model, ONNX Runtime) without environment variables.
//!
//! Models are data, so one lenient rule covers an installed plugin, a program in `target/` and a
//! copied folder: from the folder of the plugin or program upwards, each folder
//! itself and its `gst-plugin-mfr`, `lib/gst-plugin-mfr` and `share/gst-plugin-mfr` are searched,
//! then the source tree that the library was built from.
//!
//! A shared library is executed, so its rule is strict: only the `lib/gst-plugin-mfr` of a prefix
//! that the plugin or program is installed in. A user with write access there can replace the plugin or
//! program as well; that is not true of the folders above it.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Name of the folder that an installation puts the project's files into.
const DATA_FOLDER: &str = "gst-plugin-mfr";

/// Folder of the source tree that holds the committed models.
const SOURCE_MODELS: &str = "models";

/// Folder of the source tree that `make onnxruntime` fetches the library into.
const SOURCE_LIBRARY: &str = "target/onnxruntime";

/// Name of the folder that GStreamer loads plugins of a prefix from.
const PLUGIN_FOLDER: &str = "gstreamer-1.0";

/// `~/.local/share/gstreamer-1.0/plugins` is four levels below the folder that contains `lib` and `share`.
const LEVELS_UP: usize = 5;

static START_FOLDERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Adds a folder to start from; the plugin passes the folder of its own file.
pub fn add_start_folder(folder: &Path) {
    // The working directory may have changed by the time a file is searched for.
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let mut folders = START_FOLDERS.lock().unwrap_or_else(|e| e.into_inner());
    if !folders.contains(&folder) {
        folders.push(folder);
    }
}

/// Folder of the plugin, if there is one, and of the program.
fn start_folders() -> Vec<PathBuf> {
    let mut starts = START_FOLDERS
        .lock()
        .unwrap_or_else(|e| e.into_inner())
        .clone();
    if let Ok(exe) = std::env::current_exe().and_then(|p| p.canonicalize())
        && let Some(folder) = exe.parent()
    {
        starts.push(folder.to_owned());
    }
    starts
}

/// All folders that may contain a model, best first.
fn model_folders(starts: &[PathBuf], source_tree: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for start in starts {
        add(&mut found, start.clone());
        for folder in start.ancestors().take(LEVELS_UP) {
            for below in ["", "lib", "share"] {
                add(&mut found, folder.join(below).join(DATA_FOLDER));
            }
            // A program or plugin may be inside a source tree, which may have been moved.
            add(&mut found, folder.join(SOURCE_MODELS));
        }
    }
    add(&mut found, source_tree.join(SOURCE_MODELS));
    found
}

/// The first model file with this name near the plugin or program, in the installation or in the
/// source tree.
pub fn find(name: &str) -> Option<PathBuf> {
    model_folders(&start_folders(), Path::new(env!("CARGO_MANIFEST_DIR")))
        .into_iter()
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

/// All files near the plugin or program, in the installation or in the source tree, that are called `stem.extension` or
/// `stem-VERSION.extension`: those of the first folder first, in each the plain name, then the others in the order of their names.
pub fn find_versions(stem: &str, extension: &str) -> Vec<PathBuf> {
    let folders = model_folders(&start_folders(), Path::new(env!("CARGO_MANIFEST_DIR")));
    let folders = folders.iter();
    folders
        .flat_map(|folder| versions_in(folder, stem, extension))
        .collect()
}

fn versions_in(folder: &Path, stem: &str, extension: &str) -> Vec<PathBuf> {
    let is_version = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        let version = name.and_then(|name| {
            name.strip_prefix(stem)?
                .strip_suffix(extension)?
                .strip_suffix('.')
        });
        version.is_some_and(|v| v.is_empty() || v.starts_with('-')) && path.is_file()
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(is_version)
        .collect();
    let plain = folder.join(format!("{stem}.{extension}"));
    found.sort_by_key(|path| (*path != plain, path.clone()));
    found
}

/// All folders of the project that ONNX Runtime may be loaded from, best first, without those of the
/// system.
pub fn library_folders() -> Vec<PathBuf> {
    // Tests run without environment variables. A release build never loads from a source tree, because the path
    // compiled in may belong to another user on the computer it is copied to.
    let is_for_tests = cfg!(any(test, debug_assertions));
    let source_tree = is_for_tests.then_some(Path::new(env!("CARGO_MANIFEST_DIR")));
    library_folders_from(&start_folders(), source_tree)
}

/// [`library_folders`] for these start folders. `source_tree` is searched first, because a debug build is
/// tested with the library that `make onnxruntime` has fetched, not with an installed one.
pub(crate) fn library_folders_from(starts: &[PathBuf], source_tree: Option<&Path>) -> Vec<PathBuf> {
    let mut found = Vec::new();
    if let Some(tree) = source_tree {
        add(&mut found, tree.join(SOURCE_LIBRARY));
    }
    for folder in starts.iter().flat_map(|start| prefix_folders(start)) {
        add(&mut found, folder.join(DATA_FOLDER));
    }
    found
}

/// The library folders of the prefix that a plugin or program is installed in; none if `start`, the
/// folder of its file, does not belong to an installation.
fn prefix_folders(start: &Path) -> Vec<PathBuf> {
    let above = |levels: usize| start.ancestors().nth(levels).map(Path::to_owned);
    let lib = |levels: usize| above(levels).map(|prefix| prefix.join("lib"));
    let folders = if !start.is_absolute() {
        [None, None]
    } else if start.ends_with("bin") {
        [lib(1), None]
    } else if start.ends_with("share/gstreamer-1.0/plugins") {
        // This is a user's own plugin folder, whose prefix is ~/.local.
        [lib(3), None]
    } else if !start.ends_with(PLUGIN_FOLDER) {
        [None, None]
    } else {
        match above(1) {
            Some(folder) if folder.ends_with("lib") || folder.ends_with("lib64") => {
                [Some(folder), lib(2)]
            }
            Some(folder) if is_multiarch(&folder) => [Some(folder), lib(3)],
            _ => [None, None],
        }
    };
    folders.into_iter().flatten().collect()
}

/// Whether this is Debian's folder for libraries of one architecture, for instance
/// `lib/x86_64-linux-gnu`.
fn is_multiarch(folder: &Path) -> bool {
    let name = folder.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.contains("-linux-"))
        && folder
            .parent()
            .is_some_and(|parent| parent.ends_with("lib"))
}

fn add(found: &mut Vec<PathBuf>, folder: PathBuf) {
    if !found.contains(&folder) {
        found.push(folder);
    }
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
            let folders = model_folders(&[plugin.into()], Path::new("/src"));
            assert!(
                folders.contains(&PathBuf::from(data)),
                "{plugin} {folders:?}"
            );
        }
    }

    #[test]
    fn versions_of_a_file_stand_beside_it_under_names_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "net-b.onnx",
            "net.onnx",
            "net-a.onnx",
            "network.onnx",
            "net-a.json",
            "net",
        ] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        std::fs::create_dir(folder.path().join("net-folder.onnx")).unwrap();
        let found = versions_in(folder.path(), "net", "onnx");
        let names = ["net.onnx", "net-a.onnx", "net-b.onnx"];
        assert_eq!(found, names.map(|name| folder.path().join(name)));
        assert!(versions_in(&folder.path().join("none"), "net", "onnx").is_empty());
    }

    #[test]
    fn a_program_in_the_target_folder_finds_the_models_of_its_tree() {
        let folders = model_folders(&["/tree/target/release".into()], Path::new("/elsewhere"));
        assert!(folders.contains(&"/tree/models".into()));
        // The source tree that it was built from comes last.
        assert_eq!(folders.last(), Some(&"/elsewhere/models".into()));
    }

    /// Library folders by the rule for release builds.
    fn library_folders_seen_from(start: &str) -> Vec<PathBuf> {
        library_folders_from(&[start.into()], None)
    }

    #[test]
    fn the_library_is_searched_for_in_the_prefix_of_the_installation_alone() {
        for (start, expected) in [
            (
                "/home/ana/.local/share/gstreamer-1.0/plugins",
                vec!["/home/ana/.local/lib/gst-plugin-mfr"],
            ),
            (
                "/home/ana/.local/bin",
                vec!["/home/ana/.local/lib/gst-plugin-mfr"],
            ),
            (
                "/usr/lib/x86_64-linux-gnu/gstreamer-1.0",
                vec![
                    "/usr/lib/x86_64-linux-gnu/gst-plugin-mfr",
                    "/usr/lib/gst-plugin-mfr",
                ],
            ),
            (
                "/usr/lib64/gstreamer-1.0",
                vec!["/usr/lib64/gst-plugin-mfr", "/usr/lib/gst-plugin-mfr"],
            ),
            (
                "/usr/local/lib/gstreamer-1.0",
                vec!["/usr/local/lib/gst-plugin-mfr"],
            ),
            ("/opt/mfr/bin", vec!["/opt/mfr/lib/gst-plugin-mfr"]),
            ("/bin", vec!["/lib/gst-plugin-mfr"]),
        ] {
            let expected: Vec<PathBuf> = expected.into_iter().map(PathBuf::from).collect();
            assert_eq!(library_folders_seen_from(start), expected, "{start}");
        }
    }

    #[test]
    fn a_folder_that_is_no_place_for_an_installation_has_no_library() {
        for start in [
            "/tree/target/release",
            "/tree/target/debug/deps",
            "/home/ana/Downloads",
            "/home/ana/work/gstreamer-1.0",
            "/home/ana/lib/work/gstreamer-1.0",
            "/home/ana/gstreamer-1.0/plugins",
            "/home/ana/.local/bin/mfr",
            "/usr/lib/x86_64-linux-gnu/gstreamer-1.0/..",
            // The following are relative to the working directory.
            "bin",
            "lib/gstreamer-1.0",
            "",
            "/",
        ] {
            let folders = library_folders_seen_from(start);
            assert!(folders.is_empty(), "{start} {folders:?}");
        }
    }

    #[test]
    fn a_debug_build_takes_the_library_of_its_source_tree_first() {
        let folders = library_folders_from(&["/usr/bin".into()], Some(Path::new("/src")));
        let expected = ["/src/target/onnxruntime", "/usr/lib/gst-plugin-mfr"];
        assert_eq!(folders, expected.map(PathBuf::from));
    }
}
