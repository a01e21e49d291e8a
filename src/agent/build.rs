//! Builds the lab, stage after stage, and says how far it is.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Control, Orders, directory,
    protocol::{Event, Problem},
    readiness,
    state::{Now, State, Told},
};
use crate::{
    error::{Context, Error, Result},
    kernel::{
        apply::{Applier, StepError},
        process::Processes,
        serve::Servers,
        stopwatch::Stopwatch,
        view,
    },
    lab::{self, Overrides},
    plan::{
        self, Allotted,
        step::{Plan, Stage, StageName},
    },
};

/// A lab on its way up.
pub(super) struct Building {
    plan: Arc<Plan>,
    orders: Orders,
    applier: Applier,
    state: Arc<State>,
}

impl Building {
    /// Reads the lab from its directory, which the CLI has checked already.
    pub(super) fn open(orders: &Orders, watch: Stopwatch) -> Result<Self> {
        let directory: PathBuf = Path::new(view::DIRECTORY).join(&orders.name);
        let file = directory.join(directory::LAB_FILE);
        let text = std::fs::read_to_string(&file).context(format!("cannot read {}", file.display()))?;
        let name = orders.name.parse().map_err(|error| Error::bug(format!("the lab's name {error}")))?;
        let mut lab = watch
            .lap("start", "load", || lab::load(&text))
            .map_err(|_| Error::bug("a lab file that was good is bad"))?;
        lab.name = name;
        let whole = Arc::new(lab);
        let overrides = readiness::at_first(&whole);
        let lab = match overrides == Overrides::default() {
            true => Arc::clone(&whole),
            false => Arc::new(overrides.over(&whole)),
        };
        let plan = Arc::new(watch.lap("start", "plan", || plan::plan(&lab)));
        view::lay_over(&lab)?;
        let processes = Processes::reaping()?;
        let logs = directory.join(directory::LOGS);
        std::fs::create_dir_all(&logs).context(format!("cannot make {}", logs.display()))?;
        let servers = Servers::new(logs);
        let applier = Applier::new(Arc::clone(&lab), processes.clone(), servers.clone()).watched(watch);
        let now = Now { lab, allotted: Allotted::of(&plan), plan: Arc::clone(&plan) };
        let probed = !overrides.unproven().is_empty();
        let told = Told { text, whole, overrides };
        let state = Arc::new(State::building((told.clone(), now), processes, servers, directory));
        if probed {
            state.is_told(told)?;
        }
        Ok(Building { plan, orders: orders.clone(), applier, state })
    }

    pub(super) fn state(&self) -> Arc<State> {
        Arc::clone(&self.state)
    }

    /// Builds as far as was asked for.
    pub(super) async fn build(&mut self, control: &Control) -> Result<(), Problem> {
        let last = self.orders.stage.unwrap_or(StageName::Servers);
        let stages = self.plan.stages.iter().filter(|stage| stage.name <= last);
        let (network, then): (Vec<&Stage>, Vec<&Stage>) = stages.partition(|stage| stage.name < StageName::Rules);
        // The stages of the network overlap.
        network.iter().take(1).for_each(|stage| tell_begun(control, stage));
        let took = self.applier.build(&self.plan, last).await.map_err(refused)?;
        for stage in network {
            let took = took.get(&stage.name).copied().unwrap_or_default();
            self.tell_done(control, stage, took);
        }
        for stage in then {
            tell_begun(control, stage);
            let began = Instant::now();
            self.applier.apply(stage).await.map_err(refused)?;
            self.tell_done(control, stage, began.elapsed());
        }
        self.state.is_running();
        give_memory_back();
        Ok(())
    }

    fn tell_done(&self, control: &Control, stage: &Stage, took: Duration) {
        let name = stage.name.to_string();
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        control.tell(&Event::Done { name: name.clone(), micros });
        self.state.stage_done(name, micros);
    }
}

fn tell_begun(control: &Control, stage: &Stage) {
    control.tell(&Event::Stage { name: stage.name.to_string(), steps: stage.steps.len() });
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
