//! From the text of `netlab plan` to the links, addresses and routes in it: what the kernel
//! floor makes. Settings, rules and servers are left out.

use std::{collections::BTreeMap, net::Ipv4Addr};

use ipnet::Ipv4Net;

use crate::run::{Failure, Result};

/// The lab's outer namespace.
pub(crate) const HOST: &str = "host";

/// One thing for the kernel to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Thing {
    /// A namespace.
    Netns,
    /// A link that exists is brought up.
    Up { index: u32 },
    /// A bridge, up.
    Bridge { name: String, index: u32 },
    /// A veth: here and up, and in another namespace and down.
    Veth { name: String, index: u32, master: Option<u32>, peer: String, peer_index: u32, peer_netns: String },
    /// An address.
    Address { index: u32, address: Ipv4Net },
    /// A route; `index` is none for a blackhole.
    Route { to: Ipv4Net, via: Option<Ipv4Addr>, index: Option<u32> },
}

/// The things of a plan, each with the namespace it belongs to, in the plan's order.
pub(crate) fn read(plan: &str) -> Result<Vec<(String, Thing)>> {
    let mut reader = Reader::default();
    for line in plan.lines().take_while(|line| *line != "# rules") {
        let words: Vec<&str> = line.split_whitespace().collect();
        reader.line(&words).ok_or_else(|| Failure(format!("the floor does not know what `{line}` is")))?;
    }
    Ok(reader.things)
}

#[derive(Default)]
struct Reader {
    things: Vec<(String, Thing)>,
    /// The index of each link, and whether it is up.
    links: BTreeMap<(String, String), (u32, bool)>,
}

impl Reader {
    fn line(&mut self, words: &[&str]) -> Option<()> {
        match words {
            [] | ["#", ..] => Some(()),
            ["ip", "netns", "add", name] => self.add(name, Thing::Netns),
            ["ip", "netns", "exec", ..] | ["sysctl", ..] => Some(()),
            ["ip", "-n", netns, rest @ ..] => self.ip(netns, rest),
            ["ip", rest @ ..] => self.ip(HOST, rest),
            _ => None,
        }
    }

    fn add(&mut self, netns: &str, thing: Thing) -> Option<()> {
        self.things.push((netns.to_owned(), thing));
        Some(())
    }

    fn ip(&mut self, netns: &str, words: &[&str]) -> Option<()> {
        match words {
            ["link", "add", name, "index", index, "address", _, "type", "bridge"] => {
                let index = self.know(netns, name, index, true)?;
                self.add(netns, Thing::Bridge { name: (*name).to_owned(), index })
            }
            [
                "link",
                "add",
                name,
                "index",
                index,
                "address",
                _,
                "type",
                "veth",
                "peer",
                "name",
                peer,
                "index",
                far,
                "address",
                _,
                "netns",
                other,
            ] => {
                let (name, peer, peer_netns) = ((*name).to_owned(), (*peer).to_owned(), (*other).to_owned());
                let index = self.know(netns, &name, index, true)?;
                let peer_index = self.know(other, &peer, far, false)?;
                self.add(netns, Thing::Veth { name, index, master: None, peer, peer_index, peer_netns })
            }
            ["link", "set", name, "master", bridge] => {
                let (bridge, _) = self.link(netns, bridge)?;
                match self.things.last_mut() {
                    Some((_, Thing::Veth { name: last, master, .. })) if last == name => *master = Some(bridge),
                    _ => return None,
                }
                Some(())
            }
            ["link", "set", name, "up"] => match self.link(netns, name)? {
                (_, true) => Some(()),
                (index, false) => {
                    self.links.insert((netns.to_owned(), (*name).to_owned()), (index, true));
                    self.add(netns, Thing::Up { index })
                }
            },
            ["link", "show", ..] | ["neighbour" | "neigh", ..] => Some(()),
            ["address", "add", address, "dev", name] => {
                let (index, _) = self.link(netns, name)?;
                self.add(netns, Thing::Address { index, address: net(address)? })
            }
            ["route", "add", "blackhole", to] => self.add(netns, Thing::Route { to: net(to)?, via: None, index: None }),
            ["route", "add", to, "via", via, "dev", name] => {
                let (index, _) = self.link(netns, name)?;
                self.add(netns, Thing::Route { to: net(to)?, via: Some(via.parse().ok()?), index: Some(index) })
            }
            ["route", "add", to, "dev", name, "scope", "link"] => {
                let (index, _) = self.link(netns, name)?;
                self.add(netns, Thing::Route { to: net(to)?, via: None, index: Some(index) })
            }
            _ => None,
        }
    }

    fn know(&mut self, netns: &str, name: &str, index: &str, up: bool) -> Option<u32> {
        let index = index.parse().ok()?;
        self.links.insert((netns.to_owned(), name.to_owned()), (index, up));
        Some(index)
    }

    fn link(&self, netns: &str, name: &str) -> Option<(u32, bool)> {
        let known = self.links.get(&(netns.to_owned(), name.to_owned())).copied();
        known.or((name == "lo").then_some((1, false)))
    }
}

fn net(text: &str) -> Option<Ipv4Net> {
    match text {
        "default" => Some(Ipv4Net::default()),
        text => text.parse().or_else(|_| text.parse::<Ipv4Addr>().map(Ipv4Net::from)).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_become_things() {
        let plan = "# namespaces\nsysctl -qw a=1\nip netns add n\nip netns exec n sysctl -qw a=1\n\n# bridges\n\
            ip -n n link set lo up\nip link add lan0 index 100 address 0a:58:0a:1e:2d:01 type bridge\nip link set lan0 up\n\
            ip link add v index 101 address 0a:58:0a:1e:2d:01 type veth peer name eth0 index 102 address 0a:58:0a:1e:2d:01 netns n\n\
            ip link set v master lan0\nip link set v up\nip -n n address add 10.0.0.2/24 dev eth0\nip -n n link set eth0 up\n\
            ip link show dev v\nip route add blackhole 10.96.0.0/16\nip -n n route add default via 10.0.0.1 dev eth0\n\
            # rules\nanything\n";
        let eth0 = 102;
        let veth = Thing::Veth {
            name: "v".to_owned(),
            index: 101,
            master: Some(100),
            peer: "eth0".to_owned(),
            peer_index: eth0,
            peer_netns: "n".to_owned(),
        };
        let default = Thing::Route { to: Ipv4Net::default(), via: "10.0.0.1".parse().ok(), index: Some(eth0) };
        let expected = [
            ("n", Thing::Netns),
            ("n", Thing::Up { index: 1 }),
            (HOST, Thing::Bridge { name: "lan0".to_owned(), index: 100 }),
            (HOST, veth),
            ("n", Thing::Address { index: eth0, address: "10.0.0.2/24".parse().expect("an address") }),
            ("n", Thing::Up { index: eth0 }),
            (HOST, Thing::Route { to: "10.96.0.0/16".parse().expect("a subnet"), via: None, index: None }),
            ("n", default),
        ];
        let expected = expected.map(|(netns, thing)| (netns.to_owned(), thing));
        assert_eq!(read(plan).expect("a plan"), expected);
        assert!(read("ip link add x type vxlan").is_err());
    }
}
