//! From what every node did to what it must do, when a lab differs from the one before in few Services:
//! what it does for the others is not worked out again.

use std::sync::Arc;

use super::{NodeView, Port, PortView, Shared, port_view, ports_of, shared};
use crate::{
    lab::{
        Turn,
        model::{Lab, Protocol, ServiceId},
    },
    proxy::endpoints,
};

/// The Service ports of a node.
type Ports = Arc<[Arc<PortView>]>;

/// What every node must do, in file order, given what each did in the lab before; `None` if too much is
/// different.
pub fn views_after(was: &Lab, views: &[&NodeView], lab: &Lab) -> Option<Vec<NodeView>> {
    let turn = Turn::between(was, lab)?;
    let checked = lab.services[turn.new.clone()].iter().any(|service| service.health_check_node_port.is_some())
        || views.iter().any(|view| !view.health_checks.is_empty());
    let is_lost = lab.nodes.iter().any(|node| node.state.unplugged || node.state.stopped);
    if checked || is_lost || views.len() != lab.nodes.len() {
        return None;
    }
    let conditions = endpoints::conditions(lab);
    let fresh = ports_of(lab, &conditions, |id| turn.new.contains(&id.0));
    let shared = shared(lab, &fresh);
    let mut memo: Option<(Ports, Ports)> = None;
    let view = |view: &&NodeView| {
        let ports = match &memo {
            Some((old, new)) if shared.all.is_some() && Arc::ptr_eq(old, &view.ports) => Arc::clone(new),
            _ => Arc::from(ports(lab, view, &turn, (&fresh, &shared))),
        };
        memo = Some((Arc::clone(&view.ports), Arc::clone(&ports)));
        NodeView { ports, ..(*view).clone() }
    };
    Some(views.iter().map(view).collect())
}

/// A node's Service ports: those of before without those that are gone, and with those that are new.
fn ports(lab: &Lab, view: &NodeView, turn: &Turn, (fresh, shared): (&[Port<'_>], &Shared)) -> Vec<Arc<PortView>> {
    let staying = view.ports.iter().filter(|port| !turn.old.contains(&port.service.0));
    let renumbered = |port: &Arc<PortView>| {
        if port.service.0 < turn.old.end || turn.old.end == turn.new.end {
            return Arc::clone(port);
        }
        let service = ServiceId(port.service.0 - turn.old.end + turn.new.end);
        Arc::new(PortView { service, ..(**port).clone() })
    };
    let mut ports: Vec<Arc<PortView>> = staying.map(renumbered).collect();
    for (port, shared) in fresh.iter().zip(&shared.ports) {
        let Some(port) = shared.clone().or_else(|| port_view(lab, view.node, port).map(Arc::new)) else { continue };
        let key = key(&port);
        let at = ports.partition_point(|it| self::key(it) < key);
        ports.insert(at, port);
    }
    ports
}

/// By what they are sorted.
fn key(port: &PortView) -> (String, Protocol) {
    (port.label(), port.protocol)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lab::model::Service,
        proxy::{sample, view::views_under},
    };

    fn check(what: &str, was: &Lab, lab: &Lab, is_small: bool) {
        let before = views_under(was, &endpoints::conditions(was));
        let after = views_after(was, &before.iter().collect::<Vec<_>>(), lab);
        assert_eq!(after.is_some(), is_small, "{what}");
        let whole = views_under(lab, &endpoints::conditions(lab));
        if let Some(after) = after {
            assert_eq!(format!("{after:#?}"), format!("{whole:#?}"), "{what}");
        }
    }

    /// A lab in which nothing follows from all Services.
    fn lab() -> Lab {
        let mut lab = sample::everything();
        lab.load_balancer = None;
        lab.services.retain(|service| service.health_check_node_port.is_none());
        lab
    }

    #[test]
    fn one_service_more_or_less() {
        let lab = lab();
        for at in 0..lab.services.len() {
            let mut less = lab.clone();
            less.services.remove(at);
            check("one less", &lab, &less, true);
            check("one more", &less, &lab, true);
            let mut other = lab.clone();
            other.services[at].session_affinity = Some(60);
            other.services[at].selector.clear();
            check("another one", &lab, &other, true);
            let service: &mut Service = &mut other.services[at];
            service.health_check_node_port = Some(32000);
            check("with a health check", &lab, &other, false);
        }
        let mut other = lab.clone();
        other.pods[0].labels.clear();
        check("another pod", &lab, &other, false);
        let mut other = lab.clone();
        other.nodes[0].state.unplugged = true;
        check("a pulled cable", &lab, &other, false);
    }
}
