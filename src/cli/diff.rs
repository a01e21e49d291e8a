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
    if drifts.is_empty() && matches!(args.output, ListFormat::Table | ListFormat::Wide) {
        terminal.say(format!("{}: the kernel has what the lab file says", directory.name));
    } else {
        LISTING.print(args.output, &drifts, row)?;
    }
    Ok(if drifts.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(ErrorKind::Probe.exit_code()) })
}
