//! A lab is sabotaged in every way; `diff` names it, `repair` mends it and nothing else, and `verify` is
//! green. Tools are killed while they change the rules.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, sync::Arc};

use serde_json::Value;

use crate::{
    support::{Lab, Test, User, World, call::Call, executable, process::a_moment},
    tests,
};

pub(crate) const TESTS: &[Test] = tests![
    shared: iptables, nftables, ladder, what_others_have_made, what_cannot_be_put_back, a_large_lab,
    a_tool_that_is_killed, a_change_that_is_refused, a_tool_that_cannot_run;
    alone:
];

/// Two nodes, and a Service with an endpoint on each.
fn text(proxy: &str, dns: &str) -> String {
    format!(
        r#"
[cluster]
proxy = "{proxy}"

[dns]
engine = "{dns}"

[[node]]
name = "node1"
ip = "10.30.45.11"
pod_subnet = "192.168.1.0/24"

[[node]]
name = "node2"
ip = "10.30.45.12"
pod_subnet = "192.168.2.0/24"

[[pod]]
name = "web"
node = "node1"
labels = {{ app = "web" }}

[[pod]]
name = "other"
node = "node2"
labels = {{ app = "web" }}

[[pod]]
name = "client"
node = "node2"

[[service]]
name = "shop"
type = "NodePort"
cluster_ip = "10.96.1.1"
selector = {{ app = "web" }}
ports = [{{ port = 80, node_port = 30080 }}]
"#
    )
}

/// Something bad that somebody does to a lab.
struct Sabotage {
    /// Where it is typed.
    place: &'static str,
    /// What is typed.
    command: &'static str,
    /// The namespace that `diff` names.
    netns: &'static str,
    /// What it says of it.
    says: &'static str,
    /// The probes that fail by it, and whose report names it too.
    fails: Option<&'static str>,
}

const fn on_node1(command: &'static str, says: &'static str) -> Sabotage {
    Sabotage { place: "node1", command, netns: "node1", says, fails: None }
}

impl Lab {
    fn diff(&self) -> Call {
        self.world.netlab(["diff", &self.name])
    }

    fn repair(&self, arguments: &[&str]) -> Call {
        self.world.netlab(["repair", &self.name]).args(arguments)
    }

    fn is_right(&self) {
        self.diff().succeeds().prints_exactly(&format!("{}: the kernel has what the lab file says\n", self.name));
    }

    fn suffers(&self, sabotages: &[Sabotage]) {
        for Sabotage { place, command, netns, says, fails } in sabotages {
            self.script(place, command).succeeds();
            let done = self.diff().fails(1);
            let names = |line: &str| line.starts_with(netns) && line.contains(says);
            assert!(done.stdout.lines().any(names), "{command}: nothing about {netns} says {says:?} in {done}");
            if let Some(group) = fails {
                let done = self.verify().args(["--samples", "20", "--only", group, "-o", "json"]).fails(1);
                let report: Value =
                    serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error} in {done}"));
                let causes = report["causes"].as_array().expect("a list");
                let is = |cause: &Value| {
                    cause["netns"] == *netns && cause["text"].as_str().is_some_and(|it| it.contains(says))
                };
                assert!(causes.iter().any(is), "{command} is no cause in {done}");
            }
            self.repair(&["--no-verify"]).succeeds().prints("mended").prints(says);
            self.is_right();
        }
        self.verify().succeeds();
        self.repair(&[]).succeeds().prints("nothing to repair");
    }
}

