//! The report as JSON.

use super::Report;

pub(super) fn render(report: &Report) -> String {
    // Strings, numbers and lists of them: there is nothing in it that JSON could not hold.
    let mut text = serde_json::to_string_pretty(report).expect("a report is plain data");
    text.push('\n');
    text
}
