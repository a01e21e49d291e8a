//! `netlab ready`: makes pods of a running lab ready, or not ready.

use std::process::ExitCode;

use super::{args, labs, output::Terminal};
use crate::{agent::protocol::Request, error::Result};

pub(super) fn ready(args: &args::Ready, terminal: &Terminal) -> Result<ExitCode> {
    let directory = labs::choose(args.of_lab.lab.as_deref())?;
    labs::change(&directory, &Request::Ready { pods: args.pods.clone() }, terminal)
}
