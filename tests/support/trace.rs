//! What a process does to the files below a folder, as strace sees it: every system call, whatever library
//! makes it. (An interposed library would not see `rustix`, and with it `tempfile`, which call the kernel
//! themselves.) What is written through a shared mapping is not seen: features, which may hold anything.

#![allow(dead_code, reason = "each test file uses a part of this")]
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::process::{Command, Output};

/// Calls that are traced. A question mark: not every architecture has it.
const CALLS: &str = "?open,openat,?openat2,?creat,read,pread64,lseek,write,pwrite64,writev,pwritev,?pwritev2,\
    ftruncate,truncate,fallocate,copy_file_range,sendfile,splice,fsync,fdatasync,sync_file_range,sync,syncfs,\
    ?rename,renameat,renameat2,?link,linkat,?symlink,symlinkat,?unlink,unlinkat,?rmdir,?mkdir,mkdirat";

/// A change of the disk, or something that has to do with when it is durable. Paths are below the folder.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// A file is made if it is not there, and emptied if `empty`.
    Create {
        path: String,
        empty: bool,
    },
    Write {
        path: String,
        offset: u64,
        bytes: Vec<u8>,
    },
    /// The file's length becomes this, or at least this.
    /// Behind whatever is there.
    Append {
        path: String,
        bytes: Vec<u8>,
    },
    Length {
        path: String,
        length: u64,
        at_least: bool,
    },
    /// Bytes of one file become those of another.
    Copy {
        from: String,
        from_offset: u64,
        to: String,
        offset: u64,
        length: u64,
    },
    Mkdir {
        path: String,
    },
    Symlink {
        path: String,
        target: String,
    },
    Rename {
        from: String,
        to: String,
    },
    /// Two names change places.
    Exchange {
        one: String,
        other: String,
    },
    Remove {
        path: String,
    },
    /// A thread asks for a file or a folder to be brought to the disk.
    SyncBegins {
        thread: u32,
        path: String,
    },
    /// That has been done.
    SyncEnds {
        thread: u32,
    },
    /// The process says something: a line in the file of its marks.
    Mark(String),
}

/// Runs a program and gives what it did below `dir`, and the lines it wrote to the file `marks`, in order.
pub fn record(program: &mut Command, dir: &Path, marks: &Path) -> Vec<Op> {
    let (ops, output) = record_with(program, dir, marks, None);
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    ops
}

/// [`record`], with a fault in strace's words that the program meets; it may end as it likes.
pub fn record_with(
    program: &mut Command,
    dir: &Path,
    marks: &Path,
    fault: Option<&str>,
) -> (Vec<Op>, Output) {
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut strace = recorder(program, log.path(), fault);
    let output = strace.output();
    let output = output.unwrap_or_else(|error| panic!("strace: {error} (install the package `strace`)"));
    (read(log.path(), dir, marks).into_iter().map(|(_, op)| op).collect(), output)
}

/// strace of a program, to be run by the caller; what it did is then in `log`, see [`read`].
pub fn recorder(program: &Command, log: &Path, fault: Option<&str>) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-ttt", "-y", "-xx", "-s", "16777216", "-e", &format!("trace={CALLS}")]);
    match fault {
        Some(fault) => strace.arg(format!("--inject={fault}")),
        // Faster by far; but no signal is sent then.
        None => strace.arg("--seccomp-bpf"),
    };
    strace.arg("-o").arg(log).arg(program.get_program()).args(program.get_args());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => strace.env(name, value),
            None => strace.env_remove(name),
        };
    }
    if let Some(folder) = program.get_current_dir() {
        strace.current_dir(folder);
    }
    strace
}

/// What a recorded program did below `dir`, and the lines that it wrote to the file `marks`, each with when it was
/// begun, seconds since 1970.
pub fn read(log: &Path, dir: &Path, marks: &Path) -> Vec<(f64, Op)> {
    let text = std::fs::read_to_string(log).unwrap();
    Parser {
        dir: dir.to_str().unwrap(),
        marks: marks.to_str().unwrap(),
        ops: vec![],
        at: HashMap::new(),
        appending: HashSet::new(),
    }
    .parse(&text)
}

struct Parser<'a> {
    dir: &'a str,
    marks: &'a str,
    ops: Vec<Op>,
    /// Where descriptors stand.
    at: HashMap<u32, u64>,
    /// Descriptors that write behind whatever is there.
    appending: HashSet<u32>,
}

/// A call as strace writes it: `name(arguments) = result`.
struct Call<'a> {
    name: &'a str,
    arguments: Vec<&'a str>,
    result: i64,
    returned: &'a str,
}

