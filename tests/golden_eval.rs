//! Average precision agrees with COCO's own evaluation program; precision and recall at the best F1
//! with the ones that Ultralytics prints.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use graftd::yolo::detection::Detection;
use graftd::yolo::metrics::{Evaluation, Evaluator, TruthBox};
use serde_json::Value;

fn corners(entry: &Value) -> [f32; 4] {
    let values = entry["xyxy"].as_array().unwrap();
    [0, 1, 2, 3].map(|i| values[i].as_f64().unwrap() as f32)
}

fn evaluate(case: &Value) -> Evaluation {
    let classes: Vec<String> = (0..case["nc"].as_u64().unwrap()).map(|class| class.to_string()).collect();
    let mut evaluator = Evaluator::new(&classes);
    for image in case["images"].as_array().unwrap() {
        let of_image = |list: &str| -> Vec<Value> {
            let list = case[list].as_array().unwrap();
            list.iter().filter(|entry| entry["image"] == image["id"]).cloned().collect()
        };
        let detections: Vec<Detection> = of_image("dets")
            .iter()
            .map(|entry| {
                let [x1, y1, x2, y2] = corners(entry);
                let score = entry["score"].as_f64().unwrap() as f32;
                Detection { x1, y1, x2, y2, score, class: entry["class"].as_u64().unwrap() as u32 }
            })
            .collect();
        let truth: Vec<TruthBox> = of_image("gts")
            .iter()
            .map(|entry| TruthBox { class: entry["class"].as_u64().unwrap() as u32, corners: corners(entry) })
            .collect();
        evaluator.add(&detections, &truth);
    }
    evaluator.finish()
}

fn cases() -> Vec<(String, Value)> {
    let folder = support::goldens("eval");
    let files = support::index("eval")["files"].as_array().unwrap().clone();
    assert!(!files.is_empty());
    files
        .iter()
        .map(|entry| {
            let name = entry["file"].as_str().unwrap().to_owned();
            let text = std::fs::read_to_string(folder.join(&name)).unwrap();
            (name, serde_json::from_str(&text).unwrap())
        })
        .collect()
}

#[test]
fn golden_average_precision_is_that_of_coco() {
    for (name, case) in cases() {
        let found = evaluate(&case);
        let coco = &case["coco"];
        for (value, key) in [(found.map50, "map50"), (found.map50_95, "map50_95")] {
            assert_eq!(value.is_none(), coco[key].is_null(), "{name}: {key}");
            if let Some(value) = value {
                let expected = coco[key].as_f64().unwrap();
                assert!((value - expected).abs() < 1e-6, "{name}: {key} is {value}, COCO says {expected}");
            }
        }
        for class in &found.per_class {
            for (value, key) in [(class.ap50, "ap50"), (class.ap50_95, "ap50_95")] {
                let expected = coco[key][&class.class].as_f64().unwrap();
                assert!((value - expected).abs() < 1e-6, "{name}: class {}: {key} {value}", class.class);
            }
        }
        assert_eq!(found.boxes, case["gts"].as_array().unwrap().len(), "{name}");
        assert_eq!(found.images, case["images"].as_array().unwrap().len(), "{name}");
    }
}

/// The reference pairs boxes in another order (by overlap, not by score) and sorts unstably, so its
/// answer is compared where neither matters: without score ties and duplicated boxes.
#[test]
fn golden_precision_and_recall_are_taken_at_the_best_mean_f1() {
    for (name, case) in cases()
        .iter()
        .filter(|(name, _)| ["plain.json", "classes.json", "images.json"].contains(&name.as_str()))
    {
        let found = evaluate(case);
        for (value, key) in [(found.precision, "mean_precision"), (found.recall, "mean_recall")] {
            let (value, expected) = (value.unwrap(), case["ultralytics"][key].as_f64().unwrap());
            assert!((value - expected).abs() < 1e-3, "{name}: {key} is {value}, the reference {expected}");
        }
    }
}
