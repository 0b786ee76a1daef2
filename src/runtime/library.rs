//! Where a libonnxruntime may lie.

use std::path::{Path, PathBuf};

/// Environment variables that name the file, the first that is set wins.
const VARIABLES: [&str; 2] = ["GRAFTD_ORT_LIB", "ORT_DYLIB_PATH"];
/// What distributions, the wheel and the fetch script call it.
const NAMES: [&str; 2] = ["libonnxruntime.so", "libonnxruntime.so.1"];

/// What the search came to.
pub(super) enum Found {
    /// Somebody named this file: it must work.
    Named(PathBuf),
    /// It was found in a usual place.
    Here(PathBuf),
    /// It is nowhere; the text says where it was looked for.
    Nowhere(String),
}

/// Looks for the library: configuration, environment, `lib` beside the binary or its `target`
/// folder, the current folder's `lib`, then the system's folders.
pub(super) fn find(configured: Option<&Path>) -> Found {
    if let Some(path) = configured {
        return Found::Named(path.to_owned());
    }
    for variable in VARIABLES {
        if let Some(path) = std::env::var_os(variable).filter(|path| !path.is_empty()) {
            return Found::Named(path.into());
        }
    }
    let folders = folders();
    for folder in &folders {
        if let Some(path) = NAMES.iter().map(|name| folder.join(name)).find(|path| path.is_file()) {
            return Found::Here(path);
        }
    }
    let folders: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
    Found::Nowhere(format!("neither GRAFTD_ORT_LIB is set nor is it in {}", folders.join(", ")))
}

fn folders() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    if let Ok(binary) = std::env::current_exe() {
        // `lib` beside the binary serves an unpacked release, `lib` above `target` a checkout.
        let parents = binary.ancestors().skip(1).take(4);
        folders.extend(parents.map(|parent| parent.join("lib")).filter(|folder| folder.is_dir()));
    }
    folders.push(PathBuf::from("lib"));
    let triple = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    folders.extend(["/usr/lib/graftd", "/usr/local/lib", &triple, "/usr/lib"].map(PathBuf::from));
    folders
}
