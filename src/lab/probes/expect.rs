//! What must come of a probe: the word or the table of `expect`, as far as it fits what is asked.

use super::{Directory, place};
use crate::{
    diag::{Diagnostic, Problems, quoted},
    lab::{
        model::{ConnectFailure, Host, PodId, Span, UserExpect, UserSource},
        probe_tables::{ExpectTable, ProbeTable},
        probe_values::{Ending, Expectation},
        said::{At, Said},
        value::{invalid, listed},
    },
    probe::question::{Rcode, RecordKind, Said as Record},
};

/// The keys of an expectation that fit each kind of probe.
fn keys_of(kind: &str) -> &'static [&'static str] {
    match kind {
        "url" => &["status", "body", "body_contains", "headers", "backends", "source", "failure"],
        "udp" => &["answer", "answer_contains", "backends", "source", "failure"],
        "dns" => &["records", "rcode", "failure"],
        "exec" => &["exit_code", "stdout", "stdout_contains"],
        _ => &["failure"],
    }
}

/// What is called otherwise elsewhere.
const ALIKE: [(&str, &[&str]); 3] = [
    ("whole", &["body", "answer", "stdout"]),
    ("part", &["body_contains", "answer_contains", "stdout_contains"]),
    ("end", &["status", "rcode", "exit_code"]),
];

/// What must come of it.
pub(super) fn expect(
    kind: &'static str,
    table: &ProbeTable,
    directory: &Directory<'_>,
    problems: &mut Problems,
) -> Option<UserExpect> {
    let (said, at) = match &table.expect {
        Said::Nothing => return Some(UserExpect::default()),
        Said::Nonsense => return None,
        Said::Value(said) => (&said.value, &said.at),
    };
    match said {
        Expectation::Word(ending) => word(kind, *ending, at, problems),
        Expectation::Table(expect) => {
            let record = table.r#type.or(RecordKind::A);
            let sends = place(&table.send);
            self::table(kind, expect, (record, sends), directory, problems)
        }
    }
}

fn word(kind: &str, ending: Ending, at: &Span, problems: &mut Problems) -> Option<UserExpect> {
    const FAILURES: [(Ending, ConnectFailure); 4] = [
        (Ending::Refused, ConnectFailure::Refused),
        (Ending::Timeout, ConnectFailure::Timeout),
        (Ending::Unreachable, ConnectFailure::Unreachable),
        (Ending::Unresolved, ConnectFailure::Unresolved),
    ];
    let failure = FAILURES.iter().find(|(word, _)| *word == ending).map(|(_, failure)| *failure);
    let rcode = match ending {
        Ending::NxDomain => Some(Rcode::NxDomain),
        Ending::ServFail => Some(Rcode::ServFail),
        _ => None,
    };
    match kind {
        "exec" => {
            let problem = Diagnostic::new(at.clone(), "what a program does is not said in a word");
            problems.push(problem.hint("write a table, such as `expect = { exit_code = 0 }`"));
            None
        }
        "dns" if failure == Some(ConnectFailure::Unresolved) => {
            problems.push(unresolved(at));
            None
        }
        "dns" => Some(UserExpect { failure, rcode, ..UserExpect::default() }),
        _ if rcode.is_some() => {
            let problem = Diagnostic::new(at.clone(), format!("a probe with `{kind}` has no such end"));
            let words = ["answered", "refused", "timeout", "unreachable", "unresolved"];
            problems.push(
                problem.hint(format!("it is one of {}; a name that is not there is \"unresolved\"", listed(&words))),
            );
            None
        }
        _ => Some(UserExpect { failure, ..UserExpect::default() }),
    }
}

/// A name server is asked at its address, and that it knows nothing is an answer.
fn unresolved(at: &Span) -> Diagnostic {
    let problem = Diagnostic::new(at.clone(), "a probe with `dns` has no such end");
    problem.hint("of a name that is not there it is \"nxdomain\"; of one without such records, `{ records = [] }`")
}

