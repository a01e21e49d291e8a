//! A program that is started again whenever it ends, as a kubelet does with a container.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fs::OpenOptions,
    net::SocketAddr,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{
    events::Events,
    fallen::Fallen,
    process::{Processes, Spawned},
    scope::Scope,
    serve::{ServerState, describe, opened},
    verdicts::Verdicts,
    view,
};
use crate::{
    agent::protocol::View,
    error::{Context, Result},
};

/// The program, and where and how it runs.
#[derive(Debug)]
pub(super) struct Kept {
    /// What it is called in the agent's log.
    pub(super) what: String,
    /// The program.
    pub(super) program: PathBuf,
    /// Its arguments.
    pub(super) arguments: Vec<String>,
    /// Its environment, besides the agent's.
    pub(super) environment: BTreeMap<String, String>,
    /// The place that it runs in.
    pub(super) view: View,
    /// The file that gets what it prints.
    pub(super) log: PathBuf,
    /// When this ends, it is not started again.
    pub(super) scope: Scope,
    /// How others know it.
    pub(super) known: KnownAs,
}

/// How others know a program: who is told what becomes of it, and how it can be reached.
#[derive(Debug)]
pub(super) struct KnownAs {
    /// Its pod and container.
    pub(super) server: (String, String),
    /// The TCP ports on which it will listen.
    pub(super) ports: Vec<SocketAddr>,
    /// What happens in the lab.
    pub(super) events: Events,
    /// The servers that are down.
    pub(super) fallen: Fallen,
    /// What readiness probes say.
    pub(super) verdicts: Verdicts,
    /// How often it was started again already.
    pub(super) restarts: u32,
}

/// What became of a program before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Past {
    /// How often it was started again.
    pub restarts: u32,
    /// How it ended last, in words.
    pub how: Option<String>,
}

impl Kept {
    /// Starts it, and again whenever it ends, until its scope does.
    ///
    /// # Errors
    ///
    /// When it cannot be started the first time.
    pub(super) fn start(self, processes: &Processes) -> Result<watch::Receiver<ServerState>> {
        let first = self.spawn(processes)?;
        let past = Past { restarts: self.known.restarts, how: None };
        let (sender, state) = watch::channel(ServerState::Running { pid: first.pid.as_raw(), past });
        let processes = processes.clone();
        tokio::spawn(async move { self.keep(first, &sender, &processes).await });
        Ok(state)
    }

    async fn keep(self, first: Spawned, state: &watch::Sender<ServerState>, processes: &Processes) {
        let mut pauses = Pauses::default();
        let mut past = Past { restarts: self.known.restarts, how: None };
        let mut next: Result<Spawned> = Ok(first);
        loop {
            let began = Instant::now();
            let how = match next {
                Ok(Spawned { ended, .. }) => {
                    let ended = async { ended.await.map_or_else(|_| "ended".to_owned(), describe) };
                    tokio::select! {
                        how = ended => how,
                        never = self.stand_up(past.restarts) => match never {},
                    }
                }
                Err(error) => error.to_string(),
            };
            if self.scope.has_ended() {
                self.known.fallen.forget(&self.known.server);
                return said(state, ServerState::Ended { how });
            }
            self.known.verdicts.fell(&self.known.server);
            self.known.fallen.note(&self.known.server);
            let pause = pauses.after(began.elapsed());
            eprintln!("{} {how}; it starts again {}", self.what, when(pause));
            let (pod, reason) =
                (format!("pod/{}", self.known.server.0), if pause.is_zero() { "Died" } else { "BackOff" });
            self.known.events.warning(pod, reason, format!("{} {how}; it starts again {}", self.what, when(pause)));
            past.how = Some(how.clone());
            let mut hurried = self.known.fallen.hurried();
            said(state, ServerState::Waiting { until: Instant::now() + pause, past: past.clone() });
            tokio::select! {
                biased;
                () = self.scope.ended() => {
                    self.known.fallen.forget(&self.known.server);
                    return said(state, ServerState::Ended { how });
                }
                // Somebody wants it now; whoever could want it lives as long as this.
                _ = hurried.changed() => {}
                // The pause is what is wanted: a program that cannot live is not to keep the host busy.
                () = tokio::time::sleep(pause) => {}
            }
            past.restarts += 1;
            next = self.spawn(processes);
            if let Ok(Spawned { pid, .. }) = &next {
                said(state, ServerState::Running { pid: pid.as_raw(), past: past.clone() });
                let message = format!("{} was started again, restart {}", self.what, past.restarts);
                self.known.events.normal(format!("pod/{}", self.known.server.0), "Restarted", message);
            }
        }
    }

    /// Waits until it listens again, and says so; who began it waits for its end.
    async fn stand_up(&self, restarts: u32) -> Infallible {
        if restarts > 0 {
            for port in &self.known.ports {
                // A namespace that has gone takes the program with it.
                let _ = opened(&self.view.netns, port.ip(), port.port()).await;
            }
            self.known.fallen.forget(&self.known.server);
            self.known.verdicts.stands(&self.known.server);
        }
        std::future::pending().await
    }

    fn spawn(&self, processes: &Processes) -> Result<Spawned> {
        let what = || format!("cannot open {}", self.log.display());
        let out = OpenOptions::new().create(true).append(true).open(&self.log).context(what())?;
        let err = out.try_clone().context("cannot share a log")?;
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).envs(&self.environment);
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        processes.spawn(command, view::entrance(&self.view)?)
    }
}

fn said(state: &watch::Sender<ServerState>, how: ServerState) {
    // Nobody may be looking any more.
    let _ = state.send(how);
}

/// `at once`, or `in 10 s`.
pub(super) fn when(pause: Duration) -> String {
    match pause {
        Duration::ZERO => "at once".to_owned(),
        // 9.97 s to go are 10 s.
        pause => format!("in {} s", pause.as_secs_f64().ceil()),
    }
}

/// The kubelet's back-off: a program that ends is started again at once, and if it ends again, after
/// 10 s, 20 s, 40 s, up to 5 minutes. One that has run for 10 minutes begins from the beginning.
#[derive(Debug, Default)]
struct Pauses {
    next: Duration,
}

impl Pauses {
    const FIRST: Duration = Duration::from_secs(10);
    const LONGEST: Duration = Duration::from_secs(300);
    const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

    /// How long to wait after a life of this length.
    fn after(&mut self, life: Duration) -> Duration {
        if life >= Self::FORGOTTEN_AFTER {
            self.next = Duration::ZERO;
        }
        let pause = self.next;
        self.next = (pause * 2).clamp(Self::FIRST, Self::LONGEST);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_the_kubelets() {
        let mut pauses = Pauses::default();
        let short = Duration::from_secs(1);
        let seconds: Vec<u64> = (0..8).map(|_| pauses.after(short).as_secs()).collect();
        assert_eq!(seconds, [0, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(pauses.after(Duration::from_secs(600)), Duration::ZERO);
        assert_eq!(pauses.after(short), Duration::from_secs(10));
    }

    #[test]
    fn pauses_in_words() {
        assert_eq!(when(Duration::ZERO), "at once");
        assert_eq!(when(Duration::from_millis(9_970)), "in 10 s");
        assert_eq!(when(Duration::from_millis(20)), "in 1 s");
    }
}
