//! The report for people: causes first, then what passed, how load was spread, and each failure
//! with the command that repeats it.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Cause, Colour, Distribution, ProbeReport, Report, ResultKind, Statistics,
    paint::{Columns, Ink, paint},
};
use crate::probe::{
    judge::p_text,
    suite::{Group, TargetKind},
};

/// So many failures of a cause are told in full.
const TOLD: usize = 4;
/// Larger tables than this are more than a terminal shows.
const MOST_ROWS: usize = 16;
const MOST_COLUMNS: usize = 7;

pub(super) fn render(report: &Report, colour: Colour) -> String {
    let mut sections = vec![headline(report, colour)];
    sections
        .extend(report.causes.iter().enumerate().map(|(index, cause)| self::cause(report, index + 1, cause, colour)));
    sections.push(groups(report, colour));
    sections.extend(matrices(report, colour));
    sections.extend(distributions(report, colour));
    sections.extend(failures(report, colour));
    sections.extend(notes(report, colour));
    sections.retain(|section| !section.is_empty());
    sections.join("\n")
}

fn headline(report: &Report, colour: Colour) -> String {
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

/// For each Service port: from where, to which address, how it came out.
fn matrices(report: &Report, colour: Colour) -> Vec<String> {
    let mut ports: BTreeMap<(&str, &str), Vec<&ProbeReport>> = BTreeMap::new();
    for probe in report.probes.iter().filter(|probe| is_in_matrix(probe)) {
        ports.entry((&probe.target.of, &probe.target.protocol)).or_default().push(probe);
    }
    let matrix = |((port, protocol), probes): (_, Vec<&ProbeReport>)| match protocol {
        "TCP" => matrix(port, &probes, colour),
        other => matrix(&format!("{port} ({other})"), &probes, colour),
    };
    // The cluster's DNS is in every lab, and nobody's lesson until something is wrong with it.
    let is_told = |((port, _), probes): &((&str, &str), Vec<&ProbeReport>)| {
        !port.starts_with(CLUSTER_DNS) || probes.iter().any(|probe| probe.result == ResultKind::Failed)
    };
    ports.into_iter().filter(is_told).filter_map(matrix).collect()
}

/// How the ports of the cluster's DNS begin.
const CLUSTER_DNS: &str = "kube-dns.kube-system:";

fn is_in_matrix(probe: &ProbeReport) -> bool {
    let is_service = !matches!(
        probe.target.kind,
        TargetKind::Pod | TargetKind::Node | TargetKind::Machine | TargetKind::Ladder | TargetKind::Url
    );
    is_service && matches!(probe.group, Group::Services | Group::Negative)
}

fn matrix(port: &str, probes: &[&ProbeReport], colour: Colour) -> Option<String> {
    let mut addresses: Vec<&str> = Vec::new();
    let mut vantages: Vec<&str> = Vec::new();
    for probe in probes {
        if !addresses.contains(&probe.target.address.as_str()) {
            addresses.push(&probe.target.address);
        }
        if !vantages.contains(&probe.from.as_str()) {
            vantages.push(&probe.from);
        }
    }
    // A Service that answers nobody has no table; nor has one that only says no in one place.
    if probes.iter().all(|probe| probe.target.silent) || vantages.len() > MOST_ROWS || addresses.len() > MOST_COLUMNS {
        return None;
    }
    let mut header = vec!["FROM"];
    header.extend(&addresses);
    let mut columns = Columns::new(&header);
    for vantage in vantages {
        let mut row = vec![(vantage.to_owned(), None)];
        row.extend(addresses.iter().map(|address| {
            cell(probes.iter().copied().filter(|probe| probe.from == vantage && probe.target.address == *address))
        }));
        columns.row(row);
    }
    Some(format!("{} {port}\n{}", paint(colour, Ink::Heading, "service"), columns.render(colour, "")))
}

/// All probes of one way: failed if one of them failed.
fn cell<'a>(probes: impl Iterator<Item = &'a ProbeReport>) -> (String, Option<Ink>) {
    let mut text = ("-".to_owned(), Some(Ink::Faint));
    for probe in probes {
        match (probe.result, probe.target.silent) {
            (ResultKind::Failed, _) => return ("FAIL".to_owned(), Some(Ink::Bad)),
            (ResultKind::Passed, false) => text = ("ok".to_owned(), Some(Ink::Good)),
            (ResultKind::Passed, true) => text = ("closed".to_owned(), Some(Ink::Good)),
            (ResultKind::Skipped, _) => {}
        }
    }
    text
}

fn distributions(report: &Report, colour: Colour) -> Option<String> {
    if report.distributions.is_empty() {
        return None;
    }
    let mut columns = Columns::new(&[
        "NODE",
        "SERVICE",
        "ENDPOINT",
        "OBSERVED",
        "SHARE",
        "EXPECTED",
        "99.9 % INTERVAL",
        "P-VALUE",
        "",
    ]);
    for distribution in &report.distributions {
        rows(&mut columns, distribution);
    }
    let heading = paint(colour, Ink::Heading, "distribution");
    Some(format!("{heading}\n{}{}", columns.render(colour, ""), small_print(&report.statistics)))
}

fn rows(columns: &mut Columns, distribution: &Distribution) {
    for (index, share) in distribution.shares.iter().enumerate() {
        let first = |text: String| if index == 0 { text } else { String::new() };
        let outside = share.expected < share.low || share.expected > share.high;
        let verdict = match distribution.even {
            true => ("even".to_owned(), Ink::Good),
            false => ("UNEVEN".to_owned(), Ink::Bad),
        };
        columns.row(vec![
            (first(distribution.node.clone()), None),
            (first(distribution.service_port.clone()), None),
            (share.endpoint.clone(), None),
            (format!("{} of {}", share.observed, distribution.connections), None),
            (percent(share.share), outside.then_some(Ink::Doubtful)),
            (percent(share.expected), None),
            (format!("{} to {}", percent(share.low), percent(share.high)), None),
            (first(p_text(distribution.p_value)), None),
            (first(verdict.0), (index == 0).then_some(verdict.1)),
        ]);
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn small_print(statistics: &Statistics) -> String {
    let Statistics { tests, alpha, alpha_each, power, .. } = statistics;
    let each = match tests {
        1 => String::new(),
        _ => format!(", each test at {}", p_text(*alpha_each)),
    };
    let mut text = format!(
        "chi-square goodness of fit; chance alone fails one of the {tests} tests in at most {} % of runs{each};\n\
         intervals are Wilson's, for each share alone",
        alpha * 100.0
    );
    if let Some(power) = power {
        text.push_str(&format!("; a ladder of 1/n, …, 1/n, 1 is noticed in {} of runs", at_least(*power)));
    }
    text.push('\n');
    text
}

/// A probability near 1, rounded down.
fn at_least(power: f64) -> String {
    match power {
        power if power >= 0.9999 => "more than 99.99 %".to_owned(),
        power if power >= 0.999 => "more than 99.9 %".to_owned(),
        power => format!("{} %", (power * 1000.0).floor() / 10.0),
    }
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
    for probe in report.probes.iter().filter(|probe| probe.result == ResultKind::Skipped) {
        lines.push(format!("skipped {}: {}", probe.id, probe.happened));
    }
    for drift in &report.idle_drifts {
        lines.push(format!("{}: {}; no probe fails because of it", drift.netns, drift.text));
    }
    let note = paint(colour, Ink::Faint, "note");
    (!lines.is_empty()).then(|| lines.iter().map(|line| format!("{note}  {line}\n")).collect())
}
