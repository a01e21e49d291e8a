//! Wires a lab: from its nodes, pods and clients to namespaces, bridges, veths, addresses and
//! routes. Decides every interface name, index and link-layer address.

use std::net::IpAddr;

use ipnet::IpNet;
use sha2::{Digest, Sha256};

use super::{
    addressing,
    allotted::Allotted,
    step::{Begins, IfIndex, Link, Mac, PlannedStep, Program, StageName, Step, Via, Watched},
    sysctl,
};
use crate::{
    lab::model::{Attach, BalancerEngine, Client, External, Lab, LoadBalancer, Node, NodeId, Place, Pod, Span},
    proxy::{
        balancer::{self, Health, Vip},
        endpoints::conditions,
        haproxy,
    },
};

/// The bridge in `host` that the nodes are plugged into.
const LAN: &str = "lan0";
/// The interface of a node, pod or client that leads out of it.
const UPLINK: &str = "eth0";
/// What the names of near ends begin with; also how a routed node tells its pods' interfaces.
pub const VETH_PREFIX: &str = "veth-";
/// `lo`, in every namespace.
const LOOPBACK: IfIndex = IfIndex(1);
/// Labs with more pods than this get permanent neighbours between pods and their nodes, those with more
/// nodes between all machines of the LAN. In smaller ones ARP is left to do its work, as in a real cluster.
const NEIGHBOURS_LEARNED: usize = 16;

/// Collects the steps of one lab.
pub(super) struct Wiring<'a> {
    lab: &'a Lab,
    allotted: Allotted,
    steps: Vec<(StageName, PlannedStep)>,
}

/// Every step that makes the lab's network, each with its stage; what has an interface index or a
/// name already keeps it.
pub(super) fn wire(lab: &Lab, allotted: Allotted) -> Vec<(StageName, PlannedStep)> {
    let mut wiring = Wiring { lab, allotted, steps: Vec::new() };
    wiring.namespaces();
    let lan = wiring.lan();
    for node in lab.node_ids().filter(|node| !lab.is_off(Place::Node(*node))) {
        wiring.node(node, &lan);
    }
    wiring.clients();
    if let Some(balancer) = &lab.load_balancer {
        wiring.balancer(balancer, &lan);
    }
    wiring.acquaint_lan(&lan);
    for external in &lab.externals {
        wiring.external(external);
    }
    wiring.steps
}

