//! Writes what a package needs and the code knows: man pages, completions for shells, the commented configuration.
//!
//! `cargo run --example pages -- FOLDER`; `make deb` runs it. An example and not a subcommand, so that a board's
//! binary does not carry it.

mod pages;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1) else {
        eprintln!("usage: pages FOLDER");
        return ExitCode::from(2);
    };
    match pages::write(Path::new(&folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pages: {}: {error}", Path::new(&folder).display());
            ExitCode::FAILURE
        }
    }
}
