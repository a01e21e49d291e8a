//! Questions and their answers, written out.

mod after;
mod upstream;
mod wire;

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query},
    rr::{Name, RData, Record, RecordType},
};

use super::*;
use crate::{
    lab::{
        load,
        model::{ExternalNames, Lab, PodId, PodRecords},
    },
    proxy::endpoints::{Condition, Conditions},
};

const LAB: &str = r#"
[dns]
engine = "embedded"

[[node]]
name = "n1"
pod_subnet = "10.244.1.0/24"

[[pod]]
name = "web-0"
ip = "10.244.1.10"
labels = { app = "web" }
hostname = "web-0"
subdomain = "nest"
containers = [{ server = "echo", ports = [{ name = "http", container_port = 8080 }] }]

[[pod]]
name = "web-1"
ip = "10.244.1.11"
labels = { app = "web" }
containers = [{ server = "echo", ports = [{ name = "http", container_port = 8080 }] }]

[[service]]
name = "web"
cluster_ip = "10.96.1.1"
selector = { app = "web" }
ports = [{ name = "http", port = 80, target_port = "http" }]

[[service]]
name = "nest"
cluster_ip = "None"
selector = { app = "web" }
ports = [{ name = "http", port = 80, target_port = "http" }]

[[service]]
name = "empty"
cluster_ip = "None"
endpoints = []
ports = [{ port = 80 }]

[[service]]
name = "ext"
type = "ExternalName"
external_name = "api.example.com"

[[service]]
name = "inner"
type = "ExternalName"
external_name = "web.default.svc.cluster.local"

[[service]]
name = "twice"
type = "ExternalName"
external_name = "ext.default.svc.cluster.local"

[[service]]
name = "dangling"
type = "ExternalName"
external_name = "nothing.default.svc.cluster.local"

[[service]]
name = "self"
type = "ExternalName"
external_name = "self.default.svc.cluster.local"

[[service]]
name = "ping"
type = "ExternalName"
external_name = "pong.default.svc.cluster.local"

[[service]]
name = "pong"
type = "ExternalName"
external_name = "ping.default.svc.cluster.local"

[[service]]
name = "literal"
type = "ExternalName"
external_name = "192.0.2.1"

[[external]]
name = "api.example.com"
ip = ["203.0.113.5", "203.0.113.6"]
"#;

pub(super) fn lab() -> Lab {
    load(LAB).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn cluster_of(lab: &Lab) -> Cluster {
    Cluster::new(lab, &Conditions::new()).expect("the lab has DNS")
}

/// A question as a client sends it: a type and a name.
fn question(words: &str) -> Message {
    let (kind, name) = words.split_once(' ').expect("a type and a name");
    let kind: RecordType = kind.parse().expect("a type");
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(format!("{name}.")).expect("a name"), kind));
    message
}

/// With EDNS, and so much room.
fn with_room(mut message: Message, room: u16) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(room);
    message.set_edns(edns);
    message
}

fn bytes(message: &Message) -> Vec<u8> {
    message.to_vec().expect("a message that can be written")
}

fn parsed(answer: &Answer) -> Message {
    Message::from_vec(&answer.bytes).expect("an answer that can be read")
}

fn answered(reaction: Reaction) -> Message {
    match reaction {
        Reaction::Answer(answer) => parsed(&answer),
        other => panic!("no answer: {other:?}"),
    }
}

/// A message in words: its code, its flags, its sections.
fn words(message: &Message) -> String {
    let flags = [
        (message.metadata.authoritative, "aa"),
        (message.metadata.truncation, "tc"),
        (message.metadata.recursion_available, "ra"),
    ];
    let flags: String = flags.iter().filter(|(set, _)| *set).map(|(_, flag)| format!(" {flag}")).collect();
    let mut all = format!("{:?}{flags}", message.metadata.response_code);
    let sections = [("", &message.answers), ("ns ", &message.authorities), ("+ ", &message.additionals)];
    for (section, records) in sections {
        let mut lines: Vec<String> = records.iter().map(|record| format!("\n{section}{}", line(record))).collect();
        // Addresses come in any order; that is tested apart.
        lines.sort_by_key(|line| if line.contains(" CNAME ") { String::new() } else { line.clone() });
        all.extend(lines);
    }
    all
}

