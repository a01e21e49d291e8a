//! From the rules that nodes have to those that they shall have.
//!
//! Every node gets one transaction, with what changes and nothing else. If a tool dies over it, the
//! kernel has either the old rules or the new ones: it is asked which, and told what is missing.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, stream};

use super::{
    apply::StepError,
    process::{Entrance, Processes},
    rules,
};
use crate::{
    error::Result,
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

/// Goes from the rules of one plan to those of another, on all nodes; in `fresh` namespaces there are
/// none yet.
///
/// # Errors
///
/// When a tool is missing, or does not take the rules. Then all nodes have the old ones again, as far
/// as the tools let them.
pub async fn rules(old: &Plan, new: &Plan, fresh: &BTreeSet<String>, processes: &Processes) -> Result<(), StepError> {
    let had: BTreeMap<&str, Loaded<'_>> =
        loaded(old).filter(|(it, _)| !fresh.contains(it.netns)).map(|(it, _)| (it.netns, it)).collect();
    let changes: Vec<_> = loaded(new).map(|(wanted, at)| (had.get(wanted.netns).copied(), wanted, at)).collect();
    let going = changes.iter().map(|(had, wanted, at)| async move {
        converge(*had, *wanted, processes).await.map_err(|error| step_error(*wanted, at, error))
    });
    let results: Vec<Result<(), StepError>> = stream::iter(going).buffer_unordered(AT_ONCE).collect().await;
    let Some(error) = results.into_iter().find_map(Result::err) else { return Ok(()) };
    let back = changes.iter().filter_map(|(had, wanted, _)| had.map(|had| (*wanted, had)));
    for (from, to) in back {
        if let Err(error) = mend(from, to, processes).await {
            eprintln!("{}: the old rules are not back: {error}", to.netns);
        }
    }
    Err(error)
}

fn loaded(plan: &Plan) -> impl Iterator<Item = (Loaded<'_>, &Span)> {
    let stage = plan.stages.iter().filter(|stage| stage.name == StageName::Rules);
    stage.flat_map(|stage| &stage.steps).filter_map(|planned| match &planned.step {
        Step::Rules { netns, proxy, text } => Some((Loaded { netns, mode: *proxy, text }, &planned.at)),
        _ => None,
    })
}

fn step_error(wanted: Loaded<'_>, at: &Span, error: crate::error::Error) -> StepError {
    let step = Step::Rules { netns: wanted.netns.to_owned(), proxy: wanted.mode, text: String::new() };
    StepError { step: step.to_string(), at: at.clone(), error }
}

/// Brings a node from what it has to what it shall have, and once more if a tool did not come back.
async fn converge(had: Option<Loaded<'_>>, wanted: Loaded<'_>, processes: &Processes) -> Result<()> {
    let Some(had) = had else {
        return rules::load(wanted.netns, wanted.mode, wanted.text.to_owned(), processes).await;
    };
    let Err(error) = go(had, wanted, processes).await else { return Ok(()) };
    eprintln!("{}: {error}; looking what is there", wanted.netns);
    mend(had, wanted, processes).await
}

async fn go(had: Loaded<'_>, wanted: Loaded<'_>, processes: &Processes) -> Result<()> {
    if had.mode == wanted.mode && rules::same_tool(had.text.len(), wanted.text.len()) {
        let Some(text) = sync::transaction(wanted.mode, had.text, wanted.text) else { return Ok(()) };
        return load(wanted, text, processes).await;
    }
    // The new ones first: while both hold, either leads to an endpoint.
    load(wanted, wanted.text.to_owned(), processes).await?;
    load(had, sync::removal(had.mode, had.text), processes).await?;
    if wanted.mode == ProxyMode::Nftables {
        sweep(wanted, processes).await?;
    }
    Ok(())
}

/// Takes away the tables that iptables has left empty.
async fn sweep(it: Loaded<'_>, processes: &Processes) -> Result<()> {
    match sync::husks(&save(it, processes).await?) {
        Some(text) => load(it, text, processes).await,
        None => Ok(()),
    }
}

/// From whatever is there.
async fn mend(had: Loaded<'_>, wanted: Loaded<'_>, processes: &Processes) -> Result<()> {
    let found = save(wanted, processes).await?;
    let printed = rules::printed(wanted.mode, wanted.text, processes).await?;
    if let Some(text) = sync::repair(wanted.mode, &found, &printed) {
        load(wanted, text, processes).await?;
    }
    if had.mode != wanted.mode || !rules::same_tool(had.text.len(), wanted.text.len()) {
        let found = save(had, processes).await?;
        if let Some(text) = sync::repair(had.mode, &found, "") {
            load(had, text, processes).await?;
        }
    }
    Ok(())
}

async fn save(it: Loaded<'_>, processes: &Processes) -> Result<String> {
    rules::save_from(Entrance::to_netns(it.netns)?, it.mode, it.text.len(), processes).await
}

async fn load(it: Loaded<'_>, text: String, processes: &Processes) -> Result<()> {
    rules::change(Entrance::to_netns(it.netns)?, it.mode, it.text.len(), text, processes).await
}
