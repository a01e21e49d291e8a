//! `netlab up`: builds a lab and waits until it is ready.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    process::ExitCode,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use super::{
    args,
    down::{self, end},
    output::{Terminal, Verbosity, print},
    plan,
    source::Source,
};
use crate::{
    agent::{
        Orders,
        directory::{self, AGENT_LOG, Claim, Directory},
        link::{self, Handle},
        protocol::{Event, Farewell, Problem, Waiting},
    },
    diag::{Diagnostic, Diagnostics},
    error::{Context, Error, ErrorKind, Result},
    kernel::{nest, requirements, stopwatch::Stopwatch},
    lab::{model::Lab, name::Name},
    plan::step::StageName,
    report::timings::Lap,
};

/// What the command does itself.
const BEGIN: &str = "begin";

pub(super) fn up(args: &args::Up, terminal: &Terminal) -> Result<ExitCode> {
    let source = Source::read(args.file.file.as_deref())?;
    if args.dry_run {
        return plan::print_plan(&source, args.stage, terminal);
    }
    let began = Instant::now();
    let stage = if args.no_wait { args.stage.or(Some(StageName::Servers)) } else { args.stage };
    let watch = args.timings.watch();
    let wanted = Wanted {
        source: &source,
        name: args.name.as_ref(),
        stage,
        timeout: args.timeout,
        replace: args.replace,
        watch: watch.clone(),
    };
    let (lab, mut building) = Building::begin(&wanted, terminal)?;
    let laps = building.wait(terminal)?;
    building.stay()?;
    let millis = began.elapsed().as_millis();
    args.timings.tell(&watch, laps)?;
    terminal.say(format!("{} is up in {millis} ms: {}", lab.name, contents(&lab)));
    terminal.say(format!("try: netlab verify {name} · netlab shell -l {name} · netlab down {name}", name = lab.name));
    Ok(ExitCode::SUCCESS)
}

/// `2 nodes, 3 pods, 1 service`.
pub(super) fn contents(lab: &Lab) -> String {
    let counts = [(lab.nodes.len(), "node"), (lab.pods.len(), "pod"), (lab.services.len(), "service")];
    let counts = counts.map(|(count, noun)| format!("{count} {noun}{}", if count == 1 { "" } else { "s" }));
    counts.join(", ")
}

/// What to bring up, and how.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) source: &'a Source,
    pub(super) name: Option<&'a Name>,
    pub(super) stage: Option<StageName>,
    pub(super) timeout: Duration,
    pub(super) replace: bool,
    pub(super) watch: Stopwatch,
}

/// A lab that is being built. It ends with this process, until it is told to [`Building::stay`].
pub(super) struct Building<'a> {
    /// Its directory.
    pub(super) directory: Directory,
    /// Its agent.
    pub(super) agent: Handle,
    control: UnixStream,
    /// The same channel, to hear with.
    ear: BufReader<UnixStream>,
    source: &'a Source,
    deadline: Instant,
    timeout: Duration,
    /// The pods that have still to prove that they are ready.
    waiting: Waiting,
}

