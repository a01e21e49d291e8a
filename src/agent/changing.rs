//! Changes a lab that is up: from how it is to how it shall be.
//!
//! What is new is built first, then the rules lead there, then what is left over ends: nobody who
//! asks a Service notices. Only what comes again under the same name has to end before.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use tokio::runtime;

use super::{
    leaving,
    protocol::{Applied, Problem},
    readiness, repair,
    state::{Now, State, Told},
};
use crate::{
    dns::records,
    error::{Error, Result},
    kernel::{
        apply::{Applier, StepError},
        events::Events,
        netns, stale,
        stopwatch::Stopwatch,
        sync::{self, Means},
        turnover::Parting,
        view,
    },
    lab::{
        self, Kept,
        difference::{Difference, How, differences},
        model::{Lab, Pod, ProxyMode},
    },
    plan::{
        self, Allotted,
        change::{self, Change},
        step::{Plan, PlannedStep, StageName, Step},
    },
    proxy::ladder,
};

/// The one stage of a change.
const CHANGE: &str = "change";

/// Makes the lab what a text says, even if whoever asked for it has gone; says what has changed, and
/// which pods have to be gone for it to be so. `watch` notes where the time goes. Of a text that nobody has
/// `looked` at, only Services become others: nothing is done, and nothing said, if it is about more.
///
/// # Errors
///
/// When the text is no lab that this one can become; then nothing has changed. When the kernel or a
/// tool refuses half-way; then what was new is gone again.
pub(super) async fn apply(
    state: Arc<State>,
    (text, looked): (String, bool),
    watch: Stopwatch,
) -> Result<Option<(Applied, BTreeSet<String>)>, Problem> {
    let change = move |runtime: runtime::Handle, state: Arc<State>| {
        state.watch_with(watch);
        let became = runtime.block_on(become_what(&state, text, looked));
        state.watch_with(Stopwatch::default());
        became
    };
    leaving::in_turn(&state, change).await
}

async fn become_what(
    state: &Arc<State>,
    text: String,
    looked: bool,
) -> Result<Option<(Applied, BTreeSet<String>)>, Problem> {
    let was = state.now();
    let before = state.told();
    let watch = state.watch();
    let whole = watch.lap(CHANGE, "load", || match read_edited(&text, &before) {
        None if looked => load(&text, &before.whole, &before.kept()).map(Some),
        edited => Ok(edited),
    });
    let Some(whole) = whole?.map(Arc::new) else { return Ok(None) };
    let overrides = before.overrides.after_apply(&change::replaced(&was.lab, &whole));
    let became = become_so(state, Told { text, whole, overrides }).await?;
    // Others may be on their way out since an earlier change.
    Ok(Some((Applied { differences: became.differences }, state.told().overrides.leaving())))
}

/// What became of a lab that was told something.
pub(super) struct Became {
    /// What is different, once all that goes is gone.
    pub(super) differences: Vec<Difference>,
    /// The pods that began to terminate, and those for whose end others wait.
    pub(super) leaving: BTreeSet<String>,
}

/// Makes the lab what it is told; whoever calls has the turn. Pods that it shall not have any more are
/// terminating from then on, and go when their time has come.
pub(super) async fn become_so(state: &Arc<State>, mut told: Told) -> Result<Became, Problem> {
    let (was, before) = (state.now(), state.told());
    told.overrides.keep_known(&told.whole);
    let watch = state.watch();
    let wish = watch.lap(CHANGE, "overrides", || told.overrides.settled().over(&told.whole));
    can_be(&wish)?;
    let differences = watch.lap(CHANGE, "differences", || {
        let settled = before.overrides.settled().over(&before.whole);
        differences(&settled, &wish)
    });
    let leavers = watch.lap(CHANGE, "leavers", || leavers(&was.lab, &wish, &before, &told));
    let ready = leavers.iter().map(|(name, pod)| (name.clone(), pod.ready)).collect();
    told.overrides.leave(&before.text, &before.whole, ready);
    // Those that end before the lab changes come again as others.
    let mut replaced = change::replaced(&was.lab, &told.whole);
    replaced.retain(|pod| !told.overrides.is_leaving(pod));
    readiness::judge(state, &mut told.overrides, &replaced, &told.whole);
    let lab = told.overrides.over(&told.whole);
    let waited_for = told.overrides.leaving();
    let waits = |name: &String| leavers.contains_key(name) || wish.pods.iter().any(|pod| pod.is_called(name));
    let leaving = waited_for.into_iter().filter(waits).collect();
    let partings: Vec<(String, Parting)> =
        leavers.iter().map(|(name, pod)| (name.clone(), leaving::parting(&was.lab, pod))).collect();
    turn_into(state, &was, lab, || state.is_told(told)).await?;
    leaving::see_off(state, partings);
    Ok(Became { differences, leaving })
}

