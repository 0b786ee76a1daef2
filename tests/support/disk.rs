//! A disk as it may be after the power went: what was synced is there, of the rest anything may be.
//!
//! Strict about what a sync promises: of a file its bytes and its length but not its name, of a folder its
//! names but not what the files hold. Names change in the order in which they were changed, as they do on
//! every file system with a journal; a name may be there long before the bytes are.

#![allow(dead_code, reason = "each test file uses a part of this")]
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::trace::Op;

/// Syncs that the disk takes and does not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deaf {
    No,
    /// Those of files, but for the database's.
    ToFiles,
    /// Those of folders.
    ToFolders,
    /// Those of the database's file.
    ToDatabase,
}

impl Deaf {
    fn ignores(self, path: &str, is_folder: bool) -> bool {
        match self {
            Deaf::No => false,
            Deaf::ToFiles => !is_folder && !path.starts_with("store/"),
            Deaf::ToFolders => is_folder,
            Deaf::ToDatabase => path == "store/db",
        }
    }
}

/// What becomes of that which was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Luck {
    Lost,
    Kept,
    Chance,
}

/// What happened to a file's bytes.
#[derive(Debug, Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Length(u64, bool),
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Change::Write(at, bytes) => {
                let (at, end) = (*at as usize, *at as usize + bytes.len());
                content.resize(content.len().max(end), 0);
                content[at..end].copy_from_slice(bytes);
            }
            &Change::Length(length, at_least) => {
                let least = if at_least { content.len() } else { 0 };
                content.resize(least.max(length as usize), 0);
            }
        }
    }
}

/// A name in a folder is set or taken away; a rename is several of these at once.
#[derive(Debug, Clone)]
struct Naming(Vec<(usize, String, Option<usize>)>);

impl Naming {
    fn touches(&self, folders: &BTreeSet<usize>) -> bool {
        self.0.iter().any(|(folder, ..)| folders.contains(folder))
    }
}

#[derive(Debug, Clone)]
enum Node {
    Folder,
    Link(String),
    File { synced: Vec<u8>, since: Vec<Change> },
}

type Names = HashMap<usize, BTreeMap<String, usize>>;

/// What is on the disk, and what is on its way to it. Node 0 is the folder that all lies in.
#[derive(Debug)]
pub struct Disk {
    deaf: Deaf,
    nodes: Vec<Node>,
    /// As the running process sees them.
    names: Names,
    synced: Names,
    since: Vec<Naming>,
    /// Syncs that go on: of which node, and how much of what it had to do was there when they began.
    syncs: HashMap<u32, Option<(usize, usize)>>,
}

impl Disk {
    pub fn new(deaf: Deaf) -> Self {
        Disk {
            deaf,
            nodes: vec![Node::Folder],
            names: Names::from([(0, BTreeMap::new())]),
            synced: Names::from([(0, BTreeMap::new())]),
            since: vec![],
            syncs: HashMap::new(),
        }
    }

    /// A disk with what lies in a folder, all of it durable.
    pub fn of(folder: &Path, deaf: Deaf) -> Self {
        let mut disk = Disk::new(deaf);
        disk.take_in(folder, 0);
        disk.synced = disk.names.clone();
        disk
    }

