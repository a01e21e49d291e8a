//! What the file says of resolvers: search domains, options, the names that ExternalName Services
//! stand for; and a pod's own settings.

use std::{collections::BTreeMap, net::Ipv4Addr};

use serde_json::{Value as Json, json};
use toml::{Spanned, de::DeValue};

use super::{
    address::{ip, special},
    file::{DnsConfigTable, DnsOptionTable, PodTable},
    model::{DnsOption, DnsPolicy, PodDns, Span},
    name::Domain,
    said::At,
    value::{Value, invalid, text},
};
use crate::diag::{Diagnostic, Problems, quoted};

/// A search domain: a DNS name in which underscores are legal too, or `.` alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SearchDomain(pub(super) String);

/// The name of a resolver's option, or its value: one word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ResolverWord(pub(super) String);

/// The name that an ExternalName Service stands for; a dot at its end may be left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ExternalName(pub(super) Domain);

/// The most name servers that a resolver has (`MAXNS` of `resolv.h`).
const MOST_NAMESERVERS: usize = 3;
/// The most search domains, and the most characters of them all (KEP-2595).
const MOST_SEARCHES: usize = 32;
const MOST_SEARCH_CHARACTERS: usize = 2048;
/// Options that are numbers (resolv.conf(5)).
const NUMBERS: [&str; 3] = ["ndots", "timeout", "attempts"];

impl Value for SearchDomain {
    fn decode(key: &str, value: &Spanned<DeValue<'_>>, problems: &mut Problems) -> Option<Self> {
        let text = text(key, value, problems)?;
        let plain = text.strip_suffix('.').unwrap_or(text).replace('_', "x");
        let good = text == "." || plain.parse::<Domain>().is_ok();
        if !good {
            let why = "must be a DNS name: lower case alphanumeric characters, '-', '_' or '.'";
            problems.push(invalid(key, quoted(text), value.span(), why).hint("for example \"svc.cluster.local\""));
        }
        good.then(|| SearchDomain(text.to_owned()))
    }

    fn schema() -> Json {
        json!({ "type": "string", "maxLength": 254, "pattern": "^(\\.|[a-z0-9_]([-a-z0-9_]*[a-z0-9_])?(\\.[a-z0-9_]([-a-z0-9_]*[a-z0-9_])?)*\\.?)$" })
    }
}

impl Value for ResolverWord {
    fn decode(key: &str, value: &Spanned<DeValue<'_>>, problems: &mut Problems) -> Option<Self> {
        let text = text(key, value, problems)?;
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        let good = !text.is_empty() && text.len() <= 63 && text.bytes().all(legal);
        if !good {
            let why = "must be a word of letters, digits, '-', '_' or '.'";
            problems.push(invalid(key, quoted(text), value.span(), why).hint("for example \"ndots\""));
        }
        good.then(|| ResolverWord(text.to_owned()))
    }

    fn schema() -> Json {
        json!({ "type": "string", "maxLength": 63, "pattern": "^[-A-Za-z0-9_.]+$" })
    }
}

impl Value for ExternalName {
    fn decode(key: &str, value: &Spanned<DeValue<'_>>, problems: &mut Problems) -> Option<Self> {
        let text = text(key, value, problems)?;
        let parsed = text.strip_suffix('.').unwrap_or(text).parse();
        let refused =
            |why| problems.push(invalid(key, quoted(text), value.span(), why).hint("for example \"api.ipify.org\""));
        parsed.map_err(refused).ok().map(ExternalName)
    }

    fn schema() -> Json {
        json!({ "type": "string", "maxLength": 254, "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\\.?$" })
    }
}

/// What a `[[pod]]` says of its resolver.
pub(super) fn pod_dns(table: &PodTable, problems: &mut Problems) -> Option<PodDns> {
    let policy = table.dns_policy.or(DnsPolicy::ClusterFirst)?;
    if table.dns_config.is_nonsense() {
        return None;
    }
    let dns = match table.dns_config.get() {
        Some(config) => configured(config, policy, problems)?,
        None => PodDns { policy, ..PodDns::default() },
    };
    if policy == DnsPolicy::None && dns.nameservers.is_empty() {
        let at = table.dns_policy.span(&table.at);
        let problem = Diagnostic::new(at, "must provide at least one DNS nameserver when `dns_policy` is 'None'");
        problems.push(problem.hint("add `dns_config = { nameservers = [\"10.96.0.10\"] }`"));
        return None;
    }
    Some(dns)
}

