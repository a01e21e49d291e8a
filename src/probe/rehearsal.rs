//! A make-believe lab for tests: it carries out the orders of a suite as the truth has it, but
//! for what a test breaks.

mod names;

pub(crate) use names::response;

use std::{collections::BTreeMap, net::SocketAddr, path::Path, str::FromStr};

use super::{
    drift::{Drift, DriftKind},
    order::{Answer, Failure, FailureKind, Order, Outcome, Try, What},
    question::{self, Transport},
    suite::{Suite, yours::authority},
};
use crate::{
    lab::model::*,
    proxy::truth::{Choice, Sight, Truth},
};

/// The book chapter's lab with a laptop outside; its pods run `server`.
pub(crate) fn book_with(server: Server) -> Lab {
    let node = |name: &str, ip: &str, pod_subnet: &str, pod_gateway: &str| Node {
        name: parsed(name),
        ip: parsed(ip),
        pod_subnet: parsed(pod_subnet),
        pod_gateway: parsed(pod_gateway),
        attach: Attach::Bridge(parsed("br0")),
        zone: None,
        state: crate::lab::model::NodeState::default(),
        at: 0..0,
    };
    let pod = |name: &str, node: usize, ip: &str| Pod {
        name: parsed(name),
        namespace: parsed("default"),
        node: NodeId(node),
        ip: parsed(ip),
        host_network: false,
        labels: BTreeMap::from([(parsed("app"), parsed("cs-pod"))]),
        containers: vec![Container {
            name: parsed("web"),
            server: server.clone(),
            ports: vec![ContainerPort {
                name: Some(parsed("http")),
                container_port: 80,
                protocol: Protocol::Tcp,
                host_port: None,
            }],
            env: BTreeMap::new(),
            readiness: None,
            at: 0..0,
        }],
        ready: true,
        unproven: false,
        terminating: false,
        termination_grace_period: std::time::Duration::from_secs(30),
        hostname: None,
        subdomain: None,
        dns: crate::lab::model::PodDns::default(),
        enable_service_links: true,
        at: 0..0,
    };
    let mut service = Service::new(parsed("http-server-svc"), parsed("default"), 0..0);
    service.kind = ServiceKind::NodePort;
    service.cluster_ip = Some(parsed("10.96.1.100"));
    service.selector = BTreeMap::from([(parsed("app"), parsed("cs-pod"))]);
    service.ports = vec![ServicePort {
        name: None,
        protocol: Protocol::Tcp,
        port: 8080,
        target_port: TargetPort::Number(80),
        node_port: Some(30080),
        at: 0..0,
    }];
    Lab {
        name: parsed("nodeport"),
        cluster: Cluster {
            node_subnet: parsed("10.30.45.0/24"),
            gateway: parsed("10.30.45.1"),
            cluster_cidr: parsed("192.168.0.0/16"),
            service_cidr: parsed("10.96.0.0/16"),
            domain: parsed("cluster.local"),
            proxy: ProxyMode::Iptables,
            detect_local: DetectLocal::ClusterCidr,
            masquerade_all: false,
            at: 0..0,
        },
        nodes: vec![
            node("node1", "10.30.45.100", "192.168.1.0/24", "192.168.1.1"),
            node("node2", "10.30.45.200", "192.168.2.0/24", "192.168.2.1"),
        ],
        pods: vec![pod("pod1a", 0, "192.168.1.10"), pod("pod1b", 0, "192.168.1.20"), pod("pod2", 1, "192.168.2.20")],
        services: vec![service.into()],
        clients: vec![Client { name: parsed("laptop"), ip: parsed("192.0.2.10/24"), at: 0..0 }],
        load_balancer: None,
        externals: Vec::new(),
        dns: None,
        probes: Vec::new(),
    }
}

/// The same with the built-in servers, which say whom they see.
pub(crate) fn book() -> Lab {
    book_with(Server::Echo)
}

/// What a test writes down is well-formed.
pub(crate) fn parsed<T: FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("a test says {text:?}"))
}

/// One connection that is about to be answered.
pub(crate) struct Flow<'a> {
    pub(crate) lab: &'a Lab,
    pub(crate) from: Place,
    pub(crate) to: SocketAddr,
    pub(crate) choice: &'a Choice,
}

