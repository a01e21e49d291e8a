//! A lab's addresses and servers, looked up once for all: the answers of [`ways`], without a search
//! through all pods for each question.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{
    balancer, ways,
    ways::{End, Listener},
};
use crate::lab::model::{Lab, Place, Protocol};

/// Where everything of a lab is.
#[derive(Debug)]
pub(super) struct Atlas<'a> {
    lab: &'a Lab,
    holders: BTreeMap<IpAddr, Place>,
    /// The addresses that the load balancer takes.
    owned: BTreeSet<IpAddr>,
    listeners: BTreeMap<(Place, u16, Protocol), Listener>,
}

impl<'a> Atlas<'a> {
    pub(super) fn new(lab: &'a Lab) -> Self {
        let mut listeners = BTreeMap::new();
        for id in lab.pod_ids() {
            let place = lab.pod_place(id);
            for port in lab.pod(id).containers.iter().flat_map(|container| &container.ports) {
                // Of several the first has it, as in `ways`.
                listeners.entry((place, port.container_port, port.protocol)).or_insert(Listener::Pod(id));
            }
        }
        for port in balancer::check_ports(lab) {
            for node in lab.node_ids() {
                listeners.entry((Place::Node(node), port, Protocol::Tcp)).or_insert(Listener::Health);
            }
        }
        let mut holders = BTreeMap::new();
        // Of several holders the first has an address, in the order of `ways::holder`.
        let mut hold = |ip, place| _ = holders.entry(ip).or_insert(place);
        hold(lab.cluster.gateway, Place::Host);
        lab.clients.iter().filter_map(|it| ways::client_gateway(it.ip)).for_each(|ip| hold(ip, Place::Host));
        for id in lab.node_ids() {
            hold(lab.node(id).ip, Place::Node(id));
            hold(lab.node(id).pod_gateway, Place::Node(id));
        }
        let own = lab.pod_ids().filter(|id| !lab.pod(*id).host_network);
        own.for_each(|id| hold(lab.pod(id).ip, Place::Pod(id)));
        lab.load_balancer.iter().for_each(|it| hold(it.ip, Place::LoadBalancer));
        lab.client_ids().for_each(|id| hold(lab.client(id).ip.addr(), Place::Client(id)));
        for id in lab.external_ids() {
            lab.external(id).ips.iter().for_each(|ip| hold(*ip, Place::External(id)));
        }
        let vips = balancer::vips(lab).into_iter().map(|vip| vip.ip);
        Atlas { lab, owned: vips.collect(), holders, listeners }
    }

    /// [`ways::end`].
    pub(super) fn end(&self, from: Place, to: IpAddr) -> End {
        ways::end_by(self.lab, from, to, self.owned.contains(&to), || self.holder(to))
    }

    /// [`ways::holder`].
    pub(super) fn holder(&self, ip: IpAddr) -> Option<Place> {
        self.holders.get(&ip).copied()
    }

    /// [`ways::source`].
    pub(super) fn source(&self, from: Place, to: IpAddr) -> IpAddr {
        ways::source_by(self.lab, from, to, self.owned.contains(&to), || self.holder(to))
    }

    /// [`ways::listener`].
    pub(super) fn listener(&self, place: Place, port: u16, protocol: Protocol) -> Option<Listener> {
        match place {
            Place::Node(_) | Place::Pod(_) => self.listeners.get(&(place, port, protocol)).copied(),
            Place::Host | Place::Client(_) | Place::External(_) | Place::LoadBalancer => {
                ways::listener(self.lab, place, port, protocol)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::sample::{book, everything};

    /// The map and the search agree on every address, and on some that nobody has.
    #[test]
    fn it_says_what_a_search_says() {
        let mut less = everything();
        less.nodes[1].state.stopped = true;
        for lab in [book(), everything(), less] {
            let atlas = Atlas::new(&lab);
            let pods = lab.pods.iter().map(|pod| pod.ip);
            let nodes = lab.nodes.iter().flat_map(|node| [node.ip, node.pod_gateway]);
            let clients = lab.clients.iter().map(|client| client.ip.addr());
            let services =
                lab.services.iter().flat_map(|it| it.cluster_ip.into_iter().chain(it.load_balancer_ips.clone()));
            let others = ["192.168.1.77", "8.8.8.8", "127.0.0.1", "192.0.2.1", "203.0.113.99"];
            let others = others.map(|text| text.parse::<IpAddr>().expect("an address"));
            let ips = pods.chain(nodes).chain(clients).chain(services).chain([lab.cluster.gateway]).chain(others);
            for ip in ips {
                assert_eq!(atlas.holder(ip), ways::holder(&lab, ip), "{ip}");
                for from in lab.places() {
                    assert_eq!(atlas.end(from, ip), ways::end(&lab, from, ip), "{from:?} {ip}");
                    assert_eq!(atlas.source(from, ip), ways::source(&lab, from, ip), "{from:?} {ip}");
                    for (port, protocol) in
                        [(80, Protocol::Tcp), (80, Protocol::Udp), (8888, Protocol::Tcp), (10256, Protocol::Tcp)]
                    {
                        assert_eq!(atlas.listener(from, port, protocol), ways::listener(&lab, from, port, protocol));
                    }
                }
            }
        }
    }
}
