//! Puts right what differs from the plan, and touches nothing else.
//!
//! It looks, mends what it has found, and looks again: some differences show only when others are gone,
//! and what the kernel or a tool refuses is told at the end. Rules are mended by one transaction a node.

use std::time::Duration;

use futures::{StreamExt, stream};
use tokio::time::timeout;

use super::{
    events::Events,
    inspect::{self, Inspection, NodeRules},
    mend::mend,
    process::{Entrance, Processes},
    rules,
    serve::{ServerState, Servers},
    stale,
};
use crate::{
    agent::protocol::{Left, Repaired},
    error::{Error, Result},
    lab::model::{Lab, Place},
    plan::{
        mend::Mend,
        step::{Plan, Step},
    },
    probe::drift::{Drift, DriftKind},
};

/// It looks so often at most: for links, for what leads over them, and once more if a tool was killed.
const ROUNDS: usize = 4;
/// So many nodes at a time: a tool is a process.
const AT_ONCE: usize = 4;
/// How long a server that was started again may take until it listens.
const PATIENCE: Duration = Duration::from_secs(20);

/// A lab, and what holds it.
#[derive(Debug, Clone, Copy)]
pub struct Bench<'a> {
    /// How it shall be.
    pub lab: &'a Lab,
    /// Its plan.
    pub plan: &'a Plan,
    /// Its processes.
    pub processes: &'a Processes,
    /// Its servers.
    pub servers: &'a Servers,
    /// What is looked at.
    pub extent: Extent,
}

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Everything.
    All,
    /// Everything but the rules, which somebody else sees to.
    AllButRules,
}

impl Bench<'_> {
    async fn inspect(self) -> Result<Inspection> {
        match self.extent {
            Extent::All => inspect::inspect(self.lab, self.plan, self.processes, self.servers).await,
            Extent::AllButRules => inspect::all_but_rules(self.lab, self.plan, self.servers).await,
        }
    }
}

/// What [`repair`] would do.
///
/// # Errors
///
/// When the kernel's state cannot be read.
pub async fn rehearse(bench: Bench<'_>) -> Result<Repaired> {
    let found = bench.inspect().await?;
    let (foreign, ours): (Vec<Drift>, Vec<Drift>) = found.drifts().into_iter().partition(|drift| drift.foreign);
    let (left, mended) = ours.into_iter().partition(|drift| drift.kind == DriftKind::Namespace);
    let left: Vec<Drift> = left;
    let left = left.into_iter().map(|drift| left_over(bench.lab, drift, None)).collect();
    Ok(Repaired { mended, left, foreign, commands: commands(&found) })
}

/// Puts right what can be put right.
///
/// # Errors
///
/// When the kernel's state cannot be read.
pub async fn repair(bench: Bench<'_>) -> Result<Repaired> {
    let mut repaired = Repaired::default();
    let mut seen: Vec<Drift> = Vec::new();
    let mut refusals: Vec<(Drift, Error)> = Vec::new();
    let mut before: Vec<Drift> = Vec::new();
    for round in 0.. {
        let found = bench.inspect().await?;
        let (foreign, ours): (Vec<Drift>, Vec<Drift>) = found.drifts().into_iter().partition(|drift| drift.foreign);
        let stuck = ours == before && refusals.is_empty();
        if ours.is_empty() || stuck || round == ROUNDS {
            repaired.foreign = foreign;
            repaired.left = ours
                .into_iter()
                .map(|drift| {
                    let why = refusals.iter().find(|(refused, _)| *refused == drift).map(|(_, error)| error);
                    left_over(bench.lab, drift, why)
                })
                .collect();
            break;
        }
        seen.extend(ours.iter().filter(|drift| !seen.contains(drift)).cloned().collect::<Vec<_>>());
        repaired.commands.extend(commands(&found));
        refusals = carry_out(bench, &found).await;
        before = ours;
    }
    let is_left = |drift: &Drift| repaired.left.iter().any(|left| left.drift == *drift);
    repaired.mended = seen.into_iter().filter(|drift| !is_left(drift)).collect();
    tell(bench, &repaired);
    // A packet that went wrong on one node may have left a connection behind on another.
    if repaired.mended.iter().any(|drift| leads_packets(drift.kind)) {
        stale::forget_what_broke(bench.lab, bench.servers.events()).await?;
    }
    Ok(repaired)
}

