//! `[[probe]]` → probes with every name that the lab knows replaced by an address, one for each who asks.

mod asks;
mod directory;
mod expect;
mod selector;

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use super::{
    balancer::BalancerDraft,
    externals::ExternalDraft,
    file::LabFile,
    model::{Asks, Span, UserDistribution, UserExpect, UserProbe},
    network::Network,
    pods::Pods,
    probe_tables::ProbeTable,
    probe_values::Spread,
    said::{At, Said},
    services::ServiceDraft,
    value::{Period, invalid, listed},
};
use crate::diag::{Diagnostic, Problems, quoted};
pub(super) use directory::service_name;
use directory::{Asker, Directory};

/// What probes may speak of.
#[derive(Clone, Copy)]
pub(super) struct Things<'l> {
    pub(super) network: &'l Network,
    pub(super) pods: &'l Pods,
    pub(super) services: &'l [ServiceDraft],
    pub(super) balancer: Option<&'l BalancerDraft>,
    pub(super) externals: &'l [ExternalDraft],
    /// The address of the cluster's DNS, if there is one.
    pub(super) dns: Option<IpAddr>,
}

/// No try waits longer.
const LONGEST_TRY: Duration = Duration::from_secs(60);
/// Nothing is tried again for longer.
const LONGEST: Duration = Duration::from_secs(600);

/// Reads the probes from the file; `None` if anything of them was refused.
pub(super) fn probes(file: &LabFile, things: &Things<'_>, problems: &mut Problems) -> Option<Vec<UserProbe>> {
    let tables = file.probe.maybe_list()?.unwrap_or_default();
    if tables.is_empty() {
        return Some(Vec::new());
    }
    let directory = Directory::of(things);
    let probes: Vec<Option<Vec<UserProbe>>> = tables.iter().map(|table| probe(table, &directory, problems)).collect();
    Some(probes.into_iter().collect::<Option<Vec<_>>>()?.into_iter().flatten().collect())
}

fn probe(table: &ProbeTable, directory: &Directory<'_>, problems: &mut Problems) -> Option<Vec<UserProbe>> {
    let askers = askers(table, directory, problems);
    let kind = kind(table, problems);
    if let Some((kind, _)) = kind {
        refuse_others(table, kind, problems);
    }
    let asked = kind.and_then(|(kind, at)| asks::asks(kind, at, table, directory, problems));
    let expect = kind.and_then(|(kind, _)| expect::expect(kind, table, directory, problems));
    let distribution = distribution(table, directory, problems);
    let timeout = time("timeout", &table.timeout, LONGEST_TRY, problems);
    let within = time("within", &table.within, LONGEST, problems);
    let name = name(table, problems);
    let (asks, written) = asked?;
    let expect = expect?;
    let distribution = distribution?;
    if let Some(distribution) = &distribution {
        check_distribution(table, (&asks, &expect, distribution), problems)?;
    }
    let (askers, several) = askers?;
    let (within, timeout, name) = (within?, timeout?, name?);
    let probe = |asker: Asker| UserProbe {
        name: match &name {
            Some(name) if several => format!("{name} from {}", asker.name),
            Some(name) => name.clone(),
            None => format!("{} {} {written}", asker.name, verb(&asks)),
        },
        from: asker.place,
        as_pod: asker.as_pod,
        asks: asks.clone(),
        written: written.clone(),
        expect: expect.clone(),
        distribution: distribution.clone(),
        within,
        timeout,
        at: table.at.clone(),
    };
    Some(askers.into_iter().map(probe).collect())
}

/// What somebody does who asks like this.
fn verb(asks: &Asks) -> &'static str {
    match asks {
        Asks::Http(_) => "asks",
        Asks::Tcp(_) => "connects to",
        Asks::Udp { .. } => "sends to",
        Asks::Dns { .. } => "looks up",
        Asks::Ping(_) => "pings",
        Asks::Exec(_) => "runs",
    }
}

