//! Changes of rules on this kernel: after each, the rules are those of a fresh load, and what did
//! not change was not touched; what was broken is repaired; and a node changes its proxy mode
//! while clients talk through it.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Stdio},
    sync::Arc,
};

use netlab::{
    lab::{
        load,
        model::{NodeId, ProxyMode},
    },
    proxy::{
        nfnetlink::Batch,
        render,
        sync::{first, removal, repair, transaction},
        view::view,
    },
};

use crate::{
    change::Changing,
    dump::Dump,
    support::{Test, User, World},
    tests,
};

pub(crate) const TESTS: &[Test] = tests![
    shared: nftables, nftables_by_netlink, iptables, iptables_legacy, ladder, ladder_legacy, another_mode_under_traffic;
    alone:
];

/// How many changes each test makes.
const CHANGES: usize = 8;

/// A tool that loads rules and prints them.
#[derive(Debug, Clone, Copy)]
struct Tool {
    mode: ProxyMode,
    /// Reads a transaction.
    load: &'static str,
    /// Prints all rules.
    save: &'static str,
    /// Prints all rules with what tells a rule from one that was written again.
    identify: &'static str,
    /// Makes rules of others, before ours are loaded.
    foreign: &'static str,
    /// The same, after that.
    foreign_too: &'static str,
    /// What breaks the rules: commands of a shell.
    damages: &'static [&'static str],
}

const NFT: Tool = Tool {
    mode: ProxyMode::Nftables,
    load: "nft -f -",
    save: "nft -s list ruleset",
    identify: "nft -s -a list ruleset",
    foreign: "nft add table inet theirs && nft add chain inet theirs c",
    foreign_too: "nft add rule inet theirs c accept",
    damages: &[
        "nft flush chain ip kube-proxy services",
        "nft insert rule ip kube-proxy nat-prerouting counter",
        "nft flush map ip kube-proxy service-ips && nft flush set ip kube-proxy nodeport-ips",
        "nft add chain ip kube-proxy local-B-a/b && nft add rule ip kube-proxy local-B-a/b drop",
        "nft add element ip kube-proxy cluster-ips { 9.9.9.9 } && nft delete table ip netlab",
        "nft delete table ip kube-proxy",
        "nft add chain ip netlab host-ports && nft flush chain ip netlab postrouting",
    ],
};
const IPTABLES: Tool = Tool {
    mode: ProxyMode::Iptables,
    load: "iptables-nft-restore --noflush",
    // Which tables there are is not for everybody to know, where they are iptables-legacy's.
    save: "for table in mangle filter nat; do iptables-nft-save -t $table; done",
    identify: "for table in mangle filter nat; do iptables-nft-save -c -t $table; done",
    foreign: "iptables-nft -t nat -N THEIRS; for chain in PREROUTING OUTPUT POSTROUTING; do \
              iptables-nft -t nat -A $chain -m comment --comment theirs -j THEIRS; done",
    foreign_too: "for chain in PREROUTING OUTPUT POSTROUTING; do \
                  iptables-nft -t nat -A $chain -m comment --comment theirs -j RETURN; done",
    damages: &[
        "iptables-nft -t nat -F KUBE-SERVICES",
        "iptables-nft -t nat -I KUBE-SERVICES -j ACCEPT",
        "iptables-nft -t nat -D PREROUTING $(number PREROUTING)",
        "iptables-nft -F FORWARD",
        "iptables-nft -t nat -N KUBE-SVC-STALE && iptables-nft -t nat -I OUTPUT -j KUBE-SVC-STALE",
        "iptables-nft -t nat -D POSTROUTING $(number POSTROUTING) && iptables-nft -t mangle -X KUBE-PROXY-CANARY",
        "iptables-nft -t nat -A POSTROUTING -m comment --comment theirs -j RETURN",
    ],
};
const LADDER: Tool = Tool {
    mode: ProxyMode::Ladder,
    damages: &[
        "iptables-nft -t nat -D POSTROUTING $(number POSTROUTING)",
        "iptables-nft -t nat -I POSTROUTING -m comment --comment 'rule 9: old' -j ACCEPT",
        "at=$(number POSTROUTING) && \
         rule=$(iptables-nft-save -t nat | grep '^-A POSTROUTING' | sed -n \"s/^-A //; ${at}p\") && \
         iptables-nft -t nat -D POSTROUTING $at && echo \"*nat\n-A $rule\nCOMMIT\" | iptables-nft-restore -n",
        "iptables-nft -t nat -A OUTPUT -m comment --comment 'a/b node port' -j ACCEPT",
        "iptables-nft -t nat -A OUTPUT -m comment --comment theirs -j RETURN",
    ],
    ..IPTABLES
};

