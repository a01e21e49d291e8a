//! Asks containers whether they are ready, as a kubelet does: from the pod's node, again and again.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use futures::{FutureExt, future::FusedFuture};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::AsyncReadExt,
    sync::{oneshot, watch},
    time::{MissedTickBehavior, timeout},
};

use super::{
    client,
    events::Events,
    hop,
    limits::room_for_services,
    ports::tcp_socket,
    process::{Processes, Spawned},
    rules,
    serve::describe,
    verdicts::{Life, Server, Thresholds, Verdicts},
    view,
};
use crate::{
    agent::protocol::View,
    dns::environment::Environment,
    error::Result,
    lab::model::{self, Handler, Lab, Place, PodId, Readiness},
    probe::order::FailureKind,
};

/// The probe of one container.
#[derive(Debug)]
pub(super) struct Prober {
    server: Server,
    readiness: Readiness,
    way: Way,
    lives: watch::Receiver<Life>,
    verdicts: Verdicts,
    events: Events,
}

/// How it asks.
#[derive(Debug)]
enum Way {
    Http { netns: String, to: SocketAddr, path: String },
    Tcp { netns: String, to: SocketAddr },
    Exec(Box<Exec>),
}

/// A command, and where it runs.
#[derive(Debug)]
struct Exec {
    command: Vec<String>,
    environment: BTreeMap<String, String>,
    view: View,
    processes: Processes,
}

/// Whom a prober tells.
#[derive(Debug)]
pub(super) struct Told {
    /// What the probes say.
    pub(super) verdicts: Verdicts,
    /// What happens in the lab.
    pub(super) events: Events,
}

impl Prober {
    /// For a container that is about to start, if it has a probe.
    ///
    /// # Errors
    ///
    /// When the files that the pod's processes see cannot be written.
    pub(super) fn of(
        lab: &Lab,
        (pod, container): (PodId, usize),
        processes: &Processes,
        Told { verdicts, events }: Told,
    ) -> Result<Option<Self>> {
        let it = lab.pod(pod);
        let Some(readiness) = it.containers[container].readiness.clone() else { return Ok(None) };
        let server = (it.full_name(), it.containers[container].name.to_string());
        let netns = lab.netns(Place::Node(it.node));
        let way = match &readiness.handler {
            Handler::HttpGet { path, port } => {
                Way::Http { netns, to: SocketAddr::new(it.ip, *port), path: path.clone() }
            }
            Handler::TcpSocket { port } => Way::Tcp { netns, to: SocketAddr::new(it.ip, *port) },
            Handler::Exec { command } => {
                let environment = match it.containers[container].server {
                    // No program of its own has told of what there is no room for.
                    model::Server::Echo => view::environment(lab, (pod, container), &events),
                    _ => Environment::of_container(lab, pod, container).within(room_for_services()).variables,
                };
                let view = view::of_pod(lab, pod)?;
                Way::Exec(Box::new(Exec { command: command.clone(), environment, view, processes: processes.clone() }))
            }
        };
        let thresholds = Thresholds { success: readiness.success_threshold, failure: readiness.failure_threshold };
        let lives = verdicts.expect(server.clone(), thresholds);
        Ok(Some(Prober { server, readiness, way, lives, verdicts, events }))
    }

    /// Asks for as long as there is the container, through all its lives.
    pub(super) async fn probe(mut self) {
        loop {
            let Ok(life) = self.lives.wait_for(|life| life.up).await.map(|life| *life) else { return };
            let mut lives = self.lives.clone();
            tokio::select! {
                () = self.through(life) => {}
                ended = lives.wait_for(|now| *now != life) => if ended.is_err() { return },
            }
        }
    }

    /// Asks for as long as it is let.
    async fn through(&self, life: Life) {
        // The pause is what the lab file asks for.
        tokio::time::sleep(self.readiness.initial_delay).await;
        let mut ticks = tokio::time::interval(self.readiness.period);
        // An answer that takes longer than a period costs the next question, as in a kubelet.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            let answer = self.way.ask(self.readiness.timeout).await;
            let worth_telling = self.verdicts.hear(&self.server, life, &answer);
            if let (Err(why), true) = (answer, worth_telling) {
                let message = format!("Readiness probe failed: {why}");
                self.events.warning(format!("pod/{}", self.server.0), "Unhealthy", message);
            }
        }
    }
}

impl Way {
    /// Asks once; if the answer is bad, says what the kubelet would.
    async fn ask(&self, limit: Duration) -> Result<(), String> {
        match self {
            Way::Http { netns, to, path } => http(netns, *to, path, limit).await,
            Way::Tcp { netns, to } => tcp(netns, *to, limit).await,
            Way::Exec(exec) => exec.run(limit).await,
        }
    }
}

