//! From what a lab file states and what was found to whether the two agree.

use super::Outcome;
use crate::{
    diag::{Diagnostic, Diagnostics},
    error::ErrorKind,
    lab::Expectation,
    report::{ProbeReport, Report, ResultKind},
};

/// What was found of a lab file.
#[derive(Debug, Clone, Copy)]
pub enum Found<'a> {
    /// It is refused.
    Refused(&'a Diagnostics),
    /// It is good; no lab was made of it, as it states that it is invalid.
    Good,
    /// The lab came up, and its probes were tried: all, or only some.
    Probed(&'a Report, Asked),
    /// None of its probes is among those that were asked for.
    NothingToTry,
    /// It could not be tried.
    Unable(ErrorKind),
}

/// Which probes were tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// All of them.
    All,
    /// Those that the user chose.
    Some,
}

/// Whether a lab is as stated, and what was found, in one sentence.
pub fn judge(expect: &Expectation, found: Found<'_>) -> (Outcome, String) {
    match (expect, found) {
        (_, Found::Unable(ErrorKind::Usage | ErrorKind::Probe)) => {
            (Outcome::Failed, "the lab could not be tried".to_owned())
        }
        (_, Found::Unable(ErrorKind::Host)) => (Outcome::Error, "this host cannot build the lab".to_owned()),
        (_, Found::Unable(ErrorKind::Refused)) => (Outcome::Error, "the lab could not be built".to_owned()),
        (_, Found::Unable(ErrorKind::Bug)) => (Outcome::Error, "netlab itself is wrong".to_owned()),
        (_, Found::NothingToTry) => (Outcome::Skipped, "no probe of it was asked for".to_owned()),
        (Expectation::Invalid(texts), Found::Refused(problems)) => refused(texts, problems),
        (Expectation::Invalid(_), Found::Good | Found::Probed(..)) => {
            (Outcome::Failed, "the file is good, and states that it is invalid".to_owned())
        }
        (_, Found::Refused(problems)) => (Outcome::Failed, format!("the file is refused: {}", in_short(problems))),
        (_, Found::Good) => (Outcome::Failed, "no probe was tried".to_owned()),
        (_, Found::Probed(report, _)) if report.probes.is_empty() => (Outcome::Failed, "no probe was tried".to_owned()),
        (Expectation::Passes, Found::Probed(report, _)) => passes(report),
        (Expectation::Fails(texts), Found::Probed(report, asked)) => fails(texts, report, asked),
    }
}

fn refused(texts: &[String], problems: &Diagnostics) -> (Outcome, String) {
    let is_said = |text: &&String| problems.0.iter().any(|problem| says(problem, text));
    match texts.iter().find(|text| !is_said(text)) {
        None => (Outcome::Passed, format!("refused as it states: {}", in_short(problems))),
        Some(text) => (Outcome::Failed, format!("the file is refused, but not with {text:?}: {}", in_short(problems))),
    }
}

fn says(problem: &Diagnostic, text: &str) -> bool {
    let Diagnostic { message, label, related, hint, .. } = problem;
    let related = related.iter().map(|(_, label)| label);
    [message, label].into_iter().chain(related).chain(hint).any(|said| said.contains(text))
}

fn in_short(problems: &Diagnostics) -> String {
    let first = problems.0.first().map_or("", |problem| &problem.message);
    match problems.0.len() {
        0 | 1 => first.to_owned(),
        2 => format!("{first}; and 1 more problem"),
        count => format!("{first}; and {} more problems", count - 1),
    }
}

fn passes(report: &Report) -> (Outcome, String) {
    let total = report.probes.len();
    match report.count(ResultKind::Failed) {
        0 if report.passed() => (Outcome::Passed, format!("all {total} probes passed")),
        0 => (Outcome::Failed, "no probe passed".to_owned()),
        failed => (Outcome::Failed, format!("{failed} of {total} probes failed")),
    }
}

fn fails(texts: &[String], report: &Report, asked: Asked) -> (Outcome, String) {
    let is_of = |text: &String, probe: &ProbeReport| probe.id.contains(text) || probe.name.contains(text);
    let failed: Vec<&ProbeReport> = report.probes.iter().filter(|probe| probe.result == ResultKind::Failed).collect();
    if let Some(probe) = failed.iter().find(|probe| !texts.iter().any(|text| is_of(text, probe))) {
        let more = failed.len() - 1;
        let among = if more == 0 { String::new() } else { format!(" ({more} more fail)") };
        return (Outcome::Failed, format!("{} fails, and the file does not state that{among}", probe.id));
    }
    for text in texts.iter().filter(|text| !failed.iter().any(|probe| is_of(text, probe))) {
        if report.probes.iter().any(|probe| is_of(text, probe)) {
            return (Outcome::Failed, format!("the file states that {text:?} fails, and it passes"));
        }
        if asked == Asked::All {
            return (Outcome::Failed, format!("the file states that {text:?} fails, and no probe is called so"));
        }
    }
    let (total, failed) = (report.probes.len(), failed.len());
    (Outcome::Passed, format!("{failed} of {total} probes failed, as the file states"))
}
