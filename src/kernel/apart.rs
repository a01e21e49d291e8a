//! Does something in a child process, for what a process can do once only: joining namespaces.

use nix::{
    errno::Errno,
    sys::{
        prctl,
        signal::{SigHandler, Signal, signal},
        wait::{WaitStatus, waitpid},
    },
    unistd::{ForkResult, fork, getpid, getppid},
};

use crate::error::{Context, Error, ErrorKind, Result};

/// Runs `work` in a child of this process and gives back the exit code, which is what `work`
/// gives back, or 128 and the signal that ended the child. Ctrl-C is for the child only, from
/// then on. This process must have one thread only.
///
/// # Errors
///
/// When the kernel gives no process.
pub fn apart(work: impl FnOnce() -> u8) -> Result<u8> {
    let parent = getpid();
    // SAFETY: with one thread, the child's copy of the memory is consistent.
    match unsafe { fork() }.context("cannot fork")? {
        ForkResult::Child => {
            // It holds a copy of whatever is open here, and so of the channel whose end tells a
            // lab's agent to end: it may not outlive this process, however that ends. A parent
            // that ended before this line sends no signal any more.
            let attached = prctl::set_pdeathsig(Signal::SIGKILL).is_ok() && getppid() == parent;
            std::process::exit(if attached { work().into() } else { ErrorKind::Bug.exit_code().into() })
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
                    Ok(_) | Err(Errno::EINTR) => {}
                    Err(errno) => return Err(Error::bug(format!("lost a child: {errno}"))),
                }
            }
        }
    }
}
