//! What goes wrong half-way is undone, and points at the line of the lab file that asked for it.

use std::sync::Arc;

use crate::{
    support::{Test, World, call::Done},
    tests,
};

pub(crate) const TESTS: &[Test] = tests![
    shared: a_server_that_ends_at_once, a_server_that_is_killed, a_port_that_is_taken_twice, a_server_that_never_listens,
    a_program_that_is_not_there;
    alone:
];

/// Tries to bring a lab up, which must fail, and leave nothing.
fn refused(world: &Arc<World>, text: &str, code: i32) -> Done {
    refused_with(world, text, code, &[])
}

/// [`refused`], with options.
fn refused_with(world: &Arc<World>, text: &str, code: i32, options: &[&str]) -> Done {
    let name = world.name("refused");
    let file = world.file("refused.toml", text);
    let done = world.netlab(["up", &file.to_string_lossy(), "--name", &name]).args(options).fails(code);
    world.must_be_empty();
    let listed = world.netlab(["ls", "-o", "name"]).succeeds();
    assert!(!listed.stdout.contains(&name), "{name} is left in {listed}");
    done
}

fn a_server_that_ends_at_once(world: &Arc<World>) {
    let text = "[[pod]]\nname = \"web\"\ncommand = [\"sh\", \"-c\", \"echo no luck; exit 3\"]\nports = [{ container_port = 80 }]\n";
    refused(world, text, 4)
        .complains("the server of web ended with exit code 3: no luck")
        .complains("refused.toml:3:11")
        .complains("command = [")
        .complains("everything was undone");
}

fn a_server_that_is_killed(world: &Arc<World>) {
    let text =
        "[[pod]]\nname = \"web\"\ncommand = [\"sh\", \"-c\", \"kill -9 $$\"]\nports = [{ container_port = 80 }]\n";
    refused(world, text, 4).complains("the server of web was ended by SIGKILL").complains("refused.toml:3:11");
}

/// Two containers of a pod share its addresses, and so its ports.
fn a_port_that_is_taken_twice(world: &Arc<World>) {
    let text = "[[pod]]\nname = \"web\"\ncontainers = [\n  { name = \"a\", server = \"python\", ports = [{ container_port = 80 }] },\n  { name = \"b\", server = \"python\", ports = [{ container_port = 80 }] },\n]\n";
    let name = world.name("refused");
    let file = world.file("twice.toml", text);
    // Before anything is touched, as the file alone tells.
    world.netlab(["up", &file.to_string_lossy(), "--name", &name]).fails(2).complains("80").complains("twice.toml:5:");
}

fn a_server_that_never_listens(world: &Arc<World>) {
    let text = "[[pod]]\nname = \"web\"\ncommand = [\"sleep\", \"1000\"]\nports = [{ container_port = 80 }]\n";
    refused_with(world, text, 4, &["--timeout", "2s"]).complains("not ready after 2s").complains("--timeout");
}

fn a_program_that_is_not_there(world: &Arc<World>) {
    let text = "[[pod]]\nname = \"web\"\ncommand = [\"no-such-program\"]\n";
    refused(world, text, 3).complains("no-such-program is not installed");
}
