//! `[[service]]` → Services with their addresses and node ports, checked as Kubernetes' API server
//! checks them, in its words where they are good.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use super::{
    address::{ClusterIp, ip, net, special},
    alloc::Pool,
    file::{EndpointTable, LabFile, ServicePortTable, ServiceTable},
    model::{
        Labels, ManualEndpoint, NodeId, Protocol, Service, ServiceKind, ServicePort, Span, TargetPort, TrafficPolicy,
    },
    name::{Name, PortName, ServiceName},
    network::Network,
    pods::{Pods, Template, find_node},
    value::{Affinity, At, Said, Seconds, ServiceType, invalid, listed},
};
use crate::diag::{Diagnostic, Problems};

/// A Service on its way.
#[derive(Debug)]
pub(super) struct ServiceDraft {
    pub(super) name: Option<ServiceName>,
    pub(super) namespace: Option<Name>,
    pub(super) name_at: Span,
    /// `Some(None)` for a headless Service.
    pub(super) cluster_ip: Option<Option<Ipv4Addr>>,
    /// `None` if anything was refused.
    rest: Option<Service>,
}

/// Addresses and ports that Services share out among them.
struct Shared {
    cluster_ips: Option<Pool>,
    node_ports: Pool,
    load_balancer_ips: Pool,
    /// Who took what first, for the related place of a clash.
    ip_owners: BTreeMap<Ipv4Addr, Span>,
    port_owners: BTreeMap<u16, Span>,
}

/// The load balancer's addresses come from TEST-NET-3 (RFC 5737), which nobody else uses.
const LOAD_BALANCER_IPS: std::ops::RangeInclusive<u32> = 0xCB00_7101..=0xCB00_71FE;
const NODE_PORTS: std::ops::RangeInclusive<u16> = 30000..=32767;
/// Kubernetes' default of `sessionAffinityConfig.clientIP.timeoutSeconds`.
const AFFINITY_TIMEOUT: u32 = 10800;
/// The port of the kubelet, which Kubernetes keeps load balancers away from.
const KUBELET: u16 = 10250;

/// Reads the Services from the file.
pub(super) fn services(file: &LabFile, network: &Network, pods: &Pods, problems: &mut Problems) -> Vec<ServiceDraft> {
    let tables = file.service.list();
    let mut shared = Shared {
        cluster_ips: network.service_cidr.map(Pool::cluster_ips),
        node_ports: Pool::node_ports(),
        load_balancer_ips: Pool::new([LOAD_BALANCER_IPS]),
        ip_owners: BTreeMap::new(),
        port_owners: BTreeMap::new(),
    };
    // What is given is taken before anything is allocated, so that the order of the file does not
    // matter to what is given.
    for table in tables {
        shared.claim(table, network, problems);
    }
    let index = Index::of(pods, network);
    let drafts: Vec<ServiceDraft> =
        tables.iter().map(|table| draft(table, &mut shared, &index, network, problems)).collect();
    check_external_addresses(tables, network, problems);
    check_endpoints(tables, &drafts, network, problems);
    drafts
}

impl ServiceDraft {
    /// The Service, if nothing of it was refused.
    pub(super) fn finish(self) -> Option<Service> {
        self.rest
    }
}

impl Shared {
    /// Takes what a Service asks for by number.
    fn claim(&mut self, table: &ServiceTable, network: &Network, problems: &mut Problems) {
        if let (Some(ClusterIp::Is(address)), Some(said), Some(range)) =
            (table.cluster_ip.get(), table.cluster_ip.at(), network.service_cidr)
        {
            self.claim_cluster_ip(*address, &said.at, range, table, problems);
        }
        // Kubernetes shares a number between the protocols of one Service, and no further.
        let mut own = BTreeSet::new();
        let ports =
            table.ports.list().iter().filter_map(|port| port.node_port.at().zip(port.protocol.or(Protocol::Tcp)));
        for (said, protocol) in ports {
            let number = said.value.0;
            if !own.insert((number, protocol)) {
                let problem = invalid("node_port", number, said.at.clone(), "duplicate value within the service");
                problems.push(problem.hint("give every port of a protocol a node port of its own"));
            } else if own.iter().filter(|(other, _)| *other == number).count() == 1 {
                self.claim_port("node_port", number, &said.at, problems);
            }
        }
        if let Some(said) = table.health_check_node_port.at() {
            self.claim_port("health_check_node_port", said.value.0, &said.at, problems);
        }
        for said in table.load_balancer_ips.list() {
            self.load_balancer_ips.take(u32::from(said.value));
        }
    }

