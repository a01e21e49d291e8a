//! What the agent is asked to try, and what came of it: plain data on the control socket.
//!
//! An order knows nothing of what should happen; that is [`crate::probe::judge`]'s business.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::{
    errand::Errand,
    question::{self, Question, Resolver, Response},
};
use crate::proxy::flow::Transport;

/// The response header in which netlab's own servers name the pod (or machine) that answers.
pub const POD_HEADER: &str = "x-netlab-pod";
/// The response header in which netlab's own servers name the client address they see.
pub const CLIENT_HEADER: &str = "x-netlab-client";

/// One thing to try from one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Comes back in the outcome.
    pub id: usize,
    /// The network namespace to try it from.
    pub netns: String,
    /// What to try.
    pub what: What,
    /// How often, each time with a fresh connection.
    pub times: usize,
    /// Nothing more is tried after this one has answered (the name in [`POD_HEADER`]), nor after a try
    /// that failed.
    #[serde(default)]
    pub until: Option<String>,
    /// A connection that has not come about after this is given up; an answer over one that has is
    /// waited for as long as [`Order::what`] says.
    #[serde(default)]
    pub connect_ms: Option<u32>,
    /// What the order counts is whom connections are led to, not what is answered: of each no more than
    /// the first packets are sent, and the conntrack of this node says whom it was led to. Besides, whole
    /// requests are made until everybody who is led to has answered one.
    #[serde(default)]
    pub counted_by: Option<String>,
}

impl Order {
    /// To try something so often from a place; not yet numbered.
    pub fn new(netns: String, what: What, times: usize) -> Self {
        Order { id: 0, netns, what, times, until: None, connect_ms: None, counted_by: None }
    }

    /// Has it wait for silence no longer than this: for what only kernels take part in, and for what
    /// programs must answer.
    pub fn hasten(&mut self, patience: Patience) {
        match &self.what {
            What::Curl { .. } | What::Http { .. } => self.connect_ms = Some(patience.handshake_ms),
            What::Names { question, .. } if question.transport == question::Transport::Tcp => {
                self.connect_ms = Some(patience.handshake_ms);
            }
            What::Udp { .. } | What::Names { .. } => self.what.hasten(patience.answer_ms),
            // Names are asked for first, and a user's probe waits as long as the user says.
            What::HttpByName { .. } | What::Errand(_) => {}
        }
    }

    /// It can begin before it is known how long silence has to last: it hears of that while it waits, or waits as
    /// long as its user says. curl has to know at its start.
    pub fn can_wait_from_the_start(&self) -> bool {
        matches!(self.what, What::Http { .. } | What::Udp { .. } | What::Names { .. } | What::Errand(_))
    }

    /// It sends datagrams, and programs answer them.
    pub fn is_of_datagrams(&self) -> bool {
        match &self.what {
            What::Udp { .. } => true,
            What::Names { question, .. } => question.transport == question::Transport::Udp,
            _ => false,
        }
    }
}

/// How long silence has to last to be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patience {
    /// Where a TCP connection should come about: the kernels' own work, be the server as busy as it may.
    pub handshake_ms: u32,
    /// Where a program should answer.
    pub answer_ms: u32,
}

/// What to try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// GET with the host's curl.
    Curl {
        /// The URL.
        url: String,
        /// Give up after this.
        timeout_ms: u32,
    },
    /// GET with the built-in client.
    Http {
        /// Where to connect.
        to: SocketAddr,
        /// The path.
        path: String,
        /// Give up after this.
        timeout_ms: u32,
    },
    /// Send a datagram with the built-in client and wait for the answer of an echo server.
    Udp {
        /// Where to send it.
        to: SocketAddr,
        /// Give up after this.
        timeout_ms: u32,
    },
    /// GET with the built-in client, from a machine that is known by its name.
    HttpByName {
        /// The name.
        host: String,
        /// The port.
        port: u16,
        /// The path.
        path: String,
        /// Who is asked for the name.
        resolver: Resolver,
        /// Give up after this.
        timeout_ms: u32,
    },
    /// Ask name servers with the built-in client.
    Names {
        /// The question.
        question: Question,
        /// Give up after this.
        timeout_ms: u32,
    },
    /// What a user asks for.
    Errand(Box<Errand>),
}

impl What {
    /// Has it wait for no longer than this.
    pub fn hasten(&mut self, millis: u32) {
        let timeout_ms = match self {
            What::Curl { timeout_ms, .. }
            | What::Http { timeout_ms, .. }
            | What::Udp { timeout_ms, .. }
            | What::HttpByName { timeout_ms, .. }
            | What::Names { timeout_ms, .. } => timeout_ms,
            What::Errand(errand) => &mut errand.timeout_ms,
        };
        *timeout_ms = millis.min(*timeout_ms);
    }

