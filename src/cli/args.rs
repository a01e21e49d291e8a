//! What can be said on the command line.

mod nodes;
mod testing;
mod verify;

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    lab::{model::ProxyMode, name::Name},
    plan::step::StageName,
};
pub(super) use nodes::{Link, Node, Nodes};
pub(super) use testing::{Test, TestFormat};
pub(super) use verify::{Engine, ReportFormat, Schema, SchemaOf, Verify};

/// A Kubernetes-shaped network on one Linux host, from one TOML file.
#[derive(Debug, Parser)]
#[command(
    name = "netlab",
    version,
    max_term_width = 100,
    after_help = "Exit codes: 0 good · 1 a probe failed · 2 the command line or the lab file is wrong · 3 this host cannot · 4 the kernel or a tool refused (everything was undone) · 70 a bug"
)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) verb: Verb,
}

/// What holds for every verb.
#[derive(Debug, Args)]
pub(super) struct Global {
    /// Say only what was asked for, and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(super) quiet: bool,
    /// Say more
    #[arg(short, long, global = true)]
    pub(super) verbose: bool,
    /// When to use colour
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(super) color: When,
}

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum When {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Build a lab and wait until it is ready
    Up(Up),
    /// Change a running lab into what its file says now
    Apply(Apply),
    /// List what the kernel has otherwise than the lab file says
    Diff(Diff),
    /// Put right what the kernel has otherwise than the lab file says, and verify
    Repair(Repair),
    /// Make pods of a running lab ready, or not ready, or leave that to their probes again
    Ready(Ready),
    /// Give a `[[pod]]` of a running lab another number of replicas
    Scale(Scale),
    /// Delete pods of a running lab, and wait until they are gone
    Delete(Delete),
    /// Kill the processes of pods, as if they had crashed
    Kill(Pods),
    /// Place no new pods on nodes of a running lab
    Cordon(Nodes),
    /// Place pods on nodes again
    Uncordon(Nodes),
    /// Cordon nodes, and move their pods to others
    Drain(Nodes),
    /// Pull the cable between a node and the LAN, or plug it in again
    #[command(subcommand)]
    Link(Link),
    /// Take the power from a node, or give it back
    #[command(subcommand)]
    Node(Node),
    /// Say what has happened in a lab lately
    Events(Events),
    /// Probe every path of a running lab, and test its load balancing
    Verify(Verify),
    /// End a lab; nothing is left of it
    Down(Down),
    /// Check, build, verify and end labs, several at a time, and report on all of them
    Test(Test),
    /// Build a lab that lives as long as a command, and return the command's exit code
    Run(Run),
    /// Hold a lab for a program that uses netlab as a library
    #[command(hide = true)]
    Hold,
    /// List the running labs
    Ls(Ls),
    /// List a lab's nodes, pods, services, endpoints, routes, rules or connections
    Get(Get),
    /// Say everything about one node, pod, service or client
    Describe(Describe),
    /// Run a command in a node, pod or client of a lab
    Exec(Exec),
    /// Open a shell in a lab: `ip netns list` shows its namespaces
    Shell(Shell),
    /// Print what a pod's servers have printed
    Logs(Logs),
    /// Print the rules of a node, with comments
    Rules(Rules),
    /// Follow a connection through every hook, chain and rule, and its reply back
    Trace(Trace),
    /// Check a lab file, touching nothing
    Check(Check),
    /// Print what `up` would do, as the commands that a person would type
    Plan(Plan),
    /// Write a new lab file from a template
    New(New),
    /// See whether this host can run labs, and what to do if not
    Doctor(Doctor),
    /// Print a completion script for a shell
    Completions(Completions),
    /// Print the JSON Schema of lab files, for editors, or that of reports, for programs
    Schema(Schema),
}

/// A lab file.
#[derive(Debug, Clone, Args)]
pub(super) struct File {
    /// The lab file; `-` for standard input [default: the only *.toml in this folder]
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(super) file: Option<PathBuf>,
}

