//! Commands in the places of a lab: `exec`, `shell`, `logs`, and netlab inside of them.

use std::{fs, io::Write, sync::Arc, thread};

use nix::{sys::stat::Mode, unistd::mkfifo};

use crate::{
    support::{Test, World, executable, world::book},
    tests,
};

pub(crate) const TESTS: &[Test] = tests![
    shared: streams_and_exit_codes_pass_through, places_that_are_not_there, programs_that_are_not_there, the_way_in_while_the_lab_changes,
    a_place_has_its_own_view, netlab_inside_a_lab, shells_are_shells, logs_are_printed, followed_logs_end_with_the_lab,
    commands_end_with_the_lab;
    alone:
];

fn streams_and_exit_codes_pass_through(world: &Arc<World>) {
    let lab = world.up(&book("minimal.toml"));
    for place in ["host", "node1", "web-0"] {
        lab.exec(place, ["cat"]).fed("hi\n").succeeds().prints_exactly("hi\n");
        lab.script(place, "echo no >&2; exit 9").fails(9).complains("no\n");
        lab.script(place, "kill -TERM $$").fails(128 + 15);
    }
}

fn places_that_are_not_there(world: &Arc<World>) {
    let lab = world.up(&book("minimal.toml"));
    for place in ["nowhere", "", "../host", "web", "Node1", "node1\n"] {
        lab.exec(place, ["true"]).fails(2).complains("in this lab");
    }
}

fn programs_that_are_not_there(world: &Arc<World>) {
    let lab = world.up(&book("minimal.toml"));
    lab.exec("web-0", ["no-such-program"]).fails(2).complains("there is no program no-such-program");
    lab.exec("web-0", ["/etc/passwd"]).fails(2).complains("cannot run /etc/passwd: Permission denied");
    let script = world.file("script", "");
    executable::script(&script, "#!/no/such/interpreter\n");
    let script = script.to_string_lossy();
    lab.exec("web-0", [&*script]).fails(4).complains(&format!("cannot run {script}: No such file or directory"));
}

/// A machine that is no node has a file of its own; a change of the lab must not take it away from those who
/// are in, or on their way in.
fn the_way_in_while_the_lab_changes(world: &Arc<World>) {
    let text = format!("{}\n[[client]]\nname = \"laptop\"\nip = \"192.0.2.10/24\"\n", book("minimal.toml"));
    let lab = world.up(&text);
    let (changes, name) = (Arc::clone(world), lab.name.clone());
    let changing = thread::spawn(move || {
        for nth in 0..40 {
            let ready = format!("web-0={}", nth % 2 == 1);
            changes.netlab(["ready", &ready, "--lab", &name]).succeeds();
        }
    });
    while !changing.is_finished() {
        lab.exec("laptop", ["cat", "/etc/resolv.conf"]).succeeds().prints_exactly("nameserver 192.0.2.1\n");
    }
    changing.join().expect("it does not panic");
    // The shell says when it is in by reading what it is given through a pipe.
    let pipe = world.file("pipe", "");
    fs::remove_file(&pipe).expect("it was just written");
    mkfifo(&pipe, Mode::from_bits_truncate(0o666)).expect("a pipe can be made");
    let told = "read -r _ <$0; timeout 20 sh -c 'until grep -q \"no DNS\" /etc/resolv.conf; do sleep 0.01; done'";
    let inside = lab.exec("laptop", ["sh", "-c", told, &pipe.to_string_lossy()]).start();
    let mut pipe = fs::OpenOptions::new().write(true).open(pipe).expect("the shell reads it");
    lab.apply(&format!("[dns]\nengine = \"none\"\n{text}")).succeeds();
    writeln!(pipe).expect("the shell reads it");
    inside.done().with_code(0);
}

