//! The name server of the lab's internet: it knows its machines, and that there is nothing else.

use std::collections::BTreeMap;

use hickory_proto::{
    op::ResponseCode,
    rr::{
        Name, RData, Record, RecordType,
        rdata::{PTR, SOA},
    },
};

use super::{
    Reaction,
    reply::Reply,
    request::{self, Transport},
    zone::{absolute, address, reverse_name},
};
use crate::lab::model::Lab;

/// The name server of the lab's internet.
#[derive(Debug)]
pub struct Internet {
    names: BTreeMap<Name, Vec<RData>>,
}

/// As long as many sites say, and longer than a cluster's DNS believes.
const TTL: u32 = 300;

impl Internet {
    /// It knows the names of the lab's externals and of their addresses.
    pub fn new(lab: &Lab) -> Self {
        let mut names: BTreeMap<Name, Vec<RData>> = BTreeMap::new();
        for external in &lab.externals {
            let Some(name) = absolute(external.name.as_str()) else { continue };
            for ip in &external.ips {
                names.entry(name.clone()).or_default().push(address(*ip));
                if let Some(reversed) = reverse_name(*ip) {
                    names.entry(reversed).or_default().push(RData::PTR(PTR(name.clone())));
                }
            }
        }
        // What is above a name is there too, and says nothing.
        let parents: Vec<Name> = names.keys().flat_map(|name| std::iter::successors(parent(name), parent)).collect();
        for name in parents {
            names.entry(name).or_default();
        }
        Internet { names }
    }

    /// What to do about a message; this server asks nobody.
    pub fn react(&self, bytes: &[u8], transport: Transport, seed: u64) -> Reaction {
        let request = match request::read(bytes, transport) {
            Ok(request) => request,
            Err(reaction) => return reaction,
        };
        let (name, kind) = (request.query.name(), request.query.query_type());
        let mut reply = match self.names.get(name) {
            _ if name.is_root() && kind == RecordType::SOA => Reply { answers: vec![soa()], ..Reply::default() },
            Some(all) => {
                let of_kind = all.iter().filter(|data| data.record_type() == kind);
                let answers = of_kind.map(|data| Record::from_rdata(name.clone(), TTL, data.clone())).collect();
                Reply { answers, ..Reply::default() }
            }
            None if name.is_root() => Reply::default(),
            None => Reply::new(ResponseCode::NXDomain),
        };
        if reply.answers.is_empty() {
            reply.authorities.push(soa());
        }
        let mut message = reply.message(&request);
        message.metadata.recursion_available = true;
        Reaction::Answer(super::reply::send(message, &request, seed))
    }
}

fn parent(name: &Name) -> Option<Name> {
    Some(name.base_name()).filter(|_| !name.is_root())
}

/// The start of authority of the root.
fn soa() -> Record {
    let name = |text: &str| absolute(text).unwrap_or_default();
    let (server, person) = (name("a.root-servers.net"), name("nstld.verisign-grs.com"));
    let soa = SOA::new(server, person, 1, 1800, 900, 604_800, TTL);
    Record::from_rdata(Name::root(), TTL, RData::SOA(soa))
}
