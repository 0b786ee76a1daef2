//! Files, variables, and what is said of those that are wrong.

use std::fs;

use crate::capture::SourceSpec;

use super::keys::{KEYS, TABLES};
use super::*;

/// Loads a file with this text under these variables.
pub(super) fn load(text: &str, variables: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("graftd.toml");
    fs::write(&path, text).expect("a file");
    Loaded::read(Some(&path), variables.iter().map(|(name, value)| (name.into(), value.into())))
}

/// The faults as they are printed, without the folder.
fn faults(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    match load(text, variables) {
        Err(ConfigError::Faults(faults)) => {
            let said = faults.iter().map(ToString::to_string);
            said.map(|text| text.find("graftd.toml").map_or(text.clone(), |at| text[at..].into())).collect()
        }
        other => panic!("no faults: {other:?}"),
    }
}

#[test]
fn an_empty_file_is_the_default() {
    assert_eq!(load_text("").expect("a configuration"), Config::default());
}

#[test]
fn what_is_written_is_read_back() {
    let text = toml::to_string(&Config::default()).expect("TOML");
    assert_eq!(load_text(&text).expect("a configuration"), Config::default());
}

/// The struct and the table of keys are the same.
#[test]
fn every_key_is_explained() {
    let known = values::of(&Config::default());
    for name in known.keys() {
        assert!(
            keys::find(name).is_some(),
            "{name} is in no line of KEYS in src/config/keys.rs: add `key({name:?}, \"what it means\")`, .live() if \
             the daemon can apply it while it runs, .sample(\"…\") if its default is none, and .hides(…) if it is a \
             secret; a new table's name goes into TABLES. Then `cargo run -- config page > docs/configuration.md`."
        );
    }
    for (index, key) in keys::KEYS.iter().enumerate() {
        let name = key.name;
        assert!(
            known.contains_key(name),
            "{name} in src/config/keys.rs is no key of Config: remove it there"
        );
        assert!(keys::is_table(key.parted().0), "add the table of {name} to TABLES in src/config/keys.rs");
        assert!(!keys::is_table(name), "{name} is a table too");
        assert!(!keys::KEYS[..index].contains(key), "{name} is there twice");
        assert!(!key.says.is_empty());
        let has_default = !known[name].is_null();
        assert!(
            has_default || !key.sample.is_empty(),
            "{name} has no default: show a value with .sample(\"…\")"
        );
        assert!(key.instead.is_none_or(|instead| keys::find(instead).is_some()));
    }
    // Each key can be told from others in the environment too.
    let mut variables: Vec<String> = keys::KEYS.iter().map(|key| environment::variable(key.name)).collect();
    variables.sort();
    variables.dedup();
    assert_eq!(variables.len(), keys::KEYS.len());
}

#[test]
fn an_unknown_key_is_told_with_its_place_and_what_was_meant() {
    for (text, said) in [
        (
            "\n[camera]\n  fsp = 2.0\n",
            "graftd.toml:3:3: camera.fsp: [camera] has no such key; did you mean `fps`?",
        ),
        (
            "[train]\nepoch = 3",
            "graftd.toml:2:1: train.epoch: [train] has no such key; did you mean `epochs`?",
        ),
        (
            "[mqtt]\nepochs = 3",
            "graftd.toml:2:1: mqtt.epochs: [mqtt] has no such key; it belongs below [train]",
        ),
        (
            "[mqtt]\nepoch = 3",
            "graftd.toml:2:1: mqtt.epoch: [mqtt] has no such key; did you mean `epochs`, below [train]?",
        ),
        (
            "[mqtt]\nstate_dir = \"x\"",
            "graftd.toml:2:1: mqtt.state_dir: [mqtt] has no such key; it belongs above all tables",
        ),
        (
            "fps = 1",
            "graftd.toml:1:1: fps: the place above all tables has no such key; it belongs below [camera]",
        ),
        ("[camra]\nfps = 1", "graftd.toml:1:2: camra: there is no such table; did you mean `[camera]`?"),
        ("camra.fps = 1", "graftd.toml:1:1: camra: there is no such table; did you mean `[camera]`?"),
        (
            "camera = \"test\"",
            "graftd.toml:1:1: camera: this is a table; write [camera] and its keys below that",
        ),
        (
            "[[camera]]\nfps = 1",
            "graftd.toml:1:3: camera: this is a table; write [camera] and its keys below that",
        ),
    ] {
        assert_eq!(faults(text, &[]), [said], "{text}");
    }
    let far = faults("[detect]\nzoological = 1", &[]).remove(0);
    assert!(far.ends_with("its keys are confidence, iou, max_latency_ms"), "{far}");
    let far = faults("[zoo]\nkeeper = 1", &[]).remove(0);
    assert!(far.contains("there are [model], [camera]"), "{far}");
}

