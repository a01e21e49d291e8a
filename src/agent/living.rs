//! What becomes of a running lab besides its file: pods that crash, are killed, or scaled.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    changing::{self, become_so},
    leaving::in_turn,
    protocol::{Applied, Problem},
    state::State,
};
use crate::{
    error::{Error, Result},
    lab::{
        self, ScaleError,
        model::{Lab, Pod},
    },
};

/// Lets pods whose servers have ended be not ready until those listen again, for as long as the lab lives.
pub(super) async fn follow_the_fallen(state: Arc<State>) {
    let mut news = state.servers.fallen().news();
    while news.changed().await.is_ok() {
        let followed = in_turn(&state, |runtime, state| {
            runtime.block_on(async {
                let mut told = state.told();
                if told.overrides.have_fallen(state.servers.fallen().pods()) {
                    become_so(&state, told).await?;
                }
                Ok(())
            })
        });
        if let Err(problem) = followed.await {
            // The rules of the ladder need an endpoint, even one that does not answer.
            eprintln!("a pod whose server has ended stays ready: {}", problem.message);
        }
    }
}

/// Gives a `[[pod]]` another number of replicas. Those that were deleted come back, if the number wants
/// them. Says which pods have to be gone for it to be so.
///
/// # Errors
///
/// When no `[[pod]]` with replicas has this name, or the lab would not be good any more.
pub(super) async fn scale(
    state: Arc<State>,
    name: String,
    replicas: u32,
) -> Result<(Applied, BTreeSet<String>), Problem> {
    in_turn(&state, move |runtime, state| {
        runtime.block_on(async {
            let mut told = state.told();
            told.text = lab::scaled(&told.text, &name, replicas).map_err(not_scaled)?;
            let whole = changing::read(&told.text, &told)?;
            let (name, namespace) = name.split_once('.').unwrap_or((&name, "default"));
            let is_replica = |pod: &Pod| {
                let number = pod.name.as_str().strip_prefix(name).and_then(|rest| rest.strip_prefix('-'));
                pod.namespace.as_str() == namespace && number.is_some_and(|it| it.bytes().all(|it| it.is_ascii_digit()))
            };
            told.overrides
                .bring_back(|deleted| whole.pods.iter().any(|it| it.full_name() == deleted && is_replica(it)));
            told.whole = Arc::new(whole);
            let became = become_so(&state, told).await?;
            Ok((Applied { differences: became.differences }, became.leaving))
        })
    })
    .await
}

fn not_scaled(error: ScaleError) -> Error {
    let hint = match &error {
        ScaleError::NotToml => "netlab check FILE says where",
        ScaleError::NoPod(_) => "give the `name` of a [[pod]] in the lab file",
        ScaleError::NoReplicas(_) => "write `replicas = 1` into it and apply the file; the pod is called NAME-0 then",
    };
    Error::usage(error.to_string()).hint(hint)
}

/// Kills the processes of pods, as if they had crashed.
///
/// # Errors
///
/// When there is no such pod, or it has no process to kill.
pub(super) fn kill(state: &State, pods: &[String]) -> Result<()> {
    let now = state.now();
    for pod in find(&now.lab, pods)? {
        let name = pod.full_name();
        if state.servers.kill_pod(&name) == 0 {
            let error = Error::usage(format!("{name} has no process that could be killed"));
            return Err(error.hint("what is built into netlab is none; `server = \"python\"` or a `command` is"));
        }
    }
    Ok(())
}

/// Pods by their names.
pub(super) fn find<S: AsRef<str>>(lab: &Lab, names: impl IntoIterator<Item = S>) -> Result<Vec<&Pod>> {
    let pod = |name: S| {
        let name = name.as_ref();
        let found = lab.pods.iter().find(|pod| pod.full_name() == name);
        found.ok_or_else(|| {
            Error::usage(format!("there is no pod {name} in this lab")).hint("netlab get pods lists them")
        })
    };
    names.into_iter().map(pod).collect()
}
