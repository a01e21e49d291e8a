//! Where to look when a probe failed, and with which command.

use super::LookAt;
use crate::{
    lab::model::ProxyMode,
    probe::{
        drift::{Drift, DriftKind},
        errand::Task,
        judge::FaultKind,
        order::What,
        suite::{Expect, Group, Probe, TargetKind, way::Role},
    },
};

/// Where to look when `probe` failed in this way and `suspects` did not answer, best first.
pub fn advice(probe: &Probe, kind: FaultKind, suspects: &[String]) -> Vec<LookAt> {
    let mut scene = Scene::of(probe, suspects);
    if kind == FaultKind::Unnamed {
        // What fails is the question before the probe.
        scene.service = probe.resolver.as_deref();
    }
    let advice = match kind {
        // Of what a user asks nobody may be known who could be looked at.
        FaultKind::Timeout
        | FaultKind::Refused
        | FaultKind::Broken
        | FaultKind::WrongContent
        | FaultKind::WrongSource
            if scene.answerer.is_empty() =>
        {
            scene.of_a_stranger()
        }
        FaultKind::Timeout => scene.timeout(),
        FaultKind::Refused => scene.refused(),
        FaultKind::Unreachable => vec![scene.route(&probe.from), scene.links(&scene.door)],
        FaultKind::Broken => vec![scene.server(), scene.log()],
        FaultKind::NotTried => vec![
            look("whether this host has what the probe needs", "netlab doctor".to_owned()),
            look("whether the lab still runs", "netlab ls".to_owned()),
        ],
        FaultKind::Answered => vec![scene.service_rules()],
        FaultKind::WrongAnswerer => match scene.is_service() {
            true => vec![scene.service_rules(), scene.server()],
            false => vec![scene.neighbours(), scene.server()],
        },
        FaultKind::WrongSource => vec![scene.masquerade()],
        FaultKind::WrongShares => vec![scene.ladder()],
        FaultKind::NotSticky => vec![scene.affinity()],
        FaultKind::WrongContent => vec![scene.log()],
        FaultKind::Unnamed => vec![scene.names(), scene.service_rules()],
    };
    merged(advice)
}

/// Where a difference is seen.
pub(super) fn of_drift(probe: &Probe, drift: &Drift) -> Vec<LookAt> {
    let netns = &drift.netns;
    // A drift of a setting begins with its key.
    let key = drift.text.split(' ').next().filter(|key| key.contains(['.', '/'])).unwrap_or("-a");
    let (what, command) = match drift.kind {
        DriftKind::Namespace => {
            return vec![look("the network namespaces", "netlab exec host -- ip netns list".to_owned())];
        }
        DriftKind::Link => ("the links", "ip -br link".to_owned()),
        DriftKind::Address => ("the addresses", "ip -br address".to_owned()),
        DriftKind::Neighbour => ("the neighbours", "ip neighbour".to_owned()),
        DriftKind::Route => ("the routes", "ip route".to_owned()),
        DriftKind::Sysctl => ("the setting", format!("sysctl {key}")),
        DriftKind::Rule => match probe.proxy {
            ProxyMode::Iptables | ProxyMode::Ladder => ("the rules", "iptables-save".to_owned()),
            ProxyMode::Nftables => ("the rules", "nft list ruleset".to_owned()),
        },
        DriftKind::File => ("whom to ask for names", "cat /etc/resolv.conf /etc/hosts".to_owned()),
        DriftKind::Server => {
            return vec![look(&format!("what the server of {netns} said"), format!("netlab logs {netns}"))];
        }
    };
    let mut advice = vec![look(&format!("{what} of {netns}"), format!("netlab exec {netns} -- {command}"))];
    if drift.kind == DriftKind::Rule {
        advice.push(look(&format!("the rules that {netns} should have"), format!("netlab rules {netns}")));
    }
    advice
}

/// One command that shows several things is named once.
fn merged(advice: Vec<LookAt>) -> Vec<LookAt> {
    let mut merged: Vec<LookAt> = Vec::new();
    for look in advice {
        match merged.iter_mut().find(|other| other.command == look.command) {
            Some(other) if other.what.contains(&look.what) => {}
            Some(other) => other.what = format!("{}; {}", other.what, look.what),
            None => merged.push(look),
        }
    }
    merged
}

fn look(what: &str, command: String) -> LookAt {
    LookAt { what: what.to_owned(), command: Some(command) }
}

