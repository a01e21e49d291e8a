//! What every group of probes needs: the lab, the options, the opinion on what must be seen, and
//! the words and orders that all probes share.

use std::{
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use super::{
    Address, Answerer, Bound, Engine, Expect, Group, PlaceKind, Probe, Speaks, SuiteOptions, Target, TargetKind,
    sample::sample,
    services::{Seen, Way},
    way::{Fronts, Hop, way, way_to},
};
use crate::{
    lab::model::{ExternalServer, Lab, NodeId, Place, PodId, Protocol, Server, ServiceId},
    probe::{
        order::{FailureKind, Order, What},
        question::{self, Question, RecordKind, Resolver, Transport},
    },
    proxy::truth::{Choice, OUTSIDE_PORT, Sight},
};

/// Says what must be seen from a place at an address.
pub type SightFn<'a> = dyn Fn(Place, SocketAddr, Protocol) -> Sight + 'a;
/// Says who answers, each with its share of the connections.
pub type SharesFn<'a> = dyn Fn(Place, SocketAddr, Protocol) -> Option<Vec<(Choice, f64)>> + 'a;

/// An answer that should come is waited for this long. It takes a millisecond; but on a small
/// and busy machine a SYN may be lost to a full backlog and repeated after one second.
const PATIENCE_MS: u32 = 3000;
/// The same for a try that is one of many at the same time.
const CROWD_PATIENCE_MS: u32 = 5000;
/// Silence is believed after this long: packets of a lab take microseconds.
const SILENCE_MS: u32 = 1000;

/// What every group of probes needs.
pub(super) struct Scene<'a> {
    pub(super) lab: &'a Lab,
    pub(super) options: &'a SuiteOptions,
    pub(super) sight: &'a SightFn<'a>,
    pub(super) shares: &'a SharesFn<'a>,
    /// The ways to Services, and what is seen at their ends: several groups want to know.
    pub(super) seen: OnceCell<Vec<(Way, Seen)>>,
    /// What a name stands for, as [`Lab::find`] has it.
    places: BTreeMap<String, Place>,
    services: BTreeMap<String, ServiceId>,
    machines: BTreeMap<SocketAddr, Place>,
    pub(super) fronts: Fronts,
    /// The Service ports behind which nobody speaks but DNS pods, by the name of their Service and
    /// their numbers on its addresses and on the nodes.
    spoken: BTreeMap<(String, u16), Speaks>,
}

/// What makes a probe, before it has its id, its orders and its way.
pub(super) struct Draft {
    pub(super) group: Group,
    pub(super) from: Place,
    pub(super) target: Target,
    pub(super) entry: Option<NodeId>,
    pub(super) expect: Expect,
    pub(super) why: String,
}

impl<'a> Scene<'a> {
    pub(super) fn new(
        lab: &'a Lab,
        options: &'a SuiteOptions,
        sight: &'a SightFn<'a>,
        shares: &'a SharesFn<'a>,
    ) -> Self {
        let mut places = BTreeMap::new();
        let host = [("host".to_owned(), Place::Host)];
        let nodes = lab.node_ids().map(|id| (lab.node(id).name.to_string(), Place::Node(id)));
        let pods = lab.pod_ids().map(|id| (lab.pod(id).full_name(), lab.pod_place(id)));
        let others = lab.places().into_iter().map(|place| (lab.netns(place), place));
        for (name, place) in host.into_iter().chain(nodes).chain(pods).chain(others) {
            places.entry(name).or_insert(place);
        }
        let services = lab.service_ids().map(|id| (super::services::rule_name(lab.service(id)), id)).collect();
        let machines = machines(lab).into_iter().rev().map(|(place, at)| (at, place)).collect();
        Scene {
            lab,
            options,
            sight,
            shares,
            seen: OnceCell::new(),
            places,
            services,
            machines,
            fronts: Fronts::of(lab),
            spoken: spoken(lab),
        }
    }
}

