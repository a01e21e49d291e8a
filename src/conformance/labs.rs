//! The labs of the table: few and small, so that all of them can run at the same time.
//!
//! Everywhere `a1` and `a2` are pods on `node1` and `node2` that serve nothing of interest,
//! `b…` are backends with the number of their node first, and `x` is a machine outside.

use super::Setting;

/// Two nodes, a bystander on each, and a machine outside.
macro_rules! two_nodes {
    ($($more:tt)*) => {
        concat!(
            r#"
[[node]]
name = "node1"
ip = "10.30.45.11"
pod_subnet = "10.244.1.0/24"

[[node]]
name = "node2"
ip = "10.30.45.12"
pod_subnet = "10.244.2.0/24"

[[pod]]
name = "a1"
ip = "10.244.1.2"

[[pod]]
name = "a2"
ip = "10.244.2.2"

[[client]]
name = "x"
ip = "192.0.2.10/24"
"#,
            $($more)*
        )
    };
}

/// One backend on `node1`, two on `node2`, each with three ports.
macro_rules! three_backends {
    () => {
        r#"
[[pod]]
name = "b1"
ip = "10.244.1.10"
labels = { app = "web" }
ports = [
  { container_port = 80 },
  { container_port = 8053 },
  { container_port = 80, protocol = "UDP" },
]

[[pod]]
name = "b2a"
ip = "10.244.2.10"
labels = { app = "web" }
ports = [
  { container_port = 80 },
  { container_port = 8053 },
  { container_port = 80, protocol = "UDP" },
]

[[pod]]
name = "b2b"
ip = "10.244.2.11"
labels = { app = "web" }
ports = [
  { container_port = 80 },
  { container_port = 8053 },
  { container_port = 80, protocol = "UDP" },
]
"#
    };
}

/// One backend on `node1`.
macro_rules! one_backend {
    () => {
        r#"
[[pod]]
name = "b1"
ip = "10.244.1.10"
labels = { app = "one" }
ports = [{ container_port = 80 }, { container_port = 80, protocol = "UDP" }]
"#
    };
}

mod conditions;
mod names;
mod policies;
mod restarts;
mod sctp;

pub(super) use conditions::{
    ALL_GONE, ALL_LEAVING, ALL_LEAVING_NEAR, ALL_UNREADY, ONE_LEAVING, ONE_LEAVING_NEAR, ONE_OF_EACH, ONE_OF_EACH_NEAR,
    PUBLISHED,
};
pub(super) use names::{NAMES, NO_UPSTREAM};
pub(super) use policies::{BY_BRIDGE, BY_NODE, MASQUERADED, POLICY, UNTOLD};
pub(super) use restarts::{AFTER, BEFORE, EARLY, FORGETFUL, LATE};
pub(super) use sctp::{SCTP, SCTP_NEAR};

const BARE: Setting = Setting { name: "", file: "", cluster: "", routes: &[] };

/// Services without policies: what every proxy can do.
pub(super) static PLAIN: Setting = Setting {
    name: "plain",
    routes: &[("10.96.1.1", "node1"), ("203.0.113.1", "node1"), ("203.0.113.4", "node2")],
    file: two_nodes!(
        three_backends!(),
        r#"
[[service]]
name = "web"
type = "NodePort"
cluster_ip = "10.96.1.1"
selector = { app = "web" }
ports = [
  { name = "http", port = 80, node_port = 30080 },
  { name = "dgram", port = 80, node_port = 30080, protocol = "UDP" },
]

[[service]]
name = "twin"
cluster_ip = "10.96.1.2"
selector = { app = "web" }
ports = [{ port = 80 }]

[[service]]
name = "shifted"
cluster_ip = "10.96.1.3"
selector = { app = "web" }
ports = [{ port = 443, target_port = 8053 }]

[[service]]
name = "names"
cluster_ip = "10.96.1.4"
selector = { app = "web" }
ports = [
  { name = "tcp", port = 53, target_port = 8053 },
  { name = "udp", port = 53, target_port = 80, protocol = "UDP" },
  { name = "sctp", port = 53, target_port = 80, protocol = "SCTP" },
]

[[service]]
name = "multi"
type = "NodePort"
cluster_ip = "10.96.1.5"
selector = { app = "web" }
ports = [
  { name = "one", port = 80, node_port = 30085 },
  { name = "two", port = 81, target_port = 8053, node_port = 30086 },
]

[[service]]
name = "lists"
cluster_ip = "None"
selector = { app = "web" }
ports = [{ port = 80 }]

[[service]]
name = "alias"
type = "ExternalName"
external_name = "api.example.com"
ports = [{ port = 80 }]

[[service]]
name = "elsewhere"
cluster_ip = "10.96.1.7"
labels = { "service.kubernetes.io/service-proxy-name" = "other" }
selector = { app = "web" }
ports = [{ port = 80 }]

[[service]]
name = "headless-by-label"
cluster_ip = "10.96.1.8"
labels = { "service.kubernetes.io/headless" = "" }
selector = { app = "web" }
ports = [{ port = 80 }]

[[service]]
name = "beyond"
cluster_ip = "10.96.1.9"
endpoints = [{ ip = "192.0.2.10" }]
ports = [{ port = 8080, target_port = 80 }]

[[service]]
name = "by-hand"
cluster_ip = "10.96.1.10"
endpoints = [{ ip = "10.244.1.10" }, { ip = "10.244.2.10" }]
ports = [{ port = 80 }]

[[service]]
name = "outer"
cluster_ip = "10.96.1.11"
selector = { app = "web" }
external_ips = ["203.0.113.11", "10.30.45.12"]
ports = [{ port = 8000, target_port = 80 }]

[[service]]
name = "balanced"
type = "LoadBalancer"
cluster_ip = "10.96.1.13"
selector = { app = "web" }
load_balancer_ips = ["203.0.113.1"]
ports = [
  { name = "http", port = 80, node_port = 30087 },
  { name = "dgram", port = 80, node_port = 30087, protocol = "UDP" },
]

[[service]]
name = "portless"
type = "LoadBalancer"
cluster_ip = "10.96.1.14"
selector = { app = "web" }
load_balancer_ips = ["203.0.113.4"]
allocate_load_balancer_node_ports = false
ports = [{ port = 80 }]

[[service]]
name = "closed"
cluster_ip = "10.96.1.12"
selector = { app = "web" }
ports = [{ port = 80, target_port = 4444 }]
"#,
    ),
    ..BARE
};

