//! A program in a place, to its end or for so long: what it prints, as far as it is kept. Nothing of it
//! is left afterwards.

use std::{
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::timeout,
};

use super::{
    super::{
        client::micros,
        curl::Asking,
        limits,
        process::{Entrance, Output, Processes},
        view,
    },
    KEPT,
};
use crate::{
    error::{Error, Result},
    probe::order::{Answer, Failure, FailureKind, Try},
};

/// What is kept of what a program complains about.
const COMPLAINT: usize = 4096;

/// Runs a command as `netlab exec` does, less the user's terminal and environment.
pub(super) async fn command(asking: Asking<'_>, words: &[String], limit: Duration, processes: &Processes) -> Try {
    let began = Instant::now();
    let result = match prepared(asking, words) {
        Ok((command, entrance)) => run(command, entrance, limit, processes).await,
        Err(error) => Err(error),
    };
    let result = match result {
        Ok(Some(ran)) => {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let code = ran.status.code().unwrap_or_else(|| 128 + ran.status.signal().unwrap_or(0));
            let status = u16::try_from(code).unwrap_or(u16::MAX);
            Ok(Answer { status, body: text(&ran.stdout), complaint: text(&ran.stderr), ..Answer::default() })
        }
        Ok(None) => {
            let text = format!("it still ran after {} ms, and was killed", limit.as_millis());
            Err(Failure { kind: FailureKind::Timeout, text })
        }
        Err(error) => Err(Failure { kind: FailureKind::Other, text: error.to_string() }),
    };
    Try { result, micros: micros(began) }
}

fn prepared(asking: Asking<'_>, words: &[String]) -> Result<(Command, Entrance)> {
    let [program, arguments @ ..] = words else { return Err(Error::bug("a command without a program")) };
    let view = view::find(asking.lab, asking.place)?;
    let mut command = Command::new(super::super::rules::find_for_users(program)?);
    command
        .args(arguments)
        .envs(view.env.within(limits::room_for_services()).variables)
        .env("NETLAB", asking.lab.name.as_str());
    Ok((command, view::entrance(&view)?))
}

/// The process group of a program, which ends with this.
struct Group(Pid);

impl Drop for Group {
    fn drop(&mut self) {
        // That all of it has ended already is fine. Its number is not another's yet: the kernel hands
        // out all others before it comes to it again.
        let _ = killpg(self.0, Signal::SIGKILL);
    }
}

/// Runs it; `None` if it has not ended in time. What it starts ends with it.
pub(in super::super) async fn run(
    mut command: Command,
    entrance: Entrance,
    limit: Duration,
    processes: &Processes,
) -> Result<Option<Output>> {
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut spawned = processes.spawn(command, entrance)?;
    let group = Group(spawned.pid);
    let (mut stdout, mut stderr, mut status) = (Vec::new(), Vec::new(), None);
    let all = async {
        let hear = read(spawned.stdout.take(), &mut stdout, KEPT);
        let complain = read(spawned.stderr.take(), &mut stderr, COMPLAINT);
        let end = async {
            // Nobody sees it end only when the agent itself ends.
            status = (&mut spawned.ended).await.ok();
        };
        tokio::join!(hear, complain, end);
    };
    // One that has ended may have left another behind that holds its pipes: that one is not waited for
    // any longer, and counts for nothing.
    let _ = timeout(limit, all).await;
    drop(group);
    Ok(status.map(|status| Output { status, stdout, stderr }))
}

/// Reads to the end, and keeps the beginning.
async fn read(pipe: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>, most: usize) {
    let Some(mut pipe) = pipe else { return };
    let mut buffer = vec![0; 8192];
    while let Ok(length @ 1..) = pipe.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..length.min(most - kept.len())]);
    }
}
