//! What it takes to build a lab and to end it: netlab with each proxy, the script, Mininet and the kernel
//! floor, in turn.

use super::{
    contender::{ANSWERED, Contender, QUIET, READY, Reading, What, take},
    inside::Depth,
    lab::{ALL_PROXIES, Grid, PROXIES},
    program::{Bench, Prepared},
    table::{Row, Table},
};
use crate::run::Result;

/// What the rows of the book's lab are under.
pub(crate) const BOOK: &str = "the book's lab";
/// The contenders.
pub(crate) const NETLAB: &str = "netlab";
pub(crate) const SCRIPT: &str = "script";
pub(crate) const MININET: &str = "Mininet";
pub(crate) const FLOOR: &str = "kernel floor";
const FLOOR_RULES: &str = "kernel floor and the rules' tool";

/// The book's lab has five hosts besides `host`, on one bridge as far as Mininet goes.
const HOSTS_OF_BOOK: u32 = 5;
/// Mininet takes seconds for a hundred hosts, and is not tried with more.
const MOST_OF_MININET: u32 = 100;
/// Labs with more pods than this take long enough with one proxy.
const MOST_WITH_EACH_PROXY: u32 = 2_000;

/// What is compared with what: the beginning of one's name, what was measured, and the other one.
const COMPARISONS: &[(&str, &str, &str)] = &[
    ("netlab, echo", ANSWERED, "script: first answered request"),
    ("netlab, echo", ANSWERED, "Mininet: started"),
    ("netlab, python", ANSWERED, "script: first answered request"),
    ("netlab, rules only", "rules are in", "script, rules only: rules are in"),
    ("netlab", READY, "kernel floor: ready"),
    ("netlab", READY, "kernel floor and the rules' tool: ready"),
    ("netlab", READY, "Mininet: started"),
    ("netlab", QUIET, "kernel floor: the kernel is quiet"),
    (FLOOR_RULES, READY, "kernel floor: ready"),
    (FLOOR_RULES, QUIET, "kernel floor: the kernel is quiet"),
];

/// The book's lab: servers that are built in and servers of Python, with each proxy.
pub(crate) fn book(bench: &Bench, mininet: bool, rounds: usize, table: &mut Table) -> Result<()> {
    let mut labs = Vec::new();
    for (file, server) in [("echo.toml", "echo"), ("nodeport.toml", "python")] {
        for proxy in ALL_PROXIES {
            labs.push((format!("{NETLAB}, {server}, {proxy}"), bench.book(file, proxy)?));
        }
    }
    let echo = &labs[1].1;
    let mut contenders: Vec<Contender<'_>> = Vec::new();
    let mut add = |name: &str, what| contenders.push(Contender { name: name.to_owned(), what });
    labs.iter().for_each(|(name, lab)| add(name, What::Netlab(lab)));
    add(SCRIPT, What::Script);
    if mininet {
        add(MININET, What::Mininet { switches: 1, hosts: HOSTS_OF_BOOK });
    }
    add(FLOOR, What::Floor(echo));
    add(FLOOR_RULES, What::FloorRules(echo));
    add("netlab, rules only", What::NetlabRules(echo));
    add("script, rules only", What::ScriptRules);
    for (name, lab) in &labs {
        add(&format!("inside {name}"), What::Inside(lab, Depth::Verified));
    }
    turns(bench, BOOK, &contenders, rounds, table)
}

/// A lab of any size, with the proxies of kube-proxy; the ladder where there are few pods.
pub(crate) fn grid(bench: &Bench, grid: &Grid, mininet: bool, rounds: usize, table: &mut Table) -> Result<()> {
    let few = grid.size() <= MOST_OF_MININET;
    let proxies: &[&str] = match grid.size() {
        _ if few => &ALL_PROXIES,
        size if size <= MOST_WITH_EACH_PROXY => &PROXIES,
        _ => &PROXIES[..1],
    };
    for proxy in proxies {
        let lab: Prepared = bench.grid(grid, proxy)?;
        let mut contenders = Vec::new();
        let mut add = |name: &str, what| contenders.push(Contender { name: name.to_owned(), what });
        add(NETLAB, What::Netlab(&lab));
        add(FLOOR, What::Floor(&lab));
        add(FLOOR_RULES, What::FloorRules(&lab));
        if mininet && few && *proxy == PROXIES[0] {
            add(MININET, What::Mininet { switches: grid.nodes, hosts: grid.pods });
        }
        add("inside", What::Inside(&lab, Depth::Lab));
        turns(bench, &grid.title(proxy), &contenders, rounds, table)?;
        // That takes seconds, and is done once.
        let verified = [Contender { name: "inside".to_owned(), what: What::Inside(&lab, Depth::Verified) }];
        let only_verify = |reading: &Reading| reading.what == "verify";
        round(bench, &grid.title(proxy), &verified, only_verify, table)?;
    }
    Ok(())
}

/// Each contender in its turn, round after round. The first round warms the caches and is not counted.
fn turns(bench: &Bench, case: &str, contenders: &[Contender<'_>], rounds: usize, table: &mut Table) -> Result<()> {
    for nth in 0..=rounds {
        eprintln!("{case}: round {nth} of {rounds}");
        round(bench, case, contenders, |_| nth > 0, table)?;
    }
    Ok(())
}

fn round(
    bench: &Bench,
    case: &str,
    contenders: &[Contender<'_>],
    counts: impl Fn(&Reading) -> bool,
    table: &mut Table,
) -> Result<()> {
    for contender in contenders {
        for reading in take(bench, &contender.what)?.into_iter().filter(|reading| counts(reading)) {
            table.add(&row(case, &contender.name, &reading), reading.value);
        }
    }
    Ok(())
}

fn row(case: &str, name: &str, reading: &Reading) -> Row {
    let row = Row::new(case, &format!("{name}: {}", reading.what), reading.unit);
    let others = COMPARISONS.iter().filter(|(begin, what, _)| name.starts_with(begin) && *what == reading.what);
    others.fold(row, |row, (_, _, other)| row.against(other))
}
