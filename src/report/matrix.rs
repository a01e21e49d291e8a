//! From where to which address: what must be seen, what was seen, and the differences.
//!
//! A table of a large lab is folded: what sort of place asks what sort of address, with counts.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use super::{
    Colour, ProbeReport, Report, ResultKind,
    paint::{Columns, Ink, paint},
    table::headline,
};
use crate::probe::suite::{Group, PlaceKind, TargetKind};

/// No line is longer than this.
const LINE: usize = 100;
/// Larger tables than this are folded.
const MOST_ROWS: usize = 16;
const MOST_COLUMNS: usize = 12;
/// More tables than this are folded into one.
const MOST_GRIDS: usize = 8;
/// So many differences are told.
const MOST_DIFFERENCES: usize = 40;
/// How the ports of the cluster's DNS begin.
const CLUSTER_DNS: &str = "kube-dns.kube-system:";

/// How much a cell says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail {
    /// Whether it is as it must be.
    Verdict,
    /// Who answered, of how many who may, or how it failed.
    Seen,
}

/// Probes that belong into one table.
struct Grid<'r> {
    title: String,
    probes: Vec<&'r ProbeReport>,
}

/// The whole report as tables.
pub(super) fn render(report: &Report, colour: Colour) -> String {
    let mut sections = vec![headline(report, colour)];
    for group in [Group::Pods, Group::Nodes, Group::Egress] {
        let probes: Vec<&ProbeReport> = report.probes.iter().filter(|probe| probe.group == group).collect();
        let grid = Grid { title: group.shows().to_owned(), probes };
        sections.extend((!grid.probes.is_empty()).then(|| grid.render(Detail::Seen, colour)));
    }
    sections.extend(folded(of_services(report)).iter().map(|grid| grid.render(Detail::Seen, colour)));
    sections.push(differences(report, colour));
    sections.retain(|section| !section.is_empty());
    sections.join("\n")
}

/// For each Service port the verdicts: what the table for people has.
pub(super) fn services(report: &Report, colour: Colour) -> Vec<String> {
    // The cluster's DNS is in every lab, and nobody's lesson until something is wrong with it; and a
    // Service that answers nobody has no table, nor has one that only says no in one place.
    let is_told = |grid: &Grid<'_>| {
        let any = |of: fn(&&ProbeReport) -> bool| grid.probes.iter().any(of);
        any(|probe| !probe.target.silent)
            && (!grid.title.contains(CLUSTER_DNS) || any(|probe| probe.result == ResultKind::Failed))
    };
    let mut grids = of_services(report);
    grids.retain(is_told);
    folded(grids).iter().map(|grid| grid.render(Detail::Verdict, colour)).collect()
}

fn of_services(report: &Report) -> Vec<Grid<'_>> {
    let mut ports: BTreeMap<(&str, &str), Vec<&ProbeReport>> = BTreeMap::new();
    for probe in report.probes.iter().filter(|probe| is_of_service(probe)) {
        ports.entry((&probe.target.of, &probe.target.protocol)).or_default().push(probe);
    }
    let grid = |((port, protocol), probes)| {
        let protocol = if protocol == "TCP" { String::new() } else { format!(" ({protocol})") };
        Grid { title: format!("service {port}{protocol}"), probes }
    };
    ports.into_iter().map(grid).collect()
}

fn is_of_service(probe: &ProbeReport) -> bool {
    let is_service = !matches!(
        probe.target.kind,
        TargetKind::Pod | TargetKind::Node | TargetKind::Machine | TargetKind::Ladder | TargetKind::Url
    );
    is_service && matches!(probe.group, Group::Services | Group::Negative)
}

