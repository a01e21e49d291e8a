//! `[[probe]]` → probes with every name replaced by an address.

use std::{collections::BTreeMap, net::Ipv4Addr};

use super::{
    address::first,
    balancer::BalancerDraft,
    file::{ExpectTable, LabFile, ProbeTable},
    model::{ClientId, NodeId, Place, PodId, UserExpect, UserProbe},
    name::Name,
    network::Network,
    pods::{Pods, full_name},
    said::{At, Said},
    services::ServiceDraft,
    value::invalid,
};
use crate::diag::{Diagnostic, Problems, quoted};

/// Who is called what.
struct Directory<'l> {
    places: BTreeMap<String, (Place, Option<Ipv4Addr>)>,
    /// `Some(None)` for a headless Service.
    services: BTreeMap<String, Option<Option<Ipv4Addr>>>,
    /// The names of `[[pod]]` tables with replicas, with their pods.
    groups: BTreeMap<String, std::ops::Range<usize>>,
    domain: &'l str,
    /// Whether an unknown name is one that is really not there.
    complete: bool,
}

/// Reads the probes from the file; `None` if anything of them was refused.
pub(super) fn probes(
    file: &LabFile,
    network: &Network,
    (pods, services, balancer): (&Pods, &[ServiceDraft], Option<&BalancerDraft>),
    problems: &mut Problems,
) -> Option<Vec<UserProbe>> {
    let tables = file.probe.maybe_list()?.unwrap_or_default();
    if tables.is_empty() {
        return Some(Vec::new());
    }
    let mut directory = Directory::of(network, pods, services);
    if let Some((draft, name)) = balancer.and_then(|draft| Some((draft, draft.name.as_ref()?))) {
        // Whoever has the name already keeps it; that it is used twice is said elsewhere.
        directory.places.entry(name.to_string()).or_insert((Place::LoadBalancer, draft.ip));
    }
    let probes: Vec<Option<UserProbe>> = tables.iter().map(|table| probe(table, &directory, pods, problems)).collect();
    probes.into_iter().collect()
}

fn probe(table: &ProbeTable, directory: &Directory<'_>, pods: &Pods, problems: &mut Problems) -> Option<UserProbe> {
    let from = table.from.at().and_then(|said| directory.place(said, problems));
    let url = table.url.at().and_then(|said| url(said, directory, problems));
    let expect = expect(&table.expect, directory, pods, problems);
    let name = match table.name.at() {
        Some(said) if said.value.trim().is_empty() || said.value.chars().any(char::is_control) => {
            let why = "must not be empty, and must not hold control characters";
            problems.push(invalid("name", quoted(&said.value), said.at.clone(), why).hint("write one line of text"));
            None
        }
        Some(said) => Some(said.value.clone()),
        None if table.name.is_nonsense() => None,
        None => table.from.get().zip(table.url.get()).map(|(from, url)| format!("{from} asks {url}")),
    };
    Some(UserProbe {
        name: name?,
        from: from?,
        url: url?,
        written: table.url.get()?.clone(),
        expect: expect?,
        at: table.at.clone(),
    })
}

fn expect(
    said: &Said<ExpectTable>,
    directory: &Directory<'_>,
    pods: &Pods,
    problems: &mut Problems,
) -> Option<UserExpect> {
    let table = match said {
        Said::Nothing => return Some(UserExpect::default()),
        Said::Nonsense => return None,
        Said::Value(said) => &said.value,
    };
    if let Some(failure) = table.failure.at() {
        let answers = [
            ("status", table.status.at().map(|said| &said.at)),
            ("backends", table.backends.at().map(|said| &said.at)),
            ("body_contains", table.body_contains.at().map(|said| &said.at)),
        ];
        for (key, at) in answers {
            let Some(at) = at else { continue };
            let problem = Diagnostic::new(at.clone(), format!("a connection that fails has no `{key}`"));
            problems.push(problem.also(failure.at.clone(), "the failure").hint("leave one of the two out"));
        }
    }
    let says_nothing = table.status.is_nothing()
        && table.backends.is_nothing()
        && table.body_contains.is_nothing()
        && table.failure.is_nothing();
    if says_nothing {
        let problem = Diagnostic::new(table.at.clone(), "this expectation says nothing");
        problems.push(problem.hint("add a key such as `status = 200`, or leave `expect` out for any answer"));
    }
    let mut backends = Some(Vec::new());
    for said in table.backends.maybe_list()?.unwrap_or_default() {
        match (directory.pods(said, pods, problems), &mut backends) {
            (Some(found), Some(backends)) => backends.extend(found),
            _ => backends = None,
        }
    }
    Some(UserExpect {
        status: table.status.maybe()?.map(|status| status.0),
        backends: backends?,
        body_contains: table.body_contains.maybe()?,
        failure: table.failure.maybe()?,
    })
}

