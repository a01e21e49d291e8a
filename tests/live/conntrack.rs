//! What conntrack knows: it is listed as the kernel lists it, what is stale is deleted and nothing
//! else, and probes that nobody answered leave nothing in it.

use std::{collections::BTreeSet, env, fs, path::Path, process::ExitCode, sync::Arc};

use netlab::{
    kernel::conntrack::{Conntrack, Which},
    lab,
    proxy::{flow::Transport, stale::Stale, view},
};
use serde_json::Value;

use crate::{
    support::{Lab, Test, User, World, world::book},
    tests,
};

pub(crate) const TESTS: &[Test] = tests![
    shared: a_stale_entry_steers_until_it_is_deleted, listed_as_the_kernel_lists_it, nothing_is_left_of_silence,
    wrong_words;
    alone:
];

/// Where a UDP client always sends from.
const PORT: u16 = 4000;
const VIP: &str = "10.96.1.53";
/// The first word to this program when it is to be a helper inside of a lab.
const DELETE_STALE: &str = "delete-stale";

/// A Service with these pods behind it: `old` and `new` on another node, or nobody.
fn served_by(proxy: &str, served: &str) -> String {
    let label = |name: &str| if name == served { "shop" } else { "closed" };
    let pods = [("old", "node1"), ("new", "node2")].map(|(name, node)| {
        format!(
            r#"
            [[pod]]
            name = "{name}"
            node = "{node}"
            labels = {{ app = "{}" }}
            ports = [{{ container_port = 80 }}, {{ container_port = 80, protocol = "UDP" }}]"#,
            label(name)
        )
    });
    format!(
        r#"
        [cluster]
        proxy = "{proxy}"
        [dns]
        engine = "none"
        [[node]]
        name = "node1"
        [[node]]
        name = "node2"
        {}
        [[pod]]
        name = "client"
        node = "node1"
        [[service]]
        name = "shop"
        type = "NodePort"
        cluster_ip = "{VIP}"
        {}
        ports = [
          {{ name = "http", port = 80, node_port = 30080 }},
          {{ name = "dgram", port = 80, node_port = 30080, protocol = "UDP" }},
        ]"#,
        pods.concat(),
        // A selector must match some pod.
        if served == "nobody" { "endpoints = []" } else { r#"selector = { app = "shop" }"# }
    )
}

/// Who answers the client that always sends from the same port; nobody if the kernel refuses, or
/// there is no answer.
fn answerer(lab: &Lab, place: &str, to: &str) -> String {
    let script = format!(
        "import socket
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.settimeout(0.5)
client.bind(('', {PORT}))
client.connect(('{to}', {}))
try:
    client.send(b'hostname\\n')
    print(client.recv(99).decode())
except OSError:
    print('nobody')",
        if to == VIP { 80 } else { 30080 }
    );
    lab.exec(place, ["python3", "-c", &script]).succeeds().stdout.trim().to_owned()
}

fn load(lab: &Lab, node: &str, proxy: &str, file: &Path) {
    let rules = lab.world.netlab(["rules", node, "-f", &file.to_string_lossy()]).succeeds().stdout;
    let command: &[&str] = if proxy == "nftables" { &["nft", "-f", "-"] } else { &["iptables-restore", "--noflush"] };
    lab.exec(node, command).fed(&rules).succeeds();
}

/// The entries of the one UDP client and of TCP, as `netlab get conntrack` lists them.
fn listed(lab: &Lab, node: &str) -> Vec<Value> {
    let done = lab.world.netlab(["get", "conntrack", node, "--lab", &lab.name, "-o", "json"]).succeeds();
    let listing: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error} in {done}"));
    listing["items"].as_array().expect("a list").clone()
}

fn a_stale_entry_steers_until_it_is_deleted(world: &Arc<World>) {
    let helper = &world.run.helper;
    for proxy in ["iptables", "nftables"] {
        let file = |served: &str| world.file(&format!("{proxy}-{served}.toml"), &served_by(proxy, served));
        let (old, new, nobody) = (file("old"), file("new"), file("nobody"));
        let lab = world.up(&served_by(proxy, "old"));
        let delete_stale = |before: &Path, after: &Path| {
            let words = [helper, Path::new(DELETE_STALE), before, after].map(|word| word.to_string_lossy());
            lab.exec("node1", words).succeeds().stdout.trim().to_owned()
        };
        let vias = [("client", VIP), ("client", "10.30.45.11"), ("node1", "127.0.0.1")];
        // kube-proxy in nftables mode has no node ports on loopback addresses.
        let vias = &vias[..if proxy == "nftables" { 2 } else { 3 }];
        let ask = || vias.iter().map(|(place, to)| answerer(&lab, place, to)).collect::<BTreeSet<_>>();
        let only = |name: &str| BTreeSet::from([name.to_owned()]);
        let all = vias.len().to_string();

        lab.exec("client", ["curl", "-sS", &format!("http://{VIP}/")]).succeeds();
        assert_eq!(ask(), only("old"), "{proxy}");
        // The endpoint is replaced.
        load(&lab, "node1", proxy, &new);
        assert_eq!(ask(), only("old"), "{proxy}: the entries steer whatever the rules say");
        assert_eq!(delete_stale(&old, &new), all, "{proxy}");
        assert_eq!(ask(), only("new"), "{proxy}");
        assert_eq!(delete_stale(&new, &new), "0", "{proxy}: what is right stays");
        let tcp = listed(&lab, "node1").into_iter().filter(|row| row["protocol"] == "tcp");
        let to_vip = tcp.filter(|row| row["original"]["to"] == format!("{VIP}:80")).count();
        assert_eq!(to_vip, 1, "{proxy}: TCP stays, wherever it leads");
        // All endpoints go, and one comes back.
        load(&lab, "node1", proxy, &nobody);
        assert_eq!(ask(), only("new"), "{proxy}: nor is it rejected");
        assert_eq!(delete_stale(&new, &nobody), all, "{proxy}");
        assert_eq!(ask(), only("nobody"), "{proxy}");
        load(&lab, "node1", proxy, &old);
        delete_stale(&nobody, &old);
        assert_eq!(ask(), only("old"), "{proxy}");
    }
}

