//! Pods that are not ready, or on their way out.

use super::{
    super::labs::{
        ALL_GONE, ALL_LEAVING, ALL_LEAVING_NEAR, ALL_UNREADY, ONE_LEAVING, ONE_LEAVING_NEAR, ONE_OF_EACH,
        ONE_OF_EACH_NEAR, PUBLISHED,
    },
    Health, Proof, Row, WEB, paths, tcp, udp,
};

pub(super) const ROWS: &[Row] = &[
    paths(
        "J5",
        "a Service whose pods are all unready refuses",
        "pf TestTerminatingEndpoints, no usable endpoints on any node",
        &ALL_UNREADY,
        &[
            tcp("a1", "10.96.1.1:80").refused(),
            tcp("x", "10.30.45.12:30080").refused(),
            tcp("a1", "10.96.1.2:80").refused(),
            tcp("x", "10.30.45.11:30081").refused(),
            udp("a2", "10.96.1.1:80").refused(),
        ],
    ),
    paths(
        "own-unready-runs",
        "a pod that is not ready, or is being deleted, runs all the same and is reached at its own address",
        "contract 1.2",
        &ONE_OF_EACH,
        &[
            tcp("a1", "10.244.2.11:80").direct("b2b"),
            tcp("a2", "10.244.2.10:80").direct("b2a"),
            tcp("b2b", "10.244.1.10:80").direct("b1"),
            tcp("node1", "10.244.2.11:80").direct("b2b"),
            udp("a1", "10.244.2.11:80").direct("b2b"),
        ],
    ),
    paths(
        "own-unready-left-out",
        "one ready pod is enough for the others to be left out",
        "contract 1.3",
        &ONE_OF_EACH,
        &[
            tcp("a2", "10.96.1.1:80").kept("b1"),
            udp("a2", "10.96.1.1:80").kept("b1"),
            tcp("x", "10.30.45.12:30080").masked("b1"),
            tcp("b2b", "10.96.1.1:80").kept("b1"),
            tcp("b2a", "10.30.45.12:30080").masked("b1"),
        ],
    ),
    paths(
        "F5",
        "publishNotReadyAddresses: pods that are not ready serve, and those that are being deleted",
        "e2e service, endpoints for unready pods",
        &PUBLISHED,
        &[
            tcp("a1", "10.96.1.3:80").kept(WEB),
            tcp("node1", "10.96.1.3:80").masked(WEB),
            tcp("x", "10.30.45.11:30082").masked(WEB),
        ],
    ),
    paths(
        "K2",
        "as long as there are ready pods, those that are being deleted are not used",
        "pf TestTerminatingEndpointsTrafficPolicyCluster",
        &ONE_LEAVING,
        &[tcp("a1", "10.96.1.1:80").kept("b2a b2b"), tcp("x", "10.30.45.11:30080").masked("b2a b2b")],
    ),
    paths(
        "K2-local",
        "under the policy Local that is so on each node by itself",
        "pf TestTerminatingEndpointsTrafficPolicyLocal",
        &ONE_LEAVING_NEAR,
        &[
            tcp("a1", "10.96.1.1:80").direct("b2a b2b"),
            tcp("a1", "10.96.1.2:80").direct("b1"),
            tcp("a2", "10.96.1.2:80").direct("b2a b2b"),
            tcp("x", "10.30.45.11:30081").direct("b1"),
            tcp("x", "10.30.45.12:30081").direct("b2a b2b"),
        ],
    ),
    paths(
        "own-leaving-balancer",
        "so a node may serve whom its health check keeps the load balancer from",
        "contract 1.3 and 1.6",
        &ONE_OF_EACH_NEAR,
        &[
            tcp("x", "203.0.113.1:80").direct("b1"),
            tcp("x", "10.30.45.12:30081").direct("b2a"),
            tcp("a2", "10.30.45.12:30081").direct("b1"),
            tcp("a2", "10.96.1.2:80").direct("b2a"),
        ],
    ),
    paths(
        "K3",
        "where all pods are being deleted, those that still answer are used",
        "e2e service, fallback to terminating endpoints",
        &ALL_LEAVING,
        &[
            tcp("a1", "10.96.1.1:80").kept("b1 b2a"),
            tcp("a2", "10.96.1.1:80").kept("b1 b2a"),
            udp("a2", "10.96.1.1:80").kept("b1 b2a"),
            tcp("node2", "10.96.1.1:80").masked("b1 b2a"),
            tcp("b1", "10.96.1.1:80").among("b1 b2a"),
        ],
    ),
    paths(
        "K5",
        "so it is at NodePorts",
        "e2e service, fallback with externalTrafficPolicy Cluster",
        &ALL_LEAVING,
        &[
            tcp("x", "10.30.45.11:30080").masked("b1 b2a"),
            tcp("host", "10.30.45.12:30080").masked("b1 b2a"),
            tcp("a2", "10.30.45.12:30080").masked("b1 b2a"),
        ],
    ),
    paths(
        "K5-local",
        "and under the policy Local, where a node uses its own",
        "e2e service, fallback with externalTrafficPolicy Local and internalTrafficPolicy Local",
        &ALL_LEAVING_NEAR,
        &[
            tcp("a1", "10.96.1.2:80").direct("b1"),
            tcp("a2", "10.96.1.2:80").direct("b2a"),
            tcp("x", "10.30.45.11:30081").direct("b1"),
            tcp("x", "10.30.45.12:30081").direct("b2a"),
        ],
    ),
    Row {
        id: "D12",
        behaviour: "the health check fails where all endpoints are being deleted, though they are used (K5-local)",
        source: "e2e service, health check node port with only terminating endpoints",
        proof: Proof::Health(
            &ALL_LEAVING_NEAR,
            &[
                Health { from: "x", to: "10.30.45.11:32000", status: 503, says: "\"localEndpoints\":0" },
                Health { from: "a1", to: "10.30.45.12:32000", status: 503, says: "\"localEndpoints\":0" },
            ],
        ),
    },
    paths(
        "own-leaving-unbalanced",
        "then the load balancer has no node to send anything to",
        "contract 1.6",
        &ALL_LEAVING_NEAR,
        &[tcp("x", "203.0.113.1:80").timeout(), tcp("a1", "203.0.113.1:80").direct("b1 b2a")],
    ),
    paths(
        "K7",
        "pods that are being deleted and do not answer are not used",
        "e2e service, terminating and unready endpoints",
        &ALL_GONE,
        &[
            tcp("a1", "10.96.1.1:80").refused(),
            tcp("x", "10.30.45.11:30080").refused(),
            tcp("a2", "10.96.1.2:80").refused(),
            tcp("a2", "10.30.45.12:30081").refused(),
        ],
    ),
];
