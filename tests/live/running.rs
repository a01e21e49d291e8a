//! `netlab run FILE -- CMD`: the lab lives as long as the command.

use std::sync::Arc;

use nix::sys::signal::Signal;

use crate::{
    support::{Test, World, call::Calling, process::a_moment},
    tests,
};

pub(crate) const TESTS: &[Test] = tests![
    shared: the_exit_code_is_the_commands, the_lab_is_there, interrupted_while_it_runs, ended_while_it_runs,
    killed_while_it_runs, interrupted_at_any_moment, a_lab_of_that_name_is_up;
    alone:
];

fn run(world: &World, command: &[&str]) -> crate::support::call::Call {
    let (file, name) = (world.book("echo.toml"), world.name("run"));
    world.netlab(["run", &file.to_string_lossy(), "--name", &name, "--"]).args(command)
}

fn the_exit_code_is_the_commands(world: &Arc<World>) {
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 128 + 15), ("kill -KILL $$", 128 + 9)] {
        run(world, &["sh", "-c", script]).fails(code);
        world.must_be_empty();
    }
    run(world, &["no-such-program"]).fails(2).complains("there is no program no-such-program");
    world.must_be_empty();
    run(world, &["/etc/passwd"]).fails(2).complains("cannot run /etc/passwd");
}

fn the_lab_is_there(world: &Arc<World>) {
    let netlab = world.netlab_path().to_string_lossy();
    run(world, &["curl", "-sS", "http://10.30.45.100:30080/x"]).succeeds().prints("Request path: /x");
    run(world, &[&netlab, "exec", "pod2", "--", "hostname"]).succeeds().prints_exactly("pod2\n");
    run(world, &[&netlab, "verify", "--samples", "100", "--alpha", "0.000001"]).succeeds().prints("probes passed");
    run(world, &["cat"]).fed("through\n").succeeds().prints_exactly("through\n");
}

/// Begins a `run` whose command sleeps, and waits until it does.
fn sleeping(world: &World) -> Calling {
    let calling = run(world, &["sleep", "1000"]).start();
    while !world.processes().iter().any(|process| process.arguments == ["sleep", "1000"]) {
        a_moment();
    }
    calling
}

fn interrupted_while_it_runs(world: &Arc<World>) {
    let calling = sleeping(world);
    calling.signal_group(Signal::SIGINT);
    calling.done().with_code(128 + 2);
}

fn ended_while_it_runs(world: &Arc<World>) {
    let calling = sleeping(world);
    calling.signal(Signal::SIGTERM);
    calling.done().with_code(128 + 15);
}

fn killed_while_it_runs(world: &Arc<World>) {
    let calling = sleeping(world);
    calling.signal(Signal::SIGKILL);
    calling.done().with_code(128 + 9);
}

fn interrupted_at_any_moment(world: &Arc<World>) {
    let (file, name) = (world.book("echo.toml"), world.name("moment"));
    let start = || world.netlab(["run", &file.to_string_lossy(), "--name", &name, "--", "sleep", "0.02"]).start();
    let began = std::time::Instant::now();
    start().done().with_code(0);
    let whole = began.elapsed();
    for moment in 0..40 {
        let calling = start();
        std::thread::sleep(whole * moment / 40);
        calling.signal_group(Signal::SIGINT);
        let done = calling.done();
        assert!([0, 128 + 2].contains(&done.code()), "{done}");
        world.must_be_empty();
    }
    start().done().with_code(0);
}

fn a_lab_of_that_name_is_up(world: &Arc<World>) {
    let lab = world.up(&crate::support::world::book("minimal.toml"));
    let file = world.book("echo.toml");
    world
        .netlab(["run", &file.to_string_lossy(), "--name", &lab.name, "--", "true"])
        .fails(2)
        .complains("is up already");
    lab.exec("web-0", ["true"]).succeeds();
}
