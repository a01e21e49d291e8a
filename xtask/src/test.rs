//! `cargo xtask test`: everything that can be tested, on a machine that has only Rust.

use std::ffi::OsString;

use crate::{
    run::{Result, cargo, run},
    tools,
};

/// Formatting and lints, then all tests; the last lines are the summary of `cargo test`.
pub(crate) fn test(arguments: &[OsString]) -> Result<()> {
    tools::install_packages(tools::Need::Tests)?;
    tools::install_components()?;
    run(cargo(), ["fmt", "--all", "--check"])?;
    run(cargo(), ["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"])?;
    let words = ["test", "--workspace"].map(OsString::from).into_iter().chain(arguments.iter().cloned());
    run(cargo(), words)
}
