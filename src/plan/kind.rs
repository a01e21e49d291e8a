//! What kind of thing a step is, in one word: for tables of where the time went.

use super::step::Step;

impl Step {
    /// One word.
    pub fn kind(&self) -> &'static str {
        match self {
            Step::Netns { .. } => "netns",
            Step::Loopback { .. } => "lo",
            Step::Bridge { .. } => "bridge",
            Step::Cable { .. } => "veth",
            Step::Address { .. } => "address",
            Step::Settle { .. } => "carrier",
            Step::Unplug { .. } => "unplug",
            Step::Route { .. } => "route",
            Step::Neighbour { .. } => "neighbour",
            Step::Rules { .. } => "rules",
            Step::Serve { .. } => "server",
            Step::ServeOutside { .. } => "outside",
            Step::ServeNames { .. } => "names",
            Step::Refuse { .. } => "refuse",
            Step::Spread { .. } => "spread",
            Step::ServeHealth { .. } => "health",
            Step::ServeBalancer { .. } => "balancer",
        }
    }
}