/// The URL with the name in it replaced by an address, and with its port.
fn url(said: &At<String>, directory: &Directory<'_>, problems: &mut Problems) -> Option<String> {
    let refuse =
        |why: &str, hint: &str| invalid("url", quoted(&said.value), said.at.clone(), why).hint(hint.to_owned());
    let example = "write http://WHERE:PORT/PATH, for example \"http://node1:30080/\"";
    let Some((scheme, rest)) = said.value.split_once("://") else {
        problems.push(refuse("must be a URL", example));
        return None;
    };
    if scheme != "http" {
        problems.push(refuse("must begin with http://, the only protocol that probes speak", example));
        return None;
    }
    // What is legal in a URL, less what curl would expand: braces and brackets.
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"-._~:/?!$&'()*+,;=%@".contains(&b);
    if !rest.bytes().all(legal) {
        problems.push(refuse(
            "holds a character that must be percent-encoded in a URL",
            "encode it, for example a space as %20",
        ));
        return None;
    }
    let split = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(split);
    let (host, port) = authority.split_once(':').unwrap_or((authority, "80"));
    let Some(port) = port.parse::<u16>().ok().filter(|number| *number > 0 && number.to_string() == port) else {
        problems.push(refuse("must have a port between 1 and 65535", example));
        return None;
    };
    if host.is_empty() || host.contains('@') {
        problems.push(refuse("must name where to connect to", example));
        return None;
    }
    let address = directory.address(host, said, problems)?;
    let slash = if path.starts_with('/') { "" } else { "/" };
    Some(format!("http://{address}:{port}{slash}{path}"))
}

impl<'l> Directory<'l> {
    fn of(network: &'l Network, pods: &Pods, services: &[ServiceDraft]) -> Self {
        let mut complete = network.names_known;
        let mut places = BTreeMap::new();
        places.insert("host".to_owned(), (Place::Host, network.node_subnet.map(first)));
        for (nth, client) in network.clients.iter().enumerate() {
            if let Some(name) = &client.name {
                places.insert(name.to_string(), (Place::Client(ClientId(nth)), client.ip.map(|ip| ip.addr())));
            }
        }
        for (nth, draft) in pods.drafts.iter().enumerate() {
            match (pods.full_name(nth), draft.node) {
                (Some(name), Some(node)) => {
                    let host_network = pods.templates[draft.template].host_network;
                    let place = if host_network { Place::Node(NodeId(node)) } else { Place::Pod(PodId(nth)) };
                    places.insert(name, (place, draft.ip));
                }
                _ => complete = false,
            }
        }
        for (nth, node) in network.nodes.iter().enumerate() {
            if let Some(name) = &node.name {
                places.insert(name.to_string(), (Place::Node(NodeId(nth)), node.ip));
            }
        }
        let mut groups = BTreeMap::new();
        for template in &pods.templates {
            if let (Some(name), Some(namespace)) = (&template.name, &template.namespace) {
                full_name(name, namespace).into_iter().for_each(|name| _ = groups.insert(name, template.pods.clone()));
            }
        }
        let named = |draft: &ServiceDraft| Some((service_name(draft)?, draft.cluster_ip));
        complete &= services.iter().all(|draft| named(draft).is_some());
        Directory {
            places,
            services: services.iter().filter_map(named).collect(),
            groups,
            domain: network.domain.as_ref().map_or("cluster.local", AsRef::as_ref),
            complete,
        }
    }

