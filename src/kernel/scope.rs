//! Tasks of the agent that belong to one thing of the lab, and end with it.
//!
//! What starts programs again ends first, when the thing is to end; listeners when it shall take no
//! more connections; what answers datagrams, and all connections, when the thing is gone.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::time::{Instant, sleep_until};
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

    /// Starts a task that sees for itself when the scope ends.
    pub(super) fn spawn_polite(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
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
    /// What starts its programs again: it ends when the thing is asked to end.
    pub(super) kept: Scope,
    /// Its listeners.
    pub(super) listeners: Scope,
    /// What answers its datagrams: nobody says when that was the last one, so it ends with the thing.
    pub(super) datagrams: Scope,
    /// All of it.
    pub(super) whole: Scope,
    /// Who asks it how it is, until it is gone: nobody waits for their end.
    pub(super) probes: Scope,
    /// When the last connection came.
    pub(super) last: Last,
}

/// When something happened last.
#[derive(Debug, Clone, Default)]
pub(super) struct Last(Arc<Mutex<Option<Instant>>>);

impl Last {
    /// It happens now.
    pub(super) fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn get(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long listeners stay open once their thing is asked to end.
#[derive(Debug, Clone, Copy, Default)]
pub struct Linger {
    /// So long in any case.
    pub least: Duration,
    /// And until none has come for so long, and none is open.
    pub quiet: Duration,
    /// But no longer than that.
    pub most: Duration,
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
            let (kept, listeners, datagrams) = (whole.inner(), whole.inner(), whole.inner());
            Pair { kept, listeners, datagrams, probes: whole.inner(), whole, last: Last::default() }
        });
        pair.clone()
    }

    /// It is asked to end: nothing of it is started again.
    pub(super) fn ask(&self, owner: &str) {
        if let Some(pair) = self.table().get(owner) {
            pair.kept.token.cancel();
        }
    }

    /// It takes no more connections from now on, and nothing of it is started again.
    pub(super) fn shut(&self, owner: &str) {
        if let Some(pair) = self.table().get(owner) {
            [&pair.kept, &pair.listeners, &pair.datagrams].into_iter().for_each(|scope| scope.token.cancel());
        }
    }

    /// It takes no more connections after a while, in which nobody comes who is still expected; comes back
    /// when those that it has are over.
    pub(super) async fn close(&self, owner: &str, linger: Linger, is_expected: impl Fn() -> BoxFuture<'static, bool>) {
        let pair = self.table().get(owner).cloned();
        let Some(pair) = pair else { return };
        if !pair.listeners.tasks.is_empty() {
            pair.quiet(linger, is_expected).await;
        }
        pair.listeners.token.cancel();
        pair.listeners.drained().await;
        pair.whole.drained().await;
    }

    /// It is gone.
    pub(super) fn end(&self, owner: &str) {
        if let Some(pair) = self.table().remove(owner) {
            pair.whole.token.cancel();
        }
    }
}

impl Pair {
    /// Waits until nobody is there and nobody comes any more: whoever was on the way has come, and others
    /// have been told to go elsewhere. No event says so.
    async fn quiet(&self, Linger { least, quiet, most }: Linger, is_expected: impl Fn() -> BoxFuture<'static, bool>) {
        let began = Instant::now();
        let latest = began + most;
        loop {
            let since_last = self.last.get().map_or(began, |last| last + quiet);
            let until = (began + least).max(since_last.min(latest));
            let now = Instant::now();
            if until > now {
                sleep_until(until).await;
            // As long as it has to be there anyway, others may come.
            } else if now < latest && (!self.whole.tasks.is_empty() || is_expected().await) {
                sleep_until(latest.min(now + quiet)).await;
            } else {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use futures::FutureExt;
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
        scopes.ask("pod");
        assert!(pair.kept.has_ended() && !pair.listeners.has_ended());
        let mut closing = Box::pin(scopes.close("pod", Linger::default(), || ready(false).boxed()));
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
        scopes.close("other", Linger::default(), || ready(false).boxed()).await;
        assert!(probe.try_recv() == Err(oneshot::error::TryRecvError::Empty));
        // The next one of this name is another one.
        let (again, mut third) = oneshot::channel::<()>();
        scopes.of("pod").listeners.spawn(hold(again));
        assert!(third.try_recv() == Err(oneshot::error::TryRecvError::Empty));
    }
    #[tokio::test(start_paused = true)]
    async fn listeners_stay_for_those_who_still_come() {
        let seconds = Duration::from_secs;
        let closes_after = async |linger: Linger, comes: Option<u64>| {
            let scopes = Scopes::default();
            let pair = scopes.of("pod");
            let listeners = pair.listeners.clone();
            pair.listeners.spawn_polite(async move { listeners.ended().await });
            if let Some(every) = comes {
                let last = pair.last.clone();
                pair.kept.spawn(async move {
                    loop {
                        last.note();
                        // Somebody comes so often; the clock of the test does not wait.
                        tokio::time::sleep(seconds(every)).await;
                    }
                });
            }
            let began = Instant::now();
            scopes.close("pod", linger, || ready(false).boxed()).await;
            began.elapsed().as_secs()
        };
        let linger = Linger { least: seconds(3), quiet: seconds(2), most: seconds(9) };
        assert_eq!(closes_after(linger, None).await, 3);
        assert_eq!(closes_after(linger, Some(1)).await, 9);
        assert_eq!(closes_after(linger, Some(100)).await, 3);
        assert_eq!(closes_after(Linger::default(), Some(1)).await, 0);
        // One that is open for four seconds, and one for longer than anybody waits.
        for (open, closed) in [(4, 5), (20, 20)] {
            let scopes = Scopes::default();
            let pair = scopes.of("pod");
            let (listeners, ended) = (pair.listeners.clone(), pair.listeners.clone());
            pair.listeners.spawn_polite(async move { listeners.ended().await });
            // What is open is open for so long; the clock of the test does not wait.
            pair.whole.spawn(tokio::time::sleep(seconds(open)));
            let began = Instant::now();
            let (at, ()) = tokio::join!(
                async {
                    ended.ended().await;
                    began.elapsed().as_secs()
                },
                scopes.close("pod", linger, || ready(false).boxed())
            );
            assert_eq!((at, began.elapsed().as_secs()), (closed.min(9), open.max(closed)));
        }
    }
}