/// A running lab, as an option.
#[derive(Debug, Clone, Args)]
pub(super) struct OfLab {
    /// The lab [default: the only one that runs]
    #[arg(short, long = "lab", value_name = "LAB")]
    pub(super) lab: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Up {
    #[command(flatten)]
    pub(super) file: File,
    /// Say what would be done, as `netlab plan` does, and do nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Bring the lab up under another name
    #[arg(long, value_name = "NAME")]
    pub(super) name: Option<Name>,
    /// If a lab of this name runs, end it first
    #[arg(long)]
    pub(super) replace: bool,
    /// Build up to this stage only
    #[arg(long, value_name = "STAGE", value_parser = stage)]
    pub(super) stage: Option<StageName>,
    /// Do not wait until the readiness probes of all pods have succeeded
    #[arg(long)]
    pub(super) no_wait: bool,
    /// Give up after this long, and undo everything
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    pub(super) timeout: Duration,
    #[command(flatten)]
    pub(super) timings: super::timings::Options,
}

#[derive(Debug, Args)]
pub(super) struct Apply {
    #[command(flatten)]
    pub(super) file: File,
    #[command(flatten)]
    pub(super) of_lab: OfLab,
    /// Say what would change, and how, and change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    #[command(flatten)]
    pub(super) leaving: super::delete::Leaving,
    #[command(flatten)]
    pub(super) timings: super::timings::Options,
}

#[derive(Debug, Args)]
pub(super) struct Diff {
    /// The lab, by name or file [default: the only one that runs]
    #[arg(value_name = "LAB")]
    pub(super) lab: Option<String>,
    /// How to list
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(super) output: ListFormat,
}

#[derive(Debug, Args)]
pub(super) struct Repair {
    /// The lab, by name or file [default: the only one that runs]
    #[arg(value_name = "LAB")]
    pub(super) lab: Option<String>,
    /// Say what would be done, as the commands that a person would type, and do nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Do not probe the lab afterwards
    #[arg(long)]
    pub(super) no_verify: bool,
    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(super) output: PlainFormat,
}

#[derive(Debug, Args)]
pub(super) struct Ready {
    /// A pod, and whether it is ready from now on; `auto` for what its file and its readiness probe say
    #[arg(value_name = "POD=true|false|auto", required = true, value_parser = readiness)]
    pub(super) pods: Vec<(String, Option<bool>)>,
    #[command(flatten)]
    pub(super) of_lab: OfLab,
}

#[derive(Debug, Args)]
pub(super) struct Scale {
    /// The name of a `[[pod]]` with replicas
    #[arg(value_name = "NAME")]
    pub(super) name: String,
    /// How many there shall be
    #[arg(value_name = "N", value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub(super) replicas: u32,
    #[command(flatten)]
    pub(super) of_lab: OfLab,
    #[command(flatten)]
    pub(super) leaving: super::delete::Leaving,
}

#[derive(Debug, Args)]
pub(super) struct Delete {
    #[command(flatten)]
    pub(super) which: Pods,
    #[command(flatten)]
    pub(super) leaving: super::delete::Leaving,
}

#[derive(Debug, Args)]
pub(super) struct Pods {
    /// The pods
    #[arg(value_name = "POD", required = true)]
    pub(super) pods: Vec<String>,
    #[command(flatten)]
    pub(super) of_lab: OfLab,
}

#[derive(Debug, Args)]
pub(super) struct Events {
    /// Go on as more happens, until the lab ends
    #[arg(short, long)]
    pub(super) follow: bool,
    /// How to print; for programs it is one JSON object a line
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(super) output: PlainFormat,
    #[command(flatten)]
    pub(super) of_lab: OfLab,
}

#[derive(Debug, Args)]
pub(super) struct Down {
    /// The labs, by name or file [default: the only one that runs]
    #[arg(value_name = "LAB", conflicts_with = "all")]
    pub(super) labs: Vec<String>,
    /// All labs of this user
    #[arg(long)]
    pub(super) all: bool,
    /// Come back only when the kernel has freed everything
    #[arg(short, long)]
    pub(super) wait: bool,
}

#[derive(Debug, Args)]
pub(super) struct Run {
    /// The lab file; `-` for standard input
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(super) file: PathBuf,
    /// Bring the lab up under another name
    #[arg(long, value_name = "NAME")]
    pub(super) name: Option<Name>,
    /// Give up building after this long
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    pub(super) timeout: Duration,
    /// The command and its arguments; it runs in the lab's outer namespace
    #[arg(value_name = "CMD", required = true, last = true)]
    pub(super) command: Vec<OsString>,
}

/// How to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ListFormat {
    /// Columns
    Table,
    /// More columns
    Wide,
    /// For programs
    Json,
    /// For programs, as Kubernetes' users like it
    Yaml,
    /// Names only
    Name,
}

