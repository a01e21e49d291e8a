//! What a user has tried: an order of any kind that `[[probe]]` has, as plain data, and the command that
//! does it by hand.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::{
    question::{Question, Resolver},
    suite::Engine,
    wish::Want,
};
use crate::{lab::model::HttpMethod, proxy::flow::Transport};

/// Something to try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errand {
    /// What.
    pub task: Task,
    /// Each try gives up after this.
    pub timeout_ms: u32,
    /// It is tried until this is so.
    pub until: Option<Until>,
}

/// What is tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// An HTTP request.
    Http(Engine, Request),
    /// A TCP connection, and nothing over it.
    Tcp(Destination),
    /// A datagram and its answer.
    Udp {
        /// Where it goes.
        to: Destination,
        /// What is in it; otherwise the question that the echo servers know.
        send: Option<String>,
    },
    /// An ICMP echo request.
    Ping(Target),
    /// A program and its arguments.
    Exec(Vec<String>),
    /// A question to name servers.
    Names(Question),
}

/// An HTTP request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// GET and the like.
    pub method: String,
    /// Where it goes.
    pub to: Destination,
    /// The path and the query.
    pub path: String,
    /// Headers besides the client's own.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Option<String>,
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    /// The host.
    pub host: Target,
    /// The port.
    pub port: u16,
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// By its address.
    Address(IpAddr),
    /// By a name.
    Name {
        /// The name.
        name: String,
        /// Who is asked for it.
        resolver: Resolver,
    },
}

/// Until when something is tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Until {
    /// Until this is so.
    pub want: Want,
    /// Or until so much time has passed.
    pub within_ms: u32,
}

impl Errand {
    /// Where the tries go, if it is said by address.
    pub fn target(&self) -> Option<(Transport, SocketAddr)> {
        match &self.task {
            Task::Http(_, Request { to, .. }) | Task::Tcp(to) => Some((Transport::Tcp, to.address()?)),
            Task::Udp { to, .. } => Some((Transport::Udp, to.address()?)),
            Task::Names(question) => Some((Transport::Udp, *question.resolver.servers.first()?)),
            Task::Ping(_) | Task::Exec(_) => None,
        }
    }

    /// The command that does the same by hand, `times` times; without the `netlab exec` before it.
    pub fn by_hand(&self, times: usize) -> String {
        let seconds = self.timeout_ms.div_ceil(1000).max(1);
        let one = match &self.task {
            Task::Http(_, request) => words(request.curl(seconds)),
            Task::Tcp(to) => words(["nc", "-vz", "-w", &seconds.to_string(), &to.host.text(), &to.port.to_string()]),
            Task::Udp { to, send } => {
                let text = send.as_deref().unwrap_or("netlab who");
                let said = words(["printf", "%s", text]);
                let script = format!("{said} | nc -u -w {seconds} {} {}", to.host.text(), to.port);
                words(["sh", "-c", &script])
            }
            Task::Ping(host) => words(["ping", "-c", "1", "-W", &seconds.to_string(), &host.text()]),
            Task::Exec(command) => format!("timeout {seconds} {}", words(command)),
            Task::Names(question) => dig(question),
        };
        match times {
            1 => one,
            times => {
                let script = format!("for i in $(seq {}); do {one}; done | sort | uniq -c", times.min(BY_HAND));
                words(["sh", "-c", &script])
            }
        }
    }
}

/// More tries by hand than this are tedious to watch.
const BY_HAND: usize = 60;

impl Request {
    /// The URL.
    pub fn url(&self) -> String {
        let Destination { host, port } = &self.to;
        let authority = match (host, *port) {
            (Target::Address(ip), port) => match SocketAddr::new(*ip, port) {
                SocketAddr::V4(to) if port == 80 => to.ip().to_string(),
                SocketAddr::V6(to) if port == 80 => format!("[{}]", to.ip()),
                to => to.to_string(),
            },
            (Target::Name { name, .. }, 80) => name.clone(),
            (Target::Name { name, .. }, port) => format!("{name}:{port}"),
        };
        format!("http://{authority}{}", self.path)
    }

