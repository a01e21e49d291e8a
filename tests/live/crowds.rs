//! Many at once: labs, pods, services.

use std::{fmt::Write, sync::Arc};

use crate::{
    support::{Lab, Test, World, call::Calling},
    tests,
};

pub(crate) const TESTS: &[Test] =
    tests![shared: ten_copies_of_one_lab, a_hundred_pods, more_services_than_fit_a_transaction; alone: ];

/// The same addresses, the same names inside, ten times, and no clash.
fn ten_copies_of_one_lab(world: &Arc<World>) {
    let file = world.book("nodeport.toml");
    let names: Vec<String> = (0..10).map(|_| world.name("copy")).collect();
    let ups = names.iter().map(|name| world.netlab(["up", &file.to_string_lossy(), "--name", name]).start());
    all_succeed(ups.collect());
    let labs: Vec<Lab> = names.iter().map(|name| world.found(name.clone())).collect();
    all_succeed(labs.iter().map(|lab| lab.verify().start()).collect());
    all_succeed(names.iter().map(|name| world.netlab(["down", name]).start()).collect());
}

fn all_succeed(calls: Vec<Calling>) {
    for call in calls {
        call.done().with_code(0);
    }
}

fn a_hundred_pods(world: &Arc<World>) {
    let mut text = String::new();
    for node in 1..=4 {
        // Writing to a string cannot fail, here and below.
        let _ = write!(text, "[[node]]\nname = \"node{node}\"\n");
    }
    text.push_str("[[pod]]\nname = \"web\"\nreplicas = 100\nlabels = { app = \"web\" }\n");
    text.push_str("[[service]]\nname = \"shop\"\nselector = { app = \"web\" }\nports = [{ port = 80 }]\n");
    let lab = world.up(&text);
    let names = lab.world.netlab(["get", "pods", "--lab", &lab.name, "-o", "name"]).succeeds();
    assert_eq!(names.stdout.lines().filter(|name| name.starts_with("web-")).count(), 100, "{names}");
    lab.verify().args(["--engine", "builtin"]).succeeds();
    lab.down();
}

/// An nft transaction in a user namespace has room for some 220 services of kube-proxy's rules.
fn more_services_than_fit_a_transaction(world: &Arc<World>) {
    let mut text =
        "[[node]]\nname = \"node1\"\n[[pod]]\nname = \"web\"\nreplicas = 2\nlabels = { app = \"web\" }\n".to_owned();
    for service in 0..300 {
        let _ = write!(
            text,
            "[[service]]\nname = \"s{service}\"\nselector = {{ app = \"web\" }}\nports = [{{ port = 80 }}]\n"
        );
    }
    let lab = world.up(&text);
    let services = lab.world.netlab(["get", "services", "--lab", &lab.name, "-o", "json"]).succeeds();
    let services: serde_json::Value = serde_json::from_str(&services.stdout).expect("it is JSON");
    let last = services["items"]
        .as_array()
        .and_then(|items| items.iter().find(|item| item["name"] == "s299"))
        .unwrap_or_else(|| panic!("no services in {services}"));
    let ip = last["cluster_ip"].as_str().unwrap_or_else(|| panic!("no address in {last}"));
    for place in ["node1", "web-0", "web-1"] {
        lab.exec(place, ["curl", "-sS", "-m", "5", &format!("http://{ip}/")])
            .succeeds()
            .prints("HTTP Server IP address");
    }
    lab.verify().args(["--engine", "builtin", "--samples", "20"]).succeeds();
    lab.down();
}
