//! What a running lab was told besides its file: which pods are ready, which are on their way out,
//! and which are gone.

mod nodes;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{
    leaving::Leaving,
    model::{Lab, NodeState, Place, PodId, UserProbe, UserSource},
};
use crate::probe::question::Said;

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
    /// Pods that their readiness probes say are not ready, or say nothing good of yet.
    unproven: BTreeSet<String>,
    /// Pods that were deleted.
    deleted: BTreeSet<String>,
    /// Nodes that are not as they came up.
    nodes: BTreeMap<String, NodeState>,
}

impl Overrides {
    /// A pod is ready from now on, or is not.
    pub fn make_ready(&mut self, pod: &str, ready: bool) {
        self.ready.insert(pod.to_owned(), ready);
    }

    /// A pod is as ready again as its file and its readiness probe say.
    pub fn hand_back(&mut self, pod: &str) {
        self.ready.remove(pod);
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

    /// These pods are not ready, as their readiness probes say; says whether that is news.
    pub fn are_unproven(&mut self, pods: BTreeSet<String>) -> bool {
        let news = self.unproven != pods;
        self.unproven = pods;
        news
    }

    /// Pods that their readiness probes say are not ready, or say nothing good of yet.
    pub fn unproven(&self) -> &BTreeSet<String> {
        &self.unproven
    }

    /// What has a readiness probe and was not there before, or only by name, is not ready until that
    /// has succeeded.
    pub fn expect_proof(&mut self, was: &Lab, replaced: &BTreeSet<String>, whole: &Lab) {
        let mut probed = whole.probed().map(|pod| pod.full_name()).peekable();
        if probed.peek().is_some() {
            let there: BTreeSet<String> = was.probed().map(|pod| pod.full_name()).collect();
            self.unproven.extend(probed.filter(|pod| !there.contains(pod) || replaced.contains(pod)));
        }
    }

    /// A pod is gone. One that comes again under its name is another one.
    pub fn delete(&mut self, pod: &str) {
        self.forget(pod);
        self.deleted.insert(pod.to_owned());
    }

    /// A pod that comes under this name is another one.
    pub fn forget(&mut self, pod: &str) {
        self.ready.remove(pod);
        self.unproven.remove(pod);
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
        self.unproven.retain(|pod| names.contains(pod));
        self.deleted.retain(|pod| names.contains(pod));
        self.keep_known_nodes(whole);
    }

    /// The lab as its file says, with what was told besides.
    pub fn over(&self, whole: &Lab) -> Lab {
        let mut lab = whole.clone();
        self.over_nodes(&mut lab);
        let mut stays: Vec<bool> = lab.pods.iter().map(|pod| !self.deleted.contains(&pod.full_name())).collect();
        if !self.leaving.is_nobody() {
            stays.iter_mut().zip(self.leaving.lets(&lab)).for_each(|(stays, lets)| *stays &= lets);
        }
        keep(&mut lab, &stays);
        self.leaving.join(&mut lab);
        for pod in &mut lab.pods {
            let name = pod.full_name();
            match self.ready.get(&name) {
                Some(ready) => pod.ready = *ready,
                None => {
                    pod.unproven = pod.ready && self.unproven.contains(&name);
                    pod.ready &= !pod.unproven;
                }
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
    let gone: Vec<IpAddr> = lab.pods.iter().zip(stays).filter(|(_, stays)| !**stays).map(|(pod, _)| pod.ip).collect();
    let mut stay = stays.iter();
    lab.pods.retain(|_| stay.next().copied().unwrap_or(true));
    let probes = std::mem::take(&mut lab.probes);
    lab.probes = probes.into_iter().filter_map(|probe| renumbered(probe, &ids, &gone)).collect();
}

/// A probe of the pods that are left; none if it asks from or at one that is gone, or expects only such.
fn renumbered(mut probe: UserProbe, ids: &[Option<PodId>], gone: &[IpAddr]) -> Option<UserProbe> {
    let place = |place: Place| match place {
        Place::Pod(id) => ids[id.0].map(Place::Pod),
        other => Some(other),
    };
    probe.from = place(probe.from)?;
    if let Some(id) = probe.as_pod {
        probe.as_pod = Some(ids[id.0]?);
    }
    if probe.asks.address().is_some_and(|ip| gone.contains(&ip)) {
        return None;
    }
    let expect = &mut probe.expect;
    let wanted = !expect.backends.is_empty();
    expect.backends = expect.backends.iter().filter_map(|id| ids[id.0]).collect();
    if let Some(UserSource::Place(seen)) = expect.source {
        expect.source = Some(UserSource::Place(place(seen)?));
    }
    if let Some(records) = &mut expect.records {
        let some = !records.is_empty();
        records.retain(|record| !matches!(record, Said::Address(ip) if gone.contains(ip)));
        if some && records.is_empty() {
            return None;
        }
    }
    if let Some(shares) = probe.distribution.as_mut().and_then(|distribution| distribution.shares.as_mut()) {
        // The shares of others say nothing about those that are left.
        *shares = shares.iter().map(|(id, share)| Some((ids[id.0]?, *share))).collect::<Option<_>>()?;
    }
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
    fn probed_pods_prove_themselves() {
        let text = LAB.replace("labels = {", "readiness = { http_get = \"/healthz\" }\n        labels = {");
        let whole = load(&text).unwrap_or_else(|problems| panic!("{problems:?}"));
        let ready = |overrides: &Overrides| overrides.over(&whole).pods.iter().map(|pod| pod.ready).collect::<Vec<_>>();
        let mut overrides = Overrides::default();
        overrides.expect_proof(&lab(), &BTreeSet::new(), &whole);
        assert_eq!(ready(&overrides), [false, false, false, true]);
        assert!(overrides.are_unproven(["web-1".to_owned()].into()));
        assert!(!overrides.are_unproven(["web-1".to_owned()].into()));
        assert_eq!(ready(&overrides), [true, false, true, true]);
        // Those that were there stay proven; one that is replaced is another one.
        overrides.expect_proof(&whole, &["web-2".to_owned()].into(), &whole);
        assert_eq!(ready(&overrides), [true, false, false, true]);
        // Whoever says so wins, but not over a server that has ended.
        overrides.make_ready("web-1", true);
        overrides.make_ready("web-0", false);
        assert_eq!(ready(&overrides), [false, true, false, true]);
        overrides.have_fallen(["web-1".to_owned()].into());
        assert_eq!(ready(&overrides), [false, false, false, true]);
        overrides.have_fallen(BTreeSet::new());
        overrides.hand_back("web-1");
        overrides.hand_back("web-0");
        assert_eq!(ready(&overrides), [true, false, false, true]);
        overrides.delete("web-2");
        assert_eq!(overrides.unproven(), &BTreeSet::from(["web-1".to_owned()]));
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
