//! `netlab test`, and labs that are values of a program.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::Arc,
};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    support::{Test, World, call::Calling, process::Marked, process::a_moment},
    tests,
};

#[path = "../../examples/library.rs"]
mod example;

pub(crate) const TESTS: &[Test] = tests![
    shared: thirty_labs, labs_of_one_name, ended_while_it_runs, the_first_failure_is_enough, nothing_is_tried,
    it_takes_too_long, a_lab_in_a_program, a_program_that_is_killed;
    alone:
];

/// A lab that takes longer than anyone waits: its probe is tried again until it answers.
const SLOW: &str = r#"
    [dns]
    engine = "none"
    [[node]]
    name = "node1"
    [[pod]]
    name = "web"
    [[probe]]
    from = "node1"
    url = "http://10.96.200.200/"
    within = "10m"
    expect = { status = 200 }
"#;
/// One that takes no time to speak of.
const QUICK: &str = "[dns]\nengine = \"none\"\n[[node]]\nname = \"node1\"\n[[pod]]\nname = \"web\"\n";

/// The folder of these files, which has only them.
fn folder(world: &World, name: &str, files: &[(&str, &str)]) -> PathBuf {
    let folder = world.file(&format!("{name}.about"), "").with_file_name(name);
    fs::create_dir(&folder).expect("the folder can be made");
    for (file, text) in files {
        fs::write(folder.join(file), text).expect("the file can be written");
    }
    folder
}

/// The files of `tests/suite`.
fn suite() -> Vec<(String, String)> {
    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite");
    let files = fs::read_dir(&suite).expect("there is a suite");
    let files = files.map(|file| file.expect("a file").path());
    files
        .map(|path| {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, fs::read_to_string(&path).expect("it can be read"))
        })
        .collect()
}

/// Ten of them are broken, each in its own way.
fn thirty_labs(world: &Arc<World>) {
    let suite = suite();
    let files: Vec<(&str, &str)> = suite.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let broken: BTreeSet<&str> =
        files.iter().map(|(name, _)| *name).filter(|name| name.starts_with("broken-")).collect();
    assert_eq!((files.len(), broken.len()), (30, 10));
    let folder = folder(world, "thirty", &files);
    let call = |format: &str| {
        world.netlab(["test", &folder.to_string_lossy(), "-j", "6", "--alpha", "0.000001", "-o", format])
    };

    let done = call("json").fails(1);
    world.must_be_empty();
    let report: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error} in {done}"));
    let schema: Value =
        serde_json::from_str(&world.netlab(["schema", "test"]).succeeds().stdout).expect("a schema is JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let problems: Vec<String> = validator.iter_errors(&report).map(|problem| problem.to_string()).collect();
    assert!(problems.is_empty(), "{problems:?}");
    let labs = report["labs"].as_array().expect("a list");
    let name = |lab: &Value| Path::new(lab["file"].as_str().expect("a name")).file_name().expect("a name").to_owned();
    let order: Vec<_> = labs.iter().map(name).collect();
    assert!(order.is_sorted() && order.len() == 30, "{order:?}");
    let found = labs.iter().filter(|lab| lab["outcome"] != "passed");
    let found: BTreeSet<String> = found.map(|lab| name(lab).to_string_lossy().into_owned()).collect();
    assert_eq!(found, broken.iter().map(|name| (*name).to_owned()).collect(), "{done}");
    // Each lab is reported under its own name, and the commands are for who brings it up again.
    assert!(!done.stdout.contains(" -l "), "{done}");

    let done = call("junit").fails(1);
    let (report, form) =
        (world.file("report.xml", &done.stdout), world.file("junit.xsd", include_str!("../junit.xsd")));
    let words = ["--noout", "--schema", &form.to_string_lossy(), &report.to_string_lossy()].map(str::to_owned);
    world.program("xmllint").args(words).succeeds();
    let bad = done.stdout.split("<testsuite ").filter(|suite| suite.contains("<failure") || suite.contains("<error"));
    let bad: Vec<&str> = bad.filter_map(|suite| suite.split('"').nth(1)).collect();
    let bad: BTreeSet<&str> = bad.iter().filter_map(|file| file.rsplit('/').next()).collect();
    assert_eq!(bad, broken, "{done}");
}

/// Labs that are called the same do not meet, and the one that is up already is left alone.
fn labs_of_one_name(world: &Arc<World>) {
    let mine = world.up(QUICK);
    let text = format!("name = \"{}\"\n{QUICK}", mine.name);
    let folder = folder(world, "twins", &[("a.toml", &text), ("b.toml", &text), ("c.toml", &text)]);
    let mut call = world.netlab(["test", &folder.to_string_lossy(), "-j", "3"]);
    let summary = world.program("mktemp").args(["/tmp/netlab-summary-XXXXXX"]).succeeds().stdout.trim().to_owned();
    call.command.env("GITHUB_ACTIONS", "true").env("GITHUB_STEP_SUMMARY", &summary);
    let done = call.succeeds();
    // There is one summary of all, and none of each.
    let said = std::fs::read_to_string(&summary).expect("it was written");
    std::fs::remove_file(&summary).expect("it is ours");
    assert!(said.starts_with("### netlab test: ") && said.matches("###").count() == 1, "{said}");
    assert!(done.stdout.contains("3 of 3 labs are as they state"), "{done}");
    mine.exec("web", ["true"]).succeeds();
    mine.down();
}

