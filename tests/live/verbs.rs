//! What the verbs say, and with which exit code, when all is not as they would like it.

use std::sync::Arc;

use crate::{
    support::{Test, World, world::book},
    tests,
};

pub(crate) const TESTS: &[Test] = tests![
    shared: up_while_up, replaced, down_while_down, wrong_words, files_that_are_no_labs;
    alone: none_up, one_up, two_up, one_file_under_two_names, waiting_for_the_kernel, the_lab_file_of_this_folder
];

fn up_while_up(world: &Arc<World>) {
    let lab = world.up(&book("minimal.toml"));
    let file = world.book("echo.toml");
    world
        .netlab(["up", &file.to_string_lossy(), "--name", &lab.name])
        .fails(2)
        .complains(&format!("the lab {} is up already", lab.name))
        .complains("hint: ")
        .complains("--replace");
    // It is what it was.
    lab.exec("web-0", ["hostname"]).succeeds().prints_exactly("web-0\n");
}

fn replaced(world: &Arc<World>) {
    let lab = world.up(&book("minimal.toml"));
    let file = world.book("echo.toml");
    let before = lab.agent();
    world.netlab(["up", &file.to_string_lossy(), "--name", &lab.name, "--replace"]).succeeds();
    assert_ne!(lab.agent(), before, "it is another one");
    lab.exec("pod1a", ["hostname"]).succeeds().prints_exactly("pod1a\n");
    // One whose file is wrong takes nothing away.
    let wrong = world.file("wrong.toml", "[[pod]]\nname = \"Not a name\"\n");
    world.netlab(["up", &wrong.to_string_lossy(), "--name", &lab.name, "--replace"]).fails(2);
    lab.exec("pod1a", ["true"]).succeeds();
    lab.down();
    let name = world.name("new");
    world.netlab(["up", &file.to_string_lossy(), "--name", &name, "--replace"]).succeeds();
    world.found(name).down();
}

fn down_while_down(world: &Arc<World>) {
    let name = world.name("never");
    world.netlab(["down", &name]).succeeds().prints(&format!("{name} is not up"));
    let lab = world.up(&book("minimal.toml"));
    world.netlab(["down", &lab.name, &name, &lab.name]).succeeds().prints(&format!("{} is down", lab.name));
    world.netlab(["down", &lab.name]).succeeds().prints("is not up");
}

fn wrong_words(world: &Arc<World>) {
    let file = world.book("minimal.toml");
    let file = file.to_string_lossy();
    let cases: [(&[&str], &str); 13] = [
        (&[], "Usage"),
        (&["ascend"], "unrecognized subcommand"),
        (&["up", &file, "--sideways"], "--sideways"),
        (&["up", &file, "--name", "Not A Name"], "Not A Name"),
        (&["up", &file, "--name", "../../etc"], "../../etc"),
        (&["up", &file, "--name", ""], "--name"),
        (&["up", &file, "--stage", "last"], "the stages are: namespaces"),
        (&["up", &file, "--timeout", "0"], "a time like"),
        (&["verify", "--samples", "1"], "--samples"),
        (&["verify", "--alpha", "2"], "a probability"),
        (&["verify", "--engine", "wget"], "curl, builtin"),
        (&["run", &file], "CMD"),
        (&["exec", "host"], "CMD"),
    ];
    for (arguments, complaint) in cases {
        world.netlab(arguments).fails(2).complains(complaint);
    }
    let name = world.name("no");
    world.netlab(["verify", &name]).fails(2).complains(&format!("no lab {name} runs"));
    world.netlab(["exec", "host", "--lab", &name, "--", "true"]).fails(2).complains(&format!("no lab {name} runs"));
    let lab = world.up(&book("minimal.toml"));
    lab.verify().args(["--only", "nonsense"]).fails(2).complains("no probe of").complains("the groups are");
}