impl Scene<'_> {
    /// The place of a name.
    pub(super) fn find(&self, name: &str) -> Option<Place> {
        self.places.get(name).copied()
    }

    /// The Service that the comments of rules call so.
    pub(super) fn service(&self, rule_name: &str) -> Option<ServiceId> {
        self.services.get(rule_name).copied()
    }

    /// A probe of one socket address, by the engine of the functional probes, tried `times`.
    pub(super) fn probe(&self, draft: Draft, times: usize) -> Probe {
        let Address::Socket(to) = draft.target.address else {
            // Only this module's siblings call it, and only with a socket address.
            unreachable!("{} is no socket address", draft.target.address)
        };
        // A refusal is an answer: it comes at once, or, on a busy machine, when the SYN is repeated.
        let silent = match &draft.expect {
            Expect::Silence(kinds) => kinds.contains(&FailureKind::Timeout),
            _ => false,
        };
        let timeout_ms = match (silent, times) {
            (true, _) => SILENCE_MS,
            (false, 1) => PATIENCE_MS,
            (false, _) => CROWD_PATIENCE_MS,
        };
        let curl = self.options.engine == Engine::Curl && times == 1;
        let manners = self.manners(&draft, to);
        // As long as a resolver waits for an answer.
        let timeout_ms = if manners == Some(Speaks::Names) && !silent { CROWD_PATIENCE_MS } else { timeout_ms };
        let path = if manners == Some(Speaks::Metrics) { "/metrics" } else { "/" };
        let what = match draft.target.protocol {
            protocol if manners == Some(Speaks::Names) => {
                What::Names { question: self.who_are_you(to, protocol), timeout_ms }
            }
            Protocol::Udp => What::Udp { to, timeout_ms },
            _ if curl => What::Curl { url: format!("{}{}", url(to), &path[1..]), timeout_ms },
            _ => What::Http { to, path: path.to_owned(), timeout_ms },
        };
        let order = Order::new(self.lab.netns(draft.from), what, times);
        self.probe_by(draft, vec![order])
    }

    /// How to speak with whoever answers, or would answer if anybody did.
    fn manners(&self, draft: &Draft, to: SocketAddr) -> Option<Speaks> {
        let answerers = draft.expect.answerers();
        let Some(first) = answerers.first() else {
            let service = draft.target.service.clone()?;
            return self.spoken.get(&(service, to.port())).copied();
        };
        answerers.iter().all(|answerer| answerer.speaks == first.speaks).then_some(first.speaks)
    }

    /// The question that any DNS of a cluster can answer, and no other.
    fn who_are_you(&self, to: SocketAddr, protocol: Protocol) -> Question {
        let transport = if protocol == Protocol::Udp { Transport::Udp } else { Transport::Tcp };
        let name = format!("dns-version.{}.", self.lab.cluster.domain);
        Question { name, kind: RecordKind::Txt, transport, resolver: Resolver::of_server(to) }
    }

    /// A probe with orders of its own.
    pub(super) fn probe_by(&self, draft: Draft, orders: Vec<Order>) -> Probe {
        let Draft { group, from, target, entry, expect, why } = draft;
        let way = self.way(from, entry, expect.answerers(), &target);
        let (place, from) = (PlaceKind::from(from), self.lab.netns(from));
        let (id, proxy) = (id(group, &from, &target), self.lab.cluster.proxy);
        Probe { id, group, from, place, proxy, target, orders, expect, why, way, resolver: None, at: None }
    }

    fn way(&self, from: Place, entry: Option<NodeId>, answerers: &[Answerer], target: &Target) -> Vec<Hop> {
        let mut ends: Vec<Place> = answerers.iter().filter_map(|answerer| self.find(&answerer.name)).collect();
        if ends.is_empty() && target.kind == TargetKind::Node {
            ends.extend(self.find(&target.of));
        }
        match target.address {
            Address::Socket(to) | Address::Name(_, to) | Address::Asked(_, to) => {
                way_to((self.lab, &self.fronts), from, entry, to.ip(), &ends)
            }
            Address::Several(_) | Address::Url(_) => way(self.lab, from, entry, &ends),
        }
    }

    /// An order to open `times` connections with the built-in client.
    pub(super) fn crowd(&self, from: Place, to: SocketAddr, times: usize) -> Order {
        let what = What::Http { to, path: "/".to_owned(), timeout_ms: CROWD_PATIENCE_MS };
        Order::new(self.lab.netns(from), what, times)
    }

    /// What must come of a probe, from what must be seen.
    pub(super) fn expect(&self, sight: Sight, protocol: Protocol) -> Expect {
        match sight {
            Sight::Served(choices) => Expect::Answer(self.answerers(choices, protocol)),
            Sight::Refused => silence(&[FailureKind::Refused]),
            // Neighbours that are powered off are looked for in vain for a while, then the client hears so.
            Sight::Dropped if self.lab.nodes.iter().any(|node| node.state.stopped) => {
                silence(&[FailureKind::Timeout, FailureKind::Unreachable])
            }
            Sight::Dropped => silence(&[FailureKind::Timeout]),
            Sight::Unreachable => silence(&[FailureKind::Unreachable]),
            Sight::Mixed { served, refused, lost } => {
                let mut ways = BTreeSet::new();
                ways.extend((!refused.is_empty()).then_some(FailureKind::Refused));
                if !lost.is_empty() {
                    ways.extend([FailureKind::Timeout, FailureKind::Unreachable]);
                }
                match served.is_empty() {
                    true => Expect::Silence(ways),
                    false => Expect::Mixed(self.answerers(served, protocol), ways),
                }
            }
        }
    }

    /// Those who may answer.
    pub(super) fn answerers(&self, choices: Vec<Choice>, protocol: Protocol) -> Vec<Answerer> {
        let answerer = |choice: Choice| {
            let (name, speaks) = match (choice.pod, self.machine_at(choice.endpoint)) {
                (Some(pod), _) => {
                    (self.lab.pod(pod).full_name(), speaks(self.lab, pod, choice.endpoint.port(), protocol))
                }
                (None, Some(machine)) => machine,
                (None, None) => (choice.endpoint.to_string(), Speaks::Anything),
            };
            Answerer { name, endpoint: choice.endpoint, sources: choice.sources, speaks }
        };
        choices.into_iter().map(answerer).collect()
    }

    fn machine_at(&self, at: SocketAddr) -> Option<(String, Speaks)> {
        let place = *self.machines.get(&at)?;
        let speaks = match place {
            Place::External(id) if self.lab.external(id).server == ExternalServer::MyIp => Speaks::ClientAddress,
            _ => Speaks::ItsName,
        };
        Some((self.lab.netns(place), speaks))
    }

    /// All of `0..total`, or `most` of them, of every class and kind as far as that goes; and a note in
    /// `bounds` if it is so.
    pub(super) fn sampled<C: Ord + Clone, K: Ord>(
        &self,
        bounds: &mut Vec<Bound>,
        (group, what): (Group, &str),
        (total, most): (usize, usize),
        of: impl Fn(usize) -> (C, K),
    ) -> Vec<usize> {
        let most = self.at_most(most);
        if total > most {
            bounds.push(Bound { group, what: what.to_owned(), tried: most, of: total });
        }
        sample(total, most, self.options.seed, of)
    }

    /// So many, unless everything is to be tried.
    pub(super) fn at_most(&self, most: usize) -> usize {
        if self.options.full { usize::MAX } else { most }
    }
}

