//! `netlab schema`: the JSON Schemas of lab files, for editors, and of reports, for programs.

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
        args::SchemaOf::Test => report::labs::schema(),
    };
    let text = serde_json::to_string_pretty(&schema).context("cannot write JSON")?;
    print(&(text + "\n"));
    Ok(ExitCode::SUCCESS)
}
