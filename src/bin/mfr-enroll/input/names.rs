//! Names of folders and files in a dataset: which are people, and which are not.

use std::collections::BTreeMap;
use std::ffi::OsStr;

use unicode_normalization::UnicodeNormalization;

/// Label of strangers, which cannot be a person's name.
pub const UNKNOWN: &str = "unknown";

/// Folders that operating systems, photo programs and archives create, in lower case.
const SYSTEM_FOLDERS: [&str; 8] = [
    "@eadir",
    "__macosx",
    "$recycle.bin",
    "#recycle",
    "recycler",
    "system volume information",
    "lost+found",
    "found.000",
];

/// Meaning of the name of a folder or a file in a dataset.
#[derive(Debug, PartialEq)]
pub enum NameMeaning {
    /// A person's name in Unicode NFC, without surrounding spaces.
    Person(String),
    /// Not a person, and why.
    Skipped(&'static str),
    /// Presumably a person, but not usable as a name, and why.
    Unusable(&'static str),
}

/// Interprets the name of a folder, or of a file without its extension.
pub fn read(name: &OsStr) -> NameMeaning {
    if let Some(detail) = is_no_person(name) {
        return NameMeaning::Skipped(detail);
    }
    let Some(name) = name.to_str() else {
        return NameMeaning::Unusable("the name is not UTF-8; rename it");
    };
    let person: String = name.trim().nfc().collect();
    if person.is_empty() {
        NameMeaning::Skipped("the name is empty")
    } else if person.to_lowercase() == UNKNOWN {
        NameMeaning::Skipped("\"unknown\" is what strangers are called; rename it")
    } else {
        NameMeaning::Person(person)
    }
}

/// Why a folder has no photos of a person, at any depth.
pub fn is_no_person(name: &OsStr) -> Option<&'static str> {
    let name = name.to_string_lossy().to_lowercase();
    if name.starts_with('.') {
        Some("hidden")
    } else if SYSTEM_FOLDERS.contains(&name.as_str()) {
        Some("made by a system or a photo program")
    } else {
        None
    }
}

/// The common part of several names that differ only in a number at the end, like Ana_1 and Ana_2, and how many there
/// are.
pub fn numbered<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<(&'a str, usize)> {
    let mut counts = BTreeMap::new();
    for name in names {
        let stem = name.trim_end_matches(|c: char| c.is_ascii_digit() || "()-_. ".contains(c));
        let has_number = name[stem.len()..].contains(|c: char| c.is_ascii_digit());
        if has_number && !stem.is_empty() {
            *counts.entry(stem).or_insert(0) += 1;
        }
    }
    counts.into_iter().find(|&(_, count)| count > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_skipped(name: &str) -> bool {
        matches!(read(name.as_ref()), NameMeaning::Skipped(_))
    }

    #[test]
    fn what_systems_make_hidden_folders_and_the_unknown_are_nobody() {
        for name in [
            "$RECYCLE.BIN",
            "System Volume Information",
            "lost+found",
            "@eaDir",
            "#recycle",
            ".trash",
            "unknown",
            "Unknown",
            " ",
            "\u{3000}",
        ] {
            assert!(is_skipped(name), "{name:?}");
        }
        for name in ["Ana", "Unknown Soldier", "Found", "Mr. Recycle"] {
            assert_eq!(read(name.as_ref()), NameMeaning::Person(name.to_owned()));
        }
    }

    #[test]
    fn a_name_is_the_same_in_composed_and_decomposed_letters() {
        let composed = NameMeaning::Person("Zo\u{eb}".to_owned());
        assert_eq!(read("Zo\u{eb}".as_ref()), composed);
        assert_eq!(read("Zoe\u{308} ".as_ref()), composed);
    }

    #[test]
    fn numbers_at_the_end_are_seen() {
        let names = ["Ben", "Ana_1", "Ana_2", "Ana (3)", "Eve 1", "2019", "2020"];
        assert_eq!(numbered(names), Some(("Ana", 3)));
        assert_eq!(numbered(["Ana_1", "Ben_2", "7", "8"]), None);
    }
}
