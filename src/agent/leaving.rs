//! Pods on their way out: each ends in its own time, and nobody's change has to wait for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use tokio::{runtime, task};

use super::{
    changing::turn_into,
    protocol::Problem,
    readiness,
    state::{State, Told},
};
use crate::{
    error::Error,
    kernel::turnover::{Parting, linger},
    lab::model::{Lab, Pod},
};

/// A pod's end, for whoever waits for it.
type Farewell = Shared<BoxFuture<'static, Result<(), Problem>>>;

/// The pods that are on their way out.
#[derive(Default)]
pub(super) struct Farewells {
    ends: Mutex<BTreeMap<String, Farewell>>,
    /// Those whose servers have ended, and whose namespaces are still there.
    ended: Mutex<BTreeSet<String>>,
}

impl Farewells {
    fn ends(&self) -> MutexGuard<'_, BTreeMap<String, Farewell>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ended(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a pod of a lab is let go.
pub(super) fn parting(lab: &Lab, pod: &Pod) -> Parting {
    // Nothing of what loses its power ends politely.
    if lab.node(pod.node).state.stopped {
        return Parting::default();
    }
    let nodes = lab.nodes.iter().filter(|node| !node.state.stopped).map(|node| node.name.to_string()).collect();
    Parting { grace: pod.termination_grace_period, linger: linger(lab, pod), nodes, ip: Some(pod.ip) }
}

/// Lets pods end that are terminating: each for itself, whatever else happens to the lab.
pub(super) fn see_off(state: &Arc<State>, pods: Vec<(String, Parting)>) {
    for (pod, parting) in pods {
        let (state_then, name) = (Arc::clone(state), pod.clone());
        let end = async move {
            state_then.servers.end_pod(&name, parting).await;
            state_then.farewells.ended().insert(name.clone());
            let done = in_turn(&state_then, move |runtime, state| runtime.block_on(bury(&state, &name))).await;
            if let Err(problem) = &done {
                eprintln!("a pod that has ended is still there: {}", problem.message);
            }
            done
        };
        let end = end.boxed().shared();
        // It goes on even if nobody waits for it.
        tokio::spawn(end.clone());
        state.farewells.ends().insert(pod, end);
    }
}

/// Waits until pods that were terminating are gone, and what waited for them is there.
///
/// # Errors
///
/// When the kernel or a tool refuses what has to happen then.
pub(super) async fn gone(state: &State, pods: BTreeSet<String>) -> Result<(), Problem> {
    let ends: Vec<Farewell> = pods.iter().filter_map(|pod| state.farewells.ends().get(pod).cloned()).collect();
    futures::future::join_all(ends).await.into_iter().collect()
}

/// Takes away what is left of all pods that have ended by now, and lets those come who waited for them;
/// whoever calls has the turn.
async fn bury(state: &Arc<State>, pod: &str) -> Result<(), Problem> {
    let ended = std::mem::take(&mut *state.farewells.ended());
    if ended.is_empty() {
        // Another one of them has done it for all.
        let still_there = state.told().overrides.is_leaving(pod);
        let error = || Error::refused(format!("{pod} has ended, and could not be taken away")).into();
        return if still_there { Err(error()) } else { Ok(()) };
    }
    let buried = bury_all(state, &ended).await;
    match &buried {
        // The next one tries again.
        Err(_) if ended.iter().any(|pod| state.told().overrides.is_leaving(pod)) => {
            state.farewells.ended().extend(ended);
        }
        _ => state.farewells.ends().retain(|pod, _| !ended.contains(pod)),
    }
    buried
}

async fn bury_all(state: &Arc<State>, ended: &BTreeSet<String>) -> Result<(), Problem> {
    let mut told = state.told();
    told.overrides.are_gone(ended);
    let empty = told.overrides.over(&told.whole);
    let told_then = told.clone();
    turn_into(state, &state.now(), empty, || state.is_told(told_then)).await?;
    told.overrides.make_way(ended);
    readiness::judge(state, &mut told.overrides, &BTreeSet::new(), &told.whole);
    let lab = told.overrides.over(&told.whole);
    let comes: Vec<String> = {
        let there: BTreeSet<String> = state.now().lab.pods.iter().map(Pod::full_name).collect();
        lab.pods.iter().map(Pod::full_name).filter(|pod| !there.contains(pod)).collect()
    };
    if comes.is_empty() {
        return Ok(state.is_told(told)?);
    }
    let came = turn_into(state, &state.now(), lab, || state.is_told(told.clone())).await.map(|_| ());
    if came.is_err() {
        give_up(state, told, &comes)?;
    }
    came
}

/// The lab is without what could not come; applying the file tries it again.
fn give_up(state: &State, mut told: Told, pods: &[String]) -> Result<(), Problem> {
    pods.iter().for_each(|pod| told.overrides.delete(pod));
    Ok(state.is_told(told)?)
}

/// Waits for the turn to change the lab, and does it to the end, even if whoever asked for it has gone. A
/// change holds what cannot move between threads; who waits holds no thread, of which there are not
/// that many.
pub(super) async fn in_turn<T: Send + 'static>(
    state: &Arc<State>,
    work: impl FnOnce(runtime::Handle, Arc<State>) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let (turn, state, runtime) = (state.turn().await, Arc::clone(state), runtime::Handle::current());
    let done = task::spawn_blocking(move || {
        let _turn = turn;
        work(runtime, state)
    })
    .await;
    done.unwrap_or_else(|panic| Err(Error::bug(panic.to_string()).into()))
}
