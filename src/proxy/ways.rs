//! Where an address of a lab is, and what becomes of a packet that no Service rule touches: the
//! lab's fixed topology, which every opinion on a path takes for granted.

use std::net::{IpAddr, Ipv4Addr};

use super::{balancer, view::OUTSIDE_PORT};
use crate::lab::model::{Lab, NodeId, Place, PodId, Protocol};

/// What is at the other end of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// A place holds the address.
    At(Place),
    /// The load balancer takes it, and gives it to a node.
    Balanced,
    /// No one does, and whoever is asked for it says nothing: `host` has a blackhole for the
    /// pods' and the Services' addresses.
    Blackhole,
    /// No one does, and a router or the client's own kernel says so.
    Nowhere,
}

/// Where a packet from `from` to `to` ends if no rule changes it.
pub(super) fn end(lab: &Lab, from: Place, to: IpAddr) -> End {
    end_by(lab, from, to, balancer::owns(lab, to), || holder(lab, to))
}

/// The same, of an address of which it is known whether the load balancer takes it, and can be
/// found out who holds it.
pub(super) fn end_by(
    lab: &Lab,
    from: Place,
    to: IpAddr,
    is_owned: bool,
    holder: impl FnOnce() -> Option<Place>,
) -> End {
    if to.is_loopback() {
        return End::At(from);
    }
    if is_owned {
        return match from {
            // What the nodes do not take themselves they send to `host`, which drops it: otherwise
            // it would come back to them by way of the load balancer, again and again.
            Place::Node(_) | Place::Pod(_) if !lab.cluster.node_subnet.contains(&to) => End::Blackhole,
            Place::Client(client) if !lab.client(client).ip.contains(&to) => End::Balanced,
            Place::Host | Place::LoadBalancer | Place::External(_) => End::Balanced,
            // It looks for a neighbour that is not there.
            Place::Node(_) | Place::Pod(_) | Place::Client(_) => End::Nowhere,
        };
    }
    let in_cluster = |ip: IpAddr| lab.cluster.cluster_cidr.contains(&ip);
    let virtual_ip = |ip: IpAddr| lab.cluster.service_cidr.contains(&ip);
    match from {
        // A blackhole answers EINVAL to its own node's connect(), and nothing to a packet that it
        // forwards; both mean that the client has no way there, but only the first says so.
        Place::Host if in_cluster(to) || virtual_ip(to) => End::Nowhere,
        Place::Client(_) | Place::LoadBalancer | Place::External(_) if in_cluster(to) || virtual_ip(to) => {
            End::Blackhole
        }
        _ => match holder() {
            // Whoever looks for it as a neighbour finds nobody, some seconds later.
            Some(place) if lab.is_off(place) => End::Blackhole,
            Some(place) => End::At(place),
            // A subnet of pods is on-link at its node, which finds no neighbour there.
            None if lab.nodes.iter().any(|node| node.pod_subnet.contains(&to)) => End::Nowhere,
            None if in_cluster(to) || virtual_ip(to) => End::Blackhole,
            None => End::Nowhere,
        },
    }
}

/// The place that holds an address other than a loopback one.
pub(super) fn holder(lab: &Lab, ip: IpAddr) -> Option<Place> {
    if ip == lab.cluster.gateway || lab.clients.iter().any(|client| client_gateway(client.ip) == Some(ip)) {
        return Some(Place::Host);
    }
    if let Some(node) = lab.node_ids().find(|id| lab.node(*id).ip == ip || lab.node(*id).pod_gateway == ip) {
        return Some(Place::Node(node));
    }
    if let Some(pod) = lab.pod_ids().find(|id| lab.pod(*id).ip == ip && !lab.pod(*id).host_network) {
        return Some(Place::Pod(pod));
    }
    if lab.load_balancer.as_ref().is_some_and(|balancer| balancer.ip == ip) {
        return Some(Place::LoadBalancer);
    }
    let client = lab.client_ids().find(|id| lab.client(*id).ip.addr() == ip).map(Place::Client);
    client.or_else(|| lab.external_ids().find(|id| lab.external(*id).ips.contains(&ip)).map(Place::External))
}

