//! Who is called what, for probes: places, Services, groups of pods.

use std::{collections::BTreeMap, net::IpAddr, ops::Range};

use super::{super::address::first, Things, selector::Selector};
use crate::{
    diag::{Diagnostic, Problems, quoted},
    lab::{
        model::{ClientId, ExternalId, Host, NodeId, Place, PodId, Span},
        name::{Domain, Name},
        pods::{Pods, full_name},
        said::At,
        services::ServiceDraft,
        value::invalid,
    },
};

/// Who is called what.
pub(super) struct Directory<'l> {
    places: BTreeMap<String, Known>,
    /// `Some(None)` for a Service without an address.
    services: BTreeMap<String, Option<Option<IpAddr>>>,
    /// The names of `[[pod]]` tables with replicas, with their pods.
    groups: BTreeMap<String, Range<usize>>,
    pods: &'l Pods,
    domain: &'l str,
    /// Some name server knows names.
    resolves: bool,
    /// Whether an unknown name is one that is really not there.
    complete: bool,
}

/// A place by its name.
#[derive(Debug, Clone, Copy)]
struct Known {
    place: Place,
    ip: Option<IpAddr>,
    /// The pod, if it is one.
    pod: Option<PodId>,
}

/// Somebody who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asker {
    pub(super) name: String,
    pub(super) place: Place,
    /// The pod on the host network that it is.
    pub(super) as_pod: Option<PodId>,
}

const NO_DNS: &str = "this lab has no DNS: take `engine = \"none\"` out of `[dns]`, or write an address";

/// The words that stand for all of a kind.
const KINDS: [&str; 3] = ["pods", "nodes", "clients"];
const ASKERS: &str = "a probe comes from `host`, a node, a pod (POD.NAMESPACE outside `default`), a client, the load \
                      balancer or an external machine; or from \"pods\", \"pods app=web\", \"nodes\" or \"clients\"";

impl<'l> Directory<'l> {
    pub(super) fn of(things: &Things<'l>) -> Self {
        let Things { network, pods, services, balancer, externals, dns } = *things;
        let mut complete = network.names_known;
        let mut places = BTreeMap::new();
        let known = |place, ip: Option<IpAddr>| Known { place, ip, pod: None };
        places.insert("host".to_owned(), known(Place::Host, network.node_subnet.map(|subnet| first(subnet).into())));
        for (nth, client) in network.clients.iter().enumerate() {
            if let Some(name) = &client.name {
                let ip = client.ip.map(|ip| ip.addr().into());
                places.insert(name.to_string(), known(Place::Client(ClientId(nth)), ip));
            }
        }
        for (nth, draft) in pods.drafts.iter().enumerate() {
            match (pods.full_name(nth), draft.node) {
                (Some(name), Some(node)) => {
                    let host_network = pods.templates[draft.template].host_network;
                    let place = if host_network { Place::Node(NodeId(node)) } else { Place::Pod(PodId(nth)) };
                    let pod = Some(PodId(nth));
                    places.insert(name, Known { place, ip: draft.ip.map(Into::into), pod });
                }
                _ => complete = false,
            }
        }
        for (nth, node) in network.nodes.iter().enumerate() {
            if let Some(name) = &node.name {
                places.insert(name.to_string(), known(Place::Node(NodeId(nth)), node.ip.map(Into::into)));
            }
        }
        // Whoever has a name already keeps it; that it is used twice is said elsewhere.
        if let Some((draft, name)) = balancer.and_then(|draft| Some((draft, draft.name.as_ref()?))) {
            places.entry(name.to_string()).or_insert(known(Place::LoadBalancer, draft.ip.map(Into::into)));
        }
        for (nth, draft) in externals.iter().enumerate() {
            match &draft.name {
                Some(name) => {
                    let external = known(Place::External(ExternalId(nth)), draft.ip());
                    places.entry(name.to_string()).or_insert(external);
                }
                None => complete = false,
            }
        }
        let mut groups = BTreeMap::new();
        for template in &pods.templates {
            if let (Some(name), Some(namespace)) = (&template.name, &template.namespace) {
                full_name(name, namespace).into_iter().for_each(|name| _ = groups.insert(name, template.pods.clone()));
            }
        }
        let named = |draft: &ServiceDraft| Some((service_name(draft)?, draft.cluster_ip.map(|ip| ip.map(Into::into))));
        complete &= services.iter().all(|draft| named(draft).is_some());
        let mut services: BTreeMap<String, Option<Option<IpAddr>>> = services.iter().filter_map(named).collect();
        if let Some(ip) = dns {
            services.entry(super::super::dns::FULL_NAME.to_owned()).or_insert(Some(Some(ip)));
        }
        Directory {
            places,
            services,
            groups,
            pods,
            domain: network.domain.as_ref().map_or("cluster.local", AsRef::as_ref),
            resolves: dns.is_some() || !externals.is_empty(),
            complete,
        }
    }

