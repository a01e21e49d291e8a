//! The name servers of a make-believe lab: the built-in ones, whose bytes go from hand to hand.

use std::net::SocketAddr;

use super::{Failure, FailureKind, failure};
use crate::{
    dns::{Cluster, Heard, Internet, Reaction, Transport as Over, resolv},
    lab::model::{Lab, Place},
    probe::question::{
        Question, Rcode, RecordKind, Resolver, Response, Said, Transport,
        wire::{self, Reading},
    },
    proxy::endpoints::conditions,
};

/// What the first name of the search list that is found is answered by.
pub(super) fn response(lab: &Lab, question: &Question) -> Response {
    let mut best: Option<Response> = None;
    for name in question.resolver.candidates(&question.name) {
        let response = about(lab, &name, question);
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

fn about(lab: &Lab, name: &str, question: &Question) -> Response {
    const ID: u16 = 7;
    let asked = wire::query(name, question.kind, ID).expect("a test asks for names");
    let internet = |bytes: &[u8], over| match Internet::new(lab).react(bytes, over, 1) {
        Reaction::Answer(answer) => answer.bytes,
        other => panic!("the name server of the lab's internet says {other:?}"),
    };
    let upstream = question.resolver.servers[0].ip() == lab.cluster.gateway;
    let answered = |over| match Cluster::new(lab, &conditions(lab)) {
        Some(cluster) if !upstream => match cluster.react(&asked, over, 1) {
            Reaction::Answer(answer) => answer.bytes,
            Reaction::Ask(ask) => {
                let heard = Heard::Answer(internet(ask.question(), over));
                cluster.resume(ask.pending, heard).bytes
            }
            Reaction::Silence => panic!("a question about {name} is met by silence"),
        },
        _ => internet(&asked, over),
    };
    let over = if question.transport == Transport::Tcp { Over::Tcp } else { Over::Udp };
    match wire::read(name, ID, &answered(over)) {
        Reading::Response(response) => response,
        Reading::Truncated => match wire::read(name, ID, &answered(Over::Tcp)) {
            Reading::Response(response) => Response { truncated: true, ..response },
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}
