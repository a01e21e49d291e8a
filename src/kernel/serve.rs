//! The lab's servers: python and other programs as processes, `echo` on the agent's runtime.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{BufRead, BufReader},
    net::{IpAddr, SocketAddr},
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::ExitStatus,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{
    balancer::{self, Spreads},
    births::Births,
    coredns,
    datagram::Datagrams,
    dns,
    echo::Echo,
    events::Events,
    fallen::Fallen,
    front::Haproxy,
    health::{self, Health},
    hop, http,
    kept::{Kept, KnownAs, Past, when},
    my_ip,
    ports::{Ports, tcp_listener, tcp_socket},
    prober::{Prober, Told},
    process::{Processes, Spawned},
    rules,
    scope::{Pair, Scopes},
    verdicts::Verdicts,
    view,
};
use crate::{
    dns::{Cluster, Internet},
    error::{Context, Error, Result},
    lab::model::{Container, DnsEngine, ExternalServer, Lab, PodId, Protocol, Server},
    plan::step::Check,
};

/// The servers that run, and those that have ended.
#[derive(Debug, Clone)]
pub struct Servers {
    pub(super) logs: PathBuf,
    states: Arc<Mutex<States>>,
    pub(super) balancer: Arc<Mutex<Option<Haproxy>>>,
    pub(super) spreads: Spreads,
    scopes: Scopes,
    pub(super) files: coredns::Files,
    healths: Arc<Mutex<Healths>>,
    pub(super) watched: Arc<Mutex<Option<balancer::Watcher>>>,
    pub(super) names: Arc<Mutex<Option<dns::Known<Cluster>>>>,
    pub(super) internet: Arc<Mutex<Option<dns::Known<Internet>>>>,
    pub(super) events: Events,
    fallen: Fallen,
    verdicts: Verdicts,
    births: Births,
    pub(super) ports: Ports,
    ending: Arc<Mutex<BTreeMap<String, Ending>>>,
}

/// A pod's end, which comes once.
pub(super) type Ending = Arc<tokio::sync::OnceCell<()>>;

/// By node and port.
pub(super) type Healths = BTreeMap<(String, u16), watch::Sender<Health>>;

/// By pod and container, both by name: ids change with the lab.
pub(super) type States = BTreeMap<(String, String), watch::Receiver<ServerState>>;

/// By what a container's server is known.
pub(super) fn key(lab: &Lab, pod: PodId, container: usize) -> (String, String) {
    let pod = lab.pod(pod);
    (pod.full_name(), pod.containers[container].name.to_string())
}

/// How a container's server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerState {
    /// It runs in the agent.
    BuiltIn {
        /// How often its node was powered off meanwhile.
        restarts: u32,
    },
    /// Its node is powered off, and nobody has heard of it since.
    Off {
        /// The node.
        node: String,
        /// How often it had been started again.
        restarts: u32,
    },
    /// It is a process.
    Running {
        /// Its id in the lab.
        pid: i32,
        /// What became of it before.
        past: Past,
    },
    /// It has ended.
    Ended {
        /// How, in words.
        how: String,
    },
    /// It has ended, and will be started again.
    Waiting {
        /// When.
        until: Instant,
        /// What became of it so far.
        past: Past,
    },
}

impl ServerState {
    /// How it ended (last), in words, if it ever did.
    fn how_it_ended(&self) -> Option<&str> {
        match self {
            ServerState::BuiltIn { .. } | ServerState::Off { .. } => None,
            ServerState::Ended { how } => Some(how),
            ServerState::Running { past, .. } | ServerState::Waiting { past, .. } => past.how.as_deref(),
        }
    }

    /// It does not run.
    pub fn is_down(&self) -> bool {
        matches!(self, ServerState::Ended { .. } | ServerState::Waiting { .. })
    }

    /// Its process, if it is one that runs.
    pub fn pid(&self) -> Option<i32> {
        match self {
            ServerState::Running { pid, .. } => Some(*pid),
            _ => None,
        }
    }

    /// How often it was started again.
    pub fn restarts(&self) -> u32 {
        match self {
            ServerState::Ended { .. } => 0,
            ServerState::BuiltIn { restarts } | ServerState::Off { restarts, .. } => *restarts,
            ServerState::Running { past, .. } | ServerState::Waiting { past, .. } => past.restarts,
        }
    }
}

/// In words: `process 12`, or how it ended and what comes next.
impl fmt::Display for ServerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerState::BuiltIn { .. } => f.write_str("built in"),
            ServerState::Off { node, .. } => write!(f, "{node} is powered off"),
            ServerState::Running { pid, past } => {
                write!(f, "process {pid}")?;
                past.how.iter().try_for_each(|how| write!(f, ", the one before {how}"))
            }
            ServerState::Ended { how } => f.write_str(how),
            ServerState::Waiting { until, past } => {
                let pause = until.saturating_duration_since(Instant::now());
                write!(f, "{}; it starts again {}", past.how.as_deref().unwrap_or("has ended"), when(pause))
            }
        }
    }
}