    /// Everybody that an element of `from` stands for, with whether it stands for several by its kind.
    pub(super) fn askers(&self, said: &At<String>, problems: &mut Problems) -> Option<(Vec<Asker>, bool)> {
        if let Some(known) = self.places.get(&said.value) {
            return Some((vec![asker(&said.value, known)], false));
        }
        let (kind, selector) = match said.value.split_once(char::is_whitespace) {
            Some((kind, selector)) => (kind, Some(selector.trim())),
            None => (said.value.as_str(), None),
        };
        let all = |wanted: &dyn Fn(&Known) -> bool| {
            let found = self.places.iter().filter(|(_, known)| wanted(known));
            let mut askers: Vec<Asker> = found.map(|(name, known)| asker(name, known)).collect();
            // In the order of the file, as everything else.
            askers.sort_by_key(|asker| (asker.as_pod.or(pod_of(asker.place)), asker.place));
            askers
        };
        let found = match (kind, selector) {
            ("pods", Some(selector)) => {
                let pods = self.selected(selector, said, problems)?;
                all(&|known| known.pod.is_some_and(|pod| pods.contains(&pod)))
            }
            ("pods", None) => all(&|known| known.pod.is_some()),
            ("nodes", None) => all(&|known| matches!(known.place, Place::Node(_)) && known.pod.is_none()),
            ("clients", None) => all(&|known| matches!(known.place, Place::Client(_))),
            ("nodes" | "clients", Some(_)) => {
                let problem = invalid("from", quoted(&said.value), said.at.clone(), "only pods have labels");
                problems.push(problem.hint(format!("write \"{kind}\" for all of them, or name them in a list")));
                return None;
            }
            _ => {
                if let Some(group) = self.groups.get(&said.value) {
                    let group = group.clone();
                    let found = all(&|known| known.pod.is_some_and(|pod| group.contains(&pod.0)));
                    return self.some(found, said, problems).map(|found| (found, true));
                }
                self.nobody(said, problems);
                return None;
            }
        };
        self.some(found, said, problems).map(|found| (found, true))
    }

    fn some(&self, found: Vec<Asker>, said: &At<String>, problems: &mut Problems) -> Option<Vec<Asker>> {
        if found.is_empty() {
            self.selects_nothing(said, problems);
        }
        (!found.is_empty()).then_some(found)
    }

    fn nobody(&self, said: &At<String>, problems: &mut Problems) {
        if !self.complete {
            return;
        }
        let text = &said.value;
        if text.contains(['=', '!', '(']) {
            let problem = invalid("from", quoted(text), said.at.clone(), "a selector says first what it selects");
            problems.push(problem.hint(format!("did you mean `pods {text}`?")));
            return;
        }
        let message = format!("there is no node, pod, client or external machine {}", quoted(text));
        let problem = Diagnostic::new(said.at.clone(), message);
        let names = self.groups.keys().chain(self.places.keys()).map(String::as_str).chain(KINDS);
        problems.push_nearest(problem, text, names, || Some(ASKERS.to_owned()));
    }