/// Whether a client of ours can tell anything from these answerers over this protocol.
pub(super) fn is_testable(expect: &Expect, protocol: Protocol) -> bool {
    match protocol {
        Protocol::Tcp => true,
        Protocol::Udp => {
            let answers = |answerer: &Answerer| matches!(answerer.speaks, Speaks::Datagrams | Speaks::Names);
            expect.answerers().iter().all(answers)
        }
        // There is no SCTP client.
        Protocol::Sctp => false,
    }
}

/// Nothing may answer, and it must fail in one of these ways.
pub(super) fn silence(kinds: &[FailureKind]) -> Expect {
    Expect::Silence(kinds.iter().copied().collect::<BTreeSet<_>>())
}

/// The machines outside the cluster, with the addresses of their built-in servers.
pub(super) fn machines(lab: &Lab) -> Vec<(Place, SocketAddr)> {
    near_machines(lab).into_iter().chain(externals(lab)).collect()
}

/// Those that the nodes' network leads to.
pub(super) fn near_machines(lab: &Lab) -> Vec<(Place, SocketAddr)> {
    let at = |place, ip| (place, SocketAddr::new(ip, OUTSIDE_PORT));
    let host = at(Place::Host, lab.cluster.gateway);
    let clients = lab.client_ids().map(|id| at(Place::Client(id), lab.client(id).ip.addr()));
    std::iter::once(host).chain(clients).collect()
}

/// Those on the lab's internet.
pub(super) fn externals(lab: &Lab) -> Vec<(Place, SocketAddr)> {
    let of = |id| {
        let external = lab.external(id);
        let at = move |ip| external.ports.iter().map(move |port| (Place::External(id), SocketAddr::new(ip, *port)));
        external.ips.iter().flat_map(move |ip| at(*ip))
    };
    lab.external_ids().flat_map(of).collect()
}

