//! Where in the lab's file it is said what a probe tries.

use std::collections::BTreeMap;

use super::Report;
use crate::{lab::model::Span, probe::suite::Suite};

/// A lab's file.
#[derive(Debug, Clone, Copy)]
pub struct File<'a> {
    /// Its name, as whoever reads the report knows it.
    pub name: &'a str,
    /// What is in it.
    pub text: &'a str,
}

impl Report {
    /// Adds the file, and the lines of it that the probes are about, as far as the suite has them.
    pub fn locate(&mut self, suite: &Suite, file: File<'_>) {
        self.file = Some(file.name.to_owned());
        let starts: Vec<usize> =
            std::iter::once(0).chain(file.text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let line = |at: &Span| starts.partition_point(|start| *start <= at.start);
        let lines: BTreeMap<&str, Option<usize>> =
            suite.probes.iter().map(|probe| (probe.id.as_str(), probe.at.as_ref().map(line))).collect();
        for probe in &mut self.probes {
            probe.line = lines.get(probe.id.as_str()).copied().flatten();
        }
    }
}