fn line(record: &Record) -> String {
    let data = match &record.data {
        RData::SRV(it) => format!("{} {} {} {}", it.priority, it.weight, it.port, it.target),
        RData::SOA(it) => {
            format!("{} {} {} {} {} {}", it.mname, it.rname, it.refresh, it.retry, it.expire, it.minimum)
        }
        RData::TXT(it) => it.txt_data.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect(),
        data => data.to_string(),
    };
    format!("{} {} {} {data}", record.name, record.ttl, record.record_type())
}

/// Asks the cluster; the lab's own internet is the upstream.
fn ask(lab: &Lab, cluster: &Cluster, words: &str) -> Message {
    match cluster.react(&bytes(&question(words)), Transport::Tcp, 7) {
        Reaction::Answer(answer) => parsed(&answer),
        Reaction::Ask(ask) => {
            let answer = match Internet::new(lab).react(ask.question(), Transport::Tcp, 8) {
                Reaction::Answer(answer) => answer.bytes,
                other => panic!("no answer of the upstream: {other:?}"),
            };
            assert_eq!(ask.judge(&answer), Judgement::Answer);
            parsed(&cluster.resume(ask.pending, Heard::Answer(answer)))
        }
        Reaction::Silence => panic!("silence about {words}"),
    }
}

fn check(lab: &Lab, rows: &[(&str, &str)]) {
    let cluster = cluster_of(lab);
    for (question, expected) in rows {
        let expected: Vec<&str> = expected.lines().map(str::trim).collect();
        let got = words(&ask(lab, &cluster, question)).replace("cluster.local.", "Z");
        assert_eq!(got, expected.join("\n"), "{question}");
    }
}

const NODATA: &str = "NoError aa\nns Z 30 SOA ns.dns.Z hostmaster.Z 7200 1800 86400 30";
const NXDOMAIN: &str = "NXDomain aa\nns Z 30 SOA ns.dns.Z hostmaster.Z 7200 1800 86400 30";
const ROOT_NXDOMAIN: &str = "NXDomain ra\nns . 300 SOA a.root-servers.net. nstld.verisign-grs.com. 1800 900 604800 300";
const ROOT_NODATA: &str = "NoError ra\nns . 300 SOA a.root-servers.net. nstld.verisign-grs.com. 1800 900 604800 300";

