//! Words about pods that are not ready, or on their way out: why probes meet them, or do not.

use super::{Answerer, services::is_backend};
use crate::lab::model::{Lab, Pod, PodId, ServiceId};

/// What is to be said of a pod that is asked at its own address.
pub(super) fn of_pod(lab: &Lab, pod: PodId) -> Option<&'static str> {
    let pod = lab.pod(pod);
    match (pod.ready, pod.terminating) {
        (true, false) if !lab.is_ready(pod) => {
            Some("that its node is not ready takes it out of Services, and it runs all the same")
        }
        (true, false) => None,
        (false, false) => Some("that this one is not ready takes it out of Services, and it runs all the same"),
        (_, true) => {
            Some("that this one is being deleted takes it out of Services, and until it ends it runs as before")
        }
    }
}

/// What is to be said of those who answer for a Service.
pub(super) fn of_answerers(lab: &Lab, service: ServiceId, answerers: &[Answerer]) -> Option<&'static str> {
    if stand_in(lab, service, answerers) {
        return Some("no endpoint is ready there, so those that are being deleted and still serve stand in");
    }
    let odd: Vec<&Pod> = odd(lab, service).collect();
    let among = odd.iter().any(|pod| answerers.iter().any(|answerer| answerer.name == pod.full_name()));
    match odd.as_slice() {
        [] => None,
        _ if among => Some("publishNotReadyAddresses lets pods count as ready that are not"),
        pods if pods.iter().all(|pod| pod.terminating) => Some("pods that are being deleted are left out"),
        pods if pods.iter().all(|pod| !pod.terminating) => Some("pods that are not ready are left out"),
        _ => Some("pods that are not ready or are being deleted are left out"),
    }
}

/// Those who answer for a Service do so for want of a ready endpoint.
pub(super) fn stand_in(lab: &Lab, service: ServiceId, answerers: &[Answerer]) -> bool {
    !lab.service(service).publish_not_ready_addresses
        && odd(lab, service).any(|pod| answerers.iter().any(|answerer| answerer.name == pod.full_name()))
}

/// The pods that a Service selects and that are not as ready as they could be; endpoints that are
/// given by hand are always ready.
fn odd(lab: &Lab, service: ServiceId) -> impl Iterator<Item = &Pod> {
    let odd = lab.pod_ids().filter(|id| !lab.is_ready(lab.pod(*id)) || lab.pod(*id).terminating);
    odd.filter(move |id| is_backend(lab, service, *id)).map(|id| lab.pod(id))
}
