//! `netlab plan`: what `up` would do, as the commands that a person would type.

use std::process::ExitCode;

use super::{
    args,
    output::{Terminal, print},
    source::Source,
};
use crate::{
    error::Result,
    plan::{self, step::StageName},
};

pub(super) fn plan(args: &args::Plan, terminal: &Terminal) -> Result<ExitCode> {
    print_plan(&Source::read(args.file.file.as_deref())?, args.stage, terminal)
}

/// Prints the plan of a lab, up to a stage.
pub(super) fn print_plan(source: &Source, last: Option<StageName>, terminal: &Terminal) -> Result<ExitCode> {
    let lab = source.load(terminal)?;
    let plan = plan::plan(&lab);
    let mut text = String::new();
    for stage in plan.stages.iter().filter(|stage| !stage.steps.is_empty()) {
        if last.is_some_and(|last| stage.name > last) {
            break;
        }
        text.push_str(&format!("# {}\n", stage.name));
        for step in &stage.steps {
            text.push_str(&format!("{}\n", step.step));
        }
        text.push('\n');
    }
    print(text.trim_end());
    print("\n");
    Ok(ExitCode::SUCCESS)
}
