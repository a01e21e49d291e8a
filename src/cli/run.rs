//! `netlab run FILE -- CMD`: a lab that lives as long as a command.

use std::{
    process::{Command, ExitCode},
    time::Duration,
};

use super::{
    args, exec,
    output::Terminal,
    source::Source,
    up::{Building, Wanted},
};
use crate::{
    agent::protocol::View,
    dns::environment::Environment,
    error::{Error, Result},
    kernel::{join, netns, stopwatch::Stopwatch},
};

pub(super) fn run(args: &args::Run, terminal: &Terminal) -> Result<ExitCode> {
    let source = Source::read(Some(&args.file))?;
    let wanted = Wanted {
        source: &source,
        name: args.name.as_ref(),
        stage: None,
        timeout: args.timeout,
        replace: false,
        watch: Stopwatch::default(),
    };
    let (lab, mut building) = Building::begin(&wanted, terminal)?;
    building.wait(terminal)?;
    let [program, arguments @ ..] = args.command.as_slice() else {
        return Err(Error::bug("a command without a program"));
    };
    let mut command = Command::new(program);
    command.args(arguments);
    exec::set_environment(&mut command, lab.name.as_str());
    let view = View { netns: netns::HOST.to_owned(), hostname: None, binds: Vec::new(), env: Environment::default() };
    // Whoever joins is in the lab's namespaces ever after, where the directory to sweep is
    // not; so a child joins.
    let status = exec::apart(|| join::run(&building.agent, &view, command).map(join::exit_code))?;
    building.agent.kill();
    building.agent.ended_within(Duration::from_secs(30))?;
    building.directory.sweep()?;
    Ok(ExitCode::from(status))
}
