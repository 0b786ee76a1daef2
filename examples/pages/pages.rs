//! The files that are made from the code.

use std::fs;
use std::io;
use std::path::Path;

use clap_complete::Shell;
use graftd::config::{Chosen, template};

/// Shells, and what each calls the file that it loads by itself.
pub const COMPLETIONS: [(Shell, &str); 3] =
    [(Shell::Bash, "graftd.bash"), (Shell::Zsh, "_graftd"), (Shell::Fish, "graftd.fish")];

/// Writes `man/*.1`, `completions/*` and `graftd.toml` into this folder.
///
/// # Errors
/// When that can't be written.
pub fn write(folder: &Path) -> io::Result<()> {
    let (man, completions) = (folder.join("man"), folder.join("completions"));
    fs::create_dir_all(&man)?;
    fs::create_dir_all(&completions)?;
    clap_mangen::generate_to(graftd::cli::command(), &man)?;
    for (shell, name) in COMPLETIONS {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut graftd::cli::command(), "graftd", &mut text);
        fs::write(completions.join(name), text)?;
    }
    let notes = [
        "This file came with the package. `graftd init --force` writes one for this machine: its name, its camera, \
         its broker.",
        "The first start makes slot 0 of model.base, and later starts go on with the current slot: name your own \
         model before that. The bundled one finds trees.",
    ];
    let chosen = Chosen { notes: notes.map(String::from).to_vec(), ..Chosen::default() };
    fs::write(folder.join("graftd.toml"), template(&chosen))
}
