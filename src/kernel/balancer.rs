//! The load balancer that is built in: asks the nodes how they are, and sets the routes of its
//! addresses accordingly.
//!
//! The kernel spreads new connections: each address has a route with one next hop for each healthy
//! node. What changes here is which nodes those are; [`Flows`] keeps the connections that there are where they
//! are.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{StreamExt, stream};
use ipnet::IpNet;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
    runtime,
    sync::{mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};

use super::{
    events::Events, flows::Flows, netlink::Netlink, netns, ports::tcp_socket, process::Processes, scope::Scope,
};
use crate::{
    error::Result,
    lab::model::Lab,
    plan::step::{Begins, Watched},
};

/// How often every node is asked.
const PERIOD: Duration = Duration::from_secs(1);
/// A node that has not answered by then has failed.
const PATIENCE: Duration = Duration::from_secs(1);
/// After so many silences in a row, or one word that it is ill, a node gets no new connections; after one
/// success it does again.
const FAILURES: u32 = 2;
/// A node that has been silent so often in a row is given up: the connections that it has go elsewhere, and are
/// told there that nobody knows them.
const GIVEN_UP: u32 = 10;
/// So many are asked at the same time.
const AT_ONCE: usize = 64;

/// The gateways that each address's route should have now.
#[derive(Debug, Clone, Default)]
pub struct Spreads(Arc<Mutex<BTreeMap<IpNet, Vec<IpAddr>>>>);

impl Spreads {
    /// Those of an address; `None` if nobody watches it.
    pub fn of(&self, to: IpNet) -> Option<Vec<IpAddr>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&to).cloned()
    }

    fn forget(&self, to: IpNet) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&to);
    }

    fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn set(&self, to: IpNet, gateways: Vec<IpAddr>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(to, gateways);
    }
}

/// What is watched.
#[derive(Debug, Clone, Default)]
pub(super) struct Watching {
    watched: Vec<Watched>,
    names: BTreeMap<IpAddr, String>,
}

impl Watching {
    /// These addresses, over the nodes of a lab.
    pub(super) fn of(lab: &Lab, watched: Vec<Watched>) -> Self {
        Watching { watched, names: lab.nodes.iter().map(|node| (node.ip, node.name.to_string())).collect() }
    }
}

/// Who can tell what is watched what else to watch.
#[derive(Debug, Clone)]
pub(super) struct Watcher(mpsc::Sender<News>);

/// What to watch from now on, and who wants to know when the routes lead accordingly.
type News = (Watching, oneshot::Sender<Result<()>>);

impl Watcher {
    /// Watches something else, and comes back when connections go where they shall: to no node that is
    /// not among it any more.
    ///
    /// # Errors
    ///
    /// When the kernel refuses a route.
    pub(super) async fn follow(&self, watching: Watching) -> Result<()> {
        let (done, heard) = oneshot::channel();
        // One whose namespace has gone has nothing to watch.
        if self.0.send((watching, done)).await.is_err() {
            return Ok(());
        }
        heard.await.unwrap_or(Ok(()))
    }
}

/// Begins to watch, until the scope ends; what is watched may change meanwhile.
///
/// # Errors
///
/// When the load balancer's namespace cannot be entered.
pub(super) fn watch(
    netns: &str,
    watching: Watching,
    (spreads, events): (Spreads, Events),
    processes: &Processes,
    scope: &Scope,
) -> Result<Watcher> {
    let netlink = Netlink::open_in(netns, &runtime::Handle::current())?;
    let (sender, news) = mpsc::channel(1);
    // What another one has set went with its namespace.
    spreads.clear();
    let nothing = Watching { names: BTreeMap::new(), watched: Vec::new() };
    let mut watch = Watch {
        netns: netns.to_owned(),
        netlink,
        flows: Flows::new(netns, processes),
        problem: None,
        watching: nothing,
        pulses: BTreeMap::new(),
        spreads,
        events,
        news,
    };
    watch.turn_to(watching);
    scope.spawn(async move { watch.forever().await });
    Ok(Watcher(sender))
}

struct Watch {
    netns: String,
    netlink: Netlink,
    flows: Flows,
    /// Why connections cannot be kept where they are.
    problem: Option<String>,
    watching: Watching,
    /// By node and port of the check.
    pulses: BTreeMap<(IpAddr, u16), Pulse>,
    spreads: Spreads,
    events: Events,
    news: mpsc::Receiver<News>,
}

/// What a node said, or how it said nothing.
type Answer = (SocketAddr, Result<(), Ill>);

