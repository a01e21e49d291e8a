//! `netlab trace FROM TO`: the way of a connection, by the rules and by the kernel.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::ExitCode,
};

use super::{
    args, labs,
    output::{Terminal, print},
    source::Source,
};
use crate::{
    agent::{
        directory::Directory,
        link,
        protocol::{Reply, Request},
    },
    error::{Error, ErrorKind, Result},
    kernel::view,
    lab::model::{Lab, NodeId, Place, Protocol, ProxyMode, TargetPort},
    plan::{self, step::Step},
    probe::order::{Order, What},
    proxy::trace::{
        Tracer, live,
        story::{self, Question, Story},
        tap::{TapOrder, Tapped},
    },
    report::trace::{Form, render},
};

pub(super) fn trace(args: &args::Trace, terminal: &Terminal) -> Result<ExitCode> {
    let (lab, directory) = match &args.file {
        Some(file) => (Source::read(Some(file))?.load(terminal)?, None),
        None => {
            let directory = labs::choose(args.lab.lab.as_deref())?;
            (labs::load(&directory)?, Some(directory))
        }
    };
    let question = question(&lab, args)?;
    let texts = texts(&lab, question.proxy);
    let tracer = Tracer::new(&lab, question.proxy, &texts).map_err(unreadable)?;
    let (mut story, branches) = story::story(&lab, &tracer, &question).map_err(unreadable)?;
    if let Some(number) = args.way.filter(|number| !(1..=story.ways.len()).contains(number)) {
        return Err(Error::usage(format!("there is no way {number}")).hint(format!("there are {}", story.ways.len())));
    }
    if let (true, Some(directory)) = (args.live, &directory) {
        let tapped = listen(directory, &order(&lab, &question, &story, args)?)?;
        story.live = Some(live::live(&lab, &tracer, &question, &story.ways, &branches, &tapped));
    }
    let form = match args.output {
        args::PlainFormat::Table => Form::Text(args.way),
        args::PlainFormat::Json => Form::Json,
    };
    print(&render(&story, form, terminal.colour()));
    let agrees = story.live.as_ref().is_none_or(|live| live.agrees);
    Ok(if agrees { ExitCode::SUCCESS } else { ExitCode::from(ErrorKind::Probe.exit_code()) })
}

/// The tracer reads what the renderers write; that it cannot is netlab's own fault.
pub(super) fn unreadable(why: String) -> Error {
    Error::bug(format!("cannot trace the rules: {why}"))
}

/// The rules that each node should have.
pub(super) fn texts(lab: &Lab, proxy: ProxyMode) -> BTreeMap<NodeId, String> {
    let texts = plan::rules(lab, proxy).filter_map(|planned| match planned.step {
        Step::Rules { text, .. } => Some(text.to_text()),
        _ => None,
    });
    lab.node_ids().zip(texts).collect()
}

fn question(lab: &Lab, args: &args::Trace) -> Result<Question> {
    let from = lab.find(&args.from).ok_or_else(|| {
        let names: Vec<String> = lab.places().into_iter().map(|place| lab.netns(place)).collect();
        let error = Error::usage(format!("there is no {} in {}", args.from, lab.name));
        error.hint(format!("a connection comes from one of: {}", shorten(&names)))
    })?;
    view::must_be_on(lab, from)?;
    let (to, protocol) = destination(lab, from, &args.to)?;
    let proxy = args.proxy.unwrap_or(lab.cluster.proxy);
    let written = args.to.split('/').next().unwrap_or(&args.to).to_owned();
    Ok(Question { from, to, written, protocol, proxy })
}

fn shorten(names: &[String]) -> String {
    const SHOWN: usize = 12;
    let more = if names.len() > SHOWN { ", …" } else { "" };
    format!("{}{more}", names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", "))
}

