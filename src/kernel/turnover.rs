//! Servers that end, and servers that are told how the lab is now.

use std::{fs, net::IpAddr, os::unix::fs::MetadataExt, path::Path, sync::PoisonError, time::Duration};

use futures::FutureExt;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{runtime, sync::watch, time::timeout};

use super::{
    conntrack::{Conntrack, Which},
    dns, netns,
    scope::Linger,
    serve::{ServerState, Servers, end_of, health_of},
    view,
};
use crate::{
    dns::Internet,
    error::Result,
    lab::model::{Lab, Pod},
    plan::step::{Plan, Step},
    proxy::{balancer::asks_for, flow::Transport},
};

/// For so long nobody may come to a built-in server that is to end: all who were sent to it before the
/// rules changed have come by then.
const QUIET: Duration = Duration::from_millis(250);
/// While others come, or are there, it serves them for so long: the `sleep 5` of many a preStop hook.
const MOST: Duration = Duration::from_secs(5);
/// In that time a load balancer has noticed that the health check of a node fails.
const NOTICED: Duration = Duration::from_secs(3);

/// How a pod is let go.
#[derive(Debug, Clone, Default)]
pub struct Parting {
    /// So long it has to end.
    pub grace: Duration,
    /// So long what is built in takes connections.
    pub linger: Linger,
    /// The nodes that may have sent somebody to it.
    pub nodes: Vec<String>,
    /// Its address.
    pub ip: Option<IpAddr>,
}

impl Parting {
    /// Somebody was sent to the pod, and has not come yet: a first packet that was lost, or had to wait for
    /// a neighbour, is sent again after a second, and conntrack leads it to where the first one was.
    async fn expects(self) -> bool {
        let Some(ip) = self.ip else { return false };
        for node in &self.nodes {
            // A node that has gone sends nobody.
            let Ok(conntrack) = Conntrack::open_in(node, &runtime::Handle::current()) else { continue };
            let half_open = conntrack.connections(Which::Unanswered).await.unwrap_or_default();
            if half_open.iter().any(|it| it.flow.transport == Transport::Tcp && it.flow.reply.from.ip() == ip) {
                return true;
            }
        }
        false
    }
}

/// How long the built-in servers of a pod take connections when it is to end.
pub fn linger(lab: &Lab, pod: &Pod) -> Linger {
    let least = if asks_for(lab, pod) { NOTICED } else { QUIET };
    Linger { least, quiet: QUIET, most: MOST }
}

impl Servers {
    /// Ends the servers of a pod: they are asked to, and after a while made to. Comes back when they
    /// have ended. Its datagrams are answered, where that is built in, until it is forgotten.
    pub async fn end_pod(&self, pod: &str, parting: Parting) {
        let end = self.ending().entry(pod.to_owned()).or_default().clone();
        end.get_or_init(|| self.end(pod, parting)).await;
    }

    async fn end(&self, pod: &str, parting: Parting) {
        let (grace, linger) = (parting.grace, parting.linger);
        let mine = |(key, state): (&(String, String), &watch::Receiver<ServerState>)| {
            let runs = matches!(*state.borrow(), ServerState::Running { .. } | ServerState::Waiting { .. });
            (key.0 == pod && runs).then(|| state.clone())
        };
        let object = format!("pod/{pod}");
        if self.table().keys().any(|key| key.0 == pod) {
            let message = format!("its servers are asked to end, and made to after {} s", grace.as_secs_f64());
            self.events().normal(&object, "Killing", message);
        }
        self.scopes().ask(pod);
        let states: Vec<_> = self.table().iter().filter_map(mine).collect();
        let containers: Vec<Inside> = states.iter().filter_map(|state| Inside::of(state.borrow().pid()?)).collect();
        for state in &states {
            signal(state, Signal::SIGTERM);
        }
        let polite = async {
            self.scopes().close(pod, linger, || parting.clone().expects().boxed()).await;
        };
        let polite = futures::future::join(polite, async {
            for state in &states {
                end_of(&mut state.clone()).await;
            }
        });
        // What is built in and has no connections left, and processes that obey, end before.
        if timeout(grace, polite).await.is_err() && !grace.is_zero() {
            let message = format!("its servers did not end within {} s", grace.as_secs_f64());
            self.events().warning(&object, "Killed", message);
        }
        // A container ends with its first process, whatever else runs in it.
        for pid in containers.iter().flat_map(Inside::processes) {
            // That it has ended already is fine.
            let _ = kill(pid, Signal::SIGKILL);
        }
        for state in &states {
            signal(state, Signal::SIGKILL);
            end_of(&mut state.clone()).await;
        }
    }

