//! Names stand for what they must: every Service by every form of its name, from its own namespace
//! and from another, and what is behind it answers when it is asked for by name.

mod web;
mod zone;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use super::{
    Address, Answerer, Bound, Expect, Group, Probe, Saying, Target, TargetKind, absent,
    scene::{Draft, Scene, own_places},
    services::rule_name,
    way::{join, way},
};
use crate::{
    lab::model::{Dns, Lab, Place, PodId, Protocol, Service, ServiceId, ServiceKind},
    plan::knows_names,
    probe::{
        order::{Order, What},
        question::{self, Question, RecordKind, Resolver, Transport, reverse},
    },
    proxy::truth::Sight,
};
use zone::Zone;

/// More questions than this are not all asked.
const MOST_QUESTIONS: usize = 600;
/// More endpoints of a headless Service than this are not all asked for by their own names.
const MOST_HOSTS: usize = 4;
/// As long is an answer waited for: a lost datagram is repeated after a second or so.
const PATIENCE_MS: u32 = 4000;
/// The same where another name server has to be asked: the cluster's DNS gives up after five seconds,
/// and says so.
const OUTER_PATIENCE_MS: u32 = 7000;
/// A namespace that every cluster has, and few labs put anything into.
const ELSEWHERE: [&str; 2] = ["kube-public", "kube-node-lease"];

pub(super) fn probes(scene: &Scene<'_>, bounds: &mut Vec<Bound>) -> Vec<Probe> {
    if !knows_names(scene.lab) {
        return Vec::new();
    }
    let vantages = Vantages::new(scene.lab);
    let mut asks = Vec::new();
    if let (Some(zone), Some(dns)) = (Zone::new(scene.lab), &scene.lab.dns) {
        let asking = Asking { lab: scene.lab, dns, zone, vantages: &vantages };
        asking.of_all_nodes(&mut asks);
        for service in scene.lab.service_ids() {
            asking.of_service(service, &mut asks);
        }
    }
    asks.extend(of_machines(scene.lab));
    let of = |index: usize| (asks[index].why, asks[index].from);
    let taken = scene.sampled(bounds, (Group::Names, "questions about names"), (asks.len(), MOST_QUESTIONS), of);
    let mut seen = Answering::default();
    let mut probes: Vec<Probe> = taken.into_iter().map(|index| probe(scene, &asks[index], &mut seen)).collect();
    // What every node is asked for may be what a Service is asked for too.
    let mut ids = BTreeSet::new();
    probes.retain(|probe| ids.insert(probe.id.clone()));
    probes.extend(web::probes(scene, &vantages, &mut seen, bounds));
    probes
}

/// One question, and what is known of it.
struct Ask {
    from: Place,
    question: Question,
    saying: Saying,
    /// Whose view is taken, if it is not the place's own.
    seen_from: Option<String>,
    why: &'static str,
    /// The answer comes from the name server of the lab's internet.
    outer: bool,
}

/// Who may answer questions from a place, which many probes want to know.
#[derive(Default)]
struct Answering(BTreeMap<(Place, Transport), Vec<Answerer>>);

impl Answering {
    fn of(&mut self, scene: &Scene<'_>, from: Place, to: SocketAddr, transport: Transport) -> Vec<Answerer> {
        let look = || match (scene.sight)(from, to, protocol(transport)) {
            Sight::Served(choices) => scene.answerers(choices, protocol(transport)),
            _ => Vec::new(),
        };
        self.0.entry((from, transport)).or_insert_with(look).clone()
    }
}

fn protocol(transport: Transport) -> Protocol {
    match transport {
        Transport::Udp => Protocol::Udp,
        Transport::Tcp => Protocol::Tcp,
    }
}