impl<'a> Call<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let (name, rest) = line.split_once('(')?;
        let (arguments, returned) = rest.rsplit_once(" = ")?;
        let digits = returned.find(|c: char| c != '-' && !c.is_ascii_digit()).unwrap_or(returned.len());
        let result = returned[..digits].parse().ok()?;
        let arguments = arguments.trim_end().strip_suffix(')')?.split(", ").map(str::trim).collect();
        Some(Call { name, arguments, result, returned })
    }

    fn number(&self, n: usize) -> u64 {
        self.arguments[n].parse().unwrap()
    }

    fn text(&self, n: usize) -> String {
        String::from_utf8(unquote(self.arguments[n])).unwrap()
    }

    /// The path that a descriptor among the arguments leads to.
    fn file(&self, n: usize) -> String {
        path_of(self.arguments[n])
    }

    /// The path in argument `n`, seen from the descriptor in the one before it.
    fn path_at(&self, n: usize) -> String {
        let path = self.text(n);
        if path.starts_with('/') { path } else { format!("{}/{path}", self.file(n - 1)) }
    }
}

/// `"\x41"` as bytes.
fn unquote(text: &str) -> Vec<u8> {
    let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    unhex(inner.unwrap_or_else(|| panic!("strace cut short {:?}", &text[..text.len().min(80)])))
}

