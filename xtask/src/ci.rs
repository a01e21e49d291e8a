//! `cargo xtask ci`: what must pass before a change goes in.

use crate::{
    run::{Result, cargo, run_with},
    test,
};

/// The documentation without a warning, then [`test::test`], so that the last lines are the
/// summary of `cargo test`.
pub(crate) fn ci() -> Result<()> {
    // These are the pages of those who change netlab, so they show what is private.
    let doc = ["doc", "--workspace", "--no-deps", "--document-private-items", "--quiet"];
    run_with(cargo(), doc, &[("RUSTDOCFLAGS", "--cfg internals -D warnings -A rustdoc::private_intra_doc_links")])?;
    test::test(&[])
}
