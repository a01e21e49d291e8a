//! Single verdicts.

use super::*;
use crate::lab::model::Server;
use crate::probe::{
    order::{Answer, Failure, Try},
    rehearsal::{Dice, book, book_with},
    suite::{Group, SuiteOptions, suite},
};

fn probe(id: &str) -> Probe {
    find(suite(&book(), &SuiteOptions::default()), id)
}

fn find(suite: Suite, id: &str) -> Probe {
    let ids: Vec<String> = suite.probes.iter().map(|probe| probe.id.clone()).collect();
    suite.probes.into_iter().find(|probe| probe.id == id).unwrap_or_else(|| panic!("{id} is not among {ids:#?}"))
}

fn answer(pod: Option<&str>, client: Option<&str>, body: &str) -> Try {
    let client = client.map(|client| client.parse().expect("a test says an address"));
    Try {
        result: Ok(Answer {
            status: 200,
            pod: pod.map(str::to_owned),
            client,
            body: body.to_owned(),
            ..Answer::default()
        }),
        micros: 1,
    }
}

fn failure(kind: FailureKind, text: &str) -> Try {
    Try { result: Err(Failure { kind, text: text.to_owned() }), micros: 1 }
}

fn verdict(probe: &Probe, tries: Vec<Try>) -> Verdict {
    judge(probe, &[&Outcome::new(probe.orders[0].id, tries)], 0.001).verdict
}

fn fault_of(probe: &Probe, tries: Vec<Try>) -> (FaultKind, String) {
    match verdict(probe, tries) {
        Verdict::Fail(fault) => (fault.kind, fault.happened),
        other => panic!("{other:?}"),
    }
}

