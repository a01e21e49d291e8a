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
    proxy::{Rules, sync},
};

/// So many nodes at a time: a tool is a process.
const AT_ONCE: usize = 4;

/// The rules of a node, as they are loaded.
#[derive(Debug, Clone, Copy)]
struct Loaded<'a> {
    netns: &'a str,
    rules: &'a Rules,
    at: &'a Span,
}

/// What a node has, what it shall have, and what leads there if both are for the same tool.
struct Change<'a> {
    had: Option<Loaded<'a>>,
    wanted: Loaded<'a>,
    text: Option<String>,
}

/// Goes from the rules of one plan to those of another, on all nodes; in `fresh` namespaces there are
/// none yet. Says on which nodes there was something to do.
///
/// # Errors
///
/// When a tool is missing, or does not take the rules. Then all nodes have the old ones again, as far
/// as the tools let them.
pub async fn rules(
    old: &Plan,
    new: &Plan,
    fresh: &BTreeSet<String>,
    processes: &Processes,
) -> Result<BTreeSet<String>, StepError> {
    let had: BTreeMap<&str, Loaded<'_>> =
        loaded(old).filter(|it| !fresh.contains(it.netns)).map(|it| (it.netns, it)).collect();
    let mut memo = sync::Memo::default();
    let changes = loaded(new).map(|wanted| Change::of(had.get(wanted.netns).copied(), wanted, &mut memo));
    let changes: Vec<Change<'_>> = changes.filter(|it| !it.is_nothing()).collect();
    let going = changes
        .iter()
        .map(|it| async move { it.converge(processes).await.map_err(|error| step_error(it.wanted, error)) });
    let results: Vec<Result<(), StepError>> = stream::iter(going).buffer_unordered(AT_ONCE).collect().await;
    let Some(error) = results.into_iter().find_map(Result::err) else {
        return Ok(changes.iter().map(|it| it.wanted.netns.to_owned()).collect());
    };
    let back = changes.iter().filter_map(|it| it.had.map(|had| (it.wanted, had)));
    for (from, to) in back {
        if let Err(error) = mend(from, to, processes).await {
            eprintln!("{}: the old rules are not back: {error}", to.netns);
        }
    }
    Err(error)
}

fn loaded(plan: &Plan) -> impl Iterator<Item = Loaded<'_>> {
    let stage = plan.stages.iter().filter(|stage| stage.name == StageName::Rules);
    stage.flat_map(|stage| &stage.steps).filter_map(|planned| match &planned.step {
        Step::Rules { netns, text, .. } => Some(Loaded { netns, rules: text, at: &planned.at }),
        _ => None,
    })
}

fn step_error(wanted: Loaded<'_>, error: crate::error::Error) -> StepError {
    let Loaded { netns, rules, at } = wanted;
    let step = Step::Rules { netns: netns.to_owned(), proxy: rules.mode(), text: rules.clone() };
    StepError { step: step.to_string(), at: at.clone(), error }
}

impl<'a> Change<'a> {
    fn of(had: Option<Loaded<'a>>, wanted: Loaded<'a>, memo: &mut sync::Memo) -> Self {
        let text =
            had.filter(|had| same_tool(*had, wanted)).and_then(|had| sync::change(had.rules, wanted.rules, memo));
        Change { had, wanted, text }
    }

    fn is_nothing(&self) -> bool {
        self.text.is_none() && self.had.is_some_and(|had| same_tool(had, self.wanted))
    }

    /// Brings a node from what it has to what it shall have, and once more if a tool did not come back.
    async fn converge(&self, processes: &Processes) -> Result<()> {
        let wanted = self.wanted;
        let Some(had) = self.had else {
            return rules::load(wanted.netns, wanted.rules.mode(), wanted.rules.to_text(), processes).await;
        };
        let Err(error) = self.go(had, processes).await else { return Ok(()) };
        eprintln!("{}: {error}; looking what is there", wanted.netns);
        mend(had, wanted, processes).await
    }

    async fn go(&self, had: Loaded<'_>, processes: &Processes) -> Result<()> {
        if let Some(text) = &self.text {
            return load(self.wanted, text.clone(), processes).await;
        }
        // The new ones first: while both hold, either leads to an endpoint.
        load(self.wanted, self.wanted.rules.to_text(), processes).await?;
        load(had, sync::removal(had.rules.mode(), had.rules), processes).await?;
        if self.wanted.rules.mode() == ProxyMode::Nftables {
            sweep(self.wanted, processes).await?;
        }
        Ok(())
    }
}

/// The one tool knows what both have loaded.
fn same_tool(one: Loaded<'_>, other: Loaded<'_>) -> bool {
    one.rules.mode() == other.rules.mode() && rules::same_tool(one.length(), other.length())
}

impl Loaded<'_> {
    /// The length of the text, where that decides about the tool.
    fn length(&self) -> usize {
        match self.rules.mode() {
            ProxyMode::Nftables => 0,
            ProxyMode::Iptables | ProxyMode::Ladder => self.rules.len(),
        }
    }
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
    let printed = rules::printed(wanted.rules.mode(), wanted.rules, processes).await?;
    if let Some(text) = sync::repair(wanted.rules.mode(), &found, &printed) {
        load(wanted, text, processes).await?;
    }
    if !same_tool(had, wanted) {
        let found = save(had, processes).await?;
        if let Some(text) = sync::repair(had.rules.mode(), &found, "") {
            load(had, text, processes).await?;
        }
    }
    Ok(())
}

async fn save(it: Loaded<'_>, processes: &Processes) -> Result<String> {
    rules::save_from(Entrance::to_netns(it.netns)?, it.rules.mode(), it.length(), processes).await
}

async fn load(it: Loaded<'_>, text: String, processes: &Processes) -> Result<()> {
    rules::change(Entrance::to_netns(it.netns)?, it.rules.mode(), it.length(), text, processes).await
}
