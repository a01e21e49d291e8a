//! Compares what a namespace has with the steps that made it: what is missing, what is otherwise, what
//! is too much, and what puts that right.
//!
//! A link that no step has made is somebody else's, with all that leads over it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

use super::drift::{Drift, DriftKind};
use crate::plan::{
    mend::{Mend, Route, RouteKind},
    step::{IfIndex, Link, Mac, Step, Via},
};

/// What there is in a namespace.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// By index.
    pub links: BTreeMap<u32, FoundLink>,
    /// Of links, by index.
    pub addresses: BTreeSet<(u32, IpNet)>,
    /// Those that somebody has added, to the main table.
    pub routes: Vec<Route>,
    /// What a rule drops: pairs of an interface and a destination.
    pub refused: BTreeSet<(String, IpNet)>,
    /// The permanent ones.
    pub neighbours: BTreeMap<(u32, IpAddr), Mac>,
    /// Settings below `/proc/sys`, as far as they are there.
    pub settings: BTreeMap<String, String>,
}

/// A link that there is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FoundLink {
    /// Its name.
    pub name: String,
    /// It is up.
    pub up: bool,
    /// Its bridge.
    pub master: Option<u32>,
    /// A bridge port: whether frames may leave by the port they came in.
    pub hairpin: bool,
    /// Its address.
    pub mac: Option<Mac>,
    /// A veth: the index of its other end.
    pub peer: Option<u32>,
}

/// A difference, and what puts it right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The difference.
    pub drift: Drift,
    /// In any order; see [`Mend::order`].
    pub mends: Vec<Mend>,
}

/// The settings that a namespace with these steps has, with their values. What new links begin with
/// (`conf/default`) they keep, and what is forwarded is forwarded by all.
pub fn settings(netns: &str, steps: &[&Step]) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let links: BTreeSet<&str> = links(netns, steps).iter().map(|link| link.name.as_str()).collect();
    for (key, value) in steps
        .iter()
        .filter_map(|step| match step {
            Step::Netns { sysctls, .. } => Some(sysctls),
            _ => None,
        })
        .flatten()
    {
        all.insert((*key).to_owned(), value.clone());
        let of_link = match *key {
            "net/ipv4/ip_forward" => Some(("net/ipv4/conf", "forwarding")),
            key => key.split_once("/default/"),
        };
        if let Some((before, after)) = of_link {
            all.extend(links.iter().map(|link| (format!("{before}/{link}/{after}"), value.clone())));
        }
    }
    all
}

/// The links that steps make in a namespace.
fn links<'a>(netns: &str, steps: &[&'a Step]) -> Vec<&'a Link> {
    let ends = steps.iter().flat_map(|step| match step {
        Step::Bridge { link, .. } => vec![link],
        Step::Cable { near, far, .. } => vec![near, far],
        _ => Vec::new(),
    });
    ends.filter(|link| link.netns == netns).collect()
}

/// What differs in a namespace from what these steps have made.
pub fn compare(netns: &str, steps: &[&Step], found: &Found) -> Vec<Finding> {
    let pulled = steps.iter().filter_map(|step| match step {
        Step::Unplug { near, .. } => Some(near.index.0),
        _ => None,
    });
    let mut comparison = Comparison { netns, found, pulled: pulled.collect(), findings: Vec::new() };
    comparison.settings(steps);
    for step in steps {
        comparison.step(step);
    }
    comparison.surplus(steps);
    comparison.findings
}

struct Comparison<'a> {
    netns: &'a str,
    found: &'a Found,
    /// The near ends of cables that were pulled on purpose.
    pulled: BTreeSet<u32>,
    findings: Vec<Finding>,
}

