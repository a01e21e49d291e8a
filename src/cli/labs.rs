//! Running labs: which one is meant.

use std::{path::Path, process::ExitCode};

use super::output::Terminal;
use crate::{
    agent::{
        directory::{self, Directory},
        link,
        protocol::{Reply, Request},
    },
    error::{Error, Result},
    lab::{self, model::Lab},
};

/// The lab that was named, by its name or by the file it came from; or the only one that runs;
/// or the only one that runs from this folder.
pub(super) fn choose(lab: Option<&str>) -> Result<Directory> {
    let living = directory::living()?;
    match lab {
        Some(lab) => find(&living, lab)
            .cloned()
            .ok_or_else(|| Error::usage(format!("no lab {lab} runs")).hint(whats_up(&living))),
        None => match living.as_slice() {
            [only] => Ok(only.clone()),
            [] => Err(Error::usage("no lab runs").hint("bring one up: netlab up FILE")),
            several => match from_here(several).as_slice() {
                [only] => Ok((*only).clone()),
                _ => Err(Error::usage(format!("{} labs run", living.len())).hint(whats_up(&living))),
            },
        },
    }
}

/// Those whose files are in this folder: who stands in a lab's folder means that lab.
fn from_here(living: &[Directory]) -> Vec<&Directory> {
    let Ok(here) = std::env::current_dir() else { return Vec::new() };
    let from_here = |directory: &&Directory| {
        let file = directory.meta().and_then(|meta| meta.file);
        file.is_some_and(|file| file.parent() == Some(&here))
    };
    living.iter().filter(from_here).collect()
}

/// By name, by the file that it came from, or by the name in that file.
pub(super) fn find<'a>(living: &'a [Directory], lab: &str) -> Option<&'a Directory> {
    living.iter().find(|directory| directory.name == lab).or_else(|| {
        let path = std::fs::canonicalize(lab).ok().filter(|path| path.is_file())?;
        let from = |directory: &&Directory| directory.meta().is_some_and(|meta| meta.file.as_deref() == Some(&path));
        // The same file may be up under several names; its own comes first.
        let named = Path::new(lab).file_stem()?.to_str()?;
        living.iter().filter(from).find(|directory| directory.name == named).or_else(|| living.iter().find(from))
    })
}

fn whats_up(living: &[Directory]) -> String {
    match living {
        [] => "none does; bring one up: netlab up FILE".to_owned(),
        _ => {
            let names: Vec<&str> = living.iter().map(|directory| directory.name.as_str()).collect();
            format!("name one of these: {}", names.join(", "))
        }
    }
}

/// The lab as it is now.
pub(super) fn load(directory: &Directory) -> Result<Lab> {
    Ok(directory.overrides().over(&whole(directory)?))
}

/// Asks the agent for a change, and says what has changed.
pub(super) fn change(directory: &Directory, request: &Request, terminal: &Terminal) -> Result<ExitCode> {
    let Reply::Applied(applied) = link::ask_once(directory, request)? else {
        return Err(Error::bug("a change was asked for, and something else was given"));
    };
    if applied.differences.is_empty() {
        terminal.say(format!("{}: nothing to do", directory.name));
    }
    for difference in &applied.differences {
        terminal.say(difference);
    }
    Ok(ExitCode::SUCCESS)
}

/// The lab as its file says, whatever it was told besides.
pub(super) fn whole(directory: &Directory) -> Result<Lab> {
    let text = directory.text()?;
    let name = directory.name.parse().map_err(|error| Error::bug(format!("the lab's name {error}")))?;
    let mut lab = lab::load_after(&text, &name, &directory.kept()).map_err(|_| {
        Error::usage(format!("the lab {} was made by another version of netlab", directory.name))
            .hint(format!("netlab down {}", directory.name))
    })?;
    lab.name = name;
    Ok(lab)
}
