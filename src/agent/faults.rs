//! What is done to the nodes of a running lab, or with them: cordoned, drained, unplugged, powered off.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::timeout;

use super::{
    changing::{self, Became, can_be, turn_into},
    leaving::in_turn,
    protocol::{Applied, NodeOrder, Problem},
    state::{Now, State, Told},
};
use crate::{
    error::{Error, Result},
    kernel::{events::Events, haproxy, power},
    lab::{
        Overrides,
        difference::{Difference, How, differences},
        model::{BalancerEngine, Lab, NodeId, NodeState, Place},
    },
    plan::{
        change,
        step::{Link, Plan, Step},
    },
};

/// Pulled cables that the control plane is about to notice: by node, the number of the pull.
#[derive(Debug, Default)]
pub(super) struct Notices(Mutex<(u64, BTreeMap<String, u64>)>);

impl Notices {
    /// The cable was pulled, and will be noticed; the next pull, or none, counts instead of this one.
    fn expect(&self, node: &str) -> u64 {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.0 += 1;
        let number = held.0;
        held.1.insert(node.to_owned(), number);
        number
    }

    fn forget(&self, node: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.remove(node);
    }

    fn expects(&self, node: &str, number: u64) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.get(node) == Some(&number)
    }
}

/// Does something to nodes, all of them or none; comes back when it is so. What is so already is left
/// alone.
///
/// # Errors
///
/// When there is no such node, the rules cannot express what is left, or the kernel or a tool refuses.
pub(super) async fn carry_out(
    state: Arc<State>,
    nodes: Vec<String>,
    order: NodeOrder,
) -> Result<(Applied, BTreeSet<String>), Problem> {
    in_turn(&state, move |runtime, state| {
        runtime.block_on(async {
            let nodes: BTreeSet<String> = nodes.into_iter().collect();
            must_know(&state.now().lab, &nodes)?;
            let mut told = state.told();
            for node in &nodes {
                let after = after(told.overrides.node(node), order);
                told.overrides.set_node(node, after);
            }
            if order == NodeOrder::Drain {
                move_away(&state.now().lab, &mut told, &nodes)?;
            }
            let Became { differences, leaving } = become_so(&state, told, &nodes).await?;
            match order {
                NodeOrder::Unplug { notice: Some(millis) } if millis > 0 => {
                    nodes.iter().for_each(|node| notice(&state, node, Duration::from_millis(millis)));
                }
                NodeOrder::Unplug { .. } | NodeOrder::Plug => nodes.iter().for_each(|node| state.notices.forget(node)),
                _ => {}
            }
            if matches!(order, NodeOrder::Plug | NodeOrder::Start) {
                greet(&state.now().lab, &nodes).await;
            }
            if matches!(order, NodeOrder::Stop | NodeOrder::Start) && !differences.is_empty() {
                balancer_finds_out(&state.now().lab, &nodes).await;
            }
            Ok((Applied { differences }, leaving))
        })
    })
    .await
}

fn must_know(lab: &Lab, nodes: &BTreeSet<String>) -> Result<()> {
    match nodes.iter().find(|name| find(lab, name).is_none()) {
        None => Ok(()),
        Some(name) => {
            Err(Error::usage(format!("there is no node {name} in this lab")).hint("netlab get nodes lists them"))
        }
    }
}

fn find(lab: &Lab, name: &str) -> Option<NodeId> {
    lab.node_ids().find(|id| lab.node(*id).name.as_str() == name)
}

/// How a node is when it was done.
fn after(mut state: NodeState, order: NodeOrder) -> NodeState {
    match order {
        NodeOrder::Cordon | NodeOrder::Drain => state.cordoned = true,
        NodeOrder::Uncordon => state.cordoned = false,
        NodeOrder::Unplug { notice } => {
            state.unplugged = true;
            // Nobody hears of one that is powered off.
            state.unheard |= state.stopped || notice == Some(0);
        }
        NodeOrder::Plug => {
            state.unplugged = false;
            state.unheard = false;
        }
        NodeOrder::Stop => {
            state.stopped = true;
            state.unheard = state.unplugged;
        }
        NodeOrder::Start => state.stopped = false,
    }
    state
}

