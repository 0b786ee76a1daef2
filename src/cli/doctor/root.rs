//! The machine's file tree as the kernel and the system show it.

use std::fs;
use std::path::{Path, PathBuf};

/// Where the tree begins: at `/`, or in a folder that holds another machine's.
pub(super) struct Root(PathBuf);

impl Root {
    pub fn new(folder: &Path) -> Self {
        Root(folder.to_owned())
    }

    /// Whether it is this machine's own, which may also be asked by other ways than files.
    pub fn is_here(&self) -> bool {
        self.0 == Path::new("/")
    }

    /// Where `/proc/…`, `/sys/…` and the like lie.
    pub fn path(&self, absolute: &str) -> PathBuf {
        self.0.join(absolute.trim_start_matches('/'))
    }

    /// What a file says, without the zeros and line ends behind it; none where there is no such file.
    pub fn text(&self, absolute: &str) -> Option<String> {
        let bytes = fs::read(self.path(absolute)).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        Some(text.trim_end_matches(['\0', '\n', ' ']).to_owned())
    }

    /// The names in a folder that begin so, in order.
    pub fn names(&self, absolute: &str, prefix: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(absolute)).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.filter(|name| name.starts_with(prefix)).collect();
        names.sort();
        names
    }
}
