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
    netns,
};
use crate::{
    error::{Context, Result},
    probe::order::{FailureKind, Order, Outcome},
    proxy::flow::Transport,
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
        if !outcome.tries.iter().any(|it| it.result.as_ref().is_err_and(|failure| silent(&failure.kind))) {
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
        let asked: BTreeSet<(Transport, IpAddr, SocketAddr)> =
            self.0.values().filter_map(|asked| Some((asked.transport, source(asked).ok()?, asked.to))).collect();
        let mut deleted = 0;
        if asked.is_empty() {
            return Ok(deleted);
        }
        for node in nodes {
            let conntrack = Conntrack::open_in(&node, &runtime::Handle::current())?;
            let ours = |transport, from: SocketAddr, to| asked.contains(&(transport, from.ip(), to));
            deleted += conntrack
                .delete_if(Which::Unanswered, |it| ours(it.flow.transport, it.flow.original.from, it.flow.original.to))
                .await?;
        }
        Ok(deleted)
    }
}

/// The address that the kernel gives to who asks; no packet is sent.
fn source(asked: &Asked) -> Result<IpAddr> {
    let any = match asked.to {
        SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
    };
    netns::inside(&asked.netns, || {
        let socket = UdpSocket::bind((any, 0)).context("cannot open a socket")?;
        socket.connect(asked.to).context(format!("no way to {}", asked.to))?;
        Ok(socket.local_addr().context("a socket without an address")?.ip())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::order::{Answer, Failure, Try, What};

    fn order(id: usize, to: &str) -> Order {
        let what = What::Udp { to: to.parse().unwrap(), timeout_ms: 1 };
        Order { id, netns: "pod".into(), what, times: 2 }
    }

    fn outcome(id: usize, failure: Option<FailureKind>) -> Outcome {
        let good = Ok(Answer::default());
        let last = match failure {
            Some(kind) => Err(Failure { kind, text: String::new() }),
            None => good.clone(),
        };
        Outcome { id, tries: [good, last].map(|result| Try { result, micros: 0 }).into(), waited: None }
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
}