/// What a breakage does to a connection.
pub(crate) enum Fate {
    /// Nothing.
    Fine,
    /// It fails.
    Fails(FailureKind),
    /// The server sees the client under this address.
    Seen(&'static str),
}

/// What is broken.
pub(crate) struct Breakage {
    /// What it does to a connection.
    pub(crate) fate: fn(&Flow<'_>) -> Fate,
    /// The shares with which a node, by its id, picks one of three endpoints.
    pub(crate) shares: fn(usize) -> [f64; 3],
}

impl Breakage {
    pub(crate) const NONE: Breakage = Breakage { fate: |_| Fate::Fine, shares: |_| [1.0 / 3.0; 3] };
}

impl Flow<'_> {
    /// It passes this node's FORWARD chain.
    pub(crate) fn is_forwarded_by(&self, node: usize) -> bool {
        let Some(entry) = self.balancer() else { return false };
        let sender = matches!(self.from, Place::Pod(pod) if self.lab.pod(pod).node.0 == node);
        let end = self.end_node() == Some(node) && self.from != Place::Node(NodeId(node));
        // A packet for the node's own pods from that very pod through a Service is forwarded too.
        sender || end || (entry == node && self.from != Place::Node(NodeId(node)) && self.is_service())
    }

    /// The node that translates or at least first routes it.
    pub(crate) fn balancer(&self) -> Option<usize> {
        match self.from {
            Place::Pod(pod) => Some(self.entry().unwrap_or(self.lab.pod(pod).node.0)),
            Place::Node(node) => Some(self.entry().unwrap_or(node.0)),
            Place::Host | Place::Client(_) | Place::LoadBalancer | Place::External(_) => self.entry(),
        }
    }

    /// The node that is addressed.
    fn entry(&self) -> Option<usize> {
        self.lab.nodes.iter().position(|node| node.ip == self.to.ip())
    }

    /// The node of the pod that answers.
    pub(crate) fn end_node(&self) -> Option<usize> {
        self.choice.pod.map(|pod| self.lab.pod(pod).node.0)
    }

    /// It goes to an address of a Service.
    pub(crate) fn is_service(&self) -> bool {
        self.to != self.choice.endpoint
    }

    /// It comes back to the pod that sent it.
    pub(crate) fn is_hairpin(&self) -> bool {
        matches!((self.from, self.choice.pod), (Place::Pod(from), Some(to)) if from == to)
    }

