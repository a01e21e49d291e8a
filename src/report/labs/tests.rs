//! The judgement, and every form of the report.

use super::*;
use crate::{
    diag::{Colour, Diagnostics},
    lab::load,
    probe::{
        judge::report,
        rehearsal::{Breakage, golden, perform},
        suite::{SuiteOptions, suite},
    },
};

const LAB: &str = r#"
    name = "shop"
    [[pod]]
    name = "web"
    [[probe]]
    name = "a node asks the web"
    from = "node1"
    url = "http://web/"
    [[probe]]
    name = "wrong on purpose"
    from = "node1"
    url = "http://web/"
    expect = { status = 404 }
    [[probe]]
    name = "wrong as well"
    from = "node2"
    url = "http://web/"
    expect = { body_contains = "cat" }
"#;

/// What the probes show of which the name has this text.
fn report_of(only: &[&str]) -> Report {
    let lab = load(LAB).expect("a good lab");
    let only = only.iter().map(|text| (*text).to_owned()).collect();
    let suite = suite(&lab, &SuiteOptions { only, ..SuiteOptions::default() });
    report(&suite, &perform(&lab, &suite, &Breakage::NONE), &[])
}

fn refusal() -> Diagnostics {
    load("[[pod]]\nname = \"Web\"\nnod = \"node1\"\n").expect_err("two problems")
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn what_is_as_stated() {
    use Expectation::{Fails, Invalid, Passes};
    let (good, bad, nothing) = (report_of(&["asks the web"]), report_of(&["yours"]), report_of(&["no such probe"]));
    let problems = refusal();
    let refused = Found::Refused(&problems);
    let all = |report| Found::Probed(report, Asked::All);
    let cases: &[(Expectation, Found<'_>, Outcome, &str)] = &[
        (Passes, all(&good), Outcome::Passed, "all 1 probes passed"),
        (Passes, all(&bad), Outcome::Failed, "2 of 3 probes failed"),
        (Passes, all(&nothing), Outcome::Failed, "no probe was tried"),
        (Passes, refused, Outcome::Failed, "the file is refused: invalid `name` \"Web\""),
        (Passes, Found::Unable(ErrorKind::Host), Outcome::Error, "this host cannot build the lab"),
        (Passes, Found::Unable(ErrorKind::Refused), Outcome::Error, "the lab could not be built"),
        (Passes, Found::NothingToTry, Outcome::Skipped, "no probe of it was asked for"),
        (Invalid(texts(&[])), refused, Outcome::Passed, "refused as it states: invalid `name` \"Web\""),
        // The message of one problem, the hint of another.
        (Invalid(texts(&["\"Web\"", "did you mean `node`"])), refused, Outcome::Passed, "and 1 more problem"),
        (Invalid(texts(&["\"Web\"", "cat"])), refused, Outcome::Failed, "refused, but not with \"cat\": invalid"),
        (Invalid(texts(&[])), Found::Good, Outcome::Failed, "the file is good, and states that it is invalid"),
        (Fails(texts(&["wrong"])), refused, Outcome::Failed, "the file is refused: "),
        (Fails(texts(&["wrong"])), all(&bad), Outcome::Passed, "2 of 3 probes failed, as the file states"),
        (Fails(texts(&["wrong on", "wrong as"])), all(&bad), Outcome::Passed, "2 of 3 probes failed"),
        (Fails(texts(&["wrong on"])), all(&bad), Outcome::Failed, "fails, and the file does not state that"),
        (Fails(texts(&["asks"])), all(&good), Outcome::Failed, "states that \"asks\" fails, and it passes"),
        (Fails(texts(&["wrong", "cat"])), all(&bad), Outcome::Failed, "\"cat\" fails, and no probe is called so"),
        (Fails(texts(&["cat"])), all(&nothing), Outcome::Failed, "no probe was tried"),
        // Only some were asked for: of the others nothing is known.
        (Fails(texts(&["cat"])), Found::Probed(&good, Asked::Some), Outcome::Passed, "0 of 1 probes failed"),
    ];
    for (expect, found, outcome, happened) in cases {
        let (judged, said) = judge(expect, *found);
        assert_eq!(judged, *outcome, "{expect:?}: {said}");
        assert!(said.contains(happened), "{expect:?}: {said}");
    }
}

fn lab(file: &str, expect: Expectation, found: Found<'_>) -> LabReport {
    let (outcome, happened) = judge(&expect, found);
    let (problem, fault, report) = match found {
        Found::Refused(problems) => {
            (Some(problems.render(file, "[[pod]]\nname = \"Web\"\nnod = \"node1\"\n", Colour::Off)), None, None)
        }
        Found::Unable(kind) => (Some("the kernel says no".to_owned()), Some(kind), None),
        Found::Probed(report, _) => (None, None, Some(report.clone())),
        Found::Good | Found::NothingToTry => (None, None, None),
    };
    LabReport {
        file: file.to_owned(),
        name: "shop".to_owned(),
        expect,
        outcome,
        happened,
        millis: 7,
        line: matches!(found, Found::Refused(_)).then_some(2),
        problem,
        fault,
        report,
    }
}

fn several() -> LabsReport {
    let (good, bad) = (report_of(&["asks the web"]), report_of(&["yours"]));
    let problems = refusal();
    let labs = vec![
        lab("labs/good.toml", Expectation::Passes, Found::Probed(&good, Asked::All)),
        lab("labs/bad.toml", Expectation::Passes, Found::Probed(&bad, Asked::All)),
        lab("labs/stated.toml", Expectation::Fails(texts(&["wrong"])), Found::Probed(&bad, Asked::All)),
        lab("labs/refused.toml", Expectation::Passes, Found::Refused(&problems)),
        lab("labs/refused-as-stated.toml", Expectation::Invalid(texts(&["Web"])), Found::Refused(&problems)),
        lab("labs/unable.toml", Expectation::Passes, Found::Unable(ErrorKind::Refused)),
        lab("labs/other.toml", Expectation::Passes, Found::NothingToTry),
    ];
    LabsReport::new(labs, vec!["labs/rustfmt.toml".to_owned()])
}

#[test]
fn every_form() {
    let report = several();
    golden("labs.txt", &render(&report, Form::Table, Colour::Off));
    golden("labs.xml", &render(&report, Form::Junit, Colour::Off));
    golden("labs.tap", &render(&report, Form::Tap, Colour::Off));
    let coloured = render(&report, Form::Table, Colour::On);
    assert_eq!(anstream::adapter::strip_str(&coloured).to_string(), render(&report, Form::Table, Colour::Off));
}

#[test]
fn json_is_by_the_schema_and_comes_back() {
    let report = several();
    let text = render(&report, Form::Json, Colour::Off);
    assert_eq!(serde_json::from_str::<LabsReport>(&text).expect("a report"), report);
    let schema = schema();
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let mut value = serde_json::from_str(&text).expect("JSON");
    assert!(
        validator.is_valid(&value),
        "{:?}",
        validator.iter_errors(&value).map(|error| error.to_string()).collect::<Vec<_>>()
    );
    value["labs"][0]["outcome"] = "good".into();
    assert!(!validator.is_valid(&value));
}

#[test]
fn exit_codes() {
    let of = |labs: &[Found<'_>]| {
        let labs = labs.iter().map(|found| lab("a.toml", Expectation::Passes, *found));
        let report = LabsReport::new(labs.collect(), Vec::new());
        assert_eq!(report.passed, report.exit_code() == 0);
        report.exit_code()
    };
    let (good, bad) = (report_of(&["asks the web"]), report_of(&["yours"]));
    let (good, bad) = (Found::Probed(&good, Asked::All), Found::Probed(&bad, Asked::All));
    let (host, refused) = (Found::Unable(ErrorKind::Host), Found::Unable(ErrorKind::Refused));
    assert_eq!(of(&[good, good]), 0);
    assert_eq!(of(&[good, Found::NothingToTry]), 0);
    assert_eq!(of(&[good, bad, host]), 1);
    assert_eq!(of(&[good, host, refused]), 3);
    assert_eq!(of(&[good, refused]), 4);
    assert_eq!(of(&[Found::Unable(ErrorKind::Bug), host]), 70);
    // That nothing was tried is not good.
    assert_eq!(of(&[Found::NothingToTry]), 2);
    assert_eq!(of(&[]), 2);
}

/// Every lab that is not as it states has one, at its own line; what failed in it has more, while there is room.
#[test]
fn annotations() {
    let text = render(&several(), Form::Github, Colour::Off);
    let places: Vec<&str> = text
        .lines()
        .map(|line| line.split_once("file=").map_or("", |(_, rest)| rest.split("::").next().unwrap_or("")))
        .collect();
    assert!(text.lines().all(|line| line.starts_with("::error title=")), "{text}");
    assert!(places.contains(&"labs/refused.toml,line=2"), "{text}");
    assert!(places.contains(&"labs/unable.toml,line=1"), "{text}");
    assert!(text.contains("::error title=wrong on purpose::expected: "), "{text}");
    assert!(!text.contains("stated.toml") && !text.contains("good.toml") && !text.contains("other.toml"), "{text}");
    let many = LabsReport::new(
        (0..30)
            .map(|nth| lab(&format!("{nth}.toml"), Expectation::Passes, Found::Unable(ErrorKind::Refused)))
            .collect(),
        Vec::new(),
    );
    let text = render(&many, Form::Github, Colour::Off);
    assert_eq!(text.lines().count(), 10, "{text}");
    assert!(
        text.lines().last().is_some_and(|last| last.contains("21 more labs") && last.contains("%0A29.toml")),
        "{text}"
    );
}

#[test]
fn a_summary() {
    let text = render(&several(), Form::Markdown, Colour::Off);
    assert!(text.starts_with("### netlab test: "), "{text}");
    assert!(text.contains("\n| labs/good.toml | ok | 7 ms | all 1 probes passed |\n"), "{text}");
    assert!(text.contains("\n    FAIL  labs/refused.toml: the file is refused"), "{text}");
}
