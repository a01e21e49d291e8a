//! Pods, nodes and machines outside, without any Service.

use super::{
    super::labs::{HOST_PORTS, PLAIN, ROUTED, SINGLE},
    Path, Row, Seen, Source, paths, tcp, udp,
};

pub(super) const ROWS: &[Row] = &[
    paths(
        "A1",
        "pods see each other's own address, whatever their nodes",
        "e2e no_snat",
        &PLAIN,
        &[
            tcp("a1", "10.244.2.10:80").direct("b2a"),
            tcp("a2", "10.244.1.10:80").direct("b1"),
            tcp("b1", "10.244.2.2:80").direct("a2"),
            tcp("b2a", "10.244.2.11:80").direct("b2b"),
            tcp("a1", "10.244.1.10:80").direct("b1"),
        ],
    ),
    paths(
        "A2",
        "pods reach pods over HTTP and UDP, on the same node and on another",
        "e2e networking, intra-pod communication",
        &PLAIN,
        &[
            tcp("a1", "10.244.1.10:80").direct("b1"),
            tcp("a1", "10.244.2.11:80").direct("b2b"),
            udp("a1", "10.244.1.10:80").direct("b1"),
            udp("a1", "10.244.2.11:80").direct("b2b"),
        ],
    ),
    paths(
        "A3",
        "nodes reach pods, and are seen under a node's address",
        "e2e networking, node-pod communication",
        &PLAIN,
        &[
            tcp("node1", "10.244.1.10:80").masked("b1"),
            tcp("node1", "10.244.2.10:80").masked("b2a"),
            tcp("node2", "10.244.1.10:80").masked("b1"),
            udp("node1", "10.244.2.10:80").masked("b2a"),
        ],
    ),
    paths(
        "A4",
        "a pod on its node's network serves as an endpoint",
        "e2e networking, service endpoints using hostNetwork",
        &SINGLE,
        &[
            tcp("a1", "10.96.1.2:80").direct("daemon"),
            tcp("a2", "10.96.1.2:80").kept("daemon"),
            udp("a2", "10.96.1.2:80").kept("daemon"),
            tcp("node2", "10.96.1.2:80").masked("daemon"),
            udp("node1", "10.96.1.2:80").masked("daemon"),
            tcp("a2", "10.30.45.12:30081").masked("daemon"),
            tcp("x", "10.30.45.12:30081").masked("daemon"),
            udp("x", "10.30.45.12:30081").masked("daemon"),
        ],
    ),
    paths(
        "A5",
        "2000 bytes pass through a Service, in fragments where they must",
        "e2e networking, large requests",
        &PLAIN,
        &[
            tcp("a1", "10.96.1.1:80").kept(super::WEB).large(2000),
            udp("a1", "10.96.1.1:80").kept(super::WEB).large(2000),
            udp("x", "10.30.45.11:30080").masked(super::WEB).large(2000),
        ],
    ),
    paths(
        "A6",
        "host ports with the same number differ by address and protocol",
        "e2e hostport",
        &HOST_PORTS,
        &[
            tcp("x", "10.30.45.11:8080").direct("h1"),
            tcp("node1", "127.0.0.1:8080").masked("h2").nft(Seen::Refused),
            udp("x", "10.30.45.11:8080").direct("h3"),
            tcp("x", "10.30.45.12:8080").direct("h4"),
        ],
    ),
    paths(
        "own-hostport-pods",
        "a host port serves pods too, which are masqueraded if the endpoint is on their node",
        "CNI portmap plugin",
        &HOST_PORTS,
        &[
            tcp("a2", "10.30.45.11:8080").direct("h1"),
            tcp("a1", "10.30.45.11:8080").masked("h1"),
            tcp("h1", "10.30.45.11:8080").masked("h1"),
            tcp("node2", "10.30.45.11:8080").masked("h1"),
        ],
    ),
    paths(
        "own-hostport-other",
        "a host port on one address is closed on the others",
        "CNI portmap plugin",
        &HOST_PORTS,
        &[tcp("x", "10.30.45.11:8081").refused(), udp("x", "10.30.45.12:8080").refused()],
    ),
    paths(
        "A7",
        "an SCTP host port does no harm to the others",
        "e2e networking, SCTP HostPort",
        &HOST_PORTS,
        &[tcp("x", "10.30.45.12:8080").direct("h4"), tcp("x", "10.30.45.12:8081").refused()],
    ),
    paths(
        "own-egress",
        "a pod that leaves the cluster has its node's address",
        "networking model; kernel notes 1",
        &PLAIN,
        &[tcp("a1", "192.0.2.10:80").masked("x"), tcp("b2a", "10.30.45.1:80").masked("host")],
    ),
    paths(
        "own-pod-node",
        "a pod that asks a node is seen under its own address",
        "networking model",
        &SINGLE,
        &[
            tcp("a1", "10.30.45.11:8888").direct("daemon"),
            tcp("a2", "10.30.45.11:8888").direct("daemon"),
            tcp("a2", "10.30.45.12:8888").refused(),
        ],
    ),
    paths(
        "own-closed",
        "a pod refuses a port on which it does not listen",
        "TCP",
        &PLAIN,
        &[tcp("a1", "10.244.2.10:4444").refused(), udp("a1", "10.244.2.10:4444").refused()],
    ),
    paths(
        "own-outside-pods",
        "pods' addresses mean nothing outside the cluster",
        "networking model",
        &PLAIN,
        &[tcp("x", "10.244.1.10:80").timeout(), tcp("host", "10.244.1.10:80").sees(Seen::Unreachable)],
    ),
    paths("own-routed", "pods behind routed veths need no bridge", "kernel notes 1 and 2", &ROUTED, ROUTED_PATHS),
];

const ROUTED_PATHS: &[Path] = &[
    tcp("a1", "10.244.1.10:80").direct("b1"),
    tcp("a1", "10.96.1.1:80").kept("b1"),
    tcp("a2", "10.96.1.1:80").kept("b1"),
    tcp("b1", "10.96.1.1:80").sees(Seen::By("b1", Source::Node)),
    tcp("b1", "10.30.45.11:30080").masked("b1"),
    tcp("x", "10.30.45.11:30080").masked("b1"),
    tcp("x", "10.30.45.12:30080").masked("b1"),
];
