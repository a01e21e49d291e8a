//! Makes a lab's namespaces on all cores, and meanwhile wires those that are there.
//!
//! Links, addresses and routes are made under one lock of the kernel (`rtnl_mutex`), so more than one thread
//! would only wait for each other. Namespaces hardly need it. So one thread is the wirer: it makes what can be
//! made in and between the namespaces that it finds, stage by stage, while the others make more of them.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    apply::{StepError, note, step_error},
    message::{self, Requests},
    netns,
    settings::Settings,
    stopwatch::Stopwatch,
    wire::Wire,
};
use crate::{
    error::{Context, Error, Result},
    plan::step::{IfIndex, Link, PlannedStep, Stage, StageName, Step, Via},
};

/// What is to be built.
#[derive(Debug, Clone, Copy)]
pub(super) struct Network<'a> {
    /// The namespaces.
    pub(super) namespaces: &'a [PlannedStep],
    /// What is made in them, stage by stage.
    pub(super) wiring: &'a [&'a Stage],
    /// Somebody waits for so many of the namespaces.
    pub(super) first: usize,
}

/// How long each stage took: the namespaces until the last was there, each other one what it took the wirer.
pub(super) type Took = BTreeMap<StageName, Duration>;

/// The namespaces that are there.
struct Made<F> {
    /// A socket in each, in the order of the plan.
    wires: Vec<OnceLock<Wire>>,
    progress: Mutex<Progress<F>>,
    changed: Condvar,
}

struct Progress<F> {
    /// So many are there, without a gap.
    made: usize,
    /// Whom to tell of the first ones.
    first: Option<F>,
    /// When the last one was there.
    done: Option<Duration>,
    failed: Option<StepError>,
}

impl<F: FnOnce()> Made<F> {
    fn progress(&self) -> MutexGuard<'_, Progress<F>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, error: StepError) {
        self.progress().failed.get_or_insert(error);
        self.changed.notify_all();
    }

    /// Waits until more are there than that, and says how many.
    fn more_than(&self, seen: usize) -> Result<usize, StepError> {
        let mut progress = self.progress();
        loop {
            if let Some(error) = progress.failed.take() {
                // The others see that it has failed.
                progress.failed = Some(StepError { step: String::new(), at: 0..0, error: Error::bug("failed before") });
                return Err(error);
            }
            if progress.made > seen {
                return Ok(progress.made);
            }
            progress = self.changed.wait(progress).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Network<'_> {
    /// Builds it, with a thread for each of `cores` besides the calling one; `first` is called on any of them.
    ///
    /// # Errors
    ///
    /// A step that failed. What is half done then ends with the nest.
    pub(super) fn build(
        &self,
        cores: usize,
        watch: &Stopwatch,
        first: impl FnOnce() + Send,
    ) -> Result<Took, StepError> {
        let began = Instant::now();
        let progress = Progress { made: 0, first: Some(first), done: None, failed: None };
        let made = Made {
            wires: self.namespaces.iter().map(|_| OnceLock::new()).collect(),
            progress: Mutex::new(progress),
            changed: Condvar::new(),
        };
        let next = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..cores.min(self.namespaces.len()) {
                let thread = thread::Builder::new().name("netns".into()).stack_size(256 << 10);
                let make = || self.make(&made, &next, began, watch);
                if let Err(error) = thread.spawn_scoped(scope, make).context("cannot start a thread") {
                    made.fail(StepError { step: "ip netns add".into(), at: 0..0, error });
                }
            }
            // Who makes namespaces is not to go on for nothing.
            self.wire(&made, watch).inspect_err(|error| {
                made.fail(StepError { step: error.step.clone(), at: error.at.clone(), error: Error::bug("failed") });
            })
        })
        .map(|mut took| {
            took.extend(made.progress().done.map(|done| (StageName::Namespaces, done)));
            took
        })
    }

    /// Makes namespaces for as long as there are any to make.
    fn make<F: FnOnce()>(&self, made: &Made<F>, next: &AtomicUsize, began: Instant, watch: &Stopwatch) {
        let mut settings = Settings::default();
        while made.progress().failed.is_none() {
            let nth = next.fetch_add(1, Ordering::Relaxed);
            let Some(step) = self.namespaces.get(nth) else { return };
            let begun = watch.begin();
            let wire = match namespace(&step.step, &mut settings) {
                Ok(wire) => wire,
                Err(error) => return made.fail(step_error(step, error)),
            };
            note(watch, begun, StageName::Namespaces, step);
            // Nobody else has this number.
            let _ = made.wires[nth].set(wire);
            let mut progress = made.progress();
            while made.wires.get(progress.made).is_some_and(|wire| wire.get().is_some()) {
                progress.made += 1;
            }
            if progress.made == self.namespaces.len() {
                progress.done = Some(began.elapsed());
            }
            let first = if progress.made >= self.first { progress.first.take() } else { None };
            drop(progress);
            made.changed.notify_all();
            first.into_iter().for_each(|first| first());
        }
    }

    /// Wires namespaces as they come.
    fn wire<F: FnOnce()>(&self, made: &Made<F>, watch: &Stopwatch) -> Result<Took, StepError> {
        let order = Order::of(self.namespaces, self.wiring);
        let mut took: Took = self.wiring.iter().map(|stage| (stage.name, Duration::ZERO)).collect();
        let mut wired = 0;
        while wired < self.namespaces.len() {
            let there = made.more_than(wired)?;
            for (stage, step) in order.steps(wired..there) {
                let (began, begun) = (Instant::now(), watch.begin());
                let wire = |netns: &str| order.nth.get(netns).and_then(|nth| made.wires[*nth].get());
                carry_out(&step.step, wire).map_err(|error| step_error(step, error))?;
                note(watch, begun, stage, step);
                *took.entry(stage).or_default() += began.elapsed();
            }
            wired = there;
        }
        Ok(took)
    }
}

