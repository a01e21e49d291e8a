//! The processes of this host, as `/proc` shows them.

use std::{fs, time::Duration};

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

/// How many threads are about to end. Their processes have lost their memory, and with it the
/// mark that would tell whose they are, but not yet what they hold open. A process whose first
/// thread is a zombie already may have others that are not.
pub(crate) fn dying() -> usize {
    const PF_EXITING: u32 = 0x4;
    let threads = pids().flat_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten());
    let states = threads.filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok());
    let is_dying = |stat: &String| {
        // The second field is the program's name in parentheses; then come the state, five
        // numbers, and the flags.
        let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
        let flags: u32 = fields.get(6).and_then(|flags| flags.parse().ok()).unwrap_or(0);
        flags & PF_EXITING != 0 && !matches!(fields.first(), Some(&"Z" | &"X"))
    };
    states.filter(is_dying).count()
}

fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").expect("there is a /proc").flatten();
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
