//! What a lab needs of this host, before anything is touched.

use super::{coredns, haproxy, limits, rules};
use crate::{
    error::{Error, Result},
    lab::model::{BalancerEngine, DnsEngine, Lab, ProxyMode, Server},
};

/// Checks that every program the lab needs is there, and that the host's limits allow it.
///
/// # Errors
///
/// The first one that is not, with how to get it.
pub fn check(lab: &Lab) -> Result<()> {
    let loader = match lab.cluster.proxy {
        ProxyMode::Iptables | ProxyMode::Ladder => "iptables-restore",
        ProxyMode::Nftables => "nft",
    };
    rules::find(loader)?;
    limits::check(lab)?;
    if lab.load_balancer.as_ref().is_some_and(|balancer| balancer.engine == BalancerEngine::Haproxy) {
        haproxy::find()?;
    }
    if lab.dns.as_ref().is_some_and(|dns| dns.engine == DnsEngine::Coredns) {
        coredns::check()?;
    }
    for container in lab.pods.iter().flat_map(|pod| &pod.containers) {
        match &container.server {
            Server::Python => {
                rules::find("python3")?;
            }
            Server::Command(argv) => {
                let program = argv.first().map_or("", String::as_str);
                rules::find(program).map_err(|_| {
                    let error = Error::host(format!("{program} is not installed, and a container's command needs it"));
                    error.hint("install it, or give the container `server = \"echo\"`")
                })?;
            }
            Server::Echo | Server::Dns => {}
        }
    }
    Ok(())
}
