//! sled, kept alive: opened again when a full disk has made it refuse, put aside when it can't be read.
//!
//! After an error of the disk sled refuses every write until it is opened anew, and it can only be opened
//! anew when nobody holds a handle any more. So nobody holds one: work on the trees goes through
//! [`Database::read`] and [`Database::write`].

use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::files;

use super::ballast::Ballast;
use super::deadline::Deadline;
use super::{StoreError, durable, salvage};

/// The database's folder in the state directory.
pub(super) const FOLDER: &str = "store";
/// So long it is waited for a database that is still held.
const PATIENCE: Duration = Duration::from_secs(2);

/// The trees of the open database. No handle may outlive the closure that gets it.
#[derive(Debug)]
pub(super) struct Trees {
    db: sled::Db,
    /// Records of samples, by id.
    pub samples: sled::Tree,
    /// One key per sample: its state, how notable it is, its id.
    pub by_state: sled::Tree,
    /// Single records by name.
    pub meta: sled::Tree,
    /// Messages that wait for the broker, by number.
    pub outbox: sled::Tree,
    /// Messages that no broker would take, by number.
    pub aside: sled::Tree,
    /// Commands that were taken on, by name and id.
    pub commands: sled::Tree,
    /// The run that goes on.
    pub pending: sled::Tree,
}

impl Trees {
    fn open(path: &Path) -> Result<Self, sled::Error> {
        let config = sled::Config::new().path(path).cache_capacity(16 * 1024 * 1024).flush_every_ms(None);
        let db = config.open()?;
        Ok(Trees {
            samples: db.open_tree("samples")?,
            by_state: db.open_tree("samples_by_state")?,
            meta: db.open_tree("meta")?,
            outbox: db.open_tree("outbox")?,
            aside: db.open_tree("outbox_aside")?,
            commands: db.open_tree("commands")?,
            pending: db.open_tree("pending")?,
            db,
        })
    }
}

impl Trees {
    /// Copies everything that another database holds; durable when this returns.
    pub fn take_over(&self, old: &Trees) -> Result<(), StoreError> {
        let pairs = [
            (&old.samples, &self.samples),
            (&old.by_state, &self.by_state),
            (&old.meta, &self.meta),
            (&old.outbox, &self.outbox),
            (&old.aside, &self.aside),
            (&old.commands, &self.commands),
            (&old.pending, &self.pending),
        ];
        for (old, new) in pairs {
            for entry in old.iter() {
                let (key, bytes) = entry?;
                new.insert(key, bytes)?;
            }
        }
        self.db.flush()?;
        Ok(())
    }
}

/// The database of a state directory.
#[derive(Debug, Clone)]
pub(super) struct Database(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    /// None while it can't be opened.
    trees: RwLock<Option<Trees>>,
    /// sled refuses everything until it is opened again.
    refuses: AtomicBool,
    /// How often it was opened.
    opening: AtomicU64,
    ballast: Ballast,
    deadline: Deadline,
}

impl Database {
    /// Opens the database in a state directory, or makes a new one. One that is there and can't be read is
    /// moved aside, never deleted.
    pub fn open(dir: &Path, ballast: Ballast, patience: Duration) -> Result<Self, StoreError> {
        let path = dir.join(FOLDER);
        let deadline = Deadline::start(&path, patience)?;
        let opening = deadline.begin();
        let trees = match open_trees(&path) {
            Err(Refusal::Damaged(reason)) => {
                match mend(dir, &reason) {
                    // Less is lost without ballast than without the database.
                    Err(error) if error.is_full() && ballast.drop_it() => mend(dir, &reason)?,
                    mended => mended?,
                }
                open_trees(&path)
            }
            opened => opened,
        };
        let trees = told_safely(dir, trees.map_err(|refusal| refusal.into_error(&path))?)?;
        drop(opening);
        Ok(Database(Arc::new(Shared {
            dir: dir.to_owned(),
            trees: RwLock::new(Some(trees)),
            refuses: AtomicBool::new(false),
            opening: AtomicU64::new(1),
            ballast,
            deadline,
        })))
    }

    /// Opens a database by its own folder, for whoever holds the store's lock and no [`Database`].
    pub fn look_into(path: &Path) -> Result<Trees, StoreError> {
        open_trees(path).map_err(|refusal| refusal.into_error(path))
    }

    /// Opens a copy of a database, which goes with the folder that comes back: sled writes to what it opens,
    /// and begins anew, saying nothing, over a file that it can't make out.
    pub fn look_into_copy(path: &Path) -> Result<(Trees, TempDir), StoreError> {
        let beside = files::folder_of(path);
        let copy = tempfile::Builder::new().prefix(files::PASSING).tempdir_in(beside);
        let copy = copy.map_err(StoreError::io(beside))?;
        copy_folder(path, copy.path())?;
        Ok((Self::look_into(copy.path())?, copy))
    }

