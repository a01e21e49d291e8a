//! Names: what each stands for, asked by the pods' own resolvers and at the cluster's DNS itself.
//!
//! A name with a dot at its end is whole; of any other, the search list of who asks makes one.

use super::{
    super::labs::{NAMES, NO_UPSTREAM},
    Ask, Proof, Row, Setting, paths, tcp,
};
use crate::probe::question::{
    RecordKind::{self, A, Aaaa, Cname, Ptr, Srv, Txt},
    Transport::{Tcp, Udp},
};

const fn names(
    id: &'static str,
    behaviour: &'static str,
    source: &'static str,
    setting: &'static Setting,
    asks: &'static [Ask],
) -> Row {
    Row { id, behaviour, source, proof: Proof::Names(setting, asks) }
}

/// `a1`, a pod of the namespace `default`, asks.
const fn ask(kind: RecordKind, name: &'static str, says: &'static str) -> Ask {
    Ask { from: "a1", name, kind, transport: Udp, ttl: None, says }
}

impl Ask {
    const fn over_tcp(self) -> Ask {
        Ask { transport: Tcp, ..self }
    }

    const fn by(self, from: &'static str) -> Ask {
        Ask { from, ..self }
    }

    const fn lasts(self, ttl: u32) -> Ask {
        Ask { ttl: Some(ttl), ..self }
    }
}

const NODATA: &str = "NOERROR, SOA of cluster.local";
const NXDOMAIN: &str = "NXDOMAIN, SOA of cluster.local";
const WEB: &str = "A 10.96.1.1";
const SET: &str = "A 10.244.1.10, A 10.244.2.10";
const AWAY: &str = "CNAME foo.example.com, A 198.51.100.7, A 198.51.100.8";

