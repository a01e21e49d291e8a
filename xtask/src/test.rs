//! `cargo xtask test`: everything that can be tested, on a machine that has only Rust.

use std::ffi::OsString;

use crate::{
    run::{Result, cargo, run, run_with},
    tools,
};

/// Formatting, lints, examples in the documentation, then all tests; the last lines are the summary
/// of `cargo test`.
pub(crate) fn test(arguments: &[OsString]) -> Result<()> {
    tools::install_packages(tools::Need::Tests)?;
    tools::install_components()?;
    let coredns = tools::install_coredns()?.map(|directory| tools::path_with(&directory));
    let environment: Vec<(&str, &str)> = coredns.iter().map(|path| ("PATH", path.as_str())).collect();
    run(cargo(), ["fmt", "--all", "--check"])?;
    run(cargo(), ["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"])?;
    run(cargo(), ["test", "--workspace", "--doc", "--quiet"])?;
    // Without it, the examples in the documentation come last once more.
    let all = arguments.is_empty().then(|| OsString::from("--tests"));
    // A failure does not hide what comes after it.
    let words = ["test", "--workspace", "--no-fail-fast"].map(OsString::from).into_iter().chain(all);
    run_with(cargo(), words.chain(arguments.iter().cloned()), &environment)
}