fn table(
    kind: &'static str,
    table: &ExpectTable,
    (record, sends): (Option<RecordKind>, Option<&Span>),
    directory: &Directory<'_>,
    problems: &mut Problems,
) -> Option<UserExpect> {
    let keys: [(&'static str, Option<&Span>); 14] = [
        ("status", place(&table.status)),
        ("body", place(&table.body)),
        ("body_contains", place(&table.body_contains)),
        ("headers", place(&table.headers)),
        ("backends", place(&table.backends)),
        ("source", place(&table.source)),
        ("answer", place(&table.answer)),
        ("answer_contains", place(&table.answer_contains)),
        ("records", place(&table.records)),
        ("rcode", place(&table.rcode)),
        ("exit_code", place(&table.exit_code)),
        ("stdout", place(&table.stdout)),
        ("stdout_contains", place(&table.stdout_contains)),
        ("failure", place(&table.failure)),
    ];
    let fitting = keys_of(kind);
    for (key, at) in keys.iter().filter_map(|(key, at)| Some((*key, (*at)?))) {
        if !fitting.contains(&key) {
            unfit(kind, key, at, problems);
        } else if let (Some(failure), false) = (place(&table.failure), key == "failure") {
            let problem = Diagnostic::new(at.clone(), format!("a connection that fails has no `{key}`"));
            problems.push(problem.also(failure.clone(), "the failure").hint("leave one of the two out"));
        } else if let (Some(sends), "backends" | "source") = (sends, key) {
            let problem = Diagnostic::new(at.clone(), "answers to `send` do not say whose they are");
            let problem = problem.also(sends.clone(), "what is sent");
            problems.push(
                problem.hint("leave one of the two out: without `send`, the echo servers answer with their name"),
            );
        }
    }
    if let (Some(at), "dns", Some(Some(ConnectFailure::Unresolved))) =
        (place(&table.failure), kind, table.failure.maybe())
    {
        problems.push(unresolved(at));
    }
    if says_nothing(table) {
        let problem = Diagnostic::new(table.at.clone(), "this expectation says nothing");
        problems.push(problem.hint(format!("add {}, or leave `expect` out", listed(&fitting[..1]))));
    }
    let backends = backends(&table.backends, directory, problems);
    let source = source(&table.source, directory, problems);
    let records = match record {
        Some(record) => records(&table.records, record, directory, problems),
        None => None,
    };
    let either = |a: &Said<String>, b: &Said<String>, c: &Said<String>| Some(a.maybe()?.or(b.maybe()?).or(c.maybe()?));
    Some(UserExpect {
        failure: table.failure.maybe()?,
        status: table.status.maybe()?.map(|status| status.0),
        text: either(&table.body, &table.answer, &table.stdout)?,
        text_contains: either(&table.body_contains, &table.answer_contains, &table.stdout_contains)?,
        headers: table.headers.maybe()?.map(|headers| headers.0).unwrap_or_default(),
        backends: backends?,
        source: source?,
        rcode: table.rcode.maybe()?,
        records: records?,
        exit_code: table.exit_code.maybe()?.map(|code| code.0),
    })
}

/// A key that another kind of probe has.
fn unfit(kind: &str, key: &str, at: &Span, problems: &mut Problems) {
    let fitting = keys_of(kind);
    let problem = Diagnostic::new(at.clone(), format!("what a probe with `{kind}` expects has no `{key}`"));
    let group = ALIKE.iter().find(|(_, group)| group.contains(&key));
    let same = group.and_then(|(_, group)| group.iter().find(|other| fitting.contains(other)));
    problems.push(match same {
        Some(same) => problem.hint(format!("did you mean `{same}`?")),
        None => problem.hint(format!("it has {}", listed(fitting).replace(" or ", " and "))),
    });
}

fn says_nothing(table: &ExpectTable) -> bool {
    let texts = [&table.body, &table.body_contains, &table.source, &table.answer, &table.answer_contains];
    let more = [&table.stdout, &table.stdout_contains];
    texts.iter().chain(&more).all(|said| said.is_nothing())
        && table.status.is_nothing()
        && table.headers.is_nothing()
        && table.backends.is_nothing()
        && table.records.is_nothing()
        && table.rcode.is_nothing()
        && table.exit_code.is_nothing()
        && table.failure.is_nothing()
}

fn backends(said: &Said<Vec<At<String>>>, directory: &Directory<'_>, problems: &mut Problems) -> Option<Vec<PodId>> {
    let mut backends = Some(Vec::new());
    if let (Some(at), Some(Some([]))) = (place(said), said.maybe_list()) {
        let problem = invalid("backends", "[]", at.clone(), "must name somebody");
        problems.push(problem.hint("if nobody shall answer: `expect = \"refused\"` or `\"timeout\"`"));
        return None;
    }
    for said in said.maybe_list()?.unwrap_or_default() {
        match (directory.pods(said, problems), &mut backends) {
            (Some(found), Some(backends)) => {
                let new: Vec<PodId> = found.into_iter().filter(|pod| !backends.contains(pod)).collect();
                backends.extend(new);
            }
            _ => backends = None,
        }
    }
    backends
}

fn source(said: &Said<String>, directory: &Directory<'_>, problems: &mut Problems) -> Option<Option<UserSource>> {
    let said = match said {
        Said::Nothing => return Some(None),
        Said::Nonsense => return None,
        Said::Value(said) => said,
    };
    if let Ok(ip) = said.value.parse() {
        return Some(Some(UserSource::Address(ip)));
    }
    if said.value == "self" {
        return Some(Some(UserSource::Itself));
    }
    directory.place(said, problems).map(|place| Some(UserSource::Place(place)))
}

/// What the records of an answer must say, sorted.
fn records(
    said: &Said<Vec<At<String>>>,
    kind: RecordKind,
    directory: &Directory<'_>,
    problems: &mut Problems,
) -> Option<Option<Vec<Record>>> {
    let Some(all) = said.maybe_list()? else { return Some(None) };
    let mut records = Some(Vec::new());
    for said in all {
        match (record(said, kind, directory, problems), &mut records) {
            (Some(found), Some(records)) => records.extend(found),
            _ => records = None,
        }
    }
    let mut records = records?;
    records.sort();
    records.dedup();
    Some(Some(records))
}

fn record(
    said: &At<String>,
    kind: RecordKind,
    directory: &Directory<'_>,
    problems: &mut Problems,
) -> Option<Vec<Record>> {
    let text = said.value.trim();
    let name = |text: &str| text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let refuse = |example: &str, problems: &mut Problems| {
        let problem = invalid("records", quoted(text), said.at.clone(), format!("is no {kind} record"));
        problems.push(problem.hint(format!("for example \"{example}\"")));
        None
    };
    match kind {
        RecordKind::Aaaa => match text.parse::<std::net::Ipv6Addr>() {
            Ok(ip) => Some(vec![Record::Address(ip.into())]),
            Err(_) => refuse("fd00::1", problems),
        },
        RecordKind::Txt => Some(vec![Record::Text(said.value.clone())]),
        RecordKind::Ptr => Some(vec![Record::Pointer(name(text))]),
        RecordKind::Cname => Some(vec![Record::Alias(name(text))]),
        RecordKind::Srv => {
            let words: Vec<&str> = text.split_whitespace().collect();
            let number = |word: &str| word.parse::<u16>().ok();
            match words[..] {
                [priority, weight, port, target] => match (number(priority), number(weight), number(port)) {
                    (Some(priority), Some(weight), Some(port)) => {
                        Some(vec![Record::Service { priority, weight, port, target: name(target) }])
                    }
                    _ => refuse("0 100 80 web.default.svc.cluster.local", problems),
                },
                _ => refuse("0 100 80 web.default.svc.cluster.local", problems),
            }
        }
        RecordKind::A => match directory.addresses(said, problems)? {
            hosts if hosts.iter().all(|host| matches!(host, Host::Address(ip) if ip.is_ipv4())) => {
                let ip = |host| if let Host::Address(ip) = host { Some(Record::Address(ip)) } else { None };
                Some(hosts.into_iter().filter_map(ip).collect())
            }
            _ => refuse("10.96.0.1", problems),
        },
    }
}
