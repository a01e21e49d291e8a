//! The lab file as it is written: every table and key that a user can type, with its place,
//! checked each for itself. What they mean together is [`super::lower`]'s matter.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde_json::Value as Json;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    address::{Addresses, ClusterIp, Interface, SourceRange},
    model::{
        BalancerEngine, DetectLocal, DnsPolicy, ExternalNames, ExternalServer, Labels, PodRecords, Protocol, ProxyMode,
        Span, TargetPort, TrafficPolicy,
    },
    name::{Domain, IfName, Name, PortName, ServiceName, ServicePortName},
    probe_tables::ProbeTable,
    readiness::{Form, HttpPath},
    resolver::{ExternalName, ResolverWord, SearchDomain},
    said::{At, Said},
    stated::Expectation,
    table::{Key, Table, first, object, plain, record},
    value::{
        Affinity, AttachKind, Distribution, DnsReplicas, EngineKind, Environment, Period, Port, Replicas, Seconds,
        ServerKind, ServiceType, Threshold, Ttl, Value,
    },
};
use crate::diag::Problems;

record! {
    /// A netlab lab: nodes, pods, Services and machines outside, as one Kubernetes-shaped network.
    LabFile, "lab" {
        /// The name of the lab. Default: the name of the file.
        optional name: Name,
        /// What holds for the cluster as a whole.
        optional cluster: ClusterTable,
        /// The nodes. Default: `node1` and `node2`.
        optional node: Vec<NodeTable>,
        /// The pods.
        optional pod: Vec<PodTable>,
        /// The Services.
        optional service: Vec<ServiceTable>,
        /// Machines outside the cluster, each on a network of its own behind `host`.
        optional client: Vec<ClientTable>,
        /// The machine in front of the nodes that has the addresses of Services outside the cluster.
        /// There is one by itself where a Service has such an address.
        optional load_balancer: BalancerTable,
        /// Machines on the lab's internet.
        optional external: Vec<ExternalTable>,
        /// The cluster's DNS.
        optional dns: DnsTable,
        /// Probes of your own, besides the built-in suite.
        optional probe: Vec<ProbeTable>,
        /// What `netlab test` must find: "invalid" for a file that is refused, or a table. Default: a
        /// good file, and probes that all pass.
        optional expect: Expectation,
    }
}

record! {
    /// What holds for the cluster as a whole.
    ClusterTable, "cluster" {
        /// The LAN between the nodes; its first address is `host`. Default: "10.30.45.0/24".
        optional node_subnet: Ipv4Net,
        /// The range of the ClusterIPs. Default: "10.96.0.0/16".
        optional service_cidr: Ipv4Net,
        /// One prefix that holds every pod subnet. Default: "10.244.0.0/16", or, if nodes give pod
        /// subnets outside that, the smallest prefix that covers these.
        optional cluster_cidr: Ipv4Net,
        /// The cluster domain. Default: "cluster.local".
        optional domain: Domain,
        /// Which renderer writes the Service rules. Default: "iptables".
        optional proxy: ProxyMode,
        /// How a node tells that a packet comes from a local pod. Default: "cluster-cidr".
        optional detect_local: DetectLocal,
        /// Masquerade connections from pods to ClusterIPs as well. Default: false.
        optional masquerade_all: bool,
    }
}

record! {
    /// The cluster's DNS: a pod `coredns` and a Service `kube-dns` in the namespace `kube-system`.
    DnsTable, "dns" {
        /// Who answers: "embedded" is built into netlab, "coredns" is the real CoreDNS, which must be
        /// installed; "none" is a lab without DNS. Default: "embedded".
        optional engine: EngineKind,
        /// The name servers that are asked for names outside the cluster. Default: `host`, which knows
        /// the machines of `[[external]]`.
        optional upstream: Vec<At<Ipv4Addr>>,
        /// The time to live of the cluster's names, in seconds. Default: 30.
        optional ttl: Ttl,
        /// Whether addresses of pods have names, such as 10-244-0-2.default.pod.cluster.local: not at
        /// all, without a look whether there is such a pod, or only with one. Default: "insecure".
        optional pods: PodRecords,
        /// How ExternalName Services are answered: by a CNAME, as Kubernetes does, or by a rewritten
        /// question, as CoreDNS's `rewrite name` does. Default: "cname".
        optional external_names: ExternalNames,
        /// How many pods answer. Default: 1.
        optional replicas: DnsReplicas,
    }
}