impl Wiring<'_> {
    fn add(&mut self, stage: StageName, at: &Span, step: Step) {
        self.steps.push((stage, PlannedStep { step, at: at.clone() }));
    }

    fn link(&mut self, netns: &str, name: impl Into<String>) -> Link {
        let name = name.into();
        let index = self.allotted.index(netns, &name);
        Link { netns: netns.to_owned(), name, index }
    }

    fn namespaces(&mut self) {
        let lab = self.lab;
        for place in lab.present_places() {
            let netns = lab.netns(place);
            let at = match place {
                Place::Host => &lab.cluster.at,
                Place::Node(id) => &lab.node(id).at,
                Place::Pod(id) => &lab.pod(id).at,
                Place::Client(id) => &lab.client(id).at,
                Place::External(id) => &lab.external(id).at,
                Place::LoadBalancer => lab.load_balancer.as_ref().map_or(&lab.cluster.at, |balancer| &balancer.at),
            };
            let sysctls = sysctl::of(lab, place);
            self.add(StageName::Namespaces, at, Step::Netns { netns: netns.clone(), sysctls });
            self.add(StageName::Bridges, at, Step::Loopback { netns });
        }
    }

    /// The LAN: a bridge in `host` that holds the nodes' gateway address. Packets to a
    /// cluster-internal address that come this far have lost their way; a real network drops
    /// them in silence, and so does `host`.
    fn lan(&mut self) -> Link {
        let lab = self.lab;
        let cluster = &lab.cluster;
        let lan = self.link("host", LAN);
        self.bridge(&cluster.at, &lan, addressing::mac_of(cluster.gateway));
        self.address(&cluster.at, &lan, cluster.gateway, cluster.node_subnet);
        for to in [cluster.cluster_cidr, cluster.service_cidr] {
            let step = Step::Route { netns: "host".to_owned(), to, via: Via::Blackhole };
            self.add(StageName::Routes, &cluster.at, step);
        }
        lan
    }

    fn bridge(&mut self, at: &Span, link: &Link, mac: Mac) {
        self.add(StageName::Bridges, at, Step::Bridge { link: link.clone(), mac });
    }

    fn address(&mut self, at: &Span, link: &Link, ip: IpAddr, subnet: IpNet) {
        let address = addressing::with_prefix(ip, subnet);
        self.add(StageName::Addresses, at, Step::Address { link: link.clone(), address });
    }

    fn route(&mut self, at: &Span, netns: &str, to: IpNet, via: Via) {
        self.add(StageName::Routes, at, Step::Route { netns: netns.to_owned(), to, via });
    }

    fn node(&mut self, id: NodeId, lan: &Link) {
        let lab = self.lab;
        let node = lab.node(id);
        let netns = node.name.as_str();
        let uplink = self.plug(&node.at, netns, node.ip, Some(lan), Hairpin::Off);
        if node.state.unplugged {
            let near = self.link(&lan.netns, near_name(netns));
            self.add(StageName::Carriers, &node.at, Step::Unplug { near, far: uplink.clone() });
        }
        self.address(&node.at, &uplink, node.ip, lab.cluster.node_subnet);
        let gateway = lab.cluster.gateway;
        self.route(&node.at, netns, addressing::default_of(gateway), Via::Gateway(gateway, uplink.clone()));
        for peer in lab.nodes.iter().filter(|peer| peer.name != node.name) {
            self.route(&node.at, netns, peer.pod_subnet, Via::Gateway(peer.ip, uplink.clone()));
        }
        let pods = lab.pods.iter().filter(|pod| pod.node == id && !pod.host_network);
        match &node.attach {
            Attach::Bridge(name) => {
                let bridge = self.link(netns, name.as_str());
                self.bridge(&node.at, &bridge, addressing::mac_of(node.pod_gateway));
                self.address(&node.at, &bridge, node.pod_gateway, node.pod_subnet);
                for pod in pods {
                    self.bridged_pod(node, pod, &bridge);
                }
            }
            Attach::Routed => {
                for pod in pods {
                    self.routed_pod(node, pod);
                }
            }
        }
    }

    /// Hairpin mode lets the bridge send a frame back where it came from: a pod's packet to
    /// its own Service, DNATed to itself while still a bridged frame (`br_netfilter`).
    fn bridged_pod(&mut self, node: &Node, pod: &Pod, bridge: &Link) {
        let netns = pod.full_name();
        let uplink = self.plug(&pod.at, &netns, pod.ip, Some(bridge), Hairpin::On);
        self.address(&pod.at, &uplink, pod.ip, node.pod_subnet);
        self.acquaint(pod, (bridge, addressing::mac_of(node.pod_gateway)), node.pod_gateway, &uplink);
        let default = addressing::default_of(pod.ip);
        self.route(&pod.at, &netns, default, Via::Gateway(node.pod_gateway, uplink));
    }

    /// Makes a pod and its node permanent neighbours, in a lab that is too big for ARP.
    fn acquaint(&mut self, pod: &Pod, node: (&Link, Mac), gateway: IpAddr, uplink: &Link) {
        if self.lab.pods.len() > NEIGHBOURS_LEARNED {
            let (link, mac) = node;
            for (link, ip, mac) in [(link, pod.ip, addressing::mac_of(pod.ip)), (uplink, gateway, mac)] {
                self.add(StageName::Routes, &pod.at, Step::Neighbour { link: link.clone(), ip, mac });
            }
        }
    }

    /// Makes all machines of the LAN permanent neighbours, if they are too many for ARP: what each has to know
    /// grows with their number, and so all of it with the square. Of one that is off, or has no cable, nobody
    /// knows where it is.
    fn acquaint_lan(&mut self, lan: &Link) {
        let lab = self.lab;
        if lab.nodes.len() <= NEIGHBOURS_LEARNED {
            return;
        }
        let mut machines = vec![(lan.clone(), lab.cluster.gateway, &lab.cluster.at)];
        let there = |id: &NodeId| !lab.is_off(Place::Node(*id)) && !lab.node(*id).state.unplugged;
        for node in lab.node_ids().filter(there).map(|id| lab.node(id)) {
            machines.push((self.link(node.name.as_str(), UPLINK), node.ip, &node.at));
        }
        if let Some(balancer) = &lab.load_balancer {
            machines.push((self.link(balancer.name.as_str(), UPLINK), balancer.ip, &balancer.at));
        }
        for (link, own, at) in &machines {
            for (_, ip, _) in machines.iter().filter(|(_, ip, _)| ip != own) {
                let step = Step::Neighbour { link: link.clone(), ip: *ip, mac: addressing::mac_of(*ip) };
                self.add(StageName::Routes, at, step);
            }
        }
    }

    fn routed_pod(&mut self, node: &Node, pod: &Pod) {
        let netns = pod.full_name();
        let near_name = near_name(&netns);
        let near = self.link(node.name.as_str(), near_name);
        let far = self.link(&netns, UPLINK);
        self.cable(&pod.at, near.clone(), far.clone(), None, Hairpin::Off, pod.ip);
        self.add(
            StageName::Addresses,
            &pod.at,
            Step::Address { link: near.clone(), address: addressing::host(node.pod_gateway) },
        );
        self.acquaint(pod, (&near, addressing::mac_of_port(near.index)), node.pod_gateway, &far);
        let address = addressing::host(pod.ip);
        self.add(StageName::Addresses, &pod.at, Step::Address { link: far.clone(), address });
        self.route(&pod.at, node.name.as_str(), addressing::host(pod.ip), Via::Link(near));
        // The gateway is not in the pod's /32: a link route makes it a neighbour first.
        self.route(&pod.at, &netns, addressing::host(node.pod_gateway), Via::Link(far.clone()));
        let default = addressing::default_of(pod.ip);
        self.add(
            StageName::DefaultRoutes,
            &pod.at,
            Step::Route { netns, to: default, via: Via::Gateway(node.pod_gateway, far) },
        );
    }

    /// Each client network is a bridge in `host`, which holds the network's first address.
    fn clients(&mut self) {
        let lab = self.lab;
        let mut networks: Vec<(IpNet, Link)> = Vec::new();
        for client in &lab.clients {
            let bridge = match networks.iter().find(|(network, _)| *network == client.ip.trunc()) {
                Some((_, bridge)) => bridge.clone(),
                None => {
                    let bridge = self.client_network(client);
                    networks.push((client.ip.trunc(), bridge.clone()));
                    bridge
                }
            };
            let netns = client.name.as_str();
            let uplink = self.plug(&client.at, netns, client.ip.addr(), Some(&bridge), Hairpin::Off);
            self.address(&client.at, &uplink, client.ip.addr(), client.ip);
            let gateway = addressing::first_of(client.ip);
            self.route(&client.at, netns, addressing::default_of(gateway), Via::Gateway(gateway, uplink));
        }
    }

    /// The load balancer is one more machine on the LAN. `host` leads its addresses to it, unless a
    /// packet comes from the LAN: a node takes such a packet itself, and what it does not take
    /// would come back to it by way of the load balancer, until its time to live is over.
    fn balancer(&mut self, balancer: &LoadBalancer, lan: &Link) {
        let lab = self.lab;
        let (netns, at) = (balancer.name.as_str(), &balancer.at);
        let uplink = self.plug(at, netns, balancer.ip, Some(lan), Hairpin::Off);
        self.address(at, &uplink, balancer.ip, lab.cluster.node_subnet);
        let gateway = lab.cluster.gateway;
        self.route(at, netns, addressing::default_of(gateway), Via::Gateway(gateway, uplink.clone()));
        let health = Health::of(lab, &conditions(lab));
        for vip in balancer::vips(lab) {
            let to = addressing::host(vip.ip);
            self.route(&vip.at, "host", to, Via::Gateway(balancer.ip, lan.clone()));
            self.add(StageName::Routes, &vip.at, Step::Refuse { link: lan.clone(), to });
            match balancer.engine {
                BalancerEngine::Builtin => {
                    let gateways = health.nodes_of(&vip).into_iter().map(|node| lab.node(node).ip).collect();
                    self.add(StageName::Routes, &vip.at, Step::Spread { link: uplink.clone(), to, gateways });
                }
                BalancerEngine::Haproxy => {
                    let link = Link { netns: netns.to_owned(), name: "lo".to_owned(), index: LOOPBACK };
                    self.add(StageName::Addresses, &vip.at, Step::Address { link, address: to });
                }
            }
        }
        let program = match balancer.engine {
            BalancerEngine::Builtin => {
                let watched = |vip: Vip| watched(lab, &health, vip, &uplink);
                Program::Watch(balancer::vips(lab).into_iter().map(watched).collect())
            }
            BalancerEngine::Haproxy => Program::Haproxy(haproxy::render(lab)),
        };
        self.add(StageName::Servers, at, Step::ServeBalancer { netns: netns.to_owned(), program });
    }

    /// A machine on the lab's internet is behind a veth of its own: `host` leads each of its addresses
    /// there, and it leads everything to `host`.
    fn external(&mut self, external: &External) {
        let (at, netns) = (&external.at, external.name.as_str());
        let gateway = self.lab.cluster.gateway;
        let near = self.link("host", near_name(netns));
        let far = self.link(netns, UPLINK);
        let Some(first) = external.ips.first() else { return };
        self.cable(at, near.clone(), far.clone(), None, Hairpin::Off, *first);
        self.add(StageName::Addresses, at, Step::Address { link: near.clone(), address: addressing::host(gateway) });
        for ip in &external.ips {
            let address = addressing::host(*ip);
            self.add(StageName::Addresses, at, Step::Address { link: far.clone(), address });
            self.route(at, "host", address, Via::Link(near.clone()));
        }
        self.route(at, netns, addressing::host(gateway), Via::Link(far.clone()));
        let to = addressing::default_of(gateway);
        let step = Step::Route { netns: netns.to_owned(), to, via: Via::Gateway(gateway, far) };
        self.add(StageName::DefaultRoutes, at, step);
    }

    fn client_network(&mut self, client: &Client) -> Link {
        let name = self.allotted.network(client.ip.trunc());
        let bridge = self.link("host", name);
        let gateway = addressing::first_of(client.ip);
        self.bridge(&client.at, &bridge, addressing::mac_of(gateway));
        self.address(&client.at, &bridge, gateway, client.ip);
        bridge
    }

    /// Plugs a place into a bridge; gives back the end inside the place.
    fn plug(&mut self, at: &Span, netns: &str, ip: IpAddr, bridge: Option<&Link>, hairpin: Hairpin) -> Link {
        let near_netns = bridge.map_or("host", |bridge| bridge.netns.as_str()).to_owned();
        let near = self.link(&near_netns, near_name(netns));
        let far = self.link(netns, UPLINK);
        self.cable(at, near, far.clone(), bridge.cloned(), hairpin, ip);
        far
    }

    fn cable(&mut self, at: &Span, near: Link, far: Link, bridge: Option<Link>, hairpin: Hairpin, ip: IpAddr) {
        for link in [&near, &far] {
            self.add(StageName::Carriers, at, Step::Settle { link: link.clone() });
        }
        let near_mac = addressing::mac_of_port(near.index);
        let far_mac = addressing::mac_of(ip);
        let hairpin = hairpin == Hairpin::On;
        self.add(StageName::Cables, at, Step::Cable { near, near_mac, bridge, hairpin, far, far_mac });
    }
}