/// The names that advice is made of.
struct Scene<'a> {
    probe: &'a Probe,
    /// The node whose rules decide: the one addressed, or the first on the way.
    door: String,
    /// Who should have answered: the suspects, or everyone who may.
    answerer: String,
    /// There is a suspect.
    suspected: bool,
    /// Where that one listens.
    endpoint: String,
    /// The Service that is asked.
    service: Option<&'a str>,
}

/// Who answers if the expectation names nobody.
fn fallback(probe: &Probe) -> String {
    if probe.group != Group::Yours {
        return probe.target.of.clone();
    }
    let answers = probe.way.iter().rfind(|hop| hop.role == Role::Answerer);
    answers.map(|hop| hop.netns.clone()).unwrap_or_default()
}

impl<'a> Scene<'a> {
    fn of(probe: &'a Probe, suspects: &[String]) -> Self {
        let router = probe.way.iter().find(|hop| hop.role == Role::Router);
        let door = probe.target.node.clone().or_else(|| router.map(|hop| hop.netns.clone()));
        let answerers = probe.expect.answerers();
        let suspect = answerers.iter().find(|answerer| suspects.contains(&answerer.name)).or(answerers.first());
        let endpoint = suspect.map(|answerer| answerer.endpoint.ip()).or_else(|| probe.target.ips().first().copied());
        Scene {
            probe,
            suspected: !suspects.is_empty(),
            door: door.unwrap_or_else(|| probe.from.clone()),
            answerer: suspect.map_or_else(|| fallback(probe), |answerer| answerer.name.clone()),
            endpoint: endpoint.map_or_else(|| probe.target.to_string(), |ip| ip.to_string()),
            service: probe.target.service.as_deref(),
        }
    }

    fn of_a_stranger(&self) -> Vec<LookAt> {
        let errand = self.probe.orders.first().map(|order| &order.what);
        match errand {
            Some(What::Errand(errand)) if matches!(errand.task, Task::Names(_)) => vec![self.names()],
            Some(What::Errand(_)) if self.is_service() => vec![self.service_rules(), self.route(&self.probe.from)],
            Some(What::Errand(_)) if !self.probe.target.ips().is_empty() => vec![self.route(&self.probe.from)],
            _ => Vec::new(),
        }
    }

    fn is_service(&self) -> bool {
        self.service.is_some()
    }

    fn timeout(&self) -> Vec<LookAt> {
        let Scene { probe, door, .. } = self;
        if probe.group == Group::Egress {
            return vec![self.masquerade(), self.forwarding(), self.route(door), self.links(door)];
        }
        if matches!(probe.expect, Expect::Itself(_)) {
            return vec![self.hairpin(), self.masquerade(), self.service_rules()];
        }
        match probe.target.kind {
            TargetKind::Localhost => vec![
                look(
                    &format!("whether {door} routes loopback packets on"),
                    format!("netlab exec {door} -- sysctl net.ipv4.conf.all.route_localnet"),
                ),
                self.masquerade(),
                self.service_rules(),
            ],
            _ if self.is_service() => {
                vec![self.service_rules(), self.masquerade(), self.route(door), self.forwarding(), self.links(door)]
            }
            _ => vec![self.route(door), self.links(door), self.forwarding()],
        }
    }

    fn refused(&self) -> Vec<LookAt> {
        // A nodePort that no rule takes is refused by the node itself.
        let by_node = matches!(self.probe.target.kind, TargetKind::NodePort | TargetKind::Localhost) && !self.suspected;
        match self.is_service() {
            true if by_node => vec![self.service_rules(), self.server(), self.log()],
            true => vec![self.server(), self.log(), self.service_rules()],
            false => vec![self.server(), self.log()],
        }
    }

    fn route(&self, from: &str) -> LookAt {
        let to = match from == self.probe.from {
            true => self.probe.target.ips().first().map_or_else(|| self.endpoint.clone(), ToString::to_string),
            false => self.endpoint.clone(),
        };
        look(&format!("the route from {from} to {to}"), format!("netlab exec {from} -- ip route get {to}"))
    }

    fn links(&self, netns: &str) -> LookAt {
        look(&format!("whether the links of {netns} are up"), format!("netlab exec {netns} -- ip -br link"))
    }

