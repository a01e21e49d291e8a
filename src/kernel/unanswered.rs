//! Takes back what probes that nobody answered leave in the nodes' conntrack.
//!
//! The kernel keeps a TCP connection of which only the first packet is known for two minutes, and
//! one of UDP for half a minute. Meanwhile its source port comes up again: Linux hands ports out
//! nearly in sequence, and a distribution test alone uses hundreds from one place to one address.
//! That connection would be no new one: it would go where the rules sent the one before, even
//! though they have been mended since.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
};

use tokio::runtime;

use super::{
    conntrack::{Conntrack, Which},
    hop,
};
use crate::{
    error::{Context, Result},
    probe::order::{FailureKind, Order, Outcome},
    proxy::flow::{Flow, Transport, Way},
};

/// The orders of which some try may have been left without an answer, by their ids.
#[derive(Debug)]
pub struct Unanswered(BTreeMap<usize, Asked>);

#[derive(Debug)]
struct Asked {
    netns: String,
    transport: Transport,
    to: SocketAddr,
}

impl Unanswered {
    /// Nothing has been heard of any yet.
    pub fn all(orders: &[Order]) -> Self {
        let asked = orders.iter().filter_map(|order| {
            let (transport, to) = order.what.target()?;
            Some((order.id, Asked { netns: order.netns.clone(), transport, to }))
        });
        Unanswered(asked.collect())
    }

    /// One is done.
    pub fn hear(&mut self, outcome: &Outcome) {
        let silent = |failure: &FailureKind| *failure == FailureKind::Timeout;
        if !outcome.all().any(|it| it.result.as_ref().is_err_and(|failure| silent(&failure.kind))) {
            self.0.remove(&outcome.id);
        }
    }

    /// Deletes the connections of these orders that nothing has come back for, on the nodes, and
    /// tells how many there were. Nobody waits for them any more.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub async fn forget(self, nodes: impl IntoIterator<Item = String>) -> Result<usize> {
        let mut asked: BTreeSet<Tuple> = BTreeSet::new();
        for Asked { netns, transport, to } in self.0.into_values() {
            // Where there is no way, nothing has gone.
            asked.extend(source(&netns, to).await.ok().map(|from| (transport, from, to)));
        }
        let mut deleted = 0;
        if asked.is_empty() {
            return Ok(deleted);
        }
        let (mut tables, mut known) = (Vec::new(), Vec::new());
        for node in nodes {
            let runtime = runtime::Handle::current();
            let table = hop::inside(&node, move || Conntrack::open(&runtime)).await?;
            let flows = table.connections(Which::Unanswered).await?.into_iter().map(|it| it.flow);
            known.extend(flows.map(|flow| (tables.len(), flow)));
            tables.push(table);
        }
        for (table, flow) in theirs(&asked, known) {
            deleted += usize::from(tables[table].delete(&flow).await?);
        }
        Ok(deleted)
    }
}

/// What is spoken, who asks, and whom.
type Tuple = (Transport, IpAddr, SocketAddr);

/// The flows of what was asked, each with the number of its table: those that a client has begun, and what
/// they became on the next node, whose first packet was a translated one already.
fn theirs(asked: &BTreeSet<Tuple>, known: Vec<(usize, Flow)>) -> Vec<(usize, Flow)> {
    let (mut theirs, mut rest) = (Vec::new(), known);
    let mut onward: BTreeSet<(Transport, Way)> = BTreeSet::new();
    loop {
        let is_theirs = |(_, flow): &(usize, Flow)| {
            asked.contains(&(flow.transport, flow.original.from.ip(), flow.original.to))
                || onward.contains(&(flow.transport, flow.original))
        };
        let (found, other): (Vec<_>, Vec<_>) = rest.into_iter().partition(is_theirs);
        if found.is_empty() {
            return theirs;
        }
        // Who answers writes to whom it sees.
        let next = |flow: &Flow| (flow.transport, Way { from: flow.reply.to, to: flow.reply.from });
        onward.extend(found.iter().map(|(_, flow)| next(flow)));
        theirs.extend(found);
        rest = other;
    }
}

/// The address that the kernel gives to who asks; no packet is sent.
async fn source(netns: &str, to: SocketAddr) -> Result<IpAddr> {
    let any = match to {
        SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
    };
    hop::inside(netns, move || {
        let socket = UdpSocket::bind((any, 0)).context("cannot open a socket")?;
        socket.connect(to).context(format!("no way to {to}"))?;
        Ok(socket.local_addr().context("a socket without an address")?.ip())
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::order::{Answer, Failure, Try, What};

    fn order(id: usize, to: &str) -> Order {
        let what = What::Udp { to: to.parse().unwrap(), timeout_ms: 1 };
        Order { id, ..Order::new("pod".into(), what, 2) }
    }

    fn outcome(id: usize, failure: Option<FailureKind>) -> Outcome {
        let good = Ok(Answer::default());
        let last = match failure {
            Some(kind) => Err(Failure { kind, text: String::new() }),
            None => good.clone(),
        };
        Outcome::new(id, [good, last].map(|result| Try { result, micros: 0 }).into())
    }

    #[test]
    fn only_silence_leaves_something_behind() {
        let mut unanswered = Unanswered::all(&[1, 2, 3, 4].map(|id| order(id, "10.96.0.1:53")));
        unanswered.hear(&outcome(1, None));
        unanswered.hear(&outcome(2, Some(FailureKind::Refused)));
        unanswered.hear(&outcome(3, Some(FailureKind::Timeout)));
        // Nothing is heard of the fourth.
        assert_eq!(unanswered.0.keys().collect::<Vec<_>>(), [&3, &4]);
    }

    #[test]
    fn a_connection_is_followed_to_the_next_node() {
        let way = |from: &str, to: &str| Way { from: from.parse().unwrap(), to: to.parse().unwrap() };
        let flow = |original, reply| Flow { transport: Transport::Tcp, original, reply };
        // Translated on the first node, passed on by the second.
        let first = flow(way("10.0.0.9:1000", "10.96.0.1:80"), way("192.168.1.2:80", "10.0.0.1:2000"));
        let second = flow(way("10.0.0.1:2000", "192.168.1.2:80"), way("192.168.1.2:80", "10.0.0.1:2000"));
        let other = flow(way("10.0.0.1:3000", "192.168.1.2:80"), way("192.168.1.2:80", "10.0.0.1:3000"));
        let asked = [(Transport::Tcp, "10.0.0.9".parse().unwrap(), "10.96.0.1:80".parse().unwrap())].into();
        assert_eq!(theirs(&asked, vec![(1, second), (0, first), (1, other)]), [(0, first), (1, second)]);
    }
}
