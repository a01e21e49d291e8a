//! Holds the kernel's state against the plan.
//!
//! Rules are compared as the tool prints them: what should be is loaded into an empty scratch
//! namespace and printed by the same tool, so that neither rounding nor spelling differs.

use std::collections::{BTreeMap, BTreeSet};

use futures::TryStreamExt;
use netlink_packet_route::{
    address::AddressAttribute,
    link::{LinkAttribute, LinkFlags, LinkMessage},
    route::{RouteAddress, RouteAttribute, RouteMessage, RouteType},
    rule::{RuleAction, RuleAttribute, RuleMessage},
};
use rtnetlink::{IpVersion, RouteMessageBuilder};

use super::{
    netlink::Netlink,
    netns,
    process::{Entrance, Processes},
    rules,
    serve::{ServerState, Servers},
};
use crate::{
    error::{Context, Result},
    lab::model::{Lab, ProxyMode},
    plan::step::{Plan, Step, Via},
    probe::{
        drift::{Drift, DriftKind},
        ruleset,
    },
};

/// Everything that differs.
///
/// # Errors
///
/// When the kernel's state cannot be read.
pub async fn drifts(lab: &Lab, plan: &Plan, processes: &Processes, servers: &Servers) -> Result<Vec<Drift>> {
    let mut by_netns: BTreeMap<&str, Vec<&Step>> = BTreeMap::new();
    let planned = || plan.stages.iter().flat_map(|stage| &stage.steps);
    // The load balancer follows the nodes' health, and may have done so.
    let spreads: Vec<Step> = planned().filter_map(|planned| at_present(&planned.step, servers)).collect();
    for step in &spreads {
        by_netns.entry(step.netns()).or_default().push(step);
    }
    for step in planned().filter(|planned| !matches!(planned.step, Step::Spread { .. })) {
        by_netns.entry(step.step.netns()).or_default().push(&step.step);
        if let Step::Cable { far, .. } = &step.step {
            by_netns.entry(&far.netns).or_default().push(&step.step);
        }
    }
    let mut drifts = dead_servers(lab, servers);
    for (netns, steps) in by_netns {
        drifts.extend(network(netns, &steps).await?);
        for step in steps {
            if let Step::Rules { proxy, text, .. } = step {
                drifts.extend(rules(netns, *proxy, text, processes).await?);
            }
        }
    }
    Ok(drifts)
}

fn dead_servers(lab: &Lab, servers: &Servers) -> Vec<Drift> {
    let states = servers.states().into_iter();
    let down = states.filter(|(_, state)| state.is_down());
    let drift = |((name, container), state): ((String, String), ServerState)| {
        let dns = lab.pods.iter().any(|pod| pod.serves_dns() && pod.full_name() == name);
        let text = match dns {
            true => format!("the DNS server of {name} {state}"),
            false => format!("the server of the container {container} of {name} {state}"),
        };
        let netns = lab.find(&name).map_or_else(|| name.clone(), |place| lab.netns(place));
        Drift { netns, kind: DriftKind::Server, text, mend: None }
    };
    let balancer = lab.load_balancer.as_ref().zip(servers.balancer()).and_then(|(balancer, state)| {
        let ServerState::Ended { how } = state else { return None };
        let text = format!("haproxy {how}");
        Some(Drift { netns: balancer.name.to_string(), kind: DriftKind::Server, text, mend: None })
    });
    down.map(drift).chain(balancer).collect()
}

/// A route of the load balancer as it should be by now.
fn at_present(step: &Step, servers: &Servers) -> Option<Step> {
    let Step::Spread { link, to, gateways } = step else { return None };
    let gateways = servers.spreads().of(*to).unwrap_or_else(|| gateways.clone());
    Some(Step::Spread { link: link.clone(), to: *to, gateways })
}

/// What there is in a namespace.
struct Found {
    links: BTreeMap<u32, LinkMessage>,
    addresses: BTreeSet<(u32, std::net::IpAddr, u8)>,
    routes: Vec<RouteMessage>,
    /// What a rule drops: pairs of an interface and a destination.
    refused: BTreeSet<(String, ipnet::IpNet)>,
    /// The near ends of cables that were pulled on purpose.
    pulled: BTreeSet<u32>,
}

