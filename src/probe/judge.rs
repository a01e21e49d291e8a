//! From what came of a probe to a verdict, and from all verdicts to the report.

mod says;
mod tally;
mod wishes;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use super::{
    drift::Drift,
    explain::{self, LookAt},
    order::{FailureKind, Outcome, What},
    stats::{self, Mistake},
    suite::{Answerer, Expect, Outcomes, Probe, Spread, Suite},
};
use crate::{
    lab::model::Protocol,
    report::{Distribution, Notice, Report, Share},
};
pub(crate) use says::{in_order, saying};
use tally::Tally;
pub use wishes::is_as_wanted;

/// The report on a run of `suite`: `outcomes` of its orders, in any order, and how the lab
/// differs from its plan.
pub fn report(suite: &Suite, outcomes: &[Outcome], drifts: &[Drift]) -> Report {
    let by_id: Outcomes<'_> = outcomes.iter().map(|outcome| (outcome.id, outcome)).collect();
    let hopeless = hopeless(suite, &by_id);
    let mut judged: Vec<Judged> = suite
        .probes
        .iter()
        .map(|probe| {
            let own: Vec<&Outcome> = probe.orders.iter().filter_map(|order| by_id.get(&order.id).copied()).collect();
            match hopeless.get(&probe.id) {
                Some(because) if own.is_empty() => Judged::skipped(because),
                _ if suite.options.fail_fast && own.len() < probe.orders.len() => Judged::skipped(NOT_ANY_MORE),
                _ => judge(probe, &own, suite.alpha_each()),
            }
        })
        .collect();
    if !judged.iter().any(|judged| matches!(judged.verdict, Verdict::Fail(_))) {
        // Nothing has failed, so this is not why the agent said nothing of them.
        for (probe, judged) in suite.probes.iter().zip(&mut judged) {
            if judged.verdict == Verdict::Skipped(NOT_ANY_MORE.to_owned()) {
                *judged = judge(probe, &[], suite.alpha_each());
            }
        }
    }
    Report::new(suite, judged, drifts)
}

/// Why something is skipped under `--fail-fast`.
const NOT_ANY_MORE: &str = "another probe has failed before";

/// What to say of a probe.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// Who answered, or how it failed, in short: what the matrix compares.
    pub seen: Vec<String>,
    /// Whether it is as it must be.
    pub verdict: Verdict,
    /// How the load was spread, for a distribution test that was answered at all.
    pub distribution: Option<Distribution>,
    /// The longest that a try took.
    pub micros: Option<u64>,
}

/// Whether a probe showed what it must.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It did; and what happened, in a few words.
    Pass(String),
    /// It did not.
    Fail(Box<Fault>),
    /// It was not tried, for this reason.
    Skipped(String),
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// The class of it.
    pub kind: FaultKind,
    /// What must happen.
    pub expected: String,
    /// What did.
    pub happened: String,
    /// The rule behind the expectation.
    pub why: String,
    /// Who should have answered and did not, where that can be told.
    pub suspects: Vec<String>,
    /// Where to look, best first.
    pub look_at: Vec<LookAt>,
}

/// The classes of faults, which lead to different places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultKind {
    /// Nothing came back.
    Timeout,
    /// Something refused.
    Refused,
    /// There was no way.
    Unreachable,
    /// The connection broke.
    Broken,
    /// The name could not be resolved.
    Unnamed,
    /// The probe could not be made.
    NotTried,
    /// Somebody answered where nobody must.
    Answered,
    /// The wrong one answered.
    WrongAnswerer,
    /// The server saw another client address than it must.
    WrongSource,
    /// The load is not spread evenly.
    WrongShares,
    /// The client did not stay with one endpoint.
    NotSticky,
    /// The answer does not say what it must.
    WrongContent,
}