/// Many tables as one.
fn folded(grids: Vec<Grid<'_>>) -> Vec<Grid<'_>> {
    if grids.len() <= MOST_GRIDS {
        return grids;
    }
    let title = format!("{} Service ports", grids.len());
    vec![Grid { title, probes: grids.into_iter().flat_map(|grid| grid.probes).collect() }]
}

impl Grid<'_> {
    fn render(&self, detail: Detail, colour: Colour) -> String {
        let mut addresses = ordered(self.probes.iter().map(|probe| address(probe)));
        if !self.probes.iter().any(|probe| is_of_service(probe)) {
            // Services have their ClusterIP first; of others the one is as good as the other.
            addresses.sort_by_cached_key(|text| {
                text.split(' ').next().and_then(|it| it.parse::<SocketAddr>().ok()).map(|it| (it.ip(), it.port()))
            });
        }
        let places = ordered(self.probes.iter().map(|probe| probe.from.clone()));
        let fits = places.len() <= MOST_ROWS && addresses.len() <= MOST_COLUMNS && !self.is_of_several();
        let body = match fits {
            true => self.each(detail, &places, &addresses, colour),
            false => self.counted(colour),
        };
        format!("{}\n{body}", paint(colour, Ink::Heading, &self.title))
    }

    /// It is about several Service ports, whose addresses would not fit any table.
    fn is_of_several(&self) -> bool {
        let mut ports = self.probes.iter().filter(|probe| is_of_service(probe)).map(|probe| &probe.target.of);
        let first = ports.next();
        ports.any(|port| Some(port) != first)
    }

    /// A row for each place and a column for each address; in blocks, if the lines would be too long.
    fn each(&self, detail: Detail, places: &[String], addresses: &[String], colour: Colour) -> String {
        let first = places.iter().map(|place| place.chars().count()).max().unwrap_or(0).max("FROM".len());
        let mut blocks: Vec<Vec<&String>> = vec![Vec::new()];
        let mut width = first;
        for address in addresses {
            let more = address.chars().count().max(cell_width(detail)) + 2;
            if width + more > LINE && width > first {
                blocks.push(Vec::new());
                width = first;
            }
            width += more;
            blocks.last_mut().into_iter().for_each(|block| block.push(address));
        }
        let block = |addresses: Vec<&String>| {
            let mut header = vec!["FROM"];
            header.extend(addresses.iter().map(|address| address.as_str()));
            let mut columns = Columns::new(&header);
            for place in places {
                let mut row = vec![(place.clone(), None)];
                for wanted in &addresses {
                    let is_here = |probe: &&&ProbeReport| probe.from == *place && address(probe) == **wanted;
                    let probes: Vec<&ProbeReport> = self.probes.iter().filter(is_here).copied().collect();
                    let (text, ink) = cell(&probes, detail);
                    row.push((cut(&text, wanted.chars().count().max(cell_width(detail))), ink));
                }
                columns.row(row);
            }
            columns.render(colour, "")
        };
        blocks.into_iter().map(block).collect::<Vec<_>>().join("\n")
    }

    /// A row for each sort of place and a column for each sort of address.
    fn counted(&self, colour: Colour) -> String {
        let kinds: BTreeSet<TargetKind> = self.probes.iter().map(|probe| probe.target.kind).collect();
        let places: BTreeSet<PlaceKind> = self.probes.iter().map(|probe| probe.place).collect();
        let mut header = vec!["FROM"];
        header.extend(kinds.iter().map(|kind| sort(*kind)));
        let mut columns = Columns::new(&header);
        for place in places {
            let mut row = vec![(place.plural().to_owned(), None)];
            row.extend(kinds.iter().map(|kind| {
                let here = self.probes.iter().filter(|probe| probe.place == place && probe.target.kind == *kind);
                counts(&here.copied().collect::<Vec<_>>())
            }));
            columns.row(row);
        }
        columns.render(colour, "")
    }
}

/// What a column is about.
fn sort(kind: TargetKind) -> &'static str {
    if kind == TargetKind::Localhost { "127.0.0.1" } else { kind.as_str() }
}

/// A cell of as many characters fits any column.
fn cell_width(detail: Detail) -> usize {
    if detail == Detail::Verdict { "closed".len() } else { "FAIL unreachable".len() }
}

