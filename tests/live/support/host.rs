//! What of this host netlab could have touched, and must not have.

use std::{collections::BTreeMap, fmt::Write, fs, process::Command, time::Instant};

use nix::unistd::geteuid;

use super::{
    Run,
    process::{self, a_moment},
    world::SOON,
};

/// The host's network and mounts, in words: what it is about, and what there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host(BTreeMap<&'static str, String>);

/// The questions, as a person would ask them.
const QUESTIONS: [(&str, &[&str]); 5] = [
    ("links", &["ip", "-oneline", "link", "show"]),
    ("addresses", &["ip", "-oneline", "address", "show"]),
    ("routes", &["ip", "route", "show", "table", "all"]),
    ("routing rules", &["ip", "rule", "show"]),
    ("named namespaces", &["ip", "netns", "list"]),
];

/// What only root is told (and only root could have changed).
const ROOTS_QUESTIONS: [(&str, &[&str]); 2] =
    [("iptables", &["iptables-save"]), ("nftables", &["nft", "list", "ruleset"])];

/// The settings that lesson's scripts change on the host.
const SETTINGS: [(&str, &str); 4] = [
    ("net.ipv4.ip_forward", "/proc/sys/net/ipv4/ip_forward"),
    ("net.ipv4.conf.all.route_localnet", "/proc/sys/net/ipv4/conf/all/route_localnet"),
    ("net.bridge.bridge-nf-call-iptables", "/proc/sys/net/bridge/bridge-nf-call-iptables"),
    ("net.ipv4.conf.default.rp_filter", "/proc/sys/net/ipv4/conf/default/rp_filter"),
];

impl Host {
    /// As it is now.
    pub(crate) fn now() -> Self {
        let roots = if geteuid().is_root() { &ROOTS_QUESTIONS[..] } else { &[] };
        let answers = QUESTIONS.iter().chain(roots).map(|(what, command)| (*what, ask(command)));
        let settings = SETTINGS.iter().map(|(what, path)| (*what, fs::read_to_string(path).unwrap_or_default()));
        let mounts = ("mounts", fs::read_to_string("/proc/self/mountinfo").expect("there is a /proc"));
        Host(answers.chain(settings).chain([mounts]).collect())
    }

    /// Whether it becomes what it was before, within a second, and no process of the run is left.
    pub(crate) fn settles(before: &Host, run: &Run) -> Result<(), String> {
        let deadline = Instant::now() + SOON;
        loop {
            let mut differences = before.differences(&Host::now());
            for process in process::marked(&run.mark) {
                // Writing to a string cannot fail.
                let _ = writeln!(differences, "the process {} is left: {:?}", process.pid, process.arguments);
            }
            if differences.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(differences);
            }
            a_moment();
        }
    }

    fn differences(&self, after: &Host) -> String {
        let mut text = String::new();
        for (what, before) in &self.0 {
            let after = after.0.get(what).map_or("", String::as_str);
            let gone = before.lines().filter(|line| !after.lines().any(|it| it == *line)).map(|line| ("-", line));
            let new = after.lines().filter(|line| !before.lines().any(|it| it == *line)).map(|line| ("+", line));
            for (sign, line) in gone.chain(new) {
                // As above.
                let _ = writeln!(text, "{what}: {sign} {line}");
            }
        }
        text
    }
}

/// The answer without what changes by itself: counters, times, comments.
fn ask(command: &[&str]) -> String {
    let [program, arguments @ ..] = command else { unreachable!("the tables above have programs") };
    let path = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";
    let output = Command::new(program).args(arguments).env("PATH", path).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let lines: Vec<&str> = lines
        .map(|line| line.split(" [").next().unwrap_or(line))
        .map(|line| line.split(" expires ").next().unwrap_or(line))
        .collect();
    lines.join("\n")
}
