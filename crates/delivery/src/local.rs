//! What this machine lacks, which no receiver is to blame for.

use std::io;

use rustix::io::Errno;

/// What this machine lacks to make a request. Such a request is no attempt: it is to be made later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LocalTrouble {
    /// The process or the system has used up its file descriptors.
    Descriptors,
    /// All local ports are in use.
    Ports,
    /// The system lacks memory for sockets.
    Memory,
    /// The resolver is unavailable.
    Resolver,
    /// The egress proxy is unavailable.
    Proxy,
}

impl LocalTrouble {
    /// Returns what is lacking, for a log line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Descriptors => "no file descriptors left",
            Self::Ports => "no local ports left",
            Self::Memory => "no memory left for sockets",
            Self::Resolver => "the resolver is unavailable",
            Self::Proxy => "the egress proxy is unavailable",
        }
    }

    /// Returns what an error of the operating system says about this machine; `None` if it is about something else.
    pub(crate) fn of(error: &io::Error) -> Option<Self> {
        match Errno::from_io_error(error)? {
            Errno::MFILE | Errno::NFILE => Some(Self::Descriptors),
            Errno::ADDRNOTAVAIL => Some(Self::Ports),
            Errno::NOBUFS | Errno::NOMEM => Some(Self::Memory),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_this_machine_lacks_is_local() {
        let of = |errno: Errno| LocalTrouble::of(&io::Error::from_raw_os_error(errno.raw_os_error()));
        for (errno, trouble) in [
            (Errno::MFILE, Some(LocalTrouble::Descriptors)),
            (Errno::NFILE, Some(LocalTrouble::Descriptors)),
            (Errno::ADDRNOTAVAIL, Some(LocalTrouble::Ports)),
            (Errno::NOBUFS, Some(LocalTrouble::Memory)),
            (Errno::NOMEM, Some(LocalTrouble::Memory)),
            (Errno::CONNREFUSED, None),
            (Errno::HOSTUNREACH, None),
            (Errno::TIMEDOUT, None),
        ] {
            assert_eq!(of(errno), trouble, "{errno:?}");
        }
        assert_eq!(LocalTrouble::of(&io::ErrorKind::OutOfMemory.into()), None);
    }
}
