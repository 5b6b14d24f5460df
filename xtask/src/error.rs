use std::{io, path::PathBuf, process::ExitStatus};

/// Why a task failed. Its source, if it has one, says what the system or a parser reported.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program could not be started.
    #[error("cannot run `{program}`")]
    Spawn {
        /// The command line.
        program: String,
        /// The system's error.
        source: io::Error,
    },

    /// A program ran and failed.
    #[error("`{program}` ended with {status}")]
    Failed {
        /// The command line.
        program: String,
        /// Its exit status.
        status: ExitStatus,
    },

    /// A file or folder could not be read or written.
    #[error("cannot use {}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },

    /// A source file is not valid Rust.
    #[error("cannot parse {}", path.display())]
    NotRust {
        /// The file.
        path: PathBuf,
        /// The problem and its place in the file.
        source: syn::Error,
    },

    /// The output of `cargo metadata` has an unexpected form.
    #[error("cannot read the output of `cargo metadata`")]
    Metadata(#[from] serde_json::Error),

    /// This machine has no usable PostgreSQL.
    #[error("{0}")]
    NoPostgres(String),

    /// PostgreSQL is installed but does not start or stop.
    #[error("PostgreSQL: `{order}` failed; the end of its log:\n{log}")]
    Postgres {
        /// The operation that failed.
        order: String,
        /// The last lines of its log.
        log: String,
    },

    /// The process that watches over the throwaway PostgreSQL has ended.
    #[error("the keeper of the throwaway PostgreSQL has ended early")]
    Keeper(#[source] io::Error),

    /// The command line or the environment does not allow the task.
    #[error("{0}")]
    Usage(String),
}

impl Error {
    /// The error with its sources, in one line.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        text
    }

    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }

    pub(crate) fn spawn(program: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let program = program.into();
        move |source| Self::Spawn { program, source }
    }
}
