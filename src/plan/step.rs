//! The vocabulary of a plan: every effect netlab has on a kernel, as data.
//!
//! A [`Step`] says what to do in which namespace, and nothing about how. Its `Display` is the
//! command that a person would type; `kernel::apply` is the one place that carries it out.

use std::{collections::BTreeSet, fmt, net::IpAddr};

use ipnet::IpNet;

use crate::{
    lab::model::{ExternalServer, PodId, ProxyMode, ServiceId, Span},
    proxy::{Rules, view::NodeView},
};

/// What has to happen, stage after stage.
#[derive(Debug, Clone)]
pub struct Plan {
    /// In order; a stage begins when the one before it is done.
    pub stages: Vec<Stage>,
}

impl Plan {
    /// What the nodes do for Services, in file order.
    pub fn views(&self) -> impl Iterator<Item = &NodeView> {
        self.stages.iter().flat_map(|stage| &stage.steps).filter_map(|planned| match &planned.step {
            Step::Rules { text, .. } => Some(text.view()),
            _ => None,
        })
    }
}

/// Steps that do not depend on each other.
#[derive(Debug, Clone)]
pub struct Stage {
    /// A noun: `namespaces`, `links`, …
    pub name: StageName,
    /// In a deterministic order, which the interpreter need not keep.
    pub steps: Vec<PlannedStep>,
}

/// The stages of every plan, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StageName {
    /// Network namespaces and what must be set before there is a link in them.
    Namespaces,
    /// Bridges, and `lo`.
    Bridges,
    /// The veths, each with both its ends.
    Cables,
    /// Addresses.
    Addresses,
    /// The carriers of the links, which the kernel would otherwise notice later.
    Carriers,
    /// Routes.
    Routes,
    /// Routes through a gateway that another route makes a neighbour.
    DefaultRoutes,
    /// Service rules, and the egress masquerade.
    Rules,
    /// The pods' servers.
    Servers,
}

/// A step and the part of the lab file that asks for it.
#[derive(Debug, Clone)]
pub struct PlannedStep {
    /// What to do.
    pub step: Step,
    /// Which part of the lab file it is for.
    pub at: Span,
}

/// An interface index, given by the plan and unique in the lab, so that no step has to look
/// one up, and so that the two ends of a veth never share one (which would make the kernel
/// defer their carrier by a second: `linkwatch` treats a link whose `iflink` equals its own
/// index as not urgent).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IfIndex(pub u32);

/// A link's identity: what it is called, and its index.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Link {
    /// The namespace it is in.
    pub netns: String,
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: IfIndex,
}

/// A link-layer address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mac(pub [u8; 6]);

