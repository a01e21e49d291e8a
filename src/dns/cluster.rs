//! The cluster's DNS: from a question to the answer, or to a question for the upstream.
//!
//! It answers as CoreDNS does with kubeadm's Corefile:
//!
//! | question | answer |
//! | --- | --- |
//! | a name of the cluster domain | its records; none of that type: NODATA; no such name: NXDOMAIN |
//! | an ExternalName Service, A or AAAA | its CNAME, and what that leads to |
//! | a PTR of a ClusterIP, of an endpoint | the name |
//! | anything else | what the upstream says |
//!
//! A negative answer has the SOA record, made up for the realm it is about.

use hickory_proto::{
    op::ResponseCode,
    rr::{Name, Record, RecordType},
};

use super::{
    Reaction,
    ask::{Ask, Heard, Pending, Purpose, Rewritten},
    reply::{Answer, Reply, rename, send},
    request::{self, Transport},
    zone::{Found, Realm, Zone},
};
use crate::{
    lab::model::{ExternalNames, Lab},
    proxy::endpoints::{Conditions, conditions},
};

/// The cluster's DNS.
#[derive(Debug)]
pub struct Cluster {
    zone: Zone,
    external_names: ExternalNames,
    /// Whose names they are.
    lab: Lab,
}

/// So many aliases may come before one (CoreDNS's `maxCnameChainLength`).
const CHAIN: usize = 10;

/// What is known without asking anybody.
enum Known {
    All(Reply),
    /// The rest is known to the upstream, by this name.
    Rest(Name, Purpose),
}

impl Cluster {
    /// Of a lab whose pods are in these conditions; `None` for a lab without DNS.
    pub fn new(lab: &Lab, conditions: &Conditions) -> Option<Self> {
        let dns = lab.dns.as_ref()?;
        let zone = Zone::new(lab, dns, conditions);
        Some(Cluster { zone, external_names: dns.external_names, lab: lab.clone() })
    }

    /// The same for a lab that this one has become, whose pods are as they say themselves.
    pub fn after(&self, lab: &Lab) -> Option<Self> {
        let dns = lab.dns.as_ref()?;
        match self.zone.after(&self.lab, lab) {
            Some(zone) => Some(Cluster { zone, external_names: dns.external_names, lab: lab.clone() }),
            None => Cluster::new(lab, &conditions(lab)),
        }
    }

    /// What to do about a message. The order of addresses and the id of a question for the upstream
    /// follow from the seed.
    pub fn react(&self, bytes: &[u8], transport: Transport, seed: u64) -> Reaction {
        let request = match request::read(bytes, transport) {
            Ok(request) => request,
            Err(reaction) => return reaction,
        };
        let rewritten = self.rewritten(request.query.name());
        let name = rewritten.as_ref().map_or(request.query.name(), |it| &it.asked).clone();
        match self.known(&name, request.query.query_type()) {
            Known::All(reply) => {
                let mut message = reply.message(&request);
                if let Some(Rewritten { asked, meant }) = &rewritten {
                    rename(&mut message, asked, meant);
                }
                Reaction::Answer(send(message, &request, seed))
            }
            Known::Rest(name, purpose) => Reaction::Ask(Box::new(Ask::new(request, name, purpose, rewritten, seed))),
        }
    }

    /// Answers a client once it is known what the upstream says.
    pub fn resume(&self, pending: Pending, heard: Heard) -> Answer {
        pending.resume(heard)
    }

    /// What is asked instead of an ExternalName Service, where these are rewritten: once, even if
    /// that is such a Service too.
    fn rewritten(&self, name: &Name) -> Option<Rewritten> {
        let target = match self.external_names {
            ExternalNames::Rewrite => self.zone.alias(name)?,
            ExternalNames::Cname => return None,
        };
        Some(Rewritten { asked: target.clone(), meant: name.clone() })
    }

    fn known(&self, name: &Name, kind: RecordType) -> Known {
        match self.zone.realm(name) {
            Realm::Cluster(zone) => self.in_domain(zone, name, kind),
            Realm::Reverse(zone) if zone == name => Known::All(self.apex(zone, name, kind)),
            Realm::Reverse(_) => {
                let pointers = match kind {
                    RecordType::PTR => self.zone.of_type(name, &self.zone.find(name), kind),
                    _ => Vec::new(),
                };
                match pointers.is_empty() {
                    true => Known::Rest(name.clone(), Purpose::Forward),
                    false => Known::All(Reply::of(pointers)),
                }
            }
            Realm::Elsewhere => Known::Rest(name.clone(), Purpose::Forward),
        }
    }

    fn in_domain(&self, zone: &Name, name: &Name, kind: RecordType) -> Known {
        if zone == name {
            return Known::All(self.apex(zone, name, kind));
        }
        let found = self.zone.find(name);
        let answers = match kind {
            _ if matches!(found, Found::Nothing) => return Known::All(self.negative(zone, ResponseCode::NXDomain)),
            RecordType::A | RecordType::AAAA if self.zone.alias(name).is_some() => return self.chase(zone, name, kind),
            kind => self.zone.of_type(name, &found, kind),
        };
        Known::All(self.positive(zone, answers))
    }

    /// A realm itself.
    fn apex(&self, zone: &Name, name: &Name, kind: RecordType) -> Reply {
        match kind {
            RecordType::SOA => Reply::of(self.zone.soa(name)),
            RecordType::NS => self.positive(zone, self.zone.ns(name)),
            _ => self.negative(zone, ResponseCode::NoError),
        }
    }

    fn positive(&self, zone: &Name, answers: Vec<Record>) -> Reply {
        if answers.is_empty() {
            return self.negative(zone, ResponseCode::NoError);
        }
        let additionals = self.zone.addresses_behind(&answers);
        Reply { additionals, ..Reply::of(answers) }
    }

    fn negative(&self, zone: &Name, code: ResponseCode) -> Reply {
        Reply { code, authorities: self.zone.soa(zone), ..Reply::of(Vec::new()) }
    }

    /// Follows aliases. A chain that does not end in an address, within the cluster, is no answer at
    /// all; one that leaves the cluster is the upstream's to end.
    fn chase(&self, zone: &Name, name: &Name, kind: RecordType) -> Known {
        let mut aliases: Vec<Record> = Vec::new();
        let mut at = name.clone();
        while let Some(target) = self.zone.alias(&at) {
            let seen = aliases.iter().any(|alias| alias.name == at);
            if *target == at || seen || aliases.len() > CHAIN {
                return Known::All(self.negative(zone, ResponseCode::NoError));
            }
            aliases.push(self.zone.cname(at, target.clone()));
            if !zone.zone_of(target) {
                return Known::Rest(target.clone(), Purpose::Chase(aliases));
            }
            at = target.clone();
        }
        let addresses = self.zone.of_type(&at, &self.zone.find(&at), kind);
        if addresses.is_empty() {
            return Known::All(self.negative(zone, ResponseCode::NoError));
        }
        Known::All(Reply::of(aliases.into_iter().chain(addresses).collect()))
    }
}
