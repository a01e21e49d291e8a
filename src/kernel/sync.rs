//! From the rules that nodes have to those that they shall have.
//!
//! Every node gets one transaction, with what changes and nothing else. If a tool dies over it, or the
//! kernel refuses it, that has either the old rules or the new ones: it is asked which, and told what is missing.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZero,
    thread,
};

use futures::{FutureExt, StreamExt, stream};

use super::{
    apply::StepError,
    events::Events,
    process::{Entrance, Processes},
    rules::{self, How, Mishap},
    stopwatch::Stopwatch,
};
use crate::{
    error::{Error, Result},
    lab::model::{ProxyMode, Span},
    plan::step::{Plan, StageName, Step},
    proxy::{Rules, sync},
};

/// So many nodes at a time where a tool does it, which is a process and waits for the kernel in between.
const TOOLS_AT_ONCE: usize = 4;

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

/// What a change of rules needs, and whom it tells.
#[derive(Debug, Clone, Copy)]
pub struct Means<'a> {
    /// The tools run among these.
    pub processes: &'a Processes,
    /// A tool that did not come back is told here.
    pub events: &'a Events,
    /// Notes what each node takes.
    pub watch: &'a Stopwatch,
}

/// What became of a node on which a change went wrong.
#[derive(Debug)]
struct Failed {
    /// Its rules may be others than before.
    touched: bool,
    error: Error,
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
    means: Means<'_>,
) -> Result<BTreeSet<String>, StepError> {
    let had: BTreeMap<&str, Loaded<'_>> =
        loaded(old).filter(|it| !fresh.contains(it.netns)).map(|it| (it.netns, it)).collect();
    let mut memo = sync::Memo::default();
    let changes = loaded(new).map(|wanted| Change::of(had.get(wanted.netns).copied(), wanted, &mut memo));
    let changes: Vec<Change<'_>> = changes.filter(|it| !it.is_nothing()).collect();
    let going = changes.iter().enumerate().map(|(nth, it)| it.converge(means).map(move |result| (nth, result)));
    let results = stream::iter(going).buffer_unordered(at_once(&changes));
    let mut results: Vec<(usize, Result<(), Failed>)> = results.collect().await;
    results.sort_unstable_by_key(|(nth, _)| *nth);
    let touched: Vec<bool> =
        results.iter().map(|(_, it)| it.as_ref().map_or_else(|failed| failed.touched, |()| true)).collect();
    let failed = changes.iter().zip(results).find_map(|(it, (_, result))| Some((it.wanted, result.err()?)));
    let Some((wanted, Failed { mut error, .. })) = failed else {
        return Ok(changes.iter().map(|it| it.wanted.netns.to_owned()).collect());
    };
    for (it, _) in changes.iter().zip(touched).filter(|(_, touched)| *touched) {
        let Some(had) = it.had else { continue };
        if let Err(why) = mend(it.wanted, had, means).await {
            let message = format!("its rules are perhaps not those from before the change: {why}");
            means.events.warning(format!("node/{}", had.netns), "NotUndone", message);
            error = error.hint("netlab diff says what differs, and netlab repair puts it right");
        }
    }
    Err(step_error(wanted, error))
}

/// How many nodes change at a time. The kernel takes nftables in one piece: more than there are processors
/// would only make the first as late as the last.
fn at_once(changes: &[Change<'_>]) -> usize {
    match changes.first().map(|it| it.wanted.rules.mode()) {
        Some(ProxyMode::Nftables) => thread::available_parallelism().map_or(1, NonZero::get),
        _ => TOOLS_AT_ONCE,
    }
}

fn loaded(plan: &Plan) -> impl Iterator<Item = Loaded<'_>> {
    let stage = plan.stages.iter().filter(|stage| stage.name == StageName::Rules);
    stage.flat_map(|stage| &stage.steps).filter_map(|planned| match &planned.step {
        Step::Rules { netns, text, .. } => Some(Loaded { netns, rules: text, at: &planned.at }),
        _ => None,
    })
}

fn step_error(wanted: Loaded<'_>, error: Error) -> StepError {
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

    /// Brings a node from what it has to what it shall have, and notes how long that takes.
    async fn converge(&self, means: Means<'_>) -> Result<(), Failed> {
        let begun = means.watch.begin();
        let done = self.lead(means).await;
        let Loaded { netns, rules, .. } = self.wanted;
        means.watch.done(begun, StageName::Rules.as_str(), rules.mode().as_str(), || netns.to_owned());
        done
    }

    /// From what the node has to what it shall have. If a tool does not do it, the kernel is asked
    /// what is there now, and the tool told once more what is missing: if it dies again, it is left alone.
    async fn lead(&self, means: Means<'_>) -> Result<(), Failed> {
        let wanted = self.wanted;
        let Err(Mishap { how, error }) = self.go(means).await else { return Ok(()) };
        if how == How::NotStarted {
            return Err(Failed { touched: false, error });
        }
        let node = format!("node/{}", wanted.netns);
        means.events.warning(&node, "Interrupted", format!("{error}; netlab looks what is there"));
        eprintln!("{}: {error}; looking what is there", wanted.netns);
        let there = mend(self.had.unwrap_or(wanted), wanted, means).await;
        let found = match there.map_err(|error| Failed { touched: true, error })? {
            There::Wanted => "the kernel had all of its new rules already",
            There::Other => "what was missing of its new rules is there now",
        };
        means.events.normal(&node, "Converged", found);
        Ok(())
    }

    async fn go(&self, means: Means<'_>) -> Result<(), Mishap> {
        let wanted = self.wanted;
        if let Some(text) = &self.text {
            return load(wanted, text.clone(), means).await;
        }
        // The new ones first: while both hold, either leads to an endpoint.
        load(wanted, wanted.rules.to_text(), means).await?;
        let Some(had) = self.had else { return Ok(()) };
        let removed = load(had, sync::removal(had.rules.mode(), had.rules), means).await;
        // Whatever became of this one, the new ones are there.
        removed.map_err(|Mishap { how, error }| match how {
            How::NotStarted => Mishap { how: How::Refused, error },
            how => Mishap { how, error },
        })?;
        if wanted.rules.mode() == ProxyMode::Nftables {
            sweep(wanted, means).await?;
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
    let printed = rules::printed(wanted.rules.mode(), wanted.rules, means.processes).await?;
    if let Some(text) = sync::repair(wanted.rules.mode(), &found, &printed) {
        there = There::Other;
        load(wanted, text, means).await?;
    }
    if !same_tool(had, wanted) {
        let found = save(had, means).await?;
        if let Some(text) = sync::repair(had.rules.mode(), &found, "") {
            there = There::Other;
            load(had, text, means).await?;
        }
    }
    Ok(there)
}

async fn save(it: Loaded<'_>, means: Means<'_>) -> Result<String> {
    rules::save_from(Entrance::to_netns(it.netns)?, it.rules.mode(), it.length(), means.processes).await
}

async fn load(it: Loaded<'_>, text: String, means: Means<'_>) -> Result<(), Mishap> {
    rules::change_in(it.netns, it.rules.mode(), it.length(), text, means.processes).await
}
