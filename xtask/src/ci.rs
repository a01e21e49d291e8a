//! `cargo xtask ci`: what must pass before a change goes in.

use crate::{
    run::{Result, cargo, run_with},
    test,
};

/// The documentation without a warning, then [`test::test`], so that the last lines are the
/// summary of `cargo test`.
pub(crate) fn ci() -> Result<()> {
    let doc = ["doc", "--workspace", "--no-deps", "--document-private-items", "--quiet"];
    run_with(cargo(), doc, &[("RUSTDOCFLAGS", "-D warnings")])?;
    test::test(&[])
}
