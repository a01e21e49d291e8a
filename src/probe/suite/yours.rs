//! The `[[probe]]`s of the lab file.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::{
    Address, Answerer, Engine, Expect, Group, Probe, Speaks, Target, TargetKind, absent,
    balance::AS_NEEDED,
    scene::{Draft, Scene},
    services::tries_among,
    way::addresses,
};
use crate::{
    dns::resolv,
    lab::model::{
        Asks, Common, ConnectFailure, Endpoint, Host, Place, PodId, Protocol, Service, UserProbe, UserSource,
    },
    probe::{
        errand::{self, Destination, Errand, Request, Task, Until},
        order::{FailureKind, Order, What},
        question::{Question, Rcode, RecordKind, Resolver, Transport},
        wish::{Kind, Names, Source, Want, Wish},
    },
};

/// The same patience as the suite has.
const PATIENCE_MS: u32 = 3000;
/// A name server waits for five seconds itself for another one.
const NAMES_PATIENCE_MS: u32 = 5000;
/// A program may have work to do.
const EXEC_PATIENCE_MS: u32 = 10_000;
/// One of many connections at the same time.
const CROWD_PATIENCE_MS: u32 = 5000;
/// Silence is believed after this, and what is tried again need not wait longer.
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
    let want = want(scene, yours);
    let times = times(yours, &want);
    let until = yours.within.map(|within| Until { want: want.clone(), within_ms: millis(within) });
    let errand = Errand { task: task(scene, yours, times), timeout_ms: timeout_ms(yours, &want, times), until };
    let asked = errand.target().map(|(_, to)| to);
    let ip = asked.map(|to| to.ip()).or_else(|| yours.asks.address());
    let service = asked.and_then(|to| service_at(scene, to));
    let entry = ip.and_then(|ip| scene.lab.node_ids().find(|node| scene.lab.node(*node).ip == ip));
    let protocol = match yours.asks {
        Asks::Udp { .. } | Asks::Dns { .. } => Protocol::Udp,
        _ => Protocol::Tcp,
    };
    let written = &yours.written;
    let address = match (asked, ip) {
        (Some(to), _) => Address::Asked(written.clone(), to),
        (None, Some(ip)) => Address::Asked(written.clone(), SocketAddr::new(ip, 0)),
        (None, None) => Address::Url(written.clone()),
    };
    let target = Target {
        kind: TargetKind::Url,
        address,
        protocol,
        of: yours.name.clone(),
        node: entry.map(|node| scene.lab.node(node).name.to_string()),
        service,
    };
    let who = asker(scene, yours);
    let why = format!("the lab file asks for it: {} {written}, from {who}", yours.asks.key());
    let order = Order::new(who, What::Errand(Box::new(errand)), times);
    let nobody_named = !matches!(&want, Want::Grants(wish) if !wish.backends.is_empty());
    let expect = match want {
        Want::Fails(kinds) => Expect::Silence(kinds),
        Want::Grants(wish) => Expect::Yours(Box::new(wish)),
    };
    let mut probe =
        scene.probe_by(Draft { group: Group::Yours, from: yours.from, target, entry, expect, why }, vec![order]);
    if let (Some(to), true) = (asked, nobody_named) {
        // Nobody is named, so everyone who may answer is on the way.
        probe.way = super::way::join(probe.way, likely(scene, yours.from, entry, (to, protocol)));
    }
    probe
}

/// Who asks: a place, or a pod on the host network, which sees the world as that pod does.
fn asker(scene: &Scene<'_>, yours: &UserProbe) -> String {
    yours.as_pod.map_or_else(|| scene.lab.netns(yours.from), |pod| scene.lab.pod(pod).full_name())
}

fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

