//! The verdicts of readiness probes become what the lab is: rules, names, health checks and the load
//! balancer follow them, as they follow a file that says `ready = false`.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::time::{Instant, timeout_at};

use super::{
    Control,
    changing::{can_be, turn_into},
    leaving::in_turn,
    protocol::{Event, Problem, Unready, Waiting},
    state::{Now, State},
};
use crate::{
    error::{Error, Result},
    lab::{
        Overrides,
        model::{Lab, Pod},
    },
    plan::change::Change,
    proxy::handover::heirs,
};

/// So long an `apply` waits for those who take the place of others; as long as `up` does by itself.
const LONGEST_HANDOVER: Duration = Duration::from_secs(60);

/// Makes the lab follow the verdicts, for as long as it lives. What comes while a change is under way
/// becomes one change together.
pub(super) async fn follow(state: Arc<State>) {
    let verdicts = state.servers.verdicts();
    let mut news = verdicts.news();
    loop {
        // Before anybody waits for a turn, and before a thread is taken for it.
        if is_news(&state) {
            let followed = in_turn(&state, |runtime, state| runtime.block_on(come_to_terms(&state)));
            match followed.await {
                Ok(true) => verdicts.touch(),
                Ok(false) => {}
                Err(problem) => eprintln!("the lab does not follow its readiness probes: {}", problem.message),
            }
        }
        if news.changed().await.is_err() {
            return;
        }
    }
}

/// The verdicts are not those that the lab was told.
fn is_news(state: &State) -> bool {
    let unready = state.servers.verdicts().unready(&state.now().lab);
    state.told().overrides.are_unproven(unready)
}

/// Makes the lab what the verdicts say; whoever calls has the turn. Says whether they were news.
async fn come_to_terms(state: &State) -> Result<bool, Problem> {
    if !is_news(state) {
        return Ok(false);
    }
    let mut told = state.told();
    let before = told.overrides.clone();
    judge(state, &mut told.overrides, &BTreeSet::new(), &told.whole);
    told.overrides.keep_known(&told.whole);
    let lab = told.overrides.over(&told.whole);
    can_be(&lab)?;
    turn_into(state, &state.now(), lab, || state.is_told(told)).await?;
    Ok(state.told().overrides != before)
}

/// Tells a lab to come what the probes say: of pods that stay, their verdicts; and nothing good yet of
/// those that are new or replaced. Where the rules cannot express that, which only the ladder's cannot,
/// pods stay as they are.
pub(super) fn judge(state: &State, overrides: &mut Overrides, replaced: &BTreeSet<String>, whole: &Lab) {
    let was = state.now().lab;
    let mut judged = overrides.clone();
    judged.are_unproven(state.servers.verdicts().unready(&was));
    judged.expect_proof(&was, replaced, whole);
    judged.keep_known(whole);
    if can_be(&judged.over(whole)).is_ok() {
        *overrides = judged;
    }
}

/// The lab as it is before its first probe.
pub(super) fn at_first(whole: &Lab) -> Overrides {
    let mut overrides = Overrides::default();
    if whole.probed().next().is_none() {
        return overrides;
    }
    overrides.are_unproven(whole.probed().map(|pod| pod.full_name()).collect());
    if can_be(&overrides.over(whole)).is_ok() { overrides } else { Overrides::default() }
}

/// Waits until every pod has proved itself that its file wants to be ready, and the lab follows; tells
/// `up` meanwhile who has not.
pub(super) async fn proven(state: &State, control: &Control) {
    let verdicts = state.servers.verdicts();
    let mut news = verdicts.news();
    loop {
        let told = state.told();
        let unready = verdicts.unready(&state.now().lab);
        let is_wanted = |pod: &String| told.overrides.ready(pod).is_none() && !told.overrides.is_leaving(pod);
        let wanted = told.whole.probed().filter(|pod| pod.ready && !pod.terminating).map(|pod| pod.full_name());
        let is_missing = |pod: &String| unready.contains(pod) || told.overrides.unproven().contains(pod);
        let names: BTreeSet<String> = wanted.filter(is_wanted).filter(is_missing).collect();
        if names.is_empty() {
            return;
        }
        control.tell(&Event::Waiting(waiting(state, &told.whole, &names)));
        if news.changed().await.is_err() {
            return;
        }
    }
}