record! {
    /// A node.
    NodeTable, "node" {
        /// Its name.
        required name: Name,
        /// Its address on the LAN between the nodes. Default: the lowest free one from the eleventh.
        optional ip: Ipv4Addr,
        /// The subnet of its pods; the first address is their gateway. Default: the lowest free /24
        /// of `cluster_cidr`.
        optional pod_subnet: Ipv4Net,
        /// How pods are wired to it. Default: "bridge".
        optional attach: AttachKind,
        /// The name of its bridge. Default: "br0".
        optional bridge: IfName,
        /// Its topology zone.
        optional zone: Name,
    }
}

record! {
    /// A pod, or as many like it as `replicas` says.
    PodTable, "pod" {
        /// Its name; with `replicas` they are NAME-0, NAME-1 and so on.
        required name: Name,
        /// The node that it runs on. Default: the one with the fewest pods so far.
        optional node: String,
        /// Its address. Default: the lowest free one of its node's pod subnet.
        optional ip: Ipv4Addr,
        /// What selectors match.
        optional labels: Labels,
        /// Its Kubernetes namespace. Default: "default".
        optional namespace: Name,
        /// How many there are. Default: one, without a number in its name.
        optional replicas: Replicas,
        /// It runs in its node's network namespace and has its node's address. Default: false.
        optional host_network: bool,
        /// It is ready; one that is not runs all the same, and Services leave it out. Default: true.
        optional ready: bool,
        /// It is being deleted, and still runs: Services use it only where they have no other.
        /// Default: false.
        optional terminating: bool,
        /// How long it has to end, from when it is asked to until it is made to. Default: "30s".
        optional termination_grace_period: Period,
        /// What it calls itself. Default: its name.
        optional hostname: Name,
        /// The headless Service below which its hostname is a DNS name.
        optional subdomain: Name,
        /// Whom it asks for names. Default: "ClusterFirst".
        optional dns_policy: DnsPolicy,
        /// More name servers, search domains and options of its resolver.
        optional dns_config: DnsConfigTable,
        /// Its programs get environment variables for the Services of its namespace. Default: true.
        optional enable_service_links: bool,
        /// What runs in it. Default: one echo server on port 80.
        optional containers: Vec<ContainerTable>,
        /// Short for one container with this server.
        optional server: ServerKind,
        /// Short for one container with this command.
        optional command: Vec<At<String>>,
        /// Short for one container with these ports.
        optional ports: Vec<ContainerPortTable>,
        /// Short for one container with this environment.
        optional env: Environment,
        /// Short for one container with this readiness probe.
        optional readiness: ReadinessTable,
    }
}

record! {
    /// What a pod's resolver is told besides what its `dns_policy` says.
    DnsConfigTable, "DNS configuration" {
        /// Further name servers.
        optional nameservers: Vec<At<Ipv4Addr>>,
        /// Further search domains.
        optional searches: Vec<At<SearchDomain>>,
        /// Options of the resolver; one that is there already is replaced.
        optional options: Vec<DnsOptionTable>,
    }
}

record! {
    /// An option of a pod's resolver.
    DnsOptionTable, "resolver option" {
        /// Its name, such as "ndots".
        required name: ResolverWord,
        /// Its value, such as "2".
        optional value: ResolverWord,
    }
}

