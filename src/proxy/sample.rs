//! Labs for the tests of this room, made by hand: small words for what the lab file would say.

use std::collections::BTreeMap;

use crate::lab::model::*;

/// The book chapter's lab, with echo servers: two nodes, three pods, one NodePort Service, and a
/// laptop outside.
pub(super) fn book() -> Lab {
    let mut lab = cluster();
    node(&mut lab, "node1", "10.30.45.100", "192.168.1.0/24");
    node(&mut lab, "node2", "10.30.45.200", "192.168.2.0/24");
    pod(&mut lab, "pod1a", 0, "192.168.1.10", "cs-pod");
    pod(&mut lab, "pod1b", 0, "192.168.1.20", "cs-pod");
    pod(&mut lab, "pod2", 1, "192.168.2.20", "cs-pod");
    client(&mut lab, "laptop", "192.0.2.10/24");
    let service = service(&mut lab, "http-server-svc", "10.96.1.100", "cs-pod");
    service.kind = ServiceKind::NodePort;
    service.ports = vec![port(None, Protocol::Tcp, 8080, 80, Some(30080))];
    lab
}

/// One Service of every kind, on two nodes of which the second has fewer endpoints.
pub(super) fn everything() -> Lab {
    let mut lab = book();
    let laptop = "192.0.2.10";
    let both =
        || vec![port(Some("http"), Protocol::Tcp, 80, 80, None), port(Some("dgram"), Protocol::Udp, 80, 80, None)];
    pod(&mut lab, "lone", 0, "192.168.1.30", "lone").containers[0].ports[0].host_port =
        Some(HostPort { port: 8081, ip: None });
    pod(&mut lab, "onenode", 1, "192.168.2.30", "lone2");
    let host = pod(&mut lab, "daemon", 1, "10.30.45.200", "daemon");
    (host.host_network, host.containers[0].ports) = (true, vec![container_port("http", 8888, Protocol::Tcp)]);

    let sticky = service(&mut lab, "sticky", "10.96.1.1", "cs-pod");
    (sticky.session_affinity, sticky.ports) = (Some(10800), both());
    let inside = service(&mut lab, "inside", "10.96.1.2", "lone");
    (inside.internal_traffic_policy, inside.ports) = (TrafficPolicy::Local, both());
    let outside = service(&mut lab, "outside", "10.96.1.3", "lone");
    (outside.kind, outside.external_traffic_policy) = (ServiceKind::LoadBalancer, TrafficPolicy::Local);
    outside.load_balancer_ips = vec![parsed("203.0.113.3")];
    outside.health_check_node_port = Some(32000);
    outside.ports = vec![port(None, Protocol::Tcp, 80, 80, Some(30003))];
    let ranges = service(&mut lab, "ranges", "10.96.1.4", "cs-pod");
    (ranges.kind, ranges.load_balancer_ips) = (ServiceKind::LoadBalancer, vec![parsed("203.0.113.4")]);
    ranges.source_ranges = vec![parsed("192.0.2.0/24"), parsed("192.0.2.0/25"), parsed("10.30.45.100/32")];
    ranges.ports = vec![port(None, Protocol::Tcp, 443, 80, None)];
    let empty = service(&mut lab, "empty", "10.96.1.5", "none");
    (empty.kind, empty.external_ips) = (ServiceKind::NodePort, vec![parsed("203.0.113.5")]);
    empty.ports = vec![port(None, Protocol::Tcp, 80, 80, Some(30005))];
    let manual = service(&mut lab, "manual", "10.96.1.6", "none");
    manual.selector.clear();
    manual.endpoints = vec![ManualEndpoint { ip: parsed(laptop), node: None, at: 0..0 }];
    manual.external_ips = vec![parsed("203.0.113.6")];
    manual.ports = vec![port(None, Protocol::Tcp, 80, 80, None)];
    let daemon = service(&mut lab, "daemon", "10.96.1.7", "daemon");
    daemon.kind = ServiceKind::NodePort;
    daemon.ports = vec![port(None, Protocol::Tcp, 80, 8888, Some(30007))];
    lab
}

/// No node, no pod: only what `[cluster]` would say by default.
pub(super) fn cluster() -> Lab {
    Lab {
        name: parsed("sample"),
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
        nodes: Vec::new(),
        pods: Vec::new(),
        services: Vec::new(),
        clients: Vec::new(),
        load_balancer: None,
        externals: Vec::new(),
        dns: None,
        probes: Vec::new(),
    }
}