fn nftables(world: &Arc<World>) {
    changes(world, NFT, false);
}

/// What the kernel is told without the tool is what the tool would tell it.
fn nftables_by_netlink(world: &Arc<World>) {
    let mut shell = Shell::start(world, NFT, false);
    let mut lab = Changing::new(0x5eed);
    let mut text = rules(ProxyMode::Nftables, &lab);
    assert_eq!(shell.tell(&first(&text)), "");
    shell.must_be_as_the_tool_has_it(&text, "the first load");
    for _ in 0..CHANGES {
        let (said, next) = change(ProxyMode::Nftables, &mut lab, &text);
        assert_eq!(shell.tell(&said), "", "{said}");
        shell.must_be_as_the_tool_has_it(&next, &said);
        text = next;
    }
    // All or nothing, and it is said which statement was wrong.
    let refused =
        "add chain ip kube-proxy local-B-a/b\nflush chain ip kube-proxy nowhere\nflush chain ip kube-proxy services\n";
    assert_eq!(shell.tell(refused), "No such file or directory: flush chain ip kube-proxy nowhere\n");
    shell.must_be_as_the_tool_has_it(&text, "what was refused");
    assert_eq!(shell.tell(&removal(ProxyMode::Nftables, &text)), "");
    assert_eq!(shell.run(NFT.save), "");
}

fn iptables(world: &Arc<World>) {
    changes(world, IPTABLES, false);
}

fn iptables_legacy(world: &Arc<World>) {
    changes(world, IPTABLES, true);
}

fn ladder(world: &Arc<World>) {
    changes(world, LADDER, false);
}

fn ladder_legacy(world: &Arc<World>) {
    changes(world, LADDER, true);
}

/// Random changes, with rules of others about, and something broken after each.
fn changes(world: &Arc<World>, tool: Tool, legacy: bool) {
    let mut shell = Shell::start(world, tool, legacy);
    let mut lab = Changing::new(0x1ab);
    let mut text = rules(tool.mode, &lab);
    shell.run(tool.foreign);
    shell.feed(tool.load, &text);
    shell.run(tool.foreign_too);
    let mut theirs = shell.dump().foreign();
    assert!(!theirs.is_empty());
    for at in 0..CHANGES {
        let (said, next) = change(tool.mode, &mut lab, &text);
        let unchanged = Dump::of(tool.mode, &text).unchanged(&Dump::of(tool.mode, &next));
        // The ladder has no chains of its own.
        assert_eq!(unchanged.is_empty(), tool.mode == ProxyMode::Ladder, "{said}");
        shell.learn();
        let (before, knew) = (shell.identified(), shell.learned());
        shell.feed(tool.load, &said);
        let wanted = shell.fresh(&next);
        let (now, knows) = (shell.dump(), shell.learned());
        now.must_be(&Dump::of(tool.mode, &wanted), &theirs, &said);
        shell.identified().must_have_kept(&before, &unchanged);
        let forgot: Vec<&String> = knew.difference(&knows).filter(|place| unchanged.contains(*place)).collect();
        assert!(forgot.is_empty(), "{forgot:?} forgot its clients in\n{said}");

        let damage = tool.damages[at % tool.damages.len()];
        shell.run(damage);
        theirs = shell.dump().foreign();
        let found = shell.run(tool.save);
        let said = repair(tool.mode, &found, &wanted);
        assert_eq!(said.is_none(), damage.contains("theirs"), "{damage} is noticed");
        shell.feed(tool.load, &said.unwrap_or_default());
        shell.dump().must_be(&Dump::of(tool.mode, &wanted), &theirs, damage);
        assert_eq!(repair(tool.mode, &shell.run(tool.save), &wanted), None, "{damage} is repaired");
        text = next;
    }
    shell.feed(tool.load, &removal(tool.mode, &text));
    shell.dump().must_be(&Dump::default(), &theirs, "the removal");
}

