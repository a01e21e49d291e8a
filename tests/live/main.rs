//! Live tests: the built program makes real labs on this kernel, with real servers, rules and
//! curl.
//!
//! Every test runs as root and again as a user without privileges (as that one user only, when
//! the tests themselves are not run as root). After each, no process and no namespace of its
//! labs may be left; after all of them, the host must be exactly what it was. Nothing is
//! skipped: a tool or a permission that is missing fails the tests that need it.

mod apply;
mod balancer;
mod breakages;
#[path = "../change/mod.rs"]
mod change;
mod changes;
mod conditions;
mod conntrack;
mod coredns;
mod crowds;
mod drift;
mod dump;
mod engines;
mod evidence;
mod faults;
mod kills;
mod labs;
mod lesson;
mod life;
mod names;
mod names_embedded;
mod places;
mod probes;
mod readiness;
mod refusals;
mod reports;
mod running;
mod shapes;
mod steady;
mod suite;
mod support;
mod sync;
mod trace;
mod verbs;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use nix::sys::signal::{SigHandler, Signal, signal};

use support::{Run, Test, User, host::Host};

/// Most tests wait for processes and timeouts of others, so there may be more of them than cores.
const THREADS: usize = 4;

fn main() -> ExitCode {
    // A shell that starts a job in the background has it ignore Ctrl-C, and so would all its children.
    // SAFETY: the default action is no code of ours.
    unsafe { signal(Signal::SIGINT, SigHandler::SigDfl) }.expect("SIGINT has a default action");
    let helper = conntrack::helper().or_else(suite::helper).or_else(steady::helper).or_else(steady::datagrams);
    if let Some(code) = helper {
        return code;
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(THREADS);
    let rooms: &[(&str, &'static [Test])] = &[
        ("drift", drift::TESTS),
        ("engines", engines::TESTS),
        ("apply", apply::TESTS),
        ("balancer", balancer::TESTS),
        ("evidence", evidence::TESTS),
        ("kills", kills::TESTS),
        ("crowds", crowds::TESTS),
        ("breakages", breakages::TESTS),
        ("changes", changes::TESTS),
        ("conditions", conditions::TESTS),
        ("coredns", coredns::TESTS),
        ("conntrack", conntrack::TESTS),
        ("faults", faults::TESTS),
        ("shapes", shapes::TESTS),
        ("labs", labs::TESTS),
        ("lesson", lesson::TESTS),
        ("life", life::TESTS),
        ("names", names::TESTS),
        ("names_embedded", names_embedded::TESTS),
        ("places", places::TESTS),
        ("readiness", readiness::TESTS),
        ("probes", probes::TESTS),
        ("refusals", refusals::TESTS),
        ("reports", reports::TESTS),
        ("running", running::TESTS),
        ("suite", suite::TESTS),
        ("steady", steady::TESTS),
        ("sync", sync::TESTS),
        ("trace", trace::TESTS),
        ("verbs", verbs::TESTS),
    ];
    let run = Run::this();
    let before = Host::now();
    let tests = rooms.iter().flat_map(|&(room, tests)| tests.iter().map(move |test| (room, test)));
    let trials = tests.flat_map(|(room, test)| {
        User::all().into_iter().map(move |user| {
            let name = format!("{room}::{}::{user}", test.name);
            Trial::test(name, move || {
                test.carry_out(run, user);
                Ok(())
            })
        })
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    run.clear();
    if let Err(difference) = Host::settles(&before, run) {
        eprintln!("the host is not what it was before the tests:\n{difference}");
        return ExitCode::from(101);
    }
    conclusion.exit_code()
}
