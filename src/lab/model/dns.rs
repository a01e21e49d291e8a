//! The cluster's DNS, and what pods are told about it.

use std::net::IpAddr;

use super::{ServiceId, Span};

/// The cluster's DNS.
///
/// Its pods and its Service are pods and a Service of the lab like all others: the last ones.
#[derive(Debug, Clone)]
pub struct Dns {
    /// Who answers.
    pub engine: DnsEngine,
    /// The Service `kube-dns`.
    pub service: ServiceId,
    /// Its address, which pods have as their name server.
    pub ip: IpAddr,
    /// Who is asked for names outside the cluster.
    pub upstream: Vec<IpAddr>,
    /// The time to live of names of the cluster, in seconds.
    pub ttl: u32,
    /// Whether addresses of pods have names.
    pub pod_records: PodRecords,
    /// How an ExternalName Service is answered.
    pub external_names: ExternalNames,
    /// The `[dns]` table, or the start of the file.
    pub at: Span,
}

/// Who answers DNS questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DnsEngine {
    /// Built into netlab.
    Embedded,
    /// The real CoreDNS.
    Coredns,
}

/// Whether `10-0-0-5.default.pod.cluster.local` is a name (CoreDNS's `pods`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PodRecords {
    /// It is not.
    Disabled,
    /// It is, and nobody looks whether there is such a pod.
    Insecure,
    /// It is, if there is such a pod in that namespace.
    Verified,
}

/// How the name of an ExternalName Service is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExternalNames {
    /// By a CNAME and what that leads to, as Kubernetes does.
    Cname,
    /// By the addresses behind it under the Service's own name, as CoreDNS's `rewrite name` does.
    Rewrite,
}

/// What a pod is told about names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PodDns {
    /// Whom it asks.
    pub policy: DnsPolicy,
    /// Further name servers.
    pub nameservers: Vec<IpAddr>,
    /// Further search domains; `.` is one.
    pub searches: Vec<String>,
    /// Options of the resolver.
    pub options: Vec<DnsOption>,
}

/// Whom a pod asks for names (`dnsPolicy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum DnsPolicy {
    /// The cluster's DNS; a pod on the host network does as its node.
    #[default]
    ClusterFirst,
    /// The cluster's DNS, on the host network too.
    ClusterFirstWithHostNet,
    /// Whom its node asks.
    Default,
    /// Whom its `dns_config` names.
    None,
}

/// An option of a resolver: `ndots:5`, or `edns0`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsOption {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Option<String>,
}