    /// How often it was opened: what was in flight when the disk failed is uncertain after that.
    pub fn opening(&self) -> u64 {
        self.0.opening.load(Ordering::Acquire)
    }

    /// The state directory.
    pub fn dir(&self) -> &Path {
        &self.0.dir
    }

    /// The room that is held back for what must not be refused.
    pub fn ballast(&self) -> &Ballast {
        &self.0.ballast
    }

    /// Looks something up.
    pub fn read<T>(&self, work: impl FnOnce(&Trees) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let _call = self.0.deadline.begin();
        if self.0.refuses.load(Ordering::Acquire) {
            self.reopen()?;
        }
        let result = match &*self.0.trees.read().unwrap_or_else(PoisonError::into_inner) {
            Some(trees) => work(trees),
            None => Err(StoreError::Away { path: self.0.dir.join(FOLDER) }),
        };
        if matches!(&result, Err(StoreError::Database(sled::Error::Io(_)))) {
            self.0.refuses.store(true, Ordering::Release);
        }
        result
    }

    /// Changes something; when this returns it survives a power cut.
    pub fn write<T>(&self, work: impl FnOnce(&Trees) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.read(|trees| {
            let done = work(trees)?;
            trees.db.flush()?;
            settle(&self.0.dir)?;
            Ok(done)
        })
    }

    /// Does what must not fail for want of room: when the disk is full the ballast is thrown overboard, and
    /// it is tried once more.
    pub fn insist<T>(&self, mut work: impl FnMut() -> Result<T, StoreError>) -> Result<T, StoreError> {
        match work() {
            Err(error) if error.is_full() && self.0.ballast.drop_it() => {
                tracing::warn!("{error}; the room that was held back is used");
                work()
            }
            done => done,
        }
    }

    fn reopen(&self) -> Result<(), StoreError> {
        let mut trees = self.0.trees.write().unwrap_or_else(PoisonError::into_inner);
        if !self.0.refuses.load(Ordering::Acquire) {
            // Somebody else was faster.
            return Ok(());
        }
        // sled holds a lock on its file: the old one must be gone first.
        close(trees.take());
        let path = self.0.dir.join(FOLDER);
        let opened = open_trees(&path).map_err(|refusal| refusal.into_error(&path))?;
        *trees = Some(told_safely(&self.0.dir, opened)?);
        self.0.refuses.store(false, Ordering::Release);
        self.0.opening.fetch_add(1, Ordering::AcqRel);
        tracing::info!("{}: opened again after an error of the disk", path.display());
        Ok(())
    }
}

fn copy_folder(from: &Path, to: &Path) -> Result<(), StoreError> {
    for entry in std::fs::read_dir(from).map_err(StoreError::io(from))? {
        let entry = entry.map_err(StoreError::io(from))?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            std::fs::create_dir(&target).map_err(StoreError::io(&target))?;
            copy_folder(&path, &target)?;
        } else {
            std::fs::copy(&path, &target).map_err(StoreError::io(&path))?;
        }
    }
    Ok(())
}

/// Puts in the place of a damaged database what can be read of it, or an empty one where nothing can.
fn mend(dir: &Path, reason: &str) -> Result<(), StoreError> {
    let path = dir.join(FOLDER);
    let shown = path.display();
    match salvage::replace(dir, |to| from_log(&path, to)) {
        Ok(aside) => {
            tracing::error!("{shown}: {reason}; it is read from its log alone, {} is kept", aside.display());
        }
        // Another time all of it may be read.
        Err(StoreError::Io { path, source }) if is_machine(&source) => {
            return Err(StoreError::Io { path, source });
        }
        Err(error @ StoreError::Open { source: sled::Error::Io(_), .. }) => return Err(error),
        Err(_) => {
            let aside = salvage::move_aside(dir)?;
            tracing::error!(
                "{shown}: {reason}; it is moved to {} and made anew from the copies beside the frames",
                aside.display()
            );
        }
    }
    Ok(())
}

/// Makes a database of what the log of a damaged one holds: sled does without its settings, which are always
/// the same here, and without its snapshots, which only save it reading.
fn from_log(damaged: &Path, to: &Path) -> Result<(), StoreError> {
    for name in ["db", "blobs"] {
        let (from, to) = (damaged.join(name), to.join(name));
        match std::fs::metadata(&from) {
            Ok(file) if file.is_dir() => {
                std::fs::create_dir(&to).map_err(StoreError::io(&to))?;
                copy_folder(&from, &to)?;
            }
            Ok(_) => std::fs::copy(&from, &to).map(|_| ()).map_err(StoreError::io(&from))?,
            Err(_) => {}
        }
    }
    let trees = open_trees(to).map_err(|refusal| refusal.into_error(to))?;
    let flushed = trees.db.flush();
    close(Some(trees));
    flushed?;
    Ok(())
}

