//! `netlab verify`: probes every path of a running lab.

mod evidence;

use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};

use super::{
    args, labs,
    output::{Terminal, print},
};
use crate::{
    agent::{
        directory::Directory,
        link::{self, Hearing},
        protocol::{Reply, Request},
    },
    error::{Error, ErrorKind, Result},
    kernel::{neighbours, rules},
    lab::{difference::differences, model::Lab},
    probe::{
        drift, judge,
        order::{Order, Outcome},
        suite::{self, SuiteOptions},
    },
    report::{self, Format, Report},
};

/// How many functional probes run at a time. Each is a process; those that must time out only
/// wait.
const PROBES_AT_ONCE: usize = 32;
/// How many probes of many tries run at a time. More would be a measurement's load, fewer would
/// make a broken lab slow to look at: each broken one waits for its timeout.
const CROWDS_AT_ONCE: usize = 3;
/// How many measurements run at a time: each keeps up to 64 connections open on its own, and a
/// machine that is too busy looks like a network that loses packets.
const MEASUREMENTS_AT_ONCE: usize = 2;

/// How often a lab is verified anew that has changed meanwhile.
const MOST_AGAIN: usize = 3;

pub(super) fn verify(args: &args::Verify, terminal: &Terminal) -> Result<ExitCode> {
    let directory = labs::choose(args.lab.as_deref())?;
    let mut left = MOST_AGAIN;
    let report = loop {
        let lab = labs::load(&directory)?;
        let report = probe(&directory, &lab, args, terminal)?;
        // What was expected was that of another lab if a pod is no longer ready, say.
        let changes = if report.passed() { Vec::new() } else { differences(&lab, &labs::load(&directory)?) };
        if changes.is_empty() || left == 0 {
            break report;
        }
        left -= 1;
        let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
        eprintln!("{} changed while it was verified, so it is verified again: {}", lab.name, changes.join(", "));
    };
    show(&report, args.output, terminal);
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::from(ErrorKind::Probe.exit_code()) })
}

/// Verifies a lab as it is at the beginning.
fn probe(directory: &Directory, lab: &Lab, args: &args::Verify, terminal: &Terminal) -> Result<Report> {
    let engine = match args.engine {
        args::Engine::Curl => {
            rules::find("curl").map_err(|error| error.hint("install curl, or use --engine builtin"))?;
            suite::Engine::Curl
        }
        args::Engine::Builtin => suite::Engine::Builtin,
    };
    let options = SuiteOptions {
        engine,
        samples: args.samples as usize,
        alpha: args.alpha,
        only: args.only.clone().into_iter().collect(),
        lab: args.lab.is_some().then(|| lab.name.to_string()),
    };
    let suite = suite::suite(lab, &options);
    if suite.probes.is_empty() {
        let error = Error::usage(format!("no probe of {} is called like that", lab.name));
        return Err(error.hint("the groups are: pods, nodes, egress, services, names, negative, balance, yours"));
    }
    if let Some(folder) = &args.evidence {
        evidence::folder(folder)?;
    }
    let overflows = neighbours::overflows();
    let (crowds, first): (Vec<_>, Vec<_>) = suite.first_orders().into_iter().partition(|order| order.times > 1);
    let bar = bar(terminal, first.len() + crowds.len());
    let mut outcomes = carry_out(directory, first, PROBES_AT_ONCE, bar.as_ref())?;
    outcomes.extend(carry_out(directory, crowds, CROWDS_AT_ONCE, bar.as_ref())?);
    let second = suite.second_orders(&outcomes);
    if let Some(bar) = &bar {
        bar.inc_length(second.len() as u64);
        bar.set_message("measuring");
    }
    outcomes.extend(carry_out(directory, second, MEASUREMENTS_AT_ONCE, bar.as_ref())?);
    if let Some(bar) = &bar {
        bar.finish_and_clear();
    }
    let mut report = judge::report(&suite, &outcomes, &[]);
    if !report.passed() {
        // Looking costs some time, and is worth it only when there is something to explain.
        let Reply::Drifts(mut drifts) = link::ask_once(directory, &Request::Inspect)? else {
            return Err(Error::bug("an inspection was asked for, and something else was given"));
        };
        drifts.extend(drift::faults(lab, suite.options.lab.as_deref()));
        report = judge::report(&suite, &outcomes, &drifts);
        neighbours::warn_if_overflowed(overflows);
        if let Some(folder) = &args.evidence {
            evidence::keep(folder, lab, directory, &suite, &mut report)?;
        }
    }
    Ok(report)
}

fn show(report: &Report, format: args::ReportFormat, terminal: &Terminal) {
    let format = match format {
        args::ReportFormat::Table => Format::Table,
        args::ReportFormat::Json => Format::Json,
        args::ReportFormat::Junit => Format::Junit,
        args::ReportFormat::Tap => Format::Tap,
    };
    print(&report::render(report, format, terminal.colour()));
}

fn bar(terminal: &Terminal, length: usize) -> Option<ProgressBar> {
    terminal.is_interactive().then(|| {
        let style = ProgressStyle::with_template("{spinner} {bar:30} {pos}/{len} probes {msg}");
        ProgressBar::new(length as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
    })
}

/// Has the agent try everything, and collects what came of it.
fn carry_out(
    directory: &Directory,
    orders: Vec<Order>,
    at_once: usize,
    bar: Option<&ProgressBar>,
) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::with_capacity(orders.len());
    if orders.is_empty() {
        return Ok(outcomes);
    }
    link::ask(directory, &Request::Probe { orders, at_once }, |reply| match reply {
        Reply::Outcome(outcome) => {
            outcomes.push(outcome);
            if let Some(bar) = bar {
                bar.inc(1);
            }
            Ok(Hearing::More)
        }
        Reply::Done => Ok(Hearing::Last),
        _ => Err(Error::bug("outcomes were asked for, and something else was given")),
    })?;
    Ok(outcomes)
}
