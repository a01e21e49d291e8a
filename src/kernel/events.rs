//! What happens in a lab, as it happens: the last of it is kept for whoever asks.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use tokio::sync::watch;

use crate::agent::protocol::{Happening, Tone};

/// So many are kept.
const MOST: usize = 1000;

/// What has happened lately.
#[derive(Debug, Clone)]
pub struct Events(Arc<Book>);

#[derive(Debug)]
struct Book {
    last: Mutex<VecDeque<Happening>>,
    /// How many there have been.
    count: watch::Sender<u64>,
}

impl Default for Events {
    fn default() -> Self {
        Events(Arc::new(Book { last: Mutex::default(), count: watch::channel(0).0 }))
    }
}

impl Events {
    fn last(&self) -> MutexGuard<'_, VecDeque<Happening>> {
        self.0.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something happened as it should.
    pub fn normal(&self, object: impl Into<String>, reason: &str, message: impl Into<String>) {
        self.write(Tone::Normal, object.into(), reason, message.into());
    }

    /// Something went wrong.
    pub fn warning(&self, object: impl Into<String>, reason: &str, message: impl Into<String>) {
        self.write(Tone::Warning, object.into(), reason, message.into());
    }

    fn write(&self, tone: Tone, object: String, reason: &str, message: String) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let mut last = self.last();
        let number = *self.0.count.borrow() + 1;
        if last.len() == MOST {
            last.pop_front();
        }
        last.push_back(Happening { number, millis, tone, reason: reason.to_owned(), object, message });
        self.0.count.send_replace(number);
    }

    /// Those after a number, as far as they are kept.
    pub fn after(&self, number: u64) -> Vec<Happening> {
        self.last().iter().filter(|it| it.number > number).cloned().collect()
    }

    /// The number of the last one.
    pub fn latest(&self) -> u64 {
        *self.0.count.borrow()
    }

    /// Waits for those after a number.
    pub async fn wait_after(&self, number: u64) -> Vec<Happening> {
        // The sender is here, so it has not gone.
        let _ = self.0.count.subscribe().wait_for(|count| *count > number).await;
        self.after(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_are_kept_and_heard_of() {
        let events = Events::default();
        for n in 0..MOST + 5 {
            events.normal(format!("pod/{n}"), "Ready", "is ready");
        }
        let all = events.after(0);
        assert_eq!((all.len(), all[0].number, all[0].object.as_str()), (MOST, 6, "pod/5"));
        let (heard, ()) = tokio::join!(events.wait_after(1005), async {
            events.warning("pod/x", "Killed", "its processes got SIGKILL");
        });
        assert_eq!(heard.len(), 1);
        assert_eq!((heard[0].number, heard[0].tone), (1006, Tone::Warning));
        assert!(events.after(1006).is_empty());
    }
}
