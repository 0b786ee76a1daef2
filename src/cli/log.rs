//! Where the log goes: to stderr in words, or, under systemd, to the journal with its fields.

use std::io::IsTerminal;
use std::os::fd::AsFd;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Begins to log what `filter` lets through.
pub(super) fn start(filter: EnvFilter) {
    let journal = std::env::var("JOURNAL_STREAM").ok().filter(|stream| is_stderr(stream));
    // Where the journal can't be reached the words go to stderr, which it reads too.
    if let Some(Ok(layer)) = journal.map(|_| tracing_journald::layer()) {
        tracing_subscriber::registry().with(filter).with(layer.with_field_prefix(None)).init();
        return;
    }
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}

/// Whether stderr is the stream of this name, `device:inode` (`systemd.exec(5)`): it is not where somebody has
/// sent it elsewhere.
fn is_stderr(stream: &str) -> bool {
    names(stream, std::io::stderr())
}

fn names(stream: &str, file: impl AsFd) -> bool {
    rustix::fs::fstat(file).is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_known_by_device_and_inode() {
        let [one, other] = [(); 2].map(|()| tempfile::tempfile().expect("a file"));
        let stat = rustix::fs::fstat(&one).expect("its number");
        let name = format!("{}:{}", stat.st_dev, stat.st_ino);
        assert!(names(&name, &one) && !names(&name, &other));
        assert!(!names("", &one) && !names("8:x", &one));
    }
}
