//! `cargo xtask demo`: the book's lab from nothing to nothing, on a machine that has only Rust.

use crate::{
    run::{Result, cargo, release, run},
    tools,
};

const LAB: &str = "labs/nodeport.toml";

/// Up, verify, down; the lab is ended also when it did not pass.
pub(crate) fn demo() -> Result<()> {
    tools::install_packages(tools::Need::Labs)?;
    run(cargo(), ["build", "--release", "--package", "netlab"])?;
    let netlab = release("netlab")?;
    run(&netlab, ["up", LAB])?;
    let verified = run(&netlab, ["verify", LAB]);
    let ended = run(&netlab, ["down", LAB]);
    verified.and(ended)
}
