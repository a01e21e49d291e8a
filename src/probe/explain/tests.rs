//! Causes where several things are wrong at once; single breakages are in the report's tests.

use super::*;
use crate::{
    lab::model::{NodeId, Place, PodId},
    probe::{
        judge,
        order::FailureKind,
        rehearsal::{Breakage, Fate, book, drift, perform},
        suite::{SuiteOptions, suite},
    },
    report::Report,
};

fn report(fate: fn(&crate::probe::rehearsal::Flow<'_>) -> Fate, drifts: &[Drift]) -> Report {
    let lab = book();
    let suite = suite(&lab, &SuiteOptions::default());
    judge::report(&suite, &perform(&lab, &suite, &Breakage { fate, ..Breakage::NONE }), drifts)
}

#[test]
fn two_causes_are_told_apart() {
    let drifts = [
        drift("node1", DriftKind::Sysctl, "net/ipv4/conf/all/route_localnet is 0, and should be 1"),
        drift("pod2", DriftKind::Server, "the server of container web is not running"),
        drift("node2", DriftKind::Rule, "the rule `-A INPUT -s 10.9.9.9/32 -j ACCEPT` is not ours"),
    ];
    let report = report(
        |flow| {
            if flow.to.ip().is_loopback() && flow.from == Place::Node(NodeId(0)) {
                Fate::Fails(FailureKind::Timeout)
            } else if flow.choice.pod == Some(PodId(2)) {
                Fate::Fails(FailureKind::Refused)
            } else {
                Fate::Fine
            }
        },
        &drifts,
    );
    let causes: Vec<&str> = report.causes.iter().map(|cause| cause.netns.as_str()).collect();
    assert_eq!(causes, ["pod2", "node1"]);
    assert!(report.causes[1].text.contains("route_localnet"));
}

#[test]
fn rules_of_another_service_are_not_blamed() {
    let drifts = [
        drift(
            "node1",
            DriftKind::Rule,
            "the rule `-A KUBE-SERVICES -d 10.96.1.7/32 -m comment --comment \"default/other cluster IP\" -j X` is missing",
        ),
        drift(
            "node1",
            DriftKind::Rule,
            "the rule `-A KUBE-SERVICES -d 10.96.1.100/32 -m comment --comment \"default/http-server-svc cluster IP\" -j X` is missing",
        ),
    ];
    let report = report(
        |flow| match flow.is_service() && flow.balancer() == Some(0) {
            true => Fate::Fails(FailureKind::Timeout),
            false => Fate::Fine,
        },
        &drifts,
    );
    assert_eq!(report.causes.len(), 1);
    assert_eq!(report.causes[0].text, drifts[1].text);
    assert_eq!(report.idle_drifts, drifts[..1]);
}