/// Pods that have not proved themselves, and why.
fn waiting(state: &State, lab: &Lab, names: &BTreeSet<String>) -> Waiting {
    let verdicts = state.servers.verdicts();
    let why = |pod: &Pod| {
        let mut containers = pod.containers.iter().map(|it| (pod.full_name(), it.name.to_string()));
        containers.find_map(|server| verdicts.of(&server).filter(|status| !status.ready)?.failure)
    };
    let pods = lab.probed().filter(|pod| names.contains(&pod.full_name())).take(Waiting::MOST);
    let first = pods.map(|pod| Unready { pod: pod.full_name(), failure: why(pod) }).collect();
    Waiting { count: names.len(), first }
}

/// Waits until those have proved themselves who take the place of ready pods that go, so that no Service
/// is without them meanwhile; gives back what the lab shall then be.
///
/// While it waits, the lab follows the probes of those that are there, if it `may`.
///
/// # Errors
///
/// When they do not in time.
pub(super) async fn handed_over(
    state: &State,
    (was, now): (&Now, &Now),
    change: &Change,
    leaving: &BTreeSet<String>,
) -> Result<Now, Problem> {
    let mut gone: BTreeSet<String> = change.gone_pods.difference(leaving).cloned().collect();
    let terminating =
        |lab: &Lab| -> BTreeSet<String> { lab.pods.iter().filter(|pod| pod.terminating).map(Pod::full_name).collect() };
    gone.extend(terminating(&now.lab).difference(&terminating(&was.lab)).cloned());
    let heirs = heirs(&was.lab, &now.lab, &gone, &change.new_pods);
    if heirs.is_empty() {
        return Ok(now.clone());
    }
    let names: BTreeSet<String> = heirs.iter().map(|id| now.lab.pod(*id).full_name()).collect();
    let deadline = Instant::now() + LONGEST_HANDOVER;
    let mut news = state.servers.verdicts().news();
    loop {
        let unready = state.servers.verdicts().unready(&now.lab);
        let late: BTreeSet<String> = names.intersection(&unready).cloned().collect();
        if late.is_empty() {
            break;
        }
        if leaving.is_empty() {
            // Nobody knows of those to come yet, so that nothing of this is about them.
            Box::pin(come_to_terms(state)).await?;
        }
        if timeout_at(deadline, news.changed()).await.is_err() {
            return Err(too_late(&waiting(state, &now.lab, &late)).into());
        }
    }
    let mut lab = (*now.lab).clone();
    for id in heirs {
        let pod = &mut lab.pods[id.0];
        (pod.ready, pod.unproven) = (true, false);
        state.servers.events().normal(format!("pod/{}", pod.full_name()), "Ready", "is ready");
    }
    Ok(Now::after(now, Arc::new(lab)))
}

fn too_late(waiting: &Waiting) -> Error {
    let limit = LONGEST_HANDOVER.as_secs();
    let error = Error::refused(format!("not ready after {limit}s: {waiting}; the change was undone"));
    error.hint("until who is new is ready, those whose place it takes stay; see netlab events")
}

/// Writes down what the lab has become, where that is more than it was told: who was waited for is ready.
/// And has the verdicts looked at that came for new pods before the lab knew of them.
///
/// # Errors
///
/// When the directory cannot be written to.
pub(super) fn settle(state: &State, change: &Change) -> Result<()> {
    let mut told = state.told();
    let now = state.now().lab;
    let unproven = now.pods.iter().filter(|pod| pod.unproven).map(|pod| pod.full_name());
    let ready: BTreeSet<String> = now.probed().filter(|pod| pod.ready).map(|pod| pod.full_name()).collect();
    let ready: BTreeSet<String> = ready.into_iter().filter(|pod| told.overrides.ready(pod).is_none()).collect();
    let still: BTreeSet<String> = told.overrides.unproven().difference(&ready).cloned().chain(unproven).collect();
    if told.overrides.are_unproven(still) {
        state.is_told(told)?;
    }
    if !change.new_pods.is_empty() {
        state.servers.verdicts().touch();
    }
    Ok(())
}
