//! Runs HAProxy on the load balancer, with a configuration that says everything.

use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use super::{
    process::{Entrance, Processes, Spawned},
    rules, view,
};
use crate::{
    error::{Context, Error, Result},
    proxy::haproxy::{SOCKET, STATE, still_true},
};

/// What it is called, as a program and as a package.
const PROGRAM: &str = "haproxy";

/// Finds the program.
///
/// # Errors
///
/// When it is not installed.
pub fn find() -> Result<PathBuf> {
    rules::find(PROGRAM).map_err(|_| {
        let error = Error::host("haproxy is not installed, and the load balancer's engine needs it");
        error.hint("install the package haproxy (apt-get install haproxy), or set `engine = \"builtin\"`")
    })
}

/// Starts it; where one runs already, the new one takes over its listening sockets, and the old one
/// ends when its connections are over. What it prints goes into a log.
///
/// # Errors
///
/// When it is not installed, or cannot be started.
pub(super) fn start(
    netns: &str,
    config: &str,
    log: &Path,
    (processes, old): (&Processes, Option<i32>),
) -> Result<Spawned> {
    let file = Path::new(view::DIRECTORY).join("haproxy.cfg");
    fs::write(&file, config).context(format!("cannot write {}", file.display()))?;
    let out = OpenOptions::new().create(true).append(true).open(log);
    let out = out.context(format!("cannot open {}", log.display()))?;
    let err = out.try_clone().context("cannot share a log")?;
    let mut command = Command::new(find()?);
    // -db: stay in the foreground. The agent is its parent, so that it ends with the lab.
    command.arg("-db").arg("-f").arg(&file).stdin(Stdio::null()).stdout(out).stderr(err);
    if let Some(old) = old {
        command.arg("-x").arg(SOCKET).arg("-sf").arg(old.to_string());
    }
    processes.spawn(command, Entrance::to_netns(netns)?)
}

/// Writes down what the one that runs knows of the nodes, for the next one.
///
/// # Errors
///
/// When it cannot be written. That the one that runs does not tell is none: then the next one asks.
pub(super) async fn remember(config: &str) -> Result<()> {
    let table = ask("show servers state\n").await.unwrap_or_default();
    fs::write(STATE, still_true(&table, config)).context(format!("cannot write {STATE}"))
}

/// Waits until the one with this process id answers: it has what it needs then. As below, there is no
/// event.
pub(super) async fn took_over(pid: i32) {
    let mut pause = Duration::from_millis(2);
    let line = format!("Pid: {pid}");
    while !ask("show info\n").await.is_ok_and(|info| info.lines().any(|it| it == line)) {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Waits until it listens and has asked every node at least once; it has no event to tell that by,
/// so it is asked, and asked again a little later each time.
pub(super) async fn ready() {
    let mut pause = Duration::from_millis(5);
    while !matches!(all_checked().await, Ok(true)) {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Waits until it has found out which nodes are off, by asking them as it always does; as above, there
/// is no event.
pub async fn finds_out(off: &BTreeSet<String>, on: &BTreeSet<String>) {
    let mut pause = Duration::from_millis(5);
    while !ask("show stat\n").await.is_ok_and(|table| has_found_out(&table, off, on)) {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Those that are off are down, and those that are on have answered.
fn has_found_out(table: &str, off: &BTreeSet<String>, on: &BTreeSet<String>) -> bool {
    let mut rows = table.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let Some(head) = rows.next() else { return false };
    let column = |title: &str| head.iter().position(|it| it.trim_start_matches("# ") == title);
    let (Some(name), Some(status), Some(check)) = (column("svname"), column("status"), column("check_status")) else {
        return false;
    };
    rows.all(|row| match (row.get(name), row.get(status), row.get(check)) {
        (Some(node), Some(status), _) if off.contains(*node) => status.starts_with("DOWN"),
        (Some(node), _, Some(check)) if on.contains(*node) => check.trim_start_matches("* ").starts_with("L7"),
        _ => true,
    })
}

/// Every node of every backend has been asked: before, HAProxy takes it for healthy.
async fn all_checked() -> std::io::Result<bool> {
    Ok(is_checked(&ask("show stat\n").await?))
}

/// Asks it something.
async fn ask(question: &str) -> std::io::Result<String> {
    let mut socket = UnixStream::connect(SOCKET).await?;
    socket.write_all(question.as_bytes()).await?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// The table of `show stat` has no server whose first check is still to come.
fn is_checked(table: &str) -> bool {
    let mut rows = table.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let Some(head) = rows.next() else { return false };
    let Some(column) = head.iter().position(|title| *title == "check_status") else { return false };
    rows.all(|row| row.get(column).is_none_or(|status| !status.contains("INI")))
}

#[cfg(test)]
mod tests {
    use super::{has_found_out, is_checked};

    #[test]
    fn a_server_that_was_not_asked_yet() {
        let table = |status: &str| {
            format!("# pxname,svname,status,check_status,\nvip,node1,UP,L7OK,\nvip,node2,UP,{status},\n")
        };
        assert!(is_checked(&table("L7STS")));
        assert!(is_checked(&table("* L7OK")));
        assert!(!is_checked(&table("INI")));
        assert!(!is_checked(""));
    }

    #[test]
    fn nodes_that_are_off_are_found_to_be() {
        let table = |one: &str, other: &str| {
            format!("# pxname,svname,status,check_status,\nvip,node1,{one},\nvip,node2,{other},\nvip,BACKEND,UP,,\n")
        };
        let (off, on) = (["node2".to_owned()].into(), ["node1".to_owned()].into());
        assert!(has_found_out(&table("UP,L7OK", "DOWN,L4TOUT"), &off, &on));
        // A node that answers may say that it has no endpoint.
        assert!(has_found_out(&table("DOWN,L7STS", "DOWN,L4CON"), &off, &on));
        assert!(!has_found_out(&table("UP,L7OK", "UP 1/2,L4TOUT"), &off, &on));
        assert!(!has_found_out(&table("DOWN,L4TOUT", "DOWN,L4TOUT"), &off, &on));
        assert!(!has_found_out("", &off, &on));
    }
}
