//! From the rules that nodes have to those that they shall have.
//!
//! Every node gets one transaction, with what changes and nothing else. If a tool dies over it, the
//! kernel has either the old rules or the new ones: it is asked which, and told what is missing.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, stream};

use super::{
    apply::StepError,
    events::Events,
    process::{Entrance, Processes},
    rules::{self, How, Mishap},
};
use crate::{
    error::{Error, Result},
    lab::model::{ProxyMode, Span},
    plan::step::{Plan, StageName, Step},
    proxy::sync,
};

/// So many nodes at a time: a tool is a process.
const AT_ONCE: usize = 4;

/// The rules of a node, as they are loaded.
#[derive(Debug, Clone, Copy)]
struct Loaded<'a> {
    netns: &'a str,
    mode: ProxyMode,
    text: &'a str,
}

/// What a change of rules needs, and whom it tells.
#[derive(Debug, Clone, Copy)]
pub struct Means<'a> {
    /// The tools run among these.
    pub processes: &'a Processes,
    /// A tool that did not come back is told here.
    pub events: &'a Events,
}

/// What became of a node on which a change went wrong.
#[derive(Debug)]
struct Failed {
    /// Its rules may be others than before.
    touched: bool,
    error: Error,
}

/// Goes from the rules of one plan to those of another, on all nodes; in `fresh` namespaces there are
/// none yet.
///
/// # Errors
///
/// When a tool is missing, or does not take the rules. Then all nodes have the old ones again, as far
/// as the tools let them.
pub async fn rules(old: &Plan, new: &Plan, fresh: &BTreeSet<String>, means: Means<'_>) -> Result<(), StepError> {
    let had: BTreeMap<&str, Loaded<'_>> =
        loaded(old).filter(|(it, _)| !fresh.contains(it.netns)).map(|(it, _)| (it.netns, it)).collect();
    let changes: Vec<_> = loaded(new).map(|(wanted, at)| (had.get(wanted.netns).copied(), wanted, at)).collect();
    let going = changes.iter().map(|(had, wanted, _)| converge(*had, *wanted, means));
    let results: Vec<Result<(), Failed>> = stream::iter(going).buffered(AT_ONCE).collect().await;
    let touched: Vec<bool> =
        results.iter().map(|it| it.as_ref().map_or_else(|failed| failed.touched, |()| true)).collect();
    let failed = changes.iter().zip(results).find_map(|((_, wanted, at), result)| Some((*wanted, at, result.err()?)));
    let Some((wanted, at, Failed { mut error, .. })) = failed else { return Ok(()) };
    for ((had, wanted, _), _) in changes.iter().zip(touched).filter(|(_, touched)| *touched) {
        let Some(had) = had else { continue };
        if let Err(why) = mend(*wanted, *had, means).await {
            let message = format!("its rules are perhaps not those from before the change: {why}");
            means.events.warning(format!("node/{}", had.netns), "NotUndone", message);
            error = error.hint("netlab diff says what differs, and netlab repair puts it right");
        }
    }
    Err(step_error(wanted, at, error))
}

fn loaded(plan: &Plan) -> impl Iterator<Item = (Loaded<'_>, &Span)> {
    let stage = plan.stages.iter().filter(|stage| stage.name == StageName::Rules);
    stage.flat_map(|stage| &stage.steps).filter_map(|planned| match &planned.step {
        Step::Rules { netns, proxy, text } => Some((Loaded { netns, mode: *proxy, text }, &planned.at)),
        _ => None,
    })
}

fn step_error(wanted: Loaded<'_>, at: &Span, error: Error) -> StepError {
    let step = Step::Rules { netns: wanted.netns.to_owned(), proxy: wanted.mode, text: String::new() };
    StepError { step: step.to_string(), at: at.clone(), error }
}

/// Brings a node from what it has to what it shall have. If a tool does not do it, the kernel is asked
/// what is there now, and the tool told once more what is missing: if it dies again, it is left alone.
async fn converge(had: Option<Loaded<'_>>, wanted: Loaded<'_>, means: Means<'_>) -> Result<(), Failed> {
    let gone = match had {
        Some(had) => go(had, wanted, means).await,
        None => load(wanted, wanted.text.to_owned(), means).await,
    };
    let Err(Mishap { how, error }) = gone else { return Ok(()) };
    if how == How::NotStarted {
        return Err(Failed { touched: false, error });
    }
    let node = format!("node/{}", wanted.netns);
    means.events.warning(&node, "Interrupted", format!("{error}; netlab looks what is there"));
    eprintln!("{}: {error}; looking what is there", wanted.netns);
    let there = mend(had.unwrap_or(wanted), wanted, means).await.map_err(|error| Failed { touched: true, error })?;
    let found = match there {
        There::Wanted => "the kernel had all of its new rules already",
        There::Other => "what was missing of its new rules is there now",
    };
    means.events.normal(&node, "Converged", found);
    Ok(())
}

async fn go(had: Loaded<'_>, wanted: Loaded<'_>, means: Means<'_>) -> Result<(), Mishap> {
    if had.mode == wanted.mode && rules::same_tool(had.text.len(), wanted.text.len()) {
        let Some(text) = sync::transaction(wanted.mode, had.text, wanted.text) else { return Ok(()) };
        return load(wanted, text, means).await;
    }
    // The new ones first: while both hold, either leads to an endpoint.
    load(wanted, wanted.text.to_owned(), means).await?;
    let removed = load(had, sync::removal(had.mode, had.text), means).await;
    // Whatever became of this one, the new ones are there.
    removed.map_err(|Mishap { how, error }| match how {
        How::NotStarted => Mishap { how: How::Refused, error },
        how => Mishap { how, error },
    })?;
    if wanted.mode == ProxyMode::Nftables {
        sweep(wanted, means).await?;
    }
    Ok(())
}

/// Takes away the tables that iptables has left empty.
async fn sweep(it: Loaded<'_>, means: Means<'_>) -> Result<(), Mishap> {
    let found = save(it, means).await.map_err(|error| Mishap { how: How::Refused, error })?;
    match sync::husks(&found) {
        Some(text) => load(it, text, means).await,
        None => Ok(()),
    }
}

/// What was found where something was to be mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum There {
    /// What is wanted.
    Wanted,
    /// Something else.
    Other,
}

/// From whatever is there.
async fn mend(had: Loaded<'_>, wanted: Loaded<'_>, means: Means<'_>) -> Result<There> {
    let mut there = There::Wanted;
    let found = save(wanted, means).await?;
    let printed = rules::printed(wanted.mode, wanted.text, means.processes).await?;
    if let Some(text) = sync::repair(wanted.mode, &found, &printed) {
        there = There::Other;
        load(wanted, text, means).await?;
    }
    if had.mode != wanted.mode || !rules::same_tool(had.text.len(), wanted.text.len()) {
        let found = save(had, means).await?;
        if let Some(text) = sync::repair(had.mode, &found, "") {
            there = There::Other;
            load(had, text, means).await?;
        }
    }
    Ok(there)
}

async fn save(it: Loaded<'_>, means: Means<'_>) -> Result<String> {
    rules::save_from(Entrance::to_netns(it.netns)?, it.mode, it.text.len(), means.processes).await
}

async fn load(it: Loaded<'_>, text: String, means: Means<'_>) -> Result<(), Mishap> {
    let entrance = Entrance::to_netns(it.netns).map_err(|error| Mishap { how: How::NotStarted, error })?;
    rules::change(entrance, it.mode, it.text.len(), text, means.processes).await
}
