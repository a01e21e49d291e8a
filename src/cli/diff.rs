//! `netlab diff`: what the kernel has otherwise than the lab file says.

use std::process::ExitCode;

use super::{
    args::{self, ListFormat},
    labs,
    output::{Listing, Terminal},
};
use crate::{
    agent::{
        link,
        protocol::{Reply, Request},
    },
    error::{Error, ErrorKind, Result},
    probe::drift::Drift,
};

/// How a difference is listed.
const LISTING: Listing<'static> = Listing { kind: "differences", header: &["WHERE", "DIFFERENCE"], wide: &["MEND"] };

pub(super) fn diff(args: &args::Diff, terminal: &Terminal) -> Result<ExitCode> {
    let directory = labs::choose(args.lab.as_deref())?;
    let drifts = match link::ask_once(&directory, &Request::Inspect)? {
        Reply::Drifts(drifts) => drifts,
        _ => return Err(Error::bug("differences were asked for, and something else was given")),
    };
    let row = |drift: &Drift| {
        let mend = drift.mend.clone().unwrap_or_default().replace('\n', "; ");
        vec![drift.netns.clone(), drift.text.clone(), mend]
    };
    let is_right = drifts.iter().all(|drift| drift.foreign);
    if !drifts.is_empty() || !matches!(args.output, ListFormat::Table | ListFormat::Wide) {
        LISTING.print(args.output, &drifts, row)?;
    }
    if is_right && matches!(args.output, ListFormat::Table | ListFormat::Wide) {
        let others = if drifts.is_empty() { "" } else { ", and what others have made besides" };
        terminal.say(format!("{}: the kernel has what the lab file says{others}", directory.name));
    }
    // What others have made is theirs.
    Ok(if is_right { ExitCode::SUCCESS } else { ExitCode::from(ErrorKind::Probe.exit_code()) })
}