#[test]
fn a_wrong_type_is_told_with_its_place_in_every_table() {
    for (text, words) in [
        ("device = 7", "graftd.toml:1:1: device: "),
        ("[camera]\n\nfps = \"fast\"", "graftd.toml:3:1: camera.fps: "),
        ("[train]\nidle = 1", "graftd.toml:2:1: train.idle: "),
        ("[train]\nepochs = -1", "graftd.toml:2:1: train.epochs: "),
        ("[train]\nseed = 1\nscope = \"neck\"", "graftd.toml:3:1: train.scope: "),
        ("[camera]\nsource = \"ftp://cam\"", "graftd.toml:2:1: camera.source: "),
        ("[runtime]\nbackbone = \"gpu\"", "graftd.toml:2:1: runtime.backbone: "),
        ("[mqtt.broker]\nhost = \"x\"", "graftd.toml:1:7: mqtt.broker: "),
    ] {
        let [said] = &faults(text, &[])[..] else { panic!("{text}") };
        assert!(said.starts_with(words), "{said}");
        assert!(said.contains("; write it as in `"), "{said}");
    }
}

#[test]
fn what_is_no_toml_is_told_with_its_place() {
    let said = faults("[camera]\nfps = 1\nfps = 2\n", &[]).remove(0);
    assert!(said.starts_with("graftd.toml:3:1: this is no TOML: ") && said.contains("duplicate"), "{said}");
    let said = faults("[camera]\nfps =\nwidth = ?\n", &[]);
    assert!(said[0].starts_with("graftd.toml:2:") && said.len() > 1, "{said:?}");
}

#[test]
fn all_faults_are_told_at_once_as_they_stand_in_the_file() {
    let text = "devise = \"x\"\n[camera]\nfps = 0\nwidth = \"wide\"\n[detect]\niou = 2\n[train]\nviews = 0\n";
    let said = faults(text, &[("GRAFTD_MQTT__MAX_PACKET", "7"), ("GRAFTD_MQTT__ROTO", "x")]);
    let places: Vec<&str> = said.iter().map(|text| text.split(": ").next().unwrap_or_default()).collect();
    assert_eq!(
        places,
        [
            "graftd.toml:1:1",
            "graftd.toml:3:1",
            "graftd.toml:4:1",
            "graftd.toml:6:1",
            "graftd.toml:8:1",
            "GRAFTD_MQTT__ROTO",
            "GRAFTD_MQTT__MAX_PACKET"
        ],
        "{said:#?}"
    );
    let summary = load(text, &[]).expect_err("faults").to_string();
    assert!(summary.contains("(and 4 more; `graftd config check` lists them)"), "{summary}");
}

#[test]
fn a_value_out_of_range_is_named_with_its_place() {
    for (text, key) in [
        ("device = \"a/b\"", "graftd.toml:1:1: device"),
        ("[mqtt]\nroot = \"a/#\"", "graftd.toml:2:1: mqtt.root"),
        ("[camera]\nfps = 0.0", "graftd.toml:2:1: camera.fps"),
        ("[detect]\nconfidence = 1.5", "graftd.toml:2:1: detect.confidence"),
        ("[select]\nunsure_from = 0.8", "graftd.toml:2:1: select.unsure_from"),
        // What is wrong is a default, beside what was written.
        ("[select]\nunsure_to = 0.05", "graftd.toml: select.unsure_from"),
        ("[train]\nepochs = 0", "graftd.toml:2:1: train.epochs"),
        ("[train]\nlr = -1", "graftd.toml:2:1: train.lr"),
        ("[store]\nmax_mb = 0", "graftd.toml:2:1: store.max_mb"),
    ] {
        let said = faults(text, &[]);
        assert!(said.len() == 1 && said[0].starts_with(&format!("{key}: ")), "{said:?}");
    }
}