fn files_that_are_no_labs(world: &Arc<World>) {
    let empty = world.file("empty.toml", "");
    let wrong = world.file("wrong.toml", "[[pod]]\nname = \"web\"\nnoed = \"node1\"\n");
    for verb in ["up", "check", "plan"] {
        world.netlab([verb, "/nonexistent.toml"]).fails(2).complains("cannot read /nonexistent.toml");
        world.netlab([verb, "/"]).fails(2).complains("is a directory");
        world.netlab([verb, "/bin/true"]).fails(2);
        world.netlab([verb, &wrong.to_string_lossy()]).fails(2).complains("wrong.toml:3:").complains("hint");
        world.netlab([verb, &empty.to_string_lossy()]).fails(2);
    }
}

fn none_up(world: &Arc<World>) {
    world.netlab(["down"]).succeeds().prints("no lab is up");
    world.netlab(["down", "--all"]).succeeds().prints("no lab is up");
    world.netlab(["ls"]).succeeds().prints("no lab is up");
    world.netlab(["ls", "-o", "json"]).succeeds();
    for call in [&["verify"][..], &["exec", "host", "--", "true"], &["shell"], &["logs", "web"], &["get", "pods"]] {
        world.netlab(call).fails(2).complains("no lab runs").complains("netlab up");
    }
}

fn one_up(world: &Arc<World>) {
    let file = world.book("minimal.toml");
    world
        .netlab(["up", &file.to_string_lossy()])
        .succeeds()
        .prints("minimal is up")
        .prints("2 nodes, 4 pods, 2 services");
    world.netlab(["ls", "-o", "name"]).succeeds().prints_exactly("minimal\n");
    world.netlab(["ls"]).succeeds().prints("Running");
    world.netlab(["exec", "web-0", "--", "hostname"]).succeeds().prints_exactly("web-0\n");
    world.netlab(["verify", &file.to_string_lossy(), "--only", "pods"]).succeeds();
    world.netlab(["down"]).succeeds().prints("minimal is down");
    world.netlab(["ls", "-o", "name"]).succeeds().prints_exactly("");
}

fn two_up(world: &Arc<World>) {
    let file = world.book("echo.toml");
    for name in ["one", "two"] {
        world.netlab(["up", &file.to_string_lossy(), "--name", name]).succeeds();
    }
    for call in [&["verify"][..], &["down"], &["exec", "host", "--", "true"], &["shell"], &["get", "pods"]] {
        world.netlab(call).fails(2).complains("2 labs run").complains("one, two");
    }
    world.netlab(["verify", "one", "--only", "pods"]).succeeds();
    world.netlab(["down", "--all"]).succeeds().prints("one is down").prints("two is down");
    world.netlab(["ls", "-o", "name"]).succeeds().prints_exactly("");
}

fn one_file_under_two_names(world: &Arc<World>) {
    let file = world.book("echo.toml");
    let file = file.to_string_lossy();
    world.netlab(["up", &file]).succeeds();
    world.netlab(["up", &file, "--name", "another"]).succeeds();
    world.netlab(["down", &file]).succeeds().prints("echo is down");
    world.netlab(["ls", "-o", "name"]).succeeds().prints_exactly("another\n");
    world.netlab(["down", &file]).succeeds().prints("another is down");
    world.netlab(["down", &file]).succeeds().prints("is not up");
}

fn waiting_for_the_kernel(world: &Arc<World>) {
    let file = world.book("nodeport.toml");
    world.netlab(["up", &file.to_string_lossy()]).succeeds();
    world.netlab(["down", "--wait"]).succeeds().prints("the kernel had freed everything after");
}

fn the_lab_file_of_this_folder(world: &Arc<World>) {
    let file = world.book("minimal.toml");
    let folder = file.parent().expect("it is in a directory");
    world.file("other.toml", "[tool]\nname = \"not a lab\"\n");
    world.netlab_in(folder, &["up"]).succeeds().prints("minimal is up");
    world.netlab_in(folder, &["down"]).succeeds();
    world.book("echo.toml");
    world.netlab_in(folder, &["up"]).fails(2).complains("there are 2 lab files in this folder");
    world.netlab_in(&folder.join(".."), &["up"]).fails(2).complains("there is no lab file in this folder");
}
