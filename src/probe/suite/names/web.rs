//! What answers HTTP under a name: the real curl with the pod's own resolver, from a pod in the
//! Service's namespace and from one outside of it.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use super::{Answering, PATIENCE_MS, Vantages, upstream, zone::Zone};
use crate::{
    lab::model::{Lab, Place, PodId, Protocol, Service, ServiceId, ServiceKind},
    probe::{
        order::{Order, What},
        question::{Question, RecordKind, Resolver, Said, Transport},
        suite::{
            Address, Answerer, Bound, Engine, Expect, Group, Probe, Speaks, Target, TargetKind,
            scene::{Draft, Scene},
            services::rule_name,
            way::join,
        },
    },
    proxy::truth::Sight,
};

/// More URLs than this are not all fetched.
const MOST_URLS: usize = 120;

const WHY: &str = "a program reaches a Service by its name: its resolver asks the cluster's DNS, and what comes back \
                   leads to the right backends";
const AWAY: &str = "an ExternalName Service leads out of the cluster by its name alone, and what leaves the cluster \
                    carries the address of its node";
const OUTER: &str = "a pod finds the machines of the lab's internet by their names, and what it sends there carries the \
                     address of its node";

/// A URL, and who fetches it.
struct Fetch<'a> {
    from: Place,
    resolver: &'a Resolver,
    host: String,
    port: u16,
    /// What the name stands for.
    ips: Vec<IpAddr>,
    /// The Service whose address this is.
    service: Option<ServiceId>,
    /// The machine is on the lab's internet.
    outer: bool,
    why: &'static str,
}

pub(super) fn probes(
    scene: &Scene<'_>,
    vantages: &Vantages,
    seen: &mut Answering,
    bounds: &mut Vec<Bound>,
) -> Vec<Probe> {
    let lab = scene.lab;
    let Some(zone) = Zone::new(lab) else { return Vec::new() };
    let mut fetches = Vec::new();
    for id in lab.service_ids() {
        let service = lab.service(id);
        let namespace = service.namespace.as_str();
        let inside = vantages.inside(namespace, id.0);
        // A pod finds its own name in its hosts file, before it asks anybody.
        let own = inside.is_some_and(|(pod, _)| lab.pod(pod).own_name().as_str() == service.name.as_str());
        let name = if own { format!("{}.{namespace}", service.name) } else { service.name.to_string() };
        let short = (name, inside);
        let long = (super::rule_of(service), vantages.outside(namespace, id.0));
        for (host, vantage) in [short, long] {
            let Some((pod, resolver)) = vantage else { continue };
            fetches.extend(of_service(lab, &zone, id, (pod, resolver), host));
        }
    }
    let mut by_node: BTreeMap<usize, &(PodId, Resolver)> = BTreeMap::new();
    for vantage in vantages.all() {
        by_node.entry(lab.pod(vantage.0).node.0).or_insert(vantage);
    }
    for (pod, resolver) in by_node.into_values() {
        let of = |external: &crate::lab::model::External| {
            let port = *external.ports.first()?;
            let (from, host, ips) = (Place::Pod(*pod), external.name.to_string(), external.ips.clone());
            Some(Fetch { from, resolver, host, port, ips, service: None, outer: true, why: OUTER })
        };
        fetches.extend(lab.externals.iter().filter_map(of));
    }
    let good: Vec<(Fetch<'_>, Vec<Answerer>)> =
        fetches.into_iter().filter_map(|fetch| Some((answerers(scene, &fetch)?, fetch))).map(|(a, f)| (f, a)).collect();
    let of = |index: usize| (good[index].0.why, good[index].0.service);
    let taken = scene.sampled(bounds, (Group::Names, "URLs with names"), (good.len(), MOST_URLS), of);
    taken.into_iter().map(|index| probe(scene, &good[index], seen)).collect()
}

fn of_service<'a>(
    lab: &Lab,
    zone: &Zone<'_>,
    id: ServiceId,
    (pod, resolver): (PodId, &'a Resolver),
    host: String,
) -> Option<Fetch<'a>> {
    let service = lab.service(id);
    let question = Question { name: host, kind: RecordKind::A, transport: Transport::Udp, resolver: resolver.clone() };
    let said = zone.saying(&question).0.records;
    let ips: Vec<IpAddr> =
        said.iter().filter_map(|said| if let Said::Address(ip) = said { Some(*ip) } else { None }).collect();
    let host = question.name;
    let from = Place::Pod(pod);
    let fetch =
        |port, service, outer, why| Some(Fetch { from, resolver, host, port, ips: ips.clone(), service, outer, why });
    let first =
        |service: &Service| service.ports.iter().find(|port| port.protocol == Protocol::Tcp).map(|port| port.port);
    if let ServiceKind::ExternalName(target) = &service.kind {
        if let Some(external) = lab.externals.iter().find(|external| external.name == *target) {
            return fetch(*external.ports.first()?, None, true, AWAY);
        }
        let other = lab
            .service_ids()
            .find(|other| ips.first().is_some_and(|ip| lab.service(*other).cluster_ip == Some(*ip)))?;
        return fetch(first(lab.service(other))?, Some(other), false, WHY);
    }
    if service.cluster_ip.is_some() {
        return fetch(first(service)?, Some(id), false, WHY);
    }
    // The endpoints' own port must be the same everywhere to stand in a URL.
    let endpoints = zone.endpoints(service);
    let tcp = |port: &crate::lab::model::ServicePort| port.protocol == Protocol::Tcp;
    let number = endpoints.iter().find(|it| it.port.is_some_and(tcp))?.number;
    let everywhere =
        ips.iter().all(|ip| endpoints.iter().any(|it| it.ip == *ip && it.number == number && it.port.is_some_and(tcp)));
    if everywhere { fetch(number, None, false, WHY) } else { None }
}