fn probe(scene: &Scene<'_>, ask: &Ask, seen: &mut Answering) -> Probe {
    let Ask { from, question, saying, seen_from, why, outer } = ask;
    let lab = scene.lab;
    let Question { name, kind, transport, resolver } = question;
    // Without a server the name cannot be asked for, which the probe will say.
    let server =
        resolver.servers.first().copied().unwrap_or_else(|| SocketAddr::new(lab.cluster.gateway, question::PORT));
    let cluster = lab.dns.as_ref().filter(|dns| dns.ip == server.ip());
    let by = cluster.map(|_| seen.of(scene, *from, server, *transport)).unwrap_or_default();
    let view = seen_from.as_ref().map(|namespace| format!(" as {namespace} sees it")).unwrap_or_default();
    let target = Target {
        kind: TargetKind::Name,
        address: Address::Name(name.clone(), server),
        protocol: protocol(*transport),
        of: format!("{kind} of {name}{view}"),
        node: None,
        service: cluster.map(|dns| rule_name(lab.service(dns.service))),
    };
    let expect = Expect::Says(Saying { by: by.clone(), ..saying.clone() });
    let timeout_ms = if *outer { OUTER_PATIENCE_MS } else { PATIENCE_MS };
    let what = What::Names { question: question.clone(), timeout_ms };
    let order = Order::new(lab.netns(*from), what, 1);
    let draft = Draft { group: Group::Names, from: *from, target, entry: None, expect, why: (*why).to_owned() };
    let mut probe = scene.probe_by(draft, vec![order]);
    let mut id = format!("{}/{}/{kind}/{name}", Group::Names, probe.from);
    id.extend(seen_from.as_ref().map(|namespace| format!("@{namespace}")));
    if *transport == Transport::Tcp {
        id.push_str("/tcp");
    }
    probe.id = id;
    if cluster.is_none() {
        probe.way = way(lab, *from, None, &[Place::Host]);
    } else if *outer {
        probe.way = join(probe.way, upstream(lab, &by));
    }
    probe
}

/// The way of a question that the cluster's DNS has to hand on.
fn upstream(lab: &Lab, by: &[Answerer]) -> Vec<super::way::Hop> {
    let pods = by.iter().filter_map(|answerer| lab.find(&answerer.name));
    pods.fold(Vec::new(), |hops, pod| join(hops, way(lab, pod, None, &[Place::Host])))
}

/// From where names are asked for.
pub(super) struct Vantages {
    /// The pods that ask the cluster's DNS, by their namespaces.
    pods: BTreeMap<String, Vec<(PodId, Resolver)>>,
    /// A pod that stands for those that are not there.
    any: Option<PodId>,
}

impl Vantages {
    fn new(lab: &Lab) -> Self {
        let mut pods: BTreeMap<String, Vec<(PodId, Resolver)>> = BTreeMap::new();
        let places = own_places(lab);
        for id in &places {
            let resolver = resolver(lab, Place::Pod(*id));
            let asks = |dns: &Dns| resolver.servers.first().is_some_and(|server| server.ip() == dns.ip);
            // A search list of its own would make other names of the same words.
            if lab.dns.as_ref().is_some_and(asks) && lab.pod(*id).dns.searches.is_empty() {
                pods.entry(lab.pod(*id).namespace.to_string()).or_default().push((*id, resolver));
            }
        }
        Vantages { pods, any: places.first().copied() }
    }

    /// One of the pods in a namespace; another one for each Service, so that all get their turn.
    fn inside(&self, namespace: &str, turn: usize) -> Option<(PodId, &Resolver)> {
        let pods = self.pods.get(namespace)?;
        let (pod, resolver) = &pods[turn % pods.len()];
        Some((*pod, resolver))
    }

    /// One of the pods in other namespaces.
    fn outside(&self, namespace: &str, turn: usize) -> Option<(PodId, &Resolver)> {
        let others: Vec<&String> = self.pods.keys().filter(|other| *other != namespace).collect();
        self.inside(others.get(turn.checked_rem(others.len())?)?, turn)
    }

    fn all(&self) -> impl Iterator<Item = &(PodId, Resolver)> {
        self.pods.values().flatten()
    }
}

/// What a place's own resolver is told.
fn resolver(lab: &Lab, place: Place) -> Resolver {
    Resolver::of_file(&crate::dns::resolv::Resolver::of(lab, place).to_string())
}

/// What a pod in a namespace would be told.
fn resolver_in(lab: &Lab, dns: &Dns, namespace: &str) -> Resolver {
    let domain = &lab.cluster.domain;
    let search = vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.to_string()];
    Resolver { servers: vec![SocketAddr::new(dns.ip, question::PORT)], search, ndots: 5, own: false }
}

/// What the questions about the cluster's names are made of.
struct Asking<'a> {
    lab: &'a Lab,
    dns: &'a Dns,
    zone: Zone<'a>,
    vantages: &'a Vantages,
}

/// A place that asks.
#[derive(Clone, Copy)]
struct Vantage<'a> {
    from: Place,
    resolver: &'a Resolver,
    /// It takes the view of this namespace, which is not its own.
    seen_from: Option<&'a str>,
}

