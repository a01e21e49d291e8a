//! The report in the Test Anything Protocol, version 14: one test point per probe, and a YAML
//! block with what is known of a failure.

use super::{ProbeReport, Report, ResultKind};

pub(super) fn render(report: &Report) -> String {
    let mut out = format!("TAP version 14\n1..{}\n", report.probes.len());
    for cause in &report.causes {
        let count = cause.probes.len();
        out.push_str(&format!("# {}: {} ({count} probe{})\n", cause.netns, one_line(&cause.text), plural(count)));
    }
    for (index, probe) in report.probes.iter().enumerate() {
        out.push_str(&point(index + 1, probe));
    }
    out
}

pub(super) fn point(number: usize, probe: &ProbeReport) -> String {
    let id = escape(&probe.id);
    match probe.result {
        ResultKind::Passed => format!("ok {number} - {id}\n"),
        ResultKind::Skipped => format!("ok {number} - {id} # SKIP {}\n", escape(&probe.happened)),
        ResultKind::Failed => {
            let mut out = format!("not ok {number} - {id}\n  ---\n");
            let fields = [
                ("message", &probe.name),
                ("expected", &probe.expected),
                ("happened", &probe.happened),
                ("why", &probe.why),
                ("command", &probe.command),
            ];
            for (key, value) in fields {
                out.push_str(&format!("  {key}: {}\n", quoted(value)));
            }
            for drift in &probe.drifts {
                out.push_str(&format!("  # {}: {}\n", drift.netns, one_line(&drift.text)));
            }
            out.push_str("  ...\n");
            out
        }
    }
}

/// A `#` would begin a directive, and a backslash escapes it.
pub(super) fn escape(text: &str) -> String {
    one_line(text).replace('\\', "\\\\").replace('#', "\\#")
}

/// A JSON string is a YAML string too.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}