#[test]
fn names_of_the_cluster() {
    check(
        &lab(),
        &[
            ("A web.default.svc.cluster.local", "NoError aa\nweb.default.svc.Z 30 A 10.96.1.1"),
            ("AAAA web.default.svc.cluster.local", NODATA),
            ("MX web.default.svc.cluster.local", NODATA),
            ("TXT web.default.svc.cluster.local", NODATA),
            ("HTTPS web.default.svc.cluster.local", NODATA),
            ("ANY web.default.svc.cluster.local", NODATA),
            ("CNAME web.default.svc.cluster.local", NODATA),
            ("PTR web.default.svc.cluster.local", NODATA),
            ("A nothing.default.svc.cluster.local", NXDOMAIN),
            ("A web.nowhere.svc.cluster.local", NXDOMAIN),
            ("SRV nothing.default.svc.cluster.local", NXDOMAIN),
            ("A empty.default.svc.cluster.local", NXDOMAIN),
            ("A default.svc.cluster.local", NODATA),
            ("A nowhere.svc.cluster.local", NXDOMAIN),
            ("A default.pod.cluster.local", NODATA),
            ("A svc.cluster.local", NODATA),
            ("A pod.cluster.local", NODATA),
            ("A cluster.local", NODATA),
            ("A foo.cluster.local", NXDOMAIN),
            ("A a.b.c.web.default.svc.cluster.local", NXDOMAIN),
            ("A _tcp.web.default.svc.cluster.local", NXDOMAIN),
            ("TXT dns-version.cluster.local", "NoError aa\ndns-version.Z 28800 TXT 1.1.0"),
            ("A dns-version.cluster.local", NODATA),
            ("A ns.dns.cluster.local", "NoError aa\nns.dns.Z 30 A 10.96.0.10"),
            ("SOA cluster.local", "NoError aa\nZ 30 SOA ns.dns.Z hostmaster.Z 7200 1800 86400 30"),
            (
                "NS cluster.local",
                "NoError aa\nZ 30 NS kube-dns.kube-system.svc.Z\n+ kube-dns.kube-system.svc.Z 30 A 10.96.0.10",
            ),
            (
                "SRV _http._tcp.web.default.svc.cluster.local",
                "NoError aa\n_http._tcp.web.default.svc.Z 30 SRV 0 100 80 web.default.svc.Z
                 + web.default.svc.Z 30 A 10.96.1.1",
            ),
            ("A _http._tcp.web.default.svc.cluster.local", "NoError aa\n_http._tcp.web.default.svc.Z 30 A 10.96.1.1"),
            ("SRV _http._udp.web.default.svc.cluster.local", NXDOMAIN),
        ],
    );
}

#[test]
fn headless_services_and_their_endpoints() {
    check(
        &lab(),
        &[
            (
                "A nest.default.svc.cluster.local",
                "NoError aa\nnest.default.svc.Z 30 A 10.244.1.10\nnest.default.svc.Z 30 A 10.244.1.11",
            ),
            ("AAAA nest.default.svc.cluster.local", NODATA),
            ("A web-0.nest.default.svc.cluster.local", "NoError aa\nweb-0.nest.default.svc.Z 30 A 10.244.1.10"),
            (
                "A 10-244-1-11.nest.default.svc.cluster.local",
                "NoError aa\n10-244-1-11.nest.default.svc.Z 30 A 10.244.1.11",
            ),
            ("A 10-244-1-12.nest.default.svc.cluster.local", NXDOMAIN),
            (
                "A 10-244-1-10.web.default.svc.cluster.local",
                "NoError aa\n10-244-1-10.web.default.svc.Z 30 A 10.244.1.10",
            ),
            (
                "SRV _http._tcp.nest.default.svc.cluster.local",
                "NoError aa
                 _http._tcp.nest.default.svc.Z 30 SRV 0 50 8080 10-244-1-11.nest.default.svc.Z
                 _http._tcp.nest.default.svc.Z 30 SRV 0 50 8080 web-0.nest.default.svc.Z
                 + 10-244-1-11.nest.default.svc.Z 30 A 10.244.1.11
                 + web-0.nest.default.svc.Z 30 A 10.244.1.10",
            ),
        ],
    );
}

#[test]
fn addresses_have_names() {
    check(
        &lab(),
        &[
            ("PTR 1.1.96.10.in-addr.arpa", "NoError aa\n1.1.96.10.in-addr.arpa. 30 PTR web.default.svc.Z"),
            (
                "PTR 10.1.244.10.in-addr.arpa",
                "NoError aa
                 10.1.244.10.in-addr.arpa. 30 PTR 10-244-1-10.web.default.svc.Z
                 10.1.244.10.in-addr.arpa. 30 PTR web-0.nest.default.svc.Z",
            ),
            // Whose address it is not, it asks about.
            ("PTR 5.113.0.203.in-addr.arpa", "NoError ra\n5.113.0.203.in-addr.arpa. 300 PTR api.example.com."),
            ("PTR 1.2.0.192.in-addr.arpa", ROOT_NXDOMAIN),
            ("A 1.1.96.10.in-addr.arpa", ROOT_NXDOMAIN),
            ("PTR 96.10.in-addr.arpa", ROOT_NXDOMAIN),
            (
                "A in-addr.arpa",
                "NoError aa
                 ns in-addr.arpa. 30 SOA ns.dns.in-addr.arpa. hostmaster.in-addr.arpa. 7200 1800 86400 30",
            ),
        ],
    );
}

