//! What a probe asks: URLs, `WHERE:PORT`, names and programs, checked and with addresses for names.

use std::net::IpAddr;

use super::{Directory, listed_text};
use crate::{
    diag::{Diagnostic, Problems, quoted},
    lab::{
        model::{Asks, Endpoint, Host, HttpAsk, HttpMethod, Span},
        probe_tables::ProbeTable,
        said::At,
        value::invalid,
    },
    probe::question::{PORT, RecordKind, reverse},
};

/// No body is larger: it goes through an argument vector.
const LARGEST_BODY: usize = 64 << 10;
/// No datagram of IPv4 is larger.
const LARGEST_DATAGRAM: usize = 65_507;
/// No command has more words, and no more bytes in them.
const MOST_WORDS: usize = 256;

/// What is asked, and as it is written.
pub(super) fn asks(
    kind: &str,
    at: &Span,
    table: &ProbeTable,
    directory: &Directory<'_>,
    problems: &mut Problems,
) -> Option<(Asks, String)> {
    match kind {
        "url" => {
            let said = table.url.at()?;
            let to = url(said, directory, problems);
            let body = fitting("body", table.body.at(), LARGEST_BODY, problems);
            let headers = table.headers.maybe()?.map(|headers| headers.0).unwrap_or_default();
            let body = body?;
            let default = if body.is_some() { HttpMethod::Post } else { HttpMethod::Get };
            let method = table.method.or(default)?;
            let (to, path) = to?;
            Some((Asks::Http(HttpAsk { method, to, path, headers, body }), said.value.clone()))
        }
        "tcp" => {
            let said = table.tcp.at()?;
            Some((Asks::Tcp(endpoint("tcp", said, directory, problems)?), said.value.clone()))
        }
        "udp" => {
            let said = table.udp.at()?;
            let to = endpoint("udp", said, directory, problems);
            let send = fitting("send", table.send.at(), LARGEST_DATAGRAM, problems)?;
            if table.send.is_nonsense() {
                return None;
            }
            Some((Asks::Udp { to: to?, send }, said.value.clone()))
        }
        "dns" => dns(table.dns.at()?, table, directory, problems),
        "ping" => {
            let said = table.ping.at()?;
            Some((Asks::Ping(directory.host(&said.value, &said.at, problems)?), said.value.clone()))
        }
        _ => exec(at, listed_text(table.exec.list()), problems),
    }
}

/// A text of at most so many bytes.
fn fitting(key: &str, said: Option<&At<String>>, most: usize, problems: &mut Problems) -> Option<Option<String>> {
    let Some(said) = said else { return Some(None) };
    if said.value.len() > most {
        let problem =
            invalid(key, format!("of {} bytes", said.value.len()), said.at.clone(), format!("has at most {most}"));
        problems.push(problem.hint("send less"));
        return None;
    }
    Some(Some(said.value.clone()))
}

/// Where a URL leads, and its path.
fn url(said: &At<String>, directory: &Directory<'_>, problems: &mut Problems) -> Option<(Endpoint, String)> {
    let refuse =
        |why: &str, hint: &str| invalid("url", quoted(&said.value), said.at.clone(), why).hint(hint.to_owned());
    let example = "write http://WHERE:PORT/PATH, for example \"http://node1:30080/\"";
    let Some((scheme, rest)) = said.value.split_once("://") else {
        problems.push(refuse("must be a URL", example));
        return None;
    };
    if scheme != "http" {
        problems.push(refuse("must begin with http://, the only protocol that probes speak", example));
        return None;
    }
    // What is legal in a URL, less what curl would expand: braces and brackets.
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"-._~:/?!$&'()*+,;=%@".contains(&b);
    if !rest.bytes().all(legal) {
        problems.push(refuse(
            "holds a character that must be percent-encoded in a URL",
            "encode it, for example a space as %20",
        ));
        return None;
    }
    let split = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(split);
    let (host, port) = authority.split_once(':').unwrap_or((authority, "80"));
    let Some(port) = number(port) else {
        problems.push(refuse("must have a port between 1 and 65535", example));
        return None;
    };
    if host.is_empty() || host.contains('@') {
        problems.push(refuse("must name where to connect to", example));
        return None;
    }
    let host = directory.host(host, &said.at, problems)?;
    let slash = if path.starts_with('/') { "" } else { "/" };
    Some((Endpoint { host, port }, format!("{slash}{path}")))
}

