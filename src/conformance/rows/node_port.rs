//! NodePorts.

use super::{
    super::labs::{FENCED, PLAIN, SINGLE},
    Row, Seen, WEB, paths, tcp, udp,
};

pub(super) const ROWS: &[Row] = &[
    paths(
        "C1",
        "a NodePort is served on every node, wherever the endpoint is",
        "e2e service, functioning NodePort service",
        &SINGLE,
        &[
            tcp("x", "10.30.45.11:30080").masked("b1"),
            tcp("x", "10.30.45.12:30080").masked("b1"),
            tcp("a1", "10.30.45.12:30080").masked("b1"),
            tcp("a2", "10.30.45.11:30080").masked("b1"),
            tcp("node1", "10.30.45.12:30080").masked("b1"),
            tcp("node2", "10.30.45.11:30080").masked("b1"),
            tcp("host", "10.30.45.12:30080").masked("b1"),
        ],
    ),
    paths(
        "C2",
        "a machine outside is masqueraded under the policy Cluster",
        "pf TestExternalTrafficPolicyCluster",
        &PLAIN,
        &[tcp("x", "10.30.45.11:30080").masked(WEB), tcp("x", "10.30.45.12:30080").masked(WEB)],
    ),
    paths(
        "C3",
        "a pod is masqueraded on its way through a NodePort",
        "pf TestExternalTrafficPolicyCluster",
        &PLAIN,
        &[
            tcp("a1", "10.30.45.11:30080").masked(WEB),
            tcp("a1", "10.30.45.12:30080").masked(WEB),
            tcp("b1", "10.30.45.11:30080").masked(WEB),
            tcp("b1", "10.30.45.12:30080").masked(WEB),
        ],
    ),
    paths(
        "C4",
        "a UDP NodePort serves machines outside and nodes",
        "e2e networking, basic nodePort: udp",
        &PLAIN,
        &[
            udp("x", "10.30.45.11:30080").masked(WEB),
            udp("x", "10.30.45.12:30080").masked(WEB),
            udp("node1", "10.30.45.11:30080").masked(WEB),
            udp("node1", "10.30.45.12:30080").masked(WEB),
        ],
    ),
    paths(
        "own-node-own",
        "a node reaches its own NodePort at its own address",
        "contract 1.4",
        &PLAIN,
        &[tcp("node1", "10.30.45.11:30080").masked(WEB), tcp("node2", "10.30.45.12:30080").masked(WEB)],
    ),
    paths(
        "C7",
        "a NodePort on the node's 127.0.0.1",
        "e2e localhost_nodeports; KEP-3866",
        &PLAIN,
        &[
            tcp("node1", "127.0.0.1:30080").masked(WEB).nft(Seen::Refused),
            tcp("node2", "127.0.0.1:30080").masked(WEB).nft(Seen::Refused),
        ],
    ),
    paths(
        "own-loopback-net",
        "a NodePort on another address of the loopback network",
        "contract 2.3; kernel notes 1",
        &PLAIN,
        &[tcp("node1", "127.0.0.5:30080").masked(WEB).nft(Seen::Refused).ladder(Seen::Refused)],
    ),
    paths(
        "own-bridge-address",
        "a NodePort on the address of the node's bridge",
        "contract 3.7, default NodePort addresses",
        &PLAIN,
        &[
            tcp("a1", "10.244.1.1:30080").masked(WEB).nft(Seen::Refused).ladder(Seen::Refused),
            tcp("node1", "10.244.1.1:30080").masked(WEB).nft(Seen::Refused).ladder(Seen::Refused),
        ],
    ),
    paths(
        "C8",
        "a NodePort that no Service has is closed",
        "pf TestNodePorts",
        &PLAIN,
        &[
            tcp("x", "10.30.45.11:31999").refused(),
            tcp("a1", "10.30.45.12:31999").refused(),
            tcp("node1", "127.0.0.1:31999").refused(),
            udp("x", "10.30.45.12:31999").refused(),
        ],
    ),
    paths(
        "own-node-port-protocol",
        "a TCP NodePort is closed for UDP",
        "contract 3.2",
        &PLAIN,
        &[udp("x", "10.30.45.11:30085").refused(), udp("node2", "10.30.45.11:30086").refused()],
    ),
    paths(
        "own-node-port-on-cluster-ip",
        "a NodePort is not to be had at the ClusterIP",
        "contract 2.4",
        &PLAIN,
        &[tcp("a1", "10.96.1.5:30085").timeout().nft(Seen::Refused)],
    ),
    paths(
        "own-port-on-node",
        "nor the Service's port at the node",
        "contract 2.4",
        &PLAIN,
        &[tcp("x", "10.30.45.11:80").refused(), tcp("a2", "10.30.45.11:80").refused()],
    ),
    paths(
        "own-node-port-each",
        "each port of a Service has its own NodePort",
        "contract 7.2",
        &PLAIN,
        &[tcp("x", "10.30.45.11:30085").masked(WEB), tcp("x", "10.30.45.11:30086").masked(WEB)],
    ),
    paths(
        "own-node-port-host-network",
        "a NodePort leads to a pod on another node's network",
        "as A4",
        &SINGLE,
        &[
            tcp("x", "10.30.45.11:30081").direct("daemon").ladder(Seen::By("daemon", super::Source::Kept)),
            tcp("node2", "10.30.45.11:30081").masked("daemon"),
        ],
    ),
    paths(
        "C10",
        "a NodePort is not fenced by loadBalancerSourceRanges",
        "pf TestLoadBalancer, nodePort bypasses LoadBalancerSourceRanges",
        &FENCED,
        &[
            tcp("y", "10.30.45.11:30081").masked(WEB),
            tcp("y", "10.30.45.12:30081").masked(WEB),
            tcp("a1", "10.30.45.11:30081").masked(WEB),
        ],
    ),
    paths(
        "C15",
        "one NodePort number serves TCP and UDP of a Service",
        "e2e service, same port number but different protocols",
        &PLAIN,
        &[tcp("x", "10.30.45.12:30080").masked(WEB), udp("x", "10.30.45.12:30080").masked(WEB)],
    ),
];
