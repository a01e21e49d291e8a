//! The settings below `/proc/sys` that a namespace must have before its first link.
//!
//! A fresh network namespace copies the IPv4 `conf/all` and `conf/default` of the *initial*
//! one (`devinet_init_net`, unless `net.core.devconf_inherit_init_net` says otherwise), so a
//! workstation's own settings would give a different lab. What the lab relies on is written.

use crate::lab::model::{Attach, BalancerEngine, Lab, Place, ProxyMode};

/// The settings of a place, keys below `/proc/sys`.
pub(super) fn of(lab: &Lab, place: Place) -> Vec<(&'static str, String)> {
    let mut all: Vec<(&'static str, String)> = EVERYWHERE.iter().map(own).collect();
    match place {
        Place::Host => all.extend(ROUTER.iter().chain(HOST).map(own)),
        Place::Node(id) => {
            all.extend(ROUTER.iter().map(own));
            if lab.cluster.proxy != ProxyMode::Ladder {
                all.extend(KUBE_PROXY.iter().map(own));
            }
            let localhost_node_ports = match lab.cluster.proxy {
                ProxyMode::Iptables | ProxyMode::Ladder => "1",
                ProxyMode::Nftables => "0",
            };
            all.push((ROUTE_LOCALNET, localhost_node_ports.to_owned()));
            if let Attach::Bridge(_) = lab.node(id).attach {
                all.push((BRIDGE_NF, "1".to_owned()));
            }
        }
        Place::LoadBalancer => match lab.load_balancer.as_ref().map(|balancer| balancer.engine) {
            Some(BalancerEngine::Builtin) => all.extend(ROUTER.iter().chain(SPREADER).map(own)),
            Some(BalancerEngine::Haproxy) | None => all.extend(LEAF.iter().map(own)),
        },
        Place::Pod(_) | Place::Client(_) | Place::External(_) => all.extend(LEAF.iter().map(own)),
    }
    all
}

fn own((key, value): &(&'static str, &str)) -> (&'static str, String) {
    (key, (*value).to_owned())
}

/// Lets packets from or to 127/8 leave the loopback: for NodePorts on localhost.
const ROUTE_LOCALNET: &str = "net/ipv4/conf/all/route_localnet";
/// Shows bridged frames to iptables: without it a reply between two pods of one bridge never
/// passes the hook that would undo the DNAT. Its default in a fresh namespace is 1.
const BRIDGE_NF: &str = "net/bridge/bridge-nf-call-iptables";

const EVERYWHERE: &[(&str, &str)] = &[
    // No IPv6 addresses on the links to come, so no duplicate address detection to wait for;
    // `lo` exists already and keeps its ::1.
    ("net/ipv6/conf/default/disable_ipv6", "1"),
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
    ("net/ipv4/conf/default/route_localnet", "0"),
    // Redirects spend the same budget as the port-unreachables of a REJECT.
    ("net/ipv4/conf/all/send_redirects", "0"),
    ("net/ipv4/conf/default/send_redirects", "0"),
];

const ROUTER: &[(&str, &str)] = &[
    ("net/ipv4/ip_forward", "1"),
    // By default a client gets six refusals at once and then one a second.
    ("net/ipv4/icmp_ratemask", "0"),
];

/// kube-proxy's own defaults, in seconds: the kernel's are 432000 and 60.
const KUBE_PROXY: &[(&str, &str)] = &[
    ("net/netfilter/nf_conntrack_tcp_timeout_established", "86400"),
    ("net/netfilter/nf_conntrack_tcp_timeout_close_wait", "3600"),
];

// The LAN is a bridge too; rules in `host` are no business of frames between nodes. There is
// no such file where br_netfilter is a module that is not loaded, and then nothing to switch
// off; `kernel::apply` forgives a missing file where the wanted value is 0.
const HOST: &[(&str, &str)] = &[(BRIDGE_NF, "0"), (ROUTE_LOCALNET, "0")];

// Of the packets to an address with several next hops, those with the same addresses, protocol and
// ports take the same one; by default the addresses alone would decide, and a client would always
// come to the same node. The pieces of a datagram show no ports (not even the first: the kernel
// does not look into it), so these go by their addresses, and stay together.
const SPREADER: &[(&str, &str)] = &[("net/ipv4/fib_multipath_hash_policy", "1"), (ROUTE_LOCALNET, "0")];

const LEAF: &[(&str, &str)] = &[("net/ipv4/ip_forward", "0"), (ROUTE_LOCALNET, "0")];
