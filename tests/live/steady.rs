//! Steady load: while a lab changes in every way that shall be noticed by nobody, every request is
//! answered.

use std::{
    collections::BTreeMap,
    env, fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
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
    conntrack::helper_for,
    support::{Lab, Test, World, call::Done, process::a_moment},
    tests,
};

pub(crate) const TESTS: &[Test] = tests![
    shared: nobody_notices_a_change, nobody_notices_with_haproxy;
    alone:
];

/// The first word to this program when it is to be a helper inside of a lab.
const LOAD: &str = "load";
/// New connections a second, from the pod and from the laptop.
const PACE: [u32; 2] = [400, 600];
/// Nobody waits longer for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Somebody in a lab who asks all the time.
struct Load {
    asking: JoinHandle<Done>,
    stop: PathBuf,
}

impl Lab {
    /// Begins to ask, and comes back when the first have been answered.
    fn steady(&self, helper: &Path, place: &str, pace: u32, targets: &[&str]) -> Load {
        let name = format!("{}-{place}", self.name);
        // Written by the helper; its user may be another one than ours.
        let [started, stop] = ["started", "stop"].map(|what| self.world.file(&format!("{name}.{what}"), ""));
        fs::remove_file(&stop).expect("it was just made");
        open_to_all(&started);
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
    fn was_answered(self) {
        fs::write(&self.stop, "").expect("a file can be written");
        let done = self.asking.join().expect("it does not panic").with_code(0);
        assert!(done.stdout.contains(" 0 failed"), "{done}");
        eprint!("{}", done.stdout);
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
    // At times a node has none of the edge's pods, and the load balancer has to notice. The one that is built
    // in is a router: connections that it leads elsewhere break.
    let edges = if version % 2 == 0 && engine == "haproxy" { "node = \"node1\"\nreplicas = 1" } else { "replicas = 2" };
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
    let helper = helper_for(world);
    let from_pod = lab.steady(&helper, "client", PACE[0], &["10.96.1.10:80", "10.96.1.11:80"]);
    let outside = ["10.30.45.100:30080", "203.0.113.10:80", "203.0.113.11:80"];
    let from_laptop = lab.steady(&helper, "laptop", PACE[1], &outside);
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
    from_pod.was_answered();
    from_laptop.was_answered();
    lab.verify().args(["--samples", "50", "--only", "services"]).succeeds();
}
