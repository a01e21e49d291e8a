//! `netlab hold`, for programs that use netlab as a library: a lab that lives as long as the standard
//! input of this process.

use std::{
    io::{BufRead, Read},
    process::ExitCode,
    sync::{Arc, OnceLock},
    thread,
    time::{Duration, Instant},
};

use super::{
    output::{Terminal, print},
    source::Source,
    up::{Building, Wanted},
};
use crate::{
    agent::{
        directory::Directory,
        link::{Ended, Handle},
    },
    error::{Context, Error, ErrorKind, Result},
    kernel::{join, stopwatch::Stopwatch},
    lab::name::Name,
    library::hold::{Order, Up, VERSION, VERSION_DIFFERS},
};

/// Why a lab is not held any longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// Whoever had it held does not want it any more.
    Asked,
    /// It was not done with in time.
    Limit(Duration),
    /// It has ended by itself.
    Gone,
}

/// How long the kernel may take to end a lab that was killed.
const KILLED: Duration = Duration::from_secs(30);

pub(super) fn hold(terminal: &Terminal) -> Result<ExitCode> {
    // Ctrl-C is for whoever holds this process by its standard input.
    join::ignore_interrupts().context("cannot ignore SIGINT")?;
    let began = Instant::now();
    let order = order()?;
    let name: Name = order.name.parse().map_err(|error| Error::usage(format!("the lab's name {error}")))?;
    let source = Source { name: order.origin.clone(), path: None, text: order.text.clone() };
    let timeout = order.limit.map_or(order.timeout, |limit| limit.min(order.timeout));
    let wanted = Wanted {
        source: &source,
        name: Some(&name),
        stage: None,
        timeout,
        replace: false,
        watch: Stopwatch::default(),
    };
    let (_, mut building) = Building::begin(&wanted, terminal)?;
    // From here on there may be two threads.
    let why = Arc::new(OnceLock::new());
    let watcher = {
        let (agent, directory) = (Handle::open(building.agent.pid)?, building.directory.clone());
        let why = Arc::clone(&why);
        thread::spawn(move || {
            wait_for_the_end_of_input();
            // Who hears of a lab's end may well close the input then: that is not why it ended.
            if why.set(Why::Asked).is_ok() {
                std::process::exit(end(&agent, &directory).map_or_else(|error| error.kind.exit_code().into(), |()| 0))
            }
        })
    };
    building.wait(terminal)?;
    let up = serde_json::to_string(&Up { name: name.to_string() }).context("cannot write JSON")?;
    print(&(up + "\n"));
    let left = order.limit.map_or(Duration::MAX, |limit| limit.saturating_sub(began.elapsed()));
    let ended = ended_within(&building.agent, left)?;
    let ours = match (ended, order.limit) {
        (Ended::NotYet, Some(limit)) => Why::Limit(limit),
        _ => Why::Gone,
    };
    let message = match why.get_or_init(|| ours) {
        Why::Asked => {
            // It ends this process.
            let _ = watcher.join();
            format!("the lab {name} was to end, and nobody ended it")
        }
        Why::Limit(limit) => format!("the lab {name} was not done with after {limit:?}"),
        Why::Gone => format!("the lab {name} has ended"),
    };
    end(&building.agent, &building.directory)?;
    Err(Error { kind: ErrorKind::Refused, message, hint: None })
}

fn order() -> Result<Order> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).context("cannot read the lab to hold")?;
    // The version comes first: of another one nothing else is known.
    let order: serde_json::Value = serde_json::from_str(&line)
        .map_err(|error| Error::usage(format!("not a lab to hold: {error}")).hint("netlab run FILE -- CMD"))?;
    if order["version"] != VERSION {
        return Err(Error::usage(VERSION_DIFFERS));
    }
    serde_json::from_value(order).map_err(|error| Error::usage(format!("not a lab to hold: {error}")))
}

fn wait_for_the_end_of_input() {
    let mut rest = [0; 256];
    // Nothing more is to come; an error is an end as well.
    while std::io::stdin().read(&mut rest).is_ok_and(|length| length > 0) {}
}

/// As [`Handle::ended_within`], for times longer than the kernel waits at once.
fn ended_within(agent: &Handle, limit: Duration) -> Result<Ended> {
    const AT_ONCE: Duration = Duration::from_secs(3600);
    let mut left = limit;
    loop {
        let now = left.min(AT_ONCE);
        let ended = agent.ended_within(now)?;
        left = left.saturating_sub(now);
        if ended == Ended::Yes || left.is_zero() {
            return Ok(ended);
        }
    }
}

fn end(agent: &Handle, directory: &Directory) -> Result<()> {
    agent.kill();
    agent.ended_within(KILLED)?;
    directory.sweep()
}
