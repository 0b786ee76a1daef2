//! The real daemon as a process, with its folder and its log.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use super::{goldens, graftd};

/// A daemon that is killed when it is dropped.
pub struct Service {
    folder: PathBuf,
    child: Option<Child>,
}

impl Service {
    /// None runs yet; its files lie in `folder`.
    pub fn new(folder: &Path) -> Self {
        Service { folder: folder.to_owned(), child: None }
    }

    /// Writes the configuration of a device `test` that takes its pictures from `frames`; `mqtt` goes into
    /// that table, `extra` behind everything.
    pub fn configure(&self, mqtt: &str, extra: &str) {
        let base = goldens("exports").join("yolo12n.onnx");
        let text = format!(
            "device = \"test\"\nstate_dir = \"state\"\n[model]\nbase = {base:?}\n[mqtt]\n{mqtt}\n\
             [camera]\nfolder = \"frames\"\nfps = 100.0\n\
             [select]\nrandom_share = 1.0\nleast_difference = 0.0\nper_hour = 100000\n\
             [train]\nidle = false\n{extra}"
        );
        std::fs::create_dir_all(self.folder.join("frames")).unwrap();
        std::fs::write(self.folder.join("graftd.toml"), text).unwrap();
    }

    pub fn start(&mut self) {
        self.start_with(|command| command);
    }

    /// Starts it with something changed, such as its environment.
    pub fn start_with(
        &mut self,
        change: impl FnOnce(&mut std::process::Command) -> &mut std::process::Command,
    ) {
        let log = std::fs::File::options().create(true).append(true).open(self.folder.join("log")).unwrap();
        let mut command = graftd();
        command.arg("run").arg("--config").arg(self.folder.join("graftd.toml"));
        self.child = Some(change(&mut command).stderr(log).stdout(Stdio::null()).spawn().unwrap());
    }

    pub fn id(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Whether it runs still.
    pub fn is_alive(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// Sends a signal and waits for the end; the exit code, if it ended by itself.
    pub fn end(&mut self, signal: &str) -> Option<i32> {
        let mut child = self.child.take().expect("it runs");
        let kill =
            std::process::Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        assert!(kill.success());
        child.wait().unwrap().code()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// What it holds in memory now, bytes.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}
