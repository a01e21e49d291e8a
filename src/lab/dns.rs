//! `[dns]` → the cluster's DNS: its pods and its Service, which are made here as an installer of
//! clusters makes them.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use super::{
    address::{ip, special},
    alloc::Pool,
    externals::ExternalDraft,
    file::{DnsTable, LabFile},
    kept::Kept,
    model::{
        Attach, Common, Container, ContainerPort, Dns, DnsEngine, DnsPolicy, ExternalNames, Labels, Node, NodeId, Pod,
        PodDns, PodRecords, Protocol, Server, Service, ServiceId, ServicePort, Span, TargetPort,
    },
    name::Name,
    network::Network,
    pods::BRIDGE_PORTS,
    said::At,
    value::{DnsReplicas, EngineKind, Ttl, invalid},
};
use crate::diag::{Diagnostic, Problems};

/// What the file says of the cluster's DNS.
#[derive(Debug)]
pub(super) struct DnsDraft {
    engine: DnsEngine,
    pub(super) ip: Ipv4Addr,
    upstream: Vec<IpAddr>,
    ttl: u32,
    pod_records: PodRecords,
    external_names: ExternalNames,
    replicas: usize,
    pub(super) at: Span,
}

/// The ClusterIP of `kube-dns` in its range, by convention.
const TENTH: u32 = 10;
/// Who answers if the file does not say.
const ENGINE: EngineKind = EngineKind::Embedded;
/// CoreDNS's `forward` takes no more.
const MOST_UPSTREAMS: usize = 15;
/// kubeadm's.
const TTL: u32 = 30;
const NAMESPACE: &str = "kube-system";
const SERVICE: &str = "kube-dns";
const POD: &str = "coredns";
/// What probes call its Service.
pub(super) const FULL_NAME: &str = "kube-dns.kube-system";

/// The ports of CoreDNS and of its Service: name, number, protocol.
const PORTS: [(&str, u16, Protocol); 3] =
    [("dns", 53, Protocol::Udp), ("dns-tcp", 53, Protocol::Tcp), ("metrics", 9153, Protocol::Tcp)];

/// Reads it from the file; `Some(None)` for a lab without, `None` if it was refused.
pub(super) fn dns(file: &LabFile, network: &Network, problems: &mut Problems) -> Option<Option<DnsDraft>> {
    if file.dns.is_nonsense() {
        return None;
    }
    let table = file.dns.get();
    let engine = match table.map_or(Some(ENGINE), |table| table.engine.or(ENGINE))? {
        EngineKind::Embedded => DnsEngine::Embedded,
        EngineKind::Coredns => DnsEngine::Coredns,
        EngineKind::None => {
            table.into_iter().for_each(|table| refuse_the_rest(table, problems));
            return Some(None);
        }
    };
    let at =
        table.map_or_else(|| network.cluster.as_ref().map_or(0..0, |cluster| cluster.at.clone()), |t| t.at.clone());
    let ip = address(file, network, &at, problems)?;
    let upstream = match table.and_then(|table| table.upstream.at()) {
        None => vec![network.cluster.as_ref()?.gateway],
        Some(said) => {
            check_upstream(file, said, network, problems);
            said.value.iter().map(|said| super::address::ip(said.value)).collect()
        }
    };
    Some(Some(DnsDraft {
        engine,
        ip,
        upstream,
        ttl: table.map_or(Some(Ttl(TTL)), |table| table.ttl.or(Ttl(TTL)))?.0,
        pod_records: table.map_or(Some(PodRecords::Insecure), |table| table.pods.or(PodRecords::Insecure))?,
        external_names: table.map_or(Some(ExternalNames::Cname), |t| t.external_names.or(ExternalNames::Cname))?,
        replicas: table.map_or(Some(DnsReplicas(1)), |table| table.replicas.or(DnsReplicas(1)))?.0,
        at,
    }))
}

/// Without an engine, nothing else means anything.
fn refuse_the_rest(table: &DnsTable, problems: &mut Problems) {
    let said = [
        ("upstream", table.upstream.at().map(|said| &said.at)),
        ("ttl", table.ttl.at().map(|said| &said.at)),
        ("pods", table.pods.at().map(|said| &said.at)),
        ("external_names", table.external_names.at().map(|said| &said.at)),
        ("replicas", table.replicas.at().map(|said| &said.at)),
    ];
    for (key, at) in said {
        let Some(at) = at else { continue };
        let problem = Diagnostic::new(at.clone(), format!("`{key}` says nothing without an engine"));
        problems.push(problem.hint(format!("leave `{key}` out, or choose another `engine`")));
    }
}

