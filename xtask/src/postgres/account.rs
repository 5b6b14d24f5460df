use std::{
    env, fs,
    os::unix::{fs::MetadataExt as _, process::CommandExt as _},
    path::PathBuf,
    process::Command,
};

use crate::{Error, cargo::output_of};

/// PostgreSQL refuses to run as root, so root runs it as the first of these accounts that exists.
const STAND_INS: [&str; 2] = ["postgres", "nobody"];

/// The account that runs the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Account {
    /// The account that runs the task.
    Own,
    /// Another account, because the task runs as root.
    Other { user: u32, group: u32 },
}

impl Account {
    pub(super) fn for_server() -> Result<Self, Error> {
        if !is_root()? {
            return Ok(Self::Own);
        }
        let passwd = fs::read_to_string("/etc/passwd").map_err(Error::file("/etc/passwd"))?;
        STAND_INS.iter().find_map(|name| Self::in_passwd(&passwd, name)).ok_or_else(|| {
            Error::NoPostgres(
                "PostgreSQL does not run as root, and there is neither a user `postgres` nor `nobody`: \
                 run this task as an ordinary user"
                    .to_owned(),
            )
        })
    }

    pub(super) fn apply(self, command: &mut Command) {
        if let Self::Other { user, group } = self {
            command.uid(user).gid(group);
        }
    }

    /// A folder in which this account may create and remove folders.
    pub(super) fn temporary_folder(self) -> PathBuf {
        let folder = env::temp_dir();
        let anyone_may_write = || fs::metadata(&folder).is_ok_and(|folder| folder.mode() & 0o003 == 0o003);
        if self == Self::Own || anyone_may_write() { folder } else { PathBuf::from("/tmp") }
    }

    fn in_passwd(passwd: &str, name: &str) -> Option<Self> {
        passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            if fields.next() != Some(name) {
                return None;
            }
            let user = fields.nth(1)?.parse().ok()?;
            let group = fields.next()?.parse().ok()?;
            Some(Self::Other { user, group })
        })
    }
}

pub(crate) fn is_root() -> Result<bool, Error> {
    Ok(output_of(Command::new("id").arg("-u"))?.trim() == "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\npostgres2:x:7:7::/:/bin/sh\npostgres:x:101:104:a,b:/var:/bin/sh\n";
        assert_eq!(Account::in_passwd(passwd, "postgres"), Some(Account::Other { user: 101, group: 104 }));
        assert_eq!(Account::in_passwd(passwd, "nobody"), None);
    }
}
