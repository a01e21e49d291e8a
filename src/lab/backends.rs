//! Who is behind a Service: the pods that its selector selects, or endpoints given by hand.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use super::{
    address::{ip, special},
    file::{EndpointTable, LabFile, ServicePortTable, ServiceTable},
    model::{Labels, ManualEndpoint, NodeId, Protocol, Span, TargetPort},
    name::Name,
    network::Network,
    pods::{Pods, Template, find_node},
    said::{At, Said},
    services::ServiceDraft,
    value::{invalid, listed},
};
use crate::diag::{Diagnostic, Problems};

/// Checks who is behind a Service, and returns the endpoints given by hand.
pub(super) fn backends(
    table: &ServiceTable,
    namespace: Option<&Name>,
    index: &Index<'_>,
    network: &Network,
    problems: &mut Problems,
) -> Option<Vec<ManualEndpoint>> {
    let selects = table.selector.get().is_some_and(|selector| !selector.is_empty());
    if let (true, Some(said)) = (selects, table.endpoints.at()) {
        let problem = Diagnostic::new(said.at.clone(), "a service with a selector finds its endpoints itself");
        let problem = problem.also(table.selector.span(&table.at), "the selector");
        problems.push(problem.hint("leave `endpoints` or `selector` out"));
        return None;
    }
    if selects {
        if let (Some(selector), Some(namespace)) = (table.selector.at(), namespace) {
            index.check(selector, namespace, table.ports.list(), problems);
        }
        return Some(Vec::new());
    }
    if !table.selector.is_nonsense() && table.endpoints.is_nothing() {
        let problem = Diagnostic::new(table.selector.span(&table.at), "nothing is behind this service")
            .label("it has no `selector` and no `endpoints`");
        let hint = match index.some_labels(namespace) {
            Some(labels) => format!("add `selector = {labels}`, or `endpoints = []` if nothing is meant"),
            None => "add a `selector`, or `endpoints = []` if nothing is meant".to_owned(),
        };
        problems.push(problem.hint(hint));
        return None;
    }
    for port in table.ports.list() {
        if let Some(said) = port.target_port.at().filter(|said| matches!(said.value, TargetPort::Name(_))) {
            let problem = Diagnostic::new(said.at.clone(), "endpoints given by hand have no named ports");
            problems.push(problem.hint("give `target_port` as a number"));
        }
    }
    let endpoints: Vec<Option<ManualEndpoint>> = table
        .endpoints
        .maybe_list()?
        .unwrap_or_default()
        .iter()
        .map(|endpoint| manual(endpoint, index, network, problems))
        .collect();
    endpoints.into_iter().collect()
}

fn manual(
    table: &EndpointTable,
    index: &Index<'_>,
    network: &Network,
    problems: &mut Problems,
) -> Option<ManualEndpoint> {
    let node = match &table.node {
        Said::Nothing => None,
        Said::Nonsense => return None,
        Said::Value(said) => Some(NodeId(find_node(said, &index.nodes, network, problems)?)),
    };
    Some(ManualEndpoint { ip: ip(*table.ip.get()?), node, at: table.at.clone() })
}

/// Endpoints are ordinary machines: no special addresses, no Service's address, none twice.
pub(super) fn check_endpoints(
    tables: &[ServiceTable],
    drafts: &[ServiceDraft],
    network: &Network,
    problems: &mut Problems,
) {
    let services: BTreeMap<Ipv4Addr, &ServiceDraft> =
        drafts.iter().filter_map(|draft| Some((draft.cluster_ip??, draft))).collect();
    for table in tables {
        let mut seen: BTreeMap<Ipv4Addr, Span> = BTreeMap::new();
        for said in table.endpoints.list().iter().filter_map(|endpoint| endpoint.ip.at()) {
            let address = said.value;
            let service = services.get(&address).and_then(|draft| draft.name.as_ref());
            let why = match (special(address), service) {
                (Some(why), _) => why.to_owned(),
                (None, Some(service)) => format!("is the ClusterIP of the service `{service}`"),
                (None, None) if network.service_cidr.is_some_and(|range| range.contains(&address)) => {
                    "is in the range of the ClusterIPs".to_owned()
                }
                (None, None) => match seen.get(&address) {
                    Some(first) => {
                        let message = format!("the endpoint {address} is given twice");
                        let problem = Diagnostic::new(said.at.clone(), message).also(first.clone(), "first given here");
                        problems.push(problem.hint("leave one of them out"));
                        continue;
                    }
                    None => {
                        seen.insert(address, said.at.clone());
                        continue;
                    }
                },
            };
            let hint = "give the address of a pod, a node or a machine outside";
            problems.push(invalid("ip", address, said.at.clone(), why).hint(hint));
        }
    }
}

/// The pods by their labels.
pub(super) struct Index<'p> {
    pods: &'p Pods,
    nodes: BTreeMap<&'p str, usize>,
    /// Namespace, key and value → templates, in file order.
    by_label: BTreeMap<(&'p str, &'p str, &'p str), Vec<usize>>,
    /// Some pod's labels or namespace were refused: nothing can be said about what selects nothing.
    blurred: bool,
}

