//! `netlab exec WHO -- CMD`: runs a command in a place of a lab.

use std::{
    env,
    ffi::OsString,
    process::{Command, ExitCode},
};

use super::{args, labs, output::Terminal};
use crate::{
    agent::{
        directory::Directory,
        link::{self, Handle},
        protocol::{Reply, Request, View},
    },
    dns::environment::Fitted,
    error::{Error, Result},
    kernel::{apart, join, limits},
};

pub(super) fn exec(args: &args::Exec, terminal: &Terminal) -> Result<ExitCode> {
    let directory = labs::choose(args.lab.lab.as_deref())?;
    let [program, arguments @ ..] = args.command.as_slice() else {
        return Err(Error::bug("a command without a program"));
    };
    let mut command = Command::new(program);
    command.args(arguments);
    inside(&directory, &args.who, command, terminal)
}

/// Runs a command in a place of a running lab.
pub(super) fn inside(directory: &Directory, who: &str, mut command: Command, terminal: &Terminal) -> Result<ExitCode> {
    let view = view(directory, who)?;
    let agent = Handle::of_agent(directory)?;
    set_environment(&mut command, &directory.name);
    let Fitted { variables, left_out } = view.env.within(limits::room_for_services());
    if left_out > 0 {
        let what = format!("{left_out} environment variables about Services are left out: they take too much room");
        terminal.warn(what, "`enable_service_links = false` in the pod's table does without them");
    }
    command.envs(variables);
    let status = join::run(&agent, &view, command)?;
    Ok(ExitCode::from(join::exit_code(status)))
}

fn view(directory: &Directory, who: &str) -> Result<View> {
    match link::ask_once(directory, &Request::View { place: who.to_owned() })? {
        Reply::View(view) => Ok(view),
        _ => Err(Error::bug("a view was asked for, and something else was given")),
    }
}

/// What a command in a lab finds in its environment besides the user's own: the lab's name,
/// and the administrator's programs (`ip`, `iptables`), which are on no plain user's PATH.
pub(super) fn set_environment(command: &mut Command, lab: &str) {
    let mut path = env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/local/bin:/usr/bin:/bin"));
    for directory in ["/usr/local/sbin", "/usr/sbin", "/sbin"] {
        if !env::split_paths(&path).any(|it| it.as_os_str() == directory) {
            path.push(":");
            path.push(directory);
        }
    }
    command.env("PATH", path).env("NETLAB", lab);
}

/// Runs `work` in a child of this process, which says itself what goes wrong, and gives back its
/// exit code. This process must have one thread only.
pub(super) fn apart(work: impl FnOnce() -> Result<u8>) -> Result<u8> {
    apart::apart(|| {
        work().unwrap_or_else(|error| {
            Terminal::plain().complain(&error);
            error.kind.exit_code()
        })
    })
}
