//! `netlab check`: everything that is wrong with lab files, touching nothing.

use std::{path::PathBuf, process::ExitCode};

use super::{args, output::Terminal, source::Source};
use crate::{
    error::{Error, Result},
    lab::{self, Expectation},
};

pub(super) fn check(args: &args::Check, terminal: &Terminal) -> Result<ExitCode> {
    let files: Vec<Option<PathBuf>> = match args.files.as_slice() {
        [] => vec![None],
        files => files.iter().cloned().map(Some).collect(),
    };
    let several = files.len() > 1;
    let mut bad = 0;
    for file in files {
        let checked = Source::read(file.as_deref()).and_then(|source| {
            let lab = source.load(terminal).map_err(|error| match lab::expectation(&source.text) {
                Expectation::Invalid(_) => {
                    error.hint("it states that it is invalid; `netlab test` says whether as it states")
                }
                Expectation::Passes | Expectation::Fails(_) => error,
            })?;
            Ok((source.name, lab))
        });
        match checked {
            Ok((name, lab)) => terminal.say(format!("{name} is good: {}", super::up::contents(&lab))),
            Err(error) if several => {
                terminal.complain(&error);
                bad += 1;
            }
            Err(error) => return Err(error),
        }
    }
    if bad > 0 {
        return Err(Error::usage(format!("{bad} of {} lab files are wrong", args.files.len())));
    }
    Ok(ExitCode::SUCCESS)
}
