//! `labs/everything.toml`, under each proxy: truth and trace agree on every path, and `verify` is
//! green. And what is not netlab's in a node's rules is left alone.

mod program;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
};

use netlab::{
    lab::{
        load,
        model::{Lab, Protocol, ProxyMode},
    },
    proxy::{
        ladder, render, trace,
        truth::{Truth, addresses},
        view::view,
    },
};
use program::{Program, User};

/// The lab for one proxy; for the ladder without what it cannot express.
fn file(mode: ProxyMode) -> String {
    const ALIEN: [&str; 5] = [
        "external_traffic_policy",
        "internal_traffic_policy",
        "session_affinity",
        "traffic_distribution",
        "load_balancer_source_ranges",
    ];
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("labs/everything.toml");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let text = format!("{text}\n[cluster]\nproxy = \"{mode}\"\n");
    if mode != ProxyMode::Ladder {
        return text;
    }
    let kept = text.lines().filter(|line| !ALIEN.iter().any(|key| line.starts_with(key)));
    let text = kept.map(|line| format!("{line}\n")).collect::<String>();
    text.replace(", host_port = 8081", "").replace("endpoints = []", "endpoints = [{ ip = \"192.0.2.10\" }]")
}

fn lab(mode: ProxyMode) -> Lab {
    load(&file(mode)).unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn it_has_what_its_name_says() {
    let lab = lab(ProxyMode::Iptables);
    assert_eq!((lab.nodes.len(), lab.pods.len(), lab.services.len()), (4, 25, 13));
    assert!(ladder::cannot_express(&lab).len() >= 6);
    assert!(ladder::cannot_express(&self::lab(ProxyMode::Ladder)).is_empty());
}

#[test]
fn truth_and_trace_agree_on_every_path() {
    for mode in ProxyMode::ALL {
        let lab = lab(mode);
        let truth = Truth::new(&lab, mode);
        let texts = lab.node_ids().map(|node| (node, render(mode, &view(&lab, node)))).collect::<BTreeMap<_, _>>();
        let tracer = trace::Tracer::new(&lab, mode, &texts).unwrap_or_else(|why| panic!("{mode}: {why}"));
        let mut paths = 0;
        for to in targets(&lab) {
            for (from, protocol) in
                lab.places().into_iter().flat_map(|from| [(from, Protocol::Tcp), (from, Protocol::Udp)])
            {
                let said = truth.sight(from, to, protocol);
                let traced = tracer.trace(from, to, protocol).map(|branches| trace::sight(&branches));
                assert_eq!(Ok(said), traced, "{mode}: {} -> {to} {protocol}", lab.netns(from));
                paths += 1;
            }
        }
        eprintln!("{mode}: {paths} paths");
        assert!(paths > 5000, "only {paths} paths");
    }
}

/// Every address of every Service, and every port of interest at every machine.
fn targets(lab: &Lab) -> BTreeSet<SocketAddr> {
    let mut targets: BTreeSet<SocketAddr> =
        lab.service_ids().flat_map(|id| addresses(lab, id)).map(|address| address.to).collect();
    let ports: BTreeSet<u16> = targets.iter().map(SocketAddr::port).chain([8081, 9999]).collect();
    let nodes = lab.nodes.iter().flat_map(|node| [node.ip, node.pod_gateway]);
    let machines = lab.clients.iter().map(|client| client.ip.addr()).chain([lab.cluster.gateway, unused()]);
    let services = lab.services.iter().filter_map(|service| service.cluster_ip);
    let several: Vec<IpAddr> = nodes.chain(machines).chain(services).collect();
    targets.extend(several.iter().flat_map(|ip| ports.iter().map(|port| SocketAddr::new(*ip, *port))));
    targets.extend(lab.pods.iter().flat_map(|pod| [80, 8080, 9090].map(|port| SocketAddr::new(pod.ip, port))));
    targets
}

fn unused() -> IpAddr {
    [10, 96, 200, 200].into()
}

/// One lab at a time: all network namespaces of a host share one neighbour table.
#[test]
fn verify_is_green_under_every_proxy() {
    let program = Program::of(User::Me);
    for mode in ProxyMode::ALL {
        let running = program.up(&format!("all-{mode}"), &file(mode)).unwrap_or_else(|why| panic!("{why}"));
        let verify = program.run(&["verify", &running.name, "--engine", "builtin"]);
        assert!(verify.status.success(), "{mode}:\n{}", String::from_utf8_lossy(&verify.stdout));
    }
}

/// A table and a chain of somebody else's, next to ours.
const FOREIGN: &str = "
nft add table inet theirs
nft add chain inet theirs watch '{ type filter hook forward priority 50; policy accept; }'
nft add rule inet theirs watch counter
iptables -N THEIRS
iptables -A FORWARD -j THEIRS
iptables -A THEIRS -d 10.30.45.250 -j DROP
";
const FOREIGN_LEFT: &str = "
nft list table inet theirs | grep -q counter
iptables -S THEIRS | grep -q 10.30.45.250
iptables -S FORWARD | grep -q THEIRS
";

#[test]
fn foreign_rules_are_left_alone() {
    let program = Program::of(User::Me);
    for mode in ProxyMode::ALL {
        let text = "[[pod]]\nname = \"web\"\nreplicas = 3\nlabels = { app = \"web\" }\n[[service]]\nname = \"shop\"\n\
                    type = \"NodePort\"\nselector = { app = \"web\" }\nports = [{ port = 80 }]\n";
        let name = format!("foreign-{mode}");
        let running =
            program.up(&name, &format!("[cluster]\nproxy = \"{mode}\"\n{text}")).unwrap_or_else(|why| panic!("{why}"));
        let added = running.exec("node1", &["sh", "-ec", FOREIGN]);
        assert!(added.status.success(), "{mode}: {}", String::from_utf8_lossy(&added.stderr));
        let verify = program.run(&["verify", &running.name, "--engine", "builtin", "--alpha", "0.000001"]);
        assert!(verify.status.success(), "{mode}: {}", String::from_utf8_lossy(&verify.stdout));
        let left = running.exec("node1", &["sh", "-ec", FOREIGN_LEFT]);
        assert!(left.status.success(), "{mode}: {}", String::from_utf8_lossy(&left.stderr));
        // Where a probe fails, they are told apart from what is missing.
        let broken = running.exec("node1", &["sh", "-c", "ip link set br0 down"]);
        assert!(broken.status.success());
        let verify = program.run(&["verify", &running.name, "--engine", "builtin", "--only", "pods", "-o", "json"]);
        assert_eq!(verify.status.code(), Some(1), "{mode}");
        let report = String::from_utf8_lossy(&verify.stdout);
        assert!(report.contains("is not netlab's"), "{mode}: {report}");
    }
}