async fn network(netns: &str, steps: &[&Step]) -> Result<Vec<Drift>> {
    let runtime = tokio::runtime::Handle::current();
    let wanted: Vec<(&'static str, String)> = steps.iter().flat_map(|step| sysctls(step)).collect();
    let (socket, sysctls) = netns::inside(netns, || {
        let read = wanted.iter().map(|(key, value)| (*key, value.clone(), netns::read_sysctl(key).ok()));
        Ok((Netlink::open(&runtime)?, read.collect::<Vec<_>>()))
    })?;
    let mut drifts: Vec<Drift> = sysctls
        .into_iter()
        .filter(|(_, wanted, found)| found.as_ref().is_some_and(|found| found != wanted))
        .map(|(key, wanted, found)| Drift {
            netns: netns.to_owned(),
            kind: DriftKind::Sysctl,
            text: format!("{} is {}, and should be {wanted}", key.replace('/', "."), found.unwrap_or_default()),
            mend: Some(exec(netns, &format!("sysctl -w {}={wanted}", key.replace('/', ".")))),
        })
        .collect();
    let mut found = look(&socket).await?;
    if steps.iter().any(|step| matches!(step, Step::Refuse { .. })) {
        found.refused = refused(&socket).await?;
    }
    found.pulled = steps.iter().filter_map(|step| pulled(step)).collect();
    for step in steps {
        drifts.extend(missing(netns, step, &found));
    }
    Ok(drifts)
}

fn pulled(step: &Step) -> Option<u32> {
    match step {
        Step::Unplug { near, .. } => Some(near.index.0),
        _ => None,
    }
}

fn sysctls(step: &Step) -> Vec<(&'static str, String)> {
    match step {
        Step::Netns { sysctls, .. } => sysctls.clone(),
        _ => Vec::new(),
    }
}

async fn look(socket: &Netlink) -> Result<Found> {
    let links = socket.links().await?.into_iter().map(|link| (link.header.index, link)).collect();
    let dump: Vec<_> =
        socket.handle().address().get().execute().try_collect().await.context("cannot list addresses")?;
    let addresses = dump.into_iter().filter_map(|message| {
        // Of a point-to-point link, IFA_LOCAL is our end; of others, both are the same.
        let ip = message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Local(ip) => Some(*ip),
            _ => None,
        })?;
        Some((message.header.index, ip, message.header.prefix_len))
    });
    let addresses = addresses.collect();
    let request = RouteMessageBuilder::<std::net::Ipv4Addr>::new().build();
    let routes = socket.handle().route().get(request).execute().try_collect().await.context("cannot list routes")?;
    Ok(Found { links, addresses, routes, refused: BTreeSet::new(), pulled: BTreeSet::new() })
}

async fn refused(socket: &Netlink) -> Result<BTreeSet<(String, ipnet::IpNet)>> {
    let rules: Vec<RuleMessage> =
        socket.handle().rule().get(IpVersion::V4).execute().try_collect().await.context("cannot list rules")?;
    let drop = rules.iter().filter(|rule| rule.header.action == RuleAction::Blackhole).filter_map(|rule| {
        let (mut link, mut to) = (None, None);
        for attribute in &rule.attributes {
            match attribute {
                RuleAttribute::Iifname(name) => link = Some(name.clone()),
                RuleAttribute::Destination(ip) => to = ipnet::IpNet::new(*ip, rule.header.dst_len).ok(),
                _ => {}
            }
        }
        link.zip(to)
    });
    Ok(drop.collect())
}

/// What a step has made and is not there (any more).
fn missing(netns: &str, step: &Step, found: &Found) -> Vec<Drift> {
    let drift = |kind, text, mend: String| Drift { netns: netns.to_owned(), kind, text, mend: Some(mend) };
    let down = |name: &str, index: u32| match found.links.get(&index) {
        None => Some(drift(DriftKind::Link, format!("the link {name} is missing"), step.to_string())),
        Some(link) if !link.header.flags.contains(LinkFlags::Up) && !found.pulled.contains(&index) => {
            let mend = exec(netns, &format!("ip link set {name} up"));
            Some(drift(DriftKind::Link, format!("the link {name} is down"), mend))
        }
        Some(_) => None,
    };
    match step {
        Step::Loopback { .. } => down("lo", 1).into_iter().collect(),
        Step::Bridge { link, .. } => down(&link.name, link.index.0).into_iter().collect(),
        Step::Cable { near, far, bridge, .. } => {
            let end = if near.netns == netns { near } else { far };
            let unplugged = bridge.as_ref().filter(|_| near.netns == netns).and_then(|bridge| {
                let master = found.links.get(&near.index.0).and_then(master);
                let text = format!("the link {} is not a port of {}", near.name, bridge.name);
                let mend = exec(netns, &format!("ip link set {} master {}", near.name, bridge.name));
                (found.links.contains_key(&near.index.0) && master != Some(bridge.index.0))
                    .then(|| drift(DriftKind::Link, text, mend))
            });
            down(&end.name, end.index.0).into_iter().chain(unplugged).collect()
        }
        Step::Address { link, address } => {
            let there = found.addresses.contains(&(link.index.0, address.addr(), address.prefix_len()));
            let text = format!("the address {address} of {} is missing", link.name);
            let mend = exec(netns, &format!("ip address add {address} dev {}", link.name));
            if there { Vec::new() } else { vec![drift(DriftKind::Address, text, mend)] }
        }
        Step::Route { to, via, .. } => {
            let there = found.routes.iter().any(|route| is_route(route, *to, via));
            let text = format!("the route {} is missing", route_text(*to, via));
            if there { Vec::new() } else { vec![drift(DriftKind::Route, text, step.to_string())] }
        }
        Step::Spread { to, gateways, .. } => {
            let there = found.routes.iter().any(|route| is_spread(route, *to, gateways));
            let text = format!("the route to {} over {} nodes is missing", to.addr(), gateways.len());
            if there { Vec::new() } else { vec![drift(DriftKind::Route, text, step.to_string())] }
        }
        Step::Refuse { link, to } => {
            let there = found.refused.contains(&(link.name.clone(), *to));
            let text = format!("the rule that drops packets from {} to {} is missing", link.name, to.addr());
            if there { Vec::new() } else { vec![drift(DriftKind::Route, text, step.to_string())] }
        }
        Step::Unplug { near, .. } => {
            let up = found.links.get(&near.index.0).is_some_and(|link| link.header.flags.contains(LinkFlags::Up));
            let text = format!("the link {} is up, and its cable was pulled", near.name);
            if up { vec![drift(DriftKind::Link, text, step.to_string())] } else { Vec::new() }
        }
        Step::Netns { .. }
        | Step::Settle { .. }
        | Step::Neighbour { .. }
        | Step::Rules { .. }
        | Step::Serve { .. }
        | Step::ServeOutside { .. }
        | Step::ServeNames { .. }
        | Step::ServeHealth { .. }
        | Step::ServeBalancer { .. } => Vec::new(),
    }
}

