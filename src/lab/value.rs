//! One TOML value → one checked Rust value, or a problem at its place; and the JSON Schema of
//! what is accepted, from the same `impl`.

use std::{collections::BTreeMap, fmt::Display, ops::RangeInclusive, str::FromStr, time::Duration};

use serde_json::{Value as Json, json};
use toml::{Spanned, de::DeValue};

use super::{
    model::{
        BalancerEngine, ConnectFailure, DetectLocal, DnsPolicy, ExternalNames, ExternalServer, Labels, PodRecords,
        Protocol, ProxyMode, Span, TargetPort, TrafficDistribution, TrafficPolicy,
    },
    name::{Domain, IfName, LabelKey, LabelValue, Name, NameError, PortName, ServiceName, ServicePortName},
    said::At,
};
use crate::diag::{Diagnostic, Problems, quoted};

/// A type that a key of the lab file can have.
pub(super) trait Value: Sized {
    /// Reads it; says what is wrong with it and returns `None` otherwise.
    fn decode(key: &str, value: &Spanned<DeValue<'_>>, problems: &mut Problems) -> Option<Self>;

    /// What is accepted, as JSON Schema.
    fn schema() -> Json;
}

/// A number of seconds, 1 to a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seconds(pub(super) u32);

/// A time such as "500ms", "30s" or "2m", up to a day; "0s" is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Period(pub(super) Duration);

/// A `[[pod]]` stands for so many pods at most.
pub(super) const MOST_REPLICAS: usize = 10_000;

/// How many pods a `[[pod]]` stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Replicas(pub(super) usize);

/// How many pods answer DNS questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DnsReplicas(pub(super) usize);

/// A time to live of DNS records, in seconds; CoreDNS allows an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ttl(pub(super) u32);

/// How many answers of a kind in a row make a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Threshold(pub(super) u32);

/// An HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Status(pub(super) u16);

/// A TCP, UDP or SCTP port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Port(pub(super) u16);

/// The environment of a program.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Environment(pub(super) BTreeMap<String, String>);

/// How many connections a distribution is tested with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Connections(pub(super) usize);

/// The exit code of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ExitCode(pub(super) u8);

/// Declares a closed set of words: an enum of its own, or words for one of the model's.
macro_rules! choice {
    ($(#[$doc:meta])* enum $name:ident { $($text:literal => $variant:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum $name {
            $(#[doc = concat!("`", $text, "`")] $variant),+
        }

        choice!($name { $($text => $variant),+ });
    };
    ($name:ident { $($text:literal => $variant:ident),+ $(,)? }) => {
        impl Value for $name {
            fn decode(key: &str, value: &Spanned<DeValue<'_>>, problems: &mut Problems) -> Option<Self> {
                choose(key, value, &[$(($text, $name::$variant)),+], problems)
            }

            fn schema() -> Json {
                json!({ "enum": [$($text),+] })
            }
        }
    };
}

pub(super) use choice;

choice!(ProxyMode { "iptables" => Iptables, "nftables" => Nftables, "ladder" => Ladder });
choice!(DetectLocal { "cluster-cidr" => ClusterCidr, "node-cidr" => NodeCidr, "bridge" => Bridge, "none" => None });
choice!(BalancerEngine { "builtin" => Builtin, "haproxy" => Haproxy });
choice!(Protocol { "TCP" => Tcp, "UDP" => Udp, "SCTP" => Sctp });
choice!(TrafficPolicy { "Cluster" => Cluster, "Local" => Local });
choice!(ConnectFailure {
    "refused" => Refused,
    "timeout" => Timeout,
    "unreachable" => Unreachable,
    "unresolved" => Unresolved,
});
choice!(DnsPolicy {
    "ClusterFirst" => ClusterFirst,
    "ClusterFirstWithHostNet" => ClusterFirstWithHostNet,
    "Default" => Default,
    "None" => None,
});
choice!(PodRecords { "disabled" => Disabled, "insecure" => Insecure, "verified" => Verified });
choice!(ExternalNames { "cname" => Cname, "rewrite" => Rewrite });
choice!(ExternalServer { "echo" => Echo, "my-ip" => MyIp });
choice! {
    /// The key `engine` of the cluster's DNS.
    enum EngineKind { "embedded" => Embedded, "coredns" => Coredns, "none" => None }
}
choice! {
    /// The key `attach` of a node.
    enum AttachKind { "bridge" => Bridge, "routed" => Routed }
}
choice! {
    /// The key `server` of a container.
    enum ServerKind { "echo" => Echo, "python" => Python }
}
choice! {
    /// The key `session_affinity` of a Service.
    enum Affinity { "None" => None, "ClientIP" => ClientIp }
}
choice! {
    /// The key `traffic_distribution` of a Service.
    enum Distribution { "PreferSameZone" => SameZone, "PreferSameNode" => SameNode, "PreferClose" => Close }
}
choice! {
    /// The key `type` of a Service.
    enum ServiceType {
        "ClusterIP" => ClusterIp,
        "NodePort" => NodePort,
        "LoadBalancer" => LoadBalancer,
        "ExternalName" => ExternalName,
    }
}

impl Distribution {
    /// What it means; `PreferClose` is the old name of `PreferSameZone`.
    pub(super) fn meaning(self) -> TrafficDistribution {
        match self {
            Distribution::SameZone | Distribution::Close => TrafficDistribution::PreferSameZone,
            Distribution::SameNode => TrafficDistribution::PreferSameNode,
        }
    }
}

pub(super) fn choose<T: Copy>(
    key: &str,
    value: &Spanned<DeValue<'_>>,
    choices: &[(&'static str, T)],
    problems: &mut Problems,
) -> Option<T> {
    let text = text(key, value, problems)?;
    if let Some((_, choice)) = choices.iter().find(|(word, _)| *word == text) {
        return Some(*choice);
    }
    let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
    let problem = Diagnostic::new(value.span(), format!("`{key}` cannot be {}", quoted(text)));
    problems.push_nearest(problem, text, words.iter().copied(), || Some(format!("it is one of {}", listed(&words))));
    None
}

/// `` `a`, `b` or `c` ``.
pub(super) fn listed(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.as_slice() {
        [] => String::new(),
        [only] => only.clone(),
        [head @ .., last] => format!("{} or {last}", head.join(", ")),
    }
}

/// A string, or a problem.
pub(super) fn text<'v>(key: &str, value: &'v Spanned<DeValue<'_>>, problems: &mut Problems) -> Option<&'v str> {
    match value.get_ref() {
        DeValue::String(text) => Some(text),
        DeValue::Integer(number) => {
            let problem = wrong_type(key, "a string", value);
            problems.push(problem.hint(format!("put it in quotes: \"{number}\"")));
            None
        }
        _ => {
            problems.push(wrong_type(key, "a string", value));
            None
        }
    }
}

/// The problem that a value has another type than its key needs.
pub(super) fn wrong_type(key: &str, wanted: &str, value: &Spanned<DeValue<'_>>) -> Diagnostic {
    let found = match value.get_ref() {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    };
    let example = match wanted {
        "an integer" => "80",
        "`true` or `false`" => "true",
        _ => "\"…\"",
    };
    let problem = Diagnostic::new(value.span(), format!("`{key}` must be {wanted}, not {found}"));
    problem.hint(format!("write `{} = {example}`", key.rsplit('.').next().unwrap_or(key)))
}

/// The problem that a value is refused, in the form that Kubernetes uses.
pub(super) fn invalid(key: &str, shown: impl Display, at: Span, why: impl Display) -> Diagnostic {
    Diagnostic::new(at, format!("invalid `{key}` {shown}: {why}"))
}

fn integer(
    key: &str,
    value: &Spanned<DeValue<'_>>,
    range: RangeInclusive<i64>,
    problems: &mut Problems,
) -> Option<i64> {
    let DeValue::Integer(said) = value.get_ref() else {
        let problem = wrong_type(key, "an integer", value);
        problems.push(match value.get_ref() {
            DeValue::String(text) if text.parse::<i64>().is_ok() => problem.hint("write it without quotes"),
            _ => problem,
        });
        return None;
    };
    let number = i64::from_str_radix(said.as_str(), said.radix()).ok().filter(|number| range.contains(number));
    if number.is_none() {
        let shown: String = said.to_string().chars().take(24).collect();
        let why = format!("must be between {} and {}, inclusive", range.start(), range.end());
        problems.push(invalid(key, shown, value.span(), why).hint("choose a number of that range"));
    }
    number
}

/// Declares integers with their ranges.
macro_rules! integers {
    ($($name:ident($inner:ty) in $low:literal ..= $high:expr;)+) => {
        $(impl Value for $name {
            fn decode(key: &str, value: &Spanned<DeValue<'_>>, problems: &mut Problems) -> Option<Self> {
                // The range fits the type, so the conversion cannot fail.
                integer(key, value, $low..=$high, problems).and_then(|n| <$inner>::try_from(n).ok()).map($name)
            }

            fn schema() -> Json {
                json!({ "type": "integer", "minimum": $low, "maximum": $high })
            }
        })+
    };
}

impl Value for Period {
    fn decode(key: &str, value: &Spanned<DeValue<'_>>, problems: &mut Problems) -> Option<Self> {
        if let DeValue::Integer(number) = value.get_ref() {
            let hint = format!("a time is a number with a unit: \"{number}s\", \"500ms\" or \"2m\"");
            problems.push(wrong_type(key, "a string", value).hint(hint));
            return None;
        }
        let text = text(key, value, problems)?;
        let period = period(text);
        if period.is_none() {
            let problem = invalid(key, quoted(text), value.span(), "must be a time of at most a day");
            problems.push(problem.hint("a time is a number with a unit: \"500ms\", \"30s\" or \"2m\""));
        }
        period.map(Period)
    }

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^[0-9]+(ms|s|m)$" })
    }
}

fn period(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 3] = [("ms", 1), ("s", 1000), ("m", 60_000)];
    const LONGEST: Duration = Duration::from_secs(86_400);
    let millis = UNITS.into_iter().find_map(|(unit, millis)| {
        let digits = text.strip_suffix(unit).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
        digits.parse::<u64>().ok()?.checked_mul(millis)
    });
    millis.map(Duration::from_millis).filter(|period| *period <= LONGEST)
}

integers! {
    Port(u16) in 1..=65535;
    Seconds(u32) in 1..=86400;
    Replicas(usize) in 0..=MOST_REPLICAS as i64;
    DnsReplicas(usize) in 1..=16;
    Threshold(u32) in 1..=1000;
    Ttl(u32) in 0..=3600;
    Status(u16) in 100..=599;
    Connections(usize) in 20..=100_000;
    ExitCode(u8) in 0..=255;
}

fn name<T: FromStr<Err = NameError>>(
    key: &str,
    value: &Spanned<DeValue<'_>>,
    problems: &mut Problems,
    longest: usize,
    example: &str,
) -> Option<T> {
    let text = text(key, value, problems)?;
    match text.parse() {
        Ok(name) => Some(name),
        Err(why) => {
            let problem = invalid(key, quoted(text), value.span(), why);
            let good = mended(text, longest).filter(|name| name.parse::<T>().is_ok());
            problems.push(problem.hint(format!("for example \"{}\"", good.as_deref().unwrap_or(example))));
            None
        }
    }
}

/// The nearest text that could be a name.
fn mended(text: &str, longest: usize) -> Option<String> {
    let mut good = String::new();
    for c in text.chars().take(longest) {
        match c.to_ascii_lowercase() {
            c @ ('a'..='z' | '0'..='9') => good.push(c),
            _ if !good.ends_with('-') => good.push('-'),
            _ => {}
        }
    }
    let good = good.trim_matches('-');
    (!good.is_empty()).then(|| good.to_owned())
}

/// Declares names with their longest length and the pattern for the schema.
macro_rules! names {
    ($($name:ident: $longest:literal, $pattern:literal, $example:literal;)+) => {
        $(impl Value for $name {
            fn decode(key: &str, value: &Spanned<DeValue<'_>>, problems: &mut Problems) -> Option<Self> {
                name(key, value, problems, $longest, $example)
            }

            fn schema() -> Json {
                json!({ "type": "string", "maxLength": $longest, "pattern": $pattern })
            }
        })+
    };
}

names! {
    Name: 63, "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "web-1";
    ServiceName: 63, "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "web-svc";
    ServicePortName: 63, "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "http";
    PortName: 15, "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "http";
    IfName: 15, "^[A-Za-z0-9][-A-Za-z0-9_.]*$", "br0";
    Domain: 253, "^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$", "cluster.local";
}

impl Value for bool {
    fn decode(key: &str, value: &Spanned<DeValue<'_>>, problems: &mut Problems) -> Option<Self> {
        let said = value.get_ref().as_bool();
        if said.is_none() {
            problems.push(wrong_type(key, "`true` or `false`", value));
        }
        said
    }

    fn schema() -> Json {
        json!({ "type": "boolean" })
    }
}

impl Value for String {
    fn decode(key: &str, value: &Spanned<DeValue<'_>>, problems: &mut Problems) -> Option<Self> {
        let text = text(key, value, problems)?;
        if text.contains('\0') {
            let problem = invalid(key, quoted(text), value.span(), "must not hold a NUL character");
            problems.push(problem.hint("the kernel ends every string at a NUL; leave it out"));
            return None;
        }
        Some(text.to_owned())
    }

    fn schema() -> Json {
        json!({ "type": "string" })
    }
}

impl Value for TargetPort {
    fn decode(key: &str, value: &Spanned<DeValue<'_>>, problems: &mut Problems) -> Option<Self> {
        match value.get_ref() {
            DeValue::Integer(_) => Port::decode(key, value, problems).map(|port| TargetPort::Number(port.0)),
            DeValue::String(text) if text.parse::<u64>().is_ok() => {
                let problem = invalid(key, quoted(text), value.span(), "a string is the name of a container port");
                problems.push(problem.hint("write a number without quotes"));
                None
            }
            DeValue::String(_) => PortName::decode(key, value, problems).map(TargetPort::Name),
            _ => {
                let problem = wrong_type(key, "a port number or the name of a container port", value);
                problems.push(problem.hint(format!("write `{key} = 80` or `{key} = \"http\"`")));
                None
            }
        }
    }

    fn schema() -> Json {
        json!({ "anyOf": [Port::schema(), PortName::schema()] })
    }
}

impl<T: Value> Value for At<T> {
    fn decode(key: &str, value: &Spanned<DeValue<'_>>, problems: &mut Problems) -> Option<Self> {
        T::decode(key, value, problems).map(|good| At { value: good, at: value.span() })
    }

    fn schema() -> Json {
        T::schema()
    }
}

impl<T: Value> Value for Vec<T> {
    /// Refused elements are left out; a list of which every element is refused is refused.
    fn decode(key: &str, value: &Spanned<DeValue<'_>>, problems: &mut Problems) -> Option<Self> {
        let Some(array) = value.get_ref().as_array() else {
            let problem = wrong_type(key, "an array", value);
            problems.push(match value.get_ref() {
                DeValue::Table(_) => problem.hint(format!("write `[[{key}]]` for each, or `{key} = [{{ … }}]`")),
                _ => problem.hint(format!("write `{key} = [ … ]`")),
            });
            return None;
        };
        let good: Vec<T> = array.iter().filter_map(|element| T::decode(key, element, problems)).collect();
        (array.is_empty() || !good.is_empty()).then_some(good)
    }

    fn schema() -> Json {
        json!({ "type": "array", "items": T::schema() })
    }
}

impl Value for Labels {
    fn decode(key: &str, value: &Spanned<DeValue<'_>>, problems: &mut Problems) -> Option<Self> {
        let parse = |word: &str, text: &str, problems: &mut Problems, at: Span| {
            let label = word.parse::<LabelKey>().map_err(|why| invalid(key, quoted(word), at.clone(), why));
            let value = text.parse::<LabelValue>().map_err(|why| invalid(key, quoted(text), at, why));
            match (label, value) {
                (Ok(label), Ok(value)) => Some((label, value)),
                (label, value) => {
                    for problem in label.err().into_iter().chain(value.err()) {
                        problems.push(problem.hint("for example `app = \"web\"`"));
                    }
                    None
                }
            }
        };
        pairs(key, value, problems, parse)
    }

    fn schema() -> Json {
        json!({ "type": "object", "additionalProperties": { "type": "string", "maxLength": 63 } })
    }
}

impl Value for Environment {
    fn decode(key: &str, value: &Spanned<DeValue<'_>>, problems: &mut Problems) -> Option<Self> {
        let parse = |word: &str, text: &str, problems: &mut Problems, at: Span| {
            if word.is_empty() || word.contains(['=', '\0']) {
                let why = "the name of a variable must not be empty, and must not hold '=' or a NUL character";
                problems.push(invalid(key, quoted(word), at, why).hint("for example `GREETING = \"hello\"`"));
                return None;
            }
            if text.contains('\0') {
                let problem = invalid(key, quoted(text), at, "must not hold a NUL character");
                problems.push(problem.hint("the kernel ends every string at a NUL; leave it out"));
                return None;
            }
            Some((word.to_owned(), text.to_owned()))
        };
        pairs(key, value, problems, parse).map(Environment)
    }

    fn schema() -> Json {
        json!({ "type": "object", "additionalProperties": { "type": "string" } })
    }
}

/// A table of strings; refused as a whole if any pair is.
pub(super) fn pairs<K: Ord, V>(
    key: &str,
    value: &Spanned<DeValue<'_>>,
    problems: &mut Problems,
    parse: impl Fn(&str, &str, &mut Problems, Span) -> Option<(K, V)>,
) -> Option<BTreeMap<K, V>> {
    let Some(table) = value.get_ref().as_table() else {
        let problem = wrong_type(key, "a table", value);
        problems.push(problem.hint(format!("write `{key} = {{ name = \"value\" }}`")));
        return None;
    };
    let mut good = Some(BTreeMap::new());
    for (word, value) in table {
        let at = word.span().start..value.span().end.max(word.span().end);
        let pair = text(&format!("{key}.{}", word.get_ref()), value, problems)
            .and_then(|text| parse(word.get_ref(), text, problems, at));
        match (pair, &mut good) {
            (Some((name, value)), Some(good)) => _ = good.insert(name, value),
            _ => good = None,
        }
    }
    good
}