/// Judges one probe by what came of its orders; `alpha` is the false-alarm rate of one
/// distribution test.
pub fn judge(probe: &Probe, outcomes: &[&Outcome], alpha: f64) -> Judged {
    let micros = outcomes.iter().flat_map(|outcome| outcome.all()).map(|one| one.micros).max();
    let mut tally = Tally::of(probe.expect.answerers(), outcomes);
    let complete = outcomes.len() == probe.orders.len() && outcomes.iter().all(|outcome| !outcome.tries.is_empty());
    let seen = tally.seen();
    let judgement = match &probe.expect {
        _ if !complete => Err((FaultKind::NotTried, "the agent reported nothing".to_owned())),
        Expect::Silence(kinds) => silent(&tally, |kind| kinds.contains(&kind)),
        Expect::Mixed(_, kinds) if tally.failures.keys().all(|kind| kinds.contains(kind)) => {
            let failures = if tally.failures.is_empty() { String::new() } else { tally.failures_text() };
            tally.failures.clear();
            served(probe, &tally).map(|answers| if failures.is_empty() { answers } else { failures })
        }
        Expect::Mixed(..) => served(probe, &tally),
        Expect::Answer(_) => served(probe, &tally),
        Expect::Itself(answerers) => served(probe, &tally).and_then(|happened| {
            let me = answerers.first().map_or("", |answerer| answerer.name.as_str());
            match tally.answers.get(me) {
                None | Some(0) => Err((FaultKind::WrongAnswerer, format!("it never met itself: {happened}"))),
                Some(_) => Ok(happened),
            }
        }),
        Expect::Shares(spread) => served(probe, &tally).and_then(|_| shared(&tally, spread, alpha)),
        Expect::Sticky(answerers) => served(probe, &tally).and_then(|_| stuck(probe, answerers, outcomes)),
        Expect::Says(saying) => says::judge(saying, &tally, outcomes),
        Expect::Yours(wish) => wishes::granted(wish, &tally, outcomes, alpha),
    };
    let distribution = match &probe.expect {
        Expect::Shares(spread) if tally.answered() > 0 => Some(distribution(probe, &tally, spread, alpha)),
        Expect::Yours(wish) if tally.answered() > 0 && !wish.shares.is_empty() => {
            Some(distribution(probe, &tally, &wishes::spread(probe, wish), alpha))
        }
        _ => None,
    };
    let verdict = match judgement {
        Ok(happened) => Verdict::Pass(happened + &wishes::waited(outcomes, true)),
        Err((kind, mut happened)) => {
            happened.push_str(&wishes::waited(outcomes, false));
            let suspects = tally.absent(probe);
            let look_at = explain::advice(probe, kind, &suspects);
            let why = probe.why.clone();
            Verdict::Fail(Box::new(Fault { kind, expected: expected(&probe.expect), happened, why, suspects, look_at }))
        }
    };
    Judged { seen, verdict, distribution, micros }
}

/// The measurements that are not worth making, with the reason: a functional probe of the same
/// way has already failed.
pub(super) fn hopeless(suite: &Suite, outcomes: &Outcomes<'_>) -> BTreeMap<String, String> {
    let (measured, functional): (Vec<&Probe>, Vec<&Probe>) =
        suite.probes.iter().partition(|probe| probe.is_measurement());
    let mut failed: BTreeMap<(&str, SocketAddr), String> = BTreeMap::new();
    // Measurements are all of TCP; datagrams to the same address take other rules.
    for probe in functional.into_iter().filter(|probe| probe.target.protocol == Protocol::Tcp) {
        let own: Vec<&Outcome> = probe.orders.iter().filter_map(|order| outcomes.get(&order.id).copied()).collect();
        if let Verdict::Fail(_) = judge(probe, &own, 0.0).verdict {
            for (order, to) in probe.orders.iter().filter_map(|order| Some((order, destination(probe, &order.what)?))) {
                failed.entry((&order.netns, to)).or_insert_with(|| probe.name());
            }
        }
    }
    let mut hopeless = BTreeMap::new();
    for probe in measured {
        let because = probe.orders.iter().find_map(|order| {
            let to = destination(probe, &order.what)?;
            failed.get(&(order.netns.as_str(), to))
        });
        if let Some(because) = because {
            hopeless.insert(probe.id.clone(), format!("{because} fails"));
        }
    }
    hopeless
}

fn destination(probe: &Probe, what: &What) -> Option<SocketAddr> {
    match what {
        What::Http { to, .. } | What::Udp { to, .. } => Some(*to),
        What::HttpByName { .. } | What::Names { .. } | What::Errand(_) => None,
        What::Curl { .. } => match probe.target.address {
            super::suite::Address::Socket(to) => Some(to),
            _ => None,
        },
    }
}

impl Judged {
    fn skipped(because: &str) -> Self {
        let verdict = Verdict::Skipped(because.to_owned());
        Judged { seen: Vec::new(), verdict, distribution: None, micros: None }
    }
}

/// A judgement: what happened, and of a failure its class.
type Judgement = Result<String, (FaultKind, String)>;

fn silent(tally: &Tally, is_right: impl Fn(FailureKind) -> bool) -> Judgement {
    if tally.answered() > 0 || !tally.strangers.is_empty() {
        return Err((FaultKind::Answered, tally.answers_text()));
    }
    match tally.failure() {
        Some(_) if tally.failures.keys().all(|kind| is_right(*kind)) => Ok(tally.failures_text()),
        Some(kind) => Err((fault(kind), tally.failures_text())),
        None => Err((FaultKind::NotTried, "nothing was tried".to_owned())),
    }
}

