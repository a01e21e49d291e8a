//! The names of a lab, written out.

use super::*;
use crate::{
    lab::{load, model::PodId},
    proxy::endpoints::Condition,
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
containers = [{ server = "echo", ports = [{ name = "http", container_port = 8080 }, { name = "dgram", container_port = 80, protocol = "UDP" }] }]

[[pod]]
name = "web-1"
ip = "10.244.1.11"
labels = { app = "web" }
containers = [{ server = "echo", ports = [{ name = "http", container_port = 8081 }] }]

[[pod]]
name = "other"
ip = "10.244.1.20"
namespace = "blue"
labels = { app = "none" }

[[service]]
name = "web"
cluster_ip = "10.96.1.1"
selector = { app = "web" }
ports = [{ name = "http", port = 80, target_port = "http" }, { name = "dgram", port = 80, target_port = 80, protocol = "UDP" }]

[[service]]
name = "nest"
cluster_ip = "None"
selector = { app = "web" }
ports = [{ name = "http", port = 80, target_port = "http" }]

[[service]]
name = "plain"
cluster_ip = "10.96.1.2"
selector = { app = "web" }
ports = [{ port = 80, target_port = 8080 }]

[[service]]
name = "bare"
cluster_ip = "None"
selector = { app = "web" }

[[service]]
name = "ext"
type = "ExternalName"
external_name = "api.example.com."

[[service]]
name = "literal"
type = "ExternalName"
external_name = "192.0.2.1"
"#;

fn lab() -> Lab {
    load(LAB).unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// What a name says, one thing a line.
fn at(lab: &Lab, conditions: &Conditions, name: &str) -> Vec<String> {
    let said = |record: Record| match record.data {
        Data::Address(ip) => format!("A {ip}"),
        Data::Alias(target) => format!("CNAME {target}"),
        Data::Service { priority, weight, port, target } => format!("SRV {priority} {weight} {port} {target}"),
        Data::Pointer(target) => format!("PTR {target}"),
        Data::Text(text) => format!("TXT {} {text}", record.ttl),
    };
    records(lab, conditions).into_iter().filter(|record| record.name == name).map(said).collect()
}

#[test]
fn every_kind_of_service_has_its_names() {
    let lab = lab();
    let rows: &[(&str, &[&str])] = &[
        ("dns-version.cluster.local", &["TXT 28800 1.1.0"]),
        ("ns.dns.cluster.local", &["A 10.96.0.10"]),
        (
            "web.default.svc.cluster.local",
            // Two ports share a hundred, and are one target and port.
            &["A 10.96.1.1", "SRV 0 50 80 web.default.svc.cluster.local"],
        ),
        ("_http._tcp.web.default.svc.cluster.local", &["A 10.96.1.1", "SRV 0 100 80 web.default.svc.cluster.local"]),
        ("_dgram._udp.web.default.svc.cluster.local", &["A 10.96.1.1", "SRV 0 100 80 web.default.svc.cluster.local"]),
        ("_dgram._tcp.web.default.svc.cluster.local", &[]),
        ("plain.default.svc.cluster.local", &["A 10.96.1.2", "SRV 0 100 80 plain.default.svc.cluster.local"]),
        (
            "nest.default.svc.cluster.local",
            &[
                "A 10.244.1.10",
                "A 10.244.1.11",
                "SRV 0 50 8080 web-0.nest.default.svc.cluster.local",
                "SRV 0 50 8081 10-244-1-11.nest.default.svc.cluster.local",
            ],
        ),
        (
            "_http._tcp.nest.default.svc.cluster.local",
            &[
                "A 10.244.1.10",
                "A 10.244.1.11",
                "SRV 0 50 8080 web-0.nest.default.svc.cluster.local",
                "SRV 0 50 8081 10-244-1-11.nest.default.svc.cluster.local",
            ],
        ),
        (
            "web-0.nest.default.svc.cluster.local",
            &["A 10.244.1.10", "SRV 0 100 8080 web-0.nest.default.svc.cluster.local"],
        ),
        ("10-244-1-10.nest.default.svc.cluster.local", &[]),
        ("bare.default.svc.cluster.local", &["A 10.244.1.10", "A 10.244.1.11"]),
        // Endpoints of other Services have names as well, but not the pod's hostname.
        ("web-0.web.default.svc.cluster.local", &[]),
        (
            "10-244-1-10.web.default.svc.cluster.local",
            &[
                "A 10.244.1.10",
                "SRV 0 50 80 10-244-1-10.web.default.svc.cluster.local",
                "SRV 0 50 8080 10-244-1-10.web.default.svc.cluster.local",
            ],
        ),
        ("ext.default.svc.cluster.local", &["CNAME api.example.com"]),
        ("literal.default.svc.cluster.local", &[]),
        ("1.1.96.10.in-addr.arpa", &["PTR web.default.svc.cluster.local"]),
        (
            "10.1.244.10.in-addr.arpa",
            &[
                "PTR 10-244-1-10.bare.default.svc.cluster.local",
                "PTR 10-244-1-10.plain.default.svc.cluster.local",
                "PTR 10-244-1-10.web.default.svc.cluster.local",
                "PTR web-0.nest.default.svc.cluster.local",
            ],
        ),
        ("10-244-1-10.default.pod.cluster.local", &[]),
    ];
    for (name, expected) in rows {
        assert_eq!(at(&lab, &Conditions::new(), name), *expected, "{name}");
    }
    assert!(records(&lab, &Conditions::new()).iter().all(|record| record.ttl == 30 || record.ttl == 28800));
}

#[test]
fn only_ready_endpoints_have_names() {
    let mut lab = lab();
    let conditions = Conditions::from([
        (PodId(0), Condition { ready: true, terminating: true }),
        (PodId(1), Condition { ready: false, terminating: false }),
    ]);
    let nest = "nest.default.svc.cluster.local";
    assert_eq!(at(&lab, &conditions, nest), [""; 0]);
    assert_eq!(at(&lab, &conditions, "10.1.244.10.in-addr.arpa"), [""; 0]);
    assert_eq!(at(&lab, &conditions, "plain.default.svc.cluster.local").len(), 2, "its own address stays");
    lab.services.iter_mut().for_each(|service| service.publish_not_ready_addresses = true);
    assert_eq!(at(&lab, &conditions, nest).len(), 4);
}

#[test]
fn a_hundred_and_more_endpoints_weigh_at_least_one() {
    let mut lab = lab();
    let service = lab.services.iter_mut().find(|service| service.name.as_str() == "plain").unwrap();
    service.cluster_ip = None;
    service.selector.clear();
    let manual = |last: u8| crate::lab::model::ManualEndpoint { ip: [192, 0, 2, last].into(), node: None, at: 0..0 };
    service.endpoints = (1..=150).map(manual).collect();
    let all = at(&lab, &Conditions::new(), "plain.default.svc.cluster.local");
    assert_eq!(all.len(), 300);
    assert_eq!(all[299], "SRV 0 1 8080 192-0-2-99.plain.default.svc.cluster.local");
    assert_eq!(
        at(&lab, &Conditions::new(), "192-0-2-99.plain.default.svc.cluster.local"),
        ["A 192.0.2.99", "SRV 0 100 8080 192-0-2-99.plain.default.svc.cluster.local"]
    );
}

#[test]
fn hostnames_that_several_pods_share_are_one_name() {
    let mut lab = lab();
    lab.pods[1].hostname = lab.pods[0].hostname.clone();
    lab.pods[1].subdomain = lab.pods[0].subdomain.clone();
    let said = at(&lab, &Conditions::new(), "web-0.nest.default.svc.cluster.local");
    let srv = |port: u16| format!("SRV 0 50 {port} web-0.nest.default.svc.cluster.local");
    assert_eq!(said, ["A 10.244.1.10".to_owned(), "A 10.244.1.11".to_owned(), srv(8080), srv(8081)]);
}

#[test]
fn pods_have_names_where_they_are_verified() {
    let mut lab = lab();
    lab.dns.as_mut().unwrap().pod_records = PodRecords::Verified;
    let name = "10-244-1-20.blue.pod.cluster.local";
    assert_eq!(at(&lab, &Conditions::new(), name), ["A 10.244.1.20"]);
    assert_eq!(at(&lab, &Conditions::new(), "10-244-1-20.default.pod.cluster.local"), [""; 0]);
    let leaving = Conditions::from([(PodId(2), Condition { ready: true, terminating: true })]);
    assert_eq!(at(&lab, &leaving, name), [""; 0]);
}

#[test]
fn namespaces_are_names_without_records() {
    let mut lab = lab();
    let names = names_without_records(&lab);
    for name in ["cluster.local", "svc.cluster.local", "pod.cluster.local", "blue.svc.cluster.local"] {
        assert!(names.contains(name), "{name}");
    }
    assert!(names.contains("blue.pod.cluster.local") && !names.contains("green.svc.cluster.local"));
    lab.dns.as_mut().unwrap().pod_records = PodRecords::Disabled;
    assert!(!names_without_records(&lab).contains("blue.pod.cluster.local"));
    lab.dns = None;
    assert!(names_without_records(&lab).is_empty() && records(&lab, &Conditions::new()).is_empty());
}

#[test]
fn addresses_are_written_as_names() {
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    assert_eq!(dashed(ip("10.1.2.3")), "10-1-2-3");
    assert_eq!(dashed(ip("fd00::1")), "fd00--1");
    assert_eq!(dashed(ip("fd00::")), "fd00--0");
    let reversed = "b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa";
    assert_eq!(reverse_name(ip("2001:db8::567:89ab")), reversed);
}

#[test]
fn what_makes_other_records() {
    let lab = |text: &str| load(text).expect("it is good");
    let was = lab(LAB);
    assert!(are_same(&was, &lab(&format!("# another file\n{LAB}"))));
    // What is no endpoint has no name.
    assert!(are_same(&was, &lab(&LAB.replace("name = \"other\"", "name = \"another\""))));
    let mut not_ready = lab(LAB);
    not_ready.pods[0].ready = false;
    assert!(!are_same(&was, &not_ready));
    assert!(!are_same(&was, &lab(&LAB.replace("engine = \"embedded\"", "engine = \"embedded\"\nttl = 7"))));
}
