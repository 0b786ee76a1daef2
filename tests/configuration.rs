//! The configuration through the real program: `graftd init` writes one that is right, `graftd config check` names
//! all that is wrong with its place, `graftd config show` tells what holds and why, and docs/configuration.md is
//! what the code says.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use support::{goldens, graftd};

/// The program, away from the checkout's own environment.
fn program() -> Command {
    let mut command = graftd();
    command.env_remove("GRAFTD_ORT_LIB").env_remove("ORT_DYLIB_PATH");
    command
}

fn bundled() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/base.onnx")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}\n{}", text(&output.stdout), text(&output.stderr)))
}

fn init(config: &Path, more: &[&str]) -> Output {
    program().arg("init").arg("--config").arg(config).args(more).output().unwrap()
}

/// A configuration that is right, with more below it.
fn write(folder: &Path, above: &str, more: &str) -> PathBuf {
    let path = folder.join("graftd.toml");
    let base =
        if more.contains("[model]") { String::new() } else { format!("[model]\nbase = {:?}\n", bundled()) };
    let state = if above.contains("state_dir") { "" } else { "state_dir = \"state\"\n" };
    fs::write(&path, format!("{state}{above}{base}{more}")).unwrap();
    path
}

/// What `config check --json` says: the exit code, errors and warnings, each as `key: message`.
fn check(config: &Path) -> (Option<i32>, Vec<String>, Vec<String>) {
    let output = program().args(["config", "check", "--json"]).arg(config).output().unwrap();
    let report = json(&output);
    assert_eq!(report["ok"], output.status.success());
    let said = |kind: &str| {
        let faults = report[kind].as_array().unwrap().iter();
        faults
            .map(|fault| {
                format!("{}: {}", fault["key"].as_str().unwrap_or(""), fault["message"].as_str().unwrap())
            })
            .collect()
    };
    (output.status.code(), said("errors"), said("warnings"))
}

#[test]
fn the_page_is_current() {
    let page =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md")).unwrap_or_default();
    assert!(
        page == graftd::config::page(),
        "write it anew: cargo run -- config page > docs/configuration.md"
    );
    let printed = program().args(["config", "page"]).output().unwrap();
    assert_eq!(text(&printed.stdout), page);
}