fn rules(mode: ProxyMode, lab: &Changing) -> String {
    render(mode, &view(&lab.lab(), NodeId(0)))
}

/// The next change after which this node has other rules: the transaction, and those rules.
fn change(mode: ProxyMode, lab: &mut Changing, text: &str) -> (String, String) {
    loop {
        lab.step();
        let next = rules(mode, lab);
        if let Some(said) = transaction(mode, text, &next) {
            return (said, next);
        }
    }
}

/// A shell in namespaces of its own, and the tool that is used in it.
struct Shell {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    tool: Tool,
    legacy: bool,
    /// What iptables remembers of clients belongs to the first user namespace's root.
    is_root: bool,
}

/// Sends what it reads to nfnetlink, and prints the numbers of messages that were refused, and why.
const SEND: &str = r#"
import os, socket, struct, sys
NETLINK_NETFILTER = 12
batch = sys.stdin.buffer.read()
kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
kernel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, len(batch) + 65536)
kernel.send(batch)
kernel.setblocking(False)
answers = 0
while True:
    try:
        answer = kernel.recv(65536)
    except BlockingIOError:
        break
    answers += 1
    number, (code,) = struct.unpack_from("=I", answer, 8)[0], struct.unpack_from("=i", answer, 16)
    if code:
        print(number, os.strerror(-code))
assert answers, "the last message is answered"
"#;

/// What it prints after each command.
const END: &str = "==end==";

impl Shell {
    fn start(world: &World, tool: Tool, legacy: bool) -> Shell {
        let is_root = world.user == User::Root;
        let own: &[&str] = if is_root { &[] } else { &["--user", "--map-root-user"] };
        let words = [own, &["--net", "--mount", "sh"]].concat();
        let mut command = world.program("unshare").args(words).command;
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("unshare is installed");
        let (input, output) = (child.stdin.take(), child.stdout.take().expect("it is piped"));
        let mut shell = Shell { child, input, output: BufReader::new(output), tool, legacy, is_root };
        // Which rule of a chain in the nat table is the first that is not of others.
        shell.run(
            "number() { iptables-nft-save -t nat | grep \"^-A $1\" | grep -vin theirs | head -n 1 | cut -d: -f1; }",
        );
        // The lock of iptables-legacy is in /run, and not for everybody.
        shell.run("PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin && exec 2>&1 && mount -t tmpfs none /run");
        shell
    }

    /// What a command prints; it must succeed.
    #[track_caller]
    fn run(&mut self, command: &str) -> String {
        let command = if self.legacy { command.replace("iptables-nft", "iptables-legacy") } else { command.to_owned() };
        let input = self.input.as_mut().expect("it is open until the end");
        writeln!(input, "{command}\necho \"{END}$?\"").expect("the shell listens");
        let mut printed = String::new();
        loop {
            let mut line = String::new();
            assert_ne!(self.output.read_line(&mut line).expect("a pipe can be read"), 0, "{command}: {printed}");
            if let Some(code) = line.strip_prefix(END) {
                assert_eq!(code.trim(), "0", "{command}\n{printed}");
                return printed;
            }
            printed.push_str(&line);
        }
    }

    #[track_caller]
    fn feed(&mut self, command: &str, text: &str) -> String {
        self.run(&format!("{command} <<'{END}'\n{text}{END}"))
    }

