//! What a running lab was told besides its file: which pods are ready, which are on their way out,
//! and which are gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{
    leaving::Leaving,
    model::{Lab, Place, PodId, UserProbe},
};

/// What was told, by the pods' full names. It holds until the lab ends, or its file says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Overrides {
    /// Pods that were made ready, or not.
    ready: BTreeMap<String, bool>,
    /// Pods that the lab shall not have (any more), and that still run.
    leaving: Leaving,
    /// Pods of which a server has ended and does not listen again yet.
    fallen: BTreeSet<String>,
    /// Pods that were deleted.
    deleted: BTreeSet<String>,
}

impl Overrides {
    /// A pod is ready from now on, or is not.
    pub fn make_ready(&mut self, pod: &str, ready: bool) {
        self.ready.insert(pod.to_owned(), ready);
    }

    /// Whether a pod was made ready, or not ready.
    pub fn ready(&self, pod: &str) -> Option<bool> {
        self.ready.get(pod).copied()
    }

    /// Some pods of the lab of a text are terminating from now on; each with whether it is ready.
    pub fn leave(&mut self, text: &str, whole: &Arc<Lab>, pods: BTreeMap<String, bool>) {
        // What was told of them is known; what will be is about them, too, until they are gone.
        pods.keys().for_each(|pod| self.forget(pod));
        self.leaving.add(text, whole, pods);
    }

    /// A pod is terminating.
    pub fn is_leaving(&self, pod: &str) -> bool {
        self.leaving.has(pod)
    }

    /// The pods that are terminating.
    pub fn leaving(&self) -> BTreeSet<String> {
        self.leaving.names().cloned().collect()
    }

    /// Pods that were terminating are gone; what waits for that does not come yet.
    pub fn are_gone(&mut self, pods: &BTreeSet<String>) {
        pods.iter().for_each(|pod| self.forget(pod));
        self.leaving.are_gone(pods);
    }

    /// What has waited for these pods comes.
    pub fn make_way(&mut self, pods: &BTreeSet<String>) {
        self.leaving.forget(pods);
    }

    /// How it will be when all that are terminating are gone.
    #[must_use]
    pub fn settled(&self) -> Overrides {
        Overrides { leaving: Leaving::default(), ..self.clone() }
    }

    /// Of these pods a server has ended and does not listen again yet; says whether that is news.
    pub fn have_fallen(&mut self, pods: BTreeSet<String>) -> bool {
        let news = self.fallen != pods;
        self.fallen = pods;
        news
    }

    /// A pod is gone. One that comes again under its name is another one.
    pub fn delete(&mut self, pod: &str) {
        self.forget(pod);
        self.deleted.insert(pod.to_owned());
    }

    /// A pod that comes under this name is another one.
    pub fn forget(&mut self, pod: &str) {
        self.ready.remove(pod);
    }

    /// Deleted pods come back where this says so.
    pub fn bring_back(&mut self, mut comes_back: impl FnMut(&str) -> bool) {
        self.deleted.retain(|pod| !comes_back(pod));
    }

    /// What still holds when the lab shall be as its file says: deleted pods come back, and pods that
    /// stay are as they were made; those that are replaced are others.
    pub fn after_apply(&self, replaced: &BTreeSet<String>) -> Overrides {
        let mut after = Overrides { deleted: BTreeSet::new(), ..self.clone() };
        replaced.iter().for_each(|pod| after.forget(pod));
        after
    }

    /// Forgets the pods that the file does not speak of (any more).
    pub fn keep_known(&mut self, whole: &Lab) {
        let mut names: BTreeSet<String> = whole.pods.iter().map(|pod| pod.full_name()).collect();
        names.extend(self.leaving());
        self.ready.retain(|pod, _| names.contains(pod));
        self.fallen.retain(|pod| names.contains(pod));
        self.deleted.retain(|pod| names.contains(pod));
    }

    /// The lab as its file says, with what was told besides.
    pub fn over(&self, whole: &Lab) -> Lab {
        let mut lab = whole.clone();
        let mut stays: Vec<bool> = lab.pods.iter().map(|pod| !self.deleted.contains(&pod.full_name())).collect();
        if !self.leaving.is_nobody() {
            stays.iter_mut().zip(self.leaving.lets(&lab)).for_each(|(stays, lets)| *stays &= lets);
        }
        keep(&mut lab, &stays);
        self.leaving.join(&mut lab);
        for pod in &mut lab.pods {
            let name = pod.full_name();
            if let Some(ready) = self.ready.get(&name) {
                pod.ready = *ready;
            }
            pod.ready &= !self.fallen.contains(&name);
        }
        lab
    }
}

