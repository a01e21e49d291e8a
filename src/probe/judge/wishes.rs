//! What came of a user's probe, held against what the user wants.

use super::{FaultKind, Judgement, Tally, counts, fault, list, observed, p_text, says, silent};
use crate::probe::{
    order::{Answer, Outcome},
    question::Rcode,
    stats,
    suite::{Answerer, Probe, Spread},
    wish::{Kind, Names, Want, Wish},
};

/// Whether the outcome is as wanted, for the agent, which tries until it is. Shares are measured once,
/// and so never wanted here.
pub fn is_as_wanted(want: &Want, outcome: &Outcome) -> bool {
    let tally = |answerers: &[Answerer]| Tally::of(answerers, &[outcome]);
    match want {
        Want::Fails(kinds) => silent(&tally(&[]), |kind| kinds.contains(&kind)).is_ok(),
        Want::Grants(wish) => granted(wish, &tally(&wish.backends), &[outcome], 0.0).is_ok(),
    }
}

/// Every answer is like this; or the first that is not.
pub(super) fn granted(wish: &Wish, tally: &Tally, outcomes: &[&Outcome], alpha: f64) -> Judgement {
    if let Some(kind) = tally.failure() {
        let mut happened = tally.failures_text();
        if tally.answered() > 0 {
            happened = format!("{happened}; the others were answered by {}", counts(tally, &wish.backends));
        }
        return Err((fault(kind), happened));
    }
    if !wish.backends.is_empty() && (!tally.strangers.is_empty() || tally.anonymous > 0) {
        return Err((FaultKind::WrongAnswerer, tally.answers_text()));
    }
    let mut happened = "nothing was tried".to_owned();
    for answer in outcomes.iter().flat_map(|outcome| &outcome.tries).filter_map(|one| one.result.as_ref().ok()) {
        happened = content(wish, answer)?;
        source(wish, answer)?;
    }
    if matches!(wish.kind, Kind::Http | Kind::Udp) && (tally.total > 1 || !wish.backends.is_empty()) {
        happened = tally.answers_text();
    }
    let silent = |answerer: &&Answerer| tally.answers.get(&answerer.name) == Some(&0);
    let missing: Vec<&str> = wish.backends.iter().filter(silent).map(|answerer| answerer.name.as_str()).collect();
    if !missing.is_empty() {
        return Err((FaultKind::WrongAnswerer, format!("{} never answered: {happened}", list(missing, "and"))));
    }
    if wish.shares.is_empty() { Ok(happened) } else { shared(wish, tally, alpha) }
}

/// What one answer says, if it is what it must be.
fn content(wish: &Wish, answer: &Answer) -> Judgement {
    let wrong = |happened: String| Err((FaultKind::WrongContent, happened));
    if let Some(names) = &wish.names {
        return named(names, answer);
    }
    if let Some(code) = wish.exit_code
        && answer.status != u16::from(code)
    {
        let last = answer.complaint.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
        let said = if last.is_empty() { String::new() } else { format!(": {}", shown(last)) };
        return wrong(format!("exit code {}{said}", answer.status));
    }
    if let Some(status) = wish.status
        && answer.status != status
    {
        return wrong(format!("status {}", answer.status));
    }
    for (name, value) in &wish.headers {
        let mut found = answer.headers.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name)).peekable();
        if found.peek().is_none() {
            return wrong(format!("a response without the header {name}"));
        }
        let values: Vec<&String> = found.map(|(_, value)| value).collect();
        if !values.contains(&value) {
            return wrong(format!("{name}: {}", shown(values[0])));
        }
    }
    let is_whole = |text: &String| answer.body == *text;
    let is_part = |text: &String| answer.body.contains(text.as_str());
    if !wish.text.as_ref().is_none_or(is_whole) || !wish.text_contains.as_ref().is_none_or(is_part) {
        return wrong(body(wish, answer));
    }
    Ok(match wish.kind {
        Kind::Http => match (&answer.pod, answer.status) {
            (Some(pod), status) => format!("status {status}, answered by {pod}"),
            (None, status) => format!("status {status}"),
        },
        Kind::Tcp => "connected".to_owned(),
        Kind::Ping => "answered".to_owned(),
        Kind::Exec => format!("exit code {}", answer.status),
        Kind::Udp | Kind::Dns => match &answer.pod {
            Some(pod) => format!("answered by {pod}"),
            None => format!("answered {}", shown(&answer.body)),
        },
    })
}

/// The text of an answer, or its beginning.
fn body(wish: &Wish, answer: &Answer) -> String {
    let noun = wish.noun();
    match (answer.body.is_empty(), answer.body.chars().count() <= SHOWN) {
        (true, _) => format!("an empty {noun}"),
        (false, true) => format!("the {noun} {:?}", answer.body),
        (false, false) => {
            let first = answer.body.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
            format!("{} {noun} that begins {}", if noun == "body" { "a" } else { "an" }, shown(first))
        }
    }
}

