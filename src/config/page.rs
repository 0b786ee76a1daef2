//! `docs/configuration.md`: every key, as a page.

use super::Config;
use super::environment;
use super::keys::{KEYS, Key, TABLES};
use super::values;

const HEAD: &str = "\
# The configuration

One TOML file, `/etc/graftd/graftd.toml` unless `--config` names another. Every key has a default, so an empty file is a configuration. A key that graftd does not know is an error. Relative paths are relative to the file's folder.

- `graftd init` looks at the machine and writes the file, with every key and its meaning in comments. It never writes over one that is there, unless `--force` says so.
- `graftd config check [FILE]` names all that is wrong, with file, line and what to write, and looks at what the file names: the base, folders, the password's file, the camera, the library. Exit code 2 when something is wrong; what may be meant so is a warning.
- `graftd config show` prints what holds, and where each value comes from: file and line, variable, option, what was set, or default. Passwords are left out.

What wins: an option of the command line, then an environment variable, then what was set from afar (`set` over MQTT or the API, kept in the state's `set.json`), then the file, then the default. The variable of `camera.fps` is `GRAFTD_CAMERA__FPS`: capitals, and two underscores between table and key. Its value is the text itself or TOML (`GRAFTD_TRAIN__CPUS='[2, 3]'`). A variable with two underscores that is no key is an error.

*Live* says whether the key can be applied while the daemon runs; the others need its restart. *Set* ones can also be set from afar.
";

/// The page, as it stands in `docs/configuration.md`.
pub fn page() -> String {
    let defaults = values::of(&Config::default());
    let mut page = HEAD.to_owned();
    for (table, about) in TABLES {
        match *table {
            "" => page += "\n## Above all tables\n",
            table => page += &format!("\n## `[{table}]`\n{about}\n"),
        }
        page += "\n| key | default | live | meaning |\n|---|---|---|---|\n";
        for key in KEYS.iter().filter(|key| key.parted().0 == *table) {
            let default = match defaults.get(key.name) {
                Some(value) if !value.is_null() => format!("`{}`", values::as_toml(value)),
                _ => "none".to_owned(),
            };
            page += &row(key, &default);
        }
    }
    let example = "select.random_share";
    page += &format!("\nA key's variable, once more: `{example}` is `{}`.\n", environment::variable(example));
    page
}

fn row(key: &Key, default: &str) -> String {
    let name = key.parted().1;
    let live = match (key.live, key.is_settable()) {
        (_, true) => "yes, set",
        (true, false) => "yes",
        (false, false) => "no",
    };
    let says = match key.instead {
        Some(instead) => format!("An older name of `{instead}`. {}", key.says),
        None => key.says.to_owned(),
    };
    format!("| `{name}` | {default} | {live} | {} |\n", says.replace('|', "\\|"))
}
