//! The load balancer's addresses → the configuration of HAProxy.

use std::fmt::Write;

use super::balancer::{Frontend, frontends};
use crate::lab::model::Lab;

/// Where HAProxy tells what it knows of the nodes.
pub const SOCKET: &str = "/run/netlab/haproxy.sock";

const HEAD: &str = include_str!("../../templates/haproxy.cfg");

/// The whole configuration.
pub fn render(lab: &Lab) -> String {
    let mut text = HEAD.replace("@SOCKET@", SOCKET);
    for frontend in frontends(lab) {
        section(&mut text, lab, &frontend);
    }
    text
}

/// One `listen` section: a frontend and its backend.
fn section(text: &mut String, lab: &Lab, frontend: &Frontend) {
    let Frontend { label, at, node_port, check, ranges } = frontend;
    let mut line = |line: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{line}");
    };
    line(format!("\n# {label}\nlisten {at}"));
    line(format!("    bind {at}"));
    line("    option httpchk GET /healthz".to_owned());
    if !ranges.is_empty() {
        let ranges: Vec<String> = ranges.iter().map(ToString::to_string).collect();
        line("    # loadBalancerSourceRanges: others get no answer.".to_owned());
        line(format!("    tcp-request connection silent-drop if !{{ src {} }}", ranges.join(" ")));
    }
    line("    # No node is healthy: no answer, as from an address that nobody has.".to_owned());
    line("    tcp-request connection silent-drop if { nbsrv lt 1 }".to_owned());
    for node in &lab.nodes {
        line(format!("    server {} {}:{node_port} port {check}", node.name, node.ip));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lab::model::BalancerEngine,
        proxy::sample::{balancer, everything, golden},
    };

    #[test]
    fn of_a_service_with_the_policy_local_and_others() {
        let mut lab = everything();
        lab.load_balancer = Some(balancer(BalancerEngine::Haproxy));
        for service in &mut lab.services {
            for (i, port) in service.ports.iter_mut().enumerate().filter(|_| !service.load_balancer_ips.is_empty()) {
                port.node_port = port.node_port.or(u16::try_from(30500 + i).ok());
            }
        }
        golden("everything.haproxy.cfg", &render(&lab));
    }
}