    /// What curl is told of it, the URL last and not among them: method, headers and body.
    pub fn options(&self) -> Vec<String> {
        let mut options: Vec<String> = Vec::new();
        let plain = if self.body.is_some() { HttpMethod::Post } else { HttpMethod::Get };
        match self.method.as_str() {
            // Without it curl would wait for the body that never comes.
            "HEAD" => options.push("--head".to_owned()),
            method if method == plain.as_str() => {}
            method => options.extend(["-X".to_owned(), method.to_owned()]),
        }
        for (name, value) in &self.headers {
            // What ends with a colon takes a header of curl's own away.
            let header = if value.is_empty() { format!("{name};") } else { format!("{name}: {value}") };
            options.extend(["-H".to_owned(), header]);
        }
        if let Some(body) = &self.body {
            if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
                options.extend(["-H".to_owned(), "Content-Type:".to_owned()]);
            }
            options.extend(["--data-raw".to_owned(), body.clone()]);
        }
        options
    }

    fn curl(&self, seconds: u32) -> Vec<String> {
        let mut command: Vec<String> = ["curl", "-sS", "--max-time"].map(str::to_owned).into();
        command.push(seconds.to_string());
        command.extend(self.options());
        command.push(self.url());
        command
    }
}

impl Destination {
    /// The address, if it is said.
    pub fn address(&self) -> Option<SocketAddr> {
        match self.host {
            Target::Address(ip) => Some(SocketAddr::new(ip, self.port)),
            Target::Name { .. } => None,
        }
    }
}

impl Target {
    fn text(&self) -> String {
        match self {
            Target::Address(ip) => ip.to_string(),
            Target::Name { name, .. } => name.clone(),
        }
    }
}

/// The real dig, with the place's own settings if it is they that are meant.
fn dig(question: &Question) -> String {
    let Question { name, kind, resolver, .. } = question;
    let kind = kind.as_str();
    match resolver.servers.first() {
        Some(server) if !resolver.own => {
            let (at, port) = (format!("@{}", server.ip()), server.port().to_string());
            if server.port() == super::question::PORT {
                return words(["dig", &at, name, kind]);
            }
            words(["dig", &at, "-p", &port, name, kind])
        }
        _ => words(["dig", "+search", name, kind]),
    }
}

/// Words as a shell takes them.
fn words<S: AsRef<str>>(words: impl IntoIterator<Item = S>) -> String {
    let quoted = |word: S| {
        // There is no NUL in any word: the lab file has none.
        shlex::try_quote(word.as_ref()).map(std::borrow::Cow::into_owned).unwrap_or_default()
    };
    words.into_iter().map(quoted).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, body: Option<&str>, headers: &[(&str, &str)]) -> Request {
        Request {
            method: method.to_owned(),
            to: Destination { host: Target::Address([10, 96, 0, 1].into()), port: 80 },
            path: "/a?b=c&d".to_owned(),
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            body: body.map(str::to_owned),
        }
    }

    fn by_hand(task: Task, times: usize) -> String {
        Errand { task, timeout_ms: 1500, until: None }.by_hand(times)
    }

    #[test]
    fn commands_to_paste() {
        let http = |request| Task::Http(Engine::Curl, request);
        assert_eq!(by_hand(http(request("GET", None, &[])), 1), "curl -sS --max-time 2 'http://10.96.0.1/a?b=c&d'");
        assert_eq!(
            by_hand(http(request("PUT", Some("it's"), &[("x-a", "b c")])), 1),
            "curl -sS --max-time 2 -X PUT -H 'x-a: b c' -H Content-Type: --data-raw \"it's\" 'http://10.96.0.1/a?b=c&d'"
        );
        assert_eq!(by_hand(http(request("HEAD", None, &[])), 1).split(' ').nth(4), Some("--head"));
        let to = Destination { host: Target::Address([10, 96, 0, 1].into()), port: 53 };
        assert_eq!(by_hand(Task::Tcp(to.clone()), 1), "nc -vz -w 2 10.96.0.1 53");
        assert_eq!(
            by_hand(Task::Udp { to, send: Some("a $b".to_owned()) }, 1),
            r#"sh -c "printf '%s' 'a "'$b'"' | nc -u -w 2 10.96.0.1 53""#
        );
        assert_eq!(by_hand(Task::Ping(Target::Address([10, 0, 0, 1].into())), 1), "ping -c 1 -W 2 10.0.0.1");
        assert_eq!(by_hand(Task::Exec(vec!["ip".to_owned(), "a b".to_owned()]), 1), "timeout 2 ip 'a b'");
    }

    #[test]
    fn a_try_that_is_repeated_is_counted() {
        let command = by_hand(Task::Exec(vec!["true".to_owned()]), 400);
        assert_eq!(command, "sh -c 'for i in $(seq 60); do timeout 2 true; done | sort | uniq -c'");
    }
}