/// One effect.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    /// Make a network namespace and bind it to `/run/netns/NAME`. The host's exists already.
    Netns {
        /// The name.
        netns: String,
        /// Settings below `/proc/sys/net` that must hold before the first link exists.
        sysctls: Vec<(&'static str, String)>,
    },
    /// Bring `lo` up.
    Loopback {
        /// In this namespace.
        netns: String,
    },
    /// Make a bridge, with a fixed address, and bring it up.
    Bridge {
        /// The bridge.
        link: Link,
        /// Its address: without one it takes its lowest port's, which changes as ports come.
        mac: Mac,
    },
    /// Make a veth: both ends in their namespaces, with their names, indexes and addresses.
    Cable {
        /// The end that is plugged into something: made up at once.
        near: Link,
        /// The near end's address.
        near_mac: Mac,
        /// The bridge that the near end is a port of.
        bridge: Option<Link>,
        /// Frames may leave by the port they came in: needed where bridged frames are DNATed.
        hairpin: bool,
        /// The end inside the place.
        far: Link,
        /// The far end's address.
        far_mac: Mac,
    },
    /// Pull a cable that is plugged in: nothing gets through, and neither end has a carrier.
    Unplug {
        /// The end that is plugged into something.
        near: Link,
        /// The end inside the place.
        far: Link,
    },
    /// Give a link an address and bring it up.
    Address {
        /// The link.
        link: Link,
        /// The address with its prefix.
        address: IpNet,
    },
    /// Ask for a link's state once. A veth whose other end came up after it can send only
    /// when the kernel's asynchronous link watch has run, and one single (non-dump) request
    /// for the link runs it now; otherwise about one pod in thirty loses its first ARP
    /// request, and a second with it.
    Settle {
        /// The link.
        link: Link,
    },
    /// Add a route.
    Route {
        /// In this namespace.
        netns: String,
        /// Where to; a /0 is the default route.
        to: IpNet,
        /// How.
        via: Via,
    },
    /// Tell a neighbour's link-layer address, for good.
    ///
    /// All namespaces of a host share one neighbour table, of 1024 entries by default, in which
    /// permanent entries do not count: a big lab would fill it.
    Neighbour {
        /// On this link.
        link: Link,
        /// The neighbour.
        ip: IpAddr,
        /// Its address.
        mac: Mac,
    },
    /// Load a node's rules, as one transaction.
    Rules {
        /// In this namespace.
        netns: String,
        /// Who wrote them; tells the tool that loads them.
        proxy: ProxyMode,
        /// The whole input of `iptables-restore --noflush` or `nft -f -`.
        text: Rules,
    },
    /// Start a container's server.
    Serve {
        /// The namespace that it runs in.
        netns: String,
        /// The pod.
        pod: PodId,
        /// Index into the pod's containers.
        container: usize,
        /// What it is, for printing.
        argv: Vec<String>,
    },
    /// Start the built-in server of a machine outside the cluster.
    ServeOutside {
        /// The namespace that it runs in.
        netns: String,
        /// Its port.
        port: u16,
        /// What it answers.
        server: ExternalServer,
    },
    /// Start the name server of the lab's internet.
    ServeNames {
        /// The namespace that it runs in.
        netns: String,
    },
    /// Drop the packets to an address that come in by a link, and no others.
    Refuse {
        /// The link that they come in by.
        link: Link,
        /// Where they want to go.
        to: IpNet,
    },
    /// Spread the connections to an address over several gateways, or drop them if there is none:
    /// what the load balancer changes as nodes come and go.
    Spread {
        /// The link that leads to the gateways.
        link: Link,
        /// The address.
        to: IpNet,
        /// The gateways.
        gateways: Vec<IpAddr>,
    },
    /// Start a health check of a node.
    ServeHealth {
        /// The node's namespace.
        netns: String,
        /// Its port.
        port: u16,
        /// What it is about.
        check: Check,
    },
    /// Start the load balancer.
    ServeBalancer {
        /// The namespace that it runs in.
        netns: String,
        /// What runs.
        program: Program,
    },
}

/// What a health check is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Check {
    /// The node's proxy.
    Proxy,
    /// A Service with the traffic policy `Local`.
    Service {
        /// The Service.
        service: ServiceId,
        /// How many of its ready endpoints are on this node.
        local_endpoints: usize,
    },
}

/// What a load balancer runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Program {
    /// Built into netlab: it asks the nodes how they are, and sets the routes.
    Watch(Vec<Watched>),
    /// HAProxy, with this configuration.
    Haproxy(String),
}

/// An address of the load balancer, and who must be asked about it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Watched {
    /// The route.
    pub to: IpNet,
    /// The link that leads to the nodes.
    pub link: Link,
    /// The nodes' addresses, each with whether it is healthy when the lab begins.
    pub nodes: Vec<(IpAddr, Begins)>,
    /// The ports of the health checks that a node must pass.
    pub checks: BTreeSet<u16>,
}

/// How a node is when the lab begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Begins {
    /// It gets connections.
    Healthy,
    /// It gets none yet.
    Unhealthy,
    /// It gets none, whatever was known of it: it has no power.
    Off,
}

