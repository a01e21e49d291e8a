//! What puts a network right again, as data: each a step of the plan, or a part of one.

use std::{fmt, net::IpAddr};

use ipnet::IpNet;

use super::step::{Link, Mac, Step, exec, ip, prefix};

/// One effect on a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mend {
    /// Change a setting.
    Set {
        /// In this namespace.
        netns: String,
        /// Below `/proc/sys`.
        key: String,
        /// To this.
        value: String,
    },
    /// Delete a link that is in the place of another.
    Delete(Link),
    /// Carry out a whole step.
    Make(Step),
    /// Give a link its address again.
    Address(Link, Mac),
    /// Give a link its name again.
    Rename(Link, String),
    /// Plug a link into its bridge.
    Plug {
        /// The link.
        port: Link,
        /// The bridge.
        bridge: Link,
        /// Frames may leave by the port they came in.
        hairpin: bool,
    },
    /// Let frames leave by the port they came in.
    Hairpin(Link),
    /// Bring a link up.
    Up(Link),
    /// Take an address away.
    NoAddress(Link, IpNet),
    /// Take a permanent neighbour away.
    NoNeighbour(Link, IpAddr),
    /// Take a route away.
    NoRoute {
        /// In this namespace.
        netns: String,
        /// The route.
        route: Route,
        /// As `ip` has it.
        text: String,
    },
}

/// A route as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub to: IpNet,
    /// How.
    pub kind: RouteKind,
    /// Gateways and indices of links; several for one that is spread.
    pub hops: Vec<(Option<IpAddr>, Option<u32>)>,
    /// The lower, the sooner.
    pub metric: u32,
    /// The address that packets get if they have none.
    pub source: Option<IpAddr>,
}

/// What becomes of packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteKind {
    /// They are sent on.
    Unicast,
    /// They are dropped.
    Blackhole,
    /// Another, by its number in the kernel (`RTN_*`).
    Other(u8),
}

impl Mend {
    /// The namespace that it is about.
    pub fn netns(&self) -> &str {
        match self {
            Mend::Set { netns, .. } | Mend::NoRoute { netns, .. } => netns,
            Mend::Make(step) => step.netns(),
            Mend::Delete(link)
            | Mend::Address(link, _)
            | Mend::Rename(link, _)
            | Mend::Plug { port: link, .. }
            | Mend::Hairpin(link)
            | Mend::Up(link)
            | Mend::NoAddress(link, _)
            | Mend::NoNeighbour(link, _) => &link.netns,
        }
    }

    /// Those with lower numbers come first: a link before its address, an address before the routes
    /// that need it, and what is too much goes when what is right is there.
    pub fn order(&self) -> u8 {
        use super::step::Via;
        match self {
            Mend::Set { .. } => 0,
            Mend::Delete(_) => 1,
            Mend::Make(Step::Bridge { .. } | Step::Loopback { .. }) => 2,
            Mend::Make(Step::Cable { .. }) => 3,
            Mend::Rename(..) => 4,
            Mend::Address(..) => 5,
            Mend::Plug { .. } | Mend::Hairpin(_) => 6,
            Mend::Make(Step::Address { .. }) => 7,
            Mend::NoAddress(..) => 8,
            Mend::Up(_) => 9,
            Mend::Make(Step::Route { via: Via::Link(_) | Via::Blackhole, .. }) => 10,
            // After all that brings links up.
            Mend::Make(Step::Unplug { .. }) => 13,
            Mend::Make(_) => 11,
            Mend::NoNeighbour(..) | Mend::NoRoute { .. } => 12,
        }
    }
}