impl<'a> Building<'a> {
    /// Checks everything that can be checked, then starts the agent.
    pub(super) fn begin(wanted: &Wanted<'a>, terminal: &Terminal) -> Result<(Lab, Self)> {
        let Wanted { source, name, stage, timeout, replace, ref watch } = *wanted;
        let deadline = Instant::now() + timeout;
        let mut lab = watch.lap(BEGIN, "load", || source.load(terminal))?;
        if let Some(name) = name {
            lab.name = name.clone();
        }
        watch.lap(BEGIN, "requirements", || requirements::check(&lab))?;
        let claim = watch.lap(BEGIN, "claim", || claim(&lab.name, &source.text, replace))?;
        let begun = watch.begin();
        let Claim { directory, lock, listener, handle, log } = claim;
        let (control, theirs) = UnixStream::pair().context("cannot make a channel to the agent")?;
        let inheritance = nest::Inheritance { control: theirs.into(), listener, directory: handle, lock, log };
        let orders = Orders { name: lab.name.to_string(), stage, timings: watch.runs() };
        let arguments = orders.arguments();
        let arguments: Vec<&OsStr> = arguments.iter().map(AsRef::as_ref).collect();
        let started = nest::hatch(&arguments, inheritance).and_then(|pid| Ok((pid, Handle::open(pid)?)));
        let (pid, agent) = started.inspect_err(|_| sweep(&directory))?;
        directory.write_meta(source.path.clone(), pid.as_raw())?;
        watch.done(begun, BEGIN, "clone", String::new);
        let ear = BufReader::new(control.try_clone().context("cannot hear the agent")?);
        let waiting = Waiting::default();
        Ok((lab, Building { directory, agent, control, ear, source, deadline, timeout, waiting }))
    }

    /// Shows how far it is, until it is ready; gives back what the agent did when, if it was asked to tell.
    pub(super) fn wait(&mut self, terminal: &Terminal) -> Result<Vec<Lap>> {
        let mut progress = Progress::new(terminal);
        let mut laps = Vec::new();
        let problem = loop {
            match self.next_event() {
                Ok(Some(Event::Ready)) => {
                    progress.clear();
                    return Ok(laps);
                }
                Ok(Some(Event::Timings(told))) => laps = told,
                Ok(Some(Event::Failed(problem))) => break self.explain(problem, terminal),
                Ok(Some(event)) => {
                    progress.show(&event);
                    if let Event::Waiting(pods) = event {
                        self.waiting = pods;
                    }
                }
                Ok(None) => break self.died(),
                Err(error) => break error,
            }
        };
        progress.clear();
        self.agent.kill();
        // The kernel is done with a killed nest in some milliseconds; the lock then is free.
        self.agent.ended_within(Duration::from_secs(10))?;
        sweep(&self.directory);
        Err(problem)
    }

    fn next_event(&mut self) -> Result<Option<Event>> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(self.too_late());
        }
        self.control.set_read_timeout(Some(left)).context("cannot set a timeout")?;
        let mut line = String::new();
        let read = self.ear.read_line(&mut line);
        match read {
            Ok(0) => Ok(None),
            Ok(_) => serde_json::from_str(&line).map(Some).context("cannot read the agent's report"),
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                Err(self.too_late())
            }
            Err(error) => Err(error).context("cannot hear the agent"),
        }
    }

    fn too_late(&self) -> Error {
        let Some(first) = self.waiting.first.first() else {
            let error = Error::refused(format!("not ready after {:?}; everything was undone", self.timeout));
            return error.hint("give it longer with --timeout, or look at a stage at a time with --stage");
        };
        let (limit, waiting) = (self.timeout, &self.waiting);
        let error = Error::refused(format!("not ready after {limit:?}: {waiting}; everything was undone"));
        error.hint(format!(
            "give it longer with --timeout, or leave it up with --no-wait: netlab get pods, netlab describe {0} and netlab logs {0} then say more",
            first.pod
        ))
    }

    /// Tells the agent to live on.
    pub(super) fn stay(&mut self) -> Result<()> {
        let mut line = serde_json::to_vec(&Farewell::Stay).context("cannot write a farewell down")?;
        line.push(b'\n');
        self.control.write_all(&line).map_err(|_| self.died())
    }

    fn died(&self) -> Error {
        let log = std::fs::read_to_string(self.directory.path.join(AGENT_LOG)).unwrap_or_default();
        let log = log.trim();
        let last = if log.is_empty() { String::new() } else { format!(": {log}") };
        Error::refused(format!("the agent was ended before the lab was ready{last}; everything was undone"))
    }

    /// Points at the lab line that caused a refusal.
    fn explain(&self, problem: Problem, terminal: &Terminal) -> Error {
        let Problem { kind, message, hint, step, at } = problem;
        let Some(step) = step else { return Error { kind, message, hint } };
        let (start, end) = at.unwrap_or((0, 0));
        let diagnostic = Diagnostic {
            message,
            at: start..end,
            label: "this could not be built".to_owned(),
            related: Vec::new(),
            hint: hint.or_else(|| Some(format!("the step was: {}", step.replace('\n', "; ")))),
        };
        let problems = Diagnostics(vec![diagnostic]);
        eprint!("{}", problems.render(&self.source.name, &self.source.text, terminal.error_colour()));
        let message = match kind {
            ErrorKind::Host => "this host cannot build the lab; everything was undone",
            _ => "the lab could not be built; everything was undone",
        };
        Error { kind, message: message.to_owned(), hint: None }
    }
}