fn iptables(world: &Arc<World>) {
    let lab = world.up(&text("iptables", "coredns"));
    // A connection that is open all the time, and counters of rules that nobody touches.
    let file = world.file("end", "");
    fs::remove_file(&file).expect("it was just written");
    let talk = format!(
        "exec 3<>/dev/tcp/10.96.1.1/80; echo connected; until [ -e {} ]; do sleep 0.1; done; \
         printf 'GET /hostname HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3",
        file.display()
    );
    let talk = lab.exec("client", ["bash", "-c", &talk]).start();
    let known = || lab.world.netlab(["get", "conntrack", "node2", "--lab", &lab.name]).succeeds().stdout;
    while !known().contains("10.96.1.1:80") {
        a_moment();
    }
    let counter = || {
        let counted = lab.script("node2", "iptables-save -c -t nat | grep -e '-A OUTPUT .*service portals'").succeeds();
        let number = counted.stdout.trim_start_matches('[').split(':').next().and_then(|it| it.parse::<u64>().ok());
        number.unwrap_or_else(|| panic!("no counter in {counted}"))
    };
    lab.script("node2", "curl -sS -m 5 -o /dev/null http://10.96.1.1/").succeeds();
    let count = counter();
    assert!(count > 0);
    lab.script("node2", "iptables -t nat -F KUBE-NODEPORTS").succeeds();
    lab.repair(&["--no-verify"]).succeeds();
    assert!(counter() >= count, "a rule that was right has been loaded again");
    lab.suffers(&[
        on_node1(
            "iptables -t nat -S | grep -e '-j DNAT --to-destination 192.168.1.2:80' | sed s/-A/-D/ | xargs iptables -t nat",
            "-j DNAT --to-destination 192.168.1.2:80` is missing from KUBE-SEP-",
        ),
        on_node1(
            "iptables -t nat -D PREROUTING -m comment --comment 'kubernetes service portals' -j KUBE-SERVICES",
            "-j KUBE-SERVICES` is missing from PREROUTING (table nat)",
        ),
        on_node1(
            "iptables -t nat -I KUBE-SERVICES -d 10.96.1.1/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 192.168.9.9:80",
            "-j DNAT --to-destination 192.168.9.9:80` in KUBE-SERVICES (table nat) is not netlab's",
        ),
        on_node1("iptables -t mangle -X KUBE-PROXY-CANARY", "KUBE-PROXY-CANARY (table mangle) is missing"),
        on_node1("iptables -t nat -F", "rules of the table nat are missing"),
        on_node1("sysctl -qw net.ipv4.ip_forward=0", "net.ipv4.ip_forward is 0, and should be 1"),
        on_node1("sysctl -qw net.ipv4.conf.br0.rp_filter=1", "net.ipv4.conf.br0.rp_filter is 1, and should be 0"),
        on_node1("ip route del 192.168.2.0/24", "the route 192.168.2.0/24 via 10.30.45.12 dev eth0 is missing"),
        on_node1("ip link set br0 down", "the link br0 is down"),
        on_node1("ip link set veth-web nomaster", "the link veth-web is not a port of br0"),
        on_node1("ip link del veth-web", "the link veth-web is missing"),
        on_node1("ip address del 192.168.1.1/24 dev br0", "the address 192.168.1.1/24 of br0 is missing"),
        Sabotage {
            place: "coredns.kube-system",
            // The first time it is started again at once, the second time ten seconds later.
            command: "server() { ss -Hlntp 'sport = :53' | grep -o 'pid=[0-9]*' | cut -d= -f2 | sort -u; }
                first=$(server); kill -9 $first
                while second=$(server); test -z \"$second\" -o \"$second\" = \"$first\"; do :; done
                kill -9 $second; while test -n \"$(server)\"; do :; done",
            netns: "coredns.kube-system",
            says: "the DNS server of coredns.kube-system was ended by SIGKILL",
            fails: None,
        },
    ]);
    fs::write(&file, "").expect("the end can be said");
    talk.done().with_code(0).prints("connected").prints("200");
}

