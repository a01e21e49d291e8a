//! The report for people: causes first, then what passed, how load was spread, and each failure
//! with the command that repeats it.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Cause, Colour, ProbeReport, Report, ResultKind, distribution, matrix,
    paint::{Columns, Ink, paint},
};

/// So many failures of a cause are told in full.
const TOLD: usize = 4;
/// So many failures are named, and so many probes that were skipped for the same reason.
const MOST_ROWS: usize = 16;

pub(super) fn render(report: &Report, colour: Colour) -> String {
    let mut sections = vec![headline(report, colour)];
    sections
        .extend(report.causes.iter().enumerate().map(|(index, cause)| self::cause(report, index + 1, cause, colour)));
    sections.push(groups(report, colour));
    sections.extend(matrix::services(report, colour));
    sections.extend(distribution::section(&report.distributions, &report.statistics, colour));
    sections.extend(failures(report, colour));
    sections.extend(notes(report, colour));
    sections.retain(|section| !section.is_empty());
    sections.join("\n")
}

pub(super) fn headline(report: &Report, colour: Colour) -> String {
    let total = report.probes.len();
    let failed = report.count(ResultKind::Failed);
    let skipped = report.count(ResultKind::Skipped);
    let mut words = match (total, failed) {
        (0, _) => paint(colour, Ink::Bad, "no probe to make, so nothing is shown"),
        (_, 0) => paint(colour, Ink::Good, &format!("all {total} probes passed")),
        (_, failed) => paint(colour, Ink::Bad, &format!("{failed} of {total} probes failed")),
    };
    if skipped > 0 {
        words.push_str(&format!(", {skipped} skipped"));
    }
    if report.runs > 1 {
        words.push_str(&format!(" in {} runs", report.runs));
    }
    format!("lab {}, {} rules: {words}\n", report.lab, report.proxy)
}

fn cause(report: &Report, number: usize, cause: &Cause, colour: Colour) -> String {
    let count = cause.probes.len();
    let probes = match count {
        1 => "1 probe fails because of it".to_owned(),
        count => format!("{count} probes fail because of it"),
    };
    let mark = if report.causes.len() == 1 { "cause".to_owned() } else { format!("cause {number}") };
    let mut out = format!(
        "{}  {} ({probes})\n",
        paint(colour, Ink::Bad, &mark),
        paint(colour, Ink::Heading, &format!("{}: {}", cause.netns, cause.text))
    );
    for other in &cause.also {
        out.push_str(&format!("  or     {other}\n"));
    }
    for mend in &cause.mend {
        // A verb of netlab works anywhere.
        let place = if mend.starts_with("netlab ") { "" } else { "   # in `netlab shell`" };
        out.push_str(&format!("  mend   {mend}{place}\n"));
    }
    for look in &cause.look_at {
        out.push_str(&line_of_look(look));
    }
    out
}

fn line_of_look(look: &super::LookAt) -> String {
    match &look.command {
        Some(command) => format!("  look   {command}   # {}\n", look.what),
        None => format!("  look   {}\n", look.what),
    }
}

fn groups(report: &Report, colour: Colour) -> String {
    if report.groups.is_empty() {
        return String::new();
    }
    let number = |count: usize, ink| (count.to_string(), (count > 0).then_some(ink));
    let mut columns = Columns::new(&["GROUP", "PASSED", "FAILED", "SKIPPED", "SHOWS THAT"]);
    for group in &report.groups {
        columns.row(vec![
            (group.group.to_string(), None),
            number(group.passed, Ink::Good),
            number(group.failed, Ink::Bad),
            number(group.skipped, Ink::Doubtful),
            (group.shows.clone(), None),
        ]);
    }
    columns.render(colour, "")
}