fn unhex(text: &str) -> Vec<u8> {
    let bytes = text.split("\\x").skip(1);
    bytes.map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

/// The path in `3<\x2f\x61>`; empty where there is none.
fn path_of(descriptor: &str) -> String {
    let inner = descriptor.split_once('<').and_then(|(_, path)| path.split_once('>'));
    inner.map_or_else(String::new, |(path, _)| String::from_utf8_lossy(&unhex(path)).into_owned())
}

/// The number in `3<\x2f\x61>`: the name may change while the file is open.
fn number_of(descriptor: &str) -> u32 {
    descriptor.split('<').next().unwrap().parse().unwrap()
}

impl Parser<'_> {
    fn parse(mut self, text: &str) -> Vec<(f64, Op)> {
        let (mut timed, mut last) = (vec![], 0.0);
        let mut begun: HashMap<u32, String> = HashMap::new();
        for line in text.lines() {
            let (thread, call) = line.split_once(' ').unwrap();
            let thread = thread.parse().unwrap();
            let Some((time, call)) = call.trim_start().split_once(' ') else { continue };
            // What the line before told.
            timed.extend(self.ops.drain(..).map(|op| (last, op)));
            last = time.parse().unwrap();
            let is_sync = |call: &str| call.starts_with("fsync(") || call.starts_with("fdatasync(");
            let whole = if let Some(start) = call.strip_suffix("<unfinished ...>") {
                // What a sync covers is what was written before it began.
                if is_sync(start) {
                    self.sync_begins(thread, start);
                }
                begun.insert(thread, start.to_owned());
                continue;
            } else if call.starts_with("<... ") {
                let end = call.split_once("resumed>").unwrap().1;
                begun.remove(&thread).unwrap() + end
            } else {
                if is_sync(call) {
                    self.sync_begins(thread, call);
                }
                call.to_owned()
            };
            let Some(call) = Call::read(&whole) else { continue };
            if is_sync(&whole) {
                // One that failed has promised nothing.
                if self.inside(&call.file(0)).is_some() && call.result == 0 {
                    self.ops.push(Op::SyncEnds { thread });
                }
            } else if call.result >= 0 {
                self.take(&call);
            }
        }
        timed.extend(self.ops.drain(..).map(|op| (last, op)));
        timed
    }

    fn sync_begins(&mut self, thread: u32, call: &str) {
        if let Some(path) = self.inside(&path_of(call)) {
            self.ops.push(Op::SyncBegins { thread, path });
        }
    }

    /// A path below the folder; the folder itself is the empty one.
    fn inside(&self, path: &str) -> Option<String> {
        let rest = path.strip_prefix(self.dir)?;
        (rest.is_empty() || rest.starts_with('/')).then(|| rest.trim_matches('/').to_owned())
    }

    fn take(&mut self, call: &Call) {
        match call.name {
            "open" | "creat" => {
                self.opened(call, call.text(0), call.arguments.get(1).unwrap_or(&"O_CREAT|O_TRUNC"))
            }
            "openat" | "openat2" => self.opened(call, call.path_at(1), call.arguments[2]),
            "read" => *self.at.entry(number_of(call.arguments[0])).or_default() += call.result as u64,
            "lseek" => {
                self.at.insert(number_of(call.arguments[0]), call.result as u64);
            }
            "write" => self.written(call),
            "pwrite64" => {
                if let Some(path) = self.inside(&call.file(0)) {
                    let mut bytes = unquote(call.arguments[1]);
                    bytes.truncate(call.result as usize);
                    self.ops.push(Op::Write { path, offset: call.number(3), bytes });
                }
            }
            "ftruncate" => self.length(call, call.number(1), false),
            "fallocate" => {
                assert!(
                    self.inside(&call.file(0)).is_none() || call.arguments[1] == "0",
                    "a mode of fallocate"
                );
                if call.arguments[1] == "0" {
                    self.length(call, call.number(2) + call.number(3), true);
                }
            }
            "rename" => self.renamed(call.text(0), call.text(1)),
            "renameat2" if call.arguments[4] == "RENAME_EXCHANGE" => {
                let names = (self.inside(&call.path_at(1)), self.inside(&call.path_at(3)));
                if let (Some(one), Some(other)) = names {
                    self.ops.push(Op::Exchange { one, other });
                }
            }
            "renameat" | "renameat2" => self.renamed(call.path_at(1), call.path_at(3)),
            "copy_file_range" => self.copied(call, 0, 2),
            "sendfile" => self.copied(call, 1, 0),
            "symlink" => self.symlink(call.text(1), call.text(0)),
            "symlinkat" => self.symlink(call.path_at(2), call.text(0)),
            "unlink" | "rmdir" => self.push(&call.text(0), |path| Op::Remove { path }),
            "unlinkat" => self.push(&call.path_at(1), |path| Op::Remove { path }),
            "mkdir" => self.push(&call.text(0), |path| Op::Mkdir { path }),
            "mkdirat" => self.push(&call.path_at(1), |path| Op::Mkdir { path }),
            // It neither makes a file's length durable nor empties the disk's cache: no promise at all.
            "sync_file_range" | "pread64" => {}
            other => {
                let touches = call.arguments.iter().any(|argument| self.inside(&path_of(argument)).is_some());
                assert!(!touches, "{other} is nothing that the recorder knows");
            }
        }
    }

    fn push(&mut self, path: &str, op: impl FnOnce(String) -> Op) {
        if let Some(path) = self.inside(path) {
            self.ops.push(op(path));
        }
    }

    fn opened(&mut self, call: &Call, path: String, flags: &str) {
        self.at.insert(number_of(call.returned), 0);
        if let Some(path) = self.inside(&path) {
            assert!(!flags.contains("O_TMPFILE"), "{flags}");
            let descriptor = number_of(call.returned);
            if flags.contains("O_APPEND") {
                self.appending.insert(descriptor);
            } else {
                self.appending.remove(&descriptor);
            }
            if flags.contains("O_CREAT") || flags.contains("O_TRUNC") {
                self.ops.push(Op::Create { path, empty: flags.contains("O_TRUNC") });
            }
        }
    }

    fn written(&mut self, call: &Call) {
        let file = call.file(0);
        if file == self.marks {
            self.ops.push(Op::Mark(call.text(1).trim_end().to_owned()));
        } else if let Some(path) = self.inside(&file) {
            let descriptor = number_of(call.arguments[0]);
            let at = self.at.entry(descriptor).or_default();
            let mut bytes = unquote(call.arguments[1]);
            bytes.truncate(call.result as usize);
            if self.appending.contains(&descriptor) {
                self.ops.push(Op::Append { path, bytes });
                return;
            }
            let offset = *at;
            *at += bytes.len() as u64;
            self.ops.push(Op::Write { path, offset, bytes });
        }
    }

    /// Between the descriptors in these arguments, each from where it stands.
    fn copied(&mut self, call: &Call, from: usize, to: usize) {
        let length = call.result as u64;
        let mut stands = |n: usize| {
            let at = self.at.entry(number_of(call.arguments[n])).or_default();
            *at += length;
            *at - length
        };
        let (from_offset, offset) = (stands(from), stands(to));
        match (self.inside(&call.file(from)), self.inside(&call.file(to))) {
            (Some(from), Some(to)) => self.ops.push(Op::Copy { from, from_offset, to, offset, length }),
            (_, None) => {}
            (None, to) => panic!("{to:?} is copied from elsewhere"),
        }
    }

    fn length(&mut self, call: &Call, length: u64, at_least: bool) {
        self.push(&call.file(0), |path| Op::Length { path, length, at_least });
    }

    fn renamed(&mut self, from: String, to: String) {
        match (self.inside(&from), self.inside(&to)) {
            (Some(from), Some(to)) => self.ops.push(Op::Rename { from, to }),
            (None, None) => {}
            _ => panic!("{from} -> {to} leaves the folder"),
        }
    }

    fn symlink(&mut self, path: String, target: String) {
        self.push(&path, |path| Op::Symlink { path, target });
    }
}
