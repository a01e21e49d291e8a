//! A lab goes through many changes at random, and is always as if it had just been brought up so: its
//! rules by every one of them, and in the end everything.
//!
//! The half of this that needs no kernel is `tests/sync.rs`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use netlab::{
    lab::{
        load,
        model::{Lab as Model, NodeId, Place, Protocol, ProxyMode},
    },
    proxy::{
        render, trace,
        truth::{Truth, addresses},
        view::view,
    },
};
use serde_json::Value;

use crate::{
    change::Changing,
    dump::Dump,
    support::{Lab, Test, User, World},
    tests,
};

pub(crate) const TESTS: &[Test] = tests![shared: many_changes; alone:];

/// Where it begins; another one can be tried with `NETLAB_SEED`.
const SEED: u64 = 0x57ea_d1e5;
/// How many paths of a connection are looked at by each change.
const PATHS: usize = 24;

fn many_changes(world: &Arc<World>) {
    let given = std::env::var("NETLAB_SEED").ok().map(|seed| seed.parse().expect("NETLAB_SEED is a number"));
    // Who is not root takes other turns, and fewer of them.
    let (seed, changes) = match world.user {
        User::Root => (given.unwrap_or(SEED), 200),
        User::Nobody | User::Myself => (given.unwrap_or(SEED + 1), 40),
    };
    let mut turns = Turns::new(world, seed);
    for _ in 0..changes {
        turns.take();
    }
    let spent = turns.spent;
    eprintln!("seed {seed}: {changes} changes of {:?} each, by the command line's clock", spent / changes);
    turns.end();
}

/// A lab on its way through the changes.
struct Turns {
    seed: u64,
    taken: usize,
    changing: Changing,
    proxy: ProxyMode,
    lab: Lab,
    shell: Shell,
    spent: Duration,
}

impl Turns {
    fn new(world: &Arc<World>, seed: u64) -> Turns {
        let (changing, proxy) = (Changing::new(seed), ProxyMode::Iptables);
        let lab = world.up(&text(&changing, proxy));
        let shell = Shell::start(&lab);
        Turns { seed, taken: 0, changing, proxy, lab, shell, spent: Duration::ZERO }
    }

    fn model(&self) -> Model {
        let text = text(&self.changing, self.proxy);
        load(&text).unwrap_or_else(|problems| panic!("seed {}: {problems}\n{text}", self.seed))
    }

    fn take(&mut self) {
        self.taken += 1;
        if self.taken.is_multiple_of(15) {
            use ProxyMode::{Iptables, Nftables};
            self.proxy = if self.proxy == Iptables { Nftables } else { Iptables };
        } else {
            let was = self.changing.text();
            while self.changing.text() == was {
                self.changing.step();
            }
        }
        let model = self.model();
        let began = Instant::now();
        self.lab.apply(&text(&self.changing, self.proxy)).succeeds();
        self.spent += began.elapsed();
        self.is_as_new(&model);
        self.truth_and_trace_agree(&model);
        if self.taken.is_multiple_of(10) {
            self.a_verb_and_back(model);
        }
        if self.taken.is_multiple_of(20) {
            self.packets_agree();
        }
    }

    fn after(&self) -> String {
        format!("change {} of seed {}", self.taken, self.seed)
    }

    /// A pod is made ready, or not, of which the file knows nothing; is deleted; and comes back as it was.
    fn a_verb_and_back(&mut self, mut model: Model) {
        let at = self.taken / 10 % model.pods.len();
        let name = model.pods[at].full_name();
        let told = |words: [&str; 2]| self.lab.world.netlab(words).args(["--lab", &self.lab.name]).succeeds();
        model.pods[at].ready ^= true;
        told(["ready", &format!("{name}={}", model.pods[at].ready)]);
        self.is_as_new(&model);
        let told = |words: [&str; 2]| self.lab.world.netlab(words).args(["--lab", &self.lab.name]).succeeds();
        told(["delete", &name]);
        model.pods.remove(at);
        self.is_as_new(&model);
        self.lab.apply(&text(&self.changing, self.proxy)).succeeds().prints(&format!("+ pod {name}"));
        self.is_as_new(&self.model());
    }