/// The pods that are there, shall not be (any more), and can stay for a while beside what comes.
fn leavers(was: &Lab, wish: &Lab, before: &Told, told: &Told) -> BTreeMap<String, Pod> {
    let ending = change::ending(was, wish);
    let pods = was.pods.iter().map(|pod| (pod.full_name(), pod));
    let pods = pods.filter(|(name, _)| ending.contains(name) && !before.overrides.is_leaving(name));
    let mut pods: BTreeMap<String, Pod> = pods.map(|(name, pod)| (name, pod.clone())).collect();
    let mut overrides = told.overrides.clone();
    overrides.leave(&before.text, &before.whole, pods.keys().map(|name| (name.clone(), true)).collect());
    // What would be another one cannot stay: it ends before the lab changes.
    let cannot = change::ending(was, &overrides.over(&told.whole));
    pods.retain(|name, _| !cannot.contains(name));
    pods
}

/// The rules can express the lab.
pub(super) fn can_be(lab: &Lab) -> Result<()> {
    if lab.cluster.proxy == ProxyMode::Ladder
        && let Some((_, message)) = ladder::cannot_express(lab).into_iter().next()
    {
        return Err(Error::usage(message).hint("apply the lab with another `proxy` in [cluster] first"));
    }
    Ok(())
}

/// Makes the lab another one; whoever calls has the turn. `settled` comes when it is so, and before
/// what is left over ends.
pub(super) async fn turn_into(
    state: &State,
    was: &Now,
    lab: Lab,
    settled: impl FnOnce() -> Result<()>,
) -> Result<Vec<Difference>, Problem> {
    let lab = Arc::new(lab);
    let watch = state.watch();
    let differences = watch.lap(CHANGE, "differences", || differences(&was.lab, &lab));
    let now = watch.lap(CHANGE, "plan", || Now::after(was, Arc::clone(&lab)));
    let events = state.servers.events();
    tell(&differences, &lab, events);
    let change = watch.lap(CHANGE, "change", || change::change((&was.lab, &was.plan), (&lab, &now.plan)));
    let turn = Turn { state, was, now: &now, change };
    let now = turn.take().await.inspect_err(|problem| {
        events.warning("lab", "Failed", format!("the change was undone: {}", problem.message));
    })?;
    if now.lab.dns.is_some() && !records::are_same(&was.lab, &now.lab) {
        events.normal("dns", "Reloaded", "names are those of the lab as it is now");
    }
    state.becomes(now.clone());
    watch.lap(CHANGE, "write down", settled)?;
    readiness::settle(state, &turn.change)?;
    turn.end_the_rest().await?;
    for gone in differences.iter().filter(|it| it.how == How::Removed) {
        events.normal(object(gone), "Removed", "is gone");
    }
    Ok(differences)
}

/// Reads a text as what the lab shall be; what was there in any way keeps what it has.
pub(super) fn read(text: &str, before: &Told) -> Result<Lab, Problem> {
    match read_edited(text, before) {
        Some(lab) => Ok(lab),
        None => load(text, &before.whole, &before.kept()),
    }
}

/// The same for a text that differs in some Services only, of which nothing else is read.
fn read_edited(text: &str, before: &Told) -> Option<Lab> {
    let (was, overrides) = (&before.whole, &before.overrides);
    let kept = |some: &Lab| overrides.kept(some).besides(&overrides.over(some));
    let mut lab = lab::load_edited((&before.text, was), text, &was.name, kept)?;
    lab.name = was.name.clone();
    Some(lab)
}

