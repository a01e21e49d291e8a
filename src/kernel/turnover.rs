//! Servers that end, and servers that are told how the lab is now.

use std::{fs, os::unix::fs::MetadataExt, path::Path, sync::PoisonError, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{sync::watch, time::timeout};

use super::{
    balancer, dns, netns,
    serve::{ServerState, Servers, end_of, health_of},
    view,
};
use crate::{
    dns::Internet,
    error::Result,
    lab::model::Lab,
    plan::step::{Plan, Program, Step},
};

impl Servers {
    /// Ends the servers of a pod: they are asked to, and after a while made to. Comes back when they
    /// have ended.
    pub async fn end_pod(&self, pod: &str, grace: Duration) {
        // Who comes second waits: the name may be another pod's afterwards.
        let one_at_a_time = self.ending(pod);
        let _turn = one_at_a_time.lock().await;
        let mine = |(key, state): (&(String, String), &watch::Receiver<ServerState>)| {
            let runs = matches!(*state.borrow(), ServerState::Running { .. } | ServerState::Waiting { .. });
            (key.0 == pod && runs).then(|| state.clone())
        };
        let object = format!("pod/{pod}");
        if self.table().keys().any(|key| key.0 == pod) {
            let message = format!("its servers are asked to end, and made to after {} s", grace.as_secs_f64());
            self.events().normal(&object, "Killing", message);
        }
        self.scopes().shut(pod);
        let states: Vec<_> = self.table().iter().filter_map(mine).collect();
        for state in &states {
            signal(state, Signal::SIGTERM);
        }
        let polite = async {
            self.scopes().close(pod).await;
            for state in &states {
                end_of(&mut state.clone()).await;
            }
        };
        // What is built in and has no connections left, and processes that obey, end before.
        if timeout(grace, polite).await.is_err() && !grace.is_zero() {
            let message = format!("its servers did not end within {} s", grace.as_secs_f64());
            self.events().warning(&object, "Killed", message);
        }
        for state in &states {
            signal(state, Signal::SIGKILL);
            end_of(&mut state.clone()).await;
        }
        self.scopes().end(pod);
        self.table().retain(|key, _| key.0 != pod);
        self.verdicts().forget(pod);
        self.births().forget(pod);
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

    /// Tells health checks, name servers and the load balancer how the lab is now; starts and ends health checks.
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
            names.set(dns::names(lab)?);
        }
        if let Some(internet) = &*self.internet.lock().unwrap_or_else(PoisonError::into_inner) {
            internet.set(Internet::new(lab));
        }
        for step in steps() {
            if let Step::ServeBalancer { program: Program::Watch(watched), .. } = step
                && let Some(sender) = &*self.watched.lock().unwrap_or_else(PoisonError::into_inner)
            {
                sender.send_replace(balancer::Watching::of(lab, watched.clone()));
            }
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
    same_namespace(Path::new(&format!("/proc/{leader}/ns/mnt")), "mnt")
}

/// The processes whose network namespace this is.
fn processes_in(netns: &str) -> Vec<Pid> {
    same_namespace(netns::path(netns).as_ref(), "net")
}

/// The processes that are in the same namespace of a kind, but for the agent itself.
fn same_namespace(path: &Path, kind: &str) -> Vec<Pid> {
    let Ok(namespace) = fs::metadata(path) else { return Vec::new() };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let inside = |pid: &i32| {
        fs::metadata(format!("/proc/{pid}/ns/{kind}"))
            .is_ok_and(|it| it.ino() == namespace.ino() && it.dev() == namespace.dev())
    };
    pids.filter(|pid| *pid != 1).filter(inside).map(Pid::from_raw).collect()
}
