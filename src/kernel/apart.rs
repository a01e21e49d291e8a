//! Does something in a child process, for what a process can do once only: joining namespaces.

use nix::{
    errno::Errno,
    sys::{
        signal::{SigHandler, Signal, signal},
        wait::{WaitStatus, waitpid},
    },
    unistd::{ForkResult, fork},
};

use crate::error::{Context, Error, Result};

/// Runs `work` in a child of this process and gives back the exit code, which is what `work`
/// gives back, or 128 and the signal that ended the child. Ctrl-C is for the child only, from
/// then on. This process must have one thread only.
///
/// # Errors
///
/// When the kernel gives no process.
pub fn apart(work: impl FnOnce() -> u8) -> Result<u8> {
    // SAFETY: with one thread, the child's copy of the memory is consistent.
    match unsafe { fork() }.context("cannot fork")? {
        ForkResult::Child => std::process::exit(work().into()),
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