/// So many characters of a text are shown.
const SHOWN: usize = 80;

fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(SHOWN).collect::<String>())
}

fn named(names: &Names, answer: &Answer) -> Judgement {
    let Some(response) = &answer.names else {
        return Err((FaultKind::NotTried, "what answered is no name server".to_owned()));
    };
    let happened = says::said(response);
    let records = names.of_kind(response.answers.iter().map(|found| &found.data));
    let good = response.rcode == names.rcode
        && match &names.records {
            Some(wanted) => *wanted == records,
            None => response.rcode != Rcode::NoError || !records.is_empty(),
        };
    if good { Ok(happened) } else { Err((FaultKind::WrongContent, happened)) }
}

/// The backend must have seen the right client.
fn source(wish: &Wish, answer: &Answer) -> Result<(), (FaultKind, String)> {
    let Some(source) = &wish.source else { return Ok(()) };
    let who = answer.pod.clone().unwrap_or_else(|| "the server".to_owned());
    // A machine that only says whom it sees says that alone.
    let seen = answer.client.or_else(|| answer.body.trim().parse().ok());
    match seen {
        Some(ip) if source.ips.contains(&ip) => Ok(()),
        Some(ip) => {
            let right = list(source.ips.iter(), "or");
            Err((FaultKind::WrongSource, format!("{who} saw the client as {ip} instead of {right}")))
        }
        None => Err((FaultKind::WrongSource, format!("{who} does not say whom it sees as its client"))),
    }
}

fn shared(wish: &Wish, tally: &Tally, alpha: f64) -> Judgement {
    let observed = observed(tally, &wish.backends);
    let fit = stats::fit(&observed, &wish.shares);
    let happened = format!("{} connections: {}", tally.total, counts(tally, &wish.backends));
    match fit.p_value >= alpha {
        true => Ok(format!("{happened}; p = {}", p_text(fit.p_value))),
        false => Err((
            FaultKind::WrongShares,
            format!("{happened}; chance alone does this with p = {}", p_text(fit.p_value)),
        )),
    }
}

/// How its connections must be spread.
pub(super) fn spread(probe: &Probe, wish: &Wish) -> Spread {
    let by = probe.target.node.clone().unwrap_or_default();
    Spread { by, answerers: wish.backends.clone(), shares: wish.shares.clone() }
}

/// What must come of it, in words.
pub(super) fn expected(wish: &Wish) -> String {
    let mut words = Vec::new();
    words.extend(wish.status.map(|status| format!("status {status}")));
    words.extend(wish.exit_code.map(|code| format!("exit code {code}")));
    words.extend(wish.names.as_ref().map(names));
    if !wish.backends.is_empty() && wish.shares.is_empty() {
        let names = list(wish.backends.iter().map(|backend| &backend.name), "and");
        words.push(format!("answers from {names}, and from no other"));
    }
    words.extend(wish.headers.iter().map(|(name, value)| format!("the header {name}: {value}")));
    let article = if wish.noun() == "body" { "a" } else { "an" };
    words.extend(wish.text.as_ref().map(|text| format!("the {} {}", wish.noun(), shown(text))));
    words.extend(wish.text_contains.as_ref().map(|text| format!("{article} {} with {}", wish.noun(), shown(text))));
    words.extend(wish.source.as_ref().map(|source| format!("a backend that sees the client as {}", source.text)));
    if !wish.shares.is_empty() {
        let share = |(backend, share): (&Answerer, &f64)| format!("{} {:.1} %", backend.name, share * 100.0);
        words.push(format!("these shares: {}", list(wish.backends.iter().zip(&wish.shares).map(share), "and")));
    }
    match (words.is_empty(), wish.kind) {
        (false, _) => list(words, "and"),
        (true, Kind::Tcp) => "a connection".to_owned(),
        (true, _) => "any answer".to_owned(),
    }
}

fn names(names: &Names) -> String {
    match (&names.records, names.rcode) {
        (Some(records), Rcode::NoError) if records.is_empty() => {
            format!("NOERROR without a record of type {}", names.kind)
        }
        (Some(records), Rcode::NoError) => list(records, "and"),
        (_, Rcode::NoError) => format!("a record of type {}", names.kind),
        (_, rcode) => rcode.to_string(),
    }
}

/// What is added to the account of a probe that was repeated.
pub(super) fn waited(outcomes: &[&Outcome], is_good: bool) -> String {
    let all: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.waited).collect();
    let Some(longest) = all.iter().max_by_key(|waited| waited.micros) else { return String::new() };
    let seconds = longest.micros as f64 / 1e6;
    match (longest.rounds, is_good) {
        (1, true) => " at once".to_owned(),
        (rounds, true) => format!(" after {seconds:.1} s, the {} time", ordinal(rounds)),
        (rounds, false) => format!(", still after {seconds:.1} s and {rounds} times"),
    }
}

fn ordinal(number: usize) -> String {
    let ending = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}
