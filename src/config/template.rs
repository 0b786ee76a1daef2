//! The commented file that `graftd init` writes: every key with its meaning and its default.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Config;
use super::keys::{KEYS, TABLES};
use super::values;

/// Longest line of a comment, characters.
const WIDTH: usize = 100;

/// What is to stand in the file that is no default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Chosen {
    /// Sentences for the head of the file.
    pub notes: Vec<String>,
    /// Values by key, and why.
    pub values: BTreeMap<&'static str, (Value, String)>,
}

/// The commented file. Defaults stand behind a `#`, so that they follow those of later versions.
pub fn template(chosen: &Chosen) -> String {
    let defaults = values::of(&Config::default());
    let mut file = String::new();
    comment(
        &mut file,
        "graftd's configuration. A key behind a # has the value that is shown, or none where that is said; take the \
         # away to change it.",
    );
    comment(
        &mut file,
        "`graftd config check` tells what is wrong, `graftd config show` what holds and why. A variable overrides a \
         key: GRAFTD_CAMERA__FPS is fps of [camera]. Relative paths are relative to this file's folder.",
    );
    for note in &chosen.notes {
        comment(&mut file, note);
    }
    for (table, about) in TABLES {
        file.push('\n');
        if !table.is_empty() {
            comment(&mut file, about);
            file += &format!("[{table}]\n");
        }
        let keys = KEYS.iter().filter(|key| key.parted().0 == *table && key.instead.is_none());
        for key in keys {
            let name = key.parted().1;
            comment(&mut file, key.says);
            if let Some((value, why)) = chosen.values.get(key.name) {
                comment(&mut file, why);
                file += &format!("{name} = {}\n", values::as_toml(value));
                continue;
            }
            match defaults.get(key.name) {
                Some(value) if !value.is_null() => file += &format!("#{name} = {}\n", values::as_toml(value)),
                _ => {
                    comment(&mut file, "None unless it is set, as in:");
                    file += &format!("#{name} = {}\n", key.sample);
                }
            }
        }
    }
    file
}

fn comment(file: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            *file += &line;
            file.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line += word;
    }
    if line.len() > 1 {
        *file += &line;
        file.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_text;
    use serde_json::json;

    /// The file with the `#` taken away from every key.
    fn uncommented(file: &str) -> String {
        let lines = file.lines().map(|line| match line.strip_prefix('#') {
            Some(key) if !key.starts_with(' ') && !key.is_empty() => key,
            _ => line,
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_commented_file_changes_nothing_and_says_the_defaults() {
        let file = template(&Chosen::default());
        assert_eq!(load_text(&file).expect("a configuration"), Config::default());
        assert!(file.lines().all(|line| line.chars().count() <= WIDTH + 20), "{file}");
        let mut all = uncommented(&file);
        // The samples of TLS belong to another broker than the default.
        all = all.replace("broker = \"mqtt://", "broker = \"mqtts://");
        if !cfg!(feature = "v4l2") {
            all = all.replace("/dev/video0", "test");
        }
        let all = load_text(&all).expect("a configuration");
        let (all, defaults) = (values::of(&all), values::of(&Config::default()));
        for key in KEYS.iter().filter(|key| key.instead.is_none()) {
            let line = format!("\n#{} = ", key.parted().1);
            assert!(file.contains(&line), "{}", key.name);
            if key.name == "mqtt.broker" {
                continue;
            }
            if !defaults[key.name].is_null() {
                assert_eq!(all[key.name], defaults[key.name], "{}", key.name);
            } else {
                assert!(!all[key.name].is_null(), "the sample of {} is none of its values", key.name);
            }
        }
    }

    #[test]
    fn what_is_chosen_holds() {
        let values = BTreeMap::from([
            ("device", (json!("barn"), "The name of this machine.".to_owned())),
            ("camera.fps", (json!(2.5), String::new())),
        ]);
        let file = template(&Chosen { notes: vec!["Written by hand.".into()], values });
        let config = load_text(&file).expect("a configuration");
        assert_eq!((config.device.as_str(), config.camera.fps), ("barn", 2.5));
        assert!(file.contains("# Written by hand.\n"), "{file}");
        assert!(file.contains("# The name of this machine.\ndevice = \"barn\"\n"), "{file}");
    }
}
