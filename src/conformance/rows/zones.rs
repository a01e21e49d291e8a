//! Traffic distribution.

use super::{super::labs::ZONES, Row, Seen, Source, paths, tcp};

pub(super) const ROWS: &[Row] = &[
    paths(
        "H11",
        "PreferSameZone: a zone's clients go to its endpoints, and from a zone without any to all",
        "e2e traffic_distribution, PreferClose/PreferSameZone",
        &ZONES,
        &[
            tcp("a1", "10.96.1.1:80").kept("b1"),
            tcp("a2", "10.96.1.1:80").kept("b2"),
            tcp("a3", "10.96.1.1:80").kept("b1 b2"),
            tcp("a4", "10.96.1.1:80").kept("b2"),
            tcp("node3", "10.96.1.1:80").masked("b1 b2"),
            tcp("node1", "10.96.1.1:80").masked("b1"),
        ],
    ),
    paths(
        "own-zone-node-port",
        "PreferSameZone holds for traffic from outside as well, by the node that it comes to",
        "contract 1.3",
        &ZONES,
        &[
            tcp("x", "10.30.45.11:30080").masked("b1"),
            tcp("x", "10.30.45.12:30080").masked("b2"),
            tcp("x", "10.30.45.13:30080").masked("b1 b2"),
        ],
    ),
    paths(
        "H12",
        "any endpoint of the zone serves, on whatever node",
        "e2e traffic_distribution, pods on multiple nodes",
        &ZONES,
        &[
            tcp("a2", "10.96.1.2:80").kept("c2 c4"),
            tcp("a4", "10.96.1.2:80").kept("c2 c4"),
            tcp("a1", "10.96.1.2:80").kept("c1"),
            tcp("a3", "10.96.1.2:80").kept("c1 c2 c4"),
        ],
    ),
    paths(
        "H13",
        "PreferSameNode: a node's clients go to its endpoints, then to the zone's, then to all",
        "e2e traffic_distribution; KEP-3015",
        &ZONES,
        &[
            tcp("a1", "10.96.1.3:80").kept("b1"),
            tcp("a2", "10.96.1.3:80").kept("b2"),
            tcp("a4", "10.96.1.3:80").kept("b2"),
            tcp("a3", "10.96.1.3:80").kept("b1 b2"),
        ],
    ),
    paths(
        "own-zone-local",
        "the policy Local does not look at zones",
        "contract 1.3",
        &ZONES,
        &[
            tcp("a2", "10.96.1.4:80").sees(Seen::By("c2", Source::Kept)),
            tcp("a4", "10.96.1.4:80").kept("c4"),
            tcp("a3", "10.96.1.4:80").timeout(),
        ],
    ),
];
