//! `netlab ls`: the running labs.

use std::{
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::Serialize;

use super::{
    args, labs,
    output::{Listing, Terminal},
};
use crate::{
    agent::{
        directory::{self, Directory},
        link,
        protocol::{Phase, Reply, Request},
    },
    error::Result,
};

/// A running lab.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    state: &'static str,
    proxy: String,
    nodes: usize,
    pods: usize,
    services: usize,
    age_seconds: u64,
    pid: Option<i32>,
    file: Option<String>,
}

pub(super) fn ls(args: &args::Ls, terminal: &Terminal) -> Result<ExitCode> {
    let rows: Vec<Row> = directory::living()?.iter().map(row).collect();
    if rows.is_empty() && matches!(args.output, args::ListFormat::Table | args::ListFormat::Wide) {
        terminal.say("no lab is up");
        return Ok(ExitCode::SUCCESS);
    }
    let listing = Listing {
        kind: "labs",
        header: &["NAME", "STATE", "PROXY", "NODES", "PODS", "SERVICES", "AGE"],
        wide: &["PID", "FILE"],
    };
    listing.print(args.output, &rows, |row| {
        let missing = || "-".to_owned();
        vec![
            row.name.clone(),
            row.state.to_owned(),
            row.proxy.clone(),
            row.nodes.to_string(),
            row.pods.to_string(),
            row.services.to_string(),
            age(Duration::from_secs(row.age_seconds)),
            row.pid.map_or_else(missing, |pid| pid.to_string()),
            row.file.clone().unwrap_or_else(missing),
        ]
    })?;
    Ok(ExitCode::SUCCESS)
}

fn row(directory: &Directory) -> Row {
    let meta = directory.meta();
    // A lab that ends while it is listed is still listed.
    let lab = labs::load(directory).ok();
    let state = match link::ask_once(directory, &Request::Status) {
        Ok(Reply::Status(status)) if status.servers.iter().any(|server| !server.running) => "Degraded",
        Ok(Reply::Status(status)) if status.phase == Phase::Running => "Running",
        Ok(_) => "Building",
        Err(_) => "Ending",
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    Row {
        name: directory.name.clone(),
        state,
        proxy: lab.as_ref().map_or_else(String::new, |lab| lab.cluster.proxy.to_string()),
        nodes: lab.as_ref().map_or(0, |lab| lab.nodes.len()),
        pods: lab.as_ref().map_or(0, |lab| lab.pods.len()),
        services: lab.as_ref().map_or(0, |lab| lab.services.len()),
        age_seconds: meta.as_ref().map_or(0, |meta| now.saturating_sub(meta.since)),
        pid: meta.as_ref().map(|meta| meta.pid),
        file: meta.and_then(|meta| meta.file).map(|file| file.display().to_string()),
    }
}

/// `12s`, `5m`, `3h`, `2d`, as kubectl has it.
fn age(age: Duration) -> String {
    const UNITS: [(u64, &str); 3] = [(86_400, "d"), (3600, "h"), (60, "m")];
    let seconds = age.as_secs();
    let unit = UNITS.into_iter().find(|(length, _)| seconds >= 2 * length);
    unit.map_or_else(|| format!("{seconds}s"), |(length, unit)| format!("{}{unit}", seconds / length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        let texts = [5, 119, 120, 7200, 200_000].map(|seconds| age(Duration::from_secs(seconds)));
        assert_eq!(texts, ["5s", "119s", "2m", "2h", "2d"]);
    }
}