/// The same, where the things of the lab keep this.
pub(super) fn load(text: &str, was: &Lab, kept: &Kept) -> Result<Lab, Problem> {
    let mut lab = lab::load_after(text, &was.name, kept).map_err(|problems| {
        let first = problems.0.into_iter().next();
        let message = first.as_ref().map_or_else(String::new, |problem| format!(": {}", problem.message));
        match first.and_then(|problem| Some((problem.message, problem.hint?))) {
            // The file is good, and the lab cannot become so as it is now.
            Some((message, hint)) if hint.starts_with("netlab ") => Error::usage(message).hint(hint),
            _ => Error::usage(format!("the lab file is wrong{message}")).hint("netlab check FILE says where"),
        }
    })?;
    lab.name = was.name.clone();
    if let Some(key) = change::fixed(was, &lab) {
        let error =
            Error::usage(format!("`{key}` of [cluster] cannot change while the lab is up; nothing was touched"));
        return Err(error.hint("netlab up --replace FILE builds it anew").into());
    }
    Ok(lab)
}

/// One change on its way.
struct Turn<'a> {
    state: &'a State,
    was: &'a Now,
    now: &'a Now,
    change: Change,
}

impl Turn<'_> {
    /// Until the lab is as it shall be, but for what is left over; gives back what that is.
    async fn take(&self) -> Result<Now, Problem> {
        let Turn { state, was, now, .. } = self;
        let again = self.replaced();
        let mut from = Arc::clone(&was.plan);
        let mut synced = BTreeSet::new();
        if !again.is_empty() {
            // While they end they are terminating: used only where there is nothing else.
            let leaving = Now::after(was, Arc::new(terminating(&was.lab, &again)));
            let watch = state.watch();
            synced = sync::rules(&from, &leaving.plan, &BTreeSet::new(), self.means(&watch)).await.map_err(problem)?;
            from = leaving.plan;
            self.end(&again).await?;
        }
        let mut applier = Applier::new(Arc::clone(&now.lab), state.processes.clone(), state.servers.clone());
        let now = match self.hand_over(&mut applier, from, &again, &mut synced).await {
            Ok(now) => now,
            Err(problem) => {
                self.unbuild(&mut applier).await;
                // The lab may have followed its probes meanwhile.
                repair::put_back(state, &state.now()).await;
                return Err(problem);
            }
        };
        self.tell_rules(&synced);
        let watch = state.watch();
        let begun = watch.begin();
        stale::forget((&was.lab, &was.plan), (&now.lab, &now.plan), state.servers.events()).await?;
        watch.done(begun, CHANGE, "conntrack", String::new);
        let begun = watch.begin();
        state.servers.tell(&now.lab, &now.plan)?;
        state.servers.tell_balancer(&now.lab, &now.plan, &state.processes).await?;
        state.servers.tell_coredns(&now.lab).await?;
        view::know_again(&now.lab)?;
        watch.done(begun, CHANGE, "names", String::new);
        Ok(now)
    }

    /// Builds what is new, and has the rules lead there; gives back what the lab is then.
    async fn hand_over(
        &self,
        applier: &mut Applier,
        mut from: Arc<Plan>,
        again: &BTreeSet<String>,
        synced: &mut BTreeSet<String>,
    ) -> Result<Now, Problem> {
        let Turn { state, was, now, change } = self;
        let watch = state.watch();
        let begun = watch.begin();
        self.build(applier).await.map_err(problem)?;
        watch.done(begun, CHANGE, "build", String::new);
        let begun = watch.begin();
        let now = readiness::handed_over(state, (was, now), change, again).await?;
        watch.done(begun, CHANGE, "readiness", String::new);
        if again.is_empty() {
            from = state.now().plan;
        }
        let begun = watch.begin();
        synced.extend(sync::rules(&from, &now.plan, &change.gone, self.means(&watch)).await.map_err(problem)?);
        watch.done(begun, CHANGE, "rules", || format!("{} nodes", synced.len()));
        Ok(now)
    }

    fn means<'b>(&'b self, watch: &'b Stopwatch) -> Means<'b> {
        Means { processes: &self.state.processes, events: self.state.servers.events(), watch }
    }

    /// The nodes whose rules are others now.
    fn tell_rules(&self, nodes: &BTreeSet<String>) {
        for node in nodes {
            let node = format!("node/{node}");
            self.state.servers.events().normal(node, "RulesSynced", "its rules are those of the lab as it is now");
        }
    }

    async fn build(&self, applier: &mut Applier) -> Result<(), StepError> {
        applier.undo(&self.change.undone).await?;
        for stage in &self.change.made {
            applier.amend(stage).await?;
        }
        applier.set(&self.change.settings)?;
        applier.serve(&self.new_servers()).await
    }

    /// The servers of new pods, and of new machines outside.
    #[expect(
        clippy::mutable_key_type,
        reason = "what is written of rules when they are first read is no part of their hash"
    )]
    fn new_servers(&self) -> Vec<PlannedStep> {
        let had: HashSet<&Step> = servers(&self.was.plan).map(|it| &it.step).collect();
        let is_new = |step: &Step| match step {
            Step::Serve { pod, .. } => self.change.new_pods.contains(pod),
            Step::ServeOutside { netns, .. } | Step::ServeNames { netns } => {
                !had.contains(step) || self.change.gone.contains(netns)
            }
            Step::ServeBalancer { netns, .. } => self.is_new_place(netns),
            // Told or started when all is there.
            _ => false,
        };
        servers(&self.now.plan).filter(|it| is_new(&it.step)).cloned().collect()
    }

    fn is_new_place(&self, netns: &str) -> bool {
        let made = self.change.made.iter().filter(|stage| stage.name == StageName::Namespaces);
        made.flat_map(|stage| &stage.steps).any(|it| it.step.netns() == netns)
    }

    /// Takes away what was built for nothing. It was never used, so nobody misses it.
    async fn unbuild(&self, applier: &mut Applier) {
        let made = self.change.made.iter().filter(|stage| stage.name == StageName::Namespaces);
        for pod in &self.change.new_pods {
            let pod = self.now.lab.pod(*pod).full_name();
            self.state.servers.end_pod(&pod, Parting::default()).await;
            self.state.servers.forget_pod(&pod);
        }
        for step in made.flat_map(|stage| &stage.steps) {
            complain(self.state.servers.end_place(step.step.netns()));
        }
        let wiring: Vec<PlannedStep> = self.change.made.iter().rev().flat_map(|stage| &stage.steps).cloned().collect();
        let staying: Vec<PlannedStep> =
            wiring.into_iter().filter(|it| it.step.is_wiring() && netns::open(it.step.netns()).is_ok()).collect();
        complain(applier.undo(&staying).await.map_err(|error| error.error));
    }

    /// Names of pods and other places that end and come again.
    fn replaced(&self) -> BTreeSet<String> {
        let lab = &self.now.lab;
        let pods = lab.pod_ids().filter(|id| !lab.is_off(lab.pod_place(*id))).map(|id| lab.pod(id).full_name());
        let names = lab.present_places().into_iter().map(|place| lab.netns(place)).chain(pods);
        names.filter(|name| self.change.gone.contains(name) || self.change.gone_pods.contains(name)).collect()
    }

    /// Ends what does not come again.
    async fn end_the_rest(&self) -> Result<(), Problem> {
        let again = self.replaced();
        let gone = self.change.gone.union(&self.change.gone_pods).filter(|name| !again.contains(*name)).cloned();
        self.end(&gone.collect()).await
    }

    /// How a pod ends; at once if its node has lost its power.
    fn parting(&self, name: &str) -> Parting {
        let (was, now) = (&self.was.lab, &self.now.lab);
        if now.pod_ids().any(|id| now.pod(id).is_called(name) && now.is_off(now.pod_place(id))) {
            return Parting::default();
        }
        let pod = was.pods.iter().find(|pod| pod.is_called(name));
        pod.map_or_else(Parting::default, |pod| leaving::parting(was, pod))
    }

    /// Ends pods, then namespaces: a node's pods before the node.
    async fn end(&self, names: &BTreeSet<String>) -> Result<(), Problem> {
        let pods = || names.iter().filter(|name| self.change.gone_pods.contains(*name));
        // Most have ended before, outside of any turn.
        futures::future::join_all(pods().map(|pod| self.state.servers.end_pod(pod, self.parting(pod)))).await;
        pods().for_each(|pod| self.state.servers.forget_pod(pod));
        let mut applier =
            Applier::new(Arc::clone(&self.was.lab), self.state.processes.clone(), self.state.servers.clone());
        let unplugged = self.change.unplugged.iter().filter(|it| match &it.step {
            Step::Cable { far, .. } => names.contains(&far.netns),
            _ => false,
        });
        applier.undo(&unplugged.cloned().collect::<Vec<_>>()).await.map_err(problem)?;
        for netns in names.iter().filter(|name| self.change.gone.contains(*name)) {
            self.state.servers.end_place(netns)?;
        }
        Ok(())
    }
}

