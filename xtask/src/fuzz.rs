//! `cargo xtask fuzz`: arbitrary input for what reads what others send.

use std::{
    ffi::OsString,
    process::{Command, Stdio},
};

use crate::run::{Failure, Result, cargo, run_with};

/// The targets, each with what is fuzzed.
const TARGETS: &[(&str, &str)] = &[("dns", "messages to the name servers, and from the upstream")];

/// Fuzzes each target for so many seconds.
///
/// Fails when an input breaks it (the input is kept below `fuzz/artifacts`), and when there is no
/// cargo-fuzz.
pub(crate) fn fuzz(seconds: u32) -> Result<()> {
    let version =
        Command::new(cargo()).args(["fuzz", "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !version.is_ok_and(|status| status.success()) {
        return Err(Failure("cargo-fuzz is missing; install it: cargo install cargo-fuzz".to_owned()));
    }
    for (target, what) in TARGETS {
        eprintln!("{what}, for {seconds} s");
        let words = ["fuzz", "run", target, "--", &format!("-max_total_time={seconds}"), "-max_len=2048"];
        // The sanitizers are features of the nightly compiler, which this one has too.
        run_with(cargo(), words.map(OsString::from), &[("RUSTC_BOOTSTRAP", "1")])?;
    }
    Ok(())
}
