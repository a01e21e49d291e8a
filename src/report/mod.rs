//! The report of `netlab verify`: one value, and the forms it is printed in.
//!
//! [`Report`] is what `-o json` prints, and stable: a field may be added, but none renamed or
//! removed without a new [`VERSION`]. Everything else is rendered from it.

pub mod evidence;
mod json;
pub mod junit;
pub mod labs;
mod paint;
pub mod pcapng;
mod table;
mod tap;
#[cfg(test)]
mod tests;
pub mod timings;
pub mod trace;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use crate::diag::Colour;
pub use crate::probe::explain::{Cause, Evidence, LookAt};
use crate::probe::{
    drift::Drift,
    explain,
    judge::{Fault, Judged, Verdict},
    order::What,
    question::{Question, Transport},
    suite::{Bound, Expect, Group, Probe, Suite, TargetKind},
};

/// The version of the report's form.
pub const VERSION: u32 = 1;

/// Renders a report.
pub fn render(report: &Report, format: Format, colour: Colour) -> String {
    match format {
        Format::Table => table::render(report, colour),
        Format::Json => json::render(report),
        Format::Junit => junit::render(report),
        Format::Tap => tap::render(report),
    }
}

/// The forms of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// For people.
    Table,
    /// The [`Report`] itself.
    Json,
    /// JUnit XML, for CI.
    Junit,
    /// Test Anything Protocol, version 14.
    Tap,
}

/// What a run of the probes showed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`VERSION`].
    pub version: u32,
    /// The lab's name.
    pub lab: String,
    /// Which rules the nodes run: `iptables`, `nftables` or `ladder`.
    pub proxy: String,
    /// The client of the functional probes: `curl` or `builtin`.
    pub engine: String,
    /// Whether everything is as it must be.
    pub passed: bool,
    /// How many probes of each group passed; groups without probes are left out.
    pub groups: Vec<GroupCount>,
    /// What to read first when something failed, best first.
    pub causes: Vec<Cause>,
    /// How load was spread, test by test.
    pub distributions: Vec<Distribution>,
    /// What the distribution tests can and cannot tell.
    pub statistics: Statistics,
    /// Every probe.
    pub probes: Vec<ProbeReport>,
    /// Where the lab is too large to try everything.
    pub bounds: Vec<Bound>,
    /// Differences between the lab and its plan that no failure comes from.
    pub idle_drifts: Vec<Drift>,
}

/// How many probes of a group came out which way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupCount {
    /// The group.
    pub group: Group,
    /// What its probes show together.
    pub shows: String,
    /// As they must be.
    pub passed: usize,
    /// Not as they must be.
    pub failed: usize,
    /// Not tried, because something else failed.
    pub skipped: usize,
}

/// What the distribution tests can and cannot tell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    /// How many tests there are.
    pub tests: usize,
    /// The probability that any of them fails by chance alone.
    pub alpha: f64,
    /// The same for each of them: `alpha / tests` (Bonferroni).
    pub alpha_each: f64,
    /// The confidence of the intervals of shares.
    pub confidence: f64,
    /// The least probability with which a test notices a ladder whose rules all take 1/n.
    pub power: Option<f64>,
}

/// The outcome of one distribution test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    /// The id of its probe.
    pub probe: String,
    /// `SERVICE:PORT`.
    pub service_port: String,
    /// The node that spreads the load.
    pub node: String,
    /// The network namespaces that the connections come from.
    pub from: Vec<String>,
    /// How many connections were opened.
    pub connections: u64,
    /// Pearson's chi-square.
    pub statistic: f64,
    /// Its degrees of freedom.
    pub freedom: usize,
    /// The probability of a worse fit by chance alone.
    pub p_value: f64,
    /// The test fails below this.
    pub alpha: f64,
    /// It did not.
    pub even: bool,
    /// The probability with which it notices a ladder whose rules all take 1/n.
    pub power: f64,
    /// Endpoint by endpoint.
    pub shares: Vec<Share>,
}

/// The share of one endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// The pod, or the address of what is none.
    pub endpoint: String,
    /// Its socket address.
    pub address: String,
    /// How many connections it got.
    pub observed: u64,
    /// Of all that were answered.
    pub share: f64,
    /// What it should get.
    pub expected: f64,
    /// The lower end of the interval of the share.
    pub low: f64,
    /// The upper end of it.
    pub high: f64,
}

