//! From what a node did to what it shall do: the same without the Services that stay as they are, of
//! which the rules need not even be written down.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::SocketAddr,
    sync::Arc,
};

use crate::{
    lab::{
        model::{NodeId, Protocol},
        name::{Name, ServiceName},
    },
    proxy::view::{NodeView, PortView},
};

/// The Service ports of a node.
type Ports = Arc<[Arc<PortView>]>;

/// Which of the ports of two lists matter for the difference of their rules, as indices.
#[derive(Debug, Clone, Default)]
struct Matters {
    old: BTreeSet<usize>,
    new: BTreeSet<usize>,
}

/// What was found out about a pair of lists: the nodes of a lab often share theirs.
#[derive(Debug, Default)]
pub struct Memo(Option<(Ports, Ports, Matters)>);

impl Memo {
    /// Both views, each with only those ports whose rules differ, or have something in common with rules
    /// that differ.
    pub(super) fn reduce(&mut self, old: &NodeView, new: &NodeView) -> (NodeView, NodeView) {
        let mut matters = self.matters(&old.ports, &new.ports);
        let both = || matters.old.iter().map(|at| (old, &old.ports[*at])).chain(of(new, &matters.new));
        // An endpoint of this node is one element of one set, however many Services it serves.
        let here: HashSet<(Protocol, SocketAddr)> = both().flat_map(|(view, port)| local(view.node, port)).collect();
        if !here.is_empty() {
            let shares = |view: &NodeView, port: &PortView| local(view.node, port).any(|it| here.contains(&it));
            for (view, list) in [(old, &mut matters.old), (new, &mut matters.new)] {
                let ports = view.ports.iter().enumerate();
                list.extend(ports.filter(|(_, port)| shares(view, port)).map(|(at, _)| at));
            }
        }
        let only = |view: &NodeView, list: &BTreeSet<usize>| {
            let ports = list.iter().map(|at| Arc::clone(&view.ports[*at])).collect();
            NodeView { ports, ..view.clone() }
        };
        (only(old, &matters.old), only(new, &matters.new))
    }

    fn matters(&mut self, old: &Ports, new: &Ports) -> Matters {
        if let Some((one, other, matters)) = &self.0
            && Arc::ptr_eq(one, old)
            && Arc::ptr_eq(other, new)
        {
            return matters.clone();
        }
        let matters = Matters::of(old, new);
        self.0 = Some((Arc::clone(old), Arc::clone(new), matters.clone()));
        matters
    }
}

fn of<'a>(view: &'a NodeView, list: &'a BTreeSet<usize>) -> impl Iterator<Item = (&'a NodeView, &'a Arc<PortView>)> {
    list.iter().map(move |at| (view, &view.ports[*at]))
}

/// The endpoints of a port that are on a node.
fn local(node: NodeId, port: &PortView) -> impl Iterator<Item = (Protocol, SocketAddr)> + '_ {
    let endpoints = port.endpoints.cluster.iter().chain(&port.endpoints.local);
    endpoints.filter(move |it| it.node == Some(node)).map(|it| (port.protocol, it.addr))
}

impl Matters {
    fn of(old: &Ports, new: &Ports) -> Self {
        let alike = |(one, other): &(&Arc<PortView>, &Arc<PortView>)| Arc::ptr_eq(one, other) || one.is_like(other);
        let head = old.iter().zip(new.iter()).take_while(alike).count();
        let tail = old[head..].iter().rev().zip(new[head..].iter().rev()).take_while(alike).count();
        let mut left: HashMap<_, usize> = (head..old.len() - tail).map(|at| (name(&old[at]), at)).collect();
        let mut matters = Matters::default();
        for at in head..new.len() - tail {
            match left.get(&name(&new[at])) {
                Some(before) if alike(&(&old[*before], &new[at])) => _ = left.remove(&name(&new[at])),
                _ => _ = matters.new.insert(at),
            }
        }
        matters.old.extend(left.into_values());
        matters.add_siblings(old, new);
        matters
    }

    /// All ports of a Service have its ClusterIP, which is one element.
    fn add_siblings(&mut self, old: &Ports, new: &Ports) {
        let ports = self.old.iter().map(|at| &old[*at]).chain(self.new.iter().map(|at| &new[*at]));
        let services: HashSet<(&Name, &ServiceName)> = ports.map(|port| (&port.namespace, &port.name)).collect();
        for (namespace, name) in services {
            self.old.extend(of_service(old, namespace, name));
            self.new.extend(of_service(new, namespace, name));
        }
    }
}

/// The ports of a Service that has several, as indices: the list is sorted by their labels, and each has a name.
fn of_service(ports: &Ports, namespace: &Name, name: &ServiceName) -> impl Iterator<Item = usize> {
    let label = format!("{namespace}/{name}:");
    let first = ports.partition_point(|port| port.label() < label);
    (first..).take_while(move |at| ports.get(*at).is_some_and(|port| port.label().starts_with(&label)))
}

fn name(port: &PortView) -> (&str, &str, &str, Protocol) {
    (port.namespace.as_str(), port.name.as_str(), &port.port_name, port.protocol)
}
