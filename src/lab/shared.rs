//! What Services share out among them: ClusterIPs, node ports, addresses outside; each for one only.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use ipnet::Ipv4Net;

use super::{
    address::{ClusterIp, overlap, special},
    alloc::Pool,
    file::{LabFile, ServicePortTable, ServiceTable},
    kept::Kept,
    lower::Beside,
    model::{Protocol, Span},
    name::Name,
    network::Network,
    said::At,
    value::invalid,
};
use crate::diag::{Diagnostic, Problems};

/// Addresses and ports that Services share out among them.
pub(super) struct Shared {
    cluster_ips: Option<Pool>,
    node_ports: Pool,
    load_balancer_ips: Pool,
    /// What Services have already, of what nobody else asks for.
    kept: Numbers,
    /// Who took what first, for the related place of a clash.
    ip_owners: BTreeMap<Ipv4Addr, Span>,
    port_owners: BTreeMap<u16, Span>,
}

/// The load balancer's addresses come from the first of these (TEST-NET-3, 2 and 1 of RFC 5737)
/// that are no network of the lab.
const LOAD_BALANCER_NETS: [Ipv4Net; 3] = [
    Ipv4Net::new_assert(Ipv4Addr::new(203, 0, 113, 0), 24),
    Ipv4Net::new_assert(Ipv4Addr::new(198, 51, 100, 0), 24),
    Ipv4Net::new_assert(Ipv4Addr::new(192, 0, 2, 0), 24),
];
const NODE_PORTS: std::ops::RangeInclusive<u16> = 30000..=32767;

impl Shared {
    /// Everything that the tables ask for is taken, so that the order of the file does not matter
    /// to what is given.
    pub(super) fn claimed_by(
        file: &LabFile,
        network: &Network,
        (kept, beside): (&Kept, &Beside),
        problems: &mut Problems,
    ) -> Self {
        let free =
            LOAD_BALANCER_NETS.iter().filter(|net| !network.ranges.iter().any(|range| overlap(range.net, **net)));
        let mut shared = Shared {
            cluster_ips: network.service_cidr.map(Pool::cluster_ips),
            node_ports: Pool::node_ports(),
            load_balancer_ips: Pool::outside(free.copied()),
            kept: Numbers::default(),
            ip_owners: BTreeMap::new(),
            port_owners: BTreeMap::new(),
        };
        shared.have(beside);
        for table in file.service.list() {
            shared.claim(table, network, problems);
        }
        for said in file.external.list().iter().filter_map(|table| table.ip.get()).flat_map(|addresses| &addresses.0) {
            shared.load_balancer_ips.take(u32::from(said.value));
        }
        for table in file.service.list() {
            shared.keep(table, kept);
        }
        shared
    }

    /// Takes what the Services have that are not in the file: all at once, since there may be many.
    fn have(&mut self, beside: &Beside) {
        let addresses = beside.services().filter_map(|service| match service.cluster_ip {
            Some(IpAddr::V4(address)) => Some((address, service.at.clone())),
            _ => None,
        });
        self.ip_owners.append(&mut addresses.collect());
        if let Some(pool) = &mut self.cluster_ips {
            pool.take_all(self.ip_owners.keys().copied().map(u32::from));
        }
        let ports = beside.services().flat_map(|service| {
            let ports = service.ports.iter().filter_map(|port| port.node_port).chain(service.health_check_node_port);
            ports.map(|port| (port, service.at.clone()))
        });
        self.port_owners.append(&mut ports.collect());
        self.node_ports.take_all(self.port_owners.keys().copied().map(u32::from));
    }

    /// Takes what a Service asks for by number.
    fn claim(&mut self, table: &ServiceTable, network: &Network, problems: &mut Problems) {
        self.claim_cluster_ip(table, network, problems);
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
        for said in table.load_balancer_ips.list().iter().chain(table.external_ips.list()) {
            self.load_balancer_ips.take(u32::from(said.value));
        }
    }