pub(super) fn node<'a>(lab: &'a mut Lab, name: &str, ip: &str, pod_subnet: &str) -> &'a mut Node {
    let pod_subnet: ipnet::IpNet = parsed(pod_subnet);
    lab.nodes.push(Node {
        name: parsed(name),
        ip: parsed(ip),
        pod_subnet,
        pod_gateway: pod_subnet.hosts().next().expect("a subnet of pods has a first address"),
        attach: Attach::Bridge(parsed("br0")),
        zone: None,
        state: crate::lab::model::NodeState::default(),
        at: 0..0,
    });
    lab.nodes.last_mut().expect("it was just pushed")
}

/// A pod that answers TCP and UDP on port 80, which it names `http` and `dgram`.
pub(super) fn pod<'a>(lab: &'a mut Lab, name: &str, node: usize, ip: &str, app: &str) -> &'a mut Pod {
    lab.pods.push(Pod {
        name: parsed(name),
        namespace: parsed("default"),
        node: NodeId(node),
        ip: parsed(ip),
        host_network: false,
        labels: BTreeMap::from([(parsed("app"), parsed(app))]),
        containers: vec![Container {
            name: parsed("web"),
            server: Server::Echo,
            ports: vec![container_port("http", 80, Protocol::Tcp), container_port("dgram", 80, Protocol::Udp)],
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
    });
    lab.pods.last_mut().expect("it was just pushed")
}

pub(super) fn container_port(name: &str, number: u16, protocol: Protocol) -> ContainerPort {
    ContainerPort { name: Some(parsed(name)), container_port: number, protocol, host_port: None }
}

pub(super) fn client(lab: &mut Lab, name: &str, ip: &str) {
    lab.clients.push(Client { name: parsed(name), ip: parsed(ip), at: 0..0 });
}

/// A load balancer at its usual place.
pub(super) fn balancer(engine: BalancerEngine) -> LoadBalancer {
    LoadBalancer { name: parsed("lb"), ip: parsed("10.30.45.254"), engine, at: 0..0 }
}

/// A ClusterIP Service without ports.
pub(super) fn service<'a>(lab: &'a mut Lab, name: &str, cluster_ip: &str, app: &str) -> &'a mut Service {
    let mut service = Service::new(parsed(name), parsed("default"), 0..0);
    service.cluster_ip = Some(parsed(cluster_ip));
    service.selector = BTreeMap::from([(parsed("app"), parsed(app))]);
    lab.services.push(service.into());
    lab.services.last_mut().expect("it was just pushed")
}

pub(super) fn port(
    name: Option<&str>,
    protocol: Protocol,
    port: u16,
    target: u16,
    node_port: Option<u16>,
) -> ServicePort {
    let target_port = TargetPort::Number(target);
    ServicePort { name: name.map(parsed), protocol, port, target_port, node_port, at: 0..0 }
}

/// What a test writes down is well-formed.
pub(super) fn parsed<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("a test says {text:?}"))
}

/// Compares a text with the file of that name in `src/proxy/golden`; `NETLAB_BLESS=1` writes it.
pub(super) fn golden(name: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/proxy/golden").join(name);
    if std::env::var_os("NETLAB_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("the folder can be made");
        std::fs::write(&path, text).expect("the file can be written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(expected == text, "{} differs; NETLAB_BLESS=1 rewrites it. It would be:\n{text}", path.display());
}

/// A sight in a few words: `pod1a<192.168.1.1 pod2<10.30.45.100` says who answers and which
/// client address each sees.
pub(super) fn words(lab: &Lab, sight: &super::truth::Sight) -> String {
    use super::truth::{Choice, Sight};
    let choices = |choices: &[Choice]| {
        let words = choices.iter().map(|choice| {
            let who = choice.pod.map_or(choice.endpoint.to_string(), |pod| lab.pod(pod).full_name());
            let sources: Vec<String> = choice.sources.iter().map(ToString::to_string).collect();
            format!("{who}<{}", sources.join("|"))
        });
        words.collect::<Vec<_>>().join(" ")
    };
    match sight {
        Sight::Served(served) => choices(served),
        Sight::Refused => "refused".to_owned(),
        Sight::Dropped => "dropped".to_owned(),
        Sight::Unreachable => "unreachable".to_owned(),
        Sight::Mixed { served, refused, lost } => {
            format!("mixed: {} refused {refused:?} lost {lost:?}", choices(served))
        }
    }
}
