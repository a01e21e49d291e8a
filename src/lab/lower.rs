//! The file as written → the lab as meant: defaults filled in, replicas expanded, addresses and
//! ports allocated, references resolved.
//!
//! What the file leaves out is always allocated the same way:
//!
//! | what | from |
//! |---|---|
//! | nodes | two, `node1` and `node2` |
//! | `host` | the first address of `node_subnet` (10.30.45.0/24) |
//! | nodes' addresses | the lowest free one of `node_subnet` from the eleventh; then from the second |
//! | pod subnets | the lowest free /24 of `cluster_cidr` (10.244.0.0/16, or what covers the given ones) |
//! | pods' gateways | the first address of the pod subnet |
//! | pods' nodes | that of the pod's `ip`; otherwise the node with the fewest pods, in file order |
//! | pods' addresses | the lowest free one of the pod subnet from the second |
//! | ClusterIPs | the lowest free one of the dynamic band of `service_cidr` (10.96.0.0/16); then of the static band |
//! | node ports | the lowest free one of 30086-32767; then of 30000-30085 |
//! | load balancer addresses | the lowest free one of 203.0.113.0/24 (198.51.100.0/24, 192.0.2.0/24) |
//! | the load balancer | one, `lb`, if a Service has such an address or an external IP |
//! | the cluster's DNS | the tenth address of `service_cidr`; its pods where the fewest are |
//! | its own address | the highest free one of `node_subnet` |
//!
//! Whatever is given is taken out before anything is allocated; and in a lab that runs already, so is
//! whatever its things have ([`Kept`]).

use super::{
    balancer::{balancer, check_engine},
    check,
    dns::dns,
    externals::{ExternalDraft, externals},
    file::LabFile,
    hostnames::check_hostnames,
    kept::Kept,
    model::{Common, Lab, Service},
    name::Name,
    network::{ClientDraft, Network, NodeDraft},
    pods::Pods,
    probes::{Things, probes},
    services::services,
};
use crate::diag::Problems;

/// Services that are known already, and not in the file that is read.
#[derive(Debug, Default)]
pub(super) struct Beside {
    /// Those before the ones of the file.
    pub(super) before: Vec<Common<Service>>,
    /// Those after them.
    pub(super) after: Vec<Common<Service>>,
}

impl Beside {
    /// All of them.
    pub(super) fn services(&self) -> impl Iterator<Item = &Common<Service>> {
        self.before.iter().chain(&self.after)
    }

    /// How many they are.
    pub(super) fn len(&self) -> usize {
        self.before.len() + self.after.len()
    }

    /// All of them, with those of the file in their place.
    fn around(mut self, read: Vec<Common<Service>>) -> Vec<Common<Service>> {
        self.before.reserve(read.len() + self.after.len());
        self.before.extend(read);
        self.before.append(&mut self.after);
        self.before
    }
}

/// Puts the lab together; `None` if anything of it was refused, and `problems` says what.
pub(super) fn lower(
    file: &LabFile,
    default_name: &Name,
    kept: &Kept,
    beside: Beside,
    problems: &mut Problems,
) -> Option<Lab> {
    check::sizes(file, problems)?;
    let network = Network::of(file, kept, problems);
    let pods = Pods::of(file, &network, kept, problems);
    let services = services(file, &network, &pods, (kept, &beside), problems);
    let balancer = balancer(file, &network, problems);
    let externals = externals(file, &network, problems);
    check_hostnames(file, &pods, problems);
    let dns = dns(file, &network, problems);
    check::names(&network, &pods, &services, balancer.as_ref(), &externals, problems);
    let things = Things {
        network: &network,
        pods: &pods,
        services: &services,
        balancer: balancer.as_ref(),
        externals: &externals,
        dns: dns.as_ref().and_then(Option::as_ref).map(|draft| draft.ip.into()),
    };
    let probes = probes(file, &things, problems);
    let nodes = network.nodes.into_iter().map(NodeDraft::finish).collect::<Option<Vec<_>>>()?;
    let mut pods = pods.finish()?;
    let read = services.into_iter().map(|draft| draft.finish().map(Common::from)).collect::<Option<Vec<_>>>()?;
    let mut services = beside.around(read);
    let dns = match dns? {
        Some(draft) => Some(draft.finish(&nodes, &mut pods, &mut services, &externals, kept, problems)?),
        None => None,
    };
    let lab = Lab {
        name: file.name.or(default_name.clone())?,
        cluster: network.cluster?,
        nodes,
        pods,
        services,
        clients: network.clients.into_iter().map(ClientDraft::finish).collect::<Option<_>>()?,
        load_balancer: balancer.map(|draft| draft.finish().ok_or(())).transpose().ok()?,
        externals: externals.into_iter().map(ExternalDraft::finish).collect::<Option<_>>()?,
        dns,
        probes: probes?,
    };
    check_engine(&lab, problems);
    Some(lab)
}
