//! `netlab shell [WHO]`: the user's shell in a lab.

use std::{
    env,
    process::{Command, ExitCode},
};

use super::{args, exec, labs, output::Terminal};
use crate::error::Result;

pub(super) fn shell(args: &args::Shell, terminal: &Terminal) -> Result<ExitCode> {
    let directory = labs::choose(args.lab.lab.as_deref())?;
    let shell = env::var_os("SHELL").filter(|shell| which::which(shell).is_ok());
    let mut command = Command::new(shell.unwrap_or_else(|| "/bin/sh".into()));
    // Debian's and Ubuntu's prompt shows this.
    command.env("debian_chroot", format!("{}:{}", directory.name, args.who));
    exec::inside(&directory, &args.who, command, terminal)
}