fn timeout_ms(yours: &UserProbe, want: &Want, times: usize) -> u32 {
    let said = yours.timeout.map(millis);
    said.unwrap_or(match (&yours.asks, want) {
        (Asks::Exec(_), _) => EXEC_PATIENCE_MS,
        // A resolver that knows no such name is an answer too, and takes its time.
        (_, Want::Fails(kinds)) if kinds.contains(&FailureKind::Unnamed) => NAMES_PATIENCE_MS,
        (_, Want::Fails(kinds)) if kinds.contains(&FailureKind::Timeout) => SILENCE_MS,
        _ if yours.within.is_some() => SILENCE_MS,
        (Asks::Dns { .. }, _) => NAMES_PATIENCE_MS,
        _ if times != 1 => CROWD_PATIENCE_MS,
        _ => PATIENCE_MS,
    })
}

fn times(yours: &UserProbe, want: &Want) -> usize {
    let Want::Grants(wish) = want else { return 1 };
    if yours.distribution.is_some() {
        let said = yours.distribution.as_ref().and_then(|distribution| distribution.connections);
        return said.unwrap_or(AS_NEEDED);
    }
    let own = |backend: &Answerer| yours.asks.address() == Some(backend.endpoint.ip());
    match wish.backends.as_slice() {
        [] => 1,
        // Nobody else has its address.
        [only] if own(only) => 1,
        // One more might answer, which must not.
        backends => tries_among(backends.len() + 1),
    }
}

/// What the agent does.
fn task(scene: &Scene<'_>, yours: &UserProbe, times: usize) -> Task {
    match &yours.asks {
        Asks::Http(ask) => {
            // A process for every connection would measure processes.
            let engine = if times != 1 { Engine::Builtin } else { scene.options.engine };
            Task::Http(
                engine,
                Request {
                    method: ask.method.as_str().to_owned(),
                    to: destination(scene, yours, &ask.to),
                    path: ask.path.clone(),
                    headers: ask.headers.clone(),
                    body: ask.body.clone(),
                },
            )
        }
        Asks::Tcp(to) => Task::Tcp(destination(scene, yours, to)),
        Asks::Udp { to, send } => Task::Udp { to: destination(scene, yours, to), send: send.clone() },
        Asks::Ping(to) => Task::Ping(host(scene, yours, to)),
        Asks::Exec(command) => Task::Exec(command.clone()),
        Asks::Dns { name, kind, server } => {
            let resolver = match server {
                Some((ip, port)) => Resolver::of_server(SocketAddr::new(*ip, *port)),
                None => resolver(scene, yours),
            };
            Task::Names(Question { name: name.clone(), kind: *kind, transport: Transport::Udp, resolver })
        }
    }
}

fn destination(scene: &Scene<'_>, yours: &UserProbe, to: &Endpoint) -> Destination {
    Destination { host: host(scene, yours, &to.host), port: to.port }
}

fn host(scene: &Scene<'_>, yours: &UserProbe, host: &Host) -> errand::Target {
    match host {
        Host::Address(ip) => errand::Target::Address(*ip),
        Host::Name(name) => errand::Target::Name { name: name.clone(), resolver: resolver(scene, yours) },
    }
}

/// That of whoever asks.
fn resolver(scene: &Scene<'_>, yours: &UserProbe) -> Resolver {
    let file = match yours.as_pod {
        Some(pod) => resolv::Resolver::of_pod(scene.lab, pod),
        None => resolv::Resolver::of(scene.lab, yours.from),
    };
    Resolver::of_file(&file.to_string())
}

