//! `netlab doctor`: whether this host can run labs.

use std::process::ExitCode;

use super::{args, output::Terminal};
use crate::error::Result;

pub(super) fn doctor(_args: &args::Doctor, _terminal: &Terminal) -> Result<ExitCode> {
    Ok(ExitCode::SUCCESS)
}