#[test]
fn names_made_of_addresses() {
    let mut lab = lab();
    let made = |ip: &str| format!("NoError aa\n{ip}.default.pod.Z 30 A {}", ip.replace('-', "."));
    let unknown = ("A 192-0-2-77.default.pod.cluster.local", made("192-0-2-77"));
    check(
        &lab,
        &[
            (unknown.0, &unknown.1),
            ("AAAA 192-0-2-77.default.pod.cluster.local", NODATA),
            ("TXT 192-0-2-77.default.pod.cluster.local", NODATA),
            ("AAAA fd00--1.default.pod.cluster.local", "NoError aa\nfd00--1.default.pod.Z 30 AAAA fd00::1"),
            ("A web-0.default.pod.cluster.local", NXDOMAIN),
            ("A 192-0-2-777.default.pod.cluster.local", NXDOMAIN),
            ("A 192-0-2.default.pod.cluster.local", NXDOMAIN),
            ("A 192-0-2-77.nowhere.pod.cluster.local", NXDOMAIN),
            ("A x.192-0-2-77.default.pod.cluster.local", NXDOMAIN),
        ],
    );
    lab.dns.as_mut().unwrap().pod_records = PodRecords::Verified;
    let known = made("10-244-1-10");
    check(&lab, &[(unknown.0, NXDOMAIN), ("A 10-244-1-10.default.pod.cluster.local", &known)]);
    lab.dns.as_mut().unwrap().pod_records = PodRecords::Disabled;
    let rows = [(unknown.0, NXDOMAIN), ("A default.pod.cluster.local", NXDOMAIN), ("A pod.cluster.local", NODATA)];
    check(&lab, &rows);
}

#[test]
fn external_names() {
    check(
        &lab(),
        &[
            (
                "A ext.default.svc.cluster.local",
                "NoError aa
                 ext.default.svc.Z 30 CNAME api.example.com.
                 api.example.com. 300 A 203.0.113.5
                 api.example.com. 300 A 203.0.113.6",
            ),
            ("AAAA ext.default.svc.cluster.local", "NoError aa\next.default.svc.Z 30 CNAME api.example.com."),
            ("CNAME ext.default.svc.cluster.local", "NoError aa\next.default.svc.Z 30 CNAME api.example.com."),
            ("SRV ext.default.svc.cluster.local", NODATA),
            ("TXT ext.default.svc.cluster.local", NODATA),
            ("A x.ext.default.svc.cluster.local", NXDOMAIN),
            ("A _http._tcp.ext.default.svc.cluster.local", NXDOMAIN),
            ("A literal.default.svc.cluster.local", NXDOMAIN),
            (
                "A inner.default.svc.cluster.local",
                "NoError aa\ninner.default.svc.Z 30 CNAME web.default.svc.Z\nweb.default.svc.Z 30 A 10.96.1.1",
            ),
            ("AAAA inner.default.svc.cluster.local", NODATA),
            (
                "A twice.default.svc.cluster.local",
                "NoError aa
                 twice.default.svc.Z 30 CNAME ext.default.svc.Z
                 ext.default.svc.Z 30 CNAME api.example.com.
                 api.example.com. 300 A 203.0.113.5
                 api.example.com. 300 A 203.0.113.6",
            ),
            ("A dangling.default.svc.cluster.local", NODATA),
            ("A self.default.svc.cluster.local", NODATA),
            ("A ping.default.svc.cluster.local", NODATA),
        ],
    );
}

