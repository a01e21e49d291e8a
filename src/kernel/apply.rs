//! Carries out a plan: the one place where [`Step`]s become system calls.
//!
//! The steps of a stage are independent of each other. Those of the network are carried out by
//! [`network`], rules by their tools, meanwhile, and servers are started in the end.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::Arc,
};

use futures::{StreamExt, TryStreamExt, stream};
use tokio::{
    runtime,
    sync::oneshot,
    task::{self, JoinHandle},
};

use super::{
    netlink::Netlink,
    netns,
    network::{self, Network, Took},
    process::Processes,
    rules,
    serve::{Servers, Serving},
    stopwatch::{Begun, Stopwatch},
    undo,
};
use crate::{
    error::{Error, ErrorKind},
    lab::model::{Lab, Span},
    plan::step::{Plan, PlannedStep, Stage, StageName, Step},
};

/// Carries out one lab's plan, and holds what it needs from stage to stage.
pub struct Applier {
    lab: Arc<Lab>,
    cores: usize,
    processes: Processes,
    servers: Servers,
    rules: Option<JoinHandle<Result<(), StepError>>>,
    watch: Stopwatch,
}

/// A step that failed.
#[derive(Debug)]
pub struct StepError {
    /// The step, as a person would type it.
    pub step: String,
    /// The part of the lab file that asked for it.
    pub at: Span,
    /// What the kernel or the tool said.
    pub error: Error,
}

