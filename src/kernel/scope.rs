//! Tasks of the agent that belong to one thing of the lab, and end with it.
//!
//! A listener's scope ends when it shall take no more connections; the scope that it was opened in,
//! with all connections, when the thing is gone.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The tasks of one thing.
#[derive(Debug, Clone, Default)]
pub(super) struct Scope {
    token: CancellationToken,
    tasks: TaskTracker,
}

impl Scope {
    /// One that ends with this one, or before.
    fn inner(&self) -> Scope {
        Scope { token: self.token.child_token(), tasks: TaskTracker::new() }
    }

    /// Starts a task. When the scope ends, it is dropped where it waits, with its sockets.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        // What it comes to, whether it was let or not, nobody waits for.
        let task = self.token.clone().run_until_cancelled_owned(task);
        self.tasks.spawn(async move { _ = task.await });
    }

    /// Waits until it ends.
    pub(super) async fn ended(&self) {
        self.token.cancelled().await;
    }

    /// It has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Waits until all its tasks have ended, by themselves or with it.
    async fn drained(&self) {
        self.tasks.close();
        self.tasks.wait().await;
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
    /// Who asks it how it is, until it is gone: nobody waits for their end.
    pub(super) probes: Scope,
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
            Pair { listeners: whole.inner(), probes: whole.inner(), whole }
        });
        pair.clone()
    }

    /// It takes no more connections, and nothing of it is started again.
    pub(super) fn shut(&self, owner: &str) {
        if let Some(pair) = self.table().get(owner) {
            pair.listeners.token.cancel();
        }
    }

    /// It takes no more connections; comes back when those that it has are over.
    pub(super) async fn close(&self, owner: &str) {
        self.shut(owner);
        let pair = self.table().get(owner).cloned();
        if let Some(pair) = pair {
            pair.listeners.drained().await;
            pair.whole.drained().await;
        }
    }

    /// It is gone.
    pub(super) fn end(&self, owner: &str) {
        if let Some(pair) = self.table().remove(owner) {
            pair.whole.token.cancel();
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
        let (asking, mut probe) = oneshot::channel::<()>();
        pair.probes.spawn(hold(asking));
        let mut closing = Box::pin(scopes.close("pod"));
        assert!(futures::poll!(&mut closing).is_pending());
        assert!((&mut listener).await.is_err());
        assert!(futures::poll!(&mut closing).is_pending());
        assert!(connection.try_recv() == Err(oneshot::error::TryRecvError::Empty));
        scopes.end("pod");
        closing.await;
        assert!((&mut probe).await.is_err());
        assert!((&mut connection).await.is_err());
        // Whoever only asks is not waited for.
        let (asking, mut probe) = oneshot::channel::<()>();
        scopes.of("other").probes.spawn(hold(asking));
        scopes.close("other").await;
        assert!(probe.try_recv() == Err(oneshot::error::TryRecvError::Empty));
        // The next one of this name is another one.
        let (again, mut third) = oneshot::channel::<()>();
        scopes.of("pod").listeners.spawn(hold(again));
        assert!(third.try_recv() == Err(oneshot::error::TryRecvError::Empty));
    }
}
