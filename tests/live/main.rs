//! Live tests: the built program makes real labs on this kernel, with real servers, rules and
//! curl.
//!
//! Every test runs as root and again as a user without privileges (as that one user only, when
//! the tests themselves are not run as root). After each, no process and no namespace of its
//! labs may be left; after all of them, the host must be exactly what it was. Nothing is
//! skipped: a tool or a permission that is missing fails the tests that need it.

mod balancer;
mod breakages;
#[path = "../change/mod.rs"]
mod change;
mod crowds;
mod dump;
mod kills;
mod labs;
mod lesson;
mod places;
mod refusals;
mod running;
mod shapes;
mod support;
mod sync;
mod trace;
mod verbs;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

use support::{Run, Test, User, host::Host};

/// Most tests wait for processes and timeouts of others, so there may be more of them than cores.
const THREADS: usize = 4;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(THREADS);
    let rooms: [(&str, &'static [Test]); 13] = [
        ("balancer", balancer::TESTS),
        ("kills", kills::TESTS),
        ("crowds", crowds::TESTS),
        ("breakages", breakages::TESTS),
        ("shapes", shapes::TESTS),
        ("labs", labs::TESTS),
        ("lesson", lesson::TESTS),
        ("places", places::TESTS),
        ("refusals", refusals::TESTS),
        ("running", running::TESTS),
        ("sync", sync::TESTS),
        ("trace", trace::TESTS),
        ("verbs", verbs::TESTS),
    ];
    let run = Run::this();
    let before = Host::now();
    let tests = rooms.into_iter().flat_map(|(room, tests)| tests.iter().map(move |test| (room, test)));
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