fn watched(lab: &Lab, health: &Health<'_>, vip: Vip, link: &Link) -> Watched {
    let healthy = health.nodes_of(&vip);
    let begins = |node| match healthy.contains(&node) {
        _ if lab.is_off(Place::Node(node)) => Begins::Off,
        true => Begins::Healthy,
        false => Begins::Unhealthy,
    };
    Watched {
        to: addressing::host(vip.ip),
        link: link.clone(),
        nodes: lab.node_ids().map(|node| (lab.node(node).ip, begins(node))).collect(),
        checks: vip.checks,
    }
}

/// Whether a bridge port may send a frame back where it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hairpin {
    On,
    Off,
}

/// `veth-NAME`, or, where that is over the kernel's 15 bytes, `veth-` and ten hex digits of
/// the name's hash: 40 bits, so that even 20,000 pods clash less than once in 5,000 labs (and
/// a clash is an EEXIST at `up`, not a wrong network).
fn near_name(netns: &str) -> String {
    let name = format!("{VETH_PREFIX}{netns}");
    if name.len() <= 15 {
        return name;
    }
    let digest = Sha256::digest(netns.as_bytes());
    let hex = data_encoding::HEXLOWER.encode(&digest[..5]);
    format!("{VETH_PREFIX}{hex}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{
        lab::{Grid, load, model::ProxyMode},
        plan::plan,
    };

    /// Who knows whose address on the LAN for good, by name and address.
    fn acquaintances(lab: &Lab) -> BTreeSet<(String, IpAddr)> {
        let steps = plan(lab).stages.into_iter().flat_map(|stage| stage.steps);
        let on_lan = steps.filter_map(|planned| match planned.step {
            Step::Neighbour { link, ip, mac } if link.name == UPLINK || link.name == LAN => {
                assert_eq!(mac, addressing::mac_of(ip));
                Some((link.netns, ip))
            }
            _ => None,
        });
        on_lan
            .filter(|(netns, _)| netns == "host" || lab.nodes.iter().any(|node| node.name.as_str() == netns))
            .collect()
    }

    #[test]
    fn the_machines_of_a_large_lan_are_permanent_neighbours() {
        let lab = |nodes: usize| {
            let grid = Grid { nodes, pods: 1, services: 0, endpoints: 0, node_ports: 0, proxy: ProxyMode::Nftables };
            load(&grid.text().expect("there can be such a lab")).expect("it is good")
        };
        assert!(acquaintances(&lab(NEIGHBOURS_LEARNED)).is_empty());
        let mut large = lab(NEIGHBOURS_LEARNED + 1);
        let machines = large.nodes.len() + 1;
        assert_eq!(acquaintances(&large).len(), machines * (machines - 1));
        large.nodes[1].state.stopped = true;
        large.nodes[2].state.unplugged = true;
        let (gone, names) = ([large.nodes[1].ip, large.nodes[2].ip], ["node2", "node3"]);
        let left = acquaintances(&large);
        assert_eq!(left.len(), (machines - 2) * (machines - 3));
        assert!(left.iter().all(|(netns, ip)| !names.contains(&netns.as_str()) && !gone.contains(ip)));
    }

    #[test]
    fn near_names_fit_the_kernel() {
        assert_eq!(near_name("pod1a"), "veth-pod1a");
        assert_eq!(near_name("frontend-0"), "veth-frontend-0");
        let long = near_name("frontend-10");
        assert_eq!(long.len(), 15);
        assert_ne!(long, near_name("frontend-11"));
    }
}