    fn claim_cluster_ip(&mut self, table: &ServiceTable, network: &Network, problems: &mut Problems) {
        let (Some(At { value: ClusterIp::Is(address), at }), Some(range)) =
            (table.cluster_ip.at(), network.service_cidr)
        else {
            return;
        };
        let address = *address;
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
                self.cluster_ips.iter_mut().for_each(|pool| pool.take(u32::from(address)));
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

    /// Takes what a Service has already and does not ask for by number, as far as it is free.
    fn keep(&mut self, table: &ServiceTable, kept: &Kept) {
        let Some(name) = full_name(table) else { return };
        if let (Some(pool), Some(address)) = (&mut self.cluster_ips, kept.cluster_ip(&name))
            && table.cluster_ip.is_nothing()
            && pool.keep(u32::from(address))
        {
            self.kept.cluster_ips.insert(name.clone(), address);
        }
        if let Some(address) = kept.load_balancer_ip(&name)
            && table.load_balancer_ips.is_nothing()
            && self.load_balancer_ips.keep(u32::from(address))
        {
            self.kept.load_balancer_ips.insert(name.clone(), address);
        }
        if let Some(port) = kept.health_check_node_port(&name)
            && table.health_check_node_port.is_nothing()
            && self.node_ports.keep(u32::from(port))
        {
            self.kept.health_ports.insert(name.clone(), port);
        }
        for port in table.ports.list().iter().filter(|port| port.node_port.is_nothing()) {
            let Some((number, protocol)) = numbers(port) else { continue };
            let Some(had) = kept.node_port(&name, number, protocol) else { continue };
            // The protocols of one number share their node port.
            let own = self.kept.node_ports.iter().any(|((of, _, _), port)| *of == name && *port == had);
            if own || self.node_ports.keep(u32::from(had)) {
                self.kept.node_ports.insert((name.clone(), number, protocol), had);
            }
        }
    }

    /// A ClusterIP for a Service that asks for none.
    pub(super) fn cluster_ip(&mut self, table: &ServiceTable) -> Option<Ipv4Addr> {
        let had = full_name(table).and_then(|name| self.kept.cluster_ips.remove(&name));
        had.or_else(|| self.cluster_ips.as_mut()?.next_ip())
    }

    /// A load balancer's address for a Service that asks for none.
    pub(super) fn load_balancer_ip(&mut self, table: &ServiceTable) -> Option<Ipv4Addr> {
        let had = full_name(table).and_then(|name| self.kept.load_balancer_ips.remove(&name));
        had.or_else(|| self.load_balancer_ips.next_ip())
    }

    /// A health check's port for a Service that asks for none.
    pub(super) fn health_port(&mut self, table: &ServiceTable, problems: &mut Problems) -> Option<u16> {
        let had = full_name(table).and_then(|name| self.kept.health_ports.remove(&name));
        had.or_else(|| self.next_port(&table.at, problems))
    }

    /// A node port for a Service port that asks for none.
    pub(super) fn node_port(
        &mut self,
        table: &ServiceTable,
        port: &ServicePortTable,
        problems: &mut Problems,
    ) -> Option<u16> {
        let key = full_name(table).zip(numbers(port)).map(|(name, (number, protocol))| (name, number, protocol));
        let had = key.and_then(|key| self.kept.node_ports.remove(&key));
        had.or_else(|| self.next_port(&port.at, problems))
    }

    /// The next free node port.
    fn next_port(&mut self, at: &Span, problems: &mut Problems) -> Option<u16> {
        let port = self.node_ports.next().and_then(|port| u16::try_from(port).ok());
        if port.is_none() {
            let problem = Diagnostic::new(at.clone(), "failed to allocate a nodePort: range is full");
            problems.push(problem.hint("there are 2768 of them, 30000 to 32767; use fewer NodePort services"));
        }
        port
    }
}

/// Numbers by the full names of Services, and of their ports.
#[derive(Debug, Default)]
struct Numbers {
    cluster_ips: BTreeMap<String, Ipv4Addr>,
    load_balancer_ips: BTreeMap<String, Ipv4Addr>,
    health_ports: BTreeMap<String, u16>,
    node_ports: BTreeMap<(String, u16, Protocol), u16>,
}

/// A Service's name as [`Kept`] has it.
fn full_name(table: &ServiceTable) -> Option<String> {
    let name = table.name.get()?;
    Some(match table.namespace.get().map_or("default", Name::as_str) {
        "default" => name.to_string(),
        namespace => format!("{name}.{namespace}"),
    })
}

/// The number and the protocol of a Service port.
fn numbers(port: &ServicePortTable) -> Option<(u16, Protocol)> {
    Some((port.port.get()?.0, port.protocol.or(Protocol::Tcp)?))
}

fn nth(n: u32) -> &'static str {
    if n == 1 { "first" } else { "tenth" }
}

/// Addresses outside the cluster at which Services are served: ordinary, not inside the cluster's
/// ranges, and each port of each address only once.
pub(super) fn check_external_addresses(tables: &[ServiceTable], network: &Network, problems: &mut Problems) {
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
