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
    /// Somebody else has put it there, and netlab leaves it alone unless it is told not to.
    #[serde(default, skip_serializing_if = "is_netlabs")]
    pub foreign: bool,
}

/// Most are: only others are said to be foreign.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks like this")]
fn is_netlabs(foreign: &bool) -> bool {
    !foreign
}

impl Drift {
    /// One of what netlab has made, or not made.
    pub fn new(netns: impl Into<String>, kind: DriftKind, text: impl Into<String>) -> Self {
        Drift { netns: netns.into(), kind, text: text.into(), mend: None, foreign: false }
    }

    /// With the command that puts it right.
    #[must_use]
    pub fn mend(mut self, command: impl Into<String>) -> Self {
        self.mend = Some(command.into());
        self
    }
}

/// What was done to a lab on purpose, and breaks it all the same: it differs from no plan. Commands say
/// which lab they mean, if they have to.
pub fn faults(lab: &Lab, name: Option<&str>) -> Vec<Drift> {
    let of_lab = name.map_or_else(String::new, |name| format!(" -l {name}"));
    let unplugged = lab.nodes.iter().filter(|node| node.state.unplugged && !node.state.stopped);
    let drift = |name: &str| {
        let text = format!("the link of {name} to the LAN is down: its cable was pulled");
        Drift::new(name, DriftKind::Link, text).mend(format!("netlab link up{of_lab} {name}"))
    };
    unplugged.map(|node| drift(node.name.as_str())).collect()
}

/// The sorts of things that can differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DriftKind {
    /// A network namespace is gone.
    Namespace,
    /// A link is missing, down, or not in its bridge.
    Link,
    /// An address is missing, or one too many.
    Address,
    /// A permanent neighbour is missing, or one too many.
    Neighbour,
    /// A route is missing, or one too many.
    Route,
    /// A setting below `/proc/sys` has another value.
    Sysctl,
    /// A rule is missing, different, or not ours.
    Rule,
    /// A server is not running.
    Server,
    /// A file that tells programs of names has another text.
    File,
}

/// What differs in a file that programs of a place read: the first line that is missing, and the first
/// that is too much.
pub fn of_file(netns: &str, path: &str, wanted: &str, found: &str) -> Option<Drift> {
    if wanted == found {
        return None;
    }
    let first = |one: &str, other: &str| {
        let has = |line: &&str| other.lines().any(|it| it == *line);
        one.lines().find(|line| !has(line)).map(ToOwned::to_owned)
    };
    let text = match (first(wanted, found), first(found, wanted)) {
        (Some(lacks), Some(has)) => format!("{path} says `{has}`, and should say `{lacks}`"),
        (Some(lacks), None) => format!("{path} lacks the line `{lacks}`"),
        (None, Some(has)) => format!("the line `{has}` of {path} is not netlab's"),
        (None, None) => format!("the lines of {path} are in another order, or too many"),
    };
    Some(Drift::new(netns, DriftKind::File, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_lacks_or_has() {
        let text = |found| of_file("pod", "/etc/resolv.conf", "a 1\nb 2\n", found).map(|drift| drift.text);
        assert_eq!(text("a 1\nb 2\n"), None);
        assert_eq!(text("a 1\nb 3\n").as_deref(), Some("/etc/resolv.conf says `b 3`, and should say `b 2`"));
        assert_eq!(text("b 2\n").as_deref(), Some("/etc/resolv.conf lacks the line `a 1`"));
        assert_eq!(text("a 1\nb 2\nc\n").as_deref(), Some("the line `c` of /etc/resolv.conf is not netlab's"));
        assert!(text("b 2\na 1\n").is_some_and(|text| text.contains("another order")));
    }
}
