//! The containers of a `[[pod]]` → servers with their ports, unique within the pod.

use std::collections::BTreeMap;

use super::{
    address::{ip, special},
    file::{ContainerPortTable, ContainerTable, PodTable, ReadinessTable},
    model::{Container, ContainerPort, HostPort, Protocol, Server, Span},
    name::Name,
    readiness::readiness,
    said::{At, Said},
    value::{Environment, Port, ServerKind, invalid},
};
use crate::diag::{Diagnostic, Problems};

/// The containers of a pod; `None` if anything of them was refused.
pub(super) fn containers(table: &PodTable, problems: &mut Problems) -> Option<Vec<Container>> {
    let short = [
        ("server", table.server.at().map(|said| &said.at)),
        ("command", table.command.at().map(|said| &said.at)),
        ("ports", table.ports.at().map(|said| &said.at)),
        ("env", table.env.at().map(|said| &said.at)),
    ];
    if !table.containers.is_nothing() {
        for (key, at) in short {
            let Some(at) = at else { continue };
            let message = format!("`{key}` of a pod is short for one container, and this pod has `containers`");
            let problem = Diagnostic::new(at.clone(), message).also(table.containers.span(&table.at), "here");
            problems.push(problem.hint(format!("move `{key}` into the container that it is for")));
        }
        if let Some(said) = table.containers.at().filter(|said| said.value.is_empty()) {
            let problem = Diagnostic::new(said.at.clone(), "a pod needs at least one container");
            problems.push(problem.hint("leave `containers` out for one echo server on port 80"));
            return None;
        }
    }
    let host_network = table.host_network.get().copied().unwrap_or(false);
    let mut containers: Vec<Option<Container>> = if table.containers.is_nothing() {
        let source = Source {
            name: &Said::Nothing,
            server: &table.server,
            command: &table.command,
            ports: &table.ports,
            env: &table.env,
            readiness: &table.readiness,
            at: &table.at,
        };
        vec![container(source, 0, host_network, problems)]
    } else {
        let probe = pod_probe(table, problems);
        let tables = table.containers.list().iter().enumerate();
        let source = |table| Source { readiness: probe.unwrap_or(Source::of(table).readiness), ..Source::of(table) };
        tables.map(|(nth, table)| container(source(table), nth, host_network, problems)).collect()
    };
    let tables = table.containers.list();
    check_containers(&containers, table, tables, problems);
    let commands = match table.containers.get() {
        None => vec![&table.command],
        Some(tables) => tables.iter().map(|table| &table.command).collect(),
    };
    for (container, command) in containers.iter_mut().zip(commands) {
        container.iter_mut().for_each(|container| container.at = command.span(&container.at));
    }
    // A list that was refused has no containers, but that is not what the file says.
    containers.into_iter().collect::<Option<Vec<_>>>().filter(|containers| !containers.is_empty())
}

/// The readiness probe that a pod gives the only one of its `containers`.
fn pod_probe<'f>(table: &'f PodTable, problems: &mut Problems) -> Option<&'f Said<ReadinessTable>> {
    let said = table.readiness.at()?;
    let message = match table.containers.list() {
        [only] if only.readiness.is_nothing() => return Some(&table.readiness),
        [_] => "this pod has a readiness probe, and so has its container",
        _ => "`readiness` of a pod is short for one container, and this pod has several",
    };
    let problem = Diagnostic::new(said.at.clone(), message).also(table.containers.span(&table.at), "here");
    problems.push(problem.hint("move `readiness` into the container that it is for"));
    None
}

/// The keys that a container and a pod have in common.
struct Source<'f> {
    name: &'f Said<Name>,
    server: &'f Said<ServerKind>,
    command: &'f Said<Vec<At<String>>>,
    ports: &'f Said<Vec<ContainerPortTable>>,
    env: &'f Said<Environment>,
    readiness: &'f Said<ReadinessTable>,
    at: &'f Span,
}

impl<'f> Source<'f> {
    fn of(table: &'f ContainerTable) -> Self {
        Source {
            name: &table.name,
            server: &table.server,
            command: &table.command,
            ports: &table.ports,
            env: &table.env,
            readiness: &table.readiness,
            at: &table.at,
        }
    }
}

