//! The report as JUnit XML: a test suite per group, a test case per probe.
//!
//! Who reports on several labs makes one suite of each report: [`suite`].

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report as Junit, TestCase, TestCaseStatus, TestSuite};

use super::{ProbeReport, Report, ResultKind};

pub(super) fn render(report: &Report) -> String {
    let mut junit = Junit::new(format!("netlab verify {}", report.lab));
    for count in &report.groups {
        let mut suite = TestSuite::new(count.group.as_str());
        suite.add_test_cases(report.probes.iter().filter(|probe| probe.group == count.group).map(case));
        junit.add_test_suite(suite);
    }
    // Writing to memory does not fail, and what XML cannot hold is taken out of the strings.
    let mut text = junit.to_string().expect("a report is plain text");
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// All probes of a report as one test suite of this name.
pub fn suite(report: &Report, name: &str) -> TestSuite {
    let mut suite = TestSuite::new(clean(name));
    suite.add_test_cases(report.probes.iter().map(case));
    suite
}

fn case(probe: &ProbeReport) -> TestCase {
    let status = match probe.result {
        ResultKind::Passed => TestCaseStatus::success(),
        ResultKind::Skipped => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(clean(&probe.happened));
            status
        }
        ResultKind::Failed => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_message(clean(&probe.happened)).set_description(clean(&details(probe)));
            status
        }
    };
    let mut case = TestCase::new(clean(&probe.id), status);
    case.set_classname(format!("netlab.{}", probe.group));
    case.set_time(Duration::from_micros(probe.micros.unwrap_or(0)));
    case
}

/// Without the two characters that XML cannot hold and that the writer lets pass.
fn clean(text: &str) -> String {
    text.replace(['\u{fffe}', '\u{ffff}'], "")
}

fn details(probe: &ProbeReport) -> String {
    let mut lines = vec![
        probe.name.clone(),
        format!("expected: {}", probe.expected),
        format!("happened: {}", probe.happened),
        format!("why: {}", probe.why),
        format!("try: {}", probe.command),
    ];
    lines.extend(probe.failed_runs.map(|count| format!("failed in {count} runs")));
    lines.extend(probe.drifts.iter().map(|drift| format!("differs: {}: {}", drift.netns, drift.text)));
    for look in &probe.look_at {
        let command = look.command.as_deref().map(|command| format!(": {command}")).unwrap_or_default();
        lines.push(format!("look at: {}{command}", look.what));
    }
    lines.join("\n")
}
