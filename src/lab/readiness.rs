//! `readiness` of a container → its readiness probe, with the port that it asks.

use std::time::Duration;

use serde_json::{Value as Json, json};
use toml::{Spanned, de::DeValue};

use super::{
    file::{ExecTable, HttpGetTable, ReadinessTable, TcpSocketTable},
    model::{ContainerPort, Handler, Protocol, Readiness, Span, TargetPort},
    said::{At, Said},
    value::{Period, Threshold, Value, invalid, text},
};
use crate::diag::{Diagnostic, Problems, quoted};

/// What is meant for a key that may be said in short, or as Kubernetes has it, as a table.
#[derive(Debug)]
pub(super) enum Form<S, T> {
    /// In short.
    Short(S),
    /// As a table.
    Table(T),
}

impl<S: Value, T: Value> Value for Form<S, T> {
    fn decode(key: &str, value: &Spanned<DeValue<'_>>, problems: &mut Problems) -> Option<Self> {
        match value.get_ref() {
            DeValue::Table(_) => T::decode(key, value, problems).map(Form::Table),
            _ => S::decode(key, value, problems).map(Form::Short),
        }
    }

    fn schema() -> Json {
        json!({ "anyOf": [S::schema(), T::schema()] })
    }
}

/// The path of a request: a slash, and then nothing that would have to be escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HttpPath(pub(super) String);

impl Value for HttpPath {
    fn decode(key: &str, value: &Spanned<DeValue<'_>>, problems: &mut Problems) -> Option<Self> {
        let path = text(key, value, problems)?;
        let good = path.starts_with('/') && path.len() <= 1024 && path.bytes().all(|it| it.is_ascii_graphic());
        if !good || path.contains('#') {
            let why = "must be the path of a URL: a slash, then at most 1023 visible ASCII characters other than '#'";
            problems.push(invalid(key, quoted(path), value.span(), why).hint("for example \"/healthz\""));
            return None;
        }
        Some(HttpPath(path.to_owned()))
    }

    fn schema() -> Json {
        json!({ "type": "string", "maxLength": 1024, "pattern": "^/[!-\"$-~]*$" })
    }
}

/// A probe's defaults are Kubernetes'.
const PERIOD: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(1);
const SUCCESSES: u32 = 1;
const FAILURES: u32 = 3;
/// More often would be work for its own sake.
const SHORTEST_PERIOD: Duration = Duration::from_millis(10);
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(1);

/// The probe of a container with these ports; `Some(None)` if it has none, `None` if it was refused.
pub(super) fn readiness(
    said: &Said<ReadinessTable>,
    ports: &[ContainerPort],
    problems: &mut Problems,
) -> Option<Option<Readiness>> {
    let table = match said {
        Said::Nothing => return Some(None),
        Said::Nonsense => return None,
        Said::Value(said) => &said.value,
    };
    let handler = handler(table, ports, problems);
    let period = at_least(&table.period, "period", PERIOD, SHORTEST_PERIOD, problems);
    let timeout = at_least(&table.timeout, "timeout", TIMEOUT, SHORTEST_TIMEOUT, problems);
    Some(Some(Readiness {
        handler: handler?,
        initial_delay: table.initial_delay.or(Period(Duration::ZERO))?.0,
        period: period?,
        timeout: timeout?,
        success_threshold: table.success_threshold.or(Threshold(SUCCESSES))?.0,
        failure_threshold: table.failure_threshold.or(Threshold(FAILURES))?.0,
    }))
}

fn at_least(
    said: &Said<Period>,
    key: &str,
    default: Duration,
    least: Duration,
    problems: &mut Problems,
) -> Option<Duration> {
    if let Some(at) = said.at().filter(|at| at.value.0 < least) {
        let why = format!("must be at least {}ms", least.as_millis());
        let shown = format!("{}ms", at.value.0.as_millis());
        problems.push(invalid(key, shown, at.at.clone(), why).hint(format!("leave `{key}` out for {default:?}")));
        return None;
    }
    said.or(Period(default)).map(|period| period.0)
}

