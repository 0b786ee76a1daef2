//! A YOLO folder is read as users write it, and each fault in one is named with file and line.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::path::{Path, PathBuf};

use graftd::dataset::{DataSet, Split, write_yolo};
use graftd::label::LabelBox;

/// A folder with one picture in each split and these labels for the training picture.
fn folder(labels: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for split in ["train", "val"] {
        std::fs::create_dir_all(root.join("images").join(split)).unwrap();
        std::fs::create_dir_all(root.join("labels").join(split)).unwrap();
        std::fs::write(root.join(format!("images/{split}/a.JPG")), b"").unwrap();
    }
    std::fs::write(root.join("labels/train/a.txt"), labels).unwrap();
    std::fs::write(root.join("labels/val/a.txt"), "1 0.5 0.5 0.5 0.5").unwrap();
    let yaml = root.join("data.yaml");
    std::fs::write(&yaml, "train: images/train\nval: images/val\nnames: {0: weed, 1: crop}\n").unwrap();
    (folder, yaml)
}

fn message(labels: &str) -> String {
    let (_folder, yaml) = folder(labels);
    DataSet::open(&yaml).expect_err(labels).to_string()
}

#[test]
fn the_demo_tiles_are_read_whole() {
    let yaml = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/treecrowns/data.yaml");
    let set = DataSet::open(&yaml).unwrap();
    assert_eq!((set.train.len(), set.val.len(), set.test.len()), (30, 6, 0));
    assert_eq!(set.classes, ["tree"]);
    let boxes = |split| set.split(split).iter().map(|example| example.labels.len()).sum::<usize>();
    assert_eq!((boxes(Split::Train), boxes(Split::Val)), (486, 106));
    assert!(set.measurable(Split::Test, &yaml).is_err());
}

#[test]
fn each_wrong_row_names_its_file_and_line() {
    for (row, said) in [
        ("2 0.5 0.5 0.1 0.1", "class 2 is out of range: data.yaml names 2"),
        ("-1 0.5 0.5 0.1 0.1", "class -1 is out of range"),
        ("0.5 0.5 0.5 0.1 0.1", "class 0.5 is out of range"),
        ("0 NaN 0.5 0.1 0.1", "NaN is no usable number"),
        ("0 inf 0.5 0.1 0.1", "inf is no usable number"),
        ("0 -0.1 0.5 0.1 0.1", "-0.1 is outside 0 to 1"),
        ("0 0.5 0.5 1.5 0.1", "1.5 is outside 0 to 1"),
        ("0 320 240 50 60", "320 is outside 0 to 1; centres and sides are given in sides of the picture"),
        ("0 0.5 0.5 0 0.1", "the box is empty"),
        ("0 0.5 0.5 0.1", "4 columns, where a row has 5"),
        ("0 0.5 0.5 0.1 0.1 0.9", "6 columns, where a row has 5"),
        ("0 0.1 0.1 0.2 0.1 0.2 0.2", "polygons are segmentation labels"),
        ("weed 0.5 0.5 0.1 0.1", "\"weed\" is no number"),
    ] {
        let message = message(&format!("0 0.5 0.5 0.2 0.2\n\n{row}\n"));
        assert!(message.contains("labels/train/a.txt:3: "), "{message}");
        assert!(message.contains(said), "{row}: {message}");
    }
}

#[test]
fn all_faults_are_counted() {
    let message = message("0 2 0.5 0.1 0.1\n7 0.5 0.5 0.1 0.1\n0 1\n");
    assert!(message.contains("a.txt:1:") && message.ends_with("(and 2 more faults)"), "{message}");
}

#[test]
fn boxes_are_cut_off_at_the_border_and_read_once() {
    let (_folder, yaml) = folder("\u{feff}0 0.0 0.5 0.5 0.5\r\n0 0.0 0.5 0.5 0.5\r\n");
    let set = DataSet::open(&yaml).unwrap();
    assert_eq!(set.train[0].labels, [LabelBox { class: 0, cx: 0.125, cy: 0.5, w: 0.25, h: 0.5 }]);
}

