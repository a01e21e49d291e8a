//! What a name stands for, read off the specification of DNS in Kubernetes one question at a time.
//!
//! The servers list the records of a lab ([`crate::dns`]). This takes a name apart instead and looks
//! at the lab for what it says, so that the two can only agree by both being right.

use std::net::IpAddr;

use crate::{
    lab::model::{
        Common, Dns, DnsEngine, ExternalNames, Lab, Pod, PodRecords, Service, ServiceKind, ServicePort, TargetPort,
    },
    probe::{
        judge::in_order,
        question::{Question, Rcode, RecordKind, SCHEMA, Said, reverse},
        suite::Saying,
    },
};

/// The time to live of `dns-version`, as CoreDNS has it.
const SCHEMA_TTL: u32 = 28800;
/// The shortest and the longest time of an answer that has passed CoreDNS's `cache 30`, in seconds.
const CACHED: (u32, u32) = (5, 30);
/// As many names lead on to another one at most.
const LONGEST_CHAIN: usize = 10;
/// What every cluster has; a name below a namespace that is not there is not there either.
const NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// The names of a lab.
#[derive(Debug, Clone, Copy)]
pub(super) struct Zone<'a> {
    lab: &'a Lab,
    dns: &'a Dns,
}

/// One port of one ready endpoint of a Service.
#[derive(Debug, Clone)]
pub(super) struct Endpoint<'a> {
    /// The Service's port; `None` for a Service without any.
    pub(super) port: Option<&'a ServicePort>,
    /// Its address.
    pub(super) ip: IpAddr,
    /// Its port.
    pub(super) number: u16,
    /// Its name below the Service's.
    pub(super) host: String,
    /// The pod says what it is called.
    pub(super) named: bool,
}

impl<'a> Zone<'a> {
    pub(super) fn new(lab: &'a Lab) -> Option<Self> {
        Some(Zone { lab, dns: lab.dns.as_ref()? })
    }

    /// The whole name of a Service.
    pub(super) fn name(&self, service: &Service) -> String {
        format!("{}.{}.svc.{}", service.name, service.namespace, self.lab.cluster.domain)
    }

    /// What must be said to a question, and whether the name server of the lab's internet has a part
    /// in it.
    pub(super) fn saying(&self, question: &Question) -> (Saying, bool) {
        let mut best: Option<Saying> = None;
        let mut outer = false;
        for name in question.resolver.candidates(&question.name) {
            let saying = self.answer(&name, question.kind, 0);
            let leads_out = |said: &Said| matches!(said, Said::Alias(target) if !self.is_ours(target));
            outer |= !self.is_ours(&name) && !name.ends_with(".arpa") || saying.records.iter().any(leads_out);
            let rewritten = saying.rcode == Rcode::NoError && saying.zone.is_none() && saying.ttl.is_none();
            outer |= rewritten && self.dns.external_names == ExternalNames::Rewrite;
            if saying.records.iter().any(|said| said.is(question.kind)) {
                return (saying, outer);
            }
            if best.as_ref().is_none_or(|best| best.rcode != Rcode::NoError) {
                best = Some(saying);
            }
        }
        (best.unwrap_or_else(missing), outer)
    }

    /// What must be said about one absolute name.
    fn answer(&self, name: &str, kind: RecordKind, depth: usize) -> Saying {
        let name = name.to_ascii_lowercase();
        let domain = self.lab.cluster.domain.as_str();
        let below =
            name.strip_suffix(domain).and_then(|rest| if rest.is_empty() { Some("") } else { rest.strip_suffix('.') });
        if let Some(below) = below {
            let labels: Vec<&str> = below.split('.').filter(|label| !label.is_empty()).rev().collect();
            return self.in_zone(&labels, kind, depth);
        }
        if name.ends_with(".arpa") {
            return self.pointers(&name, kind);
        }
        outer(self.lab, &name, kind)
    }

    /// The labels of a name below the cluster domain, the last one first.
    fn in_zone(&self, labels: &[&str], kind: RecordKind, depth: usize) -> Saying {
        match labels {
            [] | ["svc" | "pod"] => self.nothing(),
            ["dns-version"] => match kind {
                RecordKind::Txt => some([Said::Text(SCHEMA.to_owned())], Some(self.lasting(SCHEMA_TTL))),
                _ => self.nothing(),
            },
            ["svc", namespace, ..] | ["pod", namespace, ..] if !self.has_namespace(namespace) => self.nobody(),
            ["svc" | "pod", _] => self.nothing(),
            ["pod", namespace, address] => self.pod(namespace, address, kind),
            ["svc", namespace, service, rest @ ..] => {
                let is = |it: &&Common<Service>| it.namespace.as_str() == *namespace && it.name.as_str() == *service;
                match self.lab.services.iter().find(is) {
                    None => self.nobody(),
                    Some(service) => self.service(service, rest, kind, depth),
                }
            }
            _ => self.nobody(),
        }
    }

