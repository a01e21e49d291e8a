//! The report of several labs as a table, JSON, JUnit XML, TAP or Markdown.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report as Junit, TestCase, TestCaseStatus, TestSuite};

use super::{Form, LabReport, LabsReport, Outcome, github};
use crate::{
    lab::Expectation,
    report::{
        Colour, ProbeReport, Report, ResultKind, junit,
        markdown::cell,
        paint::{Columns, Ink, paint},
        tap,
    },
};

/// So many failed probes of a lab are told.
const TOLD: usize = 4;

/// Renders a report.
pub fn render(report: &LabsReport, form: Form, colour: Colour) -> String {
    match form {
        Form::Table => table(report, colour),
        // Strings, numbers and lists of them: there is nothing in it that JSON could not hold.
        Form::Json => serde_json::to_string_pretty(report).expect("a report is plain data") + "\n",
        Form::Junit => junit(report),
        Form::Tap => tap(report),
        Form::Github => github::render(report),
        Form::Markdown => markdown(report),
    }
}

/// One lab in one line, for those who watch.
pub fn line(lab: &LabReport, colour: Colour) -> String {
    let (word, ink) = verdict(lab.outcome);
    format!("{} {}: {} ({})", paint(colour, ink, &format!("{word:<5}")), lab.file, lab.happened, seconds(lab.millis))
}

fn verdict(outcome: Outcome) -> (&'static str, Ink) {
    match outcome {
        Outcome::Passed => ("ok", Ink::Good),
        Outcome::Failed => ("FAIL", Ink::Bad),
        Outcome::Error => ("ERROR", Ink::Bad),
        Outcome::Skipped => ("skip", Ink::Doubtful),
    }
}

fn seconds(millis: u64) -> String {
    format!("{millis} ms")
}

/// The lab's probes, where it is they that decide.
pub(super) fn deciding(lab: &LabReport) -> Option<&Report> {
    lab.report.as_ref().filter(|report| lab.expect == Expectation::Passes && !report.probes.is_empty())
}

fn table(report: &LabsReport, colour: Colour) -> String {
    let mut columns = Columns::new(&["LAB", "RESULT", "TIME", "WHAT WAS FOUND"]);
    for lab in &report.labs {
        let (word, ink) = verdict(lab.outcome);
        columns.row(vec![
            (lab.file.clone(), None),
            (word.to_owned(), Some(ink)),
            (seconds(lab.millis), None),
            (lab.happened.clone(), None),
        ]);
    }
    let mut sections = vec![columns.render(colour, "")];
    sections.extend(report.labs.iter().filter_map(|lab| details(lab, colour)));
    sections.push(summary(report, colour));
    sections.join("\n")
}

