//! The agent: PID 1 of a lab. It builds the lab, serves its built-in servers, tries what the
//! CLI asks it to, and when it ends, the kernel ends the lab.

mod build;
mod changing;
pub mod directory;
mod faults;
mod leaving;
pub mod link;
mod living;
pub mod protocol;
mod readiness;
mod repair;
mod requests;
mod state;
mod telling;

use std::{
    ffi::{OsStr, OsString},
    io::{BufRead, BufReader, Write},
    os::{
        fd::{FromRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    process::ExitCode,
    sync::{Arc, Mutex},
};

use tokio::{
    net::UnixListener,
    signal::unix::{SignalKind, signal},
};

use crate::{
    error::{Context, Error, Result},
    kernel::{client, nest, stopwatch::Stopwatch},
    plan::step::StageName,
    report::timings::Who,
};
use protocol::{Event, Farewell, Problem};

/// The hidden verb that makes a netlab process an agent.
pub const VERB: &str = "agent";

/// What an agent is told on its command line.
#[derive(Debug, Clone)]
pub struct Orders {
    /// The lab's name.
    pub name: String,
    /// The last stage to build.
    pub stage: Option<StageName>,
    /// Whether to tell what was done when.
    pub timings: bool,
}

/// The word for that, on the command line.
const TIMINGS: &str = "timings";

impl Orders {
    /// As arguments.
    pub fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec![VERB.into(), self.name.as_str().into()];
        arguments.extend(self.stage.map(|stage| stage.as_str().into()));
        arguments.extend(self.timings.then(|| TIMINGS.into()));
        arguments
    }

    /// From the arguments after the program's name, if they are an agent's.
    pub fn parse(arguments: &[OsString]) -> Option<Self> {
        let [verb, name, rest @ ..] = arguments else { return None };
        if verb != OsStr::new(VERB) {
            return None;
        }
        let stage = rest.first().and_then(|stage| stage.to_str());
        let stage = stage.and_then(|stage| StageName::ALL.into_iter().find(|name| name.as_str() == stage));
        let timings = rest.last().is_some_and(|word| word == OsStr::new(TIMINGS));
        Some(Orders { name: name.to_str()?.to_owned(), stage, timings })
    }
}

/// The channel to the `up` that waits.
#[derive(Debug, Clone)]
pub(crate) struct Control(Arc<Mutex<UnixStream>>);

impl Control {
    fn tell(&self, event: &Event) {
        let Ok(mut stream) = self.0.lock() else { return };
        let Ok(mut line) = serde_json::to_vec(event) else { return };
        line.push(b'\n');
        // Nobody hears it: the watcher is about to end this process, or `up` was told Ready
        // and has gone.
        let _ = stream.write_all(&line);
    }
}

/// Lives an agent's life. Comes back only when the lab is over, or was never built.
pub fn main(orders: &Orders) -> ExitCode {
    // SAFETY: the numbers are what `nest::hatch` leaves open for this process, once.
    let [control, listener, directory, lock] = [nest::CONTROL, nest::LISTENER, nest::DIRECTORY, nest::LOCK]
        .map(|number| unsafe { OwnedFd::from_raw_fd(number) });
    for fd in [&control, &listener, &directory, &lock] {
        // What the lab's processes inherit would outlive nothing, but hold the lock.
        if let Err(errno) = nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC)) {
            eprintln!("cannot keep a descriptor to myself: {errno}");
            return ExitCode::from(70);
        }
    }
    let stream = UnixStream::from(control);
    let Ok(ear) = stream.try_clone() else { return ExitCode::from(70) };
    std::thread::spawn(move || watch(ear));
    let control = Control(Arc::new(Mutex::new(stream)));
    match live(orders, &control, listener) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{}", problem.message);
            let code = problem.kind.exit_code();
            control.tell(&Event::Failed(problem));
            ExitCode::from(code)
        }
    }
}

/// Ends the process, and so the lab, when `up` goes away without having said to stay. A thread
/// of its own, so that nothing that blocks can be in the way.
fn watch(ear: UnixStream) {
    for line in BufReader::new(ear).lines() {
        let Ok(line) = line else { break };
        if let Ok(Farewell::Stay) = serde_json::from_str(&line) {
            return;
        }
    }
    std::process::exit(0);
}

fn live(orders: &Orders, control: &Control, listener: OwnedFd) -> Result<(), Problem> {
    let watch = if orders.timings { Stopwatch::of(Who::Agent) } else { Stopwatch::default() };
    watch.lap("start", "mounts", || nest::furnish(&orders.name))?;
    client::raise_descriptor_limit()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start")?;
    let lived = runtime.block_on(async {
        let listener = listen(listener)?;
        let mut ended = Ended::listening()?;
        let mut lab = build::Building::open(orders, watch.clone())?;
        let state = lab.state();
        let (over, mut down) = tokio::sync::mpsc::channel(1);
        tokio::spawn(requests::serve(listener, Arc::clone(&state), over));
        tokio::select! {
            built = lab.build(control) => built?,
            () = ended.wait() => return Ok(()),
            _ = down.recv() => return Ok(()),
        }
        tokio::spawn(living::follow_the_fallen(Arc::clone(&state)));
        tokio::spawn(readiness::follow(Arc::clone(&state)));
        if orders.stage.is_none() {
            let begun = watch.begin();
            tokio::select! {
                () = readiness::proven(&state, control) => {}
                () = ended.wait() => return Ok(()),
                _ = down.recv() => return Ok(()),
            }
            watch.done(begun, "ready", "readiness", String::new);
        }
        if orders.timings {
            control.tell(&Event::Timings(watch.take()));
        }
        control.tell(&Event::Ready);
        tokio::select! {
            () = ended.wait() => {}
            _ = down.recv() => {}
        }
        Ok(())
    });
    // The process ends now, and everything with it; task by task that would take longer.
    std::mem::forget(runtime);
    lived
}

fn listen(listener: OwnedFd) -> Result<UnixListener> {
    let listener = std::os::unix::net::UnixListener::from(listener);
    listener.set_nonblocking(true).context("cannot use the control socket")?;
    UnixListener::from_std(listener).context("cannot use the control socket")
}

/// The signals that ask for a polite end. PID 1 gets only those that it handles.
struct Ended {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Ended {
    fn listening() -> Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for a signal");
        Ok(Ended { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let Error { kind, message, hint } = error;
        Problem { kind, message, hint, step: None, at: None }
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        let Problem { kind, message, hint, .. } = problem;
        Error { kind, message, hint }
    }
}
