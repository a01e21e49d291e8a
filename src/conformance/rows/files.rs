//! What a lab file may say of a Service, and what it may not.

use super::{Proof, Row};
use crate::lab::model::Lab;

/// A Service that is refused with this sentence.
const fn bad(
    id: &'static str,
    behaviour: &'static str,
    source: &'static str,
    keys: &'static str,
    sentence: &'static str,
) -> Row {
    Row { id, behaviour, source, proof: Proof::Invalid(keys, sentence) }
}

/// A Service that means this.
const fn good(
    id: &'static str,
    behaviour: &'static str,
    source: &'static str,
    keys: &'static str,
    (words, meaning): (fn(&Lab) -> String, &'static str),
) -> Row {
    Row { id, behaviour, source, proof: Proof::Valid(keys, words, meaning) }
}

fn node_ports(lab: &Lab) -> String {
    let ports = lab.services.iter().flat_map(|service| &service.ports);
    ports.map(|port| port.node_port.map_or("none".to_owned(), |port| port.to_string())).collect::<Vec<_>>().join(" ")
}

fn cluster_ips(lab: &Lab) -> String {
    let ips = lab.services.iter().map(|service| service.cluster_ip);
    ips.map(|ip| ip.map_or("None".to_owned(), |ip| ip.to_string())).collect::<Vec<_>>().join(" ")
}

fn name(lab: &Lab) -> String {
    lab.services[0].full_name()
}

fn affinity(lab: &Lab) -> String {
    format!("{:?}", lab.services[0].session_affinity)
}

fn target(lab: &Lab) -> String {
    lab.services[0].ports[0].target_port.to_string()
}

pub(super) const ROWS: &[Row] = &[
    bad(
        "C11",
        "a node port belongs to one Service",
        "e2e service, NodePort collisions",
        "name = \"a\"\ntype = \"NodePort\"\nendpoints = []\nports = [{ port = 80, node_port = 30080 }]\n[[service]]\n\
         name = \"b\"\ntype = \"NodePort\"\nendpoints = []\nports = [{ port = 80, node_port = 30080 }]",
        "provided port is already allocated",
    ),
    bad(
        "C12",
        "a node port is one of 30000-32767",
        "e2e service, NodePort out-of-range",
        "name = \"a\"\ntype = \"NodePort\"\nendpoints = []\nports = [{ port = 80, node_port = 29999 }]",
        "provided port is not in the valid range. The range of valid ports is 30000-32767",
    ),
    bad(
        "own-node-port-twice",
        "two ports of one protocol need two node ports",
        "contract 7.2",
        "name = \"a\"\ntype = \"NodePort\"\nendpoints = []\nports = [\n  { name = \"x\", port = 80, node_port = 30080 },\n  \
         { name = \"y\", port = 81, node_port = 30080 },\n]",
        "duplicate value within the service",
    ),
    bad(
        "own-node-port-cluster-ip",
        "a ClusterIP Service has no node ports",
        "API validation",
        "name = \"a\"\nendpoints = []\nports = [{ port = 80, node_port = 30080 }]",
        "`node_port` may not be used when `type` is 'ClusterIP'",
    ),
    good(
        "N2",
        "the name of a Service may begin with a digit",
        "KEP-5311",
        "name = \"1svc\"\nendpoints = []\nports = [{ port = 80 }]",
        (name, "1svc"),
    ),
    bad(
        "N3",
        "a ClusterIP has no leading zeros, which some read as octal",
        "e2e funny_ips; KEP-4858",
        "name = \"a\"\ncluster_ip = \"010.096.000.050\"\nendpoints = []\nports = [{ port = 80 }]",
        "must not have leading zeros, which some programs read as octal",
    ),
    bad(
        "N5",
        "an endpoint may not be a loopback address",
        "API validation",
        "name = \"a\"\nendpoints = [{ ip = \"127.0.0.1\" }]\nports = [{ port = 80 }]",
        "may not be in the loopback range (127.0.0.0/8, ::1/128)",
    ),
    bad(
        "N5-link-local",
        "nor a link-local one",
        "API validation",
        "name = \"a\"\nendpoints = [{ ip = \"169.254.1.1\" }]\nports = [{ port = 80 }]",
        "may not be in the link-local range (169.254.0.0/16, fe80::/10)",
    ),
    bad(
        "N5-unspecified",
        "nor the unspecified one",
        "API validation",
        "name = \"a\"\nendpoints = [{ ip = \"0.0.0.0\" }]\nports = [{ port = 80 }]",
        "may not be unspecified (0.0.0.0 or ::)",
    ),
    bad(
        "N5-multicast",
        "nor a multicast one",
        "API validation",
        "name = \"a\"\nendpoints = [{ ip = \"224.0.0.1\" }]\nports = [{ port = 80 }]",
        "may not be a multicast address (224.0.0.0/4)",
    ),
    bad(
        "F9",
        "nor another Service's ClusterIP",
        "API documentation",
        "name = \"a\"\ncluster_ip = \"10.96.1.1\"\nendpoints = []\nports = [{ port = 80 }]\n[[service]]\nname = \"b\"\n\
         endpoints = [{ ip = \"10.96.1.1\" }]\nports = [{ port = 80 }]",
        "is the ClusterIP of the service `a`",
    ),
    bad(
        "N8",
        "a load balancer may not expose the kubelet's port",
        "API validation",
        "name = \"a\"\ntype = \"LoadBalancer\"\nendpoints = []\nports = [{ port = 10250 }]",
        "may not expose port 10250 externally since it is used by kubelet",
    ),
    bad(
        "N10",
        "a port number is given once for each protocol",
        "API validation",
        "name = \"a\"\nendpoints = []\nports = [{ name = \"x\", port = 80 }, { name = \"y\", port = 80 }]",
        "port 80/TCP is given twice in this service",
    ),
    bad(
        "N10-names",
        "the names of ports differ",
        "API validation",
        "name = \"a\"\nendpoints = []\nports = [{ name = \"x\", port = 80 }, { name = \"x\", port = 81 }]",
        "two ports of this service are called `x`",
    ),
    bad(
        "N10-missing",
        "of several ports, each has a name",
        "API validation",
        "name = \"a\"\nendpoints = []\nports = [{ name = \"x\", port = 80 }, { port = 81 }]",
        "a port of a service with several ports needs a `name`",
    ),
    bad(
        "N11",
        "port 0 is none",
        "API validation",
        "name = \"a\"\nendpoints = []\nports = [{ port = 0 }]",
        "must be between 1 and 65535, inclusive",
    ),
    bad(
        "N11-port",
        "nor is 65536",
        "API validation",
        "name = \"a\"\nendpoints = []\nports = [{ port = 65536 }]",
        "must be between 1 and 65535, inclusive",
    ),
    bad(
        "N11-timeout",
        "an affinity of no time is none",
        "API validation",
        "name = \"a\"\nsession_affinity = \"ClientIP\"\nsession_affinity_timeout = 0\nendpoints = []\nports = [{ port = 80 }]",
        "must be between 1 and 86400, inclusive",
    ),
    bad(
        "N11-day",
        "nor may it last longer than a day",
        "API validation",
        "name = \"a\"\nsession_affinity = \"ClientIP\"\nsession_affinity_timeout = 86401\nendpoints = []\n\
         ports = [{ port = 80 }]",
        "must be between 1 and 86400, inclusive",
    ),
    good(
        "own-affinity-default",
        "an affinity lasts three hours unless told otherwise",
        "contract 7.1",
        "name = \"a\"\nsession_affinity = \"ClientIP\"\nendpoints = []\nports = [{ port = 80 }]",
        (affinity, "Some(10800)"),
    ),
    good(
        "N13",
        "ClusterIPs are allocated from the dynamic band",
        "KEP-3070",
        "name = \"a\"\nendpoints = []\nports = [{ port = 80 }]\n[[service]]\nname = \"b\"\nendpoints = []\n\
         ports = [{ port = 80 }]\n[[service]]\nname = \"c\"\ncluster_ip = \"10.96.0.17\"\nendpoints = []\n\
         ports = [{ port = 80 }]",
        (cluster_ips, "10.96.1.1 10.96.1.2 10.96.0.17"),
    ),
    good(
        "own-node-port-band",
        "so are node ports; TCP and UDP of one Service share theirs",
        "contract 7.3",
        "name = \"a\"\ntype = \"NodePort\"\nendpoints = []\nports = [{ name = \"x\", port = 53 }, { name = \"y\", port = 53, \
         protocol = \"UDP\" }, { name = \"z\", port = 54 }]",
        (node_ports, "30086 30086 30087"),
    ),
    good(
        "own-no-node-ports",
        "a load balancer may do without node ports",
        "contract 7.1",
        "name = \"a\"\ntype = \"LoadBalancer\"\nallocate_load_balancer_node_ports = false\nendpoints = []\n\
         ports = [{ port = 80 }]",
        (node_ports, "none"),
    ),
    good(
        "own-target-default",
        "the target port is the port unless told otherwise",
        "contract 7.1",
        "name = \"a\"\nendpoints = []\nports = [{ port = 8080 }]",
        (target, "8080"),
    ),
    bad(
        "N15",
        "a ClusterIP is of the Services' range",
        "e2e service",
        "name = \"a\"\ncluster_ip = \"10.97.0.1\"\nendpoints = []\nports = [{ port = 80 }]",
        "the provided IP is not in the valid range. The range of valid IPs is 10.96.0.0/16",
    ),
    bad(
        "N15-taken",
        "a ClusterIP belongs to one Service",
        "e2e service",
        "name = \"a\"\ncluster_ip = \"10.96.1.1\"\nendpoints = []\nports = [{ port = 80 }]\n[[service]]\nname = \"b\"\n\
         cluster_ip = \"10.96.1.1\"\nendpoints = []\nports = [{ port = 80 }]",
        "provided IP is already allocated",
    ),
    bad(
        "own-headless-node-port",
        "a NodePort Service is not headless",
        "contract 7.2",
        "name = \"a\"\ntype = \"NodePort\"\ncluster_ip = \"None\"\nendpoints = []\nports = [{ port = 80 }]",
        "may not be set to 'None' for NodePort services",
    ),
    bad(
        "own-headless-balancer",
        "nor is a load balancer",
        "contract 7.2",
        "name = \"a\"\ntype = \"LoadBalancer\"\ncluster_ip = \"None\"\nendpoints = []\nports = [{ port = 80 }]",
        "may not be set to 'None' for LoadBalancer services",
    ),
    bad(
        "own-long-name",
        "a name has at most 63 characters",
        "API validation",
        "name = \"a23456789012345678901234567890123456789012345678901234567890wxyz\"\nendpoints = []\nports = [{ port = 80 }]",
        "must be no more than 63 characters",
    ),
    bad(
        "own-shell-name",
        "a name has no characters that mean something to a shell",
        "API validation",
        "name = \"a;reboot\"\nendpoints = []\nports = [{ port = 80 }]",
        "must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character",
    ),
    bad(
        "own-protocol",
        "a protocol is TCP, UDP or SCTP",
        "API validation",
        "name = \"a\"\nendpoints = []\nports = [{ port = 80, protocol = \"ICMP\" }]",
        "`protocol` cannot be \"ICMP\"",
    ),
    bad(
        "own-ranges-type",
        "source ranges are a load balancer's",
        "contract 7.2",
        "name = \"a\"\nload_balancer_source_ranges = [\"10.0.0.0/8\"]\nendpoints = []\nports = [{ port = 80 }]",
        "`load_balancer_source_ranges` may only be used when `type` is 'LoadBalancer'",
    ),
    bad(
        "own-health-type",
        "a health check's port is for load balancers with the policy Local",
        "contract 7.2",
        "name = \"a\"\ntype = \"LoadBalancer\"\nhealth_check_node_port = 32000\nendpoints = []\nports = [{ port = 80 }]",
        "`health_check_node_port` may only be set when `type` is 'LoadBalancer' and `external_traffic_policy` is 'Local'",
    ),
    bad(
        "own-external-policy",
        "an external policy is for Services that are to be had from outside",
        "contract 7.2",
        "name = \"a\"\nexternal_traffic_policy = \"Local\"\nendpoints = []\nports = [{ port = 80 }]",
        "`external_traffic_policy` may only be set",
    ),
    bad(
        "own-outer-taken",
        "an outer address and port belong to one Service",
        "contract 2.4: two rules for one address",
        "name = \"a\"\nexternal_ips = [\"203.0.113.9\"]\nendpoints = []\nports = [{ port = 80 }]\n[[service]]\nname = \"b\"\n\
         external_ips = [\"203.0.113.9\"]\nendpoints = []\nports = [{ port = 80 }]",
        "203.0.113.9 port 80/TCP is used twice",
    ),
    bad(
        "own-selector-and-endpoints",
        "a Service with a selector finds its endpoints itself",
        "contract 7.2",
        "name = \"a\"\nselector = { app = \"web\" }\nendpoints = [{ ip = \"192.0.2.1\" }]\nports = [{ port = 80 }]",
        "a service with a selector finds its endpoints itself",
    ),
    bad(
        "own-named-by-hand",
        "endpoints given by hand have no named ports",
        "contract 1.2",
        "name = \"a\"\nendpoints = [{ ip = \"192.0.2.1\" }]\nports = [{ port = 80, target_port = \"http\" }]",
        "endpoints given by hand have no named ports",
    ),
];