fn served(probe: &Probe, tally: &Tally) -> Judgement {
    if let Some(kind) = tally.failure() {
        let mut happened = tally.failures_text();
        if tally.answered() > 0 {
            happened = format!("{happened}; the others were answered by {}", counts(tally, probe.expect.answerers()));
        }
        return Err((fault(kind), happened));
    }
    if !tally.strangers.is_empty() {
        return Err((FaultKind::WrongAnswerer, tally.answers_text()));
    }
    if let Some(nonsense) = &tally.nonsense {
        return Err((FaultKind::WrongContent, nonsense.clone()));
    }
    if !tally.wrong_sources.is_empty() {
        let one = |((name, client), count): (&(String, IpAddr), &u64)| {
            let times = if tally.total == 1 { String::new() } else { format!(" {count} times") };
            let right = probe.expect.answerers().iter().find(|answerer| answerer.name == *name);
            let right = right.map(|answerer| list(answerer.sources.iter(), "or")).unwrap_or_default();
            format!("{name} saw the client{times} as {client} instead of {right}")
        };
        let happened = tally.wrong_sources.iter().map(one).collect::<Vec<_>>().join("; ");
        return Err((FaultKind::WrongSource, happened));
    }
    Ok(tally.answers_text())
}

fn shared(tally: &Tally, spread: &Spread, alpha: f64) -> Judgement {
    let observed = observed(tally, &spread.answerers);
    let fit = stats::fit(&observed, &spread.shares);
    let counts = counts(tally, &spread.answerers);
    if fit.p_value >= alpha {
        let agree = if tally.whole > 0 { format!("; {} whole answers agree", tally.whole) } else { String::new() };
        return Ok(format!("{} connections: {counts}; p = {}{agree}", tally.total, p_text(fit.p_value)));
    }
    let by_chance =
        format!("{} connections: {counts}; chance alone does this with p = {}", tally.total, p_text(fit.p_value));
    if !spread.is_equal() {
        return Err((FaultKind::WrongShares, by_chance));
    }
    let takes = stats::ladder(&observed).iter().map(|takes| format!("{takes:.2}")).collect::<Vec<_>>();
    let right = (1..=observed.len()).rev().map(|left| format!("{:.2}", 1.0 / left as f64)).collect::<Vec<_>>();
    Err((
        FaultKind::WrongShares,
        format!(
            "{by_chance}. Rules in this order that do it take {} of what reaches them, instead of {}",
            takes.join(", "),
            right.join(", ")
        ),
    ))
}

fn observed(tally: &Tally, answerers: &[Answerer]) -> Vec<u64> {
    answerers.iter().map(|answerer| tally.answers.get(&answerer.name).copied().unwrap_or(0)).collect()
}

fn distribution(probe: &Probe, tally: &Tally, spread: &Spread, alpha: f64) -> Distribution {
    let Spread { by, answerers, shares } = spread;
    let observed = observed(tally, answerers);
    let total: u64 = observed.iter().sum();
    let fit = stats::fit(&observed, shares);
    let notices = |mistake: &Mistake| {
        let power = stats::power(&mistake.shares(shares)?, shares, total as usize, alpha);
        Some(Notice { mistake: *mistake, power })
    };
    let share = |((answerer, count), expected): ((&Answerer, &u64), &f64)| {
        let (low, high) = stats::interval(*count, total);
        Share {
            endpoint: answerer.name.clone(),
            address: answerer.endpoint.to_string(),
            observed: *count,
            share: if total == 0 { 0.0 } else { *count as f64 / total as f64 },
            expected: *expected,
            low,
            high,
        }
    };
    Distribution {
        probe: probe.id.clone(),
        service_port: probe.target.of.clone(),
        node: by.clone(),
        from: probe.orders.iter().map(|order| order.netns.clone()).collect(),
        connections: tally.total,
        statistic: fit.statistic,
        freedom: fit.freedom,
        p_value: fit.p_value,
        alpha,
        even: fit.p_value >= alpha,
        power: stats::least_power(shares, total as usize, alpha),
        notices: Mistake::ALL.iter().filter_map(notices).collect(),
        shares: answerers.iter().zip(&observed).zip(shares).map(share).collect(),
    }
}

/// Each order's tries must all be answered by the same endpoint.
fn stuck(probe: &Probe, answerers: &[Answerer], outcomes: &[&Outcome]) -> Judgement {
    let mut words = Vec::new();
    let mut is_stuck = true;
    for (order, outcome) in probe.orders.iter().zip(outcomes) {
        let tally = Tally::of(answerers, &[outcome]);
        let met = tally.answers.values().filter(|count| **count > 0).count();
        is_stuck &= met == 1;
        words.push(format!("{}: {}", order.netns, counts(&tally, answerers)));
    }
    let happened = words.join("; ");
    if is_stuck { Ok(happened) } else { Err((FaultKind::NotSticky, happened)) }
}