/// Where such a thing was wrong, conntrack may have learned wrong ways.
fn leads_packets(kind: DriftKind) -> bool {
    match kind {
        DriftKind::Link
        | DriftKind::Address
        | DriftKind::Neighbour
        | DriftKind::Route
        | DriftKind::Sysctl
        | DriftKind::Rule => true,
        DriftKind::Namespace | DriftKind::Server | DriftKind::File => false,
    }
}

/// Mends what was found, and says what was refused.
async fn carry_out(bench: Bench<'_>, found: &Inspection) -> Vec<(Drift, Error)> {
    let mut refused: Vec<(Drift, Error)> = Vec::new();
    for it in ordered(found) {
        if let Err(error) = mend(it).await {
            eprintln!("{it}: {error}");
            let of = found.network.iter().filter(|finding| finding.mends.contains(it));
            refused.extend(of.map(|finding| (finding.drift.clone(), Error { hint: None, ..again(&error) })));
        }
    }
    let changing = found.rules.iter().map(|node| async move { (node, change(node, bench.processes).await) });
    let changed: Vec<(&NodeRules, Result<()>)> = stream::iter(changing).buffered(AT_ONCE).collect().await;
    for (node, error) in changed.into_iter().filter_map(|(node, done)| Some((node, done.err()?))) {
        let object = format!("node/{}", node.netns);
        bench.servers.events().warning(object, "Interrupted", format!("{error}; netlab looks what is there"));
        refused.extend(node.drifts.iter().map(|drift| (drift.clone(), again(&error))));
    }
    for (drift, given) in &found.files {
        refused.extend(given.write().err().map(|error| (drift.clone(), error)));
    }
    if !found.names.is_empty()
        && let Err(error) = bench.servers.tell_coredns(bench.lab).await
    {
        refused.extend(found.names.iter().map(|drift| (drift.clone(), again(&error))));
    }
    if let Some((drift, Step::ServeBalancer { netns, program })) = &found.balancer {
        let started = bench.servers.start_balancer(bench.lab, netns, program, bench.processes).await;
        refused.extend(started.err().map(|error| (drift.clone(), error)));
    }
    if !found.servers.is_empty() {
        bench.servers.start_again(PATIENCE).await;
    }
    refused
}

/// The same error, for another difference.
fn again(error: &Error) -> Error {
    Error { kind: error.kind, message: error.message.clone(), hint: error.hint.clone() }
}

/// All mends of the network, each once, in an order that works.
fn ordered(found: &Inspection) -> Vec<&Mend> {
    let mut all: Vec<&Mend> = Vec::new();
    for it in found.network.iter().flat_map(|finding| &finding.mends) {
        if !all.contains(&it) {
            all.push(it);
        }
    }
    all.sort_by_key(|it| it.order());
    all
}

async fn change(node: &NodeRules, processes: &Processes) -> Result<()> {
    let Some(text) = node.repair.clone() else { return Ok(()) };
    Ok(rules::change(Entrance::to_netns(&node.netns)?, node.proxy, node.loaded, text, processes).await?)
}