    fn take_in(&mut self, folder: &Path, node: usize) {
        let mut names = BTreeMap::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            self.nodes.push(if kind.is_symlink() {
                Node::Link(std::fs::read_link(&path).unwrap().to_str().unwrap().to_owned())
            } else if kind.is_dir() {
                Node::Folder
            } else {
                Node::File { synced: std::fs::read(&path).unwrap(), since: vec![] }
            });
            let new = self.nodes.len() - 1;
            names.insert(entry.file_name().into_string().unwrap(), new);
            if kind.is_dir() {
                self.take_in(&path, new);
            }
        }
        self.names.insert(node, names);
    }

    /// What a killed process did in calls whose end was not recorded: how the files in `folder` differ from
    /// what was. None where names differ.
    pub fn missed(&self, folder: &Path) -> Option<Vec<Op>> {
        let copy = tempfile::tempdir().unwrap();
        self.cut(copy.path(), Luck::Kept, Luck::Kept, 0);
        let mut ops = vec![];
        differences(folder, copy.path(), "", &mut ops).then_some(ops)
    }

    /// What whoever reads a file now reads.
    fn seen(&self, node: usize) -> Vec<u8> {
        let Node::File { synced, since } = &self.nodes[node] else { panic!("{node} is read as a file") };
        let mut content = synced.clone();
        since.iter().for_each(|change| change.apply(&mut content));
        content
    }

    /// Does what the process did.
    pub fn apply(&mut self, op: &Op) {
        match op {
            Op::Create { path, empty } => {
                if let Some(node) = self.find(path) {
                    if *empty {
                        self.change(node, Change::Length(0, false));
                    }
                } else {
                    self.make(path, Node::File { synced: vec![], since: vec![] });
                }
            }
            Op::Write { path, offset, bytes } => self.change_at(path, Change::Write(*offset, bytes.clone())),
            Op::Append { path, bytes } => {
                let end = self.find(path).map_or(0, |node| self.seen(node).len() as u64);
                self.change_at(path, Change::Write(end, bytes.clone()));
            }
            Op::Length { path, length, at_least } => self.change_at(path, Change::Length(*length, *at_least)),
            Op::Copy { from, from_offset, to, offset, length } => {
                let content = self.seen(self.find(from).unwrap());
                let start = *from_offset as usize;
                let bytes = content[start..start + *length as usize].to_vec();
                self.change_at(to, Change::Write(*offset, bytes));
            }
            Op::Mkdir { path } => {
                self.make(path, Node::Folder);
            }
            Op::Symlink { path, target } => {
                self.make(path, Node::Link(target.clone()));
            }
            Op::Rename { from, to } => {
                // A socket, which is of no use after a cut.
                let Some(node) = self.find(from) else { return };
                let ((a, was), (b, is)) = (self.parent(from), self.parent(to));
                self.rename(vec![(a, was, None), (b, is, Some(node))]);
            }
            Op::Exchange { one, other } => {
                let nodes = (self.find(one).unwrap(), self.find(other).unwrap());
                let ((a, first), (b, second)) = (self.parent(one), self.parent(other));
                self.rename(vec![(a, first, Some(nodes.1)), (b, second, Some(nodes.0))]);
            }
            Op::Remove { path } => {
                let (folder, name) = self.parent(path);
                self.rename(vec![(folder, name, None)]);
            }
            Op::SyncBegins { thread, path } => {
                let Some(node) = self.find(path) else { return };
                let (is_folder, until) = match &self.nodes[node] {
                    Node::File { since, .. } => (false, since.len()),
                    _ => (true, self.since.len()),
                };
                let heard = !self.deaf.ignores(path, is_folder);
                self.syncs.insert(*thread, heard.then_some((node, until)));
            }
            Op::SyncEnds { thread } => {
                if let Some((node, until)) = self.syncs.remove(thread).flatten() {
                    self.sync(node, until);
                }
            }
            Op::Mark(_) => {}
        }
    }

    /// Lays out what a cut at this moment may leave. `names` and `bytes`: what becomes of either.
    pub fn cut(&self, to: &Path, names: Luck, bytes: Luck, seed: u64) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut left = self.synced.clone();
        let kept = match names {
            Luck::Lost => 0,
            Luck::Kept => self.since.len(),
            Luck::Chance => random.random_range(0..=self.since.len()),
        };
        self.since[..kept].iter().for_each(|naming| apply(&mut left, naming));
        self.lay_out(to, 0, &left, bytes, &mut random);
    }

    fn lay_out(&self, to: &Path, folder: usize, names: &Names, luck: Luck, random: &mut ChaCha8Rng) {
        for (name, &node) in names.get(&folder).into_iter().flatten() {
            let path = to.join(name);
            match &self.nodes[node] {
                Node::Folder => {
                    std::fs::create_dir(&path).unwrap();
                    self.lay_out(&path, node, names, luck, random);
                }
                Node::Link(target) => symlink(target, &path).unwrap(),
                Node::File { synced, since } => {
                    let content = content(synced, since, luck, random);
                    let file = File::create(&path).unwrap();
                    file.set_len(content.len() as u64).unwrap();
                    // Ballast is zeros; it need not take room here.
                    if content.iter().any(|&byte| byte != 0) {
                        file.write_all_at(&content, 0).unwrap();
                    }
                }
            }
        }
    }

    fn sync(&mut self, node: usize, until: usize) {
        if let Node::File { synced, since } = &mut self.nodes[node] {
            // Another sync may have been faster.
            since.drain(..until.min(since.len())).for_each(|change| change.apply(synced));
            return;
        }
        // Backwards: a change is durable only with those before it in the folders that it touches.
        let mut folders = BTreeSet::from([node]);
        let until = until.min(self.since.len());
        let mut stay: Vec<Naming> = self.since.split_off(until);
        let mut go = vec![];
        for naming in std::mem::take(&mut self.since).into_iter().rev() {
            if naming.touches(&folders) {
                folders.extend(naming.0.iter().map(|(folder, ..)| *folder));
                go.push(naming);
            } else {
                self.since.insert(0, naming);
            }
        }
        self.since.append(&mut stay);
        go.iter().rev().for_each(|naming| apply(&mut self.synced, naming));
    }

    fn find(&self, path: &str) -> Option<usize> {
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        parts.try_fold(0, |folder, name| self.names.get(&folder)?.get(name).copied())
    }

    fn parent(&self, path: &str) -> (usize, String) {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        (self.find(folder).unwrap_or_else(|| panic!("no folder for {path}")), name.to_owned())
    }

    fn make(&mut self, path: &str, node: Node) {
        let (folder, name) = self.parent(path);
        self.nodes.push(node);
        self.rename(vec![(folder, name, Some(self.nodes.len() - 1))]);
    }

    fn rename(&mut self, changes: Vec<(usize, String, Option<usize>)>) {
        let naming = Naming(changes);
        apply(&mut self.names, &naming);
        self.since.push(naming);
    }

    fn change_at(&mut self, path: &str, change: Change) {
        // A file that is removed and still open has nothing to lose.
        if let Some(node) = self.find(path) {
            self.change(node, change);
        }
    }

    fn change(&mut self, node: usize, change: Change) {
        match &mut self.nodes[node] {
            Node::File { since, .. } => since.push(change),
            other => panic!("{other:?} is written to"),
        }
    }
}

