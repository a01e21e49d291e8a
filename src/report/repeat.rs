//! Several runs of one suite as one report: what failed in any of them has failed.

use super::{Flaky, ProbeReport, Report, ResultKind, groups};

impl Report {
    /// The report on several runs of one suite; `None` if there was none.
    ///
    /// A probe is told as the first run in which it failed has it, and a cause once.
    pub fn of_runs(runs: Vec<Report>) -> Option<Report> {
        let count = runs.len();
        let mut runs = runs.into_iter();
        let mut whole = runs.next()?;
        if count == 1 {
            return Some(whole);
        }
        let mut tallies: Vec<(usize, usize)> = whole.probes.iter().map(tally).collect();
        for run in runs {
            for ((known, new), (failed, tried)) in whole.probes.iter_mut().zip(&run.probes).zip(&mut tallies) {
                let (fails, is_tried) = tally(new);
                (*failed, *tried) = (*failed + fails, *tried + is_tried);
                let worse = rank(new.result) > rank(known.result);
                if worse {
                    *known = new.clone();
                }
            }
            for cause in run.causes {
                match whole.causes.iter_mut().find(|known| (&known.netns, &known.text) == (&cause.netns, &cause.text)) {
                    Some(known) => {
                        let new: Vec<String> =
                            cause.probes.into_iter().filter(|id| !known.probes.contains(id)).collect();
                        known.probes.extend(new);
                    }
                    None => whole.causes.push(cause),
                }
            }
            for new in run.distributions {
                match whole.distributions.iter_mut().find(|known| known.probe == new.probe) {
                    Some(known) if known.even && !new.even => *known = new,
                    Some(_) => {}
                    None => whole.distributions.push(new),
                }
            }
        }
        for (probe, (failed, tried)) in whole.probes.iter_mut().zip(tallies) {
            probe.failed_runs = Some(failed);
            if failed > 0 && failed < tried {
                whole.flaky.push(Flaky { probe: probe.id.clone(), failed, of: tried });
            }
        }
        whole.runs = count;
        whole.groups = groups(&whole.probes);
        whole.passed = whole.count(ResultKind::Failed) == 0 && whole.count(ResultKind::Passed) > 0;
        Some(whole)
    }
}

/// How often it failed, and how often it was tried, in one run.
fn tally(probe: &ProbeReport) -> (usize, usize) {
    match probe.result {
        ResultKind::Failed => (1, 1),
        ResultKind::Passed => (0, 1),
        ResultKind::Skipped => (0, 0),
    }
}

/// The worse, the more.
fn rank(result: ResultKind) -> usize {
    match result {
        ResultKind::Skipped => 0,
        ResultKind::Passed => 1,
        ResultKind::Failed => 2,
    }
}
