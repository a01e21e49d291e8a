//! What netlab is to achieve, as ratios within a run wherever that is possible, and what it did.

use std::fmt::Write;

use serde_json::json;

use super::{
    build::{self, MININET, NETLAB, SCRIPT},
    contender::{ANSWERED, DOWN, QUIET, READY},
    crowd, idle,
    lab::{CROWDS, GRIDS, PATHS},
    path,
    table::Table,
};

/// One of them.
#[derive(Debug)]
pub(crate) struct Target {
    what: String,
    bound: Bound,
    unit: &'static str,
    /// What was measured, if it was.
    value: Option<f64>,
}

#[derive(Debug, Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// All of them, with what the table says.
pub(crate) fn targets(table: &Table) -> Vec<Target> {
    use Bound::{AtLeast, AtMost};
    let ratio = |case: &str, row: String, to: String| Some(table.median(case, &row)? / table.median(case, &to)?);
    let of = |who: &str, what: &str| format!("{who}: {what}");
    let echo = format!("{NETLAB}, echo, iptables");
    let faster_than = |who: &str, what: &str| ratio(build::BOOK, of(who, what), of(&echo, ANSWERED));
    let big = |proxy: &str| GRIDS[1].title(proxy);
    let to_floor = |proxy: &str, what: &str| ratio(&big(proxy), of(NETLAB, what), of(build::FLOOR, what));
    let per_pod = |grid: usize| {
        let grid = &GRIDS[grid];
        Some(table.median(&grid.title("nftables"), &of(NETLAB, READY))? / f64::from(grid.size()))
    };
    let (small, large) = (CROWDS[0].services, CROWDS[3].services);
    let add = crowd::case("nftables");
    let adding = |crowd: u32| crowd::row(crowd, crowd::ANSWERED);
    let adding_by_agent = |crowd: u32| crowd::row(crowd, crowd::ANSWERED_BY_AGENT);
    let packet = |which: &str| {
        let row = |services: u32| path::row("nftables", which, services);
        ratio(path::FIRST_PACKET, row(PATHS[4].services), row(PATHS[0].services))
    };
    let target = |what: &str, bound, unit, value| Target { what: what.to_owned(), bound, unit, value };
    let ten_by_hundred = "10 nodes × 100 pods, 100 Services × 10 endpoints";
    vec![
        target(
            "the book's lab with echo servers, from the command to the first answered request, against the script",
            AtLeast(8.0),
            "× as fast",
            faster_than(SCRIPT, ANSWERED),
        ),
        target(
            "the same, against Mininet's start of five hosts",
            AtLeast(5.0),
            "× as fast",
            faster_than(MININET, "started"),
        ),
        target(
            &format!("{ten_by_hundred}, nftables, ready, against the kernel floor"),
            AtMost(1.5),
            "×",
            to_floor("nftables", READY),
        ),
        target("the same, iptables", AtMost(2.5), "×", to_floor("iptables", READY)),
        target(
            "time for each pod, 1,000 pods against 100, on 10 nodes, nftables",
            AtMost(1.3),
            "×",
            per_pod(1).zip(per_pod(0)).map(|(large, small)| large / small),
        ),
        target(
            &format!("{ten_by_hundred}, nftables: `down` has returned"),
            AtMost(50.0),
            "ms",
            table.median(&big("nftables"), &of(NETLAB, DOWN)),
        ),
        target("… and the kernel is quiet, against the floor's own end", AtMost(1.2), "×", to_floor("nftables", QUIET)),
        target("the agent's memory for an idle pod", AtMost(16.0), "KiB", table.median(idle::CASE, idle::POD)),
        target("the agent's memory at 1,000 idle pods", AtMost(40.0), "MiB", table.median(idle::CASE, idle::WHOLE)),
        target(
            "one more Service at 10,000, nftables, from the command to the first answer",
            AtMost(50.0),
            "ms",
            table.median(&add, &adding(large)),
        ),
        target("the same, against 100 Services", AtMost(2.0), "×", ratio(&add, adding(large), adding(small))),
        target(
            "one more Service at 10,000, nftables, from when the agent has the change to the first answer",
            AtMost(50.0),
            "ms",
            table.median(&add, &adding_by_agent(large)),
        ),
        target(
            "the same, against 100 Services",
            AtMost(2.0),
            "×",
            ratio(&add, adding_by_agent(large), adding_by_agent(small)),
        ),
        target(
            "first packet, nftables, first of 10,000 Services against first of 10",
            AtMost(1.2),
            "×",
            packet("first"),
        ),
        target("the same, last Service", AtMost(1.2), "×", packet("last")),
        target(
            "fresh connections through a ClusterIP, nftables",
            AtLeast(10_000.0),
            "/s",
            table.median(path::RATE, "nftables, ClusterIP"),
        ),
        target(
            "the same, connections counted by the built-in probes",
            AtLeast(10_000.0),
            "/s",
            table.median(path::RATE, path::PROBES),
        ),
    ]
}

impl Target {
    fn is_met(&self) -> Option<bool> {
        self.value.map(|value| match self.bound {
            Bound::AtLeast(least) => value >= least,
            Bound::AtMost(most) => value <= most,
        })
    }

    /// What is wanted, what there is, and whether that is enough.
    fn words(&self) -> [String; 3] {
        let show = |value: f64| {
            format!("{} {}", if value >= 1000.0 { format!("{value:.0}") } else { decimals(value) }, self.unit)
        };
        let bound = match self.bound {
            Bound::AtLeast(least) => format!("≥ {}", show(least)),
            Bound::AtMost(most) => format!("≤ {}", show(most)),
        };
        let met = match self.is_met() {
            Some(true) => "met",
            Some(false) => "not met",
            None => "not measured",
        };
        [bound, self.value.map_or_else(|| "–".to_owned(), show), met.to_owned()]
    }
}

/// No more digits than say something.
fn decimals(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// For people; only those that were measured.
pub(crate) fn text(targets: &[Target]) -> String {
    let mut text = "targets\n".to_owned();
    for target in targets.iter().filter(|target| target.value.is_some()) {
        let [bound, value, met] = target.words();
        let _ = writeln!(text, "{met:<8} {value:>16}  {bound:>16}  {}", target.what);
    }
    text
}

/// For the documentation.
pub(crate) fn markdown(targets: &[Target]) -> String {
    let mut text = "| what | target | measured | |\n|---|---|---|---|\n".to_owned();
    for target in targets {
        let [bound, value, met] = target.words();
        let _ = writeln!(text, "| {} | {bound} | {value} | {met} |", target.what);
    }
    text
}

/// For programs.
pub(crate) fn json(targets: &[Target]) -> serde_json::Value {
    let one = |target: &Target| {
        let (relation, bound) = match target.bound {
            Bound::AtLeast(least) => ("at_least", least),
            Bound::AtMost(most) => ("at_most", most),
        };
        json!({ "what": target.what, relation: bound, "unit": target.unit, "value": target.value, "met": target.is_met() })
    };
    targets.iter().map(one).collect()
}
