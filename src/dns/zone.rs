//! The names of the cluster and what each says, ready to be looked up.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use hickory_proto::rr::{
    Name, RData, Record, RecordType,
    rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT},
};

use super::records::{self, Data, names_without_records, namespaces, of_some, records};
use crate::{
    lab::{
        Turn,
        model::{Dns, Lab, PodRecords},
    },
    proxy::endpoints::Conditions,
};

/// What is known of a lab's names. Comparing names does not look at case.
#[derive(Debug, Clone)]
pub(super) struct Zone {
    domain: Name,
    reverse: [Name; 2],
    /// Whose names are made from the addresses in them.
    pods: BTreeSet<Name>,
    names: Arc<BTreeMap<Name, Vec<Entry>>>,
    /// What has changed of them since; `None` for a name that is no more.
    fresh: BTreeMap<Name, Option<Vec<Entry>>>,
    server: Option<Name>,
    ttl: u32,
}

/// What a record says, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    ttl: u32,
    data: RData,
}

/// Who has the say over a name.
#[derive(Debug, Clone, Copy)]
pub(super) enum Realm<'a> {
    /// The cluster, and nobody else: its domain.
    Cluster(&'a Name),
    /// The cluster for the addresses that it has, others for all others.
    Reverse(&'a Name),
    /// Others.
    Elsewhere,
}

/// What there is under a name.
#[derive(Debug)]
pub(super) enum Found<'a> {
    /// Records; there may be none.
    Records(&'a [Entry]),
    /// The address in the name itself.
    Made(IpAddr),
    /// No such name.
    Nothing,
}

/// With more names that have changed, it is made anew.
const MOST_FRESH: usize = 4096;
/// The time to live of an SOA record is no larger.
const LONGEST_SOA: u32 = 300;

impl Zone {
    /// The names of a lab that has DNS.
    pub(super) fn new(lab: &Lab, dns: &Dns, conditions: &Conditions) -> Self {
        let mut names: BTreeMap<Name, Vec<Entry>> = BTreeMap::new();
        // A name that is too long to be asked for is left out.
        for name in names_without_records(lab).iter().filter_map(|name| absolute(name)) {
            names.insert(name, Vec::new());
        }
        for (name, entry) in entries(records(lab, conditions)) {
            names.entry(name).or_default().push(entry);
        }
        let domain = &lab.cluster.domain;
        let pods = match dns.pod_records {
            PodRecords::Insecure => namespaces(lab)
                .into_iter()
                .filter_map(|namespace| absolute(&format!("{namespace}.pod.{domain}")))
                .collect(),
            PodRecords::Disabled | PodRecords::Verified => BTreeSet::new(),
        };
        let service = lab.service(dns.service);
        Zone {
            domain: absolute(domain.as_str()).unwrap_or_default(),
            reverse: ["in-addr.arpa", "ip6.arpa"].map(|name| absolute(name).unwrap_or_default()),
            pods,
            names: Arc::new(names),
            fresh: BTreeMap::new(),
            server: absolute(&format!("{}.{}.svc.{domain}", service.name, service.namespace)),
            ttl: dns.ttl,
        }
    }

    /// The same, where a lab has become another one that differs in few Services; `None` if more than
    /// their own names changes with them.
    pub(super) fn after(&self, old: &Lab, new: &Lab) -> Option<Self> {
        let turn = Turn::between(old, new)?;
        let (was, is) = (&old.services[turn.old.clone()], &new.services[turn.new.clone()]);
        // A namespace has names of its own.
        let known = namespaces(new);
        let before = namespaces(old);
        let same = was.iter().all(|it| known.contains(it.namespace.as_str()))
            && is.iter().all(|it| before.contains(it.namespace.as_str()));
        if !same || self.fresh.len() > MOST_FRESH {
            return None;
        }
        let mut zone = self.clone();
        for (name, entry) in entries(of_some(old, turn.old)) {
            let mut entries = zone.entries(&name)?.to_vec();
            let at = entries.iter().position(|it| *it == entry)?;
            entries.remove(at);
            zone.fresh.insert(name, Some(entries).filter(|entries| !entries.is_empty()));
        }
        // A ClusterIP has the name of its Service and no other.
        let is_free = |ip| reverse_name(ip).is_some_and(|name| zone.entries(&name).is_none());
        if !is.iter().filter_map(|service| service.cluster_ip).all(is_free) {
            return None;
        }
        for (name, entry) in entries(of_some(new, turn.new)) {
            let mut entries = zone.entries(&name).map(<[Entry]>::to_vec).unwrap_or_default();
            entries.push(entry);
            zone.fresh.insert(name, Some(entries));
        }
        Some(zone)
    }

    /// Everything that is known, in no order that matters.
    #[cfg(test)]
    pub(super) fn all(&self) -> BTreeMap<String, Vec<String>> {
        let names = self.names.keys().chain(self.fresh.keys());
        let known = names.filter_map(|name| {
            let mut entries: Vec<String> = self.entries(name)?.iter().map(|entry| format!("{entry:?}")).collect();
            entries.sort();
            Some((name.to_string(), entries))
        });
        known.collect()
    }

    /// What is known of a name.
    fn entries(&self, name: &Name) -> Option<&[Entry]> {
        match self.fresh.get(name) {
            Some(fresh) => fresh.as_deref(),
            None => self.names.get(name).map(Vec::as_slice),
        }
    }

    /// Who answers for a name.
    pub(super) fn realm(&self, name: &Name) -> Realm<'_> {
        if self.domain.zone_of(name) {
            return Realm::Cluster(&self.domain);
        }
        self.reverse.iter().find(|zone| zone.zone_of(name)).map_or(Realm::Elsewhere, Realm::Reverse)
    }

    /// Looks a name up, whatever its type.
    pub(super) fn find(&self, name: &Name) -> Found<'_> {
        match self.entries(name) {
            Some(records) => Found::Records(records),
            None => self.made(name).map_or(Found::Nothing, Found::Made),
        }
    }

    /// The name that this one only stands for.
    pub(super) fn alias(&self, name: &Name) -> Option<&Name> {
        self.entries(name)?.iter().find_map(|entry| match &entry.data {
            RData::CNAME(target) => Some(&target.0),
            _ => None,
        })
    }

    /// The records of one type under a name, which they bear as it was asked.
    pub(super) fn of_type(&self, name: &Name, found: &Found<'_>, kind: RecordType) -> Vec<Record> {
        match found {
            Found::Records(records) => {
                let of_type = records.iter().filter(|entry| entry.data.record_type() == kind);
                of_type.map(|it| Record::from_rdata(name.clone(), it.ttl, it.data.clone())).collect()
            }
            Found::Made(ip) => {
                let data = address(*ip);
                if data.record_type() == kind { vec![self.record(name.clone(), data)] } else { Vec::new() }
            }
            Found::Nothing => Vec::new(),
        }
    }

    /// An alias under a name.
    pub(super) fn cname(&self, name: Name, target: Name) -> Record {
        self.record(name, RData::CNAME(CNAME(target)))
    }

    fn record(&self, name: Name, data: RData) -> Record {
        Record::from_rdata(name, self.ttl, data)
    }

    /// The start of authority of a realm, as CoreDNS makes it up.
    pub(super) fn soa(&self, zone: &Name) -> Vec<Record> {
        let below = |label: &str| Name::from_ascii(label).and_then(|name| name.append_domain(zone)).ok();
        let (Some(server), Some(person)) = (below("ns.dns"), below("hostmaster")) else { return Vec::new() };
        let soa = SOA::new(server, person, SERIAL, 7200, 1800, 86400, self.ttl);
        vec![Record::from_rdata(zone.clone(), self.ttl.min(LONGEST_SOA), RData::SOA(soa))]
    }

    /// The name server of a realm: the Service that is asked.
    pub(super) fn ns(&self, zone: &Name) -> Vec<Record> {
        let server = self.server.iter().map(|server| RData::NS(NS(server.clone())));
        server.map(|data| self.record(zone.clone(), data)).collect()
    }

    /// The addresses of the machines that records name, each once.
    pub(super) fn addresses_behind(&self, records: &[Record]) -> Vec<Record> {
        let mut targets: Vec<&Name> = records
            .iter()
            .filter_map(|record| match &record.data {
                RData::SRV(service) => Some(&service.target),
                RData::NS(server) => Some(&server.0),
                _ => None,
            })
            .collect();
        targets.sort_unstable();
        targets.dedup();
        let both = |name: &Name| {
            let found = self.find(name);
            [RecordType::A, RecordType::AAAA].map(|kind| self.of_type(name, &found, kind)).concat()
        };
        targets.into_iter().flat_map(both).collect()
    }

    /// The address in a name such as `10-0-0-5.default.pod.cluster.local`.
    fn made(&self, name: &Name) -> Option<IpAddr> {
        let namespace = name.base_name();
        if !self.pods.contains(&namespace) {
            return None;
        }
        let label = std::str::from_utf8(name.iter().next()?).ok()?;
        let four = label.split('-').count() == 4 && !label.contains("--");
        match four {
            true => label.replace('-', ".").parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            // An IPv4 address in IPv6's clothes is an IPv4 address.
            false => label.replace('-', ":").parse::<Ipv6Addr>().ok().map(|ip| ip.to_canonical()),
        }
    }
}