/// What can be made when which namespaces are there.
struct Order<'a> {
    /// The namespaces' numbers.
    nth: BTreeMap<&'a str, usize>,
    /// By the number of the last namespace that it needs.
    steps: Vec<Vec<(StageName, &'a PlannedStep)>>,
}

impl<'a> Order<'a> {
    fn of(namespaces: &'a [PlannedStep], wiring: &[&'a Stage]) -> Self {
        let nth: BTreeMap<&str, usize> =
            namespaces.iter().zip(0..).map(|(planned, nth)| (planned.step.netns(), nth)).collect();
        let mut steps = vec![Vec::new(); namespaces.len()];
        // A link is there when both its ends have their namespaces. Who needs it has a later stage.
        let mut links: BTreeMap<IfIndex, usize> = BTreeMap::new();
        let last = namespaces.len().saturating_sub(1);
        for stage in wiring {
            for planned in &stage.steps {
                let place = |netns: &str| nth.get(netns).copied().unwrap_or(last);
                let own = place(planned.step.netns());
                let needs = match &planned.step {
                    Step::Cable { near, far, .. } => {
                        let needs = own.max(place(&far.netns));
                        links.extend([(near.index, needs), (far.index, needs)]);
                        needs
                    }
                    other => links_of(other).filter_map(|link| links.get(&link.index)).fold(own, |a, b| a.max(*b)),
                };
                if let Some(steps) = steps.get_mut(needs) {
                    steps.push((stage.name, planned));
                }
            }
        }
        Order { nth, steps }
    }

    /// What can be made now that these are there, stage by stage.
    fn steps(&self, there: Range<usize>) -> Vec<(StageName, &'a PlannedStep)> {
        let mut steps: Vec<_> = self.steps[there].iter().flatten().copied().collect();
        // Stable: within a stage the plan's order stays.
        steps.sort_by_key(|(stage, _)| *stage);
        steps
    }
}

/// The links that have to be there before a step, but for `lo`, which always is.
fn links_of(step: &Step) -> impl Iterator<Item = &Link> {
    let links: [Option<&Link>; 2] = match step {
        Step::Unplug { near, far } => [Some(near), Some(far)],
        Step::Address { link, .. }
        | Step::Settle { link }
        | Step::Neighbour { link, .. }
        | Step::Refuse { link, .. }
        | Step::Spread { link, .. }
        | Step::Route { via: Via::Gateway(_, link) | Via::Link(link), .. } => [Some(link), None],
        _ => [None, None],
    };
    links.into_iter().flatten()
}