fn container(source: Source<'_>, nth: usize, host_network: bool, problems: &mut Problems) -> Option<Container> {
    let default = if nth == 0 { "server".to_owned() } else { format!("server-{}", nth + 1) };
    let server = server(&source, problems);
    let ports = match (&server, source.ports.maybe_list()?) {
        (Some(Server::Command(_)), None) => Vec::new(),
        (None, None) => Vec::new(),
        (_, None) => vec![ContainerPort { name: None, container_port: 80, protocol: Protocol::Tcp, host_port: None }],
        (server, Some(tables)) => {
            let ports: Vec<Option<ContainerPort>> =
                tables.iter().map(|table| port(table, server.as_ref(), host_network, problems)).collect();
            ports.into_iter().collect::<Option<_>>()?
        }
    };
    let readiness = readiness(source.readiness, &ports, problems);
    Some(Container {
        name: source.name.or(default.parse().ok()?)?,
        server: server?,
        ports,
        env: source.env.or(Environment::default())?.0,
        readiness: readiness?,
        at: source.at.clone(),
    })
}

fn server(source: &Source<'_>, problems: &mut Problems) -> Option<Server> {
    if let (Some(server), Some(command)) = (source.server.at(), source.command.at()) {
        let problem = Diagnostic::new(command.at.clone(), "a container runs a `server` or a `command`, not both");
        problems.push(problem.also(server.at.clone(), "the server").hint("leave one of them out"));
        return None;
    }
    if let Some(command) = source.command.at() {
        let Some(program) = command.value.first() else {
            let problem = Diagnostic::new(command.at.clone(), "a command must not be empty");
            problems.push(problem.hint("write the program and its arguments: command = [\"sleep\", \"60\"]"));
            return None;
        };
        if program.value.is_empty() {
            let problem = Diagnostic::new(program.at.clone(), "the program of a command must not be empty");
            problems.push(problem.hint("write the program's name or path first"));
            return None;
        }
        return Some(Server::Command(command.value.iter().map(|argument| argument.value.clone()).collect()));
    }
    if source.command.is_nonsense() {
        return None;
    }
    if source.env.get().is_some_and(|env| !env.0.is_empty())
        && matches!(source.server.get(), None | Some(ServerKind::Echo))
        && !source.server.is_nonsense()
    {
        let problem =
            Diagnostic::new(source.env.span(source.at), "an echo server has no process, and so no environment");
        problems.push(problem.hint("leave `env` out, or choose `server = \"python\"` or a `command`"));
    }
    source.server.or(ServerKind::Echo).map(|kind| match kind {
        ServerKind::Echo => Server::Echo,
        ServerKind::Python => Server::Python,
    })
}

fn port(
    table: &ContainerPortTable,
    server: Option<&Server>,
    host_network: bool,
    problems: &mut Problems,
) -> Option<ContainerPort> {
    let protocol = table.protocol.or(Protocol::Tcp)?;
    match (server, protocol) {
        (Some(Server::Python), Protocol::Udp | Protocol::Sctp) => {
            let message = format!("a python server serves HTTP over TCP, not {protocol}");
            let problem = Diagnostic::new(table.protocol.span(&table.at), message);
            problems.push(problem.hint("choose `server = \"echo\"`, which answers UDP as well, or a `command`"));
        }
        (Some(Server::Echo), Protocol::Sctp) => {
            let problem =
                Diagnostic::new(table.protocol.span(&table.at), "an echo server answers TCP and UDP, not SCTP");
            problems.push(problem.hint("run a `command` that serves SCTP"));
        }
        _ => {}
    }
    Some(ContainerPort {
        name: table.name.maybe()?,
        container_port: table.container_port.get()?.0,
        protocol,
        host_port: host_port(table, host_network, problems)?,
    })
}

