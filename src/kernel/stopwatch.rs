//! Notes what was done when, for whoever asked to know; costs nothing else.

use std::sync::{Arc, Mutex, PoisonError};

use nix::time::{ClockId, clock_gettime};

use crate::report::timings::{Lap, Who};

/// Notes what is done, or does not: a default one does not.
#[derive(Debug, Clone, Default)]
pub struct Stopwatch(Option<Arc<Running>>);

#[derive(Debug)]
struct Running {
    who: Who,
    laps: Mutex<Vec<Lap>>,
}

/// When something began.
#[derive(Debug, Clone, Copy)]
pub struct Begun(u64);

impl Stopwatch {
    /// One that notes what `who` does.
    pub fn of(who: Who) -> Self {
        Stopwatch(Some(Arc::new(Running { who, laps: Mutex::default() })))
    }

    /// It notes what is done.
    pub fn runs(&self) -> bool {
        self.0.is_some()
    }

    /// Now.
    pub fn begin(&self) -> Begun {
        Begun(if self.0.is_some() { now() } else { 0 })
    }

    /// What began then is done; `what` is asked for only if it is noted.
    pub fn done(&self, begun: Begun, stage: &str, kind: &str, what: impl FnOnce() -> String) {
        let Some(running) = &self.0 else { return };
        let micros = now().saturating_sub(begun.0);
        let (stage, kind) = (stage.to_owned(), kind.to_owned());
        let lap = Lap { who: running.who, stage, kind, what: what(), begin: begun.0, micros };
        running.laps.lock().unwrap_or_else(PoisonError::into_inner).push(lap);
    }

    /// Does something, and notes it.
    pub fn lap<T>(&self, stage: &str, kind: &str, work: impl FnOnce() -> T) -> T {
        let begun = self.begin();
        let done = work();
        self.done(begun, stage, kind, String::new);
        done
    }

    /// What was noted so far, which is forgotten.
    pub fn take(&self) -> Vec<Lap> {
        let Some(running) = &self.0 else { return Vec::new() };
        std::mem::take(&mut running.laps.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Microseconds of the clock that never goes back; all processes of a host have the same.
fn now() -> u64 {
    // The clock is there on every Linux.
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(std::time::Duration::from).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_that_runs_notes() {
        let watch = Stopwatch::of(Who::Agent);
        assert_eq!(watch.lap("a", "b", || 7), 7);
        watch.done(watch.begin(), "a", "c", || "this".to_owned());
        let laps = watch.clone().take();
        assert_eq!(
            laps.iter().map(|lap| (lap.kind.as_str(), lap.what.as_str())).collect::<Vec<_>>(),
            [("b", ""), ("c", "this")]
        );
        assert!(laps[0].begin > 0 && laps[0].begin <= laps[1].begin);
        assert!(watch.take().is_empty());
        let off = Stopwatch::default();
        off.done(off.begin(), "a", "b", || unreachable!("nobody asked"));
        assert!(off.take().is_empty());
    }
}
