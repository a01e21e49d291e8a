//! Session affinity.

use super::{
    super::labs::{FORGETFUL, STICKY},
    Path, Proof, Row, Seen, Source, WEB, paths, tcp, udp,
};

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
        behaviour: "a client that has been gone for longer than the timeout may be given another endpoint; each new \
                    connection begins it anew",
        source: "e2e service, session affinity timeout",
        proof: Proof::Forgets(
            &FORGETFUL,
            &[
                tcp("a1", "10.96.1.1:80").sticky(WEB, Source::Kept),
                tcp("node2", "10.96.1.1:80").sticky(WEB, Source::Node),
                tcp("x", "10.30.45.11:30080").sticky(WEB, Source::Node),
            ],
            2,
        ),
    },
];