/// Whom the cluster's DNS asks is outside of the cluster's own addresses, and is a name server.
fn check_upstream(file: &LabFile, list: &At<Vec<At<Ipv4Addr>>>, network: &Network, problems: &mut Problems) {
    let hint = "give the address of a name server, or leave `upstream` out: `host` is one";
    if list.value.is_empty() {
        problems.push(Diagnostic::new(list.at.clone(), "`upstream` names nobody").hint(hint));
    }
    if let Some(said) = list.value.get(MOST_UPSTREAMS) {
        let message = format!("must not have more than {MOST_UPSTREAMS} name servers");
        problems.push(Diagnostic::new(said.at.clone(), message).hint("leave it out"));
    }
    let mut seen: BTreeMap<Ipv4Addr, &Span> = BTreeMap::new();
    for said in &list.value {
        let machines = file.external.list().iter();
        let external =
            machines.filter(|table| table.ip.get().is_some_and(|ips| ips.0.iter().any(|it| it.value == said.value)));
        let why = match (special(said.value), external.filter_map(|table| table.name.get()).next()) {
            (Some(why), _) => why.to_owned(),
            (None, Some(name)) => format!("is the address of `{name}`, which is no name server"),
            (None, None) if network.service_cidr.is_some_and(|range| range.contains(&said.value)) => {
                "is in the range of the ClusterIPs, and must be outside the cluster".to_owned()
            }
            (None, None) => {
                if let Some(first) = seen.insert(said.value, &said.at) {
                    let problem =
                        Diagnostic::new(said.at.clone(), format!("the name server {} is given twice", said.value));
                    problems.push(problem.also(first.clone(), "first given here").hint("leave one of them out"));
                }
                continue;
            }
        };
        problems.push(invalid("upstream", said.value, said.at.clone(), why).hint(hint));
    }
}

fn address(file: &LabFile, network: &Network, at: &Span, problems: &mut Problems) -> Option<Ipv4Addr> {
    let range = network.service_cidr?;
    let address = Ipv4Addr::from(u32::from(range.network()).saturating_add(TENTH));
    if range.contains(&address) && address != range.broadcast() {
        return Some(address);
    }
    let at = file.cluster.get().map_or(at.clone(), |table| table.service_cidr.span(at));
    let message = format!("the service range {range} is too small for the cluster's DNS, which has its tenth address");
    let problem = Diagnostic::new(at, message);
    problems.push(
        problem.hint("choose a larger `service_cidr` (a /28 is enough), or write `engine = \"none\"` in `[dns]`"),
    );
    None
}

impl DnsDraft {
    /// Puts the pods and the Service behind all others; `None` if something stands in the way.
    pub(super) fn finish(
        self,
        nodes: &[Node],
        pods: &mut Vec<Pod>,
        services: &mut Vec<Common<Service>>,
        externals: &[ExternalDraft],
        kept: &Kept,
        problems: &mut Problems,
    ) -> Option<Dns> {
        let namespace: Name = NAMESPACE.parse().ok()?;
        if let Some(own) = services.iter().find(|it| it.namespace == namespace && it.name.as_str() == SERVICE) {
            let problem =
                Diagnostic::new(own.at.clone(), format!("the lab has a service `{SERVICE}` of its own making"));
            problems.push(problem.hint("leave this one out, or write `engine = \"none\"` in `[dns]`"));
            return None;
        }
        for nth in 0..self.replicas {
            let name = if self.replicas == 1 { POD.to_owned() } else { format!("{POD}-{nth}") };
            let name: Name = name.parse().ok()?;
            if let Some(own) = pods.iter().find(|pod| pod.namespace == namespace && pod.name == name) {
                let problem = Diagnostic::new(own.at.clone(), format!("the lab has a pod `{name}` of its own making"));
                problems.push(problem.hint("choose another name or `namespace`"));
                return None;
            }
            let full_name = format!("{name}.{NAMESPACE}");
            if let Some(own) = externals.iter().find(|it| it.name.as_ref().is_some_and(|it| it.as_str() == full_name)) {
                let message = format!("the lab has a pod `{full_name}` of its own making");
                problems.push(Diagnostic::new(own.name_at.clone(), message).hint("choose another name"));
                return None;
            }
            let had = kept_room(nodes, pods, &full_name, kept);
            let Some((node, address)) = had.or_else(|| room(nodes, pods, kept)) else {
                let problem = Diagnostic::new(self.at.clone(), "no node has an address left for the cluster's DNS");
                problems
                    .push(problem.hint("give a node a larger `pod_subnet`, or write `engine = \"none\"` in `[dns]`"));
                return None;
            };
            pods.push(self.pod(name, &namespace, node, address)?);
        }
        services.push(self.service(namespace)?.into());
        Some(Dns {
            engine: self.engine,
            service: ServiceId(services.len() - 1),
            ip: ip(self.ip),
            upstream: self.upstream,
            ttl: self.ttl,
            pod_records: self.pod_records,
            external_names: self.external_names,
            at: self.at,
        })
    }