    fn selects_nothing(&self, said: &At<String>, problems: &mut Problems) {
        if self.complete {
            let message = format!("{} selects nothing", quoted(&said.value));
            let problem = Diagnostic::new(said.at.clone(), message);
            let labels = self.pods.templates.iter().filter_map(|template| template.labels.as_ref()?.iter().next());
            let example = labels.map(|(key, value)| format!("there are pods with `{key}={value}`")).next();
            problems.push(problem.hint(match (said.value.as_str(), example) {
                ("nodes" | "clients", _) => "this lab has none of them".to_owned(),
                ("pods", _) => "add a `[[pod]]`".to_owned(),
                (text, Some(example)) if text.starts_with("pods ") => example,
                (text, None) if text.starts_with("pods ") => "no pod of this lab has `labels`".to_owned(),
                (..) => "its `replicas` are 0".to_owned(),
            }));
        }
    }

    /// The pods of the file that a selector matches.
    fn selected(&self, selector: &str, said: &At<String>, problems: &mut Problems) -> Option<Vec<PodId>> {
        let parsed = Selector::parse(selector).map_err(|why| {
            let problem = invalid("selector", quoted(selector), said.at.clone(), why);
            problems.push(problem.hint("for example \"pods app=web,tier!=back\" or \"pods app in (web, api)\""));
        });
        let parsed = parsed.ok()?;
        let matches = |pod: &usize| {
            let template = &self.pods.templates[self.pods.drafts[*pod].template];
            template.labels.as_ref().is_some_and(|labels| parsed.matches(labels))
        };
        Some((0..self.pods.drafts.len()).filter(matches).map(PodId).collect())
    }

    /// The pods of a name or selector: one, all replicas of a `[[pod]]`, or whom it matches.
    pub(super) fn pods(&self, said: &At<String>, problems: &mut Problems) -> Option<Vec<PodId>> {
        if let Some(Known { pod: Some(pod), .. }) = self.places.get(&said.value) {
            return Some(vec![*pod]);
        }
        if let Some(group) = self.groups.get(&said.value) {
            return Some(group.clone().map(PodId).collect());
        }
        if let Some(pod) =
            (0..self.pods.drafts.len()).find(|pod| self.pods.full_name(*pod).as_ref() == Some(&said.value))
        {
            return Some(vec![PodId(pod)]);
        }
        if let Some(selector) = said.value.strip_prefix("pods ") {
            let found = self.selected(selector.trim(), said, problems)?;
            if found.is_empty() {
                self.selects_nothing(said, problems);
            }
            return (!found.is_empty()).then_some(found);
        }
        if self.complete {
            let problem = Diagnostic::new(said.at.clone(), format!("there is no pod {}", quoted(&said.value)));
            if said.value.contains(['=', '!', '(']) {
                problems.push(problem.hint(format!("did you mean `pods {}`?", said.value)));
                return None;
            }
            let names = self.places.iter().filter(|(_, known)| known.pod.is_some());
            let names = names.map(|(name, _)| name.as_str()).chain(self.groups.keys().map(String::as_str));
            problems.push_nearest(problem, &said.value, names, || {
                Some("backends are names of pods (POD.NAMESPACE outside `default`), or \"pods app=web\"".to_owned())
            });
        }
        None
    }

    /// The addresses of what a record may name: an address, anything with one, or several pods.
    pub(super) fn addresses(&self, said: &At<String>, problems: &mut Problems) -> Option<Vec<Host>> {
        let is_group = self.groups.contains_key(&said.value) && !self.places.contains_key(&said.value);
        if is_group && self.services.contains_key(&said.value) {
            let message = format!("{} is the name of a service and of pods", quoted(&said.value));
            let hint =
                format!("write `{}` for the service, or a selector such as \"pods app=web\"", self.long(&said.value));
            problems.push(Diagnostic::new(said.at.clone(), message).hint(hint));
            return None;
        }
        if is_group || said.value.starts_with("pods ") {
            let pods = self.pods(said, problems)?;
            let ip = |pod: &PodId| self.pods.drafts[pod.0].ip.map(|ip| Host::Address(ip.into()));
            return pods.iter().map(ip).collect();
        }
        self.host(&said.value, &said.at, problems).map(|host| vec![host])
    }