    fn claim_cluster_ip(
        &mut self,
        address: Ipv4Addr,
        at: &Span,
        range: ipnet::Ipv4Net,
        table: &ServiceTable,
        problems: &mut Problems,
    ) {
        let usable = range.contains(&address) && address != range.network() && address != range.broadcast();
        if !usable {
            let why = format!(
                "failed to allocate IP {address}: the provided IP is not in the valid range. The range of valid IPs is {range}"
            );
            let hint = "choose an address of `service_cidr`, or leave `cluster_ip` out";
            problems.push(invalid("cluster_ip", address, at.clone(), why).hint(hint));
            return;
        }
        let named = |name: &str, namespace: &str| {
            table.name.get().is_some_and(|said| said.as_str() == name)
                && table.namespace.get().map_or("default", Name::as_str) == namespace
        };
        let offset = u32::from(address) - u32::from(range.network());
        let owner = match offset {
            1 if !named("kubernetes", "default") => Some("kubernetes"),
            10 if !named("kube-dns", "kube-system") => Some("kube-dns"),
            _ => None,
        };
        if let Some(owner) = owner {
            let why = format!("the {} address of the range belongs to the service `{owner}`", nth(offset));
            problems.push(invalid("cluster_ip", address, at.clone(), why).hint("choose another address"));
            return;
        }
        match self.ip_owners.get(&address) {
            Some(first) => {
                let why = format!("failed to allocate IP {address}: provided IP is already allocated");
                let problem = invalid("cluster_ip", address, at.clone(), why).also(first.clone(), "first used here");
                problems.push(problem.hint("choose another address, or leave `cluster_ip` out"));
            }
            None => {
                self.cluster_ips.as_mut().map(|pool| pool.take(u32::from(address)));
                self.ip_owners.insert(address, at.clone());
            }
        }
    }

    fn claim_port(&mut self, key: &str, number: u16, at: &Span, problems: &mut Problems) {
        if !NODE_PORTS.contains(&number) {
            let why = "provided port is not in the valid range. The range of valid ports is 30000-32767";
            let hint = format!("choose a port of that range, or leave `{key}` out");
            problems.push(invalid(key, number, at.clone(), why).hint(hint));
        } else if let Some(first) = self.port_owners.get(&number) {
            let problem = invalid(key, number, at.clone(), "provided port is already allocated");
            let hint = format!("choose another port, or leave `{key}` out");
            problems.push(problem.also(first.clone(), "first used here").hint(hint));
        } else {
            self.node_ports.take(u32::from(number));
            self.port_owners.insert(number, at.clone());
        }
    }

    fn next_port(&mut self, at: &Span, problems: &mut Problems) -> Option<u16> {
        let port = self.node_ports.next().and_then(|port| u16::try_from(port).ok());
        if port.is_none() {
            let problem = Diagnostic::new(at.clone(), "failed to allocate a nodePort: range is full");
            problems.push(problem.hint("there are 2768 of them, 30000 to 32767; use fewer NodePort services"));
        }
        port
    }
}

fn nth(n: u32) -> &'static str {
    if n == 1 { "first" } else { "tenth" }
}

