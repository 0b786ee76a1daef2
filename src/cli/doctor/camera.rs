//! Whether there is a camera that graftd can read, and may.

use std::path::Path;

use crate::capture::{SourceSpec, devices};

use super::account::Account;
use super::root::Root;
use super::{Finding, Verdict};

const WHAT: &str = "camera";

/// `source` is what the configuration says.
pub(super) fn look(root: &Root, source: Option<&SourceSpec>, account: &Account) -> Vec<Finding> {
    let all = root.names("/dev", "video");
    let readable = devices(&root.path("/dev"));
    let mut found: Vec<Finding> = readable.iter().map(|path| permission(path, source, account)).collect();
    #[cfg(feature = "v4l2")]
    if let Some(SourceSpec::Device(path)) = source
        && !root.path(&path.to_string_lossy()).exists()
    {
        let words = format!(
            "{}: it is not there; plug it in, or look for its name in /dev/v4l/by-id; the daemon waits for it",
            path.display()
        );
        found.push(Finding::new(WHAT, Verdict::Warn, words));
    }
    match source {
        Some(spec) if !is_device(spec) => {
            found.push(Finding::new(WHAT, Verdict::Fine, format!("{spec} is the source")));
        }
        None if readable.is_empty() && all.is_empty() => {
            let words = "none is plugged in; plug one in, or set camera.source to an address or a folder";
            found.push(Finding::new(WHAT, Verdict::Warn, words));
        }
        _ => {}
    }
    if readable.is_empty() && !all.is_empty() {
        let words = format!(
            "/dev/{}: none of these gives MJPEG or YUYV, which graftd reads; sensors on a ribbon cable do not: take a \
             USB camera, or serve it as MJPEG or RTSP",
            all.join(", /dev/")
        );
        found.push(Finding::new(WHAT, Verdict::Warn, words));
    }
    found
}

#[cfg(feature = "v4l2")]
fn is_device(spec: &SourceSpec) -> bool {
    matches!(spec, SourceSpec::Device(_))
}

#[cfg(not(feature = "v4l2"))]
fn is_device(_spec: &SourceSpec) -> bool {
    false
}

fn permission(path: &Path, source: Option<&SourceSpec>, account: &Account) -> Finding {
    let shown = path.display();
    match path.metadata() {
        Ok(file) if account.may_use(&file) => {
            Finding::new(WHAT, Verdict::Fine, format!("{shown}: {} may use it", account.name))
        }
        Ok(_) => {
            // What another source makes needless does not keep graftd from working.
            let verdict = if source.is_none_or(is_device) { Verdict::Bad } else { Verdict::Warn };
            let advice = format!("usermod -aG video {}, and log in or start the service anew", account.name);
            Finding::new(
                WHAT,
                verdict,
                format!("{shown}: {} may not read and write it; {advice}", account.name),
            )
        }
        Err(error) => Finding::new(WHAT, Verdict::Warn, format!("{shown}: {error}")),
    }
}