/// What is done about it, as a person would type it in `netlab shell`.
fn commands(found: &Inspection) -> Vec<String> {
    let mut commands: Vec<String> = ordered(found).into_iter().map(ToString::to_string).collect();
    for node in &found.rules {
        if let Some(text) = &node.repair {
            let tool = rules::command_line(node.proxy, node.loaded);
            commands.push(format!("ip netns exec {} {tool} <<'END'\n{text}END", node.netns));
        }
    }
    for (_, given) in &found.files {
        commands.push(format!("cat > {} <<'END'\n{}END", given.path.display(), given.text));
    }
    if !found.names.is_empty() {
        commands.push("# the files of CoreDNS are written again, and it reads them".to_owned());
    }
    let servers = found.servers.iter().chain(found.balancer.iter().map(|(drift, _)| drift));
    commands.extend(servers.map(|drift| format!("# {}: it is started now", drift.text)));
    commands
}

fn left_over(lab: &Lab, drift: Drift, why: Option<&Error>) -> Left {
    let again = "netlab up --replace with the lab's file builds all of it anew";
    let hint = match drift.kind {
        DriftKind::Namespace => match lab.find(&drift.netns) {
            Some(Place::Pod(_)) => {
                format!("netlab delete {}, and then netlab apply with the lab's file, make it anew", drift.netns)
            }
            _ => again.to_owned(),
        },
        DriftKind::Server => format!("netlab logs {} says what it printed", drift.netns),
        _ => again.to_owned(),
    };
    let why = match (why, drift.kind) {
        (Some(error), _) => error.message.clone(),
        (None, DriftKind::Namespace) => "a namespace that was lost cannot be put back".to_owned(),
        (None, DriftKind::Server) => "it was started again, and does not run".to_owned(),
        (None, _) => "it was put right, and is wrong again".to_owned(),
    };
    let hint = why_hint(&drift).unwrap_or(hint);
    Left { drift, why, hint }
}

fn why_hint(drift: &Drift) -> Option<String> {
    let mend = drift.mend.as_deref().filter(|_| drift.kind != DriftKind::Namespace)?;
    Some(format!("by hand, in netlab shell: {}", mend.replace('\n', "; ")))
}

fn tell(bench: Bench<'_>, repaired: &Repaired) {
    let events: &Events = bench.servers.events();
    for drift in &repaired.mended {
        events.normal(object(bench.lab, &drift.netns), "Repaired", format!("mended: {}", drift.text));
    }
    for left in &repaired.left {
        let message = format!("{}: {}", left.drift.text, left.why);
        events.warning(object(bench.lab, &left.drift.netns), "NotRepaired", message);
    }
}

/// What a difference is about, as events have it.
fn object(lab: &Lab, netns: &str) -> String {
    let kind = match lab.find(netns) {
        Some(Place::Node(_)) => "node",
        Some(Place::Pod(_)) => "pod",
        Some(Place::Client(_)) => "client",
        Some(Place::External(_)) => "external",
        Some(Place::LoadBalancer) => "loadbalancer",
        Some(Place::Host) | None => return netns.to_owned(),
    };
    format!("{kind}/{netns}")
}

impl Servers {
    /// Starts programs that wait to be started again, now; comes back when they listen or have ended once
    /// more.
    async fn start_again(&self, patience: Duration) {
        let waiting: Vec<_> = self
            .table()
            .iter()
            .filter(|(_, state)| matches!(*state.borrow(), ServerState::Waiting { .. }))
            .map(|(server, state)| (server.clone(), state.clone()))
            .collect();
        let started = waiting.into_iter().map(|(server, mut state)| {
            let (restarts, mut fallen) = (state.borrow().restarts(), self.fallen().news());
            async move {
                // Whoever is gone for good closes the channel, which is as much of an answer.
                let _ = state.wait_for(|state| state.restarts() > restarts).await;
                tokio::select! {
                    _ = state.wait_for(ServerState::is_down) => {}
                    _ = fallen.wait_for(|fallen| !fallen.contains(&server)) => {}
                }
            }
        });
        let started = futures::future::join_all(started.collect::<Vec<_>>());
        self.fallen().hurry();
        // One that neither listens nor ends is not waited for.
        let _ = timeout(patience, started).await;
    }
}
