//! Session affinity.

use super::{super::labs::STICKY, Path, Proof, Row, Seen, Source, WEB, paths, tcp, udp};

impl Path {
    const fn sticky(self, by: &'static str, source: Source) -> Path {
        self.sees(Seen::Sticky(by, source))
    }
}

pub(super) const ROWS: &[Row] = &[
    paths(
        "G1",
        "a client stays with its endpoint, over TCP and UDP",
        "e2e service, session affinity for clusterIP",
        &STICKY,
        &[
            tcp("a1", "10.96.1.1:80").sticky(WEB, Source::Kept),
            udp("a1", "10.96.1.1:80").sticky(WEB, Source::Kept),
            tcp("node1", "10.96.1.1:80").sticky(WEB, Source::Node),
        ],
    ),
    paths(
        "G2",
        "so it does at a NodePort",
        "e2e service, session affinity for NodePort",
        &STICKY,
        &[
            tcp("x", "10.30.45.11:30080").sticky(WEB, Source::Node),
            tcp("host", "10.30.45.12:30080").sticky(WEB, Source::Node),
            udp("x", "10.30.45.11:30080").sticky(WEB, Source::Node),
        ],
    ),
    paths(
        "G3",
        "so it does at a load balancer's address, and under the policy Local",
        "e2e loadbalancer; #55429",
        &STICKY,
        &[
            tcp("x", "203.0.113.1:80").sticky(WEB, Source::Node),
            tcp("x", "10.30.45.12:30081").sticky("b2a b2b", Source::Kept),
        ],
    ),
    paths(
        "own-sticky-itself",
        "a backend that is its own endpoint stays with itself, or with another",
        "contract 1.4 and 1.5",
        &STICKY,
        &[
            tcp("b1", "10.96.1.1:80").sticky(WEB, Source::Either),
            tcp("b2a", "10.96.1.2:80").sticky(WEB, Source::Either),
        ],
    ),
    Row {
        id: "G5",
        behaviour: "after its time the client may be given another endpoint",
        source: "e2e service, session affinity timeout",
        proof: Proof::NotYet(
            "it would have to wait; the timeout of each set and list is asserted in the rendered rules",
        ),
    },
    Row {
        id: "G8",
        behaviour: "a client whose endpoint is gone is given another one at once",
        source: "#110302",
        proof: Proof::NotYet("endpoints do not come and go in a running lab"),
    },
];