    /// Tells the kernel a transaction, and gives back what it refuses.
    #[track_caller]
    fn tell(&mut self, text: &str) -> String {
        let batch = Batch::of(text).unwrap_or_else(|| panic!("only the tool knows\n{text}"));
        let bytes = data_encoding::BASE64.encode(batch.bytes());
        self.feed("base64 -d > /run/batch", &format!("{bytes}\n"));
        let said = self.run(&format!("python3 -c '{SEND}' < /run/batch"));
        let refusals = said.lines().filter_map(|line| {
            let (number, why) = line.split_once(' ')?;
            let statement = batch.statement(number.parse().ok()?)?;
            Some(format!("{why}: {statement}\n"))
        });
        let refusals: String = refusals.collect();
        if refusals.is_empty() { said } else { refusals }
    }

    /// Not only what the tool prints, but what the kernel has, is as where the tool has loaded this text.
    #[track_caller]
    fn must_be_as_the_tool_has_it(&mut self, text: &str, after: &str) {
        const LIST: &str = "nft --debug=netlink -s list ruleset";
        let fresh = self.feed(&format!("unshare --net sh -c 'nft -f - && {LIST}'"), text);
        let found = self.run(LIST);
        let (fresh, found) = (plain(&fresh), plain(&found));
        let differ: Vec<_> = fresh.symmetric_difference(&found).collect();
        assert!(differ.is_empty(), "{differ:#?}\nafter\n{after}");
        let wanted = self.fresh(text);
        self.dump().must_be(&Dump::of(self.tool.mode, &wanted), &std::collections::BTreeMap::new(), after);
    }

    fn dump(&mut self) -> Dump {
        Dump::of(self.tool.mode, &self.run(self.tool.save))
    }

    /// With what tells a rule from one that was written again.
    fn identified(&mut self) -> Dump {
        Dump::of(self.tool.mode, &self.run(self.tool.identify))
    }

    /// What the tool prints where nothing but this text is loaded.
    fn fresh(&mut self, text: &str) -> String {
        let Tool { load, save, .. } = self.tool;
        self.feed(&format!("unshare --net sh -c '{load} && {save}'"), text)
    }

    /// Packets are counted, and clients come to everything that remembers them.
    fn learn(&mut self) {
        if self.tool.mode == ProxyMode::Nftables {
            let dump = self.dump();
            let add = |(table, set)| format!("add element {table} {set} {{ 9.9.9.9 }}\n");
            let clients: String = dump.dynamic().map(add).collect();
            self.feed(self.tool.load, &clients);
            return;
        }
        self.run(&format!("{} | sed 's/^-A /[7:77] -A /' | iptables-nft-restore --counters", self.tool.save));
        if self.is_root {
            self.run("for it in /proc/net/xt_recent/KUBE-*; do test ! -e $it || echo +9.9.9.9 > $it; done");
        }
    }

    /// The places at which clients are remembered.
    fn learned(&mut self) -> BTreeSet<String> {
        if self.tool.mode == ProxyMode::Nftables {
            return self.dump().learned().collect();
        }
        let lists = self.run("grep -ls 9.9.9.9 /proc/net/xt_recent/* || true");
        lists.lines().filter_map(|path| Some(format!("nat {}", path.rsplit_once('/')?.1))).collect()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // It ends when its standard input does, and its namespaces with it.
        drop(self.input.take());
        // That it has ended already is as good.
        let _ = self.child.wait();
    }
}

/// What is printed without what the kernel makes up: the numbers of rules and of anonymous sets, and
/// the order of elements and objects.
fn plain(printed: &str) -> BTreeSet<String> {
    let pieces = printed.split(['\n', '\t']).flat_map(|line| line.split("}, {")).flat_map(|line| line.split(" [end]"));
    let without_numbers = |piece: &str| {
        let words = piece.split([' ', ',']).filter(|word| !word.is_empty());
        let mut plain: Vec<&str> = words.map(|word| if word.starts_with("__") { "anonymous" } else { word }).collect();
        while plain.last().is_some_and(|word| word.bytes().all(|byte| byte.is_ascii_digit())) {
            plain.pop();
        }
        plain.join(" ")
    };
    let unlike = |piece: &str| !piece.contains("\"handle\"") && !piece.contains("elem");
    pieces.filter(|piece| unlike(piece)).map(without_numbers).collect()
}