#[test]
fn what_init_writes_is_right() {
    let folder = tempfile::tempdir().unwrap();
    // The folder is made, as /etc/graftd is.
    let config = folder.path().join("graftd/graftd.toml");
    let output = init(&config, &["--json", "--base", "models/base.onnx"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let found = json(&output);
    assert!(!found["device"].as_str().unwrap().is_empty() && found["cores"].as_u64().unwrap() > 0);
    assert!(found["broker"].is_boolean() && found["cameras"].is_array());
    assert_eq!(found["base"], bundled().to_str().unwrap());
    let said = text(&output.stderr);
    for word in ["device", "cores", "camera", "ONNX Runtime", "broker", "base", "state"] {
        assert!(said.contains(word), "{said}");
    }
    let (code, errors, warnings) = check(&config);
    assert_eq!((code, &errors[..]), (Some(0), &[][..]), "{warnings:?}");
    let output = program().arg("config").arg("check").arg(&config).output().unwrap();
    assert_eq!(text(&output.stdout), format!("{}: fine\n", config.display()));
    // Other users' daemons read it too, and nothing is left beside it.
    assert_eq!(fs::metadata(&config).unwrap().permissions().mode() & 0o777, 0o644);
    assert_eq!(fs::read_dir(folder.path().join("graftd")).unwrap().count(), 1);
    let written = fs::read_to_string(&config).unwrap();
    assert!(written.contains("\n#fps = 1.0\n") && written.contains("\n[select]\n"), "{written}");
}

#[test]
fn init_writes_over_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("graftd.toml");
    fs::write(&config, "device = \"mine\"\n").unwrap();
    let output = init(&config, &[]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.starts_with("graftd: ") && said.contains("--force") && said.contains("--config"), "{said}");
    assert_eq!(fs::read_to_string(&config).unwrap(), "device = \"mine\"\n");
    assert!(init(&config, &["--force"]).status.success());
    assert!(fs::read_to_string(&config).unwrap().contains("#fps = 1.0"));
    // Not even over a link that leads nowhere.
    let link = folder.path().join("link.toml");
    std::os::unix::fs::symlink("nowhere", &link).unwrap();
    assert_eq!(init(&link, &[]).status.code(), Some(2));
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
}

#[test]
fn init_refuses_what_it_cant_do() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("graftd.toml");
    let file = folder.path().join("file");
    fs::write(&file, "no model").unwrap();
    let segments = goldens("exports").join("yolo11n-seg.onnx");
    for (arguments, words) in [
        (vec!["--base", file.to_str().unwrap()], &["--base", "ONNX"][..]),
        (vec!["--base", "nowhere.onnx"], &["nowhere.onnx"]),
        (vec!["--base", segments.to_str().unwrap()], &["seg"]),
    ] {
        let output = init(&config, &arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
        assert!(!config.exists());
    }
    for place in
        [file.join("graftd.toml"), folder.path().join("no/such/graftd.toml"), "/proc/graftd.toml".into()]
    {
        let output = init(&place, &[]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("--config"), "{said}");
    }
}

#[test]
fn check_names_every_fault_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let config =
        write(folder.path(), "devise = \"barn\"\n", "[camera]\nfsp = 2\nfps = 0\nwidth = \"wide\"\n");
    let output = program().arg("config").arg("check").arg(&config).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(text(&output.stdout), "");
    let said = text(&output.stderr);
    let at = |line: usize, column: usize| format!("{}:{line}:{column}: ", config.display());
    for (place, words) in [
        (at(2, 1), "did you mean `device`?"),
        (at(6, 1), "did you mean `fps`?"),
        (at(7, 1), "camera.fps: 0 is no frame rate"),
        (at(8, 1), "camera.width: "),
    ] {
        let line =
            said.lines().find(|line| line.contains(&place)).unwrap_or_else(|| panic!("{place}: {said}"));
        assert!(line.contains(words), "{line}");
    }
    assert!(said.lines().last().unwrap().starts_with(&format!("graftd: {}", at(2, 1))), "{said}");
    let report = json(&program().args(["config", "check", "--json"]).arg(&config).output().unwrap());
    let first = &report["errors"][0];
    assert_eq!((&first["line"], &first["column"]), (&2.into(), &1.into()));
    assert_eq!(first["file"], config.to_str().unwrap());
    assert_eq!(report["errors"].as_array().unwrap().len(), 4);
    // The daemon says the same and does not start.
    let output = program().arg("run").arg("--config").arg(&config).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(2), said));
}

#[test]
fn check_looks_at_what_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let in_folder = |name: &str| folder.path().join(name);
    fs::write(in_folder("file"), "no model").unwrap();
    fs::write(in_folder("empty"), "\n").unwrap();
    let write = |above: &str, more: &str| write(folder.path(), above, more);
    for (above, more, key, words) in [
        ("", "[model]\nbase = \"nowhere.onnx\"", "model.base", "no such file"),
        ("", "[model]\nbase = \"file\"", "model.base", "ONNX"),
        ("state_dir = \"file/state\"\n", "", "state_dir", "is no folder"),
        ("state_dir = \"/proc/state\"\n", "", "state_dir", "choose another"),
        ("", "[mqtt]\npassword_file = \"nowhere\"", "mqtt.password_file", "No such file"),
        ("", "[mqtt]\npassword_file = \"empty\"", "mqtt.password_file", "empty"),
        ("", "[runtime]\nlibrary = \"nowhere.so\"", "runtime.library", "nowhere.so"),
    ] {
        let (code, errors, _) = check(&write(above, more));
        assert_eq!(code, Some(2), "{above}{more}");
        let [error] = &errors[..] else { panic!("{errors:?}") };
        assert!(error.starts_with(&format!("{key}: ")) && error.contains(words), "{error}");
    }
    let warned = |config: &Path, key: &str, words: &str| {
        let (code, errors, warnings) = check(config);
        assert_eq!((code, &errors[..]), (Some(0), &[][..]));
        let found = warnings.iter().any(|text| text.starts_with(&format!("{key}: ")) && text.contains(words));
        assert!(found, "{key}: {words}: {warnings:?}");
    };
    warned(&write("", ""), "camera.source", "nothing is captured");
    warned(&write("", "[camera]\nsource = \"nowhere\""), "camera.source", "is no folder");
    warned(&write("", "[camera]\nsource = \"http://a:b@cam/\""), "camera.source", "chmod 600");
    fs::write(in_folder("password"), "secret\n").unwrap();
    let config = write("", "[mqtt]\npassword_file = \"password\"\n[camera]\nsource = \"http://a:b@cam/\"");
    fs::set_permissions(in_folder("password"), fs::Permissions::from_mode(0o644)).unwrap();
    warned(&config, "mqtt.password_file", "chmod 600");
    for file in [&in_folder("password"), &config] {
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    }
    let (_, errors, warnings) = check(&config);
    assert!(errors.is_empty() && !warnings.iter().any(|text| text.contains("chmod")), "{warnings:?}");
    // Where there is a current slot the base does not matter.
    fs::create_dir_all(in_folder("state/models")).unwrap();
    fs::copy(bundled(), in_folder("state/models/current.onnx")).unwrap();
    warned(&write("", "[model]\nbase = \"nowhere.onnx\""), "model.base", "the current slot is used");
    // Looking leaves nothing behind.
    let config = write("state_dir = \"other/state\"\n", "");
    assert_eq!(check(&config).0, Some(0));
    assert!(!in_folder("other").exists());
}