/// Single backends, named ports and pods that share their node's network.
pub(super) static SINGLE: Setting = Setting {
    name: "single",
    file: two_nodes!(
        one_backend!(),
        r#"
[[pod]]
name = "daemon"
node = "node1"
host_network = true
labels = { app = "daemon" }
ports = [{ container_port = 8888 }, { container_port = 8888, protocol = "UDP" }]

[[pod]]
name = "p1"
ip = "10.244.1.20"
labels = { app = "named" }
ports = [{ name = "web", container_port = 8080 }]

[[pod]]
name = "p2"
ip = "10.244.2.20"
labels = { app = "named" }
ports = [{ name = "web", container_port = 9090 }]

[[pod]]
name = "p3"
ip = "10.244.2.21"
labels = { app = "named" }
ports = [{ name = "other", container_port = 8080 }]

[[service]]
name = "one"
type = "NodePort"
cluster_ip = "10.96.1.1"
selector = { app = "one" }
ports = [
  { name = "http", port = 80, node_port = 30080 },
  { name = "dgram", port = 80, node_port = 30080, protocol = "UDP" },
]

[[service]]
name = "daemon"
type = "NodePort"
cluster_ip = "10.96.1.2"
selector = { app = "daemon" }
ports = [
  { name = "http", port = 80, target_port = 8888, node_port = 30081 },
  { name = "dgram", port = 80, target_port = 8888, node_port = 30081, protocol = "UDP" },
]

[[service]]
name = "named"
type = "NodePort"
cluster_ip = "10.96.1.3"
selector = { app = "named" }
ports = [{ port = 80, target_port = "web", node_port = 30082 }]
"#,
    ),
    ..BARE
};

/// Services that nothing is behind.
pub(super) static EMPTY: Setting = Setting {
    name: "empty",
    routes: &[("203.0.113.1", "node1"), ("203.0.113.2", "node2"), ("203.0.113.3", "node1")],
    file: two_nodes!(
        r#"
[[service]]
name = "empty"
type = "LoadBalancer"
cluster_ip = "10.96.1.1"
endpoints = []
external_ips = ["203.0.113.2", "203.0.113.4"]
load_balancer_ips = ["203.0.113.1"]
ports = [
  { name = "http", port = 80, node_port = 30080 },
  { name = "dgram", port = 80, node_port = 30080, protocol = "UDP" },
]

[[service]]
name = "fenced"
type = "LoadBalancer"
cluster_ip = "10.96.1.2"
endpoints = []
load_balancer_ips = ["203.0.113.3"]
load_balancer_source_ranges = ["198.51.100.0/24"]
ports = [{ port = 80, node_port = 30081 }]

[[service]]
name = "local"
type = "NodePort"
cluster_ip = "10.96.1.3"
endpoints = []
internal_traffic_policy = "Local"
external_traffic_policy = "Local"
ports = [{ port = 80, node_port = 30082 }]
"#,
    ),
    ..BARE
};

/// Pods behind routed veths, told by the name of these.
pub(super) static ROUTED: Setting = Setting {
    name: "routed",
    cluster: "detect_local = \"bridge\"",
    file: concat!(
        r#"
[[node]]
name = "node1"
ip = "10.30.45.11"
pod_subnet = "10.244.1.0/24"
attach = "routed"

[[node]]
name = "node2"
ip = "10.30.45.12"
pod_subnet = "10.244.2.0/24"
attach = "routed"

[[pod]]
name = "a1"
ip = "10.244.1.2"

[[pod]]
name = "a2"
ip = "10.244.2.2"

[[client]]
name = "x"
ip = "192.0.2.10/24"
"#,
        one_backend!(),
        r#"
[[service]]
name = "one"
type = "NodePort"
cluster_ip = "10.96.1.1"
selector = { app = "one" }
ports = [{ port = 80, node_port = 30080 }]
"#,
    ),
    ..BARE
};