    /// The kernel has the rules of a lab that has just been brought up, on each node, and no others.
    #[track_caller]
    fn is_as_new(&mut self, model: &Model) {
        let rules = |id| (model.node(id).name.to_string(), render(self.proxy, &view(model, id)));
        let nodes: Vec<(String, String)> = model.node_ids().map(rules).collect();
        let after = self.after();
        for (node, [is, others]) in self.shell.rules(self.proxy, &nodes) {
            let place = format!("{node}, {after}");
            Dump::of(self.proxy, &is).must_be(
                &Dump::of(self.proxy, &self.shell.wanted[&node].1),
                &BTreeMap::new(),
                &place,
            );
            assert_eq!(others, "", "what is left of another proxy on {place}");
        }
    }

    /// The specification and the rules say the same of some paths.
    fn truth_and_trace_agree(&self, model: &Model) {
        let texts: BTreeMap<NodeId, String> =
            model.node_ids().map(|id| (id, render(self.proxy, &view(model, id)))).collect();
        let tracer =
            trace::Tracer::new(model, self.proxy, &texts).unwrap_or_else(|why| panic!("{}: {why}", self.after()));
        let truth = Truth::new(model, self.proxy);
        let to: Vec<SocketAddr> = model.service_ids().flat_map(|id| addresses(model, id)).map(|it| it.to).collect();
        let from: Vec<Place> = model.places();
        for nth in 0..PATHS.min(to.len() * from.len()) {
            // All of them come up sooner or later: the two lengths change all the time.
            let number = self.taken * PATHS + nth;
            let (from, to) = (from[number % from.len()], to[number / from.len() % to.len()]);
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let traced = tracer.trace(from, to, protocol).map(|branches| trace::sight(&branches));
                let path = format!("{} -> {to} {protocol}, {}", model.netns(from), self.after());
                assert_eq!(Ok(truth.sight(from, to, protocol)), traced, "{path}");
            }
        }
    }

    /// Real packets go where they shall; and none goes to where nobody is any more.
    fn packets_agree(&mut self) {
        let verify = [
            "verify",
            &self.lab.name,
            "--engine",
            "builtin",
            "--samples",
            "10",
            "--alpha",
            "0.000001",
            "--only",
            "services",
        ];
        let done = self.lab.world.netlab(verify).done();
        // It may happen that no Service has an endpoint.
        let nothing_to_ask = done.code() == 2 && done.stderr.contains("no probe of");
        assert!(done.code() == 0 || nothing_to_ask, "{}: {done}", self.after());
        self.nothing_is_stale();
    }

    /// No conntrack entry of UDP leads to a pod that is not there.
    fn nothing_is_stale(&self) {
        let pods: BTreeSet<String> = self.model().pods.iter().map(|pod| pod.ip.to_string()).collect();
        let listed = self.lab.world.netlab(["get", "conntrack", "--lab", &self.lab.name, "-o", "json"]).succeeds();
        let listed: Value = serde_json::from_str(&listed.stdout).expect("it is JSON");
        for row in listed["items"].as_array().expect("a list").iter().filter(|row| row["protocol"] == "udp") {
            let answers = row["reply"]["from"].as_str().expect("a text");
            let ip = answers.split(':').next().unwrap_or_default();
            assert!(!ip.starts_with("10.244.") || pods.contains(ip), "{row} leads nowhere, {}", self.after());
        }
    }

    /// Everything is as in a lab that has just been brought up.
    fn end(mut self) {
        self.packets_agree();
        let fresh = self.lab.world.up(&text(&self.changing, self.proxy));
        let (is, wanted) = (self.shell.run(SHAPE), Shell::start(&fresh).run(SHAPE));
        let (is, wanted): (Vec<&str>, Vec<&str>) = (is.lines().collect(), wanted.lines().collect());
        let more = is.iter().filter(|line| !wanted.contains(line)).collect::<Vec<_>>();
        let less = wanted.iter().filter(|line| !is.contains(line)).collect::<Vec<_>>();
        assert!(is == wanted, "{}: there is {more:#?}, and no {less:#?}", self.after());
        self.lab.world.netlab(["diff", &self.lab.name]).succeeds();
        let left = self.lab.world.netlab(["get", "pods", "--lab", &self.lab.name]).succeeds();
        assert!(!left.stdout.contains("leaving"), "{left}");
    }
}

