//! The command line: one file a verb. Here is what can be said; each verb says what it does.

mod apply;
mod args;
mod check;
mod conntrack;
mod cordon;
mod delete;
mod describe;
mod diff;
mod doctor;
mod down;
mod events;
mod exec;
mod get;
mod github;
mod grid;
mod hold;
mod kill;
mod labs;
mod link;
mod logs;
mod ls;
mod moment;
mod new;
mod node;
mod output;
mod plan;
mod ready;
mod repair;
mod rules;
mod run;
mod scale;
mod schema;
mod shell;
mod source;
mod test;
mod timings;
mod trace;
mod up;
mod verify;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::{
    agent,
    error::{Error, ErrorKind},
};
use args::{Cli, Verb};
use output::Terminal;

/// Runs the program. This process has one thread; verbs that need more start them late.
pub fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if let Some(orders) = agent::Orders::parse(&arguments) {
        return agent::main(&orders);
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are not errors; what cannot be printed, nobody reads.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(ErrorKind::Usage.exit_code()));
        }
    };
    let terminal = Terminal::new(&cli.global);
    match dispatch(cli.verb, &terminal) {
        Ok(code) => code,
        Err(error) => {
            terminal.complain(&error);
            ExitCode::from(error.kind.exit_code())
        }
    }
}

/// What can be said, for tests of what pages say.
pub fn command_line() -> clap::Command {
    Cli::command()
}

fn dispatch(verb: Verb, terminal: &Terminal) -> Result<ExitCode, Error> {
    match verb {
        Verb::Up(args) => up::up(&args, terminal),
        Verb::Apply(args) => apply::apply(&args, terminal),
        Verb::Diff(args) => diff::diff(&args, terminal),
        Verb::Repair(args) => repair::repair(&args, terminal),
        Verb::Ready(args) => ready::ready(&args, terminal),
        Verb::Scale(args) => scale::scale(&args, terminal),
        Verb::Delete(args) => delete::delete(&args, terminal),
        Verb::Kill(args) => kill::kill(&args, terminal),
        Verb::Cordon(args) => cordon::cordon(&args, terminal),
        Verb::Uncordon(args) => cordon::uncordon(&args, terminal),
        Verb::Drain(args) => cordon::drain(&args, terminal),
        Verb::Link(verb) => link::link(&verb, terminal),
        Verb::Node(verb) => node::node(&verb, terminal),
        Verb::Events(args) => events::events(&args),
        Verb::Verify(args) => verify::verify(&args, terminal),
        Verb::Test(args) => test::test(&args, terminal),
        Verb::Down(args) => down::down(&args, terminal),
        Verb::Run(args) => run::run(&args, terminal),
        Verb::Hold => hold::hold(terminal),
        Verb::Ls(args) => ls::ls(&args, terminal),
        Verb::Get(args) => get::get(&args, terminal),
        Verb::Describe(args) => describe::describe(&args, terminal),
        Verb::Exec(args) => exec::exec(&args, terminal),
        Verb::Shell(args) => shell::shell(&args, terminal),
        Verb::Logs(args) => logs::logs(&args),
        Verb::Rules(args) => rules::rules(&args, terminal),
        Verb::Trace(args) => trace::trace(&args, terminal),
        Verb::Check(args) => check::check(&args, terminal),
        Verb::Plan(args) => plan::plan(&args, terminal),
        Verb::New(args) => new::new(&args, terminal),
        Verb::Doctor(args) => doctor::doctor(&args, terminal),
        Verb::Completions(args) => {
            clap_complete::generate(args.shell, &mut Cli::command(), "netlab", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
        Verb::Schema(args) => schema::schema(&args),
    }
}
