//! `netlab exec WHO -- CMD`: runs a command in a place of a lab.

use std::{
    env,
    ffi::OsString,
    process::{Command, ExitCode},
};

use nix::{
    sys::{
        prctl,
        signal::{SigHandler, Signal, signal},
        wait::{WaitStatus, waitpid},
    },
    unistd::{ForkResult, fork, getpid, getppid},
};

use super::{args, labs, output::Terminal};
use crate::{
    agent::{
        directory::Directory,
        link::{self, Handle},
        protocol::{Reply, Request, View},
    },
    error::{Context, Error, ErrorKind, Result},
    kernel::join,
};

pub(super) fn exec(args: &args::Exec) -> Result<ExitCode> {
    let directory = labs::choose(args.lab.lab.as_deref())?;
    let [program, arguments @ ..] = args.command.as_slice() else {
        return Err(Error::bug("a command without a program"));
    };
    let mut command = Command::new(program);
    command.args(arguments);
    inside(&directory, &args.who, command)
}

/// Runs a command in a place of a running lab.
pub(super) fn inside(directory: &Directory, who: &str, mut command: Command) -> Result<ExitCode> {
    let view = view(directory, who)?;
    let agent = Handle::of_agent(directory)?;
    set_environment(&mut command, &directory.name);
    let status = join::run(&agent, &view, command)?;
    Ok(ExitCode::from(join::exit_code(status)))
}

fn view(directory: &Directory, who: &str) -> Result<View> {
    match link::ask_once(directory, &Request::View { place: who.to_owned() })? {
        Reply::View(view) => Ok(view),
        _ => Err(Error::bug("a view was asked for, and something else was given")),
    }
}

/// What a command in a lab finds in its environment besides the user's own: the lab's name,
/// and the administrator's programs (`ip`, `iptables`), which are on no plain user's PATH.
pub(super) fn set_environment(command: &mut Command, lab: &str) {
    let mut path = env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/local/bin:/usr/bin:/bin"));
    for directory in ["/usr/local/sbin", "/usr/sbin", "/sbin"] {
        if !env::split_paths(&path).any(|it| it.as_os_str() == directory) {
            path.push(":");
            path.push(directory);
        }
    }
    command.env("PATH", path).env("NETLAB", lab);
}

/// Runs `work` in a child of this process and gives back its exit code. This process must
/// have one thread only.
///
/// The child does not outlive this process, however that ends: it holds a copy of whatever is open
/// here, and so of the channel whose end tells a lab's agent to end.
pub(super) fn apart(work: impl FnOnce() -> Result<u8>) -> Result<u8> {
    let parent = getpid();
    // SAFETY: with one thread, the child's copy of the memory is consistent.
    match unsafe { fork() }.context("cannot fork")? {
        ForkResult::Child => {
            let attached = prctl::set_pdeathsig(Signal::SIGKILL).context("cannot follow the parent");
            // A parent that ended before that sends no signal any more.
            if getppid() != parent {
                std::process::exit(ErrorKind::Bug.exit_code().into());
            }
            let code = attached.and_then(|()| work()).unwrap_or_else(|error| {
                Terminal::plain().complain(&error);
                error.kind.exit_code()
            });
            std::process::exit(code.into())
        }
        ForkResult::Parent { child } => {
            for interrupt in [Signal::SIGINT, Signal::SIGQUIT] {
                // SAFETY: ignoring a signal runs no code of ours.
                unsafe { signal(interrupt, SigHandler::SigIgn) }.context("cannot ignore SIGINT")?;
            }
            loop {
                match waitpid(child, None) {
                    Ok(WaitStatus::Exited(_, code)) => return Ok(u8::try_from(code).unwrap_or(u8::MAX)),
                    Ok(WaitStatus::Signaled(_, signal, _)) => return Ok(128 + signal as u8),
                    Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                    Err(errno) => {
                        return Err(Error {
                            kind: ErrorKind::Bug,
                            message: format!("lost a child: {errno}"),
                            hint: None,
                        });
                    }
                }
            }
        }
    }
}