/// What one probe showed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeReport {
    /// Readable, unique, and stable from run to run.
    pub id: String,
    /// For people.
    pub name: String,
    /// What it belongs to.
    pub group: Group,
    /// The network namespace it was tried from.
    pub from: String,
    /// What was tried.
    pub target: TargetReport,
    /// How it came out.
    pub result: ResultKind,
    /// What must happen.
    pub expected: String,
    /// What did; the reason, for a skipped probe.
    pub happened: String,
    /// The rule of Kubernetes behind the expectation.
    pub why: String,
    /// A command that does the same by hand.
    pub command: String,
    /// Where to look, for a failed probe.
    pub look_at: Vec<LookAt>,
    /// Differences from the plan on its way, for a failed probe, best first.
    pub drifts: Vec<Drift>,
    /// The longest that a try took.
    pub micros: Option<u64>,
    /// The folder with packets, rules and routes, for a failed probe whose evidence was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
}

/// What a probe tried to reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetReport {
    /// What sort of address it is.
    pub kind: TargetKind,
    /// The address.
    pub address: String,
    /// `TCP` or `UDP`.
    pub protocol: String,
    /// Whose address it is.
    pub of: String,
    /// Nothing must answer there.
    pub silent: bool,
}

/// How a probe came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResultKind {
    /// As it must be.
    Passed,
    /// Not as it must be.
    Failed,
    /// Not tried.
    Skipped,
}

impl Report {
    /// Puts the verdicts on a suite's probes, in their order, together with what explains them.
    pub(crate) fn new(suite: &Suite, judged: Vec<Judged>, drifts: &[Drift]) -> Report {
        let pairs: Vec<(&Probe, &Judged)> = suite.probes.iter().zip(&judged).collect();
        let failed: Vec<(&Probe, &Fault)> = pairs
            .iter()
            .filter_map(|(probe, judged)| match &judged.verdict {
                Verdict::Fail(fault) => Some((*probe, fault.as_ref())),
                Verdict::Pass(_) | Verdict::Skipped(_) => None,
            })
            .collect();
        let passed: Vec<&Probe> = pairs
            .iter()
            .filter(|(_, judged)| matches!(judged.verdict, Verdict::Pass(_)))
            .map(|(probe, _)| *probe)
            .collect();
        let mut explanation = explain::explain(&failed, &passed, drifts);
        let distributions: Vec<Distribution> = judged.iter().filter_map(|judged| judged.distribution.clone()).collect();
        let powers = distributions.iter().map(|distribution| distribution.power).filter(|_| suite.tests() > 0);
        let statistics = Statistics {
            tests: suite.tests(),
            alpha: suite.options.alpha,
            alpha_each: suite.alpha_each(),
            confidence: crate::probe::stats::CONFIDENCE,
            power: powers.min_by(f64::total_cmp),
        };
        let mut probes: Vec<ProbeReport> =
            pairs.iter().map(|(probe, judged)| probe_report(probe, judged, &mut explanation.on_the_way)).collect();
        if let Some(lab) = &suite.options.lab {
            let looks = explanation.causes.iter_mut().flat_map(|cause| &mut cause.look_at);
            for look in looks.chain(probes.iter_mut().flat_map(|probe| &mut probe.look_at)) {
                look.command.iter_mut().for_each(|command| name_lab(command, lab));
            }
            probes.iter_mut().for_each(|probe| name_lab(&mut probe.command, lab));
        }
        Report {
            version: VERSION,
            lab: suite.lab.clone(),
            proxy: suite.proxy.to_string(),
            engine: suite.options.engine.as_str().to_owned(),
            passed: failed.is_empty() && !passed.is_empty(),
            groups: groups(&probes),
            causes: explanation.causes,
            distributions,
            statistics,
            probes,
            bounds: suite.bounds.clone(),
            idle_drifts: explanation.idle,
        }
    }

    /// Whether everything is as it must be. A run without a single probe shows nothing, and so
    /// does not pass.
    pub fn passed(&self) -> bool {
        self.passed
    }

    /// How many probes came out this way.
    pub fn count(&self, result: ResultKind) -> usize {
        self.probes.iter().filter(|probe| probe.result == result).count()
    }
}

/// `netlab exec pod1a …` → `netlab exec -l LAB pod1a …`, for the verbs that look into a lab.
fn name_lab(command: &mut String, lab: &str) {
    for verb in ["netlab exec ", "netlab rules ", "netlab logs "] {
        if let Some(rest) = command.strip_prefix(verb) {
            *command = format!("{verb}-l {lab} {rest}");
            return;
        }
    }
}