    fn pod(&self, name: Name, namespace: &Name, node: NodeId, address: Ipv4Addr) -> Option<Pod> {
        let ports = PORTS.iter().map(|(name, port, protocol)| {
            Some(ContainerPort {
                name: Some(name.parse().ok()?),
                container_port: *port,
                protocol: *protocol,
                host_port: None,
            })
        });
        Some(Pod {
            name,
            namespace: namespace.clone(),
            node,
            ip: ip(address),
            host_network: false,
            labels: labels()?,
            containers: vec![Container {
                name: POD.parse().ok()?,
                server: Server::Dns,
                ports: ports.collect::<Option<_>>()?,
                env: Default::default(),
                readiness: None,
                at: self.at.clone(),
            }],
            ready: true,
            unproven: false,
            terminating: false,
            termination_grace_period: super::pods::GRACE,
            hostname: None,
            subdomain: None,
            dns: PodDns { policy: DnsPolicy::Default, ..PodDns::default() },
            enable_service_links: true,
            at: self.at.clone(),
        })
    }

    fn service(&self, namespace: Name) -> Option<Service> {
        let ports = PORTS.iter().map(|(name, port, protocol)| {
            Some(ServicePort {
                name: Some(name.parse().ok()?),
                protocol: *protocol,
                port: *port,
                target_port: TargetPort::Number(*port),
                node_port: None,
                at: self.at.clone(),
            })
        });
        let mut service = Service::new(SERVICE.parse().ok()?, namespace, self.at.clone());
        service.cluster_ip = Some(ip(self.ip));
        (service.labels, service.selector) = (labels()?, labels()?);
        service.ports = ports.collect::<Option<_>>()?;
        Some(service)
    }
}

fn labels() -> Option<Labels> {
    Some([("k8s-app".parse().ok()?, SERVICE.parse().ok()?)].into())
}

/// Where the pod was, if it can be there again.
fn kept_room(nodes: &[Node], pods: &[Pod], full_name: &str, kept: &Kept) -> Option<(NodeId, Ipv4Addr)> {
    let node = nodes.iter().position(|node| Some(node.name.as_str()) == kept.pod_node(full_name))?;
    let address = kept.pod_ip(full_name, nodes[node].name.as_str())?;
    let free = nodes[node].pod_subnet.contains(&ip(address)) && pods.iter().all(|pod| pod.ip != ip(address));
    free.then_some((NodeId(node), address))
}

/// The node with the fewest pods that has a place left, and the lowest free address there.
fn room(nodes: &[Node], pods: &[Pod], kept: &Kept) -> Option<(NodeId, Ipv4Addr)> {
    let mut load = vec![0usize; nodes.len()];
    pods.iter().filter(|pod| !pod.host_network).for_each(|pod| load[pod.node.0] += 1);
    let mut order: Vec<usize> = (0..nodes.len()).collect();
    order.retain(|node| !kept.is_closed(nodes[*node].name.as_str()));
    order.sort_by_key(|node| load[*node]);
    order.into_iter().find_map(|node| {
        let full = matches!(nodes[node].attach, Attach::Bridge(_)) && load[node] >= BRIDGE_PORTS;
        let ipnet::IpNet::V4(subnet) = nodes[node].pod_subnet else { return None };
        let mut pool = Pool::pods(subnet);
        for pod in pods.iter().filter(|pod| pod.node.0 == node) {
            if let IpAddr::V4(address) = pod.ip {
                pool.take(u32::from(address));
            }
        }
        pool.next_ip().filter(|_| !full).map(|address| (NodeId(node), address))
    })
}