#[test]
fn splits_may_be_lists_and_names_a_list() {
    let (folder, yaml) = folder("0 0.5 0.5 0.2 0.2");
    std::fs::write(folder.path().join("train.txt"), "./images/train/a.JPG\n").unwrap();
    std::fs::write(&yaml, "train: [train.txt]\nval: ../images/val\nnc: 2\nnames: [weed, crop]\n").unwrap();
    let set = DataSet::open(&yaml).unwrap();
    assert_eq!((set.train.len(), set.val.len()), (1, 1));
    assert_eq!(set.train[0].labels.len(), 1);
}

#[test]
fn a_wrong_description_says_what_to_correct() {
    for (text, said) in [
        ("train: images/nowhere\nnames: [weed]", "images/nowhere does not exist"),
        ("train: images/train", "it has no names"),
        ("names: []\ntrain: images/train", "names is empty"),
        ("names: [weed, weed]\ntrain: images/train", "\"weed\" twice"),
        ("names: [weed]\nnc: 3\ntrain: images/train", "nc is 3, but names has 1"),
        ("names: {0: weed, 2: crop}\ntrain: images/train", "jumps from class 1 to 2"),
        ("names: [weed]", "the data set is empty"),
        ("names: [weed]\ncovers: [weeds]\ntrain: images/train", "covers has \"weeds\", which is not among"),
        ("names: [weed]\ncovers: []\ntrain: images/train", "covers is empty"),
        ("names: [weed]\ncovers: weed\ntrain: images/train", "not a data.yaml"),
        ("[]", "not a data.yaml"),
    ] {
        let (_folder, yaml) = folder("");
        std::fs::write(&yaml, text).unwrap();
        let message = DataSet::open(&yaml).expect_err(text).to_string();
        assert!(message.contains(said) && message.contains("data.yaml"), "{text}: {message}");
    }
    let missing = DataSet::open(Path::new("/nowhere/data.yaml")).unwrap_err().to_string();
    assert!(missing.contains("give the data set's data.yaml"), "{missing}");
}

#[test]
fn what_a_set_covers_holds_for_every_picture_of_it() {
    let (_folder, yaml) = folder("1 0.5 0.5 0.2 0.2\n\n0 0.5 0.5 0.1 0.1\n");
    assert_eq!(DataSet::open(&yaml).unwrap().train[0].covers, None);
    let text = std::fs::read_to_string(&yaml).unwrap();
    let covering = |names: &str| std::fs::write(&yaml, format!("{text}covers: {names}\n")).unwrap();
    covering("[crop, weed]");
    let set = DataSet::open(&yaml).unwrap();
    for example in set.train.iter().chain(&set.val) {
        assert_eq!(example.covers, Some(vec!["crop".to_owned(), "weed".to_owned()]));
    }
    // A box of what was not looked for.
    covering("[crop]");
    let message = DataSet::open(&yaml).unwrap_err().to_string();
    assert!(message.contains("labels/train/a.txt:3: class 0 is \"weed\""), "{message}");
}

#[test]
fn a_hold_out_without_boxes_is_refused() {
    let (folder, yaml) = folder("0 0.5 0.5 0.2 0.2");
    std::fs::write(folder.path().join("labels/val/a.txt"), "").unwrap();
    let set = DataSet::open(&yaml).unwrap();
    let message = set.measurable(Split::Val, &yaml).unwrap_err().to_string();
    assert!(message.contains("no picture of its split \"val\" has a box"), "{message}");
}

#[test]
fn what_is_written_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let label = LabelBox { class: 1, cx: 0.25, cy: 0.5, w: 0.125, h: 0.25 };
    let classes = ["it's \"weed\"".to_owned(), "crop: no".to_owned()];
    let items = [("train", "a.jpg", vec![label]), ("val", "b.jpg", vec![])];
    let items = items.map(|(split, name, labels)| Ok((split, name.to_owned(), vec![1, 2, 3], labels)));
    let count =
        write_yolo::<graftd::dataset::DatasetError>(folder.path(), &classes, items.into_iter()).unwrap();
    assert_eq!(count, 2);
    let set = DataSet::open(&folder.path().join("data.yaml")).unwrap();
    assert_eq!(set.classes, classes);
    assert_eq!(set.train[0].labels, [label]);
    assert_eq!(set.val[0].labels, []);
}
