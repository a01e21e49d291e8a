//! Holds the kernel's state against the plan.
//!
//! Rules are compared as the tool prints them: what should be is loaded into an empty scratch
//! namespace and printed by the same tool, so that neither rounding nor spelling differs.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt, stream};

use super::{
    found::found,
    netns,
    process::{Entrance, Processes},
    rules,
    serve::{ServerState, Servers},
    view::{self, Given},
};
use crate::{
    error::Result,
    lab::model::{Lab, ProxyMode},
    plan::step::{Plan, Step},
    probe::{
        drift::{self, Drift, DriftKind},
        network::{self, Finding},
        ruleset,
    },
    proxy::sync,
};

/// So many namespaces at a time: a tool is a process.
const AT_ONCE: usize = 4;

/// Everything that differs, and what puts it right.
#[derive(Debug, Default)]
pub struct Inspection {
    /// Namespaces that are gone, with all that was in them.
    pub gone: Vec<Drift>,
    /// Links, addresses, routes, neighbours and settings.
    pub network: Vec<Finding>,
    /// The rules of each node.
    pub rules: Vec<NodeRules>,
    /// Files for the programs of places.
    pub files: Vec<(Drift, Given)>,
    /// Files of the cluster's DNS.
    pub names: Vec<Drift>,
    /// Servers that do not run.
    pub servers: Vec<Drift>,
    /// The load balancer, if it does not run, and the step that starts it.
    pub balancer: Option<(Drift, Step)>,
}

/// The rules of a node.
#[derive(Debug)]
pub struct NodeRules {
    /// Its namespace.
    pub netns: String,
    /// Who wrote them.
    pub proxy: ProxyMode,
    /// The length of the text that was loaded.
    pub loaded: usize,
    /// What differs.
    pub drifts: Vec<Drift>,
    /// The transaction that puts them right, if they are not.
    pub repair: Option<String>,
}

impl Inspection {
    /// What differs.
    pub fn drifts(&self) -> Vec<Drift> {
        let servers = self.servers.iter().chain(self.balancer.iter().map(|(drift, _)| drift)).chain(&self.gone);
        let network = self.network.iter().map(|finding| &finding.drift);
        let rules = self.rules.iter().flat_map(|node| &node.drifts);
        let files = self.files.iter().map(|(drift, _)| drift).chain(&self.names);
        servers.chain(network).chain(rules).chain(files).cloned().collect()
    }
}

/// Everything that differs.
///
/// # Errors
///
/// When the kernel's state cannot be read.
pub async fn drifts(lab: &Lab, plan: &Plan, processes: &Processes, servers: &Servers) -> Result<Vec<Drift>> {
    Ok(inspect(lab, plan, processes, servers).await?.drifts())
}

/// Everything that differs, and what puts it right.
///
/// # Errors
///
/// When the kernel's state cannot be read.
pub async fn inspect(lab: &Lab, plan: &Plan, processes: &Processes, servers: &Servers) -> Result<Inspection> {
    let mut inspection = all_but_rules(lab, plan, servers).await?;
    let is_there = |netns: &str| inspection.gone.iter().all(|drift| drift.netns != netns);
    let looking = plan.stages.iter().flat_map(|stage| &stage.steps).filter_map(|planned| match &planned.step {
        Step::Rules { netns, proxy, text } if is_there(netns) => Some(node_rules(netns, *proxy, text, processes)),
        _ => None,
    });
    let looking: Vec<_> = looking.collect();
    inspection.rules = stream::iter(looking).buffered(AT_ONCE).try_collect().await?;
    Ok(inspection)
}

