//! The criterion against the reference implementation: values, gradients and targets.
//!
//! The assignment is a discontinuous function of the maps: where two anchors have equal metrics the
//! reference's choice depends on its sort, and foreground without weight (`fg` but not `pos`) is
//! arbitrary. The cases say of themselves whether such a tie changes anything that the loss sees
//! (`tie_sensitive`); none of them does, so `pos` is compared everywhere.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use graftd::label::LabelBox;
use graftd::yolo::assign::Assigner;
use graftd::yolo::criterion::{Criterion, Gains, Loss};
use graftd::yolo::maps::{HeadShape, Level, MapGradients, RawMaps};
use support::{Npz, goldens, index, relative_difference};

/// Relative to the largest value; the issue asks for 1e-4.
const TOLERANCE: f32 = 5e-5;

struct Case {
    name: String,
    npz: Npz,
    batch: usize,
    shape: HeadShape,
    gains: Gains,
    truth: Vec<Vec<LabelBox>>,
}

fn numbers(value: &serde_json::Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect()
}

fn open(entry: &serde_json::Value) -> Case {
    let name = entry["file"].as_str().unwrap().to_owned();
    let mut npz = Npz::open(&goldens("loss").join(&name));
    let input = numbers(&entry["imgsz_hw"]);
    let batch = entry["batch"].as_u64().unwrap() as usize;
    let levels = numbers(&entry["strides"])
        .into_iter()
        .map(|stride| Level { stride, height: input[0] / stride, width: input[1] / stride })
        .collect();
    let shape = HeadShape {
        input: (input[0], input[1]),
        levels,
        reg_max: entry["reg_max"].as_u64().unwrap() as usize,
        classes: entry["nc"].as_u64().unwrap() as usize,
        one_to_one: false,
    };
    let gain = |key: &str| entry["gains"][key].as_f64().unwrap();
    let mut truth = vec![Vec::new(); batch];
    for row in npz.array::<f32>("gt").rows() {
        truth[row[0] as usize].push(LabelBox {
            class: row[1] as u32,
            cx: row[2],
            cy: row[3],
            w: row[4],
            h: row[5],
        });
    }
    let gains = Gains { box_: gain("box"), cls: gain("cls"), dfl: gain("dfl") };
    Case { name, npz, batch, shape, gains, truth }
}

/// Evaluates one branch and compares its targets; gives loss and gradients.
fn branch(case: &mut Case, prefix: &str, assigner: Assigner) -> (Loss, MapGradients) {
    let levels = 0..case.shape.levels.len();
    let boxes: Vec<_> = levels.clone().map(|l| case.npz.tensor(&format!("{prefix}box.{l}"))).collect();
    let classes: Vec<_> = levels.map(|l| case.npz.tensor(&format!("{prefix}cls.{l}"))).collect();
    let maps = RawMaps {
        batch: case.batch,
        boxes: boxes.iter().map(|map| map.data()).collect(),
        classes: classes.iter().map(|map| map.data()).collect(),
    };
    let criterion = Criterion::new(&case.shape, case.gains, assigner);
    let mut gradients = criterion.gradients(case.batch);
    let loss = criterion.evaluate(&maps, &case.truth, &mut gradients);

    let (anchors, n_classes) = (case.shape.anchors(), case.shape.classes);
    let pos = case.npz.array::<u8>(&format!("{prefix}pos"));
    let indices = case.npz.array::<i32>(&format!("{prefix}gt_idx"));
    let expected = case.npz.tensor(&format!("{prefix}target_scores"));
    let mut scores = vec![0.0; case.batch * anchors * n_classes];
    for (picture, assigned) in criterion.assignments(&maps, &case.truth).iter().enumerate() {
        let found: Vec<usize> = assigned.iter().map(|assigned| assigned.anchor).collect();
        let wanted: Vec<usize> = (0..anchors).filter(|&anchor| pos[[picture, anchor]] != 0).collect();
        assert_eq!(found, wanted, "{} {prefix}: anchors of picture {picture}", case.name);
        for assigned in assigned {
            assert_eq!(assigned.truth as i32, indices[[picture, assigned.anchor]], "{} {prefix}", case.name);
            let class = case.truth[picture][assigned.truth].class as usize;
            scores[(picture * anchors + assigned.anchor) * n_classes + class] = assigned.score;
        }
    }
    let difference = relative_difference(&scores, expected.data());
    assert!(difference < TOLERANCE, "{} {prefix}: target scores are off by {difference}", case.name);
    (loss, gradients)
}

fn compare_loss(case: &mut Case, name: &str, loss: Loss) {
    let expected = case.npz.array::<f32>(name);
    for (found, expected) in [loss.box_, loss.cls, loss.dfl].into_iter().zip(&expected) {
        let expected = f64::from(*expected);
        let close = (found - expected).abs() <= 1e-5 * expected.abs().max(1e-3);
        assert!(close, "{} {name}: {found} is not {expected}", case.name);
    }
}

fn compare_gradients(case: &mut Case, prefix: &str, gradients: &MapGradients, weight: f32) {
    for (kind, maps) in [("dbox", &gradients.boxes), ("dcls", &gradients.classes)] {
        for (level, map) in maps.iter().enumerate() {
            let expected = case.npz.tensor(&format!("{prefix}{kind}.{level}"));
            let found: Vec<f32> = map.iter().map(|value| value * weight).collect();
            let difference = relative_difference(&found, expected.data());
            assert!(difference < TOLERANCE, "{} {prefix}{kind}.{level} is off by {difference}", case.name);
        }
    }
}

#[test]
fn golden_losses_gradients_and_targets_agree() {
    let index = index("loss");
    let entries = index["cases"].as_array().unwrap();
    assert!(entries.len() >= 15, "only {} cases", entries.len());
    for entry in entries {
        let mut case = open(entry);
        assert!(entry["branches"].as_object().unwrap().values().all(|b| b["tie_sensitive"] == false));
        match entry["mode"].as_str().unwrap() {
            mode @ ("v8" | "o2o") => {
                let assigner = if mode == "v8" { Assigner::ONE_TO_MANY } else { Assigner::ONE_TO_ONE };
                let (loss, gradients) = branch(&mut case, "", assigner);
                compare_loss(&mut case, "loss", loss);
                compare_gradients(&mut case, "", &gradients, 1.0);
            }
            "e2e" => {
                let weights = case.npz.array::<f32>("weights");
                let assigners = [("o2m.", Assigner::ONE_TO_MANY), ("o2o.", Assigner::ONE_TO_ONE)];
                for ((prefix, assigner), &weight) in assigners.into_iter().zip(&weights) {
                    let (loss, gradients) = branch(&mut case, prefix, assigner);
                    compare_loss(&mut case, &format!("{prefix}loss"), loss);
                    compare_gradients(&mut case, prefix, &gradients, weight);
                }
            }
            other => panic!("{}: unknown mode {other}", case.name),
        }
    }
}