impl Applier {
    /// For one lab, from nothing.
    pub fn new(lab: Arc<Lab>, processes: Processes, servers: Servers) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Applier { lab, cores, processes, servers, rules: None, watch: Stopwatch::default() }
    }

    /// Notes when each step is done.
    #[must_use]
    pub fn watched(mut self, watch: Stopwatch) -> Self {
        self.watch = watch;
        self
    }

    /// Makes the network of a plan, as far as the stage `last`, and gives back how long each stage took.
    /// Rules begin to be loaded as soon as their nodes are there: they need nothing else, and their tools
    /// do not need the lock that the links wait for.
    ///
    /// # Errors
    ///
    /// A step that failed. What is half done then ends with the nest.
    pub async fn build(&mut self, plan: &Arc<Plan>, last: StageName) -> Result<Took, StepError> {
        let rules = plan.stages.iter().find(|stage| stage.name == StageName::Rules && last >= StageName::Rules);
        let (told, nodes) = oneshot::channel();
        let (plan_, watch, cores) = (Arc::clone(plan), self.watch.clone(), self.cores);
        let mut building = task::spawn_blocking(move || {
            let stages = || plan_.stages.iter().filter(|stage| stage.name <= last && stage.name < StageName::Rules);
            let namespaces = stages().find(|stage| stage.name == StageName::Namespaces);
            let namespaces = namespaces.map_or(&[][..], |stage| &stage.steps);
            let wiring: Vec<&Stage> = stages().filter(|stage| stage.name != StageName::Namespaces).collect();
            let first = first_of(namespaces, &plan_);
            // Nobody waits for it where no rules are wanted.
            Network { namespaces, wiring: &wiring, first }.build(cores, &watch, || _ = told.send(()))
        });
        if let (Some(rules), Ok(())) = (rules, nodes.await) {
            self.begin(rules);
        }
        (&mut building).await.unwrap_or_else(|panic| Err(panicked(&panic)))
    }

    /// Carries out a stage that comes after the network's.
    ///
    /// # Errors
    ///
    /// The first step that failed. What is half done then ends with the nest.
    pub async fn apply(&mut self, stage: &Stage) -> Result<(), StepError> {
        match stage.name {
            StageName::Rules => self.rules_loaded(stage).await,
            _ => {
                let (servers, lab, steps, cores) =
                    (self.servers.clone(), Arc::clone(&self.lab), stage.steps.clone(), self.cores);
                let opening = task::spawn_blocking(move || servers.ports.open(&lab, &steps, cores));
                opening.await.map_err(|panic| panicked(&panic))?;
                self.one_by_one(&stage.steps).await
            }
        }
    }

    /// Carries out what a lab that is up has too few of: a stage without rules and servers.
    ///
    /// # Errors
    ///
    /// The first step that failed.
    pub async fn amend(&mut self, stage: &Stage) -> Result<(), StepError> {
        let (stage, watch, cores) = (stage.clone(), self.watch.clone(), self.cores);
        let amending = task::spawn_blocking(move || match stage.name {
            StageName::Namespaces => {
                let network = Network { namespaces: &stage.steps, wiring: &[], first: 0 };
                network.build(cores, &watch, || ()).map(|_| ())
            }
            _ => network::amend(&stage, &watch),
        });
        amending.await.unwrap_or_else(|panic| Err(panicked(&panic)))
    }

    /// Undoes steps, in their order.
    ///
    /// # Errors
    ///
    /// The first one that cannot be undone.
    pub async fn undo(&mut self, steps: &[PlannedStep]) -> Result<(), StepError> {
        let mut sockets: BTreeMap<&str, Netlink> = BTreeMap::new();
        for step in steps {
            let socket = match sockets.entry(step.step.netns()) {
                Entry::Occupied(socket) => socket.into_mut(),
                Entry::Vacant(none) => {
                    let socket = Netlink::open_in(step.step.netns(), &runtime::Handle::current());
                    none.insert(socket.map_err(|error| step_error(step, error))?)
                }
            };
            undo::undo(socket.handle(), &step.step).await.map_err(|error| step_error(step, error))?;
        }
        Ok(())
    }

    /// Changes settings of namespaces.
    ///
    /// # Errors
    ///
    /// The first one that the kernel refuses.
    pub fn set(&self, steps: &[PlannedStep]) -> Result<(), StepError> {
        for step in steps {
            let Step::Netns { netns, sysctls } = &step.step else { continue };
            let write = || sysctls.iter().try_for_each(|(key, value)| netns::write_sysctl(key, value));
            netns::inside(netns, write).map_err(|error| step_error(step, error))?;
        }
        Ok(())
    }

    /// Starts servers.
    ///
    /// # Errors
    ///
    /// The first one that does not start.
    pub async fn serve(&self, steps: &[PlannedStep]) -> Result<(), StepError> {
        self.one_by_one(steps).await
    }

    /// Begins to load the rules. Their stage then only waits.
    fn begin(&mut self, rules: &Stage) {
        let rules_stage = rules.name;
        let loading = rules.steps.iter().cloned().map(|step| {
            let (processes, watch) = (self.processes.clone(), self.watch.clone());
            async move {
                let begun = watch.begin();
                let loaded = match &step.step {
                    Step::Rules { netns, proxy, text } => rules::load(netns, *proxy, text.to_text(), &processes).await,
                    other => Err(Error::bug(format!("not a step of this stage: {other}"))),
                };
                note(&watch, begun, rules_stage, &step);
                loaded.map_err(|error| step_error(&step, error))
            }
        });
        let loading: Vec<_> = loading.collect();
        self.rules = Some(tokio::spawn(stream::iter(loading).buffer_unordered(self.cores).try_collect()));
    }

    async fn rules_loaded(&mut self, stage: &Stage) -> Result<(), StepError> {
        if self.rules.is_none() {
            self.begin(stage);
        }
        let Some(loading) = self.rules.take() else { return Ok(()) };
        loading.await.unwrap_or_else(|panic| Err(panicked(&panic)))
    }

    async fn one_by_one(&self, steps: &[PlannedStep]) -> Result<(), StepError> {
        let running = steps.iter().map(|step| async move {
            let begun = self.watch.begin();
            self.start(&step.step).await.map_err(|error| step_error(step, error))?;
            note(&self.watch, begun, StageName::Servers, step);
            Ok(())
        });
        stream::iter(running).buffer_unordered(2 * self.cores).try_collect().await
    }

    async fn start(&self, step: &Step) -> Result<(), Error> {
        match step {
            Step::Serve { netns, pod, container, .. } => {
                let serving = Serving { lab: &self.lab, netns, pod: *pod, container: *container };
                self.servers.start(serving, &self.processes).await
            }
            Step::ServeOutside { netns, port, server } => self.servers.start_outside(netns, *port, *server).await,
            Step::ServeNames { netns } => self.servers.start_names(&self.lab, netns).await,
            Step::ServeHealth { netns, port, check } => self.servers.start_health(&self.lab, netns, *port, *check),
            Step::ServeBalancer { netns, program } => {
                self.servers.start_balancer(&self.lab, netns, program, &self.processes).await
            }
            other => Err(Error::bug(format!("not a step of this stage: {other}"))),
        }
    }
}

/// How many of the namespaces there have to be until all nodes are that have rules.
fn first_of(namespaces: &[PlannedStep], plan: &Plan) -> usize {
    let rules = plan.stages.iter().filter(|stage| stage.name == StageName::Rules).flat_map(|stage| &stage.steps);
    let nodes: BTreeSet<&str> = rules.map(|planned| planned.step.netns()).collect();
    namespaces.iter().rposition(|planned| nodes.contains(planned.step.netns())).map_or(0, |last| last + 1)
}

fn panicked(panic: &task::JoinError) -> StepError {
    StepError { step: String::new(), at: 0..0, error: Error::bug(panic.to_string()) }
}

pub(super) fn note(watch: &Stopwatch, begun: Begun, stage: StageName, step: &PlannedStep) {
    watch.done(begun, stage.as_str(), step.step.kind(), || step.step.netns().to_owned());
}

pub(super) fn step_error(step: &PlannedStep, error: Error) -> StepError {
    StepError { step: step.step.to_string(), at: step.at.clone(), error }
}

impl StepError {
    /// The step's error kind: a missing module is the host's fault, a refusal is not.
    pub fn kind(&self) -> ErrorKind {
        self.error.kind
    }
}
