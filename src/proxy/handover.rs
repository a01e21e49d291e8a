//! Two labs → the new pods that a Service needs before it can do without those that go.

use std::collections::{BTreeSet, HashMap};

use super::endpoints::{Endpoint, Index, conditions};
use crate::lab::model::{Lab, PodId, Service};

/// The pods among the `fresh` ones of the new lab that have still to prove themselves, and that are to
/// take the place of ready endpoints among those that are `gone`, which are known by their full names.
pub fn heirs(old: &Lab, new: &Lab, gone: &BTreeSet<String>, fresh: &[PodId]) -> BTreeSet<PodId> {
    let waiting = |id: &PodId| fresh.contains(id) && new.pod(*id).unproven;
    if gone.is_empty() || !fresh.iter().any(waiting) {
        return BTreeSet::new();
    }
    let leaves = |it: &Endpoint| it.ready && it.pod.is_some_and(|pod| gone.contains(&old.pod(pod).full_name()));
    let (before, after) = (conditions(old), conditions(new));
    let (there, coming) = (Index::of(old, &before), Index::of(new, &after));
    let had: HashMap<String, &Service> = old.services.iter().map(|it| (it.full_name(), &**it)).collect();
    let loses =
        |service: &Service| had.get(&service.full_name()).is_some_and(|before| of(&there, before).iter().any(leaves));
    let losing = new.services.iter().filter(|service| loses(service));
    losing.flat_map(|service| of(&coming, service)).filter_map(|it| it.pod).filter(waiting).collect()
}

/// All endpoints of a Service.
fn of<'a>(pods: &Index<'a>, service: &'a Service) -> Vec<Endpoint> {
    service.ports.iter().flat_map(|port| pods.endpoints(service, port)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{Overrides, load};

    fn lab(version: u32, ready: bool) -> Lab {
        let text = format!(
            r#"
            [dns]
            engine = "none"
            [[pod]]
            name = "web-v{version}"
            replicas = 2
            ready = {ready}
            labels = {{ app = "web" }}
            readiness = {{ http_get = "/healthz" }}
            [[pod]]
            name = "other-v{version}"
            labels = {{ app = "other" }}
            readiness = {{ http_get = "/healthz" }}
            [[service]]
            name = "web"
            selector = {{ app = "web" }}
            ports = [{{ port = 80 }}]
            "#
        );
        load(&text).unwrap_or_else(|problems| panic!("{problems:?}"))
    }

    /// Who is waited for when the second version takes the place of the first.
    fn waited(old: &Lab, new: &Lab) -> Vec<String> {
        let mut overrides = Overrides::default();
        overrides.expect_proof(old, &BTreeSet::new(), new);
        let new = overrides.over(new);
        let gone = old.pods.iter().map(|pod| pod.full_name()).collect();
        let fresh: Vec<PodId> = new.pod_ids().collect();
        heirs(old, &new, &gone, &fresh).into_iter().map(|id| new.pod(id).full_name()).collect()
    }

    #[test]
    fn who_takes_the_place_of_ready_pods_is_waited_for() {
        assert_eq!(waited(&lab(1, true), &lab(2, true)), ["web-v2-0", "web-v2-1"]);
        assert!(waited(&lab(1, false), &lab(2, true)).is_empty(), "nobody loses a ready endpoint");
        assert!(waited(&lab(1, true), &lab(2, false)).is_empty(), "they are not to be ready");
        let mut other = lab(2, true);
        other.services.clear();
        assert!(waited(&lab(1, true), &other).is_empty(), "nobody needs them");
    }
}