/// `HOST:PORT`, and `/tcp` or `/udp`; of a Service the port may be a name, or left out if it
/// has only one.
fn destination(lab: &Lab, from: Place, said: &str) -> Result<(SocketAddr, Protocol)> {
    let example = "write HOST:PORT or HOST:PORT/udp, like node1:30080";
    let (address, protocol) = match said.rsplit_once('/') {
        None => (said, None),
        Some((address, "tcp" | "TCP")) => (address, Some(Protocol::Tcp)),
        Some((address, "udp" | "UDP")) => (address, Some(Protocol::Udp)),
        Some((_, other)) => {
            return Err(Error::usage(format!("cannot trace the protocol {other}")).hint("the protocols are: tcp, udp"));
        }
    };
    let (host, port) = address.rsplit_once(':').map_or((address, None), |(host, port)| (host, Some(port)));
    if let Some(service) = service(lab, host) {
        let service = lab.service(service);
        let ip = service.cluster_ip.ok_or_else(|| {
            Error::usage(format!("{host} has no address of its own")).hint("trace to one of its pods")
        })?;
        let of = |wanted: &str| {
            service.ports.iter().find(|it| {
                let named = it.name.as_ref().is_some_and(|name| name.as_str() == wanted);
                (named || it.port.to_string() == wanted) && protocol.is_none_or(|protocol| protocol == it.protocol)
            })
        };
        let found = match (port, service.ports.as_slice()) {
            (None, [only]) => Some(only),
            (None, _) => None,
            (Some(wanted), _) => of(wanted),
        };
        if let Some(port) = found {
            return Ok((SocketAddr::new(ip, port.port), protocol.unwrap_or(port.protocol)));
        }
        // A port that the Service does not have is worth a trace as well: who refuses?
        if let Some(number) = port.and_then(|port| port.parse().ok()) {
            return Ok((SocketAddr::new(ip, number), protocol.unwrap_or(Protocol::Tcp)));
        }
        let names: Vec<String> = service.ports.iter().map(|it| it.port.to_string()).collect();
        return Err(Error::usage(format!("which port of {host}?")).hint(format!("it has: {}", names.join(", "))));
    }
    let ip = host_address(lab, from, host)
        .ok_or_else(|| Error::usage(format!("there is no node, pod, service or client {host}")).hint(example))?;
    let named = |name: &str| {
        let pod = lab.pod_ids().find(|id| lab.pod(*id).full_name() == host)?;
        let target = TargetPort::Name(name.parse().ok()?);
        target.resolve(lab.pod(pod), protocol.unwrap_or(Protocol::Tcp))
    };
    let number = port.and_then(|port| port.parse().ok().or_else(|| named(port))).filter(|number| *number > 0);
    let number = number.ok_or_else(|| Error::usage(format!("{said} has no port")).hint(example))?;
    Ok((SocketAddr::new(ip, number), protocol.unwrap_or(Protocol::Tcp)))
}

/// A Service by its name, as any part of its DNS name.
fn service(lab: &Lab, host: &str) -> Option<crate::lab::model::ServiceId> {
    let name = host.strip_suffix(lab.cluster.domain.as_str()).and_then(|name| name.strip_suffix('.')).unwrap_or(host);
    let (name, certain) = name.strip_suffix(".svc").map_or((name, false), |name| (name, true));
    let short = name.strip_suffix(".default").unwrap_or(name);
    let found = lab.service_ids().find(|id| lab.service(*id).full_name() == short)?;
    (certain || lab.find(host).is_none()).then_some(found)
}

fn host_address(lab: &Lab, from: Place, host: &str) -> Option<IpAddr> {
    if let Ok(ip) = host.parse() {
        return Some(ip);
    }
    if host == "localhost" {
        return Some(Ipv4Addr::LOCALHOST.into());
    }
    let place = lab.find(host)?;
    Some(match place {
        // `host` has an address on each client's network; a client means that.
        Place::Host => match from {
            Place::Client(client) => lab.client(client).ip.trunc().hosts().next()?,
            _ => lab.cluster.gateway,
        },
        Place::Node(node) => lab.node(node).ip,
        Place::Pod(pod) => lab.pod(pod).ip,
        Place::Client(client) => lab.client(client).ip.addr(),
        Place::LoadBalancer => lab.load_balancer.as_ref()?.ip,
        Place::External(external) => *lab.external(external).ips.first()?,
    })
}

/// The real connection, and where to listen.
fn order(lab: &Lab, question: &Question, story: &Story, args: &args::Trace) -> Result<TapOrder> {
    let timeout_ms = u32::try_from(args.timeout.as_millis()).unwrap_or(u32::MAX);
    let to = question.to;
    let what = match question.protocol {
        Protocol::Tcp => What::Http { to, path: "/".to_owned(), timeout_ms },
        Protocol::Udp => What::Udp { to, timeout_ms },
        Protocol::Sctp => return Err(Error::usage("the built-in client does not speak SCTP")),
    };
    let endpoints: BTreeSet<SocketAddr> =
        story.ways.iter().map(|way| way.endpoint).filter(|endpoint| *endpoint != to).collect();
    Ok(TapOrder {
        order: Order::new(lab.netns(question.from), what, 1),
        nodes: lab.nodes.iter().filter(|node| !node.state.stopped).map(|node| node.name.to_string()).collect(),
        endpoints: endpoints.into_iter().collect(),
    })
}

fn listen(directory: &Directory, order: &TapOrder) -> Result<Tapped> {
    match link::ask_once(directory, &Request::Trace(order.clone()))? {
        Reply::Traced(tapped) => Ok(tapped),
        _ => Err(Error::bug("a trace was asked for, and something else was given")),
    }
}
