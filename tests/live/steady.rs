//! Steady load: while a lab changes in every way that shall be noticed by nobody, every request is
//! answered.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{Read, Write},
    net::SocketAddr,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Mutex,
    time::timeout,
};

use crate::{
    support::{Lab, Test, World, call::Done, process::a_moment},
    tests,
};

pub(crate) const TESTS: &[Test] = tests![
    shared: nobody_notices_a_change, nobody_notices_with_haproxy, nobody_notices_the_end_of_another_node,
    a_download_goes_on, datagrams_find_their_way_in_every_order, a_burst_is_few_changes, who_was_on_the_way_arrives;
    alone:
];

/// The first word to this program when it is to be a helper inside of a lab.
const LOAD: &str = "load";
/// New connections a second, from the pod and from the laptop.
const PACE: [u32; 2] = [400, 600];
/// So many wait for an answer at most.
const MOST: usize = 100;
/// Nobody waits longer for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Somebody in a lab who asks all the time.
struct Load {
    asking: JoinHandle<Done>,
    stop: PathBuf,
}

impl Lab {
    /// Begins to ask, and comes back when the first have been answered.
    fn steady(&self, place: &str, pace: u32, targets: &[&str]) -> Load {
        let name = format!("{}-{place}", self.name);
        // Written by the helper; its user may be another one than ours.
        let [started, stop] = ["started", "stop"].map(|what| self.world.file(&format!("{name}.{what}"), ""));
        fs::remove_file(&stop).expect("it was just made");
        open_to_all(&started);
        let helper = &self.world.run.helper;
        let [helper, began, end] = [helper, &started, &stop].map(|path| path.to_string_lossy().into_owned());
        let call = self.exec(place, [helper, LOAD.to_owned(), began, end, pace.to_string()]).args(targets);
        let asking = thread::spawn(move || call.done());
        while fs::read_to_string(&started).expect("it is there").is_empty() && !asking.is_finished() {
            a_moment();
        }
        Load { asking, stop }
    }
}

fn open_to_all(file: &Path) {
    fs::set_permissions(file, fs::Permissions::from_mode(0o666)).expect("the file is ours");
}

impl Load {
    /// Stops asking; everybody was answered.
    #[track_caller]
    fn was_answered(self, lab: &Lab) {
        fs::write(&self.stop, "").expect("a file can be written");
        let done = self.asking.join().expect("it does not panic").with_code(0);
        eprint!("{}", done.stdout);
        if !done.stdout.contains(" 0 failed") {
            panic!("{done}\n{}", lab.world.netlab(["events", "--lab", &lab.name]).succeeds());
        }
    }
}

/// What this program does if it is started as a helper: `load STARTED STOP PACE HOST:PORT…` begins so many
/// connections a second, asks once over each, and goes on until the file STOP is there.
pub(crate) fn helper() -> Option<ExitCode> {
    let words: Vec<String> = env::args().skip(1).collect();
    let [verb, started, stop, pace, targets @ ..] = &words[..] else { return None };
    if verb != LOAD {
        return None;
    }
    let targets: Vec<SocketAddr> = targets.iter().map(|it| it.parse().expect("an address and a port")).collect();
    let pace: u32 = pace.parse().expect("a number");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(load(started.into(), stop.into(), pace, targets));
    Some(ExitCode::SUCCESS)
}

