//! What a Service costs a packet: how long a connection takes to be there, by how many Services there are
//! and by who writes the rules, and how many of them there can be a second. All labs are up at the same
//! time and are called in turn, so what else the machine does meets them all.

use std::time::Instant;

use super::{
    lab::{ALL_PROXIES, Grid, PROBED},
    program::{Bench, json, output},
    table::{Row, Table, Unit},
};
use crate::run::{Failure, Result};

/// What the rows of the first packets are under.
pub(crate) const FIRST_PACKET: &str = "first packet: a TCP connection from a pod to another on its node";
/// What the rows of connections a second are under.
pub(crate) const RATE: &str = "connections a second: between pods of one node";
/// Without a Service.
pub(crate) const PLAIN: &str = "plain, to the pod's address";
/// By the probes of `netlab verify`.
pub(crate) const PROBES: &str = "nftables, ClusterIP, connections counted by the built-in probes";

/// The rules of the ladder are gone through in order, and it is for labs that one can read.
const MOST_OF_LADDER: u32 = 100;
/// Who calls: the endpoint of neither the first nor the last Service.
const CALLER: &str = "web5-0";
/// The last Service by its name, as the rules are ordered, is svc9, svc99, svc999 or svc9999, and its endpoint
/// this one: Services share ten in turn.
const LAST_ENDPOINT: &str = "web9-0";
/// A connection takes microseconds, and the machine's state changes more slowly than that: short turns, and
/// many of them.
const TURNS_A_ROUND: usize = 5;
/// So many bursts of connections in a turn, of which the fastest counts: whether the server's core has to be
/// woken up, or runs already, is half of what a connection takes, and lasts for a burst.
const BURSTS: usize = 3;
/// Connections in one distribution test: beside as many, it does not matter what else `verify` does.
const SAMPLES: u32 = 5_000;

/// What the row of a Service is called.
pub(crate) fn row(proxy: &str, which: &str, services: u32) -> String {
    format!("{proxy}, {which} of {services} Services")
}

struct Lab {
    name: String,
    proxy: &'static str,
    services: u32,
    first: String,
    last: String,
}

/// Brings the labs up, calls them in turn, and takes them down.
pub(crate) fn path(bench: &Bench, paths: &[Grid], rounds: usize, table: &mut Table) -> Result<()> {
    let mut labs = Vec::new();
    let done = up(bench, paths, &mut labs);
    let done = done.and_then(|()| first_packets(bench, &labs, rounds, table));
    let done = done.and_then(|()| rates(bench, &labs, rounds, table));
    let done = done.and_then(|()| probes(bench, rounds, table));
    for name in labs.iter().map(|lab| &lab.name) {
        output(bench.netlab().args(["down", "--quiet", name]))?;
    }
    done
}

fn up(bench: &Bench, paths: &[Grid], labs: &mut Vec<Lab>) -> Result<()> {
    for (grid, proxy) in paths.iter().flat_map(|grid| ALL_PROXIES.map(|proxy| (grid, proxy))) {
        if proxy == "ladder" && grid.services > MOST_OF_LADDER {
            continue;
        }
        eprintln!("{} Services, {proxy}", grid.services);
        let (file, name) = (bench.grid_file(grid, proxy)?, format!("bench-{proxy}-{}", grid.name));
        output(bench.netlab().args(["up", "--quiet", "--timeout", "5m", "--name", &name]).arg(&file))?;
        // It is taken down whatever happens next.
        labs.push(Lab { name, proxy, services: grid.services, first: String::new(), last: String::new() });
        let Some(lab) = labs.last_mut() else { continue };
        let addresses = bench.service_addresses(&lab.name)?;
        let none = || Failure(format!("{} has no Services", file.display()));
        lab.first = addresses.first().ok_or_else(none)?.clone();
        lab.last = addresses.last().ok_or_else(none)?.clone();
    }
    Ok(())
}

/// How long connections take to be there.
fn first_packets(bench: &Bench, labs: &[Lab], rounds: usize, table: &mut Table) -> Result<()> {
    let Some(smallest) = labs.iter().map(|lab| lab.services).min() else { return Ok(()) };
    let plain = format!("{}:80", pod(bench, &labs[0].name, LAST_ENDPOINT)?.0);
    let rounds = rounds * TURNS_A_ROUND;
    eprintln!("{FIRST_PACKET}: {rounds} turns");
    for round in 0..=rounds {
        let mut call = |lab: &Lab, to: &str, row: Row| -> Result<()> {
            let mut fastest = f64::INFINITY;
            for _ in 0..BURSTS {
                fastest = fastest.min(dial(bench, &lab.name, CALLER, to, &[])?.median_micros);
            }
            if round > 0 {
                table.add(&row, fastest);
            }
            Ok(())
        };
        call(&labs[0], &plain, Row::new(FIRST_PACKET, PLAIN, Unit::Micros))?;
        for lab in labs {
            for (which, to) in [("first", &lab.first), ("last", &lab.last)] {
                let row_of = |proxy, services| row(proxy, which, services);
                let mut row = Row::new(FIRST_PACKET, &row_of(lab.proxy, lab.services), Unit::Micros).against(PLAIN);
                if lab.services > smallest {
                    row = row.against(&row_of(lab.proxy, smallest));
                }
                if lab.proxy != ALL_PROXIES[0] {
                    row = row.against(&row_of(ALL_PROXIES[0], lab.services));
                }
                call(lab, to, row)?;
            }
        }
    }
    Ok(())
}

