//! The agent and the CLI are killed at every moment, and the kernel leaves nothing of the lab.

use std::{
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;

use crate::{
    support::{Test, World, call::Calling, process::Marked, world::book},
    tests,
};

pub(crate) const TESTS: &[Test] = tests![
    shared: the_agent_at_each_stage, the_agent_at_any_moment, the_cli_at_any_moment, interrupted_at_any_moment,
    a_killed_lab_is_swept, namespaces_are_given_back;
    alone:
];

/// How many moments of an `up` are tried.
const MOMENTS: u32 = 40;

/// The stages of an `up`, as netlab names them.
fn stages(world: &World) -> Vec<String> {
    let done = world.netlab(["up", "--stage", "none"]).fails(2);
    let line = done.stderr.lines().find_map(|line| line.split_once("the stages are: ")).expect("they are listed").1;
    line.trim().split(", ").map(str::to_owned).collect()
}

fn the_agent_at_each_stage(world: &Arc<World>) {
    let (name, file) = (world.name("stage"), world.book("nodeport.toml"));
    let stages = stages(world);
    assert!(stages.len() > 5, "{stages:?}");
    for stage in stages {
        world.netlab(["up", &file.to_string_lossy(), "--name", &name, "--stage", &stage]).succeeds();
        world.found(name.clone()).agent().kill();
        world.must_be_empty();
    }
    comes_up(world, &name, &file);
}

fn the_agent_at_any_moment(world: &Arc<World>) {
    at_any_moment(world, |world, calling, moment| {
        let Some(agent) = agent(world, calling) else { return };
        thread::sleep(moment);
        agent.kill();
    });
}

fn the_cli_at_any_moment(world: &Arc<World>) {
    at_any_moment(world, |_, calling, moment| {
        thread::sleep(moment);
        calling.signal(Signal::SIGKILL);
    });
}

fn interrupted_at_any_moment(world: &Arc<World>) {
    at_any_moment(world, |_, calling, moment| {
        thread::sleep(moment);
        calling.signal_group(Signal::SIGINT);
    });
}

/// Begins an `up`, ends it by force after some time, sees that nothing is left, and does so
/// again a little later each time. Each `up` has the same name, so that it also shows that the
/// last one is not in its way.
fn at_any_moment(world: &Arc<World>, kill: impl Fn(&World, &mut Calling, Duration)) {
    let (name, file) = (world.name("moment"), world.book("nodeport.toml"));
    let began = Instant::now();
    comes_up(world, &name, &file);
    let whole = began.elapsed();
    let mut codes = Vec::new();
    for moment in 0..MOMENTS {
        let mut calling = world.netlab(["up", &file.to_string_lossy(), "--name", &name]).start();
        kill(world, &mut calling, whole * moment / MOMENTS);
        let done = calling.done();
        codes.push(done.code());
        match done.code() {
            // It was too late: the lab is up, or was, if it was the agent that was killed.
            0 => {
                world.netlab(["down", &name]).succeeds();
            }
            // It was itself killed.
            130 | 137 => {}
            4 => {
                done.complains("everything was undone");
            }
            other => panic!("{other} is no exit code for {done}"),
        }
        world.must_be_empty();
    }
    assert!(codes.iter().any(|code| *code != 0), "every kill came too late: {codes:?}");
    comes_up(world, &name, &file);
}

fn comes_up(world: &Arc<World>, name: &str, file: &Path) {
    world.netlab(["up", &file.to_string_lossy(), "--name", name]).succeeds();
    let lab = world.found(name.to_owned());
    lab.exec("laptop", ["curl", "-sS", "-m", "5", "http://10.30.45.100:30080/"]).succeeds();
    lab.down();
    world.must_be_empty();
}

/// Waits until there is an agent, or until nobody is there any more who could start one.
fn agent(world: &World, calling: &mut Calling) -> Option<Marked> {
    loop {
        let agent = world.processes().into_iter().find(Marked::is_agent);
        if agent.is_some() {
            return agent;
        }
        if calling.child.try_wait().expect("it is our child").is_some() {
            return None;
        }
    }
}

fn a_killed_lab_is_swept(world: &Arc<World>) {
    let lab = world.up(&book("minimal.toml"));
    lab.agent().kill();
    world.must_be_empty();
    let listed = world.netlab(["ls", "-o", "name"]).succeeds();
    assert!(!listed.stdout.contains(&lab.name), "{} is dead, and listed by {listed}", lab.name);
    world.netlab(["verify", &lab.name]).fails(2).complains(&format!("no lab {} runs", lab.name));
    let directory = match world.user.uid() {
        0 => format!("/run/netlab/{}", lab.name),
        uid => format!("/tmp/netlab-{uid}/{}", lab.name),
    };
    assert!(!Path::new(&directory).exists(), "{directory} is left");
}

/// Only as many network namespaces are allowed as two labs have, and some: the third `up` succeeds
/// only when the kernel has really freed those of the first.
fn namespaces_are_given_back(world: &Arc<World>) {
    let (name, file) = (world.name("quota"), world.book("echo.toml"));
    // Seven a lab: host, two nodes, three pods, the laptop.
    let script = r#"
        echo 20 > /proc/sys/user/max_net_namespaces
        for i in 1 2 3 4 5 6 7 8; do
            "$0" up "$1" --name "$2"
            "$0" down "$2" --wait
        done"#;
    let user = ["--user", "--map-current-user", "--keep-caps", "sh", "-ec", script];
    let arguments = [&*world.netlab_path().to_string_lossy(), &*file.to_string_lossy(), &name];
    world.program("unshare").args(user).args(arguments).succeeds();
}
