//! A YOLO folder is read as users write it, and each fault in one is named with file and line.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::path::{Path, PathBuf};

use graftd::dataset::{Collection, DataSet, DatasetError, Entry, Format, Item, Split, Told};
use graftd::label::{LabelBox, Provenance};
use graftd::picture::Picture;

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

/// Two pictures as an export gets them, with everything that may be told.
fn items() -> [Item; 2] {
    let picture = Picture::from_rgb(40, 30, vec![90; 40 * 30 * 3]).to_jpeg(90).unwrap();
    let label = |class, cx: f32, cy, w, h| LabelBox { class, cx, cy, w, h };
    let told = |provenance, covers: Option<&[&str]>| Told {
        provenance: Some(provenance),
        covers: covers.map(|covers| covers.iter().map(|&name| name.into()).collect()),
        holdout: None,
        taken_ms: Some(1_764_000_000_250),
        source: Some("barn \"7\"".into()),
        why: Some("unsure".into()),
    };
    let item = |name: &str, boxes, holdout, told| Item {
        name: name.into(),
        bytes: picture.clone(),
        size: (40, 30),
        boxes,
        holdout,
        told,
    };
    let boxes = vec![label(1, 1.0 / 3.0, 0.1, 1e-5, 0.2), label(0, 0.7, 0.9, 0.123_456_79, 0.1)];
    [
        item("a.jpg", boxes, false, told(Provenance::Human, Some(&["crop: no", "it's \"weed\""]))),
        item("b.jpg", vec![], true, told(Provenance::Import, None)),
    ]
}

fn classes() -> [String; 2] {
    ["it's \"weed\"".to_owned(), "crop: no".to_owned()]
}

fn assert_same(found: &[Entry], written: &[Item]) {
    assert_eq!(found.len(), written.len());
    for (found, written) in found.iter().zip(written) {
        assert_eq!(found.told, written.told);
        assert_eq!(found.boxes.len(), written.boxes.len());
        for (a, b) in found.boxes.iter().zip(&written.boxes) {
            assert_eq!(a.class, b.class);
            for (a, b) in [(a.cx, b.cx), (a.cy, b.cy), (a.w, b.w), (a.h, b.h)] {
                assert!((a - b).abs() <= 1e-6, "{a} was {b}");
            }
        }
        assert_eq!(std::fs::read(&found.picture).unwrap(), written.bytes);
    }
}

#[test]
fn what_is_written_as_yolo_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let count =
        Format::Yolo.write::<DatasetError>(folder.path(), &classes(), items().map(Ok).into_iter()).unwrap();
    assert_eq!(count, 2);
    let yaml = folder.path().join("data.yaml");
    let collection = Collection::read(&yaml, None).unwrap();
    assert_eq!((&collection.classes[..], &collection.faults[..]), (&classes()[..], &[][..]));
    assert_same(&collection.entries, &items());
    assert_eq!(collection.entries[0].split, Some(Split::Train));
    // Whoever trains on the folder itself gets what the labels cover too.
    let set = DataSet::open(&yaml).unwrap();
    assert_eq!(set.train[0].covers, items()[0].told.covers);
    assert_eq!((set.val[0].labels.len(), &set.val[0].covers), (0, &None));
    // Nothing is written among other files.
    let error = Format::Yolo.write::<DatasetError>(folder.path(), &classes(), items().map(Ok).into_iter());
    assert!(error.unwrap_err().to_string().contains("name a new folder"));
}

#[test]
fn what_is_written_as_coco_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let count =
        Format::Coco.write::<DatasetError>(folder.path(), &classes(), items().map(Ok).into_iter()).unwrap();
    assert_eq!(count, 2);
    for (name, written) in ["train.json", "val.json"].iter().zip(items()) {
        let collection = Collection::read(&folder.path().join(name), None).unwrap();
        assert_eq!((&collection.classes[..], &collection.faults[..]), (&classes()[..], &[][..]));
        assert_same(&collection.entries, &[written]);
    }
}

#[test]
fn what_can_be_read_of_a_coco_file_is_and_the_rest_is_listed() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.jpg", "b.jpg", "c.jpg"] {
        std::fs::write(folder.path().join(name), b"").unwrap();
    }
    let file = folder.path().join("coco.json");
    let text = r#"{
        "images": [
            {"id": 90, "file_name": "a.jpg", "width": 100, "height": 50, "license": 3},
            {"id": 7, "file_name": "b.jpg", "width": 100, "height": 50},
            {"id": 8, "file_name": "gone.jpg", "width": 100, "height": 50},
            {"id": 9, "file_name": "../../etc/passwd", "width": 100, "height": 50},
            {"id": 10, "file_name": "c.jpg", "width": "wide", "height": 50}
        ],
        "categories": [{"id": 44, "name": "weed"}, {"id": 3, "name": "crop"}],
        "annotations": [
            {"id": 1, "image_id": 90, "category_id": 44, "bbox": [-10, 0, 30, 25]},
            {"id": 2, "image_id": 7, "category_id": 3, "bbox": [0, 0, 10, 10]},
            {"id": 3, "image_id": 7, "category_id": 99, "bbox": [0, 0, 10, 10]},
            {"id": 4, "image_id": 8, "category_id": 3, "bbox": [0, 0, 10, 10]},
            "?"
        ]
    }"#;
    std::fs::write(&file, text).unwrap();
    let collection = Collection::read(&file, None).unwrap();
    assert_eq!(collection.classes, ["crop", "weed"]);
    assert_eq!(collection.entries.len(), 1, "b.jpg has an object of no class and is left out");
    let label = LabelBox { class: 1, cx: 0.1, cy: 0.25, w: 0.2, h: 0.5 };
    assert_eq!(collection.entries[0].boxes, [label], "clipped at the left");
    let faults: Vec<String> = collection.faults.iter().map(ToString::to_string).collect();
    for said in [
        "images[2]",
        "images[3]",
        "images[4]",
        "category 99",
        "annotations[3]",
        "annotations[4]",
        "b.jpg is left out",
    ] {
        assert!(faults.iter().any(|fault| fault.contains(said)), "{said}: {faults:?}");
    }
    std::fs::write(&file, "{\n\n  \"images\": [}").unwrap();
    let message = Collection::read(&file, None).unwrap_err().to_string();
    assert!(message.contains("coco.json:3: "), "{message}");
}