impl Comparison<'_> {
    fn say(&mut self, kind: DriftKind, text: String, mends: Vec<Mend>) {
        let typed: Vec<String> = mends.iter().map(ToString::to_string).collect();
        let drift = Drift { mend: Some(typed.join("\n")), ..Drift::new(self.netns, kind, text) };
        self.findings.push(Finding { drift, mends });
    }

    fn settings(&mut self, steps: &[&Step]) {
        let differ = settings(self.netns, steps).into_iter().filter_map(|(key, value)| {
            let is = self.found.settings.get(&key).filter(|is| **is != value)?;
            Some((key, is, value))
        });
        let mut differ: Vec<_> = differ.collect();
        // What is set for all links changes each of them.
        if differ.iter().any(|(key, ..)| key == "net/ipv4/ip_forward") {
            differ.retain(|(key, ..)| !key.ends_with("/forwarding"));
        }
        for (key, is, value) in differ {
            let text = format!("{} is {is}, and should be {value}", key.replace('/', "."));
            self.say(DriftKind::Sysctl, text, vec![Mend::Set { netns: self.netns.to_owned(), key, value }]);
        }
    }

    fn step(&mut self, step: &Step) {
        let make = || vec![Mend::Make(step.clone())];
        match step {
            Step::Loopback { netns } => {
                let lo = Link { netns: netns.clone(), name: "lo".to_owned(), index: IfIndex(1) };
                self.link(&lo, None, step);
            }
            Step::Bridge { link, mac } => {
                self.link(link, Some(*mac), step);
            }
            Step::Cable { near, near_mac, bridge, hairpin, far, far_mac } => {
                for (end, mac, other) in [(near, near_mac, far), (far, far_mac, near)] {
                    if end.netns == self.netns && self.link(end, Some(*mac), step) {
                        self.peer(end, other, step);
                    }
                }
                if let Some(bridge) = bridge.as_ref().filter(|_| near.netns == self.netns) {
                    self.port(near, bridge, *hairpin);
                }
            }
            Step::Unplug { near, .. } if self.found.links.get(&near.index.0).is_some_and(|is| is.up) => {
                let text = format!("the link {} is up, and its cable was pulled", near.name);
                self.say(DriftKind::Link, text, make());
            }
            Step::Address { link, address } if !self.found.addresses.contains(&(link.index.0, *address)) => {
                let text = format!("the address {address} of {} is missing", link.name);
                self.say(DriftKind::Address, text, make());
            }
            Step::Route { to, via, .. } if !self.found.routes.iter().any(|route| is_route(route, *to, via)) => {
                self.say(DriftKind::Route, format!("the route {} is missing", route_text(*to, via)), make());
            }
            Step::Spread { to, gateways, link }
                if !self.found.routes.iter().any(|route| is_spread(route, *to, link, gateways)) =>
            {
                let text = format!("the route to {} over {} nodes is missing", to.addr(), gateways.len());
                self.say(DriftKind::Route, text, make());
            }
            Step::Refuse { link, to } if !self.found.refused.contains(&(link.name.clone(), *to)) => {
                let text = format!("the rule that drops packets from {} to {} is missing", link.name, to.addr());
                self.say(DriftKind::Route, text, make());
            }
            Step::Neighbour { link, ip, mac } => match self.found.neighbours.get(&(link.index.0, *ip)) {
                Some(is) if is == mac => {}
                Some(is) => {
                    let text =
                        format!("the neighbour {ip} on {} has the address {is}, and should have {mac}", link.name);
                    self.say(DriftKind::Neighbour, text, make());
                }
                None => {
                    let text = format!("the neighbour {ip} on {} is not known for good", link.name);
                    self.say(DriftKind::Neighbour, text, make());
                }
            },
            _ => {}
        }
    }

    /// Whether it is there at all.
    fn link(&mut self, link: &Link, mac: Option<Mac>, step: &Step) -> bool {
        let name = &link.name;
        let Some(is) = self.found.links.get(&link.index.0) else {
            let mut mends = vec![Mend::Make(step.clone())];
            let mut text = format!("the link {name} is missing");
            if let Some((index, _)) = self.found.links.iter().find(|(_, other)| other.name == *name) {
                mends.push(Mend::Delete(Link { index: IfIndex(*index), ..link.clone() }));
                text.push_str(", and another one has its name");
            }
            self.say(DriftKind::Link, text, mends);
            return false;
        };
        if is.name != *name {
            let text = format!("the link {name} is called {}", is.name);
            self.say(DriftKind::Link, text, vec![Mend::Rename(link.clone(), is.name.clone())]);
        }
        if let (Some(is), Some(mac)) = (is.mac, mac)
            && is != mac
        {
            let text = format!("the link {name} has the address {is}, and should have {mac}");
            self.say(DriftKind::Link, text, vec![Mend::Address(link.clone(), mac)]);
        }
        if !is.up && !self.pulled.contains(&link.index.0) {
            self.say(DriftKind::Link, format!("the link {name} is down"), vec![Mend::Up(link.clone())]);
        }
        true
    }

    fn peer(&mut self, end: &Link, other: &Link, cable: &Step) {
        let is = self.found.links.get(&end.index.0).and_then(|is| is.peer);
        if is.is_some_and(|is| is != other.index.0) {
            let text = format!("the other end of the link {} is not {} of {}", end.name, other.name, other.netns);
            self.say(DriftKind::Link, text, vec![Mend::Delete(end.clone()), Mend::Make(cable.clone())]);
        }
    }

    fn port(&mut self, port: &Link, bridge: &Link, hairpin: bool) {
        let Some(is) = self.found.links.get(&port.index.0) else { return };
        if is.master != Some(bridge.index.0) {
            let text = format!("the link {} is not a port of {}", port.name, bridge.name);
            self.say(DriftKind::Link, text, vec![Mend::Plug { port: port.clone(), bridge: bridge.clone(), hairpin }]);
        } else if hairpin && !is.hairpin {
            let text = format!("the port {} of {} does not send back what came in by it", port.name, bridge.name);
            self.say(DriftKind::Link, text, vec![Mend::Hairpin(port.clone())]);
        }
    }

    /// What no step has made, on links that steps have made.
    fn surplus(&mut self, steps: &[&Step]) {
        let found = self.found;
        let mut ours: BTreeMap<u32, Link> =
            links(self.netns, steps).into_iter().map(|link| (link.index.0, link.clone())).collect();
        let lo = Link { netns: self.netns.to_owned(), name: "lo".to_owned(), index: IfIndex(1) };
        ours.insert(1, lo);
        let addresses: BTreeSet<(u32, IpNet)> = steps
            .iter()
            .filter_map(|step| match step {
                Step::Address { link, address } => Some((link.index.0, *address)),
                _ => None,
            })
            .collect();
        for (index, address) in found.addresses.iter().filter(|it| !addresses.contains(it) && !is_the_kernels(it.1)) {
            let Some(link) = ours.get(index) else { continue };
            let text = format!("the address {address} of {} is not netlab's", link.name);
            self.say(DriftKind::Address, text, vec![Mend::NoAddress(link.clone(), *address)]);
        }
        let is_wanted = |route: &Route| {
            steps.iter().any(|step| match step {
                Step::Route { to, via, .. } => is_route(route, *to, via),
                Step::Spread { to, gateways, link } => is_spread(route, *to, link, gateways),
                _ => false,
            })
        };
        let name = |index: u32| found.links.get(&index).map(|link| link.name.clone());
        let over_ours =
            |route: &Route| route.hops.iter().all(|(_, link)| link.is_none_or(|link| ours.contains_key(&link)));
        for route in found.routes.iter().filter(|route| over_ours(route) && !is_wanted(route)) {
            let text = route.text(name);
            let said = format!("the route {text} is not netlab's");
            let mend = Mend::NoRoute { netns: self.netns.to_owned(), route: route.clone(), text };
            self.say(DriftKind::Route, said, vec![mend]);
        }
        let neighbours: BTreeSet<(u32, IpAddr)> = steps
            .iter()
            .filter_map(|step| match step {
                Step::Neighbour { link, ip, .. } => Some((link.index.0, *ip)),
                _ => None,
            })
            .collect();
        for ((index, ip), mac) in found.neighbours.iter().filter(|(key, _)| !neighbours.contains(key)) {
            let Some(link) = ours.get(index) else { continue };
            let text = format!("the neighbour {ip} on {} is held to have the address {mac}", link.name);
            self.say(DriftKind::Neighbour, text, vec![Mend::NoNeighbour(link.clone(), *ip)]);
        }
    }
}