/// Everybody who asks, each once, with whether the file could mean several.
fn askers(table: &ProbeTable, directory: &Directory<'_>, problems: &mut Problems) -> Option<(Vec<Asker>, bool)> {
    let words = table.from.get()?;
    let mut found: Option<Vec<Asker>> = Some(Vec::new());
    let mut several = words.is_list;
    let mut seen = BTreeSet::new();
    for said in &words.all {
        match (directory.askers(said, problems), &mut found) {
            (Some((askers, many)), Some(found)) => {
                several |= many;
                found.extend(askers.into_iter().filter(|asker| seen.insert(asker.name.clone())));
            }
            _ => found = None,
        }
    }
    found.map(|found| (found, several))
}

fn name(table: &ProbeTable, problems: &mut Problems) -> Option<Option<String>> {
    if let Some(said) = table.name.at()
        && (said.value.trim().is_empty() || said.value.chars().any(char::is_control))
    {
        let why = "must not be empty, and must not hold control characters";
        problems.push(invalid("name", quoted(&said.value), said.at.clone(), why).hint("write one line of text"));
        return None;
    }
    table.name.maybe()
}

/// What a probe can ask.
const KINDS: [&str; 6] = ["url", "tcp", "udp", "dns", "ping", "exec"];

/// The one key that says what is asked, and where its value stands.
fn kind<'t>(table: &'t ProbeTable, problems: &mut Problems) -> Option<(&'static str, &'t Span)> {
    let places = [
        place(&table.url),
        place(&table.tcp),
        place(&table.udp),
        place(&table.dns),
        place(&table.ping),
        place(&table.exec),
    ];
    let is_nonsense = [&table.url, &table.tcp, &table.udp, &table.dns, &table.ping].iter().any(|it| it.is_nonsense());
    let mut said = KINDS.into_iter().zip(places).filter_map(|(kind, at)| Some((kind, at?)));
    let Some(first) = said.next() else {
        if !is_nonsense && !table.exec.is_nonsense() {
            let problem = Diagnostic::new(table.at.clone(), "this probe asks nothing");
            problems
                .push(problem.hint(format!("add one of {}, such as `url = \"http://node1:30080/\"`", listed(&KINDS))));
        }
        return None;
    };
    let mut only = true;
    for (kind, at) in said {
        let problem = Diagnostic::new(at.clone(), format!("a probe with `{}` has no `{kind}`", first.0));
        let problem = problem.also(first.1.clone(), "what it asks");
        problems.push(problem.hint("a probe asks one thing: write a `[[probe]]` for each"));
        only = false;
    }
    only.then_some(first)
}

fn place<T>(said: &Said<T>) -> Option<&Span> {
    said.at().map(|said| &said.at)
}

