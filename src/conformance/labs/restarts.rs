//! Labs of which one is brought up in the place of the other: what a cluster changes while it runs.

use super::{BARE, Setting};

/// A pod that answers datagrams and connections.
macro_rules! server {
    ($name:literal, $ip:literal, $labels:literal) => {
        concat!(
            "\n[[pod]]\nname = \"",
            $name,
            "\"\nip = \"",
            $ip,
            "\"\nlabels = ",
            $labels,
            "\nports = [{ container_port = 80 }, { container_port = 80, protocol = \"UDP\" }]\n"
        )
    };
}

/// Services that stay; the selector `turn` finds another pod after the change.
macro_rules! lasting {
    () => {
        r#"
[[service]]
name = "web"
cluster_ip = "10.96.1.2"
selector = { app = "web" }
ports = [{ port = 80 }]

[[service]]
name = "turn"
type = "LoadBalancer"
cluster_ip = "10.96.1.4"
selector = { turn = "yes" }
load_balancer_ips = ["203.0.113.1"]
ports = [
  { name = "http", port = 80, node_port = 30083 },
  { name = "dgram", port = 80, node_port = 30083, protocol = "UDP" },
]
"#
    };
}

/// Before: the pod `b1`, and a Service that will be deleted.
pub(in crate::conformance) static BEFORE: Setting = Setting {
    name: "before",
    file: two_nodes!(
        server!("b1", "10.244.1.10", r#"{ app = "web", turn = "yes" }"#),
        server!("b2a", "10.244.2.10", r#"{ app = "web" }"#),
        lasting!(),
        r#"
[[service]]
name = "leaves"
type = "NodePort"
cluster_ip = "10.96.1.1"
selector = { app = "web" }
ports = [
  { name = "http", port = 80, node_port = 30080 },
  { name = "dgram", port = 80, node_port = 30080, protocol = "UDP" },
]
"#,
    ),
    ..BARE
};

/// After: the pod `c1` in place of it, and a new Service.
pub(in crate::conformance) static AFTER: Setting = Setting {
    name: "after",
    file: two_nodes!(
        server!("c1", "10.244.1.11", r#"{ app = "web", turn = "yes" }"#),
        server!("b2a", "10.244.2.10", r#"{ app = "web" }"#),
        lasting!(),
        r#"
[[service]]
name = "comes"
type = "NodePort"
cluster_ip = "10.96.1.3"
selector = { app = "web" }
ports = [{ port = 80, node_port = 30082 }]
"#,
    ),
    ..BARE
};

/// A Service with affinity, and one that nobody is ready for yet.
macro_rules! waiting {
    () => {
        r#"
[[service]]
name = "sticky"
type = "NodePort"
cluster_ip = "10.96.1.5"
selector = { app = "web" }
session_affinity = "ClientIP"
ports = [{ port = 80, node_port = 30085 }]

[[service]]
name = "late"
type = "NodePort"
cluster_ip = "10.96.1.6"
selector = { late = "yes" }
ports = [{ port = 80, node_port = 30086, protocol = "UDP" }]
"#
    };
}

/// Before: one endpoint for the one Service, none for the other.
pub(in crate::conformance) static EARLY: Setting = Setting {
    name: "early",
    file: two_nodes!(
        server!("b1", "10.244.1.10", r#"{ app = "web" }"#),
        server!("l2", "10.244.2.12", r#"{ late = "yes" }"#),
        "ready = false\n",
        waiting!(),
    ),
    ..BARE
};

/// After: two others for the one, and the first for the other.
pub(in crate::conformance) static LATE: Setting = Setting {
    name: "late",
    file: two_nodes!(
        server!("b2a", "10.244.2.10", r#"{ app = "web" }"#),
        server!("b2b", "10.244.2.11", r#"{ app = "web" }"#),
        server!("l2", "10.244.2.12", r#"{ late = "yes" }"#),
        waiting!(),
    ),
    ..BARE
};

/// An affinity so short that one can wait until it is forgotten.
pub(in crate::conformance) static FORGETFUL: Setting = Setting {
    name: "forgetful",
    file: two_nodes!(
        three_backends!(),
        r#"
[[service]]
name = "sticky"
type = "NodePort"
cluster_ip = "10.96.1.1"
selector = { app = "web" }
session_affinity = "ClientIP"
session_affinity_timeout = 2
ports = [{ port = 80, node_port = 30080 }]
"#,
    ),
    ..BARE
};