#[test]
fn show_tells_what_holds_and_why() {
    let folder = tempfile::tempdir().unwrap();
    let config = write(
        folder.path(),
        "device = \"barn\"\n",
        "[camera]\nfps = 2\nsource = \"http://me:s3cret@cam/shot?key=s3cret\"\n",
    );
    let show = |more: &[&str]| {
        let mut command = program();
        command.args(["config", "show", "--config"]).arg(&config).args(more);
        command.env("GRAFTD_CAMERA__FPS", "5").env("GRAFTD_STATE_DIR", "/from/environment");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(!text(&output.stdout).contains("s3cret") && !text(&output.stderr).contains("s3cret"));
        output
    };
    let keys = json(&show(&["--json", "--state-dir", "/from/option"]))["keys"].clone();
    for (key, value, from) in [
        ("state_dir", Value::from("/from/option"), "command line"),
        ("camera.fps", 5.0.into(), "environment"),
        ("device", "barn".into(), "file"),
        ("camera.source", "http://cam/shot?…".into(), "file"),
        ("train.epochs", 40.into(), "default"),
        ("mqtt.root", Value::Null, "default"),
    ] {
        assert_eq!((&keys[key]["value"], &keys[key]["from"]), (&value, &from.into()), "{key}");
    }
    assert_eq!(
        (&keys["device"]["line"], &keys["device"]["file"]),
        (&2.into(), &config.to_str().unwrap().into())
    );
    assert_eq!(keys["camera.fps"]["variable"], "GRAFTD_CAMERA__FPS");
    // For people it is TOML, which says the same where it is read again.
    let shown = text(&show(&[]).stdout);
    assert!(
        shown
            .lines()
            .any(|line| line.starts_with("camera.fps = 5.0 ") && line.ends_with("# GRAFTD_CAMERA__FPS"))
    );
    let again = folder.path().join("again.toml");
    fs::write(&again, &shown).unwrap();
    let output = program().args(["config", "show", "--json", "--config"]).arg(&again).output().unwrap();
    let same = json(&output)["keys"].clone();
    assert_eq!(
        (&same["camera.fps"]["value"], &same["mqtt.broker"]["value"]),
        (&5.0.into(), &keys["mqtt.broker"]["value"])
    );
}

#[test]
fn a_slip_in_a_variable_stops_the_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let config = write(folder.path(), "", "");
    let mut command = program();
    command.args(["run", "--config"]).arg(&config).env("GRAFTD_MQTT__BROKRE", "mqtt://box");
    let output = command.output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert_eq!(
        said,
        "graftd: GRAFTD_MQTT__BROKRE: there is no such key; did you mean GRAFTD_MQTT__BROKER?\n"
    );
    assert!(!folder.path().join("state").exists());
    // A device's store is worked on under the same variables.
    let mut command = program();
    command.args(["samples", "list", "--state-dir"]).arg(folder.path()).args(["--config", "nowhere.toml"]);
    let output = command.env("GRAFTD_STORE__MAX_MB", "0").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("GRAFTD_STORE__MAX_MB: store.max_mb: 0 keeps nothing"));
}
