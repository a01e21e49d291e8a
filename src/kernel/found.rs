//! What a namespace has: its links, addresses, routes, neighbours and settings.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use futures::TryStreamExt;
use ipnet::IpNet;
use netlink_packet_route::{
    address::{AddressAttribute, AddressMessage},
    link::{InfoBridgePort, InfoPortData, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
    route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteType},
    rule::{RuleAction, RuleAttribute, RuleMessage},
};
use rtnetlink::{IpVersion, RouteMessageBuilder};
use tokio::runtime;

use super::{
    netlink::{Netlink, link_name},
    netns,
};
use crate::{
    error::{Context, Result},
    plan::{
        mend::{Route, RouteKind},
        step::{Mac, Step},
    },
    probe::network::{Found, FoundLink, settings},
};

/// The table of routes that packets go by.
const MAIN: u32 = 254;

/// What there is of the things that these steps make.
///
/// # Errors
///
/// When the kernel does not say.
pub(super) async fn found(netns: &str, steps: &[&Step]) -> Result<Found> {
    let runtime = runtime::Handle::current();
    let wanted = settings(netns, steps);
    let (socket, settings) = netns::inside(netns, || {
        let read = wanted.keys().filter_map(|key| Some((key.clone(), netns::read_sysctl(key).ok()?)));
        Ok((Netlink::open(&runtime)?, read.collect()))
    })?;
    let refuses = steps.iter().any(|step| matches!(step, Step::Refuse { .. }));
    Ok(Found {
        links: socket.links().await?.iter().map(|it| (it.header.index, link(it))).collect(),
        addresses: addresses(&socket).await?,
        routes: routes(&socket).await?,
        refused: if refuses { refused(&socket).await? } else { BTreeSet::new() },
        neighbours: neighbours(&socket).await?,
        settings,
    })
}

fn link(message: &LinkMessage) -> FoundLink {
    let mut link = FoundLink {
        name: link_name(message).unwrap_or_default().to_owned(),
        up: message.header.flags.contains(LinkFlags::Up),
        ..FoundLink::default()
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Controller(index) => link.master = Some(*index),
            LinkAttribute::Address(bytes) => link.mac = bytes.as_slice().try_into().ok().map(Mac),
            LinkAttribute::Link(index) => link.peer = Some(*index),
            LinkAttribute::LinkInfo(infos) => link.hairpin = infos.iter().any(is_hairpin),
            _ => {}
        }
    }
    link
}

fn is_hairpin(info: &LinkInfo) -> bool {
    let LinkInfo::PortData(InfoPortData::BridgePort(port)) = info else { return false };
    port.iter().any(|it| matches!(it, InfoBridgePort::HairpinMode(true)))
}

async fn addresses(socket: &Netlink) -> Result<BTreeSet<(u32, IpNet)>> {
    let dump: Vec<AddressMessage> =
        socket.handle().address().get().execute().try_collect().await.context("cannot list addresses")?;
    let address = |message: AddressMessage| {
        let of = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| message.attributes.iter().find_map(wanted);
        // Of a point-to-point link, IFA_LOCAL is our end; IPv6 has only the other one.
        let local = of(|it| if let AddressAttribute::Local(ip) = it { Some(*ip) } else { None });
        let ip = local.or_else(|| of(|it| if let AddressAttribute::Address(ip) = it { Some(*ip) } else { None }))?;
        Some((message.header.index, IpNet::new(ip, message.header.prefix_len).ok()?))
    };
    Ok(dump.into_iter().filter_map(address).collect())
}

/// Those that a person or a program has added; the kernel's own come and go with the addresses, and those of routing
/// daemons are theirs.
async fn routes(socket: &Netlink) -> Result<Vec<Route>> {
    let request = RouteMessageBuilder::<std::net::Ipv4Addr>::new().build();
    let dump: Vec<RouteMessage> =
        socket.handle().route().get(request).execute().try_collect().await.context("cannot list routes")?;
    let added = |message: &&RouteMessage| {
        let table = message.attributes.iter().find_map(|it| match it {
            RouteAttribute::Table(table) => Some(*table),
            _ => None,
        });
        matches!(message.header.protocol, RouteProtocol::Boot | RouteProtocol::Static)
            && table.unwrap_or(u32::from(message.header.table)) == MAIN
    };
    Ok(dump.iter().filter(added).filter_map(route).collect())
}

fn route(message: &RouteMessage) -> Option<Route> {
    let kind = match message.header.kind {
        RouteType::Unicast => RouteKind::Unicast,
        RouteType::BlackHole => RouteKind::Blackhole,
        other => RouteKind::Other(other.into()),
    };
    let mut to = IpAddr::from([0, 0, 0, 0]);
    let (mut hop, mut several, mut metric, mut source) = ((None, None), Vec::new(), 0, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(is) => to = ip(is)?,
            RouteAttribute::Gateway(via) => hop.0 = ip(via),
            RouteAttribute::Oif(index) => hop.1 = Some(*index),
            RouteAttribute::Priority(is) => metric = *is,
            RouteAttribute::PrefSource(is) => source = ip(is),
            RouteAttribute::MultiPath(hops) => {
                several = hops.iter().map(|hop| (gateway(&hop.attributes), Some(hop.interface_index))).collect();
            }
            _ => {}
        }
    }
    let hops = match hop {
        (None, None) => several,
        hop => vec![hop],
    };
    let to = IpNet::new(to, message.header.destination_prefix_length).ok()?;
    Some(Route { to, kind, hops, metric, source })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    }
}

fn gateway(attributes: &[RouteAttribute]) -> Option<IpAddr> {
    attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(via) => ip(via),
        _ => None,
    })
}

async fn refused(socket: &Netlink) -> Result<BTreeSet<(String, IpNet)>> {
    let rules: Vec<RuleMessage> =
        socket.handle().rule().get(IpVersion::V4).execute().try_collect().await.context("cannot list rules")?;
    let drop = rules.iter().filter(|rule| rule.header.action == RuleAction::Blackhole).filter_map(|rule| {
        let (mut link, mut to) = (None, None);
        for attribute in &rule.attributes {
            match attribute {
                RuleAttribute::Iifname(name) => link = Some(name.clone()),
                RuleAttribute::Destination(ip) => to = IpNet::new(*ip, rule.header.dst_len).ok(),
                _ => {}
            }
        }
        link.zip(to)
    });
    Ok(drop.collect())
}

async fn neighbours(socket: &Netlink) -> Result<BTreeMap<(u32, IpAddr), Mac>> {
    let dump: Vec<NeighbourMessage> =
        socket.handle().neighbours().get().execute().try_collect().await.context("cannot list neighbours")?;
    let neighbour = |message: &NeighbourMessage| {
        let (mut to, mut mac) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => to = Some(IpAddr::V4(*ip)),
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => to = Some(IpAddr::V6(*ip)),
                NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok().map(Mac),
                _ => {}
            }
        }
        Some(((message.header.ifindex, to?), mac?))
    };
    Ok(dump.iter().filter(|it| it.header.state == NeighbourState::Permanent).filter_map(neighbour).collect())
}
