//! What name servers say, held against what they must say.

use super::{FaultKind, Judgement, Tally, fault};
use crate::probe::{
    order::Outcome,
    question::{Found, Rcode, Response, Said},
    suite::Saying,
};

/// Every answer says it; or the first that does not.
pub(super) fn judge(saying: &Saying, tally: &Tally, outcomes: &[&Outcome]) -> Judgement {
    if let Some(kind) = tally.failure() {
        return Err((fault(kind), tally.failures_text()));
    }
    let mut happened = "nothing was asked".to_owned();
    for one in outcomes.iter().flat_map(|outcome| &outcome.tries) {
        let response = one.result.as_ref().ok().and_then(|answer| answer.names.as_ref());
        let Some(response) = response else {
            return Err((FaultKind::NotTried, "what answered is no name server".to_owned()));
        };
        happened = said(response);
        if let Some(wrong) = wrong(saying, response) {
            return Err((FaultKind::WrongContent, wrong));
        }
    }
    Ok(happened)
}

/// What is wrong with a response.
fn wrong(saying: &Saying, response: &Response) -> Option<String> {
    let Saying { rcode, records, ttl, zone, .. } = saying;
    let differs = *rcode != response.rcode || *records != in_order(response.answers.iter().map(|found| &found.data));
    if differs {
        return Some(said(response));
    }
    if let Some(first) = response.answers.first()
        && !first.name.eq_ignore_ascii_case(&response.name)
    {
        return Some(format!("{}, about {} and not about {}", said(response), first.name, response.name));
    }
    if let Some(other) = response.answers.iter().find(|found| ttl.is_some_and(|ttl| ttl != found.ttl)) {
        return Some(format!("{}, for {} seconds instead of {}", said(response), other.ttl, ttl.unwrap_or_default()));
    }
    let speaks_for = |zone: &String| {
        let is_soa = |found: &Found| matches!(found.data, Said::Authority(_)) && found.name.eq_ignore_ascii_case(zone);
        response.authority.iter().any(is_soa)
    };
    let stray = zone.as_ref().filter(|zone| !speaks_for(zone));
    stray.map(|zone| format!("{}, without the SOA record of {zone}", said(response)))
}

/// Aliases as they come, if they come first; all else sorted.
pub(crate) fn in_order<'a>(records: impl IntoIterator<Item = &'a Said>) -> Vec<Said> {
    let mut records: Vec<Said> = records.into_iter().cloned().collect();
    let aliases = records.iter().take_while(|said| matches!(said, Said::Alias(_))).count();
    records[aliases..].sort();
    records
}

/// What must be said, in words.
pub(crate) fn saying(saying: &Saying) -> String {
    let Saying { rcode, records, ttl, zone, .. } = saying;
    let mut words = listed(*rcode, records);
    if let (Some(ttl), false) = (ttl, records.is_empty()) {
        words.push_str(&format!(" (TTL {ttl})"));
    }
    if let Some(zone) = zone {
        words.push_str(&format!(" and the SOA record of {zone}"));
    }
    words
}

/// What was said, in words.
pub(super) fn said(response: &Response) -> String {
    let records: Vec<Said> = response.answers.iter().map(|found| found.data.clone()).collect();
    format!("{}: {}", response.name, listed(response.rcode, &records))
}

/// So many records are told.
const TOLD: usize = 8;

fn listed(rcode: Rcode, records: &[Said]) -> String {
    let mut words: Vec<String> = records.iter().take(TOLD).map(ToString::to_string).collect();
    if records.len() > TOLD {
        words.push(format!("and {} more", records.len() - TOLD));
    }
    match (rcode, words.is_empty()) {
        (Rcode::NoError, false) => words.join(", "),
        (Rcode::NoError, true) => "NOERROR without a record".to_owned(),
        (rcode, true) => rcode.to_string(),
        (rcode, false) => format!("{rcode} with {}", words.join(", ")),
    }
}