/// Why sled did not open.
enum Refusal {
    /// What lies there is no whole database.
    Damaged(String),
    /// The machine said no, and may say yes another time.
    Machine(sled::Error),
}

impl Refusal {
    fn into_error(self, path: &Path) -> StoreError {
        let source = match self {
            Refusal::Machine(source) => source,
            Refusal::Damaged(reason) => sled::Error::Unsupported(reason),
        };
        StoreError::Open { path: path.to_owned(), source }
    }
}

/// Lets go of the database. sled panics where its last sync fails; what was acknowledged is on the disk.
fn close(trees: Option<Trees>) {
    if catch_unwind(AssertUnwindSafe(|| drop(trees))).is_err() {
        tracing::warn!("the disk failed as the database was closed");
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let _call = self.deadline.begin();
        close(self.trees.get_mut().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// What a database holds that has just been opened, once it is on the disk: what was read of it may have been
/// on its way there when a process was killed, or the disk failed.
fn told_safely(dir: &Path, trees: Trees) -> Result<Trees, StoreError> {
    // Written once and never synced by sled; with a part of it gone all of the database is unreadable.
    match sync_data(&dir.join(FOLDER).join("conf")).and_then(|()| settle(dir)) {
        Ok(()) => Ok(trees),
        Err(error) => {
            close(Some(trees));
            Err(error)
        }
    }
}

/// Brings to the disk what sled has written.
fn settle(dir: &Path) -> Result<(), StoreError> {
    let folder = dir.join(FOLDER);
    // On Linux sled's flush is a `sync_file_range`: it brings neither the new length of the log to the disk
    // nor what the disk holds in its own cache.
    sync_data(&folder.join("db"))?;
    // And nothing of the directory entries that lead to its files.
    durable::sync_dir(&folder.join("blobs"))?;
    durable::sync_dir(&folder)?;
    durable::sync_dir(dir)
}

fn sync_data(path: &Path) -> Result<(), StoreError> {
    // Any descriptor of a file syncs all of it.
    File::open(path).and_then(|file| file.sync_data()).map_err(StoreError::io(path))
}

/// The database that was open before may still be held: sled lets go of it in a thread of its own, a little
/// after the last handle. Other processes are kept out by the store's own lock.
fn open_trees(path: &Path) -> Result<Trees, Refusal> {
    let give_up = Instant::now() + PATIENCE;
    loop {
        sweep(path).map_err(|error| Refusal::Machine(sled::Error::Io(error)))?;
        match try_to_open(path) {
            Err(Refusal::Machine(sled::Error::Io(error))) if is_held(&error) && Instant::now() < give_up => {
                std::thread::sleep(Duration::from_millis(5));
            }
            done => return done,
        }
    }
}

/// Removes the snapshots that sled was cut short in writing: it takes one for the newest there is, finds it
/// damaged and refuses all of the database, which can do without.
fn sweep(path: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        if name.starts_with(b"snap.") && name.ends_with(b".generating") {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// sled answers some damage with a panic, which is caught here.
fn try_to_open(path: &Path) -> Result<Trees, Refusal> {
    match catch_unwind(AssertUnwindSafe(|| Trees::open(path))) {
        Ok(Ok(trees)) => Ok(trees),
        Ok(Err(sled::Error::Io(error))) if is_machine(&error) => {
            Err(Refusal::Machine(sled::Error::Io(error)))
        }
        Ok(Err(error)) => Err(Refusal::Damaged(error.to_string())),
        Err(panic) if is_of_a_full_disk(&*panic) => {
            Err(Refusal::Machine(sled::Error::Io(io::ErrorKind::StorageFull.into())))
        }
        Err(_) => Err(Refusal::Damaged("sled can't read it".into())),
    }
}

/// sled unwraps some errors of the disk: its words are all that is left of them, and no reason to take the
/// database for damaged.
fn is_of_a_full_disk(panic: &(dyn std::any::Any + Send)) -> bool {
    let words = panic.downcast_ref::<String>().map_or("", String::as_str);
    words.contains("StorageFull") || words.contains("No space left")
}

/// Whether an error speaks of the machine rather than of the bytes that were read.
fn is_machine(error: &io::Error) -> bool {
    use io::ErrorKind::*;
    let kinds = [
        StorageFull,
        QuotaExceeded,
        PermissionDenied,
        ReadOnlyFilesystem,
        WouldBlock,
        OutOfMemory,
        NotFound,
        NotADirectory,
        ResourceBusy,
    ];
    kinds.contains(&error.kind()) || is_held(error)
}

/// Whether somebody holds sled's lock: an error of the kind `Other`.
fn is_held(error: &io::Error) -> bool {
    error.to_string().contains("could not acquire lock")
}