/// Why a node does not pass a check.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Ill {
    /// It says so itself.
    Says(String),
    /// It is not heard: that may be chance.
    Silent(String),
}

/// How a check of a node went lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pulse {
    healthy: bool,
    failures: u32,
}

impl Watch {
    async fn forever(&mut self) {
        self.keep_flows().await;
        // Not a wait for something to happen that could be heard of: a health check is periodic.
        let mut clock = interval_at(Instant::now() + PERIOD, PERIOD);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let goes_on = tokio::select! {
                _ = clock.tick() => true,
                news = self.news.recv() => self.heed(news).await,
            };
            if !goes_on {
                return;
            }
            match self.ask_all() {
                Ok(asking) => {
                    let mut asking = std::pin::pin!(asking);
                    // A node that is silent takes its time; news do not wait for it.
                    let answers = loop {
                        tokio::select! {
                            answers = &mut asking => break answers,
                            news = self.news.recv() => if !self.heed(news).await { return },
                        }
                    };
                    self.take_in(answers);
                }
                Err(error) => eprintln!("{}: {error}", self.netns),
            }
            if let Err(error) = self.set_routes().await {
                eprintln!("{}: {error}", self.netns);
            }
            self.keep_flows().await;
        }
    }

    /// Does what it is told; says whether anybody is left who could tell it more.
    async fn heed(&mut self, news: Option<News>) -> bool {
        let Some((watching, done)) = news else { return false };
        self.turn_to(watching);
        self.keep_flows().await;
        // Who told may have gone.
        let _ = done.send(self.set_routes().await);
        true
    }

    /// Watches what it is told to. A check that is new begins as the plan expects it.
    fn turn_to(&mut self, next: Watching) {
        let gone = self.watching.watched.iter().filter(|old| !next.watched.iter().any(|new| new.to == old.to));
        gone.for_each(|old| self.spreads.forget(old.to));
        let mut pulses: BTreeMap<(IpAddr, u16), Pulse> = BTreeMap::new();
        for address in &next.watched {
            for ((node, begins), check) in
                address.nodes.iter().flat_map(|node| address.checks.iter().map(move |check| (node, check)))
            {
                let key = (*node, *check);
                let pulse = pulses.entry(key).or_insert(Pulse { healthy: false, failures: FAILURES });
                match self.pulses.get(&key) {
                    _ if *begins == Begins::Off => pulse.failures = GIVEN_UP,
                    Some(known) => *pulse = *known,
                    None if *begins == Begins::Healthy => *pulse = Pulse { healthy: true, failures: 0 },
                    None => {}
                }
            }
            if self.spreads.of(address.to).is_none() {
                self.spreads.set(address.to, address.beginning());
            }
        }
        self.pulses = pulses;
        self.watching = next;
    }

    /// Asks every node once.
    fn ask_all(&self) -> Result<impl Future<Output = Vec<Answer>> + use<>> {
        let asked: Vec<SocketAddr> = self.pulses.keys().map(|(node, port)| SocketAddr::new(*node, *port)).collect();
        // One visit to the namespace for all of them.
        let sockets: Vec<TcpSocket> =
            netns::inside(&self.netns, || asked.iter().map(|node| tcp_socket(*node)).collect())?;
        let asking = asked.into_iter().zip(sockets).map(|(node, socket)| async move {
            let answer = timeout(PATIENCE, ask(socket, node)).await;
            (node, answer.unwrap_or_else(|_| Err(Ill::Silent("no answer".to_owned()))))
        });
        Ok(stream::iter(asking).buffer_unordered(AT_ONCE).collect())
    }

    fn take_in(&mut self, answers: Vec<Answer>) {
        for (node, answer) in answers {
            let Some(pulse) = self.pulses.get_mut(&(node.ip(), node.port())) else { continue };
            if pulse.beat(answer.as_ref().copied()) {
                let name = self.watching.names.get(&node.ip()).cloned().unwrap_or_default();
                let object = format!("loadbalancer/{}", self.netns);
                let answer = answer.map_err(|(Ill::Says(how) | Ill::Silent(how))| how);
                match &answer {
                    Ok(()) => self.events.normal(object, "Healthy", format!("the health check of {name} passes again")),
                    Err(how) => self.events.warning(object, "Unhealthy", format!("the health check of {name}: {how}")),
                }
                let how = answer.err().unwrap_or_else(|| "passes again".to_owned());
                eprintln!("{}: the health check {node} of {name}: {how}", self.netns);
            }
        }
    }

    /// Connections stay with the nodes that they are with, while there is hope for these.
    async fn keep_flows(&mut self) {
        let Watch { flows, netlink, watching, pulses, .. } = self;
        let given_up = |node: IpAddr| pulses.iter().any(|((ip, _), pulse)| *ip == node && pulse.is_given_up());
        let kept = flows.stay_with(netlink, &watching.watched, |node| !given_up(node)).await;
        // It is tried again every time; what is wrong is told once.
        let problem = kept.err().map(|error| error.to_string());
        if let Some(error) = problem.as_ref().filter(|_| problem != self.problem) {
            let message = format!("a connection may break when the nodes that are healthy become others: {error}");
            self.events.warning(format!("loadbalancer/{}", self.netns), "NotKept", message);
        }
        self.problem = problem;
    }

    async fn set_routes(&self) -> Result<()> {
        for address in &self.watching.watched {
            let healthy = address.healthy(&self.pulses);
            if self.spreads.of(address.to).as_ref() == Some(&healthy) {
                continue;
            }
            self.netlink.spread(&address.link, address.to, &healthy).await?;
            let names: Vec<&str> =
                healthy.iter().filter_map(|ip| self.watching.names.get(ip)).map(String::as_str).collect();
            let to = if names.is_empty() { "no node".to_owned() } else { names.join(", ") };
            eprintln!("{}: connections to {} go to {to} now", self.netns, address.to.addr());
            let message = format!("connections to {} go to {to}", address.to.addr());
            self.events.normal(format!("loadbalancer/{}", self.netns), "Balanced", message);
            self.spreads.set(address.to, healthy);
        }
        Ok(())
    }
}

