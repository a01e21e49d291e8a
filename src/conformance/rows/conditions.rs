//! Pods that are not ready, or on their way out.

use super::{
    super::labs::{ALL_GONE, ALL_LEAVING, ALL_UNREADY, ONE_LEAVING},
    Row, WEB, paths, tcp,
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
        ],
    ),
    paths(
        "F5",
        "publishNotReadyAddresses: pods that are not ready serve",
        "e2e service, endpoints for unready pods",
        &ALL_UNREADY,
        &[tcp("a1", "10.96.1.3:80").direct(WEB), tcp("node1", "10.96.1.3:80").masked(WEB)],
    ),
    paths(
        "K2",
        "as long as there are ready pods, those that are being deleted are not used",
        "pf TestTerminatingEndpointsTrafficPolicyCluster",
        &ONE_LEAVING,
        &[
            tcp("a1", "10.96.1.1:80").direct("b2a b2b"),
            tcp("x", "10.30.45.11:30080").masked("b2a b2b"),
            tcp("a1", "10.96.1.2:80").direct("b1"),
            tcp("x", "10.30.45.11:30081").direct("b1"),
            tcp("x", "10.30.45.12:30081").direct("b2a b2b"),
        ],
    ),
    paths(
        "K3",
        "where all pods are being deleted, those that still answer are used",
        "e2e service, fallback to terminating endpoints",
        &ALL_LEAVING,
        &[
            tcp("a1", "10.96.1.1:80").direct("b1 b2a"),
            tcp("a2", "10.96.1.1:80").direct("b1 b2a"),
            tcp("a2", "10.96.1.2:80").direct("b2a"),
        ],
    ),
    paths(
        "K5",
        "so it is at NodePorts, under either policy",
        "e2e service, fallback with externalTrafficPolicy",
        &ALL_LEAVING,
        &[
            tcp("x", "10.30.45.11:30080").masked("b1 b2a"),
            tcp("x", "10.30.45.11:30081").direct("b1"),
            tcp("x", "10.30.45.12:30081").direct("b2a"),
        ],
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
