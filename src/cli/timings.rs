//! The options `--timings` and `--trace`: where the time went.

use std::path::PathBuf;

use super::output::print;
use crate::{
    error::{Context, Error, Result},
    kernel::stopwatch::Stopwatch,
    report::timings::{self, Lap, Who},
};

/// Whether to say where the time went, and how.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Print where the time went, by stage and kind of step
    #[arg(long)]
    timings: bool,
    /// Write every step with its time into a file that ui.perfetto.dev opens
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    trace: Option<PathBuf>,
}

impl Options {
    /// Somebody wants to know.
    pub(super) fn are_wanted(&self) -> bool {
        self.timings || self.trace.is_some()
    }

    /// Notes what the command does, if somebody wants to know.
    pub(super) fn watch(&self) -> Stopwatch {
        if self.are_wanted() { Stopwatch::of(Who::Command) } else { Stopwatch::default() }
    }

    /// Says where the time went.
    pub(super) fn tell(&self, watch: &Stopwatch, of_agent: Vec<Lap>) -> Result<()> {
        let mut laps = watch.take();
        laps.extend(of_agent);
        if let Some(path) = &self.trace {
            let text = timings::trace(&laps).context("cannot write a trace")?;
            std::fs::write(path, text)
                .map_err(|error| Error::usage(format!("cannot write {}: {error}", path.display())))?;
        }
        if self.timings {
            print(&timings::table(&laps));
        }
        Ok(())
    }
}
