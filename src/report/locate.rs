//! Where in the lab's file it is said what a probe tries.

use super::Report;
use crate::probe::suite::Suite;

/// A lab's file.
#[derive(Debug, Clone, Copy)]
pub struct File<'a> {
    /// Its name, as whoever reads the report knows it.
    pub name: &'a str,
    /// What is in it.
    pub text: &'a str,
}

impl Report {
    /// Adds the file, and the lines of it that the probes are about.
    pub fn locate(&mut self, suite: &Suite, file: File<'_>) {
        self.file = Some(file.name.to_owned());
        let starts: Vec<usize> =
            std::iter::once(0).chain(file.text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        for (report, probe) in self.probes.iter_mut().zip(&suite.probes) {
            report.line = probe.at.as_ref().map(|at| starts.partition_point(|start| *start <= at.start));
        }
    }
}
