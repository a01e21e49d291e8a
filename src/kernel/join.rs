//! Joins a running lab from outside: the CLI itself goes in, so that a command in the lab has
//! the user's own terminal.
//!
//! A process that joins takes all of the nest's namespaces, the PID namespace with them: the
//! command then ends with the lab, and cannot keep a piece of it alive.

use std::{
    fs, io,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::Path,
    process::{Command, ExitStatus},
};

use nix::{
    sched::{CloneFlags, setns},
    sys::{
        prctl,
        signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction},
    },
    unistd::Pid,
};

use super::view;
use crate::{
    agent::{link::Handle, protocol::View},
    error::{Context, Error, Result},
};

const NAMESPACES: CloneFlags = CloneFlags::CLONE_NEWNS
    .union(CloneFlags::CLONE_NEWPID)
    .union(CloneFlags::CLONE_NEWNET)
    .union(CloneFlags::CLONE_NEWUTS)
    .union(CloneFlags::CLONE_NEWIPC);

/// Runs a command in a place of a lab, with this process's terminal, environment (what the place adds to it, the command has
/// already) and working directory, and waits for its end. The calling process must have one thread only, and is in
/// the lab ever after.
///
/// # Errors
///
/// When the lab has ended, or there is no such program.
pub fn run(agent: &Handle, view: &View, mut command: Command) -> Result<ExitStatus> {
    let directory = std::env::current_dir();
    enter(agent)?;
    let entrance = view::entrance(view)?;
    // Joining a mount namespace goes to its root; the same files are there.
    if let Ok(directory) = directory
        && directory.is_dir()
    {
        command.current_dir(directory);
    }
    let program = command.get_program().to_string_lossy().into_owned();
    // SAFETY: between fork and exec only system calls on memory from before the fork.
    unsafe {
        command.pre_exec(move || {
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            default_interrupts()?;
            entrance.enter()
        });
    }
    // Ctrl-C and Ctrl-\ are the command's; what becomes of it is this process's answer.
    ignore_interrupts().context("cannot ignore SIGINT")?;
    let mut child = command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound if !is_there(&command) => Error::usage(format!("there is no program {program}")),
        io::ErrorKind::PermissionDenied => Error::usage(format!("cannot run {program}: {error}")),
        _ => Error::refused(format!("cannot run {program}: {error}")),
    })?;
    child.wait().context(format!("cannot wait for {program}"))
}

/// The command's program can be found; what else could not be is its interpreter, or the place.
fn is_there(command: &Command) -> bool {
    let path = command.get_envs().find(|(name, _)| *name == "PATH").and_then(|(_, value)| value);
    let directory = command.get_current_dir().unwrap_or(Path::new("/"));
    which::which_in(command.get_program(), path, directory).is_ok()
}

/// A shell's number for how a command ended.
pub fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(u8::MAX)
}

fn enter(agent: &Handle) -> Result<()> {
    let what = "cannot enter the lab";
    let mut flags = NAMESPACES;
    // Joining the user namespace that one is in already is an error.
    if !same_user_namespace(agent.pid).context(what)? {
        flags |= CloneFlags::CLONE_NEWUSER;
    }
    setns(agent.descriptor(), flags).context(what)
}

pub(super) fn same_user_namespace(pid: Pid) -> io::Result<bool> {
    Ok(fs::read_link(format!("/proc/{pid}/ns/user"))? == fs::read_link("/proc/self/ns/user")?)
}

/// Has this process take no notice of Ctrl-C and Ctrl-\\.
///
/// # Errors
///
/// None that the kernel's manual knows of.
pub fn ignore_interrupts() -> nix::Result<()> {
    set_interrupts(SigHandler::SigIgn)
}

fn default_interrupts() -> nix::Result<()> {
    set_interrupts(SigHandler::SigDfl)
}

fn set_interrupts(handler: SigHandler) -> nix::Result<()> {
    let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGQUIT] {
        // SAFETY: neither ignoring a signal nor its default runs code of ours.
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(())
}
