//! The report of several labs as annotations of GitHub Actions, each at the line of its lab file.

use super::{
    LabReport, LabsReport, Outcome,
    render::{deciding, details},
};
use crate::report::{
    Colour,
    github::{SHOWN, command, probes},
};

/// Every lab that is not as it states has its annotation, and more where there is room.
pub(super) fn render(report: &LabsReport) -> String {
    let is_bad = |lab: &&LabReport| matches!(lab.outcome, Outcome::Failed | Outcome::Error);
    let bad: Vec<&LabReport> = report.labs.iter().filter(is_bad).collect();
    let mut left = SHOWN;
    let mut out = String::new();
    for (index, lab) in bad.iter().enumerate() {
        let others = bad.len() - index - 1;
        if left == 1 && others > 0 {
            let names: Vec<&str> = bad[index..].iter().map(|lab| lab.file.as_str()).collect();
            out.push_str(&command(
                &format!("{} more labs are not as they state", names.len()),
                None,
                &names.join("\n"),
            ));
            break;
        }
        let text = annotations(lab, left.saturating_sub(others).max(1));
        left = left.saturating_sub(text.lines().count()).max(1);
        out.push_str(&text);
    }
    out
}

fn annotations(lab: &LabReport, most: usize) -> String {
    let failed = deciding(lab).map(|report| probes(report, most)).filter(|failed| !failed.is_empty());
    if let Some(failed) = failed {
        return failed;
    }
    let details = details(lab, Colour::Off).unwrap_or_default();
    command(&lab.happened, Some((&lab.file, lab.line.unwrap_or(1))), details.trim_end())
}
