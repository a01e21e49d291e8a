//! `netlab events`: what has happened in a lab, and what happens.

use std::{
    io::Write,
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::json;

use super::{
    args::{self, PlainFormat},
    labs,
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
    format!("{seen:<11}{tone:<9}{reason:<15}{object:<27} {message}\n")
}

/// `5s`, `3m`, `2h`, as kubectl says it.
fn age(millis: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    match now.as_secs().saturating_sub(millis / 1000) {
        seconds @ 0..120 => format!("{seconds}s"),
        seconds @ 120..7200 => format!("{}m", seconds / 60),
        seconds => format!("{}h", seconds / 3600),
    }
}

/// A moment as RFC 3339 has it, in UTC.
fn stamp(millis: u64) -> String {
    let (seconds, millis) = (millis / 1000, millis % 1000);
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Years begin in March, so that the day that may be missing is the last one.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, late) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z", era * 400 + year + late)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        assert_eq!(stamp(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(stamp(951_782_400_001), "2000-02-29T00:00:00.001Z");
        assert_eq!(stamp(1_709_251_199_999), "2024-02-29T23:59:59.999Z");
        assert_eq!(stamp(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
    }
}