fn groups(probes: &[ProbeReport]) -> Vec<GroupCount> {
    let count = |group: Group| {
        let of = |result| probes.iter().filter(|probe| probe.group == group && probe.result == result).count();
        GroupCount {
            group,
            shows: group.shows().to_owned(),
            passed: of(ResultKind::Passed),
            failed: of(ResultKind::Failed),
            skipped: of(ResultKind::Skipped),
        }
    };
    Group::ALL.into_iter().map(count).filter(|count| count.passed + count.failed + count.skipped > 0).collect()
}

fn probe_report(probe: &Probe, judged: &Judged, drifts: &mut BTreeMap<String, Vec<Drift>>) -> ProbeReport {
    let (result, happened, look_at) = match &judged.verdict {
        Verdict::Pass(happened) => (ResultKind::Passed, happened.clone(), Vec::new()),
        Verdict::Fail(fault) => (ResultKind::Failed, fault.happened.clone(), fault.look_at.clone()),
        Verdict::Skipped(because) => (ResultKind::Skipped, because.clone(), Vec::new()),
    };
    ProbeReport {
        id: probe.id.clone(),
        name: probe.name(),
        group: probe.group,
        from: probe.from_text(),
        target: TargetReport {
            kind: probe.target.kind,
            address: probe.target.address.to_string(),
            protocol: probe.target.protocol.to_string(),
            of: probe.target.of.clone(),
            silent: matches!(probe.expect, Expect::Silence(_)),
        },
        result,
        expected: crate::probe::judge::expected(&probe.expect),
        happened,
        why: probe.why.clone(),
        command: command(probe),
        look_at,
        drifts: drifts.remove(&probe.id).unwrap_or_default(),
        micros: judged.micros,
        evidence: None,
    }
}

/// The real dig, with the place's own settings if it is they that are meant; else with all names of
/// the search list at once.
fn dig(question: &Question) -> String {
    let Question { name, kind, transport, resolver } = question;
    let over = if *transport == Transport::Tcp { " +tcp" } else { "" };
    if resolver.own {
        return format!("dig +search{over} {name} {kind}");
    }
    let server = resolver.servers.first().map(ToString::to_string).unwrap_or_default();
    let at = server.strip_suffix(":53").unwrap_or(&server);
    let names = resolver.candidates(name).into_iter().map(|name| format!(" {name}. {kind}"));
    format!("dig @{at}{over}{}", names.collect::<String>())
}

/// More tries by hand than this are tedious to watch.
const BY_HAND: usize = 60;

/// The command that does by hand what the probe's first order does.
fn command(probe: &Probe) -> String {
    let Some(order) = probe.orders.first() else { return String::new() };
    let (url, timeout_ms) = match &order.what {
        What::Curl { url, timeout_ms } => (url.clone(), *timeout_ms),
        What::Http { to, path, timeout_ms } => (format!("http://{to}{path}"), *timeout_ms),
        What::HttpByName { host, port, path, timeout_ms, .. } => {
            let authority = if *port == 80 { host.clone() } else { format!("{host}:{port}") };
            (format!("http://{authority}{path}"), *timeout_ms)
        }
        What::Errand(errand) => return format!("netlab exec {} -- {}", order.netns, errand.by_hand(order.times)),
        What::Names { question, .. } => return format!("netlab exec {} -- {}", order.netns, dig(question)),
        What::Udp { to, timeout_ms } => {
            let seconds = timeout_ms.div_ceil(1000);
            let (ip, port) = (to.ip(), to.port());
            return format!("netlab exec {} -- sh -c 'echo hello | nc -u -w {seconds} {ip} {port}'", order.netns);
        }
    };
    // The URL of a user may hold anything but a quote, which the lab file's checks refuse; a
    // quoted word keeps the shell away from the rest.
    let plain = url.chars().all(|c| c.is_ascii_alphanumeric() || ":/.-_[]%~".contains(c)) && !url.contains('[');
    let url = if plain { url } else { format!("'{}'", url.replace('\'', "%27")) };
    let curl = format!("curl -sS --max-time {} {url}", timeout_ms.div_ceil(1000));
    match order.times {
        1 => format!("netlab exec {} -- {curl}", order.netns),
        times => {
            let inner = curl.replace('\'', "\"");
            let times = times.min(BY_HAND);
            format!("netlab exec {} -- sh -c 'for i in $(seq {times}); do {inner}; done' | sort | uniq -c", order.netns)
        }
    }
}
