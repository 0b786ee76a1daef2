//! Pictures are fitted into the input, and outputs read back into boxes, as the reference predictor
//! does it.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use graftd::picture::Picture;
use graftd::yolo::decode::candidates_of_output;
use graftd::yolo::detection::Detection;
use graftd::yolo::geometry::iou;
use graftd::yolo::letterbox::{Fit, Letterbox, draw};
use graftd::yolo::nms::{Candidate, Keep};
use serde_json::Value;
use support::Npz;

fn picture(archive: &mut Npz, index: u64) -> Picture {
    let array = archive.array::<u8>(&format!("image.{index}"));
    let (height, width) = (array.shape()[0] as u32, array.shape()[1] as u32);
    Picture::from_rgb(width, height, array.iter().copied().collect())
}

fn pair(value: &Value) -> (usize, usize) {
    (value[0].as_u64().unwrap() as usize, value[1].as_u64().unwrap() as usize)
}

#[test]
fn golden_letterbox_is_within_one_of_255() {
    let index = support::index("letterbox");
    let mut archive = Npz::open(&support::goldens("letterbox").join("letterbox.npz"));
    let cases = index["letterbox"].as_array().unwrap();
    assert!(cases.len() > 8);
    for case in cases {
        let key = case["key"].as_str().unwrap();
        let picture = picture(&mut archive, case["image"].as_u64().unwrap());
        let fit = match case["auto"].as_bool().unwrap() {
            true => Fit::Stride(case["stride"].as_u64().unwrap() as usize),
            false => Fit::Exact,
        };
        let size = (picture.height() as usize, picture.width() as usize);
        let scale_up = case["scaleup"].as_bool().unwrap();
        let placed = Letterbox::plan(size, pair(&case["target_hw"]), fit, scale_up);
        assert_eq!(placed.size, pair(&case["out_hw"]), "{key}");
        let resized = pair(&case["resized_wh"]);
        assert_eq!(placed.resized, (resized.1, resized.0), "{key}");
        assert_eq!(placed.top as u64, case["top"].as_u64().unwrap(), "{key}");
        assert_eq!(placed.left as u64, case["left"].as_u64().unwrap(), "{key}");

        let (height, width) = placed.size;
        let mut drawn = vec![0.0; 3 * height * width];
        draw(&picture, &placed, &mut drawn);
        let reference = archive.array::<u8>(key);
        assert_eq!(reference.shape(), [height, width, 3], "{key}");
        for ((y, x, channel), &expected) in
            reference.indexed_iter().map(|(index, value)| ((index[0], index[1], index[2]), value))
        {
            let found = drawn[(channel * height + y) * width + x] * 255.0;
            assert!(
                (found - f32::from(expected)).abs() < 1.01,
                "{key}: pixel {x},{y} channel {channel} is {found}, the reference {expected}"
            );
        }
    }
}

/// What the reference kept: rows of x1, y1, x2, y2, score, class.
fn reference_rows(values: &[f32]) -> Vec<Detection> {
    let row =
        |r: &[f32]| Detection { x1: r[0], y1: r[1], x2: r[2], y2: r[3], score: r[4], class: r[5] as u32 };
    values.chunks_exact(6).map(row).collect()
}

/// Leaves out boxes that are kept or not depending on how an overlap is rounded: the reference adds
/// 7680 pixels per class to the corners before it compares them in float32, which costs it digits.
fn without_the_undecided(kept: Vec<Candidate>, threshold: f32) -> Vec<Candidate> {
    let undecided = |candidate: &Candidate| {
        kept.iter().take_while(|other| other.anchor != candidate.anchor).any(|other| {
            let overlap = iou(corners(&other.detection), corners(&candidate.detection));
            (overlap - f64::from(threshold)).abs() < 1e-5
                && other.detection.class == candidate.detection.class
        })
    };
    kept.iter().filter(|candidate| !undecided(candidate)).copied().collect()
}

fn corners(detection: &Detection) -> [f64; 4] {
    detection.corners().map(f64::from)
}

