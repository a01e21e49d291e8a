//! `netlab schema`: the JSON Schema of lab files, for editors.

use std::process::ExitCode;

use super::output::print;
use crate::{
    error::{Context, Result},
    lab,
};

pub(super) fn schema() -> Result<ExitCode> {
    let text = serde_json::to_string_pretty(&lab::schema()).context("cannot write JSON")?;
    print(&(text + "\n"));
    Ok(ExitCode::SUCCESS)
}
