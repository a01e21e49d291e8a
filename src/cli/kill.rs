//! `netlab kill`: kills the processes of pods, as if they had crashed.

use std::process::ExitCode;

use super::{args, labs, output::Terminal};
use crate::{
    agent::{link, protocol::Request},
    error::Result,
};

pub(super) fn kill(args: &args::Pods, terminal: &Terminal) -> Result<ExitCode> {
    let directory = labs::choose(args.of_lab.lab.as_deref())?;
    link::ask_once(&directory, &Request::Kill { pods: args.pods.clone() })?;
    args.pods.iter().for_each(|pod| terminal.say(format!("{pod} was killed")));
    Ok(ExitCode::SUCCESS)
}
