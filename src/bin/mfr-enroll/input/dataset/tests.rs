use super::*;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

/// A folder with these (empty) files.
fn files(paths: &[&str]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for path in paths {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    root
}

fn names(collection: &Collection) -> Vec<(&str, &str)> {
    collection
        .items
        .iter()
        .map(|i| (collection.people[i.person].as_str(), i.name.as_str()))
        .collect()
}

#[test]
fn every_folder_is_a_person_and_the_order_is_that_of_the_names() {
    let root = files(&[
        "Zoë Ж. d'Å/2.JPG",
        "Zoë Ж. d'Å/1.webp",
        "Ana/phone/x.png",
        "Ana/notes.txt",
        "Ana/.hidden.jpg",
        ".cache/a.jpg",
        "@eaDir/a.jpg",
        "readme.jpg",
    ]);
    let dataset = Dataset::open(root.path()).unwrap();
    assert!(dataset.val.is_none());
    assert_eq!(
        names(&dataset.train),
        [
            ("Ana", "Ana/phone/x.png"),
            ("Zoë Ж. d'Å", "Zoë Ж. d'Å/1.webp"),
            ("Zoë Ж. d'Å", "Zoë Ж. d'Å/2.JPG"),
        ]
    );
    let skipped = dataset.train.skipped.iter();
    let skipped: Vec<_> = skipped.map(|s| (s.path.as_str(), s.detail)).collect();
    assert_eq!(
        skipped,
        [
            (".cache", "hidden"),
            ("@eaDir", "made by a system or a photo program"),
            ("Ana/notes.txt", NO_PHOTO),
            ("readme.jpg", "in nobody's folder"),
        ]
    );
}

#[test]
fn one_name_in_two_spellings_is_one_person() {
    let root = files(&[
        "Zoe\u{308}/1.jpg",
        "Zo\u{eb}/2.jpg",
        " /3.jpg",
        "Unknown/4.jpg",
    ]);
    let dataset = Dataset::open(root.path()).unwrap();
    assert_eq!(dataset.train.people, ["Zo\u{eb}"]);
    assert_eq!(dataset.train.items.len(), 2);
    assert_eq!(dataset.train.skipped.len(), 2);
}

#[test]
fn a_folder_too_many_is_an_error_with_the_right_folder() {
    for paths in [
        &["people/Ana/1.jpg", "people/Ben/1.jpg"][..],
        &["people/Ana/1.jpg"],
        &["friends/Ana/1.jpg", "work/Ben/1.jpg"],
    ] {
        let root = files(paths);
        let error = Dataset::open(root.path()).unwrap_err().to_string();
        let first = root.path().join(paths[0].split('/').next().unwrap());
        let expected = format!("did you mean --dataset {}?", first.display());
        assert!(error.contains(&expected), "{error}");
    }
    // Years, albums and cameras belong to a person.
    for paths in [
        &["Ana/2019/1.jpg", "Ana/2020/1.jpg"][..],
        &["Ana/phone/1.jpg", "Ben/phone/1.jpg", "Ben/tablet/2.jpg"],
        &["Ana/1.jpg", "Ben/phone/1.jpg"],
    ] {
        let root = files(paths);
        let people = Dataset::open(root.path()).unwrap().train.people;
        assert_eq!(people[0], "Ana");
    }
}

#[test]
fn training_and_validation_are_parts_and_what_is_beside_them_is_named() {
    let root = files(&[
        "training/Ana/1.jpg",
        "validation/Ana/2.jpg",
        "test/Ana/3.jpg",
    ]);
    let dataset = Dataset::open(root.path()).unwrap();
    assert_eq!(names(&dataset.train), [("Ana", "training/Ana/1.jpg")]);
    assert_eq!(dataset.val.unwrap().items.len(), 1);
    assert_eq!(dataset.train.skipped[0].path, "test");
}

#[test]
fn train_and_val_are_kept_apart() {
    let root = files(&["train/Ana/1.jpg", "val/Ana/2.jpg", "val/Ben/3.jpg"]);
    let dataset = Dataset::open(root.path()).unwrap();
    assert_eq!(names(&dataset.train), [("Ana", "train/Ana/1.jpg")]);
    assert_eq!(
        names(&dataset.val.unwrap()),
        [("Ana", "val/Ana/2.jpg"), ("Ben", "val/Ben/3.jpg")]
    );
}

#[test]
fn somebody_may_be_called_train() {
    let root = files(&["train/1.jpg", "Ana/2.jpg"]);
    let dataset = Dataset::open(root.path()).unwrap();
    assert_eq!(dataset.train.people, ["Ana", "train"]);
}

#[test]
fn photos_without_folders_are_called_like_the_person() {
    let root = files(&["obama.jpg", "obama.png", "biden.jpg", "list.txt"]);
    let dataset = Dataset::open(root.path()).unwrap();
    assert_eq!(
        names(&dataset.train),
        [
            ("biden", "biden.jpg"),
            ("obama", "obama.jpg"),
            ("obama", "obama.png")
        ]
    );
    assert_eq!(dataset.train.skipped[0].path, "list.txt");
}

#[test]
fn loops_and_dead_ends_are_reported_and_end() {
    let root = files(&["Ana/1.jpg"]);
    let ana = root.path().join("Ana");
    symlink(root.path(), ana.join("up")).unwrap();
    symlink("self", ana.join("self")).unwrap();
    symlink("gone.jpg", ana.join("2.jpg")).unwrap();
    symlink(&ana, root.path().join("Ana again")).unwrap();
    let dataset = Dataset::open(root.path()).unwrap();
    assert_eq!(
        names(&dataset.train),
        [("Ana", "Ana/1.jpg"), ("Ana again", "Ana again/1.jpg")]
    );
    let rejected: Vec<_> = dataset
        .train
        .rejected
        .iter()
        .filter(|r| r.path.starts_with("Ana/"))
        .map(|r| (r.path.as_str(), r.detail.split(':').next().unwrap()))
        .collect();
    assert_eq!(
        rejected,
        [
            ("Ana/2.jpg", "a symbolic link that leads nowhere"),
            ("Ana/self", "a symbolic link that leads nowhere"),
            ("Ana/up", "a symbolic link back to a folder that holds it"),
        ]
    );
}

#[test]
fn a_name_that_cannot_be_used_is_rejected_and_the_others_go_on() {
    let root = files(&["Ana/1.jpg", "unknown/1.jpg"]);
    let odd = root.path().join(OsStr::from_bytes(b"J\xf6rg"));
    fs::create_dir(&odd).unwrap();
    fs::write(odd.join("1.jpg"), "").unwrap();
    let dataset = Dataset::open(root.path()).unwrap();
    assert_eq!(names(&dataset.train), [("Ana", "Ana/1.jpg")]);
    assert_eq!(dataset.train.rejected[0].path, "J\u{fffd}rg");
    assert!(dataset.train.rejected[0].detail.contains("not UTF-8"));
    assert_eq!(dataset.train.rejected.len(), 1);
    assert_eq!(dataset.train.skipped[0].path, "unknown");
}

#[test]
fn a_dataset_without_photos_says_what_it_should_look_like() {
    let root = files(&["Ana/notes.txt"]);
    let error = Dataset::open(root.path()).unwrap_err().to_string();
    assert!(error.contains("holds no photo of anybody; expected DIR/<name>/"));
    assert!(error.contains(&shown(root.path())));
    let error = Dataset::open(&root.path().join("gone")).unwrap_err();
    assert!(format!("{error:#}").contains("gone: No such file"));
}