fn configured(table: &DnsConfigTable, policy: DnsPolicy, problems: &mut Problems) -> Option<PodDns> {
    let nameservers = table.nameservers.maybe_list()?.unwrap_or_default();
    let searches = table.searches.maybe_list()?.unwrap_or_default();
    let options = table.options.maybe_list()?.unwrap_or_default();
    if table.nameservers.is_nothing() && table.searches.is_nothing() && table.options.is_nothing() {
        let problem = Diagnostic::new(table.at.clone(), "this `dns_config` says nothing");
        problems.push(problem.hint("add `nameservers`, `searches` or `options`, or leave it out"));
    }
    let mut refuse = |at: Span, message: String, hint: &str| problems.push(Diagnostic::new(at, message).hint(hint));
    if let Some(said) = nameservers.get(MOST_NAMESERVERS) {
        refuse(said.at.clone(), format!("must not have more than {MOST_NAMESERVERS} nameservers"), "leave it out");
    }
    if let Some(said) = searches.get(MOST_SEARCHES) {
        refuse(said.at.clone(), format!("must not have more than {MOST_SEARCHES} search paths"), "leave it out");
    }
    let length = searches.iter().map(|said| said.value.0.len() + 1).sum::<usize>().saturating_sub(1);
    if length > MOST_SEARCH_CHARACTERS {
        let message = format!(
            "must not have more than {MOST_SEARCH_CHARACTERS} characters (including spaces) in the search list"
        );
        refuse(table.searches.span(&table.at), message, "leave some of them out");
    }
    check_lists(nameservers, searches, problems);
    let mut seen: BTreeMap<&str, Span> = BTreeMap::new();
    for option in options {
        let Some(name) = option.name.get() else { continue };
        check_number(option, &name.0, problems);
        if let Some(first) = seen.insert(&name.0, option.at.clone()) {
            let problem = Diagnostic::new(option.at.clone(), format!("the option `{}` is given twice", name.0));
            problems.push(problem.also(first, "first given here").hint("leave one of them out"));
        }
    }
    let options: Option<Vec<DnsOption>> = options
        .iter()
        .map(|option| {
            Some(DnsOption { name: option.name.get()?.0.clone(), value: option.value.maybe()?.map(|word| word.0) })
        })
        .collect();
    Some(PodDns {
        policy,
        nameservers: nameservers.iter().map(|said| ip(said.value)).collect(),
        searches: searches.iter().map(|said| said.value.0.clone()).collect(),
        options: options?,
    })
}

/// Name servers are machines, and nothing is given twice.
fn check_lists(nameservers: &[At<Ipv4Addr>], searches: &[At<SearchDomain>], problems: &mut Problems) {
    let mut seen: BTreeMap<String, Span> = BTreeMap::new();
    let mut again = |what: &str, it: String, at: &Span, problems: &mut Problems| match seen.get(&it) {
        Some(first) => {
            let problem = Diagnostic::new(at.clone(), format!("the {what} {it} is given twice"));
            problems.push(problem.also(first.clone(), "first given here").hint("leave one of them out"));
        }
        None => _ = seen.insert(it, at.clone()),
    };
    for said in nameservers {
        // A pod may well ask itself, or a cache of its node's at a link-local address.
        let near = said.value.is_loopback() || said.value.is_link_local();
        if let Some(why) = special(said.value).filter(|_| !near) {
            let problem = invalid("nameservers", said.value, said.at.clone(), why);
            problems.push(problem.hint("give the address of a name server"));
        }
        again("name server", said.value.to_string(), &said.at, problems);
    }
    for said in searches {
        again("search domain", quoted(&said.value.0), &said.at, problems);
    }
}

/// Some options are numbers, which the resolver would read as 0 if they are not.
fn check_number(option: &DnsOptionTable, name: &str, problems: &mut Problems) {
    let good = |word: &ResolverWord| word.0.parse::<u32>().is_ok();
    if !NUMBERS.contains(&name) || option.value.is_nonsense() || option.value.get().is_some_and(good) {
        return;
    }
    let at = option.value.span(&option.at);
    let problem = Diagnostic::new(at, format!("the option `{name}` must be a number"));
    problems.push(problem.hint(format!("for example `{{ name = \"{name}\", value = \"2\" }}`")));
}