async fn http(netns: &str, to: SocketAddr, path: &str, limit: Duration) -> Result<(), String> {
    let socket = hop::inside(netns, move || tcp_socket(to)).await.map_err(|error| error.to_string())?;
    let failure = match client::http(socket, to, path, limit).await.result {
        Ok(answer) if (200..400).contains(&answer.status) => return Ok(()),
        Ok(answer) => return Err(format!("HTTP probe failed with statuscode: {}", answer.status)),
        Err(failure) => failure,
    };
    let why = match failure.kind {
        FailureKind::Refused => format!("dial tcp {to}: connect: connection refused"),
        FailureKind::Timeout => "context deadline exceeded (Client.Timeout exceeded while awaiting headers)".to_owned(),
        _ => failure.text,
    };
    Err(format!("Get \"http://{to}{path}\": {why}"))
}

async fn tcp(netns: &str, to: SocketAddr, limit: Duration) -> Result<(), String> {
    let socket = hop::inside(netns, move || tcp_socket(to)).await.map_err(|error| error.to_string())?;
    match timeout(limit, socket.connect(to)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            Err(format!("dial tcp {to}: connect: connection refused"))
        }
        Ok(Err(error)) => Err(format!("dial tcp {to}: {error}")),
        Err(_) => Err(format!("dial tcp {to}: i/o timeout")),
    }
}

impl Exec {
    async fn run(&self, limit: Duration) -> Result<(), String> {
        let (program, arguments) = self.command.split_first().ok_or_else(|| "no command".to_owned())?;
        let found: PathBuf =
            rules::find(program).map_err(|_| format!("exec: {program:?}: executable file not found in $PATH"))?;
        let mut command = Command::new(found);
        command.arg0(program).args(arguments).envs(&self.environment).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let entrance = view::entrance(&self.view).map_err(|error| error.to_string())?;
        let Spawned { pid, stdout, stderr, ended, .. } =
            self.processes.spawn(command, entrance).map_err(|error| error.to_string())?;
        let mut leash = Leash { group: pid, ended };
        let (mut out, mut err) = (Words::default(), Words::default());
        let status = {
            let hear = async { tokio::join!(out.hear(stdout), err.hear(stderr)) };
            let mut hear = std::pin::pin!(hear.fuse());
            let run = async {
                tokio::select! {
                    status = &mut leash.ended => return status,
                    _ = hear.as_mut() => {}
                }
                (&mut leash.ended).await
            };
            let status = timeout(limit, run).await;
            if status.is_ok() && !hear.is_terminated() {
                // What it said last may still be in the pipes, which a child of its own may hold open.
                let _ = timeout(LAST_WORDS, hear).await;
            }
            status
        };
        match status {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(match (out.text() + &err.text()).trim() {
                "" => describe(status),
                words => words.to_owned(),
            }),
            Ok(Err(_)) => Err("nobody saw how the command ended".to_owned()),
            Err(_) => Err(format!("command {:?} timed out", self.command.join(" "))),
        }
    }
}

/// So long a command's output is waited for after its end.
const LAST_WORDS: Duration = Duration::from_millis(20);
/// So much of it is told.
const MOST_WORDS: usize = 1024;

/// What a command prints: the beginning is kept, the rest is read so that it does not wait for us.
#[derive(Debug, Default)]
struct Words(Vec<u8>);

impl Words {
    async fn hear<R: tokio::io::AsyncRead + Unpin>(&mut self, pipe: Option<R>) {
        let Some(mut pipe) = pipe else { return };
        let mut piece = [0; 512];
        while let Ok(length @ 1..) = pipe.read(&mut piece).await {
            let room = MOST_WORDS.saturating_sub(self.0.len());
            self.0.extend_from_slice(&piece[..length.min(room)]);
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

/// Holds a process group: whoever lets go of it before its leader has ended, ends it.
#[derive(Debug)]
struct Leash {
    group: Pid,
    ended: oneshot::Receiver<ExitStatus>,
}

impl Drop for Leash {
    fn drop(&mut self) {
        // Once its end was seen, the number may be another one's.
        if !self.ended.is_terminated() && self.ended.try_recv() == Err(oneshot::error::TryRecvError::Empty) {
            // That it has ended this moment is fine.
            let _ = killpg(self.group, Signal::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn words_are_kept_up_to_a_limit() {
        let mut words = Words::default();
        words.hear(Some(vec![b'x'; 5000].as_slice())).await;
        assert_eq!(words.text(), "x".repeat(MOST_WORDS));
    }
}
