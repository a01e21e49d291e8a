//! The labs in `labs/` and what becomes of them.

use std::{fs, path::Path};

use netlab::{
    diag::Colour,
    lab::{load, model::Lab},
};

fn lab(file: &str) -> Lab {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("labs").join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    load(&text).unwrap_or_else(|problems| panic!("{}", problems.render(file, &text, Colour::Off)))
}

fn pods(lab: &Lab) -> Vec<String> {
    let own = lab.pods.iter().filter(|pod| !pod.serves_dns());
    own.map(|pod| format!("{} {} {}", pod.full_name(), lab.node(pod.node).name, pod.ip)).collect()
}

#[test]
fn minimal_is_all_defaults() {
    let lab = lab("minimal.toml");
    assert_eq!(lab.name.as_str(), "lab");
    assert_eq!(lab.cluster.node_subnet.to_string(), "10.30.45.0/24");
    assert_eq!(lab.cluster.gateway.to_string(), "10.30.45.1");
    assert_eq!(lab.cluster.cluster_cidr.to_string(), "10.244.0.0/16");
    let nodes: Vec<String> =
        lab.nodes.iter().map(|n| format!("{} {} {} {}", n.name, n.ip, n.pod_subnet, n.pod_gateway)).collect();
    assert_eq!(nodes, ["node1 10.30.45.11 10.244.0.0/24 10.244.0.1", "node2 10.30.45.12 10.244.1.0/24 10.244.1.1"]);
    assert_eq!(pods(&lab), ["web-0 node1 10.244.0.2", "web-1 node2 10.244.1.2", "web-2 node1 10.244.0.3"]);
    assert_eq!(lab.services[0].cluster_ip.map(|ip| ip.to_string()).as_deref(), Some("10.96.1.1"));
}

#[test]
fn the_lessons_labs_have_the_lessons_addresses() {
    for file in ["nodeport.toml", "clusterip.toml", "echo.toml"] {
        let lab = lab(file);
        assert_eq!(Some(lab.name.as_str()), file.strip_suffix(".toml"));
        assert_eq!(lab.cluster.cluster_cidr.to_string(), "192.168.0.0/22", "{file}");
        let expected = ["pod1a node1 192.168.1.10", "pod1b node1 192.168.1.20", "pod2 node2 192.168.2.20"];
        assert_eq!(pods(&lab), expected, "{file}");
        let service = &lab.services[0];
        assert_eq!(service.cluster_ip.map(|ip| ip.to_string()).as_deref(), Some("10.96.1.100"), "{file}");
        assert_eq!(service.ports[0].node_port, (file != "clusterip.toml").then_some(30080), "{file}");
        let ip = if file == "clusterip.toml" { "10.96.1.100" } else { "10.30.45.100" };
        assert_eq!(lab.probes[0].asks.address().map(|ip| ip.to_string()).as_deref(), Some(ip), "{file}");
    }
}
