//! The report as annotations of GitHub Actions: workflow commands, one for each failed probe, which
//! point to the line of the lab file that the probe is about.
//!
//! <https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands>

use super::{ProbeReport, Report, ResultKind};

/// GitHub shows no more errors of a step than this.
pub(super) const SHOWN: usize = 10;

pub(super) fn render(report: &Report) -> String {
    probes(report, SHOWN)
}

/// The failed probes in so many annotations at most, and in one at least.
pub(super) fn probes(report: &Report, most: usize) -> String {
    let failed: Vec<&ProbeReport> = report.probes.iter().filter(|probe| probe.result == ResultKind::Failed).collect();
    // One place for the rest, if not all can be shown.
    let told = if failed.len() > most { most.saturating_sub(1) } else { failed.len() };
    let mut out: String = failed[..told].iter().map(|probe| annotation(report, probe)).collect();
    if let rest @ [first, ..] = &failed[told..] {
        let names: Vec<&str> = rest.iter().map(|probe| probe.id.as_str()).collect();
        let title = format!("{} {}probes failed", rest.len(), if told > 0 { "more " } else { "" });
        out.push_str(&command(&title, place(report, first), &names.join("\n")));
    }
    out
}

fn annotation(report: &Report, probe: &ProbeReport) -> String {
    let mut lines = vec![
        format!("expected: {}", probe.expected),
        format!("happened: {}", probe.happened),
        format!("why: {}", probe.why),
    ];
    lines.extend(probe.drifts.iter().take(2).map(|drift| format!("differs: {}: {}", drift.netns, drift.text)));
    lines.push(format!("try: {}", probe.command));
    command(&probe.name, place(report, probe), &lines.join("\n"))
}

/// The line of the lab's file, if both are known.
fn place<'r>(report: &'r Report, probe: &ProbeReport) -> Option<(&'r str, usize)> {
    Some((report.file.as_deref()?, probe.line?))
}

/// One annotation.
pub(super) fn command(title: &str, place: Option<(&str, usize)>, message: &str) -> String {
    let place = place.map(|(file, line)| format!(",file={},line={line}", property(file))).unwrap_or_default();
    format!("::error title={}{place}::{}\n", property(title), data(message))
}

/// What would end the line or begin an escape.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// And what would end the value of a property.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_end_a_command_is_escaped() {
        assert_eq!(
            command("a: 100 %, b", Some(("labs/x,y.toml", 7)), "one: two, 5 %\r\nthree"),
            "::error title=a%3A 100 %25%2C b,file=labs/x%2Cy.toml,line=7::one: two, 5 %25%0D%0Athree\n"
        );
        assert_eq!(command("t", None, "m"), "::error title=t::m\n");
    }
}