record! {
    /// A container: one server and its ports.
    ContainerTable, "container" {
        /// Its name, unique within the pod. Default: "server", then "server-2" and so on.
        optional name: Name,
        /// `echo` is built into netlab: HTTP on TCP ports, a datagram echo on UDP ports; `python` is
        /// the lesson's HTTP server. Default: "echo".
        optional server: ServerKind,
        /// A program of the host and its arguments, instead of `server`.
        optional command: Vec<At<String>>,
        /// Its ports; a server listens on all of them. Default: port 80/TCP for a server, none for a
        /// command.
        optional ports: Vec<ContainerPortTable>,
        /// Additional environment variables of `python` and `command`.
        optional env: Environment,
        /// Its readiness probe: what the pod's node asks it again and again to know whether it is ready;
        /// one of `http_get`, `tcp_socket` and `exec`. Default: none, and it is ready when its server
        /// listens.
        optional readiness: ReadinessTable,
    }
}

record! {
    /// What the pod's node asks the container again and again to know whether it is ready: one of
    /// `http_get`, `tcp_socket` and `exec`. Until the first success it is not.
    ReadinessTable, "readiness probe" {
        /// The path of an HTTP request, such as "/healthz"; a status from 200 to 399 is a success. As a
        /// table: { path = "/healthz", port = 80 }.
        optional http_get: Form<HttpPath, HttpGetTable>,
        /// The port that `http_get` asks: its number, or its name. Default: the first TCP port of the
        /// container.
        optional port: TargetPort,
        /// A port, by its number or its name, to which a connection must succeed. As a table: { port = 80 }.
        optional tcp_socket: Form<TargetPort, TcpSocketTable>,
        /// A program of the host and its arguments, run in the pod, that must end with exit code 0. As a
        /// table: { command = ["test", "-e", "/run/ok"] }.
        optional exec: Form<Vec<At<String>>, ExecTable>,
        /// How long after the start of the container it is asked first. Default: "0s".
        optional initial_delay: Period,
        /// How often it is asked. Default: "10s".
        optional period: Period,
        /// How long it has to answer. Default: "1s".
        optional timeout: Period,
        /// So many successes in a row make it ready. Default: 1.
        optional success_threshold: Threshold,
        /// So many failures in a row make it not ready. Default: 3.
        optional failure_threshold: Threshold,
    }
}

record! {
    /// An HTTP request of a probe.
    HttpGetTable, "HTTP request" {
        /// The path. Default: "/".
        optional path: HttpPath,
        /// The port: its number, or its name. Default: the first TCP port of the container.
        optional port: TargetPort,
    }
}

record! {
    /// A connection of a probe.
    TcpSocketTable, "TCP connection" {
        /// The port: its number, or its name.
        required port: TargetPort,
    }
}

record! {
    /// A command of a probe.
    ExecTable, "command" {
        /// The program and its arguments.
        required command: Vec<At<String>>,
    }
}

record! {
    /// A port of a container.
    ContainerPortTable, "container port" {
        /// The name by which a Service may refer to it.
        optional name: PortName,
        /// The port number.
        required container_port: Port,
        /// The protocol. Default: "TCP".
        optional protocol: Protocol,
        /// A port of the node that leads here.
        optional host_port: Port,
        /// The address of the node on which `host_port` is served. Default: all.
        optional host_ip: Ipv4Addr,
    }
}

