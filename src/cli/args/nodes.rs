//! What can be done to the nodes of a running lab.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::{OfLab, duration};

#[derive(Debug, Args)]
pub(in crate::cli) struct Nodes {
    /// The nodes
    #[arg(value_name = "NODE", required = true)]
    pub(in crate::cli) nodes: Vec<String>,
    #[command(flatten)]
    pub(in crate::cli) of_lab: OfLab,
}

/// What can be done with a cable.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Link {
    /// Pull it: packets are lost, and nobody is told
    Down(LinkDown),
    /// Plug it in again, and wait until packets get through
    Up(Nodes),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct LinkDown {
    #[command(flatten)]
    pub(in crate::cli) nodes: Nodes,
    /// Have the control plane notice, at once or after TIME: the node is not ready, and its pods are no endpoints [Kubernetes takes 50 s]
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "0s", value_parser = notice)]
    pub(in crate::cli) notice: Option<Notice>,
}

/// When the control plane notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) struct Notice(pub(in crate::cli) Duration);

/// What can be done with a node's power.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Node {
    /// Power nodes off: all that runs on them ends at once, and the control plane notices
    Stop(Nodes),
    /// Power nodes on, and wait until everything on them runs
    Start(Nodes),
}

/// A time, of which there may be none.
fn notice(text: &str) -> Result<Notice, String> {
    if matches!(text, "0" | "0s" | "0ms") {
        return Ok(Notice(Duration::ZERO));
    }
    duration(text).map(Notice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_may_be_noticed_at_once() {
        assert_eq!(notice("0s"), Ok(Notice(Duration::ZERO)));
        assert_eq!(notice("50s"), Ok(Notice(Duration::from_secs(50))));
        assert!(notice("-1s").is_err());
    }
}
