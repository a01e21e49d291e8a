//! The report as Markdown, as it stands in the summary of a CI job.

use super::{ProbeReport, Report, ResultKind};
use crate::probe::judge::p_text;

/// So many failures are listed.
const TOLD: usize = 50;

pub(super) fn render(report: &Report) -> String {
    let failed: Vec<&ProbeReport> = report.probes.iter().filter(|probe| probe.result == ResultKind::Failed).collect();
    let total = report.probes.len();
    let verdict = match failed.len() {
        0 if report.passed => format!("all {total} probes passed"),
        0 => "no probe was made".to_owned(),
        count => format!("{count} of {total} probes failed"),
    };
    let mut out = format!("### netlab verify {}: {verdict}\n\n", cell(&report.lab));
    out.push_str("| group | passed | failed | skipped | shows that |\n|---|---:|---:|---:|---|\n");
    for group in &report.groups {
        let (passed, failed, skipped) = (group.passed, group.failed, group.skipped);
        out.push_str(&format!("| {} | {passed} | {failed} | {skipped} | {} |\n", group.group, cell(&group.shows)));
    }
    for cause in &report.causes {
        out.push_str(&format!("\n**{}**: {} ({} probes)\n", cell(&cause.netns), cell(&cause.text), cause.probes.len()));
        for mend in &cause.mend {
            out.push_str(&format!("\n```sh\n{mend}\n```\n"));
        }
    }
    if !failed.is_empty() {
        out.push_str("\n| failed | expected | happened |\n|---|---|---|\n");
        for probe in failed.iter().take(TOLD) {
            let words = [&probe.name, &probe.expected, &probe.happened].map(|text| cell(text));
            out.push_str(&format!("| {} |\n", words.join(" | ")));
        }
        if failed.len() > TOLD {
            out.push_str(&format!("\nand {} more\n", failed.len() - TOLD));
        }
    }
    if !report.flaky.is_empty() {
        out.push_str("\n| flaky | failed in |\n|---|---|\n");
        for flaky in &report.flaky {
            out.push_str(&format!("| {} | {} of {} runs |\n", cell(&flaky.probe), flaky.failed, flaky.of));
        }
    }
    if !report.distributions.is_empty() {
        out.push_str("\n| Service | spread by | connections | p-value | |\n|---|---|---:|---:|---|\n");
        for test in &report.distributions {
            let verdict = if test.even { "as it must be" } else { "**not** as it must be" };
            let names = [&test.service_port, &test.node].map(|text| cell(text)).join(" | ");
            out.push_str(&format!("| {names} | {} | {} | {verdict} |\n", test.connections, p_text(test.p_value)));
        }
    }
    out
}

/// A text that stays in its cell, and means nothing to Markdown.
pub(super) fn cell(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\n' | '\r' => out.push(' '),
            '|' | '*' | '_' | '`' | '<' | '\\' | '[' | ']' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_stays_a_cell() {
        assert_eq!(cell("a|b\n<i>*_`"), "a\\|b \\<i>\\*\\_\\`");
    }
}
