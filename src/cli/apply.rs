//! `netlab apply`: changes a running lab into what its file says now.

use std::{path::Path, process::ExitCode, time::Instant};

use super::{
    args, labs,
    output::{Terminal, print},
    source::Source,
};
use crate::{
    agent::{
        directory::Directory,
        link::{self, Hearing},
        protocol::{Applied, Reply, Request},
    },
    error::{Error, Result},
    kernel::requirements,
    lab::{
        Kept, Overrides,
        difference::{Difference, differences},
        model::Lab,
    },
    plan::{
        self, Allotted,
        change::{self, Change},
        step::{Plan, StageName, Step},
    },
    report::timings::Lap,
};

/// The stage of what the command does itself.
const ASK: &str = "ask";

pub(super) fn apply(args: &args::Apply, terminal: &Terminal) -> Result<ExitCode> {
    let source = Source::read(args.file.file.as_deref())?;
    let directory = running(args, &source, terminal)?;
    if args.dry_run {
        return only_say(&source, &directory, terminal);
    }
    let watch = args.timings.watch();
    let began = Instant::now();
    let waits = !args.leaving.no_wait && !directory.overrides().leaving().is_empty();
    let look = || -> Result<()> {
        let lab = watch.lap(ASK, "load", || source.load_after(&directory.name, &kept(&directory)?, terminal))?;
        watch.lap(ASK, "requirements", || requirements::check(&lab))
    };
    let ask = |looked: bool| -> Result<Option<Answer>> {
        let answer = watch.lap(ASK, "answer", || answer(args, &source, &directory, looked));
        // The agent knows how the lab is, and reads the text itself; what is wrong with it, only this command
        // can show.
        if answer.is_err() && !looked {
            look()?;
        }
        answer
    };
    // Services need nothing of the host: what is about them only, nobody but the agent needs to look at.
    let answer = match ask(false)? {
        None => {
            look()?;
            ask(true)?
        }
        answer => answer,
    };
    let Answer { laps, applied } = answer.unwrap_or_default();
    let differences = applied.map(|applied| applied.differences).unwrap_or_default();
    args.timings.tell(&watch, laps)?;
    if differences.is_empty() && !waits {
        terminal.say(format!("{}: nothing to do", directory.name));
        return Ok(ExitCode::SUCCESS);
    }
    for difference in &differences {
        terminal.say(difference);
    }
    terminal.say(format!("{} is as {} says ({} ms)", directory.name, source.name, began.elapsed().as_millis()));
    Ok(ExitCode::SUCCESS)
}

/// What an agent says to a change.
#[derive(Default)]
struct Answer {
    laps: Vec<Lap>,
    applied: Option<Applied>,
}

/// Asks for the change; no answer means that somebody has to look at the file first.
fn answer(args: &args::Apply, source: &Source, directory: &Directory, looked: bool) -> Result<Option<Answer>> {
    let (length, no_wait, timings) = (source.text.len(), args.leaving.no_wait, args.timings.are_wanted());
    let request = Request::Apply { length, looked, no_wait, timings };
    let mut answer = Some(Answer::default());
    link::ask_with(directory, &request, &source.text, |reply| {
        match (reply, &mut answer) {
            (Reply::Timings(told), Some(answer)) => {
                answer.laps = told;
                return Ok(Hearing::More);
            }
            (Reply::Applied(reply), Some(answer)) => answer.applied = Some(reply),
            (Reply::Look, _) => answer = None,
            _ => return Err(Error::bug("a change was asked for, and something else was given")),
        }
        Ok(Hearing::Last)
    })?;
    Ok(answer)
}

/// What the lab's things keep, as its agent has it.
fn kept(directory: &Directory) -> Result<Kept> {
    let overrides = directory.overrides();
    if overrides == Overrides::default() {
        return Ok(directory.kept());
    }
    let whole = labs::whole(directory)?;
    Ok(overrides.kept(&whole).besides(&overrides.over(&whole)))
}

