//! The load balancer's addresses → the configuration of HAProxy.

use std::{collections::BTreeSet, fmt::Write};

use super::balancer::{Frontend, frontends};
use crate::lab::model::Lab;

/// Where HAProxy tells what it knows of the nodes.
pub const SOCKET: &str = "/run/netlab/haproxy.sock";
/// What an earlier HAProxy knew of the nodes.
pub const STATE: &str = "/run/netlab/haproxy.state";

const HEAD: &str = include_str!("../../templates/haproxy.cfg");

/// The whole configuration.
pub fn render(lab: &Lab) -> String {
    let mut text = HEAD.replace("@SOCKET@", SOCKET).replace("@STATE@", STATE);
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

/// What of a table of `show servers state` is true of the servers of a configuration as well: HAProxy
/// would go by the table's addresses and ports, and not by its configuration's.
pub fn still_true(table: &str, config: &str) -> String {
    let mut listen = "";
    let mut servers = BTreeSet::new();
    for line in config.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["listen", at] => listen = at,
            ["server", name, to, "port", check] => {
                let (ip, port) = to.rsplit_once(':').unwrap_or_default();
                servers.insert([listen, name, ip, port, check]);
            }
            _ => {}
        }
    }
    let mut columns = None;
    let keep = |line: &&str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let Some(titles) = line.strip_prefix("# ") {
            let titles: Vec<&str> = titles.split_whitespace().collect();
            let wanted = ["be_name", "srv_name", "srv_addr", "srv_port", "srv_check_port"];
            columns = Some(wanted.map(|wanted| titles.iter().position(|title| *title == wanted)));
            return true;
        }
        let Some(columns) = columns else { return words.len() == 1 };
        servers.contains(&columns.map(|column| column.and_then(|at| words.get(at).copied()).unwrap_or_default()))
    };
    table.lines().filter(keep).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lab::model::BalancerEngine,
        proxy::sample::{balancer, everything, golden},
    };

    #[test]
    fn what_is_known_of_the_same_server_only() {
        let config = "listen 1.1.1.1:80\n    server node1 10.0.0.1:30080 port 10256\n    \
                      server node2 10.0.0.2:30080 port 10256\nlisten 1.1.1.2:80\n    server node1 10.0.0.1:30081 port 32000\n";
        let head = "1\n# be_id be_name srv_name srv_addr srv_op_state srv_port srv_check_port\n";
        let same = "3 1.1.1.1:80 node1 10.0.0.1 2 30080 10256\n5 1.1.1.2:80 node1 10.0.0.1 0 30081 32000\n";
        let others = "3 1.1.1.1:80 node2 10.0.0.9 2 30080 10256\n3 1.1.1.1:80 node2 10.0.0.2 2 30081 10256\n\
                      3 1.1.1.3:80 node1 10.0.0.1 2 30080 10256\n5 1.1.1.2:80 node1 10.0.0.1 0 30081 10256\n\n";
        assert_eq!(still_true(&format!("{head}{same}{others}"), config), format!("{head}{same}"));
        assert_eq!(still_true("", config), "");
    }

    #[test]
    fn of_a_service_with_the_policy_local_and_others() {
        let mut lab = everything();
        lab.load_balancer = Some(balancer(BalancerEngine::Haproxy));
        for service in lab.services.iter_mut().map(|service| &mut **service) {
            for (i, port) in service.ports.iter_mut().enumerate().filter(|_| !service.load_balancer_ips.is_empty()) {
                port.node_port = port.node_port.or(u16::try_from(30500 + i).ok());
            }
        }
        golden("everything.haproxy.cfg", &render(&lab));
    }
}