#[test]
fn paths_are_relative_to_the_file() {
    let config = load_text("state_dir = \"state\"\n[camera]\nsource = \"/frames\"").expect("a configuration");
    assert!(config.state_dir.is_absolute() && config.state_dir.ends_with("state"));
    assert_eq!(config.camera.source(), Some(SourceSpec::Folder("/frames".into())));
    // The older key.
    let loaded = load("[camera]\nfolder = \"frames\"", &[]).expect("a configuration");
    let Some(SourceSpec::Folder(path)) = loaded.config.camera.source() else { panic!("{loaded:?}") };
    assert!(path.is_absolute() && path.ends_with("frames"));
    assert!(matches!(loaded.origin("camera.source"), Origin::File { at: Some((2, 1)), .. }));
    let both = load_text("[camera]\nfolder = \"frames\"\nsource = \"test\"").expect_err("two sources");
    assert!(both.to_string().contains("camera.folder: "), "{both}");
}

#[test]
fn variables_win_over_the_file_and_are_typed_as_it_is() {
    let file = "device = \"barn\"\n[camera]\nfps = 2.0\nfolder = \"frames\"\n";
    let loaded = load(
        file,
        &[
            ("GRAFTD_CAMERA__FPS", "5"),
            ("GRAFTD_CAMERA__SOURCE", "test"),
            ("GRAFTD_MQTT__BROKER", "mqtt://me@box:1884"),
            ("GRAFTD_TRAIN__CPUS", "[0, 1]"),
            ("GRAFTD_TRAIN__IDLE", "false"),
            ("GRAFTD_TRAIN__LR", "auto"),
            ("GRAFTD_MQTT__ROOT", "7"),
            ("GRAFTD_STATE_DIR", "state"),
        ],
    )
    .expect("a configuration");
    let config = &loaded.config;
    assert_eq!((config.device.as_str(), config.camera.fps), ("barn", 5.0));
    assert_eq!(config.camera.source(), Some(SourceSpec::Test));
    assert_eq!(config.mqtt.broker.to_string(), "mqtt://me@box:1884");
    assert_eq!((config.train.guest.cpus.clone(), config.train.guest.idle), (vec![0, 1], false));
    assert_eq!(config.train.options.lr, crate::train::Rate::Auto);
    // A number where a text belongs is a text.
    assert_eq!(config.mqtt.root.as_deref(), Some("7"));
    assert!(config.state_dir.is_absolute());
    assert_eq!(*loaded.origin("camera.fps"), Origin::Variable("GRAFTD_CAMERA__FPS".into()));
    assert_eq!(*loaded.origin("camera.source"), Origin::Variable("GRAFTD_CAMERA__SOURCE".into()));
    assert!(matches!(loaded.origin("device"), Origin::File { at: Some((1, 1)), .. }));
    assert_eq!(*loaded.origin("camera.width"), Origin::Default);
    assert_eq!(loaded.warnings, []);
}

#[test]
fn wrong_variables_are_named() {
    for (name, value, words) in [
        ("GRAFTD_CAMERA__FPS", "fast", "GRAFTD_CAMERA__FPS: camera.fps: "),
        ("GRAFTD_CAMERA__FPS", "0", "GRAFTD_CAMERA__FPS: camera.fps: 0 is no frame rate"),
        ("GRAFTD_CAMERA__FPS", "[1]", "GRAFTD_CAMERA__FPS: camera.fps: "),
        (
            "GRAFTD_CAMERA__FSP",
            "1",
            "GRAFTD_CAMERA__FSP: there is no such key; did you mean GRAFTD_CAMERA__FPS?",
        ),
        (
            "GRAFTD_CAMRA__FPS",
            "1",
            "GRAFTD_CAMRA__FPS: there is no such key; did you mean GRAFTD_CAMERA__FPS?",
        ),
        (
            "GRAFTD_TRAIN__FPS",
            "1",
            "GRAFTD_TRAIN__FPS: there is no such key; did you mean GRAFTD_CAMERA__FPS?",
        ),
        ("GRAFTD_ZOO__KEEPER", "1", "GRAFTD_ZOO__KEEPER: there is no such table; there are [model]"),
        ("GRAFTD_MQTT", "x", "GRAFTD_MQTT: this is a table; name a key of it, as GRAFTD_MQTT__BROKER does"),
    ] {
        let said = faults("", &[(name, value)]);
        assert!(said.len() == 1 && said[0].starts_with(words), "{said:?}");
    }
}