/// Which server to start.
#[derive(Debug, Clone, Copy)]
pub struct Serving<'a> {
    /// The lab.
    pub lab: &'a Lab,
    /// The namespace it runs in.
    pub netns: &'a str,
    /// Its pod.
    pub pod: PodId,
    /// Index into the pod's containers.
    pub container: usize,
}

impl Servers {
    /// None yet; what they print goes into files below `logs`.
    pub fn new(logs: PathBuf) -> Self {
        Servers {
            logs,
            states: Arc::default(),
            balancer: Arc::default(),
            spreads: Spreads::default(),
            scopes: Scopes::default(),
            names: Arc::default(),
            files: coredns::Files::default(),
            healths: Arc::default(),
            watched: Arc::default(),
            internet: Arc::default(),
            events: Events::default(),
            fallen: Fallen::default(),
            verdicts: Verdicts::default(),
            births: Births::default(),
            ports: Ports::default(),
            ending: Arc::default(),
        }
    }

    /// What happens in the lab.
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// The pods of which a server has ended and does not listen again yet.
    pub fn fallen(&self) -> &Fallen {
        &self.fallen
    }

    /// What readiness probes say.
    pub fn verdicts(&self) -> &Verdicts {
        &self.verdicts
    }

    /// When pods came into the world.
    pub fn births(&self) -> &Births {
        &self.births
    }

    /// How a server is known to others.
    pub(super) fn known_as(&self, lab: &Lab, pod: PodId, container: usize) -> KnownAs {
        let (ports, ip) = (&lab.pod(pod).containers[container].ports, lab.pod(pod).ip);
        let ports = ports.iter().filter(|port| port.protocol == Protocol::Tcp);
        KnownAs {
            server: key(lab, pod, container),
            ports: ports.map(|port| SocketAddr::new(ip, port.container_port)).collect(),
            events: self.events.clone(),
            fallen: self.fallen.clone(),
            verdicts: self.verdicts.clone(),
            restarts: self.restarts_so_far(lab, pod, container),
        }
    }

    /// The pods that end, or have ended and are still known.
    pub(super) fn ending(&self) -> MutexGuard<'_, BTreeMap<String, Ending>> {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn table(&self) -> MutexGuard<'_, States> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How each container's server is.
    pub fn states(&self) -> BTreeMap<(String, String), ServerState> {
        self.table().iter().map(|(key, state)| (key.clone(), state.borrow().clone())).collect()
    }

    /// The file with what a container's server prints.
    pub fn log(&self, lab: &Lab, pod: PodId, container: usize) -> PathBuf {
        let pod = lab.pod(pod);
        self.logs.join(format!("{}.{}.log", pod.full_name(), pod.containers[container].name))
    }

    /// Starts a container's server.
    ///
    /// # Errors
    ///
    /// When the program cannot be started, or a port of a built-in server is taken.
    pub async fn start(&self, serving: Serving<'_>, processes: &Processes) -> Result<()> {
        let Serving { lab, netns, pod, container } = serving;
        let it = &lab.pod(pod).containers[container];
        self.births.note(&lab.pod(pod).full_name());
        let told = Told { verdicts: self.verdicts.clone(), events: self.events.clone() };
        if let Some(prober) = Prober::of(lab, (pod, container), processes, told)? {
            self.scopes.of(&lab.pod(pod).full_name()).probes.spawn(prober.probe());
        }
        let state = match &it.server {
            Server::Echo => {
                let (name, hostname) = (lab.pod(pod).full_name(), lab.pod(pod).own_name().to_string());
                let echo = Echo::new(name, hostname);
                let pair = self.scopes.of(&lab.pod(pod).full_name());
                for port in &it.ports {
                    self.listen((netns, port.container_port, port.protocol), &echo, &pair)?;
                }
                watch::channel(ServerState::BuiltIn { restarts: self.restarts_so_far(lab, pod, container) }).1
            }
            Server::Python => {
                let ports = it.ports.iter().map(|port| port.container_port.to_string());
                let mut argv = vec![python()?, view::HTTP_SERVER.to_owned(), lab.pod(pod).full_name()];
                argv.extend(ports);
                self.spawn(serving, &argv, processes)?
            }
            Server::Command(argv) => self.spawn(serving, argv, processes)?,
            Server::Dns => self.start_dns(serving, processes)?,
        };
        self.table().insert(key(lab, pod, container), state);
        self.listening(serving, it).await?;
        self.verdicts.stands(&key(lab, pod, container));
        let (pod, container) = key(lab, pod, container);
        self.events.normal(format!("pod/{pod}"), "Started", format!("the server of the container {container} runs"));
        Ok(())
    }

