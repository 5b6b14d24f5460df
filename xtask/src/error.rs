use std::{io, path::PathBuf, process::ExitStatus};

/// Why a task could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program could not be run at all.
    #[error("cannot run `{program}`: {source}")]
    Spawn {
        /// The program as it was called.
        program: String,
        /// What the system said.
        source: io::Error,
    },

    /// A program ran and failed.
    #[error("`{program}` ended with {status}")]
    Failed {
        /// The program as it was called.
        program: String,
        /// How it ended.
        status: ExitStatus,
    },

    /// A file or folder could not be used.
    #[error("cannot use {}: {source}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// The answer of `cargo metadata` was not what it always is.
    #[error("cannot read the answer of `cargo metadata`: {0}")]
    Metadata(#[from] serde_json::Error),

    /// No usable PostgreSQL on this machine.
    #[error("{0}")]
    NoPostgres(String),

    /// PostgreSQL is there but does not start.
    #[error("PostgreSQL: `{order}` failed; the end of its log:\n{log}")]
    Postgres {
        /// What it was to do.
        order: &'static str,
        /// The last lines of its log.
        log: String,
    },

    /// The process that looks after PostgreSQL is gone.
    #[error("the keeper of the throwaway PostgreSQL has ended early: {0}")]
    Keeper(io::Error),

    /// A task was asked for something that cannot be.
    #[error("{0}")]
    Usage(String),
}

impl Error {
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }

    pub(crate) fn spawn(program: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let program = program.into();
        move |source| Self::Spawn { program, source }
    }
}
