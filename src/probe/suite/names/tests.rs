//! What is asked about names, and what must be said: held against what the built-in server says.

use std::collections::BTreeSet;

use super::*;
use crate::{
    conformance,
    lab::{
        load,
        model::{ExternalNames, PodRecords, ProxyMode},
    },
    probe::{
        drift::DriftKind,
        judge,
        order::{FailureKind, Outcome},
        question::{Found, Rcode, Said},
        rehearsal::{Breakage, Fate, drift, perform},
        suite::{Engine, Suite, SuiteOptions, suite},
    },
    report::{Report, ResultKind},
};

fn lab() -> Lab {
    load(include_str!("lab.toml")).unwrap_or_else(|problems| panic!("{problems}"))
}

fn names(lab: &Lab) -> Suite {
    suite(lab, &SuiteOptions { only: vec!["names".to_owned()], ..SuiteOptions::default() })
}

fn failures(report: &Report) -> Vec<String> {
    let failed = report.probes.iter().filter(|probe| probe.result == ResultKind::Failed);
    failed.map(|probe| format!("{}: {} and not {}", probe.id, probe.happened, probe.expected)).collect()
}

/// Two who have read the same specification, and nothing of each other.
#[test]
fn what_must_be_said_is_what_the_built_in_server_says() {
    use {ExternalNames::*, PodRecords::*};
    let variants =
        [(Engine::Curl, Cname, Insecure), (Engine::Builtin, Cname, Verified), (Engine::Builtin, Rewrite, Disabled)];
    for (engine, external_names, pod_records) in variants {
        let mut lab = lab();
        let dns = lab.dns.as_mut().expect("it has one");
        (dns.external_names, dns.pod_records) = (external_names, pod_records);
        let only = vec!["names".to_owned(), "egress".to_owned(), "pods".to_owned()];
        let suite = suite(&lab, &SuiteOptions { engine, only, ..SuiteOptions::default() });
        let report = judge::report(&suite, &perform(&lab, &suite, &Breakage::NONE), &[]);
        assert_eq!(failures(&report), Vec::<String>::new(), "{engine:?} {external_names:?} {pod_records:?}");
    }
}

#[test]
fn the_questions_of_a_lab() {
    let suite = names(&lab());
    let line = |probe: &Probe| format!("{}\n    {}: {}\n", probe.id, probe.name(), judge::expected(&probe.expect));
    crate::probe::rehearsal::golden("names.txt", &suite.probes.iter().map(line).collect::<String>());
    let ids: BTreeSet<&String> = suite.probes.iter().map(|probe| &probe.id).collect();
    assert_eq!(ids.len(), suite.probes.len());
}

/// The third opinion on the rows of the table.
#[test]
fn what_must_be_said_is_what_the_table_of_conformance_says() {
    let mut asked = 0;
    for row in conformance::rows() {
        let conformance::Proof::Names(setting, asks) = row.proof else { continue };
        let lab = setting.lab(ProxyMode::Iptables);
        let is_there = lab.dns.as_ref().is_some_and(|dns| dns.upstream.contains(&lab.cluster.gateway));
        let zone = Zone::new(&lab).expect("it has DNS");
        for ask in asks.iter().filter(|_| is_there) {
            let (Saying { rcode, records, ttl, zone, .. }, _) = zone.saying(&ask.question(&lab));
            let mut words: Vec<String> = records.iter().map(ToString::to_string).collect();
            if words.is_empty() {
                words.push(rcode.to_string());
                words.extend(zone.map(|zone| format!("SOA of {zone}")));
            }
            assert_eq!(words.join(", "), ask.says, "{}: {} {}", row.id, ask.kind, ask.name);
            assert!(ask.ttl.is_none_or(|said| Some(said) == ttl), "{}: {} {}: {ttl:?}", row.id, ask.kind, ask.name);
            asked += 1;
        }
    }
    assert!(asked > 50, "only {asked} questions");
}

