//! `netlab verify --evidence DIR`: of failed probes, what a person needs to find out why: packets,
//! rules with counters, routes, connections, the way by the rules.

use std::{collections::BTreeMap, fs, net::SocketAddr, path::Path};

use super::super::trace::{texts, unreadable};
use crate::{
    agent::{
        directory::Directory,
        link,
        protocol::{Reply, Request},
    },
    diag::Colour,
    error::{Context, Error, Result},
    lab::model::{Lab, NodeId, Protocol},
    probe::{
        capture::{CaptureOrder, Captured, Look},
        suite::{Address, Probe, Suite},
    },
    proxy::trace::{
        Tracer,
        story::{self, Question},
    },
    report::{
        Report, evidence, pcapng,
        trace::{Form, render},
    },
};

/// A new or empty folder, or it is refused: what is in it may be somebody's.
///
/// # Errors
///
/// When there is something in it, or it cannot be made.
pub(super) fn folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|error| {
        Error::usage(format!("cannot make the folder {}: {error}", path.display()))
            .hint("name a folder in one that exists and that you may write to")
    })?;
    let mut entries = fs::read_dir(path).context(format!("cannot read the folder {}", path.display()))?;
    if entries.next().is_some() {
        let error = Error::usage(format!("the folder {} is not empty", path.display()));
        return Err(error.hint("evidence goes into a new or an empty folder: give another one, or empty it"));
    }
    Ok(())
}

/// Tries failed probes once more, takes down what there is, and says in the report where it is.
///
/// # Errors
///
/// When the agent cannot look, or the folder cannot be written to.
pub(super) fn keep(folder: &Path, lab: &Lab, directory: &Directory, suite: &Suite, report: &mut Report) -> Result<()> {
    let chosen: Vec<String> = evidence::chosen(report).into_iter().map(|probe| probe.id.clone()).collect();
    let mut rules = None;
    for (index, id) in chosen.iter().enumerate() {
        let Some(at) = report.probes.iter().position(|probe| probe.id == *id) else { continue };
        let Some(probe) = suite.probes.iter().find(|probe| probe.id == *id) else { continue };
        let Some(order) = evidence::order(probe) else { continue };
        let places = evidence::places(probe);
        let path = folder.join(evidence::folder(index + 1, id));
        fs::create_dir(&path).context(format!("cannot make the folder {}", path.display()))?;
        let captured = evidence::own(capture(directory, CaptureOrder { order, places: places.clone() })?);
        let packets =
            pcapng::render(&captured).map_err(|error| Error::bug(format!("cannot write packets: {error}")))?;
        write(&path, "packets.pcapng", &packets)?;
        write(&path, "probe.txt", evidence::summary(report, &report.probes[at], &captured).as_bytes())?;
        for look in look(directory, places)? {
            let Look { netns, rules, network, connections } = look;
            let files = [("rules", rules), ("network", network), ("conntrack", evidence::connections(&connections))];
            for (what, text) in files.into_iter().filter(|(_, text)| !text.is_empty()) {
                write(&path, &format!("{netns}.{what}.txt"), text.as_bytes())?;
            }
        }
        let texts = rules.get_or_insert_with(|| texts(lab, lab.cluster.proxy));
        if let Some(trace) = trace(lab, probe, texts)? {
            write(&path, "trace.txt", trace.as_bytes())?;
        }
        report.probes[at].evidence = Some(path.display().to_string());
    }
    Ok(())
}

fn capture(directory: &Directory, order: CaptureOrder) -> Result<Captured> {
    match link::ask_once(directory, &Request::Capture(order))? {
        Reply::Captured(captured) => Ok(captured),
        _ => Err(Error::bug("packets were asked for, and something else was given")),
    }
}

fn look(directory: &Directory, places: Vec<String>) -> Result<Vec<Look>> {
    match link::ask_once(directory, &Request::Look { places })? {
        Reply::Looked(looks) => Ok(looks),
        _ => Err(Error::bug("a look was asked for, and something else was given")),
    }
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = folder.join(name);
    fs::write(&path, bytes).context(format!("cannot write {}", path.display()))
}

/// The way of the probe's first connection by the rules that should be there, if it goes to one
/// address.
fn trace(lab: &Lab, probe: &Probe, texts: &BTreeMap<NodeId, String>) -> Result<Option<String>> {
    // A ping has no port.
    let Some((to, protocol)) = destination(probe).filter(|(to, _)| to.port() != 0) else { return Ok(None) };
    let Some(from) = probe.orders.first().and_then(|order| lab.find(&order.netns)) else { return Ok(None) };
    let question = Question { from, to, written: to.to_string(), protocol, proxy: lab.cluster.proxy };
    let tracer = Tracer::new(lab, question.proxy, texts).map_err(unreadable)?;
    let (story, _) = story::story(lab, &tracer, &question).map_err(unreadable)?;
    Ok(Some(render(&story, Form::Text(None), Colour::Off)))
}

fn destination(probe: &Probe) -> Option<(SocketAddr, Protocol)> {
    let protocol = probe.target.protocol;
    match &probe.target.address {
        Address::Socket(to) | Address::Asked(_, to) => Some((*to, protocol)),
        Address::Several(all) => Some((*all.first()?, protocol)),
        Address::Name(_, server) => Some((*server, Protocol::Udp)),
        Address::Url(_) => {
            let (_, to) = probe.orders.first()?.what.target()?;
            Some((to, protocol))
        }
    }
}