/// What must come of it.
fn want(scene: &Scene<'_>, yours: &UserProbe) -> Want {
    let expect = &yours.expect;
    if let Some(failure) = expect.failure {
        let kind = match failure {
            ConnectFailure::Refused => FailureKind::Refused,
            ConnectFailure::Timeout => FailureKind::Timeout,
            ConnectFailure::Unreachable => FailureKind::Unreachable,
            ConnectFailure::Unresolved => FailureKind::Unnamed,
        };
        return Want::Fails(BTreeSet::from([kind]));
    }
    let kind = match &yours.asks {
        Asks::Http(_) => Kind::Http,
        Asks::Tcp(_) => Kind::Tcp,
        Asks::Udp { .. } => Kind::Udp,
        Asks::Dns { .. } => Kind::Dns,
        Asks::Ping(_) => Kind::Ping,
        Asks::Exec(_) => Kind::Exec,
    };
    let mut wish = Wish {
        status: expect.status,
        exit_code: if kind == Kind::Exec { Some(expect.exit_code.unwrap_or(0)) } else { None },
        text: expect.text.clone(),
        text_contains: expect.text_contains.clone(),
        headers: expect.headers.clone(),
        backends: expect.backends.iter().map(|pod| backend(scene, yours, *pod)).collect(),
        source: expect.source.map(|seen| source(scene, yours, seen)),
        ..Wish::any(kind)
    };
    if let Asks::Dns { kind, .. } = &yours.asks {
        wish.names = Some(names(*kind, yours));
    }
    share(scene, yours, &mut wish);
    Want::Grants(wish)
}

fn names(kind: RecordKind, yours: &UserProbe) -> Names {
    let rcode = yours.expect.rcode.unwrap_or(Rcode::NoError);
    Names { rcode, kind, records: yours.expect.records.clone() }
}

fn source(scene: &Scene<'_>, yours: &UserProbe, seen: UserSource) -> Source {
    let of =
        |place: Place| Source { text: scene.lab.netns(place), ips: addresses(scene.lab, place).into_iter().collect() };
    match seen {
        UserSource::Address(ip) => Source { text: ip.to_string(), ips: BTreeSet::from([ip]) },
        UserSource::Place(place) => of(place),
        UserSource::Itself => of(yours.from),
    }
}

/// Who gets which share, if that is measured.
fn share(scene: &Scene<'_>, yours: &UserProbe, wish: &mut Wish) {
    let Some(distribution) = &yours.distribution else { return };
    if let Some(shares) = &distribution.shares {
        wish.backends = shares.iter().map(|(pod, _)| backend(scene, yours, *pod)).collect();
        wish.shares = shares.iter().map(|(_, share)| *share).collect();
        return;
    }
    if wish.backends.is_empty()
        && let Some(to) = endpoint(&yours.asks)
    {
        let protocol = if wish.kind == Kind::Udp { Protocol::Udp } else { Protocol::Tcp };
        if let Expect::Answer(answerers) = scene.expect((scene.sight)(yours.from, to, protocol), protocol) {
            // The user says whom the backends must see, if anybody does.
            let plain = |answerer: Answerer| Answerer { sources: BTreeSet::new(), ..answerer };
            wish.backends = answerers.into_iter().map(plain).collect();
        }
    }
    let equal = 1.0 / wish.backends.len().max(1) as f64;
    wish.shares = vec![equal; wish.backends.len().max(1)];
}

/// Where it goes, if that is said by address.
fn endpoint(asks: &Asks) -> Option<SocketAddr> {
    let port = match asks {
        Asks::Http(ask) => ask.to.port,
        Asks::Tcp(to) | Asks::Udp { to, .. } => to.port,
        _ => return None,
    };
    Some(SocketAddr::new(asks.address()?, port))
}

fn backend(scene: &Scene<'_>, yours: &UserProbe, pod: PodId) -> Answerer {
    let port = match &yours.asks {
        Asks::Http(ask) => ask.to.port,
        Asks::Udp { to, .. } => to.port,
        _ => 0,
    };
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
    (to, protocol): (SocketAddr, Protocol),
) -> Vec<super::way::Hop> {
    let Expect::Answer(answerers) = scene.expect((scene.sight)(from, to, protocol), protocol) else {
        return Vec::new();
    };
    let ends: Vec<Place> = answerers.iter().filter_map(|answerer| scene.lab.find(&answerer.name)).collect();
    super::way::way(scene.lab, from, entry, &ends)
}