    fn place(&self, said: &At<String>, problems: &mut Problems) -> Option<Place> {
        let found = self.places.get(&said.value).map(|(place, _)| *place);
        if found.is_none() && self.complete {
            let message = format!("there is no node, pod or client {}", quoted(&said.value));
            let problem = Diagnostic::new(said.at.clone(), message);
            problems.push_nearest(problem, &said.value, self.places.keys().map(String::as_str), || {
                Some(
                    "a probe comes from `host`, a node, a pod (POD.NAMESPACE outside `default`) or a client".to_owned(),
                )
            });
        }
        found
    }

    /// The pods of a name: one, or all replicas of a `[[pod]]`.
    fn pods(&self, said: &At<String>, pods: &Pods, problems: &mut Problems) -> Option<Vec<PodId>> {
        if let Some((Place::Pod(pod), _)) = self.places.get(&said.value) {
            return Some(vec![*pod]);
        }
        if let Some(group) = self.groups.get(&said.value) {
            return Some(group.clone().map(PodId).collect());
        }
        if let Some(pod) = (0..pods.drafts.len()).find(|pod| pods.full_name(*pod).as_ref() == Some(&said.value)) {
            return Some(vec![PodId(pod)]);
        }
        if self.complete {
            let problem = Diagnostic::new(said.at.clone(), format!("there is no pod {}", quoted(&said.value)));
            let names = self.places.iter().filter(|(_, (place, _))| matches!(place, Place::Pod(_)));
            let names = names.map(|(name, _)| name.as_str()).chain(self.groups.keys().map(String::as_str));
            problems.push_nearest(problem, &said.value, names, || {
                Some("backends are names of pods (POD.NAMESPACE outside `default`)".to_owned())
            });
        }
        None
    }

    /// The address behind the host of a URL.
    fn address(&self, host: &str, said: &At<String>, problems: &mut Problems) -> Option<Ipv4Addr> {
        if let Ok(address) = host.parse() {
            return Some(address);
        }
        if host == "localhost" {
            return Some(Ipv4Addr::LOCALHOST);
        }
        let place = self.places.get(host);
        let service = self.services.get(&self.short(host));
        match (place, service) {
            (Some(_), Some(_)) if self.short(host) == host => {
                let message = format!("`{host}` is the name of a service and of a pod, node or client");
                let hint = format!("write `{}` for the service, or the other's address", self.long(host));
                problems.push(Diagnostic::new(said.at.clone(), message).hint(hint));
                None
            }
            (_, Some(Some(None))) => {
                let problem = Diagnostic::new(said.at.clone(), format!("the headless service `{host}` has no address"));
                problems.push(problem.hint("ask one of its pods"));
                None
            }
            (_, Some(Some(address))) => *address,
            (Some((_, address)), _) => *address,
            (None, Some(None)) => None,
            (None, None) => {
                if self.complete {
                    let message = format!("there is no node, pod, service or client {}", quoted(host));
                    let problem = Diagnostic::new(said.at.clone(), message);
                    let names = self.places.keys().chain(self.services.keys()).map(String::as_str);
                    problems.push_nearest(problem, host, names, || {
                        Some("a URL has an address or one of these names; names of the internet need DNS".to_owned())
                    });
                }
                None
            }
        }
    }

    /// A Service's DNS name as its short name: `web.default.svc.cluster.local` → `web`.
    fn short(&self, host: &str) -> String {
        let name = host.strip_suffix(self.domain).and_then(|name| name.strip_suffix('.')).unwrap_or(host);
        let name = name.strip_suffix(".svc").unwrap_or(name);
        name.strip_suffix(".default").unwrap_or(name).to_owned()
    }

    fn long(&self, host: &str) -> String {
        if host.contains('.') { format!("{host}.svc") } else { format!("{host}.default.svc") }
    }
}

/// `NAME`, or `NAME.NAMESPACE` outside the namespace `default`.
pub(super) fn service_name(draft: &ServiceDraft) -> Option<String> {
    let namespace: &Name = draft.namespace.as_ref()?;
    full_name(draft.name.as_ref()?, namespace)
}