async fn load(started: PathBuf, stop: PathBuf, pace: u32, targets: Vec<SocketAddr>) {
    let answered = Arc::new(AtomicUsize::new(0));
    let slowest = Arc::new(Mutex::new(Duration::ZERO));
    let failures: Arc<Mutex<BTreeMap<String, usize>>> = Arc::default();
    let mut clock = tokio::time::interval(Duration::from_secs(1) / pace);
    // What was missed is made up for: the pace is what is wanted.
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let began = Instant::now();
    let mut asking = tokio::task::JoinSet::new();
    let mut sent = 0;
    loop {
        clock.tick().await;
        let to = targets[sent % targets.len()];
        let (answered, slowest, failures) = (Arc::clone(&answered), Arc::clone(&slowest), Arc::clone(&failures));
        asking.spawn(async move {
            let began = Instant::now();
            let asked = timeout(PATIENCE, ask(to)).await;
            match asked.unwrap_or_else(|_| Err(std::io::Error::other("no answer"))) {
                Ok(()) => _ = answered.fetch_add(1, Ordering::Relaxed),
                Err(error) => {
                    let seconds = began.elapsed().as_secs();
                    *failures.lock().await.entry(format!("{to}: {error}, after {seconds} s")).or_default() += 1;
                }
            }
            let mut slowest = slowest.lock().await;
            *slowest = slowest.max(began.elapsed());
        });
        sent += 1;
        while asking.try_join_next().is_some() {}
        // A machine that is too busy for the pace is not to be drowned: then the pace slips, and is reported.
        while asking.len() >= MOST {
            asking.join_next().await;
        }
        if sent == 50 {
            fs::write(&started, "yes").expect("it can be written");
        }
        if sent % 20 == 0 && (stop.exists() || began.elapsed() > Duration::from_secs(60)) {
            break;
        }
    }
    let pace = f64::from(u32::try_from(sent).expect("not that many")) / began.elapsed().as_secs_f64();
    asking.join_all().await;
    let failures = failures.lock().await;
    let failed: usize = failures.values().sum();
    let (answered, slowest) = (answered.load(Ordering::Relaxed), slowest.lock().await.as_millis());
    println!("{answered} answered, {failed} failed, {pace:.0} a second, the slowest after {slowest} ms {failures:?}");
}