/// Whatever is changed in whichever right answer, it is a wrong one.
#[test]
fn no_wrong_answer_passes() {
    type Change = fn(&mut crate::probe::question::Response) -> bool;
    let changes: [(&str, Change); 8] = [
        ("a record is missing", |response| response.answers.pop().is_some()),
        ("a stranger's address", |response| {
            response.answers.push(Found {
                name: response.name.clone(),
                ttl: 30,
                data: Said::Address([203, 0, 113, 7].into()),
            });
            true
        }),
        ("no such name", |response| std::mem::replace(&mut response.rcode, Rcode::NxDomain) != Rcode::NxDomain),
        ("the server cannot tell", |response| {
            response.rcode = Rcode::ServFail;
            true
        }),
        ("the name is there all the same", |response| {
            std::mem::replace(&mut response.rcode, Rcode::NoError) != Rcode::NoError
        }),
        ("the alias comes last", |response| {
            let two = response.answers.len() > 1 && matches!(response.answers[0].data, Said::Alias(_));
            if two {
                response.answers.rotate_left(1);
            }
            two
        }),
        ("nobody says whose the name is", |response| {
            response.name.ends_with(".cluster.local") && !std::mem::take(&mut response.authority).is_empty()
        }),
        ("another time to live", |response| {
            let ours = response.name.ends_with(".cluster.local") || response.name.ends_with(".arpa");
            let aliases = response.answers.iter().any(|found| matches!(found.data, Said::Alias(_)));
            let plain = ours && !response.answers.is_empty() && !aliases;
            response.answers.iter_mut().for_each(|found| found.ttl -= 1);
            plain
        }),
    ];
    let lab = lab();
    let suite = names(&lab);
    let outcomes = perform(&lab, &suite, &Breakage::NONE);
    for (what, change) in changes {
        let mut tried = 0;
        for probe in &suite.probes {
            let right = outcomes.iter().find(|outcome| outcome.id == probe.orders[0].id).expect("it was tried");
            let mut wrong: Outcome = right.clone();
            let Some(response) = wrong.tries[0].result.as_mut().ok().and_then(|answer| answer.names.as_mut()) else {
                continue;
            };
            if change(response) {
                tried += 1;
                let verdict = judge::judge(probe, &[&wrong], 0.001).verdict;
                assert!(matches!(verdict, judge::Verdict::Fail(_)), "{what}, and {} passes", probe.id);
            }
        }
        assert!(tried >= 5, "{what}: only {tried} answers were tried");
    }
}

#[test]
fn missing_rules_of_the_dns_are_the_cause() {
    let lab = lab();
    let dns = lab.dns.as_ref().expect("it has one").ip;
    assert_eq!(dns.to_string(), "10.96.0.10");
    let suite = suite(&lab, &SuiteOptions::default());
    let fate = |flow: &crate::probe::rehearsal::Flow<'_>| match flow.to.ip().to_string().as_str() {
        "10.96.0.10" if flow.balancer() == Some(0) => Fate::Fails(FailureKind::Timeout),
        _ => Fate::Fine,
    };
    let drifts = [
        drift(
            "node1",
            DriftKind::Rule,
            "the rule `-A KUBE-SERVICES -d 10.96.1.1/32 -m comment --comment \"default/web cluster IP\" -j X` is missing",
        ),
        drift(
            "node1",
            DriftKind::Rule,
            "the rule `-A KUBE-SERVICES -d 10.96.0.10/32 -p udp -m comment --comment \"kube-system/kube-dns:dns cluster IP\" -m udp --dport 53 -j KUBE-SVC-TCOU7JCQXEZGVUNU` is missing",
        ),
    ];
    let report = judge::report(&suite, &perform(&lab, &suite, &Breakage { fate, ..Breakage::NONE }), &drifts);
    assert_eq!(report.causes.len(), 1, "{:#?}", report.causes);
    assert_eq!((report.causes[0].netns.as_str(), &report.causes[0].text), ("node1", &drifts[1].text));
    let failed = |part: &str| {
        let probe = report.probes.iter().find(|probe| probe.id == part).unwrap_or_else(|| panic!("there is no {part}"));
        (probe.result, probe.command.as_str(), probe.look_at.first().and_then(|look| look.command.clone()))
    };
    assert_eq!(
        failed("names/web-0/A/web"),
        (ResultKind::Failed, "netlab exec web-0 -- dig +search web A", Some("netlab rules node1".to_owned()))
    );
    assert_eq!(
        failed("names/web-0/url/web"),
        (
            ResultKind::Failed,
            "netlab exec web-0 -- curl -sS --max-time 4 http://web/",
            Some("netlab exec web-0 -- cat /etc/resolv.conf".to_owned())
        )
    );
    assert_eq!(failed("names/web-1/A/kube-dns.kube-system").0, ResultKind::Passed);
    let elsewhere = "names/web-0/A/kube-dns@kube-system";
    assert_eq!(
        failed(elsewhere).1,
        "netlab exec web-0 -- dig @10.96.0.10 kube-dns.kube-system.svc.cluster.local. A \
         kube-dns.svc.cluster.local. A kube-dns.cluster.local. A kube-dns. A"
    );
}

