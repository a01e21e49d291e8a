//! What the readiness probes of a lab say: of which containers they think well, and since how many answers.
//!
//! A container without a good verdict is not ready: one that was never asked, one that has just
//! started (again), and one that has failed often enough.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use crate::{agent::protocol::ProbeStatus, lab::model::Lab};

/// A container, by the full name of its pod and its own.
pub type Server = (String, String);

/// The verdicts of a lab.
#[derive(Debug, Clone)]
pub struct Verdicts(Arc<Book>);

#[derive(Debug)]
struct Book {
    table: Mutex<BTreeMap<Server, Verdict>>,
    /// Something is otherwise than it was.
    news: watch::Sender<()>,
}

impl Default for Verdicts {
    fn default() -> Self {
        Verdicts(Arc::new(Book { table: Mutex::default(), news: watch::channel(()).0 }))
    }
}

/// What a probe says of a container.
#[derive(Debug)]
struct Verdict {
    thresholds: Thresholds,
    life: watch::Sender<Life>,
    streak: Streak,
}

/// How many answers of a kind in a row make a verdict.
#[derive(Debug, Clone, Copy)]
pub(super) struct Thresholds {
    /// Successes.
    pub(super) success: u32,
    /// Failures.
    pub(super) failure: u32,
}

/// One life of a container's server: from its start to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Life {
    /// It is another one than that with another number.
    pub(super) number: u64,
    /// It has begun.
    pub(super) up: bool,
}

/// The answers of one life so far.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Streak {
    ready: bool,
    /// What came last.
    last: Option<Result<(), String>>,
    /// How often in a row, whatever the words.
    times: u32,
}

/// What an answer changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Turn {
    /// The verdict is another one.
    verdict: bool,
    /// There is something to tell: the verdict, or a failure on its way to one, or another failure.
    worth_telling: bool,
}

impl Streak {
    fn hear(&mut self, answer: &Result<(), String>, thresholds: Thresholds) -> Turn {
        let same_kind = self.last.as_ref().is_some_and(|last| last.is_ok() == answer.is_ok());
        let same_words = self.last.as_ref() == Some(answer);
        self.times = if same_kind { self.times.saturating_add(1) } else { 1 };
        self.last = Some(answer.clone());
        let threshold = if answer.is_ok() { thresholds.success } else { thresholds.failure };
        let verdict = self.ready != answer.is_ok() && self.times >= threshold;
        if verdict {
            self.ready = answer.is_ok();
        }
        Turn { verdict, worth_telling: verdict || !same_words || self.times <= threshold }
    }
}

impl Verdicts {
    fn table(&self) -> MutexGuard<'_, BTreeMap<Server, Verdict>> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something is otherwise than it was; for whoever goes by the verdicts and is done with it, too.
    pub fn touch(&self) {
        self.0.news.send_replace(());
    }

    /// Hears of changes.
    pub fn news(&self) -> watch::Receiver<()> {
        self.0.news.subscribe()
    }

    /// There will be a container; gives back how it lives.
    pub(super) fn expect(&self, server: Server, thresholds: Thresholds) -> watch::Receiver<Life> {
        let (life, lives) = watch::channel(Life::default());
        self.table().insert(server, Verdict { thresholds, life, streak: Streak::default() });
        lives
    }

    /// A container's server has started, or has started again.
    pub(super) fn stands(&self, server: &Server) {
        if let Some(verdict) = self.table().get(server) {
            verdict.life.send_modify(|life| life.up = true);
        }
    }

    /// A container's server has ended: whatever was said of it is void.
    pub(super) fn fell(&self, server: &Server) {
        if let Some(verdict) = self.table().get_mut(server) {
            verdict.life.send_modify(|life| *life = Life { number: life.number + 1, up: false });
            verdict.streak = Streak::default();
        }
        self.touch();
    }

    /// A container's probe has an answer; says whether that is worth telling.
    pub(super) fn hear(&self, server: &Server, life: Life, answer: &Result<(), String>) -> bool {
        let turn = {
            let mut table = self.table();
            // An answer of an earlier life says nothing of this one.
            let verdict = table.get_mut(server).filter(|verdict| *verdict.life.borrow() == life);
            let Some(Verdict { thresholds, streak, .. }) = verdict else { return false };
            streak.hear(answer, *thresholds)
        };
        if turn.verdict || turn.worth_telling {
            self.touch();
        }
        turn.worth_telling
    }

    /// A pod is gone.
    pub(super) fn forget(&self, pod: &str) {
        self.table().retain(|(of, _), _| of != pod);
    }

    /// The pods of a lab that are not ready, as far as their probes are concerned.
    pub fn unready(&self, lab: &Lab) -> BTreeSet<String> {
        let table = self.table();
        let unready = lab.probed().map(|pod| (pod.full_name(), pod)).filter(|(name, pod)| {
            let mut probed = pod.containers.iter().filter(|container| container.readiness.is_some());
            probed.any(|container| {
                let verdict = table.get(&(name.clone(), container.name.to_string()));
                verdict.is_none_or(|verdict| !verdict.streak.ready)
            })
        });
        unready.map(|(name, _)| name).collect()
    }

    /// What the probe of a container says.
    pub fn of(&self, server: &Server) -> Option<ProbeStatus> {
        let table = self.table();
        let streak = &table.get(server)?.streak;
        let failure = streak.last.as_ref().and_then(|last| last.as_ref().err().cloned());
        Some(ProbeStatus { ready: streak.ready, times: streak.times, failure })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWICE: Thresholds = Thresholds { success: 2, failure: 3 };

    fn failed(why: &str) -> Result<(), String> {
        Err(why.to_owned())
    }

    #[test]
    fn a_verdict_takes_as_many_answers_as_it_says() {
        let mut streak = Streak::default();
        let mut hear = |answer: Result<(), String>| {
            let turn = streak.hear(&answer, TWICE);
            (streak.ready, turn.verdict, turn.worth_telling)
        };
        assert_eq!(hear(Ok(())), (false, false, true));
        assert_eq!(hear(failed("503")), (false, false, true));
        assert_eq!(hear(Ok(())), (false, false, true));
        assert_eq!(hear(Ok(())), (true, true, true));
        assert_eq!(hear(Ok(())), (true, false, false), "nobody wants to hear that all is well");
        assert_eq!(hear(failed("503")), (true, false, true));
        assert_eq!(hear(failed("500")), (true, false, true));
        assert_eq!(hear(failed("500")), (false, true, true));
        assert_eq!(hear(failed("500")), (false, false, false));
        assert_eq!(hear(failed("refused")), (false, false, true));
    }

    #[test]
    fn a_new_life_begins_without_a_verdict() {
        let verdicts = Verdicts::default();
        let web = ("web".to_owned(), "server".to_owned());
        let lives = verdicts.expect(web.clone(), Thresholds { success: 1, failure: 1 });
        verdicts.stands(&web);
        let first = *lives.borrow();
        assert!(verdicts.hear(&web, first, &Ok(())));
        assert!(verdicts.of(&web).is_some_and(|status| status.ready));
        verdicts.fell(&web);
        assert!(verdicts.of(&web).is_some_and(|status| !status.ready));
        // What was asked before comes too late.
        verdicts.stands(&web);
        assert!(!verdicts.hear(&web, first, &Ok(())));
        assert!(verdicts.of(&web).is_some_and(|status| !status.ready));
        let second = *lives.borrow();
        assert!(verdicts.hear(&web, second, &Ok(())));
        assert!(verdicts.of(&web).is_some_and(|status| status.ready));
        verdicts.forget("web");
        assert_eq!(verdicts.of(&web), None);
    }
}
