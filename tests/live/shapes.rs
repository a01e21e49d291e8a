//! Labs of other shapes than the book's: they come up, pass, and go down.

use std::sync::Arc;

use crate::{
    support::{Test, World, world::book},
    tests,
};

pub(crate) const TESTS: &[Test] = tests![
    shared: routed_nodes, bridged_and_routed_nodes, the_ladder, a_name_of_63_characters, udp_and_several_ports,
    one_node_one_pod, nothing_but_a_pod, service_without_endpoints, from_standard_input, each_stage_alone;
    alone:
];

fn passes(world: &Arc<World>, text: &str) {
    let lab = world.up(text);
    lab.verify().succeeds();
    lab.down();
}

fn changed(from: &str, to: &str) -> String {
    let text = book("nodeport.toml");
    let changed = text.replace(from, to);
    assert_ne!(text, changed, "there is no {from:?} in the lab");
    changed
}

fn routed_nodes(world: &Arc<World>) {
    passes(world, &changed("[[node]]\n", "[[node]]\nattach = \"routed\"\n"));
}

fn bridged_and_routed_nodes(world: &Arc<World>) {
    passes(world, &changed("name = \"node2\"\n", "name = \"node2\"\nattach = \"routed\"\n"));
}

fn the_ladder(world: &Arc<World>) {
    passes(world, &changed("[cluster]\n", "[cluster]\nproxy = \"ladder\"\n"));
}

fn a_name_of_63_characters(world: &Arc<World>) {
    let file = world.book("echo.toml");
    let mut name = world.name("long");
    name.extend(std::iter::repeat_n('x', 63 - name.len()));
    world.netlab(["up", &file.to_string_lossy(), "--name", &name]).succeeds();
    let lab = world.found(name);
    lab.exec("host", ["hostname"]).succeeds().prints_exactly(&format!("{}\n", lab.name));
    lab.down();
}

fn udp_and_several_ports(world: &Arc<World>) {
    passes(
        world,
        r#"
        [[pod]]
        name = "web"
        replicas = 2
        labels = { app = "web" }
        containers = [
            { name = "one", ports = [{ name = "http", container_port = 80 }, { name = "udp", container_port = 53, protocol = "UDP" }] },
            { name = "two", server = "python", ports = [{ name = "admin", container_port = 8080 }] },
        ]
        [[service]]
        name = "shop"
        type = "NodePort"
        selector = { app = "web" }
        ports = [
            { name = "web", port = 80, target_port = "http" },
            { name = "admin", port = 81, target_port = "admin" },
            { name = "dns", port = 53, target_port = "udp", protocol = "UDP" },
        ]
        "#,
    );
}

fn one_node_one_pod(world: &Arc<World>) {
    passes(
        world,
        r#"
        [[node]]
        name = "node1"
        [[pod]]
        name = "web"
        labels = { app = "web" }
        [[service]]
        name = "shop"
        type = "NodePort"
        selector = { app = "web" }
        ports = [{ port = 80 }]
        "#,
    );
}

fn nothing_but_a_pod(world: &Arc<World>) {
    passes(world, "[[pod]]\nname = \"web\"\n");
}

/// Nobody is behind it: refused, and not a timeout.
fn service_without_endpoints(world: &Arc<World>) {
    let text = "[[pod]]\nname = \"web\"\n[[service]]\nname = \"shop\"\ncluster_ip = \"10.96.0.77\"\nendpoints = []\nports = [{ port = 80 }]\n";
    let lab = world.up(text);
    for place in ["node1", "node2", "web"] {
        lab.exec(place, ["curl", "-sS", "-m", "3", "http://10.96.0.77/"]).fails(7).complains("onnect");
    }
    lab.verify().succeeds();
}

fn from_standard_input(world: &Arc<World>) {
    let name = world.name("stdin");
    world.netlab(["up", "-", "--name", &name]).fed(&book("echo.toml")).succeeds();
    let lab = world.found(name);
    lab.exec("pod1a", ["true"]).succeeds();
    lab.down();
}

/// A lab that is built half-way can be looked at, and goes down as others do.
fn each_stage_alone(world: &Arc<World>) {
    let file = world.book("nodeport.toml");
    let rules = |stage: &str| {
        let name = world.name("stage");
        world.netlab(["up", &file.to_string_lossy(), "--name", &name, "--stage", stage]).succeeds();
        let lab = world.found(name);
        let done = lab
            .script("node1", "iptables-save -t nat | grep -c KUBE-SVC || true; ip route | grep -c via || true")
            .succeeds();
        lab.down();
        done.stdout
    };
    assert_eq!(rules("addresses"), "0\n0\n");
    assert_eq!(rules("default-routes"), "0\n2\n");
    assert_ne!(rules("rules"), "0\n2\n");
}
