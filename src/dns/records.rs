//! From a lab to the DNS records of its cluster domain, as Kubernetes' DNS specification has them.
//!
//! What is here is what can be listed: any server of zones can serve it. What a query makes up
//! (`10-0-0-5.default.pod.cluster.local` under `pods insecure`) is not.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::IpAddr,
    ops::Range,
};

use crate::{
    lab::{
        Turn,
        model::{Dns, Lab, Pod, PodRecords, Protocol, Service, ServiceKind, ServicePort, TargetPort},
        name::Name,
    },
    proxy::endpoints::{Conditions, conditions, endpoints},
};

/// One record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    /// Its name: absolute, in lower case, without a dot at its end.
    pub name: String,
    /// Its time to live in seconds.
    pub ttl: u32,
    /// What it says.
    pub data: Data,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Data {
    /// A or AAAA.
    Address(IpAddr),
    /// CNAME.
    Alias(String),
    /// SRV.
    Service {
        /// The lower, the sooner.
        priority: u16,
        /// The higher, the more.
        weight: u16,
        /// The port.
        port: u16,
        /// The machine.
        target: String,
    },
    /// PTR.
    Pointer(String),
    /// TXT.
    Text(String),
}

/// The version of the specification of DNS in Kubernetes that the names follow.
const SCHEMA: &str = "1.1.0";
/// The time to live of that answer, as CoreDNS has it.
const SCHEMA_TTL: u32 = 28800;
/// The namespaces that every cluster has.
const NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// Whether the cluster's DNS has the same to say of both labs, by their pods' own states.
pub fn are_same(one: &Lab, other: &Lab) -> bool {
    if let Some(turn) = Turn::between(one, other) {
        let namespaces = |lab: &Lab, of: &Range<usize>| -> BTreeSet<Name> {
            lab.services[of.clone()].iter().map(|service| service.namespace.clone()).collect()
        };
        if namespaces(one, &turn.old) == namespaces(other, &turn.new) {
            return of_some(one, turn.old) == of_some(other, turn.new);
        }
    }
    let settings = |lab: &Lab| lab.dns.as_ref().map(|dns| (dns.pod_records, dns.external_names));
    let of = |lab: &Lab| (records(lab, &conditions(lab)), names_without_records(lab));
    settings(one) == settings(other) && of(one) == of(other)
}

/// All records of the cluster domain and of the addresses in it, sorted, each once; none for a lab
/// without DNS.
///
/// - A Service has its ClusterIP (a headless one: its ready endpoints), and an SRV record for each port,
///   under its own name and, for a port with a name, under `_port._protocol` below it.
/// - A ready endpoint has a name below its Service's, of whatever type that is.
/// - A ClusterIP has one pointer; an endpoint's address one for each Service with that endpoint.
/// - `ns.dns` is the name server that the SOA record names: the Service `kube-dns`.
pub fn records(lab: &Lab, conditions: &Conditions) -> Vec<Record> {
    let Some(dns) = &lab.dns else { return Vec::new() };
    let mut zone = Zone::new(lab, dns);
    zone.records.insert(Record {
        name: format!("dns-version.{}", zone.domain),
        ttl: SCHEMA_TTL,
        data: Data::Text(SCHEMA.to_owned()),
    });
    zone.add(&format!("ns.dns.{}", zone.domain), Data::Address(dns.ip));
    for service in &lab.services {
        zone.service(service, conditions);
    }
    if dns.pod_records == PodRecords::Verified {
        zone.pods(conditions);
    }
    zone.records.into_iter().collect()
}

/// The records that some Services have, by their pods' own states.
pub fn of_some(lab: &Lab, services: Range<usize>) -> Vec<Record> {
    let Some(dns) = &lab.dns else { return Vec::new() };
    let conditions = conditions(lab);
    let mut zone = Zone::new(lab, dns);
    lab.services[services].iter().for_each(|service| zone.service(service, &conditions));
    zone.records.into_iter().collect()
}

/// The names that are there and have no records: the domain itself, `svc` and `pod` in it, and the
/// Kubernetes namespaces below these.
pub fn names_without_records(lab: &Lab) -> BTreeSet<String> {
    let Some(dns) = &lab.dns else { return BTreeSet::new() };
    let domain = &lab.cluster.domain;
    let mut names = BTreeSet::from([domain.to_string(), format!("svc.{domain}"), format!("pod.{domain}")]);
    for namespace in namespaces(lab) {
        names.insert(format!("{namespace}.svc.{domain}"));
        if dns.pod_records != PodRecords::Disabled {
            names.insert(format!("{namespace}.pod.{domain}"));
        }
    }
    names
}

/// The Kubernetes namespaces: those of a lab's pods and Services, and those that every cluster has.
pub fn namespaces(lab: &Lab) -> BTreeSet<&str> {
    let pods = lab.pods.iter().map(|pod| pod.namespace.as_str());
    let services = lab.services.iter().map(|service| service.namespace.as_str());
    NAMESPACES.into_iter().chain(pods).chain(services).collect()
}

/// The name below `in-addr.arpa` or `ip6.arpa` that stands for an address.
pub fn reverse_name(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(ip) => {
            let nibbles = ip.octets().into_iter().rev().flat_map(|octet| [octet & 15, octet >> 4]);
            nibbles.map(|nibble| format!("{nibble:x}.")).collect::<String>() + "ip6.arpa"
        }
    }
}

/// An address as one label: `10.1.2.3` is `10-1-2-3`, `fd00::1` is `fd00--1`.
pub fn dashed(ip: IpAddr) -> String {
    let label = ip.to_string().replace(['.', ':'], "-");
    if label.ends_with('-') { label + "0" } else { label }
}