    fn service(&self, service: &Service, rest: &[&str], kind: RecordKind, depth: usize) -> Saying {
        if let ServiceKind::ExternalName(target) = &service.kind {
            return match rest {
                [] => self.alias(target.as_str(), kind, depth),
                _ => self.nobody(),
            };
        }
        let endpoints = self.endpoints(service);
        match (rest, service.cluster_ip) {
            ([], Some(ip)) => self.records([Said::Address(ip)], kind),
            ([], None) if endpoints.is_empty() => self.nobody(),
            ([], None) => self.records(endpoints.iter().map(|it| Said::Address(it.ip)), kind),
            ([protocol, port], cluster_ip) if protocol.starts_with('_') && port.starts_with('_') => {
                let is = |it: &ServicePort| {
                    it.name.as_ref().is_some_and(|name| format!("_{name}") == *port)
                        && format!("_{}", it.protocol.lower()) == *protocol
                };
                let name = self.name(service);
                let ways: Vec<(u16, String)> = match cluster_ip {
                    Some(_) => service.ports.iter().filter(|it| is(it)).map(|it| (it.port, name.clone())).collect(),
                    None => {
                        let through = endpoints.iter().filter(|it| it.port.is_some_and(&is));
                        through.map(|it| (it.number, format!("{}.{name}", it.host))).collect()
                    }
                };
                let weight = u16::try_from(100 / ways.len().max(1)).unwrap_or(1).max(1);
                let srv = |(port, target)| Said::Service { priority: 0, weight, port, target };
                if ways.is_empty() { self.nobody() } else { self.records(ways.into_iter().map(srv), kind) }
            }
            ([host], _) if endpoints.iter().any(|it| it.host == *host) => {
                let here = endpoints.iter().filter(|it| it.host == *host);
                self.records(here.map(|it| Said::Address(it.ip)), kind)
            }
            _ => self.nobody(),
        }
    }

    /// An ExternalName Service: its alias and what that leads to, or only the latter.
    fn alias(&self, target: &str, kind: RecordKind, depth: usize) -> Saying {
        if target.parse::<IpAddr>().is_ok() {
            return self.nobody();
        }
        let alias = Said::Alias(target.to_owned());
        let address = matches!(kind, RecordKind::A | RecordKind::Aaaa);
        match (self.dns.external_names, kind) {
            // What is asked instead is asked once, and may be an alias itself.
            (ExternalNames::Rewrite, _) if depth == 0 => {
                Saying { ttl: None, zone: None, ..self.answer(target, kind, depth + 1) }
            }
            (_, RecordKind::Cname) => some([alias], Some(self.lasting(self.dns.ttl))),
            (_, _) if !address || depth >= LONGEST_CHAIN => self.nothing(),
            (_, _) => {
                let there = self.answer(target, kind, depth + 1);
                let lost = there.records.is_empty() && self.is_ours(target) && there.rcode == Rcode::NxDomain;
                if lost { self.nothing() } else { some([alias].into_iter().chain(there.records), None) }
            }
        }
    }

    fn is_ours(&self, name: &str) -> bool {
        name.to_ascii_lowercase().ends_with(&format!(".{}", self.lab.cluster.domain))
    }