record! {
    /// A Service.
    ServiceTable, "service" {
        /// Its name.
        required name: ServiceName,
        /// Its Kubernetes namespace. Default: "default".
        optional namespace: Name,
        /// Its type. Default: "ClusterIP".
        optional r#type: ServiceType,
        /// The DNS name that an ExternalName Service stands for.
        optional external_name: ExternalName,
        /// Its labels.
        optional labels: Labels,
        /// Its ClusterIP; "None" makes it headless. Default: the lowest free one of the dynamic band.
        optional cluster_ip: ClusterIp,
        /// The labels of the pods behind it.
        optional selector: Labels,
        /// The machines behind it, without a selector.
        optional endpoints: Vec<EndpointTable>,
        /// Its ports.
        optional ports: Vec<ServicePortTable>,
        /// Whether a client stays with its endpoint. Default: "None".
        optional session_affinity: Affinity,
        /// For how many seconds of rest it does. Default: 10800.
        optional session_affinity_timeout: Seconds,
        /// Which endpoints serve clients inside the cluster. Default: "Cluster".
        optional internal_traffic_policy: TrafficPolicy,
        /// Which endpoints serve clients outside. Default: "Cluster".
        optional external_traffic_policy: TrafficPolicy,
        /// Further addresses at which nodes serve it.
        optional external_ips: Vec<At<Ipv4Addr>>,
        /// Its addresses at the load balancer. Default: the lowest free one of 203.0.113.0/24.
        optional load_balancer_ips: Vec<At<Ipv4Addr>>,
        /// The networks that may use the load balancer's addresses. Default: all.
        optional load_balancer_source_ranges: Vec<At<SourceRange>>,
        /// Whether a LoadBalancer Service gets node ports. Default: true.
        optional allocate_load_balancer_node_ports: bool,
        /// The port on which nodes tell the load balancer whether they have endpoints.
        optional health_check_node_port: Port,
        /// Pods that are not ready count as well. Default: false.
        optional publish_not_ready_addresses: bool,
        /// Which endpoints are preferred.
        optional traffic_distribution: Distribution,
    }
}

record! {
    /// A port of a Service.
    ServicePortTable, "service port" {
        /// Its name; required if the Service has several.
        optional name: ServicePortName,
        /// Its protocol. Default: "TCP".
        optional protocol: Protocol,
        /// The port on the Service's addresses.
        required port: Port,
        /// The port of the pods: its number, or the name of a container port. Default: `port`.
        optional target_port: TargetPort,
        /// The port on every node. Default: the lowest free one of the dynamic band, 30086 to 32767.
        optional node_port: Port,
    }
}

record! {
    /// An endpoint given by hand.
    EndpointTable, "endpoint" {
        /// Its address.
        required ip: Ipv4Addr,
        /// The node that it counts as local to. Default: none.
        optional node: String,
    }
}

record! {
    /// A machine outside the cluster.
    ClientTable, "client" {
        /// Its name.
        required name: Name,
        /// Its address and the prefix length of its network: "192.0.2.10/24"; `host` is the first
        /// address of that network.
        required ip: Interface,
    }
}

record! {
    /// A machine on the lab's internet, behind `host`.
    ExternalTable, "external machine" {
        /// Its DNS name, "api.ipify.org".
        required name: Domain,
        /// Its address, or a list of them.
        required ip: Addresses,
        /// "echo" is the built-in server; "my-ip" answers every request with the client's address.
        /// Default: "echo".
        optional server: ExternalServer,
        /// The TCP ports that it listens on. Default: `[80]`.
        optional ports: Vec<At<Port>>,
    }
}

record! {
    /// The machine in front of the nodes: it has the `load_balancer_ips` and `external_ips` of
    /// Services, and spreads connections over the nodes that are healthy.
    BalancerTable, "load balancer" {
        /// Its name. Default: "lb".
        optional name: Name,
        /// Its address on the LAN between the nodes. Default: the highest free one.
        optional ip: Ipv4Addr,
        /// How it spreads: "builtin" leaves connections as they are, and the kernel chooses a node for
        /// each; "haproxy" is the real HAProxy, which ends them and begins new ones to node ports.
        /// Default: "builtin".
        optional engine: BalancerEngine,
    }
}

impl LabFile {
    /// Reads the whole document.
    pub(super) fn of(document: &DeTable<'_>, problems: &mut Problems) -> Self {
        LabFile::read(Table::root("lab", document), problems)
    }
}
