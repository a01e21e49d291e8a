//! One turn of one contender: from the command to what stops the clock, then its end, until the kernel
//! is done with it.

use std::{
    io::{BufRead, BufReader, Lines},
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use super::{
    inside,
    program::{Bench, Prepared, output},
    table::Unit,
};
use crate::run::{Failure, Result, top};

/// The name of the labs of this run, which may have namesakes.
pub(crate) const NAME: &str = "xtask-bench";

/// Who has a turn.
#[derive(Debug)]
pub(crate) struct Contender<'a> {
    /// What the rows are called, before what was measured.
    pub(crate) name: String,
    /// What it does.
    pub(crate) what: What<'a>,
}

/// What a contender does.
#[derive(Debug)]
pub(crate) enum What<'a> {
    /// `netlab up`, then a request until it is answered.
    Netlab(&'a Prepared),
    /// `netlab up --stage rules`.
    NetlabRules(&'a Prepared),
    /// `netlab up` that says where the time went; then what the lab takes.
    Inside(&'a Prepared, inside::Depth),
    /// The script, until a node port has answered.
    Script,
    /// The script, until its last rule is in.
    ScriptRules,
    /// Mininet with Linux bridges.
    Mininet { switches: u32, hosts: u32 },
    /// The kernel's own calls.
    Floor(&'a Prepared),
    /// The same, and then each node's rules by the bare tool.
    FloorRules(&'a Prepared),
}

/// What was measured in a turn.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) what: String,
    pub(crate) unit: Unit,
    pub(crate) value: f64,
}

/// It is there.
pub(crate) const READY: &str = "ready";
/// It has answered.
pub(crate) const ANSWERED: &str = "first answered request";
/// The command that ends it has returned, or its processes are gone.
pub(crate) const DOWN: &str = "down has returned";
/// The kernel has freed all of it, from when the end began.
pub(crate) const QUIET: &str = "the kernel is quiet";

impl Reading {
    pub(crate) fn time(what: &str, took: Duration) -> Self {
        Reading { what: what.to_owned(), unit: Unit::Millis, value: took.as_secs_f64() * 1000.0 }
    }
}

/// Times of a turn, and of its end.
struct Turn {
    began: Instant,
    readings: Vec<Reading>,
}

impl Turn {
    fn begin() -> Self {
        Turn { began: Instant::now(), readings: Vec::new() }
    }

    fn read(&mut self, what: &str) {
        self.readings.push(Reading::time(what, self.began.elapsed()));
    }

    /// What ends it, and the wait until the kernel is done: what it still has to do must not be the next
    /// one's burden.
    fn end(mut self, bench: &Bench, end: impl FnOnce() -> Result<()>) -> Result<Vec<Reading>> {
        self.began = Instant::now();
        end()?;
        self.read(DOWN);
        bench.settle()?;
        self.read(QUIET);
        Ok(self.readings)
    }
}

/// One turn. If it fails, no lab is left.
pub(crate) fn take(bench: &Bench, what: &What<'_>) -> Result<Vec<Reading>> {
    turn(bench, what).map_err(|failure| match down(bench) {
        Ok(()) => failure,
        Err(other) => Failure(format!("{failure}\n{other}")),
    })
}

fn turn(bench: &Bench, what: &What<'_>) -> Result<Vec<Reading>> {
    match what {
        What::Netlab(lab) => netlab(bench, lab),
        What::NetlabRules(lab) => {
            let mut turn = Turn::begin();
            up(bench, lab, &["--stage", "rules"])?;
            turn.read("rules are in");
            turn.end(bench, || down(bench)).map(|mut readings| {
                // Those of a whole lab are measured elsewhere.
                readings.truncate(1);
                readings
            })
        }
        What::Inside(lab, depth) => {
            let readings = inside::look(bench, lab, *depth)?;
            down(bench)?;
            bench.settle()?;
            Ok(readings)
        }
        What::Script => script(bench, "all", &[("answered", ANSWERED)]),
        What::ScriptRules => script(bench, "rules", &[("rules", "rules are in")]),
        What::Mininet { switches, hosts } => mininet(bench, *switches, *hosts),
        What::Floor(lab) => floor(bench, bench.xtask().arg("floor").arg(&lab.plan)),
        What::FloorRules(lab) => floor(bench, bench.xtask().arg("floor").arg(&lab.plan).arg("--rules").arg(&lab.rules)),
    }
}

fn up(bench: &Bench, lab: &Prepared, options: &[&str]) -> Result<()> {
    output(bench.netlab().args(["up", "--quiet", "--name", NAME]).args(options).arg(&lab.file)).map(drop)
}

fn down(bench: &Bench) -> Result<()> {
    output(bench.netlab().args(["down", "--quiet", NAME])).map(drop)
}

fn netlab(bench: &Bench, lab: &Prepared) -> Result<Vec<Reading>> {
    let mut turn = Turn::begin();
    up(bench, lab, &[])?;
    turn.read(READY);
    ask(bench, lab)?;
    turn.read(ANSWERED);
    turn.end(bench, || down(bench))
}

/// Has the lab asked until it answers. Where a grid answers is found out in the first round, which is not
/// counted.
pub(crate) fn ask(bench: &Bench, lab: &Prepared) -> Result<()> {
    if lab.question.get().is_none() {
        // It is empty.
        let _ = lab.question.set(("node1".to_owned(), bench.first_service(NAME)?));
    }
    let (place, address) = lab.question.get().ok_or_else(|| Failure("nobody knows what to ask".to_owned()))?;
    output(bench.xtask_in(NAME, place).args(["ask", address])).map(drop)
}

fn script(bench: &Bench, what: &str, words: &[(&str, &str)]) -> Result<Vec<Reading>> {
    let mut command = bench.apart();
    command.arg("bash").arg(bench.file("script.sh"));
    command
        .arg(what)
        .arg(&bench.python)
        .arg(top().join("templates/http_server.py"))
        .args([bench.xtask().get_program()]);
    telling(bench, &mut command, words)
}

/// The interpreter that the distribution's package is made for. Hosts of Mininet are no servers: it is
/// started, and not asked.
fn mininet(bench: &Bench, switches: u32, hosts: u32) -> Result<Vec<Reading>> {
    let mut command = bench.apart();
    command.arg("/usr/bin/python3").arg(bench.file("hosts.py")).args([switches.to_string(), hosts.to_string()]);
    telling(bench, &mut command, &[("started", "started")])
}

/// A program that says when it is where; its end begins when it has said the last word.
fn telling(bench: &Bench, command: &mut Command, words: &[(&str, &str)]) -> Result<Vec<Reading>> {
    let mut turn = Turn::begin();
    let (mut child, mut lines) = start(command)?;
    for (word, what) in words {
        let said = lines.by_ref().map_while(std::result::Result::ok).any(|line| line == *word);
        if !said {
            return Err(Failure(format!("{command:?} broke off: {:?}", child.wait())));
        }
        turn.read(what);
    }
    turn.end(bench, || ended(&mut child, command))
}

/// It says itself how long its calls took, and waits for nobody before it ends.
fn floor(bench: &Bench, command: &mut Command) -> Result<Vec<Reading>> {
    let (mut child, mut lines) = start(command)?;
    let line = lines.next().and_then(std::result::Result::ok).unwrap_or_default();
    let nanos = line.trim().parse().map_err(|_| Failure(format!("the floor said {line:?}")))?;
    let mut turn = Turn::begin();
    turn.readings.push(Reading::time(READY, Duration::from_nanos(nanos)));
    turn.end(bench, || ended(&mut child, command))
}

fn start(command: &mut Command) -> Result<(Child, Lines<BufReader<ChildStdout>>)> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| Failure(format!("cannot run {command:?}: {error}")))?;
    let output = child.stdout.take().ok_or_else(|| Failure(format!("{command:?} has no output")))?;
    Ok((child, BufReader::new(output).lines()))
}

fn ended(child: &mut Child, command: &Command) -> Result<()> {
    match child.wait() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure(format!("{command:?}: {status}"))),
        Err(error) => Err(Failure(format!("lost {command:?}: {error}"))),
    }
}