async fn ask(to: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(to).await?;
    stream.write_all(b"GET /hostname HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    if answer.starts_with(b"HTTP/1.1 200") { Ok(()) } else { Err(std::io::Error::other("no good answer")) }
}

/// A lab of which all pods are of one version.
fn text(proxy: &str, engine: &str, version: u32, more: &str) -> String {
    // At times a node has none of the edge's pods, and the load balancer has to notice.
    let edges = if version.is_multiple_of(2) { "node = \"node1\"\nreplicas = 1" } else { "replicas = 2" };
    format!(
        r#"
[cluster]
proxy = "{proxy}"

[dns]
engine = "none"

[load_balancer]
engine = "{engine}"

[[node]]
name = "node1"
ip = "10.30.45.100"

[[node]]
name = "node2"

[[pod]]
name = "edge-v{version}"
labels = {{ app = "edge" }}
{edges}

[[pod]]
name = "web-v{version}"
replicas = {replicas}
labels = {{ app = "web" }}

[[pod]]
name = "client"

[[service]]
name = "web"
type = "LoadBalancer"
cluster_ip = "10.96.1.10"
selector = {{ app = "web" }}
load_balancer_ips = ["203.0.113.10"]
ports = [{{ port = 80, node_port = 30080 }}]

[[service]]
name = "edge"
type = "LoadBalancer"
external_traffic_policy = "Local"
cluster_ip = "10.96.1.11"
selector = {{ app = "edge" }}
load_balancer_ips = ["203.0.113.11"]
ports = [{{ port = 80, node_port = 30081 }}]

[[client]]
name = "laptop"
ip = "192.0.2.10/24"
{more}
"#,
        replicas = 2 + version % 2,
    )
}

const MORE: &str = r#"
[[service]]
name = "more"
type = "LoadBalancer"
selector = { app = "web" }
load_balancer_ips = ["203.0.113.12"]
ports = [{ port = 80 }]
"#;

fn nobody_notices_a_change(world: &Arc<World>) {
    under_load(world, ["iptables", "nftables"], "builtin");
}

fn nobody_notices_with_haproxy(world: &Arc<World>) {
    under_load(world, ["nftables", "iptables"], "haproxy");
}

fn under_load(world: &Arc<World>, [one, other]: [&str; 2], engine: &str) {
    let lab = world.up(&text(one, engine, 1, ""));
    let from_pod = lab.steady("client", PACE[0], &["10.96.1.10:80", "10.96.1.11:80"]);
    let outside = ["10.30.45.100:30080", "203.0.113.10:80", "203.0.113.11:80"];
    let from_laptop = lab.steady("laptop", PACE[1], &outside);
    // Another version in the place of each; the second time, one node has no edge pod any more.
    lab.apply(&text(one, engine, 3, "")).succeeds().prints("+ pod web-v3-0").prints("- pod web-v1-0");
    lab.apply(&text(one, engine, 2, "")).succeeds().prints("- pod edge-v3-1");
    // Services come and go.
    for more in [MORE, "", MORE] {
        lab.apply(&text(one, engine, 2, more)).succeeds();
    }
    lab.exec("laptop", ["curl", "-sS", "-m", "5", "http://203.0.113.12/hostname"]).succeeds().prints("web-v2-");
    // The rules are written by another proxy.
    for proxy in [other, one] {
        lab.apply(&text(proxy, engine, 2, MORE)).succeeds().prints("~ cluster: proxy");
    }
    // One pod after the other is deleted, and comes back.
    let file = world.file(&format!("{}-same.toml", lab.name), &text(one, engine, 2, MORE));
    for pod in ["web-v2-0", "web-v2-1"] {
        world.netlab(["delete", pod, "--no-wait", "--lab", &lab.name]).succeeds();
        world.netlab(["apply", &file.to_string_lossy(), "--lab", &lab.name]).succeeds().prints(&format!("+ pod {pod}"));
    }
    from_pod.was_answered(&lab);
    from_laptop.was_answered(&lab);
    lab.verify().args(["--samples", "50", "--only", "services"]).succeeds();
}

/// A node that serves nobody here loses its power, and gets it back.
fn nobody_notices_the_end_of_another_node(world: &Arc<World>) {
    let service = "[[service]]\nname = \"web\"\ntype = \"NodePort\"\ncluster_ip = \"10.96.1.10\"\nselector = { app = \"web\" }\n\
                   ports = [{ port = 80, node_port = 30080 }]\n";
    let pods = "[[pod]]\nname = \"web\"\nreplicas = 2\nnode = \"node1\"\nlabels = { app = \"web\" }\n\
                [[pod]]\nname = \"far\"\nnode = \"node2\"\n";
    for proxy in ["iptables", "nftables"] {
        let lab = world.up(&on_two_nodes(proxy, &format!("{pods}{service}")));
        let from_pod = lab.steady("client", PACE[0], &["10.96.1.10:80"]);
        let from_laptop = lab.steady("laptop", PACE[1], &["10.30.45.100:30080"]);
        for _ in 0..2 {
            world.netlab(["node", "stop", "node2", "--lab", &lab.name]).succeeds().prints("node2 is stopped");
            world.netlab(["node", "start", "node2", "--lab", &lab.name]).succeeds().prints("node2 runs");
        }
        from_pod.was_answered(&lab);
        from_laptop.was_answered(&lab);
        lab.down();
    }
}

/// Two nodes, of which the second has the pods.
fn on_two_nodes(proxy: &str, pods: &str) -> String {
    format!(
        r#"
[cluster]
proxy = "{proxy}"

[dns]
engine = "none"

[[node]]
name = "node1"
ip = "10.30.45.100"

[[node]]
name = "node2"

[[pod]]
name = "client"
node = "node1"

[[client]]
name = "laptop"
ip = "192.0.2.10/24"

{pods}
"#
    )
}

/// A download through a node port goes on while other Services come and go, its endpoint is not ready, is
/// ready again, is being deleted, and its Service is deleted.
fn a_download_goes_on(world: &Arc<World>) {
    let downloads = ["iptables", "nftables"].map(|proxy| {
        let world = Arc::clone(world);
        thread::spawn(move || a_download(&world, proxy))
    });
    downloads.into_iter().for_each(|it| it.join().expect("the download goes on"));
}

fn a_download(world: &Arc<World>, proxy: &str) {
    let pod = "[[pod]]\nname = \"slow\"\nnode = \"node2\"\nlabels = { app = \"slow\" }\n";
    let service = |name: &str, port: u16| {
        format!(
            "[[service]]\nname = \"{name}\"\ntype = \"NodePort\"\nselector = {{ app = \"slow\" }}\n\
             ports = [{{ port = 80, node_port = {port} }}]\n"
        )
    };
    let text = |services: &str| on_two_nodes(proxy, &format!("{pod}{services}"));
    let slow = service("slow", 30080);
    let lab = world.up(&text(&slow));
    let url = "http://10.30.45.100:30080/drip?numbytes=100000&duration=8";
    let download = lab.exec("laptop", ["curl", "-sS", url]);
    let download = thread::spawn(move || download.done());
    lab.script("slow", "until ss -Htn state established | grep -q ':80 '; do :; done").succeeds();
    let told = |words: &[&str]| lab.world.netlab(words).args(["--lab", &lab.name]).succeeds();
    lab.apply(&text(&format!("{slow}{}", service("other", 30081)))).succeeds().prints("+ service other");
    lab.apply(&text(&slow)).succeeds().prints("- service other");
    told(&["ready", "slow=false"]);
    lab.exec("laptop", ["curl", "-sS", "-m", "5", "http://10.30.45.100:30080/"]).fails(7);
    told(&["ready", "slow=true"]);
    // It has thirty seconds to end what it does, and is used as long as there is nobody else.
    told(&["delete", "slow", "--no-wait"]).prints("- pod slow");
    lab.exec("client", ["curl", "-sS", "-m", "5", "http://10.30.45.100:30080/hostname"]).succeeds().prints("slow");
    // Nobody's change waits for it.
    lab.apply(&on_two_nodes(proxy, "")).succeeds();
    assert!(download.is_finished(), "the lab was as the file says before the pod had ended");
    let done = download.join().expect("it does not panic").with_code(0);
    assert_eq!(done.stdout.len(), 100_000, "of the download with {proxy}");
    lab.exec("host", ["ip", "netns", "list"]).succeeds().does_not_print("slow");
}

/// The first word to this program when it is to send datagrams inside of a lab.
const DATAGRAMS: &str = "datagrams";
/// Where they always come from.
const PORT: u16 = 5353;

/// `datagrams LAST STOP HOST:PORT` asks who is there, again and again from the same port, and keeps the last
/// answer in a file.
pub(crate) fn datagrams() -> Option<ExitCode> {
    let words: Vec<String> = env::args().skip(1).collect();
    let [verb, last, stop, to] = &words[..] else { return None };
    if verb != DATAGRAMS {
        return None;
    }
    let socket = std::net::UdpSocket::bind(("0.0.0.0", PORT)).expect("the port is free");
    socket.connect(to.as_str()).expect("an address and a port");
    socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout can be set");
    let began = Instant::now();
    while !Path::new(stop).exists() && began.elapsed() < Duration::from_secs(120) {
        let mut answer = [0; 100];
        let asked = socket.send(b"hostname").and_then(|_| socket.recv(&mut answer));
        let said =
            asked.map_or_else(|_| "nobody".to_owned(), |length| String::from_utf8_lossy(&answer[..length]).into());
        fs::write(last, said).expect("it can be written");
        // So that conntrack's entry never expires, and the machine has other things to do.
        thread::sleep(Duration::from_millis(5));
    }
    Some(ExitCode::SUCCESS)
}

/// A client that always sends from the same port is answered by whoever serves now: after its backend was
/// replaced, or was gone for a while, or its Service was, in every order, and while it sends all the time.
fn datagrams_find_their_way_in_every_order(world: &Arc<World>) {
    let orders = ["iptables", "nftables"].map(|proxy| {
        let world = Arc::clone(world);
        thread::spawn(move || in_every_order(&world, proxy))
    });
    orders.into_iter().for_each(|it| it.join().expect("datagrams find their way"));
}

fn in_every_order(world: &Arc<World>, proxy: &str) {
    let text = |backend: Option<usize>, service: bool| {
        let pod = backend.map(|number| {
            format!(
                "[[pod]]\nname = \"web-{number}\"\nnode = \"node{}\"\nlabels = {{ app = \"web\" }}\n\
                 ports = [{{ container_port = 53, protocol = \"UDP\" }}]\n",
                1 + number % 2
            )
        });
        let chosen = if backend.is_some() { "selector = { app = \"web\" }" } else { "endpoints = []" };
        let service = service.then(|| {
            format!(
                "[[service]]\nname = \"web\"\ntype = \"NodePort\"\ncluster_ip = \"10.96.1.10\"\n{chosen}\n\
                 ports = [{{ port = 53, protocol = \"UDP\", node_port = 30053 }}]\n"
            )
        });
        on_two_nodes(proxy, &format!("{}{}", pod.unwrap_or_default(), service.unwrap_or_default()))
    };
    let mut backend = 0;
    let lab = world.up(&text(Some(backend), true));
    let stop = world.file(&format!("{}.stop", lab.name), "");
    fs::remove_file(&stop).expect("it was just made");
    let clients = [("client", "10.96.1.10:53"), ("laptop", "10.30.45.100:30053")].map(|(place, to)| {
        let last = world.file(&format!("{}-{place}.last", lab.name), "");
        open_to_all(&last);
        let words = [&world.run.helper, &last, &stop].map(|path| path.to_string_lossy().into_owned());
        let [helper, last_words, stop] = words;
        let asking = lab.exec(place, [helper, DATAGRAMS.to_owned(), last_words, stop, to.to_owned()]);
        (last, thread::spawn(move || asking.done()))
    });
    let answered_by = |name: &str, after: &str| {
        let deadline = Instant::now() + Duration::from_secs(10);
        for (last, asking) in &clients {
            while fs::read_to_string(last).expect("it is there") != name {
                let said = || fs::read_to_string(last).unwrap_or_default();
                assert!(Instant::now() < deadline, "{proxy}: not {name} but {} answers after {after}", said());
                assert!(!asking.is_finished(), "{proxy}: nobody asks any more");
                a_moment();
            }
        }
    };
    answered_by("web-0", "nothing");
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        for event in order {
            let after = format!("event {event} of {order:?}");
            match event {
                0 => {
                    backend += 1;
                    lab.apply(&text(Some(backend), true)).succeeds();
                }
                1 => {
                    lab.apply(&text(None, true)).succeeds();
                    answered_by("nobody", &after);
                    backend += 1;
                    lab.apply(&text(Some(backend), true)).succeeds();
                }
                _ => {
                    lab.apply(&text(Some(backend), false)).succeeds();
                    answered_by("nobody", &after);
                    lab.apply(&text(Some(backend), true)).succeeds();
                }
            }
            answered_by(&format!("web-{backend}"), &after);
        }
    }
    fs::write(&stop, "").expect("the end can be said");
    clients.into_iter().for_each(|(_, asking)| _ = asking.join().expect("it does not panic").with_code(0));
}

