//! SCTP, which rules treat as they treat TCP and UDP.

use super::{
    super::labs::{SCTP, SCTP_NEAR},
    Row, Seen, WEB, paths, sctp,
};

pub(super) const ROWS: &[Row] = &[
    paths(
        "own-sctp",
        "an SCTP Service is served, at its ClusterIP, its NodePort and its load balancer's address",
        "pf TestClusterIPGeneral",
        &SCTP,
        &[
            sctp("a1", "10.244.2.10:80").direct("b2a"),
            sctp("a1", "10.96.1.1:53").kept(WEB),
            sctp("node2", "10.96.1.1:53").masked(WEB),
            sctp("b1", "10.96.1.1:53").among(WEB),
            sctp("x", "10.30.45.11:30080").masked(WEB),
            sctp("a2", "10.30.45.11:30080").masked(WEB),
            sctp("x", "203.0.113.1:53").masked(WEB),
        ],
    ),
    paths(
        "own-sctp-else",
        "and nothing else is at its address",
        "contract 3.7",
        &SCTP,
        &[sctp("a1", "10.96.1.1:54").timeout().nft(Seen::Refused)],
    ),
    paths(
        "own-sctp-local",
        "under the policy Local it is served by the node's own endpoint only, which sees the client",
        "contract 1.4",
        &SCTP_NEAR,
        &[sctp("x", "10.30.45.11:30080").direct("b1"), sctp("x", "10.30.45.12:30080").timeout()],
    ),
    paths(
        "own-sctp-empty",
        "one without endpoints refuses",
        "pf TestNoEndpointsReject",
        &SCTP_NEAR,
        &[sctp("a1", "10.96.1.2:53").refused(), sctp("a2", "10.96.1.2:53").refused()],
    ),
];