#[derive(Debug, Args)]
pub(super) struct Ls {
    /// How to list
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(super) output: ListFormat,
}

/// What can be listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    /// Running labs
    Labs,
    /// Nodes
    #[value(alias = "node", alias = "no")]
    Nodes,
    /// Pods
    #[value(alias = "pod", alias = "po")]
    Pods,
    /// Services
    #[value(alias = "service", alias = "svc")]
    Services,
    /// The endpoints of each service port
    #[value(alias = "ep", alias = "endpoint")]
    Endpoints,
    /// The routes that were added, by namespace
    #[value(alias = "route")]
    Routes,
    /// The service rules, by node
    #[value(alias = "rule")]
    Rules,
    /// The connections that the nodes' conntrack knows, and where they really go
    #[value(alias = "ct", alias = "connections")]
    Conntrack,
}

#[derive(Debug, Args)]
pub(super) struct Get {
    /// What to list
    #[arg(value_name = "KIND")]
    pub(super) kind: Kind,
    /// Only the one of this name: of the node, for routes, rules and conntrack
    #[arg(value_name = "NAME")]
    pub(super) name: Option<String>,
    #[command(flatten)]
    pub(super) lab: OfLab,
    /// How to list
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(super) output: ListFormat,
}

#[derive(Debug, Args)]
pub(super) struct Describe {
    /// The name of a node, pod, service or client; `pod/NAME` and the like if that is ambiguous
    #[arg(value_name = "THING")]
    pub(super) thing: String,
    #[command(flatten)]
    pub(super) lab: OfLab,
    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(super) output: ListFormat,
}

#[derive(Debug, Args)]
pub(super) struct Exec {
    /// Where: `host`, a node, a pod or a client
    #[arg(value_name = "WHO")]
    pub(super) who: String,
    #[command(flatten)]
    pub(super) lab: OfLab,
    /// The command and its arguments
    #[arg(value_name = "CMD", required = true, last = true)]
    pub(super) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(super) struct Shell {
    /// Where: a node, a pod or a client
    #[arg(value_name = "WHO", default_value = "host")]
    pub(super) who: String,
    #[command(flatten)]
    pub(super) lab: OfLab,
}

#[derive(Debug, Args)]
pub(super) struct Logs {
    /// The pod; the load balancer, for HAProxy's log; or `agent`, for the lab's own
    #[arg(value_name = "POD")]
    pub(super) pod: String,
    /// The container, if the pod has several
    #[arg(short, long, value_name = "NAME")]
    pub(super) container: Option<String>,
    /// Go on as more is printed, until the lab ends
    #[arg(short, long)]
    pub(super) follow: bool,
    #[command(flatten)]
    pub(super) lab: OfLab,
}

#[derive(Debug, Args)]
pub(super) struct Rules {
    /// The node
    #[arg(value_name = "NODE")]
    pub(super) node: String,
    /// What it would get from another proxy
    #[arg(long, value_name = "PROXY", value_parser = proxy)]
    pub(super) proxy: Option<ProxyMode>,
    #[command(flatten)]
    pub(super) lab: OfLab,
    /// Take the lab from a file; it need not run
    #[arg(short, long, value_name = "FILE", conflicts_with = "lab")]
    pub(super) file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Trace {
    /// Where from: `host`, a node, a pod or a client
    #[arg(value_name = "FROM")]
    pub(super) from: String,
    /// Where to: HOST:PORT, of a node, pod, service or client, or of an address; `/udp` for UDP
    #[arg(value_name = "TO")]
    pub(super) to: String,
    #[command(flatten)]
    pub(super) lab: OfLab,
    /// Take the lab from a file; it need not run
    #[arg(short, long, value_name = "FILE", conflicts_with = "lab")]
    pub(super) file: Option<PathBuf>,
    /// What the rules of another proxy would do
    #[arg(long, value_name = "PROXY", value_parser = proxy)]
    pub(super) proxy: Option<ProxyMode>,
    /// Which way to show in full, where chance chooses among several
    #[arg(long, value_name = "N")]
    pub(super) way: Option<usize>,
    /// Make one real connection as well, and show what the kernel does with it
    #[arg(long, conflicts_with_all = ["file", "proxy"])]
    pub(super) live: bool,
    /// Give the real connection up after this long
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration)]
    pub(super) timeout: Duration,
    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(super) output: PlainFormat,
}

