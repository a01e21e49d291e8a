//! Many at once: labs, pods, services.

use std::{fmt::Write, sync::Arc};

use crate::{
    support::{Lab, Test, World, call::Calling},
    tests,
};

pub(crate) const TESTS: &[Test] = tests![shared: ten_copies_of_one_lab, a_hundred_pods, more_services_than_fit_a_transaction, more_services_than_fit_an_environment; alone: ];

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

/// The kernel passes a quarter of the stack's limit to a program: with 1 MiB of stack and long names, 200
/// Services are too many for that, as 10,000 are with the usual 8 MiB.
fn more_services_than_fit_an_environment(world: &Arc<World>) {
    const LITTLE: &str = r#"ulimit -s 1024; exec "$@""#;
    let mut text = r#"
[[pod]]
name = "web"
command = ["sh", "-c", "env; exec sleep 1000"]
env = { OWN = "yes" }
[[pod]]
name = "plain"
readiness = { exec = ["true"], period = "1s" }
[[pod]]
name = "silent"
enable_service_links = false
[[probe]]
name = "a program runs"
from = "plain"
exec = ["true"]
"#
    .to_owned();
    for service in 0..200 {
        let _ = writeln!(
            text,
            "[[service]]\nname = \"s{service:x<50}\"\nendpoints = []\nports = [{{ name = \"http\", port = 80 }}]"
        );
    }
    let (file, name) = (world.file("links.toml", &text), world.name("links"));
    let program = world.netlab_path().to_string_lossy();
    let up = ["-ec", LITTLE, "sh", &program, "up", &file.to_string_lossy(), "--name", &name];
    world.program("sh").args(up).succeeds();
    let lab = world.found(name.clone());
    let log = world.netlab(["logs", "web", "--lab", &name]).succeeds().prints("OWN=yes\n").prints("HOSTNAME=web\n");
    log.does_not_print("_SERVICE_HOST");
    let told = world.netlab(["events", "--lab", &name]).succeeds();
    assert_eq!(told.stdout.matches("NoServiceLinks").count(), 2, "{told}");
    told.prints("pod/web ").prints("pod/plain ").does_not_print("pod/silent  NoServiceLinks");
    lab.verify().args(["--only", "yours"]).succeeds();
    let exec = ["exec", "--lab", &name, "plain", "--", "sh", "-c", "env | grep -c _SERVICE_HOST; hostname"];
    let little = ["-ec", LITTLE, "sh", &program];
    let done =
        world.program("sh").args(little).args(exec).succeeds().complains("variables about Services are left out");
    done.prints_exactly("0\nplain\n");
    // With the stack that is usual, there is room for them.
    let usual = lab.exec("plain", ["sh", "-c", "env | grep -c _SERVICE_HOST"]).succeeds().prints_exactly("200\n");
    assert_eq!(usual.stderr, "");
    lab.down();
}
