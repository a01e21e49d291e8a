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
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    http,
    serve::{tcp_listener, udp_socket},
};
use crate::{
    dns::{Answer, Ask, Cluster, Counted, Internet, Reaction, Transport},
    error::{Error, Result},
    lab::model::Lab,
    proxy::endpoints::Conditions,
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
    Cluster(Arc<Cluster>, Upstream),
    Internet(Internet),
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
pub(super) fn names(lab: &Lab) -> Result<Arc<Cluster>> {
    let cluster = Cluster::new(lab, &Conditions::new());
    cluster.map(Arc::new).ok_or_else(|| Error::bug("a pod of a DNS that the lab does not have"))
}

/// Serves the cluster's DNS in a pod, for as long as the agent lives.
///
/// # Errors
///
/// When a port is taken, or the namespace cannot be entered.
pub(super) fn serve_cluster(lab: &Lab, names: Arc<Cluster>, netns: &str) -> Result<()> {
    let servers = lab.dns.iter().flat_map(|dns| &dns.upstream).map(|ip| SocketAddr::new(*ip, PORT));
    let upstream = Upstream::new(netns, servers.collect());
    let server = Arc::new(NameServer::new(Names::Cluster(names, upstream)));
    server.listen(netns)?;
    for port in status::PORTS {
        let server = Arc::clone(&server);
        let answer = move |request: &http::Request, _: SocketAddr| status::answer(port, request.uri().path(), &server);
        tokio::spawn(http::serve(tcp_listener(netns, port)?, answer));
    }
    Ok(())
}

/// Serves the names of the lab's internet, for as long as the agent lives.
///
/// # Errors
///
/// When a port is taken, or the namespace cannot be entered.
pub(super) fn serve_internet(lab: &Lab, netns: &str) -> Result<()> {
    Arc::new(NameServer::new(Names::Internet(Internet::new(lab)))).listen(netns)
}

impl NameServer {
    fn new(names: Names) -> Self {
        NameServer { names, counts: Counts::default(), seed: Seed::by_chance() }
    }

    fn listen(self: &Arc<Self>, netns: &str) -> Result<()> {
        let (datagrams, connections) = (udp_socket(netns, PORT)?, tcp_listener(netns, PORT)?);
        udp::serve(Arc::clone(self), datagrams)?;
        tokio::spawn(tcp::serve(Arc::clone(self), connections));
        Ok(())
    }

    fn react(&self, bytes: &[u8], transport: Transport) -> Reaction {
        match &self.names {
            Names::Cluster(cluster, _) => cluster.react(bytes, transport, self.seed.next()),
            Names::Internet(internet) => internet.react(bytes, transport, self.seed.next()),
        }
    }

    /// Asks the upstream, and then knows what to answer.
    async fn ask(&self, ask: Box<Ask>) -> Option<Answer> {
        let Names::Cluster(cluster, upstream) = &self.names else { return None };
        let heard = upstream.ask(&ask).await;
        Some(cluster.resume(ask.pending, heard))
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
