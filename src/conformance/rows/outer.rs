//! Load balancers' addresses and external IPs.

use super::{
    super::labs::{FENCED, PLAIN, POLICY},
    Health, Proof, Row, WEB, paths, tcp, udp,
};

pub(super) const ROWS: &[Row] = &[
    paths(
        "D1",
        "a load balancer's address is served by whichever node its packets come to",
        "pf TestExternalTrafficPolicyCluster",
        &PLAIN,
        &[
            tcp("x", "203.0.113.1:80").masked(WEB),
            udp("x", "203.0.113.1:80").masked(WEB),
            tcp("host", "203.0.113.1:80").masked(WEB),
        ],
    ),
    paths(
        "own-vip-inside",
        "pods and nodes reach it without leaving their node, masqueraded",
        "contract 1.4",
        &PLAIN,
        &[
            tcp("a1", "203.0.113.1:80").masked(WEB),
            tcp("a2", "203.0.113.1:80").masked(WEB),
            tcp("b1", "203.0.113.1:80").masked(WEB),
            tcp("node2", "203.0.113.1:80").masked(WEB),
            udp("a2", "203.0.113.1:80").masked(WEB),
        ],
    ),
    paths(
        "D3",
        "source ranges let their clients through, at every address",
        "pf TestLoadBalancer",
        &FENCED,
        &[tcp("x", "203.0.113.2:80").masked(WEB), tcp("x", "203.0.113.3:80").masked(WEB)],
    ),
    paths(
        "D4",
        "source ranges silence all others",
        "pf TestLoadBalancer",
        &FENCED,
        &[tcp("y", "203.0.113.2:80").timeout(), tcp("y", "203.0.113.3:80").timeout()],
    ),
    paths(
        "D5",
        "pods obey source ranges",
        "pf TestLoadBalancer, pod to LB1 (blocked)",
        &FENCED,
        &[
            tcp("a1", "203.0.113.2:80").timeout(),
            tcp("a2", "203.0.113.3:80").timeout(),
            tcp("b1", "203.0.113.2:80").timeout(),
        ],
    ),
    paths(
        "D6",
        "so do nodes: one in the ranges is let through, another is not",
        "pf TestLoadBalancer",
        &FENCED,
        &[tcp("node1", "203.0.113.2:80").masked(WEB), tcp("node2", "203.0.113.2:80").timeout()],
    ),
    paths(
        "own-ranges-cluster-ip",
        "source ranges do not fence the ClusterIP",
        "contract 1.4",
        &FENCED,
        &[tcp("a1", "10.96.1.2:80").kept(WEB), tcp("node2", "10.96.1.2:80").masked(WEB)],
    ),
    paths(
        "D9",
        "without node ports, the load balancer's address is served all the same",
        "e2e loadbalancer, LoadBalancer Service without NodePort",
        &PLAIN,
        &[tcp("x", "203.0.113.4:80").masked(WEB), tcp("a1", "203.0.113.4:80").masked(WEB)],
    ),
    paths(
        "D10",
        "an external IP that no node has is served to pods and nodes",
        "e2e service, ExternalIP not assigned to a node",
        &PLAIN,
        &[tcp("a1", "203.0.113.11:8000").masked(WEB), tcp("node1", "203.0.113.11:8000").masked(WEB)],
    ),
    paths(
        "own-external-node",
        "an external IP that a node has is served to the world",
        "pf TestExternalIPs",
        &PLAIN,
        &[
            tcp("x", "10.30.45.12:8000").masked(WEB),
            tcp("a1", "10.30.45.12:8000").masked(WEB),
            tcp("node1", "10.30.45.12:8000").masked(WEB),
            tcp("node2", "10.30.45.12:8000").masked(WEB),
        ],
    ),
    paths(
        "own-external-other-port",
        "an external IP at another port is the node's own business",
        "contract 2.4",
        &PLAIN,
        &[tcp("x", "10.30.45.12:8001").refused(), tcp("x", "10.30.45.11:8000").refused()],
    ),
    paths(
        "own-balancer",
        "the load balancer spreads what comes to its addresses over the nodes",
        "e2e loadbalancer",
        &PLAIN,
        &[tcp("x", "203.0.113.11:8000").masked(WEB), tcp("host", "203.0.113.11:8000").masked(WEB)],
    ),
    paths(
        "own-balancer-local",
        "under the policy Local it uses only nodes with endpoints, which see the client's own address",
        "e2e loadbalancer, only target nodes with endpoints",
        &POLICY,
        &[tcp("x", "203.0.113.5:80").direct("b1"), udp("x", "203.0.113.5:80").direct("b1")],
    ),
    Row {
        id: "D11",
        behaviour: "nodes tell a load balancer whether they have endpoints of a Service",
        source: "e2e loadbalancer; contract 1.6",
        proof: Proof::Health(
            &POLICY,
            &[
                Health { from: "x", to: "10.30.45.11:32000", status: 200, says: "\"localEndpoints\":1" },
                Health { from: "x", to: "10.30.45.12:32000", status: 503, says: "\"localEndpoints\":0" },
                Health { from: "host", to: "10.30.45.12:32000", status: 503, says: "\"name\":\"outer\"" },
                Health { from: "a2", to: "10.30.45.11:32000", status: 200, says: "\"serviceProxyHealthy\":true" },
            ],
        ),
    },
];
