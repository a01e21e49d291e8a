//! Cables that are pulled and plugged in again, and machines that lose their power.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use futures::future;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{runtime, sync::watch, time::timeout};

use super::{
    hop,
    netlink::Netlink,
    ports::tcp_socket,
    serve::{ServerState, Servers, key},
};
use crate::{
    error::Result,
    lab::model::{Lab, PodId},
    plan::step::Link,
};

/// Takes the near end down, by which both ends lose their carrier.
///
/// # Errors
///
/// When there is no such link.
pub async fn unplug(near: &Link, far: &Link) -> Result<()> {
    let runtime = runtime::Handle::current();
    Netlink::open_in(&near.netns, &runtime)?.down(near.index).await?;
    // The far end hears of it in the kernel's own time, unless somebody asks.
    Netlink::open_in(&far.netns, &runtime)?.settle(far).await
}

/// Takes the near end up again. What the far end sends before it knows of its carrier would be lost, so
/// it is made to know.
///
/// # Errors
///
/// When there is no such link.
pub async fn plug(near: &Link, far: &Link) -> Result<()> {
    let runtime = runtime::Handle::current();
    let (here, there) = (Netlink::open_in(&near.netns, &runtime)?, Netlink::open_in(&far.netns, &runtime)?);
    here.up(near.index).await?;
    here.settle(near).await?;
    there.settle(far).await
}

/// The discard port, on which nobody listens as a rule: a refusal is an answer.
const DISCARD: u16 = 9;
/// So long does a kernel look for a neighbour, once a second. Who does not answer by then may have a
/// reason.
const PATIENCE: Duration = Duration::from_secs(3);

/// Has a machine talk to its neighbours, so that those who looked for it in vain know it again;
/// comes back when they do, so that nobody has to wait for the next time that a kernel looks for one.
///
/// # Errors
///
/// When there is no such machine.
pub async fn greet(netns: &str, neighbours: &[IpAddr]) -> Result<()> {
    let to: Vec<SocketAddr> = neighbours.iter().map(|ip| SocketAddr::new(*ip, DISCARD)).collect();
    let asked = to.clone();
    let open = move || asked.into_iter().map(tcp_socket).collect::<Result<Vec<_>>>();
    let sockets = hop::inside(netns, open).await?;
    // What comes of it is the neighbour's business.
    let greetings = to.into_iter().zip(sockets).map(|(to, socket)| timeout(PATIENCE, socket.connect(to)));
    future::join_all(greetings).await;
    Ok(())
}

/// Servers whose node is powered off: by pod and container, with how they are since.
pub type Parked = Vec<((String, String), ServerState)>;

impl Servers {
    /// The servers of these pods, each with its node, end on the spot, without a farewell, and are not
    /// started again.
    pub fn cut_power(&self, pods: &BTreeMap<String, String>) -> Parked {
        pods.keys().for_each(|pod| self.scopes().shut(pod));
        let mut table = self.table();
        let mine: Vec<(String, String)> = table.keys().filter(|(pod, _)| pods.contains_key(pod)).cloned().collect();
        let states = mine.into_iter().filter_map(|key| table.remove(&key).map(|state| (key, state.borrow().clone())));
        let cut = states.map(|(key, state)| {
            if let Some(pid) = state.pid() {
                // That it has ended already is fine; what else runs there ends with its namespace.
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            let node = pods.get(&key.0).cloned().unwrap_or_default();
            (key, ServerState::Off { node, restarts: state.restarts() })
        });
        cut.collect()
    }

    /// The servers whose node is powered off.
    pub fn parked(&self) -> Parked {
        let off = self.states().into_iter().filter(|(_, state)| matches!(state, ServerState::Off { .. }));
        off.collect()
    }

    /// Remembers servers whose node is powered off.
    pub fn park(&self, parked: Parked) {
        self.table().extend(parked.into_iter().map(|(key, state)| (key, watch::channel(state).1)));
    }

    /// How often a server that is about to start was started again already: once more if its node lost
    /// its power meanwhile. On another node it is another one.
    pub(super) fn restarts_so_far(&self, lab: &Lab, pod: PodId, container: usize) -> u32 {
        let state = self.table().get(&key(lab, pod, container)).map(|state| state.borrow().clone());
        match state {
            Some(ServerState::Off { node, restarts }) if node == lab.node(lab.pod(pod).node).name.as_str() => {
                restarts + 1
            }
            _ => 0,
        }
    }
}
