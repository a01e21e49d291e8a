//! What it takes to add one Service to a lab that has many: the command as a whole, what the agent needs
//! until every node has its rules, and when the Service answers.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use super::{
    ask::now,
    lab::{Grid, PROXIES},
    program::{Bench, json, output},
    table::{Row, Table, Unit},
};
use crate::run::{Failure, Result};

/// The command, from its start until it has come back.
pub(crate) const COMMAND: &str = "netlab apply";
/// From the start of the command until the Service answers.
pub(crate) const ANSWERED: &str = "from the command to the first answer";
/// From when the change has reached the agent until the Service answers.
pub(crate) const ANSWERED_BY_AGENT: &str = "from when the agent has the change to the first answer";
/// From when the change has reached the agent until every node has its rules.
pub(crate) const RULES: &str = "from when the agent has the change until the rules are in";
/// What the rules of a node take, of which nearly all is the kernel's where they are of nftables.
pub(crate) const NODE: &str = "the rules of one node";

/// `iptables-restore` takes a minute and more for 5,000 Services on ten nodes.
const MOST_OF_IPTABLES: u32 = 1_000;

/// What the rows of a proxy are under.
pub(crate) fn case(proxy: &str) -> String {
    format!("one more Service, 10 nodes × 10 pods, {proxy}")
}

/// What a row is called.
pub(crate) fn row(crowd: u32, what: &str) -> String {
    format!("{crowd} Services: {what}")
}

/// Brings labs up side by side, adds a Service to each in turn, and takes them down.
pub(crate) fn crowd(bench: &Bench, crowds: &[Grid], rounds: usize, table: &mut Table) -> Result<()> {
    for proxy in PROXIES {
        let case = case(proxy);
        let mut labs = Vec::new();
        let fits = |crowd: &&Grid| proxy != "iptables" || crowd.services <= MOST_OF_IPTABLES;
        let done = crowds.iter().filter(fits).try_for_each(|crowd| {
            let lab =
                Lab { crowd: *crowd, name: format!("bench-{}", crowd.name), file: bench.grid_file(crowd, proxy)? };
            output(bench.netlab().args(["up", "--quiet", "--timeout", "5m", "--name", &lab.name]).arg(&lab.file))?;
            labs.push(lab);
            Ok(())
        });
        let done = done.and_then(|()| {
            (0..=rounds).try_for_each(|round| {
                eprintln!("{case}: round {round} of {rounds}");
                labs.iter().try_for_each(|lab| {
                    for (what, took) in lab.one_more(bench, round)? {
                        let smallest = row(crowds[0].services, what);
                        let row = Row::new(&case, &row(lab.crowd.services, what), Unit::Millis);
                        let row = if lab.crowd.services == crowds[0].services { row } else { row.against(&smallest) };
                        if round > 0 {
                            table.add(&row, took.as_secs_f64() * 1000.0);
                        }
                    }
                    Ok(())
                })
            })
        });
        for lab in &labs {
            output(bench.netlab().args(["down", "--quiet", &lab.name]))?;
        }
        done?;
    }
    Ok(())
}

struct Lab {
    crowd: Grid,
    name: String,
    file: PathBuf,
}

impl Lab {
    /// Adds a Service of the first pod, which is on another node than the one that asks.
    fn one_more(&self, bench: &Bench, round: usize) -> Result<Vec<(&'static str, Duration)>> {
        let wrong = |error| Failure(format!("cannot change a lab: {error}"));
        // Far beyond those that are given out in order.
        let address = Ipv4Addr::from_bits(Ipv4Addr::new(10, 96, 200, 1).to_bits() + round as u32);
        let fresh = format!(
            "{}\n[[service]]\nname = \"fresh{round}\"\ncluster_ip = \"{address}\"\nendpoints = [{{ ip = \"10.244.0.2\" }}]\nports = [{{ port = 80 }}]\n",
            fs::read_to_string(&self.file).map_err(wrong)?
        );
        fs::write(&self.file, fresh).map_err(wrong)?;
        let mut asking = Asking::begin(bench, &self.name, address)?;
        let trace = self.file.with_extension("trace");
        let began = now()?;
        let mut apply = bench.netlab();
        let applied = apply.args(["apply", "--quiet", "--lab", &self.name, "--trace"]).arg(&trace).arg(&self.file);
        if let Err(failure) = output(applied) {
            asking.give_up()?;
            return Err(failure);
        }
        let command = now()?.saturating_sub(began);
        let answered = asking.answered()?;
        let Change { begin, rules, node } = change(&trace)?;
        Ok(vec![
            (COMMAND, command),
            (ANSWERED, answered.saturating_sub(began)),
            (ANSWERED_BY_AGENT, answered.saturating_sub(begin)),
            (RULES, rules.saturating_sub(begin)),
            (NODE, node),
        ])
    }
}

/// Somebody who asks all the time.
struct Asking {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Asking {
    fn begin(bench: &Bench, lab: &str, address: Ipv4Addr) -> Result<Self> {
        let lost = || Failure("nobody asks the lab".to_owned());
        let mut command = bench.xtask_in(lab, "node2");
        let command = command.args(["notice", &format!("{address}:80")]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|_| lost())?;
        let mut lines = BufReader::new(child.stdout.take().ok_or_else(lost)?).lines();
        match lines.next() {
            Some(Ok(line)) if line == "asking" => Ok(Asking { child, lines }),
            _ => Err(lost()),
        }
    }

    fn answered(&mut self) -> Result<Duration> {
        let line = self.lines.next().and_then(std::result::Result::ok).unwrap_or_default();
        let ended = self.child.wait();
        let nanos = line.parse().map_err(|_| Failure(format!("a new Service does not answer: {ended:?}")))?;
        Ok(Duration::from_nanos(nanos))
    }

    fn give_up(&mut self) -> Result<()> {
        let ended = self.child.kill().and_then(|()| self.child.wait());
        ended.map(drop).map_err(|error| Failure(format!("cannot stop who asks: {error}")))
    }
}

/// When the agent did what, by the clock that all processes of a host share.
struct Change {
    begin: Duration,
    rules: Duration,
    /// How long the median node took.
    node: Duration,
}

fn change(trace: &Path) -> Result<Change> {
    let text = fs::read_to_string(trace).map_err(|error| Failure(format!("cannot read a trace: {error}")))?;
    let json = json(&text)?;
    let origin = json["otherData"]["origin"].as_u64();
    let events: Vec<_> =
        json["traceEvents"].as_array().into_iter().flatten().filter(|it| it["cat"] == "change").collect();
    let begin = events.iter().filter_map(|it| it["ts"].as_u64()).min();
    let rules = events.iter().filter(|it| it["name"] == "rules");
    let rules = rules.filter_map(|it| Some(it["ts"].as_u64()? + it["dur"].as_u64()?)).max();
    let nodes = json["traceEvents"].as_array().into_iter().flatten().filter(|it| it["cat"] == "rules");
    let mut nodes: Vec<u64> = nodes.filter_map(|it| it["dur"].as_u64()).collect();
    nodes.sort_unstable();
    match (origin, begin, rules, nodes.get(nodes.len() / 2)) {
        (Some(origin), Some(begin), Some(rules), Some(node)) => Ok(Change {
            begin: Duration::from_micros(origin + begin),
            rules: Duration::from_micros(origin + rules),
            node: Duration::from_micros(*node),
        }),
        _ => Err(Failure("the trace of a change says nothing of its rules".to_owned())),
    }
}
