//! What several tell a lab at the same time becomes one change.
//!
//! Whoever has a word for the lab puts it into the queue and waits for a turn; whoever gets the turn
//! hears all the words that are there by then. So a burst of them costs few transactions, and one
//! that comes alone is heard at once.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::oneshot;

use super::{
    changing::become_so,
    leaving::in_turn,
    living::find,
    protocol::{Applied, Problem},
    state::State,
};
use crate::{
    error::Error,
    lab::{Overrides, difference::Difference},
};

/// What a lab can be told of its pods.
#[derive(Debug, Clone)]
pub(super) enum Word {
    /// They are ready, or not, or as their file and their probes say.
    Ready(Vec<(String, Option<bool>)>),
    /// They shall go.
    Delete(Vec<String>),
}

/// What has changed by that, and which pods have to be gone for it to be so.
type Heard = Result<(Applied, BTreeSet<String>), Problem>;

/// The words that wait, and who waits for what becomes of them.
#[derive(Debug, Default)]
pub(super) struct Words(Mutex<Vec<(Word, oneshot::Sender<Heard>)>>);

impl Words {
    fn push(&self, word: Word, answer: oneshot::Sender<Heard>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((word, answer));
    }

    fn take(&self) -> Vec<(Word, oneshot::Sender<Heard>)> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Word {
    /// The pods that it is about.
    fn pods(&self) -> BTreeSet<String> {
        match self {
            Word::Ready(pods) => pods.iter().map(|(pod, _)| pod.clone()).collect(),
            Word::Delete(pods) => pods.iter().cloned().collect(),
        }
    }

    /// The pods that have to be gone.
    fn gone(&self) -> BTreeSet<String> {
        match self {
            Word::Ready(_) => BTreeSet::new(),
            Word::Delete(_) => self.pods(),
        }
    }

    fn into(self, overrides: &mut Overrides) {
        match self {
            Word::Ready(pods) => pods.iter().for_each(|(pod, ready)| match ready {
                Some(ready) => overrides.make_ready(pod, *ready),
                None => overrides.hand_back(pod),
            }),
            // One that is terminating already may be wanted again; not by whoever deletes it now.
            Word::Delete(pods) => pods.iter().for_each(|pod| overrides.delete(pod)),
        }
    }
}

/// Tells the lab something, with whatever else it is told at that time.
///
/// # Errors
///
/// When there is no such pod, the rules cannot express it, or the kernel or a tool refuses.
pub(super) async fn tell(state: &Arc<State>, word: Word) -> Heard {
    let (answer, heard) = oneshot::channel();
    state.words.push(word, answer);
    in_turn(state, |runtime, state| runtime.block_on(hear(&state))).await?;
    heard.await.unwrap_or_else(|_| Err(Error::bug("a word that nobody heard").into()))
}

/// Hears all words that wait; whoever calls has the turn.
async fn hear(state: &Arc<State>) -> Result<(), Problem> {
    let lab = state.now().lab;
    let mut good = Vec::new();
    for (word, answer) in state.words.take() {
        match find(&lab, word.pods()) {
            Ok(_) => good.push((word, answer)),
            Err(error) => say(answer, Err(error.into())),
        }
    }
    let words: Vec<Word> = good.iter().map(|(word, _)| word.clone()).collect();
    match heed(state, words).await {
        Ok(differences) => {
            let alone = good.len() == 1;
            for (word, answer) in good {
                let (pods, gone) = (word.pods(), word.gone());
                let its = |it: &&Difference| alone || (it.kind == "pod" && pods.contains(&it.name));
                let differences = differences.iter().filter(its).cloned().collect();
                say(answer, Ok((Applied { differences }, gone)));
            }
        }
        // One of them may be all right without the others.
        Err(_) if good.len() > 1 => {
            for (word, answer) in good {
                let gone = word.gone();
                let heard = heed(state, vec![word]).await;
                say(answer, heard.map(|differences| (Applied { differences }, gone)));
            }
        }
        Err(problem) => good.into_iter().for_each(|(_, answer)| say(answer, Err(problem.clone()))),
    }
    Ok(())
}

async fn heed(state: &Arc<State>, words: Vec<Word>) -> Result<Vec<Difference>, Problem> {
    if words.is_empty() {
        // Another one has heard them.
        return Ok(Vec::new());
    }
    let mut told = state.told();
    words.into_iter().for_each(|word| word.into(&mut told.overrides));
    let became = become_so(state, told).await;
    // An `up` may wait for these pods.
    state.servers.verdicts().touch();
    Ok(became?.differences)
}

fn say(answer: oneshot::Sender<Heard>, heard: Heard) {
    // Who asked may have gone.
    let _ = answer.send(heard);
}
