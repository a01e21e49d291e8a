//! What goes wrong with a lab in a program.

use std::{fmt, process::Output};

use crate::{
    error::ErrorKind,
    report::{Report, ResultKind, labs},
};

/// Why a lab is not as it was to be: what `netlab` would print.
///
/// It is printed by [`Debug`](fmt::Debug) as by [`Display`](fmt::Display), so that a test that ends with
/// `?` or `unwrap` shows it readably.
#[derive(Clone, PartialEq)]
pub struct Error {
    kind: ErrorKind,
    text: String,
    report: Option<Box<Report>>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Error { kind, text: text.into(), report: None }
    }

    /// Of a run of `netlab` that did not succeed.
    pub(super) fn of(output: &Output) -> Self {
        let kind = match output.status.code() {
            Some(1) => ErrorKind::Probe,
            Some(2) => ErrorKind::Usage,
            Some(3) => ErrorKind::Host,
            Some(70) => ErrorKind::Bug,
            _ => ErrorKind::Refused,
        };
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim();
        // Of several problems each keeps its heading.
        let only = said.strip_prefix("error: ").filter(|rest| !rest.contains("\nerror: "));
        match only.unwrap_or(said) {
            "" => Error::new(kind, format!("netlab ended without a word: {}", output.status)),
            said => Error::new(kind, said),
        }
    }

    /// Of probes that failed.
    pub(super) fn of_probes(report: Report) -> Self {
        let (total, failed) = (report.probes.len(), report.count(ResultKind::Failed));
        let text = match failed {
            0 => format!("lab {}: no probe passed", report.lab),
            _ => {
                format!("lab {}: {failed} of {total} probes failed\n{}", report.lab, labs::failures(&report).trim_end())
            }
        };
        Error { kind: ErrorKind::Probe, text, report: Some(Box::new(report)) }
    }

    /// Whose fault it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What the probes showed, if it is they that failed.
    pub fn report(&self) -> Option<&Report> {
        self.report.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Error {}