fn service_at(scene: &Scene<'_>, address: SocketAddr) -> Option<String> {
    let serves = |service: &&Common<Service>| {
        let ips = service.cluster_ip.iter().chain(&service.external_ips).chain(&service.load_balancer_ips);
        let at_ip = ips.into_iter().any(|ip| *ip == address.ip())
            && service.ports.iter().any(|port| port.port == address.port());
        at_ip || service.ports.iter().any(|port| port.node_port == Some(address.port()))
    };
    scene.lab.services.iter().find(serves).map(|service| super::services::rule_name(service))
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
pub(crate) mod tests {
    use super::*;
    use crate::lab::model::{HttpAsk, HttpMethod, UserDistribution, UserExpect};
    use crate::probe::{
        rehearsal::book,
        suite::{SuiteOptions, suite},
    };

    /// A GET of `/`.
    pub(crate) fn http(ip: &str, port: u16) -> Asks {
        let to = Endpoint { host: Host::Address(ip.parse().expect("a test has addresses")), port };
        Asks::Http(HttpAsk { method: HttpMethod::Get, to, path: "/".to_owned(), headers: Vec::new(), body: None })
    }

    /// A probe of the first pod.
    pub(crate) fn probe(name: &str, asks: Asks, expect: UserExpect) -> UserProbe {
        UserProbe {
            name: name.to_owned(),
            from: Place::Pod(PodId(0)),
            as_pod: None,
            written: format!("{asks:?}"),
            asks,
            expect,
            distribution: None,
            within: None,
            timeout: None,
            at: 0..0,
        }
    }

    #[test]
    fn patience_is_as_long_as_it_must_be() {
        let mut lab = book();
        let fails = |failure| UserExpect { failure: Some(failure), ..UserExpect::default() };
        let plain = probe("plain", http("10.96.1.100", 8080), UserExpect::default());
        lab.probes = vec![
            plain.clone(),
            probe("silence", http("10.96.1.100", 8081), fails(ConnectFailure::Timeout)),
            UserProbe { within: Some(Duration::from_secs(5)), ..plain.clone() },
            UserProbe { timeout: Some(Duration::from_millis(70)), ..plain.clone() },
            probe("run", Asks::Exec(vec!["true".to_owned()]), UserExpect::default()),
        ];
        let suite = suite(&lab, &SuiteOptions { only: vec!["yours".to_owned()], ..SuiteOptions::default() });
        let patience: Vec<u32> = suite
            .orders()
            .iter()
            .map(|order| match &order.what {
                What::Errand(errand) => errand.timeout_ms,
                other => panic!("{other:?} is no errand"),
            })
            .collect();
        assert_eq!(patience, [3000, 1000, 1000, 70, 10_000]);
    }

    #[test]
    fn shares_are_equal_or_as_told() {
        let mut lab = book();
        let of = |distribution| UserProbe {
            distribution: Some(distribution),
            ..probe("spread", http("10.96.1.100", 8080), UserExpect::default())
        };
        let told = Some(vec![(PodId(0), 0.25), (PodId(2), 0.75)]);
        lab.probes = vec![
            of(UserDistribution { connections: None, shares: None }),
            of(UserDistribution { connections: Some(100), shares: told }),
        ];
        let suite = suite(&lab, &SuiteOptions { only: vec!["yours".to_owned()], ..SuiteOptions::default() });
        let shares: Vec<(usize, Vec<f64>, usize)> = suite
            .probes
            .iter()
            .map(|probe| match &probe.expect {
                Expect::Yours(wish) => (wish.backends.len(), wish.shares.clone(), probe.orders[0].times),
                other => panic!("{other:?} is no wish"),
            })
            .collect();
        assert_eq!(shares[0], (3, vec![1.0 / 3.0; 3], 642));
        assert_eq!(shares[1], (2, vec![0.25, 0.75], 100));
        assert_eq!(suite.tests(), 2);
    }

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