fn draft(
    table: &ServiceTable,
    shared: &mut Shared,
    index: &Index<'_>,
    network: &Network,
    problems: &mut Problems,
) -> ServiceDraft {
    let kind = table.r#type.or(ServiceType::ClusterIp);
    let namespace = "default".parse().ok().and_then(|default| table.namespace.or(default));
    let headless = matches!(table.cluster_ip.get(), Some(ClusterIp::Headless));
    check_fields(table, kind, problems);
    let cluster_ip = cluster_ip(table, kind, shared, network, problems);
    let ports = ports(table, kind, headless, shared, problems);
    let selector = table.selector.or(Labels::new());
    let endpoints = backends(table, namespace.as_ref(), index, network, problems);
    let rest = match (&namespace, kind, ports, selector, endpoints) {
        (Some(namespace), Some(kind), Some(ports), Some(selector), Some(endpoints)) => {
            let parts = Parts { namespace: namespace.clone(), kind, ports, selector, endpoints };
            finish(table, parts, cluster_ip, shared, problems)
        }
        _ => None,
    };
    let name_at = table.name.span(&table.at);
    ServiceDraft { name: table.name.get().cloned(), namespace, name_at, cluster_ip, rest }
}

/// What is known of a Service before its last fields.
struct Parts {
    namespace: Name,
    kind: ServiceType,
    ports: Vec<ServicePort>,
    selector: Labels,
    endpoints: Vec<ManualEndpoint>,
}

fn finish(
    table: &ServiceTable,
    parts: Parts,
    cluster_ip: Option<Option<Ipv4Addr>>,
    shared: &mut Shared,
    problems: &mut Problems,
) -> Option<Service> {
    let balanced = parts.kind == ServiceType::LoadBalancer;
    let external = table.external_traffic_policy.or(TrafficPolicy::Cluster)?;
    let health_check_node_port = match table.health_check_node_port.maybe()? {
        Some(port) => Some(port.0),
        None if balanced && external == TrafficPolicy::Local => Some(shared.next_port(&table.at, problems)?),
        None => None,
    };
    let load_balancer_ips = match table.load_balancer_ips.list() {
        [] if balanced && table.load_balancer_ips.is_nothing() => {
            let address = shared.load_balancer_ips.next_ip();
            if address.is_none() {
                let problem =
                    Diagnostic::new(table.at.clone(), "203.0.113.0/24 has no free address left for this service");
                problems.push(problem.hint("give it `load_balancer_ips`"));
            }
            vec![ip(address?)]
        }
        given => given.iter().map(|said| ip(said.value)).collect(),
    };
    Some(Service {
        name: table.name.get()?.clone(),
        namespace: parts.namespace,
        kind: match parts.kind {
            ServiceType::ClusterIp => ServiceKind::ClusterIp,
            ServiceType::NodePort => ServiceKind::NodePort,
            ServiceType::LoadBalancer => ServiceKind::LoadBalancer,
        },
        labels: table.labels.or(Labels::new())?,
        cluster_ip: cluster_ip?.map(ip),
        selector: parts.selector,
        endpoints: parts.endpoints,
        ports: parts.ports,
        session_affinity: match table.session_affinity.or(Affinity::None)? {
            Affinity::None => None,
            Affinity::ClientIp => Some(table.session_affinity_timeout.or(Seconds(AFFINITY_TIMEOUT))?.0),
        },
        internal_traffic_policy: table.internal_traffic_policy.or(TrafficPolicy::Cluster)?,
        external_traffic_policy: external,
        external_ips: table.external_ips.or(Vec::new())?.iter().map(|said| ip(said.value)).collect(),
        load_balancer_ips,
        source_ranges: table.load_balancer_source_ranges.or(Vec::new())?.iter().map(|said| net(said.value.0)).collect(),
        health_check_node_port,
        publish_not_ready_addresses: table.publish_not_ready_addresses.or(false)?,
        traffic_distribution: table.traffic_distribution.maybe()?.map(|distribution| distribution.meaning()),
        at: table.at.clone(),
    })
}

