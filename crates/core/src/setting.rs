//! The settings of a program, as they may be shown.

/// A setting of a program, without a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownSetting {
    /// Its environment variable.
    pub name: String,
    /// What it is for, in a line.
    pub help: String,
    /// Its value; `None` if it has none, or is a secret.
    pub value: Option<String>,
    /// Whether it is a secret that has a value.
    pub masked: bool,
    /// Whether a flag, the environment or the file sets it. Otherwise it has its default.
    pub given: bool,
}
