//! From what a node served before and serves now to which of its conntrack entries steer packets
//! where nobody serves them any more.
//!
//! Rules are asked only about the first packet of a connection; all others follow conntrack's
//! entry, for as long as they come. A TCP client whose endpoint has gone hears of it and connects
//! anew, so the entries of TCP stay. A UDP client that goes on from the same port never gets away:
//! its entry must be deleted, after the rules are loaded (earlier, the old rules could make it
//! again). kube-proxy leaves SCTP alone as well, since its clients hear of it too.
//!
//! This is kube-proxy's reconciliation, but an endpoint is an address *and* a port, a node port is
//! one on this node's own addresses, and an address, port or node port that a Service has given up
//! is cleaned as that of a deleted Service is.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use super::{
    flow::{Flow, Transport},
    view::{NodeView, PortView},
};
use crate::lab::model::Protocol;

/// Who may answer at an address of a Service; nobody if it has no endpoint, or is no more.
type Answerers = BTreeSet<SocketAddr>;

/// Tells a node's stale conntrack entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stale {
    /// The ClusterIPs, external and load balancer's addresses of Services, with their ports.
    addresses: BTreeMap<SocketAddr, Answerers>,
    /// The node ports.
    node_ports: BTreeMap<u16, Answerers>,
    /// The node's own addresses but loopback: where its node ports are.
    own: BTreeSet<IpAddr>,
}

impl Stale {
    /// For a node that served `before`, and has the rules for `after` now.
    ///
    /// With the same view twice it cleans what any earlier change has left of Services that are
    /// still there.
    pub fn of(before: &NodeView, after: &NodeView) -> Self {
        let own = [after.ip, after.pod_gateway].into();
        let mut stale = Stale { addresses: BTreeMap::new(), node_ports: BTreeMap::new(), own };
        udp(before).for_each(|port| stale.add(port, &[]));
        udp(after).for_each(|port| stale.add(port, &port.serving));
        stale
    }

    /// What a change makes stale: `None` if everything that UDP clients may ask is served as it was.
    pub fn after_change(before: &NodeView, after: &NodeView) -> Option<Self> {
        let same = before.ip == after.ip
            && before.pod_gateway == after.pod_gateway
            && (Arc::ptr_eq(&before.ports, &after.ports) || are_alike(udp(before), udp(after)));
        (!same).then(|| Stale::of(before, after)).filter(|stale| !stale.is_nothing())
    }

    /// A Service port whose addresses lead to these endpoints.
    fn add(&mut self, port: &PortView, serving: &[SocketAddr]) {
        for ip in std::iter::once(&port.cluster_ip).chain(port.outer_ips()) {
            self.addresses.entry(SocketAddr::new(*ip, port.port)).or_default().extend(serving);
        }
        if let Some(node_port) = port.node_port {
            self.node_ports.entry(node_port).or_default().extend(serving);
        }
    }

    /// Nothing can be stale: there is and was no UDP Service.
    pub fn is_nothing(&self) -> bool {
        self.addresses.is_empty() && self.node_ports.is_empty()
    }

    /// The entry leads a Service's client to where nobody serves it.
    pub fn is_stale(&self, flow: &Flow) -> bool {
        let to = flow.original.to;
        let at_address = || self.addresses.get(&to);
        let at_node_port = || self.is_own(to.ip()).then(|| self.node_ports.get(&to.port())).flatten();
        flow.transport == Transport::Udp
            && at_address().or_else(at_node_port).is_some_and(|answerers| !answerers.contains(&flow.reply.from))
    }

    /// An address of the node's: what merely passes through to another node's port is not ours.
    fn is_own(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || self.own.contains(&ip)
    }
}

fn udp(view: &NodeView) -> impl Iterator<Item = &PortView> {
    view.ports.iter().map(AsRef::as_ref).filter(|port| port.protocol == Protocol::Udp)
}