/// Keeps some of a lab's pods, one by one.
fn keep(lab: &mut Lab, stays: &[bool]) {
    if stays.iter().all(|stays| *stays) {
        return;
    }
    let mut next = 0;
    let ids: Vec<Option<PodId>> = stays
        .iter()
        .map(|stays| {
            let id = PodId(next);
            next += usize::from(*stays);
            stays.then_some(id)
        })
        .collect();
    let gone: Vec<String> =
        lab.pods.iter().zip(stays).filter(|(_, stays)| !**stays).map(|(pod, _)| pod.ip.to_string()).collect();
    let mut stay = stays.iter();
    lab.pods.retain(|_| stay.next().copied().unwrap_or(true));
    let probes = std::mem::take(&mut lab.probes);
    lab.probes = probes.into_iter().filter_map(|probe| renumbered(probe, &ids, &gone)).collect();
}

/// A probe of the pods that are left; none if it asks from or at one that is gone, or expects only such.
fn renumbered(mut probe: UserProbe, ids: &[Option<PodId>], gone: &[String]) -> Option<UserProbe> {
    if let Place::Pod(id) = probe.from {
        probe.from = Place::Pod(ids[id.0]?);
    }
    let asked = probe.url.split("://").nth(1).unwrap_or_default();
    let asked = asked.split([':', '/']).next().unwrap_or_default();
    if gone.iter().any(|ip| ip == asked) {
        return None;
    }
    let wanted = !probe.expect.backends.is_empty();
    probe.expect.backends = probe.expect.backends.iter().filter_map(|id| ids[id.0]).collect();
    (!wanted || !probe.expect.backends.is_empty()).then_some(probe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::load;

    const LAB: &str = r#"
        [dns]
        engine = "none"
        [[pod]]
        name = "web"
        replicas = 3
        labels = { app = "web" }
        [[pod]]
        name = "client"
        [[service]]
        name = "web"
        selector = { app = "web" }
        ports = [{ port = 80 }]
        [[probe]]
        name = "all"
        from = "client"
        url = "http://web/"
        expect = { backends = ["web"] }
        [[probe]]
        name = "from the second"
        from = "web-1"
        url = "http://web/"
        [[probe]]
        name = "only the second"
        from = "client"
        url = "http://web/"
        expect = { backends = ["web-1"] }
        [[probe]]
        name = "at the second"
        from = "client"
        url = "http://web-1/"
        [[probe]]
        name = "at the third"
        from = "web-0"
        url = "http://web-2/"
        expect = { backends = ["web-2"] }
    "#;

    fn lab() -> Lab {
        load(LAB).unwrap_or_else(|problems| panic!("{problems:?}"))
    }

    #[test]
    fn nothing_told_is_nothing_changed() {
        assert_eq!(format!("{:?}", Overrides::default().over(&lab())), format!("{:?}", lab()));
    }

    #[test]
    fn pods_are_made_ready_and_not() {
        let mut overrides = Overrides::default();
        overrides.make_ready("web-1", false);
        assert!(overrides.have_fallen(["client".to_owned()].into()));
        assert!(!overrides.have_fallen(["client".to_owned()].into()));
        let over = overrides.over(&lab());
        let conditions: Vec<_> = over.pods.iter().map(|pod| (pod.ready, pod.terminating)).collect();
        assert_eq!(conditions, [(true, false), (false, false), (true, false), (false, false)]);
        assert_eq!(overrides.ready("web-1"), Some(false));
        // And what was written down says the same.
        let text = serde_json::to_string(&overrides).unwrap();
        assert_eq!(serde_json::from_str::<Overrides>(&text).unwrap(), overrides);
    }

    #[test]
    fn probes_follow_the_pods_that_are_left() {
        let mut overrides = Overrides::default();
        overrides.delete("web-1");
        let over = overrides.over(&lab());
        let names = |ids: &[PodId]| ids.iter().map(|id| over.pod(*id).full_name()).collect::<Vec<_>>();
        assert_eq!(over.pods.iter().map(|pod| pod.full_name()).collect::<Vec<_>>(), ["web-0", "web-2", "client"]);
        let probes: Vec<_> = over.probes.iter().map(|probe| (probe.name.as_str(), over.netns(probe.from))).collect();
        assert_eq!(probes, [("all", "client".to_owned()), ("at the third", "web-0".to_owned())]);
        assert_eq!(names(&over.probes[0].expect.backends), ["web-0", "web-2"]);
        assert_eq!(names(&over.probes[1].expect.backends), ["web-2"]);
    }

    #[test]
    fn the_file_brings_deleted_pods_back() {
        let mut overrides = Overrides::default();
        overrides.make_ready("web-0", false);
        overrides.make_ready("web-1", false);
        overrides.delete("web-1");
        assert_eq!(overrides.over(&lab()).pods.len(), 3);
        let after = overrides.after_apply(&BTreeSet::new());
        let ready: Vec<bool> = after.over(&lab()).pods.iter().map(|pod| pod.ready).collect();
        assert_eq!(ready, [false, true, true, true]);
        let replaced = overrides.after_apply(&["web-0".to_owned()].into());
        assert_eq!(replaced, Overrides::default());
        let mut fewer = after.clone();
        fewer.keep_known(&load("[[pod]]\nname = \"x\"\n").unwrap());
        assert_eq!(fewer, Overrides::default());
    }
}