/// What this program does if it is started as a helper: `delete-stale BEFORE AFTER` deletes what is
/// stale in the conntrack of the namespace it is started in, as if it were that of `node1`.
pub(crate) fn helper() -> Option<ExitCode> {
    let words: Vec<String> = env::args().skip(1).collect();
    let [verb, before, after] = &words[..] else { return None };
    if verb != DELETE_STALE {
        return None;
    }
    let view_in = |file: &str| {
        let lab = lab::load(&fs::read_to_string(file).expect("a lab file")).expect("a good lab");
        view::view(&lab, lab.node_ids().next().expect("a node"))
    };
    let stale = Stale::of(&view_in(before), &view_in(after));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let conntrack = Conntrack::open(runtime.handle()).expect("a socket");
    let deletion = conntrack.delete_if(Which::Of(Transport::Udp), |connection| stale.is_stale(&connection.flow));
    println!("{}", runtime.block_on(deletion).expect("conntrack answers"));
    Some(ExitCode::SUCCESS)
}

fn listed_as_the_kernel_lists_it(world: &Arc<World>) {
    let lab = world.up(&served_by("iptables", "new"));
    lab.exec("client", ["curl", "-sS", &format!("http://{VIP}/")]).succeeds();
    lab.exec("client", ["curl", "-sS", "--max-time", "0.2", &format!("http://{VIP}:81/")]).fails(28);
    assert_eq!(answerer(&lab, "client", VIP), "new");
    let rows = listed(&lab, "node1");
    let text = |row: &Value, path: &str| row.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    let line = |row: &Value| {
        let [protocol, state] = ["/protocol", "/state"].map(|path| text(row, path));
        let [to, goes_to] = ["/original/to", "/reply/from"].map(|path| text(row, path));
        format!("{protocol} {state} {to} {goes_to}")
    };
    let lines: Vec<String> = rows.iter().map(line).collect();
    let new = text(&rows[0], "/reply/from");
    let expected = [
        format!("tcp TIME_WAIT {VIP}:80 {new}"),
        format!("tcp SYN_SENT {VIP}:81 {VIP}:81"),
        format!("udp REPLIED {VIP}:80 {new}"),
    ];
    assert_eq!(lines, expected);
    lab.world
        .netlab(["get", "conntrack", "--lab", &lab.name])
        .succeeds()
        .prints("NODE    PROTO   STATE")
        .prints(&format!("{VIP}:80"))
        .prints("node2");
    if world.user == User::Root {
        // Who is root in a user namespace only may not read it.
        let kernel = lab.exec("node1", ["cat", "/proc/net/nf_conntrack"]).succeeds().stdout;
        let of_kernel: BTreeSet<Vec<String>> = kernel.lines().map(ends).collect();
        let of_netlab = rows.iter().map(|row| {
            let ends = ["/original/from", "/original/to", "/reply/from", "/reply/to"].map(|path| text(row, path));
            ends.to_vec()
        });
        assert_eq!(of_netlab.collect::<BTreeSet<_>>(), of_kernel, "{kernel}");
    }
}

/// The four ends in a line of the kernel's, as `address:port`.
fn ends(line: &str) -> Vec<String> {
    let all =
        |key: &str| line.split_whitespace().filter_map(|it| Some(it.strip_prefix(key)?.to_owned())).collect::<Vec<_>>();
    let [sources, destinations, from, to] = ["src=", "dst=", "sport=", "dport="].map(all);
    (0..sources.len())
        .flat_map(|at| [format!("{}:{}", sources[at], from[at]), format!("{}:{}", destinations[at], to[at])])
        .collect()
}

/// A client that uses the port of such a probe again would be led where the broken rules led it.
fn nothing_is_left_of_silence(world: &Arc<World>) {
    let lab = world.up(&book("nodeport.toml"));
    lab.script("node2", "iptables-save -t nat > /run/rules; iptables -t nat -F").succeeds();
    lab.verify().fails(1);
    for node in ["node1", "node2"] {
        let rows = listed(&lab, node);
        assert!(!rows.is_empty(), "{node} has seen nothing");
        // What the cluster's DNS asks the upstream for itself is no probe's.
        let is_probes = |row: &&Value| row["original"]["to"] != "10.30.45.1:53";
        let silent: Vec<&Value> = rows.iter().filter(|row| row["answered"] == false).filter(is_probes).collect();
        assert!(silent.is_empty(), "left on {node}: {silent:#?}");
    }
    lab.script("node2", "iptables-restore < /run/rules").succeeds();
    lab.verify().succeeds();
}

fn wrong_words(world: &Arc<World>) {
    let lab = world.up(&book("echo.toml"));
    world.netlab(["get", "conntrack", "node9", "--lab", &lab.name]).fails(2).complains("there is no node node9");
    world.netlab(["get", "pods", "node1", "--lab", &lab.name]).fails(2).complains("there is no node1 among the pods");
}