#[test]
fn external_names_that_are_rewritten() {
    let mut lab = lab();
    lab.dns.as_mut().unwrap().external_names = ExternalNames::Rewrite;
    check(
        &lab,
        &[
            (
                "A ext.default.svc.cluster.local",
                "NoError ra\next.default.svc.Z 300 A 203.0.113.5\next.default.svc.Z 300 A 203.0.113.6",
            ),
            ("AAAA ext.default.svc.cluster.local", ROOT_NODATA),
            ("A inner.default.svc.cluster.local", "NoError aa\ninner.default.svc.Z 30 A 10.96.1.1"),
            // What the name leads to is not there, and so neither is the name.
            ("A dangling.default.svc.cluster.local", NXDOMAIN),
            (
                "SRV inner.default.svc.cluster.local",
                "NoError aa\ninner.default.svc.Z 30 SRV 0 100 80 inner.default.svc.Z\n+ inner.default.svc.Z 30 A 10.96.1.1",
            ),
            ("A self.default.svc.cluster.local", NODATA),
            // One rule is applied, not one after the other.
            (
                "A twice.default.svc.cluster.local",
                "NoError aa
                 twice.default.svc.Z 30 CNAME api.example.com.
                 api.example.com. 300 A 203.0.113.5
                 api.example.com. 300 A 203.0.113.6",
            ),
        ],
    );
}

#[test]
fn chains_of_aliases_have_an_end() {
    let mut lab = lab();
    let link = lab.services.iter().find(|service| service.name.as_str() == "inner").unwrap().clone();
    for nth in 0..12 {
        let mut link = link.clone();
        link.name = format!("chain{nth}").parse().unwrap();
        if nth > 0 {
            let before = format!("chain{}.default.svc.cluster.local", nth - 1);
            link.kind = crate::lab::model::ServiceKind::ExternalName(before.parse().unwrap());
        }
        lab.services.push(link);
    }
    // The ids are indices: the Service `kube-dns` is where it was.
    let cluster = cluster_of(&lab);
    let aliases = |nth: usize| ask(&lab, &cluster, &format!("A chain{nth}.default.svc.cluster.local")).answers.len();
    assert_eq!((aliases(0), aliases(10), aliases(11)), (2, 12, 0));
}

#[test]
fn the_internet_knows_its_machines_and_nothing_else() {
    check(
        &lab(),
        &[
            ("A api.example.com", "NoError ra\napi.example.com. 300 A 203.0.113.5\napi.example.com. 300 A 203.0.113.6"),
            ("AAAA api.example.com", ROOT_NODATA),
            ("A example.com", ROOT_NODATA),
            ("A www.example.com", ROOT_NXDOMAIN),
            ("A localhost", ROOT_NXDOMAIN),
        ],
    );
}

#[test]
fn only_what_is_ready_is_found() {
    let lab = lab();
    let leaving = Condition { ready: true, terminating: true };
    let conditions = Conditions::from([(PodId(0), leaving), (PodId(1), leaving)]);
    let cluster = Cluster::new(&lab, &conditions).unwrap();
    let code = |question: &str| format!("{:?}", ask(&lab, &cluster, question).metadata.response_code);
    assert_eq!(code("A nest.default.svc.cluster.local"), "NXDomain");
    assert_eq!(code("A web.default.svc.cluster.local"), "NoError");
    assert_eq!(code("A 10-244-1-10.web.default.svc.cluster.local"), "NXDomain");
}

#[test]
fn the_time_to_live_is_as_the_lab_says() {
    let mut lab = lab();
    lab.dns.as_mut().unwrap().ttl = 3600;
    let soa = "ns Z 300 SOA ns.dns.Z hostmaster.Z 7200 1800 86400 3600";
    check(
        &lab,
        &[
            ("A web.default.svc.cluster.local", "NoError aa\nweb.default.svc.Z 3600 A 10.96.1.1"),
            ("A nothing.cluster.local", &format!("NXDomain aa\n{soa}")),
        ],
    );
}

#[test]
fn a_lab_without_dns_has_no_engine() {
    let mut lab = lab();
    lab.dns = None;
    assert!(Cluster::new(&lab, &Conditions::new()).is_none());
}
