//! What a pod of the cluster's DNS says of itself, by HTTP, where and as CoreDNS does.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{PoisonError, atomic::Ordering},
};

use hyper::StatusCode;

use super::{NameServer, Names};
use crate::{
    dns::{Counted, Transport},
    kernel::http::{Response, text},
};

/// CoreDNS's `health`, `ready` and `prometheus`.
pub(super) const PORTS: [u16; 3] = [8080, 8181, 9153];

/// Answers a request to one of the ports.
pub(super) fn answer(port: u16, path: &str, server: &NameServer) -> Response {
    match (port, path) {
        (8080, "/health") | (8181, "/ready") => text(StatusCode::OK, "OK"),
        (9153, "/metrics") => text(StatusCode::OK, metrics(server)),
        _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}

/// The counters, in Prometheus' text format and under CoreDNS's names.
fn metrics(server: &NameServer) -> String {
    let counts = server.counts.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let refused = match &server.names {
        Names::Cluster(_, upstream) => upstream.refused.load(Ordering::Relaxed),
        Names::Internet(_) => 0,
    };
    format!("{}{}", exposition(&counts), family(REFUSED, [(String::new(), refused)]))
}

/// A name and what it says.
type Family = (&'static str, &'static str);

const REQUESTS: Family = ("coredns_dns_requests_total", "Counter of DNS requests made per zone, protocol and family.");
const RESPONSES: Family = ("coredns_dns_responses_total", "Counter of response status codes.");
const REFUSED: Family = (
    "coredns_forward_max_concurrent_rejects_total",
    "Counter of the number of queries rejected because the concurrent queries were at maximum.",
);

fn exposition(counts: &BTreeMap<(Transport, Counted), u64>) -> String {
    let (mut requests, mut responses) = (BTreeMap::new(), BTreeMap::new());
    for ((transport, Counted { kind, code }), count) in counts {
        let proto = match transport {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
        };
        let asked = format!(r#"{{family="1",proto="{proto}",server="dns://:53",type="{kind}",view="",zone="."}}"#);
        *requests.entry(asked).or_insert(0) += count;
        *responses
            .entry(format!(r#"{{plugin="",rcode="{code}",server="dns://:53",view="",zone="."}}"#))
            .or_insert(0) += count;
    }
    family(REQUESTS, requests) + &family(RESPONSES, responses)
}

fn family((name, help): Family, lines: impl IntoIterator<Item = (String, u64)>) -> String {
    let mut text = format!("# HELP {name} {help}\n# TYPE {name} counter\n");
    for (labels, count) in lines {
        // Writing into a string does not fail.
        let _ = writeln!(text, "{name}{labels} {count}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_added_up() {
        let counted = |kind, code| Counted { kind, code };
        let counts = BTreeMap::from([
            ((Transport::Udp, counted("A", "NOERROR")), 2),
            ((Transport::Udp, counted("A", "NXDOMAIN")), 3),
            ((Transport::Tcp, counted("A", "NOERROR")), 4),
        ]);
        assert_eq!(
            exposition(&counts),
            r#"# HELP coredns_dns_requests_total Counter of DNS requests made per zone, protocol and family.
# TYPE coredns_dns_requests_total counter
coredns_dns_requests_total{family="1",proto="tcp",server="dns://:53",type="A",view="",zone="."} 4
coredns_dns_requests_total{family="1",proto="udp",server="dns://:53",type="A",view="",zone="."} 5
# HELP coredns_dns_responses_total Counter of response status codes.
# TYPE coredns_dns_responses_total counter
coredns_dns_responses_total{plugin="",rcode="NOERROR",server="dns://:53",view="",zone="."} 6
coredns_dns_responses_total{plugin="",rcode="NXDOMAIN",server="dns://:53",view="",zone="."} 3
"#
        );
    }
}