/// An address that comes by itself.
fn is_the_kernels(address: IpNet) -> bool {
    match address {
        IpNet::V4(address) => address.addr().is_loopback() && address.prefix_len() == 8,
        IpNet::V6(address) => address.addr().is_loopback() || address.addr().is_unicast_link_local(),
    }
}

fn route_text(to: IpNet, via: &Via) -> String {
    let to = if to.prefix_len() == 0 { "default".to_owned() } else { to.to_string() };
    match via {
        Via::Gateway(gateway, link) => format!("{to} via {gateway} dev {}", link.name),
        Via::Link(link) => format!("{to} dev {}", link.name),
        Via::Blackhole => format!("blackhole {to}"),
    }
}

fn is_route(route: &Route, to: IpNet, via: &Via) -> bool {
    let plain = route.to == to.trunc() && route.metric == 0 && route.source.is_none();
    plain
        && match via {
            Via::Gateway(ip, link) => route.is(RouteKind::Unicast, &[(Some(*ip), Some(link.index.0))]),
            Via::Link(link) => route.is(RouteKind::Unicast, &[(None, Some(link.index.0))]),
            Via::Blackhole => route.kind == RouteKind::Blackhole,
        }
}

/// The route leads to an address over all of these gateways and no others.
fn is_spread(route: &Route, to: IpNet, link: &Link, gateways: &[IpAddr]) -> bool {
    if route.to != to.trunc() || gateways.is_empty() {
        return route.to == to.trunc() && route.kind == RouteKind::Blackhole;
    }
    let wanted: BTreeSet<_> = gateways.iter().map(|gateway| (Some(*gateway), Some(link.index.0))).collect();
    route.kind == RouteKind::Unicast && route.hops.iter().copied().collect::<BTreeSet<_>>() == wanted
}