    /// Its source is another one than the sender's own.
    pub(crate) fn is_masqueraded(&self) -> bool {
        let own = match self.from {
            Place::Pod(pod) => vec![self.lab.pod(pod).ip],
            Place::Node(node) => vec![self.lab.node(node).ip, self.lab.node(node).pod_gateway],
            Place::Client(client) => vec![self.lab.client(client).ip.addr()],
            Place::External(external) => self.lab.external(external).ips.clone(),
            Place::Host | Place::LoadBalancer => vec![self.lab.cluster.gateway],
        };
        self.choice.sources.iter().all(|source| !own.contains(source))
    }
}

/// Carries out all orders of a suite, the second round as the first one allows.
pub(crate) fn perform(lab: &Lab, suite: &Suite, breakage: &Breakage) -> Vec<Outcome> {
    let mut dice = Dice(7);
    let truth = Truth::new(lab, lab.cluster.proxy);
    let mut outcomes: Vec<Outcome> =
        suite.first_orders().iter().map(|order| carry_out(lab, &truth, order, breakage, &mut dice)).collect();
    let second = suite.second_orders(&outcomes);
    outcomes.extend(second.iter().map(|order| carry_out(lab, &truth, order, breakage, &mut dice)));
    outcomes
}

fn carry_out(lab: &Lab, truth: &Truth<'_>, order: &Order, breakage: &Breakage, dice: &mut Dice) -> Outcome {
    let from = lab.find(&order.netns).expect("an order names a place");
    let mut reach = |to: SocketAddr, protocol| match lab.cluster.gateway == to.ip() && to.port() == question::PORT {
        // The name server of the lab's internet is no business of the truth about Services.
        true => Ok(Answer::default()),
        false => one(lab, from, to, &truth.sight(from, to, protocol), breakage, dice),
    };
    let mut once = || match &order.what {
        What::Http { to, .. } => reach(*to, Protocol::Tcp),
        What::Udp { to, .. } => reach(*to, Protocol::Udp),
        What::Names { question, .. } => {
            let protocol = if question.transport == Transport::Tcp { Protocol::Tcp } else { Protocol::Udp };
            reach(question.resolver.servers[0], protocol)?;
            let names = Some(names::response(lab, question));
            Ok(Answer { names, ..Answer::default() })
        }
        What::Errand(errand) => match errand.target() {
            Some((crate::proxy::flow::Transport::Tcp, to)) => reach(to, Protocol::Tcp),
            Some((crate::proxy::flow::Transport::Udp, to)) => reach(to, Protocol::Udp),
            other => panic!("a rehearsal has no {other:?}"),
        },
        What::Curl { url, .. } => match authority(url) {
            Some((to, _)) => reach(to, Protocol::Tcp),
            None => {
                let rest = url.trim_start_matches("http://").trim_end_matches('/');
                let (host, port) = rest.split_once(':').unwrap_or((rest, "80"));
                let resolver = names::resolver(lab, from);
                reach(resolver.servers[0], Protocol::Udp).map_err(|_| failure(FailureKind::Unnamed))?;
                let port = port.parse().expect("a test's URL has a port");
                reach(names::address_of(lab, &resolver, host, port)?, Protocol::Tcp)
            }
        },
        What::HttpByName { host, port, resolver, .. } => {
            reach(resolver.servers[0], Protocol::Udp).map_err(|_| failure(FailureKind::Unnamed))?;
            reach(names::address_of(lab, resolver, host, *port)?, Protocol::Tcp)
        }
    };
    let tries = (0..order.times).map(|_| Try { result: once(), micros: 900 });
    Outcome::new(order.id, tries.collect())
}

fn one(
    lab: &Lab,
    from: Place,
    to: SocketAddr,
    sight: &Sight,
    breakage: &Breakage,
    dice: &mut Dice,
) -> Result<Answer, Failure> {
    let choices = match sight {
        Sight::Served(choices) => choices,
        Sight::Refused => return Err(failure(FailureKind::Refused)),
        Sight::Unreachable => return Err(failure(FailureKind::Unreachable)),
        Sight::Dropped | Sight::Mixed { .. } => return Err(failure(FailureKind::Timeout)),
    };
    let mut flow = Flow { lab, from, to, choice: &choices[0] };
    if let ([_, _, _], Some(node)) = (choices.as_slice(), flow.balancer()) {
        let mut roll = dice.roll();
        let picked = (breakage.shares)(node).iter().position(|share| {
            roll -= share;
            roll < 0.0
        });
        flow.choice = &choices[picked.unwrap_or(2)];
    }
    let seen = match (breakage.fate)(&flow) {
        Fate::Fine => flow.choice.sources.iter().next().copied(),
        Fate::Fails(kind) => return Err(failure(kind)),
        Fate::Seen(source) => Some(parsed(source)),
    };
    let name = flow.choice.pod.map(|pod| lab.pod(pod).full_name()).or_else(|| {
        lab.places()
            .into_iter()
            .find(|place| match place {
                Place::Client(client) => lab.client(*client).ip.addr() == flow.choice.endpoint.ip(),
                Place::External(external) => lab.external(*external).ips.contains(&flow.choice.endpoint.ip()),
                Place::Host => lab.cluster.gateway == flow.choice.endpoint.ip(),
                Place::Node(_) | Place::Pod(_) | Place::LoadBalancer => false,
            })
            .map(|place| lab.netns(place))
    });
    let is_python = flow.choice.pod.is_some_and(|pod| lab.pod(pod).containers[0].server == Server::Python);
    let body = format!("HTTP Server IP address: {}\nRequest path: /\n", flow.choice.endpoint.ip());
    match is_python {
        true => Ok(Answer { status: 200, pod: None, client: None, body, ..Answer::default() }),
        false => Ok(Answer { status: 200, pod: name, client: seen, body, ..Answer::default() }),
    }
}

fn failure(kind: FailureKind) -> Failure {
    let text = match kind {
        FailureKind::Refused => "curl: (7) Couldn't connect to server",
        FailureKind::Timeout => "curl: (28) Connection timed out",
        FailureKind::Unreachable => "curl: (7) Network is unreachable",
        FailureKind::Broken => "curl: (52) Empty reply from server",
        FailureKind::Unnamed => "curl: (6) Could not resolve host",
        FailureKind::Other => "curl: not found",
    };
    Failure { kind, text: text.to_owned() }
}

/// SplitMix64: seeded, so that a failure can be repeated.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// Of [0, 1).
    pub(crate) fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// A difference from the plan.
pub(crate) fn drift(netns: &str, kind: DriftKind, text: &str) -> Drift {
    Drift::new(netns, kind, text)
}

/// Compares a text with a file of `src/report/golden`; `NETLAB_BLESS=1` writes it.
pub(crate) fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/report/golden").join(name);
    if std::env::var_os("NETLAB_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("the folder can be made");
        std::fs::write(&path, text).expect("the file can be written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(expected == text, "{} differs; NETLAB_BLESS=1 rewrites it. It would be:\n{text}", path.display());
}