impl<'p> Index<'p> {
    /// Indexes the pods.
    pub(super) fn of(file: &LabFile, pods: &'p Pods, network: &'p Network) -> Self {
        let mut by_label: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        let mut blurred = file.pod.is_nonsense();
        for (nth, template) in pods.templates.iter().enumerate() {
            let (Some(namespace), Some(labels)) = (&template.namespace, &template.labels) else {
                blurred = true;
                continue;
            };
            for (key, value) in labels {
                by_label.entry((namespace.as_str(), key.as_str(), value.as_str())).or_default().push(nth);
            }
        }
        let nodes = network.nodes.iter().enumerate().rev();
        let nodes = nodes.filter_map(|(nth, node)| Some((node.name.as_ref()?.as_str(), nth))).collect();
        Index { pods, nodes, by_label, blurred }
    }

    /// The templates that a selector matches.
    fn select<'i>(&'i self, selector: &'i Labels, namespace: &'i Name) -> impl Iterator<Item = &'p Template> + 'i {
        let lists =
            selector.iter().map(|(key, value)| self.by_label.get(&(namespace.as_str(), key.as_str(), value.as_str())));
        // The rarest label first: everything else is a filter on its few pods.
        let shortest = lists.min_by_key(|list| list.map_or(0, Vec::len)).flatten();
        shortest.into_iter().flatten().map(|nth| &self.pods.templates[*nth]).filter(|template| {
            let labels = template.labels.as_ref();
            labels.is_some_and(|labels| selector.iter().all(|(key, value)| labels.get(key) == Some(value)))
        })
    }

    /// A selector selects something, and that has the named ports.
    fn check(&self, selector: &At<Labels>, namespace: &Name, ports: &[ServicePortTable], problems: &mut Problems) {
        if self.blurred {
            return;
        }
        if self.select(&selector.value, namespace).next().is_none() {
            problems.push(self.nothing(selector, namespace));
            return;
        }
        for port in ports {
            self.check_named(port, &selector.value, namespace, problems);
        }
    }

    /// A named target port is one that some selected pod has.
    fn check_named(&self, port: &ServicePortTable, selector: &Labels, namespace: &Name, problems: &mut Problems) {
        let (Some(At { value: TargetPort::Name(name), at }), Some(protocol)) =
            (port.target_port.at(), port.protocol.or(Protocol::Tcp))
        else {
            return;
        };
        let mut others: BTreeSet<&str> = BTreeSet::new();
        let mut other_protocol = None;
        for template in self.select(selector, namespace) {
            let Some(containers) = &template.containers else { return };
            for port in containers.iter().flat_map(|container| &container.ports) {
                match &port.name {
                    Some(other) if other == name && port.protocol == protocol => return,
                    Some(other) if other == name => other_protocol = Some(port.protocol),
                    Some(other) if port.protocol == protocol => _ = others.insert(other.as_str()),
                    _ => {}
                }
            }
        }
        let message = format!("no selected pod has a {protocol} port called `{name}`");
        let problem = Diagnostic::new(at.clone(), message);
        if let Some(other) = other_protocol {
            problems.push(problem.hint(format!("`{name}` is a {other} port; set `protocol = \"{other}\"`")));
            return;
        }
        problems.push_nearest(problem, name.as_str(), others.iter().copied(), || {
            let words: Vec<&str> = others.iter().copied().collect();
            Some(match words.as_slice() {
                [] => "give a container port of the pods this `name`, or write the port's number".to_owned(),
                words => format!("they have {}", listed(words).replace(" or ", " and ")),
            })
        });
    }

    /// The problem that a selector selects nothing.
    fn nothing(&self, selector: &At<Labels>, namespace: &Name) -> Diagnostic {
        let message = format!("this selector matches no pod in the namespace `{namespace}`");
        let problem = Diagnostic::new(selector.at.clone(), message);
        let mut elsewhere = self.pods.templates.iter().filter(|template| {
            let labels = template.labels.as_ref();
            labels.is_some_and(|labels| selector.value.iter().all(|(key, value)| labels.get(key) == Some(value)))
        });
        if let Some(template) = elsewhere.next() {
            let problem = problem.also(template.at.clone(), "this pod would match, but is in another namespace");
            return problem.hint("a service selects pods of its own namespace; set `namespace`");
        }
        match self.some_labels(Some(namespace)) {
            Some(labels) => problem.hint(format!("there are pods with `labels = {labels}`")),
            None => problem.hint("give pods these `labels`"),
        }
    }

    /// The labels of the first pod of a namespace that has some, as TOML.
    fn some_labels(&self, namespace: Option<&Name>) -> Option<String> {
        let of_namespace = self.pods.templates.iter().filter(|template| template.namespace.as_ref() == namespace);
        let labels = of_namespace.filter_map(|template| template.labels.as_ref()).find(|labels| !labels.is_empty())?;
        let key = |key: &str| {
            let bare = key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
            if bare { key.to_owned() } else { format!("\"{key}\"") }
        };
        let pairs: Vec<String> =
            labels.iter().take(3).map(|(word, value)| format!("{} = \"{value}\"", key(word.as_str()))).collect();
        Some(format!("{{ {} }}", pairs.join(", ")))
    }
}