/// The table of a Service port says the protocol in its title.
fn address(probe: &ProbeReport) -> String {
    match probe.target.protocol.as_str() {
        _ if is_of_service(probe) => probe.target.address.clone(),
        "TCP" => probe.target.address.clone(),
        other => format!("{} {other}", probe.target.address),
    }
}

fn ordered(items: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    items.filter(|item| seen.insert(item.clone())).collect()
}

/// All probes of one way: failed if one of them failed.
fn cell(probes: &[&ProbeReport], detail: Detail) -> (String, Option<Ink>) {
    if let Some(failed) = probes.iter().find(|probe| probe.result == ResultKind::Failed) {
        let text = match (detail, failed.seen.first()) {
            (Detail::Seen, Some(seen)) => format!("FAIL {seen}"),
            _ => "FAIL".to_owned(),
        };
        return (text, Some(Ink::Bad));
    }
    let passed: Vec<&&ProbeReport> = probes.iter().filter(|probe| probe.result == ResultKind::Passed).collect();
    let Some(first) = passed.first() else { return ("-".to_owned(), Some(Ink::Faint)) };
    let text = match (detail, first.target.silent) {
        (Detail::Verdict, true) => "closed".to_owned(),
        (Detail::Verdict, false) => "ok".to_owned(),
        // Whom else it has met until then is chance.
        (Detail::Seen, false) if passed.iter().any(|probe| is_hairpin(probe)) => "itself".to_owned(),
        (Detail::Seen, _) => {
            let union = |of: fn(&ProbeReport) -> &Vec<String>| -> BTreeSet<&String> {
                passed.iter().flat_map(|probe| of(probe)).collect()
            };
            let (wanted, seen) = (union(|probe| &probe.wanted), union(|probe| &probe.seen));
            match (seen.first(), first.target.silent) {
                (Some(name), false) if wanted.len() > 1 && seen.len() == 1 => format!("{name} of {}", wanted.len()),
                (Some(_), false) if seen.len() > 1 => format!("{} of {}", seen.len(), wanted.len().max(seen.len())),
                (Some(name), _) => (*name).clone(),
                (None, _) => "ok".to_owned(),
            }
        }
    };
    (text, Some(Ink::Good))
}

/// It is asked until it has met itself.
fn is_hairpin(probe: &ProbeReport) -> bool {
    probe.id.ends_with("/itself")
}

fn counts(probes: &[&ProbeReport]) -> (String, Option<Ink>) {
    let count = |of: &dyn Fn(&&&ProbeReport) -> bool| probes.iter().filter(of).count();
    let passed = |silent| count(&|probe| probe.result == ResultKind::Passed && probe.target.silent == silent);
    let failed = count(&|probe| probe.result == ResultKind::Failed);
    let words: Vec<String> = [(passed(false), "ok"), (passed(true), "closed"), (failed, "FAIL")]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    match (words.is_empty(), failed) {
        (true, _) => ("-".to_owned(), Some(Ink::Faint)),
        (false, 0) => (words.join(", "), Some(Ink::Good)),
        (false, _) => (words.join(", "), Some(Ink::Bad)),
    }
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// What is not as it must be, one a line.
fn differences(report: &Report, colour: Colour) -> String {
    let failed: Vec<&ProbeReport> = report.probes.iter().filter(|probe| probe.result == ResultKind::Failed).collect();
    if failed.is_empty() {
        return String::new();
    }
    let mut text = format!("{}\n", paint(colour, Ink::Heading, "differences"));
    for probe in failed.iter().take(MOST_DIFFERENCES) {
        text.push_str(&format!("  {}\n    expected {}\n    observed {}\n", probe.name, probe.expected, probe.happened));
    }
    if failed.len() > MOST_DIFFERENCES {
        text.push_str(&format!("  and {} more; `-o json` has them all\n", failed.len() - MOST_DIFFERENCES));
    }
    text
}