fn number(port: &str) -> Option<u16> {
    port.parse::<u16>().ok().filter(|number| *number > 0 && number.to_string() == port)
}

/// `WHERE:PORT`.
fn endpoint(key: &str, said: &At<String>, directory: &Directory<'_>, problems: &mut Problems) -> Option<Endpoint> {
    let refuse = |why: &str| {
        let problem = invalid(key, quoted(&said.value), said.at.clone(), why);
        problem.hint(format!("write WHERE:PORT, for example `{key} = \"web:80\"`"))
    };
    let Some((host, port)) = said.value.rsplit_once(':').filter(|(host, _)| !host.is_empty()) else {
        problems.push(refuse("must say where, and which port"));
        return None;
    };
    let Some(port) = number(port) else {
        problems.push(refuse("must have a port between 1 and 65535"));
        return None;
    };
    Some(Endpoint { host: directory.host(host, &said.at, problems)?, port })
}

fn dns(
    said: &At<String>,
    table: &ProbeTable,
    directory: &Directory<'_>,
    problems: &mut Problems,
) -> Option<(Asks, String)> {
    let server = match table.server.at() {
        None if table.server.is_nonsense() => None,
        None => Some(None),
        Some(server) => self::server(server, directory, problems).map(Some),
    };
    let kind = table.r#type.or(RecordKind::A)?;
    let name = match (said.value.parse::<IpAddr>(), kind) {
        (Ok(ip), RecordKind::Ptr) => format!("{}.", reverse(ip)),
        (Ok(_), _) => {
            let why = "is an address, and only a name has such records";
            problems.push(invalid("dns", quoted(&said.value), said.at.clone(), why).hint("add `type = \"PTR\"`"));
            return None;
        }
        (Err(_), _) => said.value.clone(),
    };
    if !is_name(&name) {
        let why = "must be a name of labels with dots between, each of 1 to 63 letters, digits, '-' or '_'";
        let problem = invalid("dns", quoted(&said.value), said.at.clone(), why);
        problems.push(problem.hint("for example \"web\" or \"_http._tcp.web.default.svc.cluster.local\""));
        return None;
    }
    Some((Asks::Dns { name, kind, server: server? }, format!("{kind} of {}", said.value)))
}

/// What a question can be about, on the wire and as a word of a command.
fn is_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let good = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(good)
}

/// `WHERE` or `WHERE:PORT`.
fn server(said: &At<String>, directory: &Directory<'_>, problems: &mut Problems) -> Option<(IpAddr, u16)> {
    let (host, port) = match said.value.rsplit_once(':') {
        Some((host, port)) => (host, number(port)),
        None => (said.value.as_str(), Some(PORT)),
    };
    let Some(port) = port.filter(|_| !host.is_empty()) else {
        let problem = invalid("server", quoted(&said.value), said.at.clone(), "must have a port between 1 and 65535");
        problems.push(problem.hint("write WHERE or WHERE:PORT, for example `server = \"host\"`"));
        return None;
    };
    match directory.host(host, &said.at, problems)? {
        Host::Address(ip) => Some((ip, port)),
        Host::Name(_) => {
            let problem = Diagnostic::new(said.at.clone(), "a name server is asked at its address");
            problems.push(problem.hint("write an address or a name of the lab"));
            None
        }
    }
}

fn exec(at: &Span, words: Vec<String>, problems: &mut Problems) -> Option<(Asks, String)> {
    if words.first().is_none_or(|program| program.trim().is_empty()) {
        let problem = invalid("exec", "without a program", at.clone(), "must name a program and its arguments");
        problems.push(problem.hint("for example `exec = [\"ip\", \"route\", \"get\", \"10.96.0.1\"]`"));
        return None;
    }
    if words.len() > MOST_WORDS || words.iter().map(String::len).sum::<usize>() > LARGEST_BODY {
        let why = format!("has at most {MOST_WORDS} words, and {LARGEST_BODY} bytes in them");
        let problem = invalid("exec", format!("of {} words", words.len()), at.clone(), why);
        problems.push(problem.hint("write a script, and run that"));
        return None;
    }
    let written = words.join(" ");
    Some((Asks::Exec(words), written))
}