/// Two nodes and somebody outside.
const LAB: &str = r#"
[[node]]
name = "node1"
ip = "10.30.45.11"

[[node]]
name = "node2"
ip = "10.30.45.12"

[[client]]
name = "laptop"
ip = "192.0.2.10/24"

[[pod]]
name = "web"
replicas = 4
labels = { app = "web" }

[[service]]
name = "shop"
type = "NodePort"
cluster_ip = "10.96.1.1"
selector = { app = "web" }
ports = [{ port = 80, node_port = 30080 }]
"#;

/// Asks again and again until a file is there, and says what was not answered.
const ASK: &str = "until [ -e $FILE ]; do curl -sS -m 5 -o /dev/null $URL || echo failed; count=$((count + 1)); done; \
                   echo $count times";
/// Connects at once, and talks when the file is there.
const WAIT: &str = "exec 3<>/dev/tcp/10.30.45.11/30080; echo connected; until [ -e $FILE ]; do sleep 0.05; done; \
                    printf 'GET /hostname HTTP/1.0\r\n\r\n' >&3; cat <&3";

/// All ways from one mode to another, while a pod and a machine outside make new connections,
/// and one is open all the time.
fn another_mode_under_traffic(world: &Arc<World>) {
    use ProxyMode::{Iptables, Ladder, Nftables};
    let lab = world.up(&format!("[dns]\nengine = \"none\"\n{LAB}"));
    let model = load(LAB).unwrap_or_else(|problems| panic!("{problems}"));
    let rules = |mode| render(mode, &view(&model, NodeId(0)));
    let file = world.file("end", "");
    fs::remove_file(&file).expect("it was just written");
    let with = |script: &str, url: &str| format!("FILE={} URL={url}; {script}", file.display());
    let asking = [
        lab.exec("laptop", ["bash", "-c", &with(ASK, "http://10.30.45.11:30080/")]).start(),
        lab.exec("web-0", ["bash", "-c", &with(ASK, "http://10.96.1.1/")]).start(),
        lab.exec("node1", ["bash", "-c", &with(ASK, "http://10.96.1.1/")]).start(),
        lab.exec("laptop", ["bash", "-c", &with(WAIT, "")]).start(),
    ];
    for [from, to] in [Iptables, Nftables, Ladder, Iptables, Ladder, Nftables, Iptables].windows(2).map(pair) {
        for (mode, text) in [(to, rules(to)), (from, removal(from, &rules(from)))] {
            let command: &[&str] =
                if mode == Nftables { &["nft", "-f", "-"] } else { &["iptables-restore", "--noflush", "-w", "10"] };
            lab.exec("node1", command).fed(&text).succeeds();
        }
        let saved = lab.script("node1", "iptables-save; nft -s list ruleset").succeeds().stdout;
        let ours = |name: &str| saved.lines().any(|line| line.contains(name) && !line.starts_with('#'));
        assert_eq!(ours(":KUBE-"), to == Iptables, "{from} to {to}: {saved}");
        assert_eq!(ours("rule 4: "), to == Ladder, "{from} to {to}: {saved}");
        assert_eq!(ours("table ip kube-proxy"), to == Nftables, "{from} to {to}: {saved}");
        assert_eq!(ours("table ip netlab"), to == Nftables, "{from} to {to}: {saved}");
    }
    fs::write(&file, "").expect("the end can be said");
    let said = asking.map(|it| it.done().with_code(0).stdout);
    for said in &said[..3] {
        assert!(!said.contains("failed"), "{said}");
    }
    assert!(said[3].starts_with("connected") && said[3].contains("web-"), "{}", said[3]);
    lab.verify().succeeds();
}

fn pair(modes: &[ProxyMode]) -> [ProxyMode; 2] {
    [modes[0], modes[1]]
}
