//! Tasks of the agent that belong to one thing of the lab, and end with it.
//!
//! A listener's scope ends when it shall take no more connections; the scope that it was opened in,
//! with all connections, when the thing is gone.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio_util::sync::CancellationToken;

/// The tasks of one thing.
#[derive(Debug, Clone, Default)]
pub(super) struct Scope(CancellationToken);

impl Scope {
    /// One that ends with this one, or before.
    pub(super) fn inner(&self) -> Scope {
        Scope(self.0.child_token())
    }

    /// Starts a task. When the scope ends, it is dropped where it waits, with its sockets.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(self.0.clone().run_until_cancelled_owned(task));
    }

    /// Ends all tasks.
    pub(super) fn end(&self) {
        self.0.cancel();
    }
}

/// The scopes of the things of a lab: pods by their full names, other places by their namespaces'.
#[derive(Debug, Clone, Default)]
pub(super) struct Scopes(Arc<Mutex<BTreeMap<String, Pair>>>);

/// What accepts, and what lives.
#[derive(Debug, Clone)]
pub(super) struct Pair {
    /// Its listeners.
    pub(super) listeners: Scope,
    /// All of it.
    pub(super) whole: Scope,
}

impl Scopes {
    fn table(&self) -> MutexGuard<'_, BTreeMap<String, Pair>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those of a thing.
    pub(super) fn of(&self, owner: &str) -> Pair {
        let mut table = self.table();
        let pair = table.entry(owner.to_owned()).or_insert_with(|| {
            let whole = Scope::default();
            Pair { listeners: whole.inner(), whole }
        });
        pair.clone()
    }

    /// It takes no more connections.
    pub(super) fn close(&self, owner: &str) {
        if let Some(pair) = self.table().get(owner) {
            pair.listeners.end();
        }
    }

    /// It is gone.
    pub(super) fn end(&self, owner: &str) {
        if let Some(pair) = self.table().remove(owner) {
            pair.whole.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn listeners_end_before_connections() {
        let scopes = Scopes::default();
        let pair = scopes.of("pod");
        let ((listening, mut listener), (talking, mut connection)) =
            (oneshot::channel::<()>(), oneshot::channel::<()>());
        let hold = |sender: oneshot::Sender<()>| async move {
            let _held = sender;
            std::future::pending().await
        };
        pair.listeners.spawn(hold(listening));
        pair.whole.spawn(hold(talking));
        scopes.close("pod");
        assert!((&mut listener).await.is_err());
        assert!(connection.try_recv() == Err(oneshot::error::TryRecvError::Empty));
        scopes.end("pod");
        assert!((&mut connection).await.is_err());
        // The next one of this name is another one.
        let (again, mut third) = oneshot::channel::<()>();
        scopes.of("pod").listeners.spawn(hold(again));
        assert!(third.try_recv() == Err(oneshot::error::TryRecvError::Empty));
    }
}