fn nftables(world: &Arc<World>) {
    let lab = world.up(&text("nftables", "embedded"));
    lab.suffers(&[
        Sabotage {
            fails: Some("services"),
            ..on_node1(
                "nft delete element ip kube-proxy service-ips '{ 10.96.1.1 . tcp . 80 }'",
                "the element `10.96.1.1 . tcp . 80",
            )
        },
        on_node1("nft flush chain ip kube-proxy services", "rules of chain services (table ip kube-proxy) are missing"),
        on_node1(
            "nft insert rule ip kube-proxy services ip daddr 10.96.1.1 tcp dport 80 dnat to 192.168.9.9:80",
            "dnat to 192.168.9.9:80` in chain services (table ip kube-proxy) is not netlab's",
        ),
        on_node1("nft flush chain ip kube-proxy masquerading", "of chain masquerading (table ip kube-proxy)"),
        on_node1(
            "nft add element ip kube-proxy cluster-ips '{ 203.0.113.9 }'",
            "the element `203.0.113.9` in set cluster-ips (table ip kube-proxy) is not netlab's",
        ),
        on_node1("nft delete table ip kube-proxy", "rules of the table ip kube-proxy are missing"),
        on_node1("sysctl -qw net.bridge.bridge-nf-call-iptables=0", "bridge-nf-call-iptables is 0, and should be 1"),
        on_node1(
            "ip route add 192.168.2.3/32 via 10.30.45.1",
            "the route 192.168.2.3 via 10.30.45.1 dev eth0 is not netlab's",
        ),
        on_node1("ip address add 10.96.1.1/32 dev lo", "the address 10.96.1.1/32 of lo is not netlab's"),
        Sabotage {
            place: "web",
            command: "echo 'nameserver 192.0.2.1' > /etc/resolv.conf",
            netns: "web",
            says: "/etc/resolv.conf says `nameserver 192.0.2.1`",
            fails: Some("names"),
        },
        Sabotage {
            place: "host",
            command: "ip link set veth-node2 down",
            netns: "host",
            says: "the link veth-node2 is down",
            fails: None,
        },
    ]);
    lab.script("node1", "nft flush map ip kube-proxy service-ips").succeeds();
    lab.diff().args(["-o", "json"]).fails(1).prints("\"kind\": \"rule\"");
    let rehearsed = lab
        .repair(&["--dry-run"])
        .succeeds()
        .prints("nft -f - <<'END'")
        .prints("add element ip kube-proxy service-ips");
    lab.diff().fails(1);
    // What is shown is what is done.
    lab.script("host", &rehearsed.stdout).succeeds();
    lab.is_right();
    lab.script("node1", "nft flush map ip kube-proxy service-ips").succeeds();
    lab.repair(&["--no-verify", "-o", "json"]).succeeds().prints("\"kind\": \"repair\"").prints("\"commands\"");
    let events = lab.world.netlab(["events", "--lab", &lab.name]).succeeds();
    events.prints("Repaired").prints("mended: the link veth-node2 is down");
}

fn ladder(world: &Arc<World>) {
    let lab = world.up(&text("ladder", "none"));
    lab.suffers(&[
        on_node1(
            "iptables -t nat -S | grep -m 1 -e '--comment \"default/shop ClusterIP\"' | sed s/-A/-D/ | xargs iptables -t nat",
            "default/shop ClusterIP",
        ),
        on_node1("iptables -t nat -F", "rules of the table nat are missing"),
        on_node1("sysctl -qw net.ipv4.conf.all.route_localnet=0", "route_localnet is 0, and should be 1"),
    ]);
}

/// Rules, links and routes of others stay; what they do is said, with the command that ends it.
fn what_others_have_made(world: &Arc<World>) {
    let lab = world.up(&text("iptables", "none"));
    let script =
        "iptables -t nat -I PREROUTING -d 10.96.1.1/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 192.168.9.9:80
        nft add table ip mine; nft add chain ip mine c '{ type filter hook forward priority 10; policy accept; }'
        ip link add theirs type veth peer name theirs2; ip address add 203.0.113.9/24 dev theirs; ip link set theirs up
        ip route add 198.51.100.0/24 dev theirs; iptables -t nat -D KUBE-SERVICES 1";
    lab.script("node1", script).succeeds();
    let theirs = "--to-destination 192.168.9.9:80` in PREROUTING (table nat) is not netlab's";
    let done = lab.diff().args(["-o", "wide"]).fails(1).prints(theirs).does_not_print("mine").does_not_print("theirs");
    let line = done.stdout.lines().find(|line| line.contains(theirs)).expect("it was printed");
    let mend = &line[line.find("ip netns exec").expect("a command")..];
    lab.repair(&["--no-verify"]).succeeds().prints("mended").prints("left alone").prints(theirs);
    lab.diff().succeeds().prints(theirs).prints("and what others have made besides");
    lab.script("host", mend).succeeds();
    lab.is_right();
    lab.script("node1", "ip link show theirs && nft list table ip mine && ip route show 198.51.100.0/24 | grep theirs")
        .succeeds();
}