impl Route {
    fn is(&self, kind: RouteKind, hops: &[(Option<IpAddr>, Option<u32>)]) -> bool {
        self.kind == kind && self.hops == hops
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str, index: u32) -> Link {
        Link { netns: "node1".into(), name: name.into(), index: IfIndex(index) }
    }

    fn steps() -> Vec<Step> {
        let far = Link { netns: "pod".into(), ..link("eth0", 102) };
        let netns = String::from("node1");
        let to = |to: &str| to.parse::<IpNet>().unwrap();
        let via = Via::Gateway("10.0.0.2".parse().unwrap(), link("br0", 100));
        vec![
            Step::Netns {
                netns: netns.clone(),
                sysctls: vec![("net/ipv4/ip_forward", "1".into()), ("net/ipv4/conf/default/rp_filter", "0".into())],
            },
            Step::Loopback { netns: netns.clone() },
            Step::Bridge { link: link("br0", 100), mac: Mac([1; 6]) },
            Step::Cable {
                near: link("veth-pod", 101),
                near_mac: Mac([2; 6]),
                bridge: Some(link("br0", 100)),
                hairpin: true,
                far,
                far_mac: Mac([3; 6]),
            },
            Step::Address { link: link("br0", 100), address: to("10.0.0.1/24") },
            Step::Route { netns, to: to("10.1.0.0/16"), via },
            Step::Neighbour { link: link("br0", 100), ip: "10.0.0.9".parse().unwrap(), mac: Mac([9; 6]) },
        ]
    }

