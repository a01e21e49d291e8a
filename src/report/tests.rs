//! Whole reports: of a lab that is as it must be, and of one that is broken in each of ten ways.

use super::*;
use crate::{
    lab::model::{Lab, NodeId, Place, PodId, Protocol, ProxyMode, Server},
    probe::{
        drift::{Drift, DriftKind},
        judge,
        order::FailureKind,
        rehearsal::{Breakage, Fate, Flow, book, book_with, drift, golden, parsed, perform},
        suite::{Suite, SuiteOptions, suite, suite_by},
    },
};

fn report_of(lab: &Lab, breakage: &Breakage, drifts: &[Drift]) -> Report {
    let suite = suite(lab, &SuiteOptions::default());
    judge::report(&suite, &perform(lab, &suite, breakage), drifts)
}

/// Breaks the book's lab, with echo servers and with the lesson's, and compares both reports.
fn broken(name: &str, fate: fn(&Flow<'_>) -> Fate, drifts: &[Drift]) {
    for (server, suffix) in [(Server::Echo, ""), (Server::Python, "-python")] {
        let lab = book_with(server);
        let report = report_of(&lab, &Breakage { fate, ..Breakage::NONE }, drifts);
        assert!(!report.passed(), "{name}{suffix}");
        // The place that is really broken comes first, and nothing else is blamed.
        let first = &report.causes[0];
        assert_eq!((&first.netns, &first.text), (&drifts[0].netns, &first_words(drifts)), "{name}{suffix}");
        assert_eq!(report.causes.len(), 1, "{name}{suffix}: {:#?}", report.causes);
        assert_eq!(first.probes.len(), report.count(ResultKind::Failed), "{name}{suffix}");
        if suffix.is_empty() {
            golden(&format!("{name}.txt"), &render(&report, Format::Table, Colour::Off));
        }
    }
}

fn first_words(drifts: &[Drift]) -> String {
    match drifts.len() {
        many if many >= 4 && drifts.iter().all(|drift| drift.kind == drifts[0].kind) => {
            format!(
                "{many} rules differ from the plan, all in the nat table: {}; {}; and {} more",
                drifts[0].text,
                drifts[1].text,
                many - 2
            )
        }
        _ => drifts[0].text.clone(),
    }
}

fn on_pods_of_node1(place: Place) -> bool {
    place == Place::Pod(PodId(0)) || place == Place::Pod(PodId(1))
}

#[test]
fn a_lab_as_it_must_be() {
    for proxy in ProxyMode::ALL {
        for server in [Server::Echo, Server::Python] {
            let mut lab = book_with(server);
            lab.cluster.proxy = proxy;
            let report = report_of(&lab, &Breakage::NONE, &[]);
            assert!(report.passed(), "{proxy}: {}", render(&report, Format::Table, Colour::Off));
            assert!(report.causes.is_empty());
        }
    }
    let report = report_of(&book(), &Breakage::NONE, &[]);
    golden("passed.txt", &render(&report, Format::Table, Colour::Off));
}

#[test]
fn nat_is_flushed() {
    let rules = [
        "the rule `-m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES` is missing from PREROUTING (table nat)",
        "the rule `-m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES` is missing from OUTPUT (table nat)",
        "the rule `-m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING` is missing from POSTROUTING (table nat)",
        "the rule `-d 10.96.1.100/32 -p tcp -m comment --comment \"default/http-server-svc cluster IP\" -m tcp --dport 8080 -j KUBE-SVC-X` is missing from KUBE-SERVICES (table nat)",
        "all 2 rules of KUBE-SEP-X (table nat) are missing",
        "the rule `-s 192.168.1.0/24 ! -d 192.168.0.0/16 -j MASQUERADE` is missing from POSTROUTING (table nat)",
    ];
    broken(
        "nat-flushed",
        |flow| match flow.balancer() == Some(0) && (flow.is_service() || flow.end_node().is_none()) {
            true if flow.to.port() == 30080 => Fate::Fails(FailureKind::Refused),
            true => Fate::Fails(FailureKind::Timeout),
            false => Fate::Fine,
        },
        &rules.map(|rule| drift("node1", DriftKind::Rule, rule)),
    );
}

#[test]
fn masquerade_is_missing() {
    broken(
        "masquerade-missing",
        |flow| match flow.balancer() == Some(0) && flow.is_masqueraded() && flow.is_service() {
            true if flow.is_hairpin() || flow.end_node() != Some(0) => Fate::Fails(FailureKind::Timeout),
            true if !on_pods_of_node1(flow.from) => Fate::Seen("10.30.45.1"),
            _ => Fate::Fine,
        },
        &[drift(
            "node1",
            DriftKind::Rule,
            "the rule `-m comment --comment \"kubernetes service traffic requiring SNAT\" -j MASQUERADE --random-fully` is missing from KUBE-POSTROUTING (table nat)",
        )],
    );
}

#[test]
fn route_is_missing() {
    broken(
        "route-missing",
        |flow| {
            let through_node1 = flow.balancer() == Some(0) && flow.end_node() == Some(1);
            let back_through_node1 = flow.from == Place::Pod(PodId(2)) && flow.end_node() == Some(0);
            match through_node1 || back_through_node1 {
                true => Fate::Fails(FailureKind::Timeout),
                false => Fate::Fine,
            }
        },
        &[drift("node1", DriftKind::Route, "the route 192.168.2.0/24 via 10.30.45.200 dev eth0 is missing")],
    );
}

#[test]
fn nothing_is_forwarded() {
    broken(
        "no-forwarding",
        |flow| match flow.is_forwarded_by(0) {
            true => Fate::Fails(FailureKind::Timeout),
            false => Fate::Fine,
        },
        &[drift("node1", DriftKind::Sysctl, "net.ipv4.ip_forward is 0, and should be 1")],
    );
}

#[test]
fn bridge_is_down() {
    broken(
        "bridge-down",
        |flow| match on_pods_of_node1(flow.from) || flow.end_node() == Some(0) {
            true => Fate::Fails(FailureKind::Timeout),
            false => Fate::Fine,
        },
        &[
            drift("node1", DriftKind::Link, "the link br0 is down"),
            drift("node1", DriftKind::Route, "the route 192.168.1.0/24 dev br0 is missing"),
        ],
    );
}

#[test]
fn server_is_dead() {
    broken(
        "server-dead",
        |flow| match flow.choice.pod == Some(PodId(2)) {
            true => Fate::Fails(FailureKind::Refused),
            false => Fate::Fine,
        },
        &[drift("pod2", DriftKind::Server, "the server of the container web of pod2 was ended by SIGKILL")],
    );
}

#[test]
fn probability_is_wrong() {
    let lab = book();
    let shares = |node| if node == 0 { [3.0 / 9.0, 2.0 / 9.0, 4.0 / 9.0] } else { [1.0 / 3.0; 3] };
    let drifts = [
        drift(
            "node1",
            DriftKind::Rule,
            "the rule `-m comment --comment \"default/http-server-svc -> 192.168.1.20:80\" -m statistic --mode random --probability 0.50000000000 -j KUBE-SEP-Y` is missing from KUBE-SVC-X (table nat)",
        ),
        drift(
            "node1",
            DriftKind::Rule,
            "the rule `-m statistic --mode random --probability 0.33000000007 -j KUBE-SEP-Y` in KUBE-SVC-X (table nat) is not netlab's",
        ),
    ];
    let report = report_of(&lab, &Breakage { shares, ..Breakage::NONE }, &drifts);
    assert!(!report.passed());
    assert_eq!(report.causes.len(), 1);
    assert_eq!(report.causes[0].text, drifts[0].text);
    assert_eq!(report.causes[0].also.len(), 1);
    golden("probability-wrong.txt", &render(&report, Format::Table, Colour::Off));
}

#[test]
fn localhost_is_not_routed() {
    broken(
        "no-route-localnet",
        |flow| match flow.to.ip().is_loopback() && flow.from == Place::Node(NodeId(0)) {
            true => Fate::Fails(FailureKind::Timeout),
            false => Fate::Fine,
        },
        &[drift("node1", DriftKind::Sysctl, "net.ipv4.conf.all.route_localnet is 0, and should be 1")],
    );
}

#[test]
fn hairpin_is_not_marked() {
    broken(
        "no-hairpin",
        |flow| {
            let is_its = flow.from == Place::Pod(PodId(0)) && flow.is_hairpin() && flow.balancer() == Some(0);
            match is_its && flow.to.port() == 8080 {
                true => Fate::Fails(FailureKind::Timeout),
                false => Fate::Fine,
            }
        },
        &[drift(
            "node1",
            DriftKind::Rule,
            "the rule `-s 192.168.1.10/32 -m comment --comment \"default/http-server-svc\" -j KUBE-MARK-MASQ` is missing from KUBE-SEP-X (table nat)",
        )],
    );
}

#[test]
fn forward_drops() {
    broken(
        "forward-drops",
        |flow| match flow.is_forwarded_by(1) {
            true => Fate::Fails(FailureKind::Timeout),
            false => Fate::Fine,
        },
        &[drift("node2", DriftKind::Rule, "the rule `-j DROP` in FORWARD (table filter) is not netlab's")],
    );
}

/// Without a single difference the failures themselves must point at the place.
#[test]
fn patterns_point_at_the_place() {
    type Row = (fn(&Flow<'_>) -> Fate, &'static str);
    let rows: [Row; 4] = [
        (
            |flow| match flow.choice.pod == Some(PodId(2)) {
                true => Fate::Fails(FailureKind::Refused),
                false => Fate::Fine,
            },
            "pod2",
        ),
        (
            |flow| match flow.is_forwarded_by(0) {
                true => Fate::Fails(FailureKind::Timeout),
                false => Fate::Fine,
            },
            "node1",
        ),
        (
            |flow| match flow.from == Place::Client(crate::lab::model::ClientId(0)) {
                true => Fate::Fails(FailureKind::Unreachable),
                false => Fate::Fine,
            },
            "laptop",
        ),
        (
            |flow| match flow.is_service() && flow.balancer() == Some(1) {
                true => Fate::Fails(FailureKind::Timeout),
                false => Fate::Fine,
            },
            "node2",
        ),
    ];
    for (fate, netns) in rows {
        let report = report_of(&book(), &Breakage { fate, ..Breakage::NONE }, &[]);
        assert_eq!(report.causes[0].netns, netns, "{:#?}", report.causes);
        assert_eq!(report.causes[0].evidence, Evidence::Pattern);
    }
}

/// A difference that does no harm is a note, not a cause.
#[test]
fn harmless_drift_does_not_fail() {
    let drifts = [drift("node1", DriftKind::Rule, "the rule `-j LOG` in INPUT (table filter) is not netlab's")];
    let report = report_of(&book(), &Breakage::NONE, &drifts);
    assert!(report.passed());
    assert_eq!(report.idle_drifts, drifts);
    assert!(render(&report, Format::Table, Colour::Off).contains("no probe fails because of it"));
}

#[test]
fn nothing_tried_is_nothing_shown() {
    let lab = book();
    let suite = suite(&lab, &SuiteOptions { only: vec!["nobody".to_owned()], ..SuiteOptions::default() });
    assert!(!judge::report(&suite, &[], &[]).passed());
    let all = crate::probe::suite::suite(&lab, &SuiteOptions::default());
    let report = judge::report(&all, &[], &[]);
    assert!(!report.passed());
    assert_eq!(report.count(ResultKind::Passed), 0);
}

/// The other forms of one and the same failed report.
#[test]
fn the_other_forms() {
    let lab = book();
    let only = vec!["pods".to_owned(), "balance/node1".to_owned()];
    let suite = suite(&lab, &SuiteOptions { only, ..SuiteOptions::default() });
    let fate: fn(&Flow<'_>) -> Fate = |flow| match flow.choice.pod == Some(PodId(2)) && !flow.is_service() {
        true => Fate::Fails(FailureKind::Refused),
        false => Fate::Fine,
    };
    let drifts = [drift("pod2", DriftKind::Server, "the server of the container web of pod2 was ended by SIGKILL")];
    let report = judge::report(&suite, &perform(&lab, &suite, &Breakage { fate, ..Breakage::NONE }), &drifts);
    golden("forms.tap", &render(&report, Format::Tap, Colour::Off));
    golden("forms.xml", &render(&report, Format::Junit, Colour::Off));
    let json = render(&report, Format::Json, Colour::Off);
    golden("forms.json", &json);
    let read: Report = serde_json::from_str(&json).expect("a report can be read back");
    assert_eq!(read.version, VERSION);
    assert_eq!(render(&read, Format::Json, Colour::Off), json);
    let mut report = report;
    report.locate(&suite, File { name: "labs/book.toml", text: "" });
    golden("forms.github", &render(&report, Format::Github, Colour::Off));
    golden("forms.md", &render(&report, Format::Markdown, Colour::Off));
    golden("forms.matrix", &render(&report, Format::Matrix, Colour::Off));
    let coloured = render(&report, Format::Table, Colour::On);
    assert!(coloured.contains("\u{1b}["));
    let plain: String = strip(&coloured);
    assert_eq!(plain, render(&report, Format::Table, Colour::Off));
}

fn strip(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        out.push_str(before);
        rest = after.split_once('m').map_or("", |(_, after)| after);
    }
    out + rest
}

/// Another opinion may be put in place of the truth's.
#[test]
fn the_opinion_can_be_given() {
    let lab = book();
    let refused: Suite = suite_by(
        &lab,
        &SuiteOptions::default(),
        &|_, _, _: Protocol| crate::proxy::truth::Sight::Refused,
        &|_, _, _| None,
    );
    assert!(refused.probes.iter().all(|probe| probe.orders.len() == 1));
    assert!(refused.tests() == 0 && !refused.probes.is_empty());
    let _: std::net::IpAddr = parsed("10.0.0.1");
}

/// With several labs up, a command that is to be pasted says which one it means.
#[test]
fn commands_name_the_lab_where_they_must() {
    let lab = book();
    let fate: fn(&Flow<'_>) -> Fate = |_| Fate::Fails(FailureKind::Timeout);
    let commands = |named: Option<&str>| -> Vec<String> {
        let options = SuiteOptions { lab: named.map(str::to_owned), ..SuiteOptions::default() };
        let suite = suite(&lab, &options);
        let report = judge::report(&suite, &perform(&lab, &suite, &Breakage { fate, ..Breakage::NONE }), &[]);
        let looks = report.causes.into_iter().flat_map(|cause| cause.look_at);
        let looks = looks.chain(report.probes.iter().flat_map(|probe| probe.look_at.clone()));
        let commands = report.probes.iter().map(|probe| probe.command.clone());
        looks.filter_map(|look| look.command).chain(commands).collect()
    };
    assert!(commands(Some("two")).iter().all(|command| command.contains(" -l two ")));
    assert!(commands(None).iter().all(|command| !command.contains(" -l ")));
}

/// No line of the book's matrix is longer than a hundred characters.
#[test]
fn the_matrix_of_the_book() {
    let report = report_of(&book(), &Breakage::NONE, &[]);
    let text = render(&report, Format::Matrix, Colour::Off);
    golden("matrix.txt", &text);
    for line in text.lines() {
        assert!(line.chars().count() <= 100, "{line}");
    }
    let fate: fn(&Flow<'_>) -> Fate = |flow| match flow.balancer() == Some(1) && flow.is_service() {
        true => Fate::Fails(FailureKind::Timeout),
        false => Fate::Fine,
    };
    let report = report_of(&book(), &Breakage { fate, ..Breakage::NONE }, &[]);
    golden("matrix-broken.txt", &render(&report, Format::Matrix, Colour::Off));
}

/// What fails in some runs only is named, and what fails in any has failed.
#[test]
fn runs_are_put_together() {
    let lab = book();
    let fate: fn(&Flow<'_>) -> Fate = |flow| match flow.choice.pod == Some(PodId(2)) && !flow.is_service() {
        true => Fate::Fails(FailureKind::Refused),
        false => Fate::Fine,
    };
    let good = || report_of(&lab, &Breakage::NONE, &[]);
    let bad = || report_of(&lab, &Breakage { fate, ..Breakage::NONE }, &[]);
    let failed = bad().count(ResultKind::Failed);
    let whole = Report::of_runs(vec![good(), bad(), good()]).expect("there were runs");
    assert!(!whole.passed() && whole.runs == 3);
    assert_eq!((whole.count(ResultKind::Failed), whole.flaky.len()), (failed, failed));
    assert!(whole.flaky.iter().all(|flaky| (flaky.failed, flaky.of) == (1, 3)));
    assert_eq!(whole.causes, bad().causes);
    assert_eq!(whole.groups, bad().groups);
    let text = render(&whole, Format::Table, Colour::Off);
    assert!(text.contains(" in 3 runs\n") && text.contains("flaky: pods/pod1a/pod/pod2:80 failed in 1 of 3 runs"));
    let always = Report::of_runs(vec![bad(), bad()]).expect("there were runs");
    assert!(always.flaky.is_empty() && always.probes.iter().any(|probe| probe.failed_runs == Some(2)));
    assert!(Report::of_runs(Vec::new()).is_none());
    assert_eq!(Report::of_runs(vec![good()]), Some(good()));
}

/// After the first failure the rest is not tried, which is no failure of theirs.
#[test]
fn what_comes_after_a_failure_is_skipped() {
    let lab = book();
    let suite = suite(&lab, &SuiteOptions { fail_fast: true, ..SuiteOptions::default() });
    let fate: fn(&Flow<'_>) -> Fate = |_| Fate::Fails(FailureKind::Timeout);
    let outcomes = perform(&lab, &suite, &Breakage { fate, ..Breakage::NONE });
    let report = judge::report(&suite, &outcomes[..1], &[]);
    assert_eq!((report.count(ResultKind::Failed), report.count(ResultKind::Passed)), (1, 0));
    assert_eq!(report.count(ResultKind::Skipped), suite.probes.len() - 1);
    // Without a failure there is no reason to be silent.
    let report = judge::report(&suite, &[], &[]);
    assert_eq!(report.count(ResultKind::Failed), suite.probes.len() - 2);
}

#[test]
fn every_probe_can_be_pasted() {
    let suite = suite(&book(), &SuiteOptions::default());
    let text = paste(&suite);
    let orders: usize = suite.probes.iter().map(|probe| probe.orders.len()).sum();
    assert_eq!(text.lines().count(), orders);
    assert!(text.lines().all(|line| line.starts_with("netlab exec ") && line.contains("   # ")), "{text}");
    assert!(text.starts_with(
        "netlab exec pod1a -- curl -sS --max-time 3 http://192.168.1.20/   # pod1a → pod1b at 192.168.1.20:80: an answer \
         from pod1b\n"
    ));
    assert_eq!(list(&suite).len(), suite.probes.len());
}

/// A report points to the lab file.
#[test]
fn probes_have_lines() {
    let text = "[[pod]]\nname = \"web\"\nreplicas = 2\nlabels = { app = \"web\" }\n\n[[service]]\nname = \"shop\"\n\
                selector = { app = \"web\" }\nports = [{ port = 80 }]\n\n[[probe]]\nfrom = \"node1\"\n\
                url = \"http://shop/\"\n";
    let lab = crate::lab::load(text).unwrap_or_else(|_| panic!("a good lab"));
    let suite = suite(&lab, &SuiteOptions::default());
    let mut report = judge::report(&suite, &[], &[]);
    report.locate(&suite, File { name: "shop.toml", text });
    let line = |id: &str| report.probes.iter().find(|probe| probe.id.contains(id)).and_then(|probe| probe.line);
    assert_eq!(line("pods/web-0/pod/web-1"), Some(1));
    assert_eq!(line("services/node1/cluster-ip/shop:80"), Some(6));
    assert_eq!(line("yours/"), Some(11));
    let annotations = render(&report, Format::Github, Colour::Off);
    assert_eq!(annotations.lines().count(), 10);
    assert!(annotations.contains(",file=shop.toml,line=1::"), "{annotations}");
    assert!(annotations.lines().all(|line| line.starts_with("::error title=")));
}

/// The schema that is published is that of what is printed.
#[test]
fn the_published_schema_is_true() {
    let text = serde_json::to_string_pretty(&schema()).expect("a schema is plain data") + "\n";
    crate::probe::rehearsal::golden("../../../docs/report.schema.json", &text);
    let validator = jsonschema::draft202012::new(&schema()).expect("it is a schema");
    let lab = book();
    for fate in [(|_: &Flow<'_>| Fate::Fine) as fn(&Flow<'_>) -> Fate, |_| Fate::Fails(FailureKind::Timeout)] {
        let suite = suite(&lab, &SuiteOptions::default());
        let drifts = [drift("node1", DriftKind::Link, "the link br0 is down")];
        let report = judge::report(&suite, &perform(&lab, &suite, &Breakage { fate, ..Breakage::NONE }), &drifts);
        for report in [report.clone(), Report::of_runs(vec![report.clone(), report]).expect("there are runs")] {
            let json: serde_json::Value =
                serde_json::from_str(&render(&report, Format::Json, Colour::Off)).expect("it is JSON");
            let wrong: Vec<String> = validator.iter_errors(&json).map(|error| error.to_string()).collect();
            assert!(wrong.is_empty(), "{wrong:?}");
            let mut other = json.clone();
            other["probes"][0]["result"] = "maybe".into();
            assert!(!validator.is_valid(&other));
            other = json;
            other.as_object_mut().expect("a report is an object").remove("passed");
            assert!(!validator.is_valid(&other));
        }
    }
}

/// The JUnit XML is what its readers understand, also where a lab says strange things.
#[test]
fn junit_fits_its_schema() {
    let lab = book();
    let suite = suite(&lab, &SuiteOptions::default());
    let fate: fn(&Flow<'_>) -> Fate = |flow| match flow.balancer() == Some(0) {
        true => Fate::Fails(FailureKind::Timeout),
        false => Fate::Fine,
    };
    let mut report = judge::report(&suite, &perform(&lab, &suite, &Breakage { fate, ..Breakage::NONE }), &[]);
    report.probes[0].name = "<a> & \"b\" ]]> \u{1b}[31m \u{0}".to_owned();
    report.probes[0].result = ResultKind::Failed;
    report.probes[0].happened = "\u{ffff} 100 % <!-- \n".to_owned();
    assert!(report.count(ResultKind::Skipped) > 0 && report.count(ResultKind::Failed) > 1);
    let mut several = quick_junit::Report::new("two labs");
    several.add_test_suites([junit::suite(&report, "labs/one.toml"), junit::suite(&report, "labs/two.toml")]);
    for xml in [render(&report, Format::Junit, Colour::Off), several.to_string().expect("it is plain text")] {
        assert_eq!(complaint(&xml), None, "{xml}");
        assert!(complaint(&xml.replace(" failures=", " fails=")).is_some());
    }
}

/// Why a text does not fit `tests/junit.xsd`, as `xmllint` has it; `cargo xtask test` installs that.
fn complaint(xml: &str) -> Option<String> {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let file = directory.path().join("report.xml");
    std::fs::write(&file, xml).expect("a file can be written");
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/junit.xsd");
    let mut xmllint = std::process::Command::new("xmllint");
    let output = xmllint.args(["--noout", "--nonet", "--schema", schema]).arg(&file).output();
    let output = output.expect("xmllint is installed (Debian: libxml2-utils)");
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
}