/// What is going on, and the processes by which one sees it.
type Moment = (&'static str, fn(&Marked) -> bool);

/// Begins to test two labs, and waits until these processes of both are there.
fn testing(world: &World, name: &str, awaited: fn(&Marked) -> bool) -> Calling {
    let folder = folder(world, name, &[("a.toml", SLOW), ("b.toml", SLOW)]);
    let mut calling = world.netlab(["test", &folder.to_string_lossy(), "-j", "2"]).start();
    while world.processes().iter().filter(|process| awaited(process)).count() < 2 {
        assert!(calling.child.try_wait().expect("it is our child").is_none(), "it ended too early");
        a_moment();
    }
    calling
}

fn ended_while_it_runs(world: &Arc<World>) {
    // While labs are built; and while their probes are tried.
    let moments: [Moment; 2] =
        [("building", Marked::is_agent), ("probing", |it| it.arguments.get(1).is_some_and(|verb| verb == "verify"))];
    for (moment, awaited) in moments {
        for (signal, code) in [(Signal::SIGKILL, 137), (Signal::SIGTERM, 143)] {
            let calling = testing(world, &format!("{moment}-{signal}"), awaited);
            calling.signal(signal);
            calling.done().with_code(code);
            world.must_be_empty();
        }
        let calling = testing(world, &format!("{moment}-interrupted"), awaited);
        calling.signal_group(Signal::SIGINT);
        calling.done().with_code(130);
        world.must_be_empty();
    }
}

fn the_first_failure_is_enough(world: &Arc<World>) {
    let files = [("a.toml", QUICK), ("b.toml", "[[pod]]\n"), ("c.toml", QUICK)];
    let folder = folder(world, "first", &files);
    let call = |more: &[&str]| world.netlab(["test", &folder.to_string_lossy(), "-j", "1"]).args(more);
    call(&["--fail-fast"]).fails(1).prints("1 of 3 labs are not as they state, 1 skipped");
    call(&["-o", "tap"]).fails(1).prints("not ok 2").prints("\nok 3");
}

/// That nothing was tried is never good.
fn nothing_is_tried(world: &Arc<World>) {
    let empty = folder(world, "empty", &[("rustfmt.toml", "max_width = 120\n"), ("notes.txt", QUICK)]);
    world.netlab(["test", &empty.to_string_lossy()]).fails(2).complains("there is no lab file here");
    world.netlab(["test", "/nowhere"]).fails(2).complains("cannot read /nowhere");
    let one = folder(world, "one", &[("lab.toml", QUICK), ("rustfmt.toml", "max_width = 120\n")]);
    let call = |only: &str| world.netlab(["test", &one.to_string_lossy(), "--only", only]);
    call("no such probe").fails(2).complains("no probe of any lab is called like that").prints("rustfmt.toml");
    call("nodes").succeeds().prints("1 lab is as it states").prints("left out, as it has no key of a lab");
}

fn it_takes_too_long(world: &Arc<World>) {
    let never = format!("{QUICK}command = [\"sleep\", \"1000\"]\nports = [{{ container_port = 80 }}]\n");
    let never = folder(world, "never", &[("never.toml", &never)]);
    let done = world.netlab(["test", &never.to_string_lossy(), "--timeout", "2s"]).fails(4);
    done.prints("not ready after 2s").prints("1 of them could not be tried");
    // On a machine that is busy with other things, it takes some of these seconds until the lab is up.
    let slow = folder(world, "slow", &[("slow.toml", SLOW)]);
    let done = world.netlab(["test", &slow.to_string_lossy(), "--timeout", "10s"]).fails(4);
    done.prints("was not done with after 10s").prints("1 of them could not be tried");
}

/// What this program does if it is started as a helper: what the example does, or it holds a lab.
pub(crate) fn helper() -> Option<ExitCode> {
    let words: Vec<String> = env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["run-the-example"] => {
            example::main().unwrap_or_else(|error| panic!("{error}"));
            Some(ExitCode::SUCCESS)
        }
        ["hold-a-lab"] => {
            let lab = netlab::Lab::from_toml(QUICK).and_then(|lab| lab.up()).unwrap_or_else(|error| panic!("{error}"));
            println!("{}", lab.name());
            loop {
                std::thread::park();
            }
        }
        _ => None,
    }
}

/// A call of this program by the test's user, with the program under test.
fn help(world: &World, verb: &str) -> crate::support::call::Call {
    let helper = world.file("about-the-helper", "").with_file_name("helper");
    if !helper.exists() {
        // Not by this process: another thread's child would hold the copy open for a moment, and a file that is
        // open for writing cannot be run.
        let this = env::current_exe().expect("there is this program");
        let copied = Command::new("cp").args([&this, &helper]).status().expect("cp can be run");
        assert!(copied.success(), "this program can be copied");
    }
    let mut call = world.program(&helper.to_string_lossy());
    call.command.arg(verb).env(netlab::PROGRAM, world.netlab_path());
    call
}

fn a_lab_in_a_program(world: &Arc<World>) {
    let done = help(world, "run-the-example").succeeds();
    done.prints("Request path: /hello").prints("probes passed").prints("expected a body with \"cat\"");
}

fn a_program_that_is_killed(world: &Arc<World>) {
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        let mut calling = help(world, "hold-a-lab").start();
        // The lab is called after the process that has it.
        let name = format!("lab-{}-1 ", calling.child.id());
        let is_up = |line: &str| line.starts_with(&name) && line.contains("Running");
        while !world.netlab(["ls"]).succeeds().stdout.lines().any(is_up) {
            assert!(calling.child.try_wait().expect("it is our child").is_none(), "it ended too early");
            a_moment();
        }
        calling.signal(signal);
        let _ = calling.done();
        world.must_be_empty();
    }
}
