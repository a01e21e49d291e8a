//! `netlab test`: checks, builds, verifies and ends labs, several at a time, and reports on all of them.
//!
//! Each lab is held by a process of its own, as for programs that use netlab as a library, and ends with
//! this process however that ends.

mod files;

use std::{
    fs::File,
    io::Write,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use super::{
    args, github,
    output::{Terminal, print},
};
use crate::{
    diag::Colour,
    error::{Context, Error, ErrorKind, Result},
    kernel::rules,
    lab::{self, Expectation},
    library::{self, Lab, Options, Program},
    probe::suite::{self, SuiteOptions},
    report::{
        self, Report,
        labs::{self, Asked, Form, Found, LabReport, LabsReport, Outcome, judge},
    },
};
use files::{Collected, LabFile};

pub(super) fn test(args: &args::Test, terminal: &Terminal) -> Result<ExitCode> {
    let Collected { files, left_out } = files::collect(&args.paths)?;
    if files.is_empty() {
        let error = Error::usage("there is no lab file here");
        return Err(error.hint("name one, or a folder of them; `netlab new minimal` makes one"));
    }
    if args.engine == args::Engine::Curl {
        rules::find("curl").map_err(|error| error.hint("install curl, or use --engine builtin"))?;
    }
    let outputs = open(&args.output_file)?;
    let run = Run {
        args,
        // Bonferroni: all labs together fail by chance as seldom as one would.
        alpha: args.alpha / files.len() as f64,
        program: Program::this(),
        stopped: AtomicBool::new(false),
        watch: Watch::new(files.len(), terminal),
    };
    let report = LabsReport::new(run.all(&files), left_out);
    run.watch.clear();
    for (form, mut file) in outputs {
        let text = labs::render(&report, form, Colour::Off);
        file.write_all(text.as_bytes()).context("cannot write a report")?;
    }
    let form = Form::from(args.output);
    github::tell(|wanted| match wanted {
        github::Wanted::Annotations if form == Form::Github => None,
        github::Wanted::Annotations => Some(labs::render(&report, Form::Github, Colour::Off)),
        github::Wanted::Summary => Some(labs::render(&report, Form::Markdown, Colour::Off)),
    })?;
    print(&labs::render(&report, form, terminal.colour()));
    if report.labs.iter().all(|lab| lab.outcome == Outcome::Skipped) {
        return Err(Error::usage("no probe of any lab is called like that"));
    }
    Ok(ExitCode::from(report.exit_code()))
}

/// Makes the files of reports, before anything is tried: that one cannot be made is known at once.
fn open(wanted: &[(args::TestFormat, PathBuf)]) -> Result<Vec<(Form, File)>> {
    let open = |(format, path): &(args::TestFormat, PathBuf)| {
        let file = File::create(path);
        let file = file.map_err(|error| Error::usage(format!("cannot make {}: {error}", path.display())))?;
        Ok((Form::from(*format), file))
    };
    wanted.iter().map(open).collect()
}

/// One run over all files.
struct Run<'a> {
    args: &'a args::Test,
    alpha: f64,
    program: Program,
    /// A lab was not as it states, and that is enough.
    stopped: AtomicBool,
    watch: Watch,
}

