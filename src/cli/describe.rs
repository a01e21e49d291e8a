//! `netlab describe THING`: everything about one node, pod, service or client.

use std::process::ExitCode;

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::{
    args::{self, ListFormat},
    get, labs,
    output::{Terminal, print},
};
use crate::{
    agent::protocol::{ProbeStatus, Status},
    error::{Context, Error, Result},
    lab::model::{Attach, ClientId, Container, Lab, NodeId, PodId, Server, ServiceId},
    proxy::{
        balancer::{self, Health},
        endpoints::conditions,
    },
};

/// Something that has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Thing {
    Node(NodeId),
    Pod(PodId),
    Service(ServiceId),
    Client(ClientId),
    LoadBalancer,
}

/// What is said of it: pairs of a title and a text or a list, in the order of reading.
#[derive(Debug, Serialize)]
struct Description {
    version: u32,
    kind: &'static str,
    #[serde(rename = "item", serialize_with = "in_order")]
    lines: Lines,
}

fn in_order<S: Serializer>(lines: &Lines, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(lines.iter().map(|(title, value)| (title, value)))
}

pub(super) fn describe(args: &args::Describe, _terminal: &Terminal) -> Result<ExitCode> {
    let directory = labs::choose(args.lab.lab.as_deref())?;
    let lab = labs::load(&directory)?;
    let thing = find(&lab, &args.thing)?;
    let status = get::status(&directory)?;
    let (kind, lines) = match thing {
        Thing::Node(id) => ("node", node(&lab, id)),
        Thing::Pod(id) => ("pod", pod(&lab, id, &status)),
        Thing::Service(id) => ("service", service(&lab, id)),
        Thing::Client(id) => ("client", client(&lab, id)),
        Thing::LoadBalancer => ("load-balancer", load_balancer(&lab)),
    };
    let description = Description { version: 1, kind, lines };
    print(&match args.output {
        ListFormat::Json => serde_json::to_string_pretty(&description).context("cannot write JSON")? + "\n",
        ListFormat::Yaml => serde_norway::to_string(&description).context("cannot write YAML")?,
        ListFormat::Name => format!("{kind}/{}\n", args.thing.rsplit('/').next().unwrap_or_default()),
        ListFormat::Table | ListFormat::Wide => text(&description),
    });
    Ok(ExitCode::SUCCESS)
}

fn find(lab: &Lab, name: &str) -> Result<Thing> {
    let (kind, short) = name.split_once('/').map_or((None, name), |(kind, name)| (Some(kind), name));
    let nodes = lab.node_ids().filter(|id| lab.node(*id).name.as_str() == short).map(Thing::Node);
    let pods = lab.pod_ids().filter(|id| lab.pod(*id).full_name() == short).map(Thing::Pod);
    let services = lab.service_ids().filter(|id| lab.service(*id).full_name() == short).map(Thing::Service);
    let clients = lab.client_ids().filter(|id| lab.client(*id).name.as_str() == short).map(Thing::Client);
    let balancer = lab.load_balancer.iter().filter(|it| it.name.as_str() == short).map(|_| Thing::LoadBalancer);
    let all: Vec<(&str, Thing)> = nodes
        .map(|it| ("node", it))
        .chain(pods.map(|it| ("pod", it)))
        .chain(services.map(|it| ("service", it)))
        .chain(clients.map(|it| ("client", it)))
        .chain(balancer.map(|it| ("load-balancer", it)))
        .filter(|(of, _)| kind.is_none_or(|kind| kind.trim_end_matches('s') == *of))
        .collect();
    match all.as_slice() {
        [(_, thing)] => Ok(*thing),
        [] => Err(Error::usage(format!("there is no {name} in {}", lab.name))
            .hint("netlab get nodes, netlab get pods, netlab get services")),
        several => {
            let kinds: Vec<String> = several.iter().map(|(kind, _)| format!("{kind}/{short}")).collect();
            Err(Error::usage(format!("{short} is the name of several things")).hint(kinds.join(" or ")))
        }
    }
}

