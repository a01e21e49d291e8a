//! From a [`Lab`] to a [`Plan`]: what has to happen, as data, in an order that works.
//!
//! ```text
//! lab ──topology──▶ namespaces, bridges, cables, addresses, routes ─┐
//!     ──proxy─────▶ rules ──────────────────────────────────────────┼─▶ Plan
//!     ──servers───▶ servers ────────────────────────────────────────┘
//! ```
//!
//! Nothing here touches the kernel, and the same lab gives the same plan, byte for byte.

pub mod addressing;
mod allotted;
pub mod change;
mod kind;
pub mod mend;
mod servers;
pub mod step;
mod sysctl;
mod topology;
mod undoing;

pub use allotted::Allotted;
pub use servers::{dns_program, knows_names};
pub use topology::VETH_PREFIX;

use crate::{
    lab::model::{Lab, Place, ProxyMode},
    proxy::{
        self,
        endpoints::conditions,
        view::{NodeView, views_after, views_under},
    },
};
use step::{Plan, PlannedStep, Stage, StageName, Step};

/// Plans a whole lab.
pub fn plan(lab: &Lab) -> Plan {
    plan_after(lab, Allotted::default())
}

/// Plans a whole lab, in which what is there already keeps its interface indices.
pub fn plan_after(lab: &Lab, allotted: Allotted) -> Plan {
    plan_with(lab, allotted, views_under(lab, &conditions(lab)))
}

/// The same, given the lab before and its plan: of Services that have stayed nothing is worked out again.
pub fn plan_from((was, before): (&Lab, &Plan), lab: &Lab, allotted: Allotted) -> Plan {
    let views: Vec<&NodeView> = before.views().collect();
    plan_with(lab, allotted, views_after(was, &views, lab).unwrap_or_else(|| views_under(lab, &conditions(lab))))
}

fn plan_with(lab: &Lab, allotted: Allotted, views: Vec<NodeView>) -> Plan {
    let mut steps = topology::wire(lab, allotted);
    let loaded =
        rules_of(lab, lab.cluster.proxy, views).zip(lab.node_ids()).filter(|(_, node)| !lab.is_off(Place::Node(*node)));
    steps.extend(loaded.map(|(step, _)| (StageName::Rules, step)));
    steps.extend(servers::serve(lab).map(|step| (StageName::Servers, step)));
    let mut stages = StageName::ALL.map(|name| Stage { name, steps: Vec::new() });
    for (name, step) in steps {
        if let Some(stage) = stages.iter_mut().find(|stage| stage.name == name) {
            stage.steps.push(step);
        }
    }
    Plan { stages: stages.into() }
}

/// The rules of every node, as `mode` writes them.
pub fn rules(lab: &Lab, mode: ProxyMode) -> impl Iterator<Item = PlannedStep> + '_ {
    rules_of(lab, mode, views_under(lab, &conditions(lab)))
}

fn rules_of(lab: &Lab, mode: ProxyMode, views: Vec<NodeView>) -> impl Iterator<Item = PlannedStep> + '_ {
    views.into_iter().map(move |view| {
        let node = lab.node(view.node);
        let text = proxy::Rules::new(mode, view);
        PlannedStep { step: Step::Rules { netns: node.name.to_string(), proxy: mode, text }, at: node.at.clone() }
    })
}
