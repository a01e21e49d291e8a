//! Pods in every condition that they can be in, behind Services with and without policies.

use super::{BARE, Setting};

/// A backend.
macro_rules! backend {
    ($name:literal, $ip:literal) => {
        concat!(
            "\n[[pod]]\nname = \"",
            $name,
            "\"\nip = \"",
            $ip,
            "\"\nlabels = { app = \"web\" }\n",
            "ports = [{ container_port = 80 }, { container_port = 80, protocol = \"UDP\" }]\n"
        )
    };
}

/// Three backends, each in a condition of its own.
macro_rules! pods {
    ($b1:expr, $b2a:expr, $b2b:expr) => {
        concat!(
            backend!("b1", "10.244.1.10"),
            $b1,
            backend!("b2a", "10.244.2.10"),
            $b2a,
            backend!("b2b", "10.244.2.11"),
            $b2b,
        )
    };
}

/// A pod whose readiness probe fails.
macro_rules! unready {
    () => {
        "ready = false\n"
    };
}

/// A pod that is being deleted, and still answers.
macro_rules! leaving {
    () => {
        "terminating = true\n"
    };
}

/// A pod that is being deleted, and does not answer any more.
macro_rules! gone {
    () => {
        "ready = false\nterminating = true\n"
    };
}

/// A Service without policies.
macro_rules! web {
    () => {
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
"#
    };
}

/// A Service that keeps to the node.
macro_rules! near {
    () => {
        r#"
[[service]]
name = "near"
type = "LoadBalancer"
cluster_ip = "10.96.1.2"
selector = { app = "web" }
internal_traffic_policy = "Local"
external_traffic_policy = "Local"
load_balancer_ips = ["203.0.113.1"]
health_check_node_port = 32000
ports = [{ port = 80, node_port = 30081 }]
"#
    };
}

/// A Service that takes whatever there is.
macro_rules! published {
    () => {
        r#"
[[service]]
name = "published"
type = "NodePort"
cluster_ip = "10.96.1.3"
selector = { app = "web" }
publish_not_ready_addresses = true
ports = [{ port = 80, node_port = 30082 }]
"#
    };
}

/// No pod is ready.
pub(in crate::conformance) static ALL_UNREADY: Setting =
    Setting { name: "unready", file: two_nodes!(pods!(unready!(), unready!(), unready!()), web!(), near!()), ..BARE };

/// No pod is ready, and two are being deleted; but that does not count.
pub(in crate::conformance) static PUBLISHED: Setting =
    Setting { name: "published", file: two_nodes!(pods!(unready!(), leaving!(), gone!()), published!()), ..BARE };

/// One pod is being deleted, and still answers.
pub(in crate::conformance) static ONE_LEAVING: Setting =
    Setting { name: "one-leaving", file: two_nodes!(pods!(leaving!(), "", ""), web!()), ..BARE };

/// The same behind a Service that keeps to the node.
pub(in crate::conformance) static ONE_LEAVING_NEAR: Setting =
    Setting { name: "near-leaving", file: two_nodes!(pods!(leaving!(), "", ""), web!(), near!()), ..BARE };

/// One pod is ready; of the other node's, one is being deleted, and one is not ready.
pub(in crate::conformance) static ONE_OF_EACH: Setting =
    Setting { name: "one-of-each", file: two_nodes!(pods!("", leaving!(), unready!()), web!()), ..BARE };

/// The same behind a Service that keeps to the node.
pub(in crate::conformance) static ONE_OF_EACH_NEAR: Setting =
    Setting { name: "near-of-each", file: two_nodes!(pods!("", leaving!(), unready!()), web!(), near!()), ..BARE };

/// All pods are being deleted; those that still answer are used for want of better ones.
pub(in crate::conformance) static ALL_LEAVING: Setting =
    Setting { name: "all-leaving", file: two_nodes!(pods!(leaving!(), leaving!(), gone!()), web!()), ..BARE };

/// The same behind a Service that keeps to the node.
pub(in crate::conformance) static ALL_LEAVING_NEAR: Setting =
    Setting { name: "near-all", file: two_nodes!(pods!(leaving!(), leaving!(), gone!()), web!(), near!()), ..BARE };

/// All pods are being deleted, and none answers.
pub(in crate::conformance) static ALL_GONE: Setting =
    Setting { name: "all-gone", file: two_nodes!(pods!(gone!(), gone!(), gone!()), web!(), near!()), ..BARE };
