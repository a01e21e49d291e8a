//! From a [`Lab`] to the list of probes that show whether it behaves as Kubernetes does.
//!
//! What must be seen is not decided here: [`sight`](crate::proxy::truth::sight) says it, from the
//! specification. This decides what is worth looking at, from where, how often, and why.

mod absent;
mod balance;
mod egress;
mod names;
mod nodes;
mod options;
mod origin;
mod pods;
mod sample;
mod scene;
mod services;
mod states;
pub mod way;
pub(crate) mod yours;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, SocketAddr},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    judge,
    order::{FailureKind, Order, Outcome},
    question::{Rcode, Said},
    wish::Wish,
};
use crate::{
    lab::model::{Lab, Protocol, ProxyMode, Span},
    proxy::truth::Truth,
};
pub use options::{Bound, DEFAULT_ALPHA, DEFAULT_POWER, Engine, SuiteOptions, means, understand};
pub use origin::PlaceKind;
use scene::Scene;
pub use scene::{SharesFn, SightFn};
use way::Hop;

/// The probes of `lab`, in the order of the report.
pub fn suite(lab: &Lab, options: &SuiteOptions) -> Suite {
    let truth = Truth::new(lab, lab.cluster.proxy);
    let sight = |from, to, protocol| truth.sight(from, to, protocol);
    suite_by(lab, options, &sight, &|from, to, protocol| truth.shares(from, to, protocol))
}

/// [`suite`], with the opinion on what must be seen, and in which shares, given by the caller.
pub fn suite_by(lab: &Lab, options: &SuiteOptions, sight: &SightFn<'_>, shares: &SharesFn<'_>) -> Suite {
    let scene = Scene::new(lab, options, sight, shares);
    let mut bounds = Vec::new();
    let mut probes = Vec::new();
    for group in Group::ALL {
        let drafts = match group {
            Group::Pods => pods::probes(&scene, &mut bounds),
            Group::Nodes => nodes::probes(&scene, &mut bounds),
            Group::Egress => egress::probes(&scene, &mut bounds),
            Group::Services => services::served(&scene, &mut bounds),
            Group::Names => names::probes(&scene, &mut bounds),
            Group::Negative => services::negative(&scene, &mut bounds),
            Group::Balance => balance::probes(&scene, &mut bounds),
            Group::Yours => yours::probes(&scene),
        };
        // What is powered off is neither asked nor asks.
        let present = drafts.into_iter().filter(|probe| absent::is_present(lab, probe));
        let wanted = present.filter(|probe| options.wants(probe));
        let before = probes.len();
        probes.extend(wanted);
        if probes.len() == before {
            bounds.retain(|bound| bound.group != group);
        }
    }
    balance::size(&mut probes, options);
    for probe in &mut probes {
        absent::hurry(lab, probe);
        probe.at = origin::of(&scene, probe);
    }
    for (id, order) in probes.iter_mut().flat_map(|probe: &mut Probe| &mut probe.orders).enumerate() {
        order.id = id;
    }
    Suite { lab: lab.name.to_string(), proxy: lab.cluster.proxy, options: options.clone(), probes, bounds }
}

/// All probes of a run.
#[derive(Debug, Clone)]
pub struct Suite {
    /// The lab's name.
    pub lab: String,
    /// Which rules the nodes run.
    pub proxy: ProxyMode,
    /// What was asked for.
    pub options: SuiteOptions,
    /// In the order of the report.
    pub probes: Vec<Probe>,
    /// Where the lab is too large to try everything.
    pub bounds: Vec<Bound>,
}

/// One thing that must be true.
#[derive(Debug, Clone)]
pub struct Probe {
    /// Readable, unique and stable from run to run: `services/pod1a/cluster-ip/shop:8080`.
    pub id: String,
    /// What it belongs to.
    pub group: Group,
    /// The network namespace it is tried from; the node that is tested, where there are several.
    pub from: String,
    /// What sort of place that is.
    pub place: PlaceKind,
    /// Which rules the nodes run.
    pub proxy: ProxyMode,
    /// What is tried.
    pub target: Target,
    /// What the agent does for it.
    pub orders: Vec<Order>,
    /// What must come of it.
    pub expect: Expect,
    /// The rule of Kubernetes behind the expectation, as a sentence without a full stop.
    pub why: String,
    /// Every network namespace that its packets may pass, in their order.
    pub way: Vec<Hop>,
    /// `NAMESPACE/NAME` of the Service that it asks for a name before all else.
    pub resolver: Option<String>,
    /// What it is about, in the lab file: a `[[probe]]`, a Service, a pod.
    pub at: Option<Span>,
}

