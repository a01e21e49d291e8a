//! What a lab is made of, stage by stage, and what it takes: from `netlab up --trace`, and from what the
//! kernel says of its processes.

use std::{collections::BTreeMap, fs, path::Path, time::Instant};

use super::{
    contender::{NAME, Reading},
    program::{Bench, Prepared, json, output},
    table::Unit,
};
use crate::run::{Failure, Result};

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// The stages, memory and processes.
    Lab,
    /// And how long `netlab verify` takes.
    Verified,
}

/// What the peak of the command's memory is called.
pub(crate) const COMMAND_PEAK: &str = "memory of the command, at its peak";
/// What the agent's is called.
pub(crate) const AGENT_PEAK: &str = "memory of the agent, at its peak";
/// All that the agent has in memory when it has nothing to do, what it shares with other programs too.
pub(crate) const AGENT_NOW: &str = "memory of the agent, when the lab is up";
/// That part of it which is no file's, so is nobody else's.
pub(crate) const AGENT_OWN: &str = "memory of the agent, its own";

/// Brings a lab up and looks at it; the caller takes it down.
pub(crate) fn look(bench: &Bench, lab: &Prepared, depth: Depth) -> Result<Vec<Reading>> {
    let trace = lab.file.with_extension("trace");
    let mut weigh = bench.xtask();
    weigh.arg("weigh").arg(bench.netlab().get_program());
    let peak = output(weigh.args(["up", "--quiet", "--name", NAME, "--trace"]).arg(&trace).arg(&lab.file))?;
    let peak = peak.trim().parse().map_err(|_| Failure(format!("the scales say {peak:?}")))?;
    let mut readings = stages(&trace)?;
    let agent = bench.agent(NAME)?;
    let kib = |what: &str, kib: f64| Reading { what: what.to_owned(), unit: Unit::Mebibytes, value: kib / 1024.0 };
    readings.push(kib(COMMAND_PEAK, peak));
    let status = status(agent)?;
    for (what, field) in [(AGENT_PEAK, "VmHWM"), (AGENT_NOW, "VmRSS"), (AGENT_OWN, "RssAnon")] {
        readings.push(kib(what, number(&status, field)?));
    }
    let processes = family(agent)?.len();
    readings.push(Reading { what: "processes".to_owned(), unit: Unit::Count, value: processes as f64 });
    readings.push(Reading {
        what: "threads of the agent".to_owned(),
        unit: Unit::Count,
        value: number(&status, "Threads")?,
    });
    if depth == Depth::Verified {
        let began = Instant::now();
        match output(bench.netlab().args(["verify", "--engine", "builtin", "--output", "tap", NAME])) {
            Ok(_) => readings.push(Reading::time("verify", began.elapsed())),
            // One that asks again what it was not told takes longer: that is no measurement. One run in a
            // thousand fails by chance.
            Err(failure) => eprintln!("not counted: {failure}"),
        }
    }
    Ok(readings)
}

/// Which part of the table a lap belongs to: what the command reads, what the agent plans, and the stages;
/// all of those that make links, addresses and routes are one.
fn part(stage: &str, kind: &str) -> Option<&'static str> {
    match (stage, kind) {
        ("begin" | "start", "load") => Some("parse"),
        (_, "plan") => Some("plan"),
        ("begin" | "start", _) => None,
        ("namespaces", _) => Some("namespaces"),
        ("rules", _) => Some("rules"),
        ("servers", _) => Some("servers"),
        ("ready", _) => Some("readiness"),
        _ => Some("links"),
    }
}

/// How long each part took, from when its first step began until its last was done; the two that parse are
/// one after the other, with other things between them, so these are added up.
fn stages(trace: &Path) -> Result<Vec<Reading>> {
    let text = fs::read_to_string(trace).map_err(|error| Failure(format!("cannot read a trace: {error}")))?;
    let trace = json(&text)?;
    let mut parts: BTreeMap<&str, (u64, u64, u64)> = BTreeMap::new();
    for event in trace["traceEvents"].as_array().into_iter().flatten() {
        let (Some(stage), Some(kind)) = (event["cat"].as_str(), event["name"].as_str()) else { continue };
        let (Some(begin), Some(took)) = (event["ts"].as_u64(), event["dur"].as_u64()) else { continue };
        let Some(part) = part(stage, kind) else { continue };
        let (first, last, sum) = parts.entry(part).or_insert((begin, begin, 0));
        (*first, *last, *sum) = ((*first).min(begin), (*last).max(begin + took), *sum + took);
    }
    let order = ["parse", "plan", "namespaces", "links", "rules", "servers", "readiness"];
    let reading = |name: &&str| {
        let (first, last, sum) = parts.get(name)?;
        let micros = if *name == "parse" { *sum } else { last - first };
        Some(Reading { what: (*name).to_owned(), unit: Unit::Millis, value: micros as f64 / 1000.0 })
    };
    Ok(order.iter().filter_map(reading).collect())
}

/// The text of `/proc/PID/status`.
pub(crate) fn status(pid: u32) -> Result<String> {
    fs::read_to_string(format!("/proc/{pid}/status")).map_err(|error| Failure(format!("process {pid}: {error}")))
}

/// A number in it, kibibytes if it is of memory.
pub(crate) fn number(status: &str, field: &str) -> Result<f64> {
    let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let value = value.and_then(|value| value.split_whitespace().next()?.parse().ok());
    value.ok_or_else(|| Failure(format!("the kernel does not say {field} of a process")))
}

/// A process and all that descend from it.
fn family(first: u32) -> Result<Vec<u32>> {
    let mut parents = BTreeMap::new();
    let all = fs::read_dir("/proc").map_err(|error| Failure(format!("cannot read /proc: {error}")))?;
    for entry in all.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // One that has ended meanwhile is none.
        let Ok(status) = status(pid) else { continue };
        if let Ok(parent) = number(&status, "PPid") {
            parents.insert(pid, parent as u32);
        }
    }
    let descends = |mut pid: u32| {
        while pid != first {
            match parents.get(&pid) {
                Some(parent) => pid = *parent,
                None => return false,
            }
        }
        true
    };
    Ok(parents.keys().copied().filter(|pid| descends(*pid)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_a_process() {
        let status = "Name:\tnetlab\nVmHWM:\t   41836 kB\nVmRSS:\t   35556 kB\nThreads:\t5\n";
        assert_eq!((number(status, "VmHWM").ok(), number(status, "Threads").ok()), (Some(41836.0), Some(5.0)));
        assert!(number(status, "Vm").is_err());
    }

    #[test]
    fn this_process_is_of_its_own_family() {
        let own = std::process::id();
        assert!(family(own).expect("there is /proc").contains(&own));
    }

    #[test]
    fn parts_of_a_trace() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let event = |stage: &str, kind: &str, begin: u64, took: u64| serde_json::json!({ "cat": stage, "name": kind, "ts": begin, "dur": took });
        let events = [
            event("begin", "load", 0, 500),
            event("start", "load", 1000, 500),
            event("start", "plan", 1500, 100),
            event("cables", "veth", 2000, 1000),
            event("routes", "route", 4000, 1000),
            event("rules", "rules", 2500, 2000),
        ];
        fs::write(&file, serde_json::json!({ "traceEvents": events }).to_string()).expect("it is written");
        let parts: Vec<_> = stages(file.path()).expect("a trace").into_iter().map(|it| (it.what, it.value)).collect();
        let expected = [("parse", 1.0), ("plan", 0.1), ("links", 3.0), ("rules", 2.0)];
        assert_eq!(parts, expected.map(|(what, value)| (what.to_owned(), value)));
    }
}