/// Every namespace with its links, addresses, routes, and what listens there.
const SHAPE: &str = r#"for name in $(ls /run/netns); do
    echo "== $name"
    nsenter --net=/run/netns/$name sh -c '
        ip -o link | sed "s/^[0-9]*: //; s/@.*: / /; s/ qdisc .*//; s/NO-CARRIER,//; s/,LOWER_UP//"
        ip -o -4 address | sed "s/^[0-9]*: //; s/ valid_lft.*//"
        ip route show table all | grep -v "^ff\|^fe80\|^multicast\|proto kernel metric 256" | sed "s/linkdown *//"
        # In which order they were made, and whether a bridge has heard already that it has no port, is all one.
        ip rule | sed "s/^[0-9]*:.from all to/rule/"
        cat /proc/sys/net/ipv4/conf/all/route_localnet /proc/sys/net/ipv4/ip_forward
        ss -Hltun | tr -s " " | cut -d " " -f 1,5' | sort
done"#;

fn text(changing: &Changing, proxy: ProxyMode) -> String {
    let text = changing.text().replacen("[cluster]\n", &format!("[cluster]\nproxy = \"{proxy}\"\n"), 1);
    format!("{text}[[client]]\nname = \"laptop\"\nip = \"192.0.2.10/24\"\n")
}

/// A shell on a lab's `host`, from where it looks into the nodes.
struct Shell {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    directory: PathBuf,
    /// By node: the rules that it should have, and how the tool prints them.
    wanted: BTreeMap<String, (String, String)>,
}

/// What it prints after each command, and between parts.
const END: &str = "==end==";
const NEXT: &str = "==next==";

impl Shell {
    fn start(lab: &Lab) -> Shell {
        let directory = lab.world.file(&format!("{}-rules", lab.name), "");
        fs::remove_file(&directory).expect("it was just made");
        fs::create_dir(&directory).expect("it is not there");
        let mut command = lab.exec("host", ["sh"]).command;
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("netlab is there");
        let (input, output) = (child.stdin.take(), child.stdout.take().expect("it is piped"));
        let mut shell = Shell { child, input, output: BufReader::new(output), directory, wanted: BTreeMap::new() };
        shell.run("PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin; exec 2>&1");
        shell
    }

    /// What a command prints; it must succeed.
    #[track_caller]
    fn run(&mut self, command: &str) -> String {
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

    /// Of each node, the rules that it has, and what there is of the other proxy; and finds out how the
    /// tool prints those that it should have.
    #[track_caller]
    fn rules(&mut self, proxy: ProxyMode, nodes: &[(String, String)]) -> Vec<(String, [String; 2])> {
        const IPTABLES: &str = "for table in mangle filter nat; do iptables-save -t $table; done";
        let (load, save, others) = match proxy {
            ProxyMode::Nftables => {
                ("nft -f -", "nft -s list ruleset", "iptables-save 2>/dev/null | grep -e -A -e KUBE")
            }
            _ => ("iptables-restore --noflush", IPTABLES, "nft list tables | grep -e kube -e netlab"),
        };
        let new = |node: &String, text: &String| self.wanted.get(node).is_none_or(|(known, _)| known != text);
        let (mut command, mut news) = (String::new(), Vec::new());
        for (node, text) in nodes {
            let look = format!("{save}; echo {NEXT}; {others} || true");
            command += &format!("nsenter --net=/run/netns/{node} sh -c '{look}'; echo {NEXT}\n");
            if new(node, text) {
                let file = self.directory.join(node);
                fs::write(&file, text).expect("it can be written");
                // In a namespace that has nothing else.
                let load = format!("{load} < {} && {save}", file.display());
                command += &format!("unshare --net sh -c '{load}' || exit; echo {NEXT}\n");
                news.push(node);
            }
        }
        let printed = self.run(&command);
        let between = format!("{NEXT}\n");
        let mut parts = printed.split(&between).map(str::to_owned);
        let mut found = Vec::new();
        for (node, text) in nodes {
            let mut next = || parts.next().unwrap_or_default();
            found.push((node.clone(), [next(), next()]));
            if news.contains(&node) {
                self.wanted.insert(node.clone(), (text.clone(), next()));
            }
        }
        found
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // It ends when its standard input does.
        drop(self.input.take());
        // That it has ended already is as good.
        let _ = self.child.wait();
    }
}