    /// Nothing is left of a pod but its namespace; another one may have its name.
    pub fn forget_pod(&self, pod: &str) {
        self.scopes().end(pod);
        self.table().retain(|key, _| key.0 != pod);
        self.verdicts().forget(pod);
        self.births().forget(pod);
        self.ending().remove(pod);
        view::forget(pod);
    }

    /// Kills the processes of a pod's containers, and says how many containers had one.
    pub fn kill_pod(&self, pod: &str) -> usize {
        let states: Vec<_> = self.table().iter().filter(|(key, _)| key.0 == pod).map(|(_, it)| it.clone()).collect();
        let leaders: Vec<i32> = states
            .iter()
            .filter_map(|state| match *state.borrow() {
                ServerState::Running { pid, .. } => Some(pid),
                _ => None,
            })
            .collect();
        if !leaders.is_empty() {
            self.events().warning(format!("pod/{pod}"), "Killed", "its processes are sent SIGKILL");
        }
        for leader in &leaders {
            for pid in container_of(*leader) {
                // That it has ended already is fine.
                let _ = kill(pid, Signal::SIGKILL);
            }
        }
        leaders.len()
    }

    /// Ends what the agent serves in a namespace, and every process in it, and takes the name away.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn end_place(&self, netns: &str) -> Result<()> {
        self.scopes().end(netns);
        self.healths().retain(|(place, _), _| place != netns);
        for pid in processes_in(netns) {
            // That it has ended already is fine.
            let _ = kill(pid, Signal::SIGKILL);
        }
        view::forget(netns);
        netns::remove(netns)
    }

    /// Tells health checks and name servers how the lab is now; starts and ends health checks.
    ///
    /// # Errors
    ///
    /// When the port of a new health check is taken.
    pub fn tell(&self, lab: &Lab, plan: &Plan) -> Result<()> {
        let steps = || plan.stages.iter().flat_map(|stage| &stage.steps).map(|planned| &planned.step);
        let mut wanted = Vec::new();
        for step in steps() {
            let Step::ServeHealth { netns, port, check } = step else { continue };
            let key = (netns.clone(), *port);
            let known = self.healths().get(&key).map(|health| health.send_replace(health_of(lab, *check))).is_some();
            if !known {
                self.start_health(lab, netns, *port, *check)?;
            }
            wanted.push(key);
        }
        let gone: Vec<(String, u16)> = self.healths().keys().filter(|key| !wanted.contains(key)).cloned().collect();
        for key in gone {
            // Its listener ends when its sender has gone.
            self.healths().remove(&key);
        }
        if let Some(names) = &*self.names.lock().unwrap_or_else(PoisonError::into_inner)
            && lab.dns.is_some()
        {
            names.set(dns::names_after(&names.get(), lab)?);
        }
        if let Some(internet) = &*self.internet.lock().unwrap_or_else(PoisonError::into_inner) {
            internet.set(Internet::new(lab));
        }
        Ok(())
    }
}

/// Signals the process of a server, if it is one.
fn signal(state: &watch::Receiver<ServerState>, signal: Signal) {
    if let Some(pid) = state.borrow().pid() {
        // That it has ended already is fine.
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// The processes that see the world as this one does: each container has a mount namespace of its own.
fn container_of(leader: i32) -> Vec<Pid> {
    Inside::of(leader).map(|inside| inside.processes()).unwrap_or_default()
}

/// The processes whose network namespace this is.
fn processes_in(netns: &str) -> Vec<Pid> {
    Inside::new(netns::path(netns).as_ref(), "net").map(|inside| inside.processes()).unwrap_or_default()
}

/// A namespace, for as long as some process is in it.
struct Inside {
    kind: &'static str,
    /// Device and inode.
    is: (u64, u64),
}

impl Inside {
    fn new(path: &Path, kind: &'static str) -> Option<Self> {
        let namespace = fs::metadata(path).ok()?;
        Some(Inside { kind, is: (namespace.dev(), namespace.ino()) })
    }

    /// That of a container.
    fn of(leader: i32) -> Option<Self> {
        Inside::new(Path::new(&format!("/proc/{leader}/ns/mnt")), "mnt")
    }

    /// The processes in it, but for the agent itself.
    fn processes(&self) -> Vec<Pid> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let inside = |pid: &i32| {
            fs::metadata(format!("/proc/{pid}/ns/{}", self.kind)).is_ok_and(|it| (it.dev(), it.ino()) == self.is)
        };
        pids.filter(|pid| *pid != 1).filter(inside).map(Pid::from_raw).collect()
    }
}
