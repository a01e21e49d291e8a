//! Labs whose names are asked for.

use super::{BARE, Setting};

/// Services of every sort, pods that have names of their own, and machines on the lab's internet.
macro_rules! named {
    ($dns:literal) => {
        concat!(
            "[dns]\nengine = \"embedded\"\n",
            $dns,
            two_nodes!(
                r#"
[[pod]]
name = "b1"
ip = "10.244.1.10"
labels = { app = "web" }
ports = [{ name = "http", container_port = 80 }]

[[pod]]
name = "b2a"
ip = "10.244.2.10"
labels = { app = "web" }
hostname = "first"
subdomain = "set"
ports = [{ name = "http", container_port = 80 }]

[[pod]]
name = "b2b"
ip = "10.244.2.11"
labels = { app = "web" }
ready = false
ports = [{ name = "http", container_port = 80 }]

[[pod]]
name = "late"
ip = "10.244.1.11"
labels = { app = "late" }
ready = false

[[pod]]
name = "leaving"
ip = "10.244.2.12"
labels = { app = "leaving" }
terminating = true

[[pod]]
name = "other"
ip = "10.244.1.12"
namespace = "shop"

[[pod]]
name = "own"
ip = "10.244.1.13"
dns_policy = "None"
dns_config = { nameservers = ["10.96.0.10"], searches = ["shop.svc.cluster.local"], options = [{ name = "ndots", value = "1" }] }

[[service]]
name = "kubernetes"
cluster_ip = "10.96.0.1"
selector = { app = "web" }
ports = [{ name = "https", port = 443, target_port = 80 }]

[[service]]
name = "web"
cluster_ip = "10.96.1.1"
selector = { app = "web" }
ports = [{ name = "http", port = 80 }]

[[service]]
name = "till"
namespace = "shop"
cluster_ip = "10.96.1.2"
endpoints = []
ports = [{ name = "http", port = 80 }]

[[service]]
name = "set"
cluster_ip = "None"
selector = { app = "web" }
ports = [{ name = "http", port = 80 }]

[[service]]
name = "late"
cluster_ip = "None"
selector = { app = "late" }
ports = [{ port = 80 }]

[[service]]
name = "early"
cluster_ip = "None"
selector = { app = "late" }
publish_not_ready_addresses = true
ports = [{ port = 80 }]

[[service]]
name = "leaving"
cluster_ip = "10.96.1.3"
selector = { app = "leaving" }
ports = [{ port = 80 }]

[[service]]
name = "leaving-set"
cluster_ip = "None"
selector = { app = "leaving" }
ports = [{ port = 80 }]

[[service]]
name = "away"
type = "ExternalName"
external_name = "foo.example.com"

[[service]]
name = "lost"
type = "ExternalName"
external_name = "nobody.example.com"

[[external]]
name = "foo.example.com"
ip = ["198.51.100.7", "198.51.100.8"]
"#
            )
        )
    };
}

/// Everything that has a name.
pub(in crate::conformance) static NAMES: Setting = Setting { name: "names", file: named!(""), ..BARE };

/// The same, and whoever should know the other names is no name server.
pub(in crate::conformance) static NO_UPSTREAM: Setting =
    Setting { name: "no-upstream", file: named!("upstream = [\"10.30.45.11\"]\n"), ..BARE };