/// How a route leads on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Via {
    /// Through a neighbour on a link.
    Gateway(IpAddr, Link),
    /// Directly onto a link.
    Link(Link),
    /// Nowhere, without a word.
    Blackhole,
}

impl StageName {
    /// All of them, in their order.
    pub const ALL: [StageName; 9] = [
        StageName::Namespaces,
        StageName::Bridges,
        StageName::Cables,
        StageName::Addresses,
        StageName::Carriers,
        StageName::Routes,
        StageName::DefaultRoutes,
        StageName::Rules,
        StageName::Servers,
    ];

    /// Its name on the command line (`--stage`) and in the progress.
    pub fn as_str(self) -> &'static str {
        match self {
            StageName::Namespaces => "namespaces",
            StageName::Bridges => "bridges",
            StageName::Cables => "cables",
            StageName::Addresses => "addresses",
            StageName::Carriers => "carriers",
            StageName::Routes => "routes",
            StageName::DefaultRoutes => "default-routes",
            StageName::Rules => "rules",
            StageName::Servers => "servers",
        }
    }
}

impl fmt::Display for StageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl Step {
    /// The namespace that the step is about.
    pub fn netns(&self) -> &str {
        match self {
            Step::Netns { netns, .. }
            | Step::Loopback { netns }
            | Step::Route { netns, .. }
            | Step::Rules { netns, .. }
            | Step::Serve { netns, .. }
            | Step::ServeOutside { netns, .. }
            | Step::ServeNames { netns }
            | Step::ServeHealth { netns, .. }
            | Step::ServeBalancer { netns, .. } => netns,
            Step::Bridge { link, .. }
            | Step::Address { link, .. }
            | Step::Settle { link }
            | Step::Refuse { link, .. }
            | Step::Spread { link, .. }
            | Step::Neighbour { link, .. } => &link.netns,
            Step::Cable { near, .. } | Step::Unplug { near, .. } => &near.netns,
        }
    }
}

/// `ip -n NETNS …`, or `ip …` in the lab's outer namespace, as inside `netlab shell`.
struct Ip<'a>(&'a str);

impl fmt::Display for Ip<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            "host" => f.write_str("ip"),
            netns => write!(f, "ip -n {netns}"),
        }
    }
}

/// `ip netns exec NETNS …`, or nothing in the lab's outer namespace.
struct Exec<'a>(&'a str);

impl fmt::Display for Exec<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            "host" => Ok(()),
            netns => write!(f, "ip netns exec {netns} "),
        }
    }
}

/// `ip -n NETNS`, or `ip`.
pub(super) fn ip(netns: &str) -> impl fmt::Display + '_ {
    Ip(netns)
}

/// `ip netns exec NETNS `, or nothing.
pub(super) fn exec(netns: &str) -> impl fmt::Display + '_ {
    Exec(netns)
}

/// As `ip` takes and prints it.
pub(super) fn prefix(to: IpNet) -> String {
    match to.prefix_len() {
        0 => "default".to_owned(),
        len if len == to.max_prefix_len() => to.addr().to_string(),
        _ => to.to_string(),
    }
}

