//! `netlab verify`: probes every path of a running lab.

mod course;
mod evidence;
mod publish;

use std::process::ExitCode;

use super::{
    args, labs,
    output::{Listing, Terminal, print},
    source::Source,
};
use crate::{
    agent::{
        directory::Directory,
        link,
        protocol::{Reply, Request},
    },
    cli::args::{ListFormat, ReportFormat},
    error::{Error, ErrorKind, Result},
    kernel::{neighbours, rules},
    lab::{difference::differences, model::Lab},
    probe::{
        drift, judge,
        suite::{self, Suite, SuiteOptions},
    },
    report::{self, Report, ResultKind},
};
use course::Course;

/// How often a lab is verified anew that has changed meanwhile.
const MOST_AGAIN: usize = 3;

pub(super) fn verify(args: &args::Verify, terminal: &Terminal) -> Result<ExitCode> {
    if args.list || args.paste {
        return tell(args, terminal);
    }
    if args.file.is_some() {
        return Err(Error::usage("only a lab that runs can be probed").hint("--file goes with --list and --paste"));
    }
    let directory = labs::choose(args.lab.as_deref())?;
    if args.engine == args::Engine::Curl {
        rules::find("curl").map_err(|error| error.hint("install curl, or use --engine builtin"))?;
    }
    let seed = seed_of(args);
    let mut lab = labs::load(&directory)?;
    let mut suite = suite_of(&lab, args, seed)?;
    let publisher = publish::Publisher::open(args, &directory)?;
    if let Some(folder) = &args.evidence {
        evidence::folder(folder)?;
    }
    let mut left = MOST_AGAIN;
    let mut report = loop {
        let report = runs(&directory, &lab, &suite, args, terminal)?;
        // What was expected was that of another lab if a pod is no longer ready, say.
        let now = if report.passed() { None } else { Some(labs::load(&directory)?) };
        let changes = now.as_ref().map(|now| differences(&lab, now)).unwrap_or_default();
        let (Some(now), false) = (now, changes.is_empty() || left == 0) else { break report };
        left -= 1;
        let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
        eprintln!("{} changed while it was verified, so it is verified again: {}", lab.name, changes.join(", "));
        suite = suite_of(&now, args, seed)?;
        lab = now;
    };
    if let Some(folder) = args.evidence.as_deref().filter(|_| !report.passed()) {
        evidence::keep(folder, &lab, &directory, &suite, &mut report)?;
    }
    publisher.locate(&mut report, &suite);
    publisher.publish(&report, terminal)?;
    match report.count(ResultKind::Failed) {
        0 if report.passed() => Ok(ExitCode::SUCCESS),
        0 => Err(Error::usage("no probe was tried, so nothing is shown")),
        _ => Ok(ExitCode::from(ErrorKind::Probe.exit_code())),
    }
}

/// Verifies a lab as often as it is asked for.
fn runs(directory: &Directory, lab: &Lab, suite: &Suite, args: &args::Verify, terminal: &Terminal) -> Result<Report> {
    let course = Course { directory, suite };
    let mut reports = Vec::new();
    for _ in 0..args.repeat {
        let overflows = neighbours::overflows();
        let outcomes = course.run(terminal)?;
        let mut report = judge::report(suite, &outcomes, &[]);
        let failed = !report.passed();
        if failed {
            // Looking costs some time, and is worth it only when there is something to explain.
            let Reply::Drifts(mut drifts) = link::ask_once(directory, &Request::Inspect)? else {
                return Err(Error::bug("an inspection was asked for, and something else was given"));
            };
            drifts.extend(drift::faults(lab, suite.options.lab.as_deref()));
            report = judge::report(suite, &outcomes, &drifts);
            neighbours::warn_if_overflowed(overflows);
        }
        reports.push(report);
        if failed && (args.fail_fast || has_changed(directory, lab)?) {
            break;
        }
    }
    Report::of_runs(reports).ok_or_else(|| Error::bug("a run without a report"))
}

/// What other runs would show is not about this lab.
fn has_changed(directory: &Directory, lab: &Lab) -> Result<bool> {
    Ok(!differences(lab, &labs::load(directory)?).is_empty())
}

/// What chooses in a large lab; unless it is said, one that can be read aloud, and typed.
fn seed_of(args: &args::Verify) -> u64 {
    args.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()))
}

/// The probes that are asked for; never none.
fn suite_of(lab: &Lab, args: &args::Verify, seed: u64) -> Result<Suite> {
    let options = SuiteOptions {
        engine: match args.engine {
            args::Engine::Curl => suite::Engine::Curl,
            args::Engine::Builtin => suite::Engine::Builtin,
        },
        samples: args.samples.map(|samples| samples as usize),
        alpha: args.alpha,
        power: args.power,
        only: args.only.clone(),
        skip: args.skip.clone(),
        seed,
        full: args.full,
        fail_fast: args.fail_fast,
        lab: args.lab.is_some().then(|| lab.name.to_string()),
    };
    let suite = suite::suite(lab, &options);
    if !suite.probes.is_empty() {
        return Ok(suite);
    }
    let hint = "the groups are: pods, nodes, egress, services, names, negative, balance, yours; \
                `netlab verify --list` has all probes";
    Err(Error::usage(match (args.only.is_empty(), args.skip.is_empty()) {
        (true, true) => format!("there is nothing to probe in {}", lab.name),
        (false, true) => format!("no probe of {} is called like that", lab.name),
        (_, false) => format!("no probe of {} is left", lab.name),
    })
    .hint(hint))
}

/// Prints the probes, and runs none.
fn tell(args: &args::Verify, terminal: &Terminal) -> Result<ExitCode> {
    let lab = match &args.file {
        Some(file) => Source::read(Some(file))?.load(terminal)?,
        None => labs::load(&labs::choose(args.lab.as_deref())?)?,
    };
    let suite = suite_of(&lab, args, seed_of(args))?;
    if args.paste {
        print(&report::paste(&suite));
        return Ok(ExitCode::SUCCESS);
    }
    let format = match args.output {
        ReportFormat::Table => ListFormat::Table,
        ReportFormat::Json => ListFormat::Json,
        _ => return Err(Error::usage("a list of probes is a table or json")),
    };
    let listing = Listing { kind: "probes", header: &["ID", "PROBE", "EXPECTED"], wide: &[] };
    let row = |it: &report::Listed| vec![it.id.clone(), it.name.clone(), it.expected.clone()];
    listing.print(format, &report::list(&suite), row)?;
    Ok(ExitCode::SUCCESS)
}
