//! What a cluster changes while it runs: shown by a lab that is brought up in the place of another.

use super::{
    super::labs::{AFTER, BEFORE, EARLY, LATE},
    Path, Proof, Row, Seen, Source, tcp, udp,
};

/// The port that a client of datagrams sends from, before and after.
const PORT: u16 = 53_535;

/// A row whose proof is a lab that takes the place of another. (A reference to a lab keeps what is
/// handed to a function from living long enough.)
macro_rules! restarted {
    ($id:literal, $behaviour:literal, $source:literal, $acts:expr $(,)?) => {
        Row { id: $id, behaviour: $behaviour, source: $source, proof: Proof::Restarted($acts) }
    };
}

/// A client of datagrams that keeps its port finds the pod that has taken the other's place.
macro_rules! turn {
    ($from:literal, $to:literal, $sees:ident) => {
        &[
            (&BEFORE, &[udp($from, $to).sent_from(PORT).$sees("b1")]),
            (&AFTER, &[udp($from, $to).sent_from(PORT).$sees("c1")]),
        ]
    };
}

impl Path {
    /// The same datagram's client has been there before: one of these answers, and stays the one.
    const fn one_of(self, by: &'static str) -> Path {
        self.sent_from(PORT).sees(Seen::Sticky(by, Source::Kept)).ladder(Seen::Sticky(by, Source::Node))
    }
}

pub(super) const ROWS: &[Row] = &[
    restarted!(
        "B16",
        "a deleted Service is gone, the others stay, and a new one is there",
        "e2e service, up and down services",
        &[
            (&BEFORE, &[tcp("a1", "10.96.1.1:80").kept("b1 b2a"), tcp("a2", "10.96.1.2:80").kept("b1 b2a")]),
            (
                &AFTER,
                &[
                    tcp("a1", "10.96.1.1:80").timeout(),
                    tcp("node2", "10.96.1.1:80").timeout(),
                    tcp("a2", "10.96.1.2:80").kept("b2a c1"),
                    tcp("a1", "10.96.1.3:80").kept("b2a c1"),
                ],
            ),
        ],
    ),
    restarted!(
        "C5",
        "a deleted Service's NodePort is closed",
        "e2e networking, update nodePort",
        &[
            (
                &BEFORE,
                &[tcp("x", "10.30.45.11:30080").masked("b1 b2a"), udp("x", "10.30.45.12:30080").masked("b1 b2a")],
            ),
            (
                &AFTER,
                &[
                    tcp("x", "10.30.45.11:30080").refused(),
                    udp("x", "10.30.45.12:30080").refused(),
                    tcp("a1", "10.30.45.12:30080").refused(),
                    tcp("x", "10.30.45.12:30082").masked("b2a c1"),
                ],
            ),
        ],
    ),
    restarted!(
        "G8",
        "a client whose endpoint is gone is given another one at once, and stays with that",
        "#110302",
        &[
            (&EARLY, &[tcp("a1", "10.96.1.5:80").kept("b1"), tcp("x", "10.30.45.11:30085").masked("b1")]),
            (
                &LATE,
                &[
                    tcp("a1", "10.96.1.5:80").sees(Seen::Sticky("b2a b2b", Source::Kept)),
                    tcp("x", "10.30.45.11:30085").sees(Seen::Sticky("b2a b2b", Source::Node)),
                ],
            ),
        ],
    ),
    restarted!(
        "K1",
        "a pod that is replaced is found, and the old one is not",
        "e2e networking, update endpoints",
        &[
            (&BEFORE, &[tcp("a1", "10.96.1.4:80").kept("b1"), udp("a2", "10.96.1.4:80").kept("b1")]),
            (&AFTER, &[tcp("a1", "10.96.1.4:80").kept("c1"), udp("a2", "10.96.1.4:80").kept("c1")]),
        ],
    ),
    restarted!(
        "L1",
        "a UDP client of a NodePort finds a replaced endpoint from the port that it has always had",
        "e2e conntrack, NodePort service",
        turn!("x", "10.30.45.12:30083", masked),
    ),
    restarted!(
        "L2",
        "so does one of a ClusterIP",
        "e2e conntrack, ClusterIP service",
        turn!("a2", "10.96.1.4:80", kept),
    ),
    restarted!(
        "L3",
        "so does one on a node",
        "e2e conntrack, client is hostNetwork",
        turn!("node2", "10.96.1.4:80", masked),
    ),
    restarted!(
        "L4",
        "a UDP client that was early finds the first endpoint",
        "e2e conntrack, which starts the client first",
        &[
            (
                &EARLY,
                &[
                    udp("a1", "10.96.1.6:80").sent_from(PORT).refused(),
                    udp("x", "10.30.45.11:30086").sent_from(PORT).refused(),
                ],
            ),
            (
                &LATE,
                &[
                    udp("a1", "10.96.1.6:80").sent_from(PORT).kept("l2"),
                    udp("x", "10.30.45.11:30086").sent_from(PORT).masked("l2"),
                ],
            ),
        ],
    ),
    restarted!("L7", "so it is at a load balancer's address", "#104009", turn!("x", "203.0.113.1:80", masked)),
    restarted!(
        "L9",
        "what is sent to a deleted UDP Service reaches no pod",
        "#141371",
        &[
            (&BEFORE, &[udp("a2", "10.96.1.1:80").one_of("b1 b2a")]),
            (&AFTER, &[udp("a2", "10.96.1.1:80").sent_from(PORT).timeout()]),
        ],
    ),
];
