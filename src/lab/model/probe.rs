//! Probes of the user: who asks, what is asked, and what must come of it.

use std::{net::IpAddr, time::Duration};

use super::{Place, PodId, Span};
use crate::probe::question::{Rcode, RecordKind, Said};

/// A probe of the user; one that several places ask for is one for each of them.
#[derive(Debug, Clone)]
pub struct UserProbe {
    /// What it shows; free text, for the report.
    pub name: String,
    /// Where it asks from.
    pub from: Place,
    /// The pod on the host network that asks, if it is one: it has a resolver of its own.
    pub as_pod: Option<PodId>,
    /// What it asks, with names of nodes, pods and Services already replaced by addresses.
    pub asks: Asks,
    /// The same as the user wrote it.
    pub written: String,
    /// What must come back.
    pub expect: UserExpect,
    /// How the connections must be spread over the backends.
    pub distribution: Option<UserDistribution>,
    /// It is tried again for so long until it is as expected.
    pub within: Option<Duration>,
    /// How long one try waits, if the file says so.
    pub timeout: Option<Duration>,
    /// The `[[probe]]` table.
    pub at: Span,
}

/// What a probe of the user asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asks {
    /// An HTTP request.
    Http(HttpAsk),
    /// A TCP connection.
    Tcp(Endpoint),
    /// A datagram and its answer.
    Udp {
        /// Where it goes.
        to: Endpoint,
        /// What is in it; the question of netlab's own servers if the file does not say.
        send: Option<String>,
    },
    /// A question to a name server.
    Dns {
        /// The name.
        name: String,
        /// What is asked about it.
        kind: RecordKind,
        /// Whom; the asking place's own name servers if the file does not say.
        server: Option<(IpAddr, u16)>,
    },
    /// An ICMP echo request.
    Ping(Host),
    /// A program and its arguments.
    Exec(Vec<String>),
}

/// An HTTP request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpAsk {
    /// Its method.
    pub method: HttpMethod,
    /// Where it goes.
    pub to: Endpoint,
    /// The path and the query.
    pub path: String,
    /// Headers besides those that every client sends.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Option<String>,
}

/// The methods of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "they are HTTP's own words")]
pub enum HttpMethod {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
}

/// A host and a port of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The host.
    pub host: Host,
    /// The port.
    pub port: u16,
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// By its address.
    Address(IpAddr),
    /// By a name that the asking place's own resolver is asked for.
    Name(String),
}

/// What must come back to a probe of the user; what is absent or empty may be anything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserExpect {
    /// Nothing may answer: this must come about instead.
    pub failure: Option<ConnectFailure>,
    /// The HTTP status.
    pub status: Option<u16>,
    /// The whole body, answer or output.
    pub text: Option<String>,
    /// A part of it.
    pub text_contains: Option<String>,
    /// Headers of the response.
    pub headers: Vec<(String, String)>,
    /// The pods of which each must answer at least once, and no other may.
    pub backends: Vec<PodId>,
    /// The client that the backend must see.
    pub source: Option<UserSource>,
    /// How the question must go.
    pub rcode: Option<Rcode>,
    /// The records of the type that was asked for.
    pub records: Option<Vec<Said>>,
    /// The exit code of the program.
    pub exit_code: Option<u8>,
}

/// The client that a backend must see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserSource {
    /// By this address.
    Address(IpAddr),
    /// By any address of this place.
    Place(Place),
    /// By an address of the place that asks.
    Itself,
}

/// How connections must be spread.
#[derive(Debug, Clone, PartialEq)]
pub struct UserDistribution {
    /// How many are made; as many as for the suite's own tests if the file does not say.
    pub connections: Option<usize>,
    /// Who shall get which share; `None` for equal ones.
    pub shares: Option<Vec<(PodId, f64)>>,
}

/// How a connection fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConnectFailure {
    /// ECONNREFUSED, at once.
    Refused,
    /// Nothing comes back.
    Timeout,
    /// ENETUNREACH or EHOSTUNREACH.
    Unreachable,
    /// The name stands for nothing.
    Unresolved,
}

impl HttpMethod {
    /// As requests spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            HttpMethod::Get => "GET",
            HttpMethod::Head => "HEAD",
            HttpMethod::Post => "POST",
            HttpMethod::Put => "PUT",
            HttpMethod::Patch => "PATCH",
            HttpMethod::Delete => "DELETE",
            HttpMethod::Options => "OPTIONS",
        }
    }
}

impl Asks {
    /// The key of the lab file that says so.
    pub fn key(&self) -> &'static str {
        match self {
            Asks::Http(_) => "url",
            Asks::Tcp(_) => "tcp",
            Asks::Udp { .. } => "udp",
            Asks::Dns { .. } => "dns",
            Asks::Ping(_) => "ping",
            Asks::Exec(_) => "exec",
        }
    }

    /// Where it goes, if that is a host.
    pub fn host(&self) -> Option<&Host> {
        match self {
            Asks::Http(ask) => Some(&ask.to.host),
            Asks::Tcp(to) | Asks::Udp { to, .. } => Some(&to.host),
            Asks::Ping(host) => Some(host),
            Asks::Dns { .. } | Asks::Exec(_) => None,
        }
    }

    /// The address that it goes to, if that is known.
    pub fn address(&self) -> Option<IpAddr> {
        match (self.host(), self) {
            (Some(Host::Address(ip)), _) => Some(*ip),
            (None, Asks::Dns { server: Some((ip, _)), .. }) => Some(*ip),
            _ => None,
        }
    }
}
