//! `netlab down`: ends labs. The kernel does the work; this waits until it has.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use super::{args, labs, output::Terminal};
use crate::{
    agent::{
        directory::{self, Directory},
        link::{self, Ended, Handle},
        protocol::Request,
    },
    error::{Error, Result},
    kernel::leftovers::Leftovers,
};

pub(super) fn down(args: &args::Down, terminal: &Terminal) -> Result<ExitCode> {
    let living = directory::living()?;
    let chosen: Vec<Directory> = match args.labs.as_slice() {
        _ if args.all => living,
        [] => match living.len() {
            0 => living,
            _ => vec![labs::choose(None)?],
        },
        named => {
            let mut chosen = Vec::new();
            for name in named {
                match labs::find(&living, name) {
                    Some(directory) if chosen.contains(directory) => {}
                    Some(directory) => chosen.push(directory.clone()),
                    None => terminal.say(format!("{name} is not up")),
                }
            }
            if chosen.is_empty() {
                return Ok(ExitCode::SUCCESS);
            }
            chosen
        }
    };
    if chosen.is_empty() {
        terminal.say("no lab is up");
    }
    let patience = if args.wait { Patience::UntilFreed } else { Patience::UntilEnded };
    for directory in chosen {
        let took = end(&directory, patience)?;
        let name = &directory.name;
        terminal.say(match took.freed {
            None => format!("{name} is down ({} ms)", took.ended.as_millis()),
            Some(freed) => format!(
                "{name} is down ({} ms); the kernel had freed everything after {} ms",
                took.ended.as_millis(),
                freed.as_millis()
            ),
        });
    }
    Ok(ExitCode::SUCCESS)
}

/// The names of a lab's nodes; of one that another version has made, they are not known.
fn nodes(directory: &Directory) -> Vec<String> {
    labs::load(directory).map_or_else(|_| Vec::new(), |lab| lab.nodes.iter().map(|it| it.name.to_string()).collect())
}

/// How long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// Until every process of the lab has ended.
    UntilEnded,
    /// Until the kernel has freed its namespaces as well, which it does in the background.
    UntilFreed,
}

/// How long it took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Took {
    ended: Duration,
    freed: Option<Duration>,
}

/// Ends a lab: asks the agent to, and if that does not, kills it. Its directory is removed.
pub(super) fn end(directory: &Directory, patience: Patience) -> Result<Took> {
    const POLITE: Duration = Duration::from_secs(2);
    const KILLED: Duration = Duration::from_secs(30);
    let began = Instant::now();
    if let Ok(agent) = Handle::of_agent(directory) {
        let leftovers = match patience {
            Patience::UntilFreed => Some(Leftovers::watch(&agent, &nodes(directory))?),
            Patience::UntilEnded => None,
        };
        // What it takes to begin to watch is no part of the lab's end.
        let began = Instant::now();
        // One that cannot answer any more is killed.
        let asked = link::ask_once(directory, &Request::Down);
        if asked.is_err() || agent.ended_within(POLITE)? == Ended::NotYet {
            agent.kill();
            if agent.ended_within(KILLED)? == Ended::NotYet {
                let error = Error::refused(format!("the kernel has not ended the lab {} yet", directory.name));
                return Err(error.hint("a process of it hangs in the kernel: see `ps -eo pid,stat,wchan,args`"));
            }
        }
        let ended = began.elapsed();
        directory.sweep()?;
        let freed = match leftovers {
            Some(leftovers) => {
                leftovers.wait()?;
                Some(began.elapsed())
            }
            None => None,
        };
        return Ok(Took { ended, freed });
    }
    directory.sweep()?;
    Ok(Took { ended: began.elapsed(), freed: None })
}