const SHORT: &str = "the search list of a pod makes a whole name of the short forms of a Service's: \
                     SERVICE in its own namespace, SERVICE.NAMESPACE and SERVICE.NAMESPACE.svc everywhere";
const WHOLE: &str = "SERVICE.NAMESPACE.svc.DOMAIN is the Service's ClusterIP, and for a headless Service every ready \
                     endpoint";
const OTHER_FAMILY: &str = "a name that is there, but without an address of this family, is answered by nothing and the \
                            zone's SOA record, not by NXDOMAIN: a resolver that asks for both would give up";
const NAMED_PORT: &str = "a named port has an SRV record with its number and the machine, for a headless Service one for \
                          each ready endpoint";
const POINTER: &str =
    "an address of the cluster has the name of its Service, or that of the endpoint below its Service";
const HOST: &str = "an endpoint has a name below its headless Service: the pod's hostname if its subdomain is that \
                    Service, else its address with dashes";
const EXTERNAL_NAME: &str = "an ExternalName Service is another name: a CNAME first, then what that stands for";
const NOBODY: &str = "a name that no Service has does not exist (NXDOMAIN), and the zone says so with its SOA record";
const VERSION: &str = "the cluster's DNS says which version of the specification it follows";
const CASE: &str = "names are compared without regard to case";
const POD_NAME: &str = "an address of a pod is a name below its namespace's `pod`, as far as `pods` in `[dns]` has it";
const OUTER: &str = "what is not the cluster's, its DNS asks the name server of the lab's internet";
const OUTER_NOBODY: &str = "that a name does not exist in the lab's internet is handed on as it is";
const MACHINE: &str = "a node asks the name server of the lab's internet itself";

