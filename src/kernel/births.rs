//! When the pods of a lab came into the world.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

/// The moments by the pods' full names, in milliseconds since 1970.
#[derive(Debug, Clone, Default)]
pub struct Births(Arc<Mutex<BTreeMap<String, u64>>>);

impl Births {
    fn table(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first server of a pod starts now, or another one of it, which makes no difference.
    pub(super) fn note(&self, pod: &str) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        self.table().entry(pod.to_owned()).or_insert(millis);
    }

    /// It is gone; one that comes under its name is another one.
    pub(super) fn forget(&self, pod: &str) {
        self.table().remove(pod);
    }

    /// All of them.
    pub fn all(&self) -> BTreeMap<String, u64> {
        self.table().clone()
    }
}
