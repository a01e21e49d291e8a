//! `cargo xtask bench`: what netlab takes, measured against the kernel's own calls and against
//! a shell script, as ratios within one run. The contenders take turns, so that whatever else
//! the machine does meets them all.

pub(crate) mod ask;
mod contender;
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
use table::Row;

/// How the measurements are made and shown.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Rounds: how often each contender has its turn
    #[arg(long, value_name = "N", default_value_t = 15)]
    rounds: usize,
    /// Rounds of the big lab
    #[arg(long, value_name = "N", default_value_t = 5)]
    big_rounds: usize,
    /// Print the table as JSON
    #[arg(long)]
    json: bool,
}

/// A release build of this program and of netlab: then [`measure`], by that build.
pub(crate) fn bench(options: &Options) -> Result<()> {
    tools::install_packages(tools::Need::Labs)?;
    run(cargo(), ["build", "--release", "--workspace", "--bins"])?;
    let mut words = vec!["measure".to_owned(), "--rounds".to_owned(), options.rounds.to_string()];
    words.extend(["--big-rounds".to_owned(), options.big_rounds.to_string()]);
    if options.json {
        words.push("--json".to_owned());
    }
    run_with(release("xtask")?, words, &[])
}

/// Measures, and prints the table.
pub(crate) fn measure(options: &Options) -> Result<()> {
    let own = |error| Failure(format!("cannot find xtask itself: {error}"));
    let xtask: PathBuf = env::current_exe().map_err(own)?;
    let bench = Bench::new(release("netlab")?, xtask)?;
    let [echo, big] = [bench.lab("labs/echo.toml")?, bench.big_lab()?];
    let mut rows: Vec<Row> = Vec::new();
    let lesson = [Measure::UpAnswered, Measure::ScriptAnswered, Measure::UpRules, Measure::ScriptRules, Measure::Floor];
    rows.extend(turns(&bench, "the book's lab", &echo, &lesson, options.rounds)?);
    rows.extend(turns(
        &bench,
        "10 nodes x 100 pods, 100 services x 10 endpoints",
        &big,
        &[Measure::Up, Measure::Floor],
        options.big_rounds,
    )?);
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
