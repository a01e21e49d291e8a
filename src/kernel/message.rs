//! Steps as the rtnetlink messages that carry them out.

use std::{
    fs::File,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::AsRawFd,
};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    link::{InfoData, InfoVeth, LinkMessage},
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
    route::{RouteHeader, RouteMessage, RouteScope, RouteType},
    rule::{RuleAction, RuleAttribute, RuleMessage},
};
use rtnetlink::{
    AddressMessageBuilder, LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
    RouteNextHopBuilder,
};

use super::netns;
use crate::{
    error::{Error, Result},
    plan::step::{IfIndex, Link, Mac, Step, Via},
};

/// One message.
pub(super) type Request = NetlinkMessage<RouteNetlinkMessage>;

/// The messages of one step, in the order in which the kernel has to get them.
#[derive(Debug)]
pub(super) struct Requests {
    /// They are for the step's own namespace.
    pub(super) all: Vec<Request>,
    /// They name it by its descriptor, which has to stay open until they are sent.
    pub(super) far_netns: Option<File>,
}

/// What carries a step out.
///
/// # Errors
///
/// When the far end of a veth has no namespace, or the step is none of the network's.
pub(super) fn of(step: &Step) -> Result<Requests> {
    let mut far_netns = None;
    let all = match step {
        Step::Loopback { .. } => vec![up(IfIndex(1))],
        Step::Bridge { link, mac } => {
            let bridge = LinkBridge::new(&link.name).index(link.index.0).address(mac.0.to_vec());
            vec![made(RouteNetlinkMessage::NewLink(bridge.mcast_snooping(false).up().build()))]
        }
        Step::Cable { near, near_mac, bridge, hairpin: reflects, far, far_mac } => {
            let far_netns = far_netns.insert(netns::open(&far.netns)?);
            let cable = cable((near, *near_mac), (far, *far_mac, far_netns), bridge.as_ref());
            // In the message that makes the link the kernel ignores this without a word.
            std::iter::once(cable).chain(reflects.then(|| hairpin(near))).collect()
        }
        Step::Address { link, address } => vec![new_address(link, *address), up(link.index)],
        Step::Settle { link } => vec![settle(link)],
        Step::Route { to, via, .. } => vec![made(RouteNetlinkMessage::NewRoute(route(*to, via)?))],
        Step::Refuse { link, to } => vec![made(RouteNetlinkMessage::NewRule(refuse(link, *to)))],
        Step::Spread { link, to, gateways } => vec![spread(link, *to, gateways)?],
        Step::Neighbour { link, ip, mac } => vec![neighbour(link, *ip, *mac)],
        other => return Err(Error::bug(format!("not a step of this stage: {other}"))),
    };
    Ok(Requests { all, far_netns })
}

/// A request for something that is not there yet.
fn made(message: RouteNetlinkMessage) -> Request {
    request(message, NLM_F_CREATE | NLM_F_EXCL)
}

fn request(message: RouteNetlinkMessage, flags: u16) -> Request {
    let mut request = NetlinkMessage::from(message);
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    request
}

/// A change of a link that is there. RTM_SETLINK would ignore what is said of a bridge port.
pub(super) fn changed(link: LinkMessage) -> Request {
    request(RouteNetlinkMessage::NewLink(link), 0)
}

/// Brings a link up.
pub(super) fn up(index: IfIndex) -> Request {
    changed(LinkUnspec::new_with_index(index.0).up().build())
}

/// Takes a link down.
pub(super) fn down(index: IfIndex) -> Request {
    changed(LinkUnspec::new_with_index(index.0).down().build())
}

/// Lets a bridge port send a frame back where it came from.
pub(super) fn hairpin(port: &Link) -> Request {
    changed(LinkBridgePort::new(port.index.0).hairpin(true).build())
}

/// Asks for one link, which makes the kernel notice its carrier now.
pub(super) fn settle(link: &Link) -> Request {
    let mut message = LinkMessage::default();
    message.header.index = link.index.0;
    request(RouteNetlinkMessage::GetLink(message), 0)
}

/// A veth with its near end here, up, and its far end in another namespace, down.
fn cable(near: (&Link, Mac), far: (&Link, Mac, &File), bridge: Option<&Link>) -> Request {
    let peer = LinkMessageBuilder::<LinkUnspec>::new()
        .name(&far.0.name)
        .index(far.0.index.0)
        .address(far.1.0.to_vec())
        .setns_by_fd(far.2.as_raw_fd());
    let mut cable = LinkMessageBuilder::<LinkVeth>::new(&near.0.name, &far.0.name)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer.build())))
        .index(near.0.index.0)
        .address(near.1.0.to_vec())
        .up();
    if let Some(bridge) = bridge {
        cable = cable.controller(bridge.index.0);
    }
    made(RouteNetlinkMessage::NewLink(cable.build()))
}