/// Refuses the keys that only other kinds of probes have.
fn refuse_others(table: &ProbeTable, kind: &'static str, problems: &mut Problems) {
    let keys: [(&str, Option<&Span>, &[&str]); 7] = [
        ("method", place(&table.method), &["url"]),
        ("headers", place(&table.headers), &["url"]),
        ("body", place(&table.body), &["url"]),
        ("send", place(&table.send), &["udp"]),
        ("type", place(&table.r#type), &["dns"]),
        ("server", place(&table.server), &["dns"]),
        ("distribution", place(&table.distribution), &["url", "udp"]),
    ];
    for (key, at, kinds) in keys {
        let Some(at) = at.filter(|_| !kinds.contains(&kind)) else { continue };
        let problem = Diagnostic::new(at.clone(), format!("a probe with `{kind}` has no `{key}`"));
        let hint = match (kind, key) {
            ("url", "send") => "did you mean `body`?".to_owned(),
            ("udp", "body") => "did you mean `send`?".to_owned(),
            _ => format!("`{key}` is for probes with {}", listed(kinds)),
        };
        problems.push(problem.hint(hint));
    }
}

fn time(key: &str, said: &Said<Period>, most: Duration, problems: &mut Problems) -> Option<Option<Duration>> {
    if let Some(at) = said.at()
        && (at.value.0 > most || at.value.0 < Duration::from_millis(10))
    {
        let why = format!("must be between 10ms and {}s", most.as_secs());
        problems.push(
            invalid(key, format!("of {} s", at.value.0.as_secs_f64()), at.at.clone(), why)
                .hint(format!("for example `{key} = \"2s\"`")),
        );
        return None;
    }
    Some(said.maybe()?.map(|period| period.0))
}

fn distribution(
    table: &ProbeTable,
    directory: &Directory<'_>,
    problems: &mut Problems,
) -> Option<Option<UserDistribution>> {
    let spread = match &table.distribution {
        Said::Nothing => return Some(None),
        Said::Nonsense => return None,
        Said::Value(said) => &said.value,
    };
    let Spread::Table(spread) = spread else {
        return Some(Some(UserDistribution { connections: None, shares: None }));
    };
    if spread.connections.is_nothing() && spread.shares.is_nothing() {
        let problem = Diagnostic::new(spread.at.clone(), "this distribution says nothing");
        problems.push(problem.hint("write `distribution = \"even\"` for equal shares"));
        return None;
    }
    let connections = spread.connections.maybe()?.map(|connections| connections.0);
    let shares = match &spread.shares {
        Said::Nothing => None,
        Said::Nonsense => return None,
        Said::Value(said) => {
            let mut shares = Some(Vec::new());
            for (name, share) in &said.value.0 {
                match (directory.pods(name, problems).as_deref(), &mut shares) {
                    (Some([pod]), Some(shares)) => shares.push((*pod, *share)),
                    (Some([_]), None) => {}
                    (Some(_), _) => {
                        let problem =
                            Diagnostic::new(name.at.clone(), format!("{} is not one pod", quoted(&name.value)));
                        problems.push(problem.hint("give each pod a share of its own"));
                        shares = None;
                    }
                    (None, _) => shares = None,
                }
            }
            Some(shares?)
        }
    };
    Some(Some(UserDistribution { connections, shares }))
}

/// Chi-square wants so many answers from everybody (Cochran's rule).
const LEAST_EACH: f64 = 5.0;

fn check_distribution(
    table: &ProbeTable,
    (asks, expect, distribution): (&Asks, &UserExpect, &UserDistribution),
    problems: &mut Problems,
) -> Option<()> {
    let at = place(&table.distribution)?;
    if let Some(within) = place(&table.within) {
        let problem = Diagnostic::new(within.clone(), "a distribution is measured once");
        let problem = problem.also(at.clone(), "the distribution");
        problems.push(problem.hint("chance would have its way in the end: leave `within` out"));
        return None;
    }
    if expect.failure.is_some() {
        let problem = Diagnostic::new(at.clone(), "connections that fail are spread over nobody");
        problems.push(problem.hint("leave `distribution` out, or expect an answer"));
        return None;
    }
    if matches!(asks, Asks::Udp { send: Some(_), .. }) {
        let problem = Diagnostic::new(at.clone(), "answers to `send` do not say whose they are");
        problems.push(problem.hint("leave `send` out: the echo servers then answer with their name"));
        return None;
    }
    let (Some(connections), Some(shares)) = (distribution.connections, &distribution.shares) else { return Some(()) };
    let least = shares.iter().map(|(_, share)| *share).fold(1.0, f64::min);
    if connections as f64 * least < LEAST_EACH {
        let needed = (LEAST_EACH / least).ceil();
        let problem =
            Diagnostic::new(at.clone(), format!("{connections} connections are too few to tell the smallest share"));
        problems.push(problem.hint(format!("make at least {needed}")));
        return None;
    }
    Some(())
}

/// An element of a list, as a value with a place.
fn listed_text(all: &[At<String>]) -> Vec<String> {
    all.iter().map(|said| said.value.clone()).collect()
}