impl Watched {
    /// The nodes that are healthy when the lab begins.
    fn beginning(&self) -> Vec<IpAddr> {
        self.nodes.iter().filter(|(_, begins)| *begins == Begins::Healthy).map(|(node, _)| *node).collect()
    }

    /// The nodes that pass all checks.
    fn healthy(&self, pulses: &BTreeMap<(IpAddr, u16), Pulse>) -> Vec<IpAddr> {
        let passes = |node: IpAddr, check: &u16| pulses.get(&(node, *check)).is_some_and(|pulse| pulse.healthy);
        let nodes = self.nodes.iter().map(|(node, _)| *node);
        nodes.filter(|node| self.checks.iter().all(|check| passes(*node, check))).collect()
    }
}

impl Pulse {
    /// Takes a result in; says whether that changes anything. A node that says itself that it has no
    /// endpoint is believed at once.
    fn beat(&mut self, answer: Result<(), &Ill>) -> bool {
        let before = self.healthy;
        self.failures = match answer {
            Ok(()) => 0,
            Err(Ill::Silent(_)) => self.failures.saturating_add(1),
            Err(Ill::Says(_)) => FAILURES,
        };
        self.healthy = answer.is_ok() || (before && self.failures < FAILURES);
        self.healthy != before
    }

    /// What it had is lost.
    fn is_given_up(self) -> bool {
        self.failures >= GIVEN_UP
    }
}

/// Asks a node how it is. What matters of the answer is its status.
async fn ask(socket: TcpSocket, node: SocketAddr) -> Result<(), Ill> {
    let words = |error: std::io::Error| Ill::Silent(error.to_string());
    let mut stream = socket.connect(node).await.map_err(words)?;
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {node}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(words)?;
    let mut status = [0; "HTTP/1.1 200".len()];
    stream.read_exact(&mut status).await.map_err(words)?;
    match &status {
        b"HTTP/1.1 200" | b"HTTP/1.0 200" => Ok(()),
        other => Err(Ill::Says(String::from_utf8_lossy(other).into_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_silences_or_one_word_take_a_node_out_and_one_success_brings_it_back() {
        let (silent, ill) = (Ill::Silent("no answer".to_owned()), Ill::Says("HTTP/1.1 503".to_owned()));
        let mut pulse = Pulse { healthy: true, failures: 0 };
        assert!(pulse.beat(Err(&ill)) && !pulse.healthy);
        assert!(pulse.beat(Ok(())) && pulse.healthy);
        let beats = [false, true, false, false, false, true, false].map(|passed| {
            let changed = pulse.beat(if passed { Ok(()) } else { Err(&silent) });
            (pulse.healthy, changed)
        });
        let (same, out, back) = ((true, false), (false, true), (true, true));
        assert_eq!(beats, [same, same, same, out, (false, false), back, same]);
    }
}
