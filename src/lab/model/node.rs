//! How a node of a running lab is: a lab file cannot say it.

use serde::{Deserialize, Serialize};

/// What the lab was told of a node. All of it is undone by its opposite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeState {
    /// No pod is placed here that could be elsewhere.
    pub cordoned: bool,
    /// Its cable to the LAN is pulled.
    pub unplugged: bool,
    /// It is powered off: nothing of it runs, and nothing that was in its memory is left.
    pub stopped: bool,
    /// The control plane has not heard of it for so long that it takes its pods for not ready.
    pub unheard: bool,
}

impl NodeState {
    /// The control plane takes it for ready.
    pub fn is_ready(self) -> bool {
        !self.stopped && !self.unheard
    }

    /// The scheduler places pods here.
    pub fn is_schedulable(self) -> bool {
        self.is_ready() && !self.cordoned
    }

    /// As kubectl says it: `Ready`, `NotReady,SchedulingDisabled`.
    pub fn status(self) -> String {
        let ready = if self.is_ready() { "Ready" } else { "NotReady" };
        let cordoned = if self.cordoned { ",SchedulingDisabled" } else { "" };
        format!("{ready}{cordoned}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_in_the_words_of_kubectl() {
        let mut state = NodeState::default();
        assert_eq!((state.status().as_str(), state.is_schedulable()), ("Ready", true));
        state.unplugged = true;
        assert_eq!((state.status().as_str(), state.is_schedulable()), ("Ready", true));
        state.unheard = true;
        assert_eq!((state.status().as_str(), state.is_schedulable()), ("NotReady", false));
        let state = NodeState { cordoned: true, ..NodeState::default() };
        assert_eq!((state.status().as_str(), state.is_schedulable()), ("Ready,SchedulingDisabled", false));
    }
}