/// The Service ports behind which all pods are DNS pods.
fn spoken(lab: &Lab) -> BTreeMap<(String, u16), Speaks> {
    let mut spoken = BTreeMap::new();
    for service in lab.services.iter().filter(|service| !service.selector.is_empty()) {
        let selected = |pod: &PodId| {
            let pod = lab.pod(*pod);
            let has = |(key, value)| pod.labels.get(key) == Some(value);
            pod.serves_dns() && pod.namespace == service.namespace && service.selector.iter().all(has)
        };
        let Some(pod) = lab.pod_ids().find(selected) else { continue };
        for port in &service.ports {
            let Some(target) = port.target_port.resolve(lab.pod(pod), port.protocol) else { continue };
            for number in [Some(port.port), port.node_port].into_iter().flatten() {
                spoken.insert((super::services::rule_name(service), number), speaks(lab, pod, target, port.protocol));
            }
        }
    }
    spoken
}

/// What is known of the server behind a pod's port.
pub(super) fn speaks(lab: &Lab, pod: PodId, port: u16, protocol: Protocol) -> Speaks {
    let server = lab.pod(pod).containers.iter().find_map(|container| {
        let declared = |declared: &&crate::lab::model::ContainerPort| {
            declared.container_port == port && declared.protocol == protocol
        };
        container.ports.iter().find(declared).map(|_| &container.server)
    });
    match (server, protocol) {
        (Some(Server::Python | Server::Echo), Protocol::Tcp) => Speaks::ItsName,
        (Some(Server::Echo), Protocol::Udp) => Speaks::Datagrams,
        (Some(Server::Dns), _) if port == question::PORT => Speaks::Names,
        (Some(Server::Dns), Protocol::Tcp) => Speaks::Metrics,
        _ => Speaks::Anything,
    }
}

/// The ports of a pod on which a server of ours can be asked something. That a DNS pod has metrics
/// its Service shows.
pub(super) fn server_ports(lab: &Lab, pod: PodId) -> Vec<(u16, Protocol)> {
    let ports = lab.pod(pod).containers.iter().flat_map(|container| &container.ports);
    ports
        .map(|port| (port.container_port, port.protocol))
        .filter(|(port, protocol)| {
            let speaks = speaks(lab, pod, *port, *protocol);
            match protocol {
                Protocol::Tcp => speaks != Speaks::Metrics,
                Protocol::Udp => matches!(speaks, Speaks::Datagrams | Speaks::Names),
                Protocol::Sctp => false,
            }
        })
        .collect()
}

/// The place that the pods' packets come from, or `None` for a host-network pod, whose node
/// stands for it.
pub(super) fn own_places(lab: &Lab) -> Vec<PodId> {
    lab.pod_ids().filter(|pod| !lab.pod(*pod).host_network && !lab.is_off(Place::Pod(*pod))).collect()
}

/// A reason, and what else is to be said.
pub(super) fn also(why: &str, more: Option<&str>) -> String {
    more.map_or_else(|| why.to_owned(), |more| format!("{why}; {more}"))
}

/// As a person would type it.
pub(super) fn url(to: SocketAddr) -> String {
    match (to, to.port()) {
        (SocketAddr::V4(v4), 80) => format!("http://{}/", v4.ip()),
        (SocketAddr::V6(v6), 80) => format!("http://[{}]/", v6.ip()),
        _ => format!("http://{to}/"),
    }
}

fn id(group: Group, from: &str, target: &Target) -> String {
    let mut id = format!("{group}/{from}/{}/{}", target.kind.slug(), target.of);
    if target.kind == TargetKind::Url {
        return format!("{group}/{}", target.of);
    }
    match (&target.node, &target.address) {
        (Some(node), _) => id.push_str(&format!("@{node}")),
        (None, Address::Socket(address)) if matches!(target.kind, TargetKind::Pod | TargetKind::Node) => {
            id.push_str(&format!(":{}", address.port()));
        }
        (None, Address::Socket(address))
            if matches!(target.kind, TargetKind::ExternalIp | TargetKind::LoadBalancer) =>
        {
            id.push_str(&format!("@{}", address.ip()));
        }
        _ => {}
    }
    if target.protocol != Protocol::Tcp {
        id.push('/');
        id.push_str(target.protocol.lower());
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        assert_eq!(url("10.0.0.1:80".parse().unwrap()), "http://10.0.0.1/");
        assert_eq!(url("10.0.0.1:8080".parse().unwrap()), "http://10.0.0.1:8080/");
        assert_eq!(url("[fd00::1]:80".parse().unwrap()), "http://[fd00::1]/");
        assert_eq!(url("[fd00::1]:81".parse().unwrap()), "http://[fd00::1]:81/");
    }
}