    /// Starts the built-in server of a machine outside the cluster.
    ///
    /// # Errors
    ///
    /// When the port is taken.
    pub async fn start_outside(&self, netns: &str, port: u16, server: ExternalServer) -> Result<()> {
        let (name, pair) = (netns.to_owned(), self.scopes.of(netns));
        match server {
            ExternalServer::Echo => {
                let echo = Echo::new(name.clone(), name);
                self.listen((netns, port, Protocol::Tcp), &echo, &pair)?;
            }
            ExternalServer::MyIp => {
                let answer = move |request: &http::Request, client| my_ip::answer(&name, request, client);
                pair.listeners.spawn(http::serve(tcp_listener(netns, port)?, answer, pair.whole.clone()));
            }
        }
        Ok(())
    }

    /// Starts the name server of the lab's internet.
    ///
    /// # Errors
    ///
    /// When its port is taken.
    pub async fn start_names(&self, lab: &Lab, netns: &str) -> Result<()> {
        let known = dns::Known::new(Internet::new(lab));
        *self.internet.lock().unwrap_or_else(PoisonError::into_inner) = Some(known.clone());
        dns::serve_internet(known, netns, &self.scopes.of(netns))
    }

    /// Starts a health check of a node.
    ///
    /// # Errors
    ///
    /// When the port is taken, by a pod on the host network for example.
    pub fn start_health(&self, lab: &Lab, netns: &str, port: u16, check: Check) -> Result<()> {
        let (sender, health) = watch::channel(health_of(lab, check));
        let pair = self.scopes.of(netns);
        pair.listeners.spawn(health::serve(tcp_listener(netns, port)?, health, pair.whole.clone()));
        self.healths().insert((netns.to_owned(), port), sender);
        Ok(())
    }

    /// Serves `echo` on a port of a namespace.
    fn listen(&self, (netns, port, protocol): (&str, u16, Protocol), echo: &Echo, pair: &Pair) -> Result<()> {
        match protocol {
            Protocol::Tcp => {
                pair.listeners.spawn_polite(echo.clone().serve_http(self.ports.tcp(netns, port)?, pair.clone()));
            }
            Protocol::Udp => {
                let socket = Datagrams::new(self.ports.udp(netns, port)?);
                let socket = socket.context(format!("cannot serve port {port}/UDP"))?;
                pair.datagrams.spawn(echo.clone().serve_udp(socket));
            }
            Protocol::Sctp => return Err(Error::host("the built-in echo server does not speak SCTP")),
        }
        Ok(())
    }

    pub(super) fn scopes(&self) -> &Scopes {
        &self.scopes
    }

    pub(super) fn healths(&self) -> MutexGuard<'_, Healths> {
        self.healths.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the load balancer's addresses lead at present.
    pub fn spreads(&self) -> &Spreads {
        &self.spreads
    }

    /// Starts the cluster's DNS in one of its pods.
    fn start_dns(&self, serving: Serving<'_>, processes: &Processes) -> Result<watch::Receiver<ServerState>> {
        let Serving { lab, netns, pod, container } = serving;
        let pair = self.scopes.of(&lab.pod(pod).full_name());
        match engine(lab) {
            DnsEngine::Embedded => {
                // All of its pods share what it knows.
                let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
                let names = match &*names {
                    Some(names) => names.clone(),
                    None => names.insert(dns::Known::new(dns::names(lab)?)).clone(),
                };
                dns::serve_cluster(lab, names, netns, &pair)?;
                let restarts = self.restarts_so_far(lab, pod, container);
                Ok(watch::channel(ServerState::BuiltIn { restarts }).1)
            }
            DnsEngine::Coredns => self.start_coredns(serving, processes),
        }
    }

    fn spawn(
        &self,
        serving: Serving<'_>,
        argv: &[String],
        processes: &Processes,
    ) -> Result<watch::Receiver<ServerState>> {
        let Serving { lab, pod, container, .. } = serving;
        let [program, arguments @ ..] = argv else { return Err(Error::bug("a command without a program")) };
        let (name, of) = (lab.pod(pod).full_name(), &lab.pod(pod).containers[container].name);
        let kept = Kept {
            what: format!("the server of the container {of} of {name}"),
            program: rules::find(program)?,
            arguments: arguments.to_vec(),
            environment: view::environment(lab, (pod, container), &self.events),
            view: view::of_pod(lab, pod)?,
            log: self.log(lab, pod, container),
            scope: self.scopes.of(&name).kept,
            known: self.known_as(lab, pod, container),
        };
        kept.start(processes)
    }