struct Zone<'a> {
    lab: &'a Lab,
    domain: &'a str,
    ttl: u32,
    cluster_ips: HashSet<IpAddr>,
    records: BTreeSet<Record>,
}

/// A way to a Service: one of its ports at one address.
struct Way<'a> {
    port: Option<&'a ServicePort>,
    ip: IpAddr,
    number: u16,
    /// The name of the machine there.
    target: String,
}

impl<'a> Zone<'a> {
    fn new(lab: &'a Lab, dns: &Dns) -> Self {
        let cluster_ips = lab.services.iter().filter_map(|service| service.cluster_ip).collect();
        Zone { lab, domain: lab.cluster.domain.as_str(), ttl: dns.ttl, cluster_ips, records: BTreeSet::new() }
    }
}

impl Zone<'_> {
    fn add(&mut self, name: &str, data: Data) {
        self.records.insert(Record { name: name.to_owned(), ttl: self.ttl, data });
    }

    fn service(&mut self, service: &Service, conditions: &Conditions) {
        let name = format!("{}.{}.svc.{}", service.name, service.namespace, self.domain);
        if let ServiceKind::ExternalName(target) = &service.kind {
            // An address is not a name to lead on to.
            if target.as_str().parse::<IpAddr>().is_err() {
                self.add(&name, Data::Alias(target.to_string()));
            }
            return;
        }
        let endpoints = self.endpoints(service, &name, conditions);
        let own: Vec<Way<'_>> =
            service.cluster_ip.iter().flat_map(|ip| through_cluster_ip(service, *ip, &name)).collect();
        let ways = if service.cluster_ip.is_some() { &own } else { &endpoints };
        self.at(&name, ways);
        for port in &service.ports {
            let Some(port_name) = &port.name else { continue };
            let through_it = ways.iter().filter(|way| way.port.is_some_and(|its| its.name == port.name));
            self.at(&format!("_{port_name}._{}.{name}", port.protocol.lower()), through_it);
        }
        let mut machines: BTreeMap<&str, Vec<&Way<'_>>> = BTreeMap::new();
        for way in &endpoints {
            machines.entry(&way.target).or_default().push(way);
        }
        for (target, ways) in machines {
            self.at(target, ways);
        }
        if let Some(ip) = service.cluster_ip {
            self.add(&reverse_name(ip), Data::Pointer(name));
        }
        for way in &endpoints {
            // A ClusterIP has the name of its Service and no other.
            if !self.cluster_ips.contains(&way.ip) {
                self.add(&reverse_name(way.ip), Data::Pointer(way.target.clone()));
            }
        }
    }

    /// The ways to the ready endpoints.
    fn endpoints<'a>(&self, service: &'a Service, name: &str, conditions: &Conditions) -> Vec<Way<'a>> {
        // The endpoints of a headless Service that has no ports have addresses all the same.
        let portless = ServicePort {
            name: None,
            protocol: Protocol::Tcp,
            port: 0,
            target_port: TargetPort::Number(0),
            node_port: None,
            at: service.at.clone(),
        };
        let ports: Vec<(Option<&ServicePort>, &ServicePort)> = match service.ports.as_slice() {
            [] => vec![(None, &portless)],
            ports => ports.iter().map(|port| (Some(port), port)).collect(),
        };
        let mut ways = Vec::new();
        for (port, asked) in ports {
            for endpoint in endpoints(self.lab, service, asked, conditions).into_iter().filter(|it| it.ready) {
                let pod = endpoint.pod.map(|pod| self.lab.pod(pod));
                let hostname = pod.and_then(|pod| hostname(pod, service));
                let ip = endpoint.addr.ip();
                let target = format!("{}.{name}", hostname.map_or_else(|| dashed(ip), str::to_owned));
                ways.push(Way { port, ip, number: endpoint.addr.port(), target });
            }
        }
        ways
    }

    /// What a name says that stands for these ways: the addresses, and an SRV record for each machine
    /// and port. The weights share a hundred among the ways, also where two of them are one record.
    fn at<'a>(&mut self, name: &str, ways: impl IntoIterator<Item = &'a Way<'a>>) {
        let ways: Vec<&Way<'_>> = ways.into_iter().collect();
        let weight = u16::try_from(100 / ways.len().max(1)).unwrap_or(1).max(1);
        for way in ways {
            self.add(name, Data::Address(way.ip));
            if way.port.is_some() {
                self.add(name, Data::Service { priority: 0, weight, port: way.number, target: way.target.clone() });
            }
        }
    }

    /// The pods by their addresses; one that is being deleted is none any more.
    fn pods(&mut self, conditions: &Conditions) {
        for id in self.lab.pod_ids() {
            let pod = self.lab.pod(id);
            if conditions.get(&id).is_none_or(|condition| !condition.terminating) {
                let name = format!("{}.{}.pod.{}", dashed(pod.ip), pod.namespace, self.domain);
                self.add(&name, Data::Address(pod.ip));
            }
        }
    }
}

fn through_cluster_ip<'a>(service: &'a Service, ip: IpAddr, name: &str) -> impl Iterator<Item = Way<'a>> {
    let target = name.to_owned();
    service.ports.iter().map(move |port| Way { port: Some(port), ip, number: port.port, target: target.clone() })
}

/// The hostname of an endpoint: the pod's, if it asks for a name below this Service, and this one
/// is headless and selects it.
fn hostname<'a>(pod: &'a Pod, service: &Service) -> Option<&'a str> {
    let below = pod.subdomain.as_ref().is_some_and(|subdomain| subdomain.as_str() == service.name.as_str());
    let headless = service.cluster_ip.is_none() && !service.selector.is_empty();
    pod.hostname.as_ref().filter(|_| below && headless && pod.namespace == service.namespace).map(|name| name.as_str())
}

#[cfg(test)]
mod tests;
