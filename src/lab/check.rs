//! What must hold between the items of a lab: reasonable numbers of them, and every name once.

use std::collections::BTreeMap;

use super::{
    balancer::BalancerDraft, externals::ExternalDraft, file::LabFile, model::Span, network::Network, pods::Pods,
    probes::service_name, said::Said, services::ServiceDraft,
};
use crate::diag::{Diagnostic, Problems};

/// The most of each kind that a lab may have: far more than one kernel carries, and few enough
/// that whatever a file says is read in no time.
const MOST: [(&str, usize); 6] = [
    ("nodes", MOST_NODES),
    ("[[pod]] tables", 20_000),
    ("services", MOST_SERVICES),
    ("clients", 250),
    ("external machines", 250),
    ("probes", 1_000),
];
pub(super) const MOST_NODES: usize = 1_000;
pub(super) const MOST_PODS: usize = 20_000;
pub(super) const MOST_SERVICES: usize = 20_000;
/// What messages call it.
const BALANCER: &str = "load balancer";
const MACHINE: &str = "external machine";

/// The numbers of things are reasonable; `None` if not, and then nothing else is worth checking.
pub(super) fn sizes(file: &LabFile, problems: &mut Problems) -> Option<()> {
    let before = problems.is_empty();
    let counts = [
        last(&file.node, |table| &table.at),
        last(&file.pod, |table| &table.at),
        last(&file.service, |table| &table.at),
        last(&file.client, |table| &table.at),
        last(&file.external, |table| &table.at),
        last(&file.probe, |table| &table.at),
    ];
    let mut fits = true;
    for ((what, most), (count, at)) in MOST.into_iter().zip(counts) {
        if count > most {
            let problem = Diagnostic::new(at, format!("the lab has {count} {what}, and {most} is the most"));
            problems.push(problem.hint("make it smaller, or make several labs of it"));
            fits = false;
        }
    }
    let mut pods = 0;
    for table in file.pod.list() {
        pods += table.replicas.get().map_or(1, |replicas| replicas.0);
        if pods > MOST_PODS {
            let at = table.replicas.span(&table.at);
            let problem = Diagnostic::new(at, format!("the lab has more than {MOST_PODS} pods"));
            problems.push(problem.hint("ask for fewer replicas"));
            return None;
        }
    }
    if file.pod.is_nothing() && file.service.is_nothing() && before {
        let problem = Diagnostic::new(file.at.clone(), "the lab has no pods");
        problems.push(problem.hint("add a `[[pod]]`, or begin with `netlab new minimal`"));
        return None;
    }
    fits.then_some(())
}

/// How many there are, and where the last one is.
fn last<T>(said: &Said<Vec<T>>, at: impl Fn(&T) -> &Span) -> (usize, Span) {
    let list = said.list();
    (list.len(), list.last().map_or(0..0, |table| at(table).clone()))
}

/// Every network namespace has a name of its own, and so has every Service of a namespace.
pub(super) fn names(
    network: &Network,
    pods: &Pods,
    services: &[ServiceDraft],
    balancer: Option<&BalancerDraft>,
    externals: &[ExternalDraft],
    problems: &mut Problems,
) {
    let mut owners: BTreeMap<String, (Span, &str)> = BTreeMap::new();
    let mut claim = |name: String, at: &Span, what: &'static str, problems: &mut Problems| {
        if matches!(name.as_str(), "host" | "localhost") {
            let article = if what == MACHINE { "an" } else { "a" };
            let problem = Diagnostic::new(at.clone(), format!("`{name}` cannot be the name of {article} {what}"));
            problems.push(problem.hint("netlab uses this name itself; choose another"));
            return;
        }
        match owners.get(&name) {
            None => _ = owners.insert(name, (at.clone(), what)),
            Some((first, other)) => {
                let message = format!("the name `{name}` is used twice");
                let problem = Diagnostic::new(at.clone(), message).label(format!("again for this {what}"));
                let problem = problem.also(first.clone(), format!("first used for this {other}"));
                problems.push(problem.hint(match what {
                    BALANCER => {
                        "give the load balancer another name: `[load_balancer]` with for example `name = \"lb-1\"`"
                    }
                    MACHINE => "nodes, pods, clients and external machines share one space of names; rename one",
                    _ => "nodes, pods and clients share one space of names; rename one",
                }));
            }
        }
    };
    for node in &network.nodes {
        node.name.iter().for_each(|name| claim(name.to_string(), &node.name_at, "node", problems));
    }
    for (nth, draft) in pods.drafts.iter().enumerate() {
        let at = &pods.templates[draft.template].name_at;
        pods.full_name(nth).into_iter().for_each(|name| claim(name, at, "pod", problems));
    }
    for client in &network.clients {
        client.name.iter().for_each(|name| claim(name.to_string(), &client.name_at, "client", problems));
    }
    if let Some((draft, name)) = balancer.and_then(|draft| Some((draft, draft.name.as_ref()?))) {
        claim(name.to_string(), &draft.name_at, BALANCER, problems);
    }
    for external in externals {
        external.name.iter().for_each(|name| claim(name.to_string(), &external.name_at, MACHINE, problems));
    }
    let mut seen: BTreeMap<String, Span> = BTreeMap::new();
    for draft in services {
        let Some(name) = service_name(draft) else { continue };
        match seen.get(&name) {
            None => _ = seen.insert(name, draft.name_at.clone()),
            Some(first) => {
                let message = format!("there are two services called `{name}`");
                let problem = Diagnostic::new(draft.name_at.clone(), message).also(first.clone(), "the first one");
                problems.push(problem.hint("rename one, or put it in another `namespace`"));
            }
        }
    }
}