fn claim(name: &Name, text: &str, replace: bool) -> Result<Claim> {
    if let Some(claim) = claim_when_ended(name, text)? {
        return Ok(claim);
    }
    let is_up = || Error::usage(format!("the lab {name} is up already"));
    if !replace {
        return Err(is_up().hint(format!("netlab up --replace …, netlab up --name OTHER …, or netlab down {name}")));
    }
    if let Some(running) = directory::find(name.as_str())? {
        end(&running, down::Patience::UntilEnded)?;
    }
    directory::claim(name.as_str(), text)?.ok_or_else(is_up)
}

/// Claims the name of a lab; `None` if that is up. One whose agent was killed this moment is not:
/// the kernel needs some milliseconds to end it, and gives its lock back among the last things.
fn claim_when_ended(name: &Name, text: &str) -> Result<Option<Claim>> {
    const LONGEST: Duration = Duration::from_secs(2);
    const PAUSE: Duration = Duration::from_millis(2);
    let began = Instant::now();
    loop {
        let claim = directory::claim(name.as_str(), text)?;
        let left = LONGEST.saturating_sub(began.elapsed());
        if claim.is_some() || left.is_zero() {
            return Ok(claim);
        }
        let Some(directory) = directory::find(name.as_str())? else { continue };
        if link::answers(&directory, left) {
            return Ok(None);
        }
        // Between the end of its socket and the end of its lock nothing tells how far it is.
        std::thread::sleep(PAUSE);
    }
}

/// Removes the directory of a lab that never was; what cannot be removed now, the next `up`,
/// `down` or `ls` sweeps.
fn sweep(directory: &Directory) {
    let _ = directory.sweep();
}

/// How far a lab is, on the terminal.
struct Progress {
    bar: Option<ProgressBar>,
    done: u64,
    verbosity: Verbosity,
}

impl Progress {
    fn new(terminal: &Terminal) -> Self {
        let bar = terminal.is_interactive().then(|| {
            let style = ProgressStyle::with_template("{spinner} {bar:20} {pos}/{len} {msg}");
            let bar = ProgressBar::new(StageName::ALL.len() as u64);
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Progress { bar, done: 0, verbosity: terminal.verbosity }
    }

    fn show(&mut self, event: &Event) {
        match event {
            Event::Stage { name, steps } => {
                if let Some(bar) = &self.bar {
                    bar.set_message(format!("{name} ({steps})"));
                }
            }
            Event::Done { name, micros } => {
                self.done += 1;
                let line = format!("{name:<16} {:>8.1} ms\n", Duration::from_micros(*micros).as_secs_f64() * 1000.0);
                match &self.bar {
                    Some(bar) => {
                        bar.set_position(self.done);
                        bar.suspend(|| print(&line));
                    }
                    None if self.verbosity == Verbosity::Verbose => print(&line),
                    None => {}
                }
            }
            Event::Waiting(pods) => {
                if let Some(bar) = &self.bar {
                    bar.set_message(match pods.count {
                        1 => format!("waiting for {pods}"),
                        count => format!("waiting for {count} pods to be ready"),
                    });
                }
            }
            Event::Ready | Event::Failed(_) | Event::Timings(_) => {}
        }
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