/// Fields that go with some types only.
fn check_fields(table: &ServiceTable, kind: Option<ServiceType>, problems: &mut Problems) {
    let Some(kind) = kind else { return };
    let balanced = kind == ServiceType::LoadBalancer;
    let only_balanced = [
        ("load_balancer_ips", place(&table.load_balancer_ips)),
        ("load_balancer_source_ranges", place(&table.load_balancer_source_ranges)),
        ("allocate_load_balancer_node_ports", place(&table.allocate_load_balancer_node_ports)),
    ];
    for (key, at) in only_balanced {
        let Some(at) = at.filter(|_| !balanced) else { continue };
        let problem = Diagnostic::new(at, format!("`{key}` may only be used when `type` is 'LoadBalancer'"));
        problems.push(problem.hint(format!("set `type = \"LoadBalancer\"`, or leave `{key}` out")));
    }
    let external = kind != ServiceType::ClusterIp || !table.external_ips.list().is_empty();
    if let Some(said) = table.external_traffic_policy.at()
        && !external
        && !table.external_ips.is_nonsense()
    {
        let message = "`external_traffic_policy` may only be set for externally-accessible services";
        let hint = "set `type = \"NodePort\"`, or leave `external_traffic_policy` out";
        problems.push(Diagnostic::new(said.at.clone(), message).hint(hint));
    }
    if let Some(said) = table.health_check_node_port.at()
        && !(balanced && table.external_traffic_policy.get() == Some(&TrafficPolicy::Local))
        && !table.external_traffic_policy.is_nonsense()
    {
        let message = "`health_check_node_port` may only be set when `type` is 'LoadBalancer' and \
                       `external_traffic_policy` is 'Local'";
        problems.push(Diagnostic::new(said.at.clone(), message).hint("leave `health_check_node_port` out"));
    }
    if let Some(said) = table.session_affinity_timeout.at()
        && table.session_affinity.or(Affinity::None) == Some(Affinity::None)
    {
        let message = "`session_affinity_timeout` must not be set when session affinity is None";
        let hint = "set `session_affinity = \"ClientIP\"`, or leave the timeout out";
        problems.push(Diagnostic::new(said.at.clone(), message).hint(hint));
    }
    if matches!(table.cluster_ip.get(), Some(ClusterIp::Headless)) && kind != ServiceType::ClusterIp {
        let word = if balanced { "LoadBalancer" } else { "NodePort" };
        let why = format!("may not be set to 'None' for {word} services");
        let problem = invalid("cluster_ip", "\"None\"", table.cluster_ip.span(&table.at), why);
        let problem = problem.also(table.r#type.span(&table.at), "the type");
        problems.push(problem.hint("leave `cluster_ip` out, or leave `type` out for a headless service"));
    }
}

fn place<T>(said: &Said<T>) -> Option<Span> {
    said.at().map(|said| said.at.clone())
}

/// `Some(None)` for a headless Service; `None` if it was refused.
fn cluster_ip(
    table: &ServiceTable,
    kind: Option<ServiceType>,
    shared: &mut Shared,
    network: &Network,
    problems: &mut Problems,
) -> Option<Option<Ipv4Addr>> {
    match table.cluster_ip.maybe()? {
        Some(ClusterIp::Headless) => Some(None).filter(|_| kind.is_some()),
        Some(ClusterIp::Is(address)) => Some(Some(address)),
        None => {
            let (pool, range) = (shared.cluster_ips.as_mut()?, network.service_cidr?);
            let address = pool.next_ip();
            if address.is_none() {
                let problem =
                    Diagnostic::new(table.at.clone(), format!("failed to allocate a ClusterIP: range {range} is full"));
                problems.push(problem.hint("set a larger `service_cidr` in `[cluster]`"));
            }
            address.map(Some)
        }
    }
}

fn ports(
    table: &ServiceTable,
    kind: Option<ServiceType>,
    headless: bool,
    shared: &mut Shared,
    problems: &mut Problems,
) -> Option<Vec<ServicePort>> {
    if table.ports.is_nonsense() {
        return None;
    }
    let tables = table.ports.list();
    if tables.is_empty() && !headless {
        let at = table.ports.span(&table.at);
        let problem = Diagnostic::new(at, "a service needs at least one port").label("`ports` is required");
        problems.push(problem.hint("add `ports = [{ port = 80 }]`"));
        return None;
    }
    check_ports(tables, problems);
    // Ports of one number share their node port between the protocols, as in Kubernetes.
    let mut by_port: BTreeMap<u16, u16> =
        tables.iter().rev().filter_map(|port| Some((port.port.get()?.0, port.node_port.get()?.0))).collect();
    let allocates = match kind {
        Some(ServiceType::NodePort) => true,
        Some(ServiceType::LoadBalancer) => table.allocate_load_balancer_node_ports.or(true)?,
        Some(ServiceType::ClusterIp) | None => false,
    };
    let mut ports = Some(Vec::new());
    for port in tables {
        let number = port.port.get().map(|port| port.0);
        if let Some(said) = port.node_port.at().filter(|_| kind == Some(ServiceType::ClusterIp)) {
            let problem = Diagnostic::new(said.at.clone(), "`node_port` may not be used when `type` is 'ClusterIP'");
            problems.push(problem.hint("set `type = \"NodePort\"`, or leave `node_port` out"));
        }
        if let Some(said) =
            port.port.at().filter(|said| said.value.0 == KUBELET && kind == Some(ServiceType::LoadBalancer))
        {
            let why = "may not expose port 10250 externally since it is used by kubelet";
            problems.push(invalid("port", KUBELET, said.at.clone(), why).hint("choose another port"));
        }
        let node_port = match (port.node_port.maybe(), number) {
            (Some(Some(given)), _) => Some(Some(given.0)),
            (Some(None), Some(number)) if allocates => match by_port.get(&number) {
                Some(shared) => Some(Some(*shared)),
                None => shared.next_port(&port.at, problems).map(|allocated| {
                    by_port.insert(number, allocated);
                    Some(allocated)
                }),
            },
            (Some(None), _) => Some(None),
            (None, _) => None,
        };
        match (service_port(port, node_port), &mut ports) {
            (Some(port), Some(ports)) => ports.push(port),
            _ => ports = None,
        }
    }
    ports
}

fn service_port(table: &ServicePortTable, node_port: Option<Option<u16>>) -> Option<ServicePort> {
    let port = table.port.get()?.0;
    Some(ServicePort {
        name: table.name.maybe()?,
        protocol: table.protocol.or(Protocol::Tcp)?,
        port,
        target_port: table.target_port.or(TargetPort::Number(port))?,
        node_port: node_port?,
        at: table.at.clone(),
    })
}

/// Names and numbers are unique within the Service.
fn check_ports(tables: &[ServicePortTable], problems: &mut Problems) {
    let mut names: BTreeMap<&str, Span> = BTreeMap::new();
    let mut numbers: BTreeMap<(u16, Protocol), Span> = BTreeMap::new();
    for table in tables {
        if tables.len() > 1 && table.name.is_nothing() {
            let problem = Diagnostic::new(table.at.clone(), "a port of a service with several ports needs a `name`");
            problems.push(problem.hint("add for example `name = \"http\"`"));
        }
        if let Some(said) = table.name.at() {
            match names.get(said.value.as_str()) {
                None => _ = names.insert(said.value.as_str(), said.at.clone()),
                Some(first) => {
                    let message = format!("two ports of this service are called `{}`", said.value);
                    let problem = Diagnostic::new(said.at.clone(), message).also(first.clone(), "the first one");
                    problems.push(problem.hint("rename one of them"));
                }
            }
        }
        if let (Some(said), Some(protocol)) = (table.port.at(), table.protocol.or(Protocol::Tcp)) {
            match numbers.get(&(said.value.0, protocol)) {
                None => _ = numbers.insert((said.value.0, protocol), said.at.clone()),
                Some(first) => {
                    let message = format!("port {}/{protocol} is given twice in this service", said.value.0);
                    let problem = Diagnostic::new(said.at.clone(), message).also(first.clone(), "first given here");
                    problems.push(problem.hint("change one of them, or leave it out"));
                }
            }
        }
    }
}

/// Checks who is behind a Service, and returns the endpoints given by hand.
fn backends(
    table: &ServiceTable,
    namespace: Option<&Name>,
    index: &Index<'_>,
    network: &Network,
    problems: &mut Problems,
) -> Option<Vec<ManualEndpoint>> {
    let selects = table.selector.get().is_some_and(|selector| !selector.is_empty());
    if let (true, Some(said)) = (selects, table.endpoints.at()) {
        let problem = Diagnostic::new(said.at.clone(), "a service with a selector finds its endpoints itself");
        let problem = problem.also(table.selector.span(&table.at), "the selector");
        problems.push(problem.hint("leave `endpoints` or `selector` out"));
        return None;
    }
    if selects {
        if let (Some(selector), Some(namespace)) = (table.selector.at(), namespace) {
            index.check(selector, namespace, table.ports.list(), problems);
        }
        return Some(Vec::new());
    }
    if !table.selector.is_nonsense() && table.endpoints.is_nothing() {
        let problem = Diagnostic::new(table.selector.span(&table.at), "nothing is behind this service")
            .label("it has no `selector` and no `endpoints`");
        let hint = match index.some_labels(namespace) {
            Some(labels) => format!("add `selector = {labels}`, or `endpoints = []` if nothing is meant"),
            None => "add a `selector`, or `endpoints = []` if nothing is meant".to_owned(),
        };
        problems.push(problem.hint(hint));
        return None;
    }
    for port in table.ports.list() {
        if let Some(said) = port.target_port.at().filter(|said| matches!(said.value, TargetPort::Name(_))) {
            let problem = Diagnostic::new(said.at.clone(), "endpoints given by hand have no named ports");
            problems.push(problem.hint("give `target_port` as a number"));
        }
    }
    let endpoints: Vec<Option<ManualEndpoint>> = table
        .endpoints
        .maybe_list()?
        .unwrap_or_default()
        .iter()
        .map(|endpoint| manual(endpoint, index, network, problems))
        .collect();
    endpoints.into_iter().collect()
}

fn manual(
    table: &EndpointTable,
    index: &Index<'_>,
    network: &Network,
    problems: &mut Problems,
) -> Option<ManualEndpoint> {
    let node = match &table.node {
        Said::Nothing => None,
        Said::Nonsense => return None,
        Said::Value(said) => Some(NodeId(find_node(said, &index.nodes, network, problems)?)),
    };
    Some(ManualEndpoint { ip: ip(*table.ip.get()?), node, at: table.at.clone() })
}

/// Endpoints are ordinary machines: no special addresses, no Service's address, none twice.
fn check_endpoints(tables: &[ServiceTable], drafts: &[ServiceDraft], network: &Network, problems: &mut Problems) {
    let services: BTreeMap<Ipv4Addr, &ServiceDraft> =
        drafts.iter().filter_map(|draft| Some((draft.cluster_ip??, draft))).collect();
    for table in tables {
        let mut seen: BTreeMap<Ipv4Addr, Span> = BTreeMap::new();
        for said in table.endpoints.list().iter().filter_map(|endpoint| endpoint.ip.at()) {
            let address = said.value;
            let service = services.get(&address).and_then(|draft| draft.name.as_ref());
            let why = match (special(address), service) {
                (Some(why), _) => why.to_owned(),
                (None, Some(service)) => format!("is the ClusterIP of the service `{service}`"),
                (None, None) if network.service_cidr.is_some_and(|range| range.contains(&address)) => {
                    "is in the range of the ClusterIPs".to_owned()
                }
                (None, None) => match seen.get(&address) {
                    Some(first) => {
                        let message = format!("the endpoint {address} is given twice");
                        let problem = Diagnostic::new(said.at.clone(), message).also(first.clone(), "first given here");
                        problems.push(problem.hint("leave one of them out"));
                        continue;
                    }
                    None => {
                        seen.insert(address, said.at.clone());
                        continue;
                    }
                },
            };
            let hint = "give the address of a pod, a node or a machine outside";
            problems.push(invalid("ip", address, said.at.clone(), why).hint(hint));
        }
    }
}

/// Addresses outside the cluster at which Services are served: ordinary, not inside the cluster's
/// ranges, and each port of each address only once.
fn check_external_addresses(tables: &[ServiceTable], network: &Network, problems: &mut Problems) {
    let mut owners: BTreeMap<(Ipv4Addr, u16, Protocol), Span> = BTreeMap::new();
    for table in tables {
        let lists = [("external_ips", &table.external_ips), ("load_balancer_ips", &table.load_balancer_ips)];
        for (key, said) in lists.iter().flat_map(|(key, list)| list.list().iter().map(move |said| (*key, said))) {
            let address = said.value;
            if let Some(why) = special(address) {
                let hint = "give an address outside the cluster, such as 203.0.113.10";
                problems.push(invalid(key, address, said.at.clone(), why).hint(hint));
                continue;
            }
            // Only a load balancer's address needs a network of its own: an external IP may well be
            // a node's.
            let taken = network.ranges.iter().filter(|range| range.net.contains(&address));
            let inside = taken.into_iter().find(|range| key == "load_balancer_ips" || range.is_internal());
            if let Some(range) = inside {
                let why = format!("is an address of {}", range.what);
                let mut problem = invalid(key, address, said.at.clone(), why);
                if let Some(at) = &range.at {
                    problem = problem.also(at.clone(), range.what.clone());
                }
                problems.push(problem.hint("give an address outside the lab's networks, such as 203.0.113.10"));
                continue;
            }
            let ports = table.ports.list().iter();
            for (port, protocol) in
                ports.filter_map(|port| Some((port.port.get()?.0, port.protocol.or(Protocol::Tcp)?)))
            {
                match owners.get(&(address, port, protocol)) {
                    Some(first) if *first != said.at => {
                        let message = format!("{address} port {port}/{protocol} is used twice");
                        let problem = Diagnostic::new(said.at.clone(), message).also(first.clone(), "first used here");
                        problems.push(problem.hint("choose another address or another port"));
                    }
                    Some(_) => {}
                    None => _ = owners.insert((address, port, protocol), said.at.clone()),
                }
            }
        }
    }
}

/// The pods by their labels.
struct Index<'p> {
    pods: &'p Pods,
    nodes: BTreeMap<&'p str, usize>,
    /// Namespace, key and value → templates, in file order.
    by_label: BTreeMap<(&'p str, &'p str, &'p str), Vec<usize>>,
    /// Some pod's labels or namespace were refused: nothing can be said about what selects nothing.
    blurred: bool,
}

impl<'p> Index<'p> {
    fn of(pods: &'p Pods, network: &'p Network) -> Self {
        let mut by_label: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        let mut blurred = false;
        for (nth, template) in pods.templates.iter().enumerate() {
            let (Some(namespace), Some(labels)) = (&template.namespace, &template.labels) else {
                blurred = true;
                continue;
            };
            for (key, value) in labels {
                by_label.entry((namespace.as_str(), key.as_str(), value.as_str())).or_default().push(nth);
            }
        }
        let nodes = network.nodes.iter().enumerate().rev();
        let nodes = nodes.filter_map(|(nth, node)| Some((node.name.as_ref()?.as_str(), nth))).collect();
        Index { pods, nodes, by_label, blurred }
    }

    /// The templates that a selector matches.
    fn select<'i>(&'i self, selector: &'i Labels, namespace: &'i Name) -> impl Iterator<Item = &'p Template> + 'i {
        let lists =
            selector.iter().map(|(key, value)| self.by_label.get(&(namespace.as_str(), key.as_str(), value.as_str())));
        // The rarest label first: everything else is a filter on its few pods.
        let shortest = lists.min_by_key(|list| list.map_or(0, Vec::len)).flatten();
        shortest.into_iter().flatten().map(|nth| &self.pods.templates[*nth]).filter(|template| {
            let labels = template.labels.as_ref();
            labels.is_some_and(|labels| selector.iter().all(|(key, value)| labels.get(key) == Some(value)))
        })
    }

    /// A selector selects something, and that has the named ports.
    fn check(&self, selector: &At<Labels>, namespace: &Name, ports: &[ServicePortTable], problems: &mut Problems) {
        if self.blurred {
            return;
        }
        if self.select(&selector.value, namespace).next().is_none() {
            problems.push(self.nothing(selector, namespace));
            return;
        }
        for port in ports {
            let (Some(said), Some(protocol)) = (port.target_port.at(), port.protocol.or(Protocol::Tcp)) else {
                continue;
            };
            if let TargetPort::Name(name) = &said.value {
                self.check_named(name, protocol, said, selector, namespace, problems);
            }
        }
    }

    fn check_named(
        &self,
        name: &PortName,
        protocol: Protocol,
        said: &At<TargetPort>,
        selector: &At<Labels>,
        namespace: &Name,
        problems: &mut Problems,
    ) {
        let mut others: BTreeSet<&str> = BTreeSet::new();
        let mut other_protocol = None;
        for template in self.select(&selector.value, namespace) {
            let Some(containers) = &template.containers else { return };
            for port in containers.iter().flat_map(|container| &container.ports) {
                match &port.name {
                    Some(other) if other == name && port.protocol == protocol => return,
                    Some(other) if other == name => other_protocol = Some(port.protocol),
                    Some(other) if port.protocol == protocol => _ = others.insert(other.as_str()),
                    _ => {}
                }
            }
        }
        let message = format!("no selected pod has a {protocol} port called `{name}`");
        let problem = Diagnostic::new(said.at.clone(), message);
        if let Some(other) = other_protocol {
            problems.push(problem.hint(format!("`{name}` is a {other} port; set `protocol = \"{other}\"`")));
            return;
        }
        problems.push_nearest(problem, name.as_str(), others.iter().copied(), || {
            let words: Vec<&str> = others.iter().copied().collect();
            Some(match words.as_slice() {
                [] => "give a container port of the pods this `name`, or write the port's number".to_owned(),
                words => format!("they have {}", listed(words).replace(" or ", " and ")),
            })
        });
    }

    /// The problem that a selector selects nothing.
    fn nothing(&self, selector: &At<Labels>, namespace: &Name) -> Diagnostic {
        let message = format!("this selector matches no pod in the namespace `{namespace}`");
        let problem = Diagnostic::new(selector.at.clone(), message);
        let mut elsewhere = self.pods.templates.iter().filter(|template| {
            let labels = template.labels.as_ref();
            labels.is_some_and(|labels| selector.value.iter().all(|(key, value)| labels.get(key) == Some(value)))
        });
        if let Some(template) = elsewhere.next() {
            let problem = problem.also(template.at.clone(), "this pod would match, but is in another namespace");
            return problem.hint("a service selects pods of its own namespace; set `namespace`");
        }
        match self.some_labels(Some(namespace)) {
            Some(labels) => problem.hint(format!("there are pods with `labels = {labels}`")),
            None => problem.hint("give pods these `labels`"),
        }
    }

    /// The labels of the first pod of a namespace that has some, as TOML.
    fn some_labels(&self, namespace: Option<&Name>) -> Option<String> {
        let of_namespace = self.pods.templates.iter().filter(|template| template.namespace.as_ref() == namespace);
        let labels = of_namespace.filter_map(|template| template.labels.as_ref()).find(|labels| !labels.is_empty())?;
        let key = |key: &str| {
            let bare = key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
            if bare { key.to_owned() } else { format!("\"{key}\"") }
        };
        let pairs: Vec<String> =
            labels.iter().take(3).map(|(word, value)| format!("{} = \"{value}\"", key(word.as_str()))).collect();
        Some(format!("{{ {} }}", pairs.join(", ")))
    }
}
