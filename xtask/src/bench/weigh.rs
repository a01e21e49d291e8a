//! How much memory a command takes at its peak: what the kernel keeps of the children that have ended,
//! so the command has to be the only one.

use std::process::{Command, Stdio};

use nix::sys::resource::{UsageWho, getrusage};

use crate::run::{Failure, Result};

/// Runs a command, and prints its peak in kibibytes.
pub(crate) fn weigh(program: &str, arguments: &[String]) -> Result<()> {
    let status = Command::new(program).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => return Err(Failure(format!("{program}: {status}"))),
        Err(error) => return Err(Failure(format!("cannot run {program}: {error}"))),
    }
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)
        .map_err(|errno| Failure(format!("the kernel does not say what children took: {errno}")))?;
    println!("{}", usage.max_rss());
    Ok(())
}
