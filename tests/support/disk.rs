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
            Op::Length { path, length, at_least } => self.change_at(path, Change::Length(*length, *at_least)),
            Op::Mkdir { path } => {
                self.make(path, Node::Folder);
            }
            Op::Symlink { path, target } => {
                self.make(path, Node::Link(target.clone()));
            }
            Op::Rename { from, to } => {
                let node = self.find(from).unwrap();
                let ((a, was), (b, is)) = (self.parent(from), self.parent(to));
                self.rename(vec![(a, was, None), (b, is, Some(node))]);
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
