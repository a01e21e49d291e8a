//! One lab of Services with traffic policies, under everything that decides who is local.

use super::{BARE, Setting};

/// Traffic policies, with the backend on `node1` only.
macro_rules! policies {
    () => {
        r#"
[[pod]]
name = "daemon"
node = "node1"
host_network = true
labels = { app = "daemon" }
ports = [{ container_port = 8888 }]

[[service]]
name = "inner"
type = "LoadBalancer"
cluster_ip = "10.96.1.1"
selector = { app = "one" }
internal_traffic_policy = "Local"
load_balancer_ips = ["203.0.113.10"]
ports = [
  { name = "http", port = 80, node_port = 30080 },
  { name = "dgram", port = 80, node_port = 30080, protocol = "UDP" },
]

[[service]]
name = "outer"
type = "LoadBalancer"
cluster_ip = "10.96.1.2"
selector = { app = "one" }
external_traffic_policy = "Local"
load_balancer_ips = ["203.0.113.1", "203.0.113.2", "203.0.113.5"]
external_ips = ["203.0.113.3", "203.0.113.4"]
health_check_node_port = 32000
ports = [
  { name = "http", port = 80, node_port = 30081 },
  { name = "dgram", port = 80, node_port = 30081, protocol = "UDP" },
]

[[service]]
name = "both"
type = "NodePort"
cluster_ip = "10.96.1.3"
selector = { app = "one" }
internal_traffic_policy = "Local"
external_traffic_policy = "Local"
ports = [{ port = 80, node_port = 30082 }]

[[service]]
name = "daemon"
type = "NodePort"
cluster_ip = "10.96.1.4"
selector = { app = "daemon" }
internal_traffic_policy = "Local"
external_traffic_policy = "Local"
ports = [{ port = 80, target_port = 8888, node_port = 30083 }]
"#
    };
}

const POLICY_ROUTES: &[(&str, &str)] = &[
    ("203.0.113.1", "node1"),
    ("203.0.113.2", "node2"),
    ("203.0.113.3", "node1"),
    ("203.0.113.4", "node2"),
    ("203.0.113.10", "node2"),
    ("10.96.1.1", "node2"),
    ("10.96.1.2", "node1"),
    ("10.96.1.3", "node1"),
];

pub(in crate::conformance) static POLICY: Setting =
    Setting { name: "policy", routes: POLICY_ROUTES, file: two_nodes!(one_backend!(), policies!()), ..BARE };

/// The same, where nodes cannot tell what comes from a local pod.
pub(in crate::conformance) static UNTOLD: Setting = Setting {
    name: "untold",
    cluster: "detect_local = \"none\"",
    routes: POLICY_ROUTES,
    file: two_nodes!(one_backend!(), policies!()),
};

/// The same, where they tell by their own pods' subnet.
pub(in crate::conformance) static BY_NODE: Setting = Setting {
    name: "by-node",
    cluster: "detect_local = \"node-cidr\"",
    routes: POLICY_ROUTES,
    file: two_nodes!(one_backend!(), policies!()),
};

/// The same, where they tell by the bridge.
pub(in crate::conformance) static BY_BRIDGE: Setting = Setting {
    name: "by-bridge",
    cluster: "detect_local = \"bridge\"",
    routes: POLICY_ROUTES,
    file: two_nodes!(one_backend!(), policies!()),
};

/// The same with everything masqueraded.
pub(in crate::conformance) static MASQUERADED: Setting = Setting {
    name: "masq-all",
    cluster: "masquerade_all = true",
    routes: POLICY_ROUTES,
    file: two_nodes!(one_backend!(), policies!()),
};
