//! One lab, with its pods in every condition that they can be in.

use super::{BARE, Setting};
use crate::proxy::endpoints::Condition;

const UNREADY: Condition = Condition { ready: false, terminating: false };
const LEAVING: Condition = Condition { ready: true, terminating: true };
const GONE: Condition = Condition { ready: false, terminating: true };

/// A Service with and without policies, and one that publishes whatever there is.
macro_rules! conditional {
    () => {
        two_nodes!(
            three_backends!(),
            r#"
[[service]]
name = "web"
type = "NodePort"
cluster_ip = "10.96.1.1"
selector = { app = "web" }
ports = [{ port = 80, node_port = 30080 }]

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

[[service]]
name = "published"
cluster_ip = "10.96.1.3"
selector = { app = "web" }
publish_not_ready_addresses = true
ports = [{ port = 80 }]
"#,
        )
    };
}

/// No pod is ready.
pub(in crate::conformance) static ALL_UNREADY: Setting = Setting {
    name: "unready",
    file: conditional!(),
    conditions: &[("b1", UNREADY), ("b2a", UNREADY), ("b2b", UNREADY)],
    ..BARE
};

/// One pod is being deleted, and still answers.
pub(in crate::conformance) static ONE_LEAVING: Setting =
    Setting { name: "one-leaving", file: conditional!(), conditions: &[("b1", LEAVING)], ..BARE };

/// All pods are being deleted; those that still answer are used for want of better ones.
pub(in crate::conformance) static ALL_LEAVING: Setting = Setting {
    name: "all-leaving",
    file: conditional!(),
    conditions: &[("b1", LEAVING), ("b2a", LEAVING), ("b2b", GONE)],
    ..BARE
};

/// All pods are being deleted, and none answers.
pub(in crate::conformance) static ALL_GONE: Setting = Setting {
    name: "all-gone",
    file: conditional!(),
    conditions: &[("b1", GONE), ("b2a", GONE), ("b2b", GONE)],
    ..BARE
};
