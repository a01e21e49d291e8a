//! Failures that end a command: what to say, what to do about it, and the exit code.

use std::fmt;

/// A failure on its way to the user.
#[derive(Debug)]
pub struct Error {
    /// Whose fault it is; decides the exit code.
    pub kind: ErrorKind,
    /// One lowercase sentence without a full stop: what did not work, and why.
    pub message: String,
    /// What to do, ideally a command.
    pub hint: Option<String>,
}

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// A probe failed.
    Probe,
    /// The command line or the lab file is wrong.
    Usage,
    /// This host lacks a tool, a permission or a kernel feature.
    Host,
    /// The kernel or a tool refused half-way; everything was undone.
    Refused,
    /// netlab itself is wrong.
    Bug,
}

/// What most functions that can fail give back.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl ErrorKind {
    /// The process's exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            ErrorKind::Probe => 1,
            ErrorKind::Usage => 2,
            ErrorKind::Host => 3,
            ErrorKind::Refused => 4,
            ErrorKind::Bug => 70,
        }
    }
}

impl Error {
    /// The command line or the lab file is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Error { kind: ErrorKind::Usage, message: message.into(), hint: None }
    }

    /// This host cannot.
    pub fn host(message: impl Into<String>) -> Self {
        Error { kind: ErrorKind::Host, message: message.into(), hint: None }
    }

    /// The kernel or a tool refused half-way.
    pub fn refused(message: impl Into<String>) -> Self {
        Error { kind: ErrorKind::Refused, message: message.into(), hint: None }
    }

    /// netlab itself is wrong.
    pub fn bug(message: impl Into<String>) -> Self {
        Error { kind: ErrorKind::Bug, message: message.into(), hint: None }
    }

    /// With what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// Says what was being done when an operation failed.
pub trait Context<T> {
    /// Turns a failure into `WHAT: WHY`, as the kernel's or a tool's refusal.
    fn context(self, what: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|why| Error::refused(format!("{what}: {why}")))
    }
}
