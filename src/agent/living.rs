//! What a running lab is told besides its file: pods made ready or not, deleted, killed, scaled.

use std::{sync::Arc, time::Duration};

use futures::future;
use tokio::{runtime, task};

use super::{
    changing::{self, turn_into},
    protocol::{Applied, Problem},
    state::{State, Told},
};
use crate::{
    error::{Error, Result},
    lab::{
        self, ScaleError,
        model::{Lab, Pod, ProxyMode},
    },
    proxy::ladder,
};

/// Makes pods ready, or not ready.
///
/// # Errors
///
/// When there is no such pod, or the rules cannot express it.
pub(super) async fn ready(state: Arc<State>, pods: Vec<(String, bool)>) -> Result<Applied, Problem> {
    on_a_thread(move |runtime| {
        runtime.block_on(async {
            let _turn = state.turn().await;
            find(&state.now().lab, pods.iter().map(|(pod, _)| pod))?;
            let mut told = state.told();
            pods.iter().for_each(|(pod, ready)| told.overrides.make_ready(pod, *ready));
            become_so(&state, told).await
        })
    })
    .await
}

/// Deletes pods, each with the time that it has for that, and comes back when they are gone.
///
/// # Errors
///
/// When there is no such pod, or the kernel or a tool refuses.
pub(super) async fn delete(state: Arc<State>, pods: Vec<String>) -> Result<Applied, Problem> {
    on_a_thread(move |runtime| {
        runtime.block_on(async {
            let ends = begin_to_delete(&state, &pods).await?.into_iter().map(|(pod, grace)| {
                let state = &state;
                async move {
                    // Others may change the lab meanwhile.
                    state.servers.end_pod(&pod, grace).await;
                    finish_deleting(state, &pod).await
                }
            });
            let mut differences = Vec::new();
            for applied in future::join_all(ends).await {
                differences.extend(applied?.differences);
            }
            Ok(Applied { differences })
        })
    })
    .await
}

/// From now on they are terminating; each with the time that it has.
async fn begin_to_delete(state: &State, pods: &[String]) -> Result<Vec<(String, Duration)>, Problem> {
    let _turn = state.turn().await;
    let lab = state.now().lab;
    let graces = find(&lab, pods)?.into_iter().map(|pod| (pod.full_name(), pod.termination_grace_period)).collect();
    let mut told = state.told();
    let mut gone = told.overrides.clone();
    pods.iter().for_each(|pod| gone.delete(pod));
    can_be(&gone.over(&told.whole))?;
    pods.iter().for_each(|pod| told.overrides.terminate(pod));
    become_so(state, told).await?;
    Ok(graces)
}

/// Its servers have ended; the rest of it goes now, unless another pod has taken its place.
async fn finish_deleting(state: &State, pod: &str) -> Result<Applied, Problem> {
    let _turn = state.turn().await;
    let mut told = state.told();
    if !told.overrides.is_terminating(pod) {
        return Ok(Applied { differences: Vec::new() });
    }
    told.overrides.delete(pod);
    become_so(state, told).await
}

/// Lets pods whose servers have ended be not ready until those listen again, for as long as the lab lives.
pub(super) async fn follow_the_fallen(state: Arc<State>) {
    let mut news = state.servers.fallen().news();
    while news.changed().await.is_ok() {
        let state = Arc::clone(&state);
        let followed = on_a_thread(move |runtime| {
            runtime.block_on(async {
                let _turn = state.turn().await;
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
/// them.
///
/// # Errors
///
/// When no `[[pod]]` with replicas has this name, or the lab would not be good any more.
pub(super) async fn scale(state: Arc<State>, name: String, replicas: u32) -> Result<Applied, Problem> {
    on_a_thread(move |runtime| {
        runtime.block_on(async {
            let _turn = state.turn().await;
            let mut told = state.told();
            told.text = lab::scaled(&told.text, &name, replicas).map_err(not_scaled)?;
            let whole = changing::read(&told.text, &told.whole)?;
            let (name, namespace) = name.split_once('.').unwrap_or((&name, "default"));
            let is_replica = |pod: &Pod| {
                let number = pod.name.as_str().strip_prefix(name).and_then(|rest| rest.strip_prefix('-'));
                pod.namespace.as_str() == namespace && number.is_some_and(|it| it.bytes().all(|it| it.is_ascii_digit()))
            };
            told.overrides
                .bring_back(|deleted| whole.pods.iter().any(|it| it.full_name() == deleted && is_replica(it)));
            told.whole = Arc::new(whole);
            become_so(&state, told).await
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

/// Makes the lab what it is told; whoever calls has the turn.
pub(super) async fn become_so(state: &State, mut told: Told) -> Result<Applied, Problem> {
    told.overrides.keep_known(&told.whole);
    let lab = told.overrides.over(&told.whole);
    can_be(&lab)?;
    let differences = turn_into(state, &state.now(), lab, || state.is_told(told)).await?;
    Ok(Applied { differences })
}

/// The rules can express the lab.
fn can_be(lab: &Lab) -> Result<()> {
    if lab.cluster.proxy == ProxyMode::Ladder
        && let Some((_, message)) = ladder::cannot_express(lab).into_iter().next()
    {
        return Err(Error::usage(message).hint("apply the lab with another `proxy` in [cluster] first"));
    }
    Ok(())
}

/// Pods by their names.
fn find<S: AsRef<str>>(lab: &Lab, names: impl IntoIterator<Item = S>) -> Result<Vec<&Pod>> {
    let pod = |name: S| {
        let name = name.as_ref();
        let found = lab.pods.iter().find(|pod| pod.full_name() == name);
        found.ok_or_else(|| {
            Error::usage(format!("there is no pod {name} in this lab")).hint("netlab get pods lists them")
        })
    };
    names.into_iter().map(pod).collect()
}

/// Does it to the end, even if whoever asked for it has gone. A change holds what cannot move between
/// threads.
pub(super) async fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce(runtime::Handle) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let runtime = runtime::Handle::current();
    let done = task::spawn_blocking(move || work(runtime)).await;
    done.unwrap_or_else(|panic| Err(Error::bug(panic.to_string()).into()))
}