/// The pods on these nodes that could be elsewhere are placed anew.
fn move_away(lab: &Lab, told: &mut Told, nodes: &BTreeSet<String>) -> Result<(), Problem> {
    let there = |name: &str| {
        lab.pods.iter().any(|pod| pod.full_name() == name && nodes.contains(lab.node(pod.node).name.as_str()))
    };
    let kept = told.kept();
    let without = changing::load(&told.text, &told.whole, &kept.clone().evicting(there))?;
    // Those that must be there because the file says so keep what they have.
    let elsewhere = |name: &str| {
        let node =
            |lab: &Lab| lab.pods.iter().find(|pod| pod.full_name() == name).map(|pod| lab.node(pod.node).name.clone());
        node(&without) != node(&told.whole)
    };
    let whole = changing::load(&told.text, &told.whole, &kept.evicting(elsewhere))?;
    // What comes again elsewhere is another pod.
    change::replaced(&told.whole, &whole).iter().for_each(|pod| told.overrides.forget(pod));
    told.whole = Arc::new(whole);
    Ok(())
}

/// Makes the lab what it is told; whoever calls has the turn.
async fn become_so(state: &Arc<State>, mut told: Told, nodes: &BTreeSet<String>) -> Result<Became, Problem> {
    told.overrides.keep_known(&told.whole);
    let was = state.now();
    let lab = told.overrides.over(&told.whole);
    let changes = differences(&was.lab, &lab);
    let at_once = |differences| Ok(Became { differences, leaving: BTreeSet::new() });
    if changes.is_empty() {
        return at_once(changes);
    }
    can_be(&lab)?;
    let before = state.told().overrides;
    let events = state.servers.events();
    let tell = |news| {
        let news = news_of(&lab, &before, &told.overrides, nodes).into_iter().filter(|it| it.tone == news);
        news.for_each(|it| it.tell(events));
    };
    let (bad, good) = (Tone::Bad, Tone::Good);
    tell(bad);
    if changes.iter().all(|it| it.kind == "node" && it.how == How::Changed(vec!["cordoned".to_owned()])) {
        // Nothing in the kernel knows of that.
        state.becomes(Now { lab: Arc::new(lab.clone()), ..was });
        state.is_told(told.clone())?;
        tell(good);
        return at_once(changes);
    }
    if lab.nodes.iter().map(|node| node.state.stopped).eq(was.lab.nodes.iter().map(|node| node.state.stopped)) {
        // Pods that are placed elsewhere end in their own time.
        let became = changing::become_so(state, told.clone()).await?;
        tell(good);
        return Ok(became);
    }
    let turned = turn(state, &was, &lab, &told).await?;
    tell(good);
    at_once(turned)
}

/// From a lab to another one, of which some machines may lose their power, or get it back.
async fn turn(state: &State, was: &Now, lab: &Lab, told: &Told) -> Result<Vec<Difference>, Problem> {
    let goes_off = |id: &NodeId| {
        let before = find(&was.lab, lab.node(*id).name.as_str());
        lab.is_off(Place::Node(*id)) && before.is_some_and(|before| !was.lab.is_off(Place::Node(before)))
    };
    let going: BTreeSet<NodeId> = lab.node_ids().filter(goes_off).collect();
    let cables: Vec<(Link, Link)> =
        going.iter().filter_map(|id| cable(&was.plan, lab.node(*id).name.as_str())).collect();
    let pods = lab.pods.iter().filter(|pod| going.contains(&pod.node));
    let pods: BTreeMap<String, String> =
        pods.map(|pod| (pod.full_name(), lab.node(pod.node).name.to_string())).collect();
    let parked = state.servers.parked();
    let mut cut = Vec::new();
    let turned = async {
        // From here on nothing comes from there any more, whatever still runs there.
        for (near, far) in &cables {
            power::unplug(near, far).await?;
        }
        turn_into(state, was, lab.clone(), || {
            cut = state.servers.cut_power(&pods);
            state.is_told(told.clone())
        })
        .await
    };
    let turned = turned.await;
    let has_become = cut.is_empty() && Arc::ptr_eq(&state.now().lab, &was.lab);
    if turned.is_err() && has_become {
        plug_as_before(was).await;
        state.servers.park(parked);
    }
    state.servers.park(cut);
    turned
}

