//! `netlab logs POD`: what a pod's servers have printed.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::AsFd,
    path::PathBuf,
    process::ExitCode,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
};

use super::{args, labs};
use crate::{
    agent::{
        directory::{AGENT_LOG, Directory, LOGS},
        link::Handle,
    },
    error::{Context, Error, Result},
    kernel::front::BALANCER_LOG,
};

pub(super) fn logs(args: &args::Logs) -> Result<ExitCode> {
    let directory = labs::choose(args.lab.lab.as_deref())?;
    let path = file(&directory, args)?;
    let mut log = File::open(&path).map_err(|_| {
        Error::usage(format!("{} has no log: its server is built in, or was not started yet", args.pod))
            .hint("netlab logs agent")
    })?;
    copy(&mut log)?;
    if args.follow {
        follow(&directory, &path, &mut log)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn file(directory: &Directory, args: &args::Logs) -> Result<PathBuf> {
    if args.pod == "agent" {
        return Ok(directory.path.join(AGENT_LOG));
    }
    let lab = labs::load(directory)?;
    if lab.load_balancer.as_ref().is_some_and(|balancer| balancer.name.as_str() == args.pod) {
        return Ok(directory.path.join(LOGS).join(format!("{}.{BALANCER_LOG}", args.pod)));
    }
    let pod = lab.pods.iter().find(|pod| pod.full_name() == args.pod);
    let pod = pod
        .ok_or_else(|| Error::usage(format!("there is no pod {} in {}", args.pod, lab.name)).hint("netlab get pods"))?;
    let container = match (&args.container, pod.containers.as_slice()) {
        (None, [only]) => only,
        (None, several) => {
            let names: Vec<&str> = several.iter().map(|it| it.name.as_str()).collect();
            let error = Error::usage(format!("{} has {} containers", args.pod, several.len()));
            return Err(error.hint(format!("choose one with --container: {}", names.join(", "))));
        }
        (Some(name), several) => several
            .iter()
            .find(|it| it.name.as_str() == name)
            .ok_or_else(|| Error::usage(format!("{} has no container {name}", args.pod)))?,
    };
    Ok(directory.path.join(LOGS).join(format!("{}.{}.log", pod.full_name(), container.name)))
}

fn copy(log: &mut File) -> Result<()> {
    let mut text = Vec::new();
    log.read_to_end(&mut text).context("cannot read the log")?;
    let mut out = std::io::stdout().lock();
    if out.write_all(&text).and_then(|()| out.flush()).is_err() {
        // The reader has seen enough.
        std::process::exit(0);
    }
    Ok(())
}

/// Prints what is appended, as it is, until the lab ends.
fn follow(directory: &Directory, path: &PathBuf, log: &mut File) -> Result<()> {
    let agent = Handle::of_agent(directory)?;
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).context("cannot watch the log")?;
    inotify.add_watch(path, AddWatchFlags::IN_MODIFY).context("cannot watch the log")?;
    loop {
        // What came between the last look and the watch.
        copy(log)?;
        let mut watched = [
            PollFd::new(inotify.as_fd(), PollFlags::POLLIN),
            PollFd::new(agent.descriptor().as_fd(), PollFlags::POLLIN),
        ];
        poll(&mut watched, PollTimeout::NONE).context("cannot watch the log")?;
        if watched[1].any() == Some(true) {
            return copy(log);
        }
        // Which changes there were does not matter: there were some.
        let _ = inotify.read_events();
    }
}
