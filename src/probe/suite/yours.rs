//! The `[[probe]]`s of the lab file.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use super::{
    Address, Answerer, Expect, Group, Probe, Speaks, Target, TargetKind, Wish, absent,
    scene::{Draft, Scene, silence},
    services::tries,
};
use crate::{
    lab::model::{ConnectFailure, Place, PodId, Protocol, UserProbe},
    probe::order::{FailureKind, Order, What},
};

/// The same patience as the suite has.
const PATIENCE_MS: u32 = 3000;
/// Silence is believed after this.
const SILENCE_MS: u32 = 1000;

pub(super) fn probes(scene: &Scene<'_>) -> Vec<Probe> {
    let mut seen = BTreeSet::new();
    let mut probe = |yours: &UserProbe| {
        let mut probe = probe(scene, yours);
        // Nothing keeps two probes from having the same name; ids must differ.
        let (id, mut copy) = (probe.id.clone(), 1);
        while !seen.insert(probe.id.clone()) {
            copy += 1;
            probe.id = format!("{id}-{copy}");
        }
        probe
    };
    let present = scene.lab.probes.iter().filter_map(|yours| absent::present(scene.lab, yours));
    present.map(|yours| probe(&yours)).collect()
}

fn probe(scene: &Scene<'_>, yours: &UserProbe) -> Probe {
    let UserProbe { name, from, url, written, expect: wanted, .. } = yours;
    let backends: Vec<Answerer> = wanted.backends.iter().map(|pod| backend(scene, *pod, url)).collect();
    let times = if backends.is_empty() { 1 } else { tries(&backends) };
    let (expect, timeout_ms) = match wanted.failure {
        Some(ConnectFailure::Refused) => (silence(&[FailureKind::Refused]), SILENCE_MS),
        Some(ConnectFailure::Timeout) => (silence(&[FailureKind::Timeout]), SILENCE_MS),
        None => {
            let body_contains = wanted.body_contains.clone();
            (Expect::Yours(Wish { status: wanted.status, backends, body_contains }), PATIENCE_MS)
        }
    };
    let builtin = times > 1 || scene.options.engine == super::Engine::Builtin;
    let what = match authority(url) {
        Some((to, path)) if builtin => What::Http { to, path: path.to_owned(), timeout_ms },
        // What the built-in client cannot do, https for one, is left to curl.
        _ => What::Curl { url: url.clone(), timeout_ms },
    };
    let address = authority(url).map(|(address, _)| address);
    let service = address.and_then(|address| service_at(scene, address));
    let entry = address.and_then(|address| scene.lab.node_ids().find(|node| scene.lab.node(*node).ip == address.ip()));
    let target = Target {
        kind: TargetKind::Url,
        address: Address::Url(written.clone()),
        protocol: Protocol::Tcp,
        of: name.clone(),
        node: entry.map(|node| scene.lab.node(node).name.to_string()),
        service,
    };
    let order = Order { id: 0, netns: scene.lab.netns(*from), what, times };
    let why = format!("the lab file asks for it: {name}");
    let mut probe = scene.probe_by(Draft { group: Group::Yours, from: *from, target, entry, expect, why }, vec![order]);
    if let (Some(address), true) = (address, yours.expect.backends.is_empty()) {
        // Nobody is named, so everyone who may answer is on the way.
        probe.way = super::way::join(probe.way, likely(scene, *from, entry, address));
    }
    probe
}

fn backend(scene: &Scene<'_>, pod: PodId, url: &str) -> Answerer {
    let port = authority(url).map_or(0, |(address, _)| address.port());
    Answerer {
        name: scene.lab.pod(pod).full_name(),
        endpoint: SocketAddr::new(scene.lab.pod(pod).ip, port),
        sources: BTreeSet::new(),
        speaks: Speaks::ItsName,
    }
}

fn likely(
    scene: &Scene<'_>,
    from: Place,
    entry: Option<crate::lab::model::NodeId>,
    address: SocketAddr,
) -> Vec<super::way::Hop> {
    let Expect::Answer(answerers) = scene.expect((scene.sight)(from, address, Protocol::Tcp), Protocol::Tcp) else {
        return Vec::new();
    };
    let ends: Vec<Place> = answerers.iter().filter_map(|answerer| scene.lab.find(&answerer.name)).collect();
    super::way::way(scene.lab, from, entry, &ends)
}

fn service_at(scene: &Scene<'_>, address: SocketAddr) -> Option<String> {
    let serves = |service: &&crate::lab::model::Service| {
        let ips = service.cluster_ip.iter().chain(&service.external_ips).chain(&service.load_balancer_ips);
        let at_ip = ips.into_iter().any(|ip| *ip == address.ip())
            && service.ports.iter().any(|port| port.port == address.port());
        at_ip || service.ports.iter().any(|port| port.node_port == Some(address.port()))
    };
    scene.lab.services.iter().find(serves).map(super::services::rule_name)
}

/// The socket address and the path of an `http:` URL whose host is an IP address.
pub(crate) fn authority(url: &str) -> Option<(SocketAddr, &str)> {
    let rest = url.strip_prefix("http://")?;
    let (authority, path) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, "/"),
    };
    let address = authority.parse::<SocketAddr>().ok().or_else(|| {
        let ip = authority.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(authority);
        Some(SocketAddr::new(ip.parse::<IpAddr>().ok()?, 80))
    })?;
    Some((address, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let text = |url| authority(url).map(|(address, path)| format!("{address} {path}"));
        assert_eq!(text("http://10.0.0.1:30080/a?b").as_deref(), Some("10.0.0.1:30080 /a?b"));
        assert_eq!(text("http://10.0.0.1").as_deref(), Some("10.0.0.1:80 /"));
        assert_eq!(text("http://[fd00::1]/x").as_deref(), Some("[fd00::1]:80 /x"));
        assert_eq!(text("https://10.0.0.1/"), None);
        assert_eq!(text("http://shop/"), None);
    }
}
