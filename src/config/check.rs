//! What a configuration names on this machine: whether it is there and can be used.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::capture::SourceSpec;
use crate::onnx::Model;
use crate::runtime::{self, RuntimeError, RuntimeKind};
use crate::yolo::export::Export;

use super::load::Loaded;
use super::origin::{Fault, Origin};

/// What a look at the machine came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// The daemon will not start.
    pub errors: Vec<Fault>,
    /// It will, and something may not be as it is meant.
    pub warnings: Vec<Fault>,
}

/// Looks at what the configuration names. Nothing is started and nothing is left behind.
pub fn check_machine(loaded: &Loaded) -> Findings {
    let mut look = Look { loaded, found: Findings::default() };
    look.found.warnings.extend(loaded.warnings.iter().cloned());
    look.state_dir();
    look.base();
    look.camera();
    look.password();
    look.library();
    look.found
}

struct Look<'a> {
    loaded: &'a Loaded,
    found: Findings,
}

impl Look<'_> {
    fn error(&mut self, key: &str, message: impl Into<String>) {
        let fault = self.fault(key, message.into());
        self.found.errors.push(fault);
    }

    fn warn(&mut self, key: &str, message: impl Into<String>) {
        let fault = self.fault(key, message.into());
        self.found.warnings.push(fault);
    }

    fn fault(&self, key: &str, message: String) -> Fault {
        let place = match (self.loaded.origin(key), &self.loaded.file) {
            (Origin::Default, Some(path)) => Origin::File { path: path.clone(), at: None },
            (origin, _) => origin.clone(),
        };
        Fault { place, key: Some(key.to_owned()), message }
    }

    fn state_dir(&mut self) {
        let folder = &self.loaded.config.state_dir;
        if let Err(reason) = writable(folder) {
            let advice = "choose another folder, or check as the user that the daemon runs as";
            self.error("state_dir", format!("{}: {reason}; {advice}", folder.display()));
        }
    }

    /// The base matters until there is a current slot.
    fn base(&mut self) {
        let config = &self.loaded.config;
        let path = &config.model.base;
        let words = match Model::read(path).map_err(Into::into).and_then(Export::new) {
            Ok(_) => return,
            Err(error) if path.exists() => format!("{}: {error}", path.display()),
            Err(_) => {
                format!("{}: there is no such file; name an ONNX export of a YOLO detector", path.display())
            }
        };
        if config.state_dir.join("models/current.onnx").exists() {
            self.warn("model.base", format!("{words} (the current slot is used)"));
        } else {
            self.error("model.base", words);
        }
    }

    fn camera(&mut self) {
        match self.loaded.config.camera.source() {
            #[cfg(feature = "v4l2")]
            Some(SourceSpec::Device(path)) if !path.exists() => {
                let advice =
                    "plug it in, or look for its name in /dev/v4l/by-id; the daemon will wait for it";
                self.warn("camera.source", format!("{} is not there; {advice}", path.display()));
            }
            Some(SourceSpec::Folder(path)) if !path.is_dir() => {
                let words = format!("{} is no folder; the daemon will wait for it", path.display());
                self.warn("camera.source", words);
            }
            Some(_) => {}
            None => self.warn("camera.source", "none is set: nothing is captured"),
        }
        let holds_password = self.loaded.values().iter().any(|(key, shown, _)| {
            key.name == "camera.source" && {
                let written =
                    self.loaded.config.camera.source().and_then(|spec| serde_json::to_value(spec).ok());
                written.is_some_and(|written| written != *shown)
            }
        });
        if let (true, Origin::File { path, .. }) = (holds_password, self.loaded.origin("camera.source"))
            && read_by_all(path)
        {
            let words =
                format!("it holds a password and every user may read it; chmod 600 {}", path.display());
            self.warn("camera.source", words);
        }
    }

    fn password(&mut self) {
        let Some(path) = &self.loaded.config.mqtt.password_file else { return };
        match fs::read_to_string(path) {
            Err(error) => {
                let words = format!("{}: {error}; its first line must be the password", path.display());
                self.error("mqtt.password_file", words);
            }
            Ok(text) if text.lines().next().is_none_or(str::is_empty) => {
                let words = format!("{}: the first line is empty; it must be the password", path.display());
                self.error("mqtt.password_file", words);
            }
            Ok(_) if read_by_all(path) => {
                let words = format!("every user may read the password; chmod 600 {}", path.display());
                self.warn("mqtt.password_file", words);
            }
            Ok(_) => {}
        }
    }

    fn library(&mut self) {
        let config = &self.loaded.config.runtime;
        let kinds = [config.backbone, config.training];
        if kinds == [RuntimeKind::Tract; 2] {
            return;
        }
        let Err(error) = runtime::library(config.library.as_deref()) else { return };
        // As `runtime::open` does it.
        let gone_without = matches!(error, RuntimeError::NoLibrary { .. } | RuntimeError::NotBuilt(_));
        if gone_without && !kinds.contains(&RuntimeKind::Ort) && cfg!(feature = "tract") {
            self.warn("runtime.library", format!("{error}; tract is taken, which is slower"));
        } else {
            self.error("runtime.library", error.to_string());
        }
    }
}

/// Whether this user can make and fill a folder.
///
/// # Errors
/// Why not.
pub fn writable(folder: &Path) -> Result<(), String> {
    // A relative path's last ancestor is empty, and means this folder.
    let there = folder.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    if !there.is_dir() {
        return Err(format!("{} is no folder", there.display()));
    }
    // A file without a name: it is gone when it is closed.
    tempfile::tempfile_in(there).map(drop).map_err(|error| match there == folder {
        true => format!("nothing can be written there ({error})"),
        false => format!("it can't be made below {} ({error})", there.display()),
    })
}

fn read_by_all(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o004 != 0)
}
