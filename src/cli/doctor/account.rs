//! Whom the daemon runs as, and which devices this user may open.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use super::root::Root;

/// The account that the package makes, and the unit takes.
const SERVICE: &str = "graftd";
/// The unit gives it this group too.
const CAMERAS: &str = "video";

/// A user and its groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub name: String,
    pub uid: u32,
    pub groups: Vec<u32>,
}

impl Account {
    /// The named one; else the service's where it is there and root asks; else whoever asks.
    ///
    /// # Errors
    /// When there is no account of that name.
    pub fn choose(named: Option<&str>, root: &Root) -> Result<Account, String> {
        if let Some(name) = named {
            return Account::read(name, root)
                .ok_or_else(|| format!("--user {name}: there is no such user in /etc/passwd"));
        }
        let asks = rustix::process::geteuid();
        let service = if asks.is_root() { Account::read(SERVICE, root) } else { None };
        Ok(service.unwrap_or_else(|| {
            let groups = rustix::process::getgroups().unwrap_or_default();
            let own = rustix::process::getegid();
            let groups = groups.into_iter().chain([own]).map(|group| group.as_raw()).collect();
            Account { name: "you".into(), uid: asks.as_raw(), groups }
        }))
    }

    /// As `/etc/passwd` and `/etc/group` say (passwd(5), group(5)).
    fn read(name: &str, root: &Root) -> Option<Account> {
        let passwd = root.text("/etc/passwd")?;
        let fields = |line: &str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
        let line = passwd.lines().map(fields).find(|fields| fields[0] == name)?;
        let (uid, own) = (line.get(2)?.parse().ok()?, line.get(3)?.parse().ok()?);
        let text = root.text("/etc/group").unwrap_or_default();
        let others = text.lines().map(fields).filter_map(|fields| {
            let is_member = fields.get(3)?.split(',').any(|member| member == name);
            let is_given = name == SERVICE && fields[0] == CAMERAS;
            if is_member || is_given { fields.get(2)?.parse().ok() } else { None }
        });
        Some(Account { name: name.to_owned(), uid, groups: others.chain([own]).collect() })
    }

    /// Whether it may read and write a file.
    pub fn may_use(&self, file: &Metadata) -> bool {
        let bits = match self {
            _ if self.uid == 0 => return true,
            _ if self.uid == file.uid() => file.mode() >> 6,
            _ if self.groups.contains(&file.gid()) => file.mode() >> 3,
            _ => file.mode(),
        };
        bits & 0o6 == 0o6
    }
}
