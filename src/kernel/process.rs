//! Processes of the lab: spawned into a place, and reaped.
//!
//! The agent is PID 1 of the lab, so every orphan of the lab is its child, and only one party
//! can wait for "any child". That party is here: it takes every exit status and hands those
//! of the processes that were spawned here to whoever waits for them.

use std::{
    collections::HashMap,
    ffi::{CStr, CString},
    fs::File,
    io,
    os::{
        fd::AsFd,
        unix::process::{CommandExt, ExitStatusExt},
    },
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
    sys::wait::{WaitPidFlag, WaitStatus, waitpid},
    unistd::{Pid, sethostname},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{ChildStderr, ChildStdin, ChildStdout},
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

use super::netns;
use crate::error::{Context, Error, Result};

/// The table of the processes that somebody waits for.
#[derive(Debug, Clone, Default)]
pub struct Processes {
    waiting: Arc<Mutex<HashMap<i32, oneshot::Sender<ExitStatus>>>>,
}

/// A process that was spawned.
#[derive(Debug)]
pub struct Spawned {
    /// Its id in the lab.
    pub pid: Pid,
    /// What it writes to, if that was asked for.
    pub stdin: Option<ChildStdin>,
    /// What it prints, if that was asked for.
    pub stdout: Option<ChildStdout>,
    /// What it complains about, if that was asked for.
    pub stderr: Option<ChildStderr>,
    /// Comes when it has ended.
    pub ended: oneshot::Receiver<ExitStatus>,
}

/// What a process left behind.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: Vec<u8>,
    /// What it complained about.
    pub stderr: Vec<u8>,
}

impl Processes {
    /// Starts to reap, on the current runtime.
    ///
    /// # Errors
    ///
    /// When SIGCHLD cannot be listened for.
    pub fn reaping() -> Result<Self> {
        let processes = Processes::default();
        let mut children = signal(SignalKind::child()).context("cannot listen for SIGCHLD")?;
        let reaper = processes.clone();
        tokio::spawn(async move {
            while children.recv().await.is_some() {
                reaper.reap();
            }
        });
        Ok(processes)
    }

    fn table(&self) -> MutexGuard<'_, HashMap<i32, oneshot::Sender<ExitStatus>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes every exit status there is. One signal may stand for several children.
    fn reap(&self) {
        loop {
            // The table is locked over the wait, as it is over a spawn: a child that ends
            // before it is in the table is not taken for a stranger.
            let mut table = self.table();
            let (pid, status) = match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, ExitStatus::from_raw(code << 8)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, ExitStatus::from_raw(signal as i32)),
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
                // EINTR, or a stop that nobody asked about: look again.
                Ok(_) | Err(_) => continue,
            };
            if let Some(waiter) = table.remove(&pid.as_raw()) {
                // Whoever waited may have lost interest.
                let _ = waiter.send(status);
            }
        }
    }

    /// Spawns a process in a place.
    ///
    /// # Errors
    ///
    /// When there is no such program, or the place cannot be entered.
    pub fn spawn(&self, mut command: Command, entrance: Entrance) -> Result<Spawned> {
        let program = command.get_program().to_string_lossy().into_owned();
        // SAFETY: between fork and exec only `Entrance::enter` runs, which makes system calls
        // on memory that was allocated before the fork, and nothing else.
        unsafe {
            command.pre_exec(move || entrance.enter());
        }
        let (child, ended) = {
            let mut table = self.table();
            let child = command.spawn().context(format!("cannot start {program}"))?;
            let (sender, ended) = oneshot::channel();
            table.insert(pid_of(&child).as_raw(), sender);
            (child, ended)
        };
        let pid = pid_of(&child);
        let pipes = || -> io::Result<_> {
            Ok((
                child.stdin.map(ChildStdin::from_std).transpose()?,
                child.stdout.map(ChildStdout::from_std).transpose()?,
                child.stderr.map(ChildStderr::from_std).transpose()?,
            ))
        };
        let (stdin, stdout, stderr) = pipes().context(format!("cannot talk to {program}"))?;
        Ok(Spawned { pid, stdin, stdout, stderr, ended })
    }

    /// Runs a process in a place to its end, feeds it, and collects what it prints.
    ///
    /// # Errors
    ///
    /// When it cannot be started; how it ended is for the caller to judge.
    pub async fn run(&self, mut command: Command, entrance: Entrance, input: Vec<u8>) -> Result<Output> {
        command.stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let program = command.get_program().to_string_lossy().into_owned();
        let mut spawned = self.spawn(command, entrance)?;
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let feed = async {
            if let Some(mut stdin) = spawned.stdin.take() {
                // A program that ends before it has read everything says why on stderr.
                let _ = stdin.write_all(&input).await;
            }
        };
        let hear = async {
            if let Some(pipe) = &mut spawned.stdout {
                pipe.read_to_end(&mut stdout).await?;
            }
            io::Result::Ok(())
        };
        let complain = async {
            if let Some(pipe) = &mut spawned.stderr {
                pipe.read_to_end(&mut stderr).await?;
            }
            io::Result::Ok(())
        };
        let ((), heard, complained) = tokio::join!(feed, hear, complain);
        heard.and(complained).context(format!("cannot read from {program}"))?;
        let status = spawned.ended.await.map_err(|_| Error::bug(format!("nobody saw {program} end")))?;
        Ok(Output { status, stdout, stderr })
    }
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