/// As a person would type it.
impl fmt::Display for Mend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mend::Set { netns, key, value } => write!(f, "{}sysctl -w {}={value}", exec(netns), key.replace('/', ".")),
            Mend::Delete(link) => write!(f, "{} link del {}", ip(&link.netns), link.name),
            // What is there of another kind is replaced.
            Mend::Make(step @ Step::Route { .. }) => {
                f.write_str(&step.to_string().replace(" route add ", " route replace "))
            }
            Mend::Make(step @ Step::Neighbour { .. }) => {
                f.write_str(&step.to_string().replace(" neighbour add ", " neighbour replace "))
            }
            Mend::Make(step) => step.fmt(f),
            Mend::Address(link, mac) => write!(f, "{} link set {} address {mac}", ip(&link.netns), link.name),
            Mend::Rename(link, is) => {
                let ip = ip(&link.netns);
                write!(
                    f,
                    "{ip} link set {is} down\n{ip} link set {is} name {}\n{ip} link set {} up",
                    link.name, link.name
                )
            }
            Mend::Plug { port, bridge, hairpin } => {
                write!(f, "{} link set {} master {}", ip(&port.netns), port.name, bridge.name)?;
                if *hairpin { write!(f, "\n{}", Mend::Hairpin(port.clone())) } else { Ok(()) }
            }
            Mend::Hairpin(port) => write!(f, "{}bridge link set dev {} hairpin on", exec(&port.netns), port.name),
            Mend::Up(link) => write!(f, "{} link set {} up", ip(&link.netns), link.name),
            Mend::NoAddress(link, address) => write!(f, "{} address del {address} dev {}", ip(&link.netns), link.name),
            Mend::NoNeighbour(link, neighbour) => {
                write!(f, "{} neighbour del {neighbour} dev {}", ip(&link.netns), link.name)
            }
            Mend::NoRoute { netns, text, .. } => write!(f, "{} route del {text}", ip(netns)),
        }
    }
}

impl Route {
    /// As `ip` prints it and takes it; `name` gives the names of links by their indices.
    pub fn text(&self, name: impl Fn(u32) -> Option<String>) -> String {
        let mut text = match self.kind {
            RouteKind::Unicast => String::new(),
            RouteKind::Blackhole => "blackhole ".to_owned(),
            RouteKind::Other(7) => "unreachable ".to_owned(),
            RouteKind::Other(8) => "prohibit ".to_owned(),
            RouteKind::Other(9) => "throw ".to_owned(),
            RouteKind::Other(number) => format!("type {number} "),
        };
        text.push_str(&prefix(self.to));
        for (gateway, link) in &self.hops {
            text.push_str(if self.hops.len() > 1 { " nexthop" } else { "" });
            gateway.iter().for_each(|gateway| text.push_str(&format!(" via {gateway}")));
            link.and_then(&name).iter().for_each(|name| text.push_str(&format!(" dev {name}")));
        }
        self.source.iter().for_each(|source| text.push_str(&format!(" src {source}")));
        if self.metric > 0 {
            text.push_str(&format!(" metric {}", self.metric));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::step::{IfIndex, Via};

    fn link(name: &str) -> Link {
        Link { netns: "node1".into(), name: name.into(), index: IfIndex(100) }
    }

    #[test]
    fn as_a_person_would_type_it() {
        let check = |mend: Mend, text: &str| assert_eq!(mend.to_string(), text);
        check(
            Mend::Set { netns: "node1".into(), key: "net/ipv4/ip_forward".into(), value: "1".into() },
            "ip netns exec node1 sysctl -w net.ipv4.ip_forward=1",
        );
        check(
            Mend::Plug { port: link("veth-a"), bridge: link("br0"), hairpin: true },
            "ip -n node1 link set veth-a master br0\nip netns exec node1 bridge link set dev veth-a hairpin on",
        );
        let route = |via| Step::Route { netns: "node1".into(), to: "192.168.2.0/24".parse().unwrap(), via };
        check(
            Mend::Make(route(Via::Gateway("10.0.0.2".parse().unwrap(), link("eth0")))),
            "ip -n node1 route replace 192.168.2.0/24 via 10.0.0.2 dev eth0",
        );
    }

    #[test]
    fn a_route_is_printed_as_ip_has_it() {
        let hops = vec![(Some("10.0.0.2".parse().unwrap()), Some(7)), (None, Some(8))];
        let to = "0.0.0.0/0".parse().unwrap();
        let route = Route { to, kind: RouteKind::Unicast, hops, metric: 5, source: None };
        let name = |index| (index == 7).then(|| "eth0".to_owned());
        assert_eq!(route.text(name), "default nexthop via 10.0.0.2 dev eth0 nexthop metric 5");
    }
}