#[derive(Debug, Args)]
pub(super) struct Check {
    /// The lab files; `-` for standard input [default: the only *.toml in this folder]
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(super) files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Plan {
    #[command(flatten)]
    pub(super) file: File,
    /// Up to this stage only
    #[arg(long, value_name = "STAGE", value_parser = stage)]
    pub(super) stage: Option<StageName>,
}

#[derive(Debug, Args)]
pub(super) struct New {
    /// The template [default: list them]
    #[arg(value_name = "TEMPLATE")]
    pub(super) template: Option<String>,
    /// The file to write; `-` for standard output [default: TEMPLATE.toml]
    #[arg(value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
    #[command(flatten)]
    pub(super) grid: super::grid::Options,
}

#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Install missing Debian packages
    #[arg(long)]
    pub(super) fix: bool,
    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(super) output: PlainFormat,
}

/// How to print what is no list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum PlainFormat {
    /// For people
    Table,
    /// For programs
    Json,
}

#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub(super) shell: clap_complete::Shell,
}

fn stage(text: &str) -> Result<StageName, String> {
    let names = StageName::ALL.map(StageName::as_str);
    let found = StageName::ALL.into_iter().find(|stage| stage.as_str() == text);
    found.ok_or_else(|| format!("the stages are: {}", names.join(", ")))
}

fn readiness(text: &str) -> Result<(String, Option<bool>), String> {
    let ready = |ready: &str| match ready {
        "true" => Some(Some(true)),
        "false" => Some(Some(false)),
        "auto" => Some(None),
        _ => None,
    };
    let said = text.split_once('=').and_then(|(pod, said)| Some((pod.to_owned(), ready(said)?)));
    said.filter(|(pod, _)| !pod.is_empty()).ok_or_else(|| "a pod and what it shall be, like web-1=false".to_owned())
}

pub(super) fn proxy(text: &str) -> Result<ProxyMode, String> {
    let names = ProxyMode::ALL.map(ProxyMode::as_str);
    let found = ProxyMode::ALL.into_iter().find(|mode| mode.as_str() == text);
    found.ok_or_else(|| format!("the proxies are: {}", names.join(", ")))
}

/// `500ms`, `30s`, `2m`, or a number of seconds.
fn duration(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1000), ("m", 60_000), ("", 1000)];
    let unit = UNITS.into_iter().find_map(|(unit, millis)| {
        let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(millis)
    });
    match unit {
        Some(millis) if millis > 0 => Ok(Duration::from_millis(millis)),
        _ => Err("a time like 500ms, 30s or 2m".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("7"), Ok(Duration::from_secs(7)));
        for bad in ["", "0s", "-1s", "1h", "s", "99999999999999999999s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
