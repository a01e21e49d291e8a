//! Puts a running lab right, when it is asked to: one change among others.

use std::sync::Arc;

use super::{
    changing::become_so,
    leaving::in_turn,
    protocol::{Earnest, Problem, Repaired},
    state::{Now, State},
};
use crate::{
    kernel::repair::{self, Bench, Extent},
    lab::model::Lab,
    plan::step::Plan,
};

/// Puts right what differs from the plan, or says what would be done about it.
///
/// # Errors
///
/// When the kernel's state cannot be read. What cannot be put right is no error.
pub(super) async fn repair(state: Arc<State>, how: Earnest) -> Result<Repaired, Problem> {
    in_turn(&state, move |runtime, state| {
        runtime.block_on(async {
            let Now { lab, plan, .. } = state.now();
            let bench = bench(&state, &lab, &plan, Extent::All);
            if how == Earnest::Said {
                return Ok(repair::rehearse(bench).await?);
            }
            let repaired = repair::repair(bench).await?;
            // Pods whose servers stand again are ready again, before anybody looks.
            let mut told = state.told();
            if told.overrides.have_fallen(state.servers.fallen().pods()) {
                become_so(&state, told).await?;
            }
            Ok(repaired)
        })
    })
    .await
}

/// Puts the network of a lab back after a change that failed half-way; what cannot be put back is told in
/// its events. The rules are back by then, or never went.
pub(super) async fn put_back(state: &State, was: &Now) {
    let Now { lab, plan, .. } = was;
    if let Err(error) = repair::repair(bench(state, lab, plan, Extent::AllButRules)).await {
        state.servers.events().warning("lab", "NotUndone", format!("{error}; netlab repair tries again"));
    }
}

fn bench<'a>(state: &'a State, lab: &'a Lab, plan: &'a Plan, extent: Extent) -> Bench<'a> {
    Bench { lab, plan, processes: &state.processes, servers: &state.servers, extent }
}