fn are_alike<'a>(mut one: impl Iterator<Item = &'a PortView>, other: impl Iterator<Item = &'a PortView>) -> bool {
    let mut other = other.fuse();
    one.all(|port| other.next().is_some_and(|it| std::ptr::eq(port, it) || port.is_like(it))) && other.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lab::model::{Lab, NodeId, Service, ServiceKind},
        proxy::{
            endpoints::{Condition, Conditions},
            flow::Way,
            sample::{self, parsed},
            view,
        },
    };

    const VIP: &str = "10.96.1.53:53";
    const OLD: &str = "192.168.1.10:5353";
    const NEW: &str = "192.168.2.20:5353";

    /// The book's lab with a UDP Service on every sort of address, served by pod1a, pod1b and pod2.
    fn lab() -> Lab {
        let mut lab = sample::book();
        let service = sample::service(&mut lab, "dns", "10.96.1.53", "cs-pod");
        service.kind = ServiceKind::LoadBalancer;
        service.load_balancer_ips = vec![parsed("203.0.113.7")];
        service.external_ips = vec![parsed("203.0.113.8")];
        service.ports = vec![sample::port(None, Protocol::Udp, 53, 5353, Some(30053))];
        lab
    }

    fn dns(lab: &mut Lab) -> &mut Service {
        lab.services.last_mut().unwrap()
    }

    /// The lab with these pods only behind its Services.
    fn served_by(pods: &[&str]) -> Lab {
        let mut lab = lab();
        for pod in &mut lab.pods {
            if !pods.contains(&pod.name.as_str()) {
                pod.labels.clear();
            }
        }
        lab
    }

    fn without_dns() -> Lab {
        let mut lab = lab();
        lab.services.pop();
        lab
    }

    /// `10.0.0.1:4000 10.96.1.53:53 > 192.168.1.10:5353`: who wrote to whom, and who answers.
    fn flow(transport: Transport, text: &str) -> Flow {
        let (asked, answers) = text.split_once(" > ").unwrap();
        let (client, to) = asked.split_once(' ').unwrap();
        let (client, to, answers) = (parsed(client), parsed(to), parsed(answers));
        Flow { transport, original: Way { from: client, to }, reply: Way { from: answers, to: client } }
    }

    fn udp_to(to: &str, answers: &str) -> Flow {
        flow(Transport::Udp, &format!("192.168.1.20:4000 {to} > {answers}"))
    }

    fn on_node1(before: &Lab, after: &Lab) -> Stale {
        Stale::of(&view::view(before, NodeId(0)), &view::view(after, NodeId(0)))
    }

    /// A change, and what becomes of the entries that lead from the ClusterIP to the old endpoint,
    /// to the new one, and (made while no rule was there) nowhere but to the ClusterIP itself.
    #[test]
    fn every_order_of_events() {
        let old = || served_by(&["pod1a"]);
        let new = || served_by(&["pod2"]);
        let both = || served_by(&["pod1a", "pod2"]);
        let none = || served_by(&[]);
        let (gone, kept) = (true, false);
        for (what, before, after, [to_old, to_new, to_nobody]) in [
            ("nothing changes", old(), old(), [kept, gone, gone]),
            ("an endpoint is replaced", old(), new(), [gone, kept, gone]),
            ("an endpoint comes", old(), both(), [kept, kept, gone]),
            ("an endpoint goes", both(), new(), [gone, kept, gone]),
            ("the last endpoint goes", old(), none(), [gone, gone, gone]),
            ("the first endpoint comes", none(), new(), [gone, kept, gone]),
            ("there is none, still", none(), none(), [gone, gone, gone]),
            ("the Service is deleted", old(), without_dns(), [gone, gone, gone]),
            ("the Service is new", without_dns(), new(), [gone, kept, gone]),
            ("the Service is not there", without_dns(), without_dns(), [kept, kept, kept]),
        ] {
            let stale = on_node1(&before, &after);
            for (entry, wanted) in [(OLD, to_old), (NEW, to_new), (VIP, to_nobody)] {
                assert_eq!(stale.is_stale(&udp_to(VIP, entry)), wanted, "{what}: {VIP} > {entry}");
            }
        }
    }

    #[test]
    fn every_address_of_a_service() {
        let stale = on_node1(&served_by(&["pod1a"]), &served_by(&["pod2"]));
        for to in [
            VIP,
            "203.0.113.7:53",
            "203.0.113.8:53",
            "10.30.45.100:30053",
            "192.168.1.1:30053",
            "127.0.0.1:30053",
            "127.0.0.9:30053",
        ] {
            assert!(stale.is_stale(&udp_to(to, OLD)), "{to}");
            assert!(!stale.is_stale(&udp_to(to, NEW)), "{to}");
        }
    }

    #[test]
    fn what_is_nobodys_business() {
        let stale = on_node1(&served_by(&["pod1a"]), &served_by(&["pod2"]));
        for (what, to, answers) in [
            ("another port of the ClusterIP", "10.96.1.53:54", OLD),
            ("the node port on a ClusterIP", "10.96.1.53:30053", OLD),
            ("a node port of another node, passing through", "10.30.45.200:30053", "10.30.45.200:30053"),
            ("a machine outside that has the same port", "192.0.2.10:30053", "192.0.2.10:30053"),
            ("the endpoint itself", OLD, OLD),
            ("the TCP Service of the lab", "10.96.1.100:8080", "192.168.1.99:80"),
        ] {
            assert!(!stale.is_stale(&udp_to(to, answers)), "{what}");
        }
    }

    #[test]
    fn only_udp() {
        let stale = on_node1(&served_by(&["pod1a"]), &without_dns());
        for transport in [Transport::Tcp, Transport::Sctp, Transport::Icmp] {
            assert!(!stale.is_stale(&flow(transport, &format!("192.168.1.20:4000 {VIP} > {OLD}"))), "{transport}");
        }
        for protocol in [Protocol::Tcp, Protocol::Sctp] {
            let mut before = lab();
            dns(&mut before).ports[0].protocol = protocol;
            let stale = on_node1(&before, &without_dns());
            assert!(stale.is_nothing());
            assert!(!stale.is_stale(&udp_to(VIP, OLD)), "{protocol}");
        }
    }

    #[test]
    fn conntrack_is_asked_only_if_udp_is_served_otherwise() {
        let after = |before: &Lab, after: &Lab| {
            let views = [before, after].map(|lab| view::view(lab, NodeId(0)));
            Stale::after_change(&views[0], &views[1])
        };
        let lab = lab();
        assert_eq!(after(&lab, &lab), None);
        let mut more = lab.clone();
        sample::service(&mut more, "shop", "10.96.1.80", "cs-pod").ports =
            vec![sample::port(None, Protocol::Tcp, 80, 80, None)];
        assert_eq!((after(&lab, &more), after(&more, &lab)), (None, None));
        // What is said then is said of all UDP Services.
        let fewer = served_by(&["pod1a"]);
        assert_eq!(after(&lab, &fewer), Some(on_node1(&lab, &fewer)));
        assert_eq!(after(&lab, &without_dns()), Some(on_node1(&lab, &without_dns())));
        let mut moved = lab.clone();
        moved.nodes[0].ip = parsed("10.30.45.101");
        assert_eq!(after(&lab, &moved), Some(on_node1(&lab, &moved)));
    }

    #[test]
    fn ports_and_addresses_that_a_service_gave_up() {
        let before = lab();
        let mut after = lab();
        dns(&mut after).ports[0].node_port = Some(30054);
        dns(&mut after).ports[0].port = 5300;
        dns(&mut after).external_ips.clear();
        let stale = on_node1(&before, &after);
        for gone in ["10.30.45.100:30053", VIP, "203.0.113.7:53", "203.0.113.8:53"] {
            assert!(stale.is_stale(&udp_to(gone, OLD)), "{gone}");
        }
        for there in ["10.30.45.100:30054", "10.96.1.53:5300", "203.0.113.7:5300"] {
            assert!(!stale.is_stale(&udp_to(there, OLD)), "{there}");
        }
    }

    /// Another Service may take over what one gives up, in the same change.
    #[test]
    fn an_address_that_another_service_takes() {
        let before = lab();
        let mut after = lab();
        dns(&mut after).name = parsed("dns2");
        assert!(!on_node1(&before, &after).is_stale(&udp_to(VIP, OLD)));
    }

    /// kube-proxy goes by the address alone; a pod that serves two ports shows why that is not enough.
    #[test]
    fn an_endpoint_is_an_address_and_a_port() {
        let mut after = lab();
        dns(&mut after).ports[0].target_port = crate::lab::model::TargetPort::Number(5354);
        let stale = on_node1(&lab(), &after);
        assert!(stale.is_stale(&udp_to(VIP, "192.168.1.10:5353")));
        assert!(!stale.is_stale(&udp_to(VIP, "192.168.1.10:5354")));
    }

    /// A pod that terminates keeps its clients, ready ones beside it or not, wherever it is and
    /// whatever the traffic policies are; one that fails its probe loses them.
    #[test]
    fn who_serves_keeps_its_clients() {
        let mut lab = lab();
        dns(&mut lab).internal_traffic_policy = crate::lab::model::TrafficPolicy::Local;
        let pod = |name: &str| lab.pod_ids().find(|id| lab.pod(*id).name.as_str() == name).unwrap();
        let stale_if = |conditions: Conditions| {
            let view = view::view_under(&lab, NodeId(0), &conditions);
            let stale = Stale::of(&view, &view);
            [OLD, NEW].map(|answers| stale.is_stale(&udp_to(VIP, answers)))
        };
        let terminating = Condition { ready: true, terminating: true };
        let failing = Condition { ready: false, terminating: false };
        assert_eq!(stale_if(Conditions::new()), [false, false]);
        assert_eq!(stale_if([(pod("pod1a"), terminating)].into()), [false, false]);
        assert_eq!(stale_if([(pod("pod1a"), failing)].into()), [true, false]);
        assert_eq!(stale_if([(pod("pod2"), failing), (pod("pod1a"), terminating)].into()), [false, true]);
        let mut lab = lab.clone();
        dns(&mut lab).publish_not_ready_addresses = true;
        let conditions = [(lab.pod_ids().next().unwrap(), failing)].into();
        let view = view::view_under(&lab, NodeId(0), &conditions);
        assert!(!Stale::of(&view, &view).is_stale(&udp_to(VIP, OLD)), "the rules lead there as well");
    }
}