fn a_place_has_its_own_view(world: &Arc<World>) {
    let lab = world.up(&book("nodeport.toml"));
    lab.exec("pod1a", ["hostname"]).succeeds().prints_exactly("pod1a\n");
    lab.exec("node2", ["hostname"]).succeeds().prints_exactly("node2\n");
    lab.exec("host", ["hostname"]).succeeds().prints_exactly(&format!("{}\n", lab.name));
    lab.exec("pod1a", ["cat", "/etc/hosts"]).succeeds().prints("192.168.1.10\tpod1a");
    lab.exec("pod1a", ["ls", "/sys/class/net"]).succeeds().prints_exactly("eth0\nlo\n");
    lab.exec("node1", ["ls", "/sys/class/net"]).succeeds().prints("br0\n");
    lab.script("host", "ip netns list | cut -d' ' -f1 | sort | xargs")
        .succeeds()
        .prints_exactly("coredns.kube-system host laptop node1 node2 pod1a pod1b pod2\n");
    lab.script("host", "ip netns exec pod2 hostname -I").succeeds().prints("192.168.2.20");
}

fn netlab_inside_a_lab(world: &Arc<World>) {
    let lab = world.up(&book("nodeport.toml"));
    let netlab = world.netlab_path().to_string_lossy();
    lab.exec("host", [&*netlab, "ls", "-o", "name"]).succeeds().prints_exactly(&format!("{}\n", lab.name));
    lab.exec("host", [&*netlab, "exec", "pod1a", "--", "hostname"]).succeeds().prints_exactly("pod1a\n");
    lab.exec("node1", [&*netlab, "get", "nodes", "-o", "name"]).succeeds().prints("node1\nnode2\n");
    lab.exec("pod1a", [&*netlab, "exec", "node2", "--", "curl", "-sS", "http://10.96.1.100:8080/"])
        .succeeds()
        .prints("HTTP Server IP address: 192.168.");
}

fn shells_are_shells(world: &Arc<World>) {
    let lab = world.up(&book("minimal.toml"));
    let shell = |who: &[&str]| world.netlab(["shell", "--lab", &lab.name]).args(who);
    shell(&[]).fed("ip netns exec web-1 hostname -I; exit 3\n").fails(3).prints("10.244.1.2");
    shell(&["web-0"]).fed("hostname\n").succeeds().prints_exactly("web-0\n");
}

fn logs_are_printed(world: &Arc<World>) {
    let text = r#"
        [[pod]]
        name = "talker"
        command = ["sh", "-c", "echo first; echo second >&2; exec sleep 1000"]
        [[pod]]
        name = "silent"
        "#;
    let lab = world.up(text);
    // The server has no port that could be waited for.
    let follow = world.netlab(["logs", "talker", "--lab", &lab.name, "--follow"]).start();
    let logs = |pod: &str| world.netlab(["logs", pod, "--lab", &lab.name]);
    logs("silent").fails(2).complains("silent has no log: its server is built in");
    logs("nobody").fails(2).complains("there is no pod nobody");
    logs("agent").succeeds();
    world.netlab(["down", &lab.name]).succeeds();
    follow.done().with_code(0).prints_exactly("first\nsecond\n");
}

fn followed_logs_end_with_the_lab(world: &Arc<World>) {
    let lab = world.up(&book("nodeport.toml"));
    let follow = world.netlab(["logs", "pod1a", "--lab", &lab.name, "-f"]).start();
    lab.exec("pod1b", ["curl", "-sS", "http://192.168.1.10/a-page"]).succeeds();
    lab.agent().kill();
    let done = follow.done().with_code(0);
    assert!(done.stdout.is_empty() || done.stdout.contains("/a-page"), "{done}");
}

fn commands_end_with_the_lab(world: &Arc<World>) {
    let lab = world.up(&book("minimal.toml"));
    let sleeping = lab.exec("web-0", ["sleep", "1000"]).start();
    // Not before it sleeps: one that comes too late is refused, which is another story.
    while !world.processes().iter().any(|process| process.arguments == ["sleep", "1000"]) {
        crate::support::process::a_moment();
    }
    world.netlab(["down", &lab.name]).succeeds();
    sleeping.done().with_code(128 + 9);
}
