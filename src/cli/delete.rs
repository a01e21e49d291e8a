//! `netlab delete`: deletes pods of a running lab, and waits until they are gone.

use std::process::ExitCode;

use super::{args, labs, output::Terminal};
use crate::{agent::protocol::Request, error::Result};

/// What becomes of pods that go
#[derive(Debug, clap::Args)]
pub(super) struct Leaving {
    /// Do not wait until pods that end because of it are gone
    #[arg(long)]
    pub(super) no_wait: bool,
}

pub(super) fn delete(args: &args::Delete, terminal: &Terminal) -> Result<ExitCode> {
    let directory = labs::choose(args.which.of_lab.lab.as_deref())?;
    let request = Request::Delete { pods: args.which.pods.clone(), no_wait: args.leaving.no_wait };
    labs::change(&directory, &request, terminal)
}