    /// Waits until every TCP port of a process is open. What tells is the port itself: a
    /// program of the host has no other way to say that it is there. Who serves in the agent
    /// listens already.
    async fn listening(&self, serving: Serving<'_>, it: &Container) -> Result<()> {
        let Serving { lab, netns, pod, container } = serving;
        if it.server == Server::Echo || (it.server == Server::Dns && engine(lab) == DnsEngine::Embedded) {
            return Ok(());
        }
        let state = self.table().get(&key(lab, pod, container)).cloned();
        let mut state = state.ok_or_else(|| Error::bug("a server that was never started"))?;
        let open = async {
            if it.server == Server::Dns {
                return self.coredns_answers(serving).await;
            }
            for port in it.ports.iter().filter(|port| port.protocol == Protocol::Tcp) {
                opened(netns, lab.pod(pod).ip, port.container_port).await?;
            }
            Ok(())
        };
        tokio::select! {
            open = open => open,
            how = first_end_of(&mut state) => {
                let last = last_line(&self.log(lab, pod, container));
                Err(Error::refused(format!("the server of {} {how}{last}", lab.pod(pod).full_name())))
            }
        }
    }
}

/// What a health check says.
pub(super) fn health_of(lab: &Lab, check: Check) -> Health {
    match check {
        Check::Proxy => Health::Proxy,
        Check::Service { service, local_endpoints } => {
            let service = lab.service(service);
            let (namespace, name) = (service.namespace.to_string(), service.name.to_string());
            Health::Service { namespace, name, local_endpoints }
        }
    }
}

/// Notes when a process ends.
pub(super) fn observe(Spawned { pid, ended, .. }: Spawned) -> watch::Receiver<ServerState> {
    let (sender, state) = watch::channel(ServerState::Running { pid: pid.as_raw(), past: Past::default() });
    tokio::spawn(async move {
        let how = ended.await.map_or_else(|_| "nobody saw how".to_owned(), describe);
        // Nobody may be looking any more.
        let _ = sender.send(ServerState::Ended { how });
    });
    state
}

/// Waits until a server has ended for good, and says how.
pub(super) async fn end_of(state: &mut watch::Receiver<ServerState>) -> String {
    told(state, |state| matches!(state, ServerState::Ended { .. })).await
}

/// Waits until a server has ended, for good or not, and says how.
async fn first_end_of(state: &mut watch::Receiver<ServerState>) -> String {
    told(state, |state| state.how_it_ended().is_some()).await
}

async fn told(state: &mut watch::Receiver<ServerState>, is: impl FnMut(&ServerState) -> bool) -> String {
    let how = state.wait_for(is).await.ok().and_then(|state| state.how_it_ended().map(str::to_owned));
    match how {
        Some(how) => how,
        None => std::future::pending().await,
    }
}

/// Waits until a port is open: asks, and asks again a little later each time, as a kubelet's
/// TCP readiness probe does; the kernel has no event for "somebody listens now".
pub(super) async fn opened(netns: &str, ip: IpAddr, port: u16) -> Result<()> {
    let to = SocketAddr::new(ip, port);
    let mut pause = Duration::from_millis(2);
    loop {
        let socket = hop::inside(netns, move || tcp_socket(to)).await?;
        if socket.connect(to).await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// What answers DNS questions.
pub(super) fn engine(lab: &Lab) -> DnsEngine {
    lab.dns.as_ref().map_or(DnsEngine::Embedded, |dns| dns.engine)
}

/// The host's python3. A version manager's shim is a shell script that looks for the real
/// one each time; the distribution's own starts at once.
fn python() -> Result<String> {
    let path = match which::which("/usr/bin/python3") {
        Ok(path) => path,
        Err(_) => rules::find("python3")?,
    };
    Ok(path.to_string_lossy().into_owned())
}

/// `ended with exit code 1`, `was ended by SIGKILL`.
pub(super) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (_, Some(signal)) => match nix::sys::signal::Signal::try_from(signal) {
            Ok(signal) => format!("was ended by {signal}"),
            Err(_) => format!("was ended by signal {signal}"),
        },
        _ => "ended".to_owned(),
    }
}

pub(super) fn last_line(log: &std::path::Path) -> String {
    let lines = File::open(log).map(|file| BufReader::new(file).lines().map_while(Result::ok)).into_iter().flatten();
    match lines.filter(|line| !line.trim().is_empty()).last() {
        Some(line) => format!(": {}", line.trim()),
        None => String::new(),
    }
}