/// What a probe tries to reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// What sort of address it is.
    pub kind: TargetKind,
    /// The address.
    pub address: Address,
    /// Over what.
    pub protocol: Protocol,
    /// Whose address it is: `pod1a`, `shop:8080`.
    pub of: String,
    /// The node whose address it is, for a nodePort.
    pub node: Option<String>,
    /// `NAMESPACE/NAME` of the Service, as the comments of rules have it.
    pub service: Option<String>,
}

/// Where a probe goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A socket address.
    Socket(SocketAddr),
    /// Several, of one Service port seen through one node.
    Several(Vec<SocketAddr>),
    /// A URL of the user.
    Url(String),
    /// What the user wrote, and where it leads.
    Asked(String, SocketAddr),
    /// A name, and the name server that is asked for it.
    Name(String, SocketAddr),
}

/// The sorts of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TargetKind {
    /// A pod's own.
    Pod,
    /// A node's own.
    Node,
    /// That of a machine outside the cluster.
    Machine,
    /// A Service's ClusterIP.
    ClusterIp,
    /// A port on a node's address.
    NodePort,
    /// That port on a node's own 127.0.0.1.
    Localhost,
    /// An external IP of a Service.
    ExternalIp,
    /// A load balancer's address.
    LoadBalancer,
    /// All addresses of a Service port that one ladder of one node serves.
    Ladder,
    /// A name, which a name server knows or not.
    Name,
    /// Whatever the user wrote, or a name in a URL.
    Url,
}

/// The groups of the report, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// Every pod reaches every pod, without NAT.
    Pods,
    /// Nodes reach pods, and pods reach nodes.
    Nodes,
    /// Pods reach the world, masqueraded.
    Egress,
    /// Services answer.
    Services,
    /// Names stand for what they must.
    Names,
    /// What must not work does not.
    Negative,
    /// Load is spread evenly, or sticks.
    Balance,
    /// The `[[probe]]`s of the lab file.
    Yours,
}

/// What must come of a probe.
#[derive(Debug, Clone, PartialEq)]
pub enum Expect {
    /// Every try is answered, by any one of these.
    Answer(Vec<Answerer>),
    /// Every try is answered by any one of these, and the first of them, which is where the
    /// tries come from, answers at least once.
    Itself(Vec<Answerer>),
    /// Every try is answered, and the answers are spread like this.
    Shares(Spread),
    /// Of these, one answers all tries of an order.
    Sticky(Vec<Answerer>),
    /// No try is answered, and each fails in one of these ways.
    Silence(BTreeSet<FailureKind>),
    /// Each try is answered by one of these, or fails in one of these ways: it depends on the
    /// endpoint that it happens to be sent to.
    Mixed(Vec<Answerer>, BTreeSet<FailureKind>),
    /// A name server says this.
    Says(Saying),
    /// What the user asks for.
    Yours(Box<Wish>),
}

/// How connections are spread.
#[derive(Debug, Clone, PartialEq)]
pub struct Spread {
    /// Who does it: a node, or the load balancer.
    pub by: String,
    /// Who answers.
    pub answerers: Vec<Answerer>,
    /// The share of each of them, 1 together.
    pub shares: Vec<f64>,
}

/// What a name server must say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saying {
    /// How it goes.
    pub rcode: Rcode,
    /// What the answer's records say, and nothing else: aliases first, the others in whatever order.
    pub records: Vec<Said>,
    /// The time to live of every one of them, where it is known.
    pub ttl: Option<u32>,
    /// The zone that a negative answer must come from, where it must say so.
    pub zone: Option<String>,
    /// Whose name server may say it.
    pub by: Vec<Answerer>,
}

/// Someone who may answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answerer {
    /// The pod, the machine, or, for an endpoint that is neither, its address.
    pub name: String,
    /// Where it listens.
    pub endpoint: SocketAddr,
    /// The client addresses that it may see; empty where nothing is known.
    pub sources: BTreeSet<IpAddr>,
    /// Whether it says who it is.
    pub speaks: Speaks,
}