/// One line per command; several lines where a person needs several commands.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Netns { netns, sysctls } => {
                let mut lines = Vec::new();
                if netns != "host" {
                    lines.push(format!("ip netns add {netns}"));
                }
                for (key, value) in sysctls {
                    lines.push(format!("{}sysctl -qw {}={value}", Exec(netns), key.replace('/', ".")));
                }
                f.write_str(&lines.join("\n"))
            }
            Step::Loopback { netns } => write!(f, "{} link set lo up", Ip(netns)),
            Step::Bridge { link, mac } => {
                let ip = Ip(&link.netns);
                let Link { name, index: IfIndex(index), .. } = link;
                write!(f, "{ip} link add {name} index {index} address {mac} type bridge\n{ip} link set {name} up")
            }
            Step::Cable { near, near_mac, bridge, hairpin, far, far_mac } => {
                let ip = Ip(&near.netns);
                write!(
                    f,
                    "{ip} link add {} index {} address {near_mac} type veth peer name {} index {} address {far_mac} netns {}",
                    near.name, near.index.0, far.name, far.index.0, far.netns
                )?;
                if let Some(bridge) = bridge {
                    write!(f, "\n{ip} link set {} master {}", near.name, bridge.name)?;
                }
                if *hairpin {
                    write!(f, "\n{}bridge link set dev {} hairpin on", Exec(&near.netns), near.name)?;
                }
                write!(f, "\n{ip} link set {} up", near.name)
            }
            Step::Unplug { near, .. } => write!(f, "{} link set {} down", Ip(&near.netns), near.name),
            Step::Address { link, address } => {
                let ip = Ip(&link.netns);
                write!(f, "{ip} address add {address} dev {name}\n{ip} link set {name} up", name = link.name)
            }
            Step::Settle { link } => write!(f, "{} link show dev {}", Ip(&link.netns), link.name),
            Step::Route { netns, to, via } => {
                let ip = Ip(netns);
                let to = prefix(*to);
                match via {
                    Via::Gateway(gateway, link) => write!(f, "{ip} route add {to} via {gateway} dev {}", link.name),
                    Via::Link(link) => write!(f, "{ip} route add {to} dev {} scope link", link.name),
                    Via::Blackhole => write!(f, "{ip} route add blackhole {to}"),
                }
            }
            Step::Neighbour { link, ip, mac } => {
                write!(f, "{} neighbour replace {ip} lladdr {mac} dev {} nud permanent", Ip(&link.netns), link.name)
            }
            Step::Rules { netns, proxy, .. } => {
                let tool = match proxy {
                    ProxyMode::Iptables | ProxyMode::Ladder => "iptables-restore --noflush",
                    ProxyMode::Nftables => "nft -f -",
                };
                write!(f, "{}{tool}   # netlab rules {netns}", Exec(netns))
            }
            Step::Serve { netns, argv, .. } => write!(f, "{}{} &", Exec(netns), argv.join(" ")),
            Step::ServeOutside { netns, port, server } => {
                let program = match server {
                    ExternalServer::Echo => "netlab-echo",
                    ExternalServer::MyIp => "netlab-my-ip",
                };
                write!(f, "{}{program} {port} &   # built in", Exec(netns))
            }
            Step::ServeNames { netns } => write!(f, "{}netlab-dns &   # built in", Exec(netns)),
            Step::Refuse { link, to } => {
                write!(f, "{} rule add iif {} to {} blackhole", Ip(&link.netns), link.name, prefix(*to))
            }
            Step::Spread { link, to, gateways } => {
                let (ip, to) = (Ip(&link.netns), prefix(*to));
                match gateways.as_slice() {
                    [] => write!(f, "{ip} route replace blackhole {to}"),
                    [gateway] => write!(f, "{ip} route replace {to} via {gateway} dev {}", link.name),
                    several => {
                        write!(f, "{ip} route replace {to}")?;
                        several.iter().try_for_each(|via| write!(f, " nexthop via {via} dev {}", link.name))
                    }
                }
            }
            Step::ServeHealth { netns, port, check } => match check {
                Check::Proxy => write!(f, "{}netlab-health {port} &   # built in", Exec(netns)),
                Check::Service { local_endpoints, .. } => {
                    write!(f, "{}netlab-health {port} --local-endpoints {local_endpoints} &   # built in", Exec(netns))
                }
            },
            Step::ServeBalancer { netns, program: Program::Haproxy(_) } => {
                write!(f, "{}haproxy -db -f haproxy.cfg &", Exec(netns))
            }
            Step::ServeBalancer { netns, program: Program::Watch(watched) } => {
                let all: Vec<String> = watched.iter().map(|watched| prefix(watched.to)).collect();
                write!(f, "{}netlab-balancer {} &   # built in", Exec(netns), all.join(" "))
            }
        }
    }
}
