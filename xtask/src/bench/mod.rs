//! `cargo xtask bench`: what netlab takes, measured against the kernel's own calls and against
//! a shell script, as ratios within one run. The contenders take turns, so that whatever else
//! the machine does meets them all.

pub(crate) mod ask;
mod contender;
mod crowd;
pub(crate) mod floor;
mod lab;
mod netlink;
mod plan;
pub(crate) mod settle;
mod table;

use std::{env, path::PathBuf};

use crate::{
    run::{Failure, Result, cargo, release, run, run_with},
    tools,
};
use contender::{Bench, Measure};
use lab::GRIDS;
use table::Row;

/// How the measurements are made and shown.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Rounds: how often each contender has its turn
    #[arg(long, value_name = "N", default_value_t = 5)]
    runs: usize,
    /// Only these: book, 10x10, 10x100, 50x40, 1x1000, add [default: all]
    #[arg(long = "case", value_name = "NAME")]
    cases: Vec<String>,
    /// Two rounds of the small cases: under two minutes
    #[arg(long)]
    quick: bool,
    /// Print the table as JSON
    #[arg(long)]
    json: bool,
}

impl Options {
    fn rounds(&self) -> usize {
        if self.quick { 2 } else { self.runs }
    }

    fn wants(&self, case: &str) -> bool {
        const SMALL: [&str; 3] = ["book", "10x10", "add"];
        match self.cases.as_slice() {
            [] => !self.quick || SMALL.contains(&case),
            cases => cases.iter().any(|it| it == case),
        }
    }
}

/// A release build of this program and of netlab: then [`measure`], by that build.
pub(crate) fn bench(options: &Options) -> Result<()> {
    tools::install_packages(tools::Need::Labs)?;
    run(cargo(), ["build", "--release", "--workspace", "--bins"])?;
    let mut words = vec!["measure".to_owned(), "--runs".to_owned(), options.runs.to_string()];
    words.extend(options.cases.iter().flat_map(|case| ["--case".to_owned(), case.clone()]));
    words.extend(
        [(options.quick, "--quick"), (options.json, "--json")].into_iter().filter(|it| it.0).map(|it| it.1.to_owned()),
    );
    run_with(release("xtask")?, words, &[])
}

/// Measures, and prints the table.
pub(crate) fn measure(options: &Options) -> Result<()> {
    let own = |error| Failure(format!("cannot find xtask itself: {error}"));
    let xtask: PathBuf = env::current_exe().map_err(own)?;
    let bench = Bench::new(release("netlab")?, xtask)?;
    let known = ["book", "add"].into_iter().chain(GRIDS.iter().map(|grid| grid.name)).collect::<Vec<_>>();
    if let Some(unknown) = options.cases.iter().find(|case| !known.contains(&case.as_str())) {
        return Err(Failure(format!("there is no case {unknown}; they are {}", known.join(", "))));
    }
    let mut rows: Vec<Row> = Vec::new();
    if options.wants("book") {
        let echo = bench.lab("labs/echo.toml")?;
        let lesson =
            [Measure::UpAnswered, Measure::ScriptAnswered, Measure::UpRules, Measure::ScriptRules, Measure::Floor];
        rows.extend(turns(&bench, "the book's lab", &echo, &lesson, options.rounds())?);
    }
    for grid in GRIDS.iter().filter(|grid| options.wants(grid.name)) {
        for proxy in ["nftables", "iptables"] {
            let lab = bench.grid(grid, proxy)?;
            let title = format!("{}, {proxy}", grid.title());
            let measures = [Measure::Up, Measure::Floor, Measure::FloorRules];
            rows.extend(turns(&bench, &title, &lab, &measures, options.rounds())?);
        }
    }
    if options.wants("add") {
        rows.extend(crowd::crowd(&bench, "nftables", if options.quick { 2 } else { 4 }, options.rounds())?);
        rows.extend(crowd::crowd(&bench, "iptables", if options.quick { 1 } else { 2 }, options.rounds())?);
    }
    print!("{}", if options.json { table::json(&rows) } else { table::text(&rows) });
    Ok(())
}

/// Each contender in its turn, round after round; then their rows, and a row for `down`, which
/// follows every `up`.
fn turns(bench: &Bench, title: &str, lab: &lab::Prepared, measures: &[Measure], rounds: usize) -> Result<Vec<Row>> {
    let mut rows: Vec<Row> =
        measures.iter().map(|measure| Row::new(title, measure.name(), measure.against())).collect();
    let mut down = Row::new(title, "netlab down", None);
    let mut freed = Row::new(title, "… and the kernel has freed everything", None);
    // The first round warms the caches and is not counted.
    for round in 0..=rounds {
        eprintln!("{title}: round {round} of {rounds}");
        for (measure, row) in measures.iter().zip(&mut rows) {
            let took = bench.take(*measure, lab)?;
            if round > 0 {
                row.times.push(took.up);
                if let Some(took) = took.down {
                    down.times.push(took.ended);
                    freed.times.push(took.freed);
                }
            }
        }
    }
    table::relate(&mut rows);
    rows.extend([down, freed]);
    Ok(rows)
}