    /// Where the tries go, if it is said by address: whom a name stands for is not known here.
    pub fn target(&self) -> Option<(Transport, SocketAddr)> {
        const HTTP: u16 = 80;
        match self {
            What::Http { to, .. } => Some((Transport::Tcp, *to)),
            What::Udp { to, .. } => Some((Transport::Udp, *to)),
            What::HttpByName { .. } => None,
            What::Errand(errand) => errand.target(),
            What::Names { question, .. } => {
                let transport = match question.transport {
                    question::Transport::Udp => Transport::Udp,
                    question::Transport::Tcp => Transport::Tcp,
                };
                Some((transport, *question.resolver.servers.first()?))
            }
            What::Curl { url, .. } => {
                let (authority, _) = url.strip_prefix("http://")?.split_once('/')?;
                let alone = || authority.trim_matches(['[', ']']).parse().map(|ip: IpAddr| SocketAddr::new(ip, HTTP));
                Some((Transport::Tcp, authority.parse().or_else(|_| alone()).ok()?))
            }
        }
    }
}

/// What came of an [`Order`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The order's.
    pub id: usize,
    /// One per try, in no particular order; of an order that is repeated, those of the last time.
    pub tries: Vec<Try>,
    /// How long it was repeated, if it was to be until it is as wanted.
    #[serde(default)]
    pub waited: Option<Waited>,
    /// Of an order that counts whom connections are led to: the whole requests besides.
    #[serde(default)]
    pub whole: Vec<Try>,
}

impl Outcome {
    /// What came of the tries of an order, of which no more is to be said.
    pub fn new(id: usize, tries: Vec<Try>) -> Self {
        Outcome { id, tries, waited: None, whole: Vec::new() }
    }

    /// Everything that was tried.
    pub fn all(&self) -> impl Iterator<Item = &Try> {
        self.tries.iter().chain(&self.whole)
    }
}

/// How long an order was repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waited {
    /// So often.
    pub rounds: usize,
    /// Until the end of the last time, from the beginning of the first.
    pub micros: u64,
}

/// What came of one try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Try {
    /// The answer, or how it failed.
    pub result: Result<Answer, Failure>,
    /// How long it took.
    pub micros: u64,
}

/// An answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The HTTP status, or the exit code of a program; 0 for what is neither.
    pub status: u16,
    /// Who answered: the name in [`POD_HEADER`].
    pub pod: Option<String>,
    /// The client address that the server saw, from [`CLIENT_HEADER`].
    pub client: Option<IpAddr>,
    /// The body, at most 4 KiB of it.
    pub body: String,
    /// What a name server said, if one was asked.
    pub names: Option<Response>,
    /// The headers of the response, for an [`Errand`].
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// What a program complained about, the end of it.
    #[serde(default)]
    pub complaint: String,
    /// How long it took until there was a connection, where that is known.
    #[serde(default)]
    pub handshake_micros: Option<u64>,
    /// Whom the connection was led to, as the conntrack of a node has it.
    #[serde(default)]
    pub led_to: Option<SocketAddr>,
}

/// How a try failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The class of it.
    pub kind: FailureKind,
    /// The tool's or the kernel's own words.
    pub text: String,
}

/// The classes of failure that mean different things on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// ECONNREFUSED: a REJECT, or a closed port.
    Refused,
    /// Nothing came back in time.
    Timeout,
    /// ENETUNREACH or EHOSTUNREACH: no route, or no neighbour.
    Unreachable,
    /// The connection broke: ECONNRESET, an empty reply.
    Broken,
    /// The name could not be resolved.
    Unnamed,
    /// The try itself could not be made: a missing tool, a malformed answer.
    Other,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_curl_goes() {
        let target = |url: &str| What::Curl { url: url.to_owned(), timeout_ms: 1 }.target();
        let to = |text: &str| Some((Transport::Tcp, text.parse().unwrap()));
        assert_eq!(target("http://10.96.1.100:8080/"), to("10.96.1.100:8080"));
        assert_eq!(target("http://192.168.1.10/hostname?x=/"), to("192.168.1.10:80"));
        assert_eq!(target("http://[fd00::1]:8080/"), to("[fd00::1]:8080"));
        assert_eq!(target("http://[fd00::1]/"), to("[fd00::1]:80"));
        assert_eq!(target("http://backend-svc/"), None);
    }
}