    /// The ready endpoints of a Service, port by port.
    pub(super) fn endpoints<'b>(&self, service: &'b Service) -> Vec<Endpoint<'b>>
    where
        'a: 'b,
    {
        endpoints(self.lab, service)
    }

    fn pod(&self, namespace: &str, label: &str, kind: RecordKind) -> Saying {
        let there = |pod: &&Pod| pod.namespace.as_str() == namespace && dashed(pod.ip) == label && !pod.terminating;
        let found = self.lab.pods.iter().find(there).map(|pod| pod.ip);
        let ip = match self.dns.pod_records {
            PodRecords::Disabled => None,
            PodRecords::Insecure => label.replace('-', ".").parse().ok(),
            PodRecords::Verified => found,
        };
        ip.map_or_else(|| self.nobody(), |ip| self.records([Said::Address(ip)], kind))
    }

    /// A ClusterIP is one Service; any other address is an endpoint of whichever Services have it.
    fn pointers(&self, name: &str, kind: RecordKind) -> Saying {
        let services = &self.lab.services;
        let owner = services.iter().find(|it| it.cluster_ip.is_some_and(|ip| reverse(ip) == *name));
        let names: Vec<String> = match owner {
            Some(service) => vec![self.name(service)],
            None => services
                .iter()
                .flat_map(|service| endpoints(self.lab, service).into_iter().map(move |it| (service, it)))
                .filter(|(_, endpoint)| reverse(endpoint.ip) == *name)
                .map(|(service, endpoint)| format!("{}.{}", endpoint.host, self.name(service)))
                .collect(),
        };
        match names.is_empty() {
            true => missing(),
            false => {
                let saying = self.records(names.into_iter().map(Said::Pointer), kind);
                // They are no names of the cluster domain, so CoreDNS's cache has them, and counts down.
                let counted = self.dns.engine == DnsEngine::Coredns;
                Saying { ttl: saying.ttl.filter(|_| !counted), ..saying }
            }
        }
    }

    fn has_namespace(&self, name: &str) -> bool {
        NAMESPACES.contains(&name)
            || self.lab.pods.iter().any(|pod| pod.namespace.as_str() == name)
            || self.lab.services.iter().any(|service| service.namespace.as_str() == name)
    }

    /// How long a record of the cluster lasts: CoreDNS's `cache 30` keeps no name of the cluster, and
    /// brings the times of all answers within its own limits all the same.
    fn lasting(&self, ttl: u32) -> u32 {
        match self.dns.engine {
            DnsEngine::Embedded => ttl,
            DnsEngine::Coredns => ttl.clamp(CACHED.0, CACHED.1),
        }
    }

    /// Those of the records of a name that are asked for.
    fn records(&self, all: impl IntoIterator<Item = Said>, kind: RecordKind) -> Saying {
        let found = some(all.into_iter().filter(|said| said.is(kind)), Some(self.lasting(self.dns.ttl)));
        if found.records.is_empty() { self.nothing() } else { found }
    }

    /// The name is there, and has nothing of the sort; the zone says so itself.
    fn nothing(&self) -> Saying {
        Saying { zone: Some(self.lab.cluster.domain.to_string()), ..some([], None) }
    }

    /// There is no such name, says the cluster's DNS itself.
    fn nobody(&self) -> Saying {
        Saying { zone: Some(self.lab.cluster.domain.to_string()), ..missing() }
    }
}

/// What the name server of the lab's internet says.
pub(super) fn outer(lab: &Lab, name: &str, kind: RecordKind) -> Saying {
    match lab.externals.iter().find(|external| external.name.as_str() == name) {
        None => missing(),
        Some(external) => some(external.ips.iter().map(|ip| Said::Address(*ip)).filter(|it| it.is(kind)), None),
    }
}

/// There is no such name.
fn missing() -> Saying {
    Saying { rcode: Rcode::NxDomain, ..some([], None) }
}

fn some(records: impl IntoIterator<Item = Said>, ttl: Option<u32>) -> Saying {
    let records: Vec<Said> = records.into_iter().collect();
    let mut records = in_order(&records);
    records.dedup();
    Saying { rcode: Rcode::NoError, records, ttl, zone: None, by: Vec::new() }
}

fn endpoints<'a>(lab: &Lab, service: &'a Service) -> Vec<Endpoint<'a>> {
    let selected = |pod: &&Pod| {
        let has = |(key, value)| pod.labels.get(key) == Some(value);
        let ready = service.publish_not_ready_addresses || (lab.is_ready(pod) && !pod.terminating);
        ready && !service.selector.is_empty() && pod.namespace == service.namespace && service.selector.iter().all(has)
    };
    let ports: Vec<Option<&ServicePort>> = match service.ports.is_empty() {
        true => vec![None],
        false => service.ports.iter().map(Some).collect(),
    };
    let mut endpoints = Vec::new();
    for port in ports {
        for pod in lab.pods.iter().filter(selected) {
            let number = match port {
                None => Some(0),
                Some(port) => port.target_port.resolve(pod, port.protocol),
            };
            let hostname = pod.hostname.as_ref().filter(|_| {
                let below = pod.subdomain.as_ref().is_some_and(|name| name.as_str() == service.name.as_str());
                below && service.cluster_ip.is_none()
            });
            let named = hostname.is_some();
            let host = hostname.map_or_else(|| dashed(pod.ip), ToString::to_string);
            endpoints.extend(number.map(|number| Endpoint { port, ip: pod.ip, number, host, named }));
        }
        for manual in &service.endpoints {
            let number = match port.map(|port| &port.target_port) {
                None => 0,
                Some(TargetPort::Number(number)) => *number,
                Some(TargetPort::Name(_)) => continue,
            };
            endpoints.push(Endpoint { port, ip: manual.ip, number, host: dashed(manual.ip), named: false });
        }
    }
    endpoints
}

/// `10.1.2.3` as a label: `10-1-2-3`.
pub(super) fn dashed(ip: IpAddr) -> String {
    let label = ip.to_string().replace(['.', ':'], "-");
    if label.ends_with('-') { format!("{label}0") } else { label }
}
