//! `cargo xtask bench`: what netlab takes, measured against the kernel's own calls, a shell script and
//! Mininet, as ratios within one run. The contenders take turns, so that whatever else the machine does
//! meets them all.

pub(crate) mod ask;
mod build;
mod contender;
mod crowd;
pub(crate) mod dial;
pub(crate) mod floor;
mod idle;
mod inside;
mod lab;
mod machine;
mod netlink;
mod path;
mod plan;
mod program;
pub(crate) mod settle;
mod table;
mod targets;
pub(crate) mod weigh;

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use serde_json::json;

use crate::{
    run::{Failure, Result, built, cargo, release, run, run_with},
    tools,
};
use lab::{CROWDS, GRIDS, PATHS};
use machine::Machine;
use program::Bench;
use table::Table;

/// What to measure, or to show.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    measurement: Measurement,
    /// Install Mininet if it is missing; it takes part wherever it is installed, if root measures
    #[arg(long)]
    with_mininet: bool,
    /// Measure nothing, and print what such files of numbers have
    #[arg(long, value_name = "FILE", conflicts_with = "out")]
    from: Vec<PathBuf>,
}

/// How the measurements are made and shown.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Measurement {
    /// Rounds: how often each contender has its turn
    #[arg(long, value_name = "N", default_value_t = 5)]
    runs: usize,
    /// Only these: book, 10x10, 10x100, 50x40, 1x1000, 30x100, idle, add, path [default: all]
    #[arg(long = "case", value_name = "NAME")]
    cases: Vec<String>,
    /// Two rounds of the small cases: a few minutes
    #[arg(long)]
    quick: bool,
    /// Where the numbers go, as JSON [default: target/bench.json]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print the tables as docs/performance.md has them
    #[arg(long)]
    markdown: bool,
}

/// What is measured when nothing is said, and what is when it must be quick.
const OTHERS: [&str; 4] = ["book", "idle", "add", "path"];
const QUICK: [&str; 4] = ["book", "10x10", "add", "path"];

impl Measurement {
    fn rounds(&self) -> usize {
        if self.quick { 2 } else { self.runs }
    }

    /// So many of the sizes of a case.
    fn few<'a, T>(&self, sizes: &'a [T]) -> &'a [T] {
        if self.quick { &sizes[..2] } else { sizes }
    }

    fn wants(&self, case: &str) -> bool {
        match self.cases.as_slice() {
            [] => !self.quick || QUICK.contains(&case),
            cases => cases.iter().any(|it| it == case),
        }
    }

    fn check(&self) -> Result<()> {
        let known: Vec<&str> = OTHERS.into_iter().chain(GRIDS.iter().map(|grid| grid.name)).collect();
        match self.cases.iter().find(|case| !known.contains(&case.as_str())) {
            Some(unknown) => Err(Failure(format!("there is no case {unknown}; they are {}", known.join(", ")))),
            None => Ok(()),
        }
    }
}

/// A release build of this program and of netlab: then [`measure`], by that build.
pub(crate) fn bench(options: &Options) -> Result<()> {
    let Options { measurement, with_mininet, from } = options;
    measurement.check()?;
    if !from.is_empty() {
        return again(from, measurement);
    }
    tools::install_packages(tools::Need::Labs)?;
    if *with_mininet {
        tools::install_packages(tools::Need::Mininet)?;
    }
    run(cargo(), ["build", "--release", "--workspace", "--bins"])?;
    let mut words = vec!["measure".to_owned(), "--runs".to_owned(), measurement.runs.to_string()];
    words.extend(measurement.cases.iter().flat_map(|case| ["--case".to_owned(), case.clone()]));
    words.extend(measurement.out.iter().flat_map(|file| ["--out".to_owned(), absolute(file)]));
    let flags = [(measurement.quick, "--quick"), (measurement.markdown, "--markdown")];
    words.extend(flags.into_iter().filter(|it| it.0).map(|it| it.1.to_owned()));
    run_with(release("xtask")?, words, &[])
}

/// The build that measures is started at the top of the project.
fn absolute(file: &Path) -> String {
    std::path::absolute(file).unwrap_or_else(|_| file.to_owned()).display().to_string()
}

/// Measures, prints the tables, and writes the numbers into a file.
pub(crate) fn measure(options: &Measurement) -> Result<()> {
    options.check()?;
    let own = |error| Failure(format!("cannot find xtask itself: {error}"));
    let bench = Bench::new(release("netlab")?, env::current_exe().map_err(own)?)?;
    let mininet = tools::has_mininet();
    if !mininet {
        eprintln!("Mininet does not take part: it wants root, and to be installed (--with-mininet)");
    }
    let out = match &options.out {
        Some(out) => out.clone(),
        // Beside the builds, wherever the target directory is.
        None => built("bench.json")?,
    };
    let (mut machine, rounds) = (Machine::this(), options.rounds());
    let mut table = Table::default();
    // Written after each case, even one that fails: what was measured is kept.
    let mut done = |table: &Table, measured: Result<()>| {
        machine.has_ended();
        write(&out, &machine, rounds, table).and(measured)
    };
    if options.wants("book") {
        let measured = build::book(&bench, mininet, rounds, &mut table);
        done(&table, measured)?;
    }
    for grid in GRIDS.iter().filter(|grid| options.wants(grid.name)) {
        let measured = build::grid(&bench, grid, mininet, rounds, &mut table);
        done(&table, measured)?;
    }
    if options.wants("idle") {
        let measured = idle::idle(&bench, rounds, &mut table);
        done(&table, measured)?;
    }
    if options.wants("add") {
        let measured = crowd::crowd(&bench, options.few(&CROWDS), rounds, &mut table);
        done(&table, measured)?;
    }
    if options.wants("path") {
        let measured = path::path(&bench, options.few(&PATHS), rounds, &mut table);
        done(&table, measured)?;
    }
    print(options, &[machine.words(rounds)], &table);
    eprintln!("the numbers are in {}", out.display());
    Ok(())
}

fn write(out: &Path, machine: &Machine, rounds: usize, table: &Table) -> Result<()> {
    let targets = targets::json(&targets::targets(table));
    let numbers = json!({
        "version": 2, "machine": machine.json(), "rounds": rounds, "targets": targets, "rows": table.json(),
    });
    fs::write(out, format!("{numbers:#}\n")).map_err(|error| Failure(format!("{}: {error}", out.display())))
}

/// Prints what was measured before.
fn again(from: &[PathBuf], options: &Measurement) -> Result<()> {
    let (mut table, mut machines) = (Table::default(), Vec::new());
    for file in from {
        let text = fs::read_to_string(file).map_err(|error| Failure(format!("{}: {error}", file.display())))?;
        let numbers = program::json(&text)?;
        let wrong = || Failure(format!("{} has no numbers of a bench", file.display()));
        let rounds = numbers["rounds"].as_u64().and_then(|rounds| usize::try_from(rounds).ok()).ok_or_else(wrong)?;
        machines.push(Machine::read(&numbers["machine"]).ok_or_else(wrong)?.words(rounds));
        table.read(&numbers["rows"]).ok_or_else(wrong)?;
    }
    print(options, &machines, &table);
    Ok(())
}

fn print(options: &Measurement, machines: &[String], table: &Table) {
    let (targets, machines) = (targets::targets(table), machines.join("\n"));
    match options.markdown {
        true => print!("{machines}\n\n{}\n{}", targets::markdown(&targets), table.markdown()),
        false => print!("{machines}\n\n{}\n{}", table.text(), targets::text(&targets)),
    }
}