pub(super) const ROWS: &[Row] = &[
    names(
        "E1",
        "an ExternalName Service is a CNAME, and then what that stands for",
        "e2e dns, ExternalName services",
        &NAMES,
        &[
            ask(A, "away.default.svc.cluster.local.", AWAY),
            ask(A, "away", AWAY).over_tcp(),
            ask(Cname, "away.default.svc.cluster.local.", "CNAME foo.example.com"),
            ask(A, "lost.default.svc.cluster.local.", "CNAME nobody.example.com"),
        ],
    ),
    names(
        "E5",
        "an ExternalName Service has no names below it",
        "core commonDnsTestCases",
        &NAMES,
        &[
            ask(A, "x.away.default.svc.cluster.local.", NXDOMAIN),
            ask(Srv, "_http._tcp.away.default.svc.cluster.local.", NXDOMAIN),
        ],
    ),
    names(
        "E6",
        "an ExternalName Service has neither SRV nor TXT records",
        "core kubernetes.go",
        &NAMES,
        &[ask(Srv, "away.default.svc.cluster.local.", NODATA), ask(Txt, "away.default.svc.cluster.local.", NODATA)],
    ),
    names(
        "F1",
        "a headless Service's name lists its ready pods",
        "spec 2.4.1",
        &NAMES,
        &[ask(A, "set.default.svc.cluster.local.", SET), ask(A, "set", SET).over_tcp()],
    ),
    names(
        "F4",
        "a headless Service without a ready pod does not exist",
        "spec 2.4.1",
        &NAMES,
        &[ask(A, "late.default.svc.cluster.local.", NXDOMAIN)],
    ),
    names(
        "F5-names",
        "publishNotReadyAddresses: pods that are not ready have names too",
        "e2e service, endpoints for unready pods",
        &NAMES,
        &[ask(A, "early.default.svc.cluster.local.", "A 10.244.1.11")],
    ),
    names(
        "J7",
        "a Service without endpoints has its name all the same",
        "core svcempty cases",
        &NAMES,
        &[ask(A, "till.shop.svc.cluster.local.", "A 10.96.1.2")],
    ),
    names(
        "M1",
        "the cluster's names are answered over UDP and TCP",
        "e2e dns, DNS for the cluster",
        &NAMES,
        &[
            ask(A, "kubernetes.default.svc.cluster.local.", "A 10.96.0.1"),
            ask(A, "kubernetes.default.svc.cluster.local.", "A 10.96.0.1").over_tcp(),
            ask(A, "kubernetes.default", "A 10.96.0.1").by("other.shop"),
        ],
    ),
    names(
        "M2",
        "named ports have SRV records, and addresses have PTR records",
        "e2e dns, DNS for services",
        &NAMES,
        &[
            ask(Srv, "_http._tcp.web.default.svc.cluster.local.", "SRV 0 100 80 web.default.svc.cluster.local"),
            ask(
                Srv,
                "_http._tcp.set.default.svc.cluster.local.",
                "SRV 0 50 80 10-244-1-10.set.default.svc.cluster.local, SRV 0 50 80 first.set.default.svc.cluster.local",
            )
            .over_tcp(),
            ask(Srv, "_ftp._tcp.web.default.svc.cluster.local.", NXDOMAIN),
            ask(Ptr, "1.1.96.10.in-addr.arpa.", "PTR web.default.svc.cluster.local"),
            ask(Ptr, "2.1.96.10.in-addr.arpa.", "PTR till.shop.svc.cluster.local").over_tcp(),
        ],
    ),
    names(
        "M3",
        "the search list makes a whole name of a Service's short forms",
        "e2e dns, partial qualified names",
        &NAMES,
        &[
            ask(A, "web", WEB),
            ask(A, "web.default", WEB),
            ask(A, "web.default.svc", WEB),
            ask(A, "web.default.svc.cluster.local", WEB),
            ask(A, "web", "NXDOMAIN").by("other.shop"),
            ask(A, "web.default", WEB).by("other.shop"),
            ask(A, "till", "A 10.96.1.2").by("other.shop"),
        ],
    ),
    names(
        "M4",
        "a pod with hostname and subdomain has a name below that headless Service",
        "e2e dns, Hostname and Subdomain",
        &NAMES,
        &[
            ask(A, "first.set.default.svc.cluster.local.", "A 10.244.2.10"),
            ask(A, "first.set", "A 10.244.2.10"),
            ask(A, "10-244-1-10.set.default.svc.cluster.local.", "A 10.244.1.10"),
            ask(A, "10-244-2-10.set.default.svc.cluster.local.", NXDOMAIN),
        ],
    ),
    names(
        "M5",
        "a pod with resolver settings of its own has only these",
        "e2e dns, configurable pod DNS",
        &NAMES,
        &[
            ask(A, "till", "A 10.96.1.2").by("own"),
            ask(A, "web", "NXDOMAIN").by("own"),
            ask(A, "web.default.svc.cluster.local", WEB).by("own"),
        ],
    ),
    names(
        "M7",
        "a name without an address of the family is there (NODATA), one that nobody has is not (NXDOMAIN)",
        "core commonDnsTestCases",
        &NAMES,
        &[
            ask(Aaaa, "web.default.svc.cluster.local.", NODATA),
            ask(Aaaa, "set.default.svc.cluster.local.", NODATA),
            ask(A, "nobody.default.svc.cluster.local.", NXDOMAIN),
            ask(A, "web.nowhere.svc.cluster.local.", NXDOMAIN),
            ask(A, "default.svc.cluster.local.", NODATA),
            ask(A, "nowhere.svc.cluster.local.", NXDOMAIN),
            ask(A, "nobody.cluster.local.", NXDOMAIN),
        ],
    ),
    names(
        "M9",
        "names are compared without regard to case, and come back as they were asked",
        "core handler_case_test",
        &NAMES,
        &[ask(A, "WEB.Default.svc.CLUSTER.local.", WEB), ask(A, "Web", WEB).over_tcp()],
    ),
    names(
        "M10",
        "an address of a pod is a name, and nobody looks whether there is such a pod",
        "core handler_pod_insecure_test",
        &NAMES,
        &[
            ask(A, "10-0-0-5.default.pod.cluster.local.", "A 10.0.0.5"),
            ask(A, "10-0-0-5.nowhere.pod.cluster.local.", NXDOMAIN),
            ask(A, "ten.default.pod.cluster.local.", NXDOMAIN),
        ],
    ),
    names(
        "M13",
        "dns-version says which specification is followed, for eight hours",
        "core",
        &NAMES,
        &[ask(Txt, "dns-version.cluster.local.", "TXT \"1.1.0\"").lasts(28800)],
    ),
    names(
        "M15",
        "a pod that is being deleted has no name any more",
        "CoreDNS, conversion of endpoints",
        &NAMES,
        &[
            ask(A, "leaving-set.default.svc.cluster.local.", NXDOMAIN),
            ask(A, "leaving.default.svc.cluster.local.", "A 10.96.1.3"),
        ],
    ),
    paths(
        "M15-proxy",
        "and is served all the same, for want of another",
        "CoreDNS, conversion of endpoints",
        &NAMES,
        &[tcp("a1", "10.96.1.3:80").kept("leaving"), tcp("a2", "10.96.1.3:80").kept("leaving")],
    ),
    names(
        "M16",
        "names of the cluster last for 30 seconds, however long ago they were asked for",
        "kubeadm's Corefile",
        &NAMES,
        &[
            ask(A, "web.default.svc.cluster.local.", WEB).lasts(30),
            ask(A, "set.default.svc.cluster.local.", SET).lasts(30),
            ask(Srv, "_http._tcp.web.default.svc.cluster.local.", "SRV 0 100 80 web.default.svc.cluster.local").lasts(30),
        ],
    ),
    names(
        "M17",
        "other names are the upstream's to answer, and so are those that do not exist",
        "e2e dns_configmap",
        &NAMES,
        &[
            ask(A, "foo.example.com", "A 198.51.100.7, A 198.51.100.8"),
            ask(A, "foo.example.com.", "A 198.51.100.7, A 198.51.100.8").over_tcp(),
            ask(A, "nobody.example.com.", "NXDOMAIN"),
            ask(A, "foo.example.com", "A 198.51.100.7, A 198.51.100.8").by("node1"),
        ],
    ),
    names(
        "M18",
        "where the upstream is gone, other names are a server failure, and the cluster's are there",
        "derived",
        &NO_UPSTREAM,
        &[
            ask(A, "web.default.svc.cluster.local.", WEB),
            ask(A, "set", SET),
            ask(A, "nobody.default.svc.cluster.local.", NXDOMAIN),
            ask(A, "away.default.svc.cluster.local.", "CNAME foo.example.com"),
            ask(A, "foo.example.com.", "SERVFAIL"),
        ],
    ),
];
