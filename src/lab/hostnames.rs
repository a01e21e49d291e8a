//! `hostname` and `subdomain` of pods: names below a headless Service, so there must be one.

use super::{
    address::ClusterIp,
    file::{LabFile, PodTable, ServiceTable},
    model::Labels,
    name::Name,
    pods::{Pods, Template},
    said::At,
};
use crate::diag::{Diagnostic, Problems};

/// A pod's subdomain is a headless Service that selects it, and its hostname is its own.
pub(super) fn check_hostnames(file: &LabFile, pods: &Pods, problems: &mut Problems) {
    for (table, template) in file.pod.list().iter().zip(&pods.templates) {
        if let (Some(said), true, true) = (table.hostname.at(), template.host_network, table.subdomain.is_nothing()) {
            let problem = Diagnostic::new(said.at.clone(), "a pod on the host network has its node's hostname");
            problems.push(problem.hint("leave `hostname` out, or add the `subdomain` below which it is to be a name"));
        }
        if let (Some(said), Some(namespace)) = (table.subdomain.at(), &template.namespace) {
            check_subdomain(file, (table, template), said, namespace, problems);
        }
    }
}

fn check_subdomain(
    file: &LabFile,
    (table, template): (&PodTable, &Template),
    said: &At<Name>,
    namespace: &Name,
    problems: &mut Problems,
) {
    let services = file.service.list();
    let complete = !file.service.is_nonsense()
        && services.iter().all(|service| service.name.get().is_some() && !service.namespace.is_nonsense());
    let neighbours = || {
        services.iter().filter(|service| service.namespace.get().map_or("default", Name::as_str) == namespace.as_str())
    };
    let name = said.value.as_str();
    let Some(service) = neighbours().find(|service| service.name.get().is_some_and(|it| it.as_str() == name)) else {
        if complete {
            let message = format!("there is no service `{name}` in the namespace `{namespace}`");
            let headless = neighbours().filter(|service| is_headless(service)).filter_map(|it| it.name.get());
            problems.push_nearest(Diagnostic::new(said.at.clone(), message), name, headless.map(AsRef::as_ref), || {
                Some(format!("add a `[[service]]` with `name = \"{name}\"` and `cluster_ip = \"None\"`"))
            });
        }
        return;
    };
    let name_at = service.name.span(&service.at);
    if !is_headless(service) {
        if service.cluster_ip.is_nonsense() {
            return;
        }
        let problem = Diagnostic::new(said.at.clone(), format!("the service `{name}` is not headless"));
        let problem = problem.also(name_at, "the service").hint("give it `cluster_ip = \"None\"`");
        problems.push(problem);
        return;
    }
    let (Some(labels), Some(selector)) = (&template.labels, service.selector.or(Labels::new())) else { return };
    let selected = !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value));
    if !selected {
        let message = format!("the service `{name}` does not select this pod, so the pod has no name below it");
        let problem = Diagnostic::new(said.at.clone(), message);
        let problem = problem.also(service.selector.span(&name_at), "what it selects");
        let hint = "give the pod the labels that the service selects, or leave `subdomain` out";
        problems.push(problem.also(table.labels.span(&table.name.span(&table.at)), "the pod").hint(hint));
    }
}

fn is_headless(service: &ServiceTable) -> bool {
    matches!(service.cluster_ip.get(), Some(ClusterIp::Headless))
}