/// How many connections there can be a second, in the smallest labs; the client has two threads.
fn rates(bench: &Bench, labs: &[Lab], rounds: usize, table: &mut Table) -> Result<()> {
    let smallest = labs.iter().map(|lab| lab.services).min();
    let labs: Vec<&Lab> = labs.iter().filter(|lab| Some(lab.services) == smallest).collect();
    let Some(first) = labs.first() else { return Ok(()) };
    let (endpoint, node) = pod(bench, &first.name, LAST_ENDPOINT)?;
    // The same in all labs, which differ in the proxy alone.
    let node_ip = text(&item(bench, &first.name, "nodes", &node)?, "ip")?;
    let node = format!("{node_ip}:{}", node_port(bench, &first.name, "svc9")?);
    for round in 0..=rounds {
        eprintln!("{RATE}: round {round} of {rounds}");
        let mut add = |row: Row, value: f64| {
            if round > 0 {
                table.add(&row, value);
            }
        };
        let load = ["--count", "2000", "--threads", "2"];
        let plain = dial(bench, &first.name, CALLER, &format!("{endpoint}:80"), &load)?;
        add(Row::new(RATE, PLAIN, Unit::PerSecond), plain.per_second);
        for lab in &labs {
            for (what, to) in [("ClusterIP", &lab.last), ("NodePort", &node)] {
                let row = Row::new(RATE, &format!("{}, {what}", lab.proxy), Unit::PerSecond).against(PLAIN);
                add(row, dial(bench, &lab.name, CALLER, to, &load)?.per_second);
            }
        }
    }
    Ok(())
}

/// What a distribution test of `netlab verify` achieves, in a lab of its own.
fn probes(bench: &Bench, rounds: usize, table: &mut Table) -> Result<()> {
    let (file, name) = (bench.grid_file(&PROBED, ALL_PROXIES[0])?, "bench-probed");
    output(bench.netlab().args(["up", "--quiet", "--name", name]).arg(&file))?;
    let done = (0..=rounds).try_for_each(|round| {
        let began = Instant::now();
        let mut verify = bench.netlab();
        // Whether the load is spread is not the question here, and chance must not end the measurement.
        verify.args(["verify", name, "--only", "balance", "--engine", "builtin", "-o", "json", "--alpha", "1e-9"]);
        let report = json(&output(verify.args(["--samples", &SAMPLES.to_string()]))?)?;
        let took = began.elapsed();
        let tests = report["distributions"].as_array().into_iter().flatten();
        let connections: u64 = tests.filter_map(|test| test["connections"].as_u64()).sum();
        if connections == 0 {
            return Err(Failure(format!("netlab verify has no distribution test for {}", file.display())));
        }
        if round > 0 {
            table.add(&Row::new(RATE, PROBES, Unit::PerSecond), connections as f64 / took.as_secs_f64());
        }
        Ok(())
    });
    output(bench.netlab().args(["down", "--quiet", name]))?;
    done
}

/// The address of a pod, and its node.
fn pod(bench: &Bench, lab: &str, name: &str) -> Result<(String, String)> {
    let pod = item(bench, lab, "pods", name)?;
    Ok((text(&pod, "ip")?, text(&pod, "node")?))
}

/// The node port of a Service.
fn node_port(bench: &Bench, lab: &str, service: &str) -> Result<String> {
    let ports = text(&item(bench, lab, "services", service)?, "ports")?;
    let port = ports.split_once(':').and_then(|(_, rest)| rest.split_once('/'));
    port.map(|(port, _)| port.to_owned()).ok_or_else(|| Failure(format!("{service} has no node port, but {ports}")))
}

fn item(bench: &Bench, lab: &str, kind: &str, name: &str) -> Result<serde_json::Value> {
    let list = json(&output(bench.netlab().args(["get", kind, "--lab", lab, "-o", "json"]))?)?;
    let items = list["items"].as_array().and_then(|items| items.iter().find(|item| item["name"] == name));
    items.cloned().ok_or_else(|| Failure(format!("{lab} has none of {kind} that is called {name}")))
}

fn text(item: &serde_json::Value, field: &str) -> Result<String> {
    let text = item[field].as_str().map(str::to_owned);
    text.ok_or_else(|| Failure(format!("netlab get does not say the {field} of {}", item["name"])))
}

struct Dialled {
    median_micros: f64,
    per_second: f64,
}

/// In the pod's network, but not with its environment: variables of 10,000 Services are more than the kernel
/// hands to a program.
fn dial(bench: &Bench, lab: &str, from: &str, to: &str, load: &[&str]) -> Result<Dialled> {
    let mut exec = bench.netlab();
    exec.args(["exec", "--lab", lab, "host", "--", "nsenter", &format!("--net=/run/netns/{from}")]);
    let text = output(exec.arg(bench.xtask().get_program()).args(["dial", to]).args(load))?;
    let json = json(&text)?;
    let number = |name: &str| json[name].as_f64().ok_or_else(|| Failure(format!("the client said {text:?}")));
    Ok(Dialled { median_micros: number("median_micros")?, per_second: number("per_second")? })
}