    fn good() -> Found {
        let there = |name: &str, mac| FoundLink { name: name.into(), up: true, mac, ..FoundLink::default() };
        let port =
            FoundLink { master: Some(100), hairpin: true, peer: Some(102), ..there("veth-pod", Some(Mac([2; 6]))) };
        let route = Route {
            to: "10.1.0.0/16".parse().unwrap(),
            kind: RouteKind::Unicast,
            hops: vec![(Some("10.0.0.2".parse().unwrap()), Some(100))],
            metric: 0,
            source: None,
        };
        let settings =
            [("net/ipv4/ip_forward", "1"), ("net/ipv4/conf/br0/forwarding", "1"), ("net/ipv4/conf/br0/rp_filter", "0")];
        Found {
            links: [(1, there("lo", None)), (100, there("br0", Some(Mac([1; 6])))), (101, port)].into(),
            addresses: [(1, "127.0.0.1/8".parse().unwrap()), (100, "10.0.0.1/24".parse().unwrap())].into(),
            routes: vec![route],
            neighbours: [((100, "10.0.0.9".parse().unwrap()), Mac([9; 6]))].into(),
            settings: settings.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            refused: BTreeSet::new(),
        }
    }

    /// What is said, and typed, when this has happened.
    fn check(what: impl FnOnce(&mut Found), said: &[(&str, &str)]) {
        let steps = steps();
        let mut found = good();
        what(&mut found);
        let findings = compare("node1", &steps.iter().collect::<Vec<_>>(), &found);
        let texts: Vec<(&str, &str)> =
            findings.iter().map(|it| (it.drift.text.as_str(), it.drift.mend.as_deref().unwrap_or_default())).collect();
        assert_eq!(texts, said);
    }

    #[test]
    fn nothing_differs() {
        check(|_| (), &[]);
        let foreign = |found: &mut Found| {
            found.links.insert(7, FoundLink { name: "vxlan0".into(), ..FoundLink::default() });
            found.addresses.insert((7, "10.9.0.1/24".parse().unwrap()));
            found.neighbours.insert((7, "10.9.0.2".parse().unwrap()), Mac([7; 6]));
            let route = Route { hops: vec![(None, Some(7))], ..found.routes[0].clone() };
            found.routes.push(route);
        };
        check(foreign, &[]);
    }

    #[test]
    fn settings_of_links_count() {
        let text = "net.ipv4.conf.br0.forwarding is 0, and should be 1";
        let mend = "ip netns exec node1 sysctl -w net.ipv4.conf.br0.forwarding=1";
        let set = |found: &mut Found| drop(found.settings.insert("net/ipv4/conf/br0/forwarding".into(), "0".into()));
        check(set, &[(text, mend)]);
        let set = |found: &mut Found| drop(found.settings.insert("net/ipv4/conf/br0/rp_filter".into(), "2".into()));
        let text = "net.ipv4.conf.br0.rp_filter is 2, and should be 0";
        check(set, &[(text, "ip netns exec node1 sysctl -w net.ipv4.conf.br0.rp_filter=0")]);
    }

    #[test]
    fn links() {
        let at = |index: u32, change: fn(&mut FoundLink)| {
            move |found: &mut Found| change(found.links.get_mut(&index).unwrap())
        };
        check(at(100, |it| it.up = false), &[("the link br0 is down", "ip -n node1 link set br0 up")]);
        check(
            at(100, |it| it.mac = Some(Mac([0xee; 6]))),
            &[(
                "the link br0 has the address ee:ee:ee:ee:ee:ee, and should have 01:01:01:01:01:01",
                "ip -n node1 link set br0 address 01:01:01:01:01:01",
            )],
        );
        let plug =
            "ip -n node1 link set veth-pod master br0\nip netns exec node1 bridge link set dev veth-pod hairpin on";
        check(
            at(101, |it| (it.master, it.hairpin) = (None, false)),
            &[("the link veth-pod is not a port of br0", plug)],
        );
        check(
            at(101, |it| it.hairpin = false),
            &[(
                "the port veth-pod of br0 does not send back what came in by it",
                "ip netns exec node1 bridge link set dev veth-pod hairpin on",
            )],
        );
        let steps = steps();
        let missing = |found: &mut Found| drop(found.links.remove(&101));
        check(missing, &[("the link veth-pod is missing", &steps[3].to_string())]);
        let other = |found: &mut Found| {
            let link = found.links.remove(&101).unwrap();
            found.links.insert(9, link);
        };
        let mend = format!("{}\nip -n node1 link del veth-pod", steps[3]);
        check(other, &[("the link veth-pod is missing, and another one has its name", &mend)]);
        let mend = format!("ip -n node1 link del veth-pod\n{}", steps[3]);
        check(at(101, |it| it.peer = Some(5)), &[("the other end of the link veth-pod is not eth0 of pod", &mend)]);
    }