/// The lab, with some pods on their way out.
fn terminating(lab: &Lab, names: &BTreeSet<String>) -> Lab {
    let mut lab = lab.clone();
    for pod in &mut lab.pods {
        pod.terminating |= names.contains(&pod.full_name());
    }
    lab
}

fn servers(plan: &Plan) -> impl Iterator<Item = &PlannedStep> {
    steps(plan, StageName::Servers)
}

fn steps(plan: &Plan, name: StageName) -> impl Iterator<Item = &PlannedStep> {
    plan.stages.iter().filter(move |stage| stage.name == name).flat_map(|stage| &stage.steps)
}

/// `pod/web-1`, `cluster`.
fn object(difference: &Difference) -> String {
    match difference.name.as_str() {
        "" => difference.kind.clone(),
        name => format!("{}/{name}", difference.kind),
    }
}

/// What is different in a node whose state is another.
const OF_NODES: [&str; 4] = ["cordoned", "link", "power", "status"];

/// What a change is about to change; what goes is told when it has gone.
fn tell(differences: &[Difference], lab: &Lab, events: &Events) {
    for it in differences {
        let keys = match &it.how {
            How::Added => {
                events.normal(object(it), "Added", "is new");
                continue;
            }
            How::Removed => continue,
            How::Replaced(keys) => {
                events.normal(object(it), "Replaced", format!("is another one now: {}", keys.join(", ")));
                continue;
            }
            // Who did it to a node says so.
            How::Changed(keys) if it.kind == "node" && keys.iter().all(|key| OF_NODES.contains(&key.as_str())) => {
                continue;
            }
            How::Changed(keys) => keys,
        };
        let pod = lab.pods.iter().find(|pod| it.kind == "pod" && pod.full_name() == it.name);
        for key in keys {
            match (key.as_str(), pod) {
                ("ready", Some(pod)) if pod.ready => events.normal(object(it), "Ready", "is ready"),
                ("ready", Some(_)) => events.warning(object(it), "NotReady", "is not ready"),
                ("terminating", Some(pod)) if pod.terminating => {
                    events.normal(object(it), "Terminating", "is being deleted");
                }
                _ => events.normal(object(it), "Changed", format!("has another {key}")),
            }
        }
    }
}

impl Now {
    /// How it is after a change: what is there keeps its interface indices.
    pub(super) fn after(was: &Now, lab: Arc<Lab>) -> Now {
        let allotted = Allotted::of(&was.plan).after(&was.allotted);
        let plan = Arc::new(plan::plan_from((&was.lab, &was.plan), &lab, allotted.clone()));
        Now { allotted: Allotted::of(&plan).after(&allotted), lab, plan }
    }
}

fn problem(error: StepError) -> Problem {
    let StepError { step, at, error } = error;
    Problem { step: Some(step), at: Some((at.start, at.end)), ..Problem::from(error) }
}

/// For what goes wrong while something else has gone wrong already.
fn complain(result: Result<()>) {
    if let Err(error) = result {
        eprintln!("{error}");
    }
}