fn failures(report: &Report, colour: Colour) -> Vec<String> {
    let failed: Vec<&ProbeReport> = report.probes.iter().filter(|probe| probe.result == ResultKind::Failed).collect();
    let mut told = BTreeSet::new();
    let mut sections = Vec::new();
    for (index, cause) in report.causes.iter().enumerate() {
        let here: Vec<&&ProbeReport> = failed.iter().filter(|probe| cause.probes.contains(&probe.id)).collect();
        for probe in telling(&here) {
            told.insert(&probe.id);
            sections.push(failure(probe, colour));
        }
        let rest: Vec<&str> =
            here.iter().filter(|probe| !told.contains(&probe.id)).map(|probe| probe.id.as_str()).collect();
        if !rest.is_empty() {
            let of = if report.causes.len() == 1 { String::new() } else { format!(" of cause {}", index + 1) };
            let count = rest.len();
            let noun = if count == 1 { "failure" } else { "failures" };
            let mut text = format!("{}\n", paint(colour, Ink::Bad, &format!("{count} more {noun}{of}")));
            for id in rest.iter().take(MOST_ROWS) {
                text.push_str(&format!("  {id}\n"));
            }
            if rest.len() > MOST_ROWS {
                text.push_str(&format!(
                    "  and {} more; `netlab verify -o json` has them all\n",
                    rest.len() - MOST_ROWS
                ));
            }
            sections.push(text);
        }
    }
    sections
}

/// The failures of a cause to tell in full: of as many groups and kinds as possible.
pub(super) fn telling<'a>(failures: &[&&'a ProbeReport]) -> Vec<&'a ProbeReport> {
    let mut seen = BTreeSet::new();
    let mut chosen: Vec<&ProbeReport> =
        failures.iter().map(|probe| **probe).filter(|probe| seen.insert((probe.group, probe.target.kind))).collect();
    chosen.truncate(TOLD);
    for probe in failures {
        if chosen.len() < TOLD && !chosen.iter().any(|other| other.id == probe.id) {
            chosen.push(probe);
        }
    }
    chosen
}

fn failure(probe: &ProbeReport, colour: Colour) -> String {
    let mut out = format!("{}  {}\n", paint(colour, Ink::Bad, "FAIL"), paint(colour, Ink::Heading, &probe.name));
    for (what, text) in [("expected", &probe.expected), ("happened", &probe.happened), ("why", &probe.why)] {
        out.push_str(&format!("  {what:<9}{text}\n"));
    }
    for drift in probe.drifts.iter().take(2) {
        out.push_str(&format!("  {:<9}{}: {}\n", "differs", drift.netns, drift.text));
    }
    for look in probe.look_at.iter().take(3) {
        match &look.command {
            Some(command) => out.push_str(&format!("  {:<9}{command}   # {}\n", "look", look.what)),
            None => out.push_str(&format!("  {:<9}{}\n", "look", look.what)),
        }
    }
    if let Some(count) = probe.failed_runs {
        out.push_str(&format!("  {:<9}failed in {count} runs\n", "runs"));
    }
    out.push_str(&format!("  {:<9}{}\n", "try", probe.command));
    if let Some(folder) = &probe.evidence {
        out.push_str(&format!("  {:<9}{folder}\n", "evidence"));
    }
    out
}

fn notes(report: &Report, colour: Colour) -> Option<String> {
    let mut lines = Vec::new();
    for bound in &report.bounds {
        lines.push(format!("{}: {} of {} {} tried", bound.group, bound.tried, bound.of, bound.what));
    }
    if !report.bounds.is_empty() {
        let seed = report.seed;
        lines.push(format!("`--seed {seed}` chooses the same ones again, and `--full` tries all"));
    }
    for flaky in &report.flaky {
        lines.push(format!("flaky: {} failed in {} of {} runs", flaky.probe, flaky.failed, flaky.of));
    }
    let mut skipped: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for probe in report.probes.iter().filter(|probe| probe.result == ResultKind::Skipped) {
        skipped.entry(&probe.happened).or_default().push(&probe.id);
    }
    for (because, ids) in skipped {
        match ids.len() {
            many if many > MOST_ROWS => lines.push(format!("skipped {many} probes: {because}")),
            _ => lines.extend(ids.iter().map(|id| format!("skipped {id}: {because}"))),
        }
    }
    for drift in &report.idle_drifts {
        lines.push(format!("{}: {}; no probe fails because of it", drift.netns, drift.text));
    }
    let note = paint(colour, Ink::Faint, "note");
    (!lines.is_empty()).then(|| lines.iter().map(|line| format!("{note}  {line}\n")).collect())
}