fn what_cannot_be_put_back(world: &Arc<World>) {
    // One endpoint, so that no measurement fails by chance.
    let text = text("iptables", "none").replacen(
        "labels = { app = \"web\" }\n\n[[pod]]\nname = \"client\"",
        "\n[[pod]]\nname = \"client\"",
        1,
    );
    let lab = world.up(&text);
    lab.script("host", "ip netns del client").succeeds();
    lab.diff().fails(1).prints("client").prints("the network namespace client has lost its name");
    lab.repair(&["--no-verify"])
        .fails(1)
        .complains("a namespace that was lost cannot be put back")
        .complains("netlab delete client, and then netlab apply");
    // What it says helps.
    lab.world.netlab(["delete", "client", "--lab", &lab.name]).succeeds();
    let file = lab.world.file("again.toml", &text);
    lab.world.netlab(["apply", &file.to_string_lossy(), "--lab", &lab.name]).succeeds();
    lab.is_right();
    // Afterwards it verifies, and what comes of that is what comes of it.
    lab.script("node1", "ip route del 192.168.2.0/24").succeeds();
    lab.repair(&[]).succeeds().prints("1 difference mended").prints("probes");
    lab.script("node1", "ip route del 192.168.2.0/24; iptables -I FORWARD -s 192.168.1.0/24 -j DROP").succeeds();
    lab.repair(&[]).fails(1).prints("1 difference mended").prints("left alone").prints("cause");
}

/// So many rules that nft does not take them in one piece from everybody: iptables-legacy does.
fn a_large_lab(world: &Arc<World>) {
    let mut text = text("iptables", "none");
    for number in 0..40 {
        text.push_str(&format!(
            "\n[[service]]\nname = \"s{number}\"\ntype = \"NodePort\"\nselector = {{ app = \"web\" }}\nports = [{{ port = 80 }}]\n"
        ));
    }
    // Not every kernel lets it see which tables there are.
    let directory = wrapper(world, "iptables-legacy-save", &[]);
    let tool = directory.join("iptables-legacy-save");
    let real = fs::read_to_string(&tool).expect("it was written");
    let refusing = "case \"$*\" in *-t*) ;; *) echo 'Failed to list table names' >&2; exit 1 ;; esac";
    let refusing = real.replace("\nreal \"$@\"", &format!("\n{refusing}\nreal \"$@\""));
    assert_ne!(real, refusing);
    fs::write(&tool, refusing).expect("it can be written");
    let lab = up_with(world, &directory, &text);
    if world.user != User::Root {
        lab.script("node1", "PATH=$PATH:/usr/sbin; iptables-legacy-save -t nat | grep -q KUBE-SVC-").succeeds();
    }
    lab.is_right();
    let chain =
        "for tool in iptables-legacy iptables-nft; do $tool -t nat -F KUBE-SERVICES 2>&1 && break || true; done";
    lab.script("node1", &format!("PATH=$PATH:/usr/sbin; {chain}")).succeeds();
    lab.diff().fails(1).prints("rules of KUBE-SERVICES (table nat) are missing");
    lab.repair(&["--no-verify"]).succeeds().prints("mended");
    lab.is_right();
    lab.exec("client", ["curl", "-sS", "-m", "5", "http://10.96.1.1/hostname"]).succeeds();
}

/// A tool in front of the real one, which does what `case` says once a file is there, and takes the file
/// away.
fn wrapper(world: &World, tool: &str, cases: &[(&str, &str)]) -> PathBuf {
    let directory = world.file(&format!("{tool}-wrapped"), "");
    fs::remove_file(&directory).expect("it was just written");
    fs::create_dir(&directory).expect("a directory can be made");
    let cases: String = cases
        .iter()
        .map(|(file, case)| {
            let file = directory.join(file);
            // Of several that come at once, one gets it.
            format!("if mv {0} {0}.$$ 2>/dev/null; then {case}; fi\n", file.display())
        })
        .collect();
    let path = directory.join(tool);
    let real = "real() { PATH=/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin TOOL \"$@\"; }";
    executable::script(&path, &format!("#!/bin/sh\n{}\n{cases}real \"$@\"\n", real.replace("TOOL", tool)));
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).expect("the directory is ours");
    directory
}

/// A lab whose agent finds programs in this directory first.
fn up_with(world: &Arc<World>, directory: &std::path::Path, text: &str) -> Lab {
    let (name, file) = (world.name("wrapped"), world.file("wrapped.toml", text));
    let mut call = world.netlab(["up", &file.to_string_lossy(), "--name", &name]);
    let path = format!("{}:{}:/usr/local/bin:/usr/bin:/bin", directory.display(), world.run.programs().display());
    call.command.env("PATH", path);
    call.succeeds();
    world.found(name)
}