/// What is known of a server's manners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Speaks {
    /// HTTP, and it says who it is: netlab's own servers.
    ItsName,
    /// It answers datagrams, and may not say who it is.
    Datagrams,
    /// DNS: it answers questions about names, and does not say who it is.
    Names,
    /// HTTP on `/metrics`, and it does not say who it is.
    Metrics,
    /// HTTP, and all that it says is the client's address.
    ClientAddress,
    /// Any TCP protocol: all that can be asked is that the connection comes about.
    Anything,
}

impl Suite {
    /// Everything the agent has to do: the functional probes, then the measurements.
    pub fn orders(&self) -> Vec<Order> {
        let mut orders = self.first_orders();
        orders.extend(self.measured().flat_map(|probe| probe.orders.iter().cloned()));
        orders
    }

    /// The orders of all probes but the measurements.
    pub fn first_orders(&self) -> Vec<Order> {
        self.probes.iter().filter(|probe| !probe.is_measurement()).flat_map(|probe| probe.orders.clone()).collect()
    }

    /// The orders of the measurements that are worth making after what came of
    /// [`Suite::first_orders`]: hundreds of connections say nothing new about a path on which
    /// one connection just failed, and each of them would have to time out.
    pub fn second_orders(&self, outcomes: &[Outcome]) -> Vec<Order> {
        let by_id = outcomes.iter().map(|outcome| (outcome.id, outcome)).collect();
        let hopeless = judge::hopeless(self, &by_id);
        self.measured()
            .filter(|probe| !hopeless.contains_key(&probe.id))
            .flat_map(|probe| probe.orders.clone())
            .collect()
    }

    /// The share of [`SuiteOptions::alpha`] that each distribution test gets (Bonferroni).
    pub fn alpha_each(&self) -> f64 {
        self.options.alpha / self.tests().max(1) as f64
    }

    /// How many distribution tests there are.
    pub fn tests(&self) -> usize {
        self.probes.iter().filter(|probe| probe.expect.shares().is_some()).count()
    }

    fn measured(&self) -> impl Iterator<Item = &Probe> {
        self.probes.iter().filter(|probe| probe.is_measurement())
    }
}

impl Probe {
    /// What it shows, for people: `pod1a → ClusterIP 10.96.1.100:8080 of shop`.
    pub fn name(&self) -> String {
        if self.group == Group::Yours {
            // The user has said it.
            return self.target.of.clone();
        }
        let itself = if matches!(self.expect, Expect::Itself(_)) { "itself through " } else { "" };
        format!("{} → {itself}{}", self.from_text(), self.target)
    }

    /// Where it is tried from, for people.
    pub fn from_text(&self) -> String {
        let mut places: Vec<&str> = Vec::new();
        for order in &self.orders {
            if !places.contains(&order.netns.as_str()) {
                places.push(&order.netns);
            }
        }
        places.join(", ")
    }

    /// What shows that all is well is that nothing comes back.
    pub fn waits_for_silence(&self) -> bool {
        matches!(&self.expect, Expect::Silence(kinds) if kinds.contains(&FailureKind::Timeout))
    }

    /// It opens many connections to see how they are spread.
    pub fn is_measurement(&self) -> bool {
        self.group == Group::Balance
    }
}

impl Group {
    /// All of them, in the order of the report.
    pub const ALL: [Group; 8] = [
        Group::Pods,
        Group::Nodes,
        Group::Egress,
        Group::Services,
        Group::Names,
        Group::Negative,
        Group::Balance,
        Group::Yours,
    ];

