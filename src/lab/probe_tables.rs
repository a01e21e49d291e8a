//! The tables of `[[probe]]` as they are written: every key with its place, checked each for itself.

use serde_json::Value as Json;
use toml::{Spanned, de::DeValue};

use super::{
    model::{ConnectFailure, HttpMethod, Span},
    probe_values::{Expectation, Headers, Rcodes, RecordType, Shares, Spread, Words},
    said::{At, Said},
    table::{Key, Table, first, object, plain, record},
    value::{Connections, ExitCode, Period, Status, Value},
};
use crate::diag::Problems;

record! {
    /// A probe of your own. It asks one thing: `url`, `tcp`, `udp`, `dns`, `ping` or `exec`.
    ProbeTable, "probe" {
        /// What it shows; of a probe that several ask for, each is called `NAME from WHO`. Default: who
        /// asks what.
        optional name: String,
        /// Who asks: `host`, a node, a pod, a client, the load balancer or an external machine; all of
        /// them that "pods", "nodes" or "clients" stands for; the pods that a selector matches,
        /// "pods app=web"; or a list of those.
        required from: Words,
        /// An HTTP request: "http://WHERE:PORT/PATH", where WHERE is an address, a name of the lab (a
        /// place, a Service as NAME or NAME.NAMESPACE), or a DNS name, which whoever asks looks up.
        optional url: String,
        /// The method of the HTTP request. Default: "GET", or "POST" with a `body`.
        optional method: HttpMethod,
        /// Headers of the HTTP request.
        optional headers: Headers,
        /// The body of the HTTP request.
        optional body: String,
        /// A TCP connection, to "WHERE:PORT".
        optional tcp: String,
        /// A datagram, to "WHERE:PORT", and its answer.
        optional udp: String,
        /// What is in the datagram. Default: a question that the echo servers answer with their name.
        optional send: String,
        /// A name that the asker's own name servers are asked for; with a dot at its end, nothing is put
        /// behind it.
        optional dns: String,
        /// The type of the records that are asked for. Default: "A".
        optional r#type: RecordType,
        /// Another name server, "WHERE" or "WHERE:PORT". Default: those of whoever asks.
        optional server: String,
        /// An ICMP echo request, to "WHERE".
        optional ping: String,
        /// A program and its arguments, run as `netlab exec` runs them.
        optional exec: Vec<At<String>>,
        /// What must come back: "answered", "refused", "timeout", "unreachable", "unresolved", for `dns`
        /// instead of that "nxdomain" and "servfail"; or more of it in a table. Default: an answer; of a
        /// program, exit code 0.
        optional expect: Expectation,
        /// Many connections are made, and how they are spread over the backends is tested: "even", or a
        /// table.
        optional distribution: Spread,
        /// For so long it is tried again until it is as expected. Default: it is tried once.
        optional within: Period,
        /// So long a try waits. Default: 3 s; 5 s for `dns`, 10 s for `exec`, and 1 s where nothing
        /// shall answer and where `within` tries again.
        optional timeout: Period,
    }
}

record! {
    /// What must come back to a probe. A key that is left out may be anything.
    ExpectTable, "expectation" {
        /// The HTTP status.
        optional status: Status,
        /// The whole body of the response.
        optional body: String,
        /// A text that the body must contain.
        optional body_contains: String,
        /// Headers that the response must have.
        optional headers: Headers,
        /// The pods of which each must answer at least once, and no other may: names of pods, the name of
        /// a pod with `replicas` for all of them, or a selector, "pods app=web".
        optional backends: Vec<At<String>>,
        /// The client that the backend must see: an address, a place (any address of it), or "self" for
        /// whoever asks.
        optional source: String,
        /// The whole answer to a datagram.
        optional answer: String,
        /// A text that the answer to a datagram must contain.
        optional answer_contains: String,
        /// All records of the type that is asked for, in any order: addresses, for which names of the lab
        /// may stand, or what `dig +short` prints.
        optional records: Vec<At<String>>,
        /// How the question must go. Default: "NOERROR" with a record, or with what `records` says.
        optional rcode: Rcodes,
        /// The exit code of the program. Default: 0.
        optional exit_code: ExitCode,
        /// All that the program prints.
        optional stdout: String,
        /// A text that the program must print.
        optional stdout_contains: String,
        /// Nothing may answer: it must be refused, time out, be unreachable, or its name unknown.
        optional failure: ConnectFailure,
    }
}

record! {
    /// How connections must be spread over the backends, tested by chi-square.
    SpreadTable, "distribution" {
        /// How many are made. Default: as many as the tests of `verify` itself make.
        optional connections: Connections,
        /// The share of each pod, all together 1: `{ "web-0" = 0.5, "web-1" = 0.5 }`. Default: equal
        /// shares of all backends.
        optional shares: Shares,
    }
}
