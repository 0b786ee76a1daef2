//! Where the bundled files lie: the base and the demo's pictures.

use std::env;
use std::path::{Path, PathBuf};

/// A folder with `models/base.onnx` and `demo/treecrowns`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share(PathBuf);

/// The bundled files are nowhere.
#[derive(Debug, thiserror::Error)]
#[error(
    "models/base.onnx and demo/treecrowns are in none of {}; run graftd from its checkout, or name the folder \
     that holds them in GRAFTD_SHARE", searched.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
)]
pub struct ShareError {
    searched: Vec<PathBuf>,
}

impl Share {
    /// Looks in `GRAFTD_SHARE`, here, beside the program and above it (a checkout's `target`), and in
    /// `/usr/share/graftd`.
    ///
    /// # Errors
    /// When the files are in none of these.
    pub fn find() -> Result<Share, ShareError> {
        let mut searched = Vec::new();
        match env::var_os("GRAFTD_SHARE") {
            // Who names a folder wants that one and no other.
            Some(named) => searched.push(PathBuf::from(named)),
            None => {
                searched.extend(env::current_dir());
                let program = env::current_exe().unwrap_or_default();
                searched.extend(program.ancestors().skip(1).take(4).map(Path::to_owned));
                searched.push("/usr/share/graftd".into());
            }
        }
        searched.dedup();
        let whole = |folder: &&PathBuf| {
            let share = Share((*folder).clone());
            share.base().is_file() && share.data_yaml().is_file()
        };
        match searched.iter().find(whole) {
            Some(folder) => Ok(Share(folder.clone())),
            None => Err(ShareError { searched }),
        }
    }

    /// The bundled base.
    pub fn base(&self) -> PathBuf {
        self.0.join("models/base.onnx")
    }

    /// The demo's data set.
    pub fn data_yaml(&self) -> PathBuf {
        self.0.join("demo/treecrowns/data.yaml")
    }
}
