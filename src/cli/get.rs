//! `netlab get KIND`: what is in a lab.

use std::process::ExitCode;

use serde::Serialize;

use super::{
    args::{self, Kind, ListFormat},
    conntrack, labs, ls, moment,
    output::{Form, Listing, Terminal, print},
};
use crate::{
    agent::{
        directory::Directory,
        link,
        protocol::{Reply, Request, Status},
    },
    error::{Error, Result},
    lab::model::{Attach, Lab, PodId, Service, ServicePort},
    plan::{
        self,
        step::{Step, Via},
    },
    proxy::{
        self,
        endpoints::{self, Endpoint},
    },
};

pub(super) fn get(args: &args::Get, terminal: &Terminal) -> Result<ExitCode> {
    if args.kind == Kind::Labs {
        return ls::ls(&args::Ls { output: args.output }, terminal);
    }
    let directory = labs::choose(args.lab.lab.as_deref())?;
    let lab = labs::load(&directory)?;
    let form = Form { format: args.output, only: args.name.as_deref() };
    match args.kind {
        Kind::Labs => {}
        Kind::Nodes => nodes(&lab, form)?,
        Kind::Pods => pods(&lab, &status(&directory)?, form)?,
        Kind::Services => services(&lab, form)?,
        Kind::Endpoints => endpoints(&lab, form)?,
        Kind::Routes => routes(&lab, form)?,
        Kind::Rules => rules(&lab, form)?,
        Kind::Conntrack => conntrack::list(&directory, args.name.as_deref(), args.output)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// How the lab's agent says that it is.
pub(super) fn status(directory: &Directory) -> Result<Status> {
    match link::ask_once(directory, &Request::Status)? {
        Reply::Status(status) => Ok(status),
        _ => Err(Error::bug("a status was asked for, and something else was given")),
    }
}

/// A node, as it is listed.
#[derive(Debug, Serialize)]
struct NodeRow {
    name: String,
    status: String,
    ip: String,
    pod_subnet: String,
    pods: usize,
    attach: String,
    zone: Option<String>,
}

fn nodes(lab: &Lab, form: Form<'_>) -> Result<()> {
    let rows: Vec<NodeRow> = lab
        .node_ids()
        .map(|id| {
            let node = lab.node(id);
            NodeRow {
                name: node.name.to_string(),
                status: node.state.status(),
                ip: node.ip.to_string(),
                pod_subnet: node.pod_subnet.to_string(),
                pods: lab.pods.iter().filter(|pod| pod.node == id).count(),
                attach: match &node.attach {
                    Attach::Bridge(name) => format!("bridge {name}"),
                    Attach::Routed => "routed".to_owned(),
                },
                zone: node.zone.as_ref().map(ToString::to_string),
            }
        })
        .collect();
    let listing =
        Listing { kind: "nodes", header: &["NAME", "STATUS", "IP", "POD-SUBNET", "PODS"], wide: &["ATTACH", "ZONE"] };
    listing.print(form, &rows, |row| {
        let zone = row.zone.clone().unwrap_or_else(|| "-".to_owned());
        let NodeRow { name, status, ip, pod_subnet, pods, attach, .. } = row;
        [name, status, ip, pod_subnet, &pods.to_string(), attach, &zone].map(Clone::clone).to_vec()
    })
}

/// A pod, as it is listed.
#[derive(Debug, Serialize)]
pub(super) struct PodRow {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) ready: String,
    pub(super) status: String,
    pub(super) restarts: u32,
    /// When it began, if it has.
    pub(super) started: Option<String>,
    #[serde(skip)]
    pub(super) age: String,
    pub(super) ip: String,
    pub(super) node: String,
    pub(super) labels: String,
}

fn pods(lab: &Lab, status: &Status, form: Form<'_>) -> Result<()> {
    let rows: Vec<PodRow> = lab.pod_ids().map(|id| pod_row(lab, id, status)).collect();
    let listing = Listing {
        kind: "pods",
        header: &["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE"],
        wide: &["NAMESPACE", "LABELS"],
    };
    listing.print(form, &rows, |row| {
        let PodRow { namespace, name, ready, status, restarts, started: _, age, ip, node, labels } = row;
        [name, ready, status, &restarts.to_string(), age, ip, node, namespace, labels].map(Clone::clone).to_vec()
    })
}

/// A pod and how its servers are.
pub(super) fn pod_row(lab: &Lab, id: PodId, status: &Status) -> PodRow {
    let pod = lab.pod(id);
    let name = pod.full_name();
    let servers: Vec<_> = status.servers.iter().filter(|server| server.pod == name).collect();
    let ready = servers.iter().filter(|server| server.ready).count();
    let since = servers.iter().map(|server| server.since).find(|since| *since > 0);
    let labels = pod.labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",");
    // What the pods are was read a moment before how their containers are.
    let ready = if pod.ready { ready } else { ready.min(pod.containers.len() - 1) };
    PodRow {
        namespace: pod.namespace.to_string(),
        name,
        ready: format!("{ready}/{}", pod.containers.len()),
        status: match servers.iter().find(|server| !server.running) {
            _ if pod.terminating => "Terminating".to_owned(),
            Some(server) if server.again => "CrashLoopBackOff".to_owned(),
            Some(_) => "Error".to_owned(),
            None if servers.len() < pod.containers.len() => "Pending".to_owned(),
            None => "Running".to_owned(),
        },
        restarts: servers.iter().map(|server| server.restarts).sum(),
        started: since.map(moment::stamp),
        age: since.map_or_else(|| "<unknown>".to_owned(), moment::age),
        ip: pod.ip.to_string(),
        node: lab.node(pod.node).name.to_string(),
        labels: if labels.is_empty() { "<none>".to_owned() } else { labels },
    }
}

