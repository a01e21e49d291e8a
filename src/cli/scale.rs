//! `netlab scale`: gives a `[[pod]]` of a running lab another number of replicas.

use std::process::ExitCode;

use super::{args, labs, output::Terminal};
use crate::{agent::protocol::Request, error::Result};

pub(super) fn scale(args: &args::Scale, terminal: &Terminal) -> Result<ExitCode> {
    let directory = labs::choose(args.of_lab.lab.as_deref())?;
    let request = Request::Scale { name: args.name.clone(), replicas: args.replicas, no_wait: args.leaving.no_wait };
    labs::change(&directory, &request, terminal)
}