fn route_text(to: ipnet::IpNet, via: &Via) -> String {
    let to = if to.prefix_len() == 0 { "default".to_owned() } else { to.to_string() };
    match via {
        Via::Gateway(gateway, link) => format!("{to} via {gateway} dev {}", link.name),
        Via::Link(link) => format!("{to} dev {}", link.name),
        Via::Blackhole => format!("blackhole {to}"),
    }
}

fn master(link: &LinkMessage) -> Option<u32> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Controller(index) => Some(*index),
        _ => None,
    })
}

fn is_route(route: &RouteMessage, to: ipnet::IpNet, via: &Via) -> bool {
    let address = |address: &RouteAddress| match address {
        RouteAddress::Inet(ip) => Some(std::net::IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(std::net::IpAddr::V6(*ip)),
        _ => None,
    };
    let (mut destination, mut gateway, mut link) = (None, None, None);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Destination(to) => destination = address(to),
            RouteAttribute::Gateway(via) => gateway = address(via),
            RouteAttribute::Oif(index) => link = Some(*index),
            _ => {}
        }
    }
    let same_destination = route.header.destination_prefix_length == to.prefix_len()
        && (to.prefix_len() == 0 || destination == Some(to.network()));
    same_destination
        && match via {
            Via::Gateway(ip, through) => gateway == Some(*ip) && link == Some(through.index.0),
            Via::Link(through) => gateway.is_none() && link == Some(through.index.0),
            Via::Blackhole => route.header.kind == RouteType::BlackHole,
        }
}

/// The route leads to an address over all of these gateways and no others.
fn is_spread(route: &RouteMessage, to: ipnet::IpNet, gateways: &[std::net::IpAddr]) -> bool {
    let ip = |address: &RouteAddress| match address {
        RouteAddress::Inet(ip) => Some(std::net::IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(std::net::IpAddr::V6(*ip)),
        _ => None,
    };
    let gateway = |attributes: &[RouteAttribute]| {
        attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Gateway(via) => ip(via),
            _ => None,
        })
    };
    let is = |attribute: &RouteAttribute| matches!(attribute, RouteAttribute::Destination(is) if ip(is) == Some(to.network()));
    if route.header.destination_prefix_length != to.prefix_len() || !route.attributes.iter().any(is) {
        return false;
    }
    let several = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::MultiPath(hops) => Some(hops.iter().filter_map(|hop| gateway(&hop.attributes)).collect()),
        _ => None,
    });
    let found: BTreeSet<std::net::IpAddr> = several.unwrap_or_else(|| gateway(&route.attributes).into_iter().collect());
    let dropped = route.header.kind == RouteType::BlackHole;
    dropped == gateways.is_empty() && found.iter().eq(gateways.iter().collect::<BTreeSet<_>>())
}

async fn rules(netns: &str, proxy: ProxyMode, text: &str, processes: &Processes) -> Result<Vec<Drift>> {
    let wanted = rules::printed(proxy, text, processes).await?;
    let found = rules::save_from(Entrance::to_netns(netns)?, proxy, text.len(), processes).await?;
    Ok(ruleset::compare(netns, proxy, &wanted, &found))
}

/// A command as it is typed in `netlab shell`.
fn exec(netns: &str, command: &str) -> String {
    match netns {
        netns::HOST => command.to_owned(),
        netns => format!("ip netns exec {netns} {command}"),
    }
}
