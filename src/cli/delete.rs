//! `netlab delete`: deletes pods of a running lab, and waits until they are gone.

use std::process::ExitCode;

use super::{args, labs, output::Terminal};
use crate::{agent::protocol::Request, error::Result};

pub(super) fn delete(args: &args::Pods, terminal: &Terminal) -> Result<ExitCode> {
    let directory = labs::choose(args.of_lab.lab.as_deref())?;
    labs::change(&directory, &Request::Delete { pods: args.pods.clone() }, terminal)
}
