//! What differs between the lab as planned and the lab as the kernel has it now.
//!
//! Drift alone is no failure: a student may add a rule. It explains one: a failed probe looks
//! for the drift on its way.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::lab::model::Lab;

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Drift {
    /// The network namespace it is in.
    pub netns: String,
    /// What sort of thing differs.
    pub kind: DriftKind,
    /// One lowercase sentence without a full stop: what is, and what should be.
    pub text: String,
    /// A command for `netlab shell` that puts it right, if there is one.
    pub mend: Option<String>,
}

/// What was done to a lab on purpose, and breaks it all the same: it differs from no plan. Commands say
/// which lab they mean, if they have to.
pub fn faults(lab: &Lab, name: Option<&str>) -> Vec<Drift> {
    let of_lab = name.map_or_else(String::new, |name| format!(" -l {name}"));
    let unplugged = lab.nodes.iter().filter(|node| node.state.unplugged && !node.state.stopped);
    let drift = |name: &str| Drift {
        netns: name.to_owned(),
        kind: DriftKind::Link,
        text: format!("the link of {name} to the LAN is down: its cable was pulled"),
        mend: Some(format!("netlab link up{of_lab} {name}")),
    };
    unplugged.map(|node| drift(node.name.as_str())).collect()
}

/// The sorts of things that can differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DriftKind {
    /// A link is missing, down, or not in its bridge.
    Link,
    /// An address is missing.
    Address,
    /// A route is missing.
    Route,
    /// A setting below `/proc/sys` has another value.
    Sysctl,
    /// A rule is missing, different, or not ours.
    Rule,
    /// A server is not running.
    Server,
}