fn assert_same(name: &str, found: &[Detection], expected: &[Detection], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{name}: number of boxes");
    for (row, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(found.class, expected.class, "{name}: row {row}");
        assert!((found.score - expected.score).abs() < 1e-6, "{name}: row {row}");
        for (a, b) in corners(found).iter().zip(corners(expected)) {
            let near = (a - b).abs() < f64::from(tolerance);
            assert!(near, "{name}: row {row} is {found:?}, the reference {expected:?}");
        }
    }
}

#[test]
fn golden_suppression_keeps_the_same_boxes() {
    let index = support::index("letterbox");
    let mut archive = Npz::open(&support::goldens("letterbox").join("predict.npz"));
    let cases = index["nms"].as_array().unwrap();
    assert!(!cases.is_empty());
    let mut n_undecided = 0;
    for case in cases {
        let key = case["key"].as_str().unwrap();
        let raw = archive.tensor(case["raw"].as_str().unwrap());
        let flag = |name: &str| case[name].as_bool().unwrap_or(false);
        let keep = Keep {
            confidence: case["conf_thres"].as_f64().unwrap() as f32,
            iou: case["iou_thres"].as_f64().unwrap() as f32,
            max_detections: case["max_det"].as_u64().unwrap() as usize,
            multi_label: flag("multi_label"),
            agnostic: flag("agnostic"),
        };
        let kept = candidates_of_output(raw.data(), raw.shape()[2], &keep);
        let n_kept = kept.len();
        let kept = without_the_undecided(kept, keep.iou);
        n_undecided += n_kept - kept.len();
        let reference: Vec<Candidate> = reference_rows(archive.tensor(key).data())
            .into_iter()
            .zip(archive.array::<i32>(&format!("{key}.anchors")))
            .map(|(detection, anchor)| Candidate { detection, anchor: anchor as usize })
            .collect();
        let reference = without_the_undecided(reference, keep.iou);
        let anchors = |list: &[Candidate]| list.iter().map(|c| c.anchor).collect::<Vec<usize>>();
        assert_eq!(anchors(&kept), anchors(&reference), "{key}");
        let boxes = |list: &[Candidate]| list.iter().map(|c| c.detection).collect::<Vec<Detection>>();
        assert_same(key, &boxes(&kept), &boxes(&reference), 1e-3);
    }
    assert!(n_undecided <= 3, "{n_undecided} boxes were left out as undecided");
}

#[test]
fn golden_predictions_land_on_the_picture() {
    let index = support::index("letterbox");
    let mut pictures = Npz::open(&support::goldens("letterbox").join("letterbox.npz"));
    let mut archive = Npz::open(&support::goldens("letterbox").join("predict.npz"));
    for case in index["predict"].as_array().unwrap() {
        let key = case["key"].as_str().unwrap();
        let fit = match case["model"].as_str().unwrap() {
            "yolo11n.onnx" => Fit::Exact,
            "yolo11n-dynamic.onnx" => Fit::Stride(32),
            // The others have suppression or an end-to-end head inside: their rows are final.
            _ => continue,
        };
        let picture = picture(&mut pictures, case["image"].as_u64().unwrap());
        let size = (picture.height() as usize, picture.width() as usize);
        let placed = Letterbox::plan(size, (160, 160), fit, true);
        assert_eq!(placed.size, pair(&case["input_hw"]), "{key}");
        let raw = archive.tensor(&format!("{key}.raw"));
        let keep = Keep { confidence: 0.001, ..Keep::to_use() };
        let kept = candidates_of_output(raw.data(), raw.shape()[2], &keep);
        let found: Vec<Detection> = without_the_undecided(kept, keep.iou)
            .iter()
            .map(|candidate| {
                let [x1, y1, x2, y2] = placed.to_picture(candidate.detection.corners());
                Detection { x1, y1, x2, y2, ..candidate.detection }
            })
            .collect();
        let reference = reference_rows(archive.tensor(&format!("{key}.boxes")).data());
        assert_same(key, &found, &reference, 2e-3);
    }
}
