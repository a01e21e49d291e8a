//! Name servers: the cluster's DNS in its pods, and that of the lab's internet on `host`.
//!
//! What is answered is [`crate::dns`]'s business; here are the sockets.
//!
//! | port of a pod | what |
//! | --- | --- |
//! | 53/UDP, 53/TCP | questions |
//! | 8080 `/health`, 8181 `/ready` | `OK` |
//! | 9153 `/metrics` | how many of them, for Prometheus |

mod status;
mod tcp;
mod udp;
mod upstream;

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    http,
    ports::{tcp_listener, udp_socket},
    scope::Pair,
};
use crate::{
    dns::{Answer, Ask, Cluster, Counted, Internet, Reaction, Transport},
    error::{Error, Result},
    lab::model::Lab,
    proxy::endpoints::conditions,
};
use upstream::Upstream;

/// Where name servers listen.
const PORT: u16 = 53;

/// One name server.
#[derive(Debug)]
struct NameServer {
    names: Names,
    counts: Counts,
    seed: Seed,
}

/// What a name server knows, and whom it asks.
#[derive(Debug)]
enum Names {
    Cluster(Known<Cluster>, Upstream),
    Internet(Known<Internet>),
}

/// What is known at present.
#[derive(Debug)]
pub(super) struct Known<T>(Arc<RwLock<Arc<T>>>);

impl<T> Clone for Known<T> {
    fn clone(&self) -> Self {
        Known(Arc::clone(&self.0))
    }
}

impl<T> Known<T> {
    /// This, until something else is.
    pub(super) fn new(known: T) -> Self {
        Known(Arc::new(RwLock::new(Arc::new(known))))
    }

    /// From now on, this.
    pub(super) fn set(&self, known: T) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(known);
    }

    pub(super) fn get(&self) -> Arc<T> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How many answers there were, by how they were asked for and what they were.
#[derive(Debug, Default)]
struct Counts(Mutex<BTreeMap<(Transport, Counted), u64>>);

/// A number for each message, each unlike the others.
#[derive(Debug)]
struct Seed(AtomicU64);

/// The names of a lab, as its pods are.
///
/// # Errors
///
/// For a lab without DNS.
pub(super) fn names(lab: &Lab) -> Result<Cluster> {
    Cluster::new(lab, &conditions(lab)).ok_or_else(|| Error::bug("a pod of a DNS that the lab does not have"))
}

/// The same, given the names before.
pub(super) fn names_after(before: &Cluster, lab: &Lab) -> Result<Cluster> {
    before.after(lab).ok_or_else(|| Error::bug("a pod of a DNS that the lab does not have"))
}

/// Serves the cluster's DNS in a pod, until that ends.
///
/// # Errors
///
/// When a port is taken, or the namespace cannot be entered.
pub(super) fn serve_cluster(lab: &Lab, names: Known<Cluster>, netns: &str, pair: &Pair) -> Result<()> {
    let servers = lab.dns.iter().flat_map(|dns| &dns.upstream).map(|ip| SocketAddr::new(*ip, PORT));
    let upstream = Upstream::new(netns, servers.collect());
    let server = Arc::new(NameServer::new(Names::Cluster(names, upstream)));
    server.listen(netns, pair)?;
    for port in status::PORTS {
        let server = Arc::clone(&server);
        let answer = move |request: &http::Request, _: SocketAddr| status::answer(port, request.uri().path(), &server);
        pair.listeners.spawn(http::serve(tcp_listener(netns, port)?, answer, pair.whole.clone()));
    }
    Ok(())
}

/// Serves the names of the lab's internet, for as long as the agent lives.
///
/// # Errors
///
/// When a port is taken, or the namespace cannot be entered.
pub(super) fn serve_internet(names: Known<Internet>, netns: &str, pair: &Pair) -> Result<()> {
    Arc::new(NameServer::new(Names::Internet(names))).listen(netns, pair)
}

impl NameServer {
    fn new(names: Names) -> Self {
        NameServer { names, counts: Counts::default(), seed: Seed::by_chance() }
    }

    fn listen(self: &Arc<Self>, netns: &str, pair: &Pair) -> Result<()> {
        let (datagrams, connections) = (udp_socket(netns, PORT)?, tcp_listener(netns, PORT)?);
        udp::serve(Arc::clone(self), datagrams, &pair.datagrams)?;
        pair.listeners.spawn(tcp::serve(Arc::clone(self), connections));
        Ok(())
    }

    fn react(&self, bytes: &[u8], transport: Transport) -> Reaction {
        match &self.names {
            Names::Cluster(cluster, _) => cluster.get().react(bytes, transport, self.seed.next()),
            Names::Internet(internet) => internet.get().react(bytes, transport, self.seed.next()),
        }
    }

    /// Asks the upstream, and then knows what to answer.
    async fn ask(&self, ask: Box<Ask>) -> Option<Answer> {
        let Names::Cluster(cluster, upstream) = &self.names else { return None };
        let heard = upstream.ask(&ask).await;
        Some(cluster.get().resume(ask.pending, heard))
    }

    /// The bytes of an answer, which is counted.
    fn count(&self, answer: Answer, transport: Transport) -> Vec<u8> {
        if let Some(counted) = answer.counted {
            *self.counts.0.lock().unwrap_or_else(PoisonError::into_inner).entry((transport, counted)).or_default() += 1;
        }
        answer.bytes
    }
}

impl Seed {
    fn by_chance() -> Self {
        Seed(AtomicU64::new(RandomState::new().hash_one(PORT)))
    }

    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}
