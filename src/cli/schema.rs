//! `netlab schema`: the JSON Schema of lab files, for editors, and that of reports, for programs.

use std::process::ExitCode;

use super::{args, output::print};
use crate::{
    error::{Context, Result},
    lab, report,
};

pub(super) fn schema(args: &args::Schema) -> Result<ExitCode> {
    let schema = match args.of {
        args::SchemaOf::Lab => lab::schema(),
        args::SchemaOf::Report => report::schema(),
    };
    let text = serde_json::to_string_pretty(&schema).context("cannot write JSON")?;
    print(&(text + "\n"));
    Ok(ExitCode::SUCCESS)
}
