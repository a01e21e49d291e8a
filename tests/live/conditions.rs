//! Pods that are not ready, or are being deleted: they run, and Services know.

use std::sync::Arc;

use crate::{
    support::{Test, World, world::book},
    tests,
};

pub(crate) const TESTS: &[Test] = tests![
    shared: every_proxy_leaves_them_out, they_are_listed, the_ladder_refuses_nobody, balancers_ask_for_ready_pods;
    alone:
];

fn every_proxy_leaves_them_out(world: &Arc<World>) {
    for proxy in ["iptables", "nftables", "ladder"] {
        let text = format!("{}\n[cluster]\nproxy = \"{proxy}\"\n", book("readiness.toml"));
        let lab = world.up(&text);
        let (report, done) = lab.report();
        let done = done.with_code(0);
        let probes = report["probes"].as_array().expect("a list");
        let why = |id: &str| {
            let probe = probes.iter().find(|probe| probe["id"] == id).unwrap_or_else(|| panic!("no {id} in {done}"));
            probe["why"].as_str().unwrap_or_default()
        };
        for (id, says) in [
            ("pods/client/pod/web-2:80", "not ready takes it out of Services, and it runs all the same"),
            ("pods/client/pod/old-2:80", "being deleted takes it out of Services"),
            ("services/node1/cluster-ip/web:80", "pods that are not ready or are being deleted are left out"),
            ("services/node1/cluster-ip/old:80", "those that are being deleted and still serve stand in"),
            ("services/node1/cluster-ip/peers:80", "publishNotReadyAddresses lets pods count as ready"),
        ] {
            assert!(why(id).contains(says), "{proxy}: {id} is so because {}", why(id));
        }
        lab.down();
    }
}

fn they_are_listed(world: &Arc<World>) {
    let lab = world.up(&book("readiness.toml"));
    let get = |what: &str, form: &str| world.netlab(["get", what, "-l", &lab.name, "-o", form]).succeeds();
    let pods = get("pods", "table").stdout;
    let columns: Vec<Vec<&str>> = pods.lines().map(|line| line.split_whitespace().take(3).collect()).collect();
    for row in [
        ["web-1", "1/1", "Running"],
        ["web-2", "0/1", "Running"],
        ["web-3", "1/1", "Terminating"],
        ["old-2", "0/1", "Terminating"],
    ] {
        assert!(columns.iter().any(|columns| *columns == row), "{row:?} is not in\n{pods}");
    }
    get("endpoints", "wide").prints("10.244.0.2:80 (ready serving), 10.244.1.2:80 (not ready), 10.244.1.3:80 (serving");
    let json: serde_json::Value = serde_json::from_str(&get("endpoints", "json").stdout).expect("it is JSON");
    let old = &json["items"][1];
    assert_eq!(old["endpoints"], serde_json::json!([]), "none is ready");
    let conditions: Vec<String> = old["conditions"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|it| format!("{} {} {} {}", it["pod"], it["ready"], it["serving"], it["terminating"]))
        .collect();
    assert_eq!(conditions, ["\"old-1\" false true true", "\"old-2\" false false true"]);
}

/// A Service without a usable endpoint refuses, which takes a rule that the ladder does not have.
fn the_ladder_refuses_nobody(world: &Arc<World>) {
    let text = "[cluster]\nproxy = \"ladder\"\n[[pod]]\nname = \"web\"\nready = false\nlabels = { app = \"web\" }\n\
                [[service]]\nname = \"web\"\nselector = { app = \"web\" }\nports = [{ port = 80 }]\n";
    let file = world.file("nobody", text);
    let file = file.to_string_lossy();
    world.netlab(["up", &file]).fails(2).complains("the ladder proxy cannot express that a Service without endpoints");
    let _up = world.up(&text.replace("ready = false", "terminating = true"));
}

/// A node whose only pod is being deleted gets nothing any more from a load balancer, of whichever kind.
fn balancers_ask_for_ready_pods(world: &Arc<World>) {
    let text = book("load-balancer.toml").replace("name = \"api-2\"", "name = \"api-2\"\nterminating = true");
    // HAProxy does not pass on the client's own address, for which the last probe asks.
    let (text, _) = text.rsplit_once("[[probe]]").expect("the lab has probes");
    for engine in ["builtin", "haproxy"] {
        let lab = world.up(&text.replace("engine = \"builtin\"", &format!("engine = \"{engine}\"")));
        lab.verify().args(["--samples", "100"]).succeeds().prints("probes passed");
        let seen =
            lab.script("laptop", "for i in $(seq 20); do curl -sS -m 5 http://203.0.113.20/hostname; echo; done");
        assert!(seen.succeeds().stdout.split_whitespace().all(|pod| pod == "api-1"), "{engine}");
        // Whoever comes by another way is served there.
        let node_port = ["curl", "-sS", "-m", "5", "http://10.30.45.12:30087/hostname"];
        lab.exec("laptop", node_port).succeeds().prints_exactly("api-2");
        lab.down();
    }
}