fn a_tool_that_is_killed(world: &Arc<World>) {
    let tool = "iptables-restore";
    let directory = wrapper(world, tool, &[("before", "kill -9 $$"), ("after", "real \"$@\"; kill -9 $$")]);
    let lab = up_with(world, &directory, &text("iptables", "none"));
    for (moment, pod, ready, found) in [
        ("before", "web", "false", "what was missing of its new rules is there now"),
        ("after", "web", "true", "the kernel had all of its new rules already"),
    ] {
        fs::write(directory.join(moment), "").expect("a file can be written");
        lab.world.netlab(["ready", &format!("{pod}={ready}"), "--lab", &lab.name]).succeeds();
        assert!(!directory.join(moment).exists(), "nobody was killed");
        let events = lab.world.netlab(["events", "--lab", &lab.name]).succeeds();
        events.prints(&format!("{tool} was ended by SIGKILL while it was at the rules")).prints(found);
        lab.is_right();
    }
    lab.verify().args(["--samples", "20"]).succeeds();
    // One that dies whenever it is started cannot change anything, and says so.
    let always = directory.join(tool);
    let script = fs::read_to_string(&always).expect("it was written");
    executable::script(&always, "#!/bin/sh\nkill -9 $$\n");
    lab.world.netlab(["ready", "web=false", "--lab", &lab.name]).fails(4).complains("was ended by SIGKILL");
    executable::script(&always, &script);
    lab.is_right();
    lab.down();
}

/// Rules of nftables change without the tool. Where the kernel does not take a change, because somebody
/// has taken away what it is about, the tool is asked what is there.
fn a_change_that_is_refused(world: &Arc<World>) {
    let directory = wrapper(world, "nft", &[("before", "kill -9 $$")]);
    let lab = up_with(world, &directory, &text("nftables", "none"));
    let nft = directory.join("nft");
    let script = fs::read_to_string(&nft).expect("it was written");
    executable::script(&nft, "#!/bin/sh\nkill -9 $$\n");
    lab.world.netlab(["ready", "web=false", "--lab", &lab.name]).succeeds();
    executable::script(&nft, &script);
    lab.is_right();
    lab.script("node1", "PATH=$PATH:/usr/sbin; nft delete table ip kube-proxy").succeeds();
    lab.world.netlab(["ready", "web=true", "--lab", &lab.name]).succeeds();
    let events = lab.world.netlab(["events", "--lab", &lab.name]).succeeds();
    let events = events.prints("the kernel refused the rules: No such file or directory: ");
    events.prints("what was missing of its new rules is there now");
    lab.is_right();
    // The tool dies over the question.
    lab.script("node1", "PATH=/usr/sbin:$PATH; nft delete table ip kube-proxy").succeeds();
    executable::script(&nft, "#!/bin/sh\nkill -9 $$\n");
    lab.world.netlab(["ready", "web=false", "--lab", &lab.name]).fails(4).complains("was ended by SIGKILL");
    executable::script(&nft, &script);
    lab.repair(&["--no-verify"]).succeeds();
    lab.is_right();
    lab.down();
}

fn a_tool_that_cannot_run(world: &Arc<World>) {
    let directory = wrapper(world, "iptables-restore", &[]);
    let text = text("iptables", "none");
    let lab = up_with(world, &directory, &text);
    let tool = directory.join("iptables-restore");
    let script = fs::read_to_string(&tool).expect("it was written");
    executable::script(&tool, "#!/nonexistent/interpreter\n");
    let before = lab.script("node1", "iptables-save | grep -v '^[#:]'; ip route; ip -br link").succeeds().stdout;
    let more = "[[pod]]\nname = \"more\"\nlabels = { app = \"web\" }\n";
    let file = lab.world.file("more.toml", &format!("{text}\n{more}"));
    lab.world.netlab(["apply", &file.to_string_lossy(), "--lab", &lab.name]).fails(4).complains("cannot start");
    executable::script(&tool, &script);
    let after = lab.script("node1", "iptables-save | grep -v '^[#:]'; ip route; ip -br link").succeeds().stdout;
    assert_eq!(before, after, "the lab is what it was");
    lab.is_right();
    lab.world.netlab(["get", "pods", "--lab", &lab.name]).succeeds().does_not_print("more");
    lab.world.netlab(["apply", &file.to_string_lossy(), "--lab", &lab.name]).succeeds();
    lab.is_right();
}