    #[test]
    fn a_pulled_cable_is_as_it_should_be() {
        let far = Link { netns: "pod".into(), ..link("eth0", 102) };
        let pulled = Step::Unplug { near: link("veth-pod", 101), far };
        let (steps, mut found) = (steps(), good());
        let mut all: Vec<&Step> = steps.iter().collect();
        all.push(&pulled);
        found.links.get_mut(&101).unwrap().up = false;
        assert_eq!(compare("node1", &all, &found), []);
        found.links.get_mut(&101).unwrap().up = true;
        let findings = compare("node1", &all, &found);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].drift.text, "the link veth-pod is up, and its cable was pulled");
        assert_eq!(findings[0].mends, [Mend::Make(pulled)]);
    }

    #[test]
    fn addresses_and_neighbours() {
        let prefix = |found: &mut Found| {
            found.addresses.remove(&(100, "10.0.0.1/24".parse().unwrap()));
            found.addresses.insert((100, "10.0.0.1/16".parse().unwrap()));
        };
        let add = "ip -n node1 address add 10.0.0.1/24 dev br0\nip -n node1 link set br0 up";
        check(
            prefix,
            &[
                ("the address 10.0.0.1/24 of br0 is missing", add),
                ("the address 10.0.0.1/16 of br0 is not netlab's", "ip -n node1 address del 10.0.0.1/16 dev br0"),
            ],
        );
        let lo = |found: &mut Found| found.addresses.extend([(1, "10.96.0.1/32".parse().unwrap())]);
        check(lo, &[("the address 10.96.0.1/32 of lo is not netlab's", "ip -n node1 address del 10.96.0.1/32 dev lo")]);
        let poisoned = |found: &mut Found| {
            found.neighbours.insert((100, "10.0.0.9".parse().unwrap()), Mac([0xde; 6]));
            found.neighbours.insert((100, "10.0.0.2".parse().unwrap()), Mac([0xde; 6]));
        };
        check(
            poisoned,
            &[
                (
                    "the neighbour 10.0.0.9 on br0 has the address de:de:de:de:de:de, and should have 09:09:09:09:09:09",
                    "ip -n node1 neighbour replace 10.0.0.9 lladdr 09:09:09:09:09:09 dev br0 nud permanent",
                ),
                (
                    "the neighbour 10.0.0.2 on br0 is held to have the address de:de:de:de:de:de",
                    "ip -n node1 neighbour del 10.0.0.2 dev br0",
                ),
            ],
        );
    }

    #[test]
    fn routes() {
        let wrong = |found: &mut Found| found.routes[0].hops = vec![(Some("10.0.0.7".parse().unwrap()), Some(100))];
        check(
            wrong,
            &[
                (
                    "the route 10.1.0.0/16 via 10.0.0.2 dev br0 is missing",
                    "ip -n node1 route replace 10.1.0.0/16 via 10.0.0.2 dev br0",
                ),
                (
                    "the route 10.1.0.0/16 via 10.0.0.7 dev br0 is not netlab's",
                    "ip -n node1 route del 10.1.0.0/16 via 10.0.0.7 dev br0",
                ),
            ],
        );
        let blackhole = |found: &mut Found| {
            let to = "10.1.2.3/32".parse().unwrap();
            found.routes.push(Route { to, kind: RouteKind::Blackhole, hops: Vec::new(), metric: 0, source: None });
        };
        check(
            blackhole,
            &[("the route blackhole 10.1.2.3 is not netlab's", "ip -n node1 route del blackhole 10.1.2.3")],
        );
    }
}