/// Many words at the same time become few changes.
fn a_burst_is_few_changes(world: &Arc<World>) {
    const PODS: usize = 50;
    let text = format!(
        "{}[[service]]\nname = \"web\"\nselector = {{ app = \"web\" }}\nports = [{{ port = 80 }}]\n",
        on_two_nodes(
            "iptables",
            &format!("[[pod]]\nname = \"web\"\nreplicas = {PODS}\nlabels = {{ app = \"web\" }}\n")
        )
    );
    let lab = world.up(&text);
    let request = |number: usize, ready: bool| format!("{{\"ready\":{{\"pods\":[[\"web-{number}\",{ready}]]}}}}\n");
    // The command line would take its time to start fifty times.
    let asked: Vec<UnixStream> = (0..PODS)
        .map(|number| {
            let mut stream = UnixStream::connect(lab.directory().join("agent.sock")).expect("the agent listens");
            stream.write_all(request(number, false).as_bytes()).expect("the agent reads");
            stream
        })
        .collect();
    for (number, mut stream) in asked.into_iter().enumerate() {
        let mut reply = String::new();
        stream.read_to_string(&mut reply).expect("the agent replies");
        assert!(reply.contains("applied") && reply.contains(&format!("web-{number}\"")), "{reply}");
    }
    let events = world.netlab(["events", "--lab", &lab.name, "-o", "json"]).succeeds().stdout;
    let synced = events.lines().filter(|line| line.contains("RulesSynced") && line.contains("node/node1")).count();
    assert!((1..=PODS / 5).contains(&synced), "{PODS} changes are {synced} transactions");
    let listed = world.netlab(["get", "endpoints", "-o", "wide", "--lab", &lab.name]).succeeds().stdout;
    assert_eq!(listed.matches("(not ready)").count(), PODS, "{listed}");
    // One that cannot be heeded is no obstacle to the others.
    let mut streams: Vec<UnixStream> =
        (0..3).map(|_| UnixStream::connect(lab.directory().join("agent.sock")).expect("the agent listens")).collect();
    for (stream, number) in streams.iter_mut().zip([1, 777, 2]) {
        stream.write_all(request(number, true).as_bytes()).expect("the agent reads");
    }
    let replies = streams.iter_mut().map(|stream| {
        let mut reply = String::new();
        stream.read_to_string(&mut reply).expect("the agent replies");
        reply.contains("applied")
    });
    assert_eq!(replies.collect::<Vec<_>>(), [true, false, true]);
}