/// A change was refused: every cable is as it was.
async fn plug_as_before(was: &Now) {
    for node in &was.lab.nodes {
        let Some((near, far)) = cable(&was.plan, node.name.as_str()) else { continue };
        let done = match node.state.unplugged {
            true => power::unplug(&near, &far).await,
            false => power::plug(&near, &far).await,
        };
        if let Err(error) = done {
            eprintln!("the cable of {} is not as it was: {error}", node.name);
        }
    }
}

/// The two ends of a node's cable to the LAN.
fn cable(plan: &Plan, node: &str) -> Option<(Link, Link)> {
    plan.stages.iter().flat_map(|stage| &stage.steps).find_map(|it| match &it.step {
        Step::Cable { near, far, .. } if far.netns == node => Some((near.clone(), far.clone())),
        _ => None,
    })
}

/// After that time the control plane takes the node for not ready, unless its cable is plugged in again.
fn notice(state: &Arc<State>, node: &str, time: Duration) {
    let (state, node) = (Arc::clone(state), node.to_owned());
    let number = state.notices.expect(&node);
    tokio::spawn(async move {
        // The time is what was asked for.
        tokio::time::sleep(time).await;
        let noticed = in_turn(&state, move |runtime, state| {
            runtime.block_on(async {
                let mut told = state.told();
                let mut it = told.overrides.node(&node);
                if !it.unplugged || !state.notices.expects(&node, number) {
                    return Ok(());
                }
                it.unheard = true;
                told.overrides.set_node(&node, it);
                become_so(&state, told, &[node].into()).await.map(|_| ())
            })
        });
        if let Err(problem) = noticed.await {
            eprintln!("a node whose link is down stays ready: {}", problem.message);
        }
    });
}

/// Has nodes talk to those who may have looked for them in vain.
async fn greet(lab: &Lab, nodes: &BTreeSet<String>) {
    let present = |state: NodeState| !state.stopped && !state.unplugged;
    let machines: Vec<IpAddr> = std::iter::once(lab.cluster.gateway)
        .chain(lab.load_balancer.iter().map(|balancer| balancer.ip))
        .chain(lab.nodes.iter().filter(|node| present(node.state)).map(|node| node.ip))
        .collect();
    for node in lab.nodes.iter().filter(|node| nodes.contains(node.name.as_str()) && present(node.state)) {
        let others: Vec<IpAddr> = machines.iter().copied().filter(|ip| *ip != node.ip).collect();
        if let Err(error) = power::greet(node.name.as_str(), &others).await {
            eprintln!("{}: {error}", node.name);
        }
    }
}

/// HAProxy asks the nodes by itself, and takes some seconds to believe what they say; the built-in load
/// balancer has been told.
async fn balancer_finds_out(lab: &Lab, nodes: &BTreeSet<String>) {
    if lab.load_balancer.as_ref().is_none_or(|balancer| balancer.engine != BalancerEngine::Haproxy) {
        return;
    }
    let these = |off: bool| {
        let these = lab.nodes.iter().filter(move |node| nodes.contains(node.name.as_str()) && !node.state.unplugged);
        these.filter(move |node| node.state.stopped == off).map(|node| node.name.to_string()).collect()
    };
    if timeout(LONGEST_DOUBT, haproxy::finds_out(&these(true), &these(false))).await.is_err() {
        eprintln!("HAProxy has not found out within {LONGEST_DOUBT:?} which nodes are off");
    }
}

/// HAProxy's checks are seconds apart.
const LONGEST_DOUBT: Duration = Duration::from_secs(20);