fn passes(probe: &Probe, tries: Vec<Try>) -> String {
    match verdict(probe, tries) {
        Verdict::Pass(happened) => happened,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_pod_answers_by_its_name_and_sees_the_pod() {
    let probe = probe("pods/pod1a/pod/pod2:80");
    assert_eq!(passes(&probe, vec![answer(Some("pod2"), Some("192.168.1.10"), "")]), "answered by pod2");
    // The lesson's server says its address in the body, and nothing of the client.
    let body = "HTTP Server IP address: 192.168.2.20\nRequest path: /\n";
    assert_eq!(passes(&probe, vec![answer(None, None, body)]), "answered by pod2");
    assert_eq!(
        fault_of(&probe, vec![answer(Some("pod2"), Some("10.30.45.100"), "")]),
        (FaultKind::WrongSource, "pod2 saw the client as 10.30.45.100 instead of 192.168.1.10".to_owned())
    );
    assert_eq!(
        fault_of(&probe, vec![answer(Some("pod1b"), None, body)]),
        (FaultKind::WrongAnswerer, "answered by pod1b".to_owned())
    );
    assert_eq!(
        fault_of(&probe, vec![answer(None, None, "HTTP Server IP address: 192.168.1.20\n")]),
        (FaultKind::WrongAnswerer, "answered by 192.168.1.20".to_owned())
    );
    assert_eq!(fault_of(&probe, vec![answer(None, None, "It works!")]).0, FaultKind::WrongAnswerer);
    assert_eq!(
        fault_of(&probe, vec![failure(FailureKind::Timeout, "curl: (28) timed out\n")]),
        (FaultKind::Timeout, "nothing came back (curl: (28) timed out)".to_owned())
    );
    assert_eq!(fault_of(&probe, vec![failure(FailureKind::Other, "no curl")]).0, FaultKind::NotTried);
    assert_eq!(fault_of(&probe, vec![]).0, FaultKind::NotTried);
}

#[test]
fn silence_comes_in_the_right_way() {
    let probe = probe("negative/laptop/cluster-ip/http-server-svc:8080");
    passes(&probe, vec![failure(FailureKind::Timeout, "")]);
    // What connect() says of a blackhole route.
    passes(&probe, vec![failure(FailureKind::Other, "Invalid argument (os error 22)")]);
    assert_eq!(fault_of(&probe, vec![failure(FailureKind::Refused, "")]).0, FaultKind::Refused);
    assert_eq!(
        fault_of(&probe, vec![answer(Some("pod2"), None, "")]),
        (FaultKind::Answered, "answered by pod2".to_owned())
    );
}

#[test]
fn a_backend_must_meet_itself() {
    let probe = probe("services/pod1a/cluster-ip/http-server-svc:8080/itself");
    assert_eq!(probe.orders[0].times, 52);
    let others = || (0..51).map(|i| answer(Some(if i % 2 == 0 { "pod1b" } else { "pod2" }), None, ""));
    let me = || answer(Some("pod1a"), Some("192.168.1.1"), "");
    assert_eq!(passes(&probe, others().chain([me()]).collect()), "52 tries, answered by pod1a 1, pod1b 26, pod2 25");
    assert_eq!(
        fault_of(&probe, others().collect()),
        (FaultKind::WrongAnswerer, "it never met itself: 51 tries, answered by pod1b 26, pod2 25".to_owned())
    );
    assert_eq!(
        fault_of(&probe, others().chain([failure(FailureKind::Timeout, "")]).collect()),
        (
            FaultKind::Timeout,
            "1 of 52 tries: nothing came back; the others were answered by pod1a 0, pod1b 26, pod2 25".to_owned()
        )
    );
    // Its own address instead of the gateway's: the hairpin is not masqueraded.
    assert_eq!(
        fault_of(&probe, others().chain([answer(Some("pod1a"), Some("192.168.1.10"), "")]).collect()).0,
        FaultKind::WrongSource
    );
}

/// Dropping the hairpin mark is met with all but a probability of a thousand millionth.
#[test]
fn a_missing_hairpin_is_always_met() {
    let probe = probe("services/pod1a/cluster-ip/http-server-svc:8080/itself");
    assert!((2.0_f64 / 3.0).powi(probe.orders[0].times as i32) < 1e-6);
}

#[test]
fn uneven_shares_fail() {
    let probe = probe("balance/node1/ladder/http-server-svc:8080@node1");
    assert_eq!(probe.orders.len(), 3);
    let judged = |counts: [usize; 3]| {
        let tries = || {
            let each = ["pod1a", "pod1b", "pod2"].into_iter().zip(counts);
            each.flat_map(|(pod, count)| std::iter::repeat_n(answer(Some(pod), None, ""), count)).collect()
        };
        let outcomes: Vec<Outcome> = probe.orders.iter().map(|order| Outcome::new(order.id, tries())).collect();
        judge(&probe, &outcomes.iter().collect::<Vec<_>>(), 0.0005)
    };
    let even = judged([130, 140, 130]);
    assert_eq!(even.verdict, Verdict::Pass("1200 connections: pod1a 390, pod1b 420, pod2 390; p = 0.47".to_owned()));
    let distribution = even.distribution.expect("it was answered");
    assert!(distribution.even && distribution.power > 0.9999);
    assert_eq!(distribution.from, ["node1", "pod1a", "host"]);
    let Verdict::Fail(fault) = judged([133, 89, 178]).verdict else { panic!("⅓, ⅓, 1 must fail") };
    assert_eq!(fault.kind, FaultKind::WrongShares);
    assert!(fault.happened.contains("take 0.33, 0.33, 1.00 of what reaches them, instead of 0.33, 0.50, 1.00"));
}

#[test]
fn affinity_sticks() {
    let mut lab = book();
    lab.services[0].session_affinity = Some(10800);
    let probe = find(suite(&lab, &SuiteOptions::default()), "balance/node1/ladder/http-server-svc:8080@node1");
    let mut dice = Dice(3);
    let judged = |pick: &mut dyn FnMut(usize) -> &'static str| {
        let outcomes: Vec<Outcome> = probe
            .orders
            .iter()
            .enumerate()
            .map(|(index, order)| {
                let tries = (0..order.times).map(|_| answer(Some(pick(index)), None, "")).collect();
                Outcome::new(order.id, tries)
            })
            .collect();
        judge(&probe, &outcomes.iter().collect::<Vec<_>>(), 0.001).verdict
    };
    // Each client may have an endpoint of its own.
    assert!(matches!(judged(&mut |index| ["pod1a", "pod2", "pod1b"][index]), Verdict::Pass(_)));
    let Verdict::Fail(fault) = judged(&mut |_| ["pod1a", "pod2", "pod1b"][(dice.roll() * 3.0) as usize]) else {
        panic!("no affinity at all must fail")
    };
    assert_eq!(fault.kind, FaultKind::NotSticky);
}

#[test]
fn a_foreign_server_may_hang_up() {
    let lab = book_with(Server::Command(vec!["redis-server".to_owned()]));
    let probe = find(suite(&lab, &SuiteOptions::default()), "pods/pod1a/pod/pod2:80");
    passes(&probe, vec![failure(FailureKind::Broken, "curl: (52) Empty reply from server")]);
    passes(&probe, vec![answer(None, None, "anything")]);
    assert_eq!(fault_of(&probe, vec![failure(FailureKind::Refused, "")]).0, FaultKind::Refused);
}

/// A probe of the user with this expectation.
fn yours(asks: crate::lab::model::Asks, expect: crate::lab::model::UserExpect) -> Probe {
    let mut lab = book();
    lab.probes = vec![crate::probe::suite::yours::tests::probe("shop", asks, expect)];
    find(suite(&lab, &SuiteOptions::default()), "yours/shop")
}

#[test]
fn wishes_are_granted_or_not() {
    use crate::lab::model::{PodId, UserExpect};
    let probe = yours(
        crate::probe::suite::yours::tests::http("10.30.45.100", 30080),
        UserExpect {
            status: Some(200),
            backends: vec![PodId(0), PodId(1)],
            text_contains: Some("hello".to_owned()),
            ..UserExpect::default()
        },
    );
    assert_eq!(probe.group, Group::Yours);
    let good = |pod| answer(Some(pod), None, "hello world");
    passes(&probe, vec![good("pod1a"), good("pod1b")]);
    let mut teapot = good("pod1a");
    teapot.result.as_mut().expect("it is an answer").status = 418;
    let rows = [
        (vec![good("pod1a"), good("pod1b"), good("pod2")], FaultKind::WrongAnswerer),
        (vec![good("pod1a"), good("pod1a")], FaultKind::WrongAnswerer),
        (vec![good("pod1a"), answer(Some("pod1b"), None, "bye")], FaultKind::WrongContent),
        (vec![teapot, good("pod1b")], FaultKind::WrongContent),
        (vec![good("pod1a"), failure(FailureKind::Refused, "")], FaultKind::Refused),
    ];
    for (tries, kind) in rows {
        assert_eq!(fault_of(&probe, tries).0, kind);
    }
}

#[test]
fn answers_are_read_as_closely_as_wished() {
    use crate::lab::model::{Asks, UserExpect, UserSource};
    let http = || crate::probe::suite::yours::tests::http("10.30.45.100", 30080);
    let header = |name: &str, value: &str| {
        let mut one = answer(Some("pod1a"), Some("192.168.1.10"), "whole");
        let it = one.result.as_mut().expect("it is an answer");
        it.headers = vec![(name.to_owned(), value.to_owned())];
        one
    };
    let probe = yours(
        http(),
        UserExpect {
            text: Some("whole".to_owned()),
            headers: vec![("X-A".to_owned(), "b".to_owned())],
            source: Some(UserSource::Itself),
            ..UserExpect::default()
        },
    );
    passes(&probe, vec![header("x-a", "b")]);
    let happens = |tries| fault_of(&probe, tries).1;
    assert_eq!(happens(vec![header("x-a", "c")]), "x-a: \"c\"".replace("x-a", "X-A"));
    assert_eq!(happens(vec![header("x-b", "b")]), "a response without the header X-A");
    let mut other = header("x-a", "b");
    other.result.as_mut().expect("it is an answer").client = Some([10, 0, 0, 9].into());
    assert_eq!(happens(vec![other]), "pod1a saw the client as 10.0.0.9 instead of 192.168.1.10");
    let mut part = header("x-a", "b");
    part.result.as_mut().expect("it is an answer").body = "not the whole".to_owned();
    assert_eq!(happens(vec![part]), "the body \"not the whole\"");
    let run = yours(Asks::Exec(vec!["false".to_owned()]), UserExpect::default());
    let mut one = answer(None, None, "");
    let it = one.result.as_mut().expect("it is an answer");
    (it.status, it.complaint) = (1, "a\nno such thing\n".to_owned());
    assert_eq!(fault_of(&run, vec![one]), (FaultKind::WrongContent, "exit code 1: \"no such thing\"".to_owned()));
}

/// A path that one connection has just shown broken is not measured with hundreds.
#[test]
fn hopeless_measurements_are_skipped() {
    let suite = suite(&book(), &SuiteOptions::default());
    let first = suite.first_orders();
    let outcomes: Vec<Outcome> = first
        .iter()
        .map(|order| Outcome::new(order.id, vec![failure(FailureKind::Timeout, ""); order.times]))
        .collect();
    assert!(suite.second_orders(&outcomes).is_empty());
    let report = report(&suite, &outcomes, &[]);
    assert_eq!(report.count(crate::report::ResultKind::Skipped), 2);
    assert_eq!(suite.orders().len(), first.len() + 6);
}

#[test]
fn p_values_in_words() {
    let texts: Vec<String> = [1.0, 0.4712, 0.0312, 0.00031, 2.4e-12, 0.0].iter().map(|p| p_text(*p)).collect();
    assert_eq!(texts, ["1.00", "0.47", "0.0312", "0.0003", "2e-12", "0"]);
}

/// An answer that nobody gave: a connection that was led to an endpoint, under an address of the client's.
fn led_to(endpoint: &str, client: &str) -> Try {
    let answer =
        Answer { led_to: Some(endpoint.parse().unwrap()), client: Some(client.parse().unwrap()), ..Answer::default() };
    Try { result: Ok(answer), micros: 1 }
}

/// What conntrack says counts as an answer does, and whole answers must agree with it.
#[test]
fn connections_are_counted_by_whom_they_are_led_to() {
    let suite = suite(&book(), &SuiteOptions { only: vec!["balance/node2".to_owned()], ..SuiteOptions::default() });
    let probe = &suite.probes[0];
    assert!(probe.orders.iter().all(|order| order.counted_by.as_deref() == Some("node2")));
    let good = |nth: usize| led_to(["192.168.1.10:80", "192.168.1.20:80", "192.168.2.20:80"][nth % 3], "10.30.45.200");
    let judged = |bad: Option<Try>, whole: Vec<Try>| {
        let mut outcomes: Vec<Outcome> =
            probe.orders.iter().map(|order| Outcome::new(order.id, (0..order.times).map(good).collect())).collect();
        // Only the first order's answers are under test; what the others see is of their own addresses.
        for (order, outcome) in probe.orders.iter().zip(&mut outcomes) {
            for one in &mut outcome.tries {
                let Ok(answer) = &mut one.result else { continue };
                let endpoint = answer.led_to.unwrap();
                let answerer = probe.expect.answerers().iter().find(|it| it.endpoint == endpoint).unwrap();
                answer.client = answerer.sources.first().copied();
                assert!(!order.netns.is_empty());
            }
        }
        outcomes[0].tries.extend(bad);
        outcomes[0].whole = whole;
        let outcomes: Vec<&Outcome> = outcomes.iter().collect();
        judge(probe, &outcomes, 0.001)
    };
    let fault = |bad: Option<Try>, whole: Vec<Try>| match judged(bad, whole).verdict {
        Verdict::Fail(fault) => (fault.kind, fault.happened),
        other => panic!("{other:?}"),
    };
    let right = answer(Some("pod1a"), None, "");
    let whole = |endpoint: &str| {
        let mut one = right.clone();
        let Ok(answer) = &mut one.result else { panic!("{one:?}") };
        (answer.led_to, answer.body) =
            (Some(endpoint.parse().unwrap()), "HTTP Server IP address: 192.168.1.10".to_owned());
        one
    };
    let all = judged(None, vec![whole("192.168.1.10:80"); 2]);
    assert!(
        matches!(&all.verdict, Verdict::Pass(text) if text.ends_with("; 2 whole answers agree")),
        "{:?}",
        all.verdict
    );
    let total: usize = probe.orders.iter().map(|order| order.times).sum();
    // Whole answers are not among those that are counted.
    assert_eq!(all.distribution.map(|it| (it.connections, it.shares.iter().map(|it| it.observed).sum())), {
        Some((total as u64, total as u64))
    });
    assert_eq!(
        fault(None, vec![whole("192.168.1.20:80")]),
        (FaultKind::WrongContent, "pod1a answered a connection that conntrack says was led to 192.168.1.20:80".into())
    );
    assert_eq!(fault(Some(led_to("192.168.1.99:80", "10.30.45.200")), Vec::new()).0, FaultKind::WrongAnswerer);
    assert_eq!(fault(Some(led_to("192.168.1.10:80", "1.2.3.4")), Vec::new()).0, FaultKind::WrongSource);
    assert_eq!(fault(None, vec![failure(FailureKind::Timeout, "")]).0, FaultKind::Timeout);
}
