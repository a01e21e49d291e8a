//! What it takes to add one Service to a lab that has many: the command as a whole, and in the agent,
//! from when the change has reached it until every node has its rules.

use std::{
    fs,
    time::{Duration, Instant},
};

use super::{
    contender::{Bench, output},
    lab::CROWDS,
    table::Row,
};
use crate::run::{Failure, Result};

/// Brings the labs up side by side, adds a Service to each in turn, and takes them down.
pub(crate) fn crowd(bench: &Bench, proxy: &str, sizes: usize, rounds: usize) -> Result<Vec<Row>> {
    let title = format!("one more Service by netlab apply, {proxy}, 10 nodes x 10 pods");
    let mut rows = Vec::new();
    let mut labs = Vec::new();
    for crowd in CROWDS.iter().take(sizes) {
        let lab = bench.grid(crowd, proxy)?;
        output(bench.netlab().args(["up", "--quiet", "--name", &name(crowd.name)]).arg(&lab.file))?;
        rows.push(Row::new(&title, &format!("{} Services: the command", crowd.name), None));
        rows.push(Row::new(&title, &format!("{} Services: in the agent, until the rules are in", crowd.name), None));
        labs.push((crowd, lab));
    }
    let turns = (0..=rounds).try_for_each(|round| {
        eprintln!("{title}: round {round} of {rounds}");
        labs.iter().zip(rows.chunks_mut(2)).try_for_each(|((crowd, lab), rows)| {
            let text = fs::read_to_string(&lab.file).map_err(|error| Failure(format!("cannot read a lab: {error}")))?;
            let fresh = format!("{text}\n[[service]]\nname = \"fresh{round}\"\nendpoints = [{{ ip = \"10.244.0.2\" }}]\nports = [{{ port = 80 }}]\n");
            fs::write(&lab.file, fresh).map_err(|error| Failure(format!("cannot write a lab: {error}")))?;
            let trace = lab.file.with_extension("trace");
            let began = Instant::now();
            let mut apply = bench.netlab();
            output(apply.args(["apply", "--quiet", "--lab", &name(crowd.name), "--trace"]).arg(&trace).arg(&lab.file))?;
            let took = began.elapsed();
            if round > 0 {
                rows[0].times.push(took);
                rows[1].times.push(until_rules(&trace)?);
            }
            Ok(())
        })
    });
    for (crowd, _) in &labs {
        output(bench.netlab().args(["down", "--quiet", &name(crowd.name)]))?;
    }
    turns.map(|()| rows)
}

fn name(crowd: &str) -> String {
    format!("bench-{crowd}")
}

/// From the first thing that the agent did until the rules were there.
fn until_rules(trace: &std::path::Path) -> Result<Duration> {
    let text = fs::read_to_string(trace).map_err(|error| Failure(format!("cannot read a trace: {error}")))?;
    let json: serde_json::Value = serde_json::from_str(&text).map_err(|error| Failure(format!("no trace: {error}")))?;
    let events: Vec<_> =
        json["traceEvents"].as_array().into_iter().flatten().filter(|it| it["cat"] == "change").collect();
    let begin = events.iter().filter_map(|it| it["ts"].as_u64()).min();
    let rules =
        events.iter().find(|it| it["name"] == "rules").and_then(|it| Some(it["ts"].as_u64()? + it["dur"].as_u64()?));
    match (begin, rules) {
        (Some(begin), Some(end)) => Ok(Duration::from_micros(end.saturating_sub(begin))),
        _ => Err(Failure("the trace of a change says nothing of its rules".to_owned())),
    }
}