    /// The place that a backend shall see as its client.
    pub(super) fn place(&self, said: &At<String>, problems: &mut Problems) -> Option<Place> {
        let found = self.places.get(&said.value).map(|known| known.place);
        if found.is_none() && self.complete {
            let message = format!("there is no node, pod, client or external machine {}", quoted(&said.value));
            let problem = Diagnostic::new(said.at.clone(), message);
            problems.push_nearest(problem, &said.value, self.places.keys().map(String::as_str).chain(["self"]), || {
                Some("a source is an address, a place of the lab, or \"self\" for whoever asks".to_owned())
            });
        }
        found
    }

    /// What a host is: an address, that of a name of the lab, or a name that a resolver is asked for.
    pub(super) fn host(&self, host: &str, at: &Span, problems: &mut Problems) -> Option<Host> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Some(Host::Address(address));
        }
        if host == "localhost" {
            return Some(Host::Address(std::net::Ipv4Addr::LOCALHOST.into()));
        }
        // With a dot at its end it is a DNS name, whatever else is called so.
        if let Some(name) = host.strip_suffix('.') {
            return self.resolved(name, host, at, problems);
        }
        let place = self.places.get(host);
        let service = self.services.get(&self.short(host));
        match (place, service) {
            (Some(_), Some(_)) if self.short(host) == host => {
                let message = format!("`{host}` is the name of a service and of a pod, node or client");
                let hint = format!("write `{}` for the service, or the other's address", self.long(host));
                problems.push(Diagnostic::new(at.clone(), message).hint(hint));
                None
            }
            (_, Some(Some(None))) => {
                let problem = Diagnostic::new(at.clone(), format!("the headless service `{host}` has no address"));
                let short = self.short(host);
                let (name, namespace) = short.split_once('.').unwrap_or((&short, "default"));
                let name = format!("{name}.{namespace}.svc.{}.", self.domain);
                problems.push(
                    problem.hint(format!("ask one of its pods; or write `{name}`, and whoever asks looks it up")),
                );
                None
            }
            (_, Some(Some(address))) => address.map(Host::Address),
            (Some(known), _) => known.ip.map(Host::Address),
            (None, Some(None)) => None,
            (None, None) if host.contains('.') && (self.resolves || is_numeric(host)) => {
                self.resolved(host, host, at, problems)
            }
            (None, None) => {
                self.nowhere(host, at, problems);
                None
            }
        }
    }

    /// A name for the asker's resolver.
    fn resolved(&self, name: &str, written: &str, at: &Span, problems: &mut Problems) -> Option<Host> {
        if name.parse::<Domain>().is_err() || is_numeric(name) {
            let problem = Diagnostic::new(at.clone(), format!("{} is neither an address nor a name", quoted(written)));
            problems.push(problem.hint("for example \"10.96.0.1\", \"web\" or \"api.example.com\""));
            return None;
        }
        if !self.resolves {
            let problem = Diagnostic::new(at.clone(), format!("nobody knows the name {}", quoted(written)));
            problems.push(problem.hint(NO_DNS));
            return None;
        }
        Some(Host::Name(written.to_owned()))
    }

    fn nowhere(&self, host: &str, at: &Span, problems: &mut Problems) {
        if self.complete {
            let message = format!("there is no node, pod, service or client {}", quoted(host));
            let names = self.places.keys().chain(self.services.keys()).map(String::as_str);
            problems.push_nearest(Diagnostic::new(at.clone(), message), host, names, || {
                let dns = "it is an address, one of these names, or a DNS name, which has a dot in it";
                Some(if host.contains('.') { NO_DNS } else { dns }.to_owned())
            });
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

/// It ends like an address, as no DNS name does.
fn is_numeric(name: &str) -> bool {
    name.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()))
}

fn asker(name: &str, known: &Known) -> Asker {
    let as_pod = known.pod.filter(|_| !matches!(known.place, Place::Pod(_)));
    Asker { name: name.to_owned(), place: known.place, as_pod }
}

fn pod_of(place: Place) -> Option<PodId> {
    if let Place::Pod(pod) = place { Some(pod) } else { None }
}

/// `NAME`, or `NAME.NAMESPACE` outside the namespace `default`.
pub(in super::super) fn service_name(draft: &ServiceDraft) -> Option<String> {
    let namespace: &Name = draft.namespace.as_ref()?;
    full_name(draft.name.as_ref()?, namespace)
}
