//! `netlab get conntrack`: the connections that the nodes know, as `conntrack -L` has them.

use std::net::SocketAddr;

use serde::Serialize;

use super::{args::ListFormat, output::Listing};
use crate::{
    agent::{
        directory::Directory,
        link,
        protocol::{NodeConnections, Reply, Request},
    },
    error::{Error, Result},
    proxy::flow::{Connection, Way},
};

/// A connection, as it is listed.
#[derive(Debug, Serialize)]
struct Row {
    node: String,
    protocol: String,
    state: &'static str,
    original: Direction,
    reply: Direction,
    answered: bool,
    assured: bool,
    expires: Option<u32>,
}

/// One direction: what has no ports is an address only.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Direction {
    from: String,
    to: String,
}

pub(super) fn list(directory: &Directory, node: Option<&str>, format: ListFormat) -> Result<()> {
    let request = Request::Conntrack { node: node.map(ToOwned::to_owned) };
    let Reply::Conntrack(known) = link::ask_once(directory, &request)? else {
        return Err(Error::bug("connections were asked for, and something else was given"));
    };
    let rows: Vec<Row> = known.into_iter().flat_map(rows).collect();
    let listing = Listing {
        kind: "conntrack",
        header: &["NODE", "PROTO", "STATE", "SOURCE", "DESTINATION", "GOES-TO", "SEEN-FROM", "EXPIRES"],
        wide: &["ANSWERED", "ASSURED"],
    };
    listing.print(format, &rows, |row| {
        let Row { node, protocol, state, original, reply, .. } = row;
        let expires = row.expires.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds}s"));
        let yes = |it: bool| if it { "yes" } else { "no" }.to_owned();
        let ends = [&original.from, &original.to, &reply.from, &reply.to].map(Clone::clone);
        let [source, destination, goes_to, seen_from] = ends;
        let (node, protocol, state) = (node.clone(), protocol.clone(), (*state).to_owned());
        let (answered, assured) = (yes(row.answered), yes(row.assured));
        vec![node, protocol, state, source, destination, goes_to, seen_from, expires, answered, assured]
    })
}

/// A node's connections, those of one Service together.
fn rows(known: NodeConnections) -> impl Iterator<Item = Row> {
    let NodeConnections { node, mut connections } = known;
    connections.sort_by_key(|connection| {
        let flow = connection.flow;
        (flow.transport, flow.original.to, flow.original.from, flow.reply)
    });
    connections.into_iter().map(move |connection| row(node.clone(), &connection))
}

fn row(node: String, connection: &Connection) -> Row {
    Row {
        node,
        protocol: connection.flow.transport.to_string(),
        state: connection.state(),
        original: direction(connection.flow.original),
        reply: direction(connection.flow.reply),
        answered: connection.answered,
        assured: connection.assured,
        expires: connection.expires,
    }
}

fn direction(way: Way) -> Direction {
    let text = |end: SocketAddr| match end.port() {
        0 => end.ip().to_string(),
        _ => end.to_string(),
    };
    Direction { from: text(way.from), to: text(way.to) }
}