/// A load balancer's addresses that are not for everyone.
pub(super) static FENCED: Setting = Setting {
    name: "balanced",
    routes: &[("203.0.113.2", "node2"), ("203.0.113.3", "node1")],
    file: two_nodes!(
        three_backends!(),
        r#"
[[client]]
name = "y"
ip = "198.51.100.10/24"

[[service]]
name = "fenced"
type = "LoadBalancer"
cluster_ip = "10.96.1.2"
selector = { app = "web" }
load_balancer_ips = ["203.0.113.2", "203.0.113.3"]
load_balancer_source_ranges = ["192.0.2.0/24", " 10.30.45.11/32 "]
ports = [{ port = 80, node_port = 30081 }]
"#,
    ),
    ..BARE
};

/// Clients that stay with their endpoint.
pub(super) static STICKY: Setting = Setting {
    name: "sticky",
    routes: &[("203.0.113.1", "node1")],
    file: two_nodes!(
        three_backends!(),
        r#"
[[service]]
name = "sticky"
type = "LoadBalancer"
cluster_ip = "10.96.1.1"
selector = { app = "web" }
session_affinity = "ClientIP"
load_balancer_ips = ["203.0.113.1"]
ports = [
  { name = "http", port = 80, node_port = 30080 },
  { name = "dgram", port = 80, node_port = 30080, protocol = "UDP" },
]

[[service]]
name = "near"
type = "NodePort"
cluster_ip = "10.96.1.2"
selector = { app = "web" }
session_affinity = "ClientIP"
external_traffic_policy = "Local"
ports = [{ port = 80, node_port = 30081 }]
"#,
    ),
    ..BARE
};

/// Three zones, of which the third has no backend.
pub(super) static ZONES: Setting = Setting {
    name: "zones",
    file: r#"
[[node]]
name = "node1"
ip = "10.30.45.11"
pod_subnet = "10.244.1.0/24"
zone = "z1"

[[node]]
name = "node2"
ip = "10.30.45.12"
pod_subnet = "10.244.2.0/24"
zone = "z2"

[[node]]
name = "node3"
ip = "10.30.45.13"
pod_subnet = "10.244.3.0/24"
zone = "z3"

[[node]]
name = "node4"
ip = "10.30.45.14"
pod_subnet = "10.244.4.0/24"
zone = "z2"

[[pod]]
name = "a1"
ip = "10.244.1.2"

[[pod]]
name = "a2"
ip = "10.244.2.2"

[[pod]]
name = "a3"
ip = "10.244.3.2"

[[pod]]
name = "a4"
ip = "10.244.4.2"

[[pod]]
name = "b1"
ip = "10.244.1.10"
labels = { app = "web" }

[[pod]]
name = "b2"
ip = "10.244.2.10"
labels = { app = "web" }

[[pod]]
name = "c2"
ip = "10.244.2.11"
labels = { app = "more" }

[[pod]]
name = "c4"
ip = "10.244.4.11"
labels = { app = "more" }

[[pod]]
name = "c1"
ip = "10.244.1.11"
labels = { app = "more" }

[[client]]
name = "x"
ip = "192.0.2.10/24"

[[service]]
name = "by-zone"
type = "NodePort"
cluster_ip = "10.96.1.1"
selector = { app = "web" }
traffic_distribution = "PreferSameZone"
ports = [{ port = 80, node_port = 30080 }]

[[service]]
name = "close"
cluster_ip = "10.96.1.2"
selector = { app = "more" }
traffic_distribution = "PreferClose"
ports = [{ port = 80 }]

[[service]]
name = "by-node"
cluster_ip = "10.96.1.3"
selector = { app = "web" }
traffic_distribution = "PreferSameNode"
ports = [{ port = 80 }]

[[service]]
name = "local"
cluster_ip = "10.96.1.4"
selector = { app = "more" }
traffic_distribution = "PreferSameZone"
internal_traffic_policy = "Local"
ports = [{ port = 80 }]
"#,
    ..BARE
};

/// Ports of nodes that lead to pods.
pub(super) static HOST_PORTS: Setting = Setting {
    name: "host-ports",
    file: two_nodes!(
        r#"
[[pod]]
name = "h1"
node = "node1"
ports = [{ container_port = 80, host_port = 8080, host_ip = "10.30.45.11" }]

[[pod]]
name = "h2"
node = "node1"
ports = [{ container_port = 80, host_port = 8080, host_ip = "127.0.0.1" }]

[[pod]]
name = "h3"
node = "node1"
ports = [{ container_port = 80, protocol = "UDP", host_port = 8080, host_ip = "10.30.45.11" }]

[[pod]]
name = "h4"
node = "node2"
containers = [
  { ports = [{ container_port = 80, host_port = 8080 }] },
  { command = ["sleep", "infinity"], ports = [{ container_port = 81, host_port = 8081, protocol = "SCTP" }] },
]
"#,
    ),
    ..BARE
};