/// A dead DNS pod is the cause where its process has ended, and what fails for want of it says so.
#[test]
fn a_dead_dns_pod_is_the_cause() {
    let lab = lab();
    let suite = suite(&lab, &SuiteOptions::default());
    let fate = |flow: &crate::probe::rehearsal::Flow<'_>| match flow.choice.pod {
        Some(pod) if flow.lab.pod(pod).serves_dns() => Fate::Fails(FailureKind::Refused),
        _ => Fate::Fine,
    };
    let drifts = [
        drift("node2", DriftKind::Rule, "the rule `-A INPUT -s 10.9.9.9/32 -j ACCEPT` is not ours"),
        drift(
            "coredns.kube-system",
            DriftKind::Server,
            "the server of the container coredns of coredns.kube-system was ended by SIGKILL",
        ),
    ];
    let report = judge::report(&suite, &perform(&lab, &suite, &Breakage { fate, ..Breakage::NONE }), &drifts);
    assert_eq!(report.causes[0].text, drifts[1].text, "{:#?}", report.causes);
    assert_eq!(report.causes.len(), 1);
}

/// More Services than all can be asked for: bounded, said to be so, and none neglected.
#[test]
fn a_large_lab_is_sampled() {
    let mut text = "[dns]\nengine = \"embedded\"\n".to_owned();
    (1..=4).for_each(|n| text.push_str(&format!("[[node]]\nname = \"node{n}\"\n")));
    for s in 0..100 {
        text.push_str(&format!(
            "[[pod]]\nname = \"pod{s}\"\nlabels = {{ app = \"app{s}\" }}\n[[service]]\nname = \"svc{s}\"\nselector = \
             {{ app = \"app{s}\" }}\nports = [{{ name = \"http\", port = 80 }}]\n"
        ));
    }
    let lab = load(&text).unwrap_or_else(|problems| panic!("{problems}"));
    let truth = crate::proxy::truth::Truth::new(&lab, lab.cluster.proxy);
    let (options, mut bounds) = (SuiteOptions::default(), Vec::new());
    let sight = |from: Place, to: SocketAddr, protocol| truth.sight(from, to, protocol);
    let probes = super::probes(&Scene::new(&lab, &options, &sight, &|_, _, _| None), &mut bounds);
    let bounds: Vec<String> =
        bounds.iter().map(|bound| format!("{} of {} {}", bound.tried, bound.of, bound.what)).collect();
    assert_eq!(bounds, ["600 of 1343 questions about names"]);
    // What two of them ask in the same words is asked once.
    assert!((690..=720).contains(&probes.len()), "{}", probes.len());
    let asked: BTreeSet<&str> = probes.iter().map(|probe| probe.from.as_str()).collect();
    assert!(asked.len() > 90, "only {} places ask", asked.len());
    for s in 0..100 {
        let name = format!("svc{s}.");
        assert!(probes.iter().any(|probe| probe.id.contains(&name)), "nobody asks for {name}");
    }
}

