//! The name servers of a make-believe lab: they look up what is listed, and know no specification.

use std::net::SocketAddr;

use super::{Failure, FailureKind, failure};
use crate::{
    dns::{
        records::{Data, Record, names_without_records, records},
        resolv,
    },
    lab::model::{ExternalNames, Lab, Place},
    probe::question::{Found, Question, Rcode, RecordKind, Resolver, Response, Said, Transport},
    proxy::endpoints::{Condition, Conditions},
};

/// What the first name of the search list that is found is answered by.
pub(super) fn response(lab: &Lab, question: &Question) -> Response {
    let upstream = question.resolver.servers[0].ip() == lab.cluster.gateway;
    let mut best: Option<Response> = None;
    for name in question.resolver.candidates(&question.name) {
        let response = about(lab, &name, question.kind, upstream);
        if response.is_found(question.kind) {
            return response;
        }
        if best.as_ref().is_none_or(|best| best.rcode != Rcode::NoError) {
            best = Some(response);
        }
    }
    best.expect("there is always a name to ask for")
}

/// What a place's resolver is told.
pub(super) fn resolver(lab: &Lab, from: Place) -> Resolver {
    Resolver::of_file(&resolv::Resolver::of(lab, from).to_string())
}

/// The address of a machine that a resolver is asked for.
pub(super) fn address_of(lab: &Lab, resolver: &Resolver, host: &str, port: u16) -> Result<SocketAddr, Failure> {
    let (kind, transport) = (RecordKind::A, Transport::Udp);
    let question = Question { name: host.to_owned(), kind, transport, resolver: resolver.clone() };
    let answers = response(lab, &question).answers;
    let ip = answers.iter().find_map(|found| if let Said::Address(ip) = found.data { Some(ip) } else { None });
    Ok(SocketAddr::new(ip.ok_or_else(|| failure(FailureKind::Unnamed))?, port))
}

fn about(lab: &Lab, name: &str, kind: RecordKind, upstream: bool) -> Response {
    let all = if upstream { Vec::new() } else { records(lab, &conditions(lab)) };
    let domain = lab.cluster.domain.to_string();
    let mut found = Vec::new();
    let mut asked = name.to_ascii_lowercase();
    let rcode = loop {
        let here: Vec<&Record> = all.iter().filter(|record| record.name == asked).collect();
        let outer = lab.externals.iter().find(|external| external.name.as_str() == asked);
        found.extend(here.iter().map(|record| said(record)).filter(|it| it.data.is(kind)));
        found.extend(
            outer
                .iter()
                .flat_map(|external| &external.ips)
                .map(|ip| Said::Address(*ip))
                .filter_map(|data| data.is(kind).then(|| Found { name: asked.clone(), ttl: 60, data })),
        );
        let alias =
            here.iter().find_map(|record| if let Data::Alias(to) = &record.data { Some((record, to)) } else { None });
        match alias {
            Some((record, to)) if matches!(kind, RecordKind::A | RecordKind::Aaaa) => {
                found.push(said(record));
                asked = to.clone();
            }
            _ => {
                let below = format!(".{asked}");
                let is_there = !here.is_empty()
                    || outer.is_some()
                    || names_without_records(lab).contains(&asked)
                    || all.iter().any(|record| record.name.ends_with(&below))
                    || is_pod(lab, &asked)
                        .inspect(|ip| {
                            found.push(Found { name: asked.clone(), ttl: 30, data: Said::Address(*ip) });
                        })
                        .is_some();
                // A name that leads on is there, whatever it leads to.
                break if is_there || !found.is_empty() { Rcode::NoError } else { Rcode::NxDomain };
            }
        }
    };
    let rewrite = lab.dns.as_ref().is_some_and(|dns| dns.external_names == ExternalNames::Rewrite);
    if rewrite {
        found.retain(|it| it.data.is(kind));
    }
    found.iter_mut().for_each(|it| {
        if rewrite || it.name == name.to_ascii_lowercase() {
            it.name = name.to_owned()
        }
    });
    let ours = name.to_ascii_lowercase().ends_with(&domain) && !upstream && found.is_empty();
    let authority = ours.then(|| Found { name: domain, ttl: 30, data: Said::Authority(30) });
    Response {
        name: name.to_owned(),
        rcode,
        authoritative: !upstream,
        truncated: false,
        answers: found,
        authority: authority.into_iter().collect(),
    }
}

fn said(record: &Record) -> Found {
    let data = match &record.data {
        Data::Address(ip) => Said::Address(*ip),
        Data::Alias(name) => Said::Alias(name.clone()),
        Data::Service { priority, weight, port, target } => {
            Said::Service { priority: *priority, weight: *weight, port: *port, target: target.clone() }
        }
        Data::Pointer(name) => Said::Pointer(name.clone()),
        Data::Text(text) => Said::Text(text.clone()),
    };
    Found { name: record.name.clone(), ttl: record.ttl, data }
}

/// `pods insecure`: the address is in the name.
fn is_pod(lab: &Lab, name: &str) -> Option<std::net::IpAddr> {
    let rest = name.strip_suffix(&format!(".pod.{}", lab.cluster.domain))?;
    rest.split_once('.')?.0.replace('-', ".").parse().ok()
}

fn conditions(lab: &Lab) -> Conditions {
    let of = |id| {
        let pod = lab.pod(id);
        (id, Condition { ready: pod.ready, terminating: pod.terminating })
    };
    lab.pod_ids().map(of).collect()
}