/// A Service, as it is listed.
#[derive(Debug, Serialize)]
struct ServiceRow {
    namespace: String,
    name: String,
    r#type: String,
    cluster_ip: String,
    external_ip: String,
    ports: String,
    selector: String,
}

fn services(lab: &Lab, form: Form<'_>) -> Result<()> {
    let rows: Vec<ServiceRow> = lab.services.iter().map(|service| service_row(service)).collect();
    let listing = Listing {
        kind: "services",
        header: &["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)"],
        wide: &["NAMESPACE", "SELECTOR"],
    };
    listing.print(form, &rows, |row| {
        let ServiceRow { namespace, name, r#type, cluster_ip, external_ip, ports, selector } = row;
        [name, r#type, cluster_ip, external_ip, ports, namespace, selector].map(Clone::clone).to_vec()
    })
}

fn service_row(service: &Service) -> ServiceRow {
    let none = || "<none>".to_owned();
    let external: Vec<String> =
        service.load_balancer_ips.iter().chain(&service.external_ips).map(ToString::to_string).collect();
    let selector: Vec<String> = service.selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
    ServiceRow {
        namespace: service.namespace.to_string(),
        name: service.full_name(),
        r#type: service.kind.as_str().to_owned(),
        cluster_ip: service.cluster_ip.map_or_else(|| "None".to_owned(), |ip| ip.to_string()),
        external_ip: if external.is_empty() { none() } else { external.join(",") },
        ports: service.ports.iter().map(port_text).collect::<Vec<_>>().join(","),
        selector: if selector.is_empty() { none() } else { selector.join(",") },
    }
}

/// `8080:30080/TCP`, as kubectl has it.
pub(super) fn port_text(port: &ServicePort) -> String {
    match port.node_port {
        Some(node_port) => format!("{}:{node_port}/{}", port.port, port.protocol),
        None => format!("{}/{}", port.port, port.protocol),
    }
}

/// The endpoints of a Service's port, as they are listed.
#[derive(Debug, Serialize)]
struct EndpointsRow {
    namespace: String,
    service: String,
    port: String,
    /// The ready ones, as in kubectl.
    endpoints: Vec<String>,
    /// All of them.
    conditions: Vec<ConditionsRow>,
}

/// An endpoint with its conditions, as in an EndpointSlice.
#[derive(Debug, Serialize)]
pub(super) struct ConditionsRow {
    address: String,
    pod: Option<String>,
    node: Option<String>,
    ready: bool,
    serving: bool,
    terminating: bool,
}

impl ConditionsRow {
    /// The address, and its conditions if they are not those of any endpoint.
    pub(super) fn in_short(&self) -> String {
        match (self.ready, self.terminating) {
            (true, false) => self.address.clone(),
            _ => self.in_full(),
        }
    }

    /// The address, and the conditions that hold.
    fn in_full(&self) -> String {
        let words = [("ready", self.ready), ("serving", self.serving), ("terminating", self.terminating)];
        let words: Vec<&str> = words.into_iter().filter(|(_, holds)| *holds).map(|(word, _)| word).collect();
        let words = if words.is_empty() { "not ready".to_owned() } else { words.join(" ") };
        format!("{} ({words})", self.address)
    }
}

fn endpoints(lab: &Lab, form: Form<'_>) -> Result<()> {
    let rows: Vec<EndpointsRow> = lab
        .services
        .iter()
        .flat_map(|service| {
            service.ports.iter().map(|port| {
                let conditions = endpoints_of(lab, service, port);
                EndpointsRow {
                    namespace: service.namespace.to_string(),
                    service: service.full_name(),
                    port: port.name.as_ref().map_or_else(|| port_text(port), ToString::to_string),
                    endpoints: conditions.iter().filter(|it| it.ready).map(|it| it.address.clone()).collect(),
                    conditions,
                }
            })
        })
        .collect();
    let listing =
        Listing { kind: "endpoints", header: &["SERVICE", "PORT", "ENDPOINTS"], wide: &["NAMESPACE", "CONDITIONS"] };
    listing.print(form, &rows, |row| {
        let text = |list: Vec<String>, between| if list.is_empty() { "<none>".to_owned() } else { list.join(between) };
        let conditions = text(row.conditions.iter().map(ConditionsRow::in_full).collect(), ", ");
        let endpoints = text(row.endpoints.clone(), ",");
        vec![row.service.clone(), row.port.clone(), endpoints, row.namespace.clone(), conditions]
    })
}

/// What is behind a Service's port, usable or not.
pub(super) fn endpoints_of(lab: &Lab, service: &Service, port: &ServicePort) -> Vec<ConditionsRow> {
    let found = endpoints::endpoints(lab, service, port, &endpoints::conditions(lab));
    let row = |endpoint: &Endpoint| ConditionsRow {
        address: endpoint.addr.to_string(),
        pod: endpoint.pod.map(|pod| lab.pod(pod).full_name()),
        node: endpoint.node.map(|node| lab.node(node).name.to_string()),
        ready: endpoint.ready,
        serving: endpoint.serving,
        terminating: endpoint.terminating,
    };
    found.iter().map(row).collect()
}

/// A route, as it is listed.
#[derive(Debug, Serialize)]
struct RouteRow {
    netns: String,
    to: String,
    via: Option<String>,
    dev: Option<String>,
}

fn routes(lab: &Lab, form: Form<'_>) -> Result<()> {
    let steps = plan::plan(lab).stages.into_iter().flat_map(|stage| stage.steps);
    let rows: Vec<RouteRow> = steps
        .filter_map(|step| match step.step {
            Step::Route { netns, to, via } => {
                let to = if to.prefix_len() == 0 { "default".to_owned() } else { to.to_string() };
                let (via, dev) = match via {
                    Via::Gateway(gateway, link) => (Some(gateway.to_string()), Some(link.name)),
                    Via::Link(link) => (None, Some(link.name)),
                    Via::Blackhole => (Some("blackhole".to_owned()), None),
                };
                Some(RouteRow { netns, to, via, dev })
            }
            _ => None,
        })
        .collect();
    let listing = Listing { kind: "routes", header: &["WHERE", "TO", "VIA", "DEV"], wide: &[] };
    listing.print(form, &rows, |row| {
        let text = |it: &Option<String>| it.clone().unwrap_or_else(|| "-".to_owned());
        vec![row.netns.clone(), row.to.clone(), text(&row.via), text(&row.dev)]
    })
}

/// A node's rules, as they are listed.
#[derive(Debug, Serialize)]
struct RulesRow {
    node: String,
    proxy: String,
    rules: usize,
    text: String,
}

fn rules(lab: &Lab, form: Form<'_>) -> Result<()> {
    let rows: Vec<RulesRow> = lab
        .node_ids()
        .map(|id| {
            let text = proxy::render(lab.cluster.proxy, &proxy::view::view(lab, id));
            let is_rule = |line: &&str| !line.is_empty() && !line.starts_with(['#', '*', ':']) && *line != "COMMIT";
            RulesRow {
                node: lab.node(id).name.to_string(),
                proxy: lab.cluster.proxy.to_string(),
                rules: text.lines().map(str::trim).filter(is_rule).count(),
                text,
            }
        })
        .collect();
    if form.format == ListFormat::Wide {
        for row in rows.iter().filter(|row| form.only.is_none_or(|only| only == row.node)) {
            print(&format!("# {}\n{}\n", row.node, row.text));
        }
        return Ok(());
    }
    let listing = Listing { kind: "rules", header: &["NODE", "PROXY", "RULES"], wide: &[] };
    listing.print(form, &rows, |row| vec![row.node.clone(), row.proxy.clone(), row.rules.to_string()])
}
