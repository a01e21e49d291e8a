//! The processes of this host, as `/proc` shows them.

use std::{collections::BTreeSet, fs, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::MARK;

/// A process of a test: it has the test's mark in its environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Marked {
    /// As this host numbers it.
    pub(crate) pid: i32,
    /// How it was called.
    pub(crate) arguments: Vec<String>,
}

/// The living processes whose mark begins like this. Zombies are none: they hold nothing any
/// more, and wait only for somebody to read their exit status.
pub(crate) fn marked(mark: &str) -> Vec<Marked> {
    let wanted = format!("{MARK}={mark}");
    let marked = pids().filter_map(|pid| {
        // Unreadable for other users' processes, which are not ours.
        let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
        let mut variables = environment.split(|byte| *byte == 0);
        let is_ours = variables.any(|variable| variable.starts_with(wanted.as_bytes()));
        is_ours.then(|| Marked { pid, arguments: arguments(pid) })
    });
    marked.collect()
}

/// The threads of netlab that are about to end and still hold something, anybody's. Their
/// processes have lost their memory, and with it the mark that would tell whose they are, but not yet their
/// files and namespaces. (Without those, an agent may wait some more until the host's own PID 1
/// has seen that an orphan of a killed `netlab run` has ended.)
pub(crate) fn dying() -> BTreeSet<i32> {
    const PF_EXITING: u32 = 0x4;
    let is_dying = |leader: i32, thread: i32| {
        // The first thread may be a zombie while others still run.
        let (Some((state, flags)), Some((first, _))) = (state(leader, thread), state(leader, leader)) else {
            return false;
        };
        // Files, and so the lab's lock, are really closed after the namespaces have gone: it works at that, or waits
        // for the kernel, and is not asleep as who waits for an orphan is.
        let is_at_it = state != "S";
        let holds = || is_at_it || fs::read_link(format!("/proc/{leader}/task/{thread}/ns/net")).is_ok();
        !is_dead(&state) && (flags & PF_EXITING != 0 || is_dead(&first)) && holds()
    };
    let is_netlab = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "netlab\n");
    let threads = pids()
        .filter(is_netlab)
        .flat_map(|pid| numbers_in(&format!("/proc/{pid}/task")).map(move |thread| (pid, thread)));
    threads.filter(|(leader, thread)| is_dying(*leader, *thread)).map(|(_, thread)| thread).collect()
}

fn is_dead(state: &str) -> bool {
    matches!(state, "Z" | "X")
}

/// The state of a thread, and the kernel's flags of it.
fn state(pid: i32, thread: i32) -> Option<(String, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/task/{thread}/stat")).ok()?;
    // The second field is the program's name in parentheses; then come the state, five numbers,
    // and the flags.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.to_owned(), fields.nth(5)?.parse().ok()?))
}

fn pids() -> impl Iterator<Item = i32> {
    numbers_in("/proc")
}

fn numbers_in(directory: &str) -> impl Iterator<Item = i32> + use<> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn arguments(pid: i32) -> Vec<String> {
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split('\0').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

impl Marked {
    /// Whether it is the agent of a lab.
    pub(crate) fn is_agent(&self) -> bool {
        self.arguments.first().is_some_and(|it| it == "netlab") && self.arguments.get(1).is_some_and(|it| it == "agent")
    }

    /// Sends it SIGKILL.
    pub(crate) fn kill(&self) {
        // That it has ended already is as good.
        let _ = kill(Pid::from_raw(self.pid), Signal::SIGKILL);
    }
}

/// Between two looks at something that the kernel sends no event for.
pub(crate) fn a_moment() {
    std::thread::sleep(Duration::from_millis(5));
}