/// A first packet that was lost comes again after a second, and conntrack leads it to the old pod: which is
/// there for it.
fn who_was_on_the_way_arrives(world: &Arc<World>) {
    let text = |version: u32| {
        let pod = format!("[[pod]]\nname = \"web-v{version}\"\nnode = \"node2\"\nlabels = {{ app = \"web\" }}\n");
        let service = "[[service]]\nname = \"web\"\ncluster_ip = \"10.96.1.10\"\nselector = { app = \"web\" }\n\
                       ports = [{ port = 80 }]\n";
        on_two_nodes("nftables", &format!("{pod}{service}"))
    };
    let lab = world.up(&text(1));
    let deaf = "nft add table ip deaf; nft add chain ip deaf input '{ type filter hook input priority 0; }'; \
                nft add rule ip deaf input tcp dport 80 drop";
    lab.script("web-v1", deaf).succeeds();
    let asking = lab.exec("client", ["curl", "-sS", "-m", "9", "http://10.96.1.10/hostname"]);
    let asking = thread::spawn(move || asking.done());
    let on_its_way = "until conntrack -L -p tcp 2>/dev/null | grep -q 'SYN_SENT.*dport=80'; do :; done";
    lab.script("node1", on_its_way).succeeds();
    let file = world.file(&format!("{}-next.toml", lab.name), &text(2));
    let apply = ["apply", &file.to_string_lossy(), "--no-wait", "--lab", &lab.name];
    world.netlab(apply).succeeds().prints("- pod web-v1");
    lab.exec("client", ["curl", "-sS", "-m", "5", "http://10.96.1.10/hostname"]).succeeds().prints_exactly("web-v2");
    lab.exec("web-v1", ["nft", "delete", "table", "ip", "deaf"]).succeeds();
    assert_eq!(asking.join().expect("it does not panic").with_code(0).stdout, "web-v1");
}
