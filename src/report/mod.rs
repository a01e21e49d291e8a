//! The report of `netlab verify`: one value, and the forms it is printed in.
//!
//! [`Report`] is what `-o json` prints, and stable: a field may be added, but none renamed or
//! removed without a new [`VERSION`]. Everything else is rendered from it.

mod command;
mod distribution;
pub mod evidence;
mod github;
mod json;
pub mod junit;
pub mod labs;
mod locate;
mod markdown;
mod matrix;
mod paint;
pub mod pcapng;
mod repeat;
mod schema;
mod table;
mod tap;
#[cfg(test)]
mod tests;
pub mod timings;
pub mod trace;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::diag::Colour;
pub use crate::probe::explain::{Cause, Evidence, LookAt};
use crate::probe::{
    drift::Drift,
    explain,
    judge::{self, Fault, Judged, Verdict},
    stats::Mistake,
    suite::{Bound, Expect, Group, PlaceKind, Probe, Suite, TargetKind},
};
pub use command::{Listed, list, paste};
pub use locate::File;
pub use schema::schema;

/// The version of the report's form.
pub const VERSION: u32 = 1;

/// Renders a report.
pub fn render(report: &Report, format: Format, colour: Colour) -> String {
    match format {
        Format::Table => table::render(report, colour),
        Format::Json => json::render(report),
        Format::Junit => junit::render(report),
        Format::Tap => tap::render(report),
        Format::Matrix => matrix::render(report, colour),
        Format::Github => github::render(report),
        Format::Markdown => markdown::render(report),
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
    /// From where to which address: what must be seen, and what was.
    Matrix,
    /// Annotations for GitHub Actions.
    Github,
    /// Markdown, as GitHub's step summaries have it.
    Markdown,
}

/// What a run of the probes showed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// What chose among too many things to try.
    #[serde(default)]
    pub seed: u64,
    /// How many times the suite was run.
    #[serde(default = "once")]
    pub runs: usize,
    /// The probes that failed in some runs and not in others.
    #[serde(default)]
    pub flaky: Vec<Flaky>,
    /// The lab's file, if it came from one.
    #[serde(default)]
    pub file: Option<String>,
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

/// A probe that fails now and then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Flaky {
    /// Its id.
    pub probe: String,
    /// In how many runs it failed.
    pub failed: usize,
    /// In how many it was tried.
    pub of: usize,
}

/// How many probes of a group came out which way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Statistics {
    /// How many tests there are.
    pub tests: usize,
    /// The probability that any of them fails by chance alone.
    pub alpha: f64,
    /// The same for each of them: `alpha / tests` (Bonferroni).
    pub alpha_each: f64,
    /// The confidence of the intervals of shares.
    pub confidence: f64,
    /// The least probability with which a test notices a ladder whose rules all take 1/n, an
    /// endpoint that is left out, or one that is there twice.
    pub power: Option<f64>,
}

/// The outcome of one distribution test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Distribution {
    /// The id of its probe.
    pub probe: String,
    /// `SERVICE:PORT`.
    pub service_port: String,
    /// The node that spreads the load, or the load balancer.
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
    /// The probability with which it notices the mistake that is the hardest to see.
    pub power: f64,
    /// The same for each mistake.
    #[serde(default)]
    pub notices: Vec<Notice>,
    /// Endpoint by endpoint.
    pub shares: Vec<Share>,
}

/// How well a test notices a mistake.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Notice {
    /// The mistake.
    pub mistake: Mistake,
    /// The probability that the test fails because of it.
    pub power: f64,
}

/// The share of one endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProbeReport {
    /// Readable, unique, and stable from run to run.
    pub id: String,
    /// For people.
    pub name: String,
    /// What it belongs to.
    pub group: Group,
    /// The network namespace it was tried from.
    pub from: String,
    /// What sort of place that is.
    #[serde(default = "a_pod")]
    pub place: PlaceKind,
    /// What was tried.
    pub target: TargetReport,
    /// How it came out.
    pub result: ResultKind,
    /// What must happen.
    pub expected: String,
    /// What did; the reason, for a skipped probe.
    pub happened: String,
    /// Who may answer, and how it may fail (`refused`, `timeout`, …), in short; empty if anything may.
    #[serde(default)]
    pub wanted: Vec<String>,
    /// Who answered, and how it failed, in the same words.
    #[serde(default)]
    pub seen: Vec<String>,
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
    /// The line of the lab's file that it is about: that of a `[[probe]]`, a Service or a pod.
    #[serde(default)]
    pub line: Option<usize>,
    /// In how many runs it failed, if there were several.
    #[serde(default)]
    pub failed_runs: Option<usize>,
}

/// What a probe tried to reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
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
        let powers = distributions.iter().flat_map(|distribution| &distribution.notices).map(|notice| notice.power);
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
                look.command.iter_mut().for_each(|command| command::name_lab(command, lab));
            }
            probes.iter_mut().for_each(|probe| command::name_lab(&mut probe.command, lab));
        }
        Report {
            version: VERSION,
            lab: suite.lab.clone(),
            proxy: suite.proxy.to_string(),
            engine: suite.options.engine.as_str().to_owned(),
            passed: failed.is_empty() && !passed.is_empty(),
            seed: suite.options.seed,
            runs: 1,
            flaky: Vec::new(),
            file: None,
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
        place: probe.place,
        target: TargetReport {
            kind: probe.target.kind,
            address: probe.target.address.to_string(),
            protocol: probe.target.protocol.to_string(),
            of: probe.target.of.clone(),
            silent: matches!(probe.expect, Expect::Silence(_)),
        },
        result,
        expected: judge::expected(&probe.expect),
        wanted: judge::wanted(&probe.expect),
        seen: judged.seen.clone(),
        happened,
        why: probe.why.clone(),
        command: command::command(probe),
        look_at,
        drifts: drifts.remove(&probe.id).unwrap_or_default(),
        micros: judged.micros,
        evidence: None,
        line: None,
        failed_runs: None,
    }
}

fn once() -> usize {
    1
}

fn a_pod() -> PlaceKind {
    PlaceKind::Pod
}