fn summary(report: &LabsReport, colour: Colour) -> String {
    let total = report.labs.len();
    let [passed, failed, error, skipped] =
        [Outcome::Passed, Outcome::Failed, Outcome::Error, Outcome::Skipped].map(|outcome| report.count(outcome));
    let words = match (passed, failed + error) {
        (0, 0) => paint(colour, Ink::Bad, "no lab was tried, so nothing is shown"),
        (1, 0) if total == 1 => paint(colour, Ink::Good, "1 lab is as it states"),
        (_, 0) => paint(colour, Ink::Good, &format!("{passed} of {total} labs are as they state")),
        (_, bad) => paint(colour, Ink::Bad, &format!("{bad} of {total} labs are not as they state")),
    };
    let mut text = words;
    for (count, what) in [(error, "of them could not be tried"), (skipped, "skipped")] {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    text.push('\n');
    for file in &report.left_out {
        text.push_str(&format!("left out, as it has no key of a lab: {file}\n"));
    }
    text
}

/// What there is to know of a lab that is not as it states.
pub(super) fn details(lab: &LabReport, colour: Colour) -> Option<String> {
    if matches!(lab.outcome, Outcome::Passed | Outcome::Skipped) {
        return None;
    }
    let heading = format!("{}  {}: {}", verdict(lab.outcome).0, lab.file, lab.happened);
    let mut text = paint(colour, Ink::Bad, &heading) + "\n";
    for line in lab.problem.iter().flat_map(|problem| problem.trim_end().lines()) {
        text.push_str(format!("  {line}").trim_end());
        text.push('\n');
    }
    if let Some(report) = &lab.report {
        text.push_str(&failures(report));
        text.push_str(&format!("  more   netlab run {} -- netlab verify\n", lab.file));
    }
    Some(text)
}

/// The causes of what has failed, and the first failed probes, indented.
pub fn failures(report: &Report) -> String {
    let mut text = String::new();
    for cause in &report.causes {
        text.push_str(&format!("  cause  {}: {}\n", cause.netns, cause.text));
    }
    let failed: Vec<&ProbeReport> = report.probes.iter().filter(|probe| probe.result == ResultKind::Failed).collect();
    for probe in failed.iter().take(TOLD) {
        text.push_str(&format!(
            "  probe  {}\n         tried    {}\n         expected {}\n         happened {}\n",
            probe.id, probe.name, probe.expected, probe.happened
        ));
    }
    match failed.len().saturating_sub(TOLD) {
        0 => {}
        1 => text.push_str("  and 1 more probe\n"),
        more => text.push_str(&format!("  and {more} more probes\n")),
    }
    text
}

/// A test suite per lab: its probes, or where it is not they that decide, one test case.
fn junit(report: &LabsReport) -> String {
    let mut document = Junit::new("netlab test");
    for lab in &report.labs {
        let mut suite = match deciding(lab) {
            Some(report) => of_probes(lab, report),
            None => {
                let mut suite = TestSuite::new(lab.file.clone());
                suite.add_test_case(case(lab));
                suite
            }
        };
        suite.set_time(Duration::from_millis(lab.millis));
        document.add_test_suite(suite);
    }
    // Writing to memory does not fail, and what XML cannot hold is taken out of the strings.
    let text = document.to_string().expect("a report is plain text");
    text.trim_end().to_owned() + "\n"
}

/// The probes, of which each says which lab it is of.
fn of_probes(lab: &LabReport, report: &Report) -> TestSuite {
    let mut suite = junit::suite(report, &lab.file);
    for case in &mut suite.test_cases {
        let group = case.classname.as_ref().map_or("", |class| class.as_str());
        let group = group.strip_prefix("netlab.").unwrap_or(group);
        let class = format!("netlab.{}.{group}", lab.name);
        case.set_classname(class);
    }
    suite
}

fn case(lab: &LabReport) -> TestCase {
    let mut status = match lab.outcome {
        Outcome::Passed => TestCaseStatus::success(),
        Outcome::Skipped => TestCaseStatus::skipped(),
        Outcome::Failed => TestCaseStatus::non_success(NonSuccessKind::Failure),
        Outcome::Error => TestCaseStatus::non_success(NonSuccessKind::Error),
    };
    if lab.outcome != Outcome::Passed {
        // A file's own text is in it, which may have the two characters that XML cannot hold and that the
        // writer lets pass.
        let clean = |text: &str| text.replace(['\u{fffe}', '\u{ffff}'], "");
        status.set_message(clean(&lab.happened));
        let details = details(lab, Colour::Off);
        details.into_iter().for_each(|details| _ = status.set_description(clean(&details)));
    }
    let mut case = TestCase::new(stated(&lab.expect), status);
    case.set_classname(format!("netlab.{}", lab.name));
    case.set_time(Duration::from_millis(lab.millis));
    case
}

fn stated(expect: &Expectation) -> &'static str {
    match expect {
        Expectation::Passes => "the lab comes up and its probes pass",
        Expectation::Invalid(_) => "the file is refused",
        Expectation::Fails(_) => "the stated probes fail, and no others",
    }
}

/// A test point per lab, below the points of its probes where it is they that decide.
fn tap(report: &LabsReport) -> String {
    let mut out = format!("TAP version 14\n1..{}\n", report.labs.len());
    for (index, lab) in report.labs.iter().enumerate() {
        let (number, file) = (index + 1, tap::escape(&lab.file));
        if let Some(report) = deciding(lab) {
            out.push_str(&format!("# Subtest: {file}\n    1..{}\n", report.probes.len()));
            for (index, probe) in report.probes.iter().enumerate() {
                tap::point(index + 1, probe).lines().for_each(|line| out.push_str(&format!("    {line}\n")));
            }
        }
        match lab.outcome {
            Outcome::Passed => out.push_str(&format!("ok {number} - {file}\n")),
            Outcome::Skipped => out.push_str(&format!("ok {number} - {file} # SKIP {}\n", tap::escape(&lab.happened))),
            Outcome::Failed | Outcome::Error => {
                out.push_str(&format!("not ok {number} - {file}\n  ---\n"));
                out.push_str(&format!("  message: {}\n", tap::quoted(&lab.happened)));
                if let Some(problem) = &lab.problem {
                    out.push_str(&format!("  problem: {}\n", tap::quoted(problem)));
                }
                out.push_str("  ...\n");
            }
        }
    }
    for file in &report.left_out {
        out.push_str(&format!("# left out, as it has no key of a lab: {}\n", tap::escape(file)));
    }
    out
}

/// The labs in a table, and below it what there is to know of those that are not as they state.
fn markdown(report: &LabsReport) -> String {
    let summary = summary(report, Colour::Off);
    let mut out = format!("### netlab test: {}\n\n", cell(summary.lines().next().unwrap_or_default()));
    out.push_str("| lab | result | time | what was found |\n|---|---|---:|---|\n");
    for lab in &report.labs {
        let words = [&lab.file, verdict(lab.outcome).0, &seconds(lab.millis), &lab.happened].map(cell);
        out.push_str(&format!("| {} |\n", words.join(" | ")));
    }
    for details in report.labs.iter().filter_map(|lab| details(lab, Colour::Off)) {
        // Indented, so that nothing in it is Markdown.
        out.push('\n');
        details.lines().for_each(|line| out.push_str(&format!("    {line}\n")));
    }
    out
}