/// Who must answer, if that is clear, and if they all say who they are.
fn answerers(scene: &Scene<'_>, fetch: &Fetch<'_>) -> Option<Vec<Answerer>> {
    let mut answerers: Vec<Answerer> = Vec::new();
    for ip in &fetch.ips {
        let to = SocketAddr::new(*ip, fetch.port);
        let Sight::Served(choices) = (scene.sight)(fetch.from, to, Protocol::Tcp) else { return None };
        answerers.extend(scene.answerers(choices, Protocol::Tcp));
    }
    let speaks = |answerer: &Answerer| matches!(answerer.speaks, Speaks::ItsName | Speaks::ClientAddress);
    (!answerers.is_empty() && answerers.iter().all(speaks)).then_some(answerers)
}

fn probe(scene: &Scene<'_>, (fetch, answerers): &(Fetch<'_>, Vec<Answerer>), seen: &mut Answering) -> Probe {
    let Fetch { from, resolver, host, port, service, outer, why, .. } = fetch;
    let lab = scene.lab;
    let authority = if *port == 80 { host.clone() } else { format!("{host}:{port}") };
    let url = format!("http://{authority}/");
    let what = match scene.options.engine {
        Engine::Curl => What::Curl { url: url.clone(), timeout_ms: PATIENCE_MS },
        Engine::Builtin => What::HttpByName {
            host: host.clone(),
            port: *port,
            path: "/".to_owned(),
            resolver: (*resolver).clone(),
            timeout_ms: PATIENCE_MS,
        },
    };
    let target = Target {
        kind: TargetKind::Url,
        address: Address::Url(url),
        protocol: Protocol::Tcp,
        of: authority.clone(),
        node: None,
        service: service.map(|id| rule_name(lab.service(id))),
    };
    let order = Order::new(lab.netns(*from), what, 1);
    let expect = Expect::Answer(answerers.clone());
    let draft = Draft { group: Group::Names, from: *from, target, entry: None, expect, why: (*why).to_owned() };
    let mut probe = scene.probe_by(draft, vec![order]);
    probe.id = format!("{}/{}/url/{authority}", Group::Names, probe.from);
    probe.resolver = lab.dns.as_ref().map(|dns| rule_name(lab.service(dns.service)));
    if let Some(server) = resolver.servers.first() {
        let by = seen.of(scene, *from, *server, Transport::Udp);
        let pods: Vec<Place> = by.iter().filter_map(|answerer| lab.find(&answerer.name)).collect();
        probe.way = join(probe.way, super::way(lab, *from, None, &pods));
        if *outer {
            probe.way = join(probe.way, upstream(lab, &by));
        }
    }
    probe
}
