//! The report of `netlab test`: what each lab file states, what was found, and whether the two agree.
//!
//! [`LabsReport`] is what `-o json` prints, and stable as [`Report`] is: a field may be added, but none
//! renamed or removed without a new [`VERSION`]. Everything else is rendered from it.

mod github;
mod judge;
mod render;
mod schema;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Report;
use crate::{error::ErrorKind, lab::Expectation};

pub use judge::{Asked, Found, judge};
pub use render::{failures, line, render};
pub use schema::schema;

/// The version of the report's form.
pub const VERSION: u32 = 1;

/// The forms of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    /// For people.
    Table,
    /// The [`LabsReport`] itself.
    Json,
    /// JUnit XML, for CI.
    Junit,
    /// Test Anything Protocol, version 14.
    Tap,
    /// Annotations of GitHub Actions.
    Github,
    /// For the summary of a CI job.
    Markdown,
}

/// What a run over several lab files showed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LabsReport {
    /// [`VERSION`].
    pub version: u32,
    /// Whether every lab that was tried is as its file states, and at least one was.
    pub passed: bool,
    /// Every lab file, in the order of their paths.
    pub labs: Vec<LabReport>,
    /// TOML files that are not labs.
    pub left_out: Vec<String>,
}

/// What one lab file showed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LabReport {
    /// The file, as it was named.
    pub file: String,
    /// The lab's name, or the file's, where it has none that can be read.
    pub name: String,
    /// What the file states.
    pub expect: Expectation,
    /// Whether it is so.
    pub outcome: Outcome,
    /// What was found, in one sentence.
    pub happened: String,
    /// How long it took, in milliseconds.
    pub millis: u64,
    /// The line of the file of the first thing that is wrong with it, if that is where something is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// What is wrong with the file, or why the lab could not be tried, as `netlab up` says it.
    pub problem: Option<String>,
    /// Whose fault that is, of a lab that could not be tried.
    pub fault: Option<ErrorKind>,
    /// What its probes showed, if any were tried: what `netlab verify -o json` prints.
    #[schemars(schema_with = "schema::of_report")]
    pub report: Option<Report>,
}

/// Whether a lab is as its file states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is.
    Passed,
    /// It is not.
    Failed,
    /// It could not be found out.
    Error,
    /// It was not tried, as it was told.
    Skipped,
}

impl LabsReport {
    /// Of these labs.
    pub fn new(labs: Vec<LabReport>, left_out: Vec<String>) -> Self {
        let all = |outcomes: &[Outcome]| labs.iter().all(|lab| outcomes.contains(&lab.outcome));
        let passed = all(&[Outcome::Passed, Outcome::Skipped]) && !all(&[Outcome::Skipped]);
        LabsReport { version: VERSION, passed, labs, left_out }
    }

    /// How many labs came out this way.
    pub fn count(&self, outcome: Outcome) -> usize {
        self.labs.iter().filter(|lab| lab.outcome == outcome).count()
    }

    /// The exit code: that a lab is not as it states comes first; then why labs could not be tried;
    /// then that nothing was tried at all.
    pub fn exit_code(&self) -> u8 {
        if self.passed {
            return 0;
        }
        if self.count(Outcome::Failed) > 0 {
            return ErrorKind::Probe.exit_code();
        }
        let faults = self.labs.iter().filter(|lab| lab.outcome == Outcome::Error).filter_map(|lab| lab.fault);
        let worst = [ErrorKind::Bug, ErrorKind::Host, ErrorKind::Refused, ErrorKind::Probe];
        let worst = worst.into_iter().find(|kind| faults.clone().any(|fault| fault == *kind));
        worst.unwrap_or(ErrorKind::Usage).exit_code()
    }
}

impl Outcome {
    /// As the JSON report has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Passed => "passed",
            Outcome::Failed => "failed",
            Outcome::Error => "error",
            Outcome::Skipped => "skipped",
        }
    }
}

#[cfg(test)]
mod tests;