/// Whoever has nothing to say but names is asked for one, wherever others are asked who they are.
#[test]
fn dns_pods_are_asked_for_names() {
    use crate::probe::order::What;
    let text = include_str!("lab.toml").replacen("engine", "replicas = 2\nengine", 1);
    let lab = load(&text).unwrap_or_else(|problems| panic!("{problems}"));
    let suite = suite(&lab, &SuiteOptions::default());
    let asks = |id: &str| {
        let probe = suite.probes.iter().find(|probe| probe.id == id).unwrap_or_else(|| panic!("there is no {id}"));
        let transport = match &probe.orders[0].what {
            What::Names { question, .. } => format!("{:?} {}", question.transport, question.resolver.servers[0]),
            What::Curl { url, .. } => url.clone(),
            other => format!("{other:?}"),
        };
        (transport, probe.orders[0].times)
    };
    assert_eq!(asks("pods/web-0/pod/coredns-0.kube-system:53"), ("Tcp 10.244.1.5:53".to_owned(), 1));
    assert_eq!(asks("pods/web-0/pod/coredns-0.kube-system:53/udp"), ("Udp 10.244.1.5:53".to_owned(), 1));
    assert_eq!(asks("nodes/node1/pod/coredns-1.kube-system:53"), ("Tcp 10.244.0.6:53".to_owned(), 1));
    // As often as it takes to meet both of them.
    let kube_dns = |port: &str| format!("services/web-0/cluster-ip/kube-dns.kube-system:{port}");
    assert_eq!(asks(&kube_dns("53/udp")), ("Udp 10.96.0.10:53".to_owned(), 30));
    assert_eq!(asks(&kube_dns("9153")), ("http://10.96.0.10:9153/metrics".to_owned(), 1));
    // What must not be answered is no less a question.
    assert_eq!(asks("negative/host/cluster-ip/kube-dns.kube-system:53/udp"), ("Udp 10.96.0.10:53".to_owned(), 1));
    assert!(suite.probes.iter().all(|probe| probe.group != super::Group::Balance || !probe.id.contains("kube-dns")));
    assert!(suite.probes.iter().any(|probe| probe.id == "pods/coredns-0.kube-system/pod/web-0:80"));
}

/// An answer is not enough: it must be one that only a cluster's DNS gives.
#[test]
fn a_dns_pod_must_say_what_it_is() {
    use crate::probe::order::{Answer, Try};
    let lab = lab();
    let suite = suite(&lab, &SuiteOptions::default());
    let outcomes = perform(&lab, &suite, &Breakage::NONE);
    let verdict = |id: &str, change: fn(&mut Answer)| {
        let probe = suite.probes.iter().find(|probe| probe.id == id).unwrap_or_else(|| panic!("there is no {id}"));
        let mut outcome =
            outcomes.iter().find(|outcome| outcome.id == probe.orders[0].id).expect("it was tried").clone();
        let Try { result: Ok(answer), .. } = &mut outcome.tries[0] else { panic!("{outcome:?}") };
        change(answer);
        match judge::judge(probe, &[&outcome], 0.001).verdict {
            judge::Verdict::Fail(fault) => Some((fault.kind, fault.happened)),
            _ => None,
        }
    };
    let udp = "services/web-0/cluster-ip/kube-dns.kube-system:53/udp";
    let wrong = Some((judge::FaultKind::WrongContent, "dns-version.cluster.local: NXDOMAIN".to_owned()));
    assert_eq!(verdict(udp, |_| {}), None);
    let unknown = |answer: &mut Answer| {
        let said = answer.names.as_mut().expect("names");
        (said.rcode, said.answers) = (Rcode::NxDomain, Vec::new());
    };
    assert_eq!(verdict(udp, unknown), wrong);
    let metrics = "services/web-0/cluster-ip/kube-dns.kube-system:9153";
    assert_eq!(verdict(metrics, |_| {}), None);
    let wrong = Some((judge::FaultKind::WrongContent, "status 404".to_owned()));
    assert_eq!(verdict(metrics, |answer| answer.status = 404), wrong);
    // The machine that says the client's address and nothing else.
    let my_ip = "names/client.shop/url/my-ip.default";
    let body = |answer: &mut Answer| {
        (answer.pod, answer.client, answer.body) = (None, None, "10.244.0.5\n".to_owned());
    };
    let wrong = "api.ipify.org saw the client as 10.244.0.5 instead of 10.30.45.11".to_owned();
    assert_eq!(verdict(my_ip, body), Some((judge::FaultKind::WrongSource, wrong)));
}

#[test]
fn a_lab_without_names_has_no_questions() {
    let mut lab = lab();
    (lab.dns, lab.externals) = (None, Vec::new());
    assert!(names(&lab).probes.is_empty());
}