/// The same, without the rules.
///
/// # Errors
///
/// When the kernel's state cannot be read.
pub async fn all_but_rules(lab: &Lab, plan: &Plan, servers: &Servers) -> Result<Inspection> {
    let mut by_netns: BTreeMap<&str, Vec<&Step>> = BTreeMap::new();
    let planned = || plan.stages.iter().flat_map(|stage| &stage.steps);
    // The load balancer follows the nodes' health, and may have done so.
    let spreads: Vec<Step> = planned().filter_map(|planned| at_present(&planned.step, servers)).collect();
    for step in &spreads {
        by_netns.entry(step.netns()).or_default().push(step);
    }
    for step in planned().filter(|planned| !matches!(planned.step, Step::Spread { .. })) {
        by_netns.entry(step.step.netns()).or_default().push(&step.step);
        if let Step::Cable { far, .. } = &step.step {
            by_netns.entry(&far.netns).or_default().push(&step.step);
        }
    }
    let mut inspection = Inspection {
        servers: dead_servers(lab, servers),
        balancer: dead_balancer(lab, plan, servers),
        files: files(lab),
        names: servers.names_on_disk(lab),
        ..Inspection::default()
    };
    by_netns.retain(|netns, _| {
        let there = netns::open(netns).is_ok();
        if !there {
            let text = format!("the network namespace {netns} has lost its name, and perhaps ended");
            inspection.gone.push(Drift::new(*netns, DriftKind::Namespace, text));
        }
        there
    });
    for (netns, steps) in &by_netns {
        // A cable to a namespace that is gone went with it.
        let leads_nowhere = |step: &Step| match step {
            Step::Cable { near, far, .. } => ![near, far].iter().all(|end| by_netns.contains_key(end.netns.as_str())),
            _ => false,
        };
        let steps: Vec<&Step> = steps.iter().copied().filter(|step| !leads_nowhere(step)).collect();
        inspection.network.extend(network::compare(netns, &steps, &found(netns, &steps).await?));
    }
    Ok(inspection)
}

async fn node_rules(netns: &str, proxy: ProxyMode, text: &str, processes: &Processes) -> Result<NodeRules> {
    let wanted = rules::printed(proxy, text, processes).await?;
    let found = rules::save_from(Entrance::to_netns(netns)?, proxy, text.len(), processes).await?;
    let mut drifts = ruleset::compare(netns, proxy, &wanted, &found);
    let repair = sync::repair(proxy, &found, &wanted);
    if repair.is_some() && drifts.iter().all(|drift| drift.foreign) {
        drifts.push(Drift::new(netns, DriftKind::Rule, "the rules are not quite those that netlab has loaded"));
    }
    Ok(NodeRules { netns: netns.to_owned(), proxy, loaded: text.len(), drifts, repair })
}

fn files(lab: &Lab) -> Vec<(Drift, Given)> {
    let differing = view::given(lab).into_iter().filter_map(|given| {
        let drift = drift::of_file(&given.netns, &given.over, &given.text, &given.found()?)?;
        Some((drift, given))
    });
    differing.collect()
}

fn dead_servers(lab: &Lab, servers: &Servers) -> Vec<Drift> {
    let states = servers.states().into_iter();
    let down = states.filter(|(_, state)| state.is_down());
    let drift = |((name, container), state): ((String, String), ServerState)| {
        let pod = lab.pods.iter().find(|pod| pod.full_name() == name);
        // What is on its way out shall not run.
        if pod.is_some_and(|pod| pod.terminating) {
            return None;
        }
        let text = match pod.is_some_and(|pod| pod.serves_dns()) {
            true => format!("the DNS server of {name} {state}"),
            false => format!("the server of the container {container} of {name} {state}"),
        };
        let netns = lab.find(&name).map_or_else(|| name.clone(), |place| lab.netns(place));
        Some(Drift::new(netns, DriftKind::Server, text))
    };
    down.filter_map(drift).collect()
}

fn dead_balancer(lab: &Lab, plan: &Plan, servers: &Servers) -> Option<(Drift, Step)> {
    let (balancer, state) = lab.load_balancer.as_ref().zip(servers.balancer())?;
    let ServerState::Ended { how } = state else { return None };
    let mut steps = plan.stages.iter().flat_map(|stage| &stage.steps).map(|planned| &planned.step);
    let step = steps.find(|step| matches!(step, Step::ServeBalancer { .. }))?.clone();
    Some((Drift::new(balancer.name.to_string(), DriftKind::Server, format!("haproxy {how}")), step))
}

/// A route of the load balancer as it should be by now.
fn at_present(step: &Step, servers: &Servers) -> Option<Step> {
    let Step::Spread { link, to, gateways } = step else { return None };
    let gateways = servers.spreads().of(*to).unwrap_or_else(|| gateways.clone());
    Some(Step::Spread { link: link.clone(), to: *to, gateways })
}