impl Run<'_> {
    fn all(&self, files: &[LabFile]) -> Vec<LabReport> {
        let next = AtomicUsize::new(0);
        let done: Mutex<Vec<(usize, LabReport)>> = Mutex::new(Vec::new());
        // A lab waits more than it works: for servers, and for what must not answer.
        let jobs = self.args.jobs.map(usize::from);
        let jobs = jobs.unwrap_or_else(|| 2 * thread::available_parallelism().map_or(1, usize::from));
        thread::scope(|scope| {
            for _ in 0..jobs.min(files.len()) {
                scope.spawn(|| {
                    loop {
                        let nth = next.fetch_add(1, Ordering::Relaxed);
                        let Some(file) = files.get(nth) else { return };
                        let lab = self.one(file);
                        let is_bad = matches!(lab.outcome, Outcome::Failed | Outcome::Error);
                        if is_bad && self.args.fail_fast {
                            self.stopped.store(true, Ordering::Relaxed);
                        }
                        self.watch.done(&lab);
                        done.lock().unwrap_or_else(PoisonError::into_inner).push((nth, lab));
                    }
                });
            }
        });
        let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.sort_by_key(|(nth, _)| *nth);
        done.into_iter().map(|(_, lab)| lab).collect()
    }

    fn one(&self, file: &LabFile) -> LabReport {
        let began = Instant::now();
        let Tried { name, found, line, problem, fault, report } = self.attempt(file);
        let (outcome, happened) = found;
        let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let expect = file.expect.clone();
        LabReport { file: file.name.clone(), name, expect, outcome, happened, millis, line, problem, fault, report }
    }

    fn attempt(&self, file: &LabFile) -> Tried {
        let default_name = library::default_name(Some(&file.path));
        let tried = |found: Found<'_>| Tried {
            name: default_name.to_string(),
            found: judge(&file.expect, found),
            line: None,
            problem: None,
            fault: None,
            report: None,
        };
        if self.stopped.load(Ordering::Relaxed) {
            let found = (Outcome::Skipped, "not tried, as another lab is not as it states".to_owned());
            return Tried { found, ..tried(Found::NothingToTry) };
        }
        let lab = match lab::decode(&file.bytes).and_then(|text| library::check(text, &default_name)) {
            Ok(lab) => lab,
            Err(problems) => {
                let text = String::from_utf8_lossy(&file.bytes);
                let problem = problems.render(&file.name, &text, Colour::Off);
                let line = problems.line(&text);
                return Tried { line, problem: Some(problem), ..tried(Found::Refused(&problems)) };
            }
        };
        let tried = |found: Found<'_>| Tried { name: lab.name.to_string(), ..tried(found) };
        if matches!(file.expect, Expectation::Invalid(_)) {
            return tried(Found::Good);
        }
        let asked = if self.args.only.is_some() { Asked::Some } else { Asked::All };
        if asked == Asked::Some && !self.has_any(&lab) {
            return tried(Found::NothingToTry);
        }
        self.watch.begins(&file.name);
        let text = String::from_utf8_lossy(&file.bytes).into_owned();
        let probes = suite::suite(&lab, &self.suite_options());
        let source = report::File { name: &file.name, text: &text.clone() };
        let lab = Lab::of(text, &file.name, &lab).with_timeout(self.args.timeout).with_limit(self.args.timeout);
        let report = self.probe(&lab).map(|mut report| {
            report.locate(&probes, source);
            report
        });
        match report {
            Ok(report) => Tried { report: Some(report.clone()), ..tried(Found::Probed(&report, asked)) },
            Err(error) => {
                let kind = error.kind();
                Tried { problem: Some(error.to_string()), fault: Some(kind), ..tried(Found::Unable(kind)) }
            }
        }
    }

    /// Whether any probe of a lab is asked for.
    fn has_any(&self, lab: &lab::model::Lab) -> bool {
        !suite::suite(lab, &self.suite_options()).probes.is_empty()
    }

    fn suite_options(&self) -> SuiteOptions {
        SuiteOptions { only: self.args.only.clone().into_iter().collect(), ..SuiteOptions::default() }
    }

    /// Brings a lab up, verifies it, and ends it.
    fn probe(&self, lab: &Lab) -> Result<Report, library::Error> {
        let mut options = Options::default().alpha(self.alpha);
        if let Some(samples) = self.args.samples {
            options = options.samples(samples);
        }
        if let Some(only) = &self.args.only {
            options = options.only(only);
        }
        if self.args.engine == args::Engine::Builtin {
            options = options.builtin_client();
        }
        let running = lab.up_by(self.program.clone())?;
        // The name that it has for the time being is of no use to who reads the report.
        let [its, own] = [running.name(), lab.own_name()].map(str::to_owned);
        let report = running.report_as(&options, |text| text.replace(&format!(" -l {its} "), " ").replace(&its, &own));
        let down = running.down();
        match (report, down) {
            (Ok(report), Ok(())) => Ok(report),
            // Why it has ended too early says more than that it did.
            (_, Err(error)) | (Err(error), Ok(())) => Err(error),
        }
    }
}

/// What became of a lab file.
struct Tried {
    name: String,
    found: (Outcome, String),
    line: Option<usize>,
    problem: Option<String>,
    fault: Option<ErrorKind>,
    report: Option<Report>,
}

/// How far the run is, on the terminal.
struct Watch {
    bar: Option<ProgressBar>,
    colour: Colour,
}

impl Watch {
    fn new(labs: usize, terminal: &Terminal) -> Self {
        let bar = terminal.is_interactive().then(|| {
            let style = ProgressStyle::with_template("{spinner} {bar:30} {pos}/{len} labs {msg}");
            let bar = ProgressBar::new(labs as u64);
            bar.enable_steady_tick(Duration::from_millis(200));
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Watch { bar, colour: terminal.error_colour() }
    }

    fn begins(&self, lab: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(lab.to_owned());
        }
    }

    fn done(&self, lab: &LabReport) {
        if let Some(bar) = &self.bar {
            bar.inc(1);
            bar.println(labs::line(lab, self.colour));
        }
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