type Lines = Vec<(&'static str, Value)>;

fn node(lab: &Lab, id: NodeId) -> Lines {
    let node = lab.node(id);
    let pods: Vec<String> =
        lab.pods.iter().filter(|pod| pod.node == id).map(|pod| format!("{} {}", pod.full_name(), pod.ip)).collect();
    vec![
        ("name", json!(node.name.as_str())),
        ("status", json!(node.state.status())),
        ("link", json!(node.state.unplugged.then_some("down"))),
        ("power", json!(node.state.stopped.then_some("off"))),
        ("ip", json!(node.ip)),
        ("pod subnet", json!(node.pod_subnet)),
        ("pod gateway", json!(node.pod_gateway)),
        (
            "attach",
            match &node.attach {
                Attach::Bridge(name) => json!(format!("bridge {name}")),
                Attach::Routed => json!("routed"),
            },
        ),
        ("zone", json!(node.zone.as_ref().map(|zone| zone.as_str()))),
        ("proxy", json!(lab.cluster.proxy.as_str())),
        ("pods", json!(pods)),
    ]
}

fn pod(lab: &Lab, id: PodId, status: &Status) -> Lines {
    let pod = lab.pod(id);
    let row = get::pod_row(lab, id, status);
    let containers: Vec<String> = pod
        .containers
        .iter()
        .map(|container| {
            let ports: Vec<String> =
                container.ports.iter().map(|port| format!("{}/{}", port.container_port, port.protocol)).collect();
            let server = match &container.server {
                Server::Python => "python".to_owned(),
                Server::Echo => "echo".to_owned(),
                Server::Dns => crate::plan::dns_program(lab).to_owned(),
                Server::Command(argv) => argv.join(" "),
            };
            let of = |server: &&crate::agent::protocol::ServerStatus| {
                server.pod == row.name && server.container == container.name.as_str()
            };
            let state = status.servers.iter().find(of).map_or("not started", |server| server.text.as_str());
            format!("{}: {server} on {} ({state})", container.name, ports.join(", "))
        })
        .collect();
    let services: Vec<String> = lab
        .services
        .iter()
        .filter(|service| service.namespace == pod.namespace && !service.selector.is_empty())
        .filter(|service| service.selector.iter().all(|(key, value)| pod.labels.get(key) == Some(value)))
        .map(|service| service.full_name())
        .collect();
    let probes = probes(lab, id, status);
    vec![
        ("name", json!(pod.name.as_str())),
        ("namespace", json!(pod.namespace.as_str())),
        ("node", json!(row.node)),
        ("ip", json!(pod.ip)),
        ("status", json!(row.status)),
        ("ready", json!(row.ready)),
        ("restarts", json!(row.restarts)),
        ("labels", json!(row.labels)),
        ("containers", json!(containers)),
        ("readiness", json!(probes)),
        ("services", json!(services)),
    ]
}

/// The readiness probes of a pod's containers, each as kubectl says it, and with what came of it last.
fn probes(lab: &Lab, id: PodId, status: &Status) -> Vec<String> {
    let pod = lab.pod(id);
    let probe = |container: &Container| {
        let readiness = container.readiness.as_ref()?;
        let name = if pod.containers.len() > 1 { format!("{}: ", container.name) } else { String::new() };
        let mut server = status.servers.iter().filter(|it| it.container == container.name.as_str());
        let status = server.find(|it| pod.is_called(&it.pod)).and_then(|server| server.probe.as_ref());
        Some([format!("{name}{readiness}"), format!("{name}{}", verdict(status))])
    };
    pod.containers.iter().filter_map(probe).flatten().collect()
}

/// What a probe says: `ready`, `not ready: failed 3 times in a row, last: …`.
fn verdict(status: Option<&ProbeStatus>) -> String {
    let Some(ProbeStatus { ready, times, failure }) = status else { return "not asked yet".to_owned() };
    let verdict = if *ready { "ready" } else { "not ready" };
    let in_a_row = if *times == 1 { "once".to_owned() } else { format!("{times} times in a row") };
    match failure {
        _ if *times == 0 => format!("{verdict}: not asked yet"),
        Some(why) => format!("{verdict}: failed {in_a_row}, last: {why}"),
        None => format!("{verdict}: succeeded {in_a_row}"),
    }
}

fn service(lab: &Lab, id: ServiceId) -> Lines {
    let service = lab.service(id);
    let selector: Vec<String> = service.selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let ports: Vec<String> = service
        .ports
        .iter()
        .map(|port| {
            let name = port.name.as_ref().map(|name| format!("{name} ")).unwrap_or_default();
            let endpoints: Vec<String> =
                get::endpoints_of(lab, service, port).iter().map(get::ConditionsRow::in_short).collect();
            let endpoints = if endpoints.is_empty() { "no endpoints".to_owned() } else { endpoints.join(", ") };
            format!("{name}{} → {}: {endpoints}", get::port_text(port), port.target_port)
        })
        .collect();
    let affinity = service.session_affinity.map_or("None".to_owned(), |seconds| format!("ClientIP for {seconds} s"));
    vec![
        ("name", json!(service.name.as_str())),
        ("namespace", json!(service.namespace.as_str())),
        ("type", json!(service.kind.as_str())),
        ("cluster IP", json!(service.cluster_ip.map_or_else(|| "None".to_owned(), |ip| ip.to_string()))),
        ("selector", json!(selector)),
        ("session affinity", json!(affinity)),
        ("internal traffic policy", json!(format!("{:?}", service.internal_traffic_policy))),
        ("external traffic policy", json!(format!("{:?}", service.external_traffic_policy))),
        ("external IPs", json!(service.external_ips)),
        ("load balancer IPs", json!(service.load_balancer_ips)),
        ("ports", json!(ports)),
    ]
}

fn client(lab: &Lab, id: ClientId) -> Lines {
    let client = lab.client(id);
    vec![("name", json!(client.name.as_str())), ("ip", json!(client.ip))]
}

fn load_balancer(lab: &Lab) -> Lines {
    let Some(balancer) = &lab.load_balancer else { return Vec::new() };
    let health = Health::of(lab, &conditions(lab));
    let addresses: Vec<String> = balancer::vips(lab)
        .iter()
        .map(|vip| {
            let nodes: Vec<&str> = health.nodes_of(vip).into_iter().map(|node| lab.node(node).name.as_str()).collect();
            let to = if nodes.is_empty() { "no node".to_owned() } else { nodes.join(", ") };
            let checks: Vec<String> = vip.checks.iter().map(ToString::to_string).collect();
            format!("{} to {to} while healthy (asked on port {})", vip.ip, checks.join(" and "))
        })
        .collect();
    vec![
        ("name", json!(balancer.name.as_str())),
        ("ip", json!(balancer.ip)),
        ("engine", json!(balancer.engine.as_str())),
        ("addresses", json!(addresses)),
    ]
}

/// A title and what it is, a line each; of a list, a line for each item.
fn text(description: &Description) -> String {
    let width = description.lines.iter().map(|(title, _)| title.len()).max().unwrap_or(0) + 2;
    let mut text = String::new();
    for (title, value) in &description.lines {
        let lines: Vec<String> = match value {
            Value::Null => continue,
            Value::Array(items) if items.is_empty() => continue,
            Value::Array(items) => items.iter().map(plain).collect(),
            value => vec![plain(value)],
        };
        for (index, line) in lines.iter().enumerate() {
            let title = if index == 0 { format!("{title}:") } else { String::new() };
            text.push_str(&format!("{title:width$}{line}\n"));
        }
    }
    text
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