/// Says what would change, and changes nothing.
fn only_say(source: &Source, directory: &Directory, terminal: &Terminal) -> Result<ExitCode> {
    let (whole, overrides) = (labs::whole(directory)?, directory.overrides());
    // As it was told to be: what is terminating is on its way out already.
    let (is, was) = (overrides.over(&whole), overrides.settled().over(&whole));
    let file = source.load_after(&directory.name, &overrides.kept(&whole).besides(&is), terminal)?;
    let lab = overrides.settled().after_apply(&change::replaced(&was, &file)).over(&file);
    if let Some(key) = change::fixed(&was, &lab) {
        let error =
            Error::usage(format!("`{key}` of [cluster] cannot change while the lab is up; nothing was touched"));
        return Err(error.hint(format!("netlab up --replace {} builds the lab anew", source.name)));
    }
    let differences = differences(&was, &lab);
    if differences.is_empty() {
        terminal.say(format!("{}: nothing to do", directory.name));
        return Ok(ExitCode::SUCCESS);
    }
    print(&dry_run(&was, &lab, &differences));
    Ok(ExitCode::SUCCESS)
}

/// The lab that was named; or the one that came from this file; or the one of the name in it.
fn running(args: &args::Apply, source: &Source, terminal: &Terminal) -> Result<Directory> {
    if let Some(name) = &args.of_lab.lab {
        return labs::choose(Some(name));
    }
    let from_file = source.path.as_deref().and_then(Path::to_str).map(|path| labs::choose(Some(path)));
    match from_file {
        Some(Ok(directory)) => Ok(directory),
        _ => labs::choose(Some(source.load(terminal)?.name.as_str())),
    }
}

/// What would change, and the commands that a person would type for it.
fn dry_run(was: &Lab, lab: &Lab, differences: &[Difference]) -> String {
    let before = plan::plan(was);
    let after = plan::plan_after(lab, Allotted::of(&before));
    let change = change::change((was, &before), (lab, &after));
    let mut text: String = differences.iter().map(|difference| format!("{difference}\n")).collect();
    text.push('\n');
    let mut section = |title: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            text.push_str(&format!("# {title}\n{}\n\n", lines.join("\n")));
        }
    };
    section("undone", change.undone.iter().map(|it| it.step.undoing()).collect());
    for stage in &change.made {
        section(stage.name.as_str(), stage.steps.iter().map(|it| it.step.to_string()).collect());
    }
    section("settings", change.settings.iter().map(|it| it.step.settings()).collect());
    section("rules", rules(&before, &after));
    section("servers", servers(lab, &after, &change));
    section("gone", change.gone.iter().map(|netns| format!("ip netns del {netns}")).collect());
    format!("{}\n", text.trim_end())
}

/// The nodes whose rules change.
fn rules(before: &Plan, after: &Plan) -> Vec<String> {
    let of = |plan: &Plan| -> Vec<Step> {
        let stages = plan.stages.iter().filter(|stage| stage.name == StageName::Rules);
        stages.flat_map(|stage| &stage.steps).map(|it| it.step.clone()).collect()
    };
    let had = of(before);
    of(after).into_iter().filter(|step| !had.contains(step)).map(|step| step.to_string()).collect()
}

/// The servers that start.
fn servers(lab: &Lab, after: &Plan, change: &Change) -> Vec<String> {
    let names: Vec<String> = change.new_pods.iter().map(|pod| lab.pod(*pod).full_name()).collect();
    let stages = after.stages.iter().filter(|stage| stage.name == StageName::Servers);
    let new = stages.flat_map(|stage| &stage.steps).filter(|it| match &it.step {
        Step::Serve { pod, .. } => names.contains(&lab.pod(*pod).full_name()),
        _ => false,
    });
    new.map(|it| it.step.to_string()).collect()
}
