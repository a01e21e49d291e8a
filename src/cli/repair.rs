//! `netlab repair`: puts right what the kernel has otherwise than the lab file says, and verifies.

use std::{process::ExitCode, time::Instant};

use clap::Parser;
use serde::Serialize;

use super::{
    args::{self, Cli, PlainFormat, Verb},
    labs,
    output::{Terminal, print},
    verify,
};
use crate::{
    agent::{
        link,
        protocol::{Earnest, Repaired, Reply, Request},
    },
    error::{Context, Error, ErrorKind, Result},
    probe::drift::Drift,
};

/// What a program reads.
#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    kind: &'a str,
    lab: &'a str,
    #[serde(flatten)]
    repaired: &'a Repaired,
}

pub(super) fn repair(args: &args::Repair, terminal: &Terminal) -> Result<ExitCode> {
    let directory = labs::choose(args.lab.as_deref())?;
    let began = Instant::now();
    let how = if args.dry_run { Earnest::Said } else { Earnest::Done };
    let Reply::Repaired(repaired) = link::ask_once(&directory, &Request::Repair { how })? else {
        return Err(Error::bug("a repair was asked for, and something else was given"));
    };
    let name = &directory.name;
    match args.output {
        PlainFormat::Json => {
            let document = Document { version: 1, kind: "repair", lab: name, repaired: &repaired };
            print(&(serde_json::to_string_pretty(&document).context("cannot write JSON")? + "\n"));
        }
        PlainFormat::Table if args.dry_run => print(&dry_run(name, &repaired)),
        PlainFormat::Table => {
            show(&repaired, terminal);
            terminal.say(match repaired.mended.len() {
                0 if repaired.left.is_empty() => format!("{name}: nothing to repair"),
                0 => format!("{name}: nothing could be mended"),
                1 => format!("{name}: 1 difference mended ({} ms)", began.elapsed().as_millis()),
                count => format!("{name}: {count} differences mended ({} ms)", began.elapsed().as_millis()),
            });
        }
    }
    for left in &repaired.left {
        let text = format!("{}: {}; {}", left.drift.netns, left.drift.text, left.why);
        terminal.complain(&Error::refused(text).hint(left.hint.clone()));
    }
    let whole = if repaired.left.is_empty() { ExitCode::SUCCESS } else { ErrorKind::Probe.exit_code().into() };
    if args.dry_run || args.no_verify || repaired.mended.is_empty() {
        return Ok(whole);
    }
    let verified = verified(name, args.output, terminal)?;
    Ok(if whole == ExitCode::SUCCESS { verified } else { whole })
}

fn show(repaired: &Repaired, terminal: &Terminal) {
    for drift in &repaired.mended {
        terminal.say(format!("mended      {}: {}", drift.netns, drift.text));
    }
    for drift in &repaired.foreign {
        terminal.say(format!("left alone  {}: {}", drift.netns, drift.text));
    }
}

/// What would be done: commands for `netlab shell`.
fn dry_run(name: &str, repaired: &Repaired) -> String {
    if repaired.mended.is_empty() && repaired.left.is_empty() {
        return format!("{name}: nothing to repair\n");
    }
    let comment = |drift: &Drift| format!("# {}: {}\n", drift.netns, drift.text);
    let differences: String = repaired.mended.iter().map(comment).collect();
    let commands: String = repaired.commands.iter().map(|command| format!("{command}\n")).collect();
    format!("{differences}{commands}")
}

/// The same as `netlab verify` does by itself.
fn verified(name: &str, format: PlainFormat, terminal: &Terminal) -> Result<ExitCode> {
    let format = match format {
        PlainFormat::Table => "table",
        PlainFormat::Json => "json",
    };
    let typed = Cli::try_parse_from(["netlab", "verify", name, "--output", format]);
    match typed.map(|cli| cli.verb) {
        Ok(Verb::Verify(args)) => verify::verify(&args, terminal),
        _ => Err(Error::bug("netlab does not know how to verify")),
    }
}
