//! Builds the lab, stage after stage, and says how far it is.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use super::{
    Control, Orders, directory,
    protocol::{Event, Phase, Problem, ServerStatus, Status},
};
use crate::{
    error::{Context, Error, Result},
    kernel::{
        apply::{Applier, StepError},
        process::Processes,
        serve::{ServerState, Servers},
        view,
    },
    lab::{self, model::Lab},
    plan::{
        self,
        step::{Plan, StageName},
    },
};

/// A lab on its way up.
pub(super) struct Building {
    plan: Arc<Plan>,
    orders: Orders,
    applier: Applier,
    state: Arc<State>,
}

/// What is known of a lab from outside the build.
pub(super) struct State {
    /// The lab.
    pub(super) lab: Arc<Lab>,
    /// How it is to be.
    pub(super) plan: Arc<Plan>,
    /// Its processes.
    pub(super) processes: Processes,
    /// Its servers.
    pub(super) servers: Servers,
    progress: Mutex<Progress>,
}

struct Progress {
    phase: Phase,
    stages: Vec<(String, u64)>,
}

impl Building {
    /// Reads the lab from its directory, which the CLI has checked already.
    pub(super) fn open(orders: &Orders) -> Result<Self> {
        let directory: PathBuf = Path::new(view::DIRECTORY).join(&orders.name);
        let file = directory.join(directory::LAB_FILE);
        let text = std::fs::read_to_string(&file).context(format!("cannot read {}", file.display()))?;
        let name = orders.name.parse().map_err(|error| Error::bug(format!("the lab's name {error}")))?;
        let mut lab = lab::load(&text).map_err(|_| Error::bug("a lab file that was good is bad"))?;
        lab.name = name;
        let lab = Arc::new(lab);
        let plan = Arc::new(plan::plan(&lab));
        view::lay_over(&lab)?;
        let processes = Processes::reaping()?;
        let logs = directory.join(directory::LOGS);
        std::fs::create_dir_all(&logs).context(format!("cannot make {}", logs.display()))?;
        let servers = Servers::new(logs);
        let applier = Applier::new(Arc::clone(&lab), processes.clone(), servers.clone());
        let progress = Mutex::new(Progress { phase: Phase::Building, stages: Vec::new() });
        let state = Arc::new(State { lab, plan: Arc::clone(&plan), processes, servers, progress });
        Ok(Building { plan, orders: orders.clone(), applier, state })
    }

    pub(super) fn state(&self) -> Arc<State> {
        Arc::clone(&self.state)
    }

    /// Builds as far as was asked for.
    pub(super) async fn build(&mut self, control: &Control) -> Result<(), Problem> {
        let last = self.orders.stage;
        for stage in self.plan.stages.iter().filter(|stage| last.is_none_or(|last| stage.name <= last)) {
            let name = stage.name.to_string();
            control.tell(&Event::Stage { name: name.clone(), steps: stage.steps.len() });
            let began = Instant::now();
            self.applier.apply(stage).await.map_err(refused)?;
            let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
            control.tell(&Event::Done { name: name.clone(), micros });
            self.state.progress().stages.push((name, micros));
            if stage.name == StageName::Namespaces && last.is_none_or(|last| last >= StageName::Rules) {
                self.plan
                    .stages
                    .iter()
                    .filter(|stage| stage.name == StageName::Rules)
                    .for_each(|rules| self.applier.begin(rules));
            }
        }
        self.state.progress().phase = Phase::Running;
        give_memory_back();
        Ok(())
    }
}

/// Building takes more memory than holding a lab, and glibc keeps what was freed.
fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: a plain library call, which only touches memory that nobody uses.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}

fn refused(error: StepError) -> Problem {
    let StepError { step, at, error } = error;
    Problem { step: Some(step), at: Some((at.start, at.end)), ..Problem::from(error) }
}

impl State {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the lab is.
    pub(super) fn status(&self) -> Status {
        let progress = self.progress();
        let servers = self.servers.states().into_iter().map(|((pod, container), state)| {
            let pod = self.lab.pod(pod);
            let pid = match state {
                ServerState::Running { pid, .. } => Some(pid),
                _ => None,
            };
            ServerStatus {
                pod: pod.full_name(),
                container: pod.containers[container].name.to_string(),
                running: !state.is_down(),
                pid,
                text: state.to_string(),
                restarts: state.restarts(),
                again: matches!(state, ServerState::Waiting { .. }),
            }
        });
        Status {
            name: self.lab.name.to_string(),
            phase: progress.phase,
            stages: progress.stages.clone(),
            servers: servers.collect(),
        }
    }
}
