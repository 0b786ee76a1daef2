//! What can go wrong with the store.

use std::path::PathBuf;

use sled::transaction::TransactionError;

use super::sample::SampleId;

/// Why the store did not do what it was asked for; nothing was changed then, unless it says so.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or folder can't be read or written.
    #[error("{}: {source}{}", path.display(), hint(source))]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process holds the store.
    #[error(
        "{} is in use by {}; one graftd at a time may use a state directory: stop that one or name another \
         with --state-dir", path.display(), holder(*pid)
    )]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The process that holds it, where it is known.
        pid: Option<u32>,
    },
    /// The database can't be opened.
    #[error("{}: {source}; `graftd samples rebuild` makes it anew", path.display())]
    Open {
        /// The database's folder.
        path: PathBuf,
        /// What sled said.
        source: sled::Error,
    },
    /// The store was written by a newer graftd.
    #[error(
        "{} holds a store of version {found}, this graftd knows version {known}; install a newer graftd",
        path.display()
    )]
    Newer {
        /// The state directory.
        path: PathBuf,
        /// Its version.
        found: u8,
        /// Ours.
        known: u8,
    },
    /// The database failed.
    #[error("the store failed: {0}; restart graftd, and check the disk")]
    Database(#[from] sled::Error),
    /// A record is not what was written.
    #[error("the record {0} is damaged; check the disk, and restart graftd to restore what has a copy")]
    Damaged(String),
    /// The disk failed in the middle of labelling, and again when that was taken back.
    #[error(
        "{source}; whether the new labels of sample {sample} are in force is settled at the next change of a \
         sample or the next start: look at them then, or label it again"
    )]
    Uncertain {
        /// Which.
        sample: SampleId,
        /// What went wrong.
        source: Box<StoreError>,
    },
    /// The disk is nearly full.
    #[error("{}: {free_mb} MB are free, fewer than the {floor_mb} MB that must stay so; make room", path.display())]
    Full {
        /// Where.
        path: PathBuf,
        /// What is free.
        free_mb: u64,
        /// What must stay free.
        floor_mb: u64,
    },
    /// Nothing may make room.
    #[error(
        "the store is full: {samples} samples, {mb} MB, all of them labelled; raise store.max_mb or \
         store.max_samples, export and delete some, or let the oldest go with store.drop_labelled"
    )]
    LabelsFill {
        /// How many there are.
        samples: u64,
        /// What their frames take.
        mb: u64,
    },
    /// The database could not be opened again after an error of the disk.
    #[error("{}: it can't be opened after an error of the disk; it is tried again", path.display())]
    Away {
        /// The database's folder.
        path: PathBuf,
    },
    /// There is no state where one was looked for.
    #[error("{}: there is no graftd state in it; name one with --state-dir", path.display())]
    NoState {
        /// The folder.
        path: PathBuf,
    },
    /// There is no such sample.
    #[error("there is no sample {0}; `graftd samples list` shows what there is")]
    NoSample(SampleId),
    /// There is no such slot.
    #[error("there is no slot {slot}; there are {}", slots.iter().map(u32::to_string).collect::<Vec<_>>().join(", "))]
    NoSlot {
        /// The slot asked for.
        slot: u32,
        /// The slots that there are.
        slots: Vec<u32>,
    },
    /// The current slot took over from none.
    #[error("slot {0} is the base; there is nothing before it to go back to")]
    NothingBefore(u32),
    /// Nothing has been put into a slot yet.
    #[error("there is no model yet; start the daemon once, or name a base in the configuration")]
    NoModel,
}

impl From<TransactionError<()>> for StoreError {
    fn from(error: TransactionError<()>) -> Self {
        match error {
            TransactionError::Storage(error) => StoreError::Database(error),
            TransactionError::Abort(()) => unreachable!("no transaction of ours aborts"),
        }
    }
}

impl StoreError {
    pub(super) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> StoreError {
        let path = path.into();
        move |source| StoreError::Io { path, source }
    }

    /// Whether it is for want of room that something was not done.
    pub fn is_full(&self) -> bool {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        // sled wraps what the system said, and keeps its kind.
        let is_full = |error: &std::io::Error| {
            matches!(error.kind(), StorageFull | QuotaExceeded)
                || matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
        };
        match self {
            StoreError::Io { source, .. }
            | StoreError::Database(sled::Error::Io(source))
            | StoreError::Open { source: sled::Error::Io(source), .. } => is_full(source),
            StoreError::Full { .. } | StoreError::LabelsFill { .. } => true,
            StoreError::Uncertain { source, .. } => source.is_full(),
            _ => false,
        }
    }

    /// Whether the answer lies in what was asked for rather than in the machine.
    pub fn is_input(&self) -> bool {
        !matches!(
            self,
            StoreError::Database(_)
                | StoreError::Damaged(_)
                | StoreError::Away { .. }
                | StoreError::Uncertain { .. }
                | StoreError::Full { .. }
                | StoreError::LabelsFill { .. }
        )
    }
}

fn hint(source: &std::io::Error) -> &'static str {
    match source.kind() {
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
            "; the state directory must be writable: name another with --state-dir or give this user the right"
        }
        std::io::ErrorKind::NotADirectory
        | std::io::ErrorKind::AlreadyExists
        | std::io::ErrorKind::NotFound => {
            "; the state directory must be a folder that can be made: name another with --state-dir"
        }
        _ => "",
    }
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or("another process".into(), |pid| format!("process {pid}"))
}