impl Asking<'_> {
    fn ask(&self, at: Vantage<'_>, (name, kind, transport): (String, RecordKind, Transport), why: &'static str) -> Ask {
        let Vantage { from, resolver, seen_from } = at;
        let question = Question { name, kind, transport, resolver: resolver.clone() };
        let (saying, outer) = self.zone.saying(&question);
        Ask { from, question, saying, seen_from: seen_from.map(str::to_owned), why, outer }
    }

    /// What must be so on every node.
    fn of_all_nodes(&self, asks: &mut Vec<Ask>) {
        let own = rule_of(self.lab.service(self.dns.service));
        for node in absent::nodes(self.lab) {
            let Some((pod, resolver)) = self.vantages.all().find(|(pod, _)| self.lab.pod(*pod).node == node) else {
                continue;
            };
            let at = Vantage { from: Place::Pod(*pod), resolver, seen_from: None };
            let domain = &self.lab.cluster.domain;
            let mut add = |name: String, kind, transport, why| asks.push(self.ask(at, (name, kind, transport), why));
            add(format!("dns-version.{domain}."), RecordKind::Txt, Transport::Udp, VERSION);
            add(own.clone(), RecordKind::A, Transport::Udp, SHORT);
            add(own.clone(), RecordKind::A, Transport::Tcp, SHORT);
            let namespace = &self.lab.pod(*pod).namespace;
            let ours =
                |name: &str| self.lab.services.iter().any(|it| it.namespace == *namespace && it.name.as_str() == name);
            let nobody = (0..).map(|nth| format!("nobody-{nth}")).find(|name| !ours(name)).unwrap_or_default();
            add(format!("{nobody}.{namespace}.svc.{domain}."), RecordKind::A, Transport::Udp, NOBODY);
            let first = self.lab.pod(*pod);
            let by_address = format!("{}.{}.pod.{domain}.", zone::dashed(first.ip), first.namespace);
            add(by_address, RecordKind::A, Transport::Udp, POD_NAME);
            for external in &self.lab.externals {
                asks.push(self.ask(at, (external.name.to_string(), RecordKind::A, Transport::Udp), OUTER));
            }
            let nobody = outer_nobody(self.lab);
            asks.push(self.ask(at, (format!("{nobody}."), RecordKind::A, Transport::Udp), OUTER_NOBODY));
        }
    }

    /// Every form of a Service's name, from its own namespace and from another.
    fn of_service(&self, id: ServiceId, asks: &mut Vec<Ask>) {
        let service = self.lab.service(id);
        let namespace = service.namespace.as_str();
        let Some(any) = self.vantages.any else { return };
        let made_up = |namespace: &str| resolver_in(self.lab, self.dns, namespace);
        let (name, short) = (self.zone.name(service), rule_of(service));
        let alias = matches!(service.kind, ServiceKind::ExternalName(_));

        let own = made_up(namespace);
        let inside = match self.vantages.inside(namespace, id.0) {
            Some((pod, resolver)) => Vantage { from: Place::Pod(pod), resolver, seen_from: None },
            None => Vantage { from: Place::Pod(any), resolver: &own, seen_from: Some(namespace) },
        };
        let forms = [service.name.to_string(), short.clone(), format!("{short}.svc"), name.clone()];
        for form in forms {
            asks.push(self.ask(
                inside,
                (form, RecordKind::A, Transport::Udp),
                if alias { EXTERNAL_NAME } else { SHORT },
            ));
        }
        let whole = format!("{name}.");
        let mut add = |name: String, kind, why| asks.push(self.ask(inside, (name, kind, Transport::Udp), why));
        if alias {
            add(whole.clone(), RecordKind::Cname, EXTERNAL_NAME);
        } else {
            add(whole.clone(), RecordKind::Aaaa, OTHER_FAMILY);
            add(whole.to_ascii_uppercase(), RecordKind::A, CASE);
        }
        for port in &service.ports {
            if let (Some(of), false) = (&port.name, alias) {
                add(format!("_{of}._{}.{whole}", port.protocol.lower()), RecordKind::Srv, NAMED_PORT);
            }
        }
        let endpoints = self.zone.endpoints(service);
        let address: Option<IpAddr> = service.cluster_ip.or_else(|| endpoints.first().map(|endpoint| endpoint.ip));
        if let Some(ip) = address {
            add(format!("{}.", reverse(ip)), RecordKind::Ptr, POINTER);
        }
        if service.cluster_ip.is_none() {
            let mut hosts: Vec<(bool, &String)> = endpoints.iter().map(|it| (!it.named, &it.host)).collect();
            hosts.sort();
            hosts.dedup();
            for (_, host) in hosts.into_iter().take(MOST_HOSTS) {
                add(format!("{host}.{whole}"), RecordKind::A, HOST);
            }
        }
        asks.push(self.ask(inside, (whole.clone(), RecordKind::A, Transport::Tcp), WHOLE));

        let elsewhere = ELSEWHERE.into_iter().find(|other| *other != namespace).unwrap_or("default");
        let other = made_up(elsewhere);
        let outside = match self.vantages.outside(namespace, id.0) {
            Some((pod, resolver)) => Vantage { from: Place::Pod(pod), resolver, seen_from: None },
            None => Vantage { from: inside.from, resolver: &other, seen_from: Some(elsewhere) },
        };
        for form in [service.name.to_string(), short.clone(), format!("{short}.svc"), whole] {
            asks.push(self.ask(
                outside,
                (form, RecordKind::A, Transport::Udp),
                if alias { EXTERNAL_NAME } else { SHORT },
            ));
        }
    }
}

/// `shop.default`, the form that means the same everywhere.
fn rule_of(service: &Service) -> String {
    format!("{}.{}", service.name, service.namespace)
}

/// A name that nobody on the lab's internet has.
fn outer_nobody(lab: &Lab) -> String {
    let taken = |name: &str| lab.externals.iter().any(|external| external.name.as_str() == name);
    (0..).map(|nth| format!("nobody-{nth}.example")).find(|name| !taken(name)).unwrap_or_default()
}

/// What nodes ask for with their own resolvers.
fn of_machines(lab: &Lab) -> Vec<Ask> {
    let mut asks = Vec::new();
    for node in absent::nodes(lab) {
        let from = Place::Node(node);
        let resolver = resolver(lab, from);
        let mut add = |name: String, saying: Saying, why| {
            let (kind, transport, resolver) = (RecordKind::A, Transport::Udp, resolver.clone());
            let question = Question { name, kind, transport, resolver };
            asks.push(Ask { from, question, saying, seen_from: None, why, outer: true });
        };
        for external in &lab.externals {
            add(external.name.to_string(), zone::outer(lab, external.name.as_str(), RecordKind::A), MACHINE);
        }
        let nobody = outer_nobody(lab);
        add(nobody.clone(), zone::outer(lab, &nobody, RecordKind::A), MACHINE);
    }
    asks
}

#[cfg(test)]
mod tests;