/// Whether it is told before or after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tone {
    /// At once.
    Bad,
    /// When all is well again.
    Good,
}

/// Something that happens to a node, or to a pod because of it.
struct News {
    tone: Tone,
    object: String,
    reason: &'static str,
    message: &'static str,
}

impl News {
    fn tell(self, events: &Events) {
        match self.tone {
            Tone::Bad => events.warning(self.object, self.reason, self.message),
            Tone::Good => events.normal(self.object, self.reason, self.message),
        }
    }
}

fn news_of(lab: &Lab, before: &Overrides, after: &Overrides, nodes: &BTreeSet<String>) -> Vec<News> {
    let mut all = Vec::new();
    for node in nodes {
        let (was, is) = (before.node(node), after.node(node));
        let mut tell = |is: bool, was: bool, bad: (&'static str, &'static str), good: (&'static str, &'static str)| {
            if is != was {
                let (tone, (reason, message)) = if is { (Tone::Bad, bad) } else { (Tone::Good, good) };
                all.push(News { tone, object: format!("node/{node}"), reason, message });
            }
        };
        tell(
            is.unplugged,
            was.unplugged,
            ("LinkDown", "its cable to the LAN is pulled"),
            ("LinkUp", "its cable to the LAN is plugged in again"),
        );
        tell(is.stopped, was.stopped, ("NodeStopped", "is powered off"), ("NodeStarted", "runs again"));
        tell(
            !is.is_ready(),
            !was.is_ready(),
            ("NodeNotReady", "is not ready: its pods are no endpoints"),
            ("NodeReady", "is ready"),
        );
        if is.cordoned != was.cordoned {
            let (reason, message) = match is.cordoned {
                true => ("Cordoned", "no pod is placed here that could be elsewhere"),
                false => ("Uncordoned", "pods are placed here again"),
            };
            all.push(News { tone: Tone::Good, object: format!("node/{node}"), reason, message });
        }
        if was.is_ready() && !is.is_ready() {
            let pods = lab.pods.iter().filter(|pod| lab.node(pod.node).name.as_str() == node);
            let of_pod = |name| News {
                tone: Tone::Bad,
                object: format!("pod/{name}"),
                reason: "NodeNotReady",
                message: "its node is not ready",
            };
            all.extend(pods.map(|pod| of_pod(pod.full_name())));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_is_undone_by_its_opposite() {
        let fresh = NodeState::default();
        for (one, other) in [
            (NodeOrder::Cordon, NodeOrder::Uncordon),
            (NodeOrder::Drain, NodeOrder::Uncordon),
            (NodeOrder::Unplug { notice: None }, NodeOrder::Plug),
            (NodeOrder::Unplug { notice: Some(0) }, NodeOrder::Plug),
            (NodeOrder::Stop, NodeOrder::Start),
        ] {
            let done = after(fresh, one);
            assert_ne!(done, fresh, "{one:?}");
            assert_eq!(after(done, one), done, "{one:?} twice");
            assert_eq!(after(done, other), fresh, "{one:?} and {other:?}");
        }
    }

    #[test]
    fn a_node_that_starts_without_its_cable_is_not_heard_of() {
        let cut = after(NodeState::default(), NodeOrder::Unplug { notice: None });
        assert!(cut.is_ready());
        let off = after(cut, NodeOrder::Stop);
        let on = after(off, NodeOrder::Start);
        assert!(!off.is_ready() && on.unplugged && !on.is_ready());
        assert_eq!(after(on, NodeOrder::Plug), NodeState::default());
        let pulled_later = after(after(NodeState::default(), NodeOrder::Stop), NodeOrder::Unplug { notice: None });
        assert!(!after(pulled_later, NodeOrder::Start).is_ready());
    }

    #[test]
    fn the_last_pull_counts() {
        let notices = Notices::default();
        let first = notices.expect("node1");
        let second = notices.expect("node1");
        assert!(!notices.expects("node1", first) && notices.expects("node1", second));
        notices.forget("node1");
        assert!(!notices.expects("node1", second));
    }
}