/// Whether two folders hold the same names; how to make the files in the second one those of the first.
fn differences(real: &Path, known: &Path, below: &str, ops: &mut Vec<Op>) -> bool {
    let names = |folder: &Path| {
        let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        names.collect::<BTreeSet<_>>()
    };
    let there = names(real);
    there == names(known)
        && there.iter().all(|name| {
            let (real, known) = (real.join(name), known.join(name));
            let path = format!("{below}/{}", name.to_str().unwrap()).trim_start_matches('/').to_owned();
            let kind = real.symlink_metadata().unwrap().file_type();
            if kind != known.symlink_metadata().unwrap().file_type() {
                return false;
            }
            if kind.is_dir() {
                return differences(&real, &known, &path, ops);
            }
            if kind.is_symlink() {
                return std::fs::read_link(&real).unwrap() == std::fs::read_link(&known).unwrap();
            }
            let bytes = std::fs::read(&real).unwrap();
            if bytes != std::fs::read(&known).unwrap() {
                ops.push(Op::Length { path: path.clone(), length: bytes.len() as u64, at_least: false });
                ops.push(Op::Write { path, offset: 0, bytes });
            }
            true
        })
}

fn apply(names: &mut Names, naming: &Naming) {
    for (folder, name, node) in &naming.0 {
        let folder = names.entry(*folder).or_default();
        match node {
            Some(node) => folder.insert(name.clone(), *node),
            None => folder.remove(name),
        };
    }
}

fn content(synced: &[u8], since: &[Change], luck: Luck, random: &mut ChaCha8Rng) -> Vec<u8> {
    let mut content = synced.to_vec();
    match luck {
        Luck::Lost => {}
        Luck::Kept => since.iter().for_each(|change| change.apply(&mut content)),
        Luck::Chance => {
            let page = if random.random_bool(0.5) { 512 } else { 4096 };
            let mut whole = content.clone();
            for change in since {
                change.apply(&mut whole);
                match change {
                    Change::Write(at, bytes) => {
                        // Some of its pages.
                        let (start, end) = (*at as usize, *at as usize + bytes.len());
                        let mut from = start;
                        while from < end {
                            let to = end.min((from / page + 1) * page);
                            if random.random_bool(0.5) {
                                let part = bytes[from - start..to - start].to_vec();
                                Change::Write(from as u64, part).apply(&mut content);
                            }
                            from = to;
                        }
                    }
                    length if random.random_bool(0.5) => length.apply(&mut content),
                    _ => {}
                }
            }
            // The length may be there before the bytes are.
            if whole.len() > content.len() && random.random_bool(0.5) {
                content.resize(whole.len(), 0);
            }
        }
    }
    content
}
