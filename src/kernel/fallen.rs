//! Servers that have ended and do not listen again yet: their pods are not ready.

use std::{collections::BTreeSet, sync::Arc};

use tokio::sync::watch;

/// Those servers, by pod and container.
#[derive(Debug, Clone)]
pub struct Fallen(Arc<watch::Sender<BTreeSet<(String, String)>>>, Arc<watch::Sender<()>>);

impl Default for Fallen {
    fn default() -> Self {
        Fallen(Arc::new(watch::channel(BTreeSet::new()).0), Arc::new(watch::channel(()).0))
    }
}

impl Fallen {
    /// A server has ended, and will be started again.
    pub(super) fn note(&self, server: &(String, String)) {
        self.0.send_if_modified(|fallen| fallen.insert(server.clone()));
    }

    /// A server listens again, or has ended for good.
    pub(super) fn forget(&self, server: &(String, String)) {
        self.0.send_if_modified(|fallen| fallen.remove(server));
    }

    /// Those that wait to be started again need not wait any longer.
    pub(super) fn hurry(&self) {
        self.1.send_replace(());
    }

    /// Hears of that.
    pub(super) fn hurried(&self) -> watch::Receiver<()> {
        self.1.subscribe()
    }

    /// Hears of changes.
    pub fn news(&self) -> watch::Receiver<BTreeSet<(String, String)>> {
        self.0.subscribe()
    }

    /// It is one of those servers.
    pub fn contains(&self, server: &(String, String)) -> bool {
        self.0.borrow().contains(server)
    }

    /// The pods of those servers.
    pub fn pods(&self) -> BTreeSet<String> {
        self.0.borrow().iter().map(|(pod, _)| pod.clone()).collect()
    }
}