/// The way into a place, prepared before the fork.
#[derive(Debug)]
pub struct Entrance {
    netns: File,
    view: Option<PrivateView>,
}

/// What the processes of one pod see of their own: a hostname, and files in `/etc`.
#[derive(Debug)]
pub struct PrivateView {
    hostname: String,
    binds: Vec<(CString, CString)>,
}

impl Entrance {
    /// Into a network namespace, and nothing else.
    ///
    /// # Errors
    ///
    /// When there is no such namespace.
    pub fn to_netns(netns: &str) -> Result<Self> {
        Ok(Entrance { netns: netns::open(netns)?, view: None })
    }

    /// Into a network namespace that has no name.
    pub fn to_file(netns: File) -> Self {
        Entrance { netns, view: None }
    }

    /// Another one into the same network namespace, which sees no files of its own.
    ///
    /// # Errors
    ///
    /// When there are too many open files.
    pub fn try_clone(&self) -> Result<Self> {
        Ok(Entrance::to_file(self.netns.try_clone().context("cannot share a namespace")?))
    }

    /// Into a network namespace, a mount and a UTS namespace of its own.
    ///
    /// # Errors
    ///
    /// When there is no such namespace.
    pub fn to_place(netns: &str, view: PrivateView) -> Result<Self> {
        Ok(Entrance { netns: netns::open(netns)?, view: Some(view) })
    }

    /// Moves the calling process in. It allocates nothing, so it may run between fork and exec.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn enter(&self) -> io::Result<()> {
        setns(self.netns.as_fd(), CloneFlags::CLONE_NEWNET)?;
        let Some(view) = &self.view else { return Ok(()) };
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS)?;
        sethostname(&view.hostname)?;
        // What the lab unmounts later must go here too: the name of a namespace keeps it alive.
        mount(None::<&str>, c"/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)?;
        for (from, to) in &view.binds {
            mount(Some(from.as_c_str()), to.as_c_str(), None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        }
        own_sysfs();
        Ok(())
    }
}

/// Puts a sysfs of the new network namespace on `/sys`, as `ip netns exec` does: a mounted
/// sysfs shows the links of the namespace it was mounted from.
fn own_sysfs() {
    const SYS: &CStr = c"/sys";
    // Where the host forbids it (a masked /sys in a container), tools that read /sys/class/net
    // show another namespace's links, and everything else works.
    let _ = umount2(SYS, MntFlags::MNT_DETACH);
    let _ = mount(Some(SYS), SYS, Some(c"sysfs"), MsFlags::empty(), None::<&CStr>);
}

impl PrivateView {
    /// A hostname, and files to lay over others: pairs of a file of the lab's and a path.
    ///
    /// # Errors
    ///
    /// When a path has a NUL in it.
    pub fn new(hostname: &str, binds: &[(String, String)]) -> Result<Self> {
        let c_string = |text: &str| CString::new(text).context(format!("not a path: {text:?}"));
        let binds = binds.iter().map(|(from, to)| Ok((c_string(from)?, c_string(to)?)));
        Ok(PrivateView { hostname: hostname.to_owned(), binds: binds.collect::<Result<_>>()? })
    }
}