/// The one way to ask that a probe has.
fn handler(table: &ReadinessTable, ports: &[ContainerPort], problems: &mut Problems) -> Option<Handler> {
    const WAYS: &str = "`http_get = \"/healthz\"`, `tcp_socket = 80` or `exec = [\"program\", \"argument\"]`";
    let ways = [
        (table.http_get.is_nothing(), table.http_get.span(&table.at)),
        (table.tcp_socket.is_nothing(), table.tcp_socket.span(&table.at)),
        (table.exec.is_nothing(), table.exec.span(&table.at)),
    ];
    let mut ways = ways.into_iter().filter(|(nothing, _)| !nothing).map(|(_, at)| at);
    match (ways.next(), ways.next()) {
        (None, _) => {
            let problem = Diagnostic::new(table.at.clone(), "this readiness probe asks nothing");
            problems.push(problem.hint(format!("add one of {WAYS}")));
            return None;
        }
        (Some(first), Some(second)) => {
            let problem = Diagnostic::new(second, "a readiness probe asks in one way only");
            problems.push(problem.also(first, "one way").hint("leave all ways out but one"));
            return None;
        }
        (Some(_), None) => {}
    }
    if let Some(said) =
        table.port.at().filter(|_| !matches!(&table.http_get, Said::Value(At { value: Form::Short(_), .. })))
    {
        let message = "`port` belongs to an `http_get` that is only a path";
        let hint = "leave it out; a port is said as `tcp_socket = 80`, or in the table of `http_get`";
        problems.push(Diagnostic::new(said.at.clone(), message).hint(hint));
        return None;
    }
    match (&table.http_get, &table.tcp_socket, &table.exec) {
        (Said::Value(At { value: Form::Short(HttpPath(path)), .. }), ..) => {
            let port = port(&table.port, &table.at, ports, problems)?;
            Some(Handler::HttpGet { path: path.clone(), port })
        }
        (Said::Value(At { value: Form::Table(HttpGetTable { path, port: said, at }), .. }), ..) => {
            let port = port(said, at, ports, problems)?;
            Some(Handler::HttpGet { path: path.or(HttpPath("/".to_owned()))?.0, port })
        }
        (_, Said::Value(At { value: Form::Short(to), at }), _) => {
            Some(Handler::TcpSocket { port: find(to, at, ports, problems)? })
        }
        (_, Said::Value(At { value: Form::Table(TcpSocketTable { port: to, at }), .. }), _) => {
            Some(Handler::TcpSocket { port: find(to.get()?, at, ports, problems)? })
        }
        (_, _, Said::Value(At { value: Form::Short(words), at })) => command(words, at, problems),
        (_, _, Said::Value(At { value: Form::Table(ExecTable { command: words, at }), .. })) => {
            command(words.get()?, at, problems)
        }
        _ => None,
    }
}

/// The port that was said, or the first one of the container.
fn port(said: &Said<TargetPort>, at: &Span, ports: &[ContainerPort], problems: &mut Problems) -> Option<u16> {
    match said {
        Said::Value(said) => find(&said.value, &said.at, ports, problems),
        Said::Nonsense => None,
        Said::Nothing => {
            let first = ports.iter().find(|port| port.protocol == Protocol::Tcp).map(|port| port.container_port);
            if first.is_none() {
                let problem = Diagnostic::new(at.clone(), "the container of this readiness probe has no TCP port");
                problems.push(problem.hint("say which one is meant: `port = 80`"));
            }
            first
        }
    }
}

/// A port by its number or its name.
fn find(said: &TargetPort, at: &Span, ports: &[ContainerPort], problems: &mut Problems) -> Option<u16> {
    let name = match said {
        TargetPort::Number(number) => return Some(*number),
        TargetPort::Name(name) => name,
    };
    match ports.iter().find(|port| port.name.as_ref() == Some(name)) {
        Some(port) if port.protocol == Protocol::Tcp => Some(port.container_port),
        Some(port) => {
            let message = format!("the port `{name}` is one of {}, and a readiness probe asks over TCP", port.protocol);
            problems.push(Diagnostic::new(at.clone(), message).hint("name a TCP port, or give a number"));
            None
        }
        None => {
            let message = format!("the container of this readiness probe has no port `{name}`");
            let names: Vec<&str> = ports.iter().filter_map(|port| port.name.as_ref()).map(AsRef::as_ref).collect();
            let problem = Diagnostic::new(at.clone(), message);
            problems.push_nearest(problem, name.as_ref(), names.iter().copied(), || {
                Some(match names.as_slice() {
                    [] => "none of its ports has a name; give a number".to_owned(),
                    names => format!("it has {}", super::value::listed(names).replace(" or ", " and ")),
                })
            });
            None
        }
    }
}

fn command(words: &[At<String>], at: &Span, problems: &mut Problems) -> Option<Handler> {
    if words.first().is_none_or(|program| program.value.is_empty()) {
        let problem = Diagnostic::new(at.clone(), "the command of a readiness probe must not be empty");
        problems.push(problem.hint("write the program and its arguments: exec = [\"test\", \"-e\", \"/run/ok\"]"));
        return None;
    }
    Some(Handler::Exec { command: words.iter().map(|word| word.value.clone()).collect() })
}
