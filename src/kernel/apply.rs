//! Carries out a plan: the one place where [`Step`]s become system calls.
//!
//! The steps of a stage are independent of each other, so they are dealt out by namespace and
//! carried out on all cores.

use std::{collections::BTreeMap, sync::Arc};

use futures::{StreamExt, TryStreamExt, stream};
use tokio::{
    runtime,
    task::{self, JoinHandle},
};

use super::{
    netlink::Netlink,
    netns, power,
    process::Processes,
    rules,
    serve::{Servers, Serving},
    stopwatch::{Begun, Stopwatch},
    undo,
};
use crate::{
    error::{Error, ErrorKind},
    lab::model::{Lab, Span},
    plan::step::{PlannedStep, Stage, StageName, Step},
};

/// Carries out one lab's plan, and holds what it needs from stage to stage.
pub struct Applier {
    lab: Arc<Lab>,
    cores: usize,
    sockets: BTreeMap<String, Netlink>,
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
        Applier { lab, cores, sockets: BTreeMap::new(), processes, servers, rules: None, watch: Stopwatch::default() }
    }

    /// Notes when each step is done.
    #[must_use]
    pub fn watched(mut self, watch: Stopwatch) -> Self {
        self.watch = watch;
        self
    }

    /// Carries out a stage.
    ///
    /// # Errors
    ///
    /// The first step that failed. What is half done then ends with the nest.
    pub async fn apply(&mut self, stage: &Stage) -> Result<(), StepError> {
        match stage.name {
            StageName::Namespaces => self.make_namespaces(&stage.steps).await,
            StageName::Rules => self.rules_loaded(stage).await,
            StageName::Servers => {
                self.sockets.clear();
                self.one_by_one(&stage.steps).await
            }
            _ => self.by_namespace(stage.name, &stage.steps).await,
        }
    }

    /// Opens sockets in namespaces that are there already, for steps in them.
    ///
    /// # Errors
    ///
    /// When there is no such namespace.
    fn reach<'s>(&mut self, steps: impl Iterator<Item = &'s PlannedStep>) -> Result<(), StepError> {
        let runtime = runtime::Handle::current();
        for step in steps {
            let netns = step.step.netns();
            if !self.sockets.contains_key(netns) {
                let socket = Netlink::open_in(netns, &runtime).map_err(|error| step_error(step, error))?;
                self.sockets.insert(netns.to_owned(), socket);
            }
        }
        Ok(())
    }

    /// Carries out what a lab that is up has too few of: a stage without rules and servers.
    ///
    /// # Errors
    ///
    /// The first step that failed.
    pub async fn amend(&mut self, stage: &Stage) -> Result<(), StepError> {
        if stage.name == StageName::Namespaces {
            return self.make_namespaces(&stage.steps).await;
        }
        self.reach(stage.steps.iter())?;
        self.by_namespace(stage.name, &stage.steps).await
    }

    /// Undoes steps, in their order.
    ///
    /// # Errors
    ///
    /// The first one that cannot be undone.
    pub async fn undo(&mut self, steps: &[PlannedStep]) -> Result<(), StepError> {
        self.reach(steps.iter())?;
        for step in steps {
            let Some(socket) = self.sockets.get(step.step.netns()) else { continue };
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

    /// Begins to load the rules, which need their namespaces and nothing else: the tools do not
    /// need the lock that the links wait for. Their stage then only waits.
    pub fn begin(&mut self, rules: &Stage) {
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
        loading.await.unwrap_or_else(|panic| {
            Err(StepError { step: String::new(), at: 0..0, error: Error::bug(panic.to_string()) })
        })
    }

    /// A thread per core makes namespace after namespace and opens a socket in each.
    async fn make_namespaces(&mut self, steps: &[PlannedStep]) -> Result<(), StepError> {
        let runtime = runtime::Handle::current();
        let share = steps.len().div_ceil(self.cores).max(1);
        let threads = steps.chunks(share).map(|share| {
            let (share, runtime, watch) = (share.to_vec(), runtime.clone(), self.watch.clone());
            let make = move |step: &PlannedStep| {
                let begun = watch.begin();
                let made = namespace(step, &runtime);
                note(&watch, begun, StageName::Namespaces, step);
                (step.clone(), made)
            };
            task::spawn_blocking(move || netns::on_a_thread(|| Ok(share.iter().map(make).collect())))
        });
        let made: Vec<Vec<(PlannedStep, Result<Netlink, Error>)>> = stream::iter(threads)
            .buffered(self.cores)
            .map(|joined| joined.map_err(|panic| Error::bug(panic.to_string())).and_then(|made| made))
            .try_collect()
            .await
            .map_err(|error| StepError { step: "ip netns add".into(), at: 0..0, error })?;
        for (step, socket) in made.into_iter().flatten() {
            let socket = socket.map_err(|error| step_error(&step, error))?;
            self.sockets.insert(step.step.netns().to_owned(), socket);
        }
        Ok(())
    }

    /// Deals the steps out by namespace; within one they run in order, on its socket.
    async fn by_namespace(&self, stage: StageName, steps: &[PlannedStep]) -> Result<(), StepError> {
        let mut groups: BTreeMap<&str, Vec<&PlannedStep>> = BTreeMap::new();
        for step in steps {
            groups.entry(step.step.netns()).or_default().push(step);
        }
        // Tasks, not just futures: the kernel does its work inside `sendmsg`, so only
        // different threads are really at the same time.
        let tasks = groups.into_iter().map(|(netns, steps)| {
            let socket = self.sockets.get(netns).cloned();
            let steps: Vec<PlannedStep> = steps.into_iter().cloned().collect();
            let watch = self.watch.clone();
            async move {
                let task = tokio::spawn(async move {
                    for step in &steps {
                        let Some(socket) = &socket else {
                            return Err(step_error(step, Error::bug("a step in a namespace that was never made")));
                        };
                        let begun = watch.begin();
                        network(socket, &step.step).await.map_err(|error| step_error(step, error))?;
                        note(&watch, begun, stage, step);
                    }
                    Ok(())
                });
                task.await.unwrap_or_else(|panic| {
                    Err(StepError { step: String::new(), at: 0..0, error: Error::bug(panic.to_string()) })
                })
            }
        });
        stream::iter(tasks).buffer_unordered(2 * self.cores).try_collect().await
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

/// Makes a namespace (the host's exists: it only gets its name) and opens a socket in it.
fn namespace(step: &PlannedStep, runtime: &runtime::Handle) -> Result<Netlink, Error> {
    let Step::Netns { netns, sysctls } = &step.step else {
        return Err(Error::bug(format!("not a step of this stage: {}", step.step)));
    };
    let prepare = || {
        for (key, value) in sysctls {
            netns::write_sysctl(key, value)?;
        }
        Netlink::open(runtime)
    };
    match netns.as_str() {
        netns::HOST => netns::inside(netns::HOST, prepare),
        name => {
            netns::create(name)?;
            prepare()
        }
    }
}

pub(super) async fn network(socket: &Netlink, step: &Step) -> Result<(), Error> {
    match step {
        Step::Loopback { .. } => socket.loopback_up().await,
        Step::Bridge { link, mac } => socket.bridge(link, *mac).await,
        Step::Cable { near, near_mac, bridge, hairpin, far, far_mac } => {
            socket.cable((near, *near_mac), (far, *far_mac), bridge.as_ref()).await?;
            if *hairpin { socket.hairpin(near).await } else { Ok(()) }
        }
        Step::Unplug { near, far } => power::unplug(near, far).await,
        Step::Address { link, address } => socket.address(link, *address).await,
        Step::Settle { link } => socket.settle(link).await,
        Step::Route { to, via, .. } => socket.route(*to, via).await,
        Step::Refuse { link, to } => socket.refuse(link, *to).await,
        Step::Spread { link, to, gateways } => socket.spread(link, *to, gateways).await,
        Step::Neighbour { link, ip, mac } => socket.neighbour(link, *ip, *mac).await,
        other => Err(Error::bug(format!("not a step of this stage: {other}"))),
    }
}

fn note(watch: &Stopwatch, begun: Begun, stage: StageName, step: &PlannedStep) {
    watch.done(begun, stage.as_str(), step.step.kind(), || step.step.netns().to_owned());
}

fn step_error(step: &PlannedStep, error: Error) -> StepError {
    StepError { step: step.step.to_string(), at: step.at.clone(), error }
}

impl StepError {
    /// The step's error kind: a missing module is the host's fault, a refusal is not.
    pub fn kind(&self) -> ErrorKind {
        self.error.kind
    }
}
