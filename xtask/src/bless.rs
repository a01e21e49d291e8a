//! `cargo xtask bless`: takes the present output for the expected one. Look at the diff!

use crate::run::{Result, cargo, run_with};

/// Rewrites golden files and inline snapshots.
pub(crate) fn bless() -> Result<()> {
    let environment = [("NETLAB_BLESS", "1"), ("INSTA_UPDATE", "always"), ("INSTA_FORCE_PASS", "1")];
    run_with(cargo(), ["test", "--workspace", "--no-fail-fast"], &environment)
}
