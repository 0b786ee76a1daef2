//! Nothing phones home: ONNX Runtime's own reports to its makers stay off in the real program.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use support::{drawn, goldens, graftd};

#[test]
fn onnx_runtime_leaves_no_device_id_and_no_queue_of_reports() {
    let folder = tempfile::tempdir().unwrap();
    let data = drawn::data_set(&folder.path().join("data"), &["crown", "weed", "pallet"], 1, 1, 160);
    let home = folder.path().join("home");
    std::fs::create_dir(&home).unwrap();
    let mut command = graftd();
    command.args(["eval", "--runtime", "ort", "--model"]).arg(goldens("exports").join("yolo12n.onnx"));
    command.arg("--data").arg(data);
    for variable in ["HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"] {
        command.env(variable, &home);
    }
    // What this test's own process and build servers have set, and a user's shell has not.
    for variable in ["ORT_DISABLE_TELEMETRY", "ORT_TELEMETRY_DISABLED", "CI"] {
        command.env_remove(variable);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let left: Vec<_> = std::fs::read_dir(&home).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
}