/// The serial number of the zone: nobody transfers it, so nobody compares it.
const SERIAL: u32 = 1;

/// Records as they are kept, with their names.
fn entries(records: Vec<records::Record>) -> impl Iterator<Item = (Name, Entry)> {
    records.into_iter().filter_map(|record| {
        let (name, data) = (absolute(&record.name)?, data(&record.data)?);
        Some((name, Entry { ttl: record.ttl, data }))
    })
}

/// A name out of a text without a dot at its end.
pub(super) fn absolute(text: &str) -> Option<Name> {
    Name::from_ascii(format!("{text}.")).ok()
}

fn data(data: &Data) -> Option<RData> {
    Some(match data {
        Data::Address(ip) => address(*ip),
        Data::Alias(target) => RData::CNAME(CNAME(absolute(target)?)),
        Data::Service { priority, weight, port, target } => {
            RData::SRV(SRV::new(*priority, *weight, *port, absolute(target)?))
        }
        Data::Pointer(target) => RData::PTR(PTR(absolute(target)?)),
        Data::Text(text) => RData::TXT(TXT::new(vec![text.clone()])),
    })
}

/// A or AAAA.
pub(super) fn address(ip: IpAddr) -> RData {
    match ip {
        IpAddr::V4(ip) => RData::A(A(ip)),
        IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
    }
}

/// The name that stands for an address.
pub(super) fn reverse_name(ip: IpAddr) -> Option<Name> {
    absolute(&records::reverse_name(ip))
}
