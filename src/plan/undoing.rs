//! How a step is undone, as the command that a person would type.

use super::step::{Step, exec, ip, prefix};

impl Step {
    /// The command that undoes it.
    pub fn undoing(&self) -> String {
        match self {
            Step::Bridge { link, .. } => format!("{} link del {}", ip(&link.netns), link.name),
            Step::Cable { near, .. } => format!("{} link del {}", ip(&near.netns), near.name),
            Step::Unplug { near, .. } => format!("{} link set {} up", ip(&near.netns), near.name),
            Step::Address { link, address } => format!("{} address del {address} dev {}", ip(&link.netns), link.name),
            Step::Route { netns, to, .. } => format!("{} route del {}", ip(netns), prefix(*to)),
            Step::Spread { link, to, .. } => format!("{} route del {}", ip(&link.netns), prefix(*to)),
            Step::Neighbour { link, ip: address, .. } => {
                format!("{} neighbour del {address} dev {}", ip(&link.netns), link.name)
            }
            Step::Refuse { link, to } => {
                format!("{} rule del iif {} to {} blackhole", ip(&link.netns), link.name, prefix(*to))
            }
            other => format!("# not undone: {other}"),
        }
    }

    /// The commands that change the settings of its namespace.
    pub fn settings(&self) -> String {
        let Step::Netns { netns, sysctls } = self else { return String::new() };
        let line =
            |(key, value): &(&str, String)| format!("{}sysctl -qw {}={value}", exec(netns), key.replace('/', "."));
        sysctls.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}