/// The node that a place is, or is on.
pub(super) fn node_of(lab: &Lab, place: Place) -> Option<NodeId> {
    match place {
        Place::Node(node) => Some(node),
        Place::Pod(pod) => Some(lab.pod(pod).node),
        Place::Host | Place::Client(_) | Place::LoadBalancer | Place::External(_) => None,
    }
}

/// The address that a connection from `from` to `to` starts with: that of the device it leaves by.
///
/// An address of the place itself is its own source; the loopback network has one for all.
pub(super) fn source(lab: &Lab, from: Place, to: IpAddr) -> IpAddr {
    source_by(lab, from, to, balancer::owns(lab, to), || holder(lab, to))
}

/// The same, as [`end_by`].
pub(super) fn source_by(
    lab: &Lab,
    from: Place,
    to: IpAddr,
    is_owned: bool,
    holder: impl FnOnce() -> Option<Place>,
) -> IpAddr {
    if to.is_loopback() {
        return if to.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { to };
    }
    if holder() == Some(from) {
        return to;
    }
    match from {
        Place::Host if is_owned => lab.cluster.gateway,
        Place::Host => {
            let net = lab.clients.iter().map(|client| client.ip).find(|net| net.contains(&to));
            net.and_then(client_gateway).unwrap_or(lab.cluster.gateway)
        }
        Place::Node(node) => egress_address(lab, node, to),
        Place::Pod(pod) => lab.pod(pod).ip,
        Place::Client(client) => lab.client(client).ip.addr(),
        Place::LoadBalancer => balancer::source(lab, to),
        Place::External(external) => lab.external(external).ips.first().copied().unwrap_or(lab.cluster.gateway),
    }
}

/// The primary address of the device by which a node sends to `to`: the bridge's, or that of a
/// routed pod's veth, towards its own pods, and its own elsewhere.
pub(super) fn egress_address(lab: &Lab, node: NodeId, to: IpAddr) -> IpAddr {
    let node = lab.node(node);
    if node.pod_subnet.contains(&to) { node.pod_gateway } else { node.ip }
}

/// What listens on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listener {
    /// A pod.
    Pod(PodId),
    /// The built-in server of a machine outside.
    Outside,
    /// A node's health check.
    Health,
}

/// What listens at a place.
pub(super) fn listener(lab: &Lab, place: Place, port: u16, protocol: Protocol) -> Option<Listener> {
    match place {
        Place::Host | Place::Client(_) => {
            (port == OUTSIDE_PORT && protocol == Protocol::Tcp).then_some(Listener::Outside)
        }
        Place::External(external) => {
            let serves = protocol == Protocol::Tcp && lab.external(external).ports.contains(&port);
            serves.then_some(Listener::Outside)
        }
        Place::LoadBalancer => None,
        Place::Node(_) | Place::Pod(_) => lab
            .pod_ids()
            .find(|pod| lab.pod_place(*pod) == place && answers(lab, *pod, port, protocol))
            .map(Listener::Pod)
            .or_else(|| is_health_check(lab, place, port, protocol).then_some(Listener::Health)),
    }
}

fn is_health_check(lab: &Lab, place: Place, port: u16, protocol: Protocol) -> bool {
    matches!(place, Place::Node(_)) && protocol == Protocol::Tcp && balancer::check_ports(lab).contains(&port)
}

/// A container of the pod declares the port.
fn answers(lab: &Lab, pod: PodId, port: u16, protocol: Protocol) -> bool {
    let mut ports = lab.pod(pod).containers.iter().flat_map(|container| &container.ports);
    ports.any(|declared| declared.container_port == port && declared.protocol == protocol)
}

/// `host`'s address on a client's network: the first.
pub(super) fn client_gateway(net: ipnet::IpNet) -> Option<IpAddr> {
    net.trunc().hosts().next()
}
