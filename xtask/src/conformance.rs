//! `cargo xtask conformance`: prints what a Service must do, and what each proxy does, as a page.

use crate::run::{Result, cargo, run};

/// Prints `docs/conformance.md` as the table has it now.
pub(crate) fn conformance() -> Result<()> {
    run(cargo(), ["run", "--quiet", "--package", "netlab", "--example", "conformance"])
}
