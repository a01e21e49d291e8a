//! Services that nothing is behind.

use super::{super::labs::EMPTY, Row, Seen, paths, tcp, udp};

pub(super) const ROWS: &[Row] = &[
    paths(
        "J1",
        "the ClusterIP of a Service without endpoints refuses",
        "e2e service, rejected when no endpoints exist",
        &EMPTY,
        &[tcp("a1", "10.96.1.1:80").refused(), tcp("node2", "10.96.1.1:80").refused()],
    ),
    paths(
        "J2",
        "so it does over UDP",
        "pf TestNoEndpointsReject",
        &EMPTY,
        &[udp("a1", "10.96.1.1:80").refused(), udp("node1", "10.96.1.1:80").refused()],
    ),
    paths(
        "J3",
        "so do its NodePort, its load balancer's address and its external IP",
        "pf TestNoEndpointsReject",
        &EMPTY,
        &[
            tcp("x", "10.30.45.11:30080").refused(),
            tcp("a1", "10.30.45.12:30080").refused(),
            tcp("node1", "10.30.45.12:30080").refused(),
            tcp("node1", "10.30.45.11:30080").refused(),
            udp("x", "10.30.45.11:30080").refused(),
            tcp("x", "203.0.113.1:80").refused(),
            tcp("a2", "203.0.113.1:80").refused(),
            tcp("x", "203.0.113.2:80").refused(),
            tcp("a1", "203.0.113.2:80").refused(),
        ],
    ),
    paths(
        "own-empty-node",
        "a node that asks an outer address without endpoints",
        "contract 2.2 and 3.7",
        &EMPTY,
        &[tcp("node1", "203.0.113.4:80").timeout().nft(Seen::Refused)],
    ),
    paths(
        "own-empty-fenced",
        "a client outside the source ranges of a Service without endpoints",
        "contract 3.7, source ranges and no endpoints",
        &EMPTY,
        &[
            tcp("x", "203.0.113.3:80").refused().nft(Seen::Timeout),
            tcp("a1", "203.0.113.3:80").refused().nft(Seen::Timeout),
        ],
    ),
    paths(
        "own-empty-local",
        "without any endpoint, the policy Local refuses as well",
        "contract 1.3",
        &EMPTY,
        &[
            tcp("a1", "10.96.1.3:80").refused(),
            tcp("x", "10.30.45.11:30082").refused(),
            tcp("a2", "10.30.45.12:30082").refused(),
        ],
    ),
    paths(
        "own-empty-other-port",
        "another port of its ClusterIP is as that of any Service",
        "contract 3.7",
        &EMPTY,
        &[tcp("a1", "10.96.1.2:81").timeout().nft(Seen::Refused)],
    ),
];