#[test]
fn other_variables_are_left_alone_and_slips_are_warned_of() {
    let others = [
        "GRAFTD_ORT_LIB",
        "GRAFTD_SHARE",
        "GRAFTD_LOG",
        "GRAFTD_GOLDENS",
        "GRAFTD_STORE_KILLS",
        "GRAFTD_KILLS",
        "GRAFTD_TEST_WRITER",
        "GRAFTD_EXPORTS",
        "GRAFTD_PORT",
        "GRAFTD_SERVICE_HOST",
        "graftd_device",
        "HOME",
    ];
    let loaded = load("", &others.map(|name| (name, "x"))).expect("a configuration");
    assert_eq!((loaded.warnings, loaded.config), (vec![], Config::default()));
    for (name, meant) in [
        ("GRAFTD_CAMERA_FPS", "GRAFTD_CAMERA__FPS"),
        ("GRAFTD_STATEDIR", "GRAFTD_STATE_DIR"),
        ("GRAFTD_DEVIC", "GRAFTD_DEVICE"),
    ] {
        let loaded = load("", &[(name, "x")]).expect("a configuration");
        let [warning] = &loaded.warnings[..] else { panic!("{name}: {:?}", loaded.warnings) };
        assert_eq!(warning.to_string(), format!("{name}: this is not looked at; did you mean {meant}?"));
    }
}

#[test]
fn no_secret_is_shown() {
    let url = "http://me:s3cret@cam/shot.jpg?key=s3cret";
    let shown = |loaded: &Loaded| format!("{:?}", loaded.values());
    let loaded = load(&format!("[camera]\nsource = \"{url}\""), &[]).expect("a configuration");
    assert!(!shown(&loaded).contains("s3cret") && shown(&loaded).contains("http://cam/shot.jpg"));
    // Nor is one that stands where none belongs.
    for text in [
        "[mqtt]\nbroker = \"mqtt://me:s3cret@box\"",
        "[camera]\nsource = \"ftp://me:s3cret@cam\"",
        "[camera]\nfps = \"http://me:s3cret@cam\"",
    ] {
        let said = faults(text, &[]);
        assert!(!said[0].contains("s3cret"), "{said:?}");
    }
    for name in ["GRAFTD_MQTT__BROKER", "GRAFTD_CAMERA__FPS"] {
        let said = faults("", &[(name, "mqtt://me:s3cret@box")]);
        assert!(!said[0].contains("s3cret"), "{said:?}");
    }
}

proptest::proptest! {
    /// Whatever stands in a file or a variable is taken or refused, and what is refused is told.
    #[test]
    fn no_text_is_too_strange(
        lines in proptest::collection::vec((0..TABLES.len(), 0..KEYS.len(), 0..VALUES.len(), 0..7_u8), 0..12),
        noise in "\\PC{0,40}",
    ) {
        let mut text = String::new();
        for (table, key, value, form) in lines {
            let (table, key, value) = (TABLES[table].0, KEYS[key].name, VALUES[value]);
            let last = key.rsplit('.').next().unwrap_or(key);
            text += &match form {
                0 => format!("[{table}]\n"),
                1 => format!("[{key}]\n"),
                2 => format!("[[{table}]]\n"),
                3 => format!("{key} = {value}\n"),
                4 => format!("{last} = {{ {last} = {value} }}\n"),
                5 => format!("{last} = {value}\n"),
                _ => format!("{noise}\n"),
            };
        }
        if let Err(ConfigError::Faults(faults)) = load(&text, &[("GRAFTD_TRAIN__LR", &noise)]) {
            proptest::prop_assert!(!faults.is_empty());
        }
    }
}

const VALUES: [&str; 8] =
    ["1", "-0.5", "\"x\"", "true", "[1, \"a\"]", "1979-05-27", "nan", "18446744073709551615"];