/// `pod1a 17, pod1b 18, pod2 0`, in the order of the endpoints.
fn counts(tally: &Tally, answerers: &[Answerer]) -> String {
    let mut words: Vec<String> = answerers
        .iter()
        .map(|answerer| format!("{} {}", answerer.name, tally.answers.get(&answerer.name).copied().unwrap_or(0)))
        .collect();
    if tally.anonymous > 0 {
        words.push(format!("without a name {}", tally.anonymous));
    }
    words.join(", ")
}

fn fault(kind: FailureKind) -> FaultKind {
    match kind {
        FailureKind::Refused => FaultKind::Refused,
        FailureKind::Timeout => FaultKind::Timeout,
        FailureKind::Unreachable => FaultKind::Unreachable,
        FailureKind::Broken => FaultKind::Broken,
        FailureKind::Unnamed => FaultKind::Unnamed,
        FailureKind::Other => FaultKind::NotTried,
    }
}

fn failed(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Refused => "connection refused",
        FailureKind::Timeout => "nothing came back",
        FailureKind::Unreachable => "no way there",
        FailureKind::Broken => "the connection broke",
        FailureKind::Unnamed => "the name could not be resolved",
        FailureKind::Other => "could not be tried",
    }
}

/// A server that does not say who it is, in short.
pub(crate) const SOMEBODY: &str = "an answer";

/// A failure in a word, for lists.
pub(crate) fn short(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Refused => "refused",
        FailureKind::Timeout => "timeout",
        FailureKind::Unreachable => "unreachable",
        FailureKind::Broken => "broken",
        FailureKind::Unnamed => "unresolved",
        FailureKind::Other => "not tried",
    }
}

/// What must happen, in short: who may answer, how it may fail; nothing where anything is right.
pub(crate) fn wanted(expect: &Expect) -> Vec<String> {
    let mut names: Vec<String> = expect.answerers().iter().map(|answerer| answerer.name.clone()).collect();
    names.sort();
    names.dedup();
    if let Expect::Silence(kinds) | Expect::Mixed(_, kinds) = expect {
        names.extend(kinds.iter().map(|kind| short(*kind).to_owned()));
    }
    names
}

/// What must happen, in words.
pub(crate) fn expected(expect: &Expect) -> String {
    let names = |answerers: &[Answerer], word| {
        let mut names: Vec<&String> = answerers.iter().map(|answerer| &answerer.name).collect();
        // A machine with several addresses is one.
        names.dedup();
        list(names, word)
    };
    match expect {
        Expect::Answer(answerers) => format!("an answer from {}", names(answerers, "or")),
        Expect::Itself(answerers) => format!(
            "every try answered by {}, and {} among them",
            names(answerers, "or"),
            answerers.first().map_or("itself", |answerer| answerer.name.as_str())
        ),
        Expect::Shares(spread) if spread.is_equal() => {
            let share = 100.0 / spread.answerers.len().max(1) as f64;
            format!("equal shares for {}: {share:.1} % each", names(&spread.answerers, "and"))
        }
        Expect::Shares(Spread { answerers, shares, .. }) => {
            let one = |(answerer, share): (&Answerer, &f64)| format!("{:.1} % for {}", share * 100.0, answerer.name);
            format!("shares of {}", list(answerers.iter().zip(shares).map(one), "and"))
        }
        Expect::Sticky(answerers) => format!("all answers to a client from one of {}", names(answerers, "and")),
        Expect::Mixed(answerers, kinds) => {
            let silence = expected(&Expect::Silence(kinds.clone()));
            format!("an answer from {}, or {silence}, as the choice of the endpoint has it", names(answerers, "or"))
        }
        Expect::Silence(kinds) => {
            let ways = kinds.iter().map(|kind| match kind {
                FailureKind::Refused => "a refusal at once",
                FailureKind::Timeout => "silence",
                FailureKind::Unreachable => "no way there",
                FailureKind::Broken => "a broken connection",
                FailureKind::Unnamed => "a name that cannot be resolved",
                FailureKind::Other => "a failure",
            });
            format!("no answer: {}", list(ways, "or"))
        }
        Expect::Says(saying) => self::saying(saying),
        Expect::Yours(wish) => wishes::expected(wish),
    }
}

/// `a, b or c`.
pub(crate) fn list<T: ToString>(items: impl IntoIterator<Item = T>, word: &str) -> String {
    let mut items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    match items.pop() {
        None => "nobody".to_owned(),
        Some(last) if items.is_empty() => last,
        Some(last) => format!("{} {word} {last}", items.join(", ")),
    }
}

/// `0.42`, `0.0031`, `2e-12`.
pub(crate) fn p_text(p: f64) -> String {
    if p >= 0.1 {
        format!("{p:.2}")
    } else if p >= 0.0001 {
        format!("{p:.4}")
    } else if p > 0.0 {
        format!("{p:.0e}")
    } else {
        "0".to_owned()
    }
}

#[cfg(test)]
mod tests;