/// `Some(None)` if there is none to set up; `None` if it was refused.
fn host_port(table: &ContainerPortTable, host_network: bool, problems: &mut Problems) -> Option<Option<HostPort>> {
    let port: Option<Port> = table.host_port.maybe()?;
    let address = table.host_ip.maybe()?;
    let (Some(port), Some(said)) = (port, table.host_port.at()) else {
        if let Some(said) = table.host_ip.at() {
            let problem = Diagnostic::new(said.at.clone(), "`host_ip` says nothing without `host_port`");
            problems.push(problem.hint("add `host_port`, or leave `host_ip` out"));
        }
        return Some(None);
    };
    if host_network {
        // The container listens on the node already.
        if table.container_port.get().is_some_and(|container| *container != port) {
            let why = "must match `container_port` when `host_network` is true";
            problems.push(invalid("host_port", port.0, said.at.clone(), why).hint("leave `host_port` out"));
        }
        return Some(None);
    }
    if let (Some(address), Some(said)) = (address, table.host_ip.at())
        && !address.is_unspecified()
        && !address.is_loopback()
        && let Some(why) = special(address)
    {
        problems.push(invalid("host_ip", address, said.at.clone(), why).hint("give an address of the pod's node"));
        return None;
    }
    Some(Some(HostPort { port: port.0, ip: address.filter(|address| !address.is_unspecified()).map(ip) }))
}

/// Names and ports are unique within the pod.
fn check_containers(
    containers: &[Option<Container>],
    pod: &PodTable,
    tables: &[ContainerTable],
    problems: &mut Problems,
) {
    let mut names: BTreeMap<&str, Span> = BTreeMap::new();
    for container in containers.iter().flatten() {
        let nth = tables.iter().position(|table| table.at == container.at);
        let at = nth.map_or_else(|| container.at.clone(), |nth| tables[nth].name.span(&container.at));
        match names.get(container.name.as_str()) {
            None => _ = names.insert(container.name.as_str(), at),
            Some(first) => {
                let message = format!("two containers of this pod are called `{}`", container.name);
                let problem = Diagnostic::new(at, message).also(first.clone(), "the first one");
                problems.push(problem.hint("rename one of them"));
            }
        }
    }
    let mut port_names: BTreeMap<&str, Span> = BTreeMap::new();
    let mut ports: BTreeMap<(u16, Protocol), (Span, &str)> = BTreeMap::new();
    type Ports<'f> = (&'f Said<Vec<ContainerPortTable>>, &'f Span, Option<&'f Container>);
    let lists: Vec<Ports<'_>> = if pod.containers.is_nothing() {
        vec![(&pod.ports, &pod.at, containers.first().and_then(Option::as_ref))]
    } else {
        tables.iter().zip(containers).map(|(table, container)| (&table.ports, &table.at, container.as_ref())).collect()
    };
    for (list, at, container) in lists {
        let default = container.filter(|_| list.is_nothing()).into_iter().flat_map(|container| &container.ports);
        let defaults = default.map(|port| (port.container_port, port.protocol, at.clone(), "port 80, by default"));
        let given = list.list().iter().filter_map(|table| {
            let (port, protocol) = (table.container_port.at()?, table.protocol.or(Protocol::Tcp)?);
            Some((port.value.0, protocol, port.at.clone(), "first used here"))
        });
        for (port, protocol, at, label) in defaults.chain(given) {
            let message = format!("port {port}/{protocol} is used twice in this pod");
            match ports.get(&(port, protocol)) {
                None => _ = ports.insert((port, protocol), (at, label)),
                Some((first, label)) => {
                    let problem = Diagnostic::new(at, message).also(first.clone(), *label);
                    problems.push(problem.hint("containers of a pod share its address; give each a port of its own"));
                }
            }
        }
        for name in list.list().iter().filter_map(|table| table.name.at()) {
            match port_names.get(name.value.as_str()) {
                None => _ = port_names.insert(name.value.as_str(), name.at.clone()),
                Some(first) => {
                    let message = format!("two ports of this pod are called `{}`", name.value);
                    let problem = Diagnostic::new(name.at.clone(), message).also(first.clone(), "the first one");
                    problems.push(problem.hint("a Service finds a port by its name; rename one of them"));
                }
            }
        }
    }
}

impl PodTable {
    /// The ports of all containers as they are written; empty if any container has default ports,
    /// since then the two do not correspond.
    pub(super) fn written_ports(&self) -> Vec<&ContainerPortTable> {
        let lists: Vec<_> = match self.containers.get() {
            None => vec![&self.ports],
            Some(containers) => containers.iter().map(|table| &table.ports).collect(),
        };
        if lists.iter().all(|list| !list.is_nothing()) {
            lists.into_iter().flat_map(|list| list.list()).collect()
        } else {
            Vec::new()
        }
    }
}
