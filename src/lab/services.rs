//! `[[service]]` → Services with their addresses and node ports, checked as Kubernetes' API server
//! checks them, in its words where they are good.

use std::{collections::BTreeMap, net::Ipv4Addr};

use super::{
    address::{ClusterIp, ip, net},
    backends::{Index, backends, check_endpoints},
    file::{LabFile, ServicePortTable, ServiceTable},
    kept::Kept,
    lower::Beside,
    model::{Labels, ManualEndpoint, Protocol, Service, ServiceKind, ServicePort, Span, TargetPort, TrafficPolicy},
    name::{Name, ServiceName},
    network::Network,
    pods::Pods,
    said::Said,
    shared::{Shared, check_external_addresses},
    value::{Affinity, Seconds, ServiceType, invalid},
};
use crate::diag::{Diagnostic, Problems};

/// Kubernetes' default of `sessionAffinityConfig.clientIP.timeoutSeconds`.
const AFFINITY_TIMEOUT: u32 = 10800;
/// The port of the kubelet, which Kubernetes keeps load balancers away from.
const KUBELET: u16 = 10250;

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

/// Reads the Services from the file.
pub(super) fn services(
    file: &LabFile,
    network: &Network,
    pods: &Pods,
    (kept, beside): (&Kept, &Beside),
    problems: &mut Problems,
) -> Vec<ServiceDraft> {
    let tables = file.service.list();
    let mut shared = Shared::claimed_by(file, network, (kept, beside), problems);
    let index = Index::of(file, pods, network);
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
    let endpoints = match kind {
        Some(ServiceType::ExternalName) => Some(Vec::new()),
        _ => backends(table, namespace.as_ref(), index, network, problems),
    };
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
        None if balanced && external == TrafficPolicy::Local => Some(shared.health_port(table, problems)?),
        None => None,
    };
    let load_balancer_ips = match table.load_balancer_ips.list() {
        [] if balanced && table.load_balancer_ips.is_nothing() => {
            let address = shared.load_balancer_ip(table);
            if address.is_none() {
                let problem =
                    Diagnostic::new(table.at.clone(), "there is no free load balancer address left for this service");
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
            ServiceType::ExternalName => ServiceKind::ExternalName(table.external_name.get()?.0.clone()),
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
    check_external_name(table, kind, problems);
    let external =
        matches!(kind, ServiceType::NodePort | ServiceType::LoadBalancer) || !table.external_ips.list().is_empty();
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
    if matches!(table.cluster_ip.get(), Some(ClusterIp::Headless))
        && matches!(kind, ServiceType::NodePort | ServiceType::LoadBalancer)
    {
        let word = if balanced { "LoadBalancer" } else { "NodePort" };
        let why = format!("may not be set to 'None' for {word} services");
        let problem = invalid("cluster_ip", "\"None\"", table.cluster_ip.span(&table.at), why);
        let problem = problem.also(table.r#type.span(&table.at), "the type");
        problems.push(problem.hint("leave `cluster_ip` out, or leave `type` out for a headless service"));
    }
}

/// An ExternalName Service is a name and nothing else.
fn check_external_name(table: &ServiceTable, kind: ServiceType, problems: &mut Problems) {
    if kind != ServiceType::ExternalName {
        if let Some(said) = table.external_name.at() {
            let message = "`external_name` may only be set when `type` is 'ExternalName'";
            let hint = "set `type = \"ExternalName\"`, or leave `external_name` out";
            problems.push(Diagnostic::new(said.at.clone(), message).hint(hint));
        }
        return;
    }
    if table.external_name.is_nothing() {
        let problem =
            Diagnostic::new(table.r#type.span(&table.at), "an ExternalName service needs a name to stand for");
        problems.push(
            problem.label("`external_name` is required").hint("add for example `external_name = \"api.ipify.org\"`"),
        );
    }
    let meaningless = [
        ("cluster_ip", place(&table.cluster_ip)),
        ("selector", place(&table.selector)),
        ("endpoints", place(&table.endpoints)),
        ("external_ips", place(&table.external_ips)),
        ("internal_traffic_policy", place(&table.internal_traffic_policy)),
        ("session_affinity", place(&table.session_affinity)),
        ("publish_not_ready_addresses", place(&table.publish_not_ready_addresses)),
        ("traffic_distribution", place(&table.traffic_distribution)),
    ];
    for (key, at) in meaningless {
        let Some(at) = at else { continue };
        let problem = Diagnostic::new(at, format!("`{key}` may not be set for ExternalName services"));
        problems.push(problem.hint(format!("leave `{key}` out: no traffic passes such a service")));
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
        None if kind == Some(ServiceType::ExternalName) => Some(None),
        None => {
            let range = network.service_cidr?;
            let address = shared.cluster_ip(table);
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
    if tables.is_empty() && !headless && kind != Some(ServiceType::ExternalName) {
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
        Some(ServiceType::ClusterIp | ServiceType::ExternalName) | None => false,
    };
    let mut ports = Some(Vec::new());
    for port in tables {
        let number = port.port.get().map(|port| port.0);
        let addressless = match kind {
            Some(ServiceType::ClusterIp) => Some("ClusterIP"),
            Some(ServiceType::ExternalName) => Some("ExternalName"),
            _ => None,
        };
        if let (Some(said), Some(word)) = (port.node_port.at(), addressless) {
            let message = format!("`node_port` may not be used when `type` is '{word}'");
            let problem = Diagnostic::new(said.at.clone(), message);
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
                None => shared.node_port(table, port, problems).map(|allocated| {
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
