//! `netlab events`: what has happened in a lab, and what happens.

use std::{io::Write, process::ExitCode};

use serde_json::json;

use super::{
    args::{self, PlainFormat},
    labs,
    moment::{age, stamp},
};
use crate::{
    agent::{
        link::{self, Handle, Hearing},
        protocol::{Happening, Reply, Request},
    },
    error::{Context, Error, Result},
};

pub(super) fn events(args: &args::Events) -> Result<ExitCode> {
    let directory = labs::choose(args.of_lab.lab.as_deref())?;
    // Once its agent has ended, there is nothing more to hear, and nothing wrong.
    let agent = Handle::of_agent(&directory)?;
    let mut first = true;
    let heard = link::ask(&directory, &Request::Events { follow: args.follow }, |reply| match reply {
        Reply::Events(events) => {
            print(&events, args.output, std::mem::take(&mut first))?;
            Ok(if args.follow { Hearing::More } else { Hearing::Last })
        }
        _ => Err(Error::bug("events were asked for, and something else was given")),
    });
    match heard {
        Err(_) if args.follow && has_ended(&agent) => Ok(ExitCode::SUCCESS),
        heard => heard.map(|()| ExitCode::SUCCESS),
    }
}

fn has_ended(agent: &Handle) -> bool {
    // The agent closes its socket a moment before it has ended.
    agent.ended_within(std::time::Duration::from_secs(5)).is_ok_and(|ended| ended == link::Ended::Yes)
}

fn print(events: &[Happening], format: PlainFormat, first: bool) -> Result<()> {
    let mut text = String::new();
    if first && format == PlainFormat::Table {
        text.push_str(&line(["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]));
    }
    for it in events {
        match format {
            PlainFormat::Table => {
                text.push_str(&line([&age(it.millis), it.tone.as_str(), &it.reason, &it.object, &it.message]));
            }
            PlainFormat::Json => {
                let event = json!({
                    "time": stamp(it.millis),
                    "type": it.tone.as_str(),
                    "reason": it.reason,
                    "object": it.object,
                    "message": it.message,
                });
                text.push_str(&format!("{event}\n"));
            }
        }
    }
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("cannot print")
}

/// Columns of fixed width: what comes later is not known yet.
fn line([seen, tone, reason, object, message]: [&str; 5]) -> String {
    format!("{seen:<11}{tone:<9}{reason:<14} {object:<27} {message}\n")
}
