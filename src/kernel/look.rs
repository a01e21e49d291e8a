//! How namespaces are, in the words of the tools that a person would use: rules with their counters,
//! interfaces, addresses, routes, neighbours; and the connections that conntrack knows.

use std::process::Command;

use futures::future::join_all;

use super::{
    conntrack::{Conntrack, Which},
    netns,
    process::{Entrance, Processes},
    rules,
};
use crate::{error::Result, lab::model::ProxyMode, probe::capture::Look};

/// A tool and its arguments.
type Tool = (&'static str, &'static [&'static str]);

const NFT: Tool = ("nft", &["list", "ruleset"]);
/// Those of iptables. The legacy one has rules only where nft's netlink has too small a buffer for
/// them; without root it must be asked for one table at a time.
const IPTABLES: [Tool; 4] = [
    ("iptables-save", &["-c"]),
    ("iptables-legacy-save", &["-c", "-t", "filter"]),
    ("iptables-legacy-save", &["-c", "-t", "nat"]),
    ("iptables-legacy-save", &["-c", "-t", "mangle"]),
];
const NETWORK: [Tool; 4] = [
    ("ip", &["-statistics", "address"]),
    ("ip", &["rule"]),
    ("ip", &["route", "show", "table", "all"]),
    ("ip", &["neighbour"]),
];

/// Looks at namespaces; those that are not there are left out.
///
/// # Errors
///
/// When conntrack cannot be asked.
pub async fn look(places: &[String], proxy: ProxyMode, processes: &Processes) -> Result<Vec<Look>> {
    let there = places.iter().filter(|place| netns::open(place).is_ok());
    join_all(there.map(|place| at(place, proxy, processes))).await.into_iter().collect()
}

async fn at(place: &str, proxy: ProxyMode, processes: &Processes) -> Result<Look> {
    let tools: &[Tool] = match proxy {
        ProxyMode::Nftables => &[NFT],
        ProxyMode::Iptables | ProxyMode::Ladder => &IPTABLES,
    };
    let mut rules = String::new();
    for tool in tools {
        rules.push_str(&said(*tool, place, processes).await);
    }
    let mut network = String::new();
    for tool in NETWORK {
        network.push_str(&said(tool, place, processes).await);
    }
    let connections = Conntrack::open_in(place, &tokio::runtime::Handle::current())?.connections(Which::All).await?;
    Ok(Look { netns: place.to_owned(), rules, network, connections })
}

/// What a tool says, below its command line; nothing if it has nothing to say.
async fn said((program, arguments): Tool, place: &str, processes: &Processes) -> String {
    let line = format!("# {program} {}\n", arguments.join(" "));
    let output = async {
        let mut command = Command::new(rules::find(program)?);
        command.args(arguments);
        processes.run(command, Entrance::to_netns(place)?, Vec::new()).await
    };
    match output.await {
        Ok(output) if output.status.success() && output.stdout.is_empty() => String::new(),
        Ok(output) => {
            let said = if output.status.success() { output.stdout } else { output.stderr };
            let said = String::from_utf8_lossy(&said).into_owned();
            format!("{line}{}\n\n", said.trim_end())
        }
        Err(error) => format!("{line}# {error}\n\n"),
    }
}
