//! Tries what a user's probe says, from inside a namespace; and tries it again until it is as wanted.

mod http;
mod ping;
mod run;

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

pub(super) use run::run;
use tokio::time::timeout;

use super::{
    client::{BODY_LIMIT, each_socket, failure, micros, tcp_socket, timed, udp_exchange, udp_socket},
    curl::{self, Asking},
    echo,
    events::Events,
    process::Processes,
    questions,
};
use crate::probe::{
    errand::{Destination, Errand, Target, Task},
    judge::is_as_wanted,
    order::{Answer, Failure, FailureKind, Outcome, Try, Waited},
    suite::Engine,
};

/// How much of a body, an answer or an output is kept.
pub(super) const KEPT: usize = 64 << 10;
/// After the first time, this long nothing is tried; after each further one twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// What every try needs.
#[derive(Clone, Copy)]
pub(super) struct Means<'a> {
    pub(super) asking: Asking<'a>,
    pub(super) processes: &'a Processes,
    pub(super) events: &'a Events,
}

/// Carries it out `times` times, and all of it again until it is as wanted, if that is said.
pub(super) async fn carry_out(id: usize, errand: &Errand, times: usize, means: Means<'_>) -> Outcome {
    let Some(until) = &errand.until else {
        return Outcome::new(id, round(errand, times, means).await);
    };
    let (began, within) = (Instant::now(), Duration::from_millis(until.within_ms.into()));
    let (mut rounds, mut pause) = (0, FIRST_PAUSE);
    loop {
        let seen = means.events.latest();
        let tries = round(errand, times, means).await;
        rounds += 1;
        let outcome = Outcome { waited: Some(Waited { rounds, micros: micros(began) }), ..Outcome::new(id, tries) };
        let left = within.saturating_sub(began.elapsed());
        if left.is_zero() || is_as_wanted(&until.want, &outcome) {
            return outcome;
        }
        // Something happens in the lab, or there was nothing to be told of: a program that begins to
        // listen tells nobody.
        let _ = timeout(pause.min(left), means.events.wait_after(seen)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn round(errand: &Errand, times: usize, means: Means<'_>) -> Vec<Try> {
    let limit = Duration::from_millis(errand.timeout_ms.into());
    let netns = means.asking.netns;
    match (&errand.task, place(&errand.task)) {
        (Task::Http(Engine::Builtin, request), Some(to)) => {
            each_socket(netns, times, move || tcp_socket(to), |socket| http::once(socket, to, request, limit)).await
        }
        (Task::Udp { send, .. }, Some(to)) => {
            let send = send.as_deref().map(str::as_bytes);
            each_socket(netns, times, move || udp_socket(to), |socket| udp(socket, to, send, limit)).await
        }
        (Task::Names(question), _) => questions::ask(netns, question, times, limit).await,
        _ => {
            let mut tries = Vec::with_capacity(times);
            // Names and processes: one after the other, as a person would.
            while tries.len() < times {
                tries.push(once(errand, limit, means).await);
            }
            tries
        }
    }
}

/// Where sockets of many tries lead, if that needs nobody to be asked.
fn place(task: &Task) -> Option<SocketAddr> {
    match task {
        Task::Http(_, request) => request.to.address(),
        Task::Udp { to, .. } => to.address(),
        _ => None,
    }
}

async fn once(errand: &Errand, limit: Duration, means: Means<'_>) -> Try {
    let Means { asking, processes, .. } = means;
    let netns = asking.netns;
    match &errand.task {
        Task::Http(Engine::Curl, request) => curl::fetch(asking, request, errand.timeout_ms, processes).await,
        Task::Exec(command) => run::command(asking, command, limit, processes).await,
        Task::Http(Engine::Builtin, request) => {
            found(netns, &request.to, limit, |to| async move {
                let socket = questions::inside(netns, move || tcp_socket(to)).await?;
                http::once(socket, to, request, limit).await.result
            })
            .await
        }
        Task::Tcp(to) => {
            found(netns, to, limit, |to| async move {
                let socket = questions::inside(netns, move || tcp_socket(to)).await?;
                socket.connect(to).await.map_err(|error| failure(&error))?;
                Ok(Answer::default())
            })
            .await
        }
        Task::Udp { to, send } => {
            found(netns, to, limit, |to| async move {
                let socket = questions::inside(netns, move || udp_socket(to)).await?;
                udp(socket, to, send.as_deref().map(str::as_bytes), limit).await.result
            })
            .await
        }
        Task::Ping(host) => {
            let to = Destination { host: host.clone(), port: 0 };
            found(netns, &to, limit, |to| ping::once(netns, to.ip())).await
        }
        Task::Names(question) => {
            let mut tries = questions::ask(netns, question, 1, limit).await;
            tries.pop().unwrap_or(Try { result: Ok(Answer::default()), micros: 0 })
        }
    }
}

/// Finds the address, and then tries; each of the two may take so long. That nobody knows the name in
/// time is no time-out of what is tried.
async fn found<F: Future<Output = Result<Answer, Failure>>>(
    netns: &str,
    to: &Destination,
    limit: Duration,
    attempt: impl FnOnce(SocketAddr) -> F,
) -> Try {
    let began = Instant::now();
    match address(netns, &to.host, limit).await {
        Ok(ip) => timed(limit, attempt(SocketAddr::new(ip, to.port))).await,
        Err(failure) => Try { result: Err(failure), micros: micros(began) },
    }
}

async fn address(netns: &str, host: &Target, limit: Duration) -> Result<IpAddr, Failure> {
    match host {
        Target::Address(ip) => Ok(*ip),
        Target::Name { name, resolver } => {
            let found = timeout(limit, questions::resolve(netns, name, resolver)).await;
            found.unwrap_or_else(|_| {
                let text = format!("nobody could say within {} ms who {name} is", limit.as_millis());
                Err(Failure { kind: FailureKind::Unnamed, text })
            })
        }
    }
}

/// A datagram and its answer. Who sends nothing of their own asks what the echo servers answer with
/// their name.
async fn udp(socket: tokio::net::UdpSocket, to: SocketAddr, send: Option<&[u8]>, limit: Duration) -> Try {
    timed(limit, async {
        let mut buffer = vec![0; KEPT.max(BODY_LIMIT)];
        let length = udp_exchange(&socket, to, send.unwrap_or(echo::WHO_ARE_YOU), &mut buffer).await?;
        let body = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let (pod, client) = match (send, body.split_once(' ')) {
            // Only an address behind it makes the first word a name.
            (None, Some((pod, client))) => match client.trim().parse() {
                Ok(client) => (Some(pod.to_owned()), Some(client)),
                Err(_) => (None, None),
            },
            _ => (None, None),
        };
        Ok(Answer { pod, client, body, ..Answer::default() })
    })
    .await
}