    fn forwarding(&self) -> LookAt {
        let door = &self.door;
        let list = match self.probe.proxy {
            ProxyMode::Iptables | ProxyMode::Ladder => "iptables -nvL FORWARD",
            ProxyMode::Nftables => "nft list ruleset",
        };
        look(
            &format!("whether {door} forwards: its setting, its rules"),
            format!("netlab exec {door} -- sh -c 'sysctl net.ipv4.ip_forward; {list}'"),
        )
    }

    fn neighbours(&self) -> LookAt {
        let door = &self.door;
        look(&format!("who has {} in {door}'s eyes", self.endpoint), format!("netlab exec {door} -- ip neigh"))
    }

    fn server(&self) -> LookAt {
        let answerer = &self.answerer;
        look(&format!("whether the server of {answerer} listens"), format!("netlab exec {answerer} -- ss -ltnu"))
    }

    fn log(&self) -> LookAt {
        let answerer = &self.answerer;
        look(&format!("what the server of {answerer} said"), format!("netlab logs {answerer}"))
    }

    fn names(&self) -> LookAt {
        let from = &self.probe.from;
        look(&format!("whom {from} asks for names"), format!("netlab exec {from} -- cat /etc/resolv.conf"))
    }

    fn rules(&self, what: String) -> LookAt {
        look(&what, format!("netlab rules {}", self.door))
    }

    fn service_rules(&self) -> LookAt {
        let Scene { probe, door, .. } = self;
        let service = self.service.unwrap_or("this address");
        let is_node_port = matches!(probe.target.kind, TargetKind::NodePort | TargetKind::Localhost);
        self.rules(match (probe.proxy, is_node_port) {
            (ProxyMode::Iptables, true) => format!("KUBE-NODEPORTS, and the KUBE-EXT- chain of {service}, on {door}"),
            (ProxyMode::Iptables, false) => format!("KUBE-SERVICES, and the KUBE-SVC- chain of {service}, on {door}"),
            (ProxyMode::Nftables, true) => format!("the map service-nodeports, and the chains of {service}, on {door}"),
            (ProxyMode::Nftables, false) => format!("the map service-ips, and the chains of {service}, on {door}"),
            (ProxyMode::Ladder, _) => format!("the DNAT rules of {service} in OUTPUT and PREROUTING on {door}"),
        })
    }

    fn masquerade(&self) -> LookAt {
        let Scene { probe, door, .. } = self;
        self.rules(match probe.proxy {
            ProxyMode::Iptables if probe.group == Group::Egress => format!("the MASQUERADE rule of {door} for egress"),
            ProxyMode::Iptables => format!("KUBE-POSTROUTING, and what jumps to KUBE-MARK-MASQ, on {door}"),
            ProxyMode::Nftables => format!("the chains masquerading and mark-for-masquerade on {door}"),
            ProxyMode::Ladder => format!("the MASQUERADE rules in POSTROUTING on {door}"),
        })
    }

    fn hairpin(&self) -> LookAt {
        let Scene { probe, door, .. } = self;
        let me = &probe.from;
        self.rules(match probe.proxy {
            ProxyMode::Iptables => format!("the rule `-s {} -j KUBE-MARK-MASQ` of {me} on {door}", self.my_address()),
            ProxyMode::Nftables => format!("{me} in the set hairpin-connections on {door}"),
            ProxyMode::Ladder => format!("the MASQUERADE rule that takes what {me} sends itself, on {door}"),
        })
    }

    fn my_address(&self) -> String {
        self.probe.expect.answerers().first().map_or_else(String::new, |me| me.endpoint.ip().to_string())
    }

    fn ladder(&self) -> LookAt {
        let Scene { probe, door, .. } = self;
        let service = probe.target.service.as_deref().unwrap_or("the Service");
        self.rules(match probe.proxy {
            ProxyMode::Iptables => {
                format!("the --probability of each rule in the KUBE-SVC- chain of {service} on {door}")
            }
            ProxyMode::Nftables => format!("the numgen map in the chain of {service} on {door}"),
            ProxyMode::Ladder => format!("the --probability of each DNAT rule of {service} on {door}"),
        })
    }

    fn affinity(&self) -> LookAt {
        let Scene { probe, door, .. } = self;
        let service = probe.target.service.as_deref().unwrap_or("the Service");
        self.rules(match probe.proxy {
            ProxyMode::Iptables | ProxyMode::Ladder => {
                format!("the `recent` matches in the chains of {service} on {door}")
            }
            ProxyMode::Nftables => format!("the affinity sets of {service} on {door}"),
        })
    }
}