fn new_address(link: &Link, address: IpNet) -> Request {
    let message = match address {
        IpNet::V4(it) => {
            AddressMessageBuilder::<Ipv4Addr>::new().index(link.index.0).address(it.addr(), it.prefix_len()).build()
        }
        IpNet::V6(it) => {
            AddressMessageBuilder::<Ipv6Addr>::new().index(link.index.0).address(it.addr(), it.prefix_len()).build()
        }
    };
    made(RouteNetlinkMessage::NewAddress(message))
}

/// A route that takes the place of the one that leads there otherwise, if there is one.
///
/// # Errors
///
/// When it cannot be written down.
pub(super) fn replaced_route(to: IpNet, via: &Via) -> Result<Request> {
    Ok(replaced(RouteNetlinkMessage::NewRoute(route(to, via)?)))
}

fn replaced(message: RouteNetlinkMessage) -> Request {
    request(message, NLM_F_CREATE | NLM_F_REPLACE)
}

fn route(to: IpNet, via: &Via) -> Result<RouteMessage> {
    let builder = RouteMessageBuilder::<IpAddr>::new();
    let builder = builder.destination_prefix(to.network(), to.prefix_len()).map_err(malformed)?;
    let builder = match via {
        Via::Gateway(gateway, link) => builder.gateway(*gateway).map_err(malformed)?.output_interface(link.index.0),
        Via::Link(link) => builder.output_interface(link.index.0).scope(RouteScope::Link),
        Via::Blackhole => builder.kind(RouteType::BlackHole),
    };
    Ok(builder.build())
}

/// The route to an address: over all of these gateways, or to nowhere if there is none.
///
/// # Errors
///
/// When it cannot be written down.
pub(super) fn spread(link: &Link, to: IpNet, gateways: &[IpAddr]) -> Result<Request> {
    let builder = RouteMessageBuilder::<IpAddr>::new();
    let builder = builder.destination_prefix(to.network(), to.prefix_len()).map_err(malformed)?;
    let builder = match gateways {
        [] => builder.kind(RouteType::BlackHole),
        [gateway] => builder.gateway(*gateway).map_err(malformed)?.output_interface(link.index.0),
        several => {
            let hop = |gateway: &IpAddr| {
                let hop = match gateway {
                    IpAddr::V4(_) => RouteNextHopBuilder::new_ipv4(),
                    IpAddr::V6(_) => RouteNextHopBuilder::new_ipv6(),
                };
                Ok(hop.interface(link.index.0).via(*gateway).map_err(malformed)?.build())
            };
            builder.multipath(several.iter().map(hop).collect::<Result<_>>()?)
        }
    };
    Ok(replaced(RouteNetlinkMessage::NewRoute(builder.build())))
}

/// Drops the packets to an address that come in by a link.
fn refuse(link: &Link, to: IpNet) -> RuleMessage {
    let mut rule = RuleMessage::default();
    rule.header.family = family(to.addr());
    rule.header.table = RouteHeader::RT_TABLE_MAIN;
    rule.header.action = RuleAction::Blackhole;
    rule.header.dst_len = to.prefix_len();
    rule.attributes = vec![RuleAttribute::Iifname(link.name.clone()), RuleAttribute::Destination(to.network())];
    rule
}

/// A permanent neighbour; one that the kernel has found by itself becomes one.
fn neighbour(link: &Link, ip: IpAddr, mac: Mac) -> Request {
    let mut neighbour = NeighbourMessage::default();
    neighbour.header.family = family(ip);
    neighbour.header.ifindex = link.index.0;
    neighbour.header.state = NeighbourState::Permanent;
    neighbour.header.kind = RouteType::Unspec;
    let destination = match ip {
        IpAddr::V4(ip) => NeighbourAddress::Inet(ip),
        IpAddr::V6(ip) => NeighbourAddress::Inet6(ip),
    };
    neighbour.attributes =
        vec![NeighbourAttribute::Destination(destination), NeighbourAttribute::LinkLayerAddress(mac.0.to_vec())];
    replaced(RouteNetlinkMessage::NewNeighbour(neighbour))
}

fn family(ip: IpAddr) -> AddressFamily {
    match ip {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

pub(super) fn malformed(error: impl std::fmt::Display) -> Error {
    Error::bug(format!("a route that cannot be written down: {error}"))
}
