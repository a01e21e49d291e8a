//! Pods: what runs in them, and what they are told about names.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use super::{Labels, NodeId, PodDns, Protocol, Readiness, Span};
use crate::lab::name::{Name, PortName};

/// A pod.
#[derive(Debug, Clone)]
pub struct Pod {
    /// Its name, unique within its namespace.
    pub name: Name,
    /// Its Kubernetes namespace.
    pub namespace: Name,
    /// The node that it runs on.
    pub node: NodeId,
    /// Its address (its node's, if it uses the host network).
    pub ip: IpAddr,
    /// It runs in its node's network namespace.
    pub host_network: bool,
    /// What selectors match.
    pub labels: Labels,
    /// What runs in it.
    pub containers: Vec<Container>,
    /// It is ready from the beginning; one that is not runs all the same.
    pub ready: bool,
    /// It would be ready, but for its readiness probe.
    pub unproven: bool,
    /// It is being deleted, and still runs.
    pub terminating: bool,
    /// How long it has to end, from when it is asked to.
    pub termination_grace_period: Duration,
    /// Its own name, if that is not the pod's.
    pub hostname: Option<Name>,
    /// The headless Service below which its hostname is a DNS name.
    pub subdomain: Option<Name>,
    /// Whom it asks for names, and how.
    pub dns: PodDns,
    /// Its programs get variables for the Services of its namespace.
    pub enable_service_links: bool,
    /// The `[[pod]]` table.
    pub at: Span,
}

/// A container: one server and its ports.
#[derive(Debug, Clone)]
pub struct Container {
    /// Its name, unique within the pod.
    pub name: Name,
    /// What it runs.
    pub server: Server,
    /// The ports it declares; `python` and `echo` listen on exactly these.
    pub ports: Vec<ContainerPort>,
    /// Additional environment of `python` and `command`.
    pub env: BTreeMap<String, String>,
    /// When it counts as ready; without it, when its server listens.
    pub readiness: Option<Readiness>,
    /// Its command; without one the container's table, or the pod's.
    pub at: Span,
}

/// What a container runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Server {
    /// The lesson's HTTP server, run by the host's python3.
    Python,
    /// Built into netlab: HTTP on TCP ports, a datagram echo on UDP ports.
    Echo,
    /// A program of the host: an argument vector, never empty.
    Command(Vec<String>),
    /// The cluster's DNS, by the engine of [`Dns`](super::Dns); only netlab's own pods run it.
    Dns,
}

/// A declared container port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerPort {
    /// The name by which a Service may refer to it.
    pub name: Option<PortName>,
    /// The port number.
    pub container_port: u16,
    /// The protocol.
    pub protocol: Protocol,
    /// A port of the node that leads here.
    pub host_port: Option<HostPort>,
}

/// A port of the node that leads to a container port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// The port number on the node.
    pub port: u16,
    /// Only on this address of the node; `None` for all.
    pub ip: Option<IpAddr>,
}

impl Container {
    /// The same but for where the file says so.
    pub fn are_alike(one: &[Container], other: &[Container]) -> bool {
        let alike = |(it, other): (&Container, &Container)| {
            let Container { name, server, ports, env, readiness, at: _ } = it;
            *name == other.name
                && *server == other.server
                && *ports == other.ports
                && *env == other.env
                && *readiness == other.readiness
        };
        one.len() == other.len() && one.iter().zip(other).all(alike)
    }
}

impl Pod {
    /// The same but for where the file says so. Nodes are compared by their ids.
    pub fn is_like(&self, other: &Pod) -> bool {
        let Pod {
            name,
            namespace,
            node,
            ip,
            host_network,
            labels,
            containers,
            ready,
            unproven,
            terminating,
            termination_grace_period,
            hostname,
            subdomain,
            dns,
            enable_service_links,
            at: _,
        } = self;
        *name == other.name
            && *namespace == other.namespace
            && *node == other.node
            && *ip == other.ip
            && *host_network == other.host_network
            && *labels == other.labels
            && Container::are_alike(containers, &other.containers)
            && *ready == other.ready
            && *unproven == other.unproven
            && *terminating == other.terminating
            && *termination_grace_period == other.termination_grace_period
            && *hostname == other.hostname
            && *subdomain == other.subdomain
            && *dns == other.dns
            && *enable_service_links == other.enable_service_links
    }

    /// `NAME`, or `NAME.NAMESPACE` outside the namespace `default`.
    pub fn full_name(&self) -> String {
        match self.namespace.as_str() {
            "default" => self.name.to_string(),
            namespace => format!("{}.{namespace}", self.name),
        }
    }

    /// This is its full name.
    pub fn is_called(&self, full_name: &str) -> bool {
        match self.namespace.as_str() {
            "default" => self.name.as_str() == full_name,
            namespace => full_name.split_once('.') == Some((self.name.as_str(), namespace)),
        }
    }

    /// What it calls itself: its `hostname`, or its name.
    pub fn own_name(&self) -> &Name {
        self.hostname.as_ref().unwrap_or(&self.name)
    }

    /// It runs the cluster's DNS.
    pub fn serves_dns(&self) -> bool {
        self.containers.iter().any(|container| container.server == Server::Dns)
    }
}
