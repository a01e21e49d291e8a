//! What goes wrong half-way is undone, and points at the line of the lab file that asked for it.

use std::sync::Arc;

use crate::{
    support::{Test, World, call::Done},
    tests,
};

pub(crate) const TESTS: &[Test] = tests![
    shared: a_server_that_ends_at_once, a_server_that_is_killed, a_port_that_is_taken_twice, a_server_that_never_listens,
    a_program_that_is_not_there, more_than_this_host_allows,
    a_soft_limit_that_is_raised;
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

/// Known before anything is built: the error is that of the limit, not of the call that met it.
fn more_than_this_host_allows(world: &Arc<World>) {
    let file = world.file("crowd.toml", "[[node]]\nname = \"node1\"\n[[pod]]\nname = \"web\"\nreplicas = 200\n");
    for (limit, complaint, hint) in [
        ("ulimit -n 200", "the lab needs 332 open files, and 200 are allowed", "raise the hard limit: ulimit -Hn 512"),
        (
            "echo 100 > /proc/sys/user/max_net_namespaces",
            "the lab needs 203 network namespaces, and 100 are allowed",
            "sysctl user.max_net_namespaces=15000",
        ),
    ] {
        let script = format!(r#"{limit}; exec "$0" up "$1" --name "$2""#);
        let user = ["--user", "--map-current-user", "--keep-caps", "sh", "-ec", &script];
        let (program, name) = (world.netlab_path(), world.name("limit"));
        let arguments = [&*program.to_string_lossy(), &*file.to_string_lossy(), &name];
        let refused = world.program("unshare").args(user).args(arguments).fails(3);
        refused.complains(complaint).complains(hint);
        let listed = world.netlab(["ls", "--output", "name"]).succeeds();
        assert!(!listed.stdout.contains(&name), "{name} is left in {listed}");
    }
}

/// A user's soft limit is no obstacle, as anybody may raise it up to the hard one.
fn a_soft_limit_that_is_raised(world: &Arc<World>) {
    let (file, name) = (world.file("few.toml", "[[pod]]\nname = \"web\"\nreplicas = 100\n"), world.name("soft"));
    let program = world.netlab_path();
    let arguments = [&*program.to_string_lossy(), &*file.to_string_lossy(), &name];
    world.program("sh").args(["-ec", r#"ulimit -Sn 64; exec "$0" up "$1" --name "$2""#]).args(arguments).succeeds();
    world.found(name).down();
}
