//! What an agent knows of its lab: how it shall be, how far it is, what runs in it.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use super::{
    directory,
    faults::Notices,
    leaving::Farewells,
    protocol::{Phase, ServerStatus, Status},
    telling::Words,
};
use crate::{
    error::Result,
    kernel::{
        process::Processes,
        serve::{ServerState, Servers},
        stopwatch::Stopwatch,
    },
    lab::{Kept, Overrides, model::Lab},
    plan::{Allotted, step::Plan},
};

/// What is known of a lab.
pub(super) struct State {
    now: RwLock<Now>,
    /// Its processes.
    pub(super) processes: Processes,
    /// Its servers.
    pub(super) servers: Servers,
    told: Mutex<Told>,
    progress: Mutex<Progress>,
    /// Pulled cables that the control plane is about to notice.
    pub(super) notices: Notices,
    /// The pods that are on their way out.
    pub(super) farewells: Farewells,
    /// What the lab was told, and has not heard yet.
    pub(super) words: Words,
    /// One change at a time.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Notes what the change on its way does.
    watch: Mutex<Stopwatch>,
    /// The lab's directory, as it is seen inside.
    directory: PathBuf,
}

/// How a lab shall be at present.
#[derive(Debug, Clone)]
pub(super) struct Now {
    /// The lab.
    pub(super) lab: Arc<Lab>,
    /// Its plan.
    pub(super) plan: Arc<Plan>,
    /// What was ever allotted.
    pub(super) allotted: Allotted,
}

/// What makes a lab what it is.
#[derive(Debug, Clone)]
pub(super) struct Told {
    /// Its text.
    pub(super) text: String,
    /// The lab of that text.
    pub(super) whole: Arc<Lab>,
    /// What it was told besides.
    pub(super) overrides: Overrides,
}

struct Progress {
    phase: Phase,
    stages: Vec<(String, u64)>,
}

impl Told {
    /// What is there, and keeps what it has.
    pub(super) fn kept(&self) -> Kept {
        self.overrides.kept(&self.whole).besides(&self.overrides.over(&self.whole))
    }
}

impl State {
    /// Of a lab on its way up.
    pub(super) fn building(
        (told, now): (Told, Now),
        processes: Processes,
        servers: Servers,
        directory: PathBuf,
    ) -> Self {
        let progress = Mutex::new(Progress { phase: Phase::Building, stages: Vec::new() });
        State {
            now: RwLock::new(now),
            processes,
            servers,
            told: Mutex::new(told),
            progress,
            notices: Notices::default(),
            farewells: Farewells::default(),
            words: Words::default(),
            turn: Arc::default(),
            watch: Mutex::default(),
            directory,
        }
    }

    /// Waits for its turn to change the lab.
    pub(super) async fn turn(&self) -> tokio::sync::OwnedMutexGuard<()> {
        Arc::clone(&self.turn).lock_owned().await
    }

    /// Notes what the change on its way does, for who has the turn.
    pub(super) fn watch(&self) -> Stopwatch {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The next change is noted with this one.
    pub(super) fn watch_with(&self, watch: Stopwatch) {
        *self.watch.lock().unwrap_or_else(PoisonError::into_inner) = watch;
    }

    /// What makes the lab what it is.
    pub(super) fn told(&self) -> Told {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The lab is so from now on; writes it down as well, for the CLI to read.
    ///
    /// # Errors
    ///
    /// When the directory cannot be written to.
    pub(super) fn is_told(&self, told: Told) -> Result<()> {
        let written = directory::write_down(&self.directory, &told.text, &Kept::of(&told.whole), &told.overrides);
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = told;
        written
    }

    /// How the lab shall be. What was given stays as it is while the lab changes.
    pub(super) fn now(&self) -> Now {
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on it shall be so.
    pub(super) fn becomes(&self, now: Now) {
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = now;
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A stage of the build is done.
    pub(super) fn stage_done(&self, name: String, micros: u64) {
        self.progress().stages.push((name, micros));
    }

    /// It is built as far as was asked for.
    pub(super) fn is_running(&self) {
        self.progress().phase = Phase::Running;
    }

    /// How the lab is.
    pub(super) fn status(&self) -> Status {
        let Now { lab, .. } = self.now();
        let (told, births) = (self.told(), self.servers.births().all());
        let unready: BTreeSet<String> =
            told.whole.pods.iter().filter(|pod| !pod.ready).map(|pod| pod.full_name()).collect();
        let progress = self.progress();
        let servers = self.servers.states().into_iter().map(|((pod, container), state)| {
            let (running, text, restarts) = (!state.is_down(), state.to_string(), state.restarts());
            let again = matches!(state, ServerState::Waiting { .. });
            let (fallen, key) = (self.servers.fallen(), (pod, container));
            let probe = self.servers.verdicts().of(&key);
            let (pod, container) = key.clone();
            let ready = running
                && !fallen.contains(&key)
                && match told.overrides.ready(&pod) {
                    Some(ready) => ready,
                    None => !unready.contains(&pod) && probe.as_ref().is_none_or(|probe| probe.ready),
                };
            let since = births.get(&pod).copied().unwrap_or_default();
            ServerStatus { pod, container, running, pid: state.pid(), text, restarts, again, ready, probe, since }
        });
        Status {
            name: lab.name.to_string(),
            phase: progress.phase,
            stages: progress.stages.clone(),
            servers: servers.collect(),
        }
    }
}