    /// Its name on the command line and in the report.
    pub fn as_str(self) -> &'static str {
        match self {
            Group::Pods => "pods",
            Group::Nodes => "nodes",
            Group::Egress => "egress",
            Group::Services => "services",
            Group::Names => "names",
            Group::Negative => "negative",
            Group::Balance => "balance",
            Group::Yours => "yours",
        }
    }

    /// What its probes show together, in a few words.
    pub fn shows(self) -> &'static str {
        match self {
            Group::Pods => "every pod reaches every pod, without NAT",
            Group::Nodes => "nodes reach pods and pods reach nodes",
            Group::Egress => "what leaves the cluster carries its node's address",
            Group::Services => "every Service answers at each of its addresses",
            Group::Names => "names stand for what they must",
            Group::Negative => "what must not work does not",
            Group::Balance => "load is spread as the Service says",
            Group::Yours => "the probes of the lab file",
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl TargetKind {
    /// As Kubernetes calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            TargetKind::Pod => "pod",
            TargetKind::Node => "node",
            TargetKind::Machine => "machine",
            TargetKind::ClusterIp => "ClusterIP",
            TargetKind::NodePort | TargetKind::Localhost => "nodePort",
            TargetKind::ExternalIp => "external IP",
            TargetKind::LoadBalancer => "load balancer IP",
            TargetKind::Ladder => "addresses",
            TargetKind::Name => "name",
            TargetKind::Url => "URL",
        }
    }

    /// As it stands in the id of a probe.
    pub fn slug(self) -> &'static str {
        match self {
            TargetKind::Pod => "pod",
            TargetKind::Node => "node",
            TargetKind::Machine => "machine",
            TargetKind::ClusterIp => "cluster-ip",
            TargetKind::NodePort => "node-port",
            TargetKind::Localhost => "localhost",
            TargetKind::ExternalIp => "external-ip",
            TargetKind::LoadBalancer => "load-balancer",
            TargetKind::Ladder => "ladder",
            TargetKind::Name => "name",
            TargetKind::Url => "url",
        }
    }
}

impl Spread {
    /// All shares are the same.
    pub fn is_equal(&self) -> bool {
        self.shares.iter().all(|share| (share - self.shares[0]).abs() < 1e-9)
    }
}

impl Target {
    /// Every IP address it stands for.
    pub fn ips(&self) -> Vec<IpAddr> {
        match &self.address {
            Address::Socket(address) | Address::Name(_, address) | Address::Asked(_, address) => vec![address.ip()],
            Address::Several(addresses) => addresses.iter().map(SocketAddr::ip).collect(),
            Address::Url(url) => yours::authority(url).map(|(address, _)| address.ip()).into_iter().collect(),
        }
    }

    /// Every port it stands for.
    pub fn ports(&self) -> Vec<u16> {
        match &self.address {
            Address::Socket(address) | Address::Name(_, address) | Address::Asked(_, address) => vec![address.port()],
            Address::Several(addresses) => addresses.iter().map(SocketAddr::port).collect(),
            Address::Url(url) => yours::authority(url).map(|(address, _)| address.port()).into_iter().collect(),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Target { kind, address, protocol, of, node, .. } = self;
        match kind {
            TargetKind::Url => write!(f, "{address}")?,
            TargetKind::Name => return write!(f, "{of}{}", if *protocol == Protocol::Tcp { " over TCP" } else { "" }),
            TargetKind::Pod | TargetKind::Machine | TargetKind::Node => write!(f, "{of} at {address}")?,
            TargetKind::Ladder => write!(f, "{of} through {}", node.as_deref().unwrap_or("any node"))?,
            // A ClusterIP's port is the Service's own, and need not be said twice.
            _ => {
                let port = self.ports().first().map(|port| format!(":{port}")).unwrap_or_default();
                write!(f, "{} {address} of {}", kind.as_str(), of.strip_suffix(&port).unwrap_or(of))?;
            }
        }
        match protocol {
            Protocol::Tcp => Ok(()),
            other => write!(f, " ({other})"),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Socket(address) => address.fmt(f),
            Address::Several(addresses) => {
                let unique: BTreeSet<String> = addresses.iter().map(SocketAddr::to_string).collect();
                f.write_str(&unique.into_iter().collect::<Vec<_>>().join(", "))
            }
            Address::Url(text) | Address::Name(text, _) | Address::Asked(text, _) => f.write_str(text),
        }
    }
}

impl Expect {
    /// The share of each answerer, where it is tested.
    pub fn shares(&self) -> Option<&[f64]> {
        match self {
            Expect::Shares(spread) => Some(&spread.shares),
            Expect::Yours(wish) if !wish.shares.is_empty() => Some(&wish.shares),
            _ => None,
        }
    }

    /// Everyone who may answer.
    pub fn answerers(&self) -> &[Answerer] {
        match self {
            Expect::Answer(answerers)
            | Expect::Itself(answerers)
            | Expect::Sticky(answerers)
            | Expect::Mixed(answerers, _) => answerers,
            Expect::Shares(spread) => &spread.answerers,
            Expect::Says(saying) => &saying.by,
            Expect::Yours(wish) => &wish.backends,
            Expect::Silence(_) => &[],
        }
    }
}

/// Outcomes by the id of their order.
pub(crate) type Outcomes<'a> = BTreeMap<usize, &'a Outcome>;

#[cfg(test)]
mod tests;