/// Makes a namespace (the host's exists: it only is entered) and opens a socket in it.
fn namespace(step: &Step, settings: &mut Settings) -> Result<Wire> {
    let Step::Netns { netns, sysctls } = step else {
        return Err(Error::bug(format!("not a step of this stage: {step}")));
    };
    match netns.as_str() {
        netns::HOST => netns::enter(netns::HOST)?,
        name => netns::create(name)?,
    }
    settings.write(sysctls)?;
    Wire::open()
}

fn carry_out<'w>(step: &Step, wire: impl Fn(&str) -> Option<&'w Wire>) -> Result<()> {
    let wire = |netns: &str| wire(netns).ok_or_else(|| Error::bug("a step in a namespace that was never made"));
    if let Step::Unplug { near, far } = step {
        wire(&near.netns)?.tell(vec![message::down(near.index)])?;
        // The far end hears of it in the kernel's own time, unless somebody asks.
        return wire(&far.netns)?.tell(vec![message::settle(far)]);
    }
    let Requests { all, far_netns: _open } = message::of(step)?;
    wire(step.netns())?.tell(all)
}

/// Carries out a stage in namespaces that are there.
///
/// # Errors
///
/// The first step that failed.
pub(super) fn amend(stage: &Stage, watch: &Stopwatch) -> Result<(), StepError> {
    let mut wires: BTreeMap<&str, Wire> = BTreeMap::new();
    for planned in &stage.steps {
        let begun = watch.begin();
        let own = planned.step.netns();
        let other = match &planned.step {
            Step::Unplug { far, .. } => far.netns.as_str(),
            _ => own,
        };
        for netns in [own, other] {
            if !wires.contains_key(netns) {
                let wire = netns::inside(netns, Wire::open).map_err(|error| step_error(planned, error))?;
                wires.insert(netns, wire);
            }
        }
        carry_out(&planned.step, |netns| wires.get(netns)).map_err(|error| step_error(planned, error))?;
        note(watch, begun, stage.name, planned);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::plan::plan;

    /// However many namespaces are there at a time, everything is made once, and after what it needs.
    #[test]
    fn nothing_is_made_before_what_it_needs() {
        let labs = [include_str!("../../labs/everything.toml"), include_str!("../../labs/load-balancer.toml")];
        for (lab, at_a_time) in labs.iter().flat_map(|lab| [1, 2, 3, 7, 1000].map(|at_a_time| (lab, at_a_time))) {
            let plan = plan(&crate::lab::load(lab).unwrap());
            let network = || plan.stages.iter().filter(|stage| stage.name < StageName::Rules);
            let namespaces = &network().next().unwrap().steps;
            let wiring: Vec<&Stage> = network().skip(1).collect();
            let order = Order::of(namespaces, &wiring);
            let mut there: BTreeSet<&str> = BTreeSet::new();
            let mut links: BTreeSet<(&str, u32)> = BTreeSet::new();
            let mut stages: BTreeMap<(&str, u32), StageName> = BTreeMap::new();
            let mut made = 0;
            for begin in (0..namespaces.len()).step_by(at_a_time) {
                let chunk = begin..(begin + at_a_time).min(namespaces.len());
                there.extend(namespaces[chunk.clone()].iter().map(|planned| planned.step.netns()));
                for (stage, planned) in order.steps(chunk) {
                    let step = &planned.step;
                    made += 1;
                    assert!(there.contains(step.netns()), "{step}");
                    for link in links_of(step).filter(|link| link.name != "lo") {
                        assert!(links.contains(&(link.netns.as_str(), link.index.0)), "{step}");
                        let before = stages.insert((link.netns.as_str(), link.index.0), stage);
                        assert!(before.is_none_or(|before| before <= stage), "{step}");
                    }
                    match step {
                        Step::Bridge { link, .. } => _ = links.insert((&link.netns, link.index.0)),
                        Step::Cable { near, far, bridge, .. } => {
                            assert!(there.contains(far.netns.as_str()), "{step}");
                            let bridge = bridge.as_ref().map(|bridge| (bridge.netns.as_str(), bridge.index.0));
                            assert!(bridge.is_none_or(|bridge| links.contains(&bridge)), "{step}");
                            links.extend([(near.netns.as_str(), near.index.0), (far.netns.as_str(), far.index.0)]);
                        }
                        _ => {}
                    }
                }
            }
            assert_eq!(made, wiring.iter().map(|stage| stage.steps.len()).sum::<usize>());
            assert!(made > 50);
        }
    }
}
