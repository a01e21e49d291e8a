//! The machine in front of the nodes: its program is started, and told how the lab is now.

use std::sync::PoisonError;

use tokio::sync::watch;

use super::{
    balancer, haproxy,
    process::Processes,
    serve::{ServerState, Servers, end_of, last_line, observe},
};
use crate::{
    error::{Error, Result},
    lab::model::Lab,
    plan::step::{Plan, Program, Step},
};

/// What HAProxy's log is called, after its machine's name.
pub const BALANCER_LOG: &str = "haproxy.log";

/// HAProxy, as it runs.
#[derive(Debug, Clone)]
pub(super) struct Haproxy {
    config: String,
    state: watch::Receiver<ServerState>,
}

impl Servers {
    /// Starts the load balancer.
    ///
    /// # Errors
    ///
    /// When HAProxy is not installed, or ends at once.
    pub async fn start_balancer(&self, lab: &Lab, netns: &str, program: &Program, processes: &Processes) -> Result<()> {
        match program {
            Program::Watch(watched) => {
                let watching = balancer::Watching::of(lab, watched.clone());
                let seen = (self.spreads.clone(), self.events.clone());
                let watcher = balancer::watch(netns, watching, seen, processes, &self.scopes().of(netns).whole)?;
                *self.watched.lock().unwrap_or_else(PoisonError::into_inner) = Some(watcher);
                Ok(())
            }
            Program::Haproxy(config) => {
                let (_, mut state) = self.start_haproxy(netns, config, (processes, None))?;
                tokio::select! {
                    () = haproxy::ready() => Ok(()),
                    how = end_of(&mut state) => Err(self.haproxy_ended(netns, &how)),
                }
            }
        }
    }

    /// Tells the load balancer how the lab is now, and comes back when it does what it shall: connections
    /// go to the nodes that there are, and to no others. HAProxy hands on to another one, if it shall do
    /// something else.
    ///
    /// # Errors
    ///
    /// When the kernel or HAProxy refuses.
    pub async fn tell_balancer(&self, lab: &Lab, plan: &Plan, processes: &Processes) -> Result<()> {
        let steps = plan.stages.iter().flat_map(|stage| &stage.steps);
        for step in steps {
            let Step::ServeBalancer { netns, program } = &step.step else { continue };
            match program {
                Program::Watch(watched) => {
                    let watcher = self.watched.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    if let Some(watcher) = watcher {
                        watcher.follow(balancer::Watching::of(lab, watched.clone())).await?;
                    }
                }
                Program::Haproxy(config) => self.hand_on(netns, config, processes).await?,
            }
        }
        Ok(())
    }

    async fn hand_on(&self, netns: &str, config: &str, processes: &Processes) -> Result<()> {
        let old = self.balancer.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(old) = old.filter(|old| old.config != config) else { return Ok(()) };
        haproxy::remember(config).await?;
        let running = old.state.borrow().pid();
        let (pid, mut state) = self.start_haproxy(netns, config, (processes, running))?;
        let taken_over = async {
            haproxy::took_over(pid).await;
            haproxy::ready().await;
        };
        tokio::select! {
            () = taken_over => {}
            how = end_of(&mut state) => {
                // The old one goes on: it ends only when another one says that it listens.
                *self.balancer.lock().unwrap_or_else(PoisonError::into_inner) = Some(old);
                return Err(self.haproxy_ended(netns, &how));
            }
        }
        self.events().normal(
            format!("loadbalancer/{netns}"),
            "Reloaded",
            "HAProxy has handed on to one that knows the change",
        );
        Ok(())
    }

    fn start_haproxy(
        &self,
        netns: &str,
        config: &str,
        how: (&Processes, Option<i32>),
    ) -> Result<(i32, watch::Receiver<ServerState>)> {
        let log = self.logs.join(format!("{netns}.{BALANCER_LOG}"));
        let spawned = haproxy::start(netns, config, &log, how)?;
        let (pid, state) = (spawned.pid.as_raw(), observe(spawned));
        let haproxy = Haproxy { config: config.to_owned(), state: state.clone() };
        *self.balancer.lock().unwrap_or_else(PoisonError::into_inner) = Some(haproxy);
        Ok((pid, state))
    }

    fn haproxy_ended(&self, netns: &str, how: &str) -> Error {
        let log = self.logs.join(format!("{netns}.{BALANCER_LOG}"));
        Error::refused(format!("haproxy {how}{}", last_line(&log)))
    }

    /// How HAProxy is, if it was started.
    pub fn balancer(&self) -> Option<ServerState> {
        let balancer = self.balancer.lock().unwrap_or_else(PoisonError::into_inner);
        balancer.as_ref().map(|haproxy| haproxy.state.borrow().clone())
    }
}
